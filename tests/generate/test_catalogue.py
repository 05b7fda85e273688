"""The committed catalogue: it is what its script makes, and its curves meet the measurements."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path

import pytest

from code_opt.errors import InputError
from code_opt.generate.catalogue import FILE, adapter_cost, catalogue

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(3, 224, 224), (64, 56, 56), (512, 7, 7), (1024, 1, 1), (4096,), (100,)]


def script():
    pytest.importorskip("code_opt.networks.compat", exc_type=InputError)
    spec = importlib.util.spec_from_file_location("make_catalogue", ROOT / "data/make_catalogue.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_drops_and_errors_are_those_of_the_data():
    module = script()
    data = json.loads(FILE.read_text())
    own, pairs = module.drops()
    assert (data["own"], data["pairs"]) == (own, pairs)
    assert data["errors"] == module.errors()


@pytest.mark.long
def test_the_catalogue_is_what_its_script_makes():
    assert FILE.read_text() == script().text()


def test_networks_are_whole_at_both_sizes():
    for images in (224, 32):
        networks = catalogue().of_size(images)
        assert len(networks) == 15
        for network in networks:
            assert sorted(network.cuts) == list(range(2, 9))
            for count, blocks in network.cuts.items():
                assert len(blocks) == count
                assert sum(block.flops for block in blocks) == network.flops
                assert all(block.flops > 0 for block in blocks)
                assert blocks[-1].shape == (catalogue().classes,)
    by_name = {network.architecture: network for network in catalogue().of_size(224)}
    assert by_name["resnet18"].flops == pytest.approx(3.63e9, rel=0.01)  # 1.81 GMAC published


def test_adapters_cost_what_the_networks_layer_says():
    pytest.importorskip("code_opt.networks.compat", exc_type=InputError)
    from code_opt.networks.cost import adapter_cost as counted

    for source, target in itertools.product(SHAPES, SHAPES):
        try:
            cost = counted(source, target)
        except InputError:
            assert adapter_cost(source, target) is None
        else:
            assert adapter_cost(source, target) == (cost.flops, cost.params)


def test_curves_meet_the_measured_drops():
    for own in catalogue().own:
        for start, end, drop in own.skips:
            assert own.skip(start, end) == pytest.approx(drop)
        for depth, drop in own.exits:
            assert own.exit(depth) == pytest.approx(drop)
        assert own.skip(0.3, 0.3) == 0.0
    for pair in catalogue().pairs:
        for points, curve in ((pair.out, pair.leave), (pair.back, pair.come_back)):
            for depth, drop in points:
                assert curve(depth) == pytest.approx(drop)
        (_, first), (_, second), _ = pair.exits
        assert pair.exit(0.375) == pytest.approx((first + second) / 2)


def test_errors_are_quantiles():
    errors = catalogue().errors
    assert list(errors) == sorted(errors)
    assert catalogue().error(0.0) == errors[0]
    assert catalogue().error(0.5) == pytest.approx(errors[20])
    assert errors[0] <= catalogue().error(1 - 2**-53) <= errors[-1]
