"""The command ``evaluate``: results run for real, against what they promise."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.options import (
    MAX_SEED,
    MAX_THREADS,
    AllowCode,
    Changes,
    DataFolder,
    Device,
    InstanceArgument,
)
from code_opt.cli.terminal import Console
from code_opt.errors import InputError
from code_opt.files import file_stem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.evaluation.outcome import Evaluation, Options
    from code_opt.instance import Instance
    from code_opt.result import Result


class Dtype(StrEnum):
    """Types of numbers."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Arrivals(StrEnum):
    """How inferences arrive."""

    AUTO = "auto"
    CONSTANT = "constant"
    POISSON = "poisson"


class Pace(StrEnum):
    """Whose pace the edge keeps."""

    AUTO = "auto"
    INSTANCE = "instance"
    DEVICE = "device"


class Feed(StrEnum):
    """How the edge is fed."""

    RATES = "rates"
    SATURATED = "saturated"
    OVERLOADED = "overloaded"


_PACES: dict[Pace, Literal["instance", "device"] | None] = {
    Pace.AUTO: None,
    Pace.INSTANCE: "instance",
    Pace.DEVICE: "device",
}
_ARRIVALS: dict[Arrivals, Literal["constant", "poisson"] | None] = {
    Arrivals.AUTO: None,
    Arrivals.CONSTANT: "constant",
    Arrivals.POISSON: "poisson",
}


_FEEDS: dict[Feed, Literal["rates", "saturated", "overloaded"]] = {
    Feed.RATES: "rates",
    Feed.SATURATED: "saturated",
    Feed.OVERLOADED: "overloaded",
}


def evaluate(
    instance_path: InstanceArgument,
    result_paths: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="Result files of this instance.")
    ],
    data: DataFolder = Path("datasets"),
    device: Device = "auto",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=3600.0,
            help="Length of every measurement. Default: 4; simulated: about 100,000 inputs.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Most images at once.")] = 32,
    dtype: Annotated[
        Dtype, typer.Option(help="Of weights and activations in the timing on the device.")
    ] = Dtype.FLOAT32,
    pace: Annotated[
        Pace,
        typer.Option(
            help="Of the edge's servers: the instance's, or what this device can do. auto: the "
            "device's where the instance holds its measured times."
        ),
    ] = Pace.AUTO,
    arrivals: Annotated[
        Arrivals,
        typer.Option(
            help="How inferences arrive at the edge. auto: poisson where a task has a latency "
            "limit, else constant."
        ),
    ] = Arrivals.AUTO,
    feed: Annotated[
        list[Feed] | None,
        typer.Option(help="How the edge is fed; may be repeated. Default: all three."),
    ] = None,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulate", help="Run the edge on a simulated clock; needs neither networks nor data."
        ),
    ] = False,
    no_edge: Annotated[
        bool, typer.Option("--no-edge", help="Measure accuracy and speed on the device only.")
    ] = False,
    fine_tune: Annotated[
        bool,
        typer.Option(
            "--fine-tune", help="First train adapters of paths that were never trained together."
        ),
    ] = False,
    write_back: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the instance with these paths measured, and its bundle."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write all tables as CSV into DIR.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of Poisson arrivals.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Threads of torch per process.")
    ] = 1,
    allow_code: AllowCode = None,
    changes: Changes = None,
) -> ExitStatus:
    """Run results for real and check what they promise: throughput, latency, accuracy.

    Exit status: 0 all confirmed, 1 not all confirmed, 2 bad input.
    """
    instance, results = _read(instance_path, changes, result_paths)
    for folder in (out, write_back):
        if folder is not None:
            make_folder(folder)
    feeds = tuple(_FEEDS[one] for one in feed or Feed)
    if simulated:
        networks = {
            "--no-edge": no_edge,
            "--fine-tune": fine_tune,
            "--write-back": write_back is not None,
            "--pace device": pace is Pace.DEVICE,
        }
        for option in (option for option, is_set in networks.items() if is_set):
            raise InputError(f"--simulate: runs no networks: leave out {option}")
        return _simulate(instance, results, _ARRIVALS[arrivals], feeds, seed, seconds, out)
    # torch takes seconds to load: wrong files are told before.
    from code_opt.cli.profile_report import StageReport
    from code_opt.evaluation.outcome import Options
    from code_opt.evaluation.pipeline import evaluate as run_evaluation
    from code_opt.evaluation.pipeline import save_evaluation, use_device
    from code_opt.evaluation.subject import Subject, bundle_of

    options = Options(
        device=use_device(device, threads),
        dtype=dtype.value,
        batch=batch,
        seconds=4.0 if seconds is None else seconds,
        pace=_PACES[pace],
        arrivals=_ARRIVALS[arrivals],
        feeds=() if no_edge else feeds,
        fine_tune=fine_tune,
        threads=threads,
        seed=seed,
    )
    subject = Subject(instance, bundle_of(instance, instance_path, allow_code or ()), data)
    with StageReport(Console(stderr=True)) as report:
        found = run_evaluation(subject, results, options, write_back=write_back, report=report)
    if out is not None:
        save_evaluation(found, out, options)
    return _shown(found, options)


def _read(
    instance_path: Path, changes: Sequence[str] | None, result_paths: Sequence[Path]
) -> tuple[Instance, dict[str, Result]]:
    """Return the instance, and the results by the names of their files."""
    # Results first: where the order is wrong, the first of them is the instance.
    order = "evaluate INSTANCE RESULT..."
    loaded = [(path, load_result(path, order)) for path in result_paths]
    instance = load_changed(instance_path, changes)
    results: dict[str, Result] = {}
    for path, result in loaded:
        name = path.stem.removeprefix(f"{file_stem(instance.name)}.") or path.stem
        while name in results:
            name += "'"
        results[name] = result
    return instance, results


def _simulate(
    instance: Instance,
    results: dict[str, Result],
    arrivals: Literal["constant", "poisson"] | None,
    feeds: tuple[Literal["rates", "saturated", "overloaded"], ...],
    seed: int,
    seconds: float | None,
    out: Path | None,
) -> ExitStatus:
    """Run the edge on a simulated clock; show and write what it measured."""
    from code_opt.evaluation.outcome import Options, save_tables
    from code_opt.evaluation.simulated import simulate_results

    options = Options(device="a simulated clock", arrivals=arrivals, feeds=feeds, seed=seed)
    done = simulate_results(instance, results, options, seconds)
    if out is not None:
        save_tables(done, out)
    return _shown(done, options)


def _shown(found: Evaluation, options: Options) -> ExitStatus:
    """Show an evaluation; return the status of the command."""
    from code_opt.cli.evaluation_report import show_evaluation

    show_evaluation(found, options, Console(highlight=False))
    return ExitStatus.DONE if found.confirmed else ExitStatus.NOT_CONFIRMED
