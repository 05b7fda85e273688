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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.planning.analysis import Analysis, checked_share, outcome_cells, timed
from code_opt.planning.case import Case, Coordination, build_case, refuse_percentiles
from code_opt.planning.columns import TableBuilder
from code_opt.planning.demands import Scenarios
from code_opt.planning.heuristic import promising_paths, search_plan
from code_opt.planning.operation import OperationTables, operate, rates_of
from code_opt.planning.plan import Plan
from code_opt.planning.programs import (
    Decision,
    ProgramOutcome,
    plan_data,
    solve_on_few,
    solve_program,
    with_bound,
)
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from code_opt.stopping import is_stop_requested
from formulations import PlanData, Situation

VARIANTS = ("mean", "expected", "worst", "every")
_PER_TASK = 1
"""Paths per task, on average, that the program for a start takes from each relaxation."""
_SHARE_FOR_START, _SECONDS, _NODES = 0.3, 20.0, 500
"""Limits of that program: share of the time limit, seconds where there is none; nodes."""


@dataclass(frozen=True)
class UncertainDemand:
    """Demands of K scenarios, and the rates that a plan gives them."""

    names: tuple[str, ...]
    probability: FloatArray
    """Shape (K,)."""
    demands: FloatArray
    """[inferences/s], shape (K, T)."""
    rates: FloatArray
    """[inferences/s], shape (K, T)."""

    @property
    def mean(self) -> FloatArray:
        """Expected demand of each task [inferences/s], shape (T,)."""
        return np.asarray(self.probability @ self.demands)

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


class _Tables:
    """The tables of the plan."""

    def __init__(self) -> None:
        self.summary = TableBuilder(
            "summary",
            "Plans for an uncertain demand",
            "variant served_share status cost bound gap units accuracy accuracy_loss_points "
            "expected_served_share worst_served_share seconds message",
        )
        self.scenarios = TableBuilder(
            "scenarios",
            "What each plan serves in each scenario",
            "variant scenario probability demand_per_s served_per_s served_share",
        )
        self.operation = OperationTables(
            "variant",
            paths="task path accuracy accuracy_source latency_s",
            note=" (largest load of all scenarios)",
        )
        self.rates = TableBuilder(
            "rates", "Rates in each scenario", "variant scenario task demand_per_s rate_per_s"
        )

    @property
    def all(self) -> tuple[TableBuilder, ...]:
        """In the order of the plan."""
        return (self.summary, self.scenarios, *self.operation.tables, self.rates)


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
    checked_share("served", served)
    tables = _Tables()
    analysis = Analysis("scenarios", instance, settings, *tables.all)
    refuse_percentiles(
        instance,
        settings,
        "rates that adapt to scenarios are not known under such limits; --together --scenarios "
        "serves all demand in every scenario with them",
    )
    case = build_case(instance, settings, coordination, max_loss=loss)
    demand = _uncertain_demand(case, scenarios, factor)
    outcomes: dict[str, ProgramOutcome] = {}
    # Paths that serve all demand, or the mean, are where to start when a share is enough.
    for variant in ("mean", "every", "worst", "expected"):
        analysis.tell(f"scenarios: {variant}")
        known = [o.decision.paths[0] for o in outcomes.values() if o.decision is not None]
        outcomes[variant] = timed(solve_scenarios, case, demand, variant, served, known)
    # A share of every scenario's demand is that share of the expected demand, too.
    outcomes["worst"] = with_bound(outcomes["worst"], outcomes["expected"].bound, settings)
    share: dict[str, float | None]
    share = {"mean": None, "expected": served, "worst": served, "every": 1.0}
    for variant in VARIANTS:
        outcome = outcomes[variant]
        analysis.prove(outcome.status, outcome.gap)
        hardest = demand.demands.max(axis=0) if variant == "every" else demand.mean
        cells = outcome_cells(case, outcome, hardest) | {"served_share": share[variant]}
        if outcome.status == "infeasible":
            analysis.reasons.append(f"{variant}: {cells['message']}")
        if outcome.decision is not None:
            rated = _add_variant(tables, case, variant, outcome.decision, demand)
            cells["expected_served_share"] = rated.expected_share
            cells["worst_served_share"] = rated.shares.min()
        tables.summary.add_fitting([cells], variant=variant)
    return analysis.plan(
        served=served, growth=factor, max_loss_points=loss, coordination=coordination
    )


def _uncertain_demand(case: Case, scenarios: Scenarios, factor: float) -> UncertainDemand:
    """Return the demands of all scenarios, nothing of which is served yet.

    Raises:
        InputError: a task is unknown, or a demand out of range.
    """
    demands = scenarios.demands(case.instance) * factor
    for name, demand in zip(scenarios.names, demands, strict=True):
        case.check_demand(f"demand in scenario {name!r}", demand)
    probability = np.array(scenarios.probabilities)
    return UncertainDemand(scenarios.names, probability, demands, np.zeros_like(demands))


def solve_scenarios(
    case: Case,
    demand: UncertainDemand,
    variant: str,
    served: float,
    known: Sequence[IntArray] = (),
) -> ProgramOutcome:
    """Return units and paths for demands that are not known yet.

    Args:
        case: paths, prices, and the floor on the accuracy.
        demand: of all scenarios.
        variant: one of :data:`VARIANTS`.
        served: share that ``expected`` and ``worst`` serve.
        known: paths of other plans for these demands, shape (T,) each.
    """
    if variant in ("expected", "worst"):
        return _solve_for_share(case, demand, variant, served, known)
    fixed = demand.mean[None, :]
    if variant == "every":
        fixed = demand.demands[_deciding(demand.demands, adapts=False)]
    situations = [Situation(0, 0, row.tolist()) for row in fixed]
    return solve_program(case, plan_data(case, situations), search_plan(case, fixed))


def _solve_for_share(
    case: Case, demand: UncertainDemand, variant: str, served: float, known: Sequence[IntArray]
) -> ProgramOutcome:
    """Return units and paths that serve a share of each demand, or of the expected one."""
    if not case.has_all_paths:
        return ProgramOutcome("infeasible")
    rows, in_each = np.arange(len(demand.demands)), variant == "worst"
    if in_each:
        rows = _deciding(demand.demands, adapts=True)
    demands = demand.demands[rows]
    situations = [
        Situation(
            0,
            0,
            row.tolist(),
            adapts=True,
            floor=case.floors(row).tolist(),
            least_share=served if in_each else None,
            probability=float(chance),
        )
        for row, chance in zip(demands, demand.probability[rows], strict=True)
    ]
    data = plan_data(case, situations, expected_share=None if in_each else served)
    if is_stop_requested():
        return solve_program(case, data)
    # Plans for the share of each demand serve it in every scenario.
    found = search_plan(case, demands * served)
    candidates = [*known, *([] if found is None else [found.paths[0]])]
    few = promising_paths(case, demands * served, _PER_TASK)
    return solve_program(case, data, _start(case, data, candidates, few))


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


def _start(
    case: Case, data: PlanData, known: Sequence[IntArray], few: BoolArray
) -> Decision | None:
    """Return the best plan of some known paths alone, then of these and a few others."""
    best: Decision | None = None
    limit = case.settings.time_limit
    seconds = _SECONDS if limit is None else _SHARE_FOR_START * limit
    allowed = few.copy()

    def attempt(rows: BoolArray, start: Decision | None = None) -> None:
        nonlocal best
        seed = case.settings.seed
        found = solve_on_few(case, data, rows, start, time_limit=seconds, nodes=_NODES, seed=seed)
        if found is not None and (best is None or found.cost < best.cost):
            best = found

    for paths in known:
        alone = np.zeros(len(few), dtype=bool)
        alone[paths] = allowed[paths] = True
        attempt(alone)
    attempt(allowed, best)
    return best


def _add_variant(
    tables: _Tables, case: Case, variant: str, plan: Decision, demand: UncertainDemand
) -> UncertainDemand:
    """Add the rows of one plan; return the demand with the best rates in every scenario."""
    units, paths = plan.units[0], plan.paths[0]
    floors = case.floors(demand.demands)
    if variant == "mean":  # nobody promises anything but the mean
        floors = np.zeros_like(floors)
    results = [
        operate(case, units, paths, row, floor)
        for row, floor in zip(demand.demands, floors, strict=True)
    ]
    rated = replace(demand, rates=np.array([rates_of(result) for result in results]))
    for k, name in enumerate(demand.names):
        key = {"variant": variant, "scenario": name}
        tables.scenarios.add(
            **key,
            probability=demand.probability[k],
            demand_per_s=demand.demands[k].sum(),
            served_per_s=rated.rates[k].sum(),
            served_share=rated.shares[k],
        )
        for task, asked, rate in zip(case.names, demand.demands[k], rated.rates[k], strict=True):
            tables.rates.add(**key, task=task, demand_per_s=asked, rate_per_s=rate)
    tables.operation.add(case, units, *results, variant=variant)
    return rated
