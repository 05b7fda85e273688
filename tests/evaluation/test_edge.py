"""The edge, executed: every input is answered once, and what happens when something dies.

Nothing here looks at how long something takes: `test_realtime.py` does, and the pace is tested
on a simulated clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from code_opt import load_instance, solve
from code_opt.evaluation.edge import Edge
from code_opt.evaluation.flow import Stream, long_enough
from code_opt.evaluation.processes import EdgeError, without_interrupts
from code_opt.evaluation.routes import Route
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.evaluation.tuning import PathFits
from code_opt.instance import Instance
from tests.evaluation.examples import light, two_servers
from tests.evaluation.executed import (
    Endless,
    Inputs,
    assert_all_answered_once,
    assert_answered_like,
    unpaced,
)
from tests.evaluation.test_inputs import two_sites

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"


def prepared(instance: Instance, method: str = "exact") -> tuple[Subject, list[Stream]]:
    subject = Subject(instance, None, DATA)
    return subject, subject.streams(solve(instance, method=method), 64)


def edge_of(subject: Subject, *assignments: list[Stream]) -> Edge:
    workers = subject.workers(assignments, device="cpu", threads=1, largest_batch=16)
    return Edge(subject.instance, workers)


def test_every_input_is_answered_once_whatever_was_under_way_before():
    instance = light(load_instance(DATA / "two-services.json"))
    subject = Subject(instance, None, DATA)
    best, local = (subject.streams(solve(instance, method=m), 64) for m in ("exact", "local"))
    assert len({s.server for one in best for s in one.route.segments}) == 2
    with edge_of(subject, best, local) as edge:
        edge.begin()
        assert_all_answered_once(edge.drive(0, best, Inputs(best, 100)), 100)
        edge.begin()
        cut = Endless(best, lambda: setattr(cut, "over", True))
        edge.drive(0, best, cut)
        edge.begin(0.5)
        first = len(best)
        assert_all_answered_once(edge.drive(first, local, Inputs(local, 30)), 30)


def test_an_activation_crosses_a_link():
    subject, streams = prepared(two_servers())
    (split,) = [s for s in streams if s.route.tasks == ("t",)]
    assert [s.server for s in split.route.segments] == ["a", "b"]
    with edge_of(subject, streams) as edge:
        edge.begin()
        trace = edge.drive(0, streams, Inputs(streams, 20))
    assert_all_answered_once(trace, 20)
    # Never before the pace of work (10 ms on each side), link (20 ms each) and way (10 ms) allow,
    # whatever else this machine does.
    which = streams.index(split)
    (answers,) = trace.answers[which]
    for number, at, _ in answers:
        assert at - trace.born[which][0] >= 0.05 + 0.02 * number - 1e-6


def test_inputs_cross_links_in_their_own_time():
    subject, streams = prepared(two_sites(input_group="camera"))
    (sent,) = [s for s in streams if s.route.tasks == ("t",)]
    assert [(s.server, len(s.parts)) for s in sent.route.segments] == [("gate", 0), ("hall", 1)]
    with edge_of(subject, streams) as edge:
        edge.begin()
        trace = edge.drive(0, streams, Inputs(streams, 10))
    assert_all_answered_once(trace, 10)
    which = streams.index(sent)
    for number, at, _ in trace.answers[which][0]:  # 100 ms on the link, 10 ms of way, 20 ms of work
        assert at - trace.born[which][0] >= 0.13 + 0.1 * number - 1e-6


@pytest.fixture(scope="module")
def quick(digits) -> Subject:
    """The digits on servers that are not held back by any pace."""
    return unpaced(digits, bundle_of(digits, DATA / "digits" / "instance.json"))


def test_the_edge_answers_like_the_assembled_network(quick, results):
    number = 200
    assignments = [quick.streams(results[method], number) for method in ("exact", "local")]
    fits = PathFits(quick, "cpu", fine_tune=False)
    workers = quick.workers(
        assignments, device="cpu", threads=1, largest_batch=16, adapters=fits.adapters
    )
    first = 0
    with Edge(quick.instance, workers) as edge:
        for method, streams in zip(("exact", "local"), assignments, strict=True):
            edge.begin()
            trace = edge.drive(first, streams, Inputs(streams, number))
            assert_all_answered_once(trace, number)
            assert_answered_like(fits.network(results[method]), streams, trace)
            first += len(streams)


@pytest.mark.long
def test_images_that_are_sent_are_answered_like_the_assembled_network(digits):
    data = digits.to_dict()
    for task in data["tasks"]:
        task |= {"input_bytes": 300.0, "origin": "edge-b"}
    folder = DATA / "digits" / "instance.json"
    subject = unpaced(digits.replace(tasks=data["tasks"]), bundle_of(digits, folder))
    result = solve(subject.instance, "local")
    streams = subject.streams(result, 100)
    assert any(not segment.parts for one in streams for segment in one.route.segments)
    fits = PathFits(subject, "cpu", fine_tune=False)
    with edge_of(subject, streams) as edge:
        edge.begin()
        trace = edge.drive(0, streams, Inputs(streams, 100))
    assert_all_answered_once(trace, 100)
    assert_answered_like(fits.network(result), streams, trace)


def test_slow_tasks_are_watched_for_longer():
    def at(*rates: float) -> list[Stream]:
        return [Stream(Route(("t",), rate, (), ()), (0.0,), (None,)) for rate in rates]

    assert long_enough(2.0, at(100.0, 30.0)) == 2.0
    assert long_enough(2.0, at(100.0, 10.0)) == 4.0
    assert long_enough(2.0, at(100.0), 0.1) == 4.0
    assert long_enough(2.0, at(1e-3)) == 20.0


def test_slow_motion_leaves_room_for_computing():
    subject, streams = prepared(two_servers())
    edge = edge_of(subject, streams)
    visits = [
        (k, v) for k, stream in enumerate(streams) for v in stream.route.visits()
    ]  # fmt: skip
    edge.seconds = dict.fromkeys(visits, 1e-6)
    assert edge.slow_motion(0, streams) == 1.0
    assert edge.slow_motion(0, streams, 0.5) == 0.5
    edge.seconds = dict.fromkeys(visits, 1.0)
    slow = edge.slow_motion(0, streams)
    assert slow < 0.05
    edge.seconds = dict.fromkeys(visits, 2.0)
    assert edge.slow_motion(0, streams) == pytest.approx(slow / 2.0, rel=0.01)


def test_slow_motion_budgets_the_one_gpu_that_all_servers_share(monkeypatch):
    subject, streams = prepared(two_servers())
    edge = edge_of(subject, streams)
    visits = [
        (k, v) for k, stream in enumerate(streams) for v in stream.route.visits()
    ]  # fmt: skip
    edge.seconds = dict.fromkeys(visits, 1.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    apart = edge.slow_motion(0, streams)
    edge.specs = {server: replace(spec, device="cuda") for server, spec in edge.specs.items()}
    together = edge.slow_motion(0, streams)
    rates = dict.fromkeys(edge.specs, 0.0)
    for stream in streams:
        for visit in stream.route.visits():
            rates[stream.route.segments[visit].server] += stream.route.rate
    assert len(rates) == 2
    # Apart, the fuller server limits the pace; on one GPU both together do.
    expected = max(rates.values()) / sum(rates.values())
    assert together / apart == pytest.approx(expected, rel=0.01)
    assert expected < 0.95


# What dies


@pytest.mark.parametrize(("victim", "when"), [("edge-a", "before"), ("edge-b", "while")])
def test_a_server_that_dies_is_named_and_leaves_nobody_behind(victim, when):
    subject, streams = prepared(light(load_instance(DATA / "two-services.json")))
    edge = edge_of(subject, streams)
    answers = 0

    def kill() -> None:
        os.kill(edge._processes[victim].pid, signal.SIGKILL)

    def notice() -> None:
        nonlocal answers
        answers += 1
        if answers == 20:
            kill()

    with edge:
        pids = [process.pid for process in edge._processes.values()]

        def run() -> None:
            edge.begin()
            edge.drive(0, streams, Endless(streams, notice))

        if when == "before":
            kill()
            edge._processes[victim].join()
        with pytest.raises(EdgeError, match=rf"process of server '{victim}' died \(signal 9\)"):
            run()
    assert len(pids) == len(edge.specs)
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_interrupting_the_command_leaves_nothing_behind(tmp_path):
    result = solve(load_instance(DATA / "digits" / "instance.json"), method="local")
    from code_opt.result import save_result

    save_result(result, tmp_path / "local.json")
    # However late the signal comes, the edge is still running.
    script = (
        "from code_opt.evaluation import edge; edge.long_enough = lambda *_: 1e6;"
        "from code_opt.cli.app import run; run()"
    )
    command = [
        sys.executable, "-c", script, "evaluate", str(DATA / "digits" / "instance.json"),
        str(tmp_path / "local.json"), "--seconds", "0.1", "--out", str(tmp_path / "out"),
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
        # However long it takes to come so far: only the test's own limit ends the waiting.
        while sum(map(is_worker, members(running.pid))) < 2:
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: everybody gets it
        _, stderr = running.communicate()
        while members(running.pid):  # the last ones are being reaped
            time.sleep(0.05)
    finally:
        if members(running.pid):
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert running.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupt_while_a_process_starts_counts_afterwards():
    reached = []

    def start() -> None:
        with without_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_process_that_starts_has_interrupts_blocked():
    # A fresh interpreter: the first process begins multiprocessing's tracker, too.
    script = (
        "import signal\n"
        "from multiprocessing import resource_tracker\n"
        "from code_opt.evaluation.processes import without_interrupts\n"
        "with without_interrupts():\n"
        "    resource_tracker.ensure_running()\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "True\n"


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
