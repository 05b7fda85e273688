"""N-1: what is still served when one server fails, and a plan that survives any one failure.

A failed server runs nothing: paths that visit it are gone. Three things are told apart:

- *fixed*: all paths stay as they are; a task whose path visits the server is not served, the
  others are, since loads only fall;
- *re-routed*: every task may take any path that avoids the server, with the units bought, and
  the total of what is served is largest (a program of its own, with its gap);
- *survivable*: the plan that keeps given floors under every single failure at least cost.
  Tasks that a failure hits go to backup paths, all others stay where they are.

A task of which no path avoids a server is lost with it, whatever is bought; the tables say
so, and the survivable plan keeps the floors of all others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from code_opt.core.settings import SMALLEST_GAP
from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.resources import SERVER_TIME
from code_opt.planning.case import Case, Coordination, build_case
from code_opt.planning.columns import builders
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.heuristic import search_plan
from code_opt.planning.least_cost import solve_least_cost
from code_opt.planning.operation import (
    PATH_SEPARATOR,
    OperationTables,
    PlanFailedCheckError,
    figures_of,
    finished_plan,
    operate,
)
from code_opt.planning.plan import Plan, Status, worst_status
from code_opt.planning.programs import (
    ProgramOutcome,
    Start,
    load_under_failure,
    plan_data,
    planning_session,
    restricted,
    solve_program,
    with_bound,
)
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from code_opt.planning.tolerances import ROW
from code_opt.result import TOLERANCE
from code_opt.solvers import Termination
from formulations import Failure, Situation, build_rerouting_model


@dataclass(frozen=True)
class Rerouted:
    """The most that can be served without one server [inferences/s]."""

    served: float
    bound: float

    @property
    def gap(self) -> float:
        """(bound - served) / served, 0 where nothing can be served."""
        if self.bound <= self.served * (1.0 + ROW):
            return 0.0
        return self.bound / self.served - 1.0 if self.served > 0.0 else math.inf


def plan_failures(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    keep: float | None = None,
    growth: float = 1.0,
    max_loss: float | None = None,
    coordination: Coordination = "full",
) -> Plan:
    """Return what every single failure of a server costs, and the plan that survives them.

    Args:
        instance: what to plan for.
        settings: options shared by all analyses.
        keep: share of every task's demand that is kept under a failure; None: the tasks'
            own floors (at most their demand).
        growth: factor on all demands.
        max_loss: most points of average accuracy lost against native paths, while nothing
            has failed; backup paths obey their tasks' ``min_accuracy`` alone.
        coordination: which paths may be used.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    factor, loss = check_growth(growth), check_loss(max_loss)
    if keep is not None and not (math.isfinite(keep) and 0.0 <= keep <= 1.0):
        raise InputError(f"keep {keep}: must lie in [0, 1]")
    begin = time.perf_counter()
    case = build_case(instance, settings, coordination, visits=True)
    least = case.least_accuracy(settings, loss)
    demand = case.grown(factor)
    kept = demand * keep if keep is not None else case.floors(demand)
    failures = [
        Failure(i, kept.tolist(), frozenset(np.flatnonzero(case.visits[:, i]).tolist()))
        for i, r in enumerate(case.resources)
        if r.kind is SERVER_TIME
    ]
    tables = builders(
        (
            "summary",
            "Plans with and without thought of failures",
            "plan status cost bound gap units extra_cost extra_units accuracy "
            "accuracy_loss_points worst_served_fixed_share worst_served_rerouted_share "
            "seconds message",
        ),
        (
            "failures",
            "What is served when one server fails",
            "plan failed_server demand_per_s served_fixed_per_s served_fixed_share "
            "served_rerouted_per_s served_rerouted_share rerouted_gap tasks_hit tasks_lost "
            "floors_kept",
        ),
        (
            "backups",
            "Where the survivable plan sends the tasks that a failure hits",
            "failed_server task path rate_per_s accuracy",
        ),
        ("lost", "Tasks of which no path avoids the server", "failed_server task"),
    )
    operation = OperationTables("plan")
    settings.tell("failures: the normal plan")
    started = time.perf_counter()
    normal = solve_least_cost(case, demand, least, settings)[0].outcome
    times = [time.perf_counter() - started]
    settings.tell("failures: the survivable plan")
    started = time.perf_counter()
    survivable = solve_survivable(case, demand, least, failures, settings, normal)
    # Every survivable plan serves all demand while nothing has failed.
    survivable = with_bound(survivable, normal.bound, settings)
    times.append(time.perf_counter() - started)
    messages: list[str] = []
    outcomes = {"normal": normal, "survivable": survivable}
    statuses: list[Status] = [outcome.status for outcome in outcomes.values()]
    gaps = [outcome.gap for outcome in outcomes.values()]
    for (name, outcome), seconds in zip(outcomes.items(), times, strict=True):
        message = outcome.message
        if outcome.status == "infeasible":
            message = why_infeasible(case, demand, least, settings)
            if name == "survivable" and normal.status != "infeasible":
                message = "the floors under failure do not fit what can be bought"
            messages.append(f"{name}: {message}")
        summary: dict[str, Any] = {
            "plan": name,
            "status": outcome.status,
            "seconds": seconds,
            "message": message,
        }
        if outcome.paths is None or outcome.units is None:
            tables["summary"].add(**summary)
            continue
        paths, units = outcome.paths[0], outcome.units[0]
        result, _ = operate(case, units, paths, demand, demand, min_accuracy=least)
        operation.add(case, units, result, plan=name)
        rows = []
        for number, failure in enumerate(failures):
            settings.tell(f"failures: {name}, {number + 1} of {len(failures)}")
            row, again = _failure_row(
                case, failure, paths, units, demand, outcome.backups or {}, number, settings
            )
            rows.append(row)
            gaps.append(again.gap if math.isfinite(again.gap) else None)
            if again.gap > max(settings.gap, SMALLEST_GAP):
                statuses.append("feasible")  # a limit came first; the row tells the gap
        tables["failures"].add_all(rows, plan=name)
        if normal.units is not None and normal.cost is not None and outcome.cost is not None:
            summary["extra_cost"] = outcome.cost - normal.cost
            summary["extra_units"] = units.sum() - normal.units[0].sum()
        tables["summary"].add(
            **summary,
            **figures_of(case, outcome),
            worst_served_fixed_share=min(row["served_fixed_share"] for row in rows),
            worst_served_rerouted_share=min(row["served_rerouted_share"] for row in rows),
        )
    for (f, t), path in sorted((survivable.backups or {}).items()):
        tables["backups"].add(
            failed_server=case.resources[failures[f].server].key[0],
            task=case.instance.tasks[t].id,
            path=PATH_SEPARATOR.join(case.blocks(path)),
            rate_per_s=failures[f].keep[t],
            accuracy=case.accuracy[path],
        )
    for failure in failures:
        visits = case.visits[:, failure.server]
        for t, task in enumerate(case.instance.tasks):
            if visits[case.first[t] : case.first[t + 1]].all():
                tables["lost"].add(
                    failed_server=case.resources[failure.server].key[0], task=task.id
                )
    return finished_plan(
        "failures",
        instance,
        begin,
        status=worst_status(statuses),
        gaps=gaps,
        message="\n".join(messages) or None,
        settings={
            "keep": keep,
            "growth": factor,
            "max_loss_points": loss,
            "coordination": coordination,
            **settings.shown(),
        },
        tables=(
            *(tables["summary"], tables["failures"], *operation.tables),
            *(tables["backups"], tables["lost"]),
        ),
    )


def solve_survivable(
    case: Case,
    demand: FloatArray,
    min_accuracy: float | None,
    failures: Sequence[Failure],
    settings: PlanSettings,
    normal: ProgramOutcome | None = None,
) -> ProgramOutcome:
    """Return the cheapest plan that keeps rates under every single failure.

    Args:
        case: built with ``visits``.
        demand: rates while nothing has failed [inferences/s], shape (T,).
        min_accuracy: floor on the average accuracy while nothing has failed.
        failures: servers and the rates that are kept without them.
        settings: gap, time limit, solver.
        normal: a plan to start from.
    """
    data = plan_data(case, [Situation(0, 0, demand.tolist())], [min_accuracy], failures=failures)
    start = None
    paths = None if normal is None or normal.paths is None else normal.paths[0]
    if paths is None:
        found = search_plan(case, demand[None, :], min_accuracy, settings.seed)
        paths = found.paths if found is not None and found.is_feasible else None
    if paths is not None:
        start = _with_backups(case, demand, failures, paths)
    return solve_program(case, data, settings, start)


def solve_rerouted(
    case: Case, failure: Failure, units: FloatArray, demand: FloatArray, settings: PlanSettings
) -> Rerouted:
    """Return the most that is served when every task may take any path avoiding a server.

    Args:
        case: built with ``visits``.
        failure: the server that is gone.
        units: units bought, shape (I,).
        demand: most of each rate [inferences/s], shape (T,).
        settings: gap, time limit, solver.
    """
    scaled = replace(case.scaled(case.capacity(units)), unit=np.zeros_like(case.unit))
    data = plan_data(scaled, [Situation(0, 0, demand.tolist(), adapts=True)], [None])
    if demand.sum() <= 0.0:
        return Rerouted(0.0, 0.0)
    session = planning_session(build_rerouting_model(data, failure.visiting), settings)
    outcome = session.solve(
        time_limit=settings.time_limit,
        relative_gap=max(settings.gap, SMALLEST_GAP),
        absolute_gap=0.0,
        tolerance=ROW,
    )
    total = float(demand.sum())
    if outcome.termination is Termination.INFEASIBLE:
        return Rerouted(0.0, 0.0)
    served = 0.0 if outcome.value is None else max(0.0, outcome.value) * total
    bound = min(outcome.bound, 1.0) * total
    return Rerouted(min(served, total), max(bound, served))


def _with_backups(
    case: Case, demand: FloatArray, failures: Sequence[Failure], paths: IntArray
) -> Start:
    """Return a plan with backups: each hit task takes the path that adds the least cost."""
    units = case.units_for(case.load(paths, demand))
    backups: dict[tuple[int, int], int] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        per_share = np.where(case.unit > 0.0, case.price / case.unit, 1e6)
    for f, failure in enumerate(failures):
        keep = np.asarray(failure.keep)
        visits = case.visits[:, failure.server]
        stays = ~visits[paths]
        then = np.where(stays, paths, -1)
        load = case.load(then, keep)
        for t in np.flatnonzero(~stays).tolist():
            rows = np.arange(case.first[t], case.first[t + 1])
            rows = rows[~visits[rows]]
            if not len(rows):
                continue
            # Tasks of its group that run already pay for what they share.
            group = next((g for g in case.shared.groups if t in g), ())
            others = np.array([then[s] for s in group if then[s] >= 0], dtype=np.int64)
            grown = load + keep[t] * case.shared.beside(rows, others)
            have = case.capacity(units)
            need = np.maximum(case.units_for(grown), units) - units
            over = np.maximum(grown - have, 0.0) @ per_share
            cost = np.where(np.isfinite(need), need, 0.0) @ case.price + over
            best = int(np.argmin(cost - 1e-9 * case.accuracy[rows]))
            backups[f, t] = then[t] = int(rows[best])
            load = grown[best]
        units = np.maximum(units, np.where(case.unit > 0.0, case.units_for(load), units))
    return Start(paths[None, :], np.minimum(units, case.sold)[None, :], backups)


def _failure_row(
    case: Case,
    failure: Failure,
    paths: IntArray,
    units: FloatArray,
    demand: FloatArray,
    backups: dict[tuple[int, int], int],
    number: int,
    settings: PlanSettings,
) -> tuple[dict[str, Any], Rerouted]:
    """Return the row of one failure by the names of its columns."""
    visits = case.visits[:, failure.server]
    hit = visits[paths]
    lost = [t for t in range(len(paths)) if visits[case.first[t] : case.first[t + 1]].all()]
    total = float(demand.sum())
    fixed = float(demand[~hit].sum())
    again = solve_rerouted(case, failure, units, demand, settings)
    # Leaving all paths as they are is one way to re-route.
    again = Rerouted(max(again.served, fixed), max(again.bound, fixed))
    kept = np.asarray(failure.keep)
    promised = [t for t in np.flatnonzero(hit).tolist() if t not in lost and kept[t] > 0.0]
    floors_kept: bool | None = all((number, t) in backups for t in promised)
    if not floors_kept and not backups:
        floors_kept = _can_keep(case, failure, paths, units, promised, settings)
    elif floors_kept and promised:
        load = load_under_failure(case, failure, paths, backups, number)
        if (load > case.capacity(units) * (1.0 + TOLERANCE)).any():
            raise PlanFailedCheckError(
                f"failure of {case.resources[failure.server].name}: overload"
            )
    row = {
        "failed_server": case.resources[failure.server].key[0],
        "demand_per_s": total,
        "served_fixed_per_s": fixed,
        "served_fixed_share": fixed / total if total > 0.0 else 1.0,
        "served_rerouted_per_s": again.served,
        "served_rerouted_share": again.served / total if total > 0.0 else 1.0,
        "rerouted_gap": again.gap,
        "tasks_hit": hit.sum(),
        "tasks_lost": len(lost),
        "floors_kept": floors_kept,
    }
    return row, again


def _can_keep(
    case: Case,
    failure: Failure,
    paths: IntArray,
    units: FloatArray,
    hit: Sequence[int],
    settings: PlanSettings,
) -> bool | None:
    """Tell whether hit tasks find backup paths on which all keep their rates; None: unknown.

    Args:
        case: built with ``visits``.
        failure: the server that is gone, and the rates.
        paths: path of each task, shape (T,).
        units: units bought, shape (I,).
        hit: tasks that are hit and have a path left.
        settings: time limit, solver.
    """
    visits = case.visits[:, failure.server]
    allowed = np.zeros(len(case.task_of), dtype=bool)
    # Tasks that are lost keep their path in this program, at no rate.
    allowed[paths] = True
    for t in hit:
        own = slice(int(case.first[t]), int(case.first[t + 1]))
        allowed[own] = ~visits[own]
    stays = ~visits[paths]
    stays[list(hit)] = True
    keep = np.asarray(failure.keep) * stays
    at_capacity = case.scaled(case.capacity(units))
    memory = np.where(visits[:, None], 0.0, case.memory)
    scaled = replace(
        at_capacity,
        memory=memory,
        # What does not run pays for nothing that others share with it.
        shared=at_capacity.shared.left_out(visits | ~stays[case.task_of], at_capacity.use, memory),
        unit=np.zeros_like(case.unit),
    )
    left = restricted(scaled, allowed)
    data = plan_data(left, [Situation(0, 0, keep.tolist())], [None])
    outcome = solve_program(left, data, settings)
    return None if outcome.status == "unknown" else outcome.paths is not None
