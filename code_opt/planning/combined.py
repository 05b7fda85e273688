"""Growth, hours, scenarios and failures in one plan: all demand is served in every state.

A *state* is a growth factor, a period of the table of demands (an hour of the day, say) and a
scenario. Units are bought along the growth path and serve all states from then on. Paths are set
anew for each growth factor; within it they are the same in all states (``fixed``), or may differ
between periods of the table (``by-period``), but never between scenarios, which nobody knows
before. Under a failure, tasks keep a share of what each state asks for, on backup paths that
belong to the paths of the state.

A state that asks for no more than another one with the same paths is implied by it and left out of
the program; with paths by period so is a period whose states are all implied by those of another:
its paths could be the same. It gets the most accurate ones that are found for the units.

Hours are weights of averages and nothing else: what is bought depends on no hours or probabilities.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.planning.analysis import (
    Analysis,
    accuracy_cells,
    checked_share,
    outcome_cells,
    timed,
)
from code_opt.planning.case import Case, Coordination, build_case, least_of_groups, own_demands
from code_opt.planning.columns import TableBuilder
from code_opt.planning.demands import Scenarios
from code_opt.planning.failures import (
    device_failures,
    find_backups,
    kept_rates,
    server_of,
    single_failures,
)
from code_opt.planning.growth import check_discount
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import PATH_SEPARATOR, OperationTables, operate
from code_opt.planning.plan import Plan
from code_opt.planning.programs import (
    Backups,
    Decision,
    ProgramOutcome,
    known_plan,
    plan_data,
    solve_program,
    visiting_of,
    with_bound,
)
from code_opt.planning.settings import PlanSettings, check_growth, check_loss
from code_opt.stopping import is_stop_requested
from formulations import Failure, PlanData, Situation

if TYPE_CHECKING:
    from code_opt.instance.periods import Periods

Routing = Literal["fixed", "by-period"]
ROUTINGS: tuple[Routing, ...] = ("fixed", "by-period")
"""Whether the paths of a growth factor are the same in all periods of the table of demands."""
_KEY = "routing period"


@dataclass(frozen=True)
class _State:
    """One demand that has to be served."""

    growth: int
    """Number of the growth factor, whose units are there."""
    block: int
    """Number of the period of the table of demands."""
    demand_period: str | None
    scenario: str | None
    hours: float
    probability: float
    base: FloatArray
    """Demand at growth 1 [inferences/s], shape (T,)."""
    demand: FloatArray
    """[inferences/s], shape (T,)."""

    @property
    def weight(self) -> float:
        """In averages."""
        return self.hours * self.probability

    @property
    def name(self) -> str:
        """What tells it from the other states of its growth factor."""
        return ", ".join(name for name in (self.demand_period, self.scenario) if name is not None)

    def is_implied_by(self, other: _State) -> bool:
        """Whether no task asks for more than in another state."""
        return bool((self.demand <= other.demand).all())


@dataclass(frozen=True)
class _Kept:
    """What is kept under which failures."""

    servers: bool
    devices: bool
    share: float | None
    """Share of every demand when a server fails; None: the floors."""
    device_share: float
    """Share of every demand when a device fails."""

    def failures(
        self, case: Case, demands: FloatArray, *, period: int = 0, choice: int = 0
    ) -> list[Failure]:
        """Return the failures of servers, then those of devices, for demands of shape (J, T)."""
        at, found = {"period": period, "choice": choice}, []
        if self.servers:
            found += single_failures(case, kept_rates(case, demands, self.share), **at)
        if self.devices:
            found += device_failures(case, kept_rates(case, demands, self.device_share), **at)
        return found

    def kinds(self, case: Case) -> list[str]:
        """Return what fails in each of the failures of :meth:`failures`."""
        servers = len(case.instance.servers)
        return ["server"] * servers * self.servers + ["device"] * servers * self.devices


@dataclass(frozen=True)
class _Choice:
    """States with the same paths."""

    states: list[int]
    """Their numbers."""
    planned: list[int]
    """Those that no other one of these implies."""
    like: int | None = None
    """Number of a choice whose states imply all of these; it is in the program instead."""


@dataclass(frozen=True)
class _Routed:
    """Paths and backups of one choice."""

    paths: IntArray
    """Shape (T,)."""
    failures: Sequence[Failure]
    backups: Backups


def is_comparison(plan: Plan, plans: Sequence[Plan]) -> bool:
    """Tell whether a plan only says what another one would cost without coordination."""
    return (
        plan.kind == "combined"
        and plan.settings.get("coordination") == "none"
        and any(
            {**other.settings, "coordination": "none"} == plan.settings
            for other in plans
            if other.kind == plan.kind and other is not plan
        )
    )


class _Tables:
    """The tables of the plan."""

    def __init__(self) -> None:
        self.summary = TableBuilder(
            "summary",
            "Least cost to serve all demand in every state",
            "routing status cost present_value bound gap units states states_left_out seconds "
            "message",
        )
        self.periods = TableBuilder(
            "periods",
            "What is bought when; averages by hours",
            f"{_KEY} growth units_bought cost total_units total_cost accuracy "
            "accuracy_loss_points throughput_per_s",
        )
        self.states = TableBuilder(
            "states",
            "Demands that are served",
            f"{_KEY} demand_period scenario hours probability demand_per_s accuracy "
            "accuracy_loss_points implied_by",
        )
        self.operation = OperationTables(
            _KEY,
            amounts="units_bought units cost capacity_{0} load_{0} utilization mean_utilization",
            paths="demand_period task path accuracy accuracy_source latency_s promised_s",
            of="in each period",
            note=" (largest load of all states)",
        )
        self.demands = TableBuilder(
            "demands",
            "Demands at growth 1",
            "demand_period scenario task demand_per_s",
        )
        at = f"{_KEY} demand_period failed_server failed"
        self.failures = TableBuilder(
            "failures",
            "What fails, and how many tasks it moves",
            f"{at} tasks_hit tasks_moved tasks_lost",
        )
        self.backups = TableBuilder(
            "backups",
            "Where tasks go that a failure hits",
            f"{at} task path accuracy accuracy_source",
        )
        self.lost = TableBuilder(
            "lost", "Tasks that nothing can serve under a failure", "failed_server failed task"
        )

    @property
    def all(self) -> tuple[TableBuilder, ...]:
        """In the order of the plan."""
        return (
            *(self.summary, self.periods, self.states, *self.operation.tables),
            *(self.demands, self.failures, self.backups, self.lost),
        )


def plan_combined(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    growth: Sequence[float] = (1.0,),
    periods: Periods | None = None,
    scenarios: Scenarios | None = None,
    failures: bool = False,
    device_failures: bool = False,
    keep: float | None = None,
    keep_devices: float = 1.0,
    routings: Sequence[Routing] = ("fixed",),
    discount: float = 0.0,
    max_loss: float | None = None,
    coordination: Coordination = "full",
) -> Plan:
    """Return the cheapest units that serve every state, also under every single failure.

    Args:
        instance: what to plan for.
        settings: options shared by all analyses.
        growth: factor on all demands in each period of the growth path, in order.
        periods: demands by the hour; None: those of the instance.
        scenarios: all demand is served in each of them; their factors are on the demands of every
            period. None: one.
        failures: whether plans survive the failure of any one server.
        device_failures: whether they survive the failure of one device of any server. Tasks there
            may stay, where another device is left, or go to backup paths.
        keep: share of every demand that is kept when a server fails; None: the tasks' own floors.
        keep_devices: share of every demand that is kept when a device fails.
        routings: ``fixed``: the paths of a growth factor are the same in all periods of the table;
            ``by-period``: they may differ; each is a plan of its own.
        discount: money of the next growth period counts 1 / (1 + discount) of this period's.
        max_loss: most points of average accuracy lost against native paths, in every state.
        coordination: which paths may be used.

    Raises:
        InputError: the instance or the settings cannot be used.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    factors, loss = [check_growth(g) for g in growth], check_loss(max_loss)
    if not factors:
        raise InputError("a combined plan needs a growth factor")
    names = list(dict.fromkeys(routings))
    if not names or not set(names) <= set(ROUTINGS):
        raise InputError(f"routings {', '.join(names) or 'none'}: must be of {', '.join(ROUTINGS)}")
    value = check_discount(discount, len(factors))
    kept = _Kept(
        servers=failures,
        devices=device_failures,
        share=None if keep is None else checked_share("keep", keep),
        device_share=checked_share("keep_devices", keep_devices),
    )
    tables = _Tables()
    analysis = Analysis("combined", instance, settings, *tables.all)
    case = build_case(
        instance, settings, coordination, max_loss=loss, visits=failures or device_failures
    )
    states = _states(case, factors, periods, scenarios)
    _add_demands(tables, case, states)
    programs = {name: _Program(case, states, kept, name, value) for name in names}
    outcomes: dict[Routing, ProgramOutcome] = {}
    for name, program in programs.items():
        analysis.tell(f"combined plan, routing {name}")
        outcomes[name] = timed(program.solve, *(outcomes[n] for n in outcomes))
    if len(names) > 1:
        # Fixed paths are one way to set them by period.
        outcomes["fixed"] = with_bound(outcomes["fixed"], outcomes["by-period"].bound, settings)
    for name, program in programs.items():
        outcome = outcomes[name]
        cells = outcome_cells(case, outcome, states[program.hardest].demand, program.no_reason)
        if outcome.status == "infeasible":
            analysis.reasons.append(f"{name}: {cells['message']}")
        analysis.prove(outcome.status, outcome.gap)
        cells |= {"states": len(states), "states_left_out": len(states) - program.planned}
        tables.summary.add_fitting([cells], routing=name)
        if outcome.decision is not None:
            _add_plan(tables, program, outcome.decision, factors)
    _add_lost(tables, case, kept, states)
    return analysis.plan(
        growth=tuple(factors),
        max_loss_points=loss,
        coordination=coordination,
        discount=discount,
        failures=failures,
        device_failures=device_failures,
        keep=keep,
        keep_devices=keep_devices,
    )


def _states(
    case: Case,
    factors: Sequence[float],
    periods: Periods | None,
    scenarios: Scenarios | None,
) -> list[_State]:
    """Return all states, those of a growth factor after the other.

    Raises:
        InputError: a task is unknown, or a demand out of range.
    """
    blocks: list[tuple[str | None, float, Instance]] = [(None, 1.0, case.instance)]
    if periods is not None:
        blocks = [
            (name, hours, periods.at(case.instance, k))
            for k, (name, hours) in enumerate(zip(periods.names, periods.hours, strict=True))
        ]
    bases: list[tuple[int, str | None, str | None, float, float, FloatArray]] = []
    for number, (block, hours, at) in enumerate(blocks):
        if scenarios is None:
            demand = least_of_groups(at, own_demands(at))
            bases.append((number, block, None, hours, 1.0, demand))
            continue
        demands = scenarios.demands(at)
        for name, chance, demand in zip(
            scenarios.names, scenarios.probabilities, demands, strict=True
        ):
            bases.append((number, block, name, hours, chance, demand))
    states = [
        _State(h, *base, demand=base[-1] * factor)
        for (h, factor), base in itertools.product(enumerate(factors), bases)
    ]
    for state in states:
        where = f" in {state.name!r}" if state.name else ""
        case.check_demand(f"demand at growth {factors[state.growth]:g}{where}", state.demand)
    return states


class _Program:
    """The program of one routing, and what becomes of the states that are not in it."""

    def __init__(
        self,
        case: Case,
        states: Sequence[_State],
        kept: _Kept,
        routing: Routing,
        value: Sequence[float],
    ) -> None:
        self.case, self.states, self.kept, self.routing = case, states, kept, routing
        self._value = value
        self.implied_by: dict[int, int] = {}
        """The state that implies another one, by the number of the latter."""
        self.choices = self._choices()
        self._solved = [c for c, choice in enumerate(self.choices) if choice.like is None]
        """The choices in the program."""

    @property
    def planned(self) -> int:
        """How many states are in the program."""
        return sum(len(self.choices[c].planned) for c in self._solved)

    @property
    def hardest(self) -> int:
        """Number of the state with the most demand."""
        return int(np.argmax([state.demand.sum() for state in self.states]))

    @property
    def no_reason(self) -> str:
        """Why no plan of any size serves the states, where no single demand is the reason."""
        if self.kept.servers or self.kept.devices:
            return "the rates that are kept under failure do not fit what can be bought"
        return "no units and paths serve all states together"

    def _choices(self) -> list[_Choice]:
        """Return the states that have the same paths, and tell which states imply others."""
        of_key: dict[tuple[int, int], list[int]] = {}
        for number, state in enumerate(self.states):
            block = state.block if self.routing == "by-period" else 0
            of_key.setdefault((state.growth, block), []).append(number)
        choices = [_Choice(own, self._deciding(own)) for own in of_key.values()]
        solved: list[int] = []
        total = [max(self.states[k].demand.sum() for k in choice.planned) for choice in choices]
        for c in sorted(range(len(choices)), key=lambda c: -total[c]):
            choice = choices[c]
            for other in solved:
                reasons = {k: self._reason(k, choices[other].planned) for k in choice.planned}
                found = {k: reason for k, reason in reasons.items() if reason is not None}
                if len(found) == len(reasons):
                    self.implied_by |= found
                    choices[c] = replace(choice, like=other)
                    break
            else:
                solved.append(c)
        return choices

    def _deciding(self, own: Sequence[int]) -> list[int]:
        """Return the states that no other one of them implies."""
        found: list[int] = []
        for k in sorted(own, key=lambda k: -self.states[k].demand.sum()):
            reason = self._reason(k, found)
            if reason is None:
                found.append(k)
            else:
                self.implied_by[k] = reason
        return sorted(found)

    def _reason(self, number: int, others: Sequence[int]) -> int | None:
        """Return which of some states of the same growth factor implies a state, if any does."""
        state = self.states[number]
        return next(
            (
                k
                for k in others
                if self.states[k].growth == state.growth and state.is_implied_by(self.states[k])
            ),
            None,
        )

    def reason_of(self, number: int) -> int | None:
        """Return the state in the program that implies another one; None for one of these."""
        reason = self.implied_by.get(number)
        while reason is not None and reason in self.implied_by:
            reason = self.implied_by[reason]
        return reason

    def solve(self, *others: ProgramOutcome) -> ProgramOutcome:
        """Return units of all growth factors, and paths and backups of the choices solved.

        Args:
            others: plans with the same units in other routings, to start from.
        """
        case, data = self.case, self._data()
        starts = [self._start(data, self._searched())]
        if self.routing == "by-period":
            # One choice of paths for each growth factor stands in for all of its choices.
            starts += [
                self._start(data, other.decision.paths[[self._growth(c) for c in self._solved]])
                for other in others
                if other.decision is not None
            ]
        known = [start for start in starts if start is not None]
        counted = [plan for start in known if (plan := known_plan(case, data, start)) is not None]
        best = min(counted, key=lambda plan: plan.cost, default=None)
        return solve_program(case, data, best or next(iter(known), None))

    def _growth(self, c: int) -> int:
        return self.states[self.choices[c].states[0]].growth

    def _demands(self, c: int) -> FloatArray:
        """Return the demands of the states of a choice that are in its program, shape (J, T)."""
        return np.array([self.states[k].demand for k in self.choices[c].planned])

    def _data(self) -> PlanData:
        situations, failures = [], []
        for number, c in enumerate(self._solved):
            at, demands = self._growth(c), self._demands(c)
            situations += [Situation(at, number, demand.tolist()) for demand in demands]
            failures += self.kept.failures(self.case, demands, period=at, choice=number)
        return plan_data(self.case, situations, self._value, failures=failures)

    def _searched(self) -> IntArray | None:
        """Return the paths that the heuristic finds for each choice, shape (choices, T)."""
        found = [search_plan(self.case, self._demands(c)) for c in self._solved]
        if any(plan is None for plan in found):
            return None
        return np.array([plan.paths[0] for plan in found if plan is not None])

    def _start(self, data: PlanData, paths: IntArray | None) -> Decision | None:
        """Return a plan with given paths of each choice, and backups for them."""
        if paths is None:
            return None
        case, offers = self.case, self.case.offers
        units = np.array(
            [
                max_units(case, own, self._demands(c))
                for c, own in zip(self._solved, paths, strict=True)
            ]
        )
        standing = np.zeros((len(self._value), len(case.resources)))
        for c, need in zip(self._solved, units, strict=True):
            standing[self._growth(c)] = np.maximum(standing[self._growth(c)], need)
        standing = np.minimum(np.maximum.accumulate(standing, axis=0), offers.sold)
        return Decision(paths, standing, find_backups(case, data.failures, paths, units))

    def routed(self, plan: Decision) -> list[_Routed]:
        """Return paths and backups of every choice, also of those that are not in the program."""
        found: dict[int, _Routed] = {}
        begin = 0
        for number, c in enumerate(self._solved):
            failures = self.kept.failures(self.case, self._demands(c))
            backups = {
                (f - begin, t): path
                for (f, t), path in plan.backups.items()
                if begin <= f < begin + len(failures)
            }
            begin += len(failures)
            found[c] = _Routed(plan.paths[number], failures, backups)
        for c, choice in enumerate(self.choices):
            if choice.like is not None:
                found[c] = self._most_accurate(c, found[choice.like], plan.units[self._growth(c)])
        return [found[c] for c in range(len(self.choices))]

    def _most_accurate(self, c: int, known: _Routed, units: FloatArray) -> _Routed:
        """Return the most accurate paths that are found for a choice that another one implies.

        Args:
            c: number of the choice.
            known: paths and backups that serve it, too.
            units: that stand, shape (I,).
        """
        demands = self._demands(c)
        fixed = replace(self.case, offers=self.case.offers.fixed(units))
        failures = self.kept.failures(self.case, demands)
        if is_stop_requested():
            return replace(known, failures=failures)
        data = plan_data(
            fixed, [Situation(0, 0, demand.tolist()) for demand in demands], failures=failures
        )
        start = Decision(known.paths[None, :], np.zeros((1, len(units))), known.backups)
        found = solve_program(fixed, data, start).decision
        if found is None:
            return replace(known, failures=failures)
        return _Routed(found.paths[0], failures, found.backups)


def max_units(case: Case, paths: IntArray, demands: FloatArray) -> FloatArray:
    """Return the least units that carry each of some demands, as far as they are sold, shape (I,).

    Args:
        case: what is planned for.
        paths: path of each task, shape (T,).
        demands: [inferences/s], shape (J, T).
    """
    need = np.max([case.offers.units_for(case.load(paths, rates)) for rates in demands], axis=0)
    return np.where(case.is_rate, np.minimum(need, case.offers.sold), 0.0)


def _add_demands(tables: _Tables, case: Case, states: Sequence[_State]) -> None:
    for state in states:
        if state.growth == 0:
            for task, demand in zip(case.names, state.base, strict=True):
                tables.demands.add(**_block(state), task=task, demand_per_s=demand)


def _block(state: _State) -> dict[str, Any]:
    return {"demand_period": state.demand_period, "scenario": state.scenario}


def _add_plan(tables: _Tables, program: _Program, plan: Decision, factors: Sequence[float]) -> None:
    """Add the rows of one routing."""
    case, states = program.case, program.states
    bought = np.diff(plan.units, axis=0, prepend=0.0)
    spent, years = case.offers.spent(plan.units), np.cumsum(plan.units, axis=0)
    routed = program.routed(plan)
    for h, factor in enumerate(factors):
        key = {"routing": program.routing, "period": h + 1}
        results, accuracies, numbers = [], [], []
        for choice, own in zip(program.choices, routed, strict=True):
            first = states[choice.states[0]]
            if first.growth != h:
                continue
            block = first.demand_period if program.routing == "by-period" else None
            accuracy = accuracy_cells(case, case.average_accuracy(own.paths))
            for number in choice.states:
                state, reason = states[number], program.reason_of(number)
                results.append(operate(case, plan.units[h], own.paths, state.demand))
                accuracies.append(accuracy["accuracy"])
                numbers.append(number)
                tables.states.add(
                    **key,
                    **_block(state),
                    hours=state.hours,
                    probability=state.probability,
                    demand_per_s=state.demand.sum(),
                    **accuracy,
                    implied_by=None if reason is None else states[reason].name,
                )
            own_results = results[-len(choice.states) :]
            tables.operation.add_paths(*own_results, **key, demand_period=block)
            _add_failures(tables, program, own, {**key, "demand_period": block})
        weights = np.array([states[number].weight for number in numbers])
        tables.operation.add_capacities(
            case, plan.units[h], results, bought=bought[h], years=years[h], weights=weights, **key
        )
        tables.periods.add(
            **key,
            growth=factor,
            units_bought=bought[h].sum(),
            cost=spent[h],
            total_units=plan.units[h].sum(),
            total_cost=spent[: h + 1].sum(),
            **accuracy_cells(case, float(np.average(accuracies, weights=weights))),
            throughput_per_s=np.average([states[n].demand.sum() for n in numbers], weights=weights),
        )


def _add_failures(
    tables: _Tables, program: _Program, routed: _Routed, key: Mapping[str, Any]
) -> None:
    case = program.case
    for f, (kind, failure) in enumerate(
        zip(program.kept.kinds(case), routed.failures, strict=True)
    ):
        gone = visiting_of(case, failure)
        at = {**key, "failed_server": server_of(case, failure), "failed": kind}
        moved = {t: path for (g, t), path in sorted(routed.backups.items()) if g == f}
        tables.failures.add(
            **at,
            tasks_hit=gone[routed.paths].sum(),
            tasks_moved=len(moved),
            tasks_lost=0 if failure.lost is not None else case.is_lost(gone).sum(),
        )
        for t, path in moved.items():
            tables.backups.add(
                **at,
                task=case.names[t],
                path=PATH_SEPARATOR.join(case.blocks(path)),
                accuracy=case.accuracy[path],
                accuracy_source=case.accuracy_source(path),
            )


def _add_lost(tables: _Tables, case: Case, kept: _Kept, states: Sequence[_State]) -> None:
    failures = kept.failures(case, np.array([states[0].demand]))
    for kind, failure in zip(kept.kinds(case), failures, strict=True):
        if failure.lost is None:
            for t in np.flatnonzero(case.is_lost(visiting_of(case, failure))).tolist():
                tables.lost.add(
                    failed_server=server_of(case, failure), failed=kind, task=case.names[t]
                )
