"""From a case to the planning model and back, solved to a proven gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyomo.environ as pyo

from code_opt.errors import InputError
from code_opt.methods.settings import SMALLEST_GAP
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.planning.case import Case
from code_opt.planning.plan import Status
from code_opt.planning.settings import PlanSettings
from code_opt.solvers import MipSession, Termination, open_session
from formulations import Failure, PlanData, Rows, Situation, build_plan_model, prefer
from formulations.plan import avoiding

MOST_UNITS = 1_000_000
"""Largest number of units of one server or link; beyond it a solver's tolerances decide."""


@dataclass(frozen=True)
class Start:
    """A plan to start from."""

    paths: IntArray
    """Shape (choices, T)."""
    units: FloatArray
    """Shape (H, I)."""
    backups: dict[tuple[int, int], int]
    """By (failure, task)."""
    served: FloatArray | None = None
    """Served share of each task in each situation, shape (K, T); None: all."""


@dataclass(frozen=True)
class ProgramOutcome:
    """What a planning model gave; without a plan only status and message."""

    status: Status
    cost: float | None = None
    """As the objective counts it (discounted)."""
    bound: float | None = None
    """Proven lower bound of it."""
    paths: IntArray | None = None
    """Path of each task in each choice, shape (choices, T)."""
    units: FloatArray | None = None
    """Units that stand in each period, shape (H, I)."""
    backups: dict[tuple[int, int], int] | None = None
    """Backup path by (failure, task)."""
    served: FloatArray | None = None
    """Served share of each task in each situation as the program has it, shape (K, T)."""
    message: str | None = None

    @property
    def gap(self) -> float | None:
        """(cost - bound) / cost: the share of the cost that may be too much."""
        if self.cost is None or self.bound is None:
            return None
        return gap_of(self.cost, self.bound)


def with_bound(
    outcome: ProgramOutcome, bound: float | None, settings: PlanSettings
) -> ProgramOutcome:
    """Return an outcome whose cost is known to be at least ``bound``, too."""
    if outcome.cost is None or outcome.bound is None or bound is None or bound <= outcome.bound:
        return outcome
    best = min(bound, outcome.cost)
    is_optimal = gap_of(outcome.cost, best) <= max(settings.gap, SMALLEST_GAP)
    status: Status = "optimal" if is_optimal else outcome.status
    return replace(outcome, bound=best, status=status)


def gap_of(cost: float, bound: float) -> float:
    """Return (cost - bound) / cost, 0 where both are equal."""
    return 0.0 if cost <= bound or cost <= 0.0 else (cost - bound) / cost


def plan_data(
    case: Case,
    situations: Sequence[Situation],
    min_accuracy: Sequence[float | None],
    factor: Sequence[float] = (1.0,),
    expected_share: float | None = None,
    failures: Sequence[Failure] = (),
) -> PlanData:
    """Return a case as the planning model takes it.

    Raises:
        InputError: a unit is so small that numbers of units mean nothing to a solver.
    """
    demand = np.max([s.demand for s in situations], axis=0)
    kept = [failure.keep for failure in failures]
    # Under a failure a task runs on one path only, so what is needed is bounded as without.
    largest = np.max([demand, *kept], axis=0) if kept else demand
    most = case.most_units(largest)
    for resource, count in zip(case.resources, most.tolist(), strict=True):
        if count > MOST_UNITS:
            raise InputError(
                f"{resource.name}: up to {count:.3g} units could be needed, more than the "
                f"{MOST_UNITS:,} that can be planned with: make the unit larger"
            )
    prices = case.price[(case.unit > 0.0) & (most > 0)]
    return PlanData(
        task_names=case.names,
        weight=case.weights.tolist(),
        unit=case.unit.tolist(),
        price=case.price.tolist(),
        most_units=most.tolist(),
        factor=factor,
        min_accuracy=min_accuracy,
        situations=situations,
        expected_share=expected_share,
        failures=failures,
        cost_unit=max(float(prices.max(initial=0.0)), 1e-12) if prices.any() else 1.0,
        groups=case.shared.groups,
        **_of_paths(case),
    )


def solve_program(
    case: Case, data: PlanData, settings: PlanSettings, start: Start | None = None
) -> ProgramOutcome:
    """Solve a planning model.

    Args:
        case: what ``data`` was made from.
        data: the model's data.
        settings: gap, time limit, solver.
        start: a plan to start from, if one is known.

    Raises:
        SolverError: the solver failed.
    """
    if any(first == after for first, after in zip(case.first[:-1], case.first[1:], strict=True)):
        return ProgramOutcome("infeasible")
    model = build_plan_model(data)
    if start is not None:
        _start_at(model, data, start)
    outcome = _session(model, settings).solve(
        time_limit=settings.time_limit,
        relative_gap=max(settings.gap, SMALLEST_GAP),
        absolute_gap=1e-7,
        start=start is not None,
    )
    if outcome.termination is Termination.INFEASIBLE:
        return ProgramOutcome("infeasible")
    bound = -outcome.bound * data.cost_unit if math.isfinite(outcome.bound) else 0.0
    bound = max(bound, 0.0)
    stopped = outcome.termination is not Termination.OPTIMAL
    message = f"stopped by {outcome.termination.value}" if stopped else None
    if outcome.value is None:
        return ProgramOutcome("unknown", message=message)
    found = _read(model, case, data)
    served = _served(model, case, data)
    cost = _cost(data, found[1])
    found = _preferred(model, case, data, settings, cost) or found
    paths, units, backups = found
    if not any(situation.adapts for situation in data.situations):
        # A limit, or a price of 0, may leave units that nothing needs.
        units = np.minimum(units, needed_units(case, data, paths, backups))
    cost = _cost(data, units)
    bound = min(bound, cost)
    gap = gap_of(cost, bound)
    # The solver stops within its own tolerances.
    is_optimal = gap <= max(settings.gap, SMALLEST_GAP) or cost - bound <= 1e-6 * data.cost_unit
    return ProgramOutcome(
        "optimal" if is_optimal else "feasible",
        cost,
        bound,
        paths,
        units,
        backups,
        served,
        message,
    )


def solve_on_few(
    case: Case,
    data: PlanData,
    allowed: npt.NDArray[np.bool_],
    start: Start | None = None,
    *,
    time_limit: float,
    nodes: int,
    seed: int = 0,
) -> tuple[float, Start] | None:
    """Return the cost and the best plan found that uses some paths only, proving nothing.

    Args:
        case: what ``data`` was made from.
        data: a planning model's data without failures.
        allowed: which paths may be used, shape (P,); at least one of each task.
        start: a plan that uses only these.
        time_limit: seconds; meant as a safety, a search ends by its nodes.
        nodes: most nodes of the search.
        seed: of the solver.
    """
    rows = np.flatnonzero(allowed)
    few = restricted(case, allowed)
    small = replace(data, **_of_paths(few))
    model = build_plan_model(small)
    if start is not None:
        _start_at(model, small, replace(start, paths=np.searchsorted(rows, start.paths)))
    session = open_session(model, "highs", seed=seed, options={"mip_max_nodes": nodes})
    outcome = session.solve(time_limit=time_limit, relative_gap=1e-4, start=start is not None)
    if outcome.value is None:
        return None
    paths, units, _ = _read(model, few, small)
    if not any(situation.adapts for situation in data.situations):
        units = np.minimum(units, needed_units(few, small, paths, {}))
    served = _served(model, few, small)
    return _cost(small, units), Start(rows[paths], units, {}, served)


def needed_units(
    case: Case, data: PlanData, paths: IntArray, backups: dict[tuple[int, int], int]
) -> FloatArray:
    """Return the least units of each period that carry all demand, kept once bought; (H, I)."""
    units = np.zeros((len(data.factor), len(data.unit)))
    for situation in data.situations:
        load = case.load(paths[situation.choice], np.asarray(situation.demand))
        needed = case.units_for(load)
        units[situation.period] = np.maximum(units[situation.period], needed)
    for f, failure in enumerate(data.failures):
        load = load_under_failure(case, failure, paths[0], backups, f)
        units[0] = np.maximum(units[0], case.units_for(load))
    return np.maximum.accumulate(units, axis=0)


def load_under_failure(
    case: Case,
    failure: Failure,
    paths: IntArray,
    backups: dict[tuple[int, int], int],
    number: int,
) -> FloatArray:
    """Return the loads while a server is gone and hit tasks run on their backups, shape (I,)."""
    then = [
        backups.get((number, t), -1) if case.use[path, failure.server] > 0.0 else path
        for t, path in enumerate(paths.tolist())
    ]
    return case.load(np.array(then, dtype=np.int64), np.asarray(failure.keep))


def _session(model: pyo.ConcreteModel, settings: PlanSettings) -> MipSession:
    return open_session(
        model,
        settings.solver,
        threads=settings.threads,
        seed=settings.seed,
        options=settings.solver_options,
        log=settings.solver_log,
    )


def _cost(data: PlanData, units: FloatArray) -> float:
    bought = np.diff(units, axis=0, prepend=np.zeros((1, units.shape[1])))
    return float(np.asarray(data.factor) @ (bought @ np.asarray(data.price)))


def _read(
    model: pyo.ConcreteModel, case: Case, data: PlanData
) -> tuple[IntArray, FloatArray, dict[tuple[int, int], int]]:
    choices = range(len(data.min_accuracy))
    paths = np.array(
        [
            [
                _chosen(case, t, [model.choose[c, p].value for p in _paths(case, t)])
                for t in range(len(data.task_names))
            ]
            for c in choices
        ],
        dtype=np.int64,
    )
    units = np.array(
        [
            [float(round(model.units[h, i].value or 0.0)) for i in range(len(data.unit))]
            for h in range(len(data.factor))
        ]
    )
    backups = {
        (f, int(case.task_of[p])): p
        for (f, p), variable in model.backup.items()
        if (variable.value or 0.0) > 0.5
    }
    return paths, units, backups


def _served(model: pyo.ConcreteModel, case: Case, data: PlanData) -> FloatArray:
    """Return the served share of each task in each situation, shape (K, T)."""
    shares = np.ones((len(data.situations), len(data.task_names)))
    for k, situation in enumerate(data.situations):
        if situation.adapts:
            for t in range(shares.shape[1]):
                values = (model.serve[k, p].value or 0.0 for p in _paths(case, t))
                shares[k, t] = min(max(sum(values), 0.0), 1.0)
    return shares


def restricted(case: Case, allowed: npt.NDArray[np.bool_]) -> Case:
    """Return a case with some of its paths only, shape (P,); at least one of each task."""
    rows = np.flatnonzero(allowed)
    counts = np.bincount(case.task_of[rows], minlength=len(case.first) - 1)
    return replace(
        case,
        task_of=case.task_of[rows],
        first=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        accuracy=case.accuracy[rows],
        use=case.use[rows],
        memory=case.memory[rows],
        shared=case.shared.subset(rows),
    )


def _paths(case: Case, task: int) -> range:
    return range(int(case.first[task]), int(case.first[task + 1]))


def _chosen(case: Case, task: int, values: Sequence[float | None]) -> int:
    return int(case.first[task]) + int(np.argmax([value or 0.0 for value in values]))


def _preferred(
    model: pyo.ConcreteModel, case: Case, data: PlanData, settings: PlanSettings, cost: float
) -> tuple[IntArray, FloatArray, dict[tuple[int, int], int]] | None:
    """Return the plan of the same cost that buys latest and is most accurate, if one is found.

    Without discounting it costs nothing to buy everything at once, and the cheapest plan may
    give up accuracy that it need not: nobody would want that.
    """
    prefer(model, data, cost + 1e-6 * data.cost_unit)
    limit = settings.time_limit
    outcome = _session(model, settings).solve(
        time_limit=None if limit is None else _SHARE_FOR_PREFERENCE * limit,
        absolute_gap=1e-6,
        start=True,
    )
    return None if outcome.value is None else _read(model, case, data)


_SHARE_FOR_PREFERENCE = 0.25
"""Of the time limit, for choosing among plans of the same cost."""


def _start_at(model: pyo.ConcreteModel, data: PlanData, start: Start) -> None:
    for group in (
        model.choose,
        model.units,
        model.serve,
        model.backup,
        model.prefix_in_use,
        model.prefix_share,
        model.prefix_in_failure,
    ):
        for variable in group.values():
            variable.set_value(0, skip_validation=True)
    for c, row in enumerate(start.paths):
        for p in row.tolist():
            model.choose[c, p].set_value(1, skip_validation=True)
    for (h, i), variable in model.units.items():
        variable.set_value(int(start.units[h, i]), skip_validation=True)
    for k, situation in enumerate(data.situations):
        if situation.adapts:
            for t, p in enumerate(start.paths[situation.choice].tolist()):
                share = 1.0 if start.served is None else float(start.served[k, t])
                model.serve[k, p].set_value(share, skip_validation=True)
    for (f, _), p in start.backups.items():
        model.backup[f, p].set_value(1, skip_validation=True)
    _start_prefixes(model, data)


def _start_prefixes(model: pyo.ConcreteModel, data: PlanData) -> None:
    """Set what shared prefixes have to carry, given all other variables."""
    stays = [avoiding(data, f) for f in range(len(data.failures))]

    def of_choice(c: int, p: int) -> float:
        return float(model.choose[c, p].value)

    def of_situation(k: int, p: int) -> float:
        return float(model.serve[k, p].value)

    def of_failure(f: int, p: int) -> float:
        backup = model.backup[f, p].value if (f, p) in model.backup else 0.0
        return float(model.choose[0, p].value + backup) if p in stays[f] else 0.0

    for variables, users in (
        (model.prefix_in_use, of_choice),
        (model.prefix_share, of_situation),
        (model.prefix_in_failure, of_failure),
    ):
        for (number, v), variable in variables.items():
            carried = (sum(users(number, p) for p in paths) for paths in data.prefixes[v])
            variable.set_value(max(carried, default=0.0), skip_validation=True)


def _of_paths(case: Case) -> dict[str, Any]:
    """Return the fields of :class:`PlanData` that follow from the paths of a case."""
    shared = case.shared
    return {
        "task_of": case.task_of.tolist(),
        "accuracy": case.accuracy.tolist(),
        "rate_rows": _rows([r.name for r in case.resources], shared.own_use, shared.use),
        "memory_rows": _rows([r.name for r in case.memories], shared.own_memory, shared.memory),
        "prefixes": [_by_task(case, paths) for paths in shared.paths],
    }


def _by_task(case: Case, paths: IntArray) -> list[list[int]]:
    """Return paths by the task that they are of."""
    tasks = case.task_of[paths]
    return [paths[tasks == t].tolist() for t in dict.fromkeys(tasks.tolist())]


def _rows(names: list[str], amounts: FloatArray, shared: FloatArray) -> Rows:
    """Return the rows of uses by paths, shape (P, I), and by shared prefixes, shape (V, I)."""
    return Rows(names, _entries(amounts), _entries(shared) if len(shared) else ())


def _entries(amounts: FloatArray) -> list[list[tuple[int, float]]]:
    entries = []
    for column in amounts.T:
        used = np.flatnonzero(column)
        entries.append(list(zip(used.tolist(), column[used].tolist(), strict=True)))
    return entries
