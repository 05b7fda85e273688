"""Methods: the exact one, CoDE's heuristic, baselines; all checked before they are returned."""

from __future__ import annotations

from typing import Any

from code_opt.checker import check
from code_opt.errors import CodeOptError, InputError
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance
from code_opt.methods.assignment import Judge, make_result
from code_opt.methods.baselines import (
    edge_early_pool,
    host_pool,
    local_pool,
    solve_greedy,
    solve_random,
    solve_restricted,
)
from code_opt.methods.exact import build_model, solve_exact
from code_opt.methods.heuristic import search
from code_opt.methods.local_search import SearchOutcome
from code_opt.methods.settings import Clock, Progress, Settings
from code_opt.paths import build_pool
from code_opt.result import Result

METHODS = ("exact", "code", "local", "host", "edge-early", "greedy", "random")
"""All methods, in the order in which tables show them."""

__all__ = ["METHODS", "CheckFailedError", "Progress", "Settings", "build_model", "solve"]


class CheckFailedError(CodeOptError):
    """A method's result did not pass the independent checker: an error of this package."""


def solve(instance: Instance, method: str = "exact", **options: Any) -> Result:
    """Solve an instance by one method; the result has passed the independent checker.

    Args:
        instance: what to solve.
        method: one of :data:`METHODS`.
        options: fields of :class:`Settings`.

    Raises:
        InputError: an option or the instance cannot be used.
        SolverError: the solver failed.
        CheckFailedError: the result is wrong (never expected).
    """
    try:
        settings = Settings(**options)
    except TypeError as error:
        raise InputError(f"solve: {error}") from None
    if method not in METHODS:
        raise InputError(f"method {method!r}: use one of {', '.join(METHODS)}")
    result = (
        solve_exact(instance, settings) if method == "exact" else _solve(instance, method, settings)
    )
    violations = check(result, instance)
    if violations:
        found = "; ".join(f"{v.rule} at {v.place}: {v.message}" for v in violations[:5])
        raise CheckFailedError(f"{method}: the result does not pass the check: {found}")
    return result.model_copy(update={"instance_digest": digest_of(instance)})


def _solve(instance: Instance, method: str, settings: Settings) -> Result:
    """Run a heuristic or a baseline; nothing is proven, so no bound is reported."""
    clock = Clock(settings.time_limit)
    outcome: SearchOutcome | None
    if method == "local":
        judge, outcome = solve_restricted([local_pool(instance)], settings, clock)
    elif method == "edge-early":
        judge, outcome = solve_restricted([edge_early_pool(instance)], settings, clock)
    elif method == "host":
        pools = [
            host_pool(instance, native_allowed=False),
            host_pool(instance, native_allowed=True),
        ]
        judge, outcome = solve_restricted(pools, settings, clock)
    else:
        judge = Judge(build_pool(instance), settings)
        outcome = None
        if all(len(task) for task in judge.pool.tasks):
            if method == "greedy":
                outcome = solve_greedy(judge, clock)
            else:
                outcome = search(judge, clock, seed=settings.seed)
            if method == "random":
                outcome = solve_random(judge, clock, settings.seed, outcome.assignments)
    details: dict[str, Any] = {}
    if outcome is not None:
        details = {
            "paths": sum(task.graph.count_paths() for task in judge.pool.tasks),
            "paths_predicted": outcome.predicted,
            "paths_measured": outcome.measured,
            "assignments": outcome.assignments,
            "moves": outcome.moves,
            "stages": outcome.stages,
        }
    solution = None if outcome is None else outcome.solution
    message = None if solution is not None else _why_none(judge)
    return make_result(
        judge,
        method,
        "unknown" if solution is None else "feasible",
        clock.seconds,
        solution,
        message=message,
        details=details,
    )


def _why_none(judge: Judge) -> str:
    for task in judge.pool.tasks:
        if len(task) == 0:
            return f"task {task.task.id!r} has no admissible path"
    return "no assignment found that meets all requirements"
