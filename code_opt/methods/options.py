"""All options of an input group that no other one dominates, without trying all combinations.

An option's accuracy is a sum over its tasks, and its use a sum over the nodes of the trie of shared
prefixes that it goes through. So a dominated way to serve some of the tasks behind a node is
part of no undominated option, and the dynamic program that finds the best option at prices
(:mod:`code_opt.methods.units`) finds all undominated ones if it keeps a set for each node
and subset of tasks instead of one label (multi-objective labels: Martins, European Journal of
Operational Research 16, 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.methods.units import Unit
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import nondominated

_MOST_COMPARISONS = 300_000_000
"""Pairs of ways that may be compared for one group before its listing is given up."""
_MOST_TASKS = 6
"""Tasks of a group up to which its subsets are looked at one by one."""
_AT_ONCE = 20_000
"""Ways compared at once."""
_ROOM = 1e-6
"""Capacities may be exceeded by so much, so that nothing that passes is left out."""


@dataclass(frozen=True)
class _Ways:
    """Ways to serve a set of tasks, n of them: what they cost, and their paths."""

    cost: FloatArray
    """Minus the weighted accuracy, then the use of the k resources, shape (n, 1 + k)."""
    paths: IntArray
    """Path of each task of the group, 0 for those that are not served, shape (n, m)."""

    def __len__(self) -> int:
        return len(self.cost)


_Table = dict[int, _Ways]
"""For sets of tasks (as bits) the undominated ways to serve them."""


class TooManyWaysError(Exception):
    """A group has too many options to list."""


def list_options(unit: Unit) -> Unit | None:
    """Return a group with all options that no other one dominates and that fit alone.

    None where that takes too long. Options that exceed a capacity at the group's floor are left
    out unless none fits.
    """
    if unit.is_complete:
        return unit
    if unit.size > _MOST_TASKS:
        return None
    try:
        paths = _Listing(unit).paths()
    except TooManyWaysError:
        return None
    if not len(paths):
        return unit  # whatever it takes does not fit
    return unit.having(paths)


def complete_units(units: Sequence[Unit]) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """Return units with all options that can be part of an optimum, and those with too many."""
    listed = [list_options(unit) for unit in units]
    return (
        tuple(new for new in listed if new is not None),
        tuple(old for old, new in zip(units, listed, strict=True) if new is None),
    )


class _Listing:
    """The dynamic program over one group's trie."""

    def __init__(self, unit: Unit) -> None:
        assert unit.sharing is not None
        self._unit, self._sharing = unit, unit.sharing
        self._left = _MOST_COMPARISONS
        limit = np.where(unit.is_rate_resource, unit.group.floor, 1.0)
        self._limit = np.concatenate(([0.0], limit))

    def paths(self) -> IntArray:
        """Return the options, shape (n, m)."""
        prefixes, m = self._sharing.prefixes, self._unit.size
        children: dict[int, list[int]] = {v: [] for v in range(-1, len(prefixes))}
        for v, prefix in enumerate(prefixes):
            children[prefix.parent].append(v)
        tables: dict[int, _Table] = {}
        for v in range(len(prefixes) - 1, -2, -1):
            table = self._leaving(v)
            for child in children[v]:
                onward = self._entered(tables.pop(child), prefixes[child].use)
                table = self._merged(table, onward)
            tables[v] = table
        everything = tables[-1].get((1 << m) - 1)
        return np.empty((0, m), dtype=np.int64) if everything is None else everything.paths

    def _leaving(self, v: int) -> _Table:
        """Return the ways to serve sets of tasks that all leave the trie at a node."""
        k, m = len(self._unit.resources), self._unit.size
        table = {0: _Ways(np.zeros((1, 1 + k)), np.zeros((1, m), dtype=np.int64))}
        for t, task in enumerate(self._unit.tasks):
            rows = np.flatnonzero(self._sharing.leaf[t] == v)
            if not len(rows):
                continue
            accuracy = self._unit.weights[t] * task.paths.accuracy[rows]
            cost = np.column_stack((-accuracy, self._sharing.own_use[t][rows]))
            paths = np.zeros((len(rows), m), dtype=np.int64)
            paths[:, t] = rows
            table = self._merged(table, {1 << t: self._undominated([_Ways(cost, paths)])})
        return table

    @staticmethod
    def _entered(table: _Table, use: FloatArray) -> _Table:
        """Return the ways behind a node with what the node uses itself."""
        price = np.concatenate(([0.0], use))
        return {s: _Ways(w.cost + price, w.paths) for s, w in table.items() if s}

    def _merged(self, table: _Table, other: _Table) -> _Table:
        """Return the ways to serve sets of tasks if some of them take another branch."""
        parts: dict[int, list[_Ways]] = {s: [ways] for s, ways in table.items()}
        for here, ways in table.items():
            for there, others in other.items():
                if not here & there:
                    parts.setdefault(here | there, []).extend(self._products(ways, others))
        return {s: self._undominated(found) for s, found in parts.items()}

    def _products(self, ways: _Ways, others: _Ways) -> list[_Ways]:
        """Return all pairs of two ways, each chunk without those that are dominated in it."""
        found = []
        step = max(1, _AT_ONCE // max(len(others), 1))
        for start in range(0, len(ways), step):
            part = slice(start, start + step)
            cost = (ways.cost[part, None] + others.cost[None]).reshape(-1, ways.cost.shape[1])
            paths = (ways.paths[part, None] + others.paths[None]).reshape(-1, ways.paths.shape[1])
            found.append(self._undominated([_Ways(cost, paths)]))
        return found

    def _undominated(self, parts: list[_Ways]) -> _Ways:
        """Return the ways that fit and that no other one dominates."""
        cost = np.concatenate([ways.cost for ways in parts])
        paths = np.concatenate([ways.paths for ways in parts])
        fits = (cost * self._limit <= 1.0 + _ROOM).all(axis=1)
        cost, paths = cost[fits], paths[fits]
        kept = nondominated(cost)
        self._left -= len(cost) * len(kept)
        if self._left < 0:
            raise TooManyWaysError
        return _Ways(cost[kept], paths[kept])
