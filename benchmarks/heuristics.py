"""The two heuristics side by side: reward, CPU seconds, paths predicted and measured.

    python -m benchmarks.heuristics

Every data set of ``data/`` and every family of generated edges is solved by ``exact``, ``lns`` and
``code``. Losses are against the exact method's optimum, or its bound where a limit came first.
Writes ``docs/heuristics.md``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.__main__ import header
from benchmarks.running import ROOT
from code_opt import Result, load_instance, solve
from code_opt.files import write_atomically
from code_opt.generate import FAMILIES, PLAIN, EdgeOptions, generate, generate_edge
from code_opt.instance import Instance

DATA = (
    "two-services.json",
    "measured-overturn.json",
    "one-provider.json",
    "shared-input.json",
    "four-sites-csv",
    "metro-links.json",
    "digits/instance.json",
    "alexnet-mobilenet/balanced.json",
    "alexnet-mobilenet/instance.json",
    "alexnet-mobilenet/uneven.json",
    "three-services/instance.json",
    "one-camera/instance.json",
)
METHODS = ("lns", "code")
OPENING = """
Both predict accuracies and measure a few percent of the paths; [methods.md](methods.md) says how.
**`lns`** is near the optimum at any size, since it moves several services together and sees all of
their paths: take it where an assignment is wanted. **`code`** is the paper's procedure: one service
moves at a time, stage by stage, from its native path. It ends where no single service gains by
moving alone, which may be far from the optimum where services would have to exchange capacity. Take
it to see what the published procedure reaches.

- *loss*: share of the reward that is missing to the optimum, or to the exact method's bound where a
  limit came first (*proven* says how often there was an optimum)
- *predicted*, *measured*: paths whose accuracy was predicted, and asked for, each once (native
  paths count with `lns`, which asks for all that it takes)
- *CPU*: seconds of the whole answer, check included
"""


def instance_of(family: str, services: int, seed: int) -> Instance:
    """Return a generated instance."""
    if family == PLAIN:
        return generate(services, seed=seed)
    return generate_edge(EdgeOptions(family, services, seed=seed))


def timed(instance: Instance, method: str, limit: float | None = None) -> tuple[Result, float]:
    """Return a method's result and its CPU seconds."""
    start = time.process_time()
    result = solve(instance, method, time_limit=limit)
    return result, time.process_time() - start


def cells(instances: list[Instance], limit: float) -> list[str]:
    """Return the cells of a row: medians over the instances, and the worst loss."""
    proven, paths = 0, []
    found: dict[str, list[tuple[float, float, float, float]]] = {m: [] for m in METHODS}
    for instance in instances:
        exact, _ = timed(instance, "exact", limit)
        proven += exact.status == "optimal"
        best = exact.reward if exact.status == "optimal" else exact.bound
        assert best is not None
        for method in METHODS:
            result, seconds = timed(instance, method)
            details = result.details
            loss = 100.0 * max(0.0, 1.0 - (result.reward or 0.0) / best)
            counts = float(details["paths_predicted"] or 0), float(details["paths_measured"] or 0)
            found[method].append((loss, seconds, *counts))
        paths.append(float(details["paths"] or 0))
    row = [f"{proven}/{len(instances)}", f"{statistics.median(paths):,.0f}"]
    for method in METHODS:
        losses, seconds, predicted, measured = zip(*found[method], strict=True)
        loss = f"{statistics.median(losses):.2f}"
        if len(instances) > 1:
            loss += f" ({max(losses):.2f})"
        row += [loss, f"{statistics.median(seconds):.2g}"]
        row += [f"{statistics.median(predicted):,.0f}", f"{statistics.median(measured):,.0f}"]
    return row


def table(first: str, rows: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    names = [
        f"{m}, {what}" for m in METHODS for what in ("loss [%]", "CPU", "predicted", "measured")
    ]
    columns = [first, "proven", "paths", *names]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'--:|' * (len(columns) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heuristics")
    parser.add_argument("--sizes", default="5,10,20,50,100", help="services of generated edges")
    parser.add_argument("--seeds", type=int, default=5, help="instances of each size")
    parser.add_argument("--first-seed", type=int, default=4000)
    parser.add_argument("--time-limit", type=float, default=30.0, help="of exact solves [s]")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "heuristics.md")
    arguments = parser.parse_args()
    for method in ("exact", *METHODS):
        solve(generate(3, seed=1), method)  # imports
    limit = arguments.time_limit
    data = [[name, *cells([load_instance(ROOT / "data" / name)], limit)] for name in DATA]
    generated = []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for family in FAMILIES:
        for size in map(int, arguments.sizes.split(",")):
            instances = [instance_of(family, size, seed) for seed in seeds]
            generated.append([f"{family}, {size}", *cells(instances, limit)])
            print(generated[-1], flush=True)
    lines = ["# The two heuristics side by side", *OPENING.splitlines(), ""]
    lines += header("benchmarks.heuristics", limit)[:3]
    lines += ["", "## Data sets", "", *table("data/", data), ""]
    lines += [
        f"## Generated edges, seeds {seeds[0]} to {seeds[-1]}",
        "",
        "Medians over the seeds, the worst loss in brackets; no seed was used for tuning.",
        "",
        *table("family, services", generated),
        "",
    ]
    write_atomically(arguments.out, "\n".join(lines))


if __name__ == "__main__":
    main()
