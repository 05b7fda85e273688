"""The structure of an instance: every field's type and range, by the pydantic model.

What pydantic finds is put into the words of the file format; whatever is not well-formed
is cut out, so that the rules between the parts can still be checked on the rest.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from code_opt.instance.cells import number_hint
from code_opt.instance.problems import Issue, Location, hint, shown
from code_opt.instance.records import (
    SCHEMA,
    SHAPES,
    Alternative,
    Block,
    Connection,
    Dnn,
    Link,
    MeasuredPath,
    Reward,
    Server,
    Task,
)

M = TypeVar("M", bound=BaseModel)

_RECORDS: dict[tuple[str, ...], type[BaseModel]] = {
    ("servers",): Server,
    ("links",): Link,
    ("dnns",): Dnn,
    ("dnns", "blocks"): Block,
    ("tasks",): Task,
    ("tasks", "connections"): Connection,
    ("tasks", "measured_paths"): MeasuredPath,
    ("tasks", "alternatives"): Alternative,
    ("reward",): Reward,
}
_KINDS = " or ".join(", ".join(f"{kind!r}" for kind in SHAPES).rsplit(", ", 1))

_MESSAGES = {
    "missing": "is required",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object with named fields",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "multiple_of": "must be a whole number",
    "string_type": "must be text, in quotes if it looks like a number",
    "string_unicode": "must be valid Unicode text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "model_type": "must be an object with named fields",
    "model_attributes_type": "must be an object with named fields",
    "union_tag_invalid": f"must be {_KINDS}",
    "invalid_key": "must be a field name in text",
}


def read_structure(model: type[M], data: Any) -> tuple[M | None, list[Issue]]:
    """Return data as an instance of the model, or None and everything that is not well-formed."""
    if not isinstance(data, dict):
        return None, [Issue((), "an instance must be an object with named fields", shown(data))]
    schema = data.get("schema")
    if isinstance(schema, str) and schema != SCHEMA:
        # Another version has other rules: what they make of the rest would only mislead.
        what = "this is a result, not an instance" if "/result/" in schema else "unknown schema"
        return None, [Issue(("schema",), f"{what}; known: {SCHEMA!r}", shown(schema))]
    try:
        with collection_paused():
            return model.model_validate(data), []
    except ValidationError as error:
        issues = [_issue(item, model) for item in error.errors(include_url=False)]
    unique = {(issue.location, issue.message): issue for issue in issues if issue is not None}
    return None, list(unique.values())


def without(value: Any, locations: list[Location]) -> Any:
    """Return data without the values at the given locations (list entries become None)."""
    tree: dict[Any, Any] = {}
    for location in locations:
        node = tree
        for part in location:
            node = node.setdefault(part, {})
    return _prune(value, tree)


def _prune(value: Any, tree: dict[Any, Any]) -> Any:
    if isinstance(value, dict):
        return {
            key: _prune(item, tree[key]) if key in tree else item
            for key, item in value.items()
            if key not in tree or tree[key]
        }
    if isinstance(value, (list, tuple)):
        return [
            (_prune(item, tree[i]) if tree[i] else None) if i in tree else item
            for i, item in enumerate(value)
        ]
    return value


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection: millions of new objects and no garbage take it seconds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _issue(error: Any, model: type[BaseModel]) -> Issue | None:
    """Put one error of pydantic into the words of the format (None: it only follows others)."""
    location: Location = error["loc"]
    shape: type[BaseModel] | None = None
    if location[:1] == ("reward",) and len(location) > 2:  # (reward, part, kind, field)
        shape = SHAPES.get(str(location[2]))
        location = (*location[:2], *location[3:])
    if location[:1] == ("tasks",) and location[2:3] == ("floor",):
        value = error["input"]
        advice = number_hint(value) if isinstance(value, str) else ""
        text = f"must be a number of at least 0, or 'standalone'{advice}"
        return Issue(location[:3], text, shown(value))
    if shape is None and error["type"] == "extra_forbidden":
        record = tuple(part for part in location[:-1] if isinstance(part, str))
        shape = _RECORDS[record] if record else model
    return field_issue(error, location, shape)


def field_issue(error: Any, location: Location, record: type[BaseModel] | None) -> Issue | None:
    """Put an error of pydantic about one field into plain words.

    Args:
        error: one entry of ``ValidationError.errors()``.
        location: of the field.
        record: the model that the field would belong to, where that is known.

    Returns:
        The issue, or None where it only follows from others.
    """
    kind: str = error["type"]
    value = error["input"]
    if kind == "missing":
        return Issue(location, _MESSAGES[kind])
    if kind == "too_short":
        # Where there are entries, every one is wrong, and each is reported.
        return None if value else Issue(location, _MESSAGES[kind])
    if kind == "union_tag_not_found":
        return Issue((*location, "kind"), f"is required: {_KINDS}")
    if kind == "union_tag_invalid":
        return Issue((*location, "kind"), _MESSAGES["union_tag_invalid"], shown(value["kind"]))
    if kind == "extra_forbidden":
        known = {} if record is None else record.model_fields
        fields = [field.alias or key for key, field in known.items()]
        return Issue(
            location, f"unknown field{hint(str(location[-1]), fields, few=99)}", shown(value)
        )
    if kind == "literal_error":
        return Issue(location, f"must be {error['ctx']['expected']}", shown(value))
    if kind == "float_type" and isinstance(value, int) and not isinstance(value, bool):
        kind = "finite_number"  # an integer beyond the range of a float
    message = _MESSAGES.get(kind)
    text = message.format(**error.get("ctx", {})) if message else str(error["msg"])
    if kind in ("float_type", "int_type") and isinstance(value, str):
        text += number_hint(value)
    return Issue(location, text, shown(value))
