"""A growth path: demand grows over periods, capacity is bought on the way and never sold.

One model decides all periods together: a unit bought early serves ever after, and paths
may change from period to period. Money spent later may count less (``discount``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray
from code_opt.planning.case import COORDINATIONS, Case, Coordination, build_case
from code_opt.planning.columns import table
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import (
    PlanFailedCheckError,
    confirmed,
    link_cells,
    operate,
    path_cells,
    server_cells,
    serves_all,
)
from code_opt.planning.plan import Cell, Plan, cell, worst_status
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
    tables: dict[str, list[list[Cell]]] = {
        name: [] for name in ("summary", "periods", "servers", "links", "paths")
    }
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
        tables["summary"].append(
            [name, "exact", outcome.status, *_totals(case, outcome, alone), seconds, message]
        )
        _period_rows(case, outcome, name, factors, demands, least, tables)
    order = {name: i for i, name in enumerate(names)}
    for rows in tables.values():
        rows.sort(key=lambda row: order[str(row[0])])  # type: ignore[index]
    main = outcomes[names[0]]
    plan = Plan(
        schema="code-opt/plan/1",
        kind="growth",
        instance=instance.name,
        instance_digest=digest_of(instance),
        status=worst_status([main.status]),
        gap=main.gap,
        seconds=time.perf_counter() - begin,
        message=messages[0],
        settings={
            "growth": tuple(factors),
            "max_loss_points": loss,
            "discount": discount,
            **settings.shown(),
        },
        tables=(
            table(
                "summary",
                "Growth path: total cost",
                "coordination method status cost present_value bound gap units saved_cost "
                "saved_units seconds message",
                tables["summary"],
            ),
            table(
                "periods",
                "What is bought when",
                "coordination period growth units_bought cost total_units total_cost accuracy "
                "accuracy_loss_points throughput_per_s",
                tables["periods"],
            ),
            table(
                "servers",
                "Servers in each period",
                "coordination period server units_bought units cost capacity_flop_per_s "
                "load_flop_per_s utilization",
                tables["servers"],
            ),
            table(
                "links",
                "Links in each period",
                "coordination period source target units_bought units cost capacity_bytes_per_s "
                "load_bytes_per_s utilization",
                tables["links"],
            ),
            table(
                "paths",
                "Paths in each period",
                "coordination period task path rate_per_s accuracy accuracy_source latency_s",
                tables["paths"],
            ),
        ),
    )
    return confirmed(plan, instance)


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


def _totals(case: Case, outcome: ProgramOutcome, alone: ProgramOutcome | None) -> list[Cell]:
    if outcome.units is None:
        return [None] * 7
    cost = float(outcome.units[-1] @ case.price)
    units = int(outcome.units[-1].sum())
    saved: list[Cell] = [None, None]
    if alone is not None and alone.units is not None:
        saved = [float(alone.units[-1] @ case.price) - cost, int(alone.units[-1].sum()) - units]
    return [cost, outcome.cost, cell(outcome.bound), cell(outcome.gap), units, *saved]


def _period_rows(
    case: Case,
    outcome: ProgramOutcome,
    name: str,
    factors: Sequence[float],
    demands: FloatArray,
    min_accuracy: float | None,
    tables: dict[str, list[list[Cell]]],
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
        key: list[Cell] = [name, h + 1]
        tables["periods"].append(
            [
                *key,
                factor,
                int(bought[h].sum()),
                float(bought[h] @ case.price),
                int(units.sum()),
                float(units @ case.price),
                accuracy,
                100.0 * (case.native_accuracy - accuracy),
                float(demand.sum()),
            ]
        )
        new = {r.key: int(n) for r, n in zip(case.resources, bought[h], strict=True)}
        for server, count, cost, _, *rest in server_cells(case, units, result):
            tables["servers"].append([*key, server, new[(str(server),)], count, cost, *rest])
        for source, target, count, cost, _, *rest in link_cells(case, units, result):
            first = new.get((str(source), str(target)), 0)
            tables["links"].append([*key, source, target, first, count, cost, *rest])
        tables["paths"] += [[*key, *row] for row in path_cells(result)]
