"""Values at named places of an instance's plain data: ``tasks[faces].floor``.

A place is written as in messages about files: field names with dots between them, and in brackets
the index of an entry. An entry can also be named by its id, a link or connection by its ends
(``links[hub->site]``); ``[*]`` stands for all entries. Blocks are found without their DNN
(``blocks[alexnet/0].flops``), times by their batch size (``blocks[alexnet/0].seconds[8]``).

``--set``, ``--vary`` and :meth:`code_opt.instance.Instance.with_` name values in this way. Nothing
is evaluated: a name is compared with what the instance holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from code_opt.instance.problems import Problem, hint, shown

_EVERY = "*"
_ALL = f"[{_EVERY}]"
_PLACE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[.+?\](?=[.\[]|$))*")
_FIELD = re.compile(r"\.?([A-Za-z_]\w*)")
_ENTRY = re.compile(r"\[(.+?)\](?=[.\[]|$)")


class WrongPlaceError(Exception):
    """A place that an instance does not have."""


def changed(data: dict[str, Any], changes: Mapping[str, Any]) -> list[Problem]:
    """Set values in place, in the order given; return what is wrong with the places.

    Whether the values are right is for the rules of an instance to say. A field is set once, but
    after a place with ``[*]`` one with fewer of them may set a part of its fields otherwise.

    Args:
        data: the fields of an instance, as of :meth:`code_opt.instance.Instance.to_dict`.
        changes: values by place, such as ``{"reward.accuracy.exponent": 4.0}``.
    """
    problems = []
    set_by: dict[tuple[int, Any], str] = {}
    for place, value in changes.items():
        try:
            for parent, key in targets(data, place):
                earlier = set_by.setdefault((id(parent), key), place)
                if earlier != place and earlier.count(_ALL) <= place.count(_ALL):
                    raise WrongPlaceError(f"sets what {earlier} sets, too; give one of them")
                set_by[id(parent), key] = place
                parent[key] = value
        except WrongPlaceError as error:
            problems.append(Problem(place, str(error)))
    return problems


def targets(data: dict[str, Any], place: str) -> list[tuple[Any, Any]]:
    """Return the container and the key of everything that a place stands for.

    The last key need not be in its container: a field at its default may be left out there.

    Raises:
        WrongPlaceError: the data have no such place.
    """
    if not _PLACE.fullmatch(place):
        raise WrongPlaceError(
            "is no place; places look like reward.accuracy.exponent, servers[0].flops, "
            "tasks[ID].floor or tasks[*].floor"
        )
    root: dict[str, Any] = data
    if place.startswith("blocks["):
        root = {"blocks": [block for dnn in data["dnns"] for block in dnn["blocks"]]}
    found = list(_targets(root, place, root))
    if root is not data and any(parent is root["blocks"] for parent, _ in found):
        raise WrongPlaceError("is a whole block; name a field of it, or dnns[ID].blocks[ID]")
    return found


def _targets(node: Any, rest: str, root: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    keys: list[Any]
    if rest.startswith("["):
        name, keys = _entries(node, rest)
        rest = rest[len(name) + 2 :]
    else:
        found = _FIELD.match(rest)
        assert found is not None
        name, rest = found[1], rest[found.end() :]
        if not isinstance(node, dict):
            kind = "an entry in brackets" if isinstance(node, list) else "no further field"
            meant = f"; did you mean [{name}]?" if name in _names(node) else ""
            raise WrongPlaceError(f"{kind} is expected where .{name} stands{meant}")
        if rest and name not in node:
            raise WrongPlaceError(f"unknown field {shown(name)}{_hint(name, node, root)}")
        keys = [name]
    for key in keys:
        if rest:
            yield from _targets(node[key], rest, root)
        else:
            yield node, key


def _entries(node: Any, rest: str) -> tuple[str, list[Any]]:
    """Return the name in brackets that ``rest`` begins with, and the keys that it stands for."""
    names = _names(node)
    # Ids may hold brackets and dots: the longest that fits is meant.
    fitting = [known for known in names if known is not None and rest.startswith(f"[{known}]")]
    if fitting:
        name = max(fitting, key=len)
        return name, [name if isinstance(node, dict) else names.index(name)]
    found = _ENTRY.match(rest)
    assert found is not None
    name = found[1]
    if isinstance(node, dict) and names and name.isdigit():
        return name, [name]  # a time of another batch size
    if not isinstance(node, list):
        raise WrongPlaceError(f"[{name}] needs a list before it")
    if name == _EVERY:
        return name, list(range(len(node)))
    if name.isascii() and name.isdigit():
        if int(name) < len(node):
            return name, [int(name)]
        raise WrongPlaceError(f"[{name}] is beyond the last of {len(node)} entries")
    known = [other for other in names if other is not None]
    raise WrongPlaceError(f"there is no {shown(name)}{hint(name, known)}")


def _names(node: Any) -> list[str | None]:
    """Return what entries are called in brackets: of a list, or of times by their batch size."""
    if isinstance(node, dict):
        return [key for key in node if key.isdigit()]
    return [_name_of(entry) for entry in node] if isinstance(node, list) else []


def _name_of(entry: Any) -> str | None:
    """Return what an entry is called: its id, its two ends, or nothing."""
    if not isinstance(entry, dict):
        return None
    if "id" in entry:
        return str(entry["id"])
    return f"{entry['source']}->{entry['target']}" if {"source", "target"} <= entry.keys() else None


def _hint(name: str, node: dict[str, Any], root: dict[str, Any]) -> str:
    """Return what an unknown field may have meant: one that is near, or an entry of that name."""
    if node is root:
        for kind, entries in root.items():
            if name in _names(entries):
                return f"; did you mean {kind}[{name}]?"
    return hint(name, list(node), few=99)
