"""A report that people look at: one self-contained HTML page from results, evaluations, plans.

From files to page, one direction. ``material`` reads and checks what is to be shown.
``results``, ``plans`` and ``evaluation`` turn it into sections of ``blocks``: paragraphs, tables
and figures. Figures are ``drawing`` primitives, laid out by ``edge`` and ``charts``.
``assemble`` puts the sections in order; ``page`` (HTML) or ``plots`` (SVG and PNG) writes them.
"""

from __future__ import annotations

from code_opt.report.assemble import assemble
from code_opt.report.material import Material, read_material
from code_opt.report.page import render
from code_opt.report.plots import save_plots

__all__ = ["Material", "assemble", "read_material", "render", "save_plots"]
