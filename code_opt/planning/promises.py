"""Limits of latency percentiles in plans: which units let every promise be kept.

All demand is served, so the rates of a plan are given, and so are the wait scales of its paths at
any number of units (:mod:`code_opt.queueing`). A unit stands beside what is there: n of (1) and (3)
grows with it, and nothing else changes; of a link the right side of (1) does. So more units never
break a promise, and units that keep all of them can be given back one by one.

The program (:mod:`formulations.plan_waiting`) gets levels: intervals of wait scales, with (1) at
the upper and (2) at the lower end, which bounds the cost for every scale. It knows neither (3), nor
utilisations so near to 1 that nothing is promised, nor loops of later jobs: what is wrong in a
solution because of these is cut off by itself (:func:`formulations.more_units_needed`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from code_opt.core.evaluator import Evaluator
from code_opt.core.promises import KEPT
from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.exact.waiting import JointCandidates, Menu
from code_opt.instance.model import Instance
from code_opt.paths import PathPool, TaskPaths
from code_opt.paths.graph import FloatArray, IntArray, rate_groups
from code_opt.paths.labels import BoolArray
from code_opt.paths.pool import task_with_percentile
from code_opt.paths.stations import JobsOfPaths, refuse_partial_devices
from code_opt.planning.offers import Offers
from code_opt.queueing import (
    FULL,
    Job,
    Station,
    Waits,
    effective_seconds,
    filling_seconds,
    log_share,
    prefactors,
    waits,
)
from formulations import PlanLevels

_TIGHTER = (1.0, 0.25, 0.05, 0.01)
"""Scales that are tried for units to start from, as shares of those of equal waits."""
_MOST = 1e6
"""Units of one station that are looked at, at most."""
_BISECTIONS = 24
"""Times that all units are halved, at most."""
_NOTHING = 1e-12
"""Share of a station that is left where all of it is gone: nothing is promised there."""
_WIDEST_CUT = 0.3
"""Levels are divided at most by this share below the scale that breaks a promise."""


@dataclass(frozen=True)
class _Limit:
    task: int
    stations: tuple[int, ...]
    """Of each job."""
    share: float
    """ln(m / (1 - q))."""
    room: float
    """L - T [s]."""
    slack: float
    """What rounding may add to the wait [s]."""


@dataclass(frozen=True)
class Broken:
    """A promise that is above its limit."""

    task: int
    stations: frozenset[int]
    """Whose units could mend it: those of its jobs, and those before later jobs there."""
    own: frozenset[int]
    """Those of its jobs."""
    excess: float
    """Share of the room by which the waits are too long; infinite where nothing is promised."""
    scale: FloatArray
    """Wait scales [s], shape (I,)."""


def refuse_groups(instance: Instance) -> None:
    """Refuse plans under limits of percentiles that no program here can hold.

    Raises:
        InputError: there are input groups, parts of devices, or servers that sell these.
    """
    task = task_with_percentile(instance)
    if task is None:
        return
    if any(len(group) > 1 for group in rate_groups(instance)):
        raise InputError(
            f"task {task.id!r} limits a percentile: plans do not know it beside input groups, "
            "whose tasks wait together; plan without latency_percentile, or without input_group"
        )
    refuse_partial_devices(instance)
    for server in instance.servers:
        size = server.unit_devices
        if server.unit_flops is not None and server.flops is not None:
            size = server.unit_flops * server.devices / server.flops
        if size is None or server.max_units == 0:
            continue
        is_whole = math.isclose(size, round(size), rel_tol=1e-9) and round(size) >= 1
        if not is_whole or 0.0 < server.devices < 1.0:
            raise InputError(
                f"server {server.id!r} has {server.devices:g} devices and sells units of {size:g}: "
                f"the latency_percentile of task {task.id!r} needs whole devices, also those that "
                "are bought (unit_devices, --unit-devices)"
            )


class PlannedPromises:
    """The promises of a planning case: P columns over I resources, one task each."""

    def __init__(self, pool: PathPool) -> None:
        """Take paths that keep their limits by themselves (:func:`keeping_limits`)."""
        self._evaluator = Evaluator(pool, Settings())
        self._promises = self._evaluator.promises
        self._each = self._promises.stations.each
        self._group = {group.tasks[0]: g for g, group in enumerate(pool.groups)}
        self.pool = pool

    @cached_property
    def listing(self) -> JointCandidates:
        """The columns as the levels take them; number and order are those of the columns."""
        return JointCandidates(self._evaluator)

    @cached_property
    def has_first_jobs_alone(self) -> BoolArray:
        """Which columns bring no later jobs to any station, shape (P,)."""
        return np.array([not joint.edges for joint in self.listing.joint], dtype=bool)

    def loop(self, numbers: IntArray, station: int) -> list[list[int]] | None:
        """Return the columns that close a loop of dependencies as paths of an assignment do.

        Args:
            numbers: path of each task among its own, -1 for a task that does not run, shape (T,).
            station: that has no finite scale because of it.

        Returns:
            For each task on the loop its columns with the same dependencies; None: no loop.
        """
        first = self.listing.first
        running = [
            self.listing.joint[first[t] + number]
            for t, number in enumerate(numbers.tolist())
            if number >= 0
        ]
        _, log_c = prefactors(self._jobs(numbers, np.zeros(len(numbers))), len(self._each))
        if math.isfinite(log_c[station]):
            return None
        before: dict[int, tuple[int, int]] = {}
        for joint in running:
            for u, s in sorted(joint.edges):
                if not math.isfinite(log_c[u]):
                    before.setdefault(s, (u, joint.group))
        edges: dict[int, set[tuple[int, int]]] = {}
        at, seen = station, set()
        while at not in seen:
            seen.add(at)
            u, group = before[at]
            edges.setdefault(group, set()).add((u, at))
            at = u
        return [
            [k for k in range(first[g], first[g + 1]) if some <= self.listing.joint[k].edges]
            for g, some in edges.items()
        ]

    def jobs(self, task: int, number: int) -> JobsOfPaths:
        """Return the jobs of a path of a task."""
        arcs = self.pool.tasks[task].paths.arcs[number]
        return self._promises.jobs_of_group(self._group[task], [arcs])

    def _jobs(self, numbers: IntArray, rates: FloatArray) -> list[Job]:
        return [
            Job(job.station, float(rates[t]), job.seconds, job.earlier)
            for t, number in enumerate(numbers.tolist())
            if number >= 0
            for job in self.jobs(t, number).jobs
        ]

    def _limits(self, numbers: IntArray) -> list[_Limit]:
        found = []
        for t, number in enumerate(numbers.tolist()):
            own = self.pool.tasks[t]
            most, q = own.task.max_latency, own.task.latency_percentile
            if number < 0 or most is None or q is None:
                continue
            jobs = self.jobs(t, number)
            stations = jobs.stations(0)
            room = most - float(own.paths.seconds[number]) - jobs.more_seconds[0]
            if stations:
                share = log_share(len(stations), q)
                found.append(_Limit(t, stations, share, room, KEPT * most))
        return found

    def waits(self, numbers: IntArray, rates: FloatArray, capacity: FloatArray) -> Waits:
        """Return the wait scales of all resources.

        Args:
            numbers: path of each task among its own, -1 for a task that does not run, shape (T,).
            rates: [inferences/s], shape (T,).
            capacity: of all resources, as shares of those that uses are counted in, shape (I,).
        """
        return waits(self._jobs(numbers, rates), self._stations(capacity))

    def _stations(self, capacity: FloatArray) -> list[Station]:
        return [
            replace(station, devices=station.devices * max(float(share), _NOTHING))
            if math.isfinite(share)
            else station
            for station, share in zip(self._each, capacity, strict=True)
        ]

    def broken(self, numbers: IntArray, rates: FloatArray, capacity: FloatArray) -> list[Broken]:
        """Return the promises that are above their limits; see :meth:`waits`."""
        there = self.waits(numbers, rates, capacity)
        before: dict[int, set[int]] = {}
        found = []
        for limit in self._limits(numbers):
            wait = sum(
                float(there.scale[s] * (limit.share + there.log_prefactor[s]))
                for s in limit.stations
            )
            if wait <= limit.room + limit.slack:
                continue
            if not before:
                for job in self._jobs(numbers, rates):
                    before.setdefault(job.station, set()).update(job.earlier)
            concerned: set[int] = set()
            frontier = list(limit.stations)
            while frontier:
                station = frontier.pop()
                if station not in concerned:
                    concerned.add(station)
                    frontier += before.get(station, ())
            excess = wait / limit.room - 1.0 if limit.room > 0.0 else math.inf
            own = frozenset(limit.stations)
            found.append(Broken(limit.task, frozenset(concerned), own, excess, there.scale))
        return found

    def raised(
        self,
        offers: Offers,
        numbers: IntArray,
        rates: FloatArray,
        least: FloatArray,
        lost: FloatArray,
    ) -> FloatArray | None:
        """Return units that keep all promises, none of which can be given back; None: none found.

        Args:
            offers: what is there and sold.
            numbers: path of each task among its own, -1 for a task that does not run, shape (T,).
            rates: [inferences/s], shape (T,).
            least: units that are bought anyway, shape (I,).
            lost: capacity that is gone, shape (I,).
        """

        def keeps(units: FloatArray) -> bool:
            return not self.broken(numbers, rates, offers.capacity(units) - lost)

        if keeps(least):
            return least
        target = self._equal_scales(numbers, rates)
        if target is None:
            return None
        found = None
        for share in _TIGHTER:
            units = np.maximum(self._units_at(offers, numbers, rates, target * share, lost), least)
            if keeps(units):
                found = units
                break
        if found is None:
            plenty = np.maximum(np.minimum(offers.sold, _MOST), least)
            found = np.where(np.isfinite(target) & (offers.unit > 0.0), plenty, least)
            if not keeps(found):
                return None
        # All at once first, then one after the other: else the first would leave the last no room.
        more, share = found - least, 1.0
        for _ in range(_BISECTIONS):
            trial = least + np.ceil(more * (share / 2.0))
            if not keeps(trial):
                break
            found, share = trial, share / 2.0
        for i in np.argsort(-offers.price, kind="stable").tolist():
            low, high = float(least[i]), float(found[i])
            while low < high:
                middle = math.floor((low + high) / 2.0)
                trial = found.copy()
                trial[i] = middle
                low, high = (low, middle) if keeps(trial) else (middle + 1.0, high)
            found[i] = high
        return found

    def _equal_scales(self, numbers: IntArray, rates: FloatArray) -> FloatArray | None:
        """Return scales [s] with which all limits are kept, shape (I,); None on a loop."""
        jobs = self._jobs(numbers, rates)
        order, log_c = prefactors(jobs, len(self._each))
        target = np.full(len(self._each), np.inf)
        for limit in self._limits(numbers):
            weight = sum(limit.share + float(log_c[s]) for s in limit.stations)
            if not math.isfinite(weight):
                return None
            for s in limit.stations:
                target[s] = min(target[s], limit.room / weight)
        for station in reversed(order):
            if math.isfinite(target[station]):
                for job in jobs:
                    if job.station == station:
                        for u in job.earlier:
                            target[u] = min(target[u], target[station])
        return target

    def _units_at(
        self,
        offers: Offers,
        numbers: IntArray,
        rates: FloatArray,
        target: FloatArray,
        lost: FloatArray,
    ) -> FloatArray:
        """Return the units, as far as sold, at which stations have scales of at most some [s]."""
        need = np.zeros(len(target))
        late = np.zeros(len(target))
        burst = np.zeros(len(target))
        for job in self._jobs(numbers, rates):
            s, g = job.station, float(target[job.station])
            if not math.isfinite(g):
                continue
            rate = job.rate / self._each[s].fill(job.rate)
            need[s] += min(rate * float(effective_seconds(job.seconds, g)), 1e15)
            if job.earlier:
                late[s] += min(rate * math.expm1(min(job.seconds / g, 500.0)), 1e15)
                longest = max(float(target[u]) for u in job.earlier)
                filling = filling_seconds(job.earlier, self._each)
                burst[s] = max(burst[s], len(job.earlier) * longest + filling)
        devices = np.array([station.devices for station in self._each])
        need = np.maximum(need, 2.0 * burst * late) / devices / FULL + lost * (need > 0.0)
        units = offers.units_for(np.where(np.isfinite(target), need, 0.0))
        return np.minimum(np.minimum(units, _MOST), offers.sold)


def keeping_limits(pool: PathPool) -> PathPool:
    """Return the paths that keep their limits of percentiles at some wait scale."""
    evaluator = Evaluator(pool, Settings())
    listed: list[list[int]] = [[] for _ in pool.tasks]
    for joint in JointCandidates(evaluator).joint:
        (task,) = pool.groups[joint.group].tasks
        listed[task].append(joint.paths[0])
    tasks: list[TaskPaths] = [
        task.subset(numbers) for task, numbers in zip(pool.tasks, listed, strict=True)
    ]
    return PathPool(pool.topology, tuple(tasks))


class LevelMenu:
    """The levels of one program, divided where solutions break promises."""

    def __init__(self, promises: PlannedPromises, most: FloatArray) -> None:
        """Begin with the scales that paths' own limits ask for.

        Args:
            promises: of the case.
            most: largest rate of each task [inferences/s], shape (T,).
        """
        self.listing = promises.listing
        self.listing.joint = [
            replace(joint, most=float(most[self.listing.pool.groups[joint.group].tasks[0]]))
            for joint in self.listing.joint
        ]
        self.menu: Menu = self.listing.menu()

    @property
    def stations(self) -> list[int]:
        """Numbers of the resources that have levels."""
        return sorted(self.menu)

    def levels(self, offers: Offers, rate_resources: IntArray, scale: FloatArray) -> PlanLevels:
        """Return the levels as the program takes them.

        Args:
            offers: what is sold.
            rate_resources: numbers of the servers and links of the program.
            scale: what is 1 in its rows, shape (I,).
        """
        waiting, _ = self.listing.waiting(self.menu)
        place = {int(i): row for row, i in enumerate(rate_resources)}
        return PlanLevels(
            waiting=waiting,
            rows=[place[s] for s in self.stations],
            unit=[float(offers.unit[s] / scale[s]) for s in self.stations],
            share=[float(scale[s]) for s in self.stations],
            own=[list(self._own.get(s, {}).values()) for s in self.stations],
        )

    @cached_property
    def _own(self) -> dict[int, dict[int, dict[int, float]]]:
        """What columns count at the largest scale of their own limits, by station and task."""
        found: dict[int, dict[int, dict[int, float]]] = {}
        for number, joint in enumerate(self.listing.joint):
            for limit in joint.limits:
                for station, log_c in limit.stations:
                    scale = np.array(limit.room / (limit.share + log_c))
                    count = sum(
                        float(self.listing.count(joint, job, scale))
                        for job in joint.jobs.jobs
                        if job.station == station
                    )
                    of_task = found.setdefault(station, {}).setdefault(joint.group, {})
                    of_task[number] = max(of_task.get(number, 0.0), count)
        return found

    def divide(self, broken: Broken) -> bool:
        """Divide levels so that scales of a broken promise are no longer allowed.

        Returns:
            Whether anything is new.
        """
        margin = broken.excess / (1.0 + broken.excess) if math.isfinite(broken.excess) else 1.0
        less = min(_WIDEST_CUT, 0.5 * margin)
        is_new = False
        for station in broken.stations & self.menu.keys():
            scale = float(broken.scale[station])
            if not math.isfinite(scale) or scale <= 0.0 or less <= 0.0:
                continue
            for log_c, intervals in self.menu[station].items():
                parts: list[tuple[float, float]] = []
                for low, high in intervals:
                    ends = [low, high]
                    if math.isfinite(high):
                        points = (scale * (1.0 - less), scale)
                        ends[1:1] = [
                            x for x in points if low * (1.0 + 1e-9) < x < high * (1.0 - 1e-9)
                        ]
                    is_new = is_new or len(ends) > 2
                    parts += itertools.pairwise(ends)
                self.menu[station][log_c] = parts
        return is_new
