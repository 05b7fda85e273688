"""Rates without coordination, and the floors of tasks that ask for them.

Every task runs its native path at an equal share of everything
(:meth:`code_opt.paths.graph.Topology.standalone_rate`). Where native paths have limits of
percentiles, these are kept, too: every station gets one wait scale, the largest that all limited
native paths there allow, and every DNN an equal share of what it leaves, which those of a group put
together (docs/waiting.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.paths.graph import FloatArray, Topology
from code_opt.paths.stations import JobsOfPaths, Stations
from code_opt.queueing import Job, burst_seconds, effective_seconds, log_share, prefactors


def least_rates(topology: Topology) -> list[float]:
    """Return floor[t] of every task [inferences/s]; in a group the largest is that of all.

    ``standalone`` is worked out.
    """
    found = [0.0] * len(topology.instance.tasks)
    natives: NativePaths | None = None
    for group in topology.groups:
        asked = [topology.instance.tasks[t].floor for t in group]
        floor = max((float(f) for f in asked if f != "standalone"), default=0.0)
        if "standalone" in asked:
            rate = topology.standalone_rate(group)
            if rate > 0.0 and any(_is_limited(topology, t) for t in range(len(found))):
                natives = natives or NativePaths(topology)
                rate = natives.rate(group, rate)
            floor = max(floor, rate)
        for t in group:
            found[t] = floor
    return found


def _is_limited(topology: Topology, task: int) -> bool:
    """Tell whether a task limits a percentile."""
    found = topology.instance.tasks[task]
    return found.max_latency is not None and found.latency_percentile is not None


@dataclass(frozen=True)
class _User:
    """The tasks of a group on their native paths."""

    jobs: JobsOfPaths
    share: dict[int, float]
    """Of each station that they work at, those of all DNNs of theirs that do together."""
    limits: tuple[tuple[float, float, tuple[int, ...]], ...]
    """Room [s], ln(m / (1 - q)) and stations of every limited task."""


class NativePaths:
    """All native paths under load, at one wait scale per station."""

    def __init__(self, topology: Topology) -> None:
        if topology.options.measured_only:  # whether a native path is known does not matter here
            topology = Topology(topology.instance)
        self._topology = topology
        self._stations = Stations(topology)
        found = {group: self._user(group) for group in topology.groups}
        self._users = {group: user for group, user in found.items() if user is not None}
        jobs = [
            Job(job.station, 0.0, job.seconds, job.earlier)
            for user in self._users.values()
            for job in user.jobs.jobs
        ]
        _, self._log_c = prefactors(jobs, len(topology.resources))
        self._scale = self._scales(jobs)
        self._burst = [
            burst_seconds(
                (job for job in jobs if job.station == s and job.earlier),
                self._scale,
                self._stations.each,
            )
            for s in range(len(topology.resources))
        ]

    def _user(self, tasks: Sequence[int]) -> _User | None:
        """Return what the tasks of a group do, None where a native path cannot be used."""
        topology = self._topology
        walks: list[list[int]] = []
        for t in tasks:
            blocks = topology.dnn[topology.instance.tasks[t].dnn].blocks
            arcs = topology.graphs[t].path_arcs([block.id for block in blocks])
            if arcs is None:
                return None
            walks.append(arcs)
        jobs = self._stations.jobs(tasks, walks)
        limits = []
        dnns: dict[int, set[str]] = {}
        for member, (t, arcs) in enumerate(zip(tasks, walks, strict=True)):
            task, stations = topology.instance.tasks[t], jobs.stations(member)
            for station in stations:
                dnns.setdefault(station, set()).add(task.dnn)
            if task.max_latency is not None and task.latency_percentile is not None:
                seconds = float(topology.graphs[t].seconds[arcs].sum()) + jobs.more_seconds[member]
                share = log_share(len(stations), task.latency_percentile)
                limits.append((task.max_latency - seconds, share, stations))
        shares = {s: sum(1.0 / topology.sharers(d, s) for d in some) for s, some in dnns.items()}
        return _User(jobs, shares, tuple(limits))

    def _is_hopeless(self, user: _User) -> bool:
        """Tell whether a limit cannot be kept at any rate."""
        return any(
            room < 0.0 or (stations and (room <= 0.0 or np.isinf(self._log_c[[*stations]]).any()))
            for room, _, stations in user.limits
        )

    def _scales(self, jobs: Sequence[Job]) -> FloatArray:
        """Return the scale of every station [s]; infinite where no limit asks for any.

        Stations that later jobs of others come from take the least scale of those behind them.
        """
        scale = np.full(len(self._log_c), np.inf)
        for user in self._users.values():
            if self._is_hopeless(user):
                continue
            for room, share, stations in user.limits:
                total = sum(share + float(self._log_c[s]) for s in stations)
                for s in stations:
                    scale[s] = min(scale[s], room / total)
        while True:
            before: dict[int, float] = {}
            for job in jobs:
                for u in job.earlier:
                    if np.isinf(scale[u]) and np.isfinite(scale[job.station]):
                        before[u] = min(before.get(u, math.inf), float(scale[job.station]))
            if not before:
                return scale
            scale[list(before)] = list(before.values())

    def rate(self, group: tuple[int, ...], rate: float) -> float:
        """Return the largest rate, up to one, at which the native paths keep their limits.

        Args:
            group: tasks of one rate.
            rate: [inferences/s].
        """
        user = self._users.get(group)
        if user is None or self._is_hopeless(user):
            return 0.0
        for job in user.jobs.jobs:
            g = float(self._scale[job.station])
            if math.isinf(g):
                continue
            station = self._stations.each[job.station]
            count = float(effective_seconds(job.seconds, g))
            if job.earlier:
                count = max(count, 2.0 * self._burst[job.station] * count / g)
            most = station.devices * user.share[job.station] / count
            rate = station.most_rate(most, rate)
        return rate
