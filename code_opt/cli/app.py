"""The command line's table of contents: one module of this folder for each command.

Results go to stdout, progress and logs to stderr. Exit statuses are those of
:class:`code_opt.cli.exits.ExitStatus`. Solver, Pyomo and pandas load only when a
command needs them, so that ``--help`` and usage errors answer at once.
"""

from __future__ import annotations

import functools
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.help_examples import epilog_of
from code_opt.cli.terminal import PROGRAM, guarded, leave, prepared_shell, wants_no_style
from code_opt.errors import InputError
from code_opt.stopping import sigterm_raises

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = (
    "solve",
    "validate",
    "check",
    "profile",
    "time",
    "evaluate",
    "deploy",
    "report",
    "export",
    "import-solution",
    "import-measurements",
    "generate",
    "template",
    "plan",
    "rerate",
    "diff",
    "schedule",
    "observe",
)
"""In the order of the help; each is a module of this folder, and a function in it."""


def application(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """Return the program with some of its commands, whose modules are loaded.

    Args:
        names: of :data:`COMMANDS`.
    """
    app = typer.Typer(
        name=PROGRAM,
        help="Provably best inference paths for coordinated deep neural networks at the edge.",
        epilog=epilog_of("solve"),
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_program)
    for name in names:
        attribute = name.replace("-", "_")
        function = getattr(import_module(f"code_opt.cli.{attribute}"), attribute)
        app.command(name, epilog=epilog_of(name))(_command(function))
    return app


def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"{PROGRAM} {code_opt.__version__}")
        raise typer.Exit(ExitStatus.DONE)
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(ExitStatus.DONE)


def _command(function: Callable[..., ExitStatus]) -> Callable[..., None]:
    """Turn a function that returns an exit status, or raises, into a command."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(guarded(lambda: function(*args, **kwargs)))

    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on ``arguments`` (default: the process's own) and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    with prepared_shell(), sigterm_raises():
        return guarded(lambda: _run(given))


def _run(arguments: list[str]) -> int:
    """Run one command.

    Raises:
        InputError: the arguments are wrong.
    """
    if wants_no_style():
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None  # what help and usage errors are printed with
    for place, argument in enumerate(arguments, start=1):
        # A path that is empty would be the current folder, an option's value its default.
        if re.fullmatch(r"(--[a-z-]+=)?\s*", argument):
            what = "" if not argument.strip() else f" ({argument.strip()})"
            raise InputError(f"argument {place} is empty{what}: is a variable of the shell unset?")
    # The one command that is asked for is all that has to load; other words need all, to be told.
    is_command = bool(arguments) and arguments[0] in COMMANDS
    app = application(arguments[:1] if is_command else COMMANDS)
    try:
        status = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:  # usage errors, found before a command runs
        # Choices are checked by pydantic, which names its own kind of error first.
        message = error.format_message().replace(": Value error, ", ": ", 1)
        raise InputError(message) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as end:
        if end.code:  # how typer ends when the reader of a pipe leaves
            raise BrokenPipeError from None
        status = ExitStatus.DONE  # and how it ends when it has completed a word for the shell
    return status or ExitStatus.DONE


def run() -> NoReturn:
    """Run the program and leave with its exit status (the installed command)."""
    leave(main())
