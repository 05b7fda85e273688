"""What can be bought: units of servers and links, as records of an instance and as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from code_opt.instance.model import Instance, Link, Server
from code_opt.paths.graph import FloatArray, Resource, ResourceKind
from code_opt.planning.settings import check_amounts
from code_opt.planning.tolerances import NOISE

Key = tuple[str, ...]
"""``(server,)``, or ``(source, target)`` of a link."""


@dataclass(frozen=True)
class CapacityKind:
    """Servers or links: where an instance, a result and the tables of plans hold them."""

    kind: ResourceKind
    """Kind of the resource."""
    records: str
    """Name of the records in an instance and in a result, and of tables."""
    key: tuple[str, ...]
    """Fields that name a record."""
    columns: tuple[str, ...]
    """Columns that name it in tables."""
    capacity: str
    """Field of its capacity."""
    unit: str
    """Field of the size of one unit that can be bought."""
    suffix: str
    """Ends the names of columns that hold amounts of it."""
    measure: str
    """Unit of measurement of amounts, in messages."""

    def key_of(self, record: Server | Link) -> Key:
        """Return the name of a record."""
        return tuple(getattr(record, field) for field in self.key)

    def capacity_of(self, record: Server | Link) -> float | None:
        """Return the capacity [FLOP/s or bytes/s], None where it is unlimited."""
        return getattr(record, self.capacity)

    def unit_of(self, record: Server | Link) -> float | None:
        """Return the size of one unit [FLOP/s or bytes/s], None where none is sold."""
        return getattr(record, self.unit)


SERVERS = CapacityKind(
    *("server", "servers", ("id",), ("server",)), *("flops", "unit_flops", "flop_per_s", "FLOP/s")
)
LINKS = CapacityKind(
    *("link", "links", ("source", "target"), ("source", "target")),
    *("bandwidth", "unit_bandwidth", "bytes_per_s", "B/s"),
)
CAPACITY_KINDS = {kind.kind: kind for kind in (SERVERS, LINKS)}
"""The kinds of capacity that can be bought, by the kind of resource."""


def records_of(instance: Instance) -> Iterator[tuple[CapacityKind, Key, Server | Link]]:
    """Yield every server and link of an instance with its kind and its name."""
    for kind in CAPACITY_KINDS.values():
        for record in getattr(instance, kind.records):
            yield kind, kind.key_of(record), record


def with_capacity(instance: Instance, more: Mapping[Key, float]) -> Instance:
    """Return the instance with more capacity [FLOP/s or bytes/s] of some limited places."""
    changed: dict[str, list[Server | Link]] = {kind.records: [] for kind in CAPACITY_KINDS.values()}
    for kind, key, record in records_of(instance):
        present = kind.capacity_of(record)
        if present is not None and more.get(key):
            record = record.model_copy(update={kind.capacity: present + more[key]})
        changed[kind.records].append(record)
    return instance.model_copy(update={name: tuple(of) for name, of in changed.items()})


def with_units(instance: Instance, sizes: Mapping[str, float | None]) -> Instance:
    """Return the instance with a size of units where it has none.

    Args:
        instance: what is planned for.
        sizes: by field, ``unit_flops`` and ``unit_bandwidth``.
    """
    changed: dict[str, Any] = {}
    for kind in CAPACITY_KINDS.values():
        changed[kind.records] = tuple(
            record.model_copy(update={kind.unit: sizes[kind.unit]})
            if kind.unit_of(record) is None
            else record
            for record in getattr(instance, kind.records)
        )
    return instance.model_copy(update=changed)


@dataclass(frozen=True)
class Offers:
    """What can be bought of I resources, in shares of what their uses are counted in."""

    present: FloatArray
    """Capacity without any unit: 1 at first, inf where nothing is limited; shape (I,)."""
    unit: FloatArray
    """Size of one unit, 0 where none is sold; shape (I,)."""
    price: FloatArray
    """Price of one unit, shape (I,)."""
    sold: FloatArray
    """Most units that are sold, inf where unlimited, 0 where none is sold; shape (I,)."""

    @classmethod
    def of(cls, instance: Instance, resources: tuple[Resource, ...]) -> Offers:
        """Return what an instance offers of its resources.

        Raises:
            InputError: prices are too far from each other.
        """
        records = {(kind.kind, key): (kind, record) for kind, key, record in records_of(instance)}
        present = np.array([1.0 if math.isfinite(r.capacity) else math.inf for r in resources])
        unit, price, sold = np.zeros((3, len(resources)))
        for i, resource in enumerate(resources):
            if (resource.kind, resource.key) not in records:
                continue
            kind, record = records[resource.kind, resource.key]
            size, most = kind.unit_of(record), record.max_units
            price[i] = record.cost
            if size is not None:
                unit[i] = size / resource.capacity
                sold[i] = math.inf if most is None else most
        names = [resource.name for resource in resources]
        for_sale = {n: p for n, p, s in zip(names, price.tolist(), sold, strict=True) if s > 0.0}
        check_amounts("price of a unit", for_sale)
        return cls(present, unit, price, sold)

    def units_for(self, load: FloatArray) -> FloatArray:
        """Return the least units that carry loads (inf where none is sold), shape like ``load``.

        This is the one rule: ceil((load - present) / unit), a load counting as less by the share
        ``NOISE``, which is what rounding may have added.

        Args:
            load: of the resources, shape (..., I).
        """
        excess = np.maximum(load - self.present - NOISE * np.maximum(load, self.present), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.ceil(excess / self.unit)
        return np.where(excess > 0.0, units, 0.0)

    def cost(self, units: FloatArray) -> float:
        """Return the price of units, shape (I,)."""
        return float(units @ self.price)

    def capacity(self, units: FloatArray) -> FloatArray:
        """Return the capacities with units, shape (I,)."""
        return self.present + np.where(self.unit > 0.0, self.unit * units, 0.0)

    def fixed(self, units: FloatArray) -> Offers:
        """Return the offers when some units, shape (I,), are bought and no more are sold."""
        nothing = np.zeros(len(units))
        return replace(self, present=self.capacity(units), unit=nothing, sold=nothing)

    @cached_property
    def largest(self) -> FloatArray:
        """The capacities with all units that are sold, inf where unlimited, shape (I,)."""
        return self.capacity(self.sold)

    @cached_property
    def price_per_capacity(self) -> FloatArray:
        """Price of capacity, 0 where none is sold, shape (I,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.unit > 0.0, self.price / self.unit, 0.0)
