"""The command ``deploy``: what every server of a result runs, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.options import AllowCode, Changes, InstanceArgument
from code_opt.cli.tables import plain_table
from code_opt.cli.terminal import Console
from code_opt.cli.text import plain


def deploy(
    instance_path: InstanceArgument,
    result_path: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Result file of this instance.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the programs.")],
    onnx: Annotated[
        bool | None,
        typer.Option(
            "--onnx/--no-onnx", help="As ONNX, too. Default: where its packages are installed."
        ),
    ] = None,
    allow_code: AllowCode = None,
    changes: Changes = None,
) -> ExitStatus:
    """Write what each server of a result runs: programs by torch.export and ONNX, and a manifest.

    They are compared with the assembled network before anything is written. Exit status: 0 done, 2
    bad input.
    """
    result = load_result(result_path, "deploy INSTANCE RESULT")
    instance = load_changed(instance_path, changes)
    make_folder(out)
    # torch takes seconds to load: wrong files are told before.
    from code_opt.evaluation.deploying import deploy as write
    from code_opt.evaluation.subject import Subject, bundle_of

    subject = Subject(instance, bundle_of(instance, instance_path, allow_code or ()), out)
    programs = write(subject, result, out, onnx=onnx)
    console = Console(highlight=False)
    table = plain_table(console)
    for name in ("server", "program", "tasks", "input", "output", "goes to", "ONNX"):
        table.add_column(Text(name))
    for one in programs:
        for output in one.outputs:
            table.add_row(
                plain(one.server),
                one.name,
                plain(", ".join(one.tasks)),
                "x".join(map(str, one.input_shape)),
                "x".join(map(str, output.shape)),
                plain(", ".join((*output.to, *(f"answer: {task}" for task in output.answers)))),
                "yes" if one.without_onnx is None else f"no: {plain(one.without_onnx)}",
            )
    console.print(table)
    console.print(Text(f"\nWritten: {plain(out)}: deployment.json, one folder for each server"))
    return ExitStatus.DONE
