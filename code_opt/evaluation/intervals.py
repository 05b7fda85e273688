"""Percentiles of a run with their intervals, and whether the run was long enough for them.

Successive times of an answer are not independent, so a run is cut into batches, the percentile is
taken of each, and the batches are compared (batch means: Law, Simulation Modeling and Analysis,
chapter 9). At high load a few long busy periods decide, and short runs say little: a run counts
as long enough when the batches agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BATCHES = 20
_T_OF_BATCHES = 2.093
"""97.5 % quantile of Student's t with 19 degrees of freedom."""
_WIDEST = 0.25
"""Largest half-width of the interval, as a share of the percentile, of a run that can tell."""
_MOST_CORRELATED = 0.45
"""Largest correlation of successive batches of such a run: 95 % of independent ones have less."""
_LEAST_BEYOND = 10
"""Answers of a batch that must lie beyond the percentile."""


@dataclass(frozen=True)
class Interval:
    """A simulated percentile with its 95 % interval [s]."""

    value: float
    low: float
    high: float
    is_long_enough: bool
    """Whether the batches agree."""


def percentile_interval(times: npt.NDArray[np.float64], percentile: float) -> Interval:
    """Return a percentile of a run's times with its interval, by batch means.

    Args:
        times: of successive answers, in order [s].
        percentile: in (0, 1).
    """
    if len(times) < BATCHES:
        value = float(np.quantile(times, percentile)) if len(times) else math.nan
        return Interval(value, -math.inf, math.inf, False)
    batches = np.array([np.quantile(b, percentile) for b in np.array_split(times, BATCHES)])
    value = float(np.quantile(times, percentile))
    spread = float(batches.std(ddof=1))
    half = _T_OF_BATCHES * spread / math.sqrt(BATCHES)
    correlation = 0.0
    if spread > 0.0:
        off = batches - batches.mean()
        correlation = float((off[1:] @ off[:-1]) / (off @ off))
    beyond = len(times) / BATCHES * (1.0 - percentile)
    is_long_enough = (
        half <= _WIDEST * value and correlation <= _MOST_CORRELATED and beyond >= _LEAST_BEYOND
    )
    return Interval(value, value - half, value + half, is_long_enough)


def least_answers(percentile: float) -> int:
    """Return how many answers a run needs at least to tell a percentile."""
    return math.ceil(BATCHES * _LEAST_BEYOND / (1.0 - percentile))
