"""What is evaluated: an instance with the networks behind it, ready to run paths."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch

from code_opt.errors import InputError
from code_opt.evaluation.flow import Labels, Stream, streams_of
from code_opt.evaluation.routes import Part, Route, Segment, step_keys
from code_opt.evaluation.server import whole_devices
from code_opt.evaluation.worker import (
    PartSpec,
    PieceSpec,
    VisitSpec,
    WorkerSpec,
    make_modules,
)
from code_opt.instance import Instance, load_instance
from code_opt.instance.files import bundle_folder
from code_opt.networks.bundle import Bundle, TaskEntry
from code_opt.networks.compat import torch
from code_opt.networks.images import Images, ImageSource, load_images
from code_opt.networks.memory import halving
from code_opt.networks.multitask import TaskPath
from code_opt.networks.stitching import Step
from code_opt.networks.training import EVALUATION_BATCH
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
        self._asked: dict[str, npt.NDArray[np.bool_]] = {}
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
        known = next(t for t in self.instance.tasks if t.id == task)
        return TaskPath(
            task,
            native,
            tuple(blocks),
            tuple(bundle.adapters(task, path)),
            stream=self._stream(task, known.input_group),
            steps=tuple(step_keys(known, path)),
        )

    def _stream(self, task: str, group: str | None) -> str | None:
        """Return a name that tasks have in common whose networks take the very same tensor."""
        if group is None:
            return None
        entry = self._needed().tasks[task]
        return f"{group} {self._shape(entry)} {entry.mean} {entry.deviation}"

    def _needed(self) -> Bundle:
        if self.bundle is None:
            raise InputError("the instance has no bundle: there are no networks to run")
        return self.bundle

    # Images

    def images(self, task: str, split: str) -> Images:
        """Return a task's images: "train", "validation" (held out when profiling) or "test".

        Raises:
            InputError: the data set is not there, or has other classes than the bundle.
        """
        key = (task, split)
        if key not in self._images:
            entry = self._needed().tasks[task]
            if split == "test":
                images = load_images(self._source(entry), "test", self._shape(entry))
                self._images[key] = self._labelled(entry, "test", images)
            else:
                images = load_images(self._source(entry), "train", self._shape(entry))
                dataset = entry.dataset
                train, held_out = images.split(dataset.validation, dataset.seed, dataset.limit)
                self._images[task, "train"] = self._labelled(entry, "train", train)
                self._images[task, "validation"] = self._labelled(entry, "validation", held_out)
                self._asked[task] = held_out.is_in(entry.groups)
        return self._images[key]

    def is_asked(self, task: str) -> npt.NDArray[np.bool_]:
        """Return which of the images held out of its data set are a task's, shape (n,)."""
        self.images(task, "validation")
        return self._asked[task]

    def _labelled(self, entry: TaskEntry, split: str, images: Images) -> Images:
        """Return images under the classes of a task, numbered as its network was trained.

        Raises:
            InputError: they are other classes, or no image is left.
        """
        try:
            found = images.relabelled(entry.groups).numbered(entry.classes)
        except InputError as error:
            source = self._source(entry)
            place = source.path if source.path is not None else source.kind
            raise InputError(f"task {entry.id!r}: {place}, {split} split: {error}") from None
        if not len(found):
            raise InputError(f"task {entry.id!r}: no image of the {split} split is in its groups")
        return found

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

    def answers(
        self,
        module: torch.nn.Module,
        task: str,
        images: Images,
        device: str,
        dtype: torch.dtype = torch.float32,
    ) -> npt.NDArray[np.bool_]:
        """Return which images of a task a module answers right, shape (n,).

        Images are prepared and go to the device batch by batch: a whole test split may fit into
        neither memory. Batches are halved as often as the device's memory asks for.

        Args:
            module: a path of the task, on the device.
            task: whose images they are.
            images: labelled.
            device: "cpu" or "cuda".
            dtype: of the module's weights.
        """

        def right(batch: int) -> npt.NDArray[np.bool_]:
            found = np.empty(len(images), dtype=np.bool_)
            for start in range(0, len(images), batch):
                rows = np.arange(start, min(start + batch, len(images)))
                part = images.subset(rows)
                outputs = module(self.inputs(task, part).to(device, dtype))
                found[rows] = outputs.argmax(dim=1).cpu().numpy() == part.labels
            return found

        with torch.no_grad():
            return halving(right, EVALUATION_BATCH)[0]

    # The edge

    def streams(self, result: Result, most_images: int) -> list[Stream]:
        """Return the routes of a result with test images that feed them.

        Args:
            result: the assignment.
            most_images: of every task, kept in memory.

        Raises:
            InputError: tasks are said to look at the same input, but their images differ.
        """
        return [
            replace(stream, **self._fed(stream.route, most_images))
            for stream in streams_of(self.instance, result)
        ]

    def _fed(self, route: Route, most_images: int) -> dict[str, Any]:
        """Return the inputs and the labels of a stream."""
        roots = [k for k, segment in enumerate(route.segments) if segment.parent < 0]
        if self.bundle is None:
            noise = np.random.default_rng(0).random((64, *_STAND_IN_INPUT), dtype=np.float32)
            return {"inputs": dict.fromkeys(roots, noise)}
        by_task = self.same_inputs(route.tasks, most_images)
        inputs = {}
        for k in roots:
            names = [route.tasks[place] for place in route.segments[k].tasks]
            inputs[k] = by_task[names[0]][0]
            for other in names[1:]:
                if not np.array_equal(by_task[other][0], inputs[k]):
                    raise InputError(
                        f"tasks {names[0]!r} and {other!r} share the beginning of their "
                        "paths, but the bundle prepares their images differently"
                    )
        return {"inputs": inputs, "labels": tuple(by_task[task][1] for task in route.tasks)}

    def same_inputs(
        self, tasks: Sequence[str], most_images: int
    ) -> dict[str, tuple[npt.NDArray[np.float32], Labels]]:
        """Return the first test images of tasks that look at the same ones, and their labels.

        Raises:
            InputError: the images differ.
        """
        found, first = {}, None
        for task in tasks:
            images = self.images(task, "test").first(most_images)
            if first is None:
                first = images
            elif len(images) != len(first) or not _same_pictures(images.pixels, first.pixels):
                raise InputError(
                    f"tasks {tasks[0]!r} and {task!r} are in one input group, but their test "
                    "images are not the same"
                )
            inputs = np.ascontiguousarray(self.inputs(task, images).numpy())
            found[task] = (inputs, images.labels)
        return found

    def workers(
        self,
        assignments: Sequence[Sequence[Stream]],
        *,
        device: str,
        threads: int,
        largest_batch: int,
        adapters: Callable[[str, Sequence[str]], Sequence[tuple[Step, Any]]] | None = None,
        paced: bool = True,
    ) -> dict[str, WorkerSpec]:
        """Return what every server's process runs, for all assignments at once.

        Routes are numbered through: those of the first assignment from 0 on, and so on.

        Args:
            assignments: streams of every assignment.
            device: where the processes compute.
            threads: of torch in each of them.
            largest_batch: inferences computed at once, at most.
            adapters: of (task, path); None: the bundle's.
            paced: at the instance's pace, which only whole devices without batches keep.
        """
        visits: dict[str, list[VisitSpec]] = {}
        number = 0
        for streams in assignments:
            for stream in streams:
                for server, visit in self._visits(number, stream, adapters):
                    visits.setdefault(server, []).append(visit)
                number += 1
        devices = {
            server.id: whole_devices(server) if paced else 1 for server in self.instance.servers
        }
        links: dict[str, dict[str, tuple[float | None, float]]] = {s: {} for s in devices}
        for link in self.instance.links:
            links[link.source][link.target] = (link.bandwidth, link.latency)
        return {
            server: WorkerSpec(
                server=server,
                devices=devices[server],
                links=links[server],
                visits=tuple(found),
                bundle=None if self.bundle is None else self.bundle.folder.resolve(),
                allow_code=() if self.bundle is None else self.bundle.allow_code,
                device=device,
                threads=threads,
                largest_batch=largest_batch,
            )
            for server, found in sorted(visits.items())
        }

    def activations(
        self, workers: Mapping[str, WorkerSpec], assignments: Sequence[Sequence[Stream]], most: int
    ) -> dict[tuple[int, int], npt.NDArray[np.float32]]:
        """Return what arrives at every visit, computed from the streams' inputs.

        Args:
            workers: of the assignments (:meth:`workers`).
            assignments: streams of every assignment.
            most: inputs of each visit, at most.

        Returns:
            By route and visit, shape (n, ...).
        """
        streams = dict(enumerate(stream for found in assignments for stream in found))
        visits = sorted(
            (visit for spec in workers.values() for visit in spec.visits),
            key=lambda visit: (visit.route, visit.visit),
        )
        found: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
        with torch.inference_mode():
            for visit in visits:  # segments stand behind those that they come from
                key = (visit.route, visit.visit)
                if key not in found:
                    found[key] = streams[visit.route].inputs[visit.visit][:most]
                outputs: list[torch.Tensor] = []
                x = torch.from_numpy(found[key])
                modules = make_modules(visit, self.bundle, "cpu")
                for piece, module in zip(visit.pieces, modules, strict=True):
                    outputs.append(module(x if piece.parent < 0 else outputs[piece.parent]))
                    for _, to, _, _ in piece.next:
                        found[visit.route, to] = outputs[-1].numpy()
        return found

    def _visits(
        self,
        number: int,
        stream: Stream,
        choice: Callable[[str, Sequence[str]], Sequence[tuple[Step, Any]]] | None,
    ) -> list[tuple[str, VisitSpec]]:
        route = stream.route
        adapters: dict[tuple[str, tuple[str, str]], Any] = {}
        if self.bundle is not None:
            for task, path in zip(route.tasks, route.paths, strict=True):
                for step, adapter in (choice or self.bundle.adapters)(task, path):
                    adapters[task, (step.source, step.target)] = adapter
        leaving: dict[int, tuple[int, ...]] = {}
        found = []
        for visit, pieces in route.visits().items():
            first = route.segments[visit]
            if first.parent < 0:
                arriving = stream.inputs[visit].shape[1:]
            else:
                arriving = (_numbers(first.size),) if self.bundle is None else leaving[first.parent]
            specs = []
            for piece in pieces:
                segment = route.segments[piece.segment]
                if self.bundle is not None:
                    entering = arriving if piece.parent < 0 else leaving[segment.parent]
                    leaving[piece.segment] = self._leaving(segment.parts, adapters, entering)
                specs.append(
                    PieceSpec(
                        parts=tuple(self._part(part, adapters) for part in segment.parts),
                        seconds=segment.seconds,
                        parent=piece.parent,
                        next=tuple(self._sent(c, route, segment) for c in piece.next),
                        answers=segment.answers,
                    )
                )
            found.append((first.server, VisitSpec(number, visit, arriving, tuple(specs))))
        return found

    def _sent(
        self, segment: int, route: Route, origin: Segment
    ) -> tuple[str, int, int | None, float | None]:
        """Return where an output is sent, the numbers of a stand-in, the bytes of an input.

        A stand-in sends as many bytes as the instance says. Images are sent decoded, and take a
        link as long as the encoded ones do.
        """
        there = route.segments[segment]
        numbers = None if self.bundle is not None else _numbers(there.size)
        return there.server, segment, numbers, None if origin.parts else there.size

    def _part(self, part: Part, adapters: Mapping[tuple[str, tuple[str, str]], Any]) -> PartSpec:
        if self.bundle is None:
            return PartSpec(flops=part.flops)
        if part.ends is None:
            dnn, _, number = part.block.rpartition("/")
            return PartSpec(block=(dnn, int(number)))
        adapter = adapters.get((part.task, part.ends))
        if adapter is None:  # a native arc that the instance lists for its numbers
            return PartSpec()
        state = {k: v.cpu().contiguous() for k, v in adapter.state_dict().items()}
        return PartSpec(
            adapter=adapter.spec, weights=safetensors.torch.save(state) if state else b""
        )

    def _leaving(
        self,
        parts: Sequence[Part],
        adapters: Mapping[tuple[str, tuple[str, str]], Any],
        entering: tuple[int, ...],
    ) -> tuple[int, ...]:
        """Return the shape of what leaves the last part of a segment."""
        if not parts:
            return entering
        part = parts[-1]
        if part.ends is None:
            dnn, _, number = part.block.rpartition("/")
            return self._needed().trunk(dnn).shapes[int(number) + 1]
        adapter = adapters.get((part.task, part.ends))
        return entering if adapter is None else tuple(adapter.spec.target)


def _numbers(size: float) -> int:
    """Return how many float32 numbers so many bytes are, at least one."""
    return max(1, math.ceil(size / _FLOAT_BYTES))


def _same_pictures(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    """Return whether images are the same, or may be the same in other sizes."""
    return one.shape != other.shape or bool(np.array_equal(one, other))


def load_subject(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] = "data",
    allow_code: Collection[str] = (),
) -> Subject:
    """Read an instance and the bundle that it names.

    Args:
        path: file (or folder of tables) of the instance.
        data: folder of the data sets.
        allow_code: modules whose factories may be called to build the bundle's networks.

    Raises:
        InstanceError: the instance is wrong.
        InputError: something cannot be read, or instance and bundle do not belong together.
    """
    instance = load_instance(path)
    return Subject(instance, bundle_of(instance, Path(path), allow_code), Path(data))


def bundle_of(instance: Instance, path: Path, allow_code: Collection[str] = ()) -> Bundle | None:
    """Return the bundle that an instance names, or None.

    Args:
        instance: the instance.
        path: its file (or folder of tables), which the bundle lies beside.
        allow_code: modules whose factories may be called to build the bundle's networks.

    Raises:
        InputError: it leads out of the instance's folder, or is no bundle.
    """
    folder = bundle_folder(instance, path)
    return None if folder is None else Bundle(folder, allow_code)
