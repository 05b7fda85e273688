"""What coordination brings on published networks, and SN-Net's accuracy against FLOPs.

    python -m benchmarks.published --out benchmarks/results

Every set of ``data/published`` is solved with and without coordination, for the highest reward and
for the most throughput at no loss of average accuracy. Writes ``published.csv``, ``published.md``
and ``published.svg``; nothing in them is timed, so every machine makes the same ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.running import DATA, PUBLISHED
from code_opt import check, load_instance, solve
from code_opt.files import write_atomically
from code_opt.instance import Instance
from code_opt.result import Result

WAYS = {
    "own network": "own network",
    "local": "no coordination",
    "edge-early": "early exits",
    "code": "CoDE",
    "lns": "lns",
    "exact": "exact",
}
GOALS = ("highest reward", "no accuracy lost")
GAP = 1e-6


def on_own_network(instance: Instance) -> Instance:
    """Return a copy in which a task can only run on its own network."""
    tasks = tuple(task.model_copy(update={"alternatives": ()}) for task in instance.tasks)
    return instance.model_copy(update={"tasks": tasks})


def answer(instance: Instance, way: str, least: float | None) -> Result:
    """Return a checked result of one way, for the reward or for throughput above an accuracy."""
    options: dict[str, Any] = {"gap": GAP}
    if least is not None:
        options |= {"objective": "throughput", "min_accuracy": least}
    if way == "own network":
        instance, way = on_own_network(instance), "local"
    result = solve(instance, method=way, **options)
    violations = check(result, instance)
    if violations:
        raise RuntimeError(f"{way} does not pass the check: {violations}")
    return result


def rows(name: str) -> list[dict[str, object]]:
    """Return one row per goal and way of a set."""
    instance = load_instance(DATA / name)
    base = answer(instance, "own network", None)
    assert base.throughput is not None
    assert base.accuracy is not None
    found = []
    for goal in GOALS:
        least = None if goal == GOALS[0] else base.accuracy
        for way in WAYS:
            result = answer(instance, way, least)
            row: dict[str, object] = {"set": name, "goal": goal, "way": way}
            if result.throughput is not None and result.accuracy is not None:
                row |= {
                    "status": result.status,
                    "reward": result.reward,
                    "throughput": result.throughput,
                    "accuracy": result.accuracy,
                    "throughput_percent": 100.0 * (result.throughput / base.throughput - 1.0),
                    "accuracy_points": 100.0 * (result.accuracy - base.accuracy),
                    "flops_per_inference": sum(s.load or 0.0 for s in result.servers)
                    / result.throughput,
                }
            found.append(row)
    return found


def markdown(table: pd.DataFrame) -> str:
    """Return the page of a table of :func:`rows`."""
    lines = [
        "# Published networks, coordinated",
        "",
        "Made by `python -m benchmarks.published`. Accuracies, FLOPs and speeds are their authors' "
        "([data/published](../../data/published/README.md)); services, demands and capacities are "
        "made up. Throughput [1/s] and average accuracy, and what changes against each task on its "
        "*own network*. *No coordination* is what each operator can do alone: take another "
        "published network on the same device, where there is one. No set has early exits, so "
        "that row is the one before again.",
    ]
    for goal in GOALS:
        lines += ["", f"## {goal[0].upper()}{goal[1:]}", ""]
        lines += [
            "| set | way | throughput [1/s] | | average accuracy | points |",
            "|---|---|--:|--:|--:|--:|",
        ]
        for row in table[table["goal"] == goal].itertuples():
            cells = [row.set, WAYS[row.way]]
            if pd.isna(row.throughput):
                cells += ["none found", "", "", ""]
            else:
                cells += [
                    f"{row.throughput:.1f}",
                    f"{row.throughput_percent:+.1f} %",
                    f"{row.accuracy:.4f}",
                    f"{row.accuracy_points:+.2f}",
                ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## SN-Net's curve, and where services end on it",
        "",
        "![Accuracy against FLOP of SN-Net's 71 networks](published.svg)",
        "",
        "Grey: the 71 networks of SN-Net, each alone, as its authors plot them. Marks: average "
        "accuracy and FLOP per inference of the three services together. Without coordination they "
        "run the three networks that were trained as such; with it they take stitched networks, "
        "which serve more of the demand on the same servers.",
    ]
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw accuracy against FLOP of SN-Net's networks and of the assignments."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    networks = pd.read_csv(DATA / "sn-net" / "figures.csv")
    mpl.rcParams["svg.hashsalt"] = "published"
    figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    axes.scatter(
        2e-9 * networks["multiply_adds"],
        networks["top1_percent"],
        color="0.6",
        s=14,
        label="SN-Net",
    )
    mine = table[(table["set"] == "sn-net") & (table["goal"] == GOALS[0])]
    for way, marker in (("local", "o"), ("code", "s"), ("exact", "D")):
        (row,) = mine[mine["way"] == way].itertuples()
        axes.scatter(
            1e-9 * row.flops_per_inference,
            100.0 * row.accuracy,
            marker=marker,
            s=60,
            label=f"{WAYS[way]}: {row.throughput:.0f}/s",
        )
    axes.set_xlabel("GFLOP per inference")
    axes.set_ylabel("top-1 accuracy on ImageNet [%]")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Solve all sets and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([row for name in PUBLISHED for row in rows(name)])
    write_atomically(out / "published.csv", table.to_csv(index=False, float_format="%.9g"))
    write_atomically(out / "published.md", markdown(table))
    draw(table, out / "published.svg")
    print(f"Written: {out / 'published.md'}")


if __name__ == "__main__":
    main()
