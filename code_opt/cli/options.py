"""Arguments and options that several commands take, in one wording."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from code_opt.cli.methods import OWN, known_methods, methods_that_begin
from code_opt.cli.values import below_1, finite, positive, share

if TYPE_CHECKING:
    from code_opt.core.settings import Settings

MAX_SEED = 2**31 - 1
"""The greatest seed that solvers take."""
MAX_THREADS = 1024
"""More threads than any machine has cores."""


class Objective(StrEnum):
    """What is maximised, or, of a latency, minimised."""

    REWARD = "reward"
    THROUGHPUT = "throughput"
    ACCURACY = "accuracy"
    LATENCY = "latency"


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
        help="JSON or YAML file, folder (CSV tables or instance.json), or - for standard input.",
    ),
]
AccuracyFloor = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, callback=finite, help="Floor of the average accuracy."),
]
MeasuredOnly = Annotated[
    bool,
    typer.Option(
        "--measured-only",
        help="Only native paths, alternatives and measured paths: no accuracy is predicted.",
    ),
]
ThroughputFloor = Annotated[
    float | None,
    typer.Option(min=0.0, callback=finite, help="Floor of the total rate \\[inferences/s]."),
]
LatencyPercentile = Annotated[
    float | None,
    typer.Option(
        callback=share,
        metavar="Q",
        help="Let limits of latency hold for this quantile under load, above 0 and below 1, where "
        "a task has a limit and no percentile of its own.",
    ),
]
MaxUtilization = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        callback=positive,
        help="Largest share of its time that a server sells, where the instance gives it none.",
    ),
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
PreviousResult = Annotated[
    Path | None,
    typer.Option(
        "--previous",
        metavar="RESULT",
        help="Result of before: start from its paths, and tell what changes.",
    ),
]
MaxChanges = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="K",
        help="Most tasks that leave the path of --previous; those that have to, and new ones, do "
        "not count.",
    ),
]
ChangesFront = Annotated[
    bool,
    typer.Option(
        "--changes-front",
        help="Solve by exact for K = 0, 1, 2, ... changes of the paths of --previous, up to "
        "--max-changes, or until more bring nothing.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace results in --out that belong to another state of the instance.",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        callback=positive,
        help="Seconds for each method; of one method alone, with reading and checking.",
    ),
]
Gap = Annotated[
    float,
    typer.Option(callback=below_1, help="Relative gap that ends exact, from 0 to below 1."),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of lns and random.")]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Solver threads.")]
DataFolder = Annotated[
    Path,
    typer.Option(metavar="FOLDER", envvar="CODE_OPT_DATA", help="Folder that holds the data sets."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]

AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        help="Let the bundle call factories of this module to build its networks; may be repeated.",
    ),
]
"""Option ``--allow-code``."""


@dataclass(frozen=True)
class ModelOptions:
    """Which model ``export`` writes, and ``import-solution`` reads a solution of."""

    formulation: Annotated[
        MixedIntegerFormulation, typer.Option(help="Formulation of the model.")
    ] = MixedIntegerFormulation.PATH
    objective: Annotated[
        Objective, typer.Option(help="What it maximises (latency: minimises, at the demands).")
    ] = Objective.REWARD
    min_accuracy: AccuracyFloor = None
    min_throughput: ThroughputFloor = None
    max_utilization: MaxUtilization = None
    measured_only: MeasuredOnly = False

    @property
    def asked(self) -> dict[str, Any]:
        """Keywords of :func:`code_opt.evaluate_paths`."""
        return {
            "objective": self.objective.value,
            "min_accuracy": self.min_accuracy,
            "min_throughput": self.min_throughput,
            "max_utilization": self.max_utilization,
            "measured_only": self.measured_only,
        }

    @property
    def settings(self) -> Settings:
        """Settings of the model."""
        from code_opt.core.settings import Settings

        return Settings(formulation=self.formulation.value, **self.asked)


def _one_method(name: str) -> str:
    known_methods()([name])
    return name


@dataclass(frozen=True)
class SolveOptions:
    """How one method solves an instance, again and again."""

    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            callback=_one_method,
            autocompletion=methods_that_begin,
            help=f"Method to run: {OWN}, or an installed one.",
        ),
    ] = "exact"
    objective: Annotated[
        Objective,
        typer.Option(help="What to maximise; latency: to minimise, every task at its demand."),
    ] = Objective.REWARD
    min_accuracy: AccuracyFloor = None
    min_throughput: ThroughputFloor = None
    latency_percentile: LatencyPercentile = None
    max_utilization: MaxUtilization = None
    measured_only: MeasuredOnly = False
    time_limit: Annotated[
        float | None, typer.Option(callback=positive, help="Seconds for each period.")
    ] = None
    gap: Gap = 1e-4
    seed: Seed = 0
    threads: Threads = 1

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of :func:`code_opt.solve`, the method's name apart."""
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        del asked["method"]
        return {**asked, "objective": self.objective.value}
