"""The committed instances hold what their descriptions and the worked example say."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from code_opt import check, load_instance, solve
from code_opt.instance.model import Instance

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
FILES = ["two-services", "shared-input", "one-provider", "metro-links", "measured-overturn"]


def optimum(instance: Instance):
    result = solve(instance, gap=1e-6)
    assert result.status == "optimal"
    assert check(result, instance) == []
    return result


def path_of(result, task: str) -> tuple[str, ...]:
    return next(row.path for row in result.tasks if row.task == task)


# --- The worked example -----------------------------------------------------------------


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the Markdown tables of a text, each as rows by heading."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = [
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in block.split("\n")
        ]
        head, _, *rows = [line for line in lines if line != [""]]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def readme_table() -> list[dict[str, str]]:
    _, computed = tables((DATA / "README.md").read_text(encoding="utf-8"))
    return computed


@pytest.fixture(scope="module")
def textbook() -> Instance:
    return load_instance(DATA / "two-services.json")


@pytest.fixture(scope="module")
def example() -> list[list[dict[str, str]]]:
    return tables((ROOT / "docs" / "worked-example.md").read_text(encoding="utf-8"))


def work_of(instance: Instance, task_id: str, blocks: list[str]) -> tuple[float, dict[str, float]]:
    """Return accuracy and work by server [GFLOP] of a path; refuses steps that do not exist."""
    task = next(t for t in instance.tasks if t.id == task_id)
    server = {b.id: d.server for d in instance.dnns for b in d.blocks}
    flops = {b.id: b.flops for d in instance.dnns for b in d.blocks}
    own = [b.id for d in instance.dnns if d.id == task.dnn for b in d.blocks]
    native = {("input", own[0]), (own[-1], "output")} | {
        (a.id, b.id) for d in instance.dnns for a, b in zip(d.blocks, d.blocks[1:], strict=False)
    }
    extra = {(c.source, c.target): c for c in task.connections}
    accuracy, work = task.accuracy, dict.fromkeys(server.values(), 0.0)
    steps = ["input", *blocks, "output"]
    for step in zip(steps, steps[1:], strict=False):
        assert step in native or step in extra, f"{task_id}: no step {step}"
        if step[1] != "output":
            work[server[step[1]]] += flops[step[1]] / 1e9
        if step in extra:
            accuracy -= extra[step].drop
            work[server[step[1] if step[0] == "input" else step[0]]] += extra[step].flops / 1e9
    return accuracy, work


def all_paths(instance: Instance, task_id: str) -> set[tuple[str, ...]]:
    """Return every path of a task, found by trying every step."""
    task = next(t for t in instance.tasks if t.id == task_id)
    steps = {(c.source, c.target) for c in task.connections}
    for dnn in instance.dnns:
        ids = [block.id for block in dnn.blocks]
        steps |= set(zip(ids, ids[1:], strict=False))
        if dnn.id == task.dnn:
            steps |= {("input", ids[0]), (ids[-1], "output")}
    found, frontier = set(), [("input",)]
    while frontier:
        path = frontier.pop()
        if path[-1] == "output":
            found.add(path[1:-1])
        frontier += [(*path, b) for a, b in steps if a == path[-1]]
    return found


def test_example_states_the_instance(textbook, example):
    servers, connections = example[0], example[1]
    for row, server, dnn, task in zip(
        servers, textbook.servers, textbook.dnns, textbook.tasks, strict=True
    ):
        blocks = ", ".join(f"{block.id} {block.flops / 1e9:.1f}" for block in dnn.blocks)
        demand = "saturated" if task.demand is None else f"{task.demand:g}"
        assert list(row.values()) == [
            server.id,
            f"{server.flops / 1e9:g}",
            dnn.id,
            blocks,
            task.id,
            f"{task.accuracy:.2f}",
            demand,
        ]
    listed = [
        (row["task"], row["connection"], float(row["drop"]), float(row["adapter [GFLOP]"]))
        for row in connections
    ]
    assert listed == [
        (task.id, f"{c.source} → {c.target}", c.drop, c.flops / 1e9)
        for task in textbook.tasks
        for c in task.connections
    ]


def test_example_lists_every_path_with_its_figures(textbook, example):
    paths = example[2]
    for task in textbook.tasks:
        listed = {tuple(row["blocks"].split()) for row in paths if row["task"] == task.id}
        assert listed == all_paths(textbook, task.id)
    capacity = {server.id: server.flops / 1e9 for server in textbook.servers}
    for row in paths:
        accuracy, work = work_of(textbook, row["task"], row["blocks"].split())
        latency = 1e3 * sum(work[s] / capacity[s] for s in capacity)
        assert row["accuracy"] == f"{accuracy:.2f}"
        assert row["W(edge-a) [GFLOP]"] == f"{work['edge-a']:.2f}"
        assert row["W(edge-b) [GFLOP]"] == f"{work['edge-b']:.2f}"
        assert row["latency [ms]"] == f"{latency:.2f}"


def test_example_works_out_every_combination(textbook, example):
    paths = {row["path"]: row for row in example[2]}
    combinations = example[3]
    faces = [name for name, row in paths.items() if row["task"] == "faces"]
    plates = [name for name, row in paths.items() if row["task"] == "plates"]
    assert [(row["faces"], row["plates"]) for row in combinations] == [
        (f, p) for f in faces for p in plates
    ]
    capacity = {server.id: server.flops / 1e9 for server in textbook.servers}
    rewards = {}
    for row in combinations:
        accuracy, work = {}, {}
        for task in ("faces", "plates"):
            blocks = paths[row[task]]["blocks"].split()
            accuracy[task], work[task] = work_of(textbook, task, blocks)
        # plates: floor = demand = 50
        limits = {
            s: (capacity[s] - 50 * work["plates"][s]) / work["faces"][s]
            for s in capacity
            if work["faces"][s] > 0
        }
        rate = min(limits.values())
        average = (accuracy["faces"] + accuracy["plates"]) / 2
        assert row["bound by"] == min(limits, key=limits.__getitem__)
        assert row["r(faces) [1/s]"] == f"{rate:g}"
        if rate < 20:
            assert row["Th [1/s]"] == "not possible: below the floor"
            continue
        rewards[row["faces"], row["plates"]] = average**4 * (rate + 50)
        assert row["Th [1/s]"] == f"{rate + 50:g}"
        assert row["A_av"] == f"{average:.3f}"
        assert row["F"] == f"{average**4 * (rate + 50):.4f}"
    assert max(rewards, key=rewards.__getitem__) == ("f4", "p2")
    alone = [reward for (f, p), reward in rewards.items() if (f == "f1") != (p == "p1")]
    assert max(alone) < rewards["f1", "p1"], "some service gains alone"

    result = optimum(textbook)
    assert result.reward == pytest.approx(rewards["f4", "p2"], rel=1e-6)
    assert path_of(result, "faces") == ("large/0", "small/1")
    assert path_of(result, "plates") == ("small/0",)
    assert [row.rate for row in result.tasks] == pytest.approx([50, 50])
    assert [row.utilization for row in result.servers] == pytest.approx([1.0, 100 / 120])
    for method in ("local", "edge-early", "greedy"):
        stuck = solve(textbook, method=method)
        assert stuck.reward == pytest.approx(rewards["f1", "p1"], rel=1e-6)


def test_example_quotes_the_rewards_of_its_table(example):
    text = (ROOT / "docs" / "worked-example.md").read_text(encoding="utf-8")
    quoted = set(re.findall(r"\d\d\.\d{4}", text.partition("## The optimum")[2]))
    assert quoted
    assert quoted <= {row["F"] for row in example[3]}


# --- The files ----------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["two-services.yaml", "two-services-csv"])
def test_textbook_in_other_formats(textbook, other):
    assert load_instance(DATA / other) == textbook


@pytest.mark.parametrize("name", [*FILES, "infeasible"])
def test_instances_name_themselves_and_their_sources(name):
    instance = load_instance(DATA / f"{name}.json")
    assert instance.name == name
    assert re.search(r"illustrative", instance.description, re.IGNORECASE)
    assert f"`{name}.json`" in {row["file"] for row in readme_table()}


@pytest.mark.parametrize("name", FILES)
def test_coordination_pays(name):
    instance = load_instance(DATA / f"{name}.json")
    best = optimum(instance)
    local = solve(instance, method="local")
    (row,) = (row for row in readme_table() if row["file"] == f"`{name}.json`")
    assert row["reward without coordination"] == f"{local.reward:.4f}"
    assert row["optimal reward"] == f"{best.reward:.4f}"
    assert row["throughput"] == f"{100 * (best.throughput / local.throughput - 1):+.1f} %"
    assert row["average accuracy"] == f"{best.accuracy - local.accuracy:+.3f}"
    assert best.reward > 1.1 * local.reward
    for method in ("edge-early", "host", "greedy", "lns"):
        assert solve(instance, method=method).reward <= best.bound * (1 + 1e-6)
    foreign = [
        row.task
        for row, task in zip(best.tasks, instance.tasks, strict=True)
        if any(block.split("/")[0] != task.dnn for block in row.path)
    ]
    assert foreign, "no task uses another service's blocks"


def test_infeasible_by_as_much_as_it_says():
    instance = load_instance(DATA / "infeasible.json")
    result = solve(instance)
    assert result.status == "infeasible"
    assert "faces" in result.message

    def with_floor(floor: float) -> Instance:
        tasks = instance.to_dict()["tasks"]
        tasks[0]["floor"] = floor
        return instance.replace(tasks=tasks)

    def with_capacity(flops: float) -> Instance:
        servers = instance.to_dict()["servers"]
        servers[0]["flops"] = flops
        return instance.replace(servers=servers)

    assert solve(with_floor(50.0)).status == "optimal"
    assert solve(with_floor(50.1)).status == "infeasible"
    assert solve(with_capacity(144e9)).status == "optimal"
    assert solve(with_capacity(143.9e9)).status == "infeasible"


def test_every_limit_of_metro_links_binds():
    instance = load_instance(DATA / "metro-links.json")
    data = instance.to_dict()
    best = optimum(instance)
    assert any(link.utilization > 0.999 for link in best.links)
    relaxed = {
        "links": instance.replace(links=[link | {"bandwidth": None} for link in data["links"]]),
        "memory": instance.replace(
            servers=[server | {"memory": None} for server in data["servers"]]
        ),
        "latency": instance.replace(tasks=[task | {"max_latency": None} for task in data["tasks"]]),
    }
    for name, other in relaxed.items():
        assert optimum(other).reward > 1.002 * best.reward, f"{name} does not bind"


def test_measurements_overturn_the_prediction():
    instance = load_instance(DATA / "measured-overturn.json")
    tasks = instance.to_dict()["tasks"]
    predicted = optimum(instance.replace(tasks=[task | {"measured_paths": []} for task in tasks]))
    measured = optimum(instance)
    assert path_of(predicted, "vehicles") == ("resnet/0", "mobilenet/1", "mobilenet/2")
    assert path_of(measured, "vehicles") == ("mobilenet/0", "resnet/1", "mobilenet/2")
    assert measured.tasks[0].accuracy_source == "measured"
    assert predicted.tasks[0].accuracy == pytest.approx(0.811)
    assert measured.tasks[0].accuracy == pytest.approx(0.815)


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None,
    reason="needs PyTorch and torchvision (extra 'networks')",
)
def test_files_are_in_step_with_their_script():
    done = subprocess.run(
        [sys.executable, str(DATA / "make_instances.py"), "--check"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
