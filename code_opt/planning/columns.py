"""The columns of all plan tables: what each holds, in which unit, and how a value is shown.

Part of the format: a name means the same in every table. Plan files, tables on a terminal, the
report and the tables for a spreadsheet all read it. A file that somebody else wrote may hold other
columns, or known ones in another unit: these are shown by the type and the unit that the file says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from code_opt.planning.plan import Cell, Column, ColumnType, Table
from code_opt.result import TOLERANCE
from code_opt.text import duration, number, percent, seconds, si

NOTHING = "–"
"""Stands where there is no value."""
NEGLIGIBLE_GAIN = 1e-12
"""Gains up to it are rounding."""


def as_given(value: float, digits: int = 6) -> str:
    """Return a number that somebody chose, such as a growth factor, as short as it can be."""
    is_whole = value == round(value) and abs(value) < 1e15
    return f"{value:,.0f}" if is_whole else f"{value:,.{digits}g}"


def money(value: float) -> str:
    """Return a price to the cent; what is less to three digits, and rounding's dust as 0."""
    if abs(value) < 1e-9:
        return "0"
    if abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:,.2f}".removesuffix(".00") if abs(value) < 1e15 else as_given(value)


def _gap(value: float) -> str:
    return "0" if value <= TOLERANCE else percent(value, up=True).removesuffix(" %")


def _gain(value: float) -> str:
    return "0" if abs(value) <= NEGLIGIBLE_GAIN else f"{value:+.4g}"


def _share(value: float) -> str:
    return f"{100.0 * value:.1f}"


def _flag(value: bool) -> str:
    return "yes" if value else "no"


@dataclass(frozen=True, slots=True, eq=False)
class ColumnKind:
    """What columns of one sort hold, and how their values are shown."""

    type: ColumnType
    show: Callable[[Any], str]
    """Return a value as text; an output may have a text of its own for some kinds."""
    unit: str | None = None
    """Unit of the values."""
    shown_unit: str | None = None
    """Unit of the texts where it is another; empty where they need none."""
    suffix: str = ""
    """Ends the names of our own columns of this kind."""


TEXT = ColumnKind("text", str)
COORDINATION = ColumnKind("text", str)
PATH = ColumnKind("text", str)
FLAG = ColumnKind("boolean", _flag)
COUNT = ColumnKind("integer", "{:,d}".format)
NUMBER = ColumnKind("number", number)
GIVEN = ColumnKind("number", as_given)
LIMIT = ColumnKind("number", as_given, "points", suffix="_points")
MONEY = ColumnKind("number", money, "currency", "")
SHARE = ColumnKind("number", _share, None, "%", "_share")
UTILIZATION = ColumnKind("number", _share, None, "%")
PROBABILITY = ColumnKind("number", _share, None, "%")
GAP = ColumnKind("number", _gap, None, "%")
ACCURACY = ColumnKind("number", "{:.4f}".format)
POINTS = ColumnKind("number", "{:+z.2f}".format, "points", suffix="_points")
RATE = ColumnKind("number", number, "inferences/s", "1/s", "_per_s")
WORK = ColumnKind("number", si, "FLOP/s", suffix="_flop_per_s")
DEVICES = ColumnKind("number", number, "devices", suffix="_devices")
TRAFFIC = ColumnKind("number", si, "bytes/s", "B/s", "_bytes_per_s")
SECONDS = ColumnKind("number", seconds, "s")
HOURS = ColumnKind("number", as_given, "h")
LATENCY = ColumnKind("number", duration, "s", "", "_s")
DUAL = ColumnKind("number", number, "objective per FLOP/s, device or bytes/s")
GAIN = ColumnKind("number", _gain, "objective")

_BY_TYPE = {kind.type: kind for kind in (TEXT, FLAG, COUNT, NUMBER)}
_BY_UNIT = {kind.unit: kind for kind in (MONEY, POINTS, RATE, WORK, DEVICES, TRAFFIC, GAIN)}
"""Kinds of columns that are not known, by what a file says of them."""


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """A column with what it holds."""

    column: Column
    """Its name, type, unit and description, as a plan file writes them."""
    kind: ColumnKind
    heading: str
    """Above it in a table, without the unit."""
    is_required: bool
    """It names its row: no cell is empty."""

    @property
    def unit(self) -> str:
        """Unit in which its values are shown, empty without one."""
        shown = self.kind.shown_unit
        return (self.column.unit or "") if shown is None else shown

    @property
    def is_number(self) -> bool:
        """Whether it holds figures, which stand at the right."""
        return self.kind.type in ("number", "integer")

    def text(self, value: Any, own: Mapping[ColumnKind, Callable[[Any], str]]) -> str:
        """Return one of its values as text, a dash where there is none.

        Args:
            value: a cell.
            own: texts of some kinds that the output has instead of the common ones.
        """
        return NOTHING if value is None else own.get(self.kind, self.kind.show)(value)


_ROW_NAMES = frozenset(
    (
        *("growth", "coordination", "method", "period", "variant", "plan", "scenario", "point"),
        *(
            "routing",
            "failed_server",
            "failed",
            "field",
            "value",
            "server",
            "source",
            "target",
            "status",
        ),
    )
)
"""Columns that name a row."""


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _known(kind: ColumnKind, name: str, description: str) -> ColumnSchema:
    full = name + kind.suffix
    column = Column(name=full, type=kind.type, unit=kind.unit, description=description)
    return ColumnSchema(column, kind, _heading(name), full in _ROW_NAMES)


SCHEMA: Mapping[str, ColumnSchema] = {
    schema.column.name: schema
    for schema in (
        # keys
        _known(GIVEN, "growth", "factor on all demands"),
        _known(LIMIT, "max_loss", "most average accuracy lost against native paths"),
        _known(
            COORDINATION,
            "coordination",
            "full, exits (early exits only) or none (native paths only)",
        ),
        _known(TEXT, "method", "exact or heuristic"),
        _known(COUNT, "period", "period of the growth path, from 1"),
        _known(TEXT, "variant", "mean, expected, worst or every"),
        _known(TEXT, "plan", "normal or survivable"),
        _known(
            TEXT,
            "routing",
            "fixed (the same paths in all periods of the table of demands) or by-period",
        ),
        _known(TEXT, "demand_period", "period of the table of demands, empty: all of them"),
        _known(TEXT, "scenario", "scenario of the demand"),
        _known(TEXT, "failed_server", "server that is gone"),
        _known(TEXT, "failed", "what is gone of it: server (all) or device (one of its devices)"),
        _known(COUNT, "point", "point of the front, 1 has the most throughput"),
        _known(TEXT, "field", "field of the instance that varies"),
        _known(GIVEN, "value", "its value"),
        _known(TEXT, "server", "id of the server"),
        _known(TEXT, "source", "server where the link begins"),
        _known(TEXT, "target", "server where the link ends"),
        _known(TEXT, "task", "id of the task"),
        # outcome
        _known(TEXT, "drops", "end of the ranges of guessed drops: low, middle or high"),
        _known(TEXT, "status", "optimal, feasible, unknown or infeasible"),
        _known(MONEY, "cost", "price of the units, and of the years that they stand"),
        _known(MONEY, "present_value", "cost with later purchases discounted"),
        _known(NUMBER, "bound", "proven bound: of a cost from below, of a reward from above"),
        _known(GAP, "gap", "of a cost (cost - bound) / cost, of a reward bound / reward - 1"),
        _known(COUNT, "units", "units of capacity"),
        _known(COUNT, "units_bought", "units bought in this period"),
        _known(COUNT, "total_units", "units bought up to this period"),
        _known(MONEY, "total_cost", "spent up to this period"),
        _known(MONEY, "saved_cost", "less than without coordination"),
        _known(COUNT, "saved_units", "fewer than without coordination"),
        _known(MONEY, "extra_cost", "more than the normal plan"),
        _known(COUNT, "extra_units", "more than in the normal plan"),
        _known(ACCURACY, "accuracy", "accuracy (in totals: the weighted average)"),
        _known(POINTS, "accuracy_loss", "lost against the native paths"),
        _known(
            TEXT,
            "accuracy_source",
            "measured, given (of the native path or an alternative), predicted, or guessed (from "
            "drops of which some are guesses)",
        ),
        _known(ACCURACY, "accuracy_bound", "proven upper bound of the accuracy at this throughput"),
        _known(RATE, "throughput", "sum of the rates"),
        _known(RATE, "throughput_bound", "proven upper bound at this accuracy"),
        _known(NUMBER, "reward", "reward F"),
        _known(FLAG, "supported", "on the convex hull of the front"),
        _known(SECONDS, "seconds", "time of the search"),
        _known(TEXT, "message", "why there is no plan, or why the search stopped"),
        # capacities
        _known(WORK, "present", "capacity before"),
        _known(WORK, "capacity", "capacity with the units"),
        _known(WORK, "load", "busy devices in FLOP/s"),
        _known(DEVICES, "present", "devices before"),
        _known(DEVICES, "capacity", "devices with the units"),
        _known(DEVICES, "load", "device seconds per second"),
        _known(TRAFFIC, "present", "bandwidth before, empty: unlimited"),
        _known(TRAFFIC, "capacity", "bandwidth with the units"),
        _known(TRAFFIC, "load", "bytes per second"),
        _known(UTILIZATION, "utilization", "load / capacity"),
        _known(UTILIZATION, "mean_utilization", "average of all states, by hours"),
        # paths
        _known(PATH, "path", "ids of the blocks in order"),
        _known(RATE, "rate", "rate"),
        _known(LATENCY, "latency", "unloaded latency"),
        _known(
            LATENCY,
            "promised",
            "time within which the percentile of answers comes, at the most loaded state",
        ),
        # scenarios and failures
        _known(PROBABILITY, "probability", "probability of the scenario"),
        _known(HOURS, "hours", "how long the period of the table lasts"),
        _known(TEXT, "implied_by", "state that asks for at least as much, planned for instead"),
        _known(COUNT, "states", "demands that are served"),
        _known(COUNT, "states_left_out", "of these, implied by others"),
        _known(RATE, "demand", "demand"),
        _known(RATE, "served", "served demand"),
        _known(SHARE, "served", "served / demand"),
        _known(SHARE, "expected_served", "expected served / expected demand"),
        _known(SHARE, "worst_served", "least share served in any scenario"),
        _known(RATE, "served_fixed", "served with all paths as they are"),
        _known(SHARE, "served_fixed", "of the demand, with all paths as they are"),
        _known(RATE, "served_rerouted", "served when all tasks may be re-routed"),
        _known(SHARE, "served_rerouted", "of the demand, when all tasks may be re-routed"),
        _known(GAP, "rerouted_gap", "proven gap of what re-routing serves"),
        _known(SHARE, "worst_served_fixed", "least over all failures, paths as they are"),
        _known(SHARE, "worst_served_rerouted", "least over all failures, re-routed"),
        _known(COUNT, "tasks_hit", "tasks whose path visits the server"),
        _known(COUNT, "tasks_moved", "tasks that go to a backup path"),
        _known(COUNT, "tasks_lost", "tasks of which no path avoids the server"),
        _known(
            FLAG,
            "floors_kept",
            "hit tasks can take backup paths, all others staying, so that all but the lost keep "
            "their floors (keep * demand, else their own)",
        ),
        # marginal values
        _known(DUAL, "dual", "marginal value at fixed paths"),
        _known(WORK, "step", "a little more capacity"),
        _known(DEVICES, "step", "a little more devices"),
        _known(TRAFFIC, "step", "a little more bandwidth"),
        _known(GAIN, "gain_by_dual", "what the marginal value promises for the step"),
        _known(GAIN, "gain_fixed_paths", "what the step gives at fixed paths"),
        _known(GAIN, "gain_resolved", "what it gives when paths may change"),
        _known(TEXT, "resolved_status", "status of the second solve"),
        _known(GAP, "resolved_gap", "gap of the second solve"),
    )
}
"""Every column of our own tables by its name."""


def schema_of(column: Column) -> ColumnSchema:
    """Return what a column of a file holds.

    A column that is not known, or that has another type or unit than ours, is shown by its own.
    """
    known = SCHEMA.get(column.name)
    if known and (known.column.type, known.column.unit) == (column.type, column.unit):
        return known
    kind = _BY_TYPE[column.type]
    if column.type == "number":
        kind = _BY_UNIT.get(column.unit, kind)
    if known:
        return ColumnSchema(column, kind, known.heading, known.is_required)
    return ColumnSchema(column, kind, _heading(column.name), False)


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

    def add_fitting(self, rows: Iterable[Mapping[str, Any]], **cells: Any) -> None:
        """Add rows as :meth:`add_all`, without cells of columns that the table does not have."""
        for row in rows:
            self.add(**{k: v for k, v in {**cells, **row}.items() if k in self._columns})

    @property
    def name(self) -> str:
        """Name of the table."""
        return self._name

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
