"""The task graph: where a task's inference can go, and what each step costs.

Costs are normalised so that a capacity is always 1: work on a server is given as a share of
the device seconds per second that can be sold there (tau / (max_utilization * devices)), bytes
on a limited link in seconds of that link (bytes / B), adapters as a share of a server's free
memory. A column of costs is called a *resource*; unlimited links and memories are none. What
kinds there are stands in :mod:`code_opt.paths.resources`.

Visits of servers can be costs, too, for questions in which it matters where a path goes even
if it does nothing there (a failed server): see :class:`Topology`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from code_opt.instance.model import (
    IDENTITY,
    INPUT,
    OUTPUT,
    Block,
    Connection,
    GivenPath,
    Instance,
    Link,
    Server,
    Task,
)
from code_opt.instance.records import AccuracySource
from code_opt.paths import resources
from code_opt.paths.previous import PATH_CHANGES, Previous
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
Ends = tuple[str, str]
ChainKey = tuple[Literal["alternative", "measured", "previous"], str]
"""An indivisible path: the DNN of an alternative, the number of a measured path, or the previous
path of a task (:mod:`code_opt.paths.previous`)."""
CHANGED = f"{OUTPUT} > changed"
"""Node before the output where a task has left its previous path; no id holds a ``>``."""
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
    """(source, target, bytes) of each transfer over a listed link."""
    is_connection: bool
    """Whether it stands in the task's connections (an adapter, or a changed native arc)."""
    share: str | None
    """Name of the adapter, by which tasks of an input group share it; None: the task's own."""
    block: str | None = None
    """The block that it enters; None: it leads to the output, or only an input to a server."""
    chain: ChainKey | None = None
    """The indivisible path that alone it belongs to."""
    stands_for: Ends | None = None
    """Its ends in the instance, where tail and head are nodes of other names."""

    @property
    def ends(self) -> Ends:
        """Its ends in the instance."""
        return self.stands_for or (self.tail, self.head)

    @property
    def step(self) -> Step | None:
        """What makes the arc the same for several tasks, None where it is the task's own."""
        return None if self.share is None else (*self.ends, self.share)


class _Sent(NamedTuple):
    """An input on its way to a block."""

    start: str
    """Server that it is at."""
    size: float
    """[bytes]"""
    origin: str | None
    """Server without which there is no input, where an arc has to say so."""


@dataclass(frozen=True)
class TaskGraph:
    """The directed acyclic graph of one task, reduced to what lies on a path.

    Nodes are numbered in topological order; node 0 is ``input``, the last one ``output``. The
    others are blocks and, for tasks of an input group, servers to which the input is sent: there
    the adapters of all tasks of the group can take it, so that it crosses a link once. The blocks
    of an alternative are nodes of their own, so that no connection leads to or from them.
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

    @cached_property
    def entries(self) -> dict[str, tuple[int, ...]]:
        """Arcs from the input to each block that it can enter, by block."""
        sent = {
            arc.head: i
            for i, arc in enumerate(self.arcs)
            if arc.block is None and arc.head != OUTPUT
        }
        found: dict[str, tuple[int, ...]] = {}
        for i, arc in enumerate(self.arcs):
            if arc.block is None or arc.chain is not None:
                continue
            if arc.tail == INPUT:
                found[arc.block] = (i,)
            elif arc.tail in sent:
                found[arc.block] = (sent[arc.tail], i)
        return found

    @cached_property
    def chains(self) -> dict[ChainKey, tuple[int, ...]]:
        """Arcs of the indivisible paths: alternatives, and measured paths where all others go."""
        found: dict[ChainKey, list[int]] = {}
        for i, arc in enumerate(self.arcs):  # in topological order
            if arc.chain is not None:
                walk = found.setdefault(arc.chain, [])
                if not walk and arc.tail != INPUT:
                    walk.append(self.arc_index[INPUT, arc.tail])
                walk.append(i)
                if arc.head == CHANGED:
                    walk.append(self.arc_index[CHANGED, OUTPUT])
        return {key: tuple(walk) for key, walk in found.items()}

    @cached_property
    def measured(self) -> dict[tuple[int, ...], float]:
        """Accuracies of the measured paths that exist here, by their arcs."""
        return {
            tuple(arcs): path.accuracy
            for path in self.task.measured_paths
            for arcs in self.walks(path.blocks)
        }

    @cached_property
    def known(self) -> dict[tuple[int, ...], float]:
        """Accuracies of measured paths and alternatives, by their arcs: nothing is predicted."""
        accuracy = {a.dnn: a.accuracy for a in self.task.alternatives}
        return self.measured | {
            arcs: accuracy[name]
            for (kind, name), arcs in self.chains.items()
            if kind == "alternative"
        }

    def samples(self, arcs: tuple[int, ...]) -> float | None:
        """Return the images behind the accuracy of a path, None where nobody says."""
        source, blocks = self.accuracy_source(arcs), self.blocks(arcs)
        if source == "measured":
            return next(m.samples for m in self.task.measured_paths if m.blocks == blocks)
        if source in ("predicted", "guessed"):
            return None
        for alternative in self.task.alternatives:
            if arcs == self.chains.get(("alternative", alternative.dnn)):
                return alternative.samples
        return self.task.samples

    def accuracy_source(self, arcs: tuple[int, ...]) -> AccuracySource:
        """Return where the accuracy of a path comes from; a native one's is the task's own."""
        if arcs in self.measured:
            return "measured"
        if not any(self.arcs[a].is_connection for a in arcs):
            return "given"
        return "guessed" if any(self.arcs[a].ends in self._guessed for a in arcs) else "predicted"

    @cached_property
    def _guessed(self) -> frozenset[Ends]:
        """Ends of the connections whose drop is a guess."""
        connections = self.task.connections
        return frozenset((c.source, c.target) for c in connections if c.is_guessed)

    def step_arcs(self, tail: str, head: str) -> tuple[int, ...] | None:
        """Return the arcs of a step between input, blocks and output, None where there is none."""
        if tail == INPUT:
            return self.entries.get(head)
        arc = self.arc_index.get((tail, head))
        if arc is None and head == OUTPUT and (tail, CHANGED) in self.arc_index:
            return self.arc_index[tail, CHANGED], self.arc_index[CHANGED, OUTPUT]
        return None if arc is None else (arc,)

    def path_arcs(self, blocks: Sequence[str]) -> list[int] | None:
        """Return the arc numbers of a path given by its blocks, or None where it has none.

        Blocks that are an alternative and connections lead along as well are the latter, unless
        they are a :class:`code_opt.instance.model.GivenPath`.
        """
        walk = self._walk(blocks)
        alternative = self._chains.get(("alternative", *blocks))
        if alternative is not None and (walk is None or isinstance(blocks, GivenPath)):
            return list(alternative)
        return walk

    def _walk(self, blocks: Sequence[str]) -> list[int] | None:
        """Return the arc numbers of a path that is no alternative, as the previous one first."""
        return next(self.walks(blocks), None)

    def walks(self, blocks: Sequence[str]) -> Iterator[list[int]]:
        """Yield the ways along these blocks that are no alternative: of the same figures all."""
        for kind in ("previous", "measured"):
            chain = self._chains.get((kind, *blocks))
            if chain is not None:
                yield list(chain)
        ends = [INPUT, *blocks, OUTPUT]
        steps = [self.step_arcs(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
        if None not in steps:
            yield [arc for step in steps for arc in step or ()]

    def ways(self, blocks: Sequence[str]) -> Iterator[list[int]]:
        """Yield all ways along these blocks: over connections, and an alternative."""
        yield from self.walks(blocks)
        alternative = self._chains.get(("alternative", *blocks))
        if alternative is not None:
            yield list(alternative)

    @cached_property
    def _chains(self) -> dict[tuple[str, ...], tuple[int, ...]]:
        """Arcs of the indivisible paths by their kind and blocks."""
        return {(kind, *self.blocks(arcs)): arcs for (kind, _), arcs in self.chains.items()}

    def blocks(self, arcs: Iterable[int]) -> tuple[str, ...]:
        """Return the block ids of a path given by its arc numbers."""
        walked = [self.arcs[a] for a in arcs]
        entered = (arc.block for arc in walked)
        blocks = tuple(block for block in entered if block is not None)
        is_given = any(arc.chain and arc.chain[0] == "alternative" for arc in walked)
        return GivenPath(blocks) if is_given else blocks


@dataclass(frozen=True)
class PoolOptions:
    """Which paths there are, and by what a pool compares them."""

    visits: bool = False
    """Count the blocks, and the adapters with a server of their own, that a path runs without any
    work, per server, as unlimited resources: so a path that visits a server is told from one that
    does not, and neither dominates the other by going elsewhere. They take no time and no
    capacity."""
    measured_only: bool = False
    """Graphs hold native paths, alternatives and measured paths alone, whose accuracies nobody
    predicts; each is a path of its own."""
    weighs_time: bool = False
    """Paths are compared by their unloaded times, too, since the objective is a latency."""
    previous: Previous | None = None
    """An earlier assignment. Where it limits changes, the previous path of a task is a path of
    its own beside the others, and these use a share of the changes."""

    @property
    def limits_changes(self) -> bool:
        """Whether fewer tasks may leave their previous paths than have one."""
        return self.previous is not None and self.previous.is_limiting


class Topology:
    """What all task graphs of one instance share: places of blocks, links, resources."""

    def __init__(self, instance: Instance, options: PoolOptions | None = None) -> None:
        """Index an instance; see :class:`PoolOptions`."""
        self.instance = instance
        self.options = options = options or PoolOptions()
        self.server_of = {b.id: d.server for d in instance.dnns for b in d.blocks}
        self.block = {b.id: b for d in instance.dnns for b in d.blocks}
        self.dnn = {d.id: d for d in instance.dnns}
        self.servers = {s.id: s for s in instance.servers}
        self.place_of = {server.id: server.place for server in instance.servers}
        """Between which links lead, by server."""
        self.links = {(link.source, link.target): link for link in instance.links}
        kinds = (*resources.KINDS, VISITS) if options.visits else resources.KINDS
        self.resources: tuple[Resource, ...] = tuple(list_resources(instance, kinds))
        previous = options.previous
        if previous is not None and previous.is_limiting and previous.max_changes:
            self.resources += (Resource(PATH_CHANGES, previous),)
        self.is_rate_resource = np.array([r.is_rate for r in self.resources], dtype=bool)
        """Which resources are paid per inference (servers, links; not memory, not visits)."""
        self.server_time: dict[str, int] = {}
        """Index of the time of every server among the resources."""
        self.devices = {s.id: s.usable_devices for s in instance.servers}
        """Device seconds per second that can be sold: a use of server time times this is tau, the
        device time per inference [s]."""
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
        previous = self.options.previous
        if previous is not None and previous.is_limiting:
            outgoing = self._with_previous(task, outgoing, previous)
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
        number of DNNs hosted there) and of a link that inputs cross (by the number of DNNs whose
        native paths cross it), then of the DNN and of links among those that the DNN
        serves, which are single tasks and input groups. Limits of percentiles do not count
        (:mod:`code_opt.paths.standalone`). Tasks of a group that the same
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
                rate = min(rate, 1.0 / self.sharers(dnn, number) / total)
        return float(rate)

    def sharers(self, dnn: str, resource: int) -> int:
        """Return among how many users of all DNNs a resource is divided without coordination.

        Args:
            dnn: whose users these are; those of every DNN have an equal share.
            resource: a server's time or a link.
        """
        server = self.resources[resource].server
        dnns = self._dnns_across[resource] if server is None else self._dnns_on[server]
        return self._users_of[dnn] * max(1, dnns)

    @cached_property
    def _dnns_across(self) -> Counter[int]:
        """Number of DNNs whose native paths cross a link, of links that native inputs cross."""
        dnns: dict[int, set[str]] = {}
        crossed: set[int] = set()
        for task in self.instance.tasks:
            is_input = task.sends_inputs
            for arc in self._native_walk(task) or ():
                links = {i for i, amount in arc.use if amount > 0.0 and self._is_link(i)}
                for link in links:
                    dnns.setdefault(link, set()).add(task.dnn)
                if is_input:
                    crossed |= links
                is_input = is_input and arc.block is None
        return Counter({link: len(dnns[link]) for link in crossed})

    def _is_link(self, resource: int) -> bool:
        return self.resources[resource].server is None

    def _native_walk(self, task: Task) -> list[Arc] | None:
        """Return the arcs of the native path, or None where it lacks a link."""
        blocks = [b.id for b in self.dnn[task.dnn].blocks]
        ends = [*blocks, OUTPUT]
        changed = {(c.source, c.target): c for c in task.connections}
        walk = self._entry(task, blocks[0], changed.get((INPUT, blocks[0])))
        arcs = [
            self._arc(tail, head, changed.get((tail, head)))
            for tail, head in zip(ends[:-1], ends[1:], strict=True)
        ]
        found = [arc for arc in arcs if arc is not None]
        return None if None in arcs or not walk else [*walk, *found]

    def _outgoing(self, task: Task) -> dict[str, list[Arc]]:
        """Return the usable arcs by tail, restricted to nodes between input and output."""
        blocks = self.dnn[task.dnn].blocks
        ends: dict[str, dict[str, Connection | None]] = {}
        for connection in () if self.options.measured_only else task.connections:
            ends.setdefault(connection.source, {})[connection.target] = connection
        ends.setdefault(INPUT, {})
        if not self.options.measured_only or self._is_native_known(task):
            ends[INPUT].setdefault(blocks[0].id, None)
        ends.setdefault(blocks[-1].id, {}).setdefault(OUTPUT, None)

        begun: dict[str, dict[str, Arc]] = {INPUT: {}}
        for head, entry in ends.pop(INPUT).items():
            for arc in self._entry(task, head, entry):
                begun.setdefault(arc.tail, {})[arc.head] = arc
        for chain in self._chains(task):
            for arc in chain:
                begun.setdefault(arc.tail, {})[arc.head] = arc
        outgoing: dict[str, list[Arc]] = {}
        entering: dict[str, list[str]] = {}
        frontier = [INPUT]
        while frontier:
            node = frontier.pop()
            if node in outgoing:
                continue
            if node in begun:
                arcs = list(begun[node].values())
            else:
                targets = ends.get(node, {})
                follower = self._next.get(node)
                if follower is not None and follower not in targets:
                    targets = {**targets, follower: None}
                found = (self._arc(node, head, c) for head, c in targets.items())
                arcs = [arc for arc in found if arc is not None]
            for arc in arcs:
                entering.setdefault(arc.head, []).append(node)
                frontier.append(arc.head)
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

    def _with_previous(
        self, task: Task, outgoing: dict[str, list[Arc]], previous: Previous
    ) -> dict[str, list[Arc]]:
        """Return the arcs by tail where the task has a previous path that it may leave.

        All ways to the output but those of the previous path lead over one more arc, which uses
        one of the changes. It is the task's own, so tasks of an input group do not share it.
        """
        blocks = previous.paths.get(task.id)
        if blocks is None:
            return outgoing
        kept = list(self._previous_chains(task, blocks, previous))
        keys = {chain[-1].chain for chain in kept}
        if previous.max_changes:
            outgoing = {
                node: [
                    arc._replace(head=CHANGED, stands_for=arc.ends)
                    if arc.head == OUTPUT and (arc.chain is None or arc.chain not in keys)
                    else arc
                    for arc in arcs
                ]
                for node, arcs in outgoing.items()
            }
            if any(arc.head == CHANGED for arcs in outgoing.values() for arc in arcs):
                use = ((len(self.resources) - 1, 1.0 / previous.max_changes),)
                last = Arc(CHANGED, OUTPUT, 0.0, 0.0, use, (), False, None)
                outgoing[CHANGED] = [last]
        else:
            outgoing = {}
        for chain in kept:
            for arc in chain:
                arcs = outgoing.setdefault(arc.tail, [])
                if all(arc.head != other.head for other in arcs):
                    arcs.append(arc)
        return outgoing

    def _previous_chains(
        self, task: Task, blocks: tuple[str, ...], previous: Previous
    ) -> Iterator[list[Arc]]:
        """Yield the arcs of each indivisible path of a task that is its previous one."""
        for chain in self._chains(task):
            if chain and tuple(arc.block for arc in chain if arc.block is not None) == blocks:
                yield chain
        # Where only known accuracies count, other paths than the native one have a chain.
        native = tuple(block.id for block in self.dnn[task.dnn].blocks)
        if not self.options.measured_only or (blocks == native and self._is_native_known(task)):
            connections = previous.connections(task.id)
            chain = self._chain(task, ("previous", task.id), blocks, connections, None)
            if chain and self._is_walk(task, blocks, connections):
                yield chain

    def _is_walk(
        self, task: Task, blocks: tuple[str, ...], connections: Mapping[Ends, Connection]
    ) -> bool:
        """Tell whether each step of a path is of its own trunk's, a trunk's, or a connection."""
        own = self.dnn[task.dnn].blocks
        ends = {(INPUT, own[0].id), (own[-1].id, OUTPUT)}
        return all(
            step in connections or step in ends or self._next.get(step[0]) == step[1]
            for step in pairwise((INPUT, *blocks, OUTPUT))
        )

    def _entry(self, task: Task, head: str, connection: Connection | None) -> list[Arc]:
        """Return the arcs by which a task's input enters a block; none where a hop lacks a link.

        For a task of an input group, sending the input to another server is an arc of its own.
        """
        if not task.sends_inputs:
            arc = self._arc(INPUT, head, connection)
            return [] if arc is None else [arc]
        start = task.origin or self.dnn[task.dnn].server
        size = task.input_bytes
        if connection is not None and connection.bytes is not None:
            size = connection.bytes
        place = (connection and connection.server) or self.server_of[head]
        sent, tail = [], INPUT
        is_away = self.place_of[place] != self.place_of[start]
        if task.input_group is not None and self.links and is_away:
            # No id holds a ">", so no block has this name; the same for all tasks of the group.
            tail = f"{INPUT} {size!r} {self.place_of[start]} > {self.place_of[place]}"
            sent, start = self._sent(tail, start, place, size, task.origin is not None), place
            if not sent:
                return []
        arc = self._arc(tail, head, connection, _Sent(start, size, None if sent else task.origin))
        return [] if arc is None else [*sent, arc]

    def _is_native_known(self, task: Task) -> bool:
        """Tell whether the native path has the task's own accuracy: nothing on it is changed.

        Where it is measured, it is one of the measured paths.
        """
        blocks = tuple(block.id for block in self.dnn[task.dnn].blocks)
        steps = set(pairwise((INPUT, *blocks, OUTPUT)))
        is_changed = any((c.source, c.target) in steps for c in task.connections)
        return not is_changed and all(path.blocks != blocks for path in task.measured_paths)

    def _chains(self, task: Task) -> Iterator[list[Arc]]:
        """Yield the arcs of each indivisible path of a task; nothing where it lacks a link."""
        for alternative in task.alternatives:
            blocks = [block.id for block in self.dnn[alternative.dnn].blocks]
            key: ChainKey = ("alternative", alternative.dnn)
            yield self._chain(task, key, blocks, {}, alternative.accuracy)
        connections = {(c.source, c.target): c for c in task.connections}
        for number, path in enumerate(task.measured_paths if self.options.measured_only else ()):
            if self._is_walk(task, path.blocks, connections):
                key = ("measured", str(number))
                yield self._chain(task, key, path.blocks, connections, path.accuracy)

    def _chain(
        self,
        task: Task,
        key: ChainKey,
        blocks: Sequence[str],
        connections: Mapping[Ends, Connection],
        accuracy: float | None,
    ) -> list[Arc]:
        """Return the arcs of an indivisible path; none where it lacks a link.

        Its accuracy is predicted by the drops of its connections where it is None.
        """
        entry = self._entry(task, blocks[0], connections.get((INPUT, blocks[0])))
        ends = pairwise((*blocks, OUTPUT))
        walk = [self._arc(*pair, connections.get(pair)) for pair in ends]
        if not entry or None in walk:
            return []
        chain = [entry[-1], *(arc for arc in walk if arc is not None)]
        # No id holds a ">", so no block has these names.
        nodes = [entry[-1].tail, *(f"{' '.join(key)} > {block}" for block in blocks), OUTPUT]
        drops = [arc.drop for arc in chain]
        if accuracy is not None:
            drops = [task.accuracy - accuracy, *(0.0 for _ in blocks)]
        return [
            *entry[:-1],
            *(
                arc._replace(tail=tail, head=head, drop=drop, chain=key, stands_for=arc.ends)
                for arc, drop, (tail, head) in zip(chain, drops, pairwise(nodes), strict=True)
            ),
        ]

    def _sent(
        self, node: str, start: str, stop: str, size: float, is_only_place: bool
    ) -> list[Arc]:
        """Return the arc by which an input reaches another server, if there is such a link."""
        ends = self.place_of[start], self.place_of[stop]
        link = self.links.get(ends)
        if link is None:
            return []
        use: list[tuple[int, float]] = []
        if is_only_place:
            self._arrive(use, start)
        seconds = self._transfer(use, link, size)
        hops = ((*ends, size),)
        return [Arc(INPUT, node, 0.0, seconds, tuple(use), hops, False, IDENTITY)]

    def _arc(
        self, tail: str, head: str, connection: Connection | None, sent: _Sent | None = None
    ) -> Arc | None:
        """Return one arc with its costs, or None where a hop lacks a link.

        Args:
            tail: where it begins.
            head: a block or the output.
            connection: the one with these ends; None for a native arc.
            sent: from where the input is sent, for an entry of a task that sends its inputs.
        """
        if connection is None and sent is None:
            return self._native_arc(tail, head)
        is_entry = tail == INPUT or sent is not None
        use: list[tuple[int, float]] = []
        hops: list[tuple[str, str, float]] = []
        seconds = 0.0
        place = (connection and connection.server) or self.server_of[head if is_entry else tail]
        if connection is not None:
            if self._is_without_device(self.servers[place], connection):
                return None
            seconds += self._adapt(use, place, connection)
        if self.links:
            stops = [place]
            if not is_entry:
                stops.insert(0, self.server_of[tail])
            elif sent is not None:
                stops.insert(0, sent.start)
            if head != OUTPUT:
                stops.append(self.server_of[head])
            size = None if connection is None else connection.bytes
            if sent is not None:
                size = sent.size
            elif size is None:
                size = 0.0 if is_entry else self.block[tail].output_bytes
            for hop in pairwise(self.place_of[stop] for stop in stops):
                if hop[0] == hop[1]:
                    continue
                link = self.links.get(hop)
                if link is None:
                    return None
                seconds += self._transfer(use, link, size)
                hops.append((*hop, size))
        if sent is not None and sent.origin:
            self._arrive(use, sent.origin)
        if head != OUTPUT:
            if self._is_without_device(self.servers[self.server_of[head]], self.block[head]):
                return None
            seconds += self._run(use, head)
        return Arc(
            tail=tail,
            head=head,
            drop=0.0 if connection is None else connection.drop,
            seconds=seconds,
            use=tuple(use),
            hops=tuple(hops),
            is_connection=connection is not None,
            share=IDENTITY if connection is None else connection.share,
            block=None if head == OUTPUT else head,
        )

    @staticmethod
    def _is_without_device(server: Server, work: Block | Connection) -> bool:
        """Tell whether work cannot run, since its server has no device at all."""
        return server.devices == 0.0 and server.device_time(work) > 0.0

    def _native_arc(self, tail: str, head: str) -> Arc | None:
        """Return an arc of a trunk, or from input or to output; it is the same for all tasks."""
        arc = self._native_arcs.get((tail, head))
        if arc is None:
            use: list[tuple[int, float]] = []
            seconds = 0.0
            if head != OUTPUT:
                if self._is_without_device(self.servers[self.server_of[head]], self.block[head]):
                    return None
                seconds = self._run(use, head)
            block = None if head == OUTPUT else head
            arc = self._native_arcs[tail, head] = Arc(
                tail, head, 0.0, seconds, tuple(use), (), False, IDENTITY, block
            )
        return arc

    def _adapt(self, use: list[tuple[int, float]], place: str, connection: Connection) -> float:
        """Add what an adapter uses; return its unloaded time [s]."""
        server = self.servers[place]
        for resource, kind in self._budgets_of[place]:
            amount = kind.of_adapter(server, connection)
            if amount is not None:
                use.append((resource, amount))
        return server.batch_time(connection)

    def _arrive(self, use: list[tuple[int, float]], place: str) -> None:
        """Add what the arrival of an input at a server uses."""
        server = self.servers[place]
        for resource, kind in self._budgets_of[place]:
            amount = kind.of_arrival(server)
            if amount is not None:
                use.append((resource, amount))

    def _run(self, use: list[tuple[int, float]], name: str) -> float:
        """Add what a block uses; return its unloaded time [s]."""
        block, server = self.block[name], self.servers[self.server_of[name]]
        for resource, kind in self._budgets_of[server.id]:
            amount = kind.of_block(server, block)
            if amount is not None:
                use.append((resource, amount))
        return server.batch_time(block)

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
