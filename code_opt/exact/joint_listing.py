"""The joint paths of input groups that matter, without trying all combinations of paths.

The accuracy of a joint path is a sum over its tasks, and its use a sum over the nodes of the trie
of shared prefixes that it goes through. So a dominated way to serve some of the tasks behind a
node is part of no undominated joint path, and the dynamic program that finds the best one at duals
(:mod:`code_opt.core.joint_tasks`) finds all undominated ones if it keeps a set for each node
and subset of tasks instead of one label (multi-objective labels: Martins, European Journal of
Operational Research 16, 1984, DOI 10.1016/0377-2217(84)90077-8).

Where an assignment is known, duals say which of them can be part of a better one: a joint path
whose reduced cost exceeds what lies between the bound and the assignment cannot (reduced-cost
fixing). A partial joint path is completed to at most the group's best less what it loses to the
best one that serves the same tasks from the same node on: whatever completes the one completes the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.evaluator import Evaluator, Solution
from code_opt.core.joint_tasks import JointTask
from code_opt.core.master import RestrictedMaster
from code_opt.core.settings import SMALLEST_GAP, Clock
from code_opt.paths import Duals
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray, nondominated

_ROOM = 1e-6
"""Capacities may be exceeded by so much, so that nothing that passes is left out."""


@dataclass(frozen=True)
class _Partial:
    """Partial joint paths that serve the same set of tasks, n of them."""

    cost: FloatArray
    """Minus the weighted accuracy, then the use of the k resources, shape (n, 1 + k)."""
    paths: IntArray
    """Path of each task of the group, 0 for those that are not served, shape (n, m)."""

    def __len__(self) -> int:
        return len(self.cost)


_Table = dict[int, _Partial]
"""For sets of tasks (as bits) the undominated partial joint paths that serve them."""


class TooManyJointPathsError(Exception):
    """A group has too many joint paths to list."""


@dataclass(frozen=True)
class RateGrid:
    """Profits of the joint paths of a group at duals, at a grid of rates.

    At the group's rate r the profit is ``alpha A - m(r) use + tau m (r - floor)``, linear in r, so
    at a joint path's own best rate at most the larger of the profits at the floor and at any rate
    above its R.
    """

    rates: FloatArray
    """Ascending, the floor first, the largest rate of any joint path last, shape (B,)."""
    cost: FloatArray
    """Of the group's resources at each rate, shape (B, k)."""
    accuracy: float
    """alpha."""
    base: FloatArray
    """Value of the throughput at each rate, shape (B,)."""
    per_inference: FloatArray
    """Of the group's resources, what is paid per inference of all its tasks, shape (k,)."""
    throughput: float
    """tau."""

    @classmethod
    def of(cls, joint_task: JointTask, duals: Duals) -> RateGrid:
        """Return the grid of a group at the master's duals."""
        floor = joint_task.group.floor
        most = max(min(float(task.most_rate.max()) for task in joint_task.tasks), floor)
        steps = np.geomspace(1.0 / 64.0, 1.0, joint_task.parameters.rates - 1)
        rates = np.concatenate(([floor], floor + (most - floor) * steps))
        own = duals.resource[joint_task.resources]
        cost = np.where(joint_task.is_rate_resource, rates[:, None] * own, own)
        base = duals.throughput * joint_task.size * (rates - floor)
        per_inference = np.where(joint_task.is_rate_resource, own, 0.0)
        return cls(rates, cost, duals.accuracy, base, per_inference, duals.throughput)

    def profit(self, joint_task: JointTask) -> FloatArray:
        """Return the profit of each joint path listed at its best rate, shape (n,)."""
        margin = self.throughput - joint_task.use @ self.per_inference / joint_task.size
        at_floor = self.accuracy * joint_task.accuracy - joint_task.use @ self.cost[0]
        return np.asarray(at_floor + (joint_task.most - joint_task.floor) * np.maximum(margin, 0.0))

    def best(self, joint_task: JointTask) -> tuple[FloatArray, IntArray]:
        """Return the largest profit at each rate, (B,), and joint paths that have it, (B, m)."""
        paths = joint_task.cheapest(self.cost, np.full(len(self.rates), self.accuracy))
        found = joint_task.having(paths)
        paid = (self.cost * found.use).sum(axis=1)
        return self.accuracy * found.accuracy - paid + self.base, paths


def list_joint_paths(
    joint_task: JointTask,
    grid: RateGrid | None = None,
    least: float = -np.inf,
    clock: Clock | None = None,
) -> JointTask | None:
    """Return a group with all joint paths that no other one dominates and that fit alone.

    None where that takes too long, or longer than the clock allows. With ``grid`` joint paths
    whose profit is below ``least`` are left out as far as that is known.
    """
    if joint_task.is_complete:
        return joint_task
    if joint_task.size > joint_task.parameters.most_tasks:
        return None
    try:
        paths = _Listing(joint_task, grid, least, clock).paths()
    except TooManyJointPathsError:
        return None
    return joint_task.having(paths) if len(paths) else joint_task


def joint_paths_that_matter(
    evaluator: Evaluator, joint_tasks: Sequence[JointTask], clock: Clock, best: Solution | None
) -> tuple[tuple[JointTask, ...], JointTask | None]:
    """Return joint tasks with all joint paths that can be part of anything better than ``best``.

    Also return the first group that has too many to list, None if the result is complete.
    """
    joint_tasks = list(joint_tasks)
    large = [i for i, joint_task in enumerate(joint_tasks) if not joint_task.is_complete]
    if not large:
        return tuple(joint_tasks), None
    parameters = evaluator.settings.parameters.joint_paths
    for i in large:
        # Partial joint paths are compared by accuracy and use alone.
        if joint_tasks[i].size > parameters.most_tasks or joint_tasks[i].weighs_time:
            return tuple(joint_tasks), joint_tasks[i]
    priced, left = None, clock.left
    clock = Clock(None if left is None else parameters.share_of_time * left)
    if best is not None and np.isfinite(best.value):
        priced = _priced(evaluator, clock, best, joint_tasks, large)
    for i in large:
        grid, least = (None, -np.inf) if priced is None else priced[i]
        listed = list_joint_paths(joint_tasks[i], grid, least, clock)
        if listed is None:
            return tuple(joint_tasks), joint_tasks[i]
        joint_tasks[i] = listed
    return tuple(joint_tasks), None


def _priced(
    evaluator: Evaluator,
    clock: Clock,
    best: Solution,
    joint_tasks: list[JointTask],
    large: list[int],
) -> dict[int, tuple[RateGrid, float]] | None:
    """Return for large groups their profits at the master's duals, and the least that matters.

    Column generation over the joint paths of large groups: ``joint_tasks`` gets those found.
    """
    joint_tasks[:] = [joint_task.listing(best.arcs) for joint_task in joint_tasks]
    parameters = evaluator.settings.parameters.joint_paths
    least_gain = parameters.least_gain
    for turn in range(parameters.pricing_rounds):
        table = ColumnTable(evaluator.pool, joint_tasks)
        relaxation = Relaxation(table, evaluator.objective, is_partial=True)
        start = np.union1d(table.first_columns(), table.columns_of(best.arcs))
        settings = evaluator.settings
        master = RestrictedMaster(
            relaxation,
            start,
            best,
            max(settings.gap, SMALLEST_GAP),
            settings.parameters.column_generation.master,
        )
        point = master.settle(clock)
        if point is None:
            return None
        bound = point.bound.value
        grids = {i: RateGrid.of(joint_tasks[i], point.duals) for i in large}
        known = {i: float(point.bound.best[i]) for i in large}
        is_last = turn == parameters.pricing_rounds - 1 or clock.is_over
        new = {i: grids[i].best(joint_tasks[i])[1] for i in large}
        if not is_last and _grown(joint_tasks, new, grids, known, best):
            continue
        # The best at any one rate are known; what is best at its own rate needs a list.
        listed = {
            i: list_joint_paths(joint_tasks[i], grids[i], known[i] + least_gain, clock)
            for i in large
        }
        new = {i: joint_task.paths for i, joint_task in listed.items() if joint_task is not None}
        if not is_last and _grown(joint_tasks, new, grids, known, best):
            continue
        most = {}
        for i, joint_task in listed.items():
            found = (
                grids[i].best(joint_tasks[i])[0]
                if joint_task is None
                else grids[i].profit(joint_task)
            )
            most[i] = max(float(found.max()), known[i] + least_gain)
            bound += most[i] - known[i]
        value = best.value / evaluator.objective.unit
        distance = max(bound - value, 0.0) + 1e-9 * (1.0 + abs(value))
        return {i: (grids[i], most[i] - distance) for i in large}
    return None


def _grown(
    joint_tasks: list[JointTask],
    new: dict[int, IntArray],
    grids: dict[int, RateGrid],
    known: dict[int, float],
    best: Solution,
) -> bool:
    """Add the best of new joint paths to groups in which they have more profit than those known."""
    has_grown = False
    for i, paths in new.items():
        found = joint_tasks[i].having(paths)
        profit = grids[i].profit(found)
        order = np.argsort(-profit, kind="stable")[: found.parameters.entering]
        better = order[profit[order] > known[i] + found.parameters.least_gain]
        if len(better):
            joint_tasks[i] = joint_tasks[i].with_joint_paths(paths[better]).listing(best.arcs)
            has_grown = True
    return has_grown


class _Listing:
    """The dynamic program over one group's trie."""

    def __init__(
        self, joint_task: JointTask, grid: RateGrid | None, least: float, clock: Clock | None
    ) -> None:
        assert joint_task.sharing is not None
        self._joint_task, self._sharing = joint_task, joint_task.sharing
        self._left, self._clock = joint_task.parameters.most_comparisons, clock
        limit = np.where(joint_task.is_rate_resource, joint_task.group.floor, 1.0)
        self._limit = np.concatenate(([0.0], limit))
        self._grid = grid
        if grid is not None:
            best, _ = grid.best(joint_task)
            # A joint path whose R lies above the rate before may have its best profit at this one.
            before = np.concatenate((grid.rates[:1], grid.rates[:-1]))
            self._may_lose = best - least
            self._score = -np.column_stack((np.full(len(best), grid.accuracy), grid.cost))
            rate_limit = np.where(joint_task.is_rate_resource, before[:, None], 0.0)
            self._rate_limit = np.column_stack((np.zeros(len(best)), rate_limit))
            self._least = least
            self._others = self._least_of_others(grid)

    def paths(self) -> IntArray:
        """Return the joint paths, shape (n, m)."""
        prefixes, m = self._sharing.prefixes, self._joint_task.size
        children: dict[int, list[int]] = {v: [] for v in range(-1, len(prefixes))}
        for v, prefix in enumerate(prefixes):
            children[prefix.parent].append(v)
        tables: dict[int, _Table] = {}
        for v in range(len(prefixes) - 1, -2, -1):
            table = self._leaving(v)
            for child in children[v]:
                onward = self._entered(tables.pop(child), prefixes[child].use)
                table = self._merged(table, onward, v)
            tables[v] = table
        everything = tables[-1].get((1 << m) - 1)
        return np.empty((0, m), dtype=np.int64) if everything is None else everything.paths

    def _leaving(self, v: int) -> _Table:
        """Return partial joint paths of tasks that all leave the trie at a node."""
        k, m = len(self._joint_task.resources), self._joint_task.size
        table = {0: _Partial(np.zeros((1, 1 + k)), np.zeros((1, m), dtype=np.int64))}
        for t, task in enumerate(self._joint_task.tasks):
            rows = np.flatnonzero(self._sharing.leaf[t] == v)
            if not len(rows):
                continue
            accuracy = self._joint_task.weights[t] * task.paths.accuracy[rows]
            cost = np.column_stack((-accuracy, self._sharing.own_use[t][rows]))
            paths = np.zeros((len(rows), m), dtype=np.int64)
            paths[:, t] = rows
            alone = self._undominated([_Partial(cost, paths)], v, 1 << t)
            table = self._merged(table, {1 << t: alone}, v)
        return table

    @staticmethod
    def _entered(table: _Table, use: FloatArray) -> _Table:
        """Return the partial joint paths behind a node with what the node uses itself."""
        node = np.concatenate(([0.0], use))
        return {s: _Partial(w.cost + node, w.paths) for s, w in table.items() if s}

    def _merged(self, table: _Table, other: _Table, v: int) -> _Table:
        """Return the partial joint paths if some of the tasks take another branch."""
        parts: dict[int, list[_Partial]] = {s: [partial] for s, partial in table.items()}
        for here, partial in table.items():
            for there, others in other.items():
                if not here & there:
                    both = here | there
                    parts.setdefault(both, []).extend(self._products(partial, others, v, both))
        merged = {s: self._undominated(found, v, s) for s, found in parts.items() if found}
        return {s: partial for s, partial in merged.items() if len(partial)}

    def _products(self, partial: _Partial, others: _Partial, v: int, tasks: int) -> list[_Partial]:
        """Return all pairs, each chunk without those that are dominated in it."""
        found = []
        step = max(1, self._joint_task.parameters.compared_at_once // max(len(others), 1))
        for start in range(0, len(partial), step):
            part = slice(start, start + step)
            cost = (partial.cost[part, None] + others.cost[None]).reshape(-1, partial.cost.shape[1])
            paths = (partial.paths[part, None] + others.paths[None]).reshape(
                -1, partial.paths.shape[1]
            )
            found.append(self._undominated([_Partial(cost, paths)], v, tasks))
        return found

    def _undominated(self, parts: list[_Partial], v: int, tasks: int) -> _Partial:
        """Return the partial joint paths behind a node that fit and that no other one dominates."""
        cost = np.concatenate([partial.cost for partial in parts])
        paths = np.concatenate([partial.paths for partial in parts])
        fits = (cost * self._limit <= 1.0 + _ROOM).all(axis=1)
        if self._grid is not None and tasks and len(cost):
            fits &= self._may_be_good_enough(cost, v, tasks)
        cost, paths = cost[fits], paths[fits]
        kept = nondominated(cost)
        self._left -= len(cost) * len(kept)
        if self._left < 0 or (self._clock is not None and self._clock.is_over):
            raise TooManyJointPathsError
        return _Partial(cost[kept], paths[kept])

    def _may_be_good_enough(self, cost: FloatArray, v: int, tasks: int) -> BoolArray:
        """Tell which partial joint paths may be completed to one of enough profit."""
        assert self._grid is not None
        enough = np.zeros(len(cost), dtype=bool)
        alone = [t for t in range(self._joint_task.size) if not tasks >> t & 1]
        others = self._others[v + 1, :, -1] + self._others[v + 1][:, alone].sum(axis=1)
        for b in np.flatnonzero(self._may_lose >= 0.0).tolist():
            profit = cost @ self._score[b]
            least = max(
                float(profit.max()) - float(self._may_lose[b]),
                self._least - float(self._grid.base[b] - others[b]),
            )
            can_run = (cost * self._rate_limit[b] <= 1.0 + _ROOM).all(axis=1)
            enough |= can_run & (profit >= least - 1e-12)
        return enough

    def _least_of_others(self, grid: RateGrid) -> FloatArray:
        """Return what the rest of a joint path costs at least, shape (V + 1, B, m + 1).

        Row v + 1 holds for each task the least cost of a path of its own if the way to node v is
        paid, and at the end what that way costs. A node's cost is split among all tasks that
        can walk it, which underestimates what those that do walk it pay together.
        """
        sharing, m = self._sharing, self._joint_task.size
        count = len(sharing.prefixes)
        node = grid.cost @ sharing.prefix_use.T
        split = node / np.array([max(len(p.paths), 1) for p in sharing.prefixes])
        on_the_way = np.zeros((count + 1, count), dtype=bool)
        for v, prefix in enumerate(sharing.prefixes):
            on_the_way[v + 1] = on_the_way[prefix.parent + 1]
            on_the_way[v + 1, v] = True
        found = np.zeros((count + 1, len(node), m + 1))
        found[:, :, m] = on_the_way @ node.T
        for t, task in enumerate(self._joint_task.tasks):
            own = grid.cost @ sharing.own_use[t].T
            own -= grid.accuracy * self._joint_task.weights[t] * task.paths.accuracy
            through = sharing.through[t].T.astype(float)
            for row, paid in enumerate(on_the_way):
                found[row, :, t] = (own + np.where(paid, 0.0, split) @ through).min(axis=1)
        return found
