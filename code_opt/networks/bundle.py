"""The bundle: the networks behind an instance's numbers, as files that strangers may send.

A folder with ``manifest.json`` (checked like an instance), one safetensors file per
network and one per task with its adapters. Nothing in it can run unless the user names it:
architectures are names in ``torchvision.models`` with plain arguments (or factories of modules that
the user allows), weights are plain arrays, and files are looked for inside the folder only. The
manifest holds the SHA-256 of every other file, so that damage is found before it is measured; it
says nothing about who wrote them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from code_opt.errors import InputError
from code_opt.files import read_text, write_atomically
from code_opt.instance.model import Record
from code_opt.instance.problems import shown
from code_opt.networks.adapters import KINDS, Adapter, AdapterSpec
from code_opt.networks.compat import torch
from code_opt.networks.factories import RESERVED, check_name, module_of
from code_opt.networks.images import Normalization
from code_opt.networks.services import load_tensors, load_weights, make_trunk, save_tensors
from code_opt.networks.stitching import INPUT, OUTPUT, Step, Trunk
from code_opt.networks.threads import device_type
from code_opt.networks.training import Architecture, build_network

SCHEMA = "code-opt/bundle/1"
MANIFEST = "manifest.json"
_LARGEST = 10**6
"""Largest number of a shape or of classes in a manifest."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Size = Annotated[int, Field(ge=1, le=_LARGEST)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,129}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DnnEntry(Record):
    """One network; its weights lie in ``<id>.safetensors``."""

    id: Name
    architecture: str
    classes: Size
    """Outputs of the network."""
    options: dict[str, Any]
    changes: dict[str, dict[str, Any] | None]
    input: tuple[Size, Size, Size] = Field(strict=False)
    blocks: Size | None
    cuts: tuple[str, ...] | None = Field(strict=False)
    flops: tuple[int, ...] = Field(strict=False)
    """Work of every block [FLOP]: tells whether another version cuts the same blocks."""
    outputs: tuple[Annotated[tuple[int, ...], Field(min_length=1, strict=False)], ...] | None = (
        Field(None, strict=False)
    )
    """For every class of the task the outputs that stand for it; None: one each."""


class AdapterEntry(Record):
    """One adapter; its tensors are named ``<number>.<tensor>`` in the task's file."""

    source: str
    target: str
    kind: str
    number: Annotated[int, Field(ge=0)]


class PathEntry(Record):
    """A path that was measured, with the adapters that were trained for it together."""

    blocks: tuple[str, ...] = Field(min_length=1, strict=False)
    adapters: tuple[AdapterEntry, ...] = Field(strict=False)
    accuracy: Annotated[float, Field(ge=0.0, le=1.0)]
    """On the validation images."""


class DatasetEntry(Record):
    """Where a task's images come from; the path is relative to the folder of data sets."""

    source: Literal["torchvision", "parquet", "folder", "digits"]
    path: str | None
    name: str | None
    validation: Size
    limit: Size | None
    seed: Annotated[int, Field(ge=0)]
    """Of the images held out of the training split for validation."""


def draw_of(dataset: DatasetEntry) -> str:
    """Return a name of the validation images: tasks of equal ones are measured on the same."""
    where = dataset.path or dataset.name
    name = dataset.source if where is None else f"{dataset.source} {where}"
    return f"{name}, {dataset.validation} held out by seed {dataset.seed}"


class TaskEntry(Record):
    """One task; its adapters lie in ``<id>.adapters.safetensors``."""

    id: Name
    dnn: Name
    dataset: DatasetEntry
    groups: dict[str, Names] | None = Field(strict=False)
    classes: tuple[str, ...] = Field(min_length=2, strict=False)
    mean: tuple[float, ...] = Field(strict=False)
    deviation: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(strict=False)
    connections: tuple[AdapterEntry, ...] = Field(strict=False)
    """An adapter for every connection, for paths that were never measured."""
    paths: tuple[PathEntry, ...] = Field(strict=False)


class TimedOn(Record):
    """The device on which the instance's ``seconds`` were measured."""

    device: str
    """Name of the processor or GPU."""
    threads: Annotated[int, Field(ge=1)]
    torch: str
    """Its version."""

    @classmethod
    def this(cls, device: str) -> TimedOn:
        """Return what times that are measured now, in this process, hold for."""
        return cls(
            device=device_type(device),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
        )


class Manifest(Record):
    """What a bundle holds."""

    schema_: Literal["code-opt/bundle/1"] = Field(alias="schema")
    name: str
    precision: Literal["half", "full"]
    adapters: dict[str, float | int | bool]
    """How adapters were trained, for whoever trains more."""
    dnns: tuple[DnnEntry, ...] = Field(min_length=1, strict=False)
    tasks: tuple[TaskEntry, ...] = Field(min_length=1, strict=False)
    sha256: dict[FileName, Sha256]
    """Of every file beside the manifest, by its name."""
    timed: TimedOn | None = None
    """None: the instance holds no measured times."""


def network_file(dnn: str) -> str:
    """Return the name of the file with a network's weights."""
    return f"{dnn}.safetensors"


def adapters_file(task: str) -> str:
    """Return the name of the file with a task's adapters."""
    return f"{task}.adapters.safetensors"


def save_bundle(
    folder: Path,
    manifest: Manifest,
    networks: Mapping[str, Mapping[str, torch.Tensor]],
    adapters: Mapping[str, Mapping[str, torch.Tensor]],
    others: Mapping[str, str] | None = None,
) -> None:
    """Write a bundle; the manifest comes last, so a folder without one is not a bundle.

    Args:
        folder: made if it is not there.
        manifest: what the bundle holds. The checksums of files that are written here are set;
            those of others stay.
        networks: state of every network, by id.
        adapters: tensors of every task's adapters, by the task's id.
        others: texts of other files, by name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror or error}") from None
    half = manifest.precision == "half"
    files = {network_file(name): tensors for name, tensors in networks.items()}
    files |= {adapters_file(name): tensors for name, tensors in adapters.items()}
    sums = dict(manifest.sha256)
    for file, tensors in files.items():
        save_tensors(folder / file, tensors, half=half)
        sums[file] = sha256(folder / file)
    for file, text in (others or {}).items():
        write_atomically(folder / file, text)
        sums[file] = sha256(folder / file)
    written = manifest.model_copy(update={"sha256": dict(sorted(sums.items()))})
    unset = {"timed"} if written.timed is None else set()
    said = json.dumps(written.model_dump(mode="json", by_alias=True, exclude=unset), indent=1)
    write_atomically(folder / MANIFEST, said + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


class Bundle:
    """A bundle that was read: trunks and adapters, built when they are asked for.

    Args:
        folder: the bundle.
        allow_code: modules whose factories may be called to build its networks.

    Raises:
        InputError: the manifest is missing or wrong, or asks for code that is not allowed.
    """

    def __init__(self, folder: Path, allow_code: Collection[str] = ()) -> None:
        self.folder = folder
        self.allow_code = tuple(allow_code)
        path = folder / MANIFEST
        text = read_text(path)
        try:
            self.manifest = Manifest.model_validate(json.loads(text))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}: {place} = {shown(first['input'])}: {first['msg']}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not JSON: {error}") from None
        self.tasks = {task.id: task for task in self.manifest.tasks}
        self._check(path)
        self._tensors: dict[str, dict[str, torch.Tensor]] = {}
        self._trunks: dict[str, Trunk] = {}

    def _check(self, path: Path) -> None:
        dnns = [dnn.id for dnn in self.manifest.dnns]
        if len(set(dnns)) < len(dnns) or len(self.tasks) < len(self.manifest.tasks):
            raise InputError(f"{path}: an id stands there twice")
        for i, dnn in enumerate(self.manifest.dnns):
            if (dnn.blocks is None) == (dnn.cuts is None):
                raise InputError(f"{path}: dnns[{i}]: needs either blocks or cuts")
            for forbidden in RESERVED:
                if forbidden in dnn.options:
                    raise InputError(f"{path}: dnns[{i}].options.{forbidden}: cannot be set")
            try:
                check_name(dnn.architecture)
            except InputError as error:
                raise InputError(f"{path}: dnns[{i}]: {error}") from None
            module = module_of(dnn.architecture)
            if module is not None and module not in self.allow_code:
                raise InputError(
                    f"{path}: dnns[{i}].architecture = {shown(dnn.architecture)}: would run code "
                    f"of the module {module}; if you trust it and what the bundle asks of it: "
                    f"--allow-code {module}"
                )
            for row in dnn.outputs or ():
                if not all(0 <= output < dnn.classes for output in row):
                    raise InputError(
                        f"{path}: dnns[{i}].outputs: {list(row)} of {dnn.classes} outputs"
                    )
        for i, task in enumerate(self.manifest.tasks):
            place = f"{path}: tasks[{i}]"
            if task.dnn not in dnns:
                raise InputError(f"{place}.dnn = {shown(task.dnn)}: no such network")
            for entry in (*task.connections, *(a for p in task.paths for a in p.adapters)):
                if entry.kind not in KINDS:
                    raise InputError(f"{place}: no kind of adapter {shown(entry.kind)}")
            for name in (task.dataset.path,):
                if name is not None and (Path(name).is_absolute() or ".." in Path(name).parts):
                    raise InputError(f"{place}.dataset.path = {shown(name)}: leaves its folder")
        for file in (*map(network_file, dnns), *map(adapters_file, self.tasks)):
            if file not in self.manifest.sha256:
                raise InputError(f"{path}: sha256: no checksum of {file}")

    def tensors(self, file: str) -> dict[str, torch.Tensor]:
        """Return the tensors of a file of the bundle; floating-point ones in float32.

        Raises:
            InputError: the file is missing, leads out of the bundle, is not what the manifest's
                checksum says, or no safetensors file.
        """
        if file not in self._tensors:
            path = self.folder / file
            # Names hold no separators, but a link could still lead out of the folder.
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise InputError(f"{path}: leads out of the bundle")
            found, wanted = sha256(path), self.manifest.sha256[file]
            if found != wanted:
                raise InputError(
                    f"{path}: damaged or replaced: its SHA-256 is {found}, that in {MANIFEST} is "
                    f"{wanted}; fetch or write the bundle again"
                )
            self._tensors[file] = load_tensors(path)
        return self._tensors[file]

    @cached_property
    def trunks(self) -> dict[str, Trunk]:
        """All networks, frozen and cut.

        Raises:
            InputError: see :meth:`trunk`.
        """
        return {entry.id: self.trunk(entry.id) for entry in self.manifest.dnns}

    def trunk(self, dnn: str) -> Trunk:
        """Return one network, frozen and cut; built once.

        Raises:
            InputError: there is no such network, it cannot be built, its weights do not fit, or
                this version of torchvision cuts it into other blocks.
        """
        if dnn not in self._trunks:
            entry = next((d for d in self.manifest.dnns if d.id == dnn), None)
            if entry is None:
                raise InputError(f"{self.folder}: no network {shown(dnn)}")
            self._trunks[dnn] = self._build(entry)
        return self._trunks[dnn]

    def _build(self, entry: DnnEntry) -> Trunk:
        file = network_file(entry.id)
        tensors = self.tensors(file)
        architecture = Architecture(
            entry.architecture, entry.classes, entry.input, entry.options, entry.changes
        )
        # Built without storage first: a manifest can ask for a network of any size.
        empty = build_network(architecture, device="meta")
        size = sum(t.numel() for t in empty.state_dict().values())
        stored = sum(t.numel() for t in tensors.values())
        if size != stored:
            raise InputError(f"{self.folder / file}: holds {stored} values, the network has {size}")
        network = build_network(architecture)
        load_weights(network, tensors, str(self.folder / file))
        trunk, costs = make_trunk(
            entry.id, network, entry.input, entry.blocks, entry.cuts, entry.outputs
        )
        if tuple(cost.flops for cost in costs) != entry.flops:
            raise InputError(
                f"{self.folder}: {entry.id} is cut into other blocks than it was profiled "
                "with; use the versions of torch and torchvision that made the bundle"
            )
        return trunk

    def normalization(self, task: str) -> Normalization:
        """Return how a task's images are normalised."""
        entry = self.tasks[task]
        return Normalization(entry.mean, entry.deviation)

    def measured(self, task: str, blocks: Sequence[str]) -> PathEntry | None:
        """Return the entry of a measured path, or None."""
        wanted = tuple(blocks)
        return next((p for p in self.tasks[task].paths if p.blocks == wanted), None)

    def adapters(self, task: str, blocks: Sequence[str]) -> list[tuple[Step, Adapter]]:
        """Return the connections of a path with their adapters.

        For a measured path those that were trained for it together, otherwise those that
        each connection has of its own.

        Raises:
            InputError: the path uses a connection that the bundle has no adapter for, or the
                weights do not fit.
        """
        entry = self.tasks[task]
        known = self.measured(task, blocks)
        by_ends = {
            (a.source, a.target): a
            for a in (known.adapters if known is not None else entry.connections)
        }
        file = adapters_file(task)
        found = []
        names = [INPUT, *blocks, OUTPUT]
        for tail, head in zip(names, names[1:], strict=False):
            if self._is_native(entry.dnn, tail, head) and (tail, head) not in by_ends:
                continue
            if (tail, head) not in by_ends:
                raise InputError(f"task {task!r}: the bundle has no adapter from {tail} to {head}")
            one = by_ends[tail, head]
            spec = AdapterSpec(one.kind, self._leaving(entry, tail), self._entering(entry, head))
            adapter = Adapter(spec).eval()
            prefix = f"{one.number}."
            tensors = (
                {
                    name.removeprefix(prefix): tensor
                    for name, tensor in self.tensors(file).items()
                    if name.startswith(prefix)
                }
                if adapter.state_dict()
                else {}
            )
            load_weights(adapter, tensors, f"{self.folder / file}: adapter {one.number}")
            adapter.requires_grad_(False)
            found.append((Step(tail, head, spec), adapter))
        return found

    def spec(self, task: str, source: str, target: str) -> AdapterSpec:
        """Return kind and shapes of the adapter that a connection has of its own.

        Raises:
            InputError: the bundle has none.
        """
        entry = self.tasks[task]
        for one in entry.connections:
            if (one.source, one.target) == (source, target):
                shapes = self._leaving(entry, source), self._entering(entry, target)
                return AdapterSpec(one.kind, *shapes)
        raise InputError(f"task {task!r}: the bundle has no adapter from {source} to {target}")

    def _is_native(self, dnn: str, tail: str, head: str) -> bool:
        if tail == INPUT:
            return head == f"{dnn}/0"
        if head == OUTPUT:
            return tail == f"{dnn}/{len(self.trunks[dnn]) - 1}"
        (one, i), (other, j) = self._block(tail), self._block(head)
        return one == other and j == i + 1

    def _block(self, name: str) -> tuple[str, int]:
        dnn, _, number = name.rpartition("/")
        if dnn not in self.trunks or not number.isdecimal():
            raise InputError(f"the bundle has no block {shown(name)}")
        if int(number) >= len(self.trunks[dnn]):
            raise InputError(f"the bundle has no block {shown(name)}")
        return dnn, int(number)

    def _leaving(self, entry: TaskEntry, name: str) -> tuple[int, ...]:
        if name == INPUT:
            return self.trunks[entry.dnn].shapes[0]
        dnn, number = self._block(name)
        return self.trunks[dnn].shapes[number + 1]

    def _entering(self, entry: TaskEntry, name: str) -> tuple[int, ...]:
        if name == OUTPUT:
            return (len(entry.classes),)
        dnn, number = self._block(name)
        return self.trunks[dnn].shapes[number]
