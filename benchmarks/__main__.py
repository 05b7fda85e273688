"""Compare the exact method, the heuristics and other solvers on generated instances.

    python -m benchmarks                 # everything; --plan says how long that can take
    python -m benchmarks --quick         # up to 50 services, minutes
    python -m benchmarks --sizes 2,5,10 --seeds 5 --time-limit 60

Writes ``results.csv`` (one row per run), ``results.md`` (the tables, with commit, versions,
machine and protocol) and ``profile.svg`` and ``.png`` (performance profiles). See README.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.contenders import GAPS, HEURISTICS, contenders, missing
from benchmarks.plots import performance_profiles
from benchmarks.report import FIRST_SEED, header, report
from benchmarks.running import PUBLISHED, Step, instance_file, run_apart, steps_of
from code_opt.files import write_atomically
from code_opt.generate import FAMILIES, PLAIN

FULL = (
    Step(2, 5, 20.0),
    Step(5, 5, 20.0),
    Step(10, 5, 30.0),
    Step(20, 5, 60.0),
    Step(50, 5, 120.0),
    Step(100, 3, 180.0),
    Step(300, 2, 300.0),
    Step(1000, 1, 600.0),
)
QUICK = (Step(2, 2, 5.0), Step(5, 2, 5.0), Step(10, 2, 10.0), Step(20, 2, 10.0), Step(50, 1, 20.0))
KNOWN = (*FAMILIES, *PUBLISHED)
"""Families of generated instances, and published ones."""
HEURISTIC_LIMIT = 60.0
OVERHEAD = 4.0
"""Seconds of a process beside its solve: starting, importing, warming up."""
COLUMNS = [
    *("family", "services", "seed", "method", "limit", "status", "reward", "bound", "gap"),
    *("cpu", "wall", *(f"cpu to {gap:g}" for gap in GAPS), "peak", "base"),
    *("nodes", "paths_in_pool"),
]


def most_seconds(steps: tuple[Step, ...], families: list[str], methods: list[str]) -> float:
    """Return how long the runs can take if every one uses its limit."""
    heuristics = sum(method in HEURISTICS for method in methods)
    provers = len(methods) - heuristics
    return sum(
        step.instances
        * (
            provers * (step.limit + OVERHEAD)
            + heuristics * (min(step.limit, HEURISTIC_LIMIT) + OVERHEAD)
        )
        for family in families
        for step in steps_of(family, steps)
    )


def within(
    steps: tuple[Step, ...], families: list[str], methods: list[str], hours: float
) -> tuple[Step, ...]:
    """Return the steps with limits cut alike, so that the runs take at most so many hours."""

    def cut(share: float) -> tuple[Step, ...]:
        return tuple(replace(step, limit=share * step.limit) for step in steps)

    least, most = 0.0, 1.0
    for _ in range(40):
        share = (least + most) / 2
        if most_seconds(cut(share), families, methods) > 3600.0 * hours:
            most = share
        else:
            least = share
    found = tuple(replace(step, limit=math.floor(10 * step.limit) / 10) for step in cut(most))
    if min(step.limit for step in found) <= 0.0:
        start = most_seconds(cut(0.0), families, methods)
        raise SystemExit(f"--hours {hours:g} is too little: starting alone takes {start:.0f} s")
    return found


def run_all(
    steps: tuple[Step, ...], families: list[str], methods: list[str], out: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Run everything; return the rows and what was left out. The rows so far are kept on disk."""
    rows: list[dict[str, Any]] = []
    notes = []
    for family in families:
        left = list(methods)
        own_steps = steps_of(family, steps)
        for step in own_steps:
            before = len(rows)
            for seed in range(FIRST_SEED, FIRST_SEED + step.instances):
                with instance_file(family, step.services, seed) as path:
                    for name in left:
                        limit = step.limit
                        if name in HEURISTICS:
                            limit = min(limit, HEURISTIC_LIMIT)
                        found = run_apart(name, path, limit)
                        rows.append(
                            {
                                "family": family,
                                "services": step.services,
                                "seed": seed,
                                "method": name,
                                "limit": step.limit,
                                **found,
                            }
                        )
                        cpu = f"{found['cpu']:.2f} s" if "cpu" in found else ""
                        told = f"{family} {step.services}, seed {seed}, {name}: {found['status']}"
                        print(told, cpu, file=sys.stderr, flush=True)
                        table = pd.DataFrame(rows).reindex(columns=COLUMNS)
                        text = table.to_csv(index=False, float_format="%.9g")
                        write_atomically(out / "results.csv", text)
            fresh = pd.DataFrame(rows[before:]).reindex(columns=COLUMNS)
            for name in [n for n in left if n not in HEURISTICS]:
                own = fresh[fresh.method == name]
                if own[f"cpu to {GAPS[0]:g}"].isna().all() and step is not own_steps[-1]:
                    left.remove(name)
                    notes.append(
                        f"{name} on more than {step.services} services ({family}): it proved "
                        f"{GAPS[0]:g} on none of {step.services}"
                    )
    return pd.DataFrame(rows).reindex(columns=COLUMNS), notes


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes, short limits")
    parser.add_argument("--plan", action="store_true", help="say how long it can take, run nothing")
    parser.add_argument("--hours", type=float, help="cut all limits so that it takes no longer")
    parser.add_argument("--sizes", help="services, comma-separated, instead of the usual ones")
    parser.add_argument("--seeds", default="5", help="with --sizes: one number, or one per size")
    parser.add_argument("--time-limit", type=float, default=60.0, help="with --sizes: seconds")
    parser.add_argument("--families", default=PLAIN, help=f"of {', '.join(KNOWN)}")
    parser.add_argument("--methods", help="comma-separated, instead of all")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    steps = QUICK if arguments.quick else FULL
    if arguments.sizes:
        sizes = [int(size) for size in arguments.sizes.split(",")]
        counts = [int(count) for count in arguments.seeds.split(",")]
        counts = counts * len(sizes) if len(counts) == 1 else counts
        steps = tuple(
            Step(size, count, arguments.time_limit)
            for size, count in zip(sizes, counts, strict=True)
        )
    families = arguments.families.split(",")
    methods = arguments.methods.split(",") if arguments.methods else list(contenders())
    for given, known in ((families, KNOWN), (methods, contenders())):
        unknown = sorted(set(given) - set(known))
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if arguments.hours is not None:
        steps = within(steps, families, methods, arguments.hours)
    runs = len(methods) * sum(
        step.instances for family in families for step in steps_of(family, steps)
    )
    most = most_seconds(steps, families, methods)
    print(f"{runs} runs, at most {most / 3600:.2f} h if all use their limits", file=sys.stderr)
    for step in steps:
        print(f"  {step.services} services: {step.instances} x {step.limit:g} s", file=sys.stderr)
    if arguments.plan:
        return
    out = arguments.out or Path("benchmarks/results") / ("quick" if arguments.quick else ".")
    out.mkdir(parents=True, exist_ok=True)
    table, notes = run_all(steps, families, methods, out)
    if not arguments.methods:
        notes += missing()
    text = report(table, header("benchmarks", None), notes)
    performance_profiles(table, out / "profile")
    write_atomically(out / "results.md", text)
    print(text, end="")


if __name__ == "__main__":
    main()
