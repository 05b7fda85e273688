"""Reading JSON and CSV files that strangers wrote."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.files import read_text


def read_json(path: Path) -> Any:
    """Return a JSON file's data.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON (line {error.lineno}: {error.msg})") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{path}: not JSON that can be read (nested or numbers too long)"
        ) from None


def read_csv(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """Return a CSV file's rows by column.

    Raises:
        InputError: it cannot be read, lacks one of ``columns``, or a row has another length.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, newline="")), strict=True)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{path}: no column {', '.join(missing)}")
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: not CSV: {error}") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{path}:{number}: not as many cells as columns")
    return rows
