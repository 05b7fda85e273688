"""Small edges whose times can be worked out by hand, and feeders for tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from code_opt.evaluation.flow import Stream
from code_opt.evaluation.routes import route
from code_opt.instance import Instance, parse_instance


def edge(
    capacity: dict[str, float],
    dnns: dict[str, tuple[str, Sequence[float]]],
    *,
    links: Sequence[dict[str, Any]] = (),
    tasks: Sequence[dict[str, Any]] = (),
    size: float = 1000.0,
) -> Instance:
    """Return an instance.

    Args:
        capacity: FLOP/s of every server.
        dnns: server and FLOP of every block, by DNN; each has one task of the same name.
        links: as in the file.
        tasks: more keys of tasks, each with the ``id`` of its DNN.
        size: bytes that every block puts out.
    """
    more = {task["id"]: task for task in tasks}
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "by hand",
            "servers": [{"id": s, "flops": flops} for s, flops in capacity.items()],
            "links": list(links),
            "dnns": [
                {
                    "id": dnn,
                    "server": server,
                    "blocks": [
                        {"id": f"{dnn}/{k}", "flops": f, "params": 1.0, "output_bytes": size}
                        for k, f in enumerate(flops)
                    ],
                }
                for dnn, (server, flops) in dnns.items()
            ],
            "tasks": [{"id": dnn, "dnn": dnn, "accuracy": 0.5} | more.get(dnn, {}) for dnn in dnns],
            "reward": {"accuracy": {"kind": "power", "exponent": 8.0}},
        }
    )


def stream(
    instance: Instance, paths: dict[str, Sequence[str]], rate: float, *latency: float
) -> Stream:
    """Return a stream without inputs; latencies of the model by task, 0 where none are given."""
    found = route(instance, paths, rate)
    return Stream(found, latency or (0.0,) * len(paths), (None,) * len(paths))


def one_server(*flops: float) -> Instance:
    """Return tasks a, b, ... of one block each on a server of 1000 FLOP/s."""
    return edge({"s": 1000.0}, {"ab"[k]: ("s", [each]) for k, each in enumerate(flops)})


def two_servers() -> Instance:
    """Return task t, whose path leads from server a over a link to server b.

    Blocks take 10 ms on either; a link of 1 MB/s takes 20 ms for an output, and 10 ms of way.
    """
    return edge(
        {"a": 1e8, "b": 1e8},
        {"t": ("a", [1e6, 1e6]), "u": ("b", [1e6, 1e6])},
        links=[{"source": "a", "target": "b", "bandwidth": 1e6, "latency": 0.01}],
        tasks=[
            {
                "id": "t",
                "connections": [
                    {"source": "t/0", "target": "u/1", "drop": -0.4},
                    {"source": "u/1", "target": "output", "drop": 0.0},
                ],
            },
            {"id": "u", "demand": 1.0},
        ],
        size=2e4,
    )


CROSSING = {"t": ["t/0", "u/1"]}
"""The path of :func:`two_servers` that uses the link."""


class At:
    """Feeds one stream at given times, and is finished when all answers are there."""

    def __init__(self, *times: float, streams: Sequence[int] | None = None, answers: int) -> None:
        self.coming = list(zip(times, streams or [0] * len(times), strict=True))
        self.missing = answers

    @property
    def time(self) -> float:
        return self.coming[0][0] if self.coming else math.inf

    def take(self, now: float) -> tuple[float, int]:
        time, stream = self.coming.pop(0)
        return max(time, 0.0), stream

    def answered(self, stream: int, task: int) -> None:
        self.missing -= 1

    def finished(self, now: float) -> bool:
        return self.missing == 0


def light(instance: Instance, factor: float = 1e-3) -> Instance:
    """Return the same edge with less work on slower servers: the rates stay."""
    data = instance.to_dict()
    for server in data["servers"]:
        server["flops"] *= factor
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["flops"] *= factor
    for task in data["tasks"]:
        for connection in task["connections"]:
            connection["flops"] *= factor
    return parse_instance(data)
