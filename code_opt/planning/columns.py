"""The columns of all plan tables: what each holds, in which unit, and how a value is shown.

Part of the format: a name means the same in every table. Plan files, tables on a terminal, the
report and the tables for a spreadsheet all read it. A file that somebody else wrote may hold other
columns, or known ones in another unit: these are shown by the type and the unit that the file says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from code_opt.planning.plan import Cell, Column, ColumnType, Table
from code_opt.result import TOLERANCE
from code_opt.text import duration, number, percent, seconds, si

NOTHING = "–"
"""Stands where there is no value."""
NEGLIGIBLE_GAIN = 1e-12
"""Gains up to it are rounding."""


class ColumnKind(Enum):
    """What a column holds: how its values are shown."""

    TEXT = auto()
    COORDINATION = auto()
    PATH = auto()
    """Ids of blocks, separated by `` > ``."""
    FLAG = auto()
    COUNT = auto()
    GIVEN = auto()
    """A number that the user chose, as short as it can be written."""
    MONEY = auto()
    SHARE = auto()
    """A fraction, shown in percent."""
    PROBABILITY = auto()
    GAP = auto()
    """A fraction, shown in percent and never rounded down."""
    ACCURACY = auto()
    POINTS = auto()
    """Percentage points, with their sign."""
    NUMBER = auto()
    """Six significant digits."""
    PREFIXED = auto()
    """Four significant digits with an SI prefix."""
    GAIN = auto()
    """Four significant digits with their sign; 0 where it is rounding."""
    SECONDS = auto()
    """Time of a search."""
    LATENCY = auto()
    """Seconds, shown with the unit that fits."""


_TYPES: dict[ColumnKind, ColumnType] = {
    ColumnKind.TEXT: "text",
    ColumnKind.COORDINATION: "text",
    ColumnKind.PATH: "text",
    ColumnKind.FLAG: "boolean",
    ColumnKind.COUNT: "integer",
}
"""Types of the kinds that are no plain numbers."""
_UNITS = {
    **dict.fromkeys((ColumnKind.SHARE, ColumnKind.PROBABILITY, ColumnKind.GAP), "%"),
    # The currency is the user's own; a latency is shown with its unit.
    **dict.fromkeys((ColumnKind.MONEY, ColumnKind.LATENCY), ""),
}
"""Units in which kinds are shown, where it is not the unit of the file."""
_SHORT_UNITS = {"inferences/s": "1/s", "bytes/s": "B/s"}
_BY_TYPE = {
    "text": ColumnKind.TEXT,
    "boolean": ColumnKind.FLAG,
    "integer": ColumnKind.COUNT,
    "number": ColumnKind.NUMBER,
}
_BY_UNIT = {
    "currency": ColumnKind.MONEY,
    "points": ColumnKind.POINTS,
    "FLOP/s": ColumnKind.PREFIXED,
    "bytes/s": ColumnKind.PREFIXED,
}
"""Kinds of numbers in columns that are not known."""


def _money(value: float) -> str:
    whole = value == round(value) and abs(value) < 1e15
    return f"{value:,.0f}" if whole else f"{value:,.10g}"


def _given(value: float) -> str:
    whole = value == round(value) and abs(value) < 1e15
    return f"{value:,.0f}" if whole else f"{value:,.6g}"


def _gap(value: float) -> str:
    return "0" if value <= TOLERANCE else percent(value, up=True).removesuffix(" %")


def _gain(value: float) -> str:
    return "0" if abs(value) <= NEGLIGIBLE_GAIN else f"{value:+.4g}"


def _share(value: float) -> str:
    return f"{100.0 * value:.1f}"


_SHOW: dict[ColumnKind, Callable[[Any], str]] = {
    ColumnKind.TEXT: str,
    ColumnKind.COORDINATION: str,
    ColumnKind.PATH: str,
    ColumnKind.FLAG: lambda value: "yes" if value else "no",
    ColumnKind.COUNT: "{:,d}".format,
    ColumnKind.GIVEN: _given,
    ColumnKind.MONEY: _money,
    ColumnKind.SHARE: _share,
    ColumnKind.PROBABILITY: _share,
    ColumnKind.GAP: _gap,
    ColumnKind.ACCURACY: "{:.4f}".format,
    ColumnKind.POINTS: "{:+z.2f}".format,
    ColumnKind.NUMBER: number,
    ColumnKind.PREFIXED: si,
    ColumnKind.GAIN: _gain,
    ColumnKind.SECONDS: seconds,
    ColumnKind.LATENCY: duration,
}


def kind_text(kind: ColumnKind, value: Any) -> str:
    """Return a value of a kind as text, a dash where there is none."""
    return NOTHING if value is None else _SHOW[kind](value)


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """What a column of a name holds in every table."""

    column: Column
    """Its name, type, unit and description, as a plan file writes them."""
    kind: ColumnKind
    heading: str
    """Above it in a table, without the unit."""
    is_required: bool = False
    """It names its row: no cell is empty."""

    @property
    def unit(self) -> str:
        """The unit in which its values are shown, empty without one."""
        unit = self.column.unit or ""
        return _UNITS.get(self.kind, _SHORT_UNITS.get(unit, unit))

    @property
    def is_text(self) -> bool:
        """Whether it holds words, which stand at the left."""
        return self.column.type == "text"

    @property
    def is_number(self) -> bool:
        """Whether it holds figures, which stand at the right."""
        return self.column.type in ("number", "integer")

    def text(self, value: Any) -> str:
        """Return one of its values as text, a dash where there is none."""
        return kind_text(self.kind, value)


def _known(
    name: str,
    kind: ColumnKind,
    description: str,
    unit: str | None = None,
    heading: str | None = None,
    *,
    is_required: bool = False,
) -> ColumnSchema:
    type_ = _TYPES.get(kind, "number")
    column = Column(name=name, type=type_, unit=unit, description=description)
    return ColumnSchema(column, kind, heading or _heading(name), is_required)


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _key(name: str, kind: ColumnKind, description: str) -> ColumnSchema:
    return _known(name, kind, description, is_required=True)


_MONEY, _POINTS, _RATE = "currency", "points", "inferences/s"
_FLOPS, _BYTES = "FLOP/s", "bytes/s"

SCHEMA: Mapping[str, ColumnSchema] = {
    schema.column.name: schema
    for schema in (
        # keys
        _key("growth", ColumnKind.GIVEN, "factor on all demands"),
        _known(
            "max_loss_points",
            ColumnKind.GIVEN,
            "most average accuracy lost against native paths",
            _POINTS,
            "Max loss",
        ),
        _key(
            "coordination",
            ColumnKind.COORDINATION,
            "full, exits (early exits only) or none (native paths only)",
        ),
        _key("method", ColumnKind.TEXT, "exact or heuristic"),
        _key("period", ColumnKind.COUNT, "period of the growth path, from 1"),
        _key("variant", ColumnKind.TEXT, "mean, expected, worst or every"),
        _key("plan", ColumnKind.TEXT, "normal or survivable"),
        _key("scenario", ColumnKind.TEXT, "scenario of the demand"),
        _key("failed_server", ColumnKind.TEXT, "server that is gone"),
        _key("point", ColumnKind.COUNT, "point of the front, 1 has the most throughput"),
        _key("field", ColumnKind.TEXT, "field of the instance that varies"),
        _key("value", ColumnKind.GIVEN, "its value"),
        _key("server", ColumnKind.TEXT, "id of the server"),
        _key("source", ColumnKind.TEXT, "server where the link begins"),
        _key("target", ColumnKind.TEXT, "server where the link ends"),
        _known("task", ColumnKind.TEXT, "id of the task"),
        # outcome
        _key("status", ColumnKind.TEXT, "optimal, feasible, unknown or infeasible"),
        _known("cost", ColumnKind.MONEY, "price of the units", _MONEY),
        _known("present_value", ColumnKind.MONEY, "cost with later purchases discounted", _MONEY),
        _known(
            "bound", ColumnKind.NUMBER, "proven bound: of a cost from below, of a reward from above"
        ),
        _known(
            "gap", ColumnKind.GAP, "of a cost (cost - bound) / cost, of a reward bound / reward - 1"
        ),
        _known("units", ColumnKind.COUNT, "units of capacity"),
        _known("units_bought", ColumnKind.COUNT, "units bought in this period"),
        _known("total_units", ColumnKind.COUNT, "units bought up to this period"),
        _known("total_cost", ColumnKind.MONEY, "spent up to this period", _MONEY),
        _known("saved_cost", ColumnKind.MONEY, "less than without coordination", _MONEY),
        _known("saved_units", ColumnKind.COUNT, "fewer than without coordination"),
        _known("extra_cost", ColumnKind.MONEY, "more than the normal plan", _MONEY),
        _known("extra_units", ColumnKind.COUNT, "more than in the normal plan"),
        _known("accuracy", ColumnKind.ACCURACY, "accuracy (in totals: the weighted average)"),
        _known(
            "accuracy_loss_points",
            ColumnKind.POINTS,
            "lost against the native paths",
            _POINTS,
            "Accuracy loss",
        ),
        _known("accuracy_source", ColumnKind.TEXT, "measured or predicted"),
        _known(
            "accuracy_bound",
            ColumnKind.ACCURACY,
            "proven upper bound of the accuracy at this throughput",
        ),
        _known("throughput_per_s", ColumnKind.NUMBER, "sum of the rates", _RATE, "Throughput"),
        _known(
            "throughput_bound_per_s",
            ColumnKind.NUMBER,
            "proven upper bound at this accuracy",
            _RATE,
            "Throughput bound",
        ),
        _known("reward", ColumnKind.NUMBER, "reward F"),
        _known("supported", ColumnKind.FLAG, "on the convex hull of the front"),
        _known("seconds", ColumnKind.SECONDS, "time of the search", "s"),
        _known("message", ColumnKind.TEXT, "why there is no plan, or why the search stopped"),
        # capacities
        _known("present_flop_per_s", ColumnKind.PREFIXED, "capacity before", _FLOPS, "Present"),
        _known(
            "capacity_flop_per_s",
            ColumnKind.PREFIXED,
            "capacity with the units",
            _FLOPS,
            "Capacity",
        ),
        _known("load_flop_per_s", ColumnKind.PREFIXED, "work per second", _FLOPS, "Load"),
        _known(
            "present_bytes_per_s",
            ColumnKind.PREFIXED,
            "bandwidth before, empty: unlimited",
            _BYTES,
            "Present",
        ),
        _known(
            "capacity_bytes_per_s",
            ColumnKind.PREFIXED,
            "bandwidth with the units",
            _BYTES,
            "Capacity",
        ),
        _known("load_bytes_per_s", ColumnKind.PREFIXED, "bytes per second", _BYTES, "Load"),
        _known("utilization", ColumnKind.SHARE, "load / capacity"),
        # paths
        _known("path", ColumnKind.PATH, "ids of the blocks in order"),
        _known("rate_per_s", ColumnKind.NUMBER, "rate", _RATE, "Rate"),
        _known(
            "latency_s",
            ColumnKind.LATENCY,
            "unloaded latency at the planned capacities",
            "s",
            "Latency",
        ),
        # scenarios and failures
        _known("probability", ColumnKind.PROBABILITY, "probability of the scenario"),
        _known("demand_per_s", ColumnKind.NUMBER, "demand", _RATE, "Demand"),
        _known("served_per_s", ColumnKind.NUMBER, "served demand", _RATE, "Served"),
        _known("served_share", ColumnKind.SHARE, "served / demand", None, "Served"),
        _known(
            "expected_served_share",
            ColumnKind.SHARE,
            "expected served / expected demand",
            None,
            "Expected served",
        ),
        _known(
            "worst_served_share",
            ColumnKind.SHARE,
            "least share served in any scenario",
            None,
            "Worst served",
        ),
        _known(
            "served_fixed_per_s",
            ColumnKind.NUMBER,
            "served with all paths as they are",
            _RATE,
            "Served fixed",
        ),
        _known(
            "served_fixed_share",
            ColumnKind.SHARE,
            "of the demand, with all paths as they are",
            None,
            "Served fixed",
        ),
        _known(
            "served_rerouted_per_s",
            ColumnKind.NUMBER,
            "served when all tasks may be re-routed",
            _RATE,
            "Served rerouted",
        ),
        _known(
            "served_rerouted_share",
            ColumnKind.SHARE,
            "of the demand, when all tasks may be re-routed",
            None,
            "Served rerouted",
        ),
        _known("rerouted_gap", ColumnKind.GAP, "proven gap of what re-routing serves"),
        _known(
            "worst_served_fixed_share",
            ColumnKind.SHARE,
            "least over all failures, paths as they are",
            None,
            "Worst served fixed",
        ),
        _known(
            "worst_served_rerouted_share",
            ColumnKind.SHARE,
            "least over all failures, re-routed",
            None,
            "Worst served rerouted",
        ),
        _known("tasks_hit", ColumnKind.COUNT, "tasks whose path visits the server"),
        _known("tasks_lost", ColumnKind.COUNT, "tasks of which no path avoids the server"),
        _known(
            "floors_kept",
            ColumnKind.FLAG,
            "hit tasks can take backup paths, all others staying, so that all but the lost keep "
            "their floors (keep * demand, else their own)",
        ),
        # marginal values
        _known(
            "dual",
            ColumnKind.NUMBER,
            "marginal value at fixed paths",
            "objective per FLOP/s or bytes/s",
        ),
        _known("step_flop_per_s", ColumnKind.PREFIXED, "a little more capacity", _FLOPS, "Step"),
        _known("step_bytes_per_s", ColumnKind.PREFIXED, "a little more bandwidth", _BYTES, "Step"),
        _known(
            "gain_by_dual",
            ColumnKind.GAIN,
            "what the marginal value promises for the step",
            "objective",
        ),
        _known(
            "gain_fixed_paths", ColumnKind.GAIN, "what the step gives at fixed paths", "objective"
        ),
        _known(
            "gain_resolved", ColumnKind.GAIN, "what it gives when paths may change", "objective"
        ),
        _known("resolved_status", ColumnKind.TEXT, "status of the second solve"),
        _known("resolved_gap", ColumnKind.GAP, "gap of the second solve"),
    )
}
"""Every column of our own tables by its name."""


def schema_of(column: Column) -> ColumnSchema:
    """Return what is known of a column of a file.

    A column that is not known, or that has another type or unit than ours, is shown by its own.
    """
    known = SCHEMA.get(column.name)
    if known and (known.column.type, known.column.unit) == (column.type, column.unit):
        return known
    kind = _BY_TYPE[column.type]
    if column.type == "number":
        kind = _BY_UNIT.get(column.unit or "", kind)
    return ColumnSchema(
        column, kind, _heading(column.name), known is not None and known.is_required
    )


class TableBuilder:
    """Collects the rows of a table, each cell by the name of its column.

    Args:
        name: name of the table.
        title: one line for people.
        columns: names of known columns in their order, separated by blanks.
    """

    def __init__(self, name: str, title: str, columns: str) -> None:
        self._name, self._title = name, title
        self._columns = {column: SCHEMA[column].column for column in columns.split()}
        self.rows: list[dict[str, Any]] = []

    def add(self, **cells: Any) -> None:
        """Add a row; cells that are not given stay empty.

        Raises:
            KeyError: the table has no column of such a name.
        """
        if unknown := cells.keys() - self._columns.keys():
            raise KeyError(f"table {self._name!r} has no column {', '.join(sorted(unknown))}")
        self.rows.append({k: _cell(c, cells.get(k)) for k, c in self._columns.items()})

    def add_all(self, rows: Iterable[Mapping[str, Any]], **cells: Any) -> None:
        """Add rows that share some cells, for example those that name the plan."""
        for row in rows:
            self.add(**cells, **row)

    def table(self) -> Table:
        """Return the table of all rows so far."""
        return Table(
            name=self._name,
            title=self._title,
            columns=tuple(self._columns.values()),
            rows=tuple(tuple(row.values()) for row in self.rows),
        )


def _cell(column: Column, value: Any) -> Cell:
    """Return a value as a cell: numpy numbers as Python's, what is not finite as None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if column.type == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
