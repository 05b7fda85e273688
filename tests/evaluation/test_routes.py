"""Where parts run and what they ask for: the same as the solver and the checker say."""

from __future__ import annotations

import pytest

from code_opt import solve
from code_opt.evaluation.routes import loads, route, routes
from code_opt.generate import generate
from code_opt.instance import Instance


@pytest.mark.parametrize("seed", range(6))
def test_loads_are_those_of_the_result(seed):
    instance = generate(services=5, seed=seed)
    result = solve(instance, method="lns")
    full = loads(instance, routes(instance, result))
    for row in result.servers:
        assert full.servers[row.server] == pytest.approx(row.utilization, rel=1e-6, abs=1e-9)
    for row in result.links:
        if row.capacity is not None:
            share = full.links.get((row.source, row.target), 0.0)
            assert share == pytest.approx(row.load / row.capacity, rel=1e-6, abs=1e-9)


def test_loads_of_the_shipped_metro_with_links():
    from pathlib import Path

    from code_opt import load_instance

    data = Path(__file__).resolve().parents[2] / "data"
    instance = load_instance(data / "metro-links.json")
    result = solve(instance)
    full = loads(instance, routes(instance, result))
    used = [row for row in result.links if row.load > 0 and row.capacity is not None]
    assert used
    for row in used:
        share = full.links[row.source, row.target]
        assert share == pytest.approx(row.load / row.capacity, rel=1e-6)


def test_parts_by_hand(digits: Instance):
    found = route(digits, {"digit": ["alexnet/0", "mobilenet/1", "alexnet/2", "alexnet/3"]}, 7.0)
    assert [(s.server, len(s.parts)) for s in found.segments] == [
        ("edge-a", 2),  # alexnet/0 and the adapter behind it
        ("edge-b", 2),  # mobilenet/1 and the adapter behind it
        ("edge-a", 2),
    ]
    task = next(t for t in digits.tasks if t.id == "digit")
    there = next(
        c for c in task.connections if c.source == "alexnet/0" and c.target == "mobilenet/1"
    )
    assert found.segments[1].size == there.bytes
    assert [s.parent for s in found.segments] == [-1, 0, 1]
    assert [s.answers for s in found.segments] == [(), (), (0,)]
    assert found.segments[0].flops == digits.dnns[0].blocks[0].flops + there.flops


def test_entries_run_where_they_lead_and_exits_where_they_leave(digits: Instance):
    digits = digits.with_({"tasks[*].input_bytes": 0.0})  # so that no input waits at its origin
    found = route(digits, {"digit": ["mobilenet/0"]}, 1.0)
    (segment,) = found.segments
    assert segment.server == "edge-b"
    assert [part.ends for part in segment.parts] == [
        ("input", "mobilenet/0"),
        None,
        ("mobilenet/0", "output"),
    ]


def test_adapters_run_where_the_data_says(digits: Instance):
    data = digits.to_dict()["tasks"]
    for connection in data[0]["connections"]:
        if (connection["source"], connection["target"]) == ("alexnet/0", "mobilenet/1"):
            connection["server"] = "edge-b"
    moved = digits.replace(tasks=data)
    found = route(moved, {"digit": ["alexnet/0", "mobilenet/1", "alexnet/2", "alexnet/3"]}, 1.0)
    assert [len(s.parts) for s in found.segments] == [1, 3, 2]


def test_tasks_without_a_rate_do_not_run(digits: Instance):
    result = solve(digits, method="local")
    tasks = (result.tasks[0].model_copy(update={"rate": 0.0}), result.tasks[1])
    found = routes(digits, result.model_copy(update={"tasks": tasks}))
    assert [r.tasks for r in found] == [("parity",)]
