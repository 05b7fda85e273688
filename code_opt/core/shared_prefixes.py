"""What paths of an input group have in common, beside a table whose columns are single paths.

Every use is per inference of the group, so a prefix costs the same whoever walks it. See
``docs/shared-inputs.md`` and :mod:`code_opt.paths.groups`, which finds the prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csc_array, csr_array

from code_opt.core.columns import ColumnTable
from code_opt.paths.graph import FloatArray, IntArray
from formulations import Rows


@dataclass(frozen=True)
class SharedPrefixes:
    """V prefixes that several of P columns begin with; I resources.

    A prefix is one node of a trie: its last steps alone, behind those of its parent.
    """

    groups: tuple[tuple[int, ...], ...]
    """Tasks that have one rate, two or more each."""
    leaf: IntArray
    """Last prefix that a column walks, -1 where it walks none, shape (P,)."""
    parent: IntArray
    """Prefix before each prefix (of a smaller number), -1 behind the input, shape (V,)."""
    use: csr_array
    """Use of the resources by each prefix, shape (V, I)."""
    own_use: csr_array
    """Use of the resources by each column beyond its prefixes, shape (P, I)."""

    @classmethod
    def of(cls, table: ColumnTable) -> SharedPrefixes:
        """Return what the columns of a table share, each of which is a path of one task."""
        pool, first = table.pool, table.first
        shape = (len(table), len(pool.resources))
        leaf = np.full(len(table), -1, dtype=np.int64)
        parents: list[int] = []
        uses: list[FloatArray] = []
        own_use = table.use.toarray() if any(pool.sharing) else None
        for group, sharing in zip(pool.groups, pool.sharing, strict=True):
            if sharing is None:
                continue
            before = len(parents)
            for prefix in sharing.prefixes:
                use = np.zeros(shape[1])
                use[group.resources] = prefix.use
                uses.append(use)
                parents.append(prefix.parent + before if prefix.parent >= 0 else -1)
            for t, last, own in zip(group.tasks, sharing.leaf, sharing.own_use, strict=True):
                rows = np.arange(first[t], first[t + 1])
                leaf[rows] = np.where(last >= 0, last + before, -1)
                assert own_use is not None
                own_use[rows[:, None], group.resources] = own
        return cls(
            groups=tuple(group.tasks for group in pool.groups if group.is_shared),
            leaf=leaf,
            parent=np.array(parents, dtype=np.int64),
            use=csr_array(np.array(uses, dtype=float).reshape(-1, shape[1])),
            own_use=table.use if own_use is None else csr_array(own_use),
        )

    @classmethod
    def none(cls, table: ColumnTable, use: csr_array | None = None) -> SharedPrefixes:
        """Return that nothing is shared, as between joint paths.

        Args:
            table: the columns.
            use: of the resources by each column, shape (P, I); by default the table's.
        """
        nothing = np.zeros(0, dtype=np.int64)
        leaf = np.full(len(table), -1, dtype=np.int64)
        no_use = csr_array((0, len(table.pool.resources)))
        return cls((), leaf, nothing, no_use, table.use if use is None else use)

    def walked(self, column: int) -> Iterator[int]:
        """Yield the prefixes that a column walks, the last one first."""
        prefix = int(self.leaf[column])
        while prefix >= 0:
            yield prefix
            prefix = int(self.parent[prefix])

    @cached_property
    def columns(self) -> tuple[IntArray, ...]:
        """The columns that walk each prefix, ascending."""
        found: list[list[int]] = [[] for _ in self.parent]
        for column in np.flatnonzero(self.leaf >= 0).tolist():
            for prefix in self.walked(column):
                found[prefix].append(column)
        return tuple(np.array(columns, dtype=np.int64) for columns in found)

    def subset(self, rows: IntArray) -> SharedPrefixes:
        """Return what some of the columns share."""
        return replace(self, leaf=self.leaf[rows], own_use=self.own_use[rows])

    def load(self, columns: IntArray, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what columns use of each resource per second, and what they use once, (I,) each.

        A prefix is paid at the largest rate of those that walk it.

        Args:
            columns: one of each task, -1 for a task that does not run, shape (T,).
            rates: of the tasks [inferences/s], shape (T,).
        """
        runs = columns >= 0
        own = self.own_use[columns[runs]]
        rate_of, walked = np.zeros(len(self.parent)), np.zeros(len(self.parent))
        for column, rate in zip(columns[runs].tolist(), rates[runs].tolist(), strict=True):
            for prefix in self.walked(column):
                rate_of[prefix], walked[prefix] = max(rate_of[prefix], rate), 1.0
        per_second = rates[runs] @ own + rate_of @ self.use
        return np.asarray(per_second), np.asarray(own.sum(axis=0) + walked @ self.use)

    def beside(self, rows: IntArray, others: IntArray) -> FloatArray:
        """Return what columns of one task use beside those of other tasks, shape (n, I).

        Args:
            rows: n columns of the task.
            others: columns of other tasks, which pay for their prefixes.
        """
        paid = {prefix for column in others.tolist() for prefix in self.walked(column)}
        unpaid = np.zeros((len(rows), len(self.parent)))
        for i, column in enumerate(rows.tolist()):
            unpaid[i, [prefix for prefix in self.walked(column) if prefix not in paid]] = 1.0
        return np.asarray(self.own_use[rows].toarray() + unpaid @ self.use)

    def rows(
        self, resources: IntArray, names: Sequence[str], capacity: FloatArray | None = None
    ) -> Rows:
        """Return the rows of some resources as formulations take them.

        Args:
            resources: their numbers.
            names: of all I resources.
            capacity: of all resources, in the unit of the uses (default: 1); 1 in the rows.
        """
        own, shared = self.own_use.tocsc(), self.use.tocsc()

        def entries(use: csc_array) -> list[list[tuple[int, float]]]:
            found = []
            for i in resources.tolist():
                part = slice(use.indptr[i], use.indptr[i + 1])
                amounts = use.data[part] if capacity is None else use.data[part] / capacity[i]
                users = use.indices[part].tolist()
                found.append(list(zip(users, amounts.tolist(), strict=True)))
            return found

        prefixes = entries(shared) if len(self.parent) else ()
        return Rows([names[i] for i in resources.tolist()], entries(own), prefixes)

    def columns_by_task(self, task: IntArray) -> list[list[list[int]]]:
        """Return the columns that walk each prefix, for each task that can walk it.

        Args:
            task: of each column, shape (P,).
        """
        return [
            [columns[task[columns] == t].tolist() for t in np.unique(task[columns]).tolist()]
            for columns in self.columns
        ]
