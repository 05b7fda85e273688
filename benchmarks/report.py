"""Tables of a benchmark's runs, as Markdown, with what ran where."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.contenders import GAP, GAPS, HEURISTICS

FIRST_SEED = 1000
"""Seeds below it were used while tuning."""
FLOOR = "plain highspy"
"""What our overhead is measured against."""
PACKAGES = ("highspy", "pyomo", "numpy", "scipy", "ortools", "pyscipopt")


def header(module: str, limit: float | None) -> list[str]:
    """Return what ran where."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} missing")
    command = f"python -m {module} " + shlex.join(_without_place(sys.argv[1:]))
    limits = "limits below" if limit is None else f"limit {limit:g} s"
    return [
        f"- commit {commit()}; Python {platform.python_version()}",
        f"- {', '.join(versions)}",
        f"- {machine()}; one thread per solver; {limits}",
        f"- seeds from {FIRST_SEED} on; gap {GAP:g}; command `{command.strip()}`",
    ]


def commit() -> str:
    """Return the commit that runs, and whether it has changes."""
    dirty = _git("status", "--porcelain", "--untracked-files=no")
    found = _git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{found} with changes" if dirty else found


def _without_place(arguments: list[str]) -> list[str]:
    """Return a command's arguments without where it wrote to."""
    kept = list(arguments)
    if "--out" in kept:
        at = kept.index("--out")
        del kept[at : at + 2]
    return kept


def machine() -> str:
    """Return the processor, the number of its cores and the memory."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False
    ).stdout.strip()


def report(runs: pd.DataFrame, opening: Sequence[str], notes: Sequence[str]) -> str:
    """Return all tables of a benchmark.

    Args:
        runs: one row per run: family, services, seed, method, limit, status, reward, bound,
            gap, cpu, wall, ``cpu to GAP`` for each gap, peak, base.
        opening: what ran where.
        notes: what was left out.
    """
    runs = with_best(runs)
    lines = [
        "# Benchmark: time and memory to a proven gap",
        "",
        *opening,
        "",
        "Every solve runs in a process of its own. Times are CPU seconds from before the instance",
        "is read to the checked result; limits are wall-clock seconds. Each cell: the median over",
        "the instances, and on how many of them the gap was proven; `>` where the limit came first",
        "on half of them or more. A method that proved 1e-2 on no instance of a size is not run on",
        "larger ones (–).",
        "",
    ]
    for family, group in runs.groupby("family", sort=False):
        lines += [f"## Family {family}", "", *_plan(group), ""]
        provers = group[~group.method.isin(HEURISTICS)]
        for gap in GAPS:
            lines += [f"### CPU seconds to a proven gap of {gap:g}", ""]
            lines += _pivot(provers, lambda own, gap=gap: _time_cell(own, gap))
        ratios = _against_floor(provers)
        if ratios:
            lines += [f"### CPU seconds to {GAPS[-1]:g} over those of {FLOOR}, per instance", ""]
            lines += [
                "The median; `<` where the limit stopped the floor on half of the instances or",
                "more, its time until then being taken; `>` where it stopped the method.",
                "",
                *ratios,
            ]
        lines += ["### Gap at the end (median), proven", ""]
        lines += _pivot(provers, lambda own: _number(own.gap.fillna(math.inf).median(), "{:.1e}"))
        lines += ["### Peak memory of the process [MiB] (largest)", ""]
        lines += _pivot(group, lambda own: _number(own.peak.max(), "{:.0f}"))
        base = group.base.median()
        lines[-1:] = ["", f"Of that, {base:.0f} MiB are Python and its modules (median).", ""]
        lines += [
            "### Heuristics: CPU seconds (median), gap to the best bound of anyone (worst)",
            "",
        ]
        lines += _pivot(group[group.method.isin(HEURISTICS)], _heuristic_cell)
    if notes:
        lines += ["## Not run", "", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines)


def _against_floor(runs: pd.DataFrame) -> list[str]:
    """Return the table of our times over the floor's, where it ran (empty if nowhere)."""
    column = f"cpu to {GAPS[-1]:g}"
    key = ["services", "seed"]
    floor = runs[runs.method == FLOOR].set_index(key)
    floor = floor[[column, "cpu"]].add_suffix(" floor")
    own = runs[runs.method.str.startswith("exact")].join(floor, on=key, how="inner")
    if own.empty:
        return []
    stopped = own[f"{column} floor"].isna()
    # The worker's CPU time until the limit bounds the floor's time from below.
    time = own[f"{column} floor"].fillna(own["cpu floor"])
    own = own.assign(ratio=own[column] / time, stopped=stopped)
    return _pivot(own, _ratio_cell)


def _ratio_cell(own: pd.DataFrame) -> str:
    median = own.ratio.fillna(math.inf).median()
    if math.isinf(median):
        return ">"
    sign = "< " if own.stopped.mean() >= 0.5 else ""
    return sign + _number(median, "{:.2g}")


def with_best(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with the gap of their reward to the least bound that anyone proved."""
    key = ["family", "services", "seed"]
    best = runs.groupby(key)["bound"].min().rename("best bound")
    runs = runs.join(best, on=key)
    runs["gap to best"] = (runs["best bound"] / runs["reward"] - 1.0).clip(lower=0.0)
    return runs


def _plan(runs: pd.DataFrame) -> list[str]:
    rows = []
    for size, own in runs.groupby("services"):
        seeds = sorted(own.seed.unique())
        span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        rows.append(f"| {size} | {len(seeds)} | {span} | {own.limit.max():g} |")
    return ["| services | instances | seeds | limit [s] |", "|--:|--:|--:|--:|", *rows]


def _pivot(runs: pd.DataFrame, cell) -> list[str]:
    """Return a table of methods by size."""
    sizes = sorted(runs.services.unique())
    lines = [
        "| services | " + " | ".join(map(str, sizes)) + " |",
        "|---" + "|--:" * len(sizes) + "|",
    ]
    for method in dict.fromkeys(runs.method):
        cells = []
        for size in sizes:
            own = runs[(runs.method == method) & (runs.services == size)]
            cells.append(cell(own) if len(own) else "–")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _time_cell(own: pd.DataFrame, gap: float) -> str:
    times = own[f"cpu to {gap:g}"]
    count = f"{times.notna().sum()}/{len(own)}"
    median = times.fillna(math.inf).median()
    if math.isinf(median):
        return f"> ({count})"
    return f"{_number(median, '{:.3g}')} ({count})"


def _heuristic_cell(own: pd.DataFrame) -> str:
    loss = own["gap to best"].max()
    worst = "nothing proven" if pd.isna(loss) else f"{100 * loss:.2f} %"
    return f"{_number(own.cpu.median(), '{:.3g}')}, {worst}"


def _number(value: float, form: str) -> str:
    return "–" if value is None or pd.isna(value) or math.isinf(value) else form.format(value)
