"""The edge drawn: servers with the blocks of their DNNs, and the tasks' paths through them.

Every server is a band, every DNN on it a row of blocks from left to right. A task's path is a
line that begins at its number and ends at a square: solid along a trunk, a double line where
it uses a learned connection, with a diamond on the server that runs the adapter. Links stand to
the right as arcs between the bands, as wide as they are loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from code_opt.instance import Instance
from code_opt.instance.model import IDENTITY, INPUT, OUTPUT, Dnn, GivenPath
from code_opt.report.drawing import (
    Circle,
    Curve,
    Drawing,
    Group,
    Label,
    Rect,
    Shape,
    Style,
    polygon,
    series_color,
    series_dash,
    shortened,
    text_width,
)
from code_opt.report.numbers import server_amount
from code_opt.result import LinkResult, Result, ServerResult, TaskResult
from code_opt.text import amount, duration, number
from code_opt.wording import full_shares

LANE = 12.0
"""Distance of two paths through one block."""
BLOCK_LABEL = 13.0
GAP = 22.0
"""Least distance of two blocks of a row: start and end signs fit in."""
MARGIN = 28.0
PADDING = 8.0
HEADER = 20.0
ROW_LABEL = 14.0
BRIDGE = 12.0
"""Room above a row whose blocks are jumped over."""
BAND_GAP = 8.0
GUTTER = 62.0
IDLE_GUTTER = 40.0
WIDTH = 340.0
LEAST_BLOCK = 17.0
FULL = 0.999
MOST_LABELLED_LINKS = 8
MOST_IDLE_LINKS = 16
"""Beyond so many links, only those in use are drawn."""


@dataclass
class _Place:
    """Where a block stands."""

    x: float
    width: float
    row: _Row
    column: int
    lanes: dict[int, float] = field(default_factory=dict)
    """By task: y of its line."""

    @property
    def right(self) -> float:
        return self.x + self.width


@dataclass
class _Row:
    """One DNN in a band."""

    dnn: Dnn
    y: float = 0.0
    """Top of the blocks."""
    height: float = 0.0
    bridge: bool = False


def draw_edge(
    instance: Instance,
    result: Result | None,
    *,
    name: str,
    tasks: Collection[str] | None = None,
    dnns: Collection[str] | None = None,
    beside: Sequence[Result] = (),
    description: str = "",
) -> Drawing:
    """Return the drawing of an edge and the paths of one result.

    Args:
        instance: servers, links, DNNs, tasks; tasks keep their number and colour in all drawings.
        result: whose paths are drawn; None draws the edge alone.
        name: of the result, for the title.
        tasks: draw the paths of these only.
        dnns: draw these only, and the servers that host them.
        beside: results drawn beside it, whose paths get room as well, so that every block
            stands at the same place in all drawings.
        description: for those who cannot see it.
    """
    return _Edge(instance, result, tasks, dnns, beside).drawing(name, description)


class _Edge:
    def __init__(
        self,
        instance: Instance,
        result: Result | None,
        tasks: Collection[str] | None,
        dnns: Collection[str] | None,
        beside: Sequence[Result],
    ) -> None:
        self.instance = instance
        shown = [d for d in instance.dnns if dnns is None or d.id in dnns]
        hosts = {d.server for d in shown}
        self.servers = [s for s in instance.servers if dnns is None or s.id in hosts]
        self.rows: dict[str, list[_Row]] = {s.id: [] for s in self.servers}
        self.blocks: dict[str, _Place] = {}
        most = max((len(d.blocks) for d in shown), default=1)
        self.width = max(WIDTH, 2 * MARGIN + most * (LEAST_BLOCK + GAP))
        for dnn in shown:
            row = _Row(dnn)
            self.rows[dnn.server].append(row)
            count = len(dnn.blocks)
            inner = self.width - 2 * MARGIN
            # Every row fills the width, so that all begin and end at the same places.
            width = min(76.0, (inner - (count - 1) * GAP) / count)
            pitch = (inner - width) / (count - 1) if count > 1 else 0.0
            for column, block in enumerate(dnn.blocks):
                self.blocks[block.id] = _Place(MARGIN + column * pitch, width, row, column)
        self.order = {task.id: i for i, task in enumerate(instance.tasks)}
        natives = {d.id: (d.blocks[0].id, d.blocks[-1].id) for d in instance.dnns}
        self.ends = {t.id: natives[t.dnn] for t in instance.tasks}
        self.trunk = {
            (a.id, b.id)
            for d in instance.dnns
            for a, b in zip(d.blocks, d.blocks[1:], strict=False)
        }
        mine = [t for t in instance.tasks if tasks is None or t.id in tasks]
        self.groups = {t.id: t.input_group for t in mine if t.input_group}
        self.shares = {(t.id, c.source, c.target): c.share for t in mine for c in t.connections}
        self.given = {step for step, share in self.shares.items() if share == IDENTITY}
        self.hosts = {b.id: d.server for d in instance.dnns for b in d.blocks}
        self.adapters = {(t.id, c.source, c.target): c.server for t in mine for c in t.connections}

        def paths(result: Result | None) -> list[TaskResult]:
            return [
                row
                for row in (result.tasks if result is not None else ())
                if row.task in self.order
                and (tasks is None or row.task in tasks)
                and row.path
                and all(block in self.blocks for block in row.path)
            ]

        self.paths = paths(result)
        self.all_paths = [self.paths, *map(paths, beside)]
        self.full = {} if result is None else full_shares(result, instance)
        self.loads: dict[str, ServerResult] = {}
        self.links: list[LinkResult] = []
        if result is not None:
            self.loads = {s.server: s for s in result.servers}
            known = {s.id for s in self.servers}
            self.links = [k for k in result.links if {k.source, k.target} <= known]
        elif instance.links:
            known = {s.id for s in self.servers}
            self.links = [
                LinkResult(
                    source=k.source, target=k.target, load=0.0, capacity=k.bandwidth,
                    utilization=None if k.bandwidth is None else 0.0,
                )
                for k in instance.links
                if {k.source, k.target} <= known
            ]  # fmt: skip
        # Drawings beside each other are equally wide.
        together = [result, *beside]
        self.busy = any(k.load > 0 for r in together if r is not None for k in r.links)
        if len(self.links) > MOST_IDLE_LINKS:
            self.links = [link for link in self.links if link.load > 0]
        self.tops: dict[str, float] = {}
        self.heights: dict[str, float] = {}
        self.height = self._place()

    def _place(self) -> float:
        """Give every band, row and lane its y; return the height of all."""
        used: dict[str, list[int]] = {}
        most: dict[str, int] = {}
        for number_of, paths in enumerate(self.all_paths):
            lanes_here: Counter[str] = Counter()
            for path in paths:
                for block_id in dict.fromkeys(path.path):
                    lanes_here[block_id] += 1
                    if number_of == 0:
                        used.setdefault(block_id, []).append(self.order[path.task])
                for a, b in zip(path.path, path.path[1:], strict=False):
                    here, there = self.blocks[a], self.blocks[b]
                    if here.row is there.row and there.column != here.column + 1:
                        here.row.bridge = True
            for block_id, lanes in lanes_here.items():
                most[block_id] = max(lanes, most.get(block_id, 0))
        y = 2.0
        for server in self.servers:
            self.tops[server.id] = y
            y += HEADER
            rows = self.rows[server.id]
            for row in rows:
                if len(rows) > 1 or row.bridge:
                    y += ROW_LABEL if len(rows) > 1 else 0.0
                    y += BRIDGE if row.bridge else 0.0
                lanes = max([1, *(most.get(block.id, 0) for block in row.dnn.blocks)])
                row.y, row.height = y, BLOCK_LABEL + LANE * lanes + 2.0
                for block in row.dnn.blocks:
                    mine = sorted(used.get(block.id, ()))
                    middle = y + BLOCK_LABEL - 1.0 + LANE * lanes / 2
                    for lane, task in enumerate(mine):
                        offset = (lane - (len(mine) - 1) / 2) * LANE
                        self.blocks[block.id].lanes[task] = middle + offset
                y += row.height + PADDING
            if not rows:
                y += 2.0
            self.heights[server.id] = y - self.tops[server.id]
            y += BAND_GAP
        return y - BAND_GAP + 2.0

    def drawing(self, name: str, description: str) -> Drawing:
        shapes: list[Shape] = [self._band(server.id) for server in self.servers]
        groups = [
            self._path(path.task, GivenPath.of(path.path, path.accuracy_source))
            for path in self.paths
        ]
        shapes += [Group(tuple(under), key=key, kind="path") for key, under, _ in groups]
        for server in self.servers:
            shapes += self._header(server.id)
            for row in self.rows[server.id]:
                shapes += self._blocks(row)
        shapes += self._sharing()
        for path, (key, _, over) in zip(self.paths, groups, strict=True):
            title = (
                f"{path.task}: {number(path.rate)} inferences/s, accuracy {path.accuracy:.4f} "
                f"({path.accuracy_source}), {duration(path.latency)}"
            )
            shapes.append(Group(tuple(over), key=key, title=title, kind="path"))
        width = self.width
        if self.links or (self.busy and self.instance.links):
            shapes += self._links()
            width += GUTTER if self.busy else IDLE_GUTTER
        return Drawing(width, self.height, tuple(shapes), f"{name}: paths on the edge", description)

    # -- bands and blocks --

    def _band(self, server: str) -> Shape:
        top, height = self.tops[server], self.heights[server]
        load = self.loads.get(server)
        found = next(s for s in self.servers if s.id == server)
        title = f"{server}: {server_amount(found.flops, found.devices)}"
        if load is not None:
            of = server_amount(load.capacity, load.devices)
            title = f"{server}: {server_amount(load.load, load.busy_devices)} of {of}"
        style = Style(fill="panel", stroke="line")
        return Rect(1, top, self.width - 2, height, style, 8, title=title)

    def _header(self, server: str) -> list[Shape]:
        """Return a server's name, its network's where it is a single one, and its load."""
        top = self.tops[server]
        load = self.loads.get(server)
        shapes: list[Shape] = []
        right = self.width - PADDING
        if load is not None:
            share = min(1.0, max(0.0, load.utilization))
            text = f"{100 * load.utilization:.0f} %"
            full = load.utilization >= FULL * self.full.get(server, 1.0)
            shapes.append(Label(right, top + 14, text, 10.5, "end", bold=full))
            bar = 54.0
            x = right - 38 - bar
            shapes += [
                Rect(x, top + 7.5, bar, 6, Style(fill="line"), 3),
                Rect(x, top + 7.5, bar * share, 6, Style(fill="c1" if full else "edge"), 3),
            ]
            right = x - 6
        rows = self.rows[server]
        room = right - PADDING
        shown = shortened(server, 11.5, room)
        labels: list[Shape] = [Label(PADDING + 2, top + 14.5, shown, 11.5, bold=True, halo="panel")]
        if len(rows) == 1 and rows[0].dnn.id != server:
            x = PADDING + 8 + text_width(shown, 12)
            dnn = shortened(rows[0].dnn.id, 10.5, room - x)
            if room - x > 24:
                labels.append(Label(x, top + 14.5, dnn, 10.5, fill="muted", halo="panel"))
        return [*labels, *shapes]

    def _blocks(self, row: _Row) -> list[Shape]:
        shapes: list[Shape] = []
        if len(self.rows[row.dnn.server]) > 1:
            y = row.y - 5 - (BRIDGE if row.bridge else 0)
            shapes.append(
                Label(MARGIN, y, shortened(row.dnn.id, 10.5, self.width / 2), 10.5, fill="muted")
            )
        for block in row.dnn.blocks:
            place = self.blocks[block.id]
            title = (
                f"{block.id} on {row.dnn.server}: {amount(block.flops, 'FLOP')}, "
                f"{amount(block.params, 'parameters')}"
            )
            is_used = bool(place.lanes)
            shapes.append(
                Rect(
                    place.x,
                    row.y,
                    place.width,
                    row.height,
                    Style(fill="block" if is_used else "panel", stroke="edge"),
                    4,
                    title=title,
                )
            )
            text = block.id.removeprefix(row.dnn.id + "/")
            shapes.append(
                Label(
                    place.x + 4,
                    row.y + 11,
                    shortened(text, 9.5, place.width - 6),
                    9.5,
                    fill="muted",
                )
            )
        return shapes

    def _sharing(self) -> list[Shape]:
        """Return a band behind the lines of tasks for which a block runs only once.

        Tasks of one input group share a step where all steps before it are shared and its
        adapter has the same name, or needs none.
        """
        found: dict[tuple[str, tuple[Any, ...]], list[str]] = {}
        for path in self.paths:
            group = self.groups.get(path.task)
            if group is None:
                continue
            prefix: tuple[Any, ...] = (group,)
            for a, b in zip((INPUT, *path.path), path.path, strict=False):
                share: str | None = IDENTITY
                if path.accuracy_source != "given":
                    share = self.shares.get((path.task, a, b), IDENTITY)
                prefix = (*prefix, a, b, share if share is not None else ("own", path.task))
                found.setdefault((b, prefix), []).append(path.task)
        bands: list[Shape] = []
        for (block, _), tasks in found.items():
            if len(tasks) < 2:
                continue
            place = self.blocks[block]
            lanes = [place.lanes[self.order[task]] for task in tasks]
            bands.append(
                Rect(
                    place.x + 2,
                    min(lanes) - 5,
                    place.width - 4,
                    max(lanes) - min(lanes) + 10,
                    Style(fill="edge", opacity=0.35),
                    5,
                    title=f"{block}: computed once for {', '.join(tasks)}",
                )
            )
        return bands

    # -- paths --

    def _path(self, task: str, path: Sequence[str]) -> tuple[int, list[Shape], list[Shape]]:
        """Return the task's number, what is drawn below the blocks, and what above them."""
        index = self.order[task]
        color = series_color(index)
        line = Style(stroke=color, width=2.6, dash=series_dash(index))
        under: list[Shape] = []
        over: list[Shape] = []
        first, last = self.ends[task]
        start, end = self.blocks[path[0]], self.blocks[path[-1]]
        alone = isinstance(path, GivenPath)
        entry = not alone and path[0] != first and (task, INPUT, path[0]) not in self.given
        y = start.lanes[index]
        x = start.x - 12
        under += self._step((x, y), (start.x, y), entry, color, line)
        for a, b in zip(path, path[1:], strict=False):
            here, there = self.blocks[a], self.blocks[b]
            learned = (a, b) not in self.trunk and (task, a, b) not in self.given
            curve = _connection(here, there, index)
            if learned:
                under += _double(curve, color)
                over.append(_diamond(self._adapter(task, a, b, curve), color, 4.4))
            else:
                under.append(_styled(curve, line))
        for block in path:
            place = self.blocks[block]
            lane = place.lanes[index]
            over.append(Curve((place.x, lane), ((place.right, lane),), line))
        y = end.lanes[index]
        x = end.right + 11
        exits = not alone and path[-1] != last and (task, path[-1], OUTPUT) not in self.given
        under += self._step((end.right, y), (x, y), exits, color, line)
        if exits:
            over.append(_diamond((x - 1.0, y), color))
        else:
            over.append(Rect(x - 4, y - 4, 8, 8, Style(fill=color, stroke="panel")))
        mark = str(index + 1)
        sx, sy = start.x - 13, start.lanes[index]
        over.append(Circle(sx, sy, 7, Style(fill=color, stroke="panel", width=1.2)))
        if entry:
            over.append(_diamond((start.x - 2.0, sy), color, 3.4))
        over.append(
            Label(sx, sy + 3.2, mark, 9.5 if index < 9 else 8, "middle", fill="paper", bold=True)
        )
        return index, under, over

    def _adapter(self, task: str, a: str, b: str, curve: Curve) -> tuple[float, float]:
        """Return where a connection's adapter is drawn: at the end on the server that runs it."""
        server = self.adapters.get((task, a, b)) or self.hosts[a]
        if server == self.hosts[a]:
            return curve.start[0] + 5.5, curve.start[1]
        if server == self.hosts[b]:
            return curve.steps[-1][-2] - 5.5, curve.steps[-1][-1]
        return _middle(curve)

    def _step(
        self,
        a: tuple[float, float],
        b: tuple[float, float],
        learned: bool,
        color: str,
        line: Style,
    ) -> list[Shape]:
        curve = Curve(a, (b,), line)
        return _double(curve, color) if learned else [curve]

    # -- links --

    def _links(self) -> list[Shape]:
        """Return the links as arcs to the right of the bands, those in use on top."""
        order = {server.id: i for i, server in enumerate(self.servers)}
        spans = max(1, len(order) - 1)
        used = [k for k in self.links if k.load > 0]
        idle: list[Shape] = []
        busy: list[Shape] = []
        words: list[Shape] = []
        words.append(Label(self.width + 8, 12, "links", 10, fill="muted"))
        for link in self.links:
            a, b = order[link.source], order[link.target]
            down = b > a
            y1 = self._anchor(link.source, 5 if down else -5)
            y2 = self._anchor(link.target, -5 if down else 5)
            x = self.width
            reach = 12 + (34 if used else 12) * (abs(b - a) - 1) / spans + (6 if down else 0)
            share = 0.0 if link.utilization is None else min(1.0, link.utilization)
            busy_now = link.load > 0
            full = share >= FULL
            color = ("c1" if full else "edge") if busy_now else "line"
            style = Style(stroke=color, width=1.4 + 3.0 * share if busy_now else 1.0)
            of = "unlimited" if link.capacity is None else amount(link.capacity, "B/s")
            title = f"{link.source} → {link.target}: {amount(link.load, 'B/s')} of {of}"
            curve = Curve(
                (x, y1),
                ((x + reach * 1.33, y1, x + reach * 1.33, y2, x + 5, y2),),
                style,
                title=title,
            )
            tip = polygon([(x + 0.5, y2), (x + 7, y2 - 3.6), (x + 7, y2 + 3.6)], Style(fill=color))
            (busy if busy_now else idle).extend([curve, tip])
            if busy_now and link.utilization is not None and len(used) <= MOST_LABELLED_LINKS:
                words.append(
                    Label(
                        x + reach + 3,
                        (y1 + y2) / 2 + 3.5,
                        f"{100 * share:.0f} %",
                        9.5,
                        bold=full,
                        halo="paper",
                    )
                )
        return idle + busy + words

    def _anchor(self, server: str, offset: float) -> float:
        return self.tops[server] + self.heights[server] / 2 + offset


# ---- shapes of paths -------------------------------------------------------------------------


def _connection(here: _Place, there: _Place, task: int) -> Curve:
    """Return the line from one block to the next on a path."""
    ax, ay = here.right, here.lanes[task]
    bx, by = there.x, there.lanes[task]
    plain = Style()
    if here.row is there.row and there.column > here.column + 1:
        top = here.row.y - 6
        return Curve(
            (ax, ay),
            (
                (ax + 11, ay, ax + 2, top, ax + 15, top),
                (bx - 15, top),
                (bx - 2, top, bx - 11, by, bx, by),
            ),
            plain,
        )
    reach = max(13.0, min(40.0, abs(bx - ax) * 0.55))
    if bx < ax:
        reach = 26.0
    return Curve((ax, ay), ((ax + reach, ay, bx - reach, by, bx, by),), plain)


def _styled(curve: Curve, style: Style) -> Curve:
    return Curve(curve.start, curve.steps, style)


def _double(curve: Curve, color: str) -> list[Shape]:
    return [
        _styled(curve, Style(stroke=color, width=5.0)),
        _styled(curve, Style(stroke="panel", width=1.8)),
    ]


def _middle(curve: Curve) -> tuple[float, float]:
    """Return the point half-way along the middle step of a curve."""
    step = len(curve.steps) // 2
    start = curve.start if step == 0 else curve.steps[step - 1][-2:]
    end = curve.steps[step]
    if len(end) == 2:
        return (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    x = (start[0] + 3 * end[0] + 3 * end[2] + end[4]) / 8
    y = (start[1] + 3 * end[1] + 3 * end[3] + end[5]) / 8
    return x, y


def _diamond(at: tuple[float, float], color: str, size: float = 5.0) -> Curve:
    x, y = at
    points = [(x, y - size), (x + size, y), (x, y + size), (x - size, y)]
    return polygon(points, Style(fill="paper", stroke=color, width=1.8))
