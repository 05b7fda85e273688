"""All paths of a pool in arrays: what prices make of them, and what prices prove.

Tasks of an input group have one rate and pay common prefixes once, so a group is one *unit*
(:mod:`code_opt.methods.units`) and its columns are its options: a path for each of its tasks, at
the throughput of them all. For a single task that is its paths. What is called a task and a
path here is a unit and an option of it.

Prices of servers, links and memories, of the two totals and of cuts bound the objective
from above, whatever they are (Lagrangian duality: Geoffrion, Mathematical Programming Study
2, 1974). Everything here is one pass over arrays, so the bound costs no linear program and
does not rest on a solver's tolerances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from code_opt.instance.model import Shape
from code_opt.methods.assignment import ChosenPath, Solution, paths_of_units
from code_opt.methods.bounds import largest_rate
from code_opt.methods.models import option_of, throughput_unit
from code_opt.methods.settings import Settings
from code_opt.methods.units import Unit, build_units
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.reward import log_slope, log_value

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """sum over paths of (on_path x[p] + on_extra u[p]) <= limit, for every assignment."""

    paths: IntArray
    on_path: FloatArray
    """Coefficients of x, shape of ``paths``."""
    on_extra: FloatArray
    """Coefficients of u, shape of ``paths``."""
    limit: float


@dataclass(frozen=True)
class Prices:
    """Multipliers of the master's rows; any values give a valid bound.

    ``resource`` (I,) and ``cut`` (as many as there are cuts) are not negative; ``accuracy``
    and ``throughput`` are what a unit of A and of Th (in ``throughput_unit``) is worth.
    """

    resource: FloatArray
    cut: FloatArray
    accuracy: float
    throughput: float

    def mixed(self, other: Prices, share: float) -> Prices:
        """Return ``share`` of these prices and the rest of others (with no more cuts)."""
        cut = share * self.cut
        cut[: len(other.cut)] += (1.0 - share) * other.cut
        return Prices(
            share * self.resource + (1.0 - share) * other.resource,
            cut,
            share * self.accuracy + (1.0 - share) * other.accuracy,
            share * self.throughput + (1.0 - share) * other.throughput,
        )


@dataclass(frozen=True)
class Bound:
    """What prices prove: ``value`` bounds the objective of every assignment of living paths.

    An assignment that uses path p is worth at most ``value - loss[p]``.
    """

    value: float
    worth: FloatArray
    """What each path is worth to its task at the prices, shape (P,)."""
    best: FloatArray
    """The most that any path is worth to its task, shape (T,)."""
    loss: FloatArray
    """``best`` of the task less ``worth``, shape (P,)."""


class PathTable:
    """P paths of T tasks over I resources; paths are numbered through all tasks, in order.

    A path at its floor rate needs ``need`` of its resources, and ``spare`` more at R.
    """

    def __init__(
        self,
        pool: PathPool,
        settings: Settings,
        is_partial: bool = False,
        units: Sequence[Unit] | None = None,
    ) -> None:
        """Put a pool into arrays.

        Args:
            pool: the paths.
            settings: objective and floors on the totals.
            is_partial: whether tasks have paths that are not in the pool.
            units: tasks and input groups with the options that may be chosen (default: those
                of :func:`build_units`).
        """
        self.pool, self.settings = pool, settings
        self.units = tuple(build_units(pool) if units is None else units)
        units = self.units
        self.weights = np.array([unit.weights.sum() for unit in units])
        """Share of each unit in the average accuracy, shape (T,)."""
        sizes = np.array([len(unit) for unit in units])
        self.first = np.concatenate(([0], np.cumsum(sizes)))
        self.task = np.repeat(np.arange(len(sizes)), sizes)
        self.unit = throughput_unit(pool)
        floor = np.array([unit.floor for unit in units])
        self.floor = floor[self.task]
        self.extra = np.concatenate([unit.most for unit in units]) - self.floor
        self.most_of_task = floor + np.maximum.reduceat(self.extra, self.first[:-1])
        self.base_throughput = float(floor.sum()) / self.unit
        self.accuracy = np.concatenate([unit.accuracy for unit in units])
        """w[t] A[p], shape (P,)."""
        rows, columns, use, is_rate = [], [], [], []
        for first, unit in zip(self.first[:-1].tolist(), units, strict=True):
            amounts = unit.use_per_inference
            row, column = np.nonzero(amounts)
            rows.append(row + first)
            columns.append(unit.resources[column])
            use.append(amounts[row, column])
            is_rate.append(unit.is_rate_resource[column])
        self.row = np.concatenate(rows)
        """Path of each entry, ascending, shape (entries,)."""
        self.column = np.concatenate(columns)
        """Resource of each entry."""
        amount, rated = np.concatenate(use), np.concatenate(is_rate)
        self.need = np.where(rated, amount * self.floor[self.row], amount)
        self.spare = np.where(rated, amount * self.extra[self.row], 0.0)
        self.start = np.searchsorted(self.row, np.arange(len(self.task) + 1))
        self.alive = np.ones(len(self.task), dtype=bool)
        """Paths that can still be part of something better than what is known, shape (P,)."""
        self._sort_users()
        self.cuts: list[Cut] = []
        self._stacked: tuple[IntArray, IntArray, FloatArray, FloatArray, FloatArray] | None = None
        self.range_of_totals = self._find_range(is_partial)

    def _sort_users(self) -> None:
        entries = np.flatnonzero(self.alive[self.row])
        self._by_resource = entries[np.argsort(self.column[entries], kind="stable")]
        self._resource_start = np.searchsorted(
            self.column[self._by_resource], np.arange(len(self.pool.resources) + 1)
        )
        alive = self.alive.astype(np.int64)
        self.alive_of_task = np.add.reduceat(alive, self.first[:-1])

    def leave_out(self, paths: BoolArray) -> None:
        """Let paths count no more: in no bound, and in no cut from now on."""
        self.alive &= ~paths
        self._sort_users()

    def _find_range(self, is_partial: bool) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return where A and Th (in ``unit``) can lie, the floors asked for among it."""
        lows = float(np.minimum.reduceat(self.accuracy, self.first[:-1]).sum())
        highs = float(np.maximum.reduceat(self.accuracy, self.first[:-1]).sum())
        high_th = float(self.most_of_task.sum()) / self.unit
        if is_partial:
            lows, highs = 0.0, 1.0
            high_th = max(high_th, sum(map(largest_rate, self.pool.tasks)) / self.unit)
        low_a = max(lows, self.settings.min_accuracy or 0.0)
        low_th = max(self.base_throughput, (self.settings.min_throughput or 0.0) / self.unit)
        # Beyond what any mix of paths reaches, with room for the tolerance of requirements.
        self.is_out_of_reach = low_a > highs * (1.0 + 1e-6) or low_th > high_th * (1.0 + 1e-6)
        return (low_a, max(low_a, highs)), (low_th, max(low_th, high_th))

    def first_answers(self) -> IntArray:
        """Return of each task the most accurate path and the one that loads least, shape (2 T,)."""
        load = np.bincount(self.row, self.need + self.spare, len(self.task))
        order = np.lexsort((-self.accuracy, self.task)), np.lexsort((load, self.task))
        return np.concatenate([each[self.first[:-1]] for each in order])

    def numbers_of(self, solution: Solution) -> IntArray:
        """Return the paths of an assignment, shape (T,)."""
        numbers = [option_of(unit, solution) for unit in self.units]
        assert all(number is not None for number in numbers)
        return self.first[:-1] + np.array(numbers)

    def chosen(self, choice: IntArray) -> list[ChosenPath]:
        """Return the path of every task of the pool, given those of the units, shape (T,)."""
        return paths_of_units(self.units, (choice - self.first[:-1]).tolist())

    def subsets(self, keep: BoolArray) -> tuple[Unit, ...]:
        """Return the units with some of their options only."""
        return tuple(
            unit.subset(np.flatnonzero(keep[start:end]))
            for unit, start, end in zip(
                self.units, self.first[:-1].tolist(), self.first[1:].tolist(), strict=True
            )
        )

    def entries_of(self, paths: IntArray) -> tuple[IntArray, IntArray]:
        """Return the entries of some paths, and for each its place in ``paths``."""
        sizes = self.start[paths + 1] - self.start[paths]
        place = np.repeat(np.arange(len(paths)), sizes)
        offset = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.start[paths][place] + offset, place

    def users(self, resource: int) -> IntArray:
        """Return the entries of living paths that use a resource, in the order of the paths."""
        start, end = self._resource_start[resource], self._resource_start[resource + 1]
        return self._by_resource[start:end]

    def add_cuts(self, cuts: Sequence[Cut]) -> None:
        """Let cuts count in every bound from now on."""
        self.cuts += cuts
        self._stacked = None

    def keep_cuts(self, which: IntArray) -> None:
        """Forget all cuts but some."""
        self.cuts = [self.cuts[i] for i in which.tolist()]
        self._stacked = None

    @property
    def stacked(self) -> tuple[IntArray, IntArray, FloatArray, FloatArray, FloatArray]:
        """All cuts: (cut, path, coefficient of x, of u) of every entry, and the limits."""
        if self._stacked is None:
            sizes = [len(c.paths) for c in self.cuts]
            empty = np.empty(0)
            self._stacked = (
                np.repeat(np.arange(len(self.cuts)), sizes),
                np.concatenate([np.empty(0, dtype=np.int64), *(c.paths for c in self.cuts)]),
                np.concatenate([empty, *(c.on_path for c in self.cuts)]),
                np.concatenate([empty, *(c.on_extra for c in self.cuts)]),
                np.array([c.limit for c in self.cuts]),
            )
        return self._stacked

    def answers(self, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """Return what each path is worth at its floor rate, and how much more at R."""
        count = len(self.task)
        cost = prices.resource[self.column]
        low = prices.accuracy * self.accuracy
        low -= np.bincount(self.row, self.need * cost, count)
        more = prices.throughput * self.extra / self.unit
        more -= np.bincount(self.row, self.spare * cost, count)
        if len(prices.cut):
            cut, path, on_path, on_extra, _ = self.stacked
            paid = prices.cut[cut]
            low -= np.bincount(path, paid * on_path, count)
            more -= np.bincount(path, paid * on_extra, count)
        return low, more

    def bound(self, prices: Prices, is_phase_1: bool = False) -> Bound:
        """Return what prices prove; in phase 1, of minus the number of tasks without a path.

        With multipliers pi >= 0 of the rows ``a (x, u) <= b``, alpha and tau of the two
        definitions: max (log xi(A) - alpha A) + max (log zeta(Th) - tau Th) + pi b + sum over
        t of the most that a path of t is worth, each maximum taken on its own.
        """
        low, more = self.answers(prices)
        worth = low + np.maximum(more, 0.0)
        worth[~self.alive] = -np.inf
        best = np.maximum.reduceat(worth, self.first[:-1])
        if is_phase_1:
            # A task without a path counts with all accuracy and the largest rate.
            floor = self.floor[self.first[:-1]]
            missing = prices.accuracy * self.weights - 1.0
            missing += prices.throughput * (self.most_of_task - floor) / self.unit
            best = np.maximum(best, missing)
        value = float(best.sum()) + float(prices.resource.sum())
        if len(prices.cut):
            value += float(prices.cut @ self.stacked[4])
        value += prices.throughput * self.base_throughput
        value += self._most_of_totals(prices, None if is_phase_1 else self.settings.objective)
        return Bound(value, worth, best, best[self.task] - worth)

    def _most_of_totals(self, prices: Prices, objective: str | None) -> float:
        """Return the most that the totals are worth beyond what is paid for them."""
        (low_a, high_a), (low_th, high_th) = self.range_of_totals
        if objective == "reward":
            reward = self.pool.instance.reward
            return _most_beyond(reward.accuracy, low_a, high_a, prices.accuracy) + _most_beyond(
                reward.throughput,
                low_th * self.unit,
                high_th * self.unit,
                prices.throughput / self.unit,
            )
        # The goal is A or Th itself (in units): linear, so an end of the range is best.
        alpha = (1.0 if objective == "accuracy" else 0.0) - prices.accuracy
        tau = (1.0 if objective == "throughput" else 0.0) - prices.throughput
        return max(alpha * low_a, alpha * high_a) + max(tau * low_th, tau * high_th)


def _most_beyond(shape: Shape, low: float, high: float, price: float) -> float:
    """Return an upper bound of max over [low, high] of log shape(x) - price * x.

    The logarithm is concave, so its tangent at any point bounds it; at the point where its
    slope is the price, found by bisection, the bound is exact.
    """
    left, right = max(low, 1e-12 * max(high, 1e-300)), high
    at = right
    if log_slope(shape, right) < price:
        for _ in range(80):
            at = 0.5 * (left + right)
            if log_slope(shape, at) > price:
                left = at
            else:
                right = at
    value, slope = float(log_value(shape, at)), log_slope(shape, at)
    return max(value + slope * (x - at) - price * x for x in (low, high))
