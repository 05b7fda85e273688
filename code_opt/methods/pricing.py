"""Pricing by shortest paths, where even the nondominated paths are too many to list.

The pool is then made by prices. Label-setting over all tasks at once
(:mod:`code_opt.paths.labels`) ends every label that cannot become a path worth as much as a
task has already, each path being worth what it is at its own largest rate, under its own
latency and memory: a shortest path with resources. A node keeps only so many labels, those
that promise most; what the others promise counts in the bound, so that it holds for every path
there is, and more labels are kept when fewer find nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from code_opt.instance.model import Instance
from code_opt.methods.assignment import Judge, Solution
from code_opt.methods.colgen import ColumnGeneration
from code_opt.methods.columns import PathTable, Prices
from code_opt.methods.heuristic import search
from code_opt.methods.master import RestrictedMaster
from code_opt.methods.settings import Clock, Settings
from code_opt.paths import PathPool, PathPrices, TooManyLabels, Topology, build_pool, unite
from code_opt.paths.graph import FloatArray
from code_opt.reward import log_slope

_FIRST_SCALES = (0.1, 0.3, 1.0, 3.0)
"""Prices of the first pools, as multiples of a guess."""
_LABELS, _LABELS_WITHIN_GAP = (8, 64, 512), 4000
"""Labels kept at a node, more when fewer find nothing; and when all paths within the gap are
wanted."""
_ROUNDS, _GAP_ROUNDS = 30, 3
_GAIN = 1e-7
"""Least gain of the objective, per task, that a path must promise."""
_LOOSE_GAP = 1e-3
"""Gap at which a solve over a part of the paths ends, at the latest."""


@dataclass(frozen=True)
class PricedPool:
    """A pool made by prices.

    ``bound`` bounds the objective over every path there is (a reward by its logarithm); with
    ``is_complete`` no path outside of the pool can be part of anything better than ``best``.
    """

    pool: PathPool
    best: Solution
    bound: float
    is_complete: bool
    rounds: int


def priced_pool(instance: Instance, settings: Settings, clock: Clock) -> PricedPool | None:
    """Return a pool made by prices, or None where that finds no assignment."""
    settings = replace(settings, formulation="colgen", progress=None)
    pool = _first_pool(instance, settings)
    if any(len(task) == 0 for task in pool.tasks):
        return None
    best = search(Judge(pool, settings), clock, seed=settings.seed).solution
    bound, rounds, found = math.inf, 0, None
    while rounds < _ROUNDS and not clock.is_over:
        rounds += 1
        judge = Judge(pool, settings)
        table = PathTable(pool, settings, is_partial=True)
        start = table.first_answers()
        if best is not None:
            start = np.concatenate((start, table.numbers_of(best)))
        master = RestrictedMaster(judge, table, start, best)
        if best is None and master.is_infeasible(clock) is not False:
            return None  # of the paths known; a proof needs all of them
        point = master.settle(clock)
        if point is None:
            break
        least = point.bound.best + _GAIN
        for labels in _LABELS:
            new = _priced(instance, table, point.prices, least, labels)
            united = unite([pool, new])
            answer = PathTable(united, settings, is_partial=True).bound(point.prices)
            # What was left out may be worth more than what was found.
            missed = np.maximum([task.paths.missed for task in new.tasks], answer.best)
            value = (answer.value + float((missed - answer.best).sum())) * _unit(table)
            if value < bound:
                bound, found = value, (table, point.prices, missed)
            if (answer.best - point.bound.best).sum() > _GAIN * len(least) or clock.is_over:
                break
            if (missed <= answer.best).all():
                break
        if (answer.best - point.bound.best).sum() <= _GAIN * len(least):
            break  # no path is worth more: the relaxation over every path there is
        pool = united
    if found is None and not clock.is_over:
        return None
    best = _solve_over(pool, settings, clock, best)
    if best is None:
        return None
    is_complete = False
    if found is not None and not clock.is_over:
        table, prices, most = found
        distance = max(bound - best.log_value, 0.0) / _unit(table) + _GAIN
        least = most - distance
        try:
            near = _priced(instance, table, prices, least, _LABELS_WITHIN_GAP, all_or_nothing=True)
            is_complete = True
        except TooManyLabels:
            near = _priced(instance, table, prices, least, _LABELS[-1])
        pool = unite([pool, near])
        if not is_complete:
            best = _solve_over(pool, settings, clock, best) or best
    return PricedPool(pool, best, bound, is_complete, rounds)


def _solve_over(
    pool: PathPool, settings: Settings, clock: Clock, best: Solution | None
) -> Solution | None:
    """Return a good assignment over the paths known."""
    if clock.is_over:
        return best
    loose = replace(settings, gap=max(settings.gap, _LOOSE_GAP))
    run = ColumnGeneration(Judge(pool, loose), clock, best)
    run.solve()
    return run.best


def _priced(
    instance: Instance,
    table: PathTable,
    prices: Prices,
    least: FloatArray,
    labels: int,
    all_or_nothing: bool = False,
) -> PathPool:
    """Return the paths that are worth enough at the master's prices."""
    offer = PathPrices(
        resource=prices.resource,
        accuracy=prices.accuracy,
        rate=prices.throughput / table.unit,
        least=least,
        most_labels=labels,
        all_or_nothing=all_or_nothing,
    )
    return build_pool(instance, prices=offer)


def _first_pool(instance: Instance, settings: Settings) -> PathPool:
    """Return some good paths of each task, by prices guessed from the native paths."""
    topology = Topology(instance)
    rates = np.array([topology.standalone_rate([t]) for t in range(len(instance.tasks))])
    weights = np.array([task.weight for task in instance.tasks])
    native = np.array([task.accuracy for task in instance.tasks])
    accuracy = max(float(weights @ native / weights.sum()), 1e-6)
    throughput = max(float(rates[np.isfinite(rates)].sum()), 1e-9)
    slopes = 1.0 / accuracy, 1.0 / throughput
    if settings.objective == "reward":
        reward = instance.reward
        slopes = log_slope(reward.accuracy, accuracy), log_slope(reward.throughput, throughput)
    # All capacities together are worth what all throughput is.
    guess = max(slopes[1], 1e-12) * throughput / max(len(instance.servers), 1)
    pools = [
        build_pool(
            instance,
            prices=PathPrices(
                resource=np.full(len(topology.resources), scale * guess),
                accuracy=max(slopes[0], 1e-12),
                rate=slopes[1],
                least=np.full(len(instance.tasks), -np.inf),
                most_labels=_LABELS[0],
            ),
        )
        for scale in _FIRST_SCALES
    ]
    return unite(pools)


def _unit(table: PathTable) -> float:
    """Return what the models' goal is counted in."""
    return table.unit if table.settings.objective == "throughput" else 1.0
