"""Label-setting against enumeration: the pool is exactly what nothing else dominates."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from code_opt.generate import generate
from code_opt.instance import parse_instance
from code_opt.paths import build_pool, count_paths, labels
from code_opt.paths.labels import nondominated, nondominated_in_groups
from tests.counting import calls
from tests.reference import count_paths as reference_count
from tests.reference import reference_pool
from tests.strategies import random_instance


def vector(path, instance):
    """Criteria of a path in the units of the file: smaller is better."""
    limited = [i for i, link in enumerate(instance.links) if link.bandwidth is not None]
    memory = [i for i, server in enumerate(instance.servers) if server.memory is not None]
    return np.concatenate(([-path.accuracy], path.work, path.traffic[limited], path.memory[memory]))


@pytest.mark.parametrize("seed", range(120))
def test_the_pool_is_the_nondominated_set(seed):
    instance = random_instance(seed)
    pool = build_pool(instance)
    capacity = np.array([s.flops for s in instance.servers])
    bandwidth = np.array([link.bandwidth or np.inf for link in instance.links])
    for task, candidates in zip(pool.tasks, reference_pool(instance).values(), strict=True):
        # Paths that cannot carry the floor at all are left out of the pool.
        able = [
            p
            for p in candidates
            if (task.floor * p.work <= capacity * (1 + 1e-9)).all()
            and (task.floor * p.traffic <= bandwidth * (1 + 1e-9)).all()
        ]
        ours = {task.blocks(i): i for i in range(len(task))}
        vectors = {p.blocks: vector(p, instance) for p in able}
        assert set(ours) <= set(vectors)
        tolerance = 1e-9
        for blocks, criteria in vectors.items():
            covered = any(
                (vectors[other] <= criteria + tolerance * np.abs(criteria) + 1e-12).all()
                for other in ours
            )
            assert covered, f"{blocks} is not dominated by anything in the pool"
        for blocks in ours:
            for other in ours:
                if other != blocks:
                    assert (vectors[other] > vectors[blocks]).any()
        by_blocks = {p.blocks: p for p in able}
        for blocks, i in ours.items():
            expected = by_blocks[blocks]
            assert task.paths.accuracy[i] == pytest.approx(expected.accuracy, abs=1e-12)
            assert task.paths.seconds[i] == pytest.approx(expected.latency, rel=1e-12)
            assert bool(task.paths.measured[i]) == expected.measured


@pytest.mark.parametrize("seed", range(20))
def test_counting_is_exact(seed):
    instance = random_instance(seed, links="none")
    assert np.prod(count_paths(instance)) == reference_count(instance)


@given(
    npst.arrays(
        float, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.integers(0, 5)
    ),
    st.integers(1, 9),
)
def test_filter_keeps_exactly_the_nondominated_rows(rows, chunk):
    keep = set(nondominated(rows, chunk=chunk).tolist())
    for i, row in enumerate(rows):
        beaten = any(
            (other <= row).all() and ((other < row).any() or j < i)
            for j, other in enumerate(rows)
            if j != i
        )
        assert (i in keep) == (not beaten)


@given(
    npst.arrays(float, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(0, 4)),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.integers(1, 9),
)
def test_rows_that_may_not_dominate_remove_nothing(rows, flags, chunk):
    allowed = np.array(flags[: len(rows)])
    keep = set(nondominated(rows, allowed, chunk).tolist())
    dominators = [j for j in range(len(rows)) if allowed[j]]
    for i, row in enumerate(rows):
        strictly = any((rows[j] <= row).all() and (rows[j] < row).any() for j in dominators)
        never = not any((rows[j] <= row).all() for j in dominators if j != i)
        if strictly:
            assert i not in keep
        if never:
            assert i in keep


@given(
    npst.arrays(float, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(0, 4)),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([(256, 2**17, 2**15), (256, 16, 0), (3, 2**17, 0)]),
)
def test_groups_are_filtered_as_each_alone(rows, flags, sizes, restricted, constants):
    sizes = [int(s) for s in np.diff(np.minimum(np.cumsum([0, *sizes, len(rows)]), len(rows)))]
    allowed = np.array(flags[: len(rows)]) if restricted else None
    expected, start = [], 0
    for size in sizes:
        group = slice(start, start + size)
        kept = nondominated(rows[group], None if allowed is None else allowed[group])
        expected += (kept + start).tolist()
        start += size
    names = ("_LARGE_GROUP", "_COMPARED_AT_ONCE", "_WORTH_PADDING")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(names, constants, strict=True):
            patch.setattr(labels, name, value)
        assert nondominated_in_groups(rows, np.array(sizes), allowed).tolist() == expected


@pytest.mark.parametrize("seed", range(12))
def test_tasks_labelled_together_get_what_each_gets_alone(seed, monkeypatch):
    if seed % 2:
        instance = random_instance(seed)
    else:
        options = {"links": seed % 4 == 0, "latency": True, "memory": True, "measured": seed // 2}
        instance = generate(7, seed=seed, **options)
    for relaxed in (False, True):
        together = build_pool(instance, relaxed=relaxed)
        monkeypatch.setattr(labels, "_TASKS_AT_ONCE", 1)
        alone = build_pool(instance, relaxed=relaxed)
        monkeypatch.undo()
        for one, other in zip(together.tasks, alone.tasks, strict=True):
            assert one.paths.arcs == other.paths.arcs
            assert one.paths.labels == other.paths.labels
            for name in ("accuracy", "predicted", "measured", "use", "seconds"):
                assert np.array_equal(getattr(one.paths, name), getattr(other.paths, name))


def measured_prefix():
    """A prefix that looks best leads into a measured path that is bad."""
    return {
        "schema": "code-opt/instance/1",
        "name": "prefix",
        "servers": [{"id": "s", "flops": 1000.0}],
        "dnns": [
            {
                "id": "d",
                "server": "s",
                "blocks": [{"id": str(i), "flops": 10.0} for i in range(4)],
            }
        ],
        "tasks": [
            {
                "id": "t",
                "dnn": "d",
                "accuracy": 0.9,
                "connections": [
                    {"source": "0", "target": "2", "drop": 0.01},
                    {"source": "input", "target": "2", "drop": 0.02, "flops": 10.0},
                    {"source": "2", "target": "output", "drop": 0.05},
                ],
            }
        ],
    }


def test_a_prefix_of_a_measured_path_dominates_nothing():
    data = measured_prefix()
    pool = build_pool(parse_instance(data)).tasks[0]
    # Unmeasured, 0 -> 2 (less drop, equal work) dominates input -> 2 at block 2.
    assert ("2", "3") not in {pool.blocks(i) for i in range(len(pool))}
    data["tasks"][0]["measured_paths"] = [{"blocks": ["0", "2", "3"], "accuracy": 0.2}]
    pool = build_pool(parse_instance(data)).tasks[0]
    paths = {pool.blocks(i): pool.paths.accuracy[i] for i in range(len(pool))}
    assert paths["2", "3"] == pytest.approx(0.88)
    assert ("0", "2", "3") not in paths  # now truly dominated, by its measured value


def test_a_measured_path_is_kept_although_its_prefix_is_dominated():
    data = measured_prefix()
    data["tasks"][0]["measured_paths"] = [{"blocks": ["2", "3"], "accuracy": 0.99}]
    pool = build_pool(parse_instance(data)).tasks[0]
    paths = {pool.blocks(i): pool.paths.accuracy[i] for i in range(len(pool))}
    assert paths["2", "3"] == 0.99


def test_labelling_grows_with_the_paths_alone():
    """Twice the services, twice the paths, twice the work."""
    few, many = generate(50, seed=0), generate(100, seed=0)
    assert build_pool(many).size > 4000
    assert calls(lambda: build_pool(many)) < 2.3 * calls(lambda: build_pool(few))


@pytest.mark.realtime
def test_a_hundred_services_are_labelled_in_about_a_second():
    instance = generate(100, seed=0)
    start = time.process_time()
    build_pool(instance)
    assert time.process_time() - start < 2.0  # measured 0.3 s
