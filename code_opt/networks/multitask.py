"""The executed network: one multi-task network of frozen blocks, shared by all tasks.

Nothing is copied ("no mirroring" holds in memory too): a block that several tasks run is
one module with one storage, whoever's path leads through it. What belongs to one task are
its adapters. The result is an ordinary :class:`torch.nn.Module`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from code_opt.errors import InputError
from code_opt.networks.compat import torch
from code_opt.networks.stitching import PathProgram, Step, Trunk

nn = torch.nn


@dataclass(frozen=True)
class TaskPath:
    """The path of one task, with the modules of its connections."""

    task: str
    native: str
    """The task's own network."""
    blocks: tuple[tuple[str, int], ...]
    """(network, block number) in order."""
    connections: tuple[tuple[Step, nn.Module], ...]
    """In order."""


class MultiTaskNetwork(nn.Module):
    """All tasks' paths over shared frozen blocks.

    Args:
        trunks: all networks by id.
        paths: one per task, in the order of inputs and outputs.

    Raises:
        InputError: a task twice, or a path that does not hang together.
    """

    def __init__(self, trunks: Mapping[str, Trunk], paths: Sequence[TaskPath]) -> None:
        super().__init__()
        self.tasks = tuple(path.task for path in paths)
        if len(set(self.tasks)) < len(self.tasks):
            raise InputError("a task stands there twice")
        self.blocks = nn.ModuleDict()
        self.adapters = nn.ModuleDict()
        self._parts: dict[str, tuple[nn.Module, ...]] = {}
        self._names: dict[tuple[str, int], str] = {}
        for number, path in enumerate(paths):
            steps = [step for step, _ in path.connections]
            program = PathProgram(trunks, path.native, path.blocks, steps)
            own = nn.ModuleList([adapter for _, adapter in path.connections])
            if len(own):
                # Names of modules may hold no dots; those of tasks may.
                self.adapters[f"{number}-{path.task.replace('.', '_')}"] = own
            adapters = iter(own)
            self._parts[path.task] = tuple(
                next(adapters)
                if isinstance(part, Step)
                else self._block(part, trunks[part[0]].blocks[part[1]])
                for part in program.parts
            )
        self.requires_grad_(False)
        self.eval()

    def _block(self, place: tuple[str, int], block: nn.Module) -> nn.Module:
        """Register a block once and return it."""
        if place not in self._names:
            dnn, number = place
            self._names[place] = f"{len(self._names)}-{dnn.replace('.', '_')}/{number}"
            self.blocks[self._names[place]] = block
        return self.blocks[self._names[place]]

    def path(self, task: str) -> nn.Sequential:
        """Return one task's path as a plain chain of the same modules.

        Raises:
            KeyError: no such task.
        """
        return nn.Sequential(*self._parts[task])

    def parts(self, task: str) -> tuple[nn.Module, ...]:
        """Return the modules of one task's path in order."""
        return self._parts[task]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run every task on its input.

        Args:
            inputs: one per task in the order of :attr:`tasks`, each (n, channels, height,
                width); n may differ.

        Returns:
            One tensor of shape (n, classes) per task.
        """
        if len(inputs) != len(self.tasks):
            raise ValueError(f"{len(inputs)} inputs for {len(self.tasks)} tasks")
        outputs = []
        for task, value in zip(self.tasks, inputs, strict=True):
            for part in self._parts[task]:
                value = part(value)
            outputs.append(value)
        return tuple(outputs)
