"""Digests: the same problem, the same digest; what changed is told by its part."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from code_opt.instance import Instance, load_instance, parse_instance, save_instance
from code_opt.instance import digest as digest_module
from code_opt.instance.digest import PARTS, changed_parts, digest_of

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    *sorted((ROOT / "data").glob("*.json")),
    *sorted((ROOT / "data").glob("*/instance.json")),
]
METRO = json.loads((ROOT / "data" / "metro-links.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "data")))
def test_the_form_of_the_file_does_not_count(path: Path, tmp_path: Path) -> None:
    instance = load_instance(path)
    expected = digest_of(instance)
    assert [len(expected[part]) for part in PARTS] == [16] * len(PARTS)
    assert len(expected["sha256"]) == 64
    for name in ("a.json", "b.yaml", "folder"):
        save_instance(instance, tmp_path / name)
        assert digest_of(load_instance(tmp_path / name)) == expected


def shuffled(data: Any, rng: random.Random) -> Any:
    """Return the same data with the keys of all objects in another order."""
    if isinstance(data, dict):
        items = [(key, shuffled(value, rng)) for key, value in data.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(item, rng) for item in data] if isinstance(data, list) else data


def test_order_names_and_defaults_do_not_count() -> None:
    expected = digest_of(parse_instance(METRO))
    rng = random.Random(0)
    data = shuffled(METRO, rng)
    for key in ("servers", "links", "dnns", "tasks"):
        rng.shuffle(data[key])
    for task in data["tasks"]:
        rng.shuffle(task.get("connections", []))
        task.setdefault("weight", 1)  # its default, and as a whole number
        task.setdefault("connections", [])
    data |= {"name": "another", "description": "another", "bundle": "elsewhere"}
    data.setdefault("reward", {"accuracy": {"kind": "power", "exponent": 1.0}})
    assert digest_of(parse_instance(data)) == expected


def test_what_is_written_out_is_what_is_left_out() -> None:
    short = parse_instance(METRO)
    assert digest_of(parse_instance(short.to_dict())) == digest_of(short)


def changed(change: str, value: Any) -> Instance:
    data = json.loads(json.dumps(METRO))
    place = data
    *way, last = [int(k) if k.isdigit() else k for k in change.split(".")]
    for key in way:
        place = place[key]
    place[last] = value
    return parse_instance(data)


@pytest.mark.parametrize(
    ("change", "value", "part"),
    [
        ("tasks.0.demand", 1.5, "tasks"),
        ("tasks.0.connections.0.drop", 0.0123, "tasks"),
        ("tasks.0.measured_paths", [], None),
        ("servers.0.flops", 1e12, "servers"),
        ("servers.0.memory", 0, "servers"),
        ("links.0.latency", 0.5, "links"),
        ("dnns.0.blocks.0.output_bytes", 1, "dnns"),
        ("reward", {"throughput": {"kind": "power", "exponent": 0.5}}, "reward"),
    ],
)
def test_a_change_is_told_by_its_part(change: str, value: Any, part: str | None) -> None:
    recorded = digest_of(parse_instance(METRO))
    assert changed_parts(recorded, parse_instance(METRO)) == []
    assert changed_parts(recorded, changed(change, value)) == ([] if part is None else [part])


def test_blocks_are_in_order() -> None:
    data = json.loads(json.dumps(METRO))
    data["dnns"][0]["blocks"].reverse()
    for task in data["tasks"]:
        task["connections"], task["measured_paths"] = [], []
    straight = json.loads(json.dumps(data))
    straight["dnns"][0]["blocks"].reverse()
    recorded = digest_of(parse_instance(straight))
    assert changed_parts(recorded, parse_instance(data)) == ["dnns"]


def test_what_cannot_be_told_is_not_told() -> None:
    instance = parse_instance(METRO)
    recorded = digest_of(instance)
    assert changed_parts(None, instance) is None
    assert changed_parts({**recorded, "form": "2"}, instance) is None
    assert changed_parts({"form": digest_module.FORM}, instance) == list(PARTS)
    assert changed_parts({**recorded, "sha256": "0"}, instance) == list(PARTS)


def test_the_digest_is_the_one_of_the_first_version() -> None:
    """Result files hold it: it must not change by itself, nor with a new optional key."""
    found = digest_of(load_instance(ROOT / "data" / "two-services.json"))
    assert found == {
        "form": "1",
        "sha256": "f6d47af5a5b65a9754709f4584424f62c06c90508a2f8a139ca157e8d018c26a",
        "servers": "06cc45e21042f696",
        "links": "4f53cda18c2baa0c",
        "dnns": "1dd6d2f5119a1853",
        "tasks": "ec34b7535570d838",
        "reward": "f299c5557a990ac7",
    }
