"""Bundles: read again as they were written; what strangers may put into them is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from code_opt.answers import ANSWERS
from code_opt.errors import InputError
from code_opt.networks.bundle import MANIFEST, Bundle, Manifest, save_bundle
from code_opt.networks.services import load_tensors, load_weights, save_tensors
from code_opt.networks.training import fingerprint

DIGITS = Path(__file__).resolve().parents[2] / "data" / "digits" / "bundle"
FAR = ("alexnet/0", "mobilenet/1", "alexnet/2", "alexnet/3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(DIGITS, tmp_path / "bundle")
    return tmp_path / "bundle"


def changed(folder: Path, change: Callable[[Any], Any]) -> Path:
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return folder


def signed(folder: Path) -> Path:
    """Set the checksums to those of the files as they are: a stranger can do that, too."""

    def sign(data: Any) -> None:
        for file in data["sha256"]:
            data["sha256"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()

    return changed(folder, sign)


# --- Reading what was written ---------------------------------------------------------------


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    one = Bundle(DIGITS)
    networks = {d.id: load_tensors(DIGITS / f"{d.id}.safetensors") for d in one.manifest.dnns}
    adapters = {t: load_tensors(DIGITS / f"{t}.adapters.safetensors") for t in one.tasks}
    others = {ANSWERS: (DIGITS / ANSWERS).read_text()}
    save_bundle(tmp_path / "copy", one.manifest, networks, adapters, others)
    for file in sorted(p.name for p in DIGITS.iterdir()):
        assert (tmp_path / "copy" / file).read_bytes() == (DIGITS / file).read_bytes(), file


def test_networks_come_back_frozen_and_cut():
    trunks = Bundle(DIGITS).trunks
    assert {name: len(trunk) for name, trunk in trunks.items()} == {"alexnet": 4, "mobilenet": 4}
    for trunk in trunks.values():
        for block in trunk.blocks:
            assert not block.training
            assert not any(p.requires_grad for p in block.parameters())


def test_a_measured_path_has_adapters_of_its_own():
    one = Bundle(DIGITS)
    found = one.adapters("digit", FAR)
    assert [(s.source, s.target) for s, _ in found] == [
        ("alexnet/0", "mobilenet/1"),
        ("mobilenet/1", "alexnet/2"),
    ]
    entry = one.measured("digit", FAR)
    assert entry is not None
    alone = {(a.source, a.target): a.number for a in one.tasks["digit"].connections}
    assert all(a.number != alone[a.source, a.target] for a in entry.adapters)


def test_another_path_takes_each_connections_own_adapter(folder):
    def forget(data):
        task = data["tasks"][0]
        task["paths"] = [p for p in task["paths"] if tuple(p["blocks"]) != FAR]

    one = Bundle(changed(folder, forget))
    assert one.measured("digit", FAR) is None
    joint = Bundle(DIGITS).adapters("digit", FAR)
    single = one.adapters("digit", FAR)
    assert [s for s, _ in single] == [s for s, _ in joint]
    assert fingerprint([a for _, a in single]) != fingerprint([a for _, a in joint])


def test_the_native_path_has_no_adapters():
    assert Bundle(DIGITS).adapters("parity", [f"mobilenet/{k}" for k in range(4)]) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (["alexnet/0", "mobilenet/3", "alexnet/3"], "no adapter from alexnet/0 to mobilenet/3"),
        (["vgg/0"], "no adapter from input to vgg/0"),
        (["alexnet/0", "alexnet/9"], "no block 'alexnet/9'"),
        (["alexnet/0", "alexnet/-1"], "no block"),
        (["alexnet/0", "alexnet/x"], "no block"),
    ],
)
def test_paths_that_it_cannot_run(path, message):
    with pytest.raises(InputError, match=message):
        Bundle(DIGITS).adapters("digit", path)


# --- What strangers may send ----------------------------------------------------------------


def set_in(*place: Any, value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in place[:-1]:
            data = data[key]
        data[place[-1]] = value

    return change


HOSTILE = {
    "another schema": (set_in("schema", value="code-opt/bundle/9"), "schema"),
    "an unknown field": (set_in("dnns", 0, "extra", value=1), "extra"),
    "a name that climbs": (set_in("dnns", 0, "id", value="../alexnet"), "dnns.0.id"),
    "a name that is a path": (set_in("tasks", 0, "id", value="/etc/passwd"), "tasks.0.id"),
    "a hidden name": (set_in("dnns", 0, "id", value=".alexnet"), "dnns.0.id"),
    "data outside": (
        set_in("tasks", 0, "dataset", "path", value="../../home"),
        "leaves its folder",
    ),
    "absolute data": (set_in("tasks", 0, "dataset", "path", value="/home"), "leaves its folder"),
    "an unknown network": (set_in("tasks", 0, "dnn", value="vgg"), "no such network"),
    "an unknown adapter": (
        set_in("tasks", 0, "connections", 0, "kind", value="eval"),
        "no kind of adapter",
    ),
    "pretrained weights": (
        set_in("dnns", 0, "options", value={"weights": "DEFAULT"}),
        "options.weights: cannot be set",
    ),
    "blocks and cuts": (set_in("dnns", 0, "cuts", value=["features.3"]), "either blocks or cuts"),
    "no size": (set_in("dnns", 0, "input", value=[3, 0, 16]), "dnns.0.input.1"),
    "no number": (set_in("tasks", 0, "deviation", value=[float("nan")]), "deviation"),
    "an accuracy above one": (set_in("tasks", 0, "paths", 0, "accuracy", value=1.5), "accuracy"),
    "an id twice": (lambda d: d["dnns"].append(d["dnns"][0]), "an id stands there twice"),
    "a file without a checksum": (
        lambda d: d["sha256"].pop("alexnet.safetensors"),
        r"no checksum of alexnet\.safetensors",
    ),
    "a checksum that is none": (
        set_in("sha256", "alexnet.safetensors", value="0" * 63),
        r"sha256\.alexnet\.safetensors",
    ),
    "no object": (lambda d: d.clear(), "schema"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_refused_when_read(folder, name):
    change, message = HOSTILE[name]
    with pytest.raises(InputError, match=message):
        Bundle(changed(folder, change))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null", '"x"'])
def test_manifests_that_are_none(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=MANIFEST):
        Bundle(folder)


def test_a_folder_without_a_manifest(tmp_path):
    with pytest.raises(InputError, match=MANIFEST):
        Bundle(tmp_path)


BUILT = {
    "another architecture": (set_in("dnns", 0, "architecture", value="os.system"), "os.system"),
    "a network of another size": (
        set_in("dnns", 0, "changes", "features.0", "out_channels", value=17),
        "alexnet",
    ),
    # Would need 4 TB; found out before anything is allocated.
    "a network too large": (
        set_in(
            "dnns", 0, "changes", "classifier.1", value={"in_features": 192, "out_features": 10**6}
        ),
        "alexnet",
    ),
    "other blocks": (set_in("dnns", 0, "blocks", value=3), "cut into other blocks"),
    "a layer that is not there": (
        set_in("dnns", 0, "changes", value={"features.99": {"stride": 1}}),
        "features.99",
    ),
    "a method for a layer": (
        set_in("dnns", 0, "changes", value={"features.0": {"forward": 1}}),
        "forward",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_hostile_networks_are_refused_when_built(folder, name):
    change, message = BUILT[name]
    one = Bundle(changed(folder, change))
    with pytest.raises(InputError, match=message):
        _ = one.trunks


def test_links_that_lead_out_of_the_folder(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    shutil.move(folder / "alexnet.safetensors", outside)
    (folder / "alexnet.safetensors").symlink_to(outside)
    with pytest.raises(InputError, match="leads out of the bundle"):
        _ = Bundle(folder).trunks


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_pickles_are_not_opened(folder, tmp_path):
    (folder / "alexnet.safetensors").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    with pytest.raises(InputError, match="not a safetensors file"):
        _ = Bundle(signed(folder)).trunks
    torch.save({"x": torch.ones(1)}, folder / "alexnet.safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        _ = Bundle(signed(folder)).trunks
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_damaged_weights_are_refused(folder, share):
    path = folder / "alexnet.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"alexnet\.safetensors: damaged or replaced"):
        _ = Bundle(folder).trunks
    with pytest.raises(InputError, match="not a safetensors file"):
        _ = Bundle(signed(folder)).trunks


@pytest.mark.parametrize("file", ["alexnet.safetensors", "digit.adapters.safetensors"])
def test_one_flipped_bit_is_refused_by_name(folder, file):
    content = bytearray((folder / file).read_bytes())
    content[-5] ^= 1
    (folder / file).write_bytes(content)
    one = Bundle(folder)
    with pytest.raises(InputError, match=rf"{file}: damaged or replaced.*SHA-256"):
        one.adapters("digit", FAR)


def test_damage_does_not_get_a_checksum_of_its_own(folder, tmp_path):
    """What a bundle is copied from may have been damaged: its checksums go with the copy."""
    one = Bundle(DIGITS)
    adapters = {t: load_tensors(DIGITS / f"{t}.adapters.safetensors") for t in one.tasks}
    for dnn in one.manifest.dnns:
        content = bytearray((DIGITS / f"{dnn.id}.safetensors").read_bytes())
        content[-5] ^= 1
        (tmp_path / f"{dnn.id}.safetensors").write_bytes(content)
    save_bundle(tmp_path, one.manifest, {}, adapters)
    with pytest.raises(InputError, match="damaged or replaced"):
        _ = Bundle(tmp_path).trunks


def test_missing_weights_are_named(folder):
    (folder / "mobilenet.safetensors").unlink()
    with pytest.raises(InputError, match=r"mobilenet\.safetensors: no such file"):
        _ = Bundle(folder).trunks


def test_adapters_of_another_shape_are_refused(folder):
    path = folder / "digit.adapters.safetensors"
    tensors = load_tensors(path)
    number = Bundle(folder).adapters("digit", FAR) and Bundle(folder).measured("digit", FAR)
    assert number is not None
    prefix = f"{number.adapters[0].number}."
    name = next(n for n in tensors if n.startswith(prefix) and n.endswith("weight"))
    save_tensors(path, tensors | {name: torch.ones(2, 2)}, half=False)
    with pytest.raises(InputError, match=r"has the shape \(2, 2\)"):
        Bundle(signed(folder)).adapters("digit", FAR)
    del tensors[name]
    save_tensors(path, tensors, half=False)
    with pytest.raises(InputError, match="is missing"):
        Bundle(signed(folder)).adapters("digit", FAR)


def test_weights_must_fit_exactly():
    layer = torch.nn.Linear(2, 2)
    good = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    with pytest.raises(InputError, match="'bias' is missing"):
        load_weights(layer, {"weight": good["weight"]}, "file")
    with pytest.raises(InputError, match="'extra' is not part"):
        load_weights(layer, good | {"extra": torch.ones(1)}, "file")
    load_weights(layer, good, "file")
    assert torch.equal(layer.weight, good["weight"])


def test_the_manifest_comes_last(tmp_path):
    manifest = Manifest.model_validate(json.loads((DIGITS / MANIFEST).read_text()))
    with pytest.raises(AttributeError):
        save_bundle(tmp_path, manifest, {"alexnet": {"x": None}}, {})  # type: ignore[dict-item]
    assert not (tmp_path / MANIFEST).exists()
