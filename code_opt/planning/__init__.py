"""Capacity planning: what to buy where, for which growth, and what else an operator asks."""

from code_opt.planning.least_cost import plan_least_cost
from code_opt.planning.plan import Plan, Table, export_tables, load_plan, save_plan
from code_opt.planning.settings import PlanSettings

__all__ = [
    "Plan",
    "PlanSettings",
    "Table",
    "export_tables",
    "load_plan",
    "plan_least_cost",
    "save_plan",
]
