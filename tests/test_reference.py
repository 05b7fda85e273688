"""The brute force against cases worked by hand, and the random instances it is used on."""

from __future__ import annotations

import copy
import itertools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scipy.optimize import linprog

from code_opt.checker import check
from code_opt.instance import Instance, parse_instance
from code_opt.instance.model import Exponential, Logistic, Power, Task
from code_opt.result import Result
from tests.instances import dnn
from tests.reference import Reference, ReferencePath, count_paths, reference_pool, solve_reference
from tests.strategies import MAX_COMBINATIONS, instances, random_data, random_instance

Data = dict[str, Any]

# Task `ta` may hand over from A0 to B1. Natively it runs at 100/20 = 5 and `tb` at 300/15 = 20:
# throughput 25, accuracy 0.85. Across, a allows ta 100/10 = 10; b is left with
# (300 - 10 * 5)/15 = 16.667 for tb: throughput 26.667, accuracy 0.8.
TWO: Data = {
    "schema": "code-opt/instance/1",
    "name": "two",
    "servers": [{"id": "a", "flops": 100.0}, {"id": "b", "flops": 300.0}],
    "dnns": [
        dnn("A", "a", [10.0, 10.0], [10.0]),
        dnn("B", "b", [10.0, 5.0]),
    ],
    "tasks": [
        {
            "id": "ta",
            "dnn": "A",
            "accuracy": 0.8,
            "connections": [
                {"source": "A0", "target": "B1", "drop": 0.06, "params": 10.0},
                {"source": "B1", "target": "output", "drop": 0.04},
            ],
        },
        {"id": "tb", "dnn": "B", "accuracy": 0.9},
    ],
}
NATIVE, ACROSS = ("A0", "A1"), ("A0", "B1")


def two(**changes: Any) -> Instance:
    """Return the instance above with changes: `servers`, `links`, `ta`, `tb`, `exponent`."""
    data = copy.deepcopy(TWO)
    for task in data["tasks"]:
        task.update(changes.get(task["id"], {}))
    for server in data["servers"]:
        server.update(changes.get(server["id"], {}))
    data["links"] = changes.get("links", [])
    data["reward"] = {"accuracy": {"kind": "power", "exponent": changes.get("exponent", 1.0)}}
    return parse_instance(data)


@pytest.mark.parametrize(
    ("changes", "question", "value", "path"),
    [
        # 0.8 * 26.667 = 21.333 beats 0.85 * 25 = 21.25
        ({}, {}, 0.8 * 80 / 3, ACROSS),
        # squared accuracies turn it round: 17.067 < 18.0625
        ({"exponent": 2.0}, {}, 0.85**2 * 25, NATIVE),
        ({}, {"objective": "throughput"}, 80 / 3, ACROSS),
        ({}, {"objective": "accuracy"}, 0.85, NATIVE),
        ({}, {"objective": "throughput", "min_accuracy": 0.82}, 25.0, NATIVE),
        ({}, {"objective": "accuracy", "min_throughput": 26.0}, 0.8, ACROSS),
        ({}, {"min_accuracy": 0.82}, 21.25, NATIVE),
        ({"exponent": 2.0}, {"min_throughput": 26.0}, 0.64 * 80 / 3, ACROSS),
        ({}, {"min_throughput": 27.0}, None, None),
        ({}, {"min_accuracy": 0.86}, None, None),
        # a standalone floor of 20 leaves no room for ta on b: 0.8 * 20 < 21.25
        ({"tb": {"floor": "standalone"}}, {}, 21.25, NATIVE),
        # a floor of 18 leaves 30/5 = 6 for ta: 24 < 25
        ({"tb": {"floor": 18.0}}, {"objective": "throughput"}, 25.0, NATIVE),
        # ta needs 6: only across
        ({"ta": {"floor": 6.0}, "exponent": 2.0}, {}, 0.64 * 80 / 3, ACROSS),
        ({"ta": {"floor": 10.1}}, {}, None, None),
        # both floors fit their caps, not each other
        ({"ta": {"floor": 8.0}, "tb": {"floor": 18.0}}, {}, None, None),
        # across, ta is capped at 5.5; b gives (300 - 27.5)/15
        ({"ta": {"demand": 5.5}}, {"objective": "throughput"}, 25.0, NATIVE),
        ({"ta": {"demand": 0.0}}, {"objective": "throughput"}, 20.0, None),
        # the adapter takes 4 * 10 bytes on a
        ({"a": {"memory": 39.0}}, {}, 21.25, NATIVE),
        ({"a": {"memory": 40.0}}, {}, 0.8 * 80 / 3, ACROSS),
        # 10/100 + 5/300 s across; 20/100 s natively
        ({"ta": {"max_latency": 0.11}}, {}, None, None),
        ({"ta": {"max_latency": 0.12}, "exponent": 2.0}, {}, 0.64 * 80 / 3, ACROSS),
        ({"ta": {"min_accuracy": 0.71}}, {}, 21.25, NATIVE),
        # 10 bytes each over 80 bytes/s: ta at 8, tb at 260/15
        (
            {"links": [{"source": "a", "target": "b", "bandwidth": 80.0}]},
            {"objective": "throughput"},
            8 + 260 / 15,
            ACROSS,
        ),
        ({"links": [{"source": "a", "target": "b", "bandwidth": 80.0}]}, {}, 21.25, NATIVE),
        # no link from a to b
        ({"links": [{"source": "b", "target": "a"}]}, {}, 21.25, NATIVE),
        # measured better than predicted, and worse
        (
            {"ta": {"measured_paths": [{"blocks": ["A0", "B1"], "accuracy": 0.9}]}},
            {},
            0.9 * 80 / 3,
            ACROSS,
        ),
        (
            {"ta": {"measured_paths": [{"blocks": ["A0", "B1"], "accuracy": 0.6}]}},
            {},
            21.25,
            NATIVE,
        ),
        (
            {"ta": {"measured_paths": [{"blocks": ["A0", "A1"], "accuracy": 0.7}]}},
            {"objective": "accuracy"},
            0.8,
            None,
        ),
        # the weight of tb alone counts: 0.9 both ways
        ({"ta": {"weight": 0.0}}, {}, 0.9 * 80 / 3, ACROSS),
    ],
)
def test_worked_by_hand(
    changes: Data, question: Data, value: float | None, path: tuple[str, ...] | None
) -> None:
    best = solve_reference(two(**changes), **question)
    if value is None:
        assert best is None
        return
    assert best is not None
    assert best.value == pytest.approx(value, rel=1e-9)
    if path is not None:
        assert best.paths["ta"].blocks == path


def test_pool_by_hand() -> None:
    pool = reference_pool(two(ta={"min_accuracy": 0.75}))
    assert [p.blocks for p in pool["ta"]] == [NATIVE]
    pool = reference_pool(two(ta={"min_accuracy": 0.75}), limits=False)
    assert {p.blocks for p in pool["ta"]} == {NATIVE, ACROSS}
    assert [p.blocks for p in pool["tb"]] == [("B0", "B1")]
    (across,) = (p for p in pool["ta"] if p.blocks == ACROSS)
    assert across.accuracy == pytest.approx(0.7)
    assert across.work.tolist() == [10.0, 5.0]
    assert across.memory.tolist() == [40.0, 0.0]
    assert across.latency == pytest.approx(10 / 100 + 5 / 300)
    assert not across.measured


def test_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="combinations"):
        solve_reference(two(), most=1)


# ---- pruning ---------------------------------------------------------------------------------


def without_pruning(instance: Instance, objective: str) -> float | None:
    """Return the best value by one linear program for each combination, in plain units."""
    pool = list(reference_pool(instance, limits=False).values())
    C = np.array([server.flops for server in instance.servers])
    B = np.array([math.inf if k.bandwidth is None else k.bandwidth for k in instance.links])
    M = np.array([math.inf if s.memory is None else s.memory for s in instance.servers])
    weights = [task.weight for task in instance.tasks]
    best = None
    for paths in itertools.product(*pool):
        if (sum(p.memory for p in paths) > M).any():
            continue
        if any(
            p.accuracy < t.min_accuracy or p.latency > (t.max_latency or math.inf)
            for p, t in zip(paths, instance.tasks, strict=True)
        ):
            continue
        use = [[*(p.work / C), *(p.traffic / B)] for p in paths]
        answer = linprog(
            -np.ones(len(paths)),
            A_ub=np.array(use).T,
            b_ub=np.ones(len(C) + len(B)),
            bounds=[(t.floor, t.demand) for t in instance.tasks],
            method="highs-ds",
        )
        if answer.status == 2:
            continue
        assert answer.status == 0
        throughput = -answer.fun
        accuracy = float(np.average([p.accuracy for p in paths], weights=weights))
        value = {
            "throughput": throughput,
            "accuracy": accuracy,
            "reward": _shape(instance.reward.accuracy, accuracy)
            * _shape(instance.reward.throughput, throughput),
        }[objective]
        best = value if best is None else max(best, value)
    return best


def _shape(shape: Power | Logistic | Exponential, x: float) -> float:
    if isinstance(shape, Power):
        return float(x**shape.exponent)
    if isinstance(shape, Logistic):
        return 1 / (1 + math.exp(-shape.steepness * (x - shape.midpoint)))
    return math.exp(shape.rate * x)


@pytest.mark.parametrize("objective", ["reward", "throughput", "accuracy"])
def test_pruning_loses_nothing(objective: str) -> None:
    tried = 0
    for seed in range(30):
        instance = random_instance(seed, max_combinations=60)
        if any(task.floor == "standalone" for task in instance.tasks):
            continue  # its floor is checked by hand above and by the checker below
        best = solve_reference(instance, objective)
        expected = without_pruning(instance, objective)
        assert (best is None) == (expected is None), seed
        if best is not None:
            assert best.value == pytest.approx(expected, rel=1e-7), seed
            tried += 1
    assert tried > 7


# ---- the two independent readings of the specification agree ---------------------------------


def interval(instance: Instance, task: Task, path: ReferencePath) -> tuple[float, float] | None:
    """Return the shares that differ from an accuracy by z standard deviations, roots of Wilson's.

    Only paths of whole networks have samples in these instances.
    """
    blocks = {dnn.id: tuple(block.id for block in dnn.blocks) for dnn in instance.dnns}
    samples = {blocks[a.dnn]: a.samples for a in task.alternatives} | {blocks[task.dnn]: None}
    n = samples.get(tuple(path.blocks)) if path.source == "given" else None
    if n is None:
        return None
    z = NormalDist().inv_cdf(0.975)
    low, high = np.roots([1.0 + z * z / n, -(2.0 * path.accuracy + z * z / n), path.accuracy**2])[
        ::-1
    ]
    return float(low), float(high)


def as_result(instance: Instance, best: Reference, objective: str, asked: Data) -> Result:
    """Write the reference's assignment as a result, from its own tables."""
    paths = [best.paths[task.id] for task in instance.tasks]
    rates = [best.rates[task.id] for task in instance.tasks]
    work = np.sum([r * p.work for r, p in zip(rates, paths, strict=True)], axis=0)
    traffic = np.sum([r * p.traffic for r, p in zip(rates, paths, strict=True)], axis=0)
    reward = _shape(instance.reward.accuracy, best.accuracy) * _shape(
        instance.reward.throughput, best.throughput
    )
    return Result.model_validate(
        {
            "instance": instance.name,
            "method": "brute force",
            "objective": objective,
            "status": "optimal",
            "reward": reward,
            "bound": best.value,
            "gap": 0.0,
            "throughput": best.throughput,
            "accuracy": best.accuracy,
            **asked,
            "tasks": [
                {
                    "task": task.id,
                    "path": path.blocks,
                    "rate": rate,
                    "accuracy": path.accuracy,
                    "accuracy_source": path.source,
                    "latency": path.latency,
                    "accuracy_interval": interval(instance, task, path),
                }
                for task, path, rate in zip(instance.tasks, paths, rates, strict=True)
            ],
            "servers": [
                {
                    "server": server.id,
                    "load": load,
                    "capacity": server.flops,
                    "utilization": load / server.flops,
                }
                for server, load in zip(instance.servers, work, strict=True)
            ],
            "links": [
                {
                    "source": link.source,
                    "target": link.target,
                    "load": load,
                    "capacity": link.bandwidth,
                    "utilization": None if link.bandwidth is None else load / link.bandwidth,
                }
                for link, load in zip(instance.links, traffic, strict=True)
            ],
        }
    )


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(instance=instances())
def test_the_checker_confirms_the_reference(instance: Instance) -> None:
    for objective in ("reward", "throughput", "accuracy"):
        best = solve_reference(instance, objective)
        if best is None:
            continue
        assert check(as_result(instance, best, objective, {}), instance) == []
        asked: Data = {"min_accuracy": best.accuracy, "min_throughput": best.throughput * 0.99}
        same = solve_reference(instance, objective, **asked)
        assert same is not None
        assert same.value == pytest.approx(best.value, rel=1e-8)
        assert check(as_result(instance, same, objective, asked), instance) == []


def figures(data: Any, place: tuple[Any, ...] = ()) -> Any:
    """Yield the places of all numbers of a result that must follow from the others."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from figures(value, (*place, key))
        elif isinstance(value, float) and key != "seconds":
            yield (*place, key)


def test_a_tampered_figure_never_passes() -> None:
    tried = 0
    for seed in range(6):
        instance = random_instance(seed, services=3)
        best = solve_reference(instance)
        if best is None:
            continue
        result = as_result(instance, best, "reward", {}).to_dict()
        for place in figures(result):
            for change in (lambda x: x * 1.01 + 0.01, lambda x: x * 0.5 - 0.01):
                tampered = copy.deepcopy(result)
                target = tampered
                for key in place[:-1]:
                    target = target[key]
                target[place[-1]] = change(target[place[-1]])
                assert check(Result.model_validate(tampered), instance), (seed, place)
                tried += 1
    assert tried > 100


# ---- the random instances ---------------------------------------------------------------------


def test_the_same_seed_gives_the_same_instance() -> None:
    for seed in range(20):
        assert random_data(seed) == random_data(seed)
    assert random_data(0) != random_data(1)


def test_options_are_kept() -> None:
    for seed in range(30):
        data = random_data(
            seed, services=3, links="none", limits=False, rates=False, measured=False
        )
        assert len(data["dnns"]) == 3
        assert data["links"] == []
        for task in data["tasks"]:
            assert (task["floor"], task["demand"]) == (0.0, None)
            assert (task["min_accuracy"], task["max_latency"]) == (0.0, None)
            assert task["measured_paths"] == []
        assert all(server["memory"] is None for server in data["servers"])
        best = solve_reference(parse_instance(data))
        assert best is None or best.value > 0


def kind(instance: Instance, task: Any, connection: Any) -> str:
    blocks = {b.id: (d.id, k) for d in instance.dnns for k, b in enumerate(d.blocks)}
    if connection.source == "input":
        (dnn,) = (d for d in instance.dnns if d.id == task.dnn)
        native = dnn.blocks[0].id == connection.target
        return "override" if native else "entry"
    if connection.target == "output":
        (dnn,) = (d for d in instance.dnns if d.id == task.dnn)
        return "override" if dnn.blocks[-1].id == connection.source else "exit"
    (source, i), (target, j) = blocks[connection.source], blocks[connection.target]
    if source != target:
        return "cross"
    return "override" if j == i + 1 else "skip"


def features(instance: Instance) -> set[str]:
    """Name everything that the tests against brute force are meant to meet."""
    found = {f"{len(instance.dnns)} services", f"{len(instance.servers)} servers"}
    for shape, of in ((instance.reward.accuracy, "xi"), (instance.reward.throughput, "zeta")):
        found.add(f"{of} {shape.kind}")
        if isinstance(shape, Power) and shape.exponent == 0:
            found.add(f"{of} constant")
    hosts = [dnn.server for dnn in instance.dnns]
    natives = [task.dnn for task in instance.tasks]
    found |= {"shared server"} if len(set(hosts)) < len(hosts) else set()
    found |= {"shared DNN"} if len(set(natives)) < len(natives) else set()
    pairs = len(instance.servers) * (len(instance.servers) - 1)
    links = "none" if not instance.links else "all" if len(instance.links) == pairs else "some"
    found.add(f"links {links}")
    found |= {"bandwidth null" for link in instance.links if link.bandwidth is None}
    found |= {"memory" for server in instance.servers if server.memory is not None}
    found |= {"zero flops" for dnn in instance.dnns for block in dnn.blocks if block.flops == 0}
    every = reference_pool(instance, limits=False)
    for task in instance.tasks:
        found.add(f"floor {task.floor if task.floor in ('standalone', 0.0) else 'number'}")
        found.add(f"demand {task.demand if task.demand in (None, 0.0) else 'number'}")
        found |= {"weight 0"} if task.weight == 0 else set()
        found |= {"min accuracy"} if task.min_accuracy else set()
        found |= {"max latency"} if task.max_latency is not None else set()
        for connection in task.connections:
            found.add(kind(instance, task, connection))
            found |= {"negative drop"} if connection.drop < 0 else set()
            found |= {"adapter elsewhere"} if connection.server is not None else set()
        native = tuple(
            block.id for dnn in instance.dnns if dnn.id == task.dnn for block in dnn.blocks
        )
        for path in task.measured_paths:
            found.add("measured native" if path.blocks == native else "measured other")
            by_ends = {(c.source, c.target): c.drop for c in task.connections}
            nodes = ["input", *path.blocks, "output"]
            steps = zip(nodes, nodes[1:], strict=False)
            predicted = task.accuracy - sum(by_ends.get(step, 0.0) for step in steps)
            found.add("measured above" if path.accuracy > predicted else "measured below")
            found |= {"measured, predicted below 0"} if predicted < 0 else set()
        found |= {"no path"} if not every[task.id] else set()
    if math.prod(map(len, every.values())) < count_paths(instance):
        found.add("inadmissible path")
    found.add("feasible" if solve_reference(instance) else "infeasible")
    return found


def test_random_instances_hold_every_feature() -> None:
    wanted = {
        *("2 services", "3 services", "4 services", "1 servers", "2 servers", "3 servers"),
        *("4 servers", "shared server", "shared DNN", "links none", "links some", "links all"),
        *("xi power", "xi logistic", "xi exponential", "xi constant", "zeta power"),
        *("zeta logistic", "zeta exponential", "zeta constant", "bandwidth null", "memory"),
        *("floor 0.0", "floor number", "floor standalone", "demand None", "demand 0.0"),
        *("demand number", "weight 0", "min accuracy", "max latency", "cross", "skip", "exit"),
        *("entry", "override", "negative drop", "adapter elsewhere", "measured native"),
        *("measured other", "measured above", "measured below", "measured, predicted below 0"),
        *("inadmissible path", "zero flops", "no path", "feasible", "infeasible"),
    }
    met: dict[str, int] = dict.fromkeys(wanted, 0)
    combinations = []
    for seed in range(400):
        instance = random_instance(seed)
        combinations.append(count_paths(instance))
        for feature in features(instance):
            met[feature] = met.get(feature, 0) + 1
    assert set(met) == wanted
    assert min(met.values()) >= 2, {name: n for name, n in met.items() if n < 2}
    assert met["feasible"] > 0.7 * len(combinations)
    assert max(combinations) <= MAX_COMBINATIONS
    assert np.median(combinations) >= 10
