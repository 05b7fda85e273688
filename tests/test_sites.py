"""Servers that share a site: its links, and what needs no coordination there."""

from __future__ import annotations

from typing import Any

import pytest

import code_opt
from code_opt.errors import InputError
from code_opt.evaluation.routes import routes
from code_opt.instance import Instance, parse_instance
from code_opt.planning import PlanSettings, plan_least_cost


def site_of(bandwidth: float | None = 5000.0, **second: Any) -> Instance:
    """Two servers at the yard, one at the hub; a slow network with a fast copy and a host."""
    task = {
        "id": "t",
        "dnn": "a",
        "accuracy": 0.9,
        "demand": 40.0,
        "input_bytes": 100.0,
        "alternatives": [{"dnn": "fast", "accuracy": 0.9}],
        "connections": [
            {"source": "input", "target": "h/0", "drop": 0.05},
            {"source": "h/0", "target": "output", "drop": 0.0},
        ],
    }
    block = {"flops": 0.0, "output_bytes": 10.0}
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "yard",
            "servers": [
                {"id": "old", "devices": 1, "unit_devices": 1, "cost": 9, "site": "yard"},
                {"id": "new", "devices": 0, "unit_devices": 1, "cost": 5}
                | {"site": "yard"}
                | second,
                {"id": "hub", "devices": 4},
            ],
            "links": [
                {"source": "yard", "target": "hub", "bandwidth": bandwidth, "latency": 0.001},
            ],
            "dnns": [
                {"id": "a", "server": "old", "blocks": [{"id": "a/0", "seconds": 0.05, **block}]},
                {
                    "id": "fast",
                    "server": "new",
                    "blocks": [{"id": "f/0", "seconds": 0.02, **block}],
                },
                {"id": "h", "server": "hub", "blocks": [{"id": "h/0", "seconds": 0.01, **block}]},
            ],
            "tasks": [task, task | {"id": "u"}],
        }
    )


def test_links_of_a_site_are_shared_by_its_servers() -> None:
    instance = site_of()
    result = code_opt.evaluate_paths(instance, {"t": ["h/0"], "u": ["h/0"]})
    # 5000 bytes/s carry 50 inputs of 100 bytes, of both tasks together.
    assert result.throughput == pytest.approx(50.0)
    (link,) = result.links
    assert (link.source, link.target) == ("yard", "hub")
    assert link.load == pytest.approx(5000.0)
    assert result.tasks[0].latency == pytest.approx(0.01 + 0.001 + 0.02)
    assert code_opt.check(result, instance) == []


def test_what_stays_at_a_site_crosses_no_link() -> None:
    instance = site_of(devices=1.0)
    result = code_opt.evaluate_paths(instance, {"t": ["f/0"], "u": ["a/0"]})
    assert result.tasks[0].latency == 0.02
    assert result.links[0].load == 0.0
    assert code_opt.check(result, instance) == []
    apart = site_of(devices=1.0, site=None)
    with pytest.raises(InputError, match="no step leads from 'input' to 'f/0'"):
        code_opt.evaluate_paths(apart, {"t": ["f/0"], "u": ["a/0"]})


def test_a_copy_at_the_site_needs_no_coordination() -> None:
    plan = plan_least_cost(site_of(), PlanSettings(max_utilization=1.0))
    cost = {
        r["coordination"]: r["cost"]
        for r in plan.table("summary").records()
        if r["method"] == "exact"
    }
    # 80 inferences/s take 4 old devices, or 2 new ones; or 50 of them go to the hub over the link,
    # but a task goes as a whole: 40 to the hub, 40 on one new device, or on the old one and more.
    assert cost["none"] == 10.0
    assert cost["full"] == 5.0
    apart = plan_least_cost(site_of(site=None), coordinations=("none",))
    assert apart.table("summary").records()[0]["cost"] == 27.0


def test_a_plan_with_a_path_that_needs_coordination_is_found() -> None:
    plan = plan_least_cost(site_of(), coordinations=("none",))
    assert code_opt.check_plan(plan.to_dict(), site_of()) == []
    moved = site_of(site="mall")
    rules = {
        v.rule for v in code_opt.check_plan({**plan.to_dict(), "instance_digest": None}, moved)
    }
    assert "path" in rules or "coordination" in rules


def test_links_name_the_site_of_a_server() -> None:
    with pytest.raises(InputError) as caught:
        site_of().with_({"links[0].source": "old"})
    assert str(caught.value) == (
        "instance: links[0].source = 'old': links lead between sites, and it stands at one: "
        "write 'yard'"
    )


def test_no_edge_executes_links_of_sites() -> None:
    instance = site_of()
    result = code_opt.evaluate_paths(instance, {"t": ["h/0"], "u": ["h/0"]})
    with pytest.raises(InputError, match="server 'old' stands at a site: links that servers"):
        routes(instance, result)
