"""Instances as tables: the rows of the CSV folder, and the same as pandas DataFrames.

One table per kind of record; a row of ``connections``, ``measured_paths`` or ``alternatives``
names its task, a row of ``blocks`` its DNN. The order of rows is the order in the instance.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from code_opt.instance.problems import (
    LISTED,
    InstanceError,
    Issue,
    Location,
    Problem,
    hint,
    shown,
)
from code_opt.instance.records import (
    SCHEMA,
    SHAPES,
    Alternative,
    Block,
    Connection,
    Dnn,
    Link,
    MeasuredPath,
    Server,
    Task,
)
from code_opt.instance.rules import parse
from code_opt.instance.structure import M

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

Row = dict[str, Any]
Rows = dict[str, list[tuple[int, Row]]]
"""Rows by table, each with its label: a line of a file, or a position in a DataFrame."""

_CHILDREN = ("blocks", "connections", "measured_paths", "alternatives")
_RECORDS: dict[str, tuple[tuple[str, ...], type[BaseModel]]] = {
    "servers": ((), Server),
    "links": ((), Link),
    "dnns": ((), Dnn),
    "blocks": (("dnn",), Block),
    "tasks": ((), Task),
    "connections": (("task",), Connection),
    "measured_paths": (("task",), MeasuredPath),
    "alternatives": (("task",), Alternative),
}
_SHAPES = [name for shape in SHAPES.values() for name in shape.model_fields]

COLUMNS: dict[str, tuple[str, ...]] = {
    "instance": ("schema", "name", "description", "bundle", "currency"),
    **{
        table: (
            *parent,
            *(f for f in record.model_fields if table == "measured_paths" or f not in _CHILDREN),
        )
        for table, (parent, record) in _RECORDS.items()
    },
    "reward": ("part", *dict.fromkeys(_SHAPES)),
}
"""Columns of each table, in order."""

REQUIRED_COLUMNS: dict[str, frozenset[str]] = {
    "instance": frozenset(),
    **{
        table: frozenset(
            {*parent, *(f for f in COLUMNS[table] if f in record.model_fields)}
            - {f for f, field in record.model_fields.items() if not field.is_required()}
        )
        for table, (parent, record) in _RECORDS.items()
    },
    "reward": frozenset({"part", "kind"}),
}
"""Columns that a table must have; a missing other one stands for the default in every row."""

REQUIRED_TABLES = ("servers", "dnns", "blocks", "tasks")

TEXTS = frozenset(
    {
        "schema",
        "name",
        "description",
        "bundle",
        "currency",
        "id",
        "source",
        "target",
        "dnn",
        "server",
    }
    | {"input_group", "origin", "share", "site", "task", "blocks", "part", "kind"}
)
"""Columns of text; ``floor`` holds numbers or text, all others hold numbers."""

SAVED_WHERE_USED: dict[str, tuple[str, ...]] = {
    "instance": ("currency",),
    "servers": (
        *("devices", "batch", "max_batch_delay", "max_utilization", "unit_devices"),
        *("yearly_cost", "site"),
    ),
    "links": ("yearly_cost",),
    "blocks": ("seconds",),
    "connections": ("drop_low", "drop_high", "seconds"),
}
"""Keys that files hold only where some record has another value than the default: most
instances need none of them."""
_TIMED = ("blocks", "connections")
_SECONDS = re.compile(r"seconds_([1-9]\d{0,6})")

SEPARATOR = " > "
"""Stands between the blocks of a measured path."""
_PARTS = ("accuracy", "throughput")


def is_column(table: str, column: str) -> bool:
    """Tell whether a table may have a column: one of :data:`COLUMNS`, or ``seconds_8``."""
    if column in COLUMNS[table]:
        return True
    size = _SECONDS.fullmatch(column) if table in _TIMED else None
    return size is not None and int(size[1]) > 1


def columns_of(table: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns of a table with some rows, in order."""
    if table not in SAVED_WHERE_USED:
        return COLUMNS[table]
    keys = {key for row in rows for key in row}
    rare = SAVED_WHERE_USED[table]
    sizes = {int(size[1]) for key in keys if (size := _SECONDS.fullmatch(key))}
    return (
        *(column for column in COLUMNS[table] if column in keys or column not in rare),
        *(f"seconds_{size}" for size in sorted(sizes)),
    )


def _with_times_apart(row: Row) -> Row:
    """Return a row of a block or connection with a column for each batch size."""
    times = row.get("seconds")
    if times is None:
        return row
    own = {f"seconds_{size}": time for size, time in times.items() if size != "1"}
    return row | {"seconds": times.get("1")} | own


def _with_times_together(row: Row) -> Row:
    """Return a row with the times of all batch sizes in one field, if there are several."""
    columns = [key for key in row if _SECONDS.fullmatch(key)]
    if not columns:
        return row
    times = {"1": row["seconds"]} if "seconds" in row else {}
    times |= {key.removeprefix("seconds_"): row[key] for key in columns}
    return {key: row[key] for key in row if key not in columns} | {"seconds": times}


def saved(data: dict[str, Any]) -> dict[str, Any]:
    """Return an instance as files hold it: without :data:`SAVED_WHERE_USED` at defaults.

    Args:
        data: an instance as plain data. Its records lose what is left out.
    """
    records = {
        "instance": [data],
        "servers": data["servers"],
        "links": data["links"],
        "blocks": [block for dnn in data["dnns"] for block in dnn["blocks"]],
        "connections": [c for task in data["tasks"] for c in task["connections"]],
    }
    for table, rows in records.items():
        for key in SAVED_WHERE_USED[table]:
            default = _RECORDS[table][1].model_fields[key].default if table in _RECORDS else None
            for row in rows:
                if row[key] == default:
                    del row[key]
    return data


def flatten(data: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of every table, in the order of :data:`COLUMNS`.

    Args:
        data: an instance as plain data. Its records lose the lists that become tables.
    """
    rows: dict[str, list[Row]] = {table: [] for table in COLUMNS}
    rows["instance"].append({key: data[key] for key in COLUMNS["instance"] if key in data})
    rows["servers"] = data["servers"]
    rows["links"] = data["links"]
    for dnn in data["dnns"]:
        rows["blocks"] += [
            {"dnn": dnn["id"], **_with_times_apart(block)} for block in dnn.pop("blocks")
        ]
        rows["dnns"].append(dnn)
    for task in data["tasks"]:
        name = task["id"]
        rows["connections"] += [
            {"task": name, **_with_times_apart(c)} for c in task.pop("connections")
        ]
        rows["measured_paths"] += [
            {"task": name, **path, "blocks": SEPARATOR.join(path["blocks"])}
            for path in task.pop("measured_paths")
        ]
        rows["alternatives"] += [{"task": name, **a} for a in task.pop("alternatives")]
        rows["tasks"].append(task)
    for part in _PARTS:
        rows["reward"].append({"part": part, **data["reward"][part]})
    return rows


class Nested:
    """Rows put back together as an instance's data, with the way back to their places.

    Args:
        rows: the rows of each table; a missing value has no key.
        suffix: what stands behind a table's name in messages (``.csv``).
        missing: columns that are known to be missing; nothing more is said about them.
    """

    def __init__(
        self, rows: Rows, suffix: str = "", missing: Collection[tuple[str, str]] = ()
    ) -> None:
        self.suffix = suffix
        self.missing = missing
        self.issues: list[Issue] = []
        self._origin: dict[Location, tuple[str, int]] = {}
        self.data: dict[str, Any] = {"schema": SCHEMA}
        for label, row in rows.get("instance", [])[:1]:
            self._origin[()] = ("instance", label)
            self.data |= row
        for label, _ in rows.get("instance", [])[1:]:
            self._report("instance", label, "", "only one row can describe the instance")
        for table in ("servers", "links", "dnns", "tasks"):
            self.data[table] = [dict(row) for _, row in rows.get(table, [])]
            for i, (label, _) in enumerate(rows.get(table, [])):
                self._origin[table, i] = (table, label)
        self._attach(rows, "dnns", "dnn", "blocks")
        self._attach(rows, "tasks", "task", "connections")
        self._attach(rows, "tasks", "task", "measured_paths")
        self._attach(rows, "tasks", "task", "alternatives")
        self._attach_reward(rows.get("reward", []))

    def locate(self, location: Location) -> str:
        """Return table, row and column of a location in the data."""
        for size in range(len(location), -1, -1):
            if location[:size] in self._origin:
                table, label = self._origin[location[:size]]
                rest = [part for part in location[size:] if isinstance(part, str)]
                if size and rest and rest[0] in _CHILDREN and rest[0] not in COLUMNS[table]:
                    return f"{rest[0]}{self.suffix} for {self._name(table, label)}"
                if size or (rest and rest[0] in COLUMNS["instance"]):
                    return self._name(table, label, *rest[:1])
        table = str(location[0]) if location else "instance"
        return f"{table if table in COLUMNS else 'instance'}{self.suffix}"

    def is_known(self, location: Location) -> bool:
        """Whether a location lies in a column that is known to be missing."""
        if location[-1:] == ("blocks",) and ("blocks", "dnn") in self.missing:
            return True
        table, _ = self._origin.get(location[:-1], ("", 0))
        return (table, location[-1] if location else "") in self.missing

    def problems(self) -> list[Problem]:
        """Return what the tables themselves have wrong, in order."""
        return [Problem(str(i.location[0]), i.message, i.value) for i in self.issues]

    def _name(self, table: str, label: int, column: str = "") -> str:
        row = f"{table}{self.suffix}:{label}" if self.suffix else f"{table} row {label}"
        return f"{row} {column}" if column else row

    def _report(self, table: str, label: int, column: str, message: str, value: Any = None) -> None:
        text = None if value is None else shown(value)
        self.issues.append(Issue((self._name(table, label, column),), message, text))

    def _attach(self, rows: Rows, parents: str, key: str, table: str) -> None:
        """Hang the rows of a table below the records that they name."""
        number: dict[Any, int] = {}
        for i, parent in enumerate(self.data[parents]):
            parent[table] = []
            if isinstance(parent.get("id"), str):
                number.setdefault(parent["id"], i)
        for label, row in rows.get(table, []):
            record = _with_times_together(dict(row))
            name = record.pop(key, None)
            if table == "measured_paths" and isinstance(record.get("blocks"), str):
                record["blocks"] = [block.strip() for block in record["blocks"].split(">")]
            if isinstance(name, str) and name in number:
                i = number[name]
                siblings = self.data[parents][i][table]
                self._origin[parents, i, table, len(siblings)] = (table, label)
                siblings.append(record)
            elif name is not None:
                listed = isinstance(name, str) and len(self.issues) < LISTED
                known = hint(name, number) if listed else ""
                what = {"dnn": "DNN", "task": "task"}[key]
                self._report(table, label, key, f"no such {what}{known}", name)
            elif (table, key) not in self.missing:
                self._report(table, label, key, "is required")

    def _attach_reward(self, rows: list[tuple[int, Row]]) -> None:
        reward: dict[str, Row] = {}
        for label, row in rows:
            record = dict(row)
            part = record.pop("part", None)
            if part is None:
                if ("reward", "part") not in self.missing:
                    self._report("reward", label, "part", "is required")
            elif part not in _PARTS:
                names = " or ".join(map(repr, _PARTS))
                self._report("reward", label, "part", f"must be {names}", part)
            elif part in reward:
                self._report("reward", label, "part", "this part has a row already", part)
            else:
                reward[part] = record
                self._origin["reward", part] = ("reward", label)
        if reward:
            self.data["reward"] = reward


def to_tables(data: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return an instance, given as plain data, as pandas tables, one per CSV file of a folder.

    Numbers are ``float64`` (missing: NaN); text, and ``floor`` with its numbers or
    ``standalone``, are ``object`` (missing: None).
    """
    import pandas as pd

    return {
        table: pd.DataFrame(
            {
                column: pd.Series(
                    [row.get(column) for row in rows],
                    dtype="object" if column in TEXTS or column == "floor" else "float64",
                )
                for column in columns_of(table, rows)
            }
        )
        for table, rows in flatten(saved(data)).items()
    }


def from_tables(model: type[M], tables: Mapping[str, pd.DataFrame]) -> M:
    """Build an instance from tables shaped like those of :func:`to_tables`.

    Args:
        model: the class to build, :class:`code_opt.instance.Instance`.
        tables: a DataFrame for each table (:meth:`code_opt.instance.Instance.from_tables`).

    Raises:
        InstanceError: something is wrong; its ``problems`` lists everything at once.
    """
    problems = [
        Problem(name, "this table is required") for name in REQUIRED_TABLES if name not in tables
    ]
    problems += [
        Problem(str(name), f"no such table{hint(str(name), COLUMNS, few=99)}")
        for name in tables
        if name not in COLUMNS
    ]
    if problems:
        raise InstanceError("tables", problems)
    missing: set[tuple[str, str]] = set()
    for name, table in tables.items():
        problems += header_problems(name, name, [str(column) for column in table.columns], missing)
    rows = {name: list(_frame_rows(name, table)) for name, table in tables.items()}
    nested = Nested(rows, missing=missing)
    problems += nested.problems()
    return parse(model, nested.data, "tables", nested.locate, problems, nested.is_known)


def header_problems(
    table: str, place: str, header: list[str], missing: set[tuple[str, str]]
) -> list[Problem]:
    """Return what is wrong with a table's columns; note those that are missing."""
    problems = [
        Problem(place, f"unknown column{hint(column, COLUMNS[table], few=99)}", shown(column))
        for column in header
        if not is_column(table, column) and column != "seconds_1"
    ]
    if table in _TIMED and "seconds_1" in header:
        text = "the time of batch 1 stands in the column 'seconds'"
        problems.append(Problem(place, text, shown("seconds_1")))
    problems += [
        Problem(place, "this column stands there twice", shown(column))
        for column in dict.fromkeys(header)
        if is_column(table, column) and header.count(column) > 1
    ]
    for column in COLUMNS[table]:
        if column in REQUIRED_COLUMNS[table] and column not in header:
            missing.add((table, column))
            problems.append(Problem(place, f"the column {column!r} is missing"))
    return problems


def _frame_rows(name: str, table: pd.DataFrame) -> Iterator[tuple[int, Row]]:
    import pandas as pd

    columns = [column for column in dict.fromkeys(table.columns) if is_column(name, column)]
    unique = table.loc[:, ~table.columns.duplicated()]
    for position, values in enumerate(
        zip(*(unique[column].tolist() for column in columns), strict=True)
    ):
        yield (
            position,
            {
                # Columns of dtype object can hold numpy numbers; the model takes Python's.
                column: value.item() if hasattr(value, "item") else value
                for column, value in zip(columns, values, strict=True)
                if not (pd.api.types.is_scalar(value) and pd.isna(value))
            },
        )
