"""The exact Pareto front of throughput against average accuracy.

Epsilon-constraint (Haimes, Lasdon, Wismer 1971): the most throughput at a floor on the
average accuracy, then the most accuracy at that throughput, then the next floor just above
it. Every point is the solution of two programs with proven gaps, so points that no weighted
sum of the two would find (unsupported ones) are there, too. A point that a limit lost is told
with bounds, and no front is called complete that has one.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from code_opt.core.settings import SMALLEST_GAP
from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths import PathProblem
from code_opt.planning.analysis import Analysis
from code_opt.planning.case import native_accuracy, with_demands
from code_opt.planning.columns import TableBuilder
from code_opt.planning.operation import path_rows
from code_opt.planning.plan import Plan, Status
from code_opt.planning.settings import PlanSettings
from code_opt.result import TOLERANCE, Result
from code_opt.solving import solve
from code_opt.stopping import is_stop_requested

ACCURACY_STEP = 2e-6
"""Two points differ by more than this in accuracy; what is nearer counts as the same."""
_TURN_SLACK = 1e-9


@dataclass(frozen=True)
class FrontPoint:
    """What two programs say of one floor on the accuracy."""

    throughput: Result
    """Most throughput at the floor; it tells whether there is a point at all."""
    accuracy: Result | None = None
    """Most accuracy at that throughput; None where the first has no assignment."""

    @property
    def result(self) -> Result:
        """The assignment of the point."""
        if self.accuracy is not None and self.accuracy.has_solution:
            return self.accuracy
        return self.throughput

    @property
    def status(self) -> Status:
        """Optimal if both programs were solved to their gaps; unknown if a limit lost the point."""
        if not self.throughput.has_solution:
            return self.throughput.status
        both = (self.throughput, self.accuracy)
        proven = all(r is not None and r.has_solution and r.status == "optimal" for r in both)
        return "optimal" if proven else "feasible"

    @property
    def seconds(self) -> float:
        """Time of both programs [s]."""
        return self.throughput.seconds + (0.0 if self.accuracy is None else self.accuracy.seconds)


def plan_front(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    points: int | None = 25,
    executor: Executor | None = None,
) -> Plan:
    """Return the Pareto front of total throughput against average accuracy.

    A point that a limit lost is there, too, with the status ``unknown``, without an assignment
    and with bounds on what it may be.

    Args:
        instance: what to solve, at its present capacities.
        settings: gap and time limit of each program.
        points: at most so many points, at floors spread evenly over the accuracies that the
            front covers; None: every point, one after the other.
        executor: where the points are solved (not for every point).

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    if points is not None and points < 2:
        raise InputError(f"points {points}: a front needs at least 2")
    analysis = Analysis(
        "front",
        instance,
        settings,
        TableBuilder(
            "points",
            "Pareto front of throughput against average accuracy",
            "point throughput_per_s accuracy accuracy_loss_points reward "
            "throughput_bound_per_s accuracy_bound gap supported status seconds",
        ),
        TableBuilder(
            "paths", "Paths of each point", "point task path rate_per_s accuracy accuracy_source"
        ),
    )
    options = settings.solve_options()
    del options["min_accuracy"]  # every point has a floor of its own
    analysis.tell("front: most throughput")
    problem = PathProblem(with_demands(instance, settings))  # labelled once for all points
    first = front_point(problem, settings.min_accuracy, options)
    if not first.throughput.has_solution:
        analysis.prove(first.status, None)
        lost = [first] if first.status == "unknown" else []
        _add_points(analysis, lost, None, native_accuracy(instance))
        return analysis.plan(first.throughput.message, points=points, complete=False)
    analysis.tell("front: most accuracy")
    top, complete = solve(problem, objective="accuracy", **options), False
    if points is None:
        found, complete = _every_point(problem, settings, first, top, options)
    else:
        found = _some_points(problem, settings, first, top, options, points, executor)
    found = _distinct(found)
    _add_points(analysis, found, top, native_accuracy(instance))
    if is_stop_requested() and not complete:
        analysis.prove("feasible", None)  # whatever is proven of the points that there are
    lost_in_words = None if complete else _what_is_lost(found)
    return analysis.plan(lost_in_words, points=points, complete=complete)


def _what_is_lost(points: list[FrontPoint]) -> str | None:
    """Return in words what a stop or a limit lost, None where that is nothing, or all points."""
    if is_stop_requested():
        return "stopped by an interrupt: points between and behind these may be missing"
    lost = sum(point.status == "unknown" for point in points)
    if not 0 < lost < len(points):
        return None
    return (
        f"a limit came before {lost} of {len(points)} points was found: "
        "their bounds tell what may be missing"
    )


def _every_point(
    problem: PathProblem,
    settings: PlanSettings,
    first: FrontPoint,
    top: Result,
    options: dict[str, Any],
) -> tuple[list[FrontPoint], bool]:
    """Return the points from the first on, and whether these are proven to be all.

    Behind a point that a limit lost the floor of the next is not known: there the search ends
    with the point of most accuracy.
    """
    found, complete = [first], first.status == "optimal"
    while True:
        last = _accuracy(found[-1])
        settings.tell(f"front: {len(found)} points, accuracy {last:.4f}")
        if last + ACCURACY_STEP > 1.0:
            return found, complete
        if is_stop_requested():
            return found, False
        after = front_point(problem, last + ACCURACY_STEP, options)
        if after.status == "infeasible":
            return found, complete
        found.append(after)
        complete &= after.status == "optimal"
        if after.status == "unknown":
            if top.accuracy is not None and top.accuracy > last + ACCURACY_STEP:
                found.append(front_point(problem, _just_below(top.accuracy), options))
            return found, False


def _some_points(
    problem: PathProblem,
    settings: PlanSettings,
    first: FrontPoint,
    top: Result,
    options: dict[str, Any],
    points: int,
    executor: Executor | None,
) -> list[FrontPoint]:
    """Return the points at floors in even steps, up to the most accuracy that there may be.

    Floors that no assignment meets, proven, are left out, and so are those at which the search
    was not begun before a request to stop.
    """
    most = top.accuracy if top.status == "optimal" else top.bound
    most = min(_reach(problem) if most is None else most, 1.0)
    floors = np.linspace(_accuracy(first), max(most, _accuracy(first)), points)[1:].tolist()
    # The last one is the best accuracy itself, which a program may miss by rounding.
    floors[-1] = _just_below(floors[-1])
    jobs = [(problem, least, options) for least in floors]
    if executor is not None:
        settings.tell(f"front: {points} points")
        tried = list(executor.map(_front_point, jobs))
    else:
        tried = []
        for number, job in enumerate(jobs, start=2):
            settings.tell(f"front: point {number} of {points}")
            tried.append(_front_point(job))
    found = [point for point in tried if point is not None]
    return [first, *(point for point in found if point.status != "infeasible")]


def _reach(problem: PathProblem) -> float:
    """Return the average accuracy of the most accurate paths, whatever their loads."""
    pool = problem.pool
    return float(pool.weights @ [task.paths.accuracy.max(initial=0.0) for task in pool.tasks])


def _just_below(accuracy: float) -> float:
    return accuracy * (1.0 - TOLERANCE / 10.0)


def front_point(
    problem: PathProblem, min_accuracy: float | None, options: dict[str, Any]
) -> FrontPoint:
    """Return the point of most throughput at a floor on accuracy, and most accuracy there.

    Args:
        problem: what to solve.
        min_accuracy: floor on the average accuracy.
        options: of :func:`code_opt.solve`.
    """
    most = solve(problem, objective="throughput", min_accuracy=min_accuracy, **options)
    if most.throughput is None:
        return FrontPoint(most)
    # What the second program may give up is far within the first one's gap.
    least = most.throughput * (1.0 - SMALLEST_GAP)
    best = solve(
        problem,
        objective="accuracy",
        min_accuracy=min_accuracy,
        min_throughput=least,
        **options,
    )
    return FrontPoint(most, best)


def _front_point(job: tuple[PathProblem, float | None, dict[str, Any]]) -> FrontPoint | None:
    """Return a point, None where a stop came before it was begun."""
    return None if is_stop_requested() else front_point(*job)


def _accuracy(point: FrontPoint) -> float:
    """Return the accuracy of a point; of a lost one the floor that it was looked for at."""
    accuracy = point.result.accuracy
    return (point.throughput.min_accuracy or 0.0) if accuracy is None else accuracy


def _distinct(points: list[FrontPoint]) -> list[FrontPoint]:
    """Return the points that no other dominates, from most throughput to most accuracy.

    Those that a limit lost are kept where their floors are.
    """
    kept: list[FrontPoint] = []
    best = -math.inf
    found = [p for p in points if p.result.has_solution]
    for point in sorted(found, key=lambda p: (-(p.result.throughput or 0.0), -_accuracy(p))):
        if _accuracy(point) > best + ACCURACY_STEP / 2:
            kept.append(point)
            best = _accuracy(point)
    lost = [p for p in points if not p.result.has_solution]
    return sorted(kept + lost, key=_accuracy)


def _supported(values: list[tuple[float, float]]) -> list[bool]:
    """Tell which points (throughput falling, accuracy rising) lie on their upper hull."""
    hull: list[int] = []
    for i, (x, y) in enumerate(values):
        while len(hull) > 1:
            (x0, y0), (x1, y1) = values[hull[-2]], values[hull[-1]]
            # Upper right hull, walked from right to left: every corner turns left.
            turn = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
            if turn >= -_TURN_SLACK * abs(x - x0) * abs(y - y0):
                break
            hull.pop()
        hull.append(i)
    on = set(hull)
    return [i in on for i in range(len(values))]


def _add_points(
    analysis: Analysis, points: list[FrontPoint], top: Result | None, native: float
) -> None:
    """Fill the tables of points and paths, and count what is proven.

    Args:
        analysis: of the front.
        points: in the order of the front.
        top: what is known of the most accuracy.
        native: average accuracy of the native paths.
    """
    shown = [p.result for p in points if p.result.has_solution]
    hull = iter(_supported([(r.throughput or 0.0, r.accuracy or 0.0) for r in shown]))
    # What is behind a point has no more throughput, and nothing has more accuracy than the top.
    most_throughput: float | None = None
    most_accuracy = None if top is None or top.bound is None else min(top.bound, 1.0)
    for number, point in enumerate(points, start=1):
        result, best = point.result, point.accuracy
        if point.throughput.bound is not None:
            most_throughput = point.throughput.bound
        bound = most_accuracy
        if best is not None and best.bound is not None:
            bound = min(best.bound, 1.0)
        cells: dict[str, Any] = {
            "point": number,
            "throughput_bound_per_s": most_throughput,
            "accuracy_bound": bound,
            "status": point.status,
            "seconds": point.seconds,
        }
        if result.throughput is not None and result.accuracy is not None:
            cells |= {
                "throughput_per_s": result.throughput,
                "accuracy": result.accuracy,
                "accuracy_loss_points": 100.0 * (native - result.accuracy),
                "reward": result.reward,
                "throughput_bound_per_s": point.throughput.bound,
                "accuracy_bound": None if bound is None else max(bound, result.accuracy),
                "gap": _gap(point, bound, result),
                "supported": next(hull),
            }
        analysis.prove(point.status, cells.get("gap"))
        analysis.tables["points"].add(**cells)
        analysis.tables["paths"].add_fitting(path_rows(result), point=number)


def _gap(point: FrontPoint, bound: float | None, shown: Result) -> float | None:
    """Return the larger gap of what is shown, None where nothing is proven.

    The second program of a point that a limit stopped may find more throughput, too: the gaps are
    those of the assignment that is shown.
    """
    gaps = [
        max(most / value - 1.0, 0.0)
        for most, value in (
            (point.throughput.bound, shown.throughput),
            (bound, shown.accuracy),
        )
        if most is not None and value
    ]
    return max(gaps) if gaps else None
