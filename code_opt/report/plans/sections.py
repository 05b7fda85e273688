"""Sections about plans, one per plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from code_opt.planning import is_comparison
from code_opt.planning.columns import as_given
from code_opt.planning.reading import number_asked, numbers_asked
from code_opt.planning.recommendation_words import loss_limit
from code_opt.report.blocks import (
    Block,
    Callout,
    Cell,
    Column,
    Items,
    More,
    Paragraph,
    Row,
    Section,
    Table,
)
from code_opt.report.material import Material
from code_opt.report.numbers import gap
from code_opt.report.plans.combined import combined_blocks
from code_opt.report.plans.failures import failures_blocks
from code_opt.report.plans.front import front_blocks
from code_opt.report.plans.growth import growth_blocks
from code_opt.report.plans.least_cost import least_cost_blocks
from code_opt.report.plans.marginal import marginal_blocks
from code_opt.report.plans.reading import PlanTables, coordination_style
from code_opt.report.plans.scenarios import scenarios_blocks
from code_opt.report.plans.sweep import sweep_blocks
from code_opt.text import percent, seconds, share

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
        plans = [one.plan for one in material.plans]
        mine = [
            one
            for one in material.plans
            if one.plan.kind == kind and not is_comparison(one.plan, plans)
        ]
        for number_of, one in enumerate(mine, start=1):
            suffix = f"-{number_of}" if len(mine) > 1 else ""
            more = f" ({one.path.stem})" if len(mine) > 1 else ""
            blocks = [
                *_opening(one.plan),
                *_BUILDERS[kind](PlanTables(one, material.instance.currency), material, suffix),
            ]
            sections.append(
                Section(kind + suffix, heading + more, tuple(blocks), _settings(one.plan))
            )
    return sections


def _settings(plan: Plan) -> str:
    """Return what was asked of a plan: growth, limits, headroom, what may fail."""
    asked = plan.settings
    parts = []
    growth = numbers_asked(plan, "growth")
    if growth:
        parts.append(f"growth {', '.join(map(as_given, growth))}")
    elif plan.kind in ("front", "marginal", "sweep"):
        parts.append("demand and capacities as they are")
    loss = numbers_asked(plan, "max_loss_points")
    if len(loss) > 1:
        parts.append(f"at most {', '.join(map(as_given, loss))} points of accuracy lost")
    elif "max_loss_points" in asked:
        parts.append(loss_limit(loss[0] if loss else None))
    least = number_asked(plan, "min_accuracy")
    if least is not None:
        parts.append(f"average accuracy at least {as_given(least)}")
    for name, text in (
        ("keep", "{} of every demand kept under a failure"),
        ("served", "{} of the demand served"),
        ("max_utilization", "at most {} of a server in use"),
        ("discount", "money of the next period {} less"),
    ):
        value = number_asked(plan, name)
        if value is not None and not (name == "discount" and value == 0.0):
            parts.append(text.format(share(value)))
    if asked.get("coordination") not in (None, "full"):
        parts.append(coordination_style(str(asked["coordination"]))[0])
    if asked.get("measured_only"):
        parts.append("measured accuracies only")
    failing = [
        text
        for is_asked, text in (
            (plan.kind == "failures" or asked.get("failures") is True, "any one server fails"),
            (asked.get("device_failures") is True, "any one device fails"),
        )
        if is_asked
    ]
    parts += failing or ["no server fails"]
    return ", ".join(parts)


def certificates(material: Material) -> Section:
    """Return what every plan proves."""
    columns = (
        Column("Plan"),
        Column("Status"),
        Column("Proven within", "%", figures=True),
        Column("Time", "s", figures=True),
        Column("Instance"),
    )
    rows = tuple(
        Row(
            (
                Cell(one.path.stem),
                Cell(one.plan.status, "" if one.plan.status in ("optimal", "feasible") else "bad"),
                Cell(gap(one.plan.gap)),
                Cell(seconds(one.plan.seconds)),
                Cell("not known" if one.changed is None else "changed since" if one.changed
                     else "the same", "bad" if one.changed else ""),
            )
        )
        for one in material.plans
    )  # fmt: skip
    text = (
        "Status optimal: no plan is better by more than the gap that was asked for. Every plan "
        "passed two independent checkers before it was written; code-opt check asks again."
    )
    table = Table("What every plan proves; the worst of its parts", columns, rows)
    return Section("certificates", "Certificates of the plans", (table, Paragraph(text, note=True)))


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
