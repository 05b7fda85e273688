"""The command ``observe``: what the running edge shows becomes the instance's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.terminal import Console, print_line
from code_opt.cli.text import count, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.observations import Observation


def observe(
    instance_path: InstanceArgument,
    table: Annotated[
        Path,
        typer.Argument(
            metavar="OBSERVATIONS",
            help="CSV of measured accuracies of paths, demands of tasks, times of blocks and "
            "connections.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="NAME.json, NAME.yaml, or a CSV folder to write."),
    ],
    result_path: Annotated[
        Path | None,
        typer.Option(
            "--result",
            metavar="RESULT",
            help="Result that ran: its paths are those of accuracies without blocks.",
        ),
    ] = None,
    changes: Changes = None,
) -> ExitStatus:
    """Write an instance as the running edge was observed, and show predicted beside observed.

    Exit status: 0 written, 2 bad input.
    """
    instance = load_changed(instance_path, changes)
    result = None
    if result_path is not None:
        result = load_result(result_path, "observe INSTANCE OBSERVATIONS --result RESULT")
    make_folder(out.parent)
    observed, found = code_opt.observe(instance, code_opt.load_observations(table), result)
    code_opt.save_instance(observed, out)
    _show(found)
    print(f"\nWritten: {plain(out)} ({count(len(found))} observations)")
    return ExitStatus.DONE


def _show(found: Sequence[Observation]) -> None:
    from code_opt.cli.tables import observation_table

    console = Console(highlight=False)
    console.print(observation_table(found, console))
    judged = [row.is_as_predicted for row in found if row.is_as_predicted is not None]
    if judged:
        inside = sum(judged)
        text = f"{count(inside)} of {count(len(judged))} predicted accuracies lie in the 95 %"
        print_line(console, f"\n{text} interval of what was observed.")
