"""Units of a search: joint options of input groups, and their answers to prices."""

from __future__ import annotations

import numpy as np
import pytest

from code_opt.generate import generate
from code_opt.methods import units as module
from code_opt.methods.units import Unit, Valuation, build_units
from code_opt.paths import build_pool
from tests.strategies import random_instance


def grouped_units(instance):
    pool = build_pool(instance)
    if any(len(task) == 0 for task in pool.tasks):
        return []
    return [unit for unit in build_units(pool) if unit.sharing is not None]


def every_option(unit):
    sizes = [len(task) for task in unit.tasks]
    rows = np.indices(sizes).reshape(len(sizes), -1).T
    return Unit(unit.group, unit.tasks, unit.sharing, unit.weights, rows)


@pytest.mark.parametrize("seed", range(40))
def test_the_dynamic_program_finds_the_cheapest_combination(seed):
    rng = np.random.default_rng(seed)
    for unit in grouped_units(random_instance(seed, groups=True)):
        every = every_option(unit)
        prices = rng.exponential(size=(12, every.use.shape[1])) ** 3
        prices /= np.maximum(every.use.mean(axis=0), 1e-12)
        accuracy = 10.0 ** rng.uniform(-1.0, 2.0, 12)
        cost = prices @ every.use.T - accuracy[:, None] * every.accuracy
        paths = module.cheapest_options(unit.tasks, unit.sharing, unit.weights, prices, accuracy)
        found = Unit(unit.group, unit.tasks, unit.sharing, unit.weights, paths)
        reached = (prices * found.use).sum(axis=1) - accuracy * found.accuracy
        assert reached == pytest.approx(cost.min(axis=1), rel=1e-9, abs=1e-12)


def test_large_groups_answer_each_other_in_turns(monkeypatch):
    monkeypatch.setattr(module, "MOST_TASKS", 0)
    losses = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        for unit in grouped_units(random_instance(seed, groups=True)):
            every = every_option(unit)
            prices = rng.exponential(size=(12, every.use.shape[1])) ** 3
            prices /= np.maximum(every.use.mean(axis=0), 1e-12)
            zero = np.zeros(12)
            paths = module.cheapest_options(unit.tasks, unit.sharing, unit.weights, prices, zero)
            found = Unit(unit.group, unit.tasks, unit.sharing, unit.weights, paths)
            least = (prices @ every.use.T).min(axis=1)
            reached = (prices * found.use).sum(axis=1)
            assert (reached >= least * (1 - 1e-9)).all()
            losses += (reached / np.maximum(least, 1e-12) - 1.0).tolist()
    assert np.median(losses) <= 1e-9  # mostly the best, nothing is promised
    assert np.mean(losses) < 0.1


def test_all_options_that_no_other_one_dominates_where_they_are_few():
    for seed in range(20):
        for unit in grouped_units(random_instance(seed, groups=True)):
            every = every_option(unit)
            for accuracy, use in zip(every.accuracy, every.use, strict=True):
                better = (unit.accuracy >= accuracy - 1e-12) & (unit.use <= use + 1e-12).all(axis=1)
                assert better.any()


def prices_of(instance, unit, resources=0.0):
    most = float(unit.most.max())
    return Valuation(np.full(len(build_pool(instance).resources), resources), 4.0, 1.0 / most)


def test_answers_of_two_tasks_are_exact(monkeypatch):
    """Exchanging the paths of two tasks at a time tries all options of a group of two."""
    instance = generate(4, seed=1, groups=(2, 2))
    for unit in build_units(build_pool(instance)):
        at = prices_of(instance, unit, 0.02)
        best = every_option(unit).worth(at).max()
        monkeypatch.setattr(module, "_FEW", 0)
        poor = Unit(unit.group, unit.tasks, unit.sharing, unit.weights, unit.paths[:1])
        better = poor.answers(at)
        assert better.worth(at).max() == pytest.approx(best, rel=1e-12)
        assert better.answers(at).worth(at).max() == better.worth(at).max()


def test_answers_only_add_what_is_worth_something(monkeypatch):
    monkeypatch.setattr(module, "_FEW", 100)
    instance = generate(8, seed=3, groups=(4, 4))
    for unit in build_units(build_pool(instance)):
        at = prices_of(instance, unit)
        better = unit.answers(at)
        assert better.worth(at).max() >= unit.worth(at).max()
        assert len({tuple(row) for row in better.paths.tolist()}) == len(better)


def test_a_single_task_is_a_unit_with_its_paths_as_options():
    pool = build_pool(generate(3, seed=0))
    for unit, task in zip(build_units(pool), pool.tasks, strict=True):
        assert unit.use is task.paths.use
        assert unit.paths[:, 0].tolist() == list(range(len(task)))
        assert unit.answers(Valuation(np.zeros(3), 1.0, 1.0)) is unit
