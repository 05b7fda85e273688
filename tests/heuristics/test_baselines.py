"""Baselines: each keeps to its own rules, and all to the instance's."""

from __future__ import annotations

import pytest

from code_opt import check, without_sharing
from code_opt.core.parameters import BaselineParameters
from code_opt.generate import generate
from code_opt.solving import METHODS, solve


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
    greedy, code = solve(instance, "greedy"), solve(instance, "lns")
    local = solve(instance, "local")
    assert local.reward <= greedy.reward <= solve(instance).bound * (1 + 1e-9)
    assert code.reward >= greedy.reward * (1 - 1e-9)


def test_random_has_the_budget_of_code_and_a_seed(instance):
    code = solve(instance, "lns", seed=1)
    first, second = (solve(instance, "random", seed=1) for _ in range(2))
    least = BaselineParameters().least_draws
    assert first.details["assignments"] == max(code.details["assignments"], least)
    assert first.tasks == second.tasks
    assert not first.has_solution or first.reward <= code.reward


def test_coordination_pays_here(instance):
    local, code = solve(instance, "local"), solve(instance, "lns")
    assert code.reward > 1.1 * local.reward


@pytest.fixture(scope="module")
def camera():
    return generate(6, seed=1, blocks=4, groups=(1, 4))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_respects_input_groups(camera, method):
    result = solve(camera, method, gap=1e-3)
    assert result.has_solution
    assert check(result, camera) == []
    rates: dict[str, set[float]] = {}
    for task, row in zip(camera.tasks, result.tasks, strict=True):
        rates.setdefault(task.input_group, set()).add(row.rate)
    assert all(len(found) == 1 for found in rates.values())


@pytest.mark.parametrize("seed", range(3))
def test_sharing_pays_and_only_those_find_it_who_move_together(seed):
    camera = generate(4, seed=seed, blocks=4, groups=(4, 4))
    best, code = solve(camera, gap=1e-3), solve(camera, "lns")
    apart = solve(without_sharing(camera), gap=1e-3)
    assert best.reward > 1.15 * apart.reward
    assert 0.99 * best.reward < code.reward <= best.bound * (1 + 1e-9)
    # One task at a time: nobody borrows first what only pays if others do, too.
    assert solve(camera, "greedy").reward < 0.9 * code.reward
