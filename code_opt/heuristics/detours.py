"""The paths that one more learned connection makes of a path.

Along the trunk of a network inference follows the native arcs; a *learned connection* leaves them.
A path is extended by leaving it at one of its nodes over a connection that it does not use:

* to the output, over an alternative;
* to a later node of the path (a skip, or an exit at ``output``): the rest of the path stays;
* to a block of the task's own network beside the path: its trunk leads on, to the path or out;
* to a block of a host: its trunk leads on, until it meets the path again, or until a further
  connection leads from it back to the path or out. A host has no head for the task, so this
  second connection belongs to the first.

So a path of stage k has between k and 2 k learned connections.
"""

from __future__ import annotations

from collections.abc import Iterator

from code_opt.instance.model import INPUT, OUTPUT, Instance
from code_opt.paths import TaskGraph
from code_opt.paths.graph import CHANGED

Arcs = tuple[int, ...]
"""Arc numbers of a path from input to output."""


class Detours:
    """Extends the paths of one task by one learned connection."""

    def __init__(self, instance: Instance, graph: TaskGraph) -> None:
        """Sort the arcs of a task's graph into those of trunks and learned connections."""
        self.graph = graph
        dnn_of = {block.id: dnn.id for dnn in instance.dnns for block in dnn.blocks}
        following = {
            (a.id, b.id)
            for dnn in instance.dnns
            for a, b in zip(dnn.blocks[:-1], dnn.blocks[1:], strict=True)
        }
        own = next(dnn for dnn in instance.dnns if dnn.id == graph.task.dnn)
        following |= {(INPUT, own.blocks[0].id), (own.blocks[-1].id, OUTPUT)}
        n = len(graph.nodes)
        self._tails, self._heads = graph.tails.tolist(), graph.heads.tolist()
        self._along: list[int] = [-1] * n
        """Arc that leads on along the trunk from each node, -1 where it ends."""
        self._off: list[list[Arcs]] = [[] for _ in range(n)]
        """Learned connections from each node, in the order of the graph's arcs; one from the input
        with the arc that sends it to another server, if there is one."""
        self.learned = [False] * len(graph.arcs)
        """Which arcs are learned connections."""
        entries = {arcs[-1]: arcs for arcs in graph.entries.values()}
        for number, arc in enumerate(graph.arcs):
            if number in entries:
                if (INPUT, arc.head) not in following:
                    self._off[0].append(entries[number])
                    self.learned[number] = True
            elif arc.chain is None and (arc.ends in following or arc.tail == CHANGED):
                self._along[self._tails[number]] = number
            elif arc.chain is None and (arc.block is not None or arc.ends[1] == OUTPUT):
                self._off[self._tails[number]].append((number,))
                self.learned[number] = True
        self.previous: Arcs | None = None
        """The previous path, where changes are limited and it can still be taken."""
        for (kind, _), walk in graph.chains.items():
            if kind == "previous":
                for number in walk:
                    arc = graph.arcs[number]
                    self.learned[number] = arc.is_connection and arc.ends not in following
            else:
                self._off[0].append(walk)
                self.learned[max(n for n in walk if graph.arcs[n].chain is not None)] = True
            if CHANGED in graph.nodes and graph.arcs[walk[-1]].chain is not None:
                self.previous = walk
        self._is_own = [dnn_of.get(node) == own.id for node in graph.nodes]
        self._output = n - 1
        walks = map(tuple, graph.walks([block.id for block in own.blocks]))
        self.native: Arcs | None = next((w for w in walks if w != self.previous), None)
        """The native path, None where a changed arc of it cannot be used."""

    def first(self) -> Arcs | None:
        """Return the previous path, else the native one, else one of fewest learned connections.

        Of equal ones the path is taken whose last arcs come first in the graph.
        """
        if self.previous is not None:
            return self.previous
        if self.native is not None or not self._tails:
            return self.native
        least, came_by = [0, *[len(self._tails) + 1] * self._output], [-1] * (self._output + 1)
        for number, (tail, head) in enumerate(zip(self._tails, self._heads, strict=True)):
            count = least[tail] + self.learned[number]
            if count < least[head]:
                least[head], came_by[head] = count, number
        back, node = [], self._output
        while node != 0:
            back.append(came_by[node])
            node = self._tails[came_by[node]]
        return tuple(reversed(back))

    def count(self, path: Arcs) -> int:
        """Return the number of learned connections of a path."""
        return sum(self.learned[arc] for arc in path)

    def extensions(self, path: Arcs) -> Iterator[Arcs]:
        """Yield the paths that one more learned connection makes of a path; some come twice."""
        nodes = [0, *(self._heads[arc] for arc in path)]
        place = {node: i for i, node in enumerate(nodes)}
        for i, node in enumerate(nodes[:-1]):
            for arcs in self._off[node]:
                if arcs != path[i : i + len(arcs)]:
                    yield from self._behind([*path[:i], *arcs], path, place)

    def _behind(self, begun: list[int], path: Arcs, place: dict[int, int]) -> Iterator[Arcs]:
        """Yield the ways to complete a path that has just left another one over a connection."""
        node = self._heads[begun[-1]]
        is_host = node not in place and not self._is_own[node]
        while node not in place and node != self._output:
            if is_host:
                for (arc,) in self._off[node]:
                    if self._heads[arc] in place:
                        yield (*begun, arc, *path[place[self._heads[arc]] :])
            if self._along[node] < 0:
                return
            begun = [*begun, self._along[node]]
            node = self._heads[begun[-1]]
        yield (*begun, *path[place[node] :])
