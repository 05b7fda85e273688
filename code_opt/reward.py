"""The reward F = xi(A) * zeta(Th) and its tangents, in the log domain.

Both factors come from a log-concave, nondecreasing family (power, logistic,
exponential), so ``log F = log xi(A) + log zeta(Th)`` is concave and every tangent
bounds it from above (outer approximation: Duran and Grossmann, Mathematical
Programming 36, 1986). Logarithms keep very large and very small rewards comparable.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from code_opt.instance.model import Exponential, Logistic, Power, Reward, Shape

FloatArray = npt.NDArray[np.float64]


def log_value(shape: Shape, x: float | FloatArray) -> FloatArray:
    """Return log of the shape at ``x`` (any array shape); -inf where the shape is 0."""
    values = np.asarray(x, dtype=float)
    match shape:
        case Power():
            if shape.exponent == 0.0:
                return np.zeros_like(values)
            with np.errstate(divide="ignore"):
                return shape.exponent * np.log(values)
        case Logistic():
            return -np.logaddexp(0.0, -shape.steepness * (values - shape.midpoint))
        case Exponential():
            return shape.rate * values


def log_slope(shape: Shape, x: float) -> float:
    """Return d log(shape)/dx at ``x``; infinite for a power at 0."""
    match shape:
        case Power():
            if shape.exponent == 0.0:
                return 0.0
            return shape.exponent / x if x > 0.0 else math.inf
        case Logistic():
            z = shape.steepness * (x - shape.midpoint)
            # steepness * (1 - sigmoid(z)), written so that neither branch overflows
            return shape.steepness * (
                math.exp(-z) / (1.0 + math.exp(-z)) if z > 0.0 else 1.0 / (1.0 + math.exp(z))
            )
        case Exponential():
            return shape.rate


def least_argument(shape: Shape, log_least: float) -> float:
    """Return the least x at which log of the shape is at least ``log_least`` (-inf: any x)."""
    match shape:
        case Power():
            if shape.exponent == 0.0:
                return -math.inf if log_least <= 0.0 else math.inf
            return math.exp(min(log_least / shape.exponent, 700.0))
        case Logistic():
            if shape.steepness == 0.0:
                return -math.inf if log_least <= -math.log(2.0) else math.inf
            if log_least >= 0.0:
                return math.inf
            # log(exp(y) - 1) at y = -log_least, written so that it does not overflow
            y = -log_least
            odds = math.log(math.expm1(y)) if y < 30.0 else y + math.log1p(-math.exp(-y))
            return shape.midpoint - odds / shape.steepness
        case Exponential():
            if shape.rate == 0.0:
                return -math.inf if log_least <= 0.0 else math.inf
            return log_least / shape.rate


def is_log_linear(shape: Shape) -> bool:
    """Tell whether one tangent is exact everywhere (constant or exponential)."""
    match shape:
        case Power():
            return shape.exponent == 0.0
        case Logistic():
            return shape.steepness == 0.0
        case Exponential():
            return True


def log_reward(reward: Reward, accuracy: float, throughput: float) -> float:
    """Return log F at an average accuracy and a total throughput [inferences/s]."""
    return float(log_value(reward.accuracy, accuracy) + log_value(reward.throughput, throughput))
