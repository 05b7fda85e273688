"""Charts as drawings: series over two axes, and values of named rows.

Every axis has a name with its unit, every series a colour and a sign of its own, so that no
chart is read by colour alone. Points carry their value as a title (shown on hovering).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from code_opt.report.drawing import (
    Circle,
    Curve,
    Drawing,
    Label,
    Point,
    Rect,
    Shape,
    Style,
    polygon,
    segment,
    series_color,
    series_dash,
    shortened,
    text_width,
)
from code_opt.text import PREFIXES

SIGNS = ("circle", "square", "diamond", "triangle", "down", "ring", "box")
SIZE = 11.0
TICKS = 5
DODGE = 7.0
"""Distance of the lines on which a row's signs stand, so that equal values both show."""
_ROW = 32.0
MANY = 24
"""More rows than these stand closer."""


@dataclass(frozen=True)
class Dot:
    """A point of a series."""

    x: float
    y: float
    label: str = ""
    """Written beside it."""
    title: str = ""
    """Its values in words."""


@dataclass(frozen=True)
class Series:
    """Points of one colour and sign."""

    name: str
    dots: tuple[Dot, ...]
    line: bool = False
    index: int = 0
    """Of its colour and sign."""
    signs: bool = True
    """Its points are marked."""
    fall: bool = False
    """The line falls at once and then goes along x, as a front of what can be reached does."""


@dataclass(frozen=True)
class Axis:
    """An axis: its name with the unit, and how its numbers are written."""

    name: str
    percent: bool = False
    """Values are fractions, written in percent."""
    zero: bool = False
    """Begins at 0."""
    most: float | None = None
    """At least up to here, and no further where no value is."""
    whole: bool = False
    """Values are whole numbers: ticks are, too."""
    names: tuple[str, ...] = ()
    """What stands at 0, 1, 2, ... in place of numbers."""


@dataclass(frozen=True)
class Value:
    """A value of one row and series; ``low`` and ``high`` draw an interval."""

    value: float | None
    title: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RowSeries:
    """Values of all rows."""

    name: str
    values: tuple[Value, ...]
    index: int = 0


def xy_chart(
    title: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    *,
    description: str = "",
    width: float = 430.0,
    height: float = 290.0,
) -> Drawing:
    """Return points and lines over two axes; lines that are the same are one, with all names."""
    series = _merged(series)
    dots = [dot for one in series for dot in one.dots]
    xs, ys = [d.x for d in dots] or [0.0, 1.0], [d.y for d in dots] or [0.0, 1.0]
    x_low, x_high, x_ticks = _range(xs, x)
    y_low, y_high, y_ticks = _range(ys, y)
    y_texts = [_tick(value, y_ticks, y.percent) for value in y_ticks]
    left = 26.0 + max(text_width(text, 10) for text in y_texts) + 6
    named = [s for s in series if s.line and s.name and s.dots]
    right = 14.0
    if named:
        right = min(150.0, 22.0 + max(text_width(s.name, SIZE) for s in named))
    top, bottom = 14.0, 44.0
    w, h = width - left - right, height - top - bottom

    def px(value: float) -> float:
        return left + w * (value - x_low) / (x_high - x_low)

    def py(value: float) -> float:
        return top + h * (1 - (value - y_low) / (y_high - y_low))

    shapes: list[Shape] = []
    for value, text in zip(y_ticks, y_texts, strict=True):
        shapes.append(segment((left, py(value)), (left + w, py(value)), Style(stroke="line")))
        shapes.append(Label(left - 6, py(value) + 3.5, text, 10, "end", fill="muted"))
    for value in x_ticks:
        place = px(value)
        shapes.append(segment((place, top + h), (place, top + h + 4), Style(stroke="edge")))
        text = _tick(value, x_ticks, x.percent)
        if x.names:
            text = x.names[int(value)] if 0 <= value < len(x.names) else ""
        shapes.append(Label(place, top + h + 16, text, 10, "middle", fill="muted"))
    shapes.append(segment((left, top + h), (left + w, top + h), Style(stroke="edge")))
    shapes.append(Label(left + w / 2, height - 8, x.name, SIZE, "middle", fill="muted"))
    shapes.append(Label(14, top + h / 2, y.name, SIZE, "middle", fill="muted", turned=True))
    taken: list[tuple[float, float, float, float]] = [
        (px(d.x) - 6, py(d.y) - 6, px(d.x) + 6, py(d.y) + 6) for d in dots
    ]
    ends: list[float] = []
    for one in series:
        color = series_color(one.index)
        points: list[Point] = [(px(d.x), py(d.y)) for d in one.dots]
        if one.line and len(points) > 1:
            steps: list[tuple[float, ...]] = []
            for before, after in zip(points, points[1:], strict=False):
                if one.fall:
                    steps.append((before[0], after[1]))
                steps.append(after)
            style = Style(stroke=color, width=2.0, dash=series_dash(one.index))
            shapes.append(Curve(points[0], tuple(steps), style))
            corners: list[tuple[float, ...]] = [points[0], *steps]
            for start, end in itertools.pairwise(corners):
                taken += _along(start, end)
        for dot, (dx, dy) in zip(one.dots if one.signs else (), points, strict=False):
            shapes += _sign(one.index, dx, dy, dot.title)
    for one in named:
        last = max(one.dots, key=lambda d: d.x)
        at = py(last.y) + 4
        while any(abs(at - other) < 13 for other in ends):
            at += 13
        ends.append(at)
        text = shortened(one.name, SIZE, right - 14)
        shapes.append(
            Label(px(last.x) + 10, at, text, SIZE, fill=series_color(one.index), bold=True)
        )
    for one in series:
        for dot in one.dots:
            if dot.label:
                area = (left, top, left + w, top + h)
                shapes.append(
                    _beside(dot.label, px(dot.x), py(dot.y), taken, area, series_color(one.index))
                )
    return Drawing(width, height, tuple(shapes), title, description)


def _merged(series: Sequence[Series]) -> list[Series]:
    """Return series of which no named line lies upon another."""
    found: list[Series] = []
    for one in series:
        points = [(dot.x, dot.y) for dot in one.dots]
        for place, other in enumerate(found):
            same = one.line and other.line and one.name and other.name and one.fall == other.fall
            if same and points == [(dot.x, dot.y) for dot in other.dots]:
                found[place] = replace(other, name=f"{other.name} = {one.name}")
                break
        else:
            found.append(one)
    return found


def row_chart(
    title: str,
    rows: Sequence[str],
    series: Sequence[RowSeries],
    axis: Axis,
    *,
    bars: bool = False,
    limits: Sequence[float] = (),
    description: str = "",
    width: float = 430.0,
) -> Drawing:
    """Return values of named rows, as signs on a common scale or as bars from 0.

    ``limits`` has for each row what no value should pass: a line.
    """
    values = [v for s in series for v in s.values]
    known = [x for v in values for x in (v.value, v.low, v.high) if x is not None] or [0.0, 1.0]
    known += limits
    low, high, ticks = _range(known, axis)
    name_width = min(width * 0.36, max((text_width(r, SIZE) for r in rows), default=0.0) + 4)
    left, right, bottom = name_width + 12, 30.0, 42.0
    legend = _legend(series, left, width) if len(series) > 1 else []
    top = 10.0 + (legend[-1][1] if legend else 0.0)
    thick = 11.0
    pitch = max(_ROW, thick * len(series) + 10) if bars else _ROW if len(rows) <= MANY else 15.0
    dodge = DODGE if len(rows) <= MANY else 3.0
    height = top + pitch * len(rows) + bottom
    w = width - left - right

    def px(value: float) -> float:
        return left + w * (value - low) / (high - low)

    base = top + pitch * len(rows)
    shapes: list[Shape] = []
    for value in ticks:
        shapes.append(segment((px(value), top), (px(value), base), Style(stroke="line")))
        text = _tick(value, ticks, axis.percent)
        shapes.append(Label(px(value), base + 15, text, 10, "middle", fill="muted"))
    shapes.append(Label(left + w / 2, height - 8, axis.name, SIZE, "middle", fill="muted"))
    for one, (x, y) in zip(series, legend, strict=False):
        if bars:
            shapes.append(Rect(x - 5, y - 5, 10, 10, Style(fill=series_color(one.index)), 2))
        else:
            shapes += _sign(one.index, x, y, "")
        shapes.append(Label(x + 10, y + 4, one.name, SIZE, fill="ink"))
    row = 0
    for limit, equal in itertools.groupby(limits):
        ends = (top + pitch * row, top + pitch * (row := row + len(list(equal))))
        line = Style(stroke="bad", width=1.5, dash="5 3")
        shapes.append(segment((px(limit), ends[0]), (px(limit), ends[1]), line))
    for index, name in enumerate(rows):
        middle = top + pitch * (index + 0.5)
        shapes.append(Label(left - 8, middle + 4, shortened(name, SIZE, name_width), SIZE, "end"))
        shown = [(s, s.values[index]) for s in series]
        if not bars:
            places = [px(v.value) for _, v in shown if v.value is not None]
            if len(places) > 1:
                faint = Style(stroke="line", width=3.0)
                shapes.append(segment((min(places), middle), (max(places), middle), faint))
        for number, (one, cell) in enumerate(shown):
            if cell.value is None:
                continue
            color = series_color(one.index)
            y = middle + (number - (len(shown) - 1) / 2) * (thick if bars else dodge)
            if bars:
                start = px(max(low, min(high, 0.0)))
                a, b = sorted((start, px(cell.value)))
                shapes.append(
                    Rect(a, y - 4.5, max(b - a, 1.0), 9, Style(fill=color), 2, title=cell.title)
                )
                continue
            if cell.low is not None and cell.high is not None:
                line = Style(stroke=color, width=2.0)
                shapes += [
                    segment((px(cell.low), y), (px(cell.high), y), line),
                    segment((px(cell.low), y - 4), (px(cell.low), y + 4), line),
                    segment((px(cell.high), y - 4), (px(cell.high), y + 4), line),
                ]
            shapes += _sign(one.index, px(cell.value), y, cell.title)
    shapes.append(segment((left, base), (left + w, base), Style(stroke="edge")))
    if low < 0.0 < high:
        shapes.append(segment((px(0.0), top), (px(0.0), base), Style(stroke="edge")))
    return Drawing(width, height, tuple(shapes), title, description)


def _legend(series: Sequence[RowSeries], left: float, width: float) -> list[tuple[float, float]]:
    """Return the places of the signs that explain the series, in as many lines as they need."""
    needs = [32.0 + text_width(one.name, SIZE) for one in series]
    if left + sum(needs) > width:
        left = 12.0  # more room from the left edge
    places: list[tuple[float, float]] = []
    x, y = left, 12.0
    for need in needs:
        if places and x + need - 14 > width:
            x, y = left, y + 18.0
        places.append((x, y))
        x += need
    return places


# ---- axes and signs --------------------------------------------------------------------------


def _range(values: Sequence[float], axis: Axis) -> tuple[float, float, list[float]]:
    """Return the ends of an axis and its ticks."""
    low, high = min(values), max(values)
    if axis.zero:
        low = min(low, 0.0)
        high = max(high, 0.0)
    if axis.most is not None:
        high = max(high, axis.most)
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        room = 0.1 * abs(high) or 1.0
        low, high = (low, low + room) if axis.zero and low >= 0.0 else (low - room, high + room)
    elif not (axis.zero and low == 0.0) and not axis.names:
        low -= 0.06 * (high - low)
    if not (axis.most is not None and high <= axis.most) and not axis.names:
        high += 0.06 * (high - low)
    step = _nice((high - low) / TICKS)
    if axis.whole or axis.names:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    ticks: list[float] = []
    while (first + len(ticks)) * step <= high + 1e-9 * step and len(ticks) < 50:
        ticks.append((first + len(ticks)) * step)
    return low, high, ticks or [low]


def _nice(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    for factor in (1.0, 2.0, 2.5, 5.0):
        if step <= factor * magnitude * (1 + 1e-9):
            return factor * magnitude
    return 10.0 * magnitude


def _tick(value: float, ticks: Sequence[float], percent: bool) -> str:
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(value) or 1.0
    scale = 100.0 if percent else 1.0
    value, step = value * scale, step * scale
    largest = max(abs(t) for t in ticks) * scale
    prefix = ""
    for factor, name in PREFIXES:
        if largest >= factor * (10 if factor == 1e3 else 1):  # 5000 is read well as it is
            value, step, prefix = value / factor, step / factor, name
            break
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    text = f"{value + 0.0:.{min(decimals, 10)}f}"
    text = text.removeprefix("-") if float(text) == 0.0 else text.replace("-", "−")
    return text + (" " + prefix if prefix and float(value) else "") + (" %" if percent else "")


def _sign(index: int, x: float, y: float, title: str) -> list[Shape]:
    """Return the sign of a series at a place."""
    color = series_color(index)
    sign = SIGNS[index % len(SIGNS)]
    full = Style(fill=color, stroke="paper", width=1.2)
    hollow = Style(fill="paper", stroke=color, width=2.0)
    about = title or None
    if sign == "circle":
        return [Circle(x, y, 5, full, about)]
    if sign == "ring":
        return [Circle(x, y, 4.4, hollow, about)]
    if sign == "square":
        return [Rect(x - 4.6, y - 4.6, 9.2, 9.2, full, title=about)]
    if sign == "box":
        return [Rect(x - 4.2, y - 4.2, 8.4, 8.4, hollow, title=about)]
    points = {
        "diamond": [(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)],
        "triangle": [(x, y - 6), (x + 5.8, y + 4.6), (x - 5.8, y + 4.6)],
        "down": [(x, y + 6), (x + 5.8, y - 4.6), (x - 5.8, y - 4.6)],
    }[sign]
    return [polygon(points, full, about)]


def _along(a: tuple[float, ...], b: tuple[float, ...]) -> list[tuple[float, float, float, float]]:
    """Return small boxes along a line, which labels should not cover."""
    count = max(1, int(math.hypot(b[0] - a[0], b[1] - a[1]) / 8.0))
    found = []
    for i in range(count + 1):
        x, y = a[0] + (b[0] - a[0]) * i / count, a[1] + (b[1] - a[1]) * i / count
        found.append((x - 2.0, y - 2.0, x + 2.0, y + 2.0))
    return found


def _beside(
    text: str,
    x: float,
    y: float,
    taken: list[tuple[float, float, float, float]],
    area: tuple[float, float, float, float],
    color: str,
) -> Label:
    """Return a label near a point where it covers least; its place is then taken."""
    w, h = text_width(text, SIZE), 12.0
    places = [
        (x + 9, y + 4, "start"),
        (x - 9, y + 4, "end"),
        (x, y - 10, "middle"),
        (x, y + 18, "middle"),
        (x + 8, y - 9, "start"),
        (x + 8, y + 17, "start"),
        (x - 8, y - 9, "end"),
        (x - 8, y + 17, "end"),
    ]

    def box(place: tuple[float, float, str]) -> tuple[float, float, float, float]:
        left = place[0] - {"start": 0.0, "end": w, "middle": w / 2}[place[2]]
        return left, place[1] - h + 2, left + w, place[1] + 3

    def cost(place: tuple[float, float, str]) -> float:
        a = box(place)
        covered = sum(
            max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            for b in taken
        )
        outside = sum(
            max(0.0, d) for d in (area[0] - a[0], area[1] - a[1], a[2] - area[2], a[3] - area[3])
        )
        return covered + 30.0 * outside

    best = min(places, key=cost)
    taken.append(box(best))
    return Label(best[0], best[1], text, SIZE, best[2], fill=color, bold=True, halo="paper")
