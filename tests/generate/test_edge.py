"""Random edges: valid, feasible, the same everywhere, like what they are drawn from."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from code_opt import load_instance, parse_instance, solve
from code_opt.errors import InputError
from code_opt.generate import Edge, EdgeOptions, generate_edge, write_edge
from code_opt.generate.edge import RATE
from code_opt.generate.layouts import LAYOUTS
from code_opt.generate.writing import json_lines
from code_opt.paths import Topology
from code_opt.paths.standalone import least_rates

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = {
    "blocks": (3, 6),
    "images": "mixed",
    "links": True,
    "latency": True,
    "memory": True,
    "measured": 3,
    "saturated": 0.2,
    "groups": 0.3,
    "alternatives": 2,
}
HASHES = {
    "hub-and-spoke": "ce5da7a5e4bf2aa1a093ce05707052f627d05877b6753a72e745d6e081e91976",
    "metro-ring": "dcd211be4648375bec0af5495920b618a46ee1b8846d44f50e61c4f275b1bfe6",
    "hierarchy": "56c720ad0879354650e53e5e15b52eeabf07f335dd8cdd36155dd4d2035257a4",
}
"""SHA-256 of the file of 40 services, seed 7, with everything; the same on every machine."""


def text(options: EdgeOptions) -> str:
    return "".join(json_lines(Edge(options)))


@pytest.mark.parametrize("family", LAYOUTS)
def test_a_known_instance_stays_what_it_was(family):
    """Benchmarks name instances by family and seed: a change of one byte must be noticed."""
    content = text(EdgeOptions(family, 40, seed=7, **EVERYTHING)).encode()
    assert hashlib.sha256(content).hexdigest() == HASHES[family]


@pytest.mark.parametrize("family", LAYOUTS)
def test_an_instance_in_seconds_is_the_same_edge(family):
    """Networks and adapters take what their FLOPs took; the blocks of a network share it anew."""
    flops, seconds = (
        generate_edge(EdgeOptions(family, 12, seed=3, seconds=timed, **EVERYTHING))
        for timed in (False, True)
    )
    assert all(server.flops is None for server in seconds.servers)
    servers = {server.id: server for server in flops.servers}
    shifted = 0
    for one, other in zip(flops.dnns, seconds.dnns, strict=True):
        expected = [servers[one.server].batch_time(block) for block in one.blocks]
        found = [block.seconds["1"] for block in other.blocks]
        assert sum(found) == pytest.approx(sum(expected))
        shifted += max(found[k] / expected[k] for k in range(len(found))) > 1.2
    assert shifted > 6
    assert least_rates(Topology(seconds)) == pytest.approx(least_rates(Topology(flops)))
    assert solve(seconds, "local").has_solution


@pytest.mark.parametrize("family", LAYOUTS)
@pytest.mark.parametrize("services", [1, 2, 3, 17, 40])
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["bare", "everything"])
def test_every_size_is_valid_and_of_that_size(family, services, options):
    instance = generate_edge(EdgeOptions(family, services, seed=services, **options))
    assert len(instance.dnns) == len(instance.tasks) == services
    assert {dnn.server for dnn in instance.dnns} == {server.id for server in instance.servers}
    fewest, most = options.get("blocks", (5, 5))
    assert all(fewest <= len(dnn.blocks) <= most for dnn in instance.dnns)
    assert bool(instance.links) == bool(options and len(instance.servers) > 1)
    assert all((server.memory is not None) == bool(options) for server in instance.servers)


@pytest.mark.parametrize("family", LAYOUTS)
def test_every_instance_is_feasible_with_no_coordination(family):
    """The claim of Edge's docstring; ``solve`` lets no assignment pass that the checker refuses."""
    for seed in range(4):
        instance = generate_edge(EdgeOptions(family, 30, seed=seed, **EVERYTHING))
        assert any(task.max_latency for task in instance.tasks)
        assert solve(instance, method="local").status == "feasible"


@pytest.mark.parametrize("family", LAYOUTS)
def test_coordination_gains_and_hosts_are_used(family):
    instance = generate_edge(EdgeOptions(family, 12, seed=2, links=True))
    best = solve(instance, method="exact", gap=1e-2)
    assert best.reward > 1.2 * solve(instance, method="local").reward
    dnn_of = {block.id: dnn.id for dnn in instance.dnns for block in dnn.blocks}
    native = {task.id: task.dnn for task in instance.tasks}
    assert any(dnn_of[block] != native[row.task] for row in best.tasks for block in row.path)


@pytest.mark.parametrize("family", LAYOUTS)
def test_the_file_holds_the_instance(family, tmp_path):
    options = EdgeOptions(family, 25, seed=1, **EVERYTHING)
    write_edge(Edge(options), tmp_path / "x.json")
    assert load_instance(tmp_path / "x.json") == generate_edge(options)
    assert (tmp_path / "x.json").read_text() == text(options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_many_services_are_streamed(tmp_path):
    options = EdgeOptions("hierarchy", 600, links=True, measured=2)
    tracemalloc.start()
    write_edge(Edge(options), tmp_path / "x.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "x.json").stat().st_size > 2 * peak


def test_writing_that_stops_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text("before")

    def failing(self, i):
        if i == 3:
            raise RuntimeError("power cut")
        return {"id": str(i)}

    monkeypatch.setattr(Edge, "_task", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        write_edge(Edge(EdgeOptions("metro-ring", 9)), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_seeds_and_sizes_give_other_instances():
    assert text(EdgeOptions("metro-ring", 6, seed=1)) != text(EdgeOptions("metro-ring", 6, seed=2))
    first = [Edge(EdgeOptions("metro-ring", n, seed=1)).record()["tasks"][0] for n in (6, 7)]
    assert first[0]["connections"] != first[1]["connections"]


def test_an_option_changes_what_it_says_and_nothing_else():
    base = Edge(EdgeOptions("hub-and-spoke", 30, seed=3)).record()
    linked = Edge(EdgeOptions("hub-and-spoke", 30, seed=3, links=True)).record()
    assert linked["links"]
    assert {k for k in base if base[k] != linked[k]} == {"description", "links"}
    other = Edge(EdgeOptions("hub-and-spoke", 30, seed=3, latency=True, memory=True, measured=2))
    changed = other.record()
    for task in changed["tasks"]:
        task.pop("max_latency", None)
        task.pop("measured_paths", None)
    for server in changed["servers"]:
        server.pop("memory")
    assert [base[k] for k in ("servers", "dnns", "tasks")] == [
        changed[k] for k in ("servers", "dnns", "tasks")
    ]


def test_demands_are_zipf():
    edge = Edge(EdgeOptions("metro-ring", 200, load=2.0, zipf=0.8))
    demands = sorted((task["demand"] for task in edge.tasks()), reverse=True)
    assert sum(demands) == pytest.approx(2.0 * RATE * 200, rel=1e-3)
    for rank in (2, 10, 200):
        assert demands[0] / demands[rank - 1] == pytest.approx(rank**0.8, rel=1e-3)
    level = Edge(EdgeOptions("metro-ring", 20, load=2.0, zipf=0.0))
    assert {task["demand"] for task in level.tasks()} == {2.0 * RATE}


def test_saturated_tasks_have_no_demand():
    tasks = list(Edge(EdgeOptions("metro-ring", 300, saturated=0.3)).tasks())
    assert 60 < sum("demand" not in task for task in tasks) < 120


def test_drops_are_like_the_measured_ones():
    """Means over many tasks meet the means over the measured services, depth by depth."""
    edge = Edge(EdgeOptions("hub-and-spoke", 800, blocks=(4, 4)))
    found: dict[str, list[float]] = {}
    for task in edge.tasks():
        for c in task["connections"]:
            source, target = c["source"].split("/"), c["target"].split("/")
            if source == ["input"]:
                kind = "entry"
            elif source[0] != task["dnn"]:
                kind = f"from host {source[1]} {target[0] == 'output'}"
            elif target == ["output"]:
                kind = f"exit {source[1]}"
            elif target[0] == source[0]:
                kind = f"skip {source[1]} {target[1]}"
            else:
                kind = f"to host {source[1]}"
            found.setdefault(kind, []).append(c["drop"])
    own, pairs = edge._catalogue.own, edge._catalogue.pairs
    expected = {
        "entry": [p.entry for p in pairs],
        "to host 0": [p.leave(0.25) for p in pairs],
        "to host 1": [p.leave(0.5) for p in pairs],
        **{f"from host {k} True": [p.exit((k + 1) / 4) for p in pairs] for k in range(3)},
        **{f"from host {k} False": [p.come_back((k + 1) / 4) for p in pairs] for k in range(3)},
        **{f"exit {k}": [o.exit((k + 1) / 4) for o in own] for k in range(3)},
        "skip 0 2": [o.skip(0.25, 0.5) for o in own],
        "skip 0 3": [o.skip(0.25, 0.75) for o in own],
        "skip 1 3": [o.skip(0.5, 0.75) for o in own],
    }
    assert set(found) == set(expected)
    for kind, drops in expected.items():
        spread = statistics.pstdev(drops) / len(found[kind]) ** 0.5
        close = pytest.approx(statistics.fmean(drops), abs=5 * spread + 0.002)
        assert statistics.fmean(found[kind]) == close, kind


def test_measured_paths_are_near_their_prediction():
    instance = generate_edge(EdgeOptions("metro-ring", 60, measured=4))
    off = []
    for task in instance.tasks:
        assert 0 < len(task.measured_paths) <= 4
        drop = {(c.source, c.target): c.drop for c in task.connections}
        for path in task.measured_paths:
            ends = ["input", *path.blocks, "output"]
            steps = zip(ends[:-1], ends[1:], strict=True)
            predicted = task.accuracy - sum(drop.get(step, 0.0) for step in steps)
            off.append(path.accuracy - min(predicted, 1.0))
    assert max(map(abs, off)) < 0.06
    assert 0.004 < statistics.pstdev(off) < 0.02


@pytest.mark.parametrize("family", LAYOUTS)
def test_groups_are_valid_and_can_share(family):
    instance = generate_edge(EdgeOptions(family, 40, seed=5, **{**EVERYTHING, "groups": 0.6}))
    groups: dict[str, list] = {}
    for task in instance.tasks:
        if task.input_group:
            groups.setdefault(task.input_group, []).append(task)
    assert 0.4 * 40 <= sum(map(len, groups.values())) <= 0.6 * 40
    for members in groups.values():
        assert 2 <= len(members) <= 4
        assert len({task.demand for task in members}) == 1
    assert any(c.share == "identity" for task in instance.tasks for c in task.connections)
    assert all(task.input_group for task in instance.tasks for c in task.connections if c.share)
    assert solve(instance, method="local").status == "feasible"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "star"}, "family 'star': use one of hub-and-spoke"),
        ({"services": 0}, "services 0"),
        ({"seed": -1}, "seed -1"),
        ({"blocks": (1, 5)}, "blocks 1 to 5"),
        ({"blocks": (5, 9)}, "blocks 5 to 9"),
        ({"blocks": (5, 4)}, "blocks 5 to 4"),
        ({"hosts": -1}, "hosts -1"),
        ({"images": "64"}, "images '64'"),
        ({"zipf": float("nan")}, "zipf nan"),
        ({"load": 0.0}, r"load 0\.0"),
        ({"saturated": 1.5}, r"saturated 1\.5"),
        ({"measured": -1}, "measured -1"),
        ({"groups": -0.1}, r"groups -0\.1"),
        ({"services": 0, "hosts": -1}, "services 0.*; hosts -1"),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        EdgeOptions(**{"family": "metro-ring", "services": 4, **changes})


def test_generating_loads_no_torch():
    code = (
        "import sys; from code_opt.generate import Edge, EdgeOptions; "
        "Edge(EdgeOptions('metro-ring', 3)).record(); print('torch' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"


@pytest.mark.long
@pytest.mark.parametrize("family", LAYOUTS)
def test_many_instances_are_valid_and_feasible(family):
    for seed in range(150):
        options = {k: v for k, v in EVERYTHING.items() if (seed >> len(k) % 7) & 1}
        instance = generate_edge(EdgeOptions(family, 1 + seed % 60, seed=seed, **options))
        assert parse_instance(instance.to_dict()) == instance
        assert solve(instance, method="local").status == "feasible"
