"""Where paths wait: stations, the jobs that inputs bring to them, and graphs that tell jobs apart.

A *station* is a server or a link with a bandwidth. A path works at one station after the other;
a maximal run of consecutive work at one station is a visit. What one input of a group starts at a
station without leaving it is one job: paths of the group that have been at the same stations in
the same order work there together (:mod:`code_opt.queueing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.model import INPUT, Block, Connection, Instance, Server
from code_opt.paths.graph import (
    Arc,
    ChainKey,
    Ends,
    IntArray,
    TaskGraph,
    Topology,
    paid_steps,
)
from code_opt.paths.labels import PathSet
from code_opt.queueing import Station, filling_seconds


class StationWork(NamedTuple):
    """What an arc does at a station."""

    station: int
    """Index of the resource."""
    seconds: float
    """Time of a device, of a batch where there are such [s]; perhaps 0."""
    unloaded: float
    """The part of the path's unloaded time that it is [s]."""


@dataclass(frozen=True)
class StationJob:
    """A job of a path, or of the paths of an input group, at any rate."""

    station: int
    """Index of the resource."""
    seconds: float
    """Time of a device, of a batch where there are such [s], above 0."""
    earlier: tuple[int, ...]
    """Stations of the earlier jobs of the same input, in order."""


@dataclass(frozen=True)
class JobsOfPaths:
    """What one input brings to the stations, for the paths of a group's tasks."""

    jobs: tuple[StationJob, ...]
    of_task: tuple[tuple[int, ...], ...]
    """Numbers of the jobs that each task's answer waits for, in order."""
    more_seconds: tuple[float, ...]
    """What is added to each task's unloaded time [s]: the work of other tasks in these jobs, and
    the longest wait for batches to fill."""

    def stations(self, member: int) -> tuple[int, ...]:
        """Return the stations of the jobs that a task's answer waits for."""
        return tuple(self.jobs[j].station for j in self.of_task[member])


def refuse_partial_devices(instance: Instance) -> None:
    """Refuse servers whose waits are not known: those with some devices and a part of one.

    Raises:
        InputError: a server has them.
    """
    for server in instance.servers:
        if server.devices > 1.0 and server.devices != int(server.devices):
            task = next(t.id for t in instance.tasks if t.latency_percentile is not None)
            raise InputError(
                f"server {server.id!r}: {server.devices:g} devices: the latency_percentile of task "
                f"{task!r} needs a whole number of them, or a single slower one (less than 1)"
            )


def station_of(server: Server) -> Station:
    """Return how jobs are served at a server; less than one device is one slower device."""
    return Station(max(1.0, server.devices), server.batch, server.max_batch_delay)


class Stations:
    """The stations of a topology, and the way of each arc over them."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._server = topology.server_time
        self._place = {n: topology.place_of[name] for name, n in self._server.items()}
        """Between which links lead, by server."""
        self._arrival = {place: n for n, place in reversed(self._place.items())}
        """A server of each place, where what arrives is on its way, without work."""
        self._link = {
            resource.key: number
            for number, resource in enumerate(topology.resources)
            if resource.server is None
        }
        self.each = [Station() for _ in topology.resources]
        """How jobs are served at each resource."""
        for name, number in topology.server_time.items():
            self.each[number] = station_of(topology.servers[name])
        self.devices = np.array([station.devices for station in self.each])
        """n of each resource, shape (I,)."""

    @cached_property
    def _stages(self) -> dict[int, tuple[tuple[StationWork, ...], ...]]:
        return {}

    def stages(self, task: int) -> tuple[tuple[StationWork, ...], ...]:
        """Return for each arc of a task's graph where it works, in order.

        Raises:
            InputError: see :func:`refuse_partial_devices`.
        """
        if task not in self._stages:
            refuse_partial_devices(self.topology.instance)
            graph = self.topology.graphs[task]
            connections = {(c.source, c.target): c for c in graph.task.connections}
            self._stages[task] = tuple(self._of_arc(arc, connections) for arc in graph.arcs)
        return self._stages[task]

    def _of_arc(self, arc: Arc, connections: Mapping[Ends, Connection]) -> tuple[StationWork, ...]:
        """Return the stages of an arc: source, adapter, transfers and entered block in order."""
        topology, used = self.topology, dict(arc.use)
        adapter: list[StationWork] = []
        if arc.is_connection:
            tail, head = arc.ends
            # An input that was sent before enters from a node of its own.
            connection = connections.get((tail, head)) or connections[INPUT, head]
            near = head if connection.source == INPUT else tail
            place = connection.server or topology.server_of[near]
            adapter = [self._work(place, connection)]
        found: list[StationWork] = []
        for source, target, _ in arc.hops:
            if adapter and self._place[adapter[0].station] == source:
                found += adapter
                adapter = []
            link = self._link.get((source, target))
            if link in used:
                found.append(StationWork(link, used[link], used[link]))
            found.append(StationWork(self._arrival[target], 0.0, 0.0))
        found += adapter
        if arc.block is not None:
            block = topology.block[arc.block]
            found.append(self._work(topology.server_of[arc.block], block))
        return tuple(found)

    def _work(self, name: str, work: Block | Connection) -> StationWork:
        """Return the stage of a block or an adapter."""
        server = self.topology.servers[name]
        number = self._server[name]
        seconds = server.device_time(work)
        if 0.0 < server.devices < 1.0:
            seconds /= server.devices
        return StationWork(number, seconds * server.batch, server.batch_time(work))

    def jobs(self, tasks: Sequence[int], paths: Sequence[Sequence[int]]) -> JobsOfPaths:
        """Return the jobs of the paths of a group's tasks.

        Args:
            tasks: their numbers.
            paths: the arcs of one path for each.
        """
        graphs = [self.topology.graphs[t] for t in tasks]
        walks = [[g.arcs[a] for a in arcs] for g, arcs in zip(graphs, paths, strict=True)]
        paid = [set(steps) for steps in paid_steps(walks)]
        child: dict[tuple[int, int], int] = {}
        parent: list[int] = []
        station: list[int] = []
        seconds: list[float] = []
        chains: list[list[int]] = []
        own: list[dict[int, float]] = []
        """Unloaded time of each task's own work at each node [s]."""
        for task, arcs, mine in zip(tasks, paths, paid, strict=True):
            stages = self.stages(task)
            node = -1
            chain: list[int] = []
            work: dict[int, float] = {}
            for position, arc in enumerate(arcs):
                for place, time, unloaded in stages[arc]:
                    if node < 0 or station[node] != place:
                        following = child.setdefault((node, place), len(parent))
                        if following == len(parent):
                            parent.append(node)
                            station.append(place)
                            seconds.append(0.0)
                        node = following
                        chain.append(node)
                    if position in mine:
                        seconds[node] += time
                    work[node] = work.get(node, 0.0) + unloaded
            chains.append(chain)
            own.append(work)
        number: dict[int, int] = {}
        jobs: list[StationJob] = []
        for node, time in enumerate(seconds):
            if time <= 0.0:
                continue
            earlier: list[int] = []
            above = parent[node]
            while above >= 0:
                if seconds[above] > 0.0:
                    earlier.append(station[above])
                above = parent[above]
            number[node] = len(jobs)
            jobs.append(StationJob(station[node], time, tuple(reversed(earlier))))
        return JobsOfPaths(
            tuple(jobs),
            tuple(tuple(number[k] for k in chain if k in number) for chain in chains),
            tuple(
                sum(
                    max(0.0, seconds[k] - work[k]) + filling_seconds((station[k],), self.each)
                    for k in chain
                    if seconds[k] > 0.0
                )
                for chain, work in zip(chains, own, strict=True)
            ),
        )


@dataclass(frozen=True)
class SplitGraph:
    """A task graph whose blocks are told apart by the stations on the way to them.

    Label-setting on it keeps a path unless another one is nowhere worse *at every visit*: each
    visit is a resource of its own (``docs/paths.md``).
    """

    graph: TaskGraph
    arc_of: IntArray
    """Arc of the task's own graph of each of its arcs."""

    def back(self, paths: PathSet, graph: TaskGraph) -> PathSet:
        """Return paths of it as paths of the task's own graph."""
        steps = np.where(paths.steps >= 0, self.arc_of[np.maximum(paths.steps, 0)], -1)
        columns = np.searchsorted(self.graph.resources, graph.resources)
        return replace(paths, steps=steps, use=np.ascontiguousarray(paths.use[:, columns]))


@dataclass(frozen=True)
class _SplitTaskGraph(TaskGraph):
    """A task graph with blocks told apart by a suffix of their names."""

    own: TaskGraph
    """The graph that was split."""
    arc_of: IntArray
    """Arc of that graph of each arc."""

    @cached_property
    def chains(self) -> dict[ChainKey, tuple[int, ...]]:
        """See :class:`TaskGraph`."""
        return {key: tuple(self._split(arcs)) for key, arcs in self.own.chains.items()}

    def path_arcs(self, blocks: Sequence[str]) -> list[int] | None:
        """See :class:`TaskGraph`."""
        arcs = self.own.path_arcs(blocks)
        return None if arcs is None else self._split(arcs)

    def walks(self, blocks: Sequence[str]) -> Iterator[list[int]]:
        yield from map(self._split, self.own.walks(blocks))

    def _split(self, arcs: Iterable[int]) -> list[int]:
        """Return the arcs here of a path of the own graph: from each node there is one of each."""
        node, found = 0, []
        for arc in arcs:
            found.append(self._outgoing[node, arc])
            node = int(self.heads[found[-1]])
        return found

    @cached_property
    def _outgoing(self) -> dict[tuple[int, int], int]:
        """Arcs by their tail and their arc of the own graph."""
        pairs = zip(self.tails.tolist(), self.arc_of.tolist(), strict=True)
        return {pair: number for number, pair in enumerate(pairs)}


_MORE = -2
"""Stands for an earlier visit where times are not of a visit, but of batches beyond the unloaded
time that paths are compared by."""
_MARK = "\0"
"""Between the name of a block and the number of its visit; no id holds it."""


def split_graphs(stations: Stations) -> tuple[SplitGraph, ...]:
    """Return the graphs of all tasks with their blocks told apart by the visits before.

    Every visit (a station, after a sequence of others) is one more resource with a number of its
    own, the same for all tasks; its use is the device time there.
    """
    topology = stations.topology
    numbers: dict[tuple[int, int], int] = {}
    first = len(topology.resources)
    return tuple(
        _split(stations, task, graph, numbers, first) for task, graph in enumerate(topology.graphs)
    )


def _split(
    stations: Stations,
    task: int,
    graph: TaskGraph,
    numbers: dict[tuple[int, int], int],
    first: int,
) -> SplitGraph:
    if graph.is_empty:
        return SplitGraph(graph, np.empty(0, dtype=np.int64))
    stages = stations.stages(task)
    outgoing: list[list[int]] = [[] for _ in graph.nodes]
    for number, tail in enumerate(graph.tails.tolist()):
        outgoing[tail].append(number)
    station_of: dict[int, int] = {visit: place for (_, place), visit in numbers.items()}
    # Nodes in topological order: those of the own graph, each with the visits that lead to it.
    last = len(graph.nodes) - 1
    states: list[dict[int, int]] = [{} for _ in graph.nodes]
    states[0][-1] = 0
    arcs: list[tuple[int, int, int, int, int, dict[int, float]]] = []
    for node in range(last):
        for visit in states[node]:
            for number in outgoing[node]:
                at = visit
                spent: dict[int, float] = {}
                for place, time, unloaded in stages[number]:
                    if at < 0 or station_of[at] != place:
                        at = numbers.setdefault((at, place), len(numbers))
                        station_of[at] = place
                    if time > 0.0:
                        spent[at] = spent.get(at, 0.0) + time
                    if time > unloaded * (
                        1.0 + 1e-12
                    ):  # in batches work without measured times is slower
                        more = numbers.setdefault((_MORE, place), len(numbers))
                        spent[more] = spent.get(more, 0.0) + time - unloaded
                head = int(graph.heads[number])
                there = 0 if head == last else at
                states[head].setdefault(there, 0)
                arcs.append((head, there, node, visit, number, spent))
    names: list[str] = []
    place_of: dict[tuple[int, int], int] = {}
    for node, visits in enumerate(states):
        for visit in visits:
            place_of[node, visit] = len(names)
            plain = node in (0, last)
            names.append(graph.nodes[node] if plain else f"{graph.nodes[node]}{_MARK}{visit}")
    arcs.sort(key=lambda arc: (place_of[arc[0], arc[1]], place_of[arc[2], arc[3]]))
    extra = sorted({visit for *_, spent in arcs for visit in spent})
    column = {visit: len(graph.resources) + k for k, visit in enumerate(extra)}
    number_of = [arc[4] for arc in arcs]
    use = np.zeros((len(arcs), len(graph.resources) + len(extra)))
    use[:, : len(graph.resources)] = graph.use[number_of]
    for row, (*_, spent) in zip(use, arcs, strict=True):
        for visit, time in spent.items():
            row[column[visit]] = time
    tails = np.array([place_of[arc[2], arc[3]] for arc in arcs], dtype=np.int64)
    heads = np.array([place_of[arc[0], arc[1]] for arc in arcs], dtype=np.int64)
    split = _SplitTaskGraph(
        task=graph.task,
        nodes=tuple(names),
        arcs=tuple(
            graph.arcs[number]._replace(tail=names[tail], head=names[head])
            for number, tail, head in zip(number_of, tails.tolist(), heads.tolist(), strict=True)
        ),
        tails=tails,
        heads=heads,
        drop=graph.drop[number_of],
        seconds=graph.seconds[number_of],
        resources=np.concatenate((graph.resources, np.array(extra, dtype=np.int64) + first)),
        use=use,
        own=graph,
        arc_of=np.array(number_of, dtype=np.int64),
    )
    return SplitGraph(split, split.arc_of)
