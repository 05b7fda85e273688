"""The small warm linear programs: trouble is asked about again before it is believed."""

from __future__ import annotations

import numpy as np
import pytest
from highspy import HighsModelStatus as Status

from code_opt.errors import SolverError
from code_opt.solvers import LinearProgram


def program():
    """max x + 2 y, x + y <= 1, both in [0, 1]: optimum 2 at (0, 1)."""
    return LinearProgram(
        cost=np.array([1.0, 2.0]),
        lower=np.zeros(2),
        upper=np.ones(2),
        indptr=np.array([0, 1, 2]),
        indices=np.array([0, 0]),
        data=np.ones(2),
        rhs=np.ones(1),
    )


def test_value_solution_and_duals():
    outcome = program().solve()
    assert outcome.value == pytest.approx(2.0)
    assert outcome.x == pytest.approx([0.0, 1.0])
    assert outcome.row_dual[0] >= 1.0


def test_infeasible_is_none_and_can_be_mended():
    lp = program()
    lp.set_bounds(0, 2.0, 2.0)
    assert lp.solve() is None
    lp.set_bounds(0, 0.5, 1.0)
    assert lp.solve().value == pytest.approx(1.5)


def test_columns_can_be_added():
    lp = program()
    two = np.array([2.0, 3.0]), np.array([1.0, 0.25])
    lp.add_columns(*two, np.array([0, 1]), np.array([0, 0]), np.array([2.0, 0.5]))
    # The last column is worth 6 per unit of the row, the second one 2, the others 1.
    outcome = lp.solve()
    assert outcome.value == pytest.approx(3.0 * 0.25 + 2.0 * 0.875)
    assert outcome.x == pytest.approx([0.0, 0.875, 0.0, 0.25])


def test_another_program_can_be_loaded_into_the_same_solver():
    lp = program()
    lp.solve()
    two, rows = np.array([1.0, 2.0]), np.array([0, 0])
    lp.load(two, np.zeros(2), np.ones(2), np.array([0, 1, 2]), rows, np.ones(2), np.array([1.5]))
    assert lp.solve().value == pytest.approx(2.5)


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_numerical_trouble_is_asked_about_again(monkeypatch, failures):
    real, seen = LinearProgram._run, []

    def troubled(self):
        seen.append(1)
        status = real(self)
        return Status.kUnknown if len(seen) <= failures else status

    monkeypatch.setattr(LinearProgram, "_run", troubled)
    if failures < 3:
        assert program().solve().value == pytest.approx(2.0)
    else:
        with pytest.raises(SolverError, match="HiGHS stopped with"):
            program().solve()
