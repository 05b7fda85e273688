"""The section of a plan for failures."""

from __future__ import annotations

from collections.abc import Sequence

from code_opt.planning.recommendation_words import some
from code_opt.report.blocks import Block, Cell, Column, Figure, More, Pair, Paragraph, Row, Table
from code_opt.report.charts import Axis, RowSeries, Value, row_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import (
    MOST_ROWS,
    PlanTable,
    PlanTables,
    Record,
    in_full,
    unique,
)
from code_opt.text import percent, share


def failures_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return what every failure leaves, and what surviving all of them costs."""
    summary = tables(
        "summary",
        *("plan", "status", "cost", "gap", "units", "extra_cost"),
        *("worst_served_fixed_share", "worst_served_rerouted_share"),
    )
    failures = tables(
        "failures",
        *("plan", "failed_server", "served_fixed_share", "served_rerouted_share"),
        *("tasks_hit", "tasks_lost", "floors_kept"),
    )
    headings = {
        "plan": "Plan",
        "cost": "Cost",
        "gap": "gap",
        "units": "Units",
        "extra_cost": "Extra cost",
        "worst_served_fixed_share": "Served at worst, paths fixed",
        "worst_served_rerouted_share": "re-routed",
        "status": "Status",
    }
    blocks: list[Block] = [summary.shown("Plans with and without thought of failures", headings)]
    every = unique(r["failed_server"] for r in failures)
    found = {(r["plan"], r["failed_server"]): r for r in failures}

    def served_at_worst(server: str) -> float:
        row = found.get(("normal", server)) or {}
        return float(row.get("served_fixed_share") or 0.0)

    servers = every
    if len(every) > MOST_ROWS:
        servers = sorted(every, key=served_at_worst)[:MOST_ROWS]
    kinds = [
        ("normal plan, paths fixed", "normal", "served_fixed_share", 2),
        ("normal plan, re-routed", "normal", "served_rerouted_share", 4),
        ("survivable plan, re-routed", "survivable", "served_rerouted_share", 0),
    ]
    series = []
    for title, plan, column, index in kinds:
        values = []
        for server in servers:
            served = (found.get((plan, server)) or {}).get(column)
            text = "" if served is None else f"{server} fails, {title}: {share(served)} served"
            values.append(Value(served, text))
        if any(v.value is not None for v in values):
            series.append(RowSeries(title, tuple(values), index))
    if servers:
        drawing = row_chart(
            "Demand served when a server fails",
            servers,
            series,
            Axis("demand still served", percent=True, zero=True, most=1.0),
            limits=[1.0] * len(servers),
            description="Share of the demand served after each failure; the table holds it.",
            width=470.0,
        )
        caption = "Demand served when this server fails"
        more = "" if servers is every else f"; the worst {len(servers)} of {len(every):,}"
        figure = Figure(f"failures{suffix}", drawing, f"{caption}{more}.")
        lost: dict[str, list[str]] = {}
        for row in tables("lost", "failed_server", "task"):
            lost.setdefault(row["failed_server"], []).append(row["task"])
        table: Block = _failure_table(failures, every, found, lost)
        if len(every) > MOST_ROWS:
            table = More(f"All {len(every):,} failures", (table,))
        blocks.append(Pair((figure, table)))
        keep = tables.plan.settings.get("keep")
        floors = (
            f"{percent(keep)} of its demand" if isinstance(keep, int | float) else "its own floor"
        )
        text = (
            f"Floors are kept where each task, but for the lost ones, gets {floors} when those hit "
            "take backup paths and all others stay; re-routing moves any task."
        )
        blocks.append(Paragraph(text))
    details = [
        *tables.whole("failures", keys=2),
        *tables.whole("servers", keys=2, plan="survivable"),
        *tables.whole("backups", keys=2),
        *tables.whole("lost", keys=2),
    ]
    if any(r["tasks_lost"] for r in failures):
        text = "Some tasks have no path that avoids a server: when it fails, they stop."
        blocks.append(Paragraph(text))
    return [
        *blocks,
        in_full("Every failure, the survivable plan and its backup paths", details),
    ]


def _failure_table(
    failures: PlanTable,
    servers: Sequence[str],
    found: dict[tuple[str, str], Record],
    lost: dict[str, list[str]],
) -> Table:
    """Return a row per server: what its failure costs, by plan."""
    columns = (
        Column("Server that fails"),
        failures.head("tasks_hit", "Tasks hit"),
        Column("lost at any size"),
        failures.head("served_fixed_share", "Normal plan, paths fixed"),
        failures.head("served_rerouted_share", "Normal plan, re-routed"),
        failures.head("served_rerouted_share", "Survivable plan, re-routed"),
        Column("Survivable plan, floors kept"),
    )
    lines = []
    for server in servers:
        normal, other = found.get(("normal", server)), found.get(("survivable", server))
        gone = lost.get(server, [])
        lines.append(
            Row(
                (
                    Cell(server),
                    *failures.cells(normal, "tasks_hit"),
                    Cell(some(gone), "bad") if gone else Cell("none", "muted"),
                    *failures.cells(normal, "served_fixed_share", "served_rerouted_share"),
                    *failures.cells(other, "served_rerouted_share"),
                    _kept(other["floors_kept"] if other else None, gone),
                )
            )
        )
    return Table("Demand served after each failure", columns, tuple(lines))


def _kept(kept: bool | None, lost: Sequence[str]) -> Cell:
    """Tell whether floors are kept, not hiding the tasks that are lost anyway."""
    if kept is None:
        return Cell("–")
    if not kept:
        return Cell("no", "bad")
    if lost:
        return Cell(f"no: {len(lost)} lost, the others yes", "bad")
    return Cell("yes")
