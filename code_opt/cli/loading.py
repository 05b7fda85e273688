"""Results and plans from files that a user may have given in the wrong order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import code_opt
from code_opt.cli.terminal import PROGRAM
from code_opt.errors import InputError
from code_opt.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from code_opt.planning import Plan
    from code_opt.result import Result


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
