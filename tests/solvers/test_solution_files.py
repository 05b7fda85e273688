"""Solution files of other solvers: what is read, and what is said of those without a solution."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_opt.errors import InputError
from code_opt.solvers import read_solution

HIGHS = """Model status
Optimal

# Primal solution values
Feasible
Objective 3.5
Objective_bound 3.5
MIP_rel_gap 0
# Columns 2
x 1
y -0
# Rows 1
row 1

# Dual solution values
None
"""
SCIP = """solution status: optimal solution found
objective value:                                  3.5
x                                                   1 \t(obj:1)
"""


@pytest.mark.parametrize(("text", "values"), [(HIGHS, {"x": 1.0, "y": 0.0}), (SCIP, {"x": 1.0})])
def test_variables_and_objective_are_read(tmp_path: Path, text: str, values: object) -> None:
    file = tmp_path / "model.sol"
    file.write_text(text)
    found = read_solution(file)
    assert found.values == values
    assert found.objective == 3.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Model status\nInfeasible\n\n# Primal solution values\nNone\n",
            "holds no solution; its solver says: Model status Infeasible",
        ),
        (
            "Model status\nPrimal infeasible or unbounded\n",
            "holds no solution; its solver says: Model status Primal infeasible or unbounded",
        ),
        (
            "solution status: infeasible\nno solution available\n",
            "holds no solution; its solver says: solution status: infeasible",
        ),
        ("no solution available\n", "holds no solution; its solver says: no solution available"),
        ("", "no line has a name and a value, as HiGHS (style 0) and SCIP write solutions"),
        ("<xml>\n", "no line has a name and a value, as HiGHS (style 0) and SCIP write solutions"),
        ("x 1\ny 0\nx 1\n", "line 3: x has a value already"),
    ],
)
def test_a_file_without_a_solution_says_so(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "model.sol"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_solution(file)
    assert str(caught.value) == f"{file}: {message}"
