"""An instance in device time, from the networks of its bundle: measured on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.instance.model import IDENTITY
from code_opt.networks.bundle import Bundle, TimedOn, save_bundle
from code_opt.networks.threads import library_versions
from code_opt.networks.timing import BlockTime
from code_opt.profiling.assembling import BUNDLE
from code_opt.profiling.config import TimingConfig
from code_opt.profiling.preparation import Report, silent
from code_opt.profiling.times import TimedPart, adapter_part, block_part, part_times, seconds_of

Times = dict[str, dict[int, BlockTime]]


def timed_instance(
    instance: Instance,
    bundle: Bundle,
    timing: TimingConfig,
    *,
    device: str = "cpu",
    report: Report = silent,
) -> tuple[Instance, Times]:
    """Return an instance with the time of every block and adapter on this machine.

    Args:
        instance: whose accuracies, servers and demands stay as they are.
        bundle: its networks.
        timing: batch sizes, and seconds for each part and batch size.
        device: "cpu" or "cuda".
        report: told how far it is.

    Returns:
        the instance, and the times with their spread by part and batch size.

    Raises:
        InputError: the bundle lacks an adapter of the instance, or a server computes in batches
            that are not timed.
    """
    for server in instance.servers:
        if int(server.batch) not in timing.batches:
            sizes = ", ".join(map(str, timing.batches))
            raise InputError(
                f"server {server.id!r} computes in batches of {server.batch:.0f}, which are not "
                f"timed: {sizes}"
            )
    data = instance.to_dict()
    parts: dict[str, TimedPart] = {}
    for dnn in data["dnns"]:
        trunk = bundle.trunk(dnn["id"])
        for k, block in enumerate(dnn["blocks"]):
            parts[block["id"]] = block_part(dnn["id"], dnn["id"], trunk, k)
    names = {}
    for task in data["tasks"]:
        for one in _adapted(task):
            key = (task["id"], one["source"], one["target"])
            part = adapter_part(bundle.spec(*key))
            parts[part.name] = part
            names[key] = part.name
    found = part_times(
        parts.values(), timing, device=device, environment=library_versions(), report=report
    )
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            block["seconds"] = seconds_of(found[block["id"]])
    for task in data["tasks"]:
        for one in _adapted(task):
            name = names[task["id"], one["source"], one["target"]]
            one["seconds"] = seconds_of(found[name])
    return instance.replace(dnns=data["dnns"], tasks=data["tasks"]), found


def _adapted(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a task's connections that have an adapter: an input may be handed on as it is."""
    return [one for one in task["connections"] if one["share"] != IDENTITY]


def copy_bundle(bundle: Bundle, folder: Path, device: str) -> str:
    """Copy a bundle that says that its instance's times are of this machine; return its name.

    Args:
        bundle: to copy.
        folder: of the instance.
        device: "cpu" or "cuda".

    Raises:
        InputError: the folder is the bundle's own.
    """
    target = folder / BUNDLE
    if target.resolve() == bundle.folder.resolve():
        raise InputError(f"{folder}: is the instance's own folder; choose another one")
    target.mkdir(parents=True, exist_ok=True)
    for name in bundle.manifest.sha256:
        shutil.copyfile(bundle.folder / name, target / name)
    manifest = bundle.manifest.model_copy(update={"timed": TimedOn.this(device)})
    save_bundle(target, manifest, {}, {})
    return BUNDLE
