"""Seeded random instances that resemble real edges, any size, one record at a time.

Networks, their cuts and their adapters' work are those of torchvision networks, drops and
errors of prediction are resampled from measured ones (:mod:`code_opt.generate.catalogue`);
where services run and who can host whom comes from a layout; capacities, demands, links and
limits are drawn. docs/generate.md lists every distribution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from code_opt.errors import InputError
from code_opt.generate.catalogue import (
    FEWEST_BLOCKS,
    FLOAT_BYTES,
    MOST_BLOCKS,
    Catalogue,
    OwnDrops,
    PairDrops,
    Trunk,
    adapter_cost,
    catalogue,
)
from code_opt.generate.draws import Draws, significant
from code_opt.generate.layouts import LAYOUTS, Tier, Wire
from code_opt.instance.model import BYTES_PER_PARAMETER, INPUT, OUTPUT, SCHEMA

Record = dict[str, Any]

MOST_SERVICES = 1_000_000
IMAGES = ("224", "32", "mixed")
RATE = 60.0
"""Inferences/s that a service of average popularity asks for at load 1."""
HEADROOM = {
    Tier.SMALL: (0.6, 1.6),
    Tier.MIDDLE: (0.6, 1.8),
    Tier.LARGE: (1.2, 2.4),
    Tier.CLOUD: (2.0, 4.0),
}
"""Capacity of a server over the work of its own services at the average rate."""
WIRES: dict[Wire, tuple[float, float, float]] = {
    Wire.ACCESS: (1.25e8, 1e-3, 3e-3),
    Wire.METRO: (1.25e9, 3e-4, 1e-3),
    Wire.BACKBONE: (1.25e9, 2e-3, 6e-3),
    Wire.WIDE: (1.25e8, 1e-2, 2.5e-2),
}
"""Bytes/s of the line (1 or 10 Gbit/s), and the least and greatest delay [s]."""
LINE_SHARE = (0.1, 0.6)
"""Part of a line that inference may use."""
ENCODED_BYTES = {224: 30_000.0, 32: 2_300.0}
"""Bytes of an encoded image by its pixels a side: 0.6 bytes a pixel, as the JPEG files of ImageNet
(138 GB, 1.28 million images of 469 x 387 on average), and the PNG files of CIFAR-10."""
ALTERNATIVE_ACCURACY = (0.9, 1.03)
"""Accuracy of an alternative over that of the task's own network."""
ALTERNATIVE_SAMPLES = 5000.0
"""Images that the accuracy of an alternative was measured on."""
JITTER = 0.004
LONGEST_SKIP = 2
"""Blocks that a skip jumps over at most."""
IDENTITY, COMMON, RESIZED = "identity", "common", "resize"
"""Values of ``share``: no adapter at all; one adapter for all tasks of the group."""


@dataclass(frozen=True)
class EdgeOptions:
    """What to generate, validated on construction.

    Attributes:
        family: one of :data:`code_opt.generate.layouts.LAYOUTS`.
        services: number of services (a DNN and a task each), at least 1.
        seed: seed of all random choices; each option has its own stream, so that asking for
            links, say, changes nothing but the links.
        blocks: least and greatest number of blocks per DNN, within 2 to 8.
        hosts: other services whose trunks a task may use (fewer where fewer are in reach).
        images: ``224``, ``32`` or ``mixed``: pixels a side of what the networks see.
        zipf: exponent of the popularity of services: the demand of rank k is k ** -zipf.
        load: all demands together, in units of what all services ask for on average.
        saturated: share of tasks without a demand, limited by capacity alone.
        links: limit bandwidths and delays between servers, and list the links.
        latency: limit the latency of half of the tasks.
        memory: limit the memory for adapters.
        measured: measured paths per task, at most.
        groups: share of the tasks that look at the same input as others (2 to 4 a group).
        seconds: give the time of all work instead of FLOP/s of servers. Blocks of one network
            differ in FLOP/s, by up to ten times; a whole network takes as long as its FLOPs would.
        alternatives: networks of other services that may answer a task by themselves, at most.

    Raises:
        InputError: a value is out of its range.
    """

    family: str
    services: int
    seed: int = 0
    blocks: tuple[int, int] = (5, 5)
    hosts: int = 2
    images: str = "224"
    zipf: float = 1.0
    load: float = 3.0
    saturated: float = 0.0
    links: bool = False
    latency: bool = False
    memory: bool = False
    measured: int = 0
    groups: float = 0.0
    seconds: bool = False
    alternatives: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        fewest, most = self.blocks
        checks = (
            (self.family in LAYOUTS, f"family {self.family!r}: use one of {', '.join(LAYOUTS)}"),
            (
                1 <= self.services <= MOST_SERVICES,
                f"services {self.services}: must lie in 1 to {MOST_SERVICES}",
            ),
            (0 <= self.seed < 2**31, f"seed {self.seed}: must lie in [0, 2^31)"),
            (
                FEWEST_BLOCKS <= fewest <= most <= MOST_BLOCKS,
                f"blocks {fewest} to {most}: must lie within {FEWEST_BLOCKS} to {MOST_BLOCKS}",
            ),
            (0 <= self.hosts <= 100, f"hosts {self.hosts}: must lie in 0 to 100"),
            (self.images in IMAGES, f"images {self.images!r}: use one of {', '.join(IMAGES)}"),
            (0.0 <= self.zipf <= 10.0, f"zipf {self.zipf}: must lie in [0, 10]"),
            (0.0 < self.load <= 1000.0, f"load {self.load}: must lie in (0, 1000]"),
            (0.0 <= self.saturated <= 1.0, f"saturated {self.saturated}: must lie in [0, 1]"),
            (0 <= self.measured <= 1000, f"measured {self.measured}: must lie in 0 to 1000"),
            (
                0 <= self.alternatives <= 100,
                f"alternatives {self.alternatives}: must lie in 0 to 100",
            ),
            (0.0 <= self.groups <= 1.0, f"groups {self.groups}: must lie in [0, 1]"),
        )
        wrong = [message for holds, message in checks if not holds]
        if wrong:
            raise InputError(f"generate: {'; '.join(wrong)}")


class _Stream:
    """What a stream of random choices is for (part of its seed)."""

    NETWORK, CAPACITY, POPULARITY, TASK, HOSTS, LINK, LATENCY, MEMORY, MEASURED, GROUP = range(10)
    ALTERNATIVE, TIME = 10, 11


class Edge:
    """A random instance: its records, each made when asked for.

    What is kept is a few numbers per service and server; tasks, which hold nearly all of an
    instance, are made one at a time and are independent of each other.

    **Feasible by construction.** Give every task its native path at its standalone rate. Floors
    are ``standalone``, so they hold with equality. A DNN's standalone rates need at most its
    equal share of its server, and of a link that images of its group cross, so nothing is
    overloaded; native paths use no adapters, so memories are idle. Latency limits are at least 1.2
    times the native latency, and there are no floors of accuracy. A group's standalone rate is
    the least that its members' shares allow, so the same holds for it.
    """

    def __init__(self, options: EdgeOptions) -> None:
        self.options = options
        self._catalogue: Catalogue = catalogue()
        self._layout = LAYOUTS[options.family](options.services)
        self._trunks = [self._trunk(i) for i in range(options.services)]
        self._at: list[list[int]] = [[] for _ in self._layout.servers]
        for service, server in enumerate(self._layout.home):
            self._at[server].append(service)
        self._near = self._layout.neighbours()
        self._digits = len(str(options.services - 1))

    # Records of the file.

    def head(self) -> Record:
        """Return what stands before the lists."""
        o = self.options
        asked = [f"images {o.images}", f"load {o.load:g}", f"Zipf {o.zipf:g}"]
        asked += [f"{o.saturated:.0%} saturated"] if o.saturated else []
        asked += [name for name in ("links", "latency", "memory") if getattr(o, name)]
        asked += [f"up to {o.measured} measured paths"] if o.measured else []
        asked += [f"{o.groups:.0%} in groups"] if o.groups else []
        asked += ["in seconds"] if o.seconds else []
        asked += [f"up to {o.alternatives} alternatives"] if o.alternatives else []
        fewest, most = o.blocks
        blocks = str(fewest) if fewest == most else f"{fewest} to {most}"
        return {
            "schema": SCHEMA,
            "name": f"{o.family}-{o.services}-{o.seed}",
            "description": (
                f"Generated ({o.family}, {o.services} services, {blocks} blocks, {o.hosts} hosts, "
                f"seed {o.seed}; {', '.join(asked)}). Counted: blocks and adapters, of torchvision "
                "networks. Resampled from measurements of other services: drops and errors of "
                "prediction. Drawn: everything else."
            ),
        }

    def servers(self) -> Iterator[Record]:
        """Yield the servers."""
        for number, (name, _) in enumerate(self._layout.servers):
            record: Record = {"id": name}
            record["flops"] = None if self.options.seconds else self._capacity[number]
            if self.options.memory:
                record["memory"] = self._memory(number)
            yield record

    def links(self) -> Iterator[Record]:
        """Yield the links: two for each wire, if links are asked for."""
        if not self.options.links:
            return
        for number, (a, b, wire) in enumerate(self._layout.wires):
            draws = self._draws(_Stream.LINK, number)
            line, least, greatest = WIRES[wire]
            delay = significant(draws.between(least, greatest), 3)
            for source, target in ((a, b), (b, a)):
                yield {
                    "source": self._layout.servers[source][0],
                    "target": self._layout.servers[target][0],
                    "bandwidth": significant(line * draws.between(*LINE_SHARE), 3),
                    "latency": delay,
                }

    def dnns(self) -> Iterator[Record]:
        """Yield the DNNs."""
        for i, trunk in enumerate(self._trunks):
            times = self._times(i)
            yield {
                "id": self._dnn(i),
                "server": self._server(i),
                "blocks": [
                    {
                        "id": self._block(i, k),
                        "flops": block.flops,
                        "params": block.params,
                        "output_bytes": block.output_bytes,
                        **times[k],
                    }
                    for k, block in enumerate(trunk.blocks)
                ],
            }

    def tasks(self) -> Iterator[Record]:
        """Yield the tasks."""
        return map(self._task, range(self.options.services))

    @staticmethod
    def tail() -> Record:
        """Return what stands after the lists."""
        return {
            "reward": {
                "accuracy": {"kind": "power", "exponent": 4.0},
                "throughput": {"kind": "power", "exponent": 1.0},
            }
        }

    def record(self) -> Record:
        """Return the whole instance as plain data."""
        lists = {n: list(getattr(self, n)()) for n in ("servers", "links", "dnns", "tasks")}
        return {**self.head(), **lists, **self.tail()}

    # Services and servers.

    def _draws(self, stream: int, number: int = 0) -> Draws:
        return Draws(self.options.seed, self.options.services, stream, number)

    def _trunk(self, i: int) -> Trunk:
        draws = self._draws(_Stream.NETWORK, i)
        tier = self._layout.servers[self._layout.home[i]][1]
        small = draws.share() < 0.5
        images = {"224": 224, "32": 32}.get(self.options.images, 32 if small else 224)
        networks = self._catalogue.of_size(images)
        part = -(-2 * len(networks) // 3)  # small places run the lighter two thirds, ...
        if tier is Tier.SMALL:
            networks = networks[:part]
        elif tier in (Tier.LARGE, Tier.CLOUD):
            networks = networks[-part:]
        network = draws.pick(networks)
        fewest, most = self.options.blocks
        blocks = fewest + draws.index(most - fewest + 1)
        return Trunk(network.architecture, images, network.cuts[blocks])

    def _times(self, i: int) -> list[Record]:
        """Return the times of a network's blocks as keys of their records, if asked for."""
        blocks = self._trunks[i].blocks
        if not self.options.seconds:
            return [{} for _ in blocks]
        draws = self._draws(_Stream.TIME, i)
        times = [block.flops * 10.0 ** draws.between(-0.5, 0.5) for block in blocks]
        scale = self._trunks[i].flops / math.fsum(times) / self._capacity[self._layout.home[i]]
        return [{"seconds": scale * time} for time in times]

    def _adapter_time(self, i: int, flops: float) -> Record:
        """Return the time of an adapter on the server of a service, if asked for."""
        if not self.options.seconds:
            return {}
        return {"seconds": flops / self._capacity[self._layout.home[i]]}

    @cached_property
    def _capacity(self) -> list[float]:
        """FLOP/s of each server."""
        found = []
        for number, (_, tier) in enumerate(self._layout.servers):
            draws = self._draws(_Stream.CAPACITY, number)
            work = sum(self._trunks[i].flops for i in self._at[number])
            found.append(significant(work * RATE * draws.between(*HEADROOM[tier])))
        return found

    @cached_property
    def _demand(self) -> list[float | None]:
        """Demand of each task [inferences/s], Zipf over services in random order."""
        o = self.options
        draws = self._draws(_Stream.POPULARITY)
        popularity = [rank**-o.zipf for rank in range(1, o.services + 1)]
        mean = math.fsum(popularity) / o.services
        order = draws.shuffled(range(o.services))
        found: list[float | None] = [0.0] * o.services
        for share, i in zip(popularity, order, strict=True):
            found[i] = significant(o.load * RATE * share / mean)
        for i in range(o.services):
            if draws.share() < o.saturated:
                found[i] = None
        for members in self._groups:
            for i in members[1:]:
                found[i] = found[members[0]]
        return found

    @cached_property
    def _groups(self) -> list[list[int]]:
        """Tasks that look at the same input: neighbours, 2 to 4 a group.

        Groups form around the services with the widest reach (hubs, regions), of those with
        the narrowest: the other way round spokes would be left without a group to join.
        """
        wanted = round(self.options.groups * self.options.services)
        if wanted < 2:
            return []
        draws = self._draws(_Stream.GROUP)
        everyone = range(self.options.services)
        width = [len(self._reach(i)) for i in everyone]
        free = set(everyone)
        groups: list[list[int]] = []
        for first in sorted(draws.shuffled(everyone), key=lambda i: -width[i]):
            size = 2 + draws.index(3)
            if first not in free:
                continue
            near = [i for i in self._reach(first) if i in free]
            mixed = sorted(draws.shuffled(near), key=lambda i: width[i])
            members = [first, *mixed[: min(size, wanted) - 1]]
            if len(members) < 2:
                continue
            free.difference_update(members)
            groups.append(members)
            wanted -= len(members)
            if wanted < 2:
                break
        return groups

    @cached_property
    def _group_of(self) -> dict[int, int]:
        return {i: g for g, members in enumerate(self._groups) for i in members}

    def _reach(self, i: int) -> list[int]:
        """Return the services whose trunks a task can reach: on its server or next to it."""
        near = self._near[self._layout.home[i]]
        return [j for j in itertools.chain.from_iterable(self._at[s] for s in near) if j != i]

    def _memory(self, server: int) -> float:
        """Return the free memory for adapters: some layers of 1x1 convolutions per service."""
        draws = self._draws(_Stream.MEMORY, server)
        total = 0.0
        for i in self._at[server]:
            widths = [block.shape[0] ** 2 for block in self._trunks[i].blocks[:-1]]
            total += BYTES_PER_PARAMETER * sum(widths) / len(widths)
        return significant(total * draws.between(1.0, 6.0))

    # Names.

    def _dnn(self, i: int) -> str:
        return f"{self._trunks[i].architecture}-{i:0{self._digits}d}"

    def _block(self, i: int, number: int) -> str:
        return f"{self._dnn(i)}/{number}"

    def _server(self, i: int) -> str:
        return self._layout.servers[self._layout.home[i]][0]

    # Tasks.

    def _task(self, i: int) -> Record:
        draws = self._draws(_Stream.TASK, i)
        accuracy = round(draws.between(0.65, 0.95), 4)
        record: Record = {
            "id": f"task-{i:0{self._digits}d}",
            "dnn": self._dnn(i),
            "accuracy": accuracy,
        }
        if self._demand[i] is not None:
            record["demand"] = self._demand[i]
        record["floor"] = "standalone"
        if self.options.latency:
            limit = self._draws(_Stream.LATENCY, i)
            native = self._trunks[i].flops / self._capacity[self._layout.home[i]]
            if limit.share() < 0.5:
                native += self._way(i)
                record["max_latency"] = significant(native * limit.between(1.2, 3.0))
        if i in self._group_of:
            record["input_group"] = f"camera-{self._group_of[i]:0{self._digits}d}"
        record["input_bytes"] = self._input_bytes(i)
        if i in self._group_of:
            record["origin"] = self._server(self._camera(i))
        connections = self._own_connections(i, draws)
        for j in self._hosts(i):
            connections += self._host_connections(i, j, draws)
        record["connections"] = connections
        if self.options.measured:
            found = self._measured(i, accuracy, connections)
            if found:
                record["measured_paths"] = found
        if self.options.alternatives:
            record["alternatives"] = self._alternatives(i, accuracy)
        return record

    def _alternatives(self, i: int, accuracy: float) -> list[Record]:
        """Return networks of other services that take the same images, with heads for the task."""
        draws = self._draws(_Stream.ALTERNATIVE, i)
        near = self._near[self._layout.home[self._camera(i) if i in self._group_of else i]]
        alike = [
            j
            for j in draws.shuffled(self._reach(i))
            if self._layout.home[j] in near and self._trunks[j].images == self._trunks[i].images
        ]
        return [
            {
                "dnn": self._dnn(j),
                "accuracy": round(min(accuracy * draws.between(*ALTERNATIVE_ACCURACY), 1.0), 4),
                "samples": ALTERNATIVE_SAMPLES,
            }
            for j in sorted(alike[: self.options.alternatives])
        ]

    def _input_bytes(self, i: int) -> float:
        """Return the bytes of an image; all tasks of a group look at the largest that one takes."""
        members = self._groups[self._group_of[i]] if i in self._group_of else [i]
        return max(ENCODED_BYTES[self._trunks[member].images] for member in members)

    def _camera(self, i: int) -> int:
        """Return the service of a task's group beside which its camera stands: all are near it."""
        return self._groups[self._group_of[i]][0]

    def _way(self, i: int) -> float:
        """Return how long an image takes from its group's camera to the task's server [s]."""
        if i not in self._group_of or not self.options.links:
            return 0.0
        ends = self._server(self._camera(i)), self._server(i)
        link = self._links.get(ends)
        return 0.0 if link is None else self._input_bytes(i) / link["bandwidth"] + link["latency"]

    @cached_property
    def _links(self) -> dict[tuple[str, str], Record]:
        return {(link["source"], link["target"]): link for link in self.links()}

    def _hosts(self, i: int) -> list[int]:
        """Return the services whose trunks the task may use, those of its group first."""
        draws = self._draws(_Stream.HOSTS, i)
        mixed = draws.shuffled(self._reach(i))
        if i in self._group_of:
            mates = set(self._groups[self._group_of[i]])
            mixed.sort(key=lambda j: j not in mates)
        return sorted(mixed[: self.options.hosts])

    def _own_connections(self, i: int, draws: Draws) -> list[Record]:
        """Return skips over one or two blocks, and exits before the last block."""
        trunk, blocks = self._trunks[i], len(self._trunks[i])
        drops: OwnDrops = draws.pick(self._catalogue.own)
        scale = draws.between(0.5, 1.5)
        found = []
        for k in range(blocks - 1):
            for target in range(k + 2, min(k + LONGEST_SKIP + 2, blocks)):
                drop = drops.skip((k + 1) / blocks, target / blocks)
                found.append(self._join(i, k, i, target, scale * drop, draws))
        for k in range(blocks - 1):
            drop = drops.exit((k + 1) / blocks)
            shape = trunk.blocks[k].shape
            found.append(self._leave(i, k, shape, scale * drop, draws))
        return [record for record in found if record]

    def _host_connections(self, i: int, j: int, draws: Draws) -> list[Record]:
        """Return the ways into a host, at like depths there and back, and out of it."""
        own, host = self._trunks[i], self._trunks[j]
        drops: PairDrops = draws.pick(self._catalogue.pairs)
        scale = draws.between(0.5, 1.5)
        entry: Record = {
            "source": INPUT,
            "target": self._block(j, 0),
            "drop": _drop(scale * drops.entry, draws),
        }
        if self._are_mates(i, j):
            entry["share"] = IDENTITY if own.images == host.images else RESIZED
        camera = self._layout.home[self._camera(i) if i in self._group_of else i]
        found = [entry] if self._layout.home[j] in self._near[camera] else []
        n, m = len(own), len(host)
        for k, v in _like_depths(n, m):
            if v < m - 1:  # the host's last block leads nowhere
                drop = scale * drops.leave((k + 1) / n)
                found.append(self._join(i, k, j, v, drop, draws))
        for k, v in _like_depths(m, n):
            drop = scale * drops.come_back(v / n)
            found.append(self._join(j, k, i, v, drop, draws))
        for k in range(m - 1):
            drop = scale * drops.exit((k + 1) / m)
            found.append(self._leave(j, k, host.blocks[k].shape, drop, draws))
        return [record for record in found if record]

    def _are_mates(self, i: int, j: int) -> bool:
        return i in self._group_of and self._group_of[i] == self._group_of.get(j)

    def _join(self, i: int, k: int, j: int, v: int, drop: float, draws: Draws) -> Record:
        """Return the connection from a block to a block, or nothing where no adapter fits.

        The adapter runs where less has to be sent: on the source's server it hands on what
        the target takes, on the target's server it is sent what the source makes.
        """
        drawn = _drop(drop, draws)  # drawn even if unused: the draws stay aligned
        source, shape = self._trunks[i].blocks[k], self._trunks[j].input_shape(v)
        cost = adapter_cost(source.shape, shape)
        if cost is None:
            return {}
        record: Record = {
            "source": self._block(i, k),
            "target": self._block(j, v),
            "drop": drawn,
            "flops": cost[0],
            "params": cost[1],
        }
        taken = FLOAT_BYTES * math.prod(shape)
        place = i
        if taken < source.output_bytes:
            record["bytes"] = taken
        elif self._server(i) != self._server(j):
            record["server"], place = self._server(j), j
        record |= self._adapter_time(place, cost[0])
        if self._are_mates(i, j):
            record["share"] = COMMON
        return record

    def _leave(self, i: int, k: int, shape: tuple[int, ...], drop: float, draws: Draws) -> Record:
        """Return an exit: a pooled linear head on a block's output."""
        classes = self._catalogue.classes
        cost = adapter_cost(shape, (classes,))
        assert cost is not None  # a head fits everything
        return {
            "source": self._block(i, k),
            "target": OUTPUT,
            "drop": _drop(drop, draws),
            "flops": cost[0],
            "params": cost[1],
            **self._adapter_time(i, cost[0]),
        }

    def _measured(self, i: int, accuracy: float, connections: list[Record]) -> list[Record]:
        """Return random walks through the task's graph with an accuracy near the predicted."""
        draws = self._draws(_Stream.MEASURED, i)
        steps: dict[str, list[tuple[str, float]]] = {INPUT: [(self._block(i, 0), 0.0)]}
        for dnn in sorted({i, *self._hosts(i)}):
            for k in range(len(self._trunks[dnn]) - 1):
                steps[self._block(dnn, k)] = [(self._block(dnn, k + 1), 0.0)]
        steps[self._block(i, len(self._trunks[i]) - 1)] = [(OUTPUT, 0.0)]
        for record in connections:
            steps.setdefault(record["source"], []).append((record["target"], record["drop"]))
        native = tuple(self._block(i, k) for k in range(len(self._trunks[i])))
        seen: dict[tuple[str, ...], float] = {}
        for _ in range(4 * self.options.measured):
            if len(seen) == self.options.measured:
                break
            node, path, drop = INPUT, [], 0.0
            while node != OUTPUT and node in steps:  # a host's end leads nowhere
                node, step = draws.pick(steps[node])
                drop += step
                path.append(node)
            off = self._catalogue.error(draws.share())
            blocks = tuple(path[:-1])
            predicted = min(accuracy - drop, 1.0)
            if node == OUTPUT and blocks != native and predicted > 0.0:
                value = min(max(predicted + off, 0.0), 1.0)
                seen.setdefault(blocks, round(value, 4))
        return [{"blocks": list(path), "accuracy": value} for path, value in seen.items()]


def _like_depths(n: int, m: int) -> Iterator[tuple[int, int]]:
    """Yield (k, v): after block k of n blocks, on with block v of m, at about the same depth.

    Depths differ by less than half a block of the finer network, and every block moves ahead
    by at least a whole one: so no cycle can come of it, whatever the hosts.
    """
    for k in range(n - 1):
        for v in range(1, m):
            if abs((k + 1) * m - v * n) * 2 * max(n, m) < n * m:
                yield k, v


def _drop(value: float, draws: Draws) -> float:
    return round(value + draws.between(-JITTER, JITTER), 4) + 0.0
