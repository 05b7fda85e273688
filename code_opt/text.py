"""Text from strangers' files, and numbers, made fit to be read."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_ROWS = 25
"""Rows that a table in a notebook shows."""
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plain(text: object) -> str:
    r"""Return text with everything escaped that would act on a terminal instead of being read.

    Control characters, escape sequences, newlines and marks that turn the direction of
    writing become ``\x1b``-like escapes.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in str(text)
    )


def plain_lines(text: object) -> str:
    """Return :func:`plain` text that keeps its line breaks (messages of several lines)."""
    return "\n".join(plain(line) for line in str(text).split("\n"))


def number(value: float, digits: int = 6) -> str:
    """Return a number to so many significant digits, trailing zeros kept."""
    return f"{value:#.{digits}g}".removesuffix(".")


def si(value: float) -> str:
    """Return a number to four significant digits with an SI prefix (``1.234 G``)."""
    for factor, prefix in PREFIXES:
        if abs(value) >= factor * 0.99995:
            return f"{number(value / factor, 4)} {prefix}"
    return number(value, 4)


def amount(value: float, unit: str) -> str:
    """Return a quantity with its unit (``1.234 GFLOP``, ``12.00 B/s``)."""
    text = si(value)
    return text + unit if text[-1].isalpha() else f"{text} {unit}"


def percent(fraction: float, up: bool = False) -> str:
    """Return a fraction in percent, to three significant digits and without a sign.

    ``up`` rounds up, so that "at most" stays true of what is printed.
    """
    value = abs(100.0 * fraction)
    if value == 0.0:
        return "0 %"
    if value >= 1000.0:
        return f"{value:.3g} %" if value >= 1e9 else f"{value:,.0f} %"
    decimals = min(8, max(0, 2 - math.floor(math.log10(value))))
    if up:
        value = math.ceil(value * 10**decimals - 1e-6) / 10**decimals
    shown = f"{value:.{decimals}f}"
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown} %"


def share(value: float) -> str:
    """Return a share in percent to one decimal; only all of it is 100 %, only nothing 0 %."""
    if 0.0 < value < 0.0005:
        return "below 0.1 %"
    text = f"{100.0 * value:.1f}"
    if value < 1.0 and text == "100.0":
        return "99.9 %"
    return f"{text.removesuffix('.0')} %"


def seconds(value: float) -> str:
    """Return a duration in seconds, to about three digits."""
    return f"{value:.2f}" if value < 10.0 else f"{value:.1f}" if value < 100.0 else f"{value:.0f}"


def duration(value: float) -> str:
    """Return a latency with a fitting unit."""
    if value >= 1.0:
        return f"{number(value, 4)} s"
    if value >= 1e-3 or value == 0.0:
        return f"{number(value * 1e3, 4)} ms"
    return f"{number(value * 1e6, 4)} us"


def count(value: int) -> str:
    """Return a count in full, or its order of magnitude where it has more than 15 digits."""
    return f"{value:,}" if value < 10**15 else f"about 1e{math.floor(math.log10(value))}"


def product(values: Iterable[int]) -> str:
    """Return the product of counts like :func:`count`, without ever forming a huge number."""
    values = list(values)
    if 0 in values:
        return "0"
    magnitude = math.fsum(map(math.log10, values))
    return count(math.prod(values)) if magnitude < 15 else f"about 1e{math.floor(magnitude)}"


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as HTML, escaped, its first :data:`MOST_ROWS` rows, for notebooks.

    Args:
        title: stands above it.
        columns: their headings.
        rows: cells in the order of the columns; numbers are shortened, None is empty.
    """
    head = "".join(f"<th>{_escaped(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_escaped(_cell(cell))}</td>' for cell in row)}</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = len(rows) - MOST_ROWS
    note = f"<p>... and {more:,} more rows</p>" if more > 0 else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if columns else ""
    return f"<div><p><strong>{_escaped(title)}</strong></p>{table}{note}</div>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    return html.escape(plain(text))
