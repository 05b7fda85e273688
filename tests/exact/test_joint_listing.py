"""Joint paths of input groups: those that column generation lists are all that can matter."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from code_opt.checker import check
from code_opt.core.joint_tasks import build_joint_tasks
from code_opt.core.parameters import ExactParameters, JointPathParameters, Parameters
from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.exact import method as exact
from code_opt.exact.joint_listing import RateGrid, list_joint_paths
from code_opt.exact.method import choose_formulation
from code_opt.generate import generate
from code_opt.heuristics.lns import search
from code_opt.paths import Duals, build_pool
from code_opt.solving import solve
from tests.strategies import few_of, random_instance
from tests.test_agreement import AGREEMENT, no_start, poor_start

STARTS = {"heuristic": search, "none": no_start, "poor": poor_start}


LARGE = JointPathParameters(few=0)
"""Every group counts as one with too many combinations to try."""


def groups_with_every_joint_path(seed):
    pool = build_pool(random_instance(seed, groups=True, max_combinations=1500))
    if any(len(task) == 0 for task in pool.tasks):
        return
    for task in build_joint_tasks(pool, LARGE):
        if task.sharing is not None:
            rows = np.indices([len(task) for task in task.tasks]).reshape(task.size, -1).T
            every = task.having(rows)
            limit = np.where(task.is_rate_resource, task.group.floor, 1.0)
            fits = (every.use * limit <= 1.0).all(axis=1)
            if fits.any():
                yield len(pool.resources), task, every.having(rows[fits])


def is_covered(every, rows, listed):
    """Tell which joint paths are no better than a listed one in any respect."""
    accuracy, use = every.accuracy[rows], every.use[rows]
    better = listed.accuracy[None, :] >= accuracy[:, None] - 1e-12
    better &= (listed.use[None] <= use[:, None] + 1e-12).all(axis=2)
    return better.any(axis=1)


@pytest.mark.parametrize("seed", range(30))
def test_every_undominated_joint_path_is_listed(seed):
    for _, task, every in groups_with_every_joint_path(seed):
        listed = list_joint_paths(task)
        assert listed is not None
        assert is_covered(every, np.arange(len(every)), listed).all()
        # And only those: none covers another.
        for number in range(len(listed)):
            others = listed.having(np.delete(listed.paths, number, axis=0))
            if len(others):
                better = others.accuracy >= listed.accuracy[number] + 1e-9
                better &= (others.use <= listed.use[number] - 1e-9).all(axis=1)
                assert not better.any()


@pytest.mark.parametrize("seed", range(60))
def test_no_joint_path_of_enough_profit_is_left_out(seed):
    rng = np.random.default_rng(seed)
    for resources, task, every in groups_with_every_joint_path(seed):
        for scale in (0.0, 0.1, 1.0, 10.0):
            prices = scale * rng.exponential(size=resources) ** 2
            tau = float(rng.exponential()) / max(float(every.most.max()), 1e-9)
            grid = RateGrid.of(task, Duals(prices, float(rng.exponential()), tau))
            each = grid.profit(every)
            # The best at each rate is worth no less than any option that can run at it.
            values, _ = grid.best(task)
            assert values.max() >= each.max() - 1e-9 * (1.0 + abs(each.max()))
            least = float(np.quantile(each, rng.uniform(0.3, 1.0)))
            listed = list_joint_paths(task, grid, least)
            assert listed is not None
            rows = np.flatnonzero(each >= least + 1e-9 * (1.0 + abs(least)))
            assert is_covered(every, rows, listed).all()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("block", few_of(5, 2))
def test_large_groups_are_solved_exactly(block, start):
    for seed in range(1000 + 10 * block, 1010 + 10 * block):
        instance = random_instance(seed, groups=True, max_combinations=1500)
        objective = ("reward", "throughput", "accuracy")[seed % 3]
        path = solve(instance, formulation="path", objective=objective, gap=1e-7)
        with mock.patch.object(exact, "search", STARTS[start]):
            ours = solve(
                instance,
                formulation="colgen",
                objective=objective,
                gap=1e-7,
                parameters=Parameters(joint_paths=LARGE),
            )
        assert check(ours, instance) == []
        assert ours.status == path.status, seed
        if path.status == "optimal":
            assert ours.value == pytest.approx(path.value, rel=AGREEMENT), seed
            assert ours.bound >= path.value * (1 - AGREEMENT), seed


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(40))
def test_many_large_groups_are_solved_exactly(block):
    for seed in range(300_000 + 25 * block, 300_025 + 25 * block):
        instance = random_instance(seed, groups=True)
        path = solve(instance, formulation="path", gap=1e-7)
        ours = solve(
            instance, formulation="colgen", gap=1e-7, parameters=Parameters(joint_paths=LARGE)
        )
        assert ours.status == path.status, seed
        if path.status == "optimal":
            assert ours.value == pytest.approx(path.value, rel=AGREEMENT), seed


def test_groups_with_too_many_joint_paths_are_refused_and_auto_takes_path():
    instance = generate(4, seed=1, groups=(4, 4))
    parameters = Parameters(
        exact=ExactParameters(most_paths=0),
        joint_paths=JointPathParameters(few=0, most_comparisons=100),
    )
    name, reason = choose_formulation(build_pool(instance), Settings(parameters=parameters))
    assert (name, "too many combinations" in reason) == ("path", True)
    with pytest.raises(InputError, match=r"'colgen': input group '.*' has too many combinations"):
        solve(instance, formulation="colgen", parameters=parameters)
    result = solve(instance, parameters=parameters)
    assert result.formulation == "path"
    assert "too many combinations" in result.details["formulation_choice"]


def test_auto_takes_colgen_where_all_combinations_are_tried():
    instance = generate(4, seed=1, groups=(2, 2))
    parameters = Parameters(exact=ExactParameters(most_paths=0))
    result = solve(instance, gap=1e-6, parameters=parameters)
    assert (result.formulation, result.status) == ("colgen", "optimal")
    path = solve(instance, formulation="path", gap=1e-6)
    assert result.reward == pytest.approx(path.reward, rel=2e-6)
