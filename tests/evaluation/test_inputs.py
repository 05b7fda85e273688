"""Inputs that are sent cross links where results are executed as they do in the model."""

from __future__ import annotations

import pytest

from code_opt import solve
from code_opt.evaluation.flow import streams_of
from code_opt.evaluation.routes import loads, routes
from code_opt.evaluation.simulation import SimulatedEdge, simulate
from code_opt.instance import Instance, parse_instance
from tests.evaluation.examples import At
from tests.strategies import random_instance


def two_sites(**task: object) -> Instance:
    """A camera at `gate`, a network at `hall`, 100 ms of bytes and 10 ms of way between them."""
    task = {"id": "t", "dnn": "d", "accuracy": 0.9, "origin": "gate", "input_bytes": 100.0, **task}
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "gate", "flops": 1000.0}, {"id": "hall", "flops": 1000.0}],
            "links": [
                {"source": "gate", "target": "hall", "bandwidth": 1000.0, "latency": 0.01},
                {"source": "hall", "target": "gate", "bandwidth": 1000.0},
            ],
            "dnns": [
                {"id": "d", "server": "hall", "blocks": [{"id": "d/0", "flops": 20.0}]},
                {"id": "e", "server": "gate", "blocks": [{"id": "e/0", "flops": 500.0}]},
            ],
            "tasks": [task, {"id": "u", "dnn": "e", "accuracy": 0.9}],
        }
    )


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("block", range(4))
def test_routes_load_servers_and_links_as_results_say(block, groups):
    crossed = 0
    for seed in range(30 * block, 30 * (block + 1)):
        instance = random_instance(seed, links="all", inputs=True, groups=groups)
        result = solve(instance, "lns")
        if not result.has_solution:
            continue
        found = routes(instance, result)
        have = loads(instance, found)
        for server in result.servers:
            assert have.servers[server.server] == pytest.approx(server.utilization, abs=1e-9)
        for link in result.links:
            if link.utilization is not None:
                load = have.links.get((link.source, link.target), 0.0)
                assert load == pytest.approx(link.utilization, abs=1e-9)
        crossed += sum(not s.parts and s.parent < 0 for one in found for s in one.segments)
    assert crossed > 0


def test_an_input_takes_the_link_and_waits_for_no_server_on_its_way():
    instance = two_sites()
    result = solve(instance)
    latency = {row.task: row.latency for row in result.tasks}
    assert latency["t"] == pytest.approx(0.13)  # 100 ms of bytes, 10 ms of way, 20 ms of work
    streams = streams_of(instance, result)
    # `u` keeps the gate busy from 0 to 0.5 s; the inputs of `t` pass by, one after the other.
    feeder = At(0.0, 0.1, 0.1, streams=[1, 0, 0], answers=3)
    trace, _ = SimulatedEdge(instance).drive(streams, feeder)
    assert [at for _, at, _ in trace.answers[0][0]] == pytest.approx([0.23, 0.33])
    assert [at for _, at, _ in trace.answers[1][0]] == pytest.approx([0.5])


def test_a_link_full_of_inputs_holds_in_the_simulation_what_it_does_in_the_model():
    instance = two_sites()
    result = solve(instance)
    assert result.tasks[0].rate == pytest.approx(10.0)  # 1000 bytes/s, 100 bytes each
    flow = simulate(instance, result, seconds=200.0, feed="overloaded", arrivals="constant")
    assert flow.tasks[0].measured == pytest.approx(10.0, rel=0.01)


def test_the_input_of_a_group_crosses_once():
    data = two_sites(input_group="camera").to_dict()
    data["dnns"].append(
        {"id": "f", "server": "hall", "blocks": [{"id": "f/0", "flops": 30.0}]},
    )
    data["tasks"].append({**data["tasks"][0], "id": "v", "dnn": "f"})
    instance = parse_instance(data)
    result = solve(instance)
    assert result.tasks[0].rate == pytest.approx(10.0)
    assert result.tasks[2].rate == pytest.approx(10.0)
    one = next(one for one in routes(instance, result) if len(one.tasks) == 2)
    assert [(s.server, s.size, len(s.parts)) for s in one.segments] == [
        ("gate", 0.0, 0),
        ("hall", 100.0, 0),
        ("hall", 0.0, 1),
        ("hall", 0.0, 1),
    ]
    flow = simulate(instance, result, seconds=200.0, arrivals="constant")
    assert flow.steady
    assert [task.measured for task in flow.tasks] == pytest.approx([10.0, 10.0, 2.0], rel=0.01)
