"""Sections about plans: one module per kind of plan.

Imports: from the other modules of the report, ``code_opt.planning`` for types only.
"""

from code_opt.report.plans.reading import money
from code_opt.report.plans.sections import HEADINGS, plan_sections

__all__ = ["HEADINGS", "money", "plan_sections"]
