"""Limits of percentiles in the planning model: wait scales of given rates, beside units.

In a situation, and under a failure, every station has one level: an interval of wait scales
(:mod:`formulations.waiting`). Rates are demands, so the load at a scale is linear in the binaries,
and n of (1) is what is bought:

    sum over p: e[p,k] d[t(p)] x[p] <= C + v n + M (1 - Z[k])

with e the effective time at the upper end of level k and Z[k] the sum of the levels up to k. The
limits (2) stand at the lower ends. So the program bounds the cost for every choice of scales.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyomo.core as pyo

from formulations.data import WaitingData
from formulations.parts import linear
from formulations.plan import PlanData, running_in_failure
from formulations.waiting import (
    allowed_levels,
    at_most,
    level_suits_later_jobs,
    level_suits_paths,
    level_variables,
    one_level_per_station,
    upper_ends,
    waits_fit_limit,
)


@dataclass(frozen=True)
class PlanLevels:
    """Levels of S stations."""

    waiting: WaitingData
    """Its paths are those of the plan; counts are shares of what ``share`` is counted in."""
    rows: Sequence[int]
    """Number of each station among the rate rows."""
    unit: Sequence[float]
    """One unit of each, in the unit of its rate row, however large it is."""
    share: Sequence[float]
    """What is 1 in its rate row, in the unit of the counts."""
    own: Sequence[Sequence[Mapping[int, float]]]
    """For each station and limited task there: what an inference on its paths counts at the
    largest scale that their own limits allow."""


@dataclass(frozen=True)
class _Running:
    """Paths at rates that stations have to carry."""

    period: int
    rate: Sequence[float]
    lost: tuple[int, float, Any] | None = None
    """Rate row, capacity that is gone there, and the variable that is 1 if that matters."""


def waiting_of_plan(model: pyo.ConcreteModel, data: PlanData, levels: PlanLevels) -> None:
    """Add levels, their loads and the limits, in every situation and under every failure."""
    operations = [
        *((k.choice, None, _Running(k.period, k.demand)) for k in data.situations),
        *(
            (failure.choice, f, _Running(failure.period, keep, _lost(model, data, f)))
            for f, failure in enumerate(data.failures)
            for keep in failure.keep
        ),
    ]
    model.waits = pyo.Block(range(len(operations)))
    for number, (choice, f, running) in enumerate(operations):
        block = model.waits[number]
        if f is None:
            block.choose = {p: model.choose[choice, p] for p in range(len(data.task_of))}
        else:
            block.choose = paths_in_failure(block, model, data, f)
        level_variables(block, levels.waiting)
        one_level_per_station(block, levels.waiting)
        level_suits_paths(block, data.task_of, levels.waiting)
        waits_fit_limit(block, levels.waiting)
        level_suits_later_jobs(block, levels.waiting)
        load_at_own_scale(block, model, data, levels, running)
        load_at_planned_level(block, model, data, levels, running)
        block.loops = pyo.ConstraintList()


def paths_in_failure(block: Any, model: pyo.ConcreteModel, data: PlanData, f: int) -> Any:
    """r[p] in [0, 1] is what runs of path p under failure f: x[c,p] + y[f,p], or b[f,p]."""
    block.running = pyo.Var(range(len(data.task_of)), bounds=(0.0, 1.0))
    block.running_is = pyo.ConstraintList()
    for p, variable in block.running.items():
        parts = [(1.0, part) for part in running_in_failure(model, data, f, p)]
        block.running_is.add((0.0, linear([*parts, (-1.0, variable)]), 0.0))
    return dict(block.running.items())


def load_at_own_scale(
    block: Any, model: pyo.ConcreteModel, data: PlanData, levels: PlanLevels, running: _Running
) -> None:
    """sum over p of t: e[p] d[t] x[p] + sum over other p: tau[p] d[t(p)] x[p] <= C + v n.

    For every limited task t at a station, e being its effective times at the largest scales that
    its own limits allow. The levels imply it, but not their relaxation.
    """
    block.load_at_own_scale = pyo.ConstraintList()
    for s, station in enumerate(levels.waiting.stations):
        last = len(station.lower) - 1
        for own in levels.own[s]:
            pairs = []
            for path, counts in station.loads:
                load = own.get(path, counts[last]) * running.rate[data.task_of[path]]
                if load > 0.0:
                    pairs.append((load, block.choose[path]))
            if pairs:
                block.load_at_own_scale.add(
                    at_most(*_beside_units(model, data, levels, running, s, pairs))
                )


def _beside_units(
    model: pyo.ConcreteModel,
    data: PlanData,
    levels: PlanLevels,
    running: _Running,
    s: int,
    pairs: list[tuple[float, Any]],
) -> tuple[list[tuple[float, Any]], float]:
    """Return both sides of pairs <= C + v n - lost o of a station."""
    i, share = levels.rows[s], levels.share[s]
    present = (data.present[i] if data.present else 1.0) * share
    pairs = list(pairs)
    if levels.unit[s] > 0.0:
        pairs.append((-levels.unit[s] * share, model.units[running.period, i]))
    if running.lost is not None and running.lost[0] == i:
        pairs.append((running.lost[1] * share, running.lost[2]))
    return pairs, present


def load_at_planned_level(
    block: Any, model: pyo.ConcreteModel, data: PlanData, levels: PlanLevels, running: _Running
) -> None:
    """sum over p: e[p,k] d[t] x[p] <= C + v n + sum over j beyond k: M[k,j] z[j].

    For every upper end but the last. Where a level j beyond is chosen, the load at j is at most
    C + v n, and that at k is at most the largest e[p,k] / e[p,j] times that; and it is at most what
    the paths that allow j can load at all. M is the lesser of what both leave beyond C + v n. A
    path that counts more than all that can be bought has no place at the level:

        sum over these p of t: x[p] + Z[k] <= 1
    """
    block.load_at_level = pyo.ConstraintList()
    block.no_place_at_level = pyo.ConstraintList()
    allowed = allowed_levels(levels.waiting)
    for s, station in enumerate(levels.waiting.stations):
        i = levels.rows[s]
        present = (data.present[i] if data.present else 1.0) * levels.share[s]
        unit = levels.unit[s] * levels.share[s]
        most = present + unit * data.most_units[i]
        is_hit = running.lost is not None and running.lost[0] == i
        gone = running.lost[1] * levels.share[s] if running.lost is not None and is_hit else 0.0
        last = len(station.lower) - 1
        z = [block.level[s, k] for k in range(last + 1)]
        for k, upto in upper_ends(station):
            pairs: list[tuple[float, Any]] = []
            largest = [[0.0] * len(data.task_names) for _ in range(last + 1)]
            ratio = [1.0] * (last + 1)
            displaced: dict[int, list[int]] = {}
            for path, counts in station.loads:
                task = data.task_of[path]
                rate = running.rate[task]
                load = counts[k] * rate
                if load <= 0.0:
                    continue
                if load > most:
                    displaced.setdefault(task, []).append(path)
                    load = most
                if load > 0.0:
                    pairs.append((load, block.choose[path]))
                for j in allowed.get((s, path), range(last + 1)):
                    if j > upto:
                        largest[j][task] = max(largest[j][task], load)
                        at_j = min(counts[j] * rate, most)
                        ratio[j] = max(ratio[j], load / at_j if at_j > 0.0 else math.inf)
            for paths in displaced.values():
                users = [(1.0, block.choose[p]) for p in paths]
                block.no_place_at_level.add(
                    at_most([*users, *((1.0, z[j]) for j in range(upto + 1))], 1.0)
                )
            if not pairs:
                continue
            for j in range(upto + 1, last + 1):
                beyond = max(sum(largest[j]) - (present - gone), 0.0)
                if ratio[j] < math.inf:
                    beyond = min(beyond, (ratio[j] - 1.0) * most)
                if beyond > 0.0:
                    pairs.append((-beyond, z[j]))
            block.load_at_level.add(at_most(*_beside_units(model, data, levels, running, s, pairs)))


def more_units_needed(
    model: pyo.ConcreteModel,
    running: Sequence[Sequence[Any]],
    period: int,
    units: Mapping[int, int],
) -> dict[int, Any]:
    """Cut off a choice of paths with units that break a promise, and with fewer ones.

        sum over i: w[i] >= 1 - sum over r in R: (1 - sum of the binaries in r)
        n[h,i] >= (units[i] + 1) w[i]

    with new binaries w: where all paths run, one of the stations needs a unit more. More units
    break no promise, so that holds for all numbers up to these.

    Args:
        model: a planning model.
        running: R: of each path that runs the disjoint binaries that set it.
        period: h.
        units: of each rate row of which more could help and are sold; without any of them the
            choice of paths is cut off.

    Returns:
        w by the number of the rate row.
    """
    if not hasattr(model, "more_units"):
        model.more_units = pyo.VarList(domain=pyo.Binary)
        model.more_units_needed = pyo.ConstraintList()
    rows = model.more_units_needed
    chosen = {i: model.more_units.add() for i in units}
    for i, more in chosen.items():
        body = linear([(units[i] + 1.0, more), (-1.0, model.units[period, i])])
        rows.add((None, body, 0.0))
    pairs = [(1.0, variable) for variables in running for variable in variables]
    pairs += [(-1.0, more) for more in chosen.values()]
    rows.add((None, linear(pairs), len(running) - 1.0))
    return chosen


def _lost(model: pyo.ConcreteModel, data: PlanData, f: int) -> tuple[int, float, Any] | None:
    failure = data.failures[f]
    if failure.lost is None:
        return None
    return failure.server, failure.lost, model.in_service[f]
