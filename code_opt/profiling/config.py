"""What to profile: the CONFIG file of ``code-opt profile``.

It is read like an instance (JSON or YAML, nothing repaired, all problems at once), and
what only the networks can tell (unknown architecture, wrong layer, input too small) is
checked before any training as well.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from code_opt.errors import InputError
from code_opt.files import read_text
from code_opt.instance import InstanceError, Link, Problem, Reward, Server
from code_opt.instance.model import INPUT, OUTPUT, Identifier, Record
from code_opt.instance.problems import Issue, YamlError, hint, place_of, shown
from code_opt.instance.records import SHAPES
from code_opt.instance.structure import field_issue
from code_opt.instance.yaml_text import read_yaml

SCHEMA = "code-opt/profile/1"

Count = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Names of services and DNNs become file names: letters, digits, dot, dash and underscore."""
Names = Annotated[tuple[str, ...], Field(strict=False)]
Change = dict[str, Any]
AdapterKind = Literal[
    "pointwise",
    "pointwise-relu",
    "pointwise-norm-relu",
    "conv3",
    "separable",
    "low-rank",
    "linear",
    "linear-grid",
]
RESERVED_OPTIONS = (
    "weights",
    "weights_backbone",
    "progress",
    "num_classes",
    "pretrained",
    "checkpoint_path",
)
"""Options of an architecture that no file may set: see :mod:`code_opt.networks.factories`."""
SearchMethod = Literal["code", "lns", "exact", "exhaustive", "random"]


class DatasetConfig(Record):
    """A data set."""

    id: Name
    source: Literal["torchvision", "parquet", "folder", "digits"]
    path: str | None = Field(None, description="folder, relative to the folder of data sets")
    name: str | None = Field(None, description="class in torchvision.datasets")
    download: bool = Field(False, description="let torchvision download what is missing")
    validation: Count = Field(description="images held out of the training split")
    limit: Count | None = Field(None, description="training images used at most; null: all")


class TrainingConfig(Record):
    """How a service network is trained (AdamW, one-cycle)."""

    epochs: Count
    batch: Count = 128
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.02
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    augmentation: tuple[Literal["crop", "flip"], ...] = Field((), strict=False)


class StateDictConfig(Record):
    """How the weights in a file are named."""

    key: str | None = Field(None, description="where in the file the state dict is")
    rename: dict[str, str] = Field(
        default_factory=dict, description="beginnings of names and what they become"
    )
    ignore: tuple[str, ...] = Field((), strict=False, description="beginnings of names left out")


Positive = Annotated[float, Field(gt=0.0)]


class NormalizationConfig(Record):
    """How pixels in [0, 1] are normalised: (value - mean) / deviation, by channel."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=3, strict=False)
    deviation: tuple[Positive, ...] = Field(min_length=1, max_length=3, strict=False)


class HeadConfig(Record):
    """What the outputs of a pretrained network stand for."""

    outputs: Count = Field(description="number of outputs")
    classes: dict[str, Annotated[tuple[int, ...], Field(min_length=1, strict=False)]] = Field(
        description="class: the numbers of its outputs, from 0 on"
    )


class ServiceConfig(Record):
    """One service: a network on a server, and the task that it was trained for."""

    id: Name = Field(description="id of the task")
    dnn: Name = Field(description="id of the network")
    server: Identifier
    architecture: str = Field(
        description="network of torchvision.models, or package.module:factory"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="its arguments")
    changes: dict[str, Change | None] = Field(
        default_factory=dict, description="layers changed (null: dropped)"
    )
    input: tuple[Count, Count, Count] = Field(description="channels, height, width", strict=False)
    dataset: str = Field(description="id of a data set")
    groups: dict[str, Names] | None = Field(
        None, description="new class: classes of the data set in it", strict=False
    )
    blocks: Count | None = Field(None, description="number of blocks, balanced in FLOPs")
    cuts: tuple[str, ...] | None = Field(
        None, description="or the places to cut after", strict=False
    )
    training: TrainingConfig | None = None
    weights: str | None = Field(
        None,
        description="file of weights instead of training, relative to CONFIG: .safetensors, or a "
        "state dict",
    )
    state_dict: StateDictConfig | None = Field(
        None, description="how to read the weights of others"
    )
    normalization: NormalizationConfig | None = Field(
        None, description="null: mean and deviation of the training images"
    )
    head: HeadConfig | None = Field(
        None, description="classes of a pretrained head; null: one output for every class"
    )
    seed: Seed | None = Field(None, description="of weights and training; null: the config's")
    demand: Annotated[float, Field(ge=0.0)] | None = None
    floor: Annotated[float, Field(ge=0.0)] | Literal["standalone"] = 0.0
    weight: Annotated[float, Field(ge=0.0)] = 1.0
    min_accuracy: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    max_latency: Annotated[float, Field(gt=0.0)] | None = None
    input_group: Identifier | None = None
    origin: Identifier | None = Field(
        None, description="server at which images arrive; null: that of the network"
    )
    input_bytes: Annotated[float, Field(ge=0.0)] | None = Field(
        None, description="bytes of an image as it is sent; null: the mean of the encoded images"
    )


class ConnectionsConfig(Record):
    """Which connections are tried, for every task."""

    skips: bool = Field(True, description="own block to a later own block")
    exits: bool = Field(True, description="own block to output")
    cross: Literal["none", "aligned", "forward"] = Field(
        "aligned",
        description="between the own and other networks, both ways: only between like depths, "
        "or to all later depths",
    )
    foreign_exits: bool = Field(True, description="block of another network to output")
    entries: bool = Field(True, description="input to the first block of another network")
    hosts: dict[str, Names] = Field(
        default_factory=dict,
        strict=False,
        description="networks that a task may borrow from (by task id; default: all)",
    )


class AdaptersConfig(Record):
    """How adapters are made."""

    kinds: tuple[AdapterKind, ...] = Field(
        ("pointwise", "pointwise-relu", "linear"), min_length=1, strict=False
    )
    images: Count = Field(4000, description="training images that adapters see")
    calibration: Count = Field(1000, description="of these, images of the closed form")
    held_out: Count = Field(500, description="of these, images that choose among kinds")
    ridge: Annotated[float, Field(gt=0.0)] = Field(
        1e-3, description="ridge penalty, relative to the mean square of the features"
    )
    epochs: Annotated[int, Field(ge=0, le=10**6)] = Field(2, description="0: closed form alone")
    batch: Count = 64
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 1e-4
    distillation: Share = Field(0.5, description="share of the native path's outputs in the loss")
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0


class SearchConfig(Record):
    """Which paths are measured."""

    method: SearchMethod = "code"
    budget: Count | None = Field(None, description="most paths trained; null: no limit")
    most_paths: Count = Field(2000, description="exhaustive refuses a case with more paths")
    optimism: Share = Field(
        0.3,
        description="share of a predicted loss that training may still repair",
    )
    first_optimism: Share = Field(
        0.85,
        description="the same for sorts of connections that no training of the task has used yet",
    )


class TimingConfig(Record):
    """How blocks and adapters are timed on the device."""

    batches: tuple[Count, ...] = Field((1, 32), min_length=1, strict=False)
    seconds: Annotated[float, Field(gt=0.0, le=600.0)] = Field(
        0.2, description="time spent per block or adapter and batch size"
    )


class ProfileConfig(Record):
    """A whole CONFIG file."""

    schema_: Literal["code-opt/profile/1"] = Field(alias="schema")
    name: str = Field(min_length=1, max_length=200)
    description: str = ""
    seed: Seed = 0
    precision: Literal["half", "full"] = Field(
        "half", description="of stored weights; half: rounded before anything is measured"
    )
    work: Literal["flops", "seconds"] = Field(
        "flops", description="seconds: the instance counts measured device time instead of FLOPs"
    )
    servers: tuple[Server, ...] = Field(min_length=1, strict=False)
    links: tuple[Link, ...] = Field((), strict=False)
    datasets: tuple[DatasetConfig, ...] = Field(min_length=1, strict=False)
    services: tuple[ServiceConfig, ...] = Field(min_length=1, strict=False)
    reward: Reward = Field(default_factory=Reward)
    connections: ConnectionsConfig = Field(
        default_factory=lambda: ConnectionsConfig.model_validate({})
    )
    adapters: AdaptersConfig = Field(default_factory=partial(AdaptersConfig.model_validate, {}))
    search: SearchConfig = Field(default_factory=partial(SearchConfig.model_validate, {}))
    timing: TimingConfig = Field(default_factory=partial(TimingConfig.model_validate, {}))

    def dataset(self, service: ServiceConfig) -> DatasetConfig:
        """Return the data set of a service."""
        return next(d for d in self.datasets if d.id == service.dataset)


def load_config(path: str | os.PathLike[str]) -> ProfileConfig:
    """Read a CONFIG file (``.json``, else YAML).

    Raises:
        InstanceError: the content is wrong; ``problems`` lists everything at once.
        InputError: the file cannot be read.
    """
    path = Path(path)
    text = read_text(path)
    problems: list[Problem] = []
    try:
        if path.suffix.lower() == ".json":
            data = json.loads(text)
        else:
            data, problems = read_yaml(text)
    except YamlError as error:
        raise InstanceError(str(path), [error.problem]) from None
    except (ValueError, RecursionError) as error:
        raise InstanceError(str(path), [Problem("file", f"not JSON: {error}")]) from None
    return parse_config(data, str(path), problems)


def parse_config(
    data: Any, source: str = "config", earlier: list[Problem] | None = None
) -> ProfileConfig:
    """Build a config from plain data and check that its parts fit together.

    Raises:
        InstanceError: something is wrong, here or earlier.
    """
    problems = list(earlier or ())
    if not isinstance(data, dict):
        raise InstanceError(source, [Problem("file", "a config must be an object with fields")])
    config: ProfileConfig | None = None
    try:
        config = ProfileConfig.model_validate(data)
    except ValidationError as error:
        found: dict[Issue, None] = {}
        for item in error.errors(include_url=False):
            location = tuple(p for p in item["loc"] if p not in _TAGS)
            issue = field_issue(item, location, _record_at(location[:-1]))
            if issue is not None:
                found[issue] = None
        problems += [Problem(place_of(i.location), i.message, i.value) for i in found]
    else:
        issues = _Consistency(config).issues
        problems += [Problem(place_of(i.location), i.message, i.value) for i in issues]
    if problems or config is None:
        raise InstanceError(source, problems)
    return config


_TAGS = {*SHAPES, "constrained-float", "float", "literal['standalone']"}
"""Parts of pydantic's locations that name an alternative, not a field."""


def _record_at(location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the model at a location, for suggestions about unknown fields."""
    record: Any = ProfileConfig
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(record, "model_fields", {}).get(part)
        if field is None:
            return None
        record = _model_in(field.annotation)
    return record if isinstance(record, type) and issubclass(record, BaseModel) else None


def _model_in(annotation: Any) -> Any:
    """Return the first model class inside of a type (tuple[X, ...], X | None), or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


class _Consistency:
    """Rules between the parts of a config."""

    def __init__(self, config: ProfileConfig) -> None:
        self.issues: list[Issue] = []
        self.config = config
        self._unique("servers", [server.id for server in config.servers])
        self._unique("datasets", [dataset.id for dataset in config.datasets])
        self._unique("services", [service.id for service in config.services])
        self._unique("services", [service.dnn for service in config.services], "dnn")
        for i, server in enumerate(config.servers):
            self._server(("servers", i), server)
        for i, service in enumerate(config.services):
            self._service(("services", i), service)
        for i, dataset in enumerate(config.datasets):
            self._dataset(("datasets", i), dataset)
        self._hosts()
        adapters = config.adapters
        for name in ("calibration", "held_out"):
            if getattr(adapters, name) >= adapters.images:
                message = f"must leave images to train on: fewer than images = {adapters.images}"
                self._add(("adapters", name), message, getattr(adapters, name))
        together = min(adapters.batch, adapters.images - adapters.held_out)
        if together == 1 and adapters.epochs and "pointwise-norm-relu" in adapters.kinds:
            name, value = (
                ("batch", adapters.batch) if adapters.batch == 1 else ("images", adapters.images)
            )
            message = (
                "pointwise-norm-relu normalises over the images of a training step, which would "
                "hold only one: take more, or leave this kind out of adapters.kinds"
            )
            self._add(("adapters", name), message, value)

    def _add(self, location: tuple[str | int, ...], message: str, value: Any = ...) -> None:
        text = None if value is ... else shown(value)
        self.issues.append(Issue(location, message, text))

    def _unique(self, section: str, names: list[str], field: str = "id") -> None:
        seen: set[str] = set()
        for i, name in enumerate(names):
            if name in seen:
                self._add((section, i, field), "stands there twice", name)
            seen.add(name)

    def _server(self, place: tuple[str | int, ...], server: Server) -> None:
        """Check what the instance would say of a server, before hours of measuring."""
        if self.config.work == "flops":
            if server.flops is None:
                self._add((*place, "flops"), "is required where work is flops")
            if server.batch > 1.0:
                message = "only measured times know batches: set work: seconds"
                self._add((*place, "batch"), message, server.batch)
        elif int(server.batch) not in self.config.timing.batches:
            sizes = ", ".join(map(str, self.config.timing.batches))
            message = f"must be one of the batch sizes that are timed (timing.batches: {sizes})"
            self._add((*place, "batch"), message, server.batch)

    def _service(self, place: tuple[str | int, ...], service: ServiceConfig) -> None:
        servers = [server.id for server in self.config.servers]
        datasets = [dataset.id for dataset in self.config.datasets]
        if service.server not in servers:
            self._add(
                (*place, "server"), f"no such server{hint(service.server, servers)}", service.server
            )
        if service.origin is not None and service.origin not in servers:
            self._add(
                (*place, "origin"), f"no such server{hint(service.origin, servers)}", service.origin
            )
        if service.dataset not in datasets:
            self._add(
                (*place, "dataset"),
                f"no such data set{hint(service.dataset, datasets)}",
                service.dataset,
            )
        if service.dnn in (INPUT, OUTPUT):
            self._add((*place, "dnn"), "is reserved", service.dnn)
        if (service.blocks is None) == (service.cuts is None):
            self._add(place, "give either blocks (a number) or cuts (names of places)")
        if (service.training is None) == (service.weights is None):
            self._add(place, "give either training or weights")
        if service.input[0] not in (1, 3):
            self._add((*place, "input", 0), "images have 1 or 3 channels", service.input[0])
        for forbidden in RESERVED_OPTIONS:
            if forbidden in service.options:
                self._add((*place, "options", forbidden), "cannot be set here")
        for name in ("state_dict", "head"):
            if getattr(service, name) is not None and service.weights is None:
                self._add((*place, name), "is about weights that are loaded: give weights")
        if service.normalization is not None:
            for name in ("mean", "deviation"):
                if len(getattr(service.normalization, name)) != service.input[0]:
                    self._add(
                        (*place, "normalization", name),
                        f"needs one number for every channel of input: {service.input[0]}",
                    )
        if service.head is not None:
            for name, outputs in service.head.classes.items():
                if not all(0 <= output < service.head.outputs for output in outputs):
                    self._add(
                        (*place, "head", "classes", name),
                        f"outputs are numbered 0 to {service.head.outputs - 1}",
                        list(outputs),
                    )
        if service.groups is not None and len(service.groups) < 2:
            self._add((*place, "groups"), "must have at least two classes")

    def _dataset(self, place: tuple[str | int, ...], dataset: DatasetConfig) -> None:
        if dataset.source == "torchvision" and not dataset.name:
            self._add((*place, "name"), "is required: a class in torchvision.datasets")
        if dataset.source in ("parquet", "folder") and not dataset.path:
            self._add((*place, "path"), "is required: the folder of the images")
        if dataset.path is not None:
            parts = Path(dataset.path)
            if parts.is_absolute() or ".." in parts.parts:
                self._add(
                    (*place, "path"), "must lie in the folder of data sets (--data)", dataset.path
                )

    def _hosts(self) -> None:
        tasks = [service.id for service in self.config.services]
        dnns = [service.dnn for service in self.config.services]
        for task, hosts in self.config.connections.hosts.items():
            if task not in tasks:
                self._add(("connections", "hosts", task), f"no such task{hint(task, tasks)}")
            for i, host in enumerate(hosts):
                if host not in dnns:
                    self._add(
                        ("connections", "hosts", task, i),
                        f"no such network{hint(host, dnns)}",
                        host,
                    )


WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
"""Endings of files of weights."""


def resolve_weights(config_path: Path, weights: str) -> Path:
    """Return a weights file given relative to CONFIG.

    Raises:
        InputError: there is no such file.
    """
    path = config_path.resolve().parent / weights
    if path.suffix not in WEIGHTS or not path.is_file():
        raise InputError(
            f"{config_path}: weights {weights!r}: no such file ending in {', '.join(WEIGHTS)}"
        )
    return path
