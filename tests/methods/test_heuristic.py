"""CoDE's heuristic: feasible, reproducible, near the optimum, never better than a bound."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from code_opt.generate import generate
from code_opt.instance import parse_instance
from code_opt.methods import Settings, solve
from code_opt.methods.assignment import Judge
from code_opt.methods.heuristic import search
from code_opt.methods.local_search import Searcher
from code_opt.methods.settings import Clock
from code_opt.paths import build_pool


def test_near_the_proven_optimum_on_instances_not_tuned_on():
    losses = []
    for services in (2, 5, 10):
        for seed in range(1000, 1006):
            instance = generate(services, seed=seed)
            exact, code = solve(instance), solve(instance, "code")
            assert code.reward <= exact.bound * (1 + 1e-9)
            losses.append(1.0 - code.reward / exact.reward)
    assert max(losses) <= 0.04
    assert statistics.median(losses) <= 0.005


def test_all_kinds_of_constraints():
    for seed in range(4):
        instance = generate(8, seed=seed, links=True, latency=True, memory=True, measured=3)
        exact, code = solve(instance), solve(instance, "code")
        assert code.reward >= 0.95 * exact.reward


def test_a_seed_gives_one_answer():
    instance = generate(12, seed=7)
    first, second = (solve(instance, "code", seed=3).to_dict() for _ in range(2))
    del first["seconds"], second["seconds"]
    assert first == second


def test_counts_of_paths_and_measurements():
    instance = generate(10, seed=1)
    details = solve(instance, "code").details
    assert 10 <= details["paths_measured"] < details["paths_predicted"] < details["paths"]


@pytest.mark.parametrize("objective", ["throughput", "accuracy"])
def test_other_objectives(objective):
    instance = generate(8, seed=5)
    floors = {"min_accuracy": 0.76} if objective == "throughput" else {"min_throughput": 2500.0}
    exact = solve(instance, objective=objective, **floors)
    code = solve(instance, "code", objective=objective, **floors)
    assert exact.status == "optimal"
    assert code.has_solution
    assert 0.95 * exact.value <= code.value <= exact.bound * (1 + 1e-9)


def test_an_infeasible_instance_is_not_answered():
    instance = generate(4, seed=1)
    data = instance.to_dict()
    for task in data["tasks"]:
        task["floor"], task["demand"] = 1e5, None
    result = solve(parse_instance(data), "code")
    assert (result.status, result.has_solution) == ("unknown", False)
    assert "no assignment found" in result.message or "no admissible path" in result.message


def test_remembered_prices_bound_every_move():
    """Lagrangian duality: no single move beats what any remembered price promises."""
    judge = Judge(build_pool(generate(5, seed=11)), Settings())
    work = Searcher(judge)
    state = work.settle(work.evaluate(work.most_accurate()), Clock(None))
    bound = work._bound(state)
    rng = np.random.default_rng(0)
    for path in rng.choice(len(bound), size=60, replace=False).tolist():
        choice = state.choice.copy()
        choice[work.task[path]] = path
        moved = work.evaluate(choice)
        if moved.violation == 0.0:
            assert moved.throughput <= bound[path] * (1 + 1e-7)


def test_measured_values_replace_and_correct_predictions():
    data = generate(1, seed=0, hosts=0).to_dict()
    task = data["tasks"][0]
    exits = [c for c in task["connections"] if c["target"] == "output"]
    block = exits[-1]["source"]
    last = int(block.rsplit("/", 1)[1])
    path = [f"s0/{i}" for i in range(last + 1)]
    task["measured_paths"] = [{"blocks": path, "accuracy": 0.1}]
    pool = build_pool(parse_instance(data))
    work = Searcher(Judge(pool, Settings()))
    blocks = [pool.tasks[0].blocks(i) for i in range(len(pool.tasks[0]))]
    # The measured path is far below its prediction: paths that share its exit are expected
    # to be worse, too; the native path shares no connection and keeps its prediction.
    native = blocks.index(tuple(f"s0/{i}" for i in range(5)))
    assert work.estimate[native] == pytest.approx(task["accuracy"])
    alike = [i for i, b in enumerate(blocks) if b[-1] == block and b != tuple(path)]
    for i in alike:
        assert work.estimate[i] < pool.tasks[0].paths.predicted[i]


def test_the_clock_ends_the_search():
    judge = Judge(build_pool(generate(30, seed=0)), Settings())
    outcome = search(judge, Clock(1e-9), restarts=1000)
    assert outcome.stages == 0
