"""The columns of all plan tables: name, type, unit, meaning. Part of the format.

:func:`table` looks names up here, so that a name means the same in every table.
"""

from __future__ import annotations

from collections.abc import Sequence

from code_opt.planning.plan import Cell, Column, ColumnType, Table

_KNOWN: dict[str, tuple[ColumnType, str | None, str]] = {
    # keys
    "growth": ("number", None, "factor on all demands"),
    "max_loss_points": ("number", "points", "most average accuracy lost against native paths"),
    "coordination": ("text", None, "full, exits (early exits only) or none (native paths only)"),
    "method": ("text", None, "exact or heuristic"),
    "period": ("integer", None, "period of the growth path, from 1"),
    "variant": ("text", None, "mean, expected, worst or every"),
    "plan": ("text", None, "normal or survivable"),
    "scenario": ("text", None, "scenario of the demand"),
    "failed_server": ("text", None, "server that is gone"),
    "point": ("integer", None, "point of the front, 1 has the most throughput"),
    "field": ("text", None, "field of the instance that varies"),
    "value": ("number", None, "its value"),
    "server": ("text", None, "id of the server"),
    "source": ("text", None, "server where the link begins"),
    "target": ("text", None, "server where the link ends"),
    "task": ("text", None, "id of the task"),
    # outcome
    "status": ("text", None, "optimal, feasible, unknown or infeasible"),
    "cost": ("number", "currency", "price of the units"),
    "present_value": ("number", "currency", "cost with later purchases discounted"),
    "bound": ("number", None, "proven bound: of a cost from below, of a reward from above"),
    "gap": ("number", None, "of a cost (cost - bound) / cost, of a reward bound / reward - 1"),
    "units": ("integer", None, "units of capacity"),
    "units_bought": ("integer", None, "units bought in this period"),
    "total_units": ("integer", None, "units bought up to this period"),
    "total_cost": ("number", "currency", "spent up to this period"),
    "saved_cost": ("number", "currency", "less than without coordination"),
    "saved_units": ("integer", None, "fewer than without coordination"),
    "extra_cost": ("number", "currency", "more than the normal plan"),
    "extra_units": ("integer", None, "more than in the normal plan"),
    "accuracy": ("number", None, "accuracy (in totals: the weighted average)"),
    "accuracy_loss_points": ("number", "points", "lost against the native paths"),
    "accuracy_source": ("text", None, "measured or predicted"),
    "accuracy_bound": ("number", None, "proven upper bound of the accuracy at this throughput"),
    "throughput_per_s": ("number", "inferences/s", "sum of the rates"),
    "throughput_bound_per_s": ("number", "inferences/s", "proven upper bound at this accuracy"),
    "reward": ("number", None, "reward F"),
    "supported": ("boolean", None, "on the convex hull of the front"),
    "seconds": ("number", "s", "time of the search"),
    "message": ("text", None, "why there is no plan, or why the search stopped"),
    # capacities
    "present_flop_per_s": ("number", "FLOP/s", "capacity before"),
    "capacity_flop_per_s": ("number", "FLOP/s", "capacity with the units"),
    "load_flop_per_s": ("number", "FLOP/s", "work per second"),
    "present_bytes_per_s": ("number", "bytes/s", "bandwidth before, empty: unlimited"),
    "capacity_bytes_per_s": ("number", "bytes/s", "bandwidth with the units"),
    "load_bytes_per_s": ("number", "bytes/s", "bytes per second"),
    "utilization": ("number", None, "load / capacity"),
    # paths
    "path": ("text", None, "ids of the blocks in order"),
    "rate_per_s": ("number", "inferences/s", "rate"),
    "latency_s": ("number", "s", "unloaded latency at the planned capacities"),
    # scenarios and failures
    "probability": ("number", None, "probability of the scenario"),
    "demand_per_s": ("number", "inferences/s", "demand"),
    "served_per_s": ("number", "inferences/s", "served demand"),
    "served_share": ("number", None, "served / demand"),
    "expected_served_share": ("number", None, "expected served / expected demand"),
    "worst_served_share": ("number", None, "least share served in any scenario"),
    "served_fixed_per_s": ("number", "inferences/s", "served with all paths as they are"),
    "served_fixed_share": ("number", None, "of the demand, with all paths as they are"),
    "served_rerouted_per_s": ("number", "inferences/s", "served when all tasks may be re-routed"),
    "served_rerouted_share": ("number", None, "of the demand, when all tasks may be re-routed"),
    "rerouted_gap": ("number", None, "proven gap of what re-routing serves"),
    "worst_served_fixed_share": ("number", None, "least over all failures, paths as they are"),
    "worst_served_rerouted_share": ("number", None, "least over all failures, re-routed"),
    "tasks_hit": ("integer", None, "tasks whose path visits the server"),
    "tasks_lost": ("integer", None, "tasks of which no path avoids the server"),
    "floors_kept": (
        "boolean",
        None,
        "hit tasks can take backup paths, all others staying, so that all but the lost keep their "
        "floors (keep * demand, else their own)",
    ),
    # marginal values
    "dual": ("number", "objective per FLOP/s or bytes/s", "marginal value at fixed paths"),
    "step_flop_per_s": ("number", "FLOP/s", "a little more capacity"),
    "step_bytes_per_s": ("number", "bytes/s", "a little more bandwidth"),
    "gain_by_dual": ("number", "objective", "what the marginal value promises for the step"),
    "gain_fixed_paths": ("number", "objective", "what the step gives at fixed paths"),
    "gain_resolved": ("number", "objective", "what it gives when paths may change"),
    "resolved_status": ("text", None, "status of the second solve"),
    "resolved_gap": ("number", None, "gap of the second solve"),
}


def table(name: str, title: str, columns: str, rows: Sequence[Sequence[Cell]]) -> Table:
    """Return a table of known columns.

    Args:
        name: name of the table.
        title: one line for people.
        columns: names of the columns, separated by blanks.
        rows: cells in that order.
    """
    found = []
    for column in columns.split():
        kind, unit, description = _KNOWN[column]
        found.append(Column(name=column, type=kind, unit=unit, description=description))
    return Table(
        name=name, title=title, columns=tuple(found), rows=tuple(tuple(row) for row in rows)
    )
