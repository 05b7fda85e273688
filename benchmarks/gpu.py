"""What runs on a GPU, run there: ``python -m benchmarks.gpu --out DIR``, or ``make gpu``.

The tests that need CUDA, a profile of the digits with little training, and results of the digits
and of alexnet-mobilenet evaluated in float32 and bfloat16. Writes ``gpu.md`` (tables, machine,
versions, commands) and the tables of every evaluation. ``--device cpu`` is a dry run: it shows
that the command works, and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml

import code_opt
from code_opt import load_instance, save_result, solve
from code_opt.files import write_atomically
from code_opt.networks.compat import torch
from code_opt.networks.threads import device_name, library_versions
from code_opt.networks.training import choose_device

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
NAMES = ("digits", "alexnet-mobilenet")
DTYPES = ("float32", "bfloat16")
METHODS = ("exact", "local")
COLUMNS = {
    "result": "result",
    "throughput_error_percent": "paced throughput, error [%]",
    "accuracy_predicted": "accuracy promised",
    "accuracy_measured": "measured",
    "accuracy_reduced": "in the type",
    "device_speedup": "speed-up measured",
    "device_speedup_flops": "by FLOPs",
    "device_speedup_parts": "by parts",
    "confirmed": "confirmed",
}


@dataclass
class Done:
    """A command that was run."""

    command: str
    code: int
    seconds: float
    last: str
    """Last line of what it said."""

    @property
    def went_well(self) -> bool:
        """It ended as it should; that a result is not confirmed (1) is what the tables are for."""
        return self.code == 0 or (self.code == 1 and " evaluate " in self.command)


def main() -> int:
    """Run everything; 0 if all commands ended as they should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="holds cifar10/")
    parser.add_argument("--seconds", type=float, default=2.0, help="of every measurement")
    asked = parser.parse_args()
    device = choose_device(asked.device)
    asked.out.mkdir(parents=True, exist_ok=True)
    done = [
        ran(
            [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"],
            asked.out,
            CODE_OPT_DEVICE=device,
        )
    ]
    config = small_config(asked.out)
    done.append(cli(asked.out, "profile", config, "--out", asked.out / "profile", device=device))
    tables = []
    for name in NAMES:
        if name != "digits" and not (asked.data / "cifar10").is_dir():
            tables.append(f"{name}: not run, {asked.data / 'cifar10'} is not there.\n")
            continue
        path = DATA / name / "instance.json"
        results = [asked.out / f"{name}.{method}.json" for method in METHODS]
        instance = load_instance(path)
        for method, file in zip(METHODS, results, strict=True):
            save_result(solve(instance, method=method), file)
        for dtype in DTYPES:
            folder = asked.out / f"{name}-{dtype}"
            options = ["--data", asked.data, "--seconds", str(asked.seconds), "--dtype", dtype]
            feed = ["--feed", "rates"] if dtype == "float32" else ["--no-edge"]
            done.append(
                cli(
                    asked.out,
                    "evaluate",
                    path,
                    *results,
                    *options,
                    *feed,
                    "--out",
                    folder,
                    device=device,
                )
            )
            tables.append(f"{name}, {dtype}:\n\n{shown(folder)}")
    write_atomically(asked.out / "gpu.md", report(device, done, tables))
    print(f"{asked.out / 'gpu.md'}: written")
    # 1 of evaluate: not confirmed, which the table says; 5 of pytest: no test was found.
    return (
        0
        if all(one.code == 0 or (one.code == 1 and "evaluate" in one.command) for one in done)
        else 1
    )


def ran(command: list[object], out: Path, **environment: str) -> Done:
    """Run a command; what it says goes to the terminal and into ``log.txt``."""
    words = [str(word) for word in command]
    started = time.perf_counter()
    process = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(process.stdout)
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(words)}\n{process.stdout}\n")
    text = " ".join(["python", *words[1:]]).replace(f"{ROOT}/", "")
    lines = process.stdout.strip().splitlines() or [""]
    return Done(text, process.returncode, time.perf_counter() - started, lines[-1])


def cli(out: Path, *words: object, device: str) -> Done:
    """Run a command of ``code-opt`` on a device."""
    return ran([sys.executable, "-m", "code_opt", *words, "--device", device], out)


def small_config(out: Path) -> Path:
    """Write the config of the digits with little training, and return its file."""
    config = yaml.safe_load((DATA / "digits" / "config.yaml").read_text(encoding="utf-8"))
    for service in config["services"]:
        service["blocks"] = 3
        service["training"] |= {"epochs": 2, "batch": 64}
    config["adapters"] |= {"images": 300, "calibration": 100, "held_out": 60, "epochs": 1}
    config["search"] = {"method": "code", "budget": 4}
    config["timing"] = {"batches": [1, 32], "seconds": 0.05}
    file = out / "config.yaml"
    write_atomically(file, yaml.safe_dump(config))
    return file


def shown(folder: Path) -> str:
    """Return the tables of an evaluation."""
    try:
        results = pd.read_csv(folder / "results.csv")
        device = pd.read_csv(folder / "device.csv")
    except (OSError, pd.errors.EmptyDataError):
        return "no tables were written.\n"
    device["of plain [%]"] = 100.0 * device["share_of_plain"]
    columns = ["result", "tasks", "mode", "layout", "batch", "seconds", "native", "of plain [%]"]
    return (
        f"{markdown(results[list(COLUMNS)].rename(columns=COLUMNS))}\n{markdown(device[columns])}"
    )


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    rows = [
        " | ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row)
        for row in table.itertuples(index=False)
    ]
    head = " | ".join(table.columns)
    line = " | ".join("---" for _ in table.columns)
    return "\n".join(f"| {row} |" for row in (head, line, *rows)) + "\n"


def report(device: str, done: list[Done], tables: list[str]) -> str:
    """Return the page."""
    versions = library_versions()
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": device_name(device),
        "CUDA": str(torch.version.cuda),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "Python": platform.python_version(),
        **versions,
        "code-opt": code_opt.__version__,
    }
    heading = (
        "# Run on a GPU\n" if device == "cuda" else "# Dry run on a CPU: nothing about a GPU\n"
    )
    commands = pd.DataFrame(
        [
            {
                "command": f"`{one.command}`",
                "exit": one.code,
                "s": one.seconds,
                "ended with": one.last,
            }
            for one in done
        ]
    )
    return "\n".join(
        [
            heading,
            f"`python -m benchmarks.gpu --device {device}`\n",
            markdown(pd.DataFrame(facts.items(), columns=["what", "value"])),
            markdown(commands),
            *tables,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
