"""Rules between the parts: what they accept, how they bear with other problems, hostile data."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from code_opt.errors import InputError
from code_opt.instance import (
    Instance,
    InstanceError,
    Problem,
    load_instance,
    parse_instance,
    save_instance,
)
from code_opt.instance.problems import hint, place_of, shown
from tests.counting import calls
from tests.instance.examples import instances, large, small


def problems(data: Any) -> list[str]:
    with pytest.raises(InstanceError) as caught:
        parse_instance(data)
    return [str(problem) for problem in caught.value.problems]


def native(name: str) -> list[str]:
    return [f"{name}/{k}" for k in range(3)]


# Accepted


@pytest.mark.parametrize(("part", "farthest"), [("accuracy", 1e12), ("throughput", 1e18)])
def test_a_midpoint_at_the_end_of_its_range_is_accepted(part: str, farthest: float) -> None:
    shape = {"kind": "logistic", "steepness": 1.0}
    data = small() | {"reward": {part: shape | {"midpoint": farthest}}}
    assert parse_instance(data)
    data["reward"][part] = shape | {"midpoint": -1.01 * farthest}
    (found,) = problems(data)
    assert f"must lie between -{farthest:g} and {farthest:g}" in found


@pytest.mark.parametrize("price", [2e12, 1e-12])
def test_what_nobody_priced_is_compared_with_no_price(price: float) -> None:
    data = small()
    data["servers"][0]["cost"] = price
    assert parse_instance(parse_instance(data).to_dict()) == parse_instance(data)


def test_a_weight_that_is_left_out_is_compared_as_1() -> None:
    data = small()
    data["tasks"].append({**data["tasks"][0], "id": "heavy", "weight": 6e12})
    data["tasks"][0].pop("weight", None)
    (found,) = problems(data)
    assert "tasks[0].weight = 1.0" in found
    assert "tasks[1].weight = 6000000000000.0 is more than 1e+12 times as large" in found


def test_a_small_instance_is_accepted() -> None:
    instance = parse_instance(small())
    assert instance.tasks[0].floor == 0.0
    assert instance.tasks[0].connections[1].target == "output"


@pytest.mark.parametrize(
    "blocks",
    [
        native("alexnet"),
        ["alexnet/0", "mobilenet/1", "mobilenet/2"],
    ],
)
def test_measured_paths_of_the_graph_are_accepted(blocks: list[str]) -> None:
    data = small()
    data["tasks"][0]["measured_paths"] = [{"blocks": blocks, "accuracy": 0.7}]
    assert parse_instance(data).tasks[0].measured_paths[0].blocks == tuple(blocks)


def test_a_measured_path_may_cross_a_listed_link() -> None:
    data = small()
    data["links"] = [{"source": "edge-a", "target": "edge-b"}]
    path = {"blocks": ["alexnet/0", "mobilenet/1", "mobilenet/2"], "accuracy": 0.7}
    data["tasks"][0]["measured_paths"] = [path]
    parse_instance(data)
    # An adapter elsewhere needs both hops.
    data["servers"].append({"id": "edge-c", "flops": 1e9})
    data["tasks"][0]["connections"][0]["server"] = "edge-c"
    assert problems(data) == [
        "tasks[0].measured_paths[0].blocks: no path: alexnet/0 -> mobilenet/1 needs a link "
        "from edge-a to edge-c, which is not listed"
    ]
    data["links"] += [
        {"source": "edge-a", "target": "edge-c"},
        {"source": "edge-c", "target": "edge-b"},
    ]
    parse_instance(data)


def test_a_native_arc_may_be_listed_to_change_its_numbers() -> None:
    data = small()
    data["tasks"][0]["connections"] += [
        {"source": "alexnet/0", "target": "alexnet/1", "drop": 0.0},
        {"source": "input", "target": "alexnet/0", "drop": 0.0},
        {"source": "alexnet/2", "target": "output", "drop": 0.0},
    ]
    parse_instance(data)


def test_ids_of_different_kinds_may_be_equal() -> None:
    data = small()
    data["servers"].append({"id": "input", "flops": 1.0})
    data["tasks"][0]["id"] = "alexnet"
    parse_instance(data)


def test_a_graph_without_a_cycle_is_accepted_in_both_directions_between_dnns() -> None:
    data = small()
    data["tasks"][0]["connections"] += [
        {"source": "mobilenet/1", "target": "alexnet/1", "drop": 0.0},
        {"source": "mobilenet/0", "target": "alexnet/0", "drop": 0.0},
        {"source": "alexnet/1", "target": "mobilenet/2", "drop": 0.0},
        {"source": "alexnet/0", "target": "alexnet/2", "drop": 0.0},
    ]
    parse_instance(data)


def test_zero_work_is_accepted_where_the_rate_is_limited() -> None:
    data = small()
    for block in data["dnns"][0]["blocks"]:
        block["flops"] = 0.0
    assert len(problems(data)) == 1
    limited = small()
    limited["dnns"] = data["dnns"]
    limited["tasks"][0]["demand"] = 5.0
    parse_instance(limited)
    # Work of the adapter on a changed native arc.
    data["tasks"][0]["connections"].append(
        {"source": "input", "target": "alexnet/0", "drop": 0.0, "flops": 1.0}
    )
    parse_instance(data)


def test_a_limited_link_limits_the_rate_only_if_bytes_cross_it() -> None:
    data = small()
    for block in (data["dnns"][0]["blocks"][0], *data["dnns"][1]["blocks"]):
        block["flops"] = 0.0
    data["links"] = [{"source": "edge-a", "target": "edge-b", "bandwidth": 1e6}]
    parse_instance(data)
    data["links"][0]["bandwidth"] = None
    assert "alexnet/0 > mobilenet/1 > mobilenet/2" in problems(data)[0]
    data["links"][0]["bandwidth"] = 1e6
    data["tasks"][0]["connections"][0]["bytes"] = 0.0
    assert "alexnet/0 > mobilenet/1 > mobilenet/2" in problems(data)[0]
    # Without the link that it needs, the connection cannot be used at all.
    data["links"] = [{"source": "edge-b", "target": "edge-a"}]
    parse_instance(data)


# Input groups


def group(*changes: dict[str, Any]) -> dict[str, Any]:
    """Return an instance of which each change makes a task with the group ``camera``."""
    data = small()
    (task,) = data["tasks"]
    data["tasks"] = [
        {**copy.deepcopy(task), "id": f"t{i}", "input_group": "camera", **change}
        for i, change in enumerate(changes)
    ]
    return data


def test_tasks_of_a_group_may_share_adapters_whose_numbers_agree() -> None:
    data = group({}, {"floor": "standalone", "demand": 5.0})
    for drop, size, task in zip((0.1, 0.2), (None, 4096.0), data["tasks"], strict=True):
        entry = {"source": "input", "target": "mobilenet/0", "share": "identity", "drop": drop}
        cross = {"share": "low", "flops": 1e6, "bytes": size, "server": "edge-a"}
        task["connections"][0] |= cross
        task["connections"].append(entry)
    data["tasks"][1]["connections"][0]["server"] = None  # the source's own server
    parse_instance(data)
    # Other tasks may use the same name for something else.
    other = copy.deepcopy(data["tasks"][0]) | {"id": "other", "input_group": None}
    other["connections"][0]["flops"] = 5.0
    data["tasks"].append(other)
    parse_instance(data)


@pytest.mark.parametrize("field", ["flops", "params", "bytes", "server"])
def test_the_same_adapter_has_the_same_numbers(field: str) -> None:
    data = group({}, {}, {})
    for task in data["tasks"]:
        task["connections"][1]["share"] = "head"
    data["tasks"][2]["connections"][1][field] = "edge-a" if field == "server" else 7.0
    (found,) = problems(data)
    assert found.startswith(f"tasks[2].connections[1].{field}")
    assert found.endswith(f"the same adapter must have the same {field}")
    data["tasks"][2]["input_group"] = None
    parse_instance(data)


@pytest.mark.parametrize(
    ("field", "first", "other", "message"),
    [
        ("input_bytes", 5e4, 4e4, "tasks[2].input_bytes = 40000.0: {} 50000.0 as in {}"),
        ("input_bytes", 5e4, 0.0, "tasks[2].input_bytes = 0.0: {} 50000.0 as in {}"),
        ("origin", "edge-a", "edge-b", "tasks[2].origin = 'edge-b': {} 'edge-a' as in {}"),
        ("origin", "edge-a", None, "tasks[2].origin: {} 'edge-a' as in {}"),
        ("origin", None, "edge-a", "tasks[2].origin = 'edge-a': {} null as in {}"),
    ],
)
def test_the_tasks_of_a_group_have_the_same_input(
    field: str, first: Any, other: Any, message: str
) -> None:
    data = group({field: first}, {field: first}, {field: other})
    rule = "the tasks of an input group have the same input: must be"
    assert problems(data) == [message.format(rule, f"tasks[0].{field}")]
    data["tasks"][2]["input_group"] = None
    parse_instance(data)


def test_alternatives_are_other_networks_and_stand_there_once() -> None:
    data = small()
    data["tasks"][0]["alternatives"] = [
        {"dnn": "mobilenet", "accuracy": 0.7, "samples": 100},
        {"dnn": "alexnet", "accuracy": 0.7},
        {"dnn": "mobilnet", "accuracy": 1.2, "samples": -1.0},
        {"dnn": "mobilenet", "accuracy": 0.6, "size": 3},
    ]
    here = "tasks[0].alternatives"
    assert problems(data) == [
        f"{here}[1].dnn = 'alexnet': is the task's own DNN, whose path is native already",
        f"{here}[2].accuracy = 1.2: must be at most 1",
        f"{here}[2].dnn = 'mobilnet': no such DNN; did you mean 'mobilenet'?",
        f"{here}[2].samples = -1.0: must be at least 1",
        f"{here}[3].dnn = 'mobilenet': {here}[0] is this alternative already",
        f"{here}[3].size = 3: unknown field; known: 'dnn', 'accuracy', 'samples'",
    ]
    data["tasks"][0]["alternatives"] = data["tasks"][0]["alternatives"][:1]
    assert parse_instance(data).tasks[0].alternatives[0].samples == 100.0


def test_an_alternative_without_work_does_not_limit_the_rate() -> None:
    data = small()
    for block in data["dnns"][1]["blocks"]:
        block["flops"] = 0.0
    data["tasks"] = [
        data["tasks"][0]
        | {"connections": [], "alternatives": [{"dnn": "mobilenet", "accuracy": 0.7}]}
    ]
    assert problems(data) == [
        "tasks[0].demand: is required: nothing limits the rate of the path mobilenet/0 > "
        "mobilenet/1 > mobilenet/2, which has no work and crosses no limited link"
    ]
    data["tasks"][0]["demand"] = 5.0
    parse_instance(data)


def test_inputs_are_sent_from_a_server_that_is_there() -> None:
    data = small()
    data["tasks"][0] |= {"origin": "edge-x", "input_bytes": -1.0}
    assert problems(data) == [
        "tasks[0].input_bytes = -1.0: must be at least 0",
        "tasks[0].origin = 'edge-x': no such server; did you mean 'edge-b'?",
    ]
    data["tasks"][0] |= {"origin": "edge-b", "input_bytes": 1e19}
    assert problems(data) == [
        "tasks[0].input_bytes = 1e+19: is beyond the supported range, 1e-12 to 1e+18 bytes "
        "(MB typed for bytes?)"
    ]


def test_a_measured_path_needs_links_for_its_input() -> None:
    data = small()
    data["links"] = [{"source": "edge-a", "target": "edge-b"}]
    data["tasks"][0] |= {
        "origin": "edge-b",
        "measured_paths": [{"blocks": native("alexnet"), "accuracy": 0.7}],
    }
    assert problems(data) == [
        "tasks[0].measured_paths[0].blocks: no path: input -> alexnet/0 needs a link from edge-b "
        "to edge-a, which is not listed"
    ]
    data["links"].append({"source": "edge-b", "target": "edge-a"})
    parse_instance(data)


def test_inputs_on_a_limited_link_limit_the_rate() -> None:
    data = small()
    data["links"] = [{"source": "edge-b", "target": "edge-a", "bandwidth": 1e6}]
    for block in data["dnns"][0]["blocks"]:
        block["flops"] = 0.0
    data["tasks"] = [data["tasks"][0] | {"connections": [], "origin": "edge-b"}]
    assert len(problems(data)) == 1
    data["tasks"][0]["input_bytes"] = 10.0
    parse_instance(data)


def test_the_floors_of_a_group_are_below_the_demands_of_all_its_tasks() -> None:
    data = group({"demand": 9.0, "floor": 7.0}, {"demand": 8.0}, {"floor": "standalone"})
    parse_instance(data)
    data["tasks"][1]["demand"] = 6.0
    assert len(problems(data)) == 1


def test_what_limits_one_task_of_a_group_limits_them_all() -> None:
    data = group({}, {"demand": 5.0})
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["flops"] = 0.0
    parse_instance(data)
    data["tasks"][1]["demand"] = None
    assert len(problems(data)) == 1
    # Every path of one task has work.
    data["tasks"][1]["connections"] = [
        {"source": "input", "target": "alexnet/0", "drop": 0.0, "flops": 1.0}
    ]
    parse_instance(data)


# Cycles


@pytest.mark.parametrize("seed", range(30))
def test_a_cycle_is_found_exactly_where_there_is_one(seed: int) -> None:
    rng = random.Random(seed)
    data = small()
    blocks = [*native("alexnet"), *native("mobilenet")]
    pairs = [(a, b) for a in blocks for b in blocks if a != b]
    chosen = rng.sample(pairs, rng.randint(1, 5))
    connections = [{"source": a, "target": b, "drop": 0.0} for a, b in chosen]
    data["tasks"][0]["connections"] = connections
    arcs = {*chosen, *zip(blocks[:2], blocks[1:3], strict=True)}
    arcs |= set(zip(blocks[3:5], blocks[4:], strict=True))
    reached = set(arcs)  # transitive closure, by brute force
    for _ in blocks:
        reached |= {(a, d) for a, b in reached for c, d in reached if b == c}
    if any(a == b for a, b in reached):
        (message,) = problems(data)
        nodes = message.split("has a cycle: ")[1].split(" -> ")
        assert nodes[0] == nodes[-1]
        assert len(set(nodes)) == len(nodes) - 1
        assert set(zip(nodes[:-1], nodes[1:], strict=True)) <= arcs
    else:
        parse_instance(data)


def test_a_long_cycle_is_shortened() -> None:
    data = small()
    data["dnns"][0]["blocks"] = [{"id": f"a/{k}", "flops": 1.0} for k in range(100)]
    data["tasks"][0]["connections"] = [{"source": "a/99", "target": "a/0", "drop": 0.0}]
    assert problems(data)[0].endswith(
        "a/99 -> a/0 -> a/1 -> a/2 -> a/3 -> a/4 -> ... -> "
        "a/94 -> a/95 -> a/96 -> a/97 -> a/98 -> a/99"
    )


# Many problems at once


def test_a_broken_part_does_not_make_the_rest_look_wrong() -> None:
    data = small()
    data["servers"][0]["id"] = 7  # the DNN's reference to edge-a is fine
    data["dnns"][1]["blocks"][1] = None  # so are the connections to mobilenet/1
    data["tasks"][0]["floor"] = "no"
    data["tasks"].append({"id": "scenes", "dnn": "mobilnet", "accuracy": 0.7})  # DNNs are known
    assert problems(data) == [
        "servers[0].id = 7: must be text, in quotes if it looks like a number",
        "dnns[1].blocks[1] = null: must be an object with named fields",
        "tasks[0].floor = 'no': must be a number of at least 0, or 'standalone'",
        "tasks[1].dnn = 'mobilnet': no such DNN; did you mean 'mobilenet'?",
    ]


def test_a_broken_connection_leaves_measured_paths_undecided() -> None:
    data = small()
    data["tasks"][0]["connections"][0]["target"] = 5
    path = {"blocks": ["alexnet/0", "mobilenet/1", "mobilenet/2"], "accuracy": 0.7}
    data["tasks"][0]["measured_paths"] = [path]
    assert len(problems(data)) == 1


def test_the_message_lists_fifty_problems_and_counts_the_rest() -> None:
    data = small()
    data["tasks"][0]["connections"] = [
        {"source": "alexnet/0", "target": f"nowhere/{k}", "drop": 0.0} for k in range(70)
    ]
    with pytest.raises(InstanceError) as caught:
        parse_instance(data, source="x.json")
    lines = str(caught.value).splitlines()
    assert len(caught.value.problems) == 70
    assert lines[0] == "x.json: 70 problems"
    assert len(lines) == 52
    assert lines[-1] == "  ... and 20 more"


def test_the_error_can_be_handed_to_other_processes() -> None:
    error = InstanceError("x.json", [Problem("servers", "must be a list", "7")])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "x.json: servers = 7: must be a list"
    assert copy.problems == error.problems
    assert isinstance(error, InputError)


# Changing


def test_replace_checks_and_leaves_the_original() -> None:
    instance = parse_instance(small())
    changed = instance.replace(servers=(*instance.servers, {"id": "edge-c", "flops": 1.0}))
    assert [server.id for server in changed.servers] == ["edge-a", "edge-b", "edge-c"]
    assert len(instance.servers) == 2
    task = instance.tasks[0].model_copy(update={"dnn": "vgg"})
    with pytest.raises(InstanceError, match=r"tasks\[0\]\.dnn = 'vgg': no such DNN"):
        instance.replace(tasks=(task,))
    with pytest.raises(InstanceError, match="unknown field; did you mean 'name'"):
        instance.replace(nam="x")


def test_records_are_immutable() -> None:
    instance = parse_instance(small())
    with pytest.raises(ValueError, match="frozen"):
        instance.servers[0].flops = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        instance.name = "x"  # type: ignore[misc]


def test_records_may_be_given_in_place_of_objects() -> None:
    instance = parse_instance(small())
    data = small() | {"servers": list(instance.servers), "tasks": instance.tasks}
    assert parse_instance(data) == instance


# Hostile data


JUNK: list[Any] = [None, True, 0, -1, 10**400, float("nan"), float("inf"), "", "x", "\ud800"]
JUNK += [
    "input",
    "output",
    "a>b",
    " ",
    "\x00",
    "x" * 10**6,
    [],
    {},
    [[]],
    [None],
    {"": 1},
    {"id": 1},
]
JUNK += [{"\ud800": 1}, {7: 7}, {"kind": None}, {"kind": []}, {"kind": "power"}, b"x", {1, 2}]
JUNK += [object(), (), 1j, "power", "alexnet/0", "edge-a", -0.0, 5e-324, {"x" * 1000: 1}]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items if isinstance(value, (dict, list)) else ():
        found += places(item, (*at, key)) if isinstance(item, (dict, list)) else [(*at, key)]
    return found


@settings(max_examples=400, deadline=None)
@given(data=instances() | st.builds(small), random=st.randoms(use_true_random=False))
def test_nothing_but_an_instance_error_comes_from_bad_data(data: Any, random: Any) -> None:
    for _ in range(random.randint(1, 4)):
        *way, last = random.choice(places(data)[1:])
        parent = data
        for key in way:
            parent = parent[key]
        if random.random() < 0.8:
            parent[last] = copy.deepcopy(random.choice(JUNK))
        elif isinstance(parent, dict):
            del parent[last]
            parent[random.choice(["flop", "id", "kind", "", "\ud800", 3])] = copy.deepcopy(
                random.choice(JUNK)
            )
        else:
            parent.append(parent[last])
    message = refusal(data)
    if message is None:
        instance = parse_instance(data)
        assert parse_instance(instance.to_dict()) == instance
    else:
        assert len(message) < 20_000
        assert message.replace("\n", "").isprintable()


def refusal(data: Any) -> str | None:
    try:
        parse_instance(data)
    except InstanceError as error:
        return str(error)
    return None


@pytest.mark.parametrize("value", JUNK, ids=lambda value: ascii(value)[:20])
def test_any_top_level_value_is_refused(value: Any) -> None:
    with pytest.raises(InstanceError):
        parse_instance(value)


def test_deep_data_is_refused_not_walked() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert problems(small() | {"name": deep}) == ["name = a list: " + TEXT]
    assert problems(small() | {"extra": deep})[0].startswith("extra = a list: unknown field")
    loop: dict[str, Any] = small()
    loop["description"] = loop
    assert problems(loop) == ["description = an object: " + TEXT]


TEXT = "must be text, in quotes if it looks like a number"


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".json", ".yaml", ".dat", ""]))
def test_any_bytes_are_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_instance(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.text("[]{}:-,\"'&*!|>#?% \n\tax01.~<=", max_size=80),
    name=st.sampled_from(["x.yaml", "x.json", "folder/servers.csv"]),
)
def test_any_text_is_refused(content: str, name: str, tmp_path: Path) -> None:
    save_instance(parse_instance(small()), tmp_path / "folder")
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        load_instance((tmp_path / name) if "csv" not in name else tmp_path / "folder")


@pytest.mark.parametrize("name", ["x.json", "x.yaml", "x", "x\0y.json", "x.csv", "y" * 5000])
def test_missing_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_instance(tmp_path / name)


def test_odd_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    with pytest.raises(InputError, match=r"loop\.json: cannot be read"):
        load_instance(tmp_path / "loop.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstanceError, match=r"servers\.csv: this table is required"):
        load_instance(tmp_path / "empty")
    (tmp_path / "tables" / "servers.csv").mkdir(parents=True)
    with pytest.raises(InputError, match=r"servers\.csv: is a directory"):
        load_instance(tmp_path / "tables")
    with pytest.raises(InputError, match="not a regular file"):
        load_instance("/dev/zero")
    (tmp_path / "servers.csv").write_text("id,flops\n", encoding="utf-8")
    with pytest.raises(InputError, match="give the folder"):
        load_instance(tmp_path / "servers.csv")


def test_a_looping_table_is_refused(tmp_path: Path) -> None:
    save_instance(parse_instance(small()), tmp_path / "x")
    (tmp_path / "x" / "links.csv").symlink_to(tmp_path / "x" / "links.csv")
    with pytest.raises(InputError, match=r"links\.csv"):
        load_instance(tmp_path / "x")


def test_tags_run_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    path = tmp_path / "x.yaml"
    path.write_text(f"!!python/object/apply:os.mkdir ['{target}']\n", encoding="utf-8")
    with pytest.raises(InstanceError, match="tags are not read"):
        load_instance(path)
    assert not target.exists()


# Words


def test_values_are_shown_shortly() -> None:
    assert shown("x" * 100) == repr("x" * 60) + "... (100 characters)"
    assert shown("a\x1b[31m") == r"'a\x1b[31m'"
    assert shown(10**5000) == "a huge integer"
    assert shown({"a": 1}) == "an object"
    assert [shown(v) for v in (None, True, 3, 2.5, [], [1])] == [
        "null", "true", "3", "2.5", "an empty list", "a list",
    ]  # fmt: skip


def test_places_are_printable() -> None:
    assert place_of(("tasks", 0, "connections", 3, "target")) == "tasks[0].connections[3].target"
    assert place_of(("servers", 0, "a\x1bb")) == r"servers[0]['a\x1bb']"
    assert place_of(()) == "file"


def test_hints_are_near_misses_or_few_names() -> None:
    assert hint("edgea", ["edge-a", "cloud"]) == "; did you mean 'edge-a'?"
    assert hint("zzz", ["edge-a", "cloud"]) == "; known: 'edge-a', 'cloud'"
    assert hint("zzz", [f"edge-{i}" for i in range(100)]) == ""
    assert hint("x" * 10**6, ["edge-a"] * 9) == ""
    assert hint("x", []) == ""


# Speed


def misspelt(services: int, connections: int) -> dict[str, Any]:
    """Return data in which every connection leads nowhere, and stands there twice."""
    data = large(services, connections)
    for task in data["tasks"]:
        for connection in task["connections"]:
            connection["target"] += "x"
        task["connections"] *= 2
    return data


def problems_of(data: dict[str, Any]) -> int:
    with pytest.raises(InstanceError) as caught:
        parse_instance(data)
    return len(caught.value.problems)


def test_twice_as_much_is_twice_the_work(tmp_path: Path) -> None:
    work = []
    for services in (6, 12, 24):
        path = tmp_path / f"{services}.json"
        save_instance(parse_instance(large(services, 80)), path)
        work.append(calls(lambda path=path: load_instance(path)))
    assert work[2] - work[1] < 2.2 * (work[1] - work[0])


def test_many_problems_are_not_more_work_each() -> None:
    data = [misspelt(services, 80) for services in (6, 12, 24)]
    work = [calls(lambda one=one: problems_of(one)) for one in data]
    assert work[2] - work[1] < 2.2 * (work[1] - work[0])


def test_many_problems_are_all_found() -> None:
    # 20,000 unknown targets, 10,000 repetitions.
    assert problems_of(misspelt(25, 400)) == 30_000


@pytest.mark.realtime
def test_fifty_megabytes_take_seconds(tmp_path: Path) -> None:
    """At least 2 MB/s of processor time, a tenth of what it does."""
    path = tmp_path / "large.json"
    instance = parse_instance(large(200, 2000))
    save_instance(instance, path)
    assert path.stat().st_size > 50e6
    start = time.process_time()
    assert load_instance(path) == instance
    assert time.process_time() - start < 25.0


@pytest.mark.realtime
def test_many_problems_take_seconds() -> None:
    data = misspelt(25, 400)
    start = time.process_time()
    problems_of(data)
    assert time.process_time() - start < 15.0


def test_the_garbage_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    parse_instance(small())
    with pytest.raises(InstanceError):
        parse_instance(small() | {"servers": []})
    assert gc.isenabled()
    gc.disable()
    try:
        Instance.from_tables(parse_instance(small()).tables())
        assert not gc.isenabled()
    finally:
        gc.enable()
