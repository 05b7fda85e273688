"""The command ``rerate``: the paths of a result at the best rates for today's instance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.terminal import Console, complain, print_line
from code_opt.cli.text import number, plain, plain_lines


def rerate(
    result_path: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Result file whose paths are kept.")
    ],
    instance_path: InstanceArgument,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result file there.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> ExitStatus:
    """Keep the paths of a result and find the best rates for an instance as it is today.

    Objective, floors and limits that were asked for are those of the result. Exit status: 0 done,
    2 bad input, 4 the paths miss a requirement, which is named.
    """
    earlier = load_result(result_path, "rerate RESULT INSTANCE")
    instance = load_changed(instance_path, changes)
    if out is not None:
        make_folder(out.parent, "--out")
    result = code_opt.rerate(earlier, instance)
    if out is not None:
        code_opt.save_result(result, out)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2, allow_nan=False))
    if not result.has_solution:
        complain(f"{result_path}: its paths cannot be kept: {plain_lines(result.message or '')}")
        return ExitStatus.NOTHING_FOUND
    if as_json:
        return ExitStatus.DONE
    from code_opt.cli.tables import server_table, task_table

    console = Console(highlight=False)
    assert result.value is not None
    print_line(
        console,
        f"{plain(result_path)}: {result.objective} {number(result.value)} at the best rates for "
        f"its paths ({number(earlier.value or 0.0)} before)\n",
    )
    console.print(task_table(result, instance, console))
    console.print()
    console.print(server_table(result, instance, console))
    return ExitStatus.DONE
