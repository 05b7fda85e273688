"""The pool: nondominated paths of every task, ready for formulations and heuristics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from code_opt.errors import InputError
from code_opt.instance.model import Instance, Task
from code_opt.paths.duals import Duals
from code_opt.paths.graph import (
    CHANGED,
    FloatArray,
    IntArray,
    PoolOptions,
    TaskGraph,
    Topology,
    paid_steps,
)
from code_opt.paths.groups import (
    Sharing,
    find_sharing,
    shareable_prefixes,
    undominated_in_group,
)
from code_opt.paths.labels import Limits, PathSet, TaskPricing, Trie, label_paths
from code_opt.paths.resources import Resource
from code_opt.paths.standalone import least_rates
from code_opt.paths.stations import Stations, split_graphs


@dataclass(frozen=True)
class TaskPaths:
    """The candidate paths of one task (n of them, k resources) and the limits of its rate."""

    task: Task
    graph: TaskGraph
    floor: float
    """Least rate [inferences/s]; in an input group that of the group."""
    demand: float
    """Largest rate asked for [inferences/s], infinite if saturated; in a group the group's."""
    paths: PathSet
    most_rate: FloatArray
    """R[t,p] = min(demand, min over servers and links of 1 / use), shape (n,).

    In an input group no rate is larger than what every other task of it can reach.
    """
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
        return self.graph.blocks(self.paths.arcs_of(path))

    def number_of(self, arcs: tuple[int, ...]) -> int | None:
        """Return the number of a path given by its arcs, None if it is not in the pool."""
        return self.paths.numbers.get(arcs)

    def subset(self, paths: list[int]) -> TaskPaths:
        """Return a copy with some of the paths only."""
        return replace(self, paths=self.paths.subset(paths), most_rate=self.most_rate[paths])


@dataclass(frozen=True)
class RateGroup:
    """Tasks with one rate and k resources: those of an input group, or a single one."""

    tasks: tuple[int, ...]
    floor: float
    """Least rate [inferences/s]."""
    demand: float
    """Largest rate asked for [inferences/s], infinite if saturated."""
    graphs: tuple[TaskGraph, ...]
    resources: IntArray
    """Global indices of the resources that some arc of a task uses, ascending, shape (k,)."""
    is_rate_resource: npt.NDArray[np.bool_]
    """Which of them are paid per inference, shape (k,)."""
    columns: tuple[IntArray, ...]
    """Where the resources of each task are among those of the group."""

    @property
    def is_shared(self) -> bool:
        """Whether several tasks have this rate."""
        return len(self.tasks) > 1

    def paid(self, paths: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return for each task the arcs of its path that no task before it pays for.

        Args:
            paths: the arcs of one path per task.
        """
        walks = [[g.arcs[a] for a in arcs] for g, arcs in zip(self.graphs, paths, strict=True)]
        return [
            [arcs[i] for i in positions]
            for arcs, positions in zip(paths, paid_steps(walks), strict=True)
        ]

    def use(self, paths: Sequence[Sequence[int]]) -> FloatArray:
        """Return what one inference of all tasks uses, shared prefixes once, shape (k,)."""
        total = np.zeros(len(self.resources))
        for graph, columns, arcs in zip(self.graphs, self.columns, self.paid(paths), strict=True):
            total[columns] += graph.use[arcs].sum(axis=0)
        return total


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

    @property
    def limits_changes(self) -> bool:
        """Whether fewer tasks may leave their previous paths than have one."""
        return self.topology.options.limits_changes

    @cached_property
    def groups(self) -> tuple[RateGroup, ...]:
        """Every task's group, in the order of their first tasks."""
        found = []
        for tasks in self.topology.groups:
            first, graphs = self.tasks[tasks[0]], tuple(self.tasks[t].graph for t in tasks)
            resources = first.resources
            if len(tasks) > 1:
                resources = np.unique(np.concatenate([g.resources for g in graphs]))
            found.append(
                RateGroup(
                    tasks=tasks,
                    floor=first.floor,
                    demand=first.demand,
                    graphs=graphs,
                    resources=resources,
                    is_rate_resource=self.topology.is_rate_resource[resources],
                    columns=tuple(np.searchsorted(resources, g.resources) for g in graphs),
                )
            )
        return tuple(found)

    @cached_property
    def sharing(self) -> tuple[Sharing | None, ...]:
        """What the candidate paths of each group share; None for a single task."""
        return tuple(
            find_sharing(
                group.graphs,
                [self.tasks[t].paths for t in group.tasks],
                group.columns,
                len(group.resources),
            )
            if group.is_shared
            else None
            for group in self.groups
        )

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


class PathProblem:
    """An instance with all that is derived from it before a method starts, each made once.

    A problem can be solved any number of times, for any objective and by any method.
    """

    def __init__(self, instance: Instance, options: PoolOptions | None = None) -> None:
        """Take what is to be solved, and which paths there are."""
        self.instance = instance
        self.options = options or PoolOptions()

    @cached_property
    def topology(self) -> Topology:
        """Resources and task graphs."""
        return Topology(self.instance, self.options)

    @cached_property
    def path_counts(self) -> list[int]:
        """Number of paths of each task's graph, dominated ones included; none is enumerated."""
        return [graph.count_paths() for graph in self.topology.graphs]

    @cached_property
    def pool(self) -> PathPool:
        """Nondominated paths of all tasks.

        Raises:
            InputError: see :func:`build_pool`.
        """
        return build_pool(self.topology)


def with_max_changes(
    problem: PathProblem, most: int, start: Mapping[str, Sequence[str]] | None = None
) -> PathProblem:
    """Return a problem with another limit of changes; graphs and pool are taken over.

    Args:
        problem: limits changes; its pool is made where it is not yet.
        most: the new limit K, at least 1 and fewer than there are tasks to keep their paths.
        start: block ids of an assignment with few enough changes, by task id.
    """
    previous = problem.options.previous
    assert previous is not None
    assert previous.max_changes
    factor = previous.max_changes / most
    limited = replace(previous, max_changes=most, start=start)
    changed = PathProblem(problem.instance, replace(problem.options, previous=limited))
    topology, limit = changed.topology, len(problem.topology.resources) - 1
    tasks = []
    for task in problem.pool.tasks:
        column = np.flatnonzero(task.graph.resources == limit)
        if not len(column):
            tasks.append(task)
            continue
        scale = np.ones(len(task.graph.resources))
        scale[column] = factor
        arcs = tuple(
            arc._replace(use=tuple((i, use * factor if i == limit else use) for i, use in arc.use))
            if arc.tail == CHANGED
            else arc
            for arc in task.graph.arcs
        )
        graph = replace(task.graph, arcs=arcs, use=task.graph.use * scale)
        paths = replace(task.paths, use=task.paths.use * scale)
        tasks.append(replace(task, graph=graph, paths=paths))
    topology.graphs = tuple(task.graph for task in tasks)
    changed.pool = PathPool(topology, tuple(tasks))
    return changed


def limits_percentiles(instance: Instance) -> bool:
    """Tell whether some task limits a percentile of its time under load."""
    return task_with_percentile(instance) is not None


def task_with_percentile(instance: Instance) -> Task | None:
    """Return the first task that limits a percentile of its time under load, if there is one."""
    return next(
        (
            t
            for t in instance.tasks
            if t.max_latency is not None and t.latency_percentile is not None
        ),
        None,
    )


def count_paths(instance: Instance) -> list[int]:
    """Return the number of paths of each task's graph, none enumerated."""
    return PathProblem(instance).path_counts


@dataclass(frozen=True)
class PathPricing:
    """Which paths label-setting is to find: those of enough profit at duals."""

    duals: Duals
    least: FloatArray
    """Least profit of the paths of each task, shape (tasks,)."""
    most_labels: int | None = None
    """Labels kept at a node, those of largest profit first; None for all."""
    all_or_nothing: bool = False
    """Raise :class:`code_opt.paths.labels.TooManyLabels` where a node has more."""


def build_pool(
    source: Instance | Topology,
    options: PoolOptions | None = None,
    *,
    relaxed: bool = False,
    pricing: PathPricing | None = None,
) -> PathPool:
    """Return the nondominated paths of all tasks.

    Args:
        source: what to solve, or its topology, whose task graphs are then used.
        options: which paths there are, where no topology says so.
        relaxed: ignore the tasks' limits (accuracy, latency, floors, memory) and keep
            the paths that are best in latency alone, so that a diagnosis can tell how
            far each limit is from being met.
        pricing: keep only the paths of enough profit (and measured ones).

    Raises:
        InputError: some path has neither work nor demand, so that its rate would be
            unlimited, or an input group can share too many prefixes.
    """
    topology = source if isinstance(source, Topology) else Topology(source, options)
    # Under limits of percentiles it matters how work is spread over visits, not only how much.
    split = split_graphs(Stations(topology)) if limits_percentiles(topology.instance) else None
    graphs = topology.graphs if split is None else [part.graph for part in split]
    floors, demands = least_rates(topology), topology.demands()
    latency_matters = [_latency_matters(topology, graph.task, relaxed) for graph in graphs]
    sets = label_paths(
        graphs,
        [_limits(topology, g, floor, relaxed) for g, floor in zip(graphs, floors, strict=True)],
        latency_matters,
        _shareable(topology, graphs),
        None if pricing is None else _by_task(topology, graphs, pricing),
    )
    _keep_undominated_in_groups(topology, graphs, sets, latency_matters)
    if split is not None:
        parts = zip(split, sets, topology.graphs, strict=True)
        sets = [part.back(paths, graph) for part, paths, graph in parts]
    most_rates = _most_rates(topology, sets, demands)
    return PathPool(
        topology,
        tuple(
            TaskPaths(
                task=graph.task,
                graph=graph,
                floor=floors[t],
                demand=demands[t],
                paths=sets[t],
                most_rate=np.maximum(most_rates[t], 0.0 if relaxed else floors[t]),
                is_rate_resource=topology.is_rate_resource[graph.resources],
            )
            for t, graph in enumerate(topology.graphs)
        ),
    )


def _latency_matters(topology: Topology, task: Task, relaxed: bool) -> bool:
    """Tell whether paths of a task are compared by their times."""
    is_limited = task.max_latency is not None
    return topology.options.weighs_time or (
        is_limited and (relaxed or task.latency_percentile is not None)
    )


def _limits(topology: Topology, graph: TaskGraph, floor: float, relaxed: bool) -> Limits:
    """Return what each path of a task has to keep; graphs told apart by visits have more columns.

    Raises:
        InputError: the floor is infinite.
    """
    task, width = graph.task, int(np.searchsorted(graph.resources, len(topology.resources)))
    if not np.isfinite(floor):
        raise InputError(f"task {task.id!r}: no work and no demand, so its rate is unlimited")
    most_use = np.full(len(graph.resources), np.inf)
    if not relaxed:
        own = graph.resources[:width]
        is_limited = np.array([topology.resources[i].is_limited for i in own], dtype=bool)
        most_rate_use = np.inf if floor <= 0.0 else 1.0 / max(floor, 1e-300)
        most_use[:width] = np.where(
            topology.is_rate_resource[own], most_rate_use, np.where(is_limited, 1.0, np.inf)
        )
    return Limits(
        native_accuracy=task.accuracy,
        min_accuracy=0.0 if relaxed else task.min_accuracy,
        max_latency=None if relaxed else task.max_latency,
        most_use=most_use,
    )


def _shareable(topology: Topology, graphs: Sequence[TaskGraph]) -> list[Trie]:
    """Return which prefixes of each task's paths some other task of its group could share."""
    found: list[Trie] = [{} for _ in graphs]
    for group in topology.groups:
        if len(group) > 1:
            for t, trie in zip(group, shareable_prefixes([graphs[t] for t in group]), strict=True):
                found[t] = trie
    return found


def _keep_undominated_in_groups(
    topology: Topology,
    graphs: Sequence[TaskGraph],
    sets: list[PathSet],
    latency_matters: Sequence[bool],
) -> None:
    """Leave out of each group's sets, in place, what its tasks need not take together."""
    for group in topology.groups:
        if len(group) > 1:
            kept = undominated_in_group(
                [graphs[t] for t in group],
                [sets[t] for t in group],
                [latency_matters[t] for t in group],
            )
            for t, rows in zip(group, kept, strict=True):
                sets[t] = sets[t].subset(rows)


def _most_rates(
    topology: Topology, sets: Sequence[PathSet], demands: Sequence[float]
) -> list[FloatArray]:
    """Return the largest rate of each path of each task; every task of a group has the group's.

    Raises:
        InputError: the rate of a path would be unlimited.
    """
    graphs = topology.graphs
    found = [_most_rate(topology, *of) for of in zip(graphs, sets, demands, strict=True)]
    for group in topology.groups:
        if len(group) > 1:
            most = min((float(found[t].max()) for t in group if len(found[t])), default=0.0)
            for t in group:
                found[t] = np.minimum(found[t], most)
    for graph, paths, most_rate in zip(graphs, sets, found, strict=True):
        _refuse_unlimited(graph, paths, most_rate)
    return found


def pool_of_paths(topology: Topology, paths: Sequence[Sequence[int]]) -> PathPool:
    """Return a pool that holds one given path of every task and nothing else.

    The limits of tasks are not looked at.

    Args:
        topology: of the instance.
        paths: arc numbers of one path from input to output for every task.

    Raises:
        InputError: the rate of a path would be unlimited.
    """
    floors, demands = least_rates(topology), topology.demands()
    tasks = []
    for graph, arcs, floor, demand in zip(topology.graphs, paths, floors, demands, strict=True):
        steps = list(arcs)
        accuracy = graph.task.accuracy - float(graph.drop[steps].sum())
        found = PathSet(
            steps=np.array([steps], dtype=np.int64),
            predicted=np.array([min(1.0, accuracy)]),
            accuracy=np.array([min(1.0, max(accuracy, 0.0))]),
            measured=np.array([False]),
            use=graph.use[steps].sum(axis=0, keepdims=True),
            seconds=np.array([graph.seconds[steps].sum()]),
            labels=0,
        )
        most_rate = _most_rate(topology, graph, found, demand)
        _refuse_unlimited(graph, found, most_rate)
        tasks.append(
            TaskPaths(
                task=graph.task,
                graph=graph,
                floor=floor,
                demand=demand,
                paths=found,
                most_rate=np.maximum(most_rate, floor),
                is_rate_resource=topology.is_rate_resource[graph.resources],
            )
        )
    return PathPool(topology, tuple(tasks))


def previous_path(task: TaskPaths) -> int | None:
    """Return the number of the path that takes none of the changes, where they are limited.

    None where the task has no previous path that it could keep.
    """
    chained = (
        number
        for arcs in task.graph.chains.values()
        if CHANGED in task.graph.nodes and task.graph.arcs[arcs[-1]].chain is not None
        if (number := task.number_of(arcs)) is not None
    )
    return next(chained, None)


def unite(pools: Sequence[PathPool]) -> PathPool:
    """Return a pool with the paths of several pools of one instance, each path once."""
    tasks = []
    for parts in zip(*(pool.tasks for pool in pools), strict=True):
        sets = [part.paths for part in parts]
        width = max(paths.steps.shape[1] for paths in sets)
        steps = np.concatenate(
            [
                np.pad(p.steps, ((0, 0), (0, width - p.steps.shape[1])), constant_values=-1)
                for p in sets
            ]
        )
        _, rows = np.unique(steps, axis=0, return_index=True)
        rows = np.sort(rows)
        paths = PathSet(
            steps=steps[rows],
            predicted=np.concatenate([p.predicted for p in sets])[rows],
            accuracy=np.concatenate([p.accuracy for p in sets])[rows],
            measured=np.concatenate([p.measured for p in sets])[rows],
            use=np.concatenate([p.use for p in sets])[rows],
            seconds=np.concatenate([p.seconds for p in sets])[rows],
            labels=sum(p.labels for p in sets),
            missed=min(p.missed for p in sets),
        )
        most_rate = np.concatenate([part.most_rate for part in parts])[rows]
        tasks.append(replace(parts[0], paths=paths, most_rate=most_rate))
    return PathPool(pools[0].topology, tuple(tasks))


def _by_task(
    topology: Topology, graphs: Sequence[TaskGraph], pricing: PathPricing
) -> list[TaskPricing]:
    """Return the duals as each task sees them."""
    weights = np.array([graph.task.weight for graph in graphs])
    found = []
    for graph, weight, floor, demand, least in zip(
        graphs,
        (weights / weights.sum()).tolist(),
        least_rates(topology),
        topology.demands(),
        pricing.least.tolist(),
        strict=True,
    ):
        is_rate = topology.is_rate_resource[graph.resources]
        dual = pricing.duals.resource[graph.resources]
        found.append(
            TaskPricing(
                accuracy=pricing.duals.accuracy * weight,
                rate=pricing.duals.throughput,
                per_inference=np.where(is_rate, dual, 0.0),
                once=np.where(is_rate, 0.0, dual),
                is_rate=is_rate,
                floor=floor,
                demand=demand,
                least=least,
                most_labels=pricing.most_labels,
                all_or_nothing=pricing.all_or_nothing,
            )
        )
    return found


def _most_rate(topology: Topology, graph: TaskGraph, paths: PathSet, demand: float) -> FloatArray:
    """Return the largest rate that each path can have on its own, shape (n,)."""
    is_rate = topology.is_rate_resource[graph.resources]
    with np.errstate(divide="ignore"):
        most_rate = 1.0 / paths.use.max(axis=1, initial=0.0, where=is_rate)
    return np.asarray(np.minimum(most_rate, demand))


def _refuse_unlimited(graph: TaskGraph, paths: PathSet, most_rate: FloatArray) -> None:
    if np.isfinite(most_rate).all():
        return
    free = int(np.flatnonzero(~np.isfinite(most_rate))[0])
    blocks = " > ".join(graph.blocks(paths.arcs_of(free)))
    raise InputError(
        f"task {graph.task.id!r}: path {blocks} has no work and the task no demand, "
        "so its rate is unlimited; give it a demand"
    )
