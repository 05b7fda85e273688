"""Kinds of resources: all that tells one limited thing from another stands here.

A kind says which records have it, how much of it there is and in which unit, whether it is paid
per inference or once for a chosen path, whether more of it can be bought, and what a block, an
adapter or a transfer takes of it. Everything else treats all kinds alike.

Amounts are shares of the capacity, so that every capacity is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from code_opt.instance.model import (
    BYTES_PER_PARAMETER,
    Block,
    Connection,
    Instance,
    Link,
    Server,
)
from code_opt.instance.ranges import SMALLEST


class Offer(NamedTuple):
    """Units of capacity that can be bought."""

    size: float
    """One unit in the unit of the capacity."""
    price: float
    most: float
    """Most units; infinite where unlimited."""
    yearly: float = 0.0
    """Price of one unit in each year that it stands."""


class Measure(NamedTuple):
    """A unit in which plans tell capacities and loads of a kind, and where these are found."""

    suffix: str
    """Ends the names of columns."""
    record: str
    """Field of the record with the capacity."""
    capacity: str
    """Field of a result's row with the capacity."""
    load: str
    """Field of a result's row with the load."""


class ResourceKind:
    """What all resources of a kind have in common; see the module."""

    name: ClassVar[str]
    """Word before the name of the place, in messages."""
    unit: ClassVar[str]
    """Unit of the capacity, in messages."""
    measures: ClassVar[tuple[Measure, ...]] = ()
    """Units that plans tell it in, for kinds that are sold; all records have the last one."""
    records: ClassVar[str]
    """Field of the instance with the records that can have it: ``servers`` or ``links``; empty
    for what no record has."""
    is_rate: ClassVar[bool]
    """Whether it is paid per inference; else once for a path that is chosen."""
    is_sold: ClassVar[bool] = False
    """Whether more of it can be bought."""

    def capacity(self, record: Any) -> float | None:
        """Return how much of it a record has, None where it is unlimited."""
        raise NotImplementedError

    def key_of(self, record: Any) -> tuple[str, ...]:
        """Return what tells the record from others of the kind."""
        return key_of(record)

    def unit_of(self, record: Any) -> str:  # noqa: ARG002
        """Return the unit of a record's capacity, where it is not that of all."""
        return self.unit

    def offer(self, record: Any) -> Offer | None:  # noqa: ARG002
        """Return what can be bought of it, None for nothing."""
        return None

    def enlarged(self, record: Any, more: float) -> Any:
        """Return a record with so much more of it, in the unit of the capacity."""
        raise NotImplementedError


class ServerBudget(ResourceKind):
    """A kind that every server can have; the adapters and blocks that it runs use it."""

    records = "servers"

    def of_adapter(self, server: Server, connection: Connection) -> float | None:  # noqa: ARG002
        """Return the share of the capacity that an adapter uses, None for nothing."""
        return None

    def of_block(self, server: Server, block: Block) -> float | None:  # noqa: ARG002
        """Return the share of the capacity that a block uses, None for nothing."""
        return None

    def of_arrival(self, server: Server) -> float | None:  # noqa: ARG002
        """Return the share that an input uses which arrives here alone, None for nothing."""
        return None


class LinkBudget(ResourceKind):
    """A kind that every link can have; what crosses it uses it."""

    records = "links"

    def of_transfer(self, link: Link, size: float) -> float:
        """Return the share of the capacity that a transfer of so many bytes uses."""
        raise NotImplementedError


class ServerTime(ServerBudget):
    """Time of a server's devices; its capacity is given as FLOP/s of all of them if it has any."""

    name, unit = "server", "FLOP/s"
    is_rate = is_sold = True
    measures = (
        Measure("flop_per_s", "flops", "capacity", "load"),
        Measure("devices", "devices", "devices", "busy_devices"),
    )

    def capacity(self, record: Server) -> float:
        """See :class:`ResourceKind`."""
        return record.devices if record.flops is None else record.flops

    def unit_of(self, record: Server) -> str:
        """See :class:`ResourceKind`."""
        return "devices" if record.flops is None else self.unit

    def offer(self, record: Server) -> Offer | None:
        """See :class:`ResourceKind`."""
        size = record.unit_flops
        if size is None and record.unit_devices is not None:
            size = record.unit_devices * (1.0 if record.speed is None else record.speed)
        return _offer(size, record)

    def enlarged(self, record: Server, more: float) -> Server:
        """Return a server with more devices, each as fast as those that are there."""
        if record.flops is None:
            return record.model_copy(update={"devices": record.devices + more})
        flops = record.flops + more
        devices = record.devices * (flops / record.flops)
        return record.model_copy(update={"flops": flops, "devices": devices})

    def of_adapter(self, server: Server, connection: Connection) -> float | None:
        """See :class:`ServerBudget`."""
        time = server.device_time(connection)
        return time / server.usable_devices if time > 0.0 else None

    def of_block(self, server: Server, block: Block) -> float:
        """See :class:`ServerBudget`."""
        time = server.device_time(block)
        return time / server.usable_devices if time > 0.0 else 0.0


class Bandwidth(LinkBudget):
    """Bytes per second of a link."""

    name, unit = "link", "bytes/s"
    is_rate = is_sold = True
    measures = (Measure("bytes_per_s", "bandwidth", "capacity", "load"),)

    def capacity(self, record: Link) -> float | None:
        """See :class:`ResourceKind`."""
        return record.bandwidth

    def offer(self, record: Link) -> Offer | None:
        """See :class:`ResourceKind`."""
        return _offer(record.unit_bandwidth, record)

    def enlarged(self, record: Link, more: float) -> Link:
        """See :class:`ResourceKind`."""
        return record.model_copy(update={"bandwidth": (record.bandwidth or 0.0) + more})

    def of_transfer(self, link: Link, size: float) -> float:
        """See :class:`LinkBudget`."""
        return size / (link.bandwidth or math.inf)


class Memory(ServerBudget):
    """Memory of a server that adapters take, whatever their rates."""

    name, unit = "memory", "bytes"
    is_rate = False

    def capacity(self, record: Server) -> float | None:
        """See :class:`ResourceKind`."""
        return record.memory

    def of_adapter(self, server: Server, connection: Connection) -> float | None:
        """See :class:`ServerBudget`."""
        if connection.params <= 0.0:
            return None
        # No memory at all still needs a unit: every adapter is then larger than 1.
        return BYTES_PER_PARAMETER * connection.params / (server.memory or SMALLEST)


class Visits(ServerBudget):
    """Blocks, and adapters with a server of their own, that run without any work, and inputs.

    They limit nothing. In questions in which it matters where a path goes even if it does
    nothing there (a failed server) they tell its servers.
    """

    name, unit = "visit", ""
    is_rate = False

    def capacity(self, record: Server) -> float:  # noqa: ARG002
        """See :class:`ResourceKind`."""
        return math.inf

    def of_adapter(self, server: Server, connection: Connection) -> float | None:
        """See :class:`ServerBudget`."""
        is_idle = server.device_time(connection) <= 0.0
        return 1.0 if is_idle and connection.server is not None else None

    def of_block(self, server: Server, block: Block) -> float | None:
        """See :class:`ServerBudget`."""
        return 1.0 if server.device_time(block) <= 0.0 else None

    def of_arrival(self, server: Server) -> float:  # noqa: ARG002
        """See :class:`ServerBudget`."""
        return 1.0


SERVER_TIME = ServerTime()
"""What the load and utilisation of a server in results are of."""
VISITS = Visits()
"""Only counted where a question needs it."""
KINDS: tuple[ResourceKind, ...] = (SERVER_TIME, Bandwidth(), Memory())
"""All kinds that limit something, in the order of all tables."""


@dataclass(frozen=True)
class Resource:
    """One limited thing that paths use; its capacity is 1 in the units of task graphs."""

    kind: ResourceKind
    record: Any
    """Server, link, or what else a kind is of."""

    @property
    def key(self) -> tuple[str, ...]:
        """``(server,)``, or ``(source, target)`` of a link."""
        return self.kind.key_of(self.record)

    @property
    def server(self) -> str | None:
        """The server that has it, None for what a link has."""
        return self.record.id if isinstance(self.record, Server) else None

    @property
    def capacity(self) -> float:
        """Capacity in the unit of the file, infinite where it is only counted."""
        found = self.kind.capacity(self.record)
        return math.inf if found is None else found

    @property
    def is_rate(self) -> bool:
        """Whether it is paid per inference (servers and links)."""
        return self.kind.is_rate

    @property
    def is_limited(self) -> bool:
        """Whether there is a most of it."""
        return math.isfinite(self.capacity)

    @property
    def offer(self) -> Offer | None:
        """What can be bought of it, None for nothing."""
        return self.kind.offer(self.record)

    @property
    def unit(self) -> str:
        """Unit of the capacity."""
        return self.kind.unit_of(self.record)

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.kind.name} {' -> '.join(self.key)}"


def list_resources(instance: Instance, kinds: Sequence[ResourceKind]) -> Iterator[Resource]:
    """Yield the resources of an instance that are not unlimited, kind by kind."""
    for kind in kinds:
        for record in getattr(instance, kind.records):
            if kind.capacity(record) is not None:
                yield Resource(kind, record)


def enlarged(instance: Instance, more: Iterable[tuple[Resource, float]]) -> Instance:
    """Return the instance with more of some resources.

    Args:
        instance: whose records the resources are of.
        more: a resource and what is added to it, in the unit of its capacity.
    """
    records = {
        (name, key_of(record)): record
        for name in ("servers", "links")
        for record in getattr(instance, name)
    }
    for resource, amount in more:
        place = resource.kind.records, resource.key
        records[place] = resource.kind.enlarged(records[place], amount)
    found: dict[str, list[Any]] = {"servers": [], "links": []}
    for (name, _), record in records.items():
        found[name].append(record)
    return instance.model_copy(update={name: tuple(found[name]) for name in found})


def key_of(record: Server | Link) -> tuple[str, ...]:
    """Return ``(server,)``, or ``(source, target)`` of a link."""
    return (record.id,) if isinstance(record, Server) else (record.source, record.target)


def _offer(size: float | None, record: Server | Link) -> Offer | None:
    if size is None:
        return None
    most = math.inf if record.max_units is None else record.max_units
    return Offer(size, record.cost, most, record.yearly_cost)
