"""Writing workbooks that a planner fills in: headings with comments, formats and drop-downs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from code_opt.desk.grids import SUFFIX, column_letters
from code_opt.desk.sheets import NOTES, SETTINGS, SHEETS, TIME, Field, Sheet, by_name
from code_opt.errors import InputError
from code_opt.files import write_atomically

Contents = Mapping[str, Sequence[Sequence[object]]]
"""Rows of each sheet by its name, the headings first; None for an empty cell."""

_LINES = (
    "Fill in the sheets with your own numbers in the place of the examples, and delete what you",
    "do not need. The comment of each heading says what the column means; a sheet without rows is",
    "as good as none. Columns called Notes, and this sheet, are yours: nothing is read from them.",
    "",
    "Then: code-opt plan FILE --out FOLDER",
    "",
    "All that is wrong is listed with its sheet and cell before anything is computed.",
)
_FORMATS = {"share": "0.0 %", "money": "#,##0.00"}
_LISTED_ROWS = 2_000
"""Rows that drop-downs reach."""
_WIDEST = 30


def template() -> Contents:
    """Return the sheets of the template with their examples."""
    return {
        sheet.name: [
            [*(item.heading for item in sheet.fields), *sheet.example_columns],
            *sheet.examples,
        ]
        for sheet in SHEETS
    }


def write_sheets(contents: Contents, path: Path) -> None:
    """Write sheets as a workbook (``.xlsx``), or without a suffix as a folder of CSV files.

    Raises:
        InputError: another suffix, the place cannot be written, or XlsxWriter is not installed.
    """
    if path.suffix.lower() == SUFFIX:
        write_atomically(path, _workbook(contents))
    elif path.suffix:
        raise InputError(f"{path}: a plan is written to {SUFFIX}, or without a suffix as a folder")
    else:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        for name, rows in contents.items():
            write_atomically(path / by_name(name).file, _csv(rows))


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()


def _workbook(contents: Contents) -> bytes:
    try:
        import xlsxwriter
    except ImportError:
        raise InputError("workbooks need XlsxWriter: pip install 'code-opt[desk]'") from None
    sink = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(sink, options) as book:
        # The same contents are the same file.
        book.set_properties({"created": datetime(2000, 1, 1)})
        heading = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        formats = {kind: book.add_format({"num_format": f}) for kind, f in _FORMATS.items()}
        notes = book.add_worksheet(NOTES)
        notes.set_column(0, 0, 100)
        for line, text in enumerate(_LINES):
            notes.write_string(line, 0, text)
        for name, rows in contents.items():
            sheet, page = by_name(name), book.add_worksheet(name)
            page.freeze_panes(1, 1)
            for column, name_of in enumerate(map(str, rows[0])):
                item = _field(sheet, name_of)
                about = sheet.about if column == 0 else ""
                about = "\n\n".join(filter(None, (about, item.about)))
                page.write_string(0, column, name_of, heading)
                page.write_comment(0, column, about, {"x_scale": 2, "y_scale": 1.5})
                width = max(len(str(row[column] or "")) for row in rows if column < len(row))
                page.set_column(column, column, min(width + 2, _WIDEST), formats.get(item.kind))
                _restrict(page, column, item)
            for line, row in enumerate(rows[1:], start=1):
                for column, cell in enumerate(row):
                    if isinstance(cell, int | float):
                        page.write_number(line, column, cell)
                    elif cell is not None:
                        page.write_string(line, column, str(cell))
            if name == "Settings":
                _explain_settings(page, rows, formats)
    return sink.getvalue()


def _explain_settings(
    page: Any, rows: Sequence[Sequence[object]], formats: Mapping[str, Any]
) -> None:
    """Give the rows of settings their comments, and their values their formats."""
    known = {item.heading: item for item in SETTINGS}
    for line, row in enumerate(rows[1:], start=1):
        item = known.get(str(row[0]))
        if item is not None:
            page.write_comment(line, 0, item.about, {"x_scale": 2})
        if item is not None and item.kind in formats:
            page.write(line, 1, row[1], formats[item.kind])


def _field(sheet: Sheet, heading: str) -> Field:
    """Return the column of a heading; those of times and periods have no field of their own."""
    for item in sheet.fields:
        if item.heading == heading:
            return item
    time = TIME.fullmatch(heading)
    about = f"Milliseconds of a batch on {time[1]}." if time else f"Demand in {heading} [1/s]."
    return Field(heading, heading, "number", about)


def _restrict(page: Any, column: int, item: Field) -> None:
    """Give a column a drop-down where its values are listed."""
    source: Any = None
    target = item.refers
    if item.heading in ("From", "To") and target is None:
        target = "Blocks"
    if item.kind == "yes-no":
        source = ["yes", "no"]
    elif target is not None:
        sheet = by_name(target)
        letters = column_letters([f.key for f in sheet.fields].index(sheet.unique[0]))
        source = f"='{target}'!${letters}$2:${letters}${_LISTED_ROWS}"
    elif item.kind == "name" and item.key == "setting":
        source = [setting.heading for setting in SETTINGS]
    if source is not None:
        page.data_validation(
            1,
            column,
            _LISTED_ROWS,
            column,
            {
                "validate": "list",
                "source": source,
                # A warning: input and output are no blocks.
                "error_type": "warning",
                "error_title": item.heading,
                "error_message": item.about,
            },
        )
