"""Plans: what an analysis found, as one typed file and as tables (`docs/planning.md`)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from code_opt.errors import InputError
from code_opt.files import read_text, write_atomically
from code_opt.result import wrong_fields
from code_opt.text import html_table, percent

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal[
    "least-cost", "growth", "scenarios", "failures", "combined", "front", "marginal", "sweep"
]
Status = Literal["optimal", "feasible", "unknown", "infeasible"]
ColumnType = Literal["number", "integer", "text", "boolean"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Cell = bool | int | Number | str | None
Row = Annotated[tuple[Cell, ...], Field(strict=False)]
_Numbers = Annotated[tuple[Number, ...], Field(strict=False)]
_Texts = Annotated[tuple[str, ...], Field(strict=False)]
Setting = bool | int | Number | str | None | _Numbers | _Texts

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RANK: dict[Status, int] = {"optimal": 0, "feasible": 1, "unknown": 2, "infeasible": 3}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Column(_Record):
    """One column: its name is stable, its unit is part of the format."""

    name: str
    type: ColumnType
    unit: str | None = None
    description: str = ""


class Table(_Record):
    """A table: rows in the order of the columns, None where there is no value."""

    name: str
    title: str
    columns: tuple[Column, ...] = Field(strict=False, min_length=1)
    rows: tuple[Row, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _check(self) -> Table:
        names = [column.name for column in self.columns]
        for name in (self.name, *names):
            # Names of tables become names of files, names of columns those of a database.
            if not _NAME.fullmatch(name):
                raise ValueError(f"name {name!r}: small letters, digits and underscores only")
        if len(set(names)) < len(names):
            raise ValueError(f"table {self.name!r}: a column stands there twice")
        for number, row in enumerate(self.rows):
            if len(row) != len(names):
                raise ValueError(f"table {self.name!r}: row {number} has {len(row)} cells")
            for column, cell in zip(self.columns, row, strict=True):
                if cell is not None and not isinstance(cell, _TYPES[column.type]):
                    raise ValueError(f"table {self.name!r}: row {number} {column.name} = {cell!r}")
                if column.type in ("number", "integer") and isinstance(cell, bool):
                    raise ValueError(f"table {self.name!r}: row {number} {column.name} = {cell!r}")
        return self

    def frame(self) -> pd.DataFrame:
        """Return the table as a DataFrame (numbers float64, integers Int64, NA where empty)."""
        import pandas as pd

        dtypes = {"number": "float64", "integer": "Int64", "text": "object", "boolean": "boolean"}
        return pd.DataFrame(
            {
                column.name: pd.Series([row[i] for row in self.rows], dtype=dtypes[column.type])
                for i, column in enumerate(self.columns)
            }
        )

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries by column name."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """Return the table as CSV: numbers in full precision, empty cells where there is none."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([_csv_cell(cell) for cell in row] for row in self.rows)
        return text.getvalue()


class Plan(_Record):
    """Outcome of one analysis of one instance.

    ``status`` is the worst of all parts (optimal, feasible, unknown, infeasible); ``gap`` the
    largest proven gap of the exact parts, None where nothing is proven.
    """

    schema_: Literal["code-opt/plan/1"] = Field("code-opt/plan/1", alias="schema")
    kind: Kind
    instance: str
    instance_digest: dict[str, str] | None = None
    status: Status
    gap: Number | None = None
    seconds: Number = 0.0
    message: str | None = None
    settings: dict[str, Setting] = Field(default_factory=dict)
    tables_: tuple[Table, ...] = Field((), alias="tables", strict=False)

    @model_validator(mode="after")
    def _check(self) -> Plan:
        names = [table.name for table in self.tables_]
        if len(set(names)) < len(names):
            raise ValueError("two tables have the same name")
        return self

    def __repr__(self) -> str:
        return f"<Plan {self.kind} of {self.instance!r}: {self._summary()}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return status and first table as HTML, for notebooks."""
        title = f"Plan {self.kind} of {self.instance}: {self._summary()}"
        if not self.tables_:
            return html_table(title, [], [])
        first = self.tables_[0]
        headings = [f"{c.name} [{c.unit}]" if c.unit else c.name for c in first.columns]
        return html_table(f"{title}. {first.title}", headings, first.rows)

    def _summary(self) -> str:
        """Return status, gap and the names of the tables in one line."""
        parts: list[str] = [self.status]
        if self.gap is not None:
            parts.append(f"gap {percent(self.gap, up=True)}")
        parts += [f"{table.name} ({len(table.rows)} rows)" for table in self.tables_]
        return ", ".join(parts)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return all tables as DataFrames, by name and in order."""
        return {table.name: table.frame() for table in self.tables_}

    def table(self, name: str) -> Table:
        """Return one table.

        Raises:
            KeyError: there is none of that name.
        """
        for table in self.tables_:
            if table.name == name:
                return table
        raise KeyError(name)

    @property
    def has_any(self) -> bool:
        """Whether a row of the first table holds a plan, an assignment or a value."""
        rows = self.tables_[0].records() if self.tables_ else []
        return any(row.get("status", "optimal") in ("optimal", "feasible") for row in rows)

    @property
    def reasons(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The first reasons of the message, and the others, which mostly follow from them.

        Each reason begins a line, what belongs to it is indented.
        """
        found: list[str] = []
        for line in (self.message or "").split("\n"):
            if found and line.startswith(" "):
                found[-1] += f"\n{line}"
            elif line.strip():
                found.append(line)
        return tuple(found[:_FIRST_REASONS]), tuple(found[_FIRST_REASONS:])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """Return the plan file's text."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


_FIRST_REASONS = 3
_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "text": (str,),
    "boolean": (bool,),
}


def worst_status(statuses: Sequence[Status]) -> Status:
    """Return the worst of some statuses, ``optimal`` if there is none."""
    return max(statuses, key=_RANK.__getitem__, default="optimal")


def load_plan(path: str | Path) -> Plan:
    """Read one plan file.

    Raises:
        InputError: the file is missing, not JSON, or not a plan; the first problems are
            named, the others counted.
    """
    text = read_text(path)
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path}: not a plan\n{wrong_fields(error)}") from None


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write one plan file, whole or not at all."""
    write_atomically(path, plan.to_json())


def _csv_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return repr(cell) if isinstance(cell, float) else str(cell)
