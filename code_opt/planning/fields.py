"""Numeric fields of an instance by name, for what-if sweeps: ``servers[edge-a].flops``.

A field is named as messages name it, with ids in the place of numbers:

    servers[ID].FIELD   links[SOURCE->TARGET].FIELD   blocks[ID].FIELD   tasks[ID].FIELD
    tasks[ID].connections[SOURCE->TARGET].FIELD       reward.PART.FIELD

Nothing is evaluated: the name is compared with what the instance holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.instance.problems import hint

MAX_VALUES = 1000
_TEXTS = frozenset({"id", "share", "source", "target", "server", "dnn", "input_group", "kind"})


@dataclass(frozen=True)
class Variation:
    """One field and the values that it takes."""

    field: str
    values: tuple[float, ...]


def parse_variation(text: str) -> Variation:
    """Return what ``--vary`` asks for: ``FIELD=START:STOP:COUNT`` or ``FIELD=VALUE,VALUE,...``.

    Raises:
        InputError: the text has another form, or too many values.
    """
    # Ids may hold '=', values do not.
    field, equals, values = text.rpartition("=")
    if not (field.strip() and equals):
        raise InputError(
            f"--vary {text!r}: expected FIELD=START:STOP:COUNT or FIELD=VALUE,VALUE,..., "
            "as in servers[edge-a].flops=1e9:4e9:7"
        )
    if ":" in values:
        parts = values.split(":")
        if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3].strip() != "log"):
            raise InputError(f"--vary {text!r}: expected START:STOP:COUNT or START:STOP:COUNT:log")
        start, stop = _number(text, parts[0]), _number(text, parts[1])
        try:
            count = int(parts[2])
        except ValueError:
            raise InputError(f"--vary {text!r}: {parts[2]!r} is no whole number") from None
        if not 1 <= count <= MAX_VALUES:
            raise InputError(f"--vary {text!r}: the count must lie in [1, {MAX_VALUES}]")
        if len(parts) == 4:
            if not (start > 0.0 and stop > 0.0):
                raise InputError(f"--vary {text!r}: log steps need values above 0")
            spread = np.geomspace(start, stop, count)
        else:
            spread = np.linspace(start, stop, count)
        found = tuple(float(value) for value in spread)
    else:
        found = tuple(_number(text, value) for value in values.split(","))
        if len(found) > MAX_VALUES:
            raise InputError(f"--vary {text!r}: more than {MAX_VALUES} values")
    return Variation(field.strip(), found)


def with_value(instance: Instance, field: str, value: float) -> Instance:
    """Return a checked copy in which one field has another value.

    Raises:
        InputError: there is no such numeric field.
        InstanceError: the instance refuses the value.
    """
    data = instance.to_dict()
    record, name = _find(data, field)
    record[name] = float(value)
    return parse_instance(data, source=f"--vary {field}={value:g}")


def check_field(instance: Instance, field: str) -> None:
    """Refuse a field that an instance does not have.

    Raises:
        InputError: there is no such numeric field.
    """
    _find(instance.to_dict(), field)


def _number(text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in part:
        raise InputError(f"--vary {text!r}: {part!r} is no number")
    return value


def _field_hint(field: str, kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what ``tasks.cars.demand`` or ``hub.flops`` may have meant."""
    owner, dot, name = field.rpartition(".")
    for kind, records in kinds.items():
        if dot and owner.removeprefix(f"{kind}.") in records:
            return f"; did you mean {kind}[{owner.removeprefix(f'{kind}.')}].{name}?"
    return hint(field.partition(".")[0], kinds)


def _find(data: dict[str, Any], field: str) -> tuple[dict[str, Any], str]:
    """Return the record that holds a field, and the field's key in it."""
    if field.startswith("reward."):
        record: Any = data["reward"]
        *parts, name = field.split(".")[1:]
        for part in parts:
            record = record.get(part) if isinstance(record, dict) else None
        if len(parts) != 1 or not isinstance(record, dict):
            raise InputError(
                f"--vary: {field!r}: expected reward.accuracy.F or reward.throughput.F"
            )
        return _numeric(field, record, name)
    kinds: dict[str, Mapping[str, dict[str, Any]]] = {
        "servers": {s["id"]: s for s in data["servers"]},
        "links": _by_ends(data["links"]),
        "blocks": {b["id"]: b for dnn in data["dnns"] for b in dnn["blocks"]},
        "tasks": {t["id"]: t for t in data["tasks"]},
    }
    kind = field.partition("[")[0]
    if kind not in kinds:
        raise InputError(
            f"--vary: {field!r}: begins with none of servers[ID], links[A->B], blocks[ID], "
            f"tasks[ID], reward{_field_hint(field, kinds)}"
        )
    record, rest = _member(field, field[len(kind) :], kinds[kind], kind)
    if kind == "tasks" and rest.startswith(".connections["):
        connections = _by_ends(record["connections"])
        record, rest = _member(field, rest[len(".connections") :], connections, "connections")
    if not rest.startswith("."):
        raise InputError(
            f"--vary: {field!r}: expected .FIELD after {field[: -len(rest) or None]!r}"
        )
    return _numeric(field, record, rest[1:])


def _by_ends(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{r['source']}->{r['target']}": r for r in records}


def _member(
    field: str, rest: str, members: Mapping[str, dict[str, Any]], kind: str
) -> tuple[dict[str, Any], str]:
    """Return the member that ``rest`` begins with, as ``[ID]``, and what follows."""
    # Ids may hold brackets and dots: the longest that fits is meant.
    fitting = [name for name in members if rest.startswith(f"[{name}]")]
    if not fitting:
        asked = rest[1:].partition("]")[0]
        raise InputError(f"--vary: {field!r}: no {kind}[{asked}]{hint(asked, members)}")
    name = max(fitting, key=len)
    return members[name], rest[len(name) + 2 :]


def _numeric(field: str, record: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    numeric = [
        key
        for key, value in record.items()
        if key not in _TEXTS and not isinstance(value, list | dict)
    ]
    if name not in numeric:
        raise InputError(
            f"--vary: {field!r}: no numeric field {name!r}{hint(name, numeric, few=99)}"
        )
    return record, name
