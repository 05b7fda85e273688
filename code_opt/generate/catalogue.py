"""What random instances are drawn from: profiled networks and measured drops.

``catalogue.json`` is made by ``data/make_catalogue.py``; reading it needs no PyTorch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.json")
FLOAT_BYTES = 4
"""Size of one activation value (float32) [bytes]."""
FEWEST_BLOCKS, MOST_BLOCKS = 2, 8

Point = tuple[float, float]
"""Depth (share of the network's blocks that are behind) and drop."""


@dataclass(frozen=True)
class ProfiledBlock:
    """One block: work [FLOP], parameters, and the shape of its output (no batch)."""

    flops: int
    params: int
    shape: tuple[int, ...]

    @property
    def output_bytes(self) -> int:
        """Size of the output in float32 [bytes]."""
        return FLOAT_BYTES * prod(self.shape)


@dataclass(frozen=True)
class Network:
    """A torchvision network at one size of images, cut into 2 to 8 blocks."""

    architecture: str
    images: int
    cuts: dict[int, tuple[ProfiledBlock, ...]]

    @property
    def flops(self) -> int:
        """Work of one inference [FLOP]."""
        return sum(block.flops for block in self.cuts[FEWEST_BLOCKS])


@dataclass(frozen=True)
class Trunk:
    """A network cut into the blocks that it has in an instance."""

    architecture: str
    images: int
    blocks: tuple[ProfiledBlock, ...]

    def input_shape(self, number: int) -> tuple[int, ...]:
        """Return the shape that a block takes."""
        return self.blocks[number - 1].shape if number else (3, self.images, self.images)

    @property
    def flops(self) -> int:
        """Work of one inference [FLOP]."""
        return sum(block.flops for block in self.blocks)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)


@dataclass(frozen=True)
class OwnDrops:
    """Measured drops of one service within its own network."""

    skips: tuple[tuple[float, float, float], ...]
    """Depth where the skip begins, depth where it ends, drop."""
    exits: tuple[Point, ...]

    def exit(self, depth: float) -> float:
        """Return the drop of a head at this depth, linear between and beyond the measured."""
        return _linear(self.exits, depth)

    def skip(self, start: float, end: float) -> float:
        """Return the drop of jumping from one depth to another.

        The two short measured skips give the drop per depth in either half of the network; a
        long one costs more than its parts by what the long measured one does, in proportion
        to its length beyond theirs. The measured skips themselves come out as measured.
        """
        (a, b, first), (_, c, whole), (_, _, second) = sorted(self.skips)
        before = max(min(end, b) - start, 0.0)
        after = max(end - max(start, b), 0.0)
        parts = before * first / (b - a) + after * second / (c - b)
        beyond = max((end - start) - (b - a), 0.0) / (c - b)
        return parts + beyond * (whole - first - second)


@dataclass(frozen=True)
class PairDrops:
    """Measured drops of one service in the trunk of one host; they belong together."""

    entry: float
    out: tuple[Point, ...]
    back: tuple[Point, ...]
    exits: tuple[Point, ...]

    def leave(self, depth: float) -> float:
        """Return the drop of going over to the host after this depth of the own network."""
        return _linear(self.out, depth)

    def come_back(self, depth: float) -> float:
        """Return the drop of coming back where this depth of the own network is behind."""
        return _linear(self.back, depth)

    def exit(self, depth: float) -> float:
        """Return the drop of a head of the task's own at this depth of the host."""
        return _linear(self.exits, depth)


@dataclass(frozen=True)
class Catalogue:
    """Everything that instances are drawn from."""

    classes: int
    networks: tuple[Network, ...]
    own: tuple[OwnDrops, ...]
    pairs: tuple[PairDrops, ...]
    errors: tuple[float, ...]
    """Quantiles of measured minus predicted accuracy, evenly spaced from least to greatest."""

    def of_size(self, images: int) -> list[Network]:
        """Return the networks for images of this many pixels a side, the lightest first."""
        found = [network for network in self.networks if network.images == images]
        return sorted(found, key=lambda network: (network.flops, network.architecture))

    def error(self, share: float) -> float:
        """Return the quantile of the errors of prediction at a share in [0, 1)."""
        place = share * (len(self.errors) - 1)
        k = int(place)
        return self.errors[k] + (place - k) * (self.errors[k + 1] - self.errors[k])


def adapter_cost(source: Sequence[int], target: Sequence[int]) -> tuple[int, int] | None:
    """Return FLOPs and parameters of the plain adapter between two activations, or None.

    The same rule as :func:`code_opt.networks.cost.adapter_cost`: resizing is free, then a 1x1
    convolution or linear layer with a bias changes the channels; a vector makes no map.
    """
    if len(target) not in (1, len(source)):
        return None
    times = prod(target) // target[0]
    return 2 * source[0] * target[0] * times, (source[0] + 1) * target[0]


@functools.cache
def catalogue() -> Catalogue:
    """Return the committed catalogue."""
    data: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    networks = tuple(
        Network(
            item["architecture"],
            item["images"],
            {
                int(blocks): tuple(ProfiledBlock(f, p, tuple(shape)) for f, p, shape in cut)
                for blocks, cut in item["cuts"].items()
            },
        )
        for item in data["networks"]
    )
    own = tuple(
        OwnDrops(tuple(map(tuple, item["skip"])), _points(item["exit"])) for item in data["own"]
    )
    pairs = tuple(
        PairDrops(item["entry"], _points(item["out"]), _points(item["back"]), _points(item["exit"]))
        for item in data["pairs"]
    )
    return Catalogue(data["classes"], networks, own, pairs, tuple(data["errors"]))


def _points(rows: list[list[float]]) -> tuple[Point, ...]:
    return tuple((depth, drop) for depth, drop in sorted(rows))


def _linear(points: tuple[Point, ...], depth: float) -> float:
    """Return the value at a depth: linear between the points and beyond them."""
    k = 1
    while k < len(points) - 1 and points[k][0] < depth:
        k += 1
    (x0, y0), (x1, y1) = points[k - 1], points[k]
    return y0 + (depth - x0) * (y1 - y0) / (x1 - x0)
