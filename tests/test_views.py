"""How instances, results and plans show themselves, and what the package offers by name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import html5lib
import pytest
import yaml

import code_opt
from code_opt.planning.plan import Column, Plan, Table
from code_opt.text import MOST_ROWS, html_table
from tests.cli.examples import HOSTILE, make_instance, make_result

ROOT = Path(__file__).resolve().parents[1]


def make_plan(rows: int = 2) -> Plan:
    columns = (
        Column(name="server", type="text"),
        Column(name="units", type="number", unit="<1>"),
    )
    table = Table(
        name="units",
        title="Units & costs",
        columns=columns,
        rows=tuple((f"<b>{i}</b>", 0.123456789) for i in range(rows)),
    )
    fields: dict[str, Any] = {"schema": "code-opt/plan/1", "tables": (table,)}
    return Plan(kind="front", instance="<i>", status="optimal", gap=1e-5, **fields)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            make_instance(),
            "<Instance 'two-services': 2 servers, 1 link, 2 networks, 2 tasks, 2 connections>",
        ),
        (
            make_result(),
            "<Result of exact on 'two-services': feasible, reward 120, throughput 331.2, "
            "accuracy 0.7512>",
        ),
        (
            make_result(status="infeasible", message="no room\n  at all"),
            "<Result of exact on 'two-services': infeasible, no room>",
        ),
        (make_plan(), "<Plan front of '<i>': optimal, gap 0.001 %, units (2 rows)>"),
    ],
)
def test_a_repr_is_one_short_line(record: Any, text: str) -> None:
    assert repr(record) == text
    assert str(record) == text


@pytest.mark.parametrize("record", [make_instance(HOSTILE), make_result(), make_plan()])
def test_an_html_view_is_escaped(record: Any) -> None:
    view = record._repr_html_()
    html5lib.HTMLParser(strict=True).parseFragment(view)
    assert "\x1b" not in view
    assert "\u202e" not in view
    assert "<b>" not in view
    assert "<i>" not in view
    assert "<table>" in view


def test_an_html_view_shows_rows_and_says_how_many_more() -> None:
    view = make_plan(MOST_ROWS + 3)._repr_html_()
    assert view.count("<tr>") == MOST_ROWS + 1
    assert "... and 3 more rows" in view
    assert "0.123457" in view
    assert "units [&lt;1&gt;]" in view
    assert "<table>" not in html_table("nothing", [], [])


def test_a_result_without_an_assignment_has_no_table() -> None:
    view = make_result(status="unknown", message="too <late>")._repr_html_()
    assert "too &lt;late&gt;" in view
    assert "<table>" not in view


def test_the_package_shows_its_public_names_and_nothing_else() -> None:
    assert dir(code_opt) == sorted(code_opt.__all__)


@pytest.mark.parametrize(
    "name",
    [
        "code_opt",
        "code_opt.batch",
        "code_opt.checker",
        "code_opt.errors",
        "code_opt.exact",
        "code_opt.generate",
        "code_opt.instance",
        "code_opt.planning",
        "code_opt.registry",
        "code_opt.result",
    ],
)
def test_public_modules_name_what_they_offer(name: str) -> None:
    module = importlib.import_module(name)
    assert [word for word in module.__all__ if not hasattr(module, word)] == []


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == code_opt.__version__
    assert {"message", "title", "authors", "license", "references"} <= citation.keys()
    assert "2401.00631" in str(citation["references"])
