"""Plans under limits of percentiles: against brute force over paths and units."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from code_opt.checker import InstanceIndex
from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.plan_checker import check_plan
from code_opt.planning import PlanSettings, plan_least_cost
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
            "max_units": float(rng.integers(1, 9)) if rng.random() < 0.3 else None,
        }
    for link in data["links"]:
        if link["bandwidth"] is not None:
            link |= {"unit_bandwidth": 0.5 * link["bandwidth"], "cost": 0.5}
    homes = {dnn["id"]: dnn for dnn in data["dnns"]}
    servers = {server["id"]: server for server in data["servers"]}
    for task in data["tasks"]:
        dnn = homes[task["dnn"]]
        server = servers[dnn["server"]]
        native = sum(b["flops"] for b in dnn["blocks"]) * server["devices"] / server["flops"]
        task |= {"floor": 0.0, "demand": float(rng.uniform(0.2, 1.5)) / native}
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
            0 if size is None else 10**6 if r.max_units is None else int(r.max_units)
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

    def holds(self, paths: dict[str, Any], rates: dict[str, float], units: Sequence[int]) -> bool:
        """Tell whether nothing is overloaded and all promises are kept with units."""
        index = InstanceIndex(self.grown(units), self.instance)
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
                Walk(name, index.group(task), rates[name], seconds, [(k, s.stays) for k, s in steps])
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
            if task.latency_percentile is not None and task.max_latency is not None
        )

    def least_units(
        self, paths: dict[str, Any], rates: dict[str, float], below: float
    ) -> tuple[float, Units] | None:
        """Return the least cost of units for paths, below one, by looking at all in its order."""
        most = [min(count, 60) for count in self.sold]
        if not self.holds(paths, rates, most):
            return None
        start: Units = (0,) * len(most)
        queue, seen = [(0.0, start)], {start}
        while queue:
            cost, units = heapq.heappop(queue)
            if cost >= below:
                return None
            if self.holds(paths, rates, units):
                return cost, units
            for i, price in enumerate(self.price):
                if units[i] < most[i]:
                    more = (*units[:i], units[i] + 1, *units[i + 1 :])
                    if more not in seen:
                        seen.add(more)
                        heapq.heappush(queue, (cost + price, more))
        return None


def cheapest(instance: Instance) -> float:
    """Return the least cost of a plan, inf where there is none."""
    edge, index = Edge(instance), InstanceIndex(instance)
    choices = [list(all_paths(index, task)) for task in instance.tasks]
    rates = {task.id: float(task.demand or 0.0) for task in instance.tasks}
    best = math.inf
    for some in itertools.product(*choices):
        paths = dict(zip(rates, some, strict=True))
        found = edge.least_units(paths, rates, best)
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
