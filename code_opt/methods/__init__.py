"""Methods: the exact one, heuristics, baselines; all checked before they are returned."""

from __future__ import annotations

from typing import Any

from code_opt.checker import check
from code_opt.errors import CodeOptError, InputError
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance
from code_opt.methods.baselines import (
    edge_early_pool,
    host_pool,
    local_pool,
    solve_greedy,
    solve_random,
    solve_restricted,
)
from code_opt.methods.evaluator import Evaluator
from code_opt.methods.exact import build_model, solve_exact
from code_opt.methods.lns import search
from code_opt.methods.parameters import Parameters
from code_opt.methods.results import make_result
from code_opt.methods.search import SearchOutcome
from code_opt.methods.settings import Clock, Progress, Settings
from code_opt.paths import PathProblem
from code_opt.result import Result

METHODS = ("exact", "code", "local", "host", "edge-early", "greedy", "random")
"""All methods, in the order in which tables show them."""

__all__ = [
    "METHODS",
    "CheckFailedError",
    "Parameters",
    "PathProblem",
    "Progress",
    "Settings",
    "build_model",
    "solve",
]


class CheckFailedError(CodeOptError):
    """A method's result did not pass the independent checker: an error of this package."""


def solve(problem: Instance | PathProblem, method: str = "exact", **options: Any) -> Result:
    """Solve an instance by one method; the result has passed the independent checker.

    Args:
        problem: what to solve; a :class:`PathProblem` that is solved several times labels its paths
            once.
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
    if isinstance(problem, Instance):
        problem = PathProblem(problem)
    result = (
        solve_exact(problem, settings) if method == "exact" else _solve(problem, method, settings)
    )
    violations = check(result, problem.instance)
    if violations:
        found = "; ".join(f"{v.rule} at {v.place}: {v.message}" for v in violations[:5])
        raise CheckFailedError(f"{method}: the result does not pass the check: {found}")
    return result.model_copy(update={"instance_digest": digest_of(problem.instance)})


def _solve(problem: PathProblem, method: str, settings: Settings) -> Result:
    """Run a heuristic or a baseline; nothing is proven, so no bound is reported."""
    clock, instance = Clock(settings.time_limit), problem.instance
    outcome: SearchOutcome | None
    if method == "local":
        evaluator, outcome = solve_restricted([local_pool(instance)], settings, clock)
    elif method == "edge-early":
        evaluator, outcome = solve_restricted([edge_early_pool(instance)], settings, clock)
    elif method == "host":
        pools = [
            host_pool(instance, native_allowed=False),
            host_pool(instance, native_allowed=True),
        ]
        evaluator, outcome = solve_restricted(pools, settings, clock)
    else:
        evaluator = Evaluator(problem.pool, settings)
        outcome = None
        if all(len(task) for task in evaluator.pool.tasks):
            if method == "greedy":
                outcome = solve_greedy(evaluator, clock)
            else:
                outcome = search(evaluator, clock, seed=settings.seed)
            if method == "random":
                outcome = solve_random(evaluator, clock, settings.seed, outcome.assignments)
    details: dict[str, Any] = {}
    if outcome is not None:
        details = {
            "paths": sum(task.graph.count_paths() for task in evaluator.pool.tasks),
            "paths_predicted": outcome.predicted,
            "paths_measured": outcome.measured,
            "assignments": outcome.assignments,
            "moves": outcome.moves,
            "stages": outcome.iterations,
        }
    solution = None if outcome is None else outcome.solution
    message = None if solution is not None else _why_none(evaluator)
    return make_result(
        evaluator,
        method,
        "unknown" if solution is None else "feasible",
        clock.seconds,
        solution,
        message=message,
        details=details,
    )


def _why_none(evaluator: Evaluator) -> str:
    for task in evaluator.pool.tasks:
        if len(task) == 0:
            return f"task {task.task.id!r} has no admissible path"
    return "no assignment found that meets all requirements"
