"""Sections about plans: least cost, growth, scenarios, failures, front, marginal values, sweeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from code_opt.errors import InputError
from code_opt.report.blocks import (
    Block,
    Callout,
    Cell,
    Column,
    Figure,
    Items,
    More,
    Pair,
    Paragraph,
    Row,
    Section,
    Table,
    Tile,
    Tiles,
)
from code_opt.report.charts import Axis, Dot, RowSeries, Series, Value, row_chart, xy_chart
from code_opt.report.material import Material, PlanFile
from code_opt.report.numbers import fraction, gap, short, signed
from code_opt.report.results import main_results, method_series
from code_opt.text import amount, duration, number, percent, si

if TYPE_CHECKING:
    from code_opt.planning import Plan

Record = dict[str, Any]

COORDINATIONS = {
    "none": ("no coordination", 2),
    "exits": ("early exits only", 4),
    "full": ("full coordination", 0),
}
"""Names, and the colours and signs of the methods nearest to them: local, edge-early, exact."""
VARIANTS = {
    "mean": "mean demand",
    "expected": "expected share",
    "worst": "share in every scenario",
    "every": "all in every scenario",
}
HEADINGS = {
    "least-cost": "Least-cost capacity",
    "growth": "Growth: what to buy when",
    "scenarios": "Uncertain demand",
    "failures": "When a server fails",
    "front": "Pareto front: throughput against accuracy",
    "marginal": "What a little more capacity is worth",
    "sweep": "What if a field changes",
}
"""Kinds of plans in the order of the page."""
MOST_ROWS = 24
_KEYS = frozenset(
    ("growth", "coordination", "method", "status", "period", "variant", "scenario", "plan")
) | frozenset(("failed_server", "point", "field", "value", "server", "source", "target"))
"""Columns that name a row; they always hold something."""
_UNITS = ("_flop_per_s", "_bytes_per_s", "_per_s", "_points", "_s")


def plan_sections(material: Material) -> list[Section]:
    """Return one section per plan, in the order of :data:`HEADINGS`.

    Raises:
        InputError: a plan lacks a table or a column that its kind must have.
    """
    sections = []
    for kind, heading in HEADINGS.items():
        mine = [one for one in material.plans if one.plan.kind == kind]
        for number_of, one in enumerate(mine, start=1):
            suffix = f"-{number_of}" if len(mine) > 1 else ""
            more = f" ({one.path.stem})" if len(mine) > 1 else ""
            blocks = [*_opening(one.plan), *_BUILDERS[kind](_Tables(one), material, suffix)]
            sections.append(Section(kind + suffix, heading + more, tuple(blocks)))
    return sections


def _opening(plan: Plan) -> list[Block]:
    if plan.status == "optimal" and not plan.message:
        return []
    words = {
        "optimal": "proven optimal",
        "feasible": "not proven optimal"
        if plan.gap is None
        else f"proven within {percent(plan.gap, up=True)}",
        "unknown": "stopped before a plan was found",
        "infeasible": "cannot be met at any size",
    }
    texts = (plan.message,) if plan.message else ()
    bad = plan.status in ("infeasible", "unknown")
    return [Callout(f"in part {words[plan.status]}", texts, "bad" if bad else "note")]


class _Tables:
    """The tables of one plan as records, checked for the columns that are used."""

    def __init__(self, one: PlanFile) -> None:
        self.plan = one.plan
        self._path = one.path

    def __call__(self, name: str, *columns: str) -> list[Record]:
        """Return a table's rows.

        Raises:
            InputError: the plan has no such table, the table lacks a column, or a row its name.
        """
        try:
            table = self.plan.table(name)
        except KeyError:
            raise InputError(f"{self._path}: a {self.plan.kind} plan without {name!r}") from None
        missing = set(columns) - {column.name for column in table.columns}
        if missing:
            raise InputError(f"{self._path}: table {name!r} lacks {', '.join(sorted(missing))}")
        rows = table.records()
        for index, row in enumerate(rows):
            empty = [name for name in columns if name in _KEYS and row[name] is None]
            if empty:
                raise InputError(f"{self._path}: table {name!r} row {index}: no {empty[0]}")
        return rows

    def whole(self, name: str, keys: int = 1, **only: Any) -> list[Block]:
        """Return a table with all its columns; nothing where it has no rows."""
        try:
            table = self.plan.table(name)
        except KeyError:
            return []
        rows = [r for r in table.records() if all(r.get(k) == v for k, v in only.items())]
        kept = [
            c
            for c in table.columns
            if c.name not in only and any(row[c.name] is not None for row in rows)
        ]
        if not rows:
            return []
        columns = tuple(
            Column(_words(c.name), _unit(c.name, c.unit), figures=c.type in ("number", "integer"))
            for c in kept
        )
        lines = tuple(Row(tuple(Cell(_text(c.name, row[c.name])) for c in kept)) for row in rows)
        return [Table(table.title, columns, lines, keys=keys)]


def _in_full(summary: str, blocks: Sequence[Block]) -> More:
    """Return whole tables behind a line; on paper they would fill pages."""
    return More(summary, tuple(blocks), aside=True)


def _words(name: str) -> str:
    for unit in _UNITS:
        if name.endswith(unit):
            name = name.removesuffix(unit)
            break
    text = name.removesuffix("_share").replace("_", " ")
    return text[:1].upper() + text[1:]


def _unit(name: str, unit: str | None) -> str:
    if name.endswith("_share") or name in ("utilization", "gap", "probability"):
        return "%"
    if name == "latency_s" or unit == "currency":
        return ""
    return {"inferences/s": "1/s", "bytes/s": "B/s"}.get(unit or "", unit or "")


def _text(name: str, value: Any) -> str:
    """Return a cell by what its column's name says that it is."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        if name == "coordination" and value in COORDINATIONS:
            return COORDINATIONS[value][0]
        return value.replace(" > ", " → ") if name == "path" else value
    if name.endswith("_share") or name in ("utilization", "probability"):
        return f"{100 * value:.1f}"
    if name == "gap" or name.endswith("_gap"):
        return gap(value)
    if name in ("accuracy", "accuracy_bound"):
        return fraction(value)
    if name == "accuracy_loss_points":
        return signed(value, 2)
    if name == "latency_s":
        return duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    if name.endswith(("_flop_per_s", "_bytes_per_s")):
        return si(value)
    if name.endswith("cost") or name in ("growth", "max_loss_points", "present_value", "value"):
        return money(value)
    return number(value)


def money(value: float) -> str:
    """Return a price, or another plain number, as short as it can be written."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.6g}"


def _coordination(value: str) -> tuple[str, int]:
    return COORDINATIONS.get(value, (value, 5))


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


# ---- least cost ------------------------------------------------------------------------------


def _least_cost(tables: _Tables, _: Material, suffix: str) -> list[Block]:
    rows = tables(
        "summary",
        *("growth", "max_loss_points", "coordination", "method", "status", "cost", "gap", "units"),
        *("accuracy_loss_points", "saved_cost", "saved_units"),
    )
    if not rows:
        return [Paragraph("This plan is empty.")]
    exact = [r for r in rows if r["method"] == "exact"] or rows
    growths, losses = (
        _unique(r["growth"] for r in rows),
        _unique(r["max_loss_points"] for r in rows),
    )
    found = {(r["growth"], r["max_loss_points"], r["coordination"]): r for r in exact}
    other = {
        (r["growth"], r["max_loss_points"], r["coordination"]): r
        for r in rows
        if r["method"] != "exact"
    }
    blocks: list[Block] = []
    best = max(
        (
            r
            for r in exact
            if r["coordination"] == "full" and r["cost"] is not None and r["saved_cost"] is not None
        ),
        key=lambda r: (r["growth"], r["saved_cost"]),
        default=None,
    )
    if best is not None:
        alone = best["cost"] + best["saved_cost"]
        at = f"at growth {money(best['growth'])}{_limit(best['max_loss_points'], ', ')}"
        tiles = [
            Tile(money(best["cost"]), "least cost, full coordination", at),
            Tile(money(alone), "least cost, no coordination", at),
            Tile(
                money(best["saved_cost"]),
                "saved by coordination",
                (f"{percent(best['saved_cost'] / alone)}, " if alone else "")
                + f"{best['saved_units']} units",
            ),
            Tile(
                f"{signed(-best['accuracy_loss_points'], 2)}",
                "points of average accuracy",
                "what the saving costs",
            )
            if best["accuracy_loss_points"] is not None
            else None,
        ]
        blocks.append(Tiles(tuple(tile for tile in tiles if tile is not None)))
    charts: list[Block] = []
    loosest = losses[-1]

    def costs(loss: float | None, coordination: str) -> list[float | None]:
        mine = [found.get((growth, loss, coordination)) for growth in growths]
        return [None if row is None else row["cost"] for row in mine]

    if len(growths) > 1:
        series = []
        for coordination in ("none", "exits"):
            name, index = _coordination(coordination)
            series.append(_line(name, index, growths, costs(loosest, coordination)))
        for order, loss in enumerate(losses):
            name = "full" if loss is None else f"full, ≤ {money(loss)} pts"
            index = (0, 1, 3, 5, 6)[order % 5]
            series.append(_line(name, index, growths, costs(loss, "full")))
        drawing = xy_chart(
            "Least cost against growth",
            Axis("growth of all demands [factor]"),
            Axis("least cost [currency]", zero=True),
            [s for s in series if s.dots],
            description=_series_text(series, "growth", "cost"),
            width=470.0,
        )
        charts.append(Figure(f"least-cost{suffix}", drawing, "Least cost to serve all demand."))
    if len(losses) > 1 or len(growths) > 1:
        names = [_limit(loss) or "no limit" for loss in losses]
        bars = []
        for order, growth in enumerate(growths):
            values = []
            for loss, name in zip(losses, names, strict=True):
                row = found.get((growth, loss, "full"))
                saved = None if row is None else row["saved_cost"]
                text = "" if saved is None else f"{name}, growth {money(growth)}: {money(saved)}"
                values.append(Value(saved, text))
            bars.append(RowSeries(f"growth {money(growth)}", tuple(values), order % 7))
        drawing = row_chart(
            "Saved by coordination",
            names,
            bars,
            Axis("saved against no coordination [currency]", zero=True),
            bars=True,
            description="Savings by accuracy limit and growth; the table holds the values.",
        )
        caption = "What coordination saves, by what it may cost in accuracy."
        charts.append(Figure(f"savings{suffix}", drawing, caption))
    if charts:
        blocks.append(Pair(tuple(charts)))
    blocks.append(_costs(growths, losses, found, other))
    if best is not None:
        blocks += _units_by(
            [r for r in tables("servers", "growth", "server", "units", "utilization", "method")
             if r["coordination"] == "full" and r["method"] == best["method"]
             and r["max_loss_points"] == best["max_loss_points"]],
            "growth",
            [(growth, f"growth {money(growth)}") for growth in growths],
            f"Units to buy per server, full coordination{_limit(best['max_loss_points'], ', ')}",
        )  # fmt: skip
    blocks.append(_in_full("All figures of this plan", tables.whole("summary", keys=4)))
    return blocks


def _limit(loss: float | None, opening: str = "") -> str:
    if loss is None:
        return ""
    if loss == 0:
        return f"{opening}no accuracy lost"
    return f"{opening}at most {money(loss)} {'point' if loss == 1 else 'points'} lost"


def _line(name: str, index: int, xs: Sequence[float], ys: Sequence[float | None]) -> Series:
    dots = tuple(
        Dot(x, y, title=f"{name}: {money(y)} at {money(x)}")
        for x, y in zip(xs, ys, strict=True)
        if y is not None
    )
    return Series(name, dots, line=True, index=index)


def _series_text(series: Sequence[Series], x: str, y: str) -> str:
    return "; ".join(
        f"{s.name}: " + ", ".join(f"{y} {money(d.y)} at {x} {money(d.x)}" for d in s.dots)
        for s in series
        if s.dots
    )


def _costs(
    growths: Sequence[float],
    losses: Sequence[float | None],
    found: dict[tuple[Any, ...], Record],
    other: dict[tuple[Any, ...], Record],
) -> Table:
    """Return costs side by side: a row for every growth and accuracy limit."""
    columns = [
        Column("Growth"),
        Column("Most lost", "points"),
        Column("No coordination", figures=True),
        Column("Early exits only", figures=True),
        Column("Full coordination", figures=True),
        Column("gap", "%", figures=True),
        *([Column("by heuristic", figures=True)] if other else []),
        Column("Saved", figures=True),
        Column("Units", figures=True),
        Column("saved", figures=True),
        Column("Accuracy lost", "points", figures=True),
    ]

    def cost(row: Record | None) -> Cell:
        if row is None:
            return Cell("–")
        if row["cost"] is None:
            return Cell(str(row["status"]), "bad")
        return Cell(money(row["cost"]))

    lines = []
    for growth in growths:
        for place, loss in enumerate(losses):
            keys = {name: (growth, loss, name) for name in COORDINATIONS}
            full = found.get(keys["full"])
            saved = None if full is None else full["saved_cost"]
            alone = None if saved is None or full is None else full["cost"] + saved
            cells = [
                Cell(money(growth), span=0 if place else len(losses)),
                Cell("no limit" if loss is None else money(loss)),
                cost(found.get(keys["none"])),
                cost(found.get(keys["exits"])),
                cost(full),
                Cell("–" if full is None else gap(full["gap"])),
                *([cost(other.get(keys["full"]))] if other else []),
                Cell(
                    "–"
                    if saved is None
                    else money(saved) + (f" ({100 * saved / alone:.1f} %)" if alone else ""),
                    "strong",
                ),
                Cell(_text("units", full and full["units"])),
                Cell(_text("saved_units", full and full["saved_units"])),
                Cell(_text("accuracy_loss_points", full and full["accuracy_loss_points"])),
            ]
            lines.append(Row(tuple(cells)))
    return Table(
        "Least cost with and without coordination, in the currency of the instance",
        tuple(columns),
        tuple(lines),
        keys=2,
    )


def _units_by(
    rows: Sequence[Record], key: str, columns: Sequence[tuple[Any, str]], caption: str,
    units: str = "units",
) -> list[Block]:  # fmt: skip
    """Return units per server (rows) and case (columns), those without any left out."""
    found = {(r["server"], r[key]): r for r in rows}
    servers = _unique(r["server"] for r in rows)
    bought = [s for s in servers if any((found.get((s, k)) or {}).get(units) for k, _ in columns)]
    if not servers:
        return []
    if not bought:
        return [Paragraph("The present capacities are enough: nothing is bought.")]
    lines = []
    for server in bought:
        cells = [Cell(server)]
        for value, _ in columns:
            row = found.get((server, value))
            if row is None:
                cells.append(Cell("–"))
                continue
            use = row.get("utilization")
            share = "" if use is None else f" ({100 * use:.0f} %)"
            cells.append(Cell(f"{row[units]}{share}", "" if row[units] else "muted"))
        lines.append(Row(tuple(cells)))
    left = len(servers) - len(bought)
    heads = (Column("Server"), *(Column(name, figures=True) for _, name in columns))
    table = Table(f"{caption} (utilisation in brackets)", heads, tuple(lines))
    note: list[Block] = []
    if left:
        text = f"Nothing is bought for the other {left} servers."
        note = [Paragraph(text if left > 1 else "Nothing is bought for the other server.", True)]
    if len(bought) > MOST_ROWS:
        return [More(caption, (table,)), *note]
    return [table, *note]


# ---- growth ----------------------------------------------------------------------------------


def _growth(tables: _Tables, _: Material, suffix: str) -> list[Block]:
    summary = tables("summary", "coordination", "status", "cost", "gap", "saved_cost")
    periods = tables(
        "periods",
        *("coordination", "period", "growth", "units_bought", "cost", "total_cost"),
        *("accuracy_loss_points", "throughput_per_s"),
    )
    servers = tables("servers", "coordination", "period", "server", "units_bought", "utilization")
    blocks: list[Block] = []
    texts = []
    for row in summary:
        name, _index = _coordination(row["coordination"])
        if row["cost"] is None:
            texts.append(f"{name}: {row['status']}.")
            continue
        saved = row["saved_cost"]
        more = f", {money(saved)} less than without coordination" if saved else ""
        texts.append(f"{name}: {money(row['cost'])} over all periods{more} ({_proof(row)}).")
    blocks.append(Items(tuple(texts)))
    present = [c for c in COORDINATIONS if any(r["coordination"] == c for r in periods)]
    series = []
    for coordination in present:
        name, index = _coordination(coordination)
        mine = [r for r in periods if r["coordination"] == coordination]
        series.append(
            _line(name, index, [r["period"] for r in mine], [r["total_cost"] for r in mine])
        )
    if any(s.dots for s in series):
        drawing = xy_chart(
            "Money spent up to each period",
            Axis("period", whole=True),
            Axis("spent so far [currency]", zero=True),
            series,
            description=_series_text(series, "period", "spent"),
            width=470.0,
        )
        rows = []
        for period in _unique(r["period"] for r in periods):
            here = {r["coordination"]: r for r in periods if r["period"] == period}
            first = next(iter(here.values()))
            cells = [Cell(str(period)), Cell(money(first["growth"]))]
            cells += [Cell(_text("cost", here.get(c, {}).get("cost"))) for c in present]
            full = here.get("full")
            cells.append(Cell(_text("accuracy_loss_points", full and full["accuracy_loss_points"])))
            rows.append(Row(tuple(cells)))
        columns = (
            Column("Period"),
            Column("Growth", figures=True),
            *(Column(_coordination(c)[0], figures=True) for c in present),
            Column("Accuracy lost, full", "points", figures=True),
        )
        table = Table("Spent in each period", columns, tuple(rows))
        figure = Figure(f"growth{suffix}", drawing, "Money spent up to each period.")
        blocks.append(Pair((figure, table)))
    best = "full" if "full" in present else (present or [""])[-1]
    numbers = _unique(r["period"] for r in periods)
    blocks += _units_by(
        [r for r in servers if r["coordination"] == best],
        "period",
        [(period, f"period {period}") for period in numbers],
        f"Units bought per server and period, {_coordination(best)[0]}",
        units="units_bought",
    )
    details = [*tables.whole("periods", keys=2), *tables.whole("summary")]
    return [*blocks, _in_full("All figures of this plan", details)]


def _proof(row: Record) -> str:
    if row["status"] == "optimal" or row["gap"] is None:
        return "proven" if row["status"] == "optimal" else str(row["status"])
    return f"within {percent(row['gap'], up=True)} of the least"


# ---- scenarios -------------------------------------------------------------------------------


def _scenarios(tables: _Tables, _: Material, suffix: str) -> list[Block]:
    summary = tables(
        "summary",
        *("variant", "served_share", "status", "cost", "gap", "units", "accuracy_loss_points"),
        *("expected_served_share", "worst_served_share"),
    )
    scenarios = tables("scenarios", "variant", "scenario", "probability", "served_share")
    servers = tables("servers", "variant", "server", "units", "utilization")
    variants = [r["variant"] for r in summary]

    def name(variant: str) -> str:
        return VARIANTS.get(variant, variant)

    columns = (
        Column("Planned for"),
        Column("Cost", figures=True),
        Column("gap", "%", figures=True),
        Column("Units", figures=True),
        Column("Served, expected", "%", figures=True),
        Column("Served, worst", "%", figures=True),
        Column("Accuracy lost", "points", figures=True),
        Column("Status"),
    )
    rows = tuple(
        Row(
            (
                Cell(
                    name(r["variant"])
                    + (
                        ""
                        if r["served_share"] in (None, 1.0)
                        else f" ({percent(r['served_share'])})"
                    )
                ),
                Cell(_text("cost", r["cost"])),
                Cell(gap(r["gap"])),
                Cell(_text("units", r["units"])),
                Cell(_text("expected_served_share", r["expected_served_share"])),
                Cell(_text("worst_served_share", r["worst_served_share"])),
                Cell(_text("accuracy_loss_points", r["accuracy_loss_points"])),
                Cell(r["status"]),
            )
        )
        for r in summary
    )
    names = _unique(r["scenario"] for r in scenarios)
    shares = {(r["variant"], r["scenario"]): r["served_share"] for r in scenarios}
    chances = {r["scenario"]: r["probability"] for r in scenarios}
    labels = [n if chances[n] is None else f"{n} ({100 * chances[n]:.0f} %)" for n in names]
    series = [
        RowSeries(
            name(variant),
            tuple(
                Value(
                    shares.get((variant, n)),
                    f"{n}, planned for {name(variant)}: "
                    f"{100 * (shares.get((variant, n)) or 0.0):.1f} % served",
                )
                for n in names
            ),
            order,
        )
        for order, variant in enumerate(variants)
        if any((variant, n) in shares for n in names)
    ]
    table = Table("Plans for an uncertain demand", columns, rows)
    blocks: list[Block] = [table]
    if names:
        drawing = row_chart(
            "Demand served in each scenario",
            labels,
            series,
            Axis("demand served", percent=True, most=1.0),
            limit=1.0,
            description="; ".join(
                f"{s.name}: "
                + ", ".join(
                    f"{n} {100 * (v.value or 0.0):.1f} %"
                    for n, v in zip(names, s.values, strict=True)
                )
                for s in series
            ),
            width=470.0,
        )
        caption = "Demand served in each scenario (its probability in brackets), by plan."
        bought = _units_by(
            servers,
            "variant",
            [(variant, name(variant)) for variant in variants],
            "Units to buy per server, by what is planned for",
        )
        blocks.append(Pair((Figure(f"scenarios{suffix}", drawing, caption), *bought)))
    details = [*tables.whole("scenarios", keys=2), *tables.whole("paths", keys=2)]
    return [*blocks, _in_full("Scenarios and paths in full", details)]


# ---- failures --------------------------------------------------------------------------------


def _failures(tables: _Tables, _: Material, suffix: str) -> list[Block]:
    summary = tables(
        "summary",
        *("plan", "status", "cost", "gap", "units", "extra_cost"),
        *("worst_served_fixed_share", "worst_served_rerouted_share"),
    )
    failures = tables(
        "failures",
        *("plan", "failed_server", "served_fixed_share", "served_rerouted_share"),
        *("tasks_hit", "tasks_lost", "floors_kept"),
    )
    columns = (
        Column("Plan"),
        Column("Cost", figures=True),
        Column("gap", "%", figures=True),
        Column("Units", figures=True),
        Column("Extra cost", figures=True),
        Column("Served at worst, paths fixed", "%", figures=True),
        Column("re-routed", "%", figures=True),
        Column("Status"),
    )
    rows = tuple(
        Row(
            (
                Cell(str(r["plan"])),
                Cell(_text("cost", r["cost"])),
                Cell(gap(r["gap"])),
                Cell(_text("units", r["units"])),
                Cell(_text("extra_cost", r["extra_cost"])),
                Cell(_text("worst_served_fixed_share", r["worst_served_fixed_share"])),
                Cell(_text("worst_served_rerouted_share", r["worst_served_rerouted_share"])),
                Cell(r["status"]),
            )
        )
        for r in summary
    )
    blocks: list[Block] = [Table("Plans with and without thought of failures", columns, rows)]
    servers = _unique(r["failed_server"] for r in failures)
    found = {(r["plan"], r["failed_server"]): r for r in failures}
    kinds = [
        ("normal plan, paths fixed", "normal", "served_fixed_share", 2),
        ("normal plan, re-routed", "normal", "served_rerouted_share", 4),
        ("survivable plan, re-routed", "survivable", "served_rerouted_share", 0),
    ]
    series = []
    for title, plan, column, index in kinds:
        values = []
        for server in servers:
            share = (found.get((plan, server)) or {}).get(column)
            text = "" if share is None else f"{server} fails, {title}: {100 * share:.1f} % served"
            values.append(Value(share, text))
        if any(v.value is not None for v in values):
            series.append(RowSeries(title, tuple(values), index))
    if servers:
        drawing = row_chart(
            "Demand served when a server fails",
            servers,
            series,
            Axis("demand still served", percent=True, zero=True, most=1.0),
            limit=1.0,
            description="Share of the demand served after each failure; the table holds it.",
            width=470.0,
        )
        figure = Figure(f"failures{suffix}", drawing, "Demand served when this server fails.")
        blocks.append(Pair((figure, _failure_table(servers, found))))
    details = [
        *tables.whole("failures", keys=2),
        *tables.whole("servers", keys=2, plan="survivable"),
        *tables.whole("backups", keys=2),
        *tables.whole("lost", keys=2),
    ]
    lost = sum(r["tasks_lost"] or 0 for r in failures if r["plan"] == "normal")
    if lost:
        text = "Some tasks have no path that avoids a server: when it fails, they stop."
        blocks.append(Paragraph(text))
    return [
        *blocks,
        _in_full("Every failure, the survivable plan and its backup paths", details),
    ]


def _failure_table(servers: Sequence[str], found: dict[tuple[str, str], Record]) -> Table:
    """Return a row per server: what its failure costs, by plan."""
    columns = (
        Column("Server that fails"),
        Column("Tasks hit", figures=True),
        Column("lost", figures=True),
        Column("Paths fixed", "%", figures=True),
        Column("Re-routed", "%", figures=True),
        Column("Survivable plan", "%", figures=True),
        Column("Floors kept by it"),
    )
    lines = []
    for server in servers:
        normal = found.get(("normal", server)) or {}
        other = found.get(("survivable", server)) or {}
        lines.append(
            Row(
                (
                    Cell(server),
                    Cell(_text("tasks_hit", normal.get("tasks_hit"))),
                    Cell(_text("tasks_lost", normal.get("tasks_lost"))),
                    Cell(_text("x_share", normal.get("served_fixed_share"))),
                    Cell(_text("x_share", normal.get("served_rerouted_share"))),
                    Cell(_text("x_share", other.get("served_rerouted_share"))),
                    Cell(_text("floors_kept", other.get("floors_kept"))),
                )
            )
        )
    return Table("Demand served after each failure", columns, tuple(lines))


# ---- front -----------------------------------------------------------------------------------


def _front(tables: _Tables, material: Material, suffix: str) -> list[Block]:
    points = tables("points", "point", "throughput_per_s", "accuracy", "status", "supported")
    shown = [r for r in points if r["throughput_per_s"] is not None and r["accuracy"] is not None]
    if not shown:
        return [Paragraph("The front has no point.")]
    ordered = sorted(shown, key=lambda r: r["throughput_per_s"])
    dots = tuple(
        Dot(
            r["throughput_per_s"],
            r["accuracy"],
            title=f"point {r['point']}: {number(r['throughput_per_s'])}/s at {r['accuracy']:.4f}",
        )
        for r in ordered
    )
    series = [Series("front", dots, line=True, index=5, fall=True)]
    series += method_series(main_results(material), material.results)
    first, last = ordered[-1], ordered[0]
    drawing = xy_chart(
        "Pareto front of throughput against average accuracy",
        Axis("throughput [inferences/s]"),
        Axis("average accuracy"),
        series,
        description="; ".join(dot.title for dot in dots),
        width=500.0,
        height=330.0,
    )
    complete = tables.plan.settings.get("complete")
    what = (
        "Every point of the front is here."
        if complete is True
        else "Points at even steps of accuracy; there may be others between them."
    )
    proven = sum(r["status"] == "optimal" for r in shown)
    share = (
        "each is proven"
        if proven == len(shown)
        else f"{proven} of {len(shown)} are proven, the others within their gap"
    )
    text = (
        f"From {short(last['throughput_per_s'])}/s at accuracy {last['accuracy']:.4f} to "
        f"{short(first['throughput_per_s'])}/s at {first['accuracy']:.4f}: no assignment is better "
        f"in one without being worse in the other; {share}. {what}"
    )
    caption = "The exact front: up and to the right is better, and nothing lies beyond it."
    return [
        Paragraph(text),
        Figure(f"front{suffix}", drawing, caption),
        _in_full(
            "Points of the front and their paths",
            [*tables.whole("points"), *tables.whole("paths", 2)],
        ),
    ]


# ---- marginal values -------------------------------------------------------------------------


def _marginal(tables: _Tables, _: Material, suffix: str) -> list[Block]:
    names = ("utilization", "gain_by_dual", "gain_fixed_paths", "gain_resolved")
    rows = [
        (str(r["server"]), _capacity(r["capacity_flop_per_s"], "FLOP/s", "–"), r)
        for r in tables("servers", "server", "capacity_flop_per_s", *names)
    ]
    rows += [
        (
            f"{r['source']} → {r['target']}",
            _capacity(r["capacity_bytes_per_s"], "B/s", "unlimited"),
            r,
        )
        for r in tables("links", "source", "target", "capacity_bytes_per_s", *names)
    ]
    useful = [one for one in rows if any(one[2][n] for n in names[1:])]
    useful.sort(key=lambda one: -(one[2]["gain_resolved"] or 0.0))
    objective = str(tables.plan.settings.get("objective") or "objective")
    step = tables.plan.settings.get("step")
    more = f"{percent(step)} more" if isinstance(step, float) else "a little more"
    if not useful:
        return [Paragraph(f"Nothing gains from {more} of any one capacity.")]
    top = useful[:MOST_ROWS]
    kinds = [("paths free", "gain_resolved", 0), ("paths fixed (dual)", "gain_by_dual", 4)]
    series = [
        RowSeries(
            title,
            tuple(
                Value(r[column], "" if r[column] is None else f"{n}, {title}: {r[column]:.4g}")
                for n, _capacity, r in top
            ),
            index,
        )
        for title, column, index in kinds
    ]
    drawing = row_chart(
        f"{objective.capitalize()} gained by {more} of one capacity",
        [n for n, _capacity, _row in top],
        series,
        Axis(f"gain of {objective}", zero=True),
        bars=True,
        description="; ".join(f"{n}: {r['gain_resolved'] or 0.0:.4g}" for n, _c, r in top),
        width=470.0,
    )
    columns = (
        Column("Server or link"),
        Column("Capacity", figures=True),
        Column("Used", "%", figures=True),
        Column("Gain by dual", figures=True),
        Column("paths fixed", figures=True),
        Column("paths free", figures=True),
    )
    lines = tuple(
        Row(
            (
                Cell(n),
                Cell(capacity),
                Cell(_text("utilization", r["utilization"])),
                *(Cell("–" if r[c] is None else f"{r[c]:.4g}") for c in names[1:]),
            )
        )
        for n, capacity, r in useful
    )
    left = len(rows) - len(useful)
    blocks: list[Block] = [
        Pair(
            (
                Figure(
                    f"marginal{suffix}",
                    drawing,
                    f"{objective.capitalize()} gained by {more} of one capacity.",
                ),
                Table(f"Gain of {objective} by {more} of one capacity", columns, lines),
            )
        ),
        Paragraph(
            "By dual: the slope at the chosen paths. Paths fixed and paths free: solved again with "
            "more of it; where free paths gain more, the new capacity lets paths change."
            + (f" Nothing else gains ({left} more of servers and links)." if left else ""),
            note=True,
        ),
    ]
    return blocks


def _capacity(value: float | None, unit: str, nothing: str) -> str:
    return nothing if value is None else amount(value, unit)


# ---- sweeps ----------------------------------------------------------------------------------


def _sweep(tables: _Tables, _: Material, suffix: str) -> list[Block]:
    rows = tables(
        "sweep", "field", "value", "method", "status", "reward", "throughput_per_s", "cost"
    )
    methods = _unique(r["method"] for r in rows)
    colors = {"exact": 0, "code": 1, "local": 2, "plan": 3}
    blocks: list[Block] = []
    for order, field in enumerate(_unique(r["field"] for r in rows), start=1):
        mine = [r for r in rows if r["field"] == field]
        charts: list[Block] = []
        wanted = [
            ("reward", "reward", "reward"),
            ("throughput_per_s", "throughput [inferences/s]", "throughput"),
            ("cost", "least cost [currency]", "cost"),
        ]
        for column, axis, what in wanted:
            series = []
            for method in methods:
                points = sorted(
                    (r for r in mine if r["method"] == method and r[column] is not None),
                    key=lambda r: r["value"],
                )
                name = str(method)
                xs = [r["value"] for r in points]
                series.append(_line(name, colors.get(name, 5), xs, [r[column] for r in points]))
            if not any(s.dots for s in series):
                continue
            drawing = xy_chart(
                f"{what.capitalize()} against {field}",
                Axis(str(field)),
                Axis(axis),
                [s for s in series if s.dots],
                description=_series_text(series, str(field), what),
            )
            name = f"sweep{suffix}-{order}-{what}"
            charts.append(Figure(name, drawing, f"{what.capitalize()} while {field} varies."))
        if charts:
            blocks.append(Pair(tuple(charts)))
    failed = [r for r in rows if r["status"] in ("infeasible", "unknown")]
    if failed:
        blocks.append(
            Items(
                tuple(
                    f"{r['field']} = {money(r['value'])}, {r['method']}: {r['status']}"
                    for r in failed[:MOST_ROWS]
                )
            )
        )
    return [*blocks, _in_full("All values of the sweep", tables.whole("sweep", keys=3))]


_BUILDERS: dict[str, Callable[[_Tables, Material, str], list[Block]]] = {
    "least-cost": _least_cost,
    "growth": _growth,
    "scenarios": _scenarios,
    "failures": _failures,
    "front": _front,
    "marginal": _marginal,
    "sweep": _sweep,
}
