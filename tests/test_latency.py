"""The objective ``latency``: least average time with every task served at its demand.

All formulations against brute force, on random instances with everything that an instance can
hold; methods and messages on small ones.
"""

from __future__ import annotations

import json
import re
from typing import Any
from unittest import mock

import numpy as np
import pytest

from code_opt import InputError, evaluate_paths, load_instance, plan_marginal, solve
from code_opt.checker import check
from code_opt.exact import method as exact
from code_opt.heuristics.lns import search
from code_opt.instance import parse_instance
from code_opt.instance.model import Instance
from tests.documents import read
from tests.reference import solve_reference
from tests.strategies import few_of, random_instance
from tests.test_agreement import no_start, poor_start
from tests.test_waiting_agreement import limited_instance
from tests.waiting_reference import least_time

AGREEMENT = 1e-6
CASES_PER_TEST = 10


def with_demands(instance: Instance, rng: np.random.Generator) -> Instance:
    """Return an instance with a demand for every task: mostly such that all of it can be served."""
    most = solve(instance, "lns", objective="throughput", seed=0)
    rates = {row.task: row.rate for row in most.tasks}
    share = float(rng.uniform(0.2, 1.2))
    tasks = []
    for task in instance.tasks:
        name = task.input_group
        together = [t for t in instance.tasks if t is task or (name and t.input_group == name)]
        least = max(0.0 if t.floor == "standalone" else float(t.floor) for t in together)
        demand = max(least, share * rates.get(task.id, 1.0) * float(rng.uniform(0.6, 1.0)))
        tasks.append(task.model_copy(update={"demand": demand}))
    return instance.model_copy(update={"tasks": tuple(tasks)})


def agree(seed: int, **options: Any) -> str:
    """Compare all formulations with brute force on one random instance; return its status."""
    rng = np.random.default_rng([seed, 2])
    instance = with_demands(random_instance(seed, **options), rng)
    floor = float(rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else None
    share = float(rng.uniform(0.3, 1.0)) if options.get("devices") and rng.random() < 0.4 else None
    asked: dict[str, Any] = {"objective": "latency", "min_accuracy": floor}
    expected = solve_reference(instance.with_max_utilization(share), **asked)
    asked["max_utilization"] = share
    for formulation in ("path", "flow", "colgen"):
        start = [search, no_start, poor_start][int(rng.integers(3))]
        with mock.patch.object(exact, "search", start):
            result = solve(instance, formulation=formulation, gap=1e-7, **asked)
        case = (seed, formulation, start.__name__)
        assert check(result, instance) == []
        if expected is None:
            assert result.status == "infeasible", case
            assert result.message
            continue
        assert result.status == "optimal", case
        assert result.latency == pytest.approx(expected.value, rel=AGREEMENT), case
        assert result.bound <= expected.value * (1 + AGREEMENT), case
        rates = {row.task: row.rate for row in result.tasks}
        assert rates == pytest.approx(expected.rates, rel=AGREEMENT), case
    for method in ("lns", "code", "greedy"):
        found = solve(instance, method, **asked)
        assert check(found, instance) == []
        if found.has_solution:
            assert expected is not None, seed
            assert found.latency >= expected.value * (1 - AGREEMENT), seed
            assert found.bound is None
    return "infeasible" if expected is None else "feasible"


@pytest.mark.parametrize("block", few_of(10, 3))
def test_hundreds_of_random_instances(block: int) -> None:
    statuses = {agree(700_000 + block * CASES_PER_TEST + i) for i in range(CASES_PER_TEST)}
    assert "feasible" in statuses


@pytest.mark.parametrize("block", few_of(12, 6))
def test_hundreds_of_random_instances_with_all_of_it(block: int) -> None:
    """Groups, sent inputs, alternatives, devices, batches and measured times, in turn."""
    seeds = range(710_000 + block * CASES_PER_TEST, 710_000 + (block + 1) * CASES_PER_TEST)
    options = {
        "groups": block % 2 == 0,
        "inputs": block % 3 == 0,
        "alternatives": block % 3 != 1,
        "devices": block % 4 < 2,
        "links": "all" if block % 5 else "some",
    }
    statuses = {agree(seed, max_combinations=1500, **options) for seed in seeds}
    assert "feasible" in statuses


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(40))
def test_thousands_of_random_instances(block: int) -> None:
    for i in range(50):
        agree(
            720_000 + 50 * block + i,
            groups=i % 2 == 0,
            inputs=i % 3 == 0,
            alternatives=i % 3 != 1,
            devices=i % 4 < 2,
            max_combinations=1500,
        )


# ---- promised times ------------------------------------------------------------------------


def promised(seed: int) -> Instance:
    """Return a tiny instance with demands, on some tasks limits of percentiles."""
    rng = np.random.default_rng([seed, 3])
    instance = limited_instance(seed)
    if rng.random() < 0.5:  # short ways wait at several stations
        instance = instance.with_(
            {"tasks[*].max_latency": None, "tasks[*].latency_percentile": None}
        )
    most = solve(instance, "lns", objective="throughput")
    rates = {row.task: row.rate for row in most.tasks}
    share = float(rng.uniform(0.2, 1.0))
    tasks = []
    for task in instance.tasks:
        least = max(float(t.floor) for t in instance.tasks)
        demand = max(least, share * rates.get(task.id, 1.0))
        changes: dict[str, Any] = {"demand": demand}
        if task.max_latency is None and rng.random() < 0.6:
            changes |= {"max_latency": 100.0 / max(demand, 1e-3), "latency_percentile": 0.95}
        tasks.append(task.model_copy(update=changes))
    return instance.model_copy(update={"tasks": tuple(tasks)})


def agree_on_promises(seed: int) -> str:
    """Compare the exact method with brute force under percentiles; return the status."""
    instance = promised(seed)
    expected = least_time(instance)
    result = solve(instance, objective="latency", gap=1e-4, time_limit=60.0)
    assert check(result, instance) == []
    if expected is None:
        assert not result.has_solution, seed
        return result.status
    assert result.status == "optimal", (seed, result.message)
    assert result.latency is not None
    assert result.bound is not None
    assert result.bound <= expected * (1.0 + AGREEMENT), seed
    assert expected * (1.0 - AGREEMENT) <= result.latency <= expected * (1.0 + 1.01e-4), seed
    for method in ("lns", "code", "local"):
        found = solve(instance, method, objective="latency")
        assert check(found, instance) == []
        if found.has_solution:
            assert found.latency >= expected * (1.0 - AGREEMENT), (seed, method)
    return result.status


@pytest.mark.parametrize("block", few_of(10, 3))
def test_promised_times_are_least_of_all_paths(block: int) -> None:
    statuses = [agree_on_promises(5 * block + k) for k in range(5)]
    assert "optimal" in statuses


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(40))
def test_promised_times_of_hundreds_of_instances(block: int) -> None:
    statuses = [agree_on_promises(1_000 + 10 * block + k) for k in range(10)]
    assert "optimal" in statuses


# ---- refusals and methods ------------------------------------------------------------------


def digits(demand: float = 50.0) -> Instance:
    return load_instance("data/digits/instance.json").with_({"tasks[*].demand": demand})


def test_every_task_needs_a_demand() -> None:
    instance = digits().with_({"tasks[parity].demand": None})
    with pytest.raises(InputError) as refused:
        solve(instance, objective="latency")
    assert str(refused.value) == (
        "task 'parity' has no demand: the objective latency serves every task at its demand; "
        "give it one"
    )


def test_a_promised_task_needs_a_limit() -> None:
    instance = digits().with_({"tasks[parity].latency_percentile": 0.95})
    with pytest.raises(InputError, match="task 'parity' has a latency_percentile and no max_lat"):
        solve(instance, objective="latency")


def test_a_percentile_that_is_asked_for_counts() -> None:
    instance = digits().with_({"tasks[*].max_latency": 1.0})
    plain = solve(instance, objective="latency")
    result = solve(instance, objective="latency", latency_percentile=0.9)
    assert result.status == "optimal"
    promised = [row.latency_promised for row in result.tasks]
    assert result.latency == pytest.approx(sum(p for p in promised if p is not None) / 2)
    assert result.latency > plain.latency
    with pytest.raises(InputError, match="formulation 'flow': cannot limit percentiles"):
        solve(instance, objective="latency", latency_percentile=0.9, formulation="flow")


def test_a_floor_on_the_throughput_is_refused() -> None:
    with pytest.raises(InputError, match="min_throughput: not beside the objective latency"):
        solve(digits(), objective="latency", min_throughput=1.0)


def test_capacity_has_no_marginal_value_for_a_latency() -> None:
    with pytest.raises(InputError, match="objective 'latency': capacity is worth something for"):
        plan_marginal(digits(), objective="latency")  # type: ignore[arg-type]


def test_an_unknown_objective_names_those_there_are() -> None:
    with pytest.raises(InputError) as refused:
        solve(digits(), objective="speed")  # type: ignore[arg-type]
    assert str(refused.value) == ("objective 'speed': use reward, throughput, accuracy, latency")


def test_demands_that_do_not_fit_are_explained() -> None:
    result = solve(digits(1e6), objective="latency")
    assert result.status == "infeasible"
    assert result.message is not None
    assert "demand of task 'digit' from 1e+06 to " in result.message


def test_given_paths_are_valued_at_the_demands() -> None:
    instance = digits()
    best = solve(instance, objective="latency")
    paths = {row.task: row.path for row in best.tasks}
    again = evaluate_paths(instance, paths, objective="latency")
    assert again.value == pytest.approx(best.value, rel=1e-9)
    assert [row.rate for row in again.tasks] == [50.0, 50.0]


def test_a_group_is_served_at_its_least_demand() -> None:
    instance = random_instance(710_001, groups=True)
    tasks = [
        task.model_copy(update={"input_group": "all", "demand": 1e-3 * (i + 1), "floor": 0.0})
        for i, task in enumerate(instance.tasks)
    ]
    result = solve(instance.model_copy(update={"tasks": tuple(tasks)}), objective="latency")
    assert result.has_solution
    assert {row.rate for row in result.tasks} == {1e-3}


def test_the_example_of_the_page_is_as_worked_by_hand() -> None:
    page = read("docs/latency.md")
    (text,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    instance = parse_instance(json.loads(text))
    busy = instance.with_({"tasks[*].demand": 60.0})
    for formulation in ("path", "flow", "colgen"):
        asked: dict[str, Any] = {"objective": "latency", "formulation": formulation}
        least = solve(instance, **asked)
        assert (least.status, least.own_work) == ("optimal", 1.0)
        assert least.latency == pytest.approx(0.010)
        assert least.servers[0].utilization == pytest.approx(0.4)
        floor = solve(instance, min_accuracy=0.9, **asked)
        assert (floor.latency, floor.own_work) == pytest.approx((0.013, 0.2))
        assert floor.accuracy == pytest.approx(0.905)
        assert solve(busy, **asked).latency == pytest.approx(0.013)
