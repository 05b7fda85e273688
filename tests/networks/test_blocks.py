from __future__ import annotations

import itertools

import pytest

from code_opt.errors import InputError

compat = pytest.importorskip("code_opt.networks.compat", exc_type=InputError)

from code_opt.networks.blocks import CutError, adapt, cut, cut_places
from code_opt.networks.cost import block_costs, network_cost

torch = compat.torch
torchvision = compat.torchvision


nn = torch.nn

NETWORKS = {
    "alexnet": 64,
    "vgg11": 32,
    "resnet18": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "efficientnet_b0": 32,
    "convnext_tiny": 32,
    "densenet121": 32,
    "vit_b_16": 32,
}


def network(name: str, size: int) -> nn.Module:
    arguments = {"image_size": size} if name.startswith("vit") else {}
    return torchvision.models.get_model(name, weights=None, **arguments)


def run(blocks: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        for block in blocks:
            before = x._version
            result = block(x)
            assert x._version == before, "a block changes its input in place"
            x = result
    return x


@pytest.mark.parametrize(
    "name",
    # Cut as alexnet is, and large.
    [pytest.param(n, marks=pytest.mark.long) if n == "vgg11" else n for n in NETWORKS],
)
def test_chain_is_the_network_bit_for_bit(name):
    size = NETWORKS[name]
    shape = (3, size, size)
    whole = network(name, size).eval()
    total = network_cost(whole, shape)
    x = torch.randn(3, *shape)
    with torch.no_grad():
        expected = whole(x)
    blocks = cut(whole, shape, 6)
    assert len(blocks) == 6
    assert torch.equal(run(blocks, x), expected)
    costs = block_costs(blocks, shape)
    assert sum(cost.flops for cost in costs) == total.flops
    assert sum(cost.params for cost in costs) == total.params
    assert all(cost.flops > 0 for cost in costs)
    assert costs[-1].output_shape == (1000,)
    own = {id(p) for p in whole.parameters()} | {id(b) for b in whole.buffers()}
    used = {id(t) for block in blocks for t in [*block.parameters(), *block.buffers()]}
    assert used == own, "blocks must share the network's tensors"


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit_b_16"])
def test_gradients_flow_through_the_chain(name):
    size = NETWORKS[name]
    whole = network(name, size).eval()
    blocks = cut(whole, (3, size, size), 4)
    x = torch.randn(2, 3, size, size, requires_grad=True)
    (expected,) = torch.autograd.grad(whole(x).square().sum(), x)
    y = x
    for block in blocks:
        y = block(y)
    (found,) = torch.autograd.grad(y.square().sum(), x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v3_small", "resnet18"])
def test_cuts_minimise_the_largest_block(name):
    shape = (3, 64, 64)
    whole = network(name, 64)
    places = cut_places(whole, shape)
    total = network_cost(whole, shape).flops
    done = sorted({p.flops for p in places if 0 < p.flops < total})

    def stretches(cuts: tuple[int, ...]) -> list[int]:
        ends = [0, *cuts, total]
        return [b - a for a, b in itertools.pairwise(ends)]

    for count in (2, 4):
        best = min(
            (max(sizes), sum(s * s for s in sizes))
            for sizes in map(stretches, itertools.combinations(done, count - 1))
        )
        sizes = [cost.flops for cost in block_costs(cut(whole, shape, count), shape)]
        assert (max(sizes), sum(s * s for s in sizes)) == best


def test_places_are_where_one_tensor_crosses():
    places = cut_places(network("resnet18", 64), (3, 64, 64))
    names = [place.name for place in places]
    # After each residual block, never inside one.
    assert {"relu", "maxpool", "layer1_0_relu_1", "layer4_1_relu_1"} & set(names)
    assert not any(".conv" in name or ".bn" in name for name in names)
    assert [place.flops for place in places] == sorted(place.flops for place in places)
    maxpool = next(place for place in places if place.name == "maxpool")
    assert maxpool.shape == (64, 16, 16)
    assert maxpool.output_bytes == 64 * 16 * 16 * 4


def test_named_places_in_any_order():
    shape = (3, 64, 64)
    whole = network("resnet18", 64)
    blocks = cut(whole, shape, at=["layer3", "maxpool", "layer1"])
    costs = block_costs(blocks, shape)
    assert [cost.output_shape for cost in costs] == [
        (64, 16, 16),
        (64, 16, 16),
        (256, 4, 4),
        (1000,),
    ]
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(run(blocks, x), whole(x))
    assert len(cut(network("alexnet", 64), shape, at=["features.5", "flatten"])) == 3


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (["layer2.0.conv1"], "2 values cross there"),
        (["layer9"], "no place 'layer9'; close: layer"),
        (["bn1"], "changed in place afterwards"),
        (["fc"], "the end of the network"),
        (["layer2", "layer2.1"], "named already"),
        ([], "no place is named"),
    ],
)
def test_named_places_that_are_none(at, reason):
    with pytest.raises(CutError, match=reason):
        cut(network("resnet18", 64), (3, 64, 64), at=at)


def test_one_block_is_the_network():
    whole = network("resnet18", 32)
    (block,) = cut(whole, (3, 32, 32), 1)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(block(x), whole(x))


def test_more_blocks_than_places():
    with pytest.raises(CutError, match=r"into 99 blocks: it has 7 places .* 1 to 8 blocks"):
        cut(network("alexnet", 64), (3, 64, 64), 99)
    with pytest.raises(CutError, match="into 0 blocks"):
        cut(network("alexnet", 64), (3, 64, 64), 0)
    with pytest.raises(CutError, match="either"):
        cut(network("alexnet", 64), (3, 64, 64))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x), x


class Dense(nn.Module):
    """The input is needed to the end: nowhere does one tensor alone cross."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x) + x) + x


@pytest.mark.parametrize(
    ("module", "shape", "reason"),
    [
        (Branching(), (4,), r"cannot be traced \(torch\.fx: .*; torch\.export: "),
        (TwoInputs(), (4,), "it has 2 inputs"),
        (TwoOutputs(), (4,), "its output is a tuple"),
        (Dense(), (4,), "0 places"),
        (nn.Linear(3, 4), (5,), r"does not run on inputs of shape \(5,\)"),
    ],
)
def test_refusals_give_the_reason(module, shape, reason):
    with pytest.raises(CutError, match=reason):
        cut(module, shape, 2)


def test_too_small_images_are_refused_until_adapted():
    whole = network("alexnet", 64)
    with pytest.raises(CutError, match=r"does not run on inputs of shape \(3, 32, 32\)"):
        cut(whole, (3, 32, 32), 3)
    changed = adapt(
        whole,
        {
            "features.0": {"kernel_size": 5, "stride": 2, "padding": 2},
            "avgpool": {"output_size": 1},
            "classifier.1": {"in_features": 256},
        },
    )
    assert changed is whole
    blocks = cut(whole, (3, 32, 32), 4)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(run(blocks, x), whole(x))


def test_adapt_keeps_weights_that_keep_their_shape():
    whole = network("resnet18", 32)
    weight = whole.conv1.weight.detach().clone()
    adapt(whole, {"conv1": {"stride": 1}, "maxpool": None})
    assert whole.conv1.stride in (1, (1, 1))
    assert torch.equal(whole.conv1.weight, weight)
    assert whole.conv1.bias is None
    assert isinstance(whole.maxpool, nn.Identity)
    places = cut_places(whole, (3, 32, 32))
    assert next(p for p in places if p.name == "relu").shape == (64, 32, 32)


def test_adapt_keeps_device_and_precision():
    with torch.device("meta"):
        whole = network("resnet18", 32).double()
    adapt(whole, {"conv1": {"stride": 1}, "fc": {"out_features": 10}})
    for weight in (whole.conv1.weight, whole.fc.weight):
        assert (weight.device.type, weight.dtype) == ("meta", torch.float64)
    assert network_cost(whole.float(), (3, 32, 32)).output_shape == (10,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"maxpool": None, "conv7": None}, "no layer 'conv7'; close: conv1"),
        ({"maxpool": None, "conv1": {"strides": 1}}, "no argument 'strides'; it has in_channels"),
        ({"maxpool": None, "layer1": {"stride": 1}}, "layer 'layer1' is a Sequential"),
        ({"maxpool": None, "conv1": {"groups": 2}}, "layer 'conv1' .*divisible by groups"),
        ({"maxpool": None, "": None}, "no layer ''"),
    ],
)
def test_adapt_refuses_and_changes_nothing(changes, reason):
    whole = network("resnet18", 32)
    with pytest.raises(InputError, match=reason):
        adapt(whole, changes)
    assert isinstance(whole.maxpool, nn.MaxPool2d)
