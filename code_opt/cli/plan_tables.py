"""Plans for a terminal: the figures that decide, not every column of the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from code_opt.cli.tables import NARROW, plain_table
from code_opt.cli.text import percent, plain, plain_lines
from code_opt.planning import columns, is_comparison
from code_opt.planning.columns import NEGLIGIBLE_GAIN, NOTHING, SCHEMA, money

if TYPE_CHECKING:
    from rich.console import Console

    from code_opt.planning import Plan

Row = Mapping[Any, Any]
_MOST_NAMES = 8
MOST_ROWS = 40
"""Longer tables are cut on a terminal; files hold them whole."""
_OWN: dict[columns.ColumnKind, Callable[[Any], str]] = {
    **dict.fromkeys((columns.TEXT, columns.COORDINATION, columns.PATH), plain),
    **dict.fromkeys((columns.GIVEN, columns.LIMIT), "{:.6g}".format),
    columns.PROBABILITY: "{:.4g}".format,
}
"""Texts of a terminal that differ from those of the page."""
_HEADINGS = {
    "max_loss_points": "loss up to\n[points]",
    "accuracy_loss_points": "lost\n[points]",
    "present_value": "present\nvalue",
    "saved_cost": "saved",
    "extra_cost": "extra\ncost",
    "total_cost": "cost\nso far",
    "units_bought": "units\nbought",
    "seconds": "time\n[s]",
    "variant": "planned for",
    "probability": "probability",
    "expected_served_share": "served,\nexpected [%]",
    "worst_served_share": "served,\nworst [%]",
    "worst_served_fixed_share": "worst case [%]\nfixed",
    "worst_served_rerouted_share": "worst case [%]\nre-routed",
    "tasks_hit": "tasks\nhit",
    "tasks_lost": "lost",
    "tasks_moved": "moved",
    "demand_period": "hours of",
    "mean_utilization": "mean\n[%]",
    "supported": "on hull",
    "gain_by_dual": "by its\ndual",
    "gain_fixed_paths": "same\npaths",
    "gain_resolved": "paths\nfree",
    "resolved_gap": "gap\n[%]",
}
"""Headings of a terminal, where those of the schema are too wide or name no case."""
_LOST = "accuracy lost\n[points]"


class ShownColumn(NamedTuple):
    """A column that is shown: its heading, and its text in a row."""

    heading: str
    text: Callable[[Row], str]
    is_text: bool = False
    """It holds words, which stand at the left and may be wrapped."""


def show_plans(plans: Sequence[Plan], console: Console, *, sold: bool) -> None:
    """Print what was found.

    Args:
        plans: what was found.
        console: where to.
        sold: whether any unit of capacity can be bought.
    """
    for i, plan in enumerate(plans):
        if i:
            console.print()
        if is_comparison(plan, plans):
            costs = [_outcome(row) for row in _rows(plan, "summary")]
            console.print(f"Without coordination: {', '.join(costs)}")
            continue
        if plan.kind == "least-cost":
            _least_cost(plan, console, sold)
        else:
            _SHOW[plan.kind](plan, console)
        _drops(plan, console)
    currencies = {str(plan.settings["currency"]) for plan in plans if "currency" in plan.settings}
    for currency in currencies:
        console.print(f"\nAll money is in {plain(currency)}.", markup=False)


def _drops(plan: Plan, console: Console) -> None:
    """Show what guessed drops make of the costs of coordination, side by side."""
    rows = _rows(plan, "drops") if any(t.name == "drops" for t in plan.tables_) else []
    rows = [row for row in rows if row.get("coordination") != "none"]
    if not rows:
        return
    keys = [name for name in rows[0] if name in _RANGE_KEYS]
    by_end = {(row["drops"], *(row[k] for k in keys)): row for row in rows}
    ends = ("low", "middle", "high")

    def column(figure: str, heading: str, end: str) -> ShownColumn:
        def text(row: Row) -> str:
            found = by_end[(end, *(row[k] for k in keys))]
            return _outcome(found) if figure == "cost" else _money(found[figure])

        return ShownColumn(f"{heading}:\n{end}", text)

    saved = next((name for name in ("saved_cost", "extra_cost") if name in rows[0]), None)
    _heading(console, "\nBy guessed drops: low, middle and high ones")
    _print(
        console,
        [row for row in rows if row["drops"] == "middle"],
        *keys,
        *(column("cost", "cost", end) for end in ends),
        *(column(saved, saved.partition("_")[0], end) for end in ends if saved is not None),
    )


_RANGE_KEYS = ("growth", "max_loss_points", "coordination", "variant", "plan", "routing")


def _money(value: float | None) -> str:
    return NOTHING if value is None else money(value)


def _least_cost(plan: Plan, console: Console, sold: bool) -> None:
    rows = _rows(plan, "summary")
    by_key = {(r["growth"], r["max_loss_points"], r["coordination"], r["method"]): r for r in rows}
    keys = list(dict.fromkeys((r["growth"], r["max_loss_points"]) for r in rows))
    names = list(dict.fromkeys(r["coordination"] for r in rows))
    best = names[0]

    def cost(heading: str, name: str, method: str = "exact") -> ShownColumn:
        return ShownColumn(
            heading, lambda r: _outcome(by_key[r["growth"], r["max_loss_points"], name, method])
        )

    shown = [by_key[g, loss, best, "exact"] for g, loss in keys]
    proven = all(r["status"] in ("optimal", "infeasible") for r in rows if r["method"] == "exact")
    is_wide = console.width >= NARROW
    _heading(console, f"{plan.instance}: least cost to serve all demand")
    _print(
        console,
        shown,
        "growth max_loss_points",
        *(cost(f"cost:\n{_PATHS[name]}", name) for name in reversed(names)),
        *(["gap"] if is_wide or not proven else []),
        *([cost("heuristic", best, "heuristic")] if is_wide else []),
        *([ShownColumn("saved\n[%]", _saved)] if "none" in names and best != "none" else []),
        *(["units"] if is_wide or proven else []),
        "accuracy_loss_points",
        *(["seconds"] if is_wide else []),
    )
    _least_cost_words(plan, console, shown, proven, sold)
    bought = [
        r
        for r in _rows(plan, "servers", "links")
        if (r["coordination"], r["method"]) == (best, "exact")
    ]
    for loss in dict.fromkeys(loss for _, loss in keys):
        mine = [r for r in shown if r["max_loss_points"] == loss and r["cost"] is not None]
        about = "" if loss is None else f", at most {loss:g} points lost"
        if len(mine) == 1:
            _heading(console, f"\nUnits at growth {mine[0]['growth']:g}{about} ({best})")
            _capacities(console, [r for r in bought if r["max_loss_points"] == loss])
        elif mine:
            _heading(console, f"\nUnits by growth{about} ({best})")
            _side_by_side(
                console,
                "growth",
                [(r["growth"], f"growth\n{r['growth']:g}", r["cost"]) for r in mine],
                [r for r in bought if r["max_loss_points"] == loss],
            )


_PATHS = {"none": "native", "exits": "exits", "full": "full"}


def _least_cost_words(
    plan: Plan, console: Console, shown: Sequence[Row], proven: bool, sold: bool
) -> None:
    """Say what the columns of the least costs mean, as far as it is needed."""
    lines = []
    gap = plan.settings.get("gap")
    rows = _rows(plan, "summary")
    some = any(r["cost"] is not None for r in rows if r["method"] == "exact")
    if proven and some and isinstance(gap, float):
        lines.append(f"Every cost is proven: none is lower by more than {percent(gap, up=True)}.")
    names = {r["coordination"] for r in rows}
    lacking = [r for r in shown if r["cost"] is not None and r["saved_cost"] is None]
    if lacking and "none" in names:
        lines.append("saved is empty where native paths alone cannot serve the demand at any size.")
    if any(r["status"] == "infeasible" for r in shown):
        lines.append(
            "infeasible: no paths serve the demand within all limits, whatever is bought."
            if sold
            else "infeasible: no paths serve the demand within all limits, and no units are sold "
            "(unit_flops, unit_bandwidth; option --unit-flops)."
        )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _side_by_side(
    console: Console,
    key: str,
    plans: Sequence[tuple[Any, str, float]],
    bought: Sequence[Row],
) -> None:
    """Print what to buy where: a row per server and link, a column per plan.

    Plans that do not fit beside each other follow below.

    Args:
        console: where to.
        key: the column of ``bought`` that tells plans apart.
        plans: value of that column, heading and cost of each plan.
        bought: the rows of servers and links of all plans.
    """
    units = {(_place_of(r), r[key]): r["units"] for r in bought}
    places = [
        p
        for p in dict.fromkeys(_place_of(r) for r in bought)
        if any(units.get((p, name)) for name, _, _ in plans)
    ]
    if not places:
        console.print("none: the present capacities are enough")
        return
    width = 1 + max(max(len(h.split("\n")[0]), len(money(c))) for _, h, c in plans)
    room = max(1, (console.width - max(map(len, ["server or link", *places])) - 2) // width)
    rows = [
        {"place": p, **{name: _text("units", units.get((p, name))) for name, _, _ in plans}}
        for p in places[: MOST_ROWS - 1]
    ]
    rows.append({"place": "cost", **{name: money(cost) for name, _, cost in plans}})
    heads = [ShownColumn(heading, itemgetter(name)) for name, heading, _ in plans]
    for first in range(0, len(plans), room):
        place = ShownColumn("server or link", itemgetter("place"), is_text=True)
        _print(console, rows, place, *heads[first : first + room])
        if len(places) >= MOST_ROWS:
            console.print(f"... and {len(places) - MOST_ROWS + 1} more (--out writes all)")


def _growth(plan: Plan, console: Console) -> None:
    _heading(console, f"{plan.instance}: growth path")
    summary, periods = _rows(plan, "summary"), _rows(plan, "periods")
    names = "coordination status cost present_value gap units saved_cost seconds"
    _print(console, summary, names)
    if not periods:
        return
    console.print()
    _print(
        console,
        periods,
        "coordination period growth units_bought cost total_cost",
        _column("accuracy_loss_points", _LOST),
        _column("throughput_per_s", "demand\n[1/s]"),
    )
    first = periods[0]["coordination"]
    bought = [
        r
        for r in _rows(plan, "servers", "links")
        if r["coordination"] == first and r["units_bought"]
    ]
    if bought:
        _heading(console, f"\nWhere ({first})")
        bought.sort(key=lambda r: r["period"])
        _print(console, bought, "period", _PLACE, "units_bought units utilization")


def _scenarios(plan: Plan, console: Console) -> None:
    summary = _rows(plan, "summary")
    _heading(console, f"{plan.instance}: uncertain demand")
    _print(
        console,
        summary,
        "variant status cost gap units expected_served_share worst_served_share",
        _column("accuracy_loss_points", _LOST),
        *(["seconds"] if console.width >= NARROW else []),
    )
    for row in summary:
        part = percent(row["served_share"]) if row["served_share"] is not None else "a share"
        console.print(f"{row['variant']}: {_VARIANTS[row['variant']].format(part)}")
    shown = _rows(plan, "scenarios")
    if not shown:
        return
    console.print()
    rows: dict[str, dict[str, Any]] = {}
    for r in shown:
        row = rows.setdefault(r["scenario"], dict(r))
        row[f"served [%]\n{r['variant']}"] = _text("served_share", r["served_share"])
    heads = dict.fromkeys(f"served [%]\n{r['variant']}" for r in shown)
    shares = [ShownColumn(heading, itemgetter(heading)) for heading in heads]
    _print(console, list(rows.values()), "scenario probability demand_per_s", *shares)
    _heading(console, "\nUnits by what is planned for")
    _side_by_side(
        console,
        "variant",
        [(r["variant"], r["variant"], r["cost"]) for r in summary if r["cost"] is not None],
        _rows(plan, "servers", "links"),
    )


_VARIANTS = {
    "mean": "the mean demand in full, as if it were certain",
    "expected": "{} of the expected demand",
    "worst": "{} of the demand in every scenario",
    "every": "all demand in every scenario",
}


def _failures(plan: Plan, console: Console) -> None:
    _heading(console, f"{plan.instance}: failure of any one server")
    _print(
        console,
        _rows(plan, "summary"),
        "plan status cost gap units extra_cost worst_served_fixed_share "
        "worst_served_rerouted_share seconds",
    )
    shown = _rows(plan, "failures")
    if not shown:
        return
    console.print()
    later = {r["failed_server"]: r for r in shown if r["plan"] == "survivable"}

    def survivable(name: str, heading: str) -> ShownColumn:
        return ShownColumn(
            f"survivable:\n{heading}",
            lambda r: _text(name, later.get(r["failed_server"], {}).get(name)),
        )

    _heading(console, "Served when a server fails [% of the demand]")
    _print(
        console,
        [r for r in shown if r["plan"] == "normal"],
        "failed_server tasks_hit tasks_lost",
        _column("served_fixed_share", "normal:\nfixed"),
        _column("served_rerouted_share", "normal:\nre-routed"),
        _column("floors_kept", "normal:\nfloors kept"),
        survivable("served_rerouted_share", "re-routed"),
        survivable("floors_kept", "floors kept"),
    )
    keep = plan.settings.get("keep")
    floors = f"{percent(keep)} of its demand" if isinstance(keep, int | float) else "its own floor"
    console.print(
        f"floors kept: each task, but for the lost ones, gets {floors} when those "
        "hit take backup paths and all others stay; re-routed moves any task."
    )
    lost: dict[str, list[str]] = {}
    for r in _rows(plan, "lost"):
        lost.setdefault(r["failed_server"], []).append(plain(r["task"]))
    if lost:
        console.print("Lost at any size, since no path of theirs avoids the server:")
        for server, tasks in lost.items():
            most = ", ".join(tasks[:_MOST_NAMES])
            rest = len(tasks) - _MOST_NAMES
            more = f" and {rest} more" if rest > 0 else ""
            console.print(f"  {plain(server)}: {most}{more}", soft_wrap=True, markup=False)
    if later:
        _heading(console, "\nUnits of the survivable plan")
        bought = _rows(plan, "servers", "links")
        _capacities(console, [r for r in bought if r["plan"] == "survivable"])


def _combined(plan: Plan, console: Console) -> None:
    _heading(console, f"{plan.instance}: one plan for {_together(plan)}")
    summary, periods = _rows(plan, "summary"), _rows(plan, "periods")
    value = ["present_value"] if plan.settings.get("discount") else []
    _print(console, summary, "routing status cost", *value, "gap units seconds")
    if not periods:
        return
    for row in summary:
        if row["states"] is not None and row["states_left_out"]:
            console.print(
                f"{row['routing']}: {row['states_left_out']} of {row['states']} states ask for no "
                "more than another one, which is planned for instead."
            )
    console.print()
    _print(
        console,
        periods,
        "routing period growth units_bought cost total_cost",
        _column("accuracy_loss_points", _LOST),
        _column("throughput_per_s", "mean demand\n[1/s]"),
    )
    first = periods[0]["routing"]
    states = [r for r in _rows(plan, "states") if r["routing"] == first and r["implied_by"] is None]
    shown = ["period", *(n for n in ("demand_period", "scenario") if states[0][n] is not None)]
    if len(states) > 1:
        _heading(console, f"\nStates that are planned for ({first})")
        _print(
            console,
            states,
            *shown,
            *(["hours"] if "demand_period" in shown else []),
            *(["probability"] if "scenario" in shown else []),
            "demand_per_s",
            _column("accuracy_loss_points", _LOST),
        )
    bought = [
        r for r in _rows(plan, "servers", "links") if r["routing"] == first and r["units_bought"]
    ]
    if bought:
        _heading(console, f"\nWhere ({first})")
        bought.sort(key=lambda r: r["period"])
        _print(console, bought, "period", _PLACE, "units_bought units utilization mean_utilization")
    hit = [r for r in _rows(plan, "failures") if r["routing"] == first and r["tasks_hit"]]
    if hit:
        _heading(console, f"\nWhat a failure moves ({first})")
        block = ["demand_period"] if any(r["demand_period"] for r in hit) else []
        _print(
            console,
            hit,
            "period",
            *block,
            "failed_server failed tasks_hit tasks_moved",
            "tasks_lost",
        )


def _together(plan: Plan) -> str:
    """Return what one plan holds for."""
    growth, states = plan.settings.get("growth"), _rows(plan, "demands")
    kinds = (
        ("growth", isinstance(growth, tuple) and len(growth) > 1),
        ("hours", any(r["demand_period"] is not None for r in states)),
        ("scenarios", any(r["scenario"] is not None for r in states)),
        ("any failure of a server", plan.settings.get("failures")),
        ("any failure of a device", plan.settings.get("device_failures")),
    )
    return ", ".join(name for name, is_there in kinds if is_there) or "all demand"


def _front(plan: Plan, console: Console) -> None:
    _heading(console, f"{plan.instance}: throughput against average accuracy")
    if plan.settings.get("complete"):
        what = "every point"
    elif plan.settings.get("points") is None:
        what = "not proven to be every point: a limit came first"
    else:
        what = "points at even steps of accuracy; --points all for each"
    console.print(what)
    _print(
        console,
        _rows(plan, "points"),
        "point",
        _or_bound("throughput_per_s", "throughput_bound_per_s"),
        _or_bound("accuracy", "accuracy_bound"),
        "accuracy_loss_points reward gap supported status",
    )


def _or_bound(name: str, bound: str) -> ShownColumn:
    """Return the column of a figure, or of the most that a point can have which was not found."""

    def text(row: Row) -> str:
        if row[name] is None and row[bound] is not None:
            return f"<= {_text(bound, row[bound])}"
        return _text(name, row[name])

    return ShownColumn(_column(name).heading, text)


def _marginal(plan: Plan, console: Console) -> None:
    objective = plan.settings["objective"]
    step = plan.settings["step"]
    assert isinstance(step, int | float)
    _heading(
        console, f"{plan.instance}: {objective} gained by {percent(step)} more of one capacity"
    )
    rows = sorted(_rows(plan, "servers", "links"), key=lambda r: -(r["gain_resolved"] or 0.0))
    gains = ("gain_by_dual", "gain_fixed_paths", "gain_resolved")
    useful = [r for r in rows if any(abs(r[name] or 0.0) > NEGLIGIBLE_GAIN for name in gains)]
    if not useful:
        console.print("nothing gains from more of any one capacity")
        return
    _print(
        console,
        useful,
        _PLACE,
        ShownColumn("capacity", lambda r: _capacity(r, "capacity")),
        "utilization gain_by_dual gain_fixed_paths gain_resolved resolved_gap",
    )
    if len(useful) < len(rows):
        console.print(f"Nothing else gains ({len(rows) - len(useful)} more).")


def _sweep(plan: Plan, console: Console) -> None:
    rows = _rows(plan, "sweep")
    for field in dict.fromkeys(r["field"] for r in rows):
        _heading(console, f"{plan.instance}: what if {plain(field)} changes")
        mine = [r for r in rows if r["field"] == field]
        _print(console, mine, "value method status reward cost gap throughput_per_s accuracy")


_SHOW: dict[str, Callable[[Any, Any], None]] = {
    "growth": _growth,
    "scenarios": _scenarios,
    "failures": _failures,
    "combined": _combined,
    "front": _front,
    "marginal": _marginal,
    "sweep": _sweep,
}


def _rows(plan: Plan, *tables: str) -> list[dict[str, Any]]:
    """Return the rows of some tables of a plan, one after the other; periods have their names."""
    rows = [row for name in tables for row in plan.table(name).records()]
    names = plan.settings.get("period_names")
    if isinstance(names, tuple):
        for row in rows:
            if "period" in row:
                row["period"] = _Period(row["period"], str(names[row["period"] - 1]))
    return rows


class _Period(int):
    """Number of a period of growth, which is shown by its name."""

    name: str

    def __new__(cls, number: int, name: str) -> _Period:
        """Return the number with its name."""
        found = super().__new__(cls, number)
        found.name = name
        return found


def _text(name: str, value: Any) -> str:
    """Return a value of a column as text."""
    if isinstance(value, _Period):
        return plain(value.name)
    return SCHEMA[name].text(value, _OWN)


def _column(name: str, heading: str | None = None) -> ShownColumn:
    """Return a column of the schema, under its usual heading or another one."""
    schema = SCHEMA[name]
    unit = f"\n[{schema.unit}]" if schema.unit else ""
    heading = heading or _HEADINGS.get(name, schema.heading.lower() + unit)
    return ShownColumn(heading, lambda r: _text(name, r[name]), schema.kind.type == "text")


def _capacities(console: Console, rows: Sequence[Row]) -> None:
    """Print the servers and links for which units are bought."""
    bought = [r for r in rows if r["units"]]
    if not bought:
        console.print("none: the present capacities are enough")
        return
    before = ShownColumn("before", lambda r: _capacity(r, "present"))
    after = ShownColumn("after", lambda r: _capacity(r, "capacity"))
    _print(console, bought, _PLACE, "units cost", before, after, "utilization")


def _place_of(row: Row) -> str:
    if "server" in row:
        return plain(row["server"])
    return f"{plain(row['source'])} -> {plain(row['target'])}"


_PLACE = ShownColumn("server or link", _place_of, is_text=True)


def _capacity(row: Row, what: str) -> str:
    """Return a capacity with its unit; without one a link is unlimited."""
    names = [f"{what}_flop_per_s", f"{what}_devices"]
    if "server" not in row:
        names = [f"{what}_bytes_per_s"]
    for name in names:
        if row[name] is not None:
            return f"{_text(name, row[name])} {SCHEMA[name].unit}"
    return "unlimited"


def _outcome(row: Row) -> str:
    """Return a cost, or why there is none."""
    return row["status"] if row["cost"] is None else money(row["cost"])


def _saved(row: Row) -> str:
    if row["saved_cost"] is None:
        return NOTHING
    before = row["cost"] + row["saved_cost"]
    return f"{100.0 * row['saved_cost'] / before:.1f}" if before > 0.0 else "0.0"


def _heading(console: Console, text: str) -> None:
    console.print(Text(plain_lines(text)), soft_wrap=not console.is_terminal)


def _print(console: Console, rows: Sequence[Row], *wanted: str | ShownColumn) -> None:
    """Print a table.

    Args:
        console: where to.
        rows: what is shown; only the first ones if they are many.
        wanted: names of columns, separated by blanks, or columns made for the table.
    """
    shown: list[ShownColumn] = []
    for one in wanted:
        shown += [one] if isinstance(one, ShownColumn) else map(_column, one.split())
    table = plain_table(console)
    for column in shown:
        table.add_column(
            Text(column.heading),
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    is_plain = not console.encoding.lower().startswith("utf")
    for row in rows[:MOST_ROWS]:
        cells = [column.text(row) for column in shown]
        table.add_row(*(Text("-" if is_plain and c == NOTHING else c) for c in cells))
    console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"... and {len(rows) - MOST_ROWS} more (--out writes all)")
