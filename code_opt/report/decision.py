"""The decision: the first screen of a page, and the sections that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from code_opt.planning import recommendation_words as words
from code_opt.planning.columns import as_given, money
from code_opt.planning.recommendation import PlannedService, Purchase, Recommendation
from code_opt.report.blocks import (
    Block,
    Callout,
    Cell,
    Column,
    Facts,
    Items,
    More,
    Paragraph,
    Row,
    Section,
    Table,
    Tile,
    Tiles,
    text_cells,
)
from code_opt.report.material import Material
from code_opt.report.numbers import server_amount, signed
from code_opt.report.results import path_text, runs_of
from code_opt.text import amount, duration, percent, share

MOST_ROWS = 24
"""Rows that a table of the decision shows; more stand behind a line."""


def first_screen(found: Recommendation) -> list[Block]:
    """Return the recommendation's money and main risk."""
    tiles = []
    if found.cost is not None:
        notes = [] if found.instance.currency else ["currency not stated"]
        notes += _by_drops(found, [one.cost for one in found.by_drops])
        tiles.append(Tile(words.price(found, found.cost), "to spend", ", ".join(notes)))
        if found.alone is not None:
            more = "without thought of failures" if found.alone_ignores_failures else "same limits"
            tiles.append(Tile(words.price(found, found.alone), "without coordination", more))
        if found.saved is not None and found.alone:
            which = "saved" if found.saved >= 0.0 else "more spent"
            notes = [percent(found.saved / found.alone)]
            notes += _by_drops(found, [one.saved for one in found.by_drops])
            tiles.append(Tile(words.price(found, abs(found.saved)), which, ", ".join(notes)))
        if found.lost_points is not None:
            tiles.append(
                Tile(signed(-found.lost_points, 2), "points of average accuracy",
                     words.loss_limit(found.max_loss))
            )  # fmt: skip
    blocks: list[Block] = [Tiles(tuple(tiles))] if tiles else []
    if found.cost is None:
        reasons, rest = found.plan.reasons
        blocks.append(Callout("no plan", reasons or ("The plan gives no reason.",), "bad"))
        if rest:
            blocks.append(More(f"{len(rest)} more reasons", (Items(rest),)))
        return blocks
    risk = words.risk(found)
    is_none = risk.heading == words.NO_RISK
    blocks.append(Callout(risk.heading, (risk.text,), "good" if is_none else "risk"))
    if found.purchases:
        blocks.append(Paragraph(words.where(found)))
    if found.alone is None:
        blocks.append(Paragraph(words.comparison(found), note=True))
    blocks.append(Paragraph(f"Asked: {words.case(found)}.", note=True))
    return blocks


def _by_drops(found: Recommendation, values: Sequence[float | None]) -> list[str]:
    """Return the range of some money for low to high guessed drops."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known or min(known) == max(known):
        return []
    low, high = money(min(known)), words.price(found, max(known))
    return [f"{low} to {high} by guessed drops"]


def decision_sections(material: Material, found: Recommendation) -> list[Section]:
    """Return what the recommendation is in full, and what it rests on."""
    if found.cost is None:
        return [Section("assumptions", "What this assumes", (_assumptions(found),))]
    sections = [
        Section("buy", "What to buy, where and when", tuple(_purchases(found))),
        Section("accuracy", "What it costs in accuracy", tuple(_accuracy(found))),
        Section("limits", "Which limits are kept", tuple(_limits(found))),
        Section("losses", "Which services a failure stops", tuple(_failures(found))),
        Section("measure", "What to measure first", tuple(_measure(material, found))),
        Section("assumptions", "What this assumes", (_assumptions(found),)),
    ]
    return [section for section in sections if section.blocks]


def _folded(table: Table) -> Block:
    """Return a table, behind a line where it is long."""
    if len(table.rows) <= MOST_ROWS:
        return table
    return More(f"{table.caption} ({len(table.rows):,} rows)", (table,))


# ---- what to buy -----------------------------------------------------------------------------


def _purchases(found: Recommendation) -> list[Block]:
    if not found.purchases:
        return [Paragraph("Nothing: the present capacities serve all demand.")]
    has_periods = any(purchase.period is not None for purchase in found.purchases)
    columns = (
        *([Column("When")] if has_periods else []),
        Column("Server or link"),
        Column("Units", figures=True),
        Column("Money", figures=True),
        Column("Adds", figures=True),
        Column("Then in use", figures=True),
    )
    rows = [
        Row(
            (
                *([Cell(words.period_name(found, p.period or 1))] if has_periods else []),
                Cell(p.place),
                Cell(f"{p.units:,}"),
                Cell(words.price(found, p.cost)),
                Cell(_added(p)),
                _use(p.utilization, p.sold),
            )
        )
        for p in found.purchases
    ]
    every = [Cell("all periods")] if has_periods else []

    def total(name: str, units: str, money: float, strong: bool) -> Row:
        cells = text_cells(name, units, words.price(found, money), "", "")
        return Row((*every, *cells), strong=strong)

    if found.running:
        rows.append(total("years that units stand", "", found.running, strong=False))
    rows.append(total("all", f"{found.units:,}", found.cost or 0.0, strong=True))
    blocks: list[Block] = [
        _folded(Table("What to buy", columns, tuple(rows), keys=2 if has_periods else 1))
    ]
    if found.normal is not None and found.cost is not None:
        extra = max(0.0, found.cost - found.normal)
        text = f"Of this, {words.price(found, extra)} buy that any one server may fail."
        blocks.append(Paragraph(text))
    return blocks


def _added(purchase: Purchase) -> str:
    if purchase.size is None:
        return "–"
    size = purchase.units * purchase.size
    if purchase.unit == "devices":
        return server_amount(None, size)
    return amount(size, purchase.unit)


def _use(value: float | None, sold: float) -> Cell:
    """Return a utilisation, told apart where nothing more may be sold."""
    if value is None:
        return Cell("–")
    of = "" if sold >= 1.0 else f" of {share(sold)}"
    return Cell(share(value) + of, share=value, full=sold)


# ---- accuracy and limits ---------------------------------------------------------------------


def _accuracy(found: Recommendation) -> list[Block]:
    blocks: list[Block] = [Items(tuple(words.accuracy(found)))]
    worst = sorted((s for s in found.services if s.lost_points > 0.0), key=lambda s: -s.lost_points)
    if worst:
        columns = (
            Column("Service"),
            Column("Alone", figures=True),
            Column("Planned", figures=True),
            Column("Lost", "points", figures=True),
            Column("Source"),
            Column("Least allowed", figures=True),
        )
        rows = tuple(
            Row(
                (
                    Cell(s.task),
                    Cell(f"{s.native_accuracy:.4f}"),
                    Cell(f"{s.accuracy:.4f}"),
                    Cell(signed(s.lost_points, 2)),
                    Cell(s.accuracy_source),
                    Cell(f"{s.least_accuracy:.4f}" if s.least_accuracy else "–"),
                )
            )
            for s in worst
        )
        blocks.append(_folded(Table("Services that lose accuracy", columns, rows)))
    return blocks


def _limits(found: Recommendation) -> list[Block]:
    blocks: list[Block] = [Items(tuple(words.limits(found)))]
    limited = found.limited
    if limited:
        columns = (
            Column("Service"),
            Column("Time without load", figures=True),
            Column("Promised under load", figures=True),
            Column("Limit", figures=True),
            Column("Share of the limit", figures=True),
        )
        rows = tuple(
            Row(
                (
                    Cell(s.task),
                    Cell("–" if s.latency is None else duration(s.latency)),
                    Cell(_promise(s)),
                    Cell(duration(s.latency_limit or 0.0)),
                    Cell(share((s.limited_time or 0.0) / (s.latency_limit or 1.0))),
                )
            )
            for s in limited
        )
        blocks.append(_folded(Table("Limits of latency", columns, rows)))
    return blocks


def _promise(service: PlannedService) -> str:
    """Return what is promised under load, and to which share of the inputs."""
    if service.percentile is None or service.promised is None:
        return "–"
    return f"{duration(service.promised)} ({share(service.percentile)})"


# ---- failures --------------------------------------------------------------------------------


def _failures(found: Recommendation) -> list[Block]:
    if not found.failures:
        return []
    asked = any(one.served_rerouted is not None for one in found.failures)
    backed = any(one.floors_kept for one in found.failures) and not asked
    columns = (
        Column("Server that fails"),
        Column("Lost at any size"),
        Column("Move to backup paths" if backed else "Stop until re-routed"),
        Column("Served at once", figures=True),
        *([Column("Served re-routed", figures=True)] if asked else []),
    )
    known = found.failures_growth is not None
    rows = tuple(
        Row(
            (
                Cell(one.server),
                Cell(words.some(one.lost) if one.lost else "none" if known else "not known",
                     "bad" if one.lost else "muted"),
                Cell(words.some([t for t in one.hit if t not in one.lost]) or "none"),
                Cell(share(one.served_fixed)),
                *([_rerouted(one.served_rerouted)] if asked else []),
            )
        )
        for one in found.failures
    )  # fmt: skip
    text = "Served at once: all paths stay as they are."
    if asked:
        text += " Served re-routed: every service may take any path that is left."
    elif backed:
        text += f" On backup paths {words.kept(found)} is kept."
    elif known:
        growth = as_given(found.failures_growth or 1.0)
        text += (
            f" What re-routing serves was planned for at growth {growth}: see When a server fails."
        )
    else:
        text += (
            " No plan for failures is among the files (plan --failures): whether other paths can "
            "take over is not known."
        )
    return [
        _folded(Table("What the failure of one server stops", columns, rows)),
        Paragraph(text, note=True),
    ]


def _rerouted(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(share(value), "" if value >= 1.0 else "bad")


# ---- what to measure first -------------------------------------------------------------------


def _measure(material: Material, found: Recommendation) -> list[Block]:
    if not found.measure_first:
        return [Paragraph("Nothing: every accuracy in use is measured or given.")]
    columns = (
        Column("Service"),
        Column("Path to measure"),
        Column("Accuracy", figures=True),
        Column("Source"),
        Column("May be lower by", "points", figures=True),
        Column("Money that rests on it", figures=True),
    )
    rows = tuple(
        Row(
            (
                Cell(one.task),
                Cell(runs=runs_of(material, one.task, one.path)),
                Cell(f"{one.accuracy:.4f}"),
                Cell(one.source),
                Cell("no limit" if one.slack_points is None else f"{one.slack_points:.2f}"),
                Cell(_rests(found, one.saved)),
            )
        )
        for one in found.measure_first
    )
    first = found.measure_first[0]
    text = f"First: {path_text(material.words, first.task, first.path)} of {first.task}."
    more: list[Block] = [Paragraph(words.by_drops(found))] if found.by_drops else []
    return [
        Paragraph(text),
        *more,
        _folded(Table("Accuracies in use that nobody measured", columns, rows)),
        Paragraph(
            "Money that rests on it: the price, at purchase, of the capacity that the service "
            "needs less than on its own network alone, in parts of units. May be lower by: "
            "until the path, or the average, misses its limit.",
            note=True,
        ),
    ]


def _rests(found: Recommendation, saved: float | None) -> str:
    return "–" if saved is None else words.price(found, round(saved, 2))


def _assumptions(found: Recommendation) -> Facts:
    return Facts(tuple(words.assumptions(found)))
