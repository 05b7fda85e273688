"""Options of a command as the fields of dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from code_opt.cli.groups import with_groups


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1)]
    height: Annotated[int, typer.Option("--high")] = 2


@dataclass(frozen=True)
class Look:
    look: Annotated[str, typer.Option()] = "plain"


def run(*arguments: str) -> tuple[str, Size, Look]:
    app = typer.Typer()
    found: list[tuple[str, Size, Look]] = []

    @app.command()
    @with_groups
    def draw(name: Annotated[str, typer.Argument()], size: Size, look: Look) -> None:
        found.append((name, size, look))

    app(args=list(arguments), standalone_mode=False)
    (only,) = found
    return only


def test_the_function_gets_its_options_as_dataclasses() -> None:
    asked = run("a", "--width", "3", "--high", "4", "--look", "bold")
    assert asked == ("a", Size(3, 4), Look("bold"))


def test_defaults_are_those_of_the_fields() -> None:
    assert run("a", "--width", "3") == ("a", Size(3, 2), Look("plain"))
