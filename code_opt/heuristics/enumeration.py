"""The best of all assignments, where there are few: each one bounded, the most promising solved."""

from __future__ import annotations

import math

import numpy as np

from code_opt.core.columns import ColumnTable
from code_opt.core.evaluator import FIT_TOLERANCE, LEAST_GAIN
from code_opt.core.settings import Clock
from code_opt.heuristics.search import AssignmentSearch, State
from code_opt.paths.graph import FloatArray

MOST_TASKS = 64
"""Tasks, or groups, of an assignment that is one of few; each takes memory for all of them."""
_ROUNDING = 1e-9
"""Relative room for the rounding of a bound."""


def has_few_assignments(table: ColumnTable, most: int) -> bool:
    """Tell whether a table holds all assignments there are, and at most so many of few tasks."""
    tasks = table.joint_tasks
    if len(tasks) > MOST_TASKS or math.prod(map(len, tasks)) > most:
        return False
    return all(task.is_complete for task in tasks)


def best_of_all(work: AssignmentSearch, clock: Clock) -> State | None:
    """Return the best assignment of a table, None where none keeps all floors and memories.

    All paths are measured. For fixed paths accuracy and time are known, and weak duality bounds the
    throughput: at the duals of one rate program, that of every assignment. So programs are solved
    in the order of these bounds until the next bound is no better than the best value.

    Args:
        work: the table, with few assignments (:func:`has_few_assignments`).
        clock: ends the enumeration early, after the first program.
    """
    table, objective = work.table, work.objective
    work.estimates.measure(np.arange(len(table)))
    sizes = np.diff(table.first)
    # The digits of the numbers of all assignments, the base of each being its task's columns.
    place = np.cumprod(sizes) // sizes
    choices = np.arange(int(sizes.prod()))[:, None] // place % sizes + table.first[:-1]
    need, spare = table.need.toarray(), table.spare.toarray()
    load = sum(need[column] for column in choices.T)
    choices = choices[(load <= 1.0 + FIT_TOLERANCE).all(axis=1)]
    accuracy, time = work.accuracy[choices].sum(axis=1), table.time[choices].sum(axis=1)
    throughput = table.most[choices].sum(axis=1)
    is_rate = table.pool.topology.is_rate_resource
    need, spare = need[:, is_rate], spare[:, is_rate]

    def bounds() -> FloatArray:
        found = objective.search_values(accuracy, throughput, time)
        return np.where(objective.floors_missed(accuracy, throughput) > 0.0, -np.inf, found)

    best: State | None = None
    is_open = np.ones(len(choices), dtype=bool)
    while is_open.any():
        bound = np.where(is_open, bounds(), -np.inf)
        number = int(np.argmax(bound))
        if bound[number] == -np.inf or (
            best is not None and bound[number] <= best.value + LEAST_GAIN
        ):
            break
        is_open[number] = False
        allocation = work.allocate(choices[number])
        if allocation is None:
            continue
        state = work.state(choices[number], allocation.group_throughput)
        if state.violation == 0.0 and (best is None or state.is_better_than(best)):
            best = state
            work.moves += 1
        dual = np.maximum(allocation.dual[is_rate], 0.0)
        gain = table.floor[table.task] - need @ dual
        gain += np.maximum(table.extra - spare @ dual, 0.0)
        proven = (gain[choices].sum(axis=1) + dual.sum()) * (1.0 + _ROUNDING)
        throughput = np.minimum(throughput, proven)
        if clock.is_over and best is not None:
            break
    return best
