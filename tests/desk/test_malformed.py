"""Malformed workbooks: one clear message each, with the cell; and files that are traps."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from code_opt.desk import load_request, template, write_sheets
from code_opt.errors import InputError

Sheets = dict[str, list[list[Any]]]


def put(sheet: str, cell: str, value: object) -> Callable[[Sheets], None]:
    """Return what writes a value into a cell of the template, such as ``D3``."""

    def change(sheets: Sheets) -> None:
        row, column = int(cell[1:]) - 1, ord(cell[0]) - ord("A")
        rows = sheets[sheet]
        rows += [[] for _ in range(row + 1 - len(rows))]
        rows[row] += [None] * (column + 1 - len(rows[row]))
        rows[row][column] = value

    return change


def add(sheet: str, *cells: object) -> Callable[[Sheets], None]:
    """Return what adds a row to a sheet of the template."""
    return lambda sheets: sheets[sheet].append(list(cells))


def drop(sheet: str) -> Callable[[Sheets], None]:
    """Return what leaves a sheet out."""
    return lambda sheets: sheets.pop(sheet)  # type: ignore[return-value]


def keep(sheet: str, *rows: int) -> Callable[[Sheets], None]:
    """Return what keeps some rows of a sheet, from 1."""

    def change(sheets: Sheets) -> None:
        sheets[sheet] = [sheets[sheet][row - 1] for row in rows]

    return change


CASES: dict[str, tuple[Callable[[Sheets], object], str]] = {
    "site-misspelt": (
        put("Networks", "B2", "nort"),
        "Networks!B2 = 'nort': not in the sheet 'Sites'; did you mean 'north'?",
    ),
    "type-misspelt": (
        put("Devices", "B3", "L40"),
        "Devices!B3 = 'L40': not in the sheet 'Device types'; did you mean 'L4'?",
    ),
    "network-misspelt": (
        put("Blocks", "A4", "car-net"),
        "Blocks!A4 = 'car-net': not in the sheet 'Networks'; did you mean 'cars-net'?",
    ),
    "block-misspelt": (
        put("Connections", "C3", "crowd-net/9"),
        "Connections!C3 = 'crowd-net/9': no block of the sheet 'Blocks', nor 'output'; did you "
        "mean 'crowd-net/2'?",
    ),
    "service-misspelt": (
        put("Connections", "A5", "crow"),
        "Connections!A5 = 'crow': not in the sheet 'Services'; did you mean 'crowd'?",
    ),
    "price-in-words": (
        put("Device types", "B2", "cheap"),
        "Device types!B2 = 'cheap': must be a number",
    ),
    "price-of-another-currency": (
        put("Device types", "B2", "$ 2 200"),
        "Device types!B2 = '$ 2 200': in another currency than 'EUR' of the settings: convert it",
    ),
    "price-missing": (put("Device types", "B3", None), "Device types!B3: Price is required"),
    "price-negative": (
        put("Device types", "B3", -5),
        "Device types!B3 = -5.0: must be at least 0",
    ),
    "price-of-two-readings": (
        put("Device types", "B2", "2,200"),
        "Device types!B2 = '2,200': must be a number; write 2200, or 2.2000 for the decimal "
        "number; no other cell of this column tells which of both it is",
    ),
    "time-with-unit": (
        put("Blocks", "D2", "2.1 ms"),
        "Blocks!D2 = '2.1 ms': must be a number; write the number alone, without currency or unit",
    ),
    "time-missing-for-one-block": (
        put("Blocks", "D3", None),
        "Blocks!D3: is empty, while other blocks of the network have times on 'T4': give all of "
        "them one, or none",
    ),
    "time-of-an-unknown-type": (
        put("Blocks", "D1", "ms on T5"),
        "Blocks!D1 = 'T5': not in the sheet 'Device types'; known: 'T4', 'L4'",
    ),
    "accuracy-in-percent-without-sign": (
        put("Services", "C2", 91),
        "Services!C2 = 91.0: must be a share: write 91 %, or 0.91",
    ),
    "accuracy-missing": (put("Services", "C3", None), "Services!C3: Accuracy is required"),
    "drop-above-all": (
        put("Connections", "D2", 120),
        "Connections!D2 = 120.0: must be at most 100 %",
    ),
    "devices-in-parts": (
        put("Devices", "C2", 1.5),
        "Devices!C2 = 1.5: must be a whole number",
    ),
    "no-device-possible": (
        put("Devices", "D3", 0),
        "Devices!D3 = 0.0: there is none and none can be bought; leave out the row",
    ),
    "site-twice": (
        add("Sites", "north"),
        "Sites!A4 = 'north': stands at Sites!A2 already; give it a name of its own",
    ),
    "block-twice": (
        put("Blocks", "B6", "cars-net/0"),
        "Blocks!B6 = 'cars-net/0': stands at Blocks!B2 already; give it a name of its own",
    ),
    "type-twice-at-a-site": (
        add("Devices", "hub", "L4", 1),
        "Devices!B5 = 'hub -> L4': stands at Devices!B4 already",
    ),
    "site-without-devices": (
        add("Sites", "mall"),
        "Sites!A4 = 'mall': no device stands or can be bought here: give it a row in the sheet "
        "'Devices', or leave it out",
    ),
    "column-unknown": (
        put("Sites", "B1", "Town"),
        "Sites!B1 = 'Town': unknown column; known: 'Site'",
    ),
    "column-missing": (
        lambda sheets: [row.pop(1) for row in sheets["Networks"]],
        "Networks!A1: the column 'Site' is missing",
    ),
    "unit-of-another-size": (
        put("Blocks", "C1", "Output [MB]"),
        "Blocks!C1 = 'Output [MB]': the numbers of this column are in kB: name it 'Output [kB]'",
    ),
    "value-without-heading": (
        put("Sites", "C2", 7),
        "Sites!C2 = 7.0: a value without a heading above it",
    ),
    "sheet-missing": (
        drop("Networks"),
        "Networks: this sheet is required: The neural networks that run today, each at one site. "
        "Its copies on several types of devices at that site are compared by the plan.",
    ),
    "setting-unknown": (
        add("Settings", "Curency", "EUR"),
        "Settings!A9 = 'Curency': unknown setting; did you mean 'Currency'?",
    ),
    "headroom-of-all": (
        put("Settings", "B5", 1),
        "Settings!B5 = 1.0: must be below 1: it leaves no time to sell",
    ),
    "limits-for-all": (
        put("Settings", "B7", 1),
        "Settings!B7 = 1.0: must be below 100 %: no limit holds for every input under load",
    ),
    "demand-missing": (
        put("Services", "D3", None),
        "Services!D3: has no demand: write it here, or by the hour in the sheet 'Demand'",
    ),
    "demand-twice": (
        put("Services", "D2", 100),
        "Services!D2 = 100.0: the sheet 'Demand' has this service, too: leave one of both empty",
    ),
    "demand-of-an-hour-missing": (
        put("Demand", "C3", None),
        "Demand!C3: is required; write 0 for no demand",
    ),
    "floor-above-demand": (
        put("Services", "E3", 90),
        "Services!E3 = 90.0: must be at most the demand, 80",
    ),
    "limit-of-nothing": (
        put("Services", "G2", 0),
        "Services!G2 = 0.0: must be above 0",
    ),
    "link-to-itself": (
        put("Links", "B2", "north"),
        "Links!B2 = 'north': a link leads to another site",
    ),
    "link-both-ways-in-words": (
        put("Links", "C2", "perhaps"),
        "Links!C2 = 'perhaps': must be yes or no",
    ),
    "upgrade-of-what-is-unlimited": (
        lambda sheets: [put("Links", cell, 100)(sheets) for cell in ("F2", "G2")],
        "Links!F2 = 100.0: an upgrade needs a bandwidth to add to",
    ),
    "year-twice": (
        put("Growth", "A4", 2028),
        "Growth!A4 = '2028': stands at Growth!A3 already; give it a name of its own",
    ),
    "name-with-arrow": (
        put("Sites", "A4", "a > b"),
        "Sites!A4 = 'a > b': a name holds no '>'",
    ),
    "network-without-blocks": (
        add("Networks", "faces-net", "hub"),
        "Networks!A4 = 'faces-net': has no row in the sheet 'Blocks'",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_message_with_its_cell(name: str, tmp_path: Path) -> None:
    change, message = CASES[name]
    sheets: Sheets = {key: [list(row) for row in rows] for key, rows in template().items()}
    change(sheets)
    book = tmp_path / "plan.xlsx"
    write_sheets(sheets, book)
    with pytest.raises(InputError) as caught:
        load_request(book)
    assert str(caught.value) == f"{book}: {message}"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    sheets: Sheets = {key: [list(row) for row in rows] for key, rows in template().items()}
    for name in ("price-in-words", "accuracy-missing", "link-to-itself"):
        CASES[name][0](sheets)
    write_sheets(sheets, tmp_path / "plan")
    with pytest.raises(InputError) as caught:
        load_request(tmp_path / "plan")
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines == [
        f"{tmp_path / 'plan'}: 3 problems",
        "device-types.csv!B2 = 'cheap': must be a number",
        "services.csv!C3: Accuracy is required",
        "links.csv!B2 = 'north': a link leads to another site",
    ]


def edited(path: Path, sheet: str, cell: str, value: object) -> Path:
    """Write the template with one cell changed by another program."""
    write_sheets(template(), path)
    book = openpyxl.load_workbook(path)
    book[sheet][cell] = value
    book.save(path)
    return path


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("='[1]Prices'!B2", "'='[1]Prices'!B2': a formula that reads another workbook; paste its "
         "value instead"),
        ("=1+1", "'=1+1': a formula without a value: it was never computed; open the workbook in "
         "a spreadsheet and save it, or paste the value"),
        ("#REF!", "'#REF!': an error of a formula; mend the formula, or leave the cell empty"),
    ],
)  # fmt: skip
def test_a_cell_without_a_value_is_refused(value: str, message: str, tmp_path: Path) -> None:
    book = edited(tmp_path / "plan.xlsx", "Device types", "B2", value)
    with pytest.raises(InputError) as caught:
        load_request(book)
    assert str(caught.value).replace('"', "'") == f"{book}: Device types!B2 = {message}"


def test_a_date_is_no_number(tmp_path: Path) -> None:
    from datetime import datetime

    book = edited(tmp_path / "plan.xlsx", "Device types", "B2", datetime(2027, 5, 1))
    with pytest.raises(InputError, match=r"Device types!B2 = '2027-05-01 00:00:00': a date or"):
        load_request(book)


def repacked(path: Path, part: str, content: bytes) -> Path:
    """Write the template with one part of the archive replaced or added."""
    write_sheets(template(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def test_a_formula_counts_with_its_saved_value(tmp_path: Path) -> None:
    path = tmp_path / "plan.xlsx"
    write_sheets(template(), path)
    part = "xl/worksheets/sheet4.xml"
    with zipfile.ZipFile(path) as archive:
        sheet = archive.read(part).decode()
    assert sheet.count("<v>2200</v>") == 1
    book = repacked(path, part, sheet.replace("<v>2200</v>", "<f>2*1100</f><v>2200</v>").encode())
    assert load_request(book).instance.servers[0].cost == 2200.0


BOMB = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'


def test_traps_are_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoding in ("utf-8", "utf-16"):
        book = repacked(tmp_path / "a.xlsx", "xl/x.xml", BOMB.decode().encode(encoding))
        with pytest.raises(InputError, match=r"'xl/x.xml' declares a document type"):
            load_request(book)
    large = repacked(tmp_path / "b.xlsx", "xl/media/x.bin", b"\0" * 2_000_000)
    monkeypatch.setattr("code_opt.desk.grids.MOST_UNPACKED", 1_000_000)
    with pytest.raises(InputError, match=r"unpacks to .* bytes in .* parts, more than"):
        load_request(large)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "protected by a password, or of an old version"),
        (b"Service,Network\n", "no .xlsx workbook; save it as .xlsx in a spreadsheet"),
        (b"PK\x03\x04 and no more", "damaged, or no workbook of a spreadsheet"),
    ],
)
def test_what_is_no_workbook_says_how_to_make_one(
    content: bytes, message: str, tmp_path: Path
) -> None:
    book = tmp_path / "plan.xlsx"
    book.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_request(book)
    assert message in str(caught.value)


def test_far_cells_and_damaged_parts_are_refused(tmp_path: Path) -> None:
    book = edited(tmp_path / "plan.xlsx", "Sites", "XFD1048576", 1)
    with pytest.raises(InputError, match=r"Sites!XFD1048576: beyond the 100,000 rows and 1,000"):
        load_request(book)
    broken = repacked(tmp_path / "b.xlsx", "xl/worksheets/sheet3.xml", b"<worksheet>")
    with pytest.raises(InputError, match=r"damaged, or no workbook of a spreadsheet"):
        load_request(broken)
    link = tmp_path / "folder"
    write_sheets(template(), link)
    (tmp_path / "sites.csv").write_text("Site\nnorth\nhub\n")
    (link / "sites.csv").unlink()
    (link / "sites.csv").symlink_to(tmp_path / "sites.csv")
    with pytest.raises(InputError, match=r"sites.csv: a link to a file outside of the folder"):
        load_request(link)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (("1,125", "2,5"), (1.125, 2.5)),
        (("1,125", "2.5"), (1125.0, 2.5)),
        (("1.125", "1.234,5"), (1125.0, 1234.5)),
        (("€ 2,200.00", "3 400 EUR"), (2200.0, 3400.0)),
        (("2'200", "3,5"), (2200.0, 3.5)),
        (("1.125", "0,5 €"), (1125.0, 0.5)),
        (("1,125 EUR", "2,5 €"), (1.125, 2.5)),
    ],
)
def test_the_other_cells_of_a_column_settle_a_number(
    cells: tuple[str, str], numbers: tuple[float, float], tmp_path: Path
) -> None:
    sheets: Sheets = {key: [list(row) for row in rows] for key, rows in template().items()}
    sheets["Device types"][1][1], sheets["Device types"][2][1] = cells
    write_sheets(sheets, tmp_path / "plan")
    prices = {s.id: s.cost for s in load_request(tmp_path / "plan").instance.servers}
    assert (prices["north/T4"], prices["north/L4"]) == numbers
