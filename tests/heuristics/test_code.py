"""CoDE's procedure as published: against a plain statement of it, by hand, and at its edges."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from code_opt import CodeParameters, InputError, Parameters, check, load_instance, solve
from code_opt.core.settings import Clock, Settings
from code_opt.generate import generate
from code_opt.heuristics.detours import Detours
from code_opt.heuristics.staged_search import StagedSearch, Starts
from code_opt.instance import parse_instance
from code_opt.paths import PathProblem, Topology
from tests.instances import dnn

DATA = Path(__file__).resolve().parents[2] / "data"


# --- A plain statement of the procedure, from the data of an instance alone ---------------


class Plain:
    """Single tasks, power rewards; everything is worked out anew wherever it is needed."""

    def __init__(self, data, beam=8, tolerance=1e-3):
        self.data, self.beam, self.tolerance = data, beam, tolerance
        self.server = {b["id"]: d["server"] for d in data["dnns"] for b in d["blocks"]}
        self.flops = {b["id"]: b["flops"] for d in data["dnns"] for b in d["blocks"]}
        self.size = {b["id"]: b["output_bytes"] for d in data["dnns"] for b in d["blocks"]}
        self.trunk = {d["id"]: [b["id"] for b in d["blocks"]] for d in data["dnns"]}
        self.next = {a: b for t in self.trunk.values() for a, b in itertools.pairwise(t)}
        self.links = {(k["source"], k["target"]): k for k in data["links"]}
        self.capacity = {("server", s["id"]): s["flops"] for s in data["servers"]}
        for ends, link in self.links.items():
            if link["bandwidth"] is not None:
                self.capacity["link", ends] = link["bandwidth"]
        for s in data["servers"]:
            if s["memory"] is not None:
                self.capacity["memory", s["id"]] = s["memory"]
        self.connections = [
            {(c["source"], c["target"]): c for c in t["connections"]} for t in data["tasks"]
        ]
        self.usable = [
            {e for e, c in mine.items() if self.hops(t, e, c) is not None}
            for t, mine in zip(data["tasks"], self.connections, strict=True)
        ]
        weight = sum(t["weight"] for t in data["tasks"])
        self.weight = [t["weight"] / weight for t in data["tasks"]]
        self.asked = [{} for _ in data["tasks"]]
        self.errors = [{} for _ in data["tasks"]]
        self.predicted, self.measured = [{} for _ in data["tasks"]], Counter()

    def hops(self, task, ends, c):
        """Return the links that a connection crosses, None where one is missing.

        Without any link in the instance all transfers are free.
        """
        if not self.links:
            return []
        tail, head = ends
        place = c["server"] or self.server[head if tail == "input" else tail]
        origin = place if tail == "input" else self.server[tail]
        stops = [origin, place, *([] if head == "output" else [self.server[head]])]
        moves = [(a, b) for a, b in itertools.pairwise(stops) if a != b]
        return moves if all(m in self.links for m in moves) else None

    def own(self, task):
        return self.trunk[self.data["tasks"][task]["dnn"]]

    def use(self, task, path):
        """Return the use of every resource, per inference or once, and the latency."""
        use, seconds = Counter(), 0.0
        for ends in itertools.pairwise(["input", *path, "output"]):
            tail, head = ends
            c = self.connections[task].get(ends)
            if c is not None:
                place = c["server"] or self.server[head if tail == "input" else tail]
                use["server", place] += c["flops"]
                seconds += c["flops"] / self.capacity["server", place]
                if ("memory", place) in self.capacity:
                    use["memory", place] += 4 * c["params"]
                size = c["bytes"]
                if size is None:
                    size = 0.0 if tail == "input" else self.size[tail]
                for move in self.hops(self.data["tasks"][task], ends, c):
                    link = self.links[move]
                    seconds += link["latency"]
                    if link["bandwidth"] is not None:
                        use["link", move] += size
                        seconds += size / link["bandwidth"]
            if head != "output":
                use["server", self.server[head]] += self.flops[head]
                seconds += self.flops[head] / self.capacity["server", self.server[head]]
        return use, seconds

    def drops(self, task, path):
        ends = itertools.pairwise(["input", *path, "output"])
        return sum(self.connections[task][e]["drop"] for e in ends if e in self.connections[task])

    def used(self, task, path):
        ends = itertools.pairwise(["input", *path, "output"])
        return frozenset(e for e in ends if e in self.connections[task])

    def estimate(self, task, path):
        if path in self.asked[task]:
            return self.asked[task][path]
        raw = min(1.0, self.data["tasks"][task]["accuracy"] - self.drops(task, path))
        mine, errors = self.used(task, path), self.errors[task]
        if not mine or not errors:
            return raw
        alike = {other: len(mine & other) / len(mine | other) for other in errors}
        error = sum(alike[o] * e for o, e in errors.items()) / max(sum(alike.values()), 1.0)
        return min(max(raw + error, 0.0), 1.0)

    def ask(self, task, path, stage):
        if path in self.asked[task]:
            return
        raw = min(1.0, self.data["tasks"][task]["accuracy"] - self.drops(task, path))
        measured = self.data["tasks"][task]["measured_paths"]
        known = {tuple(m["blocks"]): m["accuracy"] for m in measured}
        self.asked[task][path] = known.get(path, raw)
        if path in known and self.used(task, path):
            self.errors[task][self.used(task, path)] = known[path] - raw
        if path != tuple(self.own(task)):
            self.measured[self.predicted[task][path]] += 1

    def merit(self, paths):
        """Return the log of a power reward, less 1000 times what is missed; floors are numbers."""
        tasks = self.data["tasks"]
        uses = [self.use(t, p) for t, p in enumerate(paths)]
        accuracy = [self.estimate(t, p) for t, p in enumerate(paths)]
        missed = 0.0
        for task, (_, seconds), a in zip(tasks, uses, accuracy, strict=True):
            if task["max_latency"] is not None:
                missed += max(seconds / task["max_latency"] - 1.0 - 1e-9, 0.0)
            missed += max(-a - 1e-9, 0.0)
            if task["min_accuracy"] > 0.0:
                missed += max(1.0 - a / task["min_accuracy"] - 1e-9, 0.0)
        floor = [t["floor"] for t in tasks]
        excess = 0.0
        for key, most in self.capacity.items():
            load = sum(
                u[key] * (1.0 if key[0] == "memory" else f)
                for (u, _), f in zip(uses, floor, strict=True)
            )
            excess += max(load / most - 1.0 - 1e-8, 0.0)
        throughput = sum(floor)
        if excess == 0.0:
            keys = [key for key in self.capacity if key[0] != "memory"]
            matrix = [[u[key] / self.capacity[key] for u, _ in uses] for key in keys]
            bounds = [(f, t["demand"]) for f, t in zip(floor, tasks, strict=True)]
            found = linprog(-np.ones(len(tasks)), matrix, np.ones(len(keys)), bounds=bounds)
            throughput = -found.fun
        average = sum(w * a for w, a in zip(self.weight, accuracy, strict=True))
        of_a, of_th = (self.data["reward"][k]["exponent"] for k in ("accuracy", "throughput"))
        value = of_a * math.log(max(average, 1e-9)) + of_th * math.log(max(throughput, 1e-9))
        return value - 1e3 * (missed + excess)

    def taken(self, task, path):
        use, _ = self.use(task, path)
        return sum(a / self.capacity[k] for k, a in use.items() if k[0] != "memory")

    def extended(self, task, path):
        """Return all paths that one more learned connection makes of a path."""
        nodes = ["input", *path, "output"]
        own, found = self.own(task), set()
        for i, tail in enumerate(nodes[:-1]):
            for a, head in self.usable[task]:
                if a != tail or head == nodes[i + 1] or self.next.get(a) == head:
                    continue
                if (a, head) in {("input", own[0]), (own[-1], "output")}:
                    continue
                begun, node = nodes[: i + 1], head
                while node not in nodes:
                    begun.append(node)
                    if node not in own:
                        for b, back in self.usable[task]:
                            if b == node and back in nodes and back != self.next.get(node):
                                found.add((*begun, *nodes[nodes.index(back) :]))
                    node = "output" if node == own[-1] else self.next.get(node)
                    if node is None:
                        break
                if node is not None:
                    found.add((*begun, *nodes[nodes.index(node) :]))
        return {p[1:-1] for p in found}

    def run(self):
        paths = [tuple(self.own(t)) for t in range(len(self.data["tasks"]))]
        for t, path in enumerate(paths):
            self.ask(t, path, 0)
        is_better = True
        while is_better:
            is_better = False
            for t in range(len(paths)):
                best, merit = self.best_of(t, paths)
                if merit > self.merit(paths) + 1e-7:
                    paths[t], is_better = best, True
        return paths

    def best_of(self, task, paths):
        def value(path):
            return self.merit([*paths[:task], path, *paths[task + 1 :]])

        best = tuple(self.own(task))
        merit, beam, seen = value(best), [best], {best}
        for stage in itertools.count(1):
            fresh = {q for p in beam for q in self.extended(task, p)} - seen
            seen |= fresh
            for path in fresh:
                self.predicted[task].setdefault(path, stage)
            order = sorted(fresh, key=lambda p: (self.taken(task, p), len(p), p))
            before, left = merit, list(order)
            while left:
                promised = {p: value(p) for p in left}
                less = self.taken(task, best) * (1 - 1e-9)
                enough = [
                    p
                    for p in left
                    if promised[p] > merit + 1e-7
                    or (self.taken(task, p) < less and promised[p] > merit - self.tolerance)
                ]
                if not enough:
                    break
                most = max(promised[p] for p in enough)
                path = next(p for p in enough if promised[p] >= most - 1e-7)
                left.remove(path)
                self.ask(task, path, stage)
                found = value(path)
                as_good = found > merit - 1e-7 and self.taken(task, path) < less
                if found > merit + 1e-7 or as_good:
                    best, merit = path, found
            if merit <= before + 1e-7 or not fresh:
                break
            beam = sorted(order, key=lambda p: -value(p))[: self.beam]
        return best, merit


TINY = [
    *({"seed": seed} for seed in range(5)),
    *({"seed": seed, "links": True} for seed in range(3)),
    *({"seed": seed, "memory": True, "measured": 2} for seed in range(3)),
    {"seed": 1, "links": True, "latency": True, "memory": True, "measured": 3},
]


@pytest.mark.parametrize(
    ("options", "beam"), [(options, (2, 8)[k % 2]) for k, options in enumerate(TINY)], ids=str
)
def test_equal_to_the_plain_statement(options, beam):
    instance = generate(3, blocks=3, hosts=1, **options)
    data = instance.to_dict()
    for task in data["tasks"]:
        task["floor"] = 0.5
    instance = parse_instance(data)
    plain = Plain(data, beam)
    paths = plain.run()
    result = solve(instance, "code", parameters=Parameters(code=CodeParameters(beam=beam)))
    assert [row.path for row in result.tasks] == paths
    assert math.log(result.reward) == pytest.approx(plain.merit(paths), abs=1e-6)
    stages = Counter(stage for found in plain.predicted for stage in found.values())
    assert result.details["paths_predicted"] == stages.total()
    assert result.details["paths_measured"] == plain.measured.total()
    for stage, count in stages.items():
        assert result.details[f"stage_{stage}_predicted"] == count
        assert result.details[f"stage_{stage}_measured"] == plain.measured[stage]


# --- The paper's two services, by hand ----------------------------------------------------


def pair(**task):
    """Own network of 3 blocks of 2, 2 and 6 FLOP; the host's of 1, 1, 4; 12 and 20 FLOP/s."""

    def connection(source, target, drop):
        return {"source": source, "target": target, "drop": drop}

    return {
        "schema": "code-opt/instance/1",
        "servers": [{"id": "a", "flops": 12.0}, {"id": "b", "flops": 20.0}],
        "links": [{"source": s, "target": t} for s, t in (("a", "b"), ("b", "a"))],
        "dnns": [dnn("own", "a", [2.0, 2.0, 6.0]), dnn("host", "b", [1.0, 1.0, 4.0])],
        "tasks": [
            {
                "id": "mine",
                "dnn": "own",
                "accuracy": 0.9,
                "connections": [
                    connection("own0", "own2", 0.05),
                    connection("own1", "output", 0.2),
                    connection("own0", "host1", 0.04),
                    connection("host1", "own2", 0.05),
                    connection("host1", "output", 0.06),
                ],
                **task,
            },
            {"id": "theirs", "dnn": "host", "accuracy": 0.8, "demand": 2.0},
        ],
    }


def test_the_paths_of_the_first_stage():
    instance = parse_instance(pair())
    graph = Topology(instance).task_graph(instance.tasks[0])
    detours = Detours(instance, graph)

    def blocks(arcs):
        return tuple(graph.arcs[a].head for a in arcs[:-1])

    first = {blocks(p) for p in detours.extensions(detours.native)}
    assert first == {
        ("own0", "own2"),  # a skip
        ("own0", "own1"),  # an exit
        ("own0", "host1", "own2"),  # into the host and back
        ("own0", "host1"),  # into the host and out
    }
    # A host block has no head of this task: nothing goes on to host2 and out.
    second = {
        blocks(p)
        for path in (("own0", "host1", "own2"), ("own0", "own2"))
        for p in detours.extensions(tuple(graph.path_arcs(path)))
    }
    assert second == {("own0", "host1"), ("own0", "host1", "own2"), ("own0", "own2")}


def test_two_services_have_the_reward_of_the_paper():
    """Th = Th_local + Th_host and F = A * Th, worked out for the four paths of the first stage.

    The host's task asks for 2/s and needs 6 FLOP: with 20 FLOP/s on its server 8 are left. The
    task's own rate is limited by 12 FLOP/s on its own server.

    native         12/10 = 1.2/s                 A = 0.9   F = 0.85  * 3.2 = 2.72
    skip           12/8 = 1.5/s                  A = 0.85  F = 0.825 * 3.5 = 2.8875
    exit           12/4 = 3/s                    A = 0.7   F = 0.75  * 5 = 3.75
    host and back  min(12/8, 8/1) = 1.5/s        A = 0.81  less than the skip at the same rate
    host and out   12/2 = 6/s, 6 of 8 FLOP/s     A = 0.8   F = 0.8   * 8 = 6.4
    """
    instance = parse_instance(pair())
    result = solve(instance, "code")
    assert [row.path for row in result.tasks] == [("own0", "host1"), ("host0", "host1", "host2")]
    assert result.throughput == pytest.approx(6.0 + 2.0)
    assert result.accuracy == pytest.approx((0.8 + 0.8) / 2)
    assert result.reward == pytest.approx(6.4)
    # The best promise is measured, and keeps it: no other one is asked for.
    assert result.details["stage_1_predicted"] == 4
    assert result.details["stage_1_measured"] == 1
    assert result.reward == pytest.approx(solve(instance).reward, rel=1e-6)


def test_a_measurement_below_its_promise_leads_to_the_next_path():
    """Host and out is measured at 0.1, F = 0.45 * 8 = 3.6: the exit promises 3.75."""
    measured = [{"blocks": ["own0", "host1"], "accuracy": 0.1}]
    result = solve(parse_instance(pair(measured_paths=measured)), "code")
    assert result.tasks[0].path == ("own0", "own1")
    assert result.reward == pytest.approx(3.75)
    assert result.details["paths_measured"] == 2


def test_a_native_path_that_limits_rule_out_is_only_a_start():
    # 10 FLOP at 12 FLOP/s take 0.83 s.
    result = solve(parse_instance(pair(max_latency=0.4, min_accuracy=0.75)), "code")
    assert result.tasks[0].path == ("own0", "host1")
    result = solve(parse_instance(pair(max_latency=0.1)), "code")
    assert (result.status, result.has_solution) == ("unknown", False)
    assert "nobody improved: task 'mine': latency" in result.message


def test_a_native_path_that_is_missing_starts_with_fewest_connections():
    data = pair()
    # The step to own1 is changed, and its adapter runs where no link leads back from.
    data["links"] = [{"source": "a", "target": "b"}]
    changed = {"source": "own0", "target": "own1", "drop": 0.0, "server": "b"}
    data["tasks"][0]["connections"].append(changed)
    instance = parse_instance(data)
    assert Detours(instance, Topology(instance).task_graph(instance.tasks[0])).native is None
    starts = Starts(PathProblem(instance))
    graph = starts.detours[0].graph
    assert [graph.arcs[a].head for a in starts.first[0]] == ["own0", "own2", "output"]
    assert solve(instance, "code").tasks[0].path == ("own0", "host1")


# --- Feasible, reproducible, never better than a bound ------------------------------------


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"links": True, "latency": True, "memory": True, "measured": 3}, {}),
        ({"groups": (1, 4), "blocks": 4}, {}),
        ({}, {"objective": "throughput", "min_accuracy": 0.76}),
        ({}, {"objective": "accuracy", "min_throughput": 2000.0}),
    ],
)
def test_feasible_and_never_better_than_a_proven_bound(options, settings):
    solved = 0
    for seed in range(2):
        instance = generate(8, seed=seed, **options)
        first, second = (solve(instance, "code", **settings) for _ in range(2))
        assert first.model_copy(update={"seconds": 0.0}) == second.model_copy(
            update={"seconds": 0.0}
        )
        if not first.has_solution:
            assert first.status == "unknown"
            assert first.message
            continue
        solved += 1
        assert check(first, instance) == []
        exact = solve(instance, **settings)
        assert first.value <= exact.bound * (1 + 1e-9)
        assert first.value >= 0.4 * exact.value
    assert solved > 0


@pytest.mark.parametrize(
    "name",
    [
        "digits/instance",
        "alexnet-mobilenet/balanced",
        "alexnet-mobilenet/instance",
        "alexnet-mobilenet/uneven",
        "three-services/instance",
    ],
)
def test_the_optimum_of_the_profiled_data(name):
    instance = load_instance(DATA / f"{name}.json")
    result = solve(instance, "code")
    assert result.reward == pytest.approx(solve(instance).reward, rel=1e-4)
    assert result.details["paths_measured"] < 0.15 * result.details["paths"]


def test_time_that_is_over_at_once_leaves_everybody_at_the_start():
    instance = generate(6, seed=1)
    search = StagedSearch(Starts(PathProblem(instance)), Settings(), clock=Clock(1e-9))
    outcome = search.run()
    assert not outcome.is_complete
    assert outcome.moves == 0
    assert outcome.paths == tuple(Starts(PathProblem(instance)).first)


def test_100_services_take_few_rate_programs():
    """Bounds leave out most paths: a program for each in each turn would be 20 times as many."""
    result = solve(generate(100, seed=3000), "code")
    assert result.has_solution
    assert result.details["paths_predicted"] > 10_000
    assert result.details["rate_programs"] < 4_000


@pytest.mark.parametrize(
    ("values", "message"),
    [({"beam": 0}, "beam 0"), ({"tolerance": -1.0}, "tolerance -1.0")],
)
def test_parameters_out_of_range(values, message):
    with pytest.raises(InputError, match=message):
        CodeParameters(**values)
