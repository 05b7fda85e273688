"""Predicted against measured: the profiled data sets solved, and the results executed.

    python -m benchmarks.evaluations --data FOLDER --out benchmarks/results

FOLDER holds the data sets (``cifar10/`` as parquet). Writes ``evaluations.md`` and one CSV file per
table. Takes about twenty minutes on two cores; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import code_opt
from code_opt import Result, load_instance, solve, without_sharing
from code_opt.evaluation import Evaluation, Options, Subject, evaluate, load_subject
from code_opt.evaluation.pipeline import use_device
from code_opt.evaluation.subject import bundle_of
from code_opt.files import write_atomically
from code_opt.instance import save_instance
from code_opt.networks.threads import device_name, library_versions

DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = ("digits", "alexnet-mobilenet", "three-services", "one-camera")
METHODS = ("exact", "lns", "edge-early", "local")
LARGEST_LOOP = 10


@dataclass(frozen=True)
class Case:
    """One data set, evaluated."""

    name: str
    found: Evaluation


def cases(names: Iterable[str], data: Path, options: Options) -> list[Case]:
    """Solve and run every data set by every method."""
    found = []
    for name in names:
        subject = load_subject(DATA / name / "instance.json", data)
        results = {method: solve(subject.instance, method=method) for method in METHODS}
        found.append(Case(name, evaluate(subject, results, options)))
        print(f"{name}: {[one.verdict.text for one in found[-1].found.results]}", flush=True)
    return found


def sharing(data: Path, options: Options) -> list[tuple[str, Evaluation]]:
    """Run one camera's tasks uncoordinated, coordinated, and coordinated with sharing."""
    path = DATA / "one-camera" / "instance.json"
    together = load_instance(path)
    apart = without_sharing(together)
    bundle = bundle_of(together, path)

    def run(name: str, instance: code_opt.Instance, result: Result) -> tuple[str, Evaluation]:
        return name, evaluate(Subject(instance, bundle, data), {name: result}, options)

    return [
        run("no coordination", together, solve(together, method="local")),
        run("lns without sharing", apart, solve(apart, method="lns")),
        run("exact without sharing", apart, solve(apart)),
        run("lns with sharing", together, solve(together, method="lns")),
        run("exact with sharing", together, solve(together)),
    ]


def loop(data: Path, device: str) -> list[dict[str, Any]]:
    """Forget all measured paths of the digits, then solve and measure in turns."""
    rows = []
    options = Options(device=device, seconds=0.2, feeds=(), fine_tune=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copytree(DATA / "digits" / "bundle", home / "bundle")
        start = load_instance(DATA / "digits" / "instance.json")
        tasks = start.to_dict()["tasks"]
        for task in tasks:
            task["measured_paths"] = []
        save_instance(start.replace(tasks=tasks), home / "instance.json")
        manifest = json.loads((home / "bundle" / "manifest.json").read_text())
        for task in manifest["tasks"]:
            task["paths"] = []
        (home / "bundle" / "manifest.json").write_text(json.dumps(manifest))
        for turn in range(LARGEST_LOOP):
            subject = load_subject(home / "instance.json", data)
            result = solve(subject.instance)
            predicted = sum(row.accuracy_source == "predicted" for row in result.tasks)
            home = Path(folder) / f"turn-{turn}"
            found = evaluate(subject, {"exact": result}, options, write_back=home)
            rows.append(
                {
                    "turn": turn + 1,
                    "reward": result.reward,
                    "accuracy_promised": result.accuracy,
                    "accuracy_measured": found.results[0].accuracy,
                    "paths_predicted": predicted,
                    "confirmed": found.confirmed,
                }
            )
            if not predicted:
                break
    return rows


# Pages


def markdown(head: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a table: columns named in ``head`` by ``|``, the first two of words."""
    names = [name.strip() for name in head.split("|")]
    line = "|" + "|".join("---" if i < 1 else "--:" for i in range(len(names))) + "|"
    body = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"| {' | '.join(names)} |", line, *body]) + "\n"


def _signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:+.{digits}f}"


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None or pd.isna(value) else format(value, form)


def _overview(found: Iterable[Case]) -> str:
    rows = []
    for case in found:
        for row in case.found.tables()["results"].itertuples():
            off = None
            if row.accuracy_measured is not None:
                off = 100.0 * (row.accuracy_measured - row.accuracy_predicted)
            rows.append(
                [
                    f"{case.name}, {row.result}",
                    _figure(row.throughput_predicted, ".1f"),
                    _figure(row.throughput_measured, ".1f"),
                    _signed(row.throughput_error_percent),
                    _figure(row.accuracy_predicted, ".4f"),
                    _figure(row.accuracy_measured, ".4f"),
                    _signed(off),
                    "shows" if row.overload_shows else "does not show",
                    _figure(row.slow_motion, ".3g"),
                    row.verdict,
                ]
            )
    return markdown(
        "result | predicted [1/s] | measured [1/s] | error [%] | predicted accuracy "
        "| measured accuracy | error [points] | 10 % too much | slow motion | verdict",
        rows,
    )


def _devices(found: Iterable[Case]) -> str:
    rows = []
    for case in found:
        for one in case.found.results:
            if one.device is not None:
                speed = one.device
                rows.append(
                    [
                        f"{case.name}, {one.name}",
                        speed.layout,
                        f"{speed.throughput:.4g}",
                        f"{speed.native_throughput:.4g}",
                        f"{speed.speedup:.2f}",
                        f"{speed.speedup_flops:.2f}",
                        f"{speed.speedup_parts:.2f}",
                        f"{100 * min(s.share_of_plain for s in speed.streams):.0f}",
                    ]
                )
    return markdown(
        "result | layout | inferences/s | native mix | speed-up | by FLOPs | by parts' times "
        "| of plain chains [%]",
        rows,
    )


def _reading(found: Iterable[Case]) -> str:
    speeds = [one.device for case in found for one in case.found.results if one.device is not None]
    flops = [abs(s.speedup_flops / s.speedup - 1.0) for s in speeds]
    parts = [abs(s.speedup_parts / s.speedup - 1.0) for s in speeds]
    return (
        f"FLOPs miss the measured speed-up by {100 * sum(flops) / len(flops):.0f} % at the mean, "
        f"the times of single parts by {100 * sum(parts) / len(parts):.0f} %."
    )


def report(
    found: list[Case],
    shared: list[tuple[str, Evaluation]],
    turns: list[dict[str, Any]],
    options: Options,
) -> str:
    """Return the page."""
    versions = library_versions()
    orders = "\n".join(f"- {c.name}: {c.found.ranking}" for c in found)
    camera = []
    for name, evaluation in shared:
        (one,) = evaluation.results
        result, flow = one.result, one.flow
        assert flow is not None
        measured = (one.accuracy or 0.0) ** 8 * flow.measured
        camera.append(
            [
                name,
                _figure(result.throughput, ".1f"),
                _figure(flow.measured, ".1f"),
                _figure(result.accuracy, ".4f"),
                _figure(one.accuracy, ".4f"),
                _figure(result.reward, ".2f"),
                _figure(measured, ".2f"),
            ]
        )
    return f"""# Predicted and measured

`python -m benchmarks.evaluations --data FOLDER`: every data set solved by four methods, every
result executed. Machine: {platform.machine()}, {os.cpu_count()} processors,
{device_name(options.device)}; Python {platform.python_version()}, torch {versions["torch"]},
torchvision {versions["torchvision"]};
{options.seconds:g} s per measurement, batches of at most {options.batch}, {options.dtype}.

## At the instance's capacities, on test images

One process per server, real activations over pipes, paced at the instance's FLOP/s and bytes/s.
Accuracy on the whole test split. *Slow motion*: this machine is too slow for the capacities, so
all of them (and the rates) were multiplied by that factor. A verdict allows 3 % of throughput,
and of accuracy what chance explains at 95 % or half a point.

{_overview(found)}
{orders}

The best of many paths measured on one set of validation images looks a little better there than
it is, so what is off is mostly off to the same side.

## On one device

Batches of {
        options.batch
    }; speed-up over the native paths for the same mix of tasks, and what FLOPs and the
times of single parts predict. {_reading(found)}

{_devices(found)}
## One camera, three tasks

What sharing the beginning of paths brings (`data/one-camera`; reward: accuracy to the 8th power
times throughput).

{markdown("assignment | throughput | measured | accuracy | measured | reward | measured", camera)}
## Solve, evaluate, solve

The digits with all measured paths forgotten: every turn solves, trains the adapters of the chosen
paths together, writes their validation accuracy back (`--fine-tune --write-back`), and begins
again. It ends when nothing chosen is a prediction any more.

{
        markdown(
            "turn | reward | accuracy promised | measured (test) | paths predicted | verdict",
            (
                [
                    t["turn"],
                    f"{t['reward']:.3f}",
                    f"{t['accuracy_promised']:.4f}",
                    f"{t['accuracy_measured']:.4f}",
                    t["paths_predicted"],
                    "confirmed" if t["confirmed"] else "not confirmed",
                ]
                for t in turns
            ),
        )
    }"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluations")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    options = Options(device=use_device(asked.device, 1), seconds=asked.seconds, batch=asked.batch)
    asked.out.mkdir(parents=True, exist_ok=True)
    found = cases(asked.only, asked.data, options)
    shared = sharing(asked.data, options)
    turns = loop(asked.data, options.device)
    for kind in ("results", "tasks", "edge_tasks", "edge_servers", "device"):
        tables = [case.found.tables()[kind].assign(data=case.name) for case in found]
        if kind == "results":
            tables += [e.tables()[kind].assign(data="one-camera sharing") for _, e in shared]
        text = pd.concat(tables).to_csv(index=False, float_format="%.6g")
        write_atomically(asked.out / f"evaluations-{kind.replace('_', '-')}.csv", text)
    write_atomically(asked.out / "evaluations.md", report(found, shared, turns, options))


if __name__ == "__main__":
    main()
