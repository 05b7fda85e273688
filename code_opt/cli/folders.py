"""Folders of output files."""

from __future__ import annotations

from pathlib import Path

from code_opt.errors import InputError


def make_folder(folder: Path, option: str = "--out") -> None:
    """Make a folder for the output that an option asks for, or say why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{option}: {folder}: is a file, expected a folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{option}: {folder}: cannot be made: {reason}") from None
