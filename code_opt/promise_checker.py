"""Independent check of promises: waits recomputed from the rates and the order of work.

Written down a second time, straight from docs/waiting.md, without any code of
:mod:`code_opt.queueing` or the paths: places are names, scales are found by bisection on their
logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

Place = tuple[str, ...]
"""``("server", id)`` or ``("link", source, target)``."""
Stay = tuple[Place, float, float]
"""Where an inference works next, its time of a device there (a part of a batch; 0 where it only
passes), and what of the unloaded latency that is [s]."""

FULL = 1.0 - 1e-6
"""From this utilisation on nothing is promised."""


@dataclass(frozen=True)
class PlaceOfWork:
    """How a place serves."""

    devices: float = 1.0
    """Side by side, a whole number."""
    batch: int = 1
    delay: float = 0.0
    """Longest wait for a batch to fill [s]."""

    def batches(self, rate: float) -> float:
        """Return the batches per second that Poisson arrivals of a rate begin.

        A batch holds one input and those that come within the delay, at most so many. On average
        that is what is full less what is missing.
        """
        mean = rate * self.delay
        if self.batch == 1 or mean == 0.0:
            return rate
        log_mean = math.log(mean)
        missing = sum(
            (self.batch - 1 - k) * math.exp(k * log_mean - mean - math.lgamma(k + 1.0))
            for k in range(self.batch - 1)
        )
        return rate / (self.batch - missing)


@dataclass
class Call:
    """What one input asks of a place at once."""

    place: Place
    rate: float
    """Inputs per second, then batches of them."""
    seconds: float = 0.0
    """Time of a device of an input, then that of a batch [s]."""
    above: Call | None = None

    def before(self) -> list[Place]:
        """Return the places of work before this call, the last one first."""
        found, call = [], self.above
        while call is not None:
            if call.seconds > 0.0:
                found.append(call.place)
            call = call.above
        return found


@dataclass(frozen=True)
class Walk:
    """One task: who shares its input, its rate, and its steps with the work of each in order."""

    task: str
    group: Hashable
    rate: float
    latency: float
    """Unloaded latency of its path [s]."""
    steps: Sequence[tuple[Hashable, Sequence[Stay]]]
    """What makes a step the same as that of another task of the group, and its work."""


@dataclass
class _Waits:
    scale: float = math.inf
    factor: float = math.inf
    """C of P(W > x) <= C exp(-x / g)."""
    mean: float | None = None
    is_poisson: bool = False


@dataclass
class Recomputed:
    """What follows from the walks of all tasks."""

    scale: dict[Place, float] = field(default_factory=dict)
    """Wait scale of every place [s], infinite where there is none."""
    mean: dict[str, float | None] = field(default_factory=dict)
    """Mean time of every task [s], None where it is not known."""
    calls: dict[str, list[Call]] = field(default_factory=dict)
    unloaded: dict[str, float] = field(default_factory=dict)
    waits: dict[Place, _Waits] = field(default_factory=dict)

    def promised(self, task: str, percentile: float) -> float:
        """Return the time within which the share of answers comes [s]; infinite if none."""
        total, calls = self.unloaded[task], self.calls[task]
        for call in calls:
            there = self.waits[call.place]
            if not (math.isfinite(there.scale) and math.isfinite(there.factor)):
                return math.inf
            odds = there.factor * len(calls) / (1.0 - percentile)
            total += there.scale * math.log(odds)
        return total

    def is_theorem(self, task: str) -> bool:
        """Tell whether all places on the way see Poisson arrivals: first work, one by one."""
        return all(self.waits[call.place].is_poisson for call in self.calls[task])


def recompute(walks: Sequence[Walk], services: Mapping[Place, PlaceOfWork]) -> Recomputed:
    """Return waits and times of all tasks.

    Args:
        walks: of all tasks of a result.
        services: of every place that can be waited for.
    """
    result = Recomputed()
    calls: dict[tuple[Hashable, tuple[Place, ...]], Call] = {}
    done: set[tuple[Hashable, Hashable]] = set()
    own: dict[str, list[tuple[Call, float]]] = {}
    for walk in walks:
        way: tuple[Place, ...] = ()
        at: Call | None = None
        visited: list[Call] = []
        mine: dict[int, float] = {}
        for key, stays in walk.steps:
            is_new = (walk.group, key) not in done
            done.add((walk.group, key))
            for place, seconds, unloaded in stays:
                if at is None or at.place != place:
                    way = (*way, place)
                    at = calls.setdefault((walk.group, way), Call(place, walk.rate, above=at))
                    visited.append(at)
                mine[len(visited) - 1] = mine.get(len(visited) - 1, 0.0) + unloaded
                if is_new:
                    at.seconds += seconds
        own[walk.task] = [(call, mine[k]) for k, call in enumerate(visited)]
        result.unloaded[walk.task] = walk.latency
    at_place: dict[Place, list[Call]] = {place: [] for place in services}
    for call in calls.values():
        if call.seconds > 0.0:
            there = services[call.place]
            call.seconds *= there.batch
            call.rate = there.batches(call.rate)
            at_place[call.place].append(call)
    for walk in walks:
        waited = [(call, s) for call, s in own[walk.task] if call.seconds > 0.0]
        result.calls[walk.task] = [call for call, _ in waited]
        for call, unloaded in waited:
            there = services[call.place]
            result.unloaded[walk.task] += max(0.0, call.seconds - unloaded)
            result.unloaded[walk.task] += there.delay if there.batch > 1 else 0.0
    result.waits = _settle(at_place, services)
    result.scale = {place: waits.scale for place, waits in result.waits.items()}
    for walk in walks:
        means = [result.waits[call.place].mean for call in result.calls[walk.task]]
        known = [mean for mean in means if mean is not None]
        total = result.unloaded[walk.task] + sum(known)
        complete = len(known) == len(means) and math.isfinite(total)
        result.mean[walk.task] = total if complete else None
    return result


def _settle(
    at_place: Mapping[Place, Sequence[Call]], services: Mapping[Place, PlaceOfWork]
) -> dict[Place, _Waits]:
    """Return the waits of places, each once those it depends on are known."""
    settled: dict[Place, _Waits] = {}
    sources = {
        place: {before for call in some for before in call.before()}
        for place, some in at_place.items()
    }
    waiting = set(at_place)
    while True:
        ready = [p for p in at_place if p in waiting and sources[p] <= settled.keys()]
        if not ready:
            break
        for place in ready:
            waiting.discard(place)
            settled[place] = _waits_at(place, at_place[place], settled, services)
    for place in waiting:  # on a loop, or behind one
        settled[place] = _Waits()
    return settled


def _waits_at(
    here: Place,
    calls: Sequence[Call],
    known: Mapping[Place, _Waits],
    services: Mapping[Place, PlaceOfWork],
) -> _Waits:
    n = services[here].devices
    waits = _Waits(factor=1.0)
    burst = 0.0
    later = [call for call in calls if call.before()]
    for call in later:
        before = call.before()
        worst = max(known[place].factor for place in before)
        waits.factor = max(waits.factor, 2.0 * math.sqrt(worst))
        gathering = sum(services[p].delay for p in before if services[p].batch > 1)
        burst = max(burst, len(before) * max(known[place].scale for place in before) + gathering)
    busy = sum(call.rate * call.seconds for call in calls) / n
    waits.is_poisson = not later and services[here].batch == 1
    if waits.is_poisson:
        squares = sum(call.rate * call.seconds * call.seconds for call in calls)
        waits.mean = squares / (2.0 * n * (1.0 - busy)) if busy < FULL else math.inf
    if busy > FULL or not (math.isfinite(burst) and math.isfinite(waits.factor)):
        return waits
    if busy == 0.0:
        waits.scale = 0.0
        return waits

    def fits(g: float) -> bool:
        load = sum(_times(call.rate, call.seconds / g) for call in calls)
        late = sum(_times(call.rate, call.seconds / g) for call in later)
        return g * load <= n and (burst == 0.0 or burst * late <= n / 2.0)

    low = high = math.log(max(call.seconds for call in calls if call.rate > 0.0))
    while not fits(math.exp(high)):
        high += 1.0
    while fits(math.exp(low)):
        low -= 1.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if fits(math.exp(middle)):
            high = middle
        else:
            low = middle
    waits.scale = math.exp(high)
    return waits


def _times(rate: float, exponent: float) -> float:
    """Return rate * (exp(exponent) - 1), infinite beyond numbers."""
    if rate == 0.0:
        return 0.0
    try:
        return rate * math.expm1(exponent)
    except OverflowError:
        return math.inf
