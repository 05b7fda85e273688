"""How long blocks take on a device."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from code_opt.errors import InputError
from code_opt.networks.compat import torch

nn = torch.nn

_WARM_UP = 2
_LEAST_SAMPLE = 2e-3
"""Seconds that one look at a GPU's clock takes at least, so that launching does not count [s]."""
_MOST_IN_A_ROW = 1000
LEAST_REPEATS = 7
_MOST_REPEATS = 10_000
_ROUNDS = 3
_CHANNELS_LAST: dict[str, Any] = {"memory_format": torch.channels_last}


@dataclass(frozen=True)
class BlockTime:
    """Measured times of one block (or other module) at one batch size."""

    block: int
    """Its place among those that were measured in turns."""
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

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median: a quiet machine has a few hundredths."""
        return (self.high - self.low) / self.median


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

    Weights and inputs are laid out channels last, as images are when they come from a data set:
    how weights came (trained, read) must not decide. After a warm-up the blocks take turns, so
    that a machine that slows down or speeds up does so for all alike. What is measured ends when
    the device is done (see :func:`timed`).

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
    # Copies: blocks are shared with whoever measures accuracies.
    blocks = [copy.deepcopy(block).to(**_CHANNELS_LAST) for block in blocks]
    found = []
    for batch in batches:
        inputs = _inputs(blocks, (batch, *input_shape), device)
        parts = list(zip(blocks, inputs, strict=True))
        found += _summed_up(_in_turns(parts, device, seconds, least_repeats), batch)
    return found


def time_parts(
    groups: Sequence[Sequence[tuple[nn.Module, Sequence[int]]]],
    *,
    batch: int,
    device: str = "cpu",
    seconds: float = 0.2,
    least_repeats: int = LEAST_REPEATS,
) -> list[list[BlockTime]]:
    """Measure modules in groups, as :func:`time_blocks` does the blocks of a chain.

    Modules of one group take turns, so that they find the caches as on a path. Groups come round
    several times, so that a machine that slows down does so for all alike.

    Args:
        groups: modules on ``device``, and the shape that enters each, without the batch dimension.
        batch: batch size.
        device: "cpu" or "cuda".
        seconds: time to spend on each module.
        least_repeats: runs of each at least.

    Returns:
        One entry per module, in order, by group.
    """
    laid_out = [
        [
            (copy.deepcopy(module).to(**_CHANNELS_LAST), noise((batch, *shape)).to(device))
            for module, shape in group
        ]
        for group in groups
    ]
    taken: list[list[list[float]]] = [[[] for _ in group] for group in groups]
    least = math.ceil(least_repeats / _ROUNDS)
    for _ in range(_ROUNDS):
        for times, group in zip(taken, laid_out, strict=True):
            found = _in_turns(group, device, seconds / _ROUNDS, least)
            for all_, new in zip(times, found, strict=True):
                all_ += new
    return [_summed_up(times, batch) for times in taken]


def _in_turns(
    parts: Sequence[tuple[nn.Module, torch.Tensor]],
    device: str,
    seconds: float,
    least_repeats: int,
) -> list[list[float]]:
    """Return times of modules on given inputs: one run of each, then the next of each."""
    taken: list[list[float]] = [[] for _ in parts]
    budget = seconds * len(parts)
    # One thread works for all of the time, so the time of its processor is its time, whatever else
    # runs on this machine; several threads wait for each other.
    alone = device == "cpu" and torch.get_num_threads() == 1
    with torch.inference_mode():
        spent = 0.0
        runs = [partial(module, value) for module, value in parts]
        rows = [in_a_row(run, device) for run in runs]
        while len(taken[0]) < least_repeats or (spent < budget and len(taken[0]) < _MOST_REPEATS):
            for times, run, row in zip(taken, runs, rows, strict=True):
                times.append(timed(run, device, row, processor=alone))
                spent += times[-1] * row
    return taken


def _summed_up(taken: Sequence[Sequence[float]], batch: int) -> list[BlockTime]:
    """Return median and quartiles of the times of modules that took turns."""
    found = []
    for number, times in enumerate(taken):
        low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
        found.append(BlockTime(number, batch, float(median), float(low), float(high), len(times)))
    return found


def noise(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Return normal numbers; images and maps are laid out channels last.

    Args:
        shape: with the batch first.
        seed: the same one gives the same numbers.
    """
    value = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def _inputs(blocks: Sequence[nn.Module], shape: tuple[int, ...], device: str) -> list[torch.Tensor]:
    """Return what enters each block when noise enters the first."""
    value = noise(shape).to(device)
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


def in_a_row(run: Callable[[], object], device: str) -> int:
    """Warm up, and return how often to run in a row for one look at the clock.

    On a GPU a single short run would measure how long it takes to ask for it.
    """
    for _ in range(_WARM_UP):
        seconds = timed(run, device)
    if device == "cpu":
        return 1
    return min(max(1, math.ceil(_LEAST_SAMPLE / max(seconds, 1e-9))), _MOST_IN_A_ROW)


def timed(
    run: Callable[[], object], device: str, row: int = 1, *, processor: bool = False
) -> float:
    """Return the time of one run, from so many in a row [s].

    On a GPU, events before and behind them are compared, which the device itself sets.

    Args:
        run: what is timed.
        device: "cpu" or "cuda".
        row: runs in a row.
        processor: on a CPU, only the time in which this thread had a processor.
    """
    if device == "cpu":
        clock = time.thread_time if processor else time.perf_counter
        started = clock()
        for _ in range(row):
            run()
        return (clock() - started) / row
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(row):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000.0 / row
