"""Instances with changes; results and plans from files given in the wrong order, perhaps."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import code_opt
from code_opt.cli.terminal import PROGRAM
from code_opt.errors import InputError
from code_opt.files import MAX_BYTES, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from code_opt.instance import Instance
    from code_opt.planning import Plan
    from code_opt.result import Result

STANDARD_INPUT = "-"
"""Stands for it where the file of an instance is expected."""
_CHANGE = re.compile(r"((?:\[.+?\](?=[.\[=])|[^\[=])+)=(.*)", re.DOTALL)
"""Ids in brackets may hold ``=``."""


def load_changed(path: Path, changes: Sequence[str] | None = None) -> Instance:
    """Read an instance, ``-`` from standard input, and set what ``--set PLACE=VALUE`` asks for.

    Raises:
        InputError: the file cannot be used, or what it says with these changes.
    """
    values = values_of(changes)
    instance = _instance_in(path)
    return instance.with_(values, source=f"{path} with --set") if values else instance


def values_of(changes: Sequence[str] | None) -> dict[str, object]:
    """Return the values that ``--set PLACE=VALUE`` asks for, by place.

    A value is JSON; what is no JSON is taken as text, so that ids need no quotes.

    Raises:
        InputError: one is not of this form, or a place is given twice.
    """
    values: dict[str, object] = {}
    for change in changes or ():
        found = _CHANGE.fullmatch(change)
        if found is None:
            raise InputError(f"--set: {change!r}: expected PLACE=VALUE")
        place, text = found[1], found[2]
        if place in values:
            raise InputError(f"--set: {place!r} is given twice")
        try:
            values[place] = json.loads(text)
        except (ValueError, RecursionError):
            values[place] = text
    return values


def _instance_in(path: Path) -> Instance:
    """Read an instance from a file or folder, or as JSON or YAML from standard input.

    Raises:
        InputError: it cannot be read, or is no instance.
    """
    if str(path) != STANDARD_INPUT:
        return code_opt.load_instance(path)
    from code_opt.instance.files import instance_of

    source = "standard input"
    if sys.stdin is None:
        raise InputError(f"{source}: is closed; '-' reads an instance from it")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{source}: more than the {MAX_BYTES} bytes that are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from None
    return instance_of(text, source, is_yaml=not text.lstrip().startswith("{"))


def load_result(path: Path, order: str) -> Result:
    """Read a result; where the file is an instance, say so and the right order of arguments."""
    try:
        return code_opt.load_result(path)
    except InputError:
        from code_opt.instance.files import is_instance

        if is_instance(path):
            raise InputError(
                f"{path}: an instance, not a result; the order is: {PROGRAM} {order}"
            ) from None
        raise


def plan_in(path: Path) -> Plan | None:
    """Return the plan of a plan file, None where the file is something else.

    Raises:
        InputError: it calls itself a plan, and is none.
    """
    try:
        data = json.loads(read_text(path))
    except (InputError, ValueError, RecursionError):
        return None
    schema = data.get("schema") if isinstance(data, dict) else None
    is_plan = isinstance(schema, str) and schema.startswith("code-opt/plan/")
    return code_opt.load_plan(path) if is_plan else None
