"""Adapters: shapes, closed forms against what is known, costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.networks.adapters import KINDS, Adapter, AdapterSpec, adapter_costs, adapter_kinds

MAPS = [(8, 6, 6), (8, 3, 3), (12, 6, 5), (5, 9, 9), (8, 1, 1)]
TOKENS = [(10, 8), (6, 8), (10, 5)]
VECTORS = [(7,), (4,)]
TINY = 1e-9


def noise(shape: tuple[int, ...], count: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))


def fitted(kind, source, target, x, y, ridge=TINY) -> tuple[Adapter, float]:
    adapter = Adapter(AdapterSpec(kind, source, target)).eval()
    return adapter, adapter.fit(x, y, ridge)


def pairs() -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
    return [
        (source, target, kind)
        for source, target in itertools.product([*MAPS, *TOKENS, *VECTORS], repeat=2)
        for kind in adapter_kinds(source, target)
    ]


def test_every_kind_appears():
    assert {kind for _, _, kind in pairs()} == set(KINDS)


@pytest.mark.parametrize(("source", "target", "kind"), pairs())
def test_outputs_have_the_shape_of_the_target(source, target, kind):
    x, y = noise(source, 30), noise(target, 30, seed=1)
    adapter, explained = fitted(kind, source, target, x, y, ridge=1e-2)
    assert adapter(x).shape == (30, *target)
    assert torch.isfinite(adapter(x)).all()
    assert explained <= 1.0
    if kind != "resize":
        assert explained >= 0.0  # the mean alone explains nothing; a fit is no worse


@pytest.mark.parametrize(
    ("source", "target"),
    [((7,), (3, 4, 4)), ((7,), (5, 6)), ((10, 8), (3, 4, 4)), ((3, 4, 4), (10, 8))],
)
def test_nothing_leads_back_to_maps_or_tokens(source, target):
    assert adapter_kinds(source, target) == ()
    with pytest.raises(InputError, match="no adapter of kind"):
        Adapter(AdapterSpec("pointwise", source, target))


def test_resize_needs_the_same_channels():
    assert "resize" in adapter_kinds((3, 8, 8), (3, 4, 4))
    assert "resize" not in adapter_kinds((4, 8, 8), (3, 4, 4))


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [
        ("pointwise", (6, 4, 4), (5, 4, 4)),
        ("pointwise", (9, 6), (9, 5)),
        ("linear", (6,), (5,)),
        ("linear", (6, 4, 4), (5,)),
        ("linear-grid", (6, 4, 4), (5,)),
        ("linear", (9, 6), (5,)),
        ("conv3", (3, 5, 5), (4, 5, 5)),
        ("separable", (6, 4, 4), (5, 4, 4)),
    ],
)
def test_the_closed_form_finds_a_map_of_its_own_kind(kind, source, target):
    truth = Adapter(AdapterSpec(kind, source, target)).eval()
    if kind == "separable":  # its depthwise part is the identity in closed form
        with torch.no_grad():
            truth.linear[0].weight.zero_()
            truth.linear[0].weight[:, 0, 1, 1] = 1.0
    x = noise(source, 200)
    with torch.no_grad():
        y = truth(x)
    adapter, explained = fitted(kind, source, target, x, y)
    assert explained == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(adapter(x), y, atol=1e-4)
    fresh = noise(source, 20, seed=9)
    assert torch.allclose(adapter(fresh), truth(fresh), atol=1e-4)


def test_the_closed_form_is_ridge_regression():
    x, y = noise((6,), 50), noise((4,), 50, seed=1)
    adapter, explained = fitted("linear", (6,), (4,), x, y, ridge=0.3)
    a, b = x.double().numpy(), y.double().numpy()
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    penalty = 0.3 * np.mean(np.sum(a0**2, axis=0))
    weight = np.linalg.solve(a0.T @ a0 + penalty * np.eye(6), a0.T @ b0)
    assert adapter.linear.weight.detach().numpy() == pytest.approx(weight.T, abs=1e-6)
    left = b0 - a0 @ weight
    assert explained == pytest.approx(1.0 - np.sum(left**2) / np.sum(b0**2), abs=1e-6)


def test_low_rank_is_the_best_map_of_its_rank():
    source, target = (8, 4, 4), (8, 4, 4)
    x = noise(source, 100)
    basis = torch.linalg.qr(noise((8, 8), 1)[0])[0]
    weight = basis[:, :2] @ torch.diag(torch.tensor([3.0, 2.0])) @ basis[:2, :]
    y = torch.einsum("oc,nchw->nohw", weight, x)
    adapter, explained = fitted("low-rank", source, target, x, y)
    assert explained == pytest.approx(1.0, abs=1e-6)  # rank 2 of 8: a quarter
    assert torch.allclose(adapter(x), y, atol=1e-3)
    full = noise(target, 100, seed=2)
    best, found = (
        fitted("pointwise", source, target, x, full),
        fitted("low-rank", source, target, x, full),
    )
    assert 0.0 <= found[1] <= best[1]


def test_with_relu_the_start_is_the_same_map_cut_at_zero():
    source, target = (6, 4, 4), (5, 4, 4)
    x, y = noise(source), noise(target, seed=1)
    plain = fitted("pointwise", source, target, x, y)[0](x)
    for kind in ("pointwise-relu", "pointwise-norm-relu"):
        got = fitted(kind, source, target, x, y)[0](x)
        assert torch.allclose(got, plain.relu(), atol=1e-5), kind


def test_constant_activations_do_not_break_the_closed_form():
    x, y = torch.ones((20, 6)), noise((4,), 20)
    adapter, explained = fitted("linear", (6,), (4,), x, y, ridge=1e-3)
    assert torch.allclose(adapter(x), y.mean(dim=0).expand(20, 4), atol=1e-5)
    assert explained == pytest.approx(0.0, abs=1e-9)


def test_resizing_averages_down_and_interpolates_up():
    down = Adapter(AdapterSpec("resize", (2, 4, 4), (2, 2, 2)))
    x = noise((2, 4, 4), 3)
    assert torch.allclose(down(x), torch.nn.functional.avg_pool2d(x, 2))
    up = Adapter(AdapterSpec("resize", (2, 2, 2), (2, 4, 4)))
    assert torch.allclose(up(torch.full((1, 2, 2, 2), 3.0)), torch.full((1, 2, 4, 4), 3.0))


def test_pointwise_maps_run_at_the_smaller_size_and_cost_so():
    small = adapter_costs(AdapterSpec("pointwise", (8, 4, 4), (16, 4, 4)))
    assert small.flops == 2 * 8 * 16 * 4 * 4
    assert small.params == 8 * 16 + 16
    for source, target in (((8, 8, 8), (16, 4, 4)), ((8, 4, 4), (16, 8, 8))):
        assert adapter_costs(AdapterSpec("pointwise", source, target)) == small


@pytest.mark.parametrize(
    ("kind", "flops", "params"),
    [
        ("conv3", 2 * 9 * 8 * 16 * 16, 9 * 8 * 16 + 16),
        ("separable", 2 * 16 * (9 * 8 + 8 * 16), 9 * 8 + 8 * 16 + 16),
        ("low-rank", 2 * 16 * (8 * 2 + 2 * 16), 8 * 2 + 2 * 16 + 16),
        ("resize", 0, 0),
    ],
)
def test_costs_by_hand(kind, flops, params):
    target = (8 if kind == "resize" else 16, 4, 4)
    cost = adapter_costs(AdapterSpec(kind, (8, 4, 4), target))
    assert (cost.flops, cost.params) == (flops, params)


def test_heads_by_hand():
    assert adapter_costs(AdapterSpec("linear", (8, 4, 4), (10,))).flops == 2 * 8 * 10
    assert adapter_costs(AdapterSpec("linear-grid", (8, 4, 4), (10,))).flops == 2 * 32 * 10
    assert adapter_kinds((8, 1, 1), (10,)) == ("linear",)


def test_low_rank_is_fitted_to_fewer_rows_than_its_rank():
    adapter = Adapter(AdapterSpec("low-rank", (16, 1, 1), (16, 1, 1)))
    x, y = torch.randn(2, 16, 1, 1), torch.randn(2, 16, 1, 1)  # rank 4
    assert adapter.fit(x, y, 1e-6) > 0.99
    assert torch.allclose(adapter.eval()(x), y, atol=1e-2)
