"""The committed profiles hold what their pages say, and their bundles run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import claims, profiles
from code_opt import check, load_instance, method_names, solve

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
NAMES = ["alexnet-mobilenet", "digits", "one-camera", "three-services"]
MEGA = 10**6
LARGEST = {name: 3 * MEGA if name == "digits" else 20 * MEGA for name in NAMES}
MOST_REGRET = {name: 2.0 if name == "one-camera" else 1.0 for name in NAMES}
"""Percent. What tasks of one camera share makes paths worth more than each is alone."""


def table(name: str, kind: str) -> pd.DataFrame:
    return pd.read_csv(DATA / name / "tables" / f"{kind}.csv")


def test_all_profiles_are_known():
    assert [p.name for p in profiles.profiled()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_folders_hold_what_profiling_writes_and_no_images(name):
    found = {p.relative_to(DATA / name).as_posix() for p in (DATA / name).rglob("*")}
    found = {f for f in found if not f.startswith("work")}
    assert {"instance.json", "config.yaml", "about.json", "bundle/manifest.json"} <= found
    assert {Path(f).suffix for f in found} <= {"", ".json", ".yaml", ".csv", ".safetensors"}
    size = sum(p.stat().st_size for p in (DATA / name / "bundle").iterdir())
    assert size <= LARGEST[name]


@pytest.mark.parametrize("name", NAMES)
def test_instances_are_what_was_measured(name):
    instance = load_instance(DATA / name / "instance.json")
    assert instance.name == name
    assert instance.bundle == "bundle"
    services = table(name, "services").set_index("task")
    blocks = table(name, "blocks").drop_duplicates("block").set_index("block")
    paths = table(name, "paths")
    for dnn in instance.dnns:
        for block in dnn.blocks:
            assert block.flops == blocks["flops"][block.id]
            assert block.params == blocks["params"][block.id]
            assert block.output_bytes == blocks["output_bytes"][block.id]
    for task in instance.tasks:
        assert task.accuracy == pytest.approx(services["validation_accuracy"][task.id], abs=1e-6)
        rows = paths[paths["task"] == task.id]
        assert {
            " > ".join(p.blocks): pytest.approx(p.accuracy, abs=1e-6) for p in task.measured_paths
        } == dict(zip(rows["path"], rows["accuracy"], strict=True))
        # Ground truth: every path but the native one was trained.
        assert len(rows) == services["paths"][task.id] - 1


def test_there_are_at_least_forty_paths_of_ground_truth():
    assert len(table("alexnet-mobilenet", "paths")) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_searches_need_few_trainings_and_lose_little(name):
    found = table(name, "search").set_index("method")
    assert found["complete"][["exhaustive", "exact", "lns"]].all()
    for method in ("exact", "lns"):
        assert found["trainings_percent"][method] <= 15.0
        assert found["regret_percent"][method] <= MOST_REGRET[name]
    assert found["regret_percent"]["random"].median() >= found["regret_percent"]["exact"]


def test_the_page_of_profiles_is_in_step():
    page = (ROOT / "benchmarks" / "results" / "profiles.md").read_text(encoding="utf-8")
    assert page == profiles.report()


def test_claims_are_in_step_with_the_data():
    rows = claims.rows()
    stored = pd.read_csv(ROOT / "benchmarks" / "results" / "claims.csv")
    pd.testing.assert_frame_equal(rows, stored, rtol=1e-4)
    assert set(rows[rows["method"] == "exact"]["status"]) == {"optimal"}
    shown = claims.markdown(rows)
    for page in ("docs/results.md", "benchmarks/results/claims.md"):
        assert shown in (ROOT / page).read_text(encoding="utf-8"), page


def test_the_claims_of_the_first_version_are_in_step_with_the_data():
    rows = claims.latency_rows()
    stored = pd.read_csv(ROOT / "benchmarks" / "results" / "claims-latency.csv")
    stored["loss"] = stored["loss"].astype(float)
    pd.testing.assert_frame_equal(rows, stored, rtol=1e-4, atol=1e-4)
    exact = rows[rows["method"] == "exact"].set_index("loss")
    assert set(exact["status"]) == {"optimal"}
    assert exact["time_percent"][claims.FIRST_TIME_LOSS] <= -claims.FIRST_TIME
    assert (exact["own_work_percent"] >= exact["least_own_work_percent"] - 1e-6).all()
    shown = claims.latency_markdown(rows)
    for page in ("docs/results.md", "benchmarks/results/claims.md"):
        assert shown in (ROOT / page).read_text(encoding="utf-8"), page


def test_the_papers_gain_is_reached_at_its_loss():
    rows = claims.rows()
    heavy = rows[(rows["load"] == "heavy") & (rows["goal"] == "2.3 %")].set_index("method")
    assert heavy["throughput_percent"]["exact"] >= 40.0
    assert heavy["accuracy_percent"]["exact"] >= -2.3
    assert (heavy["throughput_percent"] <= heavy["throughput_percent"]["exact"] + 1e-6).all()


@pytest.mark.parametrize("page", ["README.md", "docs/first-result.md"])
def test_the_page_shows_what_the_demo_prints(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    instance = load_instance(DATA / "digits" / "instance.json")
    for method in ("exact", "lns", "code", "local", "edge-early"):
        result = solve(instance, method=method)
        assert check(result, instance) == []
        assert result.reward is not None
        (line,) = re.findall(rf"^{method} +(?:optimal|feasible) .*$", text, flags=re.MULTILINE)
        assert f"{result.reward:.3f}" in line


def test_the_list_of_profiled_data_is_in_step():
    text = (DATA / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        services = table(name, "services")
        (line,) = [row for row in text.splitlines() if row.startswith(f"| `{name}/`")]
        for row in services.itertuples():
            assert f"{row.task} {100 * row.validation_accuracy:.1f} %" in line
        assert f"| {services['paths'].sum()} |" in line


def test_the_digits_bundle_gives_the_measured_accuracies_again():
    torch = pytest.importorskip("torch")
    from code_opt.networks.bundle import Bundle
    from code_opt.networks.images import ImageSource, load_images
    from code_opt.networks.stitching import PathProgram, run
    from code_opt.profiling.connections import block_of

    bundle = Bundle(DATA / "digits" / "bundle")
    for task in bundle.tasks.values():
        dnn = next(d for d in bundle.manifest.dnns if d.id == task.dnn)
        images = load_images(ImageSource("digits"), "train", dnn.input)
        _, validation = images.split(task.dataset.validation, task.dataset.seed)
        validation = validation.relabelled(task.groups)
        inputs = bundle.normalization(task.id)(torch.from_numpy(validation.pixels))
        labels = torch.from_numpy(validation.labels)
        for entry in task.paths[::4]:
            found = bundle.adapters(task.id, entry.blocks)
            blocks = [block_of(b) for b in entry.blocks]
            program = PathProgram(bundle.trunks, task.dnn, blocks, [step for step, _ in found])
            adapters = iter([adapter for _, adapter in found])
            modules = [
                bundle.trunks[part[0]].blocks[part[1]]
                if isinstance(part, tuple)
                else next(adapters)
                for part in program.parts
            ]
            outputs = run(torch.nn.Sequential(*modules), inputs)
            accuracy = float((outputs.argmax(dim=1) == labels).double().mean())
            # Another processor may round otherwise: one image or two of 360.
            assert accuracy == pytest.approx(entry.accuracy, abs=2.5 / len(labels)), entry.blocks


def test_nothing_in_a_bundle_names_this_machine():
    for name in NAMES:
        text = (DATA / name / "bundle" / "manifest.json").read_text(encoding="utf-8")
        assert "/work" not in text
        assert json.loads(text)["schema"] == "code-opt/bundle/1"


@pytest.mark.parametrize("page", ["README.md", "docs/first-result.md"])
def test_the_first_result_is_what_the_demo_finds(page: str) -> None:
    """All but the seconds, which differ from run to run."""
    instance = load_instance(ROOT / "data" / "digits" / "instance.json")
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = {
        row[0]: (row[1], float(row[2]), float(row[3]))
        for row in re.findall(
            r"^([a-z-]+) +(optimal|feasible) +([\d.]+) +[–\d]+ +([\d.]+) ", text, re.MULTILINE
        )
    }
    assert list(shown) == list(method_names())
    for method, (status, reward, throughput) in shown.items():
        result = solve(instance, method)
        assert result.status == status
        assert result.reward == pytest.approx(reward, abs=6e-4)
        assert result.throughput == pytest.approx(throughput, abs=6e-4)
