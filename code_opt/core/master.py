"""The restricted master program: some columns, all resources, tangents and cuts, kept warm.

Column generation (Gilmore and Gomory, Operations Research 9, 1961, DOI 10.1287/opre.9.6.849;
Lübbecke and Desrosiers, Operations Research 53, 2005, DOI 10.1287/opre.1050.0234): the program of
:mod:`formulations.master` holds the columns that have had a positive reduced profit so far; every
round prices all columns of the table in one pass and lets the best of each task in. Whatever the
duals, :meth:`Relaxation.bound` turns them into a valid bound, so the rounds can end at any time.

Large neighbourhood search and the exact method use this one master and its dive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from code_opt.core.columns import Bound, Cut, Relaxation
from code_opt.core.evaluator import VIOLATION_WEIGHT, Solution
from code_opt.core.parameters import DiveParameters, MasterParameters
from code_opt.core.settings import Clock
from code_opt.core.tangents import Tangents
from code_opt.paths import Duals
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.solvers import LinearProgram, LpOutcome
from formulations.master import MasterColumns, MasterData, MasterProgram

_LEAST_REDUCED_PROFIT = 1e-9
"""Columns of less reduced profit do not improve the master."""
_WHOLE = 1.0 - 1e-6
"""Share of a column in the mix from which the mix counts as this column alone."""
_SHORT = 1e-6
"""Share of a task that no column serves from which the capacities count as exceeded."""


@dataclass(frozen=True)
class Point:
    """An optimum of the master."""

    value: float
    x: FloatArray
    """Share of each column, shape (P,)."""
    u: FloatArray
    """Share of each column's extra rate, shape (P,)."""
    duals: Duals
    bound: Bound


class RestrictedMaster:
    """The master program over the columns of a relaxation."""

    def __init__(
        self,
        relaxation: Relaxation,
        columns: IntArray,
        best: Solution | None,
        gap: float,
        parameters: MasterParameters,
        may_miss: bool = False,
    ) -> None:
        """Build the program.

        Args:
            relaxation: all columns, cuts and the objective.
            columns: those to start with, at least one of every task.
            best: the best assignment known, if any: tangents are dense around it.
            gap: gap of the objective that the master is to be good for.
            parameters: of pricing.
            may_miss: whether tasks may be served by no column, at a high cost, so that the
                program is feasible whatever the capacities.
        """
        self.relaxation, self.table = relaxation, relaxation.table
        self._objective, self._gap, self._parameters = relaxation.objective, gap, parameters
        self._may_miss = may_miss
        table = self.table
        self._program = MasterProgram(
            MasterData(
                weight=table.weights,
                floor=table.floor,
                most_rate=relaxation.most_of_task,
                resources=len(table.pool.resources),
                goal=self._objective.goal,
            )
        )
        arrays = self._program.arrays()
        self._cost, self._bounds = arrays.cost, (arrays.lower, arrays.upper)
        self._cost_of_paths = np.zeros(0)
        """Costs of the columns that came in later."""
        self._lp = LinearProgram(arrays)
        self._low = np.full(len(table), -1)
        self._high = np.full(len(table), -1)
        """Columns of the program of each column of the table, at its floor and at R; -1: none."""
        self._columns, self._rows = len(arrays.cost), len(arrays.row_upper)
        self._cut_row: IntArray = np.empty(0, dtype=np.int64)
        self._idle: IntArray = np.empty(0, dtype=np.int64)
        self._last: LpOutcome | None = None
        self._tangents = Tangents(self._objective.reward, self, gap)
        if self._objective.is_log:
            self._tangents.spread(*relaxation.ranges_of_columns, best)
        self.rounds = 0
        self.best: Bound | None = None
        """The lowest bound so far, of the columns that are alive."""
        self._set_missing(may_miss)
        self.add_columns(np.unique(columns))

    @property
    def inside(self) -> BoolArray:
        """Which columns are in the master, shape (P,)."""
        return np.asarray(self._low >= 0)

    @property
    def duals(self) -> Duals:
        """Duals of the last solve; there was one."""
        assert self._last is not None
        return self._duals(self._last)

    def add_columns(self, columns: IntArray) -> None:
        """Add columns of the table that are not in the master yet."""
        table = self.table
        entries, place = table.entries_of(columns)
        row = self._program.capacity[table.resource[entries]]
        at_floor, more = table.need_of_entry[entries], table.spare_of_entry[entries]
        if self.relaxation.cuts:
            on_path, on_extra, _ = self.relaxation.cut_matrices
            mine, beyond = on_path[columns].tocoo(), on_extra[columns].tocoo()
            place = np.concatenate((place, mine.row))
            row = np.concatenate((row, self._cut_row[mine.col]))
            at_floor = np.concatenate((at_floor, mine.data))
            more = np.concatenate((more, beyond.data))
        new = MasterColumns(
            task=table.task[columns],
            accuracy=self.relaxation.accuracy[columns],
            time=table.time[columns],
            extra=table.extra[columns],
            row=row,
            path=place,
            at_floor=at_floor,
            more=more,
        )
        high, count, starts, rows, values = self._program.path_columns(new)
        cost = self._program.cost(new)
        self._lp.add_columns(cost, np.full(count, np.inf), starts, rows, values)
        self._cost_of_paths = np.concatenate((self._cost_of_paths, cost))
        self._low[columns] = self._columns + np.arange(len(columns))
        self._high[columns] = np.where(high >= 0, self._columns + high, -1)
        self._columns += count

    def add_cuts(self, cuts: list[Cut]) -> None:
        """Add cuts to the master and to every bound from now on."""
        starts, columns, values = [], [], []
        at = 0
        for cut in cuts:
            low, high = self._low[cut.columns], self._high[cut.columns]
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
        self.relaxation.add_cuts(cuts)

    def drop_idle_cuts(self) -> None:
        """Remove the cuts whose duals have been 0 lately."""
        idle = self._idle >= self._parameters.idle_rounds
        if not idle.any():
            return
        gone, keep = self._cut_row[idle], np.flatnonzero(~idle)
        self._lp.delete_rows(gone)
        self.relaxation.keep_cuts(keep)
        moved = np.searchsorted(np.sort(gone), self._cut_row[keep])
        self._cut_row, self._idle = self._cut_row[keep] - moved, self._idle[keep]
        self._rows -= len(gone)

    def leave_out(self, columns: BoolArray) -> None:
        """Let columns count no more, here and in the relaxation."""
        self.relaxation.leave_out(columns)
        self._set_open(np.flatnonzero(columns & self.inside), np.zeros(1, dtype=bool))

    def is_infeasible(self, clock: Clock) -> bool | None:
        """Tell whether not even mixes of columns meet the requirements; None if time is over.

        Phase 1: the tasks that no column serves are minimised by the same rounds of pricing, with
        nothing else in the objective. A bound that stays above 0 is a proof.
        """
        if self.relaxation.is_out_of_reach:
            return True
        self._set_missing(True)
        cost = np.zeros(len(self._cost))
        cost[self._program.missing] = -1.0
        self._lp.set_cost(np.concatenate((cost, np.zeros(len(self._cost_of_paths)))))
        is_infeasible: bool | None = None
        while not clock.is_over:
            outcome = self._solve(clock)
            if outcome is None:
                break
            if outcome.value > -1e-9:
                is_infeasible = False
                break
            duals = replace(self._duals(outcome), time=0.0)
            bound = self.relaxation.bound(duals, is_phase_1=True)
            if bound.value < -1e-7:
                is_infeasible = True
                break
            if not self._price(bound.profit, outcome, self._parameters.columns_per_round):
                is_infeasible = False  # feasible within tolerances
                break
        self._set_missing(self._may_miss)
        return is_infeasible

    def settle(self, clock: Clock, *, is_interruptible: bool = True) -> Point | None:
        """Price and solve until no column outside can matter; None if time is over before.

        Args:
            clock: ends the rounds.
            is_interruptible: whether it may also end the first solve, so that there is no point.
        """
        tolerance = self._parameters.settled * self._gap
        while True:
            outcome = self._solve(clock if is_interruptible else Clock(None, to_its_end=True))
            if outcome is None:
                return None
            self.rounds += 1
            duals = self._duals(outcome)
            bound = self.relaxation.bound(duals)
            if self.best is None or bound.value < self.best.value:
                self.best = bound
            self._idle = np.where(duals.cut > 1e-9, 0, self._idle + 1)
            unit = 1.0 if self._objective.is_log else max(abs(outcome.value), 1e-12)
            if not clock.is_over:
                if bound.value - outcome.value > tolerance * unit and self._price(
                    bound.profit, outcome, self._parameters.columns_per_round
                ):
                    continue
                if self._add_tangents(outcome):
                    continue
            low, high = self._shares(outcome)
            return Point(outcome.value, np.clip(low + high, 0.0, 1.0), high, duals, bound)

    def dive(self, clock: Clock, parameters: DiveParameters) -> IntArray:
        """Return a column of each task, decided step by step from the master's mixes.

        After every solve the tasks that have one column alone keep it, and so does a share of the
        others, the clearest first. The undecided ones are priced anew. Decisions after which
        the capacities cannot hold are taken back, and their columns closed to this dive.

        Args:
            clock: ends the dive early; tasks still undecided take their columns of most profit.
            parameters: share decided at once, rounds of pricing.
        """
        self._set_missing(True)
        try:
            choice, closed = self._dive(clock, parameters)
        finally:
            inside = np.flatnonzero(self.inside & self.relaxation.alive)
            self._set_open(inside, np.ones(1, dtype=bool))
            self._set_missing(self._may_miss)
        if (choice >= 0).all():
            return choice
        # So does a task whose columns in the master are all closed.
        profit = self.relaxation.bound(self.duals).profit
        profit[closed] = -np.inf
        return np.where(choice < 0, self.table.best_of_each(profit), choice)

    def _dive(self, clock: Clock, parameters: DiveParameters) -> tuple[IntArray, BoolArray]:
        """Return the decisions, -1 where there is none, and the columns that were closed."""
        table, alive = self.table, self.relaxation.alive
        tasks = len(table.joint_tasks)
        choice = np.full(tasks, -1)
        closed = np.zeros(len(table), dtype=bool)
        last: IntArray = np.empty(0, dtype=np.int64)
        returns, was_short, at_once = tasks, False, tasks
        outcome: LpOutcome | None = None
        least_gain = parameters.least_gain / tasks
        while not clock.is_over:
            for turn in range(parameters.pricing_rounds + 1):
                inside = np.flatnonzero(self.inside & alive)
                fixed = choice[table.task[inside]]
                is_open = ((fixed < 0) | (fixed == inside)) & ~closed[inside]
                self._set_open(inside, is_open)
                outcome = self._solve(clock)
                if outcome is None:
                    return choice, closed
                if turn == parameters.pricing_rounds:
                    break
                profit = self.relaxation.bound(self._duals(outcome)).profit
                profit[closed | (choice[table.task] >= 0)] = -np.inf
                if not self._price(profit, outcome, 1, least_gain):
                    break
            assert outcome is not None
            missing = outcome.x[self._program.missing]
            is_short = bool(missing.max() > _SHORT)
            if is_short and not was_short and len(last) and returns > 0:
                at_fault = self._near_shortage(last, missing > _SHORT)
                if len(at_fault) in (0, len(last)) and len(last) > 1:
                    at_fault, at_once = last, 1  # any of them: try the clearest one alone
                else:
                    at_fault = at_fault if len(at_fault) else last
                    closed[at_fault] = True
                choice[table.task[at_fault]] = -1
                last, returns = last[:0], returns - 1
                continue
            was_short = is_short
            self._add_tangents(outcome)
            low, high = self._shares(outcome)
            mix = (low + high)[inside]
            whole = inside[(mix >= _WHOLE) & (choice[table.task[inside]] < 0)]
            choice[table.task[whole]] = whole
            undecided = np.flatnonzero((choice[table.task[inside]] < 0) & is_open)
            if not len(undecided):
                break
            order = undecided[np.argsort(-mix[undecided], kind="stable")]
            _, first = np.unique(table.task[inside[order]], return_index=True)
            order = order[np.sort(first)]
            share = int(parameters.share * (choice < 0).sum())
            last = inside[order[: max(1, min(at_once, share))]]
            choice[table.task[last]] = last
            at_once = tasks
        return choice, closed

    def _near_shortage(self, columns: IntArray, is_short: BoolArray) -> IntArray:
        """Return those of the columns that load a resource which a task in need could use."""
        table = self.table
        near = np.zeros(len(table.pool.resources), dtype=bool)
        for task in np.flatnonzero(is_short).tolist():
            near[table.joint_tasks[task].resources] = True
        loads = near[table.padded_resource[:, columns]] & (table.padded_need[:, columns] > 0.0)
        return columns[loads.any(axis=0)]

    def _solve(self, clock: Clock) -> LpOutcome | None:
        self._lp.limit_time(clock.left, is_stoppable=not clock.to_its_end)
        outcome = self._lp.solve()
        if outcome is not None:
            self._last = outcome
        return outcome

    def _set_missing(self, is_allowed: bool) -> None:
        """Let tasks be served by no column, at a high cost, or not."""
        missing = self._program.missing
        cost = self._cost.copy()
        if is_allowed:
            cost[missing] = -VIOLATION_WEIGHT
        self._lp.set_upper(missing, np.full(len(missing), float(is_allowed)))
        self._lp.set_cost(np.concatenate((cost, self._cost_of_paths)))

    def _set_open(self, columns: IntArray, is_open: BoolArray) -> None:
        """Let some of the master's columns be used, and others not."""
        places = np.concatenate((self._low[columns], self._high[columns]))
        upper = np.tile(np.where(np.broadcast_to(is_open, len(columns)), np.inf, 0.0), 2)
        self._lp.set_upper(places[places >= 0], upper[places >= 0])

    def _price(
        self,
        profit: FloatArray,
        outcome: LpOutcome,
        most: int,
        least_gain: float = _LEAST_REDUCED_PROFIT,
    ) -> bool:
        """Add the best columns of each task that improve the master; tell whether there are any."""
        table = self.table
        gain = profit - outcome.row_dual[self._program.one][table.task]
        columns = np.flatnonzero((gain > least_gain) & (self._low < 0))
        if not len(columns):
            return False
        columns = columns[np.lexsort((-gain[columns], table.task[columns]))]
        task = table.task[columns]
        rank = np.arange(len(columns)) - np.searchsorted(task, task)
        self.add_columns(np.sort(columns[rank < most]))
        return True

    def _duals(self, outcome: LpOutcome) -> Duals:
        dual, program, unit = outcome.row_dual, self._program, self._objective.throughput_unit
        reduced = (
            float(outcome.column_dual[program.average_accuracy[0]]),
            float(outcome.column_dual[program.throughput[0]]) / unit,
        )
        floors = self._objective.min_accuracy, self._objective.min_throughput
        at_floor = [max(-r, 0.0) if f else 0.0 for r, f in zip(reduced, floors, strict=True)]
        return Duals(
            resource=np.maximum(dual[program.capacity], 0.0),  # negative ones are rounding
            accuracy=-float(dual[program.accuracy_row[0]]),
            throughput=-float(dual[program.throughput_row[0]]) / unit,
            time=self._objective.time_dual,
            cut=np.maximum(dual[self._cut_row], 0.0),
            floors=(at_floor[0], at_floor[1]),
        )

    def _shares(self, outcome: LpOutcome) -> tuple[FloatArray, FloatArray]:
        """Return the share of each column at its floor rate and at R, shape (P,) each."""
        low = np.where(self._low >= 0, outcome.x[self._low], 0.0)
        return low, np.where(self._high >= 0, outcome.x[self._high], 0.0)

    def unit_of(self, term: str) -> float:
        """See :class:`code_opt.core.tangents.TangentProgram`."""
        return 1.0 if term == "accuracy" else self._objective.throughput_unit

    def raise_floor(self, term: str, least: float) -> None:
        """See :class:`code_opt.core.tangents.TangentProgram`."""
        program = self._program
        (column,) = program.average_accuracy if term == "accuracy" else program.throughput
        low, high = self._bounds[0][column], self._bounds[1][column]
        self._lp.set_bounds(int(column), float(max(low, min(least, high))), float(high))

    def add_tangent(self, term: str, at: float, log_value: float, log_slope: float) -> int:
        """See :class:`code_opt.core.tangents.TangentProgram`."""
        limit, columns, values = self._program.tangent(term, at, log_value, log_slope)
        self._lp.add_rows(np.array([limit]), np.zeros(1, dtype=np.int64), columns, values)
        self._rows += 1
        return self._rows

    def _add_tangents(self, outcome: LpOutcome) -> bool:
        """Add tangents where the master is loose; tell whether there were any."""
        if not self._objective.is_log:
            return False
        x, program = outcome.x, self._program
        added = self._tangents.add_at(
            float(x[program.average_accuracy[0]]),
            float(x[program.throughput[0]]) * self._objective.throughput_unit,
            (float(x[program.logs[0]]), float(x[program.logs[1]])),
        )
        return bool(added)
