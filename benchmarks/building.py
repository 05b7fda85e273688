"""What modelling costs: building Pyomo models and handing them to HiGHS, of a whole solve.

    python -m benchmarks.building --out benchmarks/results/building.md

Times are processor seconds of one process, from the instance in memory to the checked result;
memory is what Python allocated at most while a model was built and handed over.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.__main__ import header
from benchmarks.ablation import table
from code_opt.core import master
from code_opt.exact import mip, models
from code_opt.files import write_atomically
from code_opt.generate import generate
from code_opt.solving import solve

STEPS: tuple[tuple[str, Any, str], ...] = (
    ("building", models, "build_path_model"),
    ("building", master, "MasterProgram"),
    ("handing over", mip, "open_session"),
    ("handing over", master, "LinearProgram"),
)
"""What is timed: a kind of work, and where the exact method calls it."""


class Meter:
    """Processor seconds and the largest allocation [MiB] of wrapped calls, by kind of work."""

    def __init__(self, memory: bool) -> None:
        self.seconds: dict[str, float] = {}
        self.peak = 0.0
        self._memory = memory

    def wrap(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, measured."""

        def measured(*arguments: Any, **options: Any) -> Any:
            if self._memory:
                tracemalloc.start()
            begin = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds[kind] = self.seconds.get(kind, 0.0) + time.process_time() - begin
                if self._memory:
                    self.peak = max(self.peak, tracemalloc.get_traced_memory()[1] / 2**20)
                    tracemalloc.stop()

        return measured


def measure(
    size: int, seed: int, formulation: str, limit: float, memory: bool
) -> tuple[Meter, float]:
    """Solve one generated instance; return what was measured and the seconds of the whole."""
    instance, meter = generate(size, seed=seed), Meter(memory)
    with ExitStack() as stack:
        for kind, module, name in STEPS:
            wrapped = meter.wrap(kind, getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, wrapped))
        begin = time.process_time()
        solve(instance, formulation=formulation, time_limit=limit)
        return meter, time.process_time() - begin


def row(size: int, seeds: range, formulation: str, limit: float) -> dict[str, object]:
    """Return the row of one size and formulation: medians over the seeds."""
    runs = [measure(size, seed, formulation, limit, memory=False) for seed in seeds]
    spent = {
        kind: [meter.seconds.get(kind, 0.0) for meter, _ in runs]
        for kind in ("building", "handing over")
    }
    shares = [100.0 * sum(meter.seconds.values()) / whole for meter, whole in runs]
    peak = measure(size, seeds[0], formulation, limit, memory=True)[0].peak
    return {
        "services": size,
        "formulation": formulation,
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "solve [s]": statistics.median(whole for _, whole in runs),
        "building [s]": statistics.median(spent["building"]),
        "handing over [s]": statistics.median(spent["handing over"]),
        "share, median [%]": statistics.median(shares),
        "share, most [%]": max(shares),
        "memory [MiB]": peak,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.building")
    parser.add_argument("--sizes", default="20,100")
    parser.add_argument("--formulations", default="path,colgen")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--time-limit", type=float, default=30.0, help="of each solve [s]")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    arguments = parser.parse_args()
    for formulation in arguments.formulations.split(","):
        solve(generate(3, seed=1), formulation=formulation)  # imports
    rows = []
    for size in map(int, arguments.sizes.split(",")):
        for formulation in arguments.formulations.split(","):
            seeds = range(1000, 1000 + arguments.seeds)
            rows.append(row(size, seeds, formulation, arguments.time_limit))
    text = "\n".join(
        [
            "# What modelling costs",
            "",
            *header("benchmarks.building", arguments.time_limit),
            "",
            "*Building* is Pyomo's, *handing over* the transfer to HiGHS; their share is of the",
            "whole solve in processor time, which a limit may have ended. Memory: most that Python",
            "allocated while doing so.",
            "",
            table(rows),
        ]
    )
    print(text)
    if arguments.out is not None:
        write_atomically(arguments.out, text)


if __name__ == "__main__":
    main()
