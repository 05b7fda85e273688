"""Assignments as flat arrays: their loads, rates and merit, and what is measured of them.

Everything that an assignment costs goes through :meth:`Searcher.load`,
:meth:`Searcher.unavoidable_load` and :meth:`Searcher.evaluate`; who searches knows paths by
their numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.methods.assignment import (
    ChosenPath,
    Judge,
    Solution,
    measured_paths,
    path_in_pool,
    path_of,
)
from code_opt.paths import TaskPaths
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.reward import log_slope, log_value

VIOLATION_WEIGHT = 1e3
"""Merit lost per unit of relative violation: far more than any reward differs by."""
TIE_WEIGHT = 1e-5
"""Weight of the other total where only one is the objective: equal ones are told apart."""
LEAST_GAIN = 1e-7
"""Gain of merit below which a move does not count as one."""
FIT_TOLERANCE = 1e-8
"""Excess of a capacity, as a share of it, that rounding explains."""


@dataclass(frozen=True)
class SearchOutcome:
    """What the search found and what it cost."""

    solution: Solution | None
    predicted: int
    """Paths whose accuracy was predicted."""
    measured: int
    """Paths whose measurement was asked for (each once)."""
    moves: int
    """Changes of the assignment that were kept."""
    stages: int
    """Turns in which services answered anew."""
    assignments: int
    """Assignments whose value was worked out."""


@dataclass(frozen=True)
class State:
    """An assignment (one path number per task), its rates and its value."""

    choice: IntArray
    rates: FloatArray
    """Rates [inferences/s], the floors where those do not fit."""
    load: FloatArray
    """Load of each resource as a share of its capacity."""
    accuracy: float
    throughput: float
    violation: float
    value: float

    @property
    def merit(self) -> float:
        """The value, less a heavy price for every requirement that is missed."""
        return self.value - VIOLATION_WEIGHT * self.violation


class Searcher:
    """Flat arrays over the P paths of a pool; K is the largest number of resources of a task.

    Rows of the (K, P) arrays are the resources of the path's task, so two paths of one task
    share them; padding uses 0 of resource 0.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.pool = pool = judge.pool
        sizes = np.array([len(t) for t in pool.tasks])
        self.first: IntArray = np.cumsum([0, *sizes])
        self.task: IntArray = np.repeat(np.arange(len(sizes)), sizes)
        self.floor = np.array([t.floor for t in pool.tasks])
        self.most = np.concatenate([t.most_rate for t in pool.tasks])
        self.weight = pool.weights[self.task]
        self.truth = np.concatenate([t.paths.accuracy for t in pool.tasks])
        self.asked = np.zeros(len(self.truth), dtype=bool)
        """Which paths were measured."""
        self.estimate = self._corrected()
        self.unit = max(float(self.most.max(initial=0.0)), 1e-12)
        """Unit of rates: the largest of all paths [inferences/s]."""
        width = max(1, *(len(t.resources) for t in pool.tasks))
        self.index = np.zeros((width, len(self.task)), dtype=np.int64)
        self.rate_use = np.zeros((width, len(self.task)))
        """Use of servers and links per inference, (K, P)."""
        self.need = np.zeros((width, len(self.task)))
        """Load that cannot be avoided: the floor's work and the adapters' memory, (K, P)."""
        for t, task in enumerate(pool.tasks):
            rows, k = slice(int(self.first[t]), int(self.first[t + 1])), len(task.resources)
            self.index[:k, rows] = task.resources[:, None]
            self.rate_use[:k, rows] = np.where(task.is_rate_resource, task.paths.use, 0.0).T
            per_path = np.where(task.is_rate_resource, self.floor[t], 1.0)
            self.need[:k, rows] = (task.paths.use * per_path).T
        self.moves = self.stages = self.assignments = 0
        self._uses: dict[int, FloatArray] = {}

    def _corrected(self) -> FloatArray:
        """Return the accuracy expected of every path before it is measured.

        Where the task has measured paths, the prediction of another one is corrected by
        their errors, each weighted by the share of connections it has in common
        (Jaccard), so that a measurement says most about paths like it.
        """
        estimates = []
        for task in self.pool.tasks:
            paths = task.paths
            estimate = np.maximum(paths.predicted, 0.0)
            known = dict(measured_paths(task))
            if known:
                used = self._connections_used(task, paths.arcs)
                used_known = self._connections_used(task, list(known))
                common = used @ used_known.T
                union = used.sum(axis=1)[:, None] + used_known.sum(axis=1)[None, :] - common
                alike = np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)
                error = [v - path_of(task, arcs).predicted for arcs, v in known.items()]
                weight = np.maximum(alike.sum(axis=1), 1.0)
                estimate = np.clip(estimate + alike @ np.array(error) / weight, 0.0, 1.0)
                estimate = np.where(paths.measured, paths.accuracy, estimate)
            estimates.append(estimate)
        return np.concatenate(estimates)

    @staticmethod
    def _connections_used(task: TaskPaths, paths: Sequence[tuple[int, ...]]) -> FloatArray:
        """Return which connections each path uses, shape (paths, arcs), 0 or 1."""
        used = np.zeros((len(paths), len(task.graph.arcs)))
        for i, arcs in enumerate(paths):
            used[i, [a for a in arcs if task.graph.arcs[a].is_connection]] = 1.0
        return used

    def value(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """Return the objective's logarithm (ties: more of the other total), elementwise."""
        a, th = np.maximum(accuracy, 1e-9), np.maximum(throughput, 1e-9)
        objective = self.judge.settings.objective
        if objective == "throughput":
            return np.asarray(np.log(th) + TIE_WEIGHT * np.log(a))
        if objective == "accuracy":
            return np.asarray(np.log(a) + TIE_WEIGHT * np.log(th))
        reward = self.pool.instance.reward
        return np.asarray(log_value(reward.accuracy, a) + log_value(reward.throughput, th))

    def violation(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """Return by how much floors on the totals are missed, relative."""
        settings = self.judge.settings
        total = np.zeros(np.broadcast_shapes(accuracy.shape, throughput.shape))
        for least, value in (
            (settings.min_accuracy, accuracy),
            (settings.min_throughput, throughput),
        ):
            if least:
                total = total + np.maximum(0.0, 1.0 - value / least - 1e-9)
        return total

    def slopes(self, accuracy: float, throughput: float) -> tuple[float, float]:
        """Return d objective / dA and d objective / dTh (per inference/s), in the log domain."""
        a, th = max(accuracy, 1e-6), max(throughput, 1e-6 * self.unit)
        objective = self.judge.settings.objective
        if objective == "throughput":
            return TIE_WEIGHT / a, 1.0 / th
        if objective == "accuracy":
            return 1.0 / a, TIE_WEIGHT / th
        reward = self.pool.instance.reward
        return log_slope(reward.accuracy, a), log_slope(reward.throughput, th)

    def evaluate(self, choice: IntArray) -> State:
        """Return an assignment at its best rates; its paths are asked for their measurements.

        The floors fit exactly when the load that cannot be avoided does, so the rate
        program is only solved where it has a solution.
        """
        self.ask(choice)
        rates = self.floor
        if (self.unavoidable_load(choice) <= 1.0 + FIT_TOLERANCE).all():
            allocation = self.judge.allocator.allocate([self._use(p) for p in choice.tolist()])
            if allocation is not None:
                rates = allocation.rates
        return self.state(choice, rates)

    def state(self, choice: IntArray, rates: FloatArray) -> State:
        """Return an assignment at given rates, valued by the accuracies estimated now."""
        self.assignments += 1
        load = self.load(choice, rates)
        accuracy = np.array(self.pool.weights @ self.estimate[choice])
        throughput = np.array(rates.sum())
        violation = float(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum())
        violation += float(self.violation(accuracy, throughput))
        value = float(self.value(accuracy, throughput))
        return State(choice, rates, load, float(accuracy), float(throughput), violation, value)

    def _use(self, path: int) -> FloatArray:
        """Return the use of a path; always the same array, by which the allocator knows it."""
        use = self._uses.get(path)
        if use is None:
            task = int(self.task[path])
            use = self.pool.tasks[task].paths.use[path - int(self.first[task])]
            self._uses[path] = use
        return use

    def ask(self, paths: IntArray) -> None:
        """Measure paths: from here on their accuracy is the instance's own."""
        self.asked[paths] = True
        self.estimate[paths] = self.truth[paths]

    def unavoidable_load(self, choice: IntArray) -> FloatArray:
        """Return the load of all resources when every task runs at its floor."""
        return self.load(choice, self.floor)

    def load(self, choice: IntArray, rates: FloatArray) -> FloatArray:
        """Return the load of all resources as a share of their capacities."""
        load = np.zeros(len(self.pool.resources))
        np.add.at(load, self.index[:, choice], self.loads_of(choice, rates))
        return load

    def loads_of(self, paths: IntArray, rates: FloatArray) -> FloatArray:
        """Return how much each path loads the resources of its task at a rate, (K, paths)."""
        extra = rates - self.floor[self.task[paths]]
        return np.asarray(self.need[:, paths] + self.rate_use[:, paths] * extra)

    def paths_of(self, tasks: IntArray) -> IntArray:
        """Return the numbers of all paths of some tasks, task by task."""
        return np.concatenate([np.arange(self.first[t], self.first[t + 1]) for t in tasks.tolist()])

    def most_accurate(self) -> IntArray:
        """Return for each task its most accurate path (the first of equals)."""
        return self.best_of_each(self.estimate)

    def best_of_each(self, worth: FloatArray) -> IntArray:
        """Return for each task its path of greatest worth (the first of equals)."""
        best = np.maximum.reduceat(worth, self.first[:-1])
        hits = np.flatnonzero(worth == best[self.task])
        task = self.task[hits]
        return np.asarray(hits[np.concatenate(([True], task[1:] != task[:-1]))])

    @staticmethod
    def is_better(state: State, other: State) -> bool:
        """Tell whether the first assignment is better by more than rounding."""
        return state.merit > other.merit + LEAST_GAIN

    def outcome(self, state: State) -> SearchOutcome:
        """Return an assignment as the outcome of a search."""
        return SearchOutcome(
            solution=self.judge.solution(self.chosen(state.choice)),
            predicted=self.pool.size,
            measured=int(self.asked.sum()),
            moves=self.moves,
            stages=self.stages,
            assignments=self.assignments,
        )

    def chosen(self, choice: IntArray) -> list[ChosenPath]:
        """Return an assignment's paths."""
        numbers = (choice - self.first[:-1]).tolist()
        return [path_in_pool(t, number) for t, number in zip(self.pool.tasks, numbers, strict=True)]
