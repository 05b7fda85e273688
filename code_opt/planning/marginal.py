"""The marginal value of capacity: what a little more of each server and link is worth.

With the paths of the best assignment fixed the rates solve a linear program, whose duals
tell the throughput gained per unit of capacity; the chain rule turns it into reward. A
dual holds for an instant only, so it is confirmed twice with a step of real size: at the
same paths, and solved anew with all paths free.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from code_opt.core.allocation import RateAllocator
from code_opt.core.evaluator import Evaluator, path_of
from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths import PathPool, build_pool
from code_opt.paths.graph import FloatArray, Topology
from code_opt.paths.resources import Resource, enlarged
from code_opt.planning.case import with_demands
from code_opt.planning.columns import TableBuilder
from code_opt.planning.operation import finished_plan
from code_opt.planning.plan import Plan, Status, worst_status
from code_opt.planning.settings import PlanSettings
from code_opt.result import Result
from code_opt.reward import log_reward, log_slope
from code_opt.solving import solve

_COLUMNS = (
    "capacity_{0} utilization dual step_{0} gain_by_dual gain_fixed_paths gain_resolved "
    "resolved_status resolved_gap"
)


@dataclass(frozen=True)
class FixedPaths:
    """The rate program of one assignment."""

    pool: PathPool
    use: FloatArray
    """Of the groups, see :class:`code_opt.core.allocation.GroupArrays`, shape (G, K)."""
    accuracy: float

    @staticmethod
    def of(instance: Instance, result: Result) -> FixedPaths:
        """Return the rate program with the paths of a result."""
        pool = build_pool(instance)
        chosen = []
        for task, row in zip(pool.tasks, result.tasks, strict=True):
            arcs = task.graph.path_arcs(row.path)
            assert arcs is not None
            chosen.append(path_of(task, tuple(arcs)))
        assert result.accuracy is not None
        use = Evaluator(pool, Settings()).use(chosen)
        return FixedPaths(pool, use, result.accuracy)

    def allocate(self, factor: FloatArray | None = None) -> tuple[float, FloatArray]:
        """Return the most throughput and its duals (per whole capacity, shape (I,)).

        Args:
            factor: capacities as multiples of the present ones, shape (I,).
        """
        allocator = RateAllocator(self.pool)
        use = self.use
        if factor is not None:
            use = use / factor[allocator.groups.resource]
        found = allocator.allocate(use)
        if found is None:  # floors that fit within the solver's tolerance only
            return math.nan, np.full(len(self.pool.resources), math.nan)
        return found.throughput, found.dual


def plan_marginal(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    objective: Literal["reward", "throughput"] = "reward",
    step: float = 0.05,
    executor: Executor | None = None,
) -> Plan:
    """Return the marginal value of every server and every limited link.

    Args:
        instance: what to solve, at its present capacities.
        settings: gap, time limit and floor on the accuracy of each solve.
        objective: what capacity is worth something for.
        step: how much more capacity confirms a dual, as a share of it.
        executor: where the confirming solves run.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    if not 0.0 < step <= 10.0:
        raise InputError(f"step {step}: must lie in (0, 10]")
    begin = time.perf_counter()
    options = {**settings.solve_options(), "objective": objective}
    settings.tell("marginal values: the best assignment")
    ready = with_demands(instance, settings)
    base = solve(ready, **options)
    servers = TableBuilder(
        "servers", "Marginal value of the servers", f"server {_COLUMNS.format('flop_per_s')}"
    )
    links = TableBuilder(
        "links", "Marginal value of the links", f"source target {_COLUMNS.format('bytes_per_s')}"
    )
    statuses: list[Status] = [base.status]
    gaps = [base.gap]
    if base.has_solution:
        fixed = FixedPaths.of(ready, base)
        resources = [r for r in fixed.pool.resources if r.kind.is_sold]
        jobs = [(grown(ready, resource, step), options) for resource in resources]
        if executor is None:
            solved = []
            for number, job in enumerate(jobs, start=1):
                settings.tell(f"marginal values: {number} of {len(jobs)}")
                solved.append(_solve(job))
        else:
            settings.tell(f"marginal values: {len(jobs)} servers and links")
            solved = list(executor.map(_solve, jobs))
        for (resource, row), again in zip(
            _rows(ready, fixed, base, resources, objective, step), solved, strict=True
        ):
            statuses.append(again.status)
            gaps.append(again.gap)
            gain = None
            if again.value is not None and base.value is not None:
                gain = again.value - base.value
            found = {"resolved_status": again.status, "resolved_gap": again.gap}
            table = servers if resource.server is not None else links
            table.add(**row, gain_resolved=gain, **found)
    return finished_plan(
        "marginal",
        instance,
        begin,
        status=worst_status(statuses),
        gaps=gaps,
        message=base.message,
        settings={"objective": objective, "value": base.value, "step": step, **settings.shown()},
        tables=(servers, links),
    )


def grown(instance: Instance, resource: Resource, step: float) -> Instance:
    """Return the instance with more of one server or link; what floors mean stays as it was.

    A floor ``standalone`` would grow with the capacity: it is kept at its present rate.
    """
    tasks = tuple(
        task.model_copy(update={"floor": floor})
        for task, floor in zip(instance.tasks, Topology(instance).floors(), strict=True)
    )
    more = enlarged(instance, [(resource, step * resource.capacity)])
    return more.model_copy(update={"tasks": tasks})


def _solve(job: tuple[Instance, dict[str, Any]]) -> Result:
    instance, options = job
    return solve(instance, **options)


def _rows(
    instance: Instance,
    fixed: FixedPaths,
    base: Result,
    resources: list[Resource],
    objective: str,
    step: float,
) -> list[tuple[Resource, dict[str, Any]]]:
    """Return for each server and link its row, up to the gain at fixed paths."""
    throughput, price = fixed.allocate()
    shape = instance.reward.throughput

    def value(rate: float) -> float:
        if objective == "throughput":
            return rate
        return math.exp(log_reward(instance.reward, fixed.accuracy, rate))

    slope = 1.0
    if objective == "reward":
        # d F / d Th = F * (log zeta)'(Th)
        slope = value(throughput) * log_slope(shape, throughput)
    utilization: dict[tuple[str, ...], float | None] = {
        **{(s.server,): s.utilization for s in base.servers},
        **{(link.source, link.target): link.utilization for link in base.links},
    }
    rows: list[tuple[Resource, dict[str, Any]]] = []
    for resource in resources:
        i = fixed.pool.resources.index(resource)
        dual = float(price[i]) * slope / resource.capacity
        factor = np.ones(len(fixed.pool.resources))
        factor[i] = 1.0 + step
        more, _ = fixed.allocate(factor)
        unit = resource.kind.suffix
        place = ("server",) if resource.server is not None else ("source", "target")
        row = {
            **dict(zip(place, resource.key, strict=True)),
            f"capacity_{unit}": resource.capacity,
            "utilization": utilization[resource.key],
            "dual": dual,
            f"step_{unit}": step * resource.capacity,
            "gain_by_dual": dual * step * resource.capacity,
            "gain_fixed_paths": value(more) - value(throughput),
        }
        rows.append((resource, row))
    return rows
