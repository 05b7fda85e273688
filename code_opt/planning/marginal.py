"""The marginal value of capacity: what a little more of each server and link is worth.

With the paths of the best assignment fixed the rates solve a linear program, whose duals
tell the throughput gained per unit of capacity; the chain rule turns it into reward. A
dual holds for an instant only, so it is confirmed twice with a step of real size: at the
same paths, and solved anew with all paths free.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any, Literal

import numpy as np

from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.instance.model import GivenPath, Instance
from code_opt.paths.graph import FloatArray, Topology
from code_opt.paths.resources import Resource, enlarged, key_of
from code_opt.paths.standalone import least_rates
from code_opt.planning.analysis import Analysis
from code_opt.planning.case import refuse_percentiles, with_demands
from code_opt.planning.columns import TableBuilder
from code_opt.planning.operation import PLACE_COLUMNS, SOLD_KINDS, columns_of, evaluator_of
from code_opt.planning.plan import Plan, Status
from code_opt.planning.settings import PlanSettings
from code_opt.result import Result
from code_opt.reward import log_reward, log_slope
from code_opt.solving import solve
from code_opt.stopping import is_stop_requested

_COLUMNS = (
    "capacity_{0} utilization dual step_{0} gain_by_dual gain_fixed_paths gain_resolved "
    "resolved_status resolved_gap"
)


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
    if objective not in ("reward", "throughput"):
        raise InputError(
            f"objective {objective!r}: capacity is worth something for reward or throughput"
        )
    tables = {
        kind: TableBuilder(
            kind.records,
            f"Marginal value of the {kind.records}",
            f"{' '.join(PLACE_COLUMNS[kind.records])} {columns_of(_COLUMNS, kind)}",
        )
        for kind in SOLD_KINDS
    }
    refuse_percentiles(
        instance,
        settings,
        "its duals are those of rates at fixed wait scales, no prices of capacity; compare plans "
        "of --vary or least cost instead",
    )
    analysis = Analysis("marginal", instance, settings, *tables.values())
    options = {**settings.solve_options(), "objective": objective}
    analysis.tell("marginal values: the best assignment")
    ready = with_demands(instance, settings)
    base = solve(ready, **options)
    analysis.prove(base.status, base.gap)
    if base.has_solution:
        fixed = FixedPaths(ready, base, objective)
        jobs = [(grown(ready, resource, step), options) for resource in fixed.resources]
        solved = _solve_all(analysis, jobs, executor)
        left = sum(again is None for again in solved)
        if left:
            analysis.reasons.append(f"not solved again before an interrupt: {left} of {len(jobs)}")
        for resource, again in zip(fixed.resources, solved, strict=True):
            status: Status = "unknown" if again is None else again.status
            gap = None if again is None else again.gap
            analysis.prove(status, gap)
            gain = None
            if again is not None and again.value is not None and base.value is not None:
                gain = again.value - base.value
            tables[resource.kind].add(
                **fixed.cells(resource, step),
                gain_resolved=gain,
                resolved_status=status,
                resolved_gap=gap,
            )
    return analysis.plan(base.message, objective=objective, value=base.value, step=step)


class FixedPaths:
    """The rate program of one assignment, and what its duals are worth."""

    def __init__(self, instance: Instance, result: Result, objective: str) -> None:
        """Solve the rate program with the paths of a result."""
        self._instance, self._result, self._objective = instance, result, objective
        paths = [GivenPath.of(row.path, row.accuracy_source) for row in result.tasks]
        self._evaluator, chosen = evaluator_of(instance, paths, Settings())
        self._use = self._evaluator.use(chosen)
        pool = self._evaluator.pool
        self._throughput, self._dual = self._allocate(np.ones(len(pool.resources)))
        self.resources = [r for r in pool.resources if r.kind.is_sold]
        """The servers and limited links, in the order of the instance."""

    def _allocate(self, capacity: FloatArray) -> tuple[float, FloatArray]:
        """Return the most throughput and its duals (per whole capacity, shape (I,)).

        Args:
            capacity: as multiples of the present ones, shape (I,).
        """
        allocator = self._evaluator.allocator
        found = allocator.allocate(self._use / capacity[allocator.groups.resource])
        if found is None:  # floors that fit within the solver's tolerance only
            return math.nan, np.full(len(capacity), math.nan)
        return found.throughput, found.dual

    def _value(self, throughput: float) -> float:
        """Return the objective at a throughput."""
        if self._objective == "throughput":
            return throughput
        assert self._result.accuracy is not None
        return math.exp(log_reward(self._instance.reward, self._result.accuracy, throughput))

    @property
    def _slope(self) -> float:
        """d objective / d throughput."""
        if self._objective == "throughput":
            return 1.0
        # d F / d Th = F * (log zeta)'(Th)
        shape = self._instance.reward.throughput
        return self._value(self._throughput) * log_slope(shape, self._throughput)

    def cells(self, resource: Resource, step: float) -> dict[str, Any]:
        """Return the cells of a server or link, up to the gain at fixed paths."""
        kind, resources = resource.kind, self._evaluator.pool.resources
        i = resources.index(resource)
        capacity = np.ones(len(resources))
        capacity[i] += step
        more, _ = self._allocate(capacity)
        records = map(key_of, getattr(self._instance, kind.records))
        used = dict(zip(records, getattr(self._result, kind.records), strict=True))
        # Of nothing there is no little more: its dual is 0, and so are its step and gains.
        dual = 0.0
        if resource.capacity > 0.0:
            dual = float(self._dual[i]) * self._slope / resource.capacity
        return {
            **dict(zip(PLACE_COLUMNS[kind.records], resource.key, strict=True)),
            **{f"capacity_{m.suffix}": getattr(resource.record, m.record) for m in kind.measures},
            "utilization": used[resource.key].utilization,
            "dual": dual,
            **{
                f"step_{m.suffix}": None if amount is None else step * amount
                for m in kind.measures
                for amount in [getattr(resource.record, m.record)]
            },
            "gain_by_dual": dual * step * resource.capacity,
            "gain_fixed_paths": self._value(more) - self._value(self._throughput),
        }


def grown(instance: Instance, resource: Resource, step: float) -> Instance:
    """Return the instance with more of one server or link; what floors mean stays as it was.

    A floor ``standalone`` would grow with the capacity: it is kept at its present rate.
    """
    tasks = tuple(
        task.model_copy(update={"floor": floor})
        for task, floor in zip(instance.tasks, least_rates(Topology(instance)), strict=True)
    )
    present = instance.model_copy(update={"tasks": tasks})
    return enlarged(present, [(resource, step * resource.capacity)])


def _solve_all(
    analysis: Analysis, jobs: list[tuple[Instance, dict[str, Any]]], executor: Executor | None
) -> list[Result | None]:
    """Return the results of all jobs, in order; None of those that a stop came before."""
    if executor is not None:
        analysis.tell(f"marginal values: {len(jobs)} servers and links")
        return list(executor.map(_solve, jobs))
    solved: list[Result | None] = []
    for number, job in enumerate(jobs, start=1):
        analysis.tell(f"marginal values: {number} of {len(jobs)}")
        solved.append(_solve(job))
    return solved


def _solve(job: tuple[Instance, dict[str, Any]]) -> Result | None:
    instance, options = job
    return None if is_stop_requested() else solve(instance, **options)
