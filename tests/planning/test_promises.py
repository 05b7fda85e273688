"""Plans under limits of percentiles: against brute force over paths and units."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from code_opt.checker import InstanceIndex
from code_opt.instance import Instance, parse_instance, parse_periods
from code_opt.plan_checker import check_plan
from code_opt.planning import (
    PlanSettings,
    plan_combined,
    plan_front,
    plan_growth,
    plan_least_cost,
)
from code_opt.promise_checker import Walk, recompute
from tests.planning.reference import seeds
from tests.test_waiting_agreement import limited_instance
from tests.waiting_reference import all_paths

EXACT = PlanSettings(gap=1e-6, time_limit=None)
Units = tuple[int, ...]


def priced(seed: int) -> Instance:
    """Return a tiny instance with limits of percentiles, demands, and whole devices for sale."""
    number = seed + seed // 4  # without input groups
    rng = np.random.default_rng([seed, 11])
    data = limited_instance(number).to_dict()
    for server in data["servers"]:
        is_sold = rng.random() < 0.8
        server |= {
            "cost": float(rng.choice([1.0, 2.0, 3.5])),
            "unit_devices": 1.0 if is_sold else None,
            "unit_flops": None,
            "memory": None,
            "max_units": float(rng.integers(1, 9)) if rng.random() < 0.3 else 40.0,
        }
    for link in data["links"]:
        if link["bandwidth"] is not None:
            link |= {"unit_bandwidth": 0.5 * link["bandwidth"], "cost": 0.5}
            link["max_units"] = 40.0
    homes = {dnn["id"]: dnn for dnn in data["dnns"]}
    servers = {server["id"]: server for server in data["servers"]}
    for task in data["tasks"]:
        dnn = homes[task["dnn"]]
        server = servers[dnn["server"]]
        native = sum(b["flops"] for b in dnn["blocks"]) * server["devices"] / server["flops"]
        task |= {"floor": 0.0, "demand": float(rng.uniform(0.5, 4.0)) / native}
    return parse_instance(data)


class Edge:
    """What an instance can be grown to, and what holds then, by the checker's reading of it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        links = [k for k, link in enumerate(instance.links) if link.bandwidth is not None]
        self.records = [*instance.servers, *(instance.links[k] for k in links)]
        self.links = links
        self.price = [record.cost for record in self.records]
        self.sold = [
            0 if size is None else int(r.max_units)
            for r in self.records
            for size in [getattr(r, "unit_devices", None) or getattr(r, "unit_bandwidth", None)]
        ]

    def grown(self, units: Sequence[int]) -> Instance:
        data = self.instance.to_dict()
        for count, server in zip(units, data["servers"], strict=False):
            n = server["devices"] + count
            server |= {"flops": server["flops"] * n / server["devices"], "devices": n}
        for count, k in zip(units[len(data["servers"]) :], self.links, strict=True):
            data["links"][k]["bandwidth"] += count * (data["links"][k]["unit_bandwidth"] or 0.0)
        return parse_instance(data)

    def holds(
        self,
        paths: dict[str, Any],
        rates: dict[str, float],
        units: Sequence[int],
        device: str | None = None,
    ) -> bool:
        """Tell whether nothing is overloaded and all promises are kept with units.

        Of the server ``device`` one device is gone.
        """
        grown = self.grown(units)
        index = InstanceIndex(grown, self.instance)
        if device is not None:
            for server in index.servers.values():
                if server.id == device and server.devices == 1.0:
                    if any(device in self.visits(index, n, p) for n, p in paths.items()):
                        return False
                elif server.id == device:
                    data = grown.to_dict()
                    for one in data["servers"]:
                        if one["id"] == device:
                            one["flops"] *= (server.devices - 1.0) / server.devices
                            one["devices"] = server.devices - 1.0
                    index = InstanceIndex(parse_instance(data), self.instance)
        walks, load = [], dict.fromkeys(index.services, 0.0)
        for name, path in paths.items():
            task = index.tasks[name]
            steps = list(index.steps(task, path))
            for _, step in steps:
                for server, time in step.busy.items():
                    load["server", server] += rates[name] * time
                for ends, size in step.traffic.items():
                    if ("link", *ends) in load:
                        load["link", *ends] += rates[name] * size
            seconds = index.figures(task, path).latency
            walks.append(
                Walk(
                    name, index.group(task), rates[name], seconds, [(k, s.stays) for k, s in steps]
                )
            )
        for place, value in load.items():
            most = (
                index.servers[place[1]].devices * (index.servers[place[1]].max_utilization or 1.0)
                if place[0] == "server"
                else index.links[place[1], place[2]].bandwidth
            )
            if value > most * (1.0 + 1e-9):
                return False
        there = recompute(walks, index.services)
        return all(
            there.promised(name, task.latency_percentile) <= task.max_latency * (1.0 + 1e-9)
            for name, task in index.tasks.items()
            if name in paths
            and task.latency_percentile is not None
            and task.max_latency is not None
        )

    @staticmethod
    def visits(index: InstanceIndex, name: str, path: Any) -> set[str]:
        """Return the servers that a path visits."""
        task = index.tasks[name]
        servers = {index.host[block] for block in path}
        servers |= {c.server for c in index.used(task, path) if c.server is not None}
        return servers if task.origin is None else servers | {task.origin}

    def survives(
        self,
        paths: dict[str, Any],
        rates: dict[str, float],
        units: Sequence[int],
        choices: dict[str, list[Any]],
        kind: str,
    ) -> bool:
        """Tell whether all rates are kept without any one server, or any one device."""
        index = InstanceIndex(self.instance)
        for server in self.instance.servers:
            hit = [n for n, p in paths.items() if server.id in self.visits(index, n, p)]
            options = []
            for name in hit:
                avoid = [p for p in choices[name] if server.id not in self.visits(index, name, p)]
                options.append([paths[name], *avoid] if kind == "device" else avoid or [None])
            others = {n: p for n, p in paths.items() if n not in hit}
            device = server.id if kind == "device" else None
            if not any(
                self.holds(
                    others | {n: p for n, p in zip(hit, some, strict=True) if p is not None},
                    rates,
                    units,
                    device,
                )
                for some in itertools.product(*options)
            ):
                return False
        return True

    def least_units(
        self, holds: Callable[[Sequence[int]], bool], below: float
    ) -> tuple[float, Units] | None:
        """Return the least cost of units for paths, below one, by looking at all in its order.

        It starts at what each server and link needs even if there is plenty of all others.
        """
        most = self.sold
        if not holds(most):
            return None
        needed = []
        for i, high in enumerate(most):
            low = 0
            while low < high:
                middle = (low + high) // 2
                trial = [*most[:i], middle, *most[i + 1 :]]
                low, high = (low, middle) if holds(trial) else (middle + 1, high)
            needed.append(low)
        start: Units = tuple(needed)
        cost = sum(n * price for n, price in zip(start, self.price, strict=True))
        queue, seen = [(cost, start)], {start}
        while queue:
            cost, units = heapq.heappop(queue)
            if cost >= below:
                return None
            if holds(units):
                return cost, units
            for i, price in enumerate(self.price):
                if units[i] < most[i]:
                    more = (*units[:i], units[i] + 1, *units[i + 1 :])
                    if more not in seen:
                        seen.add(more)
                        heapq.heappush(queue, (cost + price, more))
        return None


def cheapest(
    instance: Instance, kind: str | None = None, more: Sequence[dict[str, float]] = ()
) -> float:
    """Return the least cost of a plan, inf where there is none.

    Args:
        instance: what is planned for.
        kind: of failures that it stands: of a server or of a device; None: none.
        more: demands of other states that the same paths serve.
    """
    edge, index = Edge(instance), InstanceIndex(instance)
    choices = {
        # Those that keep their limit with nobody else there.
        task.id: [
            path
            for path in all_paths(index, task)
            if edge.holds({task.id: path}, {task.id: 0.0}, edge.sold)
        ]
        for task in instance.tasks
    }
    rates = {task.id: float(task.demand or 0.0) for task in instance.tasks}
    best = math.inf
    for some in itertools.product(*choices.values()):
        paths = dict(zip(rates, some, strict=True))

        def holds(units: Sequence[int], paths: dict[str, Any] = paths) -> bool:
            return all(edge.holds(paths, one, units) for one in (rates, *more)) and (
                kind is None or edge.survives(paths, rates, units, choices, kind)
            )

        found = edge.least_units(holds, best)
        if found is not None:
            best = min(best, found[0])
    return best


@pytest.mark.parametrize("seed", seeds(12, 200))
def test_the_cost_is_that_of_brute_force(seed: int) -> None:
    instance = priced(seed)
    plan = plan_least_cost(instance, EXACT, coordinations=("full",))
    assert check_plan(plan.to_dict(), instance) == []
    row, _ = plan.table("summary").records()
    best = cheapest(instance)
    if math.isinf(best):
        assert row["status"] == "infeasible"
        assert row["message"]
    else:
        assert row["bound"] <= best * (1.0 + 1e-6) + 1e-9
        assert row["status"] == "optimal"
        assert row["cost"] == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", seeds(8, 100))
def test_limits_hold_under_failures(seed: int) -> None:
    instance = priced(seed + 300)
    kind = ("server", "device")[seed % 2]
    asked = {"failures": kind == "server", "device_failures": kind == "device", "keep": 1.0}
    plan = plan_combined(instance, EXACT, **asked)
    assert check_plan(plan.to_dict(), instance) == []
    (row,) = plan.table("summary").records()
    best = cheapest(instance, kind)
    if math.isinf(best):
        assert row["status"] == "infeasible"
    else:
        assert row["status"] == "optimal"
        assert row["cost"] == pytest.approx(best, rel=1e-6, abs=1e-9)


def by_hand() -> Instance:
    """Return the example of docs/waiting.md with demands, devices for sale, a limit of 0.05 s."""
    work = {"small": 1e7, "large": 4e7}
    tasks: list[dict[str, Any]] = [
        {"id": name, "dnn": name, "accuracy": 0.9, "demand": rate}
        for name, rate in (("small", 90.0), ("large", 5.0))
    ]
    tasks[0] |= {"max_latency": 0.05}
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "s", "flops": 1e9, "unit_devices": 1.0}],
            "dnns": [
                {"id": n, "server": "s", "blocks": [{"id": f"{n}/0", "flops": w}]}
                for n, w in work.items()
            ],
            "tasks": tasks,
        }
    )


def test_effective_times_are_what_is_bought_for() -> None:
    """A scale of 0.04 / ln 20 s counts 0.014883 and 0.2537 s: 90 and 5 of them need 2.61 devices.

    At a load of 1.1 devices. At 2.5 times these rates, 6.52.
    """
    asked = PlanSettings(gap=1e-6, latency_percentile=0.95)
    plan = plan_growth(by_hand(), asked, growth=(1.0, 2.5), coordinations=("full",))
    assert plan.status == "optimal"
    assert [row["units"] for row in plan.table("servers").records()] == [2, 6]
    for row in plan.table("paths").records():
        assert (row["promised_s"] is None) == (row["task"] == "large")
        assert row["promised_s"] is None or 0.04 < row["promised_s"] <= 0.05
    (unloaded,) = (
        plan_growth(by_hand(), growth=(1.0,), coordinations=("full",)).table("servers").records()
    )
    assert unloaded["units"] == 1


def test_a_front_keeps_limits_of_percentiles() -> None:
    """At 93.89/s of the small task alone the limit of 0.25 s is just kept."""
    data = by_hand().to_dict()
    data["tasks"][0] |= {"max_latency": 0.25, "latency_percentile": 0.95, "demand": 200.0}
    instance = parse_instance(data)
    plan = plan_front(instance, points=2)
    assert check_plan(plan.to_dict(), instance) == []
    assert max(r["throughput_per_s"] for r in plan.table("points").records()) < 94.0


@pytest.mark.parametrize("seed", seeds(4, 60))
def test_limits_hold_in_every_period(seed: int) -> None:
    """One half of the day asks for more of the first task, the other for more of the others."""
    instance = priced(seed + 600)
    names = [task.id for task in instance.tasks]
    rates = {task.id: float(task.demand or 0.0) for task in instance.tasks}
    night = {n: rates[n] * (1.0 if n == names[0] else 0.4) for n in names}
    day = {n: rates[n] * (0.5 if n == names[0] else 1.0) for n in names}
    rows = "".join(f"{n},{night[n]!r},{day[n]!r}\n" for n in names)
    plan = plan_combined(instance, EXACT, periods=parse_periods(f"task,night,day\n{rows}"))
    assert check_plan(plan.to_dict(), instance) == []
    (row,) = plan.table("summary").records()
    tasks = [t.model_copy(update={"demand": night[t.id]}) for t in instance.tasks]
    best = cheapest(instance.model_copy(update={"tasks": tuple(tasks)}), more=[day])
    if math.isinf(best):
        assert row["status"] == "infeasible"
    else:
        assert row["status"] == "optimal"
        assert row["cost"] == pytest.approx(best, rel=1e-6, abs=1e-9)
