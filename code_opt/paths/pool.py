"""The pool: nondominated paths of every task, ready for formulations and heuristics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from code_opt.errors import InputError
from code_opt.instance.model import Instance, Task
from code_opt.paths.graph import FloatArray, IntArray, Resource, TaskGraph, Topology
from code_opt.paths.labels import Limits, PathSet, label_paths


@dataclass(frozen=True)
class TaskPaths:
    """The candidate paths of one task (n of them, k resources) and the limits of its rate."""

    task: Task
    graph: TaskGraph
    floor: float
    """Least rate [inferences/s]."""
    paths: PathSet
    most_rate: FloatArray
    """R[t,p] = min(demand, min over servers and links of 1 / use), shape (n,)."""
    is_rate_resource: npt.NDArray[np.bool_]
    """Which of the k resources are paid per inference (servers, links; not memory)."""

    def __len__(self) -> int:
        return len(self.paths.steps)

    @property
    def resources(self) -> IntArray:
        """Global indices of the resources, shape (k,)."""
        return self.graph.resources

    def blocks(self, path: int) -> tuple[str, ...]:
        """Return the block ids of one path."""
        return tuple(self.graph.arcs[a].head for a in self.paths.arcs_of(path)[:-1])

    def subset(self, paths: list[int]) -> TaskPaths:
        """Return a copy with some of the paths only."""
        return replace(self, paths=self.paths.subset(paths), most_rate=self.most_rate[paths])


@dataclass(frozen=True)
class PathPool:
    """The candidate paths of all tasks, in the order of the instance."""

    topology: Topology
    tasks: tuple[TaskPaths, ...]

    @property
    def instance(self) -> Instance:
        """The instance that the paths belong to."""
        return self.topology.instance

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All limited resources; their capacities are 1 in the units of ``use``."""
        return self.topology.resources

    @cached_property
    def weights(self) -> FloatArray:
        """w[t] divided by their sum, shape (tasks,)."""
        weights = np.array([t.task.weight for t in self.tasks])
        return np.asarray(weights / weights.sum())

    @property
    def size(self) -> int:
        """Number of paths in the pool."""
        return sum(len(t) for t in self.tasks)

    @property
    def labels(self) -> int:
        """Labels created to make the pool."""
        return sum(t.paths.labels for t in self.tasks)


def count_paths(instance: Instance) -> list[int]:
    """Return the number of paths of each task's graph, nothing enumerated."""
    topology = Topology(instance)
    return [topology.task_graph(task).count_paths() for task in instance.tasks]


def build_pool(instance: Instance, relaxed: bool = False) -> PathPool:
    """Return the nondominated paths of all tasks.

    Args:
        instance: what to solve.
        relaxed: ignore the tasks' limits (accuracy, latency, floors, memory) and keep
            the paths that are best in latency alone, so that a diagnosis can tell how
            far each limit is from being met.

    Raises:
        InputError: tasks share an input (not supported yet), or some path has neither
            work nor demand, so that its rate would be unlimited.
    """
    groups: dict[str, str] = {}
    for task in instance.tasks:
        if task.input_group is None:
            continue
        if task.input_group in groups:
            raise InputError(
                f"tasks {groups[task.input_group]!r} and {task.id!r} share the input group "
                f"{task.input_group!r}: shared inputs cannot be solved yet; "
                "set input_group to null to treat them as separate"
            )
        groups[task.input_group] = task.id
    topology = Topology(instance)
    graphs = [topology.task_graph(task) for task in instance.tasks]
    floors = [topology.floor(task) for task in instance.tasks]
    limits = []
    for graph, floor in zip(graphs, floors, strict=True):
        task = graph.task
        if not np.isfinite(floor):
            raise InputError(f"task {task.id!r}: no work and no demand, so its rate is unlimited")
        is_rate = topology.is_rate_resource[graph.resources]
        most_rate_use = np.inf if floor <= 0.0 else 1.0 / max(floor, 1e-300)
        limits.append(
            Limits(
                native_accuracy=task.accuracy,
                min_accuracy=0.0 if relaxed else task.min_accuracy,
                max_latency=None if relaxed else task.max_latency,
                most_use=np.full(len(is_rate), np.inf)
                if relaxed
                else np.where(is_rate, most_rate_use, 1.0),
            )
        )
    latency_matters = [relaxed and task.max_latency is not None for task in instance.tasks]
    sets = label_paths(graphs, limits, latency_matters)
    return PathPool(
        topology,
        tuple(
            _task_paths(topology, graph, floor, paths, relaxed)
            for graph, floor, paths in zip(graphs, floors, sets, strict=True)
        ),
    )


def _task_paths(
    topology: Topology, graph: TaskGraph, floor: float, paths: PathSet, relaxed: bool
) -> TaskPaths:
    """Return the paths of a task with their largest rates."""
    task = graph.task
    is_rate = topology.is_rate_resource[graph.resources]
    with np.errstate(divide="ignore"):
        most_rate = 1.0 / paths.use.max(axis=1, initial=0.0, where=is_rate)
    if task.demand is not None:
        most_rate = np.minimum(most_rate, task.demand)
    if not np.isfinite(most_rate).all():
        free = int(np.flatnonzero(~np.isfinite(most_rate))[0])
        blocks = " > ".join(graph.arcs[a].head for a in paths.arcs_of(free)[:-1])
        raise InputError(
            f"task {task.id!r}: path {blocks} has no work and the task no demand, "
            "so its rate is unlimited; give it a demand"
        )
    return TaskPaths(
        task, graph, floor, paths, np.maximum(most_rate, 0.0 if relaxed else floor), is_rate
    )
