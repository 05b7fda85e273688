"""Rules between the parts of an instance: ids, references, graphs, requirements.

They run on plain data from which everything that is not well-formed has been cut out, so
that all problems of a file are found at once. A rule that needs a part that was cut
out keeps silent: it would only repeat what is reported already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import BaseModel

from code_opt.instance.problems import (
    LISTED,
    InstanceError,
    Issue,
    Locate,
    Location,
    Problem,
    hint,
    place_of,
    shown,
)
from code_opt.instance.ranges import range_issues
from code_opt.instance.records import IDENTITY, INPUT, OUTPUT
from code_opt.instance.structure import M, collection_paused, read_structure, without

Data = Mapping[str, Any]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SHOWN_NODES = 12
"""Nodes of a cycle that a message shows at most."""
_ORDER = (
    "schema",
    "name",
    "description",
    "bundle",
    "currency",
    "servers",
    "links",
    "dnns",
    "tasks",
    "reward",
)


def parse(
    model: type[M],
    data: Any,
    source: str,
    locate: Locate = place_of,
    earlier: Sequence[Problem] = (),
    known: Callable[[Location], bool] = lambda _: False,
) -> M:
    """Build an instance and check all its rules.

    Args:
        model: the class to build, :class:`code_opt.instance.Instance`.
        data: the fields of an instance.
        source: what the data came from.
        locate: the name of a location in the source.
        earlier: problems that were found while reading the source.
        known: whether a missing field is among these already.

    Raises:
        InstanceError: something is wrong, here or earlier.
    """
    instance, issues = read_structure(model, data)
    broken = [issue.location for issue in issues]
    if isinstance(data, dict) and () not in broken and broken != [("schema",)]:
        clean = without(data, broken) if broken else data
        with collection_paused():
            issues += _Rules(clean, set(broken), locate).check()
    issues = [issue for issue in issues if not known(issue.location)]
    if issues or earlier or instance is None:
        issues.sort(key=lambda issue: _rank(issue.location))
        found = [Problem(locate(i.location), i.message, i.value) for i in issues]
        raise InstanceError(source, [*earlier, *found])
    return instance


def _rank(location: Location) -> tuple[tuple[int, int, str], ...]:
    """Return the sort key that puts problems into the order of the format page."""
    first = str(location[0]) if location else ""
    top = _ORDER.index(first) if first in _ORDER else len(_ORDER)
    parts = [(1, part, "") if isinstance(part, int) else (0, 0, part) for part in location[1:]]
    return ((0, top, first), *parts)


def _records(parent: Any, key: str) -> list[Data]:
    """Return a list of records; what is no record counts as an empty one."""
    return [r if isinstance(r, dict) else _plain(r) for r in parent.get(key) or ()]


def _plain(record: Any) -> Data:
    return record.model_dump(by_alias=True) if isinstance(record, BaseModel) else {}


class _Rules:
    """One run of all rules over the well-formed parts of an instance."""

    def __init__(self, data: Data, broken: set[Location], locate: Locate) -> None:
        self.data = data
        self.broken = broken
        self.locate = locate
        self.issues: list[Issue] = []
        self.servers = _records(data, "servers")
        self.links = _records(data, "links")
        self.dnns = _records(data, "dnns")
        self.tasks = _records(data, "tasks")
        self.blocks_of = [_records(dnn, "blocks") for dnn in self.dnns]
        # Where each id stands first, once ids are checked.
        self.server_ids: dict[str, Location] = {}
        self.place_of: dict[Any, str] = {}
        """Site of each server, itself where it has none."""
        self.places: dict[str, None] = {}
        """Between which links lead."""
        self.dnn_ids: dict[str, Location] = {}
        self.block_ids: dict[str, Location] = {}
        # All blocks numbered, DNN by DNN, and the number of each one's DNN.
        self.names: list[str] = []
        self.index: dict[str, int] = {}
        self.home: list[int] = []
        self.server_of: dict[str, str | None] = {}
        self.ends_of: dict[str, tuple[str | None, str | None]] = {}  # first and last block
        self.complete: dict[str, bool] = {}
        """Which kinds of records are known completely."""
        self.listed: dict[tuple[str, str], int] = {}
        """Links by their ends."""
        self.groups: dict[str, list[int]] = {}
        """Tasks of each input group."""

    def check(self) -> list[Issue]:
        """Run every rule and return what is wrong."""
        self._check_bundle()
        self._check_ids()
        self._index()
        self._check_servers()
        self._check_links()
        for i, dnn in enumerate(self.dnns):
            self._refer(("dnns", i, "server"), dnn.get("server"), "server", self.server_ids)
        for i, task in enumerate(self.tasks):
            self._check_task(("tasks", i), task)
        self._check_times()
        self._check_groups()
        self._check_weights()
        self.issues += range_issues(self.data, self.locate)
        if not self.issues and not self.broken:
            self._check_rates()
        return self.issues

    def _report(self, location: Location, message: str, value: Any = None) -> None:
        self.issues.append(Issue(location, message, None if value is None else shown(value)))

    def _hint(self, word: str, known: Collection[str]) -> str:
        # Suggestions beyond what the message lists would never be read.
        return hint(word, known) if len(self.issues) < LISTED else ""

    # Ids and references

    def _check_bundle(self) -> None:
        bundle = self.data.get("bundle")
        if bundle is None:
            return
        parts = PureWindowsPath(bundle).parts  # splits at both kinds of slashes
        absolute = PurePosixPath(bundle).is_absolute() or PureWindowsPath(bundle).anchor
        if not bundle.strip() or absolute or ".." in parts or _CONTROL.search(bundle):
            self._report(
                ("bundle",),
                "must be a folder below the instance's own: a relative path without '..'",
                bundle,
            )

    def _check_ids(self) -> None:
        self.server_ids = self._ids("server", self._numbered(("servers",), self.servers))
        for server in self.servers:
            if server.get("id") is not None:
                self.place_of[server["id"]] = server.get("site") or server["id"]
        self.places = dict.fromkeys(self.place_of.values())
        self.dnn_ids = self._ids("DNN", self._numbered(("dnns",), self.dnns))
        self.block_ids = self._ids(
            "block",
            (
                pair
                for i, blocks in enumerate(self.blocks_of)
                for pair in self._numbered(("dnns", i, "blocks"), blocks)
            ),
        )
        self._ids("task", self._numbered(("tasks",), self.tasks))

    @staticmethod
    def _numbered(location: Location, records: Iterable[Data]) -> Iterator[tuple[Location, Any]]:
        return (((*location, i, "id"), record.get("id")) for i, record in enumerate(records))

    def _ids(self, what: str, ids: Iterable[tuple[Location, Any]]) -> dict[str, Location]:
        """Check the ids of one kind; return where each stands first."""
        first: dict[str, Location] = {}
        for location, identifier in ids:
            if identifier is None:
                continue
            if identifier in first:
                place = self.locate(first[identifier][:-1])
                self._report(location, f"this id belongs to {place} already", identifier)
                continue
            first[identifier] = location
            if what == "block" and identifier in (INPUT, OUTPUT):
                self._report(location, "'input' and 'output' are reserved", identifier)
            self._check_text(location, identifier)
        return first

    def _check_text(self, location: Location, identifier: str) -> None:
        if _CONTROL.search(identifier):
            self._report(location, "an id must not hold control characters", identifier)
        elif identifier != identifier.strip():
            self._report(location, "an id must not begin or end with a blank", identifier)
        elif ">" in identifier:
            self._report(location, "an id must not hold '>' (paths are written a > b)", identifier)

    def _index(self) -> None:
        """Number all blocks, DNN by DNN, and note which parts are known completely."""
        for number, (dnn, blocks) in enumerate(zip(self.dnns, self.blocks_of, strict=True)):
            for block in blocks:
                name = block.get("id")
                if name is None:
                    continue
                self.index.setdefault(name, len(self.names))
                self.server_of.setdefault(name, dnn.get("server"))
                self.names.append(name)
                self.home.append(number)
            if blocks and dnn.get("id") is not None:
                self.ends_of.setdefault(dnn["id"], (blocks[0].get("id"), blocks[-1].get("id")))
        known = {self._part(location) for location in self.broken}
        self.complete = {
            "server": "servers" not in known,
            "DNN": "dnns" not in known,
            "block": not {"dnns", "blocks"} & known,
            "link": not any(location[:1] == ("links",) for location in self.broken),
        }

    @staticmethod
    def _part(location: Location) -> str:
        """Return the list whose ids are in doubt because of a structural problem, or ''."""
        names = [str(part) for part in location if isinstance(part, str)]
        if names and names[-1] == "id":
            names.pop()
        if names[:1] == ["tasks"] or not names:
            return ""
        return names[-1]

    def _refer(self, location: Location, value: Any, what: str, known: Mapping[str, Any]) -> bool:
        """Report a reference to something that is not there; return whether it is there."""
        if value is None:
            return False
        if value in known:
            return True
        if self.complete[what]:
            self._report(location, f"no such {what}{self._hint(value, known)}", value)
        return False

    # Servers and times of work

    def _check_servers(self) -> None:
        for i, server in enumerate(self.servers):
            flops, devices = server.get("flops"), server.get("devices")
            if server.get("site") is not None:
                self._check_text(("servers", i, "site"), server["site"])
            if flops is not None and devices == 0.0:
                text = "must be greater than 0 where flops are given: they are those of all devices"
                self._report(("servers", i, "devices"), text, devices)
            unit = server.get("unit_flops")
            if unit is not None and flops is None and ("servers", i, "flops") not in self.broken:
                text = "must be null where flops are: a unit is a number of devices (unit_devices)"
                self._report(("servers", i, "unit_flops"), text, unit)
            elif unit is not None and server.get("unit_devices") is not None:
                text = "must be null where unit_flops are given: a unit is one of both"
                self._report(("servers", i, "unit_devices"), text, server["unit_devices"])

    def _check_times(self) -> None:
        """Check that all work has a time on its server: of the batch there, else by FLOP/s."""
        numbers = {server.get("id"): i for i, server in reversed([*enumerate(self.servers)])}
        without: dict[int, list[Location]] = {}
        for location, work, name in self._work():
            number = numbers.get(name)
            if number is None:
                continue
            server = self.servers[number]
            times = work.get("seconds")
            if (*location, "seconds") in self.broken:
                continue
            if times is None:
                if work.get("flops"):
                    without.setdefault(number, []).append(location)
                continue
            sizes = sorted(map(int, times)) if isinstance(times, Mapping) else [1]
            batch = server.get("batch", 1.0)
            if ("servers", number, "batch") not in self.broken and batch not in sizes:
                self._report(
                    (*location, "seconds"),
                    f"has no time of batch {batch:.0f}, which server {name!r} runs; there are "
                    f"those of batch {', '.join(map(str, sizes))}",
                )
        for number, places in without.items():
            if self.servers[number].get("flops") is None and (
                ("servers", number, "flops") not in self.broken
            ):
                others = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
                self._report(
                    ("servers", number, "flops"),
                    f"is required: {self.locate(places[0])}{others} has FLOPs and no seconds",
                )

    def _work(self) -> Iterator[tuple[Location, Data, Any]]:
        """Yield all blocks and adapters, each with the server that runs it."""
        for i, (dnn, blocks) in enumerate(zip(self.dnns, self.blocks_of, strict=True)):
            for j, block in enumerate(blocks):
                yield ("dnns", i, "blocks", j), block, dnn.get("server")
        for i, task in enumerate(self.tasks):
            for j, connection in enumerate(_records(task, "connections")):
                source, target = connection.get("source"), connection.get("target")
                near = target if source == INPUT else source
                place = connection.get("server") or self.server_of.get(near or "")
                yield ("tasks", i, "connections", j), connection, place

    # Links

    def _check_links(self) -> None:
        for i, link in enumerate(self.links):
            source, target = link.get("source"), link.get("target")
            for end, value in (("source", source), ("target", target)):
                site = self.place_of.get(value)
                if value in self.places:
                    continue
                if site is None:
                    self._refer(("links", i, end), value, "server", self.places)
                else:
                    text = f"links lead between sites, and it stands at one: write {site!r}"
                    self._report(("links", i, end), text, value)
            if source is None or target is None:
                continue
            if source == target:
                self._report(
                    ("links", i, "target"), "a link must join two different servers", target
                )
            elif (source, target) in self.listed:
                place = self.locate(("links", self.listed[source, target]))
                self._report(("links", i), f"{place} has the same ends already")
            else:
                self.listed[source, target] = i

    def _missing_link(
        self, task: Data, tail: str, head: str, connection: Data
    ) -> tuple[str, str] | None:
        """Return a hop of a step for which no link is listed, if links are."""
        if not self.listed:
            return None
        return next(
            (hop for hop in self._hops(task, tail, head, connection) if hop not in self.listed),
            None,
        )

    def _hops(self, task: Data, tail: str, head: str, connection: Data) -> list[tuple[str, str]]:
        """Return the transfers of a step: to its adapter's server and on from there.

        Args:
            task: whose step it is.
            tail: a block or the input.
            head: a block or the output.
            connection: the one with these ends; empty for a native arc.
        """
        place = connection.get("server") or self.server_of.get(head if tail == INPUT else tail)
        stops = [
            self._origin(task) if tail == INPUT else self.server_of.get(tail),
            place,
            None if head == OUTPUT else self.server_of.get(head),
        ]
        places = [None if stop is None else self.place_of.get(stop, stop) for stop in stops]
        return [(a, b) for a, b in pairwise(places) if a is not None and b is not None and a != b]

    def _origin(self, task: Data) -> str | None:
        """Return the server from which the inputs of a task travel, None where they do not."""
        if task.get("origin") is None and not task.get("input_bytes"):
            return None
        first, _ = self.ends_of.get(task.get("dnn", ""), (None, None))
        return task.get("origin") or self.server_of.get(first or "")

    def _size(self, task: Data, tail: str, connection: Data, size_of: Mapping[Any, float]) -> float:
        """Return the bytes that a step hands on, defaults filled in."""
        size = connection.get("bytes")
        if size is None:
            size = task.get("input_bytes", 0.0) if tail == INPUT else size_of.get(tail, 0.0)
        return float(size)

    # Tasks

    def _check_task(self, location: Location, task: Data) -> None:
        self._refer((*location, "dnn"), task.get("dnn"), "DNN", self.dnn_ids)
        if task.get("input_group") is not None:
            self._check_text((*location, "input_group"), task["input_group"])
        if task.get("origin") is not None:
            self._refer((*location, "origin"), task["origin"], "server", self.server_ids)
        floor, demand = task.get("floor"), task.get("demand")
        if demand is not None and floor is not None and floor != "standalone" and floor > demand:
            self._report((*location, "floor"), f"must be at most the demand, {demand:g}", floor)
        connections = _records(task, "connections")
        by_ends = self._check_connections((*location, "connections"), connections)
        self._check_cycle((*location, "connections"), by_ends)
        self._check_alternatives(location, task)
        if task.get("measured_paths"):
            arcs = {ends: connections[j] for ends, j in by_ends.items()}
            self._check_measured(location, task, arcs)

    def _check_alternatives(self, location: Location, task: Data) -> None:
        first: dict[str, int] = {}
        for j, alternative in enumerate(_records(task, "alternatives")):
            here, name = (*location, "alternatives", j, "dnn"), alternative.get("dnn")
            self._refer(here, name, "DNN", self.dnn_ids)
            if name is None:
                continue
            if name == task.get("dnn"):
                self._report(here, "is the task's own DNN, whose path is native already", name)
            elif name in first:
                place = self.locate((*here[:-2], first[name]))
                self._report(here, f"{place} is this alternative already", name)
            else:
                first[name] = j

    def _check_connections(
        self, location: Location, connections: list[Data]
    ) -> dict[tuple[str, str], int]:
        """Check ends and servers of a task's connections; return their numbers by their ends."""
        known, servers = self.index, self.server_ids
        by_ends: dict[tuple[str, str], int] = {}
        for j, connection in enumerate(connections):
            source, target = connection.get("source"), connection.get("target")
            server = connection.get("server")
            if server is not None and server not in servers:
                self._refer((*location, j, "server"), server, "server", servers)
            if connection.get("share") is not None:
                self._check_share((*location, j), connection)
            self._check_guess((*location, j), connection)
            if source not in known:
                if source == OUTPUT:
                    self._report((*location, j, "source"), "'output' can only be a target", source)
                elif source != INPUT:
                    self._refer((*location, j, "source"), source, "block", known)
            if target not in known:
                if target == INPUT:
                    self._report((*location, j, "target"), "'input' can only be a source", target)
                elif target != OUTPUT:
                    self._refer((*location, j, "target"), target, "block", known)
                elif source == INPUT:
                    self._report((*location, j), "a path must hold a block: no input -> output")
            if source is None or target is None:
                continue
            if source == target:
                self._report((*location, j, "target"), "must differ from the source", target)
            elif (source, target) in by_ends:
                place = self.locate((*location, by_ends[source, target]))
                self._report((*location, j), f"{place} has the same ends already")
            else:
                by_ends[source, target] = j
        return by_ends

    def _check_guess(self, location: Location, connection: Data) -> None:
        low, drop, high = (connection.get(k) for k in ("drop_low", "drop", "drop_high"))
        for key, value, other in (("drop_low", low, high), ("drop_high", high, low)):
            if value is None and other is not None and (*location, key) not in self.broken:
                self._report((*location, key), "is required where the other end of the range is")
        if drop is not None and low is not None and low > drop:
            self._report((*location, "drop_low"), f"must be at most the drop, {drop:g}", low)
        if drop is not None and high is not None and high < drop:
            self._report((*location, "drop_high"), f"must be at least the drop, {drop:g}", high)

    def _check_share(self, location: Location, connection: Data) -> None:
        self._check_text((*location, "share"), connection["share"])
        if connection["share"] != IDENTITY:
            return
        for field in ("flops", "params"):
            if connection.get(field):
                self._report(
                    (*location, field),
                    "must be 0: the share 'identity' says that there is no adapter",
                    connection[field],
                )
        for field in ("seconds", "server"):
            if connection.get(field) is None:
                continue
            self._report(
                (*location, field),
                "must be null: the share 'identity' says that there is no adapter",
                connection[field],
            )

    def _check_cycle(self, location: Location, by_ends: Iterable[tuple[str, str]]) -> None:
        """Report one cycle of trunk arcs and connections, if there is one.

        Kahn's algorithm on the blocks that connections touch; of a trunk only the order of
        these matters. Linear in the number of connections (but for sorting the blocks).
        """
        index = self.index
        following: dict[int, list[int]] = {}
        entering: dict[int, int] = {}
        for source, target in by_ends:
            tail, head = index.get(source), index.get(target)
            if tail is None or head is None:
                if tail is not None:
                    following.setdefault(tail, [])
                if head is not None:
                    following.setdefault(head, [])
                continue
            following.setdefault(tail, []).append(head)
            following.setdefault(head, [])
            entering[head] = entering.get(head, 0) + 1
        direct = {tail: set(heads) for tail, heads in following.items()} if entering else {}
        for tail, head in pairwise(sorted(following)):
            if self.home[tail] == self.home[head]:
                following[tail].append(head)
                entering[head] = entering.get(head, 0) + 1
        free = [node for node in following if not entering.get(node)]
        for node in free:
            for head in following[node]:
                entering[head] -= 1
                if not entering[head]:
                    free.append(head)
        if len(free) == len(following):
            return
        before = {
            head: tail for tail, heads in following.items() if entering.get(tail) for head in heads
        }
        node = next(node for node in following if entering.get(node))
        walked: dict[int, None] = {}
        while node not in walked:
            walked[node] = None
            node = before[node]
        backwards = list(walked)
        nodes = [node, *reversed(backwards[backwards.index(node) + 1 :]), node]
        full = [nodes[0]]
        for tail, head in pairwise(nodes):
            full += [head] if head in direct[tail] else range(tail + 1, head + 1)
        names = [self.names[node] for node in full]
        if len(names) > _SHOWN_NODES:
            names[_SHOWN_NODES // 2 : -_SHOWN_NODES // 2] = ["..."]
        self._report(location, f"the task's graph has a cycle: {' -> '.join(names)}")

    def _check_measured(
        self, location: Location, task: Data, by_ends: Mapping[tuple[str, str], Data]
    ) -> None:
        first: dict[tuple[str, ...], int] = {}
        size = len(location) + 1
        doubtful = task.get("dnn") not in self.ends_of or any(
            broken[:size] == (*location, "connections") for broken in self.broken
        )
        for j, path in enumerate(_records(task, "measured_paths")):
            here = (*location, "measured_paths", j, "blocks")
            blocks = path.get("blocks")
            if not blocks or None in blocks:
                continue
            known = [
                self._refer((*here, k), block, "block", self.index)
                for k, block in enumerate(blocks)
            ]
            if tuple(blocks) in first:
                place = self.locate((*here[:-2], first[tuple(blocks)]))
                self._report(here, f"the same path as {place}")
                continue
            first[tuple(blocks)] = j
            if all(known) and not doubtful:
                fault = self._step_fault(task, [INPUT, *blocks, OUTPUT], by_ends)
                if fault:
                    self._report(here, fault)

    def _step_fault(
        self, task: Data, nodes: list[str], by_ends: Mapping[tuple[str, str], Data]
    ) -> str | None:
        """Return what is wrong with the first step of a path that is no arc of the graph."""
        first, last = self.ends_of[task["dnn"]]
        if first is None or last is None:
            return None
        for tail, head in pairwise(nodes):
            connection = by_ends.get((tail, head))
            if connection is not None or (tail, head) == (INPUT, first):
                hop = self._missing_link(task, tail, head, connection or {})
                if hop is not None and self.complete["link"]:
                    return (
                        f"no path: {tail} -> {head} needs a link "
                        f"from {hop[0]} to {hop[1]}, which is not listed"
                    )
                continue
            if tail == INPUT:
                arc = head == first
            elif head == OUTPUT:
                arc = tail == last
            else:
                a, b = self.index[tail], self.index[head]
                arc = b == a + 1 and self.home[a] == self.home[b]
            if not arc and self.complete["block"]:
                return (
                    f"no path: the step {tail} -> {head} is neither native "
                    "nor a connection of the task"
                )
        return None

    # Input groups

    def _check_groups(self) -> None:
        """Check that the tasks of a group can have one rate and agree on what they share."""
        for i, task in enumerate(self.tasks):
            if task.get("input_group") is not None:
                self.groups.setdefault(task["input_group"], []).append(i)
        for members in self.groups.values():
            if len(members) > 1:
                self._check_common_inputs(members)
                self._check_common_rate(members)
                self._check_common_adapters(members)

    def _check_common_inputs(self, members: list[int]) -> None:
        """Report tasks whose input is not that of the first one of their group."""
        for field, default in (("input_bytes", 0.0), ("origin", None)):
            if any(("tasks", i, field) in self.broken for i in members):
                continue
            common = self.tasks[members[0]].get(field, default)
            for i in members[1:]:
                value = self.tasks[i].get(field, default)
                if value != common:
                    place = self.locate(("tasks", members[0], field))
                    self._report(
                        ("tasks", i, field),
                        "the tasks of an input group have the same input: must be "
                        f"{'null' if common is None else shown(common)} as in {place}",
                        value,
                    )

    def _check_common_rate(self, members: list[int]) -> None:
        demands = [(self.tasks[i]["demand"], i) for i in members if self._number(i, "demand")]
        if not demands:
            return
        least, asking = min(demands)
        for i in members:
            floor = self.tasks[i].get("floor")
            if i != asking and self._number(i, "floor") and floor > least:
                place = self.locate(("tasks", asking, "demand"))
                self._report(
                    ("tasks", i, "floor"),
                    "the tasks of an input group have one rate: "
                    f"must be at most the least demand among them, {least:g} ({place})",
                    floor,
                )

    def _number(self, task: int, field: str) -> bool:
        """Whether a task has a number there."""
        return self.tasks[task].get(field) not in (None, "standalone")

    def _check_common_adapters(self, members: list[int]) -> None:
        """Report connections that are said to be the same adapter, but differ in a number."""
        if any("output_bytes" in location for location in self.broken):
            return
        first: dict[tuple[Any, ...], tuple[Location, dict[str, Any]]] = {}
        size_of = {b.get("id"): b.get("output_bytes", 0.0) for bs in self.blocks_of for b in bs}
        for i in members:
            for j, connection in enumerate(_records(self.tasks[i], "connections")):
                here = ("tasks", i, "connections", j)
                ends = connection.get("source"), connection.get("target")
                share = connection.get("share")
                if share is None or None in ends or any(b[:4] == here for b in self.broken):
                    continue
                figures = self._figures(self.tasks[i], connection, size_of)
                there, known = first.setdefault((*ends, share), (here, figures))
                for field, value in figures.items():
                    if there[1] != i and value != known[field]:
                        self._report(
                            (*here, field),
                            f"{self.locate(there)} has the same ends and the share {share!r}: "
                            f"the same adapter must have the same {field}",
                            connection.get(field),
                        )

    def _figures(
        self, task: Data, connection: Data, size_of: Mapping[Any, float]
    ) -> dict[str, Any]:
        """Return what is the same for all tasks with an adapter, defaults filled in."""
        source, target = connection["source"], connection["target"]
        size, server = self._size(task, source, connection, size_of), connection.get("server")
        if server is None:
            server = self.server_of.get(target if source == INPUT else source)
        flops, params = connection.get("flops", 0.0), connection.get("params", 0.0)
        times = connection.get("seconds")
        if times is not None and not isinstance(times, Mapping):
            times = {"1": times}
        return {
            "flops": flops,
            "params": params,
            "bytes": size,
            "server": server,
            "seconds": times and {str(size): float(time) for size, time in times.items()},
        }

    # Requirements of the whole

    def _check_weights(self) -> None:
        if not self.tasks or any("weight" in location for location in self.broken):
            return
        total = sum(float(task.get("weight", 1.0)) for task in self.tasks)
        if total == 0.0:
            self._report(("tasks",), "the weights of all tasks are 0; one must be greater")

    def _check_rates(self) -> None:
        """Report tasks whose rate nothing limits: no demand, and a path that costs nothing."""
        blocks = [block for blocks in self.blocks_of for block in blocks]
        idle = {block["id"] for block in blocks if not self._takes_time(block)}
        if not idle:
            return
        size_of = {block["id"]: block.get("output_bytes", 0.0) for block in blocks}
        limited = {
            ends for ends, i in self.listed.items() if self.links[i].get("bandwidth") is not None
        }
        for members in self._rate_groups():
            tasks = [self.tasks[i] for i in members]
            if any(task.get("demand") is not None for task in tasks):
                continue
            # One rate for all: what limits one of them limits them all.
            paths = [self._idle_path(task, idle, size_of, limited) for task in tasks]
            if all(paths):
                self._report(
                    ("tasks", members[0], "demand"),
                    f"is required: nothing limits the rate of the path {' > '.join(paths[0])}, "
                    "which has no work and crosses no limited link",
                )

    @staticmethod
    def _takes_time(work: Data) -> bool:
        """Whether a block or adapter, whose times are known to be complete, uses its server."""
        times = work.get("seconds")
        if times is None:
            return bool(work.get("flops", 0.0) > 0.0)
        return any(times.values()) if isinstance(times, Mapping) else times > 0.0

    def _rate_groups(self) -> Iterator[list[int]]:
        """Yield the tasks that have one rate: those of an input group, or a single one."""
        for i, task in enumerate(self.tasks):
            members = self.groups.get(task.get("input_group") or "", [i])
            if members[0] == i:
                yield members

    def _idle_path(
        self,
        task: Data,
        idle: set[str],
        size_of: Mapping[str, float],
        limited: set[tuple[str, str]],
    ) -> list[str]:
        """Return the blocks of a path without work on any server or limited link, if any."""
        for alternative in _records(task, "alternatives"):
            number = next(i for i, d in enumerate(self.dnns) if d["id"] == alternative["dnn"])
            names = [block["id"] for block in self.blocks_of[number]]
            hops = self._hops(task, INPUT, names[0], {})
            if (
                idle.issuperset(names)
                and not self._missing_link(task, INPUT, names[0], {})
                and not (task.get("input_bytes") and any(hop in limited for hop in hops))
            ):
                return names
        first, last = self.ends_of[task["dnn"]]
        arcs: dict[str, list[str]] = {str(last): [OUTPUT]}
        costly = set()
        steps: dict[tuple[str, str], Data] = {(INPUT, str(first)): {}}
        steps |= {(c["source"], c["target"]): c for c in _records(task, "connections")}
        for (tail, head), connection in steps.items():
            size = self._size(task, tail, connection, size_of)
            hops = self._hops(task, tail, head, connection)
            if (
                self._takes_time(connection)
                or self._missing_link(task, tail, head, connection)
                or (size > 0.0 and any(hop in limited for hop in hops))
            ):
                costly.add((tail, head))
            else:
                arcs.setdefault(tail, []).append(head)
        came_from: dict[str, str] = {}
        reached = [INPUT]
        for tail in reached:
            heads = list(arcs.get(tail, ()))
            follower = self.index[tail] + 1 if tail in self.index else len(self.names)
            if follower < len(self.names) and self.home[follower] == self.home[follower - 1]:
                heads.append(self.names[follower])
            for head in heads:
                if head in came_from or (tail, head) in costly:
                    continue
                if head in idle or head == OUTPUT:
                    came_from[head] = tail
                    reached.append(head)
        path: list[str] = []
        node = OUTPUT
        while node in came_from and came_from[node] != INPUT:
            node = came_from[node]
            path.append(node)
        return path[::-1]
