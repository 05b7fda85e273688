"""What moves at once in a search: a task, or all tasks of an input group together.

Tasks of an input group have one rate and share prefixes, so what one of them gains by a path
depends on the paths of the others. A search therefore sees a group as one *unit* whose options
are combinations of its tasks' paths: every move of the group is a joint one, and its best
answer to prices is the best joint answer. Options are made task by task; a combination
is dropped as soon as another one is no less accurate, uses no more, and pays for the
same prefixes that the tasks still to come could share. So nothing is lost, unless there are
more combinations than ``_MOST_COMBINATIONS`` or options than ``_MOST_OPTIONS``: then
those stay that are best at some of many random prices.

A unit's *throughput* is its rate times its number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from code_opt.paths import PathPool, RateGroup, Sharing, TaskPaths
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray, nondominated

_MOST_COMBINATIONS, _MOST_OPTIONS = 100_000, 2_000
"""Most combinations looked at for one task more, and most options of a unit."""
_SCALES = 400
"""Random prices at which combinations must be best to stay where there are too many."""


@dataclass(frozen=True)
class Unit:
    """A task or an input group: n options, k resources."""

    group: RateGroup
    paths: IntArray
    """Number of each task's path among its own, shape (n, tasks of the unit)."""
    accuracy: FloatArray
    """Mean accuracy by the weights of the tasks, shape (n,)."""
    use: FloatArray
    """Use of the resources when all tasks make one inference, shape (n, k)."""
    most: FloatArray
    """Largest throughput of each option [inferences/s], shape (n,)."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> int:
        """Number of tasks."""
        return len(self.group.tasks)

    @property
    def floor(self) -> float:
        """Least throughput [inferences/s]."""
        return self.size * self.group.floor

    @property
    def resources(self) -> IntArray:
        """Global indices of the resources, shape (k,)."""
        return self.group.resources

    @property
    def is_rate_resource(self) -> npt.NDArray[np.bool_]:
        """Which of the resources are paid per inference, shape (k,)."""
        return self.group.is_rate_resource


def build_units(pool: PathPool) -> tuple[Unit, ...]:
    """Return the units of a pool, in the order of its groups; each task has a path."""
    units = []
    for group, sharing in zip(pool.groups, pool.sharing, strict=True):
        tasks = [pool.tasks[t] for t in group.tasks]
        if sharing is None:
            (task,) = tasks
            numbers = np.arange(len(task))[:, None]
            units.append(Unit(group, numbers, task.paths.accuracy, task.paths.use, task.most_rate))
        else:
            weights = pool.weights[list(group.tasks)]
            units.append(_joint(group, tasks, sharing, weights))
    return tuple(units)


@dataclass(frozen=True)
class _Partial:
    """Combinations of the paths of a group's first tasks: n of them, V prefixes."""

    paths: IntArray
    paid: BoolArray
    """Which shared prefixes a combination pays for, shape (n, V)."""
    accuracy: FloatArray
    """Sum of weight times accuracy, shape (n,)."""
    use: FloatArray

    def take(self, rows: IntArray) -> _Partial:
        return _Partial(self.paths[rows], self.paid[rows], self.accuracy[rows], self.use[rows])


def _joint(
    group: RateGroup, tasks: Sequence[TaskPaths], sharing: Sharing, weights: FloatArray
) -> Unit:
    """Return a group's unit: the combinations of paths that no other one can replace."""
    through = [np.zeros((len(task), len(sharing.prefixes)), dtype=bool) for task in tasks]
    for v, prefix in enumerate(sharing.prefixes):
        for t, rows in prefix.paths:
            through[t][rows, v] = True
    width = len(group.resources)
    prefix_use = np.array([p.use for p in sharing.prefixes]).reshape(-1, width)
    state = _Partial(
        paths=np.empty((1, 0), dtype=np.int64),
        paid=np.zeros((1, len(sharing.prefixes)), dtype=bool),
        accuracy=np.zeros(1),
        use=np.zeros((1, width)),
    )
    for t, task in enumerate(tasks):
        state = _thinned(state, max(1, _MOST_COMBINATIONS // max(len(task), 1)))
        n, m = len(state.paths), len(task)
        old, new = np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
        first = through[t][new] & ~state.paid[old]
        state = _Partial(
            paths=np.column_stack((state.paths[old], new)),
            paid=state.paid[old] | first,
            accuracy=state.accuracy[old] + weights[t] * task.paths.accuracy[new],
            use=state.use[old] + sharing.own_use[t][new] + first @ prefix_use,
        )
        later = [rows.any(axis=0) for rows in through[t + 1 :]]
        state = _undominated(state, np.any([np.zeros(len(prefix_use), dtype=bool), *later], axis=0))
    state = _thinned(state, _MOST_OPTIONS)
    total = float(weights.sum())
    plain = np.mean(
        [task.paths.accuracy[rows] for task, rows in zip(tasks, state.paths.T, strict=True)], axis=0
    )
    with np.errstate(divide="ignore"):
        rate = 1.0 / state.use.max(axis=1, initial=0.0, where=group.is_rate_resource)
    reach = np.min(
        [task.most_rate[rows] for task, rows in zip(tasks, state.paths.T, strict=True)], axis=0
    )
    return Unit(
        group=group,
        paths=state.paths,
        accuracy=state.accuracy / total if total > 0.0 else plain,
        use=state.use,
        most=len(tasks) * np.maximum(np.minimum(rate, reach), group.floor),
    )


def _undominated(state: _Partial, still_shared: BoolArray) -> _Partial:
    """Drop what another combination replaces, whatever paths the other tasks take.

    Args:
        state: the combinations.
        still_shared: which prefixes paths of the tasks to come go through, shape (V,).
    """
    relevant = np.column_stack((np.zeros(len(state.paths), dtype=bool), state.paid & still_shared))
    of_row = np.asarray(np.unique(relevant, axis=0, return_inverse=True)[1]).ravel()
    criteria = np.column_stack((-state.accuracy, state.use))
    order = np.argsort(of_row, kind="stable")
    bounds = np.flatnonzero(np.diff(of_row[order])) + 1
    kept = [rows[nondominated(criteria[rows])] for rows in np.split(order, bounds)]
    return state.take(np.sort(np.concatenate(kept)))


def _thinned(state: _Partial, most: int) -> _Partial:
    """Keep the combinations that are best at some of many random prices, if there are too many."""
    n = len(state.paths)
    if n <= most:
        return state
    rng = np.random.default_rng(0)
    criteria = np.column_stack((-state.accuracy, state.use))
    spread = np.ptp(criteria, axis=0)
    criteria = (criteria - criteria.min(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    # Many prices for one resource alone and few for all: both occur, full servers are few.
    prices = rng.exponential(size=(_SCALES, criteria.shape[1])) ** 3
    cost = criteria @ prices.T
    quota = max(1, most // _SCALES)
    best = np.argpartition(cost, min(quota, n - 1), axis=0)[:quota]
    rows = np.unique(np.concatenate((best.ravel(), criteria.argmin(axis=0))))
    return state.take(rows[:most] if len(rows) > most else rows)
