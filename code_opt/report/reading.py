"""Reading JSON and CSV files that strangers wrote."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.files import MAX_BYTES, read_text
from code_opt.instance.cells import CellsError, read_cells


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
        cells = read_cells(read_text(path, newline=""), MAX_BYTES)
    except CellsError as error:
        raise InputError(f"{path}:{error.line}: {error.message}") from None
    header = cells.columns if cells.rows else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}")
    for line, row in cells.rows[1:]:
        wrong = cells.width_problem(row, len(header))
        if wrong is not None:
            raise InputError(f"{path}:{line}: {wrong}")
    return [dict(zip(header, row, strict=False)) for _, row in cells.rows[1:]]
