"""Drawings: colours that everyone can tell, paths that are all there, charts that are right."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest

from code_opt import load_instance, load_result, parse_instance
from code_opt.report.charts import (
    SIGNS,
    Axis,
    Dot,
    RowSeries,
    Series,
    Value,
    _range,
    _tick,
    row_chart,
    xy_chart,
)
from code_opt.report.drawing import (
    PALETTE,
    SERIES,
    Circle,
    Curve,
    Drawing,
    Group,
    Label,
    Rect,
    Shape,
    to_svg,
    to_svg_file,
)
from code_opt.report.edge import draw_edge
from code_opt.result import Result, TaskResult
from tests.report.examples import contrast

SVG = "{http://www.w3.org/2000/svg}"


def flat(shapes: tuple[Shape, ...]) -> list[Shape]:
    found: list[Shape] = []
    for shape in shapes:
        found += flat(shape.shapes) if isinstance(shape, Group) else [shape]
    return found


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("paper", ["paper", "panel", "block"])
def test_colours_have_contrast(mode: int, paper: str) -> None:
    ground = PALETTE[paper][mode]
    for name in ("ink", "muted", "accent", "good", "bad", *SERIES):
        assert contrast(PALETTE[name][mode], ground) >= 4.5, name
    assert contrast(PALETTE["edge"][mode], ground) >= 3.0


def test_series_differ_in_more_than_colour() -> None:
    assert len(SIGNS) == len(set(SIGNS)) == len(SERIES)


def test_every_path_is_drawn_with_its_number(metro: Path) -> None:
    instance = load_instance(metro / "instance.json")
    result = load_result(metro / "exact.json")
    drawing = draw_edge(instance, result, name="Exact")
    groups = [s for s in drawing.shapes if isinstance(s, Group)]
    assert {g.key for g in groups} == set(range(len(instance.tasks)))
    labels = [s.text for s in flat(drawing.shapes) if isinstance(s, Label)]
    for number, _ in enumerate(instance.tasks, start=1):
        assert str(number) in labels
    for server in instance.servers:
        assert server.id in labels
    titles = [s.title for s in flat(drawing.shapes) if isinstance(s, Rect) and s.title]
    blocks = [b.id for d in instance.dnns for b in d.blocks]
    assert all(any(t.startswith(f"{block} on ") for t in titles) for block in blocks)
    # A diamond per learned connection: two crossings and two exits.
    learned = 0
    for group in groups:
        learned += sum(
            isinstance(s, Curve) and s.closed and s.style.fill == "paper" for s in group.shapes
        )
    assert learned == 4


def test_a_path_stays_within_its_blocks(metro: Path) -> None:
    """No line leaves the canvas, and the same block stands at the same place beside others."""
    instance = load_instance(metro / "instance.json")
    results = [load_result(metro / f"{m}.json") for m in ("exact", "local")]
    drawings = [draw_edge(instance, r, name="x", beside=results) for r in results]
    places = []
    for drawing in drawings:
        rects = [s for s in drawing.shapes if isinstance(s, Rect) and s.title and " on " in s.title]
        places.append([(r.x, r.y, r.width, r.height, r.title) for r in rects])
        for shape in flat(drawing.shapes):
            if isinstance(shape, Circle):
                assert 0 <= shape.x <= drawing.width
                assert 0 <= shape.y <= drawing.height
            if isinstance(shape, Curve):
                for step in shape.steps:
                    assert -1 <= step[-2] <= drawing.width + 1
                    assert -1 <= step[-1] <= drawing.height + 1
    assert places[0] == places[1]
    # Blocks of one row do not overlap.
    for a, b in itertools.pairwise(sorted(places[0], key=lambda p: (p[1], p[0]))):
        if a[1] == b[1]:
            assert a[0] + a[2] < b[0]


def test_an_svg_file_is_well_formed_and_titled() -> None:
    drawing = Drawing(100, 50, (Label(1, 2, "a < b & c"), Rect(0, 0, 5, 5, _style())), "T <", "d")
    tree = ElementTree.fromstring(to_svg_file(drawing))
    assert tree.get("viewBox") == "0 -30 100 80"
    assert [e.text for e in tree.iter(SVG + "text")] == ["T <", "a < b & c"]
    assert "<title" in to_svg(drawing, "x")


def _style():
    from code_opt.report.drawing import Style

    return Style(fill="c0")


@pytest.mark.parametrize(
    ("values", "axis", "low", "high", "ticks"),
    [
        ([0.0, 10.0], Axis("", zero=True), 0.0, 10.6, [0, 2.5, 5, 7.5, 10]),
        ([3.0], Axis("", zero=True), 0.0, 3.18, [0, 1, 2, 3]),
        ([-1.0, 1.0], Axis(""), -1.12, 1.1272, [-1, -0.5, 0, 0.5, 1]),
        ([0.2, 0.9], Axis("", zero=True, most=1.0), 0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ([0.0, 0.0], Axis("", zero=True), 0.0, 1.06, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_axes_hold_all_values_with_round_ticks(values, axis, low, high, ticks) -> None:
    found = _range(values, axis)
    assert found[0] == pytest.approx(low)
    assert found[1] == pytest.approx(high)
    assert found[2] == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "ticks", "percent", "text"),
    [
        (0.25, [0, 0.25, 0.5], True, "25 %"),
        (2.5, [0, 2.5, 5], False, "2.5"),
        (-0.5, [-0.5, 0, 0.5], False, "−0.5"),
        (1.5e10, [0, 5e9, 1.5e10], False, "15 G"),
        (5000, [0, 2500, 5000], False, "5000"),
        (20000, [0, 10000, 20000], False, "20 k"),
        (0.98, [0.97, 0.98], False, "0.98"),
    ],
)
def test_ticks_are_written_as_briefly_as_they_can(value, ticks, percent, text) -> None:
    assert _tick(value, ticks, percent) == text


def test_charts_place_values_where_they_belong() -> None:
    dots = (Dot(0.0, 1.0, "", "a"), Dot(10.0, 3.0, "end", "b"))
    drawing = xy_chart("t", Axis("x [s]"), Axis("y"), [Series("s", dots, line=True)])
    a, b = [s for s in drawing.shapes if isinstance(s, Circle)]
    assert a.x < b.x
    assert a.y > b.y
    texts = [s.text for s in drawing.shapes if isinstance(s, Label)]
    assert {"x [s]", "y", "s", "end"} <= set(texts)
    rows = row_chart(
        "t",
        ["one", "two"],
        [RowSeries("v", (Value(1.0, "t1", 0.5, 1.5), Value(None)), 0)],
        Axis("v [1/s]", zero=True),
        limits=[2.0, 2.0],
    )
    assert sum(isinstance(s, Circle) for s in rows.shapes) == 1
    one, two = [
        row_chart(
            "t", ["a", "b", "c"], [RowSeries("v", (Value(1.0),) * 3, 0)], Axis("v"), limits=limits
        )
        for limits in ([2.0, 2.0, 2.0], [2.0, 2.0, 3.0])
    ]
    assert len(two.shapes) == len(one.shapes) + 1  # a line for each limit
    bars = row_chart("t", ["one"], [RowSeries("v", (Value(2.0),), 0)], Axis("v"), bars=True)
    assert len([s for s in bars.shapes if isinstance(s, Rect)]) == 1


def test_labels_that_would_cover_each_other_move() -> None:
    dots = (Dot(1.0, 1.0, "first"), Dot(1.0, 1.0, "second"), Dot(0.0, 0.0))
    drawing = xy_chart("t", Axis("x"), Axis("y"), [Series("", dots)])
    first, second = [s for s in drawing.shapes if isinstance(s, Label) and s.bold]
    assert (first.x, first.y) != (second.x, second.y)


def test_what_a_group_computes_once_is_marked() -> None:
    def task(name: str, connections: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": name,
            "dnn": "own" if name == "first" else "other",
            "accuracy": 0.9,
            "demand": 10.0,
            "input_group": "camera",
            "connections": connections,
        }

    blocks = [{"flops": 1e6, "id": f"{d}/{k}"} for d in ("own", "other") for k in range(3)]
    entry = {"source": "input", "target": "own/0", "drop": 0.0, "share": "identity"}
    leave = {"source": "own/1", "target": "other/2", "drop": 0.01}
    instance = parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "camera",
            "servers": [{"id": "s", "flops": 1e9}],
            "dnns": [
                {"id": "own", "server": "s", "blocks": blocks[:3]},
                {"id": "other", "server": "s", "blocks": blocks[3:]},
            ],
            "tasks": [task("first", []), task("second", [entry, leave])],
        }
    )
    paths = {
        "first": ("own/0", "own/1", "own/2"),
        "second": ("own/0", "own/1", "other/2"),
    }
    tasks = tuple(
        TaskResult(
            task=name, path=path, rate=1.0, accuracy=0.9, accuracy_source="predicted", latency=0.1
        )
        for name, path in paths.items()
    )
    result = Result(instance="camera", method="code", status="feasible", tasks=tasks)
    drawing = draw_edge(instance, result, name="x")
    titles = [s.title for s in drawing.shapes if isinstance(s, Rect) and s.title]
    once = [title for title in titles if "once" in title]
    assert once == [f"own/{k}: computed once for first, second" for k in (0, 1)]
    learned = [s for s in flat(drawing.shapes) if isinstance(s, Curve) and s.closed]
    assert len(learned) == 1  # the entry hands on what is there, only the crossing is learned


def test_lines_that_are_the_same_are_one_with_both_names() -> None:
    dots = (Dot(1.0, 5.0), Dot(2.0, 7.0))
    series = [
        Series("full", dots, line=True),
        Series("exits", dots, line=True, index=4),
        Series("none", (Dot(1.0, 6.0), Dot(2.0, 9.0)), line=True, index=2),
    ]
    drawing = xy_chart("Cost", Axis("hour", names=("", "07:00", "08:00")), Axis("cost"), series)
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Label)]
    assert "full = exits" in texts
    assert "none" in texts
    assert {"07:00", "08:00"} <= set(texts)
    lines = [s for s in drawing.shapes if isinstance(s, Curve) and s.style.width == 2.0]
    assert len(lines) == 2
