"""Plans of tasks that share an input: one rate, and what their paths have in common once."""

from __future__ import annotations

from typing import Any

import pytest

from code_opt.instance import Instance, parse_instance
from tests.planning import test_failures, test_growth, test_least_cost, test_scenarios
from tests.planning.reference import planning_instance, seeds


def instance_of(seed: int, most: int) -> Instance:
    """Return a random instance; two of three ask for much, and sell small units to serve it."""
    instance = planning_instance(seed, groups=True, max_combinations=most)
    if seed % 3 == 0:
        return instance
    data = instance.to_dict()
    for task in data["tasks"]:
        task["demand"] = None if task["demand"] is None else 4.0 * task["demand"]
    for server in data["servers"]:
        size = server["flops"] * (0.1, 0.5)[seed % 2]
        server |= {"unit_flops": size, "max_units": None, "cost": max(server["cost"], 1.0)}
    return parse_instance(data)


@pytest.mark.parametrize("seed", seeds(16, 400))
def test_the_least_cost_is_that_of_brute_force(seed: int) -> None:
    test_least_cost.compare(instance_of(seed + 3000, 300), seed)


@pytest.mark.parametrize("seed", seeds(6, 150))
def test_the_growth_path_is_that_of_brute_force(seed: int) -> None:
    test_growth.compare(instance_of(seed + 3500, 60), seed)


@pytest.mark.parametrize("seed", seeds(5, 120))
def test_the_costs_of_scenarios_are_those_of_brute_force(seed: int) -> None:
    test_scenarios.compare(instance_of(seed + 3900, 25), seed)


@pytest.mark.parametrize("seed", seeds(8, 200))
def test_the_survivable_cost_is_that_of_brute_force(seed: int) -> None:
    test_failures.compare(instance_of(seed + 4300, 40), seed)


@pytest.mark.parametrize("seed", seeds(4, 100))
def test_what_rerouting_serves_is_that_of_brute_force(seed: int) -> None:
    test_failures.compare_rerouting(instance_of(seed + 4700, 30))
