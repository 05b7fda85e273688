"""The master program of column generation: the relaxation of ``path``, column by column.

In ``path`` the pair ``(x[p], u[p])`` lies in the triangle ``0 <= u <= x <= 1``, whose corners
other than 0 are (1, 0) and (1, 1). So ``x = v + e``, ``u = e`` with ``v, e >= 0``: a path run
at its floor rate (``v``) or at R (``e``). That is the same linear relaxation without a row for
every path (Dantzig and Wolfe, Operations Research 8, 1960, DOI 10.1287/opre.8.1.101), so that a
path that enters later adds columns only. It is stated in arrays (:mod:`formulations.arrays`), since
paths enter by the thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from formulations.arrays import ArrayProgram, FloatArray, IntArray, LinearArrays
from formulations.data import Goal


@dataclass(frozen=True)
class MasterData:
    """T tasks and I resources (servers, links, memories); paths come later."""

    weight: FloatArray
    """w[t], shape (T,)."""
    floor: FloatArray
    """f[t] [inferences/s], shape (T,)."""
    most_rate: FloatArray
    """R[t]: the largest rate of any path of each task [inferences/s], shape (T,)."""
    resources: int
    """I."""
    goal: Goal = field(default_factory=Goal)


@dataclass(frozen=True)
class MasterColumns:
    """k paths that enter the master, with their entries in the rows of resources and cuts."""

    task: IntArray
    """t(p), shape (k,)."""
    accuracy: FloatArray
    """w[t] A[p], shape (k,)."""
    time: FloatArray
    """w[t] T[p] [s], shape (k,)."""
    extra: FloatArray
    """R[p] - f[t(p)] [inferences/s], shape (k,)."""
    row: IntArray
    """Row of each entry."""
    path: IntArray
    """Place of the path of each entry among the k."""
    at_floor: FloatArray
    """Coefficient of the path at its floor rate (of x in a cut)."""
    more: FloatArray
    """What is added to it at R (of u in a cut)."""


class MasterProgram:
    """Numbers of the master's rows and columns, and its statement."""

    def __init__(self, data: MasterData, is_named: bool = False) -> None:
        self.data = data
        self.program = program = ArrayProgram(is_named)
        self.missing, self.average_accuracy, self.throughput, self.logs = self._variables(data)
        self.one = self.one_path_per_task()
        self.capacity = program.constraints("capacity", data.resources, -np.inf, 1.0)
        self.accuracy_row = self.average_accuracy_definition()
        self.throughput_row = self.throughput_definition()

    def arrays(self) -> LinearArrays:
        """Return the program without any path; tangents have to follow where it has a reward."""
        return self.program.arrays()

    def _variables(self, data: MasterData) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Shares m[t] that no path serves; A and Th within bounds; log xi and log zeta, free.

        m[t] is fixed to 0 but for a proof of infeasibility and while an assignment is sought.
        The objective is log xi + log zeta, Th, A, or minus D, which :meth:`cost` puts on the
        paths; floors on the totals are bounds.
        """
        goal, unit = data.goal, data.goal.throughput_unit
        variables = self.program.variables
        missing = variables("missing", len(data.weight), upper=0.0)
        average_accuracy = variables(
            "average_accuracy",
            1,
            lower=goal.min_accuracy or 0.0,
            upper=1.0,
            cost=float(goal.objective == "accuracy"),
        )
        throughput = variables(
            "throughput",
            1,
            lower=(goal.min_throughput or 0.0) / unit,
            upper=float(data.most_rate.sum()) / unit,
            cost=float(goal.objective == "throughput"),
        )
        terms = 2 if goal.objective == "reward" else 0
        logs = variables("log_reward", terms, lower=-np.inf, cost=1.0)
        return missing, average_accuracy, throughput, logs

    def one_path_per_task(self) -> IntArray:
        """sum over p of t: (v[p] + e[p]) + m[t] = 1."""
        rows = self.program.constraints("one_path_per_task", len(self.data.weight), 1.0, 1.0)
        self.program.add(rows, self.missing, 1.0)
        return rows

    def average_accuracy_definition(self) -> IntArray:
        """sum over p: w[t(p)] A[p] (v[p] + e[p]) + sum over t: w[t] m[t] - A = 0."""
        row = self.program.constraints("average_accuracy_definition", 1, 0.0, 0.0)
        self.program.add(row, self.missing, self.data.weight)
        self.program.add(row, self.average_accuracy, -1.0)
        return row

    def throughput_definition(self) -> IntArray:
        """sum over p: (R[p] - f[t(p)]) e[p] + sum over t: (R[t] - f[t]) m[t] - Th = -sum of floors.

        A task that is missing counts with the largest rate and all accuracy, so that floors on
        the totals are no reason for it to be missing.
        """
        data, unit = self.data, self.data.goal.throughput_unit
        base = -float(data.floor.sum()) / unit
        row = self.program.constraints("throughput_definition", 1, base, base)
        self.program.add(row, self.missing, (data.most_rate - data.floor) / unit)
        self.program.add(row, self.throughput, -1.0)
        return row

    def path_columns(
        self, new: MasterColumns
    ) -> tuple[IntArray, int, IntArray, IntArray, FloatArray]:
        """v[p] and e[p] of paths that enter, in all rows; e[p] only where R[p] > f[t(p)].

        Returns:
            Number of each path's column at R behind the k columns at the floor (-1: none),
            shape (k,); the number of columns; then their entries, compressed: where those of each
            column begin, rows and values.
        """
        k = len(new.task)
        rated = np.flatnonzero(new.extra > 0.0)
        at_most = np.full(k, -1)
        at_most[rated] = k + np.arange(len(rated))
        path = np.concatenate((new.path, np.arange(k), np.arange(k), rated))
        row = np.concatenate(
            (
                new.row,
                self.one[new.task],
                np.repeat(self.accuracy_row, k),
                np.repeat(self.throughput_row, len(rated)),
            )
        )
        unit = self.data.goal.throughput_unit
        low = np.concatenate((new.at_floor, np.ones(k), new.accuracy, np.zeros(len(rated))))
        more = np.concatenate((new.more, np.zeros(2 * k), new.extra[rated] / unit))
        has_high = at_most[path] >= 0
        column = np.concatenate((path, at_most[path[has_high]]))
        row = np.concatenate((row, row[has_high]))
        value = np.concatenate((low, (low + more)[has_high]))
        order = np.lexsort((row, column))
        order = order[value[order] != 0.0]
        count = k + len(rated)
        starts = np.searchsorted(column[order], np.arange(count))
        return at_most, count, starts, row[order], value[order]

    def cost(self, new: MasterColumns) -> FloatArray:
        """-w[t] T[p] / unit for v[p], then for e[p], where D is minimised; else 0."""
        cost = -new.time / self.data.goal.time_unit
        if self.data.goal.objective != "latency":
            cost = np.zeros(len(new.time))
        return np.concatenate((cost, cost[new.extra > 0.0]))

    def tangent(
        self, term: str, at: float, log_value: float, log_slope: float
    ) -> tuple[float, IntArray, FloatArray]:
        """log_term - log_slope * x <= log_value - log_slope * at, for x = A or Th / unit.

        Args:
            term: ``accuracy`` or ``throughput``.
            at: where the tangent touches, in the unit of the variable.
            log_value: logarithm of the term there.
            log_slope: its slope there, per unit of the variable.

        Returns:
            Right-hand side, columns and coefficients.
        """
        place = 0 if term == "accuracy" else 1
        x = (self.average_accuracy, self.throughput)[place]
        columns = np.concatenate((self.logs[place : place + 1], x))
        return log_value - log_slope * at, columns, np.array([1.0, -log_slope])
