"""The command line as tables, written from its own `--help` into docs/command-line.md.

``python -m tests.cli.reference`` puts the page in step with the code.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import typer

from code_opt.cli.app import application
from code_opt.cli.help_examples import EXAMPLES
from code_opt.cli.terminal import PROGRAM
from code_opt.files import write_atomically

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"
BEGIN = "<!-- from --help: python -m tests.cli.reference -->\n"
END = "<!-- end -->\n"


@cache
def commands() -> dict[str, Any]:
    """Return the commands of the command line by name, in the order of its help."""
    found: dict[str, Any] = typer.main.get_command(application()).commands
    return found


@cache
def program_options() -> set[str]:
    """Return the options that the program takes without a command."""
    program: Any = typer.main.get_command(application())
    return {option for parameter in program.params for option in parameter.opts}


def names(command: Any) -> list[str]:
    """Return the arguments (as on the usage line) and options of a command."""
    return [
        f"`{p.metavar}`"
        if p.param_type_name == "argument"
        else ", ".join(f"`{name}`" for name in [*p.opts, *p.secondary_opts])
        for p in command.params
    ]


def tables() -> str:
    """Return one table of all commands, then one table of its options for each."""
    lines = ["| command | what it does |", "|---|---|"]
    lines += [
        f"| [`{name}`](#{name}) | {_cell(command.help.split(chr(10) * 2)[0])} |"
        for name, command in commands().items()
    ]
    for name, command in commands().items():
        usage = [p.metavar for p in command.params if p.param_type_name == "argument"]
        details = command.help.split("\n\n")[1:]
        examples = EXAMPLES.get(name, ())
        lines += ["", f"## {name}", "", f"    {' '.join([PROGRAM, name, *usage])} [options]", ""]
        lines += [line for text in details for line in (" ".join(text.split()), "")]
        lines += [*(["Examples:", ""] if examples else []), *(f"    {e}" for e in examples), ""]
        lines += ["| argument or option | value | default | what it does |", "|---|---|---|---|"]
        context = typer.Context(command)
        for shown, parameter in zip(names(command), command.params, strict=True):
            cells = (shown, _value(parameter, context), _default(parameter), _cell(parameter.help))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _value(parameter: Any, context: typer.Context) -> str:
    """Return what an option takes: its own name for it, its choices, or a kind of number."""
    if parameter.param_type_name == "argument" or parameter.is_flag:
        return ""
    if parameter.metavar:
        return f"`{_cell(parameter.metavar)}`"
    kind = parameter.display_type(context).strip("<>").removeprefix("list[").rstrip("]")
    if "|" in kind:
        return ", ".join(f"`{choice}`" for choice in kind.split("|"))
    name, _, is_range = kind.partition(" ")
    word = {"int": "whole number", "float": "number", "path": "file", "str": "text"}[name]
    low, high = (parameter.min, parameter.max) if is_range else (None, None)
    if low is not None and high is not None:
        return f"{word} in [{low:,.10g}, {high:,.10g}]"
    if low is not None:
        return f"{word} ≥ {low:,.10g}"
    return word if high is None else f"{word} ≤ {high:,.10g}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return f"`{parameter.show_default}`"
    if parameter.default is None or isinstance(parameter.default, (bool, list, tuple)):
        return ""
    return f"`{_cell(str(parameter.default))}`"


def _cell(text: str) -> str:
    # Rich reads [...] as markup unless a backslash stands before it.
    return " ".join(text.split()).replace(r"\[", "[").replace("|", r"\|")


def in_step(page: str) -> str:
    """Return a page with its tables as the code has them now."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    new, count = re.subn(pattern, lambda _: f"{BEGIN}\n{tables()}\n{END}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE} has {count} places for the tables, not 1")
    return new


if __name__ == "__main__":
    write_atomically(PAGE, in_step(PAGE.read_text(encoding="utf-8")))
