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
from code_opt.methods.prices import PriceMaster
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
    assert max(losses) <= 0.02
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


def market_of(instance):
    work = Searcher(Judge(build_pool(instance), Settings()))
    market = PriceMaster(work.judge, work)
    market.converge(Clock(None))
    return work, market


def test_remembered_prices_bound_every_pair_of_moves():
    judge = Judge(build_pool(generate(5, seed=11)), Settings())
    work = Searcher(judge)
    state = work.settle(work.evaluate(work.most_accurate()), Clock(None))
    rng = np.random.default_rng(1)
    one, two = rng.choice(len(work.task), size=(2, 80))
    one, two = (pair[work.task[one] != work.task[two]] for pair in (one, two))
    bound = work._bound_of_pairs(state, one, two)
    for i, (a, b) in enumerate(zip(one.tolist(), two.tolist(), strict=True)):
        choice = state.choice.copy()
        choice[work.task[[a, b]]] = [a, b]
        moved = work.evaluate(choice)
        if moved.violation == 0.0:
            assert moved.throughput <= bound[i] * (1 + 1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_prices_bound_the_objective_of_every_assignment(seed):
    instance = generate(6, seed=seed, links=seed % 2 == 1, memory=seed == 2)
    work, market = market_of(instance)
    bound, less = market.bound()
    assert less.min() >= 0.0
    rng = np.random.default_rng(seed)
    feasible = 0
    for _ in range(40):
        start = work.first[:-1] + rng.integers(np.diff(work.first))
        state = work.settle(work.evaluate(start), Clock(None))
        if state.violation == 0.0:
            feasible += 1
            assert state.value <= bound - less[state.choice].sum() + 1e-7
    assert feasible > 0
    assert np.log(solve(instance).reward) <= bound + 1e-7


def test_a_restricted_search_values_and_names_paths_as_before():
    work, market = market_of(generate(6, seed=3))
    state = work.evaluate(market.dive(Clock(None)))
    paths = work.chosen(state.choice)
    rng = np.random.default_rng(0)
    keep = rng.random(len(work.task)) < 0.5
    keep[state.choice] = True
    renumbered = work.restrict(keep)
    market.restrict(renumbered)
    again = work.evaluate(renumbered[state.choice])
    assert again.merit == pytest.approx(state.merit, rel=1e-12)
    assert [p.arcs for p in work.chosen(again.choice)] == [p.arcs for p in paths]
    assert len(work.task) == keep.sum()
    # Dives go on with the paths that are left.
    choice = market.dive(Clock(None))
    assert (work.task[choice] == np.arange(6)).all()


def test_a_dive_keeps_whom_it_does_not_free_and_avoids_what_is_barred():
    work, market = market_of(generate(12, seed=2))
    present = market.dive(Clock(None))
    for task in range(12):
        freed = market.neighbourhood(task, 4, np.random.default_rng(task))
        assert freed[0] == task
        assert len(set(freed.tolist())) == 4
        choice = market.dive(Clock(None), present, freed, barred=present[[task]])
        assert choice[task] != present[task]
        kept = np.setdiff1d(np.arange(12), freed)
        assert (choice[kept] == present[kept]).all()
        assert (work.task[choice] == np.arange(12)).all()


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


@pytest.mark.parametrize("seed", range(4))
def test_a_limit_that_is_over_at_once_still_leaves_an_assignment(seed):
    instance = generate(12, seed=seed, links=True, memory=True, measured=2)
    assert solve(instance, "code", time_limit=1e-6).has_solution
