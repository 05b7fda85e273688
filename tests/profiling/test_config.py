"""CONFIG files: what is read, and every mistake with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.instance import InstanceError
from code_opt.instance.yaml_text import read_yaml
from code_opt.profiling.config import load_config, parse_config, resolve_weights

DATA = Path(__file__).resolve().parents[2] / "data"
SHIPPED = sorted(DATA.glob("*/config.yaml"))


def plain() -> dict[str, Any]:
    data, _ = read_yaml((DATA / "digits" / "config.yaml").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def problems_of(data: Any) -> list[tuple[str, str]]:
    with pytest.raises(InstanceError) as caught:
        parse_config(data)
    return [(p.place, p.message) for p in caught.value.problems]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
def test_shipped_configs_are_valid(path):
    config = load_config(path)
    assert config.name == path.parent.name


def test_all_configs_are_shipped():
    assert [p.parent.name for p in SHIPPED] == [
        "alexnet-mobilenet",
        "digits",
        "one-camera",
        "pretrained",
        "three-services",
    ]


def test_json_and_yaml_say_the_same(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(plain()))
    assert load_config(tmp_path / "c.json") == load_config(DATA / "digits" / "config.yaml")


def test_a_config_goes_through_json_and_back():
    config = parse_config(plain())
    assert parse_config(json.loads(config.model_dump_json(by_alias=True))) == config


def with_(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in place[:-1]:
            data = data.setdefault(key, {}) if isinstance(data, dict) else data[key]
        data[place[-1]] = value

    return change


WRONG = {
    "schema": (with_("schema", value="code-opt/profile/2"), "schema", "code-opt/profile/1"),
    "no services": (with_("services", value=[]), "services", "at least one"),
    "typing error": (with_("services", 0, "archtecture", value="x"), "archtecture", "architecture"),
    "unknown server": (
        with_("services", 0, "server", value="edge-x"),
        "services[0].server",
        "did you mean",
    ),
    "unknown data": (
        with_("services", 1, "dataset", value="digit"),
        "services[1].dataset",
        "digits",
    ),
    "one dnn twice": (with_("services", 1, "dnn", value="alexnet"), "services[1].dnn", "twice"),
    "one id twice": (with_("services", 1, "id", value="digit"), "services[1].id", "twice"),
    "reserved": (with_("services", 0, "dnn", value="input"), "services[0].dnn", "reserved"),
    "a name that climbs": (with_("services", 0, "dnn", value="../x"), "services[0].dnn", ""),
    "cuts and blocks": (
        with_("services", 0, "cuts", value=["features.3"]),
        "services[0]",
        "either",
    ),
    "training and weights": (
        with_("services", 0, "weights", value="a.safetensors"),
        "services[0]",
        "either training or weights",
    ),
    "four channels": (
        with_("services", 0, "input", value=[4, 16, 16]),
        "services[0].input[0]",
        "1 or 3",
    ),
    "pretrained": (
        with_("services", 0, "options", "weights", value="DEFAULT"),
        "services[0].options.weights",
        "cannot be set",
    ),
    "one group": (
        with_("services", 1, "groups", value={"all": ["0"]}),
        "services[1].groups",
        "two",
    ),
    "data outside": (
        with_("datasets", 0, "path", value="../elsewhere"),
        "datasets[0].path",
        "must lie in the folder",
    ),
    "no folder": (with_("datasets", 0, "source", value="parquet"), "datasets[0].path", "required"),
    "no class": (
        with_("datasets", 0, "source", value="torchvision"),
        "datasets[0].name",
        "required",
    ),
    "unknown source": (
        with_("datasets", 0, "source", value="web"),
        "datasets[0].source",
        "parquet",
    ),
    "no capacity": (with_("servers", 0, "flops", value=-1), "servers[0].flops", ""),
    "a word for a number": (with_("adapters", "epochs", value="six"), "adapters.epochs", "number"),
    "too many held out": (
        with_("adapters", "held_out", value=1000),
        "adapters.held_out",
        "fewer than images = 1000",
    ),
    "unknown adapter": (
        with_("adapters", "kinds", value=["magic"]),
        "adapters.kinds[0]",
        "pointwise",
    ),
    "unknown search": (with_("search", "method", value="best"), "search.method", "exhaustive"),
    "no budget": (with_("search", "budget", value=0), "search.budget", ""),
    "too hopeful": (with_("search", "optimism", value=1.2), "search.optimism", ""),
    "unknown host": (
        with_("connections", value={"hosts": {"digit": ["mobile"]}}),
        "connections.hosts.digit[0]",
        "mobilenet",
    ),
    "host of no task": (
        with_("connections", value={"hosts": {"digits": ["mobilenet"]}}),
        "connections.hosts.digits",
        "digit",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named_with_their_place(name):
    change, place, text = WRONG[name]
    data = plain()
    change(data)
    found = problems_of(data)
    assert len(found) == 1, found
    assert place in found[0][0]
    assert text in found[0][1], found


def test_all_mistakes_at_once():
    data = plain()
    for change, _, _ in (WRONG["typing error"], WRONG["no capacity"], WRONG["unknown search"]):
        change(data)
    places = [place for place, _ in problems_of(data)]
    assert places == ["servers[0].flops", "services[0].archtecture", "search.method"]


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_what_is_no_config(data):
    assert problems_of(data) == [("file", "a config must be an object with fields")]


@pytest.mark.parametrize("text", ["{", "[1", '{"schema": NaN}', "{" * 50_000])
def test_files_that_are_no_json(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError):
        load_config(tmp_path / "c.json")


def test_files_that_are_no_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("a: [1, 2\nb: !!python/object:os.system {}")
    with pytest.raises(InputError):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "gone.yaml")


@pytest.mark.parametrize("name", ["gone.safetensors", "gone.pt", "config.yaml", "."])
def test_weights_must_be_files_of_weights(tmp_path, name):
    (tmp_path / "weights.pt").write_bytes(b"x")
    (tmp_path / "config.yaml").write_text("x")
    with pytest.raises(InputError, match=r"no such file ending in \.safetensors, \.pt, "):
        resolve_weights(tmp_path / "config.yaml", name)
    assert resolve_weights(tmp_path / "config.yaml", "weights.pt") == tmp_path / "weights.pt"
