"""From rows of a workbook to an instance and what is asked of its plan.

Each type of device at a site is a server of its own, with 0 devices where there are none yet. A
network has a copy on each type at its site that all of its blocks have times for: the first one is
the service's own DNN, the others are alternatives of it at the same site. A connection leads from
each copy to each copy of the network that it enters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from code_opt.desk.grids import SUFFIX, read_folder, read_workbook
from code_opt.desk.guesses import guessed_drop
from code_opt.desk.reading import (
    SheetRow,
    SheetTable,
    check_currencies,
    check_references,
    read_settings,
    read_tables,
)
from code_opt.desk.sheets import SHEETS, by_name
from code_opt.errors import InputError
from code_opt.instance import Instance, InstanceError, Periods, Problem, files
from code_opt.instance.problems import Location, hint, shown
from code_opt.instance.records import IDENTITY, INPUT, OUTPUT, SCHEMA
from code_opt.instance.rules import parse


@dataclass(frozen=True)
class PlanRequest:
    """An instance, and what a planner asks of it."""

    instance: Instance
    years: tuple[str, ...]
    """Names of the periods of growth, at least one."""
    growth: tuple[float, ...]
    """Factor on all demands in each of them."""
    periods: Periods | None = None
    """Demands by the hour; the instance has the largest of each service."""
    max_loss: float | None = None
    """Most points of average accuracy lost."""
    keep: float | None = None
    """Share of every demand that is kept while any one server is down."""
    discount: float = 0.0
    """Of a year."""


_TASK = tuple(item.key for item in by_name("Services").fields[2:])
"""Fields of a task that are columns of the sheet of services."""


class _Copy(NamedTuple):
    """A network on one type of device at its site."""

    type: str
    server: str
    suffix: str
    """Ends the ids of the copy and its blocks; nothing for the first one."""


def is_workbook(path: Path) -> bool:
    """Tell whether a path is a planner's workbook: an ``.xlsx`` file, or a folder of its sheets."""
    if path.suffix.lower() == SUFFIX and not path.is_dir():
        return True
    own = {sheet.file for sheet in SHEETS if sheet.is_required} - {"blocks.csv"}
    try:
        return path.is_dir() and any(entry.name in own for entry in path.iterdir())
    except OSError:
        return False


def load_request(path: Path) -> PlanRequest:
    """Read a planner's workbook, or the same as a folder of CSV files.

    Raises:
        InstanceError: something in it is wrong; its ``problems`` lists everything, with its cell.
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            grids, problems = read_folder(path, {sheet.file for sheet in SHEETS})
        else:
            grids, problems = read_workbook(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    tables = read_tables(grids, problems)
    settings = read_settings(tables["Settings"], problems)
    check_references(tables, problems)
    check_currencies(tables, settings.text("currency"), problems)
    builder = _Builder(tables, settings, problems)
    builder.build(path.stem)
    if problems:
        raise InstanceError(str(path), list(dict.fromkeys(problems)))
    return builder.request(str(path))


def load_instance(path: str | PathLike[str]) -> Instance:
    """Read an instance: a JSON or YAML file, a folder, or a planner's workbook (``.xlsx``).

    A folder holds the tables of an instance or the sheets of a workbook as CSV files, or
    ``instance.json``.

    Raises:
        InstanceError: the content is wrong; its ``problems`` lists everything at once.
        InputError: the file is missing, unreadable, too large or not text.
    """
    if is_workbook(Path(path)):
        return load_request(Path(path)).instance
    return files.load_instance(path)


class _Builder:
    """The instance of a workbook in the making."""

    def __init__(
        self, tables: Mapping[str, SheetTable], settings: SheetRow, problems: list[Problem]
    ) -> None:
        self._tables, self._settings, self._problems = tables, settings, problems
        self._data: dict[str, Any] = {}
        self._places: dict[Location, tuple[SheetRow, str]] = {}
        self._servers: dict[str, list[tuple[str, str]]] = {}
        """Type and id of the servers of each site."""
        self._copies: dict[str, list[_Copy]] = {}
        self._network_of: dict[str, str] = {}
        """Network of each block."""
        self._blocks_of: dict[str, list[str]] = {}
        """Blocks of each network, in order."""

    def build(self, name: str) -> None:
        """Make the data of the instance; report what does not fit together."""
        settings = self._settings
        self._data = {
            "schema": SCHEMA,
            "name": settings.text("name") or name,
            "currency": settings.text("currency"),
            "servers": list(self._each_server()),
            "dnns": list(self._each_dnn()),
            "tasks": list(self._each_task()),
            "links": list(self._each_link()),
        }

    def request(self, source: str) -> PlanRequest:
        """Return what was built.

        Raises:
            InstanceError: the rules of an instance do not hold.
        """
        try:
            instance = parse(Instance, self._data, source, self._locate)
        except InstanceError as error:
            raise InstanceError(source, [self._as_written(p) for p in error.problems]) from None
        settings, years = self._settings, self._rows("Growth")
        return PlanRequest(
            instance=instance,
            years=tuple(row.text("year") or "" for row in years) or ("now",),
            growth=tuple(row.number("factor") for row in years) or (1.0,),
            periods=self._periods(),
            max_loss=settings.number("max_loss") if "max_loss" in settings.values else None,
            keep=settings.number("keep") if "keep" in settings.values else None,
            discount=settings.number("discount"),
        )

    def _rows(self, sheet: str) -> list[SheetRow]:
        """Return the rows of a sheet in which nothing is wrong."""
        return [row for row in self._tables[sheet].rows if not row.is_wrong]

    def _report(self, row: SheetRow, key: str, message: str) -> None:
        cell = row.cells.get(key)
        value = None if cell is None else shown(cell.value)
        self._problems.append(Problem(row.places[key], message, value))

    def _locate(self, location: Location) -> str:
        for size in range(len(location), -1, -1):
            if location[:size] in self._places:
                row, key = self._places[location[:size]]
                return row.places[key]
        return "Services!A1"

    def _as_written(self, problem: Problem) -> Problem:
        """Return a problem of the instance with the value as it stands in its cell."""
        for row, key in self._places.values():
            if row.places[key] == problem.place and key in row.cells:
                return Problem(problem.place, problem.message, shown(row.cells[key].value))
        return Problem(problem.place, problem.message)

    def _place(self, location: Location, row: SheetRow, **keys: str) -> None:
        """Note where the fields of a record stand, and the record itself by its first one."""
        self._places[location] = (row, next(iter(keys.values())))
        for name, key in keys.items():
            self._places[*location, name] = (row, key)

    # Servers

    def _each_server(self) -> Iterator[dict[str, Any]]:
        """Yield a server for each type of device at each site."""
        types = {row.text("type"): row for row in self._rows("Device types")}
        rows = self._rows("Devices")
        kinds: dict[str | None, int] = {}
        for row in rows:
            kinds[row.text("site")] = kinds.get(row.text("site"), 0) + 1
        headroom = self._settings.number("headroom")
        if headroom == 1.0:
            self._report(self._settings, "headroom", "must be below 1: it leaves no time to sell")
        number = 0
        for row in rows:
            site, name = row.text("site") or "", row.text("type")
            kind = types.get(name)
            if kind is None or name is None:
                continue
            server = site if kinds[site] == 1 else f"{site}/{name}"
            self._servers.setdefault(site, []).append((name, server))
            most = row.values.get("max_units")
            has = row.number("devices")
            if has == 0.0 and most == 0.0:
                self._report(
                    row, "max_units", "there is none and none can be bought; leave out the row"
                )
            place = ("servers", number)
            self._place(place, row, id="site", devices="devices", max_units="max_units")
            self._places[*place, "cost"] = (kind, "price")
            self._places[*place, "yearly_cost"] = (kind, "yearly_price")
            self._places[*place, "memory"] = (kind, "memory")
            number += 1
            found = {
                "id": server,
                "devices": has,
                "unit_devices": None if most == 0.0 else 1.0,
                "max_units": most,
                "cost": kind.number("price"),
                "yearly_cost": kind.number("yearly_price"),
                "batch": kind.number("batch", 1.0),
                "memory": kind.values.get("memory"),
            }
            if kinds[site] > 1:
                found["site"] = site
            if headroom:
                found["max_utilization"] = 1.0 - headroom
            yield found
        for row in self._rows("Sites"):
            if row.text("site") not in kinds:
                self._report(
                    row,
                    "site",
                    "no device stands or can be bought here: give it a row "
                    "in the sheet 'Devices', or leave it out",
                )

    # Networks

    def _each_dnn(self) -> Iterator[dict[str, Any]]:
        """Yield a DNN for each copy of each network."""
        blocks: dict[str, list[SheetRow]] = {}
        for row in self._tables["Blocks"].rows:
            blocks.setdefault(row.text("network") or "", []).append(row)
        number = 0
        for row in self._rows("Networks"):
            network, site = row.text("network") or "", row.text("site") or ""
            own = blocks.get(network, [])
            if not own:
                self._report(row, "network", "has no row in the sheet 'Blocks'")
            if not own or any(block.is_wrong for block in own):
                continue
            copies = list(self._each_copy(site, own))
            if not copies and site in self._servers:
                names = " or ".join(f"'ms on {name}'" for name, _ in self._servers[site])
                self._report(
                    row,
                    "site",
                    "no type of device there has times for all blocks of "
                    f"{network!r}: fill in {names} in the sheet 'Blocks'",
                )
            self._copies[network] = copies
            self._blocks_of[network] = [block.text("block") or "" for block in own]
            self._network_of |= dict.fromkeys(self._blocks_of[network], network)
            for copy in copies:
                self._place(("dnns", number), row, id="network", server="site")
                yield {
                    "id": network + copy.suffix,
                    "server": copy.server,
                    "blocks": list(self._blocks(number, own, copy)),
                }
                number += 1

    def _each_copy(self, site: str, blocks: list[SheetRow]) -> Iterator[_Copy]:
        """Yield the types at a site that a network can run on; report times that are missing."""
        is_first = True
        for name, server in self._servers.get(site, []):
            missing = [block for block in blocks if name not in block.times]
            if not missing:
                yield _Copy(name, server, "" if is_first else f"@{name}")
                is_first = False
            elif len(missing) < len(blocks):
                block = missing[0]
                if name in block.places:
                    self._report(
                        block,
                        name,
                        f"is empty, while other blocks of the network have "
                        f"times on {name!r}: give all of them one, or none",
                    )

    def _blocks(self, number: int, rows: list[SheetRow], copy: _Copy) -> Iterator[dict[str, Any]]:
        """Yield the blocks of one copy of a network."""
        for i, row in enumerate(rows):
            place = ("dnns", number, "blocks", i)
            self._place(place, row, id="block", output_bytes="output_bytes", seconds=copy.type)
            yield {
                "id": f"{row.text('block')}{copy.suffix}",
                "flops": 0.0,
                "output_bytes": row.number("output_bytes"),
                "seconds": {self._batch(copy.type): row.times[copy.type]},
            }

    def _batch(self, name: str) -> str:
        """Return the batch of a type of device, as a key of times."""
        rows = self._rows("Device types")
        return f"{next(r.number('batch', 1.0) for r in rows if r.text('type') == name):.0f}"

    # Services

    def _each_task(self) -> Iterator[dict[str, Any]]:
        """Yield a task for each service."""
        demands = self._peaks()
        percentile = self._settings.values.get("percentile")
        if percentile == 1.0:
            message = "must be below 100 %: no limit holds for every input under load"
            self._report(self._settings, "percentile", message)
        connections: dict[str | None, list[SheetRow]] = {}
        for row in self._rows("Connections"):
            connections.setdefault(row.text("service"), []).append(row)
        number = 0
        for row in self._rows("Services"):
            service, network = row.text("service"), row.text("network") or ""
            demand = row.values.get("demand")
            if demand is None and service not in demands:
                self._report(
                    row,
                    "demand",
                    "has no demand: write it here, or by the hour in the sheet 'Demand'",
                )
            elif demand is not None and service in demands:
                self._report(
                    row,
                    "demand",
                    "the sheet 'Demand' has this service, too: leave one of both empty",
                )
            site = row.text("origin")
            if network not in self._copies or (site is not None and site not in self._servers):
                continue
            place = ("tasks", number)
            self._place(place, row, id="service", dnn="network", **{key: key for key in _TASK})
            task: dict[str, Any] = {key: row.values[key] for key in _TASK if key in row.values}
            task["demand"] = demands.get(service, demand)
            if "max_latency" in task:
                task["latency_percentile"] = percentile
            if site is not None:
                task["origin"] = self._servers[site][0][1]
            others = self._copies[network][1:]
            found = list(self._each_connection(place, connections.get(service, []), network))
            ends = {(c["source"], c["target"]) for c in found}
            found += [
                c
                for c in self._ways_through(network, others, found)
                if (c["source"], c["target"]) not in ends
            ]
            alternatives = [
                {"dnn": network + copy.suffix, "accuracy": row.number("accuracy")}
                for copy in others
            ]
            yield {
                "id": service,
                "dnn": network,
                **task,
                "connections": found,
                "alternatives": alternatives,
            }
            number += 1

    def _peaks(self) -> dict[str | None, float]:
        """Return the largest demand of each service that has demands by the hour."""
        found: dict[str | None, float] = {}
        table = self._tables["Demand"]
        for row in self._rows("Demand"):
            for name in table.headings:
                if name not in row.times:
                    self._report(row, name, "is required; write 0 for no demand")
                elif "service" not in row.values and row.times[name] == 0.0:
                    self._report(row, name, "a period lasts some hours: must be above 0")
            if "service" in row.values:
                found[row.text("service")] = max(row.times.values(), default=0.0)
        return found

    def _periods(self) -> Periods | None:
        """Return the demands by the hour, None where there are none."""
        names = tuple(self._tables["Demand"].headings)
        rows = self._rows("Demand")
        own = {row.text("service") or "": row for row in rows}
        hours = own.pop("", None)
        if not own:
            return None
        return Periods(
            names=names,
            hours=(1.0,) * len(names) if hours is None else tuple(hours.times[n] for n in names),
            demands={s: tuple(row.times[name] for name in names) for s, row in own.items()},
            places={s: row.places["service"] for s, row in own.items()},
        )

    def _each_connection(
        self, task: Location, rows: list[SheetRow], network: str
    ) -> Iterator[dict[str, Any]]:
        """Yield the connections of a service between all copies that they can join."""
        number = 0
        for row in rows:
            ends = [self._end(row, "source", INPUT), self._end(row, "target", OUTPUT)]
            if None in ends:
                continue
            source, target = ends
            if source == INPUT and target == OUTPUT:
                self._report(row, "target", "a connection from input to output skips everything")
                continue
            drop = {"drop": row.number("drop")}
            if "drop" not in row.values:
                drop = guessed_drop(
                    network, source or "", target or "", self._blocks_of, self._network_of
                )
            for tail, head in self._pairs(source or "", target or ""):
                copy = tail or head
                assert copy is not None
                time = row.times.get(copy.type)
                self._place(
                    (*task, "connections", number),
                    row,
                    source="source",
                    target="target",
                    drop="drop",
                    bytes="bytes",
                    params="params",
                    seconds=copy.type if copy.type in row.places else "drop",
                )
                number += 1
                yield {
                    "source": source if tail is None else f"{source}{tail.suffix}",
                    "target": target if head is None else f"{target}{head.suffix}",
                    **drop,
                    "bytes": row.values.get("bytes"),
                    "params": row.number("params"),
                    "seconds": None if time is None else {self._batch(copy.type): time},
                }

    def _end(self, row: SheetRow, key: str, special: str) -> str | None:
        """Return the block at an end of a connection, None where there is none of that name."""
        name = row.text(key) or ""
        if name.casefold() == special:
            return special
        if name in self._network_of:
            return name
        known = [row.text("block") or "" for row in self._tables["Blocks"].rows]
        if name not in known:
            advice = hint(name, [special, *known])
            self._report(row, key, f"no block of the sheet 'Blocks', nor {special!r}{advice}")
        return None

    def _pairs(self, source: str, target: str) -> Iterator[tuple[_Copy | None, _Copy | None]]:
        """Yield the copies between which a connection leads; None for input and output."""
        tails = self._copies[self._network_of[source]] if source != INPUT else [None]
        heads = self._copies[self._network_of[target]] if target != OUTPUT else [None]
        is_own = source != INPUT and target != OUTPUT
        is_own = is_own and self._network_of[source] == self._network_of[target]
        for tail in tails:
            for head in heads:
                if not is_own or tail == head:
                    yield tail, head

    def _ways_through(
        self, network: str, copies: list[_Copy], connections: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield the ways into and out of copies of the own network, where connections use them."""
        blocks = self._blocks_of[network]
        for copy in copies:
            own = {f"{block}{copy.suffix}" for block in blocks}
            if any(c["source"] in own for c in connections):
                yield {
                    "source": INPUT,
                    "target": f"{blocks[0]}{copy.suffix}",
                    "drop": 0.0,
                    "share": IDENTITY,
                }
            if any(c["target"] in own for c in connections):
                yield {"source": f"{blocks[-1]}{copy.suffix}", "target": OUTPUT, "drop": 0.0}

    # Links

    def _each_link(self) -> Iterator[dict[str, Any]]:
        """Yield the links between sites, each way."""
        number = 0
        listed: dict[tuple[str, str], str] = {}
        rows = self._rows("Links")
        for row in rows:
            source, target = row.text("source") or "", row.text("target") or ""
            if source == target:
                self._report(row, "target", "a link leads to another site")
                continue
            if "bandwidth" not in row.values and "unit_bandwidth" in row.values:
                self._report(row, "unit_bandwidth", "an upgrade needs a bandwidth to add to")
            if "price" not in row.values and "unit_bandwidth" in row.values:
                self._report(row, "price", "an upgrade needs a price; write 0 if it is free")
            ways = [(source, target)]
            if row.values.get("both_ways", True):
                ways.append((target, source))
            for way in ways:
                if way in listed:
                    self._report(
                        row, "target", f"{way[0]!r} to {way[1]!r} stands at {listed[way]} already"
                    )
                    continue
                listed[way] = row.places["target"]
                self._place(
                    ("links", number),
                    row,
                    source="source",
                    target="target",
                    bandwidth="bandwidth",
                    latency="latency",
                    cost="price",
                    yearly_cost="yearly_price",
                    unit_bandwidth="unit_bandwidth",
                    max_units="max_units",
                )
                number += 1
                yield {
                    "source": way[0],
                    "target": way[1],
                    "bandwidth": row.values.get("bandwidth"),
                    "latency": row.number("latency"),
                    "cost": row.number("price"),
                    "yearly_cost": row.number("yearly_price"),
                    "unit_bandwidth": row.values.get("unit_bandwidth"),
                    "max_units": row.values.get("max_units"),
                }
