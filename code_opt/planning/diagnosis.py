"""Why no plan of any size serves a demand: which floor, limit or demand forbids it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from code_opt.paths.graph import FloatArray
from code_opt.planning.case import Case, build_case
from code_opt.planning.programs import plan_data, solve_program
from code_opt.planning.settings import PlanSettings
from code_opt.planning.tolerances import NOISE
from code_opt.text import amount
from formulations import Situation

_STEP, _STEPS = 0.01, 1e5
"""Capacity that is missing is looked for in steps of this share, or in so many steps."""
_SECONDS, _GAP = 20.0, 0.02


def why_infeasible(
    case: Case, demand: FloatArray, min_accuracy: float | None, settings: PlanSettings
) -> str:
    """Return in words why no number of units serves a demand.

    Args:
        case: paths and what is sold.
        demand: rates [inferences/s], shape (T,).
        min_accuracy: floor on the average accuracy.
        settings: solver and seed.
    """
    empty = [t for t, n in enumerate(np.diff(case.first).tolist()) if n == 0]
    if empty:
        return "\n".join(_why_no_path(case, t, settings) for t in empty[:5])
    best = np.array(
        [
            case.accuracy[first:after].max()
            for first, after in zip(case.first[:-1], case.first[1:], strict=True)
        ]
    )
    most = float(case.weights @ best)
    if min_accuracy is not None and most < min_accuracy - NOISE:
        return (
            f"no paths reach an average accuracy of {min_accuracy:.6g}: "
            f"the most accurate path of every task gives {most:.6g}"
        )
    lines = _missing_capacity(case, demand, min_accuracy, settings)
    if not lines and case.memories:
        lines = ["the adapters that the accuracy floors need do not fit the memories"]
    if not lines:
        lines = ["no single reason was found: the demand, the floors and what is sold do not fit"]
    return "\n".join(lines)


def _why_no_path(case: Case, number: int, settings: PlanSettings) -> str:
    """Return which limit of a task leaves it without a path."""
    instance = case.instance
    task = instance.tasks[number]
    limits: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    if task.min_accuracy > 0.0:
        limits.append((f"min_accuracy {task.min_accuracy:g}", {"min_accuracy": 0.0}, {}))
    if task.max_latency is not None:
        limits.append((f"max_latency {task.max_latency} s", {"max_latency": None}, {}))
    if case.memories:
        limits.append(("the memories for its adapters", {}, {"memory": None}))
    alone = []
    for name, changes, server_changes in limits:
        tasks = tuple(
            t.model_copy(update=changes) if i == number else t for i, t in enumerate(instance.tasks)
        )
        servers = tuple(s.model_copy(update=server_changes) for s in instance.servers)
        relaxed = instance.model_copy(update={"tasks": tasks, "servers": servers})
        pool = build_case(relaxed, settings, case.coordination).pool
        if len(pool.tasks[number]):
            alone.append(name)
    if alone:
        return f"task {task.id!r}: no path within " + ", nor without ".join(alone)
    return f"task {task.id!r}: no path within its limits of accuracy and latency and the links"


def _missing_capacity(
    case: Case, demand: FloatArray, min_accuracy: float | None, settings: PlanSettings
) -> list[str]:
    """Return which capacities are too small even with all units that are sold.

    Capacities are those with all units; what is missing is bought in steps of 1 % of them at
    one price, as little as possible.
    """
    largest = 1.0 + np.where(case.unit > 0.0, case.unit * case.sold, 0.0)
    limited = np.isfinite(largest)
    scale = np.where(limited, largest, np.inf)
    step = np.maximum(_STEP, case.largest_load(demand) / scale / _STEPS)
    shape = len(case.unit)
    elastic = replace(
        case.scaled(scale),
        unit=np.where(limited, step, 0.0),
        price=np.ones(shape),
        sold=np.where(limited, np.inf, 0.0),
    )
    quick = replace(settings, gap=_GAP, time_limit=_SECONDS)
    outcome = solve_program(
        elastic,
        plan_data(elastic, [Situation(0, 0, demand.tolist())], [min_accuracy]),
        quick,
    )
    if outcome.paths is None:
        return []
    lines = ["the demand is too large for what can be bought:"]
    load = case.load(outcome.paths[0], demand)
    over = load / largest
    for i in np.flatnonzero(over > 1.0 + NOISE).tolist():
        resource = case.resources[i]
        unit = resource.unit.replace("bytes", "B")
        have = "no units are sold (unit_flops, unit_bandwidth)"
        if case.sold[i] > 0.0:
            most = amount(resource.capacity * largest[i], unit)
            have = f"{most} with all {case.sold[i]:.0f} units"
        lines.append(
            f"  {resource.name}: {amount(resource.capacity * load[i], unit)} are needed, present "
            f"{amount(resource.capacity, unit)}, {have}"
        )
    if len(lines) == 1:
        return []
    lines.append(f"  {100.0 / over.max():.3g} % of the demand fit on the same paths")
    if min_accuracy is not None:
        free = solve_program(
            elastic, plan_data(elastic, [Situation(0, 0, demand.tolist())], [None]), quick
        )
        if free.paths is not None and not free.cost:
            reached = case.average_accuracy(free.paths[0])
            lines.append(
                f"  or lower the floor of the average accuracy from {min_accuracy:.6g} "
                f"to {reached:.6g}"
            )
    return lines
