"""What is wrong with an instance: where, with which value, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from code_opt.errors import InputError

LISTED = 50
"""Problems that a message lists; the rest is counted."""
LONGEST = 60
"""Characters of a value or a field name that a message shows."""
CANDIDATES = 5000
"""Names that are compared for a suggestion, so that it takes no more than milliseconds."""

Location = tuple[str | int, ...]
"""Field names and list indices, from the whole instance down to the value."""
Locate = Callable[[Location], str]
"""How a location is called in the source: a JSON path, or a file, line and column."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in an instance."""

    place: str
    """``tasks[0].connections[3].target``; in tables file, line and column."""
    message: str
    """What is wrong and what would be right."""
    value: str | None = None
    """The value, shortened, in quotes if it is text; None where there is none to show."""

    def __str__(self) -> str:
        head = self.place if self.value is None else f"{self.place} = {self.value}"
        return f"{head}: {self.message}"


class InstanceError(InputError):
    """An instance that cannot be used; the message names every problem that was found.

    Args:
        source: the file or folder, or what else the instance came from.
        problems: what is wrong with it, at least one.
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__(source, tuple(problems))
        self.source = source
        self.problems: tuple[Problem, ...] = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}"
        lines = [f"{self.source}: {len(self.problems)} problems"]
        lines += [f"  {problem}" for problem in self.problems[:LISTED]]
        if len(self.problems) > LISTED:
            lines.append(f"  ... and {len(self.problems) - LISTED} more")
        return "\n".join(lines)


class YamlError(Exception):
    """Text that is no YAML of the kind that is read; ``problem`` says where and why."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(place, message)
        self.problem = Problem(place, message)


class Issue(NamedTuple):
    """A problem at a location that has not been given its name in the source yet."""

    location: Location
    message: str
    value: str | None = None


def place_of(location: Location) -> str:
    """Return the name of a location in JSON and YAML files."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and len(part) <= LONGEST:
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text or "file"


def shown(value: Any) -> str:
    """Return a short and printable form of any value, however large or deep."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if len(value) <= LONGEST:
            return repr(value)
        return f"{value[:LONGEST]!r}... ({len(value)} characters)"
    if isinstance(value, int):
        return str(int(value)) if value.bit_length() <= 200 else "a huge integer"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    return f"a Python {type(value).__name__}"


def hint(word: str, known: Collection[str], few: int = 8) -> str:
    """Return ``; did you mean 'x'?`` for a near miss, else the known names if they are few."""
    near: list[str] = []
    if len(word) <= 200:
        same = word.strip().casefold()
        near = [name for name in islice(known, CANDIDATES) if name.casefold() == same]
    if len(word) <= 200 and not near:
        alike = (name for name in known if abs(len(name) - len(word)) <= 3)
        near = difflib.get_close_matches(word, islice(alike, CANDIDATES), n=1, cutoff=0.6)
    if near:
        return f"; did you mean {shown(near[0])}?"
    names = list(islice(known, few + 1))
    if 0 < len(names) <= few:
        return f"; known: {', '.join(map(shown, names))}"
    return ""
