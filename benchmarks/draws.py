"""Shift or chance: one data set profiled with other validation images each time.

    python -m benchmarks.draws [--draws 3] [--work FOLDER] [--out benchmarks/results]

The digits are profiled with a seed of the validation images for each draw; what trains the
networks keeps its seed. Every measured path then answers the test images, too. Where validation is
above test by more than chance explains in all draws together, the images differ in kind (shift);
where only the chosen path is, it is the winner's curse. Writes ``draws.md`` and ``draws.csv``.
Takes about two CPU minutes for each draw; killed, it goes on in FOLDER.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from code_opt import solve
from code_opt.answers import BoolArray, load_answers
from code_opt.evaluation import load_subject
from code_opt.evaluation.tuning import PathFits
from code_opt.files import write_atomically
from code_opt.networks.multitask import MultiTaskNetwork
from code_opt.networks.threads import library_versions, use_threads
from code_opt.optimism import with_winners_curse
from code_opt.profiling.config import load_config, parse_config
from code_opt.profiling.pipeline import profile
from code_opt.profiling.preparation import Place

CONFIG = Path(__file__).resolve().parent.parent / "data" / "digits" / "config.yaml"
SPLITS = 20


def profiled(draw: int, folder: Path) -> Path:
    """Profile the digits with other validation images; return the folder of the instance."""
    data = load_config(CONFIG).model_dump(mode="json", by_alias=True)
    for service in data["services"]:
        service["seed"] = data["seed"]
    out = folder / f"draw-{draw}"
    profile(parse_config(data | {"seed": draw}), Place(CONFIG, out, folder / "no-data", "cpu"))
    return out


def rows_of(draw: int, home: Path) -> list[dict[str, Any]]:
    """Return what validation and test images say of each task of a profile."""
    subject = load_subject(home / "instance.json")
    instance, bundle = subject.instance, subject.bundle
    assert bundle is not None
    answers = load_answers(instance, home / "instance.json")
    result = solve(instance)
    curse = with_winners_curse(result, instance, answers, solve, splits=SPLITS).winners_curse
    assert curse is not None
    fits = PathFits(subject, "cpu", fine_tune=False)
    rows = []
    for task, chosen in zip(instance.tasks, result.tasks, strict=True):
        images = subject.images(task.id, "test")

        def on_test(path: tuple[str, ...], name: str = task.id, images: Any = images) -> BoolArray:
            network = MultiTaskNetwork(bundle.trunks, [fits.path(name, path)])
            return subject.answers(network.path(name), name, images, "cpu")

        one = answers[task.id]
        validation = np.array(list(one.paths.values()))
        test = np.array([on_test(path) for path in one.paths])
        # Paths answer the same images, so it is images that are drawn: one mean for each.
        of_image = [half.mean(axis=0) for half in (validation, test)]
        rows.append(
            {
                "draw": draw,
                "task": task.id,
                "paths": len(validation),
                "validation": float(validation.mean()),
                "test": float(test.mean()),
                "difference": float(validation.mean() - test.mean()),
                "error_validation": float(of_image[0].std(ddof=1) / math.sqrt(len(of_image[0]))),
                "error_test": float(of_image[1].std(ddof=1) / math.sqrt(len(of_image[1]))),
                "chosen_validation": chosen.accuracy,
                "chosen_test": float(on_test(tuple(chosen.path)).mean()),
                "winners_curse": curse.accuracy,
            }
        )
    return rows


def page(found: pd.DataFrame) -> str:
    """Return the tables and what they say."""
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    lines = [
        "# Shift or chance: the digits with other validation images",
        "",
        f"Made by `python -m benchmarks.draws`; {versions}. Accuracies in percent, differences in "
        "points. All paths: the mean over all measured paths, which nobody chose. Error: standard "
        "error of that difference by chance, the images being drawn. Excess: the winner's curse of "
        f"the average accuracy, estimated by {SPLITS} splits.",
        "",
        "| draw | task | paths | all: validation | test | difference | error | chosen: validation |"
        " test | difference | excess |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found.to_dict("records"):
        error = math.hypot(row["error_validation"], row["error_test"])
        cells = [
            *(row[k] for k in ("validation", "test", "difference")),
            error,
            *(row[k] for k in ("chosen_validation", "chosen_test")),
            row["chosen_validation"] - row["chosen_test"],
            row["winners_curse"],
        ]
        shown = " | ".join(f"{100.0 * cell:.2f}" for cell in cells)
        lines.append(f"| {row['draw']} | {row['task']} | {row['paths']} | {shown} |")
    lines += ["", "| task | mean difference | error of it | verdict |", "|---|--:|--:|---|"]
    for task, rows in found.groupby("task", sort=False):
        mean = rows["difference"].mean()
        # The test images are the same in every draw: more draws do not average them out.
        error = math.hypot(
            math.sqrt((rows["error_validation"] ** 2).mean() / len(rows)), rows["error_test"].mean()
        )
        verdict = "chance explains it" if abs(mean) <= 1.96 * error else "shift"
        lines.append(f"| {task} | {100.0 * mean:+.2f} | {100.0 * error:.2f} | {verdict} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Profile, compare, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.draws", description=__doc__)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("out/draws"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    use_threads(1)
    rows = []
    for draw in range(asked.draws):
        home = asked.work / f"draw-{draw}"
        home.mkdir(parents=True, exist_ok=True)
        rows += rows_of(draw, profiled(draw, asked.work))
        print(f"draw {draw}: {rows[-1]}", flush=True)
    found = pd.DataFrame(rows)
    write_atomically(asked.out / "draws.csv", found.to_csv(index=False, float_format="%.6g"))
    write_atomically(asked.out / "draws.md", page(found))


if __name__ == "__main__":
    main()
