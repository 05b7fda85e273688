"""The master program of column generation: the relaxation of ``path``, column by column.

In ``path`` the pair ``(x[p], u[p])`` lies in the triangle ``0 <= u <= x <= 1``, whose corners
other than 0 are (1, 0) and (1, 1). So ``x = v + e``, ``u = e`` with ``v, e >= 0``: a path run
at its floor rate (``v``) or at R (``e``). That is the same linear relaxation without a row for
every path (Dantzig and Wolfe, Operations Research 8, 1960), so that a path that enters later
adds columns only.
"""

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo

from formulations.data import PathData
from formulations.parts import capacity, floors_on_totals, objective, totals, weighted
from formulations.path import extra_rate


def build_master_model(data: PathData, most_rate_of_task: list[float]) -> pyo.ConcreteModel:
    """Return the master program over the paths of ``data`` (symbols: MODEL.md).

    Args:
        data: the first columns; every resource is used by at least one of them, so that
            its row exists.
        most_rate_of_task: the largest R of any path of each task, in ``data`` or not
            [inferences/s].
    """
    model = pyo.ConcreteModel("master")
    master_variables(model, data)
    totals(model, data.goal, sum(most_rate_of_task) / data.goal.throughput_unit)

    one_answer_per_task(model, data)
    capacity(model, "server_and_link_capacity", data.rate_rows, _rate_terms(model, data))
    capacity(model, "memory_capacity", data.memory_rows, lambda p, use: _both(model, p, use, use))
    average_accuracy_definition(model, data)
    throughput_definition(model, data, most_rate_of_task)
    floors_on_totals(model, data.goal)

    objective(model, data.goal)
    return model


def master_variables(model: pyo.ConcreteModel, data: PathData) -> None:
    """v[p] >= 0: share of path p at its floor rate; e[p] >= 0: share of it at R.

    m[t]: share of task t that no path serves, fixed to 0 but for a proof of infeasibility.
    """
    paths = range(len(data.task_of))
    model.at_floor = pyo.Var(paths, domain=pyo.NonNegativeReals)
    model.at_most = pyo.Var(
        [p for p in paths if extra_rate(data, p) > 0.0], domain=pyo.NonNegativeReals
    )
    model.missing = pyo.Var(range(len(data.task_names)), bounds=(0.0, 0.0))


def one_answer_per_task(model: pyo.ConcreteModel, data: PathData) -> None:
    """sum over p of t: (v[p] + e[p]) + m[t] = 1."""
    of_task: list[list[Any]] = [[model.missing[t]] for t in range(len(data.task_names))]
    for path, task in enumerate(data.task_of):
        of_task[task] += [variable for _, variable in _both(model, path, 1.0, 1.0)]
    model.one_answer_per_task = pyo.Constraint(
        range(len(data.task_names)),
        rule=lambda _, t: (1.0, weighted([1.0] * len(of_task[t]), of_task[t]), 1.0),
    )


def average_accuracy_definition(model: pyo.ConcreteModel, data: PathData) -> None:
    """A = sum over p: w[t(p)] A[p] (v[p] + e[p]) + sum over t: w[t] m[t]."""
    pairs = [(-1.0, model.average_accuracy)]
    for path, (task, accuracy) in enumerate(zip(data.task_of, data.accuracy, strict=True)):
        share = data.weight[task] * accuracy
        pairs += _both(model, path, share, share)
    pairs += list(zip(data.weight, model.missing.values(), strict=True))
    model.average_accuracy_definition = pyo.Constraint(expr=_equals(pairs, 0.0))


def throughput_definition(
    model: pyo.ConcreteModel, data: PathData, most_rate_of_task: list[float]
) -> None:
    """Th = sum of floors + sum over p: (R[p] - f[t(p)]) e[p] + sum over t: (R[t] - f[t]) m[t].

    A task that is missing counts with the largest rate and all accuracy, so that floors on
    the totals are no reason for it to be missing.
    """
    unit = data.goal.throughput_unit
    pairs = [(-1.0, model.throughput)]
    pairs += [(extra_rate(data, p) / unit, model.at_most[p]) for p in model.at_most]
    pairs += [
        ((most - floor) / unit, model.missing[t])
        for t, (most, floor) in enumerate(zip(most_rate_of_task, data.floor, strict=True))
    ]
    model.throughput_definition = pyo.Constraint(expr=_equals(pairs, -sum(data.floor) / unit))


def _both(
    model: pyo.ConcreteModel, path: int, at_floor: float, at_most: float
) -> list[tuple[float, Any]]:
    pairs = [(at_floor, model.at_floor[path])]
    if path in model.at_most:
        pairs.append((at_most, model.at_most[path]))
    return pairs


def _rate_terms(model: pyo.ConcreteModel, data: PathData) -> Any:
    def terms(path: int, use: float) -> list[tuple[float, Any]]:
        floor = data.floor[data.task_of[path]]
        return _both(model, path, use * floor, use * data.most_rate[path])

    return terms


def _equals(pairs: list[tuple[float, Any]], value: float) -> tuple[float, Any, float]:
    return (value, weighted([c for c, _ in pairs], [v for _, v in pairs]), value)
