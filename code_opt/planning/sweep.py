"""What-if sweeps: one field of the instance takes a range of values, all else stays."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.planning.analysis import Analysis
from code_opt.planning.case import with_demands
from code_opt.planning.columns import TableBuilder
from code_opt.planning.fields import Variation, check_field, parse_variation, with_value
from code_opt.planning.least_cost import plan_least_cost
from code_opt.planning.plan import Plan
from code_opt.planning.settings import PlanSettings
from code_opt.registry import get_method, role_of
from code_opt.solving import solve
from code_opt.stopping import is_stop_requested

SWEEP_METHODS = ("exact", "lns", "local")
PLAN = "plan"
"""Stands for the least cost among the methods of a sweep."""

Job = tuple[str, float, Instance, str, dict[str, Any], PlanSettings, float | None]


def plan_sweep(
    instance: Instance,
    settings: PlanSettings | None = None,
    *,
    vary: Sequence[str | Variation],
    methods: Sequence[str] = SWEEP_METHODS,
    objective: str = "reward",
    max_loss: float | None = None,
    executor: Executor | None = None,
) -> Plan:
    """Return what happens while a field takes other values, one field at a time.

    Args:
        instance: what is varied.
        settings: gap and time limit of each solve.
        vary: fields and values, as in ``servers[edge-a].flops=1e9:4e9:7``.
        methods: methods of ``solve``, and ``plan`` for the least cost.
        objective: what the methods of ``solve`` maximise.
        max_loss: most points of average accuracy lost (of ``plan`` alone).
        executor: where the solves run.

    Raises:
        InputError: a field or a method is unknown, or a value is refused.
        SolverError: the solver failed.
    """
    settings = settings or PlanSettings()
    for method in methods:
        if method != PLAN:
            get_method(method)
    variations = [parse_variation(v) if isinstance(v, str) else v for v in vary]
    if not variations:
        raise InputError("a sweep needs a field to vary")
    table = TableBuilder(
        "sweep",
        "What happens while a field varies",
        "field value method status reward bound gap throughput_per_s accuracy cost units "
        "seconds message",
    )
    analysis = Analysis("sweep", instance, settings, table)
    options = {**settings.solve_options(), "objective": objective}
    # What reports progress stays here: it need not be fit to travel to another process.
    quiet = replace(settings, progress=None)
    jobs: list[Job] = []
    for variation in variations:
        check_field(instance, variation.field)
        for value in variation.values:
            varied = with_demands(with_value(instance, variation.field, value), settings)
            jobs += [(variation.field, value, varied, m, options, quiet, max_loss) for m in methods]
    if executor is None:
        for number, job in enumerate(jobs, start=1):
            analysis.tell(f"sweep: {number} of {len(jobs)}")
            table.add(**_row(job))
    else:
        analysis.tell(f"sweep: {len(jobs)} solves")
        table.add_all(executor.map(_row, jobs))
    is_proof = [row["method"] == PLAN or role_of(row["method"]) == "exact" for row in table.rows]
    for row, proves in zip(table.rows, is_proof, strict=True):
        if proves or not any(is_proof):
            analysis.prove(row["status"], row["gap"] if proves else None)
    return analysis.plan(objective=objective, methods=", ".join(methods))


def _row(job: Job) -> dict[str, Any]:
    """Solve one job and return its row by the names of the columns."""
    field, value, instance, method, options, settings, max_loss = job
    key = {"field": field, "value": value, "method": method}
    if is_stop_requested():
        return {**key, "status": "unknown", "gap": None, "message": "not begun before an interrupt"}
    if method == PLAN:
        plan = plan_least_cost(instance, settings, max_loss=(max_loss,), coordinations=("full",))
        row = plan.table("summary").records()[0]
        same = ("bound", "gap", "throughput_per_s", "accuracy", "cost", "units", "message")
        found = {name: row[name] for name in same}
        return {**key, **found, "status": plan.status, "seconds": plan.seconds}
    result = solve(instance, method=method, **options)
    return {
        **key,
        "status": result.status,
        "reward": result.reward,
        "bound": result.bound,
        "gap": result.gap,
        "throughput_per_s": result.throughput,
        "accuracy": result.accuracy,
        "seconds": result.seconds,
        "message": result.message,
    }
