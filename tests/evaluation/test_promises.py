"""Promises against the simulated clock: the lower confidence limit is never above them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from code_opt import evaluate_paths, solve
from code_opt.evaluation.promises import PromiseKept, percentile_interval, simulate_promises
from code_opt.instance import Instance, parse_instance
from code_opt.result import Result
from tests.strategies import few_of, random_data
from tests.test_promises import two_tasks


def loaded_network(seed: int, devices: bool = False) -> tuple[Instance, Result] | None:
    """Return a random network at 30 to 95 % of what it can do, and an assignment with promises.

    Args:
        seed: of everything random.
        devices: whether servers have several devices and run batches.
    """
    rng = np.random.default_rng(seed)
    data = random_data(
        seed, groups=seed % 3 == 0, limits=False, devices=devices, alternatives=devices
    )
    data["reward"] = {}
    servers = {server["id"]: server for server in data["servers"]}
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            if servers[dnn["server"]]["flops"] is not None:
                block["flops"] = block["flops"] or 1e6
    for server in servers.values() if devices else ():
        if server["devices"] == 1.5:
            server["devices"] = 2
        times = [
            block["seconds"][str(server["batch"])]
            for dnn in data["dnns"]
            for block in dnn["blocks"]
            if dnn["server"] == server["id"] and isinstance(block["seconds"], dict)
        ]
        server["max_batch_delay"] = float(rng.choice([0.0, 0.3, 1.0, 3.0])) * sum(times)
    for task in data["tasks"]:
        task |= {"floor": 0.0, "demand": None}
        task["latency_percentile"] = float(rng.choice([0.5, 0.9, 0.95, 0.99]))
    full = solve(parse_instance(data), "random", seed=seed)
    if not full.has_solution:
        return None
    load = float(rng.uniform(0.3, 0.95))
    rates = {row.task: row.rate for row in full.tasks}
    for task in data["tasks"]:
        task["demand"] = max(rates[task["id"]] * load * float(rng.uniform(0.5, 1.0)), 0.01)
    instance = parse_instance(data)
    result = evaluate_paths(instance, {row.task: row.path for row in full.tasks})
    return (instance, result) if result.has_solution else None


def verdicts(seeds: range, arrivals: int, devices: bool = False) -> list[PromiseKept]:
    """Return all promises of some networks with what was simulated."""
    found = []
    for seed in seeds:
        network = loaded_network(seed, devices)
        if network is not None:
            found += simulate_promises(*network, arrivals=arrivals, seed=seed)
    return found


@pytest.mark.parametrize("devices", [False, True])
@pytest.mark.parametrize("block", few_of(4, 1))
def test_no_promise_of_random_networks_is_broken(block: int, devices: bool) -> None:
    found = verdicts(range(6 * block, 6 * block + 6), 40_000, devices)
    counts = Counter(one.verdict for one in found)
    assert counts["broken"] == 0, [one for one in found if one.verdict == "broken"]
    assert counts["kept"] > 0


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("devices", [False, True])
@pytest.mark.parametrize("block", range(30))
def test_no_promise_of_hundreds_of_networks_is_broken(block: int, devices: bool) -> None:
    found = verdicts(range(1_000 + 10 * block, 1_010 + 10 * block), 300_000, devices)
    assert [one for one in found if one.verdict == "broken"] == []
    assert {one.basis for one in found} <= {"theorem", "model"}


def test_the_promise_of_the_example_is_kept_and_close() -> None:
    instance = two_tasks()
    (kept,) = simulate_promises(instance, solve(instance), arrivals=400_000)
    assert kept.basis == "theorem"
    assert kept.verdict != "broken"
    assert 0.7 * kept.promised <= kept.simulated.value <= kept.promised


def test_a_promise_that_is_too_good_is_broken() -> None:
    instance = two_tasks()
    result = solve(instance)
    rows = [result.tasks[0].model_copy(update={"latency_promised": 0.02}), result.tasks[1]]
    false = result.model_copy(update={"tasks": tuple(rows)})
    (one,) = simulate_promises(instance, false, arrivals=400_000)
    assert one.verdict == "broken"


def test_short_and_correlated_runs_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    independent = percentile_interval(rng.exponential(1.0, 40_000), 0.95)
    assert independent.is_long_enough
    assert independent.low < np.log(20.0) < independent.high
    assert not percentile_interval(rng.exponential(1.0, 100), 0.95).is_long_enough
    assert not percentile_interval(rng.exponential(1.0, 10), 0.95).is_long_enough
    drifting = rng.exponential(1.0, 40_000) * np.linspace(1.0, 3.0, 40_000)
    assert not percentile_interval(drifting, 0.95).is_long_enough
