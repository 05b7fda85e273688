"""The command ``generate``: seeded random instances."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from code_opt.cli.exits import ExitStatus
from code_opt.cli.options import MAX_SEED
from code_opt.cli.text import count, plain, si
from code_opt.errors import InputError


class Family(StrEnum):
    """Kinds of edges."""

    HUB_AND_SPOKE = "hub-and-spoke"
    METRO_RING = "metro-ring"
    HIERARCHY = "hierarchy"
    PLAIN = "plain"


class Images(StrEnum):
    """Sizes of what the networks see."""

    LARGE = "224"
    SMALL = "32"
    MIXED = "mixed"


def generate(
    services: Annotated[int, typer.Option(min=1, help="Number of services.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="NAME.json (written task by task), NAME.yaml, or a CSV folder."
        ),
    ],
    family: Annotated[Family, typer.Option(help="Kind of edge.")] = Family.HUB_AND_SPOKE,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of all random choices.")] = 0,
    blocks: Annotated[
        str, typer.Option(metavar="N|MIN:MAX", help="Blocks per DNN: a number or a range.")
    ] = "5",
    hosts: Annotated[
        int, typer.Option(min=0, help="Other services whose trunks a task may use.")
    ] = 2,
    images: Annotated[
        Images | None, typer.Option(help="Pixels a side of the images.", show_default="224")
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(help="All demands over what servers are sized for.", show_default="3.0"),
    ] = None,
    zipf: Annotated[
        float | None,
        typer.Option(help="Exponent of the services' popularity.", show_default="1.0"),
    ] = None,
    saturated: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Share of tasks without a demand.", show_default="0, plain: 0.5"
        ),
    ] = None,
    links: Annotated[bool, typer.Option("--links", help="Limit bandwidths, add delays.")] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Limit the latency of half of the tasks.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Limit the memory for adapters.")
    ] = False,
    measured: Annotated[int, typer.Option(min=0, help="Measured paths per task, at most.")] = 0,
    groups: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Share of tasks that share an input.", show_default="0.0"
        ),
    ] = None,
    in_seconds: Annotated[
        bool,
        typer.Option("--seconds", help="Give the times of all work, and servers no FLOP/s."),
    ] = False,
    alternatives: Annotated[
        int | None,
        typer.Option(
            min=0, help="Networks that may answer a task alone, at most.", show_default="0"
        ),
    ] = None,
) -> ExitStatus:
    """Make a random instance that resembles a real edge; the same options, the same file.

    Exit status: 0 written, 2 bad input.
    """
    asked: dict[str, Any] = {
        "services": services,
        "hosts": hosts,
        "seed": seed,
        "links": links,
        "latency": latency,
        "memory": memory,
        "measured": measured,
    }
    of_edges = {
        "images": None if images is None else images.value,
        "load": load,
        "zipf": zipf,
        "saturated": saturated,
        "groups": groups,
        "seconds": in_seconds or None,
        "alternatives": alternatives,
    }
    given = {name: value for name, value in of_edges.items() if value is not None}
    if family is Family.PLAIN:
        _write_plain(out, asked, blocks, given)
    else:
        _write_edge(out, asked | given, blocks, family)
    size = sum(f.stat().st_size for f in (out.glob("*.csv") if out.is_dir() else [out]))
    what = f"{count(services)} service{'s' * (services != 1)} ({family.value}, seed {seed})"
    print(f"{plain(out)}: {what}, {si(size)}B")
    return ExitStatus.DONE


def _write_plain(out: Path, asked: dict[str, Any], blocks: str, given: dict[str, Any]) -> None:
    """Write an instance of the plain family, which has few of the options given."""
    from code_opt.generate import generate as generate_plain
    from code_opt.instance import save_instance

    least, most = _range(blocks)
    unknown = [f"--{name}" for name in given if name != "saturated"]
    if unknown:
        raise InputError(f"--family plain has no {', '.join(unknown)}")
    if least != most:
        raise InputError(f"--blocks: {blocks!r}: --family plain takes one number")
    limited = 1.0 - given["saturated"] if "saturated" in given else 0.5
    try:
        instance = generate_plain(**asked, blocks=least, limited_demand=limited)
    except ValueError as error:
        raise InputError(f"generate: {error}") from None
    save_instance(instance, out)


def _write_edge(out: Path, asked: dict[str, Any], blocks: str, family: Family) -> None:
    """Write an instance of an edge; to a JSON file piece by piece, however large it is."""
    from code_opt.generate import Edge, EdgeOptions, generate_edge, write_edge
    from code_opt.instance import save_instance

    options = EdgeOptions(**asked, family=family.value, blocks=_range(blocks))
    if out.suffix.lower() == ".json" and not out.is_dir():
        write_edge(Edge(options), out)
    else:
        save_instance(generate_edge(options), out)


def _range(text: str) -> tuple[int, int]:
    """Return the least and the greatest number of blocks."""
    low, _, high = text.partition(":")
    try:
        least = int(low)
        return least, int(high) if ":" in text else least
    except ValueError:
        raise InputError(f"--blocks: {text!r}: expected a number, or a range such as 3:6") from None
