"""How far apart the coefficients of a program are: what double precision and solvers can tell.

Capacities are 1 in every program, so a coefficient of a capacity row is the share of a server, link
or memory that one step of a path takes. What is told here are those of single steps, which the
``flow`` formulation holds as they are; those of paths are sums of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from code_opt.paths.graph import Topology

POOR_RATIO = 1e9
"""Coefficients of one row that are further apart are poorly scaled: solvers keep a row within 1e-6
or so of its capacity, and ignore coefficients of 1e-9 and less."""


@dataclass(frozen=True)
class CoefficientRange:
    """Least and largest coefficient of one row, those of 0 left out."""

    row: str
    least: float
    most: float
    least_of: str
    """Which step, or task, has the least one."""
    most_of: str

    @property
    def ratio(self) -> float:
        """Largest / least."""
        return self.most / self.least


def coefficient_ranges(topology: Topology) -> list[CoefficientRange]:
    """Return the range of coefficients of each row that has some.

    Capacity rows come first: the share that one step takes of a server or link per inference/s, of
    a memory for a chosen path. Then the weights of the average accuracy, as shares of their sum.
    """
    found: dict[str, CoefficientRange] = {}
    for row, value, of in _coefficients(topology):
        known = found.get(row)
        if known is None:
            found[row] = CoefficientRange(row, value, value, of, of)
        elif value < known.least:
            found[row] = CoefficientRange(row, value, known.most, of, known.most_of)
        elif value > known.most:
            found[row] = CoefficientRange(row, known.least, value, known.least_of, of)
    return list(found.values())


def _coefficients(topology: Topology) -> Iterator[tuple[str, float, str]]:
    """Yield row, coefficient, and what it belongs to, of all that are not 0."""
    for graph in topology.graphs:
        for arc, use in zip(graph.arcs, graph.use.tolist(), strict=True):
            of = f"{arc.tail} -> {arc.head} of task {graph.task.id}"
            for number, amount in zip(graph.resources.tolist(), use, strict=True):
                if amount > 0.0:
                    yield topology.resources[number].name, amount, of
    tasks = topology.instance.tasks
    total = sum(task.weight for task in tasks)
    for task in tasks:
        if task.weight > 0.0:
            yield "average accuracy", task.weight / total, f"task {task.id}"
