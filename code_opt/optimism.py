"""The winner's curse: what choosing by the validation images adds to the figures of a result.

Paths are chosen because they measured well, so they measured better than they are. The excess is
estimated by cross-validation (Stone, Journal of the Royal Statistical Society B 36, 1974): the
validation images are split into halves, the instance is solved with the accuracies of one half,
and the paths found are judged on the other, which had no part in the choice; then the other way.

That is the excess for n / 2 images. For n it is less: where accuracies err like a normal variable
of standard deviation s, the expected maximum h of weighted sums of accuracies is convex in s, the
excess of the maximiser is s h'(s), and h' does not decrease. So with s smaller by the root of 2,
the excess is smaller by the root of 2 at least, and by that exactly where all paths are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from code_opt.answers import Answers, TaskAnswers
from code_opt.checker import check
from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.result import Result, TaskResult, WinnersCurse
from code_opt.reward import log_reward
from code_opt.solving import CheckFailedError

BoolArray = npt.NDArray[np.bool_]
FEWEST_IMAGES = 20
"""Validation images of a task from which on halves are made of them."""

ROUNDING = 1e-9
"""Relative to accuracy 1 and the reward: where both halves choose the same, the excess is 0."""


@dataclass(frozen=True)
class _Half:
    """The accuracies of one task on a half of its images."""

    native: float
    paths: Mapping[tuple[str, ...], float]


def with_winners_curse(
    result: Result,
    instance: Instance,
    answers: Answers,
    solve: Callable[[Instance], Result],
    *,
    splits: int = 10,
    seed: int = 0,
    tell: Callable[[int], None] | None = None,
) -> Result:
    """Return a result with the estimated excess of its accuracy and reward, checked.

    Args:
        result: holds an assignment.
        instance: what was solved.
        answers: behind the accuracies of its paths (:func:`code_opt.answers.load_answers`).
        solve: returns the result of the same method with the same options for other accuracies.
        splits: of the validation images; the instance is solved twice for each.
        seed: of the splits.
        tell: called with the number of halves solved.

    Raises:
        InputError: the result holds no assignment, a task has too few images, or on no half
            paths were found.
    """
    if result.accuracy is None or result.throughput is None:
        raise InputError(f"{result.method}: {result.status}, so there is no choice to be judged")
    for task, one in answers.items():
        if one.is_asked.sum() < FEWEST_IMAGES:
            raise InputError(
                f"task {task!r}: {int(one.is_asked.sum())} validation images; to split them it "
                f"takes {FEWEST_IMAGES}"
            )
    scale = np.array([1.0, abs(result.reward or 0.0)])
    by_split: list[list[tuple[float, float]]] = []
    for split in range(splits):
        halves = _halves(answers, np.random.default_rng([seed, split]))
        by_split.append([])
        for turn, (chosen_on, judged_on) in enumerate((halves, halves[::-1])):
            found = solve(_with_accuracies(instance, chosen_on))
            if found.accuracy is not None:
                by_split[-1].append(_excess(found, instance, chosen_on, judged_on))
            if tell is not None:
                tell(2 * split + turn + 1)
    means = np.array([np.mean(rows, axis=0) for rows in by_split if rows])
    if not len(means):
        raise InputError(f"{result.method}: on no half of the validation images paths were found")
    shrunk = np.where(np.abs(means) > ROUNDING * scale, means, 0.0) / math.sqrt(2.0)
    accuracy, reward = shrunk.mean(axis=0)
    spread = shrunk.std(axis=0, ddof=1) if len(shrunk) > 1 else np.zeros(2)
    corrected = max(result.accuracy - max(float(accuracy), 0.0), 0.0)
    curse = WinnersCurse(
        splits=splits,
        solved=sum(map(len, by_split)),
        seed=seed,
        accuracy=float(accuracy),
        accuracy_spread=float(spread[0]),
        reward=float(reward),
        reward_spread=float(spread[1]),
        accuracy_corrected=corrected,
        reward_corrected=math.exp(log_reward(instance.reward, corrected, result.throughput)),
    )
    told = result.model_copy(update={"winners_curse": curse})
    violations = check(told, instance)
    if violations:
        raise CheckFailedError(f"{result.method}: {violations[0]}")
    return told


def _halves(
    answers: Answers, rng: np.random.Generator
) -> tuple[dict[str, _Half], dict[str, _Half]]:
    """Return the accuracies on two halves; tasks of one draw are split alike."""
    first: dict[str, BoolArray] = {}
    for one in answers.values():
        if one.draw not in first:
            images = len(one.is_asked)
            first[one.draw] = rng.permutation(images) < images // 2
    return tuple(  # type: ignore[return-value]
        {task: _on(one, first[one.draw] == is_first) for task, one in answers.items()}
        for is_first in (True, False)
    )


def _on(answers: TaskAnswers, images: BoolArray) -> _Half:
    """Return a task's accuracies on those images of its draw that it answers.

    Raises:
        InputError: it answers none of them.
    """
    rows = images[answers.is_asked]
    if not rows.any():
        raise InputError("a half of the validation images holds none of a task's classes")
    return _Half(
        float(answers.native[rows].mean()),
        {path: float(right[rows].mean()) for path, right in answers.paths.items()},
    )


def _with_accuracies(instance: Instance, halves: Mapping[str, _Half]) -> Instance:
    """Return the instance with the accuracies of one half."""
    data = instance.to_dict()
    for task in data["tasks"]:
        half = halves[task["id"]]
        task["accuracy"] = half.native
        for path in task["measured_paths"]:
            path["accuracy"] = half.paths[tuple(path["blocks"])]
    return instance.replace(tasks=data["tasks"])


def _excess(
    found: Result,
    instance: Instance,
    chosen_on: Mapping[str, _Half],
    judged_on: Mapping[str, _Half],
) -> tuple[float, float]:
    """Return by how much average accuracy and reward are lower where nothing was chosen."""
    assert found.accuracy is not None
    assert found.throughput is not None
    assert found.reward is not None
    weights = {task.id: task.weight for task in instance.tasks}
    blocks = {dnn.id: tuple(block.id for block in dnn.blocks) for dnn in instance.dnns}
    native = {task.id: blocks[task.dnn] for task in instance.tasks}
    judged = sum(
        weights[row.task] * _judged(row, native[row.task], chosen_on[row.task], judged_on[row.task])
        for row in found.tasks
    ) / sum(weights.values())
    honest = math.exp(log_reward(instance.reward, max(judged, 0.0), found.throughput))
    return found.accuracy - judged, found.reward - honest


def _judged(row: TaskResult, native: tuple[str, ...], chosen_on: _Half, judged_on: _Half) -> float:
    """Return the accuracy of a task's path on the other half."""
    if row.accuracy_source == "measured":
        return judged_on.paths[row.path]
    if row.accuracy_source == "given" and row.path != native:
        return row.accuracy  # of an alternative, which others measured
    # What is predicted rests on drops from the native accuracy, which all images gave.
    return row.accuracy + judged_on.native - chosen_on.native
