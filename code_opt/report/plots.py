"""Figures as files of their own: SVG, and PNG drawn by matplotlib."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.files import file_stem, write_atomically
from code_opt.report.blocks import Page, figures
from code_opt.report.drawing import (
    HEADING,
    PALETTE,
    Circle,
    Curve,
    Drawing,
    Label,
    Rect,
    Shape,
    Style,
    heading,
    to_svg_file,
)
from code_opt.text import plain

DPI = 192
"""Dots per inch of PNG files: two per CSS pixel."""
_PIXEL = 72 / 96
"""Points per CSS pixel."""


def save_plots(page: Page, folder: Path) -> list[Path]:
    """Write every figure of a page as ``NAME.svg`` and ``NAME.png``.

    Args:
        page: whose figures; the pictures of single tasks are left out.
        folder: made where it is missing.

    Returns:
        The files written. The same page gives the same bytes.

    Raises:
        InputError: the folder cannot be written, or matplotlib is not installed.
    """
    png = _png_writer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror or error}") from None
    taken: Counter[str] = Counter()
    written = []
    for figure in figures(page, single_tasks=False):
        name = file_stem(figure.name)
        taken[name] += 1
        if taken[name] > 1:
            name += f"-{taken[name]}"
        for suffix, content in (
            (".svg", to_svg_file(figure.drawing)),
            (".png", png(figure.drawing)),
        ):
            path = folder / (name + suffix)
            write_atomically(path, content)
            written.append(path)
    return written


def _png_writer() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "plots need matplotlib: install the extra `report` (pip install 'code-opt[report]')"
        ) from None

    def png(drawing: Drawing) -> bytes:
        width, height = drawing.width / 96, (drawing.height + HEADING) / 96
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor=_color("paper"))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, drawing.width)
        axes.set_ylim(drawing.height, -HEADING)
        draw(axes, [heading(drawing), *drawing.shapes])
        sink = io.BytesIO()
        figure.savefig(sink, format="png", metadata={"Software": None, "Title": drawing.title})
        return sink.getvalue()

    return png


def draw(axes: Any, shapes: Sequence[Shape]) -> None:
    """Draw shapes into matplotlib axes whose units are CSS pixels, y down."""
    from matplotlib import patches
    from matplotlib.path import Path as Outline

    for order, shape in enumerate(_flat(shapes)):
        if isinstance(shape, Label):
            _write(axes, shape, order)
            continue
        if isinstance(shape, Circle):
            patch: Any = patches.Circle((shape.x, shape.y), shape.radius)
        elif isinstance(shape, Rect):
            patch = patches.FancyBboxPatch(
                (shape.x, shape.y),
                max(shape.width, 0.0),
                max(shape.height, 0.0),
                boxstyle=patches.BoxStyle.Round(
                    pad=0.0, rounding_size=min(shape.radius, shape.width / 2, shape.height / 2)
                ),
            )
        else:
            points, codes = [shape.start], [Outline.MOVETO]
            for step in shape.steps:
                places = list(zip(step[::2], step[1::2], strict=True))
                points += places
                codes += [Outline.LINETO if len(places) == 1 else Outline.CURVE4] * len(places)
            if shape.closed:
                points.append(shape.start)
                codes.append(Outline.CLOSEPOLY)
            patch = patches.PathPatch(Outline(points, codes))
        _dress(patch, shape.style)
        patch.set_zorder(order)
        patch.set_clip_on(False)
        axes.add_patch(patch)


def _flat(shapes: Sequence[Shape]) -> list[Rect | Circle | Curve | Label]:
    found: list[Rect | Circle | Curve | Label] = []
    for shape in shapes:
        if isinstance(shape, Rect | Circle | Curve | Label):
            found.append(shape)
        else:
            found += _flat(shape.shapes)
    return found


def _color(name: str) -> str:
    return PALETTE[name][0]


def _dress(patch: Any, style: Style) -> None:
    patch.set_facecolor(_color(style.fill) if style.fill else "none")
    patch.set_edgecolor(_color(style.stroke) if style.stroke else "none")
    patch.set_linewidth(style.width * _PIXEL if style.stroke else 0.0)
    patch.set_alpha(style.opacity)
    if style.stroke and style.dash:
        # Lengths count in line widths.
        pattern = [float(part) / style.width for part in style.dash.split()]
        patch.set_linestyle((0, pattern))


def _write(axes: Any, label: Label, order: int) -> None:
    from matplotlib import patheffects

    text = axes.text(
        label.x,
        label.y,
        # A dollar sign begins mathematics in matplotlib.
        plain(label.text).replace("$", r"\$"),
        fontsize=label.size * _PIXEL * 0.95,
        color=_color(label.fill),
        fontweight="bold" if label.bold else "normal",
        ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
        va="baseline",
        rotation=90 if label.turned else 0,
        rotation_mode="anchor",
        zorder=order,
        clip_on=False,
    )
    if label.halo:
        text.set_path_effects(
            [patheffects.withStroke(linewidth=3 * _PIXEL, foreground=_color(label.halo))]
        )
