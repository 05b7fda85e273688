"""Which connections a task could have, and the paths that they open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from code_opt.errors import InputError
from code_opt.instance.model import INPUT, OUTPUT
from code_opt.networks.adapters import adapter_kinds
from code_opt.networks.stitching import Trunk
from code_opt.profiling.config import ConnectionsConfig

Ends = tuple[str, str]
Path = tuple[str, ...]
"""Block ids of a path, in order."""


@dataclass(frozen=True)
class Candidate:
    """A connection that can be built, with the kinds of adapter to choose from."""

    source: str
    target: str
    kinds: tuple[str, ...]
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    @property
    def ends(self) -> Ends:
        """Source and target."""
        return self.source, self.target


def block_id(dnn: str, number: int) -> str:
    """Return the id of a block."""
    return f"{dnn}/{number}"


def block_of(name: str) -> tuple[str, int]:
    """Return network and number of a block id."""
    dnn, _, number = name.rpartition("/")
    return dnn, int(number)


def candidates(
    task: str,
    native: str,
    classes: int,
    trunks: Mapping[str, Trunk],
    config: ConnectionsConfig,
    kinds: Sequence[str],
) -> list[Candidate]:
    """Return a task's connections that the config asks for and an adapter exists for.

    Args:
        task: id of the task.
        native: id of its network.
        classes: number of its classes.
        trunks: all networks.
        config: which connections are asked for.
        kinds: adapter kinds to choose from; ``resize`` is added for entries, where it is
            all that is needed.
    """
    own = trunks[native]
    hosts = [
        trunk
        for name, trunk in trunks.items()
        if name != native and name in config.hosts.get(task, tuple(trunks))
    ]
    pairs: list[tuple[str, str]] = []
    last = len(own) - 1
    if config.skips:
        pairs += [
            (block_id(native, i), block_id(native, j))
            for i in range(last)
            for j in range(i + 2, last + 1)
        ]
    if config.exits:
        pairs += [(block_id(native, i), OUTPUT) for i in range(last)]
    for host in hosts:
        if config.entries:
            pairs.append((INPUT, block_id(host.id, 0)))
        for one, other in ((own, host), (host, own)):
            pairs += [
                (block_id(one.id, i), block_id(other.id, j))
                for i in range(len(one) - 1)
                for j in range(1, len(other))
                if _is_wanted(
                    config.cross, (i + 1) / len(one), j / len(other), max(len(one), len(other))
                )
            ]
        if config.foreign_exits:
            pairs += [(block_id(host.id, i), OUTPUT) for i in range(len(host) - 1)]
    found = []
    for source, target in pairs:
        shapes = (
            own.shapes[0] if source == INPUT else _output_shape(trunks, source),
            (classes,) if target == OUTPUT else _input_shape(trunks, target),
        )
        possible = adapter_kinds(*shapes)
        if source == INPUT and "resize" in possible:
            chosen: tuple[str, ...] = ("resize",)
        else:
            chosen = tuple(kind for kind in kinds if kind in possible)
        if chosen:
            found.append(Candidate(source, target, chosen, *shapes))
    return found


def _is_wanted(cross: str, done: float, ahead: float, blocks: int) -> bool:
    """Tell whether to cross from depth ``done`` to depth ``ahead`` (shares of the networks).

    Like depths differ by less than half a block: since every block moves ahead by at least a
    whole one, no cycle can come of it.
    """
    if cross == "none":
        return False
    if cross == "forward":
        return ahead >= done - 1e-9
    return abs(ahead - done) < 0.5 / blocks - 1e-9


def _output_shape(trunks: Mapping[str, Trunk], name: str) -> tuple[int, ...]:
    dnn, number = block_of(name)
    return trunks[dnn].shapes[number + 1]


def _input_shape(trunks: Mapping[str, Trunk], name: str) -> tuple[int, ...]:
    dnn, number = block_of(name)
    return trunks[dnn].shapes[number]


class PathGraph:
    """All paths of one task over given connections.

    Args:
        native: id of the task's own network.
        trunks: all networks.
        connections: ends of the task's connections.
    """

    def __init__(
        self, native: str, trunks: Mapping[str, Trunk], connections: Sequence[Ends]
    ) -> None:
        self.native = native
        self.connections = tuple(connections)
        self._next: dict[str, list[str]] = defaultdict(list)
        arcs = [(INPUT, block_id(native, 0)), (block_id(native, len(trunks[native]) - 1), OUTPUT)]
        for trunk in trunks.values():
            arcs += [
                (block_id(trunk.id, k), block_id(trunk.id, k + 1)) for k in range(len(trunk) - 1)
            ]
        self._native_arcs = set(arcs)
        for tail, head in [*arcs, *(ends for ends in connections if ends not in set(arcs))]:
            self._next[tail].append(head)
        self.order = self._topological()
        """Nodes that can be reached from the input, in topological order."""

    def _topological(self) -> list[str]:
        """Return the order; cycles would make endless paths."""
        state: dict[str, int] = {}
        order: list[str] = []
        stack: list[tuple[str, int]] = [(INPUT, 0)]
        state[INPUT] = 1
        while stack:
            node, at = stack.pop()
            following = self._next[node]
            if at < len(following):
                stack.append((node, at + 1))
                child = following[at]
                if state.get(child) == 1:
                    raise InputError(f"the connections make a cycle through {child!r}")
                if child not in state:
                    state[child] = 1
                    stack.append((child, 0))
            else:
                state[node] = 2
                order.append(node)
        return order[::-1]

    @cached_property
    def count(self) -> int:
        """Number of paths."""
        ways = dict.fromkeys(self.order, 0)
        ways[OUTPUT] = 1
        for node in reversed(self.order):
            if node != OUTPUT:
                ways[node] = sum(ways.get(child, 0) for child in self._next[node])
        return ways[INPUT]

    def paths(self) -> Iterator[Path]:
        """Yield every path, in a fixed order."""
        useful = self._reaching()
        stack: list[tuple[str, Path]] = [(INPUT, ())]
        while stack:
            node, blocks = stack.pop()
            for child in reversed(self._next[node]):
                if child == OUTPUT:
                    continue
                if child in useful:
                    stack.append((child, (*blocks, child)))
            if OUTPUT in self._next[node]:
                yield blocks

    def _reaching(self) -> set[str]:
        useful = {OUTPUT}
        for node in reversed(self.order):
            if any(child in useful for child in self._next[node]):
                useful.add(node)
        return useful

    def used(self, path: Sequence[str]) -> tuple[Ends, ...]:
        """Return the connections of a path, in order."""
        names = [INPUT, *path, OUTPUT]
        return tuple(
            ends for ends in zip(names, names[1:], strict=False) if ends not in self._native_arcs
        )

    def shortest_through(self, ends: Ends) -> Path | None:
        """Return a path through a connection with the fewest other ones (None: there is none).

        Among those the one with the most blocks, since more of a frozen network is likelier to
        keep its accuracy; then the first in the graph's order.
        """
        source, target = ends
        before = self._best_to(source)
        after = self._best_from(target)
        if before is None or after is None:
            return None
        middle = (target,) if target != OUTPUT else ()
        return (*before, *middle, *after)

    def _best_to(self, goal: str) -> Path | None:
        best: dict[str, tuple[tuple[int, int], Path]] = {INPUT: ((0, 0), ())}
        for node in self.order:
            if node not in best or node == OUTPUT:
                continue
            (crossed, minus), blocks = best[node]
            for child in self._next[node]:
                if child == OUTPUT:
                    continue
                step = (node, child) not in self._native_arcs
                rank = (crossed + step, minus - 1)
                if child not in best or rank < best[child][0]:
                    best[child] = (rank, (*blocks, child))
        return best[goal][1] if goal in best else None

    def _best_from(self, start: str) -> Path | None:
        best: dict[str, tuple[tuple[int, int], Path]] = {OUTPUT: ((0, 0), ())}
        for node in reversed(self.order):
            for child in self._next[node]:
                if child not in best:
                    continue
                (crossed, minus), blocks = best[child]
                step = (node, child) not in self._native_arcs
                rank = (crossed + step, minus - (child != OUTPUT))
                if node not in best or rank < best[node][0]:
                    best[node] = (rank, blocks if child == OUTPUT else (child, *blocks))
        return best[start][1] if start in best else None
