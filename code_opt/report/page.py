"""The page: blocks through templates into one HTML file that needs nothing else.

Everything that comes from a file is escaped by the templates and shown as printable text. The
page's policy allows its own style and script, named by their hashes, and nothing else: no
network, no other script, no style attribute.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from code_opt.errors import InputError
from code_opt.report.blocks import Figure, Page
from code_opt.report.drawing import (
    Circle,
    Curve,
    Drawing,
    Label,
    Style,
    color_css,
    series_color,
    series_dash,
    to_svg,
)
from code_opt.text import plain

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


_BAR = 48.0
"""Width of the bar of a share [CSS pixels]."""


def render(page: Page) -> str:
    """Return the HTML text of a page; the same page gives the same text.

    Raises:
        InputError: the library that fills in the templates is not installed.
    """
    environment = _environment()
    from markupsafe import Markup

    style = color_css() + _template_text("style.css")
    script = _template_text("script.js")
    numbers = iter(range(10**9))

    def svg(figure: Figure) -> Markup:
        return Markup(to_svg(figure.drawing, f"figure-{next(numbers)}"))

    return environment.get_template("report.html.j2").render(
        page=page,
        policy=_policy(style, script),
        # Both are the package's own and hold no end tag (a test sees to it).
        style=Markup(style),
        script=Markup(script),
        svg=svg,
    )


def _policy(style: str, script: str) -> str:
    def named(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; style-src {named(style)}; script-src {named(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _template_text(name: str) -> str:
    return (files("code_opt.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise InputError(
            "reports need jinja2: install the extra `report` (pip install 'code-opt[report]')"
        ) from None
    environment = Environment(
        loader=PackageLoader("code_opt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"lines": _lines, "unbroken": _unbroken}
    environment.globals |= {
        "kind_of": lambda block: type(block).__name__,
        "bar_width": lambda share: f"{_BAR * min(1.0, max(0.0, share)):.1f}",
        "swatch": _swatch,
    }
    return environment


def _printable(value: Any) -> Any:
    """Return text with everything escaped that acts instead of being read; markup as it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return plain(value)
    return value


def _unbroken(text: str) -> Markup:
    """Return text in which no line ends between a number and its percent sign."""
    from markupsafe import Markup, escape

    return Markup(escape(plain(text)).replace(" %", "\u00a0%"))


def _lines(text: str) -> Markup:
    """Return text whose line breaks stay."""
    from markupsafe import Markup, escape

    return Markup("<br>").join(escape(plain(line)) for line in text.split("\n"))


def _swatch(index: int) -> Markup:
    """Return a task's sign: its number in its colour, with its line."""
    from markupsafe import Markup

    color = series_color(index)
    drawing = Drawing(
        38,
        20,
        (
            Curve((10, 10), ((38, 10),), Style(stroke=color, width=2.6, dash=series_dash(index))),
            Circle(10, 10, 9, Style(fill=color)),
            Label(10, 14, str(index + 1), 11, "middle", fill="paper", bold=True),
        ),
        "",
        "",
    )
    svg = to_svg(drawing, "x")
    body = svg[svg.index("</desc>") + len("</desc>") :]
    return Markup(
        '<svg width="38" height="20" viewBox="0 0 38 20" aria-hidden="true" focusable="false">'
        f"{body}"
    )
