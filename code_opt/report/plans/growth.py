"""The section of a growth path."""

from __future__ import annotations

from code_opt.planning.columns import money
from code_opt.planning.recommendation_words import name_of_period
from code_opt.report.blocks import Block, Cell, Column, Figure, Items, Pair, Row, Table
from code_opt.report.charts import Axis, xy_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import (
    COORDINATIONS,
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
from code_opt.text import percent


def growth_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return what is spent and bought in every period."""
    summary = tables("summary", "coordination", "status", "cost", "gap", "saved_cost")
    periods = tables(
        "periods",
        *("coordination", "period", "growth", "units_bought", "cost", "total_cost"),
        *("accuracy_loss_points", "throughput_per_s"),
    )
    servers = places(tables, "coordination", "period", "units_bought", "utilization")
    blocks: list[Block] = []
    texts = []
    for row in summary:
        name, _index = coordination_style(row["coordination"])
        if row["cost"] is None:
            texts.append(f"{name}: {row['status']}.")
            continue
        saved = row["saved_cost"]
        more = f", {money(saved)} less than without coordination" if saved else ""
        texts.append(f"{name}: {money(row['cost'])} over all periods{more} ({_proof(row)}).")
    blocks.append(Items(tuple(texts)))
    numbers = unique(r["period"] for r in periods)
    present = [c for c in COORDINATIONS if any(r["coordination"] == c for r in periods)]
    series = []
    for coordination in present:
        name, index = coordination_style(coordination)
        mine = [r for r in periods if r["coordination"] == coordination]
        series.append(
            line_series(name, index, [r["period"] for r in mine], [r["total_cost"] for r in mine])
        )
    if any(s.dots for s in series):
        drawing = xy_chart(
            "Money spent up to each period",
            Axis("period", names=("", *(name_of_period(tables.plan, n) for n in numbers))),
            Axis(periods.measured("total_cost", "spent so far"), zero=True),
            series,
            description=series_text(series, "period", "spent"),
            width=470.0,
        )
        rows = []
        for period in numbers:
            here = {r["coordination"]: r for r in periods if r["period"] == period}
            first = next(iter(here.values()))
            rows.append(
                Row(
                    (
                        Cell(name_of_period(tables.plan, period)),
                        *periods.cells(first, "growth"),
                        *(Cell(periods.text("cost", here.get(c))) for c in present),
                        *periods.cells(here.get("full"), "accuracy_loss_points"),
                    )
                )
            )
        columns = (
            Column("Period"),
            periods.head("growth"),
            *(periods.head("cost", coordination_style(c)[0]) for c in present),
            periods.head("accuracy_loss_points", "Accuracy lost, full"),
        )
        table = Table("Spent in each period", columns, tuple(rows))
        figure = Figure(f"growth{suffix}", drawing, "Money spent up to each period.")
        blocks.append(Pair((figure, table)))
    best = "full" if "full" in present else (present or [""])[-1]
    blocks += units_by(
        [r for r in servers if r["coordination"] == best],
        "period",
        [(period, name_of_period(tables.plan, period)) for period in numbers],
        f"Units bought in each period, {coordination_style(best)[0]}",
        units="units_bought",
    )
    details = [*tables.whole("periods", keys=2), *tables.whole("summary")]
    return [*blocks, in_full("All figures of this plan", details)]


def _proof(row: Record) -> str:
    if row["status"] == "optimal" or row["gap"] is None:
        return "proven" if row["status"] == "optimal" else str(row["status"])
    return f"within {percent(row['gap'], up=True)} of the least"
