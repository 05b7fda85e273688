"""Seeded random instances: the plain family, and families that resemble real edges."""

from __future__ import annotations

from code_opt.generate.day import DayOptions, draw_day
from code_opt.generate.edge import Edge, EdgeOptions
from code_opt.generate.layouts import LAYOUTS
from code_opt.generate.plain import generate
from code_opt.generate.writing import write_edge
from code_opt.instance import Instance, parse_instance

PLAIN = "plain"
FAMILIES = (*LAYOUTS, PLAIN)
"""What ``code-opt generate --family`` takes."""

__all__ = [
    "FAMILIES",
    "PLAIN",
    "DayOptions",
    "Edge",
    "EdgeOptions",
    "draw_day",
    "generate",
    "generate_edge",
    "write_edge",
]


def generate_edge(options: EdgeOptions) -> Instance:
    """Return a random instance of one of the edge families (see :class:`EdgeOptions`)."""
    return parse_instance(Edge(options).record())
