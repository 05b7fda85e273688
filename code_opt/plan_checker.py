"""Independent check of a plan: everything in its tables is recomputed from the instance alone.

It reads the data of a plan file (``docs/planning.md``) and shares nothing with the analyses that
make plans, their programs or their path search; of :mod:`code_opt.checker` it takes how an
instance is read. Figures of one kind are judged by one rule in every kind of plan:

- a plan is units of servers and links, paths and rates, at work in a *situation* (the demand
  of a growth factor, a period, a scenario, or what is left under a failure);
- a reported figure is compared with its recomputed value, and a requirement is judged on
  recomputed values, so that a wrong report and a broken requirement are told apart.

Comparisons are relative (:data:`code_opt.result.TOLERANCE`), as in the checker of results.
What cannot be known without searching is not judged: whether a better plan exists, what
re-routing could serve at most, and whether a task has any path that avoids a server.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from code_opt.checker import CHANGED, InstanceIndex, Violation
from code_opt.instance.digest import changed_parts
from code_opt.instance.model import GivenPath, Instance, Link, Server, Task
from code_opt.promise_checker import Place, PlaceOfWork, Walk, recompute
from code_opt.result import TOLERANCE

RULES: dict[str, str] = {
    "instance-name": "the plan is for this instance",
    CHANGED: "the instance is as it was when the plan was made, where the plan says so",
    "tables": "the plan has the tables and columns of its kind",
    "plan-status": "the plan's status is no better than that of any part it speaks for",
    "part-status": "a part with a plan is optimal or feasible, one without unknown or infeasible",
    "no-plan": "a part without a plan has no rows in the other tables",
    "servers": "every server is listed exactly once in each plan, and no other",
    "links": "every link is listed exactly once in each plan, and no other",
    "tasks": "every task is listed exactly once in each plan, and no other",
    "units": "numbers of units are whole and not negative",
    "sold": "no more units are bought than are sold",
    "kept": "what is bought in a period adds to what stands, and nothing is sold",
    "unit-cost": "units cost their number times their price",
    "total-units": "the units of a plan are the sum over servers and links",
    "cost": "the cost of a plan is the sum over servers and links",
    "present-value": "the present value is the sum of the periods' costs, discounted",
    "drop-range": "costs for low, middle and high drops do not contradict each other, and the "
    "middle ones are those of the plan",
    "saved": "what is saved, or extra, is the difference between two plans",
    "capacity": "capacities are those of the instance, without and with the units",
    "load": "a load is the sum of rate times work or bytes over the tasks, shared once",
    "utilization": "a utilization is load over capacity",
    "overload": "no load is above the capacity with the units, less a device that fails",
    "devices": "no path runs on a server that has no device, even at a rate of 0",
    "memory": "the adapters in use fit the memories, shared ones once",
    "path": "a path is one of its task's graph, with all links that it needs",
    "coordination": "a path is one that the plan's coordination allows",
    "accuracy": "an accuracy is that of the path: measured, given, or else predicted",
    "accuracy-source": "an accuracy is called measured, given or predicted as it is",
    "measured-only": "no accuracy is predicted, where only known ones were asked for",
    "min-accuracy": "no accuracy is below the task's min_accuracy",
    "latency": "a latency is that of the path on unloaded servers and links with the units",
    "max-latency": "no latency at the present capacities is above the task's max_latency",
    "promise": "a promised time follows from rates, order of work and wait scales with the units",
    "promised-limit": "no promised time is above the task's max_latency, also under failures",
    "average-accuracy": "average and loss of accuracy are those of the paths",
    "asked-accuracy": "the average accuracy is not below what was asked for",
    "demand": "a demand, or a rate that serves all of it, is the task's own times the growth",
    "rate": "a rate is not below the task's floor and not above its demand",
    "group-rate": "the tasks of an input group that run have the same rate",
    "served": "served amounts and shares are those of the rates",
    "promised": "the share that was promised is served",
    "probability": "probabilities lie in [0, 1] and sum to 1",
    "states": "every state is listed exactly once in each growth period, with its paths",
    "hours": "hours of a period of the table of demands are above 0 and told alike everywhere",
    "implied": "a state that is left out asks for no more than the one that is named, nor others",
    "average": "averages of states weigh them by their hours and probability",
    "bound": "no bound is beyond the value that it bounds",
    "gap": "a gap is that between the value and its bound",
    "proof": "an optimal part proves its gap, and a feasible one of the exact method tells it",
    "heuristic": "the exact plan costs no more than the heuristic one of the same question",
    "failed": "hit tasks are those whose path visits the failed server",
    "backup": "a backup is for a task that is hit, and avoids the failed server",
    "survives": "the survivable plan has a backup for every task that is hit and not lost",
    "lost": "a task that is lost with a server has no path here that avoids it",
    "front": "throughput falls and accuracy rises from point to point",
}
"""Every rule of the checker with its meaning."""

_NO_DEVICE = 1e-12
"""Devices where there are none: nothing that runs is promised anything."""
GAP_ROUNDING = 1e-9
"""Rounding allowed in a gap, absolute."""
_SMALLEST_GAP = 1e-7
"""Gap that is proven where a smaller one was asked for."""
_CAPACITIES = "units cost present_{0} capacity_{0} load_{0} utilization"
_KEY = "growth max_loss_points coordination method"
_PROOF = "status cost bound gap units"
_COLUMNS: dict[str, dict[str, str]] = {
    "least-cost": {
        "summary": f"{_KEY} {_PROOF} accuracy accuracy_loss_points throughput_per_s saved_cost "
        "saved_units",
        "servers": f"{_KEY} server " + _CAPACITIES.format("flop_per_s"),
        "links": f"{_KEY} source target " + _CAPACITIES.format("bytes_per_s"),
        "paths": f"{_KEY} task path rate_per_s accuracy accuracy_source latency_s",
    },
    "growth": {
        "summary": f"coordination {_PROOF} present_value saved_cost saved_units",
        "periods": "coordination period growth units_bought cost total_units total_cost accuracy "
        "accuracy_loss_points throughput_per_s",
        "servers": "coordination period server units_bought units cost capacity_flop_per_s "
        "load_flop_per_s utilization",
        "links": "coordination period source target units_bought units cost "
        "capacity_bytes_per_s load_bytes_per_s utilization",
        "paths": "coordination period task path rate_per_s accuracy accuracy_source latency_s",
    },
    "scenarios": {
        "summary": f"variant served_share {_PROOF} accuracy accuracy_loss_points "
        "expected_served_share worst_served_share",
        "scenarios": "variant scenario probability demand_per_s served_per_s served_share",
        "servers": "variant server " + _CAPACITIES.format("flop_per_s"),
        "links": "variant source target " + _CAPACITIES.format("bytes_per_s"),
        "paths": "variant task path accuracy accuracy_source latency_s",
        "rates": "variant scenario task demand_per_s rate_per_s",
    },
    "failures": {
        "summary": f"plan {_PROOF} extra_cost extra_units accuracy accuracy_loss_points "
        "worst_served_fixed_share worst_served_rerouted_share",
        "failures": "plan failed_server demand_per_s served_fixed_per_s served_fixed_share "
        "served_rerouted_per_s served_rerouted_share tasks_hit tasks_lost floors_kept",
        "servers": "plan server " + _CAPACITIES.format("flop_per_s"),
        "links": "plan source target " + _CAPACITIES.format("bytes_per_s"),
        "paths": "plan task path rate_per_s accuracy accuracy_source latency_s",
        "backups": "failed_server task path rate_per_s accuracy",
        "lost": "failed_server task",
    },
    "combined": {
        "summary": f"routing {_PROOF} present_value states states_left_out",
        "periods": "routing period growth units_bought cost total_units total_cost accuracy "
        "accuracy_loss_points throughput_per_s",
        "states": "routing period demand_period scenario hours probability demand_per_s accuracy "
        "accuracy_loss_points implied_by",
        "servers": "routing period server units_bought units cost capacity_flop_per_s "
        "load_flop_per_s utilization mean_utilization",
        "links": "routing period source target units_bought units cost capacity_bytes_per_s "
        "load_bytes_per_s utilization mean_utilization",
        "paths": "routing period demand_period task path accuracy accuracy_source latency_s",
        "demands": "demand_period scenario task demand_per_s",
        "failures": "routing period demand_period failed_server failed tasks_hit tasks_moved "
        "tasks_lost",
        "backups": "routing period demand_period failed_server failed task path accuracy",
        "lost": "failed_server failed task",
    },
    "front": {
        "points": "point throughput_per_s accuracy accuracy_loss_points throughput_bound_per_s "
        "accuracy_bound gap status",
        "paths": "point task path rate_per_s accuracy",
    },
    "marginal": {
        "servers": "server capacity_flop_per_s resolved_status",
        "links": "source target capacity_bytes_per_s resolved_status",
    },
    "sweep": {"sweep": "method status reward bound gap cost units"},
}
_RANK = {"optimal": 0, "feasible": 1, "unknown": 2, "infeasible": 3}

Row = dict[str, Any]
Key = tuple[str, ...]
"""``(server,)``, or ``(source, target)`` of a link."""
State = tuple[str | None, str | None]
"""Period of the table of demands, and scenario; None where there is no table of them."""


def check_plan(
    plan: Mapping[str, Any], instance: Instance, tolerance: float = TOLERANCE
) -> list[Violation]:
    """Recompute a plan from its instance and name every requirement that does not hold.

    Args:
        plan: data of a plan file (``Plan.to_dict()``).
        instance: what was planned for; its cross-references must be right.
        tolerance: relative tolerance of the comparisons.

    Returns:
        The violations; an empty list confirms the plan.
    """
    return _Check(plan, instance, tolerance).violations()


@dataclass(frozen=True)
class _Offer:
    """What there is of a server or link, and what is sold."""

    present: float | None
    """[FLOP/s] or [bytes/s]; None: unlimited."""
    unit: float
    """Size of a unit, 0 where none is sold."""
    price: float
    """Of one unit when it is bought."""
    most: float
    yearly: float = 0.0
    """Of one unit in each year that it stands."""

    def cost(self, bought: float, years: float) -> float:
        """Return the price of units that are bought, and of the years that units stand."""
        return bought * self.price + years * self.yearly


@dataclass
class _Load:
    """Loads by server and link, and bytes of adapters by server."""

    rate: dict[Key, float]
    memory: dict[str, float]


class _Site:
    """The instance as it is planned for: demands, floors and offers of the plan's settings."""

    def __init__(self, instance: Instance, settings: Mapping[str, Any]) -> None:
        self.given = instance
        instance = instance.with_max_utilization(settings.get("max_utilization"))
        instance = _with_percentile(instance, settings.get("latency_percentile"))
        servers = instance.servers
        self.instance = instance
        self.network = InstanceIndex(instance)
        self.tasks = self.network.tasks
        self.groups: dict[tuple[str, str], list[Task]] = defaultdict(list)
        for task in instance.tasks:
            self.groups[self.network.group(task)].append(task)
        self.speeds = {s.id: 1.0 if s.flops is None else s.flops / s.devices for s in servers}
        """What a busy device is in the unit of its server's capacity: FLOP/s, else devices."""
        self.share: dict[Key, float] = {(s.id,): s.max_utilization or 1.0 for s in servers}
        """What can be sold of a server's time."""
        self.offers: dict[Key, _Offer] = {}
        for server in instance.servers:
            self.offers[server.id,] = self._offer_of(server, settings)
        for link in instance.links:
            size = link.unit_bandwidth or settings.get("unit_bandwidth")
            key = (link.source, link.target)
            if link.bandwidth is None:
                size = None
            self.offers[key] = _offer(link.bandwidth, size, link)
        self.servers = [(server.id,) for server in instance.servers]
        self.links = [(link.source, link.target) for link in instance.links]
        weights = {task.id: task.weight for task in instance.tasks}
        self._total = math.fsum(weights.values())
        self._weights = weights
        self.native = self.average({task.id: self.native_accuracy(task) for task in instance.tasks})
        self._default = settings.get("demand")
        self._unlimited: InstanceIndex | None = None

    def demand(self, task: Task) -> float:
        """Return the demand of a task [inferences/s]; in a group the least is that of all."""
        asked = [t.demand for t in self.groups[self.network.group(task)] if t.demand is not None]
        return min(asked, default=math.inf if self._default is None else float(self._default))

    def floor(self, task: Task, demand: float) -> float:
        """Return the floor of a task, or its group, at most a demand [inferences/s]."""
        members = self.groups[self.network.group(task)]
        floors = [float(t.floor) for t in members if t.floor != "standalone"]
        if any(t.floor == "standalone" for t in members):
            floors.append(self.standalone(task))
        return min(max(floors, default=0.0), demand)

    def standalone(self, task: Task) -> float:
        """Return the rate without coordination, whatever the demand [inferences/s]."""
        if self._unlimited is None:
            free = tuple(t.model_copy(update={"demand": None}) for t in self.instance.tasks)
            self._unlimited = InstanceIndex(self.instance.model_copy(update={"tasks": free}))
        return self._unlimited.standalone(self._unlimited.tasks[task.id])

    def native_accuracy(self, task: Task) -> float:
        """Return the accuracy of the native path."""
        return self.network.accuracy(task, self.network.native_blocks(task), TOLERANCE).value

    def average(self, accuracy: Mapping[str, float]) -> float:
        """Return the weighted average of accuracies by task."""
        total = math.fsum(self._weights[task] * value for task, value in accuracy.items())
        return total / self._total

    def _offer_of(self, server: Server, settings: Mapping[str, Any]) -> _Offer:
        """Return the offer of a server, in the unit of its capacity."""
        flops, devices = server.unit_flops, server.unit_devices
        if flops is None and devices is None:
            flops, devices = settings.get("unit_flops"), settings.get("unit_devices")
            if server.flops is None:
                flops = None
        size = flops
        if flops is None and devices is not None:
            size = devices * self.speeds[server.id]
        present = server.devices if server.flops is None else server.flops
        return _offer(present, size, server)

    def measures(self, key: Key) -> list[tuple[str, float | None]]:
        """Return the units that capacities are told in, each with its number per own unit."""
        if len(key) > 1:
            return [("bytes_per_s", 1.0)]
        has_flops = self.network.servers[key[0]].flops is not None
        return [("flop_per_s", 1.0 if has_flops else None), ("devices", 1.0 / self.speeds[key[0]])]

    def capacity(self, key: Key, units: float) -> float | None:
        """Return a capacity with units, None where it is unlimited."""
        offer = self.offers[key]
        return None if offer.present is None else offer.present + units * offer.unit

    def load(self, paths: Mapping[str, tuple[str, ...]], rates: Mapping[str, float]) -> _Load:
        """Return what paths of tasks cause at rates; what a group shares is computed once."""
        paid: dict[tuple[Any, ...], tuple[float, Any]] = {}
        for name, path in paths.items():
            task = self.tasks[name]
            for prefix, step in self.network.steps(task, path):
                key = (self.network.group(task), prefix)
                paid[key] = (max(paid.get(key, (0.0, step))[0], rates[name]), step)
        load = _Load(defaultdict(float), defaultdict(float))
        for rate, step in paid.values():
            for server, time in step.busy.items():
                if time > 0.0:
                    load.rate[server,] += rate * time * self.speeds[server]
            for ends, size in step.traffic.items():
                load.rate[ends] += rate * size
            for server, size in step.memory.items():
                load.memory[server] += size
        return load

    def promised(
        self,
        paths: Mapping[str, tuple[str, ...]],
        rates: Mapping[str, float],
        units: Mapping[Key, float],
        device: str | None = None,
    ) -> dict[str, float]:
        """Return the promised time [s] of every task that has a percentile, infinite if none.

        Args:
            paths: of the tasks that run.
            rates: [inferences/s].
            units: that stand; they add to n, of a link to the right side of (1).
            device: server of which one device is gone.
        """
        asked = {
            name: self.tasks[name].latency_percentile
            for name in paths
            if self.tasks[name].latency_percentile is not None
        }
        if not asked:
            return {}
        walks = [
            Walk(
                name,
                self.network.group(self.tasks[name]),
                rates[name],
                self.network.figures(self.tasks[name], path).latency,
                [(key, s.stays) for key, s in self.network.steps(self.tasks[name], path)],
            )
            for name, path in paths.items()
        ]
        services: dict[Place, PlaceOfWork] = {}
        for place, work in self.network.services.items():
            key = place[1:]
            capacity, present = self.capacity(key, units[key]), self.offers[key].present
            assert capacity is not None
            assert present is not None
            n = capacity / (self.speeds[key[0]] if len(key) == 1 else present)
            n = n - 1.0 if key == (device,) else max(n, 1.0)
            services[place] = replace(work, devices=max(n, _NO_DEVICE))
        there = recompute(walks, services)
        return {name: there.promised(name, q) for name, q in asked.items() if q is not None}

    def visited(self, task: Task, path: Sequence[str]) -> set[str]:
        """Return the servers without which a path is gone, those of its adapters included.

        Inputs are lost with a server only where the task says that they arrive there.
        """
        servers = {self.network.host[block] for block in path}
        servers |= {c.server for c in self.network.used(task, path) if c.server is not None}
        return servers if task.origin is None else servers | {task.origin}


def _offer(present: float | None, unit: float | None, record: Server | Link) -> _Offer:
    if unit is None or present is None:
        return _Offer(present, 0.0, record.cost, 0.0, record.yearly_cost)
    most = math.inf if record.max_units is None else record.max_units
    return _Offer(present, float(unit), record.cost, most, record.yearly_cost)


class _Check:
    """One run of the checker."""

    def __init__(self, plan: Mapping[str, Any], instance: Instance, tolerance: float) -> None:
        self.plan = plan
        self.settings: Mapping[str, Any] = plan["settings"]
        self.tolerance = tolerance
        self.site = _Site(instance, self.settings)
        self.found: list[Violation] = []
        self.tables: dict[str, list[Row]] = {}
        for one in plan["tables"]:
            names = [column["name"] for column in one["columns"]]
            rows = [dict(zip(names, row, strict=True)) for row in one["rows"]]
            for number, row in enumerate(rows):
                row["#"] = f"{one['name']}[{number}]"
            self.tables[one["name"]] = rows
        self._named = {one["name"]: one for one in plan["tables"]}

    def violations(self) -> list[Violation]:
        kind = self.plan["kind"]
        if self.plan["instance"] != self.site.instance.name:
            self.say(
                "instance-name",
                "instance",
                f"the plan is for {self.plan['instance']!r}, the instance is "
                f"{self.site.instance.name!r}",
            )
        for name, columns in _COLUMNS[kind].items():
            present = (
                {c["name"] for c in self._named[name]["columns"]} if name in self._named else ()
            )
            missing = [column for column in columns.split() if column not in present]
            if missing:
                self.say("tables", name, f"a plan of kind {kind!r} needs: {', '.join(missing)}")
        if self.found:
            return self.found
        changed = changed_parts(self.plan.get("instance_digest"), self.site.given)
        if changed:
            message = f"the instance changed since the plan was made: {', '.join(changed)}"
            self.say(CHANGED, "instance_digest", message)
        checks: dict[str, Callable[[], None]] = {
            "least-cost": self.least_cost,
            "growth": self.growth,
            "scenarios": self.scenarios,
            "failures": self.failures,
            "combined": self.combined,
            "front": self.front,
            "marginal": self.marginal,
            "sweep": self.sweep,
        }
        checks[kind]()
        if "drops" in self.tables:
            self.drop_range()
        return self.found

    # ---- what every kind of plan has ---------------------------------------------------------

    def say(self, rule: str, place: str, message: str) -> None:
        self.found.append(Violation(rule, place, message))

    def same(
        self, rule: str, row: Row, column: str, expected: float | None, slack: float = 0.0
    ) -> None:
        """Compare a reported figure with its recomputed value."""
        value = row[column]
        if value is None or expected is None:
            if value is not expected:
                self.say(rule, f"{row['#']}.{column}", f"{value} is reported, expected {expected}")
        elif not abs(value - expected) <= self.tolerance * max(abs(value), abs(expected)) + slack:
            message = f"{value:.9g} is reported, expected {expected:.9g}"
            self.say(rule, f"{row['#']}.{column}", message)

    def exceeds(self, value: float, most: float) -> bool:
        return not value <= most + self.tolerance * abs(most)

    def rows(self, table: str, keys: Row) -> list[Row]:
        """Return the rows of a table that have given values in some columns."""
        return [r for r in self.tables[table] if all(r[k] == v for k, v in keys.items())]

    def listed(self, rule: str, place: str, names: Iterable[Any], expected: Sequence[Any]) -> bool:
        """Tell whether names are the expected ones, each once."""
        count = Counter(names)
        wrong = [name for name in {**count, **dict.fromkeys(expected)} if count[name] != 1]
        wrong += [name for name in count if name not in set(expected) and name not in wrong]
        for name in wrong:
            known = "expected once" if name in expected else "the instance has no such entry"
            self.say(rule, place, f"{name!r} is listed {count[name]} times, {known}")
        return not wrong

    def part(
        self, row: Row, has_plan: bool, others: Sequence[str] = (), keys: Row | None = None
    ) -> bool:
        """Check a part's status against whether it has a plan; tell whether it has one."""
        expected = ("optimal", "feasible") if has_plan else ("unknown", "infeasible")
        if row["status"] not in expected:
            what = "a plan" if has_plan else "no plan"
            self.say("part-status", f"{row['#']}.status", f"{row['status']!r} with {what}")
        if not has_plan:
            for table in others:
                for extra in self.rows(table, keys or {}):
                    self.say("no-plan", extra["#"], "a row of a part that has no plan")
        return has_plan

    def spoken_for(self, statuses: Iterable[str]) -> None:
        """Check that the plan's status is no better than those of its parts."""
        worst = max(statuses, key=_RANK.__getitem__, default="optimal")
        if _RANK[self.plan["status"]] < _RANK[worst]:
            self.say("plan-status", "status", f"{self.plan['status']!r}, but a part is {worst!r}")

    def proof(self, row: Row, value: float | None, is_exact: bool = True) -> None:
        """Check bound and gap of a cost."""
        bound, gap, place = row["bound"], row["gap"], row["#"]
        if value is None or not is_exact:
            return
        if bound is None or gap is None:
            self.say("proof", place, f"status {row['status']!r} without bound and gap")
            return
        if bound < 0.0 or self.exceeds(bound, value):
            self.say("bound", f"{place}.bound", f"bound {bound:.9g}, cost {value:.9g}")
        expected = 0.0 if value <= max(bound, 0.0) else (value - bound) / value
        self.same("gap", row, "gap", expected, GAP_ROUNDING)
        asked = max(float(self.settings.get("gap") or 0.0), _SMALLEST_GAP)
        if row["status"] == "optimal" and expected > asked * (1.0 + self.tolerance) + GAP_ROUNDING:
            message = f"'optimal' with a gap of {expected:.3g}, asked for {asked:.3g}"
            self.say("proof", f"{place}.status", message)

    def standing(
        self, place: str, keys: Row, stood: Mapping[Key, float] | None = None
    ) -> dict[Key, float] | None:
        """Check the lists of servers and links and their units; return these, or None.

        Args:
            place: of the plan, for messages.
            keys: cells that its rows have.
            stood: years that units of each have stood before; None: none.
        """
        servers, links = self.rows("servers", keys), self.rows("links", keys)
        complete = self.listed("servers", place, map(_server, servers), self.site.servers)
        complete &= self.listed("links", place, map(_link, links), self.site.links)
        if not complete:
            return None
        units = {_server(r): r["units"] for r in servers} | {_link(r): r["units"] for r in links}
        for row, key in [*((r, _server(r)) for r in servers), *((r, _link(r)) for r in links)]:
            count, offer = row["units"], self.site.offers[key]
            if count is None or count < 0 or count != int(count):
                self.say("units", f"{row['#']}.units", f"{count}: whole numbers from 0 on")
                return None
            if count > offer.most:
                self.say("sold", f"{row['#']}.units", f"{count} units, {offer.most:g} are sold")
            years = count + (0.0 if stood is None else stood[key])
            self.same("unit-cost", row, "cost", offer.cost(count, years))
            self.told("capacity", row, "present", key, offer.present)
            self.told("capacity", row, "capacity", key, self.site.capacity(key, count))
        return {key: float(count) for key, count in units.items()}

    def routes(
        self, rows: Sequence[Row], place: str, coordination: str
    ) -> dict[str, tuple[str, ...]] | None:
        """Check the paths of a plan; return them by task, None where they are not paths."""
        if not self.listed("tasks", place, (r["task"] for r in rows), list(self.site.tasks)):
            return None
        network = self.site.network
        paths = {}
        for row in rows:
            task, path = self.site.tasks[row["task"]], _path(row)
            if not self.is_path(row, task, path, coordination):
                return None
            paths[task.id] = path
            if "latency_s" in row:
                self.same("latency", row, "latency_s", network.figures(task, path).latency)
            seconds, most = network.figures(task, path).latency, task.max_latency
            if most is not None and self.exceeds(seconds, most):
                self.say("max-latency", f"{row['#']}.path", f"{seconds:.9g} s, at most {most:.9g}")
        return paths

    def is_path(self, row: Row, task: Task, path: tuple[str, ...], coordination: str) -> bool:
        """Check one path and its accuracy; tell whether it is a path at all."""
        network, place = self.site.network, f"{row['#']}.path"
        faults = [message for _, message in network.path_faults(task, path)]
        if not faults:
            missing = network.figures(task, path).missing
            faults = [f"no link {source!r} -> {target!r}" for source, target in missing]
        for message in faults:
            self.say("path", place, f"task {task.id!r}: {message}")
        if faults:
            return False
        native = network.native_blocks(task)
        alternative = network.alternative(task, path)
        is_own = path == native
        if alternative is not None:
            at = network.place_of
            is_own = at[network.dnns[task.dnn].server] == at[network.dnns[alternative.dnn].server]
        is_allowed = {"none": is_own, "exits": is_own or path == native[: len(path)]}
        if not is_allowed.get(coordination, True):
            self.say("coordination", place, f"not a path of coordination {coordination!r}")
        accuracy = network.accuracy(task, path, self.tolerance)
        self.same("accuracy", row, "accuracy", accuracy.value, accuracy.slack)
        if self.settings.get("measured_only") and accuracy.source in ("predicted", "guessed"):
            self.say("measured-only", place, f"task {task.id!r}: its accuracy is predicted")
        named = row.get("accuracy_source", accuracy.source)
        if named not in network.sources(task, path, accuracy.source):
            self.say("accuracy-source", f"{row['#']}.accuracy_source", f"it is {accuracy.source}")
        value = accuracy.value + accuracy.slack
        if not accuracy.admissible or self.exceeds(task.min_accuracy, value):
            message = f"accuracy {accuracy.value:.9g}, min_accuracy {task.min_accuracy:.9g}"
            self.say("min-accuracy", place, message)
        return True

    def at_work(
        self,
        place: str,
        load: _Load,
        units: Mapping[Key, float],
        without: str | None = None,
        device: str | None = None,
    ) -> None:
        """Check that loads fit the capacities with units, and adapters the memories.

        Args:
            place: of the row, for messages.
            load: what is caused.
            units: that stand.
            without: server that is gone.
            device: server of which one device is gone.
        """
        for key, value in load.rate.items():
            most = self.site.capacity(key, units[key])
            if most is None or key == (without,):
                continue
            name = " -> ".join(key)
            if most <= 0.0 and len(key) == 1:
                self.say("devices", place, f"{name}: a path has work there, and there is no device")
            if key == (device,):
                most = max(most - self.site.speeds[key[0]], 0.0)
            most *= self.site.share.get(key, 1.0)
            if self.exceeds(value, most):
                self.say("overload", place, f"{name}: load {value:.9g}, at most {most:.9g}")
        for server in self.site.instance.servers:
            filled = load.memory.get(server.id, 0.0)
            if server.memory is not None and self.exceeds(filled, server.memory):
                message = f"{server.id}: adapters of {filled:.9g} bytes, {server.memory:.9g} fit"
                self.say("memory", place, message)

    def loads_shown(self, loads: Sequence[_Load], units: Mapping[Key, float], keys: Row) -> None:
        """Compare the loads of a plan's rows (the largest of some) and their utilizations."""
        for table, key_of in (("servers", _server), ("links", _link)):
            for row in self.rows(table, keys):
                key = key_of(row)
                value = max(load.rate.get(key, 0.0) for load in loads)
                self.told("load", row, "load", key, value)
                most = self.site.capacity(key, units[key])
                share = None if most is None else value / most if most > 0.0 else 0.0
                self.same("utilization", row, "utilization", share)

    def told(self, rule: str, row: Row, what: str, key: Key, amount: float | None) -> None:
        """Compare what a row tells, in all units that it has, with an amount of a capacity."""
        for suffix, factor in self.site.measures(key):
            if f"{what}_{suffix}" in row:
                value = None if amount is None or factor is None else amount * factor
                self.same(rule, row, f"{what}_{suffix}", value)

    def rates_of_groups(self, place: str, rates: Mapping[str, float]) -> None:
        """Check that the tasks of each input group have one rate."""
        for members in self.site.groups.values():
            have = [rates[t.id] for t in members if t.id in rates]
            if have and self.exceeds(max(have), min(have)):
                names = ", ".join(repr(t.id) for t in members)
                self.say("group-rate", place, f"tasks {names} run at {min(have)} to {max(have)}")

    def accuracy_of(self, row: Row, paths: Mapping[str, tuple[str, ...]], loss: Any) -> None:
        """Check the average accuracy of a plan, and the floors that were asked of it."""
        accuracy, slack = {}, 0.0
        for name, path in paths.items():
            found = self.site.network.accuracy(self.site.tasks[name], path, self.tolerance)
            accuracy[name], slack = found.value, max(slack, found.slack)
        average = self.site.average(accuracy)
        self.same("average-accuracy", row, "accuracy", average, slack)
        lost = 100.0 * (self.site.native - average)
        # A difference of accuracies loses digits: they are at most 100 points.
        points = 100.0 * self.tolerance
        self.same("average-accuracy", row, "accuracy_loss_points", lost, points)
        floors = [self.settings.get("min_accuracy") or 0.0]
        if loss is not None:
            floors.append(self.site.native - float(loss) / 100.0)
        if self.exceeds(max(floors), average + slack):
            message = f"average accuracy {average:.9g}, at least {max(floors):.9g} was asked for"
            self.say("asked-accuracy", f"{row['#']}.accuracy", message)

    def totals(self, row: Row, units: Mapping[Key, float]) -> float:
        """Check cost and number of units of a plan; return the cost."""
        self.same("total-units", row, "units", sum(units.values()))
        cost = math.fsum(self.site.offers[key].cost(n, n) for key, n in units.items())
        self.same("cost", row, "cost", cost)
        return cost

    def compared(self, row: Row, other: Row | None, what: str, sign: float) -> None:
        """Check differences of cost and units between two plans."""
        for column in ("cost", "units"):
            expected = None
            if other is not None and other["cost"] is not None and row["cost"] is not None:
                expected = sign * (other[column] - row[column])
            scale = max(abs(row[column] or 0.0), abs((other or row)[column] or 0.0))
            self.same("saved", row, f"{what}_{column}", expected, self.tolerance * scale)

    def in_full(
        self,
        place: str,
        rows: Sequence[Row],
        growth: float,
        coordination: str,
        keys: Row,
        stood: Mapping[Key, float] | None = None,
    ) -> tuple[dict[Key, float], dict[str, tuple[str, ...]]] | None:
        """Check a plan that serves all demand; return its units and paths, None without."""
        units = self.standing(place, keys, stood)
        if units is None:
            return None
        paths = self.routes(rows, place, coordination)
        if paths is None:
            return None
        rates = {}
        for row in rows:
            task = self.site.tasks[row["task"]]
            rates[task.id] = row["rate_per_s"]
            self.same("demand", row, "rate_per_s", growth * self.site.demand(task))
        self.rates_of_groups(place, rates)
        load = self.site.load(paths, rates)
        self.at_work(place, load, units)
        self.loads_shown([load], units, keys)
        self.promises_shown(rows, [self.promises(place, paths, rates, units)])
        return units, paths

    def promises(
        self,
        place: str,
        paths: Mapping[str, tuple[str, ...]],
        rates: Mapping[str, float],
        units: Mapping[Key, float],
        device: str | None = None,
    ) -> dict[str, float]:
        """Check that promises are within their limits; return them; see :meth:`_Site.promised`."""
        promised = self.site.promised(paths, rates, units, device)
        for name, value in promised.items():
            most = self.site.tasks[name].max_latency
            if most is not None and self.exceeds(value, most):
                message = f"task {name!r}: {value:.9g} s is promised, at most {most:.9g}"
                self.say("promised-limit", place, message)
        return promised

    def promises_shown(self, rows: Sequence[Row], promised: Sequence[Mapping[str, float]]) -> None:
        """Compare the promised times of paths, the largest of all states."""
        for row in rows:
            if "promised_s" in row:
                most = max(
                    (one[row["task"]] for one in promised if row["task"] in one), default=math.inf
                )
                self.same("promise", row, "promised_s", most if math.isfinite(most) else None)

    def served_in_full(self, row: Row, growth: float) -> None:
        total = math.fsum(growth * self.site.demand(task) for task in self.site.tasks.values())
        self.same("served", row, "throughput_per_s", total)

    # ---- one method for each kind ------------------------------------------------------------

    def least_cost(self) -> None:
        summary = self.tables["summary"]
        first = summary[0]["coordination"] if summary else None
        self.spoken_for(
            r["status"] for r in summary if r["coordination"] == first and r["method"] == "exact"
        )
        for row in summary:
            keys = {name: row[name] for name in _KEY.split()}
            others = ("servers", "links", "paths")
            if not self.part(row, row["cost"] is not None, others, keys):
                continue
            exact = row["method"] == "exact"
            self.proof(row, row["cost"], exact)
            paths = self.rows("paths", keys)
            found = self.in_full(row["#"], paths, row["growth"], row["coordination"], keys)
            self.served_in_full(row, row["growth"])
            asked = {k: v for k, v in keys.items() if k not in ("method", "coordination")}
            alone = self.rows("summary", {"coordination": "none", "method": "exact", **asked})
            self.compared(row, alone[0] if alone else None, "saved", 1.0)
            if exact:
                quick = self.rows("summary", {**keys, "method": "heuristic"})
                for other in quick:
                    if other["cost"] is not None and self.exceeds(row["cost"], other["cost"]):
                        message = f"{row['cost']:.9g}, the heuristic found {other['cost']:.9g}"
                        self.say("heuristic", f"{row['#']}.cost", message)
            if found is not None:
                self.totals(row, found[0])
                self.accuracy_of(row, found[1], row["max_loss_points"])

    def drop_range(self) -> None:
        """Check what a plan tells of the ranges of guessed drops."""
        rows = self.tables["drops"]
        columns = [n for n in rows[0] if n not in ("#", "drops")] if rows else []
        summary = [
            {name: row.get(name) for name in columns}
            for row in self.tables.get("summary", [])
            if row.get("method", "exact") == "exact"
        ]
        middle = [{name: r[name] for name in columns} for r in rows if r["drops"] == "middle"]
        if middle != summary or [r["drops"] for r in rows] != ["low", "middle", "high"] * len(
            summary
        ):
            message = "three rows for each exact row of the summary, the middle one like it"
            self.say("drop-range", "drops", message)
            return
        for less, more in zip(rows, rows[1:], strict=False):
            if more["drops"] == "low":
                continue
            bound = less["bound"] or 0.0
            cost = more.get("present_value", more["cost"])
            if cost is None:
                continue
            # Every plan for larger drops is one for smaller ones.
            if less["status"] == "infeasible" or self.exceeds(bound, cost):
                message = f"{bound:.9g} is proven for {less['drops']} drops, {more['drops']} ones "
                self.say("drop-range", f"{more['#']}.cost", f"{message}cost {cost:.9g}")

    def growth(self) -> None:
        summary = self.tables["summary"]
        self.spoken_for(r["status"] for r in summary[:1])
        for row in summary:
            name = row["coordination"]
            others = ("periods", "servers", "links", "paths")
            if not self.part(row, row["cost"] is not None, others, {"coordination": name}):
                continue
            alone = self.rows("summary", {"coordination": "none"})
            self.compared(row, alone[0] if alone else None, "saved", 1.0)
            self.along_growth(row, {"coordination": name}, self.in_period)

    def in_period(
        self, period: Row, keys: Row, growth: float, stood: Mapping[Key, float]
    ) -> dict[Key, float] | None:
        """Check what is served in one period of a growth path; return its units."""
        paths = self.rows("paths", keys)
        found = self.in_full(period["#"], paths, growth, keys["coordination"], keys, stood)
        self.served_in_full(period, growth)
        if found is None:
            return None
        self.accuracy_of(period, found[1], self.settings["max_loss_points"])
        return found[0]

    def along_growth(
        self,
        row: Row,
        keys: Row,
        in_period: Callable[[Row, Row, float, dict[Key, float]], dict[Key, float] | None],
    ) -> None:
        """Check what is bought when, and what it costs.

        Args:
            row: of the plan's summary.
            keys: columns that name the plan.
            in_period: checks what is served in a period and returns the units that stand then; gets
                the years that units have stood before, too.
        """
        factors, discount = self.settings["growth"], self.settings["discount"]
        self.proof(row, row["present_value"])
        periods = self.rows("periods", keys)
        numbers = list(range(1, len(factors) + 1))
        if not self.listed("tables", row["#"], (r["period"] for r in periods), numbers):
            return
        value, spent = 0.0, 0.0
        before: dict[Key, float] = dict.fromkeys(self.site.offers, 0.0)
        years = dict(before)
        for period in periods:
            now = {**keys, "period": period["period"]}
            growth = float(factors[period["period"] - 1])
            self.same("demand", period, "growth", growth)
            units = in_period(period, now, growth, years)
            if units is None:
                return
            bought = {key: count - before[key] for key, count in units.items()}
            self.purchases(bought, now)
            self.same("kept", period, "units_bought", sum(bought.values()))
            self.same("total-units", period, "total_units", sum(units.values()))
            offers = self.site.offers
            cost = math.fsum(offers[key].cost(n, units[key]) for key, n in bought.items())
            years = {key: years[key] + n for key, n in units.items()}
            spent += cost
            value += cost / (1.0 + discount) ** (period["period"] - 1)
            self.same("cost", period, "cost", cost)
            self.same("cost", period, "total_cost", spent)
            before = units
        self.same("total-units", row, "units", sum(before.values()))
        self.same("cost", row, "cost", spent)
        self.same("present-value", row, "present_value", value)

    def purchases(self, bought: Mapping[Key, float], keys: Row) -> None:
        """Check what is bought in a period."""
        for table, key_of in (("servers", _server), ("links", _link)):
            for row in self.rows(table, keys):
                self.same("kept", row, "units_bought", bought[key_of(row)])
                if row["units_bought"] < 0:
                    self.say("kept", f"{row['#']}.units_bought", "capacity is never sold")

    def scenarios(self) -> None:
        summary = self.tables["summary"]
        self.spoken_for(r["status"] for r in summary)
        for row in summary:
            name = row["variant"]
            others = ("scenarios", "servers", "links", "paths", "rates")
            if not self.part(row, row["cost"] is not None, others, {"variant": name}):
                continue
            self.proof(row, row["cost"])
            units = self.standing(row["#"], {"variant": name})
            if units is None:
                continue
            self.totals(row, units)
            rows = self.rows("paths", {"variant": name})
            paths = self.routes(rows, row["#"], self.settings["coordination"])
            if paths is None:
                continue
            self.accuracy_of(row, paths, self.settings["max_loss_points"])
            self.in_scenarios(row, units, paths)

    def in_scenarios(
        self, row: Row, units: Mapping[Key, float], paths: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Check the rates of one variant in all scenarios, and the share that it promised."""
        name = row["variant"]
        loads, served, asked, least = [], 0.0, 0.0, math.inf
        scenarios = self.rows("scenarios", {"variant": name})
        chances = [s["probability"] for s in scenarios]
        if min(chances, default=0.0) < 0.0 or abs(math.fsum(chances) - 1.0) > self.tolerance:
            self.say("probability", row["#"], f"probabilities sum to {math.fsum(chances):.9g}")
        for scenario in scenarios:
            rates = self.rows("rates", {"variant": name, "scenario": scenario["scenario"]})
            names = [r["task"] for r in rates]
            if not self.listed("tasks", scenario["#"], names, list(self.site.tasks)):
                return
            for rate in rates:
                task, demand = self.site.tasks[rate["task"]], rate["demand_per_s"]
                floor = 0.0 if name == "mean" else self.site.floor(task, demand)
                if name == "every":
                    floor = demand
                value = rate["rate_per_s"]
                if self.exceeds(value, demand) or self.exceeds(floor, value):
                    message = (
                        f"task {task.id!r}: rate {value:.9g}, within {floor:.9g}, {demand:.9g}"
                    )
                    self.say("rate", f"{rate['#']}.rate_per_s", message)
            by_task = {r["task"]: r["rate_per_s"] for r in rates}
            self.rates_of_groups(scenario["#"], by_task)
            self.rates_of_groups(scenario["#"], {r["task"]: r["demand_per_s"] for r in rates})
            total = math.fsum(r["demand_per_s"] for r in rates)
            sum_of_rates = math.fsum(by_task.values())
            share = sum_of_rates / total if total > 0.0 else 1.0
            self.same("served", scenario, "demand_per_s", total)
            self.same("served", scenario, "served_per_s", sum_of_rates)
            self.same("served", scenario, "served_share", share)
            load = self.site.load(paths, by_task)
            self.at_work(scenario["#"], load, units)
            loads.append(load)
            served += scenario["probability"] * sum_of_rates
            asked += scenario["probability"] * total
            least = min(least, share)
        expected = served / asked if asked > 0.0 else 1.0
        self.same("served", row, "expected_served_share", expected)
        self.same("served", row, "worst_served_share", least)
        reached = {"expected": expected, "worst": least}.get(name)
        if reached is not None and self.exceeds(row["served_share"], reached):
            message = f"{reached:.9g} of the demand, {row['served_share']:.9g} was promised"
            self.say("promised", f"{row['#']}.served_share", message)
        self.loads_shown(loads, units, {"variant": name})

    def failures(self) -> None:
        summary = self.tables["summary"]
        self.spoken_for(r["status"] for r in summary)
        normal = self.rows("summary", {"plan": "normal"})
        growth = float(self.settings["growth"])
        for row in summary:
            name = row["plan"]
            others = ("failures", "servers", "links", "paths")
            if not self.part(row, row["cost"] is not None, others, {"plan": name}):
                continue
            self.proof(row, row["cost"])
            self.compared(row, normal[0] if normal else None, "extra", -1.0)
            paths = self.rows("paths", {"plan": name})
            coordination = self.settings["coordination"]
            found = self.in_full(row["#"], paths, growth, coordination, {"plan": name})
            if found is None:
                continue
            self.totals(row, found[0])
            self.accuracy_of(row, found[1], self.settings["max_loss_points"])
            self.under_failures(row, found[0], found[1], growth)

    def under_failures(
        self,
        row: Row,
        units: Mapping[Key, float],
        paths: Mapping[str, tuple[str, ...]],
        growth: float,
    ) -> None:
        """Check what one plan serves under every failure."""
        rows = self.rows("failures", {"plan": row["plan"]})
        servers = [server.id for server in self.site.instance.servers]
        if not self.listed("servers", row["#"], (r["failed_server"] for r in rows), servers):
            return
        demand = {t.id: growth * self.site.demand(t) for t in self.site.tasks.values()}
        total = math.fsum(demand.values())
        for failure in rows:
            gone = failure["failed_server"]
            hit = {n for n, p in paths.items() if gone in self.site.visited(self.site.tasks[n], p)}
            lost = {r["task"] for r in self.rows("lost", {"failed_server": gone})}
            for name in lost - hit:
                self.say("lost", failure["#"], f"task {name!r} has a path that avoids {gone!r}")
            self.same("failed", failure, "tasks_hit", len(hit))
            self.same("failed", failure, "tasks_lost", len(lost))
            self.same("demand", failure, "demand_per_s", total)
            fixed = math.fsum(demand[name] for name in demand if name not in hit)
            self.same("served", failure, "served_fixed_per_s", fixed)
            again = failure["served_rerouted_per_s"]
            if self.exceeds(fixed, again) or self.exceeds(again, total):
                message = f"{again:.9g}, but {fixed:.9g} stay and {total:.9g} are asked for"
                self.say("served", f"{failure['#']}.served_rerouted_per_s", message)
            for name, value in (("fixed", fixed), ("rerouted", again)):
                share = value / total if total > 0.0 else 1.0
                self.same("served", failure, f"served_{name}_share", share)
            if row["plan"] == "survivable":
                self.survives(failure, units, paths, hit, lost, demand)
        for name in ("fixed", "rerouted"):
            worst = min((r[f"served_{name}_share"] for r in rows), default=None)
            self.same("served", row, f"worst_served_{name}_share", worst)

    def survives(
        self,
        failure: Row,
        units: Mapping[Key, float],
        paths: Mapping[str, tuple[str, ...]],
        hit: set[str],
        lost: set[str],
        demand: Mapping[str, float],
    ) -> None:
        """Check the backups of the survivable plan under one failure."""
        gone = failure["failed_server"]
        kept = {name: self.kept_of(name, value, "server") for name, value in demand.items()}
        backups = self.rows("backups", {"failed_server": gone})
        for row in backups:
            if row["task"] in hit:
                self.same("rate", row, "rate_per_s", kept[row["task"]])
        moved = self.moved(backups, gone, hit, lost)
        then = {name: path for name, path in paths.items() if name not in hit} | moved
        self.listed("backup", failure["#"], [r["task"] for r in backups], sorted(moved))
        without = sorted(name for name in hit - lost - {*then} if kept[name] > 0.0)
        if without or failure["floors_kept"] is not True:
            names = ", ".join(map(repr, without)) or "floors_kept"
            self.say("survives", failure["#"], f"{names}: floors are not kept without {gone!r}")
        self.at_work(failure["#"], self.site.load(then, kept), units, without=gone)

    def moved(
        self, backups: Sequence[Row], gone: str, hit: set[str], lost: set[str]
    ) -> dict[str, tuple[str, ...]]:
        """Check the backups under one failure; return the paths of those that are paths."""
        found = {}
        for row in backups:
            task, path = self.site.tasks.get(row["task"]), _path(row)
            if task is None or task.id not in hit:
                self.say("backup", row["#"], f"task {row['task']!r} is not hit by {gone!r}")
                continue
            if not self.is_path(row, task, path, self.settings["coordination"]):
                continue
            if gone in self.site.visited(task, path):
                self.say("backup", f"{row['#']}.path", f"it visits {gone!r}, which failed")
            if task.id in lost:
                self.say("lost", row["#"], f"task {task.id!r} has a backup that avoids {gone!r}")
            seconds = self.site.network.figures(task, path).latency
            if task.max_latency is not None and self.exceeds(seconds, task.max_latency):
                message = f"{seconds:.9g} s, at most {task.max_latency:.9g}"
                self.say("max-latency", f"{row['#']}.path", message)
            found[task.id] = path
        return found

    # ---- growth, hours, scenarios and failures together --------------------------------------

    def combined(self) -> None:
        summary = self.tables["summary"]
        self.spoken_for(r["status"] for r in summary)
        asked = self.asked()
        if asked is None:
            return
        for row in summary:
            keys = {"routing": row["routing"]}
            others = ("periods", "states", "servers", "links", "paths", "failures", "backups")
            if not self.part(row, row["cost"] is not None, others, keys):
                continue
            states = self.rows("states", keys)
            self.same("states", row, "states", len(asked) * len(self.settings["growth"]))
            left_out = sum(r["implied_by"] is not None for r in states)
            self.same("states", row, "states_left_out", left_out)
            self.along_growth(
                row,
                keys,
                lambda period, now, growth, stood: self.in_states(
                    period, now, growth, stood, asked
                ),
            )

    def asked(self) -> dict[State, dict[str, float]] | None:
        """Return the demands at growth 1 of all states by task, None where tasks lack."""
        found: dict[State, dict[str, float]] = {}
        rows: dict[State, list[Row]] = defaultdict(list)
        for row in self.tables["demands"]:
            rows[_state(row)].append(row)
        for state, own in rows.items():
            names = (row["task"] for row in own)
            if not self.listed("tasks", own[0]["#"], names, list(self.site.tasks)):
                return None
            found[state] = {row["task"]: row["demand_per_s"] for row in own}
            self.rates_of_groups(own[0]["#"], found[state])
            for row in own:
                if state == (None, None):
                    demand = self.site.demand(self.site.tasks[row["task"]])
                    self.same("demand", row, "demand_per_s", demand)
                if row["demand_per_s"] < 0.0:
                    self.say("demand", f"{row['#']}.demand_per_s", "it is negative")
        return found

    def in_states(
        self,
        period: Row,
        keys: Row,
        growth: float,
        stood: Mapping[Key, float],
        asked: Mapping[State, Mapping[str, float]],
    ) -> dict[Key, float] | None:
        """Check what is served in all states of a growth period; return its units."""
        units = self.standing(period["#"], keys, stood)
        states = self.rows("states", keys)
        listed = self.listed("states", period["#"], map(_state, states), list(asked))
        if units is None or not listed or not self.weights(states, keys):
            return None
        blocks = [block for block, _ in asked] if keys["routing"] == "by-period" else [None]
        told = dict.fromkeys(row["demand_period"] for row in self.rows("paths", keys))
        if not self.listed("states", period["#"], list(told), list(dict.fromkeys(blocks))):
            return None
        paths, loads, accuracies = {}, [], []
        promised: dict[str | None, list[dict[str, float]]] = {}
        for block in told:
            rows = self.rows("paths", {**keys, "demand_period": block})
            own = self.routes(rows, period["#"], self.settings["coordination"])
            if own is None:
                return None
            paths[block], promised[block] = own, []
        demands = {
            state: {task: growth * demand for task, demand in own.items()}
            for state, own in asked.items()
        }
        for row in states:
            block = row["demand_period"] if row["demand_period"] in paths else None
            own, rates = paths[block], demands[_state(row)]
            promised[block].append(self.promises(row["#"], own, rates, units))
            self.same("demand", row, "demand_per_s", math.fsum(rates.values()))
            self.accuracy_of(row, own, self.settings["max_loss_points"])
            accuracies.append(row["accuracy"])
            loads.append(self.site.load(own, rates))
            self.at_work(row["#"], loads[-1], units)
            self.implied(row, states, demands)
        self.loads_shown(loads, units, keys)
        for block, found in promised.items():
            self.promises_shown(self.rows("paths", {**keys, "demand_period": block}), found)
        weights = [row["hours"] * row["probability"] for row in states]
        total = math.fsum(weights)

        def mean(values: Iterable[float]) -> float:
            return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total

        average, points = mean(accuracies), 100.0 * self.tolerance
        self.same("average", period, "accuracy", average)
        lost = 100.0 * (self.site.native - average)
        self.same("average", period, "accuracy_loss_points", lost, points)
        served = mean(math.fsum(demands[_state(row)].values()) for row in states)
        self.same("average", period, "throughput_per_s", served)
        for table, key_of in (("servers", _server), ("links", _link)):
            for row in self.rows(table, keys):
                most, load = self.site.capacity(key_of(row), units[key_of(row)]), None
                if most is not None:
                    load = mean(one.rate.get(key_of(row), 0.0) for one in loads)
                share = None if load is None or most is None else load / most if most else 0.0
                self.same("average", row, "mean_utilization", share)
        self.stands_failures(period["#"], keys, paths, units, demands)
        return units

    def weights(self, states: Sequence[Row], keys: Row) -> bool:
        """Check hours and probabilities of the states of one growth period."""
        chances: dict[Any, list[float]] = defaultdict(list)
        known = {_state(r): r for r in reversed(self.tables["states"])}
        for row in states:
            first = known[_state(row)]
            chances[row["demand_period"]].append(row["probability"])
            if not row["hours"] > 0.0 or row["hours"] != first["hours"]:
                message = f"{row['hours']}, told as {first['hours']} before; above 0"
                self.say("hours", f"{row['#']}.hours", message)
                return False
        for block, own in chances.items():
            if min(own) < 0.0 or abs(math.fsum(own) - 1.0) > self.tolerance:
                message = f"probabilities of {block!r} sum to {math.fsum(own):.9g}"
                self.say("probability", f"period {keys['period']}", message)
                return False
        return True

    def implied(
        self, row: Row, states: Sequence[Row], demands: Mapping[State, Mapping[str, float]]
    ) -> None:
        """Check that a state which was left out asks for no more than the one that it names."""
        if row["implied_by"] is None:
            return
        for other in states:
            if _state_name(other) == row["implied_by"] and other["implied_by"] is None:
                less, more = demands[_state(row)], demands[_state(other)]
                over = [task for task in less if self.exceeds(less[task], more[task])]
                for task in over:
                    message = f"task {task!r} asks for more than in {row['implied_by']!r}"
                    self.say("implied", row["#"], message)
                return
        self.say("implied", row["#"], f"{row['implied_by']!r} is no state that is planned for")

    def stands_failures(
        self,
        place: str,
        keys: Row,
        paths: Mapping[str | None, Mapping[str, tuple[str, ...]]],
        units: Mapping[Key, float],
        demands: Mapping[State, Mapping[str, float]],
    ) -> None:
        """Check that all states keep their rates under every failure of a growth period."""
        settings = self.settings
        kinds = [
            kind
            for kind, name in (("server", "failures"), ("device", "device_failures"))
            if settings[name]
        ]
        expected = [
            (block, server.id, kind)
            for block in paths
            for kind in kinds
            for server in self.site.instance.servers
        ]
        rows = self.rows("failures", keys)
        names = ("demand_period", "failed_server", "failed")
        told = (tuple(row[name] for name in names) for row in rows)
        if not self.listed("servers", place, told, expected):
            return
        for failure in rows:
            block, gone, kind = (failure[name] for name in names)
            of_device = kind == "device"
            at = {"failed_server": gone, "failed": kind}
            own = paths[block]
            hit = {n for n, p in own.items() if gone in self.site.visited(self.site.tasks[n], p)}
            lost = {r["task"] for r in self.rows("lost", at)}
            offer = self.site.offers[gone,]
            largest = (offer.present or 0.0) + (offer.unit and offer.most * offer.unit)
            if of_device and self.exceeds(largest, self.site.speeds[gone]):
                for name in lost:
                    message = f"task {name!r} needs another device of {gone!r}"
                    self.say("lost", failure["#"], message)
            for name in lost - hit:
                self.say("lost", failure["#"], f"task {name!r} has a path that avoids {gone!r}")
            backups = self.rows("backups", {**keys, "demand_period": block, **at})
            moved = self.moved(backups, gone, hit, lost)
            self.listed("backup", failure["#"], [r["task"] for r in backups], sorted(moved))
            self.same("failed", failure, "tasks_hit", len(hit))
            self.same("failed", failure, "tasks_moved", len(moved))
            self.same("failed", failure, "tasks_lost", len(lost))
            left = hit - lost - moved.keys()
            then = {name: path for name, path in own.items() if name not in hit} | moved
            if of_device:
                then |= {name: own[name] for name in left}
            for state, asked in demands.items():
                if block is not None and state[0] != block:
                    continue
                kept = {name: self.kept_of(name, demand, kind) for name, demand in asked.items()}
                without = sorted(name for name in left - then.keys() if kept[name] > 0.0)
                if without:
                    named = ", ".join(map(repr, without))
                    message = f"{named}: nothing is kept without {gone!r}"
                    self.say("survives", failure["#"], message)
                load = self.site.load(then, kept)
                if of_device:
                    self.at_work(failure["#"], load, units, device=gone)
                else:
                    self.at_work(failure["#"], load, units, without=gone)
                has_load = load.rate.get((gone,), 0.0) > 0.0
                self.promises(
                    failure["#"], then, kept, units, gone if of_device and has_load else None
                )

    def kept_of(self, name: str, demand: float, kind: str) -> float:
        """Return the rate of a task that is kept when a server or a device fails."""
        share = self.settings["keep_devices" if kind == "device" else "keep"]
        if share is None:
            return self.site.floor(self.site.tasks[name], demand)
        return float(share) * demand

    def front(self) -> None:
        points = self.tables["points"]
        self.spoken_for(r["status"] for r in points)
        complete = self.settings.get("complete")
        if complete and any(r["status"] != "optimal" for r in points):
            self.say("plan-status", "settings.complete", "a point is not proven")
        before: Row | None = None
        present = dict.fromkeys(self.site.offers, 0.0)
        for row in points:
            has_plan = row["throughput_per_s"] is not None
            if not self.part(row, has_plan, ("paths",), {"point": row["point"]}):
                continue
            self.bounds_of_point(row)
            if before is not None and not (
                row["throughput_per_s"] <= before["throughput_per_s"] * (1.0 + self.tolerance)
                and row["accuracy"] > before["accuracy"]
            ):
                self.say("front", row["#"], f"dominated by point {before['point']}, or it by this")
            before = row
            rows = self.rows("paths", {"point": row["point"]})
            paths = self.routes(rows, row["#"], "full")
            if paths is None:
                continue
            self.accuracy_of(row, paths, None)
            rates = {r["task"]: r["rate_per_s"] for r in rows}
            self.rates_of_groups(row["#"], rates)
            for one in rows:
                task, value = self.site.tasks[one["task"]], one["rate_per_s"]
                demand = self.site.demand(task)
                floor = self.site.floor(task, demand)
                if self.exceeds(floor, value) or value > demand * (1.0 + self.tolerance):
                    message = (
                        f"task {task.id!r}: rate {value:.9g}, within {floor:.9g}, {demand:.9g}"
                    )
                    self.say("rate", f"{one['#']}.rate_per_s", message)
            self.same("served", row, "throughput_per_s", math.fsum(rates.values()))
            self.at_work(row["#"], self.site.load(paths, rates), present)
            self.promises(row["#"], paths, rates, present)

    def bounds_of_point(self, row: Row) -> None:
        """Check bounds and gap of a point of the front, which bound from above."""
        gaps = []
        for name, unit in (("throughput", "_per_s"), ("accuracy", "")):
            value, bound = row[f"{name}{unit}"], row[f"{name}_bound{unit}"]
            if bound is None:
                continue
            if self.exceeds(value, bound):
                message = f"bound {bound:.9g} below the value {value:.9g}"
                self.say("bound", f"{row['#']}.{name}_bound{unit}", message)
            gaps.append(max(bound / value - 1.0, 0.0) if value > 0.0 else 0.0)
        if row["gap"] is None or len(gaps) < 2:
            if row["status"] == "optimal":
                self.say("proof", row["#"], "'optimal' without bounds and gap")
            return
        self.same("gap", row, "gap", max(gaps), self.tolerance)
        asked = max(float(self.settings.get("gap") or 0.0), _SMALLEST_GAP)
        # The most accuracy is looked for at a throughput that may be less by the smallest gap.
        most = asked * (1.0 + self.tolerance) + 2.0 * _SMALLEST_GAP
        if row["status"] == "optimal" and row["gap"] > most:
            self.say("proof", f"{row['#']}.status", f"'optimal' with a gap of {row['gap']:.3g}")

    def marginal(self) -> None:
        servers, links = self.tables["servers"], self.tables["links"]
        self.spoken_for(r["resolved_status"] for r in [*servers, *links])
        limited = [key for key in self.site.links if self.site.offers[key].present is not None]
        if servers or links:
            self.listed("servers", "servers", map(_server, servers), self.site.servers)
            self.listed("links", "links", map(_link, links), limited)
        for row in servers:
            if _server(row) in self.site.offers:
                present = self.site.offers[_server(row)].present
                self.told("capacity", row, "capacity", _server(row), present)
        for row in links:
            if _link(row) in self.site.offers:
                present = self.site.offers[_link(row)].present
                self.told("capacity", row, "capacity", _link(row), present)

    def sweep(self) -> None:
        rows = self.tables["sweep"]
        proven = [r for r in rows if r["method"] in ("exact", "plan")]
        self.spoken_for(r["status"] for r in proven or rows)
        for row in rows:
            if row["method"] == "plan":
                if self.part(row, row["cost"] is not None):
                    self.proof(row, row["cost"])
                    if row["units"] is None or row["units"] < 0:
                        self.say("units", f"{row['#']}.units", f"{row['units']}")
            elif self.part(row, row["reward"] is not None or row["throughput_per_s"] is not None):
                bound = row["bound"]
                value = row["reward"]
                if self.settings.get("objective") != "reward":
                    value = row[
                        "accuracy"
                        if self.settings["objective"] == "accuracy"
                        else "throughput_per_s"
                    ]
                if bound is not None and self.exceeds(value, bound):
                    self.say("bound", f"{row['#']}.bound", f"{bound:.9g}, value {value:.9g}")
                if row["method"] == "exact" and row["status"] == "optimal" and row["gap"] is None:
                    self.say("proof", row["#"], "'optimal' without a gap")


def _with_percentile(instance: Instance, percentile: float | None) -> Instance:
    """Return an instance with the percentile of limits that say none themselves."""
    tasks = [
        task.model_copy(update={"latency_percentile": percentile})
        if task.max_latency is not None and task.latency_percentile is None
        else task
        for task in instance.tasks
    ]
    return instance.model_copy(update={"tasks": tuple(tasks)})


def _server(row: Row) -> Key:
    return (row["server"],)


def _link(row: Row) -> Key:
    return (row["source"], row["target"])


def _state(row: Row) -> State:
    return (row["demand_period"], row["scenario"])


def _state_name(row: Row) -> str:
    return ", ".join(name for name in _state(row) if name is not None)


def _path(row: Row) -> tuple[str, ...]:
    """Return the path of a row; where it does not say, its accuracy may come from anywhere."""
    return GivenPath.of(row["path"].split(" > "), row.get("accuracy_source"))
