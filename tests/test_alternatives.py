"""Alternatives: other DNNs that answer a task all by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from code_opt import check, evaluate_paths, parse_instance, solve
from code_opt.instance import Instance
from code_opt.instance.model import GivenPath
from code_opt.plan_checker import check_plan
from code_opt.planning import PlanSettings, plan_front, plan_least_cost
from code_opt.result import Result
from tests.strategies import random_instance


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


@pytest.mark.parametrize("seed", range(12))
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
