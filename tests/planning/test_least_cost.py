"""Least cost: against brute force, and every plan recomputed from the instance."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from code_opt import evaluate_paths
from code_opt.errors import InputError
from code_opt.generate import generate
from code_opt.instance import Instance, parse_instance
from code_opt.plan_checker import check_plan
from code_opt.planning import (
    Plan,
    PlanSettings,
    parse_scenarios,
    plan_least_cost,
    plan_scenarios,
)
from tests.planning.reference import (
    average,
    cheapest,
    demands_of,
    fits,
    loads,
    native_average,
    planning_instance,
    seeds,
)

EXACT = PlanSettings(gap=1e-7, time_limit=None)


def own_paths(instance: Instance, exits: bool):
    """Return whether a path needs no coordination (or is an early exit of the own DNN)."""
    server = {dnn.id: dnn.server for dnn in instance.dnns}
    home = {block.id: dnn.server for dnn in instance.dnns for block in dnn.blocks}
    trunk = {dnn.id: tuple(block.id for block in dnn.blocks) for dnn in instance.dnns}

    def allowed(task, path) -> bool:
        native = trunk[task.dnn]
        if path.source == "given":
            return home[path.blocks[0]] == server[task.dnn]
        return path.blocks == native or (exits and path.blocks == native[: len(path.blocks)])

    return allowed


def verify(instance: Instance, plan: Plan) -> None:
    """Recompute every plan of a least-cost file: loads, capacities, demands, accuracy, cost."""
    demand = {
        task.id: asked
        for task, asked in zip(instance.tasks, demands_of(instance).tolist(), strict=True)
    }
    price = {(s.id,): s.cost for s in instance.servers}
    price |= {(link.source, link.target): link.cost for link in instance.links}
    for row in plan.table("summary").records():
        if row["cost"] is None:
            continue

        def mine(r, row=row) -> bool:
            keys = ("growth", "max_loss_points", "coordination", "method")
            return all(r[k] == row[k] for k in keys)

        paths = {r["task"]: r["path"] for r in plan.table("paths").records() if mine(r)}
        rates = {r["task"]: r["rate_per_s"] for r in plan.table("paths").records() if mine(r)}
        servers = [r for r in plan.table("servers").records() if mine(r)]
        links = [r for r in plan.table("links").records() if mine(r)]
        units = {(r["server"],): r["units"] for r in servers}
        units |= {(r["source"], r["target"]): r["units"] for r in links}
        for task, rate in rates.items():
            assert rate == pytest.approx(row["growth"] * demand[task], rel=1e-9)
        load = loads(instance, paths, rates)
        assert fits(instance, units, load)
        for r in servers:
            told = r["load_devices"] if r["load_flop_per_s"] is None else r["load_flop_per_s"]
            assert told == pytest.approx(load[(r["server"],)], rel=1e-6, abs=1e-9)
            assert r["utilization"] <= 1 + 1e-6
        assert row["cost"] == pytest.approx(sum(n * price[k] for k, n in units.items()))
        assert row["units"] == sum(units.values())
        accuracy = average(instance, paths)
        assert row["accuracy"] == pytest.approx(accuracy, abs=1e-9)
        if row["max_loss_points"] is not None:
            assert row["accuracy_loss_points"] <= row["max_loss_points"] + 1e-4
        for r in (s for s in servers + links if s["units"]):
            (record,) = (
                x
                for x in (*instance.servers, *instance.links)
                if (getattr(x, "id", None) or (x.source, x.target))
                in (r.get("server"), (r.get("source"), r.get("target")))
            )
            assert record.max_units is None or r["units"] <= record.max_units


@pytest.mark.parametrize("seed", seeds(12, 400))
def test_the_exact_cost_is_that_of_brute_force(seed: int) -> None:
    compare(planning_instance(seed), seed)


@pytest.mark.parametrize("seed", seeds(12, 400))
def test_the_exact_cost_is_that_of_brute_force_in_device_time(seed: int) -> None:
    """Units of devices and of FLOP/s, headroom, batches and measured times."""
    compare(planning_instance(900 + seed, devices=True, groups=seed % 3 == 0), seed)


@pytest.mark.parametrize("seed", seeds(12, 400))
def test_the_exact_cost_is_that_of_brute_force_where_servers_have_no_device_yet(seed: int) -> None:
    compare(planning_instance(4000 + seed, devices=True, empty=True, groups=seed % 4 == 0), seed)


def nothing_yet(**server: float) -> Instance:
    """A task whose network is measured, on a server that is still to be bought."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "new", "devices": 0, "cost": 3.0, **server}],
            "dnns": [{"id": "d", "server": "new", "blocks": [BLOCK]}],
            "tasks": [
                {"id": "t", "dnn": "d", "accuracy": 0.9, "demand": 9.0, "floor": "standalone"}
            ],
        }
    )


BLOCK = {"id": "d/0", "flops": 0.0, "seconds": 0.25}


def test_a_server_without_devices_gets_its_first_ones() -> None:
    """9 inferences of 0.25 s a second keep 2.25 devices busy: two units of two."""
    instance = nothing_yet(unit_devices=2.0)
    plan = plan_least_cost(instance, EXACT, growth=(1.0,))
    assert check_plan(plan.to_dict(), instance) == []
    for row in plan.table("servers").records():
        assert (row["units"], row["cost"]) == (2, 6.0)
        assert (row["present_devices"], row["capacity_devices"]) == (0.0, 4.0)
        assert row["present_flop_per_s"] is row["capacity_flop_per_s"] is None
        assert row["load_devices"] == pytest.approx(2.25)
        assert row["utilization"] == pytest.approx(2.25 / 4.0)
    assert [row["latency_s"] for row in plan.table("paths").records()] == [0.25] * 6


def test_a_path_without_any_demand_needs_a_device_all_the_same() -> None:
    instance = nothing_yet(unit_devices=2.0)
    plan = plan_least_cost(instance, EXACT, growth=(0.0,))
    assert check_plan(plan.to_dict(), instance) == []
    assert [row["units"] for row in plan.table("servers").records()] == [1] * 6
    scenarios = parse_scenarios("scenario,probability,demand\nidle,0.9,0\nbusy,0.1,9\n")
    plan = plan_scenarios(instance, scenarios, EXACT, served=0.0)
    assert check_plan(plan.to_dict(), instance) == []
    units = {row["variant"]: row["units"] for row in plan.table("servers").records()}
    assert units == {"mean": 1, "expected": 1, "worst": 1, "every": 2}


def test_what_no_units_are_sold_for_is_told() -> None:
    plan = plan_least_cost(nothing_yet(unit_devices=2.0, max_units=1.0), EXACT)
    message = plan.table("summary").records()[0]["message"]
    assert (
        "server new: 2.250 devices are needed, present 0.000 devices, 2.000 devices with" in message
    )
    with pytest.raises(InputError, match=r"'new' has 0 devices and units of 0.5: .* at least 1"):
        plan_least_cost(nothing_yet(unit_devices=0.5), EXACT)


def test_units_stand_beside_what_is_there() -> None:
    """A limit that only a faster server could keep is kept by no number of units."""
    instance = planning_instance(0, limits=False)
    servers = [s.model_dump() | {"unit_flops": 10 * s.flops} for s in instance.servers]
    tasks = [t.model_dump() | {"max_latency": None} for t in instance.tasks]
    instance = instance.replace(servers=servers, tasks=tasks)
    plan = plan_least_cost(instance, EXACT, growth=(3.0,))
    (summary,) = [
        r
        for r in plan.table("summary").records()
        if (r["coordination"], r["method"]) == ("none", "exact")
    ]
    assert summary["units"] > 0
    native = {
        r["task"]: r["latency_s"]
        for r in plan.table("paths").records()
        if (r["coordination"], r["method"]) == ("none", "exact")
    }
    trunk = {dnn.id: [block.id for block in dnn.blocks] for dnn in instance.dnns}
    alone = evaluate_paths(
        instance.replace(tasks=[t | {"floor": 0.0} for t in tasks]),
        {task.id: trunk[task.dnn] for task in instance.tasks},
    )
    assert native == pytest.approx({row.task: row.latency for row in alone.tasks})
    tight = [t | {"max_latency": 0.9 * native[t["id"]]} for t in tasks]
    refused = plan_least_cost(instance.replace(tasks=tight), EXACT, growth=(3.0,))
    assert {
        r["status"] for r in refused.table("summary").records() if r["coordination"] == "none"
    } <= {"infeasible", "unknown"}


@pytest.mark.parametrize("seed", seeds(6, 200))
def test_inputs_and_alternatives_cost_what_brute_force_says(seed: int) -> None:
    options = {"alternatives": True, "inputs": seed % 2 == 0, "groups": seed % 3 == 0}
    compare(planning_instance(seed + 8100, **options), seed)


def compare(instance: Instance, seed: int) -> None:
    """Compare the plans of an instance with brute force."""
    growth = (0.8, 1.5, 3.0)[seed % 3]
    loss = (None, 0.0, 3.0, 10.0)[seed % 4]
    plan = plan_least_cost(instance, EXACT, growth=(growth,), max_loss=(loss,))
    rows = {(r["coordination"], r["method"]): r for r in plan.table("summary").records()}
    demand = demands_of(instance) * growth
    native = {(r["growth"], r["max_loss_points"]) for r in plan.table("summary").records()}
    assert native == {(growth, loss)}
    least = None
    if loss is not None:
        least = max(native_average(instance) - loss / 100.0, 0.0)
    for name, allowed in (
        ("full", None),
        ("exits", own_paths(instance, True)),
        ("none", own_paths(instance, False)),
    ):
        exact, quick = rows[name, "exact"], rows[name, "heuristic"]
        best = cheapest(instance, [demand], least, allowed)
        if math.isinf(best):
            assert exact["status"] == "infeasible"
            assert quick["status"] == "unknown"
            assert exact["message"]
        else:
            assert exact["status"] == "optimal"
            assert exact["cost"] == pytest.approx(best, rel=1e-6, abs=1e-9)
            assert exact["bound"] == pytest.approx(best, rel=1e-6, abs=1e-5)
            if quick["cost"] is not None:
                assert quick["cost"] >= best * (1 - 1e-6)
                assert quick["status"] == "feasible"
                assert quick["bound"] is None
    verify(instance, plan)


def test_the_random_instances_cover_the_cases() -> None:
    """Some are free, most cost something, some are infeasible; links and limits matter."""
    costs = []
    for seed in range(48):
        instance = planning_instance(seed)
        demand = np.array([task.demand for task in instance.tasks]) * 1.5
        costs.append(cheapest(instance, [demand], None))
    assert sum(math.isinf(c) for c in costs) >= 3
    assert sum(c == 0.0 for c in costs) >= 5
    assert sum(0.0 < c < math.inf for c in costs) >= 12


def check_the_heuristic(instances: Iterable[Instance], unit_flops: float, growth: float) -> None:
    """Check that it is never below the proven cost, and near it on average."""
    excess = []
    for instance in instances:
        settings = PlanSettings(unit_flops=unit_flops, gap=0.01)
        plan = plan_least_cost(
            instance, settings, growth=(growth,), max_loss=(2.0,), coordinations=("full",)
        )
        exact, quick = plan.table("summary").records()
        assert exact["bound"] <= quick["cost"] + 1e-6
        assert exact["cost"] <= quick["cost"] + 1e-6
        excess.append(quick["cost"] / exact["bound"] - 1.0)
    assert np.mean(excess) < 0.15


def test_the_heuristic_is_near_the_proven_cost() -> None:
    instances = (generate(5, seed=seed, limited_demand=1.0) for seed in range(2))
    check_the_heuristic(instances, unit_flops=1e11, growth=2.0)


def test_the_same_seed_gives_the_same_plan() -> None:
    instance = generate(4, seed=3, limited_demand=1.0)
    settings = PlanSettings(unit_flops=1e11)
    plans = [plan_least_cost(instance, settings, max_loss=(1.0,)) for _ in range(2)]
    assert plans[0].table("servers").rows == plans[1].table("servers").rows
    assert plans[0].table("paths").rows == plans[1].table("paths").rows


def test_of_the_cheapest_plans_the_most_accurate_is_taken(plenty: Instance) -> None:
    """With capacity for all native paths nothing is bought, and no accuracy given up."""
    plan = plan_least_cost(plenty, PlanSettings(), coordinations=("full",))
    row = plan.table("summary").records()[0]
    assert row["cost"] == 0.0
    assert row["accuracy"] == pytest.approx(0.875)


def test_more_growth_costs_no_less_and_more_loss_no_more() -> None:
    instance = generate(4, seed=5, limited_demand=1.0)
    plan = plan_least_cost(
        instance,
        PlanSettings(unit_flops=1e11, gap=1e-6),
        growth=(1.0, 2.0, 3.0),
        max_loss=(0.0, 2.0, 10.0),
        coordinations=("full",),
    )
    cost = {
        (r["growth"], r["max_loss_points"]): r["cost"]
        for r in plan.table("summary").records()
        if r["method"] == "exact"
    }
    for g in (1.0, 2.0, 3.0):
        assert cost[g, 0.0] >= cost[g, 2.0] >= cost[g, 10.0]
    for loss in (0.0, 2.0, 10.0):
        assert cost[1.0, loss] <= cost[2.0, loss] <= cost[3.0, loss]


def test_less_coordination_costs_no_less() -> None:
    instance = generate(6, seed=1, limited_demand=1.0)
    plan = plan_least_cost(
        instance, PlanSettings(unit_flops=2e10, gap=1e-6), growth=(2.0,), max_loss=(3.0,)
    )
    cost = {r["coordination"]: r for r in plan.table("summary").records() if r["method"] == "exact"}
    assert cost["full"]["cost"] <= cost["exits"]["cost"] <= cost["none"]["cost"]
    assert cost["full"]["saved_cost"] == cost["none"]["cost"] - cost["full"]["cost"]
    assert cost["none"]["saved_cost"] == 0.0
    assert cost["none"]["accuracy_loss_points"] == pytest.approx(0.0, abs=1e-9)


# Infeasible at any size: the message says what forbids it


def message(instance: Instance, settings: PlanSettings | None = None, **options) -> str:
    plan = plan_least_cost(instance, settings or PlanSettings(), **options)
    assert plan.status == "infeasible"
    assert plan.message
    return plan.message


def test_too_little_for_sale_is_told(plenty: Instance) -> None:
    text = message(plenty, growth=(5.0,))
    assert "the demand is too large for what can be bought" in text
    assert "server a" in text
    assert "no units are sold" in text
    assert "% of the demand fit" in text
    servers = [s.model_copy(update={"unit_flops": 10.0, "max_units": 2.0}) for s in plenty.servers]
    text = message(plenty.replace(servers=[s.model_dump() for s in servers]), growth=(5.0,))
    assert "120.0 FLOP/s with all 2 units" in text


def test_a_reason_names_its_growth_and_its_loss(plenty: Instance) -> None:
    assert message(plenty, growth=(5.0,)).startswith("growth 5: ")
    assert message(plenty, growth=(5.0,), max_loss=(2.0,)).startswith(
        "growth 5, at most 2 points lost: "
    )


def test_an_accuracy_beyond_all_paths_is_told(plenty: Instance) -> None:
    text = message(plenty, PlanSettings(min_accuracy=0.95))
    assert "no paths reach an average accuracy of 0.95" in text
    assert "0.875" in text


def test_an_accuracy_floor_that_capacity_forbids_is_told(plenty: Instance) -> None:
    # At growth 1.2 task a needs its short path, which costs accuracy.
    text = message(plenty, growth=(1.2,), max_loss=(0.0,))
    assert "lower the floor of the average accuracy from 0.875" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"min_accuracy": 0.99}, "min_accuracy 0.99"),
        ({"max_latency": 1e-3}, "max_latency 0.001"),
    ],
)
def test_a_task_without_a_path_is_told(plenty: Instance, change: dict, expected: str) -> None:
    tasks = [
        {**task.model_dump(mode="json"), **(change if task.id == "ta" else {})}
        for task in plenty.tasks
    ]
    text = message(plenty.replace(tasks=tasks), PlanSettings(unit_flops=10.0))
    assert text.startswith("growth 1: task 'ta': no path")
    assert expected in text


def test_memories_that_forbid_the_accuracy_are_told(plenty: Instance) -> None:
    tasks = [task.model_dump(mode="json") for task in plenty.tasks]
    # Both tasks gain accuracy by an adapter on server a, which holds only one of them.
    for task, block in zip(tasks, ("A1", "B1"), strict=True):
        task["connections"] = [
            {"source": block, "target": "output", "drop": -0.05, "params": 10.0, "server": "a"}
        ]
    servers = [s.model_dump(mode="json") for s in plenty.servers]
    servers[0]["memory"] = 60.0
    changed = plenty.replace(tasks=tasks, servers=servers)
    text = message(changed, PlanSettings(unit_flops=10.0, min_accuracy=0.92))
    assert "do not fit the memories" in text


def test_a_demand_is_needed(plenty: Instance) -> None:
    tasks = [{**task.model_dump(mode="json"), "demand": None} for task in plenty.tasks]
    without = plenty.replace(tasks=tasks)
    with pytest.raises(InputError, match=r"there is none for task 'ta', 'tb'"):
        plan_least_cost(without)
    assert plan_least_cost(without, PlanSettings(demand=1.0)).status == "optimal"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"growth": (-1.0,)}, "growth -1"),
        ({"growth": (math.inf,)}, "growth inf"),
        ({"growth": ()}, "needs a growth"),
        ({"max_loss": (101.0,)}, "max loss 101"),
    ],
)
def test_bad_options_are_refused(plenty: Instance, options: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        plan_least_cost(plenty, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"min_accuracy": 1.5},
        {"unit_flops": 0.0},
        {"unit_bandwidth": math.inf},
        {"demand": -1.0},
        {"gap": 1.0},
        {"time_limit": 0.0},
        {"threads": 0},
        {"seed": -1},
    ],
)
def test_bad_settings_are_refused(options: dict) -> None:
    with pytest.raises(InputError):
        PlanSettings(**options)


def test_units_that_are_too_small_are_refused(plenty: Instance) -> None:
    with pytest.raises(InputError, match=r"server a: up to 2e\+06 units .* make the unit larger"):
        plan_least_cost(plenty, PlanSettings(unit_flops=1e-4), growth=(3.0,))
