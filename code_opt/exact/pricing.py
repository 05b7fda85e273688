"""Pricing by shortest paths, where even the nondominated paths are too many to list.

The pool is then made by the master's duals. Label-setting over all tasks at once
(:mod:`code_opt.paths.labels`) ends every label that cannot become a path of larger profit than a
task has already, each path at its own largest rate, under its own latency and memory: a shortest
path problem with resources (Irnich and Desaulniers 2005, DOI 10.1007/0-387-25486-2_2). A node
keeps only so many labels, those of largest profit bound; the bounds of the others count in the
bound of the objective, so that it holds for every path there is, and more labels are kept when
fewer find nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.evaluator import Evaluator, Solution
from code_opt.core.master import RestrictedMaster
from code_opt.core.objective import ObjectiveFunction
from code_opt.core.settings import SMALLEST_GAP, Clock, Settings
from code_opt.exact.colgen import ColumnGeneration
from code_opt.heuristics.lns import search
from code_opt.paths import Duals, PathPool, PathPricing, TooManyLabels, Topology, build_pool, unite
from code_opt.paths.graph import FloatArray
from code_opt.reward import log_slope


@dataclass(frozen=True)
class PricedPool:
    """A pool made by duals.

    ``bound`` bounds the objective over every path there is (a reward by its logarithm); with
    ``is_complete`` no path outside of the pool can be part of anything better than ``best``.
    """

    pool: PathPool
    best: Solution
    bound: float
    is_complete: bool
    rounds: int
    duals: Duals | None
    """Behind the bound; None where time was over before there was any."""


def priced_pool(topology: Topology, settings: Settings, clock: Clock) -> PricedPool | None:
    """Return a pool made by duals, or None where that finds no assignment."""
    parameters = settings.parameters.path_pricing
    settings = replace(settings, formulation="colgen", progress=None)
    pool = _first_pool(topology, settings)
    if any(len(task) == 0 for task in pool.tasks):
        return None
    best = search(Evaluator(pool, settings), clock, seed=settings.seed).solution
    bound, rounds, found = math.inf, 0, None
    while rounds < parameters.rounds and not clock.is_over:
        rounds += 1
        objective = ObjectiveFunction.of(pool, settings)
        table = ColumnTable(pool)
        start = table.first_columns()
        if best is not None:
            start = np.concatenate((start, table.columns_of(best.arcs)))
        master = RestrictedMaster(
            Relaxation(table, objective, is_partial=True),
            start,
            best,
            max(settings.gap, SMALLEST_GAP),
            settings.parameters.column_generation.master,
        )
        if best is None and master.is_infeasible(clock) is not False:
            return None  # of the paths known; a proof needs all of them
        point = master.settle(clock)
        if point is None:
            break
        least = point.bound.best + parameters.least_gain
        for labels in parameters.labels:
            new = _priced(topology, point.duals, least, labels)
            united = unite([pool, new])
            wider = Relaxation(ColumnTable(united), objective, is_partial=True).bound(point.duals)
            # What was left out may have more profit than what was found.
            missed = np.maximum([task.paths.missed for task in new.tasks], wider.best)
            value = (wider.value + float((missed - wider.best).sum())) * objective.unit
            if value < bound:
                bound, found = value, (objective, point.duals, missed)
            if (wider.best - point.bound.best).sum() > parameters.least_gain * len(
                least
            ) or clock.is_over:
                break
            if (missed <= wider.best).all():
                break
        if (wider.best - point.bound.best).sum() <= parameters.least_gain * len(least):
            break  # no path has more profit: the relaxation over every path there is
        pool = united
    if found is None and not clock.is_over:
        return None
    best = _solve_over(pool, settings, clock, best)
    if best is None:
        return None
    is_complete = False
    if found is not None and not clock.is_over:
        objective, duals, most = found
        distance = max(bound - best.value, 0.0) / objective.unit + parameters.least_gain
        least, labels = most - distance, parameters.labels_within_gap
        try:
            near = _priced(topology, duals, least, labels, all_or_nothing=True)
            is_complete = True
        except TooManyLabels:
            near = _priced(topology, duals, least, parameters.labels[-1])
        pool = unite([pool, near])
        if not is_complete:
            best = _solve_over(pool, settings, clock, best) or best
    behind = None if found is None else found[1]
    return PricedPool(pool, best, bound, is_complete, rounds, behind)


def _solve_over(
    pool: PathPool, settings: Settings, clock: Clock, best: Solution | None
) -> Solution | None:
    """Return a good assignment over the paths known."""
    if clock.is_over:
        return best
    parameters = settings.parameters.path_pricing
    loose = replace(settings, gap=max(settings.gap, parameters.loose_gap))
    run = ColumnGeneration(Evaluator(pool, loose), clock, best, ColumnTable(pool))
    run.solve()
    return run.best


def _priced(
    topology: Topology,
    duals: Duals,
    least: FloatArray,
    labels: int,
    all_or_nothing: bool = False,
) -> PathPool:
    """Return the paths of enough profit at the master's duals."""
    return build_pool(topology, pricing=PathPricing(duals, least, labels, all_or_nothing))


def _first_pool(topology: Topology, settings: Settings) -> PathPool:
    """Return some good paths of each task, by duals guessed from the native paths."""
    instance, parameters = topology.instance, settings.parameters.path_pricing
    rates = np.array([topology.standalone_rate([t]) for t in range(len(instance.tasks))])
    weights = np.array([task.weight for task in instance.tasks])
    native = np.array([task.accuracy for task in instance.tasks])
    accuracy = max(float(weights @ native / weights.sum()), 1e-6)
    throughput = max(float(rates[np.isfinite(rates)].sum()), 1e-9)
    slopes = 1.0 / accuracy, 1.0 / throughput
    if settings.objective == "reward":
        reward = instance.reward
        slopes = log_slope(reward.accuracy, accuracy), log_slope(reward.throughput, throughput)
    # All capacities together count as much as all throughput.
    guess = max(slopes[1], 1e-12) * throughput / max(len(instance.servers), 1)
    any_profit = np.full(len(instance.tasks), -np.inf)
    pools = []
    for scale in parameters.first_scales:
        resource = np.full(len(topology.resources), scale * guess)
        duals = Duals(resource, max(slopes[0], 1e-12), slopes[1])
        pools.append(_priced(topology, duals, any_profit, parameters.labels[0]))
    return unite(pools)
