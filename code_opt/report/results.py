"""Sections about results: summary, the edge drawn, methods compared, paths, utilisation."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from code_opt.instance import Instance
from code_opt.instance.model import OUTPUT, GivenPath
from code_opt.registry import BUILT_IN, known_method, place_of, role_of, title_of
from code_opt.report.blocks import (
    Block,
    Callout,
    Cell,
    Choice,
    Chooser,
    Column,
    Figure,
    Items,
    Listing,
    More,
    Pair,
    Paragraph,
    Row,
    Run,
    Section,
    Side,
    Table,
    Tile,
    Tiles,
    text_cells,
)
from code_opt.report.charts import Axis, Dot, RowSeries, Series, Value, row_chart, xy_chart
from code_opt.report.drawing import Drawing
from code_opt.report.edge import draw_edge
from code_opt.report.material import Material, Shown
from code_opt.report.numbers import figure, gap, points, relative, server_amount, short
from code_opt.result import TOLERANCE, Result, TaskResult
from code_opt.text import amount, duration, number, percent, plain, seconds, share, si
from code_opt.wording import PathWords, after_change, chosen, full_shares, reading

MOST_DRAWN = 24
"""Most tasks (or DNNs) that are drawn in one picture; beyond, each task has its own."""
MOST_OWN_DRAWINGS = 120
"""Most tasks that get pictures of their own; beyond, paths are written."""
MOST_LISTED = 2000
"""Most tasks, servers or links that have a row each; beyond, tasks are shown by site."""
MOST_SITES = 200
"""Sites, servers or links that are shown where there are too many for a row each."""
MAIN = ("exact", "lns", "local")
"""Methods whose assignments are drawn, where they are there."""


def heading(shown: Shown) -> str:
    """Return how a result is called in a heading; in tables methods keep their names."""
    name = title_of(shown.result.method)
    name = name if shown.label == shown.result.method else f"{name}: {shown.label}"
    return f"{name} (the same: {', '.join(shown.twins)})" if shown.twins else name


def index_of(shown: Shown, results: Sequence[Shown]) -> int:
    """Return the colour and sign of a result in charts: a method's own where it has one."""
    if shown.label == shown.result.method and known_method(shown.label) is not None:
        return place_of(shown.label)
    return len(BUILT_IN) + [r.label for r in results].index(shown.label)


def results_sections(material: Material, leads: bool) -> list[Section]:
    """Return the sections about results, those without content left out.

    Args:
        material: what is shown.
        leads: the page begins with the results: their totals stand there already.
    """
    if not material.results:
        return []
    totals = [] if leads else _tiles(material)
    found = [
        Section("edge", "The edge as it is, and its paths", (*totals, *_edge(material))),
        Section("paths", "Paths of every service", tuple(_paths(material))),
        Section("load", "Load of servers and links", tuple(_load(material))),
    ]
    asked = _asked(material)
    return [replace(section, settings=asked) for section in found if section.blocks]


def results_appendix(material: Material) -> list[Section]:
    """Return how the methods compare, and what they prove."""
    if not material.results:
        return []
    blocks = (*_proofs(material), *_methods(material), *_messages(material))
    return [Section("methods", "Methods compared", blocks, _asked(material))]


def _asked(material: Material) -> str:
    """Return what the results were asked for."""
    results = [shown.result for shown in material.results]
    parts = ["capacities and demands of the instance, nothing bought"]
    parts += [f"most {name}" for name in dict.fromkeys(r.objective for r in results)]
    for headroom in dict.fromkeys(r.max_utilization for r in results):
        if headroom is not None:
            parts.append(f"at most {percent(headroom)} of a server in use")
    return ", ".join(parts).replace("most latency", "least latency")


def headline(material: Material) -> str:
    """Return what the results say in one line; empty where there are none."""
    results = [shown.result for shown in material.results]
    best = chosen(results)
    if best is None:
        if any(result.status == "infeasible" for result in results):
            return "No assignment meets all requirements"
        return "No assignment was found in time" if results else ""
    local = next((r for r in results if r.method == "local" and r.has_solution), None)
    throughput, accuracy = best.throughput or 0.0, best.accuracy or 0.0
    if local is None or local is best or not local.throughput:
        return f"{short(throughput)} inferences/s at an average accuracy of {accuracy:.4f}"
    if _is_same(best, local):
        return (
            f"Coordination gains nothing: {short(throughput)} inferences/s at an average accuracy "
            f"of {accuracy:.4f}"
        )
    return (
        f"{relative(throughput, local.throughput)} throughput and "
        f"{points(accuracy, local.accuracy)} points of accuracy against no coordination"
    )


def summary(material: Material) -> list[Block]:
    """Return the first screen of a page without a plan to buy: totals, money, main risk."""
    if not material.results:
        return [Paragraph(_NOTHING_BOUGHT, note=True)]
    if chosen([shown.result for shown in material.results]) is None:
        return list(_messages(material))
    return [*_tiles(material), *_risk(material), Paragraph(_NOTHING_BOUGHT, note=True)]


_NOTHING_BOUGHT = (
    "Money: nothing is bought here. No plan of capacity is among the files (code-opt plan)."
)


def _tiles(material: Material) -> list[Block]:
    results = [shown.result for shown in material.results]
    best = chosen(results)
    if best is None:
        return []
    return [Tiles((*_totals(best, results), *_compared(best, results)))]


def _risk(material: Material) -> list[Block]:
    """Return what the best assignment rests on."""
    best = chosen([shown.result for shown in material.results])
    if best is None:
        return []
    guessed = [r.task for r in best.tasks if r.accuracy_source not in ("measured", "given")]
    if not guessed:
        return [Callout("none found", ("Every accuracy in use is measured or given.",), "good")]
    text = f"{_few(guessed)}: the accuracy of the path is predicted, nobody measured it."
    heading = f"{len(guessed)} of {len(best.tasks)} accuracies are predicted"
    return [Callout(heading, (plain(text),), "risk")]


def _proofs(material: Material) -> list[Block]:
    results = [shown.result for shown in material.results]
    return [Items(tuple(reading(results, material.confirmed)))]


def warnings(material: Material) -> list[Block]:
    """Return what must be known before anything else is read."""
    return [*doubts(material), *_without_digest(material)]


_FEW_VIOLATIONS = 12
"""Violations of a result that are shown."""


def doubts(material: Material) -> list[Callout]:
    """Return a warning for every result and plan that is not confirmed, and why."""
    return [*_stale_or_wrong(material), *_stale_plans(material)]


def _stale_or_wrong(material: Material) -> Iterator[Callout]:
    """Yield warnings of results whose instance changed, or that fail the check."""
    for shown in material.results:
        result = shown.result
        if shown.is_stale:
            holds, lost = after_change(
                result.status,
                result.bound,
                result.gap,
                holds_anything=result.has_solution,
                is_else_confirmed=True,
            )
            yield Callout(
                f"{shown.label} ({shown.file}) was found before the instance changed "
                f"({', '.join(shown.changed or ())})",
                (f"Still holds: {holds}.", f"Not confirmed: {lost}."),
            )
        elif shown.violations:
            texts = [plain(violation) for violation in shown.violations]
            if len(texts) > _FEW_VIOLATIONS:
                more = len(texts) - _FEW_VIOLATIONS
                texts = [*texts[:_FEW_VIOLATIONS], f"and {more} more"]
            yield Callout(
                f"{shown.label} ({shown.file}) does not pass the independent check: do not "
                "act on it",
                tuple(texts),
            )


def _stale_plans(material: Material) -> Iterator[Callout]:
    """Yield warnings of plans whose instance changed."""
    for one in material.plans:
        if one.changed:
            yield Callout(
                f"The plan {plain(one.path.name)} was made before the instance changed "
                f"({', '.join(one.changed)})",
                ("Nothing in it is confirmed for the instance as it is now; plan it again.",),
            )


def _without_digest(material: Material) -> Iterator[Block]:
    """Yield a note on files that do not say for which instance they were made."""
    unknown = [s.file for s in material.results if s.changed is None]
    unknown += [plain(one.path.name) for one in material.plans if one.changed is None]
    if unknown:
        text = "Whether the instance changed since cannot be told: they keep no digest of it."
        yield Callout(f"Written by an older version: {_few(unknown)}", (text,), "note")


def _totals(best: Result, results: Sequence[Result]) -> Iterator[Tile]:
    """Yield the totals of the best result, beside those without coordination."""
    local = next((r for r in results if r.method == "local" and r.has_solution), None)
    other = None if local is best else local
    if best.reward is not None:
        proof = "not proven"
        if best.status == "optimal":
            proof = "proven optimal"
        elif best.gap is not None:
            side = "above" if best.objective == "latency" else "below"
            proof = f"at most {percent(best.gap, up=True)} {side} the best"
        value = best.value or 0.0
        shown = duration(value) if best.objective == "latency" else short(value)
        yield Tile(shown, f"{best.objective} of {best.method}", proof)
    if best.throughput is not None:
        meaning = "inferences per second, all tasks"
        if other is not None and other.throughput:
            meaning = f"{relative(best.throughput, other.throughput)} against no coordination"
        yield Tile(f"{short(best.throughput)}/s", "throughput", meaning)
    if best.accuracy is not None:
        meaning = "weighted over the tasks"
        if other is not None and other.accuracy is not None:
            meaning = f"{points(best.accuracy, other.accuracy)} points against no coordination"
        yield Tile(f"{best.accuracy:.4f}", "average accuracy", meaning)
    if best.own_work is not None:
        yield Tile(percent(best.own_work), "work on own servers", "share of all tasks' work")


def _compared(best: Result, results: Sequence[Result]) -> Iterator[Tile]:
    """Yield how far the heuristics stayed behind the best result, and how long each took."""
    for heuristic in results:
        if role_of(heuristic.method) != "heuristic" or heuristic is best:
            continue
        if heuristic.value is None or not heuristic.has_solution or not best.value:
            continue
        off = 1.0 - heuristic.value / best.value
        sign = "−" if off > 0.0 else "+"
        yield Tile(
            "same" if abs(off) <= TOLERANCE else f"{sign}{percent(abs(off))}",
            f"{best.objective} of {heuristic.method}",
            f"against {best.method}, in {seconds(heuristic.seconds)} s "
            f"instead of {seconds(best.seconds)} s",
        )


def _messages(material: Material) -> Iterator[Block]:
    """Yield what the methods say."""
    messages = {s.label: s.result.message for s in material.results if s.result.message}
    if messages:
        texts = tuple(f"{label}: {text}" for label, text in messages.items())
        yield Callout("What the methods say", texts, "note")


# ---- the edge --------------------------------------------------------------------------------


def main_results(material: Material) -> list[Shown]:
    """Return the results that are drawn beside each other: exact, lns, no coordination.

    Assignments that are the same are one, the others named with it.
    """
    solved = [shown for shown in material.results if shown.result.has_solution]
    different: list[Shown] = []
    for shown in solved:
        same = next((d for d in different if _is_same(d.result, shown.result)), None)
        if same is None:
            different.append(shown)
        else:
            place = different.index(same)
            different[place] = replace(same, twins=(*same.twins, shown.label))
    preferred = [s for s in different if s.result.method in MAIN]
    others = [s for s in different if s.result.method not in MAIN]
    picked = preferred[:3] if len(preferred) >= 2 else (preferred + others)[:3]
    return sorted(picked, key=different.index)


def _is_same(a: Result, b: Result) -> bool:
    """Tell whether two results take the same paths at the same rates."""
    if [(row.task, row.path) for row in a.tasks] != [(row.task, row.path) for row in b.tasks]:
        return False
    return all(
        math.isclose(x.rate, y.rate, rel_tol=TOLERANCE)
        for x, y in zip(a.tasks, b.tasks, strict=True)
    )


def _others(material: Material, shown: Sequence[Shown]) -> list[Shown]:
    """Return the results with an assignment that is none of those shown."""
    names = {name for one in shown for name in (one.label, *one.twins)}
    return [s for s in material.results if s.result.has_solution and s.label not in names]


def _edge(material: Material) -> list[Block]:
    instance = material.instance
    shown = main_results(material)
    small = len(instance.tasks) <= MOST_DRAWN and len(instance.dnns) <= MOST_DRAWN
    blocks: list[Block] = []
    chooser = Chooser(
        tuple(
            Choice(i, task.id, tuple(_line(s, task.id, material) for s in shown))
            for i, task in enumerate(instance.tasks if small else ())
        ),
        summary=tuple(use_of_connections(s, material) for s in shown),
        filters=not small,
    )
    if small:
        blocks.append(Paragraph(_how_to_read(instance), note=True))
        if shown:
            blocks.append(chooser)
            blocks.append(_side(material, shown, "edge"))
            rest = _others(material, shown)
            if rest:
                blocks.append(
                    More(
                        "Paths of " + ", ".join(s.name for s in rest),
                        (_side(material, rest, "edge"),),
                    )
                )
        else:
            drawing = draw_edge(
                instance, None, name="The edge", description="No result has an assignment."
            )
            blocks.append(Figure("edge", drawing, "The edge; no result has an assignment."))
        return blocks
    if not shown:
        return []
    if len(instance.tasks) > MOST_LISTED:
        return [Items(chooser.summary)]
    blocks.append(
        Paragraph(
            f"{len(instance.tasks):,} tasks are too many for one picture: search for a task and "
            "open it to see its path. Load per server stands below.",
            note=True,
        )
    )
    blocks.append(chooser)
    reference = shown[0]
    pictures: list[Block] = []
    for i, task in enumerate(instance.tasks[:MOST_OWN_DRAWINGS]):
        used = {task.dnn}
        host = {b.id: d.id for d in instance.dnns for b in d.blocks}
        for s in shown:
            for row in s.result.tasks:
                if row.task == task.id:
                    used |= {host[b] for b in row.path if b in host}
        line = _line(reference, task.id, material)
        pictures.append(
            More(
                f"{i + 1}. {task.id}: {line}",
                (_side(material, shown, "edge", tasks={task.id}, dnns=used, key=i),),
                task=i,
            )
        )
    blocks.append(Listing(tuple(pictures)))
    if len(instance.tasks) > MOST_OWN_DRAWINGS:
        blocks.append(
            Paragraph(
                f"The first {MOST_OWN_DRAWINGS} tasks have pictures; the paths of all stand in "
                "the table.",
                note=True,
            )
        )
    return blocks


def _how_to_read(instance: Instance) -> str:
    text = (
        "Every server is a band with the blocks of its networks; the bar shows how much of it is "
        "used. A task's path begins at its number and ends at a square. A double line with a "
        "diamond is a learned connection: a skip, a crossing into another network, an entry or an "
        "early exit."
    )
    groups = Counter(task.input_group for task in instance.tasks if task.input_group)
    if any(count > 1 for count in groups.values()):
        text += " A grey band holds the lines of tasks with the same input: computed once for all."
    if instance.links:
        text += " Arcs on the right are links, as wide as they are loaded."
    return text


def use_of_connections(shown: Shown, material: Material) -> str:
    """Return a sentence on how many tasks of a result use which learned connections."""
    instance, words = material.instance, material.words
    dnn_of = {b.id: d.id for d in instance.dnns for b in d.blocks}
    native = {task.id: task.dnn for task in instance.tasks}
    borrowing = skipping = leaving = coordinated = 0
    for row in shown.result.tasks:
        runs = words.of(row)
        inner = [run for run in runs if run.blocks]
        dnns = [dnn_of.get(run.blocks[0]) for run in inner]
        coordinated += len(runs) > 1
        borrowing += any(dnn != native.get(row.task) for dnn in dnns)
        skipping += any(a == b for a, b in itertools.pairwise(dnns))
        leaving += bool(runs) and runs[-1].text == OUTPUT and not runs[-1].blocks
    total = len(shown.result.tasks)
    if not coordinated:
        return f"{shown.name}: every task runs on its own network alone."
    kinds = [
        (borrowing, "borrow blocks of another network", "borrows blocks of another network"),
        (skipping, "skip blocks", "skips blocks"),
        (leaving, "leave early or through another head", "leaves early or through another head"),
    ]
    parts = [f"{n} {one if n == 1 else more}" for n, more, one in kinds if n]
    return (
        f"{shown.name}: {coordinated} of {total} tasks leave their native path: {', '.join(parts)}."
    )


def _side(
    material: Material,
    shown: Sequence[Shown],
    prefix: str,
    tasks: set[str] | None = None,
    dnns: set[str] | None = None,
    key: int | None = None,
) -> Side:
    figures = []
    for s in shown:
        result = s.result
        description = "; ".join(
            f"{row.task}: {_line(s, row.task, material).removeprefix(s.name + ': ')}"
            for row in result.tasks
            if tasks is None or row.task in tasks
        )
        drawing = draw_edge(
            material.instance,
            result,
            name=heading(s),
            tasks=tasks,
            dnns=dnns,
            beside=[other.result for other in shown],
            description=description,
        )
        detail = ""
        if tasks is None and result.throughput is not None and result.accuracy is not None:
            detail = f"{short(result.throughput)}/s at accuracy {result.accuracy:.4f}"
        elif tasks is not None:
            row = next((r for r in result.tasks if r.task in tasks), None)
            if row is not None:
                detail = f"{short(row.rate)}/s at accuracy {row.accuracy:.4f}"
        suffix = "" if key is None else f"-task{key + 1}"
        figures.append(Figure(f"{prefix}-{s.label}{suffix}", drawing, heading(s), detail))
    return Side(tuple(figures), "Paths by method, side by side")


def path_text(words: PathWords, task: str, path: Sequence[str]) -> str:
    """Return a path in a line of text."""
    runs = words(task, path)
    text = runs[0].text if runs else ""
    for run in runs[1:]:
        text += (" ⇒ " if run.learned else " → ") + run.text
    return f"{text} ({words.name(task, path)})" if len(runs) == 1 else text


def _line(shown: Shown, task: str, material: Material) -> str:
    row = next((r for r in shown.result.tasks if r.task == task), None)
    if row is None:
        return f"{shown.name}: no path"
    return (
        f"{shown.name}: {path_text(material.words, task, path_of(row))}, {short(row.rate)}/s, "
        f"accuracy {row.accuracy:.4f} ({row.accuracy_source}), {duration(row.latency)}"
    )


# ---- methods ---------------------------------------------------------------------------------


def _methods(material: Material) -> list[Block]:
    results = material.results
    local = next((s.result for s in results if s.label == "local" and s.result.has_solution), None)
    is_time = any(s.result.objective == "latency" for s in results)
    columns = [
        Column("Method"),
        Column("Status"),
        Column("Latency" if is_time else "Reward", figures=True),
        Column("Gap", "%", figures=True),
        Column("Throughput", "1/s", figures=True),
        *([Column("against local", "%", figures=True)] if local else []),
        Column("Accuracy", figures=True),
        *([Column("against local", "points", figures=True)] if local else []),
        Column("Own work", figures=True),
        Column("Time", "s", figures=True),
        Column("Check"),
    ]
    best = max((s.result.merit for s in results if s.result.merit is not None), default=None)
    rows = []
    for s in results:
        r = s.result
        is_best = (
            best is not None and r.merit is not None and r.merit >= best - TOLERANCE * abs(best)
        )
        time = "–" if r.latency is None else duration(r.latency)
        cells = [
            Cell(s.label),
            Cell(r.status, "bad" if r.status == "infeasible" else ""),
            Cell(time if is_time else figure(r.reward)),
            Cell(gap(r.gap)),
            Cell(figure(r.throughput)),
            *([Cell(relative(r.throughput, local.throughput, unit=False))] if local else []),
            Cell("–" if r.accuracy is None else f"{r.accuracy:.4f}"),
            *([Cell(points(r.accuracy, local.accuracy))] if local else []),
            Cell("–" if r.own_work is None else percent(r.own_work)),
            Cell(seconds(r.seconds)),
            _verdict(s),
        ]
        rows.append(Row(tuple(cells), strong=is_best))
    caption = "Methods side by side; the best value of the objective is set bold"
    blocks: list[Block] = [Table(caption, tuple(columns), tuple(rows))]
    solved = [
        s for s in results if s.result.throughput is not None and s.result.accuracy is not None
    ]
    if len(solved) > 1:
        caption = "Throughput against accuracy: up and to the right is better."
        charts: list[Block] = [Figure("methods", _plane(solved, results), caption)]
        if len(material.instance.tasks) <= MOST_DRAWN:
            charts.append(_rates(material))
        else:
            charts += _gains(material)
        blocks.append(Pair(tuple(charts)))
    blocks.append(
        Paragraph(
            "The gap is proven: no assignment at all is better by more. A method without a gap "
            "proves nothing. Check: every figure recomputed from the instance alone.",
            note=True,
        )
    )
    return blocks


def method_series(shown: Sequence[Shown], results: Sequence[Shown]) -> list[Series]:
    """Return methods as points of throughput and accuracy; those at one place share a label."""
    places: dict[tuple[str, str], list[Shown]] = {}
    for s in shown:
        if s.result.throughput is not None and s.result.accuracy is not None:
            key = (f"{s.result.throughput:.5g}", f"{s.result.accuracy:.5f}")
            places.setdefault(key, []).append(s)
    series = []
    for group in places.values():
        first = group[0]
        throughput, accuracy = first.result.throughput or 0.0, first.result.accuracy or 0.0
        label = ", ".join(s.name for s in group)
        dot = Dot(throughput, accuracy, label, f"{label}: {number(throughput)}/s at {accuracy:.4f}")
        series.append(Series("", (dot,), index=index_of(first, results)))
    return series


def _plane(solved: Sequence[Shown], results: Sequence[Shown]) -> Drawing:
    series = method_series(solved, results)
    description = "; ".join(
        f"{s.label}: {number(s.result.throughput or 0.0)} inferences/s at accuracy "
        f"{s.result.accuracy:.4f}"
        for s in solved
    )
    return xy_chart(
        "Methods: throughput against average accuracy",
        Axis("throughput [inferences/s]"),
        Axis("average accuracy"),
        series,
        description=description,
    )


def _rates(material: Material) -> Figure:
    """Return who gets how much: the rate of every task by method."""
    shown = main_results(material)
    tasks = [task.id for task in material.instance.tasks]
    series = []
    for s in shown:
        rates = {row.task: row.rate for row in s.result.tasks}
        values = tuple(
            Value(rates.get(t), f"{t}, {s.name}: {number(rates[t])}/s")
            if t in rates
            else Value(None)
            for t in tasks
        )
        series.append(RowSeries(s.name, values, index_of(s, material.results)))
    drawing = row_chart(
        "Rate of every task by method",
        [f"{i + 1}. {task}" for i, task in enumerate(tasks)],
        series,
        Axis("rate [inferences/s]", zero=True),
        description="Rates by task and method; the table of paths holds the values.",
    )
    return Figure("rates", drawing, "Rate of every task by method.")


def _gains(material: Material) -> list[Block]:
    """Return who gains how much, for many tasks: their rates against those without coordination."""
    shown = main_results(material)
    local = next((s for s in shown if s.result.method == "local"), None)
    other = next((s for s in shown if s is not local), None)
    if local is None or other is None or len(material.instance.tasks) > MOST_LISTED:
        return []
    alone = {row.task: row.rate for row in local.result.tasks}
    dots = tuple(
        Dot(
            alone[row.task],
            row.rate,
            title=f"{row.task}: {number(alone[row.task])}/s alone, {number(row.rate)}/s",
        )
        for row in other.result.tasks
        if row.task in alone
    )
    most = max((d.x for d in dots), default=0.0)
    index = index_of(other, material.results)
    series = [
        Series("same rate", (Dot(0.0, 0.0), Dot(most, most)), line=True, index=6, signs=False),
        Series("", dots, index=index),
    ]
    more = sum(d.y > d.x * (1 + TOLERANCE) for d in dots)
    less = sum(d.y < d.x * (1 - TOLERANCE) for d in dots)
    drawing = xy_chart(
        f"Rate of every task: {other.name} against local",
        Axis("rate without coordination [inferences/s]", zero=True),
        Axis(f"rate with {other.name} [inferences/s]", zero=True),
        series,
        description=f"{more} of {len(dots)} tasks get more, {less} get less.",
    )
    caption = f"Rate of every task: {more} of {len(dots)} get more with {other.name}, {less} less."
    return [Figure("rates", drawing, caption)]


def _few(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _verdict(shown: Shown) -> Cell:
    if shown.is_stale:
        return Cell("✗ instance changed", "bad")
    if shown.violations:
        return Cell(f"✗ {len(shown.violations)} wrong", "bad")
    return Cell("✓ passed" if shown.result.has_solution else "✓ no assignment", "good")


# ---- paths -----------------------------------------------------------------------------------


def _paths(material: Material) -> list[Block]:
    shown = main_results(material)
    if not shown:
        return []
    best = chosen([s.result for s in shown])
    first = next(s for s in shown if s.result is best)
    local = next((s for s in shown if s.result.method == "local" and s is not first), None)
    caption = f"Paths of {first.name}; ⇒ marks a learned connection"
    blocks: list[Block] = [_path_table(material, first, caption, local)]
    if len(material.instance.tasks) > MOST_LISTED:
        return blocks
    if len(material.instance.tasks) > MOST_DRAWN:
        blocks = [More(f"All {len(material.instance.tasks):,} paths", tuple(blocks))]
    rest = [*(s for s in shown if s is not first), *_others(material, shown)]
    return [
        *blocks,
        *(
            More(f"Paths of {s.name}", (_path_table(material, s, f"Paths of {s.name}", None),))
            for s in rest
        ),
    ]


def runs_of(material: Material, task: str, path: Sequence[str]) -> tuple[Run, ...]:
    """Return a path as runs with their servers."""
    return tuple(
        Run(run.text, material.home.get(run.blocks[0], "?") if run.blocks else None, run.learned)
        for run in material.words(task, path)
    )


def path_of(row: TaskResult) -> tuple[str, ...]:
    """Return the path of a task of a result, told apart where it runs one DNN alone."""
    return GivenPath.of(row.path, row.accuracy_source)


def _path_table(material: Material, shown: Shown, caption: str, local: Shown | None) -> Table:
    """Return a row per service, against no coordination where that is given."""
    instance = material.instance
    if len(instance.tasks) > MOST_LISTED:
        return _site_table(material, shown)
    limits = any(task.max_latency is not None for task in instance.tasks)
    columns = (
        Column("Service"),
        Column("Path"),
        Column("Rate", "1/s", figures=True),
        *([Column("against alone", "%", figures=True)] if local else []),
        Column("Accuracy", figures=True),
        *([Column("against alone", "points", figures=True)] if local else []),
        Column("Source"),
        Column("Latency", figures=True),
        *([Column("Limit", figures=True)] if limits else []),
        Column("Own work", figures=True),
    )
    found = {row.task: row for row in shown.result.tasks}
    alone = {row.task: row for row in local.result.tasks} if local else {}
    rows = []
    for i, task in enumerate(instance.tasks):
        row = found.get(task.id)
        if row is None:
            continue
        base = alone.get(task.id)
        limit = "–" if task.max_latency is None else duration(task.max_latency)
        more = [relative(row.rate, base.rate if base else None, unit=False)] if local else []
        less = [points(row.accuracy, base.accuracy if base else None)] if local else []
        cells = (
            Cell(f"{i + 1}. {task.id}"),
            Cell(runs=runs_of(material, task.id, path_of(row))),
            Cell(figure(row.rate)),
            *text_cells(*more),
            Cell(f"{row.accuracy:.4f}"),
            *text_cells(*less),
            Cell(row.accuracy_source),
            Cell(duration(row.latency)),
            *([Cell(limit)] if limits else []),
            Cell("–" if row.own_work is None else percent(row.own_work)),
        )
        rows.append(Row(cells, task=i))
    return Table(caption, columns, tuple(rows))


def _site_table(material: Material, shown: Shown) -> Table:
    """Return a row per site, of the services whose own network runs there; small sites in one."""
    stands = {server.id: server.site or server.id for server in material.instance.servers}
    site = {dnn.id: stands[dnn.server] for dnn in material.instance.dnns}
    home = {task.id: site[task.dnn] for task in material.instance.tasks}
    by_site: dict[str, list[TaskResult]] = {}
    for row in shown.result.tasks:
        by_site.setdefault(home.get(row.task, "?"), []).append(row)
    ordered = sorted(by_site, key=lambda name: (-len(by_site[name]), name))
    if len(ordered) > MOST_SITES:
        rest = [row for name in ordered[MOST_SITES:] for row in by_site.pop(name)]
        by_site[f"{len(ordered) - MOST_SITES:,} other sites"] = rest
        ordered = [*ordered[:MOST_SITES], list(by_site)[-1]]
    columns = (
        Column("Site"),
        Column("Services", figures=True),
        Column("coordinated", figures=True),
        Column("Rate", "1/s", figures=True),
        Column("Mean accuracy", figures=True),
        Column("Least", figures=True),
        Column("Longest latency", figures=True),
    )
    rows = tuple(
        Row(
            text_cells(
                name,
                f"{len(mine):,}",
                f"{sum(len(material.words.of(row)) > 1 for row in mine):,}",
                figure(sum(row.rate for row in mine)),
                f"{sum(row.accuracy for row in mine) / len(mine):.4f}",
                f"{min(row.accuracy for row in mine):.4f}",
                duration(max(row.latency for row in mine)),
            )
        )
        for name in ordered
        for mine in (by_site[name],)
    )
    caption = f"Paths of {shown.name} by site: {len(home):,} services are too many to list"
    return Table(caption, columns, rows)


# ---- load ------------------------------------------------------------------------------------


def _load(material: Material) -> list[Block]:
    shown = main_results(material)
    if not shown:
        return []
    blocks: list[Block] = []
    rows = every = [s.id for s in material.instance.servers]
    full = {s.label: full_shares(s.result, material.instance) for s in shown}
    if len(rows) > MOST_DRAWN:
        rows = _fullest(rows, shown[0].result, MOST_DRAWN)
    series = []
    for s in shown:
        found = {r.server: r for r in s.result.servers}
        series.append(
            RowSeries(
                s.name,
                tuple(
                    Value(
                        found[name].utilization,
                        f"{name}, {s.name}: {share(found[name].utilization)} of "
                        f"{server_amount(found[name].capacity, found[name].devices)}",
                    )
                    if name in found
                    else Value(None)
                    for name in rows
                ),
                index_of(s, material.results),
            )
        )
    axis = Axis("utilisation of the server", percent=True, zero=True, most=1.0)
    drawing = row_chart(
        "Utilisation of servers",
        rows,
        series,
        axis,
        limits=[max(most[name] for most in full.values()) for name in rows],
        description="Utilisation of every server by method; the table below holds the values.",
    )
    caption = "Utilisation of servers; nothing is sold beyond the dashed line."
    if len(rows) < len(every):
        caption = f"The {len(rows)} fullest of {len(every):,} servers; the dashed line is full."
    chart = Figure("servers", drawing, caption)
    blocks.append(Pair((chart, _server_table(shown, every, full))))
    links = [(k.source, k.target) for k in material.instance.links]
    if links:
        blocks += _links(shown, links)
    return blocks


def _server_table(
    shown: Sequence[Shown], rows: Sequence[str], full: Mapping[str, Mapping[str, float]]
) -> Block:
    """Return the utilisation of servers (rows) by result; ``full``: what is all, by label."""
    found = [{r.server: r for r in s.result.servers} for s in shown]
    every = [row for f in found for row in f.values()]
    # FLOP/s tell all of one device; else devices are shown, too.
    has_flops = any(row.capacity is not None for row in every)
    has_devices = any(row.capacity is None or row.devices not in (None, 1.0) for row in every)
    columns = [Column("Server")]
    columns += [Column("Devices", figures=True)] if has_devices else []
    columns += [Column("Capacity", "FLOP/s", figures=True)] if has_flops else []
    columns += [Column(s.name) for s in shown]
    lines = []
    caption = "Utilisation of servers by method"
    if len(rows) > MOST_LISTED:
        caption += f": the {MOST_SITES} fullest of {len(rows):,}"
        rows = _fullest(rows, shown[0].result, MOST_SITES)
    for name in rows:
        known = [f[name] for f in found if name in f]
        capacity, devices = (known[0].capacity, known[0].devices) if known else (None, None)
        cells = [Cell(name)]
        cells += [Cell("–" if devices is None else si(devices))] if has_devices else []
        cells += [Cell("–" if capacity is None else si(capacity))] if has_flops else []
        cells += [
            _share(f[name].utilization, full[s.label][name]) if name in f else Cell("–")
            for s, f in zip(shown, found, strict=True)
        ]
        lines.append(Row(tuple(cells)))
    table = Table(caption, tuple(columns), tuple(lines))
    return table if len(rows) <= MOST_DRAWN else More(f"Load of {len(rows):,} servers", (table,))


def _fullest(servers: Sequence[str], result: Result, most: int) -> list[str]:
    """Return the servers that a result loads most."""
    use = {row.server: row.utilization for row in result.servers}
    return sorted(servers, key=lambda name: -use.get(name, 0.0))[:most]


def _links(shown: Sequence[Shown], links: Sequence[tuple[str, str]]) -> list[Block]:
    found = [{(r.source, r.target): r for r in s.result.links} for s in shown]
    used = [k for k in links if any(k in f and f[k].load > 0 for f in found)]
    if not used:
        return [Paragraph("No path crosses a link.")]
    which = f"the {len(used):,} {'link' if len(used) == 1 else 'links'}"
    caption = f"Utilisation of {which} in use, of {len(links):,}"
    if len(used) > MOST_LISTED:
        load = {k: max(f[k].utilization or 0.0 for f in found if k in f) for k in used}
        used = sorted(used, key=lambda k: -load[k])[:MOST_SITES]
        caption += f": the {MOST_SITES} fullest"
    columns = [Column("Link"), Column("Capacity", "B/s", figures=True)]
    columns += [Column(s.name) for s in shown]
    lines = []
    for key in used:
        known = [f[key] for f in found if key in f]
        capacity = known[0].capacity if known else None
        cells = [
            Cell(f"{key[0]} → {key[1]}"),
            Cell("unlimited" if capacity is None else si(capacity)),
        ]
        for f in found:
            row = f.get(key)
            if row is None:
                cells.append(Cell("–"))
            elif row.utilization is None:
                cells.append(Cell(amount(row.load, "B/s")))
            else:
                cells.append(_share(row.utilization))
        lines.append(Row(tuple(cells)))
    table = Table(caption, tuple(columns), tuple(lines))
    return [table if len(used) <= MOST_DRAWN else More(caption, (table,))]


def _share(value: float, full: float = 1.0) -> Cell:
    is_full = value >= full * (1.0 - TOLERANCE)
    of = f" of {share(full)}" if full < 1.0 else ""
    return Cell(share(value) + of, "strong" if is_full else "", share=value, full=full)
