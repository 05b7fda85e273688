"""Assignments tried one after another, each valued as it is.

Successive trials differ in few paths: what the others use is kept, and the rate program stays
warm. The duals of the last one bound what any other path could bring (weak duality), so that a
search need not solve a linear program for each.
"""

from __future__ import annotations

import numpy as np

from code_opt.methods.assignment import ChosenPath, Judge, path_in_pool
from code_opt.methods.local_search import (
    FIT_TOLERANCE,
    VIOLATION_WEIGHT,
    Beliefs,
    SearchOutcome,
    floors_missed,
    objective_value,
)
from code_opt.paths import RateGroup
from code_opt.paths.graph import FloatArray, IntArray

_ROUNDING = 1e-9
"""Added to bounds on merits, so that rounding never hides a better path."""


class Trials:
    """Values assignments of T tasks in G groups; a choice is the number of each task's path."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self._pool = judge, judge.pool
        groups = self._pool.groups
        self._paths: dict[tuple[int, int], ChosenPath] = {}
        self._use_by_choice: dict[tuple[int, ...], FloatArray] = {}
        self._group_of = {t: g for g, group in enumerate(groups) for t in group.tasks}
        self._prices = np.zeros(len(self._pool.resources))
        """Duals of the capacities where rates were allocated last."""
        # Of the assignment tried last: paths, accuracies, and what groups use, padded with 0.
        self._choice: IntArray = np.full(len(self._pool.tasks), -1)
        self._chosen: list[ChosenPath | None] = [None] * len(self._pool.tasks)
        self._uses: list[FloatArray] = [np.zeros(len(g.resources)) for g in groups]
        self._accuracy = np.zeros(len(self._pool.tasks))
        width = max((len(g.resources) for g in groups), default=0)
        self._resource = np.zeros((len(groups), width), dtype=np.int64)
        self._is_rate = np.zeros((len(groups), width), dtype=bool)
        self._use = np.zeros((len(groups), width))
        for g, group in enumerate(groups):
            self._resource[g, : len(group.resources)] = group.resources
            self._is_rate[g, : len(group.resources)] = group.is_rate_resource
        self._size = np.array([float(len(g.tasks)) for g in groups])
        self._floor = np.array([g.floor for g in groups])
        self._demand = np.array([g.demand for g in groups])
        self._least = float(self._size @ self._floor)
        self.assignments = self.moves = 0

    def most_accurate(self) -> IntArray:
        """Return for each task the most accurate of its paths (the first of equals)."""
        beliefs = Beliefs(self._pool)
        count = len(self._pool.tasks)
        return np.array([int(np.argmax(beliefs.of_task(t))) for t in range(count)])

    def merit(self, choice: IntArray) -> float:
        """Return the value of an assignment, less a heavy price for what it violates.

        Args:
            choice: number of each task's path, shape (T,).
        """
        self.assignments += 1
        self._take(choice)
        load = self._load_at_floors()
        violation = float(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum())
        allocation = None
        if violation == 0.0:
            allocation = self._judge.allocator.allocate(self._uses)
            if allocation is not None:
                self._prices = np.maximum(allocation.price, 0.0)
        accuracy = np.array(float(self._pool.weights @ self._accuracy))
        throughput = np.array(self._least if allocation is None else allocation.throughput)
        violation += float(floors_missed(self._judge, accuracy, throughput))
        value = float(objective_value(self._judge, accuracy, throughput))
        return value - VIOLATION_WEIGHT * violation

    def most_merits(self, choice: IntArray, task: int) -> FloatArray:
        """Return an upper bound on the merit of each path of a task, the others given.

        At any prices pi >= 0 of the capacities, weak duality bounds the throughput of the rate
        program by sum_i pi[i] + sum_g max over r of (m[g] - sum_i pi[i] use[g,i]) r, with r from
        the floor of group g to the most that its demand and the capacities allow (m[g]: number
        of its tasks). The prices of the last allocation are taken.

        Args:
            choice: number of each task's path, shape (T,).
            task: whose paths.

        Returns:
            Shape (number of its paths,).
        """
        self._take(choice)
        group, own = self._group_of[task], self._pool.tasks[task].paths
        others = self._worth(np.arange(len(self._uses)), self._use)
        options = self._options(choice, task)
        numbers = np.full(len(options), group)
        throughput = self._prices.sum() + others.sum() - others[group]
        throughput = throughput + self._worth(numbers, options)
        # An assignment whose floors do not fit is valued at them.
        throughput = np.maximum(throughput, self._least) * (1.0 + _ROUNDING)
        weights = self._pool.weights
        accuracy = float(weights @ self._accuracy) - weights[task] * self._accuracy[task]
        accuracy = accuracy + weights[task] * own.accuracy
        violation = floors_missed(self._judge, accuracy, throughput)
        value = objective_value(self._judge, accuracy, throughput)
        return np.asarray(value - VIOLATION_WEIGHT * violation) + _ROUNDING

    def outcome(self, choice: IntArray) -> SearchOutcome:
        """Return an assignment as the outcome of a search."""
        self._take(choice)
        return SearchOutcome(
            solution=self._judge.solution([p for p in self._chosen if p is not None]),
            predicted=self._pool.size,
            measured=len(self._paths),
            moves=self.moves,
            stages=0,
            assignments=self.assignments,
        )

    def _take(self, choice: IntArray) -> None:
        """Go from the assignment tried last to another one."""
        changed = np.flatnonzero(choice != self._choice).tolist()
        if not changed:
            return
        for task in changed:
            path = self._path(task, int(choice[task]))
            self._chosen[task] = path
            self._accuracy[task] = path.accuracy
        self._choice = choice.copy()
        for g in dict.fromkeys(self._group_of[task] for task in changed):
            group = self._pool.groups[g]
            use = self._use_of(group, choice)
            self._uses[g] = use
            self._use[g, : len(use)] = use

    def _path(self, task: int, number: int) -> ChosenPath:
        if (task, number) not in self._paths:
            self._paths[task, number] = path_in_pool(self._pool.tasks[task], number)
        return self._paths[task, number]

    def _use_of(self, group: RateGroup, choice: IntArray) -> FloatArray:
        """Return what a group uses; the same choice gives the same array."""
        key = (group.tasks[0], *(int(choice[t]) for t in group.tasks))
        if key not in self._use_by_choice:
            paths = {t: path_in_pool(self._pool.tasks[t], int(choice[t])) for t in group.tasks}
            self._use_by_choice[key] = self._judge.use_of(group, paths)
        return self._use_by_choice[key]

    def _options(self, choice: IntArray, task: int) -> FloatArray:
        """Return what the group of a task uses by each of its paths, padded, shape (n, K)."""
        group = self._pool.groups[self._group_of[task]]
        own = self._pool.tasks[task].paths
        padded = np.zeros((len(own.accuracy), self._use.shape[1]))
        if not group.is_shared:
            padded[:, : own.use.shape[1]] = own.use
            return padded
        trial = choice.copy()
        for number in range(len(padded)):
            trial[task] = number
            use = self._use_of(group, trial)
            padded[number, : len(use)] = use
        return padded

    def _load_at_floors(self) -> FloatArray:
        """Return the load of every resource (as a share of it) if all rates are the floors."""
        rate = np.where(self._is_rate, self._floor[:, None], 1.0)
        count = len(self._prices)
        loads = np.bincount(self._resource.ravel(), (self._use * rate).ravel(), minlength=count)
        return np.asarray(loads, dtype=np.float64)

    def _worth(self, groups: IntArray, use: FloatArray) -> FloatArray:
        """Return the terms of the dual bound of n groups with uses (n, K), shape (n,)."""
        used = np.where(self._is_rate[groups], use, 0.0)
        largest = used.max(axis=1, initial=0.0)
        with np.errstate(divide="ignore"):
            most = np.where(largest > 0.0, (1.0 + FIT_TOLERANCE) / largest, np.inf)
        floor = self._floor[groups]
        most = np.maximum(np.minimum(most, self._demand[groups]), floor)
        gain = self._size[groups] - (used * self._prices[self._resource[groups]]).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.where(gain > 0.0, gain * most, gain * floor)
