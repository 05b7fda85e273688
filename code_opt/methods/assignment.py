"""An assignment: one path per task, valued as the instance values it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from code_opt.errors import InputError
from code_opt.methods.allocation import CAPACITY_SLACK, Allocation, RateAllocator
from code_opt.methods.settings import SMALLEST_GAP, Settings
from code_opt.methods.units import Unit, build_units
from code_opt.paths import PathPool, RateGroup, TaskPaths
from code_opt.paths.graph import FloatArray
from code_opt.paths.labels import ADMISSION_TOLERANCE, is_accurate
from code_opt.registry import role_of
from code_opt.result import (
    LinkResult,
    Result,
    ServerResult,
    Status,
    TaskResult,
)
from code_opt.reward import log_reward

_LARGEST_LOG_REWARD, _SMALLEST_LOG_REWARD = 709.0, -708.0
"""exp of more, or of less, is no floating-point number of full precision."""


@dataclass(frozen=True)
class ChosenPath:
    """One path of one task; ``use`` covers the k resources of the task's graph."""

    arcs: tuple[int, ...]
    predicted: float
    """Native accuracy less drops, capped at 1."""
    accuracy: float
    is_measured: bool
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


def paths_of_units(units: Iterable[Unit], options: Iterable[int]) -> list[ChosenPath]:
    """Return the path of every task, given the number of the option that each unit takes."""
    found: dict[int, ChosenPath] = {}
    for unit, option in zip(units, options, strict=True):
        pairs = zip(unit.group.tasks, unit.tasks, unit.paths[option].tolist(), strict=True)
        found |= {t: path_in_pool(task, path) for t, task, path in pairs}
    return [found[t] for t in range(len(found))]


def path_of(task: TaskPaths, arcs: tuple[int, ...]) -> ChosenPath:
    """Return a path of a task's graph, which need not be in the pool."""
    graph, steps = task.graph, list(arcs)
    measured = dict(measured_paths(task))
    predicted = min(1.0, task.task.accuracy - float(graph.drop[steps].sum()))
    return ChosenPath(
        arcs=arcs,
        predicted=predicted,
        accuracy=measured.get(arcs, max(predicted, 0.0)),
        is_measured=arcs in measured,
        seconds=float(graph.seconds[steps].sum()),
        use=graph.use[steps].sum(axis=0),
    )


def is_admissible(task: TaskPaths, path: ChosenPath) -> bool:
    """Tell whether a path of a task's graph keeps the task's own limits, as the pool does."""
    graph, steps, limit = task.graph, list(path.arcs), task.task.max_latency
    if limit is not None and path.seconds > limit * (1.0 + ADMISSION_TOLERANCE):
        return False
    size = task.task.accuracy + float(np.abs(graph.drop[steps]).sum())
    accuracy = path.accuracy if path.is_measured else path.predicted
    size = 0.0 if path.is_measured else size
    return bool(is_accurate(np.array(accuracy), np.array(size), task.task.min_accuracy))


def measured_paths(task: TaskPaths) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield the arcs and the accuracy of the task's measured paths."""
    for path in task.task.measured_paths:
        arcs = task.graph.path_arcs(path.blocks)
        if arcs is not None:
            yield tuple(arcs), path.accuracy


@dataclass(frozen=True)
class Solution:
    """An assignment with its rates and its value."""

    paths: tuple[ChosenPath, ...]
    allocation: Allocation
    accuracy: float
    """Average accuracy A."""
    log_value: float
    """log of the reward (objective ``reward``), else the throughput or accuracy itself."""

    @property
    def throughput(self) -> float:
        """Total throughput Th [inferences/s]."""
        return self.allocation.throughput


class Judge:
    """Values assignments under the settings: rates, totals, floors on totals, objective."""

    def __init__(self, pool: PathPool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings
        self.allocator = RateAllocator(pool)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """What moves at once in a search."""
        return build_units(self.pool)

    def average_accuracy(self, paths: Sequence[ChosenPath]) -> float:
        """Return A of an assignment."""
        return float(self.pool.weights @ np.array([p.accuracy for p in paths]))

    def value(self, accuracy: float, throughput: float) -> float:
        """Return the objective (the reward as its logarithm)."""
        if self.settings.objective == "reward":
            return log_reward(self.pool.instance.reward, accuracy, throughput)
        return throughput if self.settings.objective == "throughput" else accuracy

    def meets_floors(self, accuracy: float, throughput: float) -> bool:
        """Tell whether the floors asked of the totals hold (within ``CAPACITY_SLACK``)."""
        least, most = self.settings.min_accuracy, self.settings.min_throughput
        slack = 1.0 - CAPACITY_SLACK
        return (least is None or accuracy >= least * slack) and (
            most is None or throughput >= most * slack
        )

    def fits_memory(self, paths: Sequence[ChosenPath]) -> bool:
        """Tell whether the adapters of an assignment fit (within ``CAPACITY_SLACK``)."""
        return bool((self.load(paths, None) <= 1.0 + CAPACITY_SLACK).all())

    def load(self, paths: Sequence[ChosenPath], rates: FloatArray | None) -> FloatArray:
        """Return the load of every resource as a share of its capacity.

        Servers and links need the rates; without them only memories are filled in.
        """
        return self.load_of(self.uses(paths), rates)

    def load_of(self, uses: Sequence[FloatArray], rates: FloatArray | None) -> FloatArray:
        """Return the same from the :meth:`uses` of an assignment's paths."""
        load = np.zeros(len(self.pool.resources))
        for group, use in zip(self.pool.groups, uses, strict=True):
            rate = 0.0 if rates is None else rates[group.tasks[0]]
            load[group.resources] += use * np.where(group.is_rate_resource, rate, 1.0)
        return load

    def uses(self, paths: Sequence[ChosenPath]) -> list[FloatArray]:
        """Return what one inference of each group uses; k resources of the group, shape (k,)."""
        return [self.use_of(group, paths) for group in self.pool.groups]

    @staticmethod
    def use_of(
        group: RateGroup, paths: Sequence[ChosenPath] | Mapping[int, ChosenPath]
    ) -> FloatArray:
        """Return what one inference of all tasks of a group uses, given (at least) their paths."""
        if group.is_shared:
            return group.use([paths[t].arcs for t in group.tasks])
        return paths[group.tasks[0]].use

    def solution(self, paths: Sequence[ChosenPath]) -> Solution | None:
        """Return an assignment with its canonical rates, or None where a requirement fails.

        Raises:
            InputError: its reward is too large for a number.
        """
        if not self.fits_memory(paths):
            return None
        allocation = self.allocator.allocate_canonical(self.uses(paths))
        if allocation is None:
            return None
        accuracy = self.average_accuracy(paths)
        if not self.meets_floors(accuracy, allocation.throughput):
            return None
        value = self.value(accuracy, allocation.throughput)
        if self.settings.objective == "reward":
            refuse_huge_reward(value)  # the best is no smaller
        return Solution(tuple(paths), allocation, accuracy, value)


def relative_gap(log_objective: bool, value: float, bound: float) -> float:
    """Return bound / value - 1 of the objective itself; infinite for a value of 0."""
    if bound <= value:
        return 0.0
    if log_objective:
        # Of more there is no number; the gap counts as infinite then.
        is_number = np.isfinite(value) and bound - value <= _LARGEST_LOG_REWARD
        return float(np.expm1(bound - value)) if is_number else np.inf
    return bound / value - 1.0 if value > 0.0 else np.inf


def refuse_huge_reward(log_reward: float) -> None:
    """Refuse a reward that is too large for a number, given the logarithm that some has.

    Raises:
        InputError: it is.
    """
    if log_reward > _LARGEST_LOG_REWARD:
        raise InputError(
            f"the reward exp({log_reward:.6g}) is too large for a number: "
            "choose smaller parameters of the reward"
        )


def refuse_tiny_reward(log_reward: float) -> None:
    """Refuse a reward above 0 that is too small for a number of full precision.

    Args:
        log_reward: logarithm of a reward, or a bound on that of every assignment.

    Raises:
        InputError: it is too small; a reward of 0 is not.
    """
    if -np.inf < log_reward < _SMALLEST_LOG_REWARD:
        raise InputError(
            f"the reward exp({log_reward:.6g}) is too small for a number: "
            "choose smaller parameters of the reward, or another midpoint"
        )


def make_result(
    judge: Judge,
    method: str,
    status: Status,
    seconds: float,
    solution: Solution | None,
    *,
    bound: float | None = None,
    formulation: str | None = None,
    message: str | None = None,
    details: dict[str, Any] | None = None,
) -> Result:
    """Return the result file's content.

    Args:
        judge: values the solution.
        method: name of the method.
        status: see :class:`code_opt.result.Result`.
        seconds: wall time.
        solution: the assignment, or None.
        bound: proven upper bound in the units of ``Solution.log_value``.
        formulation: name of the exact formulation.
        message: for the user.
        details: counts of the search.
    """
    settings, instance = judge.settings, judge.pool.instance
    common: dict[str, Any] = {
        "instance": instance.name,
        "method": method,
        "formulation": formulation,
        "objective": settings.objective,
        "status": status,
        "seconds": seconds,
        "gap_tolerance": max(settings.gap, SMALLEST_GAP) if role_of(method) == "exact" else None,
        "min_accuracy": settings.min_accuracy,
        "min_throughput": settings.min_throughput,
        "message": message,
        "details": details or {},
    }
    if solution is None:
        return Result(schema="code-opt/result/1", **common)
    is_log = settings.objective == "reward"
    log_f = log_reward(instance.reward, solution.accuracy, solution.throughput)
    refuse_huge_reward(log_f)
    if is_log:
        refuse_tiny_reward(log_f)
    gap = None
    if bound is not None:
        gap = relative_gap(is_log, solution.log_value, bound)
        bound = max(bound, solution.log_value)
        if is_log:
            bound = float(np.exp(bound)) if bound <= _LARGEST_LOG_REWARD else np.inf
        if not (np.isfinite(gap) and np.isfinite(bound)):
            bound = gap = None
    rates = solution.allocation.rates
    load = judge.load(solution.paths, rates)
    loads = {(r.kind, r.key): (load[i], r.capacity) for i, r in enumerate(judge.pool.resources)}
    return Result(
        schema="code-opt/result/1",
        **common,
        reward=float(np.exp(log_f)),
        bound=bound,
        gap=gap,
        throughput=solution.throughput,
        accuracy=solution.accuracy,
        tasks=tuple(
            TaskResult(
                task=task.task.id,
                path=blocks_of(task, path.arcs),
                rate=float(rates[i]),
                accuracy=path.accuracy,
                accuracy_source="measured" if path.is_measured else "predicted",
                latency=path.seconds,
            )
            for i, (task, path) in enumerate(zip(judge.pool.tasks, solution.paths, strict=True))
        ),
        servers=tuple(
            ServerResult(
                server=s.id,
                load=float(loads["server", (s.id,)][0] * s.flops),
                capacity=s.flops,
                utilization=float(loads["server", (s.id,)][0]),
            )
            for s in instance.servers
        ),
        links=tuple(
            _link_result(judge, solution, link.source, link.target, link.bandwidth)
            for link in instance.links
        ),
    )


def blocks_of(task: TaskPaths, arcs: Sequence[int]) -> tuple[str, ...]:
    """Return the block ids of a path given by its arcs."""
    return tuple(task.graph.arcs[a].head for a in arcs[:-1])


def _link_result(
    judge: Judge, solution: Solution, source: str, target: str, bandwidth: float | None
) -> LinkResult:
    """Return one link's load; bytes are summed per arc, also where bandwidth is unlimited."""
    load = 0.0
    for group in judge.pool.groups:
        rate = float(solution.allocation.rates[group.tasks[0]])
        paid = group.paid([solution.paths[t].arcs for t in group.tasks])
        for graph, arcs in zip(group.graphs, paid, strict=True):
            for arc in arcs:
                for hop in graph.arcs[arc].hops:
                    if hop[:2] == (source, target):
                        load += rate * hop[2]
    return LinkResult(
        source=source,
        target=target,
        load=load,
        capacity=bandwidth,
        utilization=None if bandwidth is None else load / bandwidth,
    )
