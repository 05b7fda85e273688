"""The section of a least-cost plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from code_opt.planning.columns import as_given, money
from code_opt.report.blocks import (
    Block,
    Cell,
    Column,
    Figure,
    More,
    Pair,
    Paragraph,
    Row,
    Table,
)
from code_opt.report.charts import Axis, RowSeries, Value, row_chart, xy_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import (
    COORDINATIONS,
    PlanTable,
    PlanTables,
    Record,
    coordination_style,
    in_full,
    line_series,
    places,
    series_text,
    unique,
    units_by,
)
from code_opt.text import share


def least_cost_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return costs with and without coordination, what is saved, and the units to buy."""
    rows = tables(
        "summary",
        *("growth", "max_loss_points", "coordination", "method", "status", "cost", "gap", "units"),
        *("accuracy_loss_points", "saved_cost", "saved_units"),
    )
    if not rows.rows:
        return [Paragraph("This plan is empty.")]
    exact = [r for r in rows if r["method"] == "exact"] or rows.rows
    growths, losses = (
        unique(r["growth"] for r in rows),
        unique(r["max_loss_points"] for r in rows),
    )
    found = {(r["growth"], r["max_loss_points"], r["coordination"]): r for r in exact}
    blocks: list[Block] = []
    charts: list[Block] = []
    loosest = losses[-1]

    def costs(loss: float | None, coordination: str) -> list[float | None]:
        mine = [found.get((growth, loss, coordination)) for growth in growths]
        return [None if row is None else row["cost"] for row in mine]

    if len(growths) > 1:
        series = []
        for coordination in ("none", "exits"):
            name, index = coordination_style(coordination)
            series.append(line_series(name, index, growths, costs(loosest, coordination)))
        for order, loss in enumerate(losses):
            name = "full" if loss is None else f"full, ≤ {as_given(loss)} pts"
            index = (0, 1, 3, 5, 6)[order % 5]
            series.append(line_series(name, index, growths, costs(loss, "full")))
        drawing = xy_chart(
            "Least cost against growth",
            Axis("growth of all demands [factor]"),
            Axis(rows.measured("cost", "least cost"), zero=True),
            [s for s in series if s.dots],
            description=series_text(series, "growth", "cost"),
            width=470.0,
        )
        charts.append(Figure(f"least-cost{suffix}", drawing, "Least cost to serve all demand."))
    compared = any(row["saved_cost"] is not None for key, row in found.items() if key[2] == "full")
    if compared and (len(losses) > 1 or len(growths) > 1):
        names = [limit_words(loss) or "no limit" for loss in losses]
        bars = []
        for order, growth in enumerate(growths):
            values = []
            for loss, name in zip(losses, names, strict=True):
                row = found.get((growth, loss, "full"))
                saved = None if row is None else row["saved_cost"]
                text = "" if saved is None else f"{name}, growth {as_given(growth)}: {money(saved)}"
                values.append(Value(saved, text))
            bars.append(RowSeries(f"growth {as_given(growth)}", tuple(values), order % 7))
        drawing = row_chart(
            "Saved by coordination",
            names,
            bars,
            Axis(rows.measured("saved_cost", "saved against no coordination"), zero=True),
            bars=True,
            description="Savings by accuracy limit and growth; the table holds the values.",
        )
        caption = "What coordination saves, by what it may cost in accuracy."
        charts.append(Figure(f"savings{suffix}", drawing, caption))
    if charts:
        blocks.append(Pair(tuple(charts)))
    blocks.append(_costs(rows, growths, losses, found))
    if not compared and any(key[2] == "none" for key in found):
        text = (
            "Saved is empty: native paths alone cannot serve the demand with all units that are "
            "sold, so there is no cost to compare with."
        )
        blocks.append(Paragraph(text, note=True))
    blocks += _units(tables, found, growths, losses)
    blocks.append(in_full("All figures of this plan", tables.whole("summary", keys=4)))
    return blocks


def _units(
    tables: PlanTables,
    found: dict[tuple[Any, ...], Record],
    growths: Sequence[float],
    losses: Sequence[float | None],
) -> list[Block]:
    """Return what to buy where: for every accuracy limit a table of servers by growth.

    The loosest limit is shown, the others stand behind a line.
    """
    servers = places(tables, "growth", "units", "utilization", "method")
    if not servers:
        return []
    method = "exact" if any(r["method"] == "exact" for r in servers) else servers[0]["method"]
    by_loss = []
    for loss in losses:
        solved = [
            g for g in growths if (found.get((g, loss, "full")) or {}).get("cost") is not None
        ]
        if not solved:
            continue
        caption = "Units to buy, full coordination" + limit_words(loss, ", ")
        mine = [
            r
            for r in servers
            if (r["coordination"], r["method"], r["max_loss_points"]) == ("full", method, loss)
        ]
        columns = [(growth, f"growth {as_given(growth)}") for growth in solved]
        by_loss.append(units_by(mine, "growth", columns, caption))
    if not by_loss:
        return []
    *others, last = by_loss
    others_blocks = tuple(block for blocks in others for block in blocks)
    return [*last, *([More("Units at the other accuracy limits", others_blocks)] if others else [])]


def limit_words(loss: float | None, opening: str = "") -> str:
    """Return the limit of the accuracy lost in words; empty without one."""
    if loss is None:
        return ""
    if loss == 0:
        return f"{opening}no accuracy lost"
    return f"{opening}at most {as_given(loss)} {'point' if loss == 1 else 'points'} lost"


def _costs(
    summary: PlanTable,
    growths: Sequence[float],
    losses: Sequence[float | None],
    found: dict[tuple[Any, ...], Record],
) -> Table:
    """Return costs side by side: a row for every growth and accuracy limit."""
    columns = [
        Column("Growth"),
        Column("Loss up to", summary.columns["max_loss_points"].unit),
        summary.head("cost", "No coordination"),
        summary.head("cost", "Early exits only"),
        summary.head("cost", "Full coordination"),
        summary.head("gap", "gap"),
        summary.head("saved_cost", "Saved"),
        summary.head("units", "Units"),
        summary.head("saved_units", "saved"),
        summary.head("accuracy_loss_points", "Lost"),
    ]

    def cost(row: Record | None) -> Cell:
        if row is None:
            return Cell("–")
        if row["cost"] is None:
            return Cell(str(row["status"]), "bad")
        return Cell(money(row["cost"]))

    lines = []
    for growth in growths:
        for place, loss in enumerate(losses):
            keys = {name: (growth, loss, name) for name in COORDINATIONS}
            full = found.get(keys["full"])
            saved = None if full is None else full["saved_cost"]
            alone = None if saved is None or full is None else full["cost"] + saved
            cells = [
                Cell(as_given(growth), span=0 if place else len(losses)),
                Cell("no limit" if loss is None else as_given(loss)),
                cost(found.get(keys["none"])),
                cost(found.get(keys["exits"])),
                cost(full),
                *summary.cells(full, "gap"),
                Cell(
                    "–"
                    if saved is None
                    else money(saved) + (f" ({share(saved / alone)})" if alone else ""),
                    "strong",
                ),
                *summary.cells(full, "units", "saved_units", "accuracy_loss_points"),
            ]
            lines.append(Row(tuple(cells)))
    return Table(
        "Least cost with and without coordination",
        tuple(columns),
        tuple(lines),
        keys=2,
    )
