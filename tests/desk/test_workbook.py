"""Workbooks of planners: what they hold, against the same problem written by hand."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import code_opt
from code_opt.cli.app import main
from code_opt.desk import load_request, template, write_sheets
from code_opt.instance import Instance, load_instance, save_instance
from code_opt.planning import PlanSettings, plan_growth

EXACT = PlanSettings(gap=1e-7, time_limit=None)
PRICE = {"T4": (2200.0, 310.0), "L4": (6400.0, 100.0)}
MILLISECONDS = {"cars": {"T4": 5.0, "L4": 2.5}, "crowd": {"T4": 8.0, "L4": 3.0}}
DEMAND = {"cars": 420.0, "crowd": 250.0}
GROWTH = (1.0, 1.6, 2.3)


def test_the_template_is_a_plan_in_both_forms(tmp_path: Path) -> None:
    book, folder = tmp_path / "plan.xlsx", tmp_path / "plan"
    write_sheets(template(), book)
    write_sheets(template(), folder)
    request = load_request(book)
    assert request == load_request(folder)
    assert request.years == ("2027", "2028", "2029")
    assert request.growth == (1.0, 1.4, 1.9)
    assert (request.max_loss, request.keep, request.discount) == (1.0, None, 0.05)
    instance = request.instance
    assert instance.currency == "EUR"
    assert [s.id for s in instance.servers] == ["north/T4", "north/L4", "hub"]
    assert [s.site for s in instance.servers] == ["north", "north", None]
    assert instance.dnns[0].blocks[0].seconds == {"1": 0.0021}
    # The largest of the demands by the hour.
    assert [task.demand for task in instance.tasks] == [120.0, 80.0]
    assert code_opt.load_instance(book) == instance
    assert [task.latency_percentile for task in instance.tasks] == [None, None]
    sheets = {name: [list(row) for row in rows] for name, rows in template().items()}
    sheets["Settings"][6][1] = "95 %"
    write_sheets(sheets, folder)
    limited = load_request(folder).instance.tasks
    assert [(t.max_latency, t.latency_percentile) for t in limited] == [(0.04, 0.95), (None, None)]


def test_written_twice_a_workbook_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.xlsx", "b.xlsx"):
        write_sheets(template(), tmp_path / name)
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()


def small(tmp_path: Path, connections: Sequence[Sequence[object]] = ()) -> Path:
    """Two services at one site that can buy two types of devices; nothing is there yet."""
    contents = {
        "Settings": [["Setting", "Value"], ["Discount per year", 0.1]],
        "Sites": [["Site"], ["depot"]],
        "Device types": [
            ["Type", "Price", "Price per year"],
            *([name, *price] for name, price in PRICE.items()),
        ],
        "Devices": [["Site", "Type", "Most to buy"], *(["depot", name, None] for name in PRICE)],
        "Networks": [["Network", "Site"], *([f"{name}-net", "depot"] for name in DEMAND)],
        "Blocks": [
            ["Network", "Block", *(f"ms on {name}" for name in PRICE)],
            *([f"{s}-net", f"{s}-net/0", *times.values()] for s, times in MILLISECONDS.items()),
        ],
        "Services": [
            ["Service", "Network", "Accuracy", "Demand"],
            *([name, f"{name}-net", 0.9, demand] for name, demand in DEMAND.items()),
        ],
        "Connections": [["Service", "From", "To", "Drop"], *connections],
        "Growth": [["Year", "Factor"], *([2027 + h, g] for h, g in enumerate(GROWTH))],
    }
    write_sheets(contents, tmp_path / "small.xlsx")
    return tmp_path / "small.xlsx"


def cheapest() -> float:
    """Return the least present value over all choices of a type per service and year."""
    best = math.inf
    choices = list(itertools.product(PRICE, repeat=len(DEMAND)))
    for chain in itertools.product(choices, repeat=len(GROWTH)):
        value, standing = 0.0, dict.fromkeys(PRICE, 0)
        for year, (growth, types) in enumerate(zip(GROWTH, chain, strict=True)):
            for name, (price, yearly) in PRICE.items():
                busy = sum(
                    growth * demand * MILLISECONDS[service][name] / 1000.0
                    for (service, demand), chosen in zip(DEMAND.items(), types, strict=True)
                    if chosen == name
                )
                units = max(standing[name], math.ceil(busy - 1e-9))
                spent = (units - standing[name]) * price + units * yearly
                value += spent / 1.1**year
                standing[name] = units
        best = min(best, value)
    return best


def test_the_types_that_are_bought_cost_as_little_as_by_brute_force(tmp_path: Path) -> None:
    request = load_request(small(tmp_path))
    plan = plan_growth(request.instance, EXACT, growth=request.growth, discount=request.discount)
    summary = {row["coordination"]: row for row in plan.table("summary").records()}
    best = cheapest()
    # Which type runs a network needs no coordination.
    for name in ("full", "exits", "none"):
        assert summary[name]["status"] == "optimal"
        assert summary[name]["present_value"] == pytest.approx(best, rel=1e-6)
    servers = [r for r in plan.table("servers").records() if r["coordination"] == "none"]
    assert len({row["server"] for row in servers if row["units"]}) == 2


def test_connections_join_all_copies(tmp_path: Path) -> None:
    rows = [("cars", "input", "crowd-net/0", 0.03), ("cars", "crowd-net/0", "output", 0.01)]
    instance = load_request(small(tmp_path, rows)).instance
    ends = {(c.source, c.target) for c in instance.tasks[0].connections}
    assert ends == {
        ("input", "crowd-net/0"),
        ("input", "crowd-net/0@L4"),
        ("crowd-net/0", "output"),
        ("crowd-net/0@L4", "output"),
    }


def test_answers_are_those_of_the_same_problem_as_json(tmp_path: Path) -> None:
    rows = [("cars", "input", "crowd-net/0", 0.03), ("cars", "crowd-net/0", "output", 0.01)]
    book = small(tmp_path, rows)
    by_hand = Instance.model_validate(load_request(book).instance.to_dict())
    save_instance(by_hand, tmp_path / "small.json")
    assert load_instance(tmp_path / "small.json") == by_hand
    options = ["--growth", "1,1.6,2.3", "--growth-path", "--discount", "0.1"]
    assert main(["plan", str(book), "--out", str(tmp_path / "a")]) == 0
    asked = [str(tmp_path / "small.json"), *options, "--out", str(tmp_path / "b")]
    assert main(["plan", *asked]) == 0
    found = [
        code_opt.load_plan(tmp_path / out / "small.plan-growth.json").tables()["periods"]
        for out in ("a", "b")
    ]
    assert found[0].equals(found[1])


def test_the_example_is_what_its_script_makes() -> None:
    data = Path(__file__).resolve().parents[2] / "data"
    made = subprocess.run([sys.executable, data / "make_city_plan.py", "--check"], check=False)
    assert made.returncode == 0
    request = load_request(data / "city-plan.xlsx")
    assert request == load_request(data / "city-plan")
    assert (len(request.instance.tasks), len(request.years)) == (12, 3)
    assert request.instance.has_guesses


@pytest.mark.long
def test_the_page_shows_what_the_city_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "planner-desk.md").read_text(encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "80")
    printed = ""
    for command in re.findall(r"^    code-opt (.* out/city.*)$", page, re.MULTILINE):
        assert main(shlex.split(command.replace("out/", f"{tmp_path}/"))) == 0
        printed += capsys.readouterr().out
    (shown,) = re.findall(r"```text\n(By guessed drops: .*?17,790\n)```", page, re.DOTALL)
    assert shown in printed
    plan = code_opt.load_plan(tmp_path / "city" / "city.plan-combined.json")
    costs = {row["drops"]: f"{row['cost']:,.0f}" for row in plan.table("drops").records()}
    assert f"EUR {costs['middle']} ({costs['low']} at low drops, {costs['high']}" in " ".join(
        page.split()
    )
    assert (tmp_path / "city" / "report.html").is_file()


def test_a_planner_gets_from_the_template_to_plans_that_are_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheets = {name: [list(row) for row in rows] for name, rows in template().items()}
    sheets["Settings"][5][1] = 0.5
    book, out = tmp_path / "plan.xlsx", tmp_path / "out"
    write_sheets(sheets, book)
    request = load_request(book)
    assert request.periods is not None
    assert request.periods.names == ("night", "morning", "noon", "evening")
    assert request.periods.hours == (8.0, 4.0, 4.0, 8.0)
    assert request.periods.demands == {"cars": (12.0, 120.0, 95.0, 70.0)}
    assert main(["plan", str(book), "--out", str(out), "--xlsx"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("none   ")] == [
        ["none", name] for name in ("optimal", "2027", "2028", "2029")
    ]
    assert shown.endswith("\nAll money is in EUR.\n")
    for kind in ("growth", "combined"):
        file = out / f"two-sites.plan-{kind}.json"
        assert main(["check", str(file), str(book)]) == 0
        plan = code_opt.load_plan(file)
        assert plan.settings["period_names"] == ("2027", "2028", "2029")
        assert plan.settings["currency"] == "EUR"
        assert plan.settings["growth"] == (1.0, 1.4, 1.9)
        assert file.with_suffix(".xlsx").is_file()
    settings = plan.settings
    assert (settings["failures"], settings["keep"], settings["discount"]) == (True, 0.5, 0.05)
    assert settings["max_loss_points"] == 1.0
    demands = {
        (r["demand_period"], r["task"]): r["demand_per_s"] for r in plan.table("demands").records()
    }
    assert demands["noon", "cars"] == 95.0
    assert demands["noon", "crowd"] == 80.0
    # What the command line says goes before what the workbook says.
    asked = ["--growth", "1,2", "--max-loss", "0", "--growth-path", "--out", str(tmp_path / "b")]
    assert main(["plan", str(book), *asked]) == 0
    plan = code_opt.load_plan(tmp_path / "b" / "two-sites.plan-growth.json")
    assert plan.settings["growth"] == (1.0, 2.0)
    assert plan.settings["max_loss_points"] == 0.0
    assert "period_names" not in plan.settings
    assert not (tmp_path / "b" / "two-sites.plan-combined.json").exists()


def test_the_command_fills_nothing_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = tmp_path / "plan.xlsx"
    assert main(["template", "--out", str(book)]) == 0
    assert capsys.readouterr().out == (
        f"written to {book}; fill it in, then: code-opt plan {book}\n"
    )
    assert main(["template", "--out", str(book)]) == 2
    assert capsys.readouterr().err.endswith(f"{book}: is there already; --overwrite replaces it\n")
    assert main(["template", "--out", str(book), "--overwrite"]) == 0
    assert main(["template", "--out", str(tmp_path / "plan.ods")]) == 2
    assert "a plan is written to .xlsx" in capsys.readouterr().err
    assert main(["solve", str(book), "-m", "exact"]) == 0
