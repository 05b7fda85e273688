"""A case in which every input group is one task whose paths are joint options.

What a task of a group gains by a path depends on the paths of the others, and moves of one
task at a time miss what only pays together. So the heuristic sees a group as one task: an
option is a path for each of its tasks, at what they cost together. Where there are few
combinations, all that no other one dominates are options. Else they are those that are best
at random prices, then those that are best at the prices of the relaxation, solved and priced
anew until none is new (column generation, exact by :mod:`code_opt.core.joint_tasks`), and the
neighbours of the best plan found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from code_opt.core.joint_tasks import cheapest_joint_paths, draw_joint_paths
from code_opt.paths.graph import FloatArray, IntArray, rate_groups
from code_opt.paths.labels import nondominated
from code_opt.planning.case import Case
from code_opt.planning.sharing import PrefixUse

_FEW = 1_000
"""Combinations of paths up to which a group's options are all that no other one dominates."""
_PRICED, _SPREAD = 300, 0.2
"""Prices near given ones that ask for options at a time, and how far they are (log-normal)."""


@dataclass(frozen=True)
class Joint:
    """G tasks and groups with Q options in all, as a case without groups."""

    case: Case
    """Its tasks are the G groups (of one task or more), its paths their options."""
    groups: tuple[tuple[int, ...], ...]
    """Tasks of each group."""
    options: tuple[IntArray, ...]
    """For each group a path of each of its tasks, shape (n, m)."""
    is_complete: bool
    """Whether every group has all options that no other one dominates."""

    def paths_of(self, chosen: IntArray) -> IntArray:
        """Return the path of each task, shape (T,).

        Args:
            chosen: option of each group, numbered through all groups, shape (G,).
        """
        paths = np.zeros(sum(len(group) for group in self.groups), dtype=np.int64)
        for g, (group, options) in enumerate(zip(self.groups, self.options, strict=True)):
            paths[list(group)] = options[int(chosen[g]) - int(self.case.first[g])]
        return paths


def joint_case(case: Case, around: IntArray | None = None, known: Joint | None = None) -> Joint:
    """Return a case with one task for each group.

    Args:
        case: every task has a path.
        around: paths whose neighbours, one task's path changed, are options, too; shape (T,).
        known: keeps its options.
    """
    groups = rate_groups(case.instance)
    options, is_complete = [], True
    for g, group in enumerate(groups):
        ranges = [np.arange(case.first[t], case.first[t + 1]) for t in group]
        if len(group) == 1:
            options.append(ranges[0][:, None])
        elif _count(case, group) <= _FEW:
            grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(group))
            options.append(known.options[g] if known else _undominated(case, group, grid))
        else:
            is_complete = False
            centre = [int(rows[np.argmax(case.accuracy[rows])]) for rows in ranges]
            if around is not None:
                centre = around[list(group)].tolist()
            found = known.options[g] if known else _drawn(case, group)
            near = _neighbours(np.array(centre, dtype=np.int64), ranges)
            options.append(np.unique(np.concatenate((found, near)), axis=0))
    return _joint(case, groups, options, is_complete)


def with_cheapest(case: Case, joint: Joint, prices: FloatArray, accuracy: float) -> Joint | None:
    """Return the case with the best options at some prices, and near them; None: none is new.

    Args:
        case: whose groups.
        joint: keeps its options.
        prices: of an inference's use of servers and links by each group, shape (G, I).
        accuracy: what a unit of the average accuracy is worth.
    """
    if len(case.task_of) != case.pool.size:
        return None
    is_rate = case.pool.topology.is_rate_resource
    rng = np.random.default_rng(len(joint.case.task_of))
    options = list(joint.options)
    gained = False
    for g, group in enumerate(joint.groups):
        sharing = case.pool.sharing[g]
        if sharing is None or _count(case, group) <= _FEW:
            continue
        wide = np.zeros(len(is_rate))
        wide[is_rate] = prices[g]
        own = wide[case.pool.groups[g].resources]
        shaken = own * np.exp(_SPREAD * rng.standard_normal((_PRICED, len(own))))
        worth = accuracy * np.exp(_SPREAD * rng.standard_normal(_PRICED))
        shaken[0], worth[0] = own, accuracy
        found = cheapest_joint_paths(
            [case.pool.tasks[t] for t in group],
            sharing,
            case.weights[list(group)],
            shaken,
            worth,
        )
        found = found + case.first[list(group)]
        present = {tuple(row) for row in options[g].tolist()}
        new = [row for row in dict.fromkeys(map(tuple, found.tolist())) if row not in present]
        if new:
            gained = gained or tuple(found[0].tolist()) not in present
            options[g] = np.concatenate((options[g], np.array(new, dtype=np.int64)))
    return _joint(case, joint.groups, options, joint.is_complete) if gained else None


def _joint(
    case: Case,
    groups: tuple[tuple[int, ...], ...],
    options: list[IntArray],
    is_complete: bool,
) -> Joint:
    """Return the case whose paths are some options of each group."""
    use = [_use(case.shared, rows) for rows in options]
    memory = [_memory(case.shared, rows) for rows in options]
    weights = np.array([case.weights[list(group)].sum() for group in groups])
    gains = [
        (case.weights[list(group)] * case.accuracy[rows]).sum(axis=1)
        for group, rows in zip(groups, options, strict=True)
    ]
    sizes = [len(rows) for rows in options]
    total = sum(sizes)
    amounts, adapters = np.concatenate(use), np.concatenate(memory)
    joint = replace(
        case,
        names=tuple(", ".join(case.names[t] for t in group) for group in groups),
        task_of=np.repeat(np.arange(len(sizes)), sizes),
        first=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        accuracy=np.concatenate(gains) / np.repeat(np.maximum(weights, 1e-300), sizes),
        use=amounts,
        visits=np.concatenate([case.visits[rows].any(axis=1) for rows in options]),
        memory=adapters,
        shared=PrefixUse(
            groups=(),
            leaf=np.full(total, -1, dtype=np.int64),
            parent=np.zeros(0, dtype=np.int64),
            use=np.zeros((0, amounts.shape[1])),
            memory=np.zeros((0, adapters.shape[1])),
            own_use=amounts,
            own_memory=adapters,
        ),
        weights=weights,
        demand=case.demand[[group[0] for group in groups]],
    )
    return Joint(joint, groups, tuple(options), is_complete)


def _count(case: Case, group: tuple[int, ...]) -> int:
    """Return the number of combinations of paths."""
    return math.prod(int(case.first[t + 1] - case.first[t]) for t in group)


def _neighbours(centre: IntArray, ranges: list[IntArray]) -> IntArray:
    """Return the combinations in which at most one task leaves the centre, shape (n, m)."""
    found = [centre[None, :]]
    for t, rows in enumerate(ranges):
        moved = np.tile(centre, (len(rows), 1))
        moved[:, t] = rows
        found.append(moved)
    return np.concatenate(found)


def _drawn(case: Case, group: tuple[int, ...]) -> IntArray:
    """Return combinations that are best at random prices, shape (n, m)."""
    if len(case.task_of) != case.pool.size:
        # A part of the pool: what its tasks share is not worked out path by path.
        return np.zeros((0, len(group)), dtype=np.int64)
    sharing = next(
        s for g, s in zip(case.pool.groups, case.pool.sharing, strict=True) if g.tasks == group
    )
    assert sharing is not None
    tasks = [case.pool.tasks[t] for t in group]
    drawn = draw_joint_paths(tasks, sharing, case.weights[list(group)])
    return np.asarray(drawn + case.first[list(group)])


def _undominated(case: Case, group: tuple[int, ...], rows: IntArray) -> IntArray:
    """Drop the combinations that another one dominates, shape (n, m)."""
    gain = (case.weights[list(group)] * case.accuracy[rows]).sum(axis=1)
    costs = (-gain, _use(case.shared, rows), _memory(case.shared, rows))
    return rows[nondominated(np.column_stack(costs))]


def _use(shared: PrefixUse, rows: IntArray) -> FloatArray:
    """Return the use of servers and links by combinations of paths, shape (n, I)."""
    paid, prefixes = _paid(shared, rows)
    return np.asarray(shared.own_use[rows].sum(axis=1) + paid @ shared.use[prefixes])


def _memory(shared: PrefixUse, rows: IntArray) -> FloatArray:
    """Return the share of memories that combinations of paths fill, shape (n, M)."""
    paid, prefixes = _paid(shared, rows)
    return np.asarray(shared.own_memory[rows].sum(axis=1) + paid @ shared.memory[prefixes])


def _paid(shared: PrefixUse, rows: IntArray) -> tuple[FloatArray, IntArray]:
    """Return 1 where a combination walks a prefix, else 0, shape (n, V'), and which ones."""
    walked = {path: list(shared.walked(path)) for path in np.unique(rows).tolist()}
    prefixes = sorted({prefix for chain in walked.values() for prefix in chain})
    place = {prefix: i for i, prefix in enumerate(prefixes)}
    paid = np.zeros((len(rows), len(prefixes)))
    for column in rows.T if prefixes else ():
        present, where = np.unique(column, return_inverse=True)
        walks = np.zeros((len(present), len(prefixes)))
        for i, path in enumerate(present.tolist()):
            walks[i, [place[prefix] for prefix in walked[path]]] = 1.0
        np.maximum(paid, walks[where], out=paid)
    return paid, np.array(prefixes, dtype=np.int64)
