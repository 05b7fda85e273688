"""The task graph: where a task's inference can go, and what each step costs.

Costs are normalised so that a capacity is always 1: work on a server is given in
seconds of that server per inference (FLOP / C[s]), bytes on a limited link in seconds
of that link (bytes / B), adapters as a share of a server's free memory. A column of
costs is called a *resource*; unlimited links and memories are none. What kinds there are stands
in :mod:`code_opt.paths.resources`.

Visits of servers can be costs, too, for questions in which it matters where a path goes even
if it does nothing there (a failed server): see :class:`Topology`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from code_opt.instance.model import (
    IDENTITY,
    INPUT,
    OUTPUT,
    Connection,
    Instance,
    Link,
    Task,
)
from code_opt.paths import resources
from code_opt.paths.resources import (
    SERVER_TIME,
    VISITS,
    LinkBudget,
    Resource,
    ServerBudget,
    list_resources,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Step = tuple[str, str, str]
"""Ends and adapter of an arc: the same for tasks that can share it."""


class Arc(NamedTuple):
    """One step of a path: a connection (or native arc) together with the block it enters.

    A named tuple, since an instance has dozens of arcs per task and those are made fast.
    """

    tail: str
    head: str
    drop: float
    seconds: float
    """Unloaded time of adapter, transfer and the entered block [s]."""
    use: tuple[tuple[int, float], ...]
    """(resource index, amount per inference) of adapter, transfer and entered block."""
    hops: tuple[tuple[str, str, float], ...]
    """(server, server, bytes) of each transfer over a listed link."""
    is_connection: bool
    """Whether it stands in the task's connections (an adapter, or a changed native arc)."""
    share: str | None
    """Name of the adapter, by which tasks of an input group share it; None: the task's own."""

    @property
    def step(self) -> Step | None:
        """What makes the arc the same for several tasks, None where it is the task's own."""
        return None if self.share is None else (self.tail, self.head, self.share)


@dataclass(frozen=True)
class TaskGraph:
    """The directed acyclic graph of one task, reduced to what lies on a path.

    Nodes are numbered in topological order; node 0 is ``input``, the last one ``output``.
    """

    task: Task
    nodes: tuple[str, ...]
    arcs: tuple[Arc, ...]
    """Sorted by head, then tail, both in topological order."""
    tails: IntArray
    heads: IntArray
    drop: FloatArray
    """Drop of each arc, shape (arcs,)."""
    seconds: FloatArray
    """Unloaded time of each arc [s], shape (arcs,)."""
    resources: IntArray
    """Global indices of the resources that some arc uses, ascending, shape (k,)."""
    use: FloatArray
    """Use of those resources by each arc, shape (arcs, k)."""

    @property
    def is_empty(self) -> bool:
        """Whether no path exists at all."""
        return not self.arcs

    @cached_property
    def levels(self) -> IntArray:
        """Most arcs on a way from input to each node; every arc leads to a higher level."""
        level = [0] * len(self.nodes)
        for tail, head in zip(self.tails.tolist(), self.heads.tolist(), strict=True):
            if level[head] <= level[tail]:
                level[head] = level[tail] + 1
        return np.array(level, dtype=np.int64)

    @cached_property
    def arc_index(self) -> dict[tuple[str, str], int]:
        """Arc numbers by their two ends."""
        return {(arc.tail, arc.head): i for i, arc in enumerate(self.arcs)}

    def count_paths(self) -> int:
        """Return the number of paths from input to output (an exact integer)."""
        if self.is_empty:
            return 0
        count = [0] * len(self.nodes)
        count[0] = 1
        for tail, head in zip(self.tails.tolist(), self.heads.tolist(), strict=True):
            count[head] += count[tail]
        return count[-1]

    def to_output(self, weight: FloatArray) -> FloatArray:
        """Return the least sum of arc weights from each node to output, shape (nodes,)."""
        best = np.full(len(self.nodes), np.inf)
        best[-1] = 0.0
        for i in range(len(self.arcs) - 1, -1, -1):
            best[self.tails[i]] = min(best[self.tails[i]], best[self.heads[i]] + weight[i])
        return best

    def from_input(self, weight: FloatArray) -> FloatArray:
        """Return the least sum of arc weights from input to each node, shape (nodes,)."""
        best = np.full(len(self.nodes), np.inf)
        best[0] = 0.0
        for i in range(len(self.arcs)):
            best[self.heads[i]] = min(best[self.heads[i]], best[self.tails[i]] + weight[i])
        return best

    def path_arcs(self, blocks: Sequence[str]) -> list[int] | None:
        """Return the arc numbers of a path given by its blocks, or None where it has none."""
        ends = [INPUT, *blocks, OUTPUT]
        arcs = [self.arc_index.get(pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
        return None if None in arcs else [a for a in arcs if a is not None]


class Topology:
    """What all task graphs of one instance share: places of blocks, links, resources."""

    def __init__(self, instance: Instance, visits: bool = False) -> None:
        """Index an instance.

        Args:
            instance: what to index.
            visits: count the blocks, and the adapters with a server of their own, that a path
                runs without any work, per server, as unlimited resources: so a path that
                visits a server is told from one that does not, and neither dominates the other
                by going elsewhere. They take no time and no capacity.
        """
        self.instance = instance
        self.server_of = {b.id: d.server for d in instance.dnns for b in d.blocks}
        self.block = {b.id: b for d in instance.dnns for b in d.blocks}
        self.dnn = {d.id: d for d in instance.dnns}
        self.servers = {s.id: s for s in instance.servers}
        self.links = {(link.source, link.target): link for link in instance.links}
        kinds = (*resources.KINDS, VISITS) if visits else resources.KINDS
        self.resources: tuple[Resource, ...] = tuple(list_resources(instance, kinds))
        self.is_rate_resource = np.array([r.is_rate for r in self.resources], dtype=bool)
        """Which resources are paid per inference (servers, links; not memory, not visits)."""
        self.server_time: dict[str, int] = {}
        """Index of the time of every server among the resources."""
        self._budgets_of: dict[str, list[tuple[int, ServerBudget]]] = {s: [] for s in self.servers}
        self._budgets_across: dict[tuple[str, ...], list[tuple[int, LinkBudget]]] = {}
        for number, resource in enumerate(self.resources):
            kind = resource.kind
            if isinstance(kind, ServerBudget):
                self._budgets_of[resource.key[0]].append((number, kind))
            elif isinstance(kind, LinkBudget):
                self._budgets_across.setdefault(resource.key, []).append((number, kind))
            if kind is SERVER_TIME:
                self.server_time[resource.key[0]] = number
        self._native_arcs: dict[tuple[str, str], Arc] = {}
        self._next = {
            a.id: b.id
            for d in instance.dnns
            for a, b in zip(d.blocks[:-1], d.blocks[1:], strict=True)
        }
        dnns_on = dict.fromkeys(self.servers, 0)
        for dnn in instance.dnns:
            dnns_on[dnn.server] += 1
        self._dnns_on = dnns_on
        self.groups = rate_groups(instance)
        """Tasks that have one rate: those of an input group, or a single one."""
        users_of = dict.fromkeys(self.dnn, 0)
        for group in self.groups:
            for name in {instance.tasks[t].dnn for t in group}:
                users_of[name] += 1
        self._users_of = users_of

    @cached_property
    def graphs(self) -> tuple[TaskGraph, ...]:
        """The graph of every task, in the order of the instance."""
        return tuple(self.task_graph(task) for task in self.instance.tasks)

    def task_graph(self, task: Task) -> TaskGraph:
        """Return the graph of one task; arcs that cannot be used (missing link) are left out."""
        outgoing = self._outgoing(task)
        order = _topological_order(outgoing)
        rank = {node: i for i, node in enumerate(order)}
        # Tails come in topological order, so each list of entering arcs is sorted by them.
        entering: dict[str, list[Arc]] = {node: [] for node in order}
        for node in order:
            for arc in outgoing.get(node, ()):
                entering[arc.head].append(arc)
        arcs = [arc for node in order for arc in entering[node]]
        used = sorted({r for arc in arcs for r, _ in arc.use})
        column = {r: i for i, r in enumerate(used)}
        use = [[0.0] * len(used) for _ in arcs]
        for row, arc in zip(use, arcs, strict=True):
            for resource, amount in arc.use:
                row[column[resource]] += amount
        return TaskGraph(
            task=task,
            nodes=tuple(order),
            arcs=tuple(arcs),
            tails=np.array([rank[arc.tail] for arc in arcs], dtype=np.int64),
            heads=np.array([rank[arc.head] for arc in arcs], dtype=np.int64),
            drop=np.array([arc.drop for arc in arcs], dtype=float),
            seconds=np.array([arc.seconds for arc in arcs], dtype=float),
            resources=np.array(used, dtype=np.int64),
            use=np.array(use, dtype=float).reshape(len(arcs), len(used)),
        )

    def floors(self) -> list[float]:
        """Return floor[t] of every task [inferences/s]; in a group the largest is that of all.

        ``standalone`` is worked out (:meth:`standalone_rate`).
        """
        floors = [0.0] * len(self.instance.tasks)
        for group in self.groups:
            asked = [self.instance.tasks[t].floor for t in group]
            floor = max((float(f) for f in asked if f != "standalone"), default=0.0)
            if "standalone" in asked:
                floor = max(floor, self.standalone_rate(group))
            for t in group:
                floors[t] = floor
        return floors

    def demands(self) -> list[float]:
        """Return the demand of every task [inferences/s]; in a group the least is that of all."""
        demands = [np.inf] * len(self.instance.tasks)
        for group in self.groups:
            asked = [self.instance.tasks[t].demand for t in group]
            for t in group:
                demands[t] = min((d for d in asked if d is not None), default=np.inf)
        return demands

    def standalone_rate(self, group: Sequence[int]) -> float:
        """Return the rate of a task, or an input group, without coordination [inferences/s].

        The native paths at an equal share of everything: of a server (capacity divided by the
        number of DNNs hosted there), then of the DNN and of links among those that the DNN
        serves, which are single tasks and input groups. Tasks of a group that the same
        DNN serves share its trunk. Capped by demand; 0 where a native path cannot be used.
        """
        tasks = [self.instance.tasks[t] for t in group]
        rate = min((t.demand for t in tasks if t.demand is not None), default=np.inf)
        for dnn in dict.fromkeys(task.dnn for task in tasks):
            walks = [self._native_walk(task) for task in tasks if task.dnn == dnn]
            usable = [walk for walk in walks if walk is not None]
            if len(usable) < len(walks):
                return 0.0
            totals: dict[int, float] = {}
            for walk, positions in zip(usable, paid_steps(usable), strict=True):
                for position in positions:
                    for resource, amount in walk[position].use:
                        totals[resource] = totals.get(resource, 0.0) + amount
            for number, total in totals.items():
                limited = self.resources[number]
                if total <= 0.0 or not limited.is_rate:
                    continue
                sharers = self._users_of[dnn]
                if limited.server is not None:
                    sharers *= max(1, self._dnns_on[limited.server])
                rate = min(rate, 1.0 / sharers / total)
        return float(rate)

    def _native_walk(self, task: Task) -> list[Arc] | None:
        """Return the arcs of the native path, or None where it lacks a link."""
        ends = [INPUT, *(b.id for b in self.dnn[task.dnn].blocks), OUTPUT]
        changed = {(c.source, c.target): c for c in task.connections}
        arcs = [
            self._arc(tail, head, changed.get((tail, head)))
            for tail, head in zip(ends[:-1], ends[1:], strict=True)
        ]
        return None if None in arcs else [arc for arc in arcs if arc is not None]

    def _outgoing(self, task: Task) -> dict[str, list[Arc]]:
        """Return the usable arcs by tail, restricted to nodes between input and output."""
        blocks = self.dnn[task.dnn].blocks
        ends: dict[str, dict[str, Connection | None]] = {}
        for connection in task.connections:
            ends.setdefault(connection.source, {})[connection.target] = connection
        ends.setdefault(INPUT, {}).setdefault(blocks[0].id, None)
        ends.setdefault(blocks[-1].id, {}).setdefault(OUTPUT, None)

        outgoing: dict[str, list[Arc]] = {}
        entering: dict[str, list[str]] = {}
        frontier = [INPUT]
        while frontier:
            node = frontier.pop()
            if node in outgoing:
                continue
            targets = ends.get(node, {})
            follower = self._next.get(node)
            if follower is not None and follower not in targets:
                targets = {**targets, follower: None}
            arcs = []
            for head in targets:
                arc = self._arc(node, head, targets[head])
                if arc is not None:
                    arcs.append(arc)
                    entering.setdefault(head, []).append(node)
                    frontier.append(head)
            outgoing[node] = arcs
        useful = {OUTPUT}
        frontier = [OUTPUT]
        while frontier:
            for node in entering.get(frontier.pop(), ()):
                if node not in useful:
                    useful.add(node)
                    frontier.append(node)
        return {
            node: [arc for arc in arcs if arc.head in useful]
            for node, arcs in outgoing.items()
            if node in useful
        }

    def _arc(self, tail: str, head: str, connection: Connection | None) -> Arc | None:
        """Return one arc with its costs, or None where a hop lacks a link."""
        if connection is None:
            return self._native_arc(tail, head)
        use: list[tuple[int, float]] = []
        hops: list[tuple[str, str, float]] = []
        place = connection.server or self.server_of[head if tail == INPUT else tail]
        server = self.servers[place]
        seconds = connection.flops / server.flops
        for resource, kind in self._budgets_of[place]:
            amount = kind.of_adapter(server, connection)
            if amount is not None:
                use.append((resource, amount))
        if self.links:
            stops = [place]
            if tail != INPUT:
                stops.insert(0, self.server_of[tail])
            if head != OUTPUT:
                stops.append(self.server_of[head])
            size = connection.bytes
            if size is None:
                size = 0.0 if tail == INPUT else self.block[tail].output_bytes
            for hop in zip(stops[:-1], stops[1:], strict=True):
                if hop[0] == hop[1]:
                    continue
                link = self.links.get(hop)
                if link is None:
                    return None
                seconds += self._transfer(use, link, size)
                hops.append((*hop, size))
        if head != OUTPUT:
            seconds += self._run(use, head)
        return Arc(
            tail, head, connection.drop, seconds, tuple(use), tuple(hops), True, connection.share
        )

    def _native_arc(self, tail: str, head: str) -> Arc:
        """Return an arc of a trunk, or from input or to output; it is the same for all tasks."""
        arc = self._native_arcs.get((tail, head))
        if arc is None:
            use: list[tuple[int, float]] = []
            seconds = 0.0
            if head != OUTPUT:
                seconds = self._run(use, head)
            arc = self._native_arcs[tail, head] = Arc(
                tail, head, 0.0, seconds, tuple(use), (), False, IDENTITY
            )
        return arc

    def _run(self, use: list[tuple[int, float]], name: str) -> float:
        """Add what a block uses; return its unloaded time [s]."""
        block, server = self.block[name], self.servers[self.server_of[name]]
        for resource, kind in self._budgets_of[server.id]:
            amount = kind.of_block(server, block)
            if amount is not None:
                use.append((resource, amount))
        return block.flops / server.flops

    def _transfer(self, use: list[tuple[int, float]], link: Link, size: float) -> float:
        """Add what a transfer uses; return its unloaded time [s]."""
        for resource, kind in self._budgets_across.get((link.source, link.target), ()):
            use.append((resource, kind.of_transfer(link, size)))
        return link.latency + (0.0 if link.bandwidth is None else size / link.bandwidth)


def _topological_order(outgoing: dict[str, list[Arc]]) -> list[str]:
    """Return input, the blocks between, output; deterministic (order of discovery)."""
    missing: dict[str, int] = {}
    for arcs in outgoing.values():
        for arc in arcs:
            missing[arc.head] = missing.get(arc.head, 0) + 1
    order = [INPUT] if INPUT in outgoing else []
    for node in order:
        for arc in outgoing.get(node, ()):
            missing[arc.head] -= 1
            if missing[arc.head] == 0 and arc.head != OUTPUT:
                order.append(arc.head)
    return [*order, OUTPUT] if order else []


def rate_groups(instance: Instance) -> tuple[tuple[int, ...], ...]:
    """Return the tasks that have one rate, in the order of their first ones.

    Those of an input group are together, every other task is alone.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number, task in enumerate(instance.tasks):
        name = ("task", task.id) if task.input_group is None else ("group", task.input_group)
        groups.setdefault(name, []).append(number)
    return tuple(map(tuple, groups.values()))


def paid_steps(walks: Sequence[Sequence[Arc]]) -> list[list[int]]:
    """Return for each walk the positions of the steps that no earlier walk pays for.

    Args:
        walks: the steps of a path from input, one per task of a group.
    """
    root: dict[Step, Any] = {}
    paid = []
    for walk in walks:
        node = root
        positions: list[int] = []
        for position, arc in enumerate(walk):
            step = arc.step
            if step is None:
                positions += range(position, len(walk))
                break
            if step not in node:
                positions.append(position)
                node[step] = {}
            node = node[step]
        paid.append(positions)
    return paid
