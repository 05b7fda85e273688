"""Measured accuracies with their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


@dataclass(frozen=True)
class Share:
    """Right answers among images."""

    right: int
    images: int

    @property
    def value(self) -> float:
        """The share."""
        return self.right / self.images

    @property
    def variance(self) -> float:
        """Variance of the share, with one right and one wrong answer added (never 0)."""
        share = (self.right + 1.0) / (self.images + 2.0)
        return share * (1.0 - share) / self.images

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """Return the Wilson score interval (Wilson, JASA 1927)."""
        n, p = self.images, self.value
        centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n)
        half = z * math.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n)) / (1.0 + z * z / n)
        return max(0.0, centre - half), min(1.0, centre + half)


def share_of(answers: npt.NDArray[np.bool_]) -> Share:
    """Return the share of right answers, one per image."""
    return Share(int(answers.sum()), len(answers))
