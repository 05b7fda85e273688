"""Plans for a terminal: the figures that decide, not every column of the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from code_opt.cli.tables import NARROW, plain_table
from code_opt.cli.text import number, percent, plain, plain_lines, seconds, si

if TYPE_CHECKING:
    from rich.console import Console

    from code_opt.planning import Plan

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]
_MOST_NAMES = 8
_NOTHING = 1e-12
"""Gains below it are rounding."""
MOST_ROWS = 40
"""Longer tables are cut on a terminal; files hold them whole."""


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
        if plan.kind == "least-cost":
            _least_cost(plan, console, sold)
        else:
            _SHOW[plan.kind](plan, console)


def _least_cost(plan: Plan, console: Console, sold: bool) -> None:
    rows = plan.table("summary").records()
    by_key = {(r["growth"], r["max_loss_points"], r["coordination"], r["method"]): r for r in rows}
    keys = list(dict.fromkeys((r["growth"], r["max_loss_points"]) for r in rows))
    names = list(dict.fromkeys(r["coordination"] for r in rows))
    best = names[0]

    def cost(name: str, method: str) -> Callable[[Row], str]:
        return lambda r: _outcome(by_key[r["growth"], r["max_loss_points"], name, method])

    shown = [by_key[g, loss, best, "exact"] for g, loss in keys]
    proven = all(r["status"] in ("optimal", "infeasible") for r in rows if r["method"] == "exact")
    wide = console.width >= NARROW
    columns: list[Column] = [
        ("growth", lambda r: f"{r['growth']:g}"),
        ("loss up to\n[points]", lambda r: _optional(r["max_loss_points"], "g", "–")),
        *((f"cost:\n{_PATHS[name]}", cost(name, "exact")) for name in reversed(names)),
    ]
    if wide or not proven:
        columns.append(("gap\n[%]", lambda r: _gap(r["gap"])))
    if wide:
        columns.append(("heuristic", cost(best, "heuristic")))
    if "none" in names and best != "none":
        columns.append(("saved\n[%]", _saved))
    if wide or proven:
        columns.append(("units", lambda r: _optional(r["units"], "d", "–")))
    columns.append(("lost\n[points]", lambda r: _optional(r["accuracy_loss_points"], "+.2f", "–")))
    if wide:
        columns.append(("time\n[s]", lambda r: seconds(r["seconds"])))
    _heading(console, f"{plan.instance}: least cost to serve all demand")
    _print(console, columns, shown)
    _least_cost_words(plan, console, shown, proven, sold)
    bought = [
        r
        for name in ("servers", "links")
        for r in plan.table(name).records()
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
    rows = plan.table("summary").records()
    some = any(r["cost"] is not None for r in rows if r["method"] == "exact")
    if proven and some and isinstance(gap, float):
        lines.append(f"Every cost is proven: none is lower by more than {percent(gap, up=True)}.")
    names = {r["coordination"] for r in rows}
    lacking = [r for r in shown if r["cost"] is not None and r["saved_cost"] is None]
    if lacking and "none" in names:
        lines.append("saved is empty where native paths alone cannot serve the demand at any size.")
    if any(r["status"] == "infeasible" for r in shown):
        lines.append(
            "infeasible: not even with all units that are sold (max_units)."
            if sold
            else "infeasible: no units are sold (unit_flops, unit_bandwidth; option --unit-flops)."
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
    units = {(_place(r), r[key]): r["units"] for r in bought}
    places = [
        p
        for p in dict.fromkeys(_place(r) for r in bought)
        if any(units.get((p, name)) for name, _, _ in plans)
    ]
    if not places:
        console.print("none: the present capacities are enough")
        return
    width = 1 + max(max(len(h.split("\n")[0]), len(_money(c))) for _, h, c in plans)
    room = max(1, (console.width - max(map(len, ["server or link", *places])) - 2) // width)
    for first in range(0, len(plans), room):
        _print(
            console,
            [
                ("server or link", lambda r: r["place"]),
                *(_units_column(*plan, units) for plan in plans[first : first + room]),
            ],
            [
                *({"place": p, "total": False} for p in places[: MOST_ROWS - 1]),
                {"place": "cost", "total": True},
            ],
        )
        if len(places) >= MOST_ROWS:
            console.print(f"... and {len(places) - MOST_ROWS + 1} more (--out writes all)")


def _units_column(
    name: Any, heading: str, cost: float, units: dict[tuple[str, Any], int]
) -> Column:
    """Return the column of one plan: units of every place, and the cost below them."""

    def cell(row: Row) -> str:
        if row["total"]:
            return _money(cost)
        return _optional(units.get((row["place"], name)), "d", "–")

    return heading, cell


def _growth(plan: Plan, console: Console) -> None:
    _heading(console, f"{plan.instance}: growth path")
    _print(
        console,
        [
            ("coordination", lambda r: plain(r["coordination"])),
            ("status", lambda r: r["status"]),
            ("cost", lambda r: _money(r["cost"])),
            ("present\nvalue", lambda r: _money(r["present_value"])),
            ("gap\n[%]", lambda r: _gap(r["gap"])),
            ("units", lambda r: _optional(r["units"], "d", "–")),
            ("saved", lambda r: _money(r["saved_cost"])),
            ("time\n[s]", lambda r: seconds(r["seconds"])),
        ],
        plan.table("summary").records(),
    )
    if not plan.table("periods").rows:
        return
    console.print()
    _print(
        console,
        [
            ("coordination", lambda r: plain(r["coordination"])),
            ("period", lambda r: f"{r['period']:d}"),
            ("growth", lambda r: f"{r['growth']:g}"),
            ("units\nbought", lambda r: f"{r['units_bought']:d}"),
            ("cost", lambda r: _money(r["cost"])),
            ("cost\nso far", lambda r: _money(r["total_cost"])),
            ("accuracy lost\n[points]", lambda r: f"{r['accuracy_loss_points']:+.2f}"),
            ("demand\n[1/s]", lambda r: number(r["throughput_per_s"])),
        ],
        plan.table("periods").records(),
    )
    names = [r["coordination"] for r in plan.table("periods").records()]
    if names:
        bought = [
            r
            for name in ("servers", "links")
            for r in plan.table(name).records()
            if r["coordination"] == names[0] and r["units_bought"]
        ]
        if bought:
            _heading(console, f"\nWhere ({names[0]})")
            _print(
                console,
                [
                    ("period", lambda r: f"{r['period']:d}"),
                    ("server or link", _place),
                    ("units\nbought", lambda r: f"{r['units_bought']:d}"),
                    ("units", lambda r: f"{r['units']:d}"),
                    ("utilization\n[%]", lambda r: _share(r["utilization"])),
                ],
                sorted(bought, key=lambda r: r["period"]),
            )


def _scenarios(plan: Plan, console: Console) -> None:
    _heading(console, f"{plan.instance}: uncertain demand")
    _print(
        console,
        [
            ("planned for", lambda r: plain(r["variant"])),
            ("status", lambda r: r["status"]),
            ("cost", lambda r: _money(r["cost"])),
            ("gap\n[%]", lambda r: _gap(r["gap"])),
            ("units", lambda r: _optional(r["units"], "d", "–")),
            ("served,\nexpected [%]", lambda r: _share(r["expected_served_share"])),
            ("served,\nworst [%]", lambda r: _share(r["worst_served_share"])),
            (
                "accuracy lost\n[points]",
                lambda r: _optional(r["accuracy_loss_points"], "+.2f", "–"),
            ),
            *([("time\n[s]", lambda r: seconds(r["seconds"]))] if console.width >= NARROW else []),
        ],
        plan.table("summary").records(),
    )
    for row in plan.table("summary").records():
        part = percent(row["served_share"]) if row["served_share"] is not None else "a share"
        console.print(f"{row['variant']}: {_VARIANTS[row['variant']].format(part)}")
    shown = plan.table("scenarios").records()
    if not shown:
        return
    console.print()
    by_key = {(r["scenario"], r["variant"]): r for r in shown}
    variants = list(dict.fromkeys(r["variant"] for r in shown))

    def share(variant: str) -> Callable[[Row], str]:
        return lambda r: _share(by_key[r["scenario"], variant]["served_share"])

    _print(
        console,
        [
            ("scenario", lambda r: plain(r["scenario"])),
            ("probability", lambda r: f"{r['probability']:.4g}"),
            ("demand\n[1/s]", lambda r: number(r["demand_per_s"])),
            *((f"served [%]\n{variant}", share(variant)) for variant in variants),
        ],
        [r for r in shown if r["variant"] == variants[0]] if variants else [],
    )
    _heading(console, "\nUnits by what is planned for")
    _side_by_side(
        console,
        "variant",
        [
            (r["variant"], r["variant"], r["cost"])
            for r in plan.table("summary").records()
            if r["cost"] is not None
        ],
        [r for name in ("servers", "links") for r in plan.table(name).records()],
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
        [
            ("plan", lambda r: plain(r["plan"])),
            ("status", lambda r: r["status"]),
            ("cost", lambda r: _money(r["cost"])),
            ("gap\n[%]", lambda r: _gap(r["gap"])),
            ("units", lambda r: _optional(r["units"], "d", "–")),
            ("extra\ncost", lambda r: _money(r["extra_cost"])),
            ("worst case [%]\nfixed", lambda r: _share(r["worst_served_fixed_share"])),
            ("worst case [%]\nre-routed", lambda r: _share(r["worst_served_rerouted_share"])),
            ("time\n[s]", lambda r: seconds(r["seconds"])),
        ],
        plan.table("summary").records(),
    )
    shown = plan.table("failures").records()
    if not shown:
        return
    console.print()
    later = {r["failed_server"]: r for r in shown if r["plan"] == "survivable"}
    _heading(console, "Served when a server fails [% of the demand]")
    _print(
        console,
        [
            ("failed server", lambda r: plain(r["failed_server"])),
            ("tasks\nhit", lambda r: f"{r['tasks_hit']:d}"),
            ("lost", lambda r: f"{r['tasks_lost']:d}"),
            ("normal:\nfixed", lambda r: _share(r["served_fixed_share"])),
            ("normal:\nre-routed", lambda r: _share(r["served_rerouted_share"])),
            ("normal:\nfloors kept", lambda r: _kept(r)),
            (
                "survivable:\nre-routed",
                lambda r: _share(later.get(r["failed_server"], {}).get("served_rerouted_share")),
            ),
            ("survivable:\nfloors kept", lambda r: _kept(later.get(r["failed_server"]))),
        ],
        [r for r in shown if r["plan"] == "normal"],
    )
    keep = plan.settings.get("keep")
    floors = f"{percent(keep)} of its demand" if isinstance(keep, int | float) else "its own floor"
    console.print(
        f"floors kept: each task, but for the lost ones, gets {floors} when those "
        "hit take backup paths and all others stay; re-routed moves any task."
    )
    lost: dict[str, list[str]] = {}
    for r in plan.table("lost").records():
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
        _capacities(console, _of(plan, "plan", "survivable"))


def _kept(row: Row | None) -> str:
    kept = None if row is None else row["floors_kept"]
    return "–" if kept is None else "yes" if kept else "no"


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
        [
            ("point", lambda r: f"{r['point']:d}"),
            ("throughput\n[1/s]", lambda r: _or_bound(r, "throughput", "_per_s", number)),
            ("accuracy", lambda r: _or_bound(r, "accuracy", "", "{:.4f}".format)),
            ("lost\n[points]", lambda r: _lost(r["accuracy_loss_points"])),
            ("reward", lambda r: "–" if r["reward"] is None else number(r["reward"])),
            ("gap\n[%]", lambda r: _gap(r["gap"])),
            ("on hull", lambda r: {None: "–", True: "yes", False: "no"}[r["supported"]]),
            ("status", lambda r: r["status"]),
        ],
        plan.table("points").records(),
    )


def _lost(points: float | None) -> str:
    return "–" if points is None else f"{points:+.2f}"


def _or_bound(row: Row, name: str, unit: str, text: Callable[[float], str]) -> str:
    """Return a figure of a point, or the most that a point can have which was not found."""
    value, bound = row[f"{name}{unit}"], row[f"{name}_bound{unit}"]
    return text(value) if value is not None else "–" if bound is None else f"<= {text(bound)}"


def _marginal(plan: Plan, console: Console) -> None:
    objective = plan.settings["objective"]
    step = plan.settings["step"]
    assert isinstance(step, int | float)
    _heading(
        console, f"{plan.instance}: {objective} gained by {percent(step)} more of one capacity"
    )
    rows = sorted(
        (r for name in ("servers", "links") for r in plan.table(name).records()),
        key=lambda r: -(r["gain_resolved"] or 0.0),
    )
    gains = ("gain_by_dual", "gain_fixed_paths", "gain_resolved")
    useful = [r for r in rows if any(abs(r[name] or 0.0) > _NOTHING for name in gains)]
    if not useful:
        console.print("nothing gains from more of any one capacity")
        return
    _print(
        console,
        [
            ("server or link", _place),
            (
                "capacity",
                lambda r: (
                    si(r["capacity_flop_per_s" if "server" in r else "capacity_bytes_per_s"])
                    + (" FLOP/s" if "server" in r else " B/s")
                ),
            ),
            ("utilization\n[%]", lambda r: _share(r["utilization"])),
            ("by its\ndual", lambda r: _signed(r["gain_by_dual"])),
            ("same\npaths", lambda r: _signed(r["gain_fixed_paths"])),
            ("paths\nfree", lambda r: _signed(r["gain_resolved"])),
            ("gap\n[%]", lambda r: _gap(r["resolved_gap"])),
        ],
        useful,
    )
    if len(useful) < len(rows):
        console.print(f"Nothing else gains ({len(rows) - len(useful)} more).")


def _sweep(plan: Plan, console: Console) -> None:
    rows = plan.table("sweep").records()
    for field in dict.fromkeys(r["field"] for r in rows):
        _heading(console, f"{plan.instance}: what if {plain(field)} changes")
        _print(
            console,
            [
                ("value", lambda r: f"{r['value']:.6g}"),
                ("method", lambda r: plain(r["method"])),
                ("status", lambda r: r["status"]),
                ("reward", lambda r: "–" if r["reward"] is None else number(r["reward"])),
                ("cost", lambda r: _money(r["cost"])),
                ("gap\n[%]", lambda r: _gap(r["gap"])),
                (
                    "throughput\n[1/s]",
                    lambda r: (
                        "–" if r["throughput_per_s"] is None else number(r["throughput_per_s"])
                    ),
                ),
                ("accuracy", lambda r: _optional(r["accuracy"], ".4f", "–")),
            ],
            [r for r in rows if r["field"] == field],
        )


_SHOW: dict[str, Callable[[Any, Any], None]] = {
    "growth": _growth,
    "scenarios": _scenarios,
    "failures": _failures,
    "front": _front,
    "marginal": _marginal,
    "sweep": _sweep,
}


def _of(plan: Plan, column: str, value: str) -> list[Row]:
    """Return the servers and links of the one plan that a column names."""
    both = [r for name in ("servers", "links") for r in plan.table(name).records()]
    return [r for r in both if r[column] == value]


def _capacities(console: Console, rows: Sequence[Row]) -> None:
    """Print the servers and links for which units are bought."""
    bought = [r for r in rows if r["units"]]
    if not bought:
        console.print("none: the present capacities are enough")
        return
    _print(
        console,
        [
            ("server or link", _place),
            ("units", lambda r: f"{r['units']:d}"),
            ("cost", lambda r: _money(r["cost"])),
            ("before", lambda r: _capacity(r, "present")),
            ("after", lambda r: _capacity(r, "capacity")),
            ("utilization\n[%]", lambda r: _share(r["utilization"])),
        ],
        bought,
    )


def _place(row: Row) -> str:
    if "server" in row:
        return plain(row["server"])
    return f"{plain(row['source'])} -> {plain(row['target'])}"


def _capacity(row: Row, what: str) -> str:
    if "server" in row:
        return f"{si(row[f'{what}_flop_per_s'])} FLOP/s"
    value = row[f"{what}_bytes_per_s"]
    return "unlimited" if value is None else f"{si(value)} B/s"


def _outcome(row: Row) -> str:
    """Return a cost, or why there is none."""
    return row["status"] if row["cost"] is None else _money(row["cost"])


def _money(value: float | None) -> str:
    return "–" if value is None else f"{value:,.10g}"


def _saved(row: Row) -> str:
    if row["saved_cost"] is None:
        return "–"
    before = row["cost"] + row["saved_cost"]
    return f"{100.0 * row['saved_cost'] / before:.1f}" if before > 0.0 else "0.0"


def _gap(value: float | None) -> str:
    if value is None:
        return "–"
    return "0" if value <= 1e-9 else percent(value, up=True).removesuffix(" %")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100.0 * value:.1f}"


def _signed(value: float | None) -> str:
    if value is None:
        return "–"
    return "0" if abs(value) < _NOTHING else f"{value:+.4g}"


def _optional(value: Any, form: str, missing: str) -> str:
    return missing if value is None else format(value, form)


def _heading(console: Console, text: str) -> None:
    console.print(Text(plain_lines(text)), soft_wrap=not console.is_terminal)


def _print(console: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    table = plain_table(console)
    words = {"coordination", "status", "server or link", "failed server", "plan", "planned for"}
    words |= {"scenario", "method"}
    for heading, _ in columns:
        left = heading in words
        table.add_column(
            Text(heading), justify="left" if left else "right", no_wrap=not left, overflow="fold"
        )
    is_plain = not console.encoding.lower().startswith("utf")
    for row in rows[:MOST_ROWS]:
        cells = [cell(row) for _, cell in columns]
        table.add_row(*(Text("-" if is_plain and c == "–" else c) for c in cells))
    console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"... and {len(rows) - MOST_ROWS} more (--out writes all)")
