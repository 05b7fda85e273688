"""Names of methods on the command line, as the registry has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from code_opt import registry
from code_opt.errors import InputError

ALL = "all"
"""Stands for every method after ``--method``."""
OWN = ", ".join(method.name for method in registry.BUILT_IN)
"""The package's own methods, for help texts."""


def known_methods(*others: str) -> Callable[[list[str] | None], list[str] | None]:
    """Return a callback that refuses names that are neither methods nor among the others."""

    def check(asked: list[str] | None) -> list[str] | None:
        for name in asked or []:
            if name in others or registry.known_method(name) is not None:
                continue  # the common case looks at nothing that is installed
            try:
                names = (*registry.method_names(), *others)
            except InputError as error:
                raise typer.BadParameter(str(error)) from None
            if name not in names:
                raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, names))}.")
        return asked

    return check


def methods_that_begin(incomplete: str) -> list[str]:
    """Return the package's own methods that begin like this, for the shell."""
    names = (*(method.name for method in registry.BUILT_IN), ALL)
    return [name for name in names if name.startswith(incomplete)]


def methods_to_run(asked: Sequence[str]) -> list[str]:
    """Return the methods to run, each once, in the order of the table, all of them loaded.

    Raises:
        InputError: an installed method cannot be loaded.
    """
    if asked and all(registry.known_method(name) for name in asked):
        return sorted(set(asked), key=registry.place_of)
    is_every = not asked or ALL in asked
    names = [name for name in registry.method_names() if is_every or name in asked]
    return [registry.get_method(name).name for name in names]
