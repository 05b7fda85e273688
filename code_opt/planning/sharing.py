"""Input groups in a plan: what paths of tasks with one rate pay for once.

Paths are numbered through all tasks; P of them, I servers and links, M memories, V prefixes.
Every use is per inference of the group, so a prefix costs the same whoever walks it. See
``docs/shared-inputs.md`` and :mod:`code_opt.paths.groups`, which finds the prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from code_opt.instance.model import Instance
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray, IntArray, rate_groups

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PrefixUse:
    """What prefixes that several paths of a group begin with use, and paths beyond them.

    A prefix is one node of a trie: its last steps alone, behind those of its parent.
    """

    groups: tuple[tuple[int, ...], ...]
    """Tasks that have one rate, two or more each."""
    leaf: IntArray
    """Last prefix that a path walks, -1 where it walks none, shape (P,)."""
    parent: IntArray
    """Prefix before each prefix (of a smaller number), -1 behind the input, shape (V,)."""
    use: FloatArray
    """Use of servers and links by each prefix, shape (V, I)."""
    memory: FloatArray
    """Share of each memory that a prefix's adapters fill, shape (V, M)."""
    own_use: FloatArray
    """Use of servers and links by each path beyond its prefixes, shape (P, I)."""
    own_memory: FloatArray
    """Share of each memory that a path's other adapters fill, shape (P, M)."""

    def walked(self, path: int) -> Iterator[int]:
        """Yield the prefixes that a path walks, the last one first."""
        prefix = int(self.leaf[path])
        while prefix >= 0:
            yield prefix
            prefix = int(self.parent[prefix])

    @cached_property
    def paths(self) -> tuple[IntArray, ...]:
        """The paths that walk each prefix, ascending."""
        found: list[list[int]] = [[] for _ in self.parent]
        for path in np.flatnonzero(self.leaf >= 0).tolist():
            for prefix in self.walked(path):
                found[prefix].append(path)
        return tuple(np.array(paths, dtype=np.int64) for paths in found)

    def subset(self, rows: IntArray) -> PrefixUse:
        """Return what some of the paths share, shape (P,)."""
        return replace(
            self,
            leaf=self.leaf[rows],
            own_use=self.own_use[rows],
            own_memory=self.own_memory[rows],
        )

    def scaled(self, capacity: FloatArray) -> PrefixUse:
        """Return the uses as shares of other capacities, shape (I,)."""
        return replace(self, use=self.use / capacity, own_use=self.own_use / capacity)

    def left_out(self, gone: BoolArray, use: FloatArray, memory: FloatArray) -> PrefixUse:
        """Return what is shared if some paths share nothing.

        Args:
            gone: these paths, shape (P,).
            use: of servers and links by all paths, shape (P, I).
            memory: of all paths, shape (P, M).
        """
        return replace(
            self,
            leaf=np.where(gone, -1, self.leaf),
            own_use=np.where(gone[:, None], use, self.own_use),
            own_memory=np.where(gone[:, None], memory, self.own_memory),
        )

    def load(self, paths: IntArray, rates: FloatArray) -> FloatArray:
        """Return the load of servers and links, each prefix paid at its largest rate, (I,).

        Args:
            paths: path of each task, -1 for a task that does not run, shape (T,).
            rates: [inferences/s], shape (T,).
        """
        runs = paths >= 0
        total = np.asarray(rates[runs] @ self.own_use[paths[runs]])
        if len(self.parent):
            rate_of = np.zeros(len(self.parent))
            for path, rate in zip(paths[runs].tolist(), rates[runs].tolist(), strict=True):
                for prefix in self.walked(path):
                    rate_of[prefix] = max(rate_of[prefix], rate)
            total = total + rate_of @ self.use
        return total

    def filled(self, paths: IntArray) -> FloatArray:
        """Return the share of each memory that the adapters of paths fill, shape (M,).

        Args:
            paths: path of each task, -1 for a task that does not run, shape (T,).
        """
        running = paths[paths >= 0]
        walked = {prefix for path in running.tolist() for prefix in self.walked(path)}
        total = self.own_memory[running].sum(axis=0)
        return np.asarray(total + self.memory[sorted(walked)].sum(axis=0))

    def beside(self, rows: IntArray, others: IntArray) -> FloatArray:
        """Return what paths of one task use beside those of other tasks, shape (n, I).

        Args:
            rows: n paths of the task.
            others: paths of other tasks, which pay for their prefixes.
        """
        paid = {prefix for path in others.tolist() for prefix in self.walked(path)}
        found = self.own_use[rows].copy()
        for i, path in enumerate(rows.tolist()):
            unpaid = [prefix for prefix in self.walked(path) if prefix not in paid]
            if unpaid:
                found[i] += self.use[unpaid].sum(axis=0)
        return found


def find_prefixes(pool: PathPool, use: FloatArray, memory: FloatArray) -> PrefixUse:
    """Return what the paths of a pool share.

    Args:
        pool: paths of all tasks.
        use: of servers and links by all paths, shape (P, I).
        memory: of all paths, shape (P, M).
    """
    is_rate = pool.topology.is_rate_resource
    is_memory = np.array([not r.is_rate and r.is_limited for r in pool.resources], dtype=bool)
    width = len(is_rate)
    first = np.concatenate(([0], np.cumsum([len(task) for task in pool.tasks]))).astype(np.int64)
    leaf = np.full(pool.size, -1, dtype=np.int64)
    own_use, own_memory = use.copy(), memory.copy()
    parents: list[int] = []
    amounts: list[FloatArray] = []
    for group, sharing in zip(pool.groups, pool.sharing, strict=True):
        if sharing is None:
            continue
        before = len(parents)
        for prefix in sharing.prefixes:
            wide = np.zeros(width)
            wide[group.resources] = prefix.use
            amounts.append(wide)
            parents.append(prefix.parent + before if prefix.parent >= 0 else -1)
        for t, last, own in zip(group.tasks, sharing.leaf, sharing.own_use, strict=True):
            rows = slice(int(first[t]), int(first[t + 1]))
            leaf[rows] = np.where(last >= 0, last + before, -1)
            beyond = np.zeros((len(own), width))
            beyond[:, group.resources] = own
            own_use[rows], own_memory[rows] = beyond[:, is_rate], beyond[:, is_memory]
    shared = np.array(amounts, dtype=float).reshape(-1, width)
    return PrefixUse(
        groups=tuple(group.tasks for group in pool.groups if group.is_shared),
        leaf=leaf,
        parent=np.array(parents, dtype=np.int64),
        use=shared[:, is_rate],
        memory=shared[:, is_memory],
        own_use=own_use,
        own_memory=own_memory,
    )


def own_demands(instance: Instance) -> FloatArray:
    """Return what every task asks for by itself [inferences/s], inf for no demand, shape (T,)."""
    return np.array([math.inf if t.demand is None else float(t.demand) for t in instance.tasks])


def least_of_groups(instance: Instance, demands: FloatArray) -> FloatArray:
    """Return demands in which every task of an input group asks for the least of its group.

    The tasks of a group have one rate, and no rate is larger than its task's demand.

    Args:
        instance: whose tasks.
        demands: [inferences/s], shape (..., T).
    """
    least = demands.copy()
    for group in rate_groups(instance):
        if len(group) > 1:
            tasks = list(group)
            least[..., tasks] = demands[..., tasks].min(axis=-1, keepdims=True)
    return least
