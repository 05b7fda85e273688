"""CSV as spreadsheets write it: what is read, and how a refused cell is to be written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from code_opt.errors import InputError
from code_opt.instance import load_instance
from code_opt.instance.cells import CellsError, number_hint, read_cells, read_number

FOLDER = Path(__file__).resolve().parents[2] / "data" / "two-services-csv"


def _semicolons(text: str) -> str:
    """Write a table as spreadsheets do where the comma is the decimal sign."""
    rows = [_row(line) for line in text.splitlines()]
    return "\n".join(";".join(c.replace(".", ",") if _is_figure(c) else c for c in r) for r in rows)


def _row(line: str) -> list[str]:
    ((_, cells),) = read_cells(line, 10_000).rows
    return [f'"{c}"' if "," in c or ";" in c else c for c in cells]


def _is_figure(cell: str) -> bool:
    return isinstance(read_number(cell, ","), float)


@pytest.mark.parametrize(
    "export",
    [
        lambda text: _semicolons(text).encode(),
        lambda text: b"\xef\xbb\xbf" + _semicolons(text).replace("\n", "\r\n").encode(),
        lambda text: ("sep=;\r\n" + _semicolons(text)).encode(),
        lambda text: _semicolons(text).replace(";", "\t").encode(),
        lambda text: (_semicolons(text) + "\n;;;;;;\n;;\n").encode(),
    ],
    ids=["semicolons", "mark-crlf", "sep-line", "tabs", "empty-rows"],
)
def test_exports_of_spreadsheets_hold_the_same_instance(
    export: Callable[[str], bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(FOLDER, folder)
    for file in folder.glob("*.csv"):
        if file.stem != "instance":  # its description holds commas and semicolons
            file.write_bytes(export(file.read_text(encoding="utf-8")))
    assert load_instance(folder) == load_instance(FOLDER)


@pytest.mark.parametrize(
    ("cell", "separator", "number"),
    [
        ("0,9", ";", 0.9),
        ("0.9", ";", 0.9),
        ("0,125", ";", 0.125),
        ("6,00E+10", ";", 6e10),
        ("1250,5", "\t", 1250.5),
        ("1.250", ",", 1.25),
        ("1.250", ";", "1.250"),
        ("1,250", ";", "1,250"),
        ("12,5", ",", "12,5"),
        ("1.250,5", ";", "1.250,5"),
    ],
)
def test_a_number_is_read_in_one_way_or_refused(
    cell: str, separator: str, number: float | str
) -> None:
    assert read_number(cell, separator) == number


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("60,000,000,000", "; write 60000000000, without separators"),
        ("60 000", "; write 60000, without separators"),
        ("60\u202f000,5", "; write 60000.5, without separators"),
        ("1.250.000", "; write 1250000, without separators"),
        ("1,250", "; write 1250, or 1.2500 for the decimal number"),
        ("0,125", "; write 0.125, with a decimal point"),
        ("90 %", "; write 0.9 for 90 %"),
        ("$900.00", "; write the number alone, without currency or unit"),
        ("60 GFLOP/s", "; write the number alone, without currency or unit"),
        ("#REF!", "; the formula of this cell failed in the spreadsheet"),
        ("n/a", "; leave the cell empty where there is none"),
        (" 5", "; remove the blanks"),
        ("fast", ""),
        ("2e9", ""),
        ("." * 100_000, ""),
    ],
)
def test_a_refused_number_comes_with_how_to_write_it(cell: str, hint: str) -> None:
    assert number_hint(cell) == hint


def test_lines_are_counted_with_the_line_that_names_the_separator() -> None:
    cells = read_cells('sep=;\r\na;b\r\n;\r\n"1\r\n2";3\r\n4;5\r\n', 100)
    assert cells.separator == ";"
    assert cells.rows == [(2, ["a", "b"]), (4, ["1\r\n2", "3"]), (6, ["4", "5"])]
    with pytest.raises(CellsError) as caught:
        read_cells('sep=;\na;b\n"1;2\n', 100)
    assert caught.value.line == 3


@pytest.mark.parametrize("suffix", ["xlsx", "ods"])
def test_a_workbook_is_refused_with_what_to_do(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"edge.{suffix}"
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="save every sheet as CSV UTF-8 into one folder"):
        load_instance(file)


def test_a_foreign_table_and_another_case_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    shutil.copytree(FOLDER, folder)
    (folder / "scenarios.csv").write_text("scenario\n", encoding="utf-8")
    file = folder / "servers.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("id,", " ID,"), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_instance(folder)
    assert "scenarios.csv: no such table" in str(caught.value)
    assert "keep other tables elsewhere" in str(caught.value)
    assert "servers.csv:1 = ' ID': unknown column; did you mean 'id'?" in str(caught.value)


def test_rows_are_as_wide_as_their_header() -> None:
    cells = read_cells("a,b,,\n1,2,,\n1,2\n1,2,3,\n1,2,,,\n1\n", 100)
    assert cells.columns == ["a", "b"]
    wrong = [cells.width_problem(row, 2) for _, row in cells.rows[1:]]
    assert wrong[:2] == [None, None]
    assert wrong[2:] == [f"{n} cells, but there are 2 columns" for n in (4, 5, 1)]
