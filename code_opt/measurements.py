"""Times that other tools measured, read from their CSV files and put into an instance.

Known are, told apart by their columns: reports of Triton's Model Analyzer and perf_analyzer, timm's
benchmark, and plain tables. Each row becomes the time of a batch on one device. Of a network that
the instance has, it is the time of its block; of another one, an alternative of some tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.instance.cells import CsvRow, load_cells, refuse
from code_opt.instance.problems import hint

Target = str | tuple[str, str, str]
"""Name of a network or block, or task, source and target of a connection."""


@dataclass(frozen=True)
class Measurement:
    """What one row says."""

    target: Target
    batch: int
    seconds: float
    """Time of the batch on one device [s]."""
    place: str
    """File and line, for messages."""
    accuracy: float | None = None
    samples: float | None = None
    """Images behind the accuracy."""

    @property
    def name(self) -> str:
        """The target in a message."""
        if isinstance(self.target, str):
            return self.target
        task, source, target = self.target
        return f"{source} -> {target} of task {task}"


@dataclass(frozen=True)
class _Context:
    """What a file does not say itself."""

    network: str | None
    batch: int | None
    image_size: int | None


class _Row(CsvRow):
    """A row that may give a batch size."""

    def batch(self, column: str, default: int = 1) -> int:
        """Return a batch size, the default where there is none."""
        value = self.number(column)
        if value is None or math.isnan(value):
            return default
        if not value.is_integer():
            text = self.cells[column]
            self.problems.append(f"{self.place} {column} = {text!r}: must be a whole number")
            return default
        return int(value)


def _of_model_analyzer(row: _Row, _: _Context) -> tuple[Measurement, float]:
    """Take a time from the throughput: of all concurrencies the largest keeps a device busy."""
    name, rate = row.text("Model"), math.nan
    if "," in name:
        row.problems.append(
            f"{row.place} Model = {name!r}: measured together; times of each alone are needed"
        )
    else:
        rate = row.needed("Throughput (infer/sec)")
    batch = 1 if "," in name else row.batch("Batch")
    return Measurement(name, batch, batch / rate, row.place), -rate


def _of_perf_analyzer(row: _Row, context: _Context) -> tuple[Measurement, float]:
    """Take the time in which the server computes a request, at the least concurrency."""
    if context.network is None:
        row.problems.append(f"{row.place}: the file does not name its network: --network is needed")
    parts = ["Server Compute Input", "Server Compute Infer", "Server Compute Output"]
    columns = [
        row.needed(parts[1]),
        *(float(row.cells.get(c) or 0.0) for c in (parts[0], parts[2])),
    ]
    batch = row.batch("Batch Size", context.batch or 1)
    found = Measurement(context.network or "", batch, 1e-6 * sum(columns), row.place)
    return found, row.number("Concurrency") or 0.0


def _of_timm(row: _Row, context: _Context) -> tuple[Measurement, float] | None:
    """Take a time from the samples/s of a batch."""
    name, batch = row.text("model"), row.batch("infer_batch_size")
    size = row.number("infer_img_size")
    if context.image_size is not None and size != context.image_size:
        return None
    seconds = batch / row.needed("infer_samples_per_sec")
    return Measurement(name, batch, seconds, row.place), 0.0


def _of_plain(row: _Row, _: _Context) -> tuple[Measurement, float]:
    """Take what a plain table says."""
    target: Target
    if "source" in row.cells or "target" in row.cells:
        target = row.text("task"), row.text("source"), row.text("target")
    else:
        target = row.text("block" if "block" in row.cells else "network")
    scale = 1e-3 if "milliseconds" in row.cells else 1.0
    seconds = scale * row.needed("milliseconds" if "milliseconds" in row.cells else "seconds")
    accuracy, samples = row.number("accuracy", most=1.0), row.number("samples")
    return Measurement(target, row.batch("batch"), seconds, row.place, accuracy, samples), 0.0


_PLAIN = (
    *("network", "block", "task", "source", "target"),
    *("batch", "seconds", "milliseconds", "accuracy", "samples"),
)
_KINDS: tuple[tuple[frozenset[str], Callable[..., Any], bool], ...] = (
    (frozenset({"Model", "Batch", "Throughput (infer/sec)"}), _of_model_analyzer, True),
    (frozenset({"Server Compute Infer"}), _of_perf_analyzer, True),
    (frozenset({"model", "infer_samples_per_sec"}), _of_timm, False),
    (frozenset({"seconds"}), _of_plain, False),
    (frozenset({"milliseconds"}), _of_plain, False),
)
"""Columns by which a file is known, what reads a row, and whether of several rows of one network
and batch one is taken: that of the least second number (concurrency, or minus the throughput)."""


def read_measurements(
    path: str | Path,
    *,
    network: str | None = None,
    batch: int | None = None,
    image_size: int | None = None,
) -> list[Measurement]:
    """Return what a CSV file of another tool says.

    Args:
        path: the file.
        network: of a file that does not name it (perf_analyzer).
        batch: size of the batches of such a file; None for 1.
        image_size: only rows of this size of images [pixels], where a file has several (timm).

    Raises:
        InputError: the file cannot be read or is none of the known kinds; all that is wrong
            is told.
    """
    cells = load_cells(path)
    header = cells.columns if cells.rows else []
    kind = next(((read, several) for known, read, several in _KINDS if known <= set(header)), None)
    if kind is None:
        raise InputError(
            f"{path}: no measurements: expected the columns of Triton's Model Analyzer (Model, "
            "Batch, Throughput (infer/sec)) or perf_analyzer (Server Compute Infer), of timm's "
            "benchmark (model, infer_samples_per_sec), or network or block, batch and seconds or "
            "milliseconds"
        )
    read, several = kind
    problems: list[str] = []
    if read is _of_plain:
        problems += [
            f"{path}:1: unknown column {c!r}{hint(c, _PLAIN)}" for c in header if c not in _PLAIN
        ]
    context = _Context(network, batch, image_size)
    found: dict[tuple[Target, int], tuple[Measurement, float]] = {}
    for line, values in cells.rows[1:]:
        wrong = cells.width_problem(values, len(header))
        if wrong is not None:
            problems.append(f"{path}:{line}: {wrong}")
            continue
        row = _Row(dict(zip(header, values, strict=False)), cells.separator, f"{path}:{line}")
        pair = read(row, context)
        problems += row.problems
        if pair is None or row.problems:
            continue
        key = pair[0].target, pair[0].batch
        if key in found and not several:
            size = "; --image-size tells which is meant" if read is _of_timm else ""
            problems.append(
                f"{pair[0].place}: {found[key][0].place} has a time of {pair[0].name} at batch "
                f"{pair[0].batch} already{size}"
            )
        elif key not in found or pair[1] < found[key][1]:
            found[key] = pair
    refuse(problems)
    if not found:
        raise InputError(f"{path}: holds no measurement that is asked for")
    return [measurement for measurement, _ in found.values()]


def read_accuracies(path: str | Path, *, image_size: int | None = None) -> dict[str, float]:
    """Return the accuracies of networks from a table of columns ``model`` and ``top1`` [%].

    As timm writes them for its weights (``resnet50.a1_in1k``): of a network the best ones count.

    Args:
        path: the file.
        image_size: only rows of this ``img_size`` [pixels], where the file has the column.

    Raises:
        InputError: the file cannot be read, or is no such table.
    """
    cells = load_cells(path)
    header = cells.columns if cells.rows else []
    if not {"model", "top1"} <= set(header):
        raise InputError(f"{path}: no accuracies: expected the columns model and top1 [%]")
    best: dict[str, float] = {}
    problems: list[str] = []
    for line, values in cells.rows[1:]:
        row = _Row(dict(zip(header, values, strict=False)), cells.separator, f"{path}:{line}")
        name, percent = row.text("model"), row.number("top1", most=100.0)
        size = row.number("img_size")
        problems += row.problems
        if percent is not None and (image_size is None or size in (None, float(image_size))):
            for known in (name, name.partition(".")[0]):
                best[known] = max(best.get(known, 0.0), percent / 100.0)
    refuse(problems)
    return best


def with_accuracies(
    measurements: Sequence[Measurement], accuracies: Mapping[str, float]
) -> list[Measurement]:
    """Return measurements with the accuracies of their networks, where they have none."""
    return [
        replace(m, accuracy=accuracies.get(m.name)) if m.accuracy is None else m
        for m in measurements
    ]


def with_measurements(
    instance: Instance,
    measurements: Sequence[Measurement],
    *,
    names: Mapping[str, str] | None = None,
    alternatives_of: Sequence[str] = (),
    server: str | None = None,
    per_inference: bool = False,
) -> Instance:
    """Return a copy of an instance with measured times, checked.

    Args:
        instance: whose blocks and connections get ``seconds``.
        measurements: times; what the instance has beside them (other batches) stays.
        names: ids of the instance by the names of networks that were measured.
        alternatives_of: tasks that networks which the instance does not have may answer.
        server: where such a network runs.
        per_inference: take the share of one inference in a batch as the time of batch 1, the
            least where there are several.

    Raises:
        InputError: a name is not known, or the result is no instance; all that is wrong is told.
    """
    data = instance.to_dict()
    works = _works(data)
    problems: list[str] = []
    times: dict[int, dict[str, float]] = {}
    added: dict[str, dict[str, Any]] = {}
    for m in measurements:
        target = m.target
        if isinstance(target, str):
            target = (names or {}).get(target, target)
        work = works.get(target)
        if isinstance(work, int):
            problems.append(
                f"{m.place}: network {target!r} has {work} blocks: a time of all of them says "
                "nothing of each; measure its blocks"
            )
            continue
        if work is None and isinstance(target, str) and target not in added and alternatives_of:
            problem = _problem_of_alternative(m, data, alternatives_of, server)
            if problem is not None:
                problems.append(problem)
                continue
            added[target] = _add_alternative(data, target, m, alternatives_of, str(server))
        work = added.get(target, work) if isinstance(target, str) else work
        if work is None:
            known = [key for key in works if isinstance(key, str)]
            near = hint(target, known) if isinstance(target, str) else ""
            problems.append(
                f"{m.place}: {m.name!r}: no such network, block or connection{near}; --rename "
                "says what it is called, --alternatives-of makes a network an alternative"
            )
            continue
        size, seconds = (1, m.seconds / m.batch) if per_inference else (m.batch, m.seconds)
        fresh = times.setdefault(id(work), {})
        fresh[str(size)] = min(seconds, fresh.get(str(size), math.inf))
        work["seconds"] = {**(work.get("seconds") or {}), **fresh}
    refuse(problems)
    return instance.replace(**{key: data[key] for key in ("dnns", "tasks")})


def _works(data: Mapping[str, Any]) -> dict[Target, dict[str, Any] | int]:
    """Return blocks, connections and networks by name; of one of several blocks their number."""
    works: dict[Target, dict[str, Any] | int] = {}
    for dnn in data["dnns"]:
        blocks = dnn["blocks"]
        works[dnn["id"]] = blocks[0] if len(blocks) == 1 else len(blocks)
    works |= {block["id"]: block for dnn in data["dnns"] for block in dnn["blocks"]}
    works |= {
        (task["id"], c["source"], c["target"]): c
        for task in data["tasks"]
        for c in task["connections"]
    }
    return works


def _problem_of_alternative(
    m: Measurement, data: Mapping[str, Any], tasks: Sequence[str], server: str | None
) -> str | None:
    """Return why a network cannot be an alternative, None where it can."""
    known = [task["id"] for task in data["tasks"]]
    missing = [task for task in tasks if task not in known]
    servers = [one["id"] for one in data["servers"]]
    if missing:
        return f"--alternatives-of {missing[0]!r}: no such task{hint(missing[0], known)}"
    if server is None:
        return f"{m.place}: {m.name!r}: an alternative runs on a server of its own: --server"
    if server not in servers:
        return f"--server {server!r}: no such server{hint(server, servers)}"
    if m.accuracy is None:
        return f"{m.place}: {m.name!r}: an alternative has a measured accuracy: --accuracies"
    return None


def _add_alternative(
    data: dict[str, Any], name: str, m: Measurement, tasks: Sequence[str], server: str
) -> dict[str, Any]:
    """Add a network of one block to plain data, as an alternative of tasks; return the block."""
    block: dict[str, Any] = {"id": name, "flops": 0.0}
    data["dnns"].append({"id": name, "server": server, "blocks": [block]})
    for task in data["tasks"]:
        if task["id"] in tasks:
            alternative = {"dnn": name, "accuracy": m.accuracy, "samples": m.samples}
            task["alternatives"] = [*task["alternatives"], alternative]
    return block
