"""Scenarios of demand, read from a CSV table.

Columns: ``scenario``, ``probability`` and either ``demand`` [inferences/s] or ``factor`` (on
the instance's demand), and ``task``. A row with an empty ``task`` is for all tasks that have
no row of their own in that scenario; tasks without any row keep the instance's demand.
``probability`` stands in at least one row of each scenario, the same in all of them. Probabilities
whose sum misses 1 by rounding, at most 1 %, are divided by their sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from code_opt.errors import InputError
from code_opt.instance.cells import Cells, cells_of, load_cells, number_hint, read_number
from code_opt.instance.model import Instance
from code_opt.instance.problems import hint
from code_opt.instance.ranges import is_in_range, range_text
from code_opt.paths.graph import FloatArray
from code_opt.planning.case import least_of_groups, own_demands

COLUMNS = ("scenario", "probability", "task", "demand", "factor")
SUM_TOLERANCE = 0.01
"""How far the sum of probabilities may be from 1: 24 hours of 0.0417 each sum to 1.0008."""
_TOLD = 1e-6
"""A sum that is further from 1 is told."""
MAX_SCENARIOS = 1000
_LISTED = 20


@dataclass(frozen=True)
class DemandRow:
    """What one row says: a demand, or a factor on the instance's demand."""

    task: str | None
    """None: all tasks without a row of their own."""
    demand: float | None
    factor: float | None


@dataclass(frozen=True)
class Scenarios:
    """Scenarios in the order of the table."""

    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    rows: tuple[tuple[DemandRow, ...], ...]
    source: str = "scenarios"
    probability_sum: float = 1.0
    """Sum of the probabilities in the table, by which each was divided."""

    @property
    def notice(self) -> str | None:
        """What was done to the probabilities of the table; None where nothing was."""
        if abs(self.probability_sum - 1.0) <= _TOLD:
            return None
        return (
            f"{self.source}: the probabilities sum to {self.probability_sum:.9g}; each is divided "
            "by this sum"
        )

    def demands(self, instance: Instance) -> FloatArray:
        """Return the demands of all tasks in all scenarios [inferences/s], shape (K, T).

        In an input group the least demand of a scenario is that of all its tasks.

        Args:
            instance: every task of it, or another one of its input group, has a demand.

        Raises:
            InputError: a row names a task that the instance does not have.
        """
        index = {task.id: t for t, task in enumerate(instance.tasks)}
        present = own_demands(instance)
        demands = np.tile(present, (len(self.names), 1))
        for k, rows in enumerate(self.rows):
            for row in sorted(rows, key=lambda r: r.task is not None):
                if row.task is not None and row.task not in index:
                    raise InputError(
                        f"{self.source}: scenario {self.names[k]!r}: no task {row.task!r}"
                        f"{hint(row.task, index)}"
                    )
                chosen = slice(None) if row.task is None else index[row.task]
                if row.demand is not None:
                    demands[k, chosen] = row.demand
                else:
                    factor = row.factor or 0.0
                    # No demand of its own stays none at any factor but 0.
                    demands[k, chosen] = present[chosen] * factor if factor > 0.0 else 0.0
        return least_of_groups(instance, demands)


def load_scenarios(path: str | Path) -> Scenarios:
    """Read scenarios from a CSV file.

    Raises:
        InputError: the file cannot be read, or something in it is wrong; all of it is told.
    """
    return _scenarios_of(load_cells(path), str(path))


def parse_scenarios(text: str, source: str = "scenarios") -> Scenarios:
    """Return the scenarios of a CSV text (see the module).

    Raises:
        InputError: something is wrong; all of it is told.
    """
    return _scenarios_of(cells_of(text, source), source)


def _scenarios_of(cells: Cells, source: str) -> Scenarios:
    if not cells.rows:
        raise InputError(f"{source}: empty; expected the columns {', '.join(COLUMNS)}")
    header = cells.columns
    problems = [
        f"1: unknown column {name!r}{hint(name, COLUMNS)}" for name in header if name not in COLUMNS
    ]
    problems += [f"1: the column {n!r} stands there twice" for n in COLUMNS if header.count(n) > 1]
    problems += [f"1: the column {n!r} is missing" for n in COLUMNS[:2] if n not in header]
    if not {"demand", "factor"} & set(header):
        problems.append("1: a column 'demand' or 'factor' is missing")
    if problems:
        raise _error(source, problems)
    chances: dict[str, float] = {}
    rows: dict[str, dict[str | None, DemandRow]] = {}
    for number, values in cells.rows[1:]:
        wrong = cells.width_problem(values, len(header))
        if wrong is not None:
            problems.append(f"{number}: {wrong}")
            continue
        row = dict(zip(header, values, strict=False))
        name = row.get("scenario", "")
        if not name:
            problems.append(f"{number} scenario: is required")
            continue
        numbers = {}
        for column in ("probability", "demand", "factor"):
            numbers[column] = _number(
                row.get(column, ""), cells.separator, number, column, problems
            )
        chance = numbers["probability"]
        if chance is not None:
            if name in chances and not math.isclose(chances[name], chance, rel_tol=1e-9):
                problems.append(
                    f"{number} probability: scenario {name!r} has {chances[name]:g} already"
                )
            chances.setdefault(name, chance)
        both = row.get("demand", "") and row.get("factor", "")
        neither = not row.get("demand", "") and not row.get("factor", "")
        task = row.get("task", "") or None
        if both or neither:
            problems.append(f"{number}: expected either a demand or a factor")
        elif task in rows.get(name, {}):
            problems.append(f"{number} task: scenario {name!r} has a row for it already")
        rows.setdefault(name, {})[task] = DemandRow(task, numbers["demand"], numbers["factor"])
    problems += [f"scenario {n!r}: no row has its probability" for n in rows if n not in chances]
    if not rows:
        problems.append("no scenarios")
    if len(rows) > MAX_SCENARIOS:
        problems.append(f"{len(rows)} scenarios, more than {MAX_SCENARIOS}")
    total = sum(chances.values())
    if not problems and abs(total - 1.0) > SUM_TOLERANCE * (1.0 + 1e-9):
        problems.append(f"the probabilities sum to {total:.9g}, not to 1 (within 1 %)")
    if problems:
        raise _error(source, problems)
    return Scenarios(
        names=tuple(rows),
        probabilities=tuple(chances[name] / total for name in rows),
        rows=tuple(tuple(of.values()) for of in rows.values()),
        source=source,
        probability_sum=total,
    )


def _number(text: str, separator: str, line: int, column: str, problems: list[str]) -> float | None:
    if not text:
        return None
    value = read_number(text, separator)
    if isinstance(value, str) or not math.isfinite(value):
        problems.append(f"{line} {column} = {text!r}: must be a finite number{number_hint(text)}")
        return None
    if value < 0.0 or (column == "probability" and value > 1.0):
        limits = "must lie in [0, 1]" if column == "probability" else "must be at least 0"
        problems.append(f"{line} {column} = {text!r}: {limits}")
        return None
    if column != "probability" and not is_in_range(value):
        limits = f"must be {range_text()}"
        problems.append(f"{line} {column} = {text!r}: {limits}")
        return None
    return value


def _error(source: str, problems: list[str]) -> InputError:
    shown = problems[:_LISTED]
    if len(problems) > _LISTED:
        shown.append(f"... and {len(problems) - _LISTED} more")
    lines = "\n".join(f"  {problem}" for problem in shown)
    return InputError(f"{source}: not a table of scenarios\n{lines}")
