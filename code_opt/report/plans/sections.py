"""Sections about plans, one per plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from code_opt.report.blocks import Block, Callout, Items, More, Section
from code_opt.report.material import Material
from code_opt.report.plans.combined import combined_blocks
from code_opt.report.plans.failures import failures_blocks
from code_opt.report.plans.front import front_blocks
from code_opt.report.plans.growth import growth_blocks
from code_opt.report.plans.least_cost import least_cost_blocks
from code_opt.report.plans.marginal import marginal_blocks
from code_opt.report.plans.reading import PlanTables
from code_opt.report.plans.scenarios import scenarios_blocks
from code_opt.report.plans.sweep import sweep_blocks
from code_opt.text import percent

if TYPE_CHECKING:
    from code_opt.planning import Plan


HEADINGS = {
    "least-cost": "Least-cost capacity",
    "growth": "Growth: what to buy when",
    "scenarios": "Uncertain demand",
    "failures": "When a server fails",
    "combined": "Growth, hours and failures together",
    "front": "Pareto front: throughput against accuracy",
    "marginal": "What a little more capacity is worth",
    "sweep": "What if a field changes",
}
"""Kinds of plans in the order of the page."""

_BUILDERS: dict[str, Callable[[PlanTables, Material, str], list[Block]]] = {
    "least-cost": least_cost_blocks,
    "growth": growth_blocks,
    "scenarios": scenarios_blocks,
    "failures": failures_blocks,
    "combined": combined_blocks,
    "front": front_blocks,
    "marginal": marginal_blocks,
    "sweep": sweep_blocks,
}


def plan_sections(material: Material) -> list[Section]:
    """Return one section per plan, in the order of :data:`HEADINGS`.

    Raises:
        InputError: a plan lacks a table or a column that its kind must have.
    """
    sections = []
    for kind, heading in HEADINGS.items():
        mine = [one for one in material.plans if one.plan.kind == kind]
        for number_of, one in enumerate(mine, start=1):
            suffix = f"-{number_of}" if len(mine) > 1 else ""
            more = f" ({one.path.stem})" if len(mine) > 1 else ""
            blocks = [*_opening(one.plan), *_BUILDERS[kind](PlanTables(one), material, suffix)]
            sections.append(Section(kind + suffix, heading + more, tuple(blocks)))
    return sections


def _opening(plan: Plan) -> list[Block]:
    if plan.status == "optimal" and not plan.message:
        return []
    words = {
        "optimal": "proven optimal",
        "feasible": "not proven optimal"
        if plan.gap is None
        else f"proven within {percent(plan.gap, up=True)}",
        "unknown": "stopped before a plan was found",
        "infeasible": "cannot be met at any size",
    }
    bad = plan.status in ("infeasible", "unknown")
    heading = ("in part " if plan.has_any else "") + words[plan.status]
    reasons, rest = plan.reasons
    blocks: list[Block] = [Callout(heading, reasons, "bad" if bad else "note")]
    if rest:
        blocks.append(More(f"{len(rest)} more reasons", (Items(rest),)))
    return blocks
