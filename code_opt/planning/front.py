"""The exact Pareto front of throughput against average accuracy.

Epsilon-constraint (Haimes, Lasdon, Wismer 1971): the most throughput at a floor on the
average accuracy, then the most accuracy at that throughput, then the next floor just above
it. Every point is the solution of two programs with proven gaps, so points that no weighted
sum of the two would find (unsupported ones) are there, too.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance
from code_opt.methods import solve
from code_opt.methods.settings import SMALLEST_GAP
from code_opt.planning.case import native_accuracy
from code_opt.planning.columns import table
from code_opt.planning.operation import PATH_SEPARATOR
from code_opt.planning.plan import Cell, Plan, Status, worst_status
from code_opt.planning.settings import PlanSettings
from code_opt.result import TOLERANCE, Result

ACCURACY_STEP = 2e-6
"""Two points differ by more than this in accuracy; what is nearer counts as the same."""
_TURN_SLACK = 1e-9


@dataclass(frozen=True)
class FrontPoint:
    """One point: the second result holds the assignment, the first the throughput's bound."""

    throughput: Result
    accuracy: Result

    @property
    def is_proven(self) -> bool:
        """Whether both programs were solved to their gaps."""
        return self.throughput.status == "optimal" and self.accuracy.status == "optimal"


def plan_front(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    points: int | None = 25,
    executor: Executor | None = None,
) -> Plan:
    """Return the Pareto front of total throughput against average accuracy.

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
    begin = time.perf_counter()
    options: dict[str, Any] = {
        "gap": settings.gap,
        "time_limit": settings.time_limit,
        "solver": settings.solver,
        "threads": settings.threads,
        "seed": settings.seed,
        "solver_options": dict(settings.solver_options),
    }
    settings.tell("front: most throughput")
    floor = settings.min_accuracy
    first = front_point(instance, floor, options)
    if first is None:
        last = solve(instance, objective="throughput", min_accuracy=floor, **options)
        return _plan(instance, settings, [], False, points, begin, last)
    settings.tell("front: most accuracy")
    top = solve(instance, objective="accuracy", **options)
    found = [first]
    if points is None:
        complete = first.is_proven
        while True:
            settings.tell(f"front: {len(found)} points, accuracy {_accuracy(found[-1]):.4f}")
            after = front_point(instance, _accuracy(found[-1]) + ACCURACY_STEP, options)
            if after is None:
                break
            found.append(after)
            complete &= after.is_proven
    else:
        complete = False
        assert top.accuracy is not None
        floors = np.linspace(_accuracy(first), top.accuracy, points)[1:].tolist()
        # The last one is the best accuracy itself, which a program may miss by rounding.
        floors[-1] = top.accuracy * (1.0 - TOLERANCE / 10.0)
        jobs = [(instance, least, options) for least in floors]
        if executor is None:
            others = []
            for number, job in enumerate(jobs, start=2):
                settings.tell(f"front: point {number} of {points}")
                others.append(front_point(*job))
        else:
            settings.tell(f"front: {points} points")
            others = list(executor.map(_front_point, jobs))
        found += [point for point in others if point is not None]
    return _plan(instance, settings, _distinct(found), complete, points, begin, None)


def front_point(
    instance: Instance, min_accuracy: float | None, options: dict[str, Any]
) -> FrontPoint | None:
    """Return the point of most throughput at a floor on accuracy, and most accuracy there.

    Args:
        instance: what to solve.
        min_accuracy: floor on the average accuracy.
        options: of :func:`code_opt.solve`.

    Returns:
        None where no assignment is found at this floor.
    """
    if min_accuracy is not None and min_accuracy > 1.0:
        return None
    most = solve(instance, objective="throughput", min_accuracy=min_accuracy, **options)
    if most.throughput is None:
        return None
    # What the second program may give up is far within the first one's gap.
    least = most.throughput * (1.0 - SMALLEST_GAP)
    best = solve(
        instance,
        objective="accuracy",
        min_accuracy=min_accuracy,
        min_throughput=least,
        **options,
    )
    return FrontPoint(most, best if best.has_solution else most)


def _front_point(job: tuple[Instance, float | None, dict[str, Any]]) -> FrontPoint | None:
    return front_point(*job)


def _accuracy(point: FrontPoint) -> float:
    accuracy = point.accuracy.accuracy
    assert accuracy is not None
    return accuracy


def _distinct(points: list[FrontPoint]) -> list[FrontPoint]:
    """Return the points that no other dominates, from most throughput to most accuracy."""
    kept: list[FrontPoint] = []
    best = -math.inf
    for point in sorted(points, key=lambda p: (-(p.accuracy.throughput or 0.0), -_accuracy(p))):
        if _accuracy(point) > best + ACCURACY_STEP / 2:
            kept.append(point)
            best = _accuracy(point)
    return kept


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


def _plan(
    instance: Instance,
    settings: PlanSettings,
    points: list[FrontPoint],
    complete: bool,
    asked: int | None,
    begin: float,
    nothing: Result | None,
) -> Plan:
    native = native_accuracy(instance)
    values = [(p.accuracy.throughput or 0.0, _accuracy(p)) for p in points]
    rows: list[list[Cell]] = []
    paths: list[list[Cell]] = []
    statuses: list[Status] = []
    for number, (point, on_hull) in enumerate(
        zip(points, _supported(values), strict=True), start=1
    ):
        status: Status = "optimal" if point.is_proven else "feasible"
        statuses.append(status)
        gaps = [r.gap for r in (point.throughput, point.accuracy) if r.gap is not None]
        result = point.accuracy
        assert result.accuracy is not None
        rows.append(
            [
                number,
                result.throughput,
                result.accuracy,
                100.0 * (native - result.accuracy),
                result.reward,
                point.throughput.bound,
                result.bound if result.objective == "accuracy" else None,
                max(gaps, default=None),
                on_hull,
                status,
                point.throughput.seconds
                + (result.seconds if result.objective == "accuracy" else 0),
            ]
        )
        paths += [
            [number, row.task, PATH_SEPARATOR.join(row.path), row.rate, row.accuracy]
            for row in result.tasks
        ]
    if nothing is not None:
        statuses.append(nothing.status)
    return Plan(
        schema="code-opt/plan/1",
        kind="front",
        instance=instance.name,
        instance_digest=digest_of(instance),
        status=worst_status(statuses),
        gap=max((float(row[7]) for row in rows if row[7] is not None), default=None),
        seconds=time.perf_counter() - begin,
        message=None if nothing is None else nothing.message,
        settings={"points": asked, "complete": complete, **settings.shown()},
        tables=(
            table(
                "points",
                "Pareto front of throughput against average accuracy",
                "point throughput_per_s accuracy accuracy_loss_points reward "
                "throughput_bound_per_s accuracy_bound gap supported status seconds",
                rows,
            ),
            table("paths", "Paths of each point", "point task path rate_per_s accuracy", paths),
        ),
    )
