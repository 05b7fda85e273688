"""Label-setting for the nondominated paths of one task.

Multi-criteria shortest path on a directed acyclic graph (Hansen 1980; Martins 1984):
nodes are settled in topological order; each keeps the labels (partial paths) that no
other label of the node dominates. A label's criteria are the sum of its connections'
drops and its use of every limited resource, and its latency where the task limits it.

Measured paths replace the sum that labels are compared by. A label that is a prefix of
a measured path therefore dominates nothing (its completion may turn out worse than the
sum says), and measured paths are added as they are, whatever became of their prefixes.
Any other label may be dropped when dominated: the label that dominates it is no prefix
of a measured path, so each completion of it keeps its predicted value. See
``docs/paths.md`` for the proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from code_opt.paths.graph import FloatArray, IntArray, TaskGraph

BoolArray = npt.NDArray[np.bool_]

ADMISSION_TOLERANCE = 1e-9
"""Relative slack with which a path is compared to the limits of its task."""


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
class PathSet:
    """Complete paths of one task, n of them."""

    arcs: tuple[tuple[int, ...], ...]
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

    def subset(self, rows: Sequence[int] | IntArray) -> PathSet:
        """Return the paths of the given rows."""
        keep = np.asarray(rows, dtype=np.int64)
        return PathSet(
            arcs=tuple(self.arcs[i] for i in keep.tolist()),
            predicted=self.predicted[keep],
            accuracy=self.accuracy[keep],
            measured=self.measured[keep],
            use=self.use[keep],
            seconds=self.seconds[keep],
            labels=self.labels,
        )


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


def label_paths(graph: TaskGraph, limits: Limits, latency_matters: bool = False) -> PathSet:
    """Return the nondominated admissible paths of one task, measured paths included.

    A path is admissible when its latency, accuracy and use respect ``limits`` (checked
    while labels grow, with the least that the rest of any path must add) and, unless it
    is measured, its predicted accuracy is not negative.

    Args:
        graph: the task's graph, k resources.
        limits: what the task's paths must respect.
        latency_matters: keep paths that are best in latency alone, too.
    """
    k = len(graph.resources)
    if graph.is_empty:
        return _path_set(graph, limits, [], np.empty((0, k + 2)), 0)
    weights = np.column_stack((graph.drop, graph.use, graph.seconds))
    most = _most_criteria(limits)
    rest = np.column_stack([graph.to_output(weights[:, c]) for c in range(k + 2)])
    # Latency is a criterion only where something limits it: it is the last column.
    width = k + 2 if latency_matters or limits.max_latency is not None else k + 1

    measured = _measured_arcs(graph)
    prefixes = _prefix_tree(measured)
    criteria: list[FloatArray] = [np.zeros((1, k + 2))]
    came_from: list[tuple[IntArray, IntArray]] = [(np.array([-1]), np.array([-1]))]
    states: list[IntArray] = [np.array([0 if prefixes else -1])]
    labels = 1
    last = len(graph.nodes) - 1
    for node in range(1, last + 1):
        arcs = graph.incoming(node)
        tails = graph.tails[arcs.start : arcs.stop].tolist()
        sizes = [len(criteria[t]) for t in tails]
        grown = np.concatenate([criteria[t] + weights[a] for t, a in zip(tails, arcs, strict=True)])
        by_arc = np.repeat(np.arange(arcs.start, arcs.stop), sizes)
        by_label = np.concatenate([np.arange(size) for size in sizes])
        labels += len(grown)
        state = (
            np.concatenate(
                [_follow(prefixes, states[t], a) for t, a in zip(tails, arcs, strict=True)]
            )
            if prefixes
            else np.full(len(grown), -1)
        )
        admissible = (grown + rest[node] <= most).all(axis=1)
        if node == last:
            admissible &= state < 0  # measured paths are added below, as they are
        candidates = np.flatnonzero(admissible)
        free = state[candidates] < 0
        kept = candidates[nondominated(grown[candidates, :width], free if prefixes else None)]
        criteria.append(grown[kept])
        came_from.append((by_arc[kept], by_label[kept]))
        states.append(state[kept])

    found: list[tuple[int, ...]] = []
    for label in range(len(criteria[last])):
        arcs_back, node, at = [], last, label
        while node != 0:
            arc = int(came_from[node][0][at])
            arcs_back.append(arc)
            at = int(came_from[node][1][at])
            node = int(graph.tails[arc])
        found.append(tuple(reversed(arcs_back)))
    totals = criteria[last]
    if measured:
        found += list(measured)
        sums = np.array([weights[list(arcs)].sum(axis=0) for arcs in measured])
        totals = np.concatenate((totals, sums))
    paths = _path_set(graph, limits, found, totals, labels)
    return _keep_best(paths, limits, latency_matters)


def _most_criteria(limits: Limits) -> FloatArray:
    """Return the largest admissible sums: drop, uses, latency; shape (k + 2,)."""
    loss = limits.native_accuracy - max(limits.min_accuracy, 0.0)
    latency = np.inf if limits.max_latency is None else limits.max_latency
    most = np.concatenate(([loss], limits.most_use, [latency]))
    return np.asarray(most + ADMISSION_TOLERANCE * np.abs(most) + [1e-12, *[0.0] * (len(most) - 1)])


def _measured_arcs(graph: TaskGraph) -> list[tuple[int, ...]]:
    arcs = [graph.path_arcs(path.blocks) for path in graph.task.measured_paths]
    return [tuple(a) for a in arcs if a is not None]


def _prefix_tree(paths: list[tuple[int, ...]]) -> dict[tuple[int, int], int]:
    """Return the trie of the measured paths as (state, arc) -> state; state 0 is the root."""
    tree: dict[tuple[int, int], int] = {}
    for path in paths:
        state = 0
        for arc in path:
            state = tree.setdefault((state, arc), len(tree) + 1)
    return tree


def _follow(tree: dict[tuple[int, int], int], states: IntArray, arc: int) -> IntArray:
    """Return the trie states after one more arc; -1 is outside of the trie."""
    return np.array([tree.get((int(s), arc), -1) for s in states], dtype=np.int64)


def _path_set(
    graph: TaskGraph, limits: Limits, arcs: list[tuple[int, ...]], totals: FloatArray, labels: int
) -> PathSet:
    values = {
        tuple(found): path.accuracy
        for path in graph.task.measured_paths
        if (found := graph.path_arcs(path.blocks)) is not None
    }
    predicted = np.minimum(1.0, limits.native_accuracy - totals[:, 0])
    measured = np.array([path in values for path in arcs], dtype=bool)
    accuracy = np.array([values.get(path, p) for path, p in zip(arcs, predicted, strict=True)])
    return PathSet(
        arcs=tuple(arcs),
        predicted=predicted,
        accuracy=np.where(measured, accuracy, np.maximum(accuracy, 0.0)),
        measured=measured,
        use=totals[:, 1:-1],
        seconds=totals[:, -1],
        labels=labels,
    )


def _keep_best(paths: PathSet, limits: Limits, latency_matters: bool) -> PathSet:
    """Drop inadmissible and dominated complete paths, now by their true accuracies."""
    slack = 1.0 + ADMISSION_TOLERANCE
    admissible = paths.accuracy >= limits.min_accuracy - ADMISSION_TOLERANCE
    admissible &= (paths.use <= limits.most_use * slack).all(axis=1)
    if limits.max_latency is not None:
        admissible &= paths.seconds <= limits.max_latency * slack
    candidates = np.flatnonzero(admissible)
    criteria = [-paths.accuracy[candidates, None], paths.use[candidates]]
    if latency_matters:
        criteria.append(paths.seconds[candidates, None])
    return paths.subset(candidates[nondominated(np.concatenate(criteria, axis=1))])
