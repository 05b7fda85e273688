"""Many instances by many methods: in parallel, resumable, one failing alone.

Each pair of an instance and a method is a job. A finished job's result is written to the
output folder at once, then a line that says which content and which options it answers is
appended to ``batch.jsonl``; a second run takes what is there, if the line's key and the
result's checksum still hold, and solves the rest. Jobs that failed are tried again.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import code_opt
from code_opt.errors import InputError
from code_opt.executors import Processes, executor_of
from code_opt.files import file_stem, write_atomically
from code_opt.instance.digest import digest_of
from code_opt.instance.files import instance_file, is_instance_folder
from code_opt.instance.tables import COLUMNS
from code_opt.result import (
    Result,
    load_result,
    refuse_results_of_another_state,
    result_name,
)
from code_opt.stopping import is_stop_requested
from code_opt.store import Store, key_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Job",
    "Outcome",
    "Source",
    "batch_table",
    "find_instances",
    "is_batch",
    "result_file",
    "run_batch",
]

SUFFIXES = (".json", ".yaml", ".yml")
JOURNAL, TABLE = "batch.jsonl", "batch.csv"
HEAD_BYTES = 4096
_MEANING = 2
"""Raised when a name of a method or option comes to mean something else: older work is redone."""
_OTHER_SCHEMA = re.compile(rb"""["']?schema["']?\s*:\s*["']?code-opt/(?!instance/)""")

Fault = Literal["bad input", "failed", "not run"]
_NOT_RUN: dict[str, Any] = {"fault": "not run", "message": "interrupted"}
_TICK = 0.2
"""Seconds between two looks for a request to stop."""


@dataclass(frozen=True)
class Source:
    """An instance to solve."""

    label: str
    """Its name, with as many folders as tell it from the others."""
    path: Path
    stem: str
    """Beginning of the names of its result files."""


@dataclass(frozen=True)
class Job:
    """One instance by one method."""

    source: Source
    method: str
    tag: str | None = None
    """Part of the name of its result file."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a result (``fault`` is None), or why there is none."""

    job: Job
    result: Result | None = None
    fault: Fault | None = None
    message: str | None = None
    kept: bool = False
    """Found finished, not solved in this run."""


Report = Callable[[Outcome, int, int], None]
"""Called after each job with its outcome, how many are done, how many there are."""


def is_batch(paths: Sequence[Path]) -> bool:
    """Tell whether arguments mean many instances: several, or a folder that is none itself."""
    return len(paths) > 1 or (paths[0].is_dir() and not is_instance_folder(paths[0]))


def find_instances(paths: Iterable[Path]) -> list[Source]:
    """Return the instances that files and folders stand for, each once, in order.

    In a folder that is no instance itself (CSV tables, or ``instance.json``) these are the
    JSON and YAML files and the folders that are instances directly below it, by name. Hidden
    ones are left out, and so are files that name another of the package's schemas (results,
    profiles), wherever a folder is searched.

    Raises:
        InputError: a path is not there, a folder cannot be read or holds no instance.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not path.is_dir() or is_instance_folder(path):
            found[path] = None
            continue
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        inside = [entry for entry in entries if _is_instance(entry)]
        if not inside:
            raise InputError(
                f"{path}: neither an instance (it would hold instance.json, or servers.csv and "
                "the other tables) nor a folder of instances (no .json or .yaml file in it, no "
                "folder that is an instance)"
            )
        found.update(dict.fromkeys(inside))
    unique = {instance_file(path).resolve(): path for path in reversed(found)}
    files = [path for path in found if unique[instance_file(path).resolve()] is path]
    stems: dict[str, int] = {}
    sources = []
    for path, label in zip(files, _labels(files), strict=True):
        stem = file_stem(label)
        stems[stem] = stems.get(stem, 0) + 1
        sources.append(Source(label, path, stem if stems[stem] == 1 else f"{stem}-{stems[stem]}"))
    return sources


def run_batch(
    sources: Sequence[Source],
    methods: Sequence[str],
    settings: Mapping[str, Any],
    *,
    executor: str = "processes",
    out: Path | None = None,
    report: Report | None = None,
    tag: str | None = None,
    overwrite: bool = False,
) -> list[Outcome]:
    """Solve every instance by every method; return the outcomes, by instance, then method.

    Args:
        sources: see :func:`find_instances`.
        methods: see :func:`code_opt.registry.method_names`.
        settings: options of :func:`code_opt.solve`, as plain data.
        executor: where jobs run, see :func:`code_opt.executors.executor_of`.
        out: folder for the results, the journal and the table; it is there already.
        report: called after each job.
        tag: part of the names of the files in ``out``.
        overwrite: replace results of another state of an instance.

    Raises:
        InputError: the executor's name, the tag or the folder cannot be used, or ``out`` holds a
            result of another state of an instance.
    """
    jobs = [Job(source, method, tag) for source, method in itertools.product(sources, methods)]
    shelf = None if out is None else _Shelf(out, settings)
    outcomes: dict[Job, Outcome] = {}

    def done(outcome: Outcome, content: str | None) -> None:
        if shelf is not None and not outcome.kept:
            shelf.keep(outcome, content)
        outcomes[outcome.job] = outcome
        if report is not None:
            report(outcome, len(outcomes), len(jobs))

    for job in jobs:
        kept = None if shelf is None else shelf.find(job)
        if kept is not None:
            done(Outcome(job, kept, kept=True), None)
    open_jobs = [job for job in jobs if job not in outcomes]
    if out is not None and not overwrite:
        _refuse_other_states(open_jobs, out)
    with closing(_solve_all(open_jobs, settings, executor)) as answers:
        for job, answer in answers:
            done(_outcome(job, answer), answer.get("content"))
    ordered = [outcomes[job] for job in jobs]
    if out is not None:
        text = batch_table(ordered).to_csv(index=False, lineterminator="\n")
        write_atomically(out / table_file(tag), text)
    return ordered


def _refuse_other_states(jobs: Sequence[Job], out: Path) -> None:
    """Raise an error where jobs would replace results of another state of their instance."""
    there: dict[Path, list[Path]] = {}
    for job in jobs:
        file = out / result_file(job)
        if file.is_file():
            there.setdefault(job.source.path, []).append(file)
    for path, files in there.items():
        try:
            digest = digest_of(code_opt.load_instance(path))
        except InputError:  # its jobs tell, and write nothing
            continue
        refuse_results_of_another_state(files, digest)


def batch_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row per job; ``file`` names the result file within the output folder."""
    import pandas as pd

    columns: tuple[str, ...] = ("objective", "formulation", "reward", "bound", "gap")
    columns += ("throughput", "accuracy", "latency", "own_work")
    rows = []
    for outcome in outcomes:
        job, result = outcome.job, outcome.result
        row: dict[str, Any] = {"instance": _letters(job.source.label), "method": job.method}
        row["status"] = outcome.fault if result is None else result.status
        row |= {name: None if result is None else getattr(result, name) for name in columns}
        row["seconds"] = None if result is None else result.seconds
        row["message"] = outcome.message if result is None else result.message
        row["path"] = _letters(str(job.source.path))
        row["file"] = None if result is None else result_file(job)
        rows.append(row)
    return pd.DataFrame(rows)


def _letters(name: str) -> str:
    """Return a file's name as text; bytes that the machine's encoding lacks are read as UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def result_file(job: Job) -> str:
    """Return the name of a job's result file."""
    return result_name(job.source.stem, job.method, job.tag)


def table_file(tag: str | None) -> str:
    """Return the name of the table of all jobs."""
    return TABLE if tag is None else f"batch.{tag}.csv"


def fingerprint(path: Path) -> str | None:
    """Return a checksum of an instance's content, None where it cannot be read."""
    total = hashlib.sha256()
    path = instance_file(path)
    files = [path]
    if path.is_dir():
        files = [path / f"{t}.csv" for t in COLUMNS if (path / f"{t}.csv").is_file()]
    try:
        for file in files:
            total.update(f"{file.name} {file.stat().st_size}\n".encode("utf-8", "replace"))
            with file.open("rb") as stream:
                while chunk := stream.read(2**20):
                    total.update(chunk)
    except OSError:
        return None
    return total.hexdigest()


class _Shelf:
    """Finished results in the output folder."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self._out = out
        self._settings = dict(settings)
        self._store = Store(out, JOURNAL)
        self._content = functools.cache(fingerprint)

    def _key(self, job: Job, content: str) -> str:
        stem = job.source.stem if job.tag is None else [job.source.stem, job.tag]
        return key_of(stem, job.method, content, self._settings, code_opt.__version__, _MEANING)

    def find(self, job: Job) -> Result | None:
        """Return the result of this content and these options, if it is there, unchanged."""
        content = self._content(job.source.path)
        record = None if content is None else self._store.get(self._key(job, content))
        path = self._out / result_file(job)
        if record is None or record.get("result") != fingerprint(path):
            return None
        try:
            return load_result(path)
        except InputError:  # a newer format, say
            return None

    def keep(self, outcome: Outcome, content: str | None) -> None:
        """Write a result, then the line that says what it answers."""
        if outcome.result is None:
            return
        path = self._out / result_file(outcome.job)
        code_opt.save_result(outcome.result, path)
        if content is not None:
            record = {
                "instance": outcome.job.source.label,
                "method": outcome.job.method,
                "result": fingerprint(path),
            }
            self._store.add(self._key(outcome.job, content), record)


def _solve(path: str, method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Do one job, wherever this runs; everything that goes wrong is told as plain data."""
    try:
        content = fingerprint(Path(path))
        instance = code_opt.load_instance(path)
        result = code_opt.solve(instance, method=method, **settings)
    except (InputError, OSError) as error:
        return {"fault": "bad input", "message": str(error)}
    except Exception as error:  # noqa: BLE001
        return {"fault": "failed", "message": f"{type(error).__name__}: {error}"}
    # Solved may be what was written after the checksum was taken, or not to the end: then a
    # second run solves it again.
    whole = content == fingerprint(Path(path)) and not is_stop_requested()
    return {"result": result.to_json(), "content": content if whole else None}


def _outcome(job: Job, answer: Mapping[str, Any]) -> Outcome:
    if "result" in answer:
        return Outcome(job, Result.model_validate_json(answer["result"]))
    return Outcome(job, None, answer["fault"], answer["message"])


Answers = Generator[tuple[Job, Mapping[str, Any]], None, None]


def _solve_all(jobs: list[Job], settings: Mapping[str, Any], executor: str) -> Answers:
    """Yield each job with its answer, as they are done.

    A process that dies (out of memory, killed) takes the whole pool with it and leaves open
    whose fault it was. Then the open jobs run alone, first come first served as in the pool,
    until one dies alone: that one failed. If as many as could have been running have come
    through, it was all of them together, and the pool goes on with the rest.
    """
    left = list(jobs)
    while left:
        whole = True
        for job, answer in _together(tuple(left), settings, executor):
            if answer is None:
                whole = False
            else:
                left.remove(job)
                yield job, answer
        if whole:
            return
        for job in left[: (os.cpu_count() or 1) + 1]:
            ((_, answer),) = _together([job], settings, _alone(executor))
            died = answer is None
            left.remove(job)
            told = "the process that solved it died (out of memory?)"
            yield job, {"fault": "failed", "message": told} if answer is None else answer
            if died:
                break


def _alone(executor: str) -> str:
    return "processes:1" if executor.startswith("processes") else executor


def _together(
    jobs: Sequence[Job], settings: Mapping[str, Any], executor: str
) -> Iterator[tuple[Job, Mapping[str, Any] | None]]:
    """Yield each job with its answer; None where the pool broke before there was one."""
    with executor_of(executor) as pool:
        if pool is None:
            for job in jobs:
                stopped = is_stop_requested()
                yield (
                    job,
                    _NOT_RUN if stopped else _solve(str(job.source.path), job.method, settings),
                )
            return
        futures: dict[Future[dict[str, Any]], Job] = {}
        finished: SimpleQueue[Future[dict[str, Any]]] = SimpleQueue()
        for job in jobs:
            try:
                # Absolute: workers of a cluster may stand in another folder.
                path = str(job.source.path.absolute())
                futures[pool.submit(_solve, path, job.method, dict(settings))] = job
            except BrokenExecutor:
                yield job, None
        for future in futures:
            future.add_done_callback(finished.put)
        open_jobs, is_stopped = dict(futures), False
        while open_jobs:
            if is_stop_requested() and not is_stopped:
                is_stopped = True
                for future in open_jobs:
                    # Processes hear of it, and answer with what they have; a cluster does not.
                    future.cancel()
            with suppress(Empty):
                future = finished.get(timeout=_TICK)
                yield open_jobs.pop(future), _answer_of(future, pool)


def _answer_of(future: Future[dict[str, Any]], pool: Executor) -> Mapping[str, Any] | None:
    """Return what a job that is done has to say, None where the process that ran it died."""
    try:
        return future.result()
    except CancelledError:
        return _NOT_RUN
    except BrokenExecutor:
        if isinstance(pool, Processes) and isinstance(why := pool.why_broken(), InputError):
            raise why from None
        return None
    except Exception as error:  # noqa: BLE001 - a cluster's own: a worker lost, ...
        return {"fault": "failed", "message": f"{type(error).__name__}: {error}"}


def _is_instance(path: Path) -> bool:
    """Tell whether something in a folder is an instance, or a file that claims to be one."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_instance_folder(path)
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return not _OTHER_SCHEMA.search(stream.read(HEAD_BYTES))
    except OSError:
        return True  # trying to read it will say why


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return for each path its shortest end that no other one has.

    Suffixes are left out, except where two files differ in nothing else.
    """
    places = [path.resolve() if path.name in ("", "..") else path.absolute() for path in paths]
    bare = [
        place.with_name(place.stem) if path.is_file() else place
        for place, path in zip(places, paths, strict=True)
    ]
    twice = {place for place, count in Counter(bare).items() if count > 1}
    parts = [
        (place if short in twice else short).parts
        for place, short in zip(places, bare, strict=True)
    ]
    labels: dict[int, str] = {}
    for length in range(1, max(map(len, parts), default=0) + 1):
        ends = Counter(own[-length:] for own in parts)
        for k, own in enumerate(parts):
            if k not in labels and (ends[own[-length:]] == 1 or length >= len(own)):
                labels[k] = "/".join(own[-length:])
    return [labels[k] for k in range(len(parts))]
