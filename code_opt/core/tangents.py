"""Tangents of log xi and log zeta: the reward as a linear program sees it.

The logarithms are concave, so every tangent bounds them from above, and tangents where the
program's solutions lie make the bound as sharp as is wanted (Kelley's cutting planes, 1960;
outer approximation: Duran and Grossmann, Mathematical Programming 36, 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyomo.core as pyo

from code_opt.core.evaluator import Solution
from code_opt.instance.model import Reward, Shape
from code_opt.paths import PathPool
from code_opt.reward import is_log_linear, least_argument, log_slope, log_value
from formulations import Goal, add_tangent

_LEAST_LOG_REWARD = -720.0
"""An assignment of which less is known to be possible is none that is looked for: its reward is
no number of full precision (:func:`code_opt.core.objective.refuse_tiny_reward`)."""
_WINDOW_MARGIN = 1e-3
"""Room below the least total that matters, as a share of the most: far more than a solver's
tolerance, within which it takes a narrower range for a single number."""
_FLOOR_MARGIN = 1e-8
"""Room below the least total itself, as a share of the most: at the very total of an assignment
whose parts differ by a factor of 1e9, rounding makes HiGHS 1.16 call the program infeasible."""
_LARGEST_LOG = 1e9
"""More than the logarithm of any number: an assignment of a larger reward is refused."""
_STEEPEST = 1e9
"""A tangent that is steeper, in the model's units, holds within no tolerance and is left out."""
_LEAST_SHARE = 1e-15
"""A total below this share of the largest is lost beside it in double precision."""


@dataclass
class _Range:
    """Where a total of an assignment at least as good as the best one known can lie."""

    low: float
    high: float
    guess: float | None


Range = tuple[float, float]
"""Least and largest value of a total."""


class TangentProgram(Protocol):
    """A program with the totals A and Th and with bounds of log xi(A) and log zeta(Th)."""

    def unit_of(self, term: str) -> float:
        """Return what the program counts A (``accuracy``) or Th (``throughput``) in."""

    def raise_floor(self, term: str, least: float) -> None:
        """Let a total be no less than this, in its unit, or than its largest value."""

    def add_tangent(self, term: str, at: float, log_value: float, log_slope: float) -> Any:
        """Add ``log_term <= log_value + log_slope * (x - at)``, x in its unit; return it."""


@dataclass(frozen=True)
class ModelTangents:
    """A Pyomo model as a program with tangents."""

    model: pyo.ConcreteModel
    goal: Goal

    def unit_of(self, term: str) -> float:
        """See :class:`TangentProgram`."""
        return self.goal.accuracy_unit if term == "accuracy" else self.goal.throughput_unit

    def raise_floor(self, term: str, least: float) -> None:
        """See :class:`TangentProgram`."""
        total = self.model.average_accuracy if term == "accuracy" else self.model.throughput
        total.setlb(max(total.lb, min(least, total.ub)))

    def add_tangent(self, term: str, at: float, log_value: float, log_slope: float) -> Any:
        """See :class:`TangentProgram`."""
        return add_tangent(self.model, term, at, log_value, log_slope)


class Tangents:
    """The tangents of one program whose objective is a reward."""

    def __init__(self, reward: Reward, program: TangentProgram, gap: float) -> None:
        self._reward, self._program, self._gap = reward, program, gap
        self._points: set[tuple[str, float]] = set()
        self._low: dict[str, float] = {}
        self._worthless: set[str] = set()

    def __len__(self) -> int:
        return len(self._points)

    def spread(self, accuracy: Range, throughput: Range, best: Solution | None) -> bool:
        """Add the first tangents, dense around the best known solution.

        The totals are held where something at least as good can lie: there the logarithm and
        its slopes are moderate, however steep the reward is elsewhere.

        Args:
            accuracy: where A can lie.
            throughput: where Th can lie [inferences/s].
            best: the best assignment known, valued by the same reward.

        Returns False where the reward is 0 whatever is chosen: any assignment is optimal
        then, and the term must only be bounded for the solver.
        """
        for term, (shape, span) in _ranges(self._reward, accuracy, throughput, best).items():
            self._low[term] = span.low
            floor = span.low - _FLOOR_MARGIN * span.high
            self._program.raise_floor(term, floor / self._program.unit_of(term))
            points = tangent_points(shape, span.low, span.high, span.guess, self._gap / 10)
            added = [self._add(term, shape, at) for at in points]
            if points and not any(constraint is not None for constraint in added):
                most = min(float(log_value(shape, span.high)), _LARGEST_LOG)
                self._program.add_tangent(term, 0.0, most, 0.0)
            if not points:
                self._worthless.add(term)
                self._program.add_tangent(term, 0.0, 0.0, 0.0)
        return not self._worthless

    def add_at(
        self, accuracy: float, throughput: float, modelled: tuple[float, float]
    ) -> list[Any]:
        """Add tangents at a solution where the model is loose; return the constraints.

        Args:
            accuracy: the solution's A.
            throughput: its Th [inferences/s].
            modelled: what the model takes log xi and log zeta to be there.
        """
        reward = self._reward
        added = []
        for term, shape, at, value in (
            ("accuracy", reward.accuracy, accuracy, modelled[0]),
            ("throughput", reward.throughput, throughput, modelled[1]),
        ):
            if term in self._worthless:
                continue
            at = max(at, self._low[term])
            if value - float(log_value(shape, at)) > 0.05 * self._gap:
                constraint = self._add(term, shape, at)
                if constraint is not None:
                    added.append(constraint)
        return added

    def _add(self, term: str, shape: Shape, at: float) -> Any:
        if (term, at) in self._points:
            return None
        self._points.add((term, at))
        unit = self._program.unit_of(term)
        value, slope = float(log_value(shape, at)), log_slope(shape, at)
        if slope * unit > _STEEPEST:
            return None
        return self._program.add_tangent(term, at / unit, value, slope * unit)


def ranges_of(pool: PathPool) -> tuple[Range, Range]:
    """Return where A and Th [inferences/s] of the assignments of a pool lie."""
    pairs = zip(pool.weights.tolist(), pool.tasks, strict=True)
    ends = [(w * t.paths.accuracy.min(), w * t.paths.accuracy.max()) for w, t in pairs]
    low_a, high_a = (float(sum(end)) for end in zip(*ends, strict=True))
    low_th = sum(t.floor for t in pool.tasks)
    return (low_a, high_a), (low_th, sum(float(t.most_rate.max()) for t in pool.tasks))


def _ranges(
    reward: Reward, accuracy: Range, throughput: Range, best: Solution | None
) -> dict[str, tuple[Shape, _Range]]:
    """Return for both terms the shape and where its argument can lie.

    Something at least as good as ``best`` has log xi(A) >= log F(best) - max log zeta, and the
    other way round.
    """
    (low_a, high_a), (low_th, high_th) = accuracy, throughput
    least = _LEAST_LOG_REWARD
    if best is not None and np.isfinite(best.value):
        least = max(least, best.value - 1e-9 * (1.0 + abs(best.value)))
    found = {}
    for term, shape, low, high, other, guess in (
        (
            "accuracy",
            reward.accuracy,
            low_a,
            high_a,
            float(log_value(reward.throughput, high_th)),
            None if best is None else best.accuracy,
        ),
        (
            "throughput",
            reward.throughput,
            low_th,
            high_th,
            float(log_value(reward.accuracy, high_a)),
            None if best is None else best.throughput,
        ),
    ):
        if np.isfinite(other):
            window = min(least_argument(shape, least - other), high) - _WINDOW_MARGIN * high
            low = max(low, window)
        found[term] = shape, _Range(max(low, _LEAST_SHARE * high), high, guess)
    return found


def tangent_points(
    shape: Shape, low: float, high: float, guess: float | None, error: float
) -> list[float]:
    """Return where to put the first tangents of a log-concave shape on [low, high].

    A power has no tangent at 0: there ``low`` must be above it, unless ``high`` is 0, too.

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
    start = high if guess is None else min(max(guess, low), high)
    points = {low, high, start}
    for direction in (-1.0, 1.0):
        x, allowed = start, error
        for _ in range(60):
            step = 1e-4 * max(abs(x), 1e-6 * high)
            curvature = abs(log_slope(shape, x + step) - log_slope(shape, max(x - step, low / 2)))
            curvature /= x + step - max(x - step, low / 2)
            length = math.sqrt(8.0 * allowed / curvature) if curvature > 0.0 else math.inf
            x += direction * min(length, 0.5 * (high - low) + 1e-12 * high)
            if not low < x < high:
                break
            points.add(x)
            allowed *= 1.25
    return sorted(points)
