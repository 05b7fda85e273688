"""Why no plan of any size serves a demand: which floor, limit or demand forbids it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from code_opt.paths.graph import FloatArray
from code_opt.planning.case import Case, build_case
from code_opt.planning.offers import Offers
from code_opt.planning.programs import ProgramOutcome, plan_data, solve_program
from code_opt.planning.tolerances import NOISE
from code_opt.text import amount
from formulations import Situation

_STEP, _STEPS = 0.01, 1e5
"""Capacity that is missing is looked for in steps of this share, or in so many steps."""
_SECONDS, _GAP = 20.0, 0.02


_NO_REASON = "no single reason was found: the demand, the floors and what is sold do not fit"


def why_infeasible(case: Case, demand: FloatArray, otherwise: str = _NO_REASON) -> str:
    """Return in words why no number of units serves a demand.

    Args:
        case: paths, what is sold, and the floor on the accuracy.
        demand: rates [inferences/s], shape (T,).
        otherwise: what to say where the demand by itself is no reason.
    """
    empty = np.flatnonzero(np.diff(case.first) == 0).tolist()
    if empty:
        return "\n".join(_why_no_path(case, t) for t in empty[:5])
    most = float(np.maximum.reduceat(case.table.accuracy, case.first[:-1]).sum())
    if case.min_accuracy is not None and most < case.min_accuracy - NOISE:
        return (
            f"no paths reach an average accuracy of {case.min_accuracy:.6g}: "
            f"the most accurate path of every task gives {most:.6g}"
        )
    lines = _missing_capacity(replace(case, promises=None), demand)
    if not lines and case.promises is not None:
        lines = ["the limits of percentiles cannot be kept with all that can be bought"]
    if not lines and len(case.memories):
        lines = ["the adapters that the accuracy floors need do not fit the memories"]
    if not lines:
        lines = [otherwise]
    return "\n".join(lines)


def _why_no_path(case: Case, number: int) -> str:
    """Return which limit of a task leaves it without a path."""
    instance = case.instance
    task = instance.tasks[number]
    limits: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    if task.min_accuracy > 0.0:
        limits.append((f"min_accuracy {task.min_accuracy:g}", {"min_accuracy": 0.0}, {}))
    if task.max_latency is not None:
        limits.append((f"max_latency {task.max_latency} s", {"max_latency": None}, {}))
    if len(case.memories):
        limits.append(("the memories for its adapters", {}, {"memory": None}))
    alone = []
    for name, changes, server_changes in limits:
        tasks = tuple(
            t.model_copy(update=changes) if i == number else t for i, t in enumerate(instance.tasks)
        )
        servers = tuple(s.model_copy(update=server_changes) for s in instance.servers)
        relaxed = instance.model_copy(update={"tasks": tasks, "servers": servers})
        if len(build_case(relaxed, case.settings, case.coordination).pool.tasks[number]):
            alone.append(name)
    if alone:
        return f"task {task.id!r}: no path within " + ", nor without ".join(alone)
    return f"task {task.id!r}: no path within its limits of accuracy and latency and the links"


def _missing_capacity(case: Case, demand: FloatArray) -> list[str]:
    """Return which capacities are too small even with all units that are sold.

    Capacities are those with all units; what is missing is bought in steps of 1 % of them at
    one price, as little as possible.
    """
    largest = case.offers.largest
    limited = case.is_rate & np.isfinite(largest)
    step = np.maximum(_STEP * largest, case.largest_load(demand) / _STEPS)
    elastic = replace(
        case,
        settings=replace(case.settings, gap=_GAP, time_limit=_SECONDS),
        offers=Offers(
            present=largest,
            unit=np.where(limited, step, 0.0),
            purchase=np.ones(len(largest)),
            yearly=np.zeros(len(largest)),
            sold=np.where(limited, np.inf, 0.0),
        ),
    )
    outcome = _solve(elastic, demand)
    if outcome.decision is None:
        return []
    load = case.load(outcome.decision.paths[0], demand)
    # Where there is nothing, any load is too much.
    nothing = np.where(load > 0.0, np.inf, 0.0)
    over = np.divide(load, largest, out=nothing, where=case.is_rate & (largest > 0.0))
    over[~case.is_rate] = 0.0
    lacking = np.flatnonzero(over > 1.0 + NOISE).tolist()
    if not lacking:
        return []
    lines = [
        "the demand is too large for what can be bought:",
        *(_lack(case, i, float(load[i])) for i in lacking),
        f"  {100.0 / over.max():.3g} % of the demand fit on the same paths",
    ]
    if case.min_accuracy is not None:
        free = _solve(replace(elastic, min_accuracy=None), demand)
        if free.decision is not None and not free.decision.cost:
            reached = case.average_accuracy(free.decision.paths[0])
            lines.append(
                f"  or lower the floor of the average accuracy from {case.min_accuracy:.6g} "
                f"to {reached:.6g}"
            )
    return lines


def _solve(case: Case, demand: FloatArray) -> ProgramOutcome:
    return solve_program(case, plan_data(case, [Situation(0, 0, demand.tolist())]))


def _lack(case: Case, i: int, load: float) -> str:
    """Return what a server or link would have to carry, and what it has."""
    resource, offers = case.resources[i], case.offers
    measure = resource.unit.replace("bytes", "B")
    have = "no units are sold (unit_flops, unit_bandwidth)"
    if offers.sold[i] > 0.0:
        most = amount(resource.capacity * offers.largest[i], measure)
        have = f"{most} with all {offers.sold[i]:.0f} units"
    return (
        f"  {resource.name}: {amount(resource.capacity * load, measure)} are needed, present "
        f"{amount(resource.capacity * offers.present[i], measure)}, {have}"
    )
