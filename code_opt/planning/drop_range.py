"""Plans where drops are guesses: what they cost, and save, at both ends of the drops' ranges."""

from __future__ import annotations

from collections.abc import Callable

from code_opt.instance.model import Instance
from code_opt.plan_checker import check_plan
from code_opt.planning.columns import TableBuilder
from code_opt.planning.operation import PlanFailedCheckError, listed
from code_opt.planning.plan import Plan, Table

TABLE = "drops"
_KEYS = frozenset(
    {"growth", "max_loss_points", "coordination", "variant", "plan", "routing", "served_share"}
)
_FIGURES = frozenset(
    {
        *("status", "cost", "present_value", "bound", "gap", "units"),
        *("accuracy_loss_points", "saved_cost", "saved_units", "extra_cost", "extra_units"),
    }
)


def with_drop_range(instance: Instance, make: Callable[[Instance], Plan]) -> Plan:
    """Return a plan; where drops are guessed, with a table of what their ranges make of it.

    Each of the three plans is made, and checked, for itself; the one returned is that of the
    guessed drops.

    Args:
        instance: what to plan for.
        make: the analysis.

    Raises:
        PlanFailedCheckError: the plans contradict each other (never expected).
    """
    plan = make(instance)
    if not instance.has_guesses or not any(t.name == "summary" for t in plan.tables_):
        return plan
    if plan.settings.get("coordination") == "none":
        return plan  # native paths have no drops
    plans = {
        "low": make(instance.with_drops("low")),
        "middle": plan,
        "high": make(instance.with_drops("high")),
    }
    plan = plan.model_copy(update={"tables_": (*plan.tables_, _table(plans))})
    violations = check_plan(plan.to_dict(), instance)
    if violations:
        raise PlanFailedCheckError(f"the plan does not pass the check: {listed(violations)}")
    return plan


def _table(plans: dict[str, Plan]) -> Table:
    """Return what the plans cost by the drops that they were made for."""
    names = [column.name for column in plans["middle"].table("summary").columns]
    keys = [name for name in names if name in _KEYS]
    figures = [name for name in names if name in _FIGURES]
    table = TableBuilder(
        TABLE, "What the guessed drops decide", " ".join([*keys, "drops", *figures])
    )
    rows = {end: _exact_rows(plan) for end, plan in plans.items()}
    for number in range(len(rows["middle"])):
        for end in plans:
            table.add_fitting([rows[end][number]], drops=end)
    return table.table()


def _exact_rows(plan: Plan) -> list[dict[str, object]]:
    """Return the rows of a summary without those of the heuristic."""
    rows = plan.table("summary").records()
    return [row for row in rows if row.get("method", "exact") == "exact"]
