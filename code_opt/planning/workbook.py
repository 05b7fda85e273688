"""A plan as a workbook: an overview with charts, and a sheet for each table.

What the exact method proved and what the heuristic found stand on sheets of their own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from code_opt.errors import InputError
from code_opt.planning import columns
from code_opt.planning.columns import ColumnKind, schema_of
from code_opt.planning.plan import Cell, Column, Plan, Table

_LARGEST_SHEET, _LONGEST_CELL = 1_048_575, 32_767
_WIDEST = 40
_QUESTIONS = {
    "least-cost": "What does it cost to serve all demand?",
    "growth": "What is bought when?",
    "scenarios": "What is bought while the demand is uncertain?",
    "failures": "What is served when a server fails?",
    "combined": "What carries all years, hours and failures?",
    "front": "Which throughputs and accuracies can be had together?",
    "marginal": "What is a little more capacity worth?",
    "sweep": "What if a number were another one?",
}
_SHEETS = {
    "summary": "Costs",
    "periods": "Periods",
    "points": "Front",
    "sweep": "What if",
    "lost": "Lost tasks",
    "drops": "Guessed drops",
    "states": "Hours",
}
"""Names of sheets that are not those of their tables."""
_FORMATS: dict[ColumnKind, str] = {
    columns.MONEY: "#,##0.00",
    columns.COUNT: "#,##0",
    columns.ACCURACY: "0.0000",
    columns.POINTS: "+0.00;-0.00;0.00",
    columns.RATE: "#,##0.0",
    columns.WORK: "0.000E+00",
    columns.DEVICES: "#,##0.00",
    columns.TRAFFIC: "#,##0",
    columns.SECONDS: "0.00",
    columns.LATENCY: "0.0000",
    **dict.fromkeys((columns.SHARE, columns.UTILIZATION, columns.PROBABILITY), "0.0%"),
    columns.GAP: "0.00%",
}


class _View(NamedTuple):
    """A figure of a table, side by side, and its chart."""

    table: str
    title: str
    rows: tuple[str, ...]
    """Columns that name a row."""
    series: str
    """Column that names a line or bar."""
    value: str
    chart: str = "column"


_VIEWS: dict[str, tuple[_View, ...]] = {
    "least-cost": (
        _View("summary", "Cost by coordination", ("growth", "max_loss_points"), "coordination",
              "cost"),
    ),
    "growth": (_View("periods", "Spent so far", ("period",), "coordination", "total_cost"),),
    "scenarios": (_View("scenarios", "Share served", ("scenario",), "variant", "served_share"),),
    "failures": (
        _View("failures", "Share served, re-routed", ("failed_server",), "plan",
              "served_rerouted_share"),
    ),
    "combined": (
        _View("periods", "Spent so far", ("period",), "routing", "total_cost"),
        _View("states", "Demand", ("demand_period", "scenario"), "period", "demand_per_s", "line"),
    ),
    "front": (_View("points", "Front", ("throughput_per_s",), "", "accuracy", "scatter"),),
}  # fmt: skip
_RANGE = _View("drops", "Cost by guessed drops", ("growth", "max_loss_points", "coordination",
               "variant", "plan"), "drops", "cost")  # fmt: skip


def cut_cells(plan: Plan) -> int:
    """Return how many cells of a plan are longer than a cell of a workbook can be."""
    rows = [row for table in plan.tables_ for row in table.rows]
    return sum(isinstance(c, str) and len(c) > _LONGEST_CELL for row in rows for c in row)


def _sheet_cell(text: str) -> str:
    """Return a cell's text; one that a sheet cannot hold ends with the word that it is cut."""
    if len(text) <= _LONGEST_CELL:
        return text
    end = f" ... (cut: {len(text)} characters; the CSV file has them all)"
    return text[: _LONGEST_CELL - len(end)] + end


def workbook(plan: Plan) -> bytes:
    """Return a plan as a workbook.

    Raises:
        InputError: XlsxWriter is not installed, or a table has more rows than a sheet holds.
    """
    try:
        import xlsxwriter
    except ImportError:
        raise InputError("--xlsx needs XlsxWriter: pip install 'code-opt[tables]'") from None
    sink = io.BytesIO()
    # Text stays text: a name that begins with "=" is no formula, one with "http:" no link.
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(sink, options) as book:
        book.set_properties({"created": datetime(2000, 1, 1)})  # the same plan is the same file
        _Writer(book, plan).write()
    return sink.getvalue()


class _Writer:
    """The sheets of one plan in the making."""

    def __init__(self, book: Any, plan: Plan) -> None:
        self._book, self._plan = book, plan
        self._bold = book.add_format({"bold": True, "text_wrap": True, "valign": "top"})
        self._formats = {kind: book.add_format({"num_format": f}) for kind, f in _FORMATS.items()}
        currency = plan.settings.get("currency")
        self._currency = currency if isinstance(currency, str) else None
        names = plan.settings.get("period_names")
        self._periods = [str(name) for name in names] if isinstance(names, tuple) else []

    def write(self) -> None:
        """Write all sheets, the overview first, what the heuristic found last."""
        overview = self._book.add_worksheet("Overview")
        later = []
        for table in self._plan.tables_:
            exact, quick = _by_method(table)
            name = _SHEETS.get(table.name, table.name.replace("_", " ").capitalize())
            self._add_sheet(name, table, exact)
            later += [(f"{name} (heuristic)", table, quick)] if quick else []
        for name, table, rows in later:
            self._add_sheet(name, table, rows)
        self._overview(overview)

    def _add_sheet(self, name: str, table: Table, rows: Sequence[Sequence[Cell]]) -> None:
        """Add a sheet with the rows of a table, to be filtered."""
        if len(rows) > _LARGEST_SHEET:
            raise InputError(f"--xlsx: table {table.name!r} has more rows than a sheet holds")
        sheet = self._book.add_worksheet(name)
        named = self._names(table)
        shown = [None, *table.columns] if named is not None else list(table.columns)
        for i, column in enumerate(shown):
            heading = "Period name" if column is None else self._heading(column)
            sheet.write_string(0, i, heading, self._bold)
            if column is not None and column.description:
                sheet.write_comment(0, i, f"{column.name}: {column.description}")
            sheet.set_column(i, i, min(max(len(heading) + 2, 10), _WIDEST))
        sheet.freeze_panes(1, 0)
        if rows:
            sheet.autofilter(0, 0, len(rows), len(shown) - 1)
        for r, row in enumerate(rows, start=1):
            cells = row if named is None else (named.get(row[self._key(table)]), *row)
            for i, (column, cell) in enumerate(zip(shown, cells, strict=True)):
                self._put(sheet, r, i, column, cell)

    def _put(self, sheet: Any, row: int, place: int, column: Column | None, cell: Cell) -> None:
        """Write a cell as what it is, in the format of its column."""
        if isinstance(cell, bool):
            sheet.write_boolean(row, place, cell)
        elif isinstance(cell, int | float):
            kind = None if column is None else schema_of(column).kind
            sheet.write_number(row, place, cell, self._formats.get(kind) if kind else None)
        elif cell is not None:
            sheet.write_string(row, place, _sheet_cell(cell))

    def _heading(self, column: Column) -> str:
        """Return the heading of a column, with its unit as the cells have it."""
        schema = schema_of(column)
        unit = self._currency if schema.kind is columns.MONEY else column.unit
        return f"{schema.heading} [{unit}]" if unit else schema.heading

    def _names(self, table: Table) -> Mapping[Cell, str] | None:
        """Return the names of periods by what a table calls them, None where it has none."""
        names = [column.name for column in table.columns]
        growth = self._plan.settings.get("growth")
        if not self._periods:
            return None
        if "period" in names:
            return dict(enumerate(self._periods, start=1))
        factors = growth if isinstance(growth, tuple) else ()
        if "growth" in names and len(set(factors)) == len(self._periods):
            return dict(zip(factors, self._periods, strict=False))
        return None

    @staticmethod
    def _series_name(
        view: _View, record: Mapping[str, Cell], named: Mapping[Cell, str] | None
    ) -> str:
        """Return what a line or bar is called: periods of growth by their names."""
        value = record.get(view.series, view.title)
        name = (named or {}).get(value) if view.series == "period" else None
        return name or str(value)

    @staticmethod
    def _key(table: Table) -> int:
        """Return the number of the column that periods are called by."""
        names = [column.name for column in table.columns]
        return names.index("period" if "period" in names else "growth")

    # The overview

    def _overview(self, sheet: Any) -> None:
        """Write what was asked and found, and the figures that decide, with charts."""
        plan = self._plan
        sheet.set_column(0, 0, 34)
        sheet.set_column(1, 8, 14)
        gap = "nothing is proven" if plan.gap is None else f"{100.0 * plan.gap:.3g} %"
        lines: list[tuple[str, Cell]] = [
            ("Plan of", plan.instance),
            ("Question", _QUESTIONS.get(plan.kind, plan.kind)),
            ("Answer", plan.status),
            ("Largest proven gap", gap),
            *([("Message", plan.message)] if plan.message else []),
        ]
        lines += [
            (name.replace("_", " ").capitalize(), _setting(value))
            for name, value in plan.settings.items()
            if value is not None
        ]
        for r, (name, value) in enumerate(lines):
            sheet.write_string(r, 0, name, self._bold)
            self._put(sheet, r, 1, None, value)
        row = len(lines) + 1
        tables = {table.name: table for table in plan.tables_}
        for view in (*_VIEWS.get(plan.kind, ()), _RANGE):
            if view.table in tables:
                row = self._view(sheet, row, view, tables[view.table])

    def _view(self, sheet: Any, top: int, view: _View, table: Table) -> int:
        """Write figures side by side below a row, with their chart; return the row behind."""
        records = [r for r in table.records() if r.get("method", "exact") == "exact"]
        keys = [name for name in view.rows if any(r.get(name) is not None for r in records)]
        named = self._names(table)
        cells: dict[tuple[Cell, ...], dict[str, Cell]] = {}
        for record in records:
            row = cells.setdefault(tuple(record[key] for key in keys), {})
            row[self._series_name(view, record, named)] = record[view.value]
        series = list(dict.fromkeys(name for row in cells.values() for name in row))
        if not cells:
            return top
        column = next(c for c in table.columns if c.name == view.value)
        sheet.write_string(top, 0, f"{view.title}: {self._heading(column)}", self._bold)
        for i, name in enumerate(series, start=1):
            sheet.write_string(top, i, name, self._bold)
        for r, (key, row) in enumerate(cells.items(), start=top + 1):
            if view.chart == "scatter":
                self._put(sheet, r, 0, None, key[0])
            else:
                sheet.write_string(r, 0, _row_name(keys, key, named))
            for i, name in enumerate(series, start=1):
                self._put(sheet, r, i, column, row.get(name))
        first, last = top + 1, top + len(cells)
        chart = self._book.add_chart({"type": view.chart})
        for i, name in enumerate(series, start=1):
            chart.add_series(
                {
                    "name": name,
                    "categories": ["Overview", first, 0, last, 0],
                    "values": ["Overview", first, i, last, i],
                    **({"marker": {"type": "circle"}} if view.chart == "scatter" else {}),
                }
            )
        chart.set_title({"name": view.title})
        chart.set_y_axis({"name": self._heading(column)})
        chart.set_size({"width": 640, "height": 320})
        sheet.insert_chart(top, len(series) + 2, chart)
        return max(last, top + 17) + 2


def _by_method(table: Table) -> tuple[list[Sequence[Cell]], list[Sequence[Cell]]]:
    """Return the rows of a table but for those of the heuristic, and these."""
    names = [column.name for column in table.columns]
    if "method" not in names or table.name == "sweep":
        return list(table.rows), []
    i = names.index("method")
    exact: list[Sequence[Cell]] = [row for row in table.rows if row[i] != "heuristic"]
    return exact, [row for row in table.rows if row[i] == "heuristic"]


def _row_name(keys: Iterable[str], values: Iterable[Cell], named: Mapping[Cell, str] | None) -> str:
    """Return what a row is called: its keys, periods by their names."""
    parts = []
    for key, value in zip(keys, values, strict=True):
        name = (named or {}).get(value) if key in ("period", "growth") else None
        if name is not None or isinstance(value, str):
            parts.append(name or str(value))
        elif value is not None:
            parts.append(f"{columns.SCHEMA[key].heading.lower()} {value:g}")
    return ", ".join(parts) or "all"


def _setting(value: Any) -> Cell:
    """Return a setting as a cell."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
