"""Values at named places of an instance's plain data: ``tasks[faces].floor``.

A place is written as in messages about files: field names with dots between them, and in brackets
the index of an entry. An entry can also be named by its id, a link or connection by its ends
(``links[hub->site]``), as in sweeps; ``[*]`` stands for all entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from code_opt.instance.problems import Problem, hint, shown

_EVERY = "*"
_PART = re.compile(r"\.?([A-Za-z_]\w*)|\[(.+?)\](?=[.\[]|$)")


def changed(data: dict[str, Any], changes: Mapping[str, Any]) -> list[Problem]:
    """Set values in place, in the order given; return what is wrong with the places.

    Whether the values are right is for the rules of an instance to say.

    Args:
        data: the fields of an instance, as of :meth:`code_opt.instance.Instance.to_dict`.
        changes: values by place, such as ``{"reward.accuracy.exponent": 4.0}``.
    """
    problems = []
    for place, value in changes.items():
        try:
            for parent, key in list(_targets(data, _parts(place))):
                parent[key] = value
        except _WrongPlaceError as error:
            problems.append(Problem(place, str(error)))
    return problems


class _WrongPlaceError(Exception):
    """A place that an instance does not have."""


def _parts(place: str) -> list[tuple[str, bool]]:
    """Return the steps of a place, and whether each stood in brackets."""
    parts: list[tuple[str, bool]] = []
    end = 0
    while end < len(place):
        found = _PART.match(place, end)
        if found is None or (end == 0) != (place[found.start()] not in ".["):
            break
        parts.append((found[2], True) if found[1] is None else (found[1], False))
        end = found.end()
    if not parts or end < len(place):
        raise _WrongPlaceError(
            "is no place; places look like reward.accuracy.exponent, servers[0].flops, "
            "tasks[ID].floor or tasks[*].floor"
        )
    return parts


def _targets(node: Any, parts: list[tuple[str, bool]]) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of everything that a place stands for."""
    (part, is_entry), *rest = parts
    if is_entry:
        if not isinstance(node, list):
            raise _WrongPlaceError(f"[{part}] needs a list before it")
        keys: list[Any] = _entries(node, part)
    else:
        if not isinstance(node, dict):
            kind = "an entry in brackets" if isinstance(node, list) else "no further field"
            raise _WrongPlaceError(f"{kind} is expected where .{part} stands")
        if rest and part not in node:
            raise _WrongPlaceError(f"unknown field {shown(part)}{hint(part, list(node), few=99)}")
        keys = [part]
    for key in keys:
        if rest:
            yield from _targets(node[key], rest)
        else:
            yield node, key


def _entries(entries: list[Any], name: str) -> list[int]:
    if name == _EVERY:
        return list(range(len(entries)))
    names = [_name_of(entry) for entry in entries]
    if name in names:
        return [names.index(name)]
    if name.isascii() and name.isdigit():
        if int(name) < len(entries):
            return [int(name)]
        raise _WrongPlaceError(f"[{name}] is beyond the last of {len(entries)} entries")
    known = [other for other in names if other is not None]
    raise _WrongPlaceError(f"there is no {shown(name)}{hint(name, known)}")


def _name_of(entry: Any) -> str | None:
    """Return what an entry is called: its id, its two ends, or nothing."""
    if not isinstance(entry, dict):
        return None
    if "id" in entry:
        return str(entry["id"])
    return f"{entry['source']}->{entry['target']}" if {"source", "target"} <= entry.keys() else None
