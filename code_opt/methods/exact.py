"""The exact method: the best assignment with a proven bound.

``path`` and ``flow`` hand one mixed-integer program to the solver
(:mod:`code_opt.methods.mip`); ``colgen`` first narrows it down by column generation and cuts
(:mod:`code_opt.methods.colgen`); ``auto`` takes the one that fits the size.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pyomo.environ as pyo

from code_opt.errors import InputError, SolverError
from code_opt.instance.model import Instance
from code_opt.methods.assignment import (
    Judge,
    make_result,
    refuse_tiny_reward,
    relative_gap,
)
from code_opt.methods.bounds import bound_of_graphs, competitive, simple_bound
from code_opt.methods.colgen import ColumnGeneration
from code_opt.methods.diagnosis import explain
from code_opt.methods.heuristic import search
from code_opt.methods.mip import TangentLoop
from code_opt.methods.models import FlowView, ModelView, PathView, flow_resolves
from code_opt.methods.options import options_that_matter
from code_opt.methods.pricing import PricedPool, priced_pool
from code_opt.methods.settings import SMALLEST_GAP, Clock, Formulation, Settings
from code_opt.methods.tangents import tangent_points
from code_opt.methods.units import Unit, has_few_options
from code_opt.paths import PathPool, build_pool, count_paths
from code_opt.result import Result, Status

__all__ = ["build_model", "choose_formulation", "solve_exact", "tangent_points"]

_MOST_PATHS_OF_A_TASK = 1_000_000
"""Paths of a task's graph, dominated ones included, up to which they are labelled at once."""
_MOST_PATHS = 1000
"""Paths up to which ``auto`` takes ``path`` (``python -m benchmarks.ablation`` measures it)."""


def choose_formulation(pool: PathPool, settings: Settings) -> tuple[Formulation, str]:
    """Return the formulation to use and why."""
    if settings.formulation != "auto":
        return settings.formulation, "asked for"
    if settings.solver != "highs":
        return "path", f"column generation needs HiGHS, not {settings.solver}"
    if pool.size <= _MOST_PATHS:
        return "path", f"{pool.size} nondominated paths: one program holds them all"
    large = [g for g in pool.groups if not has_few_options([pool.tasks[t] for t in g.tasks])]
    if large:
        name = pool.tasks[large[0].tasks[0]].task.input_group
        return "path", f"input group {name!r} has too many combinations of paths to try them all"
    return "colgen", f"{pool.size} nondominated paths: cuts and prices leave out most of them"


def solve_exact(instance: Instance, settings: Settings) -> Result:
    """Return the best assignment with a proven bound.

    Raises:
        InputError: the instance or the settings cannot be used, or ``colgen`` was asked for
            and cannot list the options of an input group.
        SolverError: the solver failed.
    """
    clock = Clock(settings.time_limit)
    if _needs_pricing(instance, settings):
        priced = priced_pool(instance, settings, clock)
        if priced is not None:
            return _solve_priced(priced, replace(settings, formulation="colgen"), clock)
    pool = build_pool(instance)
    formulation, reason = choose_formulation(pool, settings)
    if settings.solver_log:
        print(f"formulation {formulation}: {reason}", file=sys.stderr)
    judge = Judge(pool, replace(settings, formulation=formulation))
    counts: dict[str, Any] = {
        "formulation_choice": reason,
        "paths_in_pool": pool.size,
        "labels": pool.labels,
    }
    if any(len(task) == 0 for task in pool.tasks):
        return _no_solution(judge, "infeasible", clock, None, counts)
    try:
        best = search(judge, clock, seed=settings.seed, is_deep=False).solution
    except SolverError:
        best = None  # a proof does not rest on the heuristic
    pool = competitive(pool, settings, best)
    counts["paths_in_question"] = pool.size
    if any(len(task) == 0 for task in pool.tasks):
        return _no_solution(judge, "infeasible", clock, None, counts)
    note = None
    if formulation == "flow" and not flow_resolves(pool):
        formulation = "path"
        note = "solved by path: accuracies are too far below the drops for flow to tell apart"
    judge = Judge(pool, replace(settings, formulation=formulation))
    bound = simple_bound(pool, settings)
    if settings.objective == "reward":
        refuse_tiny_reward(bound)
    units: tuple[Unit, ...] = ()
    if formulation == "colgen":
        units, large = options_that_matter(judge, clock, best)
        if large is not None:
            name = large.tasks[0].task.input_group
            raise InputError(
                f"formulation 'colgen': input group {name!r} has too many combinations of paths to "
                "list in time; use path, flow or auto"
            )
    run: TangentLoop | ColumnGeneration
    if formulation == "colgen":
        run = ColumnGeneration(judge, clock, best, units)
        run.bound = bound
        status = run.solve()
    else:
        run = TangentLoop(judge, clock, best)
        run.bound = bound
        status = run.solve(_view(pool, judge.settings))
    counts |= run.details
    if status in ("infeasible", "unknown"):
        return _no_solution(judge, status, clock, run.message, counts)
    return make_result(
        judge,
        "exact",
        status,
        clock.seconds,
        run.best,
        bound=run.bound,
        formulation=formulation,
        message=run.message or note,
        details=counts,
    )


def _needs_pricing(instance: Instance, settings: Settings) -> bool:
    """Tell whether listing the nondominated paths would take too long."""
    groups = [task.input_group for task in instance.tasks if task.input_group is not None]
    if settings.formulation not in ("auto", "colgen") or len(set(groups)) < len(groups):
        return False
    return settings.solver == "highs" and max(count_paths(instance)) > _MOST_PATHS_OF_A_TASK


def _solve_priced(priced: PricedPool, settings: Settings, clock: Clock) -> Result:
    """Solve over a pool made by prices; without all paths that matter, value what is known."""
    judge = Judge(priced.pool, settings)
    details: dict[str, Any] = {
        "formulation_choice": "too many paths to list: priced by shortest paths",
        "paths_in_pool": priced.pool.size,
        "labels": priced.pool.labels,
        "pricing_rounds": priced.rounds,
    }
    best, message = priced.best, None
    bound = min(priced.bound, bound_of_graphs(priced.pool, settings))
    if priced.is_complete:
        run = ColumnGeneration(judge, clock, best)
        run.solve()
        best, bound, message = run.best or best, min(bound, run.bound), run.message
        details |= run.details
    gap = relative_gap(settings.objective == "reward", best.log_value, bound)
    is_proven = gap <= max(settings.gap, SMALLEST_GAP)
    if not is_proven and message is None:
        message = "stopped at the relaxation's bound: too many paths are within the gap"
    return make_result(
        judge,
        "exact",
        "optimal" if is_proven else "feasible",
        clock.seconds,
        best,
        bound=bound,
        formulation="colgen",
        message=message,
        details=details,
    )


def build_model(instance: Instance, settings: Settings) -> pyo.ConcreteModel:
    """Return the Pyomo model as the exact method starts with it, first tangents included.

    ``auto`` and ``colgen`` give the model of ``path``, which holds all columns.

    Raises:
        InputError: the instance cannot be used, or a task has no admissible path.
    """
    pool = build_pool(instance)
    for task in pool.tasks:
        if len(task) == 0:
            raise InputError(f"task {task.task.id!r} has no admissible path: nothing to export")
    view = _view(pool, settings)
    TangentLoop(Judge(pool, settings), Clock(settings.time_limit)).add_tangents(view)
    return view.model


def _view(pool: PathPool, settings: Settings) -> ModelView:
    return FlowView(pool, settings) if settings.formulation == "flow" else PathView(pool, settings)


def _no_solution(
    judge: Judge,
    status: Status,
    clock: Clock,
    message: str | None = None,
    details: dict[str, Any] | None = None,
) -> Result:
    if status == "infeasible":
        message = explain(judge.pool.instance, judge.settings)
    return make_result(
        judge,
        "exact",
        status,
        clock.seconds,
        None,
        formulation=judge.settings.formulation,
        message=message,
        details=details,
    )
