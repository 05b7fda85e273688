"""Duals behind a bound, for a certificate: those of the relaxation over all paths.

Cuts and branching are left out, since whoever verifies a certificate has neither.
"""

from __future__ import annotations

from dataclasses import replace

from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.joint_tasks import build_joint_tasks, single_tasks
from code_opt.core.master import RestrictedMaster
from code_opt.core.objective import ObjectiveFunction
from code_opt.core.settings import SMALLEST_GAP, Clock, Settings
from code_opt.exact.method import needs_pricing
from code_opt.exact.pricing import priced_pool
from code_opt.paths import Duals, PathProblem


def relaxation_duals(
    problem: PathProblem, settings: Settings, *, is_joint: bool = True
) -> Duals | None:
    """Return the duals of the best bound of the relaxation, those of resources per capacity.

    They count in the objective as bounds do: a reward by its logarithm, a latency as minus
    seconds, negative ones are none. None where some task has no path, or time was over before.

    Args:
        problem: as the settings narrow it.
        settings: objective, floors and time limit.
        is_joint: whether the tasks of an input group take joint paths, which share; else each pays
            for its path alone.
    """
    clock = Clock(settings.time_limit)
    settings = replace(settings, formulation="colgen", solver="highs", progress=None)
    found: Duals | None = None
    if needs_pricing(problem, settings):
        priced = priced_pool(problem.topology, settings, clock)
        pool, found = (None, None) if priced is None else (priced.pool, priced.duals)
    else:
        pool = problem.pool
    if pool is None or any(len(task) == 0 for task in pool.tasks):
        return None
    objective = ObjectiveFunction.of(pool, settings)
    if found is None:
        parameters = settings.parameters
        joint = build_joint_tasks(pool, parameters.joint_paths) if is_joint else single_tasks(pool)
        table = ColumnTable(pool, joint)
        master = RestrictedMaster(
            Relaxation(table, objective),
            table.first_columns(),
            None,
            max(settings.gap, SMALLEST_GAP),
            parameters.column_generation.master,
            may_miss=True,
        )
        point = master.settle(clock)
        if point is None:
            return None
        found = point.duals
    unit = objective.unit
    return replace(
        found,
        resource=found.resource * unit,
        accuracy=max(found.accuracy, 0.0) * unit,
        throughput=max(found.throughput, 0.0) * unit,
        time=found.time * unit,
    )
