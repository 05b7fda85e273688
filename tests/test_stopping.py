"""A request to stop: by signals that are raised at a known point, never by waiting for luck."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import code_opt
from code_opt.batch import find_instances, run_batch
from code_opt.cli.app import main
from code_opt.core.settings import Clock
from code_opt.executors import executor_of
from code_opt.generate import generate
from code_opt.planning import PlanSettings, Scenarios, failures, front, marginal, programs, sweep
from code_opt.planning.demands import DemandRow
from code_opt.solvers import LinearProgram
from code_opt.solvers import highs as highs_module
from code_opt.stopping import (
    Terminated,
    is_stop_requested,
    request_stop,
    sigterm_raises,
    stop_on_signal,
    told_to_stop,
)
from formulations.arrays import ArrayProgram

ROOT = Path(__file__).resolve().parents[1]
TWO = str(ROOT / "data" / "two-services.json")


@pytest.fixture(autouse=True)
def heard():
    """Hear of signals also where a shell runs these tests in the background and ignores them."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


BOTH = pytest.mark.parametrize(
    ("number", "word", "status"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
    ids=["SIGINT", "SIGTERM"],
)


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    signal.raise_signal(number)


def test_the_first_is_a_request_and_the_second_ends() -> None:
    with stop_on_signal() as stopped_by:
        assert not is_stop_requested()
        assert stopped_by() is None
        interrupt()
        assert is_stop_requested()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert stopped_by() is signal.SIGINT
    assert not is_stop_requested()
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_sigterm_is_a_request_too() -> None:
    with stop_on_signal() as stopped_by:
        interrupt(signal.SIGTERM)
        assert is_stop_requested()
        with pytest.raises(Terminated):
            interrupt(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) as caught:
            interrupt(signal.SIGINT)
        assert caught.type is KeyboardInterrupt
    assert stopped_by() is signal.SIGTERM
    assert not is_stop_requested()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_clocks_are_over_except_those_that_run_to_their_end() -> None:
    usual, stubborn = Clock(1e6), Clock(None, to_its_end=True)
    with stop_on_signal():
        assert not usual.is_over
        interrupt()
        assert usual.is_over
        assert usual.left == 0.0
        assert usual.reason == "an interrupt"
        assert not stubborn.is_over
        assert stubborn.left is None
    assert not usual.is_over
    assert Clock(1e-9).reason == "time limit"


def test_other_handlers_and_threads_are_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signal() as stopped_by:
            interrupt()
        assert stopped_by() is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    found = []

    def elsewhere() -> None:
        with stop_on_signal() as stopped_by:
            found.append(signal.getsignal(signal.SIGTERM))
            assert stopped_by() is None

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_a_listener_hears_of_it_early_and_late() -> None:
    heard: list[str] = []
    with stop_on_signal():
        with told_to_stop(lambda: heard.append("early")):
            interrupt()
        with told_to_stop(lambda: heard.append("late")):
            pass
    assert heard == ["early", "late"]


def test_only_programs_with_a_limit_of_time_are_cancelled() -> None:
    """Without one nobody reckons with a program that has no answer."""
    arrays = ArrayProgram()
    columns = arrays.variables("x", 2, upper=1.0, cost=1.0)
    arrays.add(arrays.constraints("capacity", 1, -np.inf, 1.5), columns, 1.0)
    program = LinearProgram(arrays.arrays())
    with stop_on_signal():
        interrupt()
        outcome = program.solve()
        assert outcome is not None
        assert outcome.value == pytest.approx(1.5)


def at_the_first_bound(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Request a stop when HiGHS first has a bound; return a list that will hold it."""
    told: list[float] = []
    run = highs_module.run_interruptible

    def watched(highs, progress=None, is_stoppable=True):
        def heard(event) -> None:
            bound = -event.data_out.mip_dual_bound
            if not told and abs(bound) < 1e100:
                told.append(bound)
                request_stop()

        highs.cbMipInterrupt.subscribe(heard)
        try:
            return run(highs, progress, is_stoppable)
        finally:
            highs.cbMipInterrupt.unsubscribe(heard)

    monkeypatch.setattr(highs_module, "run_interruptible", watched)
    return told


def test_a_run_of_the_solver_ends_with_its_bound(monkeypatch) -> None:
    told = at_the_first_bound(monkeypatch)
    instance = generate(60, seed=5, links=True)
    with stop_on_signal():
        result = code_opt.solve(instance, formulation="path", gap=0.0)
    assert told
    assert result.status == "feasible"
    assert result.message == "stopped by an interrupt"
    assert result.bound is not None
    assert result.gap is not None
    assert result.gap > 1e-7
    assert code_opt.check(result, instance) == []


@pytest.mark.parametrize(
    ("method", "formulation"),
    [
        *(("exact", name) for name in ("path", "flow", "colgen")),
        *((name, "path") for name in ("lns", "code", "greedy", "random", "local", "host")),
    ],
)
def test_a_stop_before_the_start_leaves_what_a_limit_of_no_time_does(
    method: str, formulation: str
) -> None:
    instance = generate(12, seed=1, links=True, memory=True, measured=2)
    limited = code_opt.solve(instance, method, time_limit=1e-6, formulation=formulation)
    with stop_on_signal():
        interrupt()
        stopped = code_opt.solve(instance, method, formulation=formulation)
    assert stopped.has_solution == limited.has_solution
    assert (stopped.status == "optimal") <= (stopped.gap is not None and stopped.gap <= 1e-4)
    assert code_opt.check(stopped, instance) == []


def test_sigterm_closes_what_is_open_where_nothing_is_searched() -> None:
    closed = []

    def terminated() -> None:
        with sigterm_raises(), contextlib.ExitStack() as stack:
            stack.callback(closed.append, True)
            with stop_on_signal() as stopped_by:
                interrupt(signal.SIGTERM)
            assert stopped_by() is signal.SIGTERM
            interrupt(signal.SIGTERM)

    with pytest.raises(Terminated):
        terminated()
    assert closed == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@BOTH
def test_a_command_that_keeps_nothing_says_what_ended_it(
    number, word, status, monkeypatch, capfd
) -> None:
    monkeypatch.setattr(code_opt, "load_instance", lambda _: interrupt(number))
    assert main(["validate", TWO]) == status
    assert capfd.readouterr() == ("", f"code-opt: {word}\n")


# --- The command line -----------------------------------------------------------------


def interrupted_in(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    times: int = 1,
    number: signal.Signals = signal.SIGINT,
) -> None:
    """Raise a signal at the beginning of one method."""
    solve = code_opt.solve

    def interrupted(instance, method_now="exact", **options):
        name = options.pop("method", method_now)
        if name == method:
            for _ in range(times):
                interrupt(number)
        return solve(instance, method=name, **options)

    monkeypatch.setattr(code_opt, "solve", interrupted)


@BOTH
def test_finished_methods_and_the_one_at_hand_are_kept(
    number, word, status, tmp_path, capfd, monkeypatch
) -> None:
    interrupted_in(monkeypatch, "lns", number=number)
    out = tmp_path / "out"
    assert main(["solve", TWO, "--out", str(out)]) == status
    shown, told = capfd.readouterr()
    assert sorted(p.name for p in out.iterdir()) == [
        "two-services.exact.json",
        "two-services.lns.json",
    ]
    exact = json.loads((out / "two-services.exact.json").read_text(encoding="utf-8"))
    assert exact["status"] == "optimal"
    assert "exact" in shown
    assert "lns" in shown
    again = {130: "Ctrl-C again", 143: "a second signal"}[status]
    assert f"{word}: ending the search with what there is ({again} ends at once)" in told
    assert f"code-opt: {word}: shown is what was found until then" in told
    assert "not run: code, local, host, edge-early, greedy, random" in told


@BOTH
def test_the_second_ends_at_once(number, word, status, tmp_path, capfd, monkeypatch) -> None:
    interrupted_in(monkeypatch, "code", times=2, number=number)
    out = tmp_path / "out"
    assert main(["solve", TWO, "--out", str(out)]) == status
    shown, told = capfd.readouterr()
    assert shown == ""
    assert told.endswith(f"code-opt: {word}\n")
    assert list(out.iterdir()) == []


def test_an_interrupted_run_prints_json(capfd, monkeypatch) -> None:
    interrupted_in(monkeypatch, "exact")
    assert main(["solve", TWO, "--json"]) == 130
    (result,) = json.loads(capfd.readouterr().out)
    assert result["method"] == "exact"


@BOTH
def test_a_batch_keeps_what_is_done_and_solves_the_rest_later(
    number, word, status, tmp_path, capfd, monkeypatch
) -> None:
    out = tmp_path / "out"
    arguments = ["solve", TWO, "-m", "exact", "-m", "code", "-m", "local", "--executor", "serial"]
    arguments += ["--out", str(out)]
    with monkeypatch.context() as patch:
        interrupted_in(patch, "code", number=number)
        assert main(arguments) == status
    shown, told = capfd.readouterr()
    assert f"{word}: shown is what was found until then; not run: 1 of 3 jobs" in told
    assert "not run" in shown
    # What the interrupt stopped is written, but solved again.
    assert (out / "two-services.code.json").exists()
    assert main(arguments) == 0
    assert capfd.readouterr().err.count("found finished") == 1


@BOTH
def test_a_plan_keeps_the_analyses_that_are_done(
    number, word, status, tmp_path, capfd, monkeypatch
) -> None:
    front = code_opt.plan_front

    def interrupted(*args, **options):
        interrupt(number)
        return front(*args, **options)

    monkeypatch.setattr(code_opt, "plan_front", interrupted)
    out = tmp_path / "out"
    arguments = ["plan", TWO, "--least-cost", "--front", "--marginal", "--demand", "5"]
    assert main([*arguments, "--unit-flops", "1e9", "--out", str(out)]) == status
    kinds = {p.name.split(".")[1] for p in out.glob("*.json")}
    assert kinds == {"plan-least-cost", "plan-front"}
    assert f"{word}: shown is what was found until then; not run: 1" in capfd.readouterr().err


SCENARIOS = Scenarios(
    ("quiet", "busy"),
    (0.5, 0.5),
    tuple((DemandRow(None, demand=None, factor=factor),) for factor in (0.5, 1.5)),
)
ANALYSES = {
    "least cost": lambda edge, s: code_opt.plan_least_cost(edge, s, growth=(1, 2)),
    "growth": lambda edge, s: code_opt.plan_growth(edge, s),
    "scenarios": lambda edge, s: code_opt.plan_scenarios(edge, SCENARIOS, s),
    "failures": lambda edge, s: code_opt.plan_failures(edge, s, keep=0.5),
    "front": lambda edge, s: code_opt.plan_front(edge, s, points=4),
    "whole front": lambda edge, s: code_opt.plan_front(edge, s, points=None),
    "marginal": lambda edge, s: code_opt.plan_marginal(edge, s),
    "sweep": lambda edge, s: code_opt.plan_sweep(
        edge, s, vary=["servers[edge-a].flops=1e11:2e11:4"]
    ),
}


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("kind", ANALYSES)
def test_no_analysis_begins_a_program_after_a_stop(kind, after, monkeypatch) -> None:
    """The plan at hand is told with what there is, and its checker confirms it."""
    begun: list[bool] = []

    def watched(module, name: str) -> None:
        begin = getattr(module, name)

        def counted(*args, **options):
            begun.append(is_stop_requested())
            if len(begun) == after:
                request_stop()
            return begin(*args, **options)

        monkeypatch.setattr(module, name, counted)

    watched(programs, "build_plan_model")
    watched(failures, "build_rerouting_model")
    for module in (front, marginal, sweep):
        watched(module, "solve")
    settings = PlanSettings(unit_flops=1e10, demand=40.0)
    with stop_on_signal():
        if not after:
            request_stop()
        plan = ANALYSES[kind](code_opt.load_instance(TWO), settings)
    # A front begins with its two ends (three solves), marginal values with an assignment.
    assert begun.count(True) <= (3 if "front" in kind else 1 if kind == "marginal" else 0)
    assert len(begun) >= after or plan.status == "optimal"
    if not after:
        assert plan.status in ("feasible", "unknown")


def waits_for_a_stop() -> bool:
    """Run in a worker: return once the request has come through."""
    heard = threading.Event()
    with told_to_stop(heard.set):
        return heard.wait(60)


def test_worker_processes_hear_of_it() -> None:
    with stop_on_signal(), executor_of("processes:1") as pool:
        assert pool is not None
        future = pool.submit(waits_for_a_stop)
        interrupt()
        assert future.result()


def test_processes_answer_with_what_they_have_and_the_rest_is_not_run(tmp_path: Path) -> None:
    sources = find_instances([Path(TWO)])
    done = []

    def report(outcome, number, jobs) -> None:
        done.append(outcome)
        if len(done) == 1:
            interrupt()

    with stop_on_signal():
        outcomes = run_batch(
            sources,
            ["local", "code", "exact", "greedy", "random", "host", "edge-early"],
            {},
            executor="processes:1",
            out=tmp_path,
            report=report,
        )
    assert len(outcomes) == 7
    assert outcomes[0].result is not None
    assert [o for o in outcomes if o.fault == "not run"]
    assert {o.fault for o in outcomes} <= {None, "not run"}
