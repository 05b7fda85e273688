"""Measuring connections and paths: each once, kept at once.

A *connection* is looked at by the path through it that needs the fewest other connections,
in closed form, once per kind of adapter. Of the kinds that are as accurate as the best one,
to one standard error, the one with the least work is kept (the one-standard-error rule of
Breiman, Friedman, Olshen and Stone, 1984). A *path* is measured by fitting its adapters,
training them together, and counting right answers on the validation images.

A measurement is kept under a key of everything that it rests on: the networks on its path
(weights, layers, cuts), its images with their labels, how adapters are made, seed, device
and libraries. What is not in the key (servers, demands, reward, other services) changes no
measurement.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from code_opt.answers import BoolArray, packed, unpacked
from code_opt.errors import InputError
from code_opt.instance.model import OUTPUT
from code_opt.networks.adapters import AdapterSpec, adapter_costs
from code_opt.networks.cost import AdapterCost
from code_opt.networks.services import save_tensors
from code_opt.networks.stitching import PARTS, PathFit, Step, path_seed
from code_opt.networks.threads import use_threads
from code_opt.networks.timing import BlockTime
from code_opt.profiling.config import parse_config
from code_opt.profiling.connections import (
    Candidate,
    Ends,
    PathGraph,
    block_id,
    block_of,
    candidates,
)
from code_opt.profiling.preparation import Place, Preparation, Report, silent
from code_opt.profiling.times import adapter_part, block_part, part_times, seconds_of
from code_opt.reward import log_value
from code_opt.store import key_of


@dataclass(frozen=True)
class Connection:
    """A connection of a task with the kind of adapter chosen for it."""

    task: str
    source: str
    target: str
    spec: AdapterSpec
    flops: int
    """Work of the adapter for one inference [FLOP]."""
    params: int
    explained: float
    """R squared of the closed form."""
    similarity: float
    """Linear CKA of the two activations that it connects (on the task's images)."""
    accuracy: float
    """Validation accuracy of the shortest path through it, in closed form."""
    path: tuple[str, ...]
    """That path."""
    file: str
    """Weights of its closed form on that path, in the folder of the work."""
    number: int
    """Position of the adapter on that path."""
    seconds: float
    """Time of the closed forms of all kinds that were tried [s]."""

    @property
    def ends(self) -> Ends:
        """Source and target."""
        return self.source, self.target


@dataclass(frozen=True)
class PathRecord:
    """A measured path."""

    task: str
    path: tuple[str, ...]
    accuracy: float
    """Validation accuracy of the adapters that are kept."""
    closed_form: float
    tuned: float
    kept: str
    closed_form_seconds: float
    tuning_seconds: float
    file: str
    """Weights of its adapters."""
    kinds: tuple[str, ...]
    right: BoolArray
    """Which validation images are answered right, shape (n,)."""


@dataclass
class TaskProfile:
    """What is known about one task."""

    task: str
    native: str
    """Id of its own network."""
    native_path: tuple[str, ...]
    accuracy: float
    """Validation accuracy of the native path."""
    right: BoolArray
    """Which validation images the native path answers right, shape (n,)."""
    graph: PathGraph
    connections: dict[Ends, Connection]
    measured: dict[tuple[str, ...], PathRecord] = field(default_factory=dict)

    def unmeasured(self) -> list[tuple[str, ...]]:
        """Return the paths with connections that have not been measured."""
        return [p for p in self.graph.paths() if self.graph.used(p) and p not in self.measured]


@dataclass(frozen=True)
class Job:
    """A path to measure."""

    task: str
    path: tuple[str, ...]


class Measuring:
    """Measures connections and paths of a prepared config.

    Args:
        preparation: the frozen services.
        report: told how far the work is.
    """

    def __init__(self, preparation: Preparation, report: Report = silent) -> None:
        self.preparation = preparation
        self.report = report
        self.store = preparation.store
        self.tasks: dict[str, TaskProfile] = {}
        self._bases: dict[str, str] = {}

    # Connections

    def profile_connections(self) -> None:
        """Choose the adapter of every connection of every task (or find it measured)."""
        config, services = self.preparation.config, self.preparation.services
        options = {
            task: candidates(
                task,
                service.config.dnn,
                len(service.classes),
                self.preparation.trunks,
                config.connections,
                config.adapters.kinds,
            )
            for task, service in services.items()
        }
        total, done = sum(len(found) for found in options.values()), 0
        for task, found in options.items():
            native = services[task].config.dnn
            stitcher = self.preparation.stitcher(task)
            graph = PathGraph(native, self.preparation.trunks, [c.ends for c in found])
            through = {c.ends: graph.shortest_through(c.ends) for c in found}
            # A connection that lies on no path is no connection.
            useful = [c for c in found if through[c.ends] is not None]
            graph = PathGraph(native, self.preparation.trunks, [c.ends for c in useful])
            chosen: dict[Ends, Connection] = {}
            # Those that need no other connection first: others are then measured behind them.
            for candidate in sorted(useful, key=lambda c: len(graph.used(through[c.ends] or ()))):
                path = through[candidate.ends]
                assert path is not None
                chosen[candidate.ends] = self._connection(
                    task, candidate, path, graph, chosen, {c.ends: c for c in useful}
                )
                done += 1
                self.report("connections", done, total)
            self.tasks[task] = TaskProfile(
                task=task,
                native=native,
                native_path=tuple(
                    block_id(native, k) for k in range(len(self.preparation.trunks[native]))
                ),
                accuracy=stitcher.native_accuracy(),
                right=stitcher.native_answers(),
                graph=graph,
                connections={c.ends: chosen[c.ends] for c in useful},
            )
        for task_id, profile in self.tasks.items():
            for path in profile.graph.paths() if profile.graph.count <= 10**5 else ():
                record = self._known(self._path_key(task_id, path))
                if record is not None and "right" in record:  # older versions did not keep it
                    profile.measured[path] = _path_record(record, len(profile.right))

    def _connection(
        self,
        task: str,
        candidate: Candidate,
        path: tuple[str, ...],
        graph: PathGraph,
        chosen: dict[Ends, Connection],
        others: dict[Ends, Candidate],
    ) -> Connection:
        used = graph.used(path)
        options = []
        for kind in candidate.kinds:
            steps = []
            for ends in used:
                if ends in chosen and ends != candidate.ends:
                    spec = chosen[ends].spec
                else:
                    other = others[ends]
                    spec = AdapterSpec(
                        kind if ends == candidate.ends else other.kinds[0],
                        other.source_shape,
                        other.target_shape,
                    )
                steps.append(Step(*ends, spec))
            options.append(steps)
        key = key_of(
            self._base(task),
            "connection",
            path,
            candidate.ends,
            options,
            self._networks(task, path),
        )
        record = self._known(key)
        if record is None:
            record = self._try_kinds(key, task, candidate, path, options)
        return Connection(
            task=task,
            source=candidate.source,
            target=candidate.target,
            spec=AdapterSpec(record["adapter"], candidate.source_shape, candidate.target_shape),
            flops=record["flops"],
            params=record["params"],
            explained=record["explained"],
            similarity=record["similarity"],
            accuracy=record["accuracy"],
            path=path,
            file=record["file"],
            number=record["number"],
            seconds=record["seconds"],
        )

    def _try_kinds(
        self,
        key: str,
        task: str,
        candidate: Candidate,
        path: tuple[str, ...],
        options: Sequence[Sequence[Step]],
    ) -> dict[str, Any]:
        """Measure every kind of adapter in closed form and keep the best one.

        Args:
            key: of the record.
            task: whose connection it is.
            candidate: the connection.
            path: the path that it is looked at by.
            options: for every kind, the connections of the path.
        """
        started = time.perf_counter()
        stitcher = self.preparation.stitcher(task)
        number = next(k for k, s in enumerate(options[0]) if (s.source, s.target) == candidate.ends)
        tried: list[tuple[str, PathFit, AdapterCost]] = []
        for kind, steps in zip(candidate.kinds, options, strict=True):
            fit = stitcher.measure([block_of(b) for b in path], steps, seed=0, tune=False)
            tried.append((kind, fit, adapter_costs(steps[number].spec)))
        kind, fit, cost = _simplest(tried, len(stitcher.activations.images.held_out))
        seconds = time.perf_counter() - started
        file = f"connection-{key}.safetensors"
        self._save(file, fit)
        source = candidate.source
        if source == "input":
            similarity = 1.0
        else:
            dnn, block = block_of(source)
            native = self.preparation.services[task].config.dnn
            target = (
                (native, len(self.preparation.trunks[native]))
                if candidate.target == OUTPUT
                else block_of(candidate.target)
            )
            similarity = stitcher.similarity((dnn, block), target)
        return self.store.add(
            key,
            {
                "kind": "connection",
                "task": task,
                "source": source,
                "target": candidate.target,
                "adapter": kind,
                "tried": {k: {"held_out": f.held_out, "flops": c.flops} for k, f, c in tried},
                "flops": cost.flops,
                "params": cost.params,
                "explained": fit.explained[number],
                "similarity": similarity,
                "accuracy": fit.closed_form,
                "file": file,
                "number": number,
                "seconds": seconds,
            },
        )

    # Times

    @cached_property
    def times(self) -> dict[str, dict[int, BlockTime]]:
        """Device times of all blocks and of the adapters chosen, by part and batch size.

        Measured when first asked for, after :meth:`profile_connections`.
        """
        preparation = self.preparation
        blocks = [
            block_part(service.config.dnn, service.key, service.trunk, k)
            for service in preparation.services.values()
            for k in range(len(service.trunk))
        ]
        adapters = {
            connection.spec: adapter_part(connection.spec)
            for profile in self.tasks.values()
            for connection in profile.connections.values()
        }
        return part_times(
            [*blocks, *adapters.values()],
            preparation.config.timing,
            device=preparation.place.device,
            store=self.store,
            environment=preparation.environment,
            report=self.report,
        )

    def block_seconds(self, dnn: str, number: int) -> dict[str, float] | None:
        """Return the times of a block for the instance, None where its work is in FLOPs."""
        if self.preparation.config.work == "flops":
            return None
        return seconds_of(self.times[block_id(dnn, number)])

    def adapter_seconds(self, spec: AdapterSpec) -> dict[str, float] | None:
        """Return the times of an adapter for the instance, None where its work is in FLOPs."""
        if self.preparation.config.work == "flops":
            return None
        return seconds_of(self.times[adapter_part(spec).name])

    def path_flops(self, path: Sequence[str]) -> int:
        """Return the work of a path's blocks (without adapters) [FLOP]."""
        costs = {
            f"{s.config.dnn}/{k}": cost.flops
            for s in self.preparation.services.values()
            for k, cost in enumerate(s.costs)
        }
        return sum(costs[block] for block in path)

    def worth(self, accuracy: float, flops: float) -> float:
        """Return what a path is worth alone: log xi(accuracy) + log zeta(rate of its work).

        The rate is that of the mean server; where its time counts, at the pace at which it computes
        the native paths. It only compares paths of one task, at the exchange rate between accuracy
        and throughput that the reward asks for.
        """
        config = self.preparation.config
        reward = config.reward
        capacity = self._capacity
        return float(
            log_value(reward.accuracy, np.array(max(accuracy, 1e-6)))
            + log_value(reward.throughput, np.array(capacity / max(flops, 1.0)))
        )

    @cached_property
    def _capacity(self) -> float:
        """Work of the mean server [FLOP/s]."""
        config = self.preparation.config
        if config.work == "flops":
            return float(np.mean([server.flops for server in config.servers]))
        batch = config.timing.batches[0]
        seconds = sum(
            self.times[block][batch].median / batch
            for profile in self.tasks.values()
            for block in profile.native_path
        )
        flops = sum(self.path_flops(profile.native_path) for profile in self.tasks.values())
        return float(np.mean([server.devices for server in config.servers])) * flops / seconds

    # Paths

    def steps_of(self, task: str, path: Sequence[str]) -> list[Step]:
        """Return the connections of a path with their adapters."""
        profile = self.tasks[task]
        return [Step(*ends, profile.connections[ends].spec) for ends in profile.graph.used(path)]

    def measure(self, jobs: Sequence[Job], executor: Executor | None = None) -> None:
        """Measure paths that have not been measured, each kept as soon as it is done.

        Args:
            jobs: the paths.
            executor: of the standard library's kind; None measures here, one after the other.
        """
        jobs = [job for job in jobs if job.path not in self.tasks[job.task].measured]
        for done, record in enumerate(self._results(jobs, executor), start=1):
            profile = self.tasks[record["task"]]
            profile.measured[tuple(record["path"])] = _path_record(record, len(profile.right))
            self.report("paths", done, len(jobs))

    def _results(self, jobs: Sequence[Job], executor: Executor | None) -> Iterator[dict[str, Any]]:
        if executor is None:
            for job in jobs:
                yield self._finished(job, measure_path(self, job))
            return
        config, place = self.preparation.config, self.preparation.place
        waiting = {
            executor.submit(
                _measure_elsewhere,
                config.model_dump_json(by_alias=True),
                place,
                self.identity,
                job,
            ): job
            for job in jobs
        }
        for future in as_completed(waiting):
            yield self._finished(waiting[future], future.result())

    def _finished(self, job: Job, record: dict[str, Any]) -> dict[str, Any]:
        return self.store.add(self._path_key(job.task, job.path), record)

    # Keys

    def _base(self, task: str) -> str:
        """Return a key of what all measurements of a task rest on."""
        if task not in self._bases:
            preparation = self.preparation
            images = preparation.task_images(task)
            self._bases[task] = key_of(
                task,
                [images.part(part).digest for part in PARTS],
                images.normalization,
                preparation.services[task].key,
                preparation.plan(),
                preparation.config.seed,
                preparation.environment,
            )
        return self._bases[task]

    def _networks(self, task: str, path: Sequence[str]) -> list[tuple[str, str]]:
        """Return the networks that a path runs through or is compared with, and their keys."""
        services = self.preparation.services
        used = {services[task].config.dnn, *(block_of(block)[0] for block in path)}
        return sorted((s.config.dnn, s.key) for s in services.values() if s.config.dnn in used)

    def _path_key(self, task: str, path: Sequence[str]) -> str:
        return key_of(
            self._base(task), "path", path, self.steps_of(task, path), self._networks(task, path)
        )

    def _known(self, key: str) -> dict[str, Any] | None:
        """Return the record of a measurement whose weights are there, too."""
        record = self.store.get(key)
        return record if record and (self.store.folder / record["file"]).exists() else None

    @property
    def identity(self) -> str:
        """A key of everything that is measured here: equal ones measure the same."""
        return key_of([self._base(task) for task in self.preparation.services])

    def _save(self, file: str, fit: PathFit) -> None:
        tensors = {
            f"{number}.{name}": tensor
            for number, adapter in enumerate(fit.adapters)
            for name, tensor in adapter.state_dict().items()
        }
        half = self.preparation.config.precision == "half"
        save_tensors(self.store.folder / file, tensors, half=half)


def measure_path(measuring: Measuring, job: Job) -> dict[str, Any]:
    """Measure one path and save its adapters; the record is for the store."""
    preparation = measuring.preparation
    steps = measuring.steps_of(job.task, job.path)
    seed = path_seed(job.task, job.path, preparation.config.seed)
    fit = preparation.stitcher(job.task).measure([block_of(b) for b in job.path], steps, seed=seed)
    file = f"path-{measuring._path_key(job.task, job.path)}.safetensors"
    measuring._save(file, fit)
    return {
        "kind": "path",
        "task": job.task,
        "path": list(job.path),
        "accuracy": fit.accuracy,
        "closed_form": fit.closed_form,
        "tuned": fit.tuned,
        "kept": fit.kept,
        "closed_form_seconds": fit.closed_form_seconds,
        "tuning_seconds": fit.tuning_seconds,
        "file": file,
        "kinds": [step.spec.kind for step in steps],
        "right": packed(fit.right),
        "seed": seed,
        "device": preparation.place.device,
    }


def _path_record(record: dict[str, Any], images: int) -> PathRecord:
    return PathRecord(
        task=record["task"],
        path=tuple(record["path"]),
        accuracy=record["accuracy"],
        closed_form=record["closed_form"],
        tuned=record["tuned"],
        kept=record["kept"],
        closed_form_seconds=record["closed_form_seconds"],
        tuning_seconds=record["tuning_seconds"],
        file=record["file"],
        kinds=tuple(record["kinds"]),
        right=unpacked(record["right"], images),
    )


_ELSEWHERE: dict[tuple[str, Place, str], Measuring] = {}
"""In a worker process: what it has prepared, by config, place and identity of the asking side."""


def _measure_elsewhere(config: str, place: Place, identity: str, job: Job) -> dict[str, Any]:
    """Measure a path in a worker process, which prepares the config once.

    Raises:
        InputError: the worker sees other data or networks than the side that asks.
    """
    key = (config, place, identity)
    if key not in _ELSEWHERE:
        use_threads(1)
        measuring = Measuring(Preparation(parse_config(json.loads(config)), place))
        if measuring.identity != identity:
            raise InputError(
                "a worker reads other images or networks, or runs other versions of torch, than "
                "the process that asks it: all must see the same files"
            )
        measuring.profile_connections()
        _ELSEWHERE.clear()  # one at a time: each holds its images and activations
        _ELSEWHERE[key] = measuring
    return measure_path(_ELSEWHERE[key], job)


def _simplest(
    tried: Sequence[tuple[str, PathFit, AdapterCost]], images: int
) -> tuple[str, PathFit, AdapterCost]:
    """Return the kind of least work that is as accurate as the best, to one standard error.

    Args:
        tried: kinds with their fits and costs; of equals the most accurate, then the first.
        images: on which ``held_out`` was counted.
    """
    best = max(fit.held_out for _, fit, _ in tried)
    least = best - math.sqrt(best * (1.0 - best) / images)
    return min(
        (one for one in tried if one[1].held_out >= least),
        key=lambda one: (one[2].flops, -one[1].held_out),
    )
