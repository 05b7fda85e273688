"""What a GPU must do, run where one is: ``make gpu``.

``CODE_OPT_DEVICE=cpu`` runs those of them on a CPU that make sense there.
"""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from code_opt import load_instance, solve
from code_opt.evaluation import device as devices
from code_opt.evaluation.pipeline import Options, evaluate
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.evaluation.tuning import PathFits
from code_opt.networks import adapters
from code_opt.networks.adapters import Adapter, AdapterSpec
from code_opt.networks.images import Images, Normalization
from code_opt.networks.multitask import _equal
from code_opt.networks.stitching import (
    Activations,
    Step,
    Stitcher,
    StitchPlan,
    Trunk,
    split_images,
)
from code_opt.networks.timing import time_blocks
from code_opt.networks.training import (
    TrainingPlan,
    choose_device,
    fingerprint,
    freeze,
    seeded,
    train_network,
)

pytestmark = pytest.mark.gpu
DIGITS = Path(__file__).resolve().parents[1] / "data" / "digits" / "instance.json"
nn = torch.nn


@pytest.fixture(scope="module")
def device() -> str:
    asked = os.environ.get("CODE_OPT_DEVICE", "cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return choose_device(asked)


@pytest.fixture
def cuda(device: str) -> str:
    if device != "cuda":
        pytest.skip("only a GPU can tell")
    return device


@pytest.fixture(scope="module")
def subject() -> Subject:
    instance = load_instance(DIGITS)
    return Subject(instance, bundle_of(instance, DIGITS), DIGITS.parent / "none")


@pytest.fixture(scope="module")
def results(subject: Subject) -> dict:
    return {method: solve(subject.instance, method=method) for method in ("exact", "local")}


def images(count: int = 200, side: int = 12) -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    labels = (pixels.mean(axis=(1, 2, 3)) > 127.5).astype(np.int64)
    return Images(pixels, labels, ("dark", "light"))


def small_network() -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 2),
        )


# --- The same numbers, every time and on every device ----------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_graphs_answer_like_eager_runs(cuda, subject, results, dtype):
    """Every path, plain chain and native network of an assignment, on changed inputs too."""
    kind = devices.DTYPES[dtype]
    network = PathFits(subject, "cpu", fine_tune=False).network(results["exact"]).to(cuda, kind)
    for task in network.tasks:
        pixels = subject.images(task, "test").first(16)
        x = subject.inputs(task, pixels).to(cuda, kind)
        program = network.stream(task)
        with torch.inference_mode():
            side = devices._Side([(program.run, x)])
            replay = devices.captured(side)
            gc.collect()
            torch.cuda.empty_cache()
            junk = [torch.full((2**20,), float("nan"), device=cuda) for _ in range(64)]
            for turn in range(3):
                x.copy_(torch.roll(x, turn, dims=0))
                expected = program.run(x)
                found = replay()[0]
                torch.cuda.synchronize()
                for one, other in zip(found, expected, strict=True):
                    assert torch.equal(one, other)
            del junk


def test_float32_is_float32(cuda):
    x = torch.rand(4, 64, 32, 32, dtype=torch.float64)
    layer = nn.Conv2d(64, 64, 3).double()
    exact = layer(x)
    found = layer.float().to(cuda)(x.float().to(cuda)).double().cpu()
    # TensorFloat-32 would be off by some 1e-3.
    assert float((found - exact).abs().max()) < 1e-5


@pytest.mark.parametrize(("source", "target"), [((8, 5, 7), (4, 11, 9)), ((8, 11, 9), (4, 4, 5))])
def test_training_gives_the_same_adapters_again(device, source, target):
    """Resizing up and down, between sizes that do not divide each other."""

    def fitted() -> str:
        with seeded(0):
            adapter = Adapter(AdapterSpec("pointwise", source, target)).to(device)
            last = nn.Sequential(nn.Conv2d(4, 2, 3), nn.AvgPool2d(2), nn.Flatten()).to(device)
            x = torch.rand(64, *source).to(device).requires_grad_()
            optimizer = torch.optim.AdamW(adapter.parameters())
            for _ in range(5):
                loss = last(adapter(x)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return fingerprint([adapter])

    assert fitted() == fitted()


def test_a_service_is_trained_the_same_again(device):
    def trained() -> str:
        network = small_network()
        plan = TrainingPlan(epochs=2, batch=32, augmentation=("crop", "flip"))
        normalization = Normalization((0.5,) * 3, (0.25,) * 3)
        train_network(network, images(), normalization, plan, device=device)
        return fingerprint([network])

    assert trained() == trained()


def test_a_path_is_measured_the_same_again(device):
    blocks = tuple(_cut(small_network()))
    for block in blocks:
        freeze(block)
        block.to(device)
    trunk = Trunk("own", blocks, ((3, 12, 12), (8, 6, 6), (8, 4, 4), (2,)))
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    train, validation = images().split(50, seed=0)
    parts = split_images(train, validation, normalization, images=150, held_out=40, seed=0)
    plan = StitchPlan(80, 1e-3, 2, 32, 2e-3, 1e-4, 0.5, 2.0, half=False)
    step = Step("own/0", "own/2", AdapterSpec("pointwise", (8, 6, 6), (8, 4, 4)))

    def measured():
        one = Stitcher("own", Activations({"own": trunk}, parts, device), plan)
        fit = one.measure([("own", 0), ("own", 2)], [step], seed=0)
        return fit.accuracy, fit.closed_form, fingerprint(fit.adapters)

    assert measured() == measured()


def _cut(network: nn.Sequential) -> list[nn.Module]:
    return [network[:3], network[3:5], network[5:]]


def test_products_resize_like_torch_on_a_gpu(cuda):
    x = torch.rand(3, 4, 5, 9, device=cuda)
    for shape in ((4, 11, 4), (4, 3, 9), (4, 5, 13)):
        assert torch.allclose(
            adapters._resized_by_products(x, shape), adapters._resized(x, shape), atol=1e-6
        )


# --- Devices that differ, and memory that runs out -------------------------------------------


def test_modules_on_two_devices_are_compared(device):
    one = Adapter(AdapterSpec("pointwise", (3, 4, 4), (2, 4, 4)))
    other = Adapter(one.spec).to(device)
    other.load_state_dict(one.state_dict())
    assert _equal(one, other)
    with torch.no_grad():
        other.linear.bias.add_(1.0)
    assert not _equal(one, other)


def test_a_full_gpu_halves_the_batch(cuda, subject, results):
    """A batch that no GPU holds: halved until it fits, everything else as ever."""
    task = "digit"
    network = PathFits(subject, cuda, fine_tune=False).network(results["local"]).to(cuda)
    some = subject.images(task, "test").first(64)
    expected = subject.answers(network.path(task), task, some, cuda)

    class Greedy(nn.Module):
        def forward(self, x):
            torch.empty(len(x) * 2**33, dtype=torch.uint8, device=cuda)  # 8 GiB per image
            return network.path(task)(x)

    assert np.array_equal(subject.answers(Greedy(), task, some, cuda), expected)


def test_times_are_those_of_the_device(cuda):
    light, heavy = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 512, 7, padding=3)
    blocks = [light.to(cuda).eval(), heavy.to(cuda).eval()]
    found = time_blocks(blocks, (8, 64, 64), batches=(64,), device=cuda, seconds=0.05)
    assert 0.0 < found[0].median < found[1].median


# --- Everything together ---------------------------------------------------------------------


def test_digits_are_evaluated(device, subject, results):
    options = Options(device=device, seconds=0.3, feeds=("rates",))
    on_device = evaluate(subject, results, options)
    on_cpu = evaluate(subject, results, replace(options, device="cpu", feeds=()))
    for one, other in zip(on_device.results, on_cpu.results, strict=True):
        assert one.refused == ()
        assert one.accuracy == pytest.approx(other.accuracy, abs=0.005)
        assert one.device is not None
        assert one.device.mode == ("CUDA graph" if device == "cuda" else "eager")
