"""The ends of the number range: path, colgen, flow and brute force say the same.

Hundreds of extreme instances here, thousands in the long suite (``make long``): none is answered
wrongly and none ends in an error of the program. What has been answered wrongly once has a test
of its own, with the right value.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from code_opt import load_instance
from code_opt.checker import check
from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.solving import solve
from tests.extremes import extreme_instance
from tests.reference import solve_reference
from tests.strategies import few_of

GAP = 1e-6
AGREEMENT = 3e-6
CASES_PER_TEST = 20
CASES = Path(__file__).parent / "extremes_data"


def agree(seed: int) -> str:
    """Compare them all on one extreme instance; return what came of it."""
    instance = extreme_instance(seed)
    rng = np.random.default_rng([seed, 1])
    objective = str(rng.choice(["reward", "throughput", "accuracy"], p=[0.7, 0.15, 0.15]))
    asked: dict[str, float | None] = {}
    if rng.random() < 0.15:
        asked["min_accuracy"] = float(rng.choice([1e-12, 1e-9, 0.2]))
    expected = solve_reference(instance, objective=objective, **asked)
    if expected is not None and not asked and rng.random() < 0.2:
        factor = rng.choice([0.5, 1.0 - 1e-8, 1.0 + 1e-4, 1e3, 1e9])
        asked["min_throughput"] = float(np.clip(expected.throughput * factor, 1e-12, 1e18))
        expected = solve_reference(instance, objective=objective, **asked)
    outcomes = set()
    for formulation in ("path", "colgen", "flow"):
        case = (seed, formulation, objective, asked)
        try:
            result = solve(instance, formulation=formulation, objective=objective, gap=GAP, **asked)
        except InputError as error:
            if not ("for a number" in str(error) or "unlimited" in str(error)):
                raise
            outcomes.add("refused")
            continue
        assert check(result, instance) == [], case
        outcomes.add(result.status)
        if expected is None and result.status == "optimal":
            # Floors hold within a tolerance, which the reference does not grant.
            border = {name: floor and floor * (1.0 - 1e-6) for name, floor in asked.items()}
            assert solve_reference(forgiving(instance), objective, **border) is not None, case
            continue
        if expected is None:
            assert result.status == "infeasible", case
            assert result.message
            continue
        assert result.has_solution, case
        assert result.value <= expected.value * (1.0 + AGREEMENT), case
        if result.value > 0.0:
            assert result.bound is not None, case
            assert result.bound >= expected.value * (1.0 - AGREEMENT), case
        if result.status == "optimal":
            assert result.value == pytest.approx(expected.value, rel=AGREEMENT, abs=0.0), case
    if expected is not None and expected.value > 1e300:
        return "refused"  # by those that have seen an assignment of such a reward
    assert len(outcomes) == 1 or outcomes == {"optimal", "feasible"}, (seed, outcomes)
    return "/".join(sorted(outcomes))


def forgiving(instance: Instance) -> Instance:
    """Return the instance with floors on accuracies a millionth lower."""
    data = instance.to_dict()
    for task in data["tasks"]:
        task["min_accuracy"] = task.get("min_accuracy", 0.0) * (1.0 - 1e-6)
    return parse_instance(data)


@pytest.mark.parametrize("seed", [104613, 105352, 105847, 108224, 108841])
def test_extreme_instances_that_were_wrong_once(seed):
    """An accuracy of 1e-9 beside 0.96 at the least average (flow); floors that hold within the
    tolerance alone; accuracies of 1e-9 beside 0.3 (flow); a reward of exp(-3148)."""
    agree(seed)


@pytest.mark.parametrize("block", few_of(15, 3))
def test_hundreds_of_extreme_instances(block):
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    found = [agree(seed) for seed in seeds]
    assert found.count("optimal") >= len(found) // 10


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_thousands_of_extreme_instances(block):
    found = [agree(100_000 + 100 * block + i) for i in range(100)]
    assert found.count("optimal") >= len(found) // 10


@pytest.mark.parametrize("formulation", ["path", "colgen", "flow"])
@pytest.mark.parametrize("name", ["steep-throughput", "path-below-zero", "accuracies-mostly-zero"])
def test_every_formulation_finds_what_brute_force_finds(name, formulation):
    """Each was an error of one formulation: a steep reward, a path at -1e-9, log 0."""
    instance = load_instance(CASES / f"{name}.json")
    expected = solve_reference(instance)
    result = solve(instance, formulation=formulation, gap=GAP)
    assert result.status == "optimal"
    assert result.value == pytest.approx(expected.value, rel=AGREEMENT, abs=0.0)


@pytest.mark.parametrize("formulation", ["path", "colgen", "flow"])
def test_a_reward_that_underflows_is_refused(formulation):
    instance = load_instance(CASES / "underflow.json")
    with pytest.raises(
        InputError, match=r"the reward exp\(-87\d\.?\d*\) is too small for a number"
    ):
        solve(instance, formulation=formulation, gap=GAP)


def test_a_limit_that_comes_first_leaves_bound_and_gap():
    instance = load_instance(CASES / "five-services.json")
    result = solve(instance, time_limit=1e-9)
    assert result.status == "feasible"
    assert result.bound >= solve(instance).value
    assert result.gap == pytest.approx(result.bound / result.value - 1.0)


def slip(flops: float, floor: float = 100.0):
    """One service that needs 8.2e9 FLOP, with a floor, on a server of so many FLOP/s."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "A", "flops": flops}],
            "dnns": [{"id": "d", "server": "A", "blocks": [{"id": "r0", "flops": 8.2e9}]}],
            "tasks": [{"id": "t", "dnn": "d", "accuracy": 0.8, "demand": 200, "floor": floor}],
        }
    )


@pytest.mark.parametrize("flops", [2.0, 2e-3, 2e-12, 8.2e5, 8.19e11])
def test_the_least_change_is_right_at_any_ratio(flops):
    result = solve(slip(flops))
    assert result.status == "infeasible"
    assert f"floor of task 't' from 100 to {flops / 8.2e9:.6g} inferences/s" in result.message
    assert f"server A from {flops:.6g} to 8.2e+11 FLOP/s" in result.message


@pytest.mark.parametrize("asked", [1e3, 1e9, 1e15])
def test_the_most_throughput_is_told_whatever_is_asked(asked):
    result = solve(slip(1e12, floor=0.0), min_throughput=asked)
    assert f"floor of the throughput from {asked:.6g} to {1e12 / 8.2e9:.6g}" in result.message


def test_a_small_rate_beside_large_ones_is_not_lost():
    data = slip(1e12, floor=0.0).to_dict()
    data["tasks"].insert(0, data["tasks"][0] | {"id": "large", "demand": 100.0})
    for small in (1e-8, 1e-10):
        for place in (0, 1):
            data["tasks"][1]["demand"] = small
            tasks = data["tasks"] if place else data["tasks"][::-1]
            result = solve(parse_instance(data | {"tasks": tasks}))
            rates = {task.task: task.rate for task in result.tasks}
            assert rates == {"t": pytest.approx(small), "large": pytest.approx(100.0)}


def test_a_path_predicted_below_zero_is_the_reason_that_is_told():
    data = slip(1e12).to_dict()
    data["tasks"][0] |= {"accuracy": 0.1, "floor": 0.0}
    data["tasks"][0]["connections"] = [{"source": "r0", "target": "output", "drop": 0.25}]
    result = solve(parse_instance(data))
    assert "every path is predicted below accuracy 0 (best -0.15)" in result.message
    assert "raise accuracy from 0.1 to 0.25" in result.message
    assert "link" not in result.message
