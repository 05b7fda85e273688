"""Evaluations as their folder holds them: what was measured beside what was promised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.report.reading import read_csv, read_json

EVALUATION_FILE = "evaluation.json"
Record = dict[str, Any]

_COLUMNS: dict[str, dict[str, type]] = {
    "results": {
        "result": str,
        "method": str,
        "throughput_predicted": float,
        "throughput_measured": float,
        "accuracy_predicted": float,
        "accuracy_measured": float,
        "saturated_predicted": float,
        "saturated_measured": float,
        "slow_motion": float,
        "device_speedup": float,
        "device_speedup_flops": float,
        "device_speedup_parts": float,
        "confirmed": bool,
        "verdict": str,
    },
    "tasks": {
        "result": str,
        "task": str,
        "accuracy_predicted": float,
        "source": str,
        "adapters": str,
        "accuracy_measured": float,
        "low_95": float,
        "high_95": float,
        "test_images": float,
    },
    "edge_tasks": {
        "result": str,
        "feed": str,
        "task": str,
        "predicted": float,
        "offered": float,
        "measured": float,
        "unloaded": float,
        "latency_median": float,
        "latency_p95": float,
        "latency_p99": float,
    },
    "edge_servers": {
        "result": str,
        "feed": str,
        "server": str,
        "predicted": float,
        "measured": float,
        "waiting_mean": float,
        "waiting_max": float,
    },
}
"""Columns that are shown, by table; the first table must hold them all, others may be absent."""


@dataclass(frozen=True)
class EvaluationTables:
    """One evaluation, as plain tables."""

    path: Path
    instance: str
    confirmed: bool
    ranking: str
    device: str
    results: tuple[Record, ...]
    tasks: tuple[Record, ...]
    edge_tasks: tuple[Record, ...]
    edge_servers: tuple[Record, ...]


def read_evaluation(path: Path) -> EvaluationTables:
    """Read ``evaluation.json`` and the CSV tables beside it.

    Raises:
        InputError: a file cannot be read or is not what an evaluation writes.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: not an evaluation")
    kinds = {"instance": str, "confirmed": bool, "ranking": str, "device": str, "results": list}
    for name, kind in kinds.items():
        if not isinstance(data.get(name), kind):
            raise InputError(f"{path}: not an evaluation: {name}: expected {kind.__name__}")
    results = []
    for index, row in enumerate(data["results"]):
        if not isinstance(row, dict):
            raise InputError(f"{path}: results[{index}]: expected an object")
        results.append(
            {
                name: _typed(row.get(name), kind, f"{path}: results[{index}].{name}")
                for name, kind in _COLUMNS["results"].items()
            }
        )
    tables: dict[str, tuple[Record, ...]] = {}
    for name, columns in _COLUMNS.items():
        if name == "results":
            continue
        file = path.with_name(f"{name}.csv")
        tables[name] = ()
        if not file.exists() or file.stat().st_size <= 1:  # nothing of that kind was measured
            continue
        tables[name] = tuple(
            {
                column: _typed(row[column], kind, f"{file}:{line}: {column}")
                for column, kind in columns.items()
            }
            for line, row in enumerate(read_csv(file, columns), start=2)
        )
    return EvaluationTables(
        path=path,
        instance=data["instance"],
        confirmed=data["confirmed"],
        ranking=data["ranking"],
        device=data["device"],
        results=tuple(results),
        **tables,
    )


def _typed(value: Any, kind: type, place: str) -> Any:
    """Return a cell's value; None where it is empty.

    Raises:
        InputError: it is of another type, or no finite number.
    """
    if value is None or value == "":
        return None
    if kind is str or kind is bool:
        if not isinstance(value, kind):
            raise InputError(f"{place}: expected {kind.__name__}, found {value!r}")
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{place}: expected a number, found {value!r}") from None
    if math.isinf(number):
        raise InputError(f"{place}: expected a finite number, found {value!r}")
    return None if math.isnan(number) else number
