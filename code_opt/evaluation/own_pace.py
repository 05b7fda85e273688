"""A server at its own pace: what arrives is computed in batches as fast as the device can.

Nothing in here knows networks or processes: whoever calls gives the clocks and what computes a
batch. Inputs wait by visit, since a batch holds inferences of one visit only. The oldest input that
has waited for the longest time allowed goes first, with others of its visit; before that time full
batches go, the one of the oldest input first. A batch that is not full is computed as a full one.

While the process runs, it does nothing but compute and look at the clock. So time in which the
clock went on and its processor time did not was taken by others: that is this machine's fault, not
the server's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]
Clock = Callable[[], float]
Compute = Callable[[int, int], None]
"""Computes a batch of a visit from its so-manieth input on; returns when it is done."""


@dataclass(frozen=True)
class Clocks:
    """Time, and the time for which this thread had a processor [s]."""

    wall: Clock
    processor: Clock


@dataclass
class Served:
    """What a server did with given arrivals."""

    begun: Times
    """When each was taken into a batch; NaN: not before the end. Shape (arrivals,)."""
    done: Times
    taken: Times
    """Time of the processor that others had between its arrival and its answer [s]."""
    busy: float = 0.0
    """Time of the window spent computing [s]."""
    stolen: float = 0.0
    """Share of the window in which others had the processor."""
    batches: int = 0


@dataclass
class Mix:
    """What a server did that always had full batches of every visit."""

    wall: list[float] = field(default_factory=list)
    """Mean time of a batch, by visit [s]."""
    processor: list[float] = field(default_factory=list)
    """The same in time of the processor."""
    batches: list[int] = field(default_factory=list)
    stolen: float = 0.0


class _Watch:
    """Time since the start, and how much of it others had."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._wall, self._processor = clocks.wall(), clocks.processor()

    def time(self) -> float:
        return self._clocks.wall() - self._wall

    def used(self) -> float:
        return self._clocks.processor() - self._processor


def serve_arrivals(
    times: Sequence[float],
    visits: Sequence[int],
    *,
    batch: int,
    delay: float,
    window: tuple[float, float],
    compute: Compute,
    clocks: Clocks,
) -> Served:
    """Compute what arrives until the window ends.

    Args:
        times: of arrivals, in order, from the start on [s].
        visits: of each arrival, numbered from 0.
        batch: inferences that are computed at once.
        delay: longest wait for a batch to fill [s].
        window: time that counts (begin, end).
        compute: computes a batch.
        clocks: of this thread.
    """
    count = len(times)
    waiting: list[deque[int]] = [deque() for _ in range(max(visits, default=-1) + 1)]
    numbers = [0] * len(waiting)
    begun, done, taken = (np.full(count, math.nan) for _ in range(3))
    found = Served(begun, done, taken)
    seen = [0.0] * count
    start, end = window
    at_start: tuple[float, float] | None = None
    coming = 0
    watch = _Watch(clocks)
    now = 0.0
    while now < end:
        if at_start is None and now >= start:
            at_start = now, watch.used()
        if coming < count and times[coming] <= now:
            lost = now - watch.used()
            while coming < count and times[coming] <= now:
                waiting[visits[coming]].append(coming)
                seen[coming] = lost
                coming += 1
        visit = _next(waiting, times, now, batch, delay)
        if visit is None:
            now = watch.time()
            continue
        queue = waiting[visit]
        items = [queue.popleft() for _ in range(min(batch, len(queue)))]
        compute(visit, numbers[visit])
        numbers[visit] += len(items)
        began, now = now, watch.time()
        lost = now - watch.used()
        found.busy += max(0.0, min(now, end) - max(began, start))
        found.batches += began >= start
        for item in items:
            begun[item], done[item] = began, now
            taken[item] = max(0.0, lost - seen[item])
    if at_start is not None and now > at_start[0]:
        found.stolen = 1.0 - (watch.used() - at_start[1]) / (now - at_start[0])
    return found


def _next(
    waiting: Sequence[deque[int]], times: Sequence[float], now: float, batch: int, delay: float
) -> int | None:
    """Return the visit that is computed next, None: none yet. Arrivals are numbered in order."""
    overdue = full = None
    for visit, queue in enumerate(waiting):
        if not queue:
            continue
        if now - times[queue[0]] >= delay and (overdue is None or queue[0] < waiting[overdue][0]):
            overdue = visit
        if len(queue) >= batch and (full is None or queue[0] < waiting[full][0]):
            full = visit
    return full if overdue is None else overdue


def serve_mix(
    rates: Sequence[float],
    *,
    batch: int,
    window: tuple[float, float],
    compute: Compute,
    clocks: Clocks,
) -> Mix:
    """Compute full batches in a mix until the window ends, at least one of each visit.

    Args:
        rates: of visits; those without a rate are left out.
        batch: inferences that are computed at once.
        window: time that counts (begin, end) [s].
        compute: computes a batch.
        clocks: of this thread.
    """
    asked = [visit for visit, rate in enumerate(rates) if rate > 0.0]
    numbers = [0] * len(rates)
    wall, processor, batches = ([0.0] * len(rates) for _ in range(3))
    start, end = window
    watch = _Watch(clocks)
    now, used = 0.0, 0.0
    while now < end or any(not batches[visit] for visit in asked):
        # Whose turn it is in a mix of even rates: the visit that is furthest behind.
        visit = min(asked, key=lambda v: (numbers[v] + batch) / rates[v])
        compute(visit, numbers[visit])
        numbers[visit] += batch
        before, before_used = now, used
        now, used = watch.time(), watch.used()
        if before >= start:
            wall[visit] += now - before
            processor[visit] += used - before_used
            batches[visit] += 1
    total = sum(wall)
    return Mix(
        wall=[t / n if n else 0.0 for t, n in zip(wall, batches, strict=True)],
        processor=[t / n if n else 0.0 for t, n in zip(processor, batches, strict=True)],
        batches=[int(n) for n in batches],
        stolen=1.0 - sum(processor) / total if total > 0.0 else 0.0,
    )


def share_served(rates: Sequence[float], seconds: Sequence[float], batch: int) -> float:
    """Return how much of the mix a server can do: 1, where its rates fill all of its time.

    Args:
        rates: of visits [inferences/s].
        seconds: of a batch of each [s].
        batch: inferences in it.
    """
    asked = sum(rate * time / batch for rate, time in zip(rates, seconds, strict=True))
    return 1.0 / asked if asked > 0.0 else math.inf
