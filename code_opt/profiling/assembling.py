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
from code_opt.profiling.preparation import Preparation

BUNDLE = "bundle"


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
    dnns, tasks = [], []
    for service in preparation.services.values():
        settings = service.config
        dnns.append(
            {
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
        )
        profile = measuring.tasks[settings.id]
        tasks.append(
            {
                **settings.model_dump(
                    include={
                        "id",
                        "dnn",
                        "demand",
                        "floor",
                        "weight",
                        "min_accuracy",
                        "max_latency",
                        "input_group",
                        "origin",
                    }
                ),
                "input_bytes": preparation.input_bytes(settings),
                "accuracy": profile.accuracy,
                "samples": float(len(preparation.images(settings)[1])),
                "connections": [
                    {
                        "source": source,
                        "target": target,
                        "drop": drops[settings.id][source, target],
                        "flops": float(connection.flops),
                        "params": float(connection.params),
                        "bytes": _crossing(connection),
                        "share": _share(preparation, settings, connection),
                        "seconds": None
                        if _share(preparation, settings, connection) == IDENTITY
                        else measuring.adapter_seconds(connection.spec),
                    }
                    for (source, target), connection in profile.connections.items()
                ],
                "measured_paths": [
                    {
                        "blocks": list(path),
                        "accuracy": accuracy,
                        "samples": float(len(preparation.images(settings)[1])),
                    }
                    for path, accuracy in sorted(accuracies[settings.id].items())
                ],
            }
        )
    data: dict[str, Any] = {
        "schema": "code-opt/instance/1",
        "name": config.name,
        "description": config.description,
        "bundle": bundle,
        "servers": [server.model_dump() for server in config.servers],
        "links": [link.model_dump() for link in config.links],
        "dnns": dnns,
        "tasks": tasks,
        "reward": config.reward.model_dump(),
    }
    return parse_instance(data)


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
