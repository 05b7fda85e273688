"""What is finished so far: kept at once, found again after a kill.

One line of JSON per finished piece of work, appended and flushed to disk before the next
one begins. A line that a kill cut short is dropped when the file is read; nothing before it can be
lost. Weights lie beside it and are written before the line that names them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.files import write_atomically


class Store:
    """Records by key, in a folder."""

    def __init__(self, folder: Path, name: str = "measurements.jsonl") -> None:
        self.folder = folder
        self.path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror or error}") from None
        self.records: dict[str, dict[str, Any]] = {}
        self._read()

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            text = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                record = json.loads(line)
                self.records[record["key"]] = record
            except (ValueError, KeyError, TypeError):
                continue  # damaged: that work will be done again
        if len(whole) < len(text):
            write_atomically(self.path, whole)

    def __contains__(self, key: str) -> bool:
        return key in self.records

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a record, or None."""
        return self.records.get(key)

    def add(self, key: str, record: dict[str, Any]) -> dict[str, Any]:
        """Keep a record; it is on disk when this returns.

        Raises:
            InputError: it cannot be written.
        """
        full = {"key": key, **record}
        try:
            with self.path.open("ab") as stream:
                stream.write(json.dumps(full, allow_nan=False).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        self.records[key] = full
        return full


def key_of(*parts: Any) -> str:
    """Return a short hash of plain data: the same data, the same key."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
