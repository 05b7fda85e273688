"""The worked example of docs/shared-inputs.md, recomputed from its instance."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from code_opt import check, load_instance, solve, without_sharing
from code_opt.paths import build_pool
from code_opt.solving import METHODS
from tests.reference import solve_reference
from tests.test_data import tables, work_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "shared-inputs.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def camera():
    return load_instance(ROOT / "data" / "shared-input.json")


@pytest.fixture(scope="module")
def example():
    return tables(PAGE)


def together(camera, blocks: dict[str, list[str]]) -> float:
    """Return the work [GFLOP] of both tasks, blocks walked alike from the input on once."""
    shared = 0.0
    flops = {b.id: b.flops / 1e9 for d in camera.dnns for b in d.blocks}
    for one, other in zip(*blocks.values(), strict=False):
        if one != other:
            break
        shared += flops[one]
    return sum(work_of(camera, t, b)[1]["edge"] for t, b in blocks.items()) - shared


def test_the_page_states_the_instance(camera, example):
    for row, dnn, task in zip(example[0], camera.dnns, camera.tasks, strict=True):
        blocks = ", ".join(f"{block.id} {block.flops / 1e9:.1f}" for block in dnn.blocks)
        assert list(row.values()) == [dnn.id, blocks, task.id, f"{task.accuracy:.2f}"]
    assert [list(row.values()) for row in example[1]] == [
        [t.id, f"{c.source} → {c.target}", f"{c.drop:.2f}", f"{c.flops / 1e9:.2f}", c.share or ""]
        for t in camera.tasks
        for c in t.connections
    ]
    assert {t.input_group for t in camera.tasks} == {"camera"}
    assert {t.floor for t in camera.tasks} == {"standalone"}


def test_the_page_lists_the_paths_and_who_dominates_whom(camera, example):
    rows = {row["path"]: row for row in example[2]}
    figures = {
        name: work_of(camera, row["task"], row["blocks"].split()) for name, row in rows.items()
    }
    flops = {b.id: b.flops / 1e9 for d in camera.dnns for b in d.blocks}
    for name, row in rows.items():
        accuracy, work = figures[name]
        assert row["accuracy"] == f"{accuracy:.2f}"
        assert row["work [GFLOP]"] == f"{work['edge']:.2f}"
        shareable = sum(flops[b] for b in row["blocks"].split() if b.startswith("large"))
        behind = work["edge"] - shareable
        assert row["behind the shareable prefix [GFLOP]"] == f"{behind:.2f}"
        better = [
            other
            for other in rows
            if other != name
            and rows[other]["task"] == row["task"]
            and figures[other][0] >= accuracy
            and figures[other][1]["edge"] <= work["edge"]
        ]
        assert row["dominated by"] == " ".join(better)
    # None of them can be left out.
    pool = build_pool(camera)
    assert [len(task) for task in pool.tasks] == [2, 4]


def test_the_page_works_out_every_combination(camera, example):
    paths = {row["path"]: row for row in example[2]}
    rewards, apart = {}, {}
    for row in example[3]:
        blocks = {t: paths[row[t]]["blocks"].split() for t in ("faces", "counts")}
        figures = {t: work_of(camera, t, b) for t, b in blocks.items()}
        average = sum(accuracy for accuracy, _ in figures.values()) / 2
        alone = sum(work["edge"] for _, work in figures.values())
        both = together(camera, blocks)
        pair = row["faces"], row["counts"]
        rewards[pair], apart[pair] = (average**4 * 240 / work for work in (both, alone))
        assert list(row.values())[2:] == [
            f"{alone:.2f}",
            f"{both:.2f}",
            f"{120 / both:.3f}",
            f"{240 / both:.3f}",
            f"{average:.3f}",
            f"{rewards[pair]:.4f}",
            f"{apart[pair]:.4f}",
        ]
    assert max(rewards, key=rewards.__getitem__) == ("f1", "c3")
    assert max(apart, key=apart.__getitem__) == ("f1", "c2")
    quoted = set(re.findall(r"\d+\.\d{4}", PAGE.partition("## What it shows")[2]))
    assert quoted <= {f"{value:.4f}" for value in [*rewards.values(), *apart.values()]}

    for formulation in ("path", "flow", "colgen"):
        best = solve(camera, formulation=formulation, gap=1e-6)
        assert best.status == "optimal"
        assert best.reward == pytest.approx(rewards["f1", "c3"], rel=1e-6)
        assert [row.path for row in best.tasks] == [("large/0", "large/1"), ("large/0",)]
        assert [row.rate for row in best.tasks] == pytest.approx([120 / 8.5] * 2)
    assert solve(camera, "local").reward == pytest.approx(rewards["f1", "c1"])
    best = solve(without_sharing(camera), gap=1e-6)
    assert best.reward == pytest.approx(apart["f1", "c2"], rel=1e-6)


def test_without_coordination_the_slower_dnn_sets_the_rate(camera):
    assert {task.floor for task in build_pool(camera).tasks} == {7.5}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_solves_a_group(camera, method):
    result = solve(camera, method)
    assert result.has_solution
    assert check(result, camera) == []
    assert len({row.rate for row in result.tasks}) == 1


def test_without_sharing_changes_nothing_but_the_sharing(camera):
    apart = without_sharing(camera)
    assert [t.id for t in apart.tasks] == ["faces", "counts"]
    assert without_sharing(apart) == apart
    assert apart.replace() == apart  # it is a valid instance
    assert [len(task) for task in build_pool(apart).tasks] == [2, 2]  # c3 and c4 are dominated
    reference = solve_reference(apart)
    assert reference is not None
    assert len(set(reference.rates.values())) == 1
    single = camera.replace(tasks=[t | {"input_group": None} for t in camera.to_dict()["tasks"]])
    assert without_sharing(single) == single
