"""The evaluator: rates, loads, feasibility and value of assignments, one path per task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.core.allocation import Allocation, RateAllocator
from code_opt.core.objective import CAPACITY_SLACK, ObjectiveFunction, refuse_huge_reward
from code_opt.core.promises import Promises
from code_opt.core.settings import Settings
from code_opt.paths import PathPool, TaskGraph, TaskPaths
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import ADMISSION_TOLERANCE, is_accurate

VIOLATION_WEIGHT = 1e3
"""Merit lost per unit of relative violation: far more than any reward differs by."""
LEAST_GAIN = 1e-7
"""Gain of merit below which a move does not count as one."""
FIT_TOLERANCE = 1e-8
"""Excess of a capacity, as a share of it, that rounding explains."""


@dataclass(frozen=True)
class ChosenPath:
    """One path of one task; ``use`` covers the k resources of the task's graph."""

    arcs: tuple[int, ...]
    predicted: float
    """Native accuracy less drops, capped at 1."""
    accuracy: float
    is_measured: bool
    """Whether the accuracy is that of a measured path or an alternative."""
    seconds: float
    use: FloatArray


def path_in_pool(task: TaskPaths, number: int) -> ChosenPath:
    """Return a path of the pool by its number within the task."""
    paths = task.paths
    return ChosenPath(
        arcs=paths.arcs_of(number),
        predicted=float(paths.predicted[number]),
        accuracy=float(paths.accuracy[number]),
        is_measured=bool(paths.measured[number]),
        seconds=float(paths.seconds[number]),
        use=paths.use[number],
    )


def path_of(task: TaskPaths, arcs: tuple[int, ...]) -> ChosenPath:
    """Return a path of a task's graph, which need not be in the pool."""
    return path_on(task.graph, arcs)


def path_on(graph: TaskGraph, arcs: tuple[int, ...]) -> ChosenPath:
    """Return a path of a graph."""
    steps, known = list(arcs), graph.known
    predicted = min(1.0, graph.task.accuracy - float(graph.drop[steps].sum()))
    return ChosenPath(
        arcs=arcs,
        predicted=predicted,
        accuracy=known.get(arcs, max(predicted, 0.0)),
        is_measured=arcs in known,
        seconds=float(graph.seconds[steps].sum()),
        use=graph.use[steps].sum(axis=0),
    )


def is_admissible(task: TaskPaths, path: ChosenPath) -> bool:
    """Tell whether a path of a task's graph keeps the task's own limits, as the pool does."""
    return keeps_limits(task.graph, path)


def keeps_limits(graph: TaskGraph, path: ChosenPath) -> bool:
    """Tell whether a path of a graph keeps the limits of the graph's task."""
    steps, limit = list(path.arcs), graph.task.max_latency
    if limit is not None and path.seconds > limit * (1.0 + ADMISSION_TOLERANCE):
        return False
    size = graph.task.accuracy + float(np.abs(graph.drop[steps]).sum())
    accuracy = path.accuracy if path.is_measured else path.predicted
    size = 0.0 if path.is_measured else size
    return bool(is_accurate(np.array(accuracy), np.array(size), graph.task.min_accuracy))


@dataclass(frozen=True)
class Solution:
    """An assignment with its rates and its value."""

    paths: tuple[ChosenPath, ...]
    allocation: Allocation
    accuracy: float
    """Average accuracy A."""
    time: float
    """Average time D [s], see :meth:`Evaluator.average_time`."""
    value: float
    """Of the objective, see :class:`code_opt.core.objective.ObjectiveFunction`."""

    @property
    def throughput(self) -> float:
        """Total throughput Th [inferences/s]."""
        return self.allocation.throughput

    @property
    def arcs(self) -> list[tuple[int, ...]]:
        """Arcs of every task's path."""
        return [path.arcs for path in self.paths]


class Evaluator:
    """Evaluates assignments over one pool: rates, totals, floors on totals, objective."""

    def __init__(
        self, pool: PathPool, settings: Settings, *, are_promises_limited: bool = True
    ) -> None:
        """Take a pool.

        Args:
            pool: of candidate paths.
            settings: objective and floors of the totals.
            are_promises_limited: whether limits of percentiles count; not where the pool already
                has the effective times of fixed wait scales.
        """
        self.pool = pool
        self.settings = settings
        self.objective = ObjectiveFunction.of(pool, settings)
        self.allocator = RateAllocator(pool)
        self.groups = self.allocator.groups
        self.promises = Promises(pool)
        self.limits_promises = self.promises.are_limits and are_promises_limited
        """Whether assignments have to keep limits of percentiles."""
        self._rates_are_given = all(g.floor >= g.demand for g in pool.groups)

    def paths(self, numbers: IntArray) -> list[ChosenPath]:
        """Return the paths of an assignment, given by their numbers in the pool, shape (T,)."""
        pairs = zip(self.pool.tasks, numbers.tolist(), strict=True)
        return [path_in_pool(task, number) for task, number in pairs]

    def use(self, paths: Sequence[ChosenPath]) -> FloatArray:
        """Return what the paths of an assignment use, shared prefixes once, shape (G, K)."""
        use = np.zeros(self.groups.resource.shape)
        for row, group in zip(use, self.pool.groups, strict=True):
            mine = [paths[t] for t in group.tasks]
            shared = group.is_shared
            of_group = group.use([path.arcs for path in mine]) if shared else mine[0].use
            row[: len(group.resources)] = of_group
        return use

    def average_accuracy(self, paths: Sequence[ChosenPath]) -> float:
        """Return A of an assignment."""
        return float(self.pool.weights @ np.array([p.accuracy for p in paths]))

    def average_time(self, paths: Sequence[ChosenPath], rates: FloatArray) -> float:
        """Return D of an assignment [s]: the weighted mean of the times of its tasks.

        They are promised ones where limits of percentiles count, else unloaded; infinite where
        nothing can be promised.

        Args:
            paths: of all tasks.
            rates: of all tasks [inferences/s].
        """
        seconds = [p.seconds for p in paths]
        if self.limits_promises and self.objective.is_time:
            promises, _ = self.promises.promises([p.arcs for p in paths], seconds, rates)
            for t, promise in enumerate(promises):
                if promise.percentile is not None:
                    seconds[t] = math.inf if promise.promised is None else promise.promised
        return float(self.pool.weights @ np.array(seconds))

    def load(self, paths: Sequence[ChosenPath], rates: FloatArray) -> FloatArray:
        """Return the load of every resource as a share of its capacity, shape (I,).

        Args:
            paths: of all tasks.
            rates: of all tasks [inferences/s].
        """
        first = [group.tasks[0] for group in self.pool.groups]
        return self.groups.load(self.use(paths), rates[first])

    def solution(self, paths: Sequence[ChosenPath]) -> Solution | None:
        """Return an assignment with its canonical rates, or None where a requirement fails.

        Raises:
            InputError: its reward is too large for a number.
        """
        use = self.use(paths)
        memory = self.groups.load(use, np.zeros(len(use)))
        if (memory > 1.0 + CAPACITY_SLACK).any():
            return None
        allocation = self.best_rates(paths, use)
        if allocation is None:
            return None
        accuracy = self.average_accuracy(paths)
        if not self.objective.meets_floors(accuracy, allocation.throughput):
            return None
        time = self.average_time(paths, allocation.rates)
        value = self.objective.value(accuracy, allocation.throughput, time)
        if self.objective.is_log:
            refuse_huge_reward(value)  # the best is no smaller
        return Solution(tuple(paths), allocation, accuracy, time, value)

    def best_rates(self, paths: Sequence[ChosenPath], use: FloatArray) -> Allocation | None:
        """Return the best rates of an assignment, None where a requirement fails.

        Under limits of percentiles they are the best that a local search finds.

        Args:
            paths: of all tasks.
            use: of them, see :meth:`use`.
        """
        if not self.limits_promises:
            return self.allocator.allocate_canonical(use)
        arcs, seconds = [p.arcs for p in paths], [p.seconds for p in paths]
        if self._rates_are_given:
            found = self.allocator.allocate_canonical(use)
            is_kept = found is not None and self.promises.hold(arcs, seconds, found.rates)
            return found if is_kept else None
        return self.promises.allocate(arcs, seconds, use)

    def solution_at(self, paths: Sequence[ChosenPath], rates: FloatArray) -> Solution:
        """Return an assignment at given rates, whether they fit or not.

        Args:
            paths: of all tasks.
            rates: of all tasks [inferences/s], shape (T,).
        """
        first = [group.tasks[0] for group in self.pool.groups]
        allocation = Allocation(
            rates=rates,
            throughput=float(rates.sum()),
            dual=np.zeros(self.groups.resources),
            group_throughput=rates[first] * self.groups.size,
        )
        accuracy = self.average_accuracy(paths)
        time = self.average_time(paths, rates)
        value = self.objective.value(accuracy, allocation.throughput, time)
        return Solution(tuple(paths), allocation, accuracy, time, value)

    def allocate(self, use: FloatArray) -> Allocation | None:
        """Return the best rates of an assignment, None where floors or memories do not fit.

        The floors fit exactly when the load that they make does, so the rate program is only
        solved where it has a solution.

        Args:
            use: see :meth:`use`, shape (G, K).
        """
        if (self.groups.load(use, self.groups.floor) > 1.0 + FIT_TOLERANCE).any():
            return None
        return self.allocator.allocate(use)

    @staticmethod
    def overload(load: FloatArray) -> float:
        """Return the sum of what loads exceed their capacities by, as shares of these."""
        return float(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum())
