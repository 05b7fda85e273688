"""Networks of somebody's own, named in configs as ``tests.profiling.own:FACTORY``."""

from __future__ import annotations

from subprocess import run  # noqa: F401  what a module imports is no factory of its own

import torch
from torch import nn


class Patches(nn.Module):
    """Reads sizes early and uses them late, and has arguments with defaults."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor, mask=None, is_causal: bool = False) -> torch.Tensor:
        count = x.shape[0]
        y = self.norm(self.first(x)).relu()
        if mask is not None:
            y = y * mask
        y = self.second(y).relu() if not is_causal else y
        return self.last(y.reshape(count, y.shape[1], -1).mean(dim=2))


def patches(num_classes: int, width: int = 8) -> nn.Module:
    return Patches(num_classes, width)


def a_list(num_classes: int) -> list[int]:
    return [num_classes]
