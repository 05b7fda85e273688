"""Joint tasks: joint paths of input groups, and those that duals ask for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from code_opt.core.joint_tasks import JointTask, build_joint_tasks, cheapest_joint_paths
from code_opt.core.parameters import JointPathParameters
from code_opt.generate import generate
from code_opt.paths import Duals, build_pool
from tests.strategies import random_instance


def grouped_tasks(instance):
    pool = build_pool(instance)
    if any(len(task) == 0 for task in pool.tasks):
        return []
    return [task for task in build_joint_tasks(pool) if task.sharing is not None]


def every_joint_path(task):
    sizes = [len(task) for task in task.tasks]
    rows = np.indices(sizes).reshape(len(sizes), -1).T
    return JointTask(task.group, task.tasks, task.sharing, task.weights, rows)


@pytest.mark.parametrize("seed", range(40))
def test_the_dynamic_program_finds_the_cheapest_combination(seed):
    rng = np.random.default_rng(seed)
    for task in grouped_tasks(random_instance(seed, groups=True)):
        every = every_joint_path(task)
        prices = rng.exponential(size=(12, every.use.shape[1])) ** 3
        prices /= np.maximum(every.use.mean(axis=0), 1e-12)
        accuracy = 10.0 ** rng.uniform(-1.0, 2.0, 12)
        cost = prices @ every.use.T - accuracy[:, None] * every.accuracy
        paths = cheapest_joint_paths(task.tasks, task.sharing, task.weights, prices, accuracy)
        found = JointTask(task.group, task.tasks, task.sharing, task.weights, paths)
        reached = (prices * found.use).sum(axis=1) - accuracy * found.accuracy
        assert reached == pytest.approx(cost.min(axis=1), rel=1e-9, abs=1e-12)


def test_tasks_of_large_groups_take_their_best_paths_in_turns():
    in_turns = JointPathParameters(most_tasks=0)
    losses = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        for task in grouped_tasks(random_instance(seed, groups=True)):
            every = every_joint_path(task)
            prices = rng.exponential(size=(12, every.use.shape[1])) ** 3
            prices /= np.maximum(every.use.mean(axis=0), 1e-12)
            zero = np.zeros(12)
            paths = cheapest_joint_paths(
                task.tasks, task.sharing, task.weights, prices, zero, in_turns
            )
            found = JointTask(task.group, task.tasks, task.sharing, task.weights, paths)
            least = (prices @ every.use.T).min(axis=1)
            reached = (prices * found.use).sum(axis=1)
            assert (reached >= least * (1 - 1e-9)).all()
            losses += (reached / np.maximum(least, 1e-12) - 1.0).tolist()
    assert np.median(losses) <= 1e-9  # mostly the best, nothing is promised
    assert np.mean(losses) < 0.1


def test_all_joint_paths_that_no_other_one_dominates_where_they_are_few():
    for seed in range(20):
        for task in grouped_tasks(random_instance(seed, groups=True)):
            every = every_joint_path(task)
            for accuracy, use in zip(every.accuracy, every.use, strict=True):
                better = (task.accuracy >= accuracy - 1e-12) & (task.use <= use + 1e-12).all(axis=1)
                assert better.any()


def duals_of(instance, task, resources=0.0):
    most = float(task.most.max())
    return Duals(np.full(len(build_pool(instance).resources), resources), 4.0, 1.0 / most)


def test_pricing_of_two_tasks_is_exact():
    """Exchanging the paths of two tasks at a time tries all joint paths of a group of two."""
    instance = generate(4, seed=1, groups=(2, 2))
    for task in build_joint_tasks(build_pool(instance)):
        at = duals_of(instance, task, 0.02)
        best = every_joint_path(task).profit(at).max()
        poor = replace(task, paths=task.paths[:1], parameters=JointPathParameters(few=0))
        better = poor.priced(at)
        assert better.profit(at).max() == pytest.approx(best, rel=1e-12)
        assert better.priced(at).profit(at).max() == better.profit(at).max()


def test_pricing_only_adds_joint_paths():
    few = JointPathParameters(few=100)
    instance = generate(8, seed=3, groups=(4, 4))
    for task in build_joint_tasks(build_pool(instance), few):
        at = duals_of(instance, task)
        better = task.priced(at)
        assert better.profit(at).max() >= task.profit(at).max()
        assert len({tuple(row) for row in better.paths.tolist()}) == len(better)


def test_a_single_task_is_a_joint_task_with_its_paths_as_joint_paths():
    pool = build_pool(generate(3, seed=0))
    for joint_task, task in zip(build_joint_tasks(pool), pool.tasks, strict=True):
        assert joint_task.use is task.paths.use
        assert joint_task.paths[:, 0].tolist() == list(range(len(task)))
        assert joint_task.priced(Duals(np.zeros(3), 1.0, 1.0)) is joint_task
