"""Memory that runs out: halved batches, activations within a ceiling, and what a GPU is told."""

from __future__ import annotations

import os
import weakref
from itertools import count

import pytest

torch = pytest.importorskip("torch")

from code_opt.evaluation import device as devices
from code_opt.networks import adapters, timing
from code_opt.networks.adapters import Adapter, AdapterSpec
from code_opt.networks.memory import ActivationMemory, halving, room
from code_opt.networks.threads import reproducible, use_exact_cuda

nn = torch.nn


# --- Batches --------------------------------------------------------------------------------


def test_a_batch_is_halved_until_it_fits():
    asked = []

    def action(batch: int) -> str:
        asked.append(batch)
        if batch > 5:
            raise torch.OutOfMemoryError("no room")
        return f"done with {batch}"

    assert halving(action, 40) == ("done with 5", 3)
    assert asked == [40, 20, 10, 5]


def test_not_even_one_fits():
    def action(batch: int) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        halving(action, 8)


def test_what_a_failed_try_made_is_gone_before_the_next_one():
    made = []

    def action(batch: int) -> bool:
        alive = [one() for one in made if one() is not None]
        tensor = torch.empty(batch)
        made.append(weakref.ref(tensor))
        if batch > 1:
            raise torch.OutOfMemoryError("no room")
        return not alive

    assert halving(action, 4) == (True, 2)


# --- Activations ----------------------------------------------------------------------------


def test_the_least_recently_used_go_first():
    memory = ActivationMemory(memory=4000, disk=0)
    for key in "abcd":
        memory.make(key, (250,))
    assert memory.get("a") is not None
    memory.make("e", (250,))
    assert [key in memory for key in "abcde"] == [True, False, True, True, True]
    assert memory.get("b") is None
    assert memory.held(on_disk=False) == 4000


def test_large_ones_lie_in_files_without_names(tmp_path):
    memory = ActivationMemory(memory=4000, disk=10_000, folder=tmp_path)
    large = memory.make("large", (2, 3, 10, 10))
    large.copy_(torch.arange(600.0).reshape(2, 3, 10, 10))
    assert large.is_contiguous(memory_format=torch.channels_last)
    assert (memory.held(on_disk=False), memory.held(on_disk=True)) == (0, 2400)
    assert torch.equal(memory.get("large"), torch.arange(600.0).reshape(2, 3, 10, 10))
    assert list(tmp_path.iterdir()) == []
    small = memory.make("small", (10,))
    assert (memory.held(on_disk=False), memory.held(on_disk=True)) == (small.nbytes, 2400)
    memory.make("another", (2, 3, 20, 20))  # 9,600 bytes: the first one goes
    assert memory.get("large") is None
    assert memory.held(on_disk=True) == 9600


def test_a_key_made_again_counts_once():
    memory = ActivationMemory(memory=4000)
    memory.make("a", (100,))
    memory.make("a", (100,))
    assert memory.held(on_disk=False) == 400
    memory.drop("a")
    assert memory.held(on_disk=False) == 0


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 6, 7), (2, 9)])
def test_room_has_the_shape_asked_for(shape):
    assert room(shape).shape == shape


@pytest.mark.parametrize("kind", ["pointwise", "low-rank", "conv3", "separable", "resize"])
def test_a_fit_in_parts_is_the_fit(kind, monkeypatch):
    spec = AdapterSpec(kind, (8, 6, 6), (8, 4, 4))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(90, *shape, generator=generator) for shape in (spec.source, spec.target))
    y[:, :2] += x[:, :2, :4, :4]
    whole, parts = Adapter(spec).eval(), Adapter(spec).eval()
    explained = whole.fit(x, y, 1e-3)
    monkeypatch.setattr(adapters, "_MOST_NUMBERS", 20_000)  # seven images at once
    assert parts.fit(x, y, 1e-3) == pytest.approx(explained, abs=1e-9)
    with torch.no_grad():
        assert torch.allclose(whole(x), parts(x), atol=1e-5)


# --- What a GPU is told, as far as a CPU can tell ---------------------------------------------


@pytest.mark.parametrize("shape", [(4, 11, 4), (4, 3, 9), (4, 5, 13), (4, 2, 2), (4, 5, 9)])
def test_maps_are_resized_by_products_as_by_torch(shape):
    x = torch.rand(3, 4, 5, 9)
    found = adapters._resized_by_products(x, shape)
    assert torch.allclose(found, adapters._resized(x, shape), atol=1e-6)


@pytest.mark.parametrize("length", [3, 7, 16])
def test_tokens_are_resized_by_products_as_by_torch(length):
    x = torch.rand(3, 7, 5)
    found = adapters._resized_by_products(x, (length, 5))
    assert torch.allclose(found, adapters._resized(x, (length, 5)), atol=1e-6)


def test_training_on_a_gpu_asks_for_deterministic_algorithms_and_no_longer():
    before = torch.get_deterministic_debug_mode()
    with reproducible("cuda"):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_deterministic_debug_mode() == before
    with reproducible("cpu"):
        assert torch.get_deterministic_debug_mode() == before


def test_float32_is_not_tensorfloat(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    use_exact_cuda()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def sides(number: int = 3) -> dict[tuple[int, str], devices._Side]:
    return {(k, "path"): devices._Side([(nn.Identity(), torch.ones(k + 1))]) for k in range(number)}


def test_either_all_runs_are_graphs_or_none(monkeypatch):
    monkeypatch.setattr(devices, "captured", lambda side: devices.Replay(None, side, None))
    runs, mode = devices._runners(sides(), "cuda")
    assert mode == "CUDA graph"
    assert all(isinstance(run, devices.Replay) for run in runs.values())

    def fails(side):
        if len(side.calls[0][1]) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return devices.Replay(None, side, None)

    monkeypatch.setattr(devices, "captured", fails)
    runs, mode = devices._runners(sides(), "cuda")
    assert mode == "eager"
    assert all(isinstance(run, devices._Side) for run in runs.values())


def test_memory_that_runs_out_while_capturing_is_told(monkeypatch):
    def full(side):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(devices, "captured", full)
    with pytest.raises(torch.OutOfMemoryError):
        devices._runners(sides(), "cuda")


def test_a_graph_keeps_what_it_reads():
    class Graph:
        def replay(self) -> None: ...

    x = torch.ones(3)
    replay = devices.Replay(Graph(), devices._Side([(nn.Identity(), x)]), [x * 2])
    alive = weakref.ref(x)
    del x
    assert alive() is not None
    assert torch.equal(replay()[0], 2 * torch.ones(3))


def test_short_runs_on_a_gpu_are_timed_many_in_a_row(monkeypatch):
    """Launching takes 1 ms of this clock once, a run 0.1 ms of the device."""
    runs = count()
    ran = lambda: next(runs)  # noqa: E731

    class Event:
        def __init__(self, enable_timing: bool) -> None: ...

        def record(self) -> None:
            self.at = next(runs)

        def synchronize(self) -> None: ...

        def elapsed_time(self, other) -> float:
            return 0.1 * (other.at - self.at - 1)  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    row = timing.in_a_row(ran, "cuda")
    assert row == 20  # 2 ms
    before = next(runs)
    assert timing.timed(ran, "cuda", row) == pytest.approx(1e-4)
    assert next(runs) - before == row + 3  # the runs, two events, and this look


def test_layout_of_weights_does_not_decide(monkeypatch):
    """Blocks are timed channels last, however their weights came, and stay as they are."""
    layer = nn.Conv2d(3, 4, 3)
    seen = []

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x):
            seen.append(self.layer.weight.is_contiguous(memory_format=torch.channels_last))
            return self.layer(x)

    timing.time_blocks([Looks()], (3, 8, 8), batches=(1,), seconds=0.0)
    assert seen
    assert all(seen)
    assert layer.weight.is_contiguous()
