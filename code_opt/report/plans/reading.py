"""What the sections of all kinds of plans share: checked tables, words, units per server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from code_opt.planning import columns
from code_opt.planning.columns import ColumnSchema, as_given, schema_of
from code_opt.planning.plan import Table as PlanFileTable
from code_opt.planning.reading import checked_table, table_of
from code_opt.report.blocks import Block, Cell, Column, More, Paragraph, Row, Table
from code_opt.report.charts import Dot, Series
from code_opt.report.material import PlanFile
from code_opt.report.numbers import signed
from code_opt.text import share

Record = dict[str, Any]

COORDINATIONS = {
    "none": ("no coordination", 2),
    "exits": ("early exits only", 4),
    "full": ("full coordination", 0),
}
"""Names, and the colours and signs of the methods nearest to them: local, edge-early, exact."""
MOST_ROWS = 24
_OWN = {
    columns.COORDINATION: lambda value: coordination_style(value)[0],
    columns.PATH: lambda value: value.replace(" > ", " → "),
    columns.POINTS: lambda value: signed(value, 2),
    columns.GAIN: "{:.4g}".format,
}
"""Texts of the page that differ from those of a terminal."""


@dataclass(frozen=True)
class PlanTable:
    """One table of a plan: its rows as records, shown as the file says of its columns."""

    title: str
    rows: list[Record]
    columns: dict[str, ColumnSchema]
    currency: str | None = None
    """Of the instance; None: it names none."""

    def __iter__(self) -> Iterator[Record]:
        """Return the rows one by one."""
        return iter(self.rows)

    def text(self, name: str, row: Record | None) -> str:
        """Return a cell of a row as text, a dash where there is no row or no value."""
        return self.columns[name].text(None if row is None else row[name], _OWN)

    def cells(self, row: Record | None, *names: str) -> tuple[Cell, ...]:
        """Return some cells of a row, dashes where there is no row or no value."""
        return tuple(Cell(self.text(name, row)) for name in names)

    def head(self, name: str, heading: str | None = None) -> Column:
        """Return the head of a column, under its own heading or another one."""
        schema = self.columns[name]
        return Column(heading or schema.heading, self._unit(name), figures=schema.is_number)

    def _unit(self, name: str) -> str:
        schema = self.columns[name]
        return (self.currency or "") if schema.kind is columns.MONEY else schema.unit

    def quantity(self, name: str, text: str) -> str:
        """Return the text of a value with the unit of its column."""
        unit = self.columns[name].unit
        return f"{text}/s" if unit == "1/s" else f"{text} {unit}".rstrip()

    def measured(self, name: str, what: str) -> str:
        """Return what an axis of a column says: what it shows, and the unit of the file."""
        column = self.columns[name]
        unit = self._unit(name) if column.kind is columns.MONEY else column.column.unit
        return f"{what} [{unit}]" if unit else what

    def shown(self, caption: str, headings: Mapping[str, str | None], keys: int = 1) -> Table:
        """Return the table of some columns.

        Args:
            caption: what it shows.
            headings: what stands above each column, by its name; None: its own heading.
            keys: columns that name a row.
        """
        heads = tuple(self.head(name, heading) for name, heading in headings.items())
        rows = tuple(Row(self.cells(row, *headings)) for row in self.rows)
        return Table(caption, heads, rows, keys=keys)


class PlanTables:
    """The tables of one plan as records, checked for the columns that are used."""

    def __init__(self, one: PlanFile, currency: str | None) -> None:
        self.plan = one.plan
        self._path, self._currency = one.path, currency

    def __call__(self, name: str, *used: str) -> PlanTable:
        """Return a table, checked for the columns that are used.

        Raises:
            InputError: the plan has no such table, the table lacks a column or holds something
                else in it, or a row lacks its name.
        """
        return self._shown(checked_table(self.plan, self._path, name, *used))

    def whole(self, name: str, keys: int = 1, **only: Any) -> list[Block]:
        """Return a table with all its columns; nothing where it has no rows."""
        table = table_of(self.plan, name)
        if table is None:
            return []
        found = self._shown(table)
        rows = [r for r in found if all(r.get(column) == v for column, v in only.items())]
        if not rows:
            return []
        kept = [c for c in found.columns if c not in only and any(r[c] is not None for r in rows)]
        part = replace(found, rows=rows)
        return [part.shown(found.title, dict.fromkeys(kept), keys)]

    def _shown(self, table: PlanFileTable) -> PlanTable:
        schemas = {column.name: schema_of(column) for column in table.columns}
        return PlanTable(table.title, table.records(), schemas, self._currency)


def in_full(summary: str, blocks: Sequence[Block]) -> More:
    """Return whole tables behind a line; on paper they would fill pages."""
    return More(summary, tuple(blocks), aside=True)


def coordination_style(value: str) -> tuple[str, int]:
    """Return the name of a coordination, and the index of its colour and sign."""
    return COORDINATIONS.get(value, (value, 5))


def unique(values: Iterable[Any]) -> list[Any]:
    """Return values without repeats, in the order of their first ones."""
    return list(dict.fromkeys(values))


def line_series(name: str, index: int, xs: Sequence[float], ys: Sequence[float | None]) -> Series:
    """Return one line of a chart; points without a value are left out."""
    dots = tuple(
        Dot(x, y, title=f"{name}: {as_given(y)} at {as_given(x)}")
        for x, y in zip(xs, ys, strict=True)
        if y is not None
    )
    return Series(name, dots, line=True, index=index)


def series_text(series: Sequence[Series], x: str, y: str) -> str:
    """Return the points of a chart's lines in words."""
    return "; ".join(
        f"{s.name}: " + ", ".join(f"{y} {as_given(d.y)} at {x} {as_given(d.x)}" for d in s.dots)
        for s in series
        if s.dots
    )


def places(tables: PlanTables, *columns: str) -> list[Record]:
    """Return the rows of the servers and links of a plan; ``server`` names either."""
    rows = tables("servers", "server", *columns)
    links = tables("links", "source", "target", *columns)
    return [*rows, *(r | {"server": f"{r['source']} → {r['target']}"} for r in links)]


def units_by(
    rows: Sequence[Record], key: str, columns: Sequence[tuple[Any, str]], caption: str,
    units: str = "units",
) -> list[Block]:  # fmt: skip
    """Return units per server (rows) and case (columns), those without any left out."""
    found = {(r["server"], r[key]): r for r in rows}
    servers = unique(r["server"] for r in rows)
    bought = [s for s in servers if any((found.get((s, k)) or {}).get(units) for k, _ in columns)]
    if not servers:
        return []
    if not bought:
        return [Paragraph("The present capacities are enough: nothing is bought.")]
    lines = []
    for server in bought:
        cells = [Cell(server)]
        for value, _ in columns:
            row = found.get((server, value))
            if row is None:
                cells.append(Cell("–"))
                continue
            use = row.get("utilization")
            used = "" if use is None else f" ({share(use)})"
            cells.append(Cell(f"{row[units]}{used}", "" if row[units] else "muted"))
        lines.append(Row(tuple(cells)))
    left = len(servers) - len(bought)
    heads = (Column("Server or link"), *(Column(name, figures=True) for _, name in columns))
    table = Table(f"{caption} (utilisation in brackets)", heads, tuple(lines))
    note: list[Block] = []
    if left:
        text = f"Nothing is bought for the other {left}."
        note = [Paragraph(text if left > 1 else "Nothing is bought for the other one.", True)]
    if len(bought) > MOST_ROWS:
        return [More(caption, (table,)), *note]
    return [table, *note]
