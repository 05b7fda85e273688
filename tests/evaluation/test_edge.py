"""The edge, executed: its pace, its ends, and what happens when something dies."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from code_opt import load_instance, solve
from code_opt.evaluation.edge import Edge, EdgeError, Flow, Stream, _long_enough, _schedule
from code_opt.evaluation.subject import Subject
from code_opt.instance import Instance, parse_instance

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
SECONDS = 2.0


def light(instance: Instance, factor: float = 1e-3) -> Instance:
    """Return the same edge with less work on slower servers: the rates stay."""
    data = instance.to_dict()
    for server in data["servers"]:
        server["flops"] *= factor
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["flops"] *= factor
    for task in data["tasks"]:
        for connection in task["connections"]:
            connection["flops"] *= factor
    return parse_instance(data)


def two() -> Instance:
    return light(load_instance(DATA / "two-services.json"))


def undisturbed(measure: Callable[[], Flow], holds: Callable[[Flow], bool]) -> Flow:
    """Measure until it holds, four times at most: on a busy machine others take the processor."""
    for _ in range(3):
        flow = measure()
        if holds(flow):
            return flow
    return measure()


def agrees(flow: Flow) -> bool:
    return abs(flow.error) <= 0.03 and flow.steady


def without_networks(instance: Instance) -> Subject:
    return Subject(instance, None, DATA)


def prepared(instance: Instance, method: str = "exact") -> tuple[Subject, list[Stream]]:
    subject = without_networks(instance)
    return subject, subject.streams(solve(instance, method=method), 64)


def edge_of(subject: Subject, streams: list[Stream]) -> Edge:
    workers = subject.workers([streams], device="cpu", threads=1, largest_batch=16)
    return Edge(subject.instance, workers)


def with_a_narrow_link() -> Instance:
    """One service split over two servers by its only cheap path, held back by a link."""

    def blocks(dnn: str, flops: float) -> list[dict]:
        return [
            {"id": f"{dnn}/{k}", "flops": flops, "params": 1.0, "output_bytes": 2e4}
            for k in range(2)
        ]

    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "narrow",
            "servers": [{"id": "a", "flops": 1e8}, {"id": "b", "flops": 1e8}],
            "links": [{"source": "a", "target": "b", "bandwidth": 1e6, "latency": 0.01}],
            "dnns": [
                {"id": "one", "server": "a", "blocks": blocks("one", 1e6)},
                {"id": "two", "server": "b", "blocks": blocks("two", 1e6)},
            ],
            "tasks": [
                {
                    "id": "t",
                    "dnn": "one",
                    "accuracy": 0.5,
                    "connections": [
                        {"source": "one/0", "target": "two/1", "drop": -0.4},
                        {"source": "two/1", "target": "output", "drop": 0.0},
                    ],
                },
                {"id": "u", "dnn": "two", "accuracy": 0.5, "demand": 1.0},
            ],
            "reward": {"accuracy": {"kind": "power", "exponent": 8.0}},
        }
    )


@pytest.fixture(scope="module")
def two_services():
    subject, streams = prepared(two())
    with edge_of(subject, streams) as edge:
        assert edge.slow_motion(0, streams) == 1.0
        yield edge, streams


def test_feasible_rates_come_out_as_they_went_in(two_services):
    edge, streams = two_services
    flow = undisturbed(lambda: edge.run(0, streams, "rates", seconds=SECONDS), agrees)
    assert agrees(flow)
    for server in flow.servers:
        assert server.measured == pytest.approx(server.predicted, abs=0.05)
    for task in flow.tasks:
        assert task.measured == pytest.approx(task.predicted, rel=0.05)
        assert task.unloaded <= task.latency_median * 1.02
        assert task.latency_median <= task.latency_p95 <= task.latency_p99


def test_saturation_finds_what_the_model_allows(two_services):
    edge, streams = two_services
    flow = undisturbed(lambda: edge.run(0, streams, "saturated", seconds=SECONDS), agrees)
    assert abs(flow.error) <= 0.03


def test_ten_percent_too_much_shows(two_services):
    edge, streams = two_services
    flow = edge.run(0, streams, "overloaded", seconds=SECONDS)
    assert not flow.steady
    assert flow.measured < 0.97 * flow.offered
    assert max(server.waiting_max for server in flow.servers) > 6


def test_slow_motion_measures_in_the_instances_own_seconds(two_services):
    edge, streams = two_services
    flow = undisturbed(lambda: edge.run(0, streams, "rates", seconds=2.0, factor=0.5), agrees)
    assert flow.factor == 0.5
    assert abs(flow.error) <= 0.03
    assert flow.seconds == pytest.approx(1.0, rel=0.01)


def test_poisson_arrivals_have_longer_tails(two_services):
    edge, streams = two_services
    evenly = edge.run(0, streams, "rates", seconds=SECONDS)
    chance = edge.run(0, streams, "rates", seconds=SECONDS, arrivals="poisson")
    assert chance.arrivals == "poisson"
    assert max(t.latency_p95 for t in chance.tasks) > max(t.latency_p95 for t in evenly.tasks)


def test_a_machine_that_is_too_slow_slows_all_down():
    data = two().to_dict()
    for server in data["servers"]:
        server["flops"] *= 1e4
    subject, streams = prepared(parse_instance(data), "local")
    with edge_of(subject, streams) as edge:
        factor = edge.slow_motion(0, streams)
        assert factor < 0.5
        flow = undisturbed(
            lambda: edge.run(0, streams, "rates", seconds=SECONDS, factor=factor / 3), agrees
        )
    assert abs(flow.error) <= 0.03


def test_slow_tasks_are_watched_for_longer():
    assert _long_enough(2.0, [100.0, 30.0]) == 2.0
    assert _long_enough(2.0, [100.0, 10.0]) == 4.0
    assert _long_enough(2.0, [1e-3]) == 20.0


def test_links_have_their_pace_and_delay():
    subject, streams = prepared(with_a_narrow_link())
    (split,) = [s for s in streams if s.route.tasks == ("t",)]
    assert [s.server for s in split.route.segments] == ["a", "b"]
    assert split.route.rate == pytest.approx(1e6 / 2e4)  # the link's bytes per second decide
    with edge_of(subject, streams) as edge:
        flow = undisturbed(lambda: edge.run(0, streams, "rates", seconds=SECONDS), agrees)
        over = edge.run(0, streams, "overloaded", seconds=SECONDS)
    assert abs(flow.error) <= 0.03
    (task,) = [t for t in flow.tasks if t.task == "t"]
    # Two blocks at 10 ms, 20 ms of bytes, 10 ms of way.
    assert task.latency_median == pytest.approx(0.05, rel=0.15)
    assert not over.steady


def test_arrivals_are_the_same_for_a_seed():
    def first(seed: int) -> list[tuple[float, int]]:
        return list(itertools.islice(_schedule([3.0, 5.0], 0.0, 1e9, "poisson", seed), 2000))

    assert first(1) == first(1)
    assert first(1) != first(2)
    times = np.array([t for t, _ in first(1)])
    assert (np.diff(times) >= 0).all()
    assert len(times) / times[-1] == pytest.approx(8.0, rel=0.1)
    evenly = list(_schedule([2.0], 0.0, 2.0, "constant", 0))
    assert [t for t, _ in evenly] == [0.25, 0.75, 1.25, 1.75]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_server_that_dies_is_named_and_leaves_nobody_behind(when):
    subject, streams = prepared(two())
    edge = edge_of(subject, streams)
    pids = []
    with edge:
        pids = [process.pid for process in edge._processes.values()]
        victim = edge._processes["edge-a"].pid
        if when == "before":
            os.kill(victim, signal.SIGKILL)
            edge._processes["edge-a"].join(10)
        else:
            # From outside, in the middle of the measurement.
            subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {victim}"])
        with pytest.raises(EdgeError, match=r"process of server 'edge-a' died \(signal 9\)"):
            edge.run(0, streams, "rates", seconds=3.0)
    assert len(pids) == len(edge.specs)
    assert alive(pids) == []


def test_interrupting_the_command_leaves_nothing_behind(tmp_path):
    result = solve(load_instance(DATA / "digits" / "instance.json"), method="local")
    from code_opt.result import save_result

    save_result(result, tmp_path / "local.json")
    command = [
        sys.executable, "-m", "code_opt", "evaluate", str(DATA / "digits" / "instance.json"),
        str(tmp_path / "local.json"), "--seconds", "30", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that a shell runs in the background ignore the signal, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        workers: list[int] = []
        until = time.monotonic() + 90.0
        while len(workers) < 2 and time.monotonic() < until and running.poll() is None:
            time.sleep(0.2)
            workers = [pid for pid in members(running.pid) if is_worker(pid)]
        assert len(workers) == 2, running.communicate(timeout=5) if running.poll() else "no workers"
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: everybody gets it
        _, stderr = running.communicate(timeout=20)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    time.sleep(0.2)
    assert members(running.pid) == []
    assert list((tmp_path / "out").iterdir()) == []


def members(group: int) -> list[int]:
    """Return the processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getpgid(int(entry.name)) == group and state(entry) != "Z":
                    found.append(int(entry.name))
            except (ProcessLookupError, FileNotFoundError):
                continue
    return found


def state(entry: Path) -> str:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0]


def is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
