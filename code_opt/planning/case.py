"""A planning case: the paths of an instance and what capacity can be bought, as arrays.

Unlike in ``solve``, capacities are not fixed: no path is too slow, since units can be added,
so rate floors and largest rates exclude nothing. Latency limits are judged at the present
capacities: units that are bought can only make paths faster, so the limits hold afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from code_opt.errors import InputError
from code_opt.heuristics.baselines import edge_early_pool, local_pool
from code_opt.instance.model import Instance
from code_opt.paths import PathPool, build_pool
from code_opt.paths.graph import FloatArray, IntArray, Topology, rate_groups
from code_opt.paths.resources import Resource, enlarged
from code_opt.planning.settings import PlanSettings, check_amounts
from code_opt.planning.sharing import (
    BoolArray,
    PrefixUse,
    find_prefixes,
    least_of_groups,
    own_demands,
)
from code_opt.planning.tolerances import NOISE

Coordination = Literal["full", "exits", "none"]
COORDINATIONS: tuple[Coordination, ...] = ("full", "exits", "none")
"""All paths; native paths and early exits of the own DNN; native paths only."""
_POOLS: dict[Coordination, Callable[..., PathPool]] = {
    "full": build_pool,
    "exits": edge_early_pool,
    "none": local_pool,
}


@dataclass(frozen=True)
class Case:
    """Paths of all tasks (P in all, of T tasks) and what can be bought of I servers and links.

    Paths are numbered through all tasks in the order of the instance.
    """

    coordination: Coordination
    """Which paths there are."""
    instance: Instance
    """As it is planned for: every task or its input group has a demand, every server its unit."""
    pool: PathPool
    resources: tuple[Resource, ...]
    """The I servers and limited links, servers first, in the order of the instance."""
    memories: tuple[Resource, ...]
    names: tuple[str, ...]
    """Ids of the T tasks."""
    task_of: IntArray
    """Shape (P,), ascending."""
    first: IntArray
    """First path of each task, and P; shape (T + 1,)."""
    accuracy: FloatArray
    """Shape (P,)."""
    use: FloatArray
    """Seconds of each server and link per inference; present capacity is 1; shape (P, I)."""
    visits: BoolArray
    """Whether a path runs a block or an adapter on a server, shape (P, I); False for links.

    Complete only where the case was built with ``visits``; else a server without any work of
    the path may be left out."""
    memory: FloatArray
    """Share of each limited memory, shape (P, M)."""
    shared: PrefixUse
    """What ``use`` and ``memory`` of tasks of an input group have in common."""
    weights: FloatArray
    """w[t], summing to 1, shape (T,)."""
    demand: FloatArray
    """Present demand [inferences/s], of an input group the least of its tasks, shape (T,)."""
    unit: FloatArray
    """One unit as a share of the present capacity, 0 where none is sold; shape (I,)."""
    price: FloatArray
    """Price of one unit, shape (I,)."""
    sold: FloatArray
    """Most units that are sold, inf where unlimited, 0 where none is sold; shape (I,)."""
    native_accuracy: float
    """Average accuracy of the native paths."""

    @cached_property
    def _asked(self) -> FloatArray:
        """Floors before any demand caps them [inferences/s], shape (T,)."""
        tasks = tuple(t.model_copy(update={"demand": None}) for t in self.instance.tasks)
        unlimited = self.instance.model_copy(update={"tasks": tasks})
        return np.array(Topology(unlimited).floors())

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

    def least_accuracy(self, settings: PlanSettings, max_loss: float | None) -> float | None:
        """Return the floor on the average accuracy, from both ways to ask for one.

        Args:
            settings: may hold a floor.
            max_loss: most points lost against the native paths.
        """
        floors = [] if settings.min_accuracy is None else [settings.min_accuracy]
        if max_loss is not None:
            floors.append(max(self.native_accuracy - max_loss / 100.0, 0.0))
        return max(floors, default=None)

    def largest_load(self, demand: FloatArray) -> FloatArray:
        """Return a bound on the loads of any choice of paths, shape (I,).

        Every task on its most demanding path: sum_t d[t] max_p use[p,i]. What tasks share is
        counted for each of them.

        Args:
            demand: rates [inferences/s], shape (T,).
        """
        worst = np.zeros(len(self.unit))
        for t in range(len(self.names)):
            rows = self.use[self.first[t] : self.first[t + 1]]
            worst += demand[t] * rows.max(axis=0, initial=0.0)
        return worst

    def units_for(self, load: FloatArray) -> FloatArray:
        """Return the least units that carry loads (inf where none is sold), shape like ``load``.

        This is the one rule: ceil((load - 1) / unit), a load counting as less by the share
        ``NOISE``, which is what rounding may have added.

        Args:
            load: loads as shares of the present capacities, shape (..., I).
        """
        excess = np.maximum(load - 1.0 - NOISE * np.maximum(load, 1.0), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.ceil(excess / self.unit)
        return np.where(excess > 0.0, units, 0.0)

    def capacity(self, units: FloatArray) -> FloatArray:
        """Return the capacities with units, as shares of the present ones, shape (I,)."""
        return 1.0 + np.where(self.unit > 0.0, self.unit * units, 0.0)

    def load(self, paths: IntArray, rates: FloatArray) -> FloatArray:
        """Return the load of every server and link as a share of its present capacity.

        Args:
            paths: path of each task, -1 for a task that does not run, shape (T,).
            rates: [inferences/s], shape (T,).
        """
        return self.shared.load(paths, rates)

    def scaled(self, capacity: FloatArray) -> Case:
        """Return the case with uses as shares of other capacities.

        Args:
            capacity: as shares of the present ones, shape (I,).
        """
        return replace(self, use=self.use / capacity, shared=self.shared.scaled(capacity))

    def average_accuracy(self, paths: IntArray) -> float:
        """Return the average accuracy of an assignment."""
        return float(self.weights @ self.accuracy[paths])

    def blocks(self, path: int) -> tuple[str, ...]:
        """Return the block ids of a path."""
        task = int(self.task_of[path])
        return self.pool.tasks[task].blocks(path - int(self.first[task]))

    def is_measured(self, path: int) -> bool:
        """Tell whether the accuracy of a path is measured."""
        task = int(self.task_of[path])
        return bool(self.pool.tasks[task].paths.measured[path - int(self.first[task])])


def prepared(instance: Instance, settings: PlanSettings) -> Instance:
    """Return the instance as it is planned for: demands and units of the settings filled in.

    A task without a demand has that of its input group, if another task of it has one.

    Raises:
        InputError: a task has no demand.
    """
    missing = _without_demand(instance)
    if missing and settings.demand is None:
        names = ", ".join(repr(name) for name in missing[:5]) + (", ..." if missing[5:] else "")
        raise InputError(
            f"a plan serves the demand, and there is none for task {names}: "
            "give the tasks a demand, or all that have none one (--demand)"
        )
    servers = tuple(
        server.model_copy(update={"unit_flops": settings.unit_flops})
        if server.unit_flops is None
        else server
        for server in instance.servers
    )
    links = tuple(
        link.model_copy(update={"unit_bandwidth": settings.unit_bandwidth})
        if link.unit_bandwidth is None
        else link
        for link in instance.links
    )
    ready = with_demands(instance, settings)
    return ready.model_copy(update={"servers": servers, "links": links})


def with_demands(instance: Instance, settings: PlanSettings) -> Instance:
    """Return the instance with the demand of the settings, if any, where there is none."""
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
    visits: bool = False,
) -> Case:
    """Return the planning case of an instance.

    Args:
        instance: what to plan for.
        settings: default demand and units.
        coordination: which paths there are.
        visits: tell paths apart by the servers that they visit, even without any work there.

    Raises:
        InputError: a task has no demand, or an input group can share too many prefixes.
    """
    ready = prepared(instance, settings)
    pool = _POOLS[coordination](_unhurried(ready), visits=visits)
    rate = [i for i, r in enumerate(pool.resources) if r.is_rate]
    kept = [i for i, r in enumerate(pool.resources) if not r.is_rate and r.is_limited]
    marks = [i for i, r in enumerate(pool.resources) if not r.is_limited]
    amounts = np.zeros((pool.size, len(pool.resources)))
    sizes = [len(task) for task in pool.tasks]
    first = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    for t, task in enumerate(pool.tasks):
        amounts[first[t] : first[t + 1], task.resources] = task.paths.use
    unit, price, sold, for_sale = [], [], [], {}
    for resource in (pool.resources[i] for i in rate):
        offer = resource.offer
        unit.append(0.0 if offer is None else offer.size / resource.capacity)
        price.append(resource.record.cost)
        sold.append(0.0 if offer is None else offer.most)
        if offer is not None and offer.most > 0.0:
            for_sale[resource.name] = offer.price
    check_amounts("price of a unit", for_sale)
    use, memory = amounts[:, rate], amounts[:, kept]
    visited = (use > 0.0) & np.array([pool.resources[i].server is not None for i in rate])
    if marks:  # one for each server, in the order of the servers, which come first
        visited[:, : len(marks)] |= amounts[:, marks] > 0.0
    return Case(
        coordination=coordination,
        instance=ready,
        pool=pool,
        resources=tuple(pool.resources[i] for i in rate),
        memories=tuple(pool.resources[i] for i in kept),
        names=tuple(task.id for task in ready.tasks),
        task_of=np.repeat(np.arange(len(sizes)), sizes),
        first=first,
        accuracy=np.concatenate([task.paths.accuracy for task in pool.tasks]),
        use=use,
        visits=visited,
        memory=memory,
        shared=find_prefixes(pool, use, memory),
        weights=pool.weights,
        demand=least_of_groups(ready, own_demands(ready)),
        unit=np.array(unit),
        price=np.array(price),
        sold=np.array(sold),
        native_accuracy=native_accuracy(ready),
    )


def upgraded(
    case: Case,
    units: Sequence[int] | FloatArray,
    demand: FloatArray,
    floors: FloatArray | None = None,
) -> Instance:
    """Return the instance with units added and other demands.

    Args:
        case: whose instance.
        units: units bought of each server and link, shape (I,).
        demand: demands [inferences/s], shape (T,).
        floors: least rates [inferences/s], shape (T,); None: 0.
    """
    more = [
        (resource, float(n) * resource.offer.size)
        for resource, n in zip(case.resources, units, strict=True)
        if resource.offer is not None
    ]
    instance = enlarged(case.instance, more)
    tasks = tuple(
        task.model_copy(
            update={
                "demand": float(demand[t]),
                "floor": 0.0 if floors is None else min(float(floors[t]), float(demand[t])),
            }
        )
        for t, task in enumerate(instance.tasks)
    )
    return instance.model_copy(update={"tasks": tasks})


def _unhurried(instance: Instance) -> Instance:
    """Return a copy without rate floors: they would exclude paths by the present capacities."""
    tasks = tuple(task.model_copy(update={"floor": 0.0}) for task in instance.tasks)
    return instance.model_copy(update={"tasks": tasks})


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
