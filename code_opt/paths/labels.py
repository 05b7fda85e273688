"""Label-setting for the nondominated paths of tasks.

Multi-criteria shortest path on a directed acyclic graph (Hansen 1980; Martins 1984):
nodes are settled in topological order; each keeps the labels (partial paths) that no
other label of the node dominates. Nodes of the same level (arcs on the longest way from
input) are settled together, over many tasks at once, so that the work lies in a few large
array operations. A label's criteria are the sum of its connections'
drops and its use of every limited resource, and its latency where the task limits it.

Measured paths replace the sum that labels are compared by. A label that is a prefix of
a measured path therefore dominates nothing (its completion may turn out worse than the
sum says), and measured paths are added as they are, whatever became of their prefixes.
Any other label may be dropped when dominated: the label that dominates it is no prefix
of a measured path, so each completion of it keeps its predicted value. See
``docs/paths.md`` for the proof.

Tasks of an input group share the prefixes of their paths. Labels of such a task are only
compared with labels that have the same shareable prefix (and have left it): the others
pay for the same part of both, whatever they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from code_opt.paths.graph import FloatArray, IntArray, TaskGraph

BoolArray = npt.NDArray[np.bool_]
Trie = Mapping[tuple[int, int], int]
"""(state, arc of the task) -> next state; state 0 is the input."""

ADMISSION_TOLERANCE = 1e-9
"""Relative slack with which a path is compared to the limits of its task."""
ROUNDING = 1e-12
"""Rounding of a predicted accuracy, relative to the sum of the sizes of its terms: within it a
prediction below 0 counts as 0."""
_TASKS_AT_ONCE, _PATHS_AT_ONCE = 32, 1_000_000
"""Most tasks labelled together, and most paths in their graphs: bounds memory."""
_LARGE_GROUP = 256
"""Groups with more rows are compared in lexicographic order, in chunks."""
_COMPARED_PER_KEPT = 4
"""Where a node may keep so many labels only, how many times as many are compared."""
_COMPARED_AT_ONCE, _WORTH_PADDING = 2**17, 2**15
"""Most pairs of rows compared at once; so few that padding costs less than another pass."""


@dataclass(frozen=True)
class Limits:
    """Per-task limits that end a label early.

    ``most_use`` has one entry per resource of the graph: a path that uses more can never
    run (a floor rate times its work exceeds the capacity, or an adapter the memory).
    """

    native_accuracy: float
    min_accuracy: float
    max_latency: float | None
    most_use: FloatArray


@dataclass(frozen=True)
class TaskPricing:
    """Duals as the paths of one task see them, and the least profit that is of interest.

    The profit of a path with accuracy A that runs at the rate r is ``accuracy * A + rate * r`` less
    the duals of what it uses; r is its floor or its own largest rate R, whichever is better.
    """

    accuracy: float
    rate: float
    per_inference: FloatArray
    """Dual of a resource that is paid per inference, else 0, shape (k,)."""
    once: FloatArray
    """Dual of a resource that a path fills whatever its rate (memory), else 0, shape (k,)."""
    is_rate: BoolArray
    """Which resources are paid per inference, shape (k,)."""
    floor: float
    demand: float
    least: float
    """Labels that cannot become a path of this profit end."""
    most_labels: int | None = None
    """Labels kept at a node, those of largest profit first; None for all."""
    all_or_nothing: bool = False
    """Raise :class:`TooManyLabels` where a node has more."""


class TooManyLabels(Exception):  # noqa: N818 (an answer, not an error)
    """A node has more labels than :class:`TaskPricing` allows."""


@dataclass(frozen=True)
class PathSet:
    """Complete paths of one task, n of them."""

    steps: IntArray
    """Arc numbers of each path from input to output, then -1, shape (n, longest)."""
    predicted: FloatArray
    """Native accuracy less drops, capped at 1; may be negative for a measured path."""
    accuracy: FloatArray
    """The measured value where there is one, else the predicted one, shape (n,)."""
    measured: BoolArray
    """Whether the accuracy is measured, shape (n,)."""
    use: FloatArray
    """Use of the graph's resources per inference, shape (n, k)."""
    seconds: FloatArray
    """Unloaded latency [s], shape (n,)."""
    labels: int
    """Labels created on the way (a count for benchmarks)."""
    missed: float = -np.inf
    """The largest profit that paths can have whose labels were left out because a node had too
    many (:class:`TaskPricing`); -inf where there are none."""

    @cached_property
    def arcs(self) -> tuple[tuple[int, ...], ...]:
        """Arc numbers of all paths."""
        return tuple(self.arcs_of(path) for path in range(len(self.steps)))

    @cached_property
    def numbers(self) -> dict[tuple[int, ...], int]:
        """Numbers of the paths by their arcs."""
        return {arcs: number for number, arcs in enumerate(self.arcs)}

    def arcs_of(self, path: int) -> tuple[int, ...]:
        """Return the arc numbers of one path."""
        return tuple(arc for arc in self.steps[path].tolist() if arc >= 0)

    def subset(self, rows: Sequence[int] | IntArray) -> PathSet:
        """Return the paths of the given rows."""
        keep = np.asarray(rows, dtype=np.int64)
        return PathSet(
            steps=self.steps[keep],
            predicted=self.predicted[keep],
            accuracy=self.accuracy[keep],
            measured=self.measured[keep],
            use=self.use[keep],
            seconds=self.seconds[keep],
            labels=self.labels,
            missed=self.missed,
        )


def is_accurate(accuracy: FloatArray, size: FloatArray, least: FloatArray | float) -> BoolArray:
    """Tell which accuracies are not negative and at least as large as asked for.

    Args:
        accuracy: measured, or predicted (native less drops), shape (n,).
        size: sum of the sizes of the terms of a prediction, 0 for a measured one.
        least: accuracy asked for.
    """
    rounding = ROUNDING * size
    enough = accuracy >= np.asarray(least) * (1.0 - ADMISSION_TOLERANCE) - rounding
    return np.asarray(enough & (accuracy >= -rounding))


def nondominated(
    criteria: FloatArray, may_dominate: BoolArray | None = None, chunk: int = 128
) -> IntArray:
    """Return the rows that no other row dominates, ascending.

    A row dominates another if it is nowhere larger; of equal rows the first stays.

    Args:
        criteria: shape (n, k); smaller is better in every column.
        may_dominate: boolean, shape (n,): rows that may remove others (default all).
        chunk: rows compared at once; bounds memory to chunk * n * k comparisons.
    """
    n = len(criteria)
    if n <= 1:
        return np.arange(n)
    # In lexicographic order a row can only be dominated by an earlier one.
    order = np.lexsort((np.arange(n), *criteria.T[::-1]))
    rows = criteria[order]
    allowed = None if may_dominate is None else may_dominate[order]
    alive = np.ones(n, dtype=bool)
    kept = np.empty((0, criteria.shape[1]))
    for start in range(0, n, chunk):
        block = rows[start : start + chunk]
        index = np.arange(start, start + len(block))
        if len(kept):
            beaten = np.any(np.all(kept[None, :, :] <= block[:, None, :], axis=2), axis=1)
            alive[index[beaten]] = False
            index, block = index[~beaten], block[~beaten]
        if not len(block):
            continue
        beats = (block[:, None, :] <= block[None, :, :]).all(axis=2)
        beats &= np.arange(len(block))[:, None] < np.arange(len(block))[None, :]
        if allowed is not None:
            beats &= allowed[index][:, None]
        # Dominance is transitive, but only through rows that may dominate; a beaten row
        # that may dominate was beaten by one that may, so one pass is enough.
        beaten = beats.any(axis=0)
        alive[index[beaten]] = False
        keep = ~beaten if allowed is None else ~beaten & allowed[index]
        kept = np.concatenate((kept, block[keep]))
    return np.sort(order[alive])


def nondominated_in_groups(
    criteria: FloatArray, sizes: IntArray, may_dominate: BoolArray | None = None
) -> IntArray:
    """Return the rows that no other row of their group dominates, ascending.

    The same as :func:`nondominated` for each group, but groups of like size are compared at
    once, padded with rows that dominate nothing.

    Args:
        criteria: shape (n, k), groups one after the other; smaller is better.
        sizes: rows of each group, shape (groups,), their sum is n.
        may_dominate: boolean, shape (n,): rows that may remove others (default all).
    """
    alive = np.ones(len(criteria), dtype=bool)
    first = np.cumsum(sizes) - sizes
    order = np.argsort(-sizes, kind="stable")
    descending = sizes[order]
    columns = np.ascontiguousarray(criteria.T)
    at, end = 0, int(np.searchsorted(-descending, -1))  # a single row stays
    while at < end:
        m = int(descending[at])
        if m > _LARGE_GROUP:
            rows = slice(int(first[order[at]]), int(first[order[at]]) + m)
            allowed = None if may_dominate is None else may_dominate[rows]
            alive[rows] = False
            alive[rows.start + nondominated(criteria[rows], allowed)] = True
            at += 1
            continue
        stop = end
        if (end - at) * m * m > _WORTH_PADDING:
            stop = min(end, int(np.searchsorted(-descending, -(m // 2), side="right")))
            stop = min(stop, at + max(1, _COMPARED_AT_ONCE // (m * m)))
        members = order[at:stop]
        place = np.arange(m)
        valid = place < sizes[members][:, None]
        index = np.where(valid, first[members][:, None] + place, 0)
        padded = columns[:, index]
        padded[:, ~valid] = np.inf
        nowhere_larger = padded[0][:, :, None] <= padded[0][:, None, :]
        for column in padded[1:]:
            nowhere_larger &= column[:, :, None] <= column[:, None, :]
        # Of equal rows the first one stays.
        beats = nowhere_larger & (
            ~nowhere_larger.transpose(0, 2, 1) | np.tri(m, k=-1, dtype=bool).T
        )
        if may_dominate is not None:
            beats &= may_dominate[index][:, :, None]
        alive[index[valid]] = ~beats.any(axis=1)[valid]
        at = stop
    return np.flatnonzero(alive)


def label_paths(
    graphs: Sequence[TaskGraph],
    limits: Sequence[Limits],
    latency_matters: Sequence[bool] | None = None,
    shareable: Sequence[Trie] | None = None,
    pricings: Sequence[TaskPricing] | None = None,
) -> list[PathSet]:
    """Return the nondominated admissible paths of each task, measured paths included.

    A path is admissible when its latency, accuracy and use respect its ``limits`` (checked
    while labels grow, with the least that the rest of any path must add) and, unless it
    is measured, its predicted accuracy is not negative.

    Raises:
        TooManyLabels: only where ``pricings`` ask for all or nothing.

    Args:
        graphs: the tasks' graphs, k resources each (k may differ).
        limits: what each task's paths must respect.
        latency_matters: keep paths of the task that are best in latency alone, too.
        shareable: prefixes of each task that others share; paths are only compared with
            those that have the same one. Empty: the task shares nothing.
        pricings: keep only paths that may have the profit that this asks for, and measured ones.
    """
    flags = [False] * len(graphs) if latency_matters is None else list(latency_matters)
    tries: list[Trie] = [{} for _ in graphs] if shareable is None else list(shareable)
    found: list[PathSet] = []
    at = 0
    while at < len(graphs):
        stop, paths = at, 0
        while stop < min(len(graphs), at + _TASKS_AT_ONCE):
            paths += graphs[stop].count_paths()
            if stop > at and paths > _PATHS_AT_ONCE:
                break
            stop += 1
        rows = slice(at, stop)
        priced = None if pricings is None else pricings[rows]
        batch = _Batch(graphs[rows], limits[rows], flags[rows], tries[rows], priced)
        found += batch.paths()
        at = stop
    return found


class _Batch:
    """Tasks that are labelled together: T tasks, N nodes, M arcs, K resources at most.

    Criteria are K + 2 columns: drop, uses of the task's k resources (0 beyond them), seconds.
    Nodes and arcs are numbered through all tasks, labels in the order in which they were kept.
    """

    def __init__(
        self,
        graphs: Sequence[TaskGraph],
        limits: Sequence[Limits],
        latency_matters: Sequence[bool],
        shareable: Sequence[Trie],
        pricings: Sequence[TaskPricing] | None,
    ) -> None:
        self.graphs, self.limits, self.shareable = graphs, limits, shareable
        nodes = np.array([len(g.nodes) for g in graphs])
        arcs = np.array([len(g.arcs) for g in graphs])
        self.first_node = np.cumsum(nodes) - nodes
        self.first_arc = np.cumsum(arcs) - arcs
        width = max(len(g.resources) for g in graphs)
        self.task_of_node = np.repeat(np.arange(len(graphs)), nodes)
        self.level = np.concatenate([g.levels for g in graphs])
        self.tails = np.concatenate([g.tails for g in graphs]) + np.repeat(self.first_node, arcs)
        self.heads = np.concatenate([g.heads for g in graphs]) + np.repeat(self.first_node, arcs)
        self.weights = np.zeros((int(arcs.sum()), width + 2))
        self.most = np.full((len(graphs), width + 2), np.inf)
        """Largest admissible sums, with room for rounding, shape (T, K + 2)."""
        for t, (graph, limit) in enumerate(zip(graphs, limits, strict=True)):
            mine, k = slice(self.first_arc[t], self.first_arc[t] + arcs[t]), len(graph.resources)
            self.weights[mine, 0] = graph.drop
            self.weights[mine, 1 : k + 1] = graph.use
            self.weights[mine, -1] = graph.seconds
            self.most[t, 0] = limit.native_accuracy - max(limit.min_accuracy, 0.0)
            self.most[t, 1 : k + 1] = limit.most_use
            if limit.max_latency is not None:
                self.most[t, -1] = limit.max_latency
        self.most += ADMISSION_TOLERANCE * np.abs(self.most)
        # Of a label the terms of its rest are not known: room for those of any path.
        self.most[:, 0] += [
            ADMISSION_TOLERANCE * limit.min_accuracy
            + ROUNDING * (limit.native_accuracy + float(np.abs(graph.drop).sum()))
            for graph, limit in zip(graphs, limits, strict=True)
        ]
        # Latency is a criterion only where something limits it.
        self.latency_matters = np.array(latency_matters, dtype=bool)
        self.latency_counts = self.latency_matters | np.array(
            [limit.max_latency is not None for limit in limits]
        )
        self.measured = [g.known for g in graphs]
        """Accuracies of the measured paths and alternatives of each task, by their arcs."""
        self.labels = np.array([0 if g.is_empty else 1 for g in graphs])
        """Labels created for each task, the one at input included."""
        self.completion = None if pricings is None else _CompletionBound(self, pricings)

    def paths(self) -> list[PathSet]:
        """Return the paths of each task."""
        ends, came_by, came_from, sums = self._label()
        # Walk back from the ends, all together; a root is its own predecessor, by arc -1.
        back: list[IntArray] = []
        label = ends
        while (arc := came_by[label]).max(initial=-1) >= 0:
            back.append(arc)
            label = came_from[label]
        owner = self.task_of_node[self.heads[back[0]]] if back else np.empty(0, dtype=np.int64)
        reverse = np.array(back, dtype=np.int64).reshape(len(back), len(ends)).T
        length = (reverse >= 0).sum(axis=1)
        place = length[:, None] - 1 - np.arange(reverse.shape[1])
        steps = np.take_along_axis(reverse, np.maximum(place, 0), axis=1)
        steps = np.where(place >= 0, steps - self.first_arc[owner][:, None], -1)
        totals, values = sums[ends], np.full(len(ends), np.nan)
        if any(self.measured):
            owner, steps, totals, values = self._with_measured(owner, steps, totals, values)
        return self._best(owner, steps, totals, values)

    def _label(self) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """Settle all nodes, level by level.

        Returns:
            The labels at the outputs, by task; and of every label the arc that it came by
            (-1 at inputs), the label that it came from, and its criteria.
        """
        tasks, nodes = len(self.graphs), len(self.task_of_node)
        rest = self.least_rest(self.weights)
        first_arc, total = self.first_arc.tolist(), len(self.tails)
        tree = _Tree([_trie(paths) for paths in self.measured], first_arc, total)
        shared = _Tree(self.shareable, first_arc, total)
        filled = self._filled()
        roots = np.array([first for first, _ in filled], dtype=np.int64)
        outputs = np.array([first + len(g.nodes) - 1 for first, g in filled], dtype=np.int64)
        is_output = np.zeros(nodes, dtype=bool)
        is_output[outputs] = True

        sums = np.zeros((len(roots), self.weights.shape[1]))
        came_by = np.full(len(roots), -1)
        came_from = np.arange(len(roots))
        state = tree.roots[self.task_of_node[roots]]
        inside = shared.roots[self.task_of_node[roots]]
        prefix = inside  # the longest shareable one of each label; inside: it is all of the label
        first, count = np.zeros(nodes, dtype=np.int64), np.zeros(nodes, dtype=np.int64)
        first[roots], count[roots] = np.arange(len(roots)), 1
        arc_level = self.level[self.heads]
        by_level = np.argsort(arc_level, kind="stable")  # by head within a level, as before
        bounds = np.cumsum(np.bincount(arc_level)) if len(by_level) else np.zeros(0, dtype=int)
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            arcs = by_level[start:stop]
            sizes = count[self.tails[arcs]]
            arc = np.repeat(arcs, sizes)
            label = np.arange(len(arc)) + np.repeat(
                first[self.tails[arcs]] - np.cumsum(sizes) + sizes, sizes
            )
            head = self.heads[arc]
            task = self.task_of_node[head]
            self.labels += np.bincount(task, minlength=tasks)
            grown = sums[label] + self.weights[arc]
            admissible = (grown + rest[head] <= self.most[task]).all(axis=1)
            grown_state = tree.follow(state[label], arc)
            admissible &= ~(is_output[head] & (grown_state >= 0))  # measured paths are added later
            keep = np.flatnonzero(admissible)
            if self.completion is not None:
                keep = keep[self.completion.is_of_interest(grown[keep], rest, head[keep])]
                # The comparison of many is what takes long: not all of them get that far.
                first_ones = self.completion.first_of_each_node(
                    grown[keep], rest, head[keep], _COMPARED_PER_KEPT
                )
                keep = keep[first_ones]
            criteria = grown[keep]
            criteria[~self.latency_counts[task[keep]], -1] = 0.0
            free = grown_state[keep] < 0 if tree.is_used else None
            grown_inside = shared.follow(inside[label], arc)
            grown_prefix = np.where(grown_inside >= 0, grown_inside, prefix[label])
            classes = [head[keep], *([grown_prefix[keep]] if shared.is_used else [])]
            keep = keep[_nondominated_in_classes(criteria, classes, free)]
            if self.completion is not None:
                keep = keep[self.completion.first_of_each_node(grown[keep], rest, head[keep])]
            heads, sizes = np.unique(head[keep], return_counts=True)
            first[heads], count[heads] = len(sums) + np.cumsum(sizes) - sizes, sizes
            sums = np.concatenate((sums, grown[keep]))
            came_by = np.concatenate((came_by, arc[keep]))
            came_from = np.concatenate((came_from, label[keep]))
            state = np.concatenate((state, grown_state[keep]))
            inside = np.concatenate((inside, grown_inside[keep]))
            prefix = np.concatenate((prefix, grown_prefix[keep]))
        sizes = count[outputs]
        found = np.arange(int(sizes.sum())) + np.repeat(
            first[outputs] - np.cumsum(sizes) + sizes, sizes
        )
        return found, came_by, came_from, sums

    def least_rest(self, weights: FloatArray) -> FloatArray:
        """Return the least that any way from each node to output adds, shape (N, columns).

        Args:
            weights: what each arc adds, shape (M, columns).
        """
        rest = np.full((len(self.task_of_node), weights.shape[1]), np.inf)
        rest[[first + len(g.nodes) - 1 for first, g in self._filled()]] = 0.0
        if not len(self.tails):
            return rest
        level = self.level[self.tails]
        order = np.lexsort((self.tails, level))
        bounds = np.concatenate(([0], np.cumsum(np.bincount(level)))).tolist()
        for start, stop in zip(bounds[-2::-1], bounds[:0:-1], strict=True):
            arcs = order[start:stop]
            if len(arcs):
                tails, at = np.unique(self.tails[arcs], return_index=True)
                ways = rest[self.heads[arcs]] + weights[arcs]
                rest[tails] = np.minimum.reduceat(ways, at, axis=0)
        return rest

    def _filled(self) -> list[tuple[int, TaskGraph]]:
        """Return first node and graph of the tasks that have a path."""
        pairs = zip(self.first_node.tolist(), self.graphs, strict=True)
        return [(first, graph) for first, graph in pairs if not graph.is_empty]

    def _with_measured(
        self, owner: IntArray, steps: IntArray, totals: FloatArray, values: FloatArray
    ) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """Add the measured paths as they are, after the others of their task."""
        longest = max(steps.shape[1], *(len(p) for paths in self.measured for p in paths))
        rows, sums, owners, known = [], [], [], []
        for t, paths in enumerate(self.measured):
            for path, value in paths.items():
                rows.append([*path, *[-1] * (longest - len(path))])
                sums.append(self.weights[[self.first_arc[t] + a for a in path]].sum(axis=0))
                owners.append(t)
                known.append(value)
        widened = np.full((len(steps), longest), -1)
        widened[:, : steps.shape[1]] = steps
        owner = np.concatenate((owner, owners)).astype(np.int64)
        order = np.argsort(owner, kind="stable")
        return (
            owner[order],
            np.concatenate((widened, rows)).astype(np.int64)[order],
            np.concatenate((totals, sums))[order],
            np.concatenate((values, known))[order],
        )

    def _prefixes(self, owner: IntArray, steps: IntArray) -> IntArray:
        """Return the state in which each path leaves its task's trie of shareable prefixes."""
        found = np.zeros(len(owner), dtype=np.int64)
        for row, (t, arcs) in enumerate(zip(owner.tolist(), steps.tolist(), strict=True)):
            trie, state = self.shareable[t], 0
            for arc in arcs if trie else ():
                if (state, arc) not in trie:
                    break
                state = trie[state, arc]
            found[row] = state
        return found

    def _best(
        self, owner: IntArray, steps: IntArray, totals: FloatArray, values: FloatArray
    ) -> list[PathSet]:
        """Drop inadmissible and dominated complete paths, now by their true accuracies.

        Args:
            owner: task of each path, ascending.
            steps: see :class:`PathSet`.
            totals: criteria of the paths.
            values: measured accuracy of each path, or nan.
        """
        native = np.array([limit.native_accuracy for limit in self.limits])
        least = np.array([limit.min_accuracy for limit in self.limits])
        measured = ~np.isnan(values)
        predicted = np.minimum(1.0, native[owner] - totals[:, 0])
        accuracy = np.where(measured, values, np.maximum(predicted, 0.0))
        drops = self.weights[self.first_arc[owner][:, None] + np.maximum(steps, 0), 0]
        size = native[owner] + (np.abs(drops) * (steps >= 0)).sum(axis=1)
        most = np.full(self.most.shape, np.inf)
        for t, limit in enumerate(self.limits):
            most[t, 1 : len(limit.most_use) + 1] = limit.most_use
            if limit.max_latency is not None:
                most[t, -1] = limit.max_latency
        admissible = (totals <= most[owner] * (1.0 + ADMISSION_TOLERANCE)).all(axis=1)
        admissible &= is_accurate(
            np.where(measured, values, predicted), size * ~measured, least[owner]
        )
        keep = np.flatnonzero(admissible)
        criteria = totals[keep]
        criteria[:, 0] = -accuracy[keep]
        criteria[~self.latency_matters[owner[keep]], -1] = 0.0
        tasks = len(self.graphs)
        classes = [owner[keep]]
        if any(self.shareable):
            classes.append(self._prefixes(owner[keep], steps[keep]))
        keep = keep[_nondominated_in_classes(criteria, classes)]
        ends = np.cumsum(np.bincount(owner[keep], minlength=tasks)).tolist()
        steps, predicted, accuracy = steps[keep], predicted[keep], accuracy[keep]
        measured, totals = measured[keep], totals[keep]
        found = []
        for t, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            rows, k = slice(start, stop), len(self.graphs[t].resources)
            found.append(
                PathSet(
                    steps=steps[rows],
                    predicted=predicted[rows],
                    accuracy=accuracy[rows],
                    measured=measured[rows],
                    use=np.ascontiguousarray(totals[rows, 1 : k + 1]),
                    seconds=np.ascontiguousarray(totals[rows, -1]),
                    labels=int(self.labels[t]),
                    missed=-np.inf if self.completion is None else float(self.completion.missed[t]),
                )
            )
        return found


class _CompletionBound:
    """Upper bound on the profit of a label's completions.

    Bounds from completions (Boland, Dethridge and Dumitrescu, Operations Research Letters 34,
    2006, for labels with resources), where the profit depends on the path's own largest rate.
    At a fixed rate r the profit is additive over arcs, so one backward sweep gives the least
    that the rest costs; as a function of r this least cost is concave, hence at least its
    chord between the floor and the largest rate of any path of the task. What is left is
    linear in r, so that the floor and the label's own largest rate decide.
    """

    def __init__(self, batch: _Batch, pricings: Sequence[TaskPricing]) -> None:
        self._task_of_node = batch.task_of_node
        width = batch.weights.shape[1]
        self._per_inference = np.zeros((len(pricings), width))
        self._once = np.zeros((len(pricings), width))
        for t, pricing in enumerate(pricings):
            k = len(pricing.per_inference)
            self._per_inference[t, 1 : k + 1] = pricing.per_inference
            self._once[t, 1 : k + 1] = pricing.once
            self._once[t, 0] = pricing.accuracy
        self._is_rate = np.zeros((len(pricings), width), dtype=bool)
        for t, pricing in enumerate(pricings):
            self._is_rate[t, 1 : len(pricing.is_rate) + 1] = pricing.is_rate
        self._rate = np.array([pricing.rate for pricing in pricings])
        self._floor = np.array([pricing.floor for pricing in pricings])
        self._least = np.array([pricing.least for pricing in pricings])
        self._most_labels = pricings[0].most_labels
        self._all_or_nothing = pricings[0].all_or_nothing
        self.missed = np.full(len(pricings), -np.inf)
        native = np.array([limit.native_accuracy for limit in batch.limits])
        self._base = np.array([pricing.accuracy for pricing in pricings]) * native
        demand = np.array([pricing.demand for pricing in pricings])
        rest = batch.least_rest(batch.weights)
        least_use = np.where(self._is_rate, rest[batch.first_node], 0.0).max(axis=1)
        # Of k resources one is used at least a k-th of the least total.
        task = self._task_of_node[batch.tails]
        total = (batch.weights * self._is_rate[task]).sum(axis=1, keepdims=True)
        share = batch.least_rest(total)[batch.first_node, 0] / np.maximum(
            self._is_rate.sum(axis=1), 1
        )
        with np.errstate(divide="ignore"):
            high = np.minimum(demand, 1.0 / np.maximum(least_use, share))
        self._high = np.maximum(high, self._floor)
        # A path without work and demand makes the instance one that is refused later on.
        self._high = np.where(np.isfinite(self._high), self._high, self._floor)
        ends = [
            (batch.weights * (self._once + rate[:, None] * self._per_inference)[task]).sum(axis=1)
            for rate in (self._floor, self._high)
        ]
        self._rest = batch.least_rest(np.column_stack(ends))

    def _profit(self, grown: FloatArray, rest: FloatArray, head: IntArray) -> FloatArray:
        """Return the largest profit that each label can come to, shape (labels,)."""
        task = self._task_of_node[head]
        fixed = self._base[task] - (grown * self._once[task]).sum(axis=1)
        margin = self._rate[task] - (grown * self._per_inference[task]).sum(axis=1)
        use = np.where(self._is_rate[task], grown + rest[head], 0.0).max(axis=1)
        floor, high = self._floor[task], self._high[task]
        with np.errstate(divide="ignore"):
            most = np.clip(1.0 / use, floor, high)
        low_rest, high_rest = self._rest[head].T
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(high > floor, (most - floor) / (high - floor), 0.0)
        at_floor = floor * margin - low_rest
        at_most = most * margin - (low_rest + share * (high_rest - low_rest))
        return np.asarray(fixed + np.maximum(at_floor, at_most))

    def is_of_interest(self, grown: FloatArray, rest: FloatArray, head: IntArray) -> BoolArray:
        """Tell which labels can come to the profit that is asked for."""
        return np.asarray(self._profit(grown, rest, head) >= self._least[self._task_of_node[head]])

    def first_of_each_node(
        self, grown: FloatArray, rest: FloatArray, head: IntArray, times: int = 1
    ) -> IntArray:
        """Return the labels of largest profit at each node, ascending; so many times the most."""
        if self._most_labels is None or not len(head):
            return np.arange(len(head))
        most = times * self._most_labels
        if np.bincount(head).max() <= most:
            return np.arange(len(head))
        if self._all_or_nothing:
            raise TooManyLabels
        profit = self._profit(grown, rest, head)
        order = np.lexsort((-profit, head))
        rank = np.arange(len(order)) - np.searchsorted(head[order], head[order])
        gone = order[rank >= most]
        np.maximum.at(self.missed, self._task_of_node[head[gone]], profit[gone])
        return np.sort(order[rank < most])


class _Tree:
    """The tries of several tasks: their states are numbered through all tasks."""

    def __init__(self, tries: Sequence[Trie], first_arc: list[int], arcs: int) -> None:
        self._arcs = max(arcs, 1)
        self.roots = np.full(len(tries), -1)
        """State of each task's input, -1 where its trie is empty."""
        tree: dict[int, int] = {}
        states = 0
        for t, trie in enumerate(tries):
            if not trie:
                continue
            self.roots[t] = states
            for (state, arc), following in trie.items():
                tree[(states + state) * self._arcs + first_arc[t] + arc] = states + following
            states += 1 + max(trie.values())
        self.is_used = bool(tree)
        self._keys = np.array(sorted(tree), dtype=np.int64)
        self._next = np.array([tree[key] for key in sorted(tree)], dtype=np.int64)

    def follow(self, states: IntArray, arcs: IntArray) -> IntArray:
        """Return the states after one more arc; -1 is outside of the trie."""
        if not self.is_used:
            return states
        keys = states * self._arcs + arcs
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = (states >= 0) & (self._keys[at] == keys)
        return np.where(known, self._next[at], -1)


def _trie(paths: Iterable[tuple[int, ...]]) -> Trie:
    """Return the trie of the prefixes of some paths."""
    trie: dict[tuple[int, int], int] = {}
    for path in paths:
        state = 0
        for arc in path:
            state = trie.setdefault((state, arc), len(trie) + 1)
    return trie


def _nondominated_in_classes(
    criteria: FloatArray, classes: Sequence[IntArray], may_dominate: BoolArray | None = None
) -> IntArray:
    """Return the rows that no other row with the same classes dominates, ascending.

    Args:
        criteria: shape (n, k); smaller is better.
        classes: keys of each row, the first one ascending, shape (n,) each.
        may_dominate: boolean, shape (n,): rows that may remove others (default all).
    """
    if len(classes) == 1:
        sizes = np.unique(classes[0], return_counts=True)[1]
        return nondominated_in_groups(criteria, sizes, may_dominate)
    order = np.lexsort(tuple(reversed(classes)))  # stable
    keys = np.stack(classes)[:, order]
    new = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    sizes = np.diff(np.concatenate(([0], new, [len(order)])))
    free = None if may_dominate is None else may_dominate[order]
    return np.sort(order[nondominated_in_groups(criteria[order], sizes, free)])
