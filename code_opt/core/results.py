"""The result file's content, made of an assignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from code_opt.core.evaluator import Evaluator, Solution
from code_opt.core.objective import refuse_huge_reward, refuse_tiny_reward
from code_opt.core.settings import SMALLEST_GAP
from code_opt.paths import TaskPaths
from code_opt.registry import role_of
from code_opt.result import (
    LinkResult,
    Result,
    ServerResult,
    Status,
    TaskResult,
)
from code_opt.reward import log_reward


def make_result(
    evaluator: Evaluator,
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
        evaluator: values the solution.
        method: name of the method.
        status: see :class:`code_opt.result.Result`.
        seconds: wall time.
        solution: the assignment, or None.
        bound: proven upper bound in the units of ``Solution.value``.
        formulation: name of the exact formulation.
        message: for the user.
        details: counts of the search.
    """
    settings, instance = evaluator.settings, evaluator.pool.instance
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
    objective = evaluator.objective
    log_f = log_reward(instance.reward, solution.accuracy, solution.throughput)
    refuse_huge_reward(log_f)
    if objective.is_log:
        refuse_tiny_reward(log_f)
    gap = shown = None
    if bound is not None:
        gap = objective.gap(solution.value, bound)
        shown = objective.shown(max(bound, solution.value))
        if shown is None or not np.isfinite(gap):
            shown = gap = None
    rates = solution.allocation.rates
    load = evaluator.load(solution.paths, rates)
    time_of = {s: float(load[i]) for s, i in evaluator.pool.topology.server_time.items()}
    return Result(
        schema="code-opt/result/1",
        **common,
        reward=float(np.exp(log_f)),
        bound=shown,
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
            for i, (task, path) in enumerate(zip(evaluator.pool.tasks, solution.paths, strict=True))
        ),
        servers=tuple(
            ServerResult(
                server=s.id,
                load=time_of[s.id] * s.flops,
                capacity=s.flops,
                utilization=time_of[s.id],
            )
            for s in instance.servers
        ),
        links=tuple(
            _link_result(evaluator, solution, link.source, link.target, link.bandwidth)
            for link in instance.links
        ),
    )


def blocks_of(task: TaskPaths, arcs: Sequence[int]) -> tuple[str, ...]:
    """Return the block ids of a path given by its arcs."""
    return tuple(task.graph.arcs[a].head for a in arcs[:-1])


def _link_result(
    evaluator: Evaluator, solution: Solution, source: str, target: str, bandwidth: float | None
) -> LinkResult:
    """Return one link's load; bytes are summed per arc, also where bandwidth is unlimited."""
    load = 0.0
    for group in evaluator.pool.groups:
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
