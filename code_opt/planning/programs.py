"""From a case to the planning model and back, solved to a proven gap.

What is proven. The program's rows are those of the planning model, relaxed by rounding
(:mod:`code_opt.planning.tolerances`), and no plan needs more units than N[i]. So every plan that
the one rule for units admits is a solution of the program, its cuts included, and the least
bound of the solver is a lower bound of the cost of every plan. The program may admit more:
a solver misses rows by its tolerance. Therefore the units of every solution are counted anew
from its paths and demands, exactly. Where they are more than the solver thought, a cut
(:func:`formulations.needs_units`) tells it what this choice of paths needs, and it goes on. So
cost, bound and gap are those of the exact problem. Where rates adapt, they are continuous: the
units are the solver's, and rates may miss what was asked by ``ROW``.

A plan that is known before (that of the heuristic) is beaten or returned. No plan that is at
least as good buys more units of one kind than its cost pays for; that bounds N[i], and the
prices that are left measure the objective, so that a dear server which nobody would buy does
not hide the cost of a cheap one behind the solver's tolerances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyomo.environ as pyo

from code_opt.core.settings import SMALLEST_GAP, Clock
from code_opt.errors import InputError, SolverError
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.planning.case import Case
from code_opt.planning.plan import Status
from code_opt.planning.settings import PlanSettings
from code_opt.planning.tolerances import NOISE, ROW
from code_opt.solvers import MipSession, Termination, open_session
from formulations import (
    Failure,
    PlanData,
    Rows,
    Situation,
    build_plan_model,
    needs_units,
    prefer,
)
from formulations.plan import SMALLEST_UNIT, avoiding

MOST_UNITS = 1_000_000
"""Largest number of units of one server or link; beyond it a solver's tolerances decide."""
_WIDEST = 1e6
"""Largest load, in shares of a capacity, that a row holds where rates adapt."""
_ROUNDS = 200
"""Most times that cuts are added to one program."""
_SMALL = 1_000
"""Variables up to which a program is solved without presolve."""
_NEARER = 0.5
"""A program is solved anew where the plan found leaves prices of at most this share."""


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
    adapts = any(situation.adapts for situation in situations)
    demand = np.max([s.demand for s in situations], axis=0)
    kept = [failure.keep for failure in failures]
    # Under a failure a task runs on one path only, so what is needed is bounded as without.
    largest = np.maximum(case.largest_load(np.max([demand, *kept], axis=0)), 1.0)
    most = np.where(case.unit > 0.0, np.minimum(case.units_for(largest), case.sold), 0.0)
    for i in np.flatnonzero(most > 0.0).tolist():
        name, count, share = case.resources[i].name, most[i], case.unit[i] / largest[i]
        if count > MOST_UNITS:
            raise InputError(
                f"{name}: up to {count:.3g} units could be needed, more than the "
                f"{MOST_UNITS:,} that can be planned with: make the unit larger"
            )
        if adapts and share < SMALLEST_UNIT:
            raise InputError(
                f"{name}: a unit is {share:.3g} of the largest load, less than the "
                f"{SMALLEST_UNIT:g} that can be planned with: make the unit larger"
            )
    most = most.astype(np.int64)
    return PlanData(
        task_names=case.names,
        weight=case.weights.tolist(),
        # One unit that carries the largest load is as good as a larger one.
        unit=np.minimum(case.unit, largest).tolist(),
        price=case.price.tolist(),
        most_units=most.tolist(),
        factor=factor,
        min_accuracy=min_accuracy,
        situations=situations,
        expected_share=expected_share,
        failures=failures,
        cost_unit=_cost_unit(case.price, most),
        groups=case.shared.groups,
        load_unit=np.maximum(largest / _WIDEST, 1.0).tolist() if adapts else largest.tolist(),
        rounding=NOISE,
        **_of_paths(case),
    )


def solve_program(
    case: Case, data: PlanData, settings: PlanSettings, start: Start | None = None
) -> ProgramOutcome:
    """Solve a planning model: the cheapest plan with a proven bound (see the module).

    Args:
        case: what ``data`` was made from.
        data: the model's data.
        settings: gap, time limit, solver.
        start: a plan to start from, if one is known; none that costs more is returned.

    Raises:
        SolverError: the solver failed, or contradicts a plan that is known.
    """
    if not _is_within_reach(case, data):
        return ProgramOutcome("infeasible")
    clock = Clock(settings.time_limit)
    best = None if start is None else known_plan(case, data, start)
    bound, message = 0.0, None
    gap = max(settings.gap, SMALLEST_GAP)
    while True:
        asked = _affordable(data, best)
        search = _Search(case, asked, settings, clock, best, start)
        message = search.run(gap)
        best, bound = search.best, max(bound, search.bound)
        if best is None:
            status: Status = "infeasible" if search.is_infeasible else "unknown"
            return ProgramOutcome(status, message=message)
        _refuse_contradiction(best.cost, bound)
        if message is not None or gap_of(best.cost, bound) <= gap:
            break
        if _affordable(data, best).cost_unit > _NEARER * asked.cost_unit:
            message = "stopped at the solver's own tolerance"
            break
    best = search.preferred() or best
    bound = min(bound, best.cost)
    is_optimal = gap_of(best.cost, bound) <= gap
    return ProgramOutcome(
        "optimal" if is_optimal else "feasible",
        best.cost,
        bound,
        best.paths,
        best.units,
        best.backups,
        best.served,
        message,
    )


@dataclass(frozen=True)
class _Plan:
    """A plan with the units that it needs and what they cost."""

    paths: IntArray
    units: FloatArray
    backups: dict[tuple[int, int], int]
    served: FloatArray
    cost: float


def known_plan(case: Case, data: PlanData, start: Start) -> _Plan | None:
    """Return a plan with the units that its paths need, or None where it breaks a rule.

    Where rates adapt, its units and shares are taken as they are.

    Args:
        case: what ``data`` was made from.
        data: a planning model's data.
        start: the plan.
    """
    if _adapts(data):
        served = np.ones((len(data.situations), len(data.task_names)))
        served = served if start.served is None else start.served
        return _Plan(start.paths, start.units, start.backups, served, _cost(data, start.units))
    units = needed_units(case, data, start.paths, start.backups)
    if (units > np.asarray(data.most_units)).any():
        return None
    for least, paths in zip(data.min_accuracy, start.paths, strict=True):
        if least is not None and case.average_accuracy(paths) < least - NOISE:
            return None
        if (case.shared.filled(paths) > 1.0 + NOISE).any():
            return None
    for f, failure in enumerate(data.failures):
        then = paths_under_failure(case, failure, start.paths[0], start.backups, f)
        has_way_out = ~_lost(case, failure.visiting)
        if (has_way_out & (then < 0)).any() or (case.shared.filled(then) > 1.0 + NOISE).any():
            return None
    served = np.ones((len(data.situations), len(data.task_names)))
    return _Plan(start.paths, units, start.backups, served, _cost(data, units))


class _Search:
    """One planning model: solved, told by cuts what choices of paths need, and solved again."""

    def __init__(
        self,
        case: Case,
        data: PlanData,
        settings: PlanSettings,
        clock: Clock,
        best: _Plan | None,
        start: Start | None,
    ) -> None:
        self._case, self._data, self._settings, self._clock = case, data, settings, clock
        self.best = best
        self.bound = 0.0
        self.is_infeasible = False
        self._model = build_plan_model(data)
        self._hint = start

    def run(self, gap: float) -> str | None:
        """Search until the gap is reached; return why the search was stopped, if it was.

        None where it went to the end: the gap is reached, nothing is feasible, or the solver
        can prove no more.
        """
        session = planning_session(self._model, self._settings)
        for _ in range(_ROUNDS):
            has_start = self._start()
            outcome = session.solve(
                time_limit=self._clock.left,
                relative_gap=gap,
                absolute_gap=SMALLEST_GAP,
                tolerance=ROW,
                start=has_start,
            )
            if outcome.termination is Termination.INFEASIBLE:
                if self.best is not None:
                    raise session.contradiction(
                        "it calls a program infeasible of which a plan is known "
                        f"(cost {self.best.cost:.9g})"
                    )
                self.is_infeasible = True
                return None
            if math.isfinite(outcome.bound):
                self.bound = max(self.bound, -outcome.bound * self._data.cost_unit)
            cuts = [] if outcome.value is None else self._take()
            if self.best is not None and gap_of(self.best.cost, self.bound) <= gap:
                return None
            if outcome.termination is not Termination.OPTIMAL or self._clock.is_over:
                return f"stopped by {outcome.termination.value}"
            if not cuts:
                return None
            session.add_constraints(cuts)
        return f"stopped after {_ROUNDS} rounds of cuts"

    def preferred(self) -> _Plan | None:
        """Return the plan of the same cost that buys latest and is most accurate, if one is found.

        Without discounting it costs nothing to buy everything at once, and the cheapest plan may
        give up accuracy that it need not: nobody would want that.
        """
        best, limit = self.best, self._settings.time_limit
        if best is None:
            return None
        self._start()
        prefer(self._model, self._data, best.cost * (1.0 + ROW))
        try:
            outcome = planning_session(self._model, self._settings).solve(
                time_limit=None if limit is None else _SHARE_FOR_PREFERENCE * limit,
                absolute_gap=1e-6,
                tolerance=ROW,
                start=True,
            )
        except SolverError:
            return None  # the plan is proven; only which of equal cost is left
        if outcome.value is None:
            return None
        found = self._read()
        return found if found is not None and found.cost <= best.cost * (1.0 + NOISE) else None

    def _start(self) -> bool:
        """Set the variables to the best plan, or to what may be one; tell whether there is any."""
        if self.best is not None:
            best = self.best
            start = Start(best.paths, best.units, best.backups, best.served)
        elif self._hint is not None:
            start = self._hint
        else:
            return False
        _start_at(self._model, self._data, start)
        return True

    def _read(self) -> _Plan | None:
        """Return the plan of the variables' values, None where its need cannot be bought."""
        case, data = self._case, self._data
        paths, units, backups = _read(self._model, case, data)
        served = _served(self._model, case, data)
        if _adapts(data):
            return _Plan(paths, units, backups, served, _cost(data, units))
        needed = needed_units(case, data, paths, backups)
        if (needed > np.asarray(data.most_units)).any():
            return None
        return _Plan(paths, needed, backups, served, _cost(data, needed))

    def _take(self) -> list[Any]:
        """Keep the solver's plan if it is the best; return cuts where it lacks units."""
        plan = self._read()
        if plan is not None and (self.best is None or plan.cost < self.best.cost):
            self.best = plan
        if _adapts(self._data):
            return []
        paths, units, backups = _read(self._model, self._case, self._data)
        cuts = []
        for k, situation in enumerate(self._data.situations):
            chosen = paths[situation.choice]
            rate = np.asarray(situation.demand)
            cuts += self._cuts(chosen, rate, situation.period, units, self._of_choice(k))
        for f, failure in enumerate(self._data.failures):
            then = paths_under_failure(self._case, failure, paths[0], backups, f)
            cuts += self._cuts(then, np.asarray(failure.keep), 0, units, self._of_failure(f))
        return cuts

    def _of_choice(self, k: int) -> Callable[[int], list[Any]]:
        choice = self._data.situations[k].choice
        return lambda path: [self._model.choose[choice, path]]

    def _of_failure(self, f: int) -> Callable[[int], list[Any]]:
        model, visiting = self._model, self._data.failures[f].visiting

        def binaries(path: int) -> list[Any]:
            if path in visiting:
                return []
            backup = [model.backup[f, path]] if (f, path) in model.backup else []
            return [model.choose[0, path], *backup]

        return binaries

    def _cuts(
        self,
        paths: IntArray,
        rates: FloatArray,
        period: int,
        units: FloatArray,
        binaries: Callable[[int], list[Any]],
    ) -> list[Any]:
        """Return a cut for every server and link whose load needs more units than it has.

        Args:
            paths: path of each task, -1 for a task that does not run, shape (T,).
            rates: [inferences/s], shape (T,).
            period: whose units carry the load.
            units: of every period, shape (H, I).
            binaries: returns the variables that set a path.
        """
        case = self._case
        needed = case.units_for(case.load(paths, rates))
        shared = {t for group in case.shared.groups for t in group}
        cuts = []
        for i in np.flatnonzero(needed > units[period]).tolist():
            running = []
            for t, path in enumerate(paths.tolist()):
                if path < 0 or rates[t] <= 0.0 or case.use[path, i] <= 0.0:
                    continue
                rivals = [path]
                if t not in shared:  # what a path of a group costs depends on the others
                    own = np.arange(case.first[t], case.first[t + 1])
                    rivals = own[case.use[own, i] >= case.use[path, i]].tolist()
                running.append([variable for rival in rivals for variable in binaries(rival)])
            need = float(needed[i])
            cuts.append(needs_units(self._model, self._data, running, (period, i), need))
        return cuts


def _is_within_reach(case: Case, data: PlanData) -> bool:
    """Tell whether every task has a path, and the most accurate ones meet the floors."""
    if (np.diff(case.first) == 0).any():
        return False
    best = np.maximum.reduceat(case.accuracy, case.first[:-1])
    most = float(case.weights @ best)
    return all(least is None or most >= least - NOISE for least in data.min_accuracy)


def _adapts(data: PlanData) -> bool:
    return any(situation.adapts for situation in data.situations)


def _affordable(data: PlanData, best: _Plan | None) -> PlanData:
    """Return the data without units that cost more than the best plan known."""
    if best is None:
        return data
    price = np.asarray(data.price) * min(data.factor)
    most = np.asarray(data.most_units)
    with np.errstate(divide="ignore", invalid="ignore"):
        paid = np.floor(best.cost * (1.0 + ROW) / price)
    most = np.where(price > 0.0, np.minimum(most, paid), most).astype(np.int64)
    return replace(data, most_units=most.tolist(), cost_unit=_cost_unit(data.price, most))


def _cost_unit(price: Sequence[float] | FloatArray, most: IntArray) -> float:
    """Return the largest price of a unit that may be bought, 1 where nothing costs anything."""
    largest = float(np.asarray(price)[most > 0].max(initial=0.0))
    return largest if largest > 0.0 else 1.0


def _refuse_contradiction(cost: float, bound: float) -> None:
    """Refuse a bound above the cost of a plan.

    Raises:
        SolverError: one of them is wrong.
    """
    if bound > cost * (1.0 + SMALLEST_GAP):
        raise SolverError(
            f"the solver's bound {bound:.9g} is above the cost {cost:.9g} of a plan that it admits"
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
    try:
        outcome = session.solve(
            time_limit=time_limit, relative_gap=1e-4, tolerance=ROW, start=start is not None
        )
    except SolverError:
        return None  # it only guides the search
    if outcome.value is None:
        return None
    paths, units, _ = _read(model, few, small)
    if not _adapts(data):
        units = needed_units(few, small, paths, {})
        if (units > np.asarray(data.most_units)).any():
            return None
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
    then = paths_under_failure(case, failure, paths, backups, number)
    return case.load(then, np.asarray(failure.keep))


def paths_under_failure(
    case: Case,
    failure: Failure,
    paths: IntArray,
    backups: dict[tuple[int, int], int],
    number: int,
) -> IntArray:
    """Return the path of each task while a server is gone, -1 where it has none, shape (T,)."""
    visits = case.visits[paths, failure.server]
    then = [
        backups.get((number, t), -1) if hit else path
        for t, (path, hit) in enumerate(zip(paths.tolist(), visits.tolist(), strict=True))
    ]
    return np.array(then, dtype=np.int64)


def _lost(case: Case, visiting: frozenset[int]) -> npt.NDArray[np.bool_]:
    """Tell which tasks have no path that avoids a server, shape (T,)."""
    return np.array(
        [all(p in visiting for p in _paths(case, t)) for t in range(len(case.first) - 1)]
    )


def planning_session(model: pyo.ConcreteModel, settings: PlanSettings) -> MipSession:
    """Hand a planning program over to the solver of the settings.

    Small ones are solved without presolve, which costs nothing there: with needs a hair from whole
    units the presolve of HiGHS 1.16 calls feasible programs infeasible at any tight tolerance.
    """
    options = dict(settings.solver_options)
    if settings.solver == "highs" and model.nvariables() <= _SMALL:
        options = {"presolve": "off", **options}
    return open_session(
        model,
        settings.solver,
        threads=settings.threads,
        seed=settings.seed,
        options=options,
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
        visits=case.visits[rows],
        memory=case.memory[rows],
        shared=case.shared.subset(rows),
    )


def _paths(case: Case, task: int) -> range:
    return range(int(case.first[task]), int(case.first[task + 1]))


def _chosen(case: Case, task: int, values: Sequence[float | None]) -> int:
    return int(case.first[task]) + int(np.argmax([value or 0.0 for value in values]))


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
