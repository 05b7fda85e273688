"""A second solver on the last program: it agrees, or the result is no result."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import pytest

from code_opt.checker import check
from code_opt.cli.app import main
from code_opt.errors import SolverError
from code_opt.exact import mip
from code_opt.instance import load_instance
from code_opt.solvers import is_scip_installed
from code_opt.solvers.highs import HighsSession
from code_opt.solving import solve
from tests.strategies import random_instance

TWO_SERVICES = Path(__file__).resolve().parents[2] / "data" / "two-services.json"
SOLVERS = [
    pytest.param(
        True,
        marks=pytest.mark.skipif(not is_scip_installed(), reason="PySCIPOpt is not installed"),
        id="scip",
    ),
    pytest.param(False, id="highs"),
]


def both_agree(seed: int, has_scip: bool) -> bool:
    """Solve one random instance with a second opinion; tell whether there was an assignment."""
    instance = random_instance(seed, groups=seed % 3 == 0, devices=seed % 2 == 0)
    objective = ("reward", "throughput", "accuracy")[seed % 3]
    formulation = ("path", "colgen")[seed % 2]
    with mock.patch.object(mip, "is_scip_installed", return_value=has_scip):
        result = solve(instance, objective=objective, formulation=formulation, second_opinion=True)
    assert check(result, instance) == []
    if not result.has_solution:
        return False
    opinion = result.second_opinion
    assert opinion is not None
    assert opinion.solver.startswith("SCIP" if has_scip else "HiGHS without presolve"), seed
    assert opinion.agrees, seed
    assert opinion.bound is not None
    assert opinion.bound >= result.value * (1.0 - 1e-6), seed
    assert result.root_bound is not None
    assert result.root_bound >= result.bound * (1.0 - 1e-9), seed
    return True


@pytest.mark.parametrize("has_scip", SOLVERS)
def test_random_programs_get_the_same_answer_twice(has_scip: bool) -> None:
    assert sum(both_agree(seed, has_scip) for seed in range(12)) > 6


@pytest.mark.long
@pytest.mark.parametrize("has_scip", SOLVERS)
@pytest.mark.parametrize("block", range(20))
def test_thousands_of_random_programs(block: int, has_scip: bool) -> None:
    for seed in range(100_000 + 100 * block, 100_000 + 100 * (block + 1)):
        both_agree(seed, has_scip)


def test_answers_that_cannot_both_be_true_end_in_an_error(tmp_path) -> None:
    """A solution beyond the bound that was proven: nothing is reported, the model is kept."""
    sessions: list[HighsSession] = []
    ask = HighsSession.solve

    def finds_too_much(self, **options):
        outcome = ask(self, **options)
        sessions.append(self)
        is_second = self is not sessions[0]
        return dataclasses.replace(outcome, value=outcome.value * (1.1 if is_second else 1.0))

    with (
        mock.patch.object(mip, "is_scip_installed", return_value=False),
        mock.patch.object(HighsSession, "solve", finds_too_much),
        mock.patch("tempfile.tempdir", str(tmp_path)),
        pytest.raises(SolverError, match=r"proven to bound them all by highs. .* is kept"),
    ):
        solve(load_instance(TWO_SERVICES), objective="throughput", second_opinion=True)
    assert [file.suffix for file in tmp_path.iterdir()] == [".mps"]


def test_the_command_tells_what_a_proof_rests_on(capsys) -> None:
    with mock.patch.object(mip, "is_scip_installed", return_value=False):
        assert main(["solve", str(TWO_SERVICES), "-m", "exact", "--second-opinion"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Duals and cuts prove a gap of 3.02 %, the solver's tree the rest." in text
    assert "Second opinion: HiGHS without presolve, seed 1 agrees." in text
