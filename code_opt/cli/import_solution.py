"""The command ``import-solution``: what another solver found, as a checked result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.groups import with_groups
from code_opt.cli.loading import load_changed
from code_opt.cli.options import Changes, InstanceArgument, ModelOptions
from code_opt.cli.terminal import Console, complain, print_line
from code_opt.cli.text import number, plain


@with_groups
def import_solution(
    instance_path: InstanceArgument,
    solution_path: Annotated[
        Path,
        typer.Argument(
            metavar="SOLUTION", help="What HiGHS (style 0) or SCIP wrote for the exported model."
        ),
    ],
    model: ModelOptions,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result file there.")
    ] = None,
    changes: Changes = None,
) -> ExitStatus:
    """Turn a solution of an exported model into a checked result.

    The options say which model was exported, as they did for export. The paths come from the file,
    the rates are the best for these paths. Exit status: 0 done, 2 bad input, 4 the paths miss a
    requirement.
    """
    instance = load_changed(instance_path, changes)
    if out is not None:
        make_folder(out.parent, "--out")
    from code_opt.cli.tables import task_table
    from code_opt.exact.exchange import import_paths

    found = import_paths(instance, solution_path, model.settings)
    result = code_opt.evaluate_paths(instance, found.paths, method="imported", **model.asked)
    if out is not None:
        code_opt.save_result(result, out)
    if not result.has_solution:
        complain(f"{solution_path}: its paths cannot be taken: {result.message}")
        return ExitStatus.NOTHING_FOUND
    console = Console(highlight=False)
    assert result.value is not None
    print_line(
        console,
        f"{plain(solution_path)}: {result.objective} {number(result.value)}, checked, at the best "
        "rates for its paths\n",
    )
    console.print(task_table(result, instance, console))
    if found.value is not None:
        print_line(
            console,
            f"\nThe solver's own {result.objective}: {number(found.value)}. If it is the optimum "
            "of the exported model, no assignment has "
            f"{'less' if result.objective == 'latency' else 'more'} (within its tolerances).",
        )
    return ExitStatus.DONE
