"""A growth path: demand grows over periods, capacity is bought on the way and never sold.

One model decides all periods together: a unit bought early serves ever after, and paths
may change from period to period. Money spent later may count less (``discount``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray
from code_opt.planning.case import COORDINATIONS, Case, Coordination, build_case
from code_opt.planning.columns import TableBuilder, builders
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import (
    PlanFailedCheckError,
    finished_plan,
    link_rows,
    operate,
    path_rows,
    server_rows,
    serves_all,
)
from code_opt.planning.plan import Plan
from code_opt.planning.programs import ProgramOutcome, Start, plan_data, solve_program
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from formulations import Situation


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
    factors = [check_growth(g) for g in growth]
    loss = check_loss(max_loss)
    if not factors:
        raise InputError("a growth path needs a period")
    if not (math.isfinite(discount) and 0.0 <= discount < 10.0):
        raise InputError(f"discount {discount}: must lie in [0, 10)")
    begin = time.perf_counter()
    value = [(1.0 + discount) ** -h for h in range(len(factors))]
    key = "coordination period"
    bought = "units_bought units cost"
    tables = builders(
        (
            "summary",
            "Growth path: total cost",
            "coordination method status cost present_value bound gap units saved_cost "
            "saved_units seconds message",
        ),
        (
            "periods",
            "What is bought when",
            f"{key} growth units_bought cost total_units total_cost accuracy "
            "accuracy_loss_points throughput_per_s",
        ),
        (
            "servers",
            "Servers in each period",
            f"{key} server {bought} capacity_flop_per_s load_flop_per_s utilization",
        ),
        (
            "links",
            "Links in each period",
            f"{key} source target {bought} capacity_bytes_per_s load_bytes_per_s utilization",
        ),
        (
            "paths",
            "Paths in each period",
            f"{key} task path rate_per_s accuracy accuracy_source latency_s",
        ),
    )
    outcomes: dict[str, ProgramOutcome] = {}
    messages = []
    names = list(dict.fromkeys(coordinations))
    for name in sorted(names, key=lambda n: n != "none"):
        settings.tell(f"growth path, coordination {name}")
        started = time.perf_counter()
        case = build_case(instance, settings, name)
        least = case.least_accuracy(settings, loss)
        demands = np.array([case.grown(factor) for factor in factors])
        outcome = outcomes[name] = solve_growth(case, demands, least, value, settings)
        message = outcome.message
        if outcome.status == "infeasible":
            hardest = int(np.argmax(factors))
            reason = why_infeasible(case, demands[hardest], least, settings)
            message = f"growth {factors[hardest]:g}: {reason}"
        if name == names[0]:
            messages.append(message)
        seconds = time.perf_counter() - started
        alone = outcomes.get("none")
        tables["summary"].add(
            coordination=name,
            method="exact",
            status=outcome.status,
            **_totals(case, outcome, alone),
            seconds=seconds,
            message=message,
        )
        _add_periods(case, outcome, name, factors, demands, least, tables)
    for table in tables.values():
        table.rows.sort(key=lambda row: names.index(row["coordination"]))
    main = outcomes[names[0]]
    return finished_plan(
        "growth",
        instance,
        begin,
        status=main.status,
        gaps=[main.gap],
        message=messages[0],
        settings={
            "growth": tuple(factors),
            "max_loss_points": loss,
            "discount": discount,
            **settings.shown(),
        },
        tables=tuple(tables.values()),
    )


def solve_growth(
    case: Case,
    demands: FloatArray,
    min_accuracy: float | None,
    value: Sequence[float],
    settings: PlanSettings,
) -> ProgramOutcome:
    """Return units and paths of all periods.

    Args:
        case: paths and prices.
        demands: rates of each period [inferences/s], shape (H, T).
        min_accuracy: floor on the average accuracy of every period.
        value: what money of each period counts.
        settings: gap, time limit, solver.
    """
    periods = len(demands)
    # From the last period back: what is bought in the end carries most of what comes before.
    found = [search_plan(case, d[None, :], min_accuracy, settings.seed) for d in demands]
    start = None
    plans = [plan for plan in found if plan is not None and plan.is_feasible]
    if len(plans) == periods:
        units = np.maximum.accumulate([plan.units for plan in plans], axis=0)
        start = Start(np.array([plan.paths for plan in plans]), units, {})
    situations = [Situation(h, h, demands[h].tolist()) for h in range(periods)]
    data = plan_data(case, situations, [min_accuracy] * periods, value)
    return solve_program(case, data, settings, start)


def _totals(
    case: Case, outcome: ProgramOutcome, alone: ProgramOutcome | None
) -> dict[str, float | None]:
    """Return the figures of a whole path by the names of their columns, none without one."""
    if outcome.units is None:
        return {}
    cost = float(outcome.units[-1] @ case.price)
    units = outcome.units[-1].sum()
    saved = {}
    if alone is not None and alone.units is not None:
        saved = {
            "saved_cost": float(alone.units[-1] @ case.price) - cost,
            "saved_units": alone.units[-1].sum() - units,
        }
    return {
        "cost": cost,
        "present_value": outcome.cost,
        "bound": outcome.bound,
        "gap": outcome.gap,
        "units": units,
        **saved,
    }


def _add_periods(
    case: Case,
    outcome: ProgramOutcome,
    name: str,
    factors: Sequence[float],
    demands: FloatArray,
    min_accuracy: float | None,
    tables: Mapping[str, TableBuilder],
) -> None:
    """Add the rows of one coordination to the tables of periods, servers, links and paths."""
    if outcome.units is None or outcome.paths is None:
        return
    bought = np.diff(outcome.units, axis=0, prepend=0.0)
    for h, factor in enumerate(factors):
        units, paths, demand = outcome.units[h], outcome.paths[h], demands[h]
        result, _ = operate(case, units, paths, demand, demand, min_accuracy=min_accuracy)
        if not serves_all(result, demand):
            raise PlanFailedCheckError(f"period {h + 1} does not serve all demand")
        accuracy = case.average_accuracy(paths)
        key = {"coordination": name, "period": h + 1}
        tables["periods"].add(
            **key,
            growth=factor,
            units_bought=bought[h].sum(),
            cost=bought[h] @ case.price,
            total_units=units.sum(),
            total_cost=units @ case.price,
            accuracy=accuracy,
            accuracy_loss_points=100.0 * (case.native_accuracy - accuracy),
            throughput_per_s=demand.sum(),
        )
        for table, rows_of, left_out in (
            ("servers", server_rows, "present_flop_per_s"),
            ("links", link_rows, "present_bytes_per_s"),
        ):
            # The units bought now are those of a plan that has nothing else.
            now = [row["units"] for row in rows_of(case, bought[h], result)]
            for row, units_bought in zip(rows_of(case, units, result), now, strict=True):
                del row[left_out]
                tables[table].add(**key, **row, units_bought=units_bought)
        tables["paths"].add_all(path_rows(result), **key)
