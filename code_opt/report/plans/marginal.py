"""The section of marginal values."""

from __future__ import annotations

from code_opt.planning.columns import NEGLIGIBLE_GAIN, NOTHING
from code_opt.report.blocks import Block, Cell, Column, Figure, Pair, Paragraph, Row, Table
from code_opt.report.charts import Axis, RowSeries, Value, row_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import MOST_ROWS, PlanTable, PlanTables, Record
from code_opt.text import amount, percent


def marginal_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return what a little more of every server and link gains."""
    names = ("utilization", "gain_by_dual", "gain_fixed_paths", "gain_resolved")
    servers = tables("servers", "server", "capacity_flop_per_s", *names)
    links = tables("links", "source", "target", "capacity_bytes_per_s", *names)
    rows = []
    for r in servers:
        name = "capacity_flop_per_s" if r["capacity_flop_per_s"] is not None else "capacity_devices"
        rows.append((str(r["server"]), _capacity(servers, name, r), r))
    rows += [
        (f"{r['source']} → {r['target']}", _capacity(links, "capacity_bytes_per_s", r), r)
        for r in links
    ]
    useful = [r for r in rows if any(abs(r[2][n] or 0.0) > NEGLIGIBLE_GAIN for n in names[1:])]
    useful.sort(key=lambda one: -(one[2]["gain_resolved"] or 0.0))
    objective = str(tables.plan.settings.get("objective") or "objective")
    step = tables.plan.settings.get("step")
    more = f"{percent(step)} more" if isinstance(step, float) else "a little more"
    if not useful:
        return [Paragraph(f"Nothing gains from {more} of any one capacity.")]
    top = useful[:MOST_ROWS]
    kinds = [("paths free", "gain_resolved", 0), ("paths fixed (dual)", "gain_by_dual", 4)]
    series = [
        RowSeries(
            title,
            tuple(
                Value(r[column], "" if r[column] is None else f"{n}, {title}: {r[column]:.4g}")
                for n, _capacity, r in top
            ),
            index,
        )
        for title, column, index in kinds
    ]
    drawing = row_chart(
        f"{objective.capitalize()} gained by {more} of one capacity",
        [n for n, _capacity, _row in top],
        series,
        Axis(f"gain of {objective}", zero=True),
        bars=True,
        description="; ".join(f"{n}: {r['gain_resolved'] or 0.0:.4g}" for n, _c, r in top),
        width=470.0,
    )
    columns = (
        Column("Server or link"),
        Column("Capacity", figures=True),
        servers.head("utilization", "Used"),
        *(Column(what, figures=True) for what in ("Gain by dual", "paths fixed", "paths free")),
    )
    lines = tuple(
        Row(
            (
                Cell(n),
                Cell(capacity),
                *servers.cells(r, *names),
            )
        )
        for n, capacity, r in useful
    )
    left = len(rows) - len(useful)
    blocks: list[Block] = [
        Pair(
            (
                Figure(
                    f"marginal{suffix}",
                    drawing,
                    f"{objective.capitalize()} gained by {more} of one capacity.",
                ),
                Table(f"Gain of {objective} by {more} of one capacity", columns, lines),
            )
        ),
        Paragraph(
            "By dual: the slope at the chosen paths. Paths fixed and paths free: solved again with "
            "more of it; where free paths gain more, the new capacity lets paths change."
            + (f" Nothing else gains ({left} more of servers and links)." if left else ""),
            note=True,
        ),
    ]
    return blocks


def _capacity(table: PlanTable, name: str, row: Record) -> str:
    value, unit = row[name], table.columns[name].unit
    nothing = NOTHING if "server" in row else "unlimited"
    return nothing if value is None else amount(value, unit)
