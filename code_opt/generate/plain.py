"""Seeded random instances: services that host each other, as many as asked for.

Every service has a server, a DNN of ``blocks`` blocks and one task. A task may use the
trunks of ``hosts`` other services: cross-connections into them and back, exits from
them, and skips and exits within its own DNN. Tasks can be put into input groups: then all
of a group may use the trunk of its first task, from the first block on. The figures are
illustrative: block work
follows the log-normal spread of common vision networks (about 0.1 to 10 GFLOP per
inference), drops grow with the share of the native network that a connection replaces.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from code_opt.instance import Instance, parse_instance
from code_opt.instance.model import IDENTITY, INPUT, OUTPUT, SCHEMA


def generate(
    services: int,
    *,
    blocks: int = 5,
    hosts: int = 2,
    seed: int = 0,
    limited_demand: float = 0.5,
    links: bool = False,
    latency: bool = False,
    memory: bool = False,
    measured: int = 0,
    groups: tuple[int, int] | None = None,
) -> Instance:
    """Return a random instance; the same arguments give the same instance.

    Args:
        services: number of services (server, DNN and task each), at least 1.
        blocks: blocks per DNN, at least 2.
        hosts: other services whose trunks a task may use (fewer if there are fewer).
        seed: seed of all random choices.
        limited_demand: share of the tasks that have a demand; the others are saturated.
        links: limit the bandwidth between servers.
        latency: limit the latency of half of the tasks.
        memory: limit the memory for adapters.
        measured: measured paths per task (random paths, accuracy off by about 0.01).
        groups: least and most tasks of an input group; all tasks are put into groups of random
            sizes between (what is left over at the end may be a smaller one).

    Raises:
        ValueError: an argument is out of range.
    """
    if services < 1 or blocks < 2 or hosts < 0 or measured < 0:
        raise ValueError("need services >= 1, blocks >= 2, hosts >= 0 and measured >= 0")
    if not 0.0 <= limited_demand <= 1.0:
        raise ValueError("limited_demand must lie in [0, 1]")
    if groups is not None and not 1 <= groups[0] <= groups[1]:
        raise ValueError("groups must be the least and the most tasks of a group, at least 1")
    rng = np.random.default_rng(np.random.SeedSequence([seed, services, blocks, hosts]))
    drawn = _draw(rng, services, blocks)
    group_of = None
    if groups is not None:
        group_of = _groups(services, groups, np.random.default_rng([seed, services, *groups]))
    tasks: list[dict[str, Any]] = []
    pairs: dict[tuple[str, str], None] = {}  # of services between which there are links
    for i in range(services):
        leader = i if group_of is None else int(np.flatnonzero(group_of == group_of[i])[0])
        others = _hosts_of(rng, i, leader, services)[:hosts]
        pairs |= dict.fromkeys(_pairs(drawn.names, i, others))
        tasks.append(_task(rng, drawn, i, others, limited_demand, latency))
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "name": f"generated-{services}x{blocks}-{hosts}h-{seed}",
        "description": "Generated: all numbers are illustrative.",
        "servers": [
            {"id": f"edge-{n}", "flops": c, "memory": 2**20 * 4.0 if memory else None}
            for n, c in zip(drawn.names, drawn.capacity.tolist(), strict=True)
        ],
        "links": _links(rng, list(pairs)) if links else [],
        "dnns": _dnns(drawn),
        "tasks": tasks,
        "reward": {
            "accuracy": {"kind": "power", "exponent": 4.0},
            "throughput": {"kind": "power", "exponent": 1.0},
        },
    }
    if group_of is not None:
        _share(data, group_of.tolist())
    if measured:
        _measure(rng, data, measured)
    return parse_instance(data, source=data["name"])


@dataclass(frozen=True)
class _Drawn:
    """What is drawn of n services of B blocks each."""

    names: list[str]
    flops: np.ndarray
    """Of each block [FLOP], shape (n, B)."""
    width: np.ndarray
    """Output of each block [bytes], shape (n, B)."""
    capacity: np.ndarray
    """Of each service's server [FLOP/s], shape (n,)."""

    def native_rate(self, i: int) -> float:
        """Return the rate of service i alone on its server [inferences/s]."""
        return float(self.capacity[i] / self.flops[i].sum())


def _draw(rng: np.random.Generator, services: int, blocks: int) -> _Drawn:
    """Draw what the blocks and servers can do."""
    names = [f"s{i:0{len(str(services - 1))}d}" for i in range(services)]
    work = _significant(np.exp(rng.normal(np.log(1e9), 0.9, services)))
    share = rng.dirichlet(np.full(blocks, 4.0), services)
    flops = _significant(work[:, None] * share)
    width = _significant(rng.uniform(16, 256, (services, blocks)) * 1024)
    rate = rng.uniform(40.0, 200.0, services)
    return _Drawn(names, flops, width, _significant(rate * flops.sum(axis=1)))


def _hosts_of(rng: np.random.Generator, i: int, leader: int, services: int) -> list[int]:
    """Return the other services in random order, the leader of a group first."""
    others = rng.permutation([j for j in range(services) if j != i])
    found: list[int] = others[np.argsort(others != leader, kind="stable")].tolist()
    return found


def _pairs(names: list[str], i: int, others: list[int]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of services between which a task of service i can go."""
    for j in sorted(others):
        yield names[i], names[j]
        yield names[j], names[i]
    for a, b in itertools.permutations(others, 2):
        yield names[a], names[b]


def _task(
    rng: np.random.Generator,
    drawn: _Drawn,
    i: int,
    others: list[int],
    limited_demand: float,
    latency: bool,
) -> dict[str, Any]:
    """Return the task of service i."""
    native = drawn.native_rate(i)
    return {
        "id": f"task-{drawn.names[i]}",
        "dnn": drawn.names[i],
        "accuracy": round(float(rng.uniform(0.65, 0.95)), 4),
        "demand": round(native * float(rng.uniform(1.0, 3.0)), 3)
        if rng.random() < limited_demand
        else None,
        "floor": "standalone",
        "max_latency": round(float(rng.uniform(1.0, 2.5)) / native + 0.004, 6)
        if latency and rng.random() < 0.5
        else None,
        "connections": _connections(rng, drawn, i, sorted(others)),
    }


def _dnns(drawn: _Drawn) -> list[dict[str, Any]]:
    """Return the networks, one of each service."""
    return [
        {
            "id": name,
            "server": f"edge-{name}",
            "blocks": [
                {
                    "id": f"{name}/{b}",
                    "flops": flops,
                    "params": float(round(flops / 200.0)),
                    "output_bytes": width,
                }
                for b, (flops, width) in enumerate(zip(of_blocks, widths, strict=True))
            ],
        }
        for name, of_blocks, widths in zip(
            drawn.names, drawn.flops.tolist(), drawn.width.tolist(), strict=True
        )
    ]


def _links(rng: np.random.Generator, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the links, with random bandwidths."""
    return [
        {
            "source": f"edge-{a}",
            "target": f"edge-{b}",
            "bandwidth": float(_significant(np.array(rng.uniform(5e6, 4e7)))),
            "latency": 0.001,
        }
        for a, b in pairs
    ]


def _connections(
    rng: np.random.Generator, drawn: _Drawn, i: int, others: list[int]
) -> list[dict[str, Any]]:
    """Return the connections of service i: skips, exits, and into and out of the others."""
    names, flops, width = drawn.names, drawn.flops, drawn.width
    blocks = flops.shape[1]
    depth = np.cumsum(flops[i]) / flops[i].sum()
    found: list[dict[str, Any]] = []

    def add(source: tuple[int, int] | None, target: tuple[int, int] | None, drop: float) -> None:
        size = float(width[source]) if source else 0.0
        adapter = float(_significant(np.array(flops[i].sum() * rng.uniform(0.002, 0.02))))
        found.append(
            {
                "source": f"{names[source[0]]}/{source[1]}" if source else INPUT,
                "target": f"{names[target[0]]}/{target[1]}" if target else OUTPUT,
                "drop": round(float(drop), 5),
                "flops": adapter,
                "params": float(rng.integers(2_000, 60_000)),
                "bytes": size,
            }
        )

    for b in range(blocks - 1):
        add((i, b), None, 0.25 * (1.0 - depth[b]) ** 1.5 * rng.uniform(0.6, 1.4) + 0.003)
        if b + 2 < blocks:
            add((i, b), (i, b + 2), 0.15 * flops[i, b + 1] / flops[i].sum() * rng.uniform(0.5, 1.5))
    for j in others:
        alike = rng.uniform(0.5, 2.0)
        for b in range(blocks - 1):
            # Into the host at block b or the next one, and back to block b + 1 or the next one.
            for skipped in range(2):
                own, loss = (i, b + 1 + skipped), 0.015 * alike * (1 + skipped)
                if b + skipped < blocks - 1 and rng.random() < 0.95:
                    source = None if b == 0 else (i, b - 1)
                    add(source, (j, b + skipped), loss * rng.uniform(0.4, 1.6))
                if own[1] < blocks and rng.random() < 0.95:
                    add((j, b), own, loss * rng.uniform(0.4, 1.6))
            if rng.random() < 0.9:
                loss = 0.25 * (1.0 - (b + 1) / blocks) ** 1.5 + 0.02 * alike
                add((j, b), None, loss * rng.uniform(0.6, 1.4))
        add((j, blocks - 1), None, 0.02 * alike * rng.uniform(0.6, 1.4))
    return found


def _groups(services: int, sizes: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return the number of each service's input group, shape (services,)."""
    drawn = rng.integers(sizes[0], sizes[1] + 1, services)
    return np.repeat(np.arange(services), drawn)[:services]


def _share(data: dict[str, Any], group_of: list[int]) -> None:
    """Put the tasks into input groups; let those of a group share entries and trunks."""
    first = {d["id"]: d["blocks"][0]["id"] for d in data["dnns"]}
    adapters: dict[tuple[int, str], dict[str, Any]] = {}
    for task, group in zip(data["tasks"], group_of, strict=True):
        task["input_group"] = f"camera-{group}"
        mates = [t["dnn"] for t, g in zip(data["tasks"], group_of, strict=True) if g == group]
        hosts = {c["target"].rpartition("/")[0] for c in task["connections"]} - {task["dnn"]}
        for connection in task["connections"]:
            # The same entry into the same trunk is the same adapter for all tasks of a group.
            if connection["source"] == INPUT:
                known = adapters.setdefault((group, connection["target"]), connection)
                connection |= {k: known[k] for k in ("flops", "params", "bytes")}
                connection["share"] = "entry"
        task["connections"] = [
            c
            for c in task["connections"]
            if c["source"] != INPUT or c["target"] not in {first[m] for m in mates}
        ]
        task["connections"] += [
            {"source": INPUT, "target": first[mate], "drop": 0.01, "share": IDENTITY}
            for mate in mates
            if mate in hosts
        ]
    for group in set(group_of):
        members = [t for t, g in zip(data["tasks"], group_of, strict=True) if g == group]
        demands = [t["demand"] for t in members if t["demand"] is not None]
        for task in members:
            # The demand of a group is the least of its tasks: let all have it.
            task["demand"] = max(demands) if demands else None


def _measure(rng: np.random.Generator, data: dict[str, Any], count: int) -> None:
    """Give each task up to ``count`` measured paths: random walks through its graph."""
    follower = {
        a["id"]: b["id"]
        for d in data["dnns"]
        for a, b in zip(d["blocks"][:-1], d["blocks"][1:], strict=True)
    }
    first = {d["id"]: d["blocks"][0]["id"] for d in data["dnns"]}
    last = {d["id"]: d["blocks"][-1]["id"] for d in data["dnns"]}
    for task in data["tasks"]:
        steps: dict[str, list[tuple[str, float]]] = {INPUT: [(first[task["dnn"]], 0.0)]}
        for connection in task["connections"]:
            steps.setdefault(connection["source"], []).append(
                (connection["target"], connection["drop"])
            )
        steps.setdefault(last[task["dnn"]], []).append((OUTPUT, 0.0))
        seen: dict[tuple[str, ...], float] = {}
        for _ in range(4 * count):
            node, path, drop = INPUT, [], 0.0
            while node != OUTPUT:
                ways = steps.get(node, [])
                if node in follower:
                    ways = [*ways, (follower[node], 0.0)]
                if not ways:
                    break
                node, step = ways[int(rng.integers(len(ways)))]
                drop += step
                path.append(node)
            if path[-1] == OUTPUT and len(seen) < count:
                value = task["accuracy"] - drop + rng.normal(0.0, 0.01)
                seen[tuple(path[:-1])] = round(float(np.clip(value, 0.0, 1.0)), 4)
        task["measured_paths"] = [
            {"blocks": list(path), "accuracy": value} for path, value in seen.items()
        ]


def _significant(values: np.ndarray) -> np.ndarray:
    """Round to 4 significant digits, so that files stay small and readable."""
    magnitude = 10.0 ** (3 - np.floor(np.log10(np.maximum(values, 1e-300))))
    return np.asarray(np.round(values * magnitude) / magnitude)
