"""Families of edges: where services run, and which servers exchange activations.

A layout knows sites and wires only; networks, work and demands come later
(:mod:`code_opt.generate.edge`). Every family takes any number of services.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

CELL = 16
"""Services around one hub."""
HUB_SHARE = 4
"""One service in so many of a cell runs on its hub."""
RING = 12
"""Servers on one metro ring."""
PER_RING_SERVER = 2
REGION = 20
"""Services below one regional server, its own included."""
REGION_SHARE = 6
CLOUD_SHARE = 25
CLOUD = 1000
"""Services below one cloud, its own included: reach, and so cost, stays linear in the size."""


class Tier(StrEnum):
    """What kind of place a server stands in."""

    SMALL = "small"
    MIDDLE = "middle"
    LARGE = "large"
    CLOUD = "cloud"


class Wire(StrEnum):
    """Kinds of links."""

    ACCESS = "access"
    METRO = "metro"
    BACKBONE = "backbone"
    WIDE = "wide"
    """To the cloud."""


@dataclass
class Layout:
    """Servers, the services on them, and the wires between them."""

    servers: list[tuple[str, Tier]] = field(default_factory=list)
    home: list[int] = field(default_factory=list)
    """Number of the server of each service."""
    wires: list[tuple[int, int, Wire]] = field(default_factory=list)
    """Pairs of servers; activations go both ways."""

    def add(self, name: str, tier: Tier, services: int) -> int:
        """Add a server with so many services and return its number."""
        self.servers.append((name, tier))
        number = len(self.servers) - 1
        self.home += [number] * services
        return number

    def connect(self, a: int, b: int, wire: Wire) -> None:
        """Join two servers."""
        self.wires.append((a, b, wire))

    def ring(self, members: list[int], wire: Wire) -> None:
        """Join servers in a ring (two of them by one wire)."""
        for k, a in enumerate(members):
            b = members[(k + 1) % len(members)]
            if a != b and not (len(members) == 2 and k):
                self.connect(a, b, wire)

    def neighbours(self) -> list[list[int]]:
        """Return for each server those that it exchanges activations with, itself first."""
        found = [[number] for number in range(len(self.servers))]
        for a, b, _ in self.wires:
            found[a].append(b)
            found[b].append(a)
        return found


def hub_and_spoke(services: int) -> Layout:
    """Return cells of up to 16 services: a hub with a quarter of them, each other one on a spoke.

    Spokes are wired to their hub; the hubs make a ring. Hubs hold the heavier networks.
    """
    layout = Layout()
    hubs = []
    cells = _split(services, CELL)
    for c, size in enumerate(cells):
        at_hub = max(1, size // HUB_SHARE)
        name = _number(c, len(cells))
        hub = layout.add(f"hub-{name}", Tier.LARGE, at_hub)
        hubs.append(hub)
        for k in range(size - at_hub):
            spoke = layout.add(f"spoke-{name}-{k:02d}", Tier.SMALL, 1)
            layout.connect(spoke, hub, Wire.ACCESS)
    layout.ring(hubs, Wire.BACKBONE)
    return layout


def metro_ring(services: int) -> Layout:
    """Return rings of up to 12 servers with two services each; neighbours are wired.

    The first server of each ring stands on a ring of rings.
    """
    layout = Layout()
    gates = []
    servers = -(-services // PER_RING_SERVER)
    left = services
    rings = _split(servers, RING)
    for c, size in enumerate(rings):
        members = []
        for k in range(size):
            count = min(PER_RING_SERVER, left)
            left -= count
            name = f"ring-{_number(c, len(rings))}-{k:02d}"
            members.append(layout.add(name, Tier.MIDDLE, count))
        layout.ring(members, Wire.METRO)
        gates.append(members[0])
    layout.ring(gates, Wire.BACKBONE)
    return layout


def hierarchy(services: int) -> Layout:
    """Return clouds of up to 1,000 services, regions of up to 20, and edge sites.

    A cloud has one service in 25 of those below it, a region's server a sixth of those of its
    region, and each other service runs on an edge site of its own. Sites are wired to their
    region and, thinner, to their cloud; regions to their cloud; clouds make a ring.
    """
    layout = Layout()
    clouds = []
    parts = _split(services, CLOUD)
    for part, below in enumerate(parts):
        in_cloud = max(1, below // CLOUD_SHARE) if below > 1 else 0
        name = _number(part, len(parts))
        cloud = layout.add(f"cloud-{name}", Tier.CLOUD, in_cloud) if in_cloud else None
        clouds += [] if cloud is None else [cloud]
        regions = _split(below - in_cloud, REGION)
        for c, size in enumerate(regions):
            _region(layout, f"{name}-{_number(c, len(regions))}", size, cloud)
    layout.ring(clouds, Wire.BACKBONE)
    return layout


def _region(layout: Layout, name: str, size: int, cloud: int | None) -> None:
    """Add a region's server and its edge sites, below a cloud if there is one."""
    in_region = max(1, size // REGION_SHARE) if size > 1 else 0
    region = layout.add(f"region-{name}", Tier.LARGE, in_region) if in_region else None
    if region is not None and cloud is not None:
        layout.connect(region, cloud, Wire.BACKBONE)
    for k in range(size - in_region):
        edge = layout.add(f"edge-{name}-{k:02d}", Tier.SMALL, 1)
        if region is not None:
            layout.connect(edge, region, Wire.ACCESS)
        if cloud is not None:
            layout.connect(edge, cloud, Wire.WIDE)


LAYOUTS: dict[str, Callable[[int], Layout]] = {
    "hub-and-spoke": hub_and_spoke,
    "metro-ring": metro_ring,
    "hierarchy": hierarchy,
}
"""Families by name."""


def _split(count: int, most: int) -> list[int]:
    """Return the sizes of the fewest parts of at most so many, as equal as possible."""
    parts = -(-count // most)
    return [count // parts + (k < count % parts) for k in range(parts)]


def _number(value: int, count: int) -> str:
    return f"{value:0{len(str(count - 1))}d}"
