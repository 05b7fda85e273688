"""Input groups: what paths share, and which of them can be left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from code_opt.errors import InputError
from code_opt.generate import generate
from code_opt.instance import parse_instance
from code_opt.paths import build_pool, groups
from code_opt.paths.graph import Arc, paid_steps
from code_opt.paths.resources import SERVER_TIME
from tests.reference import reference_pool, together
from tests.strategies import random_instance

TOLERANCE = 1e-9


def arc(tail, head, share):
    return Arc(tail, head, 0.0, 0.0, (), (), True, share)


def test_a_step_is_paid_once_as_long_as_everything_before_it_is_the_same():
    walk = [arc("input", "a", "identity"), arc("a", "b", "low"), arc("b", "output", None)]
    assert paid_steps([walk, walk, walk]) == [[0, 1, 2], [2], [2]]
    own = [arc("input", "a", None), *walk[1:]]
    assert paid_steps([walk, own]) == [[0, 1, 2], [0, 1, 2]]
    high = [walk[0], arc("a", "b", "high"), arc("b", "output", "head")]
    assert paid_steps([walk, high, high]) == [[0, 1, 2], [1, 2], []]
    # The same adapter behind another beginning sees another activation.
    around = [arc("input", "c", "identity"), arc("c", "a", "x"), *walk[1:]]
    assert paid_steps([walk, around]) == [[0, 1, 2], [0, 1, 2, 3]]


def costs(instance, tasks, paths):
    """Work, traffic and memory of paths on one input, those of limited resources only."""
    work, traffic, memory = together(tasks, paths)
    limited = [i for i, link in enumerate(instance.links) if link.bandwidth is not None]
    bounded = [i for i, server in enumerate(instance.servers) if server.memory is not None]
    return np.concatenate((work, traffic[limited], memory[bounded]))


def paths_by_task(instance, pool):
    """Return for each task its admissible paths (able to carry the floor), by their blocks."""
    capacity = np.array([s.flops for s in instance.servers])
    bandwidth = np.array([link.bandwidth or np.inf for link in instance.links])
    return [
        {
            p.blocks: p
            for p in paths
            if (task.floor * p.work <= capacity * (1 + TOLERANCE)).all()
            and (task.floor * p.traffic <= bandwidth * (1 + TOLERANCE)).all()
        }
        for task, paths in zip(pool.tasks, reference_pool(instance).values(), strict=True)
    ]


@pytest.mark.parametrize("seed", range(60))
def test_a_path_left_out_is_replaced_whatever_the_others_do(seed):
    instance = random_instance(seed, groups=True, max_combinations=400)
    pool = build_pool(instance)
    able = paths_by_task(instance, pool)
    for group in pool.groups:
        tasks = [instance.tasks[t] for t in group.tasks]
        for place, t in enumerate(group.tasks):
            ours = [pool.tasks[t].blocks(i) for i in range(len(pool.tasks[t]))]
            assert set(ours) <= set(able[t])
            others = [o for o in group.tasks if o != t]
            mates = [instance.tasks[o] for o in others]
            # What t adds to each choice of the others in the pool, for each of its paths.
            pooled = [
                [able[o][pool.tasks[o].blocks(i)] for i in range(len(pool.tasks[o]))]
                for o in others
            ]
            choices = list(itertools.product(*pooled))
            alone = [costs(instance, mates, c) if c else 0.0 for c in choices]
            added = {
                blocks: np.array(
                    [
                        costs(instance, [*mates, tasks[place]], [*c, path]) - before
                        for c, before in zip(choices, alone, strict=True)
                    ]
                )
                for blocks, path in able[t].items()
            }
            for blocks, path in able[t].items():
                slack = TOLERANCE * np.abs(added[blocks]) + 1e-6
                assert any(
                    able[t][other].accuracy >= path.accuracy - TOLERANCE
                    and (added[other] <= added[blocks] + slack).all()
                    for other in ours
                ), f"nothing in the pool replaces {blocks} of {tasks[place].id}"


@pytest.mark.parametrize("seed", range(40))
def test_shared_prefixes_and_own_use_add_up_to_what_paths_cost_together(seed):
    instance = random_instance(seed, groups=True)
    pool = build_pool(instance)
    rng = np.random.default_rng(seed)
    able = paths_by_task(instance, pool)
    for group, sharing in zip(pool.groups, pool.sharing, strict=True):
        if sharing is None or any(len(pool.tasks[t]) == 0 for t in group.tasks):
            continue
        for prefix in sharing.prefixes:
            assert len(prefix.paths) >= 2
            assert all(len(rows) for _, rows in prefix.paths)
        for _ in range(10):
            picks = [int(rng.integers(len(pool.tasks[t]))) for t in group.tasks]
            use = group.use(
                [pool.tasks[t].paths.arcs_of(p) for t, p in zip(group.tasks, picks, strict=True)]
            )
            paid = np.zeros(len(sharing.prefixes), dtype=bool)
            total = np.zeros(len(use))
            for m, pick in enumerate(picks):
                total += sharing.own_use[m][pick]
                paid |= sharing.through[m][pick]
            assert total + paid @ sharing.prefix_use == pytest.approx(use, rel=1e-12, abs=1e-15)
            chosen = [
                able[t][pool.tasks[t].blocks(p)] for t, p in zip(group.tasks, picks, strict=True)
            ]
            work, _, _ = together([instance.tasks[t] for t in group.tasks], chosen)
            for resource, amount in zip(group.resources.tolist(), use.tolist(), strict=True):
                limited = pool.resources[resource]
                if limited.kind is SERVER_TIME:
                    server = [s.id for s in instance.servers].index(limited.key[0])
                    flops = amount * limited.capacity
                    assert flops == pytest.approx(work[server], rel=1e-9)


def camera(**changes):
    """Two tasks on one input, the second may borrow the first one's trunk."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "servers": [{"id": "s", "flops": 100.0}],
            "dnns": [
                {"id": d, "server": "s", "blocks": [{"id": f"{d}{k}", "flops": w} for k in (0, 1)]}
                for d, w in (("a", 4.0), ("b", 2.0))
            ],
            "tasks": [
                {"id": "t", "dnn": "a", "accuracy": 0.9, "input_group": "camera"},
                {
                    "id": "u",
                    "dnn": "b",
                    "accuracy": 0.8,
                    "input_group": "camera",
                    "connections": [
                        {"source": "input", "target": "a0", "drop": 0.0, "share": "identity"},
                        {"source": "a0", "target": "output", "drop": 0.1, "flops": 1.0},
                        {"source": "a1", "target": "output", "drop": 0.2},
                    ],
                    **changes,
                },
            ],
        }
    )


def test_a_path_that_loses_alone_stays_if_others_may_pay_for_it():
    shared = build_pool(camera())
    left = {shared.tasks[1].blocks(i) for i in range(len(shared.tasks[1]))}
    assert left == {("b0", "b1"), ("a0",), ("a0", "a1")}
    assert len(build_pool(camera(input_group=None)).tasks[1]) == 1
    (sharing,) = [s for s in shared.sharing if s is not None]
    # a0 and a1 are walked by different sets of paths: two prefixes; b0 by one task only.
    assert [prefix.parent for prefix in sharing.prefixes] == [-1, 0]
    assert [prefix.use.tolist() for prefix in sharing.prefixes] == [[0.04], [0.04]]


def test_consecutive_steps_of_the_same_paths_are_one_prefix():
    instance = camera(
        connections=[
            {"source": "input", "target": "a0", "drop": 0.0, "share": "identity"},
            {"source": "a1", "target": "output", "drop": 0.2},
        ]
    )
    (sharing,) = build_pool(instance).sharing
    (prefix,) = sharing.prefixes
    assert prefix.use.tolist() == [0.08]


def test_no_rate_of_a_group_is_larger_than_what_its_slowest_task_can_reach():
    pool = build_pool(camera(demand=7.0))
    assert [task.most_rate.max() for task in pool.tasks] == [7.0, 7.0]
    assert build_pool(camera()).tasks[1].most_rate.max() == pytest.approx(100.0 / 8.0)


def test_a_group_of_one_is_no_group():
    data = generate(6, seed=2).to_dict()
    plain = build_pool(parse_instance(data))
    for i, task in enumerate(data["tasks"]):
        task["input_group"] = f"camera-{i}"
    pool = build_pool(parse_instance(data))
    assert [t.paths.arcs for t in pool.tasks] == [t.paths.arcs for t in plain.tasks]
    assert not any(group.is_shared for group in pool.groups)


def test_too_many_prefixes_are_refused(monkeypatch):
    monkeypatch.setattr(groups, "MOST_PREFIXES", 1)
    with pytest.raises(InputError, match="input group 'camera': its tasks can share more than 1"):
        build_pool(camera())
