"""The edge on a simulated clock: the same servers, feeding and statistics, no process, no waiting.

A discrete-event simulation: a heap of events, each a call at a time, in one process. The
same seed gives the same flow on every machine, and an hour of the edge takes seconds.

The loop is a plain :mod:`heapq` and not a library's: what is simulated is already written as
functions of time (:mod:`code_opt.evaluation.server`), so that processes of simpy around them
would be no shorter, and its events cost more. One queue takes 250,000 arrivals per second of
a processor here, statistics included; simpy's bare one 96,000 on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

from code_opt.errors import InputError
from code_opt.evaluation.flow import Flow, Run, Stream, Trace, streams_of
from code_opt.evaluation.server import Item, ServerQueue, Visit, whole_devices
from code_opt.evaluation.traffic import Arrivals, Feed, Feeder
from code_opt.instance import Instance, Server
from code_opt.result import Result

Computing = Callable[[str, int], float]
"""Seconds that a server takes for computing so many inferences at once."""


class SimulatedEdge:
    """Servers and links of an instance on a simulated clock.

    Args:
        instance: servers and links.
        paces: what servers really do as a share of what the instance says (default 1).
        computing: seconds of real computing; None: it takes no time, so that only the
            instance's pace counts.
        largest_batch: inferences that are computed at once, at most.
        forms_batches: let servers with a ``batch`` wait up to ``max_batch_delay`` until so many
            inferences of a visit are there; else such servers are refused.
    """

    def __init__(
        self,
        instance: Instance,
        *,
        paces: Mapping[str, float] | None = None,
        computing: Computing | None = None,
        largest_batch: int = 1,
        forms_batches: bool = False,
    ) -> None:
        self.instance = instance
        self.computing = computing
        self.largest_batch = largest_batch
        self._paces = {s.id: (paces or {}).get(s.id, 1.0) for s in instance.servers}
        self._devices = {s.id: whole_devices(s, forms_batches) for s in instance.servers}
        self.batched = {s.id: s for s in instance.servers if s.batch > 1.0}
        """Servers that compute in batches, by their names."""
        self._links: dict[str, dict[str, tuple[float | None, float]]] = {
            server: {} for server in self._paces
        }
        for link in instance.links:
            self._links[link.source][link.target] = (link.bandwidth, link.latency)

    def run(
        self,
        streams: Sequence[Stream],
        feed: Feed,
        *,
        seconds: float,
        factor: float = 1.0,
        arrivals: Arrivals = "constant",
        seed: int = 0,
    ) -> Flow:
        """Feed one assignment and return what comes out; arguments as :meth:`Run.planned`'s."""
        run = Run.planned(
            self.instance, streams, feed,
            seconds=seconds, factor=factor, arrivals=arrivals, seed=seed,
        )  # fmt: skip
        trace, reports = self.drive(streams, run.feeder(), factor=factor, window=run.window)
        return run.measured(trace, reports)

    def drive(
        self,
        streams: Sequence[Stream],
        feeder: Feeder,
        *,
        factor: float = 1.0,
        window: tuple[float, float] = (0.0, math.inf),
    ) -> tuple[Trace, dict[str, dict[str, float]]]:
        """Feed streams until the feeder is finished.

        Args:
            streams: an assignment.
            feeder: what feeds them.
            factor: slow motion.
            window: the time in which servers count.

        Returns:
            what was fed and answered, and the reports of all servers that have something to do.
        """
        loop = _Loop(self, streams, feeder, factor, window)
        loop.run()
        return loop.trace, {name: s.report(loop.now) for name, s in loop.servers.items()}

    def servers(
        self, streams: Sequence[Stream], factor: float, window: tuple[float, float]
    ) -> dict[str, ServerQueue]:
        """Return the servers that some streams lead through."""
        seconds: dict[str, dict[Visit, list[float]]] = {}
        for number, stream in enumerate(streams):
            segments = stream.route.segments
            for visit, pieces in stream.route.visits().items():
                server = segments[visit].server
                batch = self.batched.get(server)
                seconds.setdefault(server, {})[number, visit] = [
                    (
                        segments[piece.segment].seconds
                        if batch is None
                        # The whole batch; less than one device is one slower device.
                        else segments[piece.segment].busy * batch.batch / min(1.0, batch.devices)
                    )
                    / self._paces[server]
                    for piece in pieces
                ]
        return {
            name: ServerQueue(
                seconds[name],
                self._links[name],
                devices=self._devices[name],
                factor=factor,
                largest_batch=self.largest_batch,
                window=window,
            )
            for name in sorted(seconds)
        }


class _Loop:
    """One run: events in order of time, of equal times in the order in which they were made."""

    def __init__(
        self,
        edge: SimulatedEdge,
        streams: Sequence[Stream],
        feeder: Feeder,
        factor: float,
        window: tuple[float, float],
    ) -> None:
        self.computing = edge.computing
        self.batched = edge.batched
        self.filling: dict[Visit, list[int]] = {}
        """Inferences of the batches that are not begun."""
        self.servers = edge.servers(streams, factor, window)
        self.feeder = feeder
        self.trace = Trace(streams)
        self.now = 0.0
        self.entries = [
            [k for k, segment in enumerate(stream.route.segments) if segment.parent < 0]
            for stream in streams
        ]
        self.where: dict[Visit, str] = {}
        self.outputs: dict[Visit, list[tuple[int, tuple[int, ...], list[tuple[Visit, float]]]]] = {}
        """What leaves a visit: piece, tasks that it answers, visits with bytes that it goes to."""
        self.relays: set[Visit] = set()
        """Visits of inputs that are only handed on."""
        for number, stream in enumerate(streams):
            segments = stream.route.segments
            for visit, pieces in stream.route.visits().items():
                self.where[number, visit] = segments[visit].server
                if not any(segments[piece.segment].parts for piece in pieces):
                    self.relays.add((number, visit))
                self.outputs[number, visit] = [
                    (
                        place,
                        segments[piece.segment].answers,
                        [((number, to), segments[to].size) for to in piece.next],
                    )
                    for place, piece in enumerate(pieces)
                    if piece.next or segments[piece.segment].answers
                ]
        self.passed = {
            name for visit, name in self.where.items() if not self.servers[name].works(visit)
        }
        """Servers that something passes without work."""
        self.busy: set[str] = set()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def run(self) -> None:
        events, feeder = self._events, self.feeder
        while True:
            fed = feeder.time
            if events and events[0][0] < fed:
                self.now, _, call, arguments = heappop(events)
                if feeder.finished(self.now):
                    return
                call(*arguments)
            elif fed < math.inf:
                self.now = max(self.now, fed)
                if feeder.finished(self.now):
                    return
                born, stream = feeder.take(self.now)
                number = len(self.trace.born[stream])
                self.trace.born[stream].append(born)
                for entry in self.entries[stream]:
                    self._arrive((stream, entry), number)
            else:
                return

    def _at(self, time: float, call: Callable[..., None], *arguments: Any) -> None:
        heappush(self._events, (time, next(self._order), call, arguments))

    def _arrive(self, visit: Visit, number: int) -> None:
        name = self.where[visit]
        server = self.servers[name]
        if name in self.batched and server.works(visit):
            self._gather(visit, number, self.batched[name])
            return
        begun = server.arrive(visit, self.now, self.now)
        if self.computing is None or visit in self.relays:
            times = server.leave(visit, begun, self.now)
            for place, tasks, following in self.outputs[visit]:
                # Outputs of one device leave in the order in which their inferences arrived, but
                # for those of visits without work: their messages may be on a link before.
                is_passed = name in self.passed or server.devices > 1
                if following and times[place] > self.now and is_passed:
                    self._at(
                        times[place], self._leave, visit, number, times[place], tasks, following
                    )
                else:
                    self._leave(visit, number, times[place], tasks, following)
            return
        server.todo.append(Item(visit, number, begun))
        if name not in self.busy:
            self.busy.add(name)
            self._compute(name, [])

    def _gather(self, visit: Visit, number: int, server: Server) -> None:
        """Let an inference join the batch of its visit, or begin one."""
        batch = self.filling.get(visit)
        if batch is None:
            batch = self.filling[visit] = []
            self._at(self.now + server.max_batch_delay, self._begin, visit, batch)
        batch.append(number)
        if len(batch) == int(server.batch):
            self._begin(visit, batch)

    def _begin(self, visit: Visit, batch: list[int]) -> None:
        """Give a batch to the devices, unless that is done."""
        if self.filling.get(visit) is not batch:
            return
        del self.filling[visit]
        server = self.servers[self.where[visit]]
        begun = server.arrive(visit, self.now, self.now, len(batch))
        for number in batch:
            times = server.leave(visit, begun, self.now)
            for place, tasks, following in self.outputs[visit]:
                self._at(times[place], self._leave, visit, number, times[place], tasks, following)

    def _leave(
        self,
        visit: Visit,
        number: int,
        at: float,
        tasks: Sequence[int],
        following: Sequence[tuple[Visit, float]],
    ) -> None:
        """Let an output go: to those whose answer it is, and over links."""
        for task in tasks:
            self._at(at, self._answer, visit[0], task, number)
        for there, size in following:
            server = self.servers[self.where[visit]]
            self._at(server.deliver(self.where[there], at, size), self._arrive, there, number)

    def _answer(self, stream: int, task: int, number: int) -> None:
        self.trace.answers[stream][task].append((number, self.now, -1))
        self.feeder.answered(stream, task)

    def _compute(self, name: str, batches: list[list[Item]]) -> None:
        """Begin with the next batch of a server, or take new ones."""
        assert self.computing is not None
        batches = batches or self.servers[name].take()
        if batches:
            seconds = self.computing(name, len(batches[0]))
            self._at(self.now + seconds, self._computed, name, batches)
        else:
            self.busy.discard(name)

    def _computed(self, name: str, batches: list[list[Item]]) -> None:
        first, *others = batches
        for item in first:
            times = self.servers[name].leave(item.visit, item.begun, self.now)
            for place, tasks, following in self.outputs[item.visit]:
                self._at(
                    times[place],
                    self._leave, item.visit, item.number, times[place], tasks, following,
                )  # fmt: skip
        self._compute(name, others)


def simulate(
    instance: Instance,
    result: Result,
    *,
    seconds: float,
    feed: Feed = "rates",
    arrivals: Arrivals = "poisson",
    seed: int = 0,
    paces: Mapping[str, float] | None = None,
) -> Flow:
    """Run a result on a simulated clock and return what real processes would be measured at.

    Args:
        instance: what was solved.
        result: the assignment.
        seconds: how long is measured, after a quarter of it to warm up, in the instance's own
            seconds.
        feed: at the result's rates, saturated, or overloaded by 10 %.
        arrivals: Poisson processes or evenly spaced.
        seed: of the Poisson processes.
        paces: what servers really do as a share of what the instance says (default 1).

    Raises:
        InputError: a server has devices in parts, or batches that nobody waits for.
    """
    for server in instance.servers:
        if server.batch > 1.0 and server.max_batch_delay == 0.0:
            raise InputError(
                f"server {server.id!r}: batch {server.batch:.0f} and max_batch_delay 0: no "
                "inference waits for another one, so batches hold one; give it a delay"
            )
    edge = SimulatedEdge(instance, paces=paces, forms_batches=True)
    streams = streams_of(instance, result)
    return edge.run(streams, feed, seconds=seconds, arrivals=arrivals, seed=seed)
