"""Independent check of a result: everything in it is recomputed from the instance alone.

Nothing here is shared with the formulations, the path search or the solvers: the task
graph, the figures of a path, the standalone rates and the reward are written down a second
time, straight from the specification, so that a mistake there does not confirm itself.

Every rule looks at one thing. A reported figure is compared with its recomputed value, and
a requirement is judged on recomputed values only, so that a wrong report and a broken
requirement are told apart. What cannot be recomputed, because a path is not a path of the
task graph for example, is left out rather than reported a second time.

Comparisons are relative (:data:`code_opt.result.TOLERANCE`): ``a`` equals ``b`` within
``tolerance * max(|a|, |b|)`` and is at most ``b`` within ``tolerance * |b|``. A limit of 0
is therefore exact. The places that state another tolerance:

- a predicted accuracy may also differ by ``ROUNDING`` times the sum of the sizes of its
  terms, since differences of near numbers lose digits, and counts as negative below
  ``-tolerance`` times that sum;
- a gap may also differ by ``GAP_ROUNDING``.

No comparison is passed by an infinite or undefined number.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from code_opt.instance.digest import changed_parts
from code_opt.instance.model import (
    BYTES_PER_PARAMETER,
    IDENTITY,
    INPUT,
    OUTPUT,
    Alternative,
    Block,
    Connection,
    Exponential,
    GivenPath,
    Instance,
    Logistic,
    Power,
    Task,
)
from code_opt.promise_checker import Call, Place, PlaceOfWork, Recomputed, Stay, Walk, recompute
from code_opt.result import TOLERANCE, Result, ServerResult, TaskResult

__all__ = [
    "CHANGED",
    "RULES",
    "Violation",
    "check",
]

ROUNDING = 1e-12
"""Rounding allowed in a predicted accuracy, relative to the sum of the sizes of its terms."""
_PREDICTED = ("predicted", "guessed")
"""Sources of accuracies that nobody measured or gave."""
GAP_ROUNDING = 1e-9
"""Rounding allowed in a gap, absolute: ``bound / value - 1`` loses digits."""
DEFAULT_GAP = 1e-4
"""Gap of an optimal result that does not say which one was asked for."""

RULES: dict[str, str] = {
    "finite": "every number is finite",
    "instance-name": "the result is for this instance",
    "instance-changed": "the instance is what it was when the result was found",
    "seconds": "the time is not negative",
    "no-assignment": "an infeasible or unknown result holds no assignment and no figures",
    "assignment": "an optimal or feasible result holds an assignment",
    "tasks": "every task is listed exactly once, and no other",
    "path-blocks": "a path has at least one block, and all its blocks exist",
    "path-start": "a path starts at its own DNN's first block or with an entry of its task",
    "path-step": "each step of a path is a trunk arc or a connection of its task",
    "path-end": "a path ends at its own DNN's last block or with an exit of its task",
    "path-links": "every transfer of a path has its link, where the instance lists links",
    "path-devices": "a server on which a path has work has devices",
    "path-accuracy": "a path without a measured accuracy is not predicted below 0",
    "task-accuracy": "a task's accuracy is that of its path: measured, given, or else predicted",
    "accuracy-source": "a task's accuracy is called measured, given or predicted as it is",
    "accuracy-interval": "an interval is Wilson's 95 % one of what the samples tell, else null",
    "measured-only": "no accuracy is predicted, where only known ones were asked for",
    "min-accuracy": "a task's accuracy is at least its min_accuracy",
    "latency": "a task's latency is that of its path on unloaded servers and links",
    "max-latency": "a task's latency is at most its max_latency",
    "percentile": "a task's percentile is its own, or where it has a limit the one asked for",
    "promise": "a promised time follows from rates, order of work and wait scales",
    "own-work": "a task's share of work on its own server is that of its path, null without work",
    "promise-basis": "a promise is a theorem where all waits are of first visits, else a model",
    "mean-latency": "a mean time is that of Pollaczek and Khinchine where all waits are known",
    "promised-limit": "a promised time is at most the task's max_latency",
    "wait-scale": "a wait scale is the least that the rates allow, null where there is none",
    "rate": "a task's rate is not negative",
    "floor": "a task's rate is at least its floor, a number or its (group's) standalone rate",
    "demand": "a task's rate is at most its demand",
    "asked-demand": "a rate is the (least) demand of the task (or its group), if latency is asked",
    "group-rate": "the tasks of an input group have the same rate",
    "servers": "every server is listed exactly once, and no other",
    "server-busy": "a server's busy devices are rate times device time over the tasks, shared once",
    "server-load": "a server's load is its busy devices in FLOP/s, null where it has none",
    "server-devices": "a server's devices are those of the instance",
    "server-capacity": "a server's capacity is its FLOP/s in the instance, null where it has none",
    "server-utilization": "a server's utilization is its busy devices over its devices",
    "server-overload": "a server's busy devices are at most the share of its devices that is sold",
    "changes": "a task's change is what became of its previous path, and they are counted",
    "max-changes": "at most max_changes tasks leave a previous path that they could keep",
    "adapters": "the adapters to load and to drop are those in which old and new paths differ",
    "memory": "the adapters placed on a server, shared ones once, fit its memory",
    "links": "every link is listed exactly once, and no other",
    "link-load": "a link's load is the sum of rate times bytes over the tasks, shared once",
    "link-capacity": "a link's capacity is its bandwidth, null where it is unlimited",
    "link-utilization": "a link's utilization is load over bandwidth, null where it is unlimited",
    "link-overload": "a link's load is at most its bandwidth",
    "throughput": "the throughput is the sum of the rates",
    "average-accuracy": "the accuracy is the weighted average over the tasks",
    "average-latency": "the latency is the weighted mean of promised, else unloaded times",
    "all-own-work": "the share of all work on own servers is that of the paths at their rates",
    "reward": "the reward is xi(average accuracy) * zeta(throughput)",
    "winners-curse": "corrected figures are accuracy less its excess, and the reward at that",
    "asked-utilization": "the share of their time that servers sell is above 0 and at most 1",
    "asked-accuracy": "the average accuracy is at least the floor asked for",
    "asked-throughput": "the throughput is at least the floor asked for",
    "bound-and-gap": "bound and gap are both given or both null (value 0 has no gap to a bound)",
    "bound": "the bound is at least the value of the objective, of a latency at most",
    "root-bound": "what duals and cuts prove is no tighter than the bound, and never without one",
    "gap": "the gap is bound / value - 1, of a latency 1 - bound / value, never negative",
    "optimal-bound": "an optimal result proves it with a bound",
    "optimal-gap": "an optimal result's gap is within the one asked for",
}
"""Every rule of the checker with its meaning."""

CHANGED = "instance-changed"
"""The rule that an edited instance breaks. Everything that is recomputed is so from the instance
as it is now; a bound, and what follows from it, cannot be."""
_FIGURES = ("reward", "bound", "gap", "root_bound", "throughput", "accuracy", "latency", "own_work")


@dataclass(frozen=True)
class Violation:
    """One requirement that a result does not meet."""

    rule: str
    """One of :data:`RULES`."""
    place: str
    """Where in the result, such as ``tasks[0].rate``."""
    message: str
    """What was found and what would be right."""

    def __str__(self) -> str:
        return f"{self.place}: {self.message} ({self.rule})"


def check(
    result: Result,
    instance: Instance,
    tolerance: float = TOLERANCE,
    *,
    present: Instance | None = None,
) -> list[Violation]:
    """Recompute a result from its instance and name every requirement that does not hold.

    Args:
        result: what a method found.
        instance: the problem; its cross-references must be right (``load_instance`` sees to it).
        tolerance: relative tolerance of the comparisons.
        present: the instance before capacity was added to it, if that is so: what is added stands
            beside what was there, so latencies are those of the instance before.

    Returns:
        The violations in the order of the result's fields; an empty list confirms the result.
    """
    return list(_Check(result, instance, tolerance, present).violations())


# ---- comparisons: false for infinite and undefined numbers ---------------------------------


def _close(a: float, b: float, tolerance: float, slack: float = 0.0) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return False
    return abs(a - b) <= tolerance * max(abs(a), abs(b)) + slack


def _at_most(a: float, b: float, tolerance: float) -> bool:
    return math.isfinite(a) and math.isfinite(b) and a <= b + tolerance * abs(b)


def _at_least(a: float, b: float, tolerance: float) -> bool:
    return math.isfinite(a) and math.isfinite(b) and a >= b - tolerance * abs(b)


# ---- what the instance says about one path -------------------------------------------------


@dataclass
class Figures:
    """Figures of one inference along one path, or of one step of it."""

    latency: float = 0.0
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Device seconds on each server."""
    memory: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    traffic: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    missing: list[tuple[str, str]] = field(default_factory=list)
    """Transfers between servers without a listed link."""
    stays: list[Stay] = field(default_factory=list)
    """Servers, and links with a bandwidth, in the order of the work there."""
    deviceless: list[str] = field(default_factory=list)
    """Servers without a device that have work to do."""

    def add(self, other: Figures) -> None:
        self.latency += other.latency
        for server, time in other.busy.items():
            self.busy[server] += time
        for server, size in other.memory.items():
            self.memory[server] += size
        for ends, size in other.traffic.items():
            self.traffic[ends] += size
        self.missing += other.missing
        self.stays += other.stays
        self.deviceless += other.deviceless


@dataclass(frozen=True)
class _Accuracy:
    value: float
    source: str
    slack: float
    """Absolute rounding of ``value``."""
    admissible: bool


_NativeWaits = tuple[
    dict[Place, float],
    dict[tuple[str, str], list[tuple[Call, set[str]]]],
    set[tuple[str, str]],
]
"""Scales of places [s]; calls of groups, with the DNNs behind each; groups whose limits cannot be
kept."""


class InstanceIndex:
    """The instance, indexed: blocks, capacities, links and each task's connections.

    The checker of plans reads instances by it, too.
    """

    def __init__(self, instance: Instance, present: Instance | None = None) -> None:
        """Index an instance; ``present`` is what it was before capacity was added."""
        self.instance = instance
        present = present or instance
        self._pace = {server.id: server for server in present.servers}
        self._width = {(link.source, link.target): link.bandwidth for link in present.links}
        self.servers = {server.id: server for server in instance.servers}
        self.place_of = {s.id: s.id if s.site is None else s.site for s in instance.servers}
        """Between which links lead, by server."""
        self.links = {(link.source, link.target): link for link in instance.links}
        self.dnns = {dnn.id: dnn for dnn in instance.dnns}
        self.tasks = {task.id: task for task in instance.tasks}
        self.blocks = {block.id: block for dnn in instance.dnns for block in dnn.blocks}
        self.host = {block.id: dnn.server for dnn in instance.dnns for block in dnn.blocks}
        self.trunk_arcs = {
            (here.id, there.id)
            for dnn in instance.dnns
            for here, there in zip(dnn.blocks, dnn.blocks[1:], strict=False)
        }
        self.hosted = Counter(dnn.server for dnn in instance.dnns)
        # An input group is one user of a DNN, however many of its tasks the DNN serves.
        self.users = Counter(dnn for dnn, _ in {(t.dnn, self.group(t)) for t in instance.tasks})
        self._is_in_flops = all(server.flops is not None for server in present.servers)
        self._limits: dict[float | None, bool] = {}
        """Whether limits hold under load, by the percentile asked for."""
        self._natives: dict[float | None, _NativeWaits] = {}
        self._connections: dict[str, dict[tuple[str, str], Connection]] = {}
        self._members: dict[tuple[str, str], list[Task]] = defaultdict(list)
        for task in instance.tasks:
            self._members[self.group(task)].append(task)

    @staticmethod
    def group(task: Task) -> tuple[str, str]:
        """Return what the tasks with one rate have in common."""
        return ("task", task.id) if task.input_group is None else ("group", task.input_group)

    def members(self, task: Task) -> list[Task]:
        """Return the tasks that have one rate with a task, itself among them."""
        return self._members[self.group(task)]

    def connections(self, task: Task) -> dict[tuple[str, str], Connection]:
        """Return the connections of a task by their ends."""
        if task.id not in self._connections:
            self._connections[task.id] = {(c.source, c.target): c for c in task.connections}
        return self._connections[task.id]

    def native_blocks(self, task: Task) -> tuple[str, ...]:
        """Return the blocks of a task's own DNN, in order."""
        return tuple(block.id for block in self.dnns[task.dnn].blocks)

    def alternative(self, task: Task, path: Sequence[str]) -> Alternative | None:
        """Return the alternative whose whole DNN a path is, None where it is none.

        Where connections of the task lead along the same blocks, only a
        :class:`code_opt.instance.model.GivenPath` is the alternative.
        """
        for one in task.alternatives:
            blocks = tuple(block.id for block in self.dnns[one.dnn].blocks)
            if blocks == tuple(path) and (
                isinstance(path, GivenPath) or any(self._faults(task, path))
            ):
                return one
        return None

    def work(self, task: Task, figures: Figures) -> tuple[float, float]:
        """Work of a path on the server of the task's own DNN, and all of it.

        In FLOP where all servers have FLOP/s, else in device seconds.
        """
        done = dict(figures.busy)
        if self._is_in_flops:
            for name, server in self._pace.items():
                if name in done and server.flops is not None and server.devices > 0.0:
                    done[name] *= server.flops / server.devices
        return done.get(self.dnns[task.dnn].server, 0.0), sum(done.values())

    def path_faults(self, task: Task, path: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield (rule, message) for everything that keeps ``path`` from being one of the task."""
        if self.alternative(task, path) is None:
            yield from self._faults(task, path)

    def _faults(self, task: Task, path: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield (rule, message) for everything that keeps ``path`` out of the task's graph."""
        if not path:
            yield "path-blocks", "the path is empty, expected at least one block"
            return
        unknown = [block for block in path if block not in self.blocks]
        if unknown:
            yield "path-blocks", f"no such block: {', '.join(map(repr, unknown))}"
            return
        connections = self.connections(task)
        native = self.native_blocks(task)
        if path[0] != native[0] and (INPUT, path[0]) not in connections:
            yield "path-start", f"{path[0]!r} is neither {native[0]!r} nor an entry of the task"
        for step in zip(path, path[1:], strict=False):
            if step not in self.trunk_arcs and step not in connections:
                yield "path-step", f"no arc {step[0]!r} -> {step[1]!r} for this task"
        if path[-1] != native[-1] and (path[-1], OUTPUT) not in connections:
            yield "path-end", f"{path[-1]!r} is neither {native[-1]!r} nor has an exit of the task"

    def used(self, task: Task, path: Sequence[str]) -> list[Connection]:
        """Connections on a path; one with the ends of a native arc replaces that arc."""
        if self.alternative(task, path) is not None:
            return []
        connections = self.connections(task)
        chain = [INPUT, *path, OUTPUT]
        steps = zip(chain, chain[1:], strict=False)
        return [connections[step] for step in steps if step in connections]

    def figures(self, task: Task, path: Sequence[str]) -> Figures:
        """Device time [s], memory [bytes], traffic [bytes] and unloaded latency [s] of a path."""
        total = Figures()
        for _, step in self.steps(task, path):
            total.add(step)
        return total

    def steps(self, task: Task, path: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Figures]]:
        """Yield each step of a path: from which on it is the same as which others, its figures.

        A step is the way into a block (or to the output), with its adapter, and the block; before
        it comes the way of an input to the server of the first one, if it is sent there. Two
        steps of tasks of an input group are the same if they and all steps before them have the
        same names: ends and adapter, or the task where the adapter is the task's own; of an input
        its size and the servers. A trunk arc stays on one server; so only connections and inputs
        can cross links.
        """
        is_alternative = self.alternative(task, path) is not None
        connections = {} if is_alternative else self.connections(task)
        prefix: tuple[str, ...] = ()
        chain = [INPUT, *path, OUTPUT]
        sent = self.sent(task, path[0], connections.get((INPUT, path[0])))
        if sent is not None:
            prefix = sent[0]
            yield sent
        for source, target in zip(chain, chain[1:], strict=False):
            connection = connections.get((source, target))
            adapter = IDENTITY if connection is None else connection.share
            own = f"of {task.id}" if adapter is None else f"shared {adapter}"
            prefix = (*prefix, source, target, own)
            yield prefix, self.step(task, target, connection)

    def sent(
        self, task: Task, first: str, entry: Connection | None
    ) -> tuple[tuple[str, ...], Figures] | None:
        """Return the way of an input to the server that takes it, None where it is not sent.

        Args:
            task: whose input.
            first: id of the first block.
            entry: connection by which it enters, None for the native way in.
        """
        origin = self.origin(task)
        if origin is None:
            return None
        to = self.host[first] if entry is None else self.place(entry)
        ends = self.place_of[origin], self.place_of[to]
        if ends[0] == ends[1]:
            return None
        size = self._size(task, entry)
        figures = Figures()
        self._transfer(figures, origin, to, size)
        return (repr(size), *ends), figures

    def step(self, task: Task, target: str, connection: Connection | None) -> Figures:
        """Return the figures of the way into a block (or to the output), and of the block.

        Args:
            task: whose path.
            target: id of the block entered, or ``output``.
            connection: that leads there, None for a native arc.
        """
        figures = Figures()
        if connection is not None:
            self._adapt(task, figures, connection)
        if target != OUTPUT:
            self._run(figures, self.host[target], self.blocks[target])
        return figures

    @staticmethod
    def is_sent(task: Task) -> bool:
        """Whether inputs of a task are sent from a server; else they are everywhere at once."""
        return task.origin is not None or task.input_bytes > 0

    def origin(self, task: Task) -> str | None:
        """Return the server from which inputs of a task are sent, None where they are not."""
        if not self.is_sent(task):
            return None
        return self.dnns[task.dnn].server if task.origin is None else task.origin

    def place(self, connection: Connection) -> str:
        """Return the server of an adapter: its own, else where its source is (or it enters)."""
        if connection.server is not None:
            return connection.server
        return self.host[connection.target if connection.source == INPUT else connection.source]

    def _size(self, task: Task, connection: Connection | None) -> float:
        """Return the bytes of a connection, or of the native entry (None)."""
        if connection is not None and connection.bytes is not None:
            return connection.bytes
        if connection is None or connection.source == INPUT:
            return task.input_bytes
        return self.blocks[connection.source].output_bytes

    def _adapt(self, task: Task, figures: Figures, connection: Connection) -> None:
        """Add the adapter of a connection and what it receives from a block and hands on."""
        adapter, size = self.place(connection), self._size(task, connection)
        if connection.source != INPUT:
            self._transfer(figures, self.host[connection.source], adapter, size)
        self._run(figures, adapter, connection)
        figures.memory[adapter] += BYTES_PER_PARAMETER * connection.params
        if connection.target != OUTPUT:
            self._transfer(figures, adapter, self.host[connection.target], size)

    def _run(self, figures: Figures, name: str, work: Block | Connection) -> None:
        """Add a block or an adapter: one of a batch, whose whole time the inference waits for."""
        server = self._pace[name]
        size = int(server.batch)
        if work.seconds is not None:
            whole = work.seconds[str(size)]
            part = whole / size
        elif server.flops is None or work.flops == 0.0:
            whole = part = 0.0
        else:
            whole = part = work.flops * server.devices / server.flops
        figures.busy[name] += part
        if part > 0.0 and self.servers[name].devices == 0.0:
            figures.deviceless.append(name)
        # Less than one device is one slower device.
        speed = min(1.0, server.devices) if server.devices > 0.0 else 1.0
        figures.stays.append((("server", name), part / speed, whole / speed))
        figures.latency += whole / speed

    def _transfer(self, figures: Figures, source: str, target: str, size: float) -> None:
        source, target = self.place_of[source], self.place_of[target]
        if source == target or not self.links:
            return
        link = self.links.get((source, target))
        if link is None:
            figures.missing.append((source, target))
            return
        figures.traffic[source, target] += size
        figures.latency += link.latency
        width = self._width[source, target]
        if width is not None:
            figures.latency += size / width
            figures.stays.append((("link", source, target), size / width, size / width))

    @cached_property
    def services(self) -> dict[Place, PlaceOfWork]:
        """How servers, and links with a bandwidth, serve."""
        found: dict[Place, PlaceOfWork] = {
            ("server", s.id): PlaceOfWork(max(1.0, s.devices), int(s.batch), s.max_batch_delay)
            for s in self.instance.servers
        }
        # What is added to a link stands beside what is there, as devices of a server do.
        return found | {
            ("link", *ends): PlaceOfWork(link.bandwidth / (self._width[ends] or link.bandwidth))
            for ends, link in self.links.items()
            if link.bandwidth is not None
        }

    def accuracy(self, task: Task, path: Sequence[str], tolerance: float) -> _Accuracy:
        """Return the accuracy of a path, where it is from, and whether it is admissible."""
        alternative = self.alternative(task, path)
        if alternative is not None:
            return _Accuracy(alternative.accuracy, "given", 0.0, True)
        for measured in task.measured_paths:
            if measured.blocks == tuple(path):
                return _Accuracy(measured.accuracy, "measured", 0.0, True)
        used = self.used(task, path)
        drops = [connection.drop for connection in used]
        if not drops:
            return _Accuracy(task.accuracy, "given", 0.0, True)
        predicted = task.accuracy - sum(drops)
        size = task.accuracy + sum(map(abs, drops))
        return _Accuracy(
            value=min(1.0, max(0.0, predicted)),
            source="guessed" if any(c.drop_low is not None for c in used) else "predicted",
            slack=ROUNDING * size,
            admissible=math.isfinite(size) and predicted >= -tolerance * size,
        )

    def samples(self, task: Task, path: Sequence[str]) -> float | None:
        """Return the images that the accuracy of a path was measured on, None where unknown."""
        alternative = self.alternative(task, path)
        if alternative is not None:
            return alternative.samples
        for measured in task.measured_paths:
            if measured.blocks == tuple(path):
                return measured.samples
        return None if self.used(task, path) else task.samples

    def sources(self, task: Task, path: Sequence[str], source: str) -> tuple[str, ...]:
        """Return what the accuracy of a path may be called; the first is right.

        Older versions called that of a native path predicted, from no drops at all.
        """
        is_native = source == "given" and self.alternative(task, path) is None
        return (source, "predicted") if is_native else (source,)

    def sold(self, name: str, asked: float | None) -> float:
        """Device seconds per second of a server that can be sold.

        Args:
            name: of the server.
            asked: share that is sold where the server says nothing; None for all.
        """
        server = self.servers[name]
        share = server.max_utilization if server.max_utilization is not None else asked
        return server.devices * (1.0 if share is None else share)

    def standalone(
        self, task: Task, asked: float | None = None, percentile: float | None = None
    ) -> float:
        """Rate of a task, or of its input group, without coordination [inferences/s].

        Args:
            task: one of the group.
            asked: share of their time that servers sell where they say nothing; None for all.
            percentile: at which limits hold where a task says nothing; None for unloaded times.

        The native paths with an equal share of everything: of a server among the DNNs that
        it hosts, of a link that native inputs cross among the DNNs whose native paths cross it,
        of a DNN's share and of a link among the DNN's users (single tasks and
        groups). What native paths of a group have in common is computed once. Native
        paths whose transfers have no link run at rate 0.
        """
        members = self._members[self.group(task)]
        rates = [t.demand for t in members if t.demand is not None]
        for dnn in {t.dnn for t in members}:
            together: dict[tuple[str, ...], Figures] = {}
            for member in members:
                if member.dnn == dnn:
                    together.update(self.steps(member, self.native_blocks(member)))
            figures = Figures()
            for step in together.values():
                figures.add(step)
            if figures.missing or figures.deviceless:
                return 0.0
            users = self.users[dnn]
            for name, time in figures.busy.items():
                if time > 0:
                    share = self.sold(name, asked) / (max(1, self.hosted[name]) * users)
                    rates.append(share / time)
            for ends, size in figures.traffic.items():
                bandwidth = self.links[ends].bandwidth
                if bandwidth is not None and size > 0:
                    rates.append(bandwidth / (self.crossing[ends] * users) / size)
        return self._under_load(task, min(rates, default=math.inf), percentile)

    def percentile(self, task: Task, asked: float | None) -> float | None:
        """Return the percentile of a task: its own, or where it has a limit the one asked for."""
        if task.latency_percentile is None and task.max_latency is not None:
            return asked
        return task.latency_percentile

    def _has_limits_under_load(self, percentile: float | None) -> bool:
        if percentile not in self._limits:
            limited = (t for t in self.instance.tasks if t.max_latency is not None)
            asked = (self.percentile(t, percentile) for t in limited)
            self._limits[percentile] = any(q is not None for q in asked)
        return self._limits[percentile]

    def _under_load(self, task: Task, rate: float, percentile: float | None) -> float:
        """Return the largest rate up to one at which native paths keep limits of percentiles."""
        if not self._has_limits_under_load(percentile):
            return rate
        if percentile not in self._natives:
            self._natives[percentile] = self._native_waits(percentile)
        scale, calls, hopeless = self._natives[percentile]
        group = self.group(task)
        if group in hopeless:
            return 0.0
        everybody = [call for some in calls.values() for call, _ in some]
        for call, dnns in calls.get(group, []):
            g = scale.get(call.place, math.inf)
            if not math.isfinite(g):
                continue
            here = [other for other in everybody if other.place == call.place]
            pile = max(self._pile(other, scale) for other in here)
            each = math.expm1(min(call.seconds / g, 700.0))
            each *= max(g, 2.0 * pile) if call.before() else g
            kind, *where = call.place
            sharers = self.crossing[where[0], where[1]] if kind == "link" else self.hosted[where[0]]
            share = sum(1.0 / (max(1, sharers) * self.users[dnn]) for dnn in dnns)
            service = self.services[call.place]
            most = service.devices * share / each
            low, high = 0.0, rate
            if service.batches(high) <= most:
                continue
            for _ in range(200):  # batches grow with the rate
                middle = (low + high) / 2.0
                if service.batches(middle) <= most:
                    low = middle
                else:
                    high = middle
            rate = low
        return rate

    def _pile(self, call: Call, scale: dict[Place, float]) -> float:
        """Return how long work for a call can pile up on the way to it [s]."""
        before = call.before()
        if not before:
            return 0.0
        filling = sum(self.services[p].delay for p in before if self.services[p].batch > 1)
        return len(before) * max(scale.get(place, math.inf) for place in before) + filling

    def _native_waits(self, percentile: float | None) -> _NativeWaits:
        """Return what limited native paths leave to the scales of all places."""
        walks: list[Walk] = []
        for group, members in self._members.items():
            figures = [self.figures(t, self.native_blocks(t)) for t in members]
            if any(f.missing or f.deviceless for f in figures):
                continue
            for t, f in zip(members, figures, strict=True):
                steps = [(key, s.stays) for key, s in self.steps(t, self.native_blocks(t))]
                walks.append(Walk(t.id, group, 0.0, f.latency, steps))
        there = recompute(walks, self.services)
        calls: dict[tuple[str, str], list[tuple[Call, set[str]]]] = defaultdict(list)
        scale: dict[Place, float] = {}
        hopeless = set()
        asked: list[tuple[tuple[str, str], float, list[Call]]] = []
        for walk in walks:
            task, on_way = self.tasks[walk.task], there.calls[walk.task]
            group = self.group(task)
            for call in on_way:
                known = [dnns for other, dnns in calls[group] if other is call]
                if known:
                    known[0].add(task.dnn)
                else:
                    calls[group].append((call, {task.dnn}))
            q = self.percentile(task, percentile)
            if q is None or task.max_latency is None:
                continue
            room = task.max_latency - there.unloaded[task.id]
            factors = [there.waits[call.place].factor for call in on_way]
            if room < 0.0 or (on_way and (room == 0.0 or not all(map(math.isfinite, factors)))):
                hopeless.add(group)
            elif on_way:
                odds = (math.log(factor * len(on_way) / (1.0 - q)) for factor in factors)
                asked.append((group, room / sum(odds), on_way))
        for group, g, on_way in asked:
            for call in on_way if group not in hopeless else ():
                scale[call.place] = min(scale.get(call.place, math.inf), g)
        while True:
            more: dict[Place, float] = {}
            for some in calls.values():
                for call, _ in some:
                    for place in call.before():
                        if place not in scale and call.place in scale:
                            more[place] = min(more.get(place, math.inf), scale[call.place])
            if not more:
                return scale, calls, hopeless
            scale |= more

    @cached_property
    def crossing(self) -> dict[tuple[str, str], int]:
        """Number of DNNs that share each link without coordination.

        Where a native path sends its input over a link, these are all whose native paths put
        bytes on it; else a DNN has it to itself.
        """
        dnns: dict[tuple[str, str], set[str]] = defaultdict(set)
        sent = set()
        for task in self.instance.tasks:
            native = self.native_blocks(task)
            steps = [step for _, step in self.steps(task, native)]
            if any(step.missing for step in steps):
                continue
            for number, step in enumerate(steps):
                crossed = {ends for ends, size in step.traffic.items() if size > 0}
                for ends in crossed:
                    dnns[ends].add(task.dnn)
                if self.is_sent(task) and number < len(steps) - len(native):  # up to a block
                    sent |= crossed
        return {ends: len(dnns[ends]) if ends in sent else 1 for ends in self.links}


def _wilson(share: float, samples: float | None) -> tuple[float, float] | None:
    """Return the ends of the 95 % score interval: where the normal test of the share just fails."""
    if samples is None:
        return None
    # Roots p of (share - p)^2 = z^2 p (1 - p) / n.
    z2 = 1.959963984540054**2 / samples
    a, b, c = 1.0 + z2, -(2.0 * share + z2), share * share
    root = math.sqrt(max(b * b - 4.0 * a * c, 0.0))
    return max(0.0, (-b - root) / (2.0 * a)), min(1.0, (-b + root) / (2.0 * a))


def _log_shape(shape: Power | Logistic | Exponential, x: float) -> float:
    """Logarithm of xi or zeta at ``x``; logarithms keep steep rewards from overflowing."""
    if isinstance(shape, Power):
        if shape.exponent == 0:
            return 0.0
        return shape.exponent * math.log(x) if x > 0 else -math.inf
    if isinstance(shape, Logistic):
        z = shape.steepness * (x - shape.midpoint)
        # log(1 / (1 + exp(-z))), in the form whose exponential cannot overflow
        return -math.log1p(math.exp(-z)) if z >= 0 else z - math.log1p(math.exp(z))
    return shape.rate * x


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _same_reward(reported: float, log_reward: float, tolerance: float) -> bool:
    """Whether a reported reward has this logarithm, within a relative tolerance."""
    if math.isnan(log_reward) or reported < 0:
        return False
    smallest = sys.float_info.min
    if log_reward <= math.log(smallest):  # no longer a normal number: any of them is right
        return reported <= smallest
    return reported > 0 and abs(math.log(reported) - log_reward) <= math.log1p(tolerance)


# ---- the check -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """One line of the result's task list, with what the instance says about its path."""

    index: int
    row: TaskResult
    task: Task
    path: tuple[str, ...]
    figures: Figures | None
    """None where the path is not one of the task graph."""
    accuracy: _Accuracy | None
    """None where the path is not one of the task graph or not admissible."""

    @property
    def place(self) -> str:
        return f"tasks[{self.index}]"


class _Check:
    """One run of the checker; every method yields the violations of a few rules."""

    def __init__(
        self, result: Result, instance: Instance, tolerance: float, present: Instance | None
    ) -> None:
        self.result = result
        self.instance = instance
        self.tolerance = tolerance
        self.network = InstanceIndex(instance, present)
        self.promised: dict[str, float] = {}
        """Promised time of every task that has a percentile [s], recomputed."""

    def violations(self) -> Iterator[Violation]:
        # Either of the first two makes everything after it meaningless.
        found = list(self.finite())
        yield from found
        if found:
            return
        yield from self.heading()
        found = list(self.status())
        yield from found
        if found or not self.result.tasks:
            return
        yield from self.task_list()
        lines = []
        for index, row in enumerate(self.result.tasks):
            task = self.network.tasks.get(row.task)
            if task is not None:
                line = self.line(index, row, task)
                lines.append(line)
                yield from self.path(line)
                yield from self.task_figures(line)
                yield from self.rate(line)
        yield from self.group_rates(lines)
        yield from self.changes(lines)
        ids = [row.task for row in self.result.tasks]
        complete = Counter(ids) == Counter(list(self.network.tasks))
        routed = complete and all(line.figures is not None for line in lines)
        paid = self.paid(lines) if routed else None
        if routed and not any(line.figures.missing for line in lines if line.figures):
            yield from self.promises(lines)
        yield from self.servers(paid)
        yield from self.links(paid)
        if paid is not None:
            yield from self.memory(paid)
        yield from self.totals(lines if complete else None)

    # -- the result as a whole --

    def finite(self) -> Iterator[Violation]:
        def numbers(place: str, record: Any) -> Iterator[Violation]:
            for name in type(record).model_fields:
                value = getattr(record, name)
                for one in value if name == "accuracy_interval" and value else (value,):
                    if isinstance(one, int | float) and not math.isfinite(one):
                        yield Violation("finite", f"{place}{name}", f"{one} is not a finite number")

        yield from numbers("", self.result)
        for group in ("tasks", "servers", "links"):
            for index, record in enumerate(getattr(self.result, group)):
                yield from numbers(f"{group}[{index}].", record)

    def heading(self) -> Iterator[Violation]:
        result, instance = self.result, self.instance
        if result.instance != instance.name:
            yield Violation(
                "instance-name",
                "instance",
                f"the result is for {result.instance!r}, the instance is {instance.name!r}",
            )
        changed = changed_parts(result.instance_digest, instance)
        if changed:
            message = f"the instance changed since the result was found: {', '.join(changed)}"
            yield Violation(CHANGED, "instance_digest", message)
        if result.seconds < 0:
            yield Violation("seconds", "seconds", f"{result.seconds} is negative")
        share = result.max_utilization
        if share is not None and not 0.0 < share <= 1.0:
            message = f"{share} is no share: it must be above 0 and at most 1"
            yield Violation("asked-utilization", "max_utilization", message)

    def status(self) -> Iterator[Violation]:
        result = self.result
        if result.status in ("optimal", "feasible"):
            if not result.tasks:
                yield Violation("assignment", "tasks", f"status {result.status!r} with no tasks")
            return
        for name in ("tasks", "servers", "links"):
            if getattr(result, name):
                message = f"status {result.status!r} must come with no {name}"
                yield Violation("no-assignment", name, message)
        for name in (*_FIGURES, "winners_curse"):
            value = getattr(result, name)
            if value is not None:
                message = f"status {result.status!r} must come with null, found {value}"
                yield Violation("no-assignment", name, message)

    # -- tasks --

    def task_list(self) -> Iterator[Violation]:
        listed = Counter(row.task for row in self.result.tasks)
        for index, row in enumerate(self.result.tasks):
            if row.task not in self.network.tasks:
                message = f"the instance has no task {row.task!r}"
                yield Violation("tasks", f"tasks[{index}].task", message)
        for task in self.network.tasks:
            if listed[task] != 1:
                message = f"task {task!r} is listed {listed[task]} times, expected once"
                yield Violation("tasks", "tasks", message)

    def line(self, index: int, row: TaskResult, task: Task) -> _Line:
        path = GivenPath.of(row.path, row.accuracy_source)
        if any(self.network.path_faults(task, path)):
            return _Line(index, row, task, path, figures=None, accuracy=None)
        accuracy = self.network.accuracy(task, path, self.tolerance)
        figures = self.network.figures(task, path)
        return _Line(index, row, task, path, figures, accuracy if accuracy.admissible else None)

    def path(self, line: _Line) -> Iterator[Violation]:
        place = f"{line.place}.path"
        for rule, message in self.network.path_faults(line.task, line.path):
            yield Violation(rule, place, f"task {line.task.id!r}: {message}")
        if line.figures is None:
            return
        for name in dict.fromkeys(line.figures.deviceless):
            message = f"task {line.task.id!r} has work on server {name!r}, which has no device"
            yield Violation("path-devices", place, message)
        for source, target in line.figures.missing:
            message = f"task {line.task.id!r} needs a link {source!r} -> {target!r}, none is listed"
            yield Violation("path-links", place, message)
        if line.accuracy is None:
            message = f"task {line.task.id!r}: the path is predicted below 0 and not measured"
            yield Violation("path-accuracy", place, message)

    def task_figures(self, line: _Line) -> Iterator[Violation]:
        row, task, tolerance = line.row, line.task, self.tolerance
        if line.accuracy is not None:
            accuracy = line.accuracy
            if not _close(row.accuracy, accuracy.value, tolerance, accuracy.slack):
                yield self._differs(
                    "task-accuracy", f"{line.place}.accuracy", row.accuracy, accuracy.value
                )
            if row.accuracy_source not in self.network.sources(task, line.path, accuracy.source):
                message = f"called {row.accuracy_source!r}, but it is {accuracy.source!r}"
                yield Violation("accuracy-source", f"{line.place}.accuracy_source", message)
            if self.result.measured_only and accuracy.source in _PREDICTED:
                message = f"task {task.id!r}: the accuracy of its path is predicted"
                yield Violation("measured-only", f"{line.place}.path", message)
            interval = _wilson(accuracy.value, self.network.samples(task, line.path))
            shown = row.accuracy_interval
            if (interval is None) != (shown is None) or not all(
                _close(a, b, tolerance, GAP_ROUNDING)
                for a, b in zip(shown or (), interval or (), strict=True)
            ):
                message = f"{shown} is reported, expected {interval}"
                yield Violation("accuracy-interval", f"{line.place}.accuracy_interval", message)
            if not _at_least(accuracy.value + accuracy.slack, task.min_accuracy, tolerance):
                message = (
                    f"task {task.id!r}: accuracy {accuracy.value:.9g} is below its "
                    f"min_accuracy {task.min_accuracy:.9g}"
                )
                yield Violation("min-accuracy", f"{line.place}.path", message)
        if line.figures is not None and not line.figures.missing:
            latency = line.figures.latency
            if not _close(row.latency, latency, tolerance):
                yield self._differs("latency", f"{line.place}.latency", row.latency, latency)
            if task.max_latency is not None and not _at_most(latency, task.max_latency, tolerance):
                message = (
                    f"task {task.id!r}: latency {latency:.9g} s is above its "
                    f"max_latency {task.max_latency:.9g} s"
                )
                yield Violation("max-latency", f"{line.place}.path", message)
            if row.own_work is not None:  # results of older versions do not hold it
                own, all_ = self.network.work(task, line.figures)
                share = own / all_ if all_ > 0.0 else None
                if not self._same(row.own_work, share):
                    yield self._differs("own-work", f"{line.place}.own_work", row.own_work, share)

    def rate(self, line: _Line) -> Iterator[Violation]:
        rate, task, place = line.row.rate, line.task, f"{line.place}.rate"
        if rate < 0:
            yield Violation("rate", place, f"task {task.id!r}: rate {rate:.9g} is negative")
            return
        if task.floor == "standalone":
            floor = self.network.standalone(
                task, self.result.max_utilization, self.result.latency_percentile
            )
            name = "standalone floor"
        else:
            floor, name = task.floor, "floor"
        if not _at_least(rate, floor, self.tolerance):
            message = f"task {task.id!r}: rate {rate:.9g} is below its {name} {floor:.9g}"
            yield Violation("floor", place, message)
        if task.demand is not None and not _at_most(rate, task.demand, self.tolerance):
            message = f"task {task.id!r}: rate {rate:.9g} is above its demand {task.demand:.9g}"
            yield Violation("demand", place, message)
        if self.result.objective == "latency":
            demands = [t.demand for t in self.network.members(task)]
            least = min((d for d in demands if d is not None), default=math.inf)
            if not _at_least(rate, least, self.tolerance):
                message = f"task {task.id!r}: rate {rate:.9g} is not the demand {least:.9g}"
                yield Violation("asked-demand", place, message)

    def group_rates(self, lines: list[_Line]) -> Iterator[Violation]:
        first: dict[tuple[str, str], _Line] = {}
        for line in lines:
            other = first.setdefault(self.network.group(line.task), line)
            if not _close(line.row.rate, other.row.rate, self.tolerance):
                message = (
                    f"task {line.task.id!r} shares the input of {other.task.id!r}: its rate "
                    f"{line.row.rate:.9g} must be {other.row.rate:.9g}"
                )
                yield Violation("group-rate", f"{line.place}.rate", message)

    # -- promises --

    def percentile(self, task: Task) -> float | None:
        return self.network.percentile(task, self.result.latency_percentile)

    def promises(self, lines: list[_Line]) -> Iterator[Violation]:
        """Recompute all waits where the instance or the result speaks of any."""
        rows: list[Any] = [*self.result.servers, *self.result.links]
        if not any(self.percentile(line.task) for line in lines):
            for line in lines:
                row = line.row
                said = (row.latency_percentile, row.latency_promised, row.latency_mean)
                if any(value is not None for value in (*said, row.latency_basis)):
                    message = f"task {line.task.id!r}: a promise, and no percentile is asked for"
                    yield Violation("percentile", line.place, message)
            for row in rows:
                if row.wait_scale is not None:
                    message = "a wait scale, and no percentile is asked for"
                    yield Violation("wait-scale", "servers", message)
            return
        walks = [
            Walk(
                line.task.id,
                self.network.group(line.task),
                max(line.row.rate, 0.0),
                line.figures.latency,
                [(key, f.stays) for key, f in self.network.steps(line.task, line.path)],
            )
            for line in lines
            if line.figures is not None
        ]
        there = recompute(walks, self.network.services)
        for line in lines:
            yield from self.promise(line, there)
        for group, places in (
            ("servers", [("server", row.server) for row in self.result.servers]),
            ("links", [("link", row.source, row.target) for row in self.result.links]),
        ):
            listed: Sequence[Any] = getattr(self.result, group)
            for index, (place, entry) in enumerate(zip(places, listed, strict=True)):
                found = there.scale.get(place, math.inf)
                expected = found if math.isfinite(found) else None
                if not self._same(entry.wait_scale, expected):
                    yield self._differs(
                        "wait-scale", f"{group}[{index}].wait_scale", entry.wait_scale, expected
                    )

    def promise(self, line: _Line, there: Recomputed) -> Iterator[Violation]:
        row, task, place = line.row, line.task, line.place
        q = self.percentile(task)
        if not self._same(row.latency_percentile, q):
            yield self._differs(
                "percentile", f"{place}.latency_percentile", row.latency_percentile, q
            )
        promised = math.inf if q is None else there.promised(task.id, q)
        if q is not None:
            self.promised[task.id] = promised
        expected = promised if math.isfinite(promised) else None
        if not self._same(row.latency_promised, expected):
            yield self._differs(
                "promise", f"{place}.latency_promised", row.latency_promised, expected
            )
        basis = None
        if expected is not None:
            basis = "theorem" if there.is_theorem(task.id) else "model"
        if row.latency_basis != basis:
            message = f"called {row.latency_basis!r}, but it is {basis!r}"
            yield Violation("promise-basis", f"{place}.latency_basis", message)
        mean = there.mean[task.id]
        if not self._same(row.latency_mean, mean):
            yield self._differs("mean-latency", f"{place}.latency_mean", row.latency_mean, mean)
        most = task.max_latency
        if q is not None and most is not None and not _at_most(promised, most, self.tolerance):
            message = (
                f"task {task.id!r}: {promised:.9g} s is promised at percentile {q:g}, above its "
                f"max_latency {most:.9g} s"
            )
            yield Violation("promised-limit", place, message)

    def paid(self, lines: list[_Line]) -> list[tuple[float, Figures]]:
        """Rate and figures of everything that is computed.

        What tasks of an input group share is computed once, at their rate (if these differ, at
        the largest of them).
        """
        paid: dict[tuple[Any, ...], tuple[float, Figures]] = {}
        for line in lines:
            group = self.network.group(line.task)
            for prefix, figures in self.network.steps(line.task, line.path):
                rate, _ = paid.get((group, prefix), (line.row.rate, figures))
                paid[group, prefix] = (max(rate, line.row.rate), figures)
        return list(paid.values())

    # -- servers and links --

    def servers(self, paid: list[tuple[float, Figures]] | None) -> Iterator[Violation]:
        """Check the server list; loads only where every task's path is known (``paid``)."""
        result, known = self.result, self.network.servers
        names = [row.server for row in result.servers]
        yield from self._listed("servers", names, known)
        busy: dict[str, float] = defaultdict(float)
        for rate, figures in paid or ():
            for server, time in figures.busy.items():
                busy[server] += rate * time
        for index, row in enumerate(result.servers):
            if row.server in known:
                place = f"servers[{index}]"
                yield from self._server(place, row, None if paid is None else busy[row.server])
        if paid is not None:
            for server in known:
                most = self.network.sold(server, result.max_utilization)
                if not _at_most(busy[server], most, self.tolerance):
                    message = (
                        f"server {server!r}: {busy[server]:.9g} devices are busy, "
                        f"at most {most:.9g} can be"
                    )
                    yield Violation("server-overload", "servers", message)

    def _server(self, place: str, row: ServerResult, busy: float | None) -> Iterator[Violation]:
        """Check one server's figures; those of its load only where its busy devices are known."""
        server = self.network.servers[row.server]
        if not self._same(row.capacity, server.flops):
            yield self._differs("server-capacity", f"{place}.capacity", row.capacity, server.flops)
        # Results of older versions do not hold these two.
        if row.devices is not None and not self._same(row.devices, server.devices):
            yield self._differs("server-devices", f"{place}.devices", row.devices, server.devices)
        if busy is None:
            return
        if row.busy_devices is not None and not self._same(row.busy_devices, busy):
            yield self._differs("server-busy", f"{place}.busy_devices", row.busy_devices, busy)
        share = busy / server.devices if server.devices > 0.0 else 0.0
        load = None if server.flops is None else share * server.flops
        if not self._same(row.load, load):
            yield self._differs("server-load", f"{place}.load", row.load, load)
        if not self._same(row.utilization, share):
            yield self._differs(
                "server-utilization", f"{place}.utilization", row.utilization, share
            )

    def links(self, paid: list[tuple[float, Figures]] | None) -> Iterator[Violation]:
        """Check the link list; loads only where every task's path is known (``paid``)."""
        result, links = self.result, self.network.links
        yield from self._listed("links", [(row.source, row.target) for row in result.links], links)
        load: dict[tuple[str, str], float] = defaultdict(float)
        for rate, figures in paid or ():
            for ends, size in figures.traffic.items():
                load[ends] += rate * size
        for index, row in enumerate(result.links):
            ends = (row.source, row.target)
            if ends not in links:
                continue
            place, bandwidth = f"links[{index}]", links[ends].bandwidth
            if not self._same(row.capacity, bandwidth):
                yield self._differs("link-capacity", f"{place}.capacity", row.capacity, bandwidth)
            if paid is None:
                continue
            utilization = None if bandwidth is None else load[ends] / bandwidth
            if not _close(row.load, load[ends], self.tolerance):
                yield self._differs("link-load", f"{place}.load", row.load, load[ends])
            if not self._same(row.utilization, utilization):
                yield self._differs(
                    "link-utilization", f"{place}.utilization", row.utilization, utilization
                )
        if paid is not None:
            for (source, target), link in links.items():
                found, most = load[source, target], link.bandwidth
                if most is not None and not _at_most(found, most, self.tolerance):
                    message = (
                        f"link {source!r} -> {target!r}: load {found:.9g} bytes/s is above its "
                        f"bandwidth {most:.9g}"
                    )
                    yield Violation("link-overload", "links", message)

    # -- changes since a previous result --

    def changes(self, lines: list[_Line]) -> Iterator[Violation]:
        result = self.result
        if result.changes is None:
            told = ("previous", "change")
            rows = [
                (line.place, name) for line in lines for name in told if getattr(line.row, name)
            ]
            rows += [("", name) for name in ("adapters", "max_changes") if getattr(result, name)]
            for place, name in rows:
                message = f"nothing is told of changes, but {name} is given"
                yield Violation("changes", f"{place}.{name}".lstrip("."), message)
            return
        for line in lines:
            allowed = self._possible_changes(line)
            if line.row.change not in allowed:
                message = (
                    f"task {line.task.id!r} is called {line.row.change!r}, expected "
                    f"{' or '.join(map(repr, allowed))}"
                )
                yield Violation("changes", f"{line.place}.change", message)
        count = sum(line.row.change == "changed" for line in lines)
        if result.changes != count:
            message = f"{result.changes} is reported, {count} tasks are called changed"
            yield Violation("changes", "changes", message)
        if result.max_changes is not None and count > result.max_changes:
            message = (
                f"{count} tasks left paths that they could keep, more than {result.max_changes}"
            )
            yield Violation("max-changes", "changes", message)
        before = self._adapters((line.task, line.row.previous or ()) for line in lines)
        now = self._adapters((line.task, line.path) for line in lines)
        expected = Counter(("load", *key[:4]) for key in now if key not in before)
        expected += Counter(("drop", *key[:4]) for key in before if key not in now)
        sizes = {key[:4]: size for key, size in (before | now).items()}
        shown = result.adapters or ()
        found: Counter[tuple[str, str, str, str, str]] = Counter(
            (a.action, a.server, a.source, a.target, a.adapter) for a in shown
        )
        for wrong in (found - expected) + (expected - found):
            word = "missing" if expected[wrong] > found[wrong] else "not expected"
            action, server, source, target, owner = wrong
            message = f"{action} {owner!r} ({source} -> {target}) on {server!r} is {word}"
            yield Violation("adapters", "adapters", message)
        for index, adapter in enumerate(shown):
            size = sizes.get((adapter.server, adapter.source, adapter.target, adapter.adapter))
            if size is not None and not _close(adapter.bytes, size, self.tolerance):
                yield self._differs("adapters", f"adapters[{index}].bytes", adapter.bytes, size)

    def _possible_changes(self, line: _Line) -> list[str]:
        """Return what the change of a task may be called: two words only at a limit."""
        previous, tolerance = line.row.previous, self.tolerance
        if previous is None:
            return ["new"]
        if previous == tuple(line.path):
            return ["kept"]
        # The same blocks may be a way over connections and an alternative.
        ways = (previous, GivenPath(previous))
        can_stay = any(self._can_stay(line.task, way, tolerance) for way in ways)
        must_leave = not any(self._can_stay(line.task, way, -tolerance) for way in ways)
        return ["changed"] * can_stay + ["forced"] * must_leave

    def _can_stay(self, task: Task, path: tuple[str, ...], slack: float) -> bool:
        """Tell whether a path is one of a task and keeps its limits, relative to them by slack."""
        network = self.network
        if any(network.path_faults(task, path)):
            return False
        figures, accuracy = network.figures(task, path), network.accuracy(task, path, abs(slack))
        if figures.missing or figures.deviceless or not accuracy.admissible:
            return False
        if self.result.measured_only and accuracy.source in _PREDICTED:
            return False
        limit = math.inf if task.max_latency is None else task.max_latency
        is_accurate = accuracy.value + accuracy.slack >= task.min_accuracy * (1.0 - slack)
        return figures.latency <= limit * (1.0 + slack) and is_accurate

    def _adapters(
        self, paths: Iterable[tuple[Task, Sequence[str]]]
    ) -> dict[tuple[str, str, str, str, str | None], float]:
        """Return the adapters of paths with their sizes [bytes]: those shared by name once."""
        found = {}
        for task, path in paths:
            for c in self.network.used(task, path) if path else ():
                if c.share == IDENTITY:
                    continue
                owner, group = (task.id, None) if c.share is None else (c.share, task.input_group)
                place = self.network.place(c)
                found[place, c.source, c.target, owner, group] = BYTES_PER_PARAMETER * c.params
        return found

    def memory(self, paid: list[tuple[float, Figures]]) -> Iterator[Violation]:
        used: dict[str, float] = defaultdict(float)
        for _, figures in paid:
            for name, size in figures.memory.items():
                used[name] += size
        for server in self.instance.servers:
            if server.memory is None:
                continue
            if not _at_most(used[server.id], server.memory, self.tolerance):
                message = (
                    f"server {server.id!r}: adapters of {used[server.id]:.9g} bytes exceed its "
                    f"memory {server.memory:.9g}"
                )
                yield Violation("memory", "tasks", message)

    # -- totals, objective, proof --

    def totals(self, lines: list[_Line] | None) -> Iterator[Violation]:
        """Check totals as far as they can be recomputed, then the proof of the objective."""
        result, tolerance = self.result, self.tolerance
        confirmed: dict[str, float | None] = {
            "throughput": result.throughput,
            "accuracy": result.accuracy,
            "reward": result.reward,
            "latency": result.latency,
        }
        if lines is not None:
            throughput = float(sum(line.row.rate for line in lines))
            if result.throughput is None or not _close(result.throughput, throughput, tolerance):
                confirmed["throughput"] = throughput
                yield self._differs("throughput", "throughput", result.throughput, throughput)
            asked = result.min_throughput
            if asked is not None and not _at_least(throughput, asked, tolerance):
                message = f"throughput {throughput:.9g} is below the floor asked for, {asked:.9g}"
                yield Violation("asked-throughput", "throughput", message)
            accuracy, slack = self._average_accuracy(lines)
            if accuracy is not None:
                if result.accuracy is None or not _close(
                    result.accuracy, accuracy, tolerance, slack
                ):
                    confirmed["accuracy"] = accuracy
                    yield self._differs("average-accuracy", "accuracy", result.accuracy, accuracy)
                asked = result.min_accuracy
                if asked is not None and not _at_least(accuracy + slack, asked, tolerance):
                    message = (
                        f"average accuracy {accuracy:.9g} is below the floor asked for, {asked:.9g}"
                    )
                    yield Violation("asked-accuracy", "accuracy", message)
                reward = self.instance.reward
                log_reward = _log_shape(reward.accuracy, accuracy) + _log_shape(
                    reward.throughput, throughput
                )
                if result.reward is None or not _same_reward(result.reward, log_reward, tolerance):
                    confirmed["reward"] = _exp(log_reward)
                    yield self._differs("reward", "reward", result.reward, _exp(log_reward))
            yield from self.times_and_work(lines, confirmed)
        yield from self.winners_curse(confirmed["accuracy"], confirmed["throughput"])
        yield from self.proof(confirmed[result.objective])

    def winners_curse(
        self, accuracy: float | None, throughput: float | None
    ) -> Iterator[Violation]:
        """Check the corrected figures; only the validation images could tell the excess itself."""
        curse, place = self.result.winners_curse, "winners_curse"
        if curse is None or accuracy is None or throughput is None:
            return
        expected = max(accuracy - max(curse.accuracy, 0.0), 0.0)
        if not _close(curse.accuracy_corrected, expected, self.tolerance, self.tolerance):
            place = f"{place}.accuracy_corrected"
            yield self._differs("winners-curse", place, curse.accuracy_corrected, expected)
            return
        reward = self.instance.reward
        log_reward = _log_shape(reward.accuracy, expected) + _log_shape(
            reward.throughput, throughput
        )
        if not _same_reward(curse.reward_corrected, log_reward, 100.0 * self.tolerance):
            place = f"{place}.reward_corrected"
            yield self._differs("winners-curse", place, curse.reward_corrected, _exp(log_reward))

    def times_and_work(
        self, lines: list[_Line], confirmed: dict[str, float | None]
    ) -> Iterator[Violation]:
        """Check the average time and the share of work on own servers, where paths are known."""
        result = self.result
        routes = [line.figures for line in lines]
        if any(figures is None or figures.missing for figures in routes):
            return
        total = work = 0.0
        own = time = 0.0
        for line, figures in zip(lines, routes, strict=True):
            assert figures is not None
            time += line.task.weight * self.promised.get(line.task.id, figures.latency)
            total += line.task.weight
            of_path = self.network.work(line.task, figures)
            own += line.row.rate * of_path[0]
            work += line.row.rate * of_path[1]
        mean = time / total if total > 0.0 and math.isfinite(time) else None
        # Results of older versions do not hold these two.
        if (result.latency is not None or result.objective == "latency") and not self._same(
            result.latency, mean
        ):
            confirmed["latency"] = mean
            yield self._differs("average-latency", "latency", result.latency, mean)
        share = own / work if work > 0.0 else None
        if result.own_work is not None and not self._same(result.own_work, share):
            yield self._differs("all-own-work", "own_work", result.own_work, share)

    def _average_accuracy(self, lines: list[_Line]) -> tuple[float | None, float]:
        """Weighted mean and its rounding; None where a path has no accuracy."""
        total = mean = slack = 0.0
        for line in lines:
            if line.accuracy is None:
                return None, 0.0
            total += line.task.weight
            mean += line.task.weight * line.accuracy.value
            slack += line.task.weight * line.accuracy.slack
        if total == 0:
            return math.nan, 0.0  # undefined, so that no reported average is confirmed
        return mean / total, slack / total

    def proof(self, value: float | None) -> Iterator[Violation]:
        """Check bound and gap against the value: the reported one where it was confirmed."""
        result, bound, gap = self.result, self.result.bound, self.result.gap
        is_least = result.objective == "latency"
        optimal = result.status == "optimal"
        if optimal and bound is None and gap is None:
            message = "status 'optimal' with neither bound nor gap"
            yield Violation("optimal-bound", "bound", message)
        no_gap = value == 0 and bound is not None and bound > 0 and not is_least
        if (bound is None) != (gap is None) and not (no_gap and gap is None):
            message = f"bound {bound} and gap {gap}: expected both or neither"
            yield Violation("bound-and-gap", "gap", message)
        root = result.root_bound
        if root is not None:
            if bound is None:
                message = f"{root:.9g} is proven by duals and cuts, and there is no bound"
                yield Violation("root-bound", "root_bound", message)
            elif not (_at_most if is_least else _at_least)(root, bound, self.tolerance):
                message = f"{root:.9g} is tighter than the bound {bound:.9g} that it is part of"
                yield Violation("root-bound", "root_bound", message)
        if bound is not None and value is not None:
            if is_least:
                if not _at_most(bound, value, self.tolerance):
                    message = f"the bound {bound:.9g} is above the value {value:.9g}"
                    yield Violation("bound", "bound", message)
            elif not _at_least(bound, value, self.tolerance):
                message = f"the bound {bound:.9g} is below the value {value:.9g}"
                yield Violation("bound", "bound", message)
            if gap is not None:
                yield from self._gap(gap, bound, value)
        if optimal and bound is not None:
            yield from self._optimal_gap(gap, no_gap)

    def _gap(self, gap: float, bound: float, value: float) -> Iterator[Violation]:
        if self.result.objective == "latency":
            expected = max(0.0, 1.0 - bound / value) if value > 0 else 0.0
        else:
            expected = 0.0 if bound <= value else bound / value - 1.0 if value > 0 else math.inf
        if gap < 0 or not _close(gap, expected, self.tolerance, GAP_ROUNDING):
            yield self._differs("gap", "gap", gap, expected)

    def _optimal_gap(self, gap: float | None, no_gap: bool) -> Iterator[Violation]:
        asked = self.result.gap_tolerance
        most = DEFAULT_GAP if asked is None else asked
        found = math.inf if no_gap else gap
        if found is not None and not found <= most * (1.0 + self.tolerance) + GAP_ROUNDING:
            message = f"status 'optimal' with a gap of {found:.9g}, asked for {most:.9g}"
            yield Violation("optimal-gap", "gap", message)

    # -- shared --

    def _same(self, a: float | None, b: float | None) -> bool:
        if a is None or b is None:
            return a is b
        return _close(a, b, self.tolerance)

    @staticmethod
    def _differs(rule: str, place: str, found: float | None, expected: float | None) -> Violation:
        def text(number: float | None) -> str:
            return "null" if number is None else f"{number:.9g}"

        return Violation(rule, place, f"{text(found)} is reported, expected {text(expected)}")

    @staticmethod
    def _listed(group: str, names: Sequence[Any], expected: Collection[Any]) -> Iterator[Violation]:
        def text(name: Any) -> str:
            return " -> ".join(map(repr, name)) if isinstance(name, tuple) else repr(name)

        listed = Counter(names)
        for index, name in enumerate(names):
            if name not in expected:
                message = f"the instance has no such entry: {text(name)}"
                yield Violation(group, f"{group}[{index}]", message)
        for name in expected:
            if listed[name] != 1:
                message = f"{text(name)} is listed {listed[name]} times, expected once"
                yield Violation(group, group, message)
