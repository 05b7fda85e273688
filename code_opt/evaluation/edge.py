"""The edge, executed: a process per server, real activations between them, the instance's pace.

Three ways of feeding it:

* **at the rates** of a result: what the model calls feasible must come out as it went in;
* **saturated**: the same mix as fast as it is taken, which finds how much of it the edge can do
  (what counts is the task that gets the smallest share of its rate);
* **overloaded**: 10 % more than the fullest server or link can do, which must show.

Where this machine is too slow for the asked capacities, *all* capacities, bandwidths and
rates are multiplied by one factor below 1 and all delays divided by it: the same edge in
slow motion. What is reported is in the instance's own seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from code_opt.errors import CodeOptError
from code_opt.evaluation.routes import Loads, Route, loads
from code_opt.evaluation.worker import (
    ANSWER,
    ITEM,
    TAG_ANSWER,
    TAG_ITEM,
    TAG_TEXT,
    WorkerSpec,
    serve,
)
from code_opt.instance import Instance

Arrivals = Literal["constant", "poisson"]
Feed = Literal["rates", "saturated", "overloaded"]
Labels = npt.NDArray[np.int64]
WARM_UP = 0.25
"""Share of the measured time that runs before it, so that a steady state is reached."""
OVERLOAD = 1.1
MOST_BUSY = 0.6
"""Share of a processor that real computing may take: pacing needs room to be honest."""
_HANDLING = 4e-4
"""Seconds that receiving, queueing and sending one activation takes in a worker, about."""
_START_TIMEOUT = 180.0
_REPORT_TIMEOUT = 30.0
_LEAD = 0.05
"""Seconds between the order to begin and the first inference."""
_LEAST_ANSWERS = 40
"""Of every task, if need be in a longer time than asked for,"""
_LONGEST = 10.0
"""but in so many times that time at most."""
_LOST = 0.03
"""A steady edge answers all but this share of what every task asks,"""
_COUNTING = 2
"""give or take what the ends of the measured time cut off."""


class EdgeError(CodeOptError):
    """A server's process failed; the message says which and how."""


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
    """95th percentile of how late real computing was [s]."""
    batch_mean: float


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

    @property
    def error(self) -> float:
        """Measured over predicted throughput, less 1."""
        return self.measured / self.predicted - 1.0


@dataclass(frozen=True)
class Stream:
    """A route with the inputs that feed it."""

    route: Route
    inputs: Mapping[int, npt.NDArray[np.float32]]
    """For every segment without a parent: shape (n, channels, height, width), n the same for
    all; taken in turn, from the first again after the last."""
    labels: tuple[Labels | None, ...]
    """By task of the route."""
    latency: tuple[float, ...]
    """Unloaded latency of the model, by task [s]."""

    @property
    def images(self) -> int:
        """Number of different inputs."""
        return len(next(iter(self.inputs.values())))


class _Answer(NamedTuple):
    """One inference of one task, finished."""

    route: int
    task: int
    """Place in the route."""
    number: int
    born: float
    ended: float
    answer: int


class Edge(AbstractContextManager["Edge"]):
    """Processes of all servers for several assignments; use it as a context.

    Args:
        instance: servers and links.
        workers: what every server runs, by server; routes are numbered over all assignments.

    Raises:
        EdgeError: a process does not start.
    """

    def __init__(self, instance: Instance, workers: Mapping[str, WorkerSpec]) -> None:
        self.instance = instance
        self.specs = dict(workers)
        self._processes: dict[str, Any] = {}
        self._commands: dict[str, Pipe] = {}
        self._answers: dict[str, Pipe] = {}
        self._epoch = 0
        self.seconds: dict[tuple[int, int], float] = {}
        """Time of one inference alone, by route and visit [s]."""

    def __enter__(self) -> Self:
        """Start the processes and wait until all are ready."""
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all processes, whatever they are doing."""
        self._stop()

    def _start(self) -> None:
        # Forked copies of a process with threads (torch's) can hang; fresh ones cannot.
        context = multiprocessing.get_context("spawn")
        into: dict[str, list[Pipe]] = {server: [] for server in self.specs}
        out: dict[str, dict[str, Pipe]] = {server: {} for server in self.specs}
        for server in self.specs:
            receiver, sender = context.Pipe(duplex=False)
            into[server].append(receiver)
            self._commands[server] = sender
        pairs = {
            (server, there)
            for server, spec in self.specs.items()
            for visit in spec.visits
            for piece in visit.pieces
            for there, _ in piece.next
        }
        for here, there in sorted(pairs):
            receiver, sender = context.Pipe(duplex=False)
            into[there].append(receiver)
            out[here][there] = sender
        for server, spec in self.specs.items():
            receiver, sender = context.Pipe(duplex=False)
            self._answers[server] = receiver
            process = context.Process(
                target=serve,
                args=(spec, into[server], out[server], sender),
                name=f"edge {server}",
                daemon=True,
            )
            with _without_interrupts():
                process.start()
            self._processes[server] = process
            sender.close()
        # Ends that only the workers use: while we held them, nobody would notice a death.
        for pipe in (
            *(p for ps in into.values() for p in ps),
            *(p for d in out.values() for p in d.values()),
        ):
            pipe.close()
        for server in self.specs:
            ready = self._text(server, _START_TIMEOUT)["ready"]
            for name, seconds in ready.items():
                route, _, visit = name.partition("/")
                self.seconds[int(route), int(visit)] = seconds

    def _stop(self) -> None:
        for pipe in self._commands.values():
            with suppress(OSError):
                pipe.send_bytes(TAG_TEXT + json.dumps({"do": "stop"}).encode())
            pipe.close()
        for process in self._processes.values():
            process.join(1.0)
            if process.is_alive():
                process.terminate()
                process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._answers.values():
            pipe.close()
        self._processes.clear()
        self._commands.clear()
        self._answers.clear()

    def slow_motion(self, first: int, streams: Sequence[Stream], most: float = 1.0) -> float:
        """Return the factor, at most ``most``, at which this machine keeps the pace.

        Args:
            first: number of the first stream's route.
            streams: one assignment.
            most: upper limit.
        """
        # Saturation and overload ask for more than the rates do.
        found = [stream.route for stream in streams]
        peak = OVERLOAD / max(loads(self.instance, found).largest, 1e-9)
        busy = dict.fromkeys(self.specs, 0.0)
        for number, stream in enumerate(streams, start=first):
            for k, segment in enumerate(stream.route.segments):
                if stream.route.visit(k) == k:
                    each = self.seconds[number, k] + _HANDLING
                    busy[segment.server] += max(peak, 1.0) * stream.route.rate * each
        cores = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        # One process cannot use more than a core or two of its own; the coordinator needs some.
        limit = max(max(busy.values(), default=0.0), sum(busy.values()) / cores)
        return min(most, MOST_BUSY / limit) if limit > 0.0 else most

    def run(
        self,
        first: int,
        streams: Sequence[Stream],
        feed: Feed,
        *,
        seconds: float,
        factor: float = 1.0,
        arrivals: Arrivals = "constant",
        seed: int = 0,
    ) -> Flow:
        """Feed one assignment and measure what comes out.

        Args:
            first: number of the first stream's route.
            streams: the assignment's routes, numbered from ``first`` on.
            feed: how fast.
            seconds: how long is measured, on this machine's clock; longer where the slowest
                task would get too few answers to tell its rate.
            factor: slow motion (see :meth:`slow_motion`).
            arrivals: evenly spaced, or a Poisson process; ``saturated`` takes neither.
            seed: of the Poisson processes.

        Raises:
            EdgeError: a process died or does not answer.
        """
        full = loads(self.instance, [stream.route for stream in streams])
        seconds = _long_enough(seconds, [stream.route.rate * factor for stream in streams])
        scale = {
            "rates": 1.0,
            "saturated": 1.0 / full.largest,
            "overloaded": OVERLOAD / full.largest,
        }[feed]
        self._epoch += 1
        start = time.monotonic() + _LEAD
        window = (start + WARM_UP * seconds, start + (1.0 + WARM_UP) * seconds)
        for server in self.specs:
            self._order(
                server,
                {
                    "do": "begin",
                    "epoch": self._epoch,
                    "factor": factor,
                    "start": window[0],
                    "end": window[1],
                },
            )
        rates = [stream.route.rate * scale * factor for stream in streams]
        if feed == "saturated":
            records, sent = self._closed(first, streams, rates, window, start)
        else:
            schedule = _schedule(rates, start, window[1], arrivals, seed)
            records, sent = self._open(first, streams, schedule, window)
        reports = {server: self._report(server) for server in self.specs}
        return _measured(
            first, streams, feed, arrivals, factor, scale, window, records, sent, reports, full
        )

    # Feeding

    def _open(
        self,
        first: int,
        streams: Sequence[Stream],
        schedule: Iterator[tuple[float, int]],
        window: tuple[float, float],
    ) -> tuple[list[_Answer], list[tuple[int, float]]]:
        """Send on schedule, collect answers until the end of the window."""
        records: list[_Answer] = []
        sent: list[tuple[int, float]] = []
        counts = [0] * len(streams)
        coming = next(schedule, None)
        while True:
            now = time.monotonic()
            while coming is not None and coming[0] <= now:
                born, which = coming
                self._send(first + which, streams[which], counts[which], born)
                sent.append((which, born))
                counts[which] += 1
                coming = next(schedule, None)
            if now >= window[1]:
                return records, sent
            until = window[1] if coming is None else min(coming[0], window[1])
            self._collect(records, max(0.0, until - time.monotonic()))

    def _closed(
        self,
        first: int,
        streams: Sequence[Stream],
        rates: Sequence[float],
        window: tuple[float, float],
        start: float,
    ) -> tuple[list[_Answer], list[tuple[int, float]]]:
        """Send the mix as fast as it is answered, so many at a time that no server idles."""
        # All tasks are held within so many seconds of traffic of the slowest, which keeps the mix.
        ahead = 3.0 * max(max(stream.latency) for stream in streams) + 4.0 / min(rates)
        records: list[_Answer] = []
        sent: list[tuple[int, float]] = []
        counts, seen = [0] * len(streams), 0
        answered = [[0] * len(stream.route.tasks) for stream in streams]
        mix = _schedule(rates, 0.0, float("inf"), "constant", 0)
        coming = next(mix)
        time.sleep(max(0.0, start - time.monotonic()))
        while (now := time.monotonic()) < window[1]:
            for record in records[seen:]:
                answered[record.route - first][record.task] += 1
            seen = len(records)
            slowest = min(min(n) / rate for n, rate in zip(answered, rates, strict=True))
            while coming[0] <= slowest + ahead:
                which = coming[1]
                self._send(first + which, streams[which], counts[which], now)
                sent.append((which, now))
                counts[which] += 1
                coming = next(mix)
            self._collect(records, window[1] - now)
        return records, sent

    def _send(self, number: int, stream: Stream, count: int, born: float) -> None:
        for segment, inputs in stream.inputs.items():
            head = ITEM.pack(self._epoch, number, segment, count, born)
            content = inputs[count % len(inputs)].tobytes()
            server = stream.route.segments[segment].server
            try:
                self._commands[server].send_bytes(TAG_ITEM + head + content)
            except OSError:
                raise self._death(server) from None

    def _collect(self, records: list[_Answer], patience: float) -> None:
        """Take the answers that are there, waiting for the first one for so many seconds."""
        names = {id(pipe): server for server, pipe in self._answers.items()}
        for pipe in wait(list(self._answers.values()), patience):
            assert isinstance(pipe, Pipe)
            while pipe.poll():
                message = self._received(names[id(pipe)])
                if message[:1] == TAG_ANSWER:
                    epoch, *found = ANSWER.unpack_from(message, 1)
                    if epoch == self._epoch:
                        records.append(_Answer(*found))

    # Talking to workers

    def _order(self, server: str, order: dict[str, Any]) -> None:
        try:
            self._commands[server].send_bytes(TAG_TEXT + json.dumps(order).encode())
        except OSError:
            raise self._death(server) from None

    def _received(self, server: str) -> bytes:
        try:
            return self._answers[server].recv_bytes()
        except (EOFError, OSError):
            raise self._death(server) from None

    def _text(self, server: str, patience: float) -> dict[str, Any]:
        """Return the next text of a worker; answers that come before it are dropped."""
        until = time.monotonic() + patience
        while self._answers[server].poll(max(0.0, until - time.monotonic())):
            message = self._received(server)
            if message[:1] == TAG_TEXT:
                text: dict[str, Any] = json.loads(message[1:])
                return text
        raise EdgeError(f"server {server!r} does not answer within {patience:.0f} s")

    def _report(self, server: str) -> dict[str, Any]:
        self._order(server, {"do": "report"})
        return self._text(server, _REPORT_TIMEOUT)

    def _death(self, server: str) -> EdgeError:
        process = self._processes[server]
        process.join(2.0)
        code = process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return EdgeError(f"the process of server {server!r} died ({how})")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the coordinator ends them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _long_enough(seconds: float, rates: Sequence[float]) -> float:
    """Return how long to measure so that the slowest stream gets enough answers."""
    return min(max(seconds, _LEAST_ANSWERS / min(rates)), _LONGEST * seconds)


def _schedule(
    rates: Sequence[float], start: float, end: float, arrivals: Arrivals, seed: int
) -> Iterator[tuple[float, int]]:
    """Yield (time, stream) of all arrivals in order; of equal times the first stream's."""
    evenly = arrivals == "constant"
    random = [np.random.default_rng((seed, k)) for k in range(len(rates))]

    def gap(k: int) -> float:
        return 1.0 / rates[k] if evenly else float(random[k].exponential(1.0 / rates[k]))

    # Streams begin at different parts of their gaps: not all at once.
    coming = [
        start + ((k + 0.5) / len(rates) / rates[k] if evenly else gap(k)) for k in range(len(rates))
    ]
    while True:
        k = int(np.argmin(coming))
        if coming[k] >= end:
            return
        yield coming[k], k
        coming[k] += gap(k)


def _measured(
    first: int,
    streams: Sequence[Stream],
    feed: Feed,
    arrivals: Arrivals,
    factor: float,
    scale: float,
    window: tuple[float, float],
    records: Sequence[_Answer],
    sent: Sequence[tuple[int, float]],
    reports: Mapping[str, Mapping[str, Any]],
    full: Loads,
) -> Flow:
    """Count what was answered in the window, in the instance's own seconds."""
    start, end = window
    seconds = (end - start) * factor
    tasks = []
    for which, stream in enumerate(streams):
        fed = sum(1 for k, born in sent if k == which and start <= born < end)
        for place, task in enumerate(stream.route.tasks):
            mine = [
                r
                for r in records
                if (r.route, r.task) == (first + which, place) and start <= r.ended < end
            ]
            times = np.array([r.ended - r.born for r in mine] or [np.nan]) * factor
            labels, right = stream.labels[place], None
            if labels is not None:
                right = sum(1 for r in mine if r.answer == int(labels[r.number % len(labels)]))
            middle, high, highest = (float(q) for q in np.quantile(times, (0.5, 0.95, 0.99)))
            tasks.append(
                TaskFlow(
                    task=task,
                    predicted=stream.route.rate * min(scale, 1.0 / full.largest),
                    offered=fed / seconds,
                    measured=len(mine) / seconds,
                    answered=len(mine),
                    right=right,
                    unloaded=stream.latency[place],
                    latency_median=middle,
                    latency_p95=high,
                    latency_p99=highest,
                )
            )
    offered, measured = sum(t.offered for t in tasks), sum(t.measured for t in tasks)
    if feed == "saturated":
        # What counts is the mix: so much of it as the slowest task gets through. Others may be
        # ahead by what queues before the fullest server have not yet held back.
        asked = [stream.route.rate for stream in streams for _ in stream.route.tasks]
        share = min(t.measured / rate for t, rate in zip(tasks, asked, strict=True))
        measured = share * sum(asked)
    # What is inside at the beginning and at the end of the window: queues must not grow.
    members = [len(stream.route.tasks) for stream in streams]
    inside = [
        sum(members[k] for k, born in sent if born < at) - sum(1 for r in records if r.ended < at)
        for at in (start, end)
    ]
    grown = inside[1] - inside[0]
    return Flow(
        feed=feed,
        arrivals="closed loop" if feed == "saturated" else arrivals,
        factor=factor,
        seconds=seconds,
        predicted=sum(t.predicted for t in tasks),
        offered=offered,
        measured=measured,
        steady=all(t.answered >= (1.0 - _LOST) * t.offered * seconds - _COUNTING for t in tasks)
        and grown <= _LOST * offered * seconds + _COUNTING,
        tasks=tuple(tasks),
        servers=tuple(
            ServerFlow(
                server=server,
                predicted=min(1.0, full.servers[server] * scale),
                measured=report["utilization"],
                waiting_mean=report["waiting_mean"],
                waiting_max=report["waiting_max"],
                lag=report["lag"] * factor,
                batch_mean=report["batch_mean"],
            )
            for server, report in reports.items()
        ),
    )
