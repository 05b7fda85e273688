"""The executed network: shared, frozen, nothing copied, exportable."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.networks.bundle import Bundle
from code_opt.networks.multitask import MultiTaskNetwork, TaskPath

DIGITS = Path(__file__).resolve().parents[2] / "data" / "digits" / "bundle"
PATHS = {
    # Both lead through mobilenet/0 and alexnet/3.
    "digit": ["alexnet/0", "mobilenet/1", "mobilenet/2", "alexnet/3"],
    "parity": ["mobilenet/0", "mobilenet/1", "mobilenet/2", "mobilenet/3"],
}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle(DIGITS)


def path_of(bundle: Bundle, task: str, blocks: list[str]) -> TaskPath:
    places = [(b.rpartition("/")[0], int(b.rpartition("/")[2])) for b in blocks]
    return TaskPath(
        task, bundle.tasks[task].dnn, tuple(places), tuple(bundle.adapters(task, blocks))
    )


def network_of(bundle: Bundle, paths=PATHS) -> MultiTaskNetwork:
    return MultiTaskNetwork(bundle.trunks, [path_of(bundle, t, b) for t, b in paths.items()])


def storages(module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in module.state_dict().values() if t.numel()}


def test_blocks_are_shared_without_copies(bundle):
    network = network_of(bundle)
    used = {("alexnet", 0), ("alexnet", 3), *(("mobilenet", k) for k in range(4))}
    assert len(network.blocks) == len(used)
    in_trunks = set().union(*(storages(bundle.trunks[d].blocks[k]) for d, k in used))
    in_adapters = storages(network.adapters)
    assert storages(network) == in_trunks | in_adapters
    assert in_trunks.isdisjoint(in_adapters)
    # The same module on both paths, not an equal one.
    first, second = network.parts("digit"), network.parts("parity")
    shared = bundle.trunks["mobilenet"].blocks[1]
    assert any(part is shared for part in first)
    assert any(part is shared for part in second)


def test_a_change_of_a_shared_block_shows_in_all_tasks(bundle):
    network = network_of(Bundle(DIGITS))
    x = torch.rand(2, 3, 16, 16)
    before = network(x, x)
    with torch.no_grad():
        next(network.parts("parity")[1].parameters()).add_(1.0)
    after = network(x, x)
    assert not torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_everything_is_frozen(bundle):
    network = network_of(bundle)
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())


def test_it_answers_like_the_chains_of_its_parts(bundle):
    network = network_of(bundle)
    a, b = torch.rand(3, 3, 16, 16), torch.rand(5, 3, 16, 16)
    with torch.inference_mode():
        digit, parity = network(a, b)
        assert digit.shape == (3, 10)
        assert parity.shape == (5, 2)
        assert torch.equal(digit, network.path("digit")(a))
        value = b
        for block in bundle.trunks["mobilenet"].blocks:
            value = block(value)
        assert torch.equal(parity, value)


def test_it_can_be_exported(bundle):
    network = network_of(bundle)
    x = torch.rand(2, 3, 16, 16)
    program = torch.export.export(network, (x, x))
    with torch.inference_mode():
        for one, other in zip(program.module()(x, x), network(x, x), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_it_can_be_saved_and_loaded_by_its_state(bundle):
    network, other = network_of(bundle), network_of(Bundle(DIGITS))
    other.load_state_dict(network.state_dict())


def test_wrong_uses_are_refused(bundle):
    path = path_of(bundle, "digit", PATHS["digit"])
    with pytest.raises(InputError, match="a task stands there twice"):
        MultiTaskNetwork(bundle.trunks, [path, path])
    with pytest.raises(ValueError, match="1 inputs for 2 streams"):
        network_of(bundle)(torch.rand(1, 3, 16, 16))
    broken = TaskPath("digit", "alexnet", (("alexnet", 0), ("alexnet", 3)), ())
    with pytest.raises(InputError, match="no connection leads"):
        MultiTaskNetwork(bundle.trunks, [broken])
