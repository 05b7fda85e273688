"""The whole profile: from a config to an instance, a bundle and tables."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import code_opt
from code_opt.answers import ANSWERS, TaskAnswers, answers_text
from code_opt.files import write_atomically
from code_opt.instance import Instance, save_instance
from code_opt.instance.files import INSTANCE_FILE
from code_opt.networks.bundle import (
    AdapterEntry,
    DatasetEntry,
    DnnEntry,
    Manifest,
    PathEntry,
    TaskEntry,
    TimedOn,
    draw_of,
    save_bundle,
)
from code_opt.networks.compat import torch
from code_opt.networks.services import load_tensors
from code_opt.networks.stitching import PARTS
from code_opt.networks.threads import device_name, device_type, library_versions
from code_opt.networks.timing import BlockTime
from code_opt.profiling.assembling import BUNDLE, make_instance
from code_opt.profiling.config import ProfileConfig
from code_opt.profiling.connections import block_id, block_of
from code_opt.profiling.measuring import Measuring
from code_opt.profiling.prediction import (
    LEAST_TO_COMPARE,
    Design,
    choose,
    compare,
    drops,
    fitted,
    sort_of,
)
from code_opt.profiling.preparation import Place, Preparation, Report, outputs_of, silent
from code_opt.profiling.searching import Search, SearchResult
from code_opt.profiling.times import adapter_part, unsteady

RANDOM_SEEDS = 5


@dataclass(frozen=True)
class Profile:
    """What a profile made."""

    instance: Instance
    search: SearchResult
    tables: Mapping[str, pd.DataFrame]
    """By name; each is also a CSV file in ``tables/``."""
    seconds: float
    unsteady: tuple[str, ...]
    """Parts whose measured times spread so far that they mean little."""


def profile(
    config: ProfileConfig,
    place: Place,
    *,
    method: str | None = None,
    executor: Executor | None = None,
    report: Report = silent,
) -> Profile:
    """Profile services and write ``instance.json``, ``bundle/`` and ``tables/`` into ``out``.

    Everything measured is kept in ``out/work`` at once. Run again with the same config after
    a kill, it goes on where it was.

    Args:
        config: what to profile.
        place: folders and device.
        method: instead of the config's ``search.method``.
        executor: measures paths elsewhere; None measures them here.
        report: told how far the work is.

    Raises:
        InputError: the config does not fit its networks or data.
        TrainingError: a service network could not be trained.
    """
    started = time.perf_counter()
    preparation = Preparation(config, place, report)
    measuring = Measuring(preparation, report)
    measuring.profile_connections()
    if config.work == "seconds":
        _ = measuring.times  # before paths are trained: other processes would slow them down
    method = method or config.search.method
    search = Search(
        measuring, seed=config.seed, measure=lambda jobs: measuring.measure(jobs, executor)
    )
    found = search.run(method, config.search.budget)
    tables = {
        "services": _services(measuring),
        "blocks": _blocks(measuring),
        "adapters": _adapters(measuring),
        "connections": _connections(measuring),
        "paths": _paths(measuring),
        "predictors": _predictors(measuring),
        "search": _searches(measuring, found, config),
        "time": _time(measuring),
    }
    instance = make_instance(
        measuring,
        {task: drops(_best(measuring, task)) for task in measuring.tasks},
        _measured(measuring),
        bundle=BUNDLE,
    )
    _write_bundle(measuring, place.out / BUNDLE)
    save_instance(instance, place.out / INSTANCE_FILE)
    folder = place.out / "tables"
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    seconds = time.perf_counter() - started
    about = {
        "name": config.name,
        "code_opt": code_opt.__version__,
        "python": platform.python_version(),
        **library_versions(),
        "machine": platform.machine(),
        "device": device_name(place.device),
        "device_type": device_type(place.device),
        "threads": torch.get_num_threads(),
        "seed": config.seed,
        "search": method,
        "seconds_of_this_run": round(seconds, 1),
        **_seconds(measuring),
    }
    write_atomically(place.out / "about.json", json.dumps(about, indent=1) + "\n")
    return Profile(instance, found, tables, seconds, tuple(unsteady(measuring.times)))


def _design(measuring: Measuring, task: str) -> Design:
    return Design(measuring.tasks[task], measuring.path_flops)


def _best(measuring: Measuring, task: str) -> Any:
    design = _design(measuring, task)
    seed = measuring.preparation.config.seed
    return fitted(choose(design, measuring.worth, seed), design)


def _measured(measuring: Measuring) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        task: {path: record.accuracy for path, record in known.measured.items()}
        for task, known in measuring.tasks.items()
    }


def _seconds(measuring: Measuring) -> dict[str, float]:
    """Return what was spent on each stage, in this run and those that it went on from."""
    services = measuring.preparation.services.values()
    tasks = measuring.tasks.values()
    return {
        "seconds_of_training": round(sum(s.seconds for s in services), 1),
        "seconds_of_connections": round(
            sum(c.seconds for t in tasks for c in t.connections.values()), 1
        ),
        "seconds_of_paths": round(
            sum(
                r.closed_form_seconds + r.tuning_seconds for t in tasks for r in t.measured.values()
            ),
            1,
        ),
    }


# Tables


def _services(measuring: Measuring) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "task": task,
                "dnn": service.config.dnn,
                "architecture": service.config.architecture,
                "classes": len(service.classes),
                "flops": sum(cost.flops for cost in service.costs),
                "params": sum(cost.params for cost in service.costs),
                "validation_accuracy": measuring.tasks[task].accuracy,
                "training_seconds": service.seconds,
                "paths": measuring.tasks[task].graph.count,
                "connections": len(measuring.tasks[task].connections),
                "sha256": service.fingerprint,
            }
            for task, service in measuring.preparation.services.items()
        ]
    )


def _blocks(measuring: Measuring) -> pd.DataFrame:
    rows = []
    for service in measuring.preparation.services.values():
        names = [block_id(service.config.dnn, k) for k in range(len(service.costs))]
        rows += [
            {
                "block": name,
                "flops": cost.flops,
                "params": cost.params,
                "output_shape": "x".join(map(str, cost.output_shape)),
                "output_bytes": cost.output_bytes,
                **_times(measuring.times[name][batch]),
            }
            for batch in measuring.preparation.config.timing.batches
            for name, cost in zip(names, service.costs, strict=True)
        ]
    return pd.DataFrame(rows)


def _adapters(measuring: Measuring) -> pd.DataFrame:
    """Return the times of adapters: one row for each kind and shapes, and batch size."""
    chosen = {
        adapter_part(one.spec).name: one
        for profile in measuring.tasks.values()
        for one in profile.connections.values()
    }
    return pd.DataFrame(
        [
            {
                "adapter": one.spec.kind,
                "source_shape": "x".join(map(str, one.spec.source)),
                "target_shape": "x".join(map(str, one.spec.target)),
                "flops": one.flops,
                "params": one.params,
                **_times(time),
            }
            for name, one in chosen.items()
            for time in measuring.times[name].values()
        ]
    )


def _times(time: BlockTime) -> dict[str, float]:
    return {
        "batch": time.batch,
        "seconds_median": time.median,
        "seconds_low": time.low,
        "seconds_high": time.high,
        "inferences_per_second": time.throughput,
        "repeats": time.repeats,
    }


def _connections(measuring: Measuring) -> pd.DataFrame:
    rows = []
    for task, known in measuring.tasks.items():
        fit = drops(_best(measuring, task))
        for ends, one in known.connections.items():
            record = known.measured.get(one.path)
            rows.append(
                {
                    "task": task,
                    "source": ends[0],
                    "target": ends[1],
                    "sort": sort_of(ends, known.native),
                    "adapter": one.spec.kind,
                    "flops": one.flops,
                    "params": one.params,
                    "r_squared": one.explained,
                    "cka": one.similarity,
                    "on_path": " > ".join(one.path),
                    "closed_form_accuracy": one.accuracy,
                    "tuned_accuracy": None if record is None else record.tuned,
                    "drop": fit[ends],
                    "seconds": one.seconds,
                }
            )
    return pd.DataFrame(rows)


def _paths(measuring: Measuring) -> pd.DataFrame:
    rows = []
    for task, known in measuring.tasks.items():
        predictor = _best(measuring, task)
        for path, record in sorted(known.measured.items()):
            steps = known.graph.used(path)
            flops = measuring.path_flops(path) + sum(known.connections[e].flops for e in steps)
            rows.append(
                {
                    "task": task,
                    "path": " > ".join(path),
                    "connections": len(steps),
                    "flops": flops,
                    "closed_form_accuracy": record.closed_form,
                    "tuned_accuracy": record.tuned,
                    "accuracy": record.accuracy,
                    "kept": record.kept,
                    "fitted_accuracy": float(predictor.predict([path])[0]),
                    "closed_form_seconds": record.closed_form_seconds,
                    "tuning_seconds": record.tuning_seconds,
                }
            )
    return pd.DataFrame(rows)


def _predictors(measuring: Measuring) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    seed = measuring.preparation.config.seed
    for task, known in measuring.tasks.items():
        if len(known.measured) >= LEAST_TO_COMPARE:
            design = _design(measuring, task)
            used = choose(design, measuring.worth, seed)
            rows += [
                {**asdict(quality), "used": quality.predictor == used}
                for quality in compare(design, measuring.worth, seed)
            ]
    return pd.DataFrame(rows)


def _searches(measuring: Measuring, found: SearchResult, config: ProfileConfig) -> pd.DataFrame:
    """Return how searches do; after an exhaustive one, all methods against it.

    Replays measure nothing: every path that they ask for is known. A replayed method sees
    what it asked for and nothing else.
    """
    results = [found]
    exhaustive = found if found.method == "exhaustive" and found.complete else None
    if exhaustive is not None:
        results += [
            Search(measuring, seed=config.seed).run(method, None)
            for method in ("exact", "lns", "code")
        ]
        # Random measuring gets the largest number of trainings of them, so that it is
        # compared at an equal budget or more.
        budget = max(result.trainings for result in results[1:])
        results += [
            Search(measuring, seed=config.seed + k).run("random", budget)
            for k in range(RANDOM_SEEDS)
        ]
    rows = []
    for result in results:
        row = asdict(result)
        best = None if exhaustive is None else exhaustive.reward
        row["regret_percent"] = (
            100.0 * (1.0 - result.reward / best) if best and result.reward is not None else None
        )
        row["trainings_percent"] = (
            100.0 * result.trainings / exhaustive.trainings
            if exhaustive is not None and exhaustive.trainings
            else None
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _time(measuring: Measuring) -> pd.DataFrame:
    """Return what measuring costs, and what keeping the frozen beginnings saves."""
    rows = []
    for task, known in measuring.tasks.items():
        records = pd.DataFrame([asdict(record) for record in known.measured.values()])
        if records.empty:
            continue
        stitcher = measuring.preparation.stitcher(task)
        beginnings = [
            stitcher.beginning([block_of(b) for b in path], measuring.steps_of(task, path))
            for path in records["path"]
        ]
        uncached = sum(stitcher.uncached_seconds(*beginning) for beginning in beginnings)
        # Beginnings of one network contain each other: the longest computes all.
        longest = {dnn: max(n for d, n in beginnings if d == dnn) for dnn, _ in beginnings}
        once = sum(
            stitcher.activations.seconds_into(dnn, number, part)
            for dnn, number in longest.items()
            for part in PARTS
        )
        spent = float(records["closed_form_seconds"].sum() + records["tuning_seconds"].sum())
        rows.append(
            {
                "task": task,
                "paths": len(records),
                "closed_form_seconds_median": records["closed_form_seconds"].median(),
                "tuning_seconds_median": records["tuning_seconds"].median(),
                "tuning_seconds_total": records["tuning_seconds"].sum(),
                "closed_form_accuracy_mean": records["closed_form"].mean(),
                "tuned_accuracy_mean": records["tuned"].mean(),
                "beginnings_seconds": once,
                "beginnings_seconds_uncached": uncached,
                "saved_percent": 100.0 * (uncached - once) / (spent + uncached),
            }
        )
    return pd.DataFrame(rows)


# Bundle


def _write_bundle(measuring: Measuring, folder: Path) -> None:
    preparation = measuring.preparation
    config = preparation.config
    dnns, tasks = [], []
    networks: dict[str, dict[str, Any]] = {}
    adapters: dict[str, dict[str, Any]] = {}
    for task, service in preparation.services.items():
        settings = service.config
        networks[settings.dnn] = preparation.state(task)
        dnns.append(
            DnnEntry(
                id=settings.dnn,
                architecture=settings.architecture,
                classes=len(service.classes) if settings.head is None else settings.head.outputs,
                options=settings.options,
                changes=settings.changes,
                input=settings.input,
                blocks=settings.blocks,
                cuts=settings.cuts,
                flops=tuple(cost.flops for cost in service.costs),
                outputs=outputs_of(settings, service.classes),
            )
        )
        known = measuring.tasks[task]
        tensors: dict[str, Any] = {}
        entries = tuple(
            _add_adapter(measuring, tensors, one.file, one.number, one.ends, one.spec.kind)
            for one in known.connections.values()
        )
        paths = []
        for path, record in sorted(known.measured.items()):
            used = known.graph.used(path)
            paths.append(
                PathEntry(
                    blocks=path,
                    adapters=tuple(
                        _add_adapter(measuring, tensors, record.file, number, ends, kind)
                        for number, (ends, kind) in enumerate(zip(used, record.kinds, strict=True))
                    ),
                    accuracy=record.accuracy,
                )
            )
        adapters[task] = tensors
        dataset = config.dataset(settings)
        tasks.append(
            TaskEntry(
                id=task,
                dnn=settings.dnn,
                dataset=DatasetEntry(
                    source=dataset.source,
                    path=dataset.path,
                    name=dataset.name,
                    validation=dataset.validation,
                    limit=dataset.limit,
                    seed=config.seed,
                ),
                groups=settings.groups,
                classes=service.classes,
                mean=service.normalization.mean,
                deviation=service.normalization.deviation,
                connections=entries,
                paths=tuple(paths),
            )
        )
    manifest = Manifest(
        schema="code-opt/bundle/1",
        name=config.name,
        precision=config.precision,
        adapters=config.adapters.model_dump(exclude={"kinds"}),
        dnns=tuple(dnns),
        tasks=tuple(tasks),
        sha256={},
        timed=None if config.work == "flops" else TimedOn.this(preparation.place.device),
    )
    answers = {
        task.id: TaskAnswers(
            draw=draw_of(task.dataset),
            is_asked=preparation.is_asked(preparation.services[task.id].config),
            native=measuring.tasks[task.id].right,
            paths={
                path: record.right for path, record in measuring.tasks[task.id].measured.items()
            },
        )
        for task in manifest.tasks
    }
    save_bundle(folder, manifest, networks, adapters, {ANSWERS: answers_text(answers)})


def _add_adapter(
    measuring: Measuring,
    tensors: dict[str, Any],
    file: str,
    number: int,
    ends: Sequence[str],
    kind: str,
) -> AdapterEntry:
    """Copy one adapter's tensors under the next free number."""
    following = 1 + max((int(name.partition(".")[0]) for name in tensors), default=-1)
    prefix = f"{number}."
    for name, tensor in load_tensors(measuring.store.folder / file).items():
        if name.startswith(prefix):
            tensors[f"{following}.{name.removeprefix(prefix)}"] = tensor
    return AdapterEntry(source=ends[0], target=ends[1], kind=kind, number=following)
