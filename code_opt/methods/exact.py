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

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.methods.assignment import Judge, make_result
from code_opt.methods.colgen import ColumnGeneration
from code_opt.methods.diagnosis import explain
from code_opt.methods.heuristic import search
from code_opt.methods.mip import TangentLoop
from code_opt.methods.models import FlowView, ModelView, PathView
from code_opt.methods.settings import Clock, Settings
from code_opt.methods.tangents import tangent_points
from code_opt.paths import PathPool, build_pool
from code_opt.result import Result, Status

__all__ = ["build_model", "choose_formulation", "solve_exact", "tangent_points"]

_MOST_PATHS = 1000
"""Paths up to which ``auto`` takes ``path`` (``python -m benchmarks.ablation`` measures it)."""


def choose_formulation(pool: PathPool, settings: Settings) -> tuple[str, str]:
    """Return the formulation to use and why.

    Raises:
        InputError: ``colgen`` was asked for where tasks share inputs.
    """
    shares = any(group.is_shared for group in pool.groups)
    if settings.formulation == "colgen" and shares:
        raise InputError("formulation 'colgen': not for input groups; use path, flow or auto")
    if settings.formulation != "auto":
        return settings.formulation, "asked for"
    if shares:
        return "path", "input groups pay common prefixes once: only path and flow know them"
    if settings.solver != "highs":
        return "path", f"column generation needs HiGHS, not {settings.solver}"
    if pool.size <= _MOST_PATHS:
        return "path", f"{pool.size} nondominated paths: one program holds them all"
    return "colgen", f"{pool.size} nondominated paths: cuts and prices leave out most of them"


def solve_exact(instance: Instance, settings: Settings) -> Result:
    """Return the best assignment with a proven bound.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    clock = Clock(settings.time_limit)
    pool = build_pool(instance)
    formulation, reason = choose_formulation(pool, settings)
    if settings.solver_log:
        print(f"formulation {formulation}: {reason}", file=sys.stderr)
    settings = replace(settings, formulation=formulation)
    judge = Judge(pool, settings)
    counts: dict[str, Any] = {
        "formulation_choice": reason,
        "paths_in_pool": pool.size,
        "labels": pool.labels,
    }
    if any(len(task) == 0 for task in pool.tasks):
        return _no_solution(judge, "infeasible", clock, None, counts)
    best = search(judge, clock, seed=settings.seed).solution
    run: TangentLoop | ColumnGeneration
    if formulation == "colgen":
        run = ColumnGeneration(judge, clock, best)
        status = run.solve()
    else:
        run = TangentLoop(judge, clock, best)
        status = run.solve(_view(pool, settings))
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
        message=run.message,
        details=counts,
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
