"""The command ``time``: an instance in the device time of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.loading import load_changed
from code_opt.cli.options import MAX_THREADS, AllowCode, Changes, Device, InstanceArgument
from code_opt.cli.terminal import Console
from code_opt.errors import InputError


def time(
    instance_path: InstanceArgument,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the instance and its bundle.")
    ],
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=65536,
            metavar="N",
            help="Batch size to time; may be repeated. Default: those of the servers.",
        ),
    ] = None,
    device: Device = "auto",
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Threads of torch on a CPU.")
    ] = 1,
    seconds: Annotated[
        float,
        typer.Option(min=0.001, max=600.0, help="Spent on each block or adapter and batch size."),
    ] = 0.2,
    allow_code: AllowCode = None,
    changes: Changes = None,
) -> ExitStatus:
    """Measure how long an instance's blocks and adapters take here, and write it with these times.

    Accuracies, servers and demands stay as they are. Exit status: 0 done, 2 bad input.
    """
    instance = load_changed(instance_path, changes)
    make_folder(out)
    # torch takes seconds to load: a wrong file is told before.
    from code_opt.cli.profile_report import StageReport, show_times
    from code_opt.evaluation.pipeline import use_device
    from code_opt.evaluation.subject import bundle_of
    from code_opt.instance import save_instance
    from code_opt.profiling.config import TimingConfig
    from code_opt.profiling.retiming import copy_bundle, timed_instance

    sizes = sorted(set(batch or ()) | {int(server.batch) for server in instance.servers})
    chosen = use_device(device, threads)
    bundle = bundle_of(instance, instance_path, allow_code or ())
    if bundle is None:
        raise InputError(f"{instance_path}: has no bundle: there are no networks to time")
    timing = TimingConfig(batches=tuple(sizes), seconds=seconds)
    with StageReport(Console(stderr=True)) as report:
        found, times = timed_instance(instance, bundle, timing, device=chosen, report=report)
    name = copy_bundle(bundle, out, chosen)
    save_instance(found.replace(bundle=name), out / "instance.json")
    show_times(times, Console(highlight=False), out)
    return ExitStatus.DONE
