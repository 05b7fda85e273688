"""The restricted master program: some paths, all resources, tangents and cuts, kept warm.

Column generation (Gilmore and Gomory, Operations Research 9, 1961; Lübbecke and Desrosiers,
Operations Research 53, 2005): the program of :mod:`formulations.master` holds the paths that
have been worth something at its prices so far; every round prices all paths of the pool in
one pass and lets the best of each task in. Whatever the prices, :meth:`PathTable.bound`
turns them into a valid bound, so the rounds can end at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from code_opt.methods.assignment import Judge, Solution
from code_opt.methods.columns import BoolArray, Bound, Cut, PathTable, Prices
from code_opt.methods.models import goal_of, unit_data
from code_opt.methods.settings import SMALLEST_GAP, Clock
from code_opt.methods.tangents import Tangents
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.solvers import LpOutcome, ModelRelaxation
from formulations import build_master_model

_PATHS_PER_ROUND = 4
"""Most paths of a task that enter in one round."""
_SETTLED = 0.02
"""Prices are settled when the bound is within this share of the gap asked for of the master's
own value; what is left cannot matter."""
_DIVE_SHARE, _DIVE_FAILURES = 8, 30
"""Of so many undecided tasks a dive decides one at a time; decisions taken back that end it."""
_IDLE_ROUNDS = 3
"""A cut whose price has been 0 for so many solves leaves the master."""


@dataclass(frozen=True)
class Point:
    """An optimum of the master."""

    value: float
    x: FloatArray
    """Share of each path, shape (P,)."""
    u: FloatArray
    """Share of each path's extra rate, shape (P,)."""
    prices: Prices
    bound: Bound


class RestrictedMaster:
    """The master program of a table of paths."""

    def __init__(
        self, judge: Judge, table: PathTable, start: IntArray, best: Solution | None
    ) -> None:
        """Build the program with the paths ``start``, at least one of every task."""
        self.table, self._judge = table, judge
        paths = self._with_every_resource(start)
        is_chosen = np.zeros(len(table.task), dtype=bool)
        is_chosen[paths] = True
        goal = replace(goal_of(table.pool, judge.settings), accuracy_unit=1.0)
        data = unit_data(table.pool, table.subsets(is_chosen), goal)
        model = build_master_model(data, table.most_of_task.tolist())
        self._is_log = judge.settings.objective == "reward"
        self._gap = max(judge.settings.gap, SMALLEST_GAP)
        self._tangents = Tangents(table.pool, model, goal, self._gap)
        if self._is_log:
            self._tangents.spread(best)
        self._lp = ModelRelaxation(model)
        column_of, row_of = self._lp.column_of, self._lp.row_of
        self._missing = [column_of(v) for v in model.missing.values()]
        self._totals = column_of(model.average_accuracy), column_of(model.throughput)
        if self._is_log:
            self._logs = column_of(model.log_accuracy), column_of(model.log_throughput)
        self._task_row = np.array([row_of(c) for c in model.one_answer_per_task.values()])
        self._total_row = (
            row_of(model.average_accuracy_definition),
            row_of(model.throughput_definition),
        )
        self._resource_row = np.full(len(table.pool.resources), -1)
        names = {r.name: i for i, r in enumerate(table.pool.resources)}
        for rows, constraints in (
            (data.rate_rows, model.server_and_link_capacity),
            (data.memory_rows, model.memory_capacity),
        ):
            for i in constraints:
                self._resource_row[names[rows.names[i]]] = row_of(constraints[i])
        self._low = np.full(len(table.task), -1)
        self._high = np.full(len(table.task), -1)
        """Columns of each path, at its floor and at R; -1 where it has none."""
        for number, path in enumerate(paths.tolist()):
            self._low[path] = column_of(model.at_floor[number])
            if number in model.at_most:
                self._high[path] = column_of(model.at_most[number])
        self._columns, self._rows = self._lp.columns, self._lp.rows
        self._cut_row: IntArray = np.empty(0, dtype=np.int64)
        self._idle: IntArray = np.empty(0, dtype=np.int64)
        self.rounds = 0
        self.best: Bound | None = None
        """The lowest bound so far, of the paths that are alive."""

    @property
    def inside(self) -> BoolArray:
        """Which paths are in the master."""
        return np.asarray(self._low >= 0)

    def _with_every_resource(self, paths: IntArray) -> IntArray:
        """Return paths together with one user of each resource that none of them loads."""
        table = self.table
        loads = table.need + table.spare > 0.0
        known = np.zeros(len(table.pool.resources), dtype=bool)
        entries, _ = table.entries_of(paths)
        known[table.column[entries[loads[entries]]]] = True
        others = np.flatnonzero(loads & ~known[table.column])
        _, first = np.unique(table.column[others], return_index=True)
        return np.unique(np.concatenate((paths, table.row[others[first]])))

    def add_paths(self, paths: IntArray) -> None:
        """Add the columns of paths that are not in the master yet."""
        table, k = self.table, len(paths)
        rated = np.flatnonzero(table.extra[paths] > 0.0)
        high = np.full(k, -1)
        high[rated] = k + np.arange(len(rated))
        entries, place = table.entries_of(paths)
        column = [place, np.arange(k), np.arange(k)]
        row = [
            self._resource_row[table.column[entries]],
            self._task_row[table.task[paths]],
            np.full(k, self._total_row[0]),
        ]
        low = [table.need[entries], np.ones(k), table.accuracy[paths]]
        more = [table.spare[entries], np.zeros(k), np.zeros(k)]
        column.append(rated)
        row.append(np.full(len(rated), self._total_row[1]))
        low.append(np.zeros(len(rated)))
        more.append(table.extra[paths[rated]] / table.unit)
        if len(table.cuts):
            cut, path, on_path, on_extra, _ = table.stacked
            where = np.full(len(table.task), -1)
            where[paths] = np.arange(k)
            mine = np.flatnonzero(where[path] >= 0)
            column.append(where[path[mine]])
            row.append(self._cut_row[cut[mine]])
            low.append(on_path[mine])
            more.append(on_extra[mine])
        columns, rows = np.concatenate(column), np.concatenate(row)
        at_floor, extra = np.concatenate(low), np.concatenate(more)
        has_high = high[columns] >= 0
        columns = np.concatenate((columns, high[columns[has_high]]))
        rows = np.concatenate((rows, rows[has_high]))
        values = np.concatenate((at_floor, (at_floor + extra)[has_high]))
        order = np.lexsort((rows, columns))
        order = order[values[order] != 0.0]
        count = k + len(rated)
        starts = np.searchsorted(columns[order], np.arange(count))
        self._lp.add_columns(
            np.zeros(count), np.full(count, np.inf), starts, rows[order], values[order]
        )
        self._low[paths] = self._columns + np.arange(k)
        self._high[paths[rated]] = self._columns + high[rated]
        self._columns += count

    def add_cuts(self, cuts: list[Cut]) -> None:
        """Add cuts to the master and to every bound from now on."""
        starts, columns, values = [], [], []
        at = 0
        for cut in cuts:
            low, high = self._low[cut.paths], self._high[cut.paths]
            inside, rated = low >= 0, high >= 0
            columns += [low[inside], high[rated]]
            values += [cut.on_path[inside], (cut.on_path + cut.on_extra)[rated]]
            starts.append(at)
            at += int(inside.sum() + rated.sum())
        limits = np.array([cut.limit for cut in cuts])
        self._lp.add_rows(limits, np.array(starts), np.concatenate(columns), np.concatenate(values))
        self._cut_row = np.concatenate((self._cut_row, self._rows + np.arange(len(cuts))))
        self._idle = np.concatenate((self._idle, np.zeros(len(cuts), dtype=np.int64)))
        self._rows += len(cuts)
        self.table.add_cuts(cuts)

    def drop_idle_cuts(self, patience: int = _IDLE_ROUNDS) -> None:
        """Remove the cuts that have not been paid for lately."""
        idle = self._idle >= patience
        if not idle.any():
            return
        gone, keep = self._cut_row[idle], np.flatnonzero(~idle)
        self._lp.delete_rows(gone)
        self.table.keep_cuts(keep)
        moved = np.searchsorted(np.sort(gone), self._cut_row[keep])
        self._cut_row, self._idle = self._cut_row[keep] - moved, self._idle[keep]
        self._rows -= len(gone)

    def leave_out(self, paths: BoolArray) -> None:
        """Let paths count no more, here and in the table."""
        self.table.leave_out(paths)
        columns = np.concatenate((self._low[paths], self._high[paths]))
        columns = columns[columns >= 0]
        self._lp.set_upper(columns, np.zeros(len(columns)))

    def is_infeasible(self, clock: Clock) -> bool | None:
        """Tell whether not even mixes of paths meet the requirements; None if time is over.

        Phase 1: the tasks that no path serves are minimised by the same rounds of pricing, with
        nothing else in the objective. A bound that stays above 0 is a proof.
        """
        if self.table.is_out_of_reach:
            return True
        missing = np.array(self._missing)
        self._lp.set_upper(missing, np.ones(len(missing)))
        self._lp.set_cost(self._costs(-1.0))
        answer: bool | None = None
        while not clock.is_over:
            self._lp.limit_time(clock.left)
            outcome = self._lp.solve()
            if outcome is None:
                break
            if outcome.value > -1e-9:
                answer = False
                break
            bound = self.table.bound(self._prices(outcome), is_phase_1=True)
            if bound.value < -1e-7:
                answer = True
                break
            new = self._candidates(bound, outcome)
            if not len(new):
                answer = False  # feasible within tolerances
                break
            self.add_paths(new)
        self._lp.set_cost(self._costs(0.0))
        self._lp.set_upper(missing, np.zeros(len(missing)))
        return answer

    def _costs(self, missing: float) -> FloatArray:
        """Return the objective with a cost of ``missing``, and nothing else if that is not 0."""
        cost = np.zeros(self._columns)
        if missing == 0.0:
            cost[: self._lp.columns] = self._lp.cost
        cost[self._missing] = missing
        return cost

    def settle(self, clock: Clock) -> Point | None:
        """Price and solve until no path outside can matter; None if time is over before."""
        tolerance = _SETTLED * self._gap
        while True:
            self._lp.limit_time(clock.left)
            outcome = self._lp.solve()
            if outcome is None:
                return None
            self.rounds += 1
            prices = self._prices(outcome)
            bound = self.table.bound(prices)
            if self.best is None or bound.value < self.best.value:
                self.best = bound
            self._idle = np.where(prices.cut > 1e-9, 0, self._idle + 1)
            unit = 1.0 if self._is_log else max(abs(outcome.value), 1e-12)
            if bound.value - outcome.value > tolerance * unit and not clock.is_over:
                new = self._candidates(bound, outcome)
                if len(new):
                    self.add_paths(new)
                    continue
            if self._add_tangents(outcome) and not clock.is_over:
                continue
            return self._point(outcome, prices, bound)

    def dive(self, clock: Clock) -> IntArray | None:
        """Return one path for each task, decided one after the other from the master's mixes.

        After every solve the tasks that have one path alone keep it, and so does a share of the
        others, the clearest first. Decisions that leave no solution are taken back in halves; a
        single one closes its path. None where that does not end or time is over.
        """
        table = self.table
        choice = np.full(len(table.first) - 1, -1)
        inside = np.flatnonzero((self._low >= 0) & table.alive)
        is_open = np.ones(len(inside), dtype=bool)
        task, last, at_once = table.task[inside], np.empty(0, dtype=np.int64), len(choice)
        failures = 0
        try:
            while failures < _DIVE_FAILURES and not clock.is_over:
                chosen = choice[task]
                self._set_open(inside, is_open & ((chosen < 0) | (chosen == inside)))
                self._lp.limit_time(clock.left)
                outcome = self._lp.solve()
                if outcome is None:
                    if not len(last):
                        return None
                    failures += 1
                    choice[table.task[last]] = -1
                    at_once = len(last) // 2
                    if not at_once:
                        is_open &= inside != last[0]
                        at_once = 1
                    last = last[:0]
                    continue
                x = np.where(self._low >= 0, outcome.x[self._low], 0.0)
                mix = (x + np.where(self._high >= 0, outcome.x[self._high], 0.0))[inside]
                undecided = np.flatnonzero((chosen < 0) & is_open & (mix > 1e-6))
                if not len(undecided):
                    return choice if (choice >= 0).all() else None
                order = undecided[np.argsort(-mix[undecided], kind="stable")]
                _, best = np.unique(task[order], return_index=True)
                order = order[np.sort(best)]
                clear = int((mix[order] > 1.0 - 1e-6).sum())
                share = clear + max(1, (len(order) - clear) // _DIVE_SHARE)
                last = inside[order[: min(share, at_once)]]
                choice[table.task[last]] = last
                at_once = len(choice)
            return None
        finally:
            self._set_open(inside, np.ones(len(inside), dtype=bool))

    def _set_open(self, paths: IntArray, is_open: BoolArray) -> None:
        """Let some of the master's paths be used, and others not."""
        columns = np.concatenate((self._low[paths], self._high[paths]))
        upper = np.tile(np.where(is_open, np.inf, 0.0), 2)
        self._lp.set_upper(columns[columns >= 0], upper[columns >= 0])

    def _candidates(self, bound: Bound, outcome: LpOutcome) -> IntArray:
        """Return the best paths of each task that would improve the master."""
        table = self.table
        share = outcome.row_dual[self._task_row]
        gain = bound.worth - share[table.task]
        paths = np.flatnonzero((gain > 1e-9) & (self._low < 0))
        paths = paths[np.lexsort((-gain[paths], table.task[paths]))]
        task = table.task[paths]
        first = np.searchsorted(task, task)
        return np.sort(paths[np.arange(len(paths)) - first < _PATHS_PER_ROUND])

    def _prices(self, outcome: LpOutcome) -> Prices:
        dual = outcome.row_dual
        resource = np.where(self._resource_row >= 0, dual[self._resource_row], 0.0)
        return Prices(
            np.maximum(resource, 0.0),  # negative ones are rounding
            np.maximum(dual[self._cut_row], 0.0),
            -float(dual[self._total_row[0]]),
            -float(dual[self._total_row[1]]),
        )

    def _point(self, outcome: LpOutcome, prices: Prices, bound: Bound) -> Point:
        low = np.where(self._low >= 0, outcome.x[self._low], 0.0)
        high = np.where(self._high >= 0, outcome.x[self._high], 0.0)
        return Point(outcome.value, np.clip(low + high, 0.0, 1.0), high, prices, bound)

    def _add_tangents(self, outcome: LpOutcome) -> bool:
        """Add tangents where the master is loose; tell whether there were any."""
        if not self._is_log:
            return False
        x = outcome.x
        added = self._tangents.add_at(
            float(x[self._totals[0]]),
            float(x[self._totals[1]]) * self.table.unit,
            (float(x[self._logs[0]]), float(x[self._logs[1]])),
        )
        self._lp.add_constraints(added)
        self._rows += len(added)
        return bool(added)
