"""The program of a neighbourhood: some tasks choose among their paths, near ones their rates.

The relaxation of ``path`` over what a few tasks and their neighbours can change, all else being
fixed, with the objective's tangent plane at the present totals:

    max   sum_p (a w[t(p)] A[p] - d w[t(p)] T[p]) (v[p] + e[p]) + th r    gain
    s.t.  sum_p load (v[p], e[p]) + sum_n use (R[n] - f[n]) s[n] - z <= spare    capacity
          A, Th of what can change + z >= what the floors lack        floors_on_totals
          sum over p of t: (v[p] + e[p]) = 1                          one_path_per_task

v[p], e[p]: path p at its floor rate and at R, alternating; s[n]: share of the extra rate of a task
near by that keeps its path; z >= 0: shortages, only where the present assignment has some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from formulations.arrays import ArrayProgram, BoolArray, FloatArray, IntArray, LinearArrays


@dataclass(frozen=True)
class NeighbourhoodData:
    """m paths of F freed tasks, L tasks near by, I resources of which K touch a task."""

    owner: IntArray
    """Which of the freed tasks each path belongs to, ascending, shape (m,)."""
    accuracy: FloatArray
    """w[t] A[p], shape (m,)."""
    time: FloatArray
    """w[t] T[p] [s], shape (m,)."""
    floor: FloatArray
    """f[t(p)] [inferences/s], shape (m,)."""
    extra: FloatArray
    """R[p] - f[t(p)] within what can be left for p [inferences/s], shape (m,)."""
    resource: IntArray
    """Resources of each path's task, shape (K, m); entries that load nothing are padding."""
    need: FloatArray
    """Load at the floor rate, shape (K, m)."""
    rate_use: FloatArray
    """More load per inference/s, shape (K, m)."""
    near_resource: IntArray
    """Resources of the tasks near by, shape (K, L)."""
    near_rate_use: FloatArray
    """Load of them per inference/s on their present paths, shape (K, L)."""
    near_extra: FloatArray
    """Rate that they can have beyond the floor [inferences/s], shape (L,)."""
    spare: FloatArray
    """What all others leave of each resource, shape (I,)."""
    touched: BoolArray
    """Resources that some column loads, shape (I,)."""
    slopes: tuple[float, float]
    """d objective / dA and d objective / dTh."""
    time_dual: float
    """d: what a second of the average time costs."""
    lacking: FloatArray | None
    """What A and Th / unit of the columns must be for the floors, shape (2,); None: no floors."""
    least: FloatArray
    """The floors on A and Th / unit themselves, shape (2,)."""
    throughput_unit: float
    shortage_cost: float | None
    """Cost of a unit of shortage; None: there is none."""


def build_neighbourhood_program(
    data: NeighbourhoodData, program: ArrayProgram | None = None
) -> LinearArrays:
    """Return the program; columns are v[p], e[p] alternating, then s, then z."""
    program = program or ArrayProgram()
    gain_of_path, gain_of_near = gain(data)
    m, near = len(data.owner), len(data.near_extra)
    path = program.variables("path", 2 * m, upper=1.0, cost=gain_of_path)
    share = program.variables("near", near, upper=1.0, cost=gain_of_near)
    capacity_rows = capacity(program, data, path, share)
    floor_rows = floors_on_totals(program, data, path, share)
    one_path_per_task(program, data, path)
    if data.shortage_cost is not None:
        shortages(program, data, capacity_rows, floor_rows)
    return program.arrays()


def rates(data: NeighbourhoodData) -> FloatArray:
    """Return f[t(p)] and R[p] of each path, alternating [inferences/s], shape (2 m,)."""
    return np.column_stack((data.floor, data.floor + data.extra)).ravel()


def gain(data: NeighbourhoodData) -> tuple[FloatArray, FloatArray]:
    """a w A[p] - d w T[p] + th r for the paths at both rates, th (R[n] - f[n]) for tasks near."""
    a, th = data.slopes
    worth = a * data.accuracy - data.time_dual * data.time
    return np.repeat(worth, 2) + th * rates(data), th * data.near_extra


def capacity(
    program: ArrayProgram, data: NeighbourhoodData, path: IntArray, share: IntArray
) -> IntArray:
    """sum_p (need v[p] + (need + use (R - f)) e[p]) + sum_n use (R - f) s[n] <= spare."""
    touched = np.flatnonzero(data.touched)
    rows = program.constraints("capacity", len(touched), -np.inf, data.spare[touched])
    row_of = np.zeros(len(data.spare), dtype=np.int64)
    row_of[touched] = rows
    program.add(row_of[data.resource], path[0::2], data.need)
    program.add(row_of[data.resource], path[1::2], data.need + data.rate_use * data.extra)
    program.add(row_of[data.near_resource], share, data.near_rate_use * data.near_extra)
    return rows


def floors_on_totals(
    program: ArrayProgram, data: NeighbourhoodData, path: IntArray, share: IntArray
) -> IntArray:
    """A and Th / unit of the columns are at least what the floors lack, where there are floors."""
    if data.lacking is None:
        return np.empty(0, dtype=np.int64)
    rows = program.constraints("floors_on_totals", 2, data.lacking, np.inf)
    program.add(rows[0], path, np.repeat(data.accuracy, 2))
    program.add(rows[1], path, rates(data) / data.throughput_unit)
    program.add(rows[1], share, data.near_extra / data.throughput_unit)
    return rows


def one_path_per_task(program: ArrayProgram, data: NeighbourhoodData, path: IntArray) -> None:
    """sum over p of t: (v[p] + e[p]) = 1."""
    count = int(data.owner[-1]) + 1 if len(data.owner) else 0
    rows = program.constraints("one_path_per_task", count, 1.0, 1.0)
    program.add(rows[np.repeat(data.owner, 2)], path, 1.0)


def shortages(
    program: ArrayProgram, data: NeighbourhoodData, capacity_rows: IntArray, floor_rows: IntArray
) -> None:
    """z >= 0 on the right of each capacity, and on the left of each floor, times the floor."""
    rows = np.concatenate((capacity_rows, floor_rows))
    lack = program.variables("shortage", len(rows), cost=-(data.shortage_cost or 0.0))
    relief = np.concatenate((np.full(len(capacity_rows), -1.0), data.least[: len(floor_rows)]))
    program.add(rows, lack, relief)
