"""Plans as files for other programs: CSV, Parquet, and a workbook."""

from __future__ import annotations

import io
from pathlib import Path

from code_opt.errors import InputError
from code_opt.files import write_atomically
from code_opt.planning.plan import Plan, Table
from code_opt.planning.workbook import workbook


def export_tables(
    plan: Plan, folder: str | Path, stem: str, *, parquet: bool = True, xlsx: bool = False
) -> list[Path]:
    """Write the tables of a plan as files named ``stem.TABLE.csv`` and so on.

    Args:
        plan: what to write.
        folder: an existing folder.
        stem: begin of all names; no folders in it.
        parquet: also as Parquet files, with units and descriptions in their metadata.
        xlsx: also as one workbook ``stem.xlsx`` with an overview, and a sheet per table.

    Returns:
        The files written.

    Raises:
        InputError: a file cannot be written, or a library that is needed is not installed.
    """
    folder = Path(folder)
    written: dict[Path, str | bytes] = {}
    for table in plan.tables_:
        written[folder / f"{stem}.{table.name}.csv"] = table.csv()
        if parquet:
            written[folder / f"{stem}.{table.name}.parquet"] = _parquet(table)
    if xlsx:
        written[folder / f"{stem}.xlsx"] = workbook(plan)
    for path, content in written.items():
        write_atomically(path, content)
    return list(written)


def can_write_parquet() -> bool:
    """Tell whether the library for Parquet files is installed."""
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def _parquet(table: Table) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("Parquet files need pyarrow: pip install 'code-opt[tables]'") from None
    kinds = {
        "number": pa.float64(),
        "integer": pa.int64(),
        "text": pa.string(),
        "boolean": pa.bool_(),
    }
    fields, arrays = [], []
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        if column.type == "number":
            cells = [None if cell is None else float(cell) for cell in cells]
        about = {"unit": column.unit or "", "description": column.description}
        fields.append(pa.field(column.name, kinds[column.type], metadata=about))
        arrays.append(pa.array(cells, type=kinds[column.type]))
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=pa.schema(fields)), sink)
    return sink.getvalue()
