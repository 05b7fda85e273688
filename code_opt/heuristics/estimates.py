"""Accuracies as a heuristic expects them before paths are measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from code_opt.core.columns import ColumnTable
from code_opt.core.evaluator import path_of
from code_opt.heuristics.detours import Arcs
from code_opt.paths import TaskPaths
from code_opt.paths.graph import FloatArray, IntArray


class Measurements(Protocol):
    """What is known of the accuracies of paths, and how to learn more."""

    def expected(self, task: int, paths: Sequence[Arcs]) -> FloatArray:
        """Return the accuracies of paths: the measured ones, the others as predicted by now."""

    def measure(self, task: int, path: Arcs) -> bool:
        """Measure a path; return False where no more paths can be measured."""


def corrected(
    predicted: FloatArray, used: FloatArray, errors: FloatArray, used_known: FloatArray
) -> FloatArray:
    """Return predicted accuracies, corrected by the errors of other predictions, shape (n,).

    Each error counts by the share of connections in common (Jaccard index), so that a measurement
    says most about paths like it.

    Args:
        predicted: from the drops alone, of n paths.
        used: which connections the paths use, 0 or 1, shape (n, arcs).
        errors: measured less predicted accuracy of k other paths.
        used_known: which connections these use, shape (k, arcs).
    """
    common = used @ used_known.T
    union = used.sum(axis=1)[:, None] + used_known.sum(axis=1)[None, :] - common
    alike = np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)
    weight = np.maximum(alike.sum(axis=1), 1.0)
    return np.clip(predicted + alike @ errors / weight, 0.0, 1.0)


def expected_accuracies(task: TaskPaths) -> FloatArray:
    """Return the accuracy expected of every path of a task before it is measured, shape (n,).

    Where the task has measured paths, predictions of others are :func:`corrected` by their errors.
    """
    paths = task.paths
    estimate = np.maximum(paths.predicted, 0.0)
    known = task.graph.measured
    if not known:
        return estimate
    errors = [accuracy - path_of(task, arcs).predicted for arcs, accuracy in known.items()]
    used = _connections_used(task, paths.arcs)
    estimate = corrected(estimate, used, np.array(errors), _connections_used(task, list(known)))
    return np.where(paths.measured, paths.accuracy, estimate)


class InstanceMeasurements:
    """Measurements are the instance's measured paths, known only once they are asked for.

    A path that was not asked for has the accuracy predicted from the drops, :func:`corrected` by
    the errors of the predictions of those that were. A path for which the instance has no
    measurement keeps the accuracy predicted from the drops.
    """

    def __init__(self, tasks: Sequence[TaskPaths]) -> None:
        self._tasks = tasks
        self._known: list[dict[Arcs, float]] = [{} for _ in tasks]
        """Accuracies of the paths asked for, by task."""
        self._errors: list[dict[Arcs, float]] = [{} for _ in tasks]
        """Measured less predicted accuracy, by task and path."""

    def expected(self, task: int, paths: Sequence[Arcs]) -> FloatArray:
        """Return the accuracies of paths: the measured ones, the others as predicted by now."""
        of_task, known, errors = self._tasks[task], self._known[task], self._errors[task]
        drop, native = of_task.graph.drop, of_task.task.accuracy
        found = np.array([min(1.0, native - float(drop[list(path)].sum())) for path in paths])
        if errors:
            used, used_known = (_connections_used(of_task, p) for p in (paths, list(errors)))
            found = np.where(
                used.any(axis=1),
                corrected(found, used, np.array(list(errors.values())), used_known),
                found,
            )
        return np.array([known.get(p, a) for p, a in zip(paths, found.tolist(), strict=True)])

    def measure(self, task: int, path: Arcs) -> bool:
        """Learn the accuracy that the instance gives a path."""
        if path not in self._known[task]:
            chosen = path_of(self._tasks[task], path)
            # A prediction below 0 is no accuracy: such a path cannot be taken.
            self._known[task][path] = chosen.accuracy if chosen.is_measured else chosen.predicted
            if chosen.is_measured and _connections_used(self._tasks[task], [path]).any():
                self._errors[task][path] = chosen.accuracy - chosen.predicted
        return True


class AccuracyEstimates:
    """Expected accuracies of a table's columns, replaced by true ones where they are measured."""

    def __init__(self, table: ColumnTable) -> None:
        self._table, pool = table, table.pool
        self._truth = np.concatenate([task.paths.accuracy for task in pool.tasks])
        self._estimate = np.concatenate([expected_accuracies(task) for task in pool.tasks])
        self._is_measured = np.zeros(len(self._truth), dtype=bool)
        first = np.cumsum([0, *(len(task) for task in pool.tasks)])
        width = max(task.size for task in table.joint_tasks)
        self._paths = np.zeros((len(table), width), dtype=np.int64)
        """Paths of each column, through all tasks; padding repeats the first with weight 0."""
        self._weight = np.zeros((len(table), width))
        for t, task in enumerate(table.joint_tasks):
            rows = slice(int(table.first[t]), int(table.first[t + 1]))
            paths = task.paths + first[list(task.group.tasks)]
            self._paths[rows] = paths[:, :1]
            self._paths[rows, : task.size] = paths
            self._weight[rows, : task.size] = task.weights
        self.weighted = self._of(np.arange(len(table)))
        """w[t] A[p] as it is expected now, shape (P,); :meth:`measure` changes entries."""

    @property
    def measured(self) -> int:
        """Number of paths that were measured."""
        return int(self._is_measured.sum())

    def measure(self, columns: IntArray) -> None:
        """Measure the paths of columns: from here on their accuracy is the instance's own."""
        paths = self._paths[columns].ravel()
        if self._is_measured[paths].all():
            return
        self._is_measured[paths] = True
        self._estimate[paths] = self._truth[paths]
        # Other columns of the same groups may hold these paths, too.
        alike = self._table.columns_of_tasks(np.unique(self._table.task[columns]))
        self.weighted[alike] = self._of(alike)

    def _of(self, columns: IntArray) -> FloatArray:
        expected = self._estimate[self._paths[columns]] * self._weight[columns]
        return np.asarray(expected.sum(axis=1))


def _connections_used(task: TaskPaths, paths: Sequence[tuple[int, ...]]) -> FloatArray:
    """Return which connections each path uses, shape (paths, arcs), 0 or 1."""
    used = np.zeros((len(paths), len(task.graph.arcs)))
    for i, arcs in enumerate(paths):
        used[i, [a for a in arcs if task.graph.arcs[a].is_connection]] = 1.0
    return used
