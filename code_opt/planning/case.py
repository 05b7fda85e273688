"""A planning case: the column table of an instance, and what capacity can be bought beside it.

Unlike in ``solve``, capacities are not fixed: no path is too slow, since units can be added,
so rate floors and largest rates exclude nothing. Latency limits are judged at the present
speeds: units that are bought stand beside what is there. Those of percentiles are kept by the units
that are bought (:mod:`code_opt.planning.promises`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from code_opt.core.columns import ColumnTable
from code_opt.core.joint_tasks import JointTask, single_tasks
from code_opt.core.shared_prefixes import SharedPrefixes
from code_opt.errors import InputError
from code_opt.heuristics.baselines import edge_early_pool, local_pool
from code_opt.instance.changes import with_percentile
from code_opt.instance.model import Instance, Server
from code_opt.instance.ranges import SMALLEST
from code_opt.instance.records import AccuracySource
from code_opt.paths import PathPool, PoolOptions, TaskPaths, build_pool
from code_opt.paths.graph import FloatArray, IntArray, Topology, rate_groups
from code_opt.paths.labels import BoolArray
from code_opt.paths.pool import limits_percentiles, task_with_percentile
from code_opt.paths.resources import Resource, enlarged
from code_opt.paths.standalone import least_rates
from code_opt.planning.offers import Offers
from code_opt.planning.promises import PlannedPromises, keeping_limits, refuse_groups
from code_opt.planning.settings import PlanSettings, check_amounts

Coordination = Literal["full", "exits", "none"]
COORDINATIONS: tuple[Coordination, ...] = ("full", "exits", "none")
"""All paths; native paths and early exits of the own DNN; native paths only."""
_POOLS: dict[Coordination, Callable[..., PathPool]] = {
    "full": build_pool,
    "exits": edge_early_pool,
    "none": local_pool,
}

PRESENCE = 1e-300
"""Load of a path at rate 0 on a server that has no device yet: it needs a unit, and no more."""


@dataclass(frozen=True)
class Case:
    """P columns of T tasks over I resources, what can be bought of these, and what is asked."""

    instance: Instance
    """As it is planned for: every task or its input group has a demand, every server its unit."""
    settings: PlanSettings
    coordination: Coordination
    """Which paths there are."""
    table: ColumnTable
    """Paths, each a column; in a :meth:`joint` case joint paths of input groups."""
    prefixes: SharedPrefixes
    """What columns of an input group have in common."""
    offers: Offers
    demand: FloatArray
    """Present demand [inferences/s], of an input group the least of its tasks, shape (T,)."""
    min_accuracy: float | None
    """Floor on the average accuracy."""
    promises: PlannedPromises | None = None
    """Where percentiles are limited; searches over a part of the columns do without."""

    @property
    def pool(self) -> PathPool:
        """The paths of all tasks."""
        return self.table.pool

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The I resources, servers and limited links first, in the order of the instance."""
        return self.pool.resources

    @property
    def is_rate(self) -> BoolArray:
        """Which resources are paid per inference, shape (I,)."""
        return self.pool.topology.is_rate_resource

    @cached_property
    def rate_resources(self) -> IntArray:
        """Numbers of the resources that are paid per inference: of these units can be sold."""
        return np.flatnonzero(self.is_rate)

    @cached_property
    def memories(self) -> IntArray:
        """Numbers of the limited resources that are paid once: none of them can be bought."""
        is_limited = np.array([resource.is_limited for resource in self.resources], dtype=bool)
        return np.flatnonzero(~self.is_rate & is_limited)

    @property
    def paced(self) -> Instance:
        """The instance at whose speeds work runs: servers that have no device yet have one."""
        return self.pool.topology.instance

    @property
    def names(self) -> list[str]:
        """Ids of the T tasks."""
        return [", ".join(t.task.id for t in task.tasks) for task in self.table.joint_tasks]

    @property
    def first(self) -> IntArray:
        """First column of each task, and P; shape (T + 1,)."""
        return self.table.first

    @property
    def has_all_paths(self) -> bool:
        """Whether every task has a path."""
        return bool((np.diff(self.first) > 0).all())

    @property
    def accuracy(self) -> FloatArray:
        """Accuracy of each column, shape (P,)."""
        return self.table.mean_accuracy

    @cached_property
    def use(self) -> FloatArray:
        """Use of the resources by each column (:attr:`ColumnTable.use`), shape (P, I)."""
        return self.table.use.toarray()

    @cached_property
    def native_accuracy(self) -> float:
        """Average accuracy of the native paths."""
        return native_accuracy(self.instance)

    @cached_property
    def _asked(self) -> FloatArray:
        """Floors before any demand caps them [inferences/s], shape (T,)."""
        tasks = tuple(t.model_copy(update={"demand": None}) for t in self.instance.tasks)
        unlimited = self.instance.model_copy(update={"tasks": tasks})
        return np.array(least_rates(Topology(unlimited)))

    def floors(self, demand: FloatArray) -> FloatArray:
        """Return the least rates that the tasks ask for [inferences/s], shape like ``demand``.

        No floor is above the demand that is planned for. ``standalone`` is the rate that the
        task has without coordination at the present capacities, or that demand if it is less.

        Args:
            demand: demands that are planned for [inferences/s], shape (..., T).
        """
        return np.minimum(self._asked, demand)

    def grown(self, factor: float) -> FloatArray:
        """Return the demands at a growth factor [inferences/s], shape (T,).

        Raises:
            InputError: a demand is out of the range of numbers then.
        """
        demand = self.demand * factor
        self.check_demand(f"demand at growth {factor:g}", demand)
        return demand

    def check_demand(self, what: str, demand: FloatArray) -> None:
        """Refuse demands out of the range of numbers, shape (T,).

        Raises:
            InputError: a demand is out of the range, or two are too far from each other.
        """
        names = (f"task {name!r}" for name in self.names)
        check_amounts(what, dict(zip(names, demand.tolist(), strict=True)))

    def with_loss(self, max_loss: float | None) -> Case:
        """Return the case with the floor on the average accuracy, from both ways to ask for one.

        Args:
            max_loss: most points lost against the native paths; the settings may hold a floor, too.
        """
        floors = [] if self.settings.min_accuracy is None else [self.settings.min_accuracy]
        if max_loss is not None:
            floors.append(self.native_accuracy - max_loss / 100.0)
        # What rounding leaves of nothing is no floor.
        least = [floor if floor >= SMALLEST else 0.0 for floor in floors]
        return replace(self, min_accuracy=max(least, default=None))

    def largest_load(self, demand: FloatArray) -> FloatArray:
        """Return a bound on the loads of any choice of paths, shape (I,).

        Every task on its most demanding path: sum_t d[t] max_p use[p,i]. What tasks share is
        counted for each of them.

        Args:
            demand: rates [inferences/s], shape (T,).
        """
        has_path = np.diff(self.first) > 0
        if not has_path.any():
            return np.zeros(len(self.resources))
        most = np.maximum.reduceat(self.use, self.first[:-1][has_path])
        return np.where(self.is_rate, demand[has_path] @ most, most.sum(axis=0))

    def load(self, paths: IntArray, rates: FloatArray) -> FloatArray:
        """Return the load of every resource in shares of its capacity in the table, shape (I,).

        That is the present one, or one device where there is none yet. There a path loads it by
        at least :data:`PRESENCE`, whatever its rate, since it runs on nothing otherwise.

        Args:
            paths: path of each task, -1 for a task that does not run, shape (T,).
            rates: [inferences/s], shape (T,).
        """
        load = np.where(self.is_rate, *self.prefixes.load(paths, rates))
        if self._is_empty.any():
            is_needed = self._is_empty & (self.use[paths[paths >= 0]] > 0.0).any(axis=0)
            load[is_needed] = np.maximum(load[is_needed], PRESENCE)
        return load

    @cached_property
    def _is_empty(self) -> BoolArray:
        """Of which resources nothing is there yet, shape (I,)."""
        return self.is_rate & (self.offers.present <= 0.0)

    def average_accuracy(self, paths: IntArray) -> float:
        """Return the average accuracy of an assignment."""
        return float(self.table.accuracy[paths].sum())

    def columns_of(self, task: int) -> IntArray:
        """Return the columns of a task."""
        return np.arange(self.first[task], self.first[task + 1])

    def path_of(self, column: int) -> tuple[TaskPaths, int]:
        """Return the paths of a column's task, and the number of the column among them."""
        task = int(self.table.task[column])
        return self.pool.tasks[task], column - int(self.first[task])

    def blocks(self, path: int) -> tuple[str, ...]:
        """Return the block ids of a path."""
        task, number = self.path_of(path)
        return task.blocks(number)

    def samples(self, path: int) -> float | None:
        """Return the images behind the accuracy of a path, None where nobody says."""
        task, number = self.path_of(path)
        return task.graph.samples(task.paths.arcs_of(number))

    def accuracy_source(self, path: int) -> AccuracySource:
        """Return where the accuracy of a path comes from."""
        task, number = self.path_of(path)
        return task.graph.accuracy_source(task.paths.arcs_of(number))

    def visiting(self, server: int) -> BoolArray:
        """Return which columns run a block or an adapter on a server, shape (P,).

        Complete only where the case was built with ``visits``; else a server without any work of
        the path may be left out.

        Args:
            server: number of the resource.
        """
        name = self.resources[server].server
        marks = [i for i, r in enumerate(self.resources) if r.server == name and not r.is_limited]
        return np.asarray((self.use[:, [server, *marks]] > 0.0).any(axis=1))

    def is_lost(self, gone: BoolArray) -> BoolArray:
        """Tell which tasks have no path left without some columns, shape (T,)."""
        left = np.bincount(self.table.task[~gone], minlength=len(self.first) - 1)
        return left == 0

    def restricted(self, allowed: BoolArray) -> Case:
        """Return the case with some of its columns only, shape (P,); at least one of each task."""
        tasks, pool = self.table.subsets(allowed), self.pool
        if all(task.sharing is None for task in tasks):
            pool = PathPool(pool.topology, tuple(task.tasks[0] for task in tasks))
        return replace(
            self,
            table=ColumnTable(pool, tasks),
            prefixes=self.prefixes.subset(np.flatnonzero(allowed)),
            promises=None,
        )

    def joint(self, joint_tasks: Sequence[JointTask]) -> Case:
        """Return the case in which every input group is one task, whose columns are joint paths."""
        table = ColumnTable(self.pool, joint_tasks)
        first = [task.group.tasks[0] for task in joint_tasks]
        return replace(
            self, table=table, prefixes=SharedPrefixes.none(table), demand=self.demand[first]
        )


def refuse_percentiles(instance: Instance, settings: PlanSettings, why: str) -> None:
    """Refuse limits of percentiles where an analysis cannot have them.

    Args:
        instance: what is asked about.
        settings: may ask for a percentile, too.
        why: what the analysis does that cannot have them, and what to do instead.

    Raises:
        InputError: a task has one.
    """
    task = task_with_percentile(with_percentile(instance, settings.latency_percentile))
    if task is not None:
        raise InputError(f"task {task.id!r} limits a percentile of its latency: {why}")


def prepared(instance: Instance, settings: PlanSettings) -> Instance:
    """Return the instance as it is planned for: demands and units of the settings filled in.

    A task without a demand has that of its input group, if another task of it has one.

    Raises:
        InputError: a task has no demand, or a server without devices sells parts of one, or
            limits of percentiles stand beside what no plan can hold then.
    """
    missing = _without_demand(instance)
    if missing and settings.demand is None:
        names = ", ".join(repr(name) for name in missing[:5]) + (", ..." if missing[5:] else "")
        raise InputError(
            f"a plan serves the demand, and there is none for task {names}: "
            "give the tasks a demand, or all that have none one (--demand)"
        )
    instance = instance.with_max_utilization(settings.max_utilization)
    servers = tuple(map(settings.with_unit, instance.servers))
    for server in servers:
        if server.devices == 0.0 and 0.0 < (server.unit_devices or 0.0) < 1.0:
            raise InputError(
                f"server {server.id!r} has 0 devices and units of {server.unit_devices:g}: an "
                "inference runs on one device, so unit_devices must be at least 1 there"
            )
    links = tuple(
        link.model_copy(update={"unit_bandwidth": settings.unit_bandwidth})
        if link.unit_bandwidth is None
        else link
        for link in instance.links
    )
    ready = with_demands(instance, settings).model_copy(update={"servers": servers, "links": links})
    refuse_groups(ready)
    return ready


def with_demands(instance: Instance, settings: PlanSettings) -> Instance:
    """Return the instance with demand and percentile of the settings where there are none."""
    instance = with_percentile(instance, settings.latency_percentile)
    if settings.demand is None:
        return instance
    missing = set(_without_demand(instance))
    tasks = tuple(
        task.model_copy(update={"demand": settings.demand}) if task.id in missing else task
        for task in instance.tasks
    )
    return instance.model_copy(update={"tasks": tasks})


def _without_demand(instance: Instance) -> list[str]:
    """Return the ids of the tasks that have no demand, nor has their input group."""
    return [
        instance.tasks[t].id
        for group in rate_groups(instance)
        for t in group
        if all(instance.tasks[other].demand is None for other in group)
    ]


def build_case(
    instance: Instance,
    settings: PlanSettings,
    coordination: Coordination = "full",
    *,
    max_loss: float | None = None,
    visits: bool = False,
) -> Case:
    """Return the planning case of an instance.

    Args:
        instance: what to plan for.
        settings: default demand and units.
        coordination: which paths there are.
        max_loss: most points of average accuracy lost against the native paths.
        visits: tell paths apart by the servers that they visit, even without any work there.

    Raises:
        InputError: a task has no demand, or an input group can share too many prefixes.
    """
    ready = prepared(instance, settings)
    # Floors would exclude paths by the present capacities.
    tasks = tuple(task.model_copy(update={"floor": 0.0}) for task in ready.tasks)
    servers = tuple(map(_with_a_device, ready.servers))
    pool = _POOLS[coordination](
        ready.model_copy(update={"tasks": tasks, "servers": servers}),
        PoolOptions(visits=visits, measured_only=settings.measured_only),
    )
    is_limited = limits_percentiles(ready)
    if is_limited:
        pool = keeping_limits(pool)
    table = ColumnTable(pool, single_tasks(pool))
    case = Case(
        instance=ready,
        settings=settings,
        coordination=coordination,
        table=table,
        prefixes=SharedPrefixes.of(table),
        offers=Offers.of(pool.resources, empty={s.id for s in ready.servers if not s.devices}),
        demand=least_of_groups(ready, own_demands(ready)),
        min_accuracy=None,
        promises=PlannedPromises(pool) if is_limited else None,
    )
    return case.with_loss(max_loss)


def _with_a_device(server: Server) -> Server:
    """Return a server with a device if it has none and sells some: uses are counted in it.

    Without one no path would have work there, and shares of its capacity would mean nothing.
    """
    if server.devices > 0.0 or server.unit_devices is None:
        return server
    return server.model_copy(update={"devices": 1.0})


def upgraded(
    case: Case,
    units: Sequence[int] | FloatArray,
    demand: FloatArray,
    floors: FloatArray | None = None,
) -> Instance:
    """Return the instance with units added and other demands.

    Args:
        case: whose instance.
        units: units bought of each resource, shape (I,).
        demand: demands [inferences/s], shape (T,).
        floors: least rates [inferences/s], shape (T,); None: 0.
    """
    more = [
        (resource, float(n) * resource.offer.size)
        for resource, n in zip(case.resources, units, strict=True)
        if resource.offer is not None
    ]
    least = np.zeros_like(demand) if floors is None else np.minimum(floors, demand)
    tasks = tuple(
        task.model_copy(update={"demand": most, "floor": floor})
        for task, most, floor in zip(
            case.instance.tasks, demand.tolist(), least.tolist(), strict=True
        )
    )
    return enlarged(case.instance.model_copy(update={"tasks": tasks}), more)


def native_accuracy(instance: Instance) -> float:
    """Return the average accuracy of the native paths, whatever their tasks' limits."""
    dnns = {dnn.id: dnn for dnn in instance.dnns}
    total, weights = 0.0, 0.0
    for task in instance.tasks:
        blocks = tuple(block.id for block in dnns[task.dnn].blocks)
        measured = {path.blocks: path.accuracy for path in task.measured_paths}
        ends = set(zip(("input", *blocks), (*blocks, "output"), strict=True))
        drops = sum(c.drop for c in task.connections if (c.source, c.target) in ends)
        value = measured.get(blocks, min(1.0, task.accuracy - drops))
        total += task.weight * max(value, 0.0)
        weights += task.weight
    return total / weights


def own_demands(instance: Instance) -> FloatArray:
    """Return what every task asks for by itself [inferences/s], inf for no demand, shape (T,)."""
    return np.array([math.inf if t.demand is None else float(t.demand) for t in instance.tasks])


def least_of_groups(instance: Instance, demands: FloatArray) -> FloatArray:
    """Return demands in which every task of an input group asks for the least of its group.

    The tasks of a group have one rate, and no rate is larger than its task's demand.

    Args:
        instance: whose tasks.
        demands: [inferences/s], shape (..., T).
    """
    least = demands.copy()
    for group in rate_groups(instance):
        if len(group) > 1:
            tasks = list(group)
            least[..., tasks] = demands[..., tasks].min(axis=-1, keepdims=True)
    return least
