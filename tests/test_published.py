"""Published figures as instances: what their authors measured, and nothing that they did not."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from types import ModuleType

import pandas as pd
import pytest

from code_opt import check, load_instance, solve
from code_opt.paths import PathProblem, PoolOptions, count_paths
from tests.documents import ROOT

DATA = ROOT / "data" / "published"
SETS = {"sn-net": 71, "sn-netv2": 24, "timm": 109, "ai-hub": 135}
SAMPLES = {"ai-hub": 1000}
"""Images behind an accuracy; of the other sets it is ImageNet's validation set."""
MAKERS = ("make_sn_net", "make_timm", "make_ai_hub")


def figures(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((DATA / name / "figures.csv").open(encoding="utf-8")))


@pytest.fixture
def sn_net(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DATA))
    spec = importlib.util.spec_from_file_location("make_sn_net", DATA / "make_sn_net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "make_sn_net", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("maker", MAKERS)
def test_the_instances_are_what_their_makers_make(maker: str) -> None:
    done = subprocess.run(
        [sys.executable, DATA / f"{maker}.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", SETS)
def test_origin_and_licence_are_named(name: str) -> None:
    assert len(figures(name)) == SETS[name]
    description = load_instance(DATA / name).description
    assert "github.com/" in description
    assert "Made up: " in description
    licence = (DATA / name / "LICENSE").read_text(encoding="utf-8")
    word = "BSD-3-Clause" if "Qualcomm" in licence[:200] else "Apache-2.0"
    assert word in description
    assert f"{word} |" in (DATA / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SETS)
def test_every_path_has_a_published_accuracy(name: str) -> None:
    instance = load_instance(DATA / name)
    known = PathProblem(instance, PoolOptions(measured_only=True)).path_counts
    assert count_paths(instance) == known  # none has a predicted accuracy
    published = {round(float(_accuracy(row)) / 100.0, 7) for row in figures(name)}
    for task, paths in zip(instance.tasks, known, strict=True):
        others = [*task.measured_paths, *task.alternatives]
        assert {task.accuracy, *(path.accuracy for path in others)} <= published
        assert paths == len(task.measured_paths) or paths == 1 + len(task.alternatives)
        assert {path.samples for path in (task, *others)} == {SAMPLES.get(name, 50_000)}
        assert task.input_bytes == 30_000


def _accuracy(row: dict[str, str]) -> str:
    return row.get("top1_percent") or row["accuracy_percent"]


@pytest.mark.parametrize("name", ["sn-net", "sn-netv2"])
def test_a_path_takes_the_published_multiply_adds(name: str) -> None:
    instance = load_instance(DATA / name)
    work = {b.id: b.flops for dnn in instance.dnns for b in dnn.blocks}
    published = {
        (round(float(row["top1_percent"]) / 100.0, 7), 2.0 * int(row["multiply_adds"]))
        for row in figures(name)
    }
    found = set()
    for task in instance.tasks:
        adapter = {(c.source, c.target): c.flops for c in task.connections}
        for path in task.measured_paths:
            steps = zip(path.blocks, path.blocks[1:], strict=False)
            flops = sum(work[b] for b in path.blocks) + sum(adapter.get(s, 0.0) for s in steps)
            found.add((path.accuracy, round(flops, 3)))
    assert found == published


def test_multiply_adds_tell_which_network_a_row_is(sn_net: ModuleType) -> None:
    small, large = sn_net.Network("a", 192, 12), sn_net.Network("b", 384, 12)
    stitched = small.embedding + 5 * small.block + 197 * 192 * 384 + 3 * large.block + large.head
    assert sn_net.decode(small.whole, (small, large)) == [(small, 12, None, 0)]
    assert sn_net.decode(stitched, (small, large)) == [(small, 5, large, 9)]
    assert sn_net.decode(stitched + large.norm, (small, large)) == [(small, 5, large, 9)]
    assert sn_net.decode(stitched + 1, (small, large)) == []
    with pytest.raises(ValueError, match="2 networks have as many"):
        sn_net.decode(small.whole, (small, sn_net.Network("c", 192, 12)))


def test_the_anchors_are_those_of_the_papers() -> None:
    """DeiT-S does 4.6 GMACs at 79.8 % by itself, 79.5 % after SN-Net's tuning."""
    (small,) = (row for row in figures("sn-net") if row["first"] == "deit-s" and not row["second"])
    assert int(small["multiply_adds"]) == 4608338304
    assert float(small["top1_percent"]) == pytest.approx(79.464, abs=1e-3)


@pytest.mark.parametrize("name", SETS)
def test_the_page_holds_what_a_solve_finds(name: str) -> None:
    instance = load_instance(DATA / name)
    stored = pd.read_csv(ROOT / "benchmarks" / "results" / "published.csv")
    mine = stored[(stored["set"] == name) & (stored["goal"] == "highest reward")]
    reward = mine.set_index("way")["reward"]
    result = solve(instance, gap=1e-6)
    assert result.status == "optimal"
    assert check(result, instance) == []
    assert result.reward == pytest.approx(reward["exact"], rel=1e-5)
    assert solve(instance, "local").reward == pytest.approx(reward["local"], rel=1e-6)
    assert reward.drop("exact").max() <= reward["exact"] * (1 + 1e-6)
    assert reward["local"] < reward["exact"]


@pytest.mark.parametrize("name", ["timm", "ai-hub"])
def test_an_operator_alone_stays_on_the_own_device(name: str) -> None:
    instance = load_instance(DATA / name)
    own = {task.id: task.dnn.rpartition("@")[2] for task in instance.tasks}
    alone, best = solve(instance, "local", gap=1e-6), solve(instance, gap=1e-6)
    devices = {row.task: row.path[0].rpartition("@")[2] for row in alone.tasks}
    assert devices == own
    assert any(row.path[0].rpartition("@")[2] != own[row.task] for row in best.tasks)


@pytest.mark.parametrize(("name", "column"), [("timm", ""), ("ai-hub", "milliseconds")])
def test_the_time_of_a_network_is_the_published_one(name: str, column: str) -> None:
    instance = load_instance(DATA / name)
    assert {server.flops for server in instance.servers} == {None}
    seconds = [dnn.blocks[0].seconds for dnn in instance.dnns]
    published = [
        1e-3 * float(row[column]) if column else 1.0 / float(row["samples_per_second"])
        for row in figures(name)
    ]
    assert [time["1"] for time in seconds if time] == pytest.approx(published, rel=1e-9)
