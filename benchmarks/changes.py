"""Few changes at size: whole fronts of reward against changes, and single steps of large edges.

    python -m benchmarks.changes --out benchmarks/results/changes.md

Yesterday: edges of `code_opt.generate` (hub-and-spoke, links, limits of latency) as `exact`
(fronts) or `lns` (steps) solves them. Today: demand is 20 % up, and the server that was busiest,
of several the largest, has half its devices' speed. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.ablation import table
from benchmarks.report import commit, machine
from code_opt import Instance, Result, changes_front, solve
from code_opt.generate import EdgeOptions, generate_edge

GROWTH = 1.2


def yesterday_and_today(services: int, seed: int, method: str) -> tuple[Result, Instance]:
    """Return the result of yesterday and the instance of today."""
    edge = generate_edge(
        EdgeOptions("hub-and-spoke", services, seed=seed, links=True, latency=True)
    )
    before = solve(edge, method)
    busiest = max(before.servers, key=lambda row: (round(row.utilization, 6), row.capacity or 0.0))
    grown = tuple(
        task if task.demand is None else task.model_copy(update={"demand": GROWTH * task.demand})
        for task in edge.tasks
    )
    servers = tuple(
        server.model_copy(update={"flops": (server.flops or 0.0) / 2.0})
        if server.id == busiest.server
        else server
        for server in edge.servers
    )
    return before, edge.replace(tasks=grown, servers=servers)


def front(services: int, seed: int) -> dict[str, object]:
    """Return the row of a front, every point proven to 1e-4."""
    before, today = yesterday_and_today(services, seed, "exact")
    start = time.process_time()
    found = changes_front(today, before)
    used = time.process_time() - start
    none, first, last = (found[min(k, len(found) - 1)].reward for k in (0, 1, len(found) - 1))
    gains = ["–", "–"] if not none else [100.0 * ((x or 0.0) / none - 1.0) for x in (first, last)]
    return {
        "services": services,
        "seed": seed,
        "most changes": len(found) - 1,
        "proven": f"{sum(r.status == 'optimal' for r in found)}/{len(found)}",
        "first change [%]": gains[0],
        "all changes [%]": gains[1],
        "front [CPU s]": used,
    }


def step(services: int, seed: int, changes: int, gap: float, limit: float) -> dict[str, object]:
    """Return the row of one step with at most so many changes."""
    before, today = yesterday_and_today(services, seed, "lns")
    start = time.process_time()
    result = solve(today, previous=before, max_changes=changes, gap=gap, time_limit=limit)
    return {
        "services": services,
        "seed": seed,
        "K": changes,
        "status": result.status,
        "gap": "–" if result.gap is None else f"{result.gap:.2g}",
        "changes": "–" if result.changes is None else result.changes,
        "step [CPU s]": time.process_time() - start,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fronts", default="10,20,40", help="services of the fronts")
    parser.add_argument("--steps", default="100,300,1000", help="services of the steps")
    parser.add_argument("--changes", type=int, default=20, help="K of the steps")
    parser.add_argument("--gap", type=float, default=1e-3, help="gap of the steps")
    parser.add_argument("--seeds", default="1", help="seeds, by commas")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds of a step")
    parser.add_argument("--out", type=Path, help="write the tables to this file, too")
    asked = parser.parse_args()
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    solve(generate_edge(EdgeOptions("hub-and-spoke", 4)))  # imports and the like
    fronts, steps = [], []
    for services in filter(None, asked.fronts.split(",")):
        fronts += [front(int(services), seed) for seed in seeds]
        print(fronts[-1], flush=True)
    for services in filter(None, asked.steps.split(",")):
        for seed in seeds:
            steps.append(step(int(services), seed, asked.changes, asked.gap, asked.time_limit))
            print(steps[-1], flush=True)
    command = f"python -m benchmarks.changes --fronts {asked.fronts} --steps {asked.steps}"
    command += f" --seeds {asked.seeds} --time-limit {asked.time_limit:g}"
    lines = ["# Few changes at size", "", *(__doc__ or "").strip().splitlines()[4:], ""]
    lines += [f"- commit {commit()}; {machine()}", f"- command `{command}`", ""]
    text = "\n".join(lines)
    for title, rows in (("The whole front", fronts), ("One step", steps)):
        if rows:
            text += f"\n## {title}\n\n{table(rows)}"
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
