"""Random choices that come out the same on every machine.

Only uniform doubles are taken from numpy (53 bits of PCG64, no rounding of its own); all that
is made of them is plain Python arithmetic in IEEE doubles, then rounded to decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Draws:
    """A stream of random choices, set by a seed and by what it is for."""

    def __init__(self, *key: int) -> None:
        self._uniform = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))).random

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return float(self._uniform())

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.share()

    def index(self, count: int) -> int:
        """Return one of 0 ... count - 1."""
        return int(self.share() * count)

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[self.index(len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return the items in random order."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.index(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed


def significant(value: float, digits: int = 4) -> float:
    """Return a number rounded to so many significant decimals (correctly, on every machine)."""
    return float(f"{value:.{digits - 1}e}")
