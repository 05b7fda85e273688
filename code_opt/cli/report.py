"""The command ``report``: one page from results, evaluations and plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.loading import values_of
from code_opt.cli.options import Changes
from code_opt.cli.terminal import complain
from code_opt.cli.text import plain
from code_opt.errors import InputError
from code_opt.files import write_atomically


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Result and plan files, evaluation folders, folders of these, the instance.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Page to write.")] = None,
    instance_path: Annotated[
        Path | None,
        typer.Option(
            "--instance", metavar="INSTANCE", help="Their instance, where no FILE holds it."
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write every figure as SVG and PNG into DIR."),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Title in place of the instance's name.")
    ] = None,
    changes: Changes = None,
) -> ExitStatus:
    """Show results, evaluations and plans on one self-contained HTML page.

    Every result is checked against the instance first. Exit status: 0 done, 1 a result does
    not pass the check, or the instance changed since (the page and stderr say what), 2 bad input.
    """
    if out is None and plots is None:
        raise InputError("nothing to write: name a page with --out, a folder with --plots, or both")
    from code_opt.report.assemble import assemble
    from code_opt.report.material import read_material
    from code_opt.report.results import doubts

    material = read_material(paths, instance_path, values_of(changes))
    page = assemble(material, title)
    written = []
    if out is not None:
        from code_opt.report.page import render

        write_atomically(out, render(page))
        written.append(plain(out))
    if plots is not None:
        from code_opt.report.plots import save_plots

        files = save_plots(page, plots)
        written.append(f"{plain(plots)} ({len(files)} files)")
    print(f"Written: {', '.join(written)}")
    for doubt in doubts(material):
        complain("\n  ".join([doubt.heading, *doubt.texts]))
    return ExitStatus.DONE if material.confirmed else ExitStatus.NOT_CONFIRMED
