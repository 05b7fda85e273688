"""path, flow, colgen and brute force answer one question: they must say the same.

Hundreds of random instances here, thousands in the long suite (``make long``). The brute
force and the checker share no code with the formulations, and none with each other.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from code_opt.checker import check
from code_opt.exact import diagnosis
from code_opt.exact import method as exact
from code_opt.heuristics.lns import search
from code_opt.heuristics.search import SearchOutcome
from code_opt.paths import PathProblem
from code_opt.solving import solve
from tests.reference import solve_reference
from tests.strategies import few_of, random_instance

AGREEMENT = 1e-6
CASES_PER_TEST = 10


def no_start(evaluator, clock, **options):
    """A heuristic that finds nothing."""
    return SearchOutcome()


def poor_start(evaluator, clock, **options):
    """A heuristic that takes the worst of a few random assignments that are feasible."""
    rng = np.random.default_rng(0)
    worst = None
    for _ in range(20):
        picks = np.array([int(rng.integers(len(task))) for task in evaluator.pool.tasks])
        found = evaluator.solution(evaluator.paths(picks))
        if found is not None and (worst is None or found.value < worst.value):
            worst = found
    return SearchOutcome(worst)


def explained_once():
    """Return a diagnosis that is made once: the reasons are the instance's, not a formulation's."""
    told: list[str] = []

    def explain(topology, settings) -> str:
        if not told:
            told.append(diagnosis.explain(topology, settings))
        return told[0]

    return explain


def agree(seed: int, **options) -> str:
    """Compare them all on one random instance (with options); return its status."""
    instance = random_instance(seed, **options)
    rng = np.random.default_rng([seed, 1])
    objective = str(rng.choice(["reward", "throughput", "accuracy"], p=[0.6, 0.2, 0.2]))
    floors: dict[str, float | None] = {"min_accuracy": None, "min_throughput": None}
    if rng.random() < 0.4:
        floors["min_accuracy"] = float(rng.uniform(0.3, 0.9))
    if rng.random() < 0.3:
        local = solve(instance, "local")
        if local.has_solution:
            floors["min_throughput"] = float(local.throughput * rng.uniform(0.8, 1.2))
    share = float(rng.uniform(0.3, 1.0)) if options.get("devices") and rng.random() < 0.4 else None
    sold = instance.with_max_utilization(share)
    expected = solve_reference(sold, objective=objective, **floors)
    floors["max_utilization"] = share
    problem, explain = PathProblem(instance), explained_once()  # labelled once
    for formulation in ("path", "flow", "colgen"):
        # A proof must not lean on the heuristic's luck: start well, badly and not at all.
        start = [search, no_start, poor_start][int(rng.integers(3))]
        with mock.patch.multiple(exact, search=start, explain=explain):
            result = solve(
                problem, formulation=formulation, objective=objective, gap=1e-7, **floors
            )
        case = (seed, formulation, start.__name__)
        assert check(result, instance) == []
        if expected is None:
            assert result.status == "infeasible", case
            assert result.message
        else:
            assert result.status == "optimal", case
            assert result.value == pytest.approx(expected.value, rel=AGREEMENT), case
            assert result.bound >= expected.value * (1 - AGREEMENT), case
    code = solve(problem, "lns", objective=objective, **floors)
    assert check(code, instance) == []
    if code.has_solution:
        assert expected is not None, seed
        assert code.value <= expected.value * (1 + AGREEMENT), seed
    return "infeasible" if expected is None else "feasible"


@pytest.mark.parametrize("block", few_of(20, 8))
def test_hundreds_of_random_instances(block):
    statuses = {agree(block * CASES_PER_TEST + i) for i in range(CASES_PER_TEST)}
    assert "feasible" in statuses


@pytest.mark.parametrize("block", few_of(16, 6))
def test_hundreds_of_random_instances_with_shared_inputs(block):
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    statuses = {agree(seed, groups=True, max_combinations=1500) for seed in seeds}
    assert "feasible" in statuses


@pytest.mark.parametrize("block", few_of(12, 6))
def test_hundreds_of_random_instances_in_device_time(block):
    """With several devices, batches, headroom, measured times, and groups in every third one."""
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    statuses = {
        agree(500_000 + seed, devices=True, groups=seed % 3 == 0, max_combinations=1500)
        for seed in seeds
    }
    assert "feasible" in statuses


@pytest.mark.parametrize("block", few_of(12, 6))
def test_hundreds_of_random_instances_whose_inputs_are_sent(block):
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    options = {"links": "all" if block % 2 else "some", "inputs": True, "groups": block % 4 > 1}
    statuses = {agree(300_000 + seed, max_combinations=1500, **options) for seed in seeds}
    assert "feasible" in statuses


@pytest.mark.parametrize("block", few_of(12, 6))
def test_hundreds_of_random_instances_with_alternatives(block):
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    options = {"alternatives": True, "inputs": block % 2 == 0, "groups": block % 4 > 1}
    statuses = {agree(500_000 + seed, max_combinations=1500, **options) for seed in seeds}
    assert "feasible" in statuses


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_thousands_of_random_instances(block):
    for i in range(50):
        agree(100_000 + 50 * block + i)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_thousands_of_random_instances_with_shared_inputs(block):
    for i in range(50):
        agree(200_000 + 50 * block + i, groups=True)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_thousands_of_random_instances_in_device_time(block):
    for i in range(50):
        agree(600_000 + 50 * block + i, devices=True, groups=i % 3 == 0)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_thousands_of_random_instances_whose_inputs_are_sent(block):
    for i in range(50):
        agree(400_000 + 50 * block + i, inputs=True, groups=bool(i % 2))


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_thousands_of_random_instances_with_alternatives(block):
    for i in range(50):
        agree(600_000 + 50 * block + i, alternatives=True, inputs=i % 3 == 0, groups=bool(i % 2))
