"""Infeasible instances: the requirement that fails and the least change that helps."""

from __future__ import annotations

import re

import pytest

from code_opt.generate import generate
from code_opt.instance import parse_instance
from code_opt.solving import solve


def base(**task):
    return {
        "schema": "code-opt/instance/1",
        "name": "tight",
        "servers": [{"id": "s", "flops": 100.0}],
        "dnns": [{"id": "d", "server": "s", "blocks": [{"id": "a", "flops": 10}]}],
        "tasks": [{"id": "t", "dnn": "d", "accuracy": 0.8, **task}],
    }


def explain(data, **options):
    result = solve(parse_instance(data), **options)
    assert result.status == "infeasible"
    assert not result.has_solution
    return result.message


def test_a_floor_above_the_capacity():
    message = explain(base(floor=12.0))
    assert "floor of task 't' from 12 to 10 inferences/s" in message
    assert "server s from 100 to 120 FLOP/s (+20 %)" in message


def test_an_accuracy_nobody_reaches():
    message = explain(base(min_accuracy=0.9))
    assert "task 't': no path has accuracy >= 0.9 (best 0.8)" in message
    assert "min_accuracy of task 't' from 0.9 to 0.8" in message


def test_a_latency_nobody_reaches():
    message = explain(base(max_latency=0.05))
    assert "no path has latency <= 0.05 s (best 0.1 s)" in message
    assert "max_latency of task 't' from 0.05 to 0.1 s" in message


def test_memory_is_named_when_it_is_short():
    data = base(min_accuracy=0.85)
    data["servers"][0]["memory"] = 100.0
    data["tasks"][0]["connections"] = [
        {"source": "a", "target": "output", "drop": -0.1, "params": 50.0}
    ]
    message = explain(data)
    assert "memory s from 100 to 200 bytes (+100 %)" in message


def test_floors_on_the_totals():
    message = explain(base(), min_throughput=20.0)
    assert "floor of the throughput from 20 to 10 inferences/s" in message
    message = explain(base(), min_accuracy=0.9)
    assert "floor of the average accuracy from 0.9 to 0.8" in message


def test_several_kinds_together():
    message = explain(base(floor=12.0, max_latency=0.05))
    assert "needs several kinds" in message


def test_no_path_at_all_for_want_of_links():
    data = base()
    data["servers"].append({"id": "r", "flops": 100.0})
    data["servers"].append({"id": "q", "flops": 100.0})
    data["links"] = [{"source": "s", "target": "r"}]
    data["dnns"][0]["blocks"].append({"id": "b", "flops": 1})
    data["tasks"][0]["connections"] = [
        {"source": "a", "target": "b", "drop": 0.0, "server": "q", "flops": 1.0}
    ]
    message = explain(data)
    assert "task 't' has no path at all" in message


@pytest.mark.parametrize(("seed", "groups"), [(0, None), (1, None), (2, None), (1, (2, 3))])
def test_the_least_change_is_enough_and_nothing_less(seed, groups):
    """Applying the change of capacities makes the instance feasible; 1 % less does not."""
    data = generate(4, seed=seed, groups=groups).to_dict()
    for task in data["tasks"]:
        task["floor"] = 700.0
        task["demand"] = None
    message = explain(data)
    change = next(line for line in message.splitlines() if "raise the capacities" in line)
    grown = re.findall(r"server (\S+) from \S+ to (\S+) FLOP/s", change)
    assert grown
    for share, status in ((1.0 + 1e-5, "optimal"), (0.99, "infeasible")):
        changed = {**data, "servers": [dict(s) for s in data["servers"]]}
        for server in changed["servers"]:
            for name, flops in grown:
                if server["id"] == name:
                    server["flops"] = float(flops) * share
        assert solve(parse_instance(changed)).status == status


def test_the_floor_of_a_group_is_one_change():
    """Both tasks need 10 FLOP together: 10 per second, not the 12 of one of them."""
    data = base(floor=12.0, input_group="camera")
    data["tasks"].append({**data["tasks"][0], "id": "u", "floor": 0.0})
    message = explain(data)
    assert "floor of input group 'camera' from 12 to 10 inferences/s" in message
    assert "server s from 100 to 120 FLOP/s (+20 %)" in message
    assert message.count("floor of") == 1
    # Apart they would need twice as much.
    for task in data["tasks"]:
        task["connections"] = [{"source": "input", "target": "a", "drop": 0.0}]
    message = explain(data)
    assert "floor of input group 'camera' from 12 to 5 inferences/s" in message
    assert "server s from 100 to 240 FLOP/s (+140 %)" in message
