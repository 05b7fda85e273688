"""Random instances: reproducible, valid, of the size asked for."""

from __future__ import annotations

import pytest

from code_opt.generate import generate
from code_opt.instance import parse_instance

FIRST_CAPACITY, CONNECTIONS = 257.2e9, 130


def test_the_same_arguments_give_the_same_instance():
    assert generate(6, seed=3, links=True, measured=2) == generate(
        6, seed=3, links=True, measured=2
    )
    assert generate(6, seed=3) != generate(6, seed=4)


@pytest.mark.parametrize("services", [1, 2, 7, 40])
def test_sizes_and_options(services):
    instance = generate(services, seed=1, blocks=4, links=True, latency=True, memory=True)
    assert len(instance.servers) == len(instance.dnns) == len(instance.tasks) == services
    assert all(len(dnn.blocks) == 4 for dnn in instance.dnns)
    assert (services == 1) == (not instance.links)
    assert all(server.memory for server in instance.servers)
    # It passes every rule of the format once more, as plain data.
    assert parse_instance(instance.to_dict()) == instance


def test_a_known_instance_stays_what_it_was():
    """Benchmarks name instances by seed: a change of the generator must be noticed."""
    instance = generate(3, seed=1000)
    assert instance.servers[0].flops == pytest.approx(FIRST_CAPACITY)
    assert sum(len(task.connections) for task in instance.tasks) == CONNECTIONS


@pytest.mark.parametrize(
    "wrong",
    [
        {"services": 0},
        {"services": 2, "blocks": 1},
        {"services": 2, "hosts": -1},
        {"services": 2, "limited_demand": 2.0},
    ],
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"need services|limited_demand"):
        generate(**wrong)


def test_groups_share_the_trunk_of_their_first_task():
    instance = generate(9, seed=1, groups=(2, 4))
    assert instance == generate(9, seed=1, groups=(2, 4))
    assert parse_instance(instance.to_dict()) == instance
    members: dict[str, list] = {}
    for task in instance.tasks:
        members.setdefault(task.input_group, []).append(task)
    assert all(len(tasks) <= 4 for tasks in members.values())
    assert sum(len(tasks) < 2 for tasks in members.values()) <= 1  # the last one
    for first, *others in members.values():
        for task in others:
            entry = {c.target: c for c in task.connections if c.source == "input"}
            assert entry[f"{first.dnn}/0"].share == "identity"
        assert len({task.demand for task in (first, *others)}) == 1
    # Without groups nothing has changed.
    assert generate(9, seed=1) == generate(9, seed=1, groups=None)
    assert all(task.input_group is None for task in generate(9, seed=1).tasks)
    with pytest.raises(ValueError, match="groups must be"):
        generate(9, groups=(3, 2))
