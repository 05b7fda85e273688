"""Waiting at servers and links: what a rate of jobs lets one promise about their waits.

A *station* is a server of n equal devices or a link with a bandwidth (n = 1). What one input
brings to a station at once is a *job*; jobs are served in order of arrival and go to the devices
at random or in turn. The *wait scale* g [s] of a station is the least one with

    sum over jobs: rate * g * (exp(seconds / g) - 1)  <=  n                                    (1)

Where all jobs of a station are the first ones of their inputs, arrivals are Poisson and the wait
W has P(W > x) <= exp(-x / g): Kingman's bound for the M/G/1 queue (Proc. Camb. Phil. Soc. 60,
1964, DOI 10.1017/S0305004100038238); (1) is the theory of effective bandwidths (Kelly, Notes on
effective bandwidths, 1996).

A job is *later* where its input had work elsewhere before: what waited there leaves in a row, so
such arrivals are burstier than Poisson. A station with later jobs also needs

    G * sum over its later jobs: rate * (exp(seconds / g) - 1)  <=  n / 2                      (3)

with G the largest, over its later jobs, of the number of earlier stations of the input times the
largest of their scales. Then P(W > x) <= C exp(-x / g) with C = 2 sqrt(largest C of the earlier
stations), and C = 1 where all jobs are first ones. This follows from E exp(a W) <=
C^(a g) / (1 - a g) for a wait with such a tail, from Hoelder's inequality for the sum over jobs
and over the earlier stations of each, and from departures in (s, t] being arrivals in (s - W, t];
W and those arrivals are taken as independent, so it is a model and not a theorem. Stations on a
loop of such dependencies, and those behind them, have no finite scale.

An input whose path has m jobs is answered within T + sum over them of g * (ln(m / (1 - q)) +
ln C) with probability q at least: each wait exceeds its share with probability (1 - q) / m.

Nothing here knows an instance: stations are numbered, jobs are plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FULL = 1.0 - 1e-6
"""A station of higher utilisation has no finite scale: waits there hang on rounding."""
_PRECISION = 1e-13
"""Relative width at which the bisection of a scale ends; the larger end is returned."""
LOG_2 = math.log(2.0)


@dataclass(frozen=True)
class Job:
    """What the inputs of one stream bring to one station."""

    station: int
    rate: float
    """Inputs per second."""
    seconds: float
    """Device time of one [s], above 0."""
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
    sees_first_only: npt.NDArray[np.bool_]
    """Whether all jobs are the first ones of their inputs."""
    mean: FloatArray
    """Mean wait [s] by Pollaczek and Khinchine; nan where jobs are later ones, infinite where the
    station is full."""

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
        return all(bool(self.sees_first_only[s]) for s in stations)


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


def waits(jobs: Sequence[Job], devices: Sequence[float]) -> Waits:
    """Return the wait scales of stations at the rates of their jobs, the least ones there are.

    Args:
        jobs: of all streams; one of rate 0 counts as a stream of almost no rate.
        devices: n of every station.
    """
    count = len(devices)
    n = np.asarray(devices, dtype=float)
    at: list[list[Job]] = [[] for _ in range(count)]
    for job in jobs:
        at[job.station].append(job)
    load, squares = np.zeros(count), np.zeros(count)
    for station, some in enumerate(at):
        load[station] = math.fsum(job.rate * job.seconds for job in some)
        squares[station] = math.fsum(job.rate * job.seconds**2 for job in some)
    utilization = load / n
    order, log_c = prefactors(jobs, count)
    scale = np.full(count, np.inf)
    for station in order:
        later = [job for job in at[station] if job.earlier]
        burst = burst_seconds(later, scale)
        scale[station] = _least_scale(at[station], later, burst, float(n[station]))
    first = np.array([all(job.is_first for job in some) for some in at], dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(utilization < FULL, squares / (2.0 * n * (1.0 - utilization)), np.inf)
    return Waits(utilization, scale, log_c, first, np.where(first, mean, np.nan))


def burst_seconds(later: Iterable[Job], scale: FloatArray) -> float:
    """Return G of (3): the longest time in which later jobs can pile up before [s]."""
    return max(
        (len(job.earlier) * max(float(scale[s]) for s in job.earlier) for job in later),
        default=0.0,
    )


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
