"""What limits of a percentile cost, and what a fixed headroom would have given instead.

    python -m benchmarks.percentiles --out benchmarks/results/percentiles.md

Every task gets a limit of so many times the unloaded time of its native path, at percentile 0.95;
floors are taken away, since a rate without coordination fills its servers. *Headroom*: the same
instance with 80 % of every capacity sold and no limits, at its true speeds; the number of tasks
whose promised percentile is then above the limit is how often the headroom breaks it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.__main__ import header
from benchmarks.ablation import table
from code_opt import evaluate_paths, load_instance, solve
from code_opt.generate import generate
from code_opt.instance import Instance
from code_opt.paths import Topology
from code_opt.result import Result

FACTORS = (1.5, 2.0, 3.0, 5.0, 10.0)
PERCENTILE = 0.95
HEADROOM = 0.8
DATA = ("digits", "alexnet-mobilenet", "three-services")
SEEDS = (1,)


def limited(instance: Instance, factor: float | None) -> Instance:
    """Return an instance without floors whose tasks have limits of so many unloaded times."""
    topology = Topology(instance)
    tasks = []
    for task in instance.tasks:
        update: dict[str, object] = {"floor": 0.0, "max_latency": None}
        if factor is not None:
            graph = topology.graphs[len(tasks)]
            blocks = [block.id for block in topology.dnn[task.dnn].blocks]
            arcs = graph.path_arcs(blocks)
            assert arcs is not None
            native = float(graph.seconds[arcs].sum())
            update |= {"max_latency": factor * native, "latency_percentile": PERCENTILE}
        tasks.append(task.model_copy(update=update))
    return instance.model_copy(update={"tasks": tuple(tasks)})


def with_headroom(instance: Instance) -> Result | None:
    """Return what a headroom gives, with the promises that hold at the true capacities."""
    free = limited(instance, None)
    smaller = free.model_copy(
        update={
            "servers": tuple(
                s.model_copy(update={"flops": HEADROOM * s.flops}) for s in free.servers
            ),
            "links": tuple(
                link
                if link.bandwidth is None
                else link.model_copy(update={"bandwidth": HEADROOM * link.bandwidth})
                for link in free.links
            ),
        }
    )
    sold = solve(smaller, gap=1e-3)
    if not sold.has_solution:
        return None
    rate = {row.task: row.rate for row in sold.tasks}
    asked = tuple(
        task.model_copy(update={"demand": rate[task.id], "latency_percentile": PERCENTILE})
        for task in free.tasks
    )
    paths = {row.task: row.path for row in sold.tasks}
    return evaluate_paths(free.model_copy(update={"tasks": asked}), paths)


def rows_of(name: str, instance: Instance, seconds: float) -> list[dict[str, object]]:
    """Return the rows of one instance."""
    rows: list[dict[str, object]] = []
    headroom = with_headroom(instance)
    for factor in (*FACTORS, None):
        problem = limited(instance, factor)
        result = solve(problem, gap=1e-3, time_limit=seconds)
        broken = "–"
        if headroom is not None and factor is not None:
            limit = {task.id: task.max_latency for task in problem.tasks}
            late = sum(
                row.latency_promised is None or row.latency_promised > (limit[row.task] or 0.0)
                for row in headroom.tasks
            )
            broken = f"{late} of {len(headroom.tasks)}"
        full = max((row.utilization for row in result.servers), default=0.0)
        rows.append(
            {
                "instance": name,
                "limit": "none" if factor is None else f"{factor:g} x",
                "status": result.status,
                "throughput [1/s]": "–"
                if result.throughput is None
                else f"{result.throughput:.4g}",
                "reward": "–" if result.reward is None else f"{result.reward:.4g}",
                "gap [%]": "–" if result.gap is None else f"{100.0 * result.gap:.2g}",
                "fullest server [%]": f"{100.0 * full:.1f}",
                "headroom: throughput [1/s]": "–"
                if headroom is None or headroom.throughput is None
                else f"{headroom.throughput:.4g}",
                "headroom: limits broken": broken,
            }
        )
    return rows


def main() -> None:
    """Solve all instances at all limits and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/percentiles.md"))
    parser.add_argument("--seconds", type=float, default=5.0, help="limit of each solve")
    parser.add_argument("--services", type=int, default=3, help="size of generated edges")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in DATA:
        instance = load_instance(Path("data") / name / "instance.json")
        rows += rows_of(name, instance, options.seconds)
        print(rows[-1], flush=True)
    for seed in SEEDS:
        edge = generate(options.services, seed=seed)
        name = f"plain, {options.services} services, seed {seed}"
        rows += rows_of(name, edge, options.seconds)
    opening = ["# Limits of the 95th percentile", ""]
    opening += header("benchmarks.percentiles", options.seconds)[:3]
    opening += ["", *(__doc__ or "").strip().splitlines()[4:], ""]
    text = "\n".join([*opening, ""]) + table(rows)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
