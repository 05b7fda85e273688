"""What coordination saves in capacity, and how long plans of 50 services take.

    python -m benchmarks.savings --out benchmarks/results

The least cost of serving all demand at growth 1, 1.5, 2 and 3, with at most 0, 1, 2 and 5
points of average accuracy lost: with native paths only, with early exits, with all paths.
Then a growth path, uncertain demand (3 scenarios) and single failures on the same 50 services.
Writes ``savings.csv`` (one row per plan) and ``savings.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.__main__ import header
from code_opt import (
    Plan,
    PlanSettings,
    load_instance,
    parse_scenarios,
    plan_failures,
    plan_growth,
    plan_least_cost,
    plan_scenarios,
)
from code_opt.files import write_atomically
from code_opt.generate import EdgeOptions, generate, generate_edge
from code_opt.instance import Instance

PAIR = Path(__file__).resolve().parent.parent / "data" / "alexnet-mobilenet" / "balanced.json"
GROWTH = (1.0, 1.5, 2.0, 3.0)
LOSSES = (0.0, 1.0, 2.0, 5.0)
SERVICES, SEED = 50, 1
GAP = 0.005
SCENARIOS = """\
scenario,probability,task,demand,factor
quiet,0.5,,,0.7
busy,0.3,,,1.2
skewed,0.2,,,0.8
"""


@dataclass(frozen=True)
class Edge:
    """One instance, and the unit in which capacity is sold."""

    name: str
    about: str
    make: Callable[[], Instance]
    unit_flops: float


EDGES = (
    Edge(
        "pair",
        "AlexNet and MobileNetV2, measured (`data/alexnet-mobilenet/balanced.json`); units of\n"
        "1 GFLOP/s, a quarter of a server",
        lambda: load_instance(PAIR),
        1e9,
    ),
    Edge(
        "plain",
        "50 generated services of the family `plain`, a server each\n"
        "(`code_opt.generate.generate(50, seed=1, limited_demand=1.0)`); units of 100 GFLOP/s",
        lambda: generate(SERVICES, seed=SEED, limited_demand=1.0),
        1e11,
    ),
    Edge(
        "metro",
        "50 generated services of the family `metro-ring` on 25 servers with links, `--seed 1\n"
        "--load 10` (at the default load, paths through light neighbours carry all demand and\n"
        "nothing has to be bought); units of 100 GFLOP/s",
        lambda: generate_edge(
            EdgeOptions("metro-ring", SERVICES, seed=SEED, links=True, load=10.0)
        ),
        1e11,
    ),
)


def least_costs(edge: Edge, time_limit: float) -> pd.DataFrame:
    """Return the summary of an edge's least-cost plans with a column ``edge``."""
    settings = PlanSettings(unit_flops=edge.unit_flops, gap=GAP, time_limit=time_limit)
    plan = plan_least_cost(edge.make(), settings, growth=GROWTH, max_loss=LOSSES)
    table = plan.tables()["summary"]
    table.insert(0, "edge", edge.name)
    return table


def markdown(table: pd.DataFrame, name: str) -> str:
    """Return the savings of one edge: units without coordination, and saved at each loss."""
    rows = table[(table["edge"] == name) & (table["method"] == "exact")]
    lines = [
        "| growth | units without | " + " | ".join(f"{x:g} points" for x in LOSSES) + " |",
        "|--:|--:|" + "--:|" * len(LOSSES),
    ]
    for growth in GROWTH:
        at = rows[rows["growth"] == growth]
        alone = at[at["coordination"] == "none"]["units"].dropna()
        cells = []
        for loss in LOSSES:
            here = at[at["max_loss_points"] == loss].set_index("coordination")
            cells.append(_cell(here.loc["full"], here.loc["exits"]))
        without = "–" if alone.empty else f"{int(alone.iloc[0]):,}"
        lines.append(f"| {growth:g} | {without} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(full: pd.Series, exits: pd.Series) -> str:
    if pd.isna(full["saved_units"]):
        return str(full["status"])
    before = full["units"] + full["saved_units"]
    share = 100.0 * full["saved_units"] / before if before else 0.0
    by_exits = "–" if pd.isna(exits["saved_units"]) else f"{int(exits['saved_units']):,}"
    gap = "" if full["gap"] <= GAP else f", gap {100 * full['gap']:.1f} %"
    return f"{int(full['saved_units']):,} ({share:.0f} %; exits {by_exits}{gap})"


def timings(time_limit: float) -> pd.DataFrame:
    """Return how long the larger analyses of 50 services take, with cost and gap of each part."""
    edge = EDGES[1]
    instance = edge.make()
    settings = PlanSettings(unit_flops=edge.unit_flops, gap=GAP, time_limit=time_limit)
    crowd = "".join(f"skewed,,{task.id},,2.5\n" for task in instance.tasks[:30:3])
    scenarios = parse_scenarios(SCENARIOS + crowd)
    found = []
    for name, run in (
        (
            "growth path, 4 periods",
            lambda: plan_growth(
                instance, settings, growth=GROWTH, max_loss=2.0, coordinations=("full",)
            ),
        ),
        ("3 scenarios", lambda: plan_scenarios(instance, scenarios, settings, max_loss=2.0)),
        ("single failures", lambda: plan_failures(instance, settings, max_loss=2.0)),
    ):
        began = time.process_time()
        plan: Plan = run()
        used = time.process_time() - began
        found += [
            {
                "analysis": name,
                "part": row.get("variant") or row.get("plan") or row.get("coordination"),
                "status": row["status"],
                "cost": row["cost"],
                "gap": row["gap"],
                "seconds": plan.seconds,
                "cpu_seconds": used,
            }
            for row in plan.table("summary").records()
        ]
    return pd.DataFrame(found)


def timing_markdown(table: pd.DataFrame) -> str:
    """Return the table of the larger analyses."""
    lines = [
        "| analysis | part | status | cost | gap | whole analysis |",
        "|---|---|---|--:|--:|--:|",
    ]
    for row in table.itertuples():
        gap = "–" if pd.isna(row.gap) else f"{100 * row.gap:.2f} %"
        cost = "–" if pd.isna(row.cost) else f"{row.cost:,.10g}"
        lines.append(
            f"| {row.analysis} | {row.part} | {row.status} | {cost} | {gap} "
            f"| {row.seconds:.0f} s ({row.cpu_seconds:.0f} s of CPU) |"
        )
    return "\n".join(lines) + "\n"


def report(table: pd.DataFrame, larger: pd.DataFrame, time_limit: float) -> str:
    """Return the whole page."""
    parts = []
    for edge in EDGES:
        exact = table[(table["edge"] == edge.name) & (table["method"] == "exact")]
        quick = table[
            (table["edge"] == edge.name)
            & (table["method"] == "heuristic")
            & (table["coordination"] == "full")
        ]
        full = exact[exact["coordination"] == "full"]
        cost, bound = quick["cost"].to_numpy(), full["bound"].to_numpy()
        over = [c / b - 1.0 for c, b in zip(cost, bound, strict=True) if b > 0]
        worst = f"{100 * max(over):.1f} %" if over else "0 %"
        proven = int((full["status"] == "optimal").sum())
        median, most = full["seconds"].median(), full["seconds"].max()
        parts.append(
            f"## {edge.name}\n\n{edge.about}.\n\n{markdown(table, edge.name)}\n"
            f"{proven} of {len(full)} plans with all paths are proven to the gap, the largest\n"
            f"gap is {100 * full['gap'].max():.2f} %; {median:.1f} s each in the median, "
            f"{most:.0f} s at most. The heuristic\ncosts at most {worst} more than the bound.\n"
        )
    return f"""# What coordination saves in capacity

{chr(10).join(header("benchmarks.savings", time_limit)[:-1])}
- gap {GAP:g}; the limit is for each program; command `python -m benchmarks.savings`

Units bought so that all demand is served, without coordination (native paths only), and how
many fewer with all paths when the average accuracy may fall by at most so many points: units
saved (share; saved by early exits alone). All units cost the same. Servers, demands and prices
are made up; what is saved depends on them, and on how well one network's blocks serve another's
task: measured for the pair, resampled or assumed for generated edges.

{"".join(part + chr(10) for part in parts)}## Larger analyses

The edge `plain`, at most 2 points lost. *Single failures* keeps every task's standalone rate
under any one failure, and says for each of 50 failures, twice, what is served with fixed and
with free paths.

{timing_markdown(larger)}"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.savings")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds per program")
    parser.add_argument(
        "--part",
        action="append",
        choices=[*(edge.name for edge in EDGES), "larger"],
        help="run this part only, keep what is stored of the others; may be repeated",
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    wanted = arguments.part or [*(edge.name for edge in EDGES), "larger"]
    # Every part is written as soon as it is done: a run that is stopped leaves what it has.
    for edge in EDGES:
        if edge.name in wanted:
            _store(out / "savings.csv", edge.name, least_costs(edge, arguments.time_limit))
    if "larger" in wanted:
        larger = timings(arguments.time_limit)
        write_atomically(out / "savings-larger.csv", larger.to_csv(index=False))
    table = pd.read_csv(out / "savings.csv")
    larger = pd.read_csv(out / "savings-larger.csv")
    write_atomically(out / "savings.md", report(table, larger, arguments.time_limit))
    for edge in EDGES:
        print(f"{edge.name}\n\n{markdown(table, edge.name)}")
    print(timing_markdown(larger), end="")


def _store(path: Path, name: str, rows: pd.DataFrame) -> None:
    """Put the rows of one edge into the table, in the place of those that it had."""
    parts = {name: rows}
    if path.exists():
        stored = pd.read_csv(path)
        parts = dict(list(stored.groupby("edge"))) | parts
    table = pd.concat([parts[edge.name] for edge in EDGES if edge.name in parts])
    write_atomically(path, table.to_csv(index=False, float_format="%.6g"))


if __name__ == "__main__":
    main()
