"""From measurements to an instance."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from code_opt.instance import Instance, parse_instance
from code_opt.instance.model import IDENTITY, INPUT, OUTPUT
from code_opt.networks.cost import FLOAT_BYTES
from code_opt.profiling.config import ServiceConfig
from code_opt.profiling.connections import Ends, Path
from code_opt.profiling.measuring import Connection, Measuring
from code_opt.profiling.preparation import Preparation, Service

BUNDLE = "bundle"
_TASK_FIELDS = {
    *("id", "dnn", "demand", "floor", "weight", "min_accuracy", "max_latency", "input_group"),
    "origin",
}
"""What a task takes from the settings of its service as it is."""


def make_instance(
    measuring: Measuring,
    drops: Mapping[str, Mapping[Ends, float]],
    accuracies: Mapping[str, Mapping[Path, float]],
    *,
    bundle: str | None = None,
) -> Instance:
    """Return the instance of a profile.

    Args:
        measuring: the profiled tasks and their services.
        drops: by task, of each of its connections.
        accuracies: by task, measured paths.
        bundle: folder of the networks, relative to the instance.
    """
    preparation = measuring.preparation
    config = preparation.config
    services = preparation.services.values()
    data: dict[str, Any] = {
        "schema": "code-opt/instance/1",
        "name": config.name,
        "description": config.description,
        "bundle": bundle,
        "servers": [server.model_dump() for server in config.servers],
        "links": [link.model_dump() for link in config.links],
        "dnns": [_dnn(measuring, service) for service in services],
        "tasks": [
            _task(
                measuring, service.config, drops[service.config.id], accuracies[service.config.id]
            )
            for service in services
        ],
        "reward": config.reward.model_dump(),
    }
    return parse_instance(data)


def _dnn(measuring: Measuring, service: Service) -> dict[str, Any]:
    """Return the network of a service: its blocks with their work, sizes and times."""
    settings = service.config
    return {
        "id": settings.dnn,
        "server": settings.server,
        "blocks": [
            {
                "id": f"{settings.dnn}/{k}",
                "flops": float(cost.flops),
                "params": float(cost.params),
                "output_bytes": float(cost.output_bytes),
                "seconds": measuring.block_seconds(settings.dnn, k),
            }
            for k, cost in enumerate(service.costs)
        ],
    }


def _task(
    measuring: Measuring,
    settings: ServiceConfig,
    drops: Mapping[Ends, float],
    accuracies: Mapping[Path, float],
) -> dict[str, Any]:
    """Return the task of a service: its connections, and the paths that were measured."""
    preparation, profile = measuring.preparation, measuring.tasks[settings.id]
    samples = float(len(preparation.images(settings)[1]))
    return {
        **settings.model_dump(include=_TASK_FIELDS),
        "input_bytes": preparation.input_bytes(settings),
        "accuracy": profile.accuracy,
        "samples": samples,
        "connections": [
            _connection(measuring, settings, ends, connection, drops[ends])
            for ends, connection in profile.connections.items()
        ],
        "measured_paths": [
            {"blocks": list(path), "accuracy": accuracy, "samples": samples}
            for path, accuracy in sorted(accuracies.items())
        ],
    }


def _connection(
    measuring: Measuring, settings: ServiceConfig, ends: Ends, connection: Connection, drop: float
) -> dict[str, Any]:
    share = _share(measuring.preparation, settings, connection)
    return {
        "source": ends[0],
        "target": ends[1],
        "drop": drop,
        "flops": float(connection.flops),
        "params": float(connection.params),
        "bytes": _crossing(connection),
        "share": share,
        "seconds": None if share == IDENTITY else measuring.adapter_seconds(connection.spec),
    }


def _share(preparation: Preparation, service: ServiceConfig, connection: Connection) -> str | None:
    """Return the name under which tasks of a group have a connection in common, or None.

    Adapters are trained for one task each. What tasks have in common is an input handed on as it
    is, where all tasks of the group prepare their images in the same way.
    """
    spec = connection.spec
    if (
        service.input_group is None
        or connection.ends[0] != INPUT
        or (spec.kind, spec.source) != ("resize", spec.target)
    ):
        return None
    ways = {
        (tuple(other.config.input), other.normalization)
        for other in preparation.services.values()
        if other.config.input_group == service.input_group
    }
    return IDENTITY if len(ways) == 1 else None


def _crossing(connection: Connection) -> float | None:
    """Return the bytes that leave an adapter for the next block (null: they never travel).

    Adapters run where their source does, so what travels is in the target's shape already.
    """
    if INPUT in connection.ends or OUTPUT in connection.ends:
        return None
    return float(FLOAT_BYTES * prod(connection.spec.target))
