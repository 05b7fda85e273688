"""The options of input groups that matter, without trying all combinations of paths.

An option's accuracy is a sum over its tasks, and its use a sum over the nodes of the trie of shared
prefixes that it goes through. So a dominated way to serve some of the tasks behind a node is
part of no undominated option, and the dynamic program that finds the best option at prices
(:mod:`code_opt.methods.units`) finds all undominated ones if it keeps a set for each node
and subset of tasks instead of one label (multi-objective labels: Martins, European Journal of
Operational Research 16, 1984).

Where an assignment is known, prices say which of them can be part of a better one: an option
worth less than its group's best by more than what lies between the bound and the assignment cannot
(reduced-cost fixing). A way is worth at most the group's best less what it loses to the best way
that serves the same tasks from the same node on: whatever completes the one completes the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from code_opt.methods.assignment import Judge, Solution
from code_opt.methods.columns import PathTable
from code_opt.methods.master import RestrictedMaster
from code_opt.methods.models import listing
from code_opt.methods.settings import Clock
from code_opt.methods.units import MOST_TASKS, Unit, cheapest_options
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray, nondominated

_MOST_COMPARISONS = 300_000_000
"""Pairs of ways that may be compared for one group before its listing is given up."""
_AT_ONCE = 20_000
"""Ways compared at once."""
_RATES = 12
"""Rates between which what an option is worth at its own rate is bounded."""
_ROUNDS, _GAIN = 12, 1e-7
"""Most rounds in which prices ask large groups for options, and the least gain that counts."""
_ENTERING = 20
"""Most options of a group that enter in one round."""
_SHARE_OF_TIME = 0.3
"""Most of the time left that listing may take."""
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


@dataclass(frozen=True)
class Worth:
    """What options of a group are worth at prices.

    At the group's rate r an option is worth ``alpha A - m(r) use + tau m (r - floor)``, linear in
    r, so at its own best rate at most the larger of what it is worth at the floor and at any rate
    above its R.
    """

    rates: FloatArray
    """Ascending, the floor first, the largest rate of any option last, shape (B,)."""
    prices: FloatArray
    """Of the group's resources at each rate, shape (B, k)."""
    accuracy: float
    """alpha."""
    base: FloatArray
    """What the throughput at each rate is worth, shape (B,)."""
    per_inference: FloatArray
    """Of the group's resources, what is paid per inference of all its tasks, shape (k,)."""
    throughput: float
    """tau."""

    @classmethod
    def of(cls, unit: Unit, resources: FloatArray, accuracy: float, throughput: float) -> Worth:
        """Return what the options of a group are worth.

        Args:
            unit: the group.
            resources: price of every resource's full capacity.
            accuracy: what a unit of A is worth.
            throughput: what an inference/s is worth.
        """
        floor = unit.group.floor
        most = max(min(float(task.most_rate.max()) for task in unit.tasks), floor)
        steps = np.geomspace(1.0 / 64.0, 1.0, _RATES - 1)
        rates = np.concatenate(([floor], floor + (most - floor) * steps))
        own = resources[unit.resources]
        prices = np.where(unit.is_rate_resource, rates[:, None] * own, own)
        base = throughput * unit.size * (rates - floor)
        per_inference = np.where(unit.is_rate_resource, own, 0.0)
        return cls(rates, prices, accuracy, base, per_inference, throughput)

    def of_options(self, unit: Unit) -> FloatArray:
        """Return what each option that a group lists is worth at its best rate, shape (n,)."""
        margin = self.throughput - unit.use @ self.per_inference / unit.size
        at_floor = self.accuracy * unit.accuracy - unit.use @ self.prices[0]
        return np.asarray(at_floor + (unit.most - unit.floor) * np.maximum(margin, 0.0))

    def best(self, unit: Unit) -> tuple[FloatArray, IntArray]:
        """Return the most that any option is worth at each rate, (B,), and options, (B, m)."""
        assert unit.sharing is not None
        worth = np.full(len(self.rates), self.accuracy)
        paths = cheapest_options(unit.tasks, unit.sharing, unit.weights, self.prices, worth)
        found = unit.having(paths)
        paid = (self.prices * found.use).sum(axis=1)
        return self.accuracy * found.accuracy - paid + self.base, paths


def list_options(
    unit: Unit, worth: Worth | None = None, least: float = -np.inf, clock: Clock | None = None
) -> Unit | None:
    """Return a group with all options that no other one dominates and that fit alone.

    None where that takes too long, or longer than the clock allows. With ``worth`` options that
    are worth less than ``least`` are left out as far as that is known.
    """
    if unit.is_complete:
        return unit
    if unit.size > MOST_TASKS:
        return None
    try:
        paths = _Listing(unit, worth, least, clock).paths()
    except TooManyWaysError:
        return None
    return unit.having(paths) if len(paths) else unit


def options_that_matter(
    judge: Judge, clock: Clock, best: Solution | None
) -> tuple[tuple[Unit, ...], Unit | None]:
    """Return units with all options that can be part of anything better than an assignment.

    Also return the first group that has too many to list, None if the result is complete.
    """
    units = list(judge.units)
    large = [i for i, unit in enumerate(units) if not unit.is_complete]
    if not large:
        return tuple(units), None
    for i in large:
        if units[i].size > MOST_TASKS:
            return tuple(units), units[i]
    priced, left = None, clock.left
    clock = Clock(None if left is None else _SHARE_OF_TIME * left)
    if best is not None and np.isfinite(best.log_value):
        priced = _priced(judge, clock, best, units, large)
    for i in large:
        worth, least = (None, -np.inf) if priced is None else priced[i]
        listed = list_options(units[i], worth, least, clock)
        if listed is None:
            return tuple(units), units[i]
        units[i] = listed
    return tuple(units), None


def _priced(
    judge: Judge, clock: Clock, best: Solution, units: list[Unit], large: list[int]
) -> dict[int, tuple[Worth, float]] | None:
    """Return for large groups what options are worth at the master's prices, and have to be.

    Column generation over the options of large groups: ``units`` gets those found.
    """
    units[:] = [listing(unit, best) for unit in units]
    for turn in range(_ROUNDS):
        table = PathTable(judge.pool, judge.settings, is_partial=True, units=units)
        start = np.union1d(table.first_answers(), table.numbers_of(best))
        point = RestrictedMaster(judge, table, start, best).settle(clock)
        if point is None:
            return None
        prices, bound = point.prices, point.bound.value
        alpha, tau = prices.accuracy, prices.throughput / table.unit
        worths = {i: Worth.of(units[i], prices.resource, alpha, tau) for i in large}
        known = {i: float(point.bound.best[i]) for i in large}
        is_last = turn == _ROUNDS - 1 or clock.is_over
        new = {i: worths[i].best(units[i])[1] for i in large}
        if not is_last and _grown(units, new, worths, known, best):
            continue
        # The best at any one rate are known; what is best at its own rate needs a list.
        listed = {i: list_options(units[i], worths[i], known[i] + _GAIN, clock) for i in large}
        new = {i: unit.paths for i, unit in listed.items() if unit is not None}
        if not is_last and _grown(units, new, worths, known, best):
            continue
        most = {}
        for i, unit in listed.items():
            found = worths[i].best(units[i])[0] if unit is None else worths[i].of_options(unit)
            most[i] = max(float(found.max()), known[i] + _GAIN)
            bound += most[i] - known[i]
        value = best.log_value
        if judge.settings.objective == "throughput":
            value /= table.unit
        distance = max(bound - value, 0.0) + 1e-9 * (1.0 + abs(value))
        return {i: (worths[i], most[i] - distance) for i in large}
    return None


def _grown(
    units: list[Unit],
    new: dict[int, IntArray],
    worths: dict[int, Worth],
    known: dict[int, float],
    best: Solution,
) -> bool:
    """Add the best of new options to groups in which they are worth more than those known."""
    has_grown = False
    for i, paths in new.items():
        found = units[i].having(paths)
        worth = worths[i].of_options(found)
        order = np.argsort(-worth, kind="stable")[:_ENTERING]
        better = order[worth[order] > known[i] + _GAIN]
        if len(better):
            units[i] = listing(units[i].with_options(paths[better]), best)
            has_grown = True
    return has_grown


class _Listing:
    """The dynamic program over one group's trie."""

    def __init__(self, unit: Unit, worth: Worth | None, least: float, clock: Clock | None) -> None:
        assert unit.sharing is not None
        self._unit, self._sharing = unit, unit.sharing
        self._left, self._clock = _MOST_COMPARISONS, clock
        limit = np.where(unit.is_rate_resource, unit.group.floor, 1.0)
        self._limit = np.concatenate(([0.0], limit))
        self._worth = worth
        if worth is not None:
            best, _ = worth.best(unit)
            # An option whose R lies above the rate before may be worth most at this one.
            before = np.concatenate((worth.rates[:1], worth.rates[:-1]))
            self._may_lose = best - least
            self._score = -np.column_stack((np.full(len(best), worth.accuracy), worth.prices))
            rate_limit = np.where(unit.is_rate_resource, before[:, None], 0.0)
            self._rate_limit = np.column_stack((np.zeros(len(best)), rate_limit))
            self._least = least
            self._others = self._least_of_others(worth)

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
                table = self._merged(table, onward, v)
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
            alone = self._undominated([_Ways(cost, paths)], v, 1 << t)
            table = self._merged(table, {1 << t: alone}, v)
        return table

    @staticmethod
    def _entered(table: _Table, use: FloatArray) -> _Table:
        """Return the ways behind a node with what the node uses itself."""
        price = np.concatenate(([0.0], use))
        return {s: _Ways(w.cost + price, w.paths) for s, w in table.items() if s}

    def _merged(self, table: _Table, other: _Table, v: int) -> _Table:
        """Return the ways to serve sets of tasks if some of them take another branch."""
        parts: dict[int, list[_Ways]] = {s: [ways] for s, ways in table.items()}
        for here, ways in table.items():
            for there, others in other.items():
                if not here & there:
                    both = here | there
                    parts.setdefault(both, []).extend(self._products(ways, others, v, both))
        merged = {s: self._undominated(found, v, s) for s, found in parts.items() if found}
        return {s: ways for s, ways in merged.items() if len(ways)}

    def _products(self, ways: _Ways, others: _Ways, v: int, tasks: int) -> list[_Ways]:
        """Return all pairs of two ways, each chunk without those that are dominated in it."""
        found = []
        step = max(1, _AT_ONCE // max(len(others), 1))
        for start in range(0, len(ways), step):
            part = slice(start, start + step)
            cost = (ways.cost[part, None] + others.cost[None]).reshape(-1, ways.cost.shape[1])
            paths = (ways.paths[part, None] + others.paths[None]).reshape(-1, ways.paths.shape[1])
            found.append(self._undominated([_Ways(cost, paths)], v, tasks))
        return found

    def _undominated(self, parts: list[_Ways], v: int, tasks: int) -> _Ways:
        """Return the ways to serve tasks behind a node that fit and that no other one dominates."""
        cost = np.concatenate([ways.cost for ways in parts])
        paths = np.concatenate([ways.paths for ways in parts])
        fits = (cost * self._limit <= 1.0 + _ROOM).all(axis=1)
        if self._worth is not None and tasks and len(cost):
            fits &= self._is_worth_enough(cost, v, tasks)
        cost, paths = cost[fits], paths[fits]
        kept = nondominated(cost)
        self._left -= len(cost) * len(kept)
        if self._left < 0 or (self._clock is not None and self._clock.is_over):
            raise TooManyWaysError
        return _Ways(cost[kept], paths[kept])

    def _is_worth_enough(self, cost: FloatArray, v: int, tasks: int) -> BoolArray:
        """Tell which of some ways to serve the same tasks may be part of a good enough option."""
        assert self._worth is not None
        enough = np.zeros(len(cost), dtype=bool)
        alone = [t for t in range(self._unit.size) if not tasks >> t & 1]
        others = self._others[v + 1, :, -1] + self._others[v + 1][:, alone].sum(axis=1)
        for b in np.flatnonzero(self._may_lose >= 0.0).tolist():
            worth = cost @ self._score[b]
            least = max(
                float(worth.max()) - float(self._may_lose[b]),
                self._least - float(self._worth.base[b] - others[b]),
            )
            can_run = (cost * self._rate_limit[b] <= 1.0 + _ROOM).all(axis=1)
            enough |= can_run & (worth >= least - 1e-12)
        return enough

    def _least_of_others(self, worth: Worth) -> FloatArray:
        """Return what the rest of an option costs at least, shape (V + 1, B, m + 1).

        Row v + 1 holds for each task the least cost of a path of its own if the way to node v is
        paid, and at the end what that way costs. A node's price is split among all tasks that
        can walk it, which underestimates what those that do walk it pay together.
        """
        sharing, m = self._sharing, self._unit.size
        count = len(sharing.prefixes)
        price = worth.prices @ sharing.prefix_use.T
        split = price / np.array([max(len(p.paths), 1) for p in sharing.prefixes])
        on_the_way = np.zeros((count + 1, count), dtype=bool)
        for v, prefix in enumerate(sharing.prefixes):
            on_the_way[v + 1] = on_the_way[prefix.parent + 1]
            on_the_way[v + 1, v] = True
        found = np.zeros((count + 1, len(price), m + 1))
        found[:, :, m] = on_the_way @ price.T
        for t, task in enumerate(self._unit.tasks):
            own = worth.prices @ sharing.own_use[t].T
            own -= worth.accuracy * self._unit.weights[t] * task.paths.accuracy
            through = sharing.through[t].T.astype(float)
            for row, paid in enumerate(on_the_way):
                found[row, :, t] = (own + np.where(paid, 0.0, split) @ through).min(axis=1)
        return found
