"""Rates for fixed paths against an independent linear program."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from code_opt.core.allocation import RateAllocator
from code_opt.generate import generate
from code_opt.instance import parse_instance
from code_opt.paths import build_pool


def padded(allocator, uses):
    """Return the uses of groups as the allocator takes them."""
    found = np.zeros(allocator.groups.resource.shape)
    for row, use in zip(found, uses, strict=True):
        row[: len(use)] = use
    return found


@pytest.mark.parametrize("seed", range(6))
def test_throughput_equals_an_independent_linear_program(seed):
    data = generate(8, seed=seed, links=seed % 2 == 1).to_dict()
    for task in data["tasks"]:
        task["floor"] = 15.0
    pool = build_pool(parse_instance(data))
    allocator = RateAllocator(pool)
    rng = np.random.default_rng(seed)
    solved = 0
    for _ in range(25):
        picks = [int(rng.integers(len(t))) for t in pool.tasks]
        uses = [t.paths.use[p] for t, p in zip(pool.tasks, picks, strict=True)]
        matrix = np.zeros((len(pool.resources), len(pool.tasks)))
        for column, (task, use) in enumerate(zip(pool.tasks, uses, strict=True)):
            matrix[task.resources, column] = np.where(task.is_rate_resource, use, 0.0)
        bounds = [(t.floor, t.task.demand) for t in pool.tasks]
        expected = linprog(-np.ones(len(uses)), matrix, np.ones(len(matrix)), bounds=bounds)
        use = padded(allocator, uses)
        plain = allocator.allocate(use)
        assert (plain is None) == (expected.status == 2)
        if plain is None:
            continue
        solved += 1
        tied = allocator.allocate_canonical(use)
        assert plain.throughput == pytest.approx(-expected.fun, rel=1e-7)
        assert tied.throughput == pytest.approx(-expected.fun, rel=1e-7)
        assert (matrix @ tied.rates <= 1 + 1e-7).all()
        # Strong duality: duals and reduced profits add up to the throughput.
        profit = 1.0 - matrix.T @ plain.dual
        most = [np.inf if t.task.demand is None else t.task.demand for t in pool.tasks]
        worth = sum(
            p * (m if p > 1e-9 else t.floor)
            for p, m, t in zip(profit, most, pool.tasks, strict=True)
        )
        assert plain.dual.sum() + worth == pytest.approx(plain.throughput, rel=1e-6)
    assert solved > 0


@pytest.mark.parametrize("seed", range(6))
def test_the_tasks_of_a_group_have_one_rate_and_pay_once(seed):
    pool = build_pool(generate(8, seed=seed, groups=(1, 4)))
    allocator = RateAllocator(pool)
    rng = np.random.default_rng(seed)
    size = np.array([len(group.tasks) for group in pool.groups])
    for _ in range(25):
        picks = [int(rng.integers(len(t))) for t in pool.tasks]
        uses = [
            group.use([pool.tasks[t].paths.arcs_of(picks[t]) for t in group.tasks])
            for group in pool.groups
        ]
        matrix = np.zeros((len(pool.resources), len(uses)))
        for column, (group, use) in enumerate(zip(pool.groups, uses, strict=True)):
            matrix[group.resources, column] = np.where(group.is_rate_resource, use, 0.0)
        bounds = [(group.floor, group.demand) for group in pool.groups]
        expected = linprog(-size, matrix, np.ones(len(matrix)), bounds=bounds)
        found = allocator.allocate_canonical(padded(allocator, uses))
        assert (found is None) == (expected.status == 2)
        if found is None:
            continue
        assert found.throughput == pytest.approx(-expected.fun, rel=1e-7)
        assert found.group_throughput.sum() == pytest.approx(found.throughput)
        for group in pool.groups:
            assert len(set(found.rates[list(group.tasks)])) == 1
