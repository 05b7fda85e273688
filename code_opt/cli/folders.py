"""Folders and names of output files."""

from __future__ import annotations

import re
from pathlib import Path

from code_opt.errors import InputError


def file_stem(name: str) -> str:
    """Return a harmless file name from a name in a file: no folders, no hidden files, short."""
    stem = re.sub(r"[^\w.-]+|\.{2,}", "-", name).strip(".-")
    return stem.encode()[:120].decode(errors="ignore") or "instance"


def make_folder(folder: Path) -> None:
    """Make a folder for output, or say why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"--out: {folder}: is a file, expected a folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--out: {folder}: cannot be made: {reason}") from None
