"""Sections about plans: one module per kind of plan.

Imports: from the other modules of the report; of ``code_opt.planning`` types and columns.
"""

from code_opt.planning.columns import money
from code_opt.report.plans.sections import HEADINGS, certificates, plan_sections

__all__ = ["HEADINGS", "certificates", "money", "plan_sections"]
