"""Predicted against measured: is a result to be acted on?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from code_opt.evaluation.accuracy import Z95, Share
from code_opt.evaluation.flow import LAG_TOLERANCE, LATENCY_LAG, Flow, LatencyVerdict
from code_opt.evaluation.traffic import Feed
from code_opt.instance import Instance
from code_opt.result import Result
from code_opt.reward import log_reward

if TYPE_CHECKING:
    from code_opt.evaluation.device import DeviceReport

THROUGHPUT_TOLERANCE = 0.03
OWN_PACE_TOLERANCE = 0.05
"""Share of the throughput promised from measured times that a saturated device may lack."""
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
    """Something was measured, but this machine was too late, or the run too short, to tell."""
    latency: bool | None = None
    """None: nothing is promised of percentiles, or the measurement does not tell."""

    @property
    def confirmed(self) -> bool:
        """Nothing measured contradicts the result, something was measured, and nothing is void."""
        known = {self.throughput, self.accuracy, self.latency} - {None}
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
        return self.fed("rates")

    def fed(self, feed: Feed) -> Flow | None:
        """The edge fed in one way, None where it was not."""
        return next((f for f in self.flows if f.feed == feed), None)

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
    saturated: Flow | None = None,
) -> Verdict:
    """Compare a result with what was measured.

    Throughput is confirmed where what was fed was answered, within 3 % in a steady state; at the
    device's own pace a ``saturated`` edge must do what was promised, less 5 % at most. A percentile
    of latency is confirmed where its interval does not lie above its limit or promise; accuracy
    within what chance explains at 95 % (test and validation images are both samples) or half a
    point. A flow in which this machine itself lagged is void: it says nothing about the result.
    Nothing is confirmed of a result since which parts of the instance ``changed``.
    """
    if refused:
        return Verdict(False, False, f"not confirmed: does not pass the check: {refused[0]}")
    texts = [f"the instance changed since: {', '.join(changed)}"] if changed else []
    throughput: bool | None = None
    own = saturated if saturated is not None and saturated.pace == "device" else None
    void = [one for one in (flow, own) if one is not None and one.is_void]
    is_void = bool(void)
    if own is not None and not own.is_void:
        throughput = own.error >= -OWN_PACE_TOLERANCE
        if not throughput:
            texts.append(
                f"throughput promised {own.predicted:.6g}/s, this device does "
                f"{own.measured:.6g}/s ({100.0 * own.error:+.1f} %)"
            )
    if flow is not None and not flow.is_void:
        holds = abs(flow.error) <= THROUGHPUT_TOLERANCE and flow.steady
        throughput = holds and throughput is not False
        if not holds:
            texts.append(f"throughput off by {100.0 * flow.error:+.1f} %")
            if not flow.steady:
                texts.append("queues grow")
    latency, told = _judge_latency(flow)
    texts += told
    if "too short to tell" in _latency_verdicts(flow) or "void" in _latency_verdicts(flow):
        is_void = True
    accuracy: bool | None = None
    measured = average(tasks)
    if measured is not None and result.accuracy is not None:
        allowed = max(ACCURACY_TOLERANCE, chance(tasks))
        curse = result.winners_curse
        off = measured - (result.accuracy if curse is None else curse.accuracy_corrected)
        accuracy = abs(off) <= allowed
        if not accuracy:
            texts.append(
                f"accuracy off by {100.0 * off:+.2f} points (chance: {100.0 * allowed:.2f})"
            )
    texts += [_why_void(one) for one in void[:1]]
    if texts:
        text = "not confirmed: " + ", ".join(texts)
        return Verdict(throughput, accuracy, text, bool(changed), is_void, latency)
    names = [value for value in (throughput, accuracy, latency) if value is not None]
    missing = " (accuracy not measured)" if accuracy is None else ""
    missing += " (throughput not measured)" if throughput is None else ""
    if not names:
        return Verdict(throughput, accuracy, "nothing measured")
    return Verdict(throughput, accuracy, "confirmed" + missing, latency=latency)


def _latency_verdicts(flow: Flow | None) -> list[LatencyVerdict]:
    if flow is None or flow.is_void:
        return []
    return [task.latency_verdict for task in flow.tasks if task.latency_verdict]


def _judge_latency(flow: Flow | None) -> tuple[bool | None, list[str]]:
    """Return whether limits and promises of percentiles hold, and what does not, in words."""
    found = _latency_verdicts(flow)
    if flow is None or not found:
        return None, []
    texts = []
    for task in flow.tasks:
        if task.latency_verdict in ("", "kept", "not measured"):
            continue
        of = f"latency of {task.task!r}: "
        if task.latency_verdict == "void":
            texts.append(
                f"{of}void: this machine was {flow.lag:.2g} s late, more than "
                f"{100.0 * LATENCY_LAG:g} % of it"
            )
        elif task.latency_verdict == "too short to tell":
            texts.append(f"{of}too short to tell; run it for longer (--seconds)")
        else:
            broken, bound = (
                ("limit", task.latency_limit)
                if task.latency_verdict == "limit broken"
                else ("promise", task.latency_promised)
            )
            texts.append(
                f"{of}{100.0 * (task.latency_percentile or 0.0):g} % within "
                f"{task.latency_measured:.4g} s, the {broken} is {bound:.4g} s"
            )
    if any(verdict in ("limit broken", "promise broken") for verdict in found):
        return False, texts
    return (True if set(found) == {"kept"} else None), texts


def _why_void(flow: Flow) -> str:
    if flow.lag > LAG_TOLERANCE * flow.seconds:
        return (
            f"throughput void: this machine was {flow.lag:.2g} s late, more than "
            f"{100.0 * LAG_TOLERANCE:g} % of the {flow.seconds:.3g} s measured; run it again when "
            "nothing else runs, or for longer"
        )
    return (
        f"throughput void: others had the processor for {100.0 * flow.stolen:.0f} % of the time; "
        "run it again when nothing else runs"
    )


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
