"""The exact method: proofs, limits, floors on totals, degenerate instances."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from highspy import HighsModelStatus

from code_opt.core.settings import Settings
from code_opt.errors import InputError, SolverError
from code_opt.exact import method as exact
from code_opt.generate import generate
from code_opt.instance import parse_instance
from code_opt.solvers import available_solvers
from code_opt.solvers.highs import HighsSession
from code_opt.solving import METHODS, solve
from tests.test_agreement import poor_start


@pytest.fixture(scope="module")
def six():
    return generate(6, seed=1)


@pytest.fixture(scope="module")
def constrained():
    return generate(6, seed=2, links=True, latency=True, memory=True, measured=2)


def one_task(**changes):
    """One server, one DNN of two blocks, one task with an early exit; 10 inferences/s natively."""
    data = {
        "schema": "code-opt/instance/1",
        "name": "one",
        "servers": [{"id": "s", "flops": 100.0}],
        "dnns": [
            {"id": "d", "server": "s", "blocks": [{"id": "a", "flops": 5}, {"id": "b", "flops": 5}]}
        ],
        "tasks": [
            {
                "id": "t",
                "dnn": "d",
                "accuracy": 0.8,
                "connections": [{"source": "a", "target": "output", "drop": 0.2}],
            }
        ],
        "reward": {"accuracy": {"kind": "power"}, "throughput": {"kind": "power"}},
    }
    data["tasks"][0].update(changes.pop("task", {}))
    data.update(changes)
    return parse_instance(data)


def test_a_case_worked_by_hand():
    # native: 0.8 * 10 = 8; exit after a: 0.6 * 20 = 12
    result = solve(one_task())
    assert result.status == "optimal"
    assert result.tasks[0].path == ("a",)
    assert result.reward == pytest.approx(12.0, rel=1e-9)
    assert result.bound >= result.reward
    assert result.gap <= 1e-4


@pytest.mark.parametrize("formulation", ["path", "flow", "colgen"])
def test_all_formulations_prove_the_same_optimum(six, constrained, formulation):
    for instance in (six, constrained):
        result = solve(instance, formulation=formulation, gap=1e-6)
        other = solve(instance, formulation="path", gap=1e-6)
        assert result.status == "optimal"
        assert result.reward == pytest.approx(other.reward, rel=2e-6)


@pytest.mark.parametrize("objective", ["throughput", "accuracy"])
def test_other_objectives_respect_floors_on_the_totals(six, objective):
    floors = {"min_accuracy": 0.75} if objective == "throughput" else {"min_throughput": 1500.0}
    path = solve(six, objective=objective, gap=1e-6, **floors)
    flow = solve(six, objective=objective, formulation="flow", gap=1e-6, **floors)
    assert path.status == flow.status == "optimal"
    assert path.value == pytest.approx(flow.value, rel=2e-6)
    if objective == "throughput":
        assert path.accuracy >= 0.75 * (1 - 1e-6)
    else:
        assert path.throughput >= 1500.0 * (1 - 1e-6)
    free = solve(six, objective=objective)
    assert free.value >= path.value


def test_floors_on_totals_hold_with_the_reward(six):
    free = solve(six)
    floor = free.accuracy + 0.02
    result = solve(six, min_accuracy=floor)
    assert result.accuracy >= floor * (1 - 1e-6)
    assert result.reward <= free.reward * (1 + 1e-6)


def test_same_input_same_output(six):
    results = [solve(six).to_dict() for _ in range(2)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


def test_equal_rates_go_to_the_task_listed_first():
    twin = {"id": "u", "dnn": "d", "accuracy": 0.8}
    instance = one_task()
    data = instance.to_dict()
    data["tasks"] = [{**data["tasks"][0], "connections": []}, twin]
    result = solve(parse_instance(data))
    assert [t.rate for t in result.tasks] == pytest.approx([10.0, 0.0])


@pytest.mark.parametrize("limit", [1e-6, 0.4])
def test_a_time_limit_is_told_apart_from_a_proof(limit):
    """The first one is over at once on any machine, the second one somewhere on the way."""
    instance = generate(40, seed=3)
    result = solve(instance, time_limit=limit)
    if limit == 1e-6:
        assert result.status in ("feasible", "unknown")
    if result.status == "optimal":
        assert result.gap <= 1e-4
        return
    assert result.gap is None or result.gap > 1e-4
    assert "time limit" in result.message


def test_no_reward_at_all_is_optimal_with_reward_zero():
    result = solve(one_task(task={"demand": 0.0}))
    assert (result.status, result.reward, result.gap) == ("optimal", 0.0, 0.0)


def test_a_constant_reward_takes_any_assignment():
    flat = {"kind": "power", "exponent": 0.0}
    result = solve(one_task(reward={"accuracy": flat, "throughput": flat}))
    assert result.status == "optimal"
    assert result.reward == 1.0


def test_rewards_beyond_floating_point():
    tiny = {"kind": "logistic", "steepness": 1e4, "midpoint": 0.99}
    flat = {"kind": "power", "exponent": 0.0}
    with pytest.raises(InputError, match=r"the reward exp\(-1900\) is too small for a number"):
        solve(one_task(reward={"accuracy": tiny, "throughput": flat}))
    # Where it is not what is maximised, 0 is the nearest number.
    result = solve(one_task(reward={"accuracy": tiny, "throughput": flat}), objective="accuracy")
    assert (result.status, result.reward) == ("optimal", 0.0)
    huge = {"kind": "exponential", "rate": 100.0}
    with pytest.raises(InputError, match="too large for a number"):
        solve(one_task(reward={"accuracy": flat, "throughput": huge}))


def test_a_standalone_floor_is_met_exactly():
    # The floor takes all of the server: rounding must not make it infeasible.
    result = solve(one_task(task={"floor": "standalone", "connections": []}))
    assert result.status == "optimal"
    assert result.tasks[0].rate == pytest.approx(10.0)


def test_unlimited_rates_are_refused():
    data = one_task().to_dict()
    data["dnns"][0]["blocks"][0]["flops"] = 0.0
    with pytest.raises(InputError, match="nothing limits the rate"):
        parse_instance(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "cost"}, "objective 'cost'"),
        ({"formulation": "magic"}, "formulation 'magic'"),
        ({"formulation": "colgen", "solver": "scip"}, "'colgen': needs the solver highs"),
        ({"gap": -1.0}, "gap -1.0"),
        ({"gap": math.nan}, "gap nan"),
        ({"time_limit": 0.0}, "time_limit 0.0"),
        ({"min_accuracy": 1.5}, "min_accuracy 1.5"),
        ({"min_throughput": -1.0}, "min_throughput -1.0"),
        ({"seed": -1}, "seed -1"),
        ({"threads": 0}, "threads 0"),
        ({"solver": "abacus"}, "solver 'abacus': not supported"),
        ({"solver_options": {"no_such": "1"}}, "HiGHS has none of that name"),
        ({"solver_options": {"mip_max_nodes": "many"}}, "refuses the value 'many'"),
        ({"solver_options": {"time_limit": "3"}}, "set by --time-limit"),
    ],
)
def test_options_are_passed_or_refused(options, message):
    with pytest.raises(InputError, match=message):
        solve(one_task(), **options)


def test_an_argument_that_solve_does_not_have_is_an_error_of_the_call():
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        solve(one_task(), colour="red")


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="method 'magic'"):
        solve(one_task(), "magic")


def test_a_solver_option_reaches_the_solver():
    # One node is not enough for this instance, so the option shows in the outcome.
    instance = generate(20, seed=5)
    result = solve(instance, formulation="path", solver_options={"mip_max_nodes": "1"})
    assert result.status == "feasible"
    assert result.gap > 1e-4


def test_another_solver_gives_the_same_optimum(six):
    if "appsi_highs" not in available_solvers():
        pytest.skip("Pyomo finds no second solver here")
    ours = solve(six, gap=1e-6)
    other = solve(six, gap=1e-6, solver="appsi_highs")
    assert other.status == "optimal"
    assert other.reward == pytest.approx(ours.reward, rel=2e-6)


def test_progress_is_reported_and_consistent():
    seen = []
    solve(generate(20, seed=4), progress=seen.append)
    assert seen
    for progress in seen:
        if progress.bound is not None and progress.incumbent is not None:
            assert progress.bound >= progress.incumbent * (1 - 1e-6)


def test_every_method_returns_a_checked_result(constrained):
    best = solve(constrained)
    for method in METHODS:
        result = solve(constrained, method)
        assert result.method == method
        if result.has_solution:
            assert result.reward <= best.bound * (1 + 1e-6)
            if method != "exact":
                assert (result.status, result.bound, result.gap) == ("feasible", None, None)


def test_settings_are_immutable():
    with pytest.raises(AttributeError):
        Settings().gap = 0.5


@pytest.mark.parametrize("method", ["exact", "code"])
def test_equal_throughput_is_reached_at_the_better_accuracy(method):
    # Demand limits the rate on both paths: the exit gains nothing and costs accuracy.
    instance = one_task(task={"demand": 5.0})
    result = solve(instance, method, objective="throughput")
    assert (result.throughput, result.accuracy) == pytest.approx((5.0, 0.8))


@pytest.fixture
def asked(monkeypatch):
    """Let the first ask of a mixed-integer program come back infeasible; count the asks."""
    real, tolerances = HighsSession._run, []

    def run(self, tolerance, start_values, progress):
        tolerances.append(tolerance)
        status = real(self, tolerance, start_values, progress)
        return HighsModelStatus.kInfeasible if len(tolerances) == 1 else status

    monkeypatch.setattr(HighsSession, "_run", run)
    return tolerances


def test_a_solver_that_finds_better_after_infeasible_is_not_believed(six, monkeypatch, asked):
    monkeypatch.setattr(exact, "search", poor_start)
    with pytest.raises(SolverError, match="when asked again") as error:
        solve(six, formulation="path")
    assert len(asked) == 2
    Path(str(error.value).rsplit(": ", 1)[1]).unlink()


def test_infeasible_beside_the_optimum_is_proven_by_the_second_ask(six, asked):
    best = solve(six, formulation="colgen", gap=1e-6)
    asked.clear()
    result = solve(six, formulation="path")
    assert len(asked) >= 2
    assert result.status == "optimal"
    assert result.value == pytest.approx(best.value, rel=1e-4)
    assert result.bound >= best.value * (1 - 1e-6)
