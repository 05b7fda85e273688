"""The command ``schedule``: an assignment for each period, each from the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.groups import with_groups
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.options import (
    Changes,
    InstanceArgument,
    MaxChanges,
    Overwrite,
    PreviousResult,
    SolveOptions,
)
from code_opt.cli.reasons import message_of
from code_opt.cli.terminal import STOPPING, Console, complain, complain_of_stop, print_line
from code_opt.cli.text import number, plain
from code_opt.errors import InputError
from code_opt.files import file_stem, write_atomically
from code_opt.stopping import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.instance import Instance, Periods
    from code_opt.scheduling import ScheduledPeriod


@with_groups
def schedule(
    instance_path: InstanceArgument,
    *,
    periods_path: Annotated[
        Path,
        typer.Option(
            "--periods",
            metavar="FILE.csv",
            help="Demands: a column task, one column for each period.",
        ),
    ],
    previous: PreviousResult = None,
    max_changes: MaxChanges = None,
    asked: SolveOptions,
    changes: Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a result file for each period, and the table, into DIR."
        ),
    ] = None,
    instances: Annotated[
        bool,
        typer.Option("--instances", help="Write the instance of each period into --out, too."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of results and nothing else.")
    ] = False,
) -> ExitStatus:
    """Find an assignment for each period, with few changes from each to the next.

    The first period starts from --previous, or freely. A period without an assignment is passed
    over. Exit status: 0 done, 2 bad input, 3 a period is infeasible, 4 one stopped with nothing
    found, 130 interrupted, 143 terminated.
    """
    if out is None and (instances or overwrite):
        raise InputError(f"--{'instances' if instances else 'overwrite'}: needs --out")
    instance = load_changed(instance_path, changes)
    periods = code_opt.load_periods(periods_path)
    periods.check(instance)
    options: dict[str, Any] = {"method": asked.method, "max_changes": max_changes, **asked.options}
    if previous is not None:
        options["previous"] = load_result(previous, "schedule INSTANCE --previous RESULT")
    files = None
    if out is not None:
        make_folder(out)
        stem = file_stem(instance.name or instance_path.resolve().stem)
        files = _ScheduleFiles(out, stem, asked.method, periods)
        if not overwrite:
            files.check(instance)
    from code_opt.cli.progress import Steps

    with stop_on_signal(STOPPING) as stopped_by, Steps(Console(stderr=True)) as tell:

        def keep(period: ScheduledPeriod) -> None:
            tell(f"{period.name}: {period.result.status}")
            if files is not None:
                files.save(period, instances)

        found = code_opt.schedule(instance, periods, tell=keep, **options)
    if files is not None:
        files.save_table(found)
    if as_json:
        results = [period.result.to_dict() for period in found]
        print(json.dumps(results, indent=2, allow_nan=False))
    else:
        _show(found, instance, max_changes)
    status = _status_of(found)
    if status is not ExitStatus.DONE:
        without = [period for period in found if not period.result.has_solution]
        lines = [f"{len(without)} of {len(found)} periods have no assignment"]
        lines += [f"{p.name}: {p.result.status}: {message_of(p.result)}" for p in without]
        complain("\n  ".join(lines))
    if (signal := stopped_by()) is not None:
        return complain_of_stop(signal, periods.names[len(found) :])
    return status


class _ScheduleFiles:
    """Result files of all periods in one folder, and the table of them."""

    def __init__(self, folder: Path, stem: str, method: str, periods: Periods) -> None:
        from code_opt.result import result_name

        self._folder, self._periods = folder, periods
        self._table = folder / f"{stem}.{file_stem(method)}.schedule.csv"
        self._files: dict[str, Path] = {}
        for name in periods.names:
            file = folder / result_name(stem, f"{method}.{file_stem(name)}")
            if file in self._files.values():
                raise InputError(
                    f"--out: periods would share the file {file.name}: name them apart in letters "
                    f"and digits, not only in other signs (the second is {name!r})"
                )
            self._files[name] = file

    def check(self, instance: Instance) -> None:
        """Refuse to replace results of another state."""
        from code_opt.instance.digest import digest_of
        from code_opt.result import refuse_results_of_another_state

        for k, file in enumerate(self._files.values()):
            if file.is_file():
                digest = digest_of(self._periods.at(instance, k))
                refuse_results_of_another_state([file], digest)

    def save(self, period: ScheduledPeriod, with_instance: bool) -> None:
        """Write the result of a period, and its instance where that is asked for."""
        file = self._files[period.name]
        code_opt.save_result(period.result, file)
        if with_instance:
            code_opt.save_instance(period.instance, file.with_suffix(".instance.json"))

    def save_table(self, found: Sequence[ScheduledPeriod]) -> None:
        """Write the figures of all periods, with the names of their files."""
        rows = [{**period.row, "file": self._files[period.name].name} for period in found]
        write_atomically(self._table, _csv_of(rows))


def _csv_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows of the same columns as CSV text."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _show(found: Sequence[ScheduledPeriod], instance: Instance, max_changes: int | None) -> None:
    from code_opt.cli.tables import schedule_table

    console = Console(highlight=False)
    limit = "any number of changes" if max_changes is None else f"at most {max_changes} changes"
    name = plain(instance.name or "instance")
    print_line(console, f"{name}: {len(found)} periods, {limit} of paths from each to the next\n")
    console.print(schedule_table(found, console))
    done = [period for period in found if period.result.has_solution]
    served = sum(3600.0 * p.hours * (p.result.throughput or 0.0) for p in done)
    changes = sum(period.result.changes or 0 for period in done)
    hours = sum(period.hours for period in done)
    text = f"\n{number(served)} inferences in {number(hours, 4)} h, {changes} changes of paths."
    print_line(console, text)


def _status_of(found: Sequence[ScheduledPeriod]) -> ExitStatus:
    """Return the worst of all periods."""
    statuses = {period.result.status for period in found if not period.result.has_solution}
    if "infeasible" in statuses:
        return ExitStatus.INFEASIBLE
    return ExitStatus.NOTHING_FOUND if statuses else ExitStatus.DONE
