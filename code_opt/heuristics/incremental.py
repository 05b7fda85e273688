"""Incremental evaluation: assignments of which successive ones differ in few paths.

What the other tasks use is kept, and the rate program stays warm. The duals of the last one bound
the merit that any other path could bring (weak duality), so that a search need not solve a linear
program for each.
"""

from __future__ import annotations

import numpy as np

from code_opt.core.evaluator import VIOLATION_WEIGHT, Evaluator
from code_opt.core.joint_tasks import JointTask
from code_opt.heuristics.estimates import expected_accuracies
from code_opt.heuristics.search import SearchOutcome
from code_opt.paths.graph import FloatArray, IntArray

_ROUNDING = 1e-9
"""Added to bounds on merits, so that rounding never hides a better path."""


class IncrementalEvaluator:
    """Evaluates assignments of T tasks in G groups; a choice is the number of each task's path."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator, self._pool = evaluator, evaluator.pool
        self._objective, self._groups = evaluator.objective.for_search, evaluator.groups
        pool = evaluator.pool
        self._joint_tasks = [
            JointTask(
                group,
                tuple(pool.tasks[t] for t in group.tasks),
                sharing,
                pool.weights[list(group.tasks)],
                np.empty((0, len(group.tasks)), dtype=np.int64),
            )
            for group, sharing in zip(pool.groups, pool.sharing, strict=True)
        ]
        """Of every group; joint paths are made as they are asked for."""
        self._is_measured = [np.zeros(len(task), dtype=bool) for task in pool.tasks]
        self._duals = np.zeros(len(pool.resources))
        """Duals of the capacities where rates were allocated last."""
        # The assignment evaluated last: paths, accuracies, and what groups use, shape (G, K).
        self._choice: IntArray = np.full(len(pool.tasks), -1)
        self._accuracy = np.zeros(len(pool.tasks))
        self._use = np.zeros(self._groups.resource.shape)
        self._least = float(self._groups.size @ self._groups.floor)
        self.assignments = self.moves = 0

    def most_accurate(self) -> IntArray:
        """Return for each task the most accurate of its paths (the first of equals)."""
        return np.array([int(np.argmax(expected_accuracies(t))) for t in self._pool.tasks])

    def merit(self, choice: IntArray) -> float:
        """Return the value of an assignment, less a high cost of what it violates.

        Args:
            choice: number of each task's path, shape (T,).
        """
        self.assignments += 1
        self._take(choice)
        violation = Evaluator.overload(self._groups.load(self._use, self._groups.floor))
        allocation = None
        if violation == 0.0:
            allocation = self._evaluator.allocator.allocate(self._use)
            if allocation is not None:
                self._duals = np.maximum(allocation.dual, 0.0)
        accuracy = np.array(float(self._pool.weights @ self._accuracy))
        throughput = np.array(self._least if allocation is None else allocation.throughput)
        violation += float(self._objective.floors_missed(accuracy, throughput))
        value = float(self._objective.log_values(accuracy, throughput))
        return value - VIOLATION_WEIGHT * violation

    def most_merits(self, choice: IntArray, task: int) -> FloatArray:
        """Return an upper bound on the merit of each path of a task, the others given.

        The throughput is bounded at the duals of the last allocation, see
        :meth:`code_opt.core.allocation.GroupArrays.profit`.

        Args:
            choice: number of each task's path, shape (T,).
            task: whose paths.

        Returns:
            Shape (number of its paths,).
        """
        self._take(choice)
        group, own = int(self._groups.of_task[task]), self._pool.tasks[task].paths
        duals = self._duals[None, :]
        others = self._groups.profit(duals, np.arange(len(self._use)), self._use)[0]
        use = self._alternatives(choice, task)
        throughput = self._duals.sum() + others.sum() - others[group]
        throughput = throughput + self._groups.profit(duals, np.full(len(use), group), use)[0]
        # An assignment whose floors do not fit is valued at them.
        throughput = np.maximum(throughput, self._least) * (1.0 + _ROUNDING)
        weights = self._pool.weights
        accuracy = float(weights @ self._accuracy) - weights[task] * self._accuracy[task]
        accuracy = accuracy + weights[task] * own.accuracy
        violation = self._objective.floors_missed(accuracy, throughput)
        value = self._objective.log_values(accuracy, throughput)
        return np.asarray(value - VIOLATION_WEIGHT * violation) + _ROUNDING

    def outcome(self, choice: IntArray) -> SearchOutcome:
        """Return an assignment as the outcome of a search."""
        self._take(choice)
        return SearchOutcome(
            solution=self._evaluator.solution(self._evaluator.paths(choice)),
            predicted=self._pool.size,
            measured=sum(int(measured.sum()) for measured in self._is_measured),
            moves=self.moves,
            assignments=self.assignments,
        )

    def _take(self, choice: IntArray) -> None:
        """Go from the assignment evaluated last to another one."""
        changed = np.flatnonzero(choice != self._choice)
        for task in changed.tolist():
            path = int(choice[task])
            self._is_measured[task][path] = True
            self._accuracy[task] = self._pool.tasks[task].paths.accuracy[path]
        self._choice = choice.copy()
        for g in np.unique(self._groups.of_task[changed]).tolist():
            tasks = list(self._joint_tasks[g].group.tasks)
            self._use[g] = self._use_of(g, choice[tasks][None, :])[0]

    def _alternatives(self, choice: IntArray, task: int) -> FloatArray:
        """Return what the group of a task uses with each of its paths, shape (n, K)."""
        group = int(self._groups.of_task[task])
        tasks = self._joint_tasks[group].group.tasks
        paths = np.tile(choice[list(tasks)], (len(self._pool.tasks[task]), 1))
        paths[:, tasks.index(task)] = np.arange(len(paths))
        return self._use_of(group, paths)

    def _use_of(self, group: int, paths: IntArray) -> FloatArray:
        """Return what a group uses by joint paths, shape (n, K); paths has shape (n, m)."""
        joint_task = self._joint_tasks[group]
        padded = np.zeros((len(paths), self._use.shape[1]))
        if joint_task.sharing is None:
            use = joint_task.tasks[0].paths.use[paths[:, 0]]
        else:
            use = joint_task.having(paths).use
        padded[:, : use.shape[1]] = use
        return padded
