"""Promised percentiles against a simulated clock: are they kept, and is the run long enough?

Successive times of an answer are not independent, so a run is cut into batches, the percentile is
taken of each, and the batches are compared (batch means: Law, Simulation Modeling and Analysis,
chapter 9). At high load a few long busy periods decide, and short runs say little: a run counts
as long enough when the batches agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from code_opt.evaluation.flow import Run, streams_of
from code_opt.evaluation.simulation import SimulatedEdge
from code_opt.instance import Instance
from code_opt.result import Result

BATCHES = 20
_T_OF_BATCHES = 2.093
"""97.5 % quantile of Student's t with 19 degrees of freedom."""
_WIDEST = 0.25
"""Largest half-width of the interval, as a share of the percentile, of a run that can tell."""
_MOST_CORRELATED = 0.45
"""Largest correlation of successive batches of such a run: 95 % of independent ones have less."""
_LEAST_BEYOND = 10
"""Answers of a batch that must lie beyond the percentile."""

Verdict = Literal["kept", "broken", "too short to tell"]


@dataclass(frozen=True)
class Interval:
    """A simulated percentile with its 95 % interval [s]."""

    value: float
    low: float
    high: float
    is_long_enough: bool
    """Whether the batches agree."""


@dataclass(frozen=True)
class PromiseKept:
    """What one task was promised and what a simulated run shows."""

    task: str
    percentile: float
    promised: float
    """[s]"""
    simulated: Interval
    basis: str
    """``theorem`` or ``model``."""

    @property
    def verdict(self) -> Verdict:
        """Whether the promise holds, as far as the run can tell."""
        if not self.simulated.is_long_enough:
            return "too short to tell"
        return "broken" if self.simulated.low > self.promised else "kept"


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


def simulate_promises(
    instance: Instance, result: Result, *, arrivals: int = 100_000, seed: int = 0
) -> list[PromiseKept]:
    """Run a result with Poisson arrivals and compare every promise with what comes out.

    Args:
        instance: what was solved.
        result: an assignment with promises.
        arrivals: inputs of all tasks together, about.
        seed: of the arrivals.

    Returns:
        One entry for each task that runs and has a promise.
    """
    promised = {row.task: row for row in result.tasks if row.latency_promised is not None}
    streams = streams_of(instance, result)
    total = sum(stream.route.rate for stream in streams)
    if not promised or not streams:
        return []
    run = Run.planned(
        instance, streams, "rates", seconds=arrivals / total, arrivals="poisson", seed=seed
    )
    edge = SimulatedEdge(instance, forms_batches=True)
    trace, _ = edge.drive(streams, run.feeder(), window=run.window)
    found = []
    for which, stream in enumerate(streams):
        for place, name in enumerate(stream.route.tasks):
            row = promised.get(name)
            if row is None:
                continue
            assert row.latency_percentile is not None
            assert row.latency_promised is not None
            times = trace.latencies(which, place, run.window)
            interval = percentile_interval(times, row.latency_percentile)
            found.append(
                PromiseKept(
                    name,
                    row.latency_percentile,
                    row.latency_promised,
                    interval,
                    row.latency_basis or "model",
                )
            )
    return found


def broken(found: Sequence[PromiseKept]) -> list[PromiseKept]:
    """Return the promises that a run shows to be broken."""
    return [one for one in found if one.verdict == "broken"]
