"""What plans recommend: which case, against what, what a failure stops, what to measure first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from code_opt import load_instance
from code_opt.instance import Instance
from code_opt.instance.periods import parse_periods
from code_opt.planning import (
    Plan,
    PlanSettings,
    plan_combined,
    plan_failures,
    plan_front,
    plan_growth,
    plan_least_cost,
    plan_scenarios,
    with_drop_range,
)
from code_opt.planning import recommendation_words as words
from code_opt.planning.demands import parse_scenarios
from code_opt.planning.recommendation import recommend

SITES = Path(__file__).resolve().parents[2] / "data" / "four-sites-csv"
DEMAND = "scenario,probability,factor\nquiet,0.8,0.7\nbusy,0.2,1.1\n"


@pytest.fixture(scope="module")
def sites() -> Instance:
    """Six services on four sites, of which one arrives at a server of its own."""
    return load_instance(SITES).with_({"tasks[cars].origin": "north"})


@pytest.fixture(scope="module")
def plans(sites: Instance) -> dict[str, Plan]:
    headroom = PlanSettings(max_utilization=0.9)
    return {
        "least-cost": plan_least_cost(sites, growth=(1.0, 2.0), max_loss=(1.0, 2.0)),
        "growth": plan_growth(sites, headroom, growth=(1.0, 1.5), max_loss=1.0),
        "failures": plan_failures(sites, keep=0.5, max_loss=1.0),
        "scenarios": plan_scenarios(sites, parse_scenarios(DEMAND), max_loss=1.0),
    }


def summary(source: Plan, **key: object) -> dict[str, Any]:
    rows = source.table("summary").records()
    (row,) = [row for row in rows if all(row[k] == v for k, v in key.items())]
    return row


def test_the_first_case_that_was_asked_for_is_recommended(
    sites: Instance, plans: dict[str, Plan]
) -> None:
    plan = plans["least-cost"]
    found = recommend(sites, [plan])
    assert found is not None
    key = {"growth": 1.0, "max_loss_points": 1.0, "coordination": "full", "method": "exact"}
    row, alone = summary(plan, **key), summary(plan, **(key | {"coordination": "none"}))
    assert dict(found.case) == key
    assert (found.cost, found.alone, found.lost_points) == (
        row["cost"], alone["cost"], row["accuracy_loss_points"],
    )  # fmt: skip
    assert sum(p.cost for p in found.purchases) == pytest.approx(row["cost"])
    assert sum(p.units for p in found.purchases) == row["units"]
    hub = next(p for p in found.purchases if p.place == "hub")
    assert (hub.period, hub.size, hub.unit, hub.sold) == (None, 5e10, "FLOP/s", 1.0)
    assert found.saved == found.alone - found.cost
    assert words.headline(found) == (
        f"Buy {row['units']} units at {len(found.purchases)} places for {row['cost']:,.0f}, "
        f"{100 * found.saved / found.alone:.1f} % less than without coordination"
    )
    assert words.case(found) == "growth 1, at most 1 point of accuracy lost"


def test_a_plan_over_time_is_recommended_before_others(
    sites: Instance, plans: dict[str, Plan]
) -> None:
    found = recommend(sites, list(plans.values()))
    assert found is not None
    assert (found.plan.kind, found.growth) == ("growth", (1.0, 1.5))
    assert {p.period for p in found.purchases} == {1, 2}
    assert all(p.sold == 0.9 for p in found.purchases if "→" not in p.place)
    assert found.headroom == pytest.approx(0.1)
    periods = plans["growth"].table("periods").records()
    last = [r for r in periods if r["coordination"] == "full"][-1]
    assert found.cost == last["total_cost"]
    assert found.accuracy == last["accuracy"]
    # The plan for failures is of another growth: it says what is lost at any size, no more.
    assert found.failures_growth == 1.0
    north = next(f for f in found.failures if f.server == "north")
    assert (north.lost, north.served_rerouted) == (("cars",), None)
    assert "in 2 periods for" in words.headline(found)
    assert "growth 1 (period 1) to 1.5 (period 2)" in words.case(found)


def test_failures_follow_from_the_paths_as_the_plan_says(
    sites: Instance, plans: dict[str, Plan]
) -> None:
    plan = plans["failures"]
    found = recommend(sites, [plans["least-cost"], plan])
    assert found is not None
    assert found.case == {"plan": "survivable"}
    rows = {r["failed_server"]: r for r in plan.table("failures").records()
            if r["plan"] == "survivable"}  # fmt: skip
    assert {f.server for f in found.failures} == rows.keys()
    for one in found.failures:
        row = rows[one.server]
        assert one.served_fixed == pytest.approx(row["served_fixed_share"])
        assert len(one.hit) == row["tasks_hit"]
        assert len(one.lost) == row["tasks_lost"]
        assert one.served_rerouted == row["served_rerouted_share"]
        assert one.floors_kept is row["floors_kept"]
    shares = [one.served_rerouted for one in found.failures]
    assert shares == sorted(shares)
    assert found.normal == summary(plan, plan="normal")["cost"]
    # No plan without coordination survives failures: the comparison says so.
    key = {"growth": 1.0, "max_loss_points": 1.0, "coordination": "none", "method": "exact"}
    assert found.alone == summary(plans["least-cost"], **key)["cost"]
    assert words.comparison(found).endswith(", without thought of failures.")
    risk = words.risk(found)
    assert risk.heading == f"if {found.failures[0].server} fails"
    north = next(f for f in found.failures if f.server == "north")
    assert words.failure(found, north).startswith(
        "cars stops, whatever is bought: no path avoids it."
    )


def test_growth_and_failures_together_are_recommended_first(
    sites: Instance, plans: dict[str, Plan]
) -> None:
    periods = parse_periods("task,night,day\n,16,8\n" + "".join(
        f"{task.id},{0.5 * task.demand},{task.demand}\n" for task in sites.tasks
    ))  # fmt: skip
    both = {"failures": True, "keep": 0.5, "max_loss": 1.0, "growth": (1.0, 1.5)}
    settings = PlanSettings(max_utilization=0.9, period_names=("2027", "2028"))
    plan = plan_combined(sites, settings, periods=periods, **both)
    found = recommend(sites, [*plans.values(), plan])
    assert found is not None
    assert found.plan is plan
    assert found.survives
    assert found.cost == summary(plan, routing="fixed")["cost"]
    assert found.demand_periods == 2
    # The busiest hour is the day, and the instance's demand: so is that of the growth path.
    growth = {r["coordination"]: r["cost"] for r in plans["growth"].table("summary").records()}
    assert (found.alone, found.normal) == (growth["none"], growth["full"])
    assert found.alone_ignores_failures
    # A plan that asks for the same without coordination is what to compare with.
    native = plan_combined(sites, settings, periods=periods, coordination="none", **both)
    compared = recommend(sites, [native, *plans.values(), plan])
    assert compared is not None
    assert compared.plan is plan
    assert compared.alone == summary(native, routing="fixed")["cost"]
    assert not compared.alone_ignores_failures
    for service, task in zip(found.services, sites.tasks, strict=True):
        assert service.rate == pytest.approx(1.5 * task.demand)
    moved = {r["failed_server"]: r for r in plan.table("failures").records() if r["period"] == 2}
    for one in found.failures:
        assert len(one.hit) == moved[one.server]["tasks_hit"]
        assert one.lost == (("cars",) if one.server == "north" else ())
    # What is lost at any size is the main risk, even where more move to backup paths.
    assert words.risk(found) == (
        "if north fails", "cars stops, whatever is bought: no path avoids it."
    )  # fmt: skip
    hub = next(f for f in found.failures if f.server == "hub")
    assert words.failure(found, hub).endswith("to backup paths; 50 % of every demand is kept.")
    assert "in 2028" in words.where(found)


def test_what_is_measured_first_is_what_most_money_rests_on(
    sites: Instance, plans: dict[str, Plan]
) -> None:
    found = recommend(sites, [plans["least-cost"]])
    assert found is not None
    predicted = {s.task: s for s in found.services if s.accuracy_source == "predicted"}
    assert {one.task for one in found.measure_first} == predicted.keys()
    saved = [one.saved for one in found.measure_first]
    assert saved == sorted(saved, reverse=True)
    # shelf enters faces-net at the hub (entry 20 MFLOP, exit 1 MFLOP, its input of 50 kB crosses a
    # link) instead of 900 MFLOP at the mall: in parts of units of 1,200 for 10 GFLOP/s, 700 for 50.
    shelf = next(one for one in found.measure_first if one.task == "shelf")
    assert shelf.path == ("faces-net/0", "faces-net/1")
    at_mall, at_hub = 45 * 9e8 / 1e10 * 1200, 45 * (20e6 + 2.2e9 + 1e6) / 5e10 * 700
    link = 45 * 50_000 / 1e7 * 300
    assert shelf.saved == pytest.approx(at_mall - at_hub - link)
    # Six tasks weigh the same: the average may fall no further, one task 6 times what is left.
    assert shelf.slack_points == pytest.approx(6 * (1.0 - found.lost_points), abs=1e-6)


def test_a_case_without_an_answer_is_passed_over_and_none_at_all_is_said(sites: Instance) -> None:
    scarce = sites.replace(
        servers=[s.model_dump() | {"max_units": 1} for s in sites.servers], links=[]
    )
    plan = plan_least_cost(scarce, growth=(9.0, 0.5), max_loss=(1.0,))
    found = recommend(scarce, [plan])
    assert found is not None
    assert found.growth == (0.5,)
    plan = plan_least_cost(scarce, growth=(9.0,), max_loss=(1.0,))
    found = recommend(scarce, [plan])
    assert found is not None
    assert found.cost is None
    assert words.headline(found) == "No purchase serves the demand within all limits"
    assert recommend(sites, [plan_front(sites, points=2)]) is None


def test_of_an_uncertain_demand_the_share_in_every_scenario_is_recommended(
    sites: Instance, plans: dict[str, Plan]
) -> None:
    found = recommend(sites, [plans["scenarios"]])
    assert found is not None
    assert found.case == {"variant": "worst"}
    assert found.cost == summary(plans["scenarios"], variant="worst")["cost"]
    assert found.alone_status is None
    assert "nothing says what is saved" in words.comparison(found)
    assert ("Hours", "by scenario, each with its probability") in words.assumptions(found)


def test_limits_under_load_are_told_as_promised(plenty: Instance) -> None:
    tasks = [t.model_dump() | {"max_latency": 2.0} for t in plenty.tasks]
    limited = plenty.replace(tasks=[tasks[0] | {"latency_percentile": 0.9}, tasks[1]])
    settings = PlanSettings(unit_devices=1.0, demand=1.0)
    plan = plan_least_cost(limited, settings, growth=(0.5,), coordinations=("full",))
    found = recommend(limited, [plan])
    assert found is not None
    promised = {r["task"]: r["promised_s"] for r in plan.table("paths").records()
                if r["method"] == "exact"}  # fmt: skip
    loaded, free = found.services
    assert loaded.limited_time == loaded.promised == promised["ta"]
    assert loaded.latency < loaded.promised <= 2.0
    assert (free.percentile, free.limited_time) == (None, free.latency)
    assert words.limits(found)[0].startswith(
        f"Latency: 2 of 2 limits kept, 1 of them under load; nearest {found.limited[0].task}"
    )


def test_guessed_drops_give_a_range(sites: Instance) -> None:
    connections = [
        c.model_dump() | {"drop_low": 0.5 * c.drop, "drop_high": 3.0 * c.drop}
        for c in sites.tasks[0].connections
    ]
    guessed = sites.with_({"tasks[cars].connections": connections, "tasks[cars].min_accuracy": 0.8})
    plan = with_drop_range(
        guessed, lambda instance: plan_least_cost(instance, growth=(2.0,), max_loss=(2.0,))
    )
    found = recommend(guessed, [plan])
    assert found is not None
    low, middle, high = found.by_drops
    assert [one.drops for one in found.by_drops] == ["low", "middle", "high"]
    assert (middle.cost, middle.saved) == (found.cost, found.saved)
    assert low.cost <= middle.cost < high.cost
    assert [one.source for one in found.measure_first if one.task == "cars"] == ["guessed"]
    assert words.by_drops(found).startswith(f"What the guessed drops decide: {low.cost:,.0f} (")
    assert ("Guessed drops", "typical ones where nobody knows, for 1 service") in (
        words.assumptions(found)
    )


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (list("abcde"), "a, b, c, d and e"),
        (list("abcdef"), "a, b, c, d and 2 more"),
    ],
)
def test_names_are_told_in_a_sentence(names: list[str], text: str) -> None:
    assert words.some(names) == text
