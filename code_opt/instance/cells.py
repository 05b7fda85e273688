"""Cells of CSV files as spreadsheets write them: separators, decimal commas, what is refused.

A file is read in one of the ways in which spreadsheets write it, and never guessed at: a cell
that can be two numbers is refused, and the message says how to write either.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from code_opt.errors import InputError, NotTextError
from code_opt.files import MAX_BYTES, read_text

SEPARATORS = ",;\t"
"""What may stand between cells; the first row decides."""

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_COMMA = re.compile(r"[-+]?(?:[0-9]+,[0-9]*|,[0-9]+)(?:[eE][-+]?[0-9]+)?")
_EITHER = re.compile(r"[-+]?[1-9][0-9]{0,2}[.,][0-9]{3}")
"""A number with one separator that can part thousands or decimals."""
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:([,.'’\s])[0-9]{3})(?:\1[0-9]{3})*(?:[.,][0-9]+)?")
_DECORATED = re.compile(r"[^0-9]*?([-+]?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?)[^0-9]*")
_LONGEST = 60
"""Characters of a cell that can be a number that somebody wrote."""
_LISTED = 20
"""Problems of a table that a message lists; the rest is counted."""
_NOTHING = frozenset({"-", "–", "—", "n/a", "na", "none", "null", "nan", "?"})


class Cells(NamedTuple):
    """A CSV text taken apart."""

    rows: list[tuple[int, list[str]]]
    """Rows that are not empty, each with the line on which it begins, from 1."""
    separator: str
    """One of :data:`SEPARATORS`."""

    @property
    def columns(self) -> list[str]:
        """Names in the first row; spreadsheets export empty ones at its end, which do not count."""
        names = list(self.rows[0][1])
        while names and not names[-1]:
            names.pop()
        return names

    def without_blanks(self) -> Cells:
        """Return the same without blanks around cells, and without rows of nothing else."""
        rows = [(line, [cell.strip() for cell in row]) for line, row in self.rows]
        return Cells([row for row in rows if any(row[1])], self.separator)

    def width_problem(self, row: list[str], columns: int) -> str | None:
        """Return what is wrong with the number of a row's cells, None if nothing is.

        A row has a cell for each named column. Below the empty end of the first row its cells
        are empty, and beyond that it has none: a decimal comma in a file of commas makes a row
        longer and shifts its cells, whatever the surplus ones hold.
        """
        if columns <= len(row) <= len(self.rows[0][1]) and not any(row[columns:]):
            return None
        return f"{len(row)} cells, but there are {columns} columns"


class CellsError(ValueError):
    """Text that is no CSV.

    Args:
        line: where, from 1.
        message: what is wrong.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(line, message)
        self.line = line
        self.message = message


def read_cells(text: str, longest: int) -> Cells:
    """Take a CSV text apart, whatever of :data:`SEPARATORS` stands between its cells.

    A first line ``sep=;`` (as spreadsheets write it) names the separator; otherwise it is the
    one that the first row has most of.

    Args:
        text: the whole file.
        longest: most characters of a cell.

    Raises:
        CellsError: quotes that do not match, or a cell that is too long.
    """
    start, line = 0, 1
    declared = re.match(r"sep=([,;\t])\r?\n", text)
    if declared:
        separator, start, line = declared[1], declared.end(), 2
    else:
        first = re.search(r"^.*[^\s,;].*$", text, re.MULTILINE)
        bare = re.sub(r'"[^"]*"', "", first[0]) if first else ""
        separator = max(SEPARATORS, key=bare.count)
    body = io.StringIO(text[start:], newline="")
    reader = csv.reader(body, delimiter=separator, strict=True)
    limit = csv.field_size_limit(longest)  # its default would refuse long descriptions
    rows = []
    before = line - 1
    try:
        for cells in reader:
            if any(cells):
                rows.append((line, cells))
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise CellsError(line, f"not CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return Cells(rows, separator)


def decimal_mark(cells: Iterable[str]) -> str | None:
    """Return what parts decimals in a column: ``,`` or ``.``, None where its cells do not tell.

    A cell tells where it can be one number alone, such as ``2,5``, ``1234,567`` or ``1.234,5``.
    Cells that contradict each other tell nothing.
    """
    found = set()
    for cell in cells:
        text = cell.strip()
        if len(text) > _LONGEST or _EITHER.fullmatch(text):
            continue
        grouped = _GROUPED.fullmatch(text)
        if _COMMA.fullmatch(text):
            found.add(",")
        elif _NUMBER.fullmatch(text) and "." in text:
            found.add(".")
        elif grouped is not None:
            rest = text.rpartition(grouped[1])[2]
            found |= {mark for mark in ",." if mark in rest}
            found |= {",.".replace(grouped[1], "")} if grouped[1] in ",." else set()
    return found.pop() if len(found) == 1 else None


def read_number(cell: str, separator: str, mark: str | None = None) -> float | str:
    """Return a cell's number; anything else stays text, which the reader then refuses.

    Where semicolons or tabs stand between the cells, a comma is a decimal comma, as in the
    countries whose spreadsheets write such files. There ``1.250`` and ``1,250`` can be 1250 as
    well, and stay text, unless the other cells of the column tell.

    Args:
        cell: its text.
        separator: what stands between cells.
        mark: what parts decimals in the column (:func:`decimal_mark`); None: that is not known.
    """
    if separator != ",":
        if _EITHER.fullmatch(cell):
            return float(cell.replace(",", ".")) if mark is not None and mark in cell else cell
        if _COMMA.fullmatch(cell):
            return float(cell.replace(",", "."))
    return float(cell) if _NUMBER.fullmatch(cell) else cell


def read_written_number(cell: str, mark: str | None = None) -> float | str:
    """Return a number as people write it, thousands parted or not; what can be two stays text.

    Args:
        cell: its text.
        mark: what parts decimals in the column (:func:`decimal_mark`); None: that is not known.
    """
    text = cell.strip()
    found = read_number(text, ";", mark)
    grouped = _GROUPED.fullmatch(text) if len(text) <= _LONGEST else None
    is_open = mark is None and _EITHER.fullmatch(text) is not None
    if grouped is None or is_open or isinstance(found, float):
        return found
    return float(text.replace(grouped[1], "").replace(",", "."))


def number_hint(cell: str) -> str:
    """Return how to write a cell that is no number, ``; write 0.9 ...``; empty if unknown."""
    if len(cell) > _LONGEST:
        return ""
    text = cell.strip()
    if text.lower() in _NOTHING:
        return "; leave the cell empty where there is none"
    if text.startswith("#"):
        return "; the formula of this cell failed in the spreadsheet"
    if _NUMBER.fullmatch(text) and text != cell:
        return "; remove the blanks"
    if text.endswith("%") and re.fullmatch(r"[0-9]{1,6}(?:[.,][0-9]{1,9})?", text[:-1].strip()):
        share = float(text[:-1].replace(",", ".")) / 100.0
        return f"; write {share:.10g} for {text}"
    if _EITHER.fullmatch(text):
        whole = text.replace(",", "").replace(".", "")
        return f"; write {whole}, or {text.replace(',', '.')}0 for the decimal number"
    if _COMMA.fullmatch(text):
        return f"; write {text.replace(',', '.')}, with a decimal point"
    grouped = _GROUPED.fullmatch(text)
    if grouped:
        plain = text.replace(grouped[1], "").replace(",", ".")
        return f"; write {plain}, without separators"
    if not _NUMBER.fullmatch(text) and _DECORATED.fullmatch(text):
        return "; write the number alone, without currency or unit"
    return ""


def load_cells(path: str | Path) -> Cells:
    """Return the cells of a CSV file without blanks around them.

    Raises:
        InputError: the file cannot be read, or is no CSV.
    """
    try:
        text = read_text(path, newline="")
    except NotTextError as error:
        raise InputError(f"{error}; save it as CSV UTF-8") from None
    return cells_of(text, str(path))


def cells_of(text: str, source: str) -> Cells:
    """Return the cells of a CSV text without blanks around them.

    Args:
        text: the whole table.
        source: what it came from, for messages.

    Raises:
        InputError: it is no CSV.
    """
    try:
        return read_cells(text, MAX_BYTES).without_blanks()
    except CellsError as error:
        raise InputError(f"{source}:{error.line}: {error.message}") from None


class CsvRow:
    """A row by its columns; what is wrong with it is noted.

    Args:
        cells: text by the name of the column.
        separator: what stands between cells.
        place: file and line, for messages.
    """

    def __init__(self, cells: Mapping[str, str], separator: str, place: str) -> None:
        self.cells, self.separator, self.place = cells, separator, place
        self.problems: list[str] = []

    def text(self, column: str) -> str:
        """Return a text that has to be there."""
        value = self.cells.get(column, "")
        if not value:
            self.problems.append(f"{self.place} {column}: is required")
        return value

    def number(self, column: str, *, most: float = math.inf, or_0: bool = False) -> float | None:
        """Return a number above 0 (``or_0``: or 0), NaN where it is none, None for nothing."""
        text = self.cells.get(column, "")
        if not text:
            return None
        found = read_number(text, self.separator)
        value = math.nan if isinstance(found, str) or math.isinf(found) else found
        if not (0.0 < value <= most or (or_0 and value == 0.0)):
            limit = "of at least 0" if or_0 else "above 0"
            limit += "" if math.isinf(most) else f" and at most {most:g}"
            self.problems.append(
                f"{self.place} {column} = {text!r}: must be a number {limit}{number_hint(text)}"
            )
            return math.nan
        return value

    def needed(self, column: str, *, or_0: bool = False, empty: str = "") -> float:
        """Return a number that has to be there, NaN where it is not; see :meth:`number`.

        Args:
            column: where it stands.
            or_0: whether 0 will do.
            empty: what to write where the cell is empty, for the message.
        """
        found = self.number(column, or_0=or_0)
        if found is None:
            self.problems.append(f"{self.place} {column}: is required{empty}")
        return math.nan if found is None else found


def refuse(problems: Sequence[str]) -> None:
    """Raise an error that tells all problems, if there are any.

    Raises:
        InputError: there is one.
    """
    unique = list(dict.fromkeys(problems))
    if unique:
        rest = [f"... and {len(unique) - _LISTED} more"] if len(unique) > _LISTED else []
        raise InputError("\n".join([*unique[:_LISTED], *rest]))
