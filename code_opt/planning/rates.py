"""Rates for fixed units and paths: the most throughput within demands and capacities."""

from __future__ import annotations

import numpy as np

from code_opt.errors import SolverError
from code_opt.paths.graph import FloatArray, IntArray, rate_groups
from code_opt.planning.case import Case
from code_opt.planning.tolerances import NOISE, ROW
from code_opt.result import TOLERANCE
from code_opt.solvers import LinearProgram
from formulations.rates import RateData, build_rate_program


def most_rates(
    case: Case, units: FloatArray, paths: IntArray, demand: FloatArray, floor: FloatArray
) -> FloatArray:
    """Return the rates of greatest sum, shape (T,); those of an input group are the same.

    Args:
        case: paths and units.
        units: units of each server and link, shape (I,).
        paths: path of each task, shape (T,).
        demand: most of each rate [inferences/s], shape (T,).
        floor: least of each rate [inferences/s], shape (T,).

    Raises:
        SolverError: the floors do not fit (never expected of a plan).
    """
    capacity = case.capacity(units)
    if (case.load(paths, demand) <= capacity * (1.0 + NOISE)).all():
        return demand.copy()
    groups = rate_groups(case.instance)
    use = []
    for group in groups:
        alone = np.full(len(paths), -1)
        alone[list(group)] = paths[list(group)]
        use.append(case.load(alone, np.ones(len(paths))) / capacity)
    first = [group[0] for group in groups]
    sizes = np.array([float(len(group)) for group in groups])
    rates = np.zeros(len(paths))
    for group, rate in zip(
        groups, _most(np.array(use), demand[first], floor[first], sizes).tolist(), strict=True
    ):
        rates[list(group)] = rate
    return rates


def _most(use: FloatArray, demand: FloatArray, floor: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the rates of largest throughput within demands and capacities of 1, shape (n,).

    Args:
        use: of servers and links, shape (n, I).
        demand: most of each rate [inferences/s], shape (n,).
        floor: least of each rate [inferences/s], shape (n,).
        sizes: tasks that have each rate, shape (n,).

    Raises:
        SolverError: the floors do not fit.
    """
    # Rates in units of the most that each can reach alone, so that every number is at most
    # about 1 and the solver's tolerance means the same share of every capacity.
    reach = np.minimum(demand, 1.0 / np.maximum(use.max(axis=1, initial=0.0), _SMALLEST_USE))
    unit = np.where(demand > 0.0, np.maximum(reach, floor), 1.0)
    group, resource = np.nonzero(use)
    data = RateData(
        size=sizes,
        floor=floor,
        demand=demand,
        unit=unit,
        group=group,
        resource=resource,
        use=use[group, resource],
        resources=use.shape[1],
    )
    program = LinearProgram(build_rate_program(data))
    for slack in (0.0, *_FLOOR_SLACKS):
        for row in range(use.shape[1]):
            program.set_row_bounds(row, -np.inf, 1.0 + slack)
        outcome = program.solve()
        if outcome is not None:
            return np.clip(outcome.x * unit, floor, demand)
    raise SolverError("the floors of a plan do not fit its capacities")


_FLOOR_SLACKS = (10.0 * ROW, TOLERANCE / 2.0)
"""Shares of a capacity by which floors may be too much: a program lets a little pass."""
_SMALLEST_USE = 1e-300
