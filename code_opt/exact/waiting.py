"""The exact method under limits of percentiles: paths, rates and wait scales together.

The path formulation gets levels of wait scales (:mod:`formulations.waiting`). Levels are intervals
that cover all scales, so the program relaxes the choice of any scale, and its bound holds for all
of them. The paths of its solution get rates and scales that keep every promise
(:mod:`code_opt.core.promises`); then the levels in use are divided where they are, until what was
found is within the gap of the bound.

A dependency of later jobs on a loop is cut off when a solution has one; rows for (3), the
burstiness of later jobs, are not part of the program: it only bounds more from above without them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from code_opt.core.evaluator import ChosenPath, Evaluator, Solution, path_in_pool
from code_opt.core.objective import ObjectiveFunction
from code_opt.core.promises import KEPT
from code_opt.core.settings import SMALLEST_GAP, Clock, Settings
from code_opt.errors import InputError
from code_opt.exact.mip import TangentLoop
from code_opt.exact.models import start_totals
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray
from code_opt.paths.stations import JobsOfPaths, StationJob
from code_opt.queueing import (
    LOG_2,
    Job,
    effective_seconds,
    filling_seconds,
    log_share,
    prefactors,
)
from code_opt.result import Status
from code_opt.solvers import MipSession
from formulations import (
    Dependency,
    Goal,
    LimitedPath,
    PathData,
    Rows,
    StationLevels,
    WaitingData,
    build_path_model,
    exclude_loop,
    wait_classes,
)

MOST_JOINT_PATHS = 20_000
"""Combinations of paths of an input group that are listed at most."""
_FIRST_POINTS = 8
"""Scales of a station's first menu that paths' own limits ask for, at most."""
_HALVINGS = 3
"""Further points of the first menu, each half of the one before."""
_ROUNDS = 40
_CLOSE = (0.0, 1.0, 4.0, 16.0)
"""Where levels in use are divided: at scales this many gaps above and below the best one."""


Variants = dict[float, list[tuple[float, float]]]
"""Intervals of scales [s] by ln C, ascending."""
Menu = dict[int, Variants]
"""Of each station, by the number of its resource."""


class _Limit(NamedTuple):
    room: float
    """L - T [s]."""
    share: float
    """ln(m / (1 - q))."""
    stations: tuple[tuple[int, float], ...]
    """(station, least ln C there) of each job."""
    weight: float
    """w[t] of the task."""
    member: int
    """Which task of its group it is."""


@dataclass(frozen=True)
class _Joint:
    """A path of a task, or one path for each task of an input group."""

    group: int
    paths: tuple[int, ...]
    """Numbers in the pool, by task of the group."""
    accuracy: float
    """Weighted mean over the tasks."""
    time: float
    """Sum of w[t] T[p] over the tasks [s]; under a percentile with batches and others' work."""
    use: FloatArray
    """Of the group's resources, per inference of all tasks, shape (k,)."""
    most: float
    """Largest rate of each task [inferences/s]."""
    jobs: JobsOfPaths
    limits: tuple[_Limit, ...]
    """Of every limited task with jobs."""
    edges: frozenset[tuple[int, int]]
    """(earlier station, station) of its later jobs."""


class JointCandidates:
    """All candidate paths of a pool, those of input groups together.

    Raises:
        InputError: an input group has too many combinations of paths.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.pool = evaluator, evaluator.pool
        self.stations = evaluator.promises.stations.each
        self.joint: list[_Joint] = []
        self.first = [0]
        for g, group in enumerate(self.pool.groups):
            sizes = [len(self.pool.tasks[t]) for t in group.tasks]
            if math.prod(sizes) > MOST_JOINT_PATHS:
                name = self.pool.tasks[group.tasks[0]].task.input_group
                raise InputError(
                    f"input group {name!r}: {math.prod(sizes)} combinations of paths are too many "
                    f"beside limits of percentiles; at most {MOST_JOINT_PATHS} are"
                )
            for numbers in itertools.product(*map(range, sizes)):
                joint = self._joint(g, numbers)
                if joint is not None:
                    self.joint.append(joint)
            self.first.append(len(self.joint))

    def _joint(self, g: int, numbers: tuple[int, ...]) -> _Joint | None:
        """Return paths of a group taken together, None where they keep no limit at any rate."""
        group = self.pool.groups[g]
        tasks = [self.pool.tasks[t] for t in group.tasks]
        arcs = [task.paths.arcs[k] for task, k in zip(tasks, numbers, strict=True)]
        jobs = self.evaluator.promises.jobs_of_group(g, arcs)
        if group.is_shared:
            use = group.use(arcs)
            used = np.where(group.is_rate_resource, use, 0.0)
            most = group.demand
            if used.max(initial=0.0) > 0.0:
                most = min(most, 1.0 / float(used.max()))
        else:
            use, most = tasks[0].paths.use[numbers[0]], float(tasks[0].most_rate[numbers[0]])
        least = _own_prefactors(jobs)
        limits = []
        for member, (task, k) in enumerate(zip(tasks, numbers, strict=True)):
            limit, q = task.task.max_latency, task.task.latency_percentile
            mine = jobs.of_task[member]
            if limit is None or q is None:
                continue
            room = limit - float(task.paths.seconds[k]) - jobs.more_seconds[member]
            room += KEPT * limit
            if room <= 0.0:
                return None
            if not mine:
                continue
            share = log_share(len(mine), q)
            on_way: list[tuple[int, float]] = []
            for j in mine:
                station, seconds = jobs.jobs[j].station, jobs.jobs[j].seconds
                if not math.isfinite(least[j]):
                    return None  # a loop of its own
                on_way.append((station, least[j]))
                # Even alone on the station it needs a scale that its own limit allows.
                count = float(effective_seconds(seconds, room / (share + least[j])))
                there = self.stations[station]
                most = there.most_rate(there.devices / count, most)
            weight = float(self.pool.weights[group.tasks[member]])
            limits.append(_Limit(room, share, tuple(on_way), weight, member))
        if most < group.floor * (1.0 - 1e-6):
            return None
        weights = self.pool.weights[list(group.tasks)]
        accuracy = float(
            weights @ np.array([t.paths.accuracy[k] for t, k in zip(tasks, numbers, strict=True)])
        )
        times = [
            float(task.paths.seconds[k]) + (0.0 if task.task.latency_percentile is None else more)
            for task, k, more in zip(tasks, numbers, jobs.more_seconds, strict=True)
        ]
        return _Joint(
            g,
            numbers,
            accuracy,
            float(weights @ np.array(times)),
            use,
            max(most, group.floor),
            jobs,
            tuple(limits),
            frozenset((u, job.station) for job in jobs.jobs for u in job.earlier),
        )

    def without(self, gone: Sequence[bool]) -> JointCandidates:
        """Return a listing that lacks some of its paths."""
        part = copy(self)
        part.joint = [joint for joint, is_gone in zip(self.joint, gone, strict=True) if not is_gone]
        counts = np.bincount([j.group for j in part.joint], minlength=len(self.pool.groups))
        part.first = [0, *np.cumsum(counts).tolist()]
        return part

    def is_empty(self) -> bool:
        """Tell whether some group has no path left."""
        return any(a == b for a, b in itertools.pairwise(self.first))

    def data(self, goal: Goal, waiting: WaitingData) -> PathData:
        """Return the path formulation's data; a group is one task at its total throughput."""
        pool = self.pool
        entries: dict[int, list[tuple[int, float]]] = {}
        for number, joint in enumerate(self.joint):
            group = pool.groups[joint.group]
            for resource, is_rate, amount in zip(
                group.resources.tolist(),
                group.is_rate_resource.tolist(),
                joint.use.tolist(),
                strict=True,
            ):
                if amount > 0.0:
                    share = amount / len(group.tasks) if is_rate else amount
                    entries.setdefault(resource, []).append((number, share))
        order = sorted(entries)
        is_rate = pool.topology.is_rate_resource
        weights = [float(pool.weights[list(g.tasks)].sum()) for g in pool.groups]
        rows = [
            Rows([pool.resources[i].name for i in some], [entries[i] for i in some])
            for some in ([i for i in order if is_rate[i]], [i for i in order if not is_rate[i]])
        ]
        return PathData(
            task_names=[" + ".join(pool.tasks[t].task.id for t in g.tasks) for g in pool.groups],
            weight=weights,
            floor=[g.floor * len(g.tasks) for g in pool.groups],
            task_of=[joint.group for joint in self.joint],
            accuracy=[
                joint.accuracy / weights[joint.group] if weights[joint.group] > 0.0 else 0.0
                for joint in self.joint
            ],
            seconds=[
                joint.time / weights[joint.group] if weights[joint.group] > 0.0 else 0.0
                for joint in self.joint
            ],
            most_rate=[joint.most * len(pool.groups[joint.group].tasks) for joint in self.joint],
            rate_rows=rows[0],
            memory_rows=rows[1],
            goal=goal,
            waiting=waiting,
        )

    def menu(self) -> Menu:
        """Return the first scales [s] of every station on limited paths, by ln C, ascending.

        Paths with jobs at one station ask for one scale each, the largest that their limit allows;
        all others for a geometric sequence below the largest.
        """
        asked: dict[int, dict[float, tuple[set[float], set[float]]]] = {}
        sees_later = {s for joint in self.joint for _, s in joint.edges}
        for joint in self.joint:
            for limit in joint.limits:
                for station, own in limit.stations:
                    for log_c in (0.0, LOG_2):
                        if log_c < min(own, LOG_2) or (log_c > 0.0 and station not in sees_later):
                            continue
                        of_station = asked.setdefault(station, {})
                        alone, beside = of_station.setdefault(log_c, (set(), set()))
                        largest = limit.room / (limit.share + max(own, log_c))
                        (alone if len(limit.stations) == 1 else beside).add(largest)
        menu: Menu = {}
        for station, variants in asked.items():
            for log_c, (alone, beside) in variants.items():
                points = sorted(alone)
                if len(points) > _FIRST_POINTS:
                    picks = np.linspace(0, len(points) - 1, _FIRST_POINTS).round().astype(int)
                    points = [points[k] for k in picks.tolist()]
                largest = max(alone | beside)
                points.append(largest)
                least = min(points) if alone else largest
                points += [least * 0.5**k for k in range(1, _HALVINGS + (1 if alone else 3))]
                ends = [0.0, *_distinct(points)]
                menu.setdefault(station, {})[log_c] = list(itertools.pairwise(ends))
            largest = max(intervals[-1][1] for intervals in menu[station].values())
            menu[station].setdefault(LOG_2, []).append((largest, math.inf))
        return menu

    def count(self, joint: _Joint, job: StationJob, scale: FloatArray) -> FloatArray:
        """Return what an inference on joint paths counts in (1) at scales, as a share of a station.

        At an infinite scale that is its share of the device time. Batches are as full as at the
        largest rate, at least: so counts are no larger than at any rate.
        """
        station = self.stations[job.station]
        held = np.where(np.isinf(scale), station.batch, station.fill(joint.most))
        seconds = np.minimum(effective_seconds(job.seconds, scale), 1e12 * job.seconds)
        return seconds / (held * station.devices)

    def waiting(
        self, menu: Menu, bursts_of: Collection[tuple[int, int, int, int]] = ()
    ) -> tuple[WaitingData, dict[int, int]]:
        """Return levels between the scales of a menu, and the number of each station's.

        Args:
            menu: scales by station.
            bursts_of: dependencies that get rows of (3): number of the group, station, earlier
                station, earlier jobs.
        """
        stations = sorted(menu)
        place = {station: s for s, station in enumerate(stations)}
        levels = {s: levels_of(menu[s]) for s in stations}
        upper = {s: np.array([level.upper for level in levels[s]]) for s in stations}
        loads: dict[int, list[tuple[int, list[float]]]] = {s: [] for s in stations}
        bursts: dict[int, list[tuple[int, list[float]]]] = {s: [] for s in stations}
        limited: list[LimitedPath] = []
        needs: dict[tuple[int, int, int | None, int, float], list[int]] = {}
        for number, joint in enumerate(self.joint):
            size = len(self.pool.groups[joint.group].tasks)
            counts: dict[int, FloatArray] = {}
            later: dict[int, FloatArray] = {}
            for job in joint.jobs.jobs:
                if job.station not in place:
                    continue
                ends = upper[job.station]
                count = self.count(joint, job, ends) / size
                counts[job.station] = counts.get(job.station, 0.0) + count
                if job.earlier:
                    later[job.station] = later.get(job.station, 0.0) + count / ends
                    key = (joint.group, place[job.station], None, 0, 0.0)
                    needs.setdefault(key, []).append(number)
                    filling = filling_seconds(job.earlier, self.stations)
                    for u in set(job.earlier):
                        if u in place:
                            m = len(job.earlier)
                            where = (joint.group, place[job.station], place[u], m, filling)
                            needs.setdefault(where, []).append(number)
            for station, count in counts.items():
                loads[station].append((number, count.tolist()))
            for station, burst in later.items():
                bursts[station].append((number, burst.tolist()))
            for limit in joint.limits:
                on_way = [(place[s], own) for s, own in limit.stations]
                limited.append(
                    LimitedPath(number, limit.room, limit.share, on_way, limit.weight, limit.member)
                )
        dependencies = [
            Dependency(
                sorted(set(paths)),
                s,
                u,
                m,
                u is not None and (g, stations[s], stations[u], m) in bursts_of,
                filling,
            )
            for (g, s, u, m, filling), paths in sorted(needs.items(), key=lambda i: str(i[0]))
        ]
        return (
            WaitingData(
                [
                    StationLevels(
                        self.pool.resources[s].name,
                        [level.lower for level in levels[s]],
                        [level.upper for level in levels[s]],
                        [level.log_c for level in levels[s]],
                        loads[s],
                        bursts[s],
                    )
                    for s in stations
                ],
                limited,
                dependencies,
            ),
            place,
        )


class Level(NamedTuple):
    """Scales of a station above one and up to another [s], at a prefactor."""

    lower: float
    upper: float
    log_c: float


def levels_of(variants: Variants) -> list[Level]:
    """Return the levels of a station, by their upper ends; the last one promises nothing.

    The one before it holds all scales that no limited path could use.
    """
    levels = [
        Level(low, high, log_c) for log_c, intervals in variants.items() for low, high in intervals
    ]
    levels.sort(key=lambda level: (level.upper, level.log_c))
    return [*levels, Level(math.inf, math.inf, LOG_2)]


def level_at(variants: Variants, scale: float, is_later: bool) -> int:
    """Return the first level of a station that holds a scale, else the last one.

    Args:
        variants: intervals of the station's scales.
        scale: [s], inf where nothing is promised.
        is_later: whether the station sees later jobs.
    """
    levels = levels_of(variants)
    return next(
        (
            k
            for k, level in enumerate(levels[:-1])
            if level.lower <= scale <= level.upper
            and math.isfinite(scale)
            and ((level.log_c > 0.0) == is_later or math.isinf(level.upper))
        ),
        len(levels) - 1,
    )


def _own_prefactors(jobs: JobsOfPaths) -> list[float]:
    """Return the least ln C of each job's station, by the later jobs of the same input."""
    stations = [job.station for job in jobs.jobs]
    size = max(stations, default=-1) + 1
    _, log_c = prefactors(
        [Job(job.station, 0.0, job.seconds, job.earlier) for job in jobs.jobs], size
    )
    return [float(log_c[s]) for s in stations]


def _distinct(points: Sequence[float]) -> list[float]:
    """Return scales in order, those that differ by rounding only once."""
    found: list[float] = []
    for point in sorted(points):
        if not found or point > found[-1] * (1.0 + 1e-9):
            found.append(point)
    return found


class WaitingView:
    """The path formulation with levels; a :class:`code_opt.exact.models.ModelView`."""

    def __init__(
        self,
        listing: JointCandidates,
        settings: Settings,
        menu: Menu,
        bursts_of: Collection[tuple[int, int, int, int]] = (),
    ) -> None:
        self.listing, self.settings, self.menu = listing, settings, menu
        pool = listing.pool
        self.waiting, self.place = listing.waiting(menu, bursts_of)
        self.data = listing.data(ObjectiveFunction.of(pool, settings).goal, self.waiting)
        self.model = build_path_model(self.data)

    @property
    def pool(self) -> PathPool:
        """See :class:`code_opt.exact.models.ModelView`."""
        return self.listing.pool

    @property
    def goal(self) -> Goal:
        """See :class:`code_opt.exact.models.ModelView`."""
        return self.data.goal

    def start_at(self, solution: Solution) -> None:
        """See :class:`code_opt.exact.models.ModelView`."""
        model, listing = self.model, self.listing
        pool, rates = listing.pool, solution.allocation.rates
        for variable in (*model.choose.values(), *model.extra.values(), *model.level.values()):
            variable.set_value(0.0, skip_validation=True)
        taken: list[_Joint] = []
        for g, group in enumerate(pool.groups):
            wanted = tuple(pool.tasks[t].paths.numbers[solution.paths[t].arcs] for t in group.tasks)
            number = next(
                k
                for k in range(listing.first[g], listing.first[g + 1])
                if listing.joint[k].paths == wanted
            )
            taken.append(listing.joint[number])
            model.choose[number].set_value(1.0, skip_validation=True)
            if number in model.extra:
                floor = self.data.floor[g]
                spare = float(rates[group.tasks[0]]) * len(group.tasks) - floor
                share = min(max(spare / (self.data.most_rate[number] - floor), 0.0), 1.0)
                model.extra[number].set_value(share, skip_validation=True)
        scale = self.scales(solution)
        later = {u for joint in taken for _, u in joint.edges}
        for station, s in self.place.items():
            k = level_at(self.menu[station], float(scale[station]), station in later)
            model.level[s, k].set_value(1.0, skip_validation=True)
        if self.data.goal.objective == "latency":
            classes = wait_classes(self.data, self.waiting)
            for (c, s, k), variable in model.wait.items():
                chosen = sum(model.choose[p].value for p in classes[c][1])
                variable.set_value(chosen * model.level[s, k].value, skip_validation=True)
        start_totals(self, pool, self.settings, solution)

    def scales(self, solution: Solution) -> FloatArray:
        """Return the least wait scales of an assignment at its rates."""
        promises = self.listing.evaluator.promises
        return promises.waits(promises.jobs(solution.arcs), solution.allocation.rates).scale

    def _chosen(self) -> list[int]:
        """Return the numbers of the paths that the model's variables hold, by group."""
        return [
            start + int(np.argmax([self.model.choose[k].value or 0.0 for k in range(start, end)]))
            for start, end in itertools.pairwise(self.listing.first)
        ]

    def paths(self) -> list[ChosenPath]:
        """See :class:`code_opt.exact.models.ModelView`."""
        pool = self.listing.pool
        found: list[ChosenPath | None] = [None] * len(pool.tasks)
        for number in self._chosen():
            joint = self.listing.joint[number]
            for t, path in zip(pool.groups[joint.group].tasks, joint.paths, strict=True):
                found[t] = path_in_pool(pool.tasks[t], path)
        return [path for path in found if path is not None]

    def levels(self) -> dict[int, int]:
        """Return the level of each station (by its resource) that the model's variables hold."""
        return {
            station: int(
                np.argmax(
                    [
                        self.model.level[s, k].value or 0.0
                        for k in range(len(self.waiting.stations[s].lower))
                    ]
                )
            )
            for station, s in self.place.items()
        }

    def own_scales(self) -> dict[int, list[float]]:
        """Return the largest scales that paths of the model's solution allow, by station.

        Of paths that wait at one station alone: there a level up to that scale is exact.
        """
        found: dict[int, list[float]] = {}
        for number in self._chosen():
            for limit in self.listing.joint[number].limits:
                if len(limit.stations) == 1:
                    ((station, own),) = limit.stations
                    for log_c in self.menu[station]:
                        scale = limit.room / (limit.share + max(own, log_c))
                        found.setdefault(station, []).append(scale)
        return found

    def bursts_missed(self) -> set[tuple[int, int, int, int]]:
        """Return the dependencies whose (3) the model's variables break at their levels.

        Each as the number of the group, station, earlier station, and number of earlier jobs.
        """
        chosen, levels = self._chosen(), self.levels()
        late: dict[int, float] = {}
        rate = {}
        for number in chosen:
            joint = self.listing.joint[number]
            size = len(self.listing.pool.groups[joint.group].tasks)
            floor = self.data.floor[joint.group]
            extra = self.model.extra[number].value or 0.0 if number in self.model.extra else 0.0
            rate[number] = (floor + extra * (self.data.most_rate[number] - floor)) / size
        upper = {s: levels_of(self.menu[s])[k] for s, k in levels.items()}
        for number in chosen:
            joint = self.listing.joint[number]
            for job in joint.jobs.jobs:
                level = upper.get(job.station)
                if job.earlier and level is not None and math.isfinite(level.upper):
                    count = float(self.listing.count(joint, job, np.array(level.upper)))
                    more = rate[number] * count / level.upper
                    late[job.station] = late.get(job.station, 0.0) + more
        missed = set()
        for number in chosen:
            joint = self.listing.joint[number]
            for job in joint.jobs.jobs:
                for u in set(job.earlier):
                    if job.station in late and u in upper:
                        burst = len(job.earlier) * upper[u].lower
                        burst += filling_seconds(job.earlier, self.listing.stations)
                        if 2.0 * burst * late[job.station] > 1.0 + 1e-6:
                            missed.add((joint.group, job.station, u, len(job.earlier)))
        return missed

    def exclude(self, paths: Sequence[ChosenPath]) -> list[Any]:  # noqa: ARG002
        """Cut off dependencies on a loop before a station on a limited path."""
        chosen = self._chosen()
        listing = self.listing
        jobs = [job for number in chosen for job in listing.joint[number].jobs.jobs]
        _, log_c = prefactors(
            [Job(job.station, 0.0, job.seconds, job.earlier) for job in jobs],
            len(listing.pool.resources),
        )
        added = []
        asked = {
            station
            for number in chosen
            for limit in listing.joint[number].limits
            for station, _ in limit.stations
        }
        for station in sorted(asked):
            if math.isfinite(log_c[station]):
                continue
            before: dict[int, tuple[int, int]] = {}
            for number in chosen:
                for u, s in sorted(listing.joint[number].edges):
                    if not math.isfinite(log_c[u]):
                        before.setdefault(s, (u, number))
            edges: dict[int, set[tuple[int, int]]] = {}
            at, seen = station, set()
            while at not in seen:
                seen.add(at)
                u, number = before[at]
                edges.setdefault(number, set()).add((u, at))
                at = u
            groups = []
            for number, some in edges.items():
                g = listing.joint[number].group
                groups.append(
                    [
                        k
                        for k in range(listing.first[g], listing.first[g + 1])
                        if some <= listing.joint[k].edges
                    ]
                )
            place = self.place[station]
            last = len(self.waiting.stations[place].lower) - 1
            added.append(exclude_loop(self.model, groups, place, last))
        return added


class _Round(TangentLoop):
    """One program of the sequence; ends as soon as its tangents are tight where it lies."""

    _new_tangents = 1
    out_of_question: tuple[list[bool], dict[tuple[int, int], bool]] | None = None
    """Which paths, and which levels, are part of nothing better than the best one known."""

    def _after(self, session: MipSession) -> None:
        """Fix by reduced costs once more, with the best assignment and the tangents of now."""
        if self._known is None or self.clock.is_over:
            return
        session.tighten(self._known, self.clock.left)
        model = self._view.model
        self.out_of_question = (
            session.is_fixed_at_zero(list(model.choose.values())),
            dict(
                zip(
                    model.level.keys(),
                    session.is_fixed_at_zero(list(model.level.values())),
                    strict=True,
                )
            ),
        )

    def _cut(self, session: MipSession) -> int:
        self._new_tangents = super()._cut(session)
        return self._new_tangents

    def _is_settled(self) -> bool:
        is_known = self.best is None or math.isfinite(self.best.value)
        return is_known and (not self.is_log or self._new_tangents == 0)

    def _round(self, session: MipSession, precision: float, is_near: bool) -> Status | None:
        self._new_tangents = 1
        status = super()._round(session, precision, is_near)
        if status is None and self._is_settled():
            return self._stopped()
        return status


class WaitingSearch:
    """The sequence of programs: best assignment, bound, counts."""

    def __init__(
        self, evaluator: Evaluator, clock: Clock, best: Solution | None, bound: float
    ) -> None:
        """Take an assignment to start from, if there is one, and a bound."""
        self.evaluator, self.clock, self.best = evaluator, clock, best
        self.settings = evaluator.settings
        self.bound = bound
        self.message: str | None = None
        self.details: dict[str, Any] = {}

    def solve(self) -> Status:
        """Refine the levels until the gap is met; return the status."""
        listing = JointCandidates(self.evaluator)
        self.details["joint_paths"] = len(listing.joint)
        if listing.is_empty():
            return "infeasible"
        menu = listing.menu()
        objective = self.evaluator.objective
        if self.best is not None and not math.isfinite(self.best.value):
            self.best = None  # a reward of 0 is nothing to start from
        asked = max(self.settings.gap, SMALLEST_GAP)
        last, stalled = math.inf, 0
        bursts_of: set[tuple[int, int, int, int]] = set()
        counts = {"refinements": 0, "levels": 0}
        for _ in range(_ROUNDS):
            view = WaitingView(listing, self.settings, menu, bursts_of)
            run = _Round(self.evaluator, view, self.clock, best=self.best, bound=self.bound)
            now = math.inf if self.best is None else objective.gap(self.best.value, self.bound)
            run.gap = max(asked, 0.15 * min(now, 0.1))
            status = run.solve()
            for key, value in run.details.items():
                counts[key] = counts.get(key, 0) + value
            counts["levels"] = sum(len(levels_of(v)) for v in menu.values())
            self.details |= counts
            self.bound, self.best = run.bound, run.best
            if status == "infeasible":
                return "infeasible"
            if self.best is not None and objective.gap(self.best.value, self.bound) <= asked:
                return "optimal"
            if self.clock.is_over:
                self.message = f"stopped by {self.clock.reason}"
                break
            counts["refinements"] += 1
            missed = view.bursts_missed() - bursts_of
            bursts_of |= missed
            finer = self._refined(view, run, menu)
            if run.out_of_question is not None:
                listing = listing.without(run.out_of_question[0])
            stalled = (
                0 if missed else stalled + 1 if finer == menu or self.bound >= last - 1e-12 else 0
            )
            if stalled >= 4 and finer == menu:
                break
            last, menu = self.bound, finer
        if self.message is None:
            self.message = "stopped: the levels of wait scales cannot be divided any further"
        if self.best is None:
            self.message = f"{self.message} before any assignment was found"
            return "unknown"
        return "feasible"

    def _refined(self, view: WaitingView, run: _Round, menu: Menu) -> Menu:
        """Return a menu with the levels in use divided, around the scales of the best if there."""
        chosen = view.levels()
        best = None if self.best is None else view.scales(self.best)
        gap = max(self.settings.gap, 1e-6)
        gone = {} if run.out_of_question is None else run.out_of_question[1]
        own = view.own_scales()
        finer: Menu = {}
        for station, variants in menu.items():
            levels = levels_of(variants)
            place = view.place[station]
            level = levels[chosen[station]]
            scale = 0.0 if best is None else float(best[station])
            finer[station] = {log_c: [] for log_c in variants}
            for k, (low, high, log_c) in enumerate(levels[:-1]):
                if gone.get((place, k)) and k != chosen[station] and math.isfinite(high):
                    continue
                cuts: list[float] = []
                if math.isinf(high):
                    finer[station].setdefault(log_c, []).append((low, high))
                    continue
                if levels[k] == level and high > low * (1.0 + gap):
                    cuts += _between(low or high / 16.0, high)
                cuts += own.get(station, ())
                if low < scale <= high:
                    cuts += [scale * (1.0 - times * gap) for times in _CLOSE]
                    cuts += [scale * (1.0 + times * gap) for times in _CLOSE]
                if high - low <= gap * high:
                    cuts = []
                inside = [x for x in cuts if low < x < high * (1.0 - 1e-9)]
                ends = [low, *_distinct([*inside, high])]
                finer[station][log_c] += itertools.pairwise(ends)
        return finer


def _between(low: float, high: float) -> list[float]:
    """Return scales that divide a level: four parts where it is wide, else two."""
    middle = math.sqrt(low * high)
    if high <= 1.05 * low:
        return [middle]
    return [math.sqrt(low * middle), middle, math.sqrt(middle * high)]
