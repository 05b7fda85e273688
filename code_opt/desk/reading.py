"""From sheets of cells to rows of typed values, with everything that is wrong and its cell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from code_opt.desk.grids import Grid, GridCell
from code_opt.desk.sheets import NOTES, SETTINGS, SHEETS, TIME, Field, Sheet, same
from code_opt.instance.cells import decimal_mark, number_hint, read_written_number
from code_opt.instance.problems import Problem, hint, shown
from code_opt.instance.ranges import is_in_range, range_text

_SIGNS = "€$£¥₹"
_CODES = {"€": {"EUR"}, "£": {"GBP"}, "₹": {"INR"}, "¥": {"JPY", "CNY"}}
"""Codes of the currencies that a sign can stand for; a dollar is that of many countries."""
_CODE = re.compile(r"^[A-Z]{3}\s+|\s+[A-Z]{3}$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029>]")
_YES = {"yes": True, "no": False, "true": True, "false": False}
LONGEST_NAME = 100
"""Characters of a name: names of copies are longer, and have a limit, too."""

Value = str | float | bool


@dataclass
class SheetRow:
    """A row below the headings."""

    values: dict[str, Value]
    """What its cells say, in the units of an instance; nothing of those that are empty."""
    places: dict[str, str]
    """Place of each column's cell, empty or not."""
    cells: dict[str, GridCell]
    """Cells that are not empty."""
    times: dict[str, float] = field(default_factory=dict)
    """Seconds of a batch by type of device; or the numbers of periods by name."""
    is_wrong: bool = False
    """Whether something in it has been reported."""

    def text(self, key: str) -> str | None:
        """Return a text, None where the cell is empty or wrong."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str, default: float = 0.0) -> float:
        """Return a number, or what an empty cell stands for."""
        value = self.values.get(key, default)
        return default if isinstance(value, str) else float(value)


@dataclass
class SheetTable:
    """A sheet that has been read."""

    sheet: Sheet
    name: str
    """Of the sheet in the workbook, or of its file."""
    rows: list[SheetRow] = field(default_factory=list)
    headings: dict[str, str] = field(default_factory=dict)
    """Places of the headings of times or periods, by type of device or name of the period."""


def read_tables(grids: Sequence[Grid], problems: list[Problem]) -> dict[str, SheetTable]:
    """Return the sheets of a plan by name; what is wrong with them is added to ``problems``.

    Sheets of other names are problems, but for that of the notes.
    """
    known = {same(sheet.name): sheet for sheet in SHEETS}
    tables: dict[str, SheetTable] = {}
    for grid in grids:
        name = grid.name.removesuffix(".csv")
        sheet = known.get(same(name))
        if sheet is None:
            if grid.rows and same(name) != same(NOTES):
                names = hint(name, [s.name for s in SHEETS], few=99)
                problems.append(
                    Problem(f"{grid.name}!A1", f"no sheet of a plan{names}; {NOTES!r} is left out")
                )
        elif sheet.name in tables:
            problems.append(Problem(f"{grid.name}!A1", "this sheet stands there twice"))
        else:
            tables[sheet.name] = _Reader(sheet, grid, problems).table()
    for sheet in SHEETS:
        if sheet.name not in tables:
            tables[sheet.name] = SheetTable(sheet, sheet.name)
            if sheet.is_required:
                problems.append(Problem(sheet.name, f"this sheet is required: {sheet.about}"))
        elif (
            sheet.is_required
            and not tables[sheet.name].rows
            and not any(
                problem.place.startswith(f"{tables[sheet.name].name}!") for problem in problems
            )
        ):
            problems.append(Problem(f"{tables[sheet.name].name}!A2", "needs at least one row"))
    return tables


def read_settings(table: SheetTable, problems: list[Problem]) -> SheetRow:
    """Return the settings as one row, each by its key."""
    known = {same(item.heading): item for item in SETTINGS}
    found = SheetRow({}, {}, {})
    for row in table.rows:
        name, cell = row.text("setting"), row.cells.get("value")
        item = None if name is None else known.get(same(name))
        if item is not None:
            found.places[item.key] = row.places["value"]
            if cell is not None:
                found.cells[item.key] = cell
                _put(found, item, cell, None, problems)
        elif name is not None:
            advice = hint(name, [item.heading for item in SETTINGS], few=99)
            place = row.places["setting"]
            problems.append(Problem(place, f"unknown setting{advice}", shown(name)))
    return found


class _Reader:
    """One sheet, read."""

    def __init__(self, sheet: Sheet, grid: Grid, problems: list[Problem]) -> None:
        self._sheet, self._grid, self._problems = sheet, grid, problems
        self._refused = {problem.place for problem in problems}
        """Places of cells that hold no value, which has been told."""
        self._fields: dict[int, Field] = {}
        self._times: dict[int, str] = {}
        self._table = SheetTable(sheet, grid.name)

    def table(self) -> SheetTable:
        """Return the rows of the sheet."""
        if not self._grid.rows:
            return self._table
        (number, headings), *body = self._grid.rows
        self._read_headings(number, headings)
        marks = {
            column: decimal_mark(
                _bare(cell.value).removesuffix("%").strip()
                for _, row in body
                if (cell := row.get(column)) is not None and isinstance(cell.value, str)
            )
            for column in [*self._fields, *self._times]
        }
        for line, cells in body:
            self._table.rows.append(self._row(line, cells, marks))
        return self._table

    def _report(self, place: str, message: str, value: str | None = None) -> None:
        self._problems.append(Problem(place, message, value))

    def _read_headings(self, number: int, headings: Mapping[int, GridCell]) -> None:
        known = {same(item.heading): item for item in self._sheet.fields}
        for column, cell in headings.items():
            item = known.get(same(cell.text))
            time = TIME.fullmatch(cell.text) if self._sheet.has_times else None
            if same(cell.text) == same(NOTES):
                continue
            if item is not None:
                unit = re.search(r"\[(.+)\]", cell.text)
                if unit is not None and unit[1].strip() != item.unit:
                    wanted = f"in {item.unit}" if item.unit else "without a unit"
                    self._report(
                        cell.place,
                        f"the numbers of this column are {wanted}: name it {item.heading!r}",
                        shown(cell.text),
                    )
                elif item in self._fields.values():
                    self._report(cell.place, "this column stands there twice", shown(cell.text))
                else:
                    self._fields[column] = item
            elif time is not None or self._sheet.is_wide:
                name = cell.text if time is None else time[1].strip()
                if name in self._table.headings:
                    self._report(cell.place, "this column stands there twice", shown(cell.text))
                else:
                    self._times[column] = name
                    self._table.headings[name] = cell.place
            else:
                names = [item.heading for item in self._sheet.fields]
                names += ["ms on TYPE"] if self._sheet.has_times else []
                advice = hint(cell.text, names, few=99)
                self._report(cell.place, f"unknown column{advice}", shown(cell.text))
        place = self._grid.place(number, min(headings))
        for item in self._sheet.fields:
            must_be_there = item.is_required or self._sheet.is_wide
            if must_be_there and item not in self._fields.values():
                self._report(place, f"the column {item.heading!r} is missing")

    def _row(
        self, line: int, cells: Mapping[int, GridCell], marks: Mapping[int, str | None]
    ) -> SheetRow:
        row = SheetRow({}, {}, {})
        first = self._grid.place(line, 0)
        row.places = {item.key: first for item in self._sheet.fields}
        for column, item in self._fields.items():
            row.places[item.key] = self._grid.place(line, column)
            cell = cells.get(column)
            if cell is not None:
                row.cells[item.key] = cell
                _put(row, item, cell, marks[column], self._problems)
            elif item.is_required:
                row.is_wrong = True
                if row.places[item.key] not in self._refused:
                    self._report(row.places[item.key], f"{item.heading} is required")
            else:
                row.is_wrong |= row.places[item.key] in self._refused
        for column, name in self._times.items():
            row.places[name] = self._grid.place(line, column)
            cell = cells.get(column)
            if cell is None:
                row.is_wrong |= row.places[name] in self._refused
                continue
            row.cells[name] = cell
            is_period = self._sheet.is_wide
            item = Field(name, name, "number", "", factor=1.0 if is_period else 1e-3)
            value = _number(item, cell, marks[column], self._problems)
            row.is_wrong |= value is None
            if value is not None:
                row.times[name] = value
        for column, cell in cells.items():
            is_beyond = column not in self._fields and column not in self._times
            if is_beyond and column not in self._grid.rows[0][1]:
                self._report(cell.place, "a value without a heading above it", shown(cell.value))
        return row


def _put(
    row: SheetRow, item: Field, cell: GridCell, mark: str | None, problems: list[Problem]
) -> None:
    """Read a cell into a row, or report what is wrong with it."""
    value: Value | None
    if item.kind == "name":
        value = _name(cell, problems)
    elif item.kind == "text":
        value = cell.text
    elif item.kind == "yes-no":
        value = _YES.get(cell.text.casefold())
        if value is None:
            problems.append(Problem(cell.place, "must be yes or no", shown(cell.value)))
    else:
        value = _number(item, cell, mark, problems)
    if value is None:
        row.is_wrong = True
    else:
        row.values[item.key] = value


def _name(cell: GridCell, problems: list[Problem]) -> str | None:
    """Return a name, or report why it is none."""
    name = cell.text
    wrong = _CONTROL.search(name)
    if wrong is not None:
        what = "'>'" if wrong[0] == ">" else "line break or other control character"
        problems.append(Problem(cell.place, f"a name holds no {what}", shown(name)))
        return None
    if len(name) > LONGEST_NAME:
        problems.append(
            Problem(cell.place, f"a name has at most {LONGEST_NAME} characters", shown(name))
        )
        return None
    return name


def _number(item: Field, cell: GridCell, mark: str | None, problems: list[Problem]) -> float | None:
    """Return a cell's number in the unit of an instance, or report why it is none."""
    value, advice = cell.value, ""
    if isinstance(value, str):
        text = value
        if item.kind == "money":
            text = _bare(text)
        is_percent = item.kind == "share" and text.endswith("%")
        found = read_written_number(text.removesuffix("%").strip() if is_percent else text, mark)
        if isinstance(found, str):
            advice = number_hint(value) or f"; write it in {item.unit}" * bool(item.unit)
            if re.fullmatch(r"[-+]?[1-9]\d{0,2}[.,]\d{3}", found):
                advice += "; no other cell of this column tells which of both it is"
            problems.append(Problem(cell.place, f"must be a number{advice}", shown(value)))
            return None
        value = found / 100.0 if is_percent else found
    message = _range_problem(item, value)
    if message is not None:
        problems.append(Problem(cell.place, message, shown(cell.value)))
        return None
    # A spreadsheet's 15 digits: 2.1 ms are 0.0021 s, not a hair more.
    return float(f"{value * item.factor:.15g}")


def _range_problem(item: Field, value: float) -> str | None:
    """Return what is wrong with the size of a number, None if nothing is."""
    if not math.isfinite(value):
        return "must be a finite number"
    if value < item.least or (item.is_above and value == item.least):
        return f"must be {'above' if item.is_above else 'at least'} {item.least:g}"
    if item.most is not None and value > item.most:
        if item.kind == "share":
            if 1.0 < value <= 100.0 and item.most == 1.0:
                return f"must be a share: write {value:g} %, or {value / 100.0:.10g}"
            return f"must be at most {100.0 * item.most:g} %"
        return f"must be at most {item.most:g}"
    if item.kind == "count" and value != math.floor(value):
        return "must be a whole number"
    if not is_in_range(abs(value) * item.factor):
        return f"must be {range_text()}" if item.factor == 1.0 else "is far too small or too large"
    return None


def _bare(value: str | float) -> str:
    """Return the text of an amount of money without its sign or code of a currency."""
    text = str(value).strip()
    bare = _CODE.sub("", text.strip(_SIGNS).strip())
    return bare.strip()


def check_currencies(
    tables: Mapping[str, SheetTable], currency: str | None, problems: list[Problem]
) -> None:
    """Report amounts with the sign or code of another currency than the first, or the plan's."""
    first: tuple[str, str] | None = None if currency is None else (currency, "the settings")
    for table in tables.values():
        money = [item.key for item in table.sheet.fields if item.kind == "money"]
        for row in table.rows:
            for cell in (row.cells[key] for key in money if key in row.cells):
                text = cell.text
                found = re.search(rf"[{_SIGNS}]|\b[A-Z]{{3}}\b", text)
                if found is None:
                    continue
                first = first or (found[0], cell.place)
                if not _is_same_currency(found[0], first[0]):
                    message = f"in another currency than {first[0]!r} of {first[1]}: convert it"
                    problems.append(Problem(cell.place, message, shown(text)))


def _is_same_currency(one: str, other: str) -> bool:
    """Tell whether two signs or codes can be of one currency."""
    if one == "$" or other == "$":
        code = other if one == "$" else one
        return code not in _CODES and not any(code in codes for codes in _CODES.values())
    return bool(_CODES.get(one, {one}) & _CODES.get(other, {other}))


def check_references(tables: Mapping[str, SheetTable], problems: list[Problem]) -> None:
    """Report rows that stand there twice, and names that no row of their sheet has."""
    names: dict[str, dict[str, str]] = {}
    for table in tables.values():
        keys = table.sheet.unique
        found: dict[tuple[str | None, ...], str] = {}
        for row in table.rows:
            key = tuple(row.text(k) for k in keys)
            place = row.places[keys[-1]]
            if key in found:
                what = "; give it a name of its own" if len(keys) == 1 else ""
                message = f"stands at {found[key]} already{what}"
                problems.append(Problem(place, message, shown(" -> ".join(map(str, key)))))
                row.is_wrong = True
            elif all(part is not None for part in key[: len(keys)]) or table.sheet.is_wide:
                found[key] = place
        if len(keys) == 1 and table.rows:
            names[table.sheet.name] = {key[0]: place for key, place in found.items() if key[0]}
    for table in tables.values():
        for item in table.sheet.fields:
            for row in table.rows if item.refers is not None else ():
                name = row.text(item.key)
                known = names.get(item.refers or "")
                if name is not None and known is not None and name not in known:
                    message = f"not in the sheet {item.refers!r}{hint(name, known)}"
                    problems.append(Problem(row.places[item.key], message, shown(name)))
                    row.is_wrong = True
    types = names.get("Device types")
    for table in tables.values():
        for name, place in table.headings.items() if table.sheet.has_times else ():
            if types is not None and name not in types:
                message = f"not in the sheet 'Device types'{hint(name, types)}"
                problems.append(Problem(place, message, shown(name)))
