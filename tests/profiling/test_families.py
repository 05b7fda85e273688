"""Every classification family of torchvision: profiled, read back, solved and evaluated.

One small member of each family, on images as small as it takes, and shallow and narrow where its
class allows that: what is tested is that its parts are built, trained, cut, stored and read back,
not what they learn. The long suite has the members in full, and others.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from code_opt import solve
from code_opt.errors import InputError
from code_opt.evaluation.pipeline import Options, evaluate
from code_opt.evaluation.subject import load_subject
from code_opt.networks.compat import torchvision
from code_opt.networks.threads import use_threads
from code_opt.networks.training import accuracy, fingerprint
from code_opt.profiling.pipeline import profile
from code_opt.profiling.preparation import Place, Preparation
from tests.profiling.conftest import TONE_TESTS, tone_config, write_tones

MODELS = torchvision.models
_HEAD = {"out_features": 16}
_VGG = {
    "avgpool": {"output_size": 1},
    "classifier.0": {"in_features": 512} | _HEAD,
    "classifier.3": {"in_features": 16} | _HEAD,
    "classifier.6": {"in_features": 16},
}
FAMILIES: dict[str, dict[str, Any]] = {
    "alexnet": {
        "size": 63,
        "changes": {
            "avgpool": {"output_size": 1},
            "classifier.1": {"in_features": 256} | _HEAD,
            "classifier.4": {"in_features": 16} | _HEAD,
            "classifier.6": {"in_features": 16},
        },
    },
    "convnext_tiny": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "googlenet": {"options": {"init_weights": False}},
    # After one step its answers are too large for half precision.
    "inception_v3": {
        "size": 75,
        "options": {"aux_logits": False, "init_weights": False},
        "precision": "full",
    },
    "maxvit_t": {"size": 224},  # its attention needs this size
    "mnasnet0_5": {},
    "mobilenet_v2": {"options": {"width_mult": 0.25}},
    "mobilenet_v3_small": {},
    "regnet_x_400mf": {},
    "resnet18": {},
    "shufflenet_v2_x0_5": {},
    "squeezenet1_1": {},
    "swin_t": {},
    "vgg11": {"changes": _VGG},
    "vit_b_32": {"options": {"image_size": 32}},
}
_blocks = MODELS.convnext.CNBlockConfig
_inverted = MODELS.efficientnet.MBConvConfig
NARROW: dict[str, dict[str, Any]] = {
    "ConvNeXt": {"block_setting": [_blocks(16, 24, 1), _blocks(24, None, 2)]},
    "DenseNet": {"growth_rate": 8, "block_config": (2, 2, 2, 2), "num_init_features": 16},
    "EfficientNet": {
        "inverted_residual_setting": [
            _inverted(1, 3, 1, 16, 16, 1, 1.0, 1.0),
            _inverted(6, 5, 2, 16, 24, 2, 1.0, 1.0),
        ],
        "last_channel": 64,
    },
    "MobileNetV2": {"inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 2, 2]]},
    "MobileNetV3": {
        "inverted_residual_setting": [
            MODELS.mobilenetv3.InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
            MODELS.mobilenetv3.InvertedResidualConfig(16, 5, 72, 24, False, "HS", 1, 1, 1.0),
        ],
        "last_channel": 64,
    },
    "RegNet": {
        "block_params": MODELS.regnet.BlockParams(
            depths=[1, 2],
            widths=[16, 32],
            group_widths=[16, 16],
            bottleneck_multipliers=[1.0, 1.0],
            strides=[2, 2],
        )
    },
    "ShuffleNetV2": {
        "stages_repeats": [2, 2, 2],
        "stages_out_channels": [8, 16, 32, 64, 128],
    },
    "SwinTransformer": {"embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]},
    "VisionTransformer": {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64},
}
"""Arguments of the classes of torchvision that make a network of few small layers."""
VARIANTS: dict[str, dict[str, Any]] = {
    "efficientnet_v2_s": {},
    "googlenet": {"options": {"aux_logits": False}},
    "inception_v3": {"size": 299, "precision": "full"},  # which its auxiliary classifier needs
    "mnasnet1_3": {},
    "mobilenet_v3_large": {},
    "regnet_y_400mf": {},
    "resnext50_32x4d": {},
    "swin_v2_t": {},
    "vgg11_bn": {"changes": _VGG},
    "wide_resnet50_2": {},
}
"""Other members that are built in another way."""
LONG = ("inception_v3", "maxvit_t", "vgg11")
"""Costly ones: the first is built as googlenet is, the last as alexnet."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tones(folder)
    return folder


def module_of(architecture: str) -> str:
    return str(MODELS.get_model_builder(architecture).__module__)


def test_no_family_is_left_out():
    every = {module_of(name) for name in MODELS.list_models(module=MODELS)}
    assert {module_of(name) for name in FAMILIES} == every


def make_narrow(architecture: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let torchvision build a network of this architecture with :data:`NARROW`, where it can."""
    module = sys.modules[module_of(architecture)]
    names = [name for name in NARROW if name in vars(module)]
    for name in names:
        monkeypatch.setattr(module, name, _narrow(getattr(module, name), NARROW[name]))
    return bool(names)


def _narrow(network: type, changes: Mapping[str, Any]) -> Any:
    def build(*arguments: Any, **named: Any) -> Any:
        given = inspect.signature(network).bind(*arguments, **named).arguments
        rest = given.pop("kwargs", {})
        return network(**(given | rest | changes))

    return build


def run_all(architecture: str, settings: dict[str, Any], data: Path, folder: Path) -> None:
    """Profile one network, read it back, solve and evaluate."""
    use_threads(1)
    config = tone_config(architecture, **settings)
    place = Place(folder / "config.yaml", folder, data, "cpu")
    found = profile(config, place)
    subject = load_subject(folder / "instance.json", data)
    bundle = subject.bundle
    trunk = bundle.trunk("net")
    assert fingerprint(trunk.blocks) == found.tables["services"].sha256[0]
    images = subject.images("tone", "validation")
    chain = torch.nn.Sequential(*trunk.blocks)
    assert accuracy(chain, images, bundle.normalization("tone")) == found.instance.tasks[0].accuracy
    result = solve(found.instance)
    options = Options(batch=1, seconds=0.001, feeds=())
    evaluation = evaluate(subject, {"exact": result}, options=options)
    assert evaluation.results[0].tasks[0].measured.images == 2 * TONE_TESTS


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in FAMILIES if name not in LONG])
def test_a_family_is_profiled_read_back_and_evaluated(
    architecture: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_narrow(architecture, monkeypatch)
    run_all(architecture, FAMILIES[architecture], data, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("architecture", "settings"), [*FAMILIES.items(), *VARIANTS.items()])
def test_a_member_in_full_is_profiled_read_back_and_evaluated(
    architecture: str, settings: dict[str, Any], data: Path, tmp_path: Path
):
    run_all(architecture, settings, data, tmp_path)


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("inception_v3", {"size": 75}, r"options: \{aux_logits: false\}"),
        ("resnet18", {"batch": 1}, "cannot be trained on batches of 1"),
        ("maxvit_t", {"size": 64}, "maxvit_t does not run on inputs"),
        ("maxvit_t", {"options": {"input_size": [64, 64]}}, "maxvit_t: .*not divisible"),
        ("vit_b_32", {}, "Expected 224 but got 32"),
        ("mobilenet_v2", {"options": {"width_mult": "wide"}}, "mobilenet_v2: "),
        ("densenet121", {"options": {"growth_rate": -3}}, "densenet121: "),
    ],
)
def test_what_cannot_be_trained_is_refused_before(
    architecture: str,
    settings: dict[str, Any],
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(
        "code_opt.profiling.preparation.train_network", lambda *_, **__: pytest.fail("trained")
    )
    place = Place(tmp_path / "config.yaml", tmp_path, data, "cpu")
    with pytest.raises(InputError, match=message):
        Preparation(tone_config(architecture, **settings), place)
