"""The winner's curse, where it is known; and the answers that it is estimated from."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from code_opt import check, load_instance, parse_instance, solve
from code_opt.answers import ANSWERS, TaskAnswers, load_answers, packed, unpacked
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.optimism import with_winners_curse
from code_opt.result import Result, load_result
from tests.instances import dnn

DIGITS = Path(__file__).resolve().parent.parent / "data" / "digits"
PATHS = 15
"""Beside the native one; the largest of 16 standard normal variables is 1.766 at the mean."""
MEAN_OF_LARGEST = 1.766


def chosen_by(right: np.ndarray, is_asked: np.ndarray | None = None) -> tuple[Instance, Any]:
    """Return an instance of paths of equal work with these answers, shape (paths, images)."""
    names = [f"n{k}" for k in range(len(right))]
    ends = [
        {"source": tail, "target": head, "drop": 0.0}
        for name in names[1:]
        for tail, head in (("input", f"{name}0"), (f"{name}0", "output"))
    ]
    shares = right.mean(axis=1)
    instance = parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "equals",
            "servers": [{"id": "edge", "flops": 100.0}],
            "dnns": [dnn(name, "edge", [1.0]) for name in names],
            "tasks": [
                {
                    "id": "task",
                    "dnn": "n0",
                    "accuracy": float(shares[0]),
                    "connections": ends,
                    "measured_paths": [
                        {"blocks": [f"{name}0"], "accuracy": float(share)}
                        for name, share in zip(names[1:], shares[1:], strict=True)
                    ],
                }
            ],
        }
    )
    asked = np.ones(right.shape[1], dtype=np.bool_) if is_asked is None else is_asked
    paths = {(f"{name}0",): row for name, row in zip(names[1:], right[1:], strict=True)}
    return instance, {"task": TaskAnswers("images", asked, right[0], paths)}


greedy = partial(solve, method="greedy")  # finds the best of paths of equal work


def cursed(right: np.ndarray, splits: int = 3) -> Result:
    instance, answers = chosen_by(right)
    result = with_winners_curse(greedy(instance), instance, answers, greedy, splits=splits)
    assert check(result, instance) == []
    return result


def test_of_equal_paths_the_excess_is_that_of_the_largest_of_normal_variables():
    images, share = 400, 0.8
    found, true = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        result = cursed(rng.random((PATHS + 1, images)) < share)
        assert result.winners_curse is not None
        assert result.accuracy is not None
        found.append(result.winners_curse.accuracy)
        true.append(result.accuracy - share)
    known = MEAN_OF_LARGEST * math.sqrt(share * (1.0 - share) / images)
    assert np.mean(true) == pytest.approx(known, rel=0.2)
    assert np.mean(found) == pytest.approx(known, rel=0.2)


def test_where_every_half_chooses_the_same_there_is_no_excess():
    right = np.random.default_rng(0).random((PATHS + 1, 400)) < 0.6
    right[3] = True
    right[3, ::10] = False
    curse = cursed(right).winners_curse
    assert curse is not None
    assert (curse.accuracy, curse.reward, curse.accuracy_spread) == (0.0, 0.0, 0.0)
    assert curse.accuracy_corrected == 0.9
    assert curse.solved == 6


def test_figures_are_lessened_and_the_checker_recomputes_them():
    rng = np.random.default_rng(1)
    instance, _ = chosen_by(right := rng.random((PATHS + 1, 100)) < 0.7)
    result = cursed(right)
    curse = result.winners_curse
    assert curse is not None
    assert result.accuracy is not None
    assert curse.accuracy > 0.0
    assert curse.accuracy_corrected == pytest.approx(result.accuracy - curse.accuracy)
    assert result.throughput is not None
    assert curse.reward_corrected == pytest.approx(curse.accuracy_corrected * result.throughput)
    for name in ("accuracy_corrected", "reward_corrected"):
        wrong = curse.model_copy(update={name: getattr(curse, name) * 1.001})
        (found,) = check(result.model_copy(update={"winners_curse": wrong}), instance)
        assert found.rule == "winners-curse"
        assert found.place == f"winners_curse.{name}"
    nothing = Result(
        schema="code-opt/result/1",
        instance="equals",
        method="exact",
        status="unknown",
        winners_curse=curse,
    )
    assert [v.rule for v in check(nothing, instance)] == ["no-assignment"]


def test_tasks_of_one_draw_are_split_alike_and_too_few_images_are_refused():
    rng = np.random.default_rng(0)
    instance, answers = chosen_by(rng.random((3, 19)) < 0.7)
    with pytest.raises(InputError, match=r"task 'task': 19 validation images; .* takes 20"):
        with_winners_curse(solve(instance), instance, answers, solve)
    nothing = Result(
        schema="code-opt/result/1", instance="equals", method="exact", status="unknown"
    )
    with pytest.raises(InputError, match="unknown, so there is no choice"):
        with_winners_curse(nothing, instance, answers, solve)


@pytest.mark.parametrize("images", [1, 7, 8, 9, 360])
def test_answers_are_packed_and_unpacked(images: int) -> None:
    right = np.random.default_rng(images).random(images) < 0.5
    assert np.array_equal(unpacked(packed(right), images), right)
    with pytest.raises(ValueError, match="bytes"):
        unpacked(packed(right), images + 8)


def signed(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the answers and set their checksum anew."""
    file = folder / "bundle" / ANSWERS
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    manifest = folder / "bundle" / "manifest.json"
    said = json.loads(manifest.read_text())
    said["sha256"][ANSWERS] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(said))


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    shutil.copytree(DIGITS, tmp_path / "digits", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "digits"


def test_the_digits_have_answers_and_an_instance_without_any_is_refused(digits: Path) -> None:
    instance = load_instance(digits)
    answers = load_answers(instance, digits / "instance.json")
    assert {task: len(one.paths) for task, one in answers.items()} == {"digit": 26, "parity": 26}
    assert answers["digit"].draw == answers["parity"].draw
    assert answers["digit"].is_asked.all()
    file = digits / "bundle" / ANSWERS
    assert file.stat().st_size < 12_000
    file.write_text(file.read_text().replace("/", "+", 1))
    with pytest.raises(InputError, match=r"answers.json: damaged or replaced: its SHA-256"):
        load_answers(instance, digits)
    for change, message in (
        (lambda d: d["tasks"].pop(), "no answers of task 'parity'"),
        (lambda d: d["tasks"][0]["paths"].pop(0), "task 'digit': no answers of alexnet/0"),
        (lambda d: d["tasks"][0].update(native="AAAA"), "task 'digit': 3 bytes, 360 images need"),
        (lambda d: d["tasks"][0].update(native=packed(np.zeros(360, bool))), "the instance says"),
        (lambda d: d.update(schema="code-opt/answers/2"), "schema: Input should be"),
    ):
        shutil.copy(DIGITS / "bundle" / ANSWERS, file)
        signed(digits, change)
        with pytest.raises(InputError, match=message):
            load_answers(instance, digits)
    manifest = json.loads((digits / "bundle" / "manifest.json").read_text())
    del manifest["sha256"][ANSWERS]
    (digits / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"holds no answers.json .* profile once more"):
        load_answers(instance, digits)
    with pytest.raises(InputError, match="names no bundle"):
        load_answers(instance.replace(bundle=None), digits)


def test_solve_tells_and_writes_the_winners_curse(tmp_path: Path, capsys: Any) -> None:
    arguments = ["solve", str(DIGITS), "--method", "greedy", "--winners-curse", "3"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "The winner's curse: what choosing by the validation images adds" in told
    instance = load_instance(DIGITS)
    result = load_result(tmp_path / "digits.greedy.json")
    assert result.winners_curse is not None
    assert result.winners_curse.splits == 3
    assert check(result, instance) == []
    plain = solve(instance, "greedy")
    assert (result.accuracy, result.reward) == (plain.accuracy, plain.reward)
    for more, message in (
        (["--set", "tasks[*].floor=0"], "for the instance as it was measured, without --set"),
        ([str(DIGITS)], "--winners-curse: for one instance only"),
    ):
        assert main([*arguments, *more]) == 2
        assert message in capsys.readouterr().err
