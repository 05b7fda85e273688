"""Accuracies as a heuristic expects them before paths are measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from code_opt.core.columns import ColumnTable
from code_opt.core.evaluator import measured_paths, path_of
from code_opt.paths import TaskPaths
from code_opt.paths.graph import FloatArray, IntArray


def expected_accuracies(task: TaskPaths) -> FloatArray:
    """Return the accuracy expected of every path of a task before it is measured, shape (n,).

    Where the task has measured paths, the prediction of another one is corrected by their
    errors, each weighted by the share of connections it has in common (Jaccard index), so that
    a measurement says most about paths like it.
    """
    paths = task.paths
    estimate = np.maximum(paths.predicted, 0.0)
    known = dict(measured_paths(task))
    if not known:
        return estimate
    used = _connections_used(task, paths.arcs)
    used_known = _connections_used(task, list(known))
    common = used @ used_known.T
    union = used.sum(axis=1)[:, None] + used_known.sum(axis=1)[None, :] - common
    alike = np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)
    error = [accuracy - path_of(task, arcs).predicted for arcs, accuracy in known.items()]
    weight = np.maximum(alike.sum(axis=1), 1.0)
    estimate = np.clip(estimate + alike @ np.array(error) / weight, 0.0, 1.0)
    return np.where(paths.measured, paths.accuracy, estimate)


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
