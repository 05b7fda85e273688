"""The section of a plan for uncertain demand."""

from __future__ import annotations

from code_opt.report.blocks import Block, Cell, Column, Figure, Pair, Row, Table
from code_opt.report.charts import Axis, Dot, RowSeries, Series, Value, row_chart, xy_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import (
    MOST_ROWS,
    PlanTables,
    Record,
    in_full,
    places,
    unique,
    units_by,
)
from code_opt.text import share

VARIANTS = {
    "mean": "mean demand",
    "expected": "expected share",
    "worst": "share in every scenario",
    "every": "all in every scenario",
}


def scenarios_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return the plans for an uncertain demand and what each serves."""
    summary = tables(
        "summary",
        *("variant", "served_share", "status", "cost", "gap", "units", "accuracy_loss_points"),
        *("expected_served_share", "worst_served_share"),
    )
    scenarios = tables("scenarios", "variant", "scenario", "probability", "served_share")
    servers = places(tables, "variant", "units", "utilization")
    variants = [r["variant"] for r in summary]

    def name(variant: str) -> str:
        return VARIANTS.get(variant, variant)

    headings = {
        "cost": "Cost",
        "gap": "gap",
        "units": "Units",
        "expected_served_share": "Served, expected",
        "worst_served_share": "Served, worst",
        "accuracy_loss_points": "Accuracy lost",
        "status": "Status",
    }

    def planned_for(row: Record) -> str:
        part = row["served_share"]
        return name(row["variant"]) + ("" if part in (None, 1.0) else f" ({share(part)})")

    columns = (Column("Planned for"), *(summary.head(*pair) for pair in headings.items()))
    rows = tuple(Row((Cell(planned_for(r)), *summary.cells(r, *headings))) for r in summary)
    names = unique(r["scenario"] for r in scenarios)
    shares = {(r["variant"], r["scenario"]): r["served_share"] for r in scenarios}
    chances = {r["scenario"]: r["probability"] for r in scenarios}
    labels = [n if chances[n] is None else f"{n} ({100 * chances[n]:.0f} %)" for n in names]
    series = [
        RowSeries(
            name(variant),
            tuple(
                Value(
                    shares.get((variant, n)),
                    f"{n}, planned for {name(variant)}: "
                    f"{share(shares.get((variant, n)) or 0.0)} served",
                )
                for n in names
            ),
            order,
        )
        for order, variant in enumerate(variants)
        if any((variant, n) in shares for n in names)
    ]
    table = Table("Plans for an uncertain demand", columns, rows)
    description = "; ".join(
        f"{s.name}: "
        + ", ".join(f"{n} {share(v.value or 0.0)}" for n, v in zip(names, s.values, strict=True))
        for s in series
    )
    blocks: list[Block] = [table]
    if len(names) > MOST_ROWS // 3 and all(any(c.isdigit() for c in n) for n in names):
        # Hours of a day, in order: lines tell more than a row of signs for each.
        lines = [
            Series(
                s.name,
                tuple(
                    Dot(float(place), v.value, title=v.title)
                    for place, v in enumerate(s.values)
                    if v.value is not None
                ),
                line=True,
                index=s.index,
                signs=False,
            )
            for s in series
        ]
        drawing = xy_chart(
            "Demand served in each scenario",
            Axis("scenario, in the order of the table", names=tuple(names)),
            Axis("demand served", percent=True, most=1.0),
            lines,
            description=description,
            width=470.0,
        )
    elif names:
        drawing = row_chart(
            "Demand served in each scenario",
            labels,
            series,
            Axis("demand served", percent=True, most=1.0),
            limits=[1.0] * len(labels),
            description=description,
            width=470.0,
        )
    if names:
        caption = "Demand served in each scenario (its probability in brackets), by plan."
        bought = units_by(
            servers,
            "variant",
            [(variant, name(variant)) for variant in variants],
            "Units to buy, by what is planned for",
        )
        blocks.append(Pair((Figure(f"scenarios{suffix}", drawing, caption), *bought)))
    details = [*tables.whole("scenarios", keys=2), *tables.whole("paths", keys=2)]
    return [*blocks, in_full("Scenarios and paths in full", details)]
