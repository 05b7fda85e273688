"""From a config to frozen services: data read, networks trained or loaded, cut and costed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from code_opt.errors import InputError
from code_opt.networks.cost import BlockCost
from code_opt.networks.factories import code_of
from code_opt.networks.heads import Outputs
from code_opt.networks.images import (
    Images,
    ImageSource,
    Normalization,
    load_images,
    mean_encoded_size,
)
from code_opt.networks.memory import MOST_IN_MEMORY, ActivationMemory
from code_opt.networks.services import (
    load_state_dict,
    load_tensors,
    load_weights,
    make_trunk,
    save_tensors,
)
from code_opt.networks.stitching import (
    Activations,
    Stitcher,
    StitchPlan,
    TaskImages,
    Trunk,
    split_images,
)
from code_opt.networks.threads import library_versions, use_threads
from code_opt.networks.training import (
    Architecture,
    TrainingPlan,
    build_network,
    check_trainable,
    choose_device,
    fingerprint,
    round_to_half,
    train_network,
)
from code_opt.profiling.config import ProfileConfig, ServiceConfig, resolve_weights
from code_opt.store import Store, key_of

Report = Callable[[str, int, int], None]
"""Called with (what is going on, steps done, steps in all)."""


_SCHEME = 1
"""Raised when services, connections or paths are measured in another way than before: what
was measured is then not taken for what is asked."""


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
    memory: int = MOST_IN_MEMORY
    """Bytes of activations that a process keeps in memory, of all tasks together."""

    @property
    def work(self) -> Path:
        """Folder of what was measured so far."""
        return self.out / "work"


def make_place(
    config_path: Path,
    out: Path,
    data: Path,
    device: str,
    threads: int,
    memory: int = MOST_IN_MEMORY,
) -> Place:
    """Return a place; torch uses so many threads from here on.

    Raises:
        InputError: there is no such device.
    """
    use_threads(threads)
    return Place(config_path, out, data, choose_device(device), memory)


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
    key: str
    """Of all that its blocks compute rests on: weights, layers, where it is cut."""
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
        self._splits: dict[Any, tuple[Images, Images]] = {}
        self._sizes: dict[ImageSource, float] = {}
        self._check()
        for i, service in enumerate(config.services):
            self.services[service.id] = self._made(service, report)
            report("services", i + 1, len(config.services))
        self.trunks = {s.config.dnn: s.trunk for s in self.services.values()}
        self._stitchers: dict[str, Stitcher] = {}
        self._memory = ActivationMemory(place.memory, folder=place.work)

    def _check(self) -> None:
        """Find what only networks and data can tell, before any training.

        Raises:
            InputError: a network cannot be built or cut as asked, data is not there.
        """
        for i, service in enumerate(self.config.services):
            place = f"{self.place.config_path}: services[{i}]"
            try:
                train, validation = self.images(service)
                _check_classes(train, validation)
                architecture = architecture_of(service, len(train.classes))
                network = build_network(architecture, device="meta")
                make_trunk(
                    service.dnn,
                    network,
                    service.input,
                    service.blocks,
                    service.cuts,
                    outputs_of(service, train.classes),
                )
                if service.weights is not None:
                    load_weights(network, *self._weights(service, network))
                if service.training is not None:
                    check_trainable(network, architecture, min(service.training.batch, len(train)))
                if len(train) < self.config.adapters.images:
                    raise InputError(
                        f"adapters.images asks for {self.config.adapters.images} images, the "
                        f"training split has {len(train)}"
                    )
            except InputError as error:
                raise InputError(f"{place}: {error}") from None

    def images(self, service: ServiceConfig) -> tuple[Images, Images]:
        """Return the training and validation images of a service, under its classes.

        The images are parted before they are relabelled: tasks on the same data set then hold
        the same images out, and none is trained on what another is measured on.
        """
        parts = self._parted(service)
        train, validation = self._splits[parts]
        if service.groups is None:
            return train, validation
        groups = tuple(service.groups.items())
        if (*parts, groups) not in self._splits:
            self._splits[*parts, groups] = (
                train.relabelled(service.groups),
                validation.relabelled(service.groups),
            )
        return self._splits[*parts, groups]

    def is_asked(self, service: ServiceConfig) -> npt.NDArray[np.bool_]:
        """Return which validation images of its data set are a service's, shape (n,)."""
        return self._splits[self._parted(service)][1].is_in(service.groups)

    def _parted(self, service: ServiceConfig) -> tuple[Any, ...]:
        """Part the images of a service's data set; return the key that they are kept under."""
        dataset = self.config.dataset(service)
        source = source_of(self.config, service, self.place.data)
        # Kept here and no longer than this run: files may change before the next one.
        parts = (source, tuple(service.input), dataset.validation, dataset.limit)
        if parts not in self._splits:
            images = load_images(source, "train", service.input)
            self._splits[parts] = images.split(dataset.validation, self.config.seed, dataset.limit)
        return parts

    def input_bytes(self, service: ServiceConfig) -> float:
        """Return the bytes of an image of a service as it is sent.

        That of the config, or the mean size of the data set's encoded images; an input group sends
        the largest of its services, since all of them look at one image.
        """
        group = [
            other
            for other in self.config.services
            if other is service
            or (service.input_group is not None and other.input_group == service.input_group)
        ]
        return max(
            self._encoded(other) if other.input_bytes is None else other.input_bytes
            for other in group
        )

    def _encoded(self, service: ServiceConfig) -> float:
        source = source_of(self.config, service, self.place.data)
        if source not in self._sizes:
            self._sizes[source] = mean_encoded_size(source)
        return self._sizes[source]

    def _made(self, service: ServiceConfig, report: Report) -> Service:
        """Train or load a service network, or find it among what was made before."""
        train, _ = self.images(service)
        architecture = architecture_of(service, len(train.classes))
        seed = self.config.seed if service.seed is None else service.seed
        normalization = normalization_of(service, train)
        weights_hash = None
        if service.weights is not None:
            path = resolve_weights(self.place.config_path, service.weights)
            weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        layers = service.model_dump(include={"architecture", "options", "changes", "input"})
        code = code_of(service.architecture)
        if code is not None:
            layers["code"] = code
        key = key_of(
            "service",
            layers,
            service.model_dump(include={"dnn", "training"}),
            weights_hash,
            service.model_dump(include={"state_dict", "head"}, exclude_none=True),
            normalization,
            train.digest,
            seed,
            self.config.precision,
            self.environment,
        )
        file = self.place.work / f"{service.dnn}-{key}.safetensors"
        record = self.store.get(key)
        if record is None or not file.exists():
            network = build_network(architecture, seed)
            record = self._train(service, network, normalization, seed, report)
            if self.config.precision == "half":
                round_to_half(network)
            save_tensors(file, network.state_dict(), half=self.config.precision == "half")
            record = self.store.add(key, {"kind": "service", "task": service.id, **record})
        self._files[service.id] = file
        # Read back in any case: a run that goes on computes with what the first one did, to the
        # layout in memory, which decides the order of sums.
        network = build_network(architecture, seed)
        load_weights(network, load_tensors(file), str(file))
        network.to(self.place.device)
        trunk, costs = make_trunk(
            service.dnn,
            network,
            service.input,
            service.blocks,
            service.cuts,
            outputs_of(service, train.classes),
        )
        for block in trunk.blocks:  # what cutting adds, too
            block.to(self.place.device)
        weights = fingerprint(trunk.blocks)
        return Service(
            config=service,
            trunk=trunk,
            costs=tuple(costs),
            classes=train.classes,
            normalization=normalization,
            fingerprint=weights,
            key=key_of(
                layers,
                weights,
                service.model_dump(include={"blocks", "cuts"}),
                normalization,
                self.environment,
            ),
            seconds=float(record["seconds"]),
        )

    @property
    def environment(self) -> tuple[object, ...]:
        """What numbers depend on besides the config and the data: device and libraries."""
        versions = library_versions()
        return (_SCHEME, self.place.device, versions["torch"], versions["torchvision"])

    def _train(
        self,
        service: ServiceConfig,
        network: Any,
        normalization: Normalization,
        seed: int,
        report: Report,
    ) -> dict[str, Any]:
        started = time.perf_counter()
        train, _ = self.images(service)
        losses: list[float] = []
        if service.weights is not None:
            load_weights(network, *self._weights(service, network))
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
        return {
            "losses": losses,
            "seconds": time.perf_counter() - started if losses else 0.0,
            "images": len(train),
        }

    def _weights(self, service: ServiceConfig, network: Any) -> tuple[dict[str, Any], str]:
        """Return the weights that a service names, for a network, and the name of their file."""
        assert service.weights is not None
        path = resolve_weights(self.place.config_path, service.weights)
        how = service.state_dict
        options = {} if how is None else how.model_dump()
        return load_state_dict(path, network, **options), str(path)

    def state(self, task: str) -> dict[str, Any]:
        """Return the frozen weights and statistics of a service, by name."""
        return load_tensors(self._files[task])

    def stitcher(self, task: str) -> Stitcher:
        """Return what measures the paths of a task."""
        if task not in self._stitchers:
            service = self.services[task]
            activations = Activations(
                self.trunks, self.task_images(task), self.place.device, self._memory
            )
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
        classes=classes if service.head is None else service.head.outputs,
        input_shape=service.input,
        options=service.options,
        changes=service.changes,
    )


def normalization_of(service: ServiceConfig, train: Images) -> Normalization:
    """Return how a service's images are normalised: as it says, else as its training images."""
    said = service.normalization
    return (
        Normalization(*train.statistics)
        if said is None
        else Normalization(said.mean, said.deviation)
    )


def outputs_of(service: ServiceConfig, classes: Sequence[str]) -> Outputs | None:
    """Return the outputs that stand for every class, None where each class has one.

    Raises:
        InputError: the head's classes are not these.
    """
    if service.head is None:
        return None
    known = service.head.classes
    if set(known) != set(classes):
        missing = ", ".join(sorted(set(classes) - set(known))[:5])
        unknown = ", ".join(sorted(set(known) - set(classes))[:5])
        raise InputError(
            "head.classes must name the classes of the data set"
            + f"; missing: {missing}" * bool(missing)
            + f"; unknown: {unknown}" * bool(unknown)
        )
    return tuple(tuple(known[name]) for name in classes)


def source_of(config: ProfileConfig, service: ServiceConfig, data: Path) -> ImageSource:
    """Return where a service's images come from."""
    dataset = config.dataset(service)
    if dataset.path is not None:
        path: Path | None = data / dataset.path
    else:
        path = data if dataset.source == "torchvision" else None
    return ImageSource(dataset.source, path, dataset.name, dataset.download)


def _check_classes(train: Images, validation: Images) -> None:
    """Check that there are classes to tell apart, and images to do it on.

    Raises:
        InputError: there are not.
    """
    if len(train.classes) < 2:
        raise InputError(
            f"the data set has the one class {train.classes[0]!r}; a task needs two or more"
        )
    for what, images in (("training", train), ("validation", validation)):
        if not len(images):
            raise InputError(
                f"none of the {what} images is of a class in groups; take more images "
                "(datasets: validation, limit) or other groups"
            )
