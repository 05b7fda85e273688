"""Networks of a user's own, pretrained heads, weights of others; and bundles that ask for code."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from code_opt import solve
from code_opt.errors import InputError
from code_opt.evaluation.pipeline import Options, evaluate
from code_opt.evaluation.subject import load_subject
from code_opt.instance import InstanceError
from code_opt.networks.factories import call_factory, module_of
from code_opt.networks.heads import ClassMap
from code_opt.networks.services import load_state_dict
from code_opt.networks.threads import use_threads
from code_opt.networks.training import seeded
from code_opt.profiling.pipeline import profile
from code_opt.profiling.preparation import Place
from tests.profiling.conftest import tone_config, write_tones
from tests.profiling.own import Patches

OWN = "tests.profiling.own:patches"
MODULE = "tests.profiling.own"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    use_threads(1)
    write_tones(tmp_path / "data")
    return Place(tmp_path / "config.yaml", tmp_path / "out", tmp_path / "data", "cpu")


def pretrained(folder: Path) -> None:
    """Write weights as others do: under a key, with a prefix, one tensor too many."""
    with seeded(0):
        network = Patches(5)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    state["teacher.weight"] = torch.ones(3)
    state.pop("module.norm.num_batches_tracked")
    torch.save({"epoch": 3, "model": state}, folder / "net.pt")


HEAD = {"outputs": 5, "classes": {"dark": [0, 3], "light": [4]}}
NORMALIZATION = {"mean": [0.5, 0.4, 0.3], "deviation": [0.2, 0.3, 0.4]}
STATE = {"key": "model", "rename": {"module.": ""}, "ignore": ["teacher."]}


def own_config(**changes):
    settings = {
        "training": None,
        "weights": "net.pt",
        "state_dict": STATE,
        "head": HEAD,
        "normalization": NORMALIZATION,
        **changes,
    }
    return tone_config(OWN, size=16, **settings)


def test_a_network_of_ones_own_is_profiled_and_evaluated(place, tmp_path):
    pretrained(tmp_path)
    found = profile(own_config(), place)
    manifest = json.loads((place.out / "bundle" / "manifest.json").read_text())
    assert manifest["dnns"][0]["outputs"] == [[0, 3], [4]]
    assert manifest["dnns"][0]["classes"] == 5
    assert manifest["tasks"][0]["mean"] == NORMALIZATION["mean"]
    # What was profiled is the network with its head, normalised as said.
    path = place.out / "instance.json"
    subject = load_subject(path, place.data, [MODULE])
    images = subject.images("tone", "validation")
    with seeded(0):
        network = Patches(5).eval()
    x = torch.from_numpy(images.pixels).float() / 255.0
    mean, deviation = (
        torch.tensor(NORMALIZATION[k]).view(1, 3, 1, 1) for k in ("mean", "deviation")
    )
    with torch.no_grad():
        raw = network((x - mean) / deviation).softmax(dim=1)
    expected = torch.stack([raw[:, 0] + raw[:, 3], raw[:, 4]], dim=1)
    chain = torch.nn.Sequential(*subject.bundle.trunk("net").blocks)
    with torch.no_grad():
        answers = chain(subject.inputs("tone", images))
    found_shares = answers.softmax(dim=1)
    # Weights are stored in half precision.
    assert torch.allclose(found_shares, expected / expected.sum(dim=1, keepdim=True), atol=0.02)
    right = float((answers.argmax(dim=1).numpy() == images.labels).mean())
    assert found.instance.tasks[0].accuracy == pytest.approx(right)
    # The edge runs it, too: its processes get the permission.
    result = solve(subject.instance, method="local")
    options = Options(seconds=0.2, feeds=("rates",))
    (one,) = evaluate(subject, {"local": result}, options).results
    assert one.refused == ()
    assert one.flow is not None


def test_a_bundle_runs_no_code_that_the_user_has_not_named(place, tmp_path):
    pretrained(tmp_path)
    profile(own_config(), place)
    for allowed in ((), ("tests",), ("tests.profiling",), ("other",)):
        with pytest.raises(InputError, match=r"would run code of the module.*--allow-code tests\."):
            load_subject(place.out / "instance.json", place.data, allowed)
    manifest = place.out / "bundle" / "manifest.json"
    text = manifest.read_text()
    for name, message in (
        ("subprocess:run", "would run code of the module subprocess"),
        ("tests.profiling.own:run", "no factory 'run' of its own"),
        ("tests.profiling.own:nn.Module", "give a network of torchvision.models or"),
        ("tests.profiling.own:_x", "give a network of torchvision.models or"),
    ):
        manifest.write_text(text.replace(OWN, name))
        with pytest.raises(InputError, match=message):
            load_subject(place.out / "instance.json", place.data, [MODULE]).bundle.trunk("net")


def test_names_of_factories():
    assert module_of("alexnet") is None
    assert module_of(OWN) == MODULE
    assert isinstance(call_factory(OWN, 4, {"width": 3}), Patches)
    for name, message in (
        ("nowhere.at_all:make", "No module named 'nowhere'"),
        (f"{MODULE}:nothing", "no factory 'nothing' of its own"),
        (f"{MODULE}:a_list", "gives a list, not a torch.nn.Module"),
        ("alexne", "close: alexnet"),
    ):
        with pytest.raises(InputError, match=message):
            call_factory(name, 4, {})


def test_heads_add_up_the_outputs_of_a_class():
    head = ClassMap([[1], [0, 2]])
    x = torch.randn(4, 3)
    shares = x.exp()
    expected = torch.stack([shares[:, 1], shares[:, 0] + shares[:, 2]], dim=1).log()
    assert torch.allclose(head(x), expected, atol=1e-6)
    assert torch.equal(ClassMap([[2], [0]])(x), x[:, [2, 0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": {**STATE, "key": None}}, r"no state dict.*is it under model"),
        (
            {"state_dict": {**STATE, "key": "weights"}},
            r"has no 'weights' in it; it has epoch, model",
        ),
        ({"state_dict": {**STATE, "rename": {}}}, r"tensor 'first\.bias' is missing"),
        ({"state_dict": {**STATE, "ignore": []}}, r"'teacher\.weight' is not part of"),
        (
            {"state_dict": {**STATE, "rename": {"module.first.": "x", "module.second.": "x"}}},
            "two tensors would be named 'x",
        ),
        ({"head": {**HEAD, "outputs": 6}}, r"'last\.weight' has the shape \(5, 8\)"),
        (
            {"head": {"outputs": 5, "classes": {"dark": [0], "bright": [4]}}},
            "head.classes must name the classes of the data set; missing: light; unknown: bright",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_measured(place, tmp_path, changes, message):
    pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        profile(own_config(**changes), place)
    assert not (place.work / "measurements.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None, "training": {"epochs": 1}}, "is about weights that are loaded"),
        ({"head": {"outputs": 3, "classes": {"dark": [0], "light": [3]}}}, "numbered 0 to 2"),
        ({"normalization": {"mean": [0.5], "deviation": [0.5]}}, "every channel of input: 3"),
        ({"options": {"pretrained": True}}, "cannot be set here"),
        ({"options": {"checkpoint_path": "x"}}, "cannot be set here"),
    ],
)
def test_configs_that_do_not_fit(changes, message):
    with pytest.raises(InstanceError, match=message):
        own_config(**changes)


class Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_not_run(tmp_path):
    for write in (
        lambda x: torch.save(x, tmp_path / "net.pt"),
        lambda x: (tmp_path / "net.pt").write_bytes(pickle.dumps(x)),
    ):
        write({"x": Trap(str(tmp_path / "sprung"))})
        with pytest.raises(InputError, match="no state dict of plain tensors"):
            load_state_dict(tmp_path / "net.pt", Patches(2))
    assert not (tmp_path / "sprung").exists()


def test_other_code_is_measured_anew(place, tmp_path, monkeypatch):
    def lines() -> list[str]:
        return (place.work / "measurements.jsonl").read_text().splitlines()

    pretrained(tmp_path)
    profile(own_config(), place)
    before = lines()
    profile(own_config(), place)
    assert lines() == before
    monkeypatch.setattr("code_opt.profiling.preparation.code_of", lambda _: "changed")
    profile(own_config(), place)
    assert lines()[: len(before)] == before
    kinds = [Counter(json.loads(line)["kind"] for line in some) for some in (before, lines())]
    # The one adapter holds none of the code, and its time stands.
    assert kinds[1] == kinds[0] + kinds[0] - Counter(time=1)
