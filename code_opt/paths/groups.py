"""Input groups: tasks that look at the same input, at one rate, and share equal prefixes.

A step of a path is an arc of its task's graph. Steps of two tasks of a group are the same
if they have the same ends and the same adapter (:attr:`code_opt.paths.graph.Arc.share`;
native arcs have none).
Two paths share a step if all steps before it are the same, too: the prefixes of a group's
paths form a trie, and what its nodes cost is paid once. A path's *shareable prefix* is the
longest one that another task of the group can walk as well; what comes behind it is the
path's own, whatever the others do. See ``docs/paths.md`` for what that means for dominance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from code_opt.errors import InputError
from code_opt.paths.graph import FloatArray, IntArray, Step, TaskGraph
from code_opt.paths.labels import BoolArray, PathSet, Trie

MOST_PREFIXES = 200_000
"""Prefixes that the tasks of a group can share at most: bounds time and memory."""
_COMPARED_AT_ONCE = 2**22


def shareable_prefixes(graphs: Sequence[TaskGraph]) -> list[Trie]:
    """Return for each task of a group the trie of the prefixes that another one can walk, too.

    States are the same for all tasks: two that are in the same state have the same prefix.

    Raises:
        InputError: there are more than ``MOST_PREFIXES``.
    """
    outgoing: list[dict[str, list[int]]] = []
    for graph in graphs:
        leaving: dict[str, list[int]] = {}
        for number, arc in enumerate(graph.arcs):
            leaving.setdefault(arc.tail, []).append(number)
        outgoing.append(leaving)
    tries: list[dict[tuple[int, int], int]] = [{} for _ in graphs]
    states = 1
    # Where the tasks are in a state: alternatives have nodes of their own for the same blocks.
    start = {t: [graph.nodes[0]] for t, graph in enumerate(graphs) if not graph.is_empty}
    frontier = [(0, start)]
    while frontier:
        state, places = frontier.pop()
        ways: dict[Step, list[tuple[int, int]]] = {}
        for t, nodes in places.items():
            for number in (n for node in nodes for n in outgoing[t].get(node, ())):
                step = graphs[t].arcs[number].step
                if step is not None:
                    ways.setdefault(step, []).append((t, number))
        for walkers in ways.values():
            if len({t for t, _ in walkers}) < 2:
                continue
            if states > MOST_PREFIXES:
                group = graphs[walkers[0][0]].task.input_group
                raise InputError(
                    f"input group {group!r}: its tasks can share more than {MOST_PREFIXES} "
                    "prefixes of paths; let fewer connections have a share"
                )
            following: dict[int, list[str]] = {}
            for t, number in walkers:
                tries[t][state, number] = states
                following.setdefault(t, []).append(graphs[t].arcs[number].head)
            frontier.append((states, following))
            states += 1
    return list(tries)


@dataclass(frozen=True)
class SharedPrefix:
    """One node (or a chain of nodes) of the trie that paths of several tasks go through."""

    use: FloatArray
    """Use of the group's k resources by its steps alone, shape (k,)."""
    paths: tuple[tuple[int, IntArray], ...]
    """(task of the group, its paths through the node), for at least two tasks, in order."""
    parent: int
    """Number of the node before it (smaller than its own), -1 behind the input."""


@dataclass(frozen=True)
class Sharing:
    """What the candidate paths of a group's tasks have in common (k resources)."""

    prefixes: tuple[SharedPrefix, ...]
    leaf: tuple[IntArray, ...]
    """For each task the last node that its paths go through, or -1, shape (n,)."""
    own_use: tuple[FloatArray, ...]
    """For each task the use of its paths beyond their shareable prefixes, shape (n, k)."""

    @cached_property
    def prefix_use(self) -> FloatArray:
        """Use of the resources by each of the V nodes, shape (V, k)."""
        width = self.own_use[0].shape[1]
        return np.array([p.use for p in self.prefixes], dtype=float).reshape(-1, width)

    @cached_property
    def through(self) -> tuple[BoolArray, ...]:
        """For each task which nodes its paths go through, shape (n, V)."""
        found = [np.zeros((len(leaf), len(self.prefixes)), dtype=bool) for leaf in self.leaf]
        for v, prefix in enumerate(self.prefixes):
            for t, rows in prefix.paths:
                found[t][rows, v] = True
        return tuple(found)

    def use_of(self, paths: IntArray) -> FloatArray:
        """Return what combinations of paths use, shared prefixes once, shape (n, k).

        Args:
            paths: number of each task's path, shape (n, m).
        """
        paid = np.zeros((len(paths), len(self.prefixes)), dtype=bool)
        total = np.zeros((len(paths), self.own_use[0].shape[1]))
        for own, through, rows in zip(self.own_use, self.through, paths.T, strict=True):
            total += own[rows]
            paid |= through[rows]
        return np.asarray(total + paid @ self.prefix_use)


def find_sharing(
    graphs: Sequence[TaskGraph], sets: Sequence[PathSet], columns: Sequence[IntArray], width: int
) -> Sharing:
    """Return what paths of a group's tasks can share.

    Args:
        graphs: of the tasks.
        sets: their candidate paths.
        columns: where the resources of each task are among those of the group.
        width: number of the group's resources, k.
    """

    def wide(t: int, arcs: Sequence[int]) -> FloatArray:
        use = np.zeros(width)
        use[columns[t]] = graphs[t].use[list(arcs)].sum(axis=0)
        return use

    depth = [np.zeros(len(paths.steps), dtype=np.int64) for paths in sets]
    leaf = [np.full(len(paths.steps), -1) for paths in sets]
    prefixes: list[SharedPrefix] = []
    everything = {t: np.arange(len(paths.steps)) for t, paths in enumerate(sets)}
    # (depth, paths of each task through the node, where its costs are gathered)
    frontier: list[tuple[int, dict[int, IntArray], int]] = [(0, everything, -1)]
    while frontier:
        at, through, gathered = frontier.pop()
        ways: dict[Step, dict[int, list[tuple[int, IntArray]]]] = {}
        for t, rows in through.items():
            steps = sets[t].steps
            if at >= steps.shape[1]:
                continue
            for number in np.unique(steps[rows, at]).tolist():
                step = None if number < 0 else graphs[t].arcs[number].step
                if step is not None:
                    walking = rows[steps[rows, at] == number]
                    ways.setdefault(step, {}).setdefault(t, []).append((number, walking))
        for walkers in ways.values():
            if len(walkers) < 2:
                continue
            t, ((number, _), *_) = next(iter(walkers.items()))
            use = wide(t, [number])
            below = {
                t: np.sort(np.concatenate([rows for _, rows in parts]))
                for t, parts in walkers.items()
            }
            for t, rows in below.items():
                depth[t][rows] = at + 1
            if gathered >= 0 and _same(below, dict(prefixes[gathered].paths)):
                place = gathered
                prefixes[place] = replace(prefixes[place], use=prefixes[place].use + use)
            else:
                place = len(prefixes)
                prefixes.append(SharedPrefix(use, tuple(below.items()), gathered))
            for t, rows in below.items():
                leaf[t][rows] = place
            frontier.append((at + 1, below, place))
    own = []
    for t, paths in enumerate(sets):
        uses = [wide(t, arcs[int(depth[t][number]) :]) for number, arcs in enumerate(paths.arcs)]
        own.append(np.array(uses, dtype=float).reshape(len(uses), width))
    return Sharing(tuple(prefixes), tuple(leaf), tuple(own))


def _same(one: dict[int, IntArray], other: dict[int, IntArray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[t], other[t]) for t in one)


def undominated_in_group(
    graphs: Sequence[TaskGraph], sets: Sequence[PathSet], latency_matters: Sequence[bool]
) -> list[IntArray]:
    """Return for each task of a group the paths that no other one can replace.

    Path p replaces q of the same task if it is no less accurate and costs no more *whatever
    prefixes the other tasks pay for*: at worst all of q's shareable prefix and nothing of
    what p does beyond its steps in common with q. So p's use beyond these steps must be at
    most q's own use, behind its shareable prefix, for every resource. Fewer paths can share
    fewer prefixes, so this is repeated until nothing more falls out.

    Args:
        graphs: of the tasks.
        sets: their candidate paths.
        latency_matters: keep paths of the task that are best in latency alone, too.
    """
    kept = [np.arange(len(paths.steps)) for paths in sets]
    while True:
        present = [paths.subset(rows) for paths, rows in zip(sets, kept, strict=True)]
        chains = _shared_chains(graphs, present)
        before = [len(rows) for rows in kept]
        for t, paths in enumerate(present):
            rest = _irreplaceable(graphs[t], paths, chains[t], latency_matters[t])
            kept[t] = kept[t][rest]
        if before == [len(rows) for rows in kept]:
            return kept


def _shared_chains(
    graphs: Sequence[TaskGraph], sets: Sequence[PathSet]
) -> list[list[tuple[int, ...]]]:
    """Return for each path the arcs of its prefix that a path of another task walks, too."""
    walkers: dict[tuple[Step, ...], set[int]] = {}
    walks: list[list[list[Step]]] = []
    for t, paths in enumerate(sets):
        walks.append([])
        for arcs in paths.arcs:
            steps: list[Step] = []
            for number in arcs:
                step = graphs[t].arcs[number].step
                if step is None:
                    break
                steps.append(step)
            for size in range(1, len(steps) + 1):
                walkers.setdefault(tuple(steps[:size]), set()).add(t)
            walks[t].append(steps)
    chains = []
    for t, paths in enumerate(sets):
        found = []
        for arcs, steps in zip(paths.arcs, walks[t], strict=True):
            size = 0
            while size < len(steps) and len(walkers[tuple(steps[: size + 1])]) > 1:
                size += 1
            found.append(arcs[:size])
        chains.append(found)
    return chains


def _irreplaceable(
    graph: TaskGraph, paths: PathSet, chains: Sequence[tuple[int, ...]], latency_matters: bool
) -> IntArray:
    """Return the paths of a task that no other one can replace (the first of equals)."""
    n = len(paths.steps)
    classes = sorted(set(chains))
    number = {chain: c for c, chain in enumerate(classes)}
    of_path = np.array([number[chain] for chain in chains], dtype=np.int64)
    spent: dict[tuple[int, ...], FloatArray] = {(): np.zeros(graph.use.shape[1])}
    for chain in classes:
        for size in range(1, len(chain) + 1):
            spent[chain[:size]] = spent[chain[: size - 1]] + graph.use[chain[size - 1]]
    alive = np.ones(n, dtype=bool)
    latency = paths.seconds if latency_matters else np.zeros(n)
    fixed = np.column_stack((-paths.accuracy, latency))
    for c, chain in enumerate(classes):
        # What each path costs at worst beyond what it has in common with the class.
        common = np.array([spent[_common(chain, other)] for other in classes])
        beyond = np.column_stack((fixed, paths.use - common[of_path]))
        own = np.column_stack((fixed, paths.use - spent[chain]))
        rows = np.flatnonzero(of_path == c)
        step = max(1, _COMPARED_AT_ONCE // max(n * beyond.shape[1], 1))
        # From the last to the first, each by those still there: never all of equal ones.
        for stop in range(len(rows), 0, -step):
            part = rows[max(stop - step, 0) : stop]
            replaces = np.ones((len(part), n), dtype=bool)
            for column in range(beyond.shape[1]):
                replaces &= beyond[None, :, column] <= own[part, column][:, None]
            replaces[np.arange(len(part)), part] = False
            for i in range(len(part) - 1, -1, -1):
                if (replaces[i] & alive).any():
                    alive[part[i]] = False
    return np.flatnonzero(alive)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Return the arcs that two prefixes begin with."""
    size = 0
    while size < min(len(one), len(other)) and one[size] == other[size]:
        size += 1
    return one[:size]
