"""From one result to the next: yesterday's paths today, and what differs between two results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from code_opt.core.changes import adapter_changes, change_of, keepable_paths
from code_opt.core.evaluator import path_on
from code_opt.core.fixed_paths import limit_missed, path_fault
from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.instance.model import GivenPath, Instance
from code_opt.paths import PathProblem, PoolOptions, with_max_changes
from code_opt.result import AdapterChange, Change, Number, Result
from code_opt.solving import evaluate_paths, prepare, solve_prepared
from code_opt.stopping import is_stop_requested

__all__ = [
    "Difference",
    "TaskDifference",
    "broken_limits",
    "changes_front",
    "diff",
    "rerate",
]


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

    What was asked for (objective, floors, percentile, headroom, known accuracies alone) is that of
    the result. Where its paths cannot be taken any more the returned result is ``unknown``, with a
    message that names every limit that no longer holds.

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
        "measured_only": result.measured_only,
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
    options = PoolOptions(measured_only=result.measured_only)
    for graph in PathProblem(instance, options).topology.graphs:
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


def changes_front(
    instance: Instance,
    previous: Result,
    *,
    most: int | None = None,
    tell: Callable[[Result], None] | None = None,
    **options: Any,
) -> tuple[Result, ...]:
    """Return the best result for at most K = 0, 1, 2, ... changes of paths, each by ``exact``.

    It ends with the first K that reaches what any number of changes can reach (within the gap
    asked for), or with ``most``. Graphs and paths are made once, and each K starts from the
    assignment of the one before.

    Args:
        instance: what is to be solved.
        previous: has an assignment.
        most: largest K; None for as many as it takes.
        tell: called with each result as it is found.
        options: of :class:`code_opt.Settings`, but ``previous`` and ``max_changes``.

    Raises:
        InputError: an argument or the instance cannot be used.
        SolverError: the solver failed.
    """
    _refuse_empty(previous)
    if most is not None and most < 0:
        raise InputError(f"most {most}: must be at least 0")
    paths = {row.task: row.path for row in previous.tasks}

    def settings(count: int | None) -> Settings:
        return Settings(previous=paths, max_changes=count, **options)

    free = settings(None)
    aim = solve_prepared(*prepare(instance, free), "exact", free)
    _, narrowed = prepare(instance, settings(1))
    assert narrowed.options.previous is not None
    keepable = len(narrowed.options.previous.paths)
    found: list[Result] = []
    for count in range(min(keepable, keepable if most is None else most) + 1):
        asked = settings(count)
        problem = narrowed
        if 0 < count < keepable:
            start = {row.task: row.path for row in found[-1].tasks}
            problem = with_max_changes(narrowed, count, start)
        elif count != 1:
            _, problem = prepare(instance, asked)
        result = solve_prepared(instance, problem, "exact", asked)
        found.append(result)
        if tell is not None:
            tell(result)
        if is_stop_requested() or _reaches(result, aim, asked.gap):
            break
    return tuple(found)


def _reaches(result: Result, aim: Result, gap: float) -> bool:
    """Tell whether a result is as good as another one, within a gap."""
    if result.merit is None or aim.merit is None:
        return False
    return result.merit >= aim.merit - gap * abs(aim.merit)


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
