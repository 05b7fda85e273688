"""The checker accepts a result worked by hand; every rule, broken on purpose, fires alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

from code_opt.checker import RULES, check
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance
from code_opt.result import (
    AdapterChange,
    LinkResult,
    Result,
    ServerResult,
    TaskResult,
    WinnersCurse,
)
from tests.instances import dnn
from tests.test_promises import PROMISE_RULES

Data = dict[str, Any]

# Three servers (c runs adapters only), two DNNs, four tasks whose paths use a cross-connection
# with its adapter on a third server, an exit, a skip, an entry, an overridden native arc,
# measured and predicted accuracies. Numbers are small enough to add up by hand.
INSTANCE: Data = {
    "schema": "code-opt/instance/1",
    "name": "by-hand",
    "servers": [
        {"id": "a", "flops": 1000.0, "memory": 400.0},
        {"id": "b", "flops": 2000.0},
        {"id": "c", "flops": 500.0, "memory": 1000.0},
    ],
    "links": [
        {"source": "a", "target": "b", "bandwidth": 1000.0, "latency": 0.01},
        {"source": "b", "target": "a", "latency": 0.02},
        {"source": "a", "target": "c", "bandwidth": 500.0},
        {"source": "c", "target": "b", "latency": 0.005},
    ],
    "dnns": [
        dnn("A", "a", [2.0, 4.0, 6.0], [10.0, 8.0, 4.0]),
        dnn("B", "b", [10.0, 10.0, 20.0], [20.0, 10.0, 5.0]),
    ],
    "tasks": [
        {
            "id": "cross",
            "dnn": "A",
            "accuracy": 0.8,
            "demand": 50.0,
            "floor": 5.0,
            "weight": 2.0,
            "min_accuracy": 0.7,
            "max_latency": 0.2,
            "connections": [
                # a -> c -> b, 5 bytes each
                {
                    "source": "A0",
                    "target": "B1",
                    "drop": 0.03,
                    "flops": 1.0,
                    "params": 10.0,
                    "bytes": 5.0,
                    "server": "c",
                },
                {"source": "B1", "target": "output", "drop": 0.02, "flops": 2.0, "params": 20.0},
            ],
        },
        {
            "id": "skip",
            "dnn": "A",
            "accuracy": 0.9,
            "floor": "standalone",
            "connections": [
                {"source": "A0", "target": "A2", "drop": 0.05, "flops": 3.0, "params": 50.0}
            ],
            "measured_paths": [{"blocks": ["A0", "A2"], "accuracy": 0.82}],
        },
        {
            "id": "entry",
            "dnn": "B",
            "accuracy": 0.6,
            "connections": [
                {"source": "input", "target": "A1", "drop": -0.1, "flops": 1.0, "params": 5.0},
                {"source": "A1", "target": "B2", "drop": 0.05, "flops": 2.0, "params": 10.0},
            ],
        },
        {
            "id": "native",
            "dnn": "B",
            "accuracy": 0.5,
            "weight": 0.0,
            "connections": [{"source": "B1", "target": "B2", "drop": 0.01, "flops": 5.0}],
            "measured_paths": [{"blocks": ["B0", "B1", "B2"], "accuracy": 0.55}],
        },
    ],
    "reward": {
        "accuracy": {"kind": "power", "exponent": 2.0},
        "throughput": {"kind": "power", "exponent": 1.0},
    },
}

# Per inference, added up by hand.
WORK = {
    "cross": {"a": 2.0, "b": 10.0 + 2.0, "c": 1.0},
    "skip": {"a": 2.0 + 3.0 + 6.0},
    "entry": {"a": 1.0 + 4.0 + 2.0, "b": 20.0},
    "native": {"b": 10.0 + 10.0 + 5.0 + 20.0},
}
TRAFFIC = {
    "cross": {("a", "c"): 5.0, ("c", "b"): 5.0},
    "skip": {},
    "entry": {("a", "b"): 8.0},
    "native": {},
}
A_AV = (2 * 0.75 + 0.82 + 0.65) / 4  # 0.7425
STANDALONE = 1000.0 / 2 / 12.0
"""Rate of the task `skip` alone: server a hosts one DNN, which has two tasks; 12 FLOP."""

RESULT: Data = {
    "instance": "by-hand",
    "method": "exact",
    "formulation": "path",
    "objective": "reward",
    "status": "optimal",
    "reward": 44.1045,  # 0.7425 ** 2 * 80
    "bound": 44.1045 * (1 + 5e-5),
    "gap": 5e-5,
    "throughput": 80.0,
    "accuracy": 0.7425,
    "seconds": 0.1,
    "gap_tolerance": 1e-4,
    "min_accuracy": 0.7,
    "min_throughput": 75.0,
    "tasks": [
        {
            "task": "cross",
            "path": ("A0", "B1"),
            "rate": 10.0,
            "accuracy": 0.75,  # 0.8 - 0.03 - 0.02
            "accuracy_source": "predicted",
            # blocks 2/1000 + 10/2000, adapters 1/500 + 2/2000, a -> c 5/500, c -> b 0.005
            "latency": 0.025,
        },
        {
            "task": "skip",
            "path": ("A0", "A2"),
            "rate": 42.0,
            "accuracy": 0.82,
            "accuracy_source": "measured",
            "latency": 0.011,
        },
        {
            "task": "entry",
            "path": ("A1", "B2"),
            "rate": 20.0,
            "accuracy": 0.65,  # 0.6 + 0.1 - 0.05
            "accuracy_source": "predicted",
            # 7/1000 on a, 8/1000 + 0.01 on a -> b, 20/2000 on b
            "latency": 0.035,
        },
        {
            "task": "native",
            "path": ("B0", "B1", "B2"),
            "rate": 8.0,
            "accuracy": 0.55,
            "accuracy_source": "measured",
            "latency": 0.0225,
        },
    ],
    "servers": [
        # 10 * 2 + 42 * 11 + 20 * 7
        {"server": "a", "load": 622.0, "capacity": 1000.0, "utilization": 0.622},
        # 10 * 12 + 20 * 20 + 8 * 45
        {"server": "b", "load": 880.0, "capacity": 2000.0, "utilization": 0.44},
        {"server": "c", "load": 10.0, "capacity": 500.0, "utilization": 0.02},
    ],
    "links": [
        {"source": "a", "target": "b", "load": 160.0, "capacity": 1000.0, "utilization": 0.16},
        {"source": "b", "target": "a", "load": 0.0, "capacity": None, "utilization": None},
        {"source": "a", "target": "c", "load": 50.0, "capacity": 500.0, "utilization": 0.1},
        {"source": "c", "target": "b", "load": 50.0, "capacity": None, "utilization": None},
    ],
}


def build_instance(data: Data) -> Instance:
    return Instance.model_validate(data)


def build_result(data: Data) -> Result:
    """Build a result without validation: the checker must not rely on it."""
    rows: Data = {"tasks": TaskResult, "servers": ServerResult, "links": LinkResult}
    lists = {
        key: tuple(row.model_construct(**values) for values in data[key])
        for key, row in rows.items()
    }
    return Result.model_construct(**{**data, **lists})


def fired(instance: Data, result: Data, **options: Any) -> list[str]:
    found = check(build_result(result), build_instance(instance), **options)
    assert all(violation.rule in RULES for violation in found)
    assert all(violation.place and violation.message for violation in found)
    return [violation.rule for violation in found]


def good() -> tuple[Data, Data]:
    return copy.deepcopy(INSTANCE), copy.deepcopy(RESULT)


def set_value(result: Data, reward: float) -> None:
    result["reward"], result["bound"] = reward, reward * (1 + 5e-5)


def set_rate(result: Data, task: str, rate: float) -> None:
    """Change one rate and all that follows from it, with the table of work above."""
    for row in result["tasks"]:
        if row["task"] == task:
            row["rate"] = rate
    rates = {row["task"]: row["rate"] for row in result["tasks"]}
    for row in result["servers"]:
        row["load"] = sum(rates[t] * WORK[t].get(row["server"], 0.0) for t in rates)
        row["utilization"] = row["load"] / row["capacity"]
    for row in result["links"]:
        ends = (row["source"], row["target"])
        row["load"] = sum(rates[t] * TRAFFIC[t].get(ends, 0.0) for t in rates)
        row["utilization"] = None if row["capacity"] is None else row["load"] / row["capacity"]
    result["throughput"] = sum(rates.values())
    set_value(result, A_AV**2 * result["throughput"])


def emptied(result: Data, status: str) -> None:
    result.update(status=status, tasks=[], servers=[], links=[])
    result.update(reward=None, bound=None, gap=None, throughput=None, accuracy=None)


# ---- the good result -----------------------------------------------------------------------


def test_a_result_worked_by_hand_is_confirmed() -> None:
    instance, result = good()
    assert fired(instance, result) == []
    assert check(Result.model_validate(result), build_instance(instance)) == []


@pytest.mark.parametrize("key", ["tasks", "servers", "links"])
def test_rows_may_come_in_any_order(key: str) -> None:
    instance, result = good()
    result[key].reverse()
    assert fired(instance, result) == []


@pytest.mark.parametrize("objective", ["throughput", "accuracy"])
def test_bound_and_gap_belong_to_the_objective(objective: str) -> None:
    instance, result = good()
    result["objective"] = objective
    assert set(fired(instance, result)) <= {"bound", "gap"} != set()
    result.update(bound=result[objective] * 1.00002, gap=2e-5)
    assert fired(instance, result) == []


@pytest.mark.parametrize("status", ["infeasible", "unknown"])
def test_no_solution_is_confirmed_with_nothing_in_it(status: str) -> None:
    instance, result = good()
    emptied(result, status)
    assert fired(instance, result) == []


def test_a_heuristic_reports_no_bound() -> None:
    instance, result = good()
    result.update(status="feasible", method="code", bound=None, gap=None)
    assert fired(instance, result) == []


def as_latency(instance: Data, result: Data) -> None:
    """Make the good result one of the objective latency: what is served becomes the demand."""
    for task, row in zip(instance["tasks"], result["tasks"], strict=True):
        task["demand"] = row["rate"]
    result.update(objective="latency", latency=0.024, min_throughput=None)
    result.update(bound=0.024 * (1 - 5e-5), gap=5e-5)  # (2 * 0.025 + 0.011 + 0.035) / 4


def test_a_latency_is_bounded_from_below() -> None:
    instance, result = good()
    as_latency(instance, result)
    assert fired(instance, result) == []
    result.update(bound=0.0, gap=1.0, status="feasible")
    assert fired(instance, result) == []


def test_work_on_own_servers_is_confirmed() -> None:
    instance, result = good()
    for row, share in zip(result["tasks"], (2 / 15, 1.0, 20 / 27, 1.0), strict=True):
        row["own_work"] = share
    # 10 * 2 + 42 * 11 + 20 * 20 + 8 * 45 of 622 + 880 + 10
    result["own_work"] = 1242 / 1512
    assert fired(instance, result) == []


# ---- every rule broken once ----------------------------------------------------------------

Break = Callable[[Data, Data], None]
BREAKS: list[tuple[str, str, Break]] = []


def breaks(rule: str) -> Callable[[Break], Break]:
    def register(function: Break) -> Break:
        BREAKS.append((rule, function.__name__, function))
        return function

    return register


def reported(rule: str, value: Any, *where: Any) -> None:
    """Register a break that writes one wrong figure into the result."""

    def function(_: Data, result: Data) -> None:
        place = result
        for key in where[:-1]:
            place = place[key]
        place[where[-1]] = value

    BREAKS.append((rule, ".".join(map(str, where)) + f"={value}", function))


reported("instance-name", "another", "instance")
reported("seconds", -1.0, "seconds")
reported("finite", math.nan, "reward")
reported("finite", math.inf, "bound")
reported("finite", math.nan, "gap_tolerance")
reported("finite", math.nan, "tasks", 0, "rate")
reported("finite", math.nan, "tasks", 1, "latency")
reported("finite", -math.inf, "servers", 0, "load")
reported("finite", math.nan, "links", 0, "capacity")
reported("task-accuracy", 0.76, "tasks", 0, "accuracy")
reported("task-accuracy", 0.85, "tasks", 1, "accuracy")  # the prediction, but it is measured
reported("task-accuracy", 0.49, "tasks", 3, "accuracy")  # a native path can be measured as well
reported("accuracy-source", "measured", "tasks", 0, "accuracy_source")
reported("accuracy-source", "predicted", "tasks", 3, "accuracy_source")
reported("accuracy-interval", (0.4, 0.9), "tasks", 3, "accuracy_interval")
reported("latency", 0.02, "tasks", 0, "latency")
reported("latency", 0.0, "tasks", 1, "latency")
reported("server-load", 623.0, "servers", 0, "load")
reported("server-load", 1200.0, "servers", 0, "load")
reported("server-capacity", 1001.0, "servers", 0, "capacity")
reported("server-capacity", 600.0, "servers", 0, "capacity")
reported("server-utilization", 0.62, "servers", 0, "utilization")
reported("link-load", 0.0, "links", 0, "load")
reported("link-load", 1.0, "links", 1, "load")
reported("link-load", 49.0, "links", 3, "load")
reported("link-capacity", 1.0, "links", 0, "capacity")
reported("link-capacity", None, "links", 0, "capacity")
reported("link-capacity", 1e9, "links", 1, "capacity")
reported("link-utilization", 0.2, "links", 0, "utilization")
reported("link-utilization", None, "links", 0, "utilization")
reported("link-utilization", 0.0, "links", 1, "utilization")
reported("throughput", 81.0, "throughput")
reported("throughput", None, "throughput")
reported("average-accuracy", 0.7, "accuracy")
reported("average-accuracy", (0.75 + 0.82 + 0.65 + 0.55) / 4, "accuracy")  # without weights
reported("average-accuracy", None, "accuracy")
reported("reward", 44.2, "reward")
reported("reward", 0.0, "reward")
reported("reward", -44.1045, "reward")
reported("reward", None, "reward")
reported("asked-accuracy", 0.75, "min_accuracy")
reported("asked-throughput", 80.1, "min_throughput")
reported("bound-and-gap", None, "gap")
reported("gap", 4e-5, "gap")
reported("gap", -5e-5, "gap")
reported("optimal-gap", 1e-5, "gap_tolerance")
reported("optimal-gap", 0.0, "gap_tolerance")
reported(
    "winners-curse",
    WinnersCurse(
        splits=1,
        solved=2,
        seed=0,
        accuracy=0.01,
        accuracy_spread=0.0,
        reward=1.0,
        reward_spread=0.0,
        accuracy_corrected=0.5,
        reward_corrected=1.0,
    ),
    "winners_curse",
)


@breaks("group-rate")
def tasks_of_a_group_have_different_rates(instance: Data, result: Data) -> None:
    for task in instance["tasks"][2:]:  # at 20 and 8 per second, with no step in common
        task["input_group"] = "camera"


@breaks("no-assignment")
def infeasible_with_tasks(instance: Data, result: Data) -> None:
    tasks = result["tasks"]
    emptied(result, "infeasible")
    result["tasks"] = tasks


@breaks("no-assignment")
def unknown_with_a_bound(instance: Data, result: Data) -> None:
    emptied(result, "unknown")
    result["bound"] = 50.0


@breaks("no-assignment")
def infeasible_with_servers(instance: Data, result: Data) -> None:
    servers = result["servers"]
    emptied(result, "infeasible")
    result["servers"] = servers


@breaks("assignment")
def feasible_without_tasks(instance: Data, result: Data) -> None:
    emptied(result, "feasible")


@breaks("assignment")
def optimal_without_tasks(instance: Data, result: Data) -> None:
    result.update(status="optimal", tasks=[])


@breaks("tasks")
def task_is_missing(instance: Data, result: Data) -> None:
    del result["tasks"][1]


@breaks("tasks")
def task_is_listed_twice(instance: Data, result: Data) -> None:
    result["tasks"].append(result["tasks"][1])


@breaks("tasks")
def task_is_unknown(instance: Data, result: Data) -> None:
    result["tasks"].append({**result["tasks"][1], "task": "ghost"})


@breaks("path-blocks")
def block_is_unknown(instance: Data, result: Data) -> None:
    result["tasks"][0]["path"] = ("A0", "ghost")


@breaks("path-blocks")
def ends_are_not_blocks(instance: Data, result: Data) -> None:
    result["tasks"][0]["path"] = ("input", "A0", "B1", "output")


@breaks("path-blocks")
def path_is_empty(instance: Data, result: Data) -> None:
    result["tasks"][0]["path"] = ()


@breaks("path-start")
def start_without_an_entry(instance: Data, result: Data) -> None:
    del instance["tasks"][2]["connections"][0]


@breaks("path-start")
def start_at_another_trunk(instance: Data, result: Data) -> None:
    result["tasks"][1]["path"] = ("B0", "B1", "A2")
    instance["tasks"][1]["connections"].append({"source": "B1", "target": "A2", "drop": 0.0})


@breaks("path-step")
def step_without_a_connection(instance: Data, result: Data) -> None:
    del instance["tasks"][2]["connections"][1]


@breaks("path-step")
def connection_of_another_task(instance: Data, result: Data) -> None:
    result["tasks"][0]["path"] = ("A0", "A2")


@breaks("path-step")
def step_backwards(instance: Data, result: Data) -> None:
    result["tasks"][3]["path"] = ("B0", "B1", "B0", "B1", "B2")


@breaks("path-end")
def end_without_an_exit(instance: Data, result: Data) -> None:
    del instance["tasks"][0]["connections"][1]


@breaks("path-links")
def link_is_not_listed(instance: Data, result: Data) -> None:
    del instance["links"][0], result["links"][0]


@breaks("path-accuracy")
def path_predicted_below_zero(instance: Data, result: Data) -> None:
    instance["tasks"][0]["connections"][0]["drop"] = 0.79


@breaks("measured-only")
def predicted_though_known_ones_were_asked_for(instance: Data, result: Data) -> None:
    result["measured_only"] = True


@breaks("min-accuracy")
def accuracy_below_the_least(instance: Data, result: Data) -> None:
    instance["tasks"][0]["min_accuracy"] = 0.751


@breaks("min-accuracy")
def measured_accuracy_below_the_least(instance: Data, result: Data) -> None:
    instance["tasks"][1]["min_accuracy"] = 0.85


@breaks("max-latency")
def latency_above_the_limit(instance: Data, result: Data) -> None:
    instance["tasks"][0]["max_latency"] = 0.0249


@breaks("rate")
def rate_is_negative(instance: Data, result: Data) -> None:
    result["min_throughput"] = None
    set_rate(result, "native", -1.0)


@breaks("floor")
def rate_below_a_number(instance: Data, result: Data) -> None:
    instance["tasks"][0]["floor"] = 10.1


@breaks("floor")
def rate_below_standalone(instance: Data, result: Data) -> None:
    set_rate(result, "skip", STANDALONE - 0.1)


@breaks("demand")
def rate_above_demand(instance: Data, result: Data) -> None:
    instance["tasks"][0]["demand"] = 9.9


@breaks("demand")
def rate_above_demand_of_zero(instance: Data, result: Data) -> None:
    instance["tasks"][3]["demand"] = 0.0


@breaks("instance-changed")
def instance_was_another(instance: Data, result: Data) -> None:
    before = {**instance, "description": "does not count"}
    result["instance_digest"] = digest_of(build_instance(before))
    instance["tasks"][0]["demand"] = 1e6


reported("server-busy", 0.7, "servers", 0, "busy_devices")
reported("server-devices", 2.0, "servers", 0, "devices")
reported("asked-utilization", 1.0005, "max_utilization")
reported("server-overload", 0.6, "max_utilization")  # a sells 0.622


@breaks("server-overload")
def server_without_headroom(instance: Data, result: Data) -> None:
    instance["servers"][0]["max_utilization"] = 0.6


@breaks("path-devices")
def server_without_devices(instance: Data, result: Data) -> None:
    result["min_throughput"] = None
    set_rate(result, "cross", 0.0)  # so that nothing is overloaded
    instance["tasks"][0]["floor"] = 0.0
    instance["servers"][2].update(flops=None, devices=0.0)
    instance["tasks"][0]["connections"][0]["seconds"] = {"1": 0.002}
    result["servers"][2].update(load=None, capacity=None)


@breaks("servers")
def server_is_missing(instance: Data, result: Data) -> None:
    del result["servers"][2]


@breaks("servers")
def server_is_listed_twice(instance: Data, result: Data) -> None:
    result["servers"].append(result["servers"][0])


@breaks("servers")
def server_is_unknown(instance: Data, result: Data) -> None:
    result["servers"].append({**result["servers"][0], "server": "ghost"})


@breaks("server-overload")
def server_above_its_capacity(instance: Data, result: Data) -> None:
    set_rate(result, "native", 40.0)  # 520 + 40 * 45 = 2320 > 2000


@breaks("memory")
def adapters_above_memory(instance: Data, result: Data) -> None:
    instance["servers"][0]["memory"] = 259.0  # 4 * (50 + 5 + 10) = 260


@breaks("memory")
def no_memory_at_all(instance: Data, result: Data) -> None:
    instance["servers"][2]["memory"] = 0.0


@breaks("links")
def link_is_missing(instance: Data, result: Data) -> None:
    del result["links"][1]


@breaks("links")
def link_is_listed_twice(instance: Data, result: Data) -> None:
    result["links"].append(result["links"][1])


@breaks("links")
def link_is_unknown(instance: Data, result: Data) -> None:
    result["links"].append({**result["links"][1], "target": "c"})


@breaks("link-overload")
def link_above_its_bandwidth(instance: Data, result: Data) -> None:
    instance["tasks"][0]["demand"] = None
    set_rate(result, "cross", 101.0)  # 505 > 500 bytes/s


reported("own-work", 0.5, "tasks", 0, "own_work")
reported("own-work", 0.0, "tasks", 1, "own_work")
reported("all-own-work", 0.8, "own_work")
reported("average-latency", 0.03, "latency")


@breaks("average-latency")
def latency_is_missing(instance: Data, result: Data) -> None:
    as_latency(instance, result)
    result["latency"] = None


@breaks("asked-demand")
def latency_below_the_demand(instance: Data, result: Data) -> None:
    as_latency(instance, result)
    instance["tasks"][2]["demand"] = 21.0


@breaks("bound")
def bound_above_the_latency(instance: Data, result: Data) -> None:
    as_latency(instance, result)
    result.update(bound=0.0241, gap=0.0)


@breaks("gap")
def gap_of_a_latency_as_of_a_reward(instance: Data, result: Data) -> None:
    as_latency(instance, result)
    bound = result["bound"] = 0.0239
    result.update(gap=0.024 / bound - 1.0, status="feasible")


@breaks("bound-and-gap")
def bound_is_missing(instance: Data, result: Data) -> None:
    result.update(status="feasible", bound=None)


@breaks("bound")
def bound_below_the_value(instance: Data, result: Data) -> None:
    result.update(bound=44.0, gap=0.0)


@breaks("root-bound")
def duals_prove_more_than_the_bound(instance: Data, result: Data) -> None:
    result.update(root_bound=result["bound"] * (1.0 - 1e-5))


@breaks("root-bound")
def duals_prove_something_without_a_bound(instance: Data, result: Data) -> None:
    result.update(bound=None, gap=None, root_bound=45.0, status="feasible")


@breaks("optimal-bound")
def optimal_without_a_proof(instance: Data, result: Data) -> None:
    result.update(bound=None, gap=None)


@breaks("optimal-gap")
def optimal_with_a_wide_gap(instance: Data, result: Data) -> None:
    result.update(bound=44.1045 * 1.01, gap=0.01)


@breaks("optimal-gap")
def optimal_above_the_default_gap(instance: Data, result: Data) -> None:
    result.update(bound=44.1045 * 1.001, gap=0.001, gap_tolerance=None)


def since(result: Data) -> None:
    """Let everybody but ``cross`` have kept the path of a previous result."""
    for row in result["tasks"]:
        row.update(previous=row["path"], change="kept")
    result["tasks"][0].update(previous=("A0", "A1", "A2"), change="changed")
    common = {"action": "load", "adapter": "cross"}
    result.update(
        changes=1,
        max_changes=1,
        adapters=(
            AdapterChange(server="b", source="B1", target="output", bytes=80.0, **common),
            AdapterChange(server="c", source="A0", target="B1", bytes=40.0, **common),
        ),
    )


def test_changes_worked_by_hand_are_confirmed() -> None:
    instance, result = good()
    since(result)
    assert fired(instance, result) == []


def test_a_previous_path_that_cannot_be_kept_is_forced() -> None:
    instance, result = good()
    since(result)
    result["tasks"][0].update(previous=("A0", "B2"), change="forced")
    result.update(changes=0, max_changes=0)
    assert fired(instance, result) == []
    result["tasks"][0].update(change="changed")
    assert fired(instance, result) == ["changes", "changes", "max-changes"]
    # Its latency alone: 2 + 4 + 6 FLOP of 1000 a second.
    instance, result = good()
    since(result)
    assert fired(instance, result) == []
    instance["tasks"][0]["max_latency"] = 0.0119
    assert fired(instance, result).count("changes") == 1


@breaks("changes")
def change_without_a_previous_result(instance: Data, result: Data) -> None:
    result["tasks"][0]["change"] = "new"


@breaks("changes")
def change_called_otherwise(instance: Data, result: Data) -> None:
    since(result)
    result["tasks"][1]["change"] = "forced"


@breaks("changes")
def changes_counted_otherwise(instance: Data, result: Data) -> None:
    since(result)
    result["changes"] = 0


@breaks("max-changes")
def too_many_changes(instance: Data, result: Data) -> None:
    since(result)
    result["max_changes"] = 0


@breaks("adapters")
def adapter_is_missing(instance: Data, result: Data) -> None:
    since(result)
    result["adapters"] = result["adapters"][1:]


@breaks("adapters")
def adapter_of_another_size(instance: Data, result: Data) -> None:
    since(result)
    first, *others = result["adapters"]
    result["adapters"] = (first.model_copy(update={"bytes": 81.0}), *others)


@breaks("adapters")
def adapter_that_nobody_used(instance: Data, result: Data) -> None:
    since(result)
    first = result["adapters"][0]
    result["adapters"] += (first.model_copy(update={"action": "drop"}),)


def test_every_rule_is_broken() -> None:
    assert {rule for rule, _, _ in BREAKS} | PROMISE_RULES == set(RULES)


@pytest.mark.parametrize(
    ("rule", "function"), [pytest.param(rule, f, id=f"{rule}:{name}") for rule, name, f in BREAKS]
)
def test_a_broken_rule_fires_alone(rule: str, function: Break) -> None:
    instance, result = good()
    function(instance, result)
    assert set(fired(instance, result)) == {rule}


def test_a_violation_says_where_and_what() -> None:
    instance, result = good()
    result["tasks"][1]["latency"] = 0.5
    (violation,) = check(build_result(result), build_instance(instance))
    assert violation.place == "tasks[1].latency"
    assert "0.5" in violation.message
    assert "0.011" in violation.message
    assert str(violation).endswith("(latency)")


def test_all_violations_are_named_at_once() -> None:
    instance, result = good()
    result["seconds"] = -1.0
    result["tasks"][0]["latency"] = 1.0
    result["throughput"] = 1.0
    instance["servers"][0]["memory"] = 1.0
    assert set(fired(instance, result)) == {"seconds", "latency", "throughput", "memory"}


# ---- at the tolerance ----------------------------------------------------------------------

Edge = Callable[[Data, Data, float], None]


def edge_demand(instance: Data, result: Data, excess: float) -> None:
    instance["tasks"][0]["demand"] = 10.0 / (1 + excess)


def edge_floor(instance: Data, result: Data, excess: float) -> None:
    instance["tasks"][0]["floor"] = 10.0 / (1 - excess)


def edge_standalone(instance: Data, result: Data, excess: float) -> None:
    set_rate(result, "skip", STANDALONE * (1 - excess))


def edge_min_accuracy(instance: Data, result: Data, excess: float) -> None:
    instance["tasks"][0]["min_accuracy"] = 0.75 / (1 - excess)


def edge_max_latency(instance: Data, result: Data, excess: float) -> None:
    instance["tasks"][0]["max_latency"] = 0.025 / (1 + excess)


def edge_memory(instance: Data, result: Data, excess: float) -> None:
    instance["servers"][0]["memory"] = 260.0 / (1 + excess)


def edge_capacity(instance: Data, result: Data, excess: float) -> None:
    set_rate(result, "native", (2000.0 * (1 + excess) - 520.0) / 45.0)


def edge_bandwidth(instance: Data, result: Data, excess: float) -> None:
    instance["tasks"][0]["demand"] = None
    set_rate(result, "cross", 100.0 * (1 + excess))


def edge_task_accuracy(instance: Data, result: Data, excess: float) -> None:
    result["tasks"][0]["accuracy"] *= 1 + excess


def edge_latency(instance: Data, result: Data, excess: float) -> None:
    result["tasks"][0]["latency"] *= 1 + excess


def edge_server_load(instance: Data, result: Data, excess: float) -> None:
    result["servers"][0]["load"] *= 1 + excess


def edge_link_utilization(instance: Data, result: Data, excess: float) -> None:
    result["links"][0]["utilization"] *= 1 + excess


def edge_throughput(instance: Data, result: Data, excess: float) -> None:
    result["throughput"] *= 1 + excess


def edge_average_accuracy(instance: Data, result: Data, excess: float) -> None:
    result["accuracy"] *= 1 - excess


def edge_reward(instance: Data, result: Data, excess: float) -> None:
    # Bound and gap follow the reported value while it is confirmed.
    result["reward"] *= 1 + excess
    if excess < 1e-6:
        set_value(result, result["reward"])


def edge_asked_accuracy(instance: Data, result: Data, excess: float) -> None:
    result["min_accuracy"] = A_AV / (1 - excess)


def edge_asked_throughput(instance: Data, result: Data, excess: float) -> None:
    result["min_throughput"] = 80.0 / (1 - excess)


def edge_bound(instance: Data, result: Data, excess: float) -> None:
    result.update(bound=44.1045 * (1 - excess), gap=0.0)


def edge_gap(instance: Data, result: Data, excess: float) -> None:
    result["gap"] += 1e3 * excess * 1e-6  # 1e-9, absolute


def edge_optimal_gap(instance: Data, result: Data, excess: float) -> None:
    asked = 0.01
    gap = asked * (1 + excess) + 1e-9
    result.update(gap_tolerance=asked, gap=gap, bound=44.1045 * (1 + gap))


@pytest.mark.parametrize(
    ("rule", "edge"),
    [
        ("demand", edge_demand),
        ("floor", edge_floor),
        ("floor", edge_standalone),
        ("min-accuracy", edge_min_accuracy),
        ("max-latency", edge_max_latency),
        ("memory", edge_memory),
        ("server-overload", edge_capacity),
        ("link-overload", edge_bandwidth),
        ("task-accuracy", edge_task_accuracy),
        ("latency", edge_latency),
        ("server-load", edge_server_load),
        ("link-utilization", edge_link_utilization),
        ("throughput", edge_throughput),
        ("average-accuracy", edge_average_accuracy),
        ("reward", edge_reward),
        ("asked-accuracy", edge_asked_accuracy),
        ("asked-throughput", edge_asked_throughput),
        ("bound", edge_bound),
        ("gap", edge_gap),
        ("optimal-gap", edge_optimal_gap),
    ],
)
def test_the_tolerance_is_one_in_a_million(rule: str, edge: Edge) -> None:
    for excess, expected in ((0.9e-6, []), (1.2e-6, [rule])):
        instance, result = good()
        edge(instance, result, excess)
        assert fired(instance, result) == expected, excess


def test_the_tolerance_can_be_chosen() -> None:
    instance, result = good()
    result["throughput"] *= 1 + 1e-4
    assert fired(instance, result) == ["throughput"]
    assert fired(instance, result, tolerance=1e-3) == []


def test_limits_of_zero_are_exact() -> None:
    instance, result = good()
    instance["tasks"][3]["demand"] = 0.0
    result["min_throughput"] = None
    set_rate(result, "native", 0.0)
    assert fired(instance, result) == []
    set_rate(result, "native", 1e-12)
    assert fired(instance, result) == ["demand"]
    set_rate(result, "native", -1e-12)
    assert fired(instance, result) == ["rate"]


# ---- a value of zero ------------------------------------------------------------------------


def at_rest(bound: float | None, gap: float | None, status: str) -> tuple[Data, Data]:
    """All rates 0, so that throughput and reward are 0."""
    instance, result = good()
    instance["tasks"][0]["floor"] = instance["tasks"][1]["floor"] = 0.0
    result["min_throughput"] = None
    for task in WORK:
        set_rate(result, task, 0.0)
    result.update(bound=bound, gap=gap, status=status)
    return instance, result


@pytest.mark.parametrize(
    ("bound", "gap", "status", "expected"),
    [
        (0.0, 0.0, "optimal", []),
        (None, None, "feasible", []),
        (0.0, 0.0, "feasible", []),
        (1.0, None, "feasible", []),  # no finite gap is right
        (1.0, 0.0, "feasible", ["gap"]),
        (1.0, 1e9, "feasible", ["gap"]),
        (0.0, 0.5, "feasible", ["gap"]),
        (0.0, None, "feasible", ["bound-and-gap"]),
        (-1.0, 0.0, "feasible", ["bound"]),
        (1.0, None, "optimal", ["optimal-gap"]),
    ],
)
def test_gap_to_a_value_of_zero(
    bound: float | None, gap: float | None, status: str, expected: list[str]
) -> None:
    assert fired(*at_rest(bound, gap, status)) == expected


# ---- figures --------------------------------------------------------------------------------


def test_native_drops_and_an_unmeasured_override_count() -> None:
    instance, result = good()
    instance["tasks"][3]["measured_paths"] = []
    result["tasks"][3].update(accuracy=0.49, accuracy_source="predicted")
    assert fired(instance, result) == []


def test_an_adapter_elsewhere_crosses_there_and_back() -> None:
    """A skip on server a with its adapter on b: a -> b and b -> a, 10 bytes each."""
    instance, result = good()
    instance["tasks"][1]["connections"][0]["server"] = "b"
    result["tasks"][1]["latency"] = 8 / 1000 + 3 / 2000 + (10 / 1000 + 0.01) + 0.02
    result["servers"][0].update(load=496.0, utilization=0.496)  # - 42 * 3
    result["servers"][1].update(load=1006.0, utilization=0.503)
    result["links"][0].update(load=580.0, utilization=0.58)  # + 42 * 10
    result["links"][1].update(load=420.0)
    assert fired(instance, result) == []


def test_an_entry_arrives_at_its_adapter_and_crosses_from_there() -> None:
    """Input at c for free, then c -> a, for which a link is needed even with no bytes."""
    instance, result = good()
    instance["tasks"][2]["connections"][0]["server"] = "c"
    assert fired(instance, result)[0] == "path-links"
    instance["links"].append({"source": "c", "target": "a", "bandwidth": 100.0, "latency": 0.001})
    result["links"].append(
        {"source": "c", "target": "a", "load": 0.0, "capacity": 100.0, "utilization": 0.0}
    )
    result["tasks"][2]["latency"] = 6 / 1000 + 1 / 500 + 0.001 + 0.018 + 0.01
    result["servers"][0].update(load=602.0, utilization=0.602)
    result["servers"][2].update(load=30.0, utilization=0.06)
    assert fired(instance, result) == []
    instance["tasks"][2]["connections"][0]["bytes"] = 2.0
    result["tasks"][2]["latency"] += 2 / 100
    result["links"][-1].update(load=40.0, utilization=0.4)
    assert fired(instance, result) == []


def test_an_answer_crosses_to_its_exit_and_leaves_from_there() -> None:
    instance, result = good()
    instance["tasks"][0]["connections"][1].update(server="a", bytes=7.0)  # b -> a
    result["tasks"][0]["latency"] = 0.025 - 2 / 2000 + 2 / 1000 + 0.02
    result["servers"][0].update(load=642.0, utilization=0.642)
    result["servers"][1].update(load=860.0, utilization=0.43)
    result["links"][1]["load"] = 70.0
    assert fired(instance, result) == []


def test_without_links_transfers_are_free() -> None:
    instance, result = good()
    instance["links"], result["links"] = [], []
    result["tasks"][0]["latency"] = 0.01
    result["tasks"][2]["latency"] = 0.017
    assert fired(instance, result) == []


def test_predicted_accuracy_is_capped_at_one() -> None:
    instance, result = good()
    instance["tasks"][2]["connections"][0]["drop"] = -0.9
    result["tasks"][2]["accuracy"] = 1.0
    accuracy = (2 * 0.75 + 0.82 + 1.0) / 4
    result["accuracy"] = accuracy
    set_value(result, accuracy**2 * 80)
    assert fired(instance, result) == []


@pytest.mark.parametrize("accuracy", [0.0, 5e-17])
def test_rounding_does_not_make_a_path_inadmissible(accuracy: float) -> None:
    """0.3 - (0.1 + 0.2) is -5.6e-17 in floating point."""
    instance, result = good()
    instance["tasks"][0].update(accuracy=0.3, min_accuracy=0.0)
    instance["tasks"][0]["connections"][0]["drop"] = 0.1
    instance["tasks"][0]["connections"][1]["drop"] = 0.2
    result["tasks"][0]["accuracy"] = accuracy
    result.update(min_accuracy=None, accuracy=(0.82 + 0.65) / 4)
    set_value(result, result["accuracy"] ** 2 * 80)
    assert fired(instance, result) == []


def test_a_measured_path_is_admissible_whatever_is_predicted() -> None:
    instance, result = good()
    instance["tasks"][1]["connections"][0]["drop"] = 2.0
    assert fired(instance, result) == []


@pytest.mark.parametrize(
    ("change", "rate"),
    [
        (lambda i: None, 1000 / 2 / 12),
        (lambda i: i["tasks"][1].update(demand=30.0), 30.0),
        # a second DNN on the server halves the share, another task no longer native widens it
        (lambda i: i["dnns"][1].update(server="a"), 1000 / 2 / 2 / 12),
        (lambda i: i["tasks"][0].update(dnn="B"), 1000 / 12),
        # an overridden native arc with its adapter on c: 10 bytes a -> c, 1000 bytes c -> a
        (
            lambda i: (
                i["links"].append({"source": "c", "target": "a", "bandwidth": 300.0}),
                i["tasks"][1]["connections"].append(
                    {"source": "A0", "target": "A1", "drop": 0.0, "server": "c", "flops": 20.0}
                ),
            ),
            500.0 / 2 / 20,
        ),
        (
            lambda i: (
                i["links"].append({"source": "c", "target": "a", "bandwidth": 300.0}),
                i["tasks"][1]["connections"].append(
                    {"source": "A0", "target": "A1", "drop": 0.0, "server": "c", "bytes": 100.0}
                ),
            ),
            300.0 / 2 / 100,
        ),
        # a native path that lacks a link cannot run: no rate to protect
        (
            lambda i: i["tasks"][1]["connections"].append(
                {"source": "A0", "target": "A1", "drop": 0.0, "server": "c"}
            ),
            0.0,
        ),
    ],
)
def test_standalone_rate(change: Callable[[Data], Any], rate: float) -> None:
    for factor, expected in ((1.0, False), (1 - 1e-5, rate > 0)):
        instance, result = good()
        change(instance)
        result["tasks"][1]["rate"] = rate * factor
        assert ("floor" in fired(instance, result)) is expected


# ---- input groups ----------------------------------------------------------------------------

# Tasks x and y look at the same input at 10 per second: both run P0, and y's adapter to Q1 is
# x's too. They part behind Q1: x leaves through its own head, y goes on to P2.
GROUPED: Data = {
    "schema": "code-opt/instance/1",
    "name": "grouped",
    "servers": [
        {"id": "p", "flops": 400.0, "memory": 300.0},
        {"id": "q", "flops": 1000.0, "memory": 400.0},
    ],
    "links": [
        {"source": "p", "target": "q", "bandwidth": 1000.0},
        {"source": "q", "target": "p", "bandwidth": 1000.0},
    ],
    "dnns": [
        dnn("P", "p", [5.0, 7.0, 4.0], [50.0, 30.0]),
        dnn("Q", "q", [6.0, 8.0], [20.0, 10.0]),
    ],
    "tasks": [
        {
            "id": "x",
            "dnn": "P",
            "accuracy": 0.9,
            "input_group": "camera",
            "floor": 5.0,
            "demand": 40.0,
            "connections": [
                {
                    "source": "P0",
                    "target": "Q1",
                    "drop": 0.1,
                    "flops": 2.0,
                    "params": 30.0,
                    "share": "low",
                },
                {"source": "Q1", "target": "output", "drop": 0.0, "flops": 1.0, "params": 20.0},
            ],
        },
        {
            "id": "y",
            "dnn": "Q",
            "accuracy": 0.8,
            "input_group": "camera",
            "connections": [
                {"source": "input", "target": "P0", "drop": 0.0, "share": "identity"},
                {
                    "source": "P0",
                    "target": "Q1",
                    "drop": 0.2,
                    "flops": 2.0,
                    "params": 30.0,
                    "share": "low",
                },
                {"source": "Q1", "target": "P2", "drop": 0.1, "flops": 3.0, "params": 25.0},
                {"source": "P2", "target": "output", "drop": 0.0, "flops": 1.0, "params": 5.0},
            ],
        },
    ],
}


def grouped() -> tuple[Data, Data]:
    """Return the instance and the right result for it."""
    rate = 10.0
    # On p: P0 and the adapter 5 + 2, once; y's P2 and head 4 + 1. Latencies: each on its own.
    # On q: Q1 8, once; x's head 1, y's adapter back 3.
    work = {"p": 7.0 + 5.0, "q": 8.0 + 1.0 + 3.0}
    traffic = {("p", "q"): 50.0, ("q", "p"): 10.0}
    result = {
        **RESULT,
        "instance": "grouped",
        "status": "feasible",
        "bound": None,
        "gap": None,
        "min_accuracy": None,
        "min_throughput": None,
        "throughput": 20.0,
        "accuracy": 0.65,
        "reward": 0.65 * 20.0,
        "tasks": [
            {
                "task": "x",
                "path": ("P0", "Q1"),
                "rate": rate,
                "accuracy": 0.8,
                "accuracy_source": "predicted",
                "latency": 7.0 / 400 + 50.0 / 1000 + 9.0 / 1000,
            },
            {
                "task": "y",
                "path": ("P0", "Q1", "P2"),
                "rate": rate,
                "accuracy": 0.5,
                "accuracy_source": "predicted",
                "latency": 12.0 / 400 + 60.0 / 1000 + 11.0 / 1000,
            },
        ],
        "servers": [
            {
                "server": s["id"],
                "load": rate * work[s["id"]],
                "capacity": s["flops"],
                "utilization": rate * work[s["id"]] / s["flops"],
            }
            for s in GROUPED["servers"]
        ],
        "links": [
            {
                "source": a,
                "target": b,
                "load": rate * size,
                "capacity": 1000.0,
                "utilization": rate * size / 1000.0,
            }
            for (a, b), size in traffic.items()
        ],
    }
    return copy.deepcopy(GROUPED), copy.deepcopy(result)


def test_what_a_group_shares_is_paid_once() -> None:
    assert fired(*grouped()) == []


def test_tasks_of_a_group_have_one_rate() -> None:
    instance, result = grouped()
    result["tasks"][1]["rate"] = 9.0
    result["throughput"], result["reward"] = 19.0, 0.65 * 19.0
    # y's own part is now paid 9 times, what it shares still 10 times.
    p, q = 70.0 + 45.0, 90.0 + 27.0
    for row, load in zip(result["servers"], (p, q), strict=True):
        row.update(load=load, utilization=load / row["capacity"])
    result["links"][1].update(load=90.0, utilization=0.09)
    assert fired(instance, result) == ["group-rate"]
    result["tasks"][1]["rate"] = 10.0 * (1 - 5e-7)
    result["throughput"], result["reward"] = 20.0, 0.65 * 20.0
    assert "group-rate" not in fired(instance, result)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: y["connections"][1].update(share=None),
        lambda x, y: x["connections"][0].update(share=None),
        lambda x, y: y["connections"][1].update(share="high"),
        lambda x, y: y.update(input_group="door"),
        lambda x, y: [task.update(input_group=None) for task in (x, y)],
        lambda x, y: y["connections"][0].update(share="low"),
        lambda x, y: x["connections"].append({"source": "input", "target": "P0", "drop": 0.0}),
    ],
)
def test_what_is_not_the_same_is_paid_twice(change: Callable[[Data, Data], Any]) -> None:
    instance, result = grouped()
    change(*instance["tasks"])
    assert {"server-load", "link-load"} <= set(fired(instance, result))


def test_behind_an_adapter_of_ones_own_nothing_is_shared() -> None:
    """From different entries the same blocks see different activations."""
    instance, result = grouped()
    instance["tasks"][1]["connections"][0]["share"] = None
    found = check(build_result(result), build_instance(instance))
    # P0, the adapter and Q1 are paid twice: 70 + 80 FLOP/s more, and 500 bytes/s.
    assert [v.message for v in found if v.rule == "server-load"] == [
        "120 is reported, expected 190",
        "120 is reported, expected 200",
    ]
    assert [v.message for v in found if v.rule == "link-load"] == ["500 is reported, expected 1000"]


def test_shared_adapters_fill_the_memory_once() -> None:
    instance, result = grouped()
    # On p: the adapter 30, y's head 5; on q: x's head 20, y's adapter 25; 4 bytes each.
    for server, used in zip(instance["servers"], (35.0, 45.0), strict=True):
        server["memory"] = 4 * used
    assert fired(instance, result) == []
    for server in instance["servers"]:
        server["memory"] -= 1.0
    assert fired(instance, result) == ["memory", "memory"]


def test_a_shared_prefix_can_overload() -> None:
    instance, result = grouped()
    instance["servers"][0]["flops"] = 119.0
    assert "server-overload" in fired(instance, result)
    instance, result = grouped()
    instance["links"][0]["bandwidth"] = 499.0
    assert "link-overload" in fired(instance, result)


@pytest.mark.parametrize(
    ("change", "rate"),
    [
        # x on P alone: 400 / 16; y on Q alone: 1000 / 14 = 71.4
        (lambda i: None, 25.0),
        (lambda i: i["tasks"][1].update(demand=20.0), 20.0),
        # Q serves another task as well: half of it for the group
        (lambda i: i["tasks"].append({"id": "z", "dnn": "Q", "accuracy": 0.5}), 25.0),
        (lambda i: i["servers"][1].update(flops=280.0), 20.0),
        (
            lambda i: (
                i["servers"][1].update(flops=280.0),
                i["tasks"].append({"id": "z", "dnn": "Q", "accuracy": 0.5}),
            ),
            10.0,
        ),
        # x and y both on P: its trunk runs once for both
        (lambda i: i["tasks"][1].update(dnn="P", connections=[]), 25.0),
        # y's native arcs are changed: 3 FLOP more, and a trunk of its own from P1 on
        (
            lambda i: i["tasks"][1].update(
                dnn="P",
                connections=[{"source": "P0", "target": "P1", "drop": 0.0, "flops": 3.0}],
            ),
            400.0 / (5.0 + 7.0 + 4.0 + 3.0 + 7.0 + 4.0),
        ),
        # another server hosts no more than before, but p now hosts two DNNs
        (
            lambda i: i["dnns"].append(dnn("R", "p", [1.0])),
            12.5,
        ),
    ],
)
def test_standalone_rate_of_a_group(change: Callable[[Data], Any], rate: float) -> None:
    for factor, expected in ((1.0, False), (1 - 1e-5, True)):
        instance, result = grouped()
        change(instance)
        instance["tasks"][1]["floor"] = "standalone"
        for row in result["tasks"]:
            row["rate"] = rate * factor
        assert ("floor" in fired(instance, result)) is expected


# ---- rewards --------------------------------------------------------------------------------


def with_reward(accuracy: Data, throughput: Data, reward: float) -> list[str]:
    instance, result = good()
    instance["reward"] = {"accuracy": accuracy, "throughput": throughput}
    result.update(status="feasible", bound=None, gap=None, reward=reward)
    return fired(instance, result)


FLAT = {"kind": "power", "exponent": 0.0}


@pytest.mark.parametrize(
    ("accuracy", "throughput", "reward"),
    [
        (FLAT, FLAT, 1.0),
        (FLAT, {"kind": "power", "exponent": 0.5}, math.sqrt(80.0)),
        ({"kind": "exponential", "rate": 3.0}, FLAT, math.exp(3 * A_AV)),
        (
            {"kind": "logistic", "steepness": 10.0, "midpoint": 0.7},
            {"kind": "logistic", "steepness": 0.05, "midpoint": 100.0},
            1 / (1 + math.exp(-0.425)) / (1 + math.exp(1.0)),
        ),
        # steep ones: neither overflow nor underflow stops the check
        (FLAT, {"kind": "logistic", "steepness": 1e3, "midpoint": 0.0}, 1.0),
        (FLAT, {"kind": "logistic", "steepness": 1e3, "midpoint": 100.0}, 0.0),
        ({"kind": "power", "exponent": 2500.0}, {"kind": "exponential", "rate": 10.0}, None),
    ],
)
def test_reward_kinds(accuracy: Data, throughput: Data, reward: float | None) -> None:
    if reward is None:  # 0.7425 ** 2500 * exp(800): each factor alone leaves the range
        reward = math.exp(2500 * math.log(A_AV) + 800)
    assert with_reward(accuracy, throughput, reward) == []
    assert with_reward(accuracy, throughput, reward * 1.001 + 1e-300) == ["reward"]


def test_a_reward_beyond_all_numbers_is_not_confirmed() -> None:
    assert with_reward(FLAT, {"kind": "exponential", "rate": 100.0}, 1e308) == ["reward"]


def test_figures_beyond_all_numbers_are_not_confirmed() -> None:
    instance, result = good()
    instance["dnns"][1]["blocks"][0]["flops"] = 1e308
    assert {"latency", "server-load", "server-overload"} <= set(fired(instance, result))


# ---- corners ----------------------------------------------------------------------------------


def test_a_gap_is_never_negative_however_little() -> None:
    instance, result = good()
    result.update(bound=44.1045, gap=-1e-12)
    assert fired(instance, result) == ["gap"]


def test_a_bound_that_rounds_below_the_value_has_a_gap_of_zero() -> None:
    instance, result = good()
    result.update(bound=44.1045 * (1 - 1e-9), gap=0.0, gap_tolerance=0.0)
    assert fired(instance, result) == []


def test_an_asked_gap_of_zero_leaves_room_for_rounding() -> None:
    for gap, expected in ((0.9e-9, []), (1.2e-9, ["optimal-gap"])):
        instance, result = good()
        result.update(gap_tolerance=0.0, gap=gap, bound=44.1045 * (1 + gap))
        assert fired(instance, result) == expected


@pytest.mark.parametrize(
    ("objective", "rule"), [("throughput", "throughput"), ("accuracy", "average-accuracy")]
)
def test_the_bound_is_judged_on_the_recomputed_value(objective: str, rule: str) -> None:
    instance, result = good()
    result.update(objective=objective, bound=result[objective], gap=0.0)
    result[objective] *= 1.1
    assert fired(instance, result) == [rule]


def test_a_constant_reward_is_one_even_at_rest() -> None:
    instance, result = at_rest(1.0, 0.0, "optimal")
    instance["reward"] = {"accuracy": FLAT, "throughput": FLAT}
    result["reward"] = 1.0
    assert fired(instance, result) == []


def test_a_negative_reward_is_refused_where_the_right_one_underflows() -> None:
    steep = {"kind": "logistic", "steepness": 1e3, "midpoint": 100.0}
    assert with_reward(FLAT, steep, -1.0) == ["reward"]


def test_floors_of_accuracy_allow_for_the_rounding_of_the_prediction() -> None:
    """0.300000000001 - 0.1 - 0.2 keeps only four digits of 1e-12."""
    instance, result = good()
    for task in instance["tasks"][1:]:
        task["weight"] = 0.0
    instance["tasks"][0].update(accuracy=0.3 + 1e-12, min_accuracy=1.01e-12)
    instance["tasks"][0]["connections"][0]["drop"] = 0.1
    instance["tasks"][0]["connections"][1]["drop"] = 0.2
    predicted = 0.3 + 1e-12 - (0.1 + 0.2)
    result["tasks"][0]["accuracy"] = predicted
    result.update(accuracy=predicted, min_accuracy=1.01e-12)
    set_value(result, predicted**2 * 80)
    assert fired(instance, result) == []


# Inputs that are sent


def sent() -> tuple[Instance, Result]:
    """A camera at `gate`, the networks of its two tasks at `hall`; the input crosses once."""
    task: Data = {
        "dnn": "d",
        "accuracy": 0.9,
        "input_group": "camera",
        "input_bytes": 100.0,
        "origin": "gate",
    }
    instance = Instance.model_validate(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "gate", "flops": 1000.0}, {"id": "hall", "flops": 1000.0}],
            "links": [
                {"source": "gate", "target": "hall", "bandwidth": 2000.0, "latency": 0.01},
                {"source": "hall", "target": "gate"},
            ],
            "dnns": [
                {"id": "d", "server": "hall", "blocks": [{"id": "d/0", "flops": 20.0}]},
                {"id": "e", "server": "hall", "blocks": [{"id": "e/0", "flops": 30.0}]},
            ],
            "tasks": [{**task, "id": "t"}, {**task, "id": "u", "dnn": "e"}],
        }
    )
    rows = [
        TaskResult(
            task=name,
            path=(block,),
            rate=10.0,
            accuracy=0.9,
            accuracy_source="predicted",
            latency=0.06 + work / 1000.0,  # 50 ms on the link, 10 ms of way
        )
        for name, block, work in (("t", "d/0", 20.0), ("u", "e/0", 30.0))
    ]
    result = Result(
        instance="",
        method="lns",
        status="feasible",
        reward=18.0,
        throughput=20.0,
        accuracy=0.9,
        tasks=tuple(rows),
        servers=(
            ServerResult(server="gate", load=0.0, capacity=1000.0, utilization=0.0),
            ServerResult(server="hall", load=500.0, capacity=1000.0, utilization=0.5),
        ),
        links=(
            LinkResult(source="gate", target="hall", load=1e3, capacity=2e3, utilization=0.5),
            LinkResult(source="hall", target="gate", load=0.0, capacity=None, utilization=None),
        ),
    )
    return instance, result


def rules_broken(instance: Instance, result: Result) -> set[str]:
    return {violation.rule for violation in check(result, instance)}


def test_an_input_crosses_once_for_its_group() -> None:
    instance, result = sent()
    assert rules_broken(instance, result) == set()
    # Two inputs of 50 bytes are not one of 100, if they are not the same.
    apart = tuple(t.model_copy(update={"input_group": None}) for t in instance.tasks)
    own = instance.model_copy(update={"tasks": apart})
    assert rules_broken(own, result) == {"link-load", "link-utilization"}


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"input_bytes": 99.0}, {"latency", "link-load", "link-utilization"}),
        ({"input_bytes": 300.0}, {"latency", "link-load", "link-utilization", "link-overload"}),
        ({"origin": None}, {"latency", "link-load", "link-utilization"}),
        ({"origin": "hall"}, {"latency", "link-load", "link-utilization"}),
        ({"floor": "standalone"}, set()),
        ({"max_latency": 0.07}, {"max-latency"}),
    ],
)
def test_what_inputs_take_is_recomputed(change: Data, rules: set[str]) -> None:
    instance, result = sent()
    tasks = tuple(task.model_copy(update=change) for task in instance.tasks)
    assert rules_broken(instance.model_copy(update={"tasks": tasks}), result) == rules


def test_inputs_need_their_links() -> None:
    instance, result = sent()
    back = instance.model_copy(update={"links": instance.links[1:]})
    result = result.model_copy(update={"links": result.links[1:]})
    assert rules_broken(back, result) == {"path-links"}


def test_a_link_that_native_inputs_cross_is_divided_by_their_networks() -> None:
    """Each network has half of the link: 10 inputs a second, that is what each task runs at."""
    instance, result = sent()
    tasks = tuple(
        task.model_copy(update={"input_group": None, "floor": "standalone"})
        for task in instance.tasks
    )
    alone = instance.model_copy(update={"tasks": tasks})
    link = result.links[0].model_copy(update={"load": 2e3, "utilization": 1.0})
    result = result.model_copy(update={"links": (link, result.links[1])})
    assert rules_broken(alone, result) == set()
    less = tuple(row.model_copy(update={"rate": 9.9}) for row in result.tasks)
    assert "floor" in rules_broken(alone, result.model_copy(update={"tasks": less}))
