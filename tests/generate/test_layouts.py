"""Families of edges: every service has a home, every site is wired as the family says."""

from __future__ import annotations

from collections import Counter

import pytest

from code_opt.generate.layouts import LAYOUTS, Layout, Tier, Wire

SIZES = [1, 2, 3, 4, 15, 16, 17, 25, 26, 100, 1000, 2001]


def degrees(layout: Layout, kinds: set[Wire]) -> Counter[int]:
    return Counter(end for a, b, wire in layout.wires if wire in kinds for end in (a, b))


@pytest.mark.parametrize("family", LAYOUTS)
@pytest.mark.parametrize("services", SIZES)
def test_every_service_has_a_home_and_all_servers_hang_together(family, services):
    layout = LAYOUTS[family](services)
    assert len(layout.home) == services
    assert set(layout.home) == set(range(len(layout.servers)))  # no server without a service
    assert len({name for name, _ in layout.servers}) == len(layout.servers)
    pairs = [frozenset((a, b)) for a, b, _ in layout.wires]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 for pair in pairs)
    near, seen = layout.neighbours(), {0}
    waiting = [0]
    while waiting:
        fresh = set(near[waiting.pop()]) - seen
        seen |= fresh
        waiting += fresh
    assert len(seen) == len(layout.servers)


def test_spokes_see_their_hub_alone():
    layout = LAYOUTS["hub-and-spoke"](200)
    access = degrees(layout, {Wire.ACCESS})
    for number, (_, tier) in enumerate(layout.servers):
        if tier is Tier.SMALL:
            assert access[number] == 1
        else:
            assert 1 < access[number] <= 16
            assert layout.home.count(number) >= 2
    assert set(degrees(layout, {Wire.BACKBONE}).values()) == {2}


def test_ring_servers_have_two_neighbours_on_their_ring():
    layout = LAYOUTS["metro-ring"](200)
    metro = degrees(layout, {Wire.METRO})
    assert len(metro) == len(layout.servers) == 100
    assert set(metro.values()) == {2}
    assert set(Counter(layout.home).values()) == {2}


def test_sites_see_their_region_and_the_cloud():
    layout = LAYOUTS["hierarchy"](500)
    tiers = Counter(tier for _, tier in layout.servers)
    assert tiers[Tier.CLOUD] == 1
    assert layout.home.count(0) == 20
    for kind, other in ((Wire.ACCESS, Tier.LARGE), (Wire.WIDE, Tier.CLOUD)):
        ends = [(a, b) for a, b, wire in layout.wires if wire is kind]
        assert all(layout.servers[a][1] is Tier.SMALL for a, _ in ends)
        assert all(layout.servers[b][1] is other for _, b in ends)
        assert len(ends) == tiers[Tier.SMALL]
