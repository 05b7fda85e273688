"""Column generation: its bounds hold whatever the prices, its cuts cut nothing real off."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyomo.environ as pyo
import pytest

from code_opt.checker import check
from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.evaluator import Evaluator
from code_opt.core.master import RestrictedMaster
from code_opt.core.objective import accuracy_unit
from code_opt.core.parameters import (
    ColumnGenerationParameters,
    ExactParameters,
    Parameters,
    PathPricingParameters,
)
from code_opt.core.settings import Clock, Settings
from code_opt.exact import method as exact
from code_opt.exact.colgen import ColumnGeneration
from code_opt.exact.method import build_model, choose_formulation
from code_opt.exact.mip import TangentLoop
from code_opt.exact.server_cuts import separate
from code_opt.generate import generate
from code_opt.heuristics.search import SearchOutcome
from code_opt.instance import parse_instance
from code_opt.paths import Duals, build_pool
from code_opt.solvers import Polar, open_session
from code_opt.solving import solve

CONSTRAINED = {"links": True, "memory": True, "latency": True, "measured": 2}
NOTHING = SearchOutcome()
COLGEN = ColumnGenerationParameters()
PRICED = ExactParameters(most_paths_of_a_task=0)
"""All tasks have too many paths to list."""


def master_of(instance, **options):
    """Return a master that holds the first columns only, and its relaxation."""
    evaluator = Evaluator(build_pool(instance), Settings(**options))
    table = ColumnTable(evaluator.pool)
    relaxation = Relaxation(table, evaluator.objective)
    start = table.first_columns()
    return RestrictedMaster(relaxation, start, None, 1e-4, COLGEN.master), relaxation


def found_cuts(instance, rounds=4, **options):
    """Return the cuts of some rounds, each with its resource, and the relaxation."""
    master, relaxation = master_of(instance, **options)
    polar, found = Polar(), []
    point = master.settle(Clock(None))
    for _ in range(rounds):
        _, more = relaxation.profits(point.duals)
        new = []
        for resource in range(len(relaxation.table.pool.resources)):
            at_most = more > 0.0
            cut = separate(relaxation, polar, resource, point.x, point.u, at_most, COLGEN.cuts)
            if cut is not None:
                new.append((resource, cut))
        if not new:
            break
        found += new
        master.add_cuts([cut for _, cut in new])
        point = master.settle(Clock(None))
    return found, relaxation


@pytest.mark.parametrize(("seed", "options"), [(0, {}), (2, {}), (4, CONSTRAINED)])
def test_no_cut_is_above_its_limit_anywhere_in_what_fits(seed, options):
    found, relaxation = found_cuts(generate(7, seed=seed, blocks=4, **options))
    assert len(found) >= 3
    for resource, cut in found[:12]:
        assert most_of(relaxation, resource, cut) <= cut.limit + 1e-6


def most_of(relaxation, resource, cut):
    """Return the most that a cut's left side can be over X_i, by a program of its own."""
    table, entries = relaxation.table, relaxation.users(resource)
    paths = table.row[entries]
    a = dict(zip(cut.columns.tolist(), cut.on_path.tolist(), strict=True))
    b = dict(zip(cut.columns.tolist(), cut.on_extra.tolist(), strict=True))
    model = pyo.ConcreteModel()
    model.x = pyo.Var(paths.tolist(), domain=pyo.Binary)
    model.u = pyo.Var(paths.tolist(), bounds=(0.0, 1.0))
    model.coupled = pyo.Constraint(paths.tolist(), rule=lambda m, p: m.u[p] <= m.x[p])
    load = sum(
        n * model.x[p] + s * model.u[p]
        for p, n, s in zip(
            paths.tolist(),
            table.need_of_entry[entries].tolist(),
            table.spare_of_entry[entries].tolist(),
            strict=True,
        )
    )
    model.fits = pyo.Constraint(expr=load <= 1.0)
    model.one = pyo.ConstraintList()
    for task in np.unique(table.task[paths]).tolist():
        mine = paths[table.task[paths] == task].tolist()
        total = sum(model.x[p] for p in mine)
        whole = len(mine) == relaxation.alive_of_task[task]
        model.one.add(total == 1 if whole else total <= 1)
    left = sum(a.get(p, 0.0) * model.x[p] + b.get(p, 0.0) * model.u[p] for p in paths.tolist())
    model.goal = pyo.Objective(expr=left, sense=pyo.maximize)
    return open_session(model).solve().value


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_accuracy": 0.7},
        {"objective": "throughput", "min_accuracy": 0.7},
        {"objective": "accuracy"},
    ],
)
def test_any_duals_bound_the_optimum(seed, options):
    instance = generate(5, seed=seed, links=True)
    optimum = solve(instance, formulation="path", gap=1e-7, **options)
    unit = {"reward": np.log(optimum.reward), "accuracy": optimum.accuracy}
    _, relaxation = found_cuts(instance, rounds=2, **options)
    value = unit.get(
        options.get("objective", "reward"), optimum.throughput / relaxation.objective.unit
    )
    rng = np.random.default_rng(seed)
    for scale in (0.0, 0.01, 0.1, 1.0):
        for _ in range(20):
            duals = Duals(
                resource=scale * rng.exponential(size=len(relaxation.table.pool.resources)),
                cut=scale * rng.exponential(size=len(relaxation.cuts)),
                accuracy=float(rng.exponential()) + 1e-3,
                throughput=(float(rng.exponential()) + 1e-3) / relaxation.objective.throughput_unit,
            )
            bound = relaxation.bound(duals)
            assert bound.value >= value - 1e-9
            assert (bound.reduced_cost >= 0.0).all()


@pytest.mark.parametrize("options", [{}, CONSTRAINED])
@pytest.mark.parametrize("objective", ["throughput", "accuracy"])
def test_the_master_is_the_relaxation_of_the_path_formulation(options, objective):
    instance = generate(8, seed=3, **options)
    floors = {"min_accuracy": 0.75} if objective == "throughput" else {"min_throughput": 500.0}
    master, relaxation = master_of(instance, objective=objective, **floors)
    point = master.settle(Clock(None))
    model = build_model(instance, Settings(objective=objective, **floors))
    for variable in model.component_data_objects(pyo.Var):
        if variable.is_binary():
            variable.domain = pyo.UnitInterval
    # A is modelled in units of the most that it can be.
    unit = accuracy_unit(build_pool(instance)) if objective == "accuracy" else 1.0
    relaxed = open_session(model).solve().value * unit
    # It holds a part of the paths and knows the bound of all of them.
    assert master.inside.sum() < 0.5 * len(relaxation.table)
    assert point.bound.value == pytest.approx(relaxed, rel=1e-5)
    assert point.bound.value >= relaxed * (1 - 1e-9)


# Recorded with these cuts: how far the relaxation lies above the optimum [%], before and
# after them. Lower is an improvement to be recorded, higher cuts that got weaker.
ROOTS = {(12, 1): (1.952, 0.0335), (20, 2): (0.970, 0.0040), (30, 1): (1.936, 0.0358)}


@pytest.mark.parametrize("case", [*list(ROOTS)[:2], pytest.param((30, 1), marks=pytest.mark.long)])
def test_cuts_close_what_they_did(case, monkeypatch):
    # No assignment helps the root: what it reaches is due to the cuts alone.
    services, seed = case
    instance = generate(services, seed=seed)
    optimum = solve(instance, formulation="path").reward
    monkeypatch.setattr(exact, "search", lambda *_, **__: NOTHING)
    monkeypatch.setattr(ColumnGeneration, "_dive", lambda _: None)
    details = solve(instance, formulation="colgen").details
    found = [100 * (details[name] / optimum - 1.0) for name in ("lp_bound", "root_bound")]
    before, after = ROOTS[case]
    assert found[0] == pytest.approx(before, abs=0.02)
    assert found[1] <= after + 0.05
    assert found[1] >= -0.01


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.long)])
@pytest.mark.parametrize("options", [{}, CONSTRAINED])
@pytest.mark.parametrize("objective", ["reward", "throughput", "accuracy"])
def test_it_proves_what_path_proves(seed, options, objective):
    instance = generate(9, seed=seed, **options)
    floors = {"reward": {}, "throughput": {"min_accuracy": 0.7}, "accuracy": {}}[objective]
    if objective == "accuracy":
        floors = {"min_throughput": solve(instance, "local").throughput * 1.1}
    ours = solve(instance, formulation="colgen", objective=objective, gap=1e-6, **floors)
    path = solve(instance, formulation="path", objective=objective, gap=1e-6, **floors)
    assert ours.status == path.status == "optimal"
    assert ours.value == pytest.approx(path.value, rel=2e-6)
    assert ours.formulation == "colgen"


def test_a_time_limit_leaves_a_valid_gap():
    instance = generate(40, seed=3)
    optimum = solve(instance, gap=1e-4)
    assert optimum.status == "optimal"
    for limit in (0.05, 0.4, 0.8):
        result = solve(instance, formulation="colgen", gap=1e-7, time_limit=limit)
        assert check(result, instance) == []
        if result.status == "optimal":
            continue
        assert result.status == "feasible"
        assert "time limit" in result.message
        if result.bound is not None:
            assert result.bound >= optimum.reward * (1 - 1e-9)
            assert result.gap == pytest.approx(result.bound / result.reward - 1.0, rel=1e-6)


def test_without_a_start_it_finds_and_proves_the_same(monkeypatch):
    instance = generate(12, seed=5, **CONSTRAINED)
    best = solve(instance, formulation="path")
    monkeypatch.setattr(exact, "search", lambda *_, **__: NOTHING)
    result = solve(instance, formulation="colgen")
    assert result.status == "optimal"
    assert result.reward == pytest.approx(best.reward, rel=2e-4)


def test_infeasibility_is_proven_by_duals_alone(monkeypatch):
    # More is asked of the totals than even mixes of paths can give: no program is needed.
    monkeypatch.setattr(ColumnGeneration, "_finish", mock.Mock(side_effect=AssertionError))
    instance = generate(5, seed=5)
    best = solve(instance, objective="throughput")
    for share in (1.05, 1.2):
        result = solve(instance, formulation="colgen", min_throughput=share * best.bound)
        assert result.status == "infeasible"
        assert "throughput" in result.message


def test_auto_takes_path_for_few_paths():
    small, large = generate(3, seed=0), generate(40, seed=0)
    settings = Settings()
    assert choose_formulation(build_pool(small), settings)[0] == "path"
    name, reason = choose_formulation(build_pool(large), settings)
    assert (name, "nondominated paths" in reason) == ("colgen", True)
    assert choose_formulation(build_pool(large), Settings(solver="scip"))[0] == "path"
    data = small.to_dict()
    for task in data["tasks"][:2]:
        task["input_group"] = "camera"
        task["demand"], task["floor"] = 1.0, 0.0
    grouped = parse_instance(data)
    name, reason = choose_formulation(build_pool(grouped), settings)
    assert (name, "one program" in reason) == ("path", True)
    assert solve(grouped, formulation="colgen").formulation == "colgen"
    assert (
        solve(small).details["formulation_choice"]
        == choose_formulation(build_pool(small), settings)[1]
    )


def test_same_input_same_output():
    instance = generate(20, seed=8)
    results = [solve(instance, formulation="colgen").to_dict() for _ in range(2)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


@pytest.mark.parametrize("options", [{}, CONSTRAINED])
@pytest.mark.parametrize("seed", [1, 2])
def test_pricing_by_shortest_paths_proves_the_same(options, seed):
    instance = generate(6, seed=seed, **options)
    listed = solve(instance, gap=1e-6)
    priced = solve(instance, gap=1e-6, parameters=Parameters(exact=PRICED))
    assert "shortest paths" in priced.details["formulation_choice"]
    assert priced.status == "optimal"
    assert priced.reward == pytest.approx(listed.reward, rel=2e-6)


def test_too_many_paths_to_list_leave_a_valid_gap():
    instance = generate(12, blocks=7, seed=4)
    optimum = solve(instance)
    assert optimum.status == "optimal"
    few = PathPricingParameters(labels=(4, 16), labels_within_gap=2)
    result = solve(instance, parameters=Parameters(exact=PRICED, path_pricing=few))
    assert result.status == "feasible"
    assert "too many paths" in result.message
    assert result.reward <= optimum.bound
    assert optimum.reward <= result.bound <= 1.25 * optimum.reward


def test_restricted_programs_tell_no_bound_as_progress(monkeypatch):
    """Their bounds hold for some of the paths only."""
    told: list[bool] = []
    improve, solve_loop = ColumnGeneration._improve, TangentLoop.solve
    inside: list[bool] = []

    def watched(self, keep):
        inside.append(True)
        improve(self, keep)
        inside.pop()

    def loop(self):
        if inside:
            told.append(self.settings.progress is not None)
        return solve_loop(self)

    monkeypatch.setattr(ColumnGeneration, "_improve", watched)
    monkeypatch.setattr(TangentLoop, "solve", loop)
    solve(generate(50, seed=1), formulation="colgen", progress=lambda _: None)
    assert told
    assert not any(told)
