"""A few services answer anew, together: a tree search over their paths.

The services that are freed choose among all of their paths; all others keep theirs. Those
whose present paths load a server or link that a freed service can load let their rates go,
the rest keep them, too. What is left is a small linear program, wherever in however large an
instance, and a tree over it: paths whose worth at the prices cannot make up for what the
neighbourhood has now never enter (Lagrangian duality), the relaxation's reduced profits close
further ones, and branches that promise no gain are cut (Land and Doig 1960). Freeing some
and solving for them exactly is a large neighbourhood search (Shaw 1998).
"""

from __future__ import annotations

import numpy as np

from code_opt.methods.local_search import (
    FIT_TOLERANCE,
    LEAST_GAIN,
    VIOLATION_WEIGHT,
    Searcher,
    State,
)
from code_opt.methods.prices import Prices
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.solvers import LinearProgram, LpOutcome

_LEAST_PROMISE = 1e-6
"""Gain of merit below which a branch is not worth following."""
_LEAST_COST = 1e-4
"""Costs are scaled as if the largest one was no smaller, and no larger than its inverse."""
_FILTERS = 2
"""Times that paths are left out before the program is built; each tightens the next."""
_WHOLE = 1.0 - 1e-6
"""Share of a path in the mix from which the mix counts as this path alone."""


class Neighbourhood:
    """The program of F freed services with m of their paths, and of the L others near them.

    Columns: each path at its floor rate and at its R, alternating; the extra rate of each
    other service, as a share of what its path can do; and, only where a requirement is
    missed at present, what each row lacks. Rows: resources, the floors on the totals, one
    path for each freed service.
    """

    def __init__(
        self,
        work: Searcher,
        state: State,
        freed: IntArray,
        prices: Prices,
        instead_of: Neighbourhood | None = None,
    ) -> None:
        """Gather the columns and rows.

        Args:
            work: the paths.
            state: where everybody is now.
            freed: tasks that may change their paths, ascending.
            prices: any prices of the resources; the better, the fewer paths are looked at.
            instead_of: one that is not needed any more, whose solver is used again.
        """
        self._work, self._state, self._freed = work, state, freed
        self.nodes = 0
        """Linear programs solved."""
        self.is_exhausted = False
        """Whether the search came to its end: nothing better by the present estimates."""
        a, th = work.slopes(state.accuracy, state.throughput)
        self._prices = Prices(prices.resource, (a, th), prices.floors)
        self._paths = work.options_of(freed)
        self._near = near = self._others_near()
        self._near_now = state.choice[near]
        moving = np.concatenate((freed, near))
        held = state.choice[moving]
        rest = state.load.copy()
        np.subtract.at(rest, work.index[:, held], work.loads_of(held, state.rates[moving]))
        np.add.at(rest, work.index[:, self._near_now], work.need[:, self._near_now])
        self._spare = 1.0 - rest
        """What the others leave of each resource, the near ones at their floors."""
        now_freed = state.choice[freed]
        accuracy_held = float(work.weight[now_freed] @ work.estimate[now_freed])
        rate_held = float(state.rates[moving].sum())
        rate_near = float(work.floor[near].sum())
        settings = work.judge.settings
        self._least = np.array([settings.min_accuracy or 0.0, settings.min_throughput or 0.0])
        rest_of_totals = np.array(
            [state.accuracy - accuracy_held, state.throughput - rate_held + rate_near]
        )
        self._lacking = self._least - rest_of_totals
        """What the program's columns must bring for the floors on A and Th."""
        self._now = a * accuracy_held + th * (rate_held - rate_near)
        """What the program's objective is worth at present."""
        self._extra = work.most[self._paths] - work.floor[work.task[self._paths]]
        """What each path's rate can be beyond the floor."""
        self._near_extra = work.most[self._near_now] - work.floor[near]
        if state.violation == 0.0:
            self._spare = np.maximum(self._spare, 0.0)
            for _ in range(_FILTERS):
                self._filter()
        self._program: LinearProgram = self._build(
            None if instead_of is None else instead_of._program
        )

    def _filter(self) -> None:
        """Leave out paths that cannot fit, or by the prices cannot pay; bound the rates.

        Whatever the freed services choose, each takes at least the least that its paths
        need. What that leaves bounds the rates of the others, far better than the
        capacities alone, and the prices what can be reached with each path.
        """
        work, freed, paths, near_now = self._work, self._freed, self._paths, self._near_now
        sizes = np.bincount(np.searchsorted(freed, work.task[paths]), minlength=len(freed))
        first = np.cumsum(sizes) - sizes
        index, use, need = work.index[:, paths], work.rate_use[:, paths], work.need[:, paths]
        least = np.minimum.reduceat(need, first, axis=1)
        spare = self._spare.copy()
        np.subtract.at(spare, index[:, first], least)
        room = spare[index] + np.repeat(least, sizes, axis=1) - need
        self._extra = np.minimum(self._extra, _rate_within(room, use))
        near_use = work.rate_use[:, near_now]
        near_room = np.maximum(spare[work.index[:, near_now]], 0.0)
        self._near_extra = np.minimum(self._near_extra, _rate_within(near_room, near_use))

        gain_a, gain_th = self._prices.gains
        price = self._prices.resource
        floor = work.floor[work.task[paths]]
        paid = price[index]
        worth = gain_a * work.weight[paths] * work.estimate[paths] + gain_th * floor
        worth += np.maximum(self._extra, 0.0) * np.maximum(gain_th - (paid * use).sum(axis=0), 0.0)
        worth -= (paid * need).sum(axis=0)
        fits = (room >= -FIT_TOLERANCE).all(axis=0)
        worth[~fits] = -np.inf
        best = np.maximum.reduceat(worth, first)
        near_margin = gain_th - (price[work.index[:, near_now]] * near_use).sum(axis=0)
        bound = float(best.sum()) + float(self._near_extra @ np.maximum(near_margin, 0.0))
        touched = self._touched()
        bound += float(price[touched] @ self._spare[touched])
        bound -= float(np.array(self._prices.floors) @ self._lacking)
        keep = bound - (np.repeat(best, sizes) - worth) > self._now + _LEAST_PROMISE
        # The present paths stay, so that every service has one.
        keep |= paths == np.repeat(self._state.choice[freed], sizes)
        self._paths, self._extra = paths[keep], np.maximum(self._extra[keep], 0.0)

    def _others_near(self) -> IntArray:
        """Return the tasks not freed whose rates bear on a resource that the paths can load."""
        work, choice, paths = self._work, self._state.choice, self._paths
        affected = np.zeros(len(work.pool.resources), dtype=bool)
        affected[work.index[:, paths][work.rate_use[:, paths] > 0.0]] = True
        near = (affected[work.index[:, choice]] & (work.rate_use[:, choice] > 0.0)).any(axis=0)
        near &= work.most[choice] > work.floor
        near[self._freed] = False
        return np.flatnonzero(near)

    def _touched(self) -> BoolArray:
        """Return which resources the program's columns load."""
        work, paths, near_now = self._work, self._paths, self._near_now
        touched = np.zeros(len(work.pool.resources), dtype=bool)
        loads = (work.need[:, paths] > 0.0) | (work.rate_use[:, paths] > 0.0)
        touched[work.index[:, paths][loads]] = True
        touched[work.index[:, near_now][work.rate_use[:, near_now] > 0.0]] = True
        return touched

    def _build(self, instead_of: LinearProgram | None) -> LinearProgram:
        """Return the program of the columns gathered."""
        work, paths, near, freed = self._work, self._paths, self._near, self._freed
        a, th = self._prices.slopes
        is_short = self._state.violation > 0.0
        task = work.task[paths]
        self._owner = np.searchsorted(freed, task)
        """Which of the freed services each path belongs to."""
        touched = np.flatnonzero(self._touched())
        row_of = np.zeros(len(self._spare), dtype=np.int64)
        row_of[touched] = np.arange(len(touched))
        m, n_near, r = len(paths), len(near), len(touched)
        floors = 2 if self._least.any() else 0
        slack = r + floors if is_short else 0
        matrix = np.zeros((2 * m + n_near + slack, r + floors + len(freed)))
        """Transposed: one row for each column of the program."""
        low = work.need[:, paths]
        high = low + work.rate_use[:, paths] * self._extra
        near_load = work.rate_use[:, self._near_now] * self._near_extra
        at, at_near = np.arange(m), 2 * m + np.arange(n_near)
        for k in range(len(low)):
            # Padding is 0 of resource 0.
            rows = row_of[work.index[k, paths]]
            matrix[2 * at, rows] += low[k]
            matrix[2 * at + 1, rows] += high[k]
            matrix[at_near, row_of[work.index[k, self._near_now]]] += near_load[k]
        matrix[np.arange(2 * m), r + floors + np.repeat(self._owner, 2)] = 1.0
        accuracy = work.weight[paths] * work.estimate[paths]
        floor = work.floor[task]
        rates = np.column_stack((floor, floor + self._extra)).ravel()
        cost = np.concatenate(
            (np.repeat(a * accuracy, 2) + th * rates, th * self._near_extra, np.zeros(slack))
        )
        upper = np.ones(len(matrix))
        row_lower = np.concatenate((np.full(r, -np.inf), np.ones(floors + len(freed))))
        row_upper = np.concatenate(
            (self._spare[touched], np.full(floors, np.inf), np.ones(len(freed)))
        )
        # The solver's tolerances are absolute: costs near 1 whatever the number of services.
        largest = float(np.abs(cost).max(initial=0.0))
        self._scale = 1.0 / min(max(largest, _LEAST_COST), 1.0 / _LEAST_COST)
        if floors:
            matrix[: 2 * m, r] = np.repeat(accuracy, 2)
            matrix[: 2 * m, r + 1] = rates / work.unit
            matrix[at_near, r + 1] = self._near_extra / work.unit
            row_lower[r : r + 2] = self._lacking - FIT_TOLERANCE * self._least
            row_lower[r + 1] /= work.unit
        if slack:
            lack = np.arange(2 * m + n_near, len(matrix))
            matrix[lack[:r], np.arange(r)] = -1.0
            if floors:
                least = self._least / (1.0, work.unit)
                matrix[lack[r], r], matrix[lack[r + 1], r + 1] = least
            cost[lack], upper[lack] = -VIOLATION_WEIGHT, np.inf
            excess = np.maximum(self._state.load[touched] - 1.0 - FIT_TOLERANCE, 0.0).sum()
            totals = np.array(self._state.accuracy), np.array(self._state.throughput)
            self._now -= VIOLATION_WEIGHT * float(excess + work.violation(*totals))
        columns, rows = np.nonzero(matrix)
        counts = np.bincount(columns, minlength=len(matrix))
        return LinearProgram(
            cost=cost * self._scale,
            lower=np.zeros(len(matrix)),
            upper=upper,
            indptr=np.concatenate(([0], np.cumsum(counts))),
            indices=rows,
            data=matrix[columns, rows],
            rhs=row_upper,
            row_lower=row_lower,
            instead_of=instead_of,
        )

    def search(self, most_nodes: int) -> State | None:
        """Return the best assignment found that is better than the present one, if any.

        Its value rests on the accuracies estimated, nothing is measured here.

        Args:
            most_nodes: linear programs solved at most.
        """
        best, gain = None, 0.0
        is_open = np.ones(len(self._paths), dtype=bool)
        self._is_open = is_open
        first = np.searchsorted(self._owner, np.arange(len(self._freed)))
        self._duals: list[FloatArray] = []
        """For each program solved what each path brings at its prices, shape (m,), and ..."""
        self._bases: list[float] = []
        """... what the rest brings: together they bound every assignment."""
        stack = [(np.inf, is_open)]
        while stack and self.nodes < most_nodes:
            promised, is_open = stack.pop()
            if promised <= gain + _LEAST_PROMISE:
                continue
            if self._duals:
                brought = np.where(is_open, np.array(self._duals), -np.inf)
                most = np.maximum.reduceat(brought, first, axis=1)
                bound = np.array(self._bases) + most.sum(axis=1)
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
            self._duals.append(profit.max(axis=1))
            self._bases.append(promised - float(np.maximum(profit[is_open], 0.0).sum()))
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
            service = int(np.argmax(np.where(largest < _WHOLE, largest, -1.0)))
            mine = self._owner == service
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
        for service in range(len(self._freed)):
            mine = self._owner == service
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
        work, m, near = self._work, len(self._paths), self._near
        taken = np.flatnonzero(mix >= _WHOLE)
        tasks = self._freed[self._owner[taken]]
        choice, rates = self._state.choice.copy(), self._state.rates.copy()
        choice[tasks] = self._paths[taken]
        at_most = np.clip(self._by_path(outcome.x)[taken, 1] / mix[taken], 0.0, 1.0)
        rates[tasks] = work.floor[tasks] + at_most * self._extra[taken]
        share = np.clip(outcome.x[2 * m : 2 * m + len(near)], 0.0, 1.0)
        rates[near] = work.floor[near] + share * self._near_extra
        return work.state(choice, rates)


def _rate_within(room: FloatArray, use: FloatArray) -> FloatArray:
    """Return the largest rate at which uses fit into the room of their resources, (K, P) both."""
    rate = np.full(room.shape, np.inf)
    np.divide(room, use, out=rate, where=use > 0.0)
    return np.asarray(rate.min(axis=0))
