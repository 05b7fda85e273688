"""Instances for the tests: a small one, and a strategy for arbitrary ones."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

SCHEMA = "code-opt/instance/1"
ADAPTER = ("flops", "params", "bytes", "server", "seconds")
"""What is the same for all tasks with an adapter."""


def small() -> dict[str, Any]:
    """Return a valid instance's data: two DNNs, one task, all optional fields left out."""
    return {
        "schema": SCHEMA,
        "servers": [{"id": "edge-a", "flops": 2e9}, {"id": "edge-b", "flops": 1e9}],
        "dnns": [
            {
                "id": name,
                "server": server,
                "blocks": [
                    {"id": f"{name}/{k}", "flops": 1e7, "output_bytes": 4096.0} for k in range(3)
                ],
            }
            for name, server in (("alexnet", "edge-a"), ("mobilenet", "edge-b"))
        ],
        "tasks": [
            {
                "id": "objects",
                "dnn": "alexnet",
                "accuracy": 0.78,
                "connections": [
                    {"source": "alexnet/0", "target": "mobilenet/1", "drop": 0.01},
                    {"source": "mobilenet/2", "target": "output", "drop": 0.01},
                ],
            }
        ],
    }


def large(services: int, connections: int) -> dict[str, Any]:
    """Return a valid instance's data with many connections per task, all of them forward."""
    blocks = 20
    return {
        "schema": SCHEMA,
        "name": "large",
        "servers": [{"id": f"edge-{i}", "flops": 1e9} for i in range(services)],
        "dnns": [
            {
                "id": f"dnn-{i}",
                "server": f"edge-{i}",
                "blocks": [{"id": f"dnn-{i}/{k}", "flops": 1e6} for k in range(blocks)],
            }
            for i in range(services)
        ],
        "tasks": [
            {
                "id": f"task-{i}",
                "dnn": f"dnn-{i}",
                "accuracy": 0.8,
                "connections": [
                    {
                        "source": f"dnn-{i}/1",
                        "target": f"dnn-{(i + 1 + j // blocks) % services}/{j % blocks}",
                        "drop": 0.0081,
                        "flops": 1.1e6,
                        "params": 12288.0,
                        "bytes": 32768.0,
                        "server": None,
                    }
                    for j in range(connections)
                ],
            }
            for i in range(services)
        ],
    }


ODD_IDS = ["007", "NA", "null", "nan", "1e5", "true", "no", "~", "12:30", "2024-01-01", "0x1F"]
ODD_IDS += ["=1+1", "-", "#", "a, b", '"', "'", "a: b", "[x]", "{", "&a", "*a", "!x", "é☃😀", "\\"]

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029>]")


def _is_identifier(text: str) -> bool:
    return (
        text == text.strip()
        and text not in ("", "input", "output")
        and _FORBIDDEN.search(text) is None
    )


identifiers = st.sampled_from(ODD_IDS) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(_is_identifier)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
positive = st.floats(1e-6, 1e6)  # a ratio of 1e12, all that is supported
nonnegative = st.just(0.0) | positive
finite = st.floats(-1e3, 1e3)
fractions = st.just(0.0) | st.floats(1e-12, 1.0)
weights = st.floats(1e-6, 1e6)
units = st.integers(0, 1_000_000).map(float)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


shapes = st.one_of(
    st.fixed_dictionaries({"kind": st.just("power")}, optional={"exponent": nonnegative}),
    st.fixed_dictionaries(
        {"kind": st.just("logistic"), "steepness": nonnegative, "midpoint": finite}
    ),
    st.fixed_dictionaries({"kind": st.just("exponential"), "rate": nonnegative}),
)


@st.composite
def instances(draw: st.DrawFn) -> dict[str, Any]:
    """Draw valid data; connections lead forward, so that there is no cycle."""
    count = draw(st.integers(1, 3))

    def unique(size: int) -> list[str]:
        return draw(st.lists(identifiers, min_size=size, max_size=size, unique=True))

    servers = [
        {
            "id": name,
            "flops": draw(positive),
            "memory": draw(optional(nonnegative)),
            "cost": draw(nonnegative),
            "unit_flops": draw(optional(positive)),
            "max_units": draw(optional(units)),
        }
        for name in unique(count)
    ]
    for server in servers:
        if draw(st.booleans()):
            server["batch"] = draw(st.sampled_from([1.0, 8.0]))
            server["max_batch_delay"] = draw(nonnegative)
            server["max_utilization"] = draw(optional(st.floats(1e-6, 1.0)))
            server["devices"] = draw(positive)
            if server["unit_flops"] is None:
                server["unit_devices"] = draw(optional(positive))
    batch_of = {server["id"]: server.get("batch", 1.0) for server in servers}

    def seconds(server: str) -> Any:
        times = {"1": draw(positive), "8": draw(positive), "32": draw(positive)}
        batch = f"{batch_of[server]:.0f}"
        kinds = [st.none(), st.just(times), st.just({batch: times[batch]})]
        return draw(st.one_of(*kinds, *([positive] if batch == "1" else [])))

    hosts = st.sampled_from([server["id"] for server in servers])
    pairs = st.tuples(hosts, hosts).filter(lambda pair: pair[0] != pair[1])
    links = [
        {
            "source": a,
            "target": b,
            "bandwidth": draw(optional(positive)),
            "latency": draw(nonnegative),
            "cost": draw(nonnegative),
            "unit_bandwidth": draw(optional(positive)),
            "max_units": draw(optional(units)),
        }
        for a, b in (draw(st.lists(pairs, unique=True, max_size=4)) if count > 1 else [])
    ]
    for link in links:
        link["latency"] = abs(link["latency"])
    block_names = unique(2 * count)
    dnns = [
        {
            "id": name,
            "server": draw(hosts),
            "blocks": [
                {
                    "id": block,
                    "flops": draw(positive),
                    "params": draw(nonnegative),
                    "output_bytes": draw(nonnegative),
                }
                for block in block_names[2 * i : 2 * i + 2]
            ],
        }
        for i, name in enumerate(unique(count))
    ]
    home = {block["id"]: dnn["server"] for dnn in dnns for block in dnn["blocks"]}
    for dnn in dnns:
        for block in dnn["blocks"]:
            block["seconds"] = seconds(dnn["server"])
    forward = [("input", block) for block in block_names]
    forward += [(block, "output") for block in block_names]
    forward += [(a, b) for i, a in enumerate(block_names) for b in block_names[i + 1 :]]
    tasks = []
    for name in unique(draw(st.integers(1, 3))):
        dnn = draw(st.sampled_from(dnns))
        native = [block["id"] for block in dnn["blocks"]]
        demand = draw(optional(nonnegative))
        floor = draw(st.just("standalone") | nonnegative)
        if demand is not None and floor != "standalone":
            floor = min(floor, demand)
        connections = [
            {
                "source": source,
                "target": target,
                "drop": draw(finite),
                "flops": draw(nonnegative),
                "params": draw(nonnegative),
                "bytes": draw(optional(nonnegative)),
                "server": draw(optional(hosts)),
                "share": draw(st.none() | st.sampled_from(["identity", "a", "b"]) | identifiers),
            }
            for source, target in draw(st.lists(st.sampled_from(forward), unique=True, max_size=5))
        ]
        for c in connections:
            near = c["target"] if c["source"] == "input" else c["source"]
            c["seconds"] = seconds(c["server"] or home[near])
        overridden = {(c["source"], c["target"]) for c in connections}
        pure = not overridden & {("input", native[0]), (native[0], native[1])}
        measured = draw(st.booleans()) and pure and (native[1], "output") not in overridden
        tasks.append(
            {
                "id": name,
                "dnn": dnn["id"],
                "accuracy": draw(fractions),
                "demand": demand,
                "floor": floor,
                "weight": draw(weights),
                "min_accuracy": draw(fractions),
                "max_latency": draw(optional(positive)),
                "input_group": draw(st.none() | st.sampled_from(["camera", "door"]) | identifiers),
                "input_bytes": draw(nonnegative),
                # With links a measured native path would need those from there.
                "origin": None if links else draw(optional(hosts)),
                "connections": connections,
                "alternatives": [
                    {"dnn": other["id"], "accuracy": draw(fractions)}
                    for other in dnns
                    if other is not dnn and draw(st.booleans())
                ],
                "measured_paths": [{"blocks": native, "accuracy": draw(fractions)}]
                if measured
                else [],
            }
        )
    make_groups_agree(tasks)
    return {
        "schema": SCHEMA,
        "name": draw(texts),
        "description": draw(texts),
        "bundle": draw(optional(st.sampled_from(["networks", "a/b c", "é"]))),
        "servers": servers,
        "links": links,
        "dnns": dnns,
        "tasks": tasks,
        "reward": {"accuracy": draw(shapes), "throughput": draw(shapes)},
    }


def make_groups_agree(tasks: list[dict[str, Any]]) -> None:
    """Change the tasks of each input group so that they can have one rate and share adapters."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        for connection in task["connections"]:
            if connection["share"] == "identity":
                connection |= {"flops": 0.0, "params": 0.0, "server": None, "seconds": None}
        if task["input_group"] is not None:
            groups.setdefault(task["input_group"], []).append(task)
    for members in groups.values():
        most = min((t["demand"] for t in members if t["demand"] is not None), default=None)
        adapters: dict[tuple[str, str, str], dict[str, Any]] = {}
        for task in members:
            task |= {key: members[0][key] for key in ("input_bytes", "origin")}
            if most is not None and task["floor"] != "standalone":
                task["floor"] = min(task["floor"], most)
            for connection in task["connections"]:
                if connection["share"] is not None:
                    name = (connection["source"], connection["target"], connection["share"])
                    same = adapters.setdefault(name, connection)
                    connection |= {k: same[k] for k in ADAPTER}
