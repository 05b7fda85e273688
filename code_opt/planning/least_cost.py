"""Least cost: units and paths together, beside what it costs with less coordination."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.planning.case import COORDINATIONS, Case, Coordination, build_case
from code_opt.planning.columns import TableBuilder
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import (
    OperationTables,
    PlanFailedCheckError,
    figures_of,
    finished_plan,
    operate,
    serves_all,
)
from code_opt.planning.plan import Plan, worst_status
from code_opt.planning.programs import (
    ProgramOutcome,
    Start,
    known_plan,
    plan_data,
    solve_program,
)
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from formulations import Situation

_KEYS = "growth max_loss_points coordination method"


@dataclass(frozen=True)
class LeastCost:
    """Units and paths for one demand; without a plan ``paths`` is None."""

    outcome: ProgramOutcome
    seconds: float

    @property
    def paths(self) -> IntArray | None:
        """Path of each task, shape (T,)."""
        return None if self.outcome.paths is None else self.outcome.paths[0]

    @property
    def units(self) -> FloatArray:
        """Units of each server and link, shape (I,)."""
        assert self.outcome.units is not None
        return self.outcome.units[-1]


def solve_least_cost(
    case: Case, demand: FloatArray, min_accuracy: float | None, settings: PlanSettings
) -> tuple[LeastCost, LeastCost]:
    """Return the exact plan and the heuristic one for one demand, at one accuracy floor.

    Args:
        case: paths and prices.
        demand: rates that are all served [inferences/s], shape (T,).
        min_accuracy: floor on the average accuracy.
        settings: gap, time limit, solver.
    """
    begin = time.perf_counter()
    found = search_plan(case, demand[None, :], min_accuracy, settings.seed)
    took = time.perf_counter() - begin
    data = plan_data(case, [Situation(0, 0, demand.tolist())], [min_accuracy])
    quick = ProgramOutcome("unknown", message="no plan found")
    start = None
    if found is not None and found.is_feasible:
        start = Start(found.paths[None, :], found.units[None, :], {})
        known = known_plan(case, data, start)
        if known is not None:
            quick = ProgramOutcome("feasible", known.cost, None, known.paths, known.units, {})
    exact = solve_program(case, data, settings, start)
    return LeastCost(exact, time.perf_counter() - begin), LeastCost(quick, took)


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
    begin = time.perf_counter()
    cases = {name: build_case(instance, settings, name) for name in dict.fromkeys(coordinations)}
    summary = TableBuilder(
        "summary",
        "Least cost to serve all demand",
        f"{_KEYS} status cost bound gap units accuracy accuracy_loss_points "
        "throughput_per_s saved_cost saved_units seconds message",
    )
    operation = OperationTables(_KEYS)
    reasons: list[str] = []
    main: list[ProgramOutcome] = []
    for factor in factors:
        for loss in losses:
            alone: ProgramOutcome | None = None
            block = len(summary.rows)
            # Without coordination first: the others are compared with it.
            for name in sorted(cases, key=lambda n: n != "none"):
                case = cases[name]
                settings.tell(f"least cost, growth {factor:g}, coordination {name}")
                demand = case.grown(factor)
                least = case.least_accuracy(settings, loss)
                exact, quick = solve_least_cost(case, demand, least, settings)
                if name == "none":
                    alone = exact.outcome
                if name == next(iter(cases)):
                    main.append(exact.outcome)
                for method, found in (("exact", exact), ("heuristic", quick)):
                    outcome = found.outcome
                    message = outcome.message
                    if method == "exact" and outcome.status == "infeasible":
                        message = why_infeasible(case, demand, least, settings)
                        if name == next(iter(cases)):
                            at = "" if loss is None else f", at most {loss:g} points lost"
                            reasons.append(f"growth {factor:g}{at}: {message}")
                    key = {
                        "growth": factor,
                        "max_loss_points": loss,
                        "coordination": name,
                        "method": method,
                    }
                    summary.add(
                        **key,
                        status=outcome.status,
                        **_figures(case, demand, found, alone),
                        seconds=found.seconds,
                        message=message,
                    )
                    if found.paths is None:
                        continue
                    result, _ = operate(
                        case, found.units, found.paths, demand, demand, min_accuracy=least
                    )
                    if not serves_all(result, demand):
                        raise PlanFailedCheckError("a plan does not serve all demand")
                    operation.add(case, found.units, result, **key)
            order = list(cases)
            summary.rows[block:] = sorted(
                summary.rows[block:], key=lambda row: order.index(row["coordination"])
            )
    return finished_plan(
        "least-cost",
        instance,
        begin,
        status=worst_status([o.status for o in main]),
        gaps=[o.gap for o in main],
        message="\n".join(reasons) or None,
        settings={
            "growth": tuple(factors),
            "max_loss_points": None
            if losses == [None]
            else tuple(points for points in losses if points is not None),
            **settings.shown(),
        },
        tables=(summary, *operation.tables),
    )


def _figures(
    case: Case, demand: FloatArray, found: LeastCost, alone: ProgramOutcome | None
) -> dict[str, Any]:
    """Return the figures of a plan by the names of their columns, none without a plan."""
    outcome = found.outcome
    if found.paths is None or outcome.cost is None:
        return {}
    figures = figures_of(case, outcome)
    if alone is not None and alone.cost is not None and alone.units is not None:
        figures["saved_cost"] = alone.cost - outcome.cost
        figures["saved_units"] = alone.units[-1].sum() - figures["units"]
    return {**figures, "throughput_per_s": demand.sum()}
