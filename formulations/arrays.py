"""Linear programs stated in arrays, block by block.

Searches solve thousands of small programs, and column generation adds columns by the thousand;
stating those in Pyomo, term by term, takes longer than solving them. So these programs are stated
as arrays: a block of variables or rows per name, and the entries between them, each in a function
named after its constraint with the formula as docstring, as everywhere in this folder.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

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
        bounds = (np.broadcast_to(np.asarray(v, dtype=float), count) for v in (cost, lower, upper))
        self._variables.append(tuple(bounds))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def constraints(
        self, name: str, count: int, lower: FloatArray | float, upper: FloatArray | float
    ) -> IntArray:
        """Add a block of rows; return their numbers."""
        self.row_names += [f"{name}[{i}]" for i in range(count)] if self._is_named else []
        bounds = (np.broadcast_to(np.asarray(v, dtype=float), count) for v in (lower, upper))
        self._rows.append(tuple(bounds))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def add(
        self, rows: IntArray | int, columns: IntArray | int, values: FloatArray | float
    ) -> None:
        """Add entries, elementwise; those of the same place add up."""
        self._entries.append(tuple(np.broadcast_arrays(rows, columns, values)))

    def arrays(self) -> LinearArrays:
        """Return the program; entries of 0 are left out."""
        cost, lower, upper = (np.concatenate(part) for part in zip(*self._variables, strict=True))
        row_lower, row_upper = (np.concatenate(part) for part in zip(*self._rows, strict=True))
        row, column, value = (
            np.concatenate([np.ravel(part) for part in parts])
            for parts in zip(*self._entries, strict=True)
        )
        matrix = coo_array((value, (row, column)), shape=(self.rows, self.columns)).tocsc()
        matrix.eliminate_zeros()
        return LinearArrays(
            cost, lower, upper, matrix.indptr, matrix.indices, matrix.data, row_upper, row_lower
        )
