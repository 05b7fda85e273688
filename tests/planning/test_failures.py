"""N-1: against brute force over paths and backups, and recomputed from the instance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.planning import Plan, PlanSettings, plan_failures
from tests.planning.reference import (
    Tables,
    cheapest_survivable,
    demands_of,
    fits,
    floors_of,
    groups_of,
    loads,
    path_of,
    planning_instance,
    seeds,
    visited,
    with_units,
)
from tests.reference import reference_pool

EXACT = PlanSettings(gap=1e-7, time_limit=None)


def avoids(instance: Instance, task: str, blocks: str, server: str) -> bool:
    (record,) = (t for t in instance.tasks if t.id == task)
    return server not in visited(instance, record, path_of(instance, task, blocks))


def verify(instance: Instance, plan: Plan, keep: dict[str, float]) -> None:
    """Recompute both plans, what each failure leaves, and the backups of the survivable one."""
    pool = reference_pool(instance)
    for row in plan.table("summary").records():
        if row["cost"] is None:
            continue
        name = row["plan"]

        def mine(r, name=name) -> bool:
            return r["plan"] == name

        rows = [r for r in plan.table("paths").records() if mine(r)]
        paths = {r["task"]: r["path"] for r in rows}
        demand = {r["task"]: r["rate_per_s"] for r in rows}
        units = {(r["server"],): r["units"] for r in plan.table("servers").records() if mine(r)}
        units |= {
            (r["source"], r["target"]): r["units"] for r in plan.table("links").records() if mine(r)
        }
        assert fits(instance, units, loads(instance, paths, demand))
        for failure in (r for r in plan.table("failures").records() if mine(r)):
            server = failure["failed_server"]
            hit = {t for t in paths if not avoids(instance, t, paths[t], server)}
            lost = {
                task.id
                for task in instance.tasks
                if all(server in visited(instance, task, p) for p in pool[task.id])
            }
            assert failure["tasks_hit"] == len(hit)
            assert failure["tasks_lost"] == len(lost)
            fixed = sum(rate for t, rate in demand.items() if t not in hit)
            assert failure["served_fixed_per_s"] == pytest.approx(fixed)
            assert failure["served_rerouted_per_s"] >= fixed * (1 - 1e-9)
            assert failure["served_rerouted_per_s"] <= failure["demand_per_s"] * (1 + 1e-9)
            assert failure["floors_kept"] == can_keep(instance, units, paths, hit, server, keep)
            if name == "normal":
                continue
            assert failure["floors_kept"]
            backups = {
                r["task"]: r["path"]
                for r in plan.table("backups").records()
                if r["failed_server"] == server
            }
            assert set(backups) >= {t for t in hit - lost if keep[t] > 0}
            then = {t: backups.get(t, paths[t]) for t in paths if t not in hit or t in backups}
            assert all(avoids(instance, t, blocks, server) for t, blocks in then.items())
            assert fits(instance, units, loads(instance, then, {t: keep[t] for t in then}))
    told = {(r["failed_server"], r["task"]) for r in plan.table("lost").records()}
    expected = {
        (s.id, task.id)
        for s in instance.servers
        for task in instance.tasks
        if all(s.id in visited(instance, task, p) for p in pool[task.id])
    }
    assert told == expected


def can_keep(instance, units, paths, hit, server, keep) -> bool:
    """Tell whether some backup paths of the tasks that are hit fit beside all others."""
    pool = reference_pool(instance)
    tables = Tables(instance)
    records = {task.id: task for task in instance.tasks}
    options: list[list] = []
    for task in records:
        if task not in hit:
            options.append([path_of(instance, task, paths[task])])
            continue
        other = [p for p in pool[task] if server not in visited(instance, records[task], p)]
        options.append(other if other and keep[task] > 0.0 else [None])
    for chosen in itertools.product(*options):
        _, memory = tables.use_of_groups(chosen)
        total = tables.load(chosen, np.array([keep[t] for t in records]))
        load = dict(zip(tables.names, total.tolist(), strict=True))
        if fits(instance, units, load) and (memory <= tables.memory * (1 + 1e-9)).all():
            return True
    return False


@pytest.mark.parametrize("seed", seeds(16, 200))
def test_the_survivable_cost_is_that_of_brute_force(seed: int) -> None:
    compare(planning_instance(seed + 1300, devices=seed % 3 == 2, max_combinations=40), seed)


@pytest.mark.parametrize("seed", seeds(8, 100))
def test_inputs_that_are_sent_are_lost_where_they_arrive(seed: int) -> None:
    options = {"inputs": True, "links": "all", "groups": seed % 2 == 1}
    compare(planning_instance(seed + 9300, max_combinations=40, **options), seed)


@pytest.mark.parametrize("seed", seeds(6, 100))
def test_alternatives_are_backups_too(seed: int) -> None:
    options = {"alternatives": True, "groups": seed % 2 == 1}
    compare(planning_instance(seed + 9700, max_combinations=40, **options), seed)


def compare(instance: Instance, seed: int) -> None:
    """Compare the survivable plan of an instance with brute force."""
    share = (None, 0.3, 0.7, 1.0)[seed % 4]
    plan = plan_failures(instance, EXACT, keep=share)
    row = plan.table("summary").records()[1]
    demand = demands_of(instance)
    floors = np.minimum(floors_of(instance), demand)
    keep = floors if share is None else share * demand
    best = cheapest_survivable(instance, demand, keep, None)
    if math.isinf(best):
        assert row["status"] == "infeasible"
        assert plan.message
    else:
        assert row["status"] == "optimal"
        assert row["cost"] == pytest.approx(best, rel=1e-6, abs=1e-9)
        assert row["extra_cost"] >= -1e-9
    names = [task.id for task in instance.tasks]
    verify(instance, plan, dict(zip(names, keep.tolist(), strict=True)))


@pytest.mark.parametrize("seed", seeds(4, 60))
def test_what_rerouting_serves_is_that_of_brute_force(seed: int) -> None:
    compare_rerouting(planning_instance(seed + 1700, devices=seed % 3 == 2, max_combinations=30))


def compare_rerouting(instance: Instance) -> None:
    """Compare what re-routing serves with brute force."""
    plan = plan_failures(instance, EXACT)
    tables = Tables(instance)
    units = {
        (r["server"],): r["units"] for r in plan.table("servers").records() if r["plan"] == "normal"
    }
    units |= {
        (r["source"], r["target"]): r["units"]
        for r in plan.table("links").records()
        if r["plan"] == "normal"
    }
    if not units:
        assert plan.status == "infeasible"
        return
    capacity = tables.capacity + tables.unit * [units[name] for name in tables.names]
    for failure in plan.table("failures").records():
        if failure["plan"] == "normal":
            most = most_served(instance, tables, capacity, failure["failed_server"])
            assert failure["served_rerouted_per_s"] == pytest.approx(most, rel=1e-5, abs=1e-9)


def most_served(instance: Instance, tables: Tables, capacity: np.ndarray, server: str) -> float:
    """Return the most demand that is served without a server, over all paths that avoid it."""
    pool = reference_pool(instance)
    options = [
        [None, *(p for p in pool[t.id] if server not in visited(instance, t, p))]
        for t in instance.tasks
    ]
    best = 0.0
    groups, demand = groups_of(instance), demands_of(instance)
    for chosen in itertools.product(*options):
        use, memory = tables.use_of_groups(chosen)
        if (memory > tables.memory * (1 + 1e-9)).any():
            continue
        # Those of a group that run have one rate.
        running = np.array([sum(chosen[t] is not None for t in group) for group in groups])
        use = use / capacity
        answer = linprog(
            -running,
            A_ub=use.T,
            b_ub=np.ones(use.shape[1]),
            bounds=[(0.0, demand[group[0]]) for group in groups],
            method="highs",
        )
        best = max(best, -float(answer.fun))
    return best


def test_backups_are_paid_for(plenty: Instance) -> None:
    """Task a can flee to b, which has room for half of it; task b is lost with b."""
    tasks = [task.model_dump(mode="json") for task in plenty.tasks]
    tasks[0]["connections"] = [
        {"source": "input", "target": "B0", "drop": 0.05},
        {"source": "B1", "target": "output", "drop": 0.05},
    ]
    instance = with_units(plenty.replace(tasks=tasks), 50.0)
    plan = plan_failures(instance, keep=1.0, max_loss=0.0)
    normal, survivable = plan.table("summary").records()
    assert normal["cost"] == 0.0
    # b: 10 * 15 for its own task and 10 * 15 for the other: 300, which it just has.
    assert survivable["cost"] == 0.0
    assert survivable["extra_units"] == 0
    assert plan.table("lost").rows == (("b", "tb"),)
    plan = plan_failures(instance, keep=1.0, growth=1.5, max_loss=0.0)
    # a: 15 * 10 = 150, one unit; b: 450, three units.
    normal, survivable = plan.table("summary").records()
    assert (normal["units"], survivable["units"]) == (1, 4)
    assert survivable["extra_cost"] == 3.0
    verify(instance, plan, {"ta": 15.0, "tb": 15.0})


def test_blocks_without_work_are_visits(plenty: Instance) -> None:
    """A path through a failed server is gone even where it does no work there."""
    data = plenty.to_dict()
    data["dnns"][1]["blocks"][0]["flops"] = 0.0
    data["servers"].append({"id": "c", "flops": 100.0})
    data["dnns"].append({"id": "C", "server": "c", "blocks": [{"id": "C0", "flops": 0.0}]})
    data["tasks"][0]["connections"] = [
        {"source": "A1", "target": "C0", "drop": -0.01},
        {"source": "C0", "target": "output", "drop": 0.0},
    ]
    instance = parse_instance(data)
    plan = plan_failures(instance, keep=1.0)
    paths = {
        r["task"]: r["path"] for r in plan.table("paths").records() if r["plan"] == "survivable"
    }
    assert paths["ta"] == "A0 > A1 > C0"  # the most accurate one
    (row,) = (
        r
        for r in plan.table("failures").records()
        if (r["plan"], r["failed_server"]) == ("survivable", "c")
    )
    assert row["tasks_hit"] == 1
    assert row["served_fixed_per_s"] == pytest.approx(10.0)
    assert row["served_rerouted_per_s"] == pytest.approx(20.0)
    verify(instance, plan, {"ta": 10.0, "tb": 10.0})


def test_a_task_is_lost_with_its_origin_only_where_one_is_given(plenty: Instance) -> None:
    """Task a flees to b, unless its inputs are said to arrive at a, or at a gate that fails."""
    data = plenty.to_dict()
    data["servers"].append({"id": "gate", "flops": 100.0})
    data["tasks"][0]["connections"] = [
        {"source": "input", "target": "B0", "drop": 0.05},
        {"source": "B1", "target": "output", "drop": 0.05},
    ]
    for origin, lost in ((None, ()), ("a", ("a",)), ("gate", ("gate",))):
        data["tasks"][0] |= {"input_bytes": 5.0, "origin": origin}
        plan = plan_failures(parse_instance(data), keep=1.0, max_loss=0.0)
        found = [r for r in plan.table("lost").rows if r[1] == "ta"]
        assert found == [(server, "ta") for server in lost]
        (row,) = (
            r
            for r in plan.table("failures").records()
            if (r["plan"], r["failed_server"]) == ("normal", "gate")
        )
        assert row["tasks_hit"] == (origin == "gate")


def test_floors_that_do_not_fit_are_told(plenty: Instance) -> None:
    tasks = [task.model_dump(mode="json") for task in plenty.tasks]
    tasks[0]["connections"] = [
        {"source": "input", "target": "B0", "drop": 0.05},
        {"source": "B1", "target": "output", "drop": 0.05},
    ]
    tasks[1]["demand"] = 15.0
    plan = plan_failures(plenty.replace(tasks=tasks), keep=1.0)
    assert plan.status == "infeasible"
    assert plan.message == "survivable: the floors under failure do not fit what can be bought"
    assert plan.table("summary").records()[0]["status"] == "optimal"


@pytest.mark.parametrize("options", [{"keep": 1.1}, {"keep": math.nan}, {"growth": -1.0}])
def test_bad_options_are_refused(plenty: Instance, options: dict) -> None:
    with pytest.raises(InputError):
        plan_failures(plenty, **options)
