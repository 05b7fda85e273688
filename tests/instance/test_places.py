"""Changes at named places of an instance: what is set, and what is said of wrong places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from code_opt.instance import Instance, InstanceError, load_instance

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def instance() -> Instance:
    return load_instance(DATA / "digits" / "instance.json")


def test_values_are_set_at_any_depth(instance: Instance) -> None:
    changed = instance.with_(
        {
            "name": "changed",
            "reward.accuracy.exponent": 4,
            "tasks[parity].floor": "standalone",
            "tasks[1].demand": 7.0,
            "servers[*].flops": 2e9,
            "links[edge-a->edge-b].bandwidth": 5.0,
            "dnns[alexnet].blocks[alexnet/0].flops": 3.0,
            "reward.throughput": {"kind": "exponential", "rate": 0.01},
        }
    )
    assert changed.name == "changed"
    assert changed.to_dict()["reward"] == {
        "accuracy": {"kind": "power", "exponent": 4.0},
        "throughput": {"kind": "exponential", "rate": 0.01},
    }
    assert (changed.tasks[1].floor, changed.tasks[1].demand) == ("standalone", 7.0)
    assert [server.flops for server in changed.servers] == [2e9, 2e9]
    assert changed.links[0].bandwidth == 5.0
    assert changed.dnns[0].blocks[0].flops == 3.0
    assert instance.name == "digits"


def test_an_id_that_looks_like_an_index_is_an_id(instance: Instance) -> None:
    data = instance.to_dict()
    servers = [{**data["servers"][0], "id": "9"}, *data["servers"], {"id": "0", "flops": 1.0}]
    numbered = instance.replace(servers=servers)
    assert numbered.with_({"servers[0].flops": 5.0}).servers[3].flops == 5.0
    assert numbered.with_({"servers[1].flops": 5.0}).servers[1].flops == 5.0


def test_an_id_may_hold_brackets_and_dots(instance: Instance) -> None:
    data = instance.to_dict()
    data["tasks"][0]["id"] = "a.b[c]=d"
    odd = instance.replace(tasks=data["tasks"])
    assert odd.with_({"tasks[a.b[c]=d].demand": 5.0}).tasks[0].demand == 5.0


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("tasks[digt].floor", "there is no 'digt'; did you mean 'digit'?"),
        ("servers[2].flops", "[2] is beyond the last of 2 entries"),
        ("rewrd.accuracy", "unknown field 'rewrd'; did you mean 'reward'?"),
        ("tasks.floor", "an entry in brackets is expected where .floor stands"),
        ("name.x", "no further field is expected where .x stands"),
        ("reward[0]", "[0] needs a list before it"),
        ("links[edge-a->edge-c].latency", "there is no 'edge-a->edge-c'"),
        ("blocks[alexnet/0]", "is a whole block; name a field of it, or dnns[ID].blocks[ID]"),
        *((wrong, "is no place; places look like") for wrong in ("[0]", "a..b", "", ".x", "a b")),
    ],
)
def test_a_wrong_place_is_said(instance: Instance, place: str, message: str) -> None:
    with pytest.raises(InstanceError) as caught:
        instance.with_({place: 1.0})
    (problem,) = caught.value.problems
    assert problem.place == place
    assert problem.message.startswith(message)


def test_a_field_is_set_once_but_for_exceptions_from_all(instance: Instance) -> None:
    exception = {"servers[*].flops": 2e9, "servers[edge-b].flops": 3e9}
    assert [server.flops for server in instance.with_(exception).servers] == [2e9, 3e9]
    twice = [
        ("servers[edge-a].flops", "servers[0].flops"),
        ("servers[edge-a].flops", "servers[*].flops"),
        ("dnns[alexnet].blocks[alexnet/0].flops", "blocks[alexnet/0].flops"),
    ]
    for first, second in twice:
        with pytest.raises(InstanceError) as caught:
            instance.with_({first: 2e9, second: 3e9})
        (problem,) = caught.value.problems
        assert problem.place == second
        assert problem.message == f"sets what {first} sets, too; give one of them"


def test_every_problem_is_told_at_once(instance: Instance) -> None:
    changes: dict[str, Any] = {
        "tasks[digt].floor": 1.0,
        "reward.accuracy.exponnt": 4,
        "tasks[digit].demand": "x",
        "servers[edge-a].flops": -1.0,
    }
    with pytest.raises(InstanceError) as caught:
        instance.with_(changes, source="here")
    assert caught.value.source == "here"
    assert sorted(problem.place for problem in caught.value.problems) == [
        "reward.accuracy.exponnt",
        "servers[0].flops",
        "tasks[0].demand",
        "tasks[digt].floor",
    ]
