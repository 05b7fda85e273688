"""Plans as workbooks: what a colleague opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from code_opt.instance import Instance
from code_opt.planning import (
    Plan,
    PlanSettings,
    export_tables,
    plan_failures,
    plan_front,
    plan_growth,
    plan_least_cost,
)

openpyxl: Any = pytest.importorskip("openpyxl")
pytest.importorskip("xlsxwriter")


@pytest.fixture
def site(plenty: Instance) -> Instance:
    """An instance with a currency, in which units have to be bought."""
    return plenty.replace(currency="EUR")


def book_of(plan: Plan, folder: Path) -> Any:
    """Return a plan's workbook, opened."""
    export_tables(plan, folder, "x", parquet=False, xlsx=True)
    return openpyxl.load_workbook(folder / "x.xlsx")


def headings(sheet: Any) -> list[str]:
    return [cell.value for cell in sheet[1]]


def test_exact_and_heuristic_stand_on_sheets_of_their_own(site: Instance, tmp_path: Path) -> None:
    settings = PlanSettings(unit_flops=7.0, period_names=("2027", "2028"))
    plan = plan_least_cost(site, settings, growth=(1.0, 4.0), max_loss=(0.0,))
    book = book_of(plan, tmp_path)
    assert book.sheetnames == [
        *("Overview", "Costs", "Servers", "Links", "Paths"),
        *(f"{name} (heuristic)" for name in ("Costs", "Servers", "Paths")),
    ]
    costs = book["Costs"]
    assert costs.auto_filter.ref == f"A1:{costs.cell(1, costs.max_column).column_letter}7"
    assert costs.freeze_panes == "A2"
    at = {name: i for i, name in enumerate(headings(costs), start=1)}
    assert {costs.cell(r, at["Method"]).value for r in range(2, 8)} == {"exact"}
    assert {costs.cell(r, 1).value for r in range(2, 8)} == {"2027", "2028"}
    rows = [r for r in plan.table("summary").records() if r["method"] == "exact"]
    for r, row in enumerate(rows, start=2):
        cell = costs.cell(r, at["Cost [EUR]"])
        assert cell.value == row["cost"]
        assert cell.number_format == "#,##0.00"
    assert costs.cell(1, at["Cost [EUR]"]).comment.text.startswith("cost: price of the units")
    overview = book["Overview"]
    told = {row[0].value: row[1].value for row in overview.iter_rows(max_row=12)}
    assert told["Question"] == "What does it cost to serve all demand?"
    assert told["Currency"] == "EUR"
    assert len(overview._charts) == 1


def test_years_stand_side_by_side_by_their_names(site: Instance, tmp_path: Path) -> None:
    settings = PlanSettings(unit_flops=7.0, period_names=("2027", "2028", "2029"))
    plan = plan_growth(site, settings, growth=(1.0, 2.0, 4.0), max_loss=0.0)
    overview = book_of(plan, tmp_path)["Overview"]
    rows = [[cell.value for cell in row] for row in overview.iter_rows(max_col=4)]
    top = next(i for i, row in enumerate(rows) if row[0] == "Spent so far: Total cost [EUR]")
    assert rows[top][1:] == ["full", "exits", "none"]
    assert [row[0] for row in rows[top + 1 : top + 4]] == ["2027", "2028", "2029"]
    spent = [r["total_cost"] for r in plan.table("periods").records()]
    assert [row[1] for row in rows[top + 1 : top + 4]] == spent[:3]


def test_every_question_has_its_chart(site: Instance, tmp_path: Path) -> None:
    settings = PlanSettings(unit_flops=7.0)
    failures = plan_failures(site, settings, growth=2.0, keep=0.5)
    book = book_of(failures, tmp_path)
    assert book.sheetnames[:3] == ["Overview", "Costs", "Failures"]
    served = next(cell for cell in book["Failures"][1] if "rerouted" in cell.comment.text)
    assert served.value
    assert len(book["Overview"]._charts) == 1
    front = book_of(plan_front(site, settings, points=5), tmp_path)
    (chart,) = front["Overview"]._charts
    assert type(chart).__name__ == "ScatterChart"


def test_the_same_plan_is_the_same_file(site: Instance, tmp_path: Path) -> None:
    plan = plan_least_cost(site, PlanSettings(unit_flops=7.0))
    files = []
    for stem in ("a", "b"):
        export_tables(plan, tmp_path, stem, parquet=False, xlsx=True)
        files.append((tmp_path / f"{stem}.xlsx").read_bytes())
    assert files[0] == files[1]
