"""What moves at once in a search: a task, or all tasks of an input group together.

Tasks of an input group have one rate and share prefixes, so what one of them gains by a path
depends on the paths of the others. A search therefore sees a group as one *unit* whose options
are combinations of its tasks' paths: every move of the group is a joint one. Where there are
few combinations they are all made, else those that are best at some prices: at random ones
first, then at those that the search comes to (:meth:`Unit.answers`, which makes this column
generation). The best combination at given prices is found exactly, by a dynamic program
over the trie of shared prefixes and the subsets of tasks that go through each of its nodes.

A unit's *throughput* is its rate times its number of tasks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from code_opt.paths import PathPool, RateGroup, Sharing, TaskPaths
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import nondominated

_FEW = 20_000
"""Combinations of paths up to which a group's options are all that no other one dominates."""
_SAMPLES = 1_000
"""Random prices whose best combinations a group starts with where there are more."""
_RATES = 12
"""Rates at which a group answers prices: its best combination depends on its rate."""
_DRAWS, _SHAKEN = 30, 0.02
"""Draws of prices for each such rate; size of the noise on paths' costs, of their spread."""
_KEPT, _PAIRED = 20, 600
"""Options kept of all that the paths of two tasks make, and most paths of a task for that."""
_ASIDE = (1.0, 0.5, 2.0)
"""What accuracy is worth, as a factor, where exchanges start from: they end in other places."""
_SHORT = 1e3
"""Worth lost by an option for each capacity, or part of it, that it lacks at the floor."""
MOST_TASKS = 6
"""Tasks of a group up to which the dynamic program looks at all their subsets (3 to the power of
it are the splits at a node); in larger groups the tasks answer each other in turns."""
_TURNS = 4


@dataclass(frozen=True)
class Valuation:
    """What resources, accuracy and throughput are worth to a search."""

    resources: FloatArray
    """Price of every resource's full capacity."""
    accuracy: float
    """What one more unit of average accuracy is worth."""
    throughput: float
    """What one more inference per second is worth."""


@dataclass(frozen=True)
class Unit:
    """A task or an input group: m tasks, n options, k resources."""

    group: RateGroup
    tasks: tuple[TaskPaths, ...]
    sharing: Sharing | None
    """None for a single task."""
    weights: FloatArray
    """w[t] of its tasks, shape (m,)."""
    paths: IntArray
    """Number of each task's path among its own, shape (n, m)."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> int:
        """Number of tasks."""
        return len(self.group.tasks)

    @property
    def floor(self) -> float:
        """Least throughput [inferences/s]."""
        return self.size * self.group.floor

    @property
    def resources(self) -> IntArray:
        """Global indices of the resources, shape (k,)."""
        return self.group.resources

    @property
    def is_rate_resource(self) -> npt.NDArray[np.bool_]:
        """Which of the resources are paid per inference, shape (k,)."""
        return self.group.is_rate_resource

    @cached_property
    def use(self) -> FloatArray:
        """Use of the resources when all tasks make one inference, shape (n, k)."""
        if self.sharing is None:
            return self.tasks[0].paths.use
        return _use(self.sharing, self.paths)

    @property
    def use_per_inference(self) -> FloatArray:
        """Use of servers and links per inference that counts, of memory as it is, shape (n, k)."""
        if self.sharing is None:
            return self.use
        return np.asarray(self.use / np.where(self.is_rate_resource, self.size, 1))

    @cached_property
    def accuracy(self) -> FloatArray:
        """Sum of weight times accuracy, shape (n,)."""
        columns = zip(self.tasks, self.weights.tolist(), self.paths.T, strict=True)
        return np.asarray(sum(w * task.paths.accuracy[rows] for task, w, rows in columns))

    @property
    def mean_accuracy(self) -> FloatArray:
        """Accuracy of each option, weighted over its tasks, shape (n,)."""
        if self.sharing is None:
            return self.tasks[0].paths.accuracy
        total = self.weights.sum()
        return np.asarray(self.accuracy / total if total > 0.0 else np.zeros(len(self)))

    @cached_property
    def most(self) -> FloatArray:
        """Largest throughput of each option [inferences/s], shape (n,)."""
        if self.sharing is None:
            return self.tasks[0].most_rate
        columns = zip(self.tasks, self.paths.T, strict=True)
        reach = np.min([task.most_rate[rows] for task, rows in columns], axis=0)
        return self.most_at(self.use, reach)

    def most_at(self, use: FloatArray, reach: FloatArray) -> FloatArray:
        """Return the largest throughput [inferences/s], shape (...).

        Args:
            use: of the resources when all tasks make one inference, shape (..., k).
            reach: largest rate that each task's path allows on its own, shape (...).
        """
        with np.errstate(divide="ignore"):
            rate = 1.0 / use.max(axis=-1, initial=0.0, where=self.is_rate_resource)
        return np.asarray(self.size * np.maximum(np.minimum(rate, reach), self.group.floor))

    def worth(self, at: Valuation) -> FloatArray:
        """Return what the options are worth at prices, shape (n,)."""
        return self.worth_at(at, self.accuracy, self.use, self.most)

    def worth_at(
        self, at: Valuation, accuracy: FloatArray, use: FloatArray, most: FloatArray
    ) -> FloatArray:
        """Return what accuracies, uses and largest throughputs are worth, shape (...)."""
        own = at.resources[self.resources]
        paid = use @ np.where(self.is_rate_resource, own, 0.0) / self.size
        held = use @ np.where(self.is_rate_resource, 0.0, own)
        margin = at.throughput - paid
        extra = (most - self.floor) * np.maximum(margin, 0.0)
        # An option that cannot run at the floor is worth nothing (k resources, capacities 1).
        limit = np.where(self.is_rate_resource, self.group.floor, 1.0)
        short = np.maximum(use * limit - 1.0, 0.0).sum(axis=-1)
        return np.asarray(
            at.accuracy * accuracy + self.floor * margin + extra - held - _SHORT * short
        )

    def answers(self, at: Valuation) -> Unit:
        """Return the unit with good options at some prices added.

        At a given rate r the best option has the least ``r price use - accuracy A``, subject to
        ``r use <= 1`` for every resource. The prices of these constraints are drawn, and
        the best option that comes out is improved by exchanging the paths of two tasks at a time
        as long as that pays (with two tasks this is exact).
        """
        if self.sharing is None or self.is_complete:
            return self
        found = self.with_options(self._drawn(at))
        improved = []
        for factor in _ASIDE:
            aside = replace(at, accuracy=factor * at.accuracy)
            start = found.paths[int(found.worth(aside).argmax())]
            improved.append(found._exchanged(aside, start))
        return found.with_options(np.concatenate(improved))

    def _exchanged(self, at: Valuation, start: IntArray) -> IntArray:
        """Exchange paths of two tasks at a time; return what was best on the way, (options, m)."""
        assert self.sharing is not None
        present, found = start.copy(), []
        best = -np.inf
        pairs = list(itertools.combinations(range(self.size), 2))
        in_vain, turn = 0, 0
        while in_vain < len(pairs):
            s, t = pairs[turn % len(pairs)]
            turn += 1
            ways = self._candidates(s), self._candidates(t)
            worth = self._worth_of_pairs(at, present, (s, t), ways)
            leaders = np.argpartition(-worth, min(_KEPT, worth.size - 1), axis=None)[:_KEPT]
            rows = np.tile(present, (len(leaders), 1))
            one, two = np.unravel_index(leaders, worth.shape)
            rows[:, s], rows[:, t] = ways[0][one], ways[1][two]
            found.append(rows)
            top = int(worth.argmax())
            in_vain += 1
            if worth.flat[top] > best + 1e-9 * abs(worth.flat[top]):
                best, in_vain = float(worth.flat[top]), 0
                first, second = np.unravel_index(top, worth.shape)
                present[s], present[t] = ways[0][first], ways[1][second]
        return np.concatenate(found)

    def _candidates(self, t: int) -> IntArray:
        """Return the paths of a task that exchanges try: where there are many, those in use."""
        if len(self.tasks[t]) <= _PAIRED:
            return np.arange(len(self.tasks[t]))
        return np.unique(self.paths[:, t])[:_PAIRED]

    def _worth_of_pairs(
        self,
        at: Valuation,
        present: IntArray,
        pair: tuple[int, int],
        ways: tuple[IntArray, IntArray],
    ) -> FloatArray:
        """Return what paths of two tasks are worth together, the others as they are.

        Args:
            at: what it is measured by.
            present: a path of each task, shape (m,).
            pair: two tasks.
            ways: paths of the first one and of the second one, n and n' of them.

        Returns:
            Worth of each combination, shape (n, n').
        """
        assert self.sharing is not None
        s, t = pair
        through, prefix_use = self.sharing.through, self.sharing.prefix_use
        paid = np.zeros(len(prefix_use), dtype=bool)
        use = np.zeros(len(self.resources))
        accuracy, reach = 0.0, np.inf
        for other in range(self.size):
            if other not in (s, t):
                path = int(present[other])
                paid |= through[other][path]
                use += self.sharing.own_use[other][path]
                accuracy += self.weights[other] * self.tasks[other].paths.accuracy[path]
                reach = min(reach, float(self.tasks[other].most_rate[path]))
        use += prefix_use[paid].sum(axis=0)
        unpaid = np.where(paid[:, None], 0.0, prefix_use)
        here, there = through[s][ways[0]], through[t][ways[1]]
        one = self.sharing.own_use[s][ways[0]] + here @ unpaid
        two = self.sharing.own_use[t][ways[1]] + there @ unpaid
        uses = use + one[:, None, :] + two[None, :, :]
        for k in np.flatnonzero(unpaid.any(axis=0)).tolist():
            uses[:, :, k] -= (here * unpaid[:, k]) @ there.T  # what both go through, once
        accuracies = accuracy + np.add.outer(
            self.weights[s] * self.tasks[s].paths.accuracy[ways[0]],
            self.weights[t] * self.tasks[t].paths.accuracy[ways[1]],
        )
        reaches = np.minimum.outer(
            self.tasks[s].most_rate[ways[0]], self.tasks[t].most_rate[ways[1]]
        )
        most = self.most_at(uses, np.minimum(reaches, reach))
        return self.worth_at(at, accuracies, uses, most)

    def _drawn(self, at: Valuation) -> IntArray:
        """Return the best options at some rates and drawn prices of their limits, (options, m)."""
        assert self.sharing is not None
        rng = np.random.default_rng(len(self))
        most = min(float(task.most_rate.max()) for task in self.tasks)
        rates = np.append(most * np.geomspace(1.0 / 64.0, 1.0, _RATES - 1), self.group.floor)
        rates = np.repeat(rates, _DRAWS)[:, None]
        drawn = _few_large(rng, len(rates), len(self.resources))
        drawn *= self.size * at.throughput * rng.uniform(0.0, 2.0, (len(rates), 1))
        drawn[::_DRAWS] = 0.0
        own = at.resources[self.resources]
        prices = np.where(self.is_rate_resource, rates * (own + drawn), own)
        worth = np.full(len(rates), at.accuracy)
        return cheapest_options(self.tasks, self.sharing, self.weights, prices, worth)

    @property
    def is_complete(self) -> bool:
        """Whether the options are all that no other one dominates."""
        return self.sharing is None or has_few_options(self.tasks)

    def having(self, paths: IntArray) -> Unit:
        """Return a group with other options, given by their paths, shape (n', m)."""
        return Unit(self.group, self.tasks, self.sharing, self.weights, paths)

    def subset(self, rows: IntArray) -> Unit:
        """Return the unit with some of its options only."""
        if self.sharing is None:
            task = self.tasks[0].subset(rows.tolist())
            return replace(self, tasks=(task,), paths=np.arange(len(rows))[:, None])
        return self.having(self.paths[rows])

    def number_of(self, paths: Sequence[int]) -> int | None:
        """Return the option that consists of some paths, one per task, None if there is none."""
        if self.sharing is None:
            return paths[0]
        return self._numbers.get(tuple(paths))

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): number for number, row in enumerate(self.paths.tolist())}

    def with_options(self, paths: IntArray) -> Unit:
        """Return the unit with more options, those that others dominate left out."""
        present = {tuple(row) for row in self.paths.tolist()}
        new = [row for row in dict.fromkeys(map(tuple, paths.tolist())) if row not in present]
        if not new:
            return self
        return _undominated(
            Unit(
                self.group,
                self.tasks,
                self.sharing,
                self.weights,
                np.concatenate((self.paths, np.array(new, dtype=np.int64))),
            )
        )


def build_units(pool: PathPool) -> tuple[Unit, ...]:
    """Return the units of a pool, in the order of its groups; each task must have a path."""
    units = []
    for group, sharing in zip(pool.groups, pool.sharing, strict=True):
        tasks = tuple(pool.tasks[t] for t in group.tasks)
        weights = pool.weights[list(group.tasks)]
        if sharing is None:
            options = np.arange(len(tasks[0]))[:, None]
            units.append(Unit(group, tasks, None, weights, options))
            continue
        if has_few_options(tasks):
            sizes = [len(task) for task in tasks]
            options = np.indices(sizes).reshape(len(sizes), -1).T
        else:
            options = draw_options(tasks, sharing, weights)
        units.append(_undominated(Unit(group, tasks, sharing, weights, options)))
    return tuple(units)


def draw_options(tasks: Sequence[TaskPaths], sharing: Sharing, weights: FloatArray) -> IntArray:
    """Return combinations of paths that are best at random prices, each once, shape (n, m).

    Args:
        tasks: m tasks of a group.
        sharing: what their paths have in common.
        weights: w[t] of the tasks, shape (m,).
    """
    return np.unique(_sampled(tasks, sharing, weights), axis=0)


def _undominated(unit: Unit) -> Unit:
    """Drop the options that another one dominates."""
    kept = nondominated(np.column_stack((-unit.accuracy, unit.use)))
    return Unit(unit.group, unit.tasks, unit.sharing, unit.weights, unit.paths[kept])


def _use(sharing: Sharing, paths: IntArray) -> FloatArray:
    """Return what combinations of paths use, shared prefixes once, shape (n, k)."""
    paid = np.zeros((len(paths), len(sharing.prefixes)), dtype=bool)
    total = np.zeros((len(paths), sharing.own_use[0].shape[1]))
    for own, through, rows in zip(sharing.own_use, sharing.through, paths.T, strict=True):
        total += own[rows]
        paid |= through[rows]
    return np.asarray(total + paid @ sharing.prefix_use)


def has_few_options(tasks: Sequence[TaskPaths]) -> bool:
    """Tell whether all combinations of some tasks' paths are tried."""
    return len(tasks) == 1 or math.prod(len(task) for task in tasks) <= _FEW


def _few_large(rng: np.random.Generator, rows: int, resources: int) -> FloatArray:
    """Return random prices of sum 1, most near 0 and a few large: full servers are few."""
    prices = rng.exponential(size=(rows, resources)) ** 3
    return np.asarray(prices / prices.sum(axis=1, keepdims=True))


def _sampled(tasks: Sequence[TaskPaths], sharing: Sharing, weights: FloatArray) -> IntArray:
    """Return the combinations that are best at random prices, shape (combinations, m)."""
    rng = np.random.default_rng(0)
    typical = sum(use.mean(axis=0) for use in sharing.own_use)
    typical = typical + sum((p.use for p in sharing.prefixes), np.zeros(len(typical)))
    prices = _few_large(rng, _SAMPLES, len(typical)) / np.where(typical > 0.0, typical, 1.0)
    accuracy = 10.0 ** rng.uniform(-2.0, 3.0, _SAMPLES) / max(float(weights.sum()), 1e-300)
    found = [cheapest_options(tasks, sharing, weights, prices, accuracy, rng)]
    # The extremes: all accuracy, and the least use of each resource.
    prices = np.concatenate((np.zeros((1, len(typical))), np.eye(len(typical))))
    accuracy = np.concatenate(([1.0], np.zeros(len(typical))))
    found.append(cheapest_options(tasks, sharing, weights, prices, accuracy))
    return np.concatenate(found)


def cheapest_options(
    tasks: Sequence[TaskPaths],
    sharing: Sharing,
    weights: FloatArray,
    prices: FloatArray,
    accuracy: FloatArray,
    rng: np.random.Generator | None = None,
) -> IntArray:
    """Return the combination of paths of least price less worth of accuracy, for B prices.

    It is the best of all in groups of up to :data:`MOST_TASKS` tasks. Exactly these
    combinations lie on the convex hull of all; with ``rng`` the paths' costs are shaken a
    little, so that some behind it are found as well.

    Args:
        tasks: m of them.
        sharing: what their paths have in common.
        weights: of the tasks.
        prices: of the group's resources, shape (B, k).
        accuracy: what accuracy is worth, shape (B,).
        rng: shakes the costs, if given.

    Returns:
        Path numbers, shape (B, m).
    """
    own = [
        prices @ use.T - accuracy[:, None] * (weight * task.paths.accuracy)
        for task, use, weight in zip(tasks, sharing.own_use, weights.tolist(), strict=True)
    ]
    nodes = [prices @ prefix.use for prefix in sharing.prefixes]
    if rng is not None:
        for cost in own:
            cost += _SHAKEN * np.ptp(cost, axis=1, keepdims=True) * rng.standard_normal(cost.shape)
    if len(tasks) <= MOST_TASKS:
        return _by_subsets(sharing, own, nodes)
    return _in_turns(sharing, own, nodes)


_Served = dict[int, tuple[FloatArray, IntArray]]
"""For sets of tasks (as bits) the least costs to serve them, (B,), and their paths, (B, m)."""


def _by_subsets(sharing: Sharing, own: list[FloatArray], nodes: list[FloatArray]) -> IntArray:
    """Return the cheapest combinations: which tasks leave at a node, which go on to which one.

    A node's table has the least cost behind it for every set of tasks that go through it; the
    tables of the nodes that follow are merged into it one by one.
    """
    m, batch = len(own), len(own[0])
    children: dict[int, list[int]] = {v: [] for v in range(-1, len(nodes))}
    for v, prefix in enumerate(sharing.prefixes):
        children[prefix.parent].append(v)
    tables: dict[int, _Served] = {}
    for v in range(len(nodes) - 1, -2, -1):
        table: _Served = {0: (np.zeros(batch), np.zeros((batch, m), dtype=np.int64))}
        for t in range(m):
            leaving = np.flatnonzero(sharing.leaf[t] == v)
            if not len(leaving):
                continue
            best = own[t][:, leaving].argmin(axis=1)
            cost, path = own[t][np.arange(batch), leaving[best]], leaving[best]
            for tasks, (sum_, paths) in list(table.items()):
                with_t = paths.copy()
                with_t[:, t] = path
                table[tasks | 1 << t] = (sum_ + cost, with_t)
        for child in children[v]:
            table = _merged(table, tables.pop(child), nodes[child])
        tables[v] = table
    return tables[-1][(1 << m) - 1][1]


def _merged(table: _Served, child: _Served, price: FloatArray) -> _Served:
    """Return the cheaper ways to serve sets of tasks if some of them go on to a child."""
    merged = dict(table)
    for here, (cost, paths) in table.items():
        for there, (cost_there, paths_there) in child.items():
            if not there or here & there:
                continue
            both = cost + price + cost_there
            known = merged.get(here | there)
            moved = np.array([there >> t & 1 for t in range(paths.shape[1])], dtype=bool)
            joint = np.where(moved, paths_there, paths)
            if known is None:
                merged[here | there] = (both, joint)
                continue
            cheaper = both < known[0]
            merged[here | there] = (
                np.where(cheaper, both, known[0]),
                np.where(cheaper[:, None], joint, known[1]),
            )
    return merged


def _in_turns(sharing: Sharing, own: list[FloatArray], nodes: list[FloatArray]) -> IntArray:
    """Return good combinations for large groups: each task answers the others, in turns."""
    m, batch = len(own), len(own[0])
    price = np.array(nodes).reshape(len(nodes), batch)
    through = [rows.T for rows in sharing.through]
    # At first everybody pays a share of each node as if all went through it.
    shares = price.T / m
    first = [(c + shares @ rows).argmin(axis=1) for c, rows in zip(own, through, strict=True)]
    found = np.stack(first, axis=1)
    for _ in range(_TURNS):
        for t in range(m):
            paid = np.zeros((len(nodes), batch), dtype=bool)
            for other in range(m):
                if other != t:
                    paid |= through[other][:, found[:, other]]
            found[:, t] = (own[t] + np.where(paid, 0.0, price).T @ through[t]).argmin(axis=1)
    return found
