"""Make the drops that stand for unknown ones: ``python data/make_typical_drops.py [--check]``.

``code_opt/desk/typical_drops.json`` holds, for each sort of connection and depth, the quartiles
of what has been measured: of the profiled data sets (``code_opt/generate/catalogue.json``) and of
the published stitched networks (``data/published``), in which one pair of networks counts once.

A way through another network takes one connection into it and one out of it, and only their sum
is an accuracy; the drops of a pair are shifted between both, so that the median of those out of
it is 0. Drops below 0 count as 0: a gain is not to be promised. ``--check`` writes nothing and
exits with 1 if the file differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from code_opt.files import write_atomically

HERE = Path(__file__).resolve().parent
CATALOGUE = HERE.parent / "code_opt" / "generate" / "catalogue.json"
TABLE = HERE.parent / "code_opt" / "desk" / "typical_drops.json"
PUBLISHED = ("sn-net", "sn-netv2")
DEPTHS = (0.375, 0.625, 1.0)
"""Ends of the three parts of a network that are told apart."""

Samples = dict[tuple[str, float], list[float]]
"""Drops by sort of connection and part of the network."""


def part(depth: float) -> float:
    """Return the end of the part that a depth lies in."""
    return next(end for end in DEPTHS if depth <= end + 1e-9)


def profiled(samples: Samples) -> None:
    """Add the drops of the profiled data sets."""
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    for service in catalogue["own"]:
        for depth, drop in service["exit"]:
            samples["exit", part(depth)].append(drop)
        for start, _, drop in service["skip"]:
            samples["skip", part(start)].append(drop)
    for pair in catalogue["pairs"]:
        out_of_it = [drop for _, drop in (*pair["back"], *pair["exit"])]
        shift = statistics.median(out_of_it)
        samples["entry", part(0.0)].append(pair["entry"] + shift)
        for depth, drop in pair["out"]:
            samples["cross", part(depth)].append(drop + shift)
        for sort, points in (("return", pair["back"]), ("foreign exit", pair["exit"])):
            for depth, drop in points:
                samples[sort, part(depth)].append(drop - shift)


def published(samples: Samples) -> None:
    """Add the stitches of published networks; their exits cost nothing."""
    for name in PUBLISHED:
        instance = json.loads((HERE / "published" / name / "instance.json").read_text("utf-8"))
        blocks = {dnn["id"]: [b["id"] for b in dnn["blocks"]] for dnn in instance["dnns"]}
        home = {block: dnn for dnn, ids in blocks.items() for block in ids}
        drops: dict[tuple[str, str, float], list[float]] = defaultdict(list)
        for task in instance["tasks"]:
            for connection in task["connections"]:
                source, target = connection["source"], connection["target"]
                if source not in home or target not in home or home[source] == home[target]:
                    continue
                ids = blocks[home[source]]
                depth = (ids.index(source) + 1) / len(ids)
                drops[home[source], home[target], part(depth)].append(connection["drop"])
        for (_, _, end), found in drops.items():
            samples["cross", end].append(statistics.median(found))


def table() -> list[dict[str, Any]]:
    """Return the rows of the table."""
    samples: Samples = defaultdict(list)
    profiled(samples)
    published(samples)
    rows = []
    for (sort, end), drops in sorted(samples.items()):
        low, middle, high = statistics.quantiles(drops, n=4, method="inclusive")
        shown = (round(max(value, 0.0), 4) for value in (low, middle, high))
        keys = ("drop_low", "drop", "drop_high")
        row = {"sort": sort, "depth": end, **dict(zip(keys, shown, strict=True))}
        rows.append(row | {"samples": len(drops)})
    return rows


def main() -> int:
    """Write the table, or compare it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    text = "[\n" + ",\n".join(json.dumps(row) for row in table()) + "\n]\n"
    if arguments.parse_args().check:
        return int(TABLE.read_text(encoding="utf-8") != text)
    write_atomically(TABLE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
