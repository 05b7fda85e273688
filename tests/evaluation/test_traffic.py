"""When what is fed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from code_opt.evaluation.traffic import ClosedFeeder, OpenFeeder, arrivals


def first(kind: str, rates: list[float], number: int, seed: int = 0) -> list[tuple[float, int]]:
    return list(itertools.islice(arrivals(kind, rates, 10.0, seed), number))


def test_evenly_spaced_streams_begin_at_different_parts_of_their_gaps():
    assert [t for t, _ in first("constant", [2.0], 4)] == [10.25, 10.75, 11.25, 11.75]
    assert first("constant", [2.0, 1.0], 4) == [(10.125, 0), (10.625, 0), (10.75, 1), (11.125, 0)]


def test_arrivals_are_the_same_for_a_seed():
    assert first("poisson", [3.0, 5.0], 9000, 1) == first("poisson", [3.0, 5.0], 9000, 1)
    assert first("poisson", [3.0, 5.0], 50, 1) != first("poisson", [3.0, 5.0], 50, 2)


def test_poisson_arrivals_have_the_rates_and_the_chance_of_independent_processes():
    rates, number = np.array([3.0, 5.0, 0.5]), 100_000
    found = first("poisson", list(rates), number, 1)
    times = np.array([t for t, _ in found])
    streams = np.array([k for _, k in found])
    assert (np.diff(times) >= 0.0).all()
    for k, rate in enumerate(rates):
        gaps = np.diff(times[streams == k])
        # Four standard errors; the deviation of an exponential gap is its mean.
        assert gaps.mean() == pytest.approx(1.0 / rate, rel=4.0 / len(gaps) ** 0.5)
        assert gaps.std() == pytest.approx(1.0 / rate, rel=4.0 * (2.0 / len(gaps)) ** 0.5)
        assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4.0 / len(gaps) ** 0.5


def test_an_open_feeder_does_not_wait():
    feeder = OpenFeeder(arrivals("constant", [1.0], 0.0, 0), end=2.0)
    assert feeder.time == 0.5
    assert feeder.take(0.8) == (0.5, 0)  # sent late, born in time
    assert feeder.take(1.5) == (1.5, 0)
    assert feeder.time == math.inf
    assert not feeder.finished(1.9)
    assert feeder.finished(2.0)


def test_a_closed_feeder_keeps_the_mix_with_the_slowest():
    feeder = ClosedFeeder([2.0, 1.0], [1, 2], ahead=1.0, start=5.0, end=9.0)
    sent = []

    def feed() -> None:
        while feeder.time < math.inf:
            assert feeder.time == 5.0
            sent.append(feeder.take(6.0)[1])

    feed()
    assert sorted(sent) == [0, 0, 1]  # one second of the mix
    feeder.answered(0, 0)
    feeder.answered(0, 0)
    feeder.answered(1, 0)
    assert feeder.time == math.inf  # the second task of the second stream is behind
    feeder.answered(1, 1)
    feed()
    assert sorted(sent) == [0, 0, 0, 0, 1, 1]
    assert feeder.finished(9.0)
