"""The command ``export``: the mixed-integer model as a file for any solver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.groups import with_groups
from code_opt.cli.loading import load_changed
from code_opt.cli.options import Changes, InstanceArgument, ModelOptions
from code_opt.cli.text import plain
from code_opt.errors import InputError


@with_groups
def export(
    instance_path: InstanceArgument,
    to: Annotated[Path, typer.Option("--to", help="File to write: NAME.mps or NAME.lp.")],
    model: ModelOptions,
    changes: Changes = None,
) -> ExitStatus:
    """Write the mixed-integer model as an MPS or LP file for any other solver.

    Names say which task and path a variable stands for, and import-solution reads back what the
    solver finds. Exit status: 0 written, 2 bad input.
    """
    if to.suffix.lower() not in {".mps", ".lp"}:
        raise InputError(f"--to: {to}: the name must end in .mps or .lp")
    instance = load_changed(instance_path, changes)
    make_folder(to.parent, "--to")
    from code_opt.exact.exchange import export_model

    export_model(instance, to, model.settings)
    print(f"Written: {plain(to)} ({model.formulation.value} formulation)")
    return ExitStatus.DONE
