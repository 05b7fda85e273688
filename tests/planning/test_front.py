"""The Pareto front: against all assignments, every point proven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from code_opt.errors import InputError
from code_opt.instance import Instance, load_instance
from code_opt.planning import PlanSettings, plan_front
from code_opt.planning.front import _supported
from tests.planning.reference import exhaustive_front, planning_instance, seeds

DATA = Path(__file__).resolve().parents[2] / "data"
EXACT = PlanSettings(gap=1e-7, time_limit=None)


@pytest.mark.parametrize("seed", seeds(10, 150))
def test_the_front_is_that_of_all_assignments(seed: int) -> None:
    instance = planning_instance(seed + 2100, max_combinations=60)
    plan = plan_front(instance, EXACT, points=None)
    front = exhaustive_front(instance)
    points = plan.table("points").records()
    if not front:
        assert plan.status == "infeasible"
        assert plan.message
        assert points == []
        return
    assert plan.settings["complete"] is True
    found = [(p["throughput_per_s"], p["accuracy"]) for p in points]
    assert np.array(found) == pytest.approx(np.array(front), rel=2e-6, abs=1e-9)
    assert [p["point"] for p in points] == list(range(1, len(points) + 1))
    for p in points:
        assert p["status"] == "optimal"
        assert p["gap"] <= 1e-6
        assert p["throughput_bound_per_s"] >= p["throughput_per_s"] * (1 - 1e-6)


def test_unsupported_points_are_there_and_told() -> None:
    """A point below the line between its neighbours, which no weighted sum would find."""
    found = 0
    for seed in range(2100, 2116):
        instance = planning_instance(seed, max_combinations=60)
        for p in plan_front(instance, EXACT, points=None).table("points").records():
            found += not p["supported"]
    assert found >= 2


def test_the_hull_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = int(rng.integers(1, 9))
        x = np.sort(rng.uniform(0, 10, n))[::-1]
        y = np.sort(rng.uniform(0, 1, n))
        values = list(zip(x.tolist(), y.tolist(), strict=True))
        for k, on in enumerate(_supported(values)):
            # On the hull: some weights make it at least as good as every other point.
            best = any(
                all(w * x[k] + (1 - w) * y[k] >= w * a + (1 - w) * b - 1e-12 for a, b in values)
                for w in [*np.linspace(0, 1, 4001) ** 3, 0.0, 1.0]
            )
            assert on or not best


def test_few_points_are_points_of_the_whole_front() -> None:
    instance = load_instance(DATA / "alexnet-mobilenet" / "balanced.json")
    whole = plan_front(instance, EXACT, points=None).table("points").records()
    some = plan_front(instance, EXACT, points=5)
    assert some.settings["complete"] is False
    few = some.table("points").records()
    assert 2 <= len(few) <= 5
    for p in few:
        assert any(
            p["throughput_per_s"] == pytest.approx(q["throughput_per_s"], rel=1e-5)
            and p["accuracy"] == pytest.approx(q["accuracy"], rel=1e-5)
            for q in whole
        )
    # Both ends are there.
    assert few[0]["throughput_per_s"] == pytest.approx(whole[0]["throughput_per_s"], rel=1e-6)
    assert few[-1]["accuracy"] == pytest.approx(whole[-1]["accuracy"], rel=1e-6)


def test_an_executor_changes_nothing(plenty: Instance) -> None:
    with ThreadPoolExecutor(1) as pool:
        there = plan_front(plenty, EXACT, points=4, executor=pool)
    here = plan_front(plenty, EXACT, points=4)

    def figures(plan):
        return [row[:4] for row in plan.table("points").rows]

    assert figures(here) == figures(there)


def test_a_floor_on_the_accuracy_cuts_the_front(plenty: Instance) -> None:
    plan = plan_front(plenty, PlanSettings(min_accuracy=0.85), points=None)
    assert all(p["accuracy"] >= 0.85 - 1e-6 for p in plan.table("points").records())


def test_too_few_points_are_refused(plenty: Instance) -> None:
    with pytest.raises(InputError, match="at least 2"):
        plan_front(plenty, points=1)
