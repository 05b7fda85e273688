"""The command ``template``: a workbook to fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.text import plain
from code_opt.errors import InputError


def template(
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="NAME.xlsx, or a name without a suffix: a folder of CSV files."
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there already.")
    ] = False,
) -> ExitStatus:
    """Write the planner's workbook, with examples: sites, devices, networks, services, money.

    Fill it in with your own numbers; `plan FILE` reads it. Exit status: 0 done, 2 bad input.
    """
    from code_opt.desk import template, write_sheets

    if out.exists() and not overwrite:
        raise InputError(f"{out}: is there already; --overwrite replaces it")
    write_sheets(template(), out)
    print(f"written to {plain(out)}; fill it in, then: code-opt plan {plain(out)}")
    return ExitStatus.DONE
