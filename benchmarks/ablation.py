"""What each part of the exact method is worth: the same instances with one part left out.

    python -m benchmarks.ablation --sizes 10,20 --seeds 1000:1006

    python -m benchmarks.ablation --formulation colgen --sizes 50,100,300 --seeds 1000:1003

Every variant proves the same gap; only time and counts differ. The seeds are held out from
tuning. Times are seconds of the processor, and their ratios are of medians within one run,
since a shared machine drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.__main__ import header
from code_opt.core.master import RestrictedMaster
from code_opt.exact import method as exact
from code_opt.exact.colgen import ColumnGeneration
from code_opt.generate import generate
from code_opt.heuristics.search import SearchOutcome
from code_opt.result import Result
from code_opt.solvers.highs import HighsSession
from code_opt.solving import solve

Variant = Callable[[], contextlib.AbstractContextManager[dict[str, Any]]]

HIGHS_DEFAULTS = {
    "mip_heuristic_effort": 0.05,
    "mip_heuristic_run_rins": True,
    "mip_heuristic_run_rens": True,
    "mip_heuristic_run_root_reduced_cost": True,
    "mip_heuristic_run_feasibility_jump": True,
    "mip_allow_restart": True,
}


@contextlib.contextmanager
def without_start() -> Iterator[dict[str, Any]]:
    """No assignment from ``lns`` (and so no binaries fixed by it either)."""
    nothing = SearchOutcome()
    with mock.patch.object(exact, "search", return_value=nothing):
        yield {}


@contextlib.contextmanager
def without_fixing() -> Iterator[dict[str, Any]]:
    """No binaries fixed by reduced costs."""
    with mock.patch.object(HighsSession, "tighten", return_value=(0, 0)):
        yield {}


@contextlib.contextmanager
def highs_defaults() -> Iterator[dict[str, Any]]:
    """HiGHS' own searches for solutions and restarts left on."""
    yield {"solver_options": HIGHS_DEFAULTS}


@contextlib.contextmanager
def flow() -> Iterator[dict[str, Any]]:
    """The flow formulation in place of the path formulation."""
    yield {"formulation": "flow"}


@contextlib.contextmanager
def complete() -> Iterator[dict[str, Any]]:
    """Everything in place."""
    yield {}


def without(name: str, nothing: Callable[..., Any]) -> Variant:
    """Return the variant of column generation in which a step does nothing."""

    @contextlib.contextmanager
    def variant() -> Iterator[dict[str, Any]]:
        with mock.patch.object(ColumnGeneration, name, nothing):
            yield {}

    return variant


@contextlib.contextmanager
def without_leaving_out() -> Iterator[dict[str, Any]]:
    """No paths left out by reduced costs over the pool."""
    with mock.patch.object(RestrictedMaster, "leave_out", return_value=None):
        yield {}


@contextlib.contextmanager
def path() -> Iterator[dict[str, Any]]:
    """The path formulation in place of column generation."""
    yield {"formulation": "path"}


VARIANTS: dict[str, dict[str, Variant]] = {
    "path": {
        "complete": complete,
        "HiGHS' heuristics and restarts on": highs_defaults,
        "no binaries fixed": without_fixing,
        "no start, nothing fixed": without_start,
        "flow formulation": flow,
    },
    "colgen": {
        "complete": complete,
        "no cuts": without("_cut", lambda *_: 0),
        "no paths left out": without_leaving_out,
        "no dive": without("_dive", lambda *_: None),
        "no restricted programs": without("_restricted_programs", lambda *_: None),
        "no start from lns": without_start,
        "path formulation": path,
    },
}
"""Of each formulation, what is left out or put in its place."""


def run(formulation: str, sizes: list[int], seeds: list[int], limit: float) -> list[dict[str, Any]]:
    """Return one row per size and variant."""
    rows = []
    variants = VARIANTS[formulation]
    for size in sizes:
        times: dict[str, list[float]] = {name: [] for name in variants}
        results: dict[str, list[Result]] = {name: [] for name in variants}
        for seed in seeds:
            instance = generate(size, seed=seed)
            for name, variant in variants.items():
                with variant() as options:
                    start = time.process_time()
                    chosen = {"formulation": formulation, **options}
                    results[name].append(solve(instance, time_limit=limit, **chosen))
                    times[name].append(time.process_time() - start)
        base = statistics.median(times["complete"])
        # The best that any variant found is the value that all root bounds are set beside.
        best = [max(r.reward or 0.0 for r in each) for each in zip(*results.values(), strict=True)]
        for name in variants:
            found = results[name]
            roots = [
                100.0 * (float(r.details["root_bound"]) / value - 1.0)
                for r, value in zip(found, best, strict=True)
                if r.details.get("root_bound")
            ]
            gaps = [100.0 * r.gap if r.gap is not None else float("inf") for r in found]
            rows.append(
                {
                    "services": size,
                    "variant": name,
                    "median [s]": statistics.median(times[name]),
                    "max [s]": max(times[name]),
                    "times complete": statistics.median(times[name]) / base,
                    "proven": f"{sum(r.status == 'optimal' for r in found)}/{len(found)}",
                    "worst gap [%]": max(gaps),
                    "root above best [%]": statistics.median(roots) if roots else "–",
                    "nodes (median)": statistics.median(
                        int(r.details.get("nodes") or 0) for r in found
                    ),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--formulation", default="path", choices=list(VARIANTS))
    parser.add_argument("--sizes", default="10,20")
    parser.add_argument("--seeds", default="1000:1006", help="first:last+1")
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split(":"))
    sizes = [int(size) for size in arguments.sizes.split(",")]
    opening = ["# What each part of the exact method is worth", ""]
    opening += header("benchmarks.ablation", arguments.time_limit)
    text = "\n".join([*opening, "", ""])
    seeds = list(range(first, last))
    text += table(run(arguments.formulation, sizes, seeds, arguments.time_limit))
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
