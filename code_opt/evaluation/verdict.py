"""Predicted against measured: is a result to be acted on?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from code_opt.evaluation.accuracy import Z95, Share
from code_opt.evaluation.device import DeviceReport
from code_opt.evaluation.flow import LAG_TOLERANCE, Flow
from code_opt.instance import Instance
from code_opt.result import Result
from code_opt.reward import log_reward

THROUGHPUT_TOLERANCE = 0.03
ACCURACY_TOLERANCE = 0.005
"""Differences of half a point of average accuracy matter to nobody, whatever the number of
images."""
RANKING_TOLERANCE = 0.01
"""Rewards that differ by less are not ranked."""


@dataclass(frozen=True)
class TaskAccuracy:
    """One task's accuracy, as promised and as measured on its test images."""

    task: str
    path: tuple[str, ...]
    source: str
    """Where the prediction comes from: measured (when profiling) or predicted (from drops)."""
    adapters: str
    """trained together | closed forms | tuned now | native"""
    predicted: float
    measured: Share
    validation_images: int
    """Images behind a measured prediction."""
    weight: float
    reduced: Share | None = None
    """The same images computed in the type of numbers asked for, where that is not float32."""

    pictures: str = ""
    """What was looked at: tasks with the same value here were measured on the same images."""
    answers: npt.NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    """Which images were answered right, shape (images,)."""


def chance(tasks: Sequence[TaskAccuracy]) -> float:
    """Return by how much measured and predicted averages may differ by chance, at 95 %.

    Test and validation images are both samples. Tasks that look at the same images err
    together, so the variance is that of every image's weighted score; tasks on different images
    err independently.
    """
    total = sum(t.weight for t in tasks)
    if total <= 0.0:
        return 0.0
    together: dict[str, list[TaskAccuracy]] = {}
    for number, task in enumerate(tasks):
        alone = task.answers is None or not task.pictures
        together.setdefault(f"{number}" if alone else f"of {task.pictures}", []).append(task)
    variance = 0.0
    for some in together.values():
        answers = [task.answers for task in some if task.answers is not None]
        if len(some) == 1 or len(answers) < len(some):
            one = sum((t.weight / total) ** 2 * t.measured.variance for t in some)
        else:
            score = sum(
                t.weight / total * a.astype(float) for t, a in zip(some, answers, strict=True)
            )
            one = float(np.var(score)) / len(answers[0])
        images, validation = some[0].measured.images, min(t.validation_images for t in some)
        variance += one + one * images / max(1, validation)
    return Z95 * math.sqrt(variance)


@dataclass(frozen=True)
class Verdict:
    """Whether a result holds."""

    throughput: bool | None
    """None: not measured, or the measurement is void."""
    accuracy: bool | None
    text: str
    changed: bool = False
    """The instance changed since the result was found."""
    is_void: bool = False
    """Throughput was measured, but this machine was too late to tell what the edge does."""

    @property
    def confirmed(self) -> bool:
        """Nothing measured contradicts the result, something was measured, and nothing is void."""
        known = {self.throughput, self.accuracy} - {None}
        return known == {True} and not self.is_void and not self.changed


@dataclass(frozen=True)
class Evaluated:
    """Everything that was measured about one result."""

    name: str
    result: Result
    refused: tuple[str, ...]
    """What the independent checker found wrong; nothing is run then."""
    tasks: tuple[TaskAccuracy, ...]
    flows: tuple[Flow, ...]
    device: DeviceReport | None
    verdict: Verdict

    @property
    def flow(self) -> Flow | None:
        """The edge at the result's rates."""
        return next((f for f in self.flows if f.feed == "rates"), None)

    @property
    def accuracy(self) -> float | None:
        """Measured average accuracy."""
        return average(self.tasks)


def average(tasks: Sequence[TaskAccuracy], *, reduced: bool = False) -> float | None:
    """Return the weighted mean of measured accuracies, or None where nothing was measured.

    Args:
        tasks: of one result.
        reduced: those in the reduced type of numbers.
    """
    shares = [t.reduced if reduced else t.measured for t in tasks]
    weight = sum(t.weight for t in tasks)
    if weight <= 0.0 or None in shares:
        return None
    return sum(t.weight * s.value for t, s in zip(tasks, shares, strict=True) if s) / weight


def judge(
    result: Result,
    refused: Sequence[str],
    tasks: Sequence[TaskAccuracy],
    flow: Flow | None,
    changed: Sequence[str] = (),
) -> Verdict:
    """Compare a result with what was measured.

    Throughput is confirmed within 3 % in a steady state; accuracy within what chance explains
    at 95 % (test and validation images are both samples) or half a point. A flow in which this
    machine itself lagged is void: it says nothing about the result's throughput. Nothing is
    confirmed of a result since which parts of the instance ``changed``.
    """
    if refused:
        return Verdict(False, False, f"not confirmed: does not pass the check: {refused[0]}")
    texts = [f"the instance changed since: {', '.join(changed)}"] if changed else []
    throughput: bool | None = None
    is_void = flow is not None and flow.is_void
    if flow is not None and not is_void:
        throughput = abs(flow.error) <= THROUGHPUT_TOLERANCE and flow.steady
        if not throughput:
            texts.append(f"throughput off by {100.0 * flow.error:+.1f} %")
            if not flow.steady:
                texts.append("queues grow")
    accuracy: bool | None = None
    measured = average(tasks)
    if measured is not None and result.accuracy is not None:
        allowed = max(ACCURACY_TOLERANCE, chance(tasks))
        off = measured - result.accuracy
        accuracy = abs(off) <= allowed
        if not accuracy:
            texts.append(
                f"accuracy off by {100.0 * off:+.2f} points (chance: {100.0 * allowed:.2f})"
            )
    if flow is not None and is_void:
        void = (
            f"throughput void: this machine was {flow.lag:.2g} s late, more than "
            f"{100.0 * LAG_TOLERANCE:g} % of the {flow.seconds:.3g} s measured; run it again when "
            "nothing else runs, or for longer"
        )
        texts.append(void)
    if texts:
        told = "not confirmed: " + ", ".join(texts)
        return Verdict(throughput, accuracy, told, bool(changed), is_void)
    names = [
        name
        for name, value in (("throughput", throughput), ("accuracy", accuracy))
        if value is not None
    ]
    missing = " (accuracy not measured)" if accuracy is None else ""
    missing += " (throughput not measured)" if throughput is None else ""
    if not names:
        return Verdict(throughput, accuracy, "nothing measured")
    return Verdict(throughput, accuracy, "confirmed" + missing)


def measured_reward(instance: Instance, one: Evaluated) -> float | None:
    """Return the reward of what was measured (predictions where nothing was), or None."""
    accuracy = one.accuracy if one.accuracy is not None else one.result.accuracy
    flow = one.flow
    throughput = flow.measured if flow is not None else one.result.throughput
    if accuracy is None or throughput is None or one.refused or one.verdict.is_void:
        return None
    return math.exp(log_reward(instance.reward, accuracy, throughput))


def ranking(instance: Instance, found: Sequence[Evaluated]) -> tuple[str, bool | None]:
    """Return whether the measured order of results is the predicted one, in words and as a bool.

    None where there are not two results to compare. Results whose predicted rewards differ
    by less than 1 % are not ordered.
    """
    rewards = [
        (one.name, one.result.reward, measured_reward(instance, one))
        for one in found
        if one.result.reward is not None
    ]
    known = [(name, p, m) for name, p, m in rewards if p is not None and m is not None]
    pairs = [
        (a, b)
        for i, a in enumerate(known)
        for b in known[i + 1 :]
        if abs(a[1] - b[1]) > RANKING_TOLERANCE * max(a[1], b[1])
    ]
    if len(known) < 2:
        return "", None
    if not pairs:
        return "The results promise the same reward (within 1 %): there is no order to check.", None
    wrong = [(a, b) for a, b in pairs if (a[1] - b[1]) * (a[2] - b[2]) <= 0.0]
    if not wrong:
        return "The measured order of the results is the predicted one.", True
    a, b = wrong[0]
    better, worse = (a, b) if a[1] > b[1] else (b, a)
    return (
        f"The measured order is another one: {better[0]} was promised more than {worse[0]}, "
        f"measured {better[2]:.6g} against {worse[2]:.6g}.",
        False,
    )
