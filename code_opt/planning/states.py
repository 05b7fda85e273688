"""The states of a plan as instances with their results: what can be checked and simulated.

A row of a plan says what stands where, and which path every task takes at which rate. Here it
becomes the upgraded instance, whose demands are these rates, and the result of these paths on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_opt.files import file_stem
from code_opt.instance import Instance, save_instance
from code_opt.instance.model import GivenPath
from code_opt.planning.operation import PATH_SEPARATOR
from code_opt.planning.plan import Plan
from code_opt.result import Result, save_result
from code_opt.solving import evaluate_paths

_CAPACITIES = {
    "capacity_flop_per_s": "flops",
    "capacity_devices": "devices",
    "capacity_bytes_per_s": "bandwidth",
}
"""Columns of the tables of servers and links, and what they are in an instance."""

Row = Mapping[str, Any]
Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class PlannedState:
    """One state of an edge that a plan has built."""

    name: str
    """From the cells that name the row, fit for the name of a file."""
    instance: Instance
    """Upgraded; the demand of a task is the rate that is planned."""
    result: Result


def planned_states(plan: Plan, instance: Instance) -> list[PlannedState]:
    """Return the states of a plan that says the rate of every path: each row, each scenario.

    Plans of other kinds (fronts, values, sweeps, several states in one row) have none.

    Args:
        plan: of the instance.
        instance: what was planned for.
    """
    tables = plan.tables()
    if not {"servers", "links", "paths"} <= tables.keys():
        return []
    paths, servers, links = (
        _grouped(plan.table(name).records(), first)
        for name, first in (("paths", "task"), ("servers", "server"), ("links", "source"))
    )
    found = []
    for key, rows in paths.items():
        for name, rates in _rates(plan, key, rows):
            changed = _upgraded(instance, servers.get(key, []), links.get(key, []), rates)
            result = evaluate_paths(
                changed,
                {row["task"]: _blocks(row) for row in rows},
                objective="throughput",
                method="plan",
            )
            found.append(PlannedState(name, changed, result))
    return found


def save_states(plan: Plan, instance: Instance, folder: Path) -> int:
    """Write ``NAME.instance.json`` and ``NAME.result.json`` of every state; return their number.

    Args:
        plan: of the instance.
        instance: what was planned for.
        folder: is made where there is any state.
    """
    states = planned_states(plan, instance)
    if states:
        folder.mkdir(exist_ok=True)
    for state in states:
        save_instance(state.instance, folder / f"{state.name}.instance.json")
        save_result(state.result, folder / f"{state.name}.result.json")
    return len(states)


def _grouped(rows: list[dict[str, Any]], first: str) -> dict[Key, list[Row]]:
    """Return rows by the cells before the column ``first``, which name the plan's row."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        names = list(row)
        key = tuple((name, row[name]) for name in names[: names.index(first)])
        found.setdefault(key, []).append(row)
    return found


def _rates(plan: Plan, key: Key, rows: list[Row]) -> Iterator[tuple[str, dict[str, float]]]:
    """Return the name of every state of a row with the rates of its tasks [inferences/s]."""
    if "rate_per_s" in rows[0]:
        yield _name(key), {row["task"]: row["rate_per_s"] for row in rows}
    elif plan.kind == "scenarios":
        for case, rates in _grouped(plan.table("rates").records(), "task").items():
            if set(key) <= set(case):
                yield _name(case), {row["task"]: row["rate_per_s"] for row in rates}


def _name(key: Key) -> str:
    cells = [
        value if isinstance(value, str) else f"{name}-{value:g}"
        for name, value in key
        if value is not None
    ]
    return file_stem("-".join(cells) or "state")


def _blocks(row: Row) -> tuple[str, ...]:
    return GivenPath.of(row["path"].split(PATH_SEPARATOR), row["accuracy_source"])


def _upgraded(
    instance: Instance, servers: list[Row], links: list[Row], rates: Mapping[str, float]
) -> Instance:
    """Return the instance with what stands in a row, and the demands of its rates."""
    stands: dict[tuple[str, ...], Row] = {(row["server"],): row for row in servers}
    stands |= {(row["source"], row["target"]): row for row in links}
    data = instance.to_dict()
    for records, ends in (("servers", ("id",)), ("links", ("source", "target"))):
        for record in data[records]:
            row = stands.get(tuple(record[end] for end in ends), {})
            for column, field in _CAPACITIES.items():
                # What is null has no such capacity, or one without a limit.
                if row.get(column) is not None and record.get(field) is not None:
                    record[field] = row[column]
    for task in data["tasks"]:
        task |= {"demand": rates[task["id"]], "floor": 0.0}
    # Files lie elsewhere, and a bundle may not lie outside of an instance's folder.
    changes = {name: data[name] for name in ("servers", "links", "tasks")}
    return instance.replace(**changes, bundle=None)
