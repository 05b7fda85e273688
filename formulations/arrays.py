"""Linear programs stated in arrays, block by block.

Searches solve thousands of small programs, and column generation adds columns by the thousand;
stating those in Pyomo, term by term, takes longer than solving them. So these programs are stated
as arrays: a block of variables or rows per name, and the entries between them, each in a function
named after its constraint with the formula as docstring, as everywhere in this folder.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class LinearArrays(NamedTuple):
    """max cost x subject to row_lower <= A x <= row_upper, lower <= x <= upper; A by columns."""

    cost: FloatArray
    lower: FloatArray
    upper: FloatArray
    indptr: IntArray
    indices: IntArray
    data: FloatArray
    row_upper: FloatArray
    row_lower: FloatArray


class ArrayProgram:
    """A linear program in the making: blocks of variables and rows, and entries between them."""

    def __init__(self, is_named: bool = False) -> None:
        """Start with nothing; with ``is_named`` rows and columns keep their names for people."""
        self.columns = self.rows = 0
        self.column_names: list[str] = []
        self.row_names: list[str] = []
        self._is_named = is_named
        self._variables: list[tuple[FloatArray, ...]] = []
        self._rows: list[tuple[FloatArray, ...]] = []
        self._entries: list[tuple[npt.NDArray[np.generic], ...]] = []

    def variables(
        self,
        name: str,
        count: int,
        *,
        lower: FloatArray | float = 0.0,
        upper: FloatArray | float = np.inf,
        cost: FloatArray | float = 0.0,
    ) -> IntArray:
        """Add a block of variables; return their columns."""
        self.column_names += [f"{name}[{i}]" for i in range(count)] if self._is_named else []
        self._variables.append(
            tuple(_filled(v, (count,), np.float64) for v in (cost, lower, upper))
        )
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def constraints(
        self, name: str, count: int, lower: FloatArray | float, upper: FloatArray | float
    ) -> IntArray:
        """Add a block of rows; return their numbers."""
        self.row_names += [f"{name}[{i}]" for i in range(count)] if self._is_named else []
        self._rows.append(tuple(_filled(v, (count,), np.float64) for v in (lower, upper)))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def add(
        self, rows: IntArray | int, columns: IntArray | int, values: FloatArray | float
    ) -> None:
        """Add entries, elementwise; those of the same place add up."""
        shape = np.broadcast(rows, columns, values).shape
        self._entries.append(tuple(_filled(v, shape).ravel() for v in (rows, columns, values)))

    def arrays(self) -> LinearArrays:
        """Return the program; entries of 0 are left out."""
        cost, lower, upper = (np.concatenate(part) for part in zip(*self._variables, strict=True))
        row_lower, row_upper = (np.concatenate(part) for part in zip(*self._rows, strict=True))
        row, column, value = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        indptr, indices, data = _by_columns(row, column, value, self.rows, self.columns)
        return LinearArrays(cost, lower, upper, indptr, indices, data, row_upper, row_lower)


def _filled(
    value: npt.ArrayLike, shape: tuple[int, ...], dtype: type[np.generic] | None = None
) -> npt.NDArray[Any]:
    """Return a value as an array of that shape (numpy's broadcasting of scalars takes longer)."""
    array = np.asarray(value, dtype=dtype)
    if array.shape == shape:
        return array
    return np.broadcast_to(array, shape) if array.ndim else np.full(shape, array)


def _by_columns(
    row: IntArray, column: IntArray, value: FloatArray, rows: int, columns: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return a matrix by columns: starts, rows and values, without entries of 0.

    For programs of some hundred entries, and thousands of them, scipy's conversion takes longer
    than all else that states them.
    """
    used = np.flatnonzero(value)
    place = column[used] * rows + row[used]
    order = np.argsort(place, kind="stable")
    place, value = place[order], value[used][order]
    first = np.flatnonzero(np.diff(place, prepend=-1))
    if len(first) < len(place):
        value, place = np.add.reduceat(value, first), place[first]
    column, row = np.divmod(place, max(rows, 1))
    return np.searchsorted(column, np.arange(columns + 1)), row, value
