"""The section of a Pareto front."""

from __future__ import annotations

from functools import partial

from code_opt.report.blocks import Block, Figure, Paragraph
from code_opt.report.charts import Axis, Dot, Series, xy_chart
from code_opt.report.material import Material
from code_opt.report.numbers import short
from code_opt.report.plans.reading import PlanTables, in_full
from code_opt.report.results import main_results, method_series
from code_opt.text import number


def front_blocks(tables: PlanTables, material: Material, suffix: str) -> list[Block]:
    """Return the front, drawn with the methods of the results."""
    points = tables("points", "point", "throughput_per_s", "accuracy", "status", "supported")
    shown = [r for r in points if r["throughput_per_s"] is not None and r["accuracy"] is not None]
    if not shown:
        return [Paragraph("The front has no point.")]
    rate = partial(points.quantity, "throughput_per_s")
    ordered = sorted(shown, key=lambda r: r["throughput_per_s"])
    dots = tuple(
        Dot(
            r["throughput_per_s"],
            r["accuracy"],
            title=f"point {r['point']}: {rate(number(r['throughput_per_s']))} "
            f"at {r['accuracy']:.4f}",
        )
        for r in ordered
    )
    series = [Series("front", dots, line=True, index=5, fall=True)]
    series += method_series(main_results(material), material.results)
    first, last = ordered[-1], ordered[0]
    drawing = xy_chart(
        "Pareto front of throughput against average accuracy",
        Axis(points.measured("throughput_per_s", "throughput")),
        Axis("average accuracy"),
        series,
        description="; ".join(dot.title for dot in dots),
        width=500.0,
        height=330.0,
    )
    complete = tables.plan.settings.get("complete")
    lost = len(points.rows) - len(shown)
    if complete is True:
        what = "Every point of the front is here."
    elif tables.plan.settings.get("points") is None:
        what = "A limit came first: there may be more points."
    else:
        what = "Points at even steps of accuracy; there may be others between them."
    if lost:
        what += f" {lost} more could not be found in time; the table has their bounds."
    proven = sum(r["status"] == "optimal" for r in shown)
    share = (
        "each is proven"
        if proven == len(shown)
        else f"{proven} of {len(shown)} are proven, the others within their gap"
    )
    text = (
        f"From {rate(short(last['throughput_per_s']))} at accuracy {last['accuracy']:.4f} to "
        f"{rate(short(first['throughput_per_s']))} at {first['accuracy']:.4f}: no assignment is "
        f"better in one without being worse in the other; {share}. {what}"
    )
    caption = "The exact front: up and to the right is better, and nothing lies beyond it."
    return [
        Paragraph(text),
        Figure(f"front{suffix}", drawing, caption),
        in_full(
            "Points of the front and their paths",
            [*tables.whole("points"), *tables.whole("paths", 2)],
        ),
    ]
