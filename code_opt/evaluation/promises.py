"""Promised percentiles against a simulated clock: are they kept, and is the run long enough?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from code_opt.evaluation.flow import Run, streams_of
from code_opt.evaluation.intervals import Interval, percentile_interval
from code_opt.evaluation.simulation import SimulatedEdge
from code_opt.instance import Instance
from code_opt.result import Result

Verdict = Literal["kept", "broken", "too short to tell"]


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
