"""What was measured is taken again only where all that it rests on is the same."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.evaluation.subject import load_subject
from code_opt.networks.services import save_tensors
from code_opt.networks.threads import use_threads
from code_opt.networks.training import Architecture, build_network
from code_opt.profiling import measuring
from code_opt.profiling.config import ProfileConfig, parse_config
from code_opt.profiling.measuring import Job, Measuring
from code_opt.profiling.pipeline import Profile, profile
from code_opt.profiling.preparation import Place, Preparation
from tests.profiling.conftest import tone_config, write_tones

ALL = {"service": 1, "connection": 1, "path": 1}
"""What is measured anew; times are looked at by tests of their own."""


def place_in(folder: Path) -> Place:
    return Place(folder / "config.yaml", folder / "out", folder / "data", "cpu")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    use_threads(1)
    write_tones(tmp_path / "data")
    return place_in(tmp_path)


def profiled_in(folder: Path, config: ProfileConfig) -> tuple[Path, Profile]:
    use_threads(1)
    write_tones(folder / "data")
    return folder, profile(config, place_in(folder))


@pytest.fixture(scope="module")
def profiled_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Profile]:
    return profiled_in(tmp_path_factory.mktemp("profiled"), tone_config())


@pytest.fixture
def profiled(profiled_once: tuple[Path, Profile], tmp_path: Path) -> tuple[Place, Profile]:
    """Return a copy of a place where :func:`tone_config` has been profiled, and the profile."""
    folder, found = profiled_once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return place_in(tmp_path), found


def several_kinds() -> ProfileConfig:
    """Several connections with several kinds each.

    What is chosen for one is on the paths that others are looked at by.
    """
    kinds = ["pointwise", "low-rank", "linear", "linear-grid"]
    return changed(tone_config(blocks=4), lambda d: d["adapters"].update(kinds=kinds))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a place where :func:`several_kinds` has been profiled; nothing may be measured."""
    return place_in(profiled_in(tmp_path_factory.mktemp("several"), several_kinds())[0])


def measured(place: Place) -> list[dict[str, Any]]:
    lines = (place.work / "measurements.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def new(place: Place, config: ProfileConfig) -> tuple[Profile, dict[str, int]]:
    """Profile, and count what was measured for it by kind."""
    before = len(measured(place)) if place.work.exists() else 0
    found = profile(config, place)
    kinds = Counter(r["kind"] for r in measured(place)[before:] if r["kind"] != "time")
    return found, dict(kinds)


def changed(config: ProfileConfig, change: Callable[[Any], Any]) -> ProfileConfig:
    data = config.model_dump(mode="json", by_alias=True)
    change(data)
    return parse_config(data)


def test_nothing_is_measured_twice(profiled):
    place, first = profiled
    assert Counter(r["kind"] for r in measured(place) if r["kind"] != "time") == ALL
    again, count = new(place, tone_config())
    assert count == {}
    assert again.instance == first.instance


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["reward"]["accuracy"].update(exponent=7.0),
        lambda d: d["reward"]["throughput"].update(exponent=3.0),
        lambda d: d["servers"][0].update(flops=1.0e8),
        lambda d: d["services"][0].update(demand=9.0, floor=1.0, weight=2.0),
        lambda d: d["timing"].update(batches=[2]),
        lambda d: d["datasets"].append({**d["datasets"][0], "id": "other"}),
        lambda d: d.update(name="another name"),
    ],
)
def test_what_no_measurement_rests_on_measures_nothing(several, change):
    assert sum(r["kind"] == "connection" for r in measured(several)) > 3
    assert new(several, changed(several_kinds(), change))[1] == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["services"][0]["training"].update(learning_rate=1e-3), ALL),
        (lambda d: d.update(seed=1), ALL),
        (lambda d: d["services"][0].update(seed=1), ALL),
        (lambda d: d.update(precision="full"), ALL),
        (lambda d: d["datasets"][0].update(limit=6, validation=3), ALL),
        (lambda d: d["adapters"].update(ridge=1e-2), ALL | {"service": 0}),
        (lambda d: d["services"][0].update(blocks=None, cuts=["features.2"]), ALL | {"service": 0}),
    ],
)
def test_what_measurements_rest_on_measures_again(profiled, change, expected):
    count = new(profiled[0], changed(tone_config(), change))[1]
    assert count == {kind: number for kind, number in expected.items() if number}


def test_other_images_in_the_same_place_are_measured_anew(profiled, tmp_path):
    place, _ = profiled
    write_tones(place.data, seed=1)
    found, count = new(place, tone_config())
    assert count == ALL
    elsewhere = Place(place.config_path, tmp_path / "fresh", place.data, "cpu")
    assert found.instance == profile(tone_config(), elsewhere).instance


def test_one_image_under_another_name_is_enough(profiled):
    place, _ = profiled
    train = place.data / "tones" / "train"
    (train / "dark" / "0.png").replace(train / "light" / "9.png")
    assert new(place, tone_config())[1] == ALL


def test_layers_without_weights_count_as_well(place, tmp_path):
    """The same weights in another network are another network."""
    network = build_network(Architecture("squeezenet1_1", 2, (3, 32, 32), {}, {}))
    save_tensors(tmp_path / "net.safetensors", network.state_dict(), half=False)
    config = tone_config(training=None, weights="net.safetensors")
    assert new(place, config)[1] == ALL
    wider = changed(
        config, lambda d: d["services"][0].update(changes={"features.2": {"ceil_mode": False}})
    )
    assert new(place, wider)[1] == ALL


@pytest.mark.parametrize("kind", ["service", "connection", "path"])
def test_weights_that_are_gone_are_made_again(profiled, kind):
    place, first = profiled
    pattern = {"service": "net-*", "connection": "connection-*", "path": "path-*"}[kind]
    next(place.work.glob(pattern)).unlink()
    again, count = new(place, tone_config())
    assert count == {kind: 1}
    assert again.instance == first.instance


def test_a_worker_that_sees_other_images_is_refused(profiled):
    place, config = profiled[0], tone_config()
    asking = Measuring(Preparation(config, place))
    asking.profile_connections()
    job = Job("tone", next(iter(asking.tasks["tone"].measured)))
    text = config.model_dump_json(by_alias=True)
    record = measuring._measure_elsewhere(text, place, asking.identity, job)
    assert record["accuracy"] == asking.tasks["tone"].measured[job.path].accuracy
    write_tones(place.data, seed=1)
    changed_identity = Measuring(Preparation(config, place)).identity
    assert changed_identity != asking.identity
    with pytest.raises(InputError, match="all must see the same files"):
        measuring._measure_elsewhere(text, place, "another", job)


def test_evaluation_refuses_other_classes_than_those_of_training(profiled):
    place, _ = profiled
    tones = place.data / "tones"
    subject = load_subject(place.out / "instance.json", place.data)
    assert subject.images("tone", "test").classes == ("dark", "light")
    for split in ("train", "test"):
        (tones / split / "dark").rename(tones / split / "pitch")
    subject = load_subject(place.out / "instance.json", place.data)
    for split in ("test", "validation"):
        with pytest.raises(InputError, match="only in the data: 'pitch'; missing there: 'dark'"):
            subject.images("tone", split)
