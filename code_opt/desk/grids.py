"""Sheets of cells as they stand in a workbook or a folder of CSV files, strangers' files both.

Only values are read. What a formula gave when the workbook was saved is its value; one that gave
none, or an error, or takes its value from another workbook, is refused with its cell. Nothing in
a file is executed or fetched, and what it unpacks to is bounded before it is unpacked.
"""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from code_opt.errors import InputError, NotTextError
from code_opt.files import MAX_BYTES, read_text
from code_opt.instance.cells import CellsError, read_cells
from code_opt.instance.problems import InstanceError, Problem, shown

SUFFIX = ".xlsx"
MOST_UNPACKED = 2**28
"""Bytes that all parts of a workbook may unpack to."""
MOST_PARTS = 2_000
MOST_ROWS, MOST_COLUMNS = 100_000, 1_000
"""Of a sheet."""
_LAST_ROW = 1_048_576
"""Of any spreadsheet."""
_BROKEN = (
    *(KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError, EOFError),
    *(OSError, OverflowError, RuntimeError, NotImplementedError, RecursionError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, expat.ExpatError),
)
"""What reading a damaged workbook may raise; its parser promises nothing."""
_OTHER_WORKBOOK = re.compile(r"\[\d+\]|\[[^\[\]]+\.xl\w+\]", re.IGNORECASE)
_OLD = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class GridCell:
    """A cell that is not empty."""

    value: str | float
    """Text without blanks around it, or a number."""
    place: str
    """``Blocks!D17``, or ``blocks.csv!D17``."""

    @property
    def text(self) -> str:
        """The value as text: a number without a fraction has no decimal point."""
        return self.value if isinstance(self.value, str) else f"{self.value:.15g}"


@dataclass(frozen=True)
class Grid:
    """A sheet: the cells of its rows that are not empty, by column from 0."""

    name: str
    """Of the sheet, or of the file."""
    rows: tuple[tuple[int, dict[int, GridCell]], ...]
    """Each with its number, from 1."""

    def place(self, row: int, column: int) -> str:
        """Return the place of a cell, column from 0."""
        return f"{self.name}!{column_letters(column)}{row}"


def column_letters(column: int) -> str:
    """Return the letters of a column, from 0."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def read_folder(folder: Path, names: Collection[str]) -> tuple[list[Grid], list[Problem]]:
    """Return the sheets of a folder of CSV files, and what is wrong with single files.

    Args:
        folder: the folder.
        names: of the files that are sheets; other CSV files are problems.
    """
    grids, problems = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".csv":
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            problems.append(Problem(path.name, "a link to a file outside of the folder"))
            continue
        if path.name not in names:
            known = ", ".join(names)
            problems.append(Problem(path.name, f"no sheet of a plan; known: {known}"))
            continue
        try:
            cells = read_cells(read_text(path, newline=""), MAX_BYTES)
        except NotTextError as error:
            problems.append(Problem(path.name, f"{error}; save it as CSV UTF-8"))
            continue
        except CellsError as error:
            problems.append(Problem(f"{path.name}:{error.line}", error.message))
            continue
        grids.append(_grid(path.name, cells.rows))
    return grids, problems


def read_workbook(path: Path) -> tuple[list[Grid], list[Problem]]:
    """Return the sheets of a workbook, and what is wrong with single cells.

    Raises:
        InputError: it cannot be read, or openpyxl is not installed.
        InstanceError: it is no workbook, or holds what is not opened.
    """
    try:
        import openpyxl
    except ImportError:
        raise InputError(
            f"{path}: workbooks need openpyxl: pip install 'code-opt[desk]'; or save every sheet "
            "as CSV UTF-8 into one folder, and give the folder"
        ) from None
    try:
        with path.open("rb") as stream:
            _refuse_traps(path, stream)
            problems: list[Problem] = []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of parts that nothing is read from
                books = [
                    openpyxl.load_workbook(
                        path, read_only=True, data_only=is_value, keep_links=False
                    )
                    for is_value in (False, True)
                ]
                try:
                    grids = list(_sheets(books[0], books[1], problems))
                finally:
                    for book in books:
                        book.close()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except _BROKEN as error:
        message = f"damaged, or no workbook of a spreadsheet ({type(error).__name__})"
        raise _refusal(path, f"{message}; save it anew as {SUFFIX}") from None
    return grids, problems


def _refusal(path: Path, message: str) -> InstanceError:
    return InstanceError(str(path), [Problem("file", message)])


def _refuse_traps(path: Path, stream: BinaryIO) -> None:
    """Refuse what is no zip file of XML of a bounded size, before anything is unpacked.

    Raises:
        InstanceError: it is not.
    """
    start = stream.read(4)
    stream.seek(0)
    if start == _OLD:
        raise _refusal(
            path,
            "protected by a password, or of an old version; save it without a password as "
            f"{SUFFIX}",
        )
    if start[:2] != b"PK":
        raise _refusal(path, f"no {SUFFIX} workbook; save it as {SUFFIX} in a spreadsheet")
    with zipfile.ZipFile(stream) as archive:
        parts = archive.infolist()
        size = sum(part.file_size for part in parts)
        if size > MOST_UNPACKED or len(parts) > MOST_PARTS:
            raise _refusal(
                path,
                f"it unpacks to {size:,} bytes in {len(parts):,} parts, more than the "
                f"{MOST_UNPACKED:,} in {MOST_PARTS:,} that are read; leave out what is no data",
            )
        if any(part.flag_bits & 1 for part in parts):
            raise _refusal(path, f"protected by a password; save it without one as {SUFFIX}")
        if len({part.filename for part in parts}) < len(parts):
            raise _refusal(path, f"a part stands there twice; save it anew as {SUFFIX}")
        for part in parts:
            if part.filename.lower().endswith((".xml", ".rels")) and _declares(archive, part):
                raise _refusal(
                    path,
                    f"its part {shown(part.filename)} declares a document type, which no "
                    f"spreadsheet writes; save it anew as {SUFFIX}",
                )


def _declares(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Tell whether a part declares a document type, by which text could grow without end."""

    class _FoundError(Exception):
        pass

    def found(*_: Any) -> None:
        raise _FoundError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = found
    try:
        with archive.open(part) as stream:
            while chunk := stream.read(2**16):
                parser.Parse(chunk)
            parser.Parse(b"", True)
    except _FoundError:
        return True
    return False


def _sheets(formulas: Any, values: Any, problems: list[Problem]) -> Iterator[Grid]:
    for written, saved in zip(formulas.worksheets, values.worksheets, strict=True):
        rows: list[tuple[int, list[str | float | None]]] = []
        for sheet in (written, saved):
            sheet.reset_dimensions()  # what a file says of its size need not be so
        pairs = zip(written.iter_rows(max_row=_LAST_ROW), saved.iter_rows(), strict=False)
        for number, (row, saved_row) in enumerate(pairs, start=1):
            if len(row) > MOST_COLUMNS or len(rows) > MOST_ROWS:
                message = f"beyond the {MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns that are "
                message += "read; delete what is no data"
                place = f"{written.title}!{column_letters(max(len(row) - 1, 0))}{number}"
                problems.append(Problem(place, message))
                break
            found = [
                _value(f"{written.title}!{column_letters(column)}{number}", cell, value, problems)
                if cell.value is not None
                else None
                for column, (cell, value) in enumerate(zip(row, saved_row, strict=True))
            ]
            if any(value is not None for value in found):
                rows.append((number, found))
        yield _grid(written.title, rows)


def _value(place: str, cell: Any, saved: Any, problems: list[Problem]) -> str | float | None:
    """Return the value of a cell of a workbook, None where it is empty or refused."""
    value = cell.value
    if cell.data_type == "f":
        formula = str(getattr(value, "text", value))
        if _OTHER_WORKBOOK.search(formula):
            message = "a formula that reads another workbook; paste its value instead"
            problems.append(Problem(place, message, shown(formula)))
            return None
        value = saved.value
        if value is None:
            message = (
                "a formula without a value: it was never computed; open the workbook in a "
                "spreadsheet and save it, or paste the value"
            )
            problems.append(Problem(place, message, shown(formula)))
            return None
    if saved.data_type == "e" or cell.data_type == "e":
        message = "an error of a formula; mend the formula, or leave the cell empty"
        problems.append(Problem(place, message, shown(str(saved.value))))
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, date | time | timedelta):
        message = "a date or time, perhaps a number that the spreadsheet took for one; "
        message += "write it as a number, or as text"
        problems.append(Problem(place, message, shown(str(value))))
        return None
    if isinstance(value, int | float):
        return float(value)
    return str(value)


def _grid(name: str, rows: Iterable[tuple[int, Sequence[str | float | None]]]) -> Grid:
    """Return a sheet of rows, each with its number and the values of its cells."""
    found = []
    for number, values in rows:
        cells = {}
        for column, value in enumerate(values):
            kept = value.strip() if isinstance(value, str) else value
            if kept is not None and kept != "":
                cells[column] = GridCell(kept, f"{name}!{column_letters(column)}{number}")
        if cells:
            found.append((number, cells))
    return Grid(name, tuple(found))
