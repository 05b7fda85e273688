"""Drawings as plain shapes: laid out once, written as SVG into the page or to files.

Coordinates are those of SVG: x to the right, y down, units of one CSS pixel at the drawing's
own size. Colours are names of :data:`PALETTE`; in the page they follow the light or dark
mode, in files they are those of the light mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from code_opt.text import plain

Point = tuple[float, float]

PALETTE: dict[str, tuple[str, str]] = {
    # name: (on white paper, on dark paper)
    "paper": ("#ffffff", "#14171b"),
    "panel": ("#f5f6f8", "#1d2127"),
    "block": ("#ffffff", "#2a3038"),
    "ink": ("#1b1e23", "#eceef1"),
    "muted": ("#565d67", "#a9b2bd"),
    "line": ("#c9ced6", "#434b56"),
    "edge": ("#868e9a", "#7d8794"),
    "accent": ("#0a5f9e", "#7cc0f2"),
    "good": ("#00664c", "#5fd3ab"),
    "bad": ("#b3261e", "#ff9a8f"),
    "warn": ("#8a4b00", "#f5b35c"),
    # Okabe and Ito's colours, shifted until each has a contrast of 3 : 1 or more against its paper
    # and its panel.
    "c0": ("#0072b2", "#56b4e9"),
    "c1": ("#b84a00", "#f08a4b"),
    "c2": ("#00805e", "#2fc597"),
    "c3": ("#a8477f", "#dd93be"),
    "c4": ("#8c6a00", "#e9b530"),
    "c5": ("#4b4fb5", "#a9acf5"),
    "c6": ("#5c6670", "#c2c9d1"),
}
SERIES = ("c0", "c1", "c2", "c3", "c4", "c5", "c6")
"""Colours of tasks and series, in order of use."""
DASHES: tuple[str | None, ...] = (None, "7 3", "2 3")
"""Patterns that tell series apart where the colours come round again."""


def series_color(index: int) -> str:
    """Return the colour of the series with this index."""
    return SERIES[index % len(SERIES)]


def series_dash(index: int) -> str | None:
    """Return the dash pattern of the series with this index."""
    return DASHES[index // len(SERIES) % len(DASHES)]


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a shape looks."""

    fill: str | None = None
    stroke: str | None = None
    width: float = 1.0
    dash: str | None = None
    opacity: float = 1.0


@dataclass(frozen=True)
class Rect:
    """A rectangle with rounded corners."""

    x: float
    y: float
    width: float
    height: float
    style: Style
    radius: float = 0.0
    title: str | None = None


@dataclass(frozen=True)
class Circle:
    """A circle."""

    x: float
    y: float
    radius: float
    style: Style
    title: str | None = None


@dataclass(frozen=True)
class Curve:
    """A chain of straight lines and cubic curves.

    ``steps`` holds ``(x, y)`` for a line and ``(x1, y1, x2, y2, x, y)`` for a curve.
    """

    start: Point
    steps: tuple[tuple[float, ...], ...]
    style: Style
    closed: bool = False
    title: str | None = None


@dataclass(frozen=True)
class Label:
    """A line of text; ``y`` is its baseline."""

    x: float
    y: float
    text: str
    size: float = 11.0
    anchor: str = "start"
    """start | middle | end"""
    fill: str = "ink"
    bold: bool = False
    turned: bool = False
    """Written upwards."""
    halo: str | None = None
    """Colour of an outline that keeps it readable over lines."""


@dataclass(frozen=True)
class Group:
    """Shapes that belong together; ``key`` connects them with a task of the page."""

    shapes: tuple[Shape, ...]
    key: int | None = None
    title: str | None = None
    kind: str = ""


Shape = Rect | Circle | Curve | Label | Group


@dataclass(frozen=True)
class Drawing:
    """A figure: shapes on a canvas, with a name and a description for those who cannot see it."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    description: str


HEADING = 30.0
"""Height of the title above a drawing in a file of its own."""


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is (fonts differ; on the safe side)."""
    return sum(0.98 if ord(c) > 0x2E80 else 0.58 for c in text) * size


def shortened(text: str, size: float, width: float) -> str:
    """Return printable text, cut with an ellipsis where it does not fit a width."""
    text = plain(text)
    if text_width(text, size) <= width:
        return text
    room = max(1, int(width / (0.58 * size)) - 1)
    return text[:room] + "…"


def polygon(points: Sequence[Point], style: Style, title: str | None = None) -> Curve:
    """Return a closed shape."""
    return Curve(points[0], tuple(points[1:]), style, closed=True, title=title)


def segment(a: Point, b: Point, style: Style) -> Curve:
    """Return a straight line."""
    return Curve(a, (b,), style)


# ---- SVG -----------------------------------------------------------------------------------


def to_svg(drawing: Drawing, identifier: str) -> str:
    """Return a drawing as an SVG element whose colours are CSS classes of the page.

    Args:
        drawing: what to write.
        identifier: unique in the page; ids of title and description are made from it.
    """
    body = "".join(_shape(shape) for shape in drawing.shapes)
    return (
        f"<svg {_canvas(drawing)} "
        f'role="img" aria-labelledby="{identifier}-t" aria-describedby="{identifier}-d">'
        f'<title id="{identifier}-t">{_text(drawing.title)}</title>'
        f'<desc id="{identifier}-d">{_text(drawing.description)}</desc>{body}</svg>'
    )


def to_svg_file(drawing: Drawing) -> str:
    """Return a drawing, its title above it, as the text of an SVG file.

    It follows the viewer's colour scheme.
    """
    svg = to_svg(drawing, "figure").replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    w, h, top = _number(drawing.width), drawing.height + HEADING, _number(-HEADING)
    svg = svg.replace(
        f'viewBox="0 0 {w} {_number(drawing.height)}"', f'viewBox="0 {top} {w} {_number(h)}"', 1
    )
    svg = svg.replace(f'height="{_number(drawing.height)}"', f'height="{_number(h)}"', 1)
    head, rest = svg.split(">", 1)
    paper = f'<rect class="f-paper" y="{top}" width="{w}" height="{_number(h)}"/>'
    paper += _shape(heading(drawing))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>\n<style>\n{color_css()}'
        f"text {{ font-family: system-ui, sans-serif }}\n</style>\n{paper}{rest}\n"
    )


def _canvas(drawing: Drawing) -> str:
    w, h = _number(drawing.width), _number(drawing.height)
    return f'viewBox="0 0 {w} {h}" width="{w}" height="{h}"'


def heading(drawing: Drawing) -> Label:
    """Return the title that stands above a drawing in a file of its own."""
    return Label(4, 6 - HEADING / 2, shortened(drawing.title, 14, drawing.width), 14, bold=True)


def color_css() -> str:
    """Return the CSS of all colours: variables for both modes and the classes that use them."""
    light = " ".join(f"--{name}: {pair[0]};" for name, pair in PALETTE.items())
    dark = " ".join(f"--{name}: {pair[1]};" for name, pair in PALETTE.items())
    classes = "\n".join(
        f".f-{name} {{ fill: var(--{name}) }} .s-{name} {{ stroke: var(--{name}) }}"
        for name in PALETTE
    )
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{classes}\n"
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def _text(text: str) -> str:
    return escape(plain(text))


def _style(style: Style) -> str:
    classes = [f"f-{style.fill}"] if style.fill else []
    parts = [] if style.fill else ['fill="none"']
    if style.stroke:
        classes.append(f"s-{style.stroke}")
        parts.append(f'stroke-width="{_number(style.width)}"')
        if style.dash:
            parts.append(f'stroke-dasharray="{style.dash}"')
    if style.opacity < 1.0:
        parts.append(f'opacity="{_number(style.opacity)}"')
    if classes:
        parts.insert(0, f'class="{" ".join(classes)}"')
    return " ".join(parts)


def _element(name: str, attributes: str, style: Style, title: str | None) -> str:
    if title is None:
        return f"<{name} {attributes} {_style(style)}/>"
    return f"<{name} {attributes} {_style(style)}><title>{_text(title)}</title></{name}>"


def _shape(shape: Shape) -> str:
    n = _number
    if isinstance(shape, Rect):
        corner = f' rx="{n(shape.radius)}"' if shape.radius else ""
        place = f'x="{n(shape.x)}" y="{n(shape.y)}"'
        extent = f'width="{n(max(0.0, shape.width))}" height="{n(max(0.0, shape.height))}"'
        return _element("rect", f"{place} {extent}{corner}", shape.style, shape.title)
    if isinstance(shape, Circle):
        attributes = f'cx="{n(shape.x)}" cy="{n(shape.y)}" r="{n(shape.radius)}"'
        return _element("circle", attributes, shape.style, shape.title)
    if isinstance(shape, Curve):
        path = [f"M{n(shape.start[0])} {n(shape.start[1])}"]
        path += [("L" if len(step) == 2 else "C") + " ".join(map(n, step)) for step in shape.steps]
        if shape.closed:
            path.append("Z")
        return _element("path", f'd="{"".join(path)}"', shape.style, shape.title)
    if isinstance(shape, Label):
        parts = [f'x="{n(shape.x)}" y="{n(shape.y)}" font-size="{n(shape.size)}"']
        if shape.anchor != "start":
            parts.append(f'text-anchor="{shape.anchor}"')
        if shape.bold:
            parts.append('font-weight="600"')
        if shape.turned:
            parts.append(f'transform="rotate(-90 {n(shape.x)} {n(shape.y)})"')
        if shape.halo:
            parts.append(
                f'class="f-{shape.fill} s-{shape.halo}" stroke-width="3" paint-order="stroke" '
                'stroke-linejoin="round"'
            )
        else:
            parts.append(f'class="f-{shape.fill}"')
        return f"<text {' '.join(parts)}>{_text(shape.text)}</text>"
    title = "" if shape.title is None else f"<title>{_text(shape.title)}</title>"
    classes = f' class="{shape.kind}"' if shape.kind else ""
    key = "" if shape.key is None else f' data-task="{shape.key}"'
    return f"<g{classes}{key}>{title}{''.join(map(_shape, shape.shapes))}</g>"
