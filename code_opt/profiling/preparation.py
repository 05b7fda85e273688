"""From a config to frozen services: data read, networks trained or loaded, cut and costed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.networks.cost import BlockCost
from code_opt.networks.images import Images, ImageSource, Normalization, load_images
from code_opt.networks.services import load_tensors, load_weights, make_trunk, save_tensors
from code_opt.networks.stitching import (
    Activations,
    Stitcher,
    StitchPlan,
    TaskImages,
    Trunk,
    split_images,
)
from code_opt.networks.threads import use_threads
from code_opt.networks.training import (
    Architecture,
    TrainingPlan,
    accuracy,
    build_network,
    choose_device,
    fingerprint,
    round_to_half,
    train_network,
)
from code_opt.profiling.config import ProfileConfig, ServiceConfig, resolve_weights
from code_opt.store import Store, key_of

Report = Callable[[str, int, int], None]
"""Called with (what is going on, steps done, steps in all)."""


def silent(_: str, __: int, ___: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Place:
    """Where a profile is made."""

    config_path: Path
    """The CONFIG file; weights are given relative to its folder."""
    out: Path
    """DIR."""
    data: Path
    """Folder of the data sets."""
    device: str
    """"cpu" or "cuda"."""

    @property
    def work(self) -> Path:
        """Folder of what was measured so far."""
        return self.out / "work"


def make_place(config_path: Path, out: Path, data: Path, device: str, threads: int) -> Place:
    """Return a place; torch uses so many threads from here on.

    Raises:
        InputError: there is no such device.
    """
    use_threads(threads)
    return Place(config_path, out, data, choose_device(device))


@dataclass(frozen=True)
class Service:
    """A frozen service: its trunk, what its blocks cost, how it is fed."""

    config: ServiceConfig
    trunk: Trunk
    costs: tuple[BlockCost, ...]
    classes: tuple[str, ...]
    normalization: Normalization
    fingerprint: str
    """SHA-256 of all weights and statistics."""
    seconds: float
    """Time of training [s]; 0 for loaded weights."""


class Preparation:
    """Services of a config, made once; activations and stitchers of its tasks, made when used."""

    def __init__(self, config: ProfileConfig, place: Place, report: Report = silent) -> None:
        self.config = config
        self.place = place
        self.store = Store(place.work)
        self.services: dict[str, Service] = {}
        self._files: dict[str, Path] = {}
        self._check()
        for i, service in enumerate(config.services):
            self.services[service.id] = self._made(service, report)
            report("services", i + 1, len(config.services))
        self.trunks = {s.config.dnn: s.trunk for s in self.services.values()}
        self._stitchers: dict[str, Stitcher] = {}

    def _check(self) -> None:
        """Find what only networks and data can tell, before any training.

        Raises:
            InputError: a network cannot be built or cut as asked, data is not there.
        """
        for i, service in enumerate(self.config.services):
            place = f"{self.place.config_path}: services[{i}]"
            try:
                train, _ = self.images(service)
                network = build_network(architecture_of(service, len(train.classes)))
                make_trunk(service.dnn, network, service.input, service.blocks, service.cuts)
                if service.weights is not None:
                    resolve_weights(self.place.config_path, service.weights)
                if len(train) < self.config.adapters.images:
                    raise InputError(
                        f"adapters.images asks for {self.config.adapters.images} images, the "
                        f"training split has {len(train)}"
                    )
            except InputError as error:
                raise InputError(f"{place}: {error}") from None

    def images(self, service: ServiceConfig) -> tuple[Images, Images]:
        """Return the training and validation images of a service, under its classes."""
        dataset = self.config.dataset(service)
        source = source_of(self.config, service, self.place.data)
        return _split(
            source,
            tuple(service.input),
            dataset.validation,
            dataset.limit,
            self.config.seed,
            None if service.groups is None else tuple(service.groups.items()),
        )

    def _made(self, service: ServiceConfig, report: Report) -> Service:
        """Train or load a service network, or find it among what was made before."""
        train, _ = self.images(service)
        dataset = self.config.dataset(service)
        architecture = architecture_of(service, len(train.classes))
        seed = self.config.seed if service.seed is None else service.seed
        normalization = Normalization(*train.statistics)
        weights_hash = None
        if service.weights is not None:
            path = resolve_weights(self.place.config_path, service.weights)
            weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        key = key_of(
            "service",
            service.model_dump(
                include={"dnn", "architecture", "options", "changes", "input", "groups", "training"}
            ),
            weights_hash,
            dataset.model_dump(exclude={"download"}),
            seed,
            self.config.precision,
            "cpu" if self.place.device == "cpu" else "cuda",
        )
        network = build_network(architecture, seed)
        file = self.place.work / f"{service.dnn}-{key}.safetensors"
        record = self.store.get(key)
        if record is not None and file.exists():
            load_weights(network, load_tensors(file), str(file))
        else:
            record = self._train(service, network, normalization, seed, report)
            if self.config.precision == "half":
                round_to_half(network)
            save_tensors(file, network.state_dict(), half=self.config.precision == "half")
            record = self.store.add(key, {"kind": "service", "task": service.id, **record})
        self._files[service.id] = file
        network.to(self.place.device)
        trunk, costs = make_trunk(service.dnn, network, service.input, service.blocks, service.cuts)
        return Service(
            config=service,
            trunk=trunk,
            costs=tuple(costs),
            classes=train.classes,
            normalization=normalization,
            fingerprint=fingerprint(trunk.blocks),
            seconds=float(record["seconds"]),
        )

    def _train(
        self,
        service: ServiceConfig,
        network: Any,
        normalization: Normalization,
        seed: int,
        report: Report,
    ) -> dict[str, Any]:
        started = time.perf_counter()
        train, validation = self.images(service)
        losses: list[float] = []
        if service.weights is not None:
            path = resolve_weights(self.place.config_path, service.weights)
            load_weights(network, load_tensors(path), str(path))
        elif service.training is not None:
            options = service.training
            plan = TrainingPlan(
                epochs=options.epochs,
                batch=options.batch,
                learning_rate=options.learning_rate,
                weight_decay=options.weight_decay,
                label_smoothing=options.label_smoothing,
                augmentation=tuple(options.augmentation),
                seed=seed,
            )
            losses = train_network(
                network,
                train,
                normalization,
                plan,
                device=self.place.device,
                progress=lambda done, total, _: report(f"training {service.dnn}", done, total),
            )
        reached = accuracy(
            network.eval().to(self.place.device),
            validation,
            normalization,
            device=self.place.device,
        )
        return {
            "losses": losses,
            "accuracy": reached,
            "seconds": time.perf_counter() - started if losses else 0.0,
            "images": len(train),
        }

    def state(self, task: str) -> dict[str, Any]:
        """Return the frozen weights and statistics of a service, by name."""
        return load_tensors(self._files[task])

    def stitcher(self, task: str) -> Stitcher:
        """Return what measures the paths of a task."""
        if task not in self._stitchers:
            service = self.services[task]
            activations = Activations(self.trunks, self.task_images(task), self.place.device)
            self._stitchers[task] = Stitcher(service.config.dnn, activations, self.plan())
        return self._stitchers[task]

    def task_images(self, task: str) -> TaskImages:
        """Return the images that a task's adapters learn from and are measured on."""
        service = self.services[task]
        train, validation = self.images(service.config)
        adapters = self.config.adapters
        return split_images(
            train,
            validation,
            service.normalization,
            images=adapters.images,
            held_out=adapters.held_out,
            seed=self.config.seed,
        )

    def plan(self) -> StitchPlan:
        """Return how adapters are made."""
        adapters = self.config.adapters
        return StitchPlan(
            calibration=adapters.calibration,
            ridge=adapters.ridge,
            epochs=adapters.epochs,
            batch=adapters.batch,
            learning_rate=adapters.learning_rate,
            weight_decay=adapters.weight_decay,
            distillation=adapters.distillation,
            temperature=adapters.temperature,
            half=self.config.precision == "half",
        )


def architecture_of(service: ServiceConfig, classes: int) -> Architecture:
    """Return the network that a service asks for."""
    return Architecture(
        name=service.architecture,
        classes=classes,
        input_shape=service.input,
        options=service.options,
        changes=service.changes,
    )


def source_of(config: ProfileConfig, service: ServiceConfig, data: Path) -> ImageSource:
    """Return where a service's images come from."""
    dataset = config.dataset(service)
    if dataset.path is not None:
        path: Path | None = data / dataset.path
    else:
        path = data if dataset.source == "torchvision" else None
    return ImageSource(dataset.source, path, dataset.name, dataset.download)


@lru_cache(maxsize=8)
def _split(
    source: ImageSource,
    shape: tuple[int, ...],
    validation: int,
    limit: int | None,
    seed: int,
    groups: tuple[tuple[str, tuple[str, ...]], ...] | None,
) -> tuple[Images, Images]:
    """Read the training split and hold the validation images out.

    The images are parted before they are relabelled: tasks on the same data set then hold the
    same images out, and none is trained on what another is measured on.
    """
    if groups is not None:
        train, held_out = _split(source, shape, validation, limit, seed, None)
        names = dict(groups)
        return train.relabelled(names), held_out.relabelled(names)
    images = load_images(source, "train", shape)
    train, held_out = images.split(validation, seed)
    return train.first(limit), held_out
