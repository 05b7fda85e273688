"""Bounds that need no program: the best of every task, added up.

No assignment is better than one whose tasks all have their most accurate path and the largest
rate of any path. The same with one path kept bounds what that path can be part of, so
paths that can be part of nothing as good as a known assignment are left out before any program is
built. That is what keeps the numbers of a program near each other: a path that is 12 orders
faster than all others sets the unit of the throughput, unless it is worth too little to matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from code_opt.core.evaluator import Solution
from code_opt.core.settings import Settings
from code_opt.paths import PathPool, TaskPaths
from code_opt.paths.graph import FloatArray
from code_opt.reward import log_value

_MARGIN = 1e-9
"""Relative room for rounding."""
_FLOOR_MARGIN = 1e-6
"""The same where a floor on a total is compared, which may be met within tolerances."""


def simple_bound(pool: PathPool, settings: Settings) -> float:
    """Return a bound on the objective (a reward: its logarithm) of every assignment of a pool."""
    accuracy = sum(float(paths.max(initial=0.0)) for paths in _accuracies(pool))
    throughput = sum(float(task.most_rate.max(initial=0.0)) for task in pool.tasks)
    speed = sum(float(paths.max()) for paths in _speeds(pool) if len(paths))
    return float(_values(pool, settings, *np.array([[accuracy], [throughput], [speed]]))[0])


def bound_of_graphs(pool: PathPool, settings: Settings) -> float:
    """Return a bound on the objective of every assignment there is, whatever the pool holds."""
    accuracy = sum(
        weight * most_accurate(task)
        for weight, task in zip(pool.weights.tolist(), pool.tasks, strict=True)
    )
    throughput = sum(map(largest_rate, pool.tasks))
    speed = -sum(
        weight * float(task.graph.to_output(task.graph.seconds)[0])
        for weight, task in zip(pool.weights.tolist(), pool.tasks, strict=True)
        if not task.graph.is_empty
    )
    return float(_values(pool, settings, *np.array([[accuracy], [throughput], [speed]]))[0])


def competitive(pool: PathPool, settings: Settings, best: Solution | None) -> PathPool:
    """Return the pool without the paths that no assignment as good as ``best`` takes.

    Paths with which a floor on a total is out of reach go, too. The paths of ``best`` stay.
    A task that is left without any path proves that no assignment meets the floors.
    """
    value = -math.inf if best is None else best.value
    least = value - _MARGIN * (1.0 + abs(value)) if math.isfinite(value) else -math.inf
    keep = [np.ones(len(task), dtype=bool) for task in pool.tasks]
    own = [-1] * len(keep)
    if best is not None:
        own = [
            task.paths.numbers[path.arcs] for task, path in zip(pool.tasks, best.paths, strict=True)
        ]
    parts = _accuracies(pool), [task.most_rate for task in pool.tasks], _speeds(pool)
    while all(k.any() for k in keep):
        beside = [
            _beside([float(x[k].max()) for x, k in zip(part, keep, strict=True)]) for part in parts
        ]
        gone = 0
        for t, stays in enumerate(keep):
            totals = [part[t] + others[t] for part, others in zip(parts, beside, strict=True)]
            good = _values(pool, settings, *totals) >= least
            for total, floor in zip(
                totals, (settings.min_accuracy, settings.min_throughput), strict=False
            ):
                good &= total >= (floor or 0.0) * (1.0 - _FLOOR_MARGIN)
            if own[t] >= 0:
                good[own[t]] = True
            gone += int((stays & ~good).sum())
            stays &= good
        if not gone:
            break
    if all(k.all() for k in keep):
        return pool
    return PathPool(
        pool.topology,
        tuple(
            task.subset(np.flatnonzero(k).tolist())
            for task, k in zip(pool.tasks, keep, strict=True)
        ),
    )


def most_accurate(task: TaskPaths) -> float:
    """Return an accuracy that no path of the task's graph exceeds."""
    known = [path.accuracy for path in task.task.measured_paths]
    known += [alternative.accuracy for alternative in task.task.alternatives]
    measured = max(known, default=0.0)
    if task.graph.is_empty:
        return measured
    predicted = task.task.accuracy - float(task.graph.to_output(task.graph.drop)[0])
    return max(measured, min(predicted, 1.0), 0.0)


def largest_rate(task: TaskPaths) -> float:
    """Return a rate that no path of the task's graph exceeds."""
    graph, columns = task.graph, np.flatnonzero(task.is_rate_resource)
    least = max((float(graph.to_output(graph.use[:, c])[0]) for c in columns), default=0.0)
    # Of k resources one is used at least a k-th of the least total.
    total = graph.to_output(graph.use[:, columns].sum(axis=1))[0]
    least = max(least, float(total) / max(len(columns), 1))
    return max(min(task.demand, 1.0 / least if least > 0.0 else np.inf), task.floor)


def _accuracies(pool: PathPool) -> list[FloatArray]:
    """Return w[t] A[p] of every task."""
    return [
        weight * task.paths.accuracy
        for weight, task in zip(pool.weights.tolist(), pool.tasks, strict=True)
    ]


def _speeds(pool: PathPool) -> list[FloatArray]:
    """Return minus w[t] T[p] of every task [s]: the more, the better."""
    return [
        -weight * task.paths.seconds
        for weight, task in zip(pool.weights.tolist(), pool.tasks, strict=True)
    ]


def _values(
    pool: PathPool,
    settings: Settings,
    accuracy: FloatArray,
    throughput: FloatArray,
    speed: FloatArray,
) -> FloatArray:
    """Return the objective at totals, the last one being minus D, shape (n,)."""
    if settings.objective != "reward":
        of = {"throughput": throughput, "accuracy": accuracy, "latency": speed}
        return of[settings.objective]
    reward = pool.instance.reward
    return log_value(reward.accuracy, accuracy) + log_value(reward.throughput, throughput)


def _beside(most: Sequence[float]) -> list[float]:
    """Return for each entry the sum of all others, without subtracting (which loses digits)."""
    before = np.concatenate(([0.0], np.cumsum(most)[:-1]))
    after = np.concatenate((np.cumsum(most[::-1])[::-1][1:], [0.0]))
    return [float(x) for x in before + after]
