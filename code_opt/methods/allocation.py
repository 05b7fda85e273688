"""Rates for fixed paths: the linear program that all methods share.

    max sum_t r[t]   subject to   floor[t] <= r[t] <= demand[t],
                                  sum_t use[t,i] r[t] <= 1 for every server and link i.

The tasks of an input group have one rate, which counts once for each of them; their use is
that of all of them together, shared prefixes once. With the paths fixed the average accuracy
is fixed too, and every reward is nondecreasing in the throughput, so these rates are the best
for any objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray
from code_opt.result import TOLERANCE
from code_opt.solvers import LinearProgram, LpOutcome

CAPACITY_SLACK = 5e-7
"""Relative excess of a capacity tolerated where a solver's own tolerance let it pass."""
_FACE_TOLERANCE = 1e-9
_LEAST_USE = 1e-300
"""A use so small limits no rate."""


@dataclass(frozen=True)
class Allocation:
    """Rates [inferences/s] of all tasks and the marginal throughput of each resource."""

    rates: FloatArray
    throughput: float
    price: FloatArray
    """d Th / d capacity of resource i, in inferences/s per full capacity."""
    group_throughput: FloatArray
    """Rate times number of tasks of each group [inferences/s]."""


class RateAllocator:
    """The rate program of one pool, kept warm while paths change."""

    def __init__(self, pool: PathPool) -> None:
        groups = pool.groups
        self._columns = [np.flatnonzero(g.is_rate_resource) for g in groups]
        self._rows = [g.resources[c].tolist() for g, c in zip(groups, self._columns, strict=True)]
        self._floor = np.array([g.floor for g in groups])
        self._demand = np.array([g.demand for g in groups])
        self._size = np.array([len(g.tasks) for g in groups])
        self._group_of = np.empty(len(pool.tasks), dtype=np.int64)
        for number, group in enumerate(groups):
            self._group_of[list(group.tasks)] = number
        most = np.array([pool.tasks[g.tasks[0]].most_rate.max(initial=0.0) for g in groups])
        self._most = np.where(most > 0.0, most, 1.0)
        """The most that each group can reach, whatever its paths."""
        # Rates are scaled by the most that the present paths allow: columns lie in [0, 1].
        self._unit = self._most.copy()
        sizes = [len(rows) for rows in self._rows]
        indptr = np.concatenate(([0], np.cumsum(sizes)))
        indices = np.concatenate([np.array(rows, dtype=np.int64) for rows in self._rows])
        n = len(groups)
        self._lp = LinearProgram(
            cost=np.ones(n),
            lower=np.zeros(n),
            upper=np.ones(n),
            indptr=indptr,
            indices=indices,
            # Every entry starts nonzero: HiGHS drops explicit zeros from the matrix.
            data=np.ones(len(indices)),
            rhs=np.ones(len(pool.resources)),
        )
        self._current: list[FloatArray | None] = [None] * n
        self._resources = len(pool.resources)
        self.solves = 0

    def allocate(self, uses: Sequence[FloatArray]) -> Allocation | None:
        """Return the best rates, or None where the floors do not fit.

        Args:
            uses: for each group the use of its k resources by its paths, shape (k,).
        """
        outcome = self._solve(uses)
        return None if outcome is None else self._allocation(outcome.x * self._unit, outcome)

    def allocate_canonical(self, uses: Sequence[FloatArray]) -> Allocation | None:
        """Return the best rates, ties broken in favour of the tasks listed first.

        Of all rates of greatest throughput these have the largest sum of
        ``(n - i) r[i] / unit[i]``, i being the place in the file (of a group: its first
        task's) and unit the largest rate. The tie is settled on the optimal face itself
        (columns with a reduced cost and rows with a dual are held), so no throughput is given
        up for it. Floors that fit only within ``CAPACITY_SLACK`` are accepted.
        """
        outcome = self._solve(uses)
        slack = 0.0
        if outcome is None:
            slack = CAPACITY_SLACK
            self._set_capacity(1.0 + slack)
            outcome = self._solve(uses)
            if outcome is None:
                self._set_capacity(1.0)
                return None
        best = outcome
        lower, upper = self._bounds
        held_columns = np.flatnonzero(np.abs(best.column_dual) > _FACE_TOLERANCE).tolist()
        held_rows = np.flatnonzero(np.abs(best.row_dual) > _FACE_TOLERANCE).tolist()
        for column in held_columns:
            self._lp.set_bounds(column, best.x[column], best.x[column])
        for row in held_rows:
            self._lp.set_row_bounds(row, 1.0 + slack, 1.0 + slack)
        n = len(self._unit)
        preference = np.arange(n, 0, -1) / n * self._unit / self._most
        self._lp.set_cost(preference / preference.max(initial=1e-300))
        tied = self._lp.solve()
        self._lp.set_cost(self._cost)
        for column in held_columns:
            self._lp.set_bounds(column, float(lower[column]), float(upper[column]))
        self._set_capacity(1.0)
        x = best.x if tied is None else tied.x
        rates = np.clip(x * self._unit, self._floor, np.maximum(self._demand, self._floor))
        if (self._load(uses, rates) > 1.0 + TOLERANCE / 2.0).any():
            rates = self._rescaled(uses, 1.0 + slack)
        return self._allocation(rates, best)

    def _load(self, uses: Sequence[FloatArray], rates: FloatArray) -> FloatArray:
        """Return the load of every resource that is paid per inference, shape (resources,)."""
        load = np.zeros(self._resources)
        for use, columns, rows, rate in zip(uses, self._columns, self._rows, rates, strict=True):
            load[rows] += use[columns] * rate
        return load

    def _rescaled(self, uses: Sequence[FloatArray], capacity: float) -> FloatArray:
        """Return the best rates, solved in units of what these paths can reach.

        The program that is kept warm measures rates by the best path of each group. On a path
        that is slower by many orders of magnitude the solver's tolerance would overload it.
        """
        own = [use[columns] for use, columns in zip(uses, self._columns, strict=True)]
        with np.errstate(divide="ignore"):
            reach = 1.0 / np.array([amounts.max(initial=0.0) for amounts in own])
        most = np.maximum(self._demand, self._floor)
        unit = np.maximum(np.minimum(reach, most), self._floor)
        unit = np.where(unit > 0.0, unit, 1.0)
        worth = self._size * unit
        program = LinearProgram(
            cost=worth / worth.max(initial=1e-300),
            lower=self._floor / unit,
            upper=most / unit,
            indptr=np.concatenate(([0], np.cumsum([len(rows) for rows in self._rows]))),
            indices=np.concatenate([np.array(rows, dtype=np.int64) for rows in self._rows]),
            data=np.concatenate([a * u for a, u in zip(own, unit, strict=True)]),
            rhs=np.full(self._resources, capacity),
        )
        outcome = program.solve()
        x = np.minimum(1.0, most / unit) if outcome is None else outcome.x
        rates = np.clip(x * unit, self._floor, most)
        # What is left of the tolerance: rates above their floors give way.
        load = float(self._load(uses, rates).max(initial=0.0))
        return np.asarray(np.maximum(rates / max(load, 1.0), self._floor))

    def _allocation(self, rates: FloatArray, outcome: LpOutcome) -> Allocation:
        """Return the rates of all tasks, given those of the groups."""
        of_task = rates[self._group_of]
        price = outcome.row_dual * float((self._size * self._unit).max())
        return Allocation(of_task, float(of_task.sum()), price, rates * self._size)

    def _set_capacity(self, capacity: float) -> None:
        for row in range(self._resources):
            self._lp.set_row_bounds(row, -np.inf, capacity)

    @property
    def _cost(self) -> FloatArray:
        """What the columns add to the throughput, as a share of the largest."""
        worth = self._size * self._unit
        return np.asarray(worth / worth.max(initial=1e-300))

    @property
    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        """Least and largest rate of each group in its unit."""
        return self._floor / self._unit, np.maximum(self._demand, self._floor) / self._unit

    def _solve(self, uses: Sequence[FloatArray]) -> LpOutcome | None:
        is_new = False
        for group, use in enumerate(uses):
            known = self._current[group]
            if known is use:
                continue
            amounts = use[self._columns[group]]
            most = min(1.0 / max(amounts.max(initial=0.0), _LEAST_USE), self._demand[group])
            self._unit[group] = unit = most if most > 0.0 else self._most[group]
            for row, amount in zip(self._rows[group], (amounts * unit).tolist(), strict=True):
                self._lp.set_coefficient(row, group, amount)
            self._current[group] = use
            is_new = True
        lower, upper = self._bounds
        if is_new:
            for group in range(len(uses)):
                self._lp.set_bounds(group, float(lower[group]), float(upper[group]))
            self._lp.set_cost(self._cost)
        if (lower > 1.0 + 2.0 * CAPACITY_SLACK).any():
            return None  # beyond what its own path can carry
        self.solves += 1
        return self._lp.solve()
