"""Large neighbourhood search (lns) at every size: how far from the optimum, at what cost.

    python -m benchmarks.heuristic --out benchmarks/results/heuristic.md

Losses are against the exact method's optimum where it is proven, else against the bound that it
proved within its limit. Times are CPU seconds of the whole answer, labelling, rates and check
included; labelling also stands alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.__main__ import header
from benchmarks.ablation import table
from benchmarks.running import sizes_and_seeds
from code_opt.generate import generate
from code_opt.paths import build_pool
from code_opt.solving import solve


def run(size: int, seeds: range, limit: float) -> dict[str, object]:
    """Return the row of one size."""
    losses, seconds, labelling, ratios, turns, gaps = [], [], [], [], [], []
    proven = 0
    for seed in seeds:
        instance = generate(size, seed=seed)
        start = time.process_time()
        build_pool(instance)
        labelling.append(time.process_time() - start)
        start = time.process_time()
        found = solve(instance, "lns")
        seconds.append(time.process_time() - start)
        turns.append(int(found.details["stages"]))
        start = time.process_time()
        exact = solve(instance, time_limit=limit)
        ratios.append((time.process_time() - start) / seconds[-1])
        proven += exact.status == "optimal"
        best = exact.reward if exact.status == "optimal" else exact.bound
        assert found.reward is not None
        assert best is not None
        gaps.append(exact.gap or 0.0)
        losses.append(100.0 * max(0.0, 1.0 - found.reward / best))
    return {
        "services": size,
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "proven to 1e-4": f"{proven}/{len(seeds)}",
        "largest gap [%]": f"{100.0 * max(gaps):.2g}",
        "median loss [%]": statistics.median(losses),
        "worst [%]": max(losses),
        "median CPU [s]": statistics.median(seconds),
        "of it labelling [s]": statistics.median(labelling),
        "exact / lns CPU": f"{statistics.median(ratios):.3g}",
        "turns": statistics.median(turns),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--sizes", default="10:20,20:10,50:5,100:4,200:3,500:2,1000:2", help="services:seeds, ..."
    )
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--time-limit", type=float, default=60.0, help="of exact solves [s]")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    arguments = parser.parse_args()
    solve(generate(3, seed=1), "lns")  # imports
    solve(generate(3, seed=1))
    rows = []
    for size, seeds in sizes_and_seeds(arguments.sizes, arguments.first_seed):
        rows.append(run(size, seeds, arguments.time_limit))
        print(rows[-1], flush=True)
    opening = ["# Large neighbourhood search (lns) at every size", ""]
    opening += header("benchmarks.heuristic", arguments.time_limit)[:3]
    opening += [
        f"- seeds from {arguments.first_seed} on, none used for tuning; CPU time of one process",
        "",
        "Loss against the optimum where it is proven, else against the exact method's bound (so",
        "that part of it may be no loss). *exact / lns*: median ratio of CPU times; exact's start",
        "from lns counts, and a limit that stopped it ends its time.",
    ]
    text = "\n".join([*opening, "", ""]) + table(rows)
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
