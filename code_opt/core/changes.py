"""What changes from one assignment to the next: paths, and adapters on servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from code_opt.core.evaluator import keeps_limits, path_on
from code_opt.core.settings import Settings
from code_opt.instance.model import BYTES_PER_PARAMETER, IDENTITY, INPUT, OUTPUT, GivenPath
from code_opt.paths import PathProblem, TaskGraph
from code_opt.paths.previous import Previous
from code_opt.result import AdapterChange, Change, Result

Path = tuple[str, ...]
"""Block ids in order."""
_Adapter = tuple[str, str, str, str, str | None]
"""Server, source, target, name by which tasks share it (else the task), and input group."""


def previous_of(problem: PathProblem, settings: Settings) -> Previous | None:
    """Return what tasks may keep of the previous assignment; None where none was given.

    A task may keep its previous path where blocks in this order are one of its paths today and
    that keeps the limits of the task by itself: its latency (unloaded), its accuracy.
    """
    if settings.previous is None:
        return None
    kept = keepable_paths(problem, settings.previous)
    return Previous(kept, settings.max_changes, problem.instance)


def keepable_paths(problem: PathProblem, previous: Mapping[str, Path]) -> dict[str, Path]:
    """Return the previous paths that their tasks could keep (:func:`previous_of`)."""
    kept = {}
    for graph in problem.topology.graphs:
        blocks = previous.get(graph.task.id)
        if blocks is not None and any(
            keeps_limits(graph, path_on(graph, tuple(arcs))) for arcs in graph.ways(blocks)
        ):
            kept[graph.task.id] = tuple(blocks)
    return kept


def change_of(path: Path, previous: Path | None, can_stay: bool) -> Change:
    """Return what became of a previous path.

    Args:
        path: block ids of the path now.
        previous: the same before; None where the task had none.
        can_stay: whether the previous path can still be taken.
    """
    if previous is None:
        return "new"
    if tuple(path) == tuple(previous):
        return "kept"
    return "changed" if can_stay else "forced"


def with_changes(result: Result, problem: PathProblem, settings: Settings) -> Result:
    """Return a result that says what changed since the previous one.

    Args:
        result: what a method found.
        problem: knows the previous paths that can still be taken.
        settings: name the previous paths and the most changes.
    """
    if settings.previous is None or problem.options.previous is None:
        return result
    asked = {"max_changes": settings.max_changes}
    if not result.tasks:
        return result.model_copy(update=asked)
    before, stay = settings.previous, problem.options.previous.paths
    rows = tuple(
        row.model_copy(
            update={
                "previous": before.get(row.task),
                "change": change_of(row.path, before.get(row.task), row.task in stay),
            }
        )
        for row in result.tasks
    )
    now = {row.task: GivenPath.of(row.path, row.accuracy_source) for row in result.tasks}
    return result.model_copy(
        update={
            **asked,
            "tasks": rows,
            "changes": sum(row.change == "changed" for row in rows),
            "adapters": adapter_changes(problem, before, now),
        }
    )


def adapter_changes(
    problem: PathProblem, before: Mapping[str, Path], after: Mapping[str, Path]
) -> tuple[AdapterChange, ...]:
    """Return the adapters that servers have to load, and may drop, by server.

    Adapters are those of today's connections; what a task used that is gone is not known.

    Args:
        problem: knows graphs and where blocks run.
        before: block ids of the paths by task id.
        after: the same.
    """
    old, new = _adapters(problem, before), _adapters(problem, after)
    changes: list[AdapterChange] = []
    for action, mine, theirs in (("load", new, old), ("drop", old, new)):
        for key, size in mine.items():
            if key not in theirs:
                server, source, target, adapter, _ = key
                changes.append(
                    AdapterChange.model_validate(
                        {
                            "server": server,
                            "action": action,
                            "source": source,
                            "target": target,
                            "adapter": adapter,
                            "bytes": size,
                        }
                    )
                )
    order = {server.id: i for i, server in enumerate(problem.instance.servers)}
    return tuple(sorted(changes, key=lambda c: (order[c.server], c.action != "load")))


def _adapters(problem: PathProblem, paths: Mapping[str, Path]) -> dict[_Adapter, float]:
    """Return the adapters that paths use, with their sizes [bytes]."""
    place = problem.topology.server_of
    found: dict[_Adapter, float] = {}
    for graph in problem.topology.graphs:
        task, blocks = graph.task, paths.get(graph.task.id)
        if blocks is None:
            continue
        steps = set(_steps(graph, blocks))
        for c in task.connections:
            if (c.source, c.target) in steps and c.share != IDENTITY:
                server = c.server or place[c.target if c.source == INPUT else c.source]
                group = None if c.share is None else task.input_group
                key = (server, c.source, c.target, c.share or task.id, group)
                found[key] = BYTES_PER_PARAMETER * c.params
    return found


def _steps(graph: TaskGraph, blocks: Path) -> Iterator[tuple[str, str]]:
    """Yield the steps of a path that connections can be; an alternative has none."""
    arcs = graph.path_arcs(blocks)
    is_alternative = arcs is not None and isinstance(graph.blocks(arcs), GivenPath)
    if not is_alternative:
        yield from pairwise((INPUT, *blocks, OUTPUT))
