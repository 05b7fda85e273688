"""The edge at its own pace: what the driver makes of what servers do, on a clock of the tests."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from code_opt import load_instance, solve
from code_opt.errors import InputError
from code_opt.evaluation.flow import LatencyPromise, Run, streams_of
from code_opt.evaluation.intervals import Interval
from code_opt.evaluation.own_pace import Mix, Served, serve_arrivals, serve_mix
from code_opt.evaluation.pipeline import Options, evaluate, settled
from code_opt.evaluation.simulation import SimulatedEdge, simulate
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.evaluation.unpaced import OwnEdge, whole_number_of_devices
from code_opt.evaluation.verdict import judge
from code_opt.networks.bundle import TimedOn
from code_opt.profiling.config import TimingConfig
from code_opt.profiling.retiming import copy_bundle, timed_instance
from tests.evaluation.examples import CROSSING, edge, one_server, stream, two_servers
from tests.evaluation.executed import DATA
from tests.evaluation.test_own_pace import Machine


class SteadyEdge(OwnEdge):
    """Servers that take as long as the instance says, times a factor, on a clock of their own.

    Args:
        instance: servers and links.
        streams: the assignment.
        slower: factor of all times.
        stolen: time that others take of every batch [s].
    """

    def __init__(self, instance, streams, slower=1.0, stolen=0.0):
        self.instance = instance
        self.servers = {server.id: server for server in instance.servers}
        self.devices = {name: int(server.devices) for name, server in self.servers.items()}
        self.slower, self.stolen = slower, stolen
        self.seconds = {
            (number, visit): sum(s.route.segments[piece.segment].seconds for piece in pieces)
            for number, s in enumerate(streams)
            for visit, pieces in s.route.visits().items()
        }

    def machine(self, visits) -> Machine:
        return Machine(*(self.seconds[v] * self.slower for v in visits), stolen=self.stolen)

    def mixed(self, server, visits, rates, window) -> Mix:
        machine = self.machine(visits)
        return serve_mix(
            rates, batch=int(self.servers[server].batch), window=window,
            compute=machine.compute, clocks=machine.clocks,
        )  # fmt: skip

    def served(self, server, visits, times, places, window) -> Served:
        machine, one = self.machine(visits), self.servers[server]
        return serve_arrivals(
            times.tolist(), places.tolist(), batch=int(one.batch), delay=one.max_batch_delay,
            window=window, compute=machine.compute, clocks=machine.clocks,
        )  # fmt: skip


def timed(instance, times: dict[str, dict[str, float]], batch: float = 1.0, **server):
    """Return an instance whose blocks take given times."""
    data = instance.to_dict()
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["seconds"] = times[block["id"]]
    servers = [s | {"batch": batch, "flops": None} | server for s in data["servers"]]
    return instance.replace(servers=servers, dnns=data["dnns"])


# What is asked of servers


@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_a_path_over_two_servers_is_answered_as_a_simulation_has_it(kind):
    """Servers are run one after the other; what leaves one arrives at the next."""
    instance = two_servers()
    streams = [stream(instance, CROSSING, 35.0, 0.05)]
    options = {"seconds": 20.0, "arrivals": kind, "seed": 3}
    expected = SimulatedEdge(instance).run(streams, "rates", **options)
    found = SteadyEdge(instance, streams).run(0, streams, "rates", **options)
    assert (found.pace, expected.pace) == ("device", "instance")
    assert found.steady == expected.steady
    (one,), (other,) = found.tasks, expected.tasks
    assert one.answered == pytest.approx(other.answered, abs=2)
    assert one.latency_median == pytest.approx(other.latency_median, abs=0.003)
    assert one.latency_p95 == pytest.approx(other.latency_p95, rel=0.05, abs=0.003)
    for a, b in zip(
        sorted(found.servers, key=lambda s: s.server),
        sorted(expected.servers, key=lambda s: s.server),
        strict=True,
    ):
        assert a.measured == pytest.approx(b.measured, abs=0.02)


def test_servers_that_feed_each_other_have_rates_but_no_latencies():
    instance = edge(
        {"a": 1e8, "b": 1e8},
        {"t": ("a", [1e6, 1e6]), "u": ("b", [1e6, 1e6])},
        tasks=[
            {"id": "t", "connections": [{"source": "t/0", "target": "u/1", "drop": 0.0},
                                        {"source": "u/1", "target": "output", "drop": 0.0}]},
            {"id": "u", "connections": [{"source": "u/0", "target": "t/1", "drop": 0.0},
                                        {"source": "t/1", "target": "output", "drop": 0.0}]},
        ],
    )  # fmt: skip
    paths = ({"t": ["t/0", "u/1"]}, {"u": ["u/0", "t/1"]})
    streams = [stream(instance, path, 30.0, 0.02) for path in paths]
    found = SteadyEdge(instance, streams).run(0, streams, "rates", seconds=10.0)
    assert found.steady
    assert all(math.isnan(task.latency_median) for task in found.tasks)
    assert found.measured == pytest.approx(60.0, rel=0.02)


def test_devices_of_a_server_take_turns():
    instance = timed(one_server(100.0), {"a/0": {"1": 0.1}}, devices=2.0)
    streams = [stream(instance, {"a": ["a/0"]}, 18.0, 0.1)]
    found = SteadyEdge(instance, streams).run(0, streams, "rates", seconds=10.0)
    assert found.steady
    assert found.measured == pytest.approx(18.0, rel=0.02)
    assert found.servers[0].measured == pytest.approx(0.9, abs=0.02)
    full = SteadyEdge(instance, streams).run(0, streams, "saturated", seconds=10.0)
    assert full.predicted == pytest.approx(20.0)
    assert full.error == pytest.approx(0.0, abs=0.01)


# What servers can do


@pytest.mark.parametrize("batch", [1, 8])
def test_a_server_of_the_promised_speed_does_what_is_promised(batch):
    times = {"a/0": {"1": 0.01, "8": 0.02}, "b/0": {"1": 0.03, "8": 0.06}}
    instance = timed(one_server(1.0, 1.0), times, float(batch))
    result = solve(instance, method="local")
    streams = streams_of(instance, result)
    found = SteadyEdge(instance, streams).run(0, streams, "saturated", seconds=20.0)
    assert found.predicted == pytest.approx(result.throughput)
    assert abs(found.error) < 0.02
    over = SteadyEdge(instance, streams).run(0, streams, "overloaded", seconds=20.0)
    assert not over.steady
    assert judge(result, (), (), None, (), found).throughput


def test_a_slower_device_is_told():
    instance = timed(one_server(1.0), {"a/0": {"1": 0.01}})
    result = solve(instance, method="local")
    streams = streams_of(instance, result)
    slow = SteadyEdge(instance, streams, slower=1.25)
    full = slow.run(0, streams, "saturated", seconds=20.0)
    assert full.error == pytest.approx(-0.2, abs=0.01)
    verdict = judge(result, (), (), slow.run(0, streams, "rates", seconds=20.0), (), full)
    assert verdict.throughput is False
    assert "throughput promised 100/s, this device does" in verdict.text
    assert "queues grow" in verdict.text
    fast = SteadyEdge(instance, streams, slower=0.5)
    quick = fast.run(0, streams, "saturated", seconds=20.0)
    assert judge(result, (), (), None, (), quick).throughput  # more than promised is no broken one


def test_a_processor_that_others_use_leaves_no_verdict():
    instance = timed(one_server(1.0), {"a/0": {"1": 0.01}})
    result = solve(instance, method="local")
    streams = streams_of(instance, result)
    shared = SteadyEdge(instance, streams, stolen=0.005)
    found = shared.run(0, streams, "saturated", seconds=20.0)
    assert found.stolen == pytest.approx(1 / 3, abs=0.02)
    assert found.is_void
    (server,) = found.servers
    assert server.share == pytest.approx(2 / 3, abs=0.02)
    assert server.share_of_processor == pytest.approx(1.0, abs=0.02)
    verdict = judge(result, (), (), None, (), found)
    assert verdict.throughput is None
    assert not verdict.confirmed
    assert "throughput void: others had the processor for 33 % of the time" in verdict.text


# Percentiles


def limited(limit: float):
    """Return a task with half of a server, and a limit of its 95th percentile."""
    instance = edge(
        {"s": 1000.0},
        {"a": ("s", [10.0])},
        tasks=[
            {"id": "a", "demand": 50.0, "max_latency": limit, "latency_percentile": 0.95},
        ],
    )
    return instance, solve(instance)


def test_a_limit_below_the_measured_percentile_is_broken():
    instance, result = limited(0.2)
    seconds = 2000.0
    flow = simulate(instance, result, seconds=seconds)
    (task,) = flow.tasks
    assert task.latency_verdict == "kept"
    assert task.latency_low <= task.latency_measured <= task.latency_high
    (row,) = result.tasks
    assert task.latency_measured < row.latency_promised
    tight = instance.with_({"tasks[*].max_latency": 0.9 * task.latency_measured})
    (other,) = simulate(tight, result, seconds=seconds).tasks
    assert other.latency_verdict == "limit broken"
    verdict = judge(result, (), (), simulate(tight, result, seconds=seconds))
    assert verdict.latency is False
    assert "latency of 'a': 95 % within" in verdict.text
    assert not verdict.confirmed
    kept = judge(result, (), (), flow)
    assert kept.latency
    assert kept.confirmed


def test_a_percentile_of_few_answers_is_too_short_to_tell():
    instance, result = limited(0.2)
    verdict = judge(result, (), (), simulate(instance, result, seconds=4.0))
    assert verdict.latency is None
    assert not verdict.confirmed
    assert "latency of 'a': too short to tell" in verdict.text


@pytest.mark.parametrize(
    ("low", "lag", "long_enough", "expected"),
    [
        (0.09, 0.0, True, "kept"),
        (0.11, 0.0, True, "promise broken"),
        (0.21, 0.0, True, "limit broken"),
        (0.21, 0.0, False, "too short to tell"),
        (0.09, 0.0049, True, "kept"),
        (0.09, 0.0051, True, "void"),
    ],
)
def test_verdicts_on_a_percentile(low, lag, long_enough, expected):
    promise = LatencyPromise(0.95, 0.1, 0.2)
    assert promise.verdict(Interval(0.1, low, 0.3, long_enough), lag) == expected


def test_a_run_is_as_long_as_its_percentiles_need():
    from code_opt.evaluation.flow import long_enough

    instance, result = limited(0.2)
    (one,) = streams_of(instance, result)
    # 20 batches, each with 10 answers beyond the 95th percentile, at 50/s.
    assert long_enough(10.0, [one]) == pytest.approx(4000 / 50.0)
    assert long_enough(4.0, [one]) == pytest.approx(40.0)
    assert long_enough(10.0, [replace(one, promises=())]) == 10.0


# Real processes and networks


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Path]:
    """The digits, timed here, in batches of 4."""
    path = DATA / "digits" / "instance.json"
    instance = load_instance(path).with_({"servers[*].batch": 4.0})
    bundle = bundle_of(instance, path)
    folder = tmp_path_factory.mktemp("timed")
    found, _ = timed_instance(instance, bundle, TimingConfig(batches=(4,), seconds=1e-3))
    name = copy_bundle(bundle, folder, "cpu")
    found = found.replace(bundle=name)
    return Subject(found, bundle_of(found, folder), Path("none")), folder


def test_processes_compute_what_the_assembled_network_does(own):
    subject, _ = own
    result = solve(subject.instance)
    streams = subject.streams(result, 8)
    from code_opt.evaluation.tuning import PathFits

    network = PathFits(subject, "cpu", fine_tune=False).network(result)
    with OwnEdge(subject, [streams]) as edge_:
        for number, one in enumerate(streams):
            for visit, pieces in one.route.visits().items():
                server = one.route.segments[visit].server
                (classes,) = edge_.answers(server, [(number, visit)])
                for piece, found in zip(pieces, classes, strict=True):
                    for place in one.route.segments[piece.segment].answers:
                        task = one.route.tasks[place]
                        images = subject.inputs(task, subject.images(task, "test").first(4))
                        expected = network.path(task)(images).argmax(dim=1).tolist()
                        assert found == expected


def test_what_is_fed_is_answered_by_processes(own):
    """Only counts are looked at: at a hundredth of what was measured any machine keeps up."""
    subject, _ = own
    slow = {"tasks[*].demand": 20.0}
    result = solve(subject.instance.with_(slow))
    streams = subject.streams(result, 8)
    with OwnEdge(subject, [streams]) as edge_:
        flow = edge_.run(0, streams, "rates", seconds=1.0, arrivals="poisson")
    run = Run.planned(subject.instance, streams, "rates", seconds=1.0, arrivals="poisson")
    assert flow.offered == pytest.approx(
        sum(1.0 for time, _ in _times(run) if run.window[0] <= time < run.window[1])
    )
    assert {task.task for task in flow.tasks} == {"digit", "parity"}
    assert flow.pace == "device"


def _times(run):
    from itertools import takewhile

    from code_opt.evaluation.traffic import arrivals

    rates = [one.route.rate for one in run.streams]
    schedule = arrivals(run.arrivals, rates, 0.0, run.seed)
    return list(takewhile(lambda one: one[0] < run.window[1], schedule))


def test_the_pace_is_the_devices_where_times_are_its_own(own):
    subject, _ = own
    assert settled(Options(), subject).pace == "device"
    assert settled(Options(pace="instance"), subject).pace == "instance"
    bundle = subject.bundle
    other = TimedOn(device="another", threads=1, torch="1.0")
    elsewhere = Subject(subject.instance, bundle, Path("none"))
    elsewhere.bundle = bundle_of(subject.instance, bundle.folder.parent)
    elsewhere.bundle.manifest = bundle.manifest.model_copy(update={"timed": other})
    assert settled(Options(), elsewhere).pace == "instance"


def test_arrivals_are_random_where_a_latency_is_limited(own):
    subject, _ = own
    assert settled(Options(), subject).arrivals == "constant"
    data = subject.instance.with_({"tasks[0].max_latency": 1.0})
    assert settled(Options(), Subject(data, subject.bundle, Path("none"))).arrivals == "poisson"


def test_an_instance_without_times_has_no_own_pace(subject):
    with pytest.raises(InputError, match="digits: holds no measured times to compare this device"):
        settled(Options(pace="device"), subject)


def test_parts_of_devices_are_refused():
    instance = one_server(1.0)
    with pytest.raises(InputError, match="devices: at this machine's own pace only whole"):
        whole_number_of_devices(instance.servers[0].model_copy(update={"devices": 0.5}))


def test_an_edge_without_networks_is_refused(digits):
    with pytest.raises(InputError, match="no bundle"):
        OwnEdge(Subject(digits, None, Path("none")), [])


@pytest.mark.realtime
def test_the_digits_are_confirmed_at_this_machines_own_pace(tmp_path):
    path = DATA / "digits" / "instance.json"
    instance = load_instance(path).with_({"tasks[*].demand": None, "tasks[*].floor": 0.0})
    bundle = bundle_of(instance, path)
    found, _ = timed_instance(instance, bundle, TimingConfig(batches=(1,), seconds=0.3))
    subject = Subject(found.replace(bundle=copy_bundle(bundle, tmp_path, "cpu")), None, tmp_path)
    subject = Subject(subject.instance, bundle_of(subject.instance, tmp_path), Path("none"))
    done = evaluate(subject, {"exact": solve(subject.instance)}, Options(seconds=2.0))
    (one,) = done.results
    if one.verdict.is_void:
        pytest.skip(one.verdict.text)
    assert one.verdict.throughput, one.verdict.text


def test_times_come_back_from_a_driver_in_the_order_of_visits():
    """Arrivals of several visits are merged by time and parted again."""
    instance = timed(one_server(1.0, 1.0), {"a/0": {"1": 0.01}, "b/0": {"1": 0.01}})
    streams = [stream(instance, {name: [f"{name}/0"]}, 5.0, 0.01) for name in "ab"]
    found = SteadyEdge(instance, streams).run(0, streams, "rates", seconds=4.0)
    assert [task.answered for task in found.tasks] == [20, 20]
    assert np.allclose([task.latency_median for task in found.tasks], 0.01, atol=1e-3)
