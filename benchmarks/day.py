"""A simulated day: how many changes, which demand and which headroom a running edge should plan by.

    python -m benchmarks.day --out benchmarks/results/day.md

An edge is solved again before each period of five minutes of a random day with bursts
(docs/generate.md, "A day of demand"), from the assignment that runs, with at most K changes of
paths, for the demand of the last period (*now*) or for the largest demand of each task in the
last hour (*peak*), with all or a part of the servers' time for sale (*sold*). Then the period
comes with its own demand. A task whose estimated demand was served in full is sent all that
comes; one that was held back stays at its rate. What crosses a server or link that cannot do all
of it is served to the same share; by more than 1 %, the period counts as one of *broken limits*.
The *bound* is the optimum of each period with its own demand, known before, and any number of
changes. *Not solved*: periods in which so few changes could not meet all floors; the edge then
stays as it is.

All policies begin at midnight with the optimum for the mean demand of the day.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.ablation import table
from benchmarks.plots import COLOURS, save_figure
from benchmarks.report import commit, machine
from code_opt import Instance, Result, solve
from code_opt.files import write_atomically
from code_opt.generate import DayOptions, EdgeOptions, draw_day, generate_edge
from code_opt.instance.periods import with_demands
from code_opt.paths import PathProblem
from code_opt.reward import log_reward

CHANGES: tuple[int | None, ...] = (0, 1, 2, 5, None)
HEADROOM_CHANGES = (2,)
"""Changes for which smaller shares for sale are tried, too."""
SHARES = (0.9, 0.8, 0.7)
LAST_HOUR = 60
"""Minutes that *peak* looks back."""
BROKEN = 1.01
"""Load of a server or link beyond which a limit counts as broken."""
GAP = 1e-3


@dataclass(frozen=True)
class Policy:
    """How the edge is solved again."""

    max_changes: int | None
    """K; None: any number."""
    estimate: str
    """``now``, ``peak``, or ``known`` for the bound."""
    share: float = 1.0
    """Of the servers' time that is sold."""

    @property
    def changes_text(self) -> str:
        """K in words."""
        return "all" if self.max_changes is None else str(self.max_changes)


BOUND = Policy(None, "known")
POLICIES = (
    *(Policy(k, estimate) for estimate in ("now", "peak") for k in CHANGES),
    *(Policy(k, e, s) for e in ("now", "peak") for k in HEADROOM_CHANGES for s in SHARES),
    BOUND,
)


@dataclass(frozen=True)
class World:
    """An edge and its day."""

    instance: Instance
    demands: np.ndarray
    """[inferences/s], shape (periods, tasks)."""
    minutes: int

    @staticmethod
    def drawn(services: int, seed: int, minutes: int, load: float, mean: float) -> World:
        """Return a random edge with a random day."""
        options = EdgeOptions("hub-and-spoke", services, seed=seed, links=True, load=load)
        instance = generate_edge(options)
        day = draw_day(instance, DayOptions(minutes=minutes, mean=mean, seed=seed))
        demands = np.array([day.demands[task.id] for task in instance.tasks]).T
        return World(instance, demands, minutes)

    def at(self, demand: np.ndarray) -> Instance:
        """Return the edge with other demands, shape (tasks,)."""
        names = (task.id for task in self.instance.tasks)
        return with_demands(self.instance, dict(zip(names, demand.tolist(), strict=True)))

    def estimate(self, k: int, kind: str) -> np.ndarray:
        """Return the demand that period ``k`` is solved for, shape (tasks,)."""
        if kind == "known":
            return self.demands[k]
        if k == 0:
            return self.demands.mean(axis=0)
        back = 1 if kind == "now" else max(1, LAST_HOUR // self.minutes)
        return self.demands[max(0, k - back) : k].max(axis=0)


def simulate(world: World, policy: Policy) -> pd.DataFrame:
    """Return a row for each period of the day under a policy."""
    topology = PathProblem(world.instance).topology
    current = solve(world.at(world.demands.mean(axis=0)), gap=GAP)
    planned = world.demands.mean(axis=0)
    rows = []
    for k, demand in enumerate(world.demands):
        estimate = world.estimate(k, policy.estimate)
        found = solve(
            world.at(estimate),
            previous=current,
            max_changes=policy.max_changes,
            max_utilization=None if policy.share == 1.0 else policy.share,
            gap=GAP,
        )
        if found.has_solution:
            current, planned = found, estimate
        load = [a.bytes for a in found.adapters or () if a.action == "load"]
        rows.append(
            {
                "minute": k * world.minutes,
                "solved": found.has_solution,
                "changes": found.changes or 0,
                "loaded": sum(load),
                **_realised(world.instance, topology, current, planned, demand),
            }
        )
    return pd.DataFrame(rows)


def _realised(
    instance: Instance, topology: Any, result: Result, planned: np.ndarray, demand: np.ndarray
) -> dict[str, float]:
    """Return what a period with a demand brings while an assignment runs."""
    rate = np.array([row.rate for row in result.tasks])
    is_full = rate >= planned * (1.0 - 1e-6)
    sent = np.where(is_full, demand, np.minimum(rate, demand))
    uses = []
    load = np.zeros(len(topology.resources))
    for graph, row, sent_rate in zip(topology.graphs, result.tasks, sent.tolist(), strict=True):
        use = np.zeros(len(load))
        use[graph.resources] = graph.use[graph.path_arcs(row.path)].sum(axis=0)
        use[~topology.is_rate_resource] = 0.0
        uses.append(use)
        load += sent_rate * use
    share = 1.0 / np.maximum(load, 1.0)
    served = np.array(
        [r * share[use > 0.0].min(initial=1.0) for r, use in zip(sent, uses, strict=True)]
    )
    weight = np.array([task.weight for task in instance.tasks])
    accuracy = float(weight @ [row.accuracy for row in result.tasks] / weight.sum())
    return {
        "demand": float(demand.sum()),
        "served": float(served.sum()),
        "reward": float(np.exp(log_reward(instance.reward, accuracy, float(served.sum())))),
        "largest load": float(load.max()),
    }


def summary(runs: Sequence[tuple[Policy, pd.DataFrame]]) -> list[dict[str, object]]:
    """Return a row for each policy, rewards beside those of the bound."""
    bound = next(run for policy, run in runs if policy == BOUND)["reward"].sum()
    rows: list[dict[str, object]] = []
    for policy, run in runs:
        broken = run["largest load"] > BROKEN
        served = run["served"].sum() / run["demand"].sum()
        rows.append(
            {
                "K": policy.changes_text,
                "solved for": policy.estimate,
                "sold [%]": f"{100.0 * policy.share:.0f}",
                "reward of the bound [%]": f"{100.0 * run['reward'].sum() / bound:.2f}",
                "served of the demand [%]": f"{100.0 * served:.2f}",
                "changes a day": int(run["changes"].sum()),
                "adapters loaded [MB]": f"{run['loaded'].sum() / 1e6:.0f}",
                "periods of broken limits [%]": f"{100.0 * broken.mean():.1f}",
                "largest load": f"{run['largest load'].max():.2f}",
                "not solved": int((~run["solved"]).sum()),
            }
        )
    return rows


def draw(runs: Sequence[tuple[Policy, pd.DataFrame]], stem: Path) -> list[Path]:
    """Draw reward against changes, and broken limits against the share that is sold."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "code-opt"
    from matplotlib import pyplot

    bound = next(run for policy, run in runs if policy == BOUND)["reward"].sum()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, estimate in zip(COLOURS, ("now", "peak"), strict=False):
        mine = [(p, r) for p, r in runs if p.estimate == estimate]
        whole = [(p, r) for p, r in mine if p.share == 1.0]
        x = [run["changes"].sum() for _, run in whole]
        y = [100.0 * run["reward"].sum() / bound for _, run in whole]
        left.plot(x, y, "o-", color=colour, label=f"solved for {estimate}")
        texts: dict[tuple[int, float], list[str]] = {}
        for (policy, _), point in zip(whole, zip(x, y, strict=True), strict=True):
            texts.setdefault(point, []).append(policy.changes_text)
        for point, names in texts.items():
            left.annotate(
                f"K = {', '.join(names)}",
                point,
                textcoords="offset points",
                xytext=(6, 6) if estimate == "now" else (6, -12),
                fontsize=8,
                color=colour,
            )
        some = [(p, r) for p, r in mine if p.max_changes in HEADROOM_CHANGES]
        some.sort(key=lambda pair: pair[0].share)
        sold = [100.0 * policy.share for policy, _ in some]
        broken = [100.0 * (run["largest load"] > BROKEN).mean() for _, run in some]
        reward = [100.0 * run["reward"].sum() / bound for _, run in some]
        right.plot(sold, broken, "o-", color=colour, label=f"{estimate}: broken limits")
        right.plot(sold, reward, "s--", color=colour, label=f"{estimate}: reward")
    left.set_xlabel("changes of paths in the day")
    left.set_ylabel("reward of the bound [%]")
    left.margins(x=0.12, y=0.15)
    right.set_xlabel(f"time of servers that is sold [%], K = {HEADROOM_CHANGES[0]}")
    right.set_ylabel("periods of broken limits, reward of the bound [%]")
    right.set_ylim(0.0, 105.0)
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    return save_figure(figure, stem)


def main() -> None:
    """Simulate all policies and write the table, the rows and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=int, default=5, help="length of a period")
    parser.add_argument("--load", type=float, default=1.5, help="load of the generated edge")
    parser.add_argument("--mean", type=float, default=0.8, help="mean demand of the day")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/day.md"))
    asked = parser.parse_args()
    world = World.drawn(asked.services, asked.seed, asked.minutes, asked.load, asked.mean)
    with ProcessPoolExecutor(asked.processes) as pool:
        found = list(pool.map(partial(simulate, world), POLICIES))
    runs = list(zip(POLICIES, found, strict=True))
    whole = pd.concat(
        [run.assign(K=p.changes_text, estimate=p.estimate, share=p.share) for p, run in runs]
    )
    text = io.StringIO()
    whole.to_csv(text, index=False, float_format="%.6g", lineterminator="\n")
    write_atomically(asked.out.with_suffix(".csv"), text.getvalue())
    draw(runs, asked.out.with_suffix(""))
    lines = ["# A simulated day", "", *(__doc__ or "").strip().splitlines()[4:], ""]
    options = f"--services {asked.services} --seed {asked.seed} --minutes {asked.minutes}"
    options += f" --load {asked.load:g} --mean {asked.mean:g}"
    lines += [f"- commit {commit()}; {machine()}"]
    lines += [f"- command `python -m benchmarks.day {options}`"]
    lines += ["", f"![Reward against changes, and broken limits]({asked.out.stem}.svg)", "", ""]
    page = "\n".join(lines) + table(summary(runs))
    write_atomically(asked.out, page)
    print(page)


if __name__ == "__main__":
    main()
