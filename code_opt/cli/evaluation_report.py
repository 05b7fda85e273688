"""Evaluations at the terminal: predicted beside measured, and the verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from code_opt.cli.tables import Glyphs, plain_table
from code_opt.cli.text import duration, plain
from code_opt.evaluation.flow import OVERLOAD
from code_opt.evaluation.verdict import THROUGHPUT_TOLERANCE, average

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from code_opt.evaluation.flow import Flow
    from code_opt.evaluation.outcome import Evaluation, Options
    from code_opt.evaluation.verdict import Evaluated

_FEEDS = {
    "rates": "at its rates",
    "saturated": "saturated",
    "overloaded": f"{100 * (OVERLOAD - 1):.0f} % too much",
}


_PACES = {
    "instance": "The edge in the model's units, executed",
    "device": "The edge at this device's own pace",
}


def show_evaluation(evaluation: Evaluation, options: Options, console: Console) -> None:
    """Print everything that was measured, and what it means."""
    found = evaluation.results
    name = plain(evaluation.instance.name)
    console.print(Text(f"{name}: predicted and measured on {options.device}\n"))
    console.print(_summary(found, console))
    if any(one.tasks for one in found):
        console.print(Text("\nAccuracy of every path on its whole test split (Wilson, 95 %)\n"))
        console.print(_accuracies(found, console))
    if any(one.flows for one in found):
        paces = {flow.pace for one in found for flow in one.flows}
        console.print(Text(f"\n{_PACES[max(paces)]}: inferences per second\n"))
        console.print(_flows(found, console))
        console.print(Text("\nAt the rates of the result: latency of tasks, load of servers\n"))
        console.print(_latencies(found, console))
        console.print()
        if any(task.latency_verdict for one in found if one.flow for task in one.flow.tasks):
            console.print(_percentiles(found, console))
            console.print()
        console.print(_servers(found, console))
    if any(one.device is not None for one in found):
        console.print(
            Text(
                f"\nOn one device ({options.device}, {options.dtype}, batches of {_batch(found)})\n"
            )
        )
        console.print(_device(found, console))
    console.print()
    for line in _remarks(evaluation, options):
        console.print(Text(plain(line)))
    for one in found:
        console.print(
            Text.assemble(
                f"{plain(one.name)}: ",
                (plain(one.verdict.text), "green" if one.verdict.confirmed else "red"),
            )
        )


def _summary(found: Sequence[Evaluated], console: Console) -> Table:
    table = _table(
        console,
        ["result"],
        [
            "through-\nput [1/s]",
            "measured",
            "error\n[%]",
            "accu-\nracy",
            "measured",
            "error\n[points]",
        ],
    )
    for one in found:
        flow, result = one.flow, one.result
        off = (
            None
            if one.accuracy is None or result.accuracy is None
            else (100.0 * (one.accuracy - result.accuracy))
        )
        table.add_row(
            plain(one.name),
            _number(result.throughput, "{:.6g}"),
            _number(None if flow is None else flow.measured, "{:.6g}"),
            _number(None if flow is None else 100.0 * flow.error, "{:+.2f}"),
            _number(result.accuracy, "{:.4f}"),
            _number(one.accuracy, "{:.4f}"),
            _number(off, "{:+.2f}"),
        )
    return table


def _accuracies(found: Sequence[Evaluated], console: Console) -> Table:
    table = _table(
        console, ["result", "task", "predicted from", "adapters"], ["predicted", "measured", "95 %"]
    )
    span = Glyphs.of(console).span
    for one in found:
        for task in one.tasks:
            low, high = task.measured.interval()
            table.add_row(
                plain(one.name),
                plain(task.task),
                "measurement" if task.source == "measured" else "drops",
                task.adapters,
                f"{task.predicted:.4f}",
                f"{task.measured.value:.4f}",
                f"{low:.3f}{span}{high:.3f}",
            )
    return table


def _flows(found: Sequence[Evaluated], console: Console) -> Table:
    table = _table(
        console, ["result", "fed"], ["asked", "answered", "predicted", "error\n[%]", "steady"]
    )
    for one in found:
        for flow in one.flows:
            table.add_row(
                plain(one.name),
                _FEEDS[flow.feed],
                f"{flow.offered:.6g}",
                f"{flow.measured:.6g}",
                "–" if flow.feed == "overloaded" else f"{flow.predicted:.6g}",
                "–" if flow.feed == "overloaded" else f"{100.0 * flow.error:+.2f}",
                _steady(flow),
            )
    return table


def _steady(flow: Flow) -> str:
    """Say whether a flow was steady; one that is asked for too much should not be."""
    if flow.is_void:
        return "void (others ran)" if flow.pace == "device" else "void (this machine lagged)"
    if flow.pace == "device" and flow.feed == "saturated":
        return "–"
    if flow.feed == "overloaded":
        return "yes, but too much was asked" if flow.steady else "no, as wanted"
    return "yes" if flow.steady else "no"


def _latencies(found: Sequence[Evaluated], console: Console) -> Table:
    table = _table(
        console, ["result", "task"], ["rate\n[1/s]", "unloaded", "median", "95th", "99th"]
    )
    for one in found:
        for task in () if one.flow is None else one.flow.tasks:
            table.add_row(
                plain(one.name),
                plain(task.task),
                f"{task.measured:.6g}",
                *(
                    duration(value) if math.isfinite(value) else "–"
                    for value in (
                        task.unloaded,
                        task.latency_median,
                        task.latency_p95,
                        task.latency_p99,
                    )
                ),
            )
    return table


def _percentiles(found: Sequence[Evaluated], console: Console) -> Table:
    """Return what was promised of percentiles beside what was measured."""
    table = _table(
        console,
        ["result", "task"],
        ["per-\ncentile", "limit", "promised", "measured", "95 %"],
    )
    table.add_column(Text("verdict"))
    span = Glyphs.of(console).span

    def time(value: float | None) -> str:
        return "–" if value is None or not math.isfinite(value) else duration(value)

    for one in found:
        for task in () if one.flow is None else one.flow.tasks:
            if task.latency_percentile is not None:
                table.add_row(
                    plain(one.name),
                    plain(task.task),
                    f"{100.0 * task.latency_percentile:g}",
                    time(task.latency_limit),
                    time(task.latency_promised),
                    time(task.latency_measured),
                    f"{time(task.latency_low)}{span}{time(task.latency_high)}",
                    task.latency_verdict,
                )
    return table


def _servers(found: Sequence[Evaluated], console: Console) -> Table:
    table = _table(
        console,
        ["result", "server"],
        ["utilization\n[%]", "measured\n[%]", "inside,\nmean", "most", "late\n(95th)"],
    )
    for one in found:
        for server in () if one.flow is None else one.flow.servers:
            table.add_row(
                plain(one.name),
                plain(server.server),
                f"{100.0 * server.predicted:.1f}",
                f"{100.0 * server.measured:.1f}",
                f"{server.waiting_mean:.1f}",
                str(server.waiting_max),
                duration(server.lag),
            )
    return table


def _device(found: Sequence[Evaluated], console: Console) -> Table:
    table = _table(
        console,
        ["result"],
        [
            "infer-\nences/s",
            "native\nmix",
            "speed-\nup",
            "by\nFLOPs",
            "by parts'\ntimes",
            "of a plain\nchain [%]",
        ],
    )
    for one in found:
        if one.device is None:
            continue
        worst = min(stream.share_of_plain for stream in one.device.streams)
        table.add_row(
            plain(one.name),
            f"{one.device.throughput:.4g}",
            f"{one.device.native_throughput:.4g}",
            f"{one.device.speedup:.2f}",
            f"{one.device.speedup_flops:.2f}",
            f"{one.device.speedup_parts:.2f}",
            f"{100.0 * worst:.0f}",
        )
    return table


def _batch(found: Sequence[Evaluated]) -> int:
    return next(one.device.batch for one in found if one.device is not None)


def _remarks(evaluation: Evaluation, options: Options) -> list[str]:
    lines = []
    found = evaluation.results
    factors = {flow.factor for one in found for flow in one.flows}
    slowest = min(factors, default=1.0)
    if slowest < 1.0:
        lines.append(
            "This machine is too slow for these capacities: all capacities, bandwidths and rates "
            f"were multiplied by {slowest:.3g} and delays divided by it. Figures are in the "
            "instance's own seconds."
        )
    lines += [
        f"{one.name}: the device's memory was too small; the batch was halved to "
        f"{one.device.batch}."
        for one in found
        if one.device is not None and one.device.halved
    ]
    for one in found:
        full, reduced = one.accuracy, average(one.tasks, reduced=True)
        if full is not None and reduced is not None:
            lines.append(
                f"{one.name}: in {options.dtype} the average accuracy is {reduced:.4f}, "
                f"{100.0 * (reduced - full):+.2f} points against float32."
            )
    closer = _closer(found)
    if closer:
        lines.append(closer)
    if evaluation.ranking:
        lines.append(evaluation.ranking)
    if any(one.verdict.confirmed for one in found):
        lines.append(
            f"Confirmed: measured throughput within {100 * THROUGHPUT_TOLERANCE:g} % in a steady "
            "state, measured accuracy within what chance explains at 95 % or half a point."
        )
    return lines


def _closer(found: Sequence[Evaluated]) -> str:
    """Say which predictor of speed came nearer."""
    devices = [one.device for one in found if one.device is not None]
    if not devices:
        return ""
    flops = sum(abs(d.speedup_flops / d.speedup - 1.0) for d in devices) / len(devices)
    parts = sum(abs(d.speedup_parts / d.speedup - 1.0) for d in devices) / len(devices)
    better = "times of single parts" if parts < flops else "FLOPs"
    return (
        f"On this device the {better} predict the speed-up better: they are off by "
        f"{100 * min(flops, parts):.0f} %, the other by {100 * max(flops, parts):.0f} % "
        "(one run; another one differs)."
    )


def _table(console: Console, words: list[str], figures: list[str]) -> Table:
    table = plain_table(console)
    for name in words:
        table.add_column(Text(name))
    for name in figures:
        # As text: a unit in brackets would be taken for markup.
        table.add_column(Text(name), justify="right")
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
