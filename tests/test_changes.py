"""Few changes: at most K tasks leave the paths of an earlier assignment."""

from __future__ import annotations

import numpy as np
import pytest

from code_opt.checker import check
from code_opt.errors import InputError
from code_opt.instance import load_instance, parse_periods
from code_opt.scheduling import schedule
from code_opt.solving import METHODS, evaluate_paths, solve
from code_opt.transition import changes_front, diff, rerate
from tests.reference import paths_to_keep, reference_pool, solve_reference
from tests.strategies import random_instance

AGREEMENT = 1e-6
CASES_PER_TEST = 2


def previous_paths(instance, rng):
    """Draw a path for most tasks: some that break limits of today, some that are no paths."""
    found = {"gone": ("nowhere",), instance.tasks[0].id: ("nowhere",)}
    for task, paths in reference_pool(instance, limits=False).items():
        if paths and rng.random() < 0.9:
            found[task] = paths[int(rng.integers(len(paths)))].blocks
        elif rng.random() < 0.5:
            found[task] = ("nowhere",)
    return found


def agree(seed, **options):
    """Compare all methods with brute force for every K; return the numbers of optima."""
    instance = random_instance(seed, max_combinations=1500, **options)
    rng = np.random.default_rng([seed, 7])
    previous = previous_paths(instance, rng)
    objective = str(rng.choice(["reward", "throughput", "accuracy"], p=[0.6, 0.2, 0.2]))
    measured_only = bool(rng.random() < 0.2)
    asked = {"objective": objective, "measured_only": measured_only}
    stay = paths_to_keep(instance, previous, measured_only)
    values = []
    for most in range(len(instance.tasks) + 1):
        expected = solve_reference(instance, previous=previous, max_changes=most, **asked)
        limited = {"previous": previous, "max_changes": most, **asked}
        for formulation in ("path", "flow", "colgen"):
            result = solve(instance, formulation=formulation, gap=1e-7, **limited)
            assert check(result, instance) == [], (seed, most, formulation)
            if expected is None:
                assert result.status == "infeasible", (seed, most, formulation)
                continue
            assert result.status == "optimal", (seed, most, formulation)
            assert result.value == pytest.approx(expected.value, rel=AGREEMENT), (
                seed,
                most,
                formulation,
            )
            for row in result.tasks:
                assert row.previous == previous.get(row.task)
                assert (row.change in ("kept", "changed")) >= (row.task in stay)
        for method in METHODS[1:]:
            found = solve(instance, method, **limited)
            assert check(found, instance) == [], (seed, most, method)
            if found.has_solution:
                assert found.value <= expected.value * (1 + AGREEMENT), (seed, most, method)
        values.append(None if expected is None else expected.value)
    free = solve(instance, gap=1e-7, **asked)
    assert values[-1] == (None if free.value is None else pytest.approx(free.value, rel=AGREEMENT))
    if len(stay) == len(instance.tasks):
        kept = evaluate_paths(instance, stay, objective=objective)
        # The same blocks may be an alternative, too, which K = 0 may take as well.
        least = -1.0 if kept.value is None else kept.value
        best = -1.0 if values[0] is None else values[0]
        assert best >= least - AGREEMENT * abs(least)
        assert options.get("alternatives") or best == pytest.approx(least, rel=AGREEMENT)
    known = [value for value in values if value is not None]
    assert all(b >= a * (1 - AGREEMENT) for a, b in zip(known, known[1:], strict=False))
    return len(known)


OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": True},
        {"alternatives": True, "inputs": True},
        {"devices": True, "groups": True},
        {"inputs": True, "links": "all", "groups": True, "alternatives": True},
    ],
    ids=["plain", "groups", "alternatives", "devices", "all"],
)


@OPTIONS
@pytest.mark.parametrize("block", range(2))
def test_hundreds_of_random_instances(block, options):
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    assert sum(agree(seed, **options) for seed in seeds) > 0


@OPTIONS
@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(2, 250))
def test_thousands_of_random_instances(block, options):
    seeds = range(block * CASES_PER_TEST, (block + 1) * CASES_PER_TEST)
    assert sum(agree(seed, **options) for seed in seeds) > 0


def test_what_cannot_be_compared_is_refused():
    instance = random_instance(1)
    with pytest.raises(InputError, match="the instance has none of its tasks"):
        solve(instance, previous={"nobody": ["d0/0"]})
    with pytest.raises(InputError, match="needs a previous result"):
        solve(instance, max_changes=1)
    with pytest.raises(InputError, match="max_changes -1: must be at least 0"):
        solve(instance, previous=solve(instance, "local"), max_changes=-1)
    nothing = solve(instance, min_throughput=1e9)
    with pytest.raises(InputError, match="infeasible, so it holds no paths"):
        solve(instance, previous=nothing)


def test_rerate_keeps_the_paths_at_the_best_rates_of_today():
    instance = load_instance("data/digits/instance.json")
    before = solve(instance)
    today = instance.with_({"servers[*].flops": 2.4e8})
    result = rerate(before, today)
    assert check(result, today) == []
    assert [row.path for row in result.tasks] == [row.path for row in before.tasks]
    kept = solve(today, previous=before, max_changes=0)
    assert result.reward == pytest.approx(kept.reward, rel=AGREEMENT)
    assert result.reward > before.reward * 1.001


def test_rerate_keeps_to_known_accuracies():
    instance = load_instance("data/digits/instance.json")
    before = solve(instance, measured_only=True)
    assert rerate(before, instance).measured_only
    forgotten = instance.with_({"tasks[*].measured_paths": []})
    result = rerate(before, forgotten)
    assert (result.status, result.measured_only) == ("unknown", True)
    assert solve(forgotten, previous=before, max_changes=0).has_solution  # predicted, so not asked


def test_rerate_names_every_limit_that_no_longer_holds():
    instance = load_instance("data/digits/instance.json")
    before = solve(instance, min_accuracy=0.9)
    gone = {"tasks[parity].connections": [], "tasks[parity].measured_paths": []}
    today = instance.with_({"tasks[digit].max_latency": 1e-6, **gone})
    result = rerate(before, today)
    assert result.status == "unknown"
    assert result.min_accuracy == 0.9
    first, second = result.message.split("\n")
    assert first.startswith("task 'digit': latency ")
    assert first.endswith("max_latency 1e-06 s")
    assert second.startswith("task 'parity': path alexnet/0: no step leads from ")
    with pytest.raises(InputError, match="so it holds no paths"):
        rerate(result, today)


def test_each_period_of_a_schedule_is_the_best_from_the_one_before():
    instance = load_instance("data/four-sites-csv")
    night, rush = "cars,9\nplates,12\ncrowd,9", "cars,80\nplates,60\ncrowd,40"
    rows = zip(night.splitlines(), rush.splitlines(), strict=True)
    table = "\n".join(["task,night,rush,late", *(f"{n},{r.split(',')[1]},9" for n, r in rows)])
    periods = parse_periods(table)
    told = []
    found = schedule(instance, periods, max_changes=2, tell=told.append, gap=1e-7)
    assert list(found) == told
    assert [period.name for period in found] == ["night", "rush", "late"]
    before = None
    for k, period in enumerate(found):
        assert check(period.result, periods.at(instance, k)) == []
        limited = {} if before is None else {"previous": before, "max_changes": 2}
        best = solve(periods.at(instance, k), gap=1e-7, **limited)
        assert period.result.status == "optimal"
        assert period.result.value == pytest.approx(best.value, rel=AGREEMENT)
        assert period.row["changes"] == (None if before is None else period.result.changes)
        assert period.row["demand"] == sum(t.demand for t in period.instance.tasks)
        before = period.result
    assert found[1].row["changes"] == 2
    # From a result: the first period counts changes, too.
    first = schedule(instance, periods, previous=before, max_changes=0, gap=1e-7)[0]
    assert [row.path for row in first.result.tasks] == [row.path for row in before.tasks]


def test_a_period_without_an_assignment_is_passed_over():
    instance = load_instance("data/two-services.json")
    before = solve(instance, "local")
    floor = 1.01 * before.throughput
    periods = parse_periods("task,a,b,c\nfaces,1e3,1,1e3\n")
    found = schedule(
        instance, periods, previous=before, max_changes=2, min_throughput=floor, gap=1e-7
    )
    assert [period.result.has_solution for period in found] == [True, False, True]
    assert found[1].row["changes"] is None
    rows = {row.task: row for row in found[2].result.tasks}
    assert all(rows[row.task].previous == row.path for row in found[0].result.tasks)
    with pytest.raises(InputError, match="max_changes -1"):
        schedule(instance, periods, max_changes=-1)


def test_diff_tells_paths_rates_and_adapters():
    instance = load_instance("data/digits/instance.json")
    native, best = solve(instance, "local"), solve(instance)
    found = diff(native, best, instance)
    limited = solve(instance, previous=native)
    assert found.changes == limited.changes == 2
    assert found.adapters == limited.adapters
    assert {a.action for a in found.adapters} == {"load"}
    assert {a.action for a in diff(best, native, instance).adapters} == {"drop"}
    for row in found.tasks:
        (old,) = (r for r in native.tasks if r.task == row.task)
        (new,) = (r for r in best.tasks if r.task == row.task)
        assert (row.old_path, row.new_path) == (old.path, new.path)
        assert (row.old_rate, row.new_rate) == (old.rate, new.rate)
    same = diff(best, best, instance)
    assert same.changes == 0
    assert same.adapters == ()
    fewer = best.model_copy(update={"tasks": best.tasks[:1]})
    gone, new = diff(best, fewer, instance), diff(fewer, best, instance)
    assert [row.change for row in gone.tasks] == ["kept", None]
    assert [row.change for row in new.tasks] == ["kept", "new"]


def test_few_changes_for_the_least_latency():
    instance = load_instance("data/digits/instance.json").with_({"tasks[*].demand": 30.0})
    previous = solve(instance, "local")
    front = changes_front(instance, previous, objective="latency")
    values = [result.value for result in front]
    assert values[0] == pytest.approx(rerate(previous, instance).latency, rel=AGREEMENT)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(solve(instance, objective="latency").value, rel=1e-4)
    assert all(check(result, instance) == [] for result in front)


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 9, 10])
def test_each_point_of_the_front_is_what_a_solve_finds(seed):
    options = {"groups": seed % 3 == 0, "alternatives": seed % 2 == 0}
    instance = random_instance(900 + seed, max_combinations=1500, **options)
    previous = solve(instance, "local")
    assert previous.has_solution
    servers = [{"flops": server.flops} for server in instance.servers]
    busiest = max(range(len(servers)), key=lambda s: previous.servers[s].utilization)
    today = instance
    if servers[busiest]["flops"]:
        today = instance.with_({f"servers[{busiest}].flops": servers[busiest]["flops"] * 0.6})
    front = changes_front(today, previous, gap=1e-7)
    free = solve(today, previous=previous, gap=1e-7)
    for count, result in enumerate(front):
        alone = solve(today, previous=previous, max_changes=count, gap=1e-7)
        assert check(result, today) == []
        assert (result.max_changes, result.status) == (count, alone.status)
        assert result.value == (alone.value and pytest.approx(alone.value, rel=AGREEMENT))
    assert front[-1].value == (free.value and pytest.approx(free.value, rel=AGREEMENT))
    assert [r.value for r in changes_front(today, previous, most=1, gap=1e-7)] == [
        r.value for r in front[:2]
    ]
