"""The theory of waits: least scales, promises, means, loops; against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from code_opt.queueing import FULL, Job, Station, effective_seconds, log_share, prefactors, waits


def test_the_least_scale_of_one_class_solves_the_equation() -> None:
    found = waits([Job(0, 93.887, 0.010)], [Station()])
    g = float(found.scale[0])
    assert 93.887 * g * math.expm1(0.010 / g) == pytest.approx(1.0, rel=1e-12)
    assert 93.887 * g * math.expm1(0.010 / g) <= 1.0
    assert g == pytest.approx(0.080114, rel=1e-3)


@pytest.mark.parametrize("seed", range(50))
def test_scales_satisfy_their_conditions_and_nothing_smaller_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    jobs = [
        Job(0, float(rng.uniform(0.0, 0.9 / count / t)), float(t))
        for t in 10.0 ** rng.uniform(-4, 1, count)
    ]
    # One station behind the first: all but one of its jobs are later ones.
    jobs += [Job(1, j.rate, j.seconds * float(rng.uniform(0.1, 1.0)), (0,)) for j in jobs[1:]]
    jobs.append(Job(1, 0.05 / jobs[0].seconds, jobs[0].seconds))
    devices = [float(rng.integers(1, 4)), 1.0]
    found = waits(jobs, [Station(n) for n in devices])

    def holds(station: int, g: float) -> bool:
        mine = [j for j in jobs if j.station == station]
        later = [j for j in mine if j.earlier]
        with np.errstate(over="ignore"):
            load = sum(j.rate * float(np.expm1(j.seconds / g)) for j in mine) * g
            late = sum(j.rate * float(np.expm1(j.seconds / g)) for j in later)
        burst = float(found.scale[0]) if later else 0.0
        return load <= devices[station] * (1 + 1e-12) and burst * late <= devices[station] / 2

    for station in (0, 1):
        g = float(found.scale[station])
        assert holds(station, g)
        assert not holds(station, g * (1.0 - 1e-9))


def test_effective_times_fall_to_the_device_time() -> None:
    scales = np.array([1e-4, 0.01, 0.1, 1.0, 1e9, np.inf])
    found = effective_seconds(0.02, scales)
    assert (np.diff(found) <= 0.0).all()
    assert found[-1] == 0.02
    assert effective_seconds(0.0, 0.1) == 0.0
    assert math.isinf(float(effective_seconds(1.0, 1e-4)))


def test_a_promise_adds_up_shares_of_waits() -> None:
    found = waits([Job(0, 50.0, 0.01), Job(1, 50.0, 0.004, (0,))], [Station(), Station()])
    assert found.log_prefactor.tolist() == [0.0, pytest.approx(math.log(2.0))]
    odds = math.log(2.0 / 0.05)
    expected = 0.014 + found.scale[0] * odds + found.scale[1] * (odds + math.log(2.0))
    assert found.promise(0.014, [0, 1], 0.95) == pytest.approx(expected)
    assert found.is_theorem([0])
    assert not found.is_theorem([0, 1])
    assert found.mean_time(0.014, [0, 1]) is None
    assert found.mean_time(0.01, [0]) == pytest.approx(0.01 + 50 * 1e-4 / (2 * 0.5))


def test_several_devices_halve_the_rate_of_each() -> None:
    one, two = waits([Job(0, 40.0, 0.01)], [Station()]), waits([Job(0, 80.0, 0.01)], [Station(2.0)])
    assert two.scale[0] == pytest.approx(one.scale[0])
    assert two.mean[0] == pytest.approx(one.mean[0])


def test_prefactors_grow_along_a_chain_and_stay_below_4() -> None:
    chain = [Job(k, 1.0, 0.01, tuple(range(k))) for k in range(8)]
    order, log_c = prefactors(chain, 8)
    assert order == list(range(8))
    expected = 0.0
    for k in range(1, 8):
        expected = math.log(2.0) + 0.5 * expected
        assert log_c[k] == pytest.approx(expected)
    assert log_c[-1] < math.log(4.0)


def test_a_loop_and_what_is_behind_it_promise_nothing() -> None:
    loop = [Job(0, 1.0, 0.01), Job(1, 1.0, 0.01, (0,)), Job(1, 1.0, 0.01), Job(0, 1.0, 0.01, (1,))]
    behind = Job(2, 1.0, 0.01, (1,))
    found = waits([*loop, behind, Job(3, 1.0, 0.01)], [Station()] * 4)
    assert np.isinf(found.scale).tolist() == [True, True, True, False]
    assert math.isinf(found.promise(0.01, [2], 0.9))


@pytest.mark.parametrize("utilization", [FULL + 5e-7, 1.0, 1.2])
def test_a_full_station_promises_nothing(utilization: float) -> None:
    found = waits([Job(0, utilization / 0.01, 0.01)], [Station()])
    assert math.isinf(found.scale[0])


def test_a_station_without_load_makes_nobody_wait() -> None:
    found = waits([Job(0, 0.0, 0.01)], [Station(), Station()])
    assert found.scale.tolist() == [0.0, 0.0]
    assert found.promise(0.01, [0], 0.99) == 0.01
    assert log_share(0, 0.95) == 0.0


def test_batches_are_as_full_as_poisson_arrivals_fill_them() -> None:
    rng = np.random.default_rng(1)
    for rate, batch, delay in ((5.0, 4, 0.3), (50.0, 8, 0.1), (200.0, 8, 0.1)):
        arrivals = np.cumsum(rng.exponential(1.0 / rate, 200_000))
        begun, place = 0, 0
        while place < len(arrivals):
            late = int(np.searchsorted(arrivals, arrivals[place] + delay, side="right"))
            place = min(place + batch, late)
            begun += 1
        found = Station(batch=batch, max_delay=delay).fill(rate)
        assert found == pytest.approx(len(arrivals) / begun, rel=0.01)
    assert Station(batch=8.0).fill(100.0) == 1.0  # nobody waits: each alone
    assert Station(batch=8.0, max_delay=1.0).fill(1e9) == 8.0
    assert Station(batch=8.0, max_delay=1.0).fill(0.0) == 1.0


@pytest.mark.parametrize("rate", [0.5, 3.0, 40.0, 1e3])
def test_the_largest_rate_begins_just_as_many_batches_as_allowed(rate: float) -> None:
    station = Station(batch=4.0, max_delay=0.1)
    allowed = rate / station.fill(rate)
    assert station.most_rate(allowed, 1e6) == pytest.approx(rate, rel=1e-6)
    assert station.most_rate(allowed, 0.5 * rate) == 0.5 * rate


def test_batches_promise_a_model_and_bursts_that_last_while_they_fill() -> None:
    server = Station(batch=4.0, max_delay=0.2)
    found = waits([Job(0, 20.0, 0.1), Job(1, 20.0, 0.01, (0,))], [server, Station()])
    begun = 20.0 / server.fill(20.0)
    g, behind = (float(scale) for scale in found.scale)
    assert begun * g * math.expm1(0.1 / g) == pytest.approx(1.0)
    assert not found.is_poisson[0]
    assert not found.is_theorem([0])
    assert math.isnan(found.mean[0])
    assert (g + 0.2) * 20.0 * math.expm1(0.01 / behind) == pytest.approx(0.5)
