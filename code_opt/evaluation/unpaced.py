"""The edge at this machine's own pace: every server a process, one after the other.

The paced edge (:mod:`code_opt.evaluation.edge`) keeps to the instance's seconds. Here nothing
is paced: a server computes what arrives in batches as fast as it can, with a core (or the GPU) to
itself, and what it can do is compared with what measured times promised.

Servers of an edge share nothing but links, so they need not run at the same time: each is run by
itself with arrivals that are known beforehand, and the times at which its outputs left, and crossed
a link, are arrivals of the next one. Only servers that feed each other in a circle cannot be put
in order; what arrives from there arrives at its rate then, and latencies of such tasks are not
measured.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from code_opt.errors import InputError
from code_opt.evaluation.flow import Flow, Run, ServerFlow, Stream, TaskFlow, Trace
from code_opt.evaluation.own_pace import Mix, Served, Times, share_served
from code_opt.evaluation.own_worker import OwnSpec, serve
from code_opt.evaluation.processes import CONTEXT, START_TIMEOUT, ServerProcesses
from code_opt.evaluation.server import LAG_QUANTILE
from code_opt.evaluation.subject import Subject
from code_opt.evaluation.traffic import Arrivals, Feed, arrivals
from code_opt.instance import Server

Key = tuple[int, int]
"""Number of a stream (of an assignment, or of all), and visit."""
_GRACE = 60.0
"""Seconds that a process may answer late."""
_MOST_INPUTS = 64
_MOST_BYTES = 2**27
"""Of the inputs of one visit."""


def whole_number_of_devices(server: Server) -> int:
    """Return how many devices a server has, each as fast as this machine.

    Raises:
        InputError: they are no whole number.
    """
    if server.devices < 1.0 or server.devices != int(server.devices):
        raise InputError(
            f"server {server.id!r}: {server.devices:g} devices: at this machine's own pace only "
            "whole devices are executed"
        )
    return int(server.devices)


@dataclass(frozen=True)
class _Arrivals:
    """What arrives at one visit: numbers of the inferences of its stream, and when."""

    numbers: npt.NDArray[np.int64]
    times: Times


class OwnEdge(ServerProcesses):
    """Processes of all servers for several assignments; use it as a context.

    Args:
        subject: instance, bundle and images.
        assignments: streams of every assignment.
        device: "cpu" or "cuda".
        threads: of torch in each process.
        adapters: of (task, path); None: the bundle's.

    Raises:
        InputError: there is no bundle, or a server has no whole number of devices.
        EdgeError: a process does not start.
    """

    def __init__(
        self,
        subject: Subject,
        assignments: Sequence[Sequence[Stream]],
        *,
        device: str = "cpu",
        threads: int = 1,
        adapters: Callable[[str, Sequence[str]], Any] | None = None,
    ) -> None:
        super().__init__()
        if subject.bundle is None:
            raise InputError(
                "the instance has no bundle: stand-ins at this machine's own pace tell nothing"
            )
        self.instance = subject.instance
        self.servers = {server.id: server for server in self.instance.servers}
        workers = subject.workers(
            assignments,
            device=device,
            threads=threads,
            largest_batch=1,
            adapters=adapters,
            paced=False,
        )
        self.devices = {name: whole_number_of_devices(self.servers[name]) for name in workers}
        inputs = subject.activations(workers, assignments, _MOST_INPUTS)
        cores = own_cores(threads)
        self.specs = {
            name: OwnSpec(
                worker=worker,
                batch=int(self.servers[name].batch),
                delay=self.servers[name].max_batch_delay,
                cores=cores,
            )
            for name, worker in workers.items()
        }
        self._inputs = inputs

    def _start(self) -> None:
        for name, spec in self.specs.items():
            orders, self._orders[name] = CONTEXT.Pipe(duplex=False)
            self._launch(name, serve, spec, orders)
            orders.close()
            # Not with the process: one that died while it starts would never read it all.
            for visit in spec.worker.visits:
                self._send(name, _some(self._inputs[visit.route, visit.visit]).tobytes())
            self._heard(name, START_TIMEOUT)

    def run(
        self,
        first: int,
        streams: Sequence[Stream],
        feed: Feed,
        *,
        seconds: float,
        arrivals: Arrivals = "constant",
        seed: int = 0,
    ) -> Flow:
        """Feed one assignment and measure what comes out.

        Args:
            first: number of the first stream's route among all assignments.
            streams: the assignment.
            feed: how fast.
            seconds: how long is measured.
            arrivals: evenly spaced, or Poisson processes; ``saturated`` takes neither.
            seed: of the Poisson processes.

        Raises:
            EdgeError: a process died or does not answer.
        """
        run = Run.planned(
            self.instance, streams, feed, seconds=seconds, arrivals=arrivals, seed=seed
        )
        driver = _Driver(self, first, run)
        return driver.saturated() if feed == "saturated" else driver.fed()

    def answers(self, server: str, visits: Sequence[tuple[int, int]]) -> list[list[Any]]:
        """Return the classes that a server answers for the first batch of inputs of some visits.

        Args:
            server: id.
            visits: by route among all assignments, and visit.

        Returns:
            For every visit and piece: the classes, or None where a piece answers nobody.
        """
        self._order(server, {"do": "answers", "visits": [list(v) for v in visits]})
        found: list[list[Any]] = self._heard(server, _GRACE)["classes"]
        return found

    def mixed(
        self,
        server: str,
        visits: Sequence[Key],
        rates: Sequence[float],
        window: tuple[float, float],
    ) -> Mix:
        """Let a server compute full batches of visits in the mix of their rates."""
        self._order(server, {"do": "mix", "rates": list(rates), **_told(visits, window)})
        return Mix(**self._heard(server, window[1] + _GRACE))

    def served(
        self,
        server: str,
        visits: Sequence[Key],
        times: Times,
        places: npt.NDArray[np.int64],
        window: tuple[float, float],
    ) -> Served:
        """Let a device of a server compute what arrives.

        Args:
            server: id.
            visits: by route among all assignments, and visit.
            times: of arrivals, in order [s].
            places: of their visits among those given.
            window: that counts [s].
        """
        self._order(server, {"do": "arrivals", **_told(visits, window)})
        for column in (times, places):
            self._send(server, column.tobytes())
        patience = window[1] + _GRACE
        begun, done, taken = (
            np.frombuffer(self._timely(server, patience), np.float64) for _ in range(3)
        )
        return Served(begun, done, taken, **self._heard(server, patience))

    # Talking to processes

    def _timely(self, server: str, patience: float) -> bytes:
        """Return the next message of a process, which has so many seconds."""
        try:
            if not self._answers[server].poll(patience):
                raise self._silence(server, patience)
        except OSError:
            raise self._death(server) from None
        return self._received(server)

    def _heard(self, server: str, patience: float) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._timely(server, patience))
        return found


def _told(visits: Sequence[Key], window: tuple[float, float]) -> dict[str, Any]:
    return {"visits": [list(key) for key in visits], "start": window[0], "end": window[1]}


def own_cores(threads: int) -> tuple[int, ...]:
    """Return the cores of a server's process; the first one is left to the coordinator.

    None where this system cannot say so, or has too few.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return tuple(cores[1 : 1 + threads]) if len(cores) > threads else ()


def _some(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return inputs[: max(1, _MOST_BYTES // max(1, inputs[0].nbytes))]


class _Driver:
    """One run of an assignment: every server in turn.

    Args:
        edge: the processes.
        first: number of the first stream's route.
        run: what is fed, and the window.
    """

    def __init__(self, edge: OwnEdge, first: int, run: Run) -> None:
        self.edge = edge
        self.first = first
        self.run = run
        self.visits: dict[str, list[Key]] = {}
        """By server."""
        sources: dict[str, set[str]] = {}
        for number, stream in enumerate(run.streams):
            segments = stream.route.segments
            for visit, pieces in stream.route.visits().items():
                here = segments[visit].server
                self.visits.setdefault(here, []).append((number, visit))
                sources.setdefault(here, set())
                for piece in pieces:
                    for to in piece.next:
                        sources.setdefault(segments[to].server, set()).add(here)
        try:
            self.order = list(TopologicalSorter(sources).static_order())
            self.circle = False
        except CycleError:
            self.order, self.circle = sorted(sources), True

    def _rates(self, server: str) -> list[float]:
        """Return the rates of a server's visits at one of its devices."""
        share = self.run.scale / self.edge.devices[server]
        return [self.run.streams[number].route.rate * share for number, _ in self.visits[server]]

    def _keys(self, server: str) -> list[Key]:
        """Return a server's visits, by route among all assignments."""
        return [(self.first + number, visit) for number, visit in self.visits[server]]

    # As much as it can do

    def saturated(self) -> Flow:
        """Let every server compute full batches in the mix of the rates."""
        run = self.run
        shares: dict[str, float] = {}
        servers = []
        for name in self.order:
            rates = self._rates(name)
            batch = int(self.edge.servers[name].batch)
            found = self.edge.mixed(name, self._keys(name), rates, run.window)
            shares[name] = share_served(rates, found.wall, batch) * run.scale
            by_processor = share_served(rates, found.processor, batch) * run.scale
            servers.append(
                ServerFlow(
                    server=name,
                    predicted=run.full.servers[name] / run.full.largest,
                    measured=min(shares.values()) / shares[name],
                    waiting_mean=0.0,
                    waiting_max=0,
                    lag=0.0,
                    batch_mean=float(batch),
                    stolen=found.stolen,
                    share=shares[name],
                    share_of_processor=by_processor,
                )
            )
        limits = [1.0 / load for load in run.full.links.values() if load > 0.0]
        share = min([*shares.values(), *limits])
        tasks = []
        for stream in run.streams:
            for place, task in enumerate(stream.route.tasks):
                rate = stream.route.rate
                tasks.append(
                    TaskFlow(
                        task=task,
                        predicted=rate / run.full.largest,
                        offered=rate * share,
                        measured=rate * share,
                        answered=0,
                        right=None,
                        unloaded=stream.latency[place],
                        latency_median=math.nan,
                        latency_p95=math.nan,
                        latency_p99=math.nan,
                    )
                )
        return Flow(
            feed="saturated",
            arrivals="full batches",
            factor=1.0,
            seconds=run.window[1] - run.window[0],
            predicted=sum(task.predicted for task in tasks),
            offered=sum(task.offered for task in tasks),
            measured=sum(task.measured for task in tasks),
            steady=True,
            tasks=tuple(tasks),
            servers=tuple(servers),
            pace="device",
        )

    # What it is asked

    def fed(self) -> Flow:
        """Feed every server what arrives there."""
        run = self.run
        trace = Trace(run.streams)
        arriving = self._roots(trace)
        reports: dict[str, dict[str, float]] = {}
        unknown: set[int] = set()
        for server in self.order:
            for number, visit in self.visits[server]:
                if (number, visit) not in arriving:
                    arriving[number, visit] = self._fresh(number)
                    unknown.add(number)
            mine = [arriving[key] for key in self.visits[server]]
            done, reports[server] = self._served(server, mine)
            leaving: dict[str, list[tuple[Key, float, _Arrivals]]] = {}
            for (number, visit), came, times in zip(self.visits[server], mine, done, strict=True):
                left = np.isfinite(times)
                out = _Arrivals(came.numbers[left], times[left])
                segments = run.streams[number].route.segments
                for piece in run.streams[number].route.visits()[visit]:
                    for task in segments[piece.segment].answers:
                        trace.answers[number][task] += [
                            (int(n), float(t), -1)
                            for n, t in zip(out.numbers, out.times, strict=True)
                            if n < len(trace.born[number])
                        ]
                    for to in piece.next:
                        message = ((number, to), segments[to].size, out)
                        leaving.setdefault(segments[to].server, []).append(message)
            if not self.circle:
                for there, messages in leaving.items():
                    arriving |= self._crossed(server, there, messages)
        flow = run.measured(trace, reports)
        lost = {task for number in unknown for task in run.streams[number].route.tasks}
        return replace(
            flow,
            pace="device",
            tasks=tuple(
                _without_latencies(task) if task.task in lost else task for task in flow.tasks
            ),
        )

    def _roots(self, trace: Trace) -> dict[Key, _Arrivals]:
        """Return what arrives from outside, and note in the trace when it was born."""
        run = self.run
        rates = [stream.route.rate * run.scale for stream in run.streams]
        schedule = arrivals(run.arrivals, rates, 0.0, run.seed)
        for time, stream in takewhile(lambda one: one[0] < run.window[1], schedule):
            trace.born[stream].append(time)
        return {
            (number, k): _Arrivals(np.arange(len(born)), np.array(born, dtype=float))
            for number, (stream, born) in enumerate(zip(run.streams, trace.born, strict=True))
            for k, segment in enumerate(stream.route.segments)
            if segment.parent < 0
        }

    def _fresh(self, number: int) -> _Arrivals:
        """Return arrivals at the rate of a stream whose earlier visits are not known yet."""
        run = self.run
        rate = run.streams[number].route.rate * run.scale
        schedule = arrivals(run.arrivals, [rate], 0.0, run.seed + 1 + number)
        times = [time for time, _ in takewhile(lambda one: one[0] < run.window[1], schedule)]
        return _Arrivals(np.arange(len(times)), np.array(times, dtype=float))

    def _served(
        self, server: str, mine: Sequence[_Arrivals]
    ) -> tuple[list[Times], dict[str, float]]:
        """Run a server; return when inferences were done, by visit, and what it did.

        Devices take arrivals in turn, and are run one after the other.
        """
        lengths = [len(one.times) for one in mine]
        times = np.concatenate([one.times for one in mine])
        places = np.repeat(np.arange(len(mine), dtype=np.int64), lengths)
        order = np.argsort(times, kind="stable")
        times, places = times[order], places[order]
        done, taken = np.full(len(times), math.nan), np.zeros(len(times))
        start, end = self.run.window
        devices = self.edge.devices[server]
        busy, stolen, batched, batches = 0.0, 0.0, 0, 0
        for device in range(devices):
            its = slice(device, None, devices)
            found = self.edge.served(
                server, self._keys(server), times[its], places[its], self.run.window
            )
            done[its], taken[its] = found.done, found.taken
            busy += found.busy
            stolen = max(stolen, found.stolen)
            batched += int((found.begun >= start).sum())
            batches += found.batches
        counted = (times >= start) & np.isfinite(done)
        inside = np.arange(len(times)) - np.searchsorted(np.sort(done), times, side="right")
        inside = inside[times >= start]
        back = np.empty(len(times))
        back[order] = done
        return list(np.split(back, np.cumsum(lengths)[:-1])), {
            "utilization": busy / (end - start) / devices,
            "lag": float(np.quantile(taken[counted], LAG_QUANTILE)) if counted.any() else 0.0,
            "stolen": stolen,
            "waiting_mean": float(inside.mean()) if len(inside) else 0.0,
            "waiting_max": int(inside.max(initial=0)),
            "batch_mean": batched / batches if batches else 0.0,
        }

    def _crossed(
        self, here: str, there: str, messages: Sequence[tuple[Key, float, _Arrivals]]
    ) -> dict[Key, _Arrivals]:
        """Return when the outputs that leave one server for another arrive, by visit."""
        link = next(
            (
                link
                for link in self.edge.instance.links
                if (link.source, link.target) == (here, there)
            ),
            None,
        )
        if link is None:
            return {key: out for key, _, out in messages}
        times = np.concatenate([out.times for _, _, out in messages])
        lengths = [len(out.times) for _, _, out in messages]
        pace = 0.0 if link.bandwidth is None else 1.0 / link.bandwidth
        each = np.repeat([size * pace for _, size, _ in messages], lengths)
        free, late = -math.inf, np.empty_like(times)
        for k in np.argsort(times, kind="stable"):
            free = max(float(times[k]), free) + float(each[k])
            late[k] = free + link.latency
        parts = np.split(late, np.cumsum(lengths)[:-1])
        return {
            key: _Arrivals(out.numbers, part)
            for (key, _, out), part in zip(messages, parts, strict=True)
        }


def _without_latencies(task: TaskFlow) -> TaskFlow:
    return replace(
        task,
        latency_median=math.nan,
        latency_p95=math.nan,
        latency_p99=math.nan,
        latency_measured=None,
        latency_low=None,
        latency_high=None,
        latency_verdict="not measured" if task.latency_verdict else "",
    )
