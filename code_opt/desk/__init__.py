"""A planner's workbook: sheets of sites, devices, networks, services and money, as an instance."""

from code_opt.desk.building import PlanRequest, is_workbook, load_instance, load_request
from code_opt.desk.writing import template, write_sheets

__all__ = [
    "PlanRequest",
    "is_workbook",
    "load_instance",
    "load_request",
    "template",
    "write_sheets",
]
