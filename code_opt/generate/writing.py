"""Writing a generated instance task by task, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from code_opt.files import atomic_writer
from code_opt.generate.edge import Edge


def write_edge(edge: Edge, path: Path) -> None:
    """Write an instance as JSON; only one record at a time is in memory.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    with atomic_writer(path) as stream:
        for text in json_lines(edge):
            stream.write(text.encode("ascii"))


def json_lines(edge: Edge) -> Iterator[str]:
    """Yield the file's text in pieces: one line per server, link, block or connection."""
    yield "{\n"
    for key, value in edge.head().items():
        yield f'  "{key}": {json.dumps(value)},\n'
    yield from _list("servers", map(json.dumps, edge.servers()))
    yield from _list("links", map(json.dumps, edge.links()))
    yield from _list("dnns", map(_nested, edge.dnns()))
    yield from _list("tasks", map(_nested, edge.tasks()))
    tail = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in edge.tail().items())
    yield f"{tail}\n}}\n"


def _list(key: str, texts: Iterable[str]) -> Iterator[str]:
    opening = f'  "{key}": ['
    for text in texts:
        yield f"{opening}\n    {text}"
        opening = ","
    yield f"{opening}],\n" if opening != "," else "\n  ],\n"


def _nested(record: dict[str, Any]) -> str:
    """Return a record with the records in its lists on lines of their own."""
    parts = []
    for key, value in record.items():
        if isinstance(value, list) and value:
            items = ",\n      ".join(map(json.dumps, value))
            parts.append(f'"{key}": [\n      {items}\n    ]')
        else:
            parts.append(f'"{key}": {json.dumps(value)}')
    return "{" + ", ".join(parts) + "}"
