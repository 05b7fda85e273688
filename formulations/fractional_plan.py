"""The plan with fractional units: the linear program that the planning heuristic prices by.

    max   - sum_p c[p] x[p] - sum_i q[i] e[i] - M sum lack       least_cost
    s.t.  sum_{p of t} x[p] = 1                                  one_path_per_task
          sum_p use[p,i] d[k,t] x[p] <= C[i] + e[i] + lack[k,i]  capacity_in_situations
          sum_p w[t] A[p] x[p] >= min_accuracy - lack            accuracy_of_choice

e[i] in [0, E[i]] is the capacity bought. Everything may lack at the price M, so the program has a
solution. Capacity rows are divided by L[i], as those of :mod:`formulations.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from formulations.arrays import ArrayProgram, FloatArray, IntArray, LinearArrays


@dataclass(frozen=True)
class FractionalPlanData:
    """P paths of T tasks, I servers and links, K situations."""

    task: IntArray
    """t(p), ascending, shape (P,)."""
    gain: FloatArray
    """w[t(p)] A[p], shape (P,)."""
    path: IntArray
    """Path of each entry of use."""
    resource: IntArray
    """Server or link of each entry."""
    use: FloatArray
    """use[p,i] of each entry."""
    demand: FloatArray
    """d[k,t] [inferences/s], shape (K, T)."""
    capacity: FloatArray
    """C[i], shape (I,)."""
    most: FloatArray
    """E[i]: most capacity that can be bought, 0 where none is sold, may be infinite."""
    load_unit: FloatArray
    """L[i]."""
    min_accuracy: float
    missing: float
    """M."""

    @property
    def rows(self) -> int:
        """Number of rows that may lack something."""
        return len(self.demand) * len(self.capacity) + 1

    @cached_property
    def sold(self) -> IntArray:
        """Servers and links of which capacity is sold."""
        return np.flatnonzero(self.most > 0.0)


class FractionalPlan:
    """The program, and where its parts stand."""

    def __init__(self, data: FractionalPlanData, program: ArrayProgram | None = None) -> None:
        """State the program at no cost of paths and capacity."""
        program = program or ArrayProgram()
        self._missing = data.missing
        self.share = program.variables("share", len(data.task), upper=1.0)
        self.bought = program.variables("bought", len(data.sold), upper=data.most[data.sold])
        self.lacking = program.variables("lacking", data.rows, cost=-data.missing)
        self.one = one_path_per_task(program, data, self.share)
        self.capacity = capacity_in_situations(
            program, data, self.share, self.bought, self.lacking[:-1]
        )
        self.accuracy = accuracy_of_choice(program, data, self.share, self.lacking[-1:])
        self.arrays: LinearArrays = program.arrays()

    def cost(self, path: FloatArray, bought: FloatArray) -> FloatArray:
        """Return the coefficients of the objective at other prices of paths and capacity."""
        return np.concatenate((-path, -bought, np.full(len(self.lacking), -self._missing)))


def one_path_per_task(program: ArrayProgram, data: FractionalPlanData, share: IntArray) -> IntArray:
    """sum over p of t: x[p] = 1."""
    rows = program.constraints("one_path_per_task", data.demand.shape[1], 1.0, 1.0)
    program.add(rows[data.task], share, 1.0)
    return rows


def capacity_in_situations(
    program: ArrayProgram,
    data: FractionalPlanData,
    share: IntArray,
    bought: IntArray,
    lacking: IntArray,
) -> IntArray:
    """sum over p: use[p,i] d[k,t(p)] x[p] <= C[i] + e[i] + lack[k,i], divided by L[i]."""
    situations, resources = len(data.demand), len(data.capacity)
    limit = np.tile(data.capacity / data.load_unit, situations)
    rows = program.constraints("capacity_in_situations", len(limit), -np.inf, limit)
    by_situation = rows.reshape(situations, resources)
    for row, demand in zip(by_situation, data.demand, strict=True):
        load = data.use * demand[data.task[data.path]] / data.load_unit[data.resource]
        program.add(row[data.resource], share[data.path], load)
        program.add(row[data.sold], bought, -1.0 / data.load_unit[data.sold])
    program.add(rows, lacking, -limit)
    return rows


def accuracy_of_choice(
    program: ArrayProgram, data: FractionalPlanData, share: IntArray, lacking: IntArray
) -> IntArray:
    """sum over p: w[t(p)] A[p] x[p] >= min_accuracy - lack."""
    rows = program.constraints("accuracy_of_choice", 1, -np.inf, -data.min_accuracy)
    program.add(rows[0], share, -data.gain)
    program.add(rows, lacking, -1.0)
    return rows
