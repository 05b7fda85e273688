"""The flow formulation: a unit flow of choice and a flow of rate on each task's graph.

No path is enumerated. It is weaker than ``path`` but states the problem as it is, and
serves as an independent check.

A task of an input group can follow an earlier one of it (its leader) along arcs that are
the same for both, from the input on. What it walks together with a leader costs nothing:
the tasks of a group have one rate, and the union of their paths is what the first one
walks, and of every other one what lies behind its longest prefix in common with an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyomo.core as pyo

from formulations.data import FlowData, FlowTask
from formulations.parts import (
    Terms,
    capacity,
    equal_rates,
    floors_on_totals,
    linear,
    objective,
    totals,
)


def build_flow_model(data: FlowData) -> pyo.ConcreteModel:
    """Return the flow formulation of ``data`` (symbols: MODEL.md)."""
    model = pyo.ConcreteModel("flow")
    flow_variables(model, data)
    totals(model, data.goal, sum(max(t.most_rate) for t in data.tasks) / data.goal.throughput_unit)

    following_variables(model, data)

    one_unit_of_choice(model, data)
    rate_is_conserved(model, data)
    rate_needs_choice(model, data)
    choice_carries_floor(model, data)
    one_rate_per_group(model, data)
    following_needs_own_choice(model)
    following_needs_leader(model, data)
    common_prefix_is_unbroken(model, data)
    saved_rate_is_followed(model)
    server_and_link_capacity(model, data)
    memory_capacity(model, data)
    latency_limit(model, data)
    measured_path_is_recognised(model, data)
    predicted_accuracy_limit(model, data)
    measured_accuracy_limit(model, data)
    predicted_accuracy_is_not_negative(model, data)
    average_accuracy_definition(model, data)
    throughput_definition(model, data)
    floors_on_totals(model, data.goal)

    objective(model, data.goal, average_time(model, data))
    return model


def flow_variables(model: pyo.ConcreteModel, data: FlowData) -> None:
    """z[a] in {0, 1}: arc a is on the task's path; g[a] in [0, 1]: rate on it / R[a].

    A[t] in [min_accuracy, a]: accuracy of the task, in units of a, the most that any path of t has;
    a wider range than that of the values shrinks, beside it, what a solver's tolerance can tell
    apart. q[t, m] in {0, 1}: the path of t is exactly the measured path m.
    """
    arcs = [a for _, _, a in _arcs(data)]
    model.choose = pyo.Var(arcs, domain=pyo.Binary)
    model.rate = pyo.Var(arcs, bounds=(0.0, 1.0))
    model.accuracy = pyo.Var(
        range(len(data.tasks)),
        bounds=lambda _, t: (
            min(data.tasks[t].min_accuracy / data.tasks[t].accuracy_unit, 1.0),
            1.0,
        ),
    )
    model.is_measured = pyo.Var(
        [(t, m) for t, task in enumerate(data.tasks) for m in range(len(task.measured))],
        domain=pyo.Binary,
    )


def following_variables(model: pyo.ConcreteModel, data: FlowData) -> None:
    """m[k,a] in [0, 1]: the task of pair k walks arc a on a prefix in common with its leader.

    s[a] in [0, 1]: rate on arc a that costs nothing, since a leader pays / R[a].
    """
    first = _first_arc(data)
    follows = [
        (k, first[pair.task] + i)
        for k, pair in enumerate(data.pairs)
        for i in dict.fromkeys(i for i, _ in pair.arcs)
    ]
    model.follow = pyo.Var(follows, bounds=(0.0, 1.0))
    model.saved = pyo.Var(sorted({a for _, a in follows}), bounds=(0.0, 1.0))


def one_unit_of_choice(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum of z out of a node - sum of z into it = 1 at the input, 0 at every block.

    The output's balance follows from the others.
    """
    balance = _balances(data)

    def rule(m: pyo.ConcreteModel, t: int, node: int) -> Any:
        out = pyo.quicksum(sign * m.choose[a] for sign, a in balance[t, node])
        return out == (1.0 if node == 0 else 0.0)

    model.one_unit_of_choice = pyo.Constraint(_inner_nodes(data, first=0), rule=rule)


def rate_is_conserved(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum of R g out of a block = sum of R g into it."""
    balance = _balances(data)
    most = [data.tasks[t].most_rate[i] for t, i, _ in _arcs(data)]

    def rule(m: pyo.ConcreteModel, t: int, node: int) -> Any:
        arcs = balance[t, node]
        largest = max(most[a] for _, a in arcs) or 1.0
        return linear((sign * most[a] / largest, m.rate[a]) for sign, a in arcs) == 0.0

    model.rate_is_conserved = pyo.Constraint(_inner_nodes(data, first=1), rule=rule)


def rate_needs_choice(model: pyo.ConcreteModel, data: FlowData) -> None:
    """R[a] g[a] <= R[a] z[a].

    The big-M R[a] is the least, over servers and links, of capacity / the smallest use
    of any path through arc a, and the demand: no path through a can be faster.
    """
    model.rate_needs_choice = pyo.Constraint(
        [a for _, _, a in _arcs(data)], rule=lambda m, a: m.rate[a] <= m.choose[a]
    )


def choice_carries_floor(model: pyo.ConcreteModel, data: FlowData) -> None:
    """R[a] g[a] >= f[t] z[a], over the larger of R and f (where R < f, a cannot be chosen)."""

    def rule(m: pyo.ConcreteModel, t: int, i: int, a: int) -> Any:
        task = data.tasks[t]
        if task.floor <= 0.0:
            return pyo.Constraint.Skip
        unit = max(task.most_rate[i], task.floor)
        return task.most_rate[i] / unit * m.rate[a] - task.floor / unit * m.choose[a] >= 0.0

    model.choice_carries_floor = pyo.Constraint(list(_arcs(data)), rule=rule)


def one_rate_per_group(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum of R g out of the input is the same for all tasks of a group."""
    leaving: dict[int, Terms] = {}
    for t, i, a in _arcs(data):
        if data.tasks[t].tails[i] == 0:
            leaving.setdefault(t, []).append((data.tasks[t].most_rate[i], model.rate[a]))
    equal_rates(model, "one_rate_per_group", data.groups, lambda t: leaving[t])


def following_needs_own_choice(model: pyo.ConcreteModel) -> None:
    """sum over pairs k: m[k,a] <= z[a]."""
    followed = _followed(model)
    model.following_needs_own_choice = pyo.Constraint(
        list(followed), rule=lambda m, a: pyo.quicksum(followed[a]) <= m.choose[a]
    )


def following_needs_leader(model: pyo.ConcreteModel, data: FlowData) -> None:
    """m[k,a] <= sum of z over the leader's arcs that are the same as a."""
    first = _first_arc(data)
    same: dict[tuple[int, int], list[int]] = {}
    for k, pair in enumerate(data.pairs):
        for i, j in pair.arcs:
            same.setdefault((k, first[pair.task] + i), []).append(first[pair.leader] + j)
    model.following_needs_leader = pyo.Constraint(
        list(same),
        rule=lambda m, k, a: m.follow[k, a] <= pyo.quicksum(m.choose[j] for j in same[k, a]),
    )


def common_prefix_is_unbroken(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum of m[k,a] out of a block <= sum of m[k,a] into it.

    So what is followed begins at the input. It may be spread over several leaders: nothing is
    gained by it, since of the prefixes in common with them the longest holds all others.
    """
    first = _first_arc(data)
    model.common_prefix_is_unbroken = pyo.ConstraintList()
    for k, pair in enumerate(data.pairs):
        task = data.tasks[pair.task]
        balance: dict[int, Terms] = {}
        for i in dict.fromkeys(i for i, _ in pair.arcs):
            variable = model.follow[k, first[pair.task] + i]
            balance.setdefault(task.tails[i], []).append((1.0, variable))
            balance.setdefault(task.heads[i], []).append((-1.0, variable))
        for node, terms in balance.items():
            if node != 0 and any(sign > 0.0 for sign, _ in terms):
                model.common_prefix_is_unbroken.add(linear(terms) <= 0.0)


def saved_rate_is_followed(model: pyo.ConcreteModel) -> None:
    """s[a] <= g[a] and s[a] <= sum over pairs k: m[k,a] (both times R[a])."""
    followed = _followed(model)
    model.saved_rate_is_walked = pyo.Constraint(
        list(followed), rule=lambda m, a: m.saved[a] <= m.rate[a]
    )
    model.saved_rate_is_followed = pyo.Constraint(
        list(followed), rule=lambda m, a: m.saved[a] <= pyo.quicksum(followed[a])
    )


def server_and_link_capacity(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum over a: use[a,i] R[a] (g[a] - s[a]) <= 1 for every server and link."""
    most = [data.tasks[t].most_rate[i] for t, i, _ in _arcs(data)]

    def terms(arc: int, amount: float) -> Terms:
        paid = [(amount * most[arc], model.rate[arc])]
        if arc in model.saved:
            paid.append((-amount * most[arc], model.saved[arc]))
        return paid

    capacity(model, "server_and_link_capacity", data.rate_rows, terms)


def memory_capacity(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum over a: mem[a,i] (z[a] - sum over pairs k: m[k,a]) <= 1 for every limited memory."""
    followed = _followed(model)

    def terms(arc: int, amount: float) -> Terms:
        return [(amount, model.choose[arc]), *((-amount, m) for m in followed.get(arc, []))]

    capacity(model, "memory_capacity", data.memory_rows, terms)


def latency_limit(model: pyo.ConcreteModel, data: FlowData) -> None:
    """sum over arcs of t: (seconds / L[t]) z[a] <= 1, where the task has a limit."""
    first = _first_arc(data)

    def rule(m: pyo.ConcreteModel, t: int) -> Any:
        task, start = data.tasks[t], first[t]
        if task.max_latency is None:
            return pyo.Constraint.Skip
        shares = ((s / task.max_latency, m.choose[start + i]) for i, s in enumerate(task.seconds))
        return linear(shares) <= 1.0

    model.latency_limit = pyo.Constraint(range(len(data.tasks)), rule=rule)


def measured_path_is_recognised(model: pyo.ConcreteModel, data: FlowData) -> None:
    """q[t,m] <= z[a] for each arc a of m, and q[t,m] >= sum of z over m - (|m| - 1)."""
    first = _first_arc(data)
    model.measured_path_is_recognised = pyo.ConstraintList()
    for t, m in model.is_measured:
        arcs = [first[t] + i for i in data.tasks[t].measured[m][0]]
        q = model.is_measured[t, m]
        for a in arcs:
            model.measured_path_is_recognised.add(q <= model.choose[a])
        chosen = pyo.quicksum(model.choose[a] for a in arcs)
        model.measured_path_is_recognised.add(chosen - q <= len(arcs) - 1.0)


def predicted_accuracy_limit(model: pyo.ConcreteModel, data: FlowData) -> None:
    """A[t] <= native - sum of drop z + sum over m: max(0, measured - predicted of m) q[t,m].

    When q[t,m] = 1 the path is exactly m, so the coefficient lifts the bound to the
    measured value and no further: it is the smallest big-M.
    """
    first = _first_arc(data)

    def rule(m: pyo.ConcreteModel, t: int) -> Any:
        task, start = data.tasks[t], first[t]
        terms = [(task.accuracy_unit, m.accuracy[t])]
        terms += [(d, m.choose[start + i]) for i, d in enumerate(task.drop) if d != 0.0]
        terms += [
            (-max(0.0, value - _predicted(task, arcs)), m.is_measured[t, k])
            for k, (arcs, value) in enumerate(task.measured)
        ]
        return _at_most(terms, task.accuracy)

    model.predicted_accuracy_limit = pyo.Constraint(range(len(data.tasks)), rule=rule)


def measured_accuracy_limit(model: pyo.ConcreteModel, data: FlowData) -> None:
    """A[t] <= a - (a - measured of m) q[t,m]; a is the most that any path of t has, its unit."""

    def rule(m: pyo.ConcreteModel, t: int, k: int) -> Any:
        unit, value = data.tasks[t].accuracy_unit, data.tasks[t].measured[k][1]
        terms = [(unit, m.accuracy[t]), (unit - value, m.is_measured[t, k])]
        return _at_most(terms, unit)

    model.measured_accuracy_limit = pyo.Constraint(list(model.is_measured), rule=rule)


def predicted_accuracy_is_not_negative(model: pyo.ConcreteModel, data: FlowData) -> None:
    """native - sum of drop z + sum over m: max(0, -predicted of m) q[t,m] >= 0."""
    first = _first_arc(data)

    def rule(m: pyo.ConcreteModel, t: int) -> Any:
        task, start = data.tasks[t], first[t]
        terms = [(d, m.choose[start + i]) for i, d in enumerate(task.drop) if d != 0.0]
        terms += [
            (min(0.0, _predicted(task, arcs)), m.is_measured[t, k])
            for k, (arcs, _) in enumerate(task.measured)
        ]
        return _at_most(terms, task.accuracy) if terms else pyo.Constraint.Skip

    model.predicted_accuracy_is_not_negative = pyo.Constraint(range(len(data.tasks)), rule=rule)


def average_accuracy_definition(model: pyo.ConcreteModel, data: FlowData) -> None:
    """A = sum over t: w[t] A[t]."""
    unit = data.goal.accuracy_unit
    shares = [task.weight * task.accuracy_unit / unit for task in data.tasks]
    model.average_accuracy_definition = pyo.Constraint(
        expr=linear(zip(shares, model.accuracy.values(), strict=True)) == model.average_accuracy
    )


def average_time(model: pyo.ConcreteModel, data: FlowData) -> Terms:
    """D = sum over t, over arcs a: w[t] seconds[a] z[a]."""
    return [
        (data.tasks[t].weight * data.tasks[t].seconds[i], model.choose[a])
        for t, i, a in _arcs(data)
    ]


def throughput_definition(model: pyo.ConcreteModel, data: FlowData) -> None:
    """Th = sum over t, over arcs a out of the input: R[a] g[a]."""
    unit = data.goal.throughput_unit
    leaving = [
        (data.tasks[t].most_rate[i] / unit, model.rate[a])
        for t, i, a in _arcs(data)
        if data.tasks[t].tails[i] == 0
    ]
    model.throughput_definition = pyo.Constraint(expr=linear(leaving) == model.throughput)


def _at_most(terms: Terms, most: float) -> Any:
    """sum of terms <= most, divided by the largest coefficient of it all."""
    unit = max(most, *(abs(c) for c, _ in terms)) or 1.0
    return linear((c / unit, v) for c, v in terms) <= most / unit


def exclude_path(model: pyo.ConcreteModel, arcs: Sequence[int]) -> Any:
    """sum of z over the arcs of a path <= their number - 1.

    For a path that breaks a limit of its task by less than a solver's tolerance (infeasible path
    inequality: Ascheuer, Fischetti and Groetschel, Networks 36, 2000).

    Args:
        model: a flow model.
        arcs: all arcs of the path, numbered through all tasks.

    Returns:
        The new constraint, for solvers that add it to a living model.
    """
    if not hasattr(model, "excluded"):
        model.excluded = pyo.ConstraintList()
    return model.excluded.add(linear((1.0, model.choose[a]) for a in arcs) <= len(arcs) - 1.0)


def _predicted(task: FlowTask, arcs: tuple[int, ...]) -> float:
    return task.accuracy - sum(task.drop[i] for i in arcs)


def _first_arc(data: FlowData) -> list[int]:
    """Return the number of each task's first arc."""
    first, total = [], 0
    for task in data.tasks:
        first.append(total)
        total += len(task.tails)
    return first


def _arcs(data: FlowData) -> Iterator[tuple[int, int, int]]:
    """Yield (task, arc within the task, arc number) of every arc."""
    number = 0
    for t, task in enumerate(data.tasks):
        for i in range(len(task.tails)):
            yield t, i, number
            number += 1


def _inner_nodes(data: FlowData, first: int) -> list[tuple[int, int]]:
    """Return (task, node) of every node but the output."""
    return [(t, n) for t, task in enumerate(data.tasks) for n in range(first, task.nodes - 1)]


def _balances(data: FlowData) -> dict[tuple[int, int], list[tuple[float, int]]]:
    """Return for each (task, node) its (+1, arc) out and (-1, arc) in."""
    balance: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for t, i, a in _arcs(data):
        balance.setdefault((t, data.tasks[t].tails[i]), []).append((1.0, a))
        balance.setdefault((t, data.tasks[t].heads[i]), []).append((-1.0, a))
    return balance


def _followed(model: pyo.ConcreteModel) -> dict[int, list[Any]]:
    """Return the variables m[k,a] of each arc that can be followed along."""
    found: dict[int, list[Any]] = {}
    for (_, arc), variable in model.follow.items():
        found.setdefault(arc, []).append(variable)
    return found
