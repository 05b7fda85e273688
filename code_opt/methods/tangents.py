"""Tangents of log xi and log zeta: the reward as a linear program sees it.

The logarithms are concave, so every tangent bounds them from above, and tangents where the
program's solutions lie make the bound as sharp as is wanted (Kelley's cutting planes, 1960;
outer approximation: Duran and Grossmann, Mathematical Programming 36, 1986).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from code_opt.instance.model import Reward, Shape
from code_opt.paths import PathPool
from code_opt.reward import is_log_linear, log_slope, log_value


@dataclass
class _Range:
    """Where a total can lie, and where it probably does."""

    low: float
    high: float
    guess: float | None


class Totals(Protocol):
    """Where the totals probably lie."""

    @property
    def accuracy(self) -> float:
        """A."""

    @property
    def throughput(self) -> float:
        """Th [inferences/s]."""


Add = Callable[[str, float, float, float], Any]
"""Adds a tangent to a program: term, where, logarithm and its slope there; returns it."""


class Tangents:
    """The tangents of one program with a reward as its objective."""

    def __init__(
        self, pool: PathPool, reward: Reward, add: Add, throughput_unit: float, gap: float
    ) -> None:
        self._pool, self._reward, self._add_to_program = pool, reward, add
        self._unit, self._gap = throughput_unit, gap
        self._points: set[tuple[str, float]] = set()
        self._worthless: set[str] = set()

    def __len__(self) -> int:
        return len(self._points)

    def spread(self, guess: Totals | None) -> bool:
        """Add the first tangents, dense around the guess.

        Returns False where the reward is 0 whatever is chosen: any assignment is optimal
        then, and the term must only be bounded for the solver.
        """
        for term, (shape, span) in _ranges(self._pool, self._reward, guess).items():
            points = tangent_points(shape, span.low, span.high, span.guess, self._gap / 10)
            for at in points:
                self._add(term, shape, at)
            if not points:
                self._worthless.add(term)
                self._add_to_program(term, 0.0, 0.0, 0.0)
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
            if at <= 0.0 and not np.isfinite(log_value(shape, 0.0)):
                # log 0 has no tangent: one ever nearer to 0 bounds it from above.
                at = min(p for name, p in self._points if name == term) / 1e3
            if value - float(log_value(shape, at)) > 0.05 * self._gap:
                constraint = self._add(term, shape, at)
                if constraint is not None:
                    added.append(constraint)
        return added

    def _add(self, term: str, shape: Shape, at: float) -> Any:
        if (term, at) in self._points:
            return None
        self._points.add((term, at))
        unit = 1.0 if term == "accuracy" else self._unit
        value, slope = float(log_value(shape, at)), log_slope(shape, at)
        return self._add_to_program(term, at / unit, value, slope * unit)


def _ranges(
    pool: PathPool, reward: Reward, guess: Totals | None
) -> dict[str, tuple[Shape, _Range]]:
    """Return for both terms the shape and where its argument can lie."""
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
                None if guess is None else guess.accuracy,
            ),
        ),
        "throughput": (
            reward.throughput,
            _Range(least, most, None if guess is None else guess.throughput),
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
