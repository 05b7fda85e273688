"""Solve an instance by any method; every result is checked before it is returned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from code_opt.certificate import Certificate, LinkDual, ServerDual, certified_bound
from code_opt.checker import check
from code_opt.core.changes import previous_of, with_changes
from code_opt.core.evaluator import Evaluator
from code_opt.core.fixed_paths import paths_result
from code_opt.core.parameters import CodeParameters, Parameters
from code_opt.core.results import make_result
from code_opt.core.settings import Clock, Formulation, Progress, Settings
from code_opt.errors import CodeOptError, InputError
from code_opt.exact.certifying import relaxation_duals
from code_opt.exact.method import build_model, solve_exact
from code_opt.heuristics.baselines import (
    edge_early_pool,
    host_pool,
    local_pool,
    solve_greedy,
    solve_random,
    solve_restricted,
)
from code_opt.heuristics.lns import search
from code_opt.heuristics.search import SearchOutcome
from code_opt.heuristics.staged_search import solve_code
from code_opt.instance.changes import served_at_demand, with_percentile
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance, Link, Server
from code_opt.paths import Duals, PathProblem
from code_opt.registry import BUILT_IN, Method, Paths, get_method
from code_opt.result import Objective, Result

METHODS = tuple(method.name for method in BUILT_IN)
"""The package's own methods, in the order in which tables show them."""

__all__ = [
    "METHODS",
    "CheckFailedError",
    "CodeParameters",
    "Parameters",
    "PathProblem",
    "Progress",
    "Settings",
    "build_model",
    "certify",
    "evaluate_paths",
    "solve",
]


class CheckFailedError(CodeOptError):
    """A method's result did not pass the independent checker: an error of this package."""


def solve(
    problem: Instance | PathProblem,
    method: str = "exact",
    *,
    objective: Objective = "reward",
    min_accuracy: float | None = None,
    min_throughput: float | None = None,
    latency_percentile: float | None = None,
    max_utilization: float | None = None,
    measured_only: bool = False,
    previous: Result | Mapping[str, Sequence[str]] | None = None,
    max_changes: int | None = None,
    time_limit: float | None = None,
    gap: float = 1e-4,
    seed: int = 0,
    formulation: Formulation = "auto",
    solver: str = "highs",
    solver_options: Mapping[str, Any] | None = None,
    threads: int = 1,
    solver_log: bool = False,
    second_opinion: bool = False,
    progress: Callable[[Progress], None] | None = None,
    parameters: Parameters | None = None,
) -> Result:
    """Solve an instance by one method; the result has passed the independent checker.

    All methods heed the objective, the floors and the time limit; ``docs/methods.md`` says which
    of the others matter to which method.

    Args:
        problem: what to solve; a :class:`PathProblem` that is solved several times labels its paths
            once.
        method: a name of :func:`code_opt.registry.method_names`.
        objective: what is maximised: ``reward``, ``throughput`` or ``accuracy``; or ``latency``:
            the weighted mean of the tasks' times (promised where a percentile is asked for, else
            unloaded) is minimised, every task being served at its demand.
        min_accuracy: floor of the average accuracy, in [0, 1]; None for none.
        min_throughput: floor of the total throughput [inferences/s]; None for none.
        latency_percentile: quantile, in (0, 1), that limits of latency hold for under load where
            a task has ``max_latency`` and no percentile of its own; None: unloaded.
        max_utilization: share of its time that a server sells at most, in (0, 1], where it has no
            ``max_utilization`` of its own; None for all of it.
        measured_only: use only native paths, alternatives and measured paths: none whose accuracy
            is predicted.
        previous: an earlier result, or the block ids of a path by task id: methods start from
            these paths, and the result says what changed.
        max_changes: most tasks that may leave a previous path that they could keep; None for any
            number. Tasks whose previous path can no longer be taken, and new ones, do not count.
        time_limit: wall-clock time after which the method ends with what it has [s]; None for
            none.
        gap: relative gap at which ``exact`` ends, in [0, 1); below 1e-7 it is taken as 1e-7.
        seed: of all random choices, in [0, 2^31).
        formulation: of ``exact``: ``auto``, ``path``, ``flow`` or ``colgen``.
        solver: of ``exact``: ``highs``, or another MIP solver that Pyomo finds installed.
        solver_options: passed to that solver by name.
        threads: of that solver.
        solver_log: show that solver's log on stderr.
        second_opinion: of ``exact``: prove the last program again by SCIP, where PySCIPOpt is
            installed, else by HiGHS with other settings; the result says what came of it. It may
            take ``time_limit`` once more.
        progress: called with the state of a running ``exact`` now and then.
        parameters: of the algorithms; None for the defaults, which are meant for everybody.

    Raises:
        InputError: an argument or the instance cannot be used, there is no such method, or a
            registered one returned no paths.
        SolverError: the solver failed.
        CheckFailedError: the result is wrong (never expected).
    """
    settings = Settings(
        objective=objective,
        min_accuracy=min_accuracy,
        min_throughput=min_throughput,
        latency_percentile=latency_percentile,
        max_utilization=max_utilization,
        measured_only=measured_only,
        previous=previous_paths(previous),
        max_changes=max_changes,
        time_limit=time_limit,
        gap=gap,
        seed=seed,
        formulation=formulation,
        solver=solver,
        solver_options={} if solver_options is None else solver_options,
        threads=threads,
        solver_log=solver_log,
        second_opinion=second_opinion,
        progress=progress,
        parameters=parameters or Parameters(),
    )
    get_method(method)
    return solve_prepared(*prepare(problem, settings), method, settings)


def solve_prepared(
    instance: Instance, problem: PathProblem, method: str, settings: Settings
) -> Result:
    """Return the result of a method, checked.

    Args:
        instance: as it was given.
        problem: of it, as the settings narrow it (:func:`prepare`).
        method: a name of :func:`code_opt.registry.method_names`.
        settings: of the solve.
    """
    chosen, run = get_method(method), _RUN.get(method)
    result = _run_registered(problem, chosen, settings) if run is None else run(problem, settings)
    return _checked(with_changes(result, problem, settings), instance, settings)


def previous_paths(
    previous: Result | Mapping[str, Sequence[str]] | None,
) -> dict[str, tuple[str, ...]] | None:
    """Return the paths of an earlier assignment by task id, None without one.

    Raises:
        InputError: the result holds no assignment.
    """
    if previous is None:
        return None
    if not isinstance(previous, Result):
        return {task: tuple(blocks) for task, blocks in previous.items()}
    if not previous.has_solution:
        raise InputError(f"previous result: {previous.status}, so it holds no paths to start from")
    return {row.task: row.path for row in previous.tasks}


def evaluate_paths(
    problem: Instance | PathProblem,
    paths: Paths,
    *,
    objective: Objective = "reward",
    min_accuracy: float | None = None,
    min_throughput: float | None = None,
    latency_percentile: float | None = None,
    max_utilization: float | None = None,
    measured_only: bool = False,
    method: str = "paths",
) -> Result:
    """Return what given paths are worth: their best rates, loads, figures, all checked.

    The result is ``feasible``; or ``unknown`` with no assignment, where the paths miss a
    requirement, which its message tells.

    Args:
        problem: what the paths belong to; a :class:`PathProblem` builds its graphs once for any
            number of calls.
        paths: block ids in order of one path for every task, by task id.
        objective: what the result's ``value`` is: ``reward``, ``throughput`` or ``accuracy``,
            for all of which the same rates are best; or ``latency``, at the demands.
        min_accuracy: floor of the average accuracy, in [0, 1]; None for none.
        min_throughput: floor of the total throughput [inferences/s]; None for none.
        latency_percentile: see :func:`solve`.
        max_utilization: share of its time that a server sells at most, as for :func:`solve`.
        measured_only: refuse paths whose accuracy is predicted.
        method: what the result calls its method.

    Raises:
        InputError: an argument or the instance cannot be used, a task is not the instance's or
            has no path here, or a path is none of its task's (or none of known accuracy).
        CheckFailedError: the result is wrong (never expected).
    """
    settings = Settings(
        objective=objective,
        min_accuracy=min_accuracy,
        min_throughput=min_throughput,
        latency_percentile=latency_percentile,
        max_utilization=max_utilization,
        measured_only=measured_only,
    )
    instance, problem = prepare(problem, settings)
    return _checked(paths_result(problem, paths, settings, method), instance, settings)


def certify(
    problem: Instance | PathProblem, result: Result, *, time_limit: float | None = None
) -> Certificate | None:
    """Return duals that bound the objective of a result, whatever method it is of.

    :func:`code_opt.certificate.certified_bound` tells what they prove, without any solver. It is
    the bound of the relaxation over all paths, without cuts and branching, so it is wider
    than that of ``exact``.

    Args:
        problem: what the result is of.
        result: tells objective, floors and what else was asked.
        time_limit: seconds; None for none.

    Returns:
        None where a task has no path, or the time was over before.

    Raises:
        InputError: the instance cannot be used.
        SolverError: the solver failed.
    """
    settings = Settings(
        objective=result.objective,
        min_accuracy=result.min_accuracy,
        min_throughput=result.min_throughput,
        max_utilization=result.max_utilization,
        measured_only=result.measured_only,
        time_limit=time_limit,
    )
    instance, problem = prepare(problem, settings)
    duals = relaxation_duals(problem, settings)
    if duals is None:
        return None
    found = [_certificate(problem, result, duals)]
    largest = max(len(group) for group in problem.topology.groups)
    if largest > 1:
        # A verifier splits what a group shares among its tasks. Which duals suit that best lies
        # between those of joint paths and those of paths that each pays alone.
        alone = relaxation_duals(problem, settings, is_joint=False)
        if alone is not None:
            for share in (1.0, 1.0 / largest):
                scaled = replace(alone, resource=alone.resource * share)
                found.append(_certificate(problem, result, scaled))
    if len(found) == 1:
        return found[0]
    bounds = [certified_bound(one, result, instance).bound for one in found]
    sign = -1.0 if result.objective == "latency" else 1.0
    order = [math.inf if bound is None else sign * bound for bound in bounds]
    return found[order.index(min(order))]


def _certificate(problem: PathProblem, result: Result, duals: Duals) -> Certificate:
    """Return duals by the ids of servers and links, per unit of the file."""
    time: dict[str, float] = {}
    memory: dict[str, float] = {}
    links = []
    for resource, dual in zip(problem.topology.resources, duals.resource.tolist(), strict=True):
        record = resource.record
        if dual <= 0.0:
            continue
        if isinstance(record, Link):
            links.append(
                LinkDual(
                    source=record.source, target=record.target, bandwidth=dual / resource.capacity
                )
            )
        elif isinstance(record, Server) and resource.is_rate and record.usable_devices > 0.0:
            time[record.id] = dual / record.usable_devices
        elif isinstance(record, Server) and not resource.is_rate and resource.capacity > 0.0:
            memory[record.id] = dual / resource.capacity
    return Certificate(
        schema="code-opt/certificate/1",
        instance=problem.instance.name,
        objective=result.objective,
        accuracy=duals.accuracy,
        throughput=duals.throughput,
        servers=tuple(
            ServerDual(server=s.id, time=time.get(s.id, 0.0), memory=memory.get(s.id, 0.0))
            for s in problem.instance.servers
            if s.id in time or s.id in memory
        ),
        links=tuple(links),
    )


def prepare(source: Instance | PathProblem, settings: Settings) -> tuple[Instance, PathProblem]:
    """Return the instance as it was given, and the problem as the settings narrow it."""
    problem = PathProblem(source) if isinstance(source, Instance) else source
    instance = problem.instance
    weighs_time = settings.objective == "latency"
    measured_only = settings.measured_only or problem.options.measured_only
    options = replace(problem.options, measured_only=measured_only, weighs_time=weighs_time)
    asked = with_percentile(instance, settings.latency_percentile)
    if settings.max_utilization is not None:
        asked = asked.with_max_utilization(settings.max_utilization)
    if weighs_time:
        asked = served_at_demand(asked)
    if asked is not instance or options != problem.options:
        problem = PathProblem(asked, options)
    previous = previous_of(problem, settings)
    if previous is not None:
        tasks = {task.id for task in instance.tasks}
        if not tasks.intersection(settings.previous or ()):
            raise InputError("previous result: the instance has none of its tasks")
        # The graphs differ from those without it only where changes are limited.
        earlier, problem = problem, PathProblem(asked, replace(options, previous=previous))
        if not previous.is_limiting:
            problem.topology.graphs = earlier.topology.graphs
    return instance, problem


def _checked(result: Result, instance: Instance, settings: Settings) -> Result:
    result = result.model_copy(update={"max_utilization": settings.max_utilization})
    violations = check(result, instance)
    if violations:
        found = "; ".join(f"{v.rule} at {v.place}: {v.message}" for v in violations[:5])
        raise CheckFailedError(f"{result.method}: the result does not pass the check: {found}")
    return result.model_copy(update={"instance_digest": digest_of(instance)})


def _run_registered(problem: PathProblem, method: Method, settings: Settings) -> Result:
    """Run a user's method and value the paths that it returns."""
    assert method.choose is not None
    clock = Clock(settings.time_limit)
    paths = method.choose(problem.instance, settings)
    if paths is not None and not isinstance(paths, Mapping):
        raise InputError(
            f"method {method.name!r}: returned a {type(paths).__name__}; a mapping of task ids to "
            "block ids is expected, or None"
        )
    try:
        return paths_result(problem, paths, settings, method.name, clock)
    except InputError as error:
        raise InputError(f"method {method.name!r}: {error}") from None


def _local(problem: PathProblem, settings: Settings) -> Result:
    clock = Clock(settings.time_limit)
    pools = [local_pool(problem.instance, problem.options)]
    return _result("local", *solve_restricted(pools, settings, clock), clock)


def _edge_early(problem: PathProblem, settings: Settings) -> Result:
    clock = Clock(settings.time_limit)
    pools = [edge_early_pool(problem.instance, problem.options)]
    return _result("edge-early", *solve_restricted(pools, settings, clock), clock)


def _host(problem: PathProblem, settings: Settings) -> Result:
    clock = Clock(settings.time_limit)
    pools = [
        host_pool(problem.instance, problem.options, native_allowed=allowed)
        for allowed in (False, True)
    ]
    return _result("host", *solve_restricted(pools, settings, clock), clock)


def _lns(problem: PathProblem, settings: Settings) -> Result:
    return _search_all("lns", problem, settings, _run_lns)


def _greedy(problem: PathProblem, settings: Settings) -> Result:
    return _search_all("greedy", problem, settings, solve_greedy)


def _random(problem: PathProblem, settings: Settings) -> Result:
    def run(evaluator: Evaluator, clock: Clock) -> SearchOutcome:
        draws = _run_lns(evaluator, clock).assignments
        return solve_random(evaluator, clock, settings.seed, draws)

    return _search_all("random", problem, settings, run)


def _run_lns(evaluator: Evaluator, clock: Clock) -> SearchOutcome:
    return search(evaluator, clock, seed=evaluator.settings.seed)


def _search_all(
    name: str,
    problem: PathProblem,
    settings: Settings,
    run: Callable[[Evaluator, Clock], SearchOutcome],
) -> Result:
    """Search the pool of all nondominated paths, unless some task has none."""
    clock = Clock(settings.time_limit)
    evaluator = Evaluator(problem.pool, settings)
    outcome = run(evaluator, clock) if all(len(task) for task in evaluator.pool.tasks) else None
    return _result(name, evaluator, outcome, clock)


def _result(name: str, evaluator: Evaluator, outcome: SearchOutcome | None, clock: Clock) -> Result:
    """Return a heuristic's or a baseline's result: nothing is proven, so there is no bound."""
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
        name,
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


_RUN: dict[str, Callable[[PathProblem, Settings], Result]] = {
    "exact": solve_exact,
    "lns": _lns,
    "code": solve_code,
    "local": _local,
    "host": _host,
    "edge-early": _edge_early,
    "greedy": _greedy,
    "random": _random,
}
"""How the package's own methods run (:data:`METHODS`)."""
