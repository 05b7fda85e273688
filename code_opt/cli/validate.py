"""The command ``validate``: what an instance holds, or what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from code_opt.cli.exits import ExitStatus
from code_opt.cli.loading import load_changed
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.terminal import Console, print_line
from code_opt.cli.text import count, number, plain, product

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from code_opt.instance import Instance
    from code_opt.paths.scaling import CoefficientRange


def validate(instance_path: InstanceArgument, changes: Changes = None) -> ExitStatus:
    """Check an instance and say what it holds, or list all that is wrong with it.

    Exit status: 0 valid, 2 not valid.
    """
    instance = load_changed(instance_path, changes)
    from code_opt.paths import PathProblem
    from code_opt.paths.scaling import coefficient_ranges

    problem = PathProblem(instance)
    paths = dict(zip((task.id for task in instance.tasks), problem.path_counts, strict=True))
    ranges = coefficient_ranges(problem.topology)
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
    print_line(console, f"  coefficients: {_scaling(ranges)}")
    for warning in (*_poorly_scaled(ranges), *_free_inputs(instance), *_unloaded(instance)):
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
        lines.append("batches: " + _some([f"{plain(s.id)} {s.batch:.0f}" for s in batched]))
    return lines


def _scaling(ranges: Sequence[CoefficientRange]) -> str:
    """Return how far apart the coefficients of a program are."""
    if not ranges:
        return "none: nothing is limited"
    worst = max(ranges, key=lambda found: found.ratio)
    return (
        f"{min(r.least for r in ranges):.2g} to {max(r.most for r in ranges):.2g} (capacities "
        f"are 1); within one row at most {worst.ratio:.2g} times as large ({plain(worst.row)})"
    )


def _poorly_scaled(ranges: Sequence[CoefficientRange]) -> Iterator[str]:
    """Yield the rows whose coefficients are too far apart."""
    from code_opt.paths.scaling import POOR_RATIO

    for found in ranges:
        if found.ratio > POOR_RATIO:
            yield (
                f"{plain(found.row)}: poorly scaled: {plain(found.most_of)} counts "
                f"{found.ratio:.2g} times as much as {plain(found.least_of)}; what is so small is "
                "lost in tolerances: compare their units, or leave it out"
            )


def _unloaded(instance: Instance) -> Iterator[str]:
    """Yield limits of the unloaded time, and waits for batches that count nowhere."""
    is_promised = any(task.latency_percentile is not None for task in instance.tasks)
    limited = [
        plain(task.id)
        for task in instance.tasks
        if task.max_latency is not None and task.latency_percentile is None
    ]
    if limited:
        yield (
            f"max_latency of {_some(limited)} limits the unloaded time, no wait included; "
            "latency_percentile or --latency-percentile makes it one under load"
        )
    delayed = [plain(server.id) for server in instance.servers if server.max_batch_delay > 0.0]
    if delayed and not is_promised:
        yield (
            f"max_batch_delay of {_some(delayed)} is part of no time: only times under load "
            "have it, and no task has a latency_percentile"
        )


def _some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many there are beside."""
    more = f" and {count(len(names) - 5)} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _free_inputs(instance: Instance) -> Iterator[str]:
    """Yield inputs that cross links for free, and those of one group at several places."""
    place = {server.id: server.place for server in instance.servers}
    home = {block.id: place[dnn.server] for dnn in instance.dnns for block in dnn.blocks}
    own = {dnn.id: place[dnn.server] for dnn in instance.dnns}
    free: list[str] = []
    apart: dict[str, set[str]] = {}
    for task in instance.tasks if instance.links else ():
        origin = place[task.origin] if task.origin else own[task.dnn]
        entries = [c for c in task.connections if c.source == "input"]
        away = [c for c in entries if (place[c.server] if c.server else home[c.target]) != origin]
        is_free = any(c.bytes is None or not task.sends_inputs for c in away)
        is_free |= any(own[alternative.dnn] != origin for alternative in task.alternatives)
        if not task.input_bytes and (is_free or own[task.dnn] != origin):
            free.append(plain(task.id))
        if task.input_group is not None and task.sends_inputs:
            apart.setdefault(task.input_group, set()).add(origin)
    if free:
        yield (
            f"inputs of {_some(free)} can enter another server, but their "
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
        text += f"\n  servers without a network: {_some(idle)}"
    return text
