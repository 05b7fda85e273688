"""Promises in results: worked by hand, every rule of the checker broken once, options, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from code_opt import check, evaluate_paths, save_instance, solve
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.paths import Topology
from code_opt.paths.standalone import least_rates
from code_opt.planning import (
    PlanSettings,
    parse_scenarios,
    plan_failures,
    plan_least_cost,
    plan_marginal,
    plan_scenarios,
)
from code_opt.result import Result

Data = dict[str, Any]
PROMISE_RULES = {
    "percentile",
    "promise",
    "promise-basis",
    "mean-latency",
    "promised-limit",
    "wait-scale",
}


def two_tasks(limit: float | None = 0.25, q: float | None = 0.95, floor: float = 5.0) -> Instance:
    """Return the example of docs/waiting.md."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "two-tasks",
            "servers": [{"id": "s", "flops": 1e9}],
            "dnns": [
                {"id": "small", "server": "s", "blocks": [{"id": "small/0", "flops": 1e7}]},
                {"id": "large", "server": "s", "blocks": [{"id": "large/0", "flops": 4e7}]},
            ],
            "tasks": [
                {
                    "id": "small",
                    "dnn": "small",
                    "accuracy": 0.9,
                    "max_latency": limit,
                    "latency_percentile": q,
                },
                {"id": "large", "dnn": "large", "accuracy": 0.9, "floor": floor},
            ],
        }
    )


def test_the_example_by_hand() -> None:
    instance = two_tasks()
    result = solve(instance, objective="throughput")
    assert result.status == "optimal"
    g = 0.24 / math.log(20.0)
    small, large = (g * math.expm1(t / g) for t in (0.010, 0.040))
    assert result.tasks[0].rate == pytest.approx((1.0 - 5.0 * large) / small, rel=1e-4)
    assert result.tasks[1].rate == pytest.approx(5.0)
    row = result.tasks[0]
    assert row.latency_promised == pytest.approx(0.25, rel=1e-6)
    assert row.latency_basis == "theorem"
    rate = row.rate
    load = rate * 0.01 + 0.2
    wait = (rate * 1e-4 + 5.0 * 1.6e-3) / (2.0 * (1.0 - load))
    assert row.latency_mean == pytest.approx(0.01 + wait)
    assert result.servers[0].wait_scale == pytest.approx(g, rel=1e-4)
    assert result.tasks[1].latency_percentile is None
    assert result.tasks[1].latency_promised is None


def test_without_the_floor_the_small_task_has_all() -> None:
    result = solve(two_tasks(floor=0.0), objective="throughput")
    assert result.tasks[0].rate == pytest.approx(93.89, rel=1e-3)
    assert result.tasks[1].rate == pytest.approx(0.0, abs=1e-6)


def test_a_percentile_asked_for_holds_where_a_task_has_none() -> None:
    asked = solve(two_tasks(q=None), objective="throughput", latency_percentile=0.95)
    own = solve(two_tasks(), objective="throughput")
    assert asked.latency_percentile == 0.95
    assert own.latency_percentile is None
    assert asked.tasks == own.tasks
    assert check(asked, two_tasks(q=None)) == []
    unloaded = solve(two_tasks(q=None), objective="throughput")
    assert unloaded.tasks[0].rate == pytest.approx(80.0)
    assert unloaded.tasks[0].latency_promised is None


def test_a_percentile_without_a_limit_limits_nothing() -> None:
    result = solve(two_tasks(limit=None), objective="throughput")
    assert result.tasks[0].rate == pytest.approx(80.0)
    assert result.tasks[0].latency_percentile == 0.95
    assert result.tasks[0].latency_promised is None  # the server is full
    assert result.servers[0].wait_scale is None


@pytest.mark.parametrize("method", ["exact", "lns", "code", "local", "greedy", "random"])
def test_every_method_keeps_the_limit(method: str) -> None:
    result = solve(two_tasks(), method)
    assert result.has_solution
    assert result.tasks[0].latency_promised is not None
    assert result.tasks[0].latency_promised <= 0.25 * (1.0 + 1e-6)


def test_given_paths_get_rates_that_keep_the_limit() -> None:
    result = evaluate_paths(two_tasks(), {"small": ["small/0"], "large": ["large/0"]})
    assert result.tasks[0].rate == pytest.approx(69.54, rel=1e-3)


def test_what_no_scale_allows_is_infeasible_and_explained() -> None:
    result = solve(two_tasks(limit=0.02, floor=20.0))
    assert result.status == "infeasible"
    assert result.message is not None
    assert "no paths, rates and wait scales keep all limits of latency under load" in result.message
    assert "raise max_latency of task 'small' at percentile 0.95 from 0.02" in result.message


def test_floors_that_leave_no_scale_are_told() -> None:
    result = solve(two_tasks(floor=24.5))
    assert result.status == "infeasible"
    assert result.message is not None
    # 24.5/s of effective times of 0.051869 s are 1.27; at 70 % they fit beside small's promise.
    assert "  lower all rate floors by 30 %" in result.message.splitlines()
    assert "  raise max_latency of task 'small' at percentile 0.95" in result.message


def test_what_is_infeasible_without_limits_says_that_these_are_left_out() -> None:
    data = two_tasks().to_dict()
    data["tasks"][0]["min_accuracy"] = 0.95
    result = solve(parse_instance(data))
    assert result.status == "infeasible"
    assert result.message is not None
    assert "no path has accuracy >= 0.95" in result.message
    assert result.message.endswith(
        "limits of latency under load are left out here: they may need more"
    )


@pytest.mark.parametrize("formulation", ["flow", "colgen"])
def test_other_formulations_refuse_percentiles(formulation: Any) -> None:
    with pytest.raises(InputError, match=f"formulation '{formulation}': cannot limit percentiles"):
        solve(two_tasks(), formulation=formulation)


def batched(**server: Any) -> Instance:
    """Return one task with a limit, another DNN's as its alternative, on such a server."""
    blocks = [{"id": "small/0", "flops": 1e7, "seconds": {"1": 0.01, "4": 0.02}}]
    other = [{"id": "large/0", "flops": 4e7, "seconds": {"1": 0.04, "4": 0.1}}]
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "batched",
            "servers": [{"id": "s", "flops": 1e9, "batch": 4, **server}],
            "dnns": [
                {"id": "small", "server": "s", "blocks": blocks},
                {"id": "large", "server": "s", "blocks": other},
            ],
            "tasks": [
                {
                    "id": "small",
                    "dnn": "small",
                    "accuracy": 0.9,
                    "max_latency": 0.25,
                    "latency_percentile": 0.95,
                    "alternatives": [{"dnn": "large", "accuracy": 0.95}],
                }
            ],
        }
    )


def test_devices_batches_and_headroom_by_hand() -> None:
    instance = batched(devices=2, max_batch_delay=0.03)
    result = solve(instance, objective="throughput")
    row = result.tasks[0]
    assert row.path == ("small/0",)
    g = (0.25 - 0.02 - 0.03) / math.log(20.0)
    # 4 inputs per batch of 0.02 s on each of two devices, nearly full.
    batches = 2.0 / (g * math.expm1(0.02 / g))
    fill = row.rate / batches
    mean = 0.03 * row.rate
    missing = sum((3 - k) * math.exp(-mean) * mean**k / math.factorial(k) for k in range(3))
    assert fill == pytest.approx(4.0 - missing, rel=1e-6)
    assert result.status == "optimal"
    assert row.latency_basis == "model"
    assert row.latency_mean is None
    assert row.latency == pytest.approx(0.02)
    assert row.latency_promised == pytest.approx(0.25)
    assert result.servers[0].wait_scale == pytest.approx(g, rel=1e-6)
    capped = solve(batched(devices=2, max_batch_delay=0.03, max_utilization=0.5))
    assert capped.servers[0].utilization == pytest.approx(0.5)
    assert capped.tasks[0].latency_promised is not None
    assert capped.tasks[0].latency_promised < 0.25


def test_an_alternative_keeps_the_limit() -> None:
    instance = batched(max_batch_delay=0.03)
    result = solve(instance, objective="accuracy")
    row = result.tasks[0]
    assert row.path == ("large/0",)
    assert row.latency == pytest.approx(0.1)
    assert row.latency_promised is not None
    assert row.latency_promised <= 0.25 * (1.0 + 1e-9)


def test_less_than_one_device_is_one_slower_device() -> None:
    half = solve(batched(devices=0.5, batch=1), objective="throughput").tasks[0]
    assert half.latency == pytest.approx(0.02)
    g = (0.25 - 0.02) / math.log(20.0)
    assert half.rate == pytest.approx(1.0 / (g * math.expm1(0.02 / g)), rel=1e-6)
    assert half.latency_basis == "theorem"


def test_a_part_of_a_device_beside_whole_ones_is_refused() -> None:
    with pytest.raises(InputError, match=r"server 's': 2.5 devices: .* needs a whole number"):
        solve(batched(devices=2.5))


def test_a_rate_without_coordination_keeps_the_limit() -> None:
    g = 0.24 / math.log(20.0)
    for floor in ("standalone", 0.0):
        data = two_tasks(floor=0.0).to_dict()
        for task in data["tasks"]:
            task["floor"] = floor
        instance = parse_instance(data)
        shares = [0.5 / (g * math.expm1(time / g)) for time in (0.010, 0.040)]
        found = least_rates(Topology(instance))
        assert found == pytest.approx(shares if floor else [0.0, 0.0], rel=1e-9)
    data["tasks"][0]["floor"] = data["tasks"][1]["floor"] = "standalone"
    result = solve(parse_instance(data), "local")
    # Both at their shares fill (1) of the server.
    assert result.tasks[0].latency_promised == pytest.approx(0.25)
    low = result.to_dict()
    low["tasks"][1]["rate"] *= 0.9
    found = check(Result.model_validate(low), parse_instance(data))
    assert "floor" in {violation.rule for violation in found}


def test_a_hopeless_native_limit_has_rate_0_and_asks_nothing_of_others() -> None:
    data = two_tasks(limit=0.005).to_dict()
    for task in data["tasks"]:
        task["floor"] = "standalone"
    assert least_rates(Topology(parse_instance(data))) == pytest.approx([0.0, 12.5])


BATCH_BREAKS: list[tuple[str, Callable[[Data], None]]] = [
    ("promise", lambda r: r["tasks"][0].update(latency_promised=0.22)),  # without the delay
    ("promise-basis", lambda r: r["tasks"][0].update(latency_basis="theorem")),
    ("mean-latency", lambda r: r["tasks"][0].update(latency_mean=0.05)),
    ("wait-scale", lambda r: r["servers"][0].update(wait_scale=None)),
]


@pytest.fixture(scope="module")
def in_batches() -> tuple[Instance, Result]:
    instance = batched(devices=2, max_batch_delay=0.03)
    return instance, solve(instance)


@pytest.mark.parametrize(("rule", "damage"), BATCH_BREAKS)
def test_a_broken_rule_of_batches_fires_alone(
    rule: str, damage: Callable[[Data], None], in_batches: tuple[Instance, Result]
) -> None:
    instance, result = in_batches
    data = result.to_dict()
    damage(data)
    found = check(Result.model_validate(data), instance)
    assert [violation.rule for violation in found] == [rule]


@pytest.mark.parametrize("q", [0.0, 1.0, -0.5, math.nan])
def test_percentiles_out_of_range_are_refused(q: float) -> None:
    with pytest.raises(InputError, match="latency_percentile"):
        solve(two_tasks(), latency_percentile=q)


def test_what_plans_cannot_have_under_limits_of_percentiles_is_refused_with_the_reason() -> None:
    limited = two_tasks()
    demands = [{**task.model_dump(mode="json"), "demand": 5.0} for task in limited.tasks]
    limited = limited.replace(tasks=demands)
    with pytest.raises(InputError, match=r"'small' limits a percentile .*: its duals"):
        plan_marginal(limited)
    with pytest.raises(InputError, match=r": what re-routing serves .* --together --failures"):
        plan_failures(limited)
    with pytest.raises(InputError, match=r": rates that adapt .* --together --scenarios"):
        plan_scenarios(limited, parse_scenarios("scenario,probability,factor\na,1,1\n"))
    with pytest.raises(InputError, match=r"units of 0.5: .* needs whole devices"):
        plan_least_cost(limited, PlanSettings(unit_devices=0.5))
    camera = [{**task, "input_group": "camera"} for task in demands]
    with pytest.raises(InputError, match="beside input groups, whose tasks wait together"):
        plan_least_cost(limited.replace(tasks=camera), PlanSettings(unit_devices=1.0))


BREAKS: list[tuple[str, Callable[[Data], None]]] = [
    ("percentile", lambda r: r["tasks"][0].update(latency_percentile=0.9)),
    ("promise", lambda r: r["tasks"][0].update(latency_promised=0.2)),
    ("promise", lambda r: r["tasks"][0].update(latency_promised=None)),
    ("promise", lambda r: r["tasks"][1].update(latency_promised=1.0)),
    ("promise-basis", lambda r: r["tasks"][0].update(latency_basis="model")),
    ("mean-latency", lambda r: r["tasks"][0].update(latency_mean=0.05)),
    ("wait-scale", lambda r: r["servers"][0].update(wait_scale=None)),
    ("wait-scale", lambda r: r["servers"][0].update(wait_scale=0.05)),
]


@pytest.mark.parametrize(("rule", "damage"), BREAKS)
def test_a_broken_rule_fires_alone(rule: str, damage: Callable[[Data], None]) -> None:
    instance = two_tasks()
    data = solve(instance).to_dict()
    damage(data)
    found = check(Result.model_validate(data), instance)
    assert [violation.rule for violation in found] == [rule]


def test_a_promise_above_the_limit_is_told() -> None:
    result = solve(two_tasks())
    # The same result for a tighter limit: nothing in it is wrong but that.
    tighter = two_tasks(limit=0.2)
    found = check(result.model_copy(update={"instance_digest": None}), tighter)
    assert [violation.rule for violation in found] == ["promised-limit"]
    assert "0.25 s is promised at percentile 0.95, above its max_latency 0.2 s" in str(found[0])


def test_promises_that_nobody_asked_for_are_told() -> None:
    result = solve(two_tasks())
    plain = two_tasks(limit=None, q=None)
    found = check(result.model_copy(update={"instance_digest": None}), plain)
    rules = {violation.rule for violation in found}
    assert rules == {"percentile", "wait-scale", "average-latency"}


def test_the_command_shows_promises_beside_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_instance(two_tasks(q=None), tmp_path / "two.json")
    command = [
        "solve", str(tmp_path / "two.json"), "-m", "exact", "--objective", "throughput",
        "--latency-percentile", "0.95",
    ]  # fmt: skip
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "limits of latency at percentile 0.95" in shown
    assert "theorem" in shown
    assert "promised" in shown
    assert "80.11 ms" in shown  # the wait scale
