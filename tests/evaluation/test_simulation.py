"""The edge on a simulated clock: routes, queues, pace, ways of feeding it, statistics.

Everything here is exact or has a fixed seed: the same on every machine.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from code_opt import load_instance, solve
from code_opt.errors import InputError
from code_opt.evaluation.flow import Flow, Run, streams_of
from code_opt.evaluation.routes import loads
from code_opt.evaluation.simulation import SimulatedEdge, simulate
from code_opt.evaluation.verdict import judge
from code_opt.generate import generate
from code_opt.instance import parse_instance
from tests.evaluation.examples import CROSSING, At, edge, one_server, stream, two_servers

DATA = Path(__file__).resolve().parents[2] / "data"


def ended(instance, streams, feeder, **options) -> list[list[list[float]]]:
    """Return when everything was answered, by stream and task."""
    trace, _ = SimulatedEdge(instance, **options).drive(streams, feeder)
    return [[[at for _, at, _ in task] for task in tasks] for tasks in trace.answers]


# Exact times


def test_a_queue_by_hand():
    instance = one_server(200.0)  # 0.2 s each
    one = stream(instance, {"a": ["a/0"]}, 1.0)
    ((times,),) = ended(instance, [one], At(1.0, 1.05, 1.5, 1.5, answers=4))
    assert times == pytest.approx([1.2, 1.4, 1.7, 1.9])


def with_devices(instance, **changes):
    return instance.replace(servers=[s.model_dump() | changes for s in instance.servers])


def test_a_queue_of_two_devices_by_hand():
    """Each takes 0.4 s, since the FLOP/s are those of both; who comes first is served first."""
    instance = with_devices(one_server(200.0), devices=2)
    one = stream(instance, {"a": ["a/0"]}, 1.0)
    ((times,),) = ended(instance, [one], At(1.0, 1.05, 1.5, 1.5, 1.5, answers=5))
    assert times == pytest.approx([1.4, 1.45, 1.9, 1.9, 2.3])


def test_half_a_device_is_a_slow_one():
    instance = with_devices(one_server(200.0), devices=0.5)
    one = stream(instance, {"a": ["a/0"]}, 1.0)
    ((times,),) = ended(instance, [one], At(1.0, 1.05, answers=2))
    assert times == pytest.approx([1.2, 1.4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 1.5}, r"server 's': 1.5 devices: only whole devices are executed"),
        ({"batch": 4}, r"server 's': batch 4: only batches of 1 are executed"),
    ],
)
def test_what_is_not_executed_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        SimulatedEdge(with_devices(one_server(200.0), **changes))


def batches_and_alternatives(delay: float):
    """A saturated task whose own network is slow, beside one measured in batches of 4."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [
                {"id": "s", "flops": 10.0},
                {"id": "gpu", "batch": 4, "max_batch_delay": delay},
            ],
            "dnns": [
                {"id": "own", "server": "s", "blocks": [{"id": "own/0", "flops": 10.0}]},
                {
                    "id": "zoo",
                    "server": "gpu",
                    "blocks": [{"id": "zoo/0", "flops": 0.0, "seconds": {"1": 0.05, "4": 0.08}}],
                },
            ],
            "tasks": [
                {
                    "id": "t",
                    "dnn": "own",
                    "accuracy": 0.9,
                    "demand": 40.0,
                    "alternatives": [{"dnn": "zoo", "accuracy": 0.85}],
                }
            ],
        }
    )


def test_an_alternative_in_batches_keeps_its_rate():
    """40/s fill batches of 4 in 0.1 s, which take 0.08 s: 80 % of the device."""
    instance = batches_and_alternatives(delay=0.2)
    result = solve(instance)
    assert (result.tasks[0].path, result.tasks[0].rate) == (("zoo/0",), pytest.approx(40.0))
    flow = simulate(instance, result, seconds=100.0, arrivals="constant")
    assert flow.measured == pytest.approx(40.0, rel=0.01)
    (server,) = flow.servers
    assert server.server == "gpu"
    assert server.measured == pytest.approx(0.8, abs=0.01)
    # The last of four begins at once, the first waits for three others: 0.075 s.
    assert flow.tasks[0].latency_p99 == pytest.approx(0.155, abs=0.002)
    assert flow.tasks[0].unloaded == pytest.approx(0.08)


def test_batches_that_nobody_waits_for_are_refused():
    instance = batches_and_alternatives(delay=0.0)
    with pytest.raises(InputError, match=r"'gpu': batch 4 and max_batch_delay 0: no inference"):
        simulate(instance, solve(instance), seconds=1.0)


def test_several_devices_keep_the_promised_rates():
    instance = load_instance(DATA / "digits" / "instance.json")
    instance = with_devices(instance, devices=3, max_utilization=0.8)
    result = solve(instance)
    flow = simulate(instance, result, seconds=200.0, feed="rates", arrivals="poisson")
    assert flow.measured == pytest.approx(result.throughput, rel=0.02)
    found = {server.server: server.measured for server in flow.servers}
    for row in result.servers:
        assert found[row.server] == pytest.approx(row.utilization, abs=0.02)


def test_a_way_over_a_link_by_hand():
    instance = two_servers()
    one = stream(instance, CROSSING, 1.0)
    ((times,),) = ended(instance, [one], At(0.0, 0.0, 0.0, 1.0, answers=4))
    # 10 ms of work, 20 ms of bytes (one after the other), 10 ms of way, 10 ms of work.
    assert times == pytest.approx([0.05, 0.07, 0.09, 1.05])


def test_two_streams_share_a_server_in_order_of_arrival():
    instance = two_servers()
    crossing, native = stream(instance, CROSSING, 1.0), stream(instance, {"u": ["u/0", "u/1"]}, 1.0)
    feeder = At(0.0, 0.03, 0.045, streams=[0, 1, 1], answers=3)
    # Server b is busy with the native one from 30 to 50 ms, then with what came over the link
    # at 40 ms, then with the native one that came at 45 ms.
    (((first,),), (others,)) = ended(instance, [crossing, native], feeder)
    assert first == pytest.approx(0.06)
    assert others == pytest.approx([0.05, 0.08])


def test_a_shared_beginning_is_one_piece_of_work():
    instance = edge(
        {"s": 1000.0},
        {"x": ("s", [100.0, 200.0]), "y": ("s", [1.0, 400.0])},
        tasks=[
            {"id": "x", "input_group": "pen"},
            {
                "id": "y",
                "input_group": "pen",
                "connections": [
                    {"source": "input", "target": "x/0", "drop": 0.0, "share": "identity"},
                    {"source": "x/0", "target": "y/1", "drop": 0.0},
                ],
            },
        ],
    )
    both = stream(instance, {"x": ["x/0", "x/1"], "y": ["x/0", "y/1"]}, 1.0)
    assert len(both.route.visits()) == 1
    ((x, y),) = ended(instance, [both], At(0.0, 0.0, answers=4))
    # 0.1 s together, then 0.2 s and 0.4 s: an answer leaves when it is there.
    assert x == pytest.approx([0.3, 1.0])
    assert y == pytest.approx([0.7, 1.4])


def test_batches_on_a_server_that_computes_for_a_while():
    instance = one_server(1e-3)  # the pace is no matter
    one = stream(instance, {"a": ["a/0"]}, 1.0)
    times = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    ((found,),) = ended(
        instance, [one], At(*times, answers=6), largest_batch=4, computing=lambda _, n: 1.0 + n / 10
    )
    # One alone until 1.1, four until 2.5, the last until 3.6.
    assert found == pytest.approx([1.1, 2.5, 2.5, 2.5, 2.5, 3.6])


def test_computing_that_keeps_the_pace_changes_nothing():
    instance = generate(services=5, seed=3, links=True)
    streams = streams_of(instance, solve(instance, method="code"))
    seconds = 3000.0 / sum(one.route.rate for one in streams)
    run = Run.planned(instance, streams, "rates", seconds=seconds, arrivals="poisson")
    alone, _ = SimulatedEdge(instance).drive(streams, run.feeder())
    edge = SimulatedEdge(instance, computing=lambda *_: 0.0)
    assert edge.drive(streams, run.feeder())[0].answers == alone.answers


# Ways of feeding it


@pytest.mark.parametrize("name", ["two-services", "metro-links", "one-camera/instance"])
def test_optimal_rates_come_out_as_they_went_in(name):
    instance = load_instance(DATA / f"{name}.json")
    result = solve(instance)
    full = max(row.utilization for row in result.servers)
    flow = simulate(instance, result, seconds=2000 / result.throughput, arrivals="constant")
    assert flow.steady
    assert flow.error == pytest.approx(0.0, abs=0.005)
    assert flow.lag == 0.0
    assert max(server.measured for server in flow.servers) == pytest.approx(full, abs=0.01)
    for task in flow.tasks:
        assert task.measured == pytest.approx(task.predicted, rel=0.03)
        assert task.unloaded <= task.latency_median * (1 + 1e-9)
        assert task.latency_median <= task.latency_p95 <= task.latency_p99
    assert judge(result, (), (), flow).text == "confirmed (accuracy not measured)"


@pytest.mark.parametrize("name", ["two-services", "metro-links"])
def test_saturation_finds_what_the_model_allows(name):
    instance = load_instance(DATA / f"{name}.json")
    result = solve(instance, method="local")
    largest = loads(instance, [s.route for s in streams_of(instance, result)]).largest
    flow = simulate(instance, result, seconds=2000 / result.throughput, feed="saturated")
    assert flow.predicted == pytest.approx(result.throughput / largest)
    assert flow.error == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("name", ["two-services", "metro-links", "one-camera/instance"])
def test_ten_percent_too_much_shows(name):
    instance = load_instance(DATA / f"{name}.json")
    result = solve(instance)
    flow = simulate(
        instance, result, seconds=2000 / result.throughput, feed="overloaded", arrivals="constant"
    )
    assert not flow.steady
    assert max(server.waiting_max for server in flow.servers) > 20


def test_links_can_be_too_narrow():
    instance = two_servers()
    result = solve(instance)
    row = next(row for row in result.tasks if row.task == "t")
    assert row.rate == pytest.approx(1e6 / 2e4)  # the link's bytes per second decide
    flow = simulate(instance, result, seconds=20.0, arrivals="constant")
    (task,) = [t for t in flow.tasks if t.task == "t"]
    assert task.latency_median == pytest.approx(0.05)
    assert flow.steady
    assert not simulate(
        instance, result, seconds=20.0, feed="overloaded", arrivals="constant"
    ).steady


def test_slow_motion_is_told_in_the_instances_own_seconds():
    instance = load_instance(DATA / "two-services.json")
    streams = streams_of(instance, solve(instance))
    edge = SimulatedEdge(instance)
    slow = edge.run(streams, "rates", seconds=40.0, factor=0.25)
    real = edge.run(streams, "rates", seconds=10.0)
    assert slow.factor == 0.25
    assert slow.seconds == pytest.approx(10.0)
    assert slow.measured == pytest.approx(real.measured, rel=1e-3)
    for one, other in zip(slow.tasks, real.tasks, strict=True):
        assert one.latency_p95 == pytest.approx(other.latency_p95)
        assert one.predicted == other.predicted
    saturated = edge.run(streams, "saturated", seconds=40.0, factor=0.25)
    assert saturated.error == pytest.approx(0.0, abs=0.01)


def test_servers_slower_than_they_say_are_not_confirmed():
    instance = load_instance(DATA / "two-services.json")
    result = solve(instance)
    fullest = max(result.servers, key=lambda row: row.utilization).server
    for pace, holds in ((1.0, True), (0.98, True), (0.95, False), (0.5, False)):
        flow = simulate(instance, result, seconds=30.0, arrivals="constant", paces={fullest: pace})
        assert judge(result, (), (), flow).throughput is holds, pace
    assert "queues grow" in judge(result, (), (), flow).text
    # One with room to spare may be a little slower.
    idlest = min(result.servers, key=lambda row: row.utilization)
    spare = {idlest.server: idlest.utilization * 1.01}
    flow = simulate(instance, result, seconds=30.0, arrivals="constant", paces=spare)
    assert judge(result, (), (), flow).throughput


def test_a_machine_that_lags_is_no_verdict_on_the_result():
    """The same queues grow, but real computing is to blame and not the pace."""
    instance = load_instance(DATA / "two-services.json")
    result = solve(instance)
    streams = streams_of(instance, result)

    def flow(computing: float, **options) -> Flow:
        edge = SimulatedEdge(instance, computing=lambda *_: computing, **options)
        return edge.run(streams, "rates", seconds=30.0)

    quick = flow(1e-5)
    assert quick.lag == 0.0
    assert judge(result, (), (), quick).confirmed
    slow = flow(0.05)
    assert slow.lag > 1.0
    verdict = judge(result, (), (), slow)
    assert (verdict.throughput, verdict.is_void, verdict.confirmed) == (None, True, False)
    assert "throughput void: this machine was" in verdict.text
    # Batches let the same machine keep up.
    assert judge(result, (), (), flow(0.05, largest_batch=32)).confirmed


def test_poisson_arrivals_have_longer_tails():
    instance = load_instance(DATA / "two-services.json")
    result = solve(instance, min_accuracy=None)
    evenly = simulate(instance, result, seconds=50.0, arrivals="constant")
    chance = simulate(instance, result, seconds=50.0)
    assert (evenly.arrivals, chance.arrivals) == ("constant", "poisson")
    for one, other in zip(evenly.tasks, chance.tasks, strict=True):
        assert other.latency_p95 > one.latency_p95


# Queueing theory


def batch_means(values: np.ndarray, batches: int = 20) -> tuple[float, float]:
    """Return the mean and half of its 95 % interval, from means of batches in order."""
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    return float(means.mean()), 2.093 * float(means.std(ddof=1)) / batches**0.5


@pytest.mark.parametrize("utilization", [0.5, 0.8, 0.9])
def test_one_size_waits_as_pollaczek_and_khinchine_say(utilization):
    """M/D/1: W = rho tau / (2 (1 - rho)); intervals hold as often as they say, about."""
    tau = 0.001
    instance = one_server(1000.0 * tau)
    one = stream(instance, {"a": ["a/0"]}, utilization / tau)
    expected = utilization * tau / (2.0 * (1.0 - utilization))
    means, holds, seen = [], 0, []
    for seed in range(10):
        run = Run.planned(instance, [one], "rates", seconds=30.0, arrivals="poisson", seed=seed)
        trace, reports = SimulatedEdge(instance).drive([one], run.feeder(), window=run.window)
        mean, half = batch_means(trace.latencies(0, 0, run.window) - tau)
        means.append(mean)
        holds += abs(mean - expected) <= half
        seen.append(reports["s"]["waiting_mean"])
    assert holds >= 8
    assert np.mean(means) == pytest.approx(expected, rel=0.02)
    # Who arrives sees the mean number inside (Little's law), and counts itself.
    inside = utilization + expected * utilization / tau
    assert np.mean(seen) == pytest.approx(1.0 + inside, rel=0.02)


def test_two_sizes_wait_as_pollaczek_and_khinchine_say():
    """M/G/1: both wait the same, W = sum of r tau^2 / (2 (1 - rho))."""
    instance = one_server(1.0, 20.0)
    rates, taus = (300.0, 25.0), (0.001, 0.02)
    streams = [stream(instance, {n: [f"{n}/0"]}, r) for n, r in zip("ab", rates, strict=True)]
    run = Run.planned(instance, streams, "rates", seconds=1000.0, arrivals="poisson", seed=2)
    trace, _ = SimulatedEdge(instance).drive(streams, run.feeder())
    load = sum(r * tau for r, tau in zip(rates, taus, strict=True))
    expected = sum(r * tau**2 for r, tau in zip(rates, taus, strict=True)) / (2.0 * (1.0 - load))
    for k, tau in enumerate(taus):
        mean, half = batch_means(trace.latencies(k, 0, run.window) - tau)
        assert abs(mean - expected) <= half
        assert half < 0.1 * expected


def test_behind_an_equal_server_nobody_waits():
    """What leaves a server of one size keeps its distance: the second one has no queue."""
    way = {"source": "a", "target": "b", "bandwidth": None, "latency": 0.25}
    instance = edge(
        {"a": 1000.0, "b": 1000.0},
        {"t": ("a", [1.0, 1.0]), "u": ("b", [1.0, 1.0])},
        links=[way],
        tasks=[{"id": "t", "connections": [{"source": "t/0", "target": "u/1", "drop": 0.0}]}],
    )
    found = []
    for path in (["t/0"], CROSSING["t"]):
        one = stream(instance, {"t": path}, 900.0)
        run = Run.planned(instance, [one], "rates", seconds=20.0, arrivals="poisson")
        trace, _ = SimulatedEdge(instance).drive([one], run.feeder())
        found.append(trace.latencies(0, 0, (0.0, 20.0)))
    short, long = found
    assert long == pytest.approx(short[: len(long)] + 0.251)
    assert short.max() > 0.01


# Reproducible


def test_the_same_seed_gives_the_same_flow():
    instance = load_instance(DATA / "metro-links.json")
    result = solve(instance, method="local")
    flows = [simulate(instance, result, seconds=5.0, seed=seed) for seed in (1, 1, 2)]
    assert flows[0] == flows[1]
    assert flows[0] != flows[2]


def test_it_needs_no_network_and_asks_no_clock():
    code = (
        "import sys, time, json\n"
        "def never(): raise AssertionError('asked a clock')\n"
        "from code_opt import load_instance, solve\n"
        "from code_opt.evaluation.simulation import simulate\n"
        f"instance = load_instance({str(DATA / 'two-services.json')!r})\n"
        "result = solve(instance, method='local')\n"
        "for name in ('time', 'monotonic', 'perf_counter', 'process_time', 'sleep'):\n"
        "    setattr(time, name, never)\n"
        "flow = simulate(instance, result, seconds=1.0)\n"
        "print(json.dumps([flow.measured, 'torch' in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=DATA.parent, capture_output=True, text=True, check=True
    )
    measured, torch = json.loads(done.stdout)
    assert measured > 0.0
    assert not torch
    assert math.isfinite(measured)
