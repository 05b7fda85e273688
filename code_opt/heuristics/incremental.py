"""Incremental evaluation: one task changes its path while all others keep theirs.

What the groups use is kept, and the rate program (:mod:`code_opt.core.allocation`) stays warm. It
is solved for a path only where bounds leave it open: weak duality at the duals of the last programs
solved (:meth:`code_opt.core.allocation.GroupArrays.profit`).
"""

from __future__ import annotations

import numpy as np

from code_opt.core.evaluator import FIT_TOLERANCE, VIOLATION_WEIGHT, Evaluator
from code_opt.heuristics.estimates import expected_accuracies
from code_opt.heuristics.search import SearchOutcome
from code_opt.paths.graph import FloatArray, IntArray

_MOST_DUALS = 12
"""Duals that are kept, those of the last programs."""
_ROUNDING = 1e-9
"""Excess of bounds, so that rounding hides no better path."""


class IncrementalEvaluator:
    """The present assignment of T tasks in G groups over I resources, and changes of one path.

    Uses are padded to the K resources that a group has at most, as in
    :class:`code_opt.core.allocation.GroupArrays`.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        """Start with no use and no accuracy at all; :meth:`take` sets those of each task."""
        self._allocator, self._groups = evaluator.allocator, evaluator.groups
        self._objective = evaluator.objective.for_search
        self._weights = evaluator.pool.weights
        self._use = np.zeros(self._groups.resource.shape)
        """What one inference of each group uses, shape (G, K)."""
        self._accuracy = np.zeros(len(self._weights))
        self._seconds = np.zeros(len(self._weights))
        self._missed = np.zeros(len(self._weights))
        self._duals: list[FloatArray] = [np.zeros(self._groups.resources)]
        self.least = float(self._groups.size @ self._groups.floor)
        """Throughput when every task runs at its floor [inferences/s]."""
        self.solves = 0
        """Rate programs solved."""

    def take(
        self, task: int, use: FloatArray, accuracy: float, seconds: float, missed: float = 0.0
    ) -> None:
        """Let a task take a path.

        Args:
            task: which one.
            use: of one inference of its group, shape (K,).
            accuracy: of the path.
            seconds: its unloaded time [s].
            missed: by how much the task's own limits are missed, relative.
        """
        self._use[self._groups.of_task[task]] = use
        self._accuracy[task], self._missed[task] = accuracy, missed
        self._seconds[task] = seconds

    def overload(self, group: int, uses: FloatArray) -> FloatArray:
        """Return by how much floors and adapters exceed capacities, summed, for each use.

        Args:
            group: whose use changes.
            uses: n of them, shape (n, K).
        """
        groups = self._groups
        others = self._use.copy()
        others[group] = 0.0
        rest = groups.load(others, groups.floor)
        mine = rest[groups.resource[group]]
        own = uses * np.where(groups.is_rate[group], groups.floor[group], 1.0)
        more = _excess(mine + own) - _excess(mine)  # 0 for padding
        return np.asarray(_excess(rest).sum() + more.sum(axis=1))

    def throughput(self, group: int, use: FloatArray) -> float | None:
        """Return the best throughput for one use of a group, None where the floors do not fit."""
        uses = self._use.copy()
        uses[group] = use
        self.solves += 1
        allocation = self._allocator.allocate(uses)
        if allocation is None:
            return None
        self._duals.append(np.maximum(allocation.dual, 0.0))
        del self._duals[:-_MOST_DUALS]
        return allocation.throughput

    def most(self, group: int, uses: FloatArray, last: int = _MOST_DUALS) -> FloatArray:
        """Return an upper bound on the throughput for each use, shape (n,).

        Args:
            group: whose use changes.
            uses: n of them, shape (n, K).
            last: the duals of so many programs, the last ones, are tried.
        """
        duals = np.array(self._duals[-last:])
        of_all = self._groups.profit(duals, np.arange(len(self._use)), self._use)
        of_all[:, group] = 0.0
        others = duals.sum(axis=1) + of_all.sum(axis=1)
        mine = self._groups.profit(duals, np.full(len(uses), group), uses)
        bound = (others[:, None] + mine).min(axis=0)
        return np.asarray(np.maximum(bound, self.least) * (1.0 + _ROUNDING))

    def merits(
        self,
        task: int,
        accuracy: FloatArray,
        seconds: FloatArray,
        throughput: FloatArray,
        missed: FloatArray,
    ) -> FloatArray:
        """Return the objective less a high cost of what is missed, if a task changes its path.

        Args:
            task: whose path changes.
            accuracy: of its path, shape (n,).
            seconds: unloaded time of its path [s], shape (n,).
            throughput: of the whole edge [inferences/s], shape (n,).
            missed: what the path makes the edge miss, relative, shape (n,).
        """
        weights = self._weights
        others = float(weights @ self._accuracy) - weights[task] * self._accuracy[task]
        average = others + weights[task] * accuracy
        time = float(weights @ self._seconds) + weights[task] * (seconds - self._seconds[task])
        missed = missed + (self._missed.sum() - self._missed[task])
        missed = missed + self._objective.floors_missed(average, throughput)
        values = self._objective.search_values(average, throughput, time)
        return values - VIOLATION_WEIGHT * missed


class PoolEvaluator:
    """Evaluates assignments of a pool; a choice is the number of each task's path, shape (T,)."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator, self._pool = evaluator, evaluator.pool
        self._group_of = evaluator.groups.of_task.tolist()
        self._present = IncrementalEvaluator(evaluator)
        self._choice: IntArray = np.full(len(self._pool.tasks), -1)
        """The assignment evaluated last."""
        self._is_measured = [np.zeros(len(task), dtype=bool) for task in self._pool.tasks]
        self.assignments = self.moves = 0

    def most_accurate(self) -> IntArray:
        """Return for each task the most accurate of its paths (the first of equals)."""
        return np.array([int(np.argmax(expected_accuracies(t))) for t in self._pool.tasks])

    def merit(self, choice: IntArray) -> float:
        """Return the value of an assignment, less a high cost of what it violates."""
        self.assignments += 1
        self._take(choice)
        present, path = self._present, choice[:1]
        use = self._uses(choice, 0, path)
        missed = present.overload(self._group_of[0], use)
        fits = missed[0] == 0.0
        throughput = present.throughput(self._group_of[0], use[0]) if fits else None
        most = np.array([present.least if throughput is None else throughput])
        own = self._pool.tasks[0].paths
        return float(present.merits(0, own.accuracy[path], own.seconds[path], most, missed)[0])

    def most_merits(self, choice: IntArray, task: int) -> FloatArray:
        """Return an upper bound on the merit of each path of a task, the others given.

        Args:
            choice: number of each task's path, shape (T,).
            task: whose paths.

        Returns:
            Shape (number of its paths,).
        """
        self._take(choice)
        own = self._pool.tasks[task].paths
        uses = self._uses(choice, task, np.arange(len(own.accuracy)))
        most = self._present.most(self._group_of[task], uses, last=1)
        nothing = np.zeros(len(most))
        merits = self._present.merits(task, own.accuracy, own.seconds, most, nothing)
        return merits + _ROUNDING

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
        for task in np.flatnonzero(choice != self._choice).tolist():
            path = choice[task : task + 1]
            self._is_measured[task][path] = True
            own, number = self._pool.tasks[task].paths, int(path[0])
            accuracy, seconds = float(own.accuracy[number]), float(own.seconds[number])
            self._present.take(task, self._uses(choice, task, path)[0], accuracy, seconds)
        self._choice = choice.copy()

    def _uses(self, choice: IntArray, task: int, paths: IntArray) -> FloatArray:
        """Return what the group of a task uses with some of its paths, shape (n, K)."""
        number = self._group_of[task]
        group, sharing = self._pool.groups[number], self._pool.sharing[number]
        padded = np.zeros((len(paths), self._evaluator.groups.resource.shape[1]))
        if sharing is None:
            use = self._pool.tasks[task].paths.use[paths]
        else:
            joint = np.tile(choice[list(group.tasks)], (len(paths), 1))
            joint[:, group.tasks.index(task)] = paths
            use = sharing.use_of(joint)
        padded[:, : use.shape[1]] = use
        return padded


def _excess(load: FloatArray) -> FloatArray:
    """Return by how much loads exceed their capacities, as shares of these, elementwise."""
    return np.asarray(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0))
