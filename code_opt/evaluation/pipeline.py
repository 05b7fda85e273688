"""The whole evaluation: results in, measurements and verdicts out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.evaluation.accuracy import share_of
from code_opt.evaluation.device import DTYPES, DeviceReport, measure_device
from code_opt.evaluation.edge import Edge
from code_opt.evaluation.flow import Flow, Stream, long_enough
from code_opt.evaluation.outcome import (
    Evaluation,
    Options,
    refusals,
    refuse_alternatives,
    save_tables,
)
from code_opt.evaluation.routes import routes
from code_opt.evaluation.subject import Subject
from code_opt.evaluation.traffic import Feed
from code_opt.evaluation.tuning import PathFits
from code_opt.evaluation.unpaced import OwnEdge
from code_opt.evaluation.verdict import Evaluated, TaskAccuracy, judge, ranking
from code_opt.files import write_atomically
from code_opt.instance import Instance, save_instance
from code_opt.instance.digest import changed_parts
from code_opt.instance.model import IDENTITY
from code_opt.networks.bundle import TimedOn
from code_opt.networks.compat import torch
from code_opt.networks.multitask import MultiTaskNetwork
from code_opt.networks.threads import device_name, library_versions, use_threads
from code_opt.networks.training import choose_device
from code_opt.result import Result

Report = Callable[[str, int, int], None]
MOST_IMAGES = 512
"""Test images of a task that go round on the edge (accuracy is measured on all of them)."""


def silent(_: str, __: int, ___: int) -> None:
    """Report nothing."""


def use_device(asked: str, threads: int) -> str:
    """Let torch use so many threads and return the device: "cpu" or "cuda".

    Args:
        asked: "auto", "cpu" or "cuda".
        threads: of torch in this process.

    Raises:
        InputError: there is no such device.
    """
    use_threads(threads)
    return choose_device(asked)


def evaluate(
    subject: Subject,
    results: Mapping[str, Result],
    options: Options | None = None,
    *,
    write_back: Path | None = None,
    report: Report = silent,
) -> Evaluation:
    """Run results for real and compare with what they promise.

    Args:
        subject: the instance with its bundle.
        results: by name.
        options: how.
        write_back: folder for a copy of the instance and its bundle, in which the evaluated
            paths are measured paths; solved again, results rest on what was measured.
        report: told how far the work is.

    Raises:
        InputError: a result of another instance, without an assignment, or one that the
            bundle cannot run; a data set that is not there.
        EdgeError: a server's process died.
    """
    options = settled(options or Options(), subject)
    if subject.bundle is not None:
        for name, one in results.items():
            refuse_alternatives(subject.instance, name, one)
    refused = {name: refusals(subject.instance, name, one) for name, one in results.items()}
    runnable = {name: one for name, one in results.items() if not refused[name]}
    fits = PathFits(subject, options.device, fine_tune=options.fine_tune)
    accuracies: dict[str, tuple[TaskAccuracy, ...]] = dict.fromkeys(results, ())
    devices: dict[str, DeviceReport | None] = dict.fromkeys(results)
    for done, (name, result) in enumerate(runnable.items()):
        report("accuracy and speed", done, len(runnable))
        if subject.bundle is not None:
            network = fits.network(result)
            accuracies[name] = _accuracies(subject, fits, result, network, options)
            devices[name] = _speed(subject, result, network, options)
    if runnable:
        report("accuracy and speed", len(runnable), len(runnable))
    flows = _flows(subject, fits, runnable, options, report) if options.feeds else {}
    found = []
    for name, result in results.items():
        mine = flows.get(name, ())
        fed = {f.feed: f for f in mine}
        found.append(
            Evaluated(
                name=name,
                result=result,
                refused=refused[name],
                tasks=accuracies[name],
                flows=mine,
                device=devices[name],
                verdict=judge(
                    result,
                    refused[name],
                    accuracies[name],
                    fed.get("rates"),
                    changed_parts(result.instance_digest, subject.instance) or (),
                    fed.get("saturated"),
                ),
            )
        )
    text, holds = ranking(subject.instance, found)
    written = None
    if write_back is not None:
        written = fits.write_back(write_back, list(runnable.values()))
        save_instance(written, write_back / "instance.json")
    return Evaluation(subject.instance, tuple(found), text, holds, written)


def settled(options: Options, subject: Subject) -> Options:
    """Return options in which nothing is left open.

    Raises:
        InputError: an unknown type of numbers, or the device's pace for an instance that does not
            hold its measured times.
    """
    if options.dtype not in DTYPES:
        raise InputError(f"unknown dtype {options.dtype!r}: {', '.join(DTYPES)}")
    instance, bundle = subject.instance, subject.bundle
    pace, chosen = options.pace, options.arrivals
    if pace is None:
        timed = None if bundle is None else bundle.manifest.timed
        pace = "device" if timed == TimedOn.this(options.device) else "instance"
    elif pace == "device" and not _is_timed(instance):
        raise InputError(
            f"{instance.name}: holds no measured times to compare this device with; profile it "
            "with work: seconds, or measure them: code-opt time"
        )
    if chosen is None:
        limited = any(task.max_latency is not None for task in instance.tasks)
        chosen = "poisson" if limited else "constant"
    return replace(options, pace=pace, arrivals=chosen)


def _is_timed(instance: Instance) -> bool:
    """Whether all work is in seconds."""
    blocks = [block for dnn in instance.dnns for block in dnn.blocks]
    connections = [one for task in instance.tasks for one in task.connections]
    return all(b.seconds is not None for b in blocks) and all(
        c.seconds is not None or c.share == IDENTITY for c in connections
    )


def _accuracies(
    subject: Subject,
    fits: PathFits,
    result: Result,
    network: MultiTaskNetwork,
    options: Options,
) -> tuple[TaskAccuracy, ...]:
    """Measure every task's path on its whole test split."""
    bundle = subject.bundle
    assert bundle is not None
    weights = {task.id: task.weight for task in subject.instance.tasks}
    network.to(options.device)
    kind = DTYPES[options.dtype]
    rounded = None if kind is torch.float32 else copy.deepcopy(network).to(kind)
    found = []
    for row in result.tasks:
        images = subject.images(row.task, "test")
        answers = subject.answers(network.path(row.task), row.task, images, options.device)
        reduced = None
        if rounded is not None:
            reduced = share_of(
                subject.answers(rounded.path(row.task), row.task, images, options.device, kind)
            )
        dataset = bundle.tasks[row.task].dataset
        found.append(
            TaskAccuracy(
                task=row.task,
                path=tuple(row.path),
                source=row.accuracy_source,
                adapters=fits.origin(row.task, row.path),
                predicted=row.accuracy,
                measured=share_of(answers),
                validation_images=dataset.validation,
                weight=weights[row.task],
                reduced=reduced,
                pictures=f"{dataset.source} {dataset.path} {dataset.name}",
                answers=answers,
            )
        )
    return tuple(found)


def _speed(
    subject: Subject, result: Result, network: MultiTaskNetwork, options: Options
) -> DeviceReport | None:
    bundle = subject.bundle
    assert bundle is not None
    found = routes(subject.instance, result)
    if not found:
        return None
    natives = {
        task.id: (task.dnn, bundle.trunk(task.dnn).blocks) for task in subject.instance.tasks
    }
    work = {dnn.id: sum(block.flops for block in dnn.blocks) for dnn in subject.instance.dnns}
    inputs = {
        task: subject.inputs(task, subject.images(task, "test").first(options.batch))
        for route in found
        for task in route.tasks
    }
    return measure_device(
        network,
        natives,
        inputs,
        found,
        work,
        device=options.device,
        dtype=options.dtype,
        batch=options.batch,
        seconds=options.seconds,
    )


def _flows(
    subject: Subject,
    fits: PathFits,
    results: Mapping[str, Result],
    options: Options,
    report: Report,
) -> dict[str, tuple[Flow, ...]]:
    """Run all assignments on the edge, one after the other, in the same processes."""
    streams: dict[str, list[Stream]] = {
        name: subject.streams(result, MOST_IMAGES) for name, result in results.items()
    }
    streams = {name: found for name, found in streams.items() if found}
    if not streams:
        return {}
    flows: dict[str, tuple[Flow, ...]] = {}
    total, done, first = len(streams) * len(options.feeds), 0, 0
    report("edge", 0, total)
    with _started(subject, fits, list(streams.values()), options) as run:
        for name, found in streams.items():
            measured = []
            for feed in options.feeds:
                measured.append(run(first, found, feed))
                done += 1
                report("edge", done, total)
            flows[name] = tuple(measured)
            first += len(found)
    return flows


@contextmanager
def _started(
    subject: Subject, fits: PathFits, assignments: Sequence[list[Stream]], options: Options
) -> Iterator[Callable[[int, list[Stream], Feed], Flow]]:
    """Start the servers' processes; yield what feeds one of the assignments to them.

    That takes the number of its first stream among all assignments, its streams, and the feed.
    """
    assert options.arrivals is not None
    arrivals, seed = options.arrivals, options.seed
    machine: dict[str, Any] = {
        "device": options.device,
        "threads": options.threads,
        "adapters": fits.adapters,
    }
    if options.pace == "device":
        with OwnEdge(subject, assignments, **machine) as own:
            yield lambda first, found, feed: own.run(
                first,
                found,
                feed,
                seconds=long_enough(options.seconds, found),
                arrivals=arrivals,
                seed=seed,
            )
        return
    workers = subject.workers(assignments, largest_batch=options.batch, **machine)
    with Edge(subject.instance, workers) as edge:
        # One factor for all: their throughputs are compared.
        factor, number = 1.0, 0
        for found in assignments:
            factor = edge.slow_motion(number, found, factor)
            number += len(found)
        yield lambda first, found, feed: edge.run(
            first,
            found,
            feed,
            seconds=options.seconds,
            factor=factor,
            arrivals=arrivals,
            seed=seed,
        )


def save_evaluation(evaluation: Evaluation, folder: Path, options: Options) -> None:
    """Write ``evaluation.json`` and one CSV file per table into a folder."""
    tables = save_tables(evaluation, folder)
    about = {
        "instance": evaluation.instance.name,
        "confirmed": evaluation.confirmed,
        "ranking": evaluation.ranking,
        "options": asdict(options),
        "device": device_name(options.device),
        **library_versions(),
        "results": json.loads(tables["results"].to_json(orient="records")),
    }
    write_atomically(folder / "evaluation.json", json.dumps(about, indent=1) + "\n")
