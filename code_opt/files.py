"""Reading and writing files safely: bounded reads, clear errors, whole files or none."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from code_opt.errors import InputError, NotTextError

MAX_BYTES = 2**30
"""Largest file that is read; larger ones are refused before any byte is loaded."""


def read_text(path: str | Path, newline: str | None = None) -> str:
    """Return a UTF-8 file's text.

    Args:
        path: the file; a byte order mark at its beginning is skipped.
        newline: as in :func:`open`; ``""`` keeps the ends of lines as they are.

    Raises:
        InputError: the file is missing, a directory, unreadable or too large.
        NotTextError: it is not UTF-8 text.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a directory, expected a file")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes, more than the {MAX_BYTES} that are read")
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            return stream.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise NotTextError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from None


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then rename.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    with atomic_writer(path) as stream:
        stream.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece; it appears whole at the end, or not at all.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as stream:  # a pipe or a device: written, never replaced
                yield stream
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: cannot be written: this machine's encoding of file names, {error.encoding}, "
            "has not all its letters; use a locale of UTF-8, such as C.UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def file_stem(name: str) -> str:
    """Return a harmless file name from a name in a file: no folders, no hidden files, short."""
    stem = re.sub(r"[^\w.-]+|\.{2,}", "-", name).strip(".-")
    try:
        os.fsencode(stem)
    except UnicodeEncodeError:  # the machine's encoding for names has not all letters
        return file_stem(stem.encode("ascii", "replace").decode())
    return stem.encode()[:120].decode(errors="ignore") or "instance"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
