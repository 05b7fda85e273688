"""Least cost: units and paths together, beside what it costs with less coordination."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray
from code_opt.planning.analysis import Analysis, outcome_cells, saved_cells
from code_opt.planning.case import COORDINATIONS, Case, Coordination, build_case
from code_opt.planning.columns import TableBuilder
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import OperationTables, operate
from code_opt.planning.plan import Plan
from code_opt.planning.programs import ProgramOutcome, known_plan, plan_data, solve_program
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from formulations import Situation

_KEYS = "growth max_loss_points coordination method"

Outcomes = Mapping[str, ProgramOutcome]
"""What the exact method and the heuristic found, by ``exact`` and ``heuristic``."""


def plan_least_cost(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    growth: Sequence[float] = (1.0,),
    max_loss: Sequence[float | None] = (None,),
    coordinations: Sequence[Coordination] = COORDINATIONS,
) -> Plan:
    """Return the least cost of serving all demand, for growth factors and limits of loss.

    Args:
        instance: what to plan for.
        settings: options shared by all analyses.
        growth: factors on all demands.
        max_loss: most points of average accuracy lost against native paths; None: no limit.
        coordinations: which paths may be used.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    factors = [check_growth(g) for g in growth]
    losses = [check_loss(points) for points in max_loss]
    if not factors or not losses:
        raise InputError("a plan needs a growth factor and a limit of loss")
    summary = TableBuilder(
        "summary",
        "Least cost to serve all demand",
        f"{_KEYS} status cost bound gap units accuracy accuracy_loss_points "
        "throughput_per_s saved_cost saved_units seconds message",
    )
    operation = OperationTables(_KEYS)
    analysis = Analysis("least-cost", instance, settings, summary, *operation.tables)
    cases = {name: build_case(instance, settings, name) for name in dict.fromkeys(coordinations)}
    for factor, loss in itertools.product(factors, losses):
        found: dict[Coordination, Outcomes] = {}
        # Without coordination first: the others are compared with it.
        for name in sorted(cases, key=lambda n: n != "none"):
            analysis.tell(f"least cost, growth {factor:g}, coordination {name}")
            case = cases[name].with_loss(loss)
            found[name] = solve_least_cost(case, case.grown(factor))
            key = {"growth": factor, "max_loss_points": loss, "coordination": name}
            _operate_all(operation, case, case.grown(factor), found[name], key)
        reasons = [
            _summarise(summary, name, case.with_loss(loss), found, factor, loss)
            for name, case in cases.items()
        ]
        if reasons[0] is not None:
            at = "" if loss is None else f", at most {loss:g} points lost"
            analysis.reasons.append(f"growth {factor:g}{at}: {reasons[0]}")
        main = found[next(iter(cases))]["exact"]
        analysis.prove(main.status, main.gap)
    return analysis.plan(
        growth=tuple(factors),
        max_loss_points=None
        if losses == [None]
        else tuple(points for points in losses if points is not None),
    )


def solve_least_cost(case: Case, demand: FloatArray) -> Outcomes:
    """Return the exact plan and the heuristic one for one demand.

    Args:
        case: paths, prices, and the floor on the accuracy.
        demand: rates that are all served [inferences/s], shape (T,).
    """
    begin = time.perf_counter()
    data = plan_data(case, [Situation(0, 0, demand.tolist())])
    start = search_plan(case, demand[None, :])
    known = None if start is None else known_plan(case, data, start)
    quick = ProgramOutcome("feasible", known)
    if known is None:
        quick = ProgramOutcome("unknown", message="no plan found")
    quick = replace(quick, seconds=time.perf_counter() - begin)
    exact = solve_program(case, data, start)
    return {"exact": replace(exact, seconds=time.perf_counter() - begin), "heuristic": quick}


def _operate_all(
    operation: OperationTables,
    case: Case,
    demand: FloatArray,
    outcomes: Outcomes,
    key: Mapping[str, Any],
) -> None:
    """Add the rows of both methods' plans."""
    for method, outcome in outcomes.items():
        if outcome.decision is not None:
            units, paths = outcome.decision.units[0], outcome.decision.paths[0]
            result = operate(case, units, paths, demand)
            operation.add(case, units, result, **key, method=method)


def _summarise(
    summary: TableBuilder,
    name: Coordination,
    case: Case,
    found: Mapping[Coordination, Outcomes],
    factor: float,
    loss: float | None,
) -> str | None:
    """Add the rows of both methods to the summary; return why there is no plan, if so."""
    demand, reason = case.grown(factor), None
    alone = found["none"]["exact"] if "none" in found else None
    for method, outcome in found[name].items():
        cells = outcome_cells(case, outcome, demand) | saved_cells(case, outcome, alone)
        if outcome.decision is not None:
            cells["throughput_per_s"] = demand.sum()
        if outcome.status == "infeasible":
            reason = cells["message"]
        key = {"growth": factor, "max_loss_points": loss, "coordination": name, "method": method}
        summary.add_fitting([cells], **key)
    return reason
