"""Rates for fixed paths: a linear program that is solved anew for every assignment tried.

    max   sum_g n[g] r[g]                                        total_throughput
    s.t.  sum_g use[g,i] r[g] <= 1                               server_and_link_capacity
          f[g] <= r[g] <= d[g]                                   floor_and_demand

The n[g] tasks of a group have one rate r[g], which counts once for each of them; use[g,i] is that
of all of them together, shared prefixes once. Variables are r[g] / R[g], which lie in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from formulations.arrays import ArrayProgram, FloatArray, IntArray, LinearArrays


@dataclass(frozen=True)
class RateData:
    """G groups of tasks, I resources of which the group of each entry can use one."""

    size: FloatArray
    """n[g], tasks of each group."""
    floor: FloatArray
    """f[g] [inferences/s]."""
    demand: FloatArray
    """d[g] >= f[g] [inferences/s], may be infinite."""
    unit: FloatArray
    """R[g] > 0: the largest rate of any path [inferences/s], in which rates are measured."""
    group: IntArray
    """Group of each entry."""
    resource: IntArray
    """Server or link of each entry."""
    use: FloatArray
    """use[g,i] of each entry [s]."""
    resources: int
    """I."""


def build_rate_program(data: RateData, program: ArrayProgram | None = None) -> LinearArrays:
    """Return the program; uses may be replaced later."""
    program = program or ArrayProgram()
    rate = program.variables(
        "rate",
        len(data.size),
        lower=data.floor / data.unit,
        upper=data.demand / data.unit,
        cost=total_throughput(data),
    )
    server_and_link_capacity(program, data, rate)
    return program.arrays()


def total_throughput(data: RateData) -> FloatArray:
    """sum_g n[g] r[g], divided by its largest coefficient."""
    coefficient = data.size * data.unit
    return np.asarray(coefficient / coefficient.max(initial=1e-300))


def server_and_link_capacity(program: ArrayProgram, data: RateData, rate: IntArray) -> None:
    """sum_g use[g,i] r[g] <= 1."""
    rows = program.constraints("server_and_link_capacity", data.resources, -np.inf, 1.0)
    program.add(rows[data.resource], rate[data.group], data.use * data.unit[data.group])
