"""The edge in the model's units: a process per server, real activations, the instance's pace.

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
import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from typing import Any

from code_opt.evaluation.flow import OVERLOAD, Flow, Run, Stream, Trace, long_enough
from code_opt.evaluation.processes import CONTEXT, START_TIMEOUT, ServerProcesses
from code_opt.evaluation.routes import loads
from code_opt.evaluation.traffic import Arrivals, Feed, Feeder
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

MOST_BUSY = 0.6
"""Share of a processor that real computing may take: pacing needs room to be honest."""
_HANDLING = 4e-4
"""Seconds that receiving, queueing and sending one activation takes in a worker, about."""
_REPLY_TIMEOUT = 60.0
_LEAD = 0.05
"""Seconds between the decision to begin and the first inference."""
_PATIENCE = 0.1
"""Seconds that the feeder is left alone at most."""


class Edge(ServerProcesses):
    """Processes of all servers for several assignments; use it as a context.

    Args:
        instance: servers and links.
        workers: what every server runs, by server; routes are numbered over all assignments.

    Raises:
        EdgeError: a process does not start.
    """

    ORDER = TAG_TEXT

    def __init__(self, instance: Instance, workers: Mapping[str, WorkerSpec]) -> None:
        super().__init__()
        self.instance = instance
        self.specs = dict(workers)
        self._epoch = 0
        self.seconds: dict[tuple[int, int], float] = {}
        """Time of one inference alone, by route and visit [s]."""

    def _start(self) -> None:
        into: dict[str, list[Pipe]] = {server: [] for server in self.specs}
        out: dict[str, dict[str, Pipe]] = {server: {} for server in self.specs}
        for server in self.specs:
            receiver, self._orders[server] = CONTEXT.Pipe(duplex=False)
            into[server].append(receiver)
        pairs = {
            (server, there)
            for server, spec in self.specs.items()
            for visit in spec.visits
            for piece in visit.pieces
            for there, *_ in piece.next
        }
        for here, there in sorted(pairs):
            receiver, sender = CONTEXT.Pipe(duplex=False)
            into[there].append(receiver)
            out[here][there] = sender
        for server, spec in self.specs.items():
            self._launch(server, serve, spec, into[server], out[server])
        # Ends that only the workers use: while we held them, nobody would notice a death.
        for pipe in (
            *(p for ps in into.values() for p in ps),
            *(p for d in out.values() for p in d.values()),
        ):
            pipe.close()
        for server in self.specs:
            ready = self._text(server, START_TIMEOUT)["ready"]
            for name, seconds in ready.items():
                route, _, visit = name.partition("/")
                self.seconds[int(route), int(visit)] = seconds

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
        busy, gpu = dict.fromkeys(self.specs, 0.0), 0.0
        for number, stream in enumerate(streams, start=first):
            for k, segment in enumerate(stream.route.segments):
                if stream.route.visit(k) == k:
                    rate = max(peak, 1.0) * stream.route.rate
                    busy[segment.server] += rate * (self.seconds[number, k] + _HANDLING)
                    if self.specs[segment.server].device != "cpu":
                        gpu += rate * self.seconds[number, k]
        cores = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        # One process cannot use more than a core or two of its own; the coordinator needs some.
        # All processes share one GPU, whose kernels run one after the other at worst.
        limit = max(*busy.values(), sum(busy.values()) / cores, gpu)
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
        self.begin(factor)
        run = Run.planned(
            self.instance,
            streams,
            feed,
            seconds=long_enough(seconds, streams, factor),
            start=time.monotonic() + _LEAD,
            factor=factor,
            arrivals=arrivals,
            seed=seed,
        )
        for server in self.specs:
            self._order(server, {"do": "watch", "start": run.window[0], "end": run.window[1]})
        trace = self.drive(first, streams, run.feeder())
        reports = {}
        for server in self.specs:
            self._order(server, {"do": "report"})
            # What was answered in the window may still be on its way: it comes before the report.
            reports[server] = self._text(server, _REPLY_TIMEOUT, first, trace)
        return run.measured(trace, reports)

    def begin(self, factor: float = 1.0) -> None:
        """Empty all queues and let every server run at its speed times a factor.

        Returns when all have done so: what comes from a server after that is of this epoch.

        Raises:
            EdgeError: a process died or does not answer.
        """
        self._epoch += 1
        for server in self.specs:
            self._order(server, {"do": "begin", "epoch": self._epoch, "factor": factor})
        for server in self.specs:
            self._text(server, _REPLY_TIMEOUT)

    def drive(self, first: int, streams: Sequence[Stream], feeder: Feeder) -> Trace:
        """Feed streams until the feeder is finished; return what was fed and answered.

        Args:
            first: number of the first stream's route.
            streams: an assignment's.
            feeder: what feeds them.

        Raises:
            EdgeError: a process died.
        """
        trace = Trace(streams)
        while True:
            now = time.monotonic()
            while feeder.time <= now:
                born, which = feeder.take(now)
                number = len(trace.born[which])
                trace.born[which].append(born)
                self._feed(first + which, streams[which], number, born)
            if feeder.finished(now):
                return trace
            self._collect(first, trace, feeder, min(feeder.time - now, _PATIENCE))

    def _feed(self, number: int, stream: Stream, count: int, born: float) -> None:
        for segment, inputs in stream.inputs.items():
            head = ITEM.pack(self._epoch, number, segment, count, born)
            content = inputs[count % len(inputs)].tobytes()
            server = stream.route.segments[segment].server
            self._send(server, TAG_ITEM + head + content)

    def _collect(self, first: int, trace: Trace, feeder: Feeder, patience: float) -> None:
        """Take the answers that are there, waiting for the first one for so many seconds."""
        names = {id(pipe): server for server, pipe in self._answers.items()}
        for pipe in wait(list(self._answers.values()), max(0.0, patience)):
            assert isinstance(pipe, Pipe)
            while pipe.poll():
                found = self._answer(self._received(names[id(pipe)]), first, trace)
                if found is not None:
                    feeder.answered(*found)

    def _answer(self, message: bytes, first: int, trace: Trace) -> tuple[int, int] | None:
        """Record an answer; return its stream and task, or None: it is none of this epoch."""
        if message[:1] != TAG_ANSWER:
            return None
        epoch, route, task, number, ended, found = ANSWER.unpack_from(message, 1)
        if epoch != self._epoch:
            return None
        trace.answers[route - first][task].append((number, ended, found))
        return route - first, task

    def _text(
        self, server: str, patience: float, first: int = 0, trace: Trace | None = None
    ) -> dict[str, Any]:
        """Return the next text of a worker; answers that come before it go into the trace."""
        until = time.monotonic() + patience
        while self._answers[server].poll(max(0.0, until - time.monotonic())):
            message = self._received(server)
            if message[:1] == TAG_TEXT:
                text: dict[str, Any] = json.loads(message[1:])
                return text
            if trace is not None:
                self._answer(message, first, trace)
        raise self._silence(server, patience)
