"""Sections about evaluations: predicted against measured."""

from __future__ import annotations

from code_opt.report.blocks import (
    Block,
    Callout,
    Cell,
    Column,
    Figure,
    More,
    Pair,
    Paragraph,
    Row,
    Section,
    Table,
)
from code_opt.report.charts import Axis, RowSeries, Value, row_chart
from code_opt.report.evaluation_files import EvaluationTables, Record
from code_opt.report.material import Material
from code_opt.report.numbers import fraction, signed
from code_opt.text import duration, number

PREDICTED, MEASURED = 5, 0
"""Colours and signs: a ring for what was promised, a full circle for what came out."""
MOST_ROWS = 30


def evaluation_sections(material: Material) -> list[Section]:
    """Return one section per evaluation."""
    found = material.evaluations
    sections = []
    for number_of, evaluation in enumerate(found, start=1):
        more = f" ({evaluation.path.parent.name})" if len(found) > 1 else ""
        sections.append(
            Section(
                "evaluation" if len(found) == 1 else f"evaluation-{number_of}",
                f"Predicted against measured{more}",
                tuple(_blocks(evaluation, "" if len(found) == 1 else f"-{number_of}")),
            )
        )
    return sections


def _blocks(evaluation: EvaluationTables, suffix: str) -> list[Block]:
    blocks: list[Block] = []
    results = evaluation.results
    right = [row for row in results if row["confirmed"]]
    texts = tuple(f"{row['result']}: {row['verdict']}" for row in results)
    if evaluation.ranking:
        texts += (evaluation.ranking,)
    if evaluation.confirmed:
        heading = (
            f"what was promised was measured, for {_all_of(len(right))} on {evaluation.device}"
        )
        blocks.append(Callout(heading, texts, "good"))
    else:
        heading = f"{len(results) - len(right)} of {len(results)} results are not confirmed"
        blocks.append(Callout(heading, texts, "bad"))
    slow = [row["slow_motion"] for row in results if row["slow_motion"] is not None]
    if slow and min(slow) < 1.0:
        blocks.append(
            Paragraph(
                "This machine was too slow for the capacities: all capacities, bandwidths and "
                f"rates were multiplied by {min(slow):.3g} and delays divided by it. Figures are "
                "in the instance's own seconds."
            )
        )
    blocks.append(_summary(results))
    charts = [*_throughputs(results, suffix), *_accuracies(evaluation.tasks, suffix)]
    if charts:
        blocks.append(Pair(tuple(charts)))
    details: list[Block] = []
    if evaluation.tasks:
        details.append(_accuracy_table(evaluation.tasks))
    at_rates = [row for row in evaluation.edge_tasks if row["feed"] == "rates"]
    if at_rates:
        details.append(_latency_table(at_rates))
    servers = [row for row in evaluation.edge_servers if row["feed"] == "rates"]
    if servers:
        details.append(_server_table(servers))
    if details:
        blocks.append(More("Measured per task and per server", tuple(details)))
    return blocks


def _all_of(count: int) -> str:
    return "one result" if count == 1 else f"all {count} results"


def _off(measured: float | None, predicted: float | None) -> float | None:
    if measured is None or predicted is None:
        return None
    return measured - predicted


def _summary(results: tuple[Record, ...]) -> Table:
    columns = (
        Column("Result"),
        Column("Throughput", "1/s", figures=True),
        Column("measured", "1/s", figures=True),
        Column("off by", "%", figures=True),
        Column("Accuracy", figures=True),
        Column("measured", figures=True),
        Column("off by", "points", figures=True),
        Column("Speed-up on device", figures=True),
        Column("by FLOPs", figures=True),
        Column("by parts", figures=True),
        Column("Verdict"),
    )
    device = any(row["device_speedup"] is not None for row in results)
    kept = [c for i, c in enumerate(columns) if device or i not in (7, 8, 9)]
    rows = []
    for row in results:
        promised, measured = row["throughput_predicted"], row["throughput_measured"]
        off = _off(measured, promised)
        points = _off(row["accuracy_measured"], row["accuracy_predicted"])
        cells = [
            Cell(row["result"] or ""),
            Cell(_number(promised)),
            Cell(_number(measured)),
            Cell("–" if off is None or not promised else signed(100 * off / promised, 2)),
            Cell(fraction(row["accuracy_predicted"])),
            Cell(fraction(row["accuracy_measured"])),
            Cell("–" if points is None else signed(100 * points, 2)),
            *(
                Cell("–" if row[name] is None else f"{row[name]:.2f}")
                for name in ("device_speedup", "device_speedup_flops", "device_speedup_parts")
                if device
            ),
            Cell("✓ confirmed", "good") if row["confirmed"] else Cell("✗ not confirmed", "bad"),
        ]
        rows.append(Row(tuple(cells)))
    return Table("Predicted and measured, by result", tuple(kept), tuple(rows))


def _throughputs(results: tuple[Record, ...], suffix: str) -> list[Block]:
    rows = [r for r in results if r["throughput_measured"] is not None]
    if not rows:
        return []
    names = [r["result"] for r in rows]
    series = [
        _series("predicted", PREDICTED, names, [r["throughput_predicted"] for r in rows], "/s"),
        _series("measured", MEASURED, names, [r["throughput_measured"] for r in rows], "/s"),
    ]
    drawing = row_chart(
        "Throughput, predicted and measured",
        names,
        series,
        Axis("throughput at the instance's capacities [inferences/s]", zero=True),
        description="; ".join(
            f"{r['result']}: predicted {_number(r['throughput_predicted'])}/s, measured "
            f"{_number(r['throughput_measured'])}/s"
            for r in rows
        ),
    )
    caption = "Throughput of the executed edge, fed at the rates of each result."
    return [Figure(f"evaluation-throughput{suffix}", drawing, caption)]


def _accuracies(tasks: tuple[Record, ...], suffix: str) -> list[Block]:
    if not tasks:
        return []
    shown = tasks[:MOST_ROWS]
    names = [f"{r['result']} · {r['task']}" for r in shown]
    measured = tuple(
        Value(
            r["accuracy_measured"],
            f"{name}, measured: {fraction(r['accuracy_measured'])} "
            f"({fraction(r['low_95'])} to {fraction(r['high_95'])})",
            r["low_95"],
            r["high_95"],
        )
        for name, r in zip(names, shown, strict=True)
    )
    series = [
        _series("predicted", PREDICTED, names, [r["accuracy_predicted"] for r in shown], ""),
        RowSeries("measured, 95 % interval", measured, MEASURED),
    ]
    drawing = row_chart(
        "Accuracy, predicted and measured",
        names,
        series,
        Axis("accuracy on the test images"),
        description="Accuracy of every path; the table below holds the values.",
    )
    caption = "Accuracy of every path on its whole test split."
    if len(tasks) > len(shown):
        caption += f" The first {len(shown)} of {len(tasks)}."
    return [Figure(f"evaluation-accuracy{suffix}", drawing, caption)]


def _series(
    name: str, index: int, rows: list[str], values: list[float | None], unit: str
) -> RowSeries:
    found = tuple(
        Value(value, "" if value is None else f"{row}, {name}: {number(value)}{unit}")
        for row, value in zip(rows, values, strict=True)
    )
    return RowSeries(name, found, index)


def _accuracy_table(tasks: tuple[Record, ...]) -> Table:
    columns = (
        Column("Result"),
        Column("Task"),
        Column("Predicted from"),
        Column("Adapters"),
        Column("Predicted", figures=True),
        Column("Measured", figures=True),
        Column("95 % interval", figures=True),
        Column("Images", figures=True),
    )
    rows = tuple(
        Row(
            (
                Cell(r["result"] or ""),
                Cell(r["task"] or ""),
                Cell("measurement" if r["source"] == "measured" else "drops"),
                Cell(r["adapters"] or ""),
                Cell(fraction(r["accuracy_predicted"])),
                Cell(fraction(r["accuracy_measured"])),
                Cell(f"{fraction(r['low_95'])} to {fraction(r['high_95'])}"),
                Cell("–" if r["test_images"] is None else f"{r['test_images']:,.0f}"),
            )
        )
        for r in tasks
    )
    return Table("Accuracy of every path", columns, rows, keys=2)


def _latency_table(tasks: list[Record]) -> Table:
    columns = (
        Column("Result"),
        Column("Task"),
        Column("Rate promised", "1/s", figures=True),
        Column("Rate measured", "1/s", figures=True),
        Column("Latency unloaded", figures=True),
        Column("Median", figures=True),
        Column("95th percentile", figures=True),
        Column("99th percentile", figures=True),
    )
    times = ("unloaded", "latency_median", "latency_p95", "latency_p99")
    rows = tuple(
        Row(
            (
                Cell(r["result"] or ""),
                Cell(r["task"] or ""),
                Cell(_number(r["predicted"])),
                Cell(_number(r["measured"])),
                *(Cell("–" if r[name] is None else duration(r[name])) for name in times),
            )
        )
        for r in tasks
    )
    return Table("Rates and latencies on the executed edge", columns, rows, keys=2)


def _server_table(servers: list[Record]) -> Table:
    columns = (
        Column("Result"),
        Column("Server"),
        Column("Utilisation promised"),
        Column("Utilisation measured"),
        Column("Waiting, mean", figures=True),
        Column("Waiting, most", figures=True),
    )

    def share(value: float | None) -> Cell:
        return Cell("–") if value is None else Cell(f"{100 * value:.1f} %", share=value)

    rows = tuple(
        Row(
            (
                Cell(r["result"] or ""),
                Cell(r["server"] or ""),
                share(r["predicted"]),
                share(r["measured"]),
                Cell("–" if r["waiting_mean"] is None else f"{r['waiting_mean']:.1f}"),
                Cell("–" if r["waiting_max"] is None else f"{r['waiting_max']:.0f}"),
            )
        )
        for r in servers
    )
    return Table("Servers of the executed edge", columns, rows, keys=2)


def _number(value: float | None) -> str:
    return "–" if value is None else number(value)
