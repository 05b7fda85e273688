"""The objective of a solve: value, slopes, floors on the totals, unit and gap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.instance.model import Power, Reward, Shape
from code_opt.paths import Duals, PathPool
from code_opt.paths.graph import FloatArray
from code_opt.result import Objective
from code_opt.reward import log_reward, log_slope, log_value
from formulations import Goal

CAPACITY_SLACK = 5e-7
"""Relative excess of a capacity tolerated where a solver's own tolerance let it pass."""
TIE_WEIGHT = 1e-5
"""Exponent of the other total in searches where one alone is the objective: it breaks ties."""
LARGEST_LOG_REWARD = 709.0
"""The exponential of more is no floating-point number."""
SMALLEST_LOG_REWARD = -708.0
"""The exponential of less is no floating-point number of full precision."""

_LEAST_TIME = 1e-6
"""The unit of D is at least this share of the most that it can be."""

Range = tuple[float, float]
"""Where a total can lie: least and largest value."""


@dataclass(frozen=True)
class ObjectiveFunction:
    """What is maximised, and the floors asked of the totals.

    Values are those of ``log F`` where the reward is the objective, of Th or A itself, or minus
    the average time D [s], which is minimised.
    """

    kind: Objective
    reward: Reward
    min_accuracy: float | None
    min_throughput: float | None
    """Floor on Th [inferences/s]."""
    throughput_unit: float
    """Th is modelled in this unit [inferences/s]: the sum of all largest rates."""
    accuracy_unit: float
    """A is modelled in this unit in Pyomo: the most that any assignment has."""
    time_unit: float
    """D is modelled in this unit [s]: about the least that any assignment has."""

    @classmethod
    def of(cls, pool: PathPool, settings: Settings) -> ObjectiveFunction:
        """Return the objective that settings ask for."""
        return cls(
            settings.objective,
            pool.instance.reward,
            settings.min_accuracy,
            settings.min_throughput,
            sum(float(t.most_rate.max(initial=0.0)) for t in pool.tasks) or 1.0,
            accuracy_unit(pool),
            time_unit(pool),
        )

    @property
    def is_log(self) -> bool:
        """Whether values are logarithms."""
        return self.kind == "reward"

    @property
    def is_time(self) -> bool:
        """Whether the average time D is minimised."""
        return self.kind == "latency"

    @property
    def unit(self) -> float:
        """What the master and its bounds count the objective in: only Th and D are scaled there."""
        return {"throughput": self.throughput_unit, "latency": self.time_unit}.get(self.kind, 1.0)

    @property
    def unit_in_model(self) -> float:
        """What Pyomo's models count the objective in: Th, A and D are scaled there."""
        return self.accuracy_unit if self.kind == "accuracy" else self.unit

    @property
    def time_dual(self) -> float:
        """What a second of D costs, in :attr:`unit`: the objective is linear in it."""
        return 1.0 / self.unit if self.is_time else 0.0

    @property
    def goal(self) -> Goal:
        """Objective and floors as the formulations take them."""
        return Goal(
            self.kind,
            self.min_accuracy,
            self.min_throughput,
            self.throughput_unit,
            self.accuracy_unit,
            self.time_unit,
        )

    def value(self, accuracy: float, throughput: float, time: float) -> float:
        """Return the objective at the totals A, Th and D (a reward as its logarithm)."""
        if self.is_log:
            return log_reward(self.reward, accuracy, throughput)
        return {"throughput": throughput, "accuracy": accuracy, "latency": -time}[self.kind]

    def shown(self, value: float) -> float | None:
        """Return a value as users see it (a reward itself); None where it is no number."""
        if self.is_log:
            value = math.exp(value) if value <= LARGEST_LOG_REWARD else math.inf
        if self.is_time:
            value = max(-value, 0.0)
        return value if math.isfinite(value) else None

    def gap(self, value: float, bound: float) -> float:
        """Return bound / value - 1 of the objective itself; infinite for a value of 0.

        Of a time 1 - bound / value, its bound being a lower one: at most 1.
        """
        if bound <= value:
            return 0.0
        if self.is_time:
            if not math.isfinite(value):
                return math.inf
            return 1.0 - max(-bound, 0.0) / -value if value < 0.0 else 0.0
        if self.is_log:
            # Of more there is no number; the gap counts as infinite then.
            is_number = np.isfinite(value) and bound - value <= LARGEST_LOG_REWARD
            return float(np.expm1(bound - value)) if is_number else np.inf
        return bound / value - 1.0 if value > 0.0 else np.inf

    def meets_floors(self, accuracy: float, throughput: float) -> bool:
        """Tell whether the floors on the totals hold (within ``CAPACITY_SLACK``)."""
        slack = 1.0 - CAPACITY_SLACK
        return (self.min_accuracy is None or accuracy >= self.min_accuracy * slack) and (
            self.min_throughput is None or throughput >= self.min_throughput * slack
        )

    def floors_missed(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """Return by how much the floors on the totals are missed, relative, elementwise."""
        total = np.zeros(np.broadcast_shapes(accuracy.shape, throughput.shape))
        for least, value in (
            (self.min_accuracy, accuracy),
            (self.min_throughput, throughput),
        ):
            if least:
                total = total + np.maximum(0.0, 1.0 - value / least - 1e-9)
        return total

    @cached_property
    def for_search(self) -> ObjectiveFunction:
        """The objective as heuristics see it: a reward, or a time.

        Th alone is the reward ``Th * A**TIE_WEIGHT``, A alone ``A * Th**TIE_WEIGHT``: ties in the
        one are broken by the other.
        """
        if self.is_log or self.is_time:
            return self
        exponents = (TIE_WEIGHT, 1.0) if self.kind == "throughput" else (1.0, TIE_WEIGHT)
        accuracy, throughput = (Power(kind="power", exponent=e) for e in exponents)
        reward = Reward(accuracy=accuracy, throughput=throughput)
        return replace(self, kind="reward", reward=reward)

    def search_values(
        self, accuracy: FloatArray, throughput: FloatArray, time: FloatArray
    ) -> FloatArray:
        """Return what searches compare, elementwise, finite also at totals of 0.

        The logarithm of the reward, or minus D in its unit: a difference of it is a relative one.
        """
        if self.is_time:
            return np.asarray(-time / self.unit)
        a, th = np.maximum(accuracy, 1e-9), np.maximum(throughput, 1e-9)
        reward = self.reward
        return np.asarray(log_value(reward.accuracy, a) + log_value(reward.throughput, th))

    def slopes(self, accuracy: float, throughput: float, rate: float) -> tuple[float, float]:
        """Return d log F / dA and d log F / dTh (per inference/s); 0 where a time is minimised.

        Args:
            accuracy: A.
            throughput: Th [inferences/s].
            rate: a typical rate [inferences/s]; Th counts as a millionth of it at least.
        """
        if self.is_time:
            return 0.0, 0.0
        a, th = max(accuracy, 1e-6), max(throughput, 1e-6 * rate)
        return log_slope(self.reward.accuracy, a), log_slope(self.reward.throughput, th)

    def most_beyond(self, duals: Duals, accuracy: Range, throughput: Range) -> float:
        """Return the most that totals within ranges can bring beyond their duals.

        In the unit of :attr:`unit`, as the duals are; ``throughput`` in inferences/s.
        """
        if self.is_log:
            return _most_beyond(self.reward.accuracy, *accuracy, duals.accuracy) + _most_beyond(
                self.reward.throughput, *throughput, duals.throughput
            )
        # Linear in A and Th: an end of each range is best. D is priced at all that it costs.
        alpha = (1.0 if self.kind == "accuracy" else 0.0) - duals.accuracy
        tau = (1.0 / self.unit if self.kind == "throughput" else 0.0) - duals.throughput
        return max(alpha * a for a in accuracy) + max(tau * th for th in throughput)


def accuracy_unit(pool: PathPool) -> float:
    """Return the most average accuracy that any assignment has (1 where that is 0)."""
    most = [float(t.paths.accuracy.max(initial=0.0)) for t in pool.tasks]
    return float(pool.weights @ np.array(most)) or 1.0


def time_unit(pool: PathPool) -> float:
    """Return about the least average time [s] that any assignment has (1 where that is 0)."""
    ends = [
        (float(t.paths.seconds.min()), float(t.paths.seconds.max())) if len(t) else (0.0, 0.0)
        for t in pool.tasks
    ]
    least, most = pool.weights @ np.array(ends)
    return max(float(least), _LEAST_TIME * float(most)) if 0.0 < most < np.inf else 1.0


def refuse_huge_reward(log_reward: float) -> None:
    """Refuse a reward that is too large for a number, given the logarithm that some has.

    Raises:
        InputError: it is.
    """
    if log_reward > LARGEST_LOG_REWARD:
        raise InputError(
            f"the reward exp({log_reward:.6g}) is too large for a number: "
            "choose smaller parameters of the reward"
        )


def refuse_tiny_reward(log_reward: float) -> None:
    """Refuse a reward above 0 that is too small for a number of full precision.

    Args:
        log_reward: logarithm of a reward, or a bound on that of every assignment.

    Raises:
        InputError: it is too small; a reward of 0 is not.
    """
    if -np.inf < log_reward < SMALLEST_LOG_REWARD:
        raise InputError(
            f"the reward exp({log_reward:.6g}) is too small for a number: "
            "choose smaller parameters of the reward, or another midpoint"
        )


def _most_beyond(shape: Shape, low: float, high: float, dual: float) -> float:
    """Return an upper bound of max over [low, high] of log shape(x) - dual * x.

    The logarithm is concave, so its tangent at any point bounds it; at the point where its
    slope is the dual, found by bisection, the bound is exact.
    """
    left, right = max(low, 1e-12 * max(high, 1e-300)), high
    at = right
    if log_slope(shape, right) < dual:
        for _ in range(80):
            at = 0.5 * (left + right)
            if log_slope(shape, at) > dual:
                left = at
            else:
                right = at
    value, slope = float(log_value(shape, at)), log_slope(shape, at)
    return max(value + slope * (x - at) - dual * x for x in (low, high))
