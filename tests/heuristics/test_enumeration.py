"""Few assignments: lns looks at all of them, so it is exact and never at a loss."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest

from code_opt.core.columns import ColumnTable
from code_opt.core.evaluator import Evaluator
from code_opt.core.settings import Clock, Settings
from code_opt.generate import generate
from code_opt.heuristics import lns
from code_opt.heuristics.enumeration import best_of_all, has_few_assignments
from code_opt.heuristics.search import AssignmentSearch
from code_opt.paths import PathPool, build_pool
from code_opt.solving import solve
from tests.reference import solve_reference
from tests.strategies import random_instance


@pytest.mark.parametrize("block", range(3))
def test_lns_is_exact_where_assignments_are_few(block: int) -> None:
    feasible = 0
    for seed in range(block * 15, block * 15 + 15):
        options = ({}, {"groups": True}, {"devices": True}, {"alternatives": True})[seed % 4]
        instance = random_instance(seed, max_combinations=1500, **options)
        objective = ("reward", "throughput", "accuracy")[seed % 3]
        floor = 0.6 if seed % 2 else None
        expected = solve_reference(instance, objective=objective, min_accuracy=floor)
        found = solve(instance, "lns", objective=objective, min_accuracy=floor)
        assert found.has_solution == (expected is not None), seed
        if expected is not None:
            feasible += 1
            assert found.value == pytest.approx(expected.value, rel=1e-6), seed
    assert feasible >= 5


def test_bounds_leave_most_programs_out() -> None:
    """Far fewer rate programs than assignments, and the best of them all the same."""
    instance = generate(3, seed=0, blocks=3, measured=2)
    evaluator = Evaluator(build_pool(instance), Settings())
    table = ColumnTable(evaluator.pool)
    number = math.prod(len(task) for task in table.joint_tasks)
    assert number > 100
    assert has_few_assignments(table, number)
    assert not has_few_assignments(table, number - 1)
    work = AssignmentSearch(evaluator, table)
    best = best_of_all(work, Clock(None))
    assert best is not None
    assert work.assignments < number / 5
    every = np.indices([len(task) for task in table.joint_tasks])
    choices = every.reshape(len(every), -1).T + table.first[:-1]
    assert best.merit == pytest.approx(max(work.evaluate(c).merit for c in choices), abs=1e-9)


def test_tasks_without_a_choice_are_no_burden() -> None:
    """One assignment of many tasks, as of restricted pools, has nothing to be listed for."""
    table = ColumnTable(few_paths(70))
    assert not has_few_assignments(table, len(table) ** 70)
    some = ColumnTable(few_paths(60))
    assert has_few_assignments(some, 1)
    best = best_of_all(AssignmentSearch(Evaluator(some.pool, Settings()), some), Clock(None))
    assert best is not None


def few_paths(services: int) -> PathPool:
    """Return a pool in which every task has its first path only."""
    pool = build_pool(generate(services, seed=0, hosts=0, blocks=2))
    return PathPool(pool.topology, tuple(task.subset([0]) for task in pool.tasks))


def test_many_assignments_are_searched() -> None:
    instance = generate(3, seed=0, blocks=3, measured=2)
    with mock.patch.object(lns, "has_few_assignments", return_value=False):
        searched = solve(instance, "lns")
    found = solve(instance, "lns")
    assert found.details["paths_measured"] == found.details["paths_predicted"]
    assert searched.details["paths_measured"] < searched.details["paths_predicted"]
    assert searched.value <= found.value * (1 + 1e-9)
