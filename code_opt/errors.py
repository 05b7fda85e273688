"""Errors that a user can act on; the command line turns them into exit statuses."""

from __future__ import annotations

__all__ = [
    "CodeOptError",
    "InputError",
    "NotTextError",
    "SolverError",
]


class CodeOptError(Exception):
    """Base of all errors of this package."""


class InputError(CodeOptError):
    """Bad input or arguments: a file, an option, a combination of both (exit status 2)."""


class NotTextError(InputError):
    """A file that is not UTF-8 text."""


class SolverError(CodeOptError):
    """A solver failed: neither a solution, nor a proof, nor a limit."""
