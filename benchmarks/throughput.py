"""Promised against measured throughput: FLOPs and measured times as predictors.

    python -m benchmarks.throughput --data FOLDER --out benchmarks/results

FOLDER holds ``cifar10/`` as parquet. Times every block and adapter of the profiled data sets on
this machine, solves them with these times and no limits of demand, and lets every server of an
assignment compute full batches at its own pace. Writes ``throughput.md`` and ``throughput.csv``.
Takes about ten minutes on two cores; nothing else should run meanwhile. What counts is the time for
which a server had its processor; how much of it others had is told.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.evaluations import markdown
from code_opt import Result, load_instance, solve
from code_opt.evaluation import Subject
from code_opt.evaluation.flow import Flow, Stream, streams_of
from code_opt.evaluation.pipeline import use_device
from code_opt.evaluation.subject import bundle_of
from code_opt.evaluation.unpaced import OwnEdge, own_cores
from code_opt.files import write_atomically
from code_opt.instance import Instance
from code_opt.networks.threads import device_type, library_versions
from code_opt.profiling.config import ProfileConfig, TimingConfig, parse_config
from code_opt.profiling.pipeline import profile
from code_opt.profiling.preparation import Place
from code_opt.profiling.retiming import timed_instance

DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = ("digits", "alexnet-mobilenet", "three-services", "one-camera", "pixels-128")
BATCHES = (1, 8, 32)
METHODS = ("exact", "local")
PREDICTORS = ("FLOPs", "FLOPs by network", "seconds")
_INPUTS = 64
_SIDE = 128


@dataclass(frozen=True)
class Paces:
    """FLOP/s of this machine at one batch size, on native networks."""

    all_: float
    by_network: dict[str, float]

    @classmethod
    def of(cls, instance: Instance, batch: int) -> Paces:
        """Return the paces that an instance's measured times say."""
        work, time_ = {}, {}
        for dnn in instance.dnns:
            work[dnn.id] = sum(block.flops for block in dnn.blocks)
            time_[dnn.id] = sum((b.seconds or {})[str(batch)] for b in dnn.blocks) / batch
        return cls(
            sum(work.values()) / sum(time_.values()),
            {name: work[name] / time_[name] for name in work},
        )


def predicted_share(
    streams: Sequence[Stream], seconds_of: Callable[[str, float, float], float]
) -> float:
    """Return how much of the rates fits, by the fullest server.

    Args:
        streams: an assignment.
        seconds_of: device time of a part: of the block (or "" and the server for an adapter), its
            FLOPs and its measured device time.
    """
    busy: dict[str, float] = {}
    for stream in streams:
        for segment in stream.route.segments:
            for part in segment.parts:
                key = part.block.rpartition("/")[0] or f"on {part.server}"
                used = stream.route.rate * seconds_of(key, part.flops, part.busy)
                busy[segment.server] = busy.get(segment.server, 0.0) + used
    return 1.0 / max(busy.values())


def predictions(instance: Instance, streams: Sequence[Stream], batch: int) -> dict[str, float]:
    """Return the throughput that each predictor promises of an assignment's mix."""
    paces = Paces.of(instance, batch)
    local = {f"on {dnn.server}": paces.by_network[dnn.id] for dnn in reversed(instance.dnns)}
    known = paces.by_network | local
    total = sum(stream.route.rate * len(stream.route.tasks) for stream in streams)
    shares = {
        "FLOPs": predicted_share(streams, lambda _, flops, __: flops / paces.all_),
        "FLOPs by network": predicted_share(streams, lambda key, flops, _: flops / known[key]),
        "seconds": predicted_share(streams, lambda _, __, seconds: seconds),
    }
    return {name: total * share for name, share in shares.items()}


def by_processor(flow: Flow) -> float:
    """Return the throughput, had nobody else had the processor."""
    shares = [s.share_of_processor for s in flow.servers if s.share_of_processor is not None]
    wall = min(s.share for s in flow.servers if s.share is not None)
    return flow.measured * min(shares) / wall


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int
    """Times and throughput are measured in turns so often."""
    run: float
    """Of every server and mix, in all rounds together [s]."""
    timing: float
    """Of every part and batch size, in all rounds together [s]."""


def measured(subject: Subject, effort: Effort, device: str) -> list[dict[str, object]]:
    """Return promised and measured throughput of a data set, by batch size, method and round.

    Parts and mixes are measured in turns, since the pace of a machine drifts by more within
    minutes than what is to be seen; both on the core of the servers.
    """
    rows: list[dict[str, object]] = []
    for batch in BATCHES:
        at = in_times(subject, batch, effort.timing / effort.rounds, device)
        results = {method: solve(at.instance, method=method) for method in METHODS}
        streams = {method: at.streams(result, _INPUTS) for method, result in results.items()}
        taken = Subject(only_taken(at.instance, results.values()), at.bundle, at.data)
        with OwnEdge(at, list(streams.values()), device=device) as edge:
            for round_ in range(effort.rounds):
                now = in_times(taken, batch, effort.timing / effort.rounds, device).instance
                first = 0
                for method, found in streams.items():
                    window = effort.run / effort.rounds
                    flow = edge.run(first, found, "saturated", seconds=window)
                    first += len(found)
                    row: dict[str, object] = {
                        "data": now.name,
                        "batch": batch,
                        "method": method,
                        "round": round_,
                        "measured": flow.measured,
                        "by_processor": by_processor(flow),
                        "stolen": flow.stolen,
                    }
                    rows.append(row | predictions(now, streams_of(now, results[method]), batch))
    return rows


def only_taken(instance: Instance, results: Iterable[Result]) -> Instance:
    """Return an instance without the connections that no path of some results takes."""
    steps: dict[str, set[tuple[str | None, str | None]]] = {}
    for result in results:
        for row in result.tasks:
            steps.setdefault(row.task, set()).update(pairwise((None, *row.path, None)))
    tasks = instance.to_dict()["tasks"]
    for task in tasks:
        taken = steps[task["id"]]
        task["connections"] = [
            one for one in task["connections"] if (one["source"], one["target"]) in taken
        ]
        task["measured_paths"] = []
    return instance.replace(tasks=tasks)


def summed_up(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per assignment, with the medians of its rounds.

    What is compared is promised over measured throughput of one round; how much the pace of the
    machine changed is the distance of the quartiles of measured throughput over its median.
    """
    rows = []
    for key, rounds in table.groupby(["data", "batch", "method"], sort=False):
        low, middle, high = np.quantile(rounds["by_processor"], (0.25, 0.5, 0.75))
        row: dict[str, object] = dict(zip(("data", "batch", "method"), key, strict=True))
        row |= {"measured": middle, "drift": (high - low) / middle}
        row["stolen"] = rounds["stolen"].median()
        for predictor in PREDICTORS:
            row[predictor] = 100.0 * ((rounds[predictor] / rounds["by_processor"]).median() - 1.0)
        rows.append(row)
    return pd.DataFrame(rows)


def loaded(name: str, data: Path, folder: Path) -> Subject:
    """Return a data set without limits of demand.

    Args:
        name: of the data set.
        data: folder of the images.
        folder: for the data set that is made here.
    """
    path = DATA / name / "instance.json"
    if name == "pixels-128":
        path, data = made(folder), folder
    instance = load_instance(path)
    bundle = bundle_of(instance, path)
    assert bundle is not None
    free = instance.with_({"tasks[*].demand": None, "tasks[*].floor": 0.0})
    return Subject(free, bundle, data)


def in_times(subject: Subject, batch: int, seconds: float, device: str) -> Subject:
    """Return a data set in the times of this machine.

    Args:
        subject: the data set.
        batch: batch size of its servers.
        seconds: spent on each part.
        device: "cpu" or "cuda".
    """
    assert subject.bundle is not None
    instance = subject.instance.with_({"servers[*].batch": float(batch)})
    timing = TimingConfig(batches=(batch,), seconds=seconds)
    with on_cores(own_cores(1)):
        found, _ = timed_instance(instance, subject.bundle, timing, device=device)
    return Subject(found, subject.bundle, subject.data)


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run on some cores only; none: wherever the system puts it."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def made(folder: Path) -> Path:
    """Profile two networks on 128 x 128 pixels of noise: times do not depend on what they show."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", _INPUTS // 2)):
        for name in ("dark", "light"):
            place = folder / "noise" / split / name
            place.mkdir(parents=True, exist_ok=True)
            level = 60 if name == "dark" else 190
            for k in range(count):
                pixels = rng.normal(level, 20, (_SIDE, _SIDE, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")
    place = Place(folder / "config.yaml", folder / "out", folder, "cpu")
    profile(_noise_config(), place)
    return folder / "out" / "instance.json"


def _noise_config() -> ProfileConfig:
    def service(name: str, server: str, architecture: str) -> dict[str, object]:
        return {
            "id": name,
            "dnn": architecture.partition("_")[0],
            "server": server,
            "architecture": architecture,
            "input": [3, _SIDE, _SIDE],
            "dataset": "noise",
            "blocks": 4,
            "training": {"epochs": 1, "batch": 4},
        }

    return parse_config(
        {
            "schema": "code-opt/profile/1",
            "name": "pixels-128",
            "servers": [{"id": "edge-a", "flops": 1e10}, {"id": "edge-b", "flops": 1e10}],
            "datasets": [{"id": "noise", "source": "folder", "path": "noise", "validation": 8}],
            "services": [
                service("one", "edge-a", "mobilenet_v2"),
                service("two", "edge-b", "squeezenet1_1"),
            ],
            "connections": {"skips": False},
            "adapters": {
                "kinds": ["pointwise", "linear"],
                "images": 12,
                "calibration": 8,
                "held_out": 2,
                "epochs": 0,
            },
            "search": {"method": "random", "budget": 2},
            "timing": {"batches": [1], "seconds": 0.001},
        }
    )


def report(table: pd.DataFrame, seconds: float, device: str, asked: argparse.Namespace) -> str:
    """Return the page."""
    versions = library_versions()

    def summary(rows: pd.DataFrame) -> list[str]:
        found = [rows[predictor].abs() for predictor in PREDICTORS]
        return [f"{one.median():.1f}, {one.max():.1f}" for one in found]

    def lines(keys: list[str]) -> Iterable[list[object]]:
        for key, rows in table.groupby(keys, sort=False):
            yield [*key, *summary(rows)]

    head = f"data | batch | {' | '.join(PREDICTORS)}"
    full = (
        f"data | batch | method | measured [1/s] | {' | '.join(PREDICTORS)} | "
        "pace changed by [%] | others had [%]"
    )
    total = " · ".join(
        f"{name}: {cells}" for name, cells in zip(PREDICTORS, summary(table), strict=True)
    )
    command = (
        f"python -m benchmarks.throughput --data FOLDER --seconds {asked.seconds:g} "
        f"--timing {asked.timing:g} --rounds {asked.rounds}"
    )
    everything = (
        [
            row["data"],
            row["batch"],
            row["method"],
            f"{row['measured']:.5g}",
            *(f"{row[predictor]:+.1f}" for predictor in PREDICTORS),
            f"{100.0 * row['drift']:.1f}",
            f"{100.0 * row['stolen']:.1f}",
        ]
        for _, row in table.iterrows()
    )
    return f"""# Promised and measured throughput

`{command}`:
{device_type(device)}, {os.cpu_count()} processors, one thread; Python {platform.python_version()},
torch {versions["torch"]}; {seconds:.0f} s.

Parts were timed and every server of an assignment computed full batches at its own pace, in turns,
{asked.rounds} times, on the same core; each round compares what it measured itself, and the median
of the rounds counts. What counts of a run is the time for which a server had its processor.
*Pace changed by*: distance of the quartiles of the rounds' measured throughput over its median; a
machine of one's own has a few hundredths. Predictors:
*FLOPs* at one pace of this machine, *FLOPs by network* at one pace for each network (adapters at
that of their server's), and *seconds* of every block and adapter, all measured at the same batch
size. `pixels-128` are MobileNetV2 and SqueezeNet on 128 x 128 pixels of noise.

All of it: how far the promise is off, at the median and at worst [%]: {total}.

## By data set and batch size

Off at the median and at worst [%]

{markdown(head, lines(["data", "batch"]))}
## All assignments

Promised over measured throughput, less 1 [%]

{markdown(full, everything)}"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of every server and mix")
    parser.add_argument("--timing", type=float, default=0.2, help="of every part and batch size")
    parser.add_argument("--only", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    device = use_device(asked.device, 1)
    asked.out.mkdir(parents=True, exist_ok=True)
    effort = Effort(asked.rounds, asked.seconds, asked.timing)
    started = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            rows += measured(loaded(name, asked.data, Path(folder)), effort, device)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    rounds = pd.DataFrame(rows)
    text = rounds.to_csv(index=False, float_format="%.6g")
    write_atomically(asked.out / "throughput.csv", text)
    page = report(summed_up(rounds), time.monotonic() - started, device, asked)
    write_atomically(asked.out / "throughput.md", page)


if __name__ == "__main__":
    main()
