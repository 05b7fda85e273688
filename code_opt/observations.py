"""What the running edge shows, put into the instance: accuracies, device times and demands.

A CSV table, a row for each of these:

- the accuracy of a path: ``task``, ``blocks`` (ids joined by ``>``), ``accuracy``, ``samples``;
- the demand of a task: ``task``, ``demand`` [inferences/s];
- the time of a batch on one device: ``block``, or ``task``, ``source`` and ``target`` of a
  connection; ``batch`` (1), and ``seconds`` or ``milliseconds``.

A row may give accuracy and demand of a task together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from code_opt.core.evaluator import path_on
from code_opt.core.results import score_interval
from code_opt.errors import InputError
from code_opt.instance.cells import CsvRow, load_cells, refuse
from code_opt.instance.model import INPUT, Block, Connection, GivenPath, Instance, MeasuredPath
from code_opt.instance.periods import with_demands
from code_opt.instance.problems import hint
from code_opt.measurements import Measurement, with_measurements
from code_opt.paths import PathProblem, TaskGraph, Topology
from code_opt.result import Result

__all__ = ["Observation", "ObservedRow", "load_observations", "observe"]

COLUMNS = (
    *("task", "blocks", "accuracy", "samples", "demand"),
    *("block", "source", "target", "batch", "seconds", "milliseconds"),
)
MOST_SAMPLES = 1e12


@dataclass(frozen=True)
class ObservedRow:
    """What one row of a table says."""

    place: str
    """File and line, for messages."""
    task: str | None = None
    blocks: tuple[str, ...] | None = None
    """Of the path; None: that of a result."""
    accuracy: float | None = None
    samples: float | None = None
    demand: float | None = None
    """[inferences/s]."""
    time: Measurement | None = None


@dataclass(frozen=True)
class Observation:
    """One figure, as the instance had it and as it was observed."""

    kind: Literal["accuracy", "demand", "time"]
    """``time`` is in seconds for a batch, ``demand`` in inferences/s."""
    what: str
    """Task, block or connection."""
    detail: str
    """Blocks of the path, or the size of the batch."""
    predicted: float | None
    """None: the instance said nothing of it."""
    observed: float
    source: str = ""
    """Where the prediction of an accuracy came from: measured, given or predicted."""
    interval: tuple[float, float] | None = None
    """95 % interval of an observed accuracy, where its samples are told."""

    @property
    def is_as_predicted(self) -> bool | None:
        """Whether the prediction of an accuracy lies in the interval; None where there is none."""
        if self.interval is None or self.predicted is None:
            return None
        return self.interval[0] <= self.predicted <= self.interval[1]


def load_observations(path: str | Path) -> tuple[ObservedRow, ...]:
    """Read a table of observations (see the module).

    Raises:
        InputError: the file cannot be read, or something in it is wrong; all of it is told.
    """
    cells = load_cells(path)
    header = cells.columns if cells.rows else []
    if not {"accuracy", "demand", "seconds", "milliseconds"} & set(header):
        raise InputError(
            f"{path}: no observations: expected columns task and accuracy (with blocks, samples) "
            "or demand, or block and seconds or milliseconds"
        )
    first = cells.rows[0][0]
    problems = [
        f"{path}:{first}: unknown column {name!r}{hint(name, COLUMNS)}"
        for name in header
        if name not in COLUMNS
    ]
    problems += [
        f"{path}:{first}: the column {name!r} stands there twice"
        for name in COLUMNS
        if header.count(name) > 1
    ]
    rows = []
    for line, values in cells.rows[1:]:
        place = f"{path}:{line}"
        wrong = cells.width_problem(values, len(header))
        if wrong is not None:
            problems.append(f"{place}: {wrong}")
            continue
        row = CsvRow(dict(zip(header, values, strict=False)), cells.separator, place)
        rows.append(_observed(row))
        problems += row.problems
    refuse(problems)
    if not rows:
        raise InputError(f"{path}: holds no observation")
    return tuple(rows)


def _observed(row: CsvRow) -> ObservedRow:
    """Return what a row says; what is wrong with it is noted there."""
    cells = row.cells
    given = [name for name in ("seconds", "milliseconds") if cells.get(name)]
    figures = [name for name in ("accuracy", "demand") if cells.get(name)]
    if given and figures:
        row.problems.append(f"{row.place}: {given[0]} and {figures[0]}: give each a row of its own")
    elif len(given) > 1:
        row.problems.append(f"{row.place}: give seconds or milliseconds, not both")
    elif given:
        return ObservedRow(row.place, time=_time(row, given[0]))
    elif not figures:
        row.problems.append(f"{row.place}: says nothing: give an accuracy, a demand or seconds")
    for name in ("block", "source", "target", "batch"):
        if cells.get(name):
            row.problems.append(
                f"{row.place} {name} = {cells[name]!r}: belongs to a time; give seconds or "
                "milliseconds"
            )
    samples = row.number("samples", most=MOST_SAMPLES)
    if samples is not None and samples == samples and not samples.is_integer():
        row.problems.append(f"{row.place} samples = {cells['samples']!r}: must be a whole number")
    names = [name.strip() for name in cells.get("blocks", "").split(">") if name.strip()]
    return ObservedRow(
        place=row.place,
        task=row.text("task"),
        blocks=tuple(names) or None,
        accuracy=row.number("accuracy", most=1.0, or_0=True),
        samples=samples,
        demand=row.number("demand", or_0=True),
    )


def _time(row: CsvRow, column: str) -> Measurement:
    """Return the time that a row gives."""
    target: str | tuple[str, str, str]
    if row.cells.get("block"):
        target = row.cells["block"]
    else:
        target = row.text("task"), row.text("source"), row.text("target")
    batch = row.number("batch") or 1.0
    if batch == batch and not batch.is_integer():
        row.problems.append(f"{row.place} batch = {row.cells['batch']!r}: must be a whole number")
    seconds = row.needed(column) * (1e-3 if column == "milliseconds" else 1.0)
    return Measurement(target, int(batch) if batch == batch else 1, seconds, row.place)


def observe(
    instance: Instance, rows: Sequence[ObservedRow], result: Result | None = None
) -> tuple[Instance, tuple[Observation, ...]]:
    """Return an instance as it was observed, and each figure beside what was predicted.

    The accuracy of a native path becomes that of the task, of an alternative that of the
    alternative; of any other path it is a measured path. A floor above an observed demand is
    lowered to it.

    Args:
        instance: what was predicted.
        rows: what was observed.
        result: tells which path a task had where a row does not say.

    Raises:
        InputError: a row does not fit the instance; all that is wrong is told.
    """
    topology = PathProblem(instance).topology
    graphs = {graph.task.id: graph for graph in topology.graphs}
    connections = {(t.id, c.source, c.target): c for t in instance.tasks for c in t.connections}
    paths = {} if result is None else _paths_of(result)
    problems: list[str] = []
    found: list[Observation] = []
    changes: dict[str, dict[str, Any]] = {}
    demands: dict[str, float] = {}
    seen: dict[tuple[object, ...], str] = {}

    def is_new(place: str, *key: object) -> bool:
        if key in seen:
            problems.append(f"{place}: {seen[key]} tells the same already")
        return seen.setdefault(key, place) == place

    times = [row.time for row in rows if row.time is not None]
    for time in times:
        if is_new(time.place, "time", time.target, time.batch):
            observation = _observed_time(topology, connections, time, problems)
            found += [] if observation is None else [observation]
    for row in rows:
        graph = graphs.get(row.task or "")
        if row.time is not None:
            continue
        if graph is None:
            known = f"no such task{hint(str(row.task), list(graphs))}"
            problems.append(f"{row.place} task = {row.task!r}: {known}")
            continue
        name = graph.task.id
        if row.demand is not None and is_new(row.place, "demand", name):
            demands[name] = row.demand
            found.append(Observation("demand", name, "", graph.task.demand, row.demand))
        if row.accuracy is None:
            continue
        blocks = row.blocks or paths.get(name)
        if blocks is None:
            problems.append(
                f"{row.place} task = {name!r}: which path has this accuracy? Fill in its blocks, "
                "or give a result that has a path of the task"
            )
        elif is_new(row.place, "accuracy", name, blocks):
            observation = _observed_accuracy(graph, blocks, row, changes, problems)
            found += [] if observation is None else [observation]
    refuse(problems)
    tasks = tuple(
        task.model_copy(update=changes[task.id]) if task.id in changes else task
        for task in instance.tasks
    )
    observed = with_demands(instance.model_copy(update={"tasks": tasks}), demands)
    observed = with_measurements(observed.replace(), times) if times else observed.replace()
    return observed, tuple(found)


def _paths_of(result: Result) -> dict[str, tuple[str, ...]]:
    """Return the paths of a result by task.

    Raises:
        InputError: it holds none.
    """
    if not result.has_solution:
        raise InputError(f"result of {result.method}: {result.status}, so it holds no paths")
    return {row.task: GivenPath.of(row.path, row.accuracy_source) for row in result.tasks}


def _observed_time(
    topology: Topology,
    connections: Mapping[tuple[str, str, str], Connection],
    time: Measurement,
    problems: list[str],
) -> Observation | None:
    """Return a time beside the one that the instance has, or that its FLOPs tell."""
    work: Block | Connection | None
    if isinstance(time.target, str):
        place, near = time.target, hint(time.target, list(topology.block))
        work, what = topology.block.get(place), f"block = {place!r}: no such block{near}"
    else:
        task, source, target = time.target
        place = target if source == INPUT else source
        work = connections.get(time.target)
        what = f"task = {task!r}: has no connection from {source!r} to {target!r}"
    if work is None:
        problems.append(f"{time.place} {what}")
        return None
    own = work.server if isinstance(work, Connection) else None
    server = topology.servers[own or topology.server_of[place]]
    predicted = None
    if work.seconds is not None:
        predicted = work.seconds.get(str(time.batch))
    elif server.speed is not None:
        predicted = time.batch * work.flops / server.speed
    return Observation("time", time.name, f"batch {time.batch}", predicted, time.seconds)


def _observed_accuracy(
    graph: TaskGraph,
    blocks: tuple[str, ...],
    row: ObservedRow,
    changes: dict[str, dict[str, Any]],
    problems: list[str],
) -> Observation | None:
    """Note what an accuracy changes of its task, and return it beside the prediction."""
    task, arcs = graph.task, graph.path_arcs(blocks)
    text = " > ".join(blocks)
    if arcs is None:
        problems.append(f"{row.place} blocks = {text!r}: is no path of task {task.id!r}")
        return None
    assert row.accuracy is not None
    predicted = path_on(graph, tuple(arcs)).accuracy
    source = graph.accuracy_source(tuple(arcs))
    figures = {"accuracy": row.accuracy, "samples": row.samples}
    mine = changes.setdefault(task.id, {})
    chains = {name: chain for (kind, name), chain in graph.chains.items() if kind == "alternative"}
    if source != "given":
        measured = mine.get("measured_paths", task.measured_paths)
        fresh = MeasuredPath.model_validate({"blocks": tuple(blocks), **figures})
        mine["measured_paths"] = (*(m for m in measured if m.blocks != tuple(blocks)), fresh)
    elif tuple(arcs) in chains.values():
        mine["alternatives"] = tuple(
            a.model_copy(update=figures) if chains.get(a.dnn) == tuple(arcs) else a
            for a in mine.get("alternatives", task.alternatives)
        )
    else:
        mine.update(figures)
    interval = score_interval(row.accuracy, row.samples)
    return Observation("accuracy", task.id, text, predicted, row.accuracy, source, interval)
