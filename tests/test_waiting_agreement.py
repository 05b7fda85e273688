"""Under limits of percentiles: the exact method against brute force over paths and scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from code_opt import check, solve
from code_opt.instance import Instance, parse_instance
from tests.strategies import random_data
from tests.waiting_reference import best_on_grid

GAP = 1e-3


def limited_instance(seed: int) -> Instance:
    """Return a tiny instance with work everywhere and limits of percentiles on some tasks."""
    rng = np.random.default_rng([seed, 7])
    data = random_data(
        seed,
        services=2,
        links=["none", "some"][seed % 2],
        limits=False,
        max_combinations=[30, 60][seed % 2],
    )
    data["reward"] = {}
    speed = {server["id"]: server["flops"] for server in data["servers"]}
    home = {dnn["id"]: dnn for dnn in data["dnns"]}
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["flops"] = block["flops"] or 1e6
    for task in data["tasks"]:
        dnn = home[task["dnn"]]
        native = sum(b["flops"] for b in dnn["blocks"]) / speed[dnn["server"]]
        task["floor"] = 0.0
        if task["demand"] == 0.0:
            task["demand"] = None
        if rng.random() < 0.7:
            task["max_latency"] = native * float(rng.uniform(1.2, 8.0))
            task["latency_percentile"] = float(rng.choice([0.5, 0.9, 0.95, 0.99]))
    if rng.random() < 0.3:
        data["tasks"][0]["floor"] = 0.3 / native
        if data["tasks"][0]["demand"] is not None:
            data["tasks"][0]["demand"] = max(data["tasks"][0]["demand"], 0.3 / native)
    return parse_instance(data)


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
        assert math.log(result.bound) >= expected[0] - 1e-6, seed
        if result.status == "optimal":
            assert math.log(result.reward) >= expected[0] - 1.01 * GAP, seed
    lns = solve(instance, "lns")
    assert check(lns, instance) == []
    if lns.has_solution and result.bound is not None:
        assert lns.reward <= result.bound * (1.0 + 1e-6), seed
    return result.status


@pytest.mark.parametrize("block", range(8))
def test_the_bound_holds_for_paths_and_scales_of_brute_force(block: int) -> None:
    statuses = [agree(5 * block + k) for k in range(5)]
    assert "optimal" in statuses


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(40))
def test_the_bound_holds_on_hundreds_of_instances(block: int) -> None:
    statuses = [agree(1_000 + 10 * block + k) for k in range(10)]
    assert "optimal" in statuses
