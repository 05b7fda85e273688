"""N-1: what is still served when one server fails, and a plan that survives any one failure.

A failed server runs nothing: paths that visit it are gone. Three things are told apart:

- *fixed*: all paths stay as they are; a task whose path visits the server is not served, the
  others are, since loads only fall;
- *re-routed*: every task may take any path that avoids the server, with the units bought, and
  the total of what is served is largest (a program of its own, with its gap);
- *survivable*: the plan that keeps given floors under every single failure at least cost.
  Tasks that a failure hits go to backup paths, all others stay where they are.

A task of which no path avoids a server is lost with it, whatever is bought; the tables say
so, and the survivable plan keeps the floors of all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from code_opt.core.settings import SMALLEST_GAP
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.paths.resources import SERVER_TIME
from code_opt.planning.analysis import (
    Analysis,
    checked_share,
    outcome_cells,
    saved_cells,
    timed,
)
from code_opt.planning.case import Case, Coordination, build_case, refuse_percentiles
from code_opt.planning.columns import TableBuilder
from code_opt.planning.heuristic import search_plan
from code_opt.planning.least_cost import solve_least_cost
from code_opt.planning.operation import (
    PATH_SEPARATOR,
    OperationTables,
    PlanFailedCheckError,
    operate,
)
from code_opt.planning.plan import Plan
from code_opt.planning.programs import (
    Backups,
    Decision,
    ProgramOutcome,
    paths_under_failure,
    plan_data,
    planning_session,
    solve_program,
    visiting_of,
    with_bound,
)
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from code_opt.planning.tolerances import NOISE, ROW
from code_opt.result import TOLERANCE
from code_opt.solvers import Termination
from code_opt.stopping import is_stop_requested
from formulations import Failure, Situation, build_rerouting_model


@dataclass(frozen=True)
class Rerouted:
    """The most that can be served without one server [inferences/s]."""

    served: float
    bound: float

    @property
    def gap(self) -> float:
        """(bound - served) / served, 0 where nothing can be served."""
        if self.bound <= self.served * (1.0 + ROW):
            return 0.0
        return self.bound / self.served - 1.0 if self.served > 0.0 else math.inf


class _Tables:
    """The tables of the plan."""

    def __init__(self) -> None:
        self.summary = TableBuilder(
            "summary",
            "Plans with and without thought of failures",
            "plan status cost bound gap units extra_cost extra_units accuracy "
            "accuracy_loss_points worst_served_fixed_share worst_served_rerouted_share "
            "seconds message",
        )
        self.failures = TableBuilder(
            "failures",
            "What is served when one server fails",
            "plan failed_server demand_per_s served_fixed_per_s served_fixed_share "
            "served_rerouted_per_s served_rerouted_share rerouted_gap tasks_hit tasks_lost "
            "floors_kept",
        )
        self.operation = OperationTables("plan")
        self.backups = TableBuilder(
            "backups",
            "Where the survivable plan sends the tasks that a failure hits",
            "failed_server task path rate_per_s accuracy accuracy_source",
        )
        self.lost = TableBuilder(
            "lost", "Tasks of which no path avoids the server", "failed_server task"
        )

    @property
    def all(self) -> tuple[TableBuilder, ...]:
        """In the order of the plan."""
        return (self.summary, self.failures, *self.operation.tables, self.backups, self.lost)


def plan_failures(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    keep: float | None = None,
    growth: float = 1.0,
    max_loss: float | None = None,
    coordination: Coordination = "full",
) -> Plan:
    """Return what every single failure of a server costs, and the plan that survives them.

    Args:
        instance: what to plan for.
        settings: options shared by all analyses.
        keep: share of every task's demand that is kept under a failure; None: the tasks'
            own floors (at most their demand).
        growth: factor on all demands.
        max_loss: most points of average accuracy lost against native paths, while nothing
            has failed; backup paths obey their tasks' ``min_accuracy`` alone.
        coordination: which paths may be used.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    factor, loss = check_growth(growth), check_loss(max_loss)
    share = None if keep is None else checked_share("keep", keep)
    tables = _Tables()
    analysis = Analysis("failures", instance, settings, *tables.all)
    refuse_percentiles(
        instance,
        settings,
        "what re-routing serves at most under such limits is not known; --together --failures "
        "plans for failures with them",
    )
    case = build_case(instance, settings, coordination, max_loss=loss, visits=True)
    demand = case.grown(factor)
    failures = single_failures(case, kept_rates(case, demand[None, :], share))
    outcomes = _solve_both(analysis, case, demand, failures)
    normal = outcomes["normal"]
    for name, outcome in outcomes.items():
        cells = outcome_cells(case, outcome, demand)
        if outcome.status == "infeasible":
            if name == "survivable" and normal.status != "infeasible":
                cells["message"] = "the floors under failure do not fit what can be bought"
            analysis.reasons.append(f"{name}: {cells['message']}")
        analysis.prove(outcome.status, outcome.gap)
        # What the normal plan saves against this one is what this one costs more.
        extra = saved_cells(case, normal, outcome)
        cells |= {key.replace("saved", "extra"): value for key, value in extra.items()}
        if outcome.decision is not None:
            cells |= _add_plan(analysis, tables, case, name, outcome.decision, demand, failures)
        tables.summary.add_fitting([cells], plan=name)
    if outcomes["survivable"].decision is not None:
        _add_backups(tables.backups, case, failures, outcomes["survivable"].decision.backups)
    for failure in failures:
        for t in np.flatnonzero(case.is_lost(visiting_of(case, failure))).tolist():
            tables.lost.add(failed_server=server_of(case, failure), task=case.names[t])
    return analysis.plan(keep=keep, growth=factor, max_loss_points=loss, coordination=coordination)


def single_failures(
    case: Case, keep: FloatArray, *, period: int = 0, choice: int = 0
) -> list[Failure]:
    """Return the failure of every server.

    Args:
        case: built with ``visits``.
        keep: rates that are kept [inferences/s], a row for each demand, shape (J, T).
        period: whose units are there.
        choice: number of the choice of paths.
    """
    return [
        Failure(
            server=i,
            keep=keep.tolist(),
            visiting=frozenset(np.flatnonzero(case.visiting(i)).tolist()),
            period=period,
            choice=choice,
        )
        for i, resource in enumerate(case.resources)
        if resource.kind is SERVER_TIME
    ]


def kept_rates(case: Case, demand: FloatArray, share: float | None) -> FloatArray:
    """Return the rates that are kept under a failure [inferences/s], shape like ``demand``.

    Args:
        case: whose floors are kept where no share is given.
        demand: [inferences/s], shape (..., T).
        share: of every demand.
    """
    return case.floors(demand) if share is None else demand * share


def device_failures(
    case: Case, keep: FloatArray, *, period: int = 0, choice: int = 0
) -> list[Failure]:
    """Return the failure of one device of every server; of a server that has no other, of it all.

    Args:
        case: built with ``visits``.
        keep: rates that are kept [inferences/s], a row for each demand, shape (J, T).
        period: whose units are there.
        choice: number of the choice of paths.
    """
    devices = {server.id: server.devices for server in case.instance.servers}
    found = []
    for failure in single_failures(case, keep, period=period, choice=choice):
        lost = 1.0 / (devices[server_of(case, failure)] or 1.0)
        is_all = case.offers.largest[failure.server] <= lost * (1.0 + NOISE)
        found.append(failure if is_all else replace(failure, lost=lost))
    return found


def _solve_both(
    analysis: Analysis, case: Case, demand: FloatArray, failures: Sequence[Failure]
) -> dict[str, ProgramOutcome]:
    """Return the plan without thought of failures, and the one that survives them."""
    analysis.tell("failures: the normal plan")
    normal = solve_least_cost(case, demand)["exact"]
    analysis.tell("failures: the survivable plan")
    survivable = timed(solve_survivable, case, demand, failures, normal)
    # Every survivable plan serves all demand while nothing has failed.
    return {
        "normal": normal,
        "survivable": with_bound(survivable, normal.bound, case.settings),
    }


def _add_plan(
    analysis: Analysis,
    tables: _Tables,
    case: Case,
    name: str,
    plan: Decision,
    demand: FloatArray,
    failures: Sequence[Failure],
) -> dict[str, float]:
    """Add the rows of one plan; return the cells that its summary has of all failures."""
    units, paths = plan.units[0], plan.paths[0]
    tables.operation.add(case, units, operate(case, units, paths, demand), plan=name)
    rows = []
    for number, failure in enumerate(failures):
        analysis.tell(f"failures: {name}, {number + 1} of {len(failures)}")
        row, again = _failure_row(case, failure, plan, demand, number)
        rows.append(row)
        # Where a limit came first the row tells the gap.
        is_proven = again.gap <= max(case.settings.gap, SMALLEST_GAP)
        gap = again.gap if math.isfinite(again.gap) else None
        analysis.prove("optimal" if is_proven else "feasible", gap)
    tables.failures.add_all(rows, plan=name)
    return {
        f"worst_{share}": min(row[share] for row in rows)
        for share in ("served_fixed_share", "served_rerouted_share")
    }


def _add_backups(
    table: TableBuilder, case: Case, failures: Sequence[Failure], backups: Backups
) -> None:
    for (f, t), path in sorted(backups.items()):
        table.add(
            failed_server=server_of(case, failures[f]),
            task=case.names[t],
            path=PATH_SEPARATOR.join(case.blocks(path)),
            rate_per_s=failures[f].keep[0][t],
            accuracy=case.accuracy[path],
            accuracy_source=case.accuracy_source(path),
        )


def solve_survivable(
    case: Case,
    demand: FloatArray,
    failures: Sequence[Failure],
    normal: ProgramOutcome | None = None,
) -> ProgramOutcome:
    """Return the cheapest plan that keeps rates under every single failure.

    Args:
        case: built with ``visits``.
        demand: rates while nothing has failed [inferences/s], shape (T,).
        failures: servers and the rates that are kept without them.
        normal: a plan to start from.
    """
    data = plan_data(case, [Situation(0, 0, demand.tolist())], failures=failures)
    known = None if normal is None else normal.decision
    known = known or search_plan(case, demand[None, :])
    start = None if known is None else _with_backups(case, demand, failures, known.paths[0])
    return solve_program(case, data, start)


def solve_rerouted(case: Case, failure: Failure, units: FloatArray, demand: FloatArray) -> Rerouted:
    """Return the most that is served when every task may take any path avoiding a server.

    Args:
        case: built with ``visits``.
        failure: the server that is gone.
        units: units bought, shape (I,).
        demand: most of each rate [inferences/s], shape (T,).
    """
    total = float(demand.sum())
    if total <= 0.0:
        return Rerouted(0.0, 0.0)
    if is_stop_requested():
        return Rerouted(0.0, float(demand[~case.is_lost(visiting_of(case, failure))].sum()))
    fixed = replace(case, offers=case.offers.fixed(units), min_accuracy=None)
    data = plan_data(fixed, [Situation(0, 0, demand.tolist(), adapts=True)])
    model = build_rerouting_model(data, failure.visiting)
    outcome = planning_session(model, case.settings).solve(
        time_limit=case.settings.time_limit,
        relative_gap=max(case.settings.gap, SMALLEST_GAP),
        absolute_gap=0.0,
        tolerance=ROW,
    )
    if outcome.termination is Termination.INFEASIBLE:
        return Rerouted(0.0, 0.0)
    served = 0.0 if outcome.value is None else max(0.0, outcome.value) * total
    bound = min(outcome.bound, 1.0) * total
    return Rerouted(min(served, total), max(bound, served))


def _with_backups(
    case: Case, demand: FloatArray, failures: Sequence[Failure], paths: IntArray
) -> Decision:
    """Return a plan with backups, for paths of shape (T,)."""
    offers = case.offers
    units = np.minimum(offers.units_for(case.load(paths, demand)), offers.sold)[None, :]
    backups = find_backups(case, failures, paths[None, :], units)
    return Decision(paths[None, :], units, backups)


def find_backups(
    case: Case, failures: Sequence[Failure], paths: IntArray, units: FloatArray
) -> Backups:
    """Return backups: each task that loses its path takes the one that adds the least cost.

    Args:
        case: built with ``visits``.
        failures: where a part of the server is left, all tasks stay.
        paths: path of each task in each choice, shape (choices, T).
        units: that carry each choice without a failure, shape (choices, I).
    """
    offers, units = case.offers, units.copy()
    backups: Backups = {}
    for f, failure in enumerate(failures):
        if failure.lost is not None:
            continue
        keep, gone = np.max(failure.keep, axis=0), visiting_of(case, failure)
        own, stand = paths[failure.choice], units[failure.choice]
        then = np.where(gone[own], -1, own)
        load = case.load(then, keep)
        for t in np.flatnonzero(gone[own]).tolist():
            rows = case.columns_of(t)
            rows = rows[~gone[rows]]
            if len(rows):
                # Tasks of its group that run already pay for what they share.
                group = next((g for g in case.prefixes.groups if t in g), ())
                others = np.array([then[s] for s in group if then[s] >= 0], dtype=np.int64)
                more = case.prefixes.beside(rows, others)
                grown = load + np.where(case.is_rate, keep[t], 1.0) * more
                best = _least_more(case, rows, grown, stand)
                backups[f, t] = then[t] = int(rows[best])
                load = grown[best]
        units[failure.choice] = np.maximum(stand, np.minimum(offers.units_for(load), offers.sold))
    return backups


def _least_more(case: Case, rows: IntArray, loads: FloatArray, units: FloatArray) -> int:
    """Return which of n paths costs least more, the most accurate one of equals.

    Args:
        case: whose prices; what is not sold is dear.
        rows: n columns of one task.
        loads: with each of them, shape (n, I).
        units: units that stand, shape (I,).
    """
    offers = case.offers
    need = np.maximum(np.minimum(offers.units_for(loads), offers.sold), units) - units
    price = np.where(offers.unit > 0.0, offers.price_per_capacity, _NOT_SOLD)
    over = np.maximum(loads - offers.capacity(units), 0.0) @ price
    return int(np.argmin(need @ offers.price + over - 1e-9 * case.accuracy[rows]))


_NOT_SOLD = 1e6
"""Price of a whole capacity that is not sold, where backups are chosen."""


def _failure_row(
    case: Case, failure: Failure, plan: Decision, demand: FloatArray, number: int
) -> tuple[dict[str, Any], Rerouted]:
    """Return the row of one failure by the names of its columns."""
    gone = visiting_of(case, failure)
    hit, lost = gone[plan.paths[0]], case.is_lost(gone)
    total, fixed = float(demand.sum()), float(demand[~hit].sum())
    again = solve_rerouted(case, failure, plan.units[0], demand)
    # Leaving all paths as they are is one way to re-route.
    again = Rerouted(max(again.served, fixed), max(again.bound, fixed))
    row = {
        "failed_server": server_of(case, failure),
        "demand_per_s": total,
        "served_fixed_per_s": fixed,
        "served_fixed_share": fixed / total if total > 0.0 else 1.0,
        "served_rerouted_per_s": again.served,
        "served_rerouted_share": again.served / total if total > 0.0 else 1.0,
        "rerouted_gap": again.gap,
        "tasks_hit": hit.sum(),
        "tasks_lost": lost.sum(),
        "floors_kept": _keeps_floors(case, failure, plan, demand, number),
    }
    return row, again


def _keeps_floors(
    case: Case, failure: Failure, plan: Decision, demand: FloatArray, number: int
) -> bool | None:
    """Tell whether hit tasks have, or find, backup paths on which all keep their rates.

    None where a limit came before the answer.
    """
    gone, keep = visiting_of(case, failure), np.asarray(failure.keep[0])
    promised = gone[plan.paths[0]] & ~case.is_lost(gone) & (keep > 0.0)
    tasks = np.flatnonzero(promised).tolist()
    if all((number, t) in plan.backups for t in tasks):
        then = paths_under_failure(failure, plan, number)
        most = case.offers.capacity(plan.units[0]) * (1.0 + TOLERANCE)
        if tasks and (case.load(then, keep) > most).any():
            raise PlanFailedCheckError(f"failure of server {server_of(case, failure)}: overload")
        return True
    if plan.backups:
        return False
    return _can_keep(case, failure, plan, demand, promised)


def _can_keep(
    case: Case, failure: Failure, plan: Decision, demand: FloatArray, promised: BoolArray
) -> bool | None:
    """Tell whether promised tasks find backup paths on which all keep their rates; None: unknown.

    This is the survivable plan of one failure with the units and paths that are there.
    """
    gone = visiting_of(case, failure)
    allowed = ~gone & promised[case.table.task]
    # Only promised tasks need a backup.
    allowed[plan.paths[0]] = True
    fixed = replace(case, offers=case.offers.fixed(plan.units[0]), min_accuracy=None)
    few, rows = fixed.restricted(allowed), np.flatnonzero(allowed)
    alone = replace(failure, visiting=frozenset(np.flatnonzero(gone[rows]).tolist()))
    data = plan_data(few, [Situation(0, 0, demand.tolist())], failures=[alone])
    given = np.searchsorted(rows, plan.paths[0]).tolist()
    outcome = solve_program(few, replace(data, given_paths=given))
    return None if outcome.status == "unknown" else outcome.decision is not None


def server_of(case: Case, failure: Failure) -> str:
    """Return the id of the server that is gone."""
    return case.resources[failure.server].server or ""
