"""How cost grows with services, blocks, hosts per task and load: measured and fitted.

    python -m benchmarks.growth --out benchmarks/results

One factor at a time is varied around a centre, each run in a fresh process. For every
quantity y the exponents of

    y = c * (services / 50)^a * (blocks / 5)^b * (hosts / 2)^h * (load / 3)^l

are fitted by least squares of the logarithms, and tested on combinations that the fit has not
seen. Writes ``growth.csv`` (one row per run) and ``growth.md`` (the fitted tables).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import FIRST_SEED, commit, header
from benchmarks.running import instance_file, run_apart
from benchmarks.worker import LABELLING
from code_opt.files import write_atomically
from code_opt.generate import PLAIN

CENTRE = {"services": 50, "blocks": 5, "hosts": 2, "load": 3.0}
VARIED: dict[str, tuple[float, ...]] = {
    "services": (10, 25, 100, 200, 400),
    "blocks": (3, 4, 6, 8),
    "hosts": (1, 3, 4),
    "load": (1.5, 6.0, 12.0),
}
HELD_OUT = (
    {"services": 150, "blocks": 4, "hosts": 3, "load": 6.0},
    {"services": 30, "blocks": 7, "hosts": 2, "load": 2.0},
    {"services": 300, "blocks": 5, "hosts": 1, "load": 4.0},
)
"""Combinations that test the fit."""
EXACT = "exact (colgen)"
"""What ``--formulation auto`` takes for these instances."""


@dataclass(frozen=True)
class Quantity:
    """Something whose growth is fitted."""

    title: str
    method: str
    column: str


QUANTITIES = (
    Quantity("nondominated paths", LABELLING, "paths"),
    Quantity("labelling [CPU s]", LABELLING, "cpu"),
    Quantity("lns [CPU s]", "lns", "cpu"),
    Quantity("exact to 1e-4 [CPU s]", EXACT, "cpu to 0.0001"),
    Quantity("memory of exact [MiB]", EXACT, "grown"),
)
COLUMNS = [
    *("family", "set", *CENTRE, "seed", "method", "limit", "commit", "status", "cpu", "wall"),
    *("cpu to 0.01", "cpu to 0.0001", "paths", "labels", "peak", "base"),
]


def factors(family: str) -> list[str]:
    """Return what can be varied in a family: the plain one has no load."""
    return [name for name in CENTRE if not (family == PLAIN and name == "load")]


def points(family: str, most: int) -> list[tuple[str, dict[str, float]]]:
    """Return the combinations to run, each with the set (fit or test) that it belongs to."""
    names = factors(family)
    found = [("fit", dict(CENTRE))]
    found += [("fit", {**CENTRE, name: value}) for name in names for value in VARIED[name]]
    found += [("test", {**CENTRE, **{n: c[n] for n in names}}) for c in HELD_OUT]
    return [(kind, point) for kind, point in found if point["services"] <= most]


def options(family: str, point: dict[str, float]) -> dict[str, Any]:
    """Return a combination as options of the generator."""
    blocks, hosts = int(point["blocks"]), int(point["hosts"])
    if family == PLAIN:
        return {"blocks": blocks, "hosts": hosts}
    return {"blocks": (blocks, blocks), "hosts": hosts, "load": point["load"]}


def run(
    families: Sequence[str],
    seeds: int,
    limit: float,
    most: int,
    out: Path,
    known: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Run what is not known yet and return one row per run; the rows so far are kept on disk."""
    rows: list[dict[str, Any]] = [] if known is None else known.to_dict("records")
    key = ("family", *CENTRE, "seed", "method")
    done = {tuple(row[name] for name in key) for row in rows}
    now = commit()
    methods = list(dict.fromkeys(quantity.method for quantity in QUANTITIES))
    for family in families:
        for kind, point in points(family, most):
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                size = int(point["services"])
                left = [m for m in methods if (family, *point.values(), seed, m) not in done]
                if not left:
                    continue
                with instance_file(family, size, seed, **options(family, point)) as path:
                    for method in left:
                        found = run_apart(method, path, limit)
                        rows.append(
                            {"family": family, "set": kind, **point, "seed": seed}
                            | {"method": method, "limit": limit, "commit": now, **found}
                        )
                        print(family, kind, point, seed, method, found["status"], file=sys.stderr)
                table = pd.DataFrame(rows).reindex(columns=COLUMNS)
                write_atomically(out / "growth.csv", table.to_csv(index=False, float_format="%.9g"))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


@dataclass(frozen=True)
class Fit:
    """A fitted power law."""

    at_centre: float
    exponents: dict[str, float]
    error: float
    """Typical factor between fit and measurement: exp of the root mean square in logarithms."""
    worst: float | None
    """Largest factor on the combinations that the fit has not seen."""
    left_out: int
    """Runs without the quantity: stopped by the limit."""

    def predict(self, point: dict[str, float]) -> float:
        """Return the fitted quantity of a combination."""
        shares = [(point[n] / CENTRE[n]) ** power for n, power in self.exponents.items()]
        return self.at_centre * float(np.prod(shares))


def fit(runs: pd.DataFrame, quantity: Quantity, names: Sequence[str]) -> Fit | None:
    """Fit one quantity of one family; None where too few runs have it."""
    own = runs[runs.method == quantity.method].assign(grown=lambda t: t.peak - t.base)
    values = own[quantity.column].where(own[quantity.column] > 0.0)
    seen = own[values.notna() & (own.set == "fit")]
    if len(seen) < 2 * (len(names) + 1):
        return None
    logs = np.log(seen[list(names)].to_numpy(float) / [CENTRE[n] for n in names])
    target = np.log(seen[quantity.column].to_numpy(float))
    design = np.column_stack([np.ones(len(logs)), logs])
    found, *_ = np.linalg.lstsq(design, target, rcond=None)
    error = float(np.exp(np.sqrt(np.mean((design @ found - target) ** 2))))
    law = Fit(
        float(np.exp(found[0])),
        dict(zip(names, map(float, found[1:]), strict=True)),
        error,
        None,
        int(values.isna().sum()),
    )
    unseen = own[values.notna() & (own.set == "test")]
    offs = [
        abs(np.log(row[quantity.column] / law.predict({n: row[n] for n in names})))
        for _, row in unseen.iterrows()
    ]
    worst = float(np.exp(max(offs))) if offs else None
    return Fit(law.at_centre, law.exponents, law.error, worst, law.left_out)


def tables(runs: pd.DataFrame) -> list[str]:
    """Return the fitted tables, one per family, as Markdown."""
    lines = []
    for family, own in runs.groupby("family", sort=False):
        names = factors(str(family))
        centre = ", ".join(f"{CENTRE[n]:g} {n}" if n != "load" else "load 3" for n in names)
        heads = [f"({name} / {CENTRE[name]:g})^" for name in names]
        lines += [
            f"**Family {family}** (centre: {centre})",
            "",
            "| quantity | at the centre | " + " | ".join(heads) + " | error | unseen | left out |",
            "|---" + "|--:" * (len(names) + 4) + "|",
        ]
        for quantity in QUANTITIES:
            law = fit(own, quantity, names)
            if law is None:
                lines.append(f"| {quantity.title} |" + " – |" * (len(names) + 4))
                continue
            powers = " | ".join(f"{law.exponents[n]:.2f}" for n in names)
            worst = "–" if law.worst is None else f"x{law.worst:.1f}"
            lines.append(
                f"| {quantity.title} | {law.at_centre:.3g} | {powers} | x{law.error:.2f} | {worst} "
                f"| {law.left_out} |"
            )
        lines.append("")
    return lines


def report(runs: pd.DataFrame, opening: Sequence[str]) -> str:
    """Return the whole page."""
    lines = ["# How cost grows", "", *opening, "", *tables(runs)]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--families", default=f"metro-ring,{PLAIN}")
    parser.add_argument("--seeds", type=int, default=2, help="instances per combination")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds per solve")
    parser.add_argument("--most", type=int, default=400, help="leave out more services than that")
    parser.add_argument("--plan", action="store_true", help="say how long it can take, run nothing")
    parser.add_argument("--resume", action="store_true", help="keep the runs of growth.csv")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    families = arguments.families.split(",")
    combinations = sum(len(points(family, arguments.most)) for family in families)
    most = arguments.seeds * combinations * 2 * (arguments.time_limit + 4.0)
    print(f"{combinations} combinations, at most {most / 3600:.2f} h", file=sys.stderr)
    if arguments.plan:
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    stored = arguments.out / "growth.csv"
    known = pd.read_csv(stored) if arguments.resume and stored.exists() else None
    runs = run(
        families, arguments.seeds, arguments.time_limit, arguments.most, arguments.out, known
    )
    opening = header("benchmarks.growth", None)
    opening += [
        f"- runs of commits {', '.join(sorted(set(runs.commit)))}; "
        f"limits {', '.join(f'{limit:g} s' for limit in sorted(set(runs.limit)))}"
    ]
    text = report(runs, opening)
    write_atomically(arguments.out / "growth.md", text)
    print(text, end="")


if __name__ == "__main__":
    main()
