"""The section of a what-if sweep."""

from __future__ import annotations

from code_opt.planning.columns import as_given
from code_opt.report.blocks import Block, Figure, Items, Pair
from code_opt.report.charts import Axis, xy_chart
from code_opt.report.material import Material
from code_opt.report.plans.reading import (
    MOST_ROWS,
    PlanTables,
    in_full,
    line_series,
    series_text,
    unique,
)


def sweep_blocks(tables: PlanTables, _: Material, suffix: str) -> list[Block]:
    """Return charts of what follows a varied field."""
    rows = tables(
        "sweep", "field", "value", "method", "status", "reward", "throughput_per_s", "cost"
    )
    methods = unique(r["method"] for r in rows)
    colors = {"exact": 0, "lns": 1, "local": 2, "plan": 3, "code": 4}
    blocks: list[Block] = []
    for order, field in enumerate(unique(r["field"] for r in rows), start=1):
        mine = [r for r in rows if r["field"] == field]
        charts: list[Block] = []
        wanted = [
            ("reward", "reward", "reward"),
            ("throughput_per_s", "throughput", "throughput"),
            ("cost", "least cost", "cost"),
        ]
        for column, axis, what in wanted:
            series = []
            for method in methods:
                points = sorted(
                    (r for r in mine if r["method"] == method and r[column] is not None),
                    key=lambda r: r["value"],
                )
                name = str(method)
                xs = [r["value"] for r in points]
                series.append(
                    line_series(name, colors.get(name, 5), xs, [r[column] for r in points])
                )
            if not any(s.dots for s in series):
                continue
            drawing = xy_chart(
                f"{what.capitalize()} against {field}",
                Axis(str(field)),
                Axis(rows.measured(column, axis)),
                [s for s in series if s.dots],
                description=series_text(series, str(field), what),
            )
            name = f"sweep{suffix}-{order}-{what}"
            charts.append(Figure(name, drawing, f"{what.capitalize()} while {field} varies."))
        if charts:
            blocks.append(Pair(tuple(charts)))
    failed = [r for r in rows if r["status"] in ("infeasible", "unknown")]
    if failed:
        blocks.append(
            Items(
                tuple(
                    f"{r['field']} = {as_given(r['value'])}, {r['method']}: {r['status']}"
                    for r in failed[:MOST_ROWS]
                )
            )
        )
    return [*blocks, in_full("All values of the sweep", tables.whole("sweep", keys=3))]
