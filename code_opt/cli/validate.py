"""The command ``validate``: what an instance holds, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from code_opt.cli.exits import ExitStatus
from code_opt.cli.loading import load_changed
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.terminal import Console, print_line
from code_opt.cli.text import count, number, plain, product

if TYPE_CHECKING:
    from code_opt.instance import Instance


def validate(instance_path: InstanceArgument, changes: Changes = None) -> ExitStatus:
    """Check an instance and say what it holds, or list all that is wrong with it.

    Exit status: 0 valid, 2 not valid.
    """
    instance = load_changed(instance_path, changes)
    from code_opt.paths import count_paths

    paths = dict(zip((task.id for task in instance.tasks), count_paths(instance), strict=True))
    tasks = instance.tasks
    counts = {
        "servers": len(instance.servers),
        "links": len(instance.links),
        "DNNs": len(instance.dnns),
        "blocks": sum(len(dnn.blocks) for dnn in instance.dnns),
        "tasks": len(tasks),
        "connections": sum(len(task.connections) for task in tasks),
        "measured paths": sum(len(task.measured_paths) for task in tasks),
        **({"alternatives": n} if (n := sum(len(task.alternatives) for task in tasks)) else {}),
    }
    console = Console(highlight=False)
    print_line(console, f"{plain(instance_path)}: ok ({plain(instance.name or 'without a name')})")
    print_line(console, "  " + ", ".join(f"{count(n)} {name}" for name, n in counts.items()))
    for line in _devices(instance):
        print_line(console, f"  {line}")
    groups: dict[str, list[str]] = {}
    for task in tasks:
        if task.input_group is not None:
            groups.setdefault(task.input_group, []).append(plain(task.id))
    for group, members in groups.items():
        print_line(console, f"  input group {plain(group)}: {', '.join(members)}")
    print_line(console, "  paths per task:")
    for name, paths_of_task in paths.items():
        print_line(console, f"    {plain(name)}: {count(paths_of_task)}")
    print_line(console, f"  {product(paths.values())} path assignments in all")
    print_line(console, f"  planning: {_for_sale(instance)}")
    for warning in _warnings(instance):
        print_line(console, f"  warning: {warning}")
    return ExitStatus.DONE


def _devices(instance: Instance) -> list[str]:
    """Return what an instance says about devices and times, if anything."""
    work = [block for dnn in instance.dnns for block in dnn.blocks]
    timed = sum(block.seconds is not None for block in work)
    devices = sum(server.devices for server in instance.servers)
    lines = []
    if any(server.devices != 1.0 for server in instance.servers):
        lines.append(f"{devices:g} devices on {count(len(instance.servers))} servers")
    adapters = [c for task in instance.tasks for c in task.connections]
    timed_adapters = sum(adapter.seconds is not None for adapter in adapters)
    if timed or timed_adapters:
        lines.append(
            f"measured times: {count(timed)} of {count(len(work))} blocks, "
            f"{count(timed_adapters)} of {count(len(adapters))} connections"
        )
    batched = [server for server in instance.servers if server.batch > 1.0]
    if batched:
        sizes = ", ".join(f"{plain(s.id)} {s.batch:.0f}" for s in batched[:5])
        lines.append(f"batches: {sizes}{', ...' if len(batched) > 5 else ''}")
    return lines


def _warnings(instance: Instance) -> Iterator[str]:
    """Yield what is valid, but perhaps not what was meant."""
    home = {block.id: dnn.server for dnn in instance.dnns for block in dnn.blocks}
    own = {dnn.id: dnn.server for dnn in instance.dnns}
    free: list[str] = []
    apart: dict[str, set[str]] = {}
    for task in instance.tasks if instance.links else ():
        origin = task.origin or own[task.dnn]
        entries = [c for c in task.connections if c.source == "input"]
        away = [c for c in entries if (c.server or home[c.target]) != origin]
        is_free = any(c.bytes is None or not task.sends_inputs for c in away)
        if not task.input_bytes and (is_free or own[task.dnn] != origin):
            free.append(plain(task.id))
        if task.input_group is not None and task.sends_inputs:
            apart.setdefault(task.input_group, set()).add(origin)
    if free:
        more = f" and {count(len(free) - 5)} more" if len(free) > 5 else ""
        yield (
            f"inputs of {', '.join(free[:5])}{more} can enter another server, but their "
            "input_bytes is 0: they take nothing of any link"
        )
    for group, origins in apart.items():
        if len(origins) > 1:
            yield (
                f"the input of group {plain(group)} arrives at {count(len(origins))} servers, "
                "those of its tasks' DNNs; give its tasks an origin if it is sent from one"
            )


def _for_sale(instance: Instance) -> str:
    """Return what a plan finds in an instance: demands, units, and servers that run nothing."""
    demands = [task.demand for task in instance.tasks if task.demand is not None]
    servers = sum(
        server.unit_flops is not None or server.unit_devices is not None
        for server in instance.servers
    )
    links = sum(link.unit_bandwidth is not None for link in instance.links)
    text = (
        f"a demand for {count(len(demands))} of {count(len(instance.tasks))} tasks, "
        f"{number(sum(demands))}/s in all\n"
        f"  for sale: units of {count(servers)} of {count(len(instance.servers))} servers"
    )
    if instance.links:
        text += f" and {count(links)} of {count(len(instance.links))} links"
    used = {dnn.server for dnn in instance.dnns}
    idle = [plain(server.id) for server in instance.servers if server.id not in used]
    if idle:
        more = f" and {count(len(idle) - 5)} more" if len(idle) > 5 else ""
        text += f"\n  servers without a network: {', '.join(idle[:5])}{more}"
    return text
