"""Profiling at the terminal: progress with the time left, and what came out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from code_opt.cli.tables import plain_table
from code_opt.cli.text import plain
from code_opt.profiling.times import WIDEST, unsteady

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.progress import TaskID

    from code_opt.cli.terminal import Console
    from code_opt.profiling.pipeline import Profile
    from code_opt.profiling.retiming import Times

_FEW = 3
"""Unsteady times that are named."""
NEXT_LINE = 10.0
"""Seconds between lines where stderr is not a terminal."""


class StageReport:
    """Progress of every stage: bars on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        if console.can_rewrite:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
        self._stages: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._due = 0.0

    def __enter__(self) -> Self:
        """Start the bars."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bars as they are."""
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if self._bars is not None:
            if stage not in self._stages:
                self._stages[stage] = self._bars.add_task(plain(stage), total=total)
            self._bars.update(self._stages[stage], completed=done, total=total)
            return
        now = time.monotonic()
        begun = self._began.setdefault(stage, now)
        if now >= self._due or done == total:
            self._due = now + NEXT_LINE
            left = (now - begun) * (total - done) / max(done - 1, 1)
            rest = f", about {left:.0f} s left" if done > 1 and done < total else ""
            self._console.print(f"{stage}: {done} of {total}{rest}", markup=False, highlight=False)


def show_profile(profile: Profile, console: Console, out: Path) -> None:
    """Print what was measured, how the search did, and where everything lies."""
    tables = profile.tables
    search = profile.search
    console.print(Text(f"{plain(profile.instance.name)}: profiled in {profile.seconds:.0f} s\n"))
    services = _table(console, ["task", "network"], ["MFLOP", "params", "accuracy", "paths"])
    for row in tables["services"].itertuples():
        services.add_row(
            plain(row.task),
            plain(row.dnn),
            f"{row.flops / 1e6:.2f}",
            f"{row.params:,}",
            f"{row.validation_accuracy:.4f}",
            f"{row.paths:,}",
        )
    console.print(services)
    console.print()
    searches = _table(console, ["search"], ["paths trained", "of all [%]", "reward", "regret [%]"])
    for row in tables["search"].itertuples():
        seed = f", seed {row.seed}" if row.method == "random" else ""
        stopped = "" if row.complete else " (budget spent)"
        searches.add_row(
            f"{row.method}{seed}{stopped}",
            str(row.trainings),
            _number(row.trainings_percent, "{:.0f}"),
            _number(row.reward, "{:.6g}"),
            _number(row.regret_percent, "{:.2f}"),
        )
    console.print(searches)
    if len(tables["predictors"]):
        console.print()
        predictors = _table(
            console,
            ["task", "predictor"],
            ["rank corr.", "mean error", "top-5 regret"],
        )
        for row in tables["predictors"].itertuples():
            predictors.add_row(
                plain(row.task),
                f"{row.predictor}{' (used)' if row.used else ''}",
                f"{row.spearman:.3f}",
                f"{row.mean_error:.4f}",
                f"{row.top5_regret:.4f}",
            )
        console.print(predictors)
    console.print()
    if search.bound is not None and search.optimism is not None and search.complete:
        console.print(
            Text(
                f"No assignment has a higher reward than {search.bound:.6g}, even if training "
                f"repaired {search.optimism:.0%} of the losses predicted for paths not trained."
            )
        )
    _show_unsteady(profile.unsteady, console)
    console.print(Text(f"Written: {plain(out)}: instance.json, bundle/, tables/, about.json"))
    console.print(Text(f"Next: code-opt solve {plain(out)}"))


def show_times(times: Times, console: Console, out: Path) -> None:
    """Print the device times of parts, and where the instance lies."""
    sizes = sorted({batch for found in times.values() for batch in found})
    table = _table(console, ["block or adapter"], [f"batch {batch} [ms]" for batch in sizes])
    for name, found in times.items():
        table.add_row(plain(name), *(f"{1000.0 * found[batch].median:.4g}" for batch in sizes))
    console.print(table)
    console.print()
    _show_unsteady(unsteady(times), console)
    console.print(Text(f"Written: {plain(out)}: instance.json, bundle/"))
    console.print(Text(f"Next: code-opt solve {plain(out)}"))


def _show_unsteady(names: Sequence[str], console: Console) -> None:
    if names:
        more = len(names) - _FEW
        console.print(
            Text(
                f"Times spread by more than {WIDEST:.0%} (something else ran?): "
                + ", ".join(map(plain, names[:_FEW]))
                + (f" and {more} more." if more > 0 else ".")
            )
        )


def _table(console: Console, words: list[str], figures: list[str]) -> Table:
    table = plain_table(console)
    for name in words:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _number(value: object, form: str) -> str:
    """Return a number, or a dash where there is none."""
    return "–" if value is None or value != value else form.format(value)
