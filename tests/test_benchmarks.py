"""The benchmark: its contenders answer the same question, its figures are what ran."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import building, heuristics
from benchmarks import contenders as contending
from benchmarks.__main__ import (
    COLUMNS,
    FULL,
    OVERHEAD,
    QUICK,
    Step,
    main,
    most_seconds,
    run_all,
    within,
)
from benchmarks.changes import front, step
from benchmarks.contenders import GAP, GAPS, Trace, contenders
from benchmarks.day import BOUND, Policy, World, draw, simulate, summary
from benchmarks.peers import PEERS
from benchmarks.report import report, with_best
from benchmarks.running import instance_file, run_apart, steps_of
from benchmarks.worker import LABELLING
from code_opt import load_instance
from code_opt.generate import EdgeOptions, generate, generate_edge

ROOT = Path(__file__).resolve().parents[1]


# --- Contenders -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_reaches_the_same_reward_and_a_valid_bound(name):
    if importlib.util.find_spec(PEERS[name][1]) is None:
        pytest.skip(f"{PEERS[name][1]} is not installed (extra bench)")
    instance = generate(3, seed=5, memory=True)
    ours = contenders()["exact (path)"](instance, 60.0, Trace())
    trace = Trace()
    result = contenders()[name](instance, 60.0, trace)
    assert result.reward == pytest.approx(ours.reward, rel=2 * GAP)
    assert result.bound >= ours.reward * (1 - GAP)
    assert result.gap <= 2 * GAP


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_tells_its_bounds_on_the_way(name):
    """What it tells is valid for its own answer: no gap is noted before it is true."""
    peer, package = PEERS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (extra bench)")
    instance = generate(6, seed=3)
    best = math.log(contenders()["exact (path)"](instance, 60.0, Trace()).reward)
    told: list[tuple[float, float]] = []
    peer(instance, GAP, 20.0, lambda value, bound: told.append((value, bound)))
    told = [pair for pair in told if max(map(abs, pair)) < 1e15]
    assert told
    assert all(value <= best + GAP for value, _ in told)
    assert all(bound >= best - GAP for _, bound in told)


def test_every_formulation_of_this_version_is_compared():
    assert {"path", "flow"} <= set(contending.formulations())
    assert {f"exact ({name})" for name in contending.formulations()} <= set(contenders())


def test_a_trace_keeps_the_first_time_of_each_gap():
    trace = Trace()
    trace.see(None)
    trace.see(0.5)
    assert trace.reached == {}
    trace.see_logs(1.0, 1.0 + 5e-3)
    assert list(trace.reached) == [1e-2]
    first = trace.reached[1e-2]
    trace.see_logs(1.0, 0.9)  # a bound below the value: nothing is left
    assert list(trace.reached) == list(GAPS)
    assert trace.reached[1e-2] == first
    trace.see_logs(-1e20, math.inf)


# --- Runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["plain", "hierarchy"])
def test_the_file_holds_the_generated_instance(family):
    with instance_file(family, 3, 1000, blocks=4 if family == "plain" else (4, 4)) as path:
        expected = (
            generate(3, seed=1000, blocks=4)
            if family == "plain"
            else generate_edge(EdgeOptions(family, 3, seed=1000, blocks=(4, 4)))
        )
        assert load_instance(path) == expected
    assert not path.exists()


def test_a_run_counts_its_own_memory_and_not_its_parents():
    ballast = np.ones(400 * 2**17)  # 400 MiB, all touched
    with instance_file("plain", 3, 1000) as path:
        found = run_apart(LABELLING, path, 10.0)
    assert ballast.sum() == ballast.size
    assert found["status"] == "done"
    assert 0 < found["paths"] <= found["labels"]
    assert 30.0 < found["base"] <= found["peak"] < 350.0
    assert 0.0 < found["cpu"] < 10.0


def test_a_run_that_fails_or_needs_too_much_says_so(tmp_path):
    (tmp_path / "x.json").write_text("{")
    assert run_apart("greedy", tmp_path / "x.json", 5.0)["status"].startswith("failed: ")
    with instance_file("plain", 100, 1000) as path:
        assert run_apart(LABELLING, path, 20.0, memory=64)["status"] == "out of memory"


def test_a_plan_is_bounded():
    methods = ["exact (path)", "CP-SAT", "lns"]
    one = (Step(5, 3, 100.0),)
    assert most_seconds(one, ["plain"], methods) == 3 * (104 + 104 + 64)
    assert most_seconds(one, ["plain", "hierarchy"], methods) == 6 * (104 + 104 + 64)
    for hours in (0.2, 1.0, 100.0):
        cut = within(FULL, ["plain"], methods, hours)
        assert most_seconds(cut, ["plain"], methods) <= 3600 * hours
        assert all(new.limit <= old.limit for new, old in zip(cut, FULL, strict=True))
    assert within(FULL, ["plain"], methods, 100.0) == FULL
    with pytest.raises(SystemExit, match="too little"):
        within(FULL, ["plain"], methods, 0.01)
    assert most_seconds(QUICK, ["plain"], list(contenders())) < 1200


def test_published_instances_are_run_beside_generated_ones():
    (step,) = steps_of("timm", QUICK)
    assert (step.services, step.instances, step.limit) == (3, 1, QUICK[0].limit)
    assert steps_of("plain", QUICK) == QUICK
    assert most_seconds(QUICK, ["timm"], ["lns"]) == 5.0 + OVERHEAD
    with instance_file("sn-net", 3, 1000) as path:
        assert len(load_instance(path).tasks) == 3


@pytest.mark.parametrize("name", [n for n in contenders() if n in PEERS])
def test_a_total_that_may_be_nothing_misleads_no_peer(name):
    """No floor is asked for, so the throughput of the model begins at 0, which has no logarithm."""
    with instance_file("sn-netv2", 2, 1000) as path:
        instance = load_instance(path)
    assert all(task.floor == 0.0 for task in instance.tasks)
    ours = contenders()["exact (path)"](instance, 60.0, Trace())
    result = contenders()[name](instance, 60.0, Trace())
    assert result.reward == pytest.approx(ours.reward, rel=2 * GAP)
    assert result.bound >= ours.reward * (1 - GAP)


def test_a_method_that_proves_nothing_is_left_out_later(tmp_path, monkeypatch):
    def answer(name, path, limit):
        size = len(load_instance(path).tasks)
        proven = 1.0 if name == "exact (path)" or size < 3 else None
        return {"status": "feasible", "cpu": 1.0, "cpu to 0.01": proven}

    monkeypatch.setattr("benchmarks.__main__.run_apart", answer)
    steps = (Step(2, 1, 1.0), Step(3, 2, 1.0), Step(4, 1, 1.0))
    runs, notes = run_all(steps, ["plain"], ["exact (path)", "CP-SAT", "lns"], tmp_path)
    assert list(runs[runs.method == "CP-SAT"].services) == [2, 3, 3]
    assert list(runs[runs.method == "lns"].services) == [2, 3, 3, 4]
    assert notes == ["CP-SAT on more than 3 services (plain): it proved 0.01 on none of 3"]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "results.csv"), runs.reset_index(drop=True), check_dtype=False
    )


# --- Tables and plots -----------------------------------------------------------------


@pytest.fixture
def runs() -> pd.DataFrame:
    """Two instances, three methods; B proves the second one to 1e-2 only."""
    rows = []
    for seed, times in ((1000, {"A": 1.0, "B": 4.0}), (1001, {"A": 2.0, "B": None})):
        for name in ("A", "B", "lns"):
            time = times.get(name)
            row = {"family": "plain", "services": 5, "seed": seed, "method": name, "limit": 9.0}
            row |= {"reward": 99.0 if name == "lns" else 100.0, "cpu": 0.5, "wall": 0.5}
            row |= {"peak": 200.0 + seed - 1000, "base": 100.0, "status": "feasible"}
            if name != "lns":
                row |= {"bound": 100.0 if time else 100.5, "gap": 0.0 if time else 0.005}
                row |= {"cpu to 0.01": time or 3.0, "cpu to 0.001": time, "cpu to 0.0001": time}
            rows.append(row)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def test_the_tables_say_what_the_runs_say(runs):
    text = report(runs, ["- where"], ["SCIP (needs pyscipopt)"])
    parts = {part.splitlines()[0]: part for part in text.split("\n### ")}
    assert "| A | 1.5 (2/2) |" in parts["CPU seconds to a proven gap of 0.01"]
    assert "| B | 3.5 (2/2) |" in parts["CPU seconds to a proven gap of 0.01"]
    assert "| B | > (1/2) |" in parts["CPU seconds to a proven gap of 0.0001"]
    assert "| lns |" not in parts["CPU seconds to a proven gap of 0.0001"]
    assert "| A | 201 |" in parts["Peak memory of the process [MiB] (largest)"]
    (heuristics,) = [part for name, part in parts.items() if name.startswith("Heuristics")]
    assert "| lns | 0.5, 1.01 % |" in heuristics
    assert "| 5 | 2 | 1000 to 1001 | 9 |" in text
    assert "- SCIP (needs pyscipopt)" in text
    assert list(with_best(runs)["best bound"].unique()) == [100.0]


def test_performance_profiles(runs, tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.plots import performance_profiles, profile, ratios

    ratio = ratios(runs, 1e-4)
    assert list(ratio.columns) == ["A", "B"]
    assert ratio.to_numpy().tolist() == [[1.0, 4.0], [1.0, math.inf]]
    factors, shares = profile(ratio["B"])
    assert (factors.tolist(), shares.tolist()) == ([4.0], [0.5])
    svg, png = performance_profiles(runs, tmp_path / "profile")
    before = svg.read_bytes()
    assert b"<svg" in before
    assert png.read_bytes().startswith(b"\x89PNG")
    performance_profiles(runs, tmp_path / "profile")
    assert svg.read_bytes() == before  # the same runs, the same file


def test_the_command_writes_everything(tmp_path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "benchmarks", "--sizes", "2", "--seeds", "1"]
    methods = ["--methods", "exact (path),plain highspy,greedy"]
    done = subprocess.run(
        [*command, *methods, "--time-limit", "100", "--out", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "3 runs, at most 0.08 h" in done.stderr
    runs = pd.read_csv(tmp_path / "results.csv")
    assert list(runs.method) == ["exact (path)", "plain highspy", "greedy"]
    assert runs["cpu to 0.0001"].notna().tolist() == [True, True, False]
    text = (tmp_path / "results.md").read_text()
    assert "- commit " in text
    assert (tmp_path / "profile.svg").is_file()


@pytest.mark.parametrize("arguments", [["--methods", "magic"], ["--families", "star"]])
def test_an_unknown_name_is_told(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"unknown: {arguments[1]}; there are " in capsys.readouterr().err


def test_times_stand_beside_the_floor_under_them(runs):
    own = runs[runs.method.isin(["A", "B"])].copy()
    own["method"] = own.method.map({"A": "exact (path)", "B": "plain highspy"})
    text = report(own, ["- where"], [])
    (part,) = [part for part in text.split("\n### ") if "over those of plain highspy" in part]
    # 1 / 4 on the first; on the second 2 / 0.5, the floor stopped after 0.5 s.
    assert "| exact (path) | < 2.1 |" in part
    other = runs[runs.method.isin(["A", "B"])].copy()
    other["method"] = other.method.map({"B": "exact (path)", "A": "plain highspy"})
    (part,) = [p for p in report(other, [], []).split("\n### ") if "over those of" in p]
    assert "| exact (path) | > |" in part
    assert "over those of" not in report(runs, [], [])


@pytest.mark.parametrize("formulation", ["path", "colgen"])
def test_modelling_is_measured_as_a_part_of_the_solve(formulation):
    meter, whole = building.measure(5, 1000, formulation, 30.0, memory=True)
    assert set(meter.seconds) == {"building", "handing over"}
    assert 0.0 < sum(meter.seconds.values()) < whole
    assert meter.peak > 0.01


# --- The heuristics side by side ----------------------------------------------------------


def test_the_heuristics_are_compared_with_the_optimum():
    """On two-services exact reaches 41.99 and code, which moves one service at a time, 36.54."""
    instance = load_instance(ROOT / "data" / "two-services.json")
    row = heuristics.cells([instance, instance], 60.0)
    assert row[:2] == ["2/2", "6"]
    assert row[2] == "0.00 (0.00)"
    assert row[6] == "12.99 (12.99)"
    assert row[8:] == ["4", "0"]
    lines = heuristics.table("data/", [["two-services", *row]])
    assert {line.count("|") for line in lines} == {len(row) + 2}


def test_the_page_of_the_heuristics_holds_all_data_sets():
    page = (ROOT / "docs" / "heuristics.md").read_text(encoding="utf-8")
    assert heuristics.OPENING in page
    for name in heuristics.DATA:
        assert f"| {name} | 1/1 |" in page


def test_a_simulated_day_stays_below_its_bound(tmp_path):
    pytest.importorskip("matplotlib")
    world = World.drawn(4, seed=3, minutes=240, load=1.5, mean=1.2)
    policies = [Policy(0, "now"), Policy(2, "peak"), Policy(2, "now", 0.8), Policy(2, "now"), BOUND]
    runs = [(policy, simulate(world, policy)) for policy in policies]
    bound = runs[-1][1]
    assert (bound["largest load"] <= 1.0 + 1e-6).all()
    for _, run in runs:
        assert len(run) == 6
        assert (run["served"] <= run["demand"] * (1.0 + 1e-9)).all()
        assert run["reward"].sum() <= bound["reward"].sum() * (1.0 + 2e-3)
    assert runs[0][1]["changes"].sum() == 0
    assert runs[2][1]["largest load"].mean() < runs[3][1]["largest load"].mean()
    assert (runs[3][1]["largest load"] > 1.0).any()  # demand rose after it was solved for
    rows = summary(runs)
    assert rows[-1]["reward of the bound [%]"] == "100.00"
    assert [row["K"] for row in rows] == ["0", "2", "2", "2", "all"]
    assert [path.suffix for path in draw(runs, tmp_path / "day")] == [".svg", ".png"]


def test_fronts_and_steps_of_few_changes_are_measured():
    row = front(4, seed=1)
    count = row["most changes"] + 1
    assert row["proven"] == f"{count}/{count}"
    assert row["first change [%]"] <= row["all changes [%]"] + 1e-6
    assert step(6, 1, changes=2, gap=1e-3, limit=100.0)["status"] == "optimal"
