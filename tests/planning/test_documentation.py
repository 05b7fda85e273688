"""The commands of docs/planning.md run and show what the page says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from code_opt.cli.app import main
from code_opt.instance import load_instance
from code_opt.planning import plan_least_cost
from tests.documents import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")


def test_there_is_an_example_of_every_analysis() -> None:
    text = "".join(blocks("docs/planning.md", "python"))
    for name in (
        "least_cost",
        "growth",
        "scenarios",
        "failures",
        "combined",
        "front",
        "marginal",
        "sweep",
    ):
        assert f"plan_{name}(" in text


def test_the_commands_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The walk-through is one session: what its steps write, its last one reads."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    commands = re.findall(r"^    code-opt (.*)$", PAGE, re.MULTILINE)
    assert [shlex.split(command)[0] for command in commands].count("plan") >= 6
    printed = ""
    for command in commands:
        assert main(shlex.split(command.replace("out/", f"{tmp_path}/"))) == 0
        printed += capsys.readouterr().out
    (shown,) = re.findall(r"```text\n(four-sites: .*?)```", PAGE, re.DOTALL)
    assert shown in printed
    written = tmp_path / "sites"
    kinds = {path.stem.split(".plan-")[1] for path in written.glob("*.plan-*.json")}
    assert kinds == {
        *("least-cost", "growth", "scenarios", "failures", "front", "marginal", "sweep")
    }
    assert (written / "four-sites.plan-least-cost.xlsx").is_file()
    text = (written / "report.html").read_text(encoding="utf-8")
    for heading in ("Least-cost capacity", "When a server fails", "Methods compared"):
        assert heading in text
    assert "Survivable plan, floors kept" in text
    assert "gets 80 % of its demand when those hit take backup paths" in text


def test_the_extras_of_the_walk_through_are_those_of_the_package() -> None:
    (line,) = re.findall(r"^    \.venv/bin/pip install .* -e '\.\[(.*)\]'$", PAGE, re.MULTILINE)
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    needed = " ".join(" ".join(extras[name]) for name in line.split(","))
    for package in ("xlsxwriter", "pyarrow", "jinja2", "matplotlib"):
        assert package in needed
    # Whoever follows the page meets it before the first command that needs it.
    assert PAGE.index(line) < PAGE.index("--out out/sites --xlsx")


def test_the_words_of_the_walk_through_are_those_of_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    plan = plan_least_cost(load_instance("data/four-sites-csv"), growth=(2.0,), max_loss=(1.0, 2.0))
    cost = {
        (row["max_loss_points"], row["coordination"]): f"{row['cost']:,.0f}"
        for row in plan.table("summary").records()
        if row["method"] == "exact"
    }
    assert f"the native networks alone need {cost[1.0, 'none']}" in PAGE
    assert f"coordination needs {cost[1.0, 'full']} if 1 point" in PAGE
    assert f"{cost[2.0, 'full']} at 2 points" in PAGE
    units = {
        row["server"]: row["units"]
        for row in plan.table("servers").records()
        if (row["max_loss_points"], row["coordination"], row["method"]) == (1.0, "full", "exact")
    }
    text = f"{units['north']} units at north, {units['south']} at south, {units['hub']} at the hub"
    assert text in PAGE
    assert not units["mall"]
