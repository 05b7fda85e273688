"""Promises of assignments: wait scales, promised quantiles, and rates under their limits.

A task with ``latency_percentile`` q is answered within its promise with probability q
(:mod:`code_opt.queueing`); where it has ``max_latency``, too, the promise must not exceed it.
With the paths fixed, rates and wait scales are chosen together: for fixed scales the rates solve
a linear program, and the scales climb by sequential linear programming (Griffith and Stewart,
Management Science 7, 1961, DOI 10.1287/mnsc.7.4.379) to a local optimum. What is returned keeps
every promise, judged by the least scales at its rates; the bound of ``exact`` does not rest on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.core.allocation import Allocation
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray
from code_opt.paths.stations import JobsOfPaths, StationJob, Stations
from code_opt.queueing import (
    Job,
    Waits,
    effective_seconds,
    filling_seconds,
    log_share,
    prefactors,
    waits,
)
from code_opt.solvers import LinearProgram
from formulations.arrays import LinearArrays

KEPT = 1e-9
"""Relative excess of a promise over its limit that rounding explains."""
_STEPS = 60
_WIDEST, _NARROWEST = 1.0, 1e-7
"""Trust region of a step: largest change of ln g, and that at which the climb ends."""
_BATCH_STEPS = 12
"""Times at most that batches per second are linearised at the rates of the step before."""
_LEAST_GAIN = 1e-9
"""Relative gain of throughput below which a step is none."""
_SHORTAGE = 1e2
"""What a floor that is missed altogether costs, in units of the largest throughput."""
_LEAST_FLOOR = 1e-4
"""Lower floors cost less, as shares of the largest rate: numbers must not lie too far apart."""
_LARGEST_ENTRY = 1e8
"""A job that counts this many times a station has no rate there; larger numbers say no more."""
_SHAVES = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
"""Shares of the rates beyond the floors that are given up until rounding breaks no promise."""


@dataclass(frozen=True)
class Promise:
    """What one task is promised."""

    percentile: float | None
    seconds: float
    """Unloaded time T of its path, with what others of its input group do in its jobs and what
    batches may take to fill [s]."""
    mean: float | None
    """Mean time [s] by Pollaczek and Khinchine, None where that is not known."""
    promised: float | None
    """Quantile [s]; None where none is asked for or nothing can be promised."""
    is_theorem: bool
    """Whether it holds without any assumption on departures."""


@dataclass(frozen=True)
class Limit:
    """A limited task of an assignment: sum over its jobs of (share + ln C) g <= room."""

    task: int
    stations: tuple[int, ...]
    share: float
    """ln(m / (1 - q))."""
    room: float
    """L - T [s]."""


class Promises:
    """The promises of assignments over one pool."""

    def __init__(self, pool: PathPool) -> None:
        self.pool = pool
        self.stations = Stations(pool.topology)
        self._jobs: dict[tuple[int, tuple[tuple[int, ...], ...]], JobsOfPaths] = {}
        self._program = LinearProgram()
        tasks = [t.task for t in pool.tasks]
        self.are_asked = any(task.latency_percentile is not None for task in tasks)
        """Whether any task has a percentile."""
        self.are_limits = any(
            task.latency_percentile is not None and task.max_latency is not None for task in tasks
        )
        """Whether any task limits its percentile."""

    def jobs_of_group(self, group: int, paths: Sequence[tuple[int, ...]]) -> JobsOfPaths:
        """Return the jobs of the paths of a group's tasks.

        Args:
            group: its number in the pool.
            paths: arcs of one path for each of its tasks.
        """
        key = (group, tuple(paths))
        if key not in self._jobs:
            if len(self._jobs) > 100_000:
                self._jobs.clear()
            self._jobs[key] = self.stations.jobs(self.pool.groups[group].tasks, paths)
        return self._jobs[key]

    def jobs(self, paths: Sequence[tuple[int, ...]]) -> list[JobsOfPaths]:
        """Return the jobs of an assignment, by group; ``paths`` are the arcs of every task."""
        return [
            self.jobs_of_group(g, [paths[t] for t in group.tasks])
            for g, group in enumerate(self.pool.groups)
        ]

    def waits(self, found: Sequence[JobsOfPaths], rates: FloatArray) -> Waits:
        """Return the wait scales of all resources.

        Args:
            found: jobs of an assignment, by group.
            rates: of all tasks [inferences/s].
        """
        jobs = [
            Job(job.station, float(rates[group.tasks[0]]), job.seconds, job.earlier)
            for group, of_group in zip(self.pool.groups, found, strict=True)
            for job in of_group.jobs
        ]
        return waits(jobs, self.stations.each)

    def promises(
        self, paths: Sequence[tuple[int, ...]], seconds: Sequence[float], rates: FloatArray
    ) -> tuple[list[Promise], Waits]:
        """Return what every task of an assignment is promised, and the waits behind it.

        Args:
            paths: arcs of every task's path.
            seconds: unloaded times of the paths [s].
            rates: of all tasks [inferences/s].
        """
        found = self.jobs(paths)
        there = self.waits(found, rates)
        promises: list[Promise] = [Promise(None, s, None, None, False) for s in seconds]
        for group, of_group in zip(self.pool.groups, found, strict=True):
            for member, t in enumerate(group.tasks):
                stations = of_group.stations(member)
                unloaded = seconds[t] + of_group.more_seconds[member]
                q = self.pool.tasks[t].task.latency_percentile
                promised = None
                if q is not None:
                    quantile = there.promise(unloaded, stations, q)
                    promised = quantile if math.isfinite(quantile) else None
                promises[t] = Promise(
                    percentile=q,
                    seconds=unloaded,
                    mean=there.mean_time(unloaded, stations),
                    promised=promised,
                    is_theorem=promised is not None and there.is_theorem(stations),
                )
        return promises, there

    def limits(self, found: Sequence[JobsOfPaths], seconds: Sequence[float]) -> list[Limit]:
        """Return the limits that an assignment's tasks put on the scales."""
        limits = []
        for group, of_group in zip(self.pool.groups, found, strict=True):
            for member, t in enumerate(group.tasks):
                task = self.pool.tasks[t].task
                if task.max_latency is None or task.latency_percentile is None:
                    continue
                stations = of_group.stations(member)
                limits.append(
                    Limit(
                        t,
                        stations,
                        log_share(len(stations), task.latency_percentile),
                        task.max_latency - seconds[t] - of_group.more_seconds[member],
                    )
                )
        return limits

    def hold(
        self, paths: Sequence[tuple[int, ...]], seconds: Sequence[float], rates: FloatArray
    ) -> bool:
        """Tell whether every promise of an assignment is within its limit at given rates.

        Args:
            paths: arcs of every task's path.
            seconds: unloaded times of the paths [s].
            rates: of all tasks [inferences/s].
        """
        found = self.jobs(paths)
        return self.are_kept(self.limits(found, seconds), self.waits(found, rates))

    def are_kept(self, limits: Sequence[Limit], there: Waits) -> bool:
        """Tell whether all promises are within their limits."""
        return all(
            sum(
                float(there.scale[s] * (limit.share + there.log_prefactor[s]))
                for s in limit.stations
            )
            <= limit.room + KEPT * self._largest(limit)
            for limit in limits
        )

    def _largest(self, limit: Limit) -> float:
        return float(self.pool.tasks[limit.task].task.max_latency or 0.0)

    def allocate(
        self, paths: Sequence[tuple[int, ...]], seconds: Sequence[float], use: FloatArray
    ) -> Allocation | None:
        """Return good rates under which every promise is kept; None where none were found.

        Args:
            paths: arcs of every task's path.
            seconds: unloaded times of the paths [s].
            use: of the assignment, shape (G, K), see :class:`code_opt.core.allocation.GroupArrays`.
        """
        found = self.jobs(paths)
        limits = self.limits(found, seconds)
        if any(
            limit.room < -KEPT * self._largest(limit) or (limit.stations and limit.room <= 0.0)
            for limit in limits
        ):
            return None
        climb = _Climb(self, found, limits, use)
        if climb.is_hopeless:
            return None
        rates = climb.run()
        if rates is None:
            return None
        groups = self.pool.groups
        floor = np.array([g.floor for g in groups])
        of_task = np.empty(len(self.pool.tasks))
        for shave in _SHAVES:
            kept = np.maximum(rates - shave * (rates - floor), floor)
            for rate, group in zip(kept.tolist(), groups, strict=True):
                of_task[list(group.tasks)] = rate
            if self.are_kept(limits, self.waits(found, of_task)):
                size = np.array([float(len(g.tasks)) for g in groups])
                return Allocation(
                    of_task, float(of_task.sum()), np.zeros(len(self.pool.resources)), kept * size
                )
        return None

    def needed(self, found: Sequence[JobsOfPaths], limits: Sequence[Limit]) -> set[int]:
        """Return the stations whose scales matter: on limited paths, or before later jobs there."""
        at: dict[int, list[StationJob]] = {}
        for of_group in found:
            for job in of_group.jobs:
                at.setdefault(job.station, []).append(job)
        needed: set[int] = set()
        frontier = [s for limit in limits for s in limit.stations]
        while frontier:
            station = frontier.pop()
            if station not in needed:
                needed.add(station)
                frontier += [s for job in at.get(station, ()) for s in job.earlier]
        return needed


class _Climb:
    """Rates (in units of what each group's paths can carry) and scales of one assignment."""

    def __init__(
        self,
        promises: Promises,
        found: Sequence[JobsOfPaths],
        limits: Sequence[Limit],
        use: FloatArray,
    ) -> None:
        pool = promises.pool
        self._program = promises._program
        self._limits = [limit for limit in limits if limit.stations]
        self._stations = promises.stations.each
        groups = pool.groups
        self._size = np.array([float(len(g.tasks)) for g in groups])
        self._floor = np.array([g.floor for g in groups])
        demand = np.array([g.demand for g in groups])
        resources = len(pool.resources)
        self._use = np.zeros((resources, len(groups)))
        for g, group in enumerate(groups):
            k = len(group.resources)
            self._use[group.resources, g] = np.where(group.is_rate_resource, use[g, :k], 0.0)
        largest = self._use.max(axis=0, initial=0.0)
        with np.errstate(divide="ignore"):
            most = np.minimum(demand, 1.0 / largest)
        self._most = np.maximum(most, self._floor)
        self._unit = np.where(self._most > 0.0, self._most, 1.0)
        self._use = self._use[self._use.any(axis=1)]
        self._jobs = [
            (job.station, g, job.seconds, job.earlier)
            for g, of_group in enumerate(found)
            for job in of_group.jobs
        ]
        _, log_c = prefactors(
            [Job(s, 0.0, seconds, earlier) for s, _, seconds, earlier in self._jobs], resources
        )
        self._log_c = log_c
        self._needed = sorted(promises.needed(found, self._limits))
        self._place = {s: k for k, s in enumerate(self._needed)}
        self.is_hopeless = not np.isfinite(log_c[self._needed]).all()
        """Whether a limited path leads over a station that no wait can be promised for."""
        # Jobs at needed stations, as arrays.
        mine = [job for job in self._jobs if job[0] in self._place]
        self._station = np.array([self._place[job[0]] for job in mine], dtype=np.int64)
        self._group = np.array([job[1] for job in mine], dtype=np.int64)
        self._seconds = np.array([job[2] for job in mine])
        self._is_later = np.array([bool(job[3]) for job in mine], dtype=bool)
        self._n = np.array([self._stations[s].devices for s in self._needed])
        self._batched = [k for k, job in enumerate(mine) if self._stations[job[0]].batch > 1.0]
        """Numbers of jobs in batches: their number grows slower than the rate."""
        self._slope, self._offset = np.ones(len(mine)), np.zeros(len(mine))
        """Batches per second of each job: offset + slope * rate, near the last rates."""
        self._bursts = sorted(
            {
                (self._place[s], self._place[u], float(len(earlier)), filling)
                for s, _, _, earlier in mine
                for filling in [filling_seconds(earlier, self._stations)]
                for u in earlier
            }
        )

    def run(self) -> FloatArray | None:
        """Return the rates of the groups [inferences/s], None where floors do not fit."""
        if not self._limits:
            outcome = self._rates(np.zeros(len(self._needed)))
            return None if outcome is None or outcome[1] > 1e-9 else outcome[2]
        g = self._first_scales()
        current = self._rates(g)
        if current is None:
            return None
        width = _WIDEST
        for _ in range(_STEPS):
            if width < _NARROWEST:
                break
            step = self._step(g, current[2], width)
            if step is None:
                width *= 0.25
                continue
            there = self._fitted(g * np.exp(step))
            found = self._rates(there)
            if found is not None and found[0] > current[0] + _LEAST_GAIN * (1.0 + abs(current[0])):
                gain = found[0] - current[0]
                g, current = there, found
                if gain < 1e-6 * (1.0 + abs(current[0])):
                    width *= 0.5
                else:
                    width = min(_WIDEST, 1.5 * width)
            else:
                width = 0.3 * min(width, float(np.abs(step).max(initial=0.0)) or width)
        return current[2] if current[1] <= 1e-9 else None

    def _first_scales(self) -> FloatArray:
        """Return scales under which every limit has the same scale at all of its stations."""
        g = np.full(len(self._needed), np.inf)
        for limit in self._limits:
            total = sum(limit.share + float(self._log_c[s]) for s in limit.stations)
            for s in limit.stations:
                g[self._place[s]] = min(g[self._place[s]], limit.room / total)
        # Stations that only lie before later jobs: as long waits as those allow.
        finite = g[np.isfinite(g)]
        g[~np.isfinite(g)] = float(finite.min()) if len(finite) else 1.0
        return g

    def _fitted(self, g: FloatArray) -> FloatArray:
        """Return scales reduced as far as the limits ask for."""
        g = g.copy()
        for _ in range(3):
            factor = np.ones(len(g))
            for limit in self._limits:
                places = [self._place[s] for s in limit.stations]
                total = sum(
                    float(g[k]) * (limit.share + float(self._log_c[s]))
                    for k, s in zip(places, limit.stations, strict=True)
                )
                if total > limit.room:
                    factor[places] = np.minimum(factor[places], limit.room / total)
            if (factor >= 1.0).all():
                break
            g *= factor
        return g

    def _set_batches(self, rates: FloatArray, is_secant: bool = False) -> None:
        """Let batches per second be linear around rates.

        Args:
            rates: of the groups [inferences/s].
            is_secant: through 0, not by the derivative.
        """
        for k in self._batched:
            station = self._stations[self._needed[self._station[k]]]
            rate = float(rates[self._group[k]])
            slope = 1.0 / station.fill(rate)
            offset = 0.0
            if 0.0 < rate < math.inf and not is_secant:
                up, down = rate * 1.0001, rate * 0.9999
                batches = rate * slope
                slope = (up / station.fill(up) - down / station.fill(down)) / (up - down)
                offset = batches - slope * rate
            self._slope[k], self._offset[k] = slope, offset

    def _counts(self, g: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what jobs count in (1), and exp(tau / g) - 1, per rate, shape (jobs,) both."""
        tau, scale = self._seconds, g[self._station]
        n = self._n[self._station]
        e = np.minimum(effective_seconds(tau, scale) / n, _LARGEST_ENTRY * tau / n)
        with np.errstate(over="ignore"):
            burst = np.minimum(np.expm1(tau / scale) / n, _LARGEST_ENTRY)
        return e, burst

    def _rows(self, g: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the rows of (1) and of (3), per unit of rate, and their right sides."""
        stations, groups = len(self._needed), len(self._unit)
        e, burst = self._counts(g)
        load, late = np.zeros((stations, groups)), np.zeros((stations, groups))
        always, always_late = np.zeros(stations), np.zeros(stations)
        place = (self._station, self._group)
        np.add.at(load, place, e * self._slope * self._unit[self._group])
        np.add.at(always, self._station, e * self._offset)
        burst = np.where(self._is_later, 2.0 * burst, 0.0)
        np.add.at(late, place, burst * self._slope * self._unit[self._group])
        np.add.at(always_late, self._station, burst * self._offset)
        piled = [(s, m * g[u] + filling) for s, u, m, filling in self._bursts]
        bursts = np.array([length * late[s] for s, length in piled]).reshape(-1, groups)
        right = np.array([1.0 - length * always_late[s] for s, length in piled], dtype=float)
        return load, 1.0 - always, bursts, right

    def _rates(self, g: FloatArray) -> tuple[float, float, FloatArray] | None:
        """Return merit, shortage and best rates at fixed scales."""
        found = self._rates_from(g, self._most)
        for _ in range(_BATCH_STEPS if self._batched and self._limits else 0):
            if found is None:
                break
            before = found[2]
            found = self._rates_from(g, before)
            if found is not None and (np.abs(found[2] - before) <= 1e-9 * before).all():
                break
        return found

    def _rates_from(
        self, g: FloatArray, rates: FloatArray
    ) -> tuple[float, float, FloatArray] | None:
        """Return what :meth:`_rates` does, batches being linear around some rates."""
        self._set_batches(rates)
        found = self._rates_near(g)
        if found is None and self._batched:
            self._set_batches(rates, is_secant=True)
            found = self._rates_near(g)
        return found

    def _rates_near(self, g: FloatArray) -> tuple[float, float, FloatArray] | None:
        """Return merit, shortage and best rates, batches being linear in the rates."""
        matrix = self._use * self._unit
        right = np.ones(len(matrix))
        if self._limits:
            load, load_right, bursts, bursts_right = self._rows(g)
            matrix = np.concatenate((matrix, load, bursts))
            right = np.concatenate((right, load_right, bursts_right))
        outcome = self._solve(matrix, right, 0, 0.0)
        if outcome is None:
            return None
        value, x = outcome
        groups = len(self._unit)
        shortage = float(x[groups : 2 * groups].sum())
        rates = np.clip(x[:groups] * self._unit, 0.0, self._most)
        if shortage <= 1e-9:
            rates = np.maximum(rates, self._floor)
        return value, shortage, rates

    def _step(self, g: FloatArray, rates: FloatArray, width: float) -> FloatArray | None:
        """Return the best change of ln g in the program linearised at rates and scales."""
        stations, groups = len(self._needed), len(self._unit)
        self._set_batches(rates)
        load, load_right, bursts, bursts_right = self._rows(g)
        change = 1e-5
        share = rates / self._unit
        # The derivatives by ln g of each station, by differences: all counts are smooth.
        begun = self._slope * rates[self._group] + self._offset
        by_scale, late_by_scale = np.zeros(stations), np.zeros(stations)
        for sign in (1.0, -1.0):
            e, burst = self._counts(g * math.exp(sign * change))
            half = sign * begun / (2.0 * change)
            np.add.at(by_scale, self._station, e * half)
            np.add.at(late_by_scale, self._station, np.where(self._is_later, burst * half, 0.0))
        rows = [np.hstack((self._use * self._unit, np.zeros((len(self._use), stations))))]
        rhs = [np.ones(len(self._use))]
        rows.append(np.hstack((load, np.diag(by_scale))))
        rhs.append(load_right)
        if self._bursts:
            more = np.zeros((len(self._bursts), stations))
            for row, ((s, u, m, filling), values) in enumerate(
                zip(self._bursts, bursts, strict=True)
            ):
                length = m * g[u] + filling
                more[row, s] += 2.0 * length * late_by_scale[s]
                late = float(values @ share) + 1.0 - bursts_right[row]
                more[row, u] += late * m * g[u] / length
            rows.append(np.hstack((bursts, more)))
            rhs.append(bursts_right)
        limited = np.zeros((len(self._limits), groups + stations))
        right = np.zeros(len(self._limits))
        for row, limit in enumerate(self._limits):
            total = 0.0
            for s in limit.stations:
                k = self._place[s]
                part = float(g[k]) * (limit.share + float(self._log_c[s])) / limit.room
                limited[row, groups + k] += part
                total += part
            right[row] = 1.0 - total
        rows.append(limited)
        rhs.append(right)
        outcome = self._solve(np.concatenate(rows), np.concatenate(rhs), stations, width)
        return None if outcome is None else outcome[1][2 * groups :]

    def _solve(
        self, matrix: FloatArray, rhs: FloatArray, free: int, width: float
    ) -> tuple[float, FloatArray] | None:
        """Maximise the throughput less shortages over shares, shortages and changes of ln g.

        Args:
            matrix: columns of shares, then of changes, shape (rows, G + free).
            rhs: right sides.
            free: number of changes.
            width: their largest size.
        """
        groups = len(self._unit)
        gain = self._size * self._unit
        gain = gain / gain.max(initial=1e-300)
        floor = np.minimum(self._floor / self._unit, 1.0)
        # A low floor may still take much of a station: what counts is the share that is missed.
        missed = np.where(floor > 0.0, _SHORTAGE / np.maximum(floor, _LEAST_FLOOR), 0.0)
        cost = np.concatenate((gain, -missed, np.zeros(free)))
        # A share may fall below the floor by its shortage: shortage >= floor - share.
        whole = np.zeros((len(rhs) + groups, 2 * groups + free))
        whole[: len(rhs), :groups] = matrix[:, :groups]
        whole[: len(rhs), 2 * groups :] = matrix[:, groups:]
        index = np.arange(groups)
        whole[len(rhs) + index, index] = -1.0
        whole[len(rhs) + index, groups + index] = -1.0
        right = np.concatenate((rhs, -floor))
        lower = np.concatenate((np.zeros(2 * groups), np.full(free, -width)))
        upper = np.concatenate(
            (np.minimum(self._most / self._unit, 1.0), floor, np.full(free, width))
        )
        column, row = np.nonzero(whole.T)
        indptr = np.searchsorted(column, np.arange(whole.shape[1] + 1))
        self._program.load(
            LinearArrays(
                cost=cost,
                lower=lower,
                upper=upper,
                indptr=indptr,
                indices=row,
                data=whole.T[column, row],
                row_lower=np.full(len(right), -np.inf),
                row_upper=right,
            )
        )
        outcome = self._program.solve()
        return None if outcome is None else (outcome.value, outcome.x)
