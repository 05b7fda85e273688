"""Where the parts of a path run: segments on servers, transfers between them.

Taken from the instance alone (design, section 2): a block runs on the server that hosts
its DNN; an adapter where its source does unless the data says otherwise (entries: where
the target does).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from code_opt.instance import Instance
from code_opt.instance.model import INPUT, OUTPUT
from code_opt.result import Result

Ends = tuple[str, str]


@dataclass(frozen=True)
class Part:
    """A block (``ends`` is None) or the adapter of a connection."""

    block: str
    """Id of the block, "" for an adapter."""
    ends: Ends | None
    server: str
    flops: float


@dataclass(frozen=True)
class Segment:
    """Consecutive parts of a path on one server."""

    server: str
    parts: tuple[Part, ...]

    @property
    def flops(self) -> float:
        """Work of one inference [FLOP]."""
        return sum(part.flops for part in self.parts)


@dataclass(frozen=True)
class Route:
    """One task's path over the servers."""

    task: str
    rate: float
    """Inferences per second."""
    blocks: tuple[str, ...]
    segments: tuple[Segment, ...]
    sizes: tuple[float, ...]
    """Bytes that the instance says cross between consecutive segments."""


def route(instance: Instance, task_id: str, path: Sequence[str], rate: float) -> Route:
    """Return where the parts of a path run.

    Args:
        instance: the instance.
        task_id: id of the task.
        path: block ids.
        rate: inferences per second.
    """
    task = next(t for t in instance.tasks if t.id == task_id)
    host = {block.id: dnn.server for dnn in instance.dnns for block in dnn.blocks}
    blocks = {block.id: block for dnn in instance.dnns for block in dnn.blocks}
    connections = {(c.source, c.target): c for c in task.connections}
    segments: list[list[Part]] = []
    sizes: list[float] = []

    def add(part: Part, size: float) -> None:
        if segments and segments[-1][0].server == part.server:
            segments[-1].append(part)
            return
        if segments:
            sizes.append(size)
        segments.append([part])

    names = [INPUT, *path, OUTPUT]
    for source, target in zip(names, names[1:], strict=False):
        size = 0.0 if source == INPUT else blocks[source].output_bytes
        connection = connections.get((source, target))
        if connection is not None:
            server = connection.server or host[target if source == INPUT else source]
            if connection.bytes is not None:
                size = connection.bytes
            add(Part("", (source, target), server, connection.flops), size)
        if target != OUTPUT:
            add(Part(target, None, host[target], blocks[target].flops), size)
    found = tuple(Segment(parts[0].server, tuple(parts)) for parts in segments)
    return Route(task_id, rate, tuple(path), found, tuple(sizes))


def routes(instance: Instance, result: Result) -> list[Route]:
    """Return the routes of a result's tasks that run at all (a rate above 0)."""
    return [route(instance, row.task, row.path, row.rate) for row in result.tasks if row.rate > 0.0]


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
    capacity = {server.id: server.flops for server in instance.servers}
    bandwidth = {(link.source, link.target): link.bandwidth for link in instance.links}
    work: dict[str, float] = dict.fromkeys(capacity, 0.0)
    traffic: dict[Ends, float] = defaultdict(float)
    for one in found:
        for segment in one.segments:
            work[segment.server] += one.rate * segment.flops
        for here, there, size in zip(one.segments, one.segments[1:], one.sizes, strict=False):
            traffic[here.server, there.server] += one.rate * size
    return Loads(
        {server: load / capacity[server] for server, load in work.items()},
        {
            ends: load / limit
            for ends, load in traffic.items()
            if (limit := bandwidth.get(ends)) is not None
        },
    )
