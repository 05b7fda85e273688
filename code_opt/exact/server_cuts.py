"""Cuts from one server, link or memory at a time: facets of what fits into it.

The linear relaxation lets tasks take turns on a server: half of the time one task's path
fills it, half of the time another's. What can really happen on one resource i is the set

    X_i = {(x, u): one path per task, u <= x, sum need x + spare u <= 1, x integer},

a multiple-choice knapsack whose rates are continuous (variable upper bounds r <= R x). A
point of the relaxation outside of conv X_i is cut off by a facet of it, found by a linear
program over the points of X_i that the relaxation's own paths make (local or Fenchel cuts:
Applegate, Bixby, Chvatal and Cook, 2001; Boyd, Operations Research 42, 1994). All other
paths of the pool are lifted into the facet, task by task (Wolsey, Operations Research 24,
1976): a path that leaves the capacity 1 - z to the other tasks may have whatever coefficient
keeps it and the most of theirs within the limit. So the cut is valid for columns that the
master program does not hold yet.
"""

from __future__ import annotations

import numpy as np

from code_opt.core.columns import Cut, Relaxation
from code_opt.core.parameters import CutParameters
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.solvers import Polar

_ROOM = 1e-7
"""Loads may exceed a capacity by so much, so that no assignment that passes is cut off."""


def separate(
    relaxation: Relaxation,
    polar: Polar,
    resource: int,
    x: FloatArray,
    u: FloatArray,
    at_most: BoolArray,
    parameters: CutParameters,
) -> Cut | None:
    """Return a cut that the point (x, u) violates, or None.

    Args:
        relaxation: the living columns.
        polar: solves the linear program.
        resource: the server, link or memory.
        x: share of each column, shape (P,).
        u: share of its extra rate, shape (P,).
        at_most: whether a column would rather run at R than at its floor, shape (P,); only the
            strength of the coefficients depends on it.
        parameters: sizes and tolerances.
    """
    table, entries = relaxation.table, relaxation.users(resource)
    paths = table.row[entries]
    # Where a path takes no more at R, its rate does not matter here.
    share, extra = x[paths], np.where(table.spare_of_entry[entries] > 0.0, u[paths], 0.0)
    if not ((share > 1e-6) & (share < 1.0 - 1e-6)).any():
        return None  # a point of X_i itself
    need, spare = table.need_of_entry[entries], table.spare_of_entry[entries]
    tasks, first, owner = _groups(table.task[paths])
    # What every path of a task takes at least is gone: the rest of the capacity is 1.
    least = np.minimum.reduceat(need, first)
    least[np.diff(np.append(first, len(paths))) < relaxation.alive_of_task[tasks]] = 0.0
    capacity = 1.0 - float(least.sum())
    if capacity < parameters.least_capacity:
        return None
    need, spare = (need - least[owner]) / capacity, spare / capacity
    room = _ROOM / capacity

    support = _support(share, extra, need, spare, owner, parameters.most_points)
    points = _points(need[support], spare[support], owner[support], 1.0 + room)
    target = np.concatenate((share[support], extra[support]))
    value, facet = polar.separate(points, target)
    if value < 1.0 + parameters.violation:
        return None
    on_path, on_extra = np.zeros(len(paths)), np.zeros(len(paths))
    on_path[support], on_extra[support] = np.split(facet, 2)
    on_extra[spare == 0.0] = 0.0
    known = np.zeros(len(paths), dtype=bool)
    known[support] = True
    _lift(on_path, on_extra, known, need, spare, owner, at_most[paths], room, parameters)
    if on_path @ share + on_extra @ extra < 1.0 + parameters.violation:
        return None
    # The facet may be off by the solver's tolerance.
    used = (np.abs(on_path) > 1e-9) | (np.abs(on_extra) > 1e-9)
    return Cut(paths[used], on_path[used], on_extra[used], 1.0 + _ROOM)


def _groups(task: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the tasks, where the paths of each begin, and the number of each path's task."""
    begins = np.concatenate(([True], task[1:] != task[:-1]))
    first = np.flatnonzero(begins)
    return task[first], first, np.cumsum(begins) - 1


def _support(
    share: FloatArray,
    extra: FloatArray,
    need: FloatArray,
    spare: FloatArray,
    owner: IntArray,
    most_points: int,
) -> IntArray:
    """Return the paths in use, of as many tasks as points can be listed for."""
    used = np.flatnonzero(share > 1e-7)
    load = np.bincount(owner[used], (need * share + spare * extra)[used], owner[-1] + 1)
    choices = 1.0 + np.bincount(owner[used], 1.0 + (spare[used] > 0.0), owner[-1] + 1)
    points, keep = 1.0, np.zeros(len(load), dtype=bool)
    for task in np.argsort(-load, kind="stable").tolist():
        if points * choices[task] <= most_points:
            points *= choices[task]
            keep[task] = True
    return used[keep[owner[used]]]


def _points(need: FloatArray, spare: FloatArray, owner: IntArray, capacity: float) -> FloatArray:
    """Return the extreme points of X_i over k paths, shape (n, 2 k): x, then u.

    Every task takes none of its paths, or one at its floor rate or at R; at most one path
    runs in between, where that fills the capacity.
    """
    k = len(need)
    points, load = np.zeros((1, 2 * k)), np.zeros(1)
    for task in dict.fromkeys(owner.tolist()):
        grown, loads = [points], [load]
        for path in np.flatnonzero(owner == task).tolist():
            for level in (0.0, 1.0) if spare[path] > 0.0 else (0.0,):
                total = load + need[path] + level * spare[path]
                fits = total <= capacity
                more = points[fits].copy()
                more[:, path], more[:, k + path] = 1.0, level
                grown.append(more)
                loads.append(total[fits])
        points, load = np.concatenate(grown), np.concatenate(loads)
    filled = [points]
    for path in np.flatnonzero(spare > 0.0).tolist():
        part = (capacity - load) / spare[path]
        between = (points[:, path] > 0.0) & (points[:, k + path] == 0.0)
        between &= (part < 1.0) & (part > 0.0)
        more = points[between].copy()
        more[:, k + path] = part[between]
        filled.append(more)
    points = np.concatenate(filled)
    return points[points.any(axis=1)]


def _lift(
    on_path: FloatArray,
    on_extra: FloatArray,
    known: BoolArray,
    need: FloatArray,
    spare: FloatArray,
    owner: IntArray,
    at_most: BoolArray,
    room: float,
    parameters: CutParameters,
) -> None:
    """Give the paths that are not ``known`` their coefficients, one task after the other.

    With H(c) the most that the other tasks' terms can be with the capacity c, the terms of a
    path whose load is z may be up to 1 - H(1 - z): a task takes one path at a time, so all of
    its paths are lifted at once. Paths of tasks that come later count in no H yet.
    """
    tasks, cells = range(int(owner[-1]) + 1), parameters.cells
    terms = on_path, on_extra, need, spare
    most = [_most_of_task(*terms, known & (owner == t), cells) for t in tasks]
    # What the tasks behind each one can make, before they are lifted.
    behind: list[FloatArray | None] = [None]
    for task in reversed(tasks):
        behind.append(_together(most[task], behind[-1]))
    behind.reverse()
    before: FloatArray | None = None
    for task in tasks:
        others = _together(before, behind[task + 1])
        new = np.flatnonzero((owner == task) & ~known)
        if len(new):
            on_path[new], on_extra[new] = _coefficients(
                others, need[new], spare[new], at_most[new], room, parameters.samples
            )
            known[new] = True
            mine = _most_of_task(*terms, owner == task, cells)
        else:
            mine = most[task]
        before = _together(before, mine)


def _most_of_task(
    on_path: FloatArray,
    on_extra: FloatArray,
    need: FloatArray,
    spare: FloatArray,
    which: BoolArray,
    cells: int,
) -> FloatArray | None:
    """Return the most that the terms of one task can be by its load in whole cells, or None.

    Entry j covers all loads below (j + 1) / cells: loads are rounded down.
    """
    paths = np.flatnonzero(which & ((on_path > 0.0) | (on_path + on_extra > 0.0)))
    if not len(paths):
        return None
    most = np.zeros(cells + 1)
    end = (np.arange(cells + 1) + 1.0) / cells
    need, spare = need[paths, None], spare[paths, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(spare > 0.0, np.clip((end - need) / spare, 0.0, 1.0), 0.0)
    terms = on_path[paths, None] + np.maximum(on_extra[paths, None], 0.0) * level
    terms[end <= need] = 0.0
    np.maximum(most, terms.max(axis=0), out=most)
    return np.maximum.accumulate(most)


def _together(one: FloatArray | None, other: FloatArray | None) -> FloatArray | None:
    """Return the most of two groups of tasks that share the cells."""
    if one is None or other is None:
        return other if one is None else one
    cells = len(one) - 1
    padded = np.concatenate((np.full(cells, -np.inf), other))
    shifted = np.lib.stride_tricks.sliding_window_view(padded, cells + 1)
    # Row j holds other[j - cells .. j]; one is taken from its end to meet it.
    steps = np.flatnonzero(np.diff(one, prepend=-1.0) > 0.0)
    return np.asarray((shifted[:, cells - steps] + one[steps]).max(axis=1))


def _coefficients(
    others: FloatArray | None,
    need: FloatArray,
    spare: FloatArray,
    at_most: BoolArray,
    room: float,
    samples: int,
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients (of x, of u) of a task's paths, the others' most being given.

    The terms a + b u must stay below the step function g(u) = 1 - H(1 - need - spare u) for
    u in [0, 1]. Of the lines below it the one is taken that is highest near the rate that the
    path prefers.
    """
    if others is None:
        return np.ones(len(need)), np.zeros(len(need))
    cells = len(others) - 1
    level = np.arange(samples + 1) / samples
    left = 1.0 + room - need[:, None] - spare[:, None] * level
    cell = np.floor(left * cells).astype(np.int64)
    limit = 1.0 - others[np.clip(cell, 0, cells)]
    limit[cell < 0] = 1.0
    on_path, on_extra = limit[:, 0].copy(), np.zeros(len(need))
    # g is nondecreasing: within a step it is at least its value at the step's beginning, so
    # the line has to pass below that value at the step's end.
    end, height = level[1:], limit[:, :-1]
    rated = spare > 0.0
    for wanted, which in ((0.2, rated & ~at_most), (0.95, rated & at_most)):
        rows = np.flatnonzero(which)
        best = np.full(len(rows), np.inf)
        for i in np.flatnonzero(end < wanted).tolist():
            for j in np.flatnonzero(end >= wanted).tolist():
                slope = (height[rows, j] - height[rows, i]) / (end[j] - end[i])
                value = height[rows, i] + slope * (wanted - end[i])
                lower = value < best
                best[lower] = value[lower]
                on_extra[rows[lower]] = slope[lower]
                on_path[rows[lower]] = (value - slope * wanted)[lower]
    return on_path, on_extra
