"""Solutions that other solvers wrote: a line of name and value for each variable.

HiGHS writes such files as style 0 (``--solution_file``, its default), SCIP by ``write solution``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from code_opt.errors import InputError
from code_opt.files import read_text

_OBJECTIVE = re.compile(r"(?:# )?objective(?: value)?\s*[:=]?\s+(\S+)", re.IGNORECASE)
_COLUMNS = re.compile(r"# Columns\b")
_OTHERS = re.compile(r"# (Rows|Dual solution values)\b")
"""What HiGHS writes about variables stands between these two."""
_NONE = re.compile(
    r"model status\s+(?!optimal\b)[^\n]*?infeasible[^\n]*"
    r"|solution status: *infeasible[^\n]*|no solution available",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SolverSolution:
    """What a solution file says."""

    values: dict[str, float]
    """Of each variable, by its name; SCIP leaves out those at 0."""
    objective: float | None
    """The solver's own figure, None where the file has none."""


def read_solution(path: str | Path) -> SolverSolution:
    """Read a solution file of HiGHS (style 0) or SCIP, or of any solver that writes like them.

    Raises:
        InputError: the file cannot be read, holds no values, or names a variable twice.
    """
    text = read_text(path)
    empty = _NONE.search(text)
    if empty is not None:
        said = " ".join(empty[0].split())
        raise InputError(f"{path}: holds no solution; its solver says: {said}")
    values: dict[str, float] = {}
    objective = None
    for number, line in enumerate(text.splitlines(), start=1):
        if _COLUMNS.match(line):
            values.clear()
        elif _OTHERS.match(line):
            break
        found = _OBJECTIVE.fullmatch(line.strip())
        if found is not None and objective is None:
            objective = _number(found[1])
            continue
        name, *rest = line.split() or [""]
        value = _number(rest[0]) if rest else None
        if value is None or name.startswith("#"):
            continue
        if name in values:
            raise InputError(f"{path}: line {number}: {name} has a value already")
        values[name] = value
    if not values:
        raise InputError(
            f"{path}: no line has a name and a value, as HiGHS (style 0) and SCIP write solutions"
        )
    return SolverSolution(values, objective)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
