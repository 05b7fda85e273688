"""What to do where memory runs out: halve batches, keep activations under a ceiling."""

from __future__ import annotations

import gc
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from code_opt.networks.compat import torch

Value = TypeVar("Value")
MOST_IN_MEMORY = 2 * 2**30
"""Bytes of activations that a process keeps in memory (a GPU's, where networks run there)."""
MOST_ON_DISK = 64 * 2**30
"""Bytes of activations that a process keeps in files."""
_LARGE = 4
"""An activation of more than a quarter of the memory lies in a file."""


def halving(action: Callable[[int], Value], batch: int) -> tuple[Value, int]:
    """Call with a batch that is halved as often as memory runs out.

    Args:
        action: takes the size of the batch.
        batch: to begin with.

    Returns:
        What the action returned, and how often the batch was halved.

    Raises:
        torch.OutOfMemoryError: not even a batch of one fits.
    """
    halved = 0
    while True:
        try:
            return action(batch), halved
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        # Not in the handler: the error's traceback holds everything that the failed try made.
        batch, halved = batch // 2, halved + 1
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class ActivationMemory:
    """Tensors by key within a ceiling: small ones in memory, large ones in files.

    The least recently used ones go first; whoever needs them computes them again. The one that
    was put in last stays, whatever its size.

    Args:
        memory: bytes in memory at most.
        disk: bytes in files at most.
        folder: of the files, which have no name and vanish with the process; None: that of the
            system's temporary files.
    """

    def __init__(
        self, memory: int = MOST_IN_MEMORY, disk: int = MOST_ON_DISK, folder: Path | None = None
    ) -> None:
        self.most = {False: memory, True: disk}
        """Bytes at most, in memory (False) and in files (True)."""
        self.folder = folder
        self._kept: dict[bool, OrderedDict[Hashable, torch.Tensor]] = {
            False: OrderedDict(),
            True: OrderedDict(),
        }

    def __contains__(self, key: Hashable) -> bool:
        return any(key in kept for kept in self._kept.values())

    def get(self, key: Hashable) -> torch.Tensor | None:
        """Return what was put in under a key, or None where it is gone."""
        for kept in self._kept.values():
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        return None

    def held(self, *, on_disk: bool) -> int:
        """Return the bytes held in memory, or in files."""
        return sum(tensor.nbytes for tensor in self._kept[on_disk].values())

    def make(self, key: Hashable, shape: Sequence[int], device: str = "cpu") -> torch.Tensor:
        """Return room for a float32 tensor, kept under a key: on the device, or in a file.

        Others go at once where there is too little room, so the ceiling holds while it is filled.
        """
        self.drop(key)
        size = 4 * prod(shape)
        on_disk = size * _LARGE > self.most[False]
        kept = self._kept[on_disk]
        free = self.most[on_disk] - size - self.held(on_disk=on_disk)
        while kept and free < 0:
            _, dropped = kept.popitem(last=False)
            free += dropped.nbytes
        kept[key] = self._file(shape) if on_disk else room(shape, device)
        return kept[key]

    def drop(self, key: Hashable) -> None:
        """Forget a tensor."""
        for kept in self._kept.values():
            kept.pop(key, None)

    def _file(self, shape: Sequence[int]) -> torch.Tensor:
        stored, order = _channels_last(shape)
        # The mapping keeps the file alive; nothing is left behind, however the process ends.
        with tempfile.TemporaryFile(dir=self.folder) as file:
            return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=stored)).permute(order)


def room(shape: Sequence[int], device: str | torch.device = "cpu") -> torch.Tensor:
    """Return a float32 tensor to be filled; maps lie channels last, as networks run fastest."""
    stored, order = _channels_last(shape)
    return torch.empty(stored, device=device).permute(order)


def _channels_last(shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape that is stored, and the order of its dimensions that gives ``shape``."""
    if len(shape) == 4:
        n, channels, height, width = shape
        return (n, height, width, channels), (0, 3, 1, 2)
    return tuple(shape), tuple(range(len(shape)))
