"""From material to page: which sections there are, in which order."""

from __future__ import annotations

import code_opt
from code_opt.report.blocks import Block, More, Page, Paragraph, Section
from code_opt.report.evaluation import evaluation_sections
from code_opt.report.material import Material
from code_opt.report.plans import plan_sections
from code_opt.report.results import introduction, results_sections
from code_opt.text import count

SHORT_DESCRIPTION = 280


def assemble(material: Material, title: str | None = None) -> Page:
    """Return the page of a report; only what there is data for appears."""
    instance = material.instance
    sections: list[Section] = [
        *results_sections(material),
        *evaluation_sections(material),
        *plan_sections(material),
    ]
    blocks: list[Block] = []
    description = instance.description.strip()
    if len(description) > SHORT_DESCRIPTION:
        blocks.append(More("About this instance", (Paragraph(description),)))
    elif description:
        blocks.append(Paragraph(description))
    blocks += introduction(material)
    return Page(
        title=title or instance.name or "Instance without a name",
        subtitle=_counts(material),
        introduction=tuple(blocks),
        sections=tuple(sections),
        sources=material.sources,
        version=code_opt.__version__,
    )


def _counts(material: Material) -> str:
    instance = material.instance

    def some(number: int, one: str, more: str) -> str:
        return f"{count(number)} {one if number == 1 else more}"

    parts = [
        some(len(instance.tasks), "task", "tasks"),
        some(len(instance.dnns), "network", "networks"),
        some(len(instance.servers), "server", "servers"),
        some(sum(len(t.connections) for t in instance.tasks), "connection", "connections"),
    ]
    if instance.links:
        parts.append(some(len(instance.links), "link", "links"))
    return " · ".join(parts)
