"""The Pareto front: against all assignments, every point proven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from code_opt.errors import InputError
from code_opt.generate import generate
from code_opt.instance import Instance, load_instance
from code_opt.paths import PathProblem
from code_opt.planning import PlanSettings, plan_front, plan_marginal, plan_sweep
from code_opt.planning.front import _supported
from code_opt.result import Result
from code_opt.solving import solve
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


class Limited:
    """Solves as the package does, but stops at some accuracies without an assignment."""

    def __init__(self, least: float, objectives: tuple[str, ...] = ("throughput",)) -> None:
        self.least, self.objectives = least, objectives

    def __call__(self, problem: PathProblem, **options: Any) -> Result:
        found = solve(problem, **options)
        floor = options.get("min_accuracy") or 0.0
        if options["objective"] not in self.objectives or not self.least <= floor < 0.87:
            return found
        return Result(
            schema="code-opt/result/1",
            instance=problem.instance.name,
            method="exact",
            objective=found.objective,
            status="unknown",
            min_accuracy=options.get("min_accuracy"),
            min_throughput=options.get("min_throughput"),
            message="stopped by time limit before any assignment was found",
        )


def busy(plenty: Instance) -> Instance:
    """Return services of which one gives up accuracy for throughput."""
    tasks = [t.model_dump(mode="json") for t in plenty.tasks]
    tasks[0]["demand"] = 100.0
    return plenty.replace(tasks=tasks)


@pytest.mark.parametrize("points", [None, 3])
def test_a_point_that_a_limit_lost_is_there(
    plenty: Instance, points: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = busy(plenty)
    whole = plan_front(instance, EXACT, points=None)
    assert (whole.status, whole.settings["complete"]) == ("optimal", True)
    first, last = whole.table("points").records()
    monkeypatch.setattr("code_opt.planning.front.solve", Limited(0.825001))
    plan = plan_front(instance, EXACT, points=points)
    assert (plan.status, plan.settings["complete"]) == ("unknown", False)
    assert plan.has_any
    assert "a limit came before 1 of 3 points was found" in (plan.message or "")
    found, lost, top = plan.table("points").records()
    assert found["status"] == top["status"] == "optimal"
    assert (found["throughput_per_s"], top["accuracy"]) == pytest.approx(
        (first["throughput_per_s"], last["accuracy"])
    )
    assert lost["status"] == "unknown"
    assert lost["throughput_per_s"] is lost["accuracy"] is lost["gap"] is None
    # What is missing has no more of either than these.
    assert lost["throughput_bound_per_s"] == pytest.approx(first["throughput_per_s"])
    assert lost["accuracy_bound"] == pytest.approx(last["accuracy"])


@pytest.mark.parametrize("points", [None, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_gaps_are_those_of_what_is_shown_at_any_limit(seed: int, points: int | None) -> None:
    """The second of two programs that a limit stops may find the assignment of more throughput."""
    plan = plan_front(
        generate(3, seed=seed, limited_demand=1.0), PlanSettings(time_limit=1e-9), points=points
    )
    found = [row for row in plan.table("points").records() if row["status"] != "unknown"]
    assert len(found) > 1
    for row in found:
        missed = row["throughput_bound_per_s"] / row["throughput_per_s"] - 1.0
        assert row["gap"] == pytest.approx(
            max(missed, row["accuracy_bound"] / row["accuracy"] - 1.0, 0.0)
        )


def test_a_front_whose_first_point_is_lost_is_unknown(
    plenty: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_opt.planning.front.solve", Limited(0.0))
    plan = plan_front(busy(plenty), EXACT)
    assert plan.status == "unknown"
    assert [p["status"] for p in plan.table("points").records()] == ["unknown"]
    assert not plan.has_any
    assert "stopped by time limit" in (plan.message or "")


def test_a_point_without_its_most_accuracy_is_not_proven(
    plenty: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Limited):
        def __call__(self, instance: Instance, **options: Any) -> Result:
            if options.get("min_throughput") is None:
                return solve(instance, **options)
            return super().__call__(instance, **options)

    monkeypatch.setattr("code_opt.planning.front.solve", Second(0.0, ("accuracy",)))
    plan = plan_front(busy(plenty), EXACT, points=None)
    assert plan.settings["complete"] is False
    first = plan.table("points").records()[0]
    assert first["status"] == "feasible"
    assert first["accuracy_bound"] >= first["accuracy"]
    assert first["gap"] is not None


def test_too_few_points_are_refused(plenty: Instance) -> None:
    with pytest.raises(InputError, match="at least 2"):
        plan_front(plenty, points=1)


def test_a_demand_of_the_settings_counts_where_there_is_none() -> None:
    instance = load_instance(DATA / "two-services.json")
    without = {task.id for task in instance.tasks if task.demand is None}
    assert without
    settings = PlanSettings(demand=5.0)
    front = plan_front(instance, settings, points=2).table("paths").records()
    assert max(row["rate_per_s"] for row in front if row["task"] in without) <= 5.0 + 1e-6
    assert plan_marginal(instance, settings).status == "optimal"
    sweep = plan_sweep(instance, settings, vary=["reward.accuracy.exponent=1,2"])
    most = sum(5.0 if task.demand is None else task.demand for task in instance.tasks)
    rows = sweep.table("sweep").records()
    assert max(row["throughput_per_s"] for row in rows) <= most * (1 + 1e-6)
