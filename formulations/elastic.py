"""The elastic model: the least change of the requirements that makes a problem feasible.

Every requirement of one or more kinds may give way, at a cost equal to its relative
change (Chinneck, *Feasibility and Infeasibility in Optimization*, 2008, section 6.3).
"""

from __future__ import annotations

import math
from typing import Any

import pyomo.core as pyo

from formulations.data import ElasticData, Rows
from formulations.parts import Terms, equal_rates, linear, load_of
from formulations.path import (
    average_accuracy_definition,
    extra_rate_needs_path,
    one_path_per_task,
    path_variables,
    prefix_is_in_use,
    rate_terms,
    shared_prefix_variables,
)


def build_elastic_model(data: ElasticData) -> pyo.ConcreteModel:
    """Return the elastic model of ``data``; its goal is minus the sum of relative changes."""
    model = pyo.ConcreteModel("elastic")
    path_variables(model, data.paths)
    model.average_accuracy = pyo.Var(bounds=(0.0, 1.0 / data.paths.goal.accuracy_unit))
    shared_prefix_variables(model, data.paths)
    elastic_variables(model, data)

    one_path_per_task(model, data.paths)
    extra_rate_needs_path(model)
    kept_floor_needs_path(model)
    elastic_rate_per_group(model, data)
    elastic_prefix_rate(model, data)
    prefix_is_in_use(model, data.paths)
    elastic_capacity(model, data)
    elastic_memory(model, data)
    average_accuracy_definition(model, data.paths)
    elastic_totals(model, data)

    least_change(model, data)
    return model


def elastic_variables(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """Relative changes and shares, each >= 0 and fixed where its kind may not give way.

    kept[p] <= 1: share of g[p], the rate that is kept of the floor of p's task where it is lowered
    (:func:`kept_rate`); more_capacity[i], more_memory[i]: growth of a capacity in units of
    ``capacity_unit[i]``, ``memory_unit[i]``, so that a row holds numbers near 1 however short
    the capacity is; less_accuracy, less_throughput <= 1: shares by which the floors on the totals
    (of the throughput: the part of it within reach, T') are lowered. A path that breaks limits of
    its task can only be chosen where those may give way, and one that cannot carry the floor only
    where floors or capacities may.
    """
    paths, elastic = data.paths, data.elastic
    floored = [p for p, t in enumerate(paths.task_of) if paths.floor[t] > 0.0]
    model.kept = pyo.Var(floored if "floor" in elastic else [], bounds=(0.0, 1.0))
    model.more_capacity = pyo.Var(range(len(paths.rate_rows.entries)), bounds=(0.0, None))
    model.more_memory = pyo.Var(range(len(paths.memory_rows.entries)), bounds=(0.0, None))
    model.less_accuracy = pyo.Var(bounds=(0.0, 1.0 if "total" in elastic else 0.0))
    model.less_throughput = pyo.Var(bounds=(0.0, 1.0 if "total" in elastic else 0.0))
    for kind, changes in (("capacity", model.more_capacity), ("memory", model.more_memory)):
        if kind not in elastic:
            for change in changes.values():
                change.setub(0.0)
    for path, violation in enumerate(data.path_violation):
        if violation > 0.0 and "path" not in elastic:
            model.choose[path].setub(0.0)
    if not {"floor", "capacity"} & elastic:
        for path in floored:
            if paths.most_rate[path] < paths.floor[paths.task_of[path]] * (1.0 - _TOLERANCE):
                model.choose[path].setub(0.0)


def kept_floor_needs_path(model: pyo.ConcreteModel) -> None:
    """kept[p] <= x[p]."""
    model.kept_floor_needs_path = pyo.Constraint(
        list(model.kept), rule=lambda m, p: m.kept[p] <= m.choose[p]
    )


def elastic_rate_per_group(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """sum over p of t: (g kept + (R - f) u) is the same for all tasks of a group."""

    def rate(task: int) -> Terms:
        paths = data.paths.paths_of[task]
        return [term for p in paths for term in elastic_rate(model, data, p)]

    equal_rates(model, "elastic_rate_per_group", data.paths.groups, rate)


def elastic_prefix_rate(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """phi[v] >= sum over p of t through v: (g kept + (R - f) u) / R[v]."""
    model.elastic_prefix_rate = pyo.ConstraintList()
    for prefix, carried in model.prefix_rate.items():
        most = _prefix_most(model, data, prefix)
        for paths in data.paths.prefixes[prefix]:
            rates = [(c / most, v) for p in paths for c, v in elastic_rate(model, data, p)]
            model.elastic_prefix_rate.add(linear(rates) <= carried)


def elastic_capacity(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """sum of use (g kept + (R - f) u) - C[i] more_capacity[i] <= 1, prefixes as in path."""
    model.capacity_unit = _elastic_rows(
        model,
        "elastic_capacity",
        data.paths.rate_rows,
        lambda path, amount: [(amount * c, v) for c, v in elastic_rate(model, data, path)],
        lambda v, amount: [(amount * _prefix_most(model, data, v), model.prefix_rate[v])],
        model.more_capacity,
    )


def elastic_memory(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """sum of memory use x - C[i] more_memory[i] <= 1, prefixes as in path."""
    model.memory_unit = _elastic_rows(
        model,
        "elastic_memory",
        data.paths.memory_rows,
        lambda path, amount: [(amount, model.choose[path])],
        lambda v, amount: [(amount, model.prefix_in_use[v])],
        model.more_memory,
    )


def elastic_totals(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """A >= min_accuracy (1 - less_accuracy); Th >= T' (1 - less_throughput).

    T' is the floor on the throughput, or all that any paths can reach where that is less.
    """
    goal, paths = data.paths.goal, data.paths
    model.throughput_within_reach = 0.0
    if goal.min_accuracy:
        unit = max(goal.accuracy_unit, goal.min_accuracy)
        asked = goal.min_accuracy / unit
        average = goal.accuracy_unit / unit * model.average_accuracy
        model.elastic_accuracy = pyo.Constraint(expr=average + asked * model.less_accuracy >= asked)
    if goal.min_throughput:
        rates = [elastic_rate(model, data, path) for path in range(len(paths.task_of))]
        most = sum(
            max(sum(c for c, _ in rates[p]) for p in of_t) for of_t in paths.paths_of if of_t
        )
        asked = goal.min_throughput
        reach = min(asked, most) if "total" in data.elastic else asked
        reach = reach if reach > 0.0 else asked
        model.throughput_within_reach = reach
        share = linear((c / reach, v) for terms in rates for c, v in terms)
        model.elastic_throughput = pyo.Constraint(expr=model.less_throughput + share >= 1.0)


def least_change(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """Maximise -(sum of all relative changes + sum of violation[p] x[p]), over ``goal_unit``.

    A floor of f is lowered by x[p] - g[p] / f kept[p] of it; that of a group for each of its
    tasks, but it is one change. Constants are left out: the whole throughput floor beyond T'.
    The unit is the largest of what some task needs on its own, whatever the others do: the
    goal is at least 1 then where changes are large, and tolerances mean the same.
    """
    paths = data.paths
    size = {task: len(group) for group in paths.groups for task in group}
    pairs: Terms = []
    for path, kept in model.kept.items():
        task = paths.task_of[path]
        share = kept_rate(data, path) / paths.floor[task]
        pairs.append((-1.0 / size.get(task, 1), model.choose[path]))
        pairs.append((share / size.get(task, 1), kept))
    for changes, units in (
        (model.more_capacity, model.capacity_unit),
        (model.more_memory, model.memory_unit),
    ):
        pairs += [(-units[i], change) for i, change in changes.items() if change.ub != 0.0]
    if "total" in data.elastic:
        asked = paths.goal.min_throughput
        share = model.throughput_within_reach / asked if asked else 1.0
        pairs += [(-1.0, model.less_accuracy), (-share, model.less_throughput)]
    pairs += [
        (-violation, model.choose[path])
        for path, violation in enumerate(data.path_violation)
        if violation > 0.0 and "path" in data.elastic
    ]
    used = [abs(c) for c, v in pairs if v.ub != 0.0]
    if data.elastic == {"total"} and not paths.goal.min_accuracy:
        unit = share
    else:
        unit = max(1.0, _least_needed(data)) if used else 1.0
    pairs = pairs or [(0.0, model.less_accuracy)]
    model.goal = pyo.Objective(expr=linear((c / unit, v) for c, v in pairs), sense=pyo.maximize)


def kept_rate(data: ElasticData, path: int) -> float:
    """Return g[p]: the floor, or what the capacities allow where these may not give way."""
    floor = data.paths.floor[data.paths.task_of[path]]
    if "capacity" in data.elastic:
        # No capacity need grow by more than what lowering all floors to 0 would save.
        room = 1.0 + len(data.paths.task_names) if "floor" in data.elastic else math.inf
        return min(floor, room * data.paths.most_rate[path])
    return min(floor, data.paths.most_rate[path]) if "floor" in data.elastic else floor


def elastic_rate(model: pyo.ConcreteModel, data: ElasticData, path: int) -> Terms:
    """Return the rate g kept + (R - f) u of a path."""
    pairs = rate_terms(model, data.paths, path)
    if path in model.kept:
        pairs[0] = (kept_rate(data, path), model.kept[path])
    return pairs


_TOLERANCE = 1e-9
"""Relative tolerance of a floor that takes all of a capacity."""


def _least_needed(data: ElasticData) -> float:
    """Return the most that a task on its own needs at its best path, 0 where floors give way."""
    if "floor" in data.elastic:
        return 0.0
    paths, need = data.paths, [0.0] * len(data.paths.task_of)
    for rows, is_rate in ((paths.rate_rows, True), (paths.memory_rows, False)):
        if ("capacity" if is_rate else "memory") in data.elastic:
            for entries in rows.entries:
                for path, amount in entries:
                    rate = paths.floor[paths.task_of[path]] if is_rate else 1.0
                    need[path] += max(0.0, amount * rate - 1.0)
    best = [math.inf] * len(paths.task_names)
    for path, task in enumerate(paths.task_of):
        violation = data.path_violation[path]
        if "path" in data.elastic:
            best[task] = min(best[task], need[path] + violation)
        elif violation <= 0.0:
            best[task] = min(best[task], need[path])
    return max((b for b in best if math.isfinite(b)), default=0.0)


def _prefix_most(model: pyo.ConcreteModel, data: ElasticData, prefix: int) -> float:
    """Return the largest rate of a shared prefix's paths [inferences/s]."""
    paths = [p for members in data.paths.prefixes[prefix] for p in members]
    most = max(sum(c for c, _ in elastic_rate(model, data, path)) for path in paths)
    return most if most > 0.0 else 1.0


def _elastic_rows(
    model: pyo.ConcreteModel,
    name: str,
    rows: Rows,
    terms: Any,
    shared_terms: Any,
    change: pyo.Var,
) -> list[float]:
    """Add the rows of resources; return the unit C[i] of each, its largest coefficient."""
    units = [1.0] * len(rows.entries)

    def rule(_: pyo.ConcreteModel, i: int) -> Any:
        load = load_of(rows, i, terms, shared_terms)
        if not load:
            return pyo.Constraint.Skip
        unit = units[i] = max(1.0, *(c for c, _ in load))
        return linear((c / unit, v) for c, v in load) - change[i] <= 1.0 / unit

    model.add_component(name, pyo.Constraint(range(len(rows.entries)), rule=rule))
    return units
