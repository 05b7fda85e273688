"""Where the parts of paths run: segments on servers, transfers between them.

Taken from the instance alone (docs/format.md): a block runs on the server that hosts its
DNN; an adapter where its source does unless the data says otherwise (entries: where the
target does). Inputs that are sent begin at a server of their own and cross links like activations.
The tasks of an input group make one route: what their paths have in
common from the input on stands in it once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.instance.model import (
    IDENTITY,
    INPUT,
    OUTPUT,
    Block,
    Connection,
    GivenPath,
    Task,
)
from code_opt.result import Result

Ends = tuple[str, str]
StepKey = tuple[str, str, str]
"""Source, target, and whose step it is: steps of a group with equal keys, behind equal
steps, are one step."""


@dataclass(frozen=True)
class Part:
    """A block (``ends`` is None) or the adapter of a connection."""

    block: str
    """Id of the block, "" for an adapter."""
    ends: Ends | None
    server: str
    flops: float
    seconds: float
    """What one inference waits for it on its server [s]."""
    busy: float
    """What it takes of the server's devices [s]."""
    task: str
    """Task that the part belongs to: the first one where several share it."""


@dataclass(frozen=True)
class Segment:
    """Consecutive parts on one server, for the same tasks."""

    server: str
    parts: tuple[Part, ...]
    """None at all where an input is only handed on as it is."""
    parent: int
    """Segment whose output arrives here (an earlier one), -1: the inputs."""
    size: float
    """Bytes that the instance says arrive over a link (0 on the same server)."""
    tasks: tuple[int, ...]
    """Tasks (places in :attr:`Route.tasks`) whose paths lead through here."""
    answers: tuple[int, ...]
    """Tasks among them whose paths end behind this segment."""

    @property
    def flops(self) -> float:
        """Work of one inference [FLOP]."""
        return sum(part.flops for part in self.parts)

    @property
    def seconds(self) -> float:
        """What one inference waits for it on its server [s]."""
        return sum(part.seconds for part in self.parts)

    @property
    def busy(self) -> float:
        """What it takes of the server's devices [s]."""
        return sum(part.busy for part in self.parts)


@dataclass(frozen=True)
class Piece:
    """A segment as a part of a visit: of what a server does from an arrival on."""

    segment: int
    parent: int
    """Piece of the same visit (an earlier one) whose output it takes, -1: what arrived."""
    next: tuple[int, ...]
    """Segments on other servers that its output is sent to."""


@dataclass(frozen=True)
class Route:
    """The paths of one task, or of the tasks of an input group, over the servers."""

    tasks: tuple[str, ...]
    rate: float
    """Inferences per second, of every task."""
    paths: tuple[tuple[str, ...], ...]
    """Block ids, by task."""
    segments: tuple[Segment, ...]
    """A tree: parents stand before their children."""

    @property
    def name(self) -> str:
        """The tasks' names."""
        return " + ".join(self.tasks)

    def visit(self, segment: int) -> int:
        """Return the segment at which inferences enter the server on which a segment runs."""
        one = self.segments[segment]
        while one.parent >= 0 and self.segments[one.parent].server == one.server:
            segment = one.parent
            one = self.segments[segment]
        return segment

    def visits(self) -> dict[int, tuple[Piece, ...]]:
        """Return what servers do from an arrival on, by the segment at which it arrives."""
        found: dict[int, list[Piece]] = {}
        for k, segment in enumerate(self.segments):
            pieces = found.setdefault(self.visit(k), [])
            places = {piece.segment: place for place, piece in enumerate(pieces)}
            away = tuple(
                c
                for c, one in enumerate(self.segments)
                if one.parent == k and one.server != segment.server
            )
            pieces.append(Piece(k, places.get(segment.parent, -1), away))
        return {visit: tuple(pieces) for visit, pieces in found.items()}


def step_keys(task: Task, path: Sequence[str]) -> list[StepKey]:
    """Return the keys of a path's steps; a step without a name of its own belongs to its task."""
    is_given = isinstance(path, GivenPath)
    shares = {} if is_given else {(c.source, c.target): c.share for c in task.connections}
    names = [INPUT, *path, OUTPUT]
    keys = []
    for ends in zip(names, names[1:], strict=False):
        share = shares.get(ends, IDENTITY)
        keys.append((*ends, f"of task {task.id}" if share is None else f"share {share}"))
    return keys


def route(instance: Instance, paths: Mapping[str, Sequence[str]], rate: float) -> Route:
    """Return where the parts of paths run.

    Args:
        instance: the instance.
        paths: block ids by task; several tasks: those of one input group.
        rate: inferences per second of each.
    """
    return _Tree(instance, paths).route(rate)


@dataclass
class _Open:
    """A segment that is being built."""

    server: str
    parent: int
    size: float
    tasks: tuple[int, ...]
    parts: list[Part] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


class _Tree:
    """The prefix tree of the steps of some tasks, and the segments that it falls into."""

    def __init__(self, instance: Instance, paths: Mapping[str, Sequence[str]]) -> None:
        self.paths = {
            task: path if isinstance(path, GivenPath) else tuple(path)
            for task, path in paths.items()
        }
        self.records = {server.id: server for server in instance.servers}
        self.host = {block.id: dnn.server for dnn in instance.dnns for block in dnn.blocks}
        self.blocks = {block.id: block for dnn in instance.dnns for block in dnn.blocks}
        known = {task.id: task for task in instance.tasks}
        self.tasks = [known[task] for task in paths]
        self.servers = {dnn.id: dnn.server for dnn in instance.dnns}
        self.has_links = bool(instance.links)
        self.connections = [
            {}
            if isinstance(self.paths[task.id], GivenPath)
            else {(c.source, c.target): c for c in task.connections}
            for task in self.tasks
        ]
        """Of the tasks, by their ends; none where a path runs one network alone."""
        self.sent = [self._sent(*pair) for pair in zip(self.tasks, self.connections, strict=True)]
        self.keys = [
            [*way, *step_keys(task, paths[task.id])]
            for task, way in zip(self.tasks, self.sent, strict=True)
        ]
        self.segments: list[_Open] = []

    def route(self, rate: float) -> Route:
        self._follow(list(range(len(self.tasks))), 0, None)
        return Route(
            tasks=tuple(self.paths),
            rate=rate,
            paths=tuple(self.paths.values()),
            segments=tuple(
                Segment(s.server, tuple(s.parts), s.parent, s.size, s.tasks, tuple(s.answers))
                for s in self.segments
            ),
        )

    def _follow(self, places: list[int], depth: int, at: int | None) -> None:
        """Add the steps from ``depth`` on of tasks whose earlier steps are the same.

        Args:
            places: the tasks.
            depth: steps already added.
            at: segment that they lead out of.
        """
        branches: dict[StepKey, list[int]] = {}
        for place in places:
            if depth == len(self.keys[place]):
                assert at is not None
                self.segments[at].answers.append(place)
            else:
                branches.setdefault(self.keys[place][depth], []).append(place)
        for key, some in branches.items():
            if at is None and self.sent[some[0]]:
                self._follow(some, 1, self._send(*key, some))
                continue
            end = at
            connections = self.connections[some[0]]
            for part, size in self._parts(self.tasks[some[0]], key[:2], connections):
                if end is None or (end == at and len(branches) > 1):
                    end = self._new(end, part, size, some)
                else:
                    end = self._extended(end, part, size, some)
            self._follow(some, depth + 1, end)

    def _sent(self, task: Task, connections: Mapping[Ends, Connection]) -> list[StepKey]:
        """Return the way of an input to another server: the servers and its bytes, or nothing."""
        if not (task.sends_inputs and self.has_links):
            return []
        start = task.origin or self.servers[task.dnn]
        first = self.paths[task.id][0]
        entry = connections.get((INPUT, first))
        stop, size = self.host[first], task.input_bytes
        if entry is not None:
            stop = entry.server or stop
            size = size if entry.bytes is None else entry.bytes
        return [] if start == stop else [(start, stop, repr(size))]

    def _send(self, start: str, stop: str, size: str, places: list[int]) -> int:
        """Begin where an input arrives; return the segment that has it on another server."""
        begin = len(self.segments)
        self.segments.append(_Open(start, -1, 0.0, tuple(places)))
        self.segments.append(_Open(stop, begin, float(size), tuple(places)))
        return begin + 1

    def _extended(self, at: int, part: Part, size: float, places: list[int]) -> int:
        """Put a part behind a segment out of which nothing else leads; return where it is."""
        if self.segments[at].server != part.server:
            return self._new(at, part, size, places)
        self.segments[at].parts.append(part)
        return at

    def _new(self, at: int | None, part: Part, size: float, places: list[int]) -> int:
        """Begin a segment with a part."""
        if at is None:
            opened = _Open(part.server, -1, 0.0, tuple(places))
        else:
            crossing = 0.0 if self.segments[at].server == part.server else size
            opened = _Open(part.server, at, crossing, tuple(places))
        opened.parts.append(part)
        self.segments.append(opened)
        return len(self.segments) - 1

    def _parts(
        self, task: Task, ends: Ends, connections: Mapping[Ends, Connection]
    ) -> list[tuple[Part, float]]:
        """Return the adapter and the block of a step, with the bytes that lead to each."""
        source, target = ends
        size = task.input_bytes if source == INPUT else self.blocks[source].output_bytes
        found = []
        connection = connections.get(ends)
        if connection is not None:
            server = connection.server or self.host[target if source == INPUT else source]
            if connection.bytes is not None:
                size = connection.bytes
            found.append((self._part("", ends, server, connection, task), size))
        if target != OUTPUT:
            block = self.blocks[target]
            found.append((self._part(target, None, self.host[target], block, task), size))
        return found

    def _part(
        self, name: str, ends: Ends | None, place: str, work: Block | Connection, task: Task
    ) -> Part:
        server = self.records[place]
        seconds, busy = server.batch_time(work), server.device_time(work)
        return Part(name, ends, place, work.flops, seconds, busy, task.id)


def routes(instance: Instance, result: Result) -> list[Route]:
    """Return the routes of a result's tasks that run at all (a rate above 0).

    Raises:
        InputError: links lead between sites of several servers, which no edge here has.
    """
    shared = next((s.id for s in instance.servers if s.site is not None), None)
    if shared is not None and instance.links:
        raise InputError(
            f"server {shared!r} stands at a site: links that servers of a site share are not "
            "executed; leave out the site, and give each server links of its own"
        )
    group = {task.id: task.input_group for task in instance.tasks}
    together: dict[tuple[str, str], list[str]] = {}
    rows = {row.task: row for row in result.tasks if row.rate > 0.0}
    for name in rows:
        of = group[name]
        together.setdefault(("task", name) if of is None else ("group", of), []).append(name)
    return [
        route(
            instance,
            {n: GivenPath.of(rows[n].path, rows[n].accuracy_source) for n in names},
            rows[names[0]].rate,
        )
        for names in together.values()
    ]


@dataclass(frozen=True)
class Loads:
    """What routes ask of servers and links, as shares of their capacities."""

    servers: Mapping[str, float]
    links: Mapping[Ends, float]

    @property
    def largest(self) -> float:
        """The largest share: 1 where something is full."""
        return max([*self.servers.values(), *self.links.values()], default=0.0)


def loads(instance: Instance, found: Sequence[Route]) -> Loads:
    """Return how full servers and links are under given routes."""
    devices = {server.id: server.devices for server in instance.servers}
    bandwidth = {(link.source, link.target): link.bandwidth for link in instance.links}
    work: dict[str, float] = dict.fromkeys(devices, 0.0)
    traffic: dict[Ends, float] = defaultdict(float)
    for one in found:
        for segment in one.segments:
            work[segment.server] += one.rate * segment.busy
            if segment.parent >= 0:
                ends = (one.segments[segment.parent].server, segment.server)
                traffic[ends] += one.rate * segment.size
    return Loads(
        {s: load / devices[s] if load else 0.0 for s, load in work.items()},
        {
            ends: load / limit
            for ends, load in traffic.items()
            if (limit := bandwidth.get(ends)) is not None
        },
    )
