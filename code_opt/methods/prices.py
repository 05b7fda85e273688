"""Prices of servers, links and memories at which the services share them."""

from __future__ import annotations

import numpy as np

from code_opt.methods.assignment import Judge
from code_opt.methods.local_search import TIE_WEIGHT, VIOLATION_WEIGHT, Searcher
from code_opt.methods.settings import Clock
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.reward import log_slope
from code_opt.solvers import LinearProgram

_PRICE_ROUNDS, _RESLOPES = 40, 3
"""Most rounds of answers, and of changes of the objective's slopes."""


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
        self._tasks, self._resources = len(pool.tasks), len(pool.resources)
        self._unit = max(float(work.most.max(initial=0.0)), 1e-12)
        settings = judge.settings
        floors = [settings.min_accuracy or 0.0, (settings.min_throughput or 0.0) / self._unit]
        rows = self._resources + self._tasks + 2
        lower = np.concatenate((np.full(self._resources, -np.inf), np.ones(self._tasks), floors))
        upper = np.concatenate((np.ones(self._resources + self._tasks), [np.inf, np.inf]))
        # One artificial answer per service, so that prices exist from the start: it counts
        # as all accuracy and throughput asked for, at a loss no real answer makes.
        n, r = self._tasks, self._resources
        self._program = LinearProgram(
            cost=np.full(n, -VIOLATION_WEIGHT),
            lower=np.zeros(n),
            upper=np.ones(n),
            indptr=np.arange(n + 1) * 3,
            indices=np.column_stack(
                (r + np.arange(n), np.full(n, rows - 2), np.full(n, rows - 1))
            ).ravel(),
            data=np.column_stack((np.ones(n), np.ones(n), np.full(n, floors[1] + 1.0))).ravel(),
            rhs=upper,
            row_lower=lower,
        )
        self._columns: dict[int, int] = {}
        """Path number -> its first column (floor rate); the next one runs at R."""
        self._slopes = self._slopes_at(
            float(pool.weights @ np.maximum.reduceat(work.estimate, work.first[:-1])),
            float(np.maximum.reduceat(work.most, work.first[:-1]).sum()) / 2.0,
        )
        cheapest = self._best_answers(-work.rate_use.sum(axis=1))
        self._add(np.unique(np.concatenate((self._best_answers(work.estimate), cheapest))))
        self._x = np.zeros(0)
        self._price = np.zeros(r)
        self._totals_price = np.zeros(2)

    def _slopes_at(self, accuracy: float, throughput: float) -> tuple[float, float]:
        """Return d objective / dA and d objective / dTh (per unit of rate), in the log domain."""
        a, th = max(accuracy, 1e-6), max(throughput, 1e-6 * self._unit)
        objective = self._judge.settings.objective
        if objective == "throughput":
            return TIE_WEIGHT / a, self._unit / th
        if objective == "accuracy":
            return 1.0 / a, TIE_WEIGHT * self._unit / th
        reward = self._judge.pool.instance.reward
        return log_slope(reward.accuracy, a), log_slope(reward.throughput, th) * self._unit

    def _add(self, paths: IntArray) -> None:
        """Add both answers of each path that is not in the master yet."""
        work, r, first = self._work, self._resources, self._tasks
        for path in paths.tolist():
            if path in self._columns:
                continue
            task = int(work.task[path])
            self._columns[path] = first + 2 * len(self._columns)
            owner = self._judge.pool.tasks[task]
            is_rate = owner.is_rate_resource
            use = owner.paths.use[path - int(work.first[task])]
            tail = r + self._tasks
            rows = np.concatenate((owner.resources, [r + task, tail, tail + 1]))
            for rate in (work.floor[task], work.most[path]):
                amounts = np.where(is_rate, use * rate, use)
                totals = [1.0, work.weight[path] * work.estimate[path], rate / self._unit]
                self._program.add_column(
                    self._profit(path, float(rate)), 1.0, rows, np.concatenate((amounts, totals))
                )

    def _profit(self, path: int, rate: float) -> float:
        a, th = self._slopes
        work = self._work
        return float(a * work.weight[path] * work.estimate[path] + th * rate / self._unit)

    def _best_answers(self, worth: FloatArray) -> IntArray:
        """Return for each task its path of greatest worth (the first of equals)."""
        work = self._work
        best = np.maximum.reduceat(worth, work.first[:-1])
        hits = np.flatnonzero(worth == best[work.task])
        _, index = np.unique(work.task[hits], return_index=True)
        return np.asarray(hits[index])

    def converge(self, clock: Clock) -> None:
        """Let the services answer prices until no answer improves the master."""
        reslopes = 0
        for _ in range(_PRICE_ROUNDS):
            outcome = self._program.solve()
            assert outcome is not None  # the artificial answers always fit
            self._x = outcome.x
            dual = outcome.row_dual
            r, n = self._resources, self._tasks
            self._price = np.maximum(dual[:r], 0.0)  # negative ones are rounding
            share = dual[r : r + n]
            self._totals_price = dual[r + n : r + n + 2]
            worth = self._worth(self._price)
            best = self._best_answers(worth)
            gain = worth[best] - share
            better = best[gain > 1e-5 / n]
            better = np.array([p for p in better.tolist() if p not in self._columns], dtype=int)
            if clock.is_over:
                break
            if len(better):
                self._add(better)
                continue
            # The slopes may swing between two corners: a few turns are enough for prices.
            reslopes += 1
            if reslopes > _RESLOPES or not self._reslope():
                break

    def _worth(self, price: FloatArray) -> FloatArray:
        """Return what each path is worth to its service at the prices of the resources."""
        work = self._work
        a, th = self._slopes[0] - self._totals_price[0], self._slopes[1] - self._totals_price[1]
        margin = th / self._unit - (price[work.index] * work.rate_use).sum(axis=1)
        floor = work.floor[work.task]
        worth = a * work.weight * work.estimate
        worth += th / self._unit * floor + (work.most - floor) * np.maximum(margin, 0.0)
        return np.asarray(worth - (price[work.index] * work.need).sum(axis=1))

    def answers(self, rng: np.random.Generator) -> IntArray:
        """Return the services' best paths at prices that are off by a random factor."""
        price = self._price + self._price.mean() * 0.1
        return self._best_answers(self._worth(price * np.exp(rng.normal(0.0, 0.7, len(price)))))

    def _reslope(self) -> bool:
        """Take the slopes of the objective at the master's totals; tell whether they moved."""
        work = self._work
        accuracy = throughput = 0.0
        for path, column in self._columns.items():
            at_floor, at_most = float(self._x[column]), float(self._x[column + 1])
            if at_floor + at_most > 0.0:
                accuracy += work.weight[path] * work.estimate[path] * (at_floor + at_most)
                throughput += work.floor[work.task[path]] * at_floor + work.most[path] * at_most
        slopes = self._slopes_at(accuracy, throughput)
        moved = max(abs(s / max(t, 1e-12) - 1.0) for s, t in zip(slopes, self._slopes, strict=True))
        if moved < 5e-3:
            return False
        self._slopes = slopes
        cost = np.full(self._tasks + 2 * len(self._columns), -VIOLATION_WEIGHT)
        for path, column in self._columns.items():
            cost[column] = self._profit(path, float(work.floor[work.task[path]]))
            cost[column + 1] = self._profit(path, float(work.most[path]))
        self._program.set_cost(cost)
        return True

    def dive(self, present: IntArray | None = None, freed: IntArray | None = None) -> IntArray:
        """Return an assignment: fix the service whose mix is nearest to one path, solve, repeat.

        Args:
            present: an assignment to keep for the services that are not freed.
            freed: the services that may change (default all).
        """
        work = self._work
        choice = np.full(self._tasks, -1)
        if present is not None and freed is not None:
            self._add(present)
            keep = np.ones(self._tasks, dtype=bool)
            keep[freed] = False
            choice[keep] = present[keep]
        paths = np.fromiter(self._columns, dtype=np.int64)
        columns = np.fromiter(self._columns.values(), dtype=np.int64)
        owner = work.task[paths]
        both = np.concatenate((columns, columns + 1))
        while True:
            fixed = choice[owner]
            open_ = (fixed < 0) | (fixed == paths)
            self._program.set_upper(both, np.tile(np.where(open_, 1.0, 0.0), 2))
            outcome = self._program.solve()
            assert outcome is not None
            share = np.where(open_, outcome.x[columns] + outcome.x[columns + 1], -1.0)
            undecided = np.flatnonzero(choice[owner] < 0)
            if not len(undecided):
                break
            order = undecided[np.argsort(-share[undecided], kind="stable")]
            for rank, i in enumerate(order.tolist()):
                if rank > 0 and share[i] < 1.0 - 1e-6:
                    break
                if choice[owner[i]] < 0:
                    choice[owner[i]] = paths[i]
        self._program.set_upper(both, np.ones(len(both)))
        return choice

    def neighbourhood(self, rng: np.random.Generator) -> IntArray:
        """Return a few services around a random server or link that is paid for."""
        pool = self._judge.pool
        size = min(self._tasks, 3 + self._tasks // 8, 12)
        weight = self._price / self._price.sum() if self._price.sum() > 0.0 else None
        centre = int(rng.choice(self._resources, p=weight))
        near = [t for t, task in enumerate(pool.tasks) if centre in task.resources]
        near = rng.permutation(near)[:size].tolist() if near else []
        others = [t for t in rng.permutation(self._tasks).tolist() if t not in near]
        return np.array(sorted(near + others[: size - len(near)]))
