"""Arguments and options that several commands take, in one wording."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.values import finite

MAX_SEED = 2**31 - 1
"""The greatest seed that solvers take."""
MAX_THREADS = 1024
"""More threads than any machine has cores."""


class Objective(StrEnum):
    """What is maximised."""

    REWARD = "reward"
    THROUGHPUT = "throughput"
    ACCURACY = "accuracy"


class Formulation(StrEnum):
    """How the exact method works."""

    AUTO = "auto"
    PATH = "path"
    FLOW = "flow"
    COLGEN = "colgen"


class MixedIntegerFormulation(StrEnum):
    """Mixed-integer formulations that are one model."""

    PATH = "path"
    FLOW = "flow"


InstanceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INSTANCE",
        help="JSON or YAML file, or folder of CSV tables or with instance.json.",
    ),
]
AccuracyFloor = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, callback=finite, help="Floor of the average accuracy."),
]
ThroughputFloor = Annotated[
    float | None,
    typer.Option(min=0.0, callback=finite, help="Floor of the total rate \\[inferences/s]."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PLACE=VALUE",
        help="Change a value of the instance, such as reward.accuracy.exponent=4 or "
        "tasks\\[ID].floor=2 (ID, an index, or * for all); may be repeated.",
    ),
]
DataFolder = Annotated[
    Path,
    typer.Option(metavar="FOLDER", envvar="CODE_OPT_DATA", help="Folder that holds the data sets."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
