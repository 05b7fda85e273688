"""Folders of output files."""

from __future__ import annotations

from pathlib import Path

from code_opt.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder for output, or say why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"--out: {folder}: is a file, expected a folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--out: {folder}: cannot be made: {reason}") from None
