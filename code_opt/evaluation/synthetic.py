"""Stand-ins for blocks that no bundle holds: so much work, random weights.

An instance without a bundle still says how many FLOPs its blocks take and how many bytes
they put out; that is enough to run its throughput.
"""

from __future__ import annotations

import math

from code_opt.networks.compat import torch
from code_opt.networks.training import seeded

nn = torch.nn
_SIDE = 64


class SyntheticPart(nn.Module):
    """Multiplies matrices for ``flops`` and puts out one number for every input.

    Args:
        flops: work of one inference [FLOP], met to within half a row of a matrix product.
        seed: of the weights.
    """

    def __init__(self, flops: float, seed: int = 0) -> None:
        super().__init__()
        self.rows = round(flops / (2 * _SIDE * _SIDE))
        with seeded(seed):
            weight = torch.randn(_SIDE, _SIDE) / math.sqrt(_SIDE)
        self.weight: torch.Tensor
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, 1) for (n, anything)."""
        flat = x.reshape(len(x), -1)
        if self.rows:
            # The input decides the first row, so that nothing can be computed beforehand.
            work = flat[:, :1, None].expand(len(x), self.rows, _SIDE) @ self.weight
            return work.mean(dim=(1, 2))[:, None]
        return flat[:, :1]
