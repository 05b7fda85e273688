"""Duals of resources, of the two totals and of cuts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from code_opt.paths.graph import FloatArray


@dataclass(frozen=True)
class Duals:
    """Multipliers of a linear program over paths.

    Any values give a valid bound (Lagrangian duality: Geoffrion, Mathematical Programming Study
    2, 1974, DOI 10.1007/BFb0120690) as long as those of resources and cuts are not negative.
    """

    resource: FloatArray
    """Objective gained per whole capacity of each server, link and memory, shape (I,)."""
    accuracy: float
    """Objective gained per unit of the average accuracy A."""
    throughput: float
    """Objective gained per inference/s of the total throughput Th."""
    time: float = 0.0
    """Objective lost per second of the average time D."""
    cut: FloatArray = field(default_factory=lambda: np.zeros(0))
    """Objective gained per unit of the limit of each cut, shape (cuts,)."""
    floors: tuple[float, float] = (0.0, 0.0)
    """What part of ``accuracy`` and of ``throughput`` is due to floors on A and Th."""
