"""What-if sweeps: fields by name, values, and what each solve gives."""

from __future__ import annotations

import pytest

from code_opt import solve
from code_opt.errors import InputError
from code_opt.executors import executor_of
from code_opt.instance import Instance, InstanceError, parse_instance
from code_opt.planning import (
    PlanSettings,
    check_field,
    parse_variation,
    plan_least_cost,
    plan_sweep,
    with_value,
)


def test_every_row_is_a_solve(plenty: Instance) -> None:
    plan = plan_sweep(
        plenty,
        PlanSettings(unit_flops=10.0),
        vary=["servers[a].flops=50:150:3"],
        methods=("exact", "local", "plan"),
    )
    rows = plan.table("sweep").records()
    assert [(r["value"], r["method"]) for r in rows] == [
        (v, m) for v in (50.0, 100.0, 150.0) for m in ("exact", "local", "plan")
    ]
    for row in rows:
        changed = with_value(plenty, "servers[a].flops", row["value"])
        if row["method"] == "plan":
            alone = plan_least_cost(changed, PlanSettings(unit_flops=10.0))
            assert row["cost"] == alone.table("summary").records()[0]["cost"]
        else:
            result = solve(changed, method=row["method"])
            assert row["reward"] == pytest.approx(result.reward)
            assert row["throughput_per_s"] == pytest.approx(result.throughput)
    rewards = [r["reward"] for r in rows if r["method"] == "exact"]
    assert rewards == sorted(rewards)


def test_processes_give_the_same_rows(plenty: Instance) -> None:
    vary = ["servers[a].flops=50,150", "tasks[tb].demand=1,20"]
    here = plan_sweep(plenty, vary=vary, methods=("exact",))
    with executor_of("processes:1") as pool:
        there = plan_sweep(plenty, vary=vary, methods=("exact",), executor=pool)

    def figures(plan):
        return [row[:10] for row in plan.table("sweep").rows]

    assert figures(here) == figures(there)


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("a.b=1,2", "a.b", (1.0, 2.0)),
        ("servers[x=y].flops=1e9", "servers[x=y].flops", (1e9,)),
        ("f=0:1:5", "f", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("f=1:100:3:log", "f", (1.0, 10.0, 100.0)),
        (" f =2:1:2", "f", (2.0, 1.0)),
    ],
)
def test_values_are_read(text: str, field: str, values: tuple) -> None:
    variation = parse_variation(text)
    assert variation.field == field
    assert variation.values == pytest.approx(values)


@pytest.mark.parametrize(
    "text",
    [
        *("", "f", "=1", "f=", "f=x", "f=1:2", "f=1:2:0", "f=1:2:x", "f=1:2:1001", "f=1:2:3:lin"),
        *("f=nan", "f=inf", "f=0:1:3:log", "f=1_0", "f=1,,2", "f=__import__('os')"),
    ],
)
def test_what_is_no_variation_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--vary"):
        parse_variation(text)


FIELDS = {
    "servers[a].flops": lambda i: i.servers[0].flops,
    "servers[b].cost": lambda i: i.servers[1].cost,
    "servers[b].unit_flops": lambda i: i.servers[1].unit_flops,
    "links[a->b].bandwidth": lambda i: i.links[0].bandwidth,
    "blocks[B1].flops": lambda i: i.dnns[1].blocks[1].flops,
    "tasks[ta].demand": lambda i: i.tasks[0].demand,
    "tasks[ta].floor": lambda i: i.tasks[0].floor,
    "tasks[tb].max_latency": lambda i: i.tasks[1].max_latency,
    "tasks[ta].connections[A0->output].drop": lambda i: i.tasks[0].connections[0].drop,
    "reward.accuracy.exponent": lambda i: i.reward.accuracy.exponent,
}


@pytest.fixture
def linked(plenty: Instance) -> Instance:
    return plenty.replace(links=[{"source": "a", "target": "b", "bandwidth": 5.0}])


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_changed_and_nothing_else(linked: Instance, field: str) -> None:
    changed = with_value(linked, field, 0.25 if "drop" in field else 2.0)
    assert FIELDS[field](changed) == (0.25 if "drop" in field else 2.0)
    back = changed.to_dict()
    assert back != linked.to_dict()
    original = FIELDS[field](linked)
    if isinstance(original, float):
        assert with_value(changed, field, original) == linked


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("server[a].flops", "did you mean 'servers'"),
        ("servers[x].flops", "there is no 'x'; known: 'a', 'b'"),
        ("servers[a].flop", "no numeric field 'flop'; did you mean 'flops'"),
        ("servers[a].id", "no numeric field 'id'"),
        ("servers[a]", "expected .FIELD"),
        ("servers", "no numeric field 'servers'"),
        ("blocks[B3].flops", "there is no 'B3'; known: 'A0', 'A1', 'B0', 'B1'"),
        ("blocks[B1].seconds[8]", r"\[8\] needs a list before it"),
        ("links[b->a].bandwidth", "there is no 'b->a'"),
        ("tasks[ta].connections[A1->output].drop", "there is no 'A1->output'; did you mean"),
        ("tasks[ta].measured_paths", "no numeric field"),
        ("reward.speed.exponent", "unknown field 'speed'; known: 'accuracy', 'throughput'"),
        ("reward.accuracy.kind", "no numeric field 'kind'"),
        ("reward.accuracy.a.b", "unknown field 'a'; known: 'kind', 'exponent'"),
        ("__class__", "no numeric field '__class__'"),
    ],
)
def test_an_unknown_field_is_refused(linked: Instance, field: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_field(linked, field)


def test_times_are_varied_by_batch_size_and_lists_as_a_whole(plenty: Instance) -> None:
    timed = plenty.with_({"blocks[B1].seconds": {"1": 0.1, "8": 0.4}})
    changed = with_value(timed, "blocks[B1].seconds[8]", 0.5).to_dict()
    assert changed["dnns"][1]["blocks"][1]["seconds"] == {"1": 0.1, "8": 0.5}
    assert [s.flops for s in with_value(plenty, "servers[*].flops", 7.0).servers] == [7.0, 7.0]
    with pytest.raises(InputError, match="no numeric field '4'; known: '1', '8'"):
        check_field(timed, "blocks[B1].seconds[4]")


def test_odd_ids_are_found() -> None:
    names = ["x].flops", "x", "[x]", "a->b", "x].flops=1"]
    instance = parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": name, "flops": 1.0} for name in names if ">" not in name],
            "dnns": [{"id": "d", "server": "x", "blocks": [{"id": "d0", "flops": 1.0}]}],
            "tasks": [{"id": "t", "dnn": "d", "accuracy": 0.5}],
        }
    )
    for name in ("x].flops", "x", "[x]", "x].flops=1"):
        changed = with_value(instance, f"servers[{name}].flops", 7.0)
        assert {s.id: s.flops for s in changed.servers}[name] == 7.0
        assert sum(s.flops == 7.0 for s in changed.servers) == 1


def test_a_value_that_the_instance_refuses_is_told(plenty: Instance) -> None:
    with pytest.raises(InstanceError, match=r"--vary servers\[a\]\.flops=-1"):
        plan_sweep(plenty, vary=["servers[a].flops=1,-1"])


@pytest.mark.parametrize(
    "options", [{"vary": []}, {"vary": ["servers[a].flops=1"], "methods": ("x",)}]
)
def test_bad_options_are_refused(plenty: Instance, options: dict) -> None:
    with pytest.raises(InputError):
        plan_sweep(plenty, **options)
