"""The exact method: the best assignment with a proven bound.

``path`` and ``flow`` hand one mixed-integer program to the solver
(:mod:`code_opt.exact.mip`); ``colgen`` first narrows it down by column generation and cuts
(:mod:`code_opt.exact.colgen`); ``auto`` takes the one that fits the size.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import pyomo.core as pyo

from code_opt.core.bounds import bound_of_graphs, competitive, simple_bound
from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.evaluator import Evaluator
from code_opt.core.joint_tasks import build_joint_tasks, has_few_joint_paths
from code_opt.core.objective import refuse_tiny_reward
from code_opt.core.results import make_result
from code_opt.core.settings import SMALLEST_GAP, Clock, Formulation, Settings
from code_opt.core.tangents import tangent_points
from code_opt.errors import InputError, SolverError
from code_opt.exact.colgen import ColumnGeneration
from code_opt.exact.diagnosis import explain
from code_opt.exact.joint_listing import joint_paths_that_matter
from code_opt.exact.mip import TangentLoop
from code_opt.exact.models import ExchangeView, FlowView, PathView, flow_resolves
from code_opt.exact.pricing import PricedPool, priced_pool
from code_opt.exact.waiting import WaitingSearch
from code_opt.heuristics.lns import search
from code_opt.heuristics.search import SearchOutcome
from code_opt.instance.changes import served_at_demand, with_percentile
from code_opt.instance.model import Instance
from code_opt.paths import PathPool, PathProblem, PoolOptions, build_pool
from code_opt.paths.pool import limits_percentiles
from code_opt.result import Result, SecondOpinion, Status

__all__ = ["build_model", "choose_formulation", "solve_exact", "tangent_points"]


def choose_formulation(pool: PathPool, settings: Settings) -> tuple[Formulation, str]:
    """Return the formulation to use and why."""
    if limits_percentiles(pool.instance):
        if settings.formulation == "flow":
            raise InputError(
                "formulation 'flow': cannot limit percentiles, since a visit is a run of arcs; "
                "use path or auto"
            )
        if settings.formulation == "colgen":
            raise InputError(
                "formulation 'colgen': cannot limit percentiles, since a wait scale changes what "
                "all columns use; use path or auto"
            )
        return "path", "percentiles are limited: wait scales are chosen beside the paths"
    if settings.formulation != "auto":
        return settings.formulation, "asked for"
    if settings.solver != "highs":
        return "path", f"column generation needs HiGHS, not {settings.solver}"
    parameters = settings.parameters
    if pool.size <= parameters.exact.most_paths:
        return "path", f"{pool.size} nondominated paths: one program holds them all"
    for group in pool.groups:
        tasks = [pool.tasks[t] for t in group.tasks]
        if has_few_joint_paths(tasks, parameters.joint_paths):
            continue
        name = tasks[0].task.input_group
        return "path", f"input group {name!r} has too many combinations of paths to try them all"
    return "colgen", f"{pool.size} nondominated paths: cuts and duals leave out most of them"


def solve_exact(problem: PathProblem, settings: Settings) -> Result:
    """Return the best assignment with a proven bound.

    Raises:
        InputError: the instance or the settings cannot be used, or ``colgen`` was asked for
            and cannot list the joint paths of an input group.
        SolverError: the solver failed.
    """
    clock = Clock(settings.time_limit)
    if needs_pricing(problem, settings):
        priced = priced_pool(problem.topology, settings, clock)
        if priced is not None:
            return _solve_priced(priced, replace(settings, formulation="colgen"), clock)
    pool = problem.pool
    formulation, reason = choose_formulation(pool, settings)
    if settings.solver_log:
        print(f"formulation {formulation}: {reason}", file=sys.stderr)
    evaluator = Evaluator(pool, replace(settings, formulation=formulation))
    counts: dict[str, Any] = {
        "formulation_choice": reason,
        "paths_in_pool": pool.size,
        "labels": pool.labels,
    }
    if any(len(task) == 0 for task in pool.tasks):
        return _no_solution(evaluator, "infeasible", clock, None, counts)
    try:
        start = search(evaluator, clock, seed=settings.seed, is_intensified=False)
    except SolverError:
        start = SearchOutcome()  # a proof does not rest on the heuristic
    pool = competitive(pool, settings, start.solution)
    counts["paths_in_question"] = pool.size
    if any(len(task) == 0 for task in pool.tasks):
        return _no_solution(evaluator, "infeasible", clock, None, counts)
    note = None
    if formulation == "flow" and not flow_resolves(pool):
        formulation = "path"
        note = "solved by path: accuracies are too far below the drops for flow to tell apart"
    evaluator = Evaluator(pool, replace(settings, formulation=formulation))
    bound = simple_bound(pool, settings)
    if evaluator.objective.is_log:
        refuse_tiny_reward(bound)
    bound = min(bound, _bound_of_start(evaluator, start))
    run: TangentLoop | ColumnGeneration | WaitingSearch
    if evaluator.limits_promises:
        run = WaitingSearch(evaluator, clock, start.solution, bound)
    elif formulation == "colgen":
        table = _complete_table(evaluator, clock, start)
        run = ColumnGeneration(
            evaluator, clock, start.solution, table, learnt=start.learnt, bound=bound
        )
    else:
        view = _view(pool, evaluator.settings)
        run = TangentLoop(evaluator, view, clock, best=start.solution, bound=bound)
    status = run.solve()
    counts |= run.details
    if status in ("infeasible", "unknown"):
        return _no_solution(evaluator, status, clock, run.message, counts)
    return make_result(
        evaluator,
        "exact",
        status,
        clock.seconds,
        run.best,
        bound=run.bound,
        root_bound=bound if isinstance(run, WaitingSearch) else run.root_bound,
        second_opinion=_second_opinion(run) if settings.second_opinion else None,
        formulation=formulation,
        message=run.message or note,
        details=counts,
    )


def _bound_of_start(evaluator: Evaluator, start: SearchOutcome) -> float:
    """Return what the duals of the start's master prove; infinite where that is nothing."""
    learnt, objective = start.learnt, evaluator.objective
    if learnt is None or evaluator.limits_promises:
        return math.inf
    if not all(task.is_complete for task in learnt.table.joint_tasks):
        return math.inf
    duals, unit = learnt.duals, objective.unit
    total = {"throughput": duals.throughput, "accuracy": duals.accuracy}.get(objective.kind, 1.0)
    if total <= 0.0:
        return math.inf
    # The search maximises a logarithm, whose slope is 1 / value: the total itself counts 1.
    scale = 1.0 if objective.is_log or objective.is_time else 1.0 / (total * unit)
    scaled = replace(
        duals,
        resource=duals.resource * scale,
        accuracy=max(duals.accuracy, 0.0) * scale,
        throughput=max(duals.throughput, 0.0) * scale,
    )
    return Relaxation(learnt.table, objective).bound(scaled).value * unit


def _second_opinion(run: TangentLoop | ColumnGeneration | WaitingSearch) -> SecondOpinion | None:
    """Return what another solver proves of the last program; None where nobody can be asked."""
    if isinstance(run, WaitingSearch):
        return None
    if isinstance(run, TangentLoop):
        return run.second_opinion()
    return (run.loop or run.last_program()).second_opinion()


def _complete_table(evaluator: Evaluator, clock: Clock, start: SearchOutcome) -> ColumnTable:
    """Return a table with every column that can be part of anything better than the start.

    Raises:
        InputError: an input group has too many joint paths to list.
    """
    best, table = start.solution, None
    if start.learnt is None or start.learnt.table.pool is not evaluator.pool:
        parameters = evaluator.settings.parameters.joint_paths
        known = build_joint_tasks(evaluator.pool, parameters)
    else:
        table = start.learnt.table
        known = table.joint_tasks
    joint_tasks, large = joint_paths_that_matter(evaluator, known, clock, best)
    if large is not None:
        name = large.tasks[0].task.input_group
        raise InputError(
            f"formulation 'colgen': input group {name!r} has too many combinations of paths to "
            "list in time; use path, flow or auto"
        )
    if best is not None:
        joint_tasks = tuple(task.listing(best.arcs) for task in joint_tasks)
    if table is not None and all(a is b for a, b in zip(joint_tasks, known, strict=True)):
        return table
    return ColumnTable(evaluator.pool, joint_tasks)


def needs_pricing(problem: PathProblem, settings: Settings) -> bool:
    """Tell whether listing the nondominated paths would take too long."""
    tasks = problem.instance.tasks
    groups = [task.input_group for task in tasks if task.input_group is not None]
    if limits_percentiles(problem.instance) or problem.options.weighs_time:
        return False  # label-setting at duals knows no visits, and no duals of times
    if settings.formulation not in ("auto", "colgen") or len(set(groups)) < len(groups):
        return False
    most = settings.parameters.exact.most_paths_of_a_task
    return settings.solver == "highs" and max(problem.path_counts) > most


def _solve_priced(priced: PricedPool, settings: Settings, clock: Clock) -> Result:
    """Solve over a pool made by duals; without all paths that matter, value what is known."""
    evaluator = Evaluator(priced.pool, settings)
    details: dict[str, Any] = {
        "formulation_choice": "too many paths to list: priced by shortest paths",
        "paths_in_pool": priced.pool.size,
        "labels": priced.pool.labels,
        "pricing_rounds": priced.rounds,
    }
    best, message, opinion = priced.best, None, None
    root = bound = min(priced.bound, bound_of_graphs(priced.pool, settings))
    if priced.is_complete:
        run = ColumnGeneration(evaluator, clock, best, ColumnTable(priced.pool))
        run.solve()
        best, message = run.best or best, run.message
        root, bound = min(bound, run.root_bound), min(bound, run.bound)
        details |= run.details
        opinion = _second_opinion(run) if settings.second_opinion else None
    gap = evaluator.objective.gap(best.value, bound)
    is_proven = gap <= max(settings.gap, SMALLEST_GAP)
    if not is_proven and message is None:
        message = "stopped at the relaxation's bound: too many paths are within the gap"
    return make_result(
        evaluator,
        "exact",
        "optimal" if is_proven else "feasible",
        clock.seconds,
        best,
        bound=bound,
        root_bound=root,
        second_opinion=opinion,
        formulation="colgen",
        message=message,
        details=details,
    )


def build_model(instance: Instance, settings: Settings) -> pyo.ConcreteModel:
    """Return the Pyomo model of :func:`build_view`."""
    return build_view(instance, settings).model


def build_view(instance: Instance, settings: Settings) -> ExchangeView:
    """Return the model as the exact method starts with it, first tangents included.

    ``auto`` and ``colgen`` give the model of ``path``, which holds all columns.

    Raises:
        InputError: the instance cannot be used, a task has no admissible path, or percentiles
            count: what waits add is no part of one linear program.
    """
    instance = with_percentile(instance, settings.latency_percentile)
    instance = instance.with_max_utilization(settings.max_utilization)
    weighs_time = settings.objective == "latency"
    for asked in instance.tasks:
        if asked.latency_percentile is not None and (asked.max_latency is not None or weighs_time):
            raise InputError(
                f"task {asked.id!r} has a percentile of latency "
                + ("as the objective" if weighs_time else "with a limit")
                + ": waits are no linear function of paths and rates, so no one model holds them "
                "(solve divides intervals of wait scales as it goes); solve it here, or without "
                "the percentile"
            )
    pool = build_pool(
        served_at_demand(instance) if weighs_time else instance,
        PoolOptions(measured_only=settings.measured_only, weighs_time=weighs_time),
    )
    for paths in pool.tasks:
        if len(paths) == 0:
            raise InputError(f"task {paths.task.id!r} has no admissible path: nothing to export")
    view = _view(pool, settings)
    TangentLoop(Evaluator(pool, settings), view, Clock(None))  # gives it tangents
    return view


def _view(pool: PathPool, settings: Settings) -> ExchangeView:
    return FlowView(pool, settings) if settings.formulation == "flow" else PathView(pool, settings)


def _no_solution(
    evaluator: Evaluator,
    status: Status,
    clock: Clock,
    message: str | None = None,
    details: dict[str, Any] | None = None,
) -> Result:
    if status == "infeasible":
        message = explain(evaluator.pool.topology, evaluator.settings)
    return make_result(
        evaluator,
        "exact",
        status,
        clock.seconds,
        None,
        formulation=evaluator.settings.formulation,
        message=message,
        details=details,
    )
