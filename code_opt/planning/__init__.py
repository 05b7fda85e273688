"""Capacity planning: what to buy where, for which growth, and what else an operator asks."""

from code_opt.planning.case import COORDINATIONS
from code_opt.planning.combined import ROUTINGS, is_comparison, plan_combined
from code_opt.planning.demands import Scenarios, load_scenarios, parse_scenarios
from code_opt.planning.drop_range import with_drop_range
from code_opt.planning.exporting import can_write_parquet, export_tables
from code_opt.planning.failures import plan_failures
from code_opt.planning.fields import Variation, check_field, parse_variation, with_value
from code_opt.planning.front import plan_front
from code_opt.planning.growth import plan_growth
from code_opt.planning.least_cost import plan_least_cost
from code_opt.planning.marginal import plan_marginal
from code_opt.planning.plan import (
    Column,
    Plan,
    Table,
    load_plan,
    save_plan,
)
from code_opt.planning.scenarios import plan_scenarios
from code_opt.planning.settings import PlanSettings
from code_opt.planning.states import PlannedState, planned_states, save_states
from code_opt.planning.sweep import SWEEP_METHODS, plan_sweep
from code_opt.planning.workbook import cut_cells

__all__ = [
    "COORDINATIONS",
    "ROUTINGS",
    "SWEEP_METHODS",
    "Column",
    "Plan",
    "PlanSettings",
    "PlannedState",
    "Scenarios",
    "Table",
    "Variation",
    "can_write_parquet",
    "check_field",
    "cut_cells",
    "export_tables",
    "is_comparison",
    "load_plan",
    "load_scenarios",
    "parse_scenarios",
    "parse_variation",
    "plan_combined",
    "plan_failures",
    "plan_front",
    "plan_growth",
    "plan_least_cost",
    "plan_marginal",
    "plan_scenarios",
    "plan_sweep",
    "planned_states",
    "save_plan",
    "save_states",
    "with_drop_range",
    "with_value",
]
