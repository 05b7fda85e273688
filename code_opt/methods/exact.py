"""The exact method: a mixed-integer program inside a loop of tangents.

The reward's logarithm is concave, so tangents bound it from above without binaries.
Each round solves the program, values its assignment by the true reward (lower bound),
takes the solver's dual bound (upper bound) and adds tangents where the assignment lies,
until the gap of the true reward is within tolerance (outer approximation: Duran and
Grossmann, Mathematical Programming 36, 1986; Kelley's cutting planes, 1960).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from code_opt.errors import InputError
from code_opt.instance.model import Instance, Shape
from code_opt.methods.assignment import Judge, Solution, make_result, relative_gap
from code_opt.methods.diagnosis import explain
from code_opt.methods.heuristic import search
from code_opt.methods.models import FlowView, ModelView, PathView, throughput_unit
from code_opt.methods.settings import SMALLEST_GAP, Clock, Progress, Settings
from code_opt.paths import PathPool, build_pool
from code_opt.result import Result, Status
from code_opt.reward import is_log_linear, log_slope, log_value
from code_opt.solvers import MipSession, SolverProgress, Termination, open_session
from formulations import add_tangent

_VIEWS: dict[str, Callable[[PathPool, Settings], ModelView]] = {
    "path": PathView,
    "flow": FlowView,
}


def solve_exact(instance: Instance, settings: Settings) -> Result:
    """Return the best assignment with a proven bound.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    clock = Clock(settings.time_limit)
    pool = build_pool(instance)
    judge = Judge(pool, settings)
    if any(len(task) == 0 for task in pool.tasks):
        return _no_solution(judge, "infeasible", clock)
    run = _TangentLoop(judge, clock)
    status = run.solve()
    if status in ("infeasible", "unknown"):
        return _no_solution(judge, status, clock, run.message, run.details)
    return make_result(
        judge,
        "exact",
        status,
        clock.seconds,
        run.best,
        bound=run.bound,
        formulation=settings.formulation,
        message=run.message,
        details=run.details,
    )


def build_model(instance: Instance, settings: Settings) -> pyo.ConcreteModel:
    """Return the Pyomo model as the exact method starts with it, first tangents included.

    Raises:
        InputError: the instance cannot be used, or a task has no admissible path.
    """
    pool = build_pool(instance)
    for task in pool.tasks:
        if len(task) == 0:
            raise InputError(f"task {task.task.id!r} has no admissible path: nothing to export")
    loop = _TangentLoop(Judge(pool, settings), Clock(settings.time_limit))
    return loop.build().model


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


@dataclass
class _Range:
    """Where a total can lie, and where it probably does."""

    low: float
    high: float
    guess: float | None


class _TangentLoop:
    """State of one exact solve."""

    def __init__(self, judge: Judge, clock: Clock) -> None:
        self.judge = judge
        self.settings = judge.settings
        self.clock = clock
        self.is_log = self.settings.objective == "reward"
        self.gap = max(self.settings.gap, SMALLEST_GAP)
        # The model's goal is in this unit: Th is scaled there, log F and A are not.
        is_throughput = self.settings.objective == "throughput"
        self.unit = throughput_unit(judge.pool) if is_throughput else 1.0
        self.best: Solution | None = None
        self.bound = math.inf
        self.message: str | None = None
        self.details: dict[str, Any] = {}
        self._tangents: set[tuple[str, float]] = set()
        self._worthless: set[str] = set()

    def build(self) -> ModelView:
        """Return the model with its first tangents, dense around the best known solution."""
        view = _VIEWS[self.settings.formulation](self.judge.pool, self.settings)
        if self.is_log:
            for term, (shape, span) in _ranges(self.judge.pool, self.best).items():
                points = tangent_points(shape, span.low, span.high, span.guess, self.gap / 10)
                for at in points:
                    self._add_tangent(view, term, shape, at)
                if not points:
                    # The term is 0 whatever is chosen, and so is the reward: any assignment
                    # is optimal, and the term must only be bounded for the solver.
                    self.bound = -math.inf
                    self._worthless.add(term)
                    add_tangent(view.model, term, 0.0, 0.0, 0.0)
        return view

    def solve(self) -> Status:
        """Run to the gap, the time limit or a proof; return the status."""
        pool, settings = self.judge.pool, self.settings
        self.best = search(self.judge, self.clock, seed=settings.seed).solution
        view = self.build()
        session = open_session(
            view.model,
            settings.solver,
            threads=settings.threads,
            seed=settings.seed,
            options=settings.solver_options,
            log=settings.solver_log,
        )
        self.details = {"paths_in_pool": pool.size, "labels": pool.labels, "rounds": 0, "nodes": 0}
        fixed = 0
        if self.best is not None and math.isfinite(self.best.log_value):
            fixed = session.tighten(self.best.log_value / self.unit, self.clock.left)
        self.details["binaries_fixed"] = fixed
        precision = 0.7
        while True:
            status = self._round(view, session, precision)
            if status is not None:
                self.details["tangents"] = len(self._tangents)
                return status
            precision = max(precision / 2, 0.2)

    def _round(self, view: ModelView, session: MipSession, precision: float) -> Status | None:
        """Solve once; return the final status, or None to go on."""
        if self.best is not None:
            view.start_at(self.best)
        outcome = session.solve(
            time_limit=self.clock.left,
            absolute_gap=precision * self.gap if self.is_log else 0.0,
            relative_gap=0.0 if self.is_log else precision * self.gap,
            start=self.best is not None,
            progress=self._report if self.settings.progress else None,
        )
        self.details["rounds"] += 1
        self.details["nodes"] += outcome.nodes
        if outcome.termination is Termination.INFEASIBLE:
            if self.best is None:
                return "infeasible"
            # Nothing is better than the incumbent that the model was tightened with.
            self.bound = self.best.log_value
            return "optimal"
        new_tangents = 0
        if outcome.value is not None:
            found = self.judge.solution(view.paths())
            if found is not None and (self.best is None or found.log_value > self.best.log_value):
                self.best = found
            if self.is_log:
                new_tangents = self._cut(view, session)
        value = -math.inf if self.best is None else self.best.log_value
        self.bound = max(min(self.bound, outcome.bound * self.unit), value)
        gap = relative_gap(self.is_log, value, self.bound)
        if self.best is not None and gap <= self.gap:
            return "optimal"
        if outcome.termination is not Termination.OPTIMAL or self.clock.is_over:
            self.message = f"stopped by {outcome.termination.value}"
            return self._stopped()
        if new_tangents == 0 and precision <= 0.2:
            self.message = "stopped at the solver's own tolerance"
            return self._stopped()
        return None

    def _stopped(self) -> Status:
        if self.best is None:
            self.message = f"{self.message} before any assignment was found"
            return "unknown"
        return "feasible"

    def _cut(self, view: ModelView, session: MipSession) -> int:
        """Add tangents at the program's solution, to the model and to the living session."""
        reward = self.judge.pool.instance.reward
        added = []
        accuracy = float(pyo.value(view.model.average_accuracy))
        throughput = float(pyo.value(view.model.throughput)) * view.throughput_unit
        for term, shape, at in (
            ("accuracy", reward.accuracy, accuracy),
            ("throughput", reward.throughput, throughput),
        ):
            if term in self._worthless:
                continue
            modelled = float(pyo.value(getattr(view.model, f"log_{term}")))
            if at <= 0.0 and not np.isfinite(log_value(shape, 0.0)):
                # log 0 has no tangent: one ever nearer to 0 bounds it from above.
                at = min(p for name, p in self._tangents if name == term) / 1e3
            if modelled - float(log_value(shape, at)) > 0.05 * self.gap:
                constraint = self._add_tangent(view, term, shape, at)
                if constraint is not None:
                    added.append(constraint)
        session.add_constraints(added)
        return len(added)

    def _add_tangent(self, view: ModelView, term: str, shape: Shape, at: float) -> Any:
        if (term, at) in self._tangents:
            return None
        self._tangents.add((term, at))
        unit = 1.0 if term == "accuracy" else view.throughput_unit
        value, slope = float(log_value(shape, at)), log_slope(shape, at)
        return add_tangent(view.model, term, at / unit, value, slope * unit)

    def _report(self, progress: SolverProgress) -> None:
        assert self.settings.progress is not None
        value = None if self.best is None else self.best.log_value
        bound = min(self.bound, progress.bound * self.unit)

        def true(x: float | None) -> float | None:
            if x is None or not math.isfinite(x):
                return None
            return math.exp(x) if self.is_log else x

        gap = None
        if value is not None and math.isfinite(bound):
            gap = relative_gap(self.is_log, value, bound)
        self.settings.progress(Progress("exact", self.clock.seconds, true(value), true(bound), gap))


def _ranges(pool: PathPool, best: Solution | None) -> dict[str, tuple[Shape, _Range]]:
    """Return for both terms the shape and where its argument can lie."""
    reward = pool.instance.reward
    lows = np.array([t.paths.accuracy.min() for t in pool.tasks])
    highs = np.array([t.paths.accuracy.max() for t in pool.tasks])
    most = sum(float(t.most_rate.max()) for t in pool.tasks)
    least = sum(t.floor for t in pool.tasks)
    return {
        "accuracy": (
            reward.accuracy,
            _Range(
                float(pool.weights @ lows),
                float(pool.weights @ highs),
                None if best is None else best.accuracy,
            ),
        ),
        "throughput": (
            reward.throughput,
            _Range(least, most, None if best is None else best.throughput),
        ),
    }


def tangent_points(
    shape: Shape, low: float, high: float, guess: float | None, error: float
) -> list[float]:
    """Return where to put the first tangents of a log-concave shape on [low, high].

    Around the guess the tangents are so dense that together they exceed the true
    logarithm by about ``error`` at most; the allowed error grows with every step away
    from it. Two tangents a step h apart exceed a curve of second derivative -c by
    c h^2 / 8 halfway.
    """
    if not np.isfinite(log_value(shape, max(high, 0.0))):
        return []
    if is_log_linear(shape):
        return [high]
    if high <= 0.0:
        return [0.0]
    low = max(low, 1e-6 * high)
    start = high if guess is None else min(max(guess, low), high)
    points = {low, high, start}
    for direction in (-1.0, 1.0):
        x, allowed = start, error
        for _ in range(60):
            step = 1e-4 * max(abs(x), 1e-6)
            curvature = abs(log_slope(shape, x + step) - log_slope(shape, max(x - step, low / 2)))
            curvature /= x + step - max(x - step, low / 2)
            length = math.sqrt(8.0 * allowed / curvature) if curvature > 0.0 else math.inf
            x += direction * min(length, 0.5 * (high - low) + 1e-12)
            if not low < x < high:
                break
            points.add(x)
            allowed *= 1.25
    return sorted(points)
