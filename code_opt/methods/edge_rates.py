"""The throughput of the whole edge while one task changes its path and all others keep theirs.

The rate program (:mod:`code_opt.methods.allocation`) is solved for a path only where bounds leave
it open. At any prices y >= 0 of the capacities, weak duality bounds its value by

    sum_i y[i] + sum_g max over r of (m[g] - sum_i y[i] use[g,i]) r,

r from the floor of group g to the most that its demand and the capacities allow, m[g] the number
of its tasks. The duals of every program solved are such prices.
"""

from __future__ import annotations

import numpy as np

from code_opt.methods.allocation import CAPACITY_SLACK, RateAllocator
from code_opt.methods.local_search import FIT_TOLERANCE
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray, IntArray

_MOST_PRICES = 12
"""Duals that are kept, those of the last programs."""
_ROUNDING = 1e-9
"""Relative excess of bounds, so that rounding hides no better path."""


class EdgeRates:
    """Throughput for R resources and G groups, of which one changes what it uses."""

    def __init__(self, pool: PathPool, allocator: RateAllocator) -> None:
        """Start with no use at all; :meth:`take` sets what each group uses."""
        self._allocator = allocator
        groups = pool.groups
        width = max((len(g.resources) for g in groups), default=0)
        self._resource = np.zeros((len(groups), width), dtype=np.int64)
        self._is_rate = np.zeros((len(groups), width), dtype=bool)
        self._use = np.zeros((len(groups), width))
        """What one inference of each group uses, padded with 0 of resource 0, shape (G, width)."""
        for g, group in enumerate(groups):
            self._resource[g, : len(group.resources)] = group.resources
            self._is_rate[g, : len(group.resources)] = group.is_rate_resource
        self._uses = [np.zeros(len(g.resources)) for g in groups]
        self._size = np.array([float(len(g.tasks)) for g in groups])
        self._floor = np.array([g.floor for g in groups])
        self._demand = np.array([g.demand for g in groups])
        self._resources = len(pool.resources)
        self._prices: list[FloatArray] = [np.zeros(self._resources)]
        self.least = float(self._size @ self._floor)
        """Throughput when every task runs at its floor [inferences/s]."""

    @property
    def solves(self) -> int:
        """Linear programs solved."""
        return self._allocator.solves

    def take(self, group: int, use: FloatArray) -> None:
        """Set what one inference of a group uses, shape (k,)."""
        self._uses[group] = use
        self._use[group, : len(use)] = use

    def overload(self, group: int, uses: FloatArray) -> FloatArray:
        """Return by how much floors and adapters exceed capacities, summed, for each use.

        Args:
            group: whose use changes.
            uses: n of them, shape (n, k).
        """
        rate = np.where(self._is_rate, self._floor[:, None], 1.0)
        loads = self._use * rate
        loads[group] = 0.0
        rest = np.bincount(self._resource.ravel(), loads.ravel(), minlength=self._resources)
        k = uses.shape[1]
        mine = self._resource[group, :k]
        own = rest[mine] + uses * rate[group, :k]
        rest[mine] = 0.0  # those that the group can load are counted with each use
        others = float(np.maximum(rest - 1.0 - FIT_TOLERANCE, 0.0).sum())
        return np.asarray(np.maximum(own - 1.0 - FIT_TOLERANCE, 0.0).sum(axis=1) + others)

    def throughput(self, group: int, use: FloatArray) -> float | None:
        """Return the best throughput for one use of a group, None where the floors do not fit."""
        uses = list(self._uses)
        uses[group] = use
        allocation = self._allocator.allocate(uses)
        if allocation is None:
            return None
        self._prices.append(np.maximum(allocation.price, 0.0))
        del self._prices[:-_MOST_PRICES]
        return allocation.throughput

    def most(self, group: int, uses: FloatArray, last: int = _MOST_PRICES) -> FloatArray:
        """Return an upper bound on the throughput for each use, shape (n,).

        Args:
            group: whose use changes.
            uses: n of them, shape (n, k).
            last: the duals of so many programs, the last ones, are tried.
        """
        padded = np.zeros((len(uses), self._use.shape[1]))
        padded[:, : uses.shape[1]] = uses
        prices = np.array(self._prices[-last:])
        everybody = np.arange(len(self._uses))
        of_all = self._worth(prices, everybody, self._use)
        of_all[:, group] = 0.0
        others = prices.sum(axis=1) + of_all.sum(axis=1)
        mine = self._worth(prices, np.full(len(uses), group), padded)
        bound = (others[:, None] + mine).min(axis=0)
        return np.asarray(np.maximum(bound, self.least) * (1.0 + _ROUNDING))

    def _worth(self, prices: FloatArray, groups: IntArray, use: FloatArray) -> FloatArray:
        """Return the terms of the bound of n groups at P prices, shape (P, n)."""
        used = np.where(self._is_rate[groups], use, 0.0)
        largest = used.max(axis=1, initial=0.0)
        with np.errstate(divide="ignore"):
            most = np.where(largest > 0.0, (1.0 + CAPACITY_SLACK) / largest, np.inf)
        floor = self._floor[groups]
        most = np.maximum(np.minimum(most, self._demand[groups]), floor)
        paid = np.einsum("pnk,nk->pn", prices[:, self._resource[groups]], used)
        gain = self._size[groups] - paid
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(gain > 0.0, gain * most, gain * floor))
