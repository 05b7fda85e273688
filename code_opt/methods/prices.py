"""Prices of servers, links and memories at which the services share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from code_opt.methods.assignment import Judge
from code_opt.methods.local_search import VIOLATION_WEIGHT, Searcher
from code_opt.methods.settings import Clock
from code_opt.methods.units import Valuation
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.solvers import LinearProgram

_PRICE_ROUNDS, _RESLOPES = 40, 3
"""Most rounds of answers, and of changes of the objective's slopes."""
ALL = slice(None)
_DIVE_ROUNDS = 1
"""Most rounds of new answers after each service that a dive decides."""
_LEAST_ADVANTAGE = 1e-4
"""Advantage of an answer (log reward, over all services) below which a dive ignores it."""
_WHOLE = 1.0 - 1e-6
"""Share of a path in the mix from which the mix counts as this path alone."""


@dataclass(frozen=True)
class Prices:
    """What resources, accuracy and throughput are worth, in units of the log objective."""

    resource: FloatArray
    """Price of each resource's whole capacity, shape (resources,), nowhere negative."""
    slopes: tuple[float, float]
    """d objective / dA and d objective / dTh (per inference/s)."""
    floors: tuple[float, float] = (0.0, 0.0)
    """What A and Th (per inference/s) are worth beyond the slopes for the floors on them."""

    @property
    def gains(self) -> tuple[float, float]:
        """What A and Th (per inference/s) are worth in all."""
        return self.slopes[0] + self.floors[0], self.slopes[1] + self.floors[1]

    def worth(self, work: Searcher, paths: IntArray | slice = ALL) -> FloatArray:
        """Return what paths are worth to their services, resources paid, at their best rates."""
        index, rate_use, need = work.index[:, paths], work.rate_use[:, paths], work.need[:, paths]
        a, th = self.gains
        price = self.resource[index]
        margin = th - (price * rate_use).sum(axis=0)
        floor = work.floor[work.task[paths]]
        worth = a * work.weight[paths] * work.estimate[paths] + th * floor
        worth += (work.most[paths] - floor) * np.maximum(margin, 0.0)
        return np.asarray(worth - (price * need).sum(axis=0))


class PriceMaster:
    """Prices at which the services share the servers: a master program over answers.

    Each column is an answer of one service: a path, run at its floor rate or at its R.
    The master mixes the answers so that all capacities hold; its duals are prices, and
    the services answer those with their best paths (column generation: Dantzig and
    Wolfe 1960; Gilmore and Gomory 1961). Its optimum is the linear relaxation of the
    path formulation, since ``(x, u)`` with ``u <= x`` is a mix of the two rates. The
    reward enters by its slopes at the present totals.
    """

    def __init__(self, judge: Judge, work: Searcher) -> None:
        self._judge, self._work = judge, work
        pool = judge.pool
        self._tasks, self._resources = len(work.units), len(pool.resources)
        self._unit = work.unit
        settings = judge.settings
        self._floors = np.array(
            [settings.min_accuracy or 0.0, (settings.min_throughput or 0.0) / self._unit]
        )
        self._has_floors = bool(self._floors.any())
        n, r = self._tasks, self._resources
        lower = np.concatenate((np.full(r, -np.inf), np.ones(n)))
        upper = np.ones(r + n)
        # One artificial answer per service, so that prices exist from the start: it counts
        # as all accuracy and throughput asked for, at a loss no real answer makes.
        rows, data = [r + np.arange(n)], [np.ones(n)]
        if self._has_floors:
            lower = np.concatenate((lower, self._floors))
            upper = np.concatenate((upper, [np.inf, np.inf]))
            rows += [np.full(n, r + n), np.full(n, r + n + 1)]
            data += [np.ones(n), np.full(n, self._floors[1] + 1.0)]
        self._program = LinearProgram(
            cost=np.full(n, -VIOLATION_WEIGHT),
            lower=np.zeros(n),
            upper=np.ones(n),
            indptr=np.arange(n + 1) * len(rows),
            indices=np.column_stack(rows).ravel(),
            data=np.column_stack(data).ravel(),
            rhs=upper,
            row_lower=lower,
        )
        self._paths: IntArray = np.empty(0, dtype=np.int64)
        """The paths in the master; the i-th one's columns are n + 2 i (at its floor rate) and
        the next one (at R)."""
        self._is_in = np.zeros(len(work.task), dtype=bool)
        self._upper = np.empty(0)
        """Upper bound of each path's columns."""
        self._set_slopes(
            float(work.weights @ np.maximum.reduceat(work.estimate, work.first[:-1])),
            float(np.maximum.reduceat(work.most, work.first[:-1]).sum()) / 2.0,
        )
        self._price_now = np.zeros(r)
        self._share = np.zeros(n)
        self._totals_price = np.zeros(2)
        cheapest = work.best_of_each(-work.rate_use.sum(axis=0))
        self._add(np.unique(np.concatenate((work.best_of_each(work.estimate), cheapest))))

    def _set_slopes(self, accuracy: float, throughput: float) -> None:
        """Take d objective / dA and d objective / dTh (per unit of rate), in the log domain."""
        self._at = max(accuracy, 1e-6), max(throughput, 1e-6 * self._unit)
        slope_a, slope_th = self._work.slopes(accuracy, throughput)
        self._slopes = slope_a, slope_th * self._unit

    def _add(self, paths: IntArray) -> None:
        """Add both answers of each path that is not in the master yet."""
        work, n, r = self._work, self._tasks, self._resources
        new = paths[~self._is_in[paths]]
        m = len(new)
        if not m:
            return
        self._is_in[new] = True
        task = work.task[new]
        at_floor = work.need[:, new].T
        at_most = at_floor + (work.rate_use[:, new] * (work.most[new] - work.floor[task])).T
        rows = [work.index[:, new].T, (r + task)[:, None]]
        ones = np.ones((m, 1))
        low, high = [at_floor, ones], [at_most, ones]
        if self._has_floors:
            rows.append(np.broadcast_to([r + n, r + n + 1], (m, 2)))
            accuracy = work.weight[new] * work.estimate[new]
            low.append(np.column_stack((accuracy, work.floor[task] / self._unit)))
            high.append(np.column_stack((accuracy, work.most[new] / self._unit)))
        row = np.concatenate(rows, axis=1)
        values = np.stack((np.concatenate(low, axis=1), np.concatenate(high, axis=1)), axis=1)
        # Entries of 0 are left out, padding is among them.
        used = values != 0.0
        counts = used.sum(axis=2).ravel()
        self._program.add_columns(
            self._profits(new),
            np.ones(2 * m),
            np.cumsum(counts) - counts,
            np.broadcast_to(row[:, None, :], values.shape)[used],
            values[used],
        )
        self._paths = np.concatenate((self._paths, new))
        self._upper = np.concatenate((self._upper, np.ones(m)))

    def _profits(self, paths: IntArray) -> FloatArray:
        """Return what the objective gains by the two answers of each path, alternating."""
        a, th = self._slopes
        work = self._work
        accuracy = a * work.weight[paths] * work.estimate[paths]
        rates = np.column_stack((work.floor[work.task[paths]], work.most[paths]))
        return np.asarray((accuracy[:, None] + th / self._unit * rates).ravel())

    def _solve(self) -> FloatArray:
        """Solve the master; return its columns' values and take its duals."""
        outcome = self._program.solve()
        assert outcome is not None  # the artificial answers always fit
        r, n = self._resources, self._tasks
        self._price_now = np.maximum(outcome.row_dual[:r], 0.0)  # negative ones are rounding
        self._share = outcome.row_dual[r : r + n]
        if self._has_floors:
            self._totals_price = outcome.row_dual[r + n : r + n + 2]
        return outcome.x

    def _tangent_at_zero(self) -> float:
        """Return the tangent that the slopes belong to, at no accuracy and no throughput.

        The objective is concave, so nowhere above this plus the slopes times the totals.
        """
        (a, th), (slope_a, slope_th) = self._at, self._slopes
        value = float(self._work.value(np.array(a), np.array(th)))
        return value - slope_a * a - slope_th * th / self._unit

    def _improve(self, advantage: float, excluded: BoolArray | None = None) -> bool:
        """Add the services' answers to the master's prices; tell whether there were better ones.

        Args:
            advantage: least gain of an answer over what the service has.
            excluded: answers that are not wanted, shape (P,).
        """
        worth = self.prices.worth(self._work)
        if excluded is not None:
            worth[excluded] = -np.inf
        best = self._work.best_of_each(worth)
        better = best[(worth[best] - self._share > advantage) & ~self._is_in[best]]
        self._add(better)
        return len(better) > 0

    def converge(self, clock: Clock) -> None:
        """Let the services answer prices until no answer improves the master."""
        reslopes = 0
        for _ in range(_PRICE_ROUNDS):
            x = self._solve()
            if clock.is_over:
                break
            if self._improve(1e-5 / self._tasks):
                continue
            # The slopes may swing between two corners: a few turns are enough for prices.
            reslopes += 1
            if reslopes > _RESLOPES or not self._reslope(x):
                break

    @property
    def prices(self) -> Prices:
        """Present prices and slopes."""
        a, th = self._slopes
        least_a, least_th = self._totals_price.tolist()
        return Prices(self._price_now, (a, th / self._unit), (-least_a, -least_th / self._unit))

    def answer_jointly(self) -> bool:
        """Let input groups find new options at the present prices; tell whether some are better.

        If so, the judge has new units, for which search and master must be made anew.
        """
        units, prices = self._work.units, self.prices
        at = Valuation(prices.resource, *prices.gains)
        found = tuple(unit.answers(at) for unit in units)
        gains = [
            new.worth(at).max() - old.worth(at).max()
            for old, new in zip(units, found, strict=True)
            if new is not old
        ]
        if max(gains, default=0.0) <= _LEAST_ADVANTAGE / self._tasks:
            return False
        self._judge.units = found
        return True

    def bound(self) -> tuple[float, FloatArray]:
        """Return a bound of the objective at the present prices, and what each path takes off it.

        The objective is concave and lies below its tangent at the totals of the slopes, and
        any prices bound the tangent (Lagrangian duality): by the sum of prices and of what
        the services' best answers are worth. An assignment with path p is worth at most the
        bound less the second result's entry p. Both rest on the accuracies estimated now.
        """
        work = self._work
        worth = self.prices.worth(work)
        best = np.maximum.reduceat(worth, work.first[:-1])
        value = self._tangent_at_zero() + float(best.sum() + self._price_now.sum())
        return value + float(self._totals_price @ self._floors), best[work.task] - worth

    def _reslope(self, x: FloatArray) -> bool:
        """Take the slopes of the objective at the master's totals; tell whether they moved."""
        work = self._work
        at_floor, at_most = x[self._tasks :: 2], x[self._tasks + 1 :: 2]
        accuracy = work.weight[self._paths] * work.estimate[self._paths] @ (at_floor + at_most)
        rates = work.floor[work.task[self._paths]] @ at_floor + work.most[self._paths] @ at_most
        before = self._slopes, self._at
        self._set_slopes(float(accuracy), float(rates))
        moved = max(
            abs(s / max(t, 1e-12) - 1.0) for s, t in zip(self._slopes, before[0], strict=True)
        )
        if moved < 5e-3:
            self._slopes, self._at = before
            return False
        artificial = np.full(self._tasks, -VIOLATION_WEIGHT)
        self._program.set_cost(np.concatenate((artificial, self._profits(self._paths))))
        return True

    def _open(self, open_: BoolArray) -> None:
        """Let only some of the master's paths be used."""
        upper = np.where(open_, 1.0, 0.0)
        at = np.flatnonzero(upper != self._upper)
        columns = self._tasks + 2 * at
        self._program.set_upper(np.concatenate((columns, columns + 1)), np.tile(upper[at], 2))
        self._upper = upper

    def dive(self, clock: Clock) -> IntArray:
        """Return an assignment: fix the service whose mix is nearest to one path, solve, repeat.

        The undecided services answer the new prices after every decision. A decision after
        which the capacities cannot hold is taken back, and its path closed to this dive.

        Args:
            clock: ends the dive early; the services still undecided take their best answers.
        """
        work, n = self._work, self._tasks
        choice = np.full(n, -1)
        closed = np.zeros(len(work.task), dtype=bool)
        last: IntArray = np.empty(0, dtype=np.int64)
        returns, was_short, at_once = n, False, n
        while not clock.is_over:
            for turn in range(_DIVE_ROUNDS + 1):
                fixed = choice[work.task[self._paths]]
                self._open(((fixed < 0) | (fixed == self._paths)) & ~closed[self._paths])
                x = self._solve()
                decided = choice[work.task] >= 0
                if turn == _DIVE_ROUNDS or not self._improve(
                    _LEAST_ADVANTAGE / n, decided | closed
                ):
                    break
            is_short = bool(x[:n].max() > 1e-6)
            if is_short and not was_short and len(last) and returns > 0:
                at_fault = self._near_shortage(last, x[:n] > 1e-6)
                if len(at_fault) in (0, len(last)) and len(last) > 1:
                    at_fault, at_once = last, 1  # any of them: try the clearest one alone
                else:
                    at_fault = at_fault if len(at_fault) else last
                    closed[at_fault] = True
                choice[work.task[at_fault]] = -1
                last, returns = last[:0], returns - 1
                continue
            was_short = is_short
            self._reslope(x)
            mix = x[n::2] + x[n + 1 :: 2]
            whole = np.flatnonzero((mix >= _WHOLE) & (choice[work.task[self._paths]] < 0))
            choice[work.task[self._paths[whole]]] = self._paths[whole]
            undecided = np.flatnonzero((choice[work.task[self._paths]] < 0) & (self._upper > 0.0))
            if not len(undecided):
                break
            # Half of the services are decided at once, those with the largest shares.
            open_services = int((choice < 0).sum())
            order = undecided[np.argsort(-mix[undecided], kind="stable")]
            order = order[np.sort(np.unique(work.task[self._paths[order]], return_index=True)[1])]
            last = self._paths[order[: max(1, min(at_once, open_services // 2))]]
            choice[work.task[last]] = last
            at_once = n
        # So does a service whose paths in the master are all closed.
        worth = np.where(closed, -np.inf, self.prices.worth(work))
        return np.where(choice < 0, work.best_of_each(worth), choice)

    def _near_shortage(self, paths: IntArray, short: BoolArray) -> IntArray:
        """Return those of the paths that load a resource which a service in need could use."""
        near = np.zeros(self._resources, dtype=bool)
        for task in np.flatnonzero(short).tolist():
            near[self._work.units[task].resources] = True
        loads = near[self._work.index[:, paths]] & (self._work.need[:, paths] > 0.0)
        return paths[loads.any(axis=0)]
