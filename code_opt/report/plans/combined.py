"""The section of a plan for growth, hours, scenarios and failures together."""

from __future__ import annotations

from code_opt.planning.recommendation_words import name_of_period
from code_opt.report.blocks import Block, Figure, Pair, Paragraph
from code_opt.report.charts import Axis, RowSeries, Value, row_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import PlanTables, in_full, places, unique, units_by
from code_opt.text import share


def combined_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return what is bought when, and how busy it is on the average."""
    summary = tables("summary", "routing", "status", "cost", "gap", "units", "states_left_out")
    periods = tables(
        "periods",
        *("routing", "period", "growth", "units_bought", "cost", "total_cost"),
        *("accuracy_loss_points", "throughput_per_s"),
    )
    servers = places(tables, "routing", "period", "units_bought", "utilization", "mean_utilization")
    headings = {
        "routing": "Paths",
        "cost": "Cost",
        "gap": "gap",
        "units": "Units",
        "states_left_out": "States implied by others",
        "status": "Status",
    }
    blocks: list[Block] = [
        summary.shown("Least cost to serve all demand in every state", headings),
        periods.shown(
            "What is bought when",
            {
                "routing": "Paths",
                "period": "Period",
                "growth": None,
                "units_bought": "Units bought",
                "cost": "Cost",
                "total_cost": "Spent so far",
                "accuracy_loss_points": "Accuracy lost, mean",
                "throughput_per_s": "Demand, mean",
            },
            keys=2,
        ),
    ]
    for routing in unique(r["routing"] for r in periods):
        mine = [r for r in servers if r["routing"] == routing]
        last = max((r["period"] for r in mine), default=None)
        shown = [
            r
            for r in mine
            if r["period"] == last and None not in (r["utilization"], r["mean_utilization"])
        ]
        names = [r["server"] for r in shown]
        series = [
            RowSeries(
                title,
                tuple(
                    Value(r[column], f"{r['server']}, {title}: {share(r[column])}") for r in shown
                ),
                index,
            )
            for title, column, index in (
                ("busiest state", "utilization", 0),
                ("mean of all hours", "mean_utilization", 4),
            )
        ]
        drawing = row_chart(
            f"Utilisation in the last period, paths {routing}",
            names,
            series,
            Axis("utilisation", percent=True, zero=True),
            description="Utilisation of every server with the units bought; the table holds it.",
            width=470.0,
        )
        figure = Figure(f"combined-{routing}{suffix}", drawing, f"Utilisation, paths {routing}.")
        bought = units_by(
            mine,
            "period",
            [(n, name_of_period(tables.plan, n)) for n in unique(r["period"] for r in mine)],
            f"Units bought in each period, paths {routing}",
            units="units_bought",
        )
        blocks.append(Pair((figure, *bought)))
    settings = tables.plan.settings
    if settings.get("failures") or settings.get("device_failures"):
        text = "All demand is served while nothing has failed, and what is kept under any failure."
        blocks.append(Paragraph(text))
    details = [
        block
        for name, keys in (("states", 4), ("failures", 5), ("backups", 6), ("lost", 3))
        for block in tables.whole(name, keys=keys)
    ]
    return [*blocks, in_full("Every state, failure and backup path", details)]
