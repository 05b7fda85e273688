"""Alternatives: other DNNs that answer a task all by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from code_opt import check, evaluate_paths, parse_instance, solve
from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.instance.model import GivenPath
from code_opt.plan_checker import check_plan
from code_opt.planning import PlanSettings, plan_front, plan_least_cost
from code_opt.result import Result
from tests.reference import solve_reference
from tests.strategies import few_of, random_instance


def zoo(**changes: Any) -> Instance:
    """A task with a heavy network, a light one beside it and a better one on another server."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "s", "flops": 1000.0}, {"id": "far", "flops": 2000.0}],
            "dnns": [
                {"id": "own", "server": "s", "blocks": [{"id": "own/0", "flops": 100.0}]},
                {
                    "id": "light",
                    "server": "s",
                    "blocks": [{"id": "light/0", "flops": 20.0}, {"id": "light/1", "flops": 20.0}],
                },
                {"id": "big", "server": "far", "blocks": [{"id": "big/0", "flops": 50.0}]},
            ],
            "tasks": [
                {
                    "id": "t",
                    "dnn": "own",
                    "accuracy": 0.9,
                    "alternatives": [
                        {"dnn": "light", "accuracy": 0.8, "samples": 400},
                        {"dnn": "big", "accuracy": 0.95},
                    ],
                    **changes,
                }
            ],
        }
    )


ALONG = [
    {"source": "input", "target": "light/0", "drop": 0.02},
    {"source": "light/1", "target": "output", "drop": 0.03},
]
"""Connections that lead along the blocks of `light`."""


def rules(instance: Instance, result: Result, **changes: Any) -> set[str]:
    """Return the rules that a result breaks with another row of its task."""
    row = result.tasks[0].model_copy(update=changes)
    return {v.rule for v in check(result.model_copy(update={"tasks": (row,)}), instance)}


@pytest.mark.parametrize(
    ("method", "path", "rate"),
    [
        ("exact", ("big/0",), 40.0),
        ("lns", ("big/0",), 40.0),
        ("code", ("big/0",), 40.0),
        ("greedy", ("big/0",), 40.0),
        ("host", ("big/0",), 40.0),
        ("local", ("light/0", "light/1"), 25.0),
        ("edge-early", ("light/0", "light/1"), 25.0),
    ],
)
def test_an_alternative_is_native_only_on_the_own_server(method, path, rate):
    (row,) = solve(zoo(), method).tasks
    assert (row.path, row.accuracy_source) == (path, "given")
    assert row.rate == pytest.approx(rate)


def test_the_native_path_is_one_of_them():
    instance = zoo(alternatives=[], min_accuracy=0.85)
    (row,) = solve(instance).tasks
    assert (row.path, row.accuracy_source, row.accuracy) == (("own/0",), "given", 0.9)
    result = solve(instance)
    # Older versions called it predicted; nothing else is right.
    assert rules(instance, result, accuracy_source="predicted") == set()
    assert rules(instance, result, accuracy_source="measured") == {"accuracy-source"}


def test_the_checker_knows_alternatives_by_itself():
    instance = zoo()
    result = solve(instance)
    assert rules(instance, result) == set()
    assert rules(instance, result, accuracy_source="predicted") == {"accuracy-source"}
    assert rules(instance, result, accuracy=0.9) == {"task-accuracy"}
    less = instance.tasks[0].model_copy(update={"alternatives": instance.tasks[0].alternatives[:1]})
    without = instance.model_copy(update={"tasks": (less,)})
    assert rules(without, result) >= {"path-start", "path-end"}


@pytest.mark.parametrize("formulation", ["path", "flow", "colgen"])
def test_connections_along_the_same_blocks_make_another_path(formulation):
    instance = zoo(connections=ALONG, alternatives=[{"dnn": "light", "accuracy": 0.8}])
    (row,) = solve(instance, objective="accuracy", formulation=formulation).tasks
    assert row.path == ("own/0",)
    # 0.9 - 0.05 = 0.85 over the connections, 0.8 as the alternative.
    blocks = ("light/0", "light/1")
    found = evaluate_paths(instance, {"t": blocks})
    assert (found.tasks[0].accuracy, found.tasks[0].accuracy_source) == (0.85, "predicted")
    given = evaluate_paths(instance, {"t": GivenPath(blocks)})
    assert (given.tasks[0].accuracy, given.tasks[0].accuracy_source) == (0.8, "given")
    wrong = {"task-accuracy", "average-accuracy", "reward"}
    assert rules(instance, given, accuracy_source="predicted") == wrong
    assert rules(instance, found, accuracy_source="given") == wrong
    # A measurement of these blocks is one of the path over the connections.
    measured = zoo(
        connections=ALONG,
        alternatives=[{"dnn": "light", "accuracy": 0.8}],
        measured_paths=[{"blocks": blocks, "accuracy": 0.99}],
    )
    (row,) = solve(measured, formulation=formulation).tasks
    assert (row.path, row.accuracy, row.accuracy_source) == (blocks, 0.99, "measured")
    given = evaluate_paths(measured, {"t": GivenPath(blocks)})
    assert (given.tasks[0].accuracy, given.tasks[0].accuracy_source) == (0.8, "given")


def test_a_group_runs_the_trunk_of_an_alternative_once():
    data = zoo(input_group="camera").to_dict()
    data["tasks"][0]["alternatives"] = data["tasks"][0]["alternatives"][:1]
    data["tasks"].append(
        {"id": "u", "dnn": "light", "accuracy": 0.9, "input_group": "camera", "floor": 1.0}
    )
    for formulation in ("path", "flow", "colgen"):
        result = solve(parse_instance(data), objective="throughput", formulation=formulation)
        assert [row.path[0] for row in result.tasks] == ["light/0", "light/0"]
        assert result.throughput == pytest.approx(2 * 1000.0 / 40.0)


@pytest.mark.parametrize("seed", few_of(12, 6))
def test_every_method_keeps_to_the_instance(seed):
    options = {"alternatives": True, "groups": seed % 2 == 0, "inputs": seed % 3 == 0}
    instance = random_instance(seed + 700, max_combinations=1000, **options)
    best = solve(instance, gap=1e-6)
    for method in ("lns", "code", "greedy", "random", "local", "host", "edge-early"):
        result = solve(instance, method)  # every result passes the checker
        if result.has_solution:
            assert best.has_solution
            assert result.reward <= best.bound * (1 + 1e-6)


@pytest.mark.parametrize("coordination", ["full", "exits", "none"])
def test_plans_take_alternatives(coordination):
    instance = zoo(demand=30.0)
    settings = PlanSettings(unit_flops=1000.0)
    plan = plan_least_cost(instance, settings, coordinations=(coordination,))
    rows = [r for r in plan.table("paths").records() if r["coordination"] == coordination]
    expected = "big/0" if coordination == "full" else "light/0 > light/1"
    for row in rows:  # of both methods; 30 inferences/s of 100 FLOP need more than there is
        assert (row["path"], row["accuracy_source"]) == (expected, "given")
    assert rows
    assert check_plan(plan.to_dict(), instance) == []
    data = plan.to_dict()
    (table,) = (t for t in data["tables"] if t["name"] == "paths")
    names = [column["name"] for column in table["columns"]]
    for row in table["rows"]:
        row[names.index("path")] = "big/0"
    found = {v.rule for v in check_plan(data, instance)}
    assert ("coordination" in found) == (coordination != "full")


def test_a_front_says_where_accuracies_come_from():
    instance = zoo(demand=30.0)
    plan = plan_front(instance, PlanSettings(), points=3)
    assert {row["accuracy_source"] for row in plan.table("paths").records()} == {"given"}
    assert check_plan(plan.to_dict(), instance) == []


# What is measured, what is guessed


def test_given_paths_of_predicted_accuracy_are_refused_where_only_known_ones_count():
    instance = zoo(connections=ALONG, alternatives=[])
    paths = {row.task: row.path for row in solve(instance, objective="throughput").tasks}
    assert not evaluate_paths(instance, paths).measured_only
    with pytest.raises(InputError, match=r"task 't'.*only native paths, alternatives and measured"):
        evaluate_paths(instance, paths, measured_only=True)
    known = {row.task: row.path for row in solve(instance, measured_only=True).tasks}
    assert evaluate_paths(instance, known, measured_only=True).measured_only


@pytest.mark.parametrize("seed", few_of(40, 12))
def test_measured_only_takes_the_best_of_the_paths_that_are_known(seed):
    options = {"alternatives": True, "groups": seed % 2 == 0, "inputs": seed % 3 == 0}
    instance = random_instance(seed + 800, max_combinations=1000, **options)
    expected = solve_reference(instance, measured_only=True)
    for formulation in ("path", "flow", "colgen"):
        result = solve(instance, formulation=formulation, measured_only=True, gap=1e-7)
        assert result.measured_only
        if expected is None:
            assert result.status == "infeasible", (seed, formulation)
        else:
            assert result.status == "optimal", (seed, formulation)
            assert result.value == pytest.approx(expected.value, rel=1e-6)
            assert all(row.accuracy_source != "predicted" for row in result.tasks)
    for method in ("lns", "code", "greedy", "random", "local", "host", "edge-early"):
        result = solve(instance, method, measured_only=True)
        assert all(row.accuracy_source != "predicted" for row in result.tasks)


def test_the_checker_holds_results_to_known_accuracies():
    instance = zoo(connections=ALONG, alternatives=[])
    result = solve(instance, objective="throughput")
    assert result.tasks[0].accuracy_source == "predicted"
    assert rules(instance, result) == set()
    told = result.model_copy(update={"measured_only": True})
    assert rules(instance, told) == {"measured-only"}
    assert solve(instance, objective="throughput", measured_only=True).tasks[0].path == ("own/0",)


def test_accuracies_carry_the_interval_of_their_samples():
    instance = zoo(samples=100, alternatives=[{"dnn": "light", "accuracy": 0.8, "samples": 400}])
    given = evaluate_paths(instance, {"t": ["light/0", "light/1"]})
    # (0.8 + z2 / 800 -+ z sqrt(0.16 / 400 + z2 / 640000)) / (1 + z2 / 400), z2 = 3.8415
    assert given.tasks[0].accuracy_interval == pytest.approx((0.7580, 0.8363), abs=5e-5)
    native = evaluate_paths(instance, {"t": ["own/0"]})
    assert native.tasks[0].accuracy_interval == pytest.approx((0.8256, 0.9448), abs=5e-5)
    unknown = zoo(alternatives=[{"dnn": "light", "accuracy": 0.8}])
    assert solve(unknown).tasks[0].accuracy_interval is None
    assert rules(instance, native, accuracy_interval=None) == {"accuracy-interval"}
    assert rules(instance, native, accuracy_interval=(0.8, 0.9448)) == {"accuracy-interval"}
    assert rules(unknown, solve(unknown), accuracy_interval=(0.7, 0.9)) == {"accuracy-interval"}


def test_measured_paths_have_samples_of_their_own():
    path = {"blocks": ["light/0", "light/1"], "accuracy": 0.95, "samples": 50}
    instance = zoo(samples=100, connections=ALONG, alternatives=[], measured_paths=[path])
    (row,) = solve(instance).tasks
    assert row.accuracy_source == "measured"
    low, high = row.accuracy_interval
    assert low == pytest.approx(0.8465, abs=2e-2)
    assert high < 1.0


@pytest.mark.parametrize("coordination", ["full", "none"])
def test_plans_of_known_accuracies(coordination):
    instance = zoo(connections=ALONG, alternatives=[], demand=30.0)
    settings = PlanSettings(unit_flops=1000.0, measured_only=True)
    plan = plan_least_cost(instance, settings, coordinations=(coordination,))
    assert {row["path"] for row in plan.table("paths").records()} == {"own/0"}
    assert check_plan(plan.to_dict(), instance) == []
    free = plan_least_cost(instance, PlanSettings(unit_flops=1000.0), coordinations=("full",))
    data = free.to_dict()
    data["settings"]["measured_only"] = True
    assert "measured-only" in {v.rule for v in check_plan(data, instance)}
