"""Add right and wrong answers to the profiled instances of this folder, by running their bundles.

``python data/make_answers.py [--data FOLDER] NAME...``

``code-opt profile`` writes ``bundle/answers.json`` and ``samples``. Profiles of older versions lack
both; here their networks answer the validation images once more. Nothing is trained, and nothing
is written unless every accuracy is that of the instance.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from code_opt import load_instance, save_instance
from code_opt.answers import ANSWERS, answers_text, load_answers
from code_opt.errors import InputError
from code_opt.evaluation import load_subject
from code_opt.evaluation.tuning import PathFits
from code_opt.networks.bundle import save_bundle
from code_opt.networks.threads import use_threads

HERE = Path(__file__).resolve().parent


def add_answers(name: str, data: Path) -> None:
    """Write the answers of one profiled instance.

    Raises:
        InputError: an accuracy is not what the instance says.
    """
    subject = load_subject(HERE / name / "instance.json", data)
    bundle = subject.bundle
    assert bundle is not None
    answers = PathFits(subject, "cpu", fine_tune=False).measured_answers()
    for task in subject.instance.tasks:
        one = answers[task.id]
        for path in task.measured_paths:
            off = float(one.paths[path.blocks].mean()) - path.accuracy
            if abs(off) > 1e-9:
                text = " > ".join(path.blocks)
                raise InputError(f"{name}: {task.id}: {text}: off by {off * len(one.native):.1f}")
    save_bundle(bundle.folder, bundle.manifest, {}, {}, {ANSWERS: answers_text(answers)})
    for file in HERE.glob(f"{name}/*.json"):
        if file.name == "about.json":
            continue
        instance = load_instance(file)
        tasks = instance.to_dict()["tasks"]
        for task in tasks:
            images = float(len(answers[task["id"]].native))
            task["samples"] = images
            for path in task["measured_paths"]:
                path["samples"] = images
        save_instance(instance.replace(tasks=tasks), file)
        load_answers(load_instance(file), file)


def main() -> None:
    """Add answers to the instances named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--data", type=Path, default=Path("datasets"))
    asked = parser.parse_args()
    use_threads(1)
    for name in asked.names:
        started = time.process_time()
        add_answers(name, asked.data)
        print(f"{name}: {time.process_time() - started:.0f} CPU seconds")


if __name__ == "__main__":
    main()
