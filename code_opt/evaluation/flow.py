"""What goes in and what comes out: one way of feeding the edge, planned, recorded, counted.

The same for both drivers, real processes and the simulated clock: a :class:`Run` says how
the edge is fed, a :class:`Trace` records what was fed and answered, and a :class:`Flow` is what
:meth:`Run.measured` makes of it, in the instance's own seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from code_opt.evaluation.intervals import Interval, least_answers, percentile_interval
from code_opt.evaluation.routes import Loads, Route, loads, routes
from code_opt.evaluation.traffic import (
    Arrivals,
    ClosedFeeder,
    Feed,
    Feeder,
    OpenFeeder,
    arrivals,
)
from code_opt.instance import Instance
from code_opt.result import Result

Labels = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]
WARM_UP = 0.25
"""Share of the measured time that runs before it, so that a steady state is reached."""
OVERLOAD = 1.1
LAG_TOLERANCE = 0.01
"""Lag that voids a measurement, as a share of the measured time. So much of what should be
answered in the window may be answered after it; a verdict allows three times as much."""
STOLEN_TOLERANCE = 0.02
"""Share of a processor's time that others may have had, of a server at its own pace."""
_LEAST_ANSWERS = 40
"""Of every task, if need be in a longer time than asked for,"""
_LONGEST = 10.0
"""but in so many times that time at most."""
LATENCY_LAG = 0.05
"""Lag that voids a latency, as a share of it."""
_LOST = 0.03
"""A steady edge answers all but this share of what every task asks,"""
_COUNTING = 2
"""give or take what the ends of the measured time cut off."""


Pace = Literal["instance", "device"]
"""Whose pace servers keep: what the instance says, or what this machine can do."""
LatencyVerdict = Literal[
    "", "kept", "limit broken", "promise broken", "too short to tell", "void", "not measured"
]


@dataclass(frozen=True)
class LatencyPromise:
    """What a task was promised of a percentile of its latency."""

    percentile: float
    promised: float | None
    """[s]"""
    limit: float | None
    """[s]"""

    def verdict(self, measured: Interval, lag: float) -> LatencyVerdict:
        """Return whether limit and promise hold, as far as a run can tell.

        Args:
            measured: the percentile.
            lag: of the machine [s].
        """
        if not measured.is_long_enough:
            return "too short to tell"
        if lag > LATENCY_LAG * measured.value:
            return "void"
        if self.limit is not None and measured.low > self.limit:
            return "limit broken"
        if self.promised is not None and measured.low > self.promised:
            return "promise broken"
        return "kept"


@dataclass(frozen=True)
class TaskFlow:
    """What one task was promised, fed and given."""

    task: str
    predicted: float
    """Inferences per second that the model allows."""
    offered: float
    """Inferences per second that it was fed."""
    measured: float
    """Inferences per second that were answered."""
    answered: int
    right: int | None
    """Right ones among them (None: nobody knows the right answers)."""
    unloaded: float
    """Latency of the model, without waiting [s]."""
    latency_median: float
    latency_p95: float
    latency_p99: float
    latency_percentile: float | None = None
    """Quantile that is promised; None: none is."""
    latency_limit: float | None = None
    latency_promised: float | None = None
    latency_measured: float | None = None
    """That quantile of what was measured, with its 95 % interval by batch means [s]."""
    latency_low: float | None = None
    latency_high: float | None = None
    latency_verdict: LatencyVerdict = ""
    """"": nothing is promised."""


@dataclass(frozen=True)
class ServerFlow:
    """What one server did."""

    server: str
    predicted: float
    """Utilization of the model, from 0 to 1."""
    measured: float
    waiting_mean: float
    """Inferences inside, seen by one that arrives."""
    waiting_max: int
    lag: float
    """How late this machine fed it, brought it its inputs and computed for it [s]: the 95th
    percentile, or the lag at the end where that is more."""
    batch_mean: float
    stolen: float = 0.0
    """Share of the time in which others had the processor of a server at its own pace."""
    share: float | None = None
    """How much of the result's rates a saturated server at its own pace does: 1 is all of them."""
    share_of_processor: float | None = None
    """The same, had nobody else had its processor."""


@dataclass(frozen=True)
class Flow:
    """One way of feeding the edge, measured."""

    feed: Feed
    arrivals: str
    factor: float
    """Slow motion: all capacities and rates were multiplied by it."""
    seconds: float
    """Measured, in the instance's own seconds."""
    predicted: float
    """Total throughput of the model [inferences/s]."""
    offered: float
    measured: float
    steady: bool
    """What every task was fed was answered, and the queues did not grow."""
    tasks: tuple[TaskFlow, ...]
    servers: tuple[ServerFlow, ...]
    pace: Pace = "instance"

    @property
    def error(self) -> float:
        """Measured throughput over what was fed (saturated: over what is predicted), less 1.

        What Poisson arrivals feed in a few seconds differs from the rate by chance; nobody is to
        blame for that.
        """
        expected = self.offered if self.feed == "rates" else self.predicted
        return self.measured / expected - 1.0 if expected > 0.0 else 0.0

    @property
    def lag(self) -> float:
        """The largest lag of a server [s]."""
        return max((server.lag for server in self.servers), default=0.0)

    @property
    def is_void(self) -> bool:
        """Whether this machine was too late to tell what the edge does."""
        return self.lag > LAG_TOLERANCE * self.seconds or self.stolen > STOLEN_TOLERANCE

    @property
    def stolen(self) -> float:
        """The largest share of a server's time in which others had its processor."""
        return max((server.stolen for server in self.servers), default=0.0)


@dataclass(frozen=True)
class Stream:
    """A route, and the inputs that feed it where it is executed."""

    route: Route
    latency: tuple[float, ...]
    """Unloaded latency of the model, by task [s]."""
    labels: tuple[Labels | None, ...]
    """By task of the route."""
    inputs: Mapping[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    """For every segment without a parent: shape (n, channels, height, width), n the same for
    all; taken in turn, from the first again after the last."""
    promises: tuple[LatencyPromise | None, ...] = ()
    """By task; nothing at all: none is promised anything."""

    @property
    def percentiles(self) -> tuple[float, ...]:
        """Quantiles that are promised to its tasks."""
        return tuple(promise.percentile for promise in self.promises if promise is not None)


def streams_of(instance: Instance, result: Result) -> list[Stream]:
    """Return the routes of a result, with nothing to compute on."""
    latency = {row.task: row.latency for row in result.tasks}
    limits = {task.id: task.max_latency for task in instance.tasks}
    promises = {
        row.task: LatencyPromise(row.latency_percentile, row.latency_promised, limits[row.task])
        for row in result.tasks
        if row.latency_percentile is not None
    }
    return [
        Stream(
            one,
            tuple(latency[task] for task in one.tasks),
            (None,) * len(one.tasks),
            promises=tuple(promises.get(task) for task in one.tasks),
        )
        for one in routes(instance, result)
    ]


def long_enough(seconds: float, streams: Sequence[Stream], factor: float = 1.0) -> float:
    """Return how long to measure so that every stream gets enough answers to tell.

    Args:
        seconds: asked for; ten times that is the most.
        streams: an assignment.
        factor: slow motion.
    """
    needed = [
        max([_LEAST_ANSWERS, *(least_answers(q) for q in stream.percentiles)])
        / (stream.route.rate * factor)
        for stream in streams
    ]
    return min(max(seconds, *needed), _LONGEST * seconds)


class Trace:
    """What was fed and what was answered.

    Args:
        streams: an assignment's.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.born: list[list[float]] = [[] for _ in streams]
        """When every inference was born, by stream."""
        self.answers: list[list[list[tuple[int, float, int]]]] = [
            [[] for _ in stream.route.tasks] for stream in streams
        ]
        """Number of the inference, time of its answer and class, by stream and task."""

    def latencies(self, stream: int, task: int, window: tuple[float, float]) -> Times:
        """Return the times from birth to answer of those answered in a window [s].

        In the order in which the inferences were born, shape (answers,).
        """
        start, end = window
        found = sorted(a for a in self.answers[stream][task] if start <= a[1] < end)
        born = self.born[stream]
        return np.array([ended - born[number] for number, ended, _ in found])


@dataclass(frozen=True)
class Run:
    """How one assignment is fed, and when; use :meth:`planned`.

    Times are the driver's: in slow motion the edge's own are shorter by :attr:`factor`.
    """

    streams: tuple[Stream, ...]
    full: Loads
    feed: Feed
    arrivals: Arrivals
    seed: int
    factor: float
    start: float
    window: tuple[float, float]

    @classmethod
    def planned(
        cls,
        instance: Instance,
        streams: Sequence[Stream],
        feed: Feed,
        *,
        seconds: float,
        start: float = 0.0,
        factor: float = 1.0,
        arrivals: Arrivals = "constant",
        seed: int = 0,
    ) -> Run:
        """Return the run that begins at a time and is measured for so many seconds after a warm-up.

        Args:
            instance: servers and links.
            streams: the assignment.
            feed: how fast.
            seconds: how long is measured.
            start: when it begins.
            factor: slow motion.
            arrivals: evenly spaced, or Poisson processes; ``saturated`` takes neither.
            seed: of the Poisson processes.
        """
        return cls(
            streams=tuple(streams),
            full=loads(instance, [stream.route for stream in streams]),
            feed=feed,
            arrivals=arrivals,
            seed=seed,
            factor=factor,
            start=start,
            window=(start + WARM_UP * seconds, start + (1.0 + WARM_UP) * seconds),
        )

    @property
    def scale(self) -> float:
        """What the rates of the result are multiplied by."""
        if self.feed == "rates":
            return 1.0
        return (OVERLOAD if self.feed == "overloaded" else 1.0) / self.full.largest

    def feeder(self) -> Feeder:
        """Return what feeds the edge."""
        rates = [stream.route.rate * self.scale * self.factor for stream in self.streams]
        if self.feed == "saturated":
            longest = max(max(stream.latency) for stream in self.streams) / self.factor
            members = [len(stream.route.tasks) for stream in self.streams]
            ahead = 3.0 * longest + 4.0 / min(rates)
            return ClosedFeeder(rates, members, ahead, self.start, self.window[1])
        schedule = arrivals(self.arrivals, rates, self.start, self.seed)
        return OpenFeeder(schedule, self.window[1])

    def measured(self, trace: Trace, reports: Mapping[str, Mapping[str, float]]) -> Flow:
        """Count what was answered in the window.

        Args:
            trace: what was fed and answered.
            reports: of the servers (:meth:`code_opt.evaluation.server.ServerQueue.report`).
        """
        start, end = self.window
        seconds = (end - start) * self.factor
        lag = max((report["lag"] for report in reports.values()), default=0.0) * self.factor
        tasks = tuple(
            self._task(trace, which, place, seconds, lag)
            for which, stream in enumerate(self.streams)
            for place in range(len(stream.route.tasks))
        )
        offered, measured = sum(t.offered for t in tasks), sum(t.measured for t in tasks)
        if self.feed == "saturated":
            # What counts is the mix: so much of it as the slowest task gets through. Others may
            # be ahead by what queues before the fullest server have not yet held back.
            asked = [stream.route.rate for stream in self.streams for _ in stream.route.tasks]
            share = min(t.measured / rate for t, rate in zip(tasks, asked, strict=True))
            measured = share * sum(asked)
        grown = _inside(trace, end) - _inside(trace, start)
        return Flow(
            feed=self.feed,
            arrivals="closed loop" if self.feed == "saturated" else self.arrivals,
            factor=self.factor,
            seconds=seconds,
            predicted=sum(t.predicted for t in tasks),
            offered=offered,
            measured=measured,
            steady=all(t.answered >= (1.0 - _LOST) * t.offered * seconds - _COUNTING for t in tasks)
            and grown <= _LOST * offered * seconds + _COUNTING,
            tasks=tasks,
            servers=tuple(
                ServerFlow(
                    server=server,
                    predicted=min(1.0, self.full.servers[server] * self.scale),
                    measured=report["utilization"],
                    waiting_mean=report["waiting_mean"],
                    waiting_max=int(report["waiting_max"]),
                    lag=report["lag"] * self.factor,
                    batch_mean=report["batch_mean"],
                    stolen=report.get("stolen", 0.0),
                )
                for server, report in reports.items()
            ),
        )

    def _task(self, trace: Trace, which: int, place: int, seconds: float, lag: float) -> TaskFlow:
        stream = self.streams[which]
        start, end = self.window
        times = trace.latencies(which, place, self.window) * self.factor
        labels, right = stream.labels[place], None
        if labels is not None:
            right = sum(
                answer == int(labels[number % len(labels)])
                for number, ended, answer in trace.answers[which][place]
                if start <= ended < end
            )
        middle, high, highest = np.quantile(times if len(times) else [np.nan], (0.5, 0.95, 0.99))
        promised: dict[str, Any] = {}
        promise = stream.promises[place] if stream.promises else None
        if promise is not None and self.feed == "rates":
            found = percentile_interval(times, promise.percentile)
            promised = {
                "latency_percentile": promise.percentile,
                "latency_limit": promise.limit,
                "latency_promised": promise.promised,
                "latency_measured": found.value,
                "latency_low": found.low,
                "latency_high": found.high,
                "latency_verdict": promise.verdict(found, lag),
            }
        return TaskFlow(
            task=stream.route.tasks[place],
            predicted=stream.route.rate * min(self.scale, 1.0 / self.full.largest),
            offered=sum(start <= born < end for born in trace.born[which]) / seconds,
            measured=len(times) / seconds,
            answered=len(times),
            right=right,
            unloaded=stream.latency[place],
            latency_median=float(middle),
            latency_p95=float(high),
            latency_p99=float(highest),
            **promised,
        )


def _inside(trace: Trace, at: float) -> int:
    """Return how many answers are still to come at a time, for what was fed before it."""
    return sum(
        len(tasks) * sum(one < at for one in born)
        - sum(ended < at for found in tasks for _, ended, _ in found)
        for born, tasks in zip(trace.born, trace.answers, strict=True)
    )
