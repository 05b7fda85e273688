"""Plans of tasks that share an input: one rate, and what their paths have in common once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from code_opt import without_sharing
from code_opt.core.joint_tasks import build_joint_tasks
from code_opt.core.parameters import JointPathParameters
from code_opt.errors import InputError
from code_opt.generate import generate
from code_opt.instance import Instance, load_instance, parse_instance
from code_opt.planning import (
    PlanSettings,
    parse_scenarios,
    plan_failures,
    plan_growth,
    plan_least_cost,
    plan_scenarios,
    plan_sweep,
)
from code_opt.planning.case import build_case
from code_opt.planning.heuristic import search_plan
from code_opt.planning.operation import operate, rates_of
from tests.planning import test_failures, test_growth, test_least_cost, test_scenarios
from tests.planning.reference import (
    cheapest,
    demands_of,
    planning_instance,
    seeds,
    with_units,
)


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


@pytest.mark.parametrize("seed", seeds(9, 400))
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


def test_some_of_the_instances_gain_by_sharing() -> None:
    gains, differing = 0, 0
    for seed in range(3000, 3030):
        instance = instance_of(seed, 300)
        demands = [demands_of(instance) * 1.5]
        gains += cheapest(instance, demands, None) < cheapest(
            without_sharing(instance), demands, None
        )
        differing += any(
            task.demand not in (None, demand)
            for task, demand in zip(instance.tasks, demands[0] / 1.5, strict=True)
        )
    assert gains >= 6
    assert differing >= 15


# Worked by hand: docs/shared-inputs.md

SHARED = Path(__file__).parents[2] / "data" / "shared-input.json"
UNITS = PlanSettings(demand=30.0, unit_flops=4e10, gap=1e-7)


def changed(instance: Instance, **changes: dict[str, Any]) -> Instance:
    """Return an instance with some fields of some of its tasks changed."""
    tasks = [{**t.model_dump(mode="json"), **changes.get(t.id, {})} for t in instance.tasks]
    return instance.replace(tasks=tasks)


def test_the_example_costs_what_the_page_says() -> None:
    instance = load_instance(SHARED)
    plan = plan_least_cost(instance, UNITS, max_loss=(1.0, 10.0))
    cost = {
        (r["max_loss_points"], r["coordination"]): r["cost"]
        for r in plan.table("summary").records()
        if r["method"] == "exact"
    }
    assert cost == {
        (1.0, "full"): 4.0,
        (1.0, "exits"): 6.0,
        (1.0, "none"): 6.0,
        (10.0, "full"): 3.0,
        (10.0, "exits"): 5.0,
        (10.0, "none"): 6.0,
    }
    paths = {
        (r["max_loss_points"], r["task"]): r["path"]
        for r in plan.table("paths").records()
        if (r["coordination"], r["method"]) == ("full", "exact")
    }
    assert paths[1.0, "faces"] == "large/0 > large/1"
    assert paths[1.0, "counts"] == paths[10.0, "counts"] == paths[10.0, "faces"] == "large/0"
    apart = plan_least_cost(without_sharing(instance), UNITS, coordinations=("full",))
    assert apart.table("summary").records()[0]["cost"] == 5.0


def test_native_paths_of_one_trunk_share_it_without_coordination() -> None:
    data = load_instance(SHARED).to_dict()
    data["tasks"].append({**data["tasks"][0], "id": "faces-too", "connections": []})
    plan = plan_least_cost(parse_instance(data), UNITS, coordinations=("none",))
    (row,) = (r for r in plan.table("servers").records() if r["method"] == "exact")
    assert row["load_flop_per_s"] == pytest.approx(30.0 * (8e9 + 4e9))


def test_the_least_demand_is_that_of_the_group() -> None:
    instance = load_instance(SHARED)
    for faces, counts, least in ((20.0, 35.0, 20.0), (35.0, 20.0, 20.0), (None, 25.0, 25.0)):
        asked = changed(instance, faces={"demand": faces}, counts={"demand": counts})
        plan = plan_growth(asked, UNITS, growth=(1.0, 2.0), coordinations=("full",))
        rates = [(r["period"], r["rate_per_s"]) for r in plan.table("paths").records()]
        assert rates == [(1, least), (1, least), (2, 2 * least), (2, 2 * least)]
        totals = [r["throughput_per_s"] for r in plan.table("periods").records()]
        assert totals == [2 * least, 4 * least]


def test_the_least_demand_of_a_scenario_is_that_of_the_group() -> None:
    asked = changed(load_instance(SHARED), faces={"demand": 20.0}, counts={"demand": 35.0})
    scenarios = parse_scenarios(
        "scenario,probability,task,demand,factor\n"
        "all,0.5,,,2\nfaces,0.25,faces,50,\nboth,0.25,faces,50,\nboth,,counts,,0.5\n"
    )
    assert scenarios.demands(asked).tolist() == [[40.0] * 2, [35.0] * 2, [17.5] * 2]
    # A task without a demand of its own asks for whatever its group gets, or for nothing.
    asked = changed(asked, counts={"demand": None})
    assert scenarios.demands(asked).tolist() == [[40.0] * 2, [50.0] * 2, [50.0] * 2]
    none = parse_scenarios("scenario,probability,task,factor\nx,1,counts,0\n")
    assert none.demands(asked).tolist() == [[0.0] * 2]
    plan = plan_scenarios(asked, scenarios, UNITS, served=0.8)
    test_scenarios.verify(with_units(asked, 4e10), plan)


def test_a_group_without_a_demand_is_refused() -> None:
    instance = load_instance(SHARED)
    with pytest.raises(InputError, match=r"there is none for task 'faces', 'counts'"):
        plan_least_cost(instance, PlanSettings(unit_flops=4e10))
    table = parse_scenarios("scenario,probability,task,demand\nx,1,face,1\n")
    with pytest.raises(InputError, match=r"no task 'face'; did you mean 'faces'"):
        plan_scenarios(instance, table, UNITS)


def test_a_sweep_plans_with_groups() -> None:
    plan = plan_sweep(
        load_instance(SHARED), UNITS, vary=["tasks[counts].demand=10,30"], methods=("plan",)
    )
    rows = plan.table("sweep").records()
    assert [r["status"] for r in rows] == ["optimal"] * 2
    # The other task has no demand of its own: 10 of each fit the present 120 GFLOP/s.
    assert [r["throughput_per_s"] for r in rows] == [20.0, 60.0]
    assert [r["cost"] for r in rows] == [0.0, 3.0]


def test_what_no_size_serves_is_told_with_what_is_shared() -> None:
    plan = plan_least_cost(
        load_instance(SHARED), PlanSettings(demand=30.0), max_loss=(1.0,), coordinations=("full",)
    )
    assert plan.status == "infeasible"
    assert plan.message is not None
    # f1 with c3: 8.5 GFLOP for one inference of both.
    assert "255.0 GFLOP/s are needed, present 120.0 GFLOP/s" in plan.message


# Failures

CAMERA: dict[str, Any] = {
    "schema": "code-opt/instance/1",
    "name": "camera",
    "servers": [{"id": "a", "flops": 100.0}, {"id": "b", "flops": 100.0}],
    "dnns": [
        {"id": "A", "server": "a", "blocks": [{"id": "A0", "flops": 6.0}]},
        {"id": "B", "server": "b", "blocks": [{"id": "B0", "flops": 5.0}]},
    ],
    "tasks": [
        {
            "id": "ta",
            "dnn": "A",
            "accuracy": 0.9,
            "demand": 10.0,
            "input_group": "camera",
            "connections": [
                {"source": "input", "target": "B0", "drop": 0.1, "share": "identity"},
                {"source": "B0", "target": "output", "drop": 0.0, "flops": 2.0},
            ],
        },
        {"id": "tb", "dnn": "B", "accuracy": 0.9, "demand": 10.0, "input_group": "camera"},
    ],
}


def test_backups_share_with_paths_that_stay() -> None:
    """Without a, ta goes to b, where B0 runs for tb already: 10 (5 + 2) of 100 FLOP/s."""
    instance = parse_instance(CAMERA)
    plan = plan_failures(instance, keep=1.0, max_loss=0.0)
    normal, survivable = plan.table("summary").records()
    assert (normal["cost"], survivable["cost"]) == (0.0, 0.0)
    row = ("a", "ta", "B0", 10.0, pytest.approx(0.8), "predicted")
    assert plan.table("backups").rows == (row,)
    assert plan.table("lost").rows == (("b", "tb"),)
    # Paid twice B0 would be too much: 10 (5 + 5 + 2) = 120.
    apart = plan_failures(without_sharing(instance), keep=1.0, max_loss=0.0)
    assert apart.table("summary").records()[1]["status"] == "infeasible"
    test_failures.verify(instance, plan, {"ta": 10.0, "tb": 10.0})


def test_a_task_that_is_lost_is_out_of_its_group() -> None:
    plan = plan_failures(parse_instance(CAMERA), keep=1.0, max_loss=0.0)
    served = {
        r["failed_server"]: (r["served_fixed_per_s"], r["served_rerouted_per_s"])
        for r in plan.table("failures").records()
        if r["plan"] == "survivable"
    }
    assert served["a"] == (10.0, pytest.approx(20.0))
    assert served["b"] == (10.0, pytest.approx(10.0))
    assert all(r["floors_kept"] for r in plan.table("failures").records())


# Parts


def test_rates_of_a_group_are_one_and_largest_in_sum() -> None:
    instance = load_instance(SHARED)
    case = build_case(instance, UNITS)
    paths = case.first[:-1] + [
        [case.blocks(int(p)) for p in range(case.first[t], case.first[t + 1])].index(blocks)
        for t, blocks in enumerate((("large/0", "large/1"), ("large/0",)))
    ]
    demand, none = np.full(2, 30.0), np.zeros(2)
    rates = rates_of(operate(case, np.zeros(1), paths, demand, none))
    assert rates == pytest.approx([120.0 / 8.5] * 2)
    rates = rates_of(operate(case, np.array([4.0]), paths, demand, none))
    assert rates.tolist() == [30.0] * 2
    assert case.load(paths, demand) == pytest.approx([30.0 * 8.5 / 120.0])
    assert case.load(np.array([paths[0], -1]), demand) == pytest.approx([30.0 * 8.0 / 120.0])


def test_joint_paths_cost_what_their_paths_cost() -> None:
    for seed in range(3000, 3012):
        case = build_case(instance_of(seed, 300), PlanSettings())
        if not case.has_all_paths:
            continue
        tasks = build_joint_tasks(case.pool)
        assert all(task.is_complete for task in tasks)
        joint = case.joint(tasks)
        rng = np.random.default_rng(seed)
        for _ in range(5):
            chosen = rng.integers(joint.first[:-1], joint.first[1:])
            paths = joint.table.paths_of(chosen) + case.first[:-1]
            first = [task.group.tasks[0] for task in tasks]
            demand = case.demand * 1.5
            assert joint.load(chosen, demand[first]) == pytest.approx(case.load(paths, demand))
            largest = case.largest_load(demand) * (1.0 + 1e-12)
            assert (joint.largest_load(demand[first]) <= largest).all()
            assert joint.average_accuracy(chosen) == pytest.approx(case.average_accuracy(paths))


def test_the_heuristic_is_near_the_proven_cost() -> None:
    instances = (generate(4, seed=seed, limited_demand=1.0, groups=(2, 2)) for seed in range(2))
    test_least_cost.check_the_heuristic(instances, unit_flops=5e10, growth=3.0)


def test_a_part_of_the_paths_is_searched_as_well() -> None:
    """More combinations than are listed, and not the whole pool."""
    instance = generate(4, seed=1, limited_demand=1.0, groups=(3, 4))
    case = build_case(instance, PlanSettings(unit_flops=1e11))
    few = JointPathParameters(few=1_000)
    assert not all(task.is_complete for task in build_joint_tasks(case.pool, few))
    allowed = np.ones(len(case.table), dtype=bool)
    allowed[case.first[1] - 1] = False
    part = case.restricted(allowed)
    found = search_plan(part, part.demand[None, :])
    assert found is not None
    assert math.isfinite(found.cost)
    assert found.cost == found.units[0] @ part.offers.price
    load = part.load(found.paths[0], part.demand)
    assert (part.offers.units_for(load) <= found.units[0]).all()
