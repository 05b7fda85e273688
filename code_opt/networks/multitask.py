"""The executed network: one multi-task network of frozen blocks, shared by all tasks.

Nothing is copied ("no mirroring" holds in memory too): a block that several tasks run is
one module with one storage, whoever's path leads through it. What belongs to one task are
its adapters. Tasks that look at the same input (a *stream*) run what their paths have in
common once. The result is an ordinary :class:`torch.nn.Module`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
    stream: str | None = None
    """Tasks with the same name here look at the same input; None: an input of its own."""
    steps: tuple[Hashable, ...] = ()
    """Of a stream's task: one key per step, from the input to the output. Tasks share what
    they run as long as their keys agree."""


@dataclass(frozen=True)
class Node:
    """One module behind another one's output."""

    parent: int
    """Number of an earlier node, -1: the input."""
    module: nn.Module


class StreamProgram:
    """The modules that one input runs through: a tree, every module after its parent."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.nodes: list[Node] = []
        self.ends: list[int] = []
        """Node behind which each task's answer is found."""
        self._known: dict[tuple[Hashable, ...], int] = {}

    def shared(self, prefix: tuple[Hashable, ...]) -> int | None:
        """Return the node in which steps that all tasks share end, if they are known."""
        return self._known.get(prefix)

    def add(self, parent: int, module: nn.Module) -> int:
        """Put a module behind a node (-1: the input) and return its number."""
        self.nodes.append(Node(parent, module))
        return len(self.nodes) - 1

    def remember(self, prefix: tuple[Hashable, ...], node: int) -> None:
        """Keep where steps end, for other tasks to go on from."""
        self._known[prefix] = node

    def run(self, value: torch.Tensor) -> list[torch.Tensor]:
        """Return the answers of all tasks."""
        outputs: list[torch.Tensor] = []
        for node in self.nodes:
            outputs.append(node.module(value if node.parent < 0 else outputs[node.parent]))
        return [value if end < 0 else outputs[end] for end in self.ends]


class MultiTaskNetwork(nn.Module):
    """All tasks' paths over shared frozen blocks.

    Args:
        trunks: all networks by id.
        paths: one per task, in the order of the outputs.

    Raises:
        InputError: a task twice, a path that does not hang together, or steps that tasks are
            said to share though their adapters differ.
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
        self._streams: dict[tuple[str, str], StreamProgram] = {}
        for number, path in enumerate(paths):
            key = ("task", path.task) if path.stream is None else ("stream", path.stream)
            self._add(number, path, trunks, self._streams.setdefault(key, StreamProgram()))
        self.requires_grad_(False)
        self.eval()

    def _add(
        self, number: int, path: TaskPath, trunks: Mapping[str, Trunk], stream: StreamProgram
    ) -> None:
        """Put one task's modules into its stream, behind what it shares with earlier tasks."""
        steps = [step for step, _ in path.connections]
        modules = dict(zip(steps, (module for _, module in path.connections), strict=True))
        own, parts = nn.ModuleList(), []
        node, shares = -1, True
        program = PathProgram(trunks, path.native, path.blocks, steps)
        for depth, step_parts in enumerate(program.by_step()):
            step_parts = [part for part in step_parts if not _is_nothing(part)]
            prefix = path.steps[: depth + 1] if path.stream is not None else ()
            known = stream.shared(prefix) if shares and prefix else None
            shares = known is not None
            found = [
                modules[part]
                if isinstance(part, Step)
                else self._block(part, trunks[part[0]].blocks[part[1]])
                for part in step_parts
            ]
            if known is not None:
                others = _chain(stream, known, node)
                if len(found) != len(others) or not all(map(_equal, found, others)):
                    raise InputError(
                        f"task {path.task!r}: step {depth + 1} of its path is shared in the "
                        "instance, but the bundle has another adapter for it"
                    )
                parts += others
                node = known
                continue
            own.extend(modules[part] for part in step_parts if isinstance(part, Step))
            parts += found
            for module in found:
                node = stream.add(node, module)
            if prefix:
                stream.remember(prefix, node)
        if len(own):
            # Names of modules may hold no dots; those of tasks may.
            self.adapters[f"{number}-{path.task.replace('.', '_')}"] = own
        self._parts[path.task] = tuple(parts)
        stream.tasks.append(path.task)
        stream.ends.append(node)

    def _block(self, place: tuple[str, int], block: nn.Module) -> nn.Module:
        """Register a block once and return it."""
        if place not in self._names:
            dnn, number = place
            self._names[place] = f"{len(self._names)}-{dnn.replace('.', '_')}/{number}"
            self.blocks[self._names[place]] = block
        return self.blocks[self._names[place]]

    @property
    def streams(self) -> tuple[tuple[str, ...], ...]:
        """Tasks of every input, in the order of the inputs."""
        return tuple(tuple(stream.tasks) for stream in self._streams.values())

    def path(self, task: str) -> nn.Sequential:
        """Return one task's path as a plain chain of the same modules.

        Raises:
            KeyError: no such task.
        """
        return nn.Sequential(*self._parts[task])

    def parts(self, task: str) -> tuple[nn.Module, ...]:
        """Return the modules of one task's path in order."""
        return self._parts[task]

    def stream(self, task: str) -> StreamProgram:
        """Return everything that a task's input runs through, as :meth:`forward` runs it."""
        return next(s for s in self._streams.values() if task in s.tasks)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run every task on its input.

        Args:
            inputs: one per stream in the order of :attr:`streams`, each (n, channels,
                height, width); n may differ.

        Returns:
            One tensor of shape (n, classes) per task, in the order of :attr:`tasks`.
        """
        if len(inputs) != len(self._streams):
            raise ValueError(f"{len(inputs)} inputs for {len(self._streams)} streams")
        answers: dict[str, torch.Tensor] = {}
        for stream, value in zip(self._streams.values(), inputs, strict=True):
            answers |= dict(zip(stream.tasks, stream.run(value), strict=True))
        return tuple(answers[task] for task in self.tasks)


def _chain(stream: StreamProgram, end: int, start: int) -> list[nn.Module]:
    """Return the modules from behind one node to another one, in order."""
    found: list[nn.Module] = []
    while end != start:
        found.append(stream.nodes[end].module)
        end = stream.nodes[end].parent
    return found[::-1]


def _is_nothing(part: Step | tuple[str, int]) -> bool:
    """Return whether a part hands on what it gets."""
    return (
        isinstance(part, Step)
        and part.spec.kind == "resize"
        and part.spec.source == part.spec.target
    )


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules are the same: one, or of one kind with the same weights."""
    if one is other:
        return True
    mine, its = one.state_dict(), other.state_dict()
    return getattr(one, "spec", None) == getattr(other, "spec", None) and (
        # Adapters that were trained just now may lie on a GPU, those of a bundle do not.
        mine.keys() == its.keys() and all(torch.equal(mine[k].cpu(), its[k].cpu()) for k in mine)
    )
