"""Networks of all kinds, traced and cut: sizes, defaults, control flow, and what is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from code_opt.networks import blocks as cutting
from code_opt.networks.blocks import CutError, cut, cut_places
from code_opt.networks.graphs import traced_by_export
from tests.profiling.own import Patches

nn = torch.nn


def assert_cut(network: nn.Module, shape: tuple[int, ...], count: int) -> list[nn.Module]:
    """Cut, and compare with the network bit for bit for several sizes of batch."""
    found = cut(network.eval(), shape, count)
    own = {id(p) for p in network.parameters()}
    assert all(id(p) in own for block in found for p in block.parameters())
    for batch in (1, 2, 5):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            value = x
            for block in found:
                value = block(value)
            assert torch.equal(value, network(x)), batch
    return found


class Late(nn.Module):
    """Reads the shape of its input where it is used, at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.c = nn.Linear(4 * 12 * 12, 5)

    def forward(self, x):
        y = self.b(self.a(x).relu()).relu()
        return self.c(y.reshape(x.shape[0], x.size(1) + 1, -1).reshape(x.size(0), -1))


class Views(nn.Module):
    """Takes a view of a convolution's output, as plain tutorials do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.c = nn.Linear(4 * 12 * 12, 5)

    def forward(self, x):
        y = self.b(self.a(x).relu()).relu()
        return self.c(y.view(y.size(0), -1))


class Heads(nn.Module):
    """Folds heads into the batch and back, as attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x):
        n, length, _ = x.shape
        y = self.a(x).reshape(n * 2, length, 4)
        y = self.b(y).reshape(n, length, 8)
        return self.c(y + x).mean(dim=1)


class Branches(nn.Module):
    """Ordinary code looks at a size that torch.fx does not know while it traces."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError("three channels")
        y = self.b(self.a(x).relu()) * self.scale
        y = y + torch.arange(4.0, device=x.device).view(1, 4, 1, 1)
        return self.c(y.mean(dim=(2, 3)))


class Looks(nn.Module):
    """What is computed depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.a(-x)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)

    def forward(self, x, y):
        return self.a(x) + self.a(y)


@pytest.mark.parametrize("traced", ["fx", "export"])
def test_views_take_activations_that_lie_channels_last(traced: str, monkeypatch) -> None:
    """The network itself would refuse them; every block of ours hands them on so."""
    if traced == "export":
        monkeypatch.setattr(cutting, "traced_by_fx", traced_by_export)
    network = Views().eval()
    found = assert_cut(network, (3, 16, 16), 2)
    x = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), pytest.raises(RuntimeError, match="view size is not compatible"):
        network(x)
    with torch.no_grad():
        value = x
        for block in found:
            value = block(value)
        assert torch.allclose(value, network(x.contiguous()), atol=1e-5)


def test_a_size_that_is_read_late_crosses_no_cut():
    assert [place.name for place in cut_places(Late().eval(), (3, 16, 16))][:4] == [
        "a",
        "relu",
        "b",
        "relu_1",
    ]
    assert_cut(Late(), (3, 16, 16), 3)


def test_sizes_that_grow_with_the_batch_are_read_from_what_arrives():
    names = [place.name for place in cut_places(Heads().eval(), (6, 8))]
    assert "add" in names
    assert_cut(Heads(), (6, 8), 2)


def test_arguments_with_defaults_are_bound_to_them():
    network = Patches(3)
    assert [p.name for p in cut_places(network.eval(), (3, 16, 16))][:2] == ["first", "norm"]
    assert_cut(network, (3, 16, 16), 3)


def test_what_torch_fx_cannot_trace_is_exported_for_any_batch(monkeypatch):
    asked = []

    def counted(*arguments):
        asked.append(1)
        return traced_by_export(*arguments)

    monkeypatch.setattr(cutting, "traced_by_export", counted)
    assert_cut(Branches(), (3, 12, 12), 3)
    assert asked
    # Places have the names of modules there, too; nothing of the graph names a device.
    names = [place.name for place in cut_places(Branches().eval(), (3, 12, 12))]
    assert {"a", "b"} <= set(names)
    found = cut(Branches().eval(), (3, 12, 12), at=["a"])
    assert all("device" not in str(block.code) for block in found)


def test_gradients_flow_through_exported_blocks():
    found = assert_cut(Branches(), (3, 12, 12), 2)
    x = torch.randn(2, 3, 12, 12, requires_grad=True)
    value = x
    for block in found:
        value = block(value)
    value.sum().backward()
    assert float(x.grad.abs().sum()) > 0.0


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Looks(), r"cannot be traced \(torch\.fx: .*control flow; torch\.export: .*data-dependent"),
        (Pair(), r"it has 2 inputs \(x, y\), a chain has 1"),
    ],
    ids=["looks", "pair"],
)
def test_refusals_say_why(network, reason):
    with pytest.raises(CutError, match=reason):
        cut_places(network.eval(), (3, 8, 8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_by_name():
    with pytest.raises(CutError, match="TorchScript hides its operations"):
        cut_places(torch.jit.script(nn.Conv2d(3, 4, 3)), (3, 8, 8))
