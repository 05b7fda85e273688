"""Rates for fixed paths: the linear program that all methods share.

With the paths fixed the average accuracy is fixed too, and every reward is nondecreasing in the
throughput, so the rates of largest throughput (:mod:`formulations.rates`) are best for any
objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from code_opt.core.objective import CAPACITY_SLACK
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.result import TOLERANCE
from code_opt.solvers import LinearProgram, LpOutcome
from formulations.rates import RateData, build_rate_program

_LEAST_USE = 1e-300
"""A use so small limits no rate."""
_FACE_TOLERANCE = 1e-9
"""Duals and reduced costs above this are not 0: what they belong to is held."""


@dataclass(frozen=True)
class Allocation:
    """Rates [inferences/s] of all tasks and the marginal throughput of each resource."""

    rates: FloatArray
    throughput: float
    dual: FloatArray
    """d Th / d capacity of resource i, in inferences/s per full capacity."""
    group_throughput: FloatArray
    """Rate times number of tasks of each group [inferences/s]."""


class GroupArrays:
    """The G groups of a pool, each with K resources at most.

    What an assignment uses is an array of shape (G, K): for each group the use of its resources by
    one inference of all its tasks. Padding is 0 of resource 0.
    """

    def __init__(self, pool: PathPool) -> None:
        groups = pool.groups
        self.resources = len(pool.resources)
        width = max(1, *(len(g.resources) for g in groups))
        self.resource = np.zeros((len(groups), width), dtype=np.int64)
        """Resource of each entry, shape (G, K)."""
        self.is_rate = np.zeros((len(groups), width), dtype=bool)
        """Whether it is paid per inference (servers and links), shape (G, K)."""
        for g, group in enumerate(groups):
            self.resource[g, : len(group.resources)] = group.resources
            self.is_rate[g, : len(group.resources)] = group.is_rate_resource
        self.size = np.array([float(len(g.tasks)) for g in groups])
        """Tasks of each group, shape (G,)."""
        self.floor = np.array([g.floor for g in groups])
        self.demand = np.array([g.demand for g in groups])
        self.of_task = np.empty(len(pool.tasks), dtype=np.int64)
        """Group of each task, shape (T,)."""
        for g, group in enumerate(groups):
            self.of_task[list(group.tasks)] = g

    def load(self, use: FloatArray, rates: FloatArray) -> FloatArray:
        """Return the load of every resource as a share of its capacity, shape (I,).

        Args:
            use: of an assignment, shape (G, K).
            rates: of the groups [inferences/s], shape (G,).
        """
        amounts = use * np.where(self.is_rate, rates[:, None], 1.0)
        loads = np.bincount(self.resource.ravel(), amounts.ravel(), minlength=self.resources)
        return np.asarray(loads, dtype=np.float64)

    def profit(self, duals: FloatArray, groups: IntArray, use: FloatArray) -> FloatArray:
        """Return the most that groups bring beyond what they pay, for bounds on the throughput.

        At any duals pi >= 0 of the capacities, weak duality bounds the throughput of the rate
        program by sum_i pi[i] + sum_g max over r of (m[g] - sum_i pi[i] use[g,i]) r, with r from
        the floor of group g to the most that its demand and the capacities allow (m[g]: number
        of its tasks). These are the terms of the second sum.

        Args:
            duals: D of them [inferences/s per full capacity], shape (D, I).
            groups: numbers of n groups, shape (n,).
            use: what one inference of each uses, shape (n, K).

        Returns:
            Inferences/s, shape (D, n).
        """
        used = np.where(self.is_rate[groups], use, 0.0)
        largest = used.max(axis=1)
        with np.errstate(divide="ignore"):
            most = np.where(largest > 0.0, (1.0 + CAPACITY_SLACK) / largest, np.inf)
        floor = self.floor[groups]
        most = np.maximum(np.minimum(most, self.demand[groups]), floor)
        paid = np.einsum("dnk,nk->dn", duals[:, self.resource[groups]], used)
        gain = self.size[groups] - paid
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(gain > 0.0, gain * most, gain * floor))


class RateAllocator:
    """The rate program of one pool, kept warm while paths change."""

    def __init__(self, pool: PathPool) -> None:
        self.groups = groups = GroupArrays(pool)
        most = np.array([pool.tasks[g.tasks[0]].most_rate.max(initial=0.0) for g in pool.groups])
        self._reach = np.where(most > 0.0, most, 1.0)
        """Largest rate of each group on any path [inferences/s], shape (G,)."""
        self._unit = self._reach
        """Rates are measured by the most that the present paths allow, shape (G,)."""
        self._most = np.maximum(groups.demand, groups.floor)
        # Every use starts at 1 / unit: solvers drop explicit zeros.
        use = np.where(groups.is_rate, 1.0 / self._unit[:, None], 0.0)
        self._lp = LinearProgram(build_rate_program(self._data(self._unit, use)))
        self._current = np.full(groups.resource.shape, np.nan)
        """Coefficients that the program holds now, shape (G, K)."""

    def _data(self, unit: FloatArray, use: FloatArray) -> RateData:
        """Return what the program is made of, rates in some unit."""
        groups = self.groups
        group, place = np.nonzero(groups.is_rate)
        return RateData(
            size=groups.size,
            floor=groups.floor,
            demand=self._most,
            unit=unit,
            group=group,
            resource=groups.resource[group, place],
            use=use[group, place],
            resources=groups.resources,
        )

    def allocate(self, use: FloatArray) -> Allocation | None:
        """Return the best rates, or None where the floors do not fit.

        Args:
            use: of the assignment, shape (G, K), see :class:`GroupArrays`.
        """
        outcome = self._solve(use)
        return None if outcome is None else self._allocation(outcome.x * self._unit, outcome)

    def allocate_canonical(self, use: FloatArray) -> Allocation | None:
        """Return the best rates, ties broken in favour of the tasks listed first.

        Of all rates of greatest throughput these have the largest sum of
        ``(n - i) r[i] / unit[i]``, i being the place in the file (of a group: its first
        task's) and unit the largest rate. The tie is settled on the optimal face itself
        (columns with a reduced cost and rows with a dual are held), so no throughput is given
        up for it. Floors that fit only within ``CAPACITY_SLACK`` are accepted.
        """
        outcome = self._solve(use)
        slack = 0.0
        if outcome is None:
            slack = CAPACITY_SLACK
            self._set_capacity(1.0 + slack)
            outcome = self._solve(use)
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
        preference = np.arange(n, 0, -1) / n * self._unit / self._reach
        self._lp.set_cost(preference / preference.max(initial=1e-300))
        tied = self._lp.solve()
        self._lp.set_cost(self._cost)
        for column in held_columns:
            self._lp.set_bounds(column, float(lower[column]), float(upper[column]))
        self._set_capacity(1.0)
        x = best.x if tied is None else tied.x
        rates = np.clip(x * self._unit, self.groups.floor, self._most)
        # What a solver's tolerance leaves above a capacity: rates above their floors give way.
        load = self.groups.load(np.where(self.groups.is_rate, use, 0.0), rates).max(initial=0.0)
        if load > 1.0 + TOLERANCE / 2.0:
            rates = np.maximum(rates / load, self.groups.floor)
        return self._allocation(rates, best)

    def _allocation(self, rates: FloatArray, outcome: LpOutcome) -> Allocation:
        """Return the rates of all tasks, given those of the groups."""
        of_task = rates[self.groups.of_task]
        dual = outcome.row_dual * float((self.groups.size * self._unit).max())
        return Allocation(of_task, float(of_task.sum()), dual, rates * self.groups.size)

    def _set_capacity(self, capacity: float) -> None:
        for row in range(self.groups.resources):
            self._lp.set_row_bounds(row, -np.inf, capacity)

    @property
    def _cost(self) -> FloatArray:
        """What the columns add to the throughput, as a share of the largest."""
        gain = self.groups.size * self._unit
        return np.asarray(gain / gain.max(initial=1e-300))

    @property
    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        """Least and largest rate of each group in its unit."""
        return self.groups.floor / self._unit, self._most / self._unit

    def _solve(self, use: FloatArray) -> LpOutcome | None:
        groups = self.groups
        largest = np.where(groups.is_rate, use, 0.0).max(axis=1)
        most = np.minimum(1.0 / np.maximum(largest, _LEAST_USE), groups.demand)
        unit = np.where(most > 0.0, most, self._reach)
        coefficients = np.where(groups.is_rate, use * unit[:, None], np.nan)
        group, place = np.nonzero((coefficients != self._current) & groups.is_rate)
        for g, row, value in zip(
            group.tolist(),
            groups.resource[group, place].tolist(),
            coefficients[group, place].tolist(),
            strict=True,
        ):
            self._lp.set_coefficient(row, g, value)
        is_new = np.flatnonzero(unit != self._unit).tolist()
        self._current, self._unit = coefficients, unit
        lower, upper = self._bounds
        for g in is_new:
            self._lp.set_bounds(g, float(lower[g]), float(upper[g]))
        if is_new:
            self._lp.set_cost(self._cost)
        if (lower > 1.0 + 2.0 * CAPACITY_SLACK).any():
            return None  # beyond what its own path can carry
        return self._lp.solve()
