"""Searches under limits of percentiles: at fixed wait scales they are searches like any other.

For a fixed wait scale g a station's condition is a capacity row with effective device times, and a
limited path is allowed or not. So any search runs on a pool with these times; what it finds gets
its true rates and scales (:mod:`code_opt.core.promises`), whose scales start the next run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from code_opt.core.evaluator import ChosenPath, Evaluator, Solution
from code_opt.core.promises import KEPT
from code_opt.core.settings import Clock
from code_opt.heuristics.search import SearchOutcome
from code_opt.paths import PathPool, TaskPaths
from code_opt.paths.graph import FloatArray
from code_opt.paths.stations import JobsOfPaths
from code_opt.queueing import effective_seconds, log_share

Search = Callable[[Evaluator, Clock], SearchOutcome]

RUNS = 6
"""Runs at most from scales that were learnt."""
_SHARES = (1.0, 0.8, 0.6, 0.45)
"""Shares of the usual scales that are tried first: tighter scales leave room for more jobs."""
_LESS = (0.25, 0.1, 0.03)
"""Shares of the usual scales that are tried while nothing of any worth is found."""
_AROUND = (0.7, 0.9, 1.5, 1.2)
"""Shares of scales learnt at given rates that are tried, the last first."""
_LEAST_GAIN = 1e-6


def search_at_scales(evaluator: Evaluator, clock: Clock, run: Search) -> SearchOutcome:
    """Return the best outcome of a search at several choices of wait scales.

    Args:
        evaluator: of a pool whose tasks limit percentiles.
        clock: ends it early, after one run at least.
        run: the search, for an evaluator that knows no percentiles.
    """
    guesses = _Guesses(evaluator)
    best: Solution | None = None
    last = SearchOutcome()
    for scale, rank in guesses.scales():
        if best is not None and clock.is_over:
            break
        pool = at_scales(evaluator, scale, rank)
        if pool is None:
            continue
        plain = Evaluator(pool, evaluator.settings, are_promises_limited=False)
        outcome = run(plain, clock)
        last = replace(outcome, solution=None, learnt=None)
        if outcome.solution is None:
            continue
        paths = [
            _unloaded(task, path)
            for task, path in zip(evaluator.pool.tasks, outcome.solution.paths, strict=True)
        ]
        found = evaluator.solution(paths)
        if found is None:
            continue
        # Of a time the least gain is a share of the least that there may be.
        unit = evaluator.objective.unit if evaluator.objective.is_time else 1.0
        is_better = best is None or found.value > best.value + _LEAST_GAIN * unit
        if is_better:
            best = found
        guesses.learn(found, is_better)
    return replace(last, solution=best)


def at_scales(evaluator: Evaluator, scale: FloatArray, rank: FloatArray | None) -> PathPool | None:
    """Return a pool with the effective times of fixed wait scales; None if a task has no path.

    Args:
        evaluator: of the pool.
        scale: g of every resource [s]; infinite where nothing is promised.
        rank: keep only paths that go from servers of lower rank to such of higher rank, so that
            dependencies close no loop; None: keep no path with a later job at a station that
            has a scale.
    """
    pool = evaluator.pool
    tasks: list[TaskPaths] = list(pool.tasks)
    for g, group in enumerate(pool.groups):
        for t in group.tasks:
            task = tasks[t]
            if not len(task):
                return None
            use, seconds = task.paths.use.copy(), task.paths.seconds.copy()
            keep = np.ones(len(task), dtype=bool)
            column_of = {resource: k for k, resource in enumerate(task.resources.tolist())}
            for number, arcs in enumerate(task.paths.arcs):
                jobs = (
                    evaluator.promises.jobs_of_group(g, [arcs])
                    if len(group.tasks) == 1
                    else evaluator.promises.stations.jobs([t], [arcs])
                )
                keep[number] = _is_allowed(task, number, jobs, scale, rank)
                if pool.topology.options.weighs_time and keep[number]:
                    seconds[number] = _time(task, number, jobs, scale)
                counted: dict[int, float] = {}
                for job in jobs.jobs:
                    wait = float(scale[job.station])
                    if math.isfinite(wait):
                        there = evaluator.promises.stations.each[job.station]
                        held = there.fill(float(task.most_rate[number])) * there.devices
                        count = float(effective_seconds(job.seconds, wait)) / held
                        counted[job.station] = counted.get(job.station, 0.0) + count
                for station, total in counted.items():
                    column = column_of[station]
                    use[number, column] = min(max(use[number, column], total), 1e12)
            is_rate = task.is_rate_resource
            with np.errstate(divide="ignore"):
                most = 1.0 / use.max(axis=1, initial=0.0, where=is_rate)
            most = np.minimum(most, task.most_rate)
            keep &= most >= task.floor * (1.0 - 1e-9)
            rows = np.flatnonzero(keep)
            if not len(rows):
                return None
            graph = task.graph
            if group.is_shared:
                # Tries of a group add up arcs: each as much dearer as the dearest of the paths.
                base = task.paths.use[rows]
                ratio = np.divide(use[rows], base, out=np.ones_like(base), where=base > 0.0)
                graph = replace(graph, use=graph.use * ratio.max(axis=0))
            paths = replace(task.paths, use=use, seconds=seconds).subset(rows)
            tasks[t] = replace(
                task, graph=graph, paths=paths, most_rate=np.maximum(most[rows], task.floor)
            )
    return PathPool(pool.topology, tuple(tasks))


def _unloaded(task: TaskPaths, path: ChosenPath) -> ChosenPath:
    """Return a path found at fixed scales with its own use and time."""
    number = task.paths.numbers[path.arcs]
    return replace(path, use=task.paths.use[number], seconds=float(task.paths.seconds[number]))


def _is_allowed(
    task: TaskPaths, number: int, jobs: JobsOfPaths, scale: FloatArray, rank: FloatArray | None
) -> bool:
    """Tell whether a path keeps its limit at fixed scales."""
    for job in jobs.jobs:
        if rank is None:
            if job.earlier and math.isfinite(scale[job.station]):
                return False
        elif any(not rank[u] < rank[job.station] for u in job.earlier):
            return False
    limit, q = task.task.max_latency, task.task.latency_percentile
    if limit is None or q is None:
        return True
    return _time(task, number, jobs, scale) <= limit * (1.0 + KEPT)


def _time(task: TaskPaths, number: int, jobs: JobsOfPaths, scale: FloatArray) -> float:
    """Return what a path is promised at fixed scales, without a percentile its own time [s]."""
    q = task.task.latency_percentile
    if q is None:
        return float(task.paths.seconds[number])
    share = log_share(len(jobs.jobs), q)
    total, log_c = float(task.paths.seconds[number]) + jobs.more_seconds[0], 0.0
    for place, job in enumerate(jobs.jobs):
        log_c = 0.0 if place == 0 else math.log(2.0) + 0.5 * log_c
        total += float(scale[job.station]) * (share + log_c)
    return total


class _Guesses:
    """Wait scales to try, one after the other."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._learnt: list[FloatArray] = []
        self._has_worth = False
        resources = len(evaluator.pool.resources)
        self._native = np.full(resources, np.inf)
        self._usual: list[list[float]] = [[] for _ in range(resources)]
        for task in evaluator.pool.tasks:
            limit, q = task.task.max_latency, task.task.latency_percentile
            if limit is None or q is None:
                continue
            t = next(k for k, other in enumerate(evaluator.pool.tasks) if other is task)
            roomiest: dict[int, float] = {}
            for number, arcs in enumerate(task.paths.arcs):
                jobs = evaluator.promises.stations.jobs([t], [arcs])
                room = limit - float(task.paths.seconds[number]) - jobs.more_seconds[0]
                if room <= 0.0:
                    continue
                m = len(jobs.jobs)
                for job in jobs.jobs:
                    scale = room / (m * log_share(m, q))
                    if m == 1 or job.station not in roomiest:
                        roomiest[job.station] = max(roomiest.get(job.station, 0.0), scale)
            blocks = [b.id for b in evaluator.pool.topology.dnn[task.task.dnn].blocks]
            native = task.graph.path_arcs(blocks)
            home = set()
            if native is not None:
                home = {j.station for j in evaluator.promises.stations.jobs([t], [native]).jobs}
            for station, scale in roomiest.items():
                if station in home:
                    self._native[station] = min(self._native[station], scale)
                self._usual[station].append(scale)

    def _rank(self) -> FloatArray:
        """Return the servers in the order of what native paths ask of them, the fullest first.

        So work moves from full servers to others. A link stands right behind its source.
        """
        pool = self._evaluator.pool
        load = np.zeros(len(pool.resources))
        for task in pool.tasks:
            blocks = [b.id for b in pool.topology.dnn[task.task.dnn].blocks]
            arcs = task.graph.path_arcs(blocks)
            if arcs is not None:
                rate = task.demand if math.isfinite(task.demand) else float(task.most_rate.max())
                load[task.resources] += rate * task.graph.use[arcs].sum(axis=0)
        servers = {r.key[0]: k for k, r in enumerate(pool.resources) if r.kind.name == "server"}
        order = sorted(servers.values(), key=lambda k: (-load[k], k))
        rank = np.zeros(len(pool.resources))
        rank[order] = np.arange(len(order))
        for k, resource in enumerate(pool.resources):
            if resource.kind.name == "link":
                rank[k] = rank[servers[resource.key[0]]] + 0.5
        return rank

    def scales(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield scales of all resources [s], and ranks of servers, see :func:`at_scales`."""
        rank = self._rank()
        usual = np.array([float(np.median(some)) if some else math.inf for some in self._usual])
        tightest = np.array([min(some, default=math.inf) for some in self._usual])
        mixed = np.where(np.isfinite(self._native), self._native, usual)
        yield self._native, None
        for factor in _SHARES:
            yield factor * mixed, rank
        yield mixed, None
        yield np.minimum(mixed, tightest), None
        for factor in _LESS:
            if not self._has_worth or self._evaluator.objective.is_time:
                yield factor * mixed, rank
        for _ in range(RUNS):
            if not self._learnt:
                return
            yield self._learnt.pop(), rank

    def learn(self, found: Solution, is_better: bool) -> None:
        """Start again from the scales of an assignment that was better than all before."""
        if not is_better:
            return
        self._has_worth = self._has_worth or math.isfinite(found.value)
        promises = self._evaluator.promises
        there = promises.waits(promises.jobs(found.arcs), found.allocation.rates).scale
        found_scale = np.where(np.isfinite(self._native) & (there <= 0.0), self._native, there)
        # At given rates the scales found are the least: full stations let nothing in.
        factors = _AROUND if self._evaluator.objective.is_time else (1.0,)
        self._learnt += [factor * found_scale for factor in factors]
