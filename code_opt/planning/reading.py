"""Tables of plan files, which strangers may have written, checked for the columns that are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from code_opt.errors import InputError
from code_opt.planning.columns import SCHEMA, schema_of
from code_opt.planning.plan import Plan, Table


def table_of(plan: Plan, name: str) -> Table | None:
    """Return a table of a plan, None where it has none of that name."""
    return next((table for table in plan.tables_ if table.name == name), None)


def checked_table(plan: Plan, where: object, name: str, *used: str) -> Table:
    """Return a table of a plan, checked for the columns that are used.

    Args:
        plan: what holds it.
        where: the file of the plan, for messages.
        name: of the table.
        used: names of columns.

    Raises:
        InputError: the plan has no such table, the table lacks a column or holds something
            else in it, or a row lacks its name.
    """
    table = table_of(plan, name)
    if table is None:
        raise InputError(f"{where}: a {plan.kind} plan without {name!r}")
    about = f"{where}: table {name!r}"
    found = {column.name: schema_of(column) for column in table.columns}
    if missing := set(used) - found.keys():
        raise InputError(f"{about} lacks {', '.join(sorted(missing))}")
    for column in used:
        held, ours = found[column], SCHEMA[column]
        if held.kind.type != ours.kind.type and not (held.is_number and ours.is_number):
            raise InputError(
                f"{about} column {column}: type {held.kind.type}, must be {ours.kind.type}"
            )
        if held.column.unit and ours.unit == "%":
            raise InputError(
                f"{about} column {column}: unit {held.column.unit}, must be none: a fraction"
            )
    for index, row in enumerate(table.records()):
        for column in used:
            if found[column].is_required and row[column] is None:
                raise InputError(f"{about} row {index}: no {column}")
    return table


def rows_of(
    plan: Plan, where: object, name: str, *used: str, only: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a checked table that have the values of ``only`` in its columns.

    Raises:
        InputError: as :func:`checked_table`.
    """
    wanted = only or {}
    rows = checked_table(plan, where, name, *used, *wanted).records()
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def number_asked(plan: Plan, name: str) -> float | None:
    """Return a number of the settings of a plan, None where it is none."""
    found = numbers_asked(plan, name)
    return found[0] if len(found) == 1 else None


def numbers_asked(plan: Plan, name: str) -> tuple[float, ...]:
    """Return a list of numbers, or one, of the settings of a plan."""
    value = plan.settings.get(name)
    found = value if isinstance(value, tuple) else (value,)
    return tuple(float(v) for v in found if isinstance(v, int | float) and not isinstance(v, bool))
