"""What the formulations take: plain numbers, already normalised.

Capacities are 1: the use of a server or link is given in seconds of it per inference,
adapters as a share of the memory (see MODEL.md for the symbols). Rates are inferences/s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Objective = Literal["reward", "throughput", "accuracy", "latency"]


@dataclass(frozen=True)
class Rows:
    """Sparse rows: for each resource, the paths (or arcs) that use it and how much each."""

    names: Sequence[str]
    entries: Sequence[Sequence[tuple[int, float]]]
    """entries[i] lists (path or arc index, amount) of resource i."""
    shared: Sequence[Sequence[tuple[int, float]]] = ()
    """shared[i] lists (shared prefix, amount) of resource i, beside what paths use alone."""

    def shared_of(self, resource: int) -> Sequence[tuple[int, float]]:
        """Return what shared prefixes use of a resource."""
        return self.shared[resource] if self.shared else ()

    @property
    def prefixes(self) -> list[int]:
        """The shared prefixes that use something of the resources, ascending."""
        return sorted({v for entries in self.shared for v, _ in entries})


@dataclass(frozen=True)
class Goal:
    """What is maximised, and floors on the totals."""

    objective: Objective = "reward"
    min_accuracy: float | None = None
    """Floor on the average accuracy A."""
    min_throughput: float | None = None
    """Floor on the total throughput Th [inferences/s]."""
    throughput_unit: float = 1.0
    """Th is modelled in this unit [inferences/s], so that numbers stay near 1."""
    accuracy_unit: float = 1.0
    """A is modelled in this unit: the most that it can be, however little that is."""
    time_unit: float = 1.0
    """The average time D is modelled in this unit [s]: about the least that it can be."""


@dataclass(frozen=True)
class StationLevels:
    """Wait scales that one station can choose: K levels, each an interval of scales.

    Level k holds the scales above ``lower[k]`` and up to ``upper[k]``, at a prefactor C. The last
    level promises nothing: its lower end is infinite.
    """

    name: str
    lower: Sequence[float]
    """Lower ends [s]."""
    upper: Sequence[float]
    """Upper ends [s], ascending."""
    log_c: Sequence[float]
    """ln C; 0 is for stations without later jobs only."""
    loads: Sequence[tuple[int, Sequence[float]]]
    """(path, what an inference on it counts at the upper end of each level, as a share of the
    station): capacities are 1, and the numbers fall with the level."""
    bursts: Sequence[tuple[int, Sequence[float]]] = ()
    """(path, what an inference counts in (3) at the upper end of each level [1/s]), for paths
    with a later job there."""


@dataclass(frozen=True)
class LimitedPath:
    """A path that keeps its limit if sum over its jobs of scale * (share + ln C) <= room."""

    path: int
    room: float
    """L - T [s]."""
    share: float
    """ln(m / (1 - q))."""
    stations: Sequence[tuple[int, float]]
    """(number of the station among the levels, least ln C there with this path), each once."""
    weight: float = 0.0
    """w[t]: what a second of its wait counts in the average time D."""
    member: int = 0
    """Which task of its input group the limit belongs to."""

    def waits(self, levels: StationLevels, own: float) -> list[float]:
        """Return what the wait takes of the room at each level, with its scale at the lower end."""
        return [
            low * (self.share + max(own, log_c))
            for low, log_c in zip(levels.lower, levels.log_c, strict=True)
        ]


@dataclass(frozen=True)
class Dependency:
    """Paths of one task with a later job at a station, behind an earlier station."""

    paths: Sequence[int]
    station: int
    earlier: int | None
    """Number among the levels; None: the station that is meant has no levels."""
    jobs: int
    """Number of earlier jobs that all these paths have."""
    has_bursts: bool = True
    """Whether (3) has rows for it; without them the program is a looser relaxation."""
    filling: float = 0.0
    """What batches at the earlier stations may take to fill [s]."""


@dataclass(frozen=True)
class WaitingData:
    """Wait scales in the path formulation (MODEL.md, *Waiting*)."""

    stations: Sequence[StationLevels]
    limited: Sequence[LimitedPath]
    dependencies: Sequence[Dependency] = ()


@dataclass(frozen=True)
class PathData:
    """Data of the path formulation: P paths of T tasks; every path is admissible."""

    task_names: Sequence[str]
    weight: Sequence[float]
    """w[t], summing to 1."""
    floor: Sequence[float]
    """Least rate of each task [inferences/s]."""
    task_of: Sequence[int]
    """t(p), ascending."""
    accuracy: Sequence[float]
    """A[p]."""
    most_rate: Sequence[float]
    """R[p] >= floor[t(p)] [inferences/s]."""
    seconds: Sequence[float]
    """T[p] [s]."""
    rate_rows: Rows
    """Use of servers and links, per inference."""
    memory_rows: Rows
    """Use of the adapters' memory, per chosen path."""
    goal: Goal = field(default_factory=Goal)
    groups: Sequence[Sequence[int]] = ()
    """Tasks that have one rate (and floor), two or more each."""
    prefixes: Sequence[Sequence[Sequence[int]]] = ()
    """Prefixes that paths of a group share: v's paths p, for each task that can walk v.

    What v uses stands in the rows' ``shared``; ``entries`` hold the rest of the path."""
    waiting: WaitingData | None = None
    """Where percentiles are limited."""

    @cached_property
    def paths_of(self) -> list[list[int]]:
        """The paths p of each task t."""
        found: list[list[int]] = [[] for _ in self.task_names]
        for path, task in enumerate(self.task_of):
            found[task].append(path)
        return found

    @cached_property
    def extra_rate(self) -> list[float]:
        """R[p] - f[t(p)], what each path can do beyond the floor [inferences/s]."""
        return [most - self.floor[t] for most, t in zip(self.most_rate, self.task_of, strict=True)]

    @cached_property
    def most_of_prefix(self) -> list[float]:
        """R[v], the largest R[p] of each shared prefix's paths [inferences/s].

        At least the floor, which no capacity may allow where capacities can give way.
        """
        rates = [
            max(
                max(self.most_rate[p], self.floor[self.task_of[p]])
                for paths in members
                for p in paths
            )
            for members in self.prefixes
        ]
        return [rate if rate > 0.0 else 1.0 for rate in rates]


@dataclass(frozen=True)
class ElasticData:
    """Data of the elastic model: paths that may break limits, and by how much.

    All violations are relative to the limit that is broken.
    """

    paths: PathData
    path_violation: Sequence[float]
    """How far path p is beyond its task's accuracy and latency limits."""
    elastic: frozenset[str]
    """Which kinds of requirement may give way: capacity, floor, memory, path, total."""


@dataclass(frozen=True)
class FlowTask:
    """One task of the flow formulation: a directed acyclic graph with numbered nodes.

    Node 0 is the input, the last node the output.
    """

    name: str
    nodes: int
    tails: Sequence[int]
    heads: Sequence[int]
    drop: Sequence[float]
    seconds: Sequence[float]
    most_rate: Sequence[float]
    """R[t,a] of each arc: the largest rate of any admissible path through it."""
    weight: float
    floor: float
    accuracy: float
    """Accuracy of the native path."""
    min_accuracy: float
    max_latency: float | None
    measured: Sequence[tuple[tuple[int, ...], float]]
    """Measured paths: their arcs and their accuracy."""
    accuracy_unit: float = 1.0
    """A[t] is modelled in this unit: the most that any path of the task has."""


@dataclass(frozen=True)
class FlowPair:
    """Two tasks of a group: one can follow the other along arcs that are the same for both."""

    task: int
    leader: int
    """An earlier task of the group."""
    arcs: Sequence[tuple[int, int]]
    """(arc of the task, an arc of the leader that is the same), each by its number within the
    task. An arc may be the same as several ones, of which a path takes one at most."""


@dataclass(frozen=True)
class FlowData:
    """Data of the flow formulation; arcs are numbered through all tasks, in order."""

    tasks: Sequence[FlowTask]
    rate_rows: Rows
    memory_rows: Rows
    goal: Goal = field(default_factory=Goal)
    groups: Sequence[Sequence[int]] = ()
    """Tasks that have one rate (and floor), two or more each."""
    pairs: Sequence[FlowPair] = ()
    """All pairs of tasks of a group with an arc in common that both reach alike."""
