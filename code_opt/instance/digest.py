"""What an instance says, as a short text: the same problem, the same digest.

Two instances have the same digest if they are the same problem: names and descriptions, the
order of records where none is meant, and the form of the file do not count. Values at their
defaults do not either, so that a key that the format gets later changes no old digest.

Form 1: of each part (:data:`PARTS`) SHA-256 of its canonical JSON: validated records without the
fields at their defaults, keys sorted, records sorted by their ids (blocks stay in order), numbers
as Python's shortest text, no blanks, UTF-8. ``sha256`` is that of all parts one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from code_opt.instance.model import Instance

FORM = "1"
PARTS = ("servers", "links", "dnns", "tasks", "reward")
"""What is told apart when an instance has changed."""
_KEYS = {
    "servers": ("id",),
    "links": ("source", "target"),
    "dnns": ("id",),
    "tasks": ("id",),
    "connections": ("source", "target"),
    "measured_paths": ("blocks",),
    "alternatives": ("dnn",),
}
_PART_DIGITS = 16


def digest_of(instance: Instance) -> dict[str, str]:
    """Return the digest of an instance: ``form``, ``sha256``, and a shorter one of each part."""
    data = instance.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    # A default of this field is made anew each time; whether it is left out must not depend on it.
    data["reward"] = {
        name: getattr(instance.reward, name).model_dump(mode="json", exclude_defaults=True)
        for name in ("accuracy", "throughput")
    }
    for task in data["tasks"]:
        for name in ("connections", "measured_paths", "alternatives"):
            if name in task:
                task[name] = _sorted(name, task[name])
    whole = hashlib.sha256()
    digest = {"form": FORM, "sha256": ""}
    for part in PARTS:
        found = data.get(part, [])
        text = json.dumps(
            found if part == "reward" else _sorted(part, found),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        own = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        whole.update(own.digest())
        digest[part] = own.hexdigest()[:_PART_DIGITS]
    digest["sha256"] = whole.hexdigest()
    return digest


def changed_parts(recorded: Mapping[str, str] | None, instance: Instance) -> list[str] | None:
    """Return which parts of an instance differ from those that a digest was taken of.

    Args:
        recorded: a digest, or None where none was kept.
        instance: what it is compared with.

    Returns:
        Names of :data:`PARTS`; empty where nothing differs; None where it cannot be told.
    """
    if recorded is None or recorded.get("form") != FORM:
        return None
    present = digest_of(instance)
    if recorded.get("sha256") == present["sha256"]:
        return []
    return [part for part in PARTS if recorded.get(part) != present[part]] or list(PARTS)


def _sorted(name: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: [record[key] for key in _KEYS[name]])
