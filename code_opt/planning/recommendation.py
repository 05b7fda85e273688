"""What plans of one instance recommend: one case of one plan, and what it rests on.

The page and workbooks read :class:`Recommendation`, which holds figures and ids; sentences are
made from it where they are shown. Nothing is solved here: all figures are those of the plans, or
follow from the instance by its own rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from code_opt.instance.changes import with_percentile
from code_opt.instance.model import INPUT, OUTPUT, Connection, GivenPath, Instance, Server, Task
from code_opt.planning.operation import PATH_SEPARATOR
from code_opt.planning.plan import Kind, Plan, Status
from code_opt.planning.reading import number_asked, numbers_asked, rows_of, table_of
from code_opt.planning.settings import PlanSettings
from code_opt.result import TOLERANCE

Record = dict[str, Any]
KINDS: tuple[Kind, ...] = ("combined", "growth", "failures", "scenarios", "least-cost")
"""Plans that say what to buy, the one that says most first: when, what survives a failure, ..."""
_KEYS: Mapping[str, tuple[str, ...]] = {
    "combined": ("routing",),
    "growth": ("coordination",),
    "failures": ("plan",),
    "scenarios": ("variant",),
    "least-cost": ("growth", "max_loss_points", "coordination", "method"),
}
"""Columns that name a case of each kind."""
_PERIODIC = ("combined", "growth")
"""Kinds that buy period by period."""
_VARIANTS = ("worst", "every", "expected", "mean")
"""Variants of a plan for an uncertain demand, the one that is recommended first."""


@dataclass(frozen=True)
class Purchase:
    """Units of one server or link that are bought at one time."""

    place: str
    """Id of the server, or ``source → target`` of a link."""
    period: int | None
    """Number of the period from 1; None: everything is bought at once."""
    units: int
    cost: float
    """Price at purchase."""
    size: float | None
    """What one unit adds, in :attr:`unit`; None where the file does not tell."""
    unit: Literal["FLOP/s", "devices", "bytes/s"]
    utilization: float | None
    """Share in use at the end of the period at the planned demand."""
    sold: float
    """Share that may be used: 1 less the headroom."""


@dataclass(frozen=True)
class Utilization:
    """How much of a server or link is in use at the planned demand, with all units."""

    place: str
    share: float
    sold: float
    """Share that may be used: 1 less the headroom."""


@dataclass(frozen=True)
class PlannedService:
    """One task as it is planned to run, in the last period where there are several."""

    task: str
    path: tuple[str, ...]
    rate: float | None
    """[inferences/s]; None where it changes with the scenario."""
    accuracy: float
    native_accuracy: float
    accuracy_source: str
    least_accuracy: float
    """``min_accuracy`` of the task."""
    latency: float | None
    """[s], unloaded: without waits."""
    latency_limit: float | None
    """[s]"""
    percentile: float | None
    """Share of the inputs that has to keep the limit under load; None: the limit is without."""
    promised: float | None
    """Time within which that share is answered under load [s]."""

    @property
    def limited_time(self) -> float | None:
        """What the limit is on: the promised time, or the one without load [s]."""
        return self.latency if self.percentile is None else self.promised

    @property
    def lost_points(self) -> float:
        """Accuracy lost against the native path [points]."""
        return 100.0 * (self.native_accuracy - self.accuracy)


@dataclass(frozen=True)
class ServerFailure:
    """What the failure of one server does to the recommended plan."""

    server: str
    hit: tuple[str, ...]
    """Tasks that stop until they are re-routed."""
    lost: tuple[str, ...]
    """Tasks that no other path can serve: lost at any size."""
    served_fixed: float
    """Share of the demand served with all paths as they are."""
    served_rerouted: float | None
    """Share of the demand served when all tasks may be re-routed; None: not asked for."""
    floors_kept: bool | None
    """All but the lost keep their floors on backup paths; None: not asked for, or unknown."""


@dataclass(frozen=True)
class UnmeasuredPath:
    """A path in use whose accuracy is predicted."""

    task: str
    path: tuple[str, ...]
    accuracy: float
    source: str
    """predicted or guessed."""
    saved: float | None
    """Price of the capacity that the path needs less than the native one, counted in parts of
    units; None: nothing that it needs less is for sale."""
    slack_points: float | None
    """How much lower the accuracy may be before a limit is broken [points]; None: no limit."""


@dataclass(frozen=True)
class CostAtDrops:
    """What the recommended case costs where guessed drops are at one end of their ranges."""

    drops: str
    """low, middle or high."""
    cost: float | None
    """None: it has no plan."""
    saved: float | None
    """Less than without coordination; None: not known."""


@dataclass(frozen=True)
class Recommendation:
    """What to buy, against what, and what it costs and rests on."""

    instance: Instance
    plan: Plan
    """The plan that it is from."""
    case: Mapping[str, Any]
    """Cells that name its case among those of the plan."""
    growth: tuple[float, ...]
    """Factor on all demands, for each period."""
    max_loss: float | None
    """Most average accuracy lost [points]; None: no limit."""
    status: Status
    cost: float | None
    """None: there is no plan."""
    gap: float | None
    alone: float | None
    """Cost without coordination, from the same plan or one that asks for the same."""
    alone_status: Status | None
    """Status of the plan without coordination; None: there is none with this case."""
    alone_ignores_failures: bool
    """The cost without coordination is that of a plan without thought of failures."""
    normal: float | None
    """Cost without thought of failures, where the plan survives them."""
    accuracy: float | None
    lost_points: float | None
    """Average accuracy lost against the native paths [points]."""
    purchases: tuple[Purchase, ...]
    """What is bought, by period and place."""
    utilizations: tuple[Utilization, ...]
    """Of all servers, and of links with a bandwidth, the fullest first."""
    services: tuple[PlannedService, ...]
    failures: tuple[ServerFailure, ...]
    """The worst one first."""
    failures_growth: float | None
    """Growth of the plan for failures that says what is lost; None: none was asked for, and all
    follows from the paths."""
    measure_first: tuple[UnmeasuredPath, ...]
    """The one that most money rests on first."""
    by_drops: tuple[CostAtDrops, ...]
    """For low, middle and high drops; empty where no drop is guessed."""

    @property
    def units(self) -> int:
        """All units that are bought."""
        return sum(purchase.units for purchase in self.purchases)

    @property
    def running(self) -> float:
        """Money that is spent beside the prices at purchase: of the years that units stand."""
        rest = (self.cost or 0.0) - sum(purchase.cost for purchase in self.purchases)
        return 0.0 if abs(rest) <= TOLERANCE * (self.cost or 1.0) else rest

    @property
    def survives(self) -> bool:
        """Whether any one server may fail."""
        return self.case.get("plan") == "survivable" or self.plan.settings.get("failures") is True

    @property
    def keep(self) -> float | None:
        """Share of every demand that is kept then; None: each service's own floor."""
        return number_asked(self.plan, "keep")

    @property
    def demand_periods(self) -> int:
        """Periods, such as hours, of the demand that is planned for."""
        if self.plan.kind != "combined":
            return 1
        rows = self.plan.table("demands").records()
        return len({row.get("demand_period") for row in rows})

    @property
    def saved(self) -> float | None:
        """Money saved against no coordination; None where one of the two is not known."""
        if self.cost is None or self.alone is None:
            return None
        saved = self.alone - self.cost
        return 0.0 if abs(saved) <= TOLERANCE * max(self.alone, self.cost) else saved

    @property
    def late(self) -> tuple[PlannedService, ...]:
        """Services whose latency misses its limit: never expected."""
        return tuple(
            s
            for s in self.services
            if s.limited_time is not None
            and s.latency_limit is not None
            and s.limited_time > s.latency_limit * (1.0 + TOLERANCE)
        )

    @property
    def limited(self) -> tuple[PlannedService, ...]:
        """Services with a limit of latency, the one nearest to its limit first."""
        found = [s for s in self.services if s.limited_time is not None and s.latency_limit]
        return tuple(
            sorted(found, key=lambda s: -(s.limited_time or 0.0) / (s.latency_limit or 1.0))
        )

    @property
    def headroom(self) -> float | None:
        """Least share of any server that stays unsold on purpose; None where servers differ."""
        sold = {self.sold(server.id) for server in self.instance.servers}
        return 1.0 - sold.pop() if len(sold) == 1 else None

    def sold(self, server: str) -> float:
        """Return the share of a server's time that may be used."""
        return _sold(self.instance, self.plan).get(server, 1.0)

    @property
    def predicted(self) -> tuple[PlannedService, ...]:
        """Services whose accuracy is predicted, or guessed, not measured."""
        return tuple(s for s in self.services if s.accuracy_source not in ("measured", "given"))

    @property
    def guessed(self) -> tuple[PlannedService, ...]:
        """Services whose accuracy rests on guessed drops."""
        return tuple(s for s in self.services if s.accuracy_source == "guessed")


def recommend(
    instance: Instance, plans: Sequence[Plan], files: Sequence[Path | str] = ()
) -> Recommendation | None:
    """Return what plans of one instance recommend; None where none of them is about buying.

    The plan is the first of :data:`KINDS` that has an answer. Of a least-cost plan it is the case
    of the first growth and limit of loss that were asked for, the next one where that one has no
    answer; of a plan for failures the survivable one; for an uncertain demand the share that is
    served in every scenario.

    Args:
        instance: what was planned for.
        plans: of any kinds.
        files: that hold the plans, for messages.

    Raises:
        InputError: a table lacks a column, or holds something else in it.
    """
    names = dict(zip(map(id, plans), files, strict=False))

    def at(plan: Plan) -> object:
        return names.get(id(plan), plan.instance)

    ordered = sorted(
        (p for p in plans if p.kind in KINDS),
        key=lambda p: (KINDS.index(p.kind), p.settings.get("coordination") == "none"),
    )
    found = [_Reader(instance, plan, at(plan)).read() for plan in ordered]
    best = next((one for one in found if one.cost is not None), found[0] if found else None)
    if best is None or best.cost is None:
        return best
    best = _with_comparison(best, [p for p in ordered if p is not best.plan], at)
    source = next((p for p in (best.plan, *ordered) if _tells_failures(p)), None)
    return best if source is None else _with_failures(best, source, at(source))


def _tells_failures(plan: Plan) -> bool:
    """Tell whether a plan says what no path can serve when a server fails."""
    return plan.kind == "failures" or plan.settings.get("failures") is True


class _Reader:
    """Reads the recommended case of one plan."""

    def __init__(self, instance: Instance, plan: Plan, where: object) -> None:
        self.instance, self.plan, self.where = instance, plan, where

    def rows(self, name: str, *used: str, only: Mapping[str, Any] | None = None) -> list[Record]:
        return rows_of(self.plan, self.where, name, *used, only=only)

    def read(self) -> Recommendation:
        """Return what the plan recommends, without what other plans add."""
        names = _KEYS[self.plan.kind]
        only = {"method": "exact"} if "method" in names else {}
        rows = self.rows("summary", *names, "status", "cost", "gap", only=only)
        row = self._case(rows)
        key = {} if row is None else {name: row[name] for name in names}
        cost = None if row is None else row["cost"]
        growth, loss = self._asked(key)
        accuracy, lost = self._accuracy(row, key)
        # The other row of the same case.
        native = key | {"coordination": "none"}
        alone = next((r for r in rows if native == {n: r.get(n) for n in native}), None)
        normal = None
        if key.get("plan") == "survivable":
            normal = next((r["cost"] for r in rows if r["plan"] == "normal"), None)
        services = self._services(key) if cost is not None else ()
        found = Recommendation(
            instance=self.instance,
            plan=self.plan,
            case=key,
            growth=growth,
            max_loss=loss,
            status="unknown" if row is None else row["status"],
            cost=cost,
            gap=None if row is None else row["gap"],
            alone=None if alone is None else alone["cost"],
            alone_status=None if alone is None else alone["status"],
            alone_ignores_failures=False,
            normal=normal,
            accuracy=accuracy,
            lost_points=lost,
            purchases=(),
            utilizations=(),
            services=services,
            failures=(),
            failures_growth=None,
            measure_first=(),
            by_drops=(),
        )
        if cost is None:
            return found
        paths = _Paths(self.instance, self.plan)
        return replace(
            found,
            purchases=tuple(self._purchases(key)),
            utilizations=tuple(self._utilizations(key)),
            failures=tuple(_failures_of(paths, services)),
            measure_first=tuple(_unmeasured(found, paths)),
            by_drops=tuple(self._by_drops(key)),
        )

    def _case(self, rows: list[Record]) -> Record | None:
        """Return the row of the case that is recommended: the first that has an answer."""
        kind = self.plan.kind
        if kind in ("least-cost", "growth"):
            best = "full" if any(r["coordination"] == "full" for r in rows) else None
            rows = [r for r in rows if best is None or r["coordination"] == best]
        elif kind == "failures":
            rows = sorted(rows, key=lambda r: r["plan"] != "survivable")
        elif kind == "scenarios":
            order = {name: place for place, name in enumerate(_VARIANTS)}
            rows = sorted(rows, key=lambda r: order.get(r["variant"], len(order)))
        return next((r for r in rows if r["cost"] is not None), rows[0] if rows else None)

    def _by_drops(self, key: Record) -> Iterable[CostAtDrops]:
        table = table_of(self.plan, "drops")
        if table is None:
            return
        names = {column.name for column in table.columns}
        only = {name: value for name, value in key.items() if name in names}
        for row in self.rows("drops", "drops", "cost", only=only):
            yield CostAtDrops(row["drops"], row["cost"], row.get("saved_cost"))

    def _asked(self, key: Record) -> tuple[tuple[float, ...], float | None]:
        """Return the growth of each period and the limit of loss."""
        if self.plan.kind == "least-cost":
            growth = key.get("growth")
            return () if growth is None else (growth,), key.get("max_loss_points")
        return numbers_asked(self.plan, "growth"), number_asked(self.plan, "max_loss_points")

    def _accuracy(self, row: Record | None, key: Record) -> tuple[float | None, float | None]:
        if row is not None and self.plan.kind in _PERIODIC:
            names = ("accuracy", "accuracy_loss_points")
            rows = self.rows("periods", "period", *names, only=key)
            row = rows[-1] if rows else None
        if row is None:
            return None, None
        return row.get("accuracy"), row.get("accuracy_loss_points")

    def _periods(self, key: Record) -> list[int]:
        if self.plan.kind not in _PERIODIC:
            return []
        rows = self.rows("periods", "period", only=key)
        return list(dict.fromkeys(row["period"] for row in rows))

    def _last(self, key: Record) -> Record:
        """Return the key of the last period."""
        periods = self._periods(key)
        return {**key, "period": periods[-1]} if periods else key

    def _places(self, key: Record, *used: str) -> Iterable[tuple[str, Any, Record]]:
        """Yield name, record of the instance (None: unknown) and row of servers and links."""
        servers = {server.id: server for server in self.instance.servers}
        links = {(link.source, link.target): link for link in self.instance.links}
        for row in self.rows("servers", "server", *used, only=key):
            yield row["server"], servers.get(row["server"]), row
        for row in self.rows("links", "source", "target", *used, only=key):
            ends = (row["source"], row["target"])
            yield " → ".join(ends), links.get(ends), row

    def _purchases(self, key: Record) -> Iterable[Purchase]:
        periods = self._periods(key)
        units = "units_bought" if periods else "units"
        sold = _sold(self.instance, self.plan)
        for period in periods or (None,):
            at = key if period is None else {**key, "period": period}
            for place, record, row in self._places(at, units, "units", "cost", "utilization"):
                if not row[units]:
                    continue
                price = (
                    (row["cost"] or 0.0) / (row["units"] or 1) if record is None else record.cost
                )
                size, unit = _unit_of(record, row, self.plan)
                yield Purchase(
                    place=place,
                    period=period,
                    units=row[units],
                    cost=price * row[units],
                    size=size,
                    unit=unit,
                    utilization=row["utilization"],
                    sold=sold.get(place, 1.0),
                )

    def _utilizations(self, key: Record) -> list[Utilization]:
        sold = _sold(self.instance, self.plan)
        found = [
            Utilization(place, row["utilization"], sold.get(place, 1.0))
            for place, _record, row in self._places(self._last(key), "utilization")
            if row["utilization"] is not None
        ]
        return sorted(found, key=lambda one: -one.share / one.sold)

    def _services(self, key: Record) -> tuple[PlannedService, ...]:
        asked = number_asked(self.plan, "latency_percentile")
        tasks = {task.id: task for task in with_percentile(self.instance, asked).tasks}
        used = ["task", "path", "accuracy", "accuracy_source", "latency_s"]
        rates = self._busiest()
        used += ["demand_period"] if self.plan.kind == "combined" else []
        used += [] if self.plan.kind in ("combined", "scenarios") else ["rate_per_s"]
        found = []
        for row in self.rows("paths", *used, only=self._last(key)):
            task = tasks.get(row["task"])
            if task is None or row["path"] is None or row["accuracy"] is None:
                continue
            if row.get("demand_period") not in (None, rates.period):
                continue
            source = row["accuracy_source"] or "predicted"
            found.append(
                PlannedService(
                    task=task.id,
                    path=GivenPath.of(row["path"].split(PATH_SEPARATOR), source),
                    rate=row.get("rate_per_s", rates.of_task.get(task.id)),
                    accuracy=row["accuracy"],
                    native_accuracy=task.accuracy,
                    accuracy_source=source,
                    least_accuracy=task.min_accuracy,
                    latency=row["latency_s"],
                    latency_limit=task.max_latency,
                    percentile=task.latency_percentile,
                    promised=row.get("promised_s"),
                )
            )
        return tuple(found)

    def _busiest(self) -> _Rates:
        """Return the rates of the state with the most demand, in the last period."""
        if self.plan.kind != "combined":
            return _Rates(None, {})
        states: dict[tuple[Any, Any], dict[str, float]] = {}
        for row in self.rows("demands", "demand_period", "task", "demand_per_s"):
            state = states.setdefault((row["demand_period"], row.get("scenario")), {})
            state[row["task"]] = row["demand_per_s"] or 0.0
        if not states:
            return _Rates(None, {})
        busiest = max(states, key=lambda name: sum(states[name].values()))
        growth = numbers_asked(self.plan, "growth")[-1:] or (1.0,)
        rates = {task: rate * growth[0] for task, rate in states[busiest].items()}
        return _Rates(busiest[0], rates)


@dataclass(frozen=True)
class _Rates:
    """Rates of all tasks at one time."""

    period: str | None
    """Name of the period of the table of demands."""
    of_task: Mapping[str, float]
    """[inferences/s]"""


def _sold(instance: Instance, plan: Plan) -> dict[str, float]:
    """Return the share of its time that each server sells."""
    asked = instance.with_max_utilization(number_asked(plan, "max_utilization"))
    return {server.id: server.max_utilization or 1.0 for server in asked.servers}


def _unit_of(
    record: Any, row: Record, plan: Plan
) -> tuple[float | None, Literal["FLOP/s", "devices", "bytes/s"]]:
    """Return what one unit of a server or link adds."""
    if "source" in row:
        size = None if record is None else record.unit_bandwidth
        return size or number_asked(plan, "unit_bandwidth"), "bytes/s"
    if record is None:
        return None, "devices"
    sizes = PlanSettings(
        unit_flops=number_asked(plan, "unit_flops"), unit_devices=number_asked(plan, "unit_devices")
    )
    server = sizes.with_unit(record)
    if server.unit_flops is not None:
        return server.unit_flops, "FLOP/s"
    return server.unit_devices, "devices"


# ---- failures --------------------------------------------------------------------------------


def _failures_of(paths: _Paths, services: Sequence[PlannedService]) -> list[ServerFailure]:
    """Return what failures do to paths, as far as the paths alone tell."""
    total = sum(s.rate or 0.0 for s in services)
    found = []
    visits = {s.task: paths.servers(s.task, s.path) for s in services}
    for server in paths.instance.servers:
        hit = [s for s in services if server.id in visits[s.task]]
        stopped = sum(s.rate or 0.0 for s in hit)
        share = 1.0 - stopped / total if total > 0.0 else 1.0 - len(hit) / max(1, len(services))
        names = tuple(s.task for s in hit)
        found.append(ServerFailure(server.id, names, (), share, None, None))
    return sorted(found, key=_harm)


def _harm(failure: ServerFailure) -> tuple[float, float]:
    """Order failures, the worst one first."""
    if failure.served_rerouted is None and failure.floors_kept:
        return (0.0 if failure.lost else 1.0), failure.served_fixed
    served = failure.served_fixed if failure.served_rerouted is None else failure.served_rerouted
    return served, failure.served_fixed


def _with_failures(found: Recommendation, plan: Plan, where: object) -> Recommendation:
    """Add what a plan for failures says: of the same paths, or what is lost at any size."""
    lost: dict[str, list[str]] = {}
    for row in rows_of(plan, where, "lost", "failed_server", "task"):
        if row.get("failed", "server") == "server":
            lost.setdefault(row["failed_server"], []).append(row["task"])
    said: dict[str, Record] = {}
    if plan is found.plan and plan.kind == "failures":
        names = ("served_rerouted_share", "floors_kept")
        rows = rows_of(plan, where, "failures", "failed_server", *names, only=found.case)
        said = {row["failed_server"]: row for row in rows}
    failures = []
    for failure in found.failures:
        row = said.get(failure.server, {})
        failures.append(
            replace(
                failure,
                lost=tuple(lost.get(failure.server, ())),
                served_rerouted=row.get("served_rerouted_share"),
                floors_kept=row.get("floors_kept", found.survives or None),
            )
        )
    return replace(
        found,
        failures=tuple(sorted(failures, key=_harm)),
        failures_growth=max(numbers_asked(plan, "growth"), default=1.0),
    )


def _with_comparison(found: Recommendation, plans: Sequence[Plan], at: Any) -> Recommendation:
    """Add what the same costs without coordination, and without thought of failures."""
    asked = {**found.plan.settings, "coordination": "none"}
    demand = {task.id: task.demand for task in found.instance.tasks}
    # The table of demands, or scenarios, may ask for another demand than the instance.
    is_same = found.plan.kind != "combined" or all(
        service.rate is not None
        and math.isclose(service.rate, found.growth[-1] * (demand[service.task] or 0.0))
        for service in found.services
    )
    for plan in plans:
        if plan.kind in ("least-cost", "growth") and is_same:
            rows = _same_case(found, plan, at(plan))
            full, alone = rows.get("full"), rows.get("none")
            if found.survives and found.normal is None and full is not None:
                found = replace(found, normal=full["cost"])
        elif plan.kind == found.plan.kind and dict(plan.settings) == asked:
            alone = next(
                iter(rows_of(plan, at(plan), "summary", "status", "cost", only=found.case)), None
            )
        else:
            continue
        if found.alone_status is None and alone is not None:
            ignores = found.survives and plan.kind != found.plan.kind
            found = replace(
                found,
                alone=alone["cost"],
                alone_status=alone["status"],
                alone_ignores_failures=ignores,
                by_drops=_with_saved(found.by_drops, alone["cost"]),
            )
    return found


def _with_saved(costs: Sequence[CostAtDrops], alone: float | None) -> tuple[CostAtDrops, ...]:
    """Return costs with what each saves: no drops are on the paths without coordination."""
    return tuple(
        one
        if one.saved is not None or one.cost is None or alone is None
        else replace(one, saved=alone - one.cost)
        for one in costs
    )


def _same_case(found: Recommendation, plan: Plan, where: object) -> dict[str, Record]:
    """Return the rows of the same growth and limit of loss, by their coordination."""
    rows = rows_of(
        *(plan, where, "summary", "coordination", "status", "cost", "method"),
        only={"method": "exact"},
    )
    if plan.kind == "growth":
        asked = (numbers_asked(plan, "growth"), number_asked(plan, "max_loss_points"))
        rows = rows if asked == (found.growth, found.max_loss) else []
    else:
        case = (*found.growth, found.max_loss)
        rows = [row for row in rows if (row.get("growth"), row.get("max_loss_points")) == case]
    return {row["coordination"]: row for row in rows}


# ---- what rests on predictions ---------------------------------------------------------------


def _unmeasured(found: Recommendation, paths: _Paths) -> list[UnmeasuredPath]:
    """Return the paths in use whose accuracy is predicted, by what rests on them."""
    weights = {task.id: task.weight for task in found.instance.tasks}
    all_weights = sum(weights.values())
    rows = []
    for service in found.predicted:
        slack = [100.0 * (service.accuracy - service.least_accuracy)]
        if not service.least_accuracy:
            slack = []
        room = _average_room(found)
        if room is not None and weights[service.task] > 0.0:
            slack.append(room * all_weights / weights[service.task])
        rows.append(
            UnmeasuredPath(
                task=service.task,
                path=service.path,
                accuracy=service.accuracy,
                source=service.accuracy_source,
                saved=paths.saved(service),
                slack_points=max(0.0, min(slack)) if slack else None,
            )
        )
    return sorted(
        rows,
        key=lambda r: (-(r.saved or 0.0), math.inf if r.slack_points is None else r.slack_points),
    )


def _average_room(found: Recommendation) -> float | None:
    """Return how much lower the average accuracy may be [points]; None: no limit."""
    rooms = []
    if found.max_loss is not None and found.lost_points is not None:
        rooms.append(found.max_loss - found.lost_points)
    least = number_asked(found.plan, "min_accuracy")
    if least is not None and found.accuracy is not None:
        rooms.append(100.0 * (found.accuracy - least))
    return min(rooms, default=None)


@dataclass(frozen=True)
class _Paths:
    """What paths need of servers and links."""

    instance: Instance
    plan: Plan

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        return {task.id: task for task in self.instance.tasks}

    @cached_property
    def _servers(self) -> dict[str, Server]:
        return {server.id: server for server in self.instance.servers}

    @cached_property
    def _home(self) -> dict[str, tuple[str, Any]]:
        """Server and record of each block."""
        return {b.id: (dnn.server, b) for dnn in self.instance.dnns for b in dnn.blocks}

    @cached_property
    def _native(self) -> dict[str, tuple[str, ...]]:
        return {dnn.id: tuple(b.id for b in dnn.blocks) for dnn in self.instance.dnns}

    @cached_property
    def _prices(self) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
        """Price of one device of each server that sells units, and of 1 byte/s of each link."""
        servers, links = {}, {}
        for server in self.instance.servers:
            size, unit = _unit_of(server, {}, self.plan)
            if size and unit == "FLOP/s" and server.speed:
                size /= server.speed
            if size and server.max_units != 0:
                sold = _sold(self.instance, self.plan)[server.id]
                servers[server.id] = server.cost / (size * sold)
        for link in self.instance.links:
            size, _ = _unit_of(link, {"source": link.source}, self.plan)
            if size and link.bandwidth is not None and link.max_units != 0:
                links[link.source, link.target] = link.cost / size
        return servers, links

    def _steps(self, task: Task, path: Sequence[str]) -> list[tuple[str, str, Connection | None]]:
        """Return the steps of a path, from input to output, with the connections that they take."""
        by_ends = {(c.source, c.target): c for c in task.connections}
        ends = [INPUT, *path, OUTPUT]
        return [(a, b, by_ends.get((a, b))) for a, b in zip(ends, ends[1:], strict=False)]

    def servers(self, task: str, path: Sequence[str]) -> set[str]:
        """Return the servers that a path needs: those of its blocks, adapters and inputs."""
        record = self._tasks[task]
        found = {self._home[block][0] for block in path if block in self._home}
        for source, target, connection in self._steps(record, path):
            if connection is not None:
                found.add(self._adapter_at(source, target, connection))
        if record.origin is not None:
            found.add(record.origin)
        return found - {""}

    def _adapter_at(self, source: str, target: str, connection: Connection) -> str:
        nearest = target if source == INPUT else source
        return connection.server or self._home.get(nearest, ("", None))[0]

    def saved(self, service: PlannedService) -> float | None:
        """Return the price of what a path needs less than the native one, in parts of units."""
        task = self._tasks[service.task]
        rate = service.rate if service.rate is not None else task.demand
        native = self._native.get(task.dnn)
        if rate is None or native is None:
            return None
        alone, here = self._price(task, native), self._price(task, service.path)
        return None if not alone and not here else rate * (alone - here)

    def _price(self, task: Task, path: Sequence[str]) -> float:
        """Return the price of what one inference/s needs along a path."""
        of_server, of_link = self._prices
        price, at = 0.0, ""
        if task.sends_inputs:
            at = task.origin or self._home[self._native[task.dnn][0]][0]

        def work(server: str, item: Any) -> None:
            nonlocal price
            if server in of_server:
                price += of_server[server] * self._servers[server].device_time(item)

        def cross(source: str, target: str, size: float) -> None:
            nonlocal price
            ends = self._servers[source].place, self._servers[target].place
            price += of_link.get(ends, 0.0) * size

        for source, target, connection in self._steps(task, path):
            size = task.input_bytes
            if source in self._home:
                size = self._home[source][1].output_bytes
            if connection is not None:
                adapter = self._adapter_at(source, target, connection)
                size = size if connection.bytes is None else connection.bytes
                cross(at or adapter, adapter, size)
                work(adapter, connection)
                at = adapter
            if target in self._home:
                server, block = self._home[target]
                cross(at or server, server, size)
                work(server, block)
                at = server
        return price
