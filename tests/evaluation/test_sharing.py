"""Tasks that look at the same input: what their paths have in common runs once, really."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from code_opt import check, load_instance, solve
from code_opt.errors import InputError
from code_opt.evaluation.edge import Edge
from code_opt.evaluation.routes import loads, route, routes
from code_opt.evaluation.simulation import simulate
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.evaluation.tuning import PathFits
from code_opt.evaluation.verdict import judge
from code_opt.instance import Instance
from code_opt.networks.multitask import MultiTaskNetwork
from tests.evaluation.executed import (
    Inputs,
    assert_all_answered_once,
    assert_answered_like,
    unpaced,
)

DATA = Path(__file__).resolve().parents[2] / "data"
CAMERA = DATA / "one-camera" / "instance.json"
DIGITS = DATA / "digits" / "instance.json"
SHARED = {
    "digit": ("mobilenet/0", "alexnet/1", "alexnet/2", "alexnet/3"),
    "parity": ("mobilenet/0", "mobilenet/1", "mobilenet/2", "mobilenet/3"),
}


def one_pen(digits: Instance, *, shares: bool = True) -> Instance:
    """Return the digits as one camera: both tasks look at the same images, which travel free."""
    tasks = digits.to_dict()["tasks"]
    for task in tasks:
        task["input_group"] = "pen"
        task["demand"], task["input_bytes"] = None, 0.0
        for connection in task["connections"]:
            if connection["source"] == "input" and shares:
                connection["share"] = "identity"
    return digits.replace(tasks=tasks)


@pytest.fixture(scope="module")
def pen(digits) -> Instance:
    return one_pen(digits)


@pytest.fixture(scope="module")
def pen_subject(pen, digits) -> Subject:
    return Subject(pen, bundle_of(digits, DIGITS), DATA)


def calls(network: MultiTaskNetwork, *inputs) -> dict[str, int]:
    """Return how often every block runs in one pass."""
    counts = dict.fromkeys(network.blocks, 0)
    hooks = []
    for name, block in network.blocks.items():

        def count(*_, name=name):
            counts[name] += 1

        hooks.append(block.register_forward_hook(count))
    with torch.inference_mode():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return {name.partition("-")[2]: number for name, number in counts.items()}


def test_common_steps_stand_in_the_route_once(pen):
    found = route(pen, SHARED, 10.0)
    assert found.tasks == ("digit", "parity")
    first = found.segments[0]
    assert (first.server, first.parent, first.tasks, first.answers) == ("edge-b", -1, (0, 1), ())
    # The entry of "digit" is no adapter; the block behind it is everybody's.
    assert [part.block for part in first.parts if part.ends is None] == ["mobilenet/0"]
    below = [s for s in found.segments if s.parent == 0]
    assert {s.answers for s in found.segments if s.answers} == {(0,), (1,)}
    assert len(below) == 2  # the adapter to alexnet/1, and the native mobilenet/1...
    full = loads(pen, [found])
    blocks = {b.id: b.flops for d in pen.dnns for b in d.blocks}
    on_b = sum(blocks[f"mobilenet/{k}"] for k in range(4)) + below[0].flops
    assert full.servers["edge-b"] == pytest.approx(10.0 * on_b / 1.2e8)


def test_without_a_name_nothing_is_shared(digits):
    found = route(one_pen(digits, shares=False), SHARED, 10.0)
    roots = [s for s in found.segments if s.parent < 0]
    assert len(roots) == 2
    assert [part.block for s in roots for part in s.parts if part.ends is None][:1] == [
        "mobilenet/0"
    ]


def test_the_shared_beginning_runs_once(pen_subject, digits):
    network = MultiTaskNetwork(
        pen_subject.bundle.trunks, [pen_subject.task_path(t, p) for t, p in SHARED.items()]
    )
    assert network.streams == (("digit", "parity"),)
    x = torch.rand(3, 3, 16, 16)
    counted = calls(network, x)
    assert counted == {f"{block}": 1 for path in SHARED.values() for block in path}
    # Alone, both run it.
    alone = Subject(digits, pen_subject.bundle, DATA)
    apart = MultiTaskNetwork(
        alone.bundle.trunks, [alone.task_path(t, p) for t, p in SHARED.items()]
    )
    assert apart.streams == (("digit",), ("parity",))
    assert calls(apart, x, x)["mobilenet/0"] == 2
    with torch.inference_mode():
        for one, other in zip(network(x), apart(x, x), strict=True):
            assert torch.equal(one, other)
        for task, answer in zip(SHARED, network(x), strict=True):
            assert torch.equal(answer, network.path(task)(x))


def test_shared_networks_can_be_exported(pen_subject):
    network = MultiTaskNetwork(
        pen_subject.bundle.trunks, [pen_subject.task_path(t, p) for t, p in SHARED.items()]
    )
    x = torch.rand(2, 3, 16, 16)
    program = torch.export.export(network, (x,))
    with torch.inference_mode():
        for one, other in zip(program.module()(x), network(x), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_adapters_that_differ_are_not_shared_silently(pen_subject):
    paths = {"digit": ("mobilenet/0",), "parity": ("alexnet/0",)}
    found = [pen_subject.task_path(t, p) for t, p in paths.items()]
    # As if the instance said that both paths were the same.
    wrong = [replace(path, stream="pen", steps=tuple(range(len(path.steps)))) for path in found]
    with pytest.raises(InputError, match="step 1 of its path is shared"):
        MultiTaskNetwork(pen_subject.bundle.trunks, wrong)


def test_the_edge_confirms_the_saving(pen_subject, pen, digits):
    exact = solve(pen)
    assert check(exact, pen) == []
    (together,) = routes(pen, exact)
    full = loads(pen, [together])
    for row in exact.servers:
        assert full.servers[row.server] == pytest.approx(row.utilization, rel=1e-6, abs=1e-9)
    apart = solve(one_pen(digits, shares=False))
    assert exact.reward >= apart.reward * (1 - 1e-6)
    flow = simulate(pen, exact, seconds=2000.0 / exact.throughput, arrivals="constant")
    assert judge(exact, (), (), flow).confirmed
    assert [t.task for t in flow.tasks] == ["digit", "parity"]
    assert flow.tasks[0].answered == pytest.approx(flow.tasks[1].answered, abs=2)


def test_the_edge_answers_both_tasks_from_one_input(pen, digits):
    subject, number = unpaced(pen, bundle_of(digits, DIGITS)), 100
    result = solve(pen)
    (stream,) = subject.streams(result, number)
    fits = PathFits(subject, "cpu", fine_tune=False)
    workers = subject.workers(
        [[stream]], device="cpu", threads=1, largest_batch=8, adapters=fits.adapters
    )
    with Edge(subject.instance, workers) as edge:
        edge.begin()
        trace = edge.drive(0, [stream], Inputs([stream], number))
    assert_all_answered_once(trace, number)
    assert_answered_like(fits.network(result), [stream], trace)


def test_one_camera_shares_a_trunk_and_stand_ins_run_it():
    instance = load_instance(CAMERA)
    exact = solve(instance)
    (together,) = routes(instance, exact)
    shared = [s for s in together.segments if len(s.tasks) == 3]
    assert shared
    full = loads(instance, [together])
    for row in exact.servers:
        assert full.servers[row.server] == pytest.approx(row.utilization, rel=1e-6, abs=1e-9)
    # The same edge with stand-ins for the networks does as much work: no images are needed.
    subject = Subject(instance.replace(bundle=None), None, DATA)
    streams = subject.streams(exact, 16)
    workers = subject.workers([streams], device="cpu", threads=1, largest_batch=8)
    runs = sum(
        sum(part.flops for piece in visit.pieces for part in piece.parts)
        for spec in workers.values()
        for visit in spec.visits
    )
    assert runs == pytest.approx(sum(s.flops for s in streams[0].route.segments))
    flow = simulate(instance, exact, seconds=2000.0 / exact.throughput, arrivals="constant")
    assert judge(exact, (), (), flow).confirmed
    counts = [t.answered for t in flow.tasks]
    assert max(counts) - min(counts) <= 1


def test_the_committed_bundle_runs_the_shared_trunk_once():
    instance = load_instance(CAMERA)
    subject = Subject(instance, bundle_of(instance, CAMERA), DATA)
    network = PathFits(subject, "cpu", fine_tune=False).network(solve(instance))
    (tasks,) = network.streams
    assert set(tasks) == {"objects", "groups", "animals"}
    counted = calls(network, torch.from_numpy(np.zeros((1, 3, 32, 32), np.float32)))
    assert set(counted.values()) == {1}


def test_tasks_whose_images_differ_are_not_one_camera(pen_subject, monkeypatch):
    original = pen_subject.images

    def other(task, split):
        images = original(task, split)
        if task != "parity":
            return images
        return replace(images, pixels=images.pixels[::-1].copy())

    monkeypatch.setattr(pen_subject, "images", other)
    with pytest.raises(InputError, match="their test images are not the same"):
        pen_subject.same_inputs(["digit", "parity"], 32)
