"""Paths through frozen networks: adapters fitted, trained and measured.

All blocks stay frozen; what is fitted and trained is the adapters of one task's path. The
part of a path before its first trainable adapter is the same for every path that begins
so, and it is the trunk of one network: its activations on a task's images are computed
once and kept (:class:`Activations`), so that measuring a path runs only what comes after.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from code_opt.errors import InputError
from code_opt.networks.adapters import Adapter, AdapterSpec
from code_opt.networks.compat import torch
from code_opt.networks.images import Images, Normalization
from code_opt.networks.memory import ActivationMemory, room
from code_opt.networks.threads import reproducible
from code_opt.networks.training import (
    EVALUATION_BATCH,
    mixed_precision,
    one_cycle,
    round_to_half,
    seeded,
)

nn = torch.nn
functional = torch.nn.functional

Part = Literal["fit", "held_out", "validation"]
"""Images that adapters learn from, that choices are made on, that accuracies are measured on."""
PARTS: tuple[Part, ...] = ("fit", "held_out", "validation")
_MOST_BATCH_BYTES = 256 * 2**20
"""Bytes of what enters or leaves a block in one batch, at most."""
INPUT = "input"
OUTPUT = "output"


@dataclass(frozen=True)
class Trunk:
    """A frozen network as a chain of blocks."""

    id: str
    blocks: tuple[nn.Module, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Shape of the input of every block and, last, of the output; without the batch."""

    def __len__(self) -> int:
        return len(self.blocks)


@dataclass(frozen=True)
class TaskImages:
    """One task's images, parted for its adapters."""

    fit: Images
    held_out: Images
    validation: Images
    normalization: Normalization

    def part(self, name: Part) -> Images:
        """Return one part."""
        images: Images = getattr(self, name)
        return images


@dataclass(frozen=True)
class Step:
    """One connection of a path: where it starts, where it leads, by which adapter."""

    source: str
    """Block id, or "input"."""
    target: str
    """Block id, or "output"."""
    spec: AdapterSpec


@dataclass(frozen=True)
class StitchPlan:
    """How adapters are fitted and trained (see ``AdaptersConfig``)."""

    calibration: int
    ridge: float
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    distillation: float
    temperature: float
    half: bool
    """Round the adapters' weights to half precision before they are measured."""


@dataclass(frozen=True)
class PathFit:
    """A measured path with its adapters."""

    adapters: tuple[Adapter, ...]
    explained: tuple[float, ...]
    """R squared of every adapter's closed form."""
    closed_form: float
    """Validation accuracy after the closed form alone."""
    tuned: float
    """Validation accuracy after training."""
    accuracy: float
    """Validation accuracy of the adapters kept: the better of both on the held-out images."""
    held_out: float
    """Accuracy of the adapters kept, on the held-out images."""
    kept: Literal["closed-form", "tuned"]
    right: npt.NDArray[np.bool_]
    """Which validation images the adapters kept answer right, shape (n,)."""
    closed_form_seconds: float
    tuning_seconds: float


class Activations:
    """What the trunks' blocks answer to one task's images, computed once each.

    Args:
        trunks: all networks by id.
        images: the task's images.
        device: where the networks run and the activations lie that are not in files.
        memory: where they are kept, maybe with those of other tasks; what goes is computed again.
    """

    def __init__(
        self,
        trunks: Mapping[str, Trunk],
        images: TaskImages,
        device: str = "cpu",
        memory: ActivationMemory | None = None,
    ) -> None:
        self.trunks = trunks
        self.images = images
        self.device = device
        self.memory = ActivationMemory() if memory is None else memory
        self.block_runs = 0
        """Images that were sent through some block, counted once per block."""
        self.seconds: dict[tuple[str, int, Part], float] = {}
        """Time that each answer took, from the one before it [s]."""

    def labels(self, part: Part) -> torch.Tensor:
        """Return the labels of a part, on the device."""
        return torch.from_numpy(self.images.part(part).labels).to(self.device)

    def into(self, dnn: str, block: int, part: Part) -> torch.Tensor:
        """Return what enters a block of a trunk that is fed with the task's images.

        ``block`` may be the number of blocks: then it is the network's output. Images of
        another size than the trunk's input are resized first. What is returned may lie in a
        file, and not on the device.

        Raises:
            InputError: the images cannot feed this trunk (other channels).
        """
        key = (dnn, block, part)
        known = self.memory.get((id(self), *key))
        if known is not None:
            return known
        trunk = self.trunks[dnn]
        previous = self.into(dnn, block - 1, part) if block else None
        started = time.perf_counter()
        if previous is None:
            value = self._inputs(trunk, part)
        else:
            value = self.computed(key, trunk.blocks[block - 1], previous, trunk.shapes[block])
            self.block_runs += len(previous)
        if value.is_cuda:
            torch.cuda.synchronize()
        self.seconds[key] = time.perf_counter() - started
        return value

    def drop(self, key: tuple[object, ...]) -> None:
        """Forget what was kept by :meth:`computed`."""
        self.memory.drop((id(self), *key))

    @torch.no_grad()
    def computed(
        self,
        key: tuple[object, ...],
        function: Callable[[torch.Tensor], torch.Tensor],
        source: torch.Tensor,
        shape: Sequence[int],
    ) -> torch.Tensor:
        """Return and keep a function's values, batch by batch, shape (n, *shape).

        Args:
            key: to keep them under.
            function: of a batch on the device.
            source: shape (n, ...).
            shape: of one value.
        """
        key = (id(self), *key)
        value = self.memory.make(key, (len(source), *shape), self.device)
        size = 4 * max(prod(source.shape[1:]), prod(shape), 1)
        batch = max(1, min(EVALUATION_BATCH, _MOST_BATCH_BYTES // size))
        try:
            for rows, part in zip(value.split(batch), source.split(batch), strict=True):
                rows.copy_(function(part.to(self.device)))
        except BaseException:
            self.memory.drop(key)
            raise
        return value

    def seconds_into(self, dnn: str, block: int, part: Part) -> float:
        """Return the time that :meth:`into` takes with nothing kept [s]."""
        if (dnn, block, part) not in self.seconds:
            self.into(dnn, block, part)
        return sum(self.seconds[dnn, k, part] for k in range(block + 1))

    def _inputs(self, trunk: Trunk, part: Part) -> torch.Tensor:
        images = self.images.part(part)
        shape = tuple(images.pixels.shape[1:])
        if len(trunk.shapes[0]) != 3 or shape[0] != trunk.shapes[0][0]:
            raise InputError(f"images of shape {shape} cannot feed {trunk.id} {trunk.shapes[0]}")
        resize = Adapter(AdapterSpec("resize", shape, trunk.shapes[0]))
        return self.computed(
            (trunk.id, 0, part),
            lambda pixels: resize(self.images.normalization(pixels)),
            torch.from_numpy(images.pixels),
            trunk.shapes[0],
        )


@torch.no_grad()
def run(
    module: nn.Module, x: torch.Tensor, batch: int = EVALUATION_BATCH, device: str | None = None
) -> torch.Tensor:
    """Return a module's outputs for a large input, batch by batch.

    Args:
        module: on ``device``.
        x: the inputs, on any device.
        batch: inputs at once.
        device: where the module runs and the outputs lie; None: where ``x`` lies.
    """
    found: torch.Tensor | None = None
    for start, part in zip(range(0, max(len(x), 1), batch), x.split(batch), strict=True):
        output = module(part.to(device or x.device))
        if found is None:
            found = room((len(x), *output.shape[1:]), output.device)
        found[start : start + batch] = output
    assert found is not None
    return found


class PathProgram:
    """A path as modules: a cached beginning, then adapters and frozen blocks in turn.

    Args:
        trunks: all networks by id.
        native: the task's own network.
        blocks: (network, block number) of the path, in order.
        steps: the path's connections, in order.

    Raises:
        InputError: consecutive blocks that neither a trunk nor a step connects.
    """

    def __init__(
        self,
        trunks: Mapping[str, Trunk],
        native: str,
        blocks: Sequence[tuple[str, int]],
        steps: Sequence[Step],
    ) -> None:
        self.trunks = trunks
        self.native = native
        by_ends = {(step.source, step.target): step for step in steps}
        names = [INPUT, *(f"{dnn}/{k}" for dnn, k in blocks), OUTPUT]
        self.steps: list[Step] = []
        self._by_step: list[list[Step | tuple[str, int]]] = []
        for i, (tail, head) in enumerate(zip(names, names[1:], strict=False)):
            step = by_ends.pop((tail, head), None)
            self._by_step.append([])
            if step is not None:
                self.steps.append(step)
                self._by_step[-1].append(step)
            elif not self._is_native(tail, head):
                raise InputError(f"no connection leads from {tail} to {head}")
            if head != OUTPUT:
                self._by_step[-1].append(blocks[i])
        self.parts = [part for parts in self._by_step for part in parts]
        """Connections and blocks as they follow each other."""
        if by_ends:
            raise InputError(f"connection {next(iter(by_ends))} does not lie on the path")

    def _is_native(self, tail: str, head: str) -> bool:
        if tail == INPUT:
            return head == f"{self.native}/0"
        if head == OUTPUT:
            return tail == f"{self.native}/{len(self.trunks[self.native]) - 1}"
        dnn, _, number = tail.rpartition("/")
        return head == f"{dnn}/{int(number) + 1}"

    def by_step(self) -> list[list[Step | tuple[str, int]]]:
        """Return the parts of every step, from the input to the output (none: an empty list)."""
        return self._by_step

    @property
    def start(self) -> tuple[str, int, int]:
        """The cached beginning: (network, blocks of it, parts of the path that it covers)."""
        parts = self.parts
        dnn, covered = self.native, 0
        if isinstance(parts[0], Step) and parts[0].spec.kind == "resize":
            dnn, covered = parts[0].target.rpartition("/")[0], 1
        elif isinstance(parts[0], Step):
            return self.native, 0, 0
        number = 0
        while covered < len(parts) and parts[covered] == (dnn, number):
            number += 1
            covered += 1
        return dnn, number, covered


class Stitcher:
    """Fits and measures the paths of one task.

    Args:
        native: id of the task's own network.
        activations: of the task's images.
        plan: how adapters are made.
    """

    def __init__(self, native: str, activations: Activations, plan: StitchPlan) -> None:
        self.native = native
        self.activations = activations
        self.trunks = activations.trunks
        self.plan = plan
        self.device = activations.device

    def native_accuracy(self, part: Part = "validation") -> float:
        """Return the accuracy of the task's own network."""
        return float(self.native_answers(part).mean())

    def native_answers(self, part: Part = "validation") -> npt.NDArray[np.bool_]:
        """Return which images the task's own network answers right, shape (n,)."""
        return self._right(self._native_outputs(part), part)

    def measure(
        self,
        blocks: Sequence[tuple[str, int]],
        steps: Sequence[Step],
        *,
        seed: int,
        tune: bool = True,
    ) -> PathFit:
        """Fit a path's adapters in closed form, train them together, and measure both.

        Args:
            blocks: (network, block number) of the path.
            steps: its connections.
            seed: of the order of the images.
            tune: train after the closed form (else ``tuned`` is the closed form's accuracy).
        """
        program = PathProgram(self.trunks, self.native, blocks, steps)
        started = time.perf_counter()
        adapters, explained = self._closed_form(program)
        modules, first = self._modules(program, adapters)
        held_out, validation = (
            self._inputs(program, "held_out"),
            self._inputs(program, "validation"),
        )
        if self.plan.half:
            for adapter in adapters:
                round_to_half(adapter)
        closed_held = float(self._answers(modules[first:], held_out, "held_out").mean())
        right = self._answers(modules[first:], validation, "validation")
        closed = float(right.mean())
        fitted = time.perf_counter()
        kept: Literal["closed-form", "tuned"] = "closed-form"
        tuned, accuracy, best = closed, closed, closed_held
        trainable = [p for adapter in adapters for p in adapter.parameters()]
        if tune and self.plan.epochs and trainable:
            before = [{k: v.clone() for k, v in a.state_dict().items()} for a in adapters]
            self._train(program, modules, first, adapters, seed)
            if self.plan.half:
                for adapter in adapters:
                    round_to_half(adapter)
            held = float(self._answers(modules[first:], held_out, "held_out").mean())
            right_tuned = self._answers(modules[first:], validation, "validation")
            tuned = float(right_tuned.mean())
            if held >= closed_held:
                kept, accuracy, best, right = "tuned", tuned, held, right_tuned
            else:
                for adapter, state in zip(adapters, before, strict=True):
                    adapter.load_state_dict(state)
        return PathFit(
            adapters=tuple(adapters),
            explained=tuple(explained),
            closed_form=closed,
            tuned=tuned,
            accuracy=accuracy,
            held_out=best,
            kept=kept,
            right=right,
            closed_form_seconds=fitted - started,
            tuning_seconds=time.perf_counter() - fitted,
        )

    def beginning(
        self, blocks: Sequence[tuple[str, int]], steps: Sequence[Step]
    ) -> tuple[str, int]:
        """Return the beginning of a path that is kept: the network and the number of blocks."""
        return PathProgram(self.trunks, self.native, blocks, steps).start[:2]

    def uncached_seconds(self, dnn: str, number: int) -> float:
        """Return what a beginning would cost one measured path if nothing were kept [s].

        It would run for every epoch of the training, and twice (closed form, tuned) for the
        accuracies on the held-out and the validation images.
        """
        times = {part: self.activations.seconds_into(dnn, number, part) for part in PARTS}
        return self.plan.epochs * times["fit"] + 2.0 * (times["held_out"] + times["validation"])

    def similarity(self, source: tuple[str, int], target: tuple[str, int]) -> float:
        """Return the linear CKA between the activations that leave and enter two places.

        Linear centred kernel alignment (Kornblith et al., ICML 2019), of activations averaged
        over positions, on the calibration images.

        Args:
            source: (network, block) whose output is meant.
            target: (network, block) whose input is meant; a network's number of blocks is its
                output.
        """
        n = self.plan.calibration
        x, y = (
            _averaged(self.activations.into(dnn, k, "fit")[:n]).to(self.device).double()
            for dnn, k in ((source[0], source[1] + 1), target)
        )
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        scale = float((x.T @ x).norm() * (y.T @ y).norm())
        return float((y.T @ x).norm() ** 2) / scale if scale > 0.0 else 0.0

    # Closed form

    def _closed_form(self, program: PathProgram) -> tuple[list[Adapter], list[float]]:
        """Fit the adapters one after the other, each on what really arrives at it."""
        memory = self.activations
        keys = [("closed form", turn) for turn in (0, 1)]
        count = self.plan.calibration
        dnn, number, covered = program.start
        value = self.activations.into(dnn, number, "fit")[:count]
        adapters: list[Adapter] = [
            self._made(step.spec) for step in program.steps if step in program.parts[:covered]
        ]
        explained = [1.0] * len(adapters)
        for turn, part in enumerate(program.parts[covered:]):
            module: nn.Module
            if isinstance(part, Step):
                module, shape = self._made(part.spec), part.spec.target
                explained.append(module.fit(value, self._wanted(part)[:count], self.plan.ridge))
                adapters.append(module)
            else:
                trunk = self.trunks[part[0]]
                module, shape = trunk.blocks[part[1]], trunk.shapes[part[1] + 1]
            if len(adapters) < len(program.steps):  # nothing is fitted behind the last one
                value = memory.computed(keys[turn % 2], module, value, shape)
        for key in keys:
            memory.drop(key)
        return adapters, explained

    def _made(self, spec: AdapterSpec) -> Adapter:
        # The initial weights do not matter (the closed form sets them), but must not depend on
        # what ran before.
        with seeded(0):
            adapter = Adapter(spec).to(self.device)
        return adapter.eval()

    def _wanted(self, step: Step) -> torch.Tensor:
        """Return what a step's target gets in its own network, or a classifier's answers.

        For a block of the task's own network these are the native path's activations, for a
        borrowed block those of the borrowed network on the task's images. For an exit it is
        a mixture of the native outputs and the labels, as in the loss of training.
        """
        if step.target != OUTPUT:
            dnn, _, number = step.target.rpartition("/")
            return self.activations.into(dnn, int(number), "fit")
        native = self._native_outputs("fit")
        share = self.plan.distillation
        labels = functional.one_hot(self.activations.labels("fit"), native.shape[1])
        spread = (native.max(dim=1).values - native.mean(dim=1)).mean()
        truth = spread * (labels - 1.0 / native.shape[1])
        centred = native - native.mean(dim=1, keepdim=True)
        return share * centred + (1.0 - share) * truth

    # Training

    def _modules(
        self, program: PathProgram, adapters: Sequence[Adapter]
    ) -> tuple[list[nn.Module], int]:
        """Return a path's modules in order, and how many of them the cache covers."""
        left = iter(adapters)
        modules: list[nn.Module] = [
            next(left) if isinstance(part, Step) else self.trunks[part[0]].blocks[part[1]]
            for part in program.parts
        ]
        return modules, program.start[2]

    def _train(
        self,
        program: PathProgram,
        modules: Sequence[nn.Module],
        first: int,
        adapters: Sequence[Adapter],
        seed: int,
    ) -> None:
        """Train the adapters on labels and native outputs; everything else is frozen."""
        plan = self.plan
        inputs = self._inputs(program, "fit")
        labels = self.activations.labels("fit")
        teacher = self._native_outputs("fit")
        parameters = [p for adapter in adapters for p in adapter.parameters()]
        steps = max(1, len(inputs) // plan.batch)
        optimizer = torch.optim.AdamW(
            parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        schedule = one_cycle(optimizer, plan.learning_rate, plan.epochs * steps, warm_up=0.2)
        network = nn.Sequential(*modules[first:])
        for adapter in adapters:
            adapter.train()
        with seeded(seed), reproducible(self.device), torch.enable_grad():
            for _ in range(plan.epochs):
                order = torch.randperm(len(inputs)).to(self.device)
                for step in range(steps):
                    rows = order[step * plan.batch : (step + 1) * plan.batch]
                    with mixed_precision(self.device):
                        outputs = network(inputs[rows.to(inputs.device)].to(self.device))
                    loss = self._loss(outputs.float(), labels[rows], teacher[rows])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    nn.utils.clip_grad_norm_(parameters, 1.0)
                    optimizer.step()
                    schedule.step()
        for adapter in adapters:
            adapter.eval()
            for parameter in adapter.parameters():
                parameter.grad = None

    def _loss(
        self, outputs: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor
    ) -> torch.Tensor:
        """Return cross-entropy mixed with distillation (Hinton, Vinyals and Dean, 2015)."""
        share, heat = self.plan.distillation, self.plan.temperature
        loss = (1.0 - share) * functional.cross_entropy(outputs, labels)
        if share:
            loss = loss + share * heat**2 * functional.kl_div(
                functional.log_softmax(outputs / heat, dim=1),
                functional.log_softmax(teacher / heat, dim=1),
                log_target=True,
                reduction="batchmean",
            )
        return loss

    # Measuring

    def _inputs(self, program: PathProgram, part: Part) -> torch.Tensor:
        dnn, number, _ = program.start
        return self.activations.into(dnn, number, part)

    def _native_outputs(self, part: Part) -> torch.Tensor:
        outputs = self.activations.into(self.native, len(self.trunks[self.native]), part)
        return outputs.to(self.device)

    def _answers(
        self, modules: Sequence[nn.Module], inputs: torch.Tensor, part: Part
    ) -> npt.NDArray[np.bool_]:
        return self._right(run(nn.Sequential(*modules), inputs, device=self.device), part)

    def _right(self, outputs: torch.Tensor, part: Part) -> npt.NDArray[np.bool_]:
        right = outputs.argmax(dim=1) == self.activations.labels(part)
        return np.asarray(right.cpu().numpy(), dtype=np.bool_)


def _averaged(x: torch.Tensor) -> torch.Tensor:
    """Return activations averaged over positions, shape (n, features)."""
    if x.ndim == 4:
        return x.mean(dim=(2, 3))
    return x.mean(dim=1) if x.ndim == 3 else x


def path_seed(task: str, path: Sequence[str], seed: int) -> int:
    """Return a seed of a path's own, so that the order of measuring changes nothing."""
    return (zlib.crc32(f"{task}:{'>'.join(path)}".encode()) + seed) % 2**31


def split_images(
    train: Images,
    validation: Images,
    normalization: Normalization,
    *,
    images: int,
    held_out: int,
    seed: int,
) -> TaskImages:
    """Part a task's images: ``images`` of the training split for adapters, some held out.

    Raises:
        InputError: the training split has too few.
    """
    if len(train) < images:
        raise InputError(f"adapters ask for {images} images, the training split has {len(train)}")
    order = np.random.default_rng(seed).permutation(len(train))[:images]
    return TaskImages(
        fit=train.subset(order[held_out:]),
        held_out=train.subset(order[:held_out]),
        validation=validation,
        normalization=normalization,
    )
