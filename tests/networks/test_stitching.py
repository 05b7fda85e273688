"""Paths through frozen networks: what is kept, fitted, trained and measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.networks import stitching
from code_opt.networks.adapters import AdapterSpec
from code_opt.networks.images import Images, Normalization
from code_opt.networks.memory import ActivationMemory
from code_opt.networks.stitching import (
    PARTS,
    Activations,
    PathProgram,
    Step,
    Stitcher,
    StitchPlan,
    TaskImages,
    Trunk,
    split_images,
)
from code_opt.networks.training import fingerprint, freeze, seeded

nn = torch.nn
PLAN = StitchPlan(
    calibration=200,
    ridge=1e-6,
    epochs=2,
    batch=32,
    learning_rate=5e-3,
    weight_decay=0.0,
    distillation=0.5,
    temperature=2.0,
    half=False,
)


def trunk(name: str, seed: int, classes: int, channels: int = 8) -> Trunk:
    """Return a small network of three blocks, the second of which changes nothing."""
    with seeded(seed):
        blocks = (
            nn.Sequential(
                nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
            ),
            nn.Sequential(nn.Dropout(0.5), nn.Identity()),
            nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes)),
        )
    for block in blocks:
        freeze(block)
    return Trunk(name, blocks, ((3, 6, 6), (channels, 6, 6), (channels, 6, 6), (classes,)))


def images_of(teacher: Trunk, count: int = 700, seed: int = 0) -> Images:
    """Return noise labelled by a network itself: it is right about nine in ten."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3, 6, 6), dtype=np.uint8)
    with torch.no_grad():
        value = Normalization((0.5,) * 3, (0.25,) * 3)(torch.from_numpy(pixels))
        for block in teacher.blocks:
            value = block(value)
    labels = value.argmax(dim=1).numpy()
    wrong = rng.random(count) < 0.1
    classes = value.shape[1]
    labels = np.where(wrong, rng.integers(0, classes, count), labels).astype(np.int64)
    return Images(pixels, labels, tuple(map(str, range(classes))))


@pytest.fixture(scope="module")
def world() -> tuple[dict[str, Trunk], TaskImages]:
    trunks = {"own": trunk("own", 1, 4), "other": trunk("other", 2, 6, channels=5)}
    images = images_of(trunks["own"])
    train, validation = images.split(200, seed=0)
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    parts = split_images(train, validation, normalization, images=450, held_out=100, seed=0)
    return trunks, parts


def stitcher(world, **changes) -> Stitcher:
    trunks, parts = world
    return Stitcher("own", Activations(trunks, parts), replace(PLAN, **changes))


def step(source: str, target: str, kind: str, *shapes: tuple[int, ...]) -> Step:
    return Step(source, target, AdapterSpec(kind, *shapes))


SKIP = step("own/0", "own/2", "pointwise", (8, 6, 6), (8, 6, 6))
EXIT = step("own/0", "output", "linear-grid", (8, 6, 6), (4,))
THERE = step("own/0", "other/1", "pointwise", (8, 6, 6), (5, 6, 6))
BACK = step("other/1", "own/2", "pointwise", (5, 6, 6), (8, 6, 6))
ENTRY = step("input", "other/0", "resize", (3, 6, 6), (3, 6, 6))
LEAVE = step("other/0", "output", "linear", (5, 6, 6), (4,))
PATHS = {
    "skip": ([("own", 0), ("own", 2)], [SKIP]),
    "exit": ([("own", 0)], [EXIT]),
    "borrow": ([("own", 0), ("other", 1), ("own", 2)], [THERE, BACK]),
    "entry": ([("other", 0)], [ENTRY, LEAVE]),
}


# --- What is kept ---------------------------------------------------------------------------


def test_every_block_answers_once(world):
    one = stitcher(world)
    for _ in range(2):
        for blocks, steps in PATHS.values():
            one.measure(blocks, steps, seed=0)
    images = sum(len(world[1].part(p)) for p in PARTS)
    # own: three blocks (its answers teach), other: its first block, and the second's target
    assert one.activations.block_runs <= images * 5


def test_answers_are_those_of_the_blocks(world):
    trunks, parts = world
    kept = Activations(trunks, parts)
    value = parts.normalization(torch.from_numpy(parts.validation.pixels))
    for k, block in enumerate(trunks["own"].blocks):
        assert torch.equal(kept.into("own", k, "validation"), value)
        with torch.no_grad():
            value = block(value)
    assert torch.allclose(kept.into("own", 3, "validation"), value, atol=1e-6)


def test_little_memory_changes_times_only(world, tmp_path):
    trunks, parts = world
    memory = ActivationMemory(100_000, 200_000, tmp_path)
    tight = Activations(trunks, parts, memory=memory)
    little = Stitcher("own", tight, PLAN)
    for blocks, steps in PATHS.values():
        a, b = little.measure(blocks, steps, seed=3), stitcher(world).measure(blocks, steps, seed=3)
        assert (a.closed_form, a.tuned, a.held_out) == (b.closed_form, b.tuned, b.held_out)
    assert 0 < memory.held(on_disk=False) <= 100_000
    assert 0 < memory.held(on_disk=True) <= 600_000
    assert list(tmp_path.iterdir()) == []
    images = sum(len(parts.part(p)) for p in PARTS)
    assert tight.block_runs > images * 5


def test_images_of_another_size_are_brought_to_the_trunk(world):
    trunks, parts = world
    big = Trunk("big", trunks["own"].blocks, ((3, 12, 12), *trunks["own"].shapes[1:]))
    kept = Activations({**trunks, "big": big}, parts)
    assert kept.into("big", 0, "fit").shape[1:] == (3, 12, 12)


def test_images_of_other_channels_are_refused(world):
    trunks, parts = world
    grey = Trunk("grey", trunks["own"].blocks, ((1, 6, 6), *trunks["own"].shapes[1:]))
    with pytest.raises(InputError, match="cannot feed grey"):
        Activations({**trunks, "grey": grey}, parts).into("grey", 0, "fit")


def test_times_add_up_from_the_images_on(world, monkeypatch):
    clock = count()
    monkeypatch.setattr(stitching.time, "perf_counter", lambda: next(clock))
    one = stitcher(world)
    # Every stretch is timed by two looks at a clock that goes on by 1 s each.
    assert [one.activations.seconds_into("own", k, "fit") for k in range(4)] == [1, 2, 3, 4]
    assert one.uncached_seconds("own", 2) == 3 * (one.plan.epochs + 2 * 2)


@pytest.mark.parametrize(
    ("path", "beginning"),
    [("skip", ("own", 1)), ("exit", ("own", 1)), ("borrow", ("own", 1)), ("entry", ("other", 1))],
)
def test_beginnings_end_at_the_first_adapter_to_be_trained(world, path, beginning):
    assert stitcher(world).beginning(*PATHS[path]) == beginning


# --- Programs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "steps", "message"),
    [
        ([("own", 0), ("own", 2)], [], "no connection leads from own/0 to own/2"),
        ([("other", 0)], [LEAVE], "no connection leads from input to other/0"),
        ([("own", 0)], [], "no connection leads from own/0 to output"),
        ([("own", 0), ("own", 1), ("own", 2)], [SKIP], "does not lie on the path"),
    ],
)
def test_paths_that_do_not_hang_together(world, blocks, steps, message):
    with pytest.raises(InputError, match=message):
        PathProgram(world[0], "own", blocks, steps)


# --- Measuring ------------------------------------------------------------------------------


def test_the_native_path_needs_no_adapter(world):
    one = stitcher(world)
    fit = one.measure([("own", k) for k in range(3)], [], seed=0)
    assert fit.adapters == ()
    assert fit.accuracy == fit.closed_form == fit.tuned == one.native_accuracy()
    assert one.native_accuracy() > 0.8


def test_skipping_a_block_that_changes_nothing_loses_nothing(world):
    one = stitcher(world)
    fit = one.measure(*PATHS["skip"], seed=0, tune=False)
    assert fit.explained[0] == pytest.approx(1.0, abs=1e-4)
    assert fit.closed_form == one.native_accuracy()


def test_an_exit_learns_the_task(world):
    fit = stitcher(world, epochs=6).measure(*PATHS["exit"], seed=0)
    assert fit.accuracy > 0.7  # of four classes; the native network has 0.9 at most


def test_the_same_seed_measures_the_same(world):
    first = stitcher(world, epochs=6, calibration=5).measure(*PATHS["exit"], seed=7)
    assert first.kept == "tuned"
    one = stitcher(world, epochs=6, calibration=5)
    one.measure(*PATHS["borrow"], seed=1)
    torch.rand(5)
    again = one.measure(*PATHS["exit"], seed=7)
    assert fingerprint(first.adapters) == fingerprint(again.adapters)
    assert (first.accuracy, first.held_out) == (again.accuracy, again.held_out)
    other = one.measure(*PATHS["exit"], seed=8)
    assert fingerprint(first.adapters) != fingerprint(other.adapters)


@pytest.mark.parametrize("path", PATHS)
def test_measuring_changes_no_bit_of_the_networks(world, path):
    trunks, _ = world
    before = {name: fingerprint(one.blocks) for name, one in trunks.items()}
    stitcher(world).measure(*PATHS[path], seed=0)
    assert {name: fingerprint(one.blocks) for name, one in trunks.items()} == before
    for one in trunks.values():
        for block in one.blocks:
            assert not block.training
            assert all(p.grad is None and not p.requires_grad for p in block.parameters())


def test_what_training_spoils_is_not_kept(world):
    one = stitcher(world, learning_rate=10.0)
    before = one.measure(*PATHS["skip"], seed=0, tune=False)
    fit = one.measure(*PATHS["skip"], seed=0)
    assert fit.kept == "closed-form"
    assert fit.tuned < fit.closed_form == fit.accuracy
    assert fit.held_out == before.held_out
    assert fingerprint(fit.adapters) == fingerprint(before.adapters)


def test_choices_are_made_on_held_out_images_not_on_those_that_are_reported(world):
    for path in PATHS.values():
        one = stitcher(world)
        closed = one.measure(*path, seed=0, tune=False)
        fit = one.measure(*path, seed=0)
        assert fit.held_out >= closed.held_out
        assert fit.accuracy == (fit.tuned if fit.kept == "tuned" else fit.closed_form)


def test_no_epochs_means_the_closed_form(world):
    fit = stitcher(world, epochs=0).measure(*PATHS["borrow"], seed=0)
    assert fit.kept == "closed-form"
    assert fit.accuracy == fit.closed_form == fit.tuned


def test_half_precision_is_measured_as_it_will_be_stored(world):
    fit = stitcher(world, half=True).measure(*PATHS["borrow"], seed=0)
    for adapter in fit.adapters:
        for tensor in adapter.state_dict().values():
            assert torch.equal(tensor, tensor.half().float())


def test_distillation_alone_and_labels_alone(world):
    for share in (0.0, 1.0):
        fit = stitcher(world, distillation=share, epochs=6).measure(*PATHS["exit"], seed=0)
        assert fit.accuracy > 0.65


def test_normalisation_is_trained_and_then_frozen(world):
    blocks = [("own", 0), ("own", 2)]
    steps = [step("own/0", "own/2", "pointwise-norm-relu", (8, 6, 6), (8, 6, 6))]
    fit = stitcher(world).measure(blocks, steps, seed=0)
    assert not fit.adapters[0].training
    one = fingerprint(fit.adapters)
    with torch.no_grad():
        fit.adapters[0](torch.randn(9, 8, 6, 6))
    assert fingerprint(fit.adapters) == one


# --- Similarity -----------------------------------------------------------------------------


def test_activations_are_like_themselves(world):
    one = stitcher(world)
    assert one.similarity(("own", 0), ("own", 1)) == pytest.approx(1.0)
    assert one.similarity(("own", 0), ("own", 2)) == pytest.approx(1.0)  # through the identity
    between = one.similarity(("other", 0), ("own", 1))
    assert 0.0 < between < 0.999
    assert between == pytest.approx(one.similarity(("own", 0), ("other", 1)))


# --- Images ---------------------------------------------------------------------------------


def test_parts_share_no_image(world):
    _, parts = world
    rows = np.concatenate([parts.part(p).pixels.reshape(len(parts.part(p)), -1) for p in PARTS])
    assert len(rows) == 350 + 100 + 200
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_too_few_images_are_refused(world):
    _, parts = world
    with pytest.raises(InputError, match="the training split has 350"):
        split_images(
            parts.fit, parts.validation, parts.normalization, images=351, held_out=5, seed=0
        )
