"""What is fed to the edge, and when: at given rates, or as fast as it is answered.

A feeder says when it wants to send the next inference and is told what was answered. The
drivers (real processes, the simulated clock) do the sending.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Literal, Protocol

import numpy as np

Arrivals = Literal["constant", "poisson"]
Feed = Literal["rates", "saturated", "overloaded"]
Arrival = tuple[float, int]
"""Time and stream."""
_BLOCK = 4096


class Feeder(Protocol):
    """Decides when which stream gets its next inference."""

    @property
    def time(self) -> float:
        """When the next inference is sent; infinity: not before something is answered."""

    def take(self, now: float) -> Arrival:
        """Return when the next inference counts as born, and its stream; then look further."""

    def answered(self, stream: int, task: int) -> None:
        """Learn that an inference was answered for one task (place in its route)."""

    def finished(self, now: float) -> bool:
        """Whether nothing more is to be fed or waited for."""


def arrivals(kind: Arrivals, rates: Sequence[float], start: float, seed: int) -> Iterator[Arrival]:
    """Yield arrivals without end, in order of time; of equal times the first stream's.

    Args:
        kind: evenly spaced, every stream beginning at another part of its gap; or independent
            Poisson processes.
        rates: inferences per second of each stream.
        start: when they begin.
        seed: of the Poisson processes.
    """
    return _evenly(rates, start) if kind == "constant" else _poisson(rates, start, seed)


def _evenly(rates: Sequence[float], start: float) -> Iterator[Arrival]:
    def one(k: int, rate: float) -> Iterator[Arrival]:
        phase = (k + 0.5) / len(rates)
        return ((start + (phase + i) / rate, k) for i in count())

    return heapq.merge(*(one(k, rate) for k, rate in enumerate(rates)))


def _poisson(rates: Sequence[float], start: float, seed: int) -> Iterator[Arrival]:
    """Merge the processes: gaps at the total rate, every arrival a stream's by its share."""
    random = np.random.default_rng(seed)
    shares = np.cumsum(rates) / sum(rates)
    now = start
    while True:
        times = now + np.cumsum(random.exponential(1.0 / sum(rates), _BLOCK))
        streams = np.searchsorted(shares[:-1], random.random(_BLOCK), side="right")
        yield from zip(times.tolist(), streams.tolist(), strict=True)
        now = float(times[-1])


class OpenFeeder:
    """Feeds on schedule until a time, whatever comes back."""

    def __init__(self, schedule: Iterator[Arrival], end: float) -> None:
        self._schedule = schedule
        self._end = end
        self._coming = next(schedule)

    @property
    def time(self) -> float:
        """When the next inference is sent."""
        return self._coming[0] if self._coming[0] < self._end else math.inf

    def take(self, now: float) -> Arrival:
        """Return the next arrival: an inference that is sent too late was born in time."""
        time, stream = self._coming
        self._coming = next(self._schedule)
        return min(time, now), stream

    def answered(self, stream: int, task: int) -> None:
        """Do nothing."""

    def finished(self, now: float) -> bool:
        """Whether the time is over."""
        return now >= self._end


class ClosedFeeder:
    """Feeds a mix as fast as it is answered, so many at a time that no server idles.

    All tasks are held within so many seconds of traffic of the slowest, which keeps the mix.

    Args:
        rates: the mix, by stream.
        members: number of tasks, by stream.
        ahead: seconds of traffic.
        start, end: when it begins and ends.
    """

    def __init__(
        self,
        rates: Sequence[float],
        members: Sequence[int],
        ahead: float,
        start: float,
        end: float,
    ) -> None:
        self._rates = rates
        self._answered = [[0] * n for n in members]
        self._ahead = ahead
        self._start = start
        self._end = end
        self._mix = _evenly(rates, 0.0)
        self._coming = next(self._mix)
        self._limit = ahead

    @property
    def time(self) -> float:
        """When the next inference is sent: now, or not before something is answered."""
        return self._start if self._coming[0] <= self._limit else math.inf

    def take(self, now: float) -> Arrival:
        """Return the next stream of the mix, born now."""
        stream = self._coming[1]
        self._coming = next(self._mix)
        return now, stream

    def answered(self, stream: int, task: int) -> None:
        """Let the slowest task decide how much may be under way."""
        self._answered[stream][task] += 1
        slowest = min(
            n / rate
            for rate, counts in zip(self._rates, self._answered, strict=True)
            for n in counts
        )
        self._limit = slowest + self._ahead

    def finished(self, now: float) -> bool:
        """Whether the time is over."""
        return now >= self._end
