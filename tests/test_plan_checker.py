"""The checker of plans: it confirms what analyses find, and each of its rules finds its fault."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from code_opt.instance import Instance, parse_instance, parse_periods
from code_opt.instance.digest import digest_of
from code_opt.plan_checker import RULES, check_plan
from code_opt.planning import (
    Plan,
    PlanSettings,
    parse_scenarios,
    plan_combined,
    plan_failures,
    plan_front,
    plan_growth,
    plan_least_cost,
    plan_marginal,
    plan_scenarios,
    plan_sweep,
    with_drop_range,
)
from tests.instances import dnn

DATA: dict[str, Any] = {
    "schema": "code-opt/instance/1",
    "name": "two-sites",
    "servers": [
        {
            "id": "a",
            "flops": 100.0,
            "unit_flops": 10.0,
            "cost": 2.0,
            "max_units": 90,
            "memory": 100.0,
        },
        {"id": "b", "flops": 300.0, "unit_flops": 20.0, "cost": 3.0, "memory": 100.0},
    ],
    "links": [
        {
            "source": "a",
            "target": "b",
            "bandwidth": 40.0,
            "latency": 0.001,
            "unit_bandwidth": 5.0,
            "cost": 1.0,
        },
        {"source": "b", "target": "a"},
    ],
    "dnns": [
        dnn("A", "a", [6.0, 4.0], [2.0]),
        dnn("B", "b", [10.0, 5.0]),
    ],
    "tasks": [
        {
            "id": "ta",
            "dnn": "A",
            "accuracy": 0.85,
            "min_accuracy": 0.5,
            "max_latency": 0.5,
            "demand": 10.0,
            "floor": 4.0,
            "connections": [
                {"source": "A0", "target": "output", "drop": 0.1, "params": 5.0},
                {"source": "A0", "target": "B1", "drop": 0.2, "params": 10.0, "server": "b"},
                {"source": "B1", "target": "output", "drop": 0.0},
                {"source": "input", "target": "B0", "drop": 0.15},
            ],
        },
        {
            "id": "tb",
            "dnn": "B",
            "accuracy": 0.9,
            "demand": 12.0,
            "floor": "standalone",
            "input_group": "camera",
        },
        {
            "id": "tc",
            "dnn": "B",
            "accuracy": 0.8,
            "demand": 12.0,
            "input_group": "camera",
            "connections": [{"source": "B0", "target": "output", "drop": 0.05}],
        },
    ],
}
PROMISED: dict[str, Any] = {
    "schema": "code-opt/instance/1",
    "name": "promised",
    "servers": [{"id": "s", "flops": 1e9, "unit_devices": 1.0}],
    "dnns": [dnn("S", "s", [1e7]), dnn("L", "s", [4e7])],
    "tasks": [
        {"id": "small", "dnn": "S", "accuracy": 0.9, "demand": 90.0, "max_latency": 0.05}
        | {"latency_percentile": 0.95},
        {"id": "large", "dnn": "L", "accuracy": 0.9, "demand": 5.0},
    ],
}
"""At 0.05 s both need 2.6 devices, at half of their rates 1.3 (docs/waiting.md)."""
SCENARIOS = "scenario,probability,task,demand,factor\nlow,0.5,,,0.5\nhigh,0.5,,,4\n"
PERIODS = "task,night,day,evening\n,8,10,6\nta,5,20,10\ntb,6,12,24\ntc,6,12,24\ntd,0,0,0\n"
SETTINGS = PlanSettings(gap=1e-6)


@cache
def instance(kind: str) -> Instance:
    """Return what is planned for; a front needs more demand than there is capacity."""
    if kind == "promised":
        return parse_instance(PROMISED)
    data = copy.deepcopy(DATA)
    if kind == "guesses":
        for connection in data["tasks"][0]["connections"]:
            drop = connection["drop"]
            connection |= {"drop_low": drop - 0.01, "drop_high": drop + 0.02}
    if kind == "front":
        for task, demand in zip(data["tasks"], (25.0, 30.0, 30.0), strict=True):
            task["demand"] = demand
    if kind == "combined":  # a server that is not there yet, for a task without any demand
        data["servers"].append({"id": "c", "devices": 0, "unit_devices": 1.0, "cost": 5.0})
        block = {"id": "C0", "flops": 1.0, "seconds": 0.1}
        data["dnns"].append({"id": "C", "server": "c", "blocks": [block]})
        data["tasks"].append({"id": "td", "dnn": "C", "accuracy": 0.9, "demand": 1.0})
    return parse_instance(data)


@cache
def plan(kind: str) -> Plan:
    """Return a plan of each kind, in which something is bought."""
    site = instance(kind)
    if kind == "least-cost":
        return plan_least_cost(site, SETTINGS, growth=(1.0, 4.0), max_loss=(None, 2.0))
    if kind == "guesses":
        return with_drop_range(
            site, lambda one: plan_least_cost(one, SETTINGS, growth=(4.0,), max_loss=(2.0,))
        )
    if kind == "growth":
        return plan_growth(site, SETTINGS, growth=(1.0, 4.0, 6.0), max_loss=5.0, discount=0.1)
    if kind == "scenarios":
        scenarios = parse_scenarios(SCENARIOS)
        return plan_scenarios(site, scenarios, SETTINGS, served=0.9, max_loss=5.0)
    if kind == "failures":
        return plan_failures(site, SETTINGS, growth=4.0, keep=0.5, max_loss=5.0)
    if kind == "promised":
        return plan_combined(site, SETTINGS, device_failures=True, keep_devices=0.5)
    if kind == "combined":
        return plan_combined(
            site,
            SETTINGS,
            growth=(1.0, 4.0),
            periods=parse_periods(PERIODS),
            failures=True,
            device_failures=True,
            keep=0.5,
            keep_devices=0.8,
            routings=("fixed", "by-period"),
            max_loss=5.0,
        )
    if kind == "front":
        return plan_front(site, SETTINGS, points=None)
    if kind == "marginal":
        return plan_marginal(site, SETTINGS)
    vary = ["tasks[ta].demand=10:40:3"]
    return plan_sweep(site, SETTINGS, vary=vary, methods=("exact", "code", "plan"))


class Draft:
    """Data of a plan file, to be changed."""

    def __init__(self, kind: str) -> None:
        self.instance = instance(kind)
        # What is changed in the instance is told by the figures, not by the digest.
        self.data: dict[str, Any] = {**copy.deepcopy(plan(kind).to_dict()), "instance_digest": None}

    def table(self, name: str) -> dict[str, Any]:
        return next(t for t in self.data["tables"] if t["name"] == name)

    def rows(self, name: str, **where: Any) -> list[list[Any]]:
        names = [c["name"] for c in self.table(name)["columns"]]
        return [
            row
            for row in self.table(name)["rows"]
            if all(row[names.index(k)] == v for k, v in where.items())
        ]

    def get(self, name: str, column: str, **where: Any) -> Any:
        names = [c["name"] for c in self.table(name)["columns"]]
        return self.rows(name, **where)[0][names.index(column)]

    def set(self, name: str, column: str, value: Any, **where: Any) -> None:
        """Give the first row that fits another value, or one made from the present one."""
        names = [c["name"] for c in self.table(name)["columns"]]
        rows = self.rows(name, **where)
        assert rows, f"no row of {name} with {where}"
        i = names.index(column)
        rows[0][i] = value(rows[0][i]) if callable(value) else value

    def drop(self, name: str, **where: Any) -> None:
        self.table(name)["rows"].remove(self.rows(name, **where)[0])

    def asks(self, place: str, number: int, **changes: Any) -> None:
        """Change a record of the instance that the plan is held against."""
        data = self.instance.to_dict()
        data[place][number].update(changes)
        self.instance = parse_instance(data)

    def rules(self) -> set[str]:
        return {v.rule for v in check_plan(self.data, self.instance)}


KINDS = (
    *("promised", "least-cost", "guesses", "growth", "scenarios", "failures", "combined"),
    *("front", "marginal", "sweep"),
)
MAIN = {"growth": 4.0, "max_loss_points": 2.0, "coordination": "full", "method": "exact"}
QUICK = {**MAIN, "method": "heuristic"}
FIXED = {"routing": "fixed", "period": 1}
LAST = {"coordination": "full", "period": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_confirmed(kind: str) -> None:
    assert plan(kind).has_any
    assert check_plan(plan(kind).to_dict(), instance(kind)) == []


def test_something_is_bought_and_backed_up() -> None:
    """Else the rules below would have nothing to look at."""
    draft = Draft("least-cost")
    assert draft.get("servers", "units", server="a", **MAIN) > 0
    assert Draft("failures").rows("backups")
    assert Draft("failures").rows("lost")
    assert len(Draft("front").rows("points")) > 1


def twice(value: float) -> float:
    return 2.0 * value + 1.0


def one_more(value: int) -> int:
    return value + 1


# The rules that fire (the first one is meant, the others follow from it), in a plan of which kind,
# where something is broken, how.
BROKEN: list[tuple[str, str, str, Callable[[Draft], Any]]] = [
    ("instance-name", "growth", "another", lambda d: d.data.update(instance="other")),
    (
        "instance-changed",
        "growth",
        "other tasks",
        lambda d: d.data.update(
            instance_digest={**digest_of(d.instance), "sha256": "0", "tasks": "0"}
        ),
    ),
    ("tables", "growth", "a table", lambda d: d.data["tables"].pop()),
    ("tables", "growth", "a period", lambda d: d.drop("periods", period=2, coordination="full")),
    ("servers", "least-cost", "missing", lambda d: d.drop("servers", server="a", **MAIN)),
    ("servers", "failures", "missing", lambda d: d.drop("failures", failed_server="a")),
    ("servers", "marginal", "missing", lambda d: d.drop("servers", server="a")),
    ("links", "scenarios", "missing", lambda d: d.drop("links", variant="mean", source="b")),
    ("links", "marginal", "missing", lambda d: d.drop("links", source="a")),
    ("tasks", "failures", "missing", lambda d: d.drop("paths", plan="normal", task="ta")),
    ("tasks", "scenarios", "missing", lambda d: d.drop("rates", variant="worst", task="ta")),
    ("units", "least-cost", "negative", lambda d: d.set("servers", "units", -1, **MAIN)),
    ("units", "sweep", "negative", lambda d: d.set("sweep", "units", -1, method="plan")),
    ("unit-cost", "growth", "cost", lambda d: d.set("servers", "cost", twice, **LAST)),
    (
        "total-units saved",
        "failures",
        "units",
        lambda d: d.set("summary", "units", one_more, plan="survivable"),
    ),
    ("total-units", "growth", "units", lambda d: d.set("periods", "total_units", one_more, **LAST)),
    ("cost", "growth", "so far", lambda d: d.set("periods", "total_cost", twice, **LAST)),
    ("cost", "growth", "of a period", lambda d: d.set("periods", "cost", twice, **LAST)),
    (
        "drop-range",
        "guesses",
        "middle",
        lambda d: d.set("drops", "units", one_more, drops="middle"),
    ),
    ("drop-range", "guesses", "missing", lambda d: d.drop("drops", drops="high")),
    (
        "drop-range",
        "guesses",
        "contradiction",
        lambda d: d.set("drops", "bound", lambda b: 10.0 * b + 1.0, drops="low"),
    ),
    ("kept", "growth", "bought", lambda d: d.set("servers", "units_bought", one_more, **LAST)),
    ("kept", "growth", "sum", lambda d: d.set("periods", "units_bought", one_more, **LAST)),
    ("saved", "least-cost", "cost", lambda d: d.set("summary", "saved_cost", twice, **MAIN)),
    ("saved", "growth", "units", lambda d: d.set("summary", "saved_units", one_more)),
    ("saved", "failures", "extra", lambda d: d.set("summary", "extra_units", one_more)),
    (
        "capacity",
        "least-cost",
        "present",
        lambda d: d.set("servers", "present_flop_per_s", twice, **MAIN),
    ),
    (
        "capacity",
        "marginal",
        "present",
        lambda d: d.set("links", "capacity_bytes_per_s", twice, source="a"),
    ),
    ("load", "scenarios", "server", lambda d: d.set("servers", "load_flop_per_s", twice)),
    ("capacity", "failures", "devices", lambda d: d.set("servers", "present_devices", twice)),
    ("capacity", "marginal", "devices", lambda d: d.set("servers", "capacity_devices", twice)),
    ("load", "growth", "devices", lambda d: d.set("servers", "load_devices", twice)),
    ("overload", "failures", "headroom", lambda d: d.asks("servers", 0, max_utilization=0.01)),
    (
        "load",
        "least-cost",
        "link",
        lambda d: d.set("links", "load_bytes_per_s", twice, source="b", **MAIN),
    ),
    ("utilization", "failures", "server", lambda d: d.set("servers", "utilization", twice)),
    (
        "utilization",
        "failures",
        "unlimited",
        lambda d: d.set("links", "utilization", 0.0, source="b"),
    ),
    ("path", "front", "no step", lambda d: d.set("paths", "path", "A1 > A0", task="ta")),
    ("accuracy", "front", "of a path", lambda d: d.set("paths", "accuracy", 0.7, task="tb")),
    (
        "accuracy-source",
        "growth",
        "source",
        lambda d: d.set("paths", "accuracy_source", "measured", **LAST),
    ),
    ("latency", "growth", "latency", lambda d: d.set("paths", "latency_s", twice, **LAST)),
    (
        "average-accuracy",
        "failures",
        "average",
        lambda d: d.set("summary", "accuracy", 0.99, plan="normal"),
    ),
    (
        "average-accuracy",
        "front",
        "loss",
        lambda d: d.set("points", "accuracy_loss_points", twice, point=1),
    ),
    ("demand", "growth", "factor", lambda d: d.set("periods", "growth", twice, **LAST)),
    ("demand", "failures", "all", lambda d: d.set("failures", "demand_per_s", twice)),
    (
        "served",
        "least-cost",
        "sum",
        lambda d: d.set("summary", "throughput_per_s", twice, **MAIN),
    ),
    ("served", "scenarios", "sum", lambda d: d.set("scenarios", "served_per_s", twice)),
    ("served", "scenarios", "worst", lambda d: d.set("summary", "worst_served_share", 0.1)),
    ("served", "failures", "fixed", lambda d: d.set("failures", "served_fixed_per_s", twice)),
    (
        "served",
        "failures",
        "re-routed",
        lambda d: d.set("failures", "served_rerouted_share", twice, failed_server="b"),
    ),
    ("served gap", "front", "sum", lambda d: d.set("points", "throughput_per_s", 0.99999, point=2)),
    (
        "promised",
        "scenarios",
        "share",
        lambda d: d.set("summary", "served_share", 1.0, variant="worst"),
    ),
    (
        "probability",
        "scenarios",
        "sum",
        lambda d: [
            d.set("scenarios", "probability", 0.8, variant=v, scenario=s)
            for v in ("mean", "every")
            for s in ("low", "high")
        ],
    ),
    ("bound", "least-cost", "above", lambda d: d.set("summary", "bound", twice, **MAIN)),
    (
        "bound",
        "front",
        "below",
        lambda d: d.set("points", "throughput_bound_per_s", lambda b: 0.9 * b, point=1),
    ),
    ("bound", "sweep", "below", lambda d: d.set("sweep", "bound", 0.0, method="exact")),
    ("gap", "growth", "gap", lambda d: d.set("summary", "gap", 0.5)),
    ("gap proof", "front", "gap", lambda d: d.set("points", "gap", 1e-3, point=1)),
    (
        "heuristic cost",
        "least-cost",
        "dearer",
        lambda d: [
            d.set("summary", "cost", lambda c: c - 1.0, **QUICK),
            d.set("summary", "saved_cost", lambda c: c + 1.0, **QUICK),
        ],
    ),
    ("failed", "failures", "hit", lambda d: d.set("failures", "tasks_hit", one_more)),
    ("failed", "failures", "lost", lambda d: d.set("failures", "tasks_lost", one_more)),
    (
        "part-status plan-status",
        "failures",
        "status",
        lambda d: d.set("summary", "status", "unknown", plan="normal"),
    ),
    ("no-plan", "least-cost", "rows", lambda d: remove_plan(d)),
    ("plan-status", "growth", "better", lambda d: worse_part(d)),
    ("proof", "growth", "no bound", lambda d: no_proof(d)),
    (
        "proof",
        "scenarios",
        "a wide gap",
        lambda d: [
            d.set("summary", "bound", 0.0, variant="mean"),
            d.set("summary", "gap", 1.0, variant="mean"),
        ],
    ),
    (
        "present-value",
        "growth",
        "value",
        lambda d: [
            d.set("summary", "present_value", lambda v: v * (1.0 + 2e-6), coordination="none"),
            d.set("summary", "gap", 2e-6 / (1.0 + 2e-6), coordination="none"),
            d.data["settings"].update(gap=1e-5),
        ],
    ),
    ("sold", "growth", "too many", lambda d: d.asks("servers", 0, max_units=1.0)),
    ("memory", "failures", "too little", lambda d: d.asks("servers", 0, memory=10.0)),
    ("min-accuracy", "front", "too much", lambda d: d.asks("tasks", 1, min_accuracy=0.95)),
    (
        "measured-only",
        "front",
        "not asked for",
        lambda d: d.data["settings"].update(measured_only=True),
    ),
    ("max-latency", "growth", "too short", lambda d: d.asks("tasks", 0, max_latency=0.01)),
    ("rate", "front", "a floor", lambda d: d.asks("tasks", 0, floor=25.0)),
    ("rate", "front", "a demand", lambda d: d.asks("tasks", 0, demand=4.0)),
    ("rate served", "scenarios", "a demand", lambda d: d.set("rates", "demand_per_s", 0.0)),
    (
        "overload latency load utilization",
        "scenarios",
        "too much work",
        lambda d: heavier(d),
    ),
    (
        "asked-accuracy",
        "scenarios",
        "a floor",
        lambda d: d.data["settings"].update(min_accuracy=0.84),
    ),
    (
        "asked-accuracy",
        "failures",
        "a loss",
        lambda d: d.data["settings"].update(max_loss_points=1.0),
    ),
    (
        "coordination",
        "failures",
        "native paths alone",
        lambda d: d.data["settings"].update(coordination="none"),
    ),
    (
        "group-rate served",
        "front",
        "two rates",
        lambda d: [
            d.asks("tasks", 1, floor=0.0),
            d.set("paths", "rate_per_s", lambda r: 0.9999 * r, task="tb"),
        ],
    ),
    ("backup survives", "failures", "not hit", lambda d: d.set("backups", "task", "tb")),
    ("survives", "failures", "none", lambda d: d.drop("backups", failed_server="a")),
    ("lost failed", "failures", "not lost", lambda d: d.table("lost")["rows"].append(["b", "ta"])),
    ("promise", "promised", "time", lambda d: d.set("paths", "promised_s", 0.03, task="small")),
    ("promise", "promised", "none", lambda d: d.set("paths", "promised_s", None, task="small")),
    ("promised-limit", "promised", "tighter", lambda d: d.asks("tasks", 0, max_latency=0.04)),
    (
        "promised-limit",
        "promised",
        "without a device",
        lambda d: d.data["settings"].update(keep_devices=1.0),
    ),
    ("states", "combined", "missing", lambda d: d.drop("states", demand_period="day", **FIXED)),
    ("states", "combined", "left out", lambda d: d.set("summary", "states_left_out", one_more)),
    (
        "hours",
        "combined",
        "another",
        lambda d: d.set("states", "hours", 9.0, period=2, demand_period="night"),
    ),
    ("probability", "combined", "half", lambda d: d.set("states", "probability", 0.5)),
    (
        "implied",
        "combined",
        "by what asks for less",
        lambda d: [
            d.set("states", "implied_by", "day", demand_period="evening", **FIXED),
            d.set("summary", "states_left_out", one_more),
        ],
    ),
    (
        "implied",
        "combined",
        "by nothing",
        lambda d: d.set("states", "implied_by", "dusk", demand_period="night", **FIXED),
    ),
    (
        "average",
        "combined",
        "utilization",
        lambda d: d.set("servers", "mean_utilization", twice, server="b", **FIXED),
    ),
    ("average", "combined", "demand", lambda d: d.set("periods", "throughput_per_s", twice)),
    ("average", "combined", "accuracy", lambda d: d.set("periods", "accuracy", 0.8)),
    ("demand", "combined", "sum", lambda d: d.set("states", "demand_per_s", twice)),
    ("devices", "combined", "none there", lambda d: nothing_there(d)),
    (
        "overload",
        "combined",
        "without a device",
        lambda d: d.data["settings"].update(keep_devices=1.0),
    ),
    ("overload", "combined", "without a server", lambda d: d.data["settings"].update(keep=0.9)),
    ("servers", "combined", "a failure", lambda d: d.drop("failures", failed="device", **FIXED)),
    ("failed", "combined", "moved", lambda d: d.set("failures", "tasks_moved", one_more)),
    (
        "survives failed",
        "combined",
        "no backup",
        lambda d: d.drop("backups", failed="server", failed_server="b", **FIXED),
    ),
    (
        "lost failed",
        "combined",
        "with a device",
        lambda d: d.table("lost")["rows"].append(["b", "device", "tb"]),
    ),
    ("front", "front", "the wrong way", lambda d: d.table("points")["rows"].reverse()),
]


def remove_plan(draft: Draft) -> None:
    for column in ("cost", "bound", "gap", "units", "accuracy", "accuracy_loss_points"):
        draft.set("summary", column, None, **QUICK)
    draft.set("summary", "status", "unknown", **QUICK)


def nothing_there(draft: Draft) -> None:
    """Take away the device that is bought for a task without any demand."""
    names = [c["name"] for c in draft.table("servers")["columns"]]
    for row in draft.rows("servers", server="c"):
        for column in ("units", "units_bought", "cost", "capacity_devices"):
            row[names.index(column)] = 0
    for table in ("summary", "periods"):
        names = [c["name"] for c in draft.table(table)["columns"]]
        for row in draft.table(table)["rows"]:
            is_first = "period" not in names or row[names.index("period")] == 1
            for column in names:
                less = 5.0 if "cost" in column or column in ("present_value", "bound") else 1
                if column in ("units", "total_units", "total_cost", "present_value", "bound") or (
                    column in ("cost", "units_bought") and is_first
                ):
                    row[names.index(column)] -= less


def worse_part(draft: Draft) -> None:
    draft.set("summary", "status", "feasible", coordination="full")


def no_proof(draft: Draft) -> None:
    draft.set("summary", "bound", None, coordination="full")


def heavier(draft: Draft) -> None:
    """Let a block of the instance have more work than was planned for."""
    data = draft.instance.to_dict()
    data["dnns"][0]["blocks"][0]["flops"] *= 1.5
    draft.instance = parse_instance(data)


@pytest.mark.parametrize(("rules", "kind", "what", "change"), BROKEN)
def test_what_is_broken_is_found(
    rules: str, kind: str, what: str, change: Callable[[Draft], Any]
) -> None:
    assert what
    draft = Draft(kind)
    change(draft)
    assert draft.rules() == set(rules.split())


def test_every_rule_is_broken_once() -> None:
    assert {rules.split()[0] for rules, *_ in BROKEN} == set(RULES)
