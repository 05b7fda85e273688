"""The result file's content, made of an assignment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from code_opt.core.evaluator import ChosenPath, Evaluator, Solution
from code_opt.core.objective import refuse_huge_reward, refuse_tiny_reward
from code_opt.core.promises import Promise
from code_opt.core.settings import SMALLEST_GAP, Settings
from code_opt.instance.model import Link, Server
from code_opt.paths import PathPool, TaskPaths
from code_opt.paths.graph import FloatArray
from code_opt.registry import role_of
from code_opt.result import (
    LinkResult,
    Result,
    SecondOpinion,
    ServerResult,
    Status,
    TaskResult,
)
from code_opt.reward import log_reward

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""
_Scales = dict[tuple[str, ...], float | None]
"""Wait scales [s] of servers and links by their keys; None where waits are unlimited."""


def make_result(
    evaluator: Evaluator,
    method: str,
    status: Status,
    seconds: float,
    solution: Solution | None,
    *,
    bound: float | None = None,
    root_bound: float | None = None,
    second_opinion: SecondOpinion | None = None,
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
        root_bound: what duals and cuts prove of it without a solver's tree, in the same units.
        second_opinion: on the last program.
        formulation: name of the exact formulation.
        message: for the user.
        details: counts of the search.
    """
    common: dict[str, Any] = {
        "schema": "code-opt/result/1",
        "instance": evaluator.pool.instance.name,
        "method": method,
        "formulation": formulation,
        "status": status,
        "seconds": seconds,
        "message": message,
        "details": details or {},
        **_asked(evaluator.settings, method),
    }
    if solution is None:
        return Result(**common)
    shares, of_all = own_work(evaluator.pool, solution.paths, solution.allocation.rates)
    promises, scales = _promises(evaluator, solution)
    tasks = _task_results(evaluator, solution, promises, shares)
    return Result(
        **common,
        reward=_reward(evaluator, solution),
        **_bounds_and_gap(evaluator, solution, bound, root_bound),
        second_opinion=second_opinion,
        throughput=solution.throughput,
        accuracy=solution.accuracy,
        latency=average_time(evaluator.pool.weights, tasks),
        own_work=of_all,
        tasks=tasks,
        servers=_server_results(evaluator, solution, scales),
        links=_link_results(evaluator, solution, scales),
    )


def _asked(settings: Settings, method: str) -> dict[str, Any]:
    """Return what was asked for, as results tell it."""
    return {
        "objective": settings.objective,
        "gap_tolerance": max(settings.gap, SMALLEST_GAP) if role_of(method) == "exact" else None,
        "min_accuracy": settings.min_accuracy,
        "min_throughput": settings.min_throughput,
        "latency_percentile": settings.latency_percentile,
        "measured_only": settings.measured_only,
    }


def _reward(evaluator: Evaluator, solution: Solution) -> float:
    """Return the reward of a solution.

    Raises:
        InputError: it is too large, or where it is what counts too small, for a number.
    """
    reward = evaluator.pool.instance.reward
    log_f = log_reward(reward, solution.accuracy, solution.throughput)
    refuse_huge_reward(log_f)
    if evaluator.objective.is_log:
        refuse_tiny_reward(log_f)
    return float(np.exp(log_f))


def _bounds_and_gap(
    evaluator: Evaluator, solution: Solution, bound: float | None, root_bound: float | None
) -> dict[str, Any]:
    """Return bounds as results show them and the gap; none of them where the bound is none."""
    if bound is None:
        return {}
    objective, value = evaluator.objective, solution.value
    gap, shown = objective.gap(value, bound), objective.shown(max(bound, value))
    if shown is None or not np.isfinite(gap):
        return {}
    root = None if root_bound is None else objective.shown(max(root_bound, bound, value))
    return {"bound": shown, "gap": gap, "root_bound": root}


def _promises(evaluator: Evaluator, solution: Solution) -> tuple[list[Promise], _Scales]:
    """Return the promised times of all tasks, and the wait scales of servers and links.

    Both are empty where no promises are asked for.
    """
    if not evaluator.promises.are_asked:
        return [], {}
    promises, waits = evaluator.promises.promises(
        solution.arcs, [path.seconds for path in solution.paths], solution.allocation.rates
    )
    resources = zip(evaluator.pool.resources, waits.scale.tolist(), strict=True)
    return promises, {r.key: g if math.isfinite(g) else None for r, g in resources if r.is_rate}


def _task_results(
    evaluator: Evaluator,
    solution: Solution,
    promises: Sequence[Promise],
    shares: Sequence[float | None],
) -> tuple[TaskResult, ...]:
    return tuple(
        TaskResult(
            task=task.task.id,
            path=blocks_of(task, path.arcs),
            rate=float(solution.allocation.rates[i]),
            accuracy=path.accuracy,
            accuracy_source=task.graph.accuracy_source(path.arcs),
            latency=path.seconds,
            **(promise_cells(promises[i]) if promises else {}),
            accuracy_interval=score_interval(path.accuracy, task.graph.samples(path.arcs)),
            own_work=shares[i],
        )
        for i, (task, path) in enumerate(zip(evaluator.pool.tasks, solution.paths, strict=True))
    )


def _server_results(
    evaluator: Evaluator, solution: Solution, scales: _Scales
) -> tuple[ServerResult, ...]:
    load = evaluator.load(solution.paths, solution.allocation.rates)
    time_of = evaluator.pool.topology.server_time
    return tuple(
        server_result(server, float(load[time_of[server.id]]), scales.get((server.id,)))
        for server in evaluator.pool.instance.servers
    )


def _link_results(
    evaluator: Evaluator, solution: Solution, scales: _Scales
) -> tuple[LinkResult, ...]:
    links = evaluator.pool.instance.links
    traffic = _traffic(evaluator, solution) if links else {}
    return tuple(
        _link_result(link, traffic.get(ends, 0.0), scales.get(ends))
        for link in links
        for ends in [(link.source, link.target)]
    )


def own_work(
    pool: PathPool, paths: Sequence[ChosenPath], rates: FloatArray
) -> tuple[list[float | None], float | None]:
    """Return the share of each path's work, and of all work, on the servers of the own DNNs.

    Work counts in FLOP where all servers have FLOP/s, else in device time. Each path counts whole,
    whatever it shares with others of an input group. None where there is no work.

    Args:
        pool: knows servers and graphs.
        paths: of all tasks.
        rates: of all tasks [inferences/s].
    """
    topology, servers = pool.topology, pool.instance.servers
    in_flops = all(server.flops is not None for server in servers)
    unit = np.zeros(len(pool.resources))
    for server in servers:
        speed = server.speed if in_flops and server.devices > 0.0 else 1.0
        unit[topology.server_time[server.id]] = topology.devices[server.id] * (speed or 0.0)
    work = np.zeros((2, len(paths)))
    for t, (task, path) in enumerate(zip(pool.tasks, paths, strict=True)):
        of_path = path.use * unit[task.resources]
        own = topology.server_time[topology.dnn[task.task.dnn].server]
        work[:, t] = of_path[task.resources == own].sum(), of_path.sum()
    done = work @ rates
    shares = [float(own / all_) if all_ > 0.0 else None for own, all_ in work.T]
    return shares, float(done[0] / done[1]) if done[1] > 0.0 else None


def average_time(weights: FloatArray, rows: Sequence[TaskResult]) -> float | None:
    """Return the weighted mean of the times of tasks [s], None where one is not known.

    Args:
        weights: w[t], of sum 1, shape (T,).
        rows: of all tasks; where a percentile is asked for the time is the promised one.
    """
    times = [
        row.latency if row.latency_percentile is None else row.latency_promised for row in rows
    ]
    known = [time for time in times if time is not None]
    return float(weights @ np.array(known)) if len(known) == len(times) else None


def promise_cells(promise: Promise) -> dict[str, Any]:
    """Return what a task's row says of its promise."""
    basis = None
    if promise.promised is not None:
        basis = "theorem" if promise.is_theorem else "model"
    return {
        "latency_percentile": promise.percentile,
        "latency_promised": promise.promised,
        "latency_mean": promise.mean,
        "latency_basis": basis,
    }


def server_result(server: Server, load: float, wait_scale: float | None = None) -> ServerResult:
    """Return what a result says of a server.

    Args:
        server: whose.
        load: its load as a share of what can be sold.
        wait_scale: of its waits [s].
    """
    sold = 1.0 if server.max_utilization is None else server.max_utilization
    return ServerResult(
        server=server.id,
        load=None if server.flops is None else load * (sold * server.flops),
        capacity=server.flops,
        utilization=load * sold,
        devices=server.devices,
        busy_devices=load * server.usable_devices,
        wait_scale=wait_scale,
    )


def score_interval(accuracy: float, samples: float | None) -> tuple[float, float] | None:
    """Return the 95 % interval of a measured accuracy, None where nobody tells the samples.

    The score interval of a share (Wilson, Journal of the American Statistical Association 22,
    1927, https://doi.org/10.1080/01621459.1927.10502953).
    """
    if samples is None:
        return None
    z2 = Z95 * Z95
    centre = accuracy + z2 / (2.0 * samples)
    half = Z95 * math.sqrt(accuracy * (1.0 - accuracy) / samples + z2 / (4.0 * samples * samples))
    whole = 1.0 + z2 / samples
    return max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole)


def blocks_of(task: TaskPaths, arcs: Sequence[int]) -> tuple[str, ...]:
    """Return the block ids of a path given by its arcs."""
    return task.graph.blocks(arcs)


def _traffic(evaluator: Evaluator, solution: Solution) -> dict[tuple[str, str], float]:
    """Return the bytes/s that cross each link, summed per arc, whatever its bandwidth."""
    load: dict[tuple[str, str], float] = defaultdict(float)
    for group in evaluator.pool.groups:
        rate = float(solution.allocation.rates[group.tasks[0]])
        paid = group.paid([solution.paths[t].arcs for t in group.tasks])
        for graph, arcs in zip(group.graphs, paid, strict=True):
            for arc in arcs:
                for source, target, size in graph.arcs[arc].hops:
                    load[source, target] += rate * size
    return load


def _link_result(link: Link, load: float, wait_scale: float | None) -> LinkResult:
    """Return what a result says of a link with a load in bytes/s."""
    return LinkResult(
        source=link.source,
        target=link.target,
        load=load,
        capacity=link.bandwidth,
        utilization=None if link.bandwidth is None else load / link.bandwidth,
        wait_scale=wait_scale,
    )
