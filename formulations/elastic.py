"""The elastic model: the least change of the requirements that makes a problem feasible.

Every requirement of one or more kinds may give way, at a cost equal to its relative
change (Chinneck, *Feasibility and Infeasibility in Optimization*, 2008, section 6.3).
"""

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo

from formulations.data import ElasticData, Rows
from formulations.parts import weighted
from formulations.path import (
    average_accuracy_definition,
    extra_rate,
    extra_rate_needs_path,
    one_path_per_task,
    path_variables,
    prefix_is_in_use,
    prefix_most,
    rate_terms,
    shared_prefix_variables,
)


def build_elastic_model(data: ElasticData) -> pyo.ConcreteModel:
    """Return the elastic model of ``data``; its goal is minus the sum of relative changes."""
    model = pyo.ConcreteModel("elastic")
    path_variables(model, data.paths)
    model.average_accuracy = pyo.Var(bounds=(0.0, 1.0))
    shared_prefix_variables(model, data.paths)
    elastic_variables(model, data)

    one_path_per_task(model, data.paths)
    extra_rate_needs_path(model)
    lowered_floor_needs_path(model, data)
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
    """Relative changes, each >= 0 and fixed to 0 where its kind may not give way.

    lowered[p] <= 1: share by which the floor of p's task is lowered; more_capacity[i],
    more_memory[i]: share by which a capacity is raised; less_accuracy, less_throughput
    <= 1: shares by which the floors on the totals are lowered. A path that breaks limits
    of its task can only be chosen where those may give way.
    """
    paths, elastic = data.paths, data.elastic
    model.lowered = pyo.Var(range(len(paths.task_of)), bounds=(0.0, _most(elastic, "floor", 1.0)))
    most = _most(elastic, "capacity", _LARGEST_CHANGE)
    model.more_capacity = pyo.Var(range(len(paths.rate_rows.entries)), bounds=(0.0, most))
    most = _most(elastic, "memory", _LARGEST_CHANGE)
    model.more_memory = pyo.Var(range(len(paths.memory_rows.entries)), bounds=(0.0, most))
    model.less_accuracy = pyo.Var(bounds=(0.0, _most(elastic, "total", 1.0)))
    model.less_throughput = pyo.Var(bounds=(0.0, _most(elastic, "total", 1.0)))
    if "path" not in elastic:
        for path, violation in enumerate(data.path_violation):
            if violation > 0.0:
                model.choose[path].setub(0.0)


def lowered_floor_needs_path(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """lowered[p] <= x[p]."""
    model.lowered_floor_needs_path = pyo.Constraint(
        range(len(data.paths.task_of)),
        rule=lambda m, p: (None, weighted([1.0, -1.0], [m.lowered[p], m.choose[p]]), 0.0),
    )


def elastic_rate_per_group(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """sum over p of t: (f (x - lowered) + (R - f) u) is the same for all tasks of a group."""
    paths = data.paths
    of_task: dict[int, list[tuple[float, Any]]] = {}
    for path, task in enumerate(paths.task_of):
        of_task.setdefault(task, []).extend(_elastic_rate(model, data, path))
    model.elastic_rate_per_group = pyo.ConstraintList()
    for first, *others in paths.groups:
        for task in others:
            pairs = of_task.get(task, []) + [(-c, v) for c, v in of_task.get(first, [])]
            if pairs:
                unit = max(abs(c) for c, _ in pairs)
                model.elastic_rate_per_group.add(
                    (0.0, weighted([c / unit for c, _ in pairs], [v for _, v in pairs]), 0.0)
                )


def elastic_prefix_rate(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """R[v] phi[v] >= sum over p of t through v: (f (x - lowered) + (R - f) u)."""
    model.elastic_prefix_rate = pyo.ConstraintList()
    for prefix in model.prefix_rate:
        unit = prefix_most(data.paths, prefix)
        for paths in data.paths.prefixes[prefix]:
            pairs = [(-1.0, model.prefix_rate[prefix])]
            for path in paths:
                pairs += [(c / unit, v) for c, v in _elastic_rate(model, data, path)]
            model.elastic_prefix_rate.add(
                (None, weighted([c for c, _ in pairs], [v for _, v in pairs]), 0.0)
            )


def elastic_capacity(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """sum of use (f (x - lowered) + (R - f) u) - more_capacity[i] <= 1, prefixes as in path."""
    _elastic_rows(
        model,
        "elastic_capacity",
        data.paths.rate_rows,
        lambda path, amount: [(amount * c, v) for c, v in _elastic_rate(model, data, path)],
        lambda v, amount: [(amount * prefix_most(data.paths, v), model.prefix_rate[v])],
        model.more_capacity,
    )


def elastic_memory(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """sum of memory use x - more_memory[i] <= 1, prefixes as in path."""
    _elastic_rows(
        model,
        "elastic_memory",
        data.paths.memory_rows,
        lambda path, amount: [(amount, model.choose[path])],
        lambda v, amount: [(amount, model.prefix_in_use[v])],
        model.more_memory,
    )


def elastic_totals(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """A >= min_accuracy (1 - less_accuracy); Th >= min_throughput (1 - less_throughput)."""
    goal, paths = data.paths.goal, data.paths
    if goal.min_accuracy:
        pairs = [(1.0, model.average_accuracy), (goal.min_accuracy, model.less_accuracy)]
        model.elastic_accuracy = pyo.Constraint(expr=_at_least(pairs, goal.min_accuracy))
    if goal.min_throughput:
        # Relative to the floor itself, so that the row stays near 1.
        scale = 1.0 / goal.min_throughput
        pairs = [(1.0, model.less_throughput)]
        for path, task in enumerate(paths.task_of):
            floor = paths.floor[task] * scale
            if floor > 0.0:
                pairs += [(floor, model.choose[path]), (-floor, model.lowered[path])]
            if path in model.extra:
                pairs.append((extra_rate(paths, path) * scale, model.extra[path]))
        model.elastic_throughput = pyo.Constraint(expr=_at_least(pairs, 1.0))


def least_change(model: pyo.ConcreteModel, data: ElasticData) -> None:
    """Maximise -(sum of all relative changes + sum of violation[p] x[p]).

    The floor of a group is lowered for each of its tasks, but is one change.
    """
    size = {task: len(group) for group in data.paths.groups for task in group}
    pairs = [
        (-1.0 / size.get(data.paths.task_of[path], 1), model.lowered[path])
        for path in model.lowered
    ]
    pairs += [
        (-1.0, variable)
        for changes in (model.more_capacity, model.more_memory)
        for variable in changes.values()
    ]
    pairs += [(-1.0, model.less_accuracy), (-1.0, model.less_throughput)]
    pairs += [
        (-violation, model.choose[path])
        for path, violation in enumerate(data.path_violation)
        if violation > 0.0
    ]
    model.goal = pyo.Objective(
        expr=weighted([c for c, _ in pairs], [v for _, v in pairs]), sense=pyo.maximize
    )


_LARGEST_CHANGE = 1e6
"""A capacity is never asked to grow by more than this factor."""


def _most(elastic: frozenset[str], kind: str, most: float) -> float:
    return most if kind in elastic else 0.0


def _at_least(pairs: list[tuple[float, Any]], least: float) -> tuple[float, Any, None]:
    return (least, weighted([c for c, _ in pairs], [v for _, v in pairs]), None)


def _elastic_rate(
    model: pyo.ConcreteModel, data: ElasticData, path: int
) -> list[tuple[float, Any]]:
    """Return f (x - lowered) + (R - f) u as pairs of coefficient and variable."""
    floor = data.paths.floor[data.paths.task_of[path]]
    pairs = rate_terms(model, data.paths, path)
    if floor > 0.0:
        pairs.insert(1, (-floor, model.lowered[path]))
    return pairs


def _elastic_rows(
    model: pyo.ConcreteModel,
    name: str,
    rows: Rows,
    terms: Any,
    shared_terms: Any,
    change: pyo.Var,
) -> None:
    def rule(_: pyo.ConcreteModel, i: int) -> Any:
        pairs = [pair for user, amount in rows.entries[i] for pair in terms(user, amount)]
        pairs += [pair for v, amount in rows.shared_of(i) for pair in shared_terms(v, amount)]
        if not pairs:
            return pyo.Constraint.Skip
        pairs.append((-1.0, change[i]))
        return (None, weighted([c for c, _ in pairs], [v for _, v in pairs]), 1.0)

    model.add_component(name, pyo.Constraint(range(len(rows.entries)), rule=rule))
