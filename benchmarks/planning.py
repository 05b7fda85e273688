"""How good the planning heuristic is, and how far plans for uncertain demand are proven.

    python -m benchmarks.planning --out benchmarks/results/planning.md

The heuristic's cost against the proven one (or, where the time limit came first, against the
bound) on generated services, at several growth factors and limits of loss; then the gaps of the
four plans for three scenarios of `benchmarks.savings`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.__main__ import header
from benchmarks.ablation import table
from benchmarks.running import sizes_and_seeds
from benchmarks.savings import EDGES, SCENARIOS
from code_opt import PlanSettings, parse_scenarios, plan_scenarios
from code_opt.files import write_atomically
from code_opt.generate import generate
from code_opt.planning import plan_least_cost

UNIT = 1e11


def heuristic_row(
    size: int, seeds: range, growth: list[float], losses: list[float], settings: PlanSettings
) -> dict[str, object]:
    """Return the excess of the heuristic's cost over all plans of one size."""
    excess, units, seconds = [], [], []
    proven = total = missed = 0
    for seed in seeds:
        plan = plan_least_cost(
            generate(size, seed=seed, limited_demand=1.0),
            settings,
            growth=growth,
            max_loss=losses,
            coordinations=("full",),
        )
        rows = plan.table("summary").records()
        for exact, quick in zip(rows[::2], rows[1::2], strict=True):
            if exact["cost"] is None:
                continue
            total += 1
            if quick["cost"] is None:
                missed += 1
                continue
            is_proven = exact["status"] == "optimal"
            proven += is_proven
            least = exact["cost"] if is_proven else exact["bound"]
            units.append(quick["cost"] - least)
            if least > 0.0:
                excess.append(100.0 * (quick["cost"] / least - 1.0))
            seconds.append(quick["seconds"])
    return {
        "services": size,
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "plans": total,
        "proven": proven,
        "none found": missed,
        "median excess [%]": statistics.median(excess) if excess else 0.0,
        "worst [%]": max(excess, default=0.0),
        "worst [units]": max(units, default=0.0),
        "median time [s]": statistics.median(seconds) if seconds else 0.0,
        "longest [s]": max(seconds, default=0.0),
    }


def scenario_rows(name: str, time_limit: float) -> list[dict[str, object]]:
    """Return cost, bound and gap of the four plans of one edge of `benchmarks.savings`."""
    (edge,) = (e for e in EDGES if e.name == name)
    instance = edge.make()
    crowd = "".join(f"skewed,,{task.id},,2.5\n" for task in instance.tasks[:30:3])
    settings = PlanSettings(unit_flops=edge.unit_flops, time_limit=time_limit)
    plan = plan_scenarios(instance, parse_scenarios(SCENARIOS + crowd), settings, max_loss=2.0)
    return [
        {
            "edge": name,
            "variant": row["variant"],
            "status": row["status"],
            "cost": row["cost"],
            "bound": row["bound"],
            "gap [%]": None if row["gap"] is None else 100.0 * row["gap"],
            "time [s]": row["seconds"],
        }
        for row in plan.table("summary").records()
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning")
    parser.add_argument("--sizes", default="2:5,5:5,10:3,20:2,50:1", help="services:seeds, ...")
    parser.add_argument("--first-seed", type=int, default=4000)
    parser.add_argument("--growth", default="1,2,3")
    parser.add_argument("--losses", default="0,2,5", help="points of average accuracy")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds per program")
    parser.add_argument("--edges", default="plain,metro", help="edges of the scenarios")
    parser.add_argument("--out", type=Path, help="write the page to this file, too")
    arguments = parser.parse_args()
    growth = [float(x) for x in arguments.growth.split(",")]
    losses = [float(x) for x in arguments.losses.split(",")]
    settings = PlanSettings(unit_flops=UNIT, time_limit=arguments.time_limit)
    began = time.perf_counter()
    quick, uncertain = [], []
    for size, seeds in sizes_and_seeds(arguments.sizes, arguments.first_seed):
        quick.append(heuristic_row(size, seeds, growth, losses, settings))
        print(quick[-1], flush=True)
    for name in filter(None, arguments.edges.split(",")):
        uncertain += scenario_rows(name, arguments.time_limit)
        print(uncertain[-4:], flush=True)
    command = f"python -m benchmarks.planning --sizes {arguments.sizes}"
    command += f" --first-seed {arguments.first_seed} --growth {arguments.growth}"
    command += f" --losses {arguments.losses} --time-limit {arguments.time_limit:g}"
    command += f" --edges {arguments.edges}"
    lines = ["# Planning: the heuristic, and plans for uncertain demand", ""]
    lines += header("benchmarks.planning", arguments.time_limit)[:3]
    lines += [
        f"- {time.perf_counter() - began:.0f} s in all; command `{command}`",
        "",
        "## The heuristic",
        "",
        f"Generated services of the family `plain`, units of {UNIT / 1e9:g} GFLOP/s, growth",
        f"{arguments.growth}, at most {arguments.losses} points lost. Excess over the proven cost,",
        "or over the bound where the limit came first; plans that cost nothing have no share.",
        "",
    ]
    text = "\n".join(lines) + "\n" + table(quick)
    if uncertain:
        text += "\n## Three scenarios\n\n50 services, at most 2 points lost, 95 % served.\n\n"
        text += table(uncertain)
    print(text, end="")
    if arguments.out:
        write_atomically(arguments.out, text)


if __name__ == "__main__":
    main()
