"""The command ``diff``: what differs between two results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.terminal import Console, print_line
from code_opt.cli.text import number, plain

ORDER = "diff A B INSTANCE"


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Earlier result file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Later result file.")],
    instance_path: InstanceArgument,
    changes: Changes = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the difference as JSON and nothing else.")
    ] = False,
) -> ExitStatus:
    """Compare two results: paths, rates and accuracies by task, adapters to load and to drop.

    Exit status: 0 done, 2 bad input.
    """
    old, new = load_result(a, ORDER), load_result(b, ORDER)
    instance = load_changed(instance_path, changes)
    found = code_opt.diff(old, new, instance)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return ExitStatus.DONE
    from code_opt.cli.tables import adapter_table, difference_table

    console = Console(highlight=False)
    print_line(console, f"{plain(a)} to {plain(b)}\n")
    for name in ("reward", "throughput", "accuracy"):
        before, after = getattr(old, name), getattr(new, name)
        print_line(console, f"  {name}: {number(before)} to {number(after)}")
    same = sum(row.change == "kept" for row in found.tasks)
    print_line(console, f"  {same} of {len(found.tasks)} tasks keep their paths\n")
    console.print(difference_table(found, instance, console))
    if found.adapters:
        console.print()
        console.print(adapter_table(found.adapters, console))
    return ExitStatus.DONE
