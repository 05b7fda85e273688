"""Promised against measured throughput: FLOPs and measured times as predictors.

    python -m benchmarks.throughput --data FOLDER --out benchmarks/results

FOLDER holds ``cifar10/`` as parquet. Times every block and adapter of the profiled data sets on
this machine, solves them with these times and no limits of demand, and lets every server of an
assignment compute full batches at its own pace. Writes ``throughput.md`` and ``throughput.csv``.
Takes about six minutes on two cores; nothing else should run meanwhile. What counts is the time for
which a server had its processor; how much of it others had is told.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.evaluations import markdown
from code_opt import load_instance, solve
from code_opt.evaluation import Subject
from code_opt.evaluation.flow import STOLEN_TOLERANCE, Flow, Stream
from code_opt.evaluation.pipeline import use_device
from code_opt.evaluation.subject import bundle_of
from code_opt.evaluation.unpaced import OwnEdge
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


def measured(subject: Subject, seconds: float, device: str) -> list[dict[str, object]]:
    """Return promised and measured throughput of a data set, by batch size and method."""
    rows: list[dict[str, object]] = []
    for batch in BATCHES:
        instance = subject.instance.with_(
            {"servers[*].batch": float(batch), "tasks[*].demand": None, "tasks[*].floor": 0.0}
        )
        at = Subject(instance, subject.bundle, subject.data)
        results = {method: solve(instance, method=method) for method in METHODS}
        streams = {method: at.streams(result, _INPUTS) for method, result in results.items()}
        with OwnEdge(at, list(streams.values()), device=device) as edge:
            first = 0
            for method, found in streams.items():
                flow = edge.run(first, found, "saturated", seconds=seconds)
                first += len(found)
                row: dict[str, object] = {
                    "data": instance.name,
                    "batch": batch,
                    "method": method,
                    "measured": flow.measured,
                    "by_processor": by_processor(flow),
                    "stolen": flow.stolen,
                    "void": flow.stolen > STOLEN_TOLERANCE,
                }
                rows.append(row | predictions(instance, found, batch))
    return rows


def timed(name: str, data: Path, device: str, seconds: float, folder: Path) -> Subject:
    """Return a data set in the times of this machine.

    Args:
        name: of the data set.
        data: folder of the images.
        device: "cpu" or "cuda".
        seconds: spent on each part and batch size.
        folder: for the data set that is made here.
    """
    path = DATA / name / "instance.json"
    if name == "pixels-128":
        path, data = made(folder), folder
    instance = load_instance(path)
    bundle = bundle_of(instance, path)
    assert bundle is not None
    timing = TimingConfig(batches=BATCHES, seconds=seconds)
    found, _ = timed_instance(instance, bundle, timing, device=device)
    return Subject(found, bundle, data)


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


def off(table: pd.DataFrame, predictor: str) -> pd.Series[float]:
    """Return promised over measured throughput, less 1 [%]."""
    return 100.0 * (table[predictor] / table["by_processor"] - 1.0)


def report(table: pd.DataFrame, seconds: float, device: str, asked: argparse.Namespace) -> str:
    """Return the page."""
    versions = library_versions()

    def summary(rows: pd.DataFrame) -> list[str]:
        cells = []
        for predictor in PREDICTORS:
            found = off(rows, predictor).abs()
            cells.append(f"{found.median():.1f}, {found.max():.1f}")
        return cells

    def lines(keys: list[str]) -> Iterable[list[object]]:
        for key, rows in table.groupby(keys, sort=False):
            yield [*key, *summary(rows), "yes" if rows["void"].any() else ""]

    head = f"data | batch | {' | '.join(PREDICTORS)} | others ran"
    full = f"data | batch | method | measured [1/s] | {' | '.join(PREDICTORS)} | others had [%]"
    total = " · ".join(
        f"{name}: {cells}" for name, cells in zip(PREDICTORS, summary(table), strict=True)
    )
    command = f"python -m benchmarks.throughput --data FOLDER --seconds {asked.seconds:g}"
    errors = pd.DataFrame({predictor: off(table, predictor) for predictor in PREDICTORS})
    everything = (
        [
            row["data"],
            row["batch"],
            row["method"],
            f"{row['by_processor']:.5g}",
            *(f"{value:+.1f}" for value in errors.loc[number]),
            f"{100.0 * row['stolen']:.1f}",
        ]
        for number, row in table.iterrows()
    )
    return f"""# Promised and measured throughput

`{command}`:
{device_type(device)}, {os.cpu_count()} processors, one thread; Python {platform.python_version()},
torch {versions["torch"]}; {seconds:.0f} s.

Every server of an assignment computed full batches at its own pace for {asked.seconds:g} s. What
counts is the time for which it had its processor; where *others ran*, they had it for more than
{100 * STOLEN_TOLERANCE:.0f} % of the time, and caches and memory were shared as well. Predictors:
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
    parser.add_argument("--seconds", type=float, default=1.5, help="of every server and mix")
    parser.add_argument("--timing", type=float, default=0.1, help="of every part and batch size")
    parser.add_argument("--only", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    device = use_device(asked.device, 1)
    asked.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            subject = timed(name, asked.data, device, asked.timing, Path(folder))
            rows += measured(subject, asked.seconds, device)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    text = table.to_csv(index=False, float_format="%.6g")
    write_atomically(asked.out / "throughput.csv", text)
    page = report(table, time.monotonic() - started, device, asked)
    write_atomically(asked.out / "throughput.md", page)


if __name__ == "__main__":
    main()
