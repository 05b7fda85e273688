"""Which adapters a path runs with, and putting what was measured back into an instance."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from code_opt.answers import ANSWERS, Answers, BoolArray, TaskAnswers, answers_text, read_answers
from code_opt.errors import InputError
from code_opt.evaluation.subject import Subject
from code_opt.instance import Instance
from code_opt.networks.bundle import (
    MANIFEST,
    AdapterEntry,
    PathEntry,
    adapters_file,
    draw_of,
    network_file,
    save_bundle,
)
from code_opt.networks.compat import torch
from code_opt.networks.memory import ActivationMemory
from code_opt.networks.multitask import MultiTaskNetwork, TaskPath
from code_opt.networks.stitching import (
    Activations,
    Step,
    Stitcher,
    StitchPlan,
    path_seed,
    split_images,
)
from code_opt.result import Result

Path_ = tuple[str, ...]
Adapters = tuple[tuple[Step, torch.nn.Module], ...]


class PathFits:
    """The adapters of evaluated paths: as the bundle has them, or trained together now.

    Args:
        subject: instance and bundle.
        device: where training runs.
        fine_tune: train the adapters of paths that were never trained together.
    """

    def __init__(self, subject: Subject, device: str, *, fine_tune: bool) -> None:
        self.subject = subject
        self.device = device
        self.fine_tune = fine_tune
        self._paths: dict[tuple[str, Path_], TaskPath] = {}
        self._origins: dict[tuple[str, Path_], str] = {}
        self._stitchers: dict[str, Stitcher] = {}
        self._memory = ActivationMemory()

    def path(self, task: str, blocks: Sequence[str]) -> TaskPath:
        """Return a path with the adapters that it runs with.

        Raises:
            InputError: the bundle cannot run this path.
        """
        key = (task, tuple(blocks))
        if key not in self._paths:
            found = self.subject.task_path(task, blocks)
            bundle = self.subject.bundle
            assert bundle is not None
            origin = "closed forms"
            if bundle.measured(task, blocks) is not None:
                origin = "trained together"
            elif not any(list(adapter.parameters()) for _, adapter in found.connections):
                origin = "native" if not found.connections else "nothing to train"
            elif self.fine_tune:
                found, origin = self._tuned(task, tuple(blocks), found), "tuned now"
            self._paths[key], self._origins[key] = found, origin
        return self._paths[key]

    def origin(self, task: str, blocks: Sequence[str]) -> str:
        """Return where a path's adapters come from."""
        self.path(task, blocks)
        return self._origins[task, tuple(blocks)]

    def adapters(self, task: str, blocks: Sequence[str]) -> Adapters:
        """Return the connections of a path with their modules."""
        return self.path(task, blocks).connections

    def network(self, result: Result) -> MultiTaskNetwork:
        """Return the multi-task network of an assignment."""
        bundle = self.subject.bundle
        assert bundle is not None
        return MultiTaskNetwork(
            bundle.trunks, [self.path(row.task, row.path) for row in result.tasks]
        )

    def _tuned(self, task: str, blocks: Path_, found: TaskPath) -> TaskPath:
        """Train a path's adapters together, as profiling does."""
        bundle = self.subject.bundle
        assert bundle is not None
        steps = [step for step, _ in found.connections]
        seed = path_seed(task, blocks, bundle.tasks[task].dataset.seed)
        fit = self._stitcher(task).measure(found.blocks, steps, seed=seed)
        return TaskPath(
            task, found.native, found.blocks, tuple(zip(steps, fit.adapters, strict=True))
        )

    def _stitcher(self, task: str) -> Stitcher:
        if task not in self._stitchers:
            bundle = self.subject.bundle
            assert bundle is not None
            settings = bundle.manifest.adapters
            missing = {"images", "held_out", *_PLAN} - set(settings)
            if missing:
                raise InputError(
                    f"{bundle.folder / MANIFEST}: adapters: no {', '.join(sorted(missing))}: "
                    "nothing says how to train"
                )
            images = split_images(
                self.subject.images(task, "train"),
                self.subject.images(task, "validation"),
                bundle.normalization(task),
                images=int(settings["images"]),
                held_out=int(settings["held_out"]),
                seed=bundle.tasks[task].dataset.seed,
            )
            plan = StitchPlan(
                calibration=int(settings["calibration"]),
                ridge=float(settings["ridge"]),
                epochs=int(settings["epochs"]),
                batch=int(settings["batch"]),
                learning_rate=float(settings["learning_rate"]),
                weight_decay=float(settings["weight_decay"]),
                distillation=float(settings["distillation"]),
                temperature=float(settings["temperature"]),
                half=bundle.manifest.precision == "half",
            )
            trunks = bundle.trunks
            for trunk in trunks.values():
                for block in trunk.blocks:
                    block.to(self.device)
            activations = Activations(trunks, images, self.device, self._memory)
            self._stitchers[task] = Stitcher(bundle.tasks[task].dnn, activations, plan)
        return self._stitchers[task]

    # Back into the instance

    def write_back(self, folder: Path, results: Sequence[Result]) -> Instance:
        """Copy the bundle with the evaluated paths in it, and return the instance with them.

        What is written is the accuracy on the *validation* images, as for all other measured
        paths of the instance: the test images stay out of any choice.

        Args:
            folder: of the new instance; its bundle becomes ``folder/bundle``.
            results: whose paths.

        Raises:
            InputError: there is no bundle, or the folder is the bundle's own.
        """
        bundle = self.subject.bundle
        if bundle is None:
            raise InputError("the instance has no bundle: no accuracy can be measured")
        target = folder / "bundle"
        if target.resolve() == bundle.folder.resolve():
            raise InputError(f"{folder}: is the instance's own folder; choose another one")
        folder.mkdir(parents=True, exist_ok=True)
        new: dict[str, dict[Path_, BoolArray]] = {
            task.id: {} for task in self.subject.instance.tasks
        }
        for result in results:
            for row in result.tasks:
                path = tuple(row.path)
                known = row.accuracy_source == "measured"
                if not known and self.path(row.task, path).connections:
                    new[row.task][path] = self._validation(row.task, path)
        self._save(target, new)
        return self._instance(new)

    def measured_answers(self) -> Answers:
        """Return which validation images native and measured paths of all tasks answer right.

        Raises:
            InputError: the instance has no bundle, or it cannot run a path.
        """
        bundle, instance = self.subject.bundle, self.subject.instance
        if bundle is None:
            raise InputError("the instance has no bundle: there are no networks to run")
        found = {}
        for task in instance.tasks:
            dnn = next(dnn for dnn in instance.dnns if dnn.id == task.dnn)
            found[task.id] = TaskAnswers(
                draw=draw_of(bundle.tasks[task.id].dataset),
                is_asked=self.subject.is_asked(task.id),
                native=self._validation(task.id, [block.id for block in dnn.blocks]),
                paths={
                    path.blocks: self._validation(task.id, path.blocks)
                    for path in task.measured_paths
                },
            )
        return found

    def _validation(self, task: str, blocks: Sequence[str]) -> BoolArray:
        """Return which validation images a path answers right, shape (n,)."""
        images = self.subject.images(task, "validation")
        bundle = self.subject.bundle
        assert bundle is not None
        network = MultiTaskNetwork(bundle.trunks, [self.path(task, blocks)]).to(self.device)
        return self.subject.answers(network.path(task), task, images, self.device)

    def _save(self, target: Path, new: Mapping[str, Mapping[Path_, BoolArray]]) -> None:
        bundle = self.subject.bundle
        assert bundle is not None
        tasks, adapters = [], {}
        for entry in bundle.manifest.tasks:
            tensors = dict(bundle.tensors(adapters_file(entry.id)))
            paths = list(entry.paths)
            for blocks, right in new[entry.id].items():
                if bundle.measured(entry.id, blocks) is not None:
                    continue
                entries: list[AdapterEntry] = []
                for step, adapter in self.path(entry.id, blocks).connections:
                    number = 1 + max(
                        [
                            *(int(name.partition(".")[0]) for name in tensors),
                            *(a.number for p in paths for a in p.adapters),
                            *(a.number for a in entry.connections),
                            *(a.number for a in entries),
                        ],
                        default=-1,
                    )
                    state = adapter.state_dict()
                    tensors |= {f"{number}.{k}": v.cpu() for k, v in state.items()}
                    entries.append(
                        AdapterEntry(
                            source=step.source,
                            target=step.target,
                            kind=step.spec.kind,
                            number=number,
                        )
                    )
                paths.append(
                    PathEntry(blocks=blocks, adapters=tuple(entries), accuracy=float(right.mean()))
                )
            adapters[entry.id] = tensors
            tasks.append(entry.model_copy(update={"paths": tuple(paths)}))
        manifest = bundle.manifest.model_copy(update={"tasks": tuple(tasks)})
        target.mkdir(parents=True, exist_ok=True)
        for dnn in manifest.dnns:
            # Their checksums stay as well: damage on the way would show.
            shutil.copyfile(bundle.folder / network_file(dnn.id), target / network_file(dnn.id))
        known = read_answers(bundle.folder)
        others = {}
        if known is not None:
            answers = {
                task: replace(one, paths={**new[task], **one.paths}) for task, one in known.items()
            }
            others[ANSWERS] = answers_text(answers)
        save_bundle(target, manifest, {}, adapters, others)

    def _instance(self, new: Mapping[str, Mapping[Path_, BoolArray]]) -> Instance:
        data = self.subject.instance.to_dict()
        for task in data["tasks"]:
            known = {tuple(path["blocks"]) for path in task["measured_paths"]}
            task["measured_paths"] += [
                {
                    "blocks": list(blocks),
                    "accuracy": float(right.mean()),
                    "samples": float(len(right)),
                }
                for blocks, right in new[task["id"]].items()
                if blocks not in known
            ]
        return self.subject.instance.replace(bundle="bundle", tasks=data["tasks"])


_PLAN = (
    "calibration",
    "ridge",
    "epochs",
    "batch",
    "learning_rate",
    "weight_decay",
    "distillation",
    "temperature",
)
