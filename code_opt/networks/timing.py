"""How long blocks take on a device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.errors import InputError
from code_opt.networks.compat import torch

nn = torch.nn

_WARM_UP = 2
LEAST_REPEATS = 7
_MOST_REPEATS = 10_000


@dataclass(frozen=True)
class BlockTime:
    """Measured times of one block at one batch size."""

    block: int
    batch: int
    median: float
    """Median time of one batch [s]."""
    low: float
    """First quartile [s]."""
    high: float
    """Third quartile [s]."""
    repeats: int

    @property
    def throughput(self) -> float:
        """Inferences per second at the median time."""
        return self.batch / self.median


def time_blocks(
    blocks: Sequence[nn.Module],
    input_shape: Sequence[int],
    *,
    batches: Sequence[int],
    device: str = "cpu",
    seconds: float = 0.2,
    least_repeats: int = LEAST_REPEATS,
) -> list[BlockTime]:
    """Measure every block of a chain on random inputs.

    After a warm-up the blocks take turns, so that a machine that slows down or speeds up does so
    for all alike; every run is waited for (synchronised).

    Args:
        blocks: modules that follow each other, on ``device``.
        input_shape: of the first one, without the batch dimension.
        batches: batch sizes.
        device: "cpu" or "cuda".
        seconds: time to spend per block and batch size (more, if ``least_repeats`` needs it).
        least_repeats: runs of each at least.

    Returns:
        One entry per batch size and block, in this order.

    Raises:
        InputError: a batch below 1, or a block that does not run on what the one before gives.
    """
    if not batches or min(batches) < 1 or least_repeats < 1:
        raise InputError(f"batch sizes and repeats must be at least 1, not {list(batches)}")
    found = []
    for batch in batches:
        inputs = _inputs(blocks, (batch, *input_shape), device)
        taken: list[list[float]] = [[] for _ in blocks]
        budget = seconds * len(blocks)
        with torch.inference_mode():
            for _ in range(_WARM_UP):
                for block, value in zip(blocks, inputs, strict=True):
                    _timed(block, value, device)
            while len(taken[0]) < least_repeats or (
                sum(map(sum, taken)) < budget and len(taken[0]) < _MOST_REPEATS
            ):
                for times, block, value in zip(taken, blocks, inputs, strict=True):
                    times.append(_timed(block, value, device))
        for number, times in enumerate(taken):
            low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
            found.append(
                BlockTime(number, batch, float(median), float(low), float(high), len(times))
            )
    return found


def _inputs(blocks: Sequence[nn.Module], shape: tuple[int, ...], device: str) -> list[torch.Tensor]:
    """Return what enters each block when noise enters the first."""
    value = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    if value.ndim == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    inputs = []
    with torch.inference_mode():
        for number, block in enumerate(blocks):
            inputs.append(value)
            try:
                value = block(value)
            except (RuntimeError, ValueError, TypeError) as error:
                message = str(error).strip().splitlines()[0]
                raise InputError(
                    f"block {number} does not run on shape {tuple(value.shape)} ({message})"
                ) from None
    return inputs


def _timed(block: nn.Module, value: torch.Tensor, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    block(value)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
