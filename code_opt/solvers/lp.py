"""Linear programs in arrays, kept warm: one matrix, changing columns and rows."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt
from highspy import HighsModelStatus as Status

from code_opt.errors import SolverError
from code_opt.solvers.highs import new_highs, run_interruptible
from formulations.arrays import LinearArrays

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


_SOLVED = (Status.kOptimal, Status.kModelEmpty)
_INFEASIBLE = (Status.kInfeasible, Status.kUnboundedOrInfeasible)
_STOPPED = (Status.kTimeLimit, Status.kInterrupt)
_LARGEST = 1e14
"""HiGHS refuses coefficients from 1e15 on. In a row whose other numbers are near 1 a column with
such a coefficient is 0 within any tolerance, so what is larger is taken as this."""
_LARGEST_COST = 1e6
"""Objectives with larger numbers are scaled: dual feasibility has an absolute tolerance."""
_LARGEST_BOUND = 1e19
"""HiGHS takes bounds from 1e20 on as infinite."""
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

    def __init__(self, program: LinearArrays | None = None) -> None:
        """Set up a solver and hand a program to it, see :meth:`load` (default: one of nothing)."""
        self._highs = new_highs()
        self._highs.setOptionValue("primal_feasibility_tolerance", _TOLERANCE)
        self._highs.setOptionValue("presolve", "off")
        self._is_stoppable = False
        self._scale = 1.0
        if program is not None:
            self.load(program)

    def load(self, program: LinearArrays) -> None:
        """Replace the program by another one.

        Where many small programs are solved, setting up a solver for each costs as much as solving.

        Raises:
            SolverError: HiGHS refuses the numbers (infinite, or beyond what it can hold).
        """
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(program.cost), len(program.row_upper)
        self._scale = _scale_of(program.cost)
        lp.col_cost_ = -program.cost / self._scale
        lp.col_lower_, lp.col_upper_ = _finite(program.lower), _finite(program.upper)
        lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.asarray(program.indptr, dtype=np.int32)
        lp.a_matrix_.index_ = np.asarray(program.indices, dtype=np.int32)
        lp.a_matrix_.value_ = np.clip(program.data, -_LARGEST, _LARGEST)
        if self._highs.passModel(lp) == highspy.HighsStatus.kError:
            raise SolverError("HiGHS refuses the numbers of a linear program")

    def set_cost(self, cost: FloatArray) -> None:
        """Replace the objective."""
        columns = np.arange(len(cost), dtype=np.int32)
        self._scale = _scale_of(cost)
        self._highs.changeColsCost(len(cost), columns, -np.asarray(cost, dtype=float) / self._scale)

    def add_columns(
        self,
        cost: FloatArray,
        upper: FloatArray,
        starts: IntArray,
        rows: IntArray,
        data: FloatArray,
    ) -> None:
        """Add columns with lower bound 0; ``starts`` tells where the entries of each begin."""
        larger = _scale_of(np.asarray(cost))
        if larger > self._scale:
            known = np.array(self._highs.getLp().col_cost_) * (self._scale / larger)
            self._scale = larger
            self._highs.changeColsCost(len(known), np.arange(len(known), dtype=np.int32), known)
        self._highs.addCols(
            len(cost),
            -np.asarray(cost, dtype=float) / self._scale,
            np.zeros(len(cost)),
            upper,
            len(rows),
            np.asarray(starts, dtype=np.int32),
            np.asarray(rows, dtype=np.int32),
            np.clip(data, -_LARGEST, _LARGEST),
        )

    def add_rows(
        self, rhs: FloatArray, starts: IntArray, columns: IntArray, data: FloatArray
    ) -> None:
        """Add rows ``a x <= rhs``; ``starts`` tells where the entries of each begin."""
        self._highs.addRows(
            len(rhs),
            np.full(len(rhs), -np.inf),
            rhs,
            len(columns),
            np.asarray(starts, dtype=np.int32),
            np.asarray(columns, dtype=np.int32),
            np.clip(data, -_LARGEST, _LARGEST),
        )

    def delete_rows(self, rows: IntArray) -> None:
        """Remove rows; those behind them move up."""
        index = np.sort(rows).astype(np.int32)
        self._highs.deleteRows(len(index), index)

    def set_upper(self, columns: IntArray, upper: FloatArray) -> None:
        """Replace the upper bounds of columns whose lower bounds are 0."""
        index = np.asarray(columns, dtype=np.int32)
        self._highs.changeColsBounds(len(index), index, np.zeros(len(index)), upper)

    def set_bounds(self, column: int, lower: float, upper: float) -> None:
        """Replace the bounds of one column."""
        self._highs.changeColBounds(column, *_finite(np.array([lower, upper])).tolist())

    def set_row_bounds(self, row: int, lower: float, upper: float) -> None:
        """Replace the bounds of one row."""
        self._highs.changeRowBounds(row, lower, upper)

    def set_coefficient(self, row: int, column: int, value: float) -> None:
        """Replace one entry of the matrix."""
        self._highs.changeCoeff(row, column, min(max(value, -_LARGEST), _LARGEST))

    def limit_time(self, seconds: float | None, *, is_stoppable: bool = True) -> None:
        """Let every later solve stop after so many seconds, or when a stop is requested."""
        self._is_stoppable = is_stoppable
        limit = np.inf if seconds is None else self._highs.getRunTime() + max(seconds, 0.01)
        self._highs.setOptionValue("time_limit", limit)

    def solve(self) -> LpOutcome | None:
        """Return the optimum, or None where the program is infeasible or time is over.

        Raises:
            SolverError: HiGHS stopped for any other reason.
        """
        status = self._run()
        if status not in _SOLVED and status not in _STOPPED:
            # A warm start can end in numerical trouble, or in a wrong "infeasible": ask afresh,
            # and with presolve and looser tolerances before giving up.
            self._highs.clearSolver()
            status = self._run()
        if status in _STOPPED:
            return None
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
            value=-self._highs.getInfo().objective_function_value * self._scale,
            x=np.array(solution.col_value),
            row_dual=-np.array(solution.row_dual) * self._scale,
            column_dual=-np.array(solution.col_dual) * self._scale,
        )

    def _run(self) -> Status:
        if self._is_stoppable:
            run_interruptible(self._highs)
        else:  # a thread for each of thousands of small programs costs more than solving them
            self._highs.run()
        return self._highs.getModelStatus()


def _scale_of(cost: FloatArray) -> float:
    """Return what an objective is divided by: 1 unless it is so large that tolerances fail."""
    largest = float(np.abs(cost).max(initial=0.0))
    return largest if largest > _LARGEST_COST else 1.0


def _finite(bounds: FloatArray) -> FloatArray:
    """Return bounds, finite ones within what HiGHS takes as finite."""
    clipped = np.clip(bounds, -_LARGEST_BOUND, _LARGEST_BOUND)
    return np.asarray(np.where(np.isfinite(bounds), clipped, bounds))


class Polar:
    """Asks, again and again, whether a point lies in the convex hull of 0 and some points."""

    def __init__(self, largest: float = 1e3) -> None:
        """Take the largest coefficient of an answer."""
        self._largest = largest
        self._highs = new_highs()
        self._highs.setOptionValue("presolve", "off")

    def separate(self, points: FloatArray, target: FloatArray) -> tuple[float, FloatArray]:
        """Return max a @ target over all a with a @ v <= 1 for every point v, and an optimal a.

        More than 1 proves that the target lies outside, and ``a x <= 1`` cuts it off.

        Args:
            points: shape (n, k).
            target: shape (k,).

        Raises:
            SolverError: HiGHS stopped without an optimum.
        """
        n, k = points.shape
        row, column = np.nonzero(points)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = k, n
        lp.col_cost_ = -np.asarray(target, dtype=float)
        lp.col_lower_, lp.col_upper_ = np.full(k, -self._largest), np.full(k, self._largest)
        lp.row_lower_, lp.row_upper_ = np.full(n, -np.inf), np.ones(n)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.searchsorted(row, np.arange(n + 1)).astype(np.int32)
        lp.a_matrix_.index_ = column.astype(np.int32)
        lp.a_matrix_.value_ = points[row, column]
        self._highs.passModel(lp)
        self._highs.run()
        if self._highs.getModelStatus() != Status.kOptimal:
            raise SolverError("HiGHS could not separate a point")
        return -self._highs.getInfo().objective_function_value, np.array(
            self._highs.getSolution().col_value
        )
