"""From one result to the next: yesterday's paths today, and what differs between two results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from code_opt.core.changes import adapter_changes, change_of, keepable_paths
from code_opt.core.evaluator import path_on
from code_opt.core.fixed_paths import limit_missed, path_fault
from code_opt.errors import InputError
from code_opt.instance.model import GivenPath, Instance
from code_opt.paths import PathProblem
from code_opt.result import AdapterChange, Change, Number, Result
from code_opt.solving import evaluate_paths

__all__ = ["Difference", "TaskDifference", "broken_limits", "diff", "rerate"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TaskDifference(_Record):
    """What one task has in two results; null where one of them has no such task."""

    task: str
    change: Change | None = Field(description="null: the second result has no such task")
    old_path: tuple[str, ...] | None
    new_path: tuple[str, ...] | None
    old_rate: Number | None = Field(description="[inferences/s]")
    new_rate: Number | None = Field(description="[inferences/s]")
    old_accuracy: Number | None
    new_accuracy: Number | None


class Difference(_Record):
    """What differs between two results."""

    tasks: tuple[TaskDifference, ...]
    adapters: tuple[AdapterChange, ...]

    @property
    def changes(self) -> int:
        """Number of tasks that left a path that they could have kept."""
        return sum(row.change == "changed" for row in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return self.model_dump(mode="json")


def rerate(result: Result, instance: Instance) -> Result:
    """Return the paths of a result at the best rates for an instance, checked.

    Objective, floors, percentile and headroom are those of the result. Where its paths cannot be
    taken any more the returned result is ``unknown``, with a message that names every limit that
    no longer holds.

    Args:
        result: has an assignment.
        instance: perhaps another one than that of the result.

    Raises:
        InputError: the result holds no assignment, or the instance cannot be used.
    """
    _refuse_empty(result)
    broken = broken_limits(result, instance)
    asked: dict[str, Any] = {
        "objective": result.objective,
        "min_accuracy": result.min_accuracy,
        "min_throughput": result.min_throughput,
        "latency_percentile": result.latency_percentile,
        "max_utilization": result.max_utilization,
    }
    if broken:
        return Result(
            schema="code-opt/result/1",
            instance=instance.name,
            method="rerate",
            status="unknown",
            message="\n".join(broken),
            **asked,
        )
    known = {task.id for task in instance.tasks}
    paths = {
        row.task: GivenPath.of(row.path, row.accuracy_source)
        for row in result.tasks
        if row.task in known
    }
    return evaluate_paths(instance, paths, method="rerate", **asked)


def broken_limits(result: Result, instance: Instance) -> list[str]:
    """Return what keeps tasks from the paths of a result, a line for each.

    These are limits that a task meets by itself: its path, its latency (unloaded), its accuracy.
    """
    rows = {row.task: row for row in result.tasks}
    lines = []
    for graph in PathProblem(instance).topology.graphs:
        name, row = graph.task.id, rows.get(graph.task.id)
        if row is None:
            lines.append(f"task {name!r}: the result has no such task")
            continue
        blocks = GivenPath.of(row.path, row.accuracy_source)
        arcs = graph.path_arcs(blocks)
        fault = (
            path_fault(graph, blocks)
            if arcs is None
            else limit_missed(graph, path_on(graph, tuple(arcs)))
        )
        if fault is not None:
            lines.append(f"task {name!r}: {fault}")
    return lines


def diff(a: Result, b: Result, instance: Instance) -> Difference:
    """Return what differs between two results, task by task, and which adapters to move.

    Args:
        a: the earlier result.
        b: the later one.
        instance: that of the later one; its connections tell the adapters.

    Raises:
        InputError: one of the results holds no assignment, or the instance cannot be used.
    """
    _refuse_empty(a, b)
    problem = PathProblem(instance)
    old, new = ({row.task: row for row in result.tasks} for result in (a, b))
    before = {task: row.path for task, row in old.items()}
    stay = keepable_paths(problem, before)
    tasks = []
    for name in dict.fromkeys([*new, *old]):
        mine, theirs = new.get(name), old.get(name)
        change = None if mine is None else change_of(mine.path, before.get(name), name in stay)
        tasks.append(
            TaskDifference(
                task=name,
                change=change,
                old_path=None if theirs is None else theirs.path,
                new_path=None if mine is None else mine.path,
                old_rate=None if theirs is None else theirs.rate,
                new_rate=None if mine is None else mine.rate,
                old_accuracy=None if theirs is None else theirs.accuracy,
                new_accuracy=None if mine is None else mine.accuracy,
            )
        )
    sides = [
        {row.task: GivenPath.of(row.path, row.accuracy_source) for row in result.tasks}
        for result in (a, b)
    ]
    return Difference(tasks=tuple(tasks), adapters=adapter_changes(problem, *sides))


def _refuse_empty(*results: Result) -> None:
    found: Sequence[Result] = [result for result in results if not result.has_solution]
    if found:
        raise InputError(f"result of {found[0].method}: {found[0].status}, so it holds no paths")
