"""What is evaluated: an instance with the networks behind it, ready to run paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from code_opt.errors import InputError
from code_opt.evaluation.edge import Stream
from code_opt.evaluation.routes import Part, Route, routes
from code_opt.evaluation.worker import PartSpec, SegmentSpec, WorkerSpec
from code_opt.instance import Instance, load_instance
from code_opt.networks.bundle import Bundle, TaskEntry
from code_opt.networks.compat import torch
from code_opt.networks.images import Images, ImageSource, load_images
from code_opt.networks.multitask import TaskPath
from code_opt.networks.stitching import Step
from code_opt.result import Result

_STAND_IN_INPUT = (1,)
_FLOAT_BYTES = 4


class Subject:
    """An instance and its bundle.

    Args:
        instance: what was solved.
        bundle: the networks behind it; None: stand-ins of the same work run instead.
        data: folder of the data sets.

    Raises:
        InputError: the bundle holds other tasks, networks or blocks than the instance.
    """

    def __init__(self, instance: Instance, bundle: Bundle | None, data: Path) -> None:
        self.instance = instance
        self.bundle = bundle
        self.data = data
        self._images: dict[tuple[str, str], Images] = {}
        if bundle is not None:
            self._compare(bundle)

    def _compare(self, bundle: Bundle) -> None:
        folder = bundle.folder
        work = {dnn.id: dnn.flops for dnn in bundle.manifest.dnns}
        for dnn in self.instance.dnns:
            if dnn.id not in work:
                raise InputError(f"{folder}: holds no network {dnn.id!r}")
            if [b.id for b in dnn.blocks] != [f"{dnn.id}/{k}" for k in range(len(work[dnn.id]))]:
                raise InputError(
                    f"{folder}: {dnn.id!r} has {len(work[dnn.id])} blocks {dnn.id}/0 ..., "
                    f"the instance has {', '.join(b.id for b in dnn.blocks)}"
                )
        for task in self.instance.tasks:
            entry = bundle.tasks.get(task.id)
            if entry is None:
                raise InputError(f"{folder}: holds no task {task.id!r}")
            if entry.dnn != task.dnn:
                raise InputError(
                    f"{folder}: task {task.id!r} belongs to {entry.dnn!r}, "
                    f"in the instance to {task.dnn!r}"
                )

    # Networks

    def task_path(self, task: str, path: Sequence[str]) -> TaskPath:
        """Return a task's path with its adapters.

        Raises:
            InputError: the bundle cannot run this path.
        """
        bundle = self._needed()
        native = bundle.tasks[task].dnn
        blocks = []
        for block in path:
            dnn, _, number = block.rpartition("/")
            blocks.append((dnn, int(number)))
        return TaskPath(task, native, tuple(blocks), tuple(bundle.adapters(task, path)))

    def _needed(self) -> Bundle:
        if self.bundle is None:
            raise InputError("the instance has no bundle: there are no networks to run")
        return self.bundle

    # Images

    def images(self, task: str, split: str) -> Images:
        """Return a task's images: "train", "validation" (held out when profiling) or "test".

        Raises:
            InputError: the data set is not there.
        """
        key = (task, split)
        if key not in self._images:
            entry = self._needed().tasks[task]
            if split == "test":
                images = load_images(self._source(entry), "test", self._shape(entry))
                self._images[key] = images.relabelled(entry.groups)
            else:
                images = load_images(self._source(entry), "train", self._shape(entry))
                train, held_out = images.split(entry.dataset.validation, entry.dataset.seed)
                train = train.first(entry.dataset.limit)
                self._images[task, "train"] = train.relabelled(entry.groups)
                self._images[task, "validation"] = held_out.relabelled(entry.groups)
        return self._images[key]

    def _shape(self, entry: TaskEntry) -> tuple[int, ...]:
        dnn = next(d for d in self._needed().manifest.dnns if d.id == entry.dnn)
        return tuple(dnn.input)

    def _source(self, entry: TaskEntry) -> ImageSource:
        dataset = entry.dataset
        path: Path | None = None
        if dataset.path is not None:
            path = self.data / dataset.path
        elif dataset.source == "torchvision":
            path = self.data
        return ImageSource(dataset.source, path, dataset.name)

    def inputs(self, task: str, images: Images) -> torch.Tensor:
        """Return images as the task's network takes them."""
        return self._needed().normalization(task)(torch.from_numpy(images.pixels)).contiguous()

    # The edge

    def streams(self, result: Result, most_images: int) -> list[Stream]:
        """Return the routes of a result with test images that feed them.

        Args:
            result: the assignment.
            most_images: of every task, kept in memory.
        """
        found = []
        latency = {row.task: row.latency for row in result.tasks}
        for route in routes(self.instance, result):
            if self.bundle is None:
                noise = np.random.default_rng(0).random((64, *_STAND_IN_INPUT), dtype=np.float32)
                found.append(Stream(route, noise, None, latency[route.task]))
                continue
            images = self.images(route.task, "test").first(most_images)
            inputs = np.ascontiguousarray(self.inputs(route.task, images).numpy())
            found.append(Stream(route, inputs, images.labels, latency[route.task]))
        return found

    def workers(
        self,
        assignments: Sequence[Sequence[Stream]],
        *,
        device: str,
        threads: int,
        largest_batch: int,
        adapters: Callable[[str, Sequence[str]], Sequence[tuple[Step, Any]]] | None = None,
    ) -> dict[str, WorkerSpec]:
        """Return what every server's process runs, for all assignments at once.

        Routes are numbered through: those of the first assignment from 0 on, and so on.

        Args:
            assignments: streams of every assignment.
            device: where the processes compute.
            threads: of torch in each of them.
            largest_batch: inferences computed at once, at most.
            adapters: of (task, path); None: the bundle's.
        """
        segments: dict[str, list[SegmentSpec]] = {}
        number = 0
        for streams in assignments:
            for stream in streams:
                for server, segment in self._segments(number, stream, adapters):
                    segments.setdefault(server, []).append(segment)
                number += 1
        capacity = {server.id: server.flops for server in self.instance.servers}
        links: dict[str, dict[str, tuple[float | None, float]]] = {s: {} for s in capacity}
        for link in self.instance.links:
            links[link.source][link.target] = (link.bandwidth, link.latency)
        return {
            server: WorkerSpec(
                server=server,
                capacity=capacity[server],
                links=links[server],
                segments=tuple(found),
                bundle=None if self.bundle is None else self.bundle.folder.resolve(),
                device=device,
                threads=threads,
                largest_batch=largest_batch,
            )
            for server, found in sorted(segments.items())
        }

    def _segments(
        self,
        number: int,
        stream: Stream,
        choice: Callable[[str, Sequence[str]], Sequence[tuple[Step, Any]]] | None,
    ) -> list[tuple[str, SegmentSpec]]:
        route = stream.route
        adapters: dict[tuple[str, str], Any] = {}
        if self.bundle is not None:
            chosen = (choice or self.bundle.adapters)(route.task, route.blocks)
            adapters = {(step.source, step.target): adapter for step, adapter in chosen}
        found = []
        shape: tuple[int, ...] = stream.inputs.shape[1:]
        last = len(route.segments) - 1
        for k, segment in enumerate(route.segments):
            specs = [self._part(part, adapters) for part in segment.parts]
            if self.bundle is None and k < last:
                # A stand-in hands on as many bytes as the instance says.
                specs.append(PartSpec(size=max(route.sizes[k], _FLOAT_BYTES)))
            found.append(
                (
                    segment.server,
                    SegmentSpec(
                        route=number,
                        segment=k,
                        parts=tuple(specs),
                        shape=shape,
                        flops=segment.flops,
                        next=None if k == last else route.segments[k + 1].server,
                    ),
                )
            )
            shape = self._leaving(segment.parts[-1], adapters, shape, route, k)
        return found

    def _part(self, part: Part, adapters: Mapping[tuple[str, str], Any]) -> PartSpec:
        if self.bundle is None:
            return PartSpec(flops=part.flops, size=_FLOAT_BYTES)
        if part.ends is None:
            dnn, _, number = part.block.rpartition("/")
            return PartSpec(block=(dnn, int(number)))
        adapter = adapters.get(part.ends)
        if adapter is None:  # a native arc that the instance lists for its numbers
            return PartSpec()
        state = {k: v.cpu().contiguous() for k, v in adapter.state_dict().items()}
        return PartSpec(
            adapter=adapter.spec, weights=safetensors.torch.save(state) if state else b""
        )

    def _leaving(
        self,
        part: Part,
        adapters: Mapping[tuple[str, str], Any],
        shape: tuple[int, ...],
        route: Route,
        k: int,
    ) -> tuple[int, ...]:
        """Return the shape of what leaves the last part of a segment."""
        if self.bundle is None:
            if k >= len(route.sizes):
                return shape
            return (max(1, int(np.ceil(max(route.sizes[k], _FLOAT_BYTES) / _FLOAT_BYTES))),)
        if part.ends is None:
            dnn, _, number = part.block.rpartition("/")
            return self.bundle.trunk(dnn).shapes[int(number) + 1]
        adapter = adapters.get(part.ends)
        return shape if adapter is None else adapter.spec.target


def load_subject(path: str | os.PathLike[str], data: str | os.PathLike[str] = "data") -> Subject:
    """Read an instance and the bundle that it names.

    Args:
        path: file (or folder of tables) of the instance.
        data: folder of the data sets.

    Raises:
        InstanceError: the instance is wrong.
        InputError: something cannot be read, or instance and bundle do not belong together.
    """
    instance = load_instance(path)
    return Subject(instance, bundle_of(instance, Path(path)), Path(data))


def bundle_of(instance: Instance, path: Path) -> Bundle | None:
    """Return the bundle that an instance names, or None.

    Args:
        instance: the instance.
        path: its file (or folder of tables), which the bundle lies beside.

    Raises:
        InputError: it leads out of the instance's folder, or is no bundle.
    """
    if instance.bundle is None:
        return None
    home = (path if path.is_dir() else path.parent).resolve()
    folder = (home / instance.bundle).resolve()
    if not folder.is_relative_to(home):
        raise InputError(f"{path}: bundle {instance.bundle!r} leads out of the instance's folder")
    return Bundle(folder)
