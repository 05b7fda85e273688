"""A growth path: demand grows over periods, capacity is bought on the way and never sold.

One model decides all periods together: a unit bought early serves ever after, and paths
may change from period to period. Money spent later may count less (``discount``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray
from code_opt.planning.analysis import (
    Analysis,
    accuracy_cells,
    outcome_cells,
    saved_cells,
    timed,
)
from code_opt.planning.case import COORDINATIONS, Case, Coordination, build_case
from code_opt.planning.columns import TableBuilder
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import OperationTables, operate
from code_opt.planning.plan import Plan
from code_opt.planning.programs import Decision, ProgramOutcome, plan_data, solve_program
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from formulations import Situation

_KEY = "coordination period"


class _Tables:
    """The tables of the plan."""

    def __init__(self) -> None:
        self.summary = TableBuilder(
            "summary",
            "Growth path: total cost",
            "coordination method status cost present_value bound gap units saved_cost "
            "saved_units seconds message",
        )
        self.periods = TableBuilder(
            "periods",
            "What is bought when",
            f"{_KEY} growth units_bought cost total_units total_cost accuracy "
            "accuracy_loss_points throughput_per_s",
        )
        self.operation = OperationTables(
            _KEY,
            amounts="units_bought units cost capacity_{0} load_{0} utilization",
            of="in each period",
        )

    @property
    def all(self) -> tuple[TableBuilder, ...]:
        """In the order of the plan."""
        return (self.summary, self.periods, *self.operation.tables)


def plan_growth(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    growth: Sequence[float] = (1.0, 1.5, 2.0, 3.0),
    max_loss: float | None = None,
    discount: float = 0.0,
    coordinations: Sequence[Coordination] = COORDINATIONS,
) -> Plan:
    """Return what to buy in which period, at least total cost.

    Args:
        instance: what to plan for.
        settings: options shared by all analyses.
        growth: factor on all demands in each period, in order.
        max_loss: most points of average accuracy lost against native paths, in every period.
        discount: money of the next period counts 1 / (1 + discount) of this period's. With 0
            nothing is gained by waiting; of plans of the same cost the one that buys latest
            is looked for.
        coordinations: which paths may be used.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    factors, loss = [check_growth(g) for g in growth], check_loss(max_loss)
    if not factors:
        raise InputError("a growth path needs a period")
    value = check_discount(discount, len(factors))
    tables = _Tables()
    analysis = Analysis("growth", instance, settings, *tables.all)
    names = list(dict.fromkeys(coordinations))
    cases: dict[Coordination, Case] = {}
    outcomes: dict[Coordination, ProgramOutcome] = {}
    for name in names:
        analysis.tell(f"growth path, coordination {name}")
        case = cases[name] = build_case(instance, settings, name, max_loss=loss)
        demands = np.array([case.grown(factor) for factor in factors])
        outcomes[name] = timed(solve_growth, case, demands, value)
    for name, outcome in outcomes.items():
        case, hardest = cases[name], int(np.argmax(factors))
        cells = outcome_cells(case, outcome, case.grown(factors[hardest]))
        if outcome.status == "infeasible":
            cells["message"] = f"growth {factors[hardest]:g}: {cells['message']}"
        saved = saved_cells(case, outcome, outcomes.get("none"))
        tables.summary.add_fitting([cells | saved], coordination=name, method="exact")
        if name == names[0]:
            analysis.prove(outcome.status, outcome.gap)
            analysis.reasons += [cells["message"]] if cells["message"] else []
        if outcome.decision is not None:
            _add_periods(tables, case, name, outcome.decision, factors)
    return analysis.plan(growth=tuple(factors), max_loss_points=loss, discount=discount)


def check_discount(discount: float, periods: int) -> list[float]:
    """Return what money of each period counts, or refuse the discount rate.

    Raises:
        InputError: it is out of range.
    """
    if not (math.isfinite(discount) and 0.0 <= discount < 10.0):
        raise InputError(f"discount {discount}: must lie in [0, 10)")
    return [(1.0 + discount) ** -h for h in range(periods)]


def solve_growth(case: Case, demands: FloatArray, value: Sequence[float]) -> ProgramOutcome:
    """Return units and paths of all periods.

    Args:
        case: paths, prices, and the floor on the accuracy of every period.
        demands: rates of each period [inferences/s], shape (H, T).
        value: what money of each period counts.
    """
    plans = [search_plan(case, demand[None, :]) for demand in demands]
    found = [plan for plan in plans if plan is not None]
    start = None
    if len(found) == len(plans):
        units = np.maximum.accumulate([plan.units[0] for plan in found], axis=0)
        start = Decision(np.array([plan.paths[0] for plan in found]), units)
    situations = [Situation(h, h, demand.tolist()) for h, demand in enumerate(demands)]
    return solve_program(case, plan_data(case, situations, value), start)


def _add_periods(
    tables: _Tables, case: Case, name: str, plan: Decision, factors: Sequence[float]
) -> None:
    """Add the rows of one coordination to the tables of periods, servers, links and paths."""
    bought = np.diff(plan.units, axis=0, prepend=0.0)
    spent, years = case.offers.spent(plan.units), np.cumsum(plan.units, axis=0)
    for h, factor in enumerate(factors):
        units, paths, demand = plan.units[h], plan.paths[h], case.grown(factor)
        key = {"coordination": name, "period": h + 1}
        tables.periods.add(
            **key,
            growth=factor,
            units_bought=bought[h].sum(),
            cost=spent[h],
            total_units=units.sum(),
            total_cost=spent[: h + 1].sum(),
            **accuracy_cells(case, case.average_accuracy(paths)),
            throughput_per_s=demand.sum(),
        )
        result = operate(case, units, paths, demand)
        tables.operation.add(case, units, result, bought=bought[h], years=years[h], **key)
