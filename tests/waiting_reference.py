"""Brute force under limits of percentiles: all paths of all tasks, and a grid of wait scales.

For fixed paths and fixed scales the best rates solve a linear program, so every point of the grid
gives an assignment that keeps all promises: none may be better than a proven bound. Orders of
work, paths and accuracies are those of the checker, which shares nothing with the methods.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import linprog

from code_opt.checker import InstanceIndex
from code_opt.instance import Instance
from code_opt.instance.model import INPUT, OUTPUT, Task
from code_opt.promise_checker import Recomputed, Walk, recompute
from code_opt.reward import log_reward


def all_paths(index: InstanceIndex, task: Task) -> Iterator[tuple[str, ...]]:
    """Yield the admissible paths of a task, as block ids."""
    heads: dict[str, set[str]] = {}
    for tail, head in index.trunk_arcs:
        heads.setdefault(tail, set()).add(head)
    for tail, head in index.connections(task):
        heads.setdefault(tail, set()).add(head)
    native = index.native_blocks(task)
    heads.setdefault(INPUT, set()).add(native[0])
    heads.setdefault(native[-1], set()).add(OUTPUT)
    stack = [(INPUT,)]
    while stack:
        path = stack.pop()
        for head in sorted(heads.get(path[-1], ())):
            if head == OUTPUT:
                blocks = path[1:]
                figures, accuracy = index.figures(task, blocks), index.accuracy(task, blocks, 0.0)
                is_late = task.max_latency is not None and figures.latency > task.max_latency
                is_wrong = not accuracy.admissible or accuracy.value < task.min_accuracy
                if not (figures.missing or is_late or is_wrong):
                    yield blocks
            else:
                stack.append((*path, head))


def best_on_grid(
    instance: Instance, points: int = 7, most: int = 400
) -> tuple[float, dict[str, tuple[str, ...]]] | None:
    """Return the largest log reward on the grid and its paths, None if nothing is feasible there.

    Args:
        instance: of single tasks, without limited memories.
        points: scales of a station on the grid.
        most: combinations of paths at most; a larger instance is refused.
    """
    index = InstanceIndex(instance)
    choices = [list(all_paths(index, task)) for task in instance.tasks]
    assert math.prod(map(len, choices)) <= most
    best: tuple[float, dict[str, tuple[str, ...]]] | None = None
    for paths in itertools.product(*choices):
        found = _best_rates(instance, index, paths, points)
        if found is None:
            continue
        weights = np.array([task.weight for task in instance.tasks])
        accuracies = np.array(
            [index.accuracy(t, p, 0.0).value for t, p in zip(instance.tasks, paths, strict=True)]
        )
        value = log_reward(
            instance.reward, float(weights @ accuracies / weights.sum()), float(found)
        )
        if best is None or value > best[0]:
            names = (task.id for task in instance.tasks)
            best = value, dict(zip(names, paths, strict=True))
    return best


def least_time(instance: Instance, most: int = 400) -> float | None:
    """Return the least average time at the demands, promised where percentiles are limited [s].

    None if nothing is feasible.

    Args:
        instance: of single tasks with demands, without limited memories.
        most: combinations of paths at most; a larger instance is refused.
    """
    index = InstanceIndex(instance)
    choices = [list(all_paths(index, task)) for task in instance.tasks]
    assert math.prod(map(len, choices)) <= most
    devices = {("server", server.id): 1.0 for server in instance.servers}
    devices |= {("link", *ends): 1.0 for ends, link in index.links.items() if link.bandwidth}
    total = sum(task.weight for task in instance.tasks)
    best: float | None = None
    for paths in itertools.product(*choices):
        pairs = list(zip(instance.tasks, paths, strict=True))
        walks = [
            Walk(
                task.id,
                task.id,
                float(task.demand or 0.0),
                index.figures(task, path).latency,
                [(key, figures.stays) for key, figures in index.steps(task, path)],
            )
            for task, path in pairs
        ]
        busy = dict.fromkeys(devices, 0.0)
        for walk in walks:
            for _, stays in walk.steps:
                for place, seconds in stays:
                    busy[place] += walk.rate * seconds
        if any(busy[place] > n * (1.0 + 1e-9) for place, n in devices.items()):
            continue
        there = recompute(walks, devices)
        times = []
        for task in instance.tasks:
            q, limit = task.latency_percentile, task.max_latency
            time = there.unloaded[task.id] if q is None else there.promised(task.id, q)
            times.append(math.inf if limit and time > limit * (1.0 + 1e-9) else time)
        mean = sum(task.weight * t for task, t in zip(instance.tasks, times, strict=True)) / total
        if math.isfinite(mean) and (best is None or mean < best):
            best = mean
    return best


def _best_rates(
    instance: Instance, index: InstanceIndex, paths: tuple[tuple[str, ...], ...], points: int
) -> float | None:
    """Return the largest throughput of fixed paths over the grid of scales."""
    devices = {("server", server.id): 1.0 for server in instance.servers}
    devices |= {("link", *ends): 1.0 for ends, link in index.links.items() if link.bandwidth}
    walks = [
        Walk(
            task.id,
            task.id,
            0.0,
            index.figures(task, path).latency,
            [(key, figures.stays) for key, figures in index.steps(task, path)],
        )
        for task, path in zip(instance.tasks, paths, strict=True)
    ]
    there = recompute(walks, devices)
    limited = [t for t in instance.tasks if t.max_latency and t.latency_percentile]
    needed: set[tuple[str, ...]] = set()
    frontier = [call.place for task in limited for call in there.calls[task.id]]
    everything = [call for calls in there.calls.values() for call in calls]
    while frontier:
        place = frontier.pop()
        if place not in needed:
            needed.add(place)
            frontier += [b for call in everything if call.place == place for b in call.before()]
    if any(not math.isfinite(there.waits[place].factor) for place in needed):
        return None
    # The largest scale that the limits alone leave to each station, and shares of it.
    rooms = {task.id: float(task.max_latency or 0.0) - there.unloaded[task.id] for task in limited}
    top = dict.fromkeys(needed, math.inf)
    for task in limited:
        for call in there.calls[task.id]:
            odds = math.log(len(there.calls[task.id]) / (1.0 - float(task.latency_percentile or 0)))
            odds += math.log(there.waits[call.place].factor)
            top[call.place] = min(top[call.place], rooms[task.id] / odds)
    usual = min((g for g in top.values() if math.isfinite(g)), default=1.0)
    grid = [
        [(g if math.isfinite(g) else 2.0 * usual) * 0.75**k for k in range(points)]
        for g in top.values()
    ]
    best = None
    for scales in itertools.product(*grid):
        found = _throughput(instance, there, dict(zip(top, scales, strict=True)), rooms, devices)
        if found is not None and (best is None or found > best):
            best = found
    return best


def _throughput(
    instance: Instance,
    there: Recomputed,
    scale: dict[tuple[str, ...], float],
    rooms: dict[str, float],
    devices: dict[tuple[str, ...], float],
) -> float | None:
    """Return the largest throughput at fixed scales, None where a requirement fails."""
    for task in instance.tasks:
        if task.id in rooms:
            calls = there.calls[task.id]
            q = float(task.latency_percentile or 0.0)
            wait = sum(
                scale[c.place] * math.log(there.waits[c.place].factor * len(calls) / (1.0 - q))
                for c in calls
            )
            if wait > rooms[task.id] * (1.0 + 1e-12):
                return None
    rows, rhs = [], []
    for place, n in devices.items():
        work = np.zeros(len(instance.tasks))
        count, late = work.copy(), work.copy()
        burst = 0.0
        for t, task in enumerate(instance.tasks):
            for call in there.calls[task.id]:
                if call.place != place:
                    continue
                work[t] += call.seconds
                if place in scale:
                    g = scale[place]
                    times = math.expm1(min(call.seconds / g, 600.0))
                    count[t] += g * times
                    before = call.before()
                    if before:
                        late[t] += times
                        burst = max(burst, len(before) * max(scale[b] for b in before))
        rows.append(work / n)
        if place in scale:
            rows += [count / n, 2.0 * burst * late / n]
    rows = [row for row in rows if row.any()]
    rhs = [1.0] * len(rows)
    bounds = [(float(t.floor), t.demand) for t in instance.tasks]
    units = np.array([1.0 / max(float(row[t]) for row in rows) for t in range(len(bounds))])
    outcome = linprog(
        -units,
        np.array(rows) * units,
        rhs,
        bounds=[
            (low / u, None if high is None else high / u)
            for (low, high), u in zip(bounds, units, strict=True)
        ],
    )
    return float(-outcome.fun) if outcome.status == 0 else None
