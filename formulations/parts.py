"""Parts that the formulations share: totals, floors on them, the reward and objectives.

A model that uses them has the variables ``average_accuracy`` (A in units of
``Goal.accuracy_unit``) and ``throughput`` (Th in units of ``Goal.throughput_unit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from formulations.data import Goal, Rows


def weighted(coefficients: Sequence[float], variables: Sequence[Any]) -> LinearExpression:
    """Return sum of coefficient * variable, built without an expression tree."""
    return LinearExpression(linear_coefs=list(coefficients), linear_vars=list(variables))


def linear(pairs: Iterable[tuple[float, Any]]) -> LinearExpression:
    """Return sum of coefficient * variable, of pairs."""
    coefficients, variables = zip(*pairs, strict=True)
    return weighted(coefficients, variables)


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
    model: pyo.ConcreteModel, name: str, rows: Rows, terms: Any, shared_terms: Any = None
) -> None:
    """sum over users of use * rate <= 1 for every server and link.

    Args:
        model: gets the constraint ``name``.
        name: name of the constraint.
        rows: use per inference.
        terms: function (index, amount) -> list of (coefficient, variable).
        shared_terms: the same for the shared prefixes of the rows, if there are any.
    """

    def rule(_: pyo.ConcreteModel, i: int) -> Any:
        pairs = [pair for user, amount in rows.entries[i] for pair in terms(user, amount)]
        pairs += [pair for v, amount in rows.shared_of(i) for pair in shared_terms(v, amount)]
        if not pairs:
            return pyo.Constraint.Skip
        return (None, linear(pairs), 1.0)

    model.add_component(name, pyo.Constraint(range(len(rows.entries)), rule=rule))


def objective(model: pyo.ConcreteModel, goal: Goal) -> None:
    """Maximise log xi(A) + log zeta(Th) (both bounded by tangents), Th, or A."""
    if goal.objective == "reward":
        reward_terms(model)
        value: Any = model.log_accuracy + model.log_throughput
    elif goal.objective == "throughput":
        value = model.throughput
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
    return tangents.add((None, weighted([1.0, -log_slope], [y, x]), log_value - log_slope * at))
