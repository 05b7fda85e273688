"""What profiling the committed data sets took and brought, as tables.

    python -m benchmarks.profiles --out benchmarks/results

Reads ``data/*/tables`` and ``about.json``, which ``code-opt profile`` wrote, and writes
``profiles.md``: predictors, searches, times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from code_opt.files import write_atomically

DATA = Path(__file__).resolve().parent.parent / "data"


def profiled() -> list[Path]:
    """Return the folders of profiled data sets."""
    return sorted(path.parent for path in DATA.glob("*/about.json"))


def _read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "tables" / f"{name}.csv")


def _rows(head: str, rows: list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, f"|{'---|' * columns}", *rows]) + "\n"


def predictors() -> str:
    """Return how well predictors do on paths that they have not learnt from."""
    rows = [
        f"| {folder.name} | {row.task} | {row.paths} | "
        f"{f'**{row.predictor}**' if row.used else row.predictor} | {row.spearman:.2f} | "
        f"{100 * row.mean_error:.1f} | {100 * row.top5_regret:.1f} |"
        for folder in profiled()
        for row in _read(folder, "predictors").itertuples()
    ]
    head = (
        "| data | task | paths | predictor | rank correlation | mean error [points] "
        "| top-5 regret [% of the path's worth] |"
    )
    return _rows(head, rows)


def searches() -> str:
    """Return what searches train and lose against training everything."""
    rows = []
    for folder in profiled():
        table = _read(folder, "search")
        for method, group in table.groupby("method", sort=False):
            name = f"{method} (median of {len(group)} seeds)" if len(group) > 1 else method
            middle = group[["trainings", "trainings_percent", "reward", "regret_percent"]].median()
            rows.append(
                f"| {folder.name} | {name} | {middle['trainings']:.0f} | "
                f"{middle['trainings_percent']:.0f} | {middle['reward']:.6g} | "
                f"{middle['regret_percent']:.2f} |"
            )
    return _rows("| data | search | trainings | of all [%] | reward | regret [%] |", rows)


def times() -> str:
    """Return seconds per path and what keeping frozen beginnings saves."""
    rows = [
        f"| {folder.name} | {row.task} | {row.paths} | {row.closed_form_seconds_median:.2f} | "
        f"{row.tuning_seconds_median:.1f} | {100 * row.closed_form_accuracy_mean:.1f} | "
        f"{100 * row.tuned_accuracy_mean:.1f} | {row.beginnings_seconds:.1f} | "
        f"{row.beginnings_seconds_uncached:.0f} | {row.saved_percent:.0f} |"
        for folder in profiled()
        for row in _read(folder, "time").itertuples()
    ]
    head = (
        "| data | task | paths | closed form [s] | training [s] | closed form [%] | trained [%] "
        "| frozen beginnings once [s] | for every path [s] | time saved [%] |"
    )
    return _rows(head, rows)


def sources() -> str:
    """Return with what and how long the data sets were profiled."""
    rows = []
    for folder in profiled():
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        rows.append(
            f"| {folder.name} | {about['device']} | {about['torch']} | "
            f"{about['seconds_of_training']:.0f} | {about['seconds_of_connections']:.0f} | "
            f"{about['seconds_of_paths']:.0f} |"
        )
    head = "| data | device | torch | training services [s] | connections [s] | paths [s] |"
    return _rows(head, rows)


def report() -> str:
    """Return the whole page."""
    return f"""# Profiles of the committed data sets

`python -m benchmarks.profiles` makes these tables from what `code-opt profile` measured
(`data/*/tables`).

## Predicting accuracies

Five-fold cross-validation over the trained paths; the one in bold makes the instance's drops. A
path's worth is the logarithm of its reward alone, so a regret of 1 % is 1 % of reward.

{predictors()}
## Searches

Replayed on the exhaustive measurements: a search sees only what it asks for. `random` gets as
many trainings as the one of the others that needs most.

{searches()}
## Times

Medians per path; accuracies are means over the paths. A path's frozen beginning is computed once
for all paths that begin so; without that, it would run in every epoch and for every accuracy.

{times()}
## Where

{sources()}"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "profiles.md", report())
    print(report(), end="")


if __name__ == "__main__":
    main()
