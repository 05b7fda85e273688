from __future__ import annotations

import pytest

from code_opt.errors import InputError

compat = pytest.importorskip("code_opt.networks.compat", exc_type=InputError)

from code_opt.networks.blocks import on_meta
from code_opt.networks.cost import adapter_cost, block_costs, network_cost

torch = compat.torch
torchvision = compat.torchvision


nn = torch.nn


@pytest.mark.parametrize(
    "name",
    [
        "AlexNet_Weights.IMAGENET1K_V1",
        "ResNet18_Weights.IMAGENET1K_V1",
        "MobileNet_V2_Weights.IMAGENET1K_V1",
        "DenseNet121_Weights.IMAGENET1K_V1",
        "ViT_B_16_Weights.IMAGENET1K_V1",
    ],
)
def test_agrees_with_the_published_figures(name):
    """torchvision publishes multiply-adds (in 1e9) and parameters of its networks."""
    published = torchvision.models.get_weight(name).meta
    with torch.device("meta"):
        whole = torchvision.models.get_model(name.partition("_Weights")[0].lower(), weights=None)
    cost = network_cost(whole, (3, 224, 224))
    assert cost.params == published["num_params"]
    assert cost.flops == pytest.approx(2e9 * published["_ops"], abs=2e6)


def test_layers_by_hand():
    blocks = [nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.Flatten(), nn.Linear(8 * 4 * 4, 10))]
    first, last = block_costs(blocks, (3, 4, 4), batch=5)
    assert first.flops == 2 * (3 * 3 * 3) * 8 * 16
    assert first.params == 3 * 3 * 3 * 8 + 8
    assert first.output_shape == (8, 4, 4)
    assert first.output_bytes == 4 * 8 * 16
    assert (last.flops, last.params) == (2 * 128 * 10, 128 * 10 + 10)
    assert last.output_bytes == 40


def test_attention_is_counted_in_a_frozen_network():
    """torch's fused inference kernel would count as nothing."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval().requires_grad_(False)
    length, width = 6, 16
    projections = 4 * 2 * length * width * width
    attention = 2 * 2 * length * length * width
    feed_forward = 2 * 2 * length * width * 32
    assert network_cost(layer, (length, width)).flops == projections + attention + feed_forward


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4)
    assert [cost.params for cost in block_costs([layer, layer], (4,))] == [20, 0]


def test_wrong_shape_is_refused():
    with pytest.raises(InputError, match=r"block 1 does not run on shape \(1, 7\)"):
        block_costs([nn.Identity(), nn.Linear(4, 4)], (7,))


def test_meta_copy_leaves_the_original_alone():
    layer = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    copy = on_meta(layer)
    assert {t.device.type for t in copy.state_dict().values()} == {"meta"}
    assert {t.device.type for t in layer.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize(
    ("source", "target", "module"),
    [
        ((8, 5, 5), (12, 3, 3), nn.Sequential(nn.Upsample((3, 3)), nn.Conv2d(8, 12, 1))),
        ((8, 5, 5), (10,), nn.Sequential(nn.AvgPool2d(5), nn.Flatten(), nn.Linear(8, 10))),
        ((7, 16), (7, 24), nn.Linear(16, 24)),
        ((16,), (24,), nn.Linear(16, 24)),
    ],
)
def test_adapters_cost_what_their_layers_cost(source, target, module):
    real = network_cost(module, source)
    assert real.output_shape == target
    cost = adapter_cost(source, target)
    assert (cost.flops, cost.params) == (real.flops, real.params)


@pytest.mark.parametrize(
    ("source", "target"), [((8,), (4, 3, 3)), ((7, 16), (4, 3, 3)), ((), (1,))]
)
def test_adapters_that_do_not_exist(source, target):
    with pytest.raises(InputError, match="no plain adapter"):
        adapter_cost(source, target)
