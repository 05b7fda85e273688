"""An instance and results that need no solver."""

from __future__ import annotations

from typing import Any

from code_opt.instance.model import Instance
from code_opt.result import Result

HOSTILE = "scenes[red]\x1b[31m\u202e"
"""A name that would colour, clear or turn a terminal's text if it were printed as it is."""


def make_instance(name: str = "two-services") -> Instance:
    def dnn(identifier: str, server: str) -> dict[str, Any]:
        blocks = [
            {"id": f"{identifier}/{k}", "flops": 1e7, "params": 1000.0, "output_bytes": 1e4}
            for k in range(5)
        ]
        return {"id": identifier, "server": server, "blocks": blocks}

    connections = [
        {"source": "alexnet/1", "target": "mobilenet-v3-small/2", "drop": 0.01},
        {"source": "mobilenet-v3-small/3", "target": "output", "drop": 0.01},
    ]
    return Instance.model_validate(
        {
            "schema": "code-opt/instance/1",
            "name": name,
            "servers": ({"id": "edge-a", "flops": 2e9}, {"id": "edge-b", "flops": 1e9}),
            "links": ({"source": "edge-a", "target": "edge-b", "bandwidth": 1e8},),
            "dnns": (dnn("alexnet", "edge-a"), dnn("mobilenet-v3-small", "edge-b")),
            "tasks": (
                {"id": "objects", "dnn": "alexnet", "accuracy": 0.78, "connections": connections},
                {"id": HOSTILE, "dnn": "mobilenet-v3-small", "accuracy": 0.7},
            ),
        },
        strict=False,
    )


def make_result(method: str = "exact", status: str = "feasible", **changes: Any) -> Result:
    """Return a result; without an assignment where the status says so."""
    data: dict[str, Any] = {
        "schema": "code-opt/result/1",
        "instance": "two-services",
        "method": method,
        "status": status,
        "seconds": 0.02,
    }
    if status in {"optimal", "feasible"}:
        path = ("alexnet/0", "alexnet/1", "mobilenet-v3-small/2", "mobilenet-v3-small/3")
        native = tuple(f"mobilenet-v3-small/{k}" for k in range(5))
        data |= {
            "reward": 120.0,
            "throughput": 331.2,
            "accuracy": 0.7512,
            "tasks": (
                {
                    "task": "objects",
                    "path": path,
                    "rate": 210.5,
                    "accuracy": 0.7612,
                    "accuracy_source": "measured",
                    "latency": 0.0123,
                },
                {
                    "task": HOSTILE,
                    "path": native,
                    "rate": 120.7,
                    "accuracy": 0.7,
                    "accuracy_source": "predicted",
                    "latency": 0.00123,
                },
            ),
            "servers": (
                {"server": "edge-a", "load": 1.9e9, "capacity": 2e9, "utilization": 0.95},
                {"server": "edge-b", "load": 1e9, "capacity": 1e9, "utilization": 1.0},
            ),
            "links": (
                {
                    "source": "edge-a",
                    "target": "edge-b",
                    "load": 4e6,
                    "capacity": None,
                    "utilization": None,
                },
            ),
        }
    return Result.model_validate(data | changes)
