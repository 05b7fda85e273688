"""Small linear programs in arrays, kept warm: one matrix, changing columns."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt
from highspy import HighsModelStatus as Status

from code_opt.errors import SolverError
from code_opt.solvers.highs import new_highs

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


_SOLVED = (Status.kOptimal, Status.kModelEmpty)
_INFEASIBLE = (Status.kInfeasible, Status.kUnboundedOrInfeasible)
_TOLERANCE = 1e-9
"""Primal feasibility, far inside the tolerance that results are checked with."""


@dataclass(frozen=True)
class LpOutcome:
    """An optimal solution: values of the columns, duals of the rows (d objective / d rhs)."""

    value: float
    x: FloatArray
    row_dual: FloatArray
    column_dual: FloatArray


class LinearProgram:
    """max c x subject to A x <= b, lower <= x <= upper; columns can be replaced in place."""

    def __init__(
        self,
        cost: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        indptr: IntArray,
        indices: IntArray,
        data: FloatArray,
        rhs: FloatArray,
        row_lower: FloatArray | None = None,
        instead_of: LinearProgram | None = None,
    ) -> None:
        """Build the program; the matrix is given by columns (compressed sparse column).

        Rows are ``A x <= rhs``; with ``row_lower``, ``row_lower <= A x <= rhs``.
        A program given as ``instead_of`` is replaced and must not be used again: where many
        small ones are solved, setting up the solver costs as much as solving.
        """
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(cost), len(rhs)
        lp.col_cost_ = -np.asarray(cost, dtype=float)
        lp.col_lower_, lp.col_upper_ = lower, upper
        lp.row_lower_ = np.full(len(rhs), -np.inf) if row_lower is None else row_lower
        lp.row_upper_ = rhs
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.asarray(indptr, dtype=np.int32)
        lp.a_matrix_.index_ = np.asarray(indices, dtype=np.int32)
        lp.a_matrix_.value_ = data
        if instead_of is None:
            self._highs = new_highs()
            self._highs.setOptionValue("primal_feasibility_tolerance", _TOLERANCE)
            self._highs.setOptionValue("presolve", "off")
        else:
            self._highs = instead_of._highs
        self._highs.passModel(lp)

    def set_cost(self, cost: FloatArray) -> None:
        """Replace the objective."""
        columns = np.arange(len(cost), dtype=np.int32)
        self._highs.changeColsCost(len(cost), columns, -np.asarray(cost, dtype=float))

    def add_columns(
        self,
        cost: FloatArray,
        upper: FloatArray,
        starts: IntArray,
        rows: IntArray,
        data: FloatArray,
    ) -> None:
        """Add columns with lower bound 0; ``starts`` tells where the entries of each begin."""
        self._highs.addCols(
            len(cost),
            -np.asarray(cost, dtype=float),
            np.zeros(len(cost)),
            upper,
            len(rows),
            np.asarray(starts, dtype=np.int32),
            np.asarray(rows, dtype=np.int32),
            data,
        )

    def delete_columns(self, columns: IntArray) -> None:
        """Remove columns; those behind them move up."""
        index = np.sort(columns).astype(np.int32)
        self._highs.deleteCols(len(index), index)

    def set_upper(self, columns: IntArray, upper: FloatArray) -> None:
        """Replace the upper bounds of columns whose lower bounds are 0."""
        index = np.asarray(columns, dtype=np.int32)
        self._highs.changeColsBounds(len(index), index, np.zeros(len(index)), upper)

    def set_bounds(self, column: int, lower: float, upper: float) -> None:
        """Replace the bounds of one column."""
        self._highs.changeColBounds(column, lower, upper)

    def set_row_bounds(self, row: int, lower: float, upper: float) -> None:
        """Replace the bounds of one row."""
        self._highs.changeRowBounds(row, lower, upper)

    def set_coefficient(self, row: int, column: int, value: float) -> None:
        """Replace one entry of the matrix."""
        self._highs.changeCoeff(row, column, value)

    def set_column(
        self, column: int, cost: float, upper: float, rows: list[int], values: list[float]
    ) -> None:
        """Replace objective, upper bound and entries of one column (lower bound 0)."""
        self._highs.changeColCost(column, -cost)
        self._highs.changeColBounds(column, 0.0, upper)
        for row, value in zip(rows, values, strict=True):
            self._highs.changeCoeff(row, column, value)

    def solve(self) -> LpOutcome | None:
        """Return the optimum, or None where the program is infeasible.

        Raises:
            SolverError: HiGHS stopped for any other reason.
        """
        status = self._run()
        if status not in _SOLVED:
            # A warm start can end in numerical trouble, or in a wrong "infeasible": ask afresh,
            # and with presolve and looser tolerances before giving up.
            self._highs.clearSolver()
            status = self._run()
        if status not in _SOLVED and status not in _INFEASIBLE:
            self._highs.clearSolver()
            self._highs.setOptionValue("presolve", "on")
            self._highs.setOptionValue("primal_feasibility_tolerance", 1e-7)
            status = self._run()
            self._highs.setOptionValue("presolve", "off")
            self._highs.setOptionValue("primal_feasibility_tolerance", _TOLERANCE)
        if status in _INFEASIBLE:
            return None
        if status not in _SOLVED:
            raise SolverError(f"HiGHS stopped with: {self._highs.modelStatusToString(status)}")
        solution = self._highs.getSolution()
        return LpOutcome(
            value=-self._highs.getInfo().objective_function_value,
            x=np.array(solution.col_value),
            row_dual=-np.array(solution.row_dual),
            column_dual=-np.array(solution.col_dual),
        )

    def _run(self) -> Status:
        self._highs.run()
        return self._highs.getModelStatus()
