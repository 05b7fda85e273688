"""Why an instance is infeasible, and the least change that would make it feasible."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyomo.environ as pyo

from code_opt.methods.models import path_data
from code_opt.methods.objective import ObjectiveFunction
from code_opt.methods.settings import Settings
from code_opt.paths import PathPool, TaskPaths, Topology, build_pool
from code_opt.paths.graph import FloatArray
from code_opt.solvers import Termination, open_session
from formulations import ElasticData, build_elastic_model

_KINDS = {
    "floor": "lower the rate floors",
    "capacity": "raise the capacities",
    "memory": "raise the memories",
    "path": "relax the limits of tasks on accuracy and latency",
    "total": "lower the floors asked of the totals",
}
_SECONDS = 10.0
"""Time limit of each elastic model."""
_SMALLEST = 1e-7


def explain(topology: Topology, settings: Settings) -> str:
    """Return which requirement cannot be met and the least changes that would do.

    For each kind of requirement alone the elastic model tells the least sum of relative
    changes with which all others can be kept; where no kind is enough alone, all give
    way together.
    """
    pool = build_pool(topology, relaxed=True)
    cut_off = [t.task.id for t in pool.tasks if len(t) == 0]
    if cut_off:
        return f"task {cut_off[0]!r} has no path at all: a listed link is missing on each"
    alone = list(_blocked_tasks(pool))
    options = [(kind, _least_change(pool, settings, frozenset([kind]))) for kind in _KINDS]
    found = [(kind, *change) for kind, change in options if change is not None]
    if not found:
        change = _least_change(pool, settings, frozenset(_KINDS))
        if change is None:
            return "no assignment meets all requirements (no least change found in time)"
        lines = ["no assignment meets all requirements; the least change needs several kinds:"]
        return "\n".join(lines + [f"  {line}" for line in change[1]])
    found.sort(key=lambda item: item[1])
    lines = ["no assignment meets all requirements"]
    lines += [f"  {line}" for line in alone]
    lines.append("least changes, each enough on its own:")
    for kind, _, changes in found:
        lines.append(f"  {_KINDS[kind]}: " + "; ".join(changes))
    return "\n".join(lines)


def _blocked_tasks(pool: PathPool) -> Iterator[str]:
    """Yield the tasks that no path of their own can satisfy, whatever the others do."""
    for task in pool.tasks:
        if (_violations(task) > 0.0).all():
            limits = []
            if task.task.min_accuracy > 0.0:
                limits.append(
                    f"accuracy >= {task.task.min_accuracy:g} (best {task.paths.accuracy.max():.6g})"
                )
            if task.task.max_latency is not None:
                best = float(task.paths.seconds.min())
                limits.append(f"latency <= {task.task.max_latency:g} s (best {best:.6g} s)")
            yield f"task {task.task.id!r}: no path has " + " and ".join(limits)


def _violations(task: TaskPaths) -> FloatArray:
    """Return by how much each path is beyond the limits of its task, relative, shape (n,)."""
    total = np.zeros(len(task))
    if task.task.min_accuracy > 0.0:
        total += np.maximum(0.0, 1.0 - task.paths.accuracy / task.task.min_accuracy)
    if task.task.max_latency is not None:
        total += np.maximum(0.0, task.paths.seconds / task.task.max_latency - 1.0)
    return np.where(total > 1e-9, total, 0.0)


def _least_change(
    pool: PathPool, settings: Settings, elastic: frozenset[str]
) -> tuple[float, list[str]] | None:
    """Return the least sum of relative changes and what they are, or None if not enough."""
    violation = [_violations(task) for task in pool.tasks]
    if "path" not in elastic and any((v > 0.0).all() for v in violation):
        return None
    data = ElasticData(
        paths=path_data(pool, ObjectiveFunction.of(pool, settings).goal),
        path_violation=np.concatenate(violation).tolist(),
        elastic=elastic,
    )
    model = build_elastic_model(data)
    session = open_session(model, threads=settings.threads, seed=settings.seed)
    outcome = session.solve(time_limit=_SECONDS, relative_gap=1e-4, absolute_gap=1e-6)
    if outcome.value is None or outcome.termination is not Termination.OPTIMAL:
        return None
    changes = list(_changes(pool, settings, data, model))
    return (-outcome.value, changes) if changes else None


def _changes(
    pool: PathPool, settings: Settings, data: ElasticData, model: pyo.ConcreteModel
) -> Iterator[str]:
    """Yield each change of a solved elastic model in words."""
    first = 0
    named: set[str] = set()
    for task in pool.tasks:
        group = task.task.input_group
        what = f"task {task.task.id!r}" if group is None else f"input group {group!r}"
        for number in range(len(task)):
            path = first + number
            share = _value(model.lowered[path])
            if share > _SMALLEST and what not in named:
                named.add(what)
                yield (
                    f"floor of {what} from {task.floor:.6g} "
                    f"to {task.floor * (1.0 - share):.6g} inferences/s"
                )
            if data.path_violation[path] > 0.0 and _value(model.choose[path]) > 0.5:
                yield from _limit_changes(task, number)
        first += len(task)
    resources = {r.name: r for r in pool.resources}
    units = {"server": "FLOP/s", "link": "bytes/s", "memory": "bytes"}
    for rows, change in (
        (data.paths.rate_rows, model.more_capacity),
        (data.paths.memory_rows, model.more_memory),
    ):
        for i, name in enumerate(rows.names):
            share, resource = _value(change[i]), resources[name]
            if share > _SMALLEST:
                most = resource.capacity * (1.0 + share)
                yield (
                    f"{name} from {resource.capacity:.6g} to {most:.6g} "
                    f"{units[resource.kind]} (+{100 * share:.3g} %)"
                )
    for name, least, change, unit in (
        ("average accuracy", settings.min_accuracy, model.less_accuracy, ""),
        ("throughput", settings.min_throughput, model.less_throughput, " inferences/s"),
    ):
        if least and _value(change) > _SMALLEST:
            lowered = least * (1.0 - _value(change))
            yield f"floor of the {name} from {least:.6g} to {lowered:.6g}{unit}"


def _limit_changes(task: TaskPaths, number: int) -> Iterator[str]:
    accuracy, seconds = float(task.paths.accuracy[number]), float(task.paths.seconds[number])
    if accuracy < task.task.min_accuracy:
        yield (
            f"min_accuracy of task {task.task.id!r} from {task.task.min_accuracy:g} "
            f"to {accuracy:.6g}"
        )
    if task.task.max_latency is not None and seconds > task.task.max_latency:
        yield (
            f"max_latency of task {task.task.id!r} from {task.task.max_latency:g} "
            f"to {seconds:.6g} s"
        )


def _value(variable: pyo.Var) -> float:
    return float(variable.value or 0.0)
