"""The command ``profile``: from real networks to a measured instance."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.options import MAX_THREADS, DataFolder, Device
from code_opt.cli.terminal import Console


class Search(StrEnum):
    """How paths to measure are chosen."""

    CODE = "code"
    LNS = "lns"
    EXACT = "exact"
    EXHAUSTIVE = "exhaustive"
    RANDOM = "random"


def profile(
    config_path: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="What to profile: a YAML or JSON file.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for instance, bundle and tables.")
    ],
    data: DataFolder = Path("datasets"),
    device: Device = "auto",
    search: Annotated[
        Search | None, typer.Option(help="Instead of the config's search.method.")
    ] = None,
    executor: Annotated[
        str,
        typer.Option(help="serial, processes[:N], or dask[:ADDRESS]: where paths are measured."),
    ] = "serial",
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Threads of torch on a CPU.")
    ] = 1,
    memory: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=65536.0,
            metavar="GIB",
            help="Activations kept in memory, per process; larger ones lie in files of DIR.",
        ),
    ] = 2.0,
) -> ExitStatus:
    """Profile real networks: train services and adapters, measure, write an instance.

    Stopped or killed, the same command goes on where it was. Exit status: 0 done, 2 bad input.
    """
    from code_opt.profiling.config import load_config

    config = load_config(config_path)
    make_folder(out)
    stderr = Console(stderr=True)
    # torch takes seconds to load: a wrong config is told before.
    from code_opt.cli.profile_report import StageReport, show_profile
    from code_opt.executors import executor_of
    from code_opt.profiling.pipeline import profile as run_profile
    from code_opt.profiling.preparation import make_place

    place = make_place(config_path, out, data, device, threads, round(memory * 2**30))
    with executor_of(executor) as pool, StageReport(stderr) as report:
        found = run_profile(
            config,
            place,
            method=None if search is None else search.value,
            executor=pool,
            report=report,
        )
    show_profile(found, Console(highlight=False), out)
    return ExitStatus.DONE
