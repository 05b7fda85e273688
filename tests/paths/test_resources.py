"""A kind of resource that the package does not have: its description is all that methods need."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from code_opt.paths import resources
from code_opt.paths.resources import KINDS, ServerBudget, enlarged, list_resources
from code_opt.solving import solve
from tests.reference import reference_pool
from tests.strategies import random_instance

WATTS = 40.0


class Energy(ServerBudget):
    """Energy of a server: so much per block and inference, paid per inference."""

    name, unit, is_rate = "energy", "W", True

    def capacity(self, record):
        return WATTS if record.id == "s0" else None

    def of_block(self, server, block):
        return joules(block.id) / WATTS


class Room(ServerBudget):
    """Room of a server for adapters: so many fit, whatever they do; paid once."""

    name, unit, is_rate = "room", "adapters", False

    def capacity(self, record):
        return 1.0

    def of_adapter(self, server, connection):
        return 1.0


def joules(block):
    return 1.0 + 0.1 * (sum(map(ord, block)) % 7)


def brute_force(instance):
    """Return the largest throughput: every choice of paths, its rates by a linear program."""
    pools = [list(paths) for paths in reference_pool(instance).values()]
    speed = np.array([s.flops for s in instance.servers])
    home = {b.id: d.server for d in instance.dnns for b in d.blocks}
    tasks = instance.tasks
    best = None
    for paths in itertools.product(*pools):
        adapters = dict.fromkeys((s.id for s in instance.servers), 0)
        for task, path in zip(tasks, paths, strict=True):
            ends = set(zip(("input", *path.blocks), (*path.blocks, "output"), strict=True))
            for c in task.connections:
                if (c.source, c.target) in ends:
                    near = c.target if c.source == "input" else c.source
                    adapters[c.server or home[near]] += 1
        if max(adapters.values()) > 1:
            continue
        energy = [sum(joules(b) for b in p.blocks if home[b] == "s0") / WATTS for p in paths]
        rows = np.vstack([np.array([p.work / speed for p in paths]).T, energy])
        found = linprog(-np.ones(len(paths)), A_ub=rows, b_ub=np.ones(len(rows)), bounds=(0, None))
        if found.success and (best is None or -found.fun > best):
            best = -found.fun
    return best


@pytest.mark.parametrize("seed", range(12))
def test_a_new_budget_needs_its_description_alone(seed, monkeypatch):
    instance = random_instance(
        seed, links="none", rates=False, limits=False, measured=False, max_combinations=300
    )
    before = solve(instance, objective="throughput").throughput
    monkeypatch.setattr(resources, "KINDS", (*KINDS, Energy(), Room()))
    best = brute_force(instance)
    for formulation in ("path", "flow", "colgen"):
        found = solve(instance, objective="throughput", formulation=formulation)
        if best is None:
            assert found.status == "infeasible"
            continue
        assert found.throughput == pytest.approx(best, rel=2e-4)
        assert best <= before * (1 + 2e-4)


def test_the_new_budgets_cost_something(monkeypatch):
    """Else the test above would show nothing."""

    def throughput(instance):
        return solve(instance, "greedy", objective="throughput").throughput or 0.0

    lost = 0
    for seed in range(12):
        instance = random_instance(seed, links="none", rates=False, limits=False, measured=False)
        free = throughput(instance)
        with monkeypatch.context() as patch:
            patch.setattr(resources, "KINDS", (*KINDS, Energy(), Room()))
            lost += throughput(instance) < 0.99 * free
    assert lost >= 6


def test_resources_are_enlarged_each_by_itself():
    instance = random_instance(3, links="all")
    found = [r for r in list_resources(instance, KINDS) if r.kind.is_sold]
    more = enlarged(instance, [(resource, resource.capacity) for resource in found])
    again = [r for r in list_resources(more, KINDS) if r.kind.is_sold]
    assert [r.key for r in again] == [r.key for r in found]
    assert [r.capacity for r in again] == [2.0 * r.capacity for r in found]
    assert more.dnns == instance.dnns
