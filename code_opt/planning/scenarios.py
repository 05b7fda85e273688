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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.planning.case import Case, Coordination, build_case
from code_opt.planning.columns import TableBuilder, builders
from code_opt.planning.demands import Scenarios
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.heuristic import promising_paths, search_plan
from code_opt.planning.operation import (
    figures_of,
    finished_plan,
    link_rows,
    operate,
    path_rows,
    server_rows,
)
from code_opt.planning.plan import Plan, worst_status
from code_opt.planning.programs import (
    ProgramOutcome,
    Start,
    plan_data,
    solve_on_few,
    solve_program,
    with_bound,
)
from code_opt.planning.rates import most_rates
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from code_opt.result import Result
from formulations import PlanData, Situation

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
    for name, demand in zip(scenarios.names, demands, strict=True):
        case.check_demand(f"demand in scenario {name!r}", demand)
    probability = np.array(scenarios.probabilities)
    tables = builders(
        (
            "summary",
            "Plans for an uncertain demand",
            "variant served_share status cost bound gap units accuracy accuracy_loss_points "
            "expected_served_share worst_served_share seconds message",
        ),
        (
            "scenarios",
            "What each plan serves in each scenario",
            "variant scenario probability demand_per_s served_per_s served_share",
        ),
        (
            "servers",
            "Servers of each plan (largest load of all scenarios)",
            "variant server " + _UNITS.format("flop_per_s"),
        ),
        (
            "links",
            "Links of each plan (largest load of all scenarios)",
            "variant source target " + _UNITS.format("bytes_per_s"),
        ),
        ("paths", "Paths of each plan", "variant task path accuracy accuracy_source latency_s"),
        ("rates", "Rates in each scenario", "variant scenario task demand_per_s rate_per_s"),
    )
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
        row = {
            "variant": variant,
            "served_share": share,
            "status": outcome.status,
            "seconds": seconds,
            "message": message,
        }
        if outcome.paths is None or outcome.units is None:
            tables["summary"].add(**row)
            continue
        paths, units = outcome.paths[0], outcome.units[0]
        floors = case.floors(demands) if variant != "mean" else np.zeros_like(demands)
        rates = np.array(
            [most_rates(case, units, paths, d, f) for d, f in zip(demands, floors, strict=True)]
        )
        found = Served(rates, demands, probability)
        tables["summary"].add(
            **row,
            **figures_of(case, outcome),
            expected_served_share=found.expected_share,
            worst_served_share=found.shares.min(),
        )
        _add_variant(case, variant, scenarios, units, paths, found, least, floors, tables)
    return finished_plan(
        "scenarios",
        instance,
        begin,
        status=worst_status([outcome.status for outcome in outcomes.values()]),
        gaps=[outcome.gap for outcome in outcomes.values()],
        message="\n".join(messages) or None,
        settings={
            "served": served,
            "growth": factor,
            "max_loss_points": loss,
            "coordination": coordination,
            **settings.shown(),
        },
        tables=tuple(tables.values()),
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
    adapts = variant in ("expected", "worst")
    if variant == "mean":
        fixed, chances = (probability @ demands)[None, :], np.ones(1)
    elif variant == "expected":
        fixed, chances = demands, probability
    else:
        rows = _deciding(demands, adapts)
        fixed, chances = demands[rows], probability[rows]
    floors = case.floors(fixed)
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
        for demand, floor, chance in zip(fixed, floors, chances, strict=True)
    ]
    share = served if variant == "expected" else None
    if not adapts:
        found = search_plan(case, fixed, min_accuracy, settings.seed)
        start = None
        if found is not None and found.is_feasible:
            start = Start(found.paths[None, :], found.units[None, :], {})
        return solve_program(case, plan_data(case, situations, [min_accuracy]), settings, start)
    if (np.diff(case.first) == 0).any():
        return ProgramOutcome("infeasible")
    data = plan_data(case, situations, [min_accuracy], expected_share=share)
    # Plans for the share of each demand serve it in every scenario.
    candidates = list(known)
    found = search_plan(case, fixed * served, min_accuracy, settings.seed)
    if found is not None and found.is_feasible:
        candidates.append(found.paths)
    few = promising_paths(case, fixed * served, min_accuracy, _PER_TASK)
    start = _start(case, data, candidates, few, settings)
    return solve_program(case, data, settings, start)


def _deciding(demands: FloatArray, adapts: bool) -> IntArray:
    """Return the scenarios that no other one implies when each of them has to be met.

    With rates r that serve demands d', demands d = c d' with c <= 1 are served to the same
    share by the larger of c r and the floors, which are at most r. Where all demand is
    served, d <= d' is enough.
    """
    kept: list[int] = []
    for k in np.argsort(-demands.sum(axis=1), kind="stable").tolist():
        for other in kept:
            largest = int(np.argmax(demands[other]))
            top = demands[other, largest]
            factor = demands[k, largest] / top if adapts and top > 0.0 else 1.0
            if adapts and (demands[k] == 0.0).all():
                break
            close = np.isclose(demands[k], factor * demands[other], rtol=1e-12, atol=0.0)
            if factor <= 1.0 and (close if adapts else demands[k] <= demands[other]).all():
                break
        else:
            kept.append(k)
    return np.array(sorted(kept), dtype=np.int64)


_PER_TASK = 1
"""Paths per task, on average, that the program for a start takes from each relaxation."""
_SHARE_FOR_START, _SECONDS, _NODES = 0.3, 20.0, 500
"""Limits of that program: share of the time limit, seconds where there is none; nodes."""


def _start(
    case: Case,
    data: PlanData,
    known: Sequence[IntArray],
    few: BoolArray,
    settings: PlanSettings,
) -> Start | None:
    """Return the best plan of some known paths alone, then of these and a few others."""
    best: tuple[float, Start] | None = None
    limit = settings.time_limit
    seconds = _SECONDS if limit is None else _SHARE_FOR_START * limit
    allowed = few.copy()

    def attempt(rows: BoolArray, start: Start | None = None) -> None:
        nonlocal best
        found = solve_on_few(
            case, data, rows, start, time_limit=seconds, nodes=_NODES, seed=settings.seed
        )
        if found is not None and (best is None or found[0] < best[0]):
            best = found

    for paths in known:
        alone = np.zeros(len(few), dtype=bool)
        alone[paths] = allowed[paths] = True
        attempt(alone)
    attempt(allowed, None if best is None else best[1])
    return None if best is None else best[1]


def _add_variant(
    case: Case,
    variant: str,
    scenarios: Scenarios,
    units: FloatArray,
    paths: IntArray,
    found: Served,
    min_accuracy: float | None,
    floors: FloatArray,
    tables: Mapping[str, TableBuilder],
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
        key = {"variant": variant, "scenario": name}
        tables["scenarios"].add(
            **key,
            probability=found.probability[k],
            demand_per_s=found.demands[k].sum(),
            served_per_s=found.rates[k].sum(),
            served_share=found.shares[k],
        )
        for t, task in enumerate(case.instance.tasks):
            tables["rates"].add(
                **key,
                task=task.id,
                demand_per_s=found.demands[k, t],
                rate_per_s=found.rates[k, t],
            )
    # Of all scenarios the one in which a server or link is loaded most.
    for table, rows_of, load in (
        ("servers", server_rows, "load_flop_per_s"),
        ("links", link_rows, "load_bytes_per_s"),
    ):
        for rows in zip(*(rows_of(case, units, result) for result in results), strict=True):
            tables[table].add(variant=variant, **max(rows, key=itemgetter(load)))
    for row in path_rows(results[0]):
        del row["rate_per_s"]
        tables["paths"].add(variant=variant, **row)
