"""Joint tasks: a task, or an input group treated as one task with joint paths.

Tasks of an input group have one rate and share prefixes, so what one of them gains by a path
depends on the paths of the others. Master programs and searches therefore treat a group as one
task, whose *joint paths* are combinations of its tasks' paths. Where there are few combinations
they are all made, else those that are best at some duals: at random ones first, then at those
of the master (:meth:`JointTask.priced`, which is column generation). The best combination at
given duals is found exactly, by a dynamic program over the trie of shared prefixes and the
subsets of tasks that go through each of its nodes.

The *throughput* of a joint task is its rate times its number of tasks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from code_opt.core.parameters import JointPathParameters
from code_opt.paths import Duals, PathPool, RateGroup, Sharing, TaskPaths
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import nondominated

_DEFAULTS = JointPathParameters()
Arcs = Sequence[tuple[int, ...]] | Mapping[int, tuple[int, ...]]
"""Arcs of the paths of tasks, by task of the instance."""


@dataclass(frozen=True)
class JointTask:
    """A task or an input group: m tasks, n joint paths, k resources."""

    group: RateGroup
    tasks: tuple[TaskPaths, ...]
    sharing: Sharing | None
    """None for a single task."""
    weights: FloatArray
    """w[t] of its tasks, shape (m,)."""
    paths: IntArray
    """Number of each task's path among its own, shape (n, m)."""
    parameters: JointPathParameters = _DEFAULTS
    weighs_time: bool = False
    """Whether joint paths are compared by their times, too."""

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
        return self.sharing.use_of(self.paths)

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

    @cached_property
    def time(self) -> FloatArray:
        """Sum of weight times unloaded time [s], shape (n,)."""
        columns = zip(self.tasks, self.weights.tolist(), self.paths.T, strict=True)
        return np.asarray(sum(w * task.paths.seconds[rows] for task, w, rows in columns))

    @property
    def mean_accuracy(self) -> FloatArray:
        """Accuracy of each joint path, weighted over its tasks, shape (n,)."""
        return self.tasks[0].paths.accuracy if self.sharing is None else self._mean(self.accuracy)

    @property
    def mean_time(self) -> FloatArray:
        """Unloaded time of each joint path [s], weighted over its tasks, shape (n,)."""
        return self.tasks[0].paths.seconds if self.sharing is None else self._mean(self.time)

    def _mean(self, weighted: FloatArray) -> FloatArray:
        total = self.weights.sum()
        return np.asarray(weighted / total if total > 0.0 else np.zeros(len(self)))

    @cached_property
    def most(self) -> FloatArray:
        """Largest throughput of each joint path [inferences/s], shape (n,)."""
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

    def profit(self, duals: Duals) -> FloatArray:
        """Return the profit of the joint paths, shape (n,): their value less what they use."""
        worth = duals.accuracy * self.accuracy - duals.time * self.time
        return self.profit_of(duals, worth, self.use, self.most)

    def profit_of(
        self, duals: Duals, worth: FloatArray, use: FloatArray, most: FloatArray
    ) -> FloatArray:
        """Return the profit of joint paths, given the worth of their accuracies and times.

        Args:
            duals: of the master.
            worth: of accuracies and times at the duals, shape (...).
            use: of the resources when all tasks make one inference, shape (..., k).
            most: largest throughputs [inferences/s], shape (...).
        """
        own = duals.resource[self.resources]
        paid = use @ np.where(self.is_rate_resource, own, 0.0) / self.size
        held = use @ np.where(self.is_rate_resource, 0.0, own)
        margin = duals.throughput - paid
        extra = (most - self.floor) * np.maximum(margin, 0.0)
        # One that cannot run at the floor is never best (k resources, capacities 1).
        limit = np.where(self.is_rate_resource, self.group.floor, 1.0)
        short = np.maximum(use * limit - 1.0, 0.0).sum(axis=-1)
        return np.asarray(
            worth + self.floor * margin + extra - held - self.parameters.shortage * short
        )

    def priced(self, duals: Duals) -> JointTask:
        """Return the joint task with joint paths of large profit added.

        At a given rate r the best one has the least ``r dual use - accuracy A``, subject to
        ``r use <= 1`` for every resource. The duals of these constraints are drawn, and
        the best joint path that comes out is improved by exchanging the paths of two tasks at a
        time as long as that pays (with two tasks this is exact).
        """
        if self.sharing is None or self.is_complete:
            return self
        found = self.with_joint_paths(self._drawn(duals))
        improved = []
        for factor in self.parameters.accuracy_factors:
            changed = replace(duals, accuracy=factor * duals.accuracy)
            start = found.paths[int(found.profit(changed).argmax())]
            improved.append(found._exchanged(changed, start))
        return found.with_joint_paths(np.concatenate(improved))

    def _exchanged(self, duals: Duals, start: IntArray) -> IntArray:
        """Exchange paths of two tasks at a time; return the best joint paths met, (n', m)."""
        assert self.sharing is not None
        present, found = start.copy(), []
        best = -np.inf
        pairs = list(itertools.combinations(range(self.size), 2))
        non_improving, turn = 0, 0
        while non_improving < len(pairs):
            s, t = pairs[turn % len(pairs)]
            turn += 1
            candidates = self._candidates(s), self._candidates(t)
            profit = self._profit_of_pairs(duals, present, (s, t), candidates)
            kept = self.parameters.kept_of_a_pair
            leaders = np.argpartition(-profit, min(kept, profit.size - 1), axis=None)[:kept]
            rows = np.tile(present, (len(leaders), 1))
            one, two = np.unravel_index(leaders, profit.shape)
            rows[:, s], rows[:, t] = candidates[0][one], candidates[1][two]
            found.append(rows)
            top = int(profit.argmax())
            non_improving += 1
            if profit.flat[top] > best + 1e-9 * abs(profit.flat[top]):
                best, non_improving = float(profit.flat[top]), 0
                first, second = np.unravel_index(top, profit.shape)
                present[s], present[t] = candidates[0][first], candidates[1][second]
        return np.concatenate(found)

    def _candidates(self, t: int) -> IntArray:
        """Return the paths of a task that exchanges try: where there are many, those in use."""
        if len(self.tasks[t]) <= self.parameters.exchanged:
            return np.arange(len(self.tasks[t]))
        return np.unique(self.paths[:, t])[: self.parameters.exchanged]

    def _profit_of_pairs(
        self,
        duals: Duals,
        present: IntArray,
        pair: tuple[int, int],
        candidates: tuple[IntArray, IntArray],
    ) -> FloatArray:
        """Return the profit of paths of two tasks together, those of the others being given.

        Args:
            duals: of the master.
            present: a path of each task, shape (m,).
            pair: two tasks.
            candidates: paths of the first one and of the second one, n and n' of them.

        Returns:
            Profit of each combination, shape (n, n').
        """
        assert self.sharing is not None
        s, t = pair
        through, prefix_use = self.sharing.through, self.sharing.prefix_use
        paid = np.zeros(len(prefix_use), dtype=bool)
        use = np.zeros(len(self.resources))
        worth, reach = 0.0, np.inf
        worths = [
            weight * (duals.accuracy * task.paths.accuracy - duals.time * task.paths.seconds)
            for weight, task in zip(self.weights.tolist(), self.tasks, strict=True)
        ]
        for other in range(self.size):
            if other not in (s, t):
                path = int(present[other])
                paid |= through[other][path]
                use += self.sharing.own_use[other][path]
                worth += float(worths[other][path])
                reach = min(reach, float(self.tasks[other].most_rate[path]))
        use += prefix_use[paid].sum(axis=0)
        unpaid = np.where(paid[:, None], 0.0, prefix_use)
        here, there = through[s][candidates[0]], through[t][candidates[1]]
        one = self.sharing.own_use[s][candidates[0]] + here @ unpaid
        two = self.sharing.own_use[t][candidates[1]] + there @ unpaid
        uses = use + one[:, None, :] + two[None, :, :]
        for k in np.flatnonzero(unpaid.any(axis=0)).tolist():
            uses[:, :, k] -= (here * unpaid[:, k]) @ there.T  # what both go through, once
        worth_of_both = worth + np.add.outer(worths[s][candidates[0]], worths[t][candidates[1]])
        reaches = np.minimum.outer(
            self.tasks[s].most_rate[candidates[0]], self.tasks[t].most_rate[candidates[1]]
        )
        most = self.most_at(uses, np.minimum(reaches, reach))
        return self.profit_of(duals, worth_of_both, uses, most)

    def _drawn(self, duals: Duals) -> IntArray:
        """Return the best joint paths at some rates and drawn duals of their limits, (n', m)."""
        assert self.sharing is not None
        count, draws = self.parameters.rates, self.parameters.draws
        rng = np.random.default_rng(len(self))
        most = min(float(task.most_rate.max()) for task in self.tasks)
        rates = np.append(most * np.geomspace(1.0 / 64.0, 1.0, count - 1), self.group.floor)
        rates = np.repeat(rates, draws)[:, None]
        drawn = _few_large(rng, len(rates), len(self.resources))
        drawn *= self.size * duals.throughput * rng.uniform(0.0, 2.0, (len(rates), 1))
        drawn[::draws] = 0.0
        own = duals.resource[self.resources]
        cost = np.where(self.is_rate_resource, rates * (own + drawn), own)
        return self.cheapest(
            cost, np.full(len(rates), duals.accuracy), np.full(len(rates), duals.time)
        )

    @property
    def is_complete(self) -> bool:
        """Whether the joint paths are all that no other one dominates."""
        return self.sharing is None or has_few_joint_paths(self.tasks, self.parameters)

    def cheapest(
        self, cost: FloatArray, accuracy: FloatArray, time: FloatArray | None = None
    ) -> IntArray:
        """Return the best joint paths at B costs, see :func:`cheapest_joint_paths`, (B, m)."""
        assert self.sharing is not None
        return cheapest_joint_paths(
            self.tasks, self.sharing, self.weights, cost, accuracy, self.parameters, time=time
        )

    def having(self, paths: IntArray) -> JointTask:
        """Return a group with other joint paths, given by their tasks' paths, shape (n', m)."""
        return replace(self, paths=paths)

    def arcs(self, number: int) -> dict[int, tuple[int, ...]]:
        """Return the arcs of the paths that a joint path consists of, by task of the instance."""
        triples = zip(self.group.tasks, self.tasks, self.paths[number].tolist(), strict=True)
        return {t: task.paths.arcs_of(path) for t, task, path in triples}

    def number_of(self, arcs: Arcs) -> int | None:
        """Return the joint path that consists of some paths, None if it is not listed.

        Args:
            arcs: of the path of (at least) each of its tasks, by task of the instance.
        """
        paths = self._paths_of(arcs)
        if paths is None or self.sharing is None:
            return None if paths is None else paths[0]
        return self._numbers.get(tuple(paths))

    def listing(self, arcs: Arcs) -> JointTask:
        """Return a joint task that lists what an assignment takes, even if it is dominated."""
        paths = self._paths_of(arcs)
        if self.sharing is None or paths is None or tuple(paths) in self._numbers:
            return self
        return self.having(np.concatenate((self.paths, [paths])))

    def _paths_of(self, arcs: Arcs) -> list[int] | None:
        """Return the number of each task's path, None where one is not in the pool."""
        pairs = zip(self.group.tasks, self.tasks, strict=True)
        numbers = [task.number_of(arcs[t]) for t, task in pairs]
        found = [number for number in numbers if number is not None]
        return found if len(found) == len(numbers) else None

    def subset(self, rows: IntArray) -> JointTask:
        """Return the joint task with some of its joint paths only."""
        if self.sharing is None:
            task = self.tasks[0].subset(rows.tolist())
            return replace(self, tasks=(task,), paths=np.arange(len(rows))[:, None])
        return self.having(self.paths[rows])

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): number for number, row in enumerate(self.paths.tolist())}

    def with_joint_paths(self, paths: IntArray) -> JointTask:
        """Return the joint task with more joint paths, without those that others dominate."""
        present = {tuple(row) for row in self.paths.tolist()}
        new = [row for row in dict.fromkeys(map(tuple, paths.tolist())) if row not in present]
        if not new:
            return self
        more = np.array(new, dtype=np.int64)
        return self.having(np.concatenate((self.paths, more)))._undominated()

    def _undominated(self) -> JointTask:
        time = [self.time] if self.weighs_time else []
        kept = nondominated(np.column_stack((-self.accuracy, self.use, *time)))
        return self.having(self.paths[kept])


def build_joint_tasks(
    pool: PathPool, parameters: JointPathParameters = _DEFAULTS
) -> tuple[JointTask, ...]:
    """Return the tasks and input groups of a pool, by their first tasks; each task has a path."""
    found = []
    for group, sharing in zip(pool.groups, pool.sharing, strict=True):
        tasks = tuple(pool.tasks[t] for t in group.tasks)
        weights = pool.weights[list(group.tasks)]
        by_time = pool.topology.options.weighs_time
        if sharing is None:
            paths = np.arange(len(tasks[0]))[:, None]
            found.append(JointTask(group, tasks, None, weights, paths, parameters, by_time))
            continue
        if has_few_joint_paths(tasks, parameters):
            sizes = [len(task) for task in tasks]
            paths = np.indices(sizes).reshape(len(sizes), -1).T
        else:
            paths = draw_joint_paths(tasks, sharing, weights, parameters)
        joint = JointTask(group, tasks, sharing, weights, paths, parameters, by_time)
        found.append(joint._undominated())
    return tuple(found)


def single_tasks(pool: PathPool) -> tuple[JointTask, ...]:
    """Return every task by itself; what those of an input group share is not told."""
    found = []
    for t, task in enumerate(pool.tasks):
        every = np.arange(len(task.resources))
        group = RateGroup(
            tasks=(t,),
            floor=task.floor,
            demand=task.demand,
            graphs=(task.graph,),
            resources=task.resources,
            is_rate_resource=task.is_rate_resource,
            columns=(every,),
        )
        paths = np.arange(len(task))[:, None]
        found.append(JointTask(group, (task,), None, pool.weights[[t]], paths))
    return tuple(found)


def draw_joint_paths(
    tasks: Sequence[TaskPaths],
    sharing: Sharing,
    weights: FloatArray,
    parameters: JointPathParameters = _DEFAULTS,
) -> IntArray:
    """Return combinations of paths that are best at random duals, each once, shape (n, m).

    Args:
        tasks: m tasks of a group.
        sharing: what their paths have in common.
        weights: w[t] of the tasks, shape (m,).
        parameters: how many duals are drawn.
    """
    return np.unique(_sampled(tasks, sharing, weights, parameters), axis=0)


def has_few_joint_paths(
    tasks: Sequence[TaskPaths], parameters: JointPathParameters = _DEFAULTS
) -> bool:
    """Tell whether all combinations of some tasks' paths are made."""
    return len(tasks) == 1 or math.prod(len(task) for task in tasks) <= parameters.few


def _few_large(rng: np.random.Generator, rows: int, resources: int) -> FloatArray:
    """Return random duals of sum 1, most near 0 and a few large: full servers are few."""
    duals = rng.exponential(size=(rows, resources)) ** 3
    return np.asarray(duals / duals.sum(axis=1, keepdims=True))


def _sampled(
    tasks: Sequence[TaskPaths],
    sharing: Sharing,
    weights: FloatArray,
    parameters: JointPathParameters,
) -> IntArray:
    """Return the combinations that are best at random duals, shape (combinations, m)."""
    samples = parameters.samples
    rng = np.random.default_rng(0)
    typical = sum(use.mean(axis=0) for use in sharing.own_use)
    typical = typical + sum((p.use for p in sharing.prefixes), np.zeros(len(typical)))
    duals = _few_large(rng, samples, len(typical)) / np.where(typical > 0.0, typical, 1.0)
    accuracy = 10.0 ** rng.uniform(-2.0, 3.0, samples) / max(float(weights.sum()), 1e-300)
    found = [cheapest_joint_paths(tasks, sharing, weights, duals, accuracy, parameters, rng)]
    # The extremes: all accuracy, and the least use of each resource.
    duals = np.concatenate((np.zeros((1, len(typical))), np.eye(len(typical))))
    accuracy = np.concatenate(([1.0], np.zeros(len(typical))))
    found.append(cheapest_joint_paths(tasks, sharing, weights, duals, accuracy, parameters))
    return np.concatenate(found)


def cheapest_joint_paths(
    tasks: Sequence[TaskPaths],
    sharing: Sharing,
    weights: FloatArray,
    duals: FloatArray,
    accuracy: FloatArray,
    parameters: JointPathParameters = _DEFAULTS,
    rng: np.random.Generator | None = None,
    time: FloatArray | None = None,
) -> IntArray:
    """Return the combination of paths of least cost less value of accuracy, for B duals.

    It is the best of all in groups of up to ``parameters.most_tasks`` tasks. Exactly these
    combinations lie on the convex hull of all; with ``rng`` the paths' costs are shaken a
    little, so that some behind it are found as well.

    Args:
        tasks: m of them.
        sharing: what their paths have in common.
        weights: of the tasks.
        duals: of the group's resources, shape (B, k).
        accuracy: dual of the accuracy, shape (B,).
        parameters: largest group that is solved exactly, and the noise.
        rng: shakes the costs, if given.
        time: dual of the average time, shape (B,); None: 0.

    Returns:
        Path numbers, shape (B, m).
    """
    own = [
        duals @ use.T - accuracy[:, None] * (weight * task.paths.accuracy)
        for task, use, weight in zip(tasks, sharing.own_use, weights.tolist(), strict=True)
    ]
    nodes = [duals @ prefix.use for prefix in sharing.prefixes]
    if time is not None and time.any():
        for cost, task, weight in zip(own, tasks, weights.tolist(), strict=True):
            cost += time[:, None] * (weight * task.paths.seconds)
    if rng is not None:
        for cost in own:
            cost += (
                parameters.noise
                * np.ptp(cost, axis=1, keepdims=True)
                * rng.standard_normal(cost.shape)
            )
    if len(tasks) <= parameters.most_tasks:
        return _by_subsets(sharing, own, nodes)
    return _in_turns(sharing, own, nodes, parameters.turns)


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


def _merged(table: _Served, child: _Served, cost_of_node: FloatArray) -> _Served:
    """Return the least costs to serve sets of tasks if some of them go on to a child."""
    merged = dict(table)
    for here, (cost, paths) in table.items():
        for there, (cost_there, paths_there) in child.items():
            if not there or here & there:
                continue
            both = cost + cost_of_node + cost_there
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


def _in_turns(
    sharing: Sharing, own: list[FloatArray], nodes: list[FloatArray], turns: int
) -> IntArray:
    """Return good combinations for large groups: each task takes its best path, in turns."""
    m, batch = len(own), len(own[0])
    cost_of_node = np.array(nodes).reshape(len(nodes), batch)
    through = [rows.T for rows in sharing.through]
    # At first everybody pays a share of each node as if all went through it.
    shares = cost_of_node.T / m
    first = [(c + shares @ rows).argmin(axis=1) for c, rows in zip(own, through, strict=True)]
    found = np.stack(first, axis=1)
    for _ in range(turns):
        for t in range(m):
            paid = np.zeros((len(nodes), batch), dtype=bool)
            for other in range(m):
                if other != t:
                    paid |= through[other][:, found[:, other]]
            found[:, t] = (own[t] + np.where(paid, 0.0, cost_of_node).T @ through[t]).argmin(axis=1)
    return found
