"""Growth, hours, scenarios and failures in one plan: against brute force over paths and backups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from code_opt.instance import Instance, parse_periods
from code_opt.planning import PlanSettings, parse_scenarios, plan_combined
from tests.planning.reference import (
    Asked,
    cheapest_combined,
    demands_of,
    floors_of,
    groups_of,
    native_average,
    paid_by_year,
    planning_instance,
    seeds,
)

EXACT = PlanSettings(gap=1e-7, time_limit=None)


def periods_of(instance: Instance, rng: np.random.Generator) -> str:
    """Return a table of two periods; one asks for a part of the other, or each for more of some."""
    lines = ["task,night,day", ",14,10"]
    is_implied = rng.random() < 0.4
    for group in groups_of(instance):
        less = float(rng.choice([0.0, 0.3, 0.8]))
        more = float(rng.choice([0.0, 1.0])) if is_implied else float(rng.uniform(0.2, 1.3))
        for t in group:
            demand = float(demands_of(instance)[t])
            lines.append(f"{instance.tasks[t].id},{less * demand * more!r},{demand * more!r}")
            if not is_implied and group[0] % 2:
                lines[-1] = f"{instance.tasks[t].id},{demand * more!r},{less * demand * more!r}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", seeds(12, 200))
def test_the_cost_is_that_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"max_combinations": 24}
    if seed % 3 == 2:
        options |= {"devices": True, "empty": seed % 2 == 1}
    if seed % 4 == 3:
        options["groups"] = True
    instance = planning_instance(seed + 2600, **options)
    instance = paid_by_year(instance, seed) if seed % 4 < 2 else instance
    table = parse_periods(periods_of(instance, rng))
    factors = (1.0,) if seed % 2 else (1.0, 1.6)
    scenarios = None
    if seed % 5 == 4:
        scenarios = parse_scenarios("scenario,probability,factor\nlow,0.5,0.5\nhigh,0.5,1.2\n")
    asks = {"failures": seed % 3 != 1, "device_failures": seed % 3 != 0}
    share, device_share = (None, 0.5, 1.0)[seed % 3], (1.0, 0.8)[seed % 2]
    discount, routings = (0.0, 0.1)[seed % 2], ("fixed", "by-period")
    loss = (None, 3.0)[seed % 2]
    plan = plan_combined(
        instance,
        EXACT,
        growth=factors,
        periods=table,
        scenarios=scenarios,
        keep=share,
        keep_devices=device_share,
        routings=routings,
        discount=discount,
        max_loss=loss,
        **asks,
    )
    blocks = [demands_of(table.at(instance, k)) for k in range(2)]
    least = None if loss is None else native_average(instance) - loss / 100.0
    unlimited = instance.model_copy(
        update={"tasks": tuple(t.model_copy(update={"demand": None}) for t in instance.tasks)}
    )
    floors = np.array(floors_of(unlimited))

    def asked(demand: np.ndarray) -> Asked:
        kept = np.minimum(floors, demand) if share is None else share * demand
        return Asked(
            demand,
            kept if asks["failures"] else None,
            device_share * demand if asks["device_failures"] else None,
        )

    for row in plan.table("summary").records():
        periods = []
        for factor in factors:
            choices = [
                [asked(factor * block * s) for s in ((0.5, 1.2) if scenarios else (1.0,))]
                for block in blocks
            ]
            if row["routing"] == "fixed":
                choices = [[state for states in choices for state in states]]
            periods.append(choices)
        value = [(1.0 + discount) ** -h for h in range(len(factors))]
        best = cheapest_combined(instance, periods, least, value)
        if math.isinf(best):
            assert row["status"] == "infeasible"
            assert row["message"]
        else:
            assert row["status"] == "optimal"
            assert row["present_value"] == pytest.approx(best, rel=1e-6, abs=1e-9)
