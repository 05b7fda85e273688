"""The throughput of the whole edge while one task changes its path and all others keep theirs.

The rate program (:mod:`code_opt.core.allocation`) is solved for a path only where bounds leave
it open: weak duality at the duals of the last programs solved
(:meth:`code_opt.core.allocation.GroupArrays.profit`).
"""

from __future__ import annotations

import numpy as np

from code_opt.core.allocation import RateAllocator
from code_opt.core.evaluator import FIT_TOLERANCE
from code_opt.paths.graph import FloatArray

_MOST_DUALS = 12
"""Duals that are kept, those of the last programs."""
_ROUNDING = 1e-9
"""Relative excess of bounds, so that rounding hides no better path."""


class EdgeRates:
    """Throughput for I resources and G groups, of which one changes what it uses.

    Uses are padded to the K resources that a group has at most, as in
    :class:`code_opt.core.allocation.GroupArrays`.
    """

    def __init__(self, allocator: RateAllocator) -> None:
        """Start with no use at all; :meth:`take` sets what each group uses."""
        self._allocator = allocator
        self._groups = groups = allocator.groups
        self._use = np.zeros(groups.resource.shape)
        """What one inference of each group uses, shape (G, K)."""
        self._duals: list[FloatArray] = [np.zeros(groups.resources)]
        self.least = float(groups.size @ groups.floor)
        """Throughput when every task runs at its floor [inferences/s]."""
        self.solves = 0
        """Rate programs solved."""

    def take(self, group: int, use: FloatArray) -> None:
        """Set what one inference of a group uses, shape (K,)."""
        self._use[group] = use

    def overload(self, group: int, uses: FloatArray) -> FloatArray:
        """Return by how much floors and adapters exceed capacities, summed, for each use.

        Args:
            group: whose use changes.
            uses: n of them, shape (n, K).
        """
        groups = self._groups
        others = self._use.copy()
        others[group] = 0.0
        rest = groups.load(others, groups.floor)
        mine = rest[groups.resource[group]]
        own = uses * np.where(groups.is_rate[group], groups.floor[group], 1.0)
        more = _excess(mine + own) - _excess(mine)  # 0 for padding
        return np.asarray(_excess(rest).sum() + more.sum(axis=1))

    def throughput(self, group: int, use: FloatArray) -> float | None:
        """Return the best throughput for one use of a group, None where the floors do not fit."""
        uses = self._use.copy()
        uses[group] = use
        self.solves += 1
        allocation = self._allocator.allocate(uses)
        if allocation is None:
            return None
        self._duals.append(np.maximum(allocation.dual, 0.0))
        del self._duals[:-_MOST_DUALS]
        return allocation.throughput

    def most(self, group: int, uses: FloatArray, last: int = _MOST_DUALS) -> FloatArray:
        """Return an upper bound on the throughput for each use, shape (n,).

        Args:
            group: whose use changes.
            uses: n of them, shape (n, K).
            last: the duals of so many programs, the last ones, are tried.
        """
        duals = np.array(self._duals[-last:])
        of_all = self._groups.profit(duals, np.arange(len(self._use)), self._use)
        of_all[:, group] = 0.0
        others = duals.sum(axis=1) + of_all.sum(axis=1)
        mine = self._groups.profit(duals, np.full(len(uses), group), uses)
        bound = (others[:, None] + mine).min(axis=0)
        return np.asarray(np.maximum(bound, self.least) * (1.0 + _ROUNDING))


def _excess(load: FloatArray) -> FloatArray:
    """Return by how much loads exceed their capacities, as shares of these, elementwise."""
    return np.asarray(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0))
