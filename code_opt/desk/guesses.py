"""Typical drops, by sort of connection and depth, for connections that nobody measured.

``typical_drops.json`` is made by ``data/make_typical_drops.py`` from the profiled and the published
data; a row holds the quartiles of what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from code_opt.files import read_text
from code_opt.instance.records import INPUT, OUTPUT

_FILE = Path(__file__).with_name("typical_drops.json")


def guessed_drop(
    own: str,
    source: str,
    target: str,
    blocks: Mapping[str, Sequence[str]],
    home: Mapping[str, str],
) -> dict[str, float]:
    """Return the fields ``drop``, ``drop_low`` and ``drop_high`` of a connection.

    Args:
        own: the network of the service.
        source: a block, or ``input``.
        target: a block, or ``output``.
        blocks: blocks of each network, in order.
        home: network of each block.
    """

    def depth_behind(block: str) -> float:
        ids = blocks[home[block]]
        return (ids.index(block) + 1) / len(ids)

    def depth_ahead(block: str) -> float:
        ids = blocks[home[block]]
        return ids.index(block) / len(ids)

    tail, head = home.get(source), home.get(target)
    if source == INPUT:
        sort, depth = ("skip", 0.0) if head == own else ("entry", depth_ahead(target))
    elif target == OUTPUT:
        sort, depth = "exit" if tail == own else "foreign exit", depth_behind(source)
    elif tail == head:
        sort, depth = "skip", depth_behind(source)
    elif head == own:
        sort, depth = "return", depth_ahead(target)
    else:
        sort, depth = "cross", depth_behind(source)
    rows = [row for row in _table() if row["sort"] == sort]
    row = next((row for row in rows if depth <= row["depth"] + 1e-9), rows[-1])
    return {key: row[key] for key in ("drop", "drop_low", "drop_high")}


@cache
def _table() -> list[dict[str, Any]]:
    """Return the rows of the table, of each sort by depth."""
    found: list[dict[str, Any]] = json.loads(read_text(_FILE))
    return found
