"""Training of service networks: built, trained, frozen, rounded."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.networks.images import Images, ImageSource, Normalization, load_images
from code_opt.networks.training import (
    Architecture,
    TrainingError,
    TrainingPlan,
    _augmented,
    accuracy,
    build_network,
    choose_device,
    fingerprint,
    freeze,
    logits,
    one_cycle,
    round_to_half,
    seeded,
    train_network,
)

nn = torch.nn
SMALL = Architecture(
    "mobilenet_v2",
    10,
    (3, 16, 16),
    {"width_mult": 0.25},
    {
        "features.0.0": {"stride": 1},
        "features.18.0": {"out_channels": 64},
        "features.18.1": {"num_features": 64},
        "classifier.1": {"in_features": 64},
    },
)


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images, Normalization]:
    images = load_images(ImageSource("digits"), "train", (3, 16, 16))
    train, validation = images.split(300, seed=0)
    return train, validation, Normalization(*train.statistics)


def trained(digits, seed=0, epochs=1, batch=64, images=256, **changes):
    train, _, normalization = digits
    network = build_network(SMALL, seed)
    plan = TrainingPlan(epochs=epochs, batch=batch, learning_rate=5e-3, seed=seed, **changes)
    losses = train_network(network, train.first(images), normalization, plan)
    return network, losses


def test_training_learns(digits):
    network, losses = trained(digits, epochs=8, batch=32, images=10_000, augmentation=("crop",))
    _, validation, normalization = digits
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy(network, validation, normalization) > 0.6  # chance: 0.1


def test_a_seed_gives_the_same_network_whatever_ran_before(digits):
    first, _ = trained(digits, augmentation=("crop", "flip"))
    torch.rand(7)
    again, _ = trained(digits, augmentation=("crop", "flip"))
    other, _ = trained(digits, seed=1, augmentation=("crop", "flip"))
    assert fingerprint([first]) == fingerprint([again])
    assert fingerprint([first]) != fingerprint([other])


def test_training_leaves_the_global_generator_alone(digits):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(digits)
    assert torch.equal(torch.rand(3), expected)


def test_progress_counts_to_the_end(digits):
    train, _, normalization = digits
    seen: list[tuple[int, int]] = []
    train_network(
        build_network(SMALL),
        train.first(200),
        normalization,
        TrainingPlan(epochs=2, batch=64),
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert seen == [(k, 6) for k in range(1, 7)]


def test_a_trained_network_is_frozen(digits):
    network, _ = trained(digits)
    assert not network.training
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    before = fingerprint([network])
    logits(network, digits[1], digits[2])
    assert fingerprint([network]) == before


def test_freezing_stops_batch_statistics_and_dropout():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9))
    freeze(network)
    before = fingerprint([network])
    x = torch.randn(8, 3)
    assert torch.equal(network(x), network(x))
    assert fingerprint([network]) == before


def test_a_loss_that_is_no_number_is_an_error_with_a_remedy(digits):
    train, _, normalization = digits
    plan = TrainingPlan(epochs=3, batch=64, learning_rate=1e30)
    with pytest.raises(TrainingError, match="lower learning rate"):
        train_network(build_network(SMALL), train.first(256), normalization, plan)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture("alexnett", 10, (3, 64, 64), {}, {}), "close: alexnet"),
        (Architecture("fcn_resnet50", 10, (3, 64, 64), {}, {}), "no classification network"),
        (Architecture("alexnet", 10, (3, 16, 16), {}, {}), "does not run on inputs"),
        (Architecture("alexnet", 10, (1, 64, 64), {}, {}), "does not run on inputs"),
        (Architecture("alexnet", 10, (3, 64, 64), {"width": 2}, {}), "unexpected keyword"),
        (
            Architecture("alexnet", 10, (3, 64, 64), {}, {"classifier.6": {"out_features": 7}}),
            r"gives \(7,\) numbers",
        ),
    ],
)
def test_networks_that_cannot_be_built(architecture, message):
    with pytest.raises(InputError, match=message):
        build_network(architecture)


def test_a_network_of_any_size_can_be_built_without_storage():
    network = build_network(Architecture("vit_h_14", 10, (3, 224, 224), {}, {}), device="meta")
    assert all(p.is_meta for p in network.parameters())


def test_the_seed_of_weights_is_all_that_matters():
    assert fingerprint([build_network(SMALL, 1)]) == fingerprint([build_network(SMALL, 1)])
    assert fingerprint([build_network(SMALL, 1)]) != fingerprint([build_network(SMALL, 2)])


def test_rounding_gives_values_of_half_precision():
    network = build_network(SMALL)
    round_to_half(network)
    rounded = fingerprint([network])
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            assert torch.equal(tensor, tensor.half().float())
    round_to_half(network)
    assert fingerprint([network]) == rounded


def test_values_too_large_for_half_precision_are_refused():
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1e6)
    with pytest.raises(TrainingError, match="weight does not fit"):
        round_to_half(layer)


def test_a_fingerprint_sees_one_bit():
    layer = nn.Linear(3, 2)
    before = fingerprint([layer])
    with torch.no_grad():
        layer.bias[1] = torch.nextafter(layer.bias[1], torch.tensor(9.0))
    assert fingerprint([layer]) != before


def test_logits_do_not_depend_on_the_batch(digits):
    network, _ = trained(digits)
    one = logits(network, digits[1], digits[2], batch=7)
    all_ = logits(network, digits[1], digits[2], batch=300)
    assert torch.allclose(one, all_, atol=1e-4)
    right = (one.argmax(dim=1).numpy() == digits[1].labels).mean()
    assert accuracy(network, digits[1], digits[2]) == pytest.approx(right)


# --- Augmentation ---------------------------------------------------------------------------


def pictures(count: int = 40) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(1, 256, (count, 3, 16, 16), dtype=np.uint8))


def test_flips_mirror_about_half_of_the_images():
    x = pictures()
    with seeded(0):
        y = _augmented(x, ("flip",))
    same = (y == x).flatten(1).all(dim=1)
    mirrored = (y == x.flip(3)).flatten(1).all(dim=1)
    assert (same | mirrored).all()
    assert 8 < int(mirrored.sum()) < 32


def test_crops_move_every_image_by_at_most_an_eighth():
    x = pictures()
    with seeded(0):
        y = _augmented(x, ("crop",))
    assert y.shape == x.shape
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    moves = set()
    for k in range(len(x)):
        found = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if torch.equal(padded[k, :, i : i + 16, j : j + 16], y[k])
        ]
        assert found
        moves.update(found)
    assert len(moves) > 10


def test_no_augmentation_changes_nothing():
    x = pictures(3)
    assert torch.equal(_augmented(x, ()), x)


@pytest.mark.parametrize("name", ["tpu", "CPU", ""])
def test_unknown_devices_are_refused(name):
    with pytest.raises(InputError, match="unknown device"):
        choose_device(name)


def test_devices_are_found():
    assert choose_device("cpu") == "cpu"
    there = torch.cuda.is_available()
    assert choose_device("auto") == ("cuda" if there else "cpu")
    if not there:
        with pytest.raises(InputError, match="no CUDA device"):
            choose_device("cuda")


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 6, 8, 9, 40])
@pytest.mark.parametrize("warm_up", [0.2, 0.25])
def test_one_cycle_of_any_length_rises_to_its_rate_and_falls(steps, warm_up):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = one_cycle(optimizer, 0.5, steps, warm_up=warm_up)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    top = int(np.argmax(rates))
    assert rates[top] <= 0.5
    assert steps == 0 or rates[top] > 0.4
    assert rates == [*sorted(rates[: top + 1]), *sorted(rates[top + 1 :], reverse=True)]
