"""The whole way from a config to an instance, a bundle and tables."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from code_opt import check, evaluate_paths, load_instance, solve
from code_opt.answers import load_answers
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.executors import executor_of
from code_opt.heuristics.staged_search import Starts
from code_opt.instance import InstanceError
from code_opt.networks.bundle import Bundle
from code_opt.networks.images import ImageSource, load_images
from code_opt.networks.stitching import Activations, PathProgram, TaskImages, run
from code_opt.networks.training import fingerprint
from code_opt.paths import PathProblem, count_paths
from code_opt.profiling import measuring as measuring_module
from code_opt.profiling.config import parse_config
from code_opt.profiling.connections import block_of
from code_opt.profiling.measuring import Job, Measuring
from code_opt.profiling.pipeline import profile
from code_opt.profiling.preparation import Place, Preparation
from code_opt.profiling.searching import Search
from tests.profiling.conftest import place_in, small_config


def resumed(done, tmp_path: Path) -> Place:
    """Return a place with a copy of what the exhaustive profile measured."""
    shutil.copytree(done[1] / "work", tmp_path / "work")
    return place_in(tmp_path)


def forget_paths(place: Place, count: int) -> list[dict]:
    """Drop the last measurements of paths; return them."""
    file = place.work / "measurements.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    gone = [line for line in lines if json.loads(line)["kind"] == "path"][-count:]
    file.write_text("".join(line for line in lines if line not in gone))
    return [json.loads(line) for line in gone]


@pytest.fixture(scope="module")
def measuring(done, config) -> Measuring:
    """The exhaustive profile, read again: nothing of it is measured anew."""
    found = Measuring(Preparation(config, place_in(done[1])))
    found.profile_connections()
    return found


def test_everything_is_written(done) -> None:
    found, folder = done
    instance = load_instance(folder / "instance.json")
    assert instance == found.instance
    assert instance.bundle == "bundle"
    assert {p.name for p in (folder / "tables").iterdir()} == {
        f"{name}.csv" for name in found.tables
    }
    for name, table in found.tables.items():
        assert len(pd.read_csv(folder / "tables" / f"{name}.csv")) == len(table)
    about = json.loads((folder / "about.json").read_text())
    assert about["torch"] == torch.__version__
    assert about["seed"] == 0


def test_the_instance_says_what_was_measured(done) -> None:
    instance = done[0].instance
    paths = done[0].tables["paths"]
    for task, count in zip(instance.tasks, count_paths(instance), strict=True):
        rows = paths[paths.task == task.id]
        # Every path but the native one was trained.
        assert len(task.measured_paths) == len(rows) == count - 1
        by_path = dict(zip(rows.path, rows.accuracy, strict=True))
        for measured in task.measured_paths:
            assert measured.accuracy == by_path[" > ".join(measured.blocks)]
        assert {one.samples for one in (task, *task.measured_paths)} == {360.0}
    # Refused unless every accuracy is the share of its right answers.
    answers = load_answers(instance, done[1] / "instance.json")
    assert len({one.draw for one in answers.values()}) == 1
    result = solve(instance)
    assert result.status == "optimal"
    assert check(result, instance) == []


def test_work_and_sizes_are_those_of_the_networks(done) -> None:
    instance = done[0].instance
    services = done[0].tables["services"].set_index("dnn")
    for dnn in instance.dnns:
        assert sum(block.flops for block in dnn.blocks) == services.flops[dnn.id]
        assert sum(block.params for block in dnn.blocks) == services.params[dnn.id]
        assert dnn.blocks[-1].output_bytes == 4 * services.classes[dnn.id]


def test_the_bundle_gives_the_measured_accuracies_again(done, config) -> None:
    """Written in half precision and read again, every path answers as it was measured."""
    found, folder = done
    bundle = Bundle(folder / "bundle")
    paths = found.tables["paths"]
    for service in config.services:
        entry = bundle.tasks[service.id]
        train = load_images(ImageSource("digits"), "train", service.input)
        _, validation = train.split(entry.dataset.validation, entry.dataset.seed)
        validation = validation.relabelled(entry.groups)
        images = TaskImages(validation, validation, validation, bundle.normalization(service.id))
        acts = Activations(bundle.trunks, images)
        for row in paths[paths.task == service.id].itertuples():
            blocks = row.path.split(" > ")
            stitched = bundle.adapters(service.id, blocks)
            program = PathProgram(
                bundle.trunks, entry.dnn, [block_of(b) for b in blocks], [s for s, _ in stitched]
            )
            left = iter([adapter for _, adapter in stitched])
            value = acts.into(entry.dnn if program.start[2] == 0 else program.start[0], 0, "fit")
            for part in program.parts:
                module = (
                    bundle.trunks[part[0]].blocks[part[1]]
                    if isinstance(part, tuple)
                    else next(left)
                )
                value = run(module, value)
            right = value.argmax(dim=1) == acts.labels("fit")
            assert float(right.double().mean()) == pytest.approx(row.accuracy, abs=1e-9)


def test_profiling_changes_no_bit_of_the_services(measuring) -> None:
    preparation = measuring.preparation
    before = {t: fingerprint(s.trunk.blocks) for t, s in preparation.services.items()}
    assert before == {t: s.fingerprint for t, s in preparation.services.items()}
    for task, known in measuring.tasks.items():
        path = max(known.measured, key=lambda p: len(known.graph.used(p)))
        measuring_module.measure_path(measuring, Job(task, path))  # trains once more
    assert before == {t: fingerprint(s.trunk.blocks) for t, s in preparation.services.items()}
    for service in preparation.services.values():
        for block in service.trunk.blocks:
            assert not block.training
            assert not any(p.requires_grad for p in block.parameters())


def test_measuring_again_gives_the_same_numbers(measuring) -> None:
    for task, known in measuring.tasks.items():
        for path in sorted(known.measured)[::5]:
            record = measuring_module.measure_path(measuring, Job(task, path))
            assert record["accuracy"] == known.measured[path].accuracy
            assert record["tuned"] == known.measured[path].tuned


def test_the_frozen_beginning_is_run_once(done, config) -> None:
    measuring = Measuring(Preparation(config, place_in(done[1])))
    measuring.profile_connections()
    task = config.services[0].id
    stitcher = measuring.preparation.stitcher(task)
    paths = sorted(measuring.tasks[task].measured)
    for path in paths:
        measuring_module.measure_path(measuring, Job(task, path))
    after_one_round = stitcher.activations.block_runs
    for path in paths:
        measuring_module.measure_path(measuring, Job(task, path))
    assert stitcher.activations.block_runs == after_one_round
    images = sum(
        len(stitcher.activations.images.part(p)) for p in ("fit", "held_out", "validation")
    )
    blocks = sum(len(trunk) for trunk in stitcher.trunks.values())
    assert after_one_round <= images * blocks


def test_validation_images_are_no_training_images(measuring, config) -> None:
    preparation = measuring.preparation
    for service in config.services:
        images = preparation.task_images(service.id)
        parts = [images.fit, images.held_out, images.validation]
        rows = [{p.tobytes() for p in part.pixels} for part in parts]
        train, _ = preparation.images(service)
        assert not rows[2] & {p.tobytes() for p in train.pixels}
        assert not rows[0] & rows[1]


# Searching


@pytest.mark.parametrize("method", ["exact", "lns"])
def test_a_live_search_ends_where_nothing_promises_more(done, measuring, method: str) -> None:
    search = Search(measuring)
    found = search.run(method, None)
    total = done[0].search
    assert total.method == "exhaustive"
    assert 0 < found.trainings < total.trainings
    assert found.complete
    assert found.reward <= total.reward * (1 + 1e-6)
    result = solve(search.instance(), method=method, gap=1e-6)
    # All of the best assignment is measured or native, and so is its reward.
    assert found.reward == pytest.approx(result.reward, rel=1e-5)
    if method == "exact":
        assert found.bound == pytest.approx(found.reward, rel=1e-5)
        assert found.bound >= found.reward * (1 - 1e-9)


def test_the_procedure_of_the_paper_trains_what_it_takes(done, measuring) -> None:
    search = Search(measuring)
    outcome = search._staged(None)
    assert outcome.is_complete
    assert 0 < search.trainings == outcome.measured.total() < done[0].search.trainings
    instance = search.instance()
    paths = {}
    for task, arcs, detours in zip(
        instance.tasks, outcome.paths, Starts(PathProblem(instance)).detours, strict=True
    ):
        paths[task.id] = tuple(detours.graph.arcs[a].head for a in arcs[:-1])
        is_native = not measuring.tasks[task.id].graph.used(paths[task.id])
        assert is_native or paths[task.id] in search.asked[task.id]
    # It takes the best of what it has trained in its turns; the best over all of it is no worse.
    found = Search(measuring).run("code", None)
    assert found.reward >= evaluate_paths(instance, paths).reward * (1 - 1e-6)
    assert found.reward <= done[0].search.reward * (1 + 1e-6)
    assert (found.trainings, found.complete) == (search.trainings, True)


def test_a_search_sees_only_what_it_asked_for(measuring, config) -> None:
    search = Search(measuring)
    assert all(len(t.measured_paths) == 0 for t in search.instance().tasks)
    task = config.services[0].id
    path = sorted(measuring.tasks[task].measured)[0]
    search.ask([Job(task, path)])
    assert [tuple(m.blocks) for m in search.instance().tasks[0].measured_paths] == [path]


def test_the_budget_is_kept(measuring) -> None:
    for method in ("exact", "lns", "code", "random", "exhaustive"):
        found = Search(measuring).run(method, 1)
        assert found.trainings == 1
        assert not found.complete


def test_random_searches_differ_by_seed_only(measuring) -> None:
    asked = []
    for seed in (0, 0, 1):
        search = Search(measuring, seed=seed)
        search.run("random", 5)
        asked.append(search.asked)
    assert asked[0] == asked[1] != asked[2]


def test_the_search_table_compares_with_all_paths(done) -> None:
    table = done[0].tables["search"]
    assert list(table.method[:4]) == ["exhaustive", "exact", "lns", "code"]
    assert table.regret_percent[0] == 0.0
    assert (table.regret_percent >= -1e-4).all()
    assert (table.trainings_percent[1:] < 100.0).all()


# Long work


def test_a_killed_run_goes_on_where_it_was(done, tmp_path: Path) -> None:
    """SIGKILL in the middle of measuring: nothing is lost, nothing is measured twice."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(small_config(search={"method": "exhaustive"})))
    out = tmp_path / "out"
    forget_paths(resumed(done, out), 6)  # with networks and connections, and most of the paths
    lines = out / "work" / "measurements.jsonl"
    known = sum(json.loads(line)["kind"] == "path" for line in lines.read_text().splitlines())
    mortal = """
import os, signal, sys
from code_opt.cli.app import run
from code_opt.store import Store
add, paths = Store.add, []
def added(self, key, record):
    found = add(self, key, record)
    if record["kind"] == "path":
        paths.append(key)
        if len(paths) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return found
Store.add = added
run()
"""
    arguments = ["profile", str(config), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def measured() -> list[dict]:
        whole = [line for line in lines.read_text().splitlines(keepends=True) if line[-1] == "\n"]
        return [json.loads(line) for line in whole]

    killed = subprocess.run(
        [sys.executable, "-c", mortal, *arguments],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "instance.json").exists()
    with lines.open("a") as stream:
        stream.write('{"key": "cut off in the mid')
    before = measured()
    assert sum(record["kind"] == "path" for record in before) == known + 3
    assert main(arguments) == 0
    after = measured()
    assert after[: len(before)] == before
    keys = [record["key"] for record in after]
    assert len(set(keys)) == len(keys)
    # The same numbers as a run that was never disturbed.
    assert load_instance(out / "instance.json") == done[0].instance


def assert_measures_the_same(done, config, folder: Path, executor: str) -> None:
    """Measure four paths of the exhaustive profile again, elsewhere."""
    place = resumed(done, folder)
    forgotten = forget_paths(place, 4)
    with executor_of(executor) as pool:
        found = profile(config, place, executor=pool)
    assert found.instance == done[0].instance
    lines = (place.work / "measurements.jsonl").read_text().splitlines()
    again = [json.loads(line) for line in lines[-4:]]
    assert {r["key"] for r in again} == {r["key"] for r in forgotten}


def test_a_process_measures_the_same(done, config, tmp_path: Path) -> None:
    assert_measures_the_same(done, config, tmp_path, "processes:1")


@pytest.mark.long
def test_a_dask_worker_measures_the_same(done, config, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        assert_measures_the_same(done, config, tmp_path, f"dask:{cluster.scheduler_address}")


@pytest.mark.parametrize("name", ["threads", "processes:0", "processes:x", "serial:2"])
def test_unknown_executors_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="--executor"), executor_of(name):
        pass


# Bad configs end before any training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["services"][0].update(architecture="alexnot"), "no classification network"),
        (lambda d: d["services"][1]["options"].update(widht_mult=0.5), "widht_mult"),
        (lambda d: d["services"][0]["changes"].update({"features.99": {"stride": 1}}), "no layer"),
        (
            lambda d: d["services"][0]["changes"]["classifier.1"].update(in_features=191),
            "does not run on inputs",
        ),
        (lambda d: d["services"][0].update(blocks=99), "cannot be cut into 99 blocks"),
        (lambda d: d["services"][0].update(blocks=None, cuts=["nowhere"]), "no place 'nowhere'"),
        (lambda d: d["services"][1]["groups"].update(odd=["eleven"]), "no class 'eleven'"),
        (lambda d: d["adapters"].update(images=5000), "training split has"),
        (
            lambda d: d["datasets"][0].update(source="parquet", path="nowhere"),
            "no such folder",
        ),
        (
            lambda d: d["services"][0].update(weights="gone.safetensors", training=None),
            "no such file ending in",
        ),
        (lambda d: d["services"][1].update(server="edge-c"), "no such server"),
    ],
)
def test_what_cannot_be_profiled_is_told_before_training(
    change, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "code_opt.profiling.preparation.train_network", lambda *_, **__: pytest.fail("trained")
    )
    data = small_config()
    change(data)
    with pytest.raises((InputError, InstanceError), match=message):
        Preparation(parse_config(data), place_in(tmp_path))


def test_too_many_paths_for_an_exhaustive_search(done, config) -> None:
    data = small_config(search={"method": "exhaustive", "most_paths": 5})
    measuring = Measuring(Preparation(parse_config(data), place_in(done[1])))
    measuring.profile_connections()
    with pytest.raises(InputError, match=r"more than search\.most_paths = 5"):
        Search(measuring).run("exhaustive", None)


def test_drops_are_no_worse_than_none(done) -> None:
    """The instance's additive prediction explains the measured accuracies better than a mean."""
    instance = done[0].instance
    for task in instance.tasks:
        drop = {(c.source, c.target): c.drop for c in task.connections}
        names = [["input", *m.blocks, "output"] for m in task.measured_paths]
        guess = [
            task.accuracy - sum(drop.get(ends, 0.0) for ends in zip(path, path[1:], strict=False))
            for path in names
        ]
        truth = np.array([m.accuracy for m in task.measured_paths])
        error = np.abs(truth - np.array(guess)).mean()
        assert error < np.abs(truth - truth.mean()).mean()
