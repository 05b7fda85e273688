"""Growth paths: against brute force over all chains, and recomputed from the instance."""

from __future__ import annotations

import math

import pytest

from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.planning import Plan, PlanSettings, plan_growth, plan_least_cost
from tests.planning.reference import (
    average,
    cheapest_growth,
    demands_of,
    fits,
    loads,
    native_average,
    paid_by_year,
    planning_instance,
    seeds,
    with_units,
)

EXACT = PlanSettings(gap=1e-7, time_limit=None)


def verify(instance: Instance, plan: Plan, growth: tuple[float, ...], name: str = "full") -> None:
    """Recompute every period: loads, demands; what was bought stays and is paid for."""
    demand = {
        task.id: asked
        for task, asked in zip(instance.tasks, demands_of(instance).tolist(), strict=True)
    }
    records = {(s.id,): s for s in instance.servers}
    records |= {(link.source, link.target): link for link in instance.links}  # type: ignore[dict-item]
    before, years = dict.fromkeys(records, 0), dict.fromkeys(records, 0)
    spent = 0.0
    for period, factor in enumerate(growth, start=1):

        def mine(r, period=period) -> bool:
            return r["coordination"] == name and r["period"] == period

        rows = [r for r in plan.table("paths").records() if mine(r)]
        paths = {r["task"]: r["path"] for r in rows}
        rates = {r["task"]: r["rate_per_s"] for r in rows}
        servers = [r for r in plan.table("servers").records() if mine(r)]
        links = [r for r in plan.table("links").records() if mine(r)]
        units = {(r["server"],): r for r in servers}
        units |= {(r["source"], r["target"]): r for r in links}
        (total,) = (r for r in plan.table("periods").records() if mine(r))
        for task, rate in rates.items():
            assert rate == pytest.approx(factor * demand[task], rel=1e-9)
        assert fits(
            instance, {k: r["units"] for k, r in units.items()}, loads(instance, paths, rates)
        )
        bought = 0.0
        for key, row in units.items():
            assert row["units"] == before[key] + row["units_bought"]
            assert row["units_bought"] >= 0
            price, yearly = records[key].cost, records[key].yearly_cost
            bought += row["units_bought"] * price + row["units"] * yearly
            before[key] = row["units"]
            years[key] += row["units"]
            assert row["cost"] == pytest.approx(row["units"] * price + years[key] * yearly)
        spent += bought
        assert total["cost"] == pytest.approx(bought)
        assert total["total_cost"] == pytest.approx(spent)
        assert total["total_units"] == sum(before.values())
        assert total["accuracy"] == pytest.approx(average(instance, paths), abs=1e-9)
    (summary,) = (r for r in plan.table("summary").records() if r["coordination"] == name)
    assert summary["cost"] == pytest.approx(spent)


@pytest.mark.parametrize("seed", seeds(12, 150))
def test_the_present_value_is_that_of_brute_force(seed: int) -> None:
    compare(planning_instance(seed + 500, devices=seed % 3 == 2, max_combinations=60), seed)


def compare(instance: Instance, seed: int) -> None:
    """Compare the growth path of an instance with brute force; two of three pay by the year."""
    instance = paid_by_year(instance, seed) if seed % 3 else instance
    growth = ((1.0, 2.0), (1.0, 3.0, 1.5), (0.5, 1.2, 2.5))[seed % 3]
    discount = (0.0, 0.1, 0.5)[seed % 3 if seed % 2 else 1]
    loss = None if seed % 2 else 4.0
    plan = plan_growth(instance, EXACT, growth=growth, max_loss=loss, discount=discount)
    row = plan.table("summary").records()[0]
    assert row["coordination"] == "full"
    least = None
    if loss is not None:
        least = max(native_average(instance) - loss / 100.0, 0.0)
    demands = [demands_of(instance) * g for g in growth]
    value = [(1.0 + discount) ** -h for h in range(len(growth))]
    best = cheapest_growth(instance, demands, least, value)
    if math.isinf(best):
        assert row["status"] == "infeasible"
        assert plan.message
        return
    assert row["status"] == "optimal"
    assert row["present_value"] == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert row["bound"] == pytest.approx(best, rel=1e-6, abs=1e-5)
    verify(instance, plan, growth)


def test_without_discount_it_is_bought_as_late_as_possible(plenty: Instance) -> None:
    plenty = with_units(plenty, 50.0)
    growth = (1.0, 1.5, 2.0)
    plan = plan_growth(plenty, growth=growth, max_loss=0.0, coordinations=("full",))
    bought = [r["units_bought"] for r in plan.table("periods").records()]
    assert bought == [0, 1, 1]
    verify(plenty, plan, growth)


def test_the_end_costs_what_it_would_cost_alone(plenty: Instance) -> None:
    settings = PlanSettings(unit_flops=7.0)
    growth = plan_growth(plenty, settings, growth=(1.0, 2.0, 4.0), max_loss=0.0)
    alone = plan_least_cost(plenty, settings, growth=(4.0,), max_loss=(0.0,))
    rows = {r["coordination"]: r for r in growth.table("summary").records()}
    for row in alone.table("summary").records():
        if row["method"] == "exact":
            assert rows[row["coordination"]]["cost"] == pytest.approx(row["cost"])
            assert rows[row["coordination"]]["units"] == row["units"]


def test_capacity_is_kept_when_demand_falls(plenty: Instance) -> None:
    plenty = with_units(plenty, 50.0)
    growth = (2.0, 1.0)
    plan = plan_growth(plenty, growth=growth, max_loss=0.0, coordinations=("full",))
    assert [r["total_units"] for r in plan.table("periods").records()] == [2, 2]
    verify(plenty, plan, growth)


@pytest.mark.parametrize("options", [{"growth": ()}, {"discount": -0.1}, {"discount": math.nan}])
def test_bad_options_are_refused(plenty: Instance, options: dict) -> None:
    with pytest.raises(InputError):
        plan_growth(plenty, **options)
