"""Demand by the hour: a wide table with a row per task and a column per period.

The column ``task`` names tasks; the header of every other column is the name of a period, its
cells are demands [inferences/s]. A row with an empty ``task`` holds the hours of each period;
without one, all last an hour. Tasks that are not listed keep the instance's demand.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from code_opt.errors import InputError
from code_opt.instance.cells import Cells, CsvRow, cells_of, load_cells, refuse
from code_opt.instance.model import Instance, Task
from code_opt.instance.problems import hint
from code_opt.instance.ranges import is_in_range, range_text

TASK = "task"


@dataclass(frozen=True)
class Periods:
    """Periods in the order of their columns."""

    names: tuple[str, ...]
    hours: tuple[float, ...]
    """How long each lasts [h], above 0."""
    demands: Mapping[str, tuple[float, ...]]
    """Demand of each period [inferences/s], by task id."""
    places: Mapping[str, str] = field(compare=False)
    """File and line of each task, for messages."""

    def at(self, instance: Instance, k: int) -> Instance:
        """Return an instance with the demands of period ``k``.

        A floor above the demand that its task has then, or another task of its input group, is
        lowered to it, since no rate is larger.

        Args:
            instance: has the tasks of the table.
            k: number of the period, from 0.

        Raises:
            InputError: the table names a task that the instance does not have; all are told.
        """
        self.check(instance)
        return with_demands(instance, {name: row[k] for name, row in self.demands.items()})

    def to_csv(self) -> str:
        """Return the table as CSV text, which reads back as the same periods."""
        lines = [[TASK, *self.names], ["", *map(repr, self.hours)]]
        lines += [[name, *map(repr, row)] for name, row in self.demands.items()]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        return text.getvalue()

    def check(self, instance: Instance) -> None:
        """Refuse tasks that an instance does not have.

        Raises:
            InputError: there are some; all are told.
        """
        known = dict.fromkeys(task.id for task in instance.tasks)
        refuse(
            [
                f"{self.places[name]} {TASK} = {name!r}: the instance has no such task"
                f"{hint(name, known)}"
                for name in self.demands
                if name not in known
            ]
        )


def with_demands(instance: Instance, demands: Mapping[str, float]) -> Instance:
    """Return an instance with other demands; floors that are above them are lowered to them.

    Args:
        instance: whose other tasks keep their demands.
        demands: [inferences/s], by task id.
    """
    demand_of = {task.id: demands.get(task.id, task.demand) for task in instance.tasks}
    least: dict[str, float] = {}
    for task in instance.tasks:
        demand = demand_of[task.id]
        if demand is not None:
            key = _rate_key(task)
            least[key] = min(demand, least.get(key, demand))

    def changed(task: Task) -> Task:
        floor, most = task.floor, least.get(_rate_key(task))
        if most is not None and not isinstance(floor, str):
            floor = min(floor, most)
        return task.model_copy(update={"demand": demand_of[task.id], "floor": floor})

    return instance.model_copy(update={"tasks": tuple(map(changed, instance.tasks))})


def _rate_key(task: Task) -> str:
    """Return what tasks of one rate have in common."""
    return f"task {task.id}" if task.input_group is None else f"group {task.input_group}"


def load_periods(path: str | Path) -> Periods:
    """Read periods from a CSV file.

    Raises:
        InputError: the file cannot be read, or something in it is wrong; all of it is told.
    """
    return _periods_of(load_cells(path), str(path))


def parse_periods(text: str, source: str = "periods") -> Periods:
    """Return the periods of a CSV text (see the module).

    Args:
        text: the whole table.
        source: what it came from, for messages.

    Raises:
        InputError: something is wrong; all of it is told.
    """
    return _periods_of(cells_of(text, source), source)


def _periods_of(cells: Cells, source: str) -> Periods:
    header = cells.columns if cells.rows else []
    if TASK not in header:
        raise InputError(
            f"{source}: no demands by period: expected a column {TASK!r}, and one column for each "
            "period, whose header is the name of the period"
        )
    first = cells.rows[0][0]
    names = [name for name in header if name]
    problems = [
        f"{source}:{first}: column {column} has no name; its header is the name of a period"
        for column, name in enumerate(header, start=1)
        if not name
    ]
    problems += [
        f"{source}:{first}: the column {name!r} stands there {names.count(name)} times; give each "
        "period a name of its own"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    periods = tuple(name for name in dict.fromkeys(names) if name != TASK)
    if not periods:
        problems.append(f"{source}:{first}: no period: every column but {TASK!r} is one")
    refuse(problems)
    found: dict[str, tuple[float, ...]] = {}
    places: dict[str, str] = {}
    for line, values in cells.rows[1:]:
        place = f"{source}:{line}"
        wrong = cells.width_problem(values, len(header))
        if wrong is not None:
            problems.append(f"{place}: {wrong}")
            continue
        row = CsvRow(dict(zip(header, values, strict=False)), cells.separator, place)
        name = row.cells[TASK]
        numbers = _numbers(row, periods)
        problems += row.problems
        if name in places:
            what = f"{TASK} = {name!r}: " if name else "hours (no task): "
            problems.append(f"{place} {what}has a row at {places[name]} already")
        else:
            places[name], found[name] = place, numbers
    refuse(problems)
    hours = found.pop("", (1.0,) * len(periods))
    places.pop("", None)
    if not found:
        raise InputError(f"{source}: no demands: expected a row for each task whose demand changes")
    return Periods(periods, hours, found, places)


def _numbers(row: CsvRow, periods: tuple[str, ...]) -> tuple[float, ...]:
    """Return the numbers of a row: demands, or hours where no task is named."""
    is_demand = bool(row.cells[TASK])
    empty = (
        "; write 0 for no demand, or leave the whole row out to keep the instance's"
        if is_demand
        else ": the hours of each period stand in the row without a task"
    )
    numbers = [row.needed(name, or_0=is_demand, empty=empty) for name in periods]
    row.problems += [
        f"{row.place} {name} = {row.cells[name]!r}: must be {range_text()}"
        for name, value in zip(periods, numbers, strict=True)
        if value > 0.0 and not is_in_range(value)
    ]
    return tuple(numbers)
