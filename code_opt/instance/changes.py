"""Instances that differ from another one in what they say may be shared."""

from __future__ import annotations

from collections import Counter

from code_opt.errors import InputError
from code_opt.instance.model import INPUT, Connection, Instance, Task


def without_sharing(instance: Instance) -> Instance:
    """Return a copy in which tasks of an input group still have one rate, but share no work.

    Sharing begins at the input: so the first step of each path is made the task's own. The
    ``share`` of connections from the input is taken away, and the native way in is listed as a
    connection without a drop or an adapter. Nothing else changes: paths, accuracies, rates of
    a task on its own. A ``standalone`` floor of a group with several tasks of one DNN falls,
    since its trunk no longer runs once for all of them.
    """
    sizes = Counter(task.input_group for task in instance.tasks if task.input_group is not None)
    first = {dnn.id: dnn.blocks[0].id for dnn in instance.dnns}

    def alone(task: Task) -> Task:
        if task.input_group is None or sizes[task.input_group] < 2:
            return task
        connections = [
            c.model_copy(update={"share": None}) if c.source == INPUT else c
            for c in task.connections
        ]
        entry = first[task.dnn]
        if not any(c.source == INPUT and c.target == entry for c in connections):
            own = {"source": INPUT, "target": entry, "drop": 0.0}
            connections.append(Connection.model_validate(own))
        return task.model_copy(update={"connections": tuple(connections)})

    return instance.model_copy(update={"tasks": tuple(map(alone, instance.tasks))})


def with_percentile(instance: Instance, percentile: float | None) -> Instance:
    """Return an instance whose limits of latency hold for a percentile under load.

    Args:
        instance: returned itself where nothing changes.
        percentile: of tasks that have ``max_latency`` and no percentile of their own.
    """
    if percentile is None or all(
        task.max_latency is None or task.latency_percentile is not None for task in instance.tasks
    ):
        return instance
    tasks = tuple(
        task
        if task.max_latency is None or task.latency_percentile is not None
        else task.model_copy(update={"latency_percentile": percentile})
        for task in instance.tasks
    )
    return instance.model_copy(update={"tasks": tasks})


def served_at_demand(instance: Instance) -> Instance:
    """Return an instance in which the floor of every task is its demand: the objective latency.

    Tasks of an input group have one rate: the least demand among them.

    Raises:
        InputError: a task has no demand, or a percentile that nothing limits.
    """
    least: dict[str, float] = {}
    for task in instance.tasks:
        if task.demand is None:
            raise InputError(
                f"task {task.id!r} has no demand: the objective latency serves every task at its "
                "demand; give it one"
            )
        if task.latency_percentile is not None and task.max_latency is None:
            raise InputError(
                f"task {task.id!r} has a latency_percentile and no max_latency: the objective "
                "latency minimises promised times that have a limit; give it one, however large"
            )
        if task.input_group is not None:
            known = least.get(task.input_group, task.demand)
            least[task.input_group] = min(known, task.demand)

    def rate(task: Task) -> float | None:
        return task.demand if task.input_group is None else least[task.input_group]

    tasks = tuple(task.model_copy(update={"floor": rate(task)}) for task in instance.tasks)
    return instance.model_copy(update={"tasks": tasks})
