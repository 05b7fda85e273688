"""The section of a plan for failures."""

from __future__ import annotations

from collections.abc import Sequence

from code_opt.report.blocks import Block, Cell, Column, Figure, Pair, Paragraph, Row, Table
from code_opt.report.charts import Axis, RowSeries, Value, row_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import PlanTable, PlanTables, Record, in_full, unique
from code_opt.text import percent


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
    servers = unique(r["failed_server"] for r in failures)
    found = {(r["plan"], r["failed_server"]): r for r in failures}
    kinds = [
        ("normal plan, paths fixed", "normal", "served_fixed_share", 2),
        ("normal plan, re-routed", "normal", "served_rerouted_share", 4),
        ("survivable plan, re-routed", "survivable", "served_rerouted_share", 0),
    ]
    series = []
    for title, plan, column, index in kinds:
        values = []
        for server in servers:
            share = (found.get((plan, server)) or {}).get(column)
            text = "" if share is None else f"{server} fails, {title}: {100 * share:.1f} % served"
            values.append(Value(share, text))
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
        figure = Figure(f"failures{suffix}", drawing, "Demand served when this server fails.")
        blocks.append(Pair((figure, _failure_table(failures, servers, found))))
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
    lost = sum(r["tasks_lost"] or 0 for r in failures if r["plan"] == "normal")
    if lost:
        text = "Some tasks have no path that avoids a server: when it fails, they stop."
        blocks.append(Paragraph(text))
    return [
        *blocks,
        in_full("Every failure, the survivable plan and its backup paths", details),
    ]


def _failure_table(
    failures: PlanTable, servers: Sequence[str], found: dict[tuple[str, str], Record]
) -> Table:
    """Return a row per server: what its failure costs, by plan."""
    columns = (
        Column("Server that fails"),
        failures.head("tasks_hit", "Tasks hit"),
        failures.head("tasks_lost", "lost"),
        failures.head("served_fixed_share", "Normal plan, paths fixed"),
        failures.head("served_rerouted_share", "Normal plan, re-routed"),
        failures.head("served_rerouted_share", "Survivable plan, re-routed"),
        failures.head("floors_kept", "Survivable plan, floors kept"),
    )
    lines = []
    for server in servers:
        normal, other = found.get(("normal", server)), found.get(("survivable", server))
        lines.append(
            Row(
                (
                    Cell(server),
                    *failures.cells(normal, "tasks_hit", "tasks_lost"),
                    *failures.cells(normal, "served_fixed_share", "served_rerouted_share"),
                    *failures.cells(other, "served_rerouted_share", "floors_kept"),
                )
            )
        )
    return Table("Demand served after each failure", columns, tuple(lines))
