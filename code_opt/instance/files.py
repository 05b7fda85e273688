"""Instance files: JSON, YAML, and folders of CSV tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from code_opt.errors import InputError, NotTextError
from code_opt.files import MAX_BYTES, read_text, write_atomically
from code_opt.instance.cells import Cells, CellsError, decimal_mark, read_cells, read_number
from code_opt.instance.model import Instance
from code_opt.instance.problems import (
    InstanceError,
    Location,
    Problem,
    YamlError,
    hint,
    place_of,
)
from code_opt.instance.rules import parse
from code_opt.instance.structure import collection_paused
from code_opt.instance.tables import (
    COLUMNS,
    REQUIRED_TABLES,
    TEXTS,
    Nested,
    Row,
    Rows,
    columns_of,
    flatten,
    header_problems,
    is_column,
    saved,
)

_QUOTED = re.compile(r'[",\r\n]|^\s|\s$')
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_OPTIONAL_TABLES = ("links", "connections", "measured_paths", "alternatives")
_OWN_SCHEMA = re.compile(r"""["']?schema["']?\s*:\s*["']?code-opt/instance/""")

INSTANCE_FILE = "instance.json"
"""The file that makes a folder without tables, such as one of ``profile``, an instance."""


def instance_file(path: Path) -> Path:
    """Return the file that holds an instance: ``instance.json`` of a folder without tables.

    Everything else, a folder of CSV tables too, is returned as it is.
    """
    file = path / INSTANCE_FILE
    return path if _has_tables(path) or not file.is_file() else file


def bundle_folder(instance: Instance, path: Path) -> Path | None:
    """Return the folder of the bundle that an instance names, None where it names none.

    Args:
        instance: the instance.
        path: its file (or folder), which the bundle lies beside.

    Raises:
        InputError: it leads out of the instance's folder.
    """
    if instance.bundle is None:
        return None
    home = (path if path.is_dir() else path.parent).resolve()
    folder = (home / instance.bundle).resolve()
    if not folder.is_relative_to(home):
        raise InputError(f"{path}: bundle {instance.bundle!r} leads out of the instance's folder")
    return folder


def is_instance_folder(path: Path) -> bool:
    """Tell whether a folder is one instance: it holds a required table or ``instance.json``."""
    return _has_tables(path) or (path / INSTANCE_FILE).is_file()


def is_instance(path: Path) -> bool:
    """Tell whether a file claims to be an instance, or a folder is one; errors count as no."""
    if path.is_dir():
        return is_instance_folder(path)
    try:
        return _OWN_SCHEMA.search(read_text(path)) is not None
    except InputError:
        return False


def left_out(path: Path) -> list[Path]:
    """Return the other instances beside ``instance.json`` of a folder that stands for it."""
    file = instance_file(path)
    if file == path:
        return []
    beside = sorted(p for p in path.iterdir() if p.suffix.lower() in (".json", ".yaml", ".yml"))
    return [p for p in beside if p != file and is_instance(p)]


def _has_tables(folder: Path) -> bool:
    required = {f"{table}.csv" for table in REQUIRED_TABLES}
    try:
        return any(p.name.lower() in required and p.is_file() for p in folder.iterdir())
    except OSError:  # no folder, or one that nobody may read: trying to will say why
        return False


def load_instance(path: str | os.PathLike[str]) -> Instance:
    """Read an instance: a JSON or YAML file (``.yaml``, ``.yml``), or a folder.

    A folder holds CSV tables or, without any that is required, ``instance.json``.

    Raises:
        InstanceError: the content is wrong; its ``problems`` lists everything at once.
        InputError: the file is missing, unreadable, too large or not text.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = instance_file(path)
    if os.path.isdir(path):
        with collection_paused():
            return _load_folder(path)
    if path.suffix.lower() == ".csv":
        raise InputError(f"{path}: one table is no instance; give the folder of all CSV tables")
    if path.suffix.lower() in _WORKBOOKS and path.is_file():
        raise InputError(
            f"{path}: a workbook is not read; save every sheet as CSV UTF-8 into one folder "
            "(servers.csv, tasks.csv, ...) and give the folder"
        )
    return instance_of(read_text(path), str(path), path.suffix.lower() in (".yaml", ".yml"))


def instance_of(text: str, source: str, is_yaml: bool) -> Instance:
    """Return the instance that a JSON or YAML text holds.

    Args:
        text: the whole file.
        source: what it came from, for messages.
        is_yaml: whether it is YAML.

    Raises:
        InstanceError: the content is wrong; its ``problems`` lists everything at once.
    """
    if not text.strip():
        raise InstanceError(source, [Problem("file", "the file is empty")])
    try:
        with collection_paused():
            data, problems = _read_yaml(text) if is_yaml else _read_json(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        problem = Problem(place, f"not JSON: {error.msg}")
    except YamlError as error:
        problem = error.problem
    except RecursionError:
        problem = Problem("file", "nested too deeply")
    except ValueError:
        problem = Problem("file", "an integer has thousands of digits")
    else:
        return parse(Instance, data, source, earlier=problems)
    raise InstanceError(source, [problem])


def save_instance(instance: Instance, path: str | os.PathLike[str]) -> None:
    """Write an instance whole or not at all; reading it again gives an equal instance.

    The suffix decides: ``.json``, ``.yaml`` or ``.yml``; without one, a folder of CSV
    tables. In a folder that is there already, the tables of an instance are replaced and
    everything else is left alone.

    Raises:
        InputError: another suffix, or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if os.path.isdir(path) or not suffix:
        _save_folder(instance, path)
    elif suffix == ".json":
        write_atomically(path, _json_text(saved(instance.to_dict())) + "\n")
    elif suffix in (".yaml", ".yml"):
        from code_opt.instance.yaml_text import write_yaml

        write_atomically(path, write_yaml(saved(instance.to_dict())))
    else:
        raise InputError(
            f"{path}: an instance is written to .json, .yaml or .yml, "
            "or without a suffix as a folder of CSV tables"
        )


def _read_yaml(text: str) -> tuple[Any, list[Problem]]:
    from code_opt.instance.yaml_text import read_yaml  # PyYAML is for this alone

    return read_yaml(text)


# JSON


class _Repeated(dict[str, Any]):
    """An object that gives a field twice."""

    fields: tuple[str, ...] = ()


def _read_json(text: str) -> tuple[Any, list[Problem]]:
    """Return JSON data, and the fields that it gives twice."""
    found: list[_Repeated] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) == len(pairs):
            return data
        repeated = _Repeated(data)
        names = [name for name, _ in pairs]
        repeated.fields = tuple(name for name in data if names.count(name) > 1)
        found.append(repeated)
        return repeated

    data = json.loads(text, object_pairs_hook=build)
    return data, _repeated_fields(data) if found else []


def _repeated_fields(data: Any) -> list[Problem]:
    problems = []
    waiting: list[tuple[Location, Any]] = [((), data)]
    while waiting:
        location, value = waiting.pop()
        if isinstance(value, _Repeated):
            message = "this field stands there twice"
            problems += [Problem(place_of((*location, n)), message) for n in value.fields]
        if isinstance(value, dict):
            waiting += reversed([((*location, key), item) for key, item in value.items()])
        elif isinstance(value, list):
            waiting += reversed([((*location, i), item) for i, item in enumerate(value)])
    return problems


def _json_text(value: Any, indent: str = "") -> str:
    """Return JSON text with one record per line, so that files can be read and compared."""
    deeper = indent + "  "
    if isinstance(value, dict) and not all(map(_is_short, value.values())):
        items = [f"{json.dumps(key)}: {_json_text(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}}}"
    if isinstance(value, list) and not all(map(_is_scalar, value)):
        items = [_json_text(item, deeper) for item in value]
        return "[\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (dict, list))


def _is_short(value: Any) -> bool:
    return _is_scalar(value) or (isinstance(value, list) and all(map(_is_scalar, value)))


# CSV


def _load_folder(folder: Path) -> Instance:
    source = str(folder)
    problems: list[Problem] = []
    rows: Rows = {}
    missing: set[tuple[str, str]] = set()
    names = _csv_files(folder)
    misspelt = set()
    for name in names:
        table = name.lower().removesuffix(".csv")
        if table in COLUMNS and name != f"{table}.csv":
            misspelt.add(table)
            message = f"names of tables are in small letters: name it {table}.csv"
            problems.append(Problem(name, message))
        elif table not in COLUMNS:
            message = f"no such table{hint(table, COLUMNS, few=99)}"
            if "known:" in message:
                message += "; keep other tables elsewhere"
            problems.append(Problem(name, message))
    for table in COLUMNS:
        path = folder / f"{table}.csv"
        if table in misspelt:
            continue
        if not os.path.lexists(path):
            if table in REQUIRED_TABLES:
                problems.append(Problem(path.name, "this table is required"))
            continue
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            problems.append(Problem(path.name, "a link to a file outside of the folder"))
            continue
        try:
            rows[table] = _read_table(table, _read_cells(path), problems, missing)
        except _TableError as error:
            problems.append(error.problem)
    if problems and not set(REQUIRED_TABLES) <= rows.keys():
        raise InstanceError(source, problems)
    nested = Nested(rows, ".csv", missing)
    if "instance" not in rows:
        # Names of folders can be bytes that are no text.
        name = os.path.basename(os.path.realpath(folder))[:200].encode(errors="replace").decode()
        nested.data["name"] = name
    problems += nested.problems()
    return parse(Instance, nested.data, source, nested.locate, problems, nested.is_known)


class _TableError(Exception):
    """A CSV file that cannot be read as a table at all."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(place, message)
        self.problem = Problem(place, message)


def _csv_files(folder: Path) -> list[str]:
    """Return the names of the CSV files of a folder."""
    try:
        return sorted(p.name for p in folder.iterdir() if p.suffix.lower() == ".csv")
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _read_cells(path: Path) -> Cells:
    """Return the cells of a CSV file, at least one row."""
    try:
        text = read_text(path, newline="")
    except NotTextError as error:
        raise InputError(f"{error}; save it as CSV UTF-8") from None
    try:
        cells = read_cells(text, MAX_BYTES)
    except CellsError as error:
        raise _TableError(f"{path.name}:{error.line}", error.message) from None
    if not cells.rows:
        raise _TableError(path.name, "the file is empty; its first row must name the columns")
    return cells


def _read_table(
    table: str,
    cells: Cells,
    problems: list[Problem],
    missing: set[tuple[str, str]],
) -> list[tuple[int, Row]]:
    """Return the rows of one table as records without their empty cells."""
    (first, _), *body = cells.rows
    header = cells.columns
    place = f"{table}.csv:{first}"
    problems += header_problems(table, place, header, missing)
    rows = []
    marks = {
        column: decimal_mark(row[i] for _, row in body if i < len(row))
        for i, column in enumerate(header)
        if cells.separator != "," and column not in TEXTS
    }
    for line, row in body:
        wrong = cells.width_problem(row, len(header))
        if wrong is not None:
            problems.append(Problem(f"{table}.csv:{line}", wrong))
        record = {
            column: cell
            if column in TEXTS
            else read_number(cell, cells.separator, marks.get(column))
            # backwards, so that of a column that stands there twice the first one counts
            for column, cell in reversed(list(zip(header, row, strict=False)))
            if cell and is_column(table, column)
        }
        rows.append((line, record))
    return rows


def _save_folder(instance: Instance, folder: Path) -> None:
    files = {
        table: _csv_text(columns_of(table, rows), rows)
        for table, rows in flatten(saved(instance.to_dict())).items()
        if rows or table not in _OPTIONAL_TABLES
    }
    there = os.path.isdir(folder)
    stage: Path | None = None
    try:
        stage = Path(
            tempfile.mkdtemp(dir=folder if there else folder.parent, prefix=f".{folder.name}.")
        )
        for table, text in files.items():
            write_atomically(stage / f"{table}.csv", text)
        if there:
            for table in COLUMNS:
                if table in files:
                    os.replace(stage / f"{table}.csv", folder / f"{table}.csv")
                else:
                    (folder / f"{table}.csv").unlink(missing_ok=True)
        else:
            # mkdtemp made it private; the new folder gets the usual rights.
            probe = stage / "rights"
            probe.mkdir()
            stage.chmod(probe.stat().st_mode & 0o777)
            probe.rmdir()
            os.rename(stage, folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: cannot be written: {reason}") from None
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)


def _csv_text(columns: tuple[str, ...], rows: list[Row]) -> str:
    lines = [",".join(columns)]
    lines += [",".join([_cell(row.get(column)) for column in columns]) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)  # the shortest text that reads back as the same number
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
