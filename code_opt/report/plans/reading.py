"""What the sections of all kinds of plans share: checked tables, words, units per server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from code_opt.errors import InputError
from code_opt.report.blocks import Block, Cell, Column, More, Paragraph, Row, Table
from code_opt.report.charts import Dot, Series
from code_opt.report.material import PlanFile
from code_opt.report.numbers import fraction, gap, signed
from code_opt.text import duration, number, si

Record = dict[str, Any]

COORDINATIONS = {
    "none": ("no coordination", 2),
    "exits": ("early exits only", 4),
    "full": ("full coordination", 0),
}
"""Names, and the colours and signs of the methods nearest to them: local, edge-early, exact."""
MOST_ROWS = 24
_KEYS = frozenset(
    ("growth", "coordination", "method", "status", "period", "variant", "scenario", "plan")
) | frozenset(("failed_server", "point", "field", "value", "server", "source", "target"))
"""Columns that name a row; they always hold something."""
_UNITS = ("_flop_per_s", "_bytes_per_s", "_per_s", "_points", "_s")


class PlanTables:
    """The tables of one plan as records, checked for the columns that are used."""

    def __init__(self, one: PlanFile) -> None:
        self.plan = one.plan
        self._path = one.path

    def __call__(self, name: str, *columns: str) -> list[Record]:
        """Return a table's rows.

        Raises:
            InputError: the plan has no such table, the table lacks a column, or a row its name.
        """
        try:
            table = self.plan.table(name)
        except KeyError:
            raise InputError(f"{self._path}: a {self.plan.kind} plan without {name!r}") from None
        missing = set(columns) - {column.name for column in table.columns}
        if missing:
            raise InputError(f"{self._path}: table {name!r} lacks {', '.join(sorted(missing))}")
        rows = table.records()
        for index, row in enumerate(rows):
            empty = [name for name in columns if name in _KEYS and row[name] is None]
            if empty:
                raise InputError(f"{self._path}: table {name!r} row {index}: no {empty[0]}")
        return rows

    def whole(self, name: str, keys: int = 1, **only: Any) -> list[Block]:
        """Return a table with all its columns; nothing where it has no rows."""
        try:
            table = self.plan.table(name)
        except KeyError:
            return []
        rows = [r for r in table.records() if all(r.get(k) == v for k, v in only.items())]
        kept = [
            c
            for c in table.columns
            if c.name not in only and any(row[c.name] is not None for row in rows)
        ]
        if not rows:
            return []
        columns = tuple(
            Column(_words(c.name), _unit(c.name, c.unit), figures=c.type in ("number", "integer"))
            for c in kept
        )
        lines = tuple(
            Row(tuple(Cell(cell_text(c.name, row[c.name])) for c in kept)) for row in rows
        )
        return [Table(table.title, columns, lines, keys=keys)]


def in_full(summary: str, blocks: Sequence[Block]) -> More:
    """Return whole tables behind a line; on paper they would fill pages."""
    return More(summary, tuple(blocks), aside=True)


def _words(name: str) -> str:
    for unit in _UNITS:
        if name.endswith(unit):
            name = name.removesuffix(unit)
            break
    text = name.removesuffix("_share").replace("_", " ")
    return text[:1].upper() + text[1:]


def _unit(name: str, unit: str | None) -> str:
    if name.endswith("_share") or name in ("utilization", "gap", "probability"):
        return "%"
    if name == "latency_s" or unit == "currency":
        return ""
    return {"inferences/s": "1/s", "bytes/s": "B/s"}.get(unit or "", unit or "")


def cell_text(name: str, value: Any) -> str:
    """Return a cell by what its column's name says that it is."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        if name == "coordination" and value in COORDINATIONS:
            return COORDINATIONS[value][0]
        return value.replace(" > ", " → ") if name == "path" else value
    if name.endswith("_share") or name in ("utilization", "probability"):
        return f"{100 * value:.1f}"
    if name == "gap" or name.endswith("_gap"):
        return gap(value)
    if name in ("accuracy", "accuracy_bound"):
        return fraction(value)
    if name == "accuracy_loss_points":
        return signed(value, 2)
    if name == "latency_s":
        return duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    if name.endswith(("_flop_per_s", "_bytes_per_s")):
        return si(value)
    if name.endswith("cost") or name in ("growth", "max_loss_points", "present_value", "value"):
        return money(value)
    return number(value)


def cells(row: Record, *names: str) -> tuple[Cell, ...]:
    """Return some columns of a row as cells, each by its name; a dash where there is none."""
    return tuple(Cell(cell_text(name, row.get(name))) for name in names)


def money(value: float) -> str:
    """Return a price, or another plain number, as short as it can be written."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.6g}"


def coordination_style(value: str) -> tuple[str, int]:
    """Return the name of a coordination, and the index of its colour and sign."""
    return COORDINATIONS.get(value, (value, 5))


def unique(values: Iterable[Any]) -> list[Any]:
    """Return values without repeats, in the order of their first ones."""
    return list(dict.fromkeys(values))


def line_series(name: str, index: int, xs: Sequence[float], ys: Sequence[float | None]) -> Series:
    """Return one line of a chart; points without a value are left out."""
    dots = tuple(
        Dot(x, y, title=f"{name}: {money(y)} at {money(x)}")
        for x, y in zip(xs, ys, strict=True)
        if y is not None
    )
    return Series(name, dots, line=True, index=index)


def series_text(series: Sequence[Series], x: str, y: str) -> str:
    """Return the points of a chart's lines in words."""
    return "; ".join(
        f"{s.name}: " + ", ".join(f"{y} {money(d.y)} at {x} {money(d.x)}" for d in s.dots)
        for s in series
        if s.dots
    )


def places(tables: PlanTables, *columns: str) -> list[Record]:
    """Return the rows of the servers and links of a plan; ``server`` names either."""
    rows = tables("servers", "server", *columns)
    links = tables("links", "source", "target", *columns)
    return rows + [r | {"server": f"{r['source']} → {r['target']}"} for r in links]


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
            share = "" if use is None else f" ({100 * use:.0f} %)"
            cells.append(Cell(f"{row[units]}{share}", "" if row[units] else "muted"))
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
