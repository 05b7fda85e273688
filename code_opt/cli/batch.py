"""``solve`` for many instances: progress, one table, one exit status."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from code_opt.cli.exits import ExitStatus, status_of
from code_opt.cli.reasons import first_lines, why_nothing
from code_opt.cli.terminal import STOPPING, Console, complain_of_stop
from code_opt.cli.text import plain, plain_lines, seconds
from code_opt.stopping import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from code_opt.batch import Outcome

NAMED = 5
"""Files of which a line gives the names."""
SEVERITY = (
    ExitStatus.INTERNAL_ERROR,
    ExitStatus.BAD_INPUT,
    ExitStatus.NOTHING_FOUND,
    ExitStatus.INFEASIBLE,
    ExitStatus.DONE,
)
"""The worst first."""


def is_batch(paths: Sequence[Path]) -> bool:
    """Tell whether arguments mean many instances."""
    if len(paths) == 1 and not paths[0].is_dir():
        return False  # the common case loads nothing
    from code_opt import batch

    return batch.is_batch(paths)


def solve_batch(
    paths: Sequence[Path],
    methods: Sequence[str],
    settings: Mapping[str, Any],
    executor: str | None,
    out: Path | None,
    as_json: bool,
    tag: str | None = None,
    overwrite: bool = False,
) -> ExitStatus:
    """Solve all instances by all methods, show one table and return the worst exit status.

    What keeps an instance from having an assignment follows the table, on stderr.
    """
    from code_opt.batch import find_instances, run_batch, table_file
    from code_opt.core.settings import Settings

    Settings(**settings)  # a wrong option is told once, not once per instance
    sources = find_instances(paths)
    for source in sources:
        tell_left_out(source.path)
    with stop_on_signal(STOPPING) as stopped_by:
        outcomes = run_batch(
            sources,
            methods,
            settings,
            executor=executor or "processes",
            out=out,
            report=_Told(),
            tag=tag,
            overwrite=overwrite,
        )
    if as_json:
        print(json.dumps([_data(outcome) for outcome in outcomes], indent=2, allow_nan=False))
    else:
        _show(outcomes)
        if out is not None:
            print(f"\nThe same table, and every result: {plain(out / table_file(tag))}")
    full = "--json, or --out DIR" if out is None else f"column message of {out / table_file(tag)}"
    _explain(outcomes, "here, per method" if as_json else full)
    if (number := stopped_by()) is not None:
        left = sum(outcome.fault == "not run" for outcome in outcomes)
        return complain_of_stop(number, [f"{left} of {len(outcomes)} jobs"] if left else [])
    return status_of_batch(outcomes)


def tell_left_out(path: Path) -> None:
    """Say on stderr which instances in a folder that is one itself are not solved."""
    if not path.is_dir():
        return
    from code_opt.instance.files import INSTANCE_FILE, left_out

    others = left_out(path)
    if others:
        names = ", ".join(plain(other.name) for other in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        line = f"{plain(path)}: solving {INSTANCE_FILE} alone; left out: {names}{more}"
        print(line, file=sys.stderr, flush=True)


def status_of_batch(outcomes: Sequence[Outcome]) -> ExitStatus:
    """Return the worst that became of any instance; within one, its best method counts.

    An instance that a method could not use, or on which one failed, counts as that, whatever
    the others found.
    """
    found = {ExitStatus.DONE}
    for group in _by_instance(outcomes):
        faults = {outcome.fault for outcome in group}
        if "failed" in faults:
            found.add(ExitStatus.INTERNAL_ERROR)
        if "bad input" in faults:
            found.add(ExitStatus.BAD_INPUT)
        results = [outcome.result for outcome in group if outcome.result is not None]
        if results:
            found.add(status_of(results))
    return next(status for status in SEVERITY if status in found)


def _by_instance(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.job.source.stem, []).append(outcome)
    return list(groups.values())


class _Told:
    """Says on stderr that one more job is done, and once what is wrong with an instance."""

    def __init__(self) -> None:
        self._messages: set[tuple[str, str]] = set()

    def __call__(self, outcome: Outcome, done: int, jobs: int) -> None:
        """Print one line, and what went wrong where it has not been told yet."""
        job, result = outcome.job, outcome.result
        if outcome.fault == "not run":
            return  # they are counted at the end
        told = str(outcome.fault if result is None else result.status)
        if outcome.kept:
            told = f"{told}, found finished"
        elif result is not None:
            told = f"{told}, {seconds(result.seconds)} s"
        line = f"{done}/{jobs} {plain(job.source.label)} {job.method}: {told}"
        if outcome.message is not None:
            message = (job.source.stem, outcome.message)
            if message in self._messages:
                line += ", as told above"
            else:
                self._messages.add(message)
                line += f": {plain_lines(first_lines(outcome.message))}"
        print(line, file=sys.stderr, flush=True)


def _explain(outcomes: Sequence[Outcome], full: str) -> None:
    """Say on stderr of every instance without an assignment why it has none, once."""
    lines = []
    for group in _by_instance(outcomes):
        results = [outcome.result for outcome in group if outcome.result is not None]
        status = status_of(results) if results else ExitStatus.DONE
        if status is not ExitStatus.DONE:
            why = plain_lines(first_lines(why_nothing(results, status)))
            label = plain(group[0].job.source.label)
            lines.append(f"{label}: " + why.replace("\n", "\n  "))
    if lines:
        sys.stdout.flush()  # the table stands before the reasons, wherever both go
        lines.append(f"In full: {plain(full)}")
        print("\n" + "\n".join(lines), file=sys.stderr, flush=True)


def _data(outcome: Outcome) -> dict[str, Any]:
    return {
        "instance": outcome.job.source.label,
        "path": str(outcome.job.source.path),
        "method": outcome.job.method,
        "result": None if outcome.result is None else outcome.result.to_dict(),
        "fault": outcome.fault,
        "message": outcome.message,
    }


def _show(outcomes: Sequence[Outcome]) -> None:
    from code_opt.cli.tables import batch_table

    console = Console(highlight=False)
    console.print(batch_table(outcomes, console))
