"""Baselines: each keeps to its own rules, and all to the instance's."""

from __future__ import annotations

import pytest

from code_opt.generate import generate
from code_opt.methods import solve


@pytest.fixture(scope="module")
def instance():
    return generate(8, seed=3)


def dnn_of(block):
    return block.split("/")[0]


def test_local_keeps_every_native_path(instance):
    result = solve(instance, "local")
    native = {
        t.id: tuple(b.id for b in d.blocks)
        for t in instance.tasks
        for d in instance.dnns
        if d.id == t.dnn
    }
    assert {t.task: t.path for t in result.tasks} == native


def test_edge_early_leaves_the_own_trunk_only_by_an_exit(instance):
    result = solve(instance, "edge-early")
    own = {t.id: t.dnn for t in instance.tasks}
    exits = 0
    for task in result.tasks:
        trunk = [f"{own[task.task]}/{i}" for i in range(5)]
        assert list(task.path) == trunk[: len(task.path)]
        exits += len(task.path) < 5
    assert exits > 0


def test_host_runs_in_one_other_trunk_where_possible(instance):
    result = solve(instance, "host")
    own = {t.id: t.dnn for t in instance.tasks}
    hosted = 0
    for task in result.tasks:
        dnns = {dnn_of(b) for b in task.path}
        assert len(dnns) == 1
        hosted += dnns != {own[task.task]}
    assert hosted > 0


def test_greedy_is_a_local_optimum_of_single_moves(instance):
    greedy, code = solve(instance, "greedy"), solve(instance, "code")
    local = solve(instance, "local")
    assert local.reward <= greedy.reward <= solve(instance).bound * (1 + 1e-9)
    assert code.reward >= greedy.reward * (1 - 1e-9)


def test_random_has_the_budget_of_code_and_a_seed(instance):
    code = solve(instance, "code", seed=1)
    first, second = (solve(instance, "random", seed=1) for _ in range(2))
    assert first.details["assignments"] == code.details["assignments"]
    assert first.tasks == second.tasks
    assert not first.has_solution or first.reward <= code.reward


def test_coordination_pays_here(instance):
    local, code = solve(instance, "local"), solve(instance, "code")
    assert code.reward > 1.1 * local.reward
