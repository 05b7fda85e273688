"""Texts for the terminal: those of :mod:`code_opt.text`, which every output shares."""

from __future__ import annotations

from code_opt.text import (
    count,
    duration,
    number,
    percent,
    plain,
    plain_lines,
    product,
    seconds,
    si,
)

__all__ = [
    "count",
    "duration",
    "number",
    "percent",
    "plain",
    "plain_lines",
    "product",
    "seconds",
    "si",
]
