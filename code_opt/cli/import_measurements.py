"""The command ``import-measurements``: times of other tools, put into an instance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.loading import load_changed
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.text import count, plain
from code_opt.errors import InputError


def import_measurements(
    instance_path: InstanceArgument,
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...",
            help="CSV of Triton's Model Analyzer or perf_analyzer, of timm's benchmark, or plain.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="NAME.json, NAME.yaml, or a CSV folder to write."),
    ],
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ID",
            help="What the instance calls a network that was measured; may be repeated.",
        ),
    ] = None,
    alternatives_of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Make networks that the instance does not have alternatives of this task; may be "
            "repeated.",
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="ID", help="Server that such networks run on.")
    ] = None,
    accuracies: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Their accuracies: columns model and top1 \\[%]."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="What was measured, of a table of perf_analyzer.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Batch of a table of perf_analyzer; default 1.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="PIXELS", help="Of tables of timm only rows of this size."),
    ] = None,
    per_inference: Annotated[
        bool,
        typer.Option(
            "--per-inference",
            help="Take the share of one inference in a batch as the time of batch 1.",
        ),
    ] = False,
    changes: Changes = None,
) -> ExitStatus:
    """Write an instance with times that other tools measured.

    A name in a table is that of a block, of a network of one block, or of an alternative to add.
    Exit status: 0 written, 2 bad input.
    """
    instance = load_changed(instance_path, changes)
    from code_opt.instance import save_instance
    from code_opt.measurements import (
        read_accuracies,
        read_measurements,
        with_accuracies,
        with_measurements,
    )

    names = _renamed(rename or ())
    found = [
        measurement
        for table in tables
        for measurement in read_measurements(
            table, network=network, batch=batch, image_size=image_size
        )
    ]
    if accuracies is not None:
        found = with_accuracies(found, read_accuracies(accuracies, image_size=image_size))
    measured = with_measurements(
        instance,
        found,
        names=names,
        alternatives_of=alternatives_of or (),
        server=server,
        per_inference=per_inference,
    )
    save_instance(measured, out)
    more = len(measured.dnns) - len(instance.dnns)
    print(f"Written: {plain(out)} ({count(len(found))} times, {count(more)} networks added)")
    return ExitStatus.DONE


def _renamed(texts: Sequence[str]) -> dict[str, str]:
    """Return the ids that the instance has for names in the tables."""
    names: dict[str, str] = {}
    for text in texts:
        name, equals, identifier = text.partition("=")
        if not (name and equals and identifier):
            raise InputError(f"--rename: {text!r}: expected NAME=ID")
        names[name] = identifier
    return names
