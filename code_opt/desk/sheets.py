"""The sheets of a planner's workbook: their columns, in which units, and what each says.

The reader, the template and the tests all go by this table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["name", "text", "number", "count", "share", "money", "yes-no"]
"""What a cell holds. A share is a number from 0 to 1, or in percent with the sign."""

NOTES = "Notes"
"""Any sheet may have this column; nothing is read from it."""
TIME = re.compile(r"ms on (.+)", re.IGNORECASE)
"""Heading of a column with the milliseconds of a batch on a type of device."""


@dataclass(frozen=True)
class Field:
    """A column of a sheet, or a row of the sheet of settings."""

    heading: str
    """With its unit in brackets, which may be left out in a workbook."""
    key: str
    kind: Kind
    about: str
    """What it says, shown as a comment of the heading."""
    factor: float = 1.0
    """What 1 in the cell is in the unit of an instance."""
    is_required: bool = False
    refers: str | None = None
    """Sheet in whose first column the name has to stand."""
    least: float = 0.0
    most: float | None = None
    is_above: bool = False
    """Whether the least value itself is too small."""

    @property
    def unit(self) -> str | None:
        """The unit in the heading."""
        found = re.search(r"\[(.+)\]", self.heading)
        return None if found is None else found[1]


@dataclass(frozen=True)
class Sheet:
    """A sheet: a record per row, below the row with the headings."""

    name: str
    about: str
    fields: tuple[Field, ...]
    unique: tuple[str, ...]
    """Keys that no two rows have in common; one alone names the row for other sheets."""
    is_required: bool = True
    has_times: bool = False
    """Whether it has columns of milliseconds by type of device."""
    is_wide: bool = False
    """Whether every column but the first is a period, named by its heading."""
    examples: tuple[tuple[object, ...], ...] = field(default=(), repr=False)
    """Rows of the template."""
    example_columns: tuple[str, ...] = ()
    """Headings of times or periods in the template."""

    @property
    def file(self) -> str:
        """Name of the sheet as a CSV file."""
        return f"{self.name.lower().replace(' ', '-')}.csv"


def _name(heading: str, key: str, about: str, refers: str | None = None, **more: bool) -> Field:
    return Field(
        heading, key, "name", about, refers=refers, is_required=more.get("is_required", True)
    )


SETTINGS = (
    Field("Name", "name", "text", "Name of the plan, shown in all results."),
    Field("Currency", "currency", "text", "Currency of all prices, such as EUR."),
    Field(
        "Accuracy lost at most [points]",
        "max_loss",
        "number",
        "Most points of average accuracy that coordination may cost; empty: no limit.",
        most=100.0,
    ),
    Field(
        "Headroom",
        "headroom",
        "share",
        "Share of every device's time that is kept free; empty: none.",
        most=1.0,
    ),
    Field(
        "Kept when a server fails",
        "keep",
        "share",
        "Share of every demand that has to be served while any one server is down; empty: not "
        "asked for.",
        most=1.0,
    ),
    Field(
        "Latency limits hold for",
        "percentile",
        "share",
        "Share of inputs that a latency limit holds for, waiting under load included, such as "
        "95 %; empty: limits are of the time without any wait.",
        most=1.0,
        is_above=True,
    ),
    Field(
        "Discount per year",
        "discount",
        "share",
        "Money of the next year counts 1 / (1 + discount) of this year's; empty: 0.",
        most=9.0,
    ),
)
"""Rows of the sheet of settings, each at most once."""

_SITE = "Sites"
_TYPE = "Device types"

SHEETS: tuple[Sheet, ...] = (
    Sheet(
        "Settings",
        "What is asked for. Leave a value empty where nothing is.",
        (
            _name("Setting", "setting", "One of the names of the template."),
            Field("Value", "value", "text", "Its value."),
        ),
        ("setting",),
        is_required=False,
        examples=(
            ("Name", "two sites"),
            ("Currency", "EUR"),
            ("Accuracy lost at most [points]", 1),
            ("Headroom", 0.2),
            ("Kept when a server fails", None),
            ("Latency limits hold for", None),
            ("Discount per year", 0.05),
        ),
    ),
    Sheet(
        _SITE,
        "The places where devices stand.",
        (_name("Site", "site", "Name of the site, such as north."),),
        ("site",),
        examples=(("north",), ("hub",)),
    ),
    Sheet(
        _TYPE,
        "The types of devices that you have or can buy.",
        (
            _name("Type", "type", "Name of the type, such as T4."),
            Field("Price", "price", "money", "Price of one device.", is_required=True),
            Field(
                "Price per year",
                "yearly_price",
                "money",
                "What one bought device costs in each year that it stands: energy, space, "
                "support; empty: 0.",
            ),
            Field("Power [W]", "power", "number", "Power of one device, if you know it."),
            Field(
                "Batch",
                "batch",
                "count",
                "How many inferences a device computes at once; the times of blocks are those "
                "of such a batch. Empty: 1.",
                least=1.0,
                most=1e6,
            ),
            Field(
                "Adapter memory [MB]",
                "memory",
                "number",
                "Memory that one server of this type has free for adapters; empty: plenty.",
                factor=1e6,
            ),
        ),
        ("type",),
        examples=(("T4", 2200, 310, 70, 1, None), ("L4", 3400, 360, 72, 1, None)),
    ),
    Sheet(
        "Devices",
        "Which types of devices each site has, or can get. A type in several rows of different "
        "sites is fine; a type that a site cannot get has no row.",
        (
            _name("Site", "site", "Where.", _SITE),
            _name("Type", "type", "Which type.", _TYPE),
            Field("Devices now", "devices", "count", "How many there are; empty: 0.", most=1e6),
            Field(
                "Most to buy",
                "max_units",
                "count",
                "How many more can be bought; 0: none, empty: as many as are needed.",
                most=1e6,
            ),
        ),
        ("site", "type"),
        examples=(
            ("north", "T4", 1, None),
            ("north", "L4", 0, 4),
            ("hub", "L4", 1, None),
        ),
    ),
    Sheet(
        "Networks",
        "The neural networks that run today, each at one site. Its copies on several types of "
        "devices at that site are compared by the plan.",
        (
            _name("Network", "network", "Name of the network."),
            _name("Site", "site", "Where it runs.", _SITE),
        ),
        ("network",),
        examples=(("cars-net", "north"), ("crowd-net", "hub")),
    ),
    Sheet(
        "Blocks",
        "The blocks of each network, in order, with the time of each type of device.",
        (
            _name("Network", "network", "Whose block it is.", "Networks"),
            _name("Block", "block", "Name of the block; every block of all networks has its own."),
            Field("Output [kB]", "output_bytes", "number", "Size of what it hands on.", factor=1e3),
        ),
        ("block",),
        has_times=True,
        example_columns=("ms on T4", "ms on L4"),
        examples=(
            ("cars-net", "cars-net/0", 300, 2.1, 1.2),
            ("cars-net", "cars-net/1", 100, 3.0, 1.7),
            ("cars-net", "cars-net/2", 0.04, 1.1, 0.6),
            ("crowd-net", "crowd-net/0", 400, None, 2.2),
            ("crowd-net", "crowd-net/1", 100, None, 3.1),
            ("crowd-net", "crowd-net/2", 0.04, None, 1.2),
        ),
    ),
    Sheet(
        "Services",
        "What is asked of the networks.",
        (
            _name("Service", "service", "Name of the service."),
            _name("Network", "network", "Its own network, which answers it today.", "Networks"),
            Field(
                "Accuracy",
                "accuracy",
                "share",
                "Accuracy on its own network: 90 % or 0.9.",
                is_required=True,
                most=1.0,
            ),
            Field(
                "Demand [1/s]",
                "demand",
                "number",
                "Inferences per second; empty where the sheet Demand has them by the hour.",
            ),
            Field(
                "Rate kept [1/s]",
                "floor",
                "number",
                "Rate that is kept when a server fails; empty: 0.",
            ),
            Field("Least accuracy", "min_accuracy", "share", "Of its answers; empty: 0.", most=1.0),
            Field(
                "Latency limit [ms]",
                "max_latency",
                "number",
                "Longest time of one inference, without waiting or by the settings; empty: none.",
                factor=1e-3,
                is_above=True,
            ),
            Field("Weight", "weight", "number", "In the average accuracy; empty: 1."),
            Field(
                "Input group",
                "input_group",
                "name",
                "Services with the same name here look at the same input.",
            ),
            Field(
                "Input [kB]",
                "input_bytes",
                "number",
                "Size of one input, where it travels to another site; empty: 0.",
                factor=1e3,
            ),
            _name(
                "Arrives at",
                "origin",
                "Site at which inputs arrive; empty: that of its own network.",
                _SITE,
                is_required=False,
            ),
        ),
        ("service",),
        examples=(
            ("cars", "cars-net", 0.91, None, None, 0.85, 40, None, None, 30, None),
            ("crowd", "crowd-net", 0.88, 80, None, None, None, None, None, 30, None),
        ),
    ),
    Sheet(
        "Connections",
        "The trained adapters: from a block of one network to a block of another one, over "
        "some blocks of a network, or early to the output.",
        (
            _name("Service", "service", "For which service it is trained.", "Services"),
            _name("From", "source", "A block, or input."),
            _name("To", "target", "A block, or output."),
            Field(
                "Drop",
                "drop",
                "share",
                "Accuracy that it costs: 1.5 % or 0.015. Empty: nobody knows; a typical drop is "
                "guessed by the sort of connection and its depth.",
                least=-1.0,
                most=1.0,
            ),
            Field(
                "Handed on [kB]",
                "bytes",
                "number",
                "Size of what it hands on; empty: the output of the block that it leaves.",
                factor=1e3,
            ),
            Field(
                "Parameters [M]",
                "params",
                "number",
                "Of the adapter, in millions; empty: 0.",
                factor=1e6,
            ),
        ),
        ("service", "source", "target"),
        is_required=False,
        has_times=True,
        example_columns=("ms on T4", "ms on L4"),
        examples=(
            ("cars", "cars-net/0", "output", 0.05, None, None, 0.1, 0.05),
            ("cars", "cars-net/0", "crowd-net/2", 0.012, None, 0.5, 0.2, 0.1),
            ("cars", "crowd-net/2", "output", 0.004, None, None, 0.1, 0.05),
            ("crowd", "crowd-net/0", "output", 0.06, None, None, 0.1, 0.05),
        ),
    ),
    Sheet(
        "Links",
        "What connects the sites. Without a row, transfers between all sites are free and take "
        "no time; with some rows, only these pairs of sites exchange anything.",
        (
            _name("From", "source", "A site.", _SITE),
            _name("To", "target", "Another site.", _SITE),
            Field("Both ways", "both_ways", "yes-no", "yes or no; empty: yes, the same each way."),
            Field(
                "Bandwidth [Mbit/s]",
                "bandwidth",
                "number",
                "Of each way; empty: plenty.",
                factor=125e3,
                is_above=True,
            ),
            Field("Latency [ms]", "latency", "number", "Of a transfer; empty: 0.", factor=1e-3),
            Field(
                "Upgrade [Mbit/s]",
                "unit_bandwidth",
                "number",
                "What one upgrade adds to one way; empty: none is sold.",
                factor=125e3,
                is_above=True,
            ),
            Field("Price of upgrade", "price", "money", "Of one upgrade of one way."),
            Field(
                "Price per year", "yearly_price", "money", "Of one upgrade of one way; empty: 0."
            ),
            Field(
                "Most upgrades",
                "max_units",
                "count",
                "Of one way; empty: as many as are needed.",
                most=1e6,
            ),
        ),
        ("source", "target"),
        is_required=False,
        examples=(("north", "hub", "yes", None, 4, None, None, None, None),),
    ),
    Sheet(
        "Demand",
        "Demand by the hour [1/s]: a row for each service and a column for each period, whose "
        "heading is its name. A row without a service holds how many hours each period lasts; "
        "without one, all last an hour.",
        (Field("Service", "service", "name", "Which service.", refers="Services"),),
        ("service",),
        is_required=False,
        is_wide=True,
        example_columns=("night", "morning", "noon", "evening"),
        examples=((None, 8, 4, 4, 8), ("cars", 12, 120, 95, 70)),
    ),
    Sheet(
        "Growth",
        "The years that are planned for, in order, each with its factor on all demands.",
        (
            _name("Year", "year", "Name of the year or period, such as 2027."),
            Field(
                "Factor", "factor", "number", "On all demands: 1.5 for half more.", is_required=True
            ),
        ),
        ("year",),
        is_required=False,
        examples=(("2027", 1), ("2028", 1.4), ("2029", 1.9)),
    ),
)
"""In the order of the workbook."""


def by_name(name: str) -> Sheet:
    """Return a sheet by its name."""
    return next(sheet for sheet in SHEETS if sheet.name == name)


def same(text: str) -> str:
    """Return a heading or name of a sheet as it is compared: no unit, case or marks between."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"\[[^\]]*\]", "", text)).strip().casefold()
