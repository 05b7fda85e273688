"""Incremental evaluation: true values, bounds that hold, a hill climb that misses nothing."""

from __future__ import annotations

import numpy as np
import pytest

from code_opt.core.evaluator import LEAST_GAIN, Evaluator
from code_opt.core.settings import Clock, Settings
from code_opt.generate import generate
from code_opt.heuristics.baselines import solve_greedy
from code_opt.heuristics.incremental import PoolEvaluator
from code_opt.paths import build_pool
from tests.strategies import few_of, random_instance

OBJECTIVES = ("reward", "throughput", "accuracy")


def evaluators(count):
    """Yield evaluators of random instances whose tasks all have a path."""
    for seed in range(count):
        pool = build_pool(random_instance(seed, groups=seed % 2 == 1))
        if all(len(task) for task in pool.tasks):
            settings = Settings(
                objective=OBJECTIVES[seed % 3],
                min_accuracy=0.5 if seed % 5 == 0 else None,
                min_throughput=2.0 if seed % 7 == 0 else None,
            )
            yield seed, Evaluator(pool, settings)


def test_no_path_is_better_than_its_bound():
    tight = total = 0
    for seed, evaluator in evaluators(120):
        rng = np.random.default_rng(seed)
        work, fresh = PoolEvaluator(evaluator), PoolEvaluator(evaluator)
        sizes = [len(task) for task in evaluator.pool.tasks]
        for _ in range(3):
            choice = rng.integers(sizes)
            work.merit(rng.integers(sizes))  # duals of another assignment are valid, too
            for task, size in enumerate(sizes):
                bounds = work.most_merits(choice, task)
                assert bounds.shape == (size,)
                for path in range(size):
                    trial = choice.copy()
                    trial[task] = path
                    value = fresh.merit(trial)
                    assert value <= bounds[path], (seed, task, path)
                    tight += value > bounds[path] - 0.1
                    total += 1
    assert total > 1500
    assert tight > total / 10


def test_values_do_not_depend_on_what_was_tried_before():
    for seed, evaluator in evaluators(20):
        rng = np.random.default_rng(seed)
        work = PoolEvaluator(evaluator)
        sizes = [len(task) for task in evaluator.pool.tasks]
        for _ in range(20):
            choice = rng.integers(sizes)
            assert work.merit(choice) == pytest.approx(
                PoolEvaluator(evaluator).merit(choice), abs=1e-9
            )


@pytest.mark.parametrize("seed", few_of(6, 3))
def test_greedy_finds_what_it_finds_by_trying_every_path(seed):
    evaluator = Evaluator(build_pool(generate(4 + 3 * seed, seed=seed)), Settings())
    work = PoolEvaluator(evaluator)
    best = work.most_accurate()
    merit = work.merit(best)
    improved = True
    while improved:
        improved = False
        for task, paths in enumerate(evaluator.pool.tasks):
            present = best
            for path in range(len(paths)):
                choice = present.copy()
                choice[task] = path
                value = work.merit(choice)
                if value > merit + LEAST_GAIN:
                    best, merit, improved = choice, value, True
    found = solve_greedy(evaluator, Clock(None))
    assert found.solution.value == pytest.approx(work.outcome(best).solution.value)
    assert found.assignments < work.assignments / 4
