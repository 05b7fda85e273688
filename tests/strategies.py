"""Random small instances with every kind of constraint, for tests against brute force.

:func:`random_instance` draws one from a seed; :func:`instances` is a hypothesis strategy on
top of it, which shrinks towards few services and few kinds of constraints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import strategies as st

from code_opt.instance import Instance, parse_instance

Data = dict[str, Any]
Links = Literal["none", "some", "all"]
MAX_COMBINATIONS = 5_000


def few_of(count: int, few: int) -> list[Any]:
    """Return numbers below a count for parametrisation: a few for every run, the others long."""
    return [*range(few), *(pytest.param(k, marks=pytest.mark.long) for k in range(few, count))]


def random_instance(seed: int, **options: Any) -> Instance:
    """Return the random instance of a seed (:func:`random_data`)."""
    return parse_instance(random_data(seed, **options))


@st.composite
def instances(draw: st.DrawFn, /, **options: Any) -> Instance:
    """Draw instances; ``options`` of :func:`random_data` that are given are kept."""
    choices: dict[str, st.SearchStrategy[Any]] = {
        "services": st.integers(2, 4),
        "links": st.sampled_from(["none", "some", "all"]),
        "limits": st.booleans(),
        "rates": st.booleans(),
        "measured": st.booleans(),
        "inputs": st.booleans(),
        "alternatives": st.booleans(),
    }
    chosen = {name: options.get(name, draw(choice)) for name, choice in choices.items()}
    return random_instance(draw(st.integers(0, 2**32 - 1)), **{**options, **chosen})


def random_data(
    seed: int,
    *,
    services: int | None = None,
    links: Links | None = None,
    limits: bool = True,
    rates: bool = True,
    measured: bool = True,
    groups: bool = False,
    devices: bool = False,
    inputs: bool = False,
    alternatives: bool = False,
    max_combinations: int = MAX_COMBINATIONS,
) -> Data:
    """Return a random instance as plain data; the same for the same seed and options.

    Args:
        seed: of the generator.
        services: number of DNNs, 2 to 4; random by default.
        links: whether none, some or all pairs of servers are linked; random by default.
        limits: whether there may be limits on latency, memory and accuracy.
        rates: whether there may be floors and demands.
        measured: whether there may be measured paths.
        groups: whether tasks look at the same input and share adapters; then more of them do
            than not, and there are at least two tasks.
        devices: whether servers have several devices, or none, run batches and sell a part of their
            time, and work has measured times, on some servers nothing else.
        alternatives: whether other DNNs may answer tasks all by themselves.
        inputs: whether inputs of tasks may be sent, from the server of their DNN or another one.
        max_combinations: most combinations of paths; connections are left out until it holds.
    """
    draw = _Draw(np.random.default_rng(seed), limits, rates, measured)
    data = draw.instance(
        f"random-{seed}", services, links, groups, inputs, alternatives, max_combinations
    )
    if devices:
        draw.draw_devices(data)
    return data


class _Draw:
    """Draws the parts of one instance, in the order of the file."""

    def __init__(self, rng: np.random.Generator, limits: bool, rates: bool, measured: bool) -> None:
        self.rng = rng
        self.limits, self.rates, self.measured = limits, rates, measured

    # -- numbers --

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def power(self, low: float, high: float) -> float:
        """Ten to the power of a uniform number."""
        return float(10.0 ** self.rng.uniform(low, high))

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def one_of(self, items: Any) -> Any:
        items = list(items)
        return items[self.integer(0, len(items) - 1)]

    # -- parts --

    def instance(
        self,
        name: str,
        services: int | None,
        links: Links | None,
        groups: bool,
        inputs: bool,
        alternatives: bool,
        max_combinations: int,
    ) -> Data:
        count = self.integer(2, 4) if services is None else services
        servers: list[Data] = [
            {"id": f"s{i}", "flops": self.power(8.0, 9.5), "memory": None}
            for i in range(self.one_of([1, 2, 2, 3, 3, 4, 4]))
        ]
        if self.chance(0.5):  # a weak server, whose tasks gain by running elsewhere
            servers[0]["flops"] *= self.power(-1.5, -0.5)
        self.speed = {server["id"]: server["flops"] for server in servers}
        self.links = self.draw_links(links or self.one_of(["none", "some", "some", "all"]))
        # Blocks without work are allowed only where every rate has a demand to limit it.
        self.saturated = not self.rates or self.chance(0.7)
        self.dnns = [self.draw_dnn(f"d{i}") for i in range(count)]
        self.trunks = {dnn["id"]: [block["id"] for block in dnn["blocks"]] for dnn in self.dnns}
        self.home = {b["id"]: dnn["server"] for dnn in self.dnns for b in dnn["blocks"]}
        self.bytes = {b["id"]: b["output_bytes"] for dnn in self.dnns for b in dnn["blocks"]}
        natives = [
            dnn["id"] for dnn in self.dnns for _ in range(self.one_of([0, 0, 1, 1, 1, 1, 2]))
        ]
        natives = (natives or [self.dnns[0]["id"]])[:5]
        if groups and len(natives) < 2:
            natives = natives * 2
        tasks = [self.draw_task(f"t{i}", dnn, natives) for i, dnn in enumerate(natives)]
        if not any(task["weight"] for task in tasks):
            tasks[0]["weight"] = 1.0
        if groups:
            self.group(tasks)
        if inputs:
            self.draw_inputs(tasks)
        if alternatives:
            for task in tasks:
                task["alternatives"] = self.draw_alternatives(task)
        self.thin_out(tasks, max_combinations)
        if self.measured:
            for task in tasks:
                task["measured_paths"] = self.draw_measured(task)
        if self.limits:
            for server in servers:
                server["memory"] = self.draw_memory(server["id"], tasks, groups)
        total = sum(self.share(dnn, natives) for dnn in natives)
        return {
            "schema": "code-opt/instance/1",
            "name": name,
            "servers": servers,
            "links": self.links,
            "dnns": self.dnns,
            "tasks": tasks,
            "reward": {
                "accuracy": self.draw_shape(0.7, [0.0, 0.5, 1.0, 2.0, 4.0, 6.0]),
                "throughput": self.draw_shape(total, [0.0, 0.5, 1.0, 1.0, 2.0]),
            },
        }

    def draw_links(self, kind: Links) -> list[Data]:
        return [
            {
                "source": source,
                "target": target,
                "bandwidth": None if self.chance(0.3) else self.power(3.5, 6.0),
                "latency": 0.0 if self.chance(0.3) else self.uniform(0.0, 0.02),
            }
            for source in self.speed
            for target in self.speed
            if source != target and (kind == "all" or (kind == "some" and self.chance(0.75)))
        ]

    def draw_dnn(self, name: str) -> Data:
        return {
            "id": name,
            "server": self.one_of(self.speed),
            "blocks": [
                {
                    "id": f"{name}/{k}",
                    "flops": 0.0
                    if not self.saturated and self.chance(0.1)
                    else self.power(6.0, 7.5),
                    "params": 1000.0,
                    "output_bytes": 0.0 if self.chance(0.1) else self.power(2.0, 4.5),
                }
                for k in range(self.integer(2, 4))
            ],
        }

    def share(self, dnn: str, natives: list[str]) -> float:
        """Return about the standalone rate of a task of this DNN."""
        (home,) = (d for d in self.dnns if d["id"] == dnn)
        work = sum(block["flops"] for block in home["blocks"]) or 1e6
        hosted = sum(d["server"] == home["server"] for d in self.dnns)
        return float(self.speed[home["server"]] / hosted / natives.count(dnn) / work)

    def draw_task(self, name: str, dnn: str, natives: list[str]) -> Data:
        share = self.share(dnn, natives)
        accuracy = self.uniform(0.4, 0.95)
        demand, floor = None, 0.0
        if self.rates:
            if not self.saturated or self.chance(0.5):
                demand = 0.0 if self.chance(0.06) else share * self.power(-1.5, 0.7)
            kind = self.one_of(["none", "none", "number", "standalone"])
            if kind == "number":
                most = share if demand is None else min(share, demand)
                floor = most * self.uniform(0.0, 1.0)
            elif kind == "standalone":
                floor = kind
        task: Data = {
            "id": name,
            "dnn": dnn,
            "accuracy": accuracy,
            "demand": demand,
            "floor": floor,
            "weight": self.one_of([1.0, 1.0, 1.0, 0.0, self.uniform(0.1, 3.0)]),
            "min_accuracy": 0.0,
            "max_latency": None,
            "connections": self.draw_connections(dnn),
            "measured_paths": [],
        }
        if self.limits:
            if self.chance(0.25):
                least = accuracy - self.uniform(-0.005, 0.2)
                task["min_accuracy"] = min(1.0, max(0.0, least))
            if self.chance(0.35):
                (home,) = (d for d in self.dnns if d["id"] == dnn)
                native = sum(b["flops"] for b in home["blocks"]) / self.speed[home["server"]]
                task["max_latency"] = (native or 1e-3) * self.uniform(0.98, 1.8)
        return task

    def draw_connections(self, native: str, place: dict[str, float] | None = None) -> list[Data]:
        """Draw connections along one (random) order of all blocks, so that no cycle closes."""
        if place is None:
            place = {}
            for trunk in self.trunks.values():
                place.update(zip(trunk, np.sort(self.rng.random(len(trunk))), strict=True))
        own = self.trunks[native]
        foreign = [b for name, trunk in self.trunks.items() if name != native for b in trunk]
        ends: dict[tuple[str, str], None] = {}

        def way_back(block: str) -> None:
            """Lead a path that is at a foreign block (or later in its trunk) to the output."""
            (trunk,) = (t for t in self.trunks.values() if block in t)
            block = self.one_of(trunk[trunk.index(block) :])
            later = [b for b in own if place[b] > place[block]]
            ends[block, self.one_of(later) if later and self.chance(0.6) else "output"] = None

        for _ in range(self.integer(1, 12)):
            kind = self.one_of(
                ["cross", "cross", "cross", "cross", "skip", "skip", "exit", "entry", "override"]
            )
            if kind == "cross":
                source = self.one_of([*own, *own, *foreign])
                later = [b for b in place if place[b] > place[source] and b[:2] != source[:2]]
                if later:
                    target = self.one_of(later)
                    ends[source, target] = None
                    if target in foreign:
                        way_back(target)
            elif kind == "skip":
                trunk = own if self.chance(0.7) else self.one_of(self.trunks.values())
                if len(trunk) > 2:
                    k = self.integer(0, len(trunk) - 3)
                    ends[trunk[k], self.one_of(trunk[k + 2 :])] = None
            elif kind == "exit":
                ends[self.one_of([*own, *foreign]), "output"] = None
            elif kind == "entry":
                target = self.one_of([*own, *foreign])
                ends["input", target] = None
                if target in foreign:
                    way_back(target)
            else:
                trunk = own if self.chance(0.7) else self.one_of(self.trunks.values())
                chain = ["input", *trunk, "output"] if trunk is own else trunk
                ends[self.one_of(zip(chain, chain[1:], strict=False))] = None
        return [self.draw_connection(source, target) for source, target in ends]

    def group(self, tasks: list[Data]) -> None:
        """Put tasks into input groups; let those of a group share adapters and trunks."""
        names = ["camera"] * self.integer(2, len(tasks))
        rest = len(tasks) - len(names)
        names += ["door"] * rest if rest > 1 and self.chance(0.5) else [""] * rest
        members: dict[str, list[Data]] = {}
        for k, name in zip(self.rng.permutation(len(tasks)).tolist(), names, strict=True):
            if name:
                tasks[k]["input_group"] = name
                members.setdefault(name, []).append(tasks[k])
        for group in members.values():
            self.let_share(group)
            if self.saturated and self.chance(0.6):
                for task in group:
                    task["demand"] = None
            most = min((t["demand"] for t in group if t["demand"] is not None), default=None)
            for task in group:
                if most is not None and task["floor"] != "standalone":
                    task["floor"] = min(task["floor"], most)
                if most is None or self.chance(0.5):
                    task["floor"] = 0.0  # the group has the largest floor of its tasks

    def draw_inputs(self, tasks: list[Data]) -> None:
        """Let inputs of most tasks be sent, of those of an input group all or none."""
        drawn: dict[str, Data] = {}
        for task in tasks:
            keys = {
                "input_bytes": 0.0 if self.chance(0.2) else self.power(3.0, 5.0),
                "origin": self.one_of(self.speed) if self.chance(0.5) else None,
            }
            if self.chance(0.2):
                keys = {}
            task |= drawn.setdefault(task.get("input_group") or task["id"], keys)
            for connection in task["connections"]:
                if connection["source"] == "input" and self.chance(0.3):
                    common = connection.get("share") is not None
                    connection["bytes"] = None if common else self.power(2.0, 4.5)
        # The same adapter has the same size, for whichever task it was drawn.
        for task in tasks:
            for connection in task["connections"]:
                if connection["source"] == "input" and connection.get("share") is not None:
                    connection["bytes"] = None

    def draw_alternatives(self, task: Data) -> list[Data]:
        """Let some other DNNs answer a task; connections may lead along the same blocks."""
        found = []
        for name, trunk in self.trunks.items():
            if name == task["dnn"] or not self.chance(0.5):
                continue
            accuracy = task["accuracy"] + self.uniform(-0.2, 0.1)
            samples = float(self.integer(50, 5000)) if self.chance(0.5) else None
            accuracy = min(1.0, max(0.0, accuracy))
            found.append({"dnn": name, "accuracy": accuracy, "samples": samples})
            ends = {(c["source"], c["target"]) for c in task["connections"]}
            for pair in (("input", trunk[0]), (trunk[-1], "output")):
                if pair not in ends and self.chance(0.3):
                    task["connections"].append(self.draw_connection(*pair))
        return found

    def let_share(self, group: list[Data]) -> None:
        """Draw the connections of a group anew, many of them common to several tasks."""
        place: dict[str, float] = {}
        for trunk in self.trunks.values():
            place.update(zip(trunk, np.sort(self.rng.random(len(trunk))), strict=True))
        drawn = [self.draw_connections(task["dnn"], place) for task in group]
        adapters: dict[tuple[str, str], Data] = {}
        for task, own in zip(group, drawn, strict=True):
            lists = {(c["source"], c["target"]): c for c in own}
            for other in drawn:
                for c in other:
                    if self.chance(0.5):
                        copy = self.draw_connection(c["source"], c["target"])
                        lists.setdefault((c["source"], c["target"]), copy)
            for other in group:
                if other["dnn"] != task["dnn"] and self.chance(0.6):
                    ends = ("input", self.trunks[other["dnn"]][0])
                    identity = {"flops": 0.0, "params": 0.0, "server": None, "share": "identity"}
                    lists[ends] = self.draw_connection(*ends) | identity
                    source = self.one_of(self.trunks[other["dnn"]])
                    later = [b for b in self.trunks[task["dnn"]] if place[b] > place[source]]
                    target = self.one_of(later) if later and self.chance(0.4) else "output"
                    lists.setdefault((source, target), self.draw_connection(source, target))
            for ends, connection in lists.items():
                if connection.get("share") is None and self.chance(0.7):
                    first = adapters.setdefault(ends, connection)
                    same = ("flops", "params", "bytes", "server")
                    connection |= {key: first[key] for key in same} | {"share": "common"}
                    if first.get("share") == "identity":
                        connection["share"] = "identity"
                    elif first is connection and self.chance(0.15):
                        connection |= {"flops": 0.0, "params": 0.0, "server": None}
                        connection["share"] = "identity"
                elif connection.get("share") == "identity":
                    first = adapters.setdefault(ends, connection)
                    if first.get("share") == "identity":
                        connection["bytes"] = first["bytes"]
                    else:
                        connection["share"] = None
            task["connections"] = list(lists.values())

    def draw_connection(self, source: str, target: str) -> Data:
        if self.chance(0.15):
            drop = self.uniform(-0.05, 0.0)
        elif self.chance(0.1):
            drop = self.uniform(0.4, 1.2)  # often below 0 in the end: not admissible
        else:
            drop = self.uniform(0.0, 0.12)
        return {
            "source": source,
            "target": target,
            "drop": drop,
            "flops": 0.0 if self.chance(0.3) else self.power(4.0, 6.5),
            "params": 0.0 if self.chance(0.2) else float(self.integer(100, 20_000)),
            "bytes": None if self.chance(0.5) else self.one_of([0.0, self.power(2.0, 4.5)]),
            "server": self.one_of(self.speed) if self.chance(0.2) else None,
        }

    def draw_devices(self, data: Data) -> None:
        """Give servers devices, batches and headroom, and work measured times."""
        servers = {server["id"]: server for server in data["servers"]}
        for server in servers.values():
            server["devices"] = self.one_of([1, 1, 2, 3, 0.5, 1.5])
            server["batch"] = self.one_of([1, 1, 1, 4, 8])
            server["max_utilization"] = None if self.chance(0.5) else self.uniform(0.4, 1.0)
        timed = [name for name in servers if self.chance(0.4)]
        adapters: dict[tuple[Any, ...], Any] = {}
        for dnn in data["dnns"]:
            for block in dnn["blocks"]:
                self.draw_seconds(block, servers[dnn["server"]], dnn["server"] in timed)
        for task in data["tasks"]:
            for c in task["connections"]:
                if c.get("share") == "identity":
                    continue
                near = c["target"] if c["source"] == "input" else c["source"]
                name = c["server"] or self.home[near]
                self.draw_seconds(c, servers[name], name in timed)
                if c.get("share") is not None:  # the same adapter takes the same time
                    ends = (task.get("input_group"), c["source"], c["target"])
                    c["seconds"] = adapters.setdefault(ends, c["seconds"])
            (home,) = (d for d in self.dnns if d["id"] == task["dnn"])
            native = sum(b["flops"] for b in home["blocks"]) / self.speed[home["server"]]
            if task["max_latency"] is not None:  # as many times the native one as before
                server = servers[home["server"]]
                time = sum(self.batch_seconds(block, server) for block in home["blocks"])
                task["max_latency"] *= max(time, 1e-6) / (native or 1e-3)
            if task["floor"] != "standalone":
                task["floor"] *= 0.5
        for name in timed:
            servers[name]["flops"] = None
            if self.chance(0.1):
                servers[name]["devices"] = 0

    def draw_seconds(self, work: Data, server: Data, is_needed: bool) -> None:
        work["seconds"] = None
        if work["flops"] == 0.0 or not (is_needed or self.chance(0.3)):
            return
        batch = server["batch"]
        time = work["flops"] * server["devices"] / server["flops"] * self.power(-0.5, 0.5)
        if batch == 1 and self.chance(0.5):
            work["seconds"] = time
        else:
            work["seconds"] = {"1": time, "2": 1.5 * time, str(batch): time * batch**0.7}

    @staticmethod
    def batch_seconds(work: Data, server: Data) -> float:
        """Return the time of a batch of some work, before FLOP/s are taken away [s]."""
        times, devices = work["seconds"], server["devices"]
        if times is None:
            time = work["flops"] * devices / server["flops"]
        else:
            time = times[str(server["batch"])] if isinstance(times, dict) else times
        return float(time / min(1.0, devices))

    # -- paths --

    def paths(self, task: Data) -> Iterator[tuple[str, ...]]:
        """Walk all paths of a task, as nodes from `input` to `output`."""
        heads: dict[str, set[str]] = {"input": set()}
        for name, trunk in self.trunks.items():
            heads |= {block: {after} for block, after in zip(trunk, trunk[1:], strict=False)}
            heads[trunk[-1]] = {"output"} if name == task["dnn"] else set()
        heads["input"].add(self.trunks[task["dnn"]][0])
        for connection in task["connections"]:
            heads[connection["source"]].add(connection["target"])
        stack: list[tuple[str, ...]] = [("input",)]
        while stack:
            path = stack.pop()
            if path[-1] == "output":
                yield path
            else:
                stack += [(*path, head) for head in sorted(heads[path[-1]])]

    def thin_out(self, tasks: list[Data], most: int) -> None:
        more = [len(task.get("alternatives", ())) for task in tasks]
        counts = [sum(1 for _ in self.paths(t)) + n for t, n in zip(tasks, more, strict=True)]
        while math.prod(counts) > most:
            t = int(np.argmax(counts))
            connections = tasks[t]["connections"]
            if not connections:
                tasks[t]["alternatives"].pop()
                more[t] -= 1
            else:
                del connections[self.integer(0, len(connections) - 1)]
            counts[t] = sum(1 for _ in self.paths(tasks[t])) + more[t]

    def linked(self, task: Data, source: str, target: str, connection: Data | None) -> bool:
        """Whether all transfers of a step have a link."""
        start = self.home.get(source)
        if source == "input" and (task.get("input_bytes") or task.get("origin")):
            start = task["origin"] or self.home[self.trunks[task["dnn"]][0]]
            at = connection["server"] if connection and connection["server"] else None
            stops = [start, at or self.home[target], self.home[target]]
        else:
            at = connection["server"] if connection else None
            stops = [start, at, self.home.get(target)]
        stops = [stop for stop in stops if stop is not None]
        pairs = {(link["source"], link["target"]) for link in self.links}
        hops = zip(stops, stops[1:], strict=False)
        return not pairs or all(a == b or (a, b) in pairs for a, b in hops)

    def draw_measured(self, task: Data) -> list[Data]:
        """Measure some paths, the native one included: near the prediction, or overturning it."""
        if self.chance(0.4):
            return []
        by_ends = {(c["source"], c["target"]): c for c in task["connections"]}
        usable = []
        for path in self.paths(task):
            steps = list(zip(path, path[1:], strict=False))
            used = [by_ends[s] for s in steps if s in by_ends]
            if all(self.linked(task, *s, by_ends.get(s)) for s in steps):
                usable.append((path[1:-1], sum(c["drop"] for c in used)))
        order = self.rng.permutation(len(usable))[: self.integer(1, 3)]
        measured = []
        for k in order:
            blocks, drop = usable[k]
            change = self.one_of(
                [self.uniform(-0.02, 0.02), self.uniform(0.03, 0.4), self.uniform(-0.5, -0.03)]
            )
            accuracy = min(1.0, max(0.0, task["accuracy"] - drop + change))
            measured.append({"blocks": list(blocks), "accuracy": accuracy})
        return measured

    def draw_memory(self, server: str, tasks: list[Data], is_tight: bool) -> float | None:
        """Draw a limit that holds some of the adapters that may be placed on the server.

        With ``is_tight`` often so little that it matters whether two tasks share one.
        """
        if self.chance(0.3 if is_tight else 0.6):
            return None
        sizes = [
            4.0 * connection["params"]
            for task in tasks
            for connection in task["connections"]
            if server
            == (
                connection["server"]
                or self.home[connection["target" if connection["source"] == "input" else "source"]]
            )
        ]
        if is_tight and sizes and self.chance(0.7):
            return max(sizes) * self.uniform(0.9, 1.9)
        return sum(sizes) * self.uniform(0.0, 1.0)

    def draw_shape(self, scale: float, exponents: list[float]) -> Data:
        """Draw xi or zeta, for arguments about as large as ``scale``."""
        kind = self.one_of(["power", "power", "logistic", "exponential"])
        if kind == "power":
            return {"kind": kind, "exponent": self.one_of(exponents)}
        if kind == "logistic":
            return {
                "kind": kind,
                "steepness": self.uniform(0.5, 10.0) / scale,
                "midpoint": scale * self.uniform(0.3, 1.5),
            }
        return {"kind": kind, "rate": self.uniform(0.0, 4.0) / scale}
