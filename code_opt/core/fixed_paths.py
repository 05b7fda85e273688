"""Given paths: whether they may be taken, and what they are worth at their best rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from code_opt.core.evaluator import ChosenPath, Evaluator, keeps_limits, path_of
from code_opt.core.objective import CAPACITY_SLACK
from code_opt.core.results import make_result
from code_opt.core.settings import Clock, Settings
from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths import PathProblem, TaskGraph, pool_of_paths
from code_opt.paths.labels import ADMISSION_TOLERANCE
from code_opt.paths.previous import PATH_CHANGES
from code_opt.registry import Paths
from code_opt.result import Result

_LISTED = 8
"""Most block ids of a path that a message writes out."""


def paths_result(
    problem: PathProblem,
    paths: Paths | None,
    settings: Settings,
    method: str,
    clock: Clock | None = None,
) -> Result:
    """Return the result of given paths at their best rates.

    Args:
        problem: what the paths belong to.
        paths: block ids of one path for every task id; None where a method found none.
        settings: objective and floors of the totals.
        method: name of the method in the result.
        clock: tells how long the method took; by default the time of this call.

    Raises:
        InputError: the paths are not one of each task of the instance.
    """
    clock = clock or Clock(None)
    instance, topology = problem.instance, problem.topology
    known = None if paths is None else _arcs_of_all(problem, paths)
    if known is None:
        return nothing_found(instance, settings, method, clock, "no assignment found")
    evaluator = Evaluator(pool_of_paths(topology, known), settings)
    chosen = [path_of(task, arcs) for task, arcs in zip(evaluator.pool.tasks, known, strict=True)]
    message = why_not(evaluator, chosen)
    solution = None if message else evaluator.solution(chosen)
    return make_result(
        evaluator,
        method,
        "unknown" if solution is None else "feasible",
        clock.seconds,
        solution,
        message=message,
    )


def nothing_found(
    instance: Instance, settings: Settings, method: str, clock: Clock, message: str
) -> Result:
    """Return the result of a method that ended without an assignment."""
    common: dict[str, Any] = {
        "instance": instance.name,
        "method": method,
        "objective": settings.objective,
        "status": "unknown",
        "seconds": clock.seconds,
        "min_accuracy": settings.min_accuracy,
        "min_throughput": settings.min_throughput,
        "latency_percentile": settings.latency_percentile,
        "measured_only": settings.measured_only,
        "message": message,
    }
    return Result(schema="code-opt/result/1", **common)


def why_not(evaluator: Evaluator, paths: Sequence[ChosenPath]) -> str | None:
    """Return which requirement an assignment misses, None where it meets all of them.

    Args:
        evaluator: knows the instance and the floors of the totals.
        paths: one path for every task.
    """
    for task, path in zip(evaluator.pool.tasks, paths, strict=True):
        reason = limit_missed(task.graph, path)
        if reason is not None:
            return f"task {task.task.id!r}: {reason}"
    memory = evaluator.load(paths, np.zeros(len(paths)))
    if (memory > 1.0 + CAPACITY_SLACK).any():
        fullest = int(memory.argmax())
        name = evaluator.pool.resources[fullest].name
        if evaluator.pool.resources[fullest].kind is PATH_CHANGES:
            count = round(memory[fullest] * evaluator.pool.resources[fullest].capacity)
            return f"{count} tasks leave their previous paths: more than max_changes"
        return f"{name}: the adapters take {memory[fullest]:.6g} times what is free"
    use = evaluator.use(paths)
    allocation = evaluator.best_rates(paths, use)
    if allocation is None:
        if evaluator.limits_promises and evaluator.allocator.allocate_canonical(use):
            return "no rates were found on these paths that keep all latency percentiles"
        return "the least rates of the tasks do not fit the servers and links on these paths"
    accuracy, settings = evaluator.average_accuracy(paths), evaluator.settings
    if evaluator.objective.meets_floors(accuracy, allocation.throughput):
        return None
    if settings.min_accuracy is not None and accuracy < settings.min_accuracy:
        return f"average accuracy {accuracy:.6g}: below {settings.min_accuracy:g}"
    return f"throughput {allocation.throughput:.6g}/s: below {settings.min_throughput:g}/s"


def limit_missed(graph: TaskGraph, path: ChosenPath) -> str | None:
    """Return which limit of its graph's task a path misses, None where it meets both."""
    if keeps_limits(graph, path):
        return None
    most = graph.task.max_latency
    if most is not None and path.seconds > most * (1.0 + ADMISSION_TOLERANCE):
        return f"latency {path.seconds:.6g} s of its path: above max_latency {most:g} s"
    if not path.is_measured and path.predicted < 0.0:
        return f"accuracy {path.predicted:.6g} predicted for its path: the drops exceed it"
    return (
        f"accuracy {path.accuracy:.6g} of its path: below min_accuracy {graph.task.min_accuracy:g}"
    )


def _arcs_of_all(problem: PathProblem, paths: Paths) -> list[tuple[int, ...]]:
    """Return the arc numbers of the path of each task.

    Raises:
        InputError: a task is unknown or has no path here, or a path is none of its task's.
    """
    instance, graphs = problem.instance, problem.topology.graphs
    tasks = {task.id for task in instance.tasks}
    unknown = [name for name in paths if name not in tasks]
    if unknown:
        raise InputError(f"paths: task {unknown[0]!r}: the instance has no such task")
    found = []
    for task, graph in zip(instance.tasks, graphs, strict=True):
        if task.id not in paths:
            raise InputError(f"paths: task {task.id!r}: has no path; every task needs one")
        blocks = paths[task.id]
        if isinstance(blocks, str) or not all(isinstance(block, str) for block in blocks):
            raise InputError(f"paths: task {task.id!r}: {blocks!r}: a list of block ids is needed")
        arcs = graph.path_arcs(blocks)
        if arcs is None:
            fault = path_fault(graph, blocks)
            if problem.options.measured_only:
                fault += "; only native paths, alternatives and measured paths are allowed"
            raise InputError(f"paths: task {task.id!r}: {fault}")
        found.append(tuple(arcs))
    return found


def path_fault(graph: TaskGraph, blocks: Sequence[str]) -> str:
    """Return where blocks leave the paths of a task."""
    ends = ["input", *blocks, "output"]
    for tail, head in zip(ends, ends[1:], strict=False):
        if graph.step_arcs(tail, head) is None:
            shown = " > ".join(blocks[:_LISTED]) + (" > ..." if len(blocks) > _LISTED else "")
            return f"path {shown or '(no block)'}: no step leads from {tail!r} to {head!r}"
    return "no such path"
