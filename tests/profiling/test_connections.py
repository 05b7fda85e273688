"""Which connections are tried, and the paths that they open."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.instance.model import INPUT, OUTPUT
from code_opt.networks.stitching import Trunk
from code_opt.profiling.config import ConnectionsConfig
from code_opt.profiling.connections import PathGraph, candidates


def trunk(name: str, blocks: int, classes: int = 4, size: int = 8) -> Trunk:
    shapes = [(3, size, size), *((4 + k, size, size) for k in range(blocks - 1)), (classes,)]
    return Trunk(name, (None,) * blocks, tuple(shapes))  # type: ignore[arg-type]


def options(**changes) -> ConnectionsConfig:
    return ConnectionsConfig.model_validate(changes)


def found(trunks, native="a", kinds=("pointwise", "linear"), task="task", **changes):
    return candidates(task, native, 4, trunks, options(**changes), kinds)


def brute_force(native: str, trunks, connections) -> set[tuple[str, ...]]:
    """Return all paths by trying every increasing choice of steps."""
    steps = set(connections)
    for one in trunks.values():
        steps |= {(f"{one.id}/{k}", f"{one.id}/{k + 1}") for k in range(len(one) - 1)}
    steps |= {(INPUT, f"{native}/0"), (f"{native}/{len(trunks[native]) - 1}", OUTPUT)}
    paths, frontier = set(), [(INPUT,)]
    while frontier:
        path = frontier.pop()
        if path[-1] == OUTPUT:
            paths.add(path[1:-1])
        frontier += [(*path, head) for tail, head in steps if tail == path[-1]]
    return paths


PAIR = {"a": trunk("a", 4), "b": trunk("b", 4, classes=6)}
UNLIKE = {"a": trunk("a", 3), "b": trunk("b", 5), "c": trunk("c", 2)}


def test_all_sorts_of_connections_of_a_pair():
    ends = [c.ends for c in found(PAIR)]
    assert ends == [
        ("a/0", "a/2"), ("a/0", "a/3"), ("a/1", "a/3"),
        ("a/0", OUTPUT), ("a/1", OUTPUT), ("a/2", OUTPUT),
        (INPUT, "b/0"),
        ("a/0", "b/1"), ("a/1", "b/2"), ("a/2", "b/3"),
        ("b/0", "a/1"), ("b/1", "a/2"), ("b/2", "a/3"),
        ("b/0", OUTPUT), ("b/1", OUTPUT), ("b/2", OUTPUT),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"skips": False}, {("a/0", "a/2"), ("a/0", "a/3"), ("a/1", "a/3")}),
        ({"exits": False}, {("a/0", OUTPUT), ("a/1", OUTPUT), ("a/2", OUTPUT)}),
        ({"entries": False}, {(INPUT, "b/0")}),
        ({"foreign_exits": False}, {("b/0", OUTPUT), ("b/1", OUTPUT), ("b/2", OUTPUT)}),
    ],
)
def test_sorts_can_be_left_out(changes, missing):
    everything = {c.ends for c in found(PAIR)}
    assert everything - {c.ends for c in found(PAIR, **changes)} == missing


def test_hosts_can_be_named():
    trunks = UNLIKE
    only = found(trunks, hosts={"task": ["c"]})
    assert not any("b/" in c.source + c.target for c in only)
    assert any("c/" in c.source for c in only)
    assert found(trunks, hosts={"other": []}) == found(trunks)
    alone = found(trunks, hosts={"task": []})
    assert all(c.source.startswith("a/") for c in alone)


@pytest.mark.parametrize("cross", ["none", "aligned", "forward"])
@pytest.mark.parametrize("trunks", [PAIR, UNLIKE], ids=["alike", "unlike"])
def test_graphs_have_no_cycles_and_count_their_paths(cross, trunks):
    connections = [c.ends for c in found(trunks, cross=cross)]
    graph = PathGraph("a", trunks, connections)
    paths = list(graph.paths())
    assert len(paths) == len(set(paths)) == graph.count
    assert set(paths) == brute_force("a", trunks, connections)
    assert paths == list(PathGraph("a", trunks, connections).paths())


def test_forward_contains_aligned():
    few = {c.ends for c in found(PAIR, cross="aligned")}
    many = {c.ends for c in found(PAIR, cross="forward")}
    assert few < many
    assert ("a/0", "b/3") in many


def test_cycles_are_refused():
    with pytest.raises(InputError, match="make a cycle through"):
        PathGraph("a", PAIR, [("a/0", "b/1"), ("b/1", "a/0")])


def test_a_connection_needs_an_adapter():
    vector = Trunk("v", (None,) * 3, ((3, 8, 8), (9,), (5,), (4,)))  # type: ignore[arg-type]
    ends = [c.ends for c in found({"a": trunk("a", 3), "v": vector}, native="a")]
    assert ("a/0", "v/1") in ends  # maps lead to vectors
    assert ("v/0", "a/1") not in ends  # nothing leads back


def test_kinds_are_those_that_fit_in_the_order_of_the_config():
    kinds = ("linear", "low-rank", "pointwise", "linear-grid")
    by_ends = {c.ends: c.kinds for c in found(PAIR, kinds=kinds)}
    assert by_ends["a/0", "a/2"] == ("low-rank", "pointwise")
    assert by_ends["a/0", OUTPUT] == ("linear", "linear-grid")
    assert by_ends[INPUT, "b/0"] == ("resize",)


def test_the_shortest_path_uses_the_fewest_connections_and_the_most_blocks():
    connections = [c.ends for c in found(PAIR)]
    graph = PathGraph("a", PAIR, connections)
    every = list(graph.paths())
    for ends in connections:
        through = [p for p in every if ends in graph.used(p)]
        if not through:  # it leads into b's last block, which leads nowhere
            assert ends == ("a/2", "b/3")
            assert graph.shortest_through(ends) is None
            continue
        best = min((len(graph.used(p)), -len(p)) for p in through)
        chosen = graph.shortest_through(ends)
        assert chosen in through
        assert (len(graph.used(chosen)), -len(chosen)) == best


def test_no_path_through_a_dead_end():
    graph = PathGraph("a", PAIR, [("a/0", "b/1")])  # b's last block leads nowhere
    assert graph.shortest_through(("a/0", "b/1")) is None
    assert list(graph.paths()) == [("a/0", "a/1", "a/2", "a/3")]
    assert graph.count == 1


def test_large_cases_are_counted_without_listing_them():
    trunks = {name: trunk(name, 8) for name in "abcd"}
    graph = PathGraph("a", trunks, [c.ends for c in found(trunks, cross="forward")])
    assert graph.count > 10**4
    first = list(itertools.islice(graph.paths(), 100))
    assert len(set(first)) == 100
