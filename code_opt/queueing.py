"""Waiting at servers and links: what a rate of jobs lets one promise about their waits.

A *station* is a server of n equal devices or a link with a bandwidth (n = 1). What one input
brings to a station at once is a *job*; jobs are served in order of arrival and go to the devices
at random or in turn. The *wait scale* g [s] of a station is the least one with

    sum over jobs: rate * g * (exp(seconds / g) - 1)  <=  n                                    (1)

where a server computes in batches, rate is that of the batches and seconds the time of one.

Where all jobs of a station are the first ones of their inputs, arrivals are Poisson and the wait
W has P(W > x) <= exp(-x / g): Kingman's bound for the M/G/1 queue (Proc. Camb. Phil. Soc. 60,
1964, DOI 10.1017/S0305004100038238); (1) is the theory of effective bandwidths (Kelly, Notes on
effective bandwidths, 1996).

A job is *later* where its input had work elsewhere before: what waited there leaves in a row, so
such arrivals are burstier than Poisson. A station with later jobs also needs

    G * sum over its later jobs: rate * (exp(seconds / g) - 1)  <=  n / 2                      (3)

with G the largest, over its later jobs, of the number of earlier stations of the input times the
largest of their scales, and what the batches among them may take to fill. Then P(W > x) <=
C exp(-x / g) with C = 2 sqrt(largest C of the earlier stations), and C = 1 where all jobs are
first ones. This follows from E exp(a W) <=
C^(a g) / (1 - a g) for a wait with such a tail, from Hoelder's inequality for the sum over jobs
and over the earlier stations of each, and from departures in (s, t] being arrivals in (s - W, t];
W and those arrivals are taken as independent, so it is a model and not a theorem. Stations on a
loop of such dependencies, and those behind them, have no finite scale.

A batch is begun by one input and computed as soon as it is full or ``max_delay`` later. From
Poisson arrivals of rate r it then holds 1 + min(N, batch - 1) inputs, N being a Poisson number of
mean r * max_delay. Gaps between batches have an increasing failure rate, so they come more evenly
than Poisson arrivals; that they are such is a model.

An input whose path has m jobs is answered within T + sum over them of g * (ln(m / (1 - q)) +
ln C) with probability q at least: each wait exceeds its share with probability (1 - q) / m.

Nothing here knows an instance: stations are numbered, jobs are plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FULL = 1.0 - 1e-6
"""A station of higher utilisation has no finite scale: waits there hang on rounding."""
_PRECISION = 1e-13
"""Relative width at which the bisection of a scale ends; the larger end is returned."""
LOG_2 = math.log(2.0)


@dataclass(frozen=True)
class Station:
    """What serves jobs."""

    devices: float = 1.0
    """n, a whole number."""
    batch: float = 1.0
    """Inputs that a device works on at once."""
    max_delay: float = 0.0
    """Longest wait of an input for its batch to fill [s]."""

    def fill(self, rate: float) -> float:
        """Return the mean number of inputs in a batch, of those that come at a rate [1/s]."""
        if self.batch <= 1.0 or rate <= 0.0 or self.max_delay <= 0.0:
            return 1.0
        # The mean of 1 + min(N, b - 1) is 1 + the sum over j < b of P(N >= j), j >= 1.
        mean = rate * self.max_delay
        if mean > 700.0 + 2.0 * self.batch:
            return self.batch
        equal = below = math.exp(-mean)
        total = 1.0
        for j in range(1, int(self.batch)):
            total += max(0.0, 1.0 - below)
            equal *= mean / j
            below += equal
        return min(total, self.batch)

    def most_rate(self, batches: float, rate: float) -> float:
        """Return the largest rate up to one at which no more batches begin than given [1/s]."""
        while True:
            allowed = min(rate, batches * self.fill(rate))
            if allowed >= rate * (1.0 - 1e-12):
                return rate
            rate = allowed


@dataclass(frozen=True)
class Job:
    """What the inputs of one stream bring to one station."""

    station: int
    rate: float
    """Inputs per second."""
    seconds: float
    """Time of a device that one takes, a whole batch where there are such [s], above 0."""
    earlier: tuple[int, ...] = ()
    """Stations of the earlier jobs of the same input, in order."""

    @property
    def is_first(self) -> bool:
        """Whether the input had no work before."""
        return not self.earlier


@dataclass(frozen=True)
class Waits:
    """What can be said about the waits at S stations, shape (S,) each."""

    utilization: FloatArray
    """Device seconds per second and device."""
    scale: FloatArray
    """g [s]: 0 where nothing runs, infinite where no wait can be promised."""
    log_prefactor: FloatArray
    """ln C: 0 where all jobs are first ones."""
    is_poisson: npt.NDArray[np.bool_]
    """Whether all jobs are the first ones of their inputs, and no batches."""
    mean: FloatArray
    """Mean wait [s] by Pollaczek and Khinchine; nan where jobs do not come as Poisson arrivals,
    infinite where the station is full."""

    def promise(self, seconds: float, stations: Sequence[int], percentile: float) -> float:
        """Return within what time an input is answered with a probability [s].

        Args:
            seconds: unloaded time T of its path [s].
            stations: those of its jobs, one entry per job.
            percentile: the probability q.
        """
        log_odds = log_share(len(stations), percentile)
        return seconds + sum(
            float(self.scale[s] * (log_odds + self.log_prefactor[s])) for s in stations
        )

    def mean_time(self, seconds: float, stations: Sequence[int]) -> float | None:
        """Return the mean time of an input [s], None where it is not known.

        Args:
            seconds: unloaded time T of its path [s].
            stations: those of its jobs, one entry per job.
        """
        total = seconds + sum(float(self.mean[s]) for s in stations)
        return total if math.isfinite(total) else None

    def is_theorem(self, stations: Sequence[int]) -> bool:
        """Tell whether a promise over these stations rests on no assumption of independence."""
        return all(bool(self.is_poisson[s]) for s in stations)


def log_share(jobs: int, percentile: float) -> float:
    """Return ln(m / (1 - q)): what a wait may exceed, in units of its scale (0 without jobs)."""
    return math.log(jobs / (1.0 - percentile)) if jobs else 0.0


def effective_seconds(seconds: FloatArray | float, scale: FloatArray | float) -> FloatArray:
    """Return g (exp(tau / g) - 1) >= tau, elementwise: what a job counts at a wait scale.

    Infinite where no number holds it; ``seconds`` itself at an infinite scale.
    """
    tau, g = np.broadcast_arrays(np.asarray(seconds, float), np.asarray(scale, float))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = g * np.expm1(tau / g)
    found = np.where(np.isinf(g), tau, found)
    return np.asarray(np.where(tau == 0.0, 0.0, np.maximum(found, tau)))


def prefactors(jobs: Iterable[Job], stations: int) -> tuple[list[int], FloatArray]:
    """Return the stations whose waits can be bounded, in order, and ln C of all.

    A station comes after those of the earlier jobs of its inputs. Stations on a loop, and
    those behind them, are left out; their ln C is infinite.
    """
    before: list[set[int]] = [set() for _ in range(stations)]
    for job in jobs:
        before[job.station].update(job.earlier)
    after: list[list[int]] = [[] for _ in range(stations)]
    for station, some in enumerate(before):
        for other in some:
            after[other].append(station)
    missing = [len(some) for some in before]
    order = [station for station in range(stations) if not missing[station]]
    log_c = np.full(stations, np.inf)
    for station in order:
        inherited = max((float(log_c[other]) for other in before[station]), default=None)
        log_c[station] = 0.0 if inherited is None else LOG_2 + 0.5 * inherited
        for following in after[station]:
            missing[following] -= 1
            if not missing[following]:
                order.append(following)
    return order, log_c


def waits(jobs: Sequence[Job], stations: Sequence[Station]) -> Waits:
    """Return the wait scales of stations at the rates of their jobs, the least ones there are.

    Args:
        jobs: of all streams; one of rate 0 counts as a stream of almost no rate.
        stations: all that jobs are at.
    """
    count = len(stations)
    n = np.array([station.devices for station in stations])
    at: list[list[Job]] = [[] for _ in range(count)]
    for job in jobs:
        of_batches = job.rate / stations[job.station].fill(job.rate)
        at[job.station].append(job if of_batches == job.rate else replace(job, rate=of_batches))
    load, squares = np.zeros(count), np.zeros(count)
    for station, some in enumerate(at):
        load[station] = math.fsum(job.rate * job.seconds for job in some)
        squares[station] = math.fsum(job.rate * job.seconds**2 for job in some)
    utilization = load / n
    order, log_c = prefactors(jobs, count)
    scale = np.full(count, np.inf)
    for station in order:
        later = [job for job in at[station] if job.earlier]
        burst = burst_seconds(later, scale, stations)
        scale[station] = _least_scale(at[station], later, burst, float(n[station]))
    is_poisson = np.array(
        [
            station.batch == 1.0 and all(job.is_first for job in some)
            for station, some in zip(stations, at, strict=True)
        ],
        dtype=bool,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(utilization < FULL, squares / (2.0 * n * (1.0 - utilization)), np.inf)
    return Waits(utilization, scale, log_c, is_poisson, np.where(is_poisson, mean, np.nan))


def burst_seconds(later: Iterable[Job], scale: FloatArray, stations: Sequence[Station]) -> float:
    """Return G of (3): the longest time in which later jobs can pile up before [s]."""
    return max(
        (
            len(job.earlier) * max(float(scale[s]) for s in job.earlier)
            + filling_seconds(job.earlier, stations)
            for job in later
        ),
        default=0.0,
    )


def filling_seconds(earlier: Iterable[int], stations: Sequence[Station]) -> float:
    """Return what batches at earlier stations may take to fill, one after the other [s]."""
    return sum(stations[s].max_delay for s in earlier if stations[s].batch > 1.0)


def _least_scale(jobs: Sequence[Job], later: Sequence[Job], burst: float, n: float) -> float:
    """Return the least g of a station that satisfies (1) and (3); infinite if there is none."""
    if not math.isfinite(burst):
        return math.inf
    rate = np.array([job.rate for job in jobs])
    seconds = np.array([job.seconds for job in jobs])
    running = rate > 0.0
    if not running.any():
        return 0.0
    if float(rate @ seconds) > FULL * n:
        return math.inf
    bursty = np.array([job.rate for job in later]), np.array([job.seconds for job in later])

    def holds(decay: float) -> bool:
        """Tell whether (1) and (3) hold for g = 1 / decay; both are monotone in it."""
        with np.errstate(over="ignore"):
            if float(rate[running] @ np.expm1(decay * seconds[running])) > decay * n:
                return False
            return not burst or burst * float(bursty[0] @ np.expm1(decay * bursty[1])) <= 0.5 * n

    high = 1.0 / float(seconds[running].max())
    low = high
    while holds(high):
        high *= 2.0
    while not holds(low):
        low *= 0.5
    while high - low > _PRECISION * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return 1.0 / low
