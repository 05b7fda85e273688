"""The HiGHS session: living rows, fixed binaries, limits, failures, no chatter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import highspy
import pyomo.environ as pyo
import pytest

from code_opt.errors import InputError, SolverError
from code_opt.solvers import (
    MipOutcome,
    Termination,
    available_solvers,
    open_session,
    write_model,
)
from code_opt.solvers.highs import _TIGHTEST_TOLERANCE, HighsSession, new_highs
from formulations.parts import weighted

ROOT = Path(__file__).resolve().parents[2]


def knapsack(values=(5.0, 4.0, 3.0), weights=(2.0, 3.0, 1.0), room=4.0):
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(len(values)), domain=pyo.Binary)
    items = list(model.x.values())
    model.room = pyo.Constraint(expr=(None, weighted(weights, items), room))
    model.goal = pyo.Objective(expr=weighted(values, items), sense=pyo.maximize)
    model.cuts = pyo.ConstraintList()
    return model


def test_values_bounds_and_solution_come_back_in_the_sense_of_the_model():
    model = knapsack()
    outcome = HighsSession(model).solve()
    assert outcome.termination is Termination.OPTIMAL
    assert outcome.value == pytest.approx(8.0)
    assert outcome.bound == pytest.approx(8.0)
    assert [round(v.value) for v in model.x.values()] == [1, 0, 1]


def test_rows_are_added_to_the_living_model():
    model = knapsack()
    session = HighsSession(model)
    session.solve()
    cut = model.cuts.add((None, weighted([1.0, 1.0], [model.x[0], model.x[2]]), 1.0))
    session.add_constraints([cut])
    assert session.solve().value == pytest.approx(7.0)


def test_an_infeasible_model_is_told_apart():
    model = knapsack()
    model.must = pyo.Constraint(expr=(4.5, weighted([2.0, 3.0], [model.x[0], model.x[1]]), None))
    outcome = HighsSession(model).solve()
    assert outcome.termination is Termination.INFEASIBLE
    assert outcome.value is None


def test_tightening_never_cuts_off_a_solution_as_good_as_the_cutoff():
    model = knapsack()
    session = HighsSession(model)
    session.tighten(8.0)
    assert session.solve().value == pytest.approx(8.0)
    # A bound that no solution reaches: everything may go, and the rest may be infeasible.
    session = HighsSession(knapsack())
    assert session.tighten(8.9)[0] >= 0


@pytest.mark.parametrize("cutoff", [0.0, 5.0, 7.0, 8.0])
def test_tightening_keeps_the_optimum_for_any_valid_cutoff(cutoff):
    session = HighsSession(knapsack())
    fixed, binaries = session.tighten(cutoff)
    assert 0 <= fixed <= binaries == 3
    assert session.solve().value == pytest.approx(8.0)


def test_a_solve_error_is_tried_again_at_the_default_tolerance(monkeypatch):
    session = HighsSession(knapsack())
    real, seen = HighsSession._run, []

    def failing(self, tolerance, start_values, progress):
        seen.append(tolerance)
        status = real(self, tolerance, start_values, progress)
        return highspy.HighsModelStatus.kSolveError if len(seen) == 1 else status

    monkeypatch.setattr(HighsSession, "_run", failing)
    assert session.solve(absolute_gap=1e-8).value == pytest.approx(8.0)
    assert seen == [1e-8, 1e-6]

    monkeypatch.setattr(HighsSession, "_run", lambda *_: highspy.HighsModelStatus.kSolveError)
    with pytest.raises(SolverError, match="HiGHS stopped with"):
        session.solve(absolute_gap=1e-8)


def test_unknown_solvers_and_options_are_refused():
    with pytest.raises(InputError, match="not supported"):
        open_session(knapsack(), "abacus")
    with pytest.raises(InputError, match="none of that name"):
        open_session(knapsack(), options={"nonsense": "1"})
    missing = {"cplex", "gurobi", "xpress"} - set(available_solvers())
    for name in missing:
        with pytest.raises(InputError, match="not installed here"):
            open_session(knapsack(), name)


def test_a_second_solver_through_pyomo():
    if "appsi_highs" not in available_solvers():
        pytest.skip("Pyomo finds no second solver here")
    outcome = open_session(knapsack(), "appsi_highs", options={"mip_max_nodes": 100}).solve()
    assert outcome.value == pytest.approx(8.0)
    assert outcome.bound == pytest.approx(8.0)
    with pytest.raises(InputError, match="none of that name"):
        open_session(knapsack(), "appsi_highs", options={"nonsense": "1"})


def test_another_use_of_highs_in_the_process_does_no_harm():
    other = highspy.Highs()
    other.silent()
    other.setOptionValue("threads", 2)
    other.run()
    assert open_session(knapsack(), threads=1).solve().value == pytest.approx(8.0)


@pytest.mark.parametrize("suffix", ["lp", "mps"])
def test_an_exported_model_has_the_same_optimum(tmp_path, suffix):
    path = tmp_path / f"model.{suffix}"
    write_model(knapsack(), path)
    highs = highspy.Highs()
    highs.silent()
    assert highs.readModel(str(path)) == highspy.HighsStatus.kOk
    highs.run()
    assert abs(highs.getInfo().objective_function_value) == pytest.approx(8.0)


def test_exports_of_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.mps or \.lp"):
        write_model(knapsack(), tmp_path / "model.txt")


def test_nothing_is_printed_to_standard_output():
    code = (
        "from code_opt import load_instance, solve\n"
        "solve(load_instance('data/two-services.json'), solver_log=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "HiGHS" in done.stderr or "Presolv" in done.stderr


def test_presolve_does_not_lose_the_best_solution():
    # A model of 91 columns whose second best solution HiGHS 1.16 called optimal with all of its
    # presolve; without presolve it finds the best.
    values = []
    for presolve in ("on", "off"):
        highs = new_highs()
        highs.setOptionValue("presolve", presolve)
        highs.readModel(str(ROOT / "tests" / "solvers" / "presolve.mps"))
        highs.run()
        values.append(highs.getInfo().objective_function_value)
    assert values == pytest.approx([-0.44309966827432073] * 2, rel=1e-9)


def test_the_tightest_tolerance_leaves_presolve_right():
    """A planning program that HiGHS 1.16 calls infeasible at 1e-9."""
    highs = new_highs()
    highs.setOptionValue("mip_feasibility_tolerance", _TIGHTEST_TOLERANCE)
    highs.readModel(str(ROOT / "tests" / "solvers" / "tight-presolve.mps"))
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    assert highs.getInfo().objective_function_value == pytest.approx(2.0)


@pytest.fixture
def wrongly_infeasible(monkeypatch):
    """Let the first ask of every session come back infeasible; count the asks."""
    real, asked = HighsSession._run, []

    def run(self, tolerance, start_values, progress):
        asked.append(tolerance)
        status = real(self, tolerance, start_values, progress)
        return highspy.HighsModelStatus.kInfeasible if len(asked) == 1 else status

    monkeypatch.setattr(HighsSession, "_run", run)
    return asked


def kept_model(error) -> Path:
    """Return the file that an error names, and see to it that it goes."""
    return Path(str(error.value).rsplit(": ", 1)[1])


def test_infeasible_is_asked_again_and_two_answers_that_disagree_are_none(wrongly_infeasible):
    with pytest.raises(SolverError, match="infeasible, and without presolve it finds") as error:
        HighsSession(knapsack()).solve(absolute_gap=1e-8)
    assert wrongly_infeasible == [1e-8, 1e-6]
    path = kept_model(error)
    highs = highspy.Highs()
    highs.silent()
    highs.readModel(str(path))
    highs.run()
    assert highs.getInfo().objective_function_value == pytest.approx(-8.0)
    path.unlink()


def test_infeasible_beside_a_known_solution_gives_the_bound_of_the_second_ask(wrongly_infeasible):
    model = knapsack()
    session = HighsSession(model)
    session.tighten(8.0)
    cut = model.cuts.add((None, weighted([1.0], [model.x[1]]), 1.0))
    session.add_constraints([cut])
    outcome = session.solve(known=8.0)
    assert len(wrongly_infeasible) == 2
    assert outcome.is_second
    assert (outcome.termination, outcome.value) == (Termination.OPTIMAL, pytest.approx(8.0))
    assert outcome.bound == pytest.approx(8.0)
    # What comes later is asked of the same new solver.
    cut = model.cuts.add((None, weighted([1.0, 1.0], [model.x[0], model.x[2]]), 1.0))
    session.add_constraints([cut])
    assert session.solve().value == pytest.approx(7.0)


def test_twice_infeasible_beside_a_known_solution_is_an_error():
    model = knapsack()
    model.must = pyo.Constraint(expr=(4.5, weighted([2.0, 3.0], [model.x[0], model.x[1]]), None))
    with pytest.raises(SolverError, match="a solution of the value 8 is known") as error:
        HighsSession(model).solve(known=8.0)
    kept_model(error).unlink()


@pytest.mark.parametrize("solver", ["highs", "appsi_highs"])
def test_a_bound_below_a_known_value_is_an_error(solver):
    if solver not in available_solvers():
        pytest.skip("Pyomo finds no second solver here")
    session = open_session(knapsack(), solver)
    assert session.solve(known=8.0).bound == pytest.approx(8.0)
    with pytest.raises(SolverError, match=r"bound 8 is below the value 8\.1") as error:
        session.solve(known=8.1)
    path = kept_model(error)
    assert path.stat().st_size > 0
    path.unlink()


def test_another_solvers_infeasible_is_asked_again_of_highs(monkeypatch):
    if "appsi_highs" not in available_solvers():
        pytest.skip("Pyomo finds no second solver here")
    session = open_session(knapsack(), "appsi_highs")
    lost = MipOutcome(Termination.INFEASIBLE, None, float("-inf"))
    monkeypatch.setattr(type(session), "_solve", lambda *_: lost)
    outcome = session.solve(known=8.0)
    assert outcome.is_second
    assert outcome.value == pytest.approx(8.0)
