"""From material to page: which sections there are, in which order."""

from __future__ import annotations

import code_opt
from code_opt.planning import recommendation_words as words
from code_opt.planning.recommendation import Recommendation, recommend
from code_opt.report.blocks import Block, Chapter, Facts, Page, Paragraph, Section
from code_opt.report.decision import decision_sections, first_screen
from code_opt.report.evaluation import evaluation_sections
from code_opt.report.material import Material
from code_opt.report.plans import certificates, plan_sections
from code_opt.report.results import (
    headline,
    results_appendix,
    results_sections,
    summary,
    warnings,
)
from code_opt.text import count


def assemble(material: Material, title: str | None = None) -> Page:
    """Return the page of a report; only what there is data for appears.

    Raises:
        InputError: a plan lacks a table or a column that its kind must have.
    """
    plans = plan_sections(material)
    found = recommend(
        material.instance,
        [one.plan for one in material.plans],
        [one.path for one in material.plans],
    )
    name = title or material.instance.name or "Instance without a name"
    first: list[Block] = summary(material) if found is None else first_screen(found)
    chapters = (
        Chapter("Decision", tuple([] if found is None else decision_sections(material, found))),
        Chapter("Analyses", (*plans, *results_sections(material, leads=found is None))),
        Chapter("Evaluation", tuple(evaluation_sections(material))),
        Chapter("Appendix", tuple(_appendix(material))),
    )
    return Page(
        title=name,
        headline=_headline(material, found) or name,
        introduction=(*warnings(material), *first),
        chapters=tuple(chapter for chapter in chapters if chapter.sections),
        sources=material.sources,
        version=code_opt.__version__,
    )


def _headline(material: Material, found: Recommendation | None) -> str:
    return headline(material) if found is None else words.headline(found)


def _appendix(material: Material) -> list[Section]:
    """Return how everything was found, and what is proven."""
    found = results_appendix(material)
    if material.plans:
        found.append(certificates(material))
    found.append(_about(material))
    return found


def _about(material: Material) -> Section:
    """Return what the instance holds."""
    instance = material.instance
    description = instance.description.strip()
    counts = (
        ("Services", count(len(instance.tasks))),
        ("Networks", count(len(instance.dnns))),
        ("Servers", count(len(instance.servers))),
        ("Links", count(len(instance.links))),
        ("Learned connections", count(sum(len(t.connections) for t in instance.tasks))),
    )
    text = [Paragraph(description)] if description else []
    return Section("about", "The instance", (*text, Facts(counts)))
