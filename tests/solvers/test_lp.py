"""The small warm linear programs: trouble is asked about again before it is believed."""

from __future__ import annotations

import numpy as np
import pytest
from highspy import HighsModelStatus as Status

from code_opt.errors import SolverError
from code_opt.solvers import LinearProgram
from formulations.arrays import ArrayProgram


def arrays(capacity=1.0):
    """max x + 2 y, x + y <= capacity, both in [0, 1]; at 1 the optimum is 2 at (0, 1)."""
    program = ArrayProgram()
    columns = program.variables("x", 2, upper=1.0, cost=np.array([1.0, 2.0]))
    program.add(program.constraints("capacity", 1, -np.inf, capacity), columns, 1.0)
    return program.arrays()


def program():
    return LinearProgram(arrays())


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
    lp.load(arrays(capacity=1.5))
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
