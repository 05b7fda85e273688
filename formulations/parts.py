"""Parts that the formulations share: totals, floors on them, the reward and objectives.

A model that uses them has the variables ``average_accuracy`` (A in units of
``Goal.accuracy_unit``) and ``throughput`` (Th in units of ``Goal.throughput_unit``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyomo.core as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from formulations.data import Goal, Rows

Terms = list[tuple[float, Any]]
"""A linear expression as pairs of coefficient and variable: multiplied out, as solvers want it."""


def linear(terms: Iterable[tuple[float, Any]]) -> LinearExpression:
    """Return sum of coefficient * variable.

    Pyomo's own sums drop what is 0 and may come out as numbers, which make no constraint; and a
    solver takes rows that are added later as they are, without a walk through an expression.
    """
    terms = list(terms)
    return weighted([c for c, _ in terms], [v for _, v in terms])


def weighted(coefficients: Sequence[float], variables: Sequence[Any]) -> LinearExpression:
    """Return sum of coefficient * variable, given as two lists."""
    return LinearExpression(linear_coefs=list(coefficients), linear_vars=list(variables))


def carries(prefix: Any, users: Sequence[Any]) -> Any:
    """sum of users <= prefix, for the variable of a shared prefix and those of paths through it."""
    return (None, weighted([*[1.0] * len(users), -1.0], [*users, prefix]), 0.0)


def totals(model: pyo.ConcreteModel, goal: Goal, most_throughput: float) -> None:
    """Variables A in [0, 1] and Th in [0, most_throughput], each in its unit."""
    model.average_accuracy = pyo.Var(bounds=(0.0, 1.0 / goal.accuracy_unit))
    model.throughput = pyo.Var(bounds=(0.0, most_throughput))


def floors_on_totals(model: pyo.ConcreteModel, goal: Goal) -> None:
    """A >= min_accuracy and Th >= min_throughput, where asked for (as bounds)."""
    if goal.min_accuracy is not None:
        model.average_accuracy.setlb(goal.min_accuracy / goal.accuracy_unit)
    if goal.min_throughput is not None:
        model.throughput.setlb(goal.min_throughput / goal.throughput_unit)


def capacity(
    model: pyo.ConcreteModel,
    name: str,
    rows: Rows,
    terms: Callable[[int, float], Terms],
    shared_terms: Callable[[int, float], Terms] | None = None,
) -> None:
    """sum over users of use * rate <= 1 for every server and link.

    Args:
        model: gets the constraint ``name``.
        name: name of the constraint.
        rows: use per inference.
        terms: what an index that uses an amount adds to the load.
        shared_terms: the same for the shared prefixes of the rows, if there are any.
    """

    def rule(_: pyo.ConcreteModel, i: int) -> Any:
        load = load_of(rows, i, terms, shared_terms)
        return linear(load) <= 1.0 if load else pyo.Constraint.Skip

    model.add_component(name, pyo.Constraint(range(len(rows.entries)), rule=rule))


def load_of(
    rows: Rows,
    resource: int,
    terms: Callable[[int, float], Terms],
    shared_terms: Callable[[int, float], Terms] | None = None,
) -> Terms:
    """Return the load of a resource, see :func:`capacity`."""
    load = [term for user, amount in rows.entries[resource] for term in terms(user, amount)]
    if shared_terms is not None:
        shared = rows.shared_of(resource)
        load += [term for v, amount in shared for term in shared_terms(v, amount)]
    return load


def equal_rates(
    model: pyo.ConcreteModel,
    name: str,
    groups: Sequence[Sequence[int]],
    rate: Callable[[int], Terms],
) -> None:
    """rate of t = rate of the group's first task, for every other t of it.

    Rows are divided by their largest coefficients.

    Args:
        model: gets the constraint ``name``.
        name: name of the constraint.
        groups: their tasks.
        rate: of a task, without what is the same for all tasks of its group.
    """
    rows = pyo.ConstraintList()
    model.add_component(name, rows)
    for first, *others in groups:
        for task in others:
            terms = rate(task) + [(-c, v) for c, v in rate(first)]
            if terms:
                unit = max(abs(c) for c, _ in terms) or 1.0
                rows.add(linear((c / unit, v) for c, v in terms) == 0.0)


def objective(
    model: pyo.ConcreteModel, goal: Goal, seconds: Iterable[tuple[float, Any]] = ()
) -> None:
    """Maximise log xi(A) + log zeta(Th) (both bounded by tangents), Th, A, or -D.

    Args:
        model: has the totals A and Th.
        goal: what is maximised.
        seconds: the average time D [s] as a linear expression.
    """
    if goal.objective == "reward":
        reward_terms(model)
        value: Any = model.log_accuracy + model.log_throughput
    elif goal.objective == "throughput":
        value = model.throughput
    elif goal.objective == "latency":
        value = linear((-s / goal.time_unit, v) for s, v in seconds)
    else:
        value = model.average_accuracy
    model.goal = pyo.Objective(expr=value, sense=pyo.maximize)


def reward_terms(model: pyo.ConcreteModel) -> None:
    """Variables log xi and log zeta, and their (initially empty) lists of tangents."""
    model.log_accuracy = pyo.Var()
    model.log_throughput = pyo.Var()
    model.accuracy_tangents = pyo.ConstraintList()
    model.throughput_tangents = pyo.ConstraintList()


def add_tangent(
    model: pyo.ConcreteModel, term: str, at: float, log_value: float, log_slope: float
) -> Any:
    """log_term <= log_value + log_slope * (x - at), valid for any concave log_term.

    Args:
        model: a model with the objective ``reward``.
        term: ``accuracy`` or ``throughput``.
        at: where the tangent touches, in the unit of the model's variable.
        log_value: logarithm of the term there.
        log_slope: its slope there, per unit of the model's variable.

    Returns:
        The new constraint, for solvers that add it to a living model.
    """
    x = model.average_accuracy if term == "accuracy" else model.throughput
    y = getattr(model, f"log_{term}")
    tangents: pyo.ConstraintList = getattr(model, f"{term}_tangents")
    return tangents.add(linear([(1.0, y), (-log_slope, x)]) <= log_value - log_slope * at)
