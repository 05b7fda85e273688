"""A plan in operation: the upgraded edge with its paths and rates, checked as any result.

Whatever a planning model says, the plan is turned into an upgraded instance and a result for
it, which the independent checker recomputes from data: that is what the tables show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np

from code_opt.checker import Violation, check
from code_opt.core.evaluator import ChosenPath, Evaluator, path_of
from code_opt.core.results import average_time, make_result, own_work, promise_cells
from code_opt.core.settings import Settings
from code_opt.errors import CodeOptError
from code_opt.instance.model import Instance, Reward
from code_opt.paths import pool_of_paths
from code_opt.paths.graph import FloatArray, IntArray, Topology
from code_opt.paths.resources import KINDS, ResourceKind, key_of
from code_opt.planning.case import Case, upgraded
from code_opt.planning.columns import TableBuilder
from code_opt.planning.tolerances import NOISE
from code_opt.result import Result

PATH_SEPARATOR = " > "
_LISTED = 5
"""Violations that an error names."""


class PlanFailedCheckError(CodeOptError):
    """A plan did not pass the independent check: an error of this package."""


def operate(
    case: Case,
    units: FloatArray,
    paths: IntArray,
    demand: FloatArray,
    floors: FloatArray | None = None,
) -> Result:
    """Return the result of operating a plan: all demand where it fits, else the best rates.

    Args:
        case: what was planned for.
        units: units bought of each resource, shape (I,).
        paths: path of each task, shape (T,).
        demand: [inferences/s], shape (T,).
        floors: rates that were promised [inferences/s], shape (T,); None: all demand.

    Raises:
        PlanFailedCheckError: a requirement does not hold (never expected).
    """
    # The reward is nothing that plans are about: it may be larger than any number.
    instance = upgraded(case, units, demand, demand if floors is None else floors).model_copy(
        update={"reward": Reward()}
    )
    settings = Settings(objective="throughput", min_accuracy=case.min_accuracy)
    blocks = list(map(case.blocks, paths.tolist()))
    evaluator, chosen = evaluator_of(_without_percentiles(instance), blocks, settings)
    if floors is None or (evaluator.load(chosen, demand) <= 1.0 + NOISE).all():
        solution = evaluator.solution_at(chosen, demand)
    else:
        found = evaluator.solution(chosen)
        if found is None:
            raise PlanFailedCheckError("the rates that a plan promises do not fit its capacities")
        solution = found
    result = make_result(evaluator, "plan", "feasible", 0.0, solution)
    # What is bought stands beside what is there: an inference takes as long as at present.
    there, present = evaluator_of(case.paced, blocks, settings)
    shares, of_all = own_work(there.pool, present, rates_of(result))
    promised, scales = _promises(case, there, units, present, rates_of(result))
    tasks = tuple(
        row.model_copy(update={"latency": path.seconds, "own_work": share, **cells})
        for row, path, share, cells in zip(result.tasks, present, shares, promised, strict=True)
    )
    time = average_time(there.pool.weights, tasks)
    places = {
        records: tuple(
            row.model_copy(update={"wait_scale": scales.get(key_of(record))})
            for record, row in zip(
                getattr(instance, records), getattr(result, records), strict=True
            )
        )
        for records in PLACE_COLUMNS
    }
    update = {"tasks": tasks, "latency": time, "own_work": of_all, **places}
    result = result.model_copy(update=update)
    violations = check(result, instance, present=case.instance)
    if violations:
        raise PlanFailedCheckError(f"the plan does not pass the check: {listed(violations)}")
    return result


def _without_percentiles(instance: Instance) -> Instance:
    """Return an instance of which nobody asks what is promised: that is told at present speeds."""
    tasks = tuple(t.model_copy(update={"latency_percentile": None}) for t in instance.tasks)
    return instance.model_copy(update={"tasks": tasks})


def _promises(
    case: Case,
    there: Evaluator,
    units: FloatArray,
    paths: Sequence[ChosenPath],
    rates: FloatArray,
) -> tuple[list[dict[str, Any]], dict[tuple[str, ...], float | None]]:
    """Return what tasks are promised with units beside what is there, and all wait scales [s].

    Args:
        case: what was planned for.
        there: evaluates paths at the present speeds.
        units: units bought of each resource, shape (I,).
        paths: of all tasks.
        rates: of all tasks [inferences/s], shape (T,).
    """
    if not there.promises.are_asked:
        return [{} for _ in paths], {}
    share = {
        (r.kind, r.key): c for r, c in zip(case.resources, case.offers.capacity(units), strict=True)
    }
    each, devices = there.promises.stations.each, {s.id: s.devices for s in case.paced.servers}
    for number, resource in enumerate(there.pool.resources):
        if resource.is_rate:
            n = devices.get(resource.server or "", 1.0) * share[resource.kind, resource.key]
            if resource.server is not None:
                n = max(n, 1.0)
            each[number] = replace(each[number], devices=n)
    promises, waits = there.promises.promises(
        [path.arcs for path in paths], [path.seconds for path in paths], rates
    )
    scales = {
        resource.key: float(scale) if np.isfinite(scale) else None
        for resource, scale in zip(there.pool.resources, waits.scale, strict=True)
        if resource.is_rate
    }
    return [promise_cells(promise) for promise in promises], scales


def listed(violations: Sequence[Violation]) -> str:
    """Return the first violations as one line."""
    return "; ".join(f"{v.rule} at {v.place}: {v.message}" for v in violations[:_LISTED])


def evaluator_of(
    instance: Instance, paths: Sequence[Sequence[str]], settings: Settings
) -> tuple[Evaluator, list[ChosenPath]]:
    """Return an evaluator for given paths and nothing else, and these paths.

    Args:
        instance: what is operated.
        paths: block ids of a path of each task.
        settings: objective and floors.
    """
    topology = Topology(instance)
    arcs = [graph.path_arcs(path) for graph, path in zip(topology.graphs, paths, strict=True)]
    steps = [tuple(numbers or ()) for numbers in arcs]
    pool = pool_of_paths(topology, steps)
    chosen = [path_of(task, numbers) for task, numbers in zip(pool.tasks, steps, strict=True)]
    return Evaluator(pool, settings), chosen


def rates_of(result: Result) -> FloatArray:
    """Return the rates of all tasks [inferences/s], shape (T,)."""
    return np.array([row.rate for row in result.tasks])


SOLD_KINDS = tuple(kind for kind in KINDS if kind.is_sold)
"""Kinds of capacity that can be bought: each has a table of its own."""
PLACE_COLUMNS = {"servers": ("server",), "links": ("source", "target")}
"""Columns that name a record of an instance."""
_AMOUNTS = "units cost present_{0} capacity_{0} load_{0} utilization"
_PATHS = "task path rate_per_s accuracy accuracy_source latency_s promised_s"


class OperationTables:
    """Servers, links and paths of plans, each row named by some columns."""

    def __init__(
        self,
        key: str,
        *,
        amounts: str = _AMOUNTS,
        paths: str = _PATHS,
        of: str = "of each plan",
        note: str = "",
    ) -> None:
        """Start empty.

        Args:
            key: columns that name a plan.
            amounts: columns of servers and links, with ``{0}`` for each unit they are told in.
            paths: columns of paths.
            of: what they belong to, for the titles.
            note: ends the titles of servers and links.
        """
        self._capacities = {
            kind: TableBuilder(
                kind.records,
                f"{kind.records.capitalize()} {of}{note}",
                f"{key} {' '.join(PLACE_COLUMNS[kind.records])} {columns_of(amounts, kind)}",
            )
            for kind in SOLD_KINDS
        }
        self._paths = TableBuilder("paths", f"Paths {of}", f"{key} {paths}")

    @property
    def tables(self) -> tuple[TableBuilder, ...]:
        """Servers, links, paths."""
        return (*self._capacities.values(), self._paths)

    def add(
        self,
        case: Case,
        units: FloatArray,
        *results: Result,
        bought: FloatArray | None = None,
        years: FloatArray | None = None,
        **key: Any,
    ) -> None:
        """Add the rows of one plan, which ``key`` names.

        Args:
            case: what was planned for.
            units: units that stand, shape (I,).
            results: of operating the plan; of several, each server and link is shown in the one
                that loads it most.
            bought: units bought now, shape (I,); by default all.
            years: years that units of each kind have stood, this one included, shape (I,); by
                default one year each.
            key: cells that name the plan.
        """
        self.add_capacities(case, units, results, bought=bought, years=years, **key)
        self.add_paths(results[0], **key)

    def add_capacities(
        self,
        case: Case,
        units: FloatArray,
        results: Sequence[Result],
        *,
        bought: FloatArray | None = None,
        years: FloatArray | None = None,
        weights: FloatArray | None = None,
        **key: Any,
    ) -> None:
        """Add servers and links alone, as :meth:`add` does.

        Args:
            case: what was planned for.
            units: units that stand, shape (I,).
            results: K results of operating the plan.
            bought: units bought now, shape (I,); by default all.
            years: see :meth:`add`.
            weights: of the results in the mean utilization, shape (K,); None: alike.
            key: cells that name the plan.
        """
        for kind, table in self._capacities.items():
            rows = zip(
                *(capacity_rows(kind, case, units, result, bought, years) for result in results),
                strict=True,
            )
            load = itemgetter(f"load_{kind.measures[-1].suffix}")
            for shown in rows:
                used = [row["utilization"] for row in shown]
                mean = None if None in used else np.average(used, weights=weights)
                table.add_fitting([{**max(shown, key=load), "mean_utilization": mean}], **key)

    def add_paths(self, *results: Result, **key: Any) -> None:
        """Add the paths of results that share them, whose rows ``key`` names.

        Of promised times the largest is shown, none where one is missing.
        """
        for rows in zip(*map(path_rows, results), strict=True):
            promised = [row["promised_s"] for row in rows]
            longest = None if None in promised else max(promised)
            self._paths.add_fitting([{**rows[0], "promised_s": longest}], **key)


def columns_of(columns: str, kind: ResourceKind) -> str:
    """Return names of columns, those with ``{0}`` once for each unit of a kind."""
    return " ".join(
        name
        for column in columns.split()
        for name in dict.fromkeys(column.format(measure.suffix) for measure in kind.measures)
    )


def capacity_rows(
    kind: ResourceKind,
    case: Case,
    units: FloatArray,
    result: Result,
    bought: FloatArray | None = None,
    years: FloatArray | None = None,
) -> list[dict[str, Any]]:
    """Return what is bought of all servers or links and how they are used, by column names."""
    place = {(r.kind, r.key): i for i, r in enumerate(case.resources)}
    now = units if bought is None else bought
    stood = units if years is None else years
    rows = []
    records = getattr(case.instance, kind.records)
    for record, row in zip(records, getattr(result, kind.records), strict=True):
        key = key_of(record)
        # An unlimited link is no resource: nothing of it is sold.
        i = place.get((kind, key))
        have = 0.0 if i is None else float(units[i])
        rows.append(
            {
                **dict(zip(PLACE_COLUMNS[kind.records], key, strict=True)),
                **{f"present_{m.suffix}": getattr(record, m.record) for m in kind.measures},
                **{f"capacity_{m.suffix}": getattr(row, m.capacity) for m in kind.measures},
                **{f"load_{m.suffix}": getattr(row, m.load) for m in kind.measures},
                "units": have,
                "units_bought": 0.0 if i is None else float(now[i]),
                "cost": 0.0
                if i is None
                else have * record.cost + float(stood[i]) * record.yearly_cost,
                "utilization": row.utilization,
            }
        )
    return rows


def path_rows(result: Result) -> list[dict[str, Any]]:
    """Return the path of every task, by the names of the columns."""
    return [
        {
            "task": row.task,
            "path": PATH_SEPARATOR.join(row.path),
            "rate_per_s": row.rate,
            "accuracy": row.accuracy,
            "accuracy_source": row.accuracy_source,
            "latency_s": row.latency,
            "promised_s": row.latency_promised,
        }
        for row in result.tasks
    ]
