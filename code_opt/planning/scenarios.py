"""Uncertain demand: units and paths are fixed first, rates adapt to what comes (two stages).

Four answers to the same scenarios:

- ``mean``: planned for the mean demand, as if it were certain;
- ``expected``: a share of the *expected* demand is served, the rates of each scenario being
  free between the tasks' floors and demands;
- ``worst``: that share of the demand is served in *every* scenario;
- ``every``: all demand is served in every scenario.

The rates shown are the best for the units and paths: the most throughput of each scenario.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.planning.case import Case, Coordination, build_case
from code_opt.planning.columns import table
from code_opt.planning.demands import Scenarios
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import link_cells, operate, path_cells, server_cells
from code_opt.planning.plan import Cell, Plan, cell, worst_status
from code_opt.planning.programs import (
    ProgramOutcome,
    Start,
    plan_data,
    restricted,
    solve_program,
    with_bound,
)
from code_opt.planning.rates import most_rates
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from code_opt.result import Result
from formulations import Situation

VARIANTS = ("mean", "expected", "worst", "every")
_UNITS = "units cost present_{0} capacity_{0} load_{0} utilization"


@dataclass(frozen=True)
class Served:
    """Rates of one variant in all scenarios, shape (K, T)."""

    rates: FloatArray
    demands: FloatArray
    probability: FloatArray

    @property
    def shares(self) -> FloatArray:
        """Served share of the demand of each scenario (1 where there is none), shape (K,)."""
        total = self.demands.sum(axis=1)
        return np.where(total > 0.0, self.rates.sum(axis=1) / np.maximum(total, 1e-300), 1.0)

    @property
    def expected_share(self) -> float:
        """Expected served demand / expected demand."""
        total = float(self.probability @ self.demands.sum(axis=1))
        return float(self.probability @ self.rates.sum(axis=1)) / total if total > 0.0 else 1.0


def plan_scenarios(
    instance: Instance,
    scenarios: Scenarios,
    settings: PlanSettings | None = None,
    *,
    served: float = 0.95,
    growth: float = 1.0,
    max_loss: float | None = None,
    coordination: Coordination = "full",
) -> Plan:
    """Return what to buy while the demand is uncertain.

    Args:
        instance: what to plan for.
        scenarios: demands with their probabilities.
        settings: options shared by all analyses.
        served: share of the demand that ``expected`` and ``worst`` serve, in [0, 1].
        growth: factor on all demands.
        max_loss: most points of average accuracy lost against native paths.
        coordination: which paths may be used.

    Raises:
        InputError: the instance, the scenarios or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    factor, loss = check_growth(growth), check_loss(max_loss)
    if not (math.isfinite(served) and 0.0 <= served <= 1.0):
        raise InputError(f"served {served}: must lie in [0, 1]")
    begin = time.perf_counter()
    case = build_case(instance, settings, coordination)
    least = case.least_accuracy(settings, loss)
    demands = scenarios.demands(case.instance) * factor
    probability = np.array(scenarios.probabilities)
    tables: dict[str, list[list[Cell]]] = {
        name: [] for name in ("summary", "scenarios", "servers", "links", "paths", "rates")
    }
    outcomes: dict[str, ProgramOutcome] = {}
    messages: list[str] = []
    seconds_of: dict[str, float] = {}
    # Paths that serve all demand, or the mean, are where to start when a share is enough.
    for variant in ("mean", "every", "worst", "expected"):
        settings.tell(f"scenarios: {variant}")
        started = time.perf_counter()
        known = [o.paths[0] for o in outcomes.values() if o.paths is not None]
        outcomes[variant] = solve_scenarios(
            case, demands, probability, variant, served, least, settings, known
        )
        seconds_of[variant] = time.perf_counter() - started
    # A share of every scenario's demand is that share of the expected demand, too.
    outcomes["worst"] = with_bound(outcomes["worst"], outcomes["expected"].bound, settings)
    for variant in VARIANTS:
        outcome, seconds = outcomes[variant], seconds_of[variant]
        message = outcome.message
        if outcome.status == "infeasible":
            hardest = demands.max(axis=0) if variant == "every" else probability @ demands
            message = why_infeasible(case, hardest, least, settings)
            messages.append(f"{variant}: {message}")
        share = {"mean": None, "expected": served, "worst": served, "every": 1.0}[variant]
        row: list[Cell] = [variant, share, outcome.status]
        if outcome.paths is None or outcome.units is None:
            tables["summary"].append([*row, *[None] * 8, seconds, message])
            continue
        paths, units = outcome.paths[0], outcome.units[0]
        floors = np.minimum(case.floors, demands) if variant != "mean" else np.zeros_like(demands)
        rates = np.array(
            [most_rates(case, units, paths, d, f) for d, f in zip(demands, floors, strict=True)]
        )
        found = Served(rates, demands, probability)
        accuracy = case.average_accuracy(paths)
        tables["summary"].append(
            [
                *row,
                outcome.cost,
                cell(outcome.bound),
                cell(outcome.gap),
                int(units.sum()),
                accuracy,
                100.0 * (case.native_accuracy - accuracy),
                found.expected_share,
                float(found.shares.min()),
                seconds,
                message,
            ]
        )
        _rows_of_variant(case, variant, scenarios, units, paths, found, least, floors, tables)
    gaps = [outcome.gap for outcome in outcomes.values() if outcome.gap is not None]
    return Plan(
        schema="code-opt/plan/1",
        kind="scenarios",
        instance=instance.name,
        status=worst_status([outcome.status for outcome in outcomes.values()]),
        gap=max(gaps, default=None),
        seconds=time.perf_counter() - begin,
        message="\n".join(messages) or None,
        settings={
            "served": served,
            "growth": factor,
            "max_loss_points": loss,
            "coordination": coordination,
            **settings.shown(),
        },
        tables=(
            table(
                "summary",
                "Plans for an uncertain demand",
                "variant served_share status cost bound gap units accuracy accuracy_loss_points "
                "expected_served_share worst_served_share seconds message",
                tables["summary"],
            ),
            table(
                "scenarios",
                "What each plan serves in each scenario",
                "variant scenario probability demand_per_s served_per_s served_share",
                tables["scenarios"],
            ),
            table(
                "servers",
                "Servers of each plan (largest load of all scenarios)",
                "variant server " + _UNITS.format("flop_per_s"),
                tables["servers"],
            ),
            table(
                "links",
                "Links of each plan (largest load of all scenarios)",
                "variant source target " + _UNITS.format("bytes_per_s"),
                tables["links"],
            ),
            table(
                "paths",
                "Paths of each plan",
                "variant task path accuracy accuracy_source latency_s",
                tables["paths"],
            ),
            table(
                "rates",
                "Rates in each scenario",
                "variant scenario task demand_per_s rate_per_s",
                tables["rates"],
            ),
        ),
    )


def solve_scenarios(
    case: Case,
    demands: FloatArray,
    probability: FloatArray,
    variant: str,
    served: float,
    min_accuracy: float | None,
    settings: PlanSettings,
    known: Sequence[IntArray] = (),
) -> ProgramOutcome:
    """Return units and paths for demands that are not known yet.

    Args:
        case: paths and prices.
        demands: rates of each scenario [inferences/s], shape (K, T).
        probability: of each scenario, shape (K,).
        variant: one of :data:`VARIANTS`.
        served: share that ``expected`` and ``worst`` serve.
        min_accuracy: floor on the average accuracy.
        settings: gap, time limit, solver.
        known: paths of other plans for these demands, shape (T,) each.
    """
    fixed = (probability @ demands)[None, :] if variant == "mean" else demands
    adapts = variant in ("expected", "worst")
    floors = np.minimum(case.floors, fixed)
    situations = [
        Situation(
            0,
            0,
            demand.tolist(),
            adapts=adapts,
            floor=floor.tolist() if adapts else (),
            least_share=served if variant == "worst" else None,
            probability=float(chance),
        )
        for demand, floor, chance in zip(
            fixed, floors, probability if len(fixed) == len(probability) else [1.0], strict=True
        )
    ]
    share = served if variant == "expected" else None
    if not adapts:
        found = search_plan(case, fixed, min_accuracy, settings.seed)
        start = None
        if found is not None and found.is_feasible:
            start = Start(found.paths[None, :], found.units[None, :], {})
        return solve_program(case, plan_data(case, situations, [min_accuracy]), settings, start)
    # Where a share is enough, heuristic plans for that share of each demand are candidates.
    candidates = list(known)
    for wanted in (fixed * served, served * (probability @ fixed)[None, :]):
        found = search_plan(case, wanted, min_accuracy, settings.seed)
        if found is not None and found.is_feasible:
            candidates.append(found.paths)
    start = _best_start(case, situations, min_accuracy, share, candidates, settings)
    data = plan_data(case, situations, [min_accuracy], expected_share=share)
    return solve_program(case, data, settings, start)


def _best_start(
    case: Case,
    situations: Sequence[Situation],
    min_accuracy: float | None,
    expected_share: float | None,
    candidates: Sequence[IntArray],
    settings: PlanSettings,
) -> Start | None:
    """Return the cheapest units and rates for one of some assignments, each solved alone."""
    best: tuple[float, Start] | None = None
    quick = replace(settings, time_limit=10.0)
    for paths in candidates:
        allowed = np.zeros(len(case.task_of), dtype=bool)
        allowed[paths] = True
        alone = restricted(case, allowed)
        data = plan_data(alone, situations, [min_accuracy], expected_share=expected_share)
        outcome = solve_program(alone, data, quick)
        if outcome.units is None or outcome.cost is None:
            continue
        if best is None or outcome.cost < best[0]:
            start = Start(paths[None, :], outcome.units, {}, outcome.served)
            best = (outcome.cost, start)
    return None if best is None else best[1]


def _rows_of_variant(
    case: Case,
    variant: str,
    scenarios: Scenarios,
    units: FloatArray,
    paths: IntArray,
    found: Served,
    min_accuracy: float | None,
    floors: FloatArray,
    tables: dict[str, list[list[Cell]]],
) -> None:
    results: list[Result] = []
    for k, name in enumerate(scenarios.names):
        result, _ = operate(
            case,
            units,
            paths,
            found.rates[k],
            found.demands[k],
            min_accuracy=min_accuracy,
            floors=floors[k],
        )
        results.append(result)
        tables["scenarios"].append(
            [
                variant,
                name,
                float(found.probability[k]),
                float(found.demands[k].sum()),
                float(found.rates[k].sum()),
                float(found.shares[k]),
            ]
        )
        tables["rates"] += [
            [variant, name, task.id, float(found.demands[k, t]), float(found.rates[k, t])]
            for t, task in enumerate(case.instance.tasks)
        ]
    # Of all scenarios the one in which a server or link is loaded most.
    servers = [server_cells(case, units, result) for result in results]
    links = [link_cells(case, units, result) for result in results]
    for rows in zip(*servers, strict=True):
        tables["servers"].append([variant, *max(rows, key=lambda row: float(row[5] or 0.0))])
    for rows in zip(*links, strict=True):
        tables["links"].append([variant, *max(rows, key=lambda row: float(row[6] or 0.0))])
    for task, path, _, accuracy, source, latency in path_cells(results[0]):
        tables["paths"].append([variant, task, path, accuracy, source, latency])
