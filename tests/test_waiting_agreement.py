"""Under limits of percentiles: the exact method against brute force over paths and scales."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from code_opt import check, evaluate_paths, solve
from code_opt.checker import InstanceIndex
from code_opt.instance import Instance, parse_instance
from code_opt.paths import Topology
from code_opt.paths.standalone import least_rates
from tests.strategies import few_of, random_data
from tests.waiting_reference import best_on_grid

GAP = 1e-3


def limited_instance(seed: int) -> Instance:
    """Return a tiny instance with work everywhere and limits of percentiles on some tasks.

    Two of three have servers of several devices, batches and headroom; some have input groups,
    alternatives and inputs that are sent.
    """
    rng = np.random.default_rng([seed, 7])
    data = random_data(
        seed,
        services=2,
        links=["none", "some"][seed % 2],
        limits=False,
        groups=seed % 5 == 4,
        inputs=seed % 4 == 3,
        alternatives=seed % 3 == 2,
        max_combinations=[30, 60][seed % 2],
    )
    data["reward"] = {}
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["flops"] = block["flops"] or 1e6
    for server in data["servers"] if seed % 3 else ():
        draw_service(rng, server, data)
    speed = {server["id"]: server["flops"] / server.get("devices", 1) for server in data["servers"]}
    batch = {server["id"]: server.get("batch", 1) for server in data["servers"]}
    home = {dnn["id"]: dnn for dnn in data["dnns"]}
    for task in data["tasks"]:
        dnn = home[task["dnn"]]
        times = [
            b["flops"] / speed[dnn["server"]]
            if b.get("seconds") is None
            else b["seconds"][str(batch[dnn["server"]])]
            for b in dnn["blocks"]
        ]
        native = sum(times)
        task["floor"] = 0.0
        if task["demand"] == 0.0:
            task["demand"] = None
        if rng.random() < 0.7:
            task["max_latency"] = native * float(rng.uniform(1.2, 8.0))
            task["latency_percentile"] = float(rng.choice([0.5, 0.9, 0.95, 0.99]))
    if rng.random() < 0.3:
        data["tasks"][0]["floor"] = 0.3 / native
        for task in data["tasks"]:
            if task["demand"] is not None:
                task["demand"] = max(task["demand"], 0.3 / native)
    return parse_instance(data)


def draw_service(rng: np.random.Generator, server: dict[str, Any], data: dict[str, Any]) -> None:
    """Let a server have devices, headroom, or batches with measured times of its blocks."""
    server["devices"] = int(rng.choice([1, 2, 3]))
    server["flops"] *= server["devices"]
    if rng.random() < 0.5:
        server["max_utilization"] = float(rng.uniform(0.5, 1.0))
    if rng.random() < 0.6:
        return
    server["batch"] = int(rng.choice([2, 4]))
    longest = 0.0
    for dnn in data["dnns"]:
        if dnn["server"] != server["id"]:
            continue
        for block in dnn["blocks"]:
            time = block["flops"] * server["devices"] / server["flops"]
            block["seconds"] = {"1": time, str(server["batch"]): time * server["batch"] ** 0.5}
            longest += time
    server["max_batch_delay"] = float(rng.choice([0.0, 0.5, 2.0])) * longest


def agree(seed: int) -> str:
    """Compare on one random instance; return the status."""
    instance = limited_instance(seed)
    expected = best_on_grid(instance)
    result = solve(instance, gap=GAP, time_limit=120.0)
    assert check(result, instance) == []
    if result.status == "infeasible":
        assert expected is None, seed
        assert result.message
        return result.status
    if expected is not None:
        # Nothing that keeps all promises is better than the bound.
        assert result.bound is not None, (seed, result.message)
        assert result.bound >= math.exp(expected[0]) * (1.0 - 1e-6), seed
        if result.status == "optimal":
            assert result.reward >= math.exp(expected[0]) * (1.0 - 1.01 * GAP), seed
    lns = solve(instance, "lns")
    assert check(lns, instance) == []
    if lns.has_solution and result.bound is not None:
        assert lns.reward <= result.bound * (1.0 + 1e-6), seed
    return result.status


@pytest.mark.parametrize("block", few_of(10, 3))
def test_native_paths_keep_all_limits_at_rates_without_coordination(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        instance = limited_instance(seed)
        tasks = [t.model_copy(update={"floor": "standalone"}) for t in instance.tasks]
        instance = instance.model_copy(update={"tasks": tuple(tasks)})
        found, index = least_rates(Topology(instance)), InstanceIndex(instance)
        assert found == pytest.approx([index.standalone(task) for task in tasks], rel=1e-9)
        natives = {task.id: index.native_blocks(task) for task in tasks}
        are_accurate = all(index.accuracy(t, natives[t.id], 0.0).admissible for t in tasks)
        if are_accurate and min(found) > 1e-6:
            assert evaluate_paths(instance, natives).has_solution, seed


QUICK = (0, 7, 9, 13)
"""Blocks whose gaps close soon; batches that are seldom full take long."""


@pytest.mark.parametrize(
    "block",
    [b if b in QUICK else pytest.param(b, marks=pytest.mark.long) for b in range(17)],
)
def test_the_bound_holds_for_paths_and_scales_of_brute_force(block: int) -> None:
    statuses = [agree(5 * block + k) for k in range(5)]
    assert "optimal" in statuses


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(200))
def test_the_bound_holds_on_thousands_of_instances(block: int) -> None:
    statuses = [agree(1_000 + 10 * block + k) for k in range(10)]
    assert "optimal" in statuses
