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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyomo.core as pyo

from code_opt.core.settings import SMALLEST_GAP, Clock
from code_opt.errors import InputError, SolverError
from code_opt.exact.waiting import level_at
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.planning.case import PRESENCE, Case
from code_opt.planning.offers import Offers
from code_opt.planning.plan import Status
from code_opt.planning.promises import Broken, LevelMenu, PlannedPromises
from code_opt.planning.settings import PlanSettings
from code_opt.planning.tolerances import NOISE, ROW
from code_opt.solvers import MipSession, Termination, open_session
from code_opt.stopping import is_stop_requested
from formulations import (
    Failure,
    PlanData,
    Situation,
    build_plan_model,
    exclude_loop,
    more_units_needed,
    needs_units,
    prefer,
    running_in_failure,
    waiting_of_plan,
)
from formulations.plan import SMALLEST_UNIT

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
_SHARE_FOR_PREFERENCE = 0.25
"""Of the time limit, for choosing among plans of the same cost."""

Backups = dict[tuple[int, int], int]
"""Backup path by (failure, task)."""


@dataclass(frozen=True)
class Decision:
    """What a plan decides, for choices of paths, H periods and K situations."""

    paths: IntArray
    """Path of each task in each choice, shape (choices, T)."""
    units: FloatArray
    """Units of each resource that stand in each period, shape (H, I)."""
    backups: Backups = field(default_factory=dict)
    served: FloatArray | None = None
    """Served share of each task in each situation, shape (K, T); None: all."""
    cost: float = math.inf
    """As the objective counts it (discounted)."""


@dataclass(frozen=True)
class Operation:
    """Paths at rates that a plan has to carry: in a situation, or under a failure."""

    period: int
    """Whose units carry it."""
    paths: IntArray
    """Path of each task, -1 for a task that does not run, shape (T,)."""
    rates: FloatArray
    """[inferences/s], shape (T,)."""
    failure: Failure | None = None


@dataclass(frozen=True)
class ProgramOutcome:
    """What a planning model gave; without a plan only status and message."""

    status: Status
    decision: Decision | None = None
    bound: float | None = None
    """Proven lower bound of the cost."""
    message: str | None = None
    seconds: float = 0.0

    @property
    def gap(self) -> float | None:
        """(cost - bound) / cost: the share of the cost that may be too much."""
        if self.decision is None or self.bound is None:
            return None
        return gap_of(self.decision.cost, self.bound)


def with_bound(
    outcome: ProgramOutcome, bound: float | None, settings: PlanSettings
) -> ProgramOutcome:
    """Return an outcome whose cost is known to be at least ``bound``, too."""
    if outcome.decision is None or outcome.bound is None or (bound or 0.0) <= outcome.bound:
        return outcome
    cost = outcome.decision.cost
    best = min(bound or 0.0, cost)
    is_optimal = gap_of(cost, best) <= max(settings.gap, SMALLEST_GAP)
    return replace(outcome, bound=best, status="optimal" if is_optimal else outcome.status)


def gap_of(cost: float, bound: float) -> float:
    """Return (cost - bound) / cost, 0 where both are equal."""
    return 0.0 if cost <= bound or cost <= 0.0 else (cost - bound) / cost


def plan_data(
    case: Case,
    situations: Sequence[Situation],
    factor: Sequence[float] = (1.0,),
    expected_share: float | None = None,
    failures: Sequence[Failure] = (),
) -> PlanData:
    """Return a case as the planning model takes it; its servers and links are the rate resources.

    Raises:
        InputError: a unit is so small that numbers of units mean nothing to a solver.
    """
    adapts = any(situation.adapts for situation in situations)
    # Under a failure a task runs on one path only, so what is needed is bounded as without.
    kept = [keep for failure in failures for keep in failure.keep]
    demand = np.max([s.demand for s in situations] + kept, axis=0)
    offers, rate = case.offers, case.rate_resources
    load, scale = case.largest_load(demand) + _largest_loss(case, failures), _scale(offers)[rate]
    # Paths at a rate of 0 need a device where there is none.
    least_load = np.maximum(load, case.largest_load(np.full(len(demand), PRESENCE)))
    most = np.minimum(offers.units_for(least_load), offers.sold)[rate]
    present = np.where(offers.present[rate] > 0.0, 1.0, 0.0)
    unit, largest = offers.unit[rate] / scale, np.maximum(load[rate] / scale, present)
    largest = np.where(largest > 0.0, largest, 1.0)
    for i in np.flatnonzero(most > 0.0).tolist():
        name, count, share = case.resources[rate[i]].name, most[i], unit[i] / largest[i]
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
    if case.promises is not None:  # more units make waits shorter, however many there are
        most = np.maximum(most, np.minimum(offers.sold[rate], MOST_UNITS))
    most = most.astype(np.int64)
    return PlanData(
        weight=case.table.weights.tolist(),
        # One unit that carries the largest load is as good as a larger one.
        unit=np.minimum(unit, largest).tolist(),
        price=offers.purchase[rate].tolist(),
        yearly=offers.yearly[rate].tolist(),
        most_units=most.tolist(),
        factor=factor,
        min_accuracy=[case.min_accuracy] * (1 + max(s.choice for s in situations)),
        situations=situations,
        expected_share=expected_share,
        failures=[
            f if f.lost is None else replace(f, lost=f.lost / scale[f.server]) for f in failures
        ],
        cost_unit=_cost_unit(offers.price[rate], most),
        load_unit=np.maximum(largest / _WIDEST, 1.0).tolist() if adapts else largest.tolist(),
        rounding=NOISE,
        present=present.tolist(),
        **_of_columns(case),
    )


def _largest_loss(case: Case, failures: Sequence[Failure]) -> FloatArray:
    """Return the most capacity that a failure takes away and leaves a part, shape (I,)."""
    loss = np.zeros(len(case.resources))
    for failure in failures:
        loss[failure.server] = max(loss[failure.server], failure.lost or 0.0)
    return loss


def _of_columns(case: Case) -> dict[str, Any]:
    """Return the fields of :class:`PlanData` that follow from the columns of a case."""
    names = [resource.name for resource in case.resources]
    shared, scale = case.prefixes, _scale(case.offers)
    return {
        "task_names": case.names,
        "task_of": case.table.task.tolist(),
        "accuracy": case.accuracy.tolist(),
        "rate_rows": shared.rows(case.rate_resources, names, scale),
        "memory_rows": shared.rows(case.memories, names, scale),
        "groups": shared.groups,
        "prefixes": shared.columns_by_task(case.table.task),
    }


def _scale(offers: Offers) -> FloatArray:
    """Return what is 1 in the rows of the model: the present capacities, of nothing 1; (I,)."""
    return np.where(offers.present > 0.0, offers.present, 1.0)


def solve_program(case: Case, data: PlanData, start: Decision | None = None) -> ProgramOutcome:
    """Solve a planning model: the cheapest plan with a proven bound (see the module).

    Args:
        case: what ``data`` was made from, with gap, time limit and solver.
        data: the model's data.
        start: a plan to start from, if one is known; none that costs more is returned.

    Raises:
        SolverError: the solver failed, or contradicts a plan that is known.
    """
    if not _is_within_reach(case, data):
        return ProgramOutcome("infeasible")
    clock = Clock(case.settings.time_limit)
    best = None if start is None else known_plan(case, data, start)
    bound, message = 0.0, None
    gap = max(case.settings.gap, SMALLEST_GAP)
    if clock.is_over:  # a program takes its time to be written down, too
        status: Status = "unknown" if best is None else "feasible"
        return ProgramOutcome(status, best, None if best is None else bound, _stopped(clock))
    waiting = None if case.promises is None else _Waiting(case, case.promises, data)
    while True:
        asked = _affordable(data, best)
        search = _Search(case, asked, clock, best, start, waiting)
        message = search.run(gap)
        best, bound = search.best, max(bound, search.bound)
        if best is None and waiting is not None and search.missed and message is None:
            assert search.solved is not None
            waiting.learn(asked, search.solved, search.missed)
            continue
        if best is None:
            return ProgramOutcome(
                "infeasible" if search.is_infeasible else "unknown", message=message
            )
        _refuse_contradiction(best.cost, bound)
        if message is not None or gap_of(best.cost, bound) <= gap:
            break
        if waiting is not None and search.missed and search.solved is not None:
            waiting.learn(asked, search.solved, search.missed)
            continue
        if _affordable(data, best).cost_unit > _NEARER * asked.cost_unit:
            message = "stopped at the solver's own tolerance"
            break
    if not is_stop_requested():
        best = search.preferred() or best
    bound = min(bound, best.cost)
    is_optimal = gap_of(best.cost, bound) <= gap
    return ProgramOutcome("optimal" if is_optimal else "feasible", best, bound, message)


def known_plan(case: Case, data: PlanData, start: Decision) -> Decision | None:
    """Return a plan with the units that its paths need, or None where it breaks a rule.

    Where rates adapt, its units and shares are taken as they are.

    Args:
        case: what ``data`` was made from.
        data: a planning model's data.
        start: the plan.
    """
    if _adapts(data):
        return replace(start, cost=_cost(case, data, start.units))
    for least, paths in zip(data.min_accuracy, start.paths, strict=True):
        if least is not None and case.average_accuracy(paths) < least - NOISE:
            return None
    once = ~case.is_rate
    for work in operations(data, start):
        load = case.load(work.paths, work.rates)
        if (load > case.offers.present * (1.0 + NOISE))[once].any():
            return None
    for f, failure in enumerate(data.failures):
        then = paths_under_failure(failure, start, f)
        if (~case.is_lost(visiting_of(case, failure)) & (then < 0)).any():
            return None
    return _counted(case, data, start)


def operations(data: PlanData, plan: Decision) -> Iterator[Operation]:
    """Yield what has to be carried: the situations, then the failures."""
    for situation in data.situations:
        rates = np.asarray(situation.demand)
        yield Operation(situation.period, plan.paths[situation.choice], rates)
    for f, failure in enumerate(data.failures):
        then = paths_under_failure(failure, plan, f)
        for keep in failure.keep:
            yield Operation(failure.period, then, np.asarray(keep), failure)


def units_of_operation(case: Case, work: Operation) -> FloatArray:
    """Return the least units that carry an operation (inf where none are sold), shape (I,)."""
    load, failure = case.load(work.paths, work.rates), work.failure
    if failure is not None and failure.lost is not None and load[failure.server] > PRESENCE:
        load[failure.server] += failure.lost * _scale(case.offers)[failure.server]
    return np.where(case.is_rate, case.offers.units_for(load), 0.0)


def needed_units(case: Case, data: PlanData, plan: Decision) -> FloatArray:
    """Return the least units of each period that carry all demand, kept once bought; (H, I).

    Limits of percentiles may need more.
    """
    units = np.zeros((len(data.factor), len(case.resources)))
    for work in operations(data, plan):
        units[work.period] = np.maximum(units[work.period], units_of_operation(case, work))
    return np.maximum.accumulate(units, axis=0)


def paths_under_failure(failure: Failure, plan: Decision, number: int) -> IntArray:
    """Return the path of each task under a failure, -1 where it has none, shape (T,)."""
    paths = plan.paths[failure.choice].tolist()
    return np.array(
        [
            plan.backups.get((number, t), -1 if failure.lost is None else path)
            if path in failure.visiting
            else path
            for t, path in enumerate(paths)
        ],
        dtype=np.int64,
    )


def visiting_of(case: Case, failure: Failure) -> BoolArray:
    """Tell which columns visit the server that is gone, shape (P,)."""
    gone = np.zeros(len(case.table), dtype=bool)
    gone[list(failure.visiting)] = True
    return gone


def _counted(case: Case, data: PlanData, plan: Decision) -> Decision | None:
    """Return a plan with the units that its paths need, None where these are not sold.

    Under limits of percentiles these are the plan's own where they are enough, or what a search
    finds, if that costs less.
    """
    least, most = needed_units(case, data, plan), np.asarray(data.most_units)
    if (least[:, case.rate_resources] > most).any():
        return None
    found = [least]
    if case.promises is not None:
        own = np.maximum.accumulate(np.maximum(least, plan.units), axis=0)
        found = [own] if not _missed(case, data, plan, own) else []
        raised = _raised(case, data, plan, least)
        found += [] if raised is None else [raised]
    plans = [
        replace(plan, units=units, cost=_cost(case, data, units))
        for units in found
        if (units[:, case.rate_resources] <= most).all()
    ]
    return min(plans, key=lambda counted: counted.cost, default=None)


def _lost_capacity(case: Case, work: Operation) -> FloatArray:
    """Return what of each capacity is gone in an operation while a part of it is left; (I,)."""
    lost, failure = np.zeros(len(case.resources)), work.failure
    if failure is None or failure.lost is None:
        return lost
    if case.load(work.paths, work.rates)[failure.server] > PRESENCE:
        lost[failure.server] = failure.lost * _scale(case.offers)[failure.server]
    return lost


def _numbers(case: Case, paths: IntArray) -> IntArray:
    """Return the number of each task's path among its own, -1 where it does not run; (T,)."""
    return np.where(paths >= 0, paths - case.first[:-1], -1)


def _missed(
    case: Case, data: PlanData, plan: Decision, units: FloatArray
) -> list[tuple[int, Operation, list[Broken]]]:
    """Return the operations in which promises are broken with units, shape (H, I)."""
    if case.promises is None:
        return []
    found = []
    for number, work in enumerate(operations(data, plan)):
        capacity = case.offers.capacity(units[work.period]) - _lost_capacity(case, work)
        broken = case.promises.broken(_numbers(case, work.paths), work.rates, capacity)
        if broken:
            found.append((number, work, broken))
    return found


def _raised(case: Case, data: PlanData, plan: Decision, least: FloatArray) -> FloatArray | None:
    """Return units with which all promises are kept, at least some, shape (H, I); None: none."""
    assert case.promises is not None
    units = least.copy()
    for work in operations(data, plan):
        found = case.promises.raised(
            case.offers,
            _numbers(case, work.paths),
            work.rates,
            units[work.period],
            _lost_capacity(case, work),
        )
        if found is None:
            return None
        units[work.period] = found
    return np.maximum.accumulate(units, axis=0)


@dataclass(frozen=True)
class MoreUnits:
    """A choice of paths that breaks a promise with some units, and with fewer ones."""

    work: int
    """Number of the operation."""
    period: int
    paths: tuple[int, ...]
    """Of the tasks that load the stations concerned."""
    units: dict[int, int]
    """By the rate row of the stations of which more could help and are sold."""


class _Waiting:
    """Levels of wait scales beside a program, and the solutions that are cut off."""

    def __init__(self, case: Case, promises: PlannedPromises, data: PlanData) -> None:
        rates = [k.demand for k in data.situations]
        rates += [keep for failure in data.failures for keep in failure.keep]
        self._case, self._promises = case, promises
        self.menu = LevelMenu(promises, np.max(rates, axis=0))
        self._cuts: list[MoreUnits] = []
        self._loops: list[tuple[int, int, list[list[int]]]] = []
        """Number of an operation, station, and columns that close a loop before it."""
        self._place = {int(i): row for row, i in enumerate(case.rate_resources)}

    def add(self, model: pyo.ConcreteModel, data: PlanData) -> None:
        """Add the levels and all cuts to a planning model."""
        case = self._case
        levels = self.menu.levels(case.offers, case.rate_resources, _scale(case.offers))
        waiting_of_plan(model, data, levels)
        for number, station, groups in self._loops:
            s = self.menu.stations.index(station)
            last = len(levels.waiting.stations[s].lower) - 1
            exclude_loop(model.waits[number], groups, s, last)
        model.units_of_cuts = []
        setters = setters_of(model, data)
        for cut in self._cuts:
            running = [setters[cut.work](path) for path in cut.paths]
            more = more_units_needed(model, running, cut.period, cut.units)
            model.units_of_cuts += [
                (variable, cut.period, int(case.rate_resources[i]), cut.units[i] + 1)
                for i, variable in more.items()
            ]

    def start(self, model: pyo.ConcreteModel, data: PlanData, plan: Decision) -> None:
        """Set the variables of levels and cuts to a plan."""
        case = self._case
        setters = setters_of(model, data)
        for number, work in enumerate(operations(data, plan)):
            block = model.waits[number]
            numbers = _numbers(case, work.paths)
            capacity = case.offers.capacity(plan.units[work.period]) - _lost_capacity(case, work)
            there = self._promises.waits(numbers, work.rates, capacity)
            for s, station in enumerate(self.menu.stations):
                is_later = bool(there.log_prefactor[station] > 0.0)
                k = level_at(self.menu.menu[station], float(there.scale[station]), is_later)
                block.level[s, k].set_value(1, skip_validation=True)
            if work.failure is not None:
                for p, variable in block.running.items():
                    parts = sum(part.value for part in setters[number](p))
                    variable.set_value(parts, skip_validation=True)
        for variable, period, i, count in model.units_of_cuts:
            variable.set_value(int(plan.units[period, i] >= count), skip_validation=True)

    def learn(
        self,
        data: PlanData,
        solved: Decision,
        missed: Sequence[tuple[int, Operation, list[Broken]]],
    ) -> None:
        """Divide levels and cut off a solution where it breaks promises."""
        for number, work, broken in missed:
            loops = self._loops_before(number, work, broken)
            if loops:
                self._loops += loops
                continue
            for one in broken:
                self.menu.divide(one)
                units = solved.units[work.period]
                self._cuts.append(self._cut(data, number, work, one, units))

    def _loops_before(
        self, number: int, work: Operation, broken: Sequence[Broken]
    ) -> list[tuple[int, int, list[list[int]]]]:
        """Return the loops of dependencies because of which nothing is promised, in all states."""
        numbers, found = _numbers(self._case, work.paths), []
        for station in sorted({s for one in broken for s in one.own if s in self.menu.stations}):
            loop = self._promises.loop(numbers, station)
            if loop is not None:
                found.append((number, station, loop))
        return found

    def _cut(
        self, data: PlanData, number: int, work: Operation, one: Broken, units: FloatArray
    ) -> MoreUnits:
        """Return the cut of one broken promise, with as many units as still break it."""
        case, numbers = self._case, _numbers(self._case, work.paths)
        concerned = sorted(one.stations)
        tasks = [
            t
            for t, own in enumerate(numbers.tolist())
            if own >= 0
            and (
                t == one.task
                or any(job.station in one.stations for job in self._promises.jobs(t, own).jobs)
            )
        ]
        few = np.full(len(numbers), -1)
        few[tasks] = numbers[tasks]
        lost = _lost_capacity(case, work)

        def breaks(trial: FloatArray) -> bool:
            found = self._promises.broken(few, work.rates, case.offers.capacity(trial) - lost)
            return any(other.task == one.task for other in found)

        most = units.copy()
        for i in concerned:
            low, high = int(most[i]), int(data.most_units[self._place[i]])
            while low < high:
                middle = (low + high + 1) // 2
                trial = most.copy()
                trial[i] = middle
                low, high = (middle, high) if breaks(trial) else (low, middle - 1)
            most[i] = low
        return MoreUnits(
            number,
            work.period,
            tuple(int(work.paths[t]) for t in tasks),
            {
                self._place[i]: int(most[i])
                for i in concerned
                if most[i] < data.most_units[self._place[i]]
            },
        )


def setters_of(model: pyo.ConcreteModel, data: PlanData) -> list[Callable[[int], list[Any]]]:
    """Return for each operation what returns the binaries whose sum sets a path."""
    found = [partial(_chosen, model, situation.choice) for situation in data.situations]
    return [
        *found,
        *(
            partial(running_in_failure, model, data, f)
            for f, failure in enumerate(data.failures)
            for _ in failure.keep
        ),
    ]


def _chosen(model: pyo.ConcreteModel, choice: int, path: int) -> list[Any]:
    return [model.choose[choice, path]]


class _Search:
    """One planning model: solved, told by cuts what choices of paths need, and solved again."""

    def __init__(
        self,
        case: Case,
        data: PlanData,
        clock: Clock,
        best: Decision | None,
        start: Decision | None,
        waiting: _Waiting | None,
    ) -> None:
        self._case, self._data, self._clock = case, data, clock
        self.best = best
        self.bound = 0.0
        self.is_infeasible = False
        self._model = build_plan_model(data)
        self._waiting = waiting
        if waiting is not None:
            waiting.add(self._model, data)
        self._hint = start
        self.solved: Decision | None = None
        """What the solver said last."""
        self.missed: list[tuple[int, Operation, list[Broken]]] = []
        """Where that breaks promises."""

    def run(self, gap: float) -> str | None:
        """Search until the gap is reached; return why the search was stopped, if it was.

        None where it went to the end: the gap is reached, nothing is feasible, or the solver
        can prove no more.
        """
        session = planning_session(self._model, self._case.settings)
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
            if self._clock.is_over:
                return _stopped(self._clock)
            if outcome.termination is not Termination.OPTIMAL:
                return f"stopped by {outcome.termination.value}"
            if not cuts or self.missed:
                return None
            session.add_constraints(cuts)
        return f"stopped after {_ROUNDS} rounds of cuts"

    def preferred(self) -> Decision | None:
        """Return the plan of the same cost that buys latest and is most accurate, if one is found.

        Without discounting it costs nothing to buy everything at once, and the cheapest plan may
        give up accuracy that it need not: nobody would want that.
        """
        best, limit = self.best, self._case.settings.time_limit
        if best is None:
            return None
        self._start()
        prefer(self._model, self._data, best.cost * (1.0 + ROW))
        try:
            outcome = planning_session(self._model, self._case.settings).solve(
                time_limit=None if limit is None else _SHARE_FOR_PREFERENCE * limit,
                absolute_gap=1e-6,
                tolerance=ROW,
                start=True,
            )
        except SolverError:
            return None  # the plan is proven; only which of equal cost is left
        if outcome.value is None:
            return None
        found = read_plan(self._model, self._case, self._data)[1]
        return found if found is not None and found.cost <= best.cost * (1.0 + NOISE) else None

    def _start(self) -> bool:
        """Set the variables to the best plan, or to what may be one; tell whether there is any."""
        start = self.best or self._hint
        if start is not None:
            _start_at(self._model, self._case, self._data, start)
            if self._waiting is not None:
                self._waiting.start(self._model, self._data, start)
        return start is not None

    def _take(self) -> list[Any]:
        """Keep the solver's plan if it is the best; return cuts where it lacks units."""
        case, data = self._case, self._data
        solved, plan = read_plan(self._model, case, data)
        if plan is not None and (self.best is None or plan.cost < self.best.cost):
            self.best = plan
        if _adapts(data):
            return []
        setters, cuts = setters_of(self._model, data), []
        for work, binaries in zip(operations(data, solved), setters, strict=True):
            cuts += self._cuts(work, solved.units, binaries)
        self.solved, self.missed = solved, _missed(case, data, solved, solved.units)
        return cuts

    def _cuts(
        self, work: Operation, units: FloatArray, binaries: Callable[[int], list[Any]]
    ) -> list[Any]:
        """Return a cut for every server and link whose load needs more units than it has.

        Args:
            work: what has to be carried.
            units: of every period, shape (H, I).
            binaries: returns the variables that set a path.
        """
        case, period, rates = self._case, work.period, work.rates
        needed = units_of_operation(case, work)
        shared = {t for group in case.prefixes.groups for t in group}
        cuts = []
        for row, i in enumerate(case.rate_resources.tolist()):
            if needed[i] <= units[period, i]:
                continue
            running = []
            for t, path in enumerate(work.paths.tolist()):
                if path < 0 or rates[t] <= 0.0 or case.use[path, i] <= 0.0:
                    continue
                rivals = [path]
                if t not in shared:  # what a path of a group costs depends on the others
                    own = case.columns_of(t)
                    rivals = own[case.use[own, i] >= case.use[path, i]].tolist()
                running.append([variable for rival in rivals for variable in binaries(rival)])
            need = float(needed[i])
            cuts.append(needs_units(self._model, self._data, running, (period, row), need))
        return cuts


def _is_within_reach(case: Case, data: PlanData) -> bool:
    """Tell whether every task has a path, and the most accurate ones meet the floors."""
    if not case.has_all_paths:
        return False
    most = float(np.maximum.reduceat(case.table.accuracy, case.first[:-1]).sum())
    return all(least is None or most >= least - NOISE for least in data.min_accuracy)


def _adapts(data: PlanData) -> bool:
    return any(situation.adapts for situation in data.situations)


def _affordable(data: PlanData, best: Decision | None) -> PlanData:
    """Return the data without units that cost more than the best plan known."""
    if best is None:
        return data
    price = np.asarray(data.price) + np.asarray(data.yearly)
    least = price * min(data.factor)
    most = np.asarray(data.most_units)
    with np.errstate(divide="ignore", invalid="ignore"):
        paid = np.floor(best.cost * (1.0 + ROW) / least)
    most = np.where(least > 0.0, np.minimum(most, paid), most).astype(np.int64)
    return replace(data, most_units=most.tolist(), cost_unit=_cost_unit(price, most))


def _cost_unit(price: Sequence[float] | FloatArray, most: IntArray) -> float:
    """Return the largest price of a unit that may be bought, 1 where nothing costs anything."""
    largest = float(np.asarray(price)[most > 0].max(initial=0.0))
    return largest if largest > 0.0 else 1.0


def _stopped(clock: Clock) -> str:
    return f"stopped by {clock.reason}"


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
    allowed: BoolArray,
    start: Decision | None = None,
    *,
    time_limit: float,
    nodes: int,
    seed: int = 0,
) -> Decision | None:
    """Return the best plan found that uses some paths only, proving nothing.

    Args:
        case: what ``data`` was made from.
        data: a planning model's data without failures.
        allowed: which paths may be used, shape (P,); at least one of each task.
        start: a plan that uses only these.
        time_limit: seconds; meant as a safety, a search ends by its nodes.
        nodes: most nodes of the search.
        seed: of the solver.
    """
    if is_stop_requested():
        return None
    rows = np.flatnonzero(allowed)
    few = case.restricted(allowed)
    small = replace(data, **_of_columns(few))
    model = build_plan_model(small)
    if start is not None:
        _start_at(model, few, small, replace(start, paths=np.searchsorted(rows, start.paths)))
    session = open_session(model, "highs", seed=seed, options={"mip_max_nodes": nodes})
    try:
        outcome = session.solve(
            time_limit=time_limit, relative_gap=1e-4, tolerance=ROW, start=start is not None
        )
    except SolverError:
        return None  # it only guides the search
    if outcome.value is None:
        return None
    found = read_plan(model, few, small)[1]
    return None if found is None else replace(found, paths=rows[found.paths])


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


def _cost(case: Case, data: PlanData, units: FloatArray) -> float:
    return float(np.asarray(data.factor) @ case.offers.spent(units))


def read_plan(
    model: pyo.ConcreteModel, case: Case, data: PlanData
) -> tuple[Decision, Decision | None]:
    """Return the plan of a model's values, and it with the units that its paths need.

    The second is None where these units are not sold. Where rates adapt, both are the same.
    """
    tasks = [case.columns_of(t).tolist() for t in range(len(data.task_names))]

    def chosen(c: int, columns: Sequence[int]) -> int:
        values = [model.choose[c, p].value or 0.0 for p in columns]
        return columns[int(np.argmax(values))]

    paths = np.array([[chosen(c, own) for own in tasks] for c in range(len(data.min_accuracy))])
    units = np.zeros((len(data.factor), len(case.resources)))
    for (h, row), variable in model.units.items():
        units[h, case.rate_resources[row]] = round(variable.value or 0.0)
    backups = {
        (f, data.task_of[p]): p
        for (f, p), variable in model.backup.items()
        if (variable.value or 0.0) > 0.5
    }
    served = np.ones((len(data.situations), len(tasks)))
    for k, situation in enumerate(data.situations):
        if situation.adapts:
            for t, own in enumerate(tasks):
                share = sum(model.serve[k, p].value or 0.0 for p in own)
                served[k, t] = min(max(share, 0.0), 1.0)
    plan = Decision(paths, units, backups, served, _cost(case, data, units))
    return plan, plan if _adapts(data) else _counted(case, data, plan)


def _start_at(model: pyo.ConcreteModel, case: Case, data: PlanData, start: Decision) -> None:
    """Set the variables of a planning model to a plan."""
    for variable in model.component_data_objects(pyo.Var):
        variable.set_value(0, skip_validation=True)
    for c, row in enumerate(start.paths):
        for p in row.tolist():
            model.choose[c, p].set_value(1, skip_validation=True)
    for (h, row), variable in model.units.items():
        bought = int(start.units[h, case.rate_resources[row]])
        variable.set_value(bought, skip_validation=True)
    for k, situation in enumerate(data.situations):
        if situation.adapts:
            for t, p in enumerate(start.paths[situation.choice].tolist()):
                share = 1.0 if start.served is None else float(start.served[k, t])
                model.serve[k, p].set_value(share, skip_validation=True)
    for (f, _), p in start.backups.items():
        model.backup[f, p].set_value(1, skip_validation=True)
    for (f, p), stay in model.stay.items():
        failure, task = data.failures[f], data.task_of[p]
        if start.paths[failure.choice, task] == p and (f, task) not in start.backups:
            stay.set_value(1, skip_validation=True)
            if any(keep[task] > 0.0 for keep in failure.keep):
                model.in_service[f].set_value(1, skip_validation=True)
    # A prefix carries what each of its rows asks for (:func:`formulations.parts.carries`).
    for rows in (
        model.prefix_is_in_use,
        model.prefix_carries_share,
        model.prefix_is_in_use_under_failure,
    ):
        for constraint in rows.values():
            *users, prefix = constraint.body.linear_vars
            carried = max(prefix.value, sum(user.value for user in users))
            prefix.set_value(carried, skip_validation=True)
