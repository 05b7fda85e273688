"""Marginal values: duals are finite differences, gains are what re-solving gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from code_opt import solve
from code_opt.errors import InputError
from code_opt.generate import generate
from code_opt.instance import Instance
from code_opt.planning import PlanSettings, plan_marginal, with_value
from tests.planning.reference import Tables, floors_of, path_of, planning_instance, seeds
from tests.strategies import random_instance

EXACT = PlanSettings(gap=1e-7, time_limit=None)


def most_throughput(instance: Instance, paths: dict[str, tuple[str, ...]], capacity) -> float:
    """Return the most throughput of fixed paths, the floors being those of the instance."""
    tables = Tables(instance)
    use = np.array(
        [tables.use(path_of(instance, t, " > ".join(blocks))) for t, blocks in paths.items()]
    )
    answer = linprog(
        -np.ones(len(paths)),
        A_ub=(use / tables.capacity).T,
        b_ub=np.asarray(capacity) / tables.capacity * (1 + 1e-9),
        bounds=[
            (floor, task.demand)
            for floor, task in zip(floors_of(instance), instance.tasks, strict=True)
        ],
        method="highs",
    )
    assert answer.status == 0
    return -float(answer.fun)


@pytest.mark.parametrize("seed", seeds(10, 150))
def test_duals_are_finite_differences(seed: int) -> None:
    """Between the slopes of a little less and a little more (equal but at a kink)."""
    instance = planning_instance(seed + 2500, max_combinations=60)
    base = solve(instance, objective="throughput", gap=1e-7)
    plan = plan_marginal(instance, EXACT, objective="throughput")
    if not base.has_solution:
        assert plan.status == "infeasible"
        assert plan.message
        return
    tables = Tables(instance)
    paths = {row.task: row.path for row in base.tasks}
    duals = [r["dual"] for r in plan.table("servers").records()]
    duals += [r["dual"] for r in plan.table("links").records()]
    middle = most_throughput(instance, paths, tables.capacity)
    for i, dual in enumerate(duals):
        step = np.zeros(len(tables.capacity))
        step[i] = 1e-5 * tables.capacity[i]
        more = most_throughput(instance, paths, tables.capacity + step)
        above = (more - middle) / step[i]
        slack = 1e-4 * max(abs(above), middle / tables.capacity[i] * 1e-2) + 1e-12
        assert dual >= above - slack
        try:
            less = most_throughput(instance, paths, tables.capacity - step)
        except AssertionError:  # the floors need all of it
            continue
        assert dual <= (middle - less) / step[i] + slack


def test_gains_are_those_of_solving_again() -> None:
    instance = generate(4, seed=1, links=True)
    plan = plan_marginal(instance, EXACT, step=0.1)
    base = solve(instance, gap=1e-7)
    assert plan.settings["value"] == pytest.approx(base.reward)
    servers = plan.table("servers").records()
    assert any(r["dual"] > 0 for r in servers)
    for row in servers:
        (server,) = (s for s in instance.servers if s.id == row["server"])
        floors = floors_of(instance)
        tasks = [
            {**t.model_dump(mode="json"), "floor": f}
            for t, f in zip(instance.tasks, floors, strict=True)
        ]
        more = with_value(
            instance.replace(tasks=tasks), f"servers[{server.id}].flops", server.flops * 1.1
        )
        again = solve(more, gap=1e-7)
        assert row["gain_resolved"] == pytest.approx(again.reward - base.reward, abs=1e-4)
        # Paths that may change gain no less than those that stay.
        assert row["gain_resolved"] >= row["gain_fixed_paths"] - 1e-4
        # Concave in the capacity: the dual promises no less than the step gives (power 1).
        assert row["gain_by_dual"] >= row["gain_fixed_paths"] - 1e-6 * base.reward
        assert row["gain_by_dual"] == pytest.approx(row["dual"] * row["step_flop_per_s"])


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "power", "exponent": 0.5},
        {"kind": "logistic", "steepness": 0.05, "midpoint": 40.0},
        {"kind": "exponential", "rate": 0.01},
    ],
)
def test_the_reward_gains_by_the_chain_rule(plenty: Instance, shape: dict) -> None:
    tasks = [{**t.model_dump(mode="json"), "demand": 50.0} for t in plenty.tasks]
    instance = plenty.replace(tasks=tasks, reward={"throughput": shape})
    step = 1e-4
    plan = plan_marginal(instance, EXACT, step=step)
    for row in plan.table("servers").records():
        assert row["dual"] > 0
        assert row["gain_fixed_paths"] == pytest.approx(row["gain_by_dual"], rel=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_shared_inputs_are_understood(seed: int) -> None:
    """Rates of a group count once per task, shared work once: a small step gives what duals say."""
    instance = random_instance(seed + 3000, groups=True, max_combinations=60)
    plan = plan_marginal(instance, EXACT, objective="throughput", step=1e-4)
    value = plan.settings["value"]
    for name in ("servers", "links"):
        for row in plan.table(name).records():
            assert row["gain_fixed_paths"] <= row["gain_by_dual"] + 1e-6 * value
            assert row["gain_resolved"] >= row["gain_fixed_paths"] - 1e-5 * value


def test_idle_capacity_is_worth_nothing(plenty: Instance) -> None:
    plan = plan_marginal(plenty, EXACT, objective="throughput")
    rows = {r["server"]: r for r in plan.table("servers").records()}
    assert rows["b"]["dual"] == 0.0
    assert rows["b"]["gain_resolved"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("step", [0.0, -0.1, 11.0])
def test_a_bad_step_is_refused(plenty: Instance, step: float) -> None:
    with pytest.raises(InputError, match="step"):
        plan_marginal(plenty, step=step)
