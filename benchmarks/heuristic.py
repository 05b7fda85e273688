"""CoDE's heuristic at every size: how far from the optimum, at what cost.

    python -m benchmarks.heuristic --out benchmarks/results/heuristic.md

Up to the largest size for which exact solves are asked for, losses are against the proven
optimum (or, where a limit stopped it, the proven bound); above it against the bound of the
relaxation, which lies about 2 % above the optimum at every size. Times are CPU seconds of
the whole answer, labelling, rates and check included; labelling also stands alone.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path

from benchmarks.__main__ import header
from benchmarks.ablation import table
from code_opt.generate import generate
from code_opt.instance.model import Instance
from code_opt.methods import Settings, solve
from code_opt.methods.assignment import Judge
from code_opt.methods.local_search import Searcher
from code_opt.methods.prices import PriceMaster
from code_opt.methods.settings import Clock
from code_opt.paths import build_pool


def relaxation(instance: Instance) -> float:
    """Return the bound of the reward that the prices of the relaxation prove."""
    work = Searcher(Judge(build_pool(instance), Settings()))
    market = PriceMaster(work.judge, work)
    market.converge(Clock(None))
    return math.exp(market.bound()[0])


def run(size: int, seeds: list[int], exactly: bool, limit: float) -> dict[str, object]:
    """Return the row of one size."""
    losses, seconds, labelling, ratios, turns = [], [], [], [], []
    proven = 0
    for seed in seeds:
        instance = generate(size, seed=seed)
        start = time.process_time()
        build_pool(instance)
        labelling.append(time.process_time() - start)
        start = time.process_time()
        code = solve(instance, "code")
        seconds.append(time.process_time() - start)
        assert code.reward is not None
        turns.append(int(code.details["stages"]))
        if exactly:
            start = time.process_time()
            exact = solve(instance, time_limit=limit)
            ratios.append((time.process_time() - start) / seconds[-1])
            is_proven = exact.status == "optimal"
            proven += is_proven
            best = exact.reward if is_proven else exact.bound
            assert best is not None
        else:
            best = relaxation(instance)
        losses.append(100.0 * (1.0 - code.reward / best))
    return {
        "services": size,
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "against": f"optimum ({proven}/{len(seeds)} proven)" if exactly else "relaxation",
        "median loss [%]": statistics.median(losses),
        "worst [%]": max(losses),
        "median CPU [s]": statistics.median(seconds),
        "of it labelling [s]": statistics.median(labelling),
        "exact / CoDE CPU": f"{statistics.median(ratios):.3g}" if ratios else "",
        "turns": statistics.median(turns),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--sizes", default="10:20,20:10,50:3,100:4,200:4,500:2,1000:3", help="services:seeds, ..."
    )
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--exact-up-to", type=int, default=50)
    parser.add_argument("--time-limit", type=float, default=60.0, help="of exact solves [s]")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    arguments = parser.parse_args()
    solve(generate(3, seed=1), "code")  # imports
    solve(generate(3, seed=1))
    rows = []
    for pair in arguments.sizes.split(","):
        size, count = map(int, pair.split(":"))
        seeds = list(range(arguments.first_seed, arguments.first_seed + count))
        rows.append(run(size, seeds, size <= arguments.exact_up_to, arguments.time_limit))
        print(rows[-1], flush=True)
    opening = ["# CoDE's heuristic at every size", ""]
    opening += header("benchmarks.heuristic", arguments.time_limit)[:3]
    opening += [
        f"- seeds from {arguments.first_seed} on, none used for tuning; CPU time of one process",
        "",
        "Loss against the optimum where it is proven, else against the bound named; the",
        "relaxation lies about 2 % above the optimum at every size, so most of a distance to it is",
        "not a loss. *exact / CoDE*: median ratio of CPU times; exact's start from CoDE counts.",
    ]
    text = "\n".join([*opening, "", ""]) + table(rows)
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
