"""Capacity planning: integer units of capacity and paths together, at least cost.

Demand is served in *situations*: the one demand of a least-cost plan, the periods of a
growth path, the scenarios of an uncertain demand. A situation belongs to a period (which
units stand then) and to a *choice* (which paths are set then). Where a situation adapts, only
a share of its demand is served; elsewhere all of it. *Failures* take one server away, or a part of
its capacity: tasks whose path visits it go to a backup path (or stay, if a part is left), everybody
else stays.

Tasks of an input group have one rate, and a prefix that paths of several of them share is
paid once. A task that does not run under a failure is out of its group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyomo.core as pyo

from formulations.data import Rows
from formulations.parts import carries, linear, weighted


@dataclass(frozen=True)
class Situation:
    """One demand that has to be met."""

    period: int
    choice: int
    demand: Sequence[float]
    """d[k,t] of each task [inferences/s]."""
    adapts: bool = False
    """Whether only a share of the demand may be served."""
    floor: Sequence[float] = ()
    """Least rate of each task [inferences/s], at most its demand (where it adapts)."""
    least_share: float | None = None
    """Least share of the total demand that is served (where it adapts)."""
    probability: float = 1.0


@dataclass(frozen=True)
class Failure:
    """One server, or a part of it, is gone while one choice of paths is set."""

    server: int
    """Its index among the rate rows."""
    keep: Sequence[Sequence[float]]
    """Rates of each task that are kept then [inferences/s], a row for each demand of the choice."""
    visiting: frozenset[int]
    """The paths that visit it, by work or without any."""
    period: int = 0
    choice: int = 0
    lost: float | None = None
    """Capacity that is gone, counted like C[i]; what is left serves on. None: all of it."""


@dataclass(frozen=True)
class PlanData:
    """Data of the planning model: P paths of T tasks, I servers and links, H periods."""

    task_names: Sequence[str]
    weight: Sequence[float]
    """w[t], summing to 1."""
    task_of: Sequence[int]
    """t(p), ascending."""
    accuracy: Sequence[float]
    """A[p]."""
    rate_rows: Rows
    """Use of servers and links, per inference; a present capacity counts as 1."""
    memory_rows: Rows
    """Use of the adapters' memory, per chosen path; memory cannot be bought."""
    unit: Sequence[float]
    """v[i]: one unit of server or link i, counted like its uses; 0: none sold."""
    price: Sequence[float]
    """c[i]: price of one unit when it is bought."""
    yearly: Sequence[float]
    """e[i]: price of one unit in each period that it stands."""
    most_units: Sequence[int]
    """N[i]: most units that can be bought, or could ever be needed."""
    factor: Sequence[float]
    """f[h]: what money of period h counts (discount factors)."""
    min_accuracy: Sequence[float | None]
    """Floor on the average accuracy of each choice; its length is the number of choices."""
    situations: Sequence[Situation]
    expected_share: float | None = None
    """Least share of the expected demand that is served."""
    failures: Sequence[Failure] = ()
    given_paths: Sequence[int] = ()
    """Path of each task in choice 0, where that is decided already."""
    cost_unit: float = 1.0
    """The cost is modelled in this unit, so that numbers stay near 1."""
    groups: Sequence[Sequence[int]] = ()
    """Tasks that have one rate, two or more each; their demands (and floors) are the same."""
    prefixes: Sequence[Sequence[Sequence[int]]] = ()
    """Prefixes that paths of a group share: v's paths p, for each task that can walk v.

    What v uses stands in the rows' ``shared``; ``entries`` hold the rest of the path."""
    load_unit: Sequence[float] = ()
    """L[i] >= C[i]: the capacity rows of i are modelled in this unit, so that their numbers stay
    near 1 whatever the load; empty: 1."""
    present: Sequence[float] = ()
    """C[i]: 1, or 0 where no capacity is there yet; empty: 1."""
    rounding: float = 0.0
    """Share of L[i], of a memory or of an accuracy by which rows are relaxed, so that none
    excludes by rounding alone what fits exactly."""


def build_plan_model(data: PlanData) -> pyo.ConcreteModel:
    """Return the planning model of ``data`` (symbols: MODEL.md); its goal is minus the cost."""
    model = pyo.ConcreteModel("plan")
    plan_variables(model, data)
    backup_variables(model, data)
    shared_prefix_variables(model, data)

    one_path_per_task_and_choice(model, data)
    served_share_needs_path(model, data)
    units_are_kept(model, data)
    capacity_in_situations(model, data)
    paths_need_a_unit(model, data)
    memory_of_choices(model, data)
    accuracy_of_choices(model, data)
    floors_are_served(model, data)
    one_share_per_group(model, data)
    prefix_is_in_use(model, data)
    prefix_carries_share(model, data)
    share_of_each_situation(model, data)
    share_of_expected_demand(model, data)

    backup_where_hit(model, data)
    staying_needs_path(model, data)
    prefix_is_in_use_under_failure(model, data)
    capacity_under_failure(model, data)
    memory_under_failure(model, data)

    least_cost(model, data)
    return model


def build_rerouting_model(data: PlanData, visiting: Collection[int]) -> pyo.ConcreteModel:
    """Return the model of the most demand that is served without one server, units fixed.

    Capacities are those with all units; its goal is the served share of the demand of
    situation 0.

    Args:
        data: one situation that adapts.
        visiting: the paths that visit the server that is gone.
    """
    model = pyo.ConcreteModel("rerouting")
    plan_variables(model, data)
    shared_prefix_variables(model, data)
    for variable in model.units.values():
        variable.setub(0)
    for path in visiting:
        model.serve[0, path].setub(0.0)

    at_most_one_path(model, data)
    served_share_needs_path(model, data)
    one_share_of_those_that_run(model, data)
    prefix_is_in_use(model, data)
    prefix_carries_share(model, data)
    capacity_in_situations(model, data)
    memory_of_choices(model, data)

    most_served(model, data)
    return model


def plan_variables(model: pyo.ConcreteModel, data: PlanData) -> None:
    """x[c,p] in {0, 1}, n[h,i] in {0, ..., N[i]}, s[k,p] in [0, 1].

    x: choice c sets path p; n: units of server or link i that stand in period h; s: share of
    its task's demand that is served on p in situation k (only where the situation adapts).
    """
    paths = range(len(data.task_of))
    model.choose = pyo.Var(range(len(data.min_accuracy)), paths, domain=pyo.Binary)
    for path in set(paths) - set(data.given_paths) if data.given_paths else ():
        model.choose[0, path].setub(0)
    model.units = pyo.Var(
        range(len(data.factor)),
        range(len(data.unit)),
        domain=pyo.NonNegativeIntegers,
        bounds=lambda _, _period, i: (0, data.most_units[i] if data.unit[i] > 0.0 else 0),
    )
    adapting = [k for k, situation in enumerate(data.situations) if situation.adapts]
    model.serve = pyo.Var(adapting, paths, bounds=(0.0, 1.0))


def backup_variables(model: pyo.ConcreteModel, data: PlanData) -> None:
    """y[f,p] in {0, 1}, b[f,p] and o[f] in [0, 1].

    y: under failure f a task that it hits goes to path p, which avoids the server; for tasks that
    also have a path that visits it. b: a task stays on path p, which visits the server, where a
    part of it is left; binary by itself. o: whether any task stays there that keeps a rate.
    """
    backup, stay, lasting = [], [], []
    for f, failure in enumerate(data.failures):
        hit = {data.task_of[p] for p in failure.visiting}
        backup += [
            (f, p) for p, t in enumerate(data.task_of) if t in hit and p not in failure.visiting
        ]
        if failure.lost is not None:
            stay += [(f, p) for p in sorted(failure.visiting)]
            lasting.append(f)
    model.backup = pyo.Var(backup, domain=pyo.Binary)
    model.stay = pyo.Var(stay, bounds=(0.0, 1.0))
    model.in_service = pyo.Var(lasting, bounds=(0.0, 1.0))


def shared_prefix_variables(model: pyo.ConcreteModel, data: PlanData) -> None:
    """z[c,v], phi[k,v], z[f,v] in [0, 1], for prefixes that several tasks share.

    z[c,v]: choice c walks prefix v; phi[k,v]: share of the group's demand for which v is
    computed in situation k (only where the situation adapts); z[f,v]: v is in use under
    failure f. At binary x and y, z is binary by itself.
    """
    rate, memory = data.rate_rows.prefixes, data.memory_rows.prefixes
    in_full = {situation.choice for situation in data.situations if not situation.adapts}
    model.prefix_in_use = pyo.Var(
        [
            (c, v)
            for c in range(len(data.min_accuracy))
            for v in (sorted({*rate, *memory}) if c in in_full else memory)
        ],
        bounds=(0.0, 1.0),
    )
    adapting = [k for k, situation in enumerate(data.situations) if situation.adapts]
    model.prefix_share = pyo.Var(adapting, rate, bounds=(0.0, 1.0))
    model.prefix_in_failure = pyo.Var(
        range(len(data.failures)), sorted({*rate, *memory}), bounds=(0.0, 1.0)
    )


def one_path_per_task_and_choice(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p of t: x[c,p] = 1."""
    of_task = _paths_by_task(data)

    def rule(m: pyo.ConcreteModel, c: int, t: int) -> Any:
        if not of_task[t]:
            return pyo.Constraint.Infeasible
        return (1.0, linear((1.0, m.choose[c, p]) for p in of_task[t]), 1.0)

    model.one_path_per_task_and_choice = pyo.Constraint(*_choices_and_tasks(data), rule=rule)


def at_most_one_path(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p of t: x[c,p] <= 1: a task that has lost all paths is not served."""
    of_task = _paths_by_task(data)
    model.at_most_one_path = pyo.Constraint(
        *_choices_and_tasks(data),
        rule=lambda m, c, t: _at_most([(1.0, m.choose[c, p]) for p in of_task[t]], 1.0),
    )


def served_share_needs_path(model: pyo.ConcreteModel, data: PlanData) -> None:
    """s[k,p] <= x[c(k),p]: its big-M is 1, since a share is at most all of the demand."""

    def rule(m: pyo.ConcreteModel, k: int, p: int) -> Any:
        chosen = m.choose[data.situations[k].choice, p]
        return (None, linear([(1.0, m.serve[k, p]), (-1.0, chosen)]), 0.0)

    model.served_share_needs_path = pyo.Constraint(list(model.serve), rule=rule)


def units_are_kept(model: pyo.ConcreteModel, data: PlanData) -> None:
    """n[h,i] >= n[h-1,i]: what was bought stays."""
    model.units_are_kept = pyo.Constraint(
        range(1, len(data.factor)),
        range(len(data.unit)),
        rule=lambda m, h, i: (0.0, linear([(1.0, m.units[h, i]), (-1.0, m.units[h - 1, i])]), None),
    )


def capacity_in_situations(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p: use[p,i] d[k,t(p)] s[k,p] <= C[i] + v[i] n[h(k),i] (s = x if all is served).

    With shared prefixes also + sum over v: use[v,i] d[k,t] phi[k,v] on the left side (phi = z
    where all is served), t being any of the tasks that can walk v. The rows are divided by L[i]
    and relaxed by ``rounding``.
    """

    def rule(m: pyo.ConcreteModel, k: int, i: int) -> Any:
        situation = data.situations[k]
        served, carried, number = m.choose, m.prefix_in_use, situation.choice
        if situation.adapts:
            served, carried, number = m.serve, m.prefix_share, k
        load = _load(
            data,
            (data.rate_rows, i),
            situation.demand,
            lambda p: [served[number, p]],
            lambda v: [carried[number, v]],
        )
        return _within_capacity(m, data, i, situation.period, load)

    model.capacity_in_situations = pyo.Constraint(
        range(len(data.situations)), range(len(data.unit)), rule=rule
    )


def paths_need_a_unit(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p of t that use i: x[c,p] <= n[h,i], where C[i] = 0, so also at a demand of 0.

    Under a failure the sum is that of what runs then.
    """
    rows = model.paths_need_a_unit = pyo.ConstraintList()
    set_in = dict.fromkeys((k.choice, k.period) for k in data.situations)
    for i, capacity in enumerate(data.present):
        if capacity > 0.0:
            continue
        of_task: dict[int, list[int]] = {}
        for p in sorted(_users(data, i)):
            of_task.setdefault(data.task_of[p], []).append(p)
        for own in of_task.values():
            running = [
                (period, [model.choose[choice, p] for p in own]) for choice, period in set_in
            ]
            running += [
                (failure.period, [x for p in own for x in running_in_failure(model, data, f, p)])
                for f, failure in enumerate(data.failures)
                if any((f, p) in model.backup for p in own)
            ]
            for period, variables in running:
                terms = [(1.0, variable) for variable in variables]
                rows.add((None, linear([*terms, (-1.0, model.units[period, i])]), 0.0))


def memory_of_choices(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p: mem[p,i] x[c,p] + sum over v: mem[v,i] z[c,v] <= 1."""

    def rule(m: pyo.ConcreteModel, c: int, i: int) -> Any:
        load = _load(
            data,
            (data.memory_rows, i),
            [1.0] * len(data.task_names),
            lambda p: [m.choose[c, p]],
            lambda v: [m.prefix_in_use[c, v]],
        )
        return _at_most(load, 1.0 + data.rounding)

    model.memory_of_choices = pyo.Constraint(
        range(len(data.min_accuracy)), range(len(data.memory_rows.entries)), rule=rule
    )


def accuracy_of_choices(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p: w[t(p)] A[p] x[c,p] >= the floor of choice c on the average accuracy."""
    gain = [data.weight[t] * a for t, a in zip(data.task_of, data.accuracy, strict=True)]

    def rule(m: pyo.ConcreteModel, c: int) -> Any:
        floor = data.min_accuracy[c]
        if floor is None or floor <= data.rounding:
            return pyo.Constraint.Skip
        if not any(gain):
            return pyo.Constraint.Infeasible
        total = linear((g, m.choose[c, p]) for p, g in enumerate(gain))
        return (floor - data.rounding, total, None)

    model.accuracy_of_choices = pyo.Constraint(range(len(data.min_accuracy)), rule=rule)


def floors_are_served(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p of t: s[k,p] >= least[k,t], where the situation adapts.

    least is the larger of floor[k,t] / d[k,t] and of what the share of the situation, or of the
    expected demand, leaves of task t when every other task is served in full.
    """
    of_task = _paths_by_task(data)
    least = [_least_served(data, situation) for situation in data.situations]

    def rule(m: pyo.ConcreteModel, k: int, t: int) -> Any:
        if not data.situations[k].adapts or least[k][t] <= 0.0 or not of_task[t]:
            return pyo.Constraint.Skip
        return (least[k][t], linear((1.0, m.serve[k, p]) for p in of_task[t]), None)

    model.floors_are_served = pyo.Constraint(
        range(len(data.situations)), range(len(data.task_names)), rule=rule
    )


def one_share_per_group(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p of t: s[k,p] is the same for all tasks t of a group, where k adapts."""
    of_task = _paths_by_task(data)
    model.one_share_per_group = pyo.ConstraintList()
    for k, situation in enumerate(data.situations):
        for first, *others in data.groups if situation.adapts else ():
            for task in others:
                served = [(1.0, model.serve[k, p]) for p in of_task[task]]
                like = [(-1.0, model.serve[k, p]) for p in of_task[first]]
                model.one_share_per_group.add((0.0, linear(served + like), 0.0))


def one_share_of_those_that_run(model: pyo.ConcreteModel, data: PlanData) -> None:
    """S[g] + sum over p of t: x[p] - 1 <= sum over p of t: s[p] <= S[g], for all tasks t of g.

    S[g] in [0, 1] is the share that the group serves. The big-M of the first is 1, since a
    share is at most all of the demand; a task without a path (x = 0) is out of the group.
    """
    of_task = _paths_by_task(data)
    model.group_share = pyo.Var(range(len(data.groups)), bounds=(0.0, 1.0))
    model.one_share_of_those_that_run = rows = pyo.ConstraintList()
    for g, tasks in enumerate(data.groups):
        share = model.group_share[g]
        for task in tasks:
            served = [(1.0, model.serve[0, p]) for p in of_task[task]]
            short = [(-1.0, variable) for _, variable in served]
            chosen = [(1.0, model.choose[0, p]) for p in of_task[task]]
            rows.add((None, linear([*served, (-1.0, share)]), 0.0))
            rows.add((None, linear([(1.0, share), *chosen, *short]), 1.0))


def prefix_is_in_use(model: pyo.ConcreteModel, data: PlanData) -> None:
    """z[c,v] >= sum over p of t through v: x[c,p], for every task t that can walk v."""
    model.prefix_is_in_use = _carrying(data, model.prefix_in_use, lambda c, p: [model.choose[c, p]])


def prefix_carries_share(model: pyo.ConcreteModel, data: PlanData) -> None:
    """phi[k,v] >= sum over p of t through v: s[k,p], for every task t that can walk v."""
    model.prefix_carries_share = _carrying(
        data, model.prefix_share, lambda k, p: [model.serve[k, p]]
    )


def prefix_is_in_use_under_failure(model: pyo.ConcreteModel, data: PlanData) -> None:
    """z[f,v] >= sum over p of t through v: what runs of p under f, for every t."""
    model.prefix_is_in_use_under_failure = _carrying(
        data, model.prefix_in_failure, lambda f, p: running_in_failure(model, data, f, p)
    )


def share_of_each_situation(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p: d[k,t(p)] s[k,p] >= least share of k * sum over t: d[k,t]."""

    def rule(m: pyo.ConcreteModel, k: int) -> Any:
        situation = data.situations[k]
        total = sum(situation.demand)
        if not situation.adapts or situation.least_share is None or total <= 0.0:
            return pyo.Constraint.Skip
        return (situation.least_share, _served_share(m, data, {k: 1.0}, total), None)

    model.share_of_each_situation = pyo.Constraint(range(len(data.situations)), rule=rule)


def share_of_expected_demand(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over k, p: prob[k] d[k,t(p)] s[k,p] >= share * sum over k, t: prob[k] d[k,t]."""
    likely = {k: data.situations[k].probability for k, _ in model.serve}
    total = sum(chance * sum(data.situations[k].demand) for k, chance in likely.items())
    if data.expected_share is not None and total > 0.0:
        model.share_of_expected_demand = pyo.Constraint(
            expr=(data.expected_share, _served_share(model, data, likely, total), None)
        )


def backup_where_hit(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p of t that avoid f: y[f,p] + sum over p that visit f: b[f,p] = sum of their x[c,p].

    Without b where the whole server is gone: then only for tasks that have a path which avoids it;
    nothing can be asked for the others.
    """
    backups: dict[tuple[int, int], list[Any]] = {}
    for variables in (model.backup, model.stay):
        for (f, p), variable in variables.items():
            backups.setdefault((f, data.task_of[p]), []).append(variable)

    def rule(m: pyo.ConcreteModel, f: int, t: int) -> Any:
        failure = data.failures[f]
        hit = [p for p in sorted(failure.visiting) if data.task_of[p] == t]
        moved = [(1.0, variable) for variable in backups[f, t]]
        return (0.0, linear(moved + [(-1.0, m.choose[failure.choice, p]) for p in hit]), 0.0)

    model.backup_where_hit = pyo.Constraint(list(backups), rule=rule)


def staying_needs_path(model: pyo.ConcreteModel, data: PlanData) -> None:
    """b[f,p] <= x[c,p], and b[f,p] <= o[f] where p has work on the server and keeps a rate."""
    rows = model.staying_needs_path = pyo.ConstraintList()
    users = [_users(data, failure.server) for failure in data.failures]
    for (f, p), stay in model.stay.items():
        failure = data.failures[f]
        rows.add((None, linear([(1.0, stay), (-1.0, model.choose[failure.choice, p])]), 0.0))
        keeps = any(keep[data.task_of[p]] > 0.0 for keep in failure.keep)
        if keeps and p in users[f]:
            rows.add((None, linear([(1.0, stay), (-1.0, model.in_service[f])]), 0.0))


def capacity_under_failure(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p: use[p,i] keep[f,j,t(p)] (x[c,p] + y[f,p]) <= C[i] + v[i] n[h,i], p avoiding f.

    With shared prefixes also + sum over v: use[v,i] keep[f,j,t] z[f,v] on the left side. Left
    out where no backup uses server or link i: the load is then part of the load without a
    failure, since no task keeps more than its demand. Of a server that has lost a part of its
    capacity: sum over p visiting f: use[p,i] keep[f,j,t(p)] b[f,p] + lost[f] o[f] on the left.
    """

    def rule(m: pyo.ConcreteModel, f: int, j: int, i: int) -> Any:
        failure = data.failures[f]
        if j >= len(failure.keep):
            return pyo.Constraint.Skip
        keep, is_hit = failure.keep[j], i == failure.server
        moves = any((f, p) in m.backup and keep[data.task_of[p]] > 0.0 for p in users[i])
        if (failure.lost is None) if is_hit else not moves:
            return pyo.Constraint.Skip
        load = _load_in_failure(m, data, (data.rate_rows, i), f, keep)
        if is_hit and load and failure.lost is not None:
            load.append((failure.lost, m.in_service[f]))
        return _within_capacity(m, data, i, failure.period, load)

    users = [_users(data, i) for i in range(len(data.unit))]
    most = max((len(failure.keep) for failure in data.failures), default=0)
    model.capacity_under_failure = pyo.Constraint(
        range(len(data.failures)), range(most), range(len(data.unit)), rule=rule
    )


def memory_under_failure(model: pyo.ConcreteModel, data: PlanData) -> None:
    """sum over p avoiding f: mem[p,i] (x[c,p] + y[f,p]) + sum over v: mem[v,i] z[f,v] <= 1.

    These are the adapters in use then; also those of b[f,p] where a part of the server is left.
    """
    once = [1.0] * len(data.task_names)

    def rule(m: pyo.ConcreteModel, f: int, i: int) -> Any:
        load = _load_in_failure(m, data, (data.memory_rows, i), f, once)
        return _at_most(load, 1.0 + data.rounding)

    model.memory_under_failure = pyo.Constraint(
        range(len(data.failures)), range(len(data.memory_rows.entries)), rule=rule
    )


def least_cost(model: pyo.ConcreteModel, data: PlanData) -> None:
    """Maximise -(sum over h, i: f[h] (c[i] (n[h,i] - n[h-1,i]) + e[i] n[h,i])) / ``cost_unit``."""
    # n[h,i] is bought at f[h] and stands against what f[h+1] would have paid for it.
    later = [*data.factor[1:], 0.0]
    model.goal = pyo.Objective(
        expr=linear(
            (
                ((later[h] - data.factor[h]) * data.price[i] - data.factor[h] * data.yearly[i])
                / data.cost_unit,
                units,
            )
            for (h, i), units in model.units.items()
        ),
        sense=pyo.maximize,
    )


def most_served(model: pyo.ConcreteModel, data: PlanData) -> None:
    """Maximise sum over p: d[0,t(p)] s[0,p] / sum over t: d[0,t]."""
    total = sum(data.situations[0].demand)
    model.goal = pyo.Objective(expr=_served_share(model, data, {0: 1.0}, total), sense=pyo.maximize)


def running_in_failure(model: pyo.ConcreteModel, data: PlanData, f: int, p: int) -> list[Any]:
    """Return x[c,p] and y[f,p], or b[f,p], as far as path p can run under failure f."""
    failure = data.failures[f]
    if p in failure.visiting:
        return [] if failure.lost is None else [model.stay[f, p]]
    backup = [model.backup[f, p]] if (f, p) in model.backup else []
    return [model.choose[failure.choice, p], *backup]


def needs_units(
    model: pyo.ConcreteModel,
    data: PlanData,
    running: Sequence[Sequence[Any]],
    at: tuple[int, int],
    need: float,
) -> Any:
    """n[h,i] >= need (1 - sum over r in R: (1 - sum of the binaries in r)), for (h, i) = ``at``.

    A cut for a choice of paths whose load on i is known: where all of R run, ``need`` units are
    needed; where one of them does not, the row says nothing. A need that nobody sells excludes
    the choice.

    Args:
        model: a planning model.
        data: what it was built from.
        running: R: for each task, disjoint binaries of the paths that load i at least as much
            as its path in that choice.
        at: period h and server or link i.
        need: units that the choice needs, infinite where none are sold.

    Returns:
        The new constraint.
    """
    if not hasattr(model, "needs_units"):
        model.needs_units = pyo.ConstraintList()
    binaries = [variable for variables in running for variable in variables]
    ones = [1.0] * len(binaries)
    if need > data.most_units[at[1]]:
        return model.needs_units.add((None, weighted(ones, binaries), len(running) - 1.0))
    body = weighted([*ones, -1.0 / need], [*binaries, model.units[at]])
    return model.needs_units.add((None, body, len(running) - 1.0))


def prefer(model: pyo.ConcreteModel, data: PlanData, most_cost: float) -> None:
    """Of all plans that cost at most ``most_cost``: those that buy latest, the most accurate.

    Maximise -(sum over h, i: (c[i] + e[i]) n[h,i]) + eps (sum over c, p: w[t(p)] A[p] x[c,p]),
    eps being small. Money that is spent later stands for less in the first sum; with one period
    it is the cost itself, which is least already.

    Args:
        model: a planning model; its goal is replaced.
        data: what it was built from.
        most_cost: largest cost allowed, in the units of the prices.
    """
    scale = max(most_cost / data.cost_unit, 1.0)
    goal = model.goal.expr
    kept = weighted([c / scale for c in goal.linear_coefs], list(goal.linear_vars))
    model.cost_is_kept = pyo.Constraint(expr=(-most_cost / data.cost_unit / scale, kept, None))
    model.goal.deactivate()
    bought = [
        (-(data.price[i] + data.yearly[i]) / data.cost_unit, n) for (_, i), n in model.units.items()
    ]
    accurate = [
        (_TIE * data.weight[data.task_of[p]] * data.accuracy[p], x)
        for (_, p), x in model.choose.items()
    ]
    model.preference = pyo.Objective(expr=linear(bought + accurate), sense=pyo.maximize)


SMALLEST_UNIT = 1e-8
"""Smallest unit, as a share of L[i], that stands in a capacity row: solvers take less than 1e-9
for 0. Smaller units are given to the row all at once, and counted by ``needs_units``."""
_TIE = 1e-2
"""Weight of the average accuracy beside the cost of a unit."""


def _least_served(data: PlanData, situation: Situation) -> list[float]:
    """Return the least share of each task's demand that a plan can serve in a situation."""
    adapting = [k for k in data.situations if k.adapts]
    spare = math.inf
    if situation.least_share is not None:
        spare = (1.0 - situation.least_share) * sum(situation.demand)
    if data.expected_share is not None and situation.probability > 0.0:
        expected = sum(k.probability * sum(k.demand) for k in adapting)
        unserved = (1.0 - data.expected_share) * expected / situation.probability
        spare = min(spare, unserved)
    floors = situation.floor or [0.0] * len(situation.demand)
    return [
        0.0 if d <= 0.0 else min(max(floor / d, 1.0 - (1.0 + _SPARE) * spare / d, 0.0), 1.0)
        for d, floor in zip(situation.demand, floors, strict=True)
    ]


_SPARE = 1e-6
"""A solver's tolerance, so that what it lets pass elsewhere is not cut off here."""


def _choices_and_tasks(data: PlanData) -> tuple[range, range]:
    return range(len(data.min_accuracy)), range(len(data.task_names))


def _paths_by_task(data: PlanData) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in data.task_names]
    for path, task in enumerate(data.task_of):
        found[task].append(path)
    return found


def _users(data: PlanData, i: int) -> set[int]:
    """Return the paths that have work on server or link i."""
    rows = data.rate_rows
    found = {p for p, amount in rows.entries[i] if amount > 0.0}
    return found | {
        p
        for v, amount in rows.shared_of(i)
        if amount > 0.0
        for paths in data.prefixes[v]
        for p in paths
    }


Variables = Callable[[int], list[Any]]
"""The variables whose sum says how much of a path, or of a prefix, runs; none where it cannot."""


def _load(
    data: PlanData,
    row: tuple[Rows, int],
    rate: Sequence[float],
    running: Variables,
    carried: Variables,
) -> list[tuple[float, Any]]:
    """Return sum over p: use[p,i] rate[t(p)] running(p) + sum over v: use[v,i] rate[t] carried(v).

    t being any of the tasks that can walk v: all have one rate.
    """
    rows, i = row
    task_of, pairs = data.task_of, []
    for p, amount in rows.entries[i]:
        load = amount * rate[task_of[p]]
        if load > 0.0:
            for variable in running(p):
                pairs.append((load, variable))  # noqa: PERF401 (mostly one: a list takes longer)
    for v, amount in rows.shared_of(i):
        load = amount * max((rate[task_of[paths[0]]] for paths in data.prefixes[v]), default=0.0)
        if load > 0.0:
            pairs += [(load, variable) for variable in carried(v)]
    return pairs


def _load_in_failure(
    model: pyo.ConcreteModel,
    data: PlanData,
    row: tuple[Rows, int],
    f: int,
    rate: Sequence[float],
) -> list[tuple[float, Any]]:
    """Return the load of a row under a failure; what nobody can walk then loads nothing."""

    def carried(v: int) -> list[Any]:
        paths = {p for paths in data.prefixes[v] for p in paths}
        failure = data.failures[f]
        is_gone = failure.lost is None and paths <= failure.visiting
        return [] if is_gone else [model.prefix_in_failure[f, v]]

    return _load(data, row, rate, lambda p: running_in_failure(model, data, f, p), carried)


def _carrying(
    data: PlanData, prefixes: Any, running: Callable[[int, int], list[Any]]
) -> pyo.ConstraintList:
    """prefix[n,v] >= sum over p of t through v: running(n, p), for every task t that can walk v."""
    rows = [
        carries(prefix, users)
        for (n, v), prefix in prefixes.items()
        for paths in data.prefixes[v]
        if (users := [variable for p in paths for variable in running(n, p)])
    ]
    return pyo.ConstraintList(rule=rows)


def _within_capacity(
    model: pyo.ConcreteModel, data: PlanData, i: int, period: int, load: list[tuple[float, Any]]
) -> Any:
    """Load <= C[i] + v[i] n[h,i], divided by L[i]; without any load there is no row."""
    if not load:
        return pyo.Constraint.Skip
    scale = data.load_unit[i] if data.load_unit else 1.0
    capacity = data.present[i] if data.present else 1.0
    if data.unit[i] / scale >= SMALLEST_UNIT:
        load = [*load, (-data.unit[i], model.units[period, i])]
    else:
        capacity += data.unit[i] * data.most_units[i]
    return _at_most([(c / scale, v) for c, v in load], capacity / scale + data.rounding)


def _at_most(pairs: list[tuple[float, Any]], most: float) -> Any:
    return (None, linear(pairs), most) if pairs else pyo.Constraint.Skip


def _served_share(
    model: pyo.ConcreteModel, data: PlanData, factor: dict[int, float], total: float
) -> Any:
    return linear(
        (factor[k] * data.situations[k].demand[data.task_of[p]] / total, share)
        for (k, p), share in model.serve.items()
        if k in factor
    )
