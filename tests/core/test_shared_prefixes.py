"""What paths of a group share, told prefix by prefix, is what they pay step by step."""

from __future__ import annotations

import numpy as np
import pytest

from code_opt.core.columns import ColumnTable
from code_opt.core.joint_tasks import single_tasks
from code_opt.core.shared_prefixes import SharedPrefixes
from code_opt.generate import generate
from code_opt.paths import PathPool, build_pool


def shared_pool(seed: int) -> tuple[PathPool, ColumnTable, SharedPrefixes]:
    pool = build_pool(generate(6, seed=seed, groups=(2, 3)))
    table = ColumnTable(pool, single_tasks(pool))
    return pool, table, SharedPrefixes.of(table)


@pytest.mark.parametrize("seed", range(4))
def test_loads_are_those_of_the_steps_that_are_paid(seed: int) -> None:
    pool, table, shared = shared_pool(seed)
    assert len(shared.parent)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        columns = rng.integers(table.first[:-1], table.first[1:])
        rates = np.zeros(len(pool.tasks))
        per_second, once = np.zeros((2, len(pool.resources)))
        for group in pool.groups:
            rate = rates[list(group.tasks)] = rng.uniform(0.0, 9.0)
            numbers = columns[list(group.tasks)] - table.first[list(group.tasks)]
            tasks = (pool.tasks[t] for t in group.tasks)
            arcs = [task.paths.arcs_of(n) for task, n in zip(tasks, numbers.tolist(), strict=True)]
            per_second[group.resources] += rate * group.use(arcs)
            once[group.resources] += group.use(arcs)
        found = shared.load(columns, rates)
        assert found[0] == pytest.approx(per_second)
        assert found[1] == pytest.approx(once)


@pytest.mark.parametrize("seed", range(4))
def test_beside_others_a_path_costs_what_it_adds(seed: int) -> None:
    pool, table, shared = shared_pool(seed)
    group = next(group for group in pool.groups if group.is_shared)
    task, *others = group.tasks
    rng = np.random.default_rng(seed)
    columns = np.full(len(pool.tasks), -1)
    columns[others] = rng.integers(table.first[others], table.first[1:][others])
    rates = np.ones(len(columns))
    without, _ = shared.load(columns, rates)
    rows = np.arange(table.first[task], table.first[task + 1])
    more = shared.beside(rows, columns[others])
    for row, added in zip(rows.tolist(), more, strict=True):
        columns[task] = row
        assert shared.load(columns, rates)[0] - without == pytest.approx(added)
    assert (more <= table.use[rows].toarray() + 1e-12).all()


def test_rows_name_every_use_once() -> None:
    pool, table, shared = shared_pool(0)
    names = [resource.name for resource in pool.resources]
    resources = np.flatnonzero(pool.topology.is_rate_resource)
    rows = shared.rows(resources, names, np.full(len(names), 2.0))
    assert list(rows.names) == [names[i] for i in resources]
    use = np.zeros((len(table), len(resources)))
    prefixes = shared.columns_by_task(table.task)
    for i, entries in enumerate(rows.entries):
        for column, amount in entries:
            use[column, i] += amount
        for prefix, amount in rows.shared_of(i):
            for columns in prefixes[prefix]:
                use[columns, i] += amount
    assert 2.0 * use == pytest.approx(table.use.toarray()[:, resources])
