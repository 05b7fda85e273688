"""Uncertain demand: against brute force over paths, units and rates; tables of scenarios."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.planning import (
    Plan,
    PlanSettings,
    Scenarios,
    load_scenarios,
    parse_scenarios,
    plan_scenarios,
)
from tests.planning.reference import (
    cheapest,
    cheapest_adapting,
    demands_of,
    fits,
    floors_of,
    loads,
    planning_instance,
    seeds,
    with_units,
)

EXACT = PlanSettings(gap=1e-7, time_limit=None)


def drawn_scenarios(instance: Instance, seed: int) -> Scenarios:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 4))
    chances = rng.dirichlet(np.full(count, 2.0))
    lines = ["scenario,probability,task,demand,factor"]
    for k in range(count):
        lines.append(f"k{k},{chances[k]!r},,,{rng.uniform(0.3, 3.0)!r}".replace("np.float64", ""))
        number = int(rng.integers(len(instance.tasks)))
        if rng.random() < 0.5:
            demand = float(rng.uniform(0.0, 3.0) * demands_of(instance)[number])
            lines.append(f"k{k},,{instance.tasks[number].id},{demand!r},")
    return parse_scenarios("\n".join(lines).replace("(", "").replace(")", ""))


def verify(instance: Instance, plan: Plan) -> None:
    """Recompute loads and shares of every variant in every scenario."""
    summary = {r["variant"]: r for r in plan.table("summary").records()}
    price = {(s.id,): s.cost for s in instance.servers}
    price |= {(link.source, link.target): link.cost for link in instance.links}
    floors = dict(zip((t.id for t in instance.tasks), floors_of(instance), strict=True))
    for variant, row in summary.items():
        if row["cost"] is None:
            continue
        paths = {
            r["task"]: r["path"] for r in plan.table("paths").records() if r["variant"] == variant
        }
        units = {
            (r["server"],): r["units"]
            for r in plan.table("servers").records()
            if r["variant"] == variant
        }
        units |= {
            (r["source"], r["target"]): r["units"]
            for r in plan.table("links").records()
            if r["variant"] == variant
        }
        assert row["cost"] == pytest.approx(sum(n * price[k] for k, n in units.items()))
        served, asked, shares = 0.0, 0.0, []
        for scenario in plan.table("scenarios").records():
            if scenario["variant"] != variant:
                continue
            rates = {
                r["task"]: r
                for r in plan.table("rates").records()
                if (r["variant"], r["scenario"]) == (variant, scenario["scenario"])
            }
            assert fits(
                instance,
                units,
                loads(instance, paths, {t: r["rate_per_s"] for t, r in rates.items()}),
            )
            for task, r in rates.items():
                assert r["rate_per_s"] <= r["demand_per_s"] * (1 + 1e-9)
                if variant != "mean":
                    least = min(floors[task], r["demand_per_s"])
                    assert r["rate_per_s"] >= least * (1 - 1e-6)
            total = sum(r["rate_per_s"] for r in rates.values())
            demand = sum(r["demand_per_s"] for r in rates.values())
            assert scenario["served_per_s"] == pytest.approx(total)
            served += scenario["probability"] * total
            asked += scenario["probability"] * demand
            shares.append(total / demand if demand > 0 else 1.0)
        assert row["worst_served_share"] == pytest.approx(min(shares))
        if asked > 0:
            assert row["expected_served_share"] == pytest.approx(served / asked)
        if variant == "expected":
            assert row["expected_served_share"] >= row["served_share"] - 1e-6
        if variant in ("worst", "every"):
            assert row["worst_served_share"] >= row["served_share"] - 1e-6


@pytest.mark.parametrize("seed", seeds(10, 100))
def test_the_costs_are_those_of_brute_force(seed: int) -> None:
    compare(planning_instance(seed + 900, devices=seed % 3 == 2, max_combinations=25), seed)


def compare(instance: Instance, seed: int) -> None:
    """Compare the plans for drawn scenarios with brute force."""
    scenarios = drawn_scenarios(instance, seed)
    served = (0.6, 0.8, 0.95, 1.0)[seed % 4]
    plan = plan_scenarios(instance, scenarios, EXACT, served=served)
    rows = {r["variant"]: r for r in plan.table("summary").records()}
    demands = scenarios.demands(instance)
    probability = np.array(scenarios.probabilities)
    floors = np.minimum(np.array(floors_of(instance)), demands)
    best = {
        "mean": cheapest(instance, [probability @ demands], None),
        "every": cheapest(instance, list(demands), None),
        "expected": cheapest_adapting(
            instance, demands, probability, floors, None, expected=served
        ),
        "worst": cheapest_adapting(instance, demands, probability, floors, None, worst=served),
    }
    for variant, cost in best.items():
        if math.isinf(cost):
            assert rows[variant]["status"] == "infeasible", variant
        else:
            assert rows[variant]["status"] == "optimal", variant
            assert rows[variant]["cost"] == pytest.approx(cost, rel=1e-6, abs=1e-6), variant
    verify(instance, plan)


def test_serving_more_costs_more(plenty: Instance) -> None:
    scenarios = parse_scenarios("scenario,probability,factor\nlow,0.9,0.5\nhigh,0.1,4\n")
    plenty = with_units(plenty, 5.0)
    plan = plan_scenarios(plenty, scenarios, served=0.8, max_loss=0.0)
    cost = {r["variant"]: r["cost"] for r in plan.table("summary").records()}
    assert cost["mean"] <= cost["expected"] < cost["worst"] < cost["every"]
    verify(plenty, plan)
    (mean,) = (r for r in plan.table("summary").records() if r["variant"] == "mean")
    # Planned for 0.85 of the demand, no more than the present capacities serve the peak.
    assert mean["worst_served_share"] < 0.6


@pytest.mark.parametrize("options", [{"served": 1.5}, {"growth": -1.0}, {"max_loss": -1.0}])
def test_bad_options_are_refused(plenty: Instance, options: dict) -> None:
    scenarios = parse_scenarios("scenario,probability,factor\nx,1,1\n")
    with pytest.raises(InputError):
        plan_scenarios(plenty, scenarios, **options)


# The table


def test_a_table_with_semicolons_and_decimal_commas_is_read() -> None:
    text = "scenario;probability;task;factor\r\nlow;0,6;;0,8\r\nhigh;0,4;;1,5\r\n;;;\r\n"
    same = "scenario,probability,factor\nlow,0.6,0.8\nhigh,0.4,1.5\n"
    assert parse_scenarios(text) == parse_scenarios(same)


def test_a_percentage_is_refused_with_how_to_write_it() -> None:
    with pytest.raises(InputError, match=r"2 probability = '60%'.*; write 0.6 for 60%"):
        parse_scenarios("scenario,probability,factor\nlow,60%,1\nhigh,0.4,1\n")


def test_rows_of_tasks_win_over_rows_for_all(plenty: Instance) -> None:
    scenarios = parse_scenarios(
        "\ufeffscenario,probability,task,demand,factor\r\n"
        "day,0.75,,,2\r\n\r\nnight,0.25,ta,3,\r\nnight,,,,0.5\r\nodd,0,tb,1,\r\n".lstrip("\ufeff")
    )
    assert scenarios.names == ("day", "night", "odd")
    assert scenarios.probabilities == (0.75, 0.25, 0.0)
    assert scenarios.demands(plenty).tolist() == [[20.0, 20.0], [3.0, 5.0], [10.0, 1.0]]


def test_a_file_is_read(tmp_path: Path, plenty: Instance) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xef\xbb\xbfscenario,probability,factor,,\na,0.5,1,,\nb,0.5,2,,\n")
    assert load_scenarios(path).demands(plenty).tolist() == [[10.0, 10.0], [20.0, 20.0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty; expected the columns scenario"),
        ("scenario,factor\na,1\n", "1: the column 'probability' is missing"),
        ("scenario,probability\na,1\n", "1: a column 'demand' or 'factor' is missing"),
        (
            "scenario,probability,facter\na,1,1\n",
            "1: unknown column 'facter'; did you mean 'factor'",
        ),
        ("scenario,probability,factor,factor\n", "1: the column 'factor' stands there twice"),
        ("scenario,probability,factor\n", "no scenarios"),
        ("scenario,probability,factor\n,1,1\n", "2 scenario: is required"),
        ("scenario,probability,factor\na,x,1\n", "2 probability = 'x': must be a finite number"),
        ("scenario,probability,factor\na,2,1\n", "2 probability = '2': must lie in [0, 1]"),
        ("scenario,probability,factor\na,1,-1\n", "2 factor = '-1': must be at least 0"),
        ("scenario,probability,factor\na,1,nan\n", "2 factor = 'nan': must be a finite number"),
        (
            "scenario,probability,factor\na,0.4,1\nb,0.4,1\n",
            "the probabilities sum to 0.8, not to 1 (within 1 %)",
        ),
        (
            "scenario,probability,factor\na,0.5,1\nb,0.511,1\n",
            "the probabilities sum to 1.011, not to 1 (within 1 %)",
        ),
        (
            "scenario,probability,factor\na,0.5,1\nb,0.489,1\n",
            "the probabilities sum to 0.989, not to 1 (within 1 %)",
        ),
        ("scenario,probability,factor\na,,1\n", "scenario 'a': no row has its probability"),
        ("scenario,probability,factor\na,1,1\na,1,2\n", "3 task: scenario 'a' has a row for it"),
        (
            "scenario,probability,task,factor\na,1,x,1\na,0.5,y,2\n",
            "3 probability: scenario 'a' has 1 already",
        ),
        ("scenario,probability,factor\na,1,\n", "2: expected either a demand or a factor"),
        (
            "scenario,probability,demand,factor\na,1,1,1\n",
            "2: expected either a demand or a factor",
        ),
        ("scenario,probability,factor\na,1,1,7\n", "2: 4 cells, but there are 3 columns"),
        ("scenario,probability,factor\na,0,5,\n", "2: 4 cells, but there are 3 columns"),
        ("scenario,probability,factor,task\na,1,2\n", "2: 3 cells, but there are 4 columns"),
        ('scenario,probability,factor\na,1,"1\n', "not CSV"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scenarios(text, "s.csv")
    assert str(caught.value).startswith("s.csv:")
    assert expected in str(caught.value)


def test_an_unknown_task_is_refused(plenty: Instance) -> None:
    scenarios = parse_scenarios("scenario,probability,task,factor\na,1,tx,1\n", "s.csv")
    with pytest.raises(InputError, match=r"s\.csv: scenario 'a': no task 'tx'; known: 'ta'"):
        plan_scenarios(plenty, scenarios)


def test_probabilities_that_were_rounded_are_normalised() -> None:
    hours = "".join(f"{hour},0.0417,1\n" for hour in range(24))
    scenarios = parse_scenarios(f"scenario,probability,factor\n{hours}", "hours.csv")
    assert scenarios.probabilities == pytest.approx([1.0 / 24.0] * 24, rel=1e-12)
    assert scenarios.notice == (
        "hours.csv: the probabilities sum to 1.0008; each is divided by this sum"
    )
    low = parse_scenarios("scenario,probability,factor\na,0.495,1\nb,0.495,1\n")
    assert low.probabilities == (0.5, 0.5)
    assert low.notice is not None
    assert parse_scenarios("scenario,probability,factor\na,0.5,1\nb,0.5,1\n").notice is None
