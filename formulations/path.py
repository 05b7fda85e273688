"""The path formulation: one binary per nondominated path.

The rate of a path is split into its floor and an extra, ``r[p] = f[t] x[p] +
(R[p] - f[t]) u[p]`` with ``0 <= u[p] <= x[p]``. This is the disaggregated form
``f x <= r <= R x`` with every variable in [0, 1].

Tasks of an input group have one rate, and prefixes that several of them can walk are paid
at the rate phi[v] at which any of them does. Only such prefixes need a variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyomo.core as pyo

from formulations.data import PathData
from formulations.parts import (
    Terms,
    capacity,
    equal_rates,
    floors_on_totals,
    linear,
    objective,
    totals,
)
from formulations.waiting import average_wait, waiting


def build_path_model(data: PathData) -> pyo.ConcreteModel:
    """Return the path formulation of ``data`` (symbols: MODEL.md)."""
    model = pyo.ConcreteModel("path")
    path_variables(model, data)
    most = (max((data.most_rate[p] for p in paths), default=0.0) for paths in data.paths_of)
    totals(model, data.goal, sum(most) / data.goal.throughput_unit)
    shared_prefix_variables(model, data)

    one_path_per_task(model, data)
    extra_rate_needs_path(model)
    one_rate_per_group(model, data)
    prefix_carries_rate(model, data)
    prefix_is_in_use(model, data)
    server_and_link_capacity(model, data)
    memory_capacity(model, data)
    average_accuracy_definition(model, data)
    throughput_definition(model, data)
    floors_on_totals(model, data.goal)
    if data.waiting is not None:
        waiting(model, data, data.waiting, lambda path: rate_terms(model, data, path))

    time = average_time(model, data)
    if data.waiting is not None and data.goal.objective == "latency":
        time += average_wait(model, data, data.waiting)
    objective(model, data.goal, time)
    return model


def path_variables(model: pyo.ConcreteModel, data: PathData) -> None:
    """x[p] in {0, 1}: path p is chosen; u[p] in [0, 1]: share of its extra rate in use.

    u[p] is 0 where R[p] = f[t(p)], that is, where there is no extra rate.
    """
    paths = range(len(data.task_of))
    model.choose = pyo.Var(paths, domain=pyo.Binary)
    model.extra = pyo.Var([p for p in paths if data.extra_rate[p] > 0.0], bounds=(0.0, 1.0))


def shared_prefix_variables(model: pyo.ConcreteModel, data: PathData) -> None:
    """phi[v] in [0, 1]: rate at which prefix v is computed / R[v]; y[v] in [0, 1]: v is in use.

    R[v] is the largest R[p] of its paths. Only prefixes that use a server or link need phi,
    only those that use a memory y. At binary x, y is binary by itself.
    """
    model.prefix_rate = pyo.Var(data.rate_rows.prefixes, bounds=(0.0, 1.0))
    model.prefix_in_use = pyo.Var(data.memory_rows.prefixes, bounds=(0.0, 1.0))


def one_path_per_task(model: pyo.ConcreteModel, data: PathData) -> None:
    """sum over p of t: x[p] = 1."""

    def rule(m: pyo.ConcreteModel, task: int) -> Any:
        paths = data.paths_of[task]
        if not paths:
            return pyo.Constraint.Infeasible
        return pyo.quicksum(m.choose[p] for p in paths) == 1.0

    model.one_path_per_task = pyo.Constraint(range(len(data.task_names)), rule=rule)


def extra_rate_needs_path(model: pyo.ConcreteModel) -> None:
    """u[p] <= x[p].

    With r[p] = f x[p] + (R - f) u[p] this is r[p] <= R[p] x[p]; its big-M R[p] is the
    largest rate that the servers, links and demand allow on path p, hence tight.
    """
    model.extra_rate_needs_path = pyo.Constraint(
        list(model.extra), rule=lambda m, p: m.extra[p] <= m.choose[p]
    )


def one_rate_per_group(model: pyo.ConcreteModel, data: PathData) -> None:
    """sum over p of t: (R[p] - f) u[p] is the same for all tasks t of a group.

    Their floors are the same, too, so this is sum over p: r[p].
    """

    def rate(task: int) -> Terms:
        paths = [p for p in data.paths_of[task] if p in model.extra]
        return [(data.extra_rate[p], model.extra[p]) for p in paths]

    equal_rates(model, "one_rate_per_group", data.groups, rate)


def prefix_carries_rate(model: pyo.ConcreteModel, data: PathData) -> None:
    """phi[v] >= sum over p of t through v: r[p] / R[v], for every task t that can walk v.

    The tasks of a group run at one rate, so phi[v] is this rate as soon as one of them goes
    through v. There is no big-M beside the R[p] in r[p].
    """
    model.prefix_carries_rate = pyo.ConstraintList()
    for prefix, carried in model.prefix_rate.items():
        most = data.most_of_prefix[prefix]
        for paths in data.prefixes[prefix]:
            rates = [(c / most, v) for p in paths for c, v in rate_terms(model, data, p)]
            model.prefix_carries_rate.add(linear(rates) <= carried)


def prefix_is_in_use(model: pyo.ConcreteModel, data: PathData) -> None:
    """y[v] >= sum over p of t through v: x[p], for every task t that can walk v."""
    model.prefix_is_in_use = pyo.ConstraintList()
    for prefix, in_use in model.prefix_in_use.items():
        for paths in data.prefixes[prefix]:
            model.prefix_is_in_use.add(pyo.quicksum(model.choose[p] for p in paths) <= in_use)


def server_and_link_capacity(model: pyo.ConcreteModel, data: PathData) -> None:
    """sum over p: own use * r[p] + sum over v: use of v * R[v] phi[v] <= 1."""
    capacity(
        model,
        "server_and_link_capacity",
        data.rate_rows,
        lambda path, amount: [(amount * c, v) for c, v in rate_terms(model, data, path)],
        lambda v, amount: [(amount * data.most_of_prefix[v], model.prefix_rate[v])],
    )


def memory_capacity(model: pyo.ConcreteModel, data: PathData) -> None:
    """sum over p: own memory * x[p] + sum over v: memory of v * y[v] <= 1, as a share."""
    capacity(
        model,
        "memory_capacity",
        data.memory_rows,
        lambda path, amount: [(amount, model.choose[path])],
        lambda v, amount: [(amount, model.prefix_in_use[v])],
    )


def average_accuracy_definition(model: pyo.ConcreteModel, data: PathData) -> None:
    """A = sum over p: w[t(p)] A[p] x[p]."""
    unit = data.goal.accuracy_unit
    share = [
        data.weight[t] * accuracy / unit
        for t, accuracy in zip(data.task_of, data.accuracy, strict=True)
    ]
    model.average_accuracy_definition = pyo.Constraint(
        expr=linear(zip(share, model.choose.values(), strict=True)) == model.average_accuracy
    )


def average_time(model: pyo.ConcreteModel, data: PathData) -> Terms:
    """D = sum over p: w[t(p)] T[p] x[p]."""
    return [
        (data.weight[t] * seconds, x)
        for t, seconds, x in zip(data.task_of, data.seconds, model.choose.values(), strict=True)
    ]


def throughput_definition(model: pyo.ConcreteModel, data: PathData) -> None:
    """Th = sum of floors + sum over p: (R[p] - f[t(p)]) u[p].

    The floors are constant because every task takes exactly one path.
    """
    unit = data.goal.throughput_unit
    beyond = linear((data.extra_rate[p] / unit, u) for p, u in model.extra.items())
    model.throughput_definition = pyo.Constraint(
        expr=beyond - model.throughput == -sum(data.floor) / unit
    )


def add_cut(
    model: pyo.ConcreteModel,
    paths: Sequence[int],
    on_path: Sequence[float],
    on_extra: Sequence[float],
    limit: float,
) -> Any:
    """sum over paths of (on_path x[p] + on_extra u[p]) <= limit, valid for every assignment."""
    if not hasattr(model, "cuts"):
        model.cuts = pyo.ConstraintList()
    pairs = [(a, model.choose[p]) for p, a in zip(paths, on_path, strict=True) if a != 0.0]
    pairs += [
        (b, model.extra[p])
        for p, b in zip(paths, on_extra, strict=True)
        if b != 0.0 and p in model.extra
    ]
    if not pairs:
        return None
    return model.cuts.add(linear(pairs) <= limit)


def rate_terms(model: pyo.ConcreteModel, data: PathData, path: int) -> Terms:
    """Return r[p] = f x[p] + (R[p] - f) u[p]."""
    floor = data.floor[data.task_of[path]]
    terms = [(floor, model.choose[path])] if floor > 0.0 else []
    if path in model.extra:
        terms.append((data.extra_rate[path], model.extra[path]))
    return terms
