"""All paths of a pool as columns: sparse arrays, and what duals prove about them.

A column is a path of a task, or a joint path of an input group treated as one task
(:mod:`code_opt.core.joint_tasks`). Master programs, searches and bounds know columns by their
numbers only, so the table is built once and passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from code_opt.core.bounds import largest_rate
from code_opt.core.joint_tasks import JointTask, build_joint_tasks
from code_opt.core.objective import ObjectiveFunction
from code_opt.paths import Duals, PathPool
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray


class ColumnTable:
    """P columns of T joint tasks over I resources, numbered through all tasks in order.

    A column at its floor rate needs ``need`` of its resources, and ``rate_use`` more for every
    inference/s beyond it. Throughputs of a group count all of its tasks.
    """

    def __init__(self, pool: PathPool, joint_tasks: Sequence[JointTask] | None = None) -> None:
        """Put a pool into arrays.

        Args:
            pool: the paths; every task has one.
            joint_tasks: with the joint paths that may be chosen (default: those of
                :func:`build_joint_tasks` with default parameters).
        """
        self.pool = pool
        self.joint_tasks = tuple(build_joint_tasks(pool) if joint_tasks is None else joint_tasks)
        tasks = self.joint_tasks
        sizes = np.array([len(task) for task in tasks])
        self.first: IntArray = np.concatenate(([0], np.cumsum(sizes)))
        """First column of each joint task, then P, shape (T + 1,)."""
        self.task: IntArray = np.repeat(np.arange(len(sizes)), sizes)
        """Joint task of each column, shape (P,)."""
        self.weights = np.array([task.weights.sum() for task in tasks])
        """Share of each joint task in the average accuracy, shape (T,)."""
        self.floor = np.array([task.floor for task in tasks])
        """Least throughput of each joint task [inferences/s], shape (T,)."""
        self.most = np.concatenate([task.most for task in tasks])
        """Largest throughput of each column [inferences/s], shape (P,)."""
        self.extra = self.most - self.floor[self.task]
        """Largest throughput beyond the floor [inferences/s], shape (P,)."""
        self.largest_rate = max(float(self.most.max(initial=0.0)), 1e-12)
        """Largest throughput of any column [inferences/s]."""
        self.accuracy = np.concatenate([task.accuracy for task in tasks])
        """w[t] A[p], of a joint path the sum over its tasks, shape (P,)."""
        self.time = np.concatenate([task.time for task in tasks])
        """w[t] T[p] [s], of a joint path the sum over its tasks, shape (P,)."""
        width = max(1, *(len(task.resources) for task in tasks))
        # The k-th row holds the k-th resource of the column's task: few columns are gathered
        # from these faster than from a general sparse matrix. Padding is 0 of resource 0.
        self.padded_resource = np.zeros((width, len(self.task)), dtype=np.int64)
        self.padded_rate_use = np.zeros((width, len(self.task)))
        self.padded_need = np.zeros((width, len(self.task)))
        for t, task in enumerate(tasks):
            rows, k = slice(int(self.first[t]), int(self.first[t + 1])), len(task.resources)
            self.padded_resource[:k, rows] = task.resources[:, None]
            per_inference = np.where(task.is_rate_resource, task.use / task.size, 0.0)
            self.padded_rate_use[:k, rows] = per_inference.T
            at_floor = np.where(task.is_rate_resource, task.group.floor, 1.0)
            self.padded_need[:k, rows] = (task.use * at_floor).T
        used = ((self.padded_need != 0.0) | (self.padded_rate_use != 0.0)).T
        self.row, place = np.nonzero(used)
        """Column of each entry, ascending, shape (entries,)."""
        self.resource: IntArray = self.padded_resource[place, self.row]
        """Resource of each entry."""
        self.need_of_entry = self.padded_need[place, self.row]
        """Load of an entry at the floor, as a share of the capacity."""
        self.spare_of_entry = self.padded_rate_use[place, self.row] * self.extra[self.row]
        """More load of it at R."""
        self.start = np.searchsorted(self.row, np.arange(len(self.task) + 1))
        """Where the entries of each column begin, shape (P + 1,)."""

    def __len__(self) -> int:
        return len(self.task)

    def _matrix(self, values: FloatArray) -> csr_array:
        shape = (len(self.task), len(self.pool.resources))
        return csr_array((values, self.resource, self.start), shape=shape)

    @cached_property
    def use(self) -> csr_array:
        """Use of the resources when every task of a column makes one inference, shape (P, I).

        Of what is not paid per inference: the use of a column that is chosen.
        """
        return self._of_tasks([task.use for task in self.joint_tasks])

    @cached_property
    def use_per_inference(self) -> csr_array:
        """The same per inference that counts, which are those of all tasks, shape (P, I)."""
        return self._of_tasks([task.use_per_inference for task in self.joint_tasks])

    def _of_tasks(self, uses: Sequence[FloatArray]) -> csr_array:
        amounts, columns, resources = [], [], []
        for task, use, start in zip(self.joint_tasks, uses, self.first[:-1].tolist(), strict=True):
            row, place = np.nonzero(use)
            amounts.append(use[row, place])
            columns.append(row + start)
            resources.append(task.resources[place])
        entries = np.concatenate(amounts), (np.concatenate(columns), np.concatenate(resources))
        return csr_array(entries, shape=(len(self), len(self.pool.resources)))

    @cached_property
    def mean_accuracy(self) -> FloatArray:
        """A[p] of each column, of a joint path the weighted mean of its tasks, shape (P,)."""
        return np.concatenate([task.mean_accuracy for task in self.joint_tasks])

    @cached_property
    def mean_time(self) -> FloatArray:
        """T[p] of each column [s], of a joint path the weighted mean of its tasks, shape (P,)."""
        return np.concatenate([task.mean_time for task in self.joint_tasks])

    @cached_property
    def need(self) -> csr_array:
        """Load of each column at its floor rate, shape (P, I)."""
        return self._matrix(self.need_of_entry)

    @cached_property
    def spare(self) -> csr_array:
        """More load of each column at R, shape (P, I)."""
        return self._matrix(self.spare_of_entry)

    def load(self, columns: IntArray, throughput: FloatArray) -> FloatArray:
        """Return the load of all resources as a share of their capacities, shape (I,).

        Args:
            columns: one of each joint task, shape (T,).
            throughput: of each joint task [inferences/s], shape (T,).
        """
        load = np.zeros(len(self.pool.resources))
        np.add.at(load, self.padded_resource[:, columns], self.loads_of(columns, throughput))
        return load

    def loads_of(self, columns: IntArray, throughput: FloatArray) -> FloatArray:
        """Return how much columns load the resources of their tasks, shape (K, columns)."""
        extra = throughput - self.floor[self.task[columns]]
        return np.asarray(self.padded_need[:, columns] + self.padded_rate_use[:, columns] * extra)

    def columns_of_tasks(self, tasks: IntArray) -> IntArray:
        """Return the numbers of all columns of some joint tasks, task by task."""
        sizes = self.first[tasks + 1] - self.first[tasks]
        offset = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(self.first[tasks], sizes) + offset

    def best_of_each(self, value: FloatArray) -> IntArray:
        """Return for each joint task its column of greatest value (the first of equals)."""
        best = np.maximum.reduceat(value, self.first[:-1])
        hits = np.flatnonzero(value == best[self.task])
        task = self.task[hits]
        return np.asarray(hits[np.concatenate(([True], task[1:] != task[:-1]))])

    def first_columns(self, accuracy: FloatArray | None = None) -> IntArray:
        """Return of each joint task the most accurate column and the one that loads least."""
        load = np.bincount(
            self.row, self.need_of_entry + self.spare_of_entry, minlength=len(self.task)
        )
        accurate = self.best_of_each(self.accuracy if accuracy is None else accuracy)
        return np.concatenate((accurate, self.best_of_each(np.asarray(-load, dtype=np.float64))))

    def columns_of(self, arcs: Sequence[tuple[int, ...]]) -> IntArray:
        """Return the columns of an assignment, given the arcs of each task's path, shape (T,)."""
        numbers = [task.number_of(arcs) for task in self.joint_tasks]
        assert all(number is not None for number in numbers)
        return self.first[:-1] + np.array(numbers)

    def paths_of(self, columns: IntArray) -> IntArray:
        """Return the number of every task's path, given a column of each joint task."""
        found = np.zeros(len(self.pool.tasks), dtype=np.int64)
        for task, row in zip(self.joint_tasks, (columns - self.first[:-1]).tolist(), strict=True):
            found[list(task.group.tasks)] = task.paths[row]
        return found

    def same_columns(self, other: ColumnTable, columns: IntArray) -> IntArray:
        """Return the columns that are columns of another table, as far as they are here.

        Args:
            other: of the same instance; its pool may be another one.
            columns: of it, ascending.
        """
        if other is self:
            return columns
        found = []
        parts = np.split(columns, np.searchsorted(columns, other.first[1:-1]))
        for t, (mine, theirs) in enumerate(zip(self.joint_tasks, other.joint_tasks, strict=True)):
            rows = (parts[t] - other.first[t]).tolist()
            if mine is not theirs:
                rows = [n for row in rows if (n := mine.number_of(theirs.arcs(row))) is not None]
            found.append(np.array(rows, dtype=np.int64) + self.first[t])
        return np.concatenate(found)

    def subsets(self, keep: BoolArray) -> tuple[JointTask, ...]:
        """Return the joint tasks with some of their columns only."""
        return tuple(
            task.subset(np.flatnonzero(keep[start:end]))
            for task, start, end in zip(
                self.joint_tasks, self.first[:-1].tolist(), self.first[1:].tolist(), strict=True
            )
        )

    def entries_of(self, columns: IntArray) -> tuple[IntArray, IntArray]:
        """Return the entries of some columns, and for each its place in ``columns``."""
        sizes = self.start[columns + 1] - self.start[columns]
        place = np.repeat(np.arange(len(columns)), sizes)
        offset = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.start[columns][place] + offset, place


@dataclass(frozen=True)
class Cut:
    """sum over columns of (on_path x[p] + on_extra u[p]) <= limit, for every assignment."""

    columns: IntArray
    on_path: FloatArray
    """Coefficients of x, shape of ``columns``."""
    on_extra: FloatArray
    """Coefficients of u, shape of ``columns``."""
    limit: float


@dataclass(frozen=True)
class Bound:
    """What duals prove: ``value`` bounds the objective of every assignment of living columns.

    An assignment with column p is worth at most ``value - reduced_cost[p]``. Values are in the
    unit of the objective.
    """

    value: float
    profit: FloatArray
    """Value of each column less the duals of what it uses, at its better rate, shape (P,)."""
    best: FloatArray
    """Largest profit of each joint task, shape (T,)."""
    reduced_cost: FloatArray
    """``best`` of the task less ``profit``, not negative, shape (P,)."""


class Relaxation:
    """The Lagrangian relaxation over a table's columns, cuts included.

    Any duals bound the objective from above, in one pass over arrays, so the bound costs no
    linear program and does not rest on a solver's tolerances.
    """

    def __init__(
        self,
        table: ColumnTable,
        objective: ObjectiveFunction,
        accuracy: FloatArray | None = None,
        is_partial: bool = False,
    ) -> None:
        """Start with all columns and no cut.

        Args:
            table: the columns.
            objective: what is maximised.
            accuracy: w[t] A[p] as it is to be counted, shape (P,) (default: the table's).
            is_partial: whether tasks have paths that are not in the table.
        """
        self.table, self.objective = table, objective
        self.accuracy = table.accuracy if accuracy is None else accuracy
        self.most_of_task = table.floor + np.maximum.reduceat(table.extra, table.first[:-1])
        """Largest throughput of each joint task [inferences/s], shape (T,)."""
        self.base_throughput = float(table.floor.sum())
        self.alive = np.ones(len(table), dtype=bool)
        """Columns that can still be part of something better than what is known, shape (P,)."""
        self.alive_of_task: IntArray = np.diff(table.first)
        """Number of living columns of each joint task, shape (T,)."""
        self._users = self._entries_by_resource()
        self.cuts: list[Cut] = []
        self._stacked: tuple[csr_array, csr_array, FloatArray] | None = None
        low_a = float(np.minimum.reduceat(self.accuracy, table.first[:-1]).sum())
        high_a = float(np.maximum.reduceat(self.accuracy, table.first[:-1]).sum())
        high_th = float(self.most_of_task.sum())
        self.ranges_of_columns = (low_a, high_a), (self.base_throughput, high_th)
        """Where A and Th [inferences/s] of assignments of the table lie."""
        if is_partial:
            low_a, high_a = 0.0, 1.0
            high_th = max(high_th, sum(map(largest_rate, table.pool.tasks)))
        low_a = max(low_a, objective.min_accuracy or 0.0)
        low_th = max(self.base_throughput, objective.min_throughput or 0.0)
        # Beyond what any mix of paths reaches, with room for the tolerance of requirements.
        self.is_out_of_reach = low_a > high_a * (1.0 + 1e-6) or low_th > high_th * (1.0 + 1e-6)
        self.range_of_accuracy = low_a, max(low_a, high_a)
        """Where A can lie, the floor asked for among it."""
        self.range_of_throughput = low_th, max(low_th, high_th)
        """Where Th can lie [inferences/s], the floor asked for among it."""

    def _entries_by_resource(self) -> list[IntArray]:
        """Return for each resource the entries of living columns that use it, by column."""
        table = self.table
        entries = np.flatnonzero(self.alive[table.row])
        entries = entries[np.argsort(table.resource[entries], kind="stable")]
        ends = np.arange(1, len(table.pool.resources))
        return np.split(entries, np.searchsorted(table.resource[entries], ends))

    def leave_out(self, columns: BoolArray) -> None:
        """Let columns count no more: in no bound, and in no cut from now on."""
        self.alive &= ~columns
        self._users = self._entries_by_resource()
        self.alive_of_task = np.add.reduceat(self.alive.astype(np.int64), self.table.first[:-1])

    def users(self, resource: int) -> IntArray:
        """Return the entries of living columns that use a resource, by column."""
        return self._users[resource]

    def add_cuts(self, cuts: Sequence[Cut]) -> None:
        """Let cuts count in every bound from now on."""
        self.cuts += cuts
        self._stacked = None

    def keep_cuts(self, which: IntArray) -> None:
        """Forget all cuts but some."""
        self.cuts = [self.cuts[i] for i in which.tolist()]
        self._stacked = None

    @property
    def cut_matrices(self) -> tuple[csr_array, csr_array, FloatArray]:
        """Coefficients of all cuts of x and of u, shape (P, cuts) each, and their limits."""
        if self._stacked is None:
            shape = (len(self.table), len(self.cuts))
            columns = np.concatenate([np.empty(0, np.int64), *(c.columns for c in self.cuts)])
            number = np.repeat(np.arange(len(self.cuts)), [len(c.columns) for c in self.cuts])
            on_path, on_extra = (
                csr_array((np.concatenate([np.empty(0), *values]), (columns, number)), shape=shape)
                for values in ((c.on_path for c in self.cuts), (c.on_extra for c in self.cuts))
            )
            self._stacked = on_path, on_extra, np.array([c.limit for c in self.cuts])
        return self._stacked

    def profits(self, duals: Duals) -> tuple[FloatArray, FloatArray]:
        """Return the profit of each column at its floor rate, and how much more it has at R."""
        table = self.table
        low = duals.accuracy * self.accuracy - table.need @ duals.resource
        if duals.time:
            low -= duals.time * table.time
        more = duals.throughput * table.extra - table.spare @ duals.resource
        if len(duals.cut):
            on_path, on_extra, _ = self.cut_matrices
            low -= on_path @ duals.cut
            more -= on_extra @ duals.cut
        return low, more

    def bound(self, duals: Duals, is_phase_1: bool = False) -> Bound:
        """Return what duals prove; in phase 1, of minus the number of tasks without a path.

        With multipliers pi >= 0 of the rows ``a (x, u) <= b``, alpha and tau of the two
        definitions: max (log xi(A) - alpha A) + max (log zeta(Th) - tau Th) + pi b + sum over
        t of the largest profit of a column of t, each maximum taken on its own.
        """
        table = self.table
        low, more = self.profits(duals)
        profit = low + np.maximum(more, 0.0)
        profit[~self.alive] = -np.inf
        best = np.maximum.reduceat(profit, table.first[:-1])
        if is_phase_1:
            # A task without a path counts with all accuracy and the largest rate.
            missing = duals.accuracy * table.weights - 1.0
            missing += duals.throughput * (self.most_of_task - table.floor)
            best = np.maximum(best, missing)
        value = float(best.sum()) + float(duals.resource.sum())
        if len(duals.cut):
            value += float(duals.cut @ self.cut_matrices[2])
        value += duals.throughput * self.base_throughput
        ranges = self.range_of_accuracy, self.range_of_throughput
        if is_phase_1:
            value += max(-duals.accuracy * a for a in ranges[0])
            value += max(-duals.throughput * th for th in ranges[1])
        else:
            value += self.objective.most_beyond(duals, *ranges)
        return Bound(value, profit, best, best[table.task] - profit)
