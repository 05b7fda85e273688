"""Numeric fields of an instance and the values that they take in what-if sweeps.

Fields are named as :mod:`code_opt.instance.places` says: ``servers[edge-a].flops``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.instance.places import WrongPlaceError, targets
from code_opt.instance.problems import hint

MAX_VALUES = 1000
_TEXTS = frozenset({"bundle", "share", "origin", "input_group"})
"""Texts that may be missing."""


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
    check_field(instance, field)
    return instance.with_({field: float(value)}, source=f"--vary {field}={value:g}")


def check_field(instance: Instance, field: str) -> None:
    """Refuse a field that an instance does not have.

    Raises:
        InputError: there is no such numeric field.
    """
    try:
        places = targets(instance.to_dict(), field)
    except WrongPlaceError as error:
        raise InputError(f"--vary: {field!r}: {error}") from None
    for record, name in places:
        if not isinstance(record, dict):
            raise InputError(f"--vary: {field!r}: expected .FIELD after it")
        numeric = [key for key, value in record.items() if _is_numeric(key, value)]
        if name not in numeric:
            near = hint(str(name), numeric, few=99)
            raise InputError(f"--vary: {field!r}: no numeric field {str(name)!r}{near}")


def _is_numeric(key: str, value: object) -> bool:
    return key not in _TEXTS and (value is None or isinstance(value, int | float))


def _number(text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in part:
        raise InputError(f"--vary {text!r}: {part!r} is no number")
    return value
