"""From the outputs of a pretrained head to the classes of a task."""

from __future__ import annotations

from collections.abc import Sequence

from code_opt.networks.compat import torch

nn = torch.nn
Outputs = tuple[tuple[int, ...], ...]
"""For every class, the numbers of the outputs that stand for it."""


class ClassMap(nn.Module):
    """Gives every class the logarithm of the summed exponentials of its outputs.

    Under a softmax over the outputs that stand for some class, these are the logarithms of the
    summed probabilities, up to a constant.

    Args:
        outputs: for every class, numbers of outputs.
    """

    def __init__(self, outputs: Sequence[Sequence[int]]) -> None:
        super().__init__()
        most = max(map(len, outputs))
        self.index: torch.Tensor
        self.absent: torch.Tensor
        index = torch.tensor([[*row, *[row[0]] * (most - len(row))] for row in outputs])
        absent = torch.tensor(
            [[0.0] * len(row) + [float("-inf")] * (most - len(row)) for row in outputs]
        )
        self.register_buffer("index", index)
        self.register_buffer("absent", absent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, classes) for (n, outputs)."""
        return (x[:, self.index] + self.absent).logsumexp(dim=2)
