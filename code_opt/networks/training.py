"""Service networks: built, trained on their data, then frozen for good.

Training is AdamW (Loshchilov and Hutter, ICLR 2019) under a one-cycle schedule (Smith and
Topin, 2018), with crops and flips, in mixed precision on a GPU. Everything random comes
from one seed, so a device gives the same network again.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from code_opt.errors import InputError
from code_opt.networks.blocks import adapt, on_meta
from code_opt.networks.compat import torch
from code_opt.networks.factories import call_factory, module_of
from code_opt.networks.images import Images, Normalization
from code_opt.networks.memory import halving
from code_opt.networks.threads import reproducible, use_exact_cuda

nn = torch.nn
functional = torch.nn.functional

Augmentation = Literal["crop", "flip"]
Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is going on)."""
EVALUATION_BATCH = 250
AUXILIARY_WEIGHT = 0.3
"""Weight of the losses of auxiliary classifiers (Szegedy et al., CVPR 2015)."""
_CROP_SHARE = 8
"""Random crops move an image by at most 1/8 of its height and width."""


_BUILDING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What networks raise for options or inputs that they cannot work with."""


class TrainingError(InputError):
    """Training did not end with a usable network; the message says what to change."""


@dataclass(frozen=True)
class Architecture:
    """A network and what is changed about it."""

    name: str
    """Function in ``torchvision.models``, for instance "alexnet", or "package.module:factory"."""
    classes: int
    input_shape: tuple[int, int, int]
    options: Mapping[str, Any]
    """Arguments of that function, for instance {"width_mult": 0.5}."""
    changes: Mapping[str, Mapping[str, Any] | None]
    """Layers changed afterwards (see :func:`code_opt.networks.blocks.adapt`)."""


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained."""

    epochs: int
    batch: int = 128
    learning_rate: float = 2e-3
    """Highest rate of the one-cycle schedule."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    augmentation: tuple[Augmentation, ...] = ()
    seed: int = 0


def build_network(architecture: Architecture, seed: int = 0, device: str = "cpu") -> nn.Module:
    """Return the network with random weights, the same for a seed.

    Args:
        architecture: what to build.
        seed: of the weights.
        device: "meta" builds it without storage, at no cost however large it is.

    Raises:
        InputError: no such network or option, or it does not run on this input shape with
            this number of classes.
    """
    own = module_of(architecture.name) is not None
    # Code of others computes with what it makes: it is built for real, then copied without storage.
    storage = (
        nullcontext() if own else without_storage() if device == "meta" else torch.device(device)
    )
    with seeded(seed), storage, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet's about its own default
        try:
            network = call_factory(architecture.name, architecture.classes, architecture.options)
        except InputError:
            raise
        except _BUILDING_ERRORS as error:
            raise InputError(f"{architecture.name}: {_first_line(error)}") from None
        adapt(network, architecture.changes)
    if own and device != "meta":
        network = network.to(device)
    if device == "meta":
        network = on_meta(network)  # buffers that are computed from data, too
    output = _dry_run(network.eval(), architecture.name, architecture.input_shape, 2)
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != (2, architecture.classes):
        given = tuple(output.shape)[1:] if isinstance(output, torch.Tensor) else type(output)
        raise InputError(
            f"{architecture.name} gives {given} numbers for an image, not "
            f"({architecture.classes},): change its last layer's out_features"
        )
    return network


def check_trainable(network: nn.Module, architecture: Architecture, batch: int) -> None:
    """Find out before any training whether a network can be trained on such batches.

    Args:
        network: of this architecture; it is not changed.
        architecture: what it is.
        batch: images of a step.

    Raises:
        InputError: it cannot; the message says why.
    """
    outputs = _dry_run(on_meta(network).train(), architecture.name, architecture.input_shape, batch)
    try:
        _loss(outputs, torch.zeros(batch, dtype=torch.long, device="meta"), 0.0)
    except _BUILDING_ERRORS as error:
        raise InputError(f"{architecture.name} cannot be trained: {_first_line(error)}") from None


def _dry_run(network: nn.Module, name: str, shape: Sequence[int], batch: int) -> Any:
    """Return what a network gives for a batch, as shapes without numbers.

    Raises:
        InputError: it does not run on such a batch, as it is now (training or evaluation).
    """
    try:
        with torch.no_grad():
            return on_meta(network)(torch.empty((batch, *shape), device="meta"))
    except _BUILDING_ERRORS as error:
        what = f"cannot be trained on batches of {batch}, " if network.training else ""
        auxiliary = network.training and getattr(network, "aux_logits", False)
        remedy = "; options: {aux_logits: false} leaves out its auxiliary classifiers"
        raise InputError(
            f"{name} {what or 'does not run on '}inputs of shape {tuple(shape)} "
            f"({_first_line(error)}){remedy * bool(auxiliary)}"
        ) from None


@contextmanager
def without_storage() -> Iterator[None]:
    """Make what is asked for by its size on the device "meta", and compute with data as ever.

    ``torch.device("meta")`` would do it for all tensors alike, also for the small ones that some
    networks (RegNet) compute their layers' widths with.
    """
    with _WithoutStorage():
        yield


class _WithoutStorage(torch.overrides.TorchFunctionMode):
    _SIZED = frozenset(
        {
            torch.empty,
            torch.empty_strided,
            torch.full,
            torch.ones,
            torch.rand,
            torch.randn,
            torch.zeros,
        }
    )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in self._SIZED and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def train_network(
    network: nn.Module,
    images: Images,
    normalization: Normalization,
    plan: TrainingPlan,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[float]:
    """Train all weights of a network in place and freeze it.

    Args:
        network: on any device; it ends on ``device``.
        images: the training images.
        normalization: of the service.
        plan: epochs, rates, augmentation, seed.
        device: "cpu" or "cuda"; mixed precision (bfloat16) on the latter.
        progress: told after every step.

    Returns:
        The mean loss of every epoch.

    Raises:
        InputError: there are no images.
        TrainingError: the loss is not a number any more.
    """
    if not len(images):
        raise InputError("there are no images to train on")
    network.to(device).train()
    for parameter in network.parameters():
        if parameter.ndim == 4:  # convolutions on a CPU are far faster so
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    steps = max(1, len(images) // plan.batch)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    schedule = one_cycle(optimizer, plan.learning_rate, plan.epochs * steps, warm_up=0.25)
    # All images may not fit onto a GPU: each batch goes there by itself.
    pixels = torch.from_numpy(images.pixels)
    labels = torch.from_numpy(images.labels)
    losses: list[float] = []
    with seeded(plan.seed), reproducible(device):
        for epoch in range(plan.epochs):
            order = torch.randperm(len(images))
            total = torch.zeros((), device=device)
            for step in range(steps):
                rows = order[step * plan.batch : (step + 1) * plan.batch]
                batch = pixels[rows].to(device)
                inputs = normalization(_augmented(batch, plan.augmentation))
                with mixed_precision(device):
                    loss = _loss(network(inputs), labels[rows].to(device), plan.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += loss.detach()
                if progress is not None:
                    progress(epoch * steps + step + 1, plan.epochs * steps, f"epoch {epoch + 1}")
            losses.append(float(total) / steps)
            if not np.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss became {losses[-1]} in epoch {epoch + 1}: take a lower learning rate"
                )
    freeze(network)
    return losses


def _loss(outputs: Any, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the cross-entropy of a network's outputs.

    In training some networks (GoogLeNet, Inception) give the outputs of auxiliary classifiers
    behind their own ones; these count with :data:`AUXILIARY_WEIGHT`.
    """
    first, *others = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = functional.cross_entropy(first, labels, label_smoothing=smoothing)
    for other in others:
        if other is not None:
            loss = loss + AUXILIARY_WEIGHT * functional.cross_entropy(
                other, labels, label_smoothing=smoothing
            )
    return loss


def one_cycle(
    optimizer: torch.optim.Optimizer, rate: float, steps: int, *, warm_up: float
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a one-cycle schedule (Smith and Topin, 2018), for however few steps.

    Args:
        optimizer: whose rates it sets.
        rate: the highest one.
        steps: of the whole training.
        warm_up: share of the steps in which the rate rises, at least one step.
    """
    total = max(steps, 1) + 1
    # With less than one whole step torch would divide by zero.
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=total, pct_start=max(warm_up, 2.0 / total)
    )


def freeze(network: nn.Module) -> None:
    """Freeze parameters, batch statistics and dropout: evaluation mode, no gradients kept."""
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None


def round_to_half(network: nn.Module) -> None:
    """Round parameters and statistics to the values of half precision, kept in float32.

    What is measured afterwards is what a file of half the size gives back.

    Raises:
        TrainingError: a value is too large for half precision.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            rounded = tensor.half().float()
            if not bool(torch.isfinite(rounded).all()):
                raise TrainingError(
                    f"{name} does not fit into half precision (values above 65504): set "
                    "precision: full, or train for more steps"
                )
            tensor.copy_(rounded)


def logits(
    network: Callable[[torch.Tensor], torch.Tensor],
    images: Images,
    normalization: Normalization,
    *,
    device: str = "cpu",
    batch: int = EVALUATION_BATCH,
) -> torch.Tensor:
    """Return the network's outputs for all images, on the CPU, shape (n, classes).

    Batches go to the device one by one, halved as often as its memory asks for.
    """

    def outputs(batch: int) -> torch.Tensor:
        return torch.cat(
            [
                network(normalization(pixels.to(device))).float().cpu()
                for pixels in batches(images.pixels, batch)
            ]
        )

    with torch.inference_mode():
        return halving(outputs, batch)[0]


def accuracy(
    network: Callable[[torch.Tensor], torch.Tensor],
    images: Images,
    normalization: Normalization,
    *,
    device: str = "cpu",
) -> float:
    """Return the share of images whose largest output is their class."""
    guess = logits(network, images, normalization, device=device).argmax(dim=1)
    return float((guess == torch.from_numpy(images.labels)).double().mean())


def batches(pixels: npt.NDArray[np.uint8], batch: int) -> Iterator[torch.Tensor]:
    """Yield consecutive batches of images as tensors."""
    for start in range(0, len(pixels), batch):
        yield torch.from_numpy(pixels[start : start + batch])


def fingerprint(modules: Sequence[nn.Module]) -> str:
    """Return a SHA-256 over the names, types, shapes and bits of all tensors of modules."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            value = tensor.detach().cpu().contiguous()
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generators at a seed; they are as before afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def mixed_precision(device: str) -> Any:
    """Return the context of a training step: bfloat16 on a GPU, nothing on a CPU."""
    return torch.autocast(device_type="cuda", dtype=torch.bfloat16, enabled=device != "cpu")


def choose_device(asked: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda"; a GPU then computes exactly.

    Raises:
        InputError: another name, or "cuda" where there is none.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {asked!r}: auto, cpu or cuda")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise InputError("no CUDA device is available here; use --device cpu")
    if not there or asked == "cpu":
        return "cpu"
    use_exact_cuda()
    return "cuda"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _augmented(pixels: torch.Tensor, kinds: Sequence[str]) -> torch.Tensor:
    """Return randomly moved and mirrored copies of images (n, channels, height, width).

    Random numbers are drawn on the CPU, so that all devices see the same ones.
    """
    count, _, height, width = pixels.shape
    if "crop" in kinds:
        reach = (max(1, height // _CROP_SHARE), max(1, width // _CROP_SHARE))
        padded = functional.pad(pixels, (reach[1], reach[1], reach[0], reach[0]))
        top = torch.randint(2 * reach[0] + 1, (count, 1, 1)) + torch.arange(height).view(1, -1, 1)
        left = torch.randint(2 * reach[1] + 1, (count, 1, 1)) + torch.arange(width).view(1, 1, -1)
        rows = torch.arange(count).view(-1, 1, 1)
        # Indexing with three tensors puts the channels last.
        pixels = padded.permute(0, 2, 3, 1)[
            rows.to(pixels.device), top.to(pixels.device), left.to(pixels.device)
        ].permute(0, 3, 1, 2)
    if "flip" in kinds:
        mirrored = torch.rand(count).to(pixels.device) < 0.5
        pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
    return pixels
