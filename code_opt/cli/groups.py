"""Options of a command as the fields of dataclasses."""

from __future__ import annotations

import functools
import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def with_groups(function: Callable[..., T]) -> Callable[..., T]:
    """Return a command with the options of all dataclasses that a function takes.

    A parameter whose type is a dataclass becomes one option per field, in their order: Typer
    reads the options from the signature of what is returned. The function gets the dataclasses.
    """
    hints = get_type_hints(function, include_extras=True)
    plain: list[inspect.Parameter] = []
    options: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            options += _options(hints[name])
        else:
            plain.append(parameter.replace(kind=_KEYWORD, annotation=hints[name]))

    @functools.wraps(function)
    def command(**given: Any) -> T:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return function(**given, **made)

    command.__signature__ = inspect.Signature([*plain, *options])  # type: ignore[attr-defined]
    return command


def _options(group: Any) -> list[inspect.Parameter]:
    """Return one parameter per field of a dataclass, with its type and its default."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, _KEYWORD, default=_default(f), annotation=hints[f.name])
        for f in fields(group)
    ]


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default
