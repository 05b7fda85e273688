"""Assignments as flat arrays: their loads, rates and merit, and what is measured of them.

Everything that an assignment costs goes through :meth:`Searcher.load`,
:meth:`Searcher.unavoidable_load` and :meth:`Searcher.evaluate`; who searches knows the options
of units (:mod:`code_opt.methods.units`: a task's paths, or those of an input group's tasks
together) by their numbers only.
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
    path_of,
    paths_of_units,
)
from code_opt.methods.units import Unit
from code_opt.paths import PathPool, TaskPaths
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
    """An assignment (one option of each unit), its rates and its value."""

    choice: IntArray
    rates: FloatArray
    """Throughput of each unit [inferences/s], its floor where the floors do not fit."""
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


def objective_value(judge: Judge, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
    """Return the objective's logarithm (ties: more of the other total), elementwise."""
    a, th = np.maximum(accuracy, 1e-9), np.maximum(throughput, 1e-9)
    objective = judge.settings.objective
    if objective == "throughput":
        return np.asarray(np.log(th) + TIE_WEIGHT * np.log(a))
    if objective == "accuracy":
        return np.asarray(np.log(a) + TIE_WEIGHT * np.log(th))
    reward = judge.pool.instance.reward
    return np.asarray(log_value(reward.accuracy, a) + log_value(reward.throughput, th))


def floors_missed(judge: Judge, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
    """Return by how much floors on the totals are missed, relative."""
    settings = judge.settings
    total = np.zeros(np.broadcast_shapes(accuracy.shape, throughput.shape))
    for least, value in (
        (settings.min_accuracy, accuracy),
        (settings.min_throughput, throughput),
    ):
        if least:
            total = total + np.maximum(0.0, 1.0 - value / least - 1e-9)
    return total


class Searcher:
    """Flat arrays over P options of T units; K is the largest number of resources of a unit.

    A unit is a task, and its options are its paths; or it is an input group, whose options
    are paths of all its tasks (:mod:`code_opt.methods.units`); its rate here is its throughput.
    Rows of the (K, P) arrays are the resources of the option's unit, so two options of one unit
    share them; padding uses 0 of resource 0.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.pool = pool = judge.pool
        self.units: tuple[Unit, ...] = judge.units
        sizes = np.array([len(u) for u in self.units])
        self.first: IntArray = np.cumsum([0, *sizes])
        self.task: IntArray = np.repeat(np.arange(len(sizes)), sizes)
        """Unit of each option, shape (P,)."""
        self.floor = np.array([u.floor for u in self.units])
        """Least throughput of each unit [inferences/s], shape (T,)."""
        self.most = np.concatenate([u.most for u in self.units])
        self.weights = np.array([pool.weights[list(u.group.tasks)].sum() for u in self.units])
        """Share of each unit in the average accuracy, shape (T,)."""
        self.weight = self.weights[self.task]
        self.beliefs = Beliefs(pool, self.units)
        self.estimate = self.beliefs.options(np.arange(len(self.task)))
        self.unit = max(float(self.most.max(initial=0.0)), 1e-12)
        """Unit of rates: the largest of all options [inferences/s]."""
        width = max(1, *(len(u.resources) for u in self.units))
        self.index = np.zeros((width, len(self.task)), dtype=np.int64)
        self.rate_use = np.zeros((width, len(self.task)))
        """Use of servers and links per inference that counts in the throughput, (K, P)."""
        self.need = np.zeros((width, len(self.task)))
        """Load that cannot be avoided: the floor's work and the adapters' memory, (K, P)."""
        for t, unit in enumerate(self.units):
            rows, k = slice(int(self.first[t]), int(self.first[t + 1])), len(unit.resources)
            self.index[:k, rows] = unit.resources[:, None]
            self.rate_use[:k, rows] = np.where(unit.is_rate_resource, unit.use / unit.size, 0.0).T
            per_option = np.where(unit.is_rate_resource, unit.group.floor, 1.0)
            self.need[:k, rows] = (unit.use * per_option).T
        self.moves = self.stages = self.assignments = 0
        self._uses: dict[int, FloatArray] = {}

    def value(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """See :func:`objective_value`."""
        return objective_value(self.judge, accuracy, throughput)

    def violation(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """See :func:`floors_missed`."""
        return floors_missed(self.judge, accuracy, throughput)

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
                rates = allocation.group_throughput
        return self.state(choice, rates)

    def state(self, choice: IntArray, rates: FloatArray) -> State:
        """Return an assignment at given rates, valued by the accuracies estimated now."""
        self.assignments += 1
        load = self.load(choice, rates)
        accuracy = np.array(self.weights @ self.estimate[choice])
        throughput = np.array(rates.sum())
        violation = float(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum())
        violation += float(self.violation(accuracy, throughput))
        value = float(self.value(accuracy, throughput))
        return State(choice, rates, load, float(accuracy), float(throughput), violation, value)

    def _use(self, option: int) -> FloatArray:
        """Return the use of an option; always the same array: the allocator knows it by that."""
        use = self._uses.get(option)
        if use is None:
            unit = int(self.task[option])
            use = self.units[unit].use[option - int(self.first[unit])]
            self._uses[option] = use
        return use

    def ask(self, options: IntArray) -> None:
        """Measure the paths of options: from here on their accuracy is the instance's own."""
        if self.beliefs.ask(options):
            alike = self.options_of(np.unique(self.task[options]))
            self.estimate[alike] = self.beliefs.options(alike)

    def unavoidable_load(self, choice: IntArray) -> FloatArray:
        """Return the load of all resources when every unit runs at its floor."""
        return self.load(choice, self.floor)

    def load(self, choice: IntArray, rates: FloatArray) -> FloatArray:
        """Return the load of all resources as a share of their capacities."""
        load = np.zeros(len(self.pool.resources))
        np.add.at(load, self.index[:, choice], self.loads_of(choice, rates))
        return load

    def loads_of(self, options: IntArray, rates: FloatArray) -> FloatArray:
        """Return how much each option loads the resources of its unit at a rate, (K, options)."""
        extra = rates - self.floor[self.task[options]]
        return np.asarray(self.need[:, options] + self.rate_use[:, options] * extra)

    def options_of(self, units: IntArray) -> IntArray:
        """Return the numbers of all options of some units, unit by unit."""
        return np.concatenate([np.arange(self.first[u], self.first[u + 1]) for u in units.tolist()])

    def best_of_each(self, worth: FloatArray) -> IntArray:
        """Return for each unit its option of greatest worth (the first of equals)."""
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
            measured=int(self.beliefs.asked.sum()),
            moves=self.moves,
            stages=self.stages,
            assignments=self.assignments,
        )

    def chosen(self, choice: IntArray) -> list[ChosenPath]:
        """Return an assignment's paths, by task."""
        return paths_of_units(self.units, (choice - self.first[:-1]).tolist())


class Beliefs:
    """What is known of the accuracies of the pool's paths, and of options made of them.

    Options are numbered through all units, paths through all tasks; an option of a unit with m
    tasks has m paths.
    """

    def __init__(self, pool: PathPool, units: Sequence[Unit] = ()) -> None:
        self.pool = pool
        self._truth = np.concatenate([t.paths.accuracy for t in pool.tasks])
        self._estimate = self._corrected()
        self.asked = np.zeros(len(self._truth), dtype=bool)
        """Which paths of the pool were measured."""
        first = np.cumsum([0, *(len(t) for t in pool.tasks)])
        width = max((u.size for u in units), default=0)
        options = sum(len(u) for u in units)
        self._paths = np.zeros((options, width), dtype=np.int64)
        """Paths of each option; padding repeats the first one with a share of 0."""
        self._share = np.zeros((options, width))
        """Weight of each path's task in its unit."""
        at = 0
        for unit in units:
            rows, tasks = slice(at, at + len(unit)), list(unit.group.tasks)
            weights = pool.weights[tasks]
            total = weights.sum()
            self._paths[rows] = (unit.paths + first[tasks])[:, :1]
            self._paths[rows, : unit.size] = unit.paths + first[tasks]
            self._share[rows, : unit.size] = weights / total if total > 0.0 else 1.0 / unit.size
            at += len(unit)

    def of_task(self, task: int) -> FloatArray:
        """Return the accuracies that are expected of a task's paths."""
        first = sum(len(t) for t in self.pool.tasks[:task])
        return self._estimate[first : first + len(self.pool.tasks[task])]

    def options(self, numbers: IntArray) -> FloatArray:
        """Return the mean accuracy that is expected of options."""
        return np.asarray((self._estimate[self._paths[numbers]] * self._share[numbers]).sum(axis=1))

    def ask(self, numbers: IntArray) -> bool:
        """Measure the paths of options; tell whether any of them was not known before."""
        paths = self._paths[numbers].ravel()
        if self.asked[paths].all():
            return False
        self.asked[paths] = True
        self._estimate[paths] = self._truth[paths]
        return True

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
                used = _connections_used(task, paths.arcs)
                used_known = _connections_used(task, list(known))
                common = used @ used_known.T
                union = used.sum(axis=1)[:, None] + used_known.sum(axis=1)[None, :] - common
                alike = np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)
                error = [v - path_of(task, arcs).predicted for arcs, v in known.items()]
                weight = np.maximum(alike.sum(axis=1), 1.0)
                estimate = np.clip(estimate + alike @ np.array(error) / weight, 0.0, 1.0)
                estimate = np.where(paths.measured, paths.accuracy, estimate)
            estimates.append(estimate)
        return np.concatenate(estimates)


def _connections_used(task: TaskPaths, paths: Sequence[tuple[int, ...]]) -> FloatArray:
    """Return which connections each path uses, shape (paths, arcs), 0 or 1."""
    used = np.zeros((len(paths), len(task.graph.arcs)))
    for i, arcs in enumerate(paths):
        used[i, [a for a in arcs if task.graph.arcs[a].is_connection]] = 1.0
    return used
