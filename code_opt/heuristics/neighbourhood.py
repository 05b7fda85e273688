"""One iteration of large neighbourhood search: a few tasks are re-optimised together.

The tasks that are freed choose among all of their columns; all others keep theirs. Those whose
present columns load a server or link that a freed task can load let their rates go, the rest keep
them, too. What is left is a small linear program (:mod:`formulations.neighbourhood`), however
large the instance, and branch and bound over it (Land and Doig 1960, DOI 10.2307/1910129): columns
whose profit at the duals cannot make up for what the neighbourhood has now never enter (Lagrangian
duality), reduced costs of the relaxation close further ones, and branches that promise no gain are
cut.
"""

from __future__ import annotations

import numpy as np

from code_opt.core.evaluator import FIT_TOLERANCE, LEAST_GAIN, VIOLATION_WEIGHT
from code_opt.heuristics.search import AssignmentSearch, State
from code_opt.paths import Duals
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.solvers import LinearProgram, LpOutcome
from formulations.neighbourhood import NeighbourhoodData, build_neighbourhood_program

_LEAST_PROMISE = 1e-6
"""Gain of merit below which a branch is not worth following."""
_LEAST_COST = 1e-4
"""Costs are scaled as if the largest one was no smaller, and no larger than its inverse."""
_FILTERS = 2
"""Times that columns are left out before the program is built; each tightens the next."""
_WHOLE = 1.0 - 1e-6
"""Share of a column in the mix from which the mix counts as this column alone."""


class Neighbourhood:
    """The program of F freed tasks with m of their columns, and of the L others near them."""

    def __init__(
        self,
        work: AssignmentSearch,
        state: State,
        freed: IntArray,
        duals: Duals,
        solver: LinearProgram | None = None,
    ) -> None:
        """Gather what the program is made of.

        Args:
            work: the columns.
            state: the present assignment.
            freed: tasks that may change their columns, ascending.
            duals: any duals of the resources; the better, the fewer columns are looked at.
            solver: is loaded with the program (default: a new one).
        """
        self._work, self._table, self._state, self._freed = work, work.table, state, freed
        self.nodes = 0
        """Linear programs solved."""
        self.is_exhausted = False
        """Whether the search came to its end: nothing better by the present estimates."""
        self._tangent_profits: list[FloatArray] = []
        """For each program solved what each column brings at its duals, shape (m,), and ..."""
        self._rest_of_bounds: list[float] = []
        """... what the rest brings: together they bound every assignment."""
        table = work.table
        self._slopes = a, th = work.slopes(state)
        self._time_dual = work.objective.time_dual
        self._dual, self._floor_duals = duals.resource, np.array(duals.floors)
        self._gains = a + duals.floors[0], th + duals.floors[1]
        """Value of A and Th, floors on them included."""
        self._paths = table.columns_of_tasks(freed)
        self._near = near = self._others_near()
        self._near_now = state.choice[near]
        moving = np.concatenate((freed, near))
        held = state.choice[moving]
        rest = state.load.copy()
        held_load = table.loads_of(held, state.rates[moving])
        np.subtract.at(rest, table.padded_resource[:, held], held_load)
        near_resource = table.padded_resource[:, self._near_now]
        np.add.at(rest, near_resource, table.padded_need[:, self._near_now])
        self._spare = 1.0 - rest
        """What the others leave of each resource, the near ones at their floors."""
        accuracy_held = float(work.accuracy[state.choice[freed]].sum())
        rate_held = float(state.rates[moving].sum())
        rate_near = float(table.floor[near].sum())
        objective = work.objective
        self._least = np.array([objective.min_accuracy or 0.0, objective.min_throughput or 0.0])
        rest_of_totals = np.array(
            [state.accuracy - accuracy_held, state.throughput - rate_held + rate_near]
        )
        self._lacking = self._least - rest_of_totals
        """What the program's columns must bring for the floors on A and Th."""
        self._now = a * accuracy_held + th * (rate_held - rate_near)
        self._now -= self._time_dual * float(table.time[state.choice[freed]].sum())
        """Present value of the program's objective."""
        self._extra = table.extra[self._paths]
        """Rate that each column can have beyond the floor."""
        self._near_extra = table.extra[self._near_now]
        if state.violation == 0.0:
            self._spare = np.maximum(self._spare, 0.0)
            for _ in range(_FILTERS):
                self._filter()
        self._owner = np.searchsorted(freed, table.task[self._paths])
        """Which of the freed tasks each column belongs to."""
        self._program = LinearProgram() if solver is None else solver
        self._scale = self._load_program()
        """Costs of the program per unit of the objective."""
        self._is_open = np.ones(len(self._paths), dtype=bool)

    def _filter(self) -> None:
        """Leave out columns that cannot fit, or whose reduced costs are too large; bound the rates.

        Whatever the freed tasks choose, each takes at least the least that its columns need.
        What that leaves bounds the rates of the others, far better than the capacities
        alone, and the duals what can be reached with each column.
        """
        table, freed, paths, near_now = self._table, self._freed, self._paths, self._near_now
        sizes = np.bincount(np.searchsorted(freed, table.task[paths]), minlength=len(freed))
        first = np.cumsum(sizes) - sizes
        index, need = table.padded_resource[:, paths], table.padded_need[:, paths]
        use = table.padded_rate_use[:, paths]
        least = np.minimum.reduceat(need, first, axis=1)
        spare = self._spare.copy()
        np.subtract.at(spare, index[:, first], least)
        room = spare[index] + np.repeat(least, sizes, axis=1) - need
        self._extra = np.minimum(self._extra, _rate_within(room, use))
        near_use = table.padded_rate_use[:, near_now]
        near_index = table.padded_resource[:, near_now]
        near_room = np.maximum(spare[near_index], 0.0)
        self._near_extra = np.minimum(self._near_extra, _rate_within(near_room, near_use))

        (gain_a, gain_th), dual = self._gains, self._dual
        paid = dual[index]
        profit = gain_a * self._work.accuracy[paths] + gain_th * table.floor[table.task[paths]]
        profit -= self._time_dual * table.time[paths]
        profit += np.maximum(self._extra, 0.0) * np.maximum(gain_th - (paid * use).sum(axis=0), 0.0)
        profit -= (paid * need).sum(axis=0)
        fits = (room >= -FIT_TOLERANCE).all(axis=0)
        profit[~fits] = -np.inf
        best = np.maximum.reduceat(profit, first)
        near_margin = gain_th - (dual[near_index] * near_use).sum(axis=0)
        bound = float(best.sum()) + float(self._near_extra @ np.maximum(near_margin, 0.0))
        touched = self._touched()
        bound += float(dual[touched] @ self._spare[touched])
        bound -= float(self._floor_duals @ self._lacking)
        keep = bound - (np.repeat(best, sizes) - profit) > self._now + _LEAST_PROMISE
        # The present columns stay, so that every task has one.
        keep |= paths == np.repeat(self._state.choice[freed], sizes)
        self._paths, self._extra = paths[keep], np.maximum(self._extra[keep], 0.0)

    def _others_near(self) -> IntArray:
        """Return the tasks not freed whose rates bear on a resource that the columns can load."""
        table, choice, paths = self._table, self._state.choice, self._paths
        affected = np.zeros(len(table.pool.resources), dtype=bool)
        affected[table.padded_resource[:, paths][table.padded_rate_use[:, paths] > 0.0]] = True
        loads = table.padded_rate_use[:, choice] > 0.0
        near = (affected[table.padded_resource[:, choice]] & loads).any(axis=0)
        near &= table.most[choice] > table.floor
        near[self._freed] = False
        return np.flatnonzero(near)

    def _touched(self) -> BoolArray:
        """Return which resources the program's columns load."""
        table, paths, near_now = self._table, self._paths, self._near_now
        touched = np.zeros(len(table.pool.resources), dtype=bool)
        loads = (table.padded_need[:, paths] > 0.0) | (table.padded_rate_use[:, paths] > 0.0)
        touched[table.padded_resource[:, paths][loads]] = True
        near_loads = table.padded_rate_use[:, near_now] > 0.0
        touched[table.padded_resource[:, near_now][near_loads]] = True
        return touched

    def _load_program(self) -> float:
        """State the program of the columns gathered, and hand it to the solver; return a scale."""
        table, paths, state = self._table, self._paths, self._state
        unit = np.array([1.0, table.largest_rate])
        touched, is_short = self._touched(), state.violation > 0.0
        lacking = None
        if self._least.any():
            lacking = (self._lacking - FIT_TOLERANCE * self._least) / unit
        arrays = build_neighbourhood_program(
            NeighbourhoodData(
                owner=self._owner,
                accuracy=self._work.accuracy[paths],
                time=table.time[paths],
                floor=table.floor[table.task[paths]],
                extra=self._extra,
                resource=table.padded_resource[:, paths],
                need=table.padded_need[:, paths],
                rate_use=table.padded_rate_use[:, paths],
                near_resource=table.padded_resource[:, self._near_now],
                near_rate_use=table.padded_rate_use[:, self._near_now],
                near_extra=self._near_extra,
                spare=self._spare,
                touched=touched,
                slopes=self._slopes,
                time_dual=self._time_dual,
                lacking=lacking,
                least=self._least / unit,
                throughput_unit=table.largest_rate,
                shortage_cost=VIOLATION_WEIGHT if is_short else None,
            )
        )
        if is_short:
            excess = np.maximum(state.load[touched] - 1.0 - FIT_TOLERANCE, 0.0).sum()
            totals = np.array(state.accuracy), np.array(state.throughput)
            missed = self._work.objective.floors_missed(*totals)
            self._now -= VIOLATION_WEIGHT * float(excess + missed)
        # The solver's tolerances are absolute: costs near 1 whatever the number of tasks.
        gains = arrays.cost[: 2 * len(paths) + len(self._near)]
        largest = float(np.abs(gains).max(initial=0.0))
        scale = 1.0 / min(max(largest, _LEAST_COST), 1.0 / _LEAST_COST)
        self._program.load(arrays._replace(cost=arrays.cost * scale))
        return scale

    def search(self, most_nodes: int) -> State | None:
        """Return the best assignment found that is better than the present one, if any.

        Its value rests on the accuracies estimated, nothing is measured here.

        Args:
            most_nodes: linear programs solved at most.
        """
        best, gain = None, 0.0
        is_open = np.ones(len(self._paths), dtype=bool)
        first = np.searchsorted(self._owner, np.arange(len(self._freed)))
        stack = [(np.inf, is_open)]
        while stack and self.nodes < most_nodes:
            promised, is_open = stack.pop()
            if promised <= gain + _LEAST_PROMISE:
                continue
            if self._tangent_profits:
                brought = np.where(is_open, np.array(self._tangent_profits), -np.inf)
                most = np.maximum.reduceat(brought, first, axis=1)
                bound = np.array(self._rest_of_bounds) + most.sum(axis=1)
                with_path = (brought + (bound[:, None] - most[:, self._owner])).min(axis=0)
                is_open = with_path > gain + _LEAST_PROMISE
                if not np.logical_or.reduceat(is_open, first).all():
                    continue
            self._open(is_open)
            outcome = self._program.solve()
            self.nodes += 1
            if outcome is None:
                continue
            promised = outcome.value / self._scale - self._now
            profit = self._by_path(outcome.column_dual) / self._scale
            self._tangent_profits.append(profit.max(axis=1))
            self._rest_of_bounds.append(promised - float(np.maximum(profit[is_open], 0.0).sum()))
            if promised <= gain + _LEAST_PROMISE:
                continue
            mix = self._by_path(outcome.x).sum(axis=1)
            largest = np.zeros(len(self._freed))
            np.maximum.at(largest, self._owner, mix)
            if (largest >= _WHOLE).all():
                found = self._state_of(outcome, mix)
                if found.merit - self._state.merit > max(gain, LEAST_GAIN):
                    best, gain = found, found.merit - self._state.merit
                # The objective curves below the promise: other assignments, of less promise,
                # may still be worth more.
                if promised > gain + _LEAST_PROMISE:
                    stack += [(promised, part) for part in self._all_but(mix, is_open)]
                continue
            task = int(np.argmax(np.where(largest < _WHOLE, largest, -1.0)))
            mine = self._owner == task
            path = int(np.argmax(np.where(mine, mix, -1.0)))
            without = is_open.copy()
            without[path] = False
            if (without & mine).any():
                stack.append((promised, without))
            alone = is_open & ~mine
            alone[path] = True
            stack.append((promised, alone))
        self.is_exhausted = not stack
        return best

    def _all_but(self, mix: FloatArray, is_open: BoolArray) -> list[BoolArray]:
        """Return what is open in parts of a branch that together leave out one assignment."""
        taken = mix >= _WHOLE
        parts, fixed = [], is_open.copy()
        for task in range(len(self._freed)):
            mine = self._owner == task
            without = fixed & ~(mine & taken)
            if (without & mine).any():
                parts.append(without)
            fixed &= ~mine | taken
        return parts

    def _by_path(self, columns: FloatArray) -> FloatArray:
        """Return the two columns of each path, shape (m, 2)."""
        return columns[: 2 * len(self._paths)].reshape(-1, 2)

    def _open(self, is_open: BoolArray) -> None:
        """Let only some of the paths be used."""
        at = np.flatnonzero(is_open != self._is_open)
        if len(at):
            upper = np.where(is_open[at], 1.0, 0.0)
            self._program.set_upper(
                np.concatenate((2 * at, 2 * at + 1)), np.concatenate((upper, upper))
            )
            self._is_open = is_open

    def _state_of(self, outcome: LpOutcome, mix: FloatArray) -> State:
        """Return the assignment that a solution of the program stands for."""
        table, m, near = self._table, len(self._paths), self._near
        taken = np.flatnonzero(mix >= _WHOLE)
        tasks = self._freed[self._owner[taken]]
        choice, rates = self._state.choice.copy(), self._state.rates.copy()
        choice[tasks] = self._paths[taken]
        at_most = np.clip(self._by_path(outcome.x)[taken, 1] / mix[taken], 0.0, 1.0)
        rates[tasks] = table.floor[tasks] + at_most * self._extra[taken]
        share = np.clip(outcome.x[2 * m : 2 * m + len(near)], 0.0, 1.0)
        rates[near] = table.floor[near] + share * self._near_extra
        return self._work.state(choice, rates)


def _rate_within(room: FloatArray, use: FloatArray) -> FloatArray:
    """Return the largest rate at which uses fit into the room of their resources, (K, P) both."""
    rate = np.full(room.shape, np.inf)
    np.divide(room, use, out=rate, where=use > 0.0)
    return np.asarray(rate.min(axis=0))
