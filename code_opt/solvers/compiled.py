"""Compile a linear Pyomo model into arrays, keeping the way back to its variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import pyomo.core as pyo
import scipy.sparse  # noqa: F401 (Pyomo's compiler loads it on its first use: load it here)
from pyomo.core.expr.numeric_expr import LinearExpression
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

FloatArray = npt.NDArray[np.float64]


class CompiledModel:
    """A maximisation in the arrays that HiGHS takes (which minimises: costs are negated)."""

    def __init__(self, model: pyo.ConcreteModel) -> None:
        form = LinearStandardFormCompiler().write(model, mixed_form=True, set_sense=pyo.minimize)
        self.variables: list[Any] = list(form.columns)
        self.index = {id(var): i for i, var in enumerate(self.variables)}
        self.row_index = {id(row.constraint): i for i, row in enumerate(form.rows)}
        n, m = len(self.variables), len(form.rows)
        kinds = np.array([row.bound_type for row in form.rows], dtype=int)
        rhs = np.asarray(form.rhs, dtype=float)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = n, m
        lp.col_cost_ = np.asarray(form.c.todense(), dtype=float).ravel()
        lp.offset_ = float(form.c_offset[0])
        lp.col_lower_ = np.array([_bound(var.lb, -np.inf) for var in self.variables])
        lp.col_upper_ = np.array([_bound(var.ub, np.inf) for var in self.variables])
        matrix = form.A.tocsc(copy=True)
        less, more = _drop_tiny(matrix, np.array(lp.col_lower_), np.array(lp.col_upper_))
        lp.row_lower_ = np.where(kinds <= 0, rhs - more, -np.inf)
        lp.row_upper_ = np.where(kinds >= 0, rhs - less, np.inf)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = matrix.indptr
        lp.a_matrix_.index_ = matrix.indices
        lp.a_matrix_.value_ = matrix.data
        self.is_integer = np.array([not var.is_continuous() for var in self.variables])
        kind = {
            True: highspy.HighsVarType.kInteger,
            False: highspy.HighsVarType.kContinuous,
        }
        lp.integrality_ = [kind[bool(flag)] for flag in self.is_integer]
        self.lp = lp

    def row(self, constraint: Any) -> tuple[float, float, np.ndarray, np.ndarray]:
        """Return (lower, upper, column indices, coefficients) of a linear constraint."""
        body = constraint.body
        if not isinstance(body, LinearExpression):
            raise TypeError("a constraint added later must be one LinearExpression")
        index = np.array([self.index[id(v)] for v in body.linear_vars], dtype=np.int32)
        return (
            _bound(constraint.lb, -np.inf) - body.constant,
            _bound(constraint.ub, np.inf) - body.constant,
            index,
            np.array(body.linear_coefs, dtype=float),
        )

    def load(self, values: Sequence[float]) -> None:
        """Write column values into the model's variables (integers rounded)."""
        for var, value, integer in zip(
            self.variables, values, self.is_integer.tolist(), strict=True
        ):
            var.set_value(round(value) if integer else value, skip_validation=True)

    def objective(self, values: Sequence[float]) -> float:
        """Return the (minimised) objective of column values."""
        return float(self.lp.col_cost_ @ np.asarray(values) + self.lp.offset_)

    def values(self) -> np.ndarray:
        """Return the variables' present values by column; unset ones are 0."""
        return np.array([0.0 if v.value is None else float(v.value) for v in self.variables])


TINY = 1e-9
"""HiGHS ignores coefficients of this size and below (its option ``small_matrix_value``)."""


def _drop_tiny(matrix: Any, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Drop coefficients that the solver would ignore; return what they add to each row.

    A bound of the program must hold for the rows as they are. So the rows are widened by the
    least and the most that the dropped terms can be, shape (rows,) each.

    Args:
        matrix: compressed by columns; changed in place.
        lower: bounds of the columns.
        upper: the same.
    """
    rows = matrix.shape[0]
    column = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    tiny = np.abs(matrix.data) <= TINY
    # A variable without bounds keeps its term: the solver is left to see what it makes of it.
    tiny &= np.isfinite(lower[column]) & np.isfinite(upper[column])
    ends = matrix.data[tiny, None] * np.column_stack((lower, upper))[column[tiny]]
    less, more = np.zeros(rows), np.zeros(rows)
    np.add.at(less, matrix.indices[tiny], ends.min(axis=1, initial=np.inf))
    np.add.at(more, matrix.indices[tiny], ends.max(axis=1, initial=-np.inf))
    matrix.data[tiny] = 0.0
    matrix.eliminate_zeros()
    return less, more


def _bound(value: float | None, default: float) -> float:
    return default if value is None else float(value)
