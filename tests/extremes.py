"""Random small instances at the ends of the number range, for tests against brute force.

Capacities, sizes, weights and demands spread over up to 12 orders, accuracies are mostly 0 or
1e-9, drops bring paths to exactly 0, rewards are steep. All of them are valid
(:mod:`code_opt.instance.ranges`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from code_opt.instance import Instance, InstanceError, parse_instance
from code_opt.instance.ranges import LARGEST, SMALLEST

Data = dict[str, Any]
_DRAW_AGAIN = "nothing limits the rate", "weights of all", "which is not listed", "every weight"


def extreme_instance(seed: int) -> Instance:
    """Return the extreme instance of a seed."""
    rng = np.random.default_rng([seed, 7])
    while True:
        try:
            return parse_instance(_Draw(rng).instance(f"extreme-{seed}"))
        except InstanceError as error:
            # A measured path without a link, nothing that limits a rate, a weight far above 1.
            if not all(any(m in p.message for m in _DRAW_AGAIN) for p in error.problems):
                raise


class _Draw:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.spread = float(rng.choice([0.5, 3.0, 6.0, 11.9]))
        """Orders of magnitude that each kind covers."""
        self.bases: dict[str, float] = {}

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, *items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def quantity(self, kind: str, zero: float = 0.0) -> float:
        """Return a number of a kind, 0 with some probability; ends are more likely."""
        if self.chance(zero):
            return 0.0
        if kind not in self.bases:
            low, high = math.log10(SMALLEST), math.log10(LARGEST) - self.spread
            usual = {"capacity": 8.0, "work": 6.0, "bandwidth": 5.0, "size": 3.0}.get(kind, 0.0)
            self.bases[kind] = (
                min(max(usual - self.spread / 2.0, low), high)
                if self.chance(0.6)
                else float(self.rng.uniform(low, high))
            )
        at = self.one_of(0.0, 1.0, *([float(self.rng.random())] * 3))
        return min(max(10.0 ** (self.bases[kind] + at * self.spread), SMALLEST), LARGEST)

    def accuracy(self) -> float:
        return self.one_of(0.0, 0.0, 1e-9, 1e-12, 0.3, 1.0, float(self.rng.random()))

    def drop(self, accuracy: float) -> float:
        exact = self.one_of(accuracy, accuracy / 2.0, accuracy / 3.0, -accuracy)
        return self.one_of(exact, exact, 0.0, 1e-9, -1e-9, 1e-12, 0.3, 1.0, self.rng.random() - 0.3)

    def instance(self, name: str) -> Data:
        rng = self.rng
        servers = [
            {"id": f"s{i}", "flops": self.quantity("capacity")} for i in range(rng.integers(1, 4))
        ]
        names = [server["id"] for server in servers]
        for server in servers:
            if self.chance(0.3):
                server["memory"] = self.quantity("memory", zero=0.1)
        links = []
        if self.chance(0.6):
            for a in names:
                for b in names:
                    if a != b and self.chance(0.8):
                        link: Data = {"source": a, "target": b}
                        if self.chance(0.8):
                            link["bandwidth"] = self.quantity("bandwidth")
                        if self.chance(0.5):
                            link["latency"] = self.quantity("time", zero=0.3)
                        links.append(link)
        dnns = [
            {
                "id": f"d{d}",
                "server": self.one_of(*names),
                "blocks": [
                    {
                        "id": f"d{d}/{b}",
                        "flops": self.quantity("work", zero=0.1),
                        "output_bytes": self.quantity("size", zero=0.3),
                    }
                    for b in range(rng.integers(1, 4))
                ],
            }
            for d in range(rng.integers(1, 4))
        ]
        count = int(rng.integers(1, 4))
        tasks = [self.task(f"t{t}", dnns, names) for t in range(count)]
        if count > 1 and self.chance(0.25):
            for task in tasks[: self.one_of(2, count)]:
                task["input_group"] = "g"
                task.pop("floor", None)
        return {
            "schema": "code-opt/instance/1",
            "name": name,
            "servers": servers,
            "links": links,
            "dnns": dnns,
            "tasks": tasks,
            "reward": {"accuracy": self.shape(1.0), "throughput": self.shape(self.scale)},
        }

    def task(self, name: str, dnns: list[Data], servers: list[str]) -> Data:
        accuracy = self.accuracy()
        blocks = [[b["id"] for b in dnn["blocks"]] for dnn in dnns]
        nodes = [b for chain in blocks for b in chain]
        native = int(self.rng.integers(len(dnns)))
        ends = set()
        for _ in range(self.rng.integers(0, 6)):
            i, j = sorted(self.rng.integers(-1, len(nodes) + 1, size=2).tolist())
            if i < j and (i, j) != (-1, len(nodes)) and i < len(nodes) and j >= 0:
                ends.add((i, j))
        connections = []
        for i, j in sorted(ends):
            connection: Data = {
                "source": "input" if i < 0 else nodes[i],
                "target": "output" if j == len(nodes) else nodes[j],
                "drop": float(self.drop(accuracy)),
            }
            if self.chance(0.4):
                connection["flops"] = self.quantity("work", zero=0.2)
            if self.chance(0.3):
                connection["params"] = self.quantity("parameters", zero=0.2)
            if self.chance(0.4):
                connection["bytes"] = self.quantity("size", zero=0.2)
            if self.chance(0.2):
                connection["server"] = self.one_of(*servers)
            connections.append(connection)
        found: Data = {
            "id": name,
            "dnn": dnns[native]["id"],
            "accuracy": accuracy,
            "connections": connections,
        }
        self.scale = self.quantity("rate")
        if self.chance(0.5):
            found["demand"] = self.scale
        if self.chance(0.2):
            found["floor"] = "standalone"
        elif self.chance(0.15):
            floor = self.quantity("rate")
            found["floor"] = min(floor, found.get("demand", floor))
        if self.chance(0.5):
            found["weight"] = self.quantity("weight", zero=0.1)
        if self.chance(0.2):
            found["min_accuracy"] = self.one_of(accuracy, 1e-9, 1e-6, 0.2)
        if self.chance(0.15):
            found["max_latency"] = self.quantity("time")
        if self.chance(0.3):
            found["measured_paths"] = [{"blocks": blocks[native], "accuracy": self.accuracy()}]
        return found

    def shape(self, scale: float) -> Data:
        """Return a shape whose argument is about as large as ``scale``."""
        kind = self.one_of("power", "power", "logistic", "exponential")
        if kind == "power":
            return {"kind": kind, "exponent": self.one_of(0.0, 0.5, 1.0, 1.0, 2.0, 20.0, 1e-3)}
        steep = min(max(self.one_of(0.0, 1.0, 10.0, 100.0, 1e4) / scale, 1e-12), 1e6)
        if kind == "exponential":
            return {"kind": kind, "rate": steep}
        middle = scale * float(self.rng.uniform(0.0, 1.5))
        return {"kind": kind, "steepness": steep, "midpoint": min(middle, 1e12)}
