"""A plan in operation: the upgraded edge with its paths and rates, checked as any result.

Whatever a planning model says, the plan is turned into an upgraded instance and a result for
it, which the independent checker recomputes from data: that is what the tables show.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from code_opt.checker import check
from code_opt.errors import CodeOptError
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance, Link, Server
from code_opt.paths.graph import FloatArray, IntArray, Topology, paid_steps
from code_opt.paths.resources import SERVER_TIME
from code_opt.plan_checker import check_plan
from code_opt.planning.case import Case, upgraded
from code_opt.planning.columns import TableBuilder
from code_opt.planning.plan import Kind as PlanKind
from code_opt.planning.plan import Plan, Status
from code_opt.planning.programs import ProgramOutcome
from code_opt.result import TOLERANCE, LinkResult, Result, ServerResult, TaskResult
from code_opt.reward import log_reward

PATH_SEPARATOR = " > "
_LISTED = 5
"""Violations that an error names."""


class PlanFailedCheckError(CodeOptError):
    """A plan did not pass the independent check: an error of this package."""


def finished_plan(
    kind: PlanKind,
    instance: Instance,
    begin: float,
    *,
    status: Status,
    gaps: Iterable[float | None],
    settings: Mapping[str, Any],
    tables: Sequence[TableBuilder],
    message: str | None = None,
) -> Plan:
    """Return a plan that the independent checker of plans confirms.

    Args:
        kind: of the analysis.
        instance: what it was asked about.
        begin: when it began, by ``time.perf_counter`` [s].
        status: the worst of all parts.
        gaps: proven gaps of its parts, None where nothing is proven.
        settings: what was asked.
        tables: what was found.
        message: why there is no plan, or not a whole one.

    Raises:
        PlanFailedCheckError: a requirement does not hold (never expected).
    """
    plan = Plan(
        schema="code-opt/plan/1",
        kind=kind,
        instance=instance.name,
        instance_digest=digest_of(instance),
        status=status,
        gap=max((gap for gap in gaps if gap is not None), default=None),
        seconds=time.perf_counter() - begin,
        message=message,
        settings=dict(settings),
        tables=tuple(table.table() for table in tables),
    )
    violations = check_plan(plan.to_dict(), instance)
    if violations:
        found = "; ".join(f"{v.rule} at {v.place}: {v.message}" for v in violations[:_LISTED])
        raise PlanFailedCheckError(f"the plan does not pass the check: {found}")
    return plan


def operate(
    case: Case,
    units: FloatArray,
    paths: IntArray,
    rates: FloatArray,
    demand: FloatArray,
    *,
    min_accuracy: float | None = None,
    floors: FloatArray | None = None,
) -> tuple[Result, Instance]:
    """Return the result of operating a plan, and the upgraded instance that it is for.

    Args:
        case: what was planned for.
        units: units bought of each server and link, shape (I,).
        paths: path of each task, shape (T,).
        rates: [inferences/s], shape (T,).
        demand: [inferences/s], shape (T,).
        min_accuracy: floor that was asked of the average accuracy.
        floors: rates that were promised [inferences/s], shape (T,).

    Raises:
        PlanFailedCheckError: a requirement does not hold (never expected).
    """
    instance = upgraded(case, units, demand, floors)
    topology = Topology(instance)
    capacity = {s.id: s.flops for s in instance.servers}
    loads = dict.fromkeys(capacity, 0.0)
    traffic = {(link.source, link.target): 0.0 for link in instance.links}
    rows = []
    walks = []
    for task, path in zip(instance.tasks, paths.tolist(), strict=True):
        graph = topology.task_graph(task)
        walks.append([graph.arcs[arc] for arc in graph.path_arcs(case.blocks(path)) or ()])
    paid: dict[int, list[int]] = {}
    for group in topology.groups:
        paid.update(zip(group, paid_steps([walks[t] for t in group]), strict=True))
    for t, task in enumerate(instance.tasks):
        path, rate = int(paths[t]), float(rates[t])
        # What an input group shares is paid by the first of its tasks: they have one rate.
        for step in (walks[t][position] for position in paid[t]):
            for resource, amount in step.use:
                limited = topology.resources[resource]
                if limited.kind is SERVER_TIME:
                    loads[limited.key[0]] += rate * amount * limited.capacity
            for source, target, size in step.hops:
                traffic[source, target] += rate * size
        rows.append(
            TaskResult(
                task=task.id,
                path=case.blocks(path),
                rate=rate,
                accuracy=float(case.accuracy[path]),
                accuracy_source="measured" if case.is_measured(path) else "predicted",
                latency=sum(step.seconds for step in walks[t]),
            )
        )
    accuracy, throughput = case.average_accuracy(paths), float(rates.sum())
    log_f = log_reward(instance.reward, accuracy, throughput)
    # Rewards that no number holds are of no interest here.
    is_shown = log_f < 700.0
    result = Result(
        schema="code-opt/result/1",
        instance=instance.name,
        method="plan",
        status="feasible",
        reward=float(np.exp(log_f)) if is_shown else None,
        throughput=throughput,
        accuracy=accuracy,
        tasks=tuple(rows),
        servers=tuple(
            ServerResult(server=s, load=loads[s], capacity=c, utilization=loads[s] / c)
            for s, c in capacity.items()
        ),
        links=tuple(
            LinkResult(
                source=link.source,
                target=link.target,
                load=traffic[link.source, link.target],
                capacity=link.bandwidth,
                utilization=None
                if link.bandwidth is None
                else traffic[link.source, link.target] / link.bandwidth,
            )
            for link in instance.links
        ),
        gap_tolerance=None,
        min_accuracy=min_accuracy,
        min_throughput=None,
        message=None,
    )
    violations = check(result, instance) if is_shown else []
    if violations:
        found = "; ".join(f"{v.rule} at {v.place}: {v.message}" for v in violations[:_LISTED])
        raise PlanFailedCheckError(f"the plan does not pass the check: {found}")
    return result, instance


def serves_all(result: Result, demand: FloatArray) -> bool:
    """Tell whether every rate is the task's demand, within the tolerance of results."""
    rates = np.array([row.rate for row in result.tasks])
    return bool((rates >= demand * (1.0 - TOLERANCE)).all())


def figures_of(case: Case, outcome: ProgramOutcome) -> dict[str, Any]:
    """Return cost, units and accuracy of a plan of one period, by the names of the columns."""
    assert outcome.paths is not None
    assert outcome.units is not None
    accuracy = case.average_accuracy(outcome.paths[0])
    return {
        "cost": outcome.cost,
        "bound": outcome.bound,
        "gap": outcome.gap,
        "units": outcome.units[0].sum(),
        "accuracy": accuracy,
        "accuracy_loss_points": 100.0 * (case.native_accuracy - accuracy),
    }


class OperationTables:
    """Servers, links and paths of plans, each named by some columns."""

    def __init__(self, key: str) -> None:
        work, traffic = (
            f"units cost present_{unit} capacity_{unit} load_{unit} utilization"
            for unit in ("flop_per_s", "bytes_per_s")
        )
        path = "task path rate_per_s accuracy accuracy_source latency_s"
        self.tables = (
            TableBuilder("servers", "Servers of each plan", f"{key} server {work}"),
            TableBuilder("links", "Links of each plan", f"{key} source target {traffic}"),
            TableBuilder("paths", "Paths of each plan", f"{key} {path}"),
        )

    def add(self, case: Case, units: FloatArray, result: Result, **key: Any) -> None:
        """Add the rows of one plan, which ``key`` names."""
        servers, links, paths = self.tables
        servers.add_all(server_rows(case, units, result), **key)
        links.add_all(link_rows(case, units, result), **key)
        paths.add_all(path_rows(result), **key)


def server_rows(case: Case, units: FloatArray, result: Result) -> list[dict[str, Any]]:
    """Return what is bought of every server and how it is used, by the names of the columns."""
    bought = dict(zip((r.key for r in case.resources), units.tolist(), strict=True))
    return [
        {
            "server": server.id,
            "present_flop_per_s": server.flops,
            "capacity_flop_per_s": row.capacity,
            "load_flop_per_s": row.load,
            **_bought(bought[(server.id,)], server, row),
        }
        for server, row in zip(case.instance.servers, result.servers, strict=True)
    ]


def link_rows(case: Case, units: FloatArray, result: Result) -> list[dict[str, Any]]:
    """Return what is bought of every link and how it is used, by the names of the columns."""
    bought = dict(zip((r.key for r in case.resources), units.tolist(), strict=True))
    return [
        {
            "source": link.source,
            "target": link.target,
            "present_bytes_per_s": link.bandwidth,
            "capacity_bytes_per_s": row.capacity,
            "load_bytes_per_s": row.load,
            # An unlimited link is no resource: nothing of it is sold.
            **_bought(bought.get((link.source, link.target), 0.0), link, row),
        }
        for link, row in zip(case.instance.links, result.links, strict=True)
    ]


def _bought(units: float, place: Server | Link, row: ServerResult | LinkResult) -> dict[str, Any]:
    return {"units": units, "cost": units * place.cost, "utilization": row.utilization}


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
        }
        for row in result.tasks
    ]
