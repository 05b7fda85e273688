"""Compare the exact method, CoDE and other solvers on generated instances.

    python -m benchmarks --sizes 2,5,10,20,50 --seeds 5 --time-limit 60 --out benchmarks/results

Writes ``results.csv`` (one row per run) and ``results.md`` (the tables, with commit,
versions, machine and protocol). See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.peers import PEERS, Answer
from code_opt.checker import check
from code_opt.files import write_atomically
from code_opt.generate import generate
from code_opt.instance import Instance
from code_opt.methods import Settings, solve
from code_opt.methods.assignment import Judge, make_result, path_in_pool
from code_opt.result import Result

FIRST_SEED = 1000
"""Seeds below it were used while tuning."""
GAP = 1e-4
OURS: dict[str, dict[str, str]] = {
    "exact (path)": {"method": "exact"},
    "exact (flow)": {"method": "exact", "formulation": "flow"},
    "CoDE": {"method": "code"},
    "greedy": {"method": "greedy"},
}
PACKAGES = ("highspy", "pyomo", "numpy", "scipy", "ortools", "pyscipopt")


def run_ours(options: dict[str, str], limit: float) -> Callable[[Instance], Result]:
    """Return a function that solves by one of our methods (checked inside)."""
    return lambda instance: solve(instance, time_limit=limit, gap=GAP, **options)


def run_peer(
    peer: Callable[[Instance, float, float], Answer], limit: float
) -> Callable[[Instance], Result]:
    """Return a function that solves by a peer, values its paths as ours and checks them."""

    def run(instance: Instance) -> Result:
        answer = peer(instance, GAP, limit)
        judge = Judge(answer.pool, Settings(gap=GAP))
        solution = None
        if answer.choice is not None:
            pairs = zip(answer.pool.tasks, answer.choice, strict=True)
            solution = judge.solution([path_in_pool(task, path) for task, path in pairs])
        status = "unknown" if solution is None else "feasible"
        result = make_result(judge, "peer", status, 0.0, solution, bound=answer.bound)
        violations = check(result, instance)
        if violations:
            raise RuntimeError(f"a peer's result does not pass the check: {violations}")
        return result

    return run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--sizes", default="2,5,10,20,50", help="services, comma-separated")
    parser.add_argument("--seeds", default="5", help="instances per size: one number, or a list")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds per solve")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    counts = [int(count) for count in arguments.seeds.split(",")]
    counts = counts * len(sizes) if len(counts) == 1 else counts
    methods = {name: run_ours(options, arguments.time_limit) for name, options in OURS.items()}
    missing = []
    for name, (peer, package) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            missing.append(f"{name} (needs {package})")
        else:
            methods[name] = run_peer(peer, arguments.time_limit)
    for run in methods.values():
        run(generate(2, seed=0))  # imports and first-use costs are nobody's solve time

    rows = []
    for size, count in zip(sizes, counts, strict=True):
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            instance = generate(size, seed=seed)
            for name, run in methods.items():
                start = time.perf_counter()
                result = run(instance)
                seconds = time.perf_counter() - start
                proven = result.gap is not None and result.gap <= GAP * (1 + 1e-6)
                rows.append((size, seed, name, seconds, result.reward, result.bound, proven))
                print(f"{size} services, seed {seed}, {name}: {seconds:.3f} s", file=sys.stderr)
    columns = ["services", "seed", "method", "seconds", "reward", "bound", "proven"]
    runs = pd.DataFrame(rows, columns=columns)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / "results.csv", runs.to_csv(index=False, float_format="%.9g"))
    text = report(runs, arguments.time_limit, missing)
    write_atomically(arguments.out / "results.md", text)
    print(text, end="")


def report(runs: pd.DataFrame, limit: float, missing: list[str]) -> str:
    """Return the tables of all runs as Markdown."""
    key = ["services", "seed"]
    best = runs.groupby(key)["reward"].max().rename("best")
    ours = runs[runs.method == "exact (path)"].set_index(key)["seconds"].rename("exact")
    runs = runs.join(best, on=key).join(ours, on=key)
    runs["loss"] = 1.0 - runs.reward.fillna(0.0) / runs.best
    runs["ratio"] = runs.seconds / runs.exact
    runs["gap"] = runs.bound / runs.reward - 1.0
    order = list(dict.fromkeys(runs.method))
    lines = [
        "# Benchmark of the exact method, CoDE and other solvers",
        "",
        *header("benchmarks", limit),
        "",
        "Times in seconds; *ratio* is the median over instances of the time divided by that of",
        "exact (path) on the same instance; *proven* counts gaps of 1e-4 reached within the limit;",
        "*loss* is relative to the best reward that any method found on the instance.",
        "",
    ]
    for size, group in runs.groupby("services"):
        lines += [
            f"## {size} services, {group.seed.nunique()} instances",
            "",
            "| method | median | max | ratio | proven | worst gap | median loss | worst loss |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for name in order:
            own = group[group.method == name]
            proves = bool(own.bound.notna().any())
            gap = f"{own.gap.max():.1e}" if proves else "–"
            proven = f"{int(own.proven.sum())}/{len(own)}" if proves else "–"
            lines.append(
                f"| {name} | {own.seconds.median():.3f} | {own.seconds.max():.3f} "
                f"| {own.ratio.median():.2f} | {proven} | {gap} "
                f"| {100 * own.loss.median():.3f} % | {100 * own.loss.max():.3f} % |"
            )
        lines.append("")
    if missing:
        lines += [f"Not run because not installed: {', '.join(missing)}.", ""]
    code = runs[(runs.method == "CoDE") & (runs.services >= 10)]
    if len(code):
        lines += [
            f"CoDE from 10 services on: loss {100 * code.loss.median():.3f} % at the median, "
            f"{100 * code.loss.max():.3f} % at worst; its time is 1/{1 / code.ratio.median():.1f} "
            "of the exact time at the median.",
            "",
        ]
    return "\n".join(lines)


def header(module: str, limit: float) -> list[str]:
    """Return what ran where."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} missing")
    command = f"python -m {module} " + shlex.join(sys.argv[1:])
    return [
        f"- commit {commit or 'unknown'}; Python {platform.python_version()}",
        f"- {', '.join(versions)}",
        f"- {platform.machine()}, {os.cpu_count()} cores; one thread per solver; limit {limit:g} s",
        f"- seeds from {FIRST_SEED} on; gap {GAP:g}; command `{command.strip()}`",
    ]


if __name__ == "__main__":
    main()
