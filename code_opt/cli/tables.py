"""Tables of results for a terminal, readable from 80 columns on.

Everything that comes from a file is shown as literal text (no Rich markup, no control
characters), and paths wrap instead of being cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from code_opt.cli.text import duration, number, percent, plain, seconds, si
from code_opt.instance.model import GivenPath
from code_opt.result import TOLERANCE
from code_opt.wording import PathWords, full_shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from code_opt.batch import Outcome
    from code_opt.instance.model import Instance
    from code_opt.observations import Observation
    from code_opt.result import AdapterChange, Result
    from code_opt.scheduling import ScheduledPeriod
    from code_opt.transition import Difference

STATUS_STYLE = {"optimal": "green", "feasible": "", "infeasible": "red", "unknown": "yellow"}
NARROW = 94
"""Below this width columns stand closer."""
_SOURCE_STYLE = {"predicted": "yellow", "guessed": "bold yellow"}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Signs that the output's encoding can show."""

    connection: str
    arrow: str
    span: str
    bar: str
    rest: str

    @staticmethod
    def of(console: Console) -> Glyphs:
        """Return the signs for a console."""
        if console.encoding.lower().startswith("utf"):
            return Glyphs("⇒", "→", "…", "█", "░")
        return Glyphs("=>", "->", "..", "#", ".")


def methods_table(results: Sequence[Result], console: Console) -> Table:
    """Return one row per method, figures against ``local`` where it was solved."""
    local = next((r for r in results if r.method == "local" and r.has_solution), None)
    table = plain_table(console)
    _words(table, "method")
    _words(table, "status")
    is_time = any(result.objective == "latency" for result in results)
    # Throughput says nothing where every task is served at its demand.
    columns = ("latency", "gap\n[%]") if is_time else ("reward", "gap\n[%]", "through-\nput [1/s]")
    _figures(table, *columns)
    if local is not None:
        _figures(table, "vs local\n[%]")
    _figures(table, "accu-\nracy")
    if local is not None:
        _figures(table, "vs local\n[points]")
    _figures(table, "time\n[s]")
    best = max((r.merit for r in results if r.merit is not None), default=None)
    for result in results:
        if is_time:
            cells = [_duration(result.latency), _gap(result.gap)]
        else:
            cells = [_figure(result.reward), _gap(result.gap), _figure(result.throughput)]
        if local is not None and is_time:
            cells.append(_relative(result.latency, local.latency))
        elif local is not None:
            cells.append(_relative(result.throughput, local.throughput))
        cells.append("–" if result.accuracy is None else f"{result.accuracy:.4f}")
        if local is not None:
            cells.append(_points(result.accuracy, local.accuracy))
        cells.append(seconds(result.seconds))
        is_best = (
            best is not None
            and result.merit is not None
            and result.merit >= best - TOLERANCE * abs(best)
        )
        table.add_row(
            Text(plain(result.method)),
            Text(result.status, style=STATUS_STYLE[result.status]),
            *(Text(cell) for cell in _dashes(cells, console)),
            style="bold" if is_best else None,
        )
    return table


def curse_table(results: Sequence[Result], console: Console) -> Table:
    """Return accuracy and reward of each method as found, their excess, and without it."""
    table = plain_table(console)
    _words(table, "method")
    _figures(table, "accu-\nracy", "excess\n[points]", "+/-", "cor-\nrected")
    _figures(table, "reward", "excess", "+/-", "corrected")
    for result in results:
        curse = result.winners_curse
        if curse is None or result.accuracy is None:
            continue
        cells = [
            f"{result.accuracy:.4f}",
            f"{100.0 * curse.accuracy:.2f}",
            f"{100.0 * curse.accuracy_spread:.2f}",
            f"{curse.accuracy_corrected:.4f}",
            _figure(result.reward),
            _figure(curse.reward),
            _figure(curse.reward_spread),
            _figure(curse.reward_corrected),
        ]
        table.add_row(Text(plain(result.method)), *(Text(c) for c in _dashes(cells, console)))
    return table


def task_table(result: Result, instance: Instance, console: Console) -> Table:
    """Return path, rate, accuracy, latency and work on the own server of every task."""
    glyphs = Glyphs.of(console)
    paths = PathText(instance, glyphs)
    table = plain_table(console)
    _words(table, "task", wrap=True)
    _words(table, "path", wrap=True)
    has_intervals = any(row.accuracy_interval for row in result.tasks)
    _figures(table, "rate\n[1/s]", "accuracy", *(["95 %"] if has_intervals else []))
    _words(table, "source")
    has_work = any(row.own_work is not None for row in result.tasks)
    _figures(table, "latency", *(["own\nwork"] if has_work else []))
    if result.changes is not None:
        _words(table, "change")
    for row in result.tasks:
        table.add_row(
            Text(plain(row.task)),
            paths(row.task, GivenPath.of(row.path, row.accuracy_source)),
            Text(number(row.rate)),
            Text(f"{row.accuracy:.4f}"),
            *([Text(interval_text(row.accuracy_interval))] if has_intervals else []),
            Text(row.accuracy_source, style=_SOURCE_STYLE.get(row.accuracy_source, "")),
            Text(duration(row.latency)),
            *([Text(*_dashes([_share(row.own_work)], console))] if has_work else []),
            *([Text(row.change or "")] if result.changes is not None else []),
        )
    return table


def changes_table(results: Sequence[Result], console: Console) -> Table:
    """Return one row for each number of changes of paths."""
    table = plain_table(console)
    _figures(table, "changes\nallowed")
    _words(table, "status")
    _figures(table, "reward", "gap\n[%]", "through-\nput [1/s]", "accu-\nracy")
    _figures(table, "changed", "adapters\nto load", "size\n[bytes]", "time\n[s]")
    for result in results:
        load = [row.bytes for row in result.adapters or () if row.action == "load"]
        has_any = result.has_solution
        cells = [
            _figure(result.reward),
            _gap(result.gap),
            _figure(result.throughput),
            "–" if result.accuracy is None else f"{result.accuracy:.4f}",
            "–" if result.changes is None else str(result.changes),
            str(len(load)) if has_any else "–",
            si(sum(load)) if has_any else "–",
            seconds(result.seconds),
        ]
        table.add_row(
            Text(str(result.max_changes)),
            Text(result.status, style=STATUS_STYLE[result.status]),
            *(Text(cell) for cell in _dashes(cells, console)),
        )
    return table


def schedule_table(found: Sequence[ScheduledPeriod], console: Console) -> Table:
    """Return one row for each period."""
    table = plain_table(console)
    is_time = any(period.result.objective == "latency" for period in found)
    _words(table, "period", wrap=True)
    _words(table, "status")
    _figures(table, "latency" if is_time else "reward", "gap\n[%]", "through-\nput [1/s]")
    _figures(table, "demand\n[1/s]", "accu-\nracy", "changed", "forced", "to load\n[bytes]")
    for period in found:
        row, result = period.row, period.result
        counts = [row["changes"], row["forced"]]
        cells = [
            _duration(result.latency) if is_time else _figure(result.reward),
            _gap(result.gap),
            _figure(result.throughput),
            _figure(row["demand"]),
            "–" if result.accuracy is None else f"{result.accuracy:.4f}",
            *("–" if count is None else str(count) for count in counts),
            "–" if row["bytes_to_load"] is None else si(row["bytes_to_load"]),
        ]
        table.add_row(
            Text(plain(period.name)),
            Text(result.status, style=STATUS_STYLE[result.status]),
            *(Text(cell) for cell in _dashes(cells, console)),
        )
    return table


def observation_table(found: Sequence[Observation], console: Console) -> Table:
    """Return predicted and observed figures, a row for each."""
    table = plain_table(console)
    _words(table, "figure")
    _words(table, "of", wrap=True)
    _words(table, "path or batch", wrap=True)
    _figures(table, "predicted", "observed", "difference", "95 %")
    _words(table, "source")
    shown = {"accuracy": "{:.4f}".format, "demand": number, "time": duration}
    for row in found:
        text = shown[row.kind]
        cells = ["–", text(row.observed), "–", interval_text(row.interval)]
        if row.predicted is not None:
            cells[0] = text(row.predicted)
            is_share = row.kind == "accuracy"
            cells[2] = (
                _points(row.observed, row.predicted)
                if is_share
                else _relative(row.observed, row.predicted)
            )
            cells[2] += "" if cells[2] == "–" else " points" if is_share else " %"
        table.add_row(
            Text(row.kind),
            Text(plain(row.what)),
            Text(plain(row.detail)),
            *(Text(cell) for cell in _dashes(cells, console)),
            Text(row.source),
        )
    return table


def adapter_table(adapters: Sequence[AdapterChange], console: Console) -> Table:
    """Return the adapters that servers have to load and may drop."""
    arrow = " → " if console.encoding.lower().startswith("utf") else " -> "
    table = plain_table(console)
    _words(table, "server")
    _words(table, "do")
    _words(table, "adapter", wrap=True)
    _words(table, "of", wrap=True)
    _figures(table, "size\n[bytes]")
    for row in adapters:
        cells = [row.server, row.action, row.source + arrow + row.target, row.adapter]
        table.add_row(*(Text(plain(cell)) for cell in cells), Text(si(row.bytes)))
    return table


def difference_table(difference: Difference, instance: Instance, console: Console) -> Table:
    """Return old and new path, rate and accuracy of every task."""
    paths = PathText(instance, Glyphs.of(console))
    known = {task.id for task in instance.tasks}
    table = plain_table(console)
    _words(table, "task", wrap=True)
    _words(table, "change")
    _words(table, "path before", wrap=True)
    _words(table, "path now", wrap=True)
    _figures(table, "rate\n[1/s]", "now", "accu-\nracy", "now")

    def path(task: str, blocks: tuple[str, ...] | None, is_same: bool) -> Text:
        if blocks is None or is_same:
            return Text(*_dashes(["–"], console)) if blocks is None else Text("the same")
        return paths(task, blocks) if task in known else Text(plain(" > ".join(blocks)))

    for row in difference.tasks:
        rates = [_figure(row.old_rate), _figure(row.new_rate)]
        accuracies = [
            "–" if a is None else f"{a:.4f}" for a in (row.old_accuracy, row.new_accuracy)
        ]
        table.add_row(
            Text(plain(row.task)),
            Text(row.change or "gone"),
            path(row.task, row.old_path, False),
            path(row.task, row.new_path, row.change == "kept"),
            *(Text(cell) for cell in _dashes([*rates, *accuracies], console)),
        )
    return table


def promise_table(result: Result, instance: Instance, console: Console) -> Table | None:
    """Return what every task is promised under load, None where no percentile is asked for."""
    if all(row.latency_percentile is None for row in result.tasks):
        return None
    limit = {task.id: task.max_latency for task in instance.tasks}
    table = plain_table(console)
    _words(table, "task", wrap=True)
    _figures(table, "unloaded", "mean", "quantile", "promised", "limit")
    _words(table, "basis")

    def shown(seconds: float | None) -> str:
        return "–" if seconds is None else duration(seconds)

    for row in result.tasks:
        q = row.latency_percentile
        cells = [
            shown(row.latency),
            shown(row.latency_mean),
            "–" if q is None else f"{q:g}",
            shown(row.latency_promised),
            shown(limit[row.task]),
            row.latency_basis or "–",
        ]
        table.add_row(Text(plain(row.task)), *map(Text, _dashes(cells, console)))
    return table


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval of an accuracy, or a dash."""
    return "–" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def server_table(result: Result, instance: Instance, console: Console) -> Table:
    """Return load, capacity and utilization of every server.

    Devices are shown where a server has not just one, or has no FLOP/s to be told in. A server
    is full where it sells no more (``max_utilization``).
    """
    most = full_shares(result, instance)
    full = [most.get(row.server, 1.0) for row in result.servers]
    if all(r.devices in (None, 1.0) and r.capacity is not None for r in result.servers):
        rows = [
            (plain(r.server), r.load, r.capacity, r.utilization, r.wait_scale)
            for r in result.servers
        ]
        return _load_table("server", {"load": "FLOP/s", "capacity": "FLOP/s"}, rows, full, console)
    heads = {"busy": "devices", "of": "devices", "load": "FLOP/s", "capacity": "FLOP/s"}
    if all(r.capacity is None for r in result.servers):
        heads = {"busy": "devices", "of": "devices"}
    found = [
        ((r.busy_devices, r.devices, r.load, r.capacity)[: len(heads)], r) for r in result.servers
    ]
    shown = [(plain(r.server), *figures, r.utilization, r.wait_scale) for figures, r in found]
    return _load_table("server", heads, shown, full, console)


def link_table(result: Result, console: Console) -> Table:
    """Return load, capacity and utilization of every link."""
    arrow = " → " if console.encoding.lower().startswith("utf") else " -> "
    rows = [
        (
            plain(r.source) + arrow + plain(r.target),
            r.load,
            r.capacity,
            r.utilization,
            r.wait_scale,
        )
        for r in result.links
    ]
    full = [1.0] * len(rows)
    return _load_table("link", {"load": "B/s", "capacity": "B/s"}, rows, full, console)


def batch_table(outcomes: Sequence[Outcome], console: Console) -> Table:
    """Return one row per instance and method of many."""
    table = plain_table(console)
    _words(table, "instance", wrap=True)
    _words(table, "method")
    _words(table, "status")
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    is_time = any(result.objective == "latency" for result in results)
    _figures(table, "latency" if is_time else "reward", "gap\n[%]")
    _figures(table, "through-\nput [1/s]", "accu-\nracy", "time\n[s]")
    for outcome in outcomes:
        result = outcome.result
        status = outcome.fault if result is None else result.status
        cells = ["–"] * 5
        if result is not None:
            accuracy = "–" if result.accuracy is None else f"{result.accuracy:.4f}"
            value = _duration(result.latency) if is_time else _figure(result.reward)
            cells = [value, _gap(result.gap), _figure(result.throughput)]
            cells += [accuracy, seconds(result.seconds)]
        table.add_row(
            Text(plain(outcome.job.source.label)),
            Text(outcome.job.method),
            Text(status or "", style=STATUS_STYLE.get(status or "", "red")),
            *(Text(cell) for cell in _dashes(cells, console)),
        )
    return table


class PathText:
    """Writes paths: runs of blocks in short, the connections that they use marked."""

    def __init__(self, instance: Instance, glyphs: Glyphs) -> None:
        """Index the trunks of an instance."""
        self._glyphs = glyphs
        self._words = PathWords(instance, glyphs.span)

    def __call__(self, task: str, path: Sequence[str]) -> Text:
        """Return the path of a task, as ``alexnet/0…1 ⇒ mobilenet/2 ⇒ output``.

        A double arrow is a learned connection, a single one hands on what is there. ``input``
        and ``output`` are shown where a connection (an entry or an exit) starts or ends there.
        """
        text = Text()
        runs = self._words(task, path)
        for index, run in enumerate(runs):
            if index:
                sign, style = (
                    (self._glyphs.connection, "bold cyan")
                    if run.learned
                    else (self._glyphs.arrow, "dim")
                )
                text.append(f" {sign} ", style=style)
            text.append(run.text)
        if len(runs) == 1:
            text.append(f" ({self._words.name(task, path)})", style="dim")
        return text


def _load_table(
    name: str,
    heads: Mapping[str, str],
    rows: Sequence[tuple[Any, ...]],
    full: Sequence[float],
    console: Console,
) -> Table:
    """Return a table of names, figures with units, and utilization as a bar.

    Args:
        name: heading of the names.
        heads: units of the figures by their headings.
        rows: name, figures, utilization and wait scale.
        full: utilization of each row beyond which nothing can be used.
        console: where it is shown.
    """
    glyphs = Glyphs.of(console)
    width = 10 if console.width < NARROW else 20
    table = plain_table(console)
    _words(table, name, wrap=True)
    _figures(table, *(f"{head}\n[{unit}]" for head, unit in heads.items()))
    _words(table, "utilization")
    have_scales = any(scale is not None for *_, scale in rows)
    if have_scales:
        _figures(table, "wait\nscale")
    for (label, *figures, utilization, scale), most in zip(rows, full, strict=True):
        if utilization is None:
            share = Text("unlimited")
        else:
            is_full = utilization >= most * (1.0 - TOLERANCE)
            share = min(max(utilization, 0.0), 1.0)
            filled = round(width * most) if is_full else int(width * share)
            share = Text(
                glyphs.bar * filled + glyphs.rest * (width - filled),
                style="yellow" if is_full else "cyan",
            )
            share.append(f" {100.0 * utilization:5.1f} %", style="default")
        cells = [Text("" if value is None else si(value)) for value in figures]
        wait = Text(*_dashes(["–" if scale is None else duration(scale)], console))
        table.add_row(Text(label), *cells, share, *([wait] * have_scales))
    return table


def plain_table(console: Console) -> Table:
    """Return an empty table in the style of all of them."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0 if console.width < NARROW else 1, 0, 0),
        header_style="bold",
    )


def _words(table: Table, heading: str, wrap: bool = False) -> None:
    table.add_column(Text(heading), no_wrap=not wrap, overflow="fold")


def _figures(table: Table, *headings: str) -> None:
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)


def _figure(value: float | None) -> str:
    return "–" if value is None else number(value)


def _duration(value: float | None) -> str:
    return "–" if value is None else duration(value)


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _gap(value: float | None) -> str:
    if value is None:
        return "–"
    return "0" if value <= TOLERANCE else percent(value, up=True).removesuffix(" %")


def _relative(value: float | None, base: float | None) -> str:
    if value is None or base is None or base <= 0.0:
        return "–"
    change = 100.0 * (value / base - 1.0)
    return f"{change:+.1f}" if abs(change) >= 0.05 else "0.0"


def _points(value: float | None, base: float | None) -> str:
    if value is None or base is None:
        return "–"
    change = 100.0 * (value - base)
    return f"{change:+.2f}" if abs(change) >= 0.005 else "0.00"


def _dashes(cells: list[str], console: Console) -> list[str]:
    if console.encoding.lower().startswith("utf"):
        return cells
    return ["-" if cell == "–" else cell for cell in cells]
