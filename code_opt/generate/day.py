"""A random day of demand: a daily curve for each task, slow noise, and bursts.

The demand of a task at hour h is its mean, times three factors that are independent of each other:

- the daily curve exp(s cos(2 pi (h - p) / 24)) over its mean, whose largest value is ``swing``
  times its least; each task has a peak hour p of its own;
- slow noise exp(x), x being autoregressive of first order with a standard deviation of ``noise``
  and a correlation time of half an hour;
- bursts, which start at random moments (Poisson, ``bursts`` a day and task): 1 + a exp(-age / d),
  a being exponential with mean ``burst_height`` and d = ``burst_minutes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from code_opt.errors import InputError
from code_opt.generate.draws import Draws
from code_opt.instance import Instance
from code_opt.instance.periods import Periods

FIRST_PEAK, LAST_PEAK = 8.0, 22.0
"""Hours between which the daily curves have their peaks."""
CORRELATION = 30.0
"""Correlation time of the noise [minutes]."""
_DAY = 24 * 60


@dataclass(frozen=True)
class DayOptions:
    """What a day looks like."""

    minutes: int = 5
    """Length of a period; divides a day."""
    mean: float = 0.6
    """Mean demand over the day, as a share of the demand in the instance."""
    swing: float = 4.0
    """Largest over least value of the daily curve, at least 1."""
    noise: float = 0.08
    """Standard deviation of the logarithm of the noise."""
    bursts: float = 3.0
    """Bursts a day and task."""
    burst_height: float = 0.8
    """Mean of what a burst adds at its start, relative to the demand without it."""
    burst_minutes: float = 15.0
    """Time in which a burst falls to 1/e [minutes]."""
    seed: int = 0


def draw_day(instance: Instance, options: DayOptions | None = None) -> Periods:
    """Return a random day of demands for the tasks of an instance that have a demand.

    Args:
        instance: whose demands are scaled.
        options: what the day looks like.

    Raises:
        InputError: an option is out of its range, or no task has a demand.
    """
    options = options or DayOptions()
    _check(options)
    starts = range(0, _DAY, options.minutes)
    demands: dict[str, tuple[float, ...]] = {}
    for number, task in enumerate(instance.tasks):
        if task.demand is not None:
            factors = _factors(Draws(options.seed, number), options, len(starts))
            demands[task.id] = tuple(
                float(f"{options.mean * task.demand * factor:.4g}") for factor in factors
            )
    if not demands:
        raise InputError("a day of demand: no task of the instance has a demand")
    names = tuple(f"{start // 60:02d}:{start % 60:02d}" for start in starts)
    hours = (options.minutes / 60.0,) * len(names)
    return Periods(names, hours, demands, dict.fromkeys(demands, "a random day"))


def _check(options: DayOptions) -> None:
    if options.minutes < 1 or _DAY % options.minutes:
        raise InputError(f"minutes {options.minutes}: must divide the {_DAY} minutes of a day")
    for name, least in (
        *(("mean", 0.0), ("swing", 1.0), ("noise", 0.0), ("bursts", 0.0)),
        *(("burst_height", 0.0), ("burst_minutes", 1e-3)),
    ):
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"{name} {value!r}: must be a number of at least {least:g}")


def _factors(draws: Draws, options: DayOptions, count: int) -> list[float]:
    """Return the demand of one task over its mean, in the middle of each period."""
    times = [(k + 0.5) * options.minutes for k in range(count)]
    peak = 60.0 * draws.between(FIRST_PEAK, LAST_PEAK)
    sharpness = 0.5 * math.log(options.swing)
    curve = [math.exp(sharpness * math.cos(2.0 * math.pi * (t - peak) / _DAY)) for t in times]
    mean = sum(curve) / count
    kept = math.exp(-options.minutes / CORRELATION)
    fresh = math.sqrt(1.0 - kept * kept)
    noise = options.noise * _normal(draws)
    bursts = _bursts(draws, options)
    factors = []
    for time, value in zip(times, curve, strict=True):
        burst = sum(
            height * math.exp(-(time - start) / options.burst_minutes)
            for start, height in bursts
            if start <= time
        )
        factors.append(value / mean * math.exp(noise) * (1.0 + burst))
        noise = kept * noise + fresh * options.noise * _normal(draws)
    return factors


def _bursts(draws: Draws, options: DayOptions) -> list[tuple[float, float]]:
    """Return start [minutes] and height of the bursts of a day."""
    found: list[tuple[float, float]] = []
    time = 0.0
    while options.bursts > 0.0:
        time += _exponential(draws, _DAY / options.bursts)
        if time >= _DAY:
            break
        found.append((time, _exponential(draws, options.burst_height)))
    return found


def _exponential(draws: Draws, mean: float) -> float:
    return -mean * math.log(1.0 - draws.share())


def _normal(draws: Draws) -> float:
    """Return a standard normal number (Box and Muller, 1958)."""
    radius = math.sqrt(_exponential(draws, 2.0))
    return radius * math.cos(2.0 * math.pi * draws.share())
