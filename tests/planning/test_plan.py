"""Plan files: written, read back, refused; tables as CSV, Parquet and Excel."""

from __future__ import annotations

import copy
import csv
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.planning import (
    Column,
    Plan,
    PlanSettings,
    Table,
    cut_cells,
    export_tables,
    load_plan,
    parse_scenarios,
    plan_combined,
    plan_failures,
    plan_front,
    plan_growth,
    plan_least_cost,
    plan_marginal,
    plan_scenarios,
    plan_sweep,
    save_plan,
)
from code_opt.planning.columns import SCHEMA, TableBuilder
from code_opt.planning.plan import worst_status
from tests.planning.conftest import PLENTY

ROOT = Path(__file__).resolve().parents[2]


def every_plan(instance: Instance) -> list[Plan]:
    settings = PlanSettings(unit_flops=20.0)
    scenarios = parse_scenarios("scenario,probability,factor\nlow,0.5,0.5\nhigh,0.5,2\n")
    return [
        plan_least_cost(instance, settings, growth=(1.0, 2.0), max_loss=(None, 1.0)),
        plan_growth(instance, settings, growth=(1.0, 2.0)),
        plan_scenarios(instance, scenarios, settings),
        plan_failures(instance, settings),
        plan_combined(instance, settings, growth=(1.0, 2.0), scenarios=scenarios, failures=True),
        plan_front(instance, settings, points=3),
        plan_marginal(instance, settings),
        plan_sweep(instance, settings, vary=["servers[a].flops=50,100"]),
    ]


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    """Return every kind of plan of services with links and odd names."""
    data = copy.deepcopy(PLENTY)
    data["name"] = "=1+1"
    data["tasks"][0]["id"] = "=cmd()"
    data["links"] = [
        {"source": "a", "target": "b", "bandwidth": 100.0, "unit_bandwidth": 10.0},
        {"source": "b", "target": "a", "bandwidth": None},
    ]
    return every_plan(parse_instance(data))


def test_every_plan_is_read_back_as_it_was(plans: list[Plan], tmp_path: Path) -> None:
    for plan in plans:
        path = tmp_path / f"{plan.kind}.json"
        save_plan(plan, path)
        assert load_plan(path) == plan
        data = json.loads(path.read_text(encoding="utf-8"))
        assert data["schema"] == "code-opt/plan/1"
        assert data["kind"] == plan.kind
        assert [t["name"] for t in data["tables"]] == list(plan.tables())


def test_the_page_of_the_format_names_every_column(plans: list[Plan]) -> None:
    """Tables, columns and their order are those that docs/planning.md promises."""
    text = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    part = text[text.index("| kind | table | columns |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()[2:]]
    told = {}
    for kind, name, columns in rows:
        names = [word.strip() for word in columns.split(",")]
        told[kind.strip("`"), name.strip("`")] = names
    found = {
        (plan.kind, table.name): [column.name for column in table.columns]
        for plan in plans
        for table in plan.tables_
    }
    assert told == found
    part = text[text.index("| column | type | unit | meaning |") :].partition("\n\n")[0]
    ours = [schema.column for schema in SCHEMA.values()]
    assert part.splitlines()[2:] == [
        f"| `{c.name}` | {c.type} | {c.unit or '–'} | {c.description} |" for c in ours
    ]
    # The table of guessed drops, which these instances do not have, has one more.
    used = {"drops", *(name for names in found.values() for name in names)}
    assert {c.name for c in ours} == used


def test_units_and_meanings_are_told(plans: list[Plan]) -> None:
    for plan in plans:
        for table in plan.tables_:
            for column in table.columns:
                assert column.description
                assert column == SCHEMA[column.name].column


def test_rows_are_built_by_the_names_of_their_columns() -> None:
    builder = TableBuilder("points", "Points", "point throughput_per_s supported status")
    builder.add(status="optimal", point=np.float64(2.0), throughput_per_s=np.float64(1.5))
    builder.add_all([{"throughput_per_s": math.inf}], point=3, status="unknown")
    assert builder.table().records() == [
        {"point": 2, "throughput_per_s": 1.5, "supported": None, "status": "optimal"},
        {"point": 3, "throughput_per_s": None, "supported": None, "status": "unknown"},
    ]
    with pytest.raises(KeyError, match="table 'points' has no column cost"):
        builder.add(point=1, cost=2.0)
    builder.add(point=1.5)
    with pytest.raises(ValueError, match=r"row 2 point = 1\.5"):
        builder.table()


def test_tables_are_data_frames(plans: list[Plan]) -> None:
    plan = plans[0]
    frame = plan.tables()["summary"]
    assert list(frame.columns)[:3] == ["growth", "max_loss_points", "coordination"]
    assert frame["cost"].dtype == "float64"
    assert str(frame["units"].dtype) == "Int64"
    assert frame["message"].isna().all()
    assert len(frame) == len(plan.table("summary").rows)
    with pytest.raises(KeyError):
        plan.table("nothing")


def test_csv_parquet_and_excel_hold_the_same(plans: list[Plan], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("xlsxwriter")
    for plan in plans:
        written = export_tables(plan, tmp_path, f"x.{plan.kind}", xlsx=True)
        assert all(path.is_file() for path in written)
        for table in plan.tables_:
            stem = f"x.{plan.kind}.{table.name}"
            with (tmp_path / f"{stem}.csv").open(encoding="utf-8", newline="") as stream:
                lines = list(csv.reader(stream))
            assert lines[0] == [column.name for column in table.columns]
            assert len(lines) == len(table.rows) + 1
            for row, cells in zip(table.rows, lines[1:], strict=True):
                for column, cell, text in zip(table.columns, row, cells, strict=True):
                    if cell is None:
                        assert text == ""
                    elif column.type in ("number", "integer"):
                        assert float(text) == cell
                    elif column.type == "text":
                        assert text == cell
            frame = pd.read_parquet(tmp_path / f"{stem}.parquet")
            assert list(frame.columns) == lines[0]
            assert len(frame) == len(table.rows)


def test_a_text_that_no_sheet_can_hold_says_that_it_is_cut(tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    column = Column(name="path", type="text", description="blocks")
    rows = (("x" * 32_767,), ("y" * 40_000,))
    plan = Plan(
        schema="code-opt/plan/1",
        kind="front",
        instance="x",
        status="optimal",
        tables=(Table(name="paths", title="Paths", columns=(column,), rows=rows),),
    )
    assert cut_cells(plan) == 1
    export_tables(plan, tmp_path, "x", parquet=False, xlsx=True)
    with zipfile.ZipFile(tmp_path / "x.xlsx") as book:
        texts = book.read("xl/sharedStrings.xml").decode()
    assert f">{'x' * 32_767}<" in texts
    end = " ... (cut: 40000 characters; the CSV file has them all)"
    assert f">{'y' * (32_767 - len(end))}{end}<" in texts
    assert "y" * 40_000 in (tmp_path / "x.paths.csv").read_text(encoding="utf-8")


def test_text_is_no_formula_in_excel(plans: list[Plan], tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    plan = plans[0]
    export_tables(plan, tmp_path, "x", parquet=False, xlsx=True)
    with zipfile.ZipFile(tmp_path / "x.xlsx") as book:
        sheets = "".join(
            book.read(name).decode() for name in book.namelist() if "worksheets/sheet" in name
        )
        texts = book.read("xl/sharedStrings.xml").decode()
    assert "<f>" not in sheets
    assert "=cmd()" in texts


def test_parquet_files_tell_the_units(plans: list[Plan], tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    export_tables(plans[0], tmp_path, "x")
    schema = pq.read_schema(tmp_path / "x.servers.parquet")
    assert schema.field("load_flop_per_s").metadata[b"unit"] == b"FLOP/s"


SMALL = {
    "schema": "code-opt/plan/1",
    "kind": "front",
    "instance": "x",
    "status": "optimal",
    "tables": [
        {
            "name": "points",
            "title": "t",
            "columns": [{"name": "n", "type": "integer"}, {"name": "x", "type": "number"}],
            "rows": [[1, 2.5], [None, 3]],
        }
    ],
}


def changed(**changes: object) -> str:
    return json.dumps({**SMALL, **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "not a plan"),
        ("{", "not a plan"),
        (changed(schema="code-opt/result/1"), "schema"),
        (changed(kind="x"), "kind"),
        (changed(more=1), "more"),
        (changed(gap="x"), "gap"),
        (changed(settings={"x": {}}), "settings"),
        (changed(tables=SMALL["tables"] * 2), "two tables have the same name"),
        (changed(tables=[{**SMALL["tables"][0], "name": "../x"}]), "small letters"),
        (changed(tables=[{**SMALL["tables"][0], "rows": [[1]]}]), "row 0 has 1 cells"),
        (changed(tables=[{**SMALL["tables"][0], "rows": [["a", 1.0]]}]), "row 0 n = 'a'"),
        (changed(tables=[{**SMALL["tables"][0], "rows": [[True, 1.0]]}]), "row 0 n = True"),
        (changed(tables=[{**SMALL["tables"][0], "rows": [[1.5, 1.0]]}]), "row 0 n = 1.5"),
        (changed().replace("2.5", "NaN"), "not a plan"),
        (changed().replace("2.5", "1e999"), "not a plan"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_plan(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_plan_is_frozen_and_reads_integers_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(changed(settings={"growth": [1, 2.5], "a": None}), encoding="utf-8")
    plan = load_plan(path)
    assert plan.table("points").records() == [{"n": 1, "x": 2.5}, {"n": None, "x": 3}]
    assert plan.settings["growth"] == (1, 2.5)
    with pytest.raises(ValueError, match="frozen"):
        plan.kind = "sweep"  # type: ignore[misc]


def test_a_column_stands_there_once() -> None:
    column = Column(name="a", type="number")
    with pytest.raises(ValueError, match="twice"):
        Table(name="t", title="", columns=(column, column))


def test_the_worst_status_counts() -> None:
    assert worst_status([]) == "optimal"
    assert worst_status(["optimal", "feasible"]) == "feasible"
    assert worst_status(["infeasible", "unknown", "optimal"]) == "infeasible"
