"""The options of ``plan``, grouped by what they ask."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from code_opt.cli.methods import known_methods
from code_opt.cli.options import MAX_SEED, MAX_THREADS
from code_opt.cli.values import below_1, positive, share

_analysis = partial(typer.Option, rich_help_panel="What to answer (default: --least-cost)")
_demand = partial(typer.Option, rich_help_panel="Demand and floors")
_how = partial(typer.Option, rich_help_panel="How")


class Coordination(StrEnum):
    """Which paths a plan may use."""

    FULL = "full"
    EXITS = "exits"
    NONE = "none"


class PathRouting(StrEnum):
    """Whether paths may differ between the periods of a table of demands."""

    FIXED = "fixed"
    BY_PERIOD = "by-period"


class PlanObjective(StrEnum):
    """What marginal values and sweeps maximise."""

    REWARD = "reward"
    THROUGHPUT = "throughput"


@dataclass(frozen=True)
class Analyses:
    """Which questions a plan answers."""

    least_cost: Annotated[
        bool,
        _analysis(
            "--least-cost", help="Cheapest units and paths for each --growth and --max-loss."
        ),
    ] = False
    growth_path: Annotated[
        bool,
        _analysis("--growth-path", help="What to buy when: each --growth is a period, in order."),
    ] = False
    scenarios: Annotated[
        Path | None,
        _analysis(
            metavar="FILE.csv",
            help="Uncertain demand: scenario, probability, task, demand or factor.",
        ),
    ] = None
    failures: Annotated[
        bool,
        _analysis(
            "--failures",
            help="What each single failure of a server costs; the plan that survives all.",
        ),
    ] = False
    device_failures: Annotated[
        bool,
        _analysis(
            "--device-failures",
            help="Survive the failure of one device of any server, too; implies --together.",
        ),
    ] = False
    periods: Annotated[
        Path | None,
        _analysis(
            metavar="FILE.csv",
            help="Demand by the hour: task, and a column for each period; implies --together.",
        ),
    ] = None
    together: Annotated[
        bool,
        _analysis(
            "--together",
            help="One plan for all of --growth (a path), --periods, --scenarios, --failures and "
            "--device-failures, instead of one for each.",
        ),
    ] = False
    front: Annotated[
        bool,
        _analysis(
            "--front", help="Pareto front of throughput against accuracy, at present capacities."
        ),
    ] = False
    marginal: Annotated[
        bool, _analysis("--marginal", help="What a little more of each server and link is worth.")
    ] = False
    vary: Annotated[
        list[str] | None,
        _analysis(
            metavar="FIELD=VALUES",
            help="What if a field changes: servers\\[edge-a].flops=1e9:4e9:7 (or =1e9,2e9). "
            "May be repeated.",
        ),
    ] = None

    @property
    def is_together(self) -> bool:
        """Whether growth, hours, scenarios and failures make one plan."""
        return self.together or self.device_failures or self.periods is not None


@dataclass(frozen=True)
class DemandOptions:
    """The demand that is planned for, and what must be kept of it."""

    growth: Annotated[
        str | None,
        _demand(metavar="G,G,...", help="Factors on all demands.", show_default="1"),
    ] = None
    max_loss: Annotated[
        str | None,
        _demand(
            metavar="X,X,...", help="Most points of average accuracy lost against native paths."
        ),
    ] = None
    min_accuracy: Annotated[
        float | None, _demand(min=0.0, max=1.0, help="Floor of the average accuracy.")
    ] = None
    measured_only: Annotated[
        bool,
        _demand(
            "--measured-only",
            help="Only native paths, alternatives and measured paths: no accuracy is predicted.",
        ),
    ] = False
    demand: Annotated[
        float | None,
        _demand(min=0.0, help="Demand of tasks that have none, nor has their input group [1/s]."),
    ] = None
    served: Annotated[
        float, _demand(min=0.0, max=1.0, help="Share of uncertain demand that is served.")
    ] = 0.95
    keep: Annotated[
        float | None,
        _demand(
            min=0.0,
            max=1.0,
            help="Share of every demand kept under a failure. Default: the tasks' floors.",
        ),
    ] = None
    keep_devices: Annotated[
        float,
        _demand(min=0.0, max=1.0, help="Share of every demand kept when a device fails."),
    ] = 1.0


@dataclass(frozen=True)
class ComputationOptions:
    """How the analyses compute."""

    unit_flops: Annotated[
        float | None, _how(help="Unit of servers that have none in the instance [FLOP/s].")
    ] = None
    unit_devices: Annotated[
        float | None,
        _how(help="Devices in a unit of servers that have none, nor a unit in FLOP/s."),
    ] = None
    unit_bandwidth: Annotated[
        float | None, _how(help="Unit of links that have none \\[bytes/s].")
    ] = None
    max_utilization: Annotated[
        float | None,
        _how(
            min=0.0,
            max=1.0,
            callback=positive,
            help="Largest share of its time that a server sells, where the instance gives it none.",
        ),
    ] = None
    latency_percentile: Annotated[
        float | None,
        _how(
            metavar="Q",
            callback=share,
            help="Let limits of latency hold for this quantile under load, where a task has none.",
        ),
    ] = None
    discount: Annotated[
        float, _how(min=0.0, help="Discount rate of a period of the growth path.")
    ] = 0.0
    points: Annotated[str, _how(metavar="N|all", help="Most points of the front.")] = "25"
    step: Annotated[float, _how(help="Share of capacity that confirms a dual.")] = 0.05
    objective: Annotated[PlanObjective, _how(help="Of --marginal and --vary.")] = (
        PlanObjective.REWARD
    )
    sweep_method: Annotated[
        list[str] | None,
        _how(
            metavar="NAME",
            callback=known_methods("plan"),
            help="Methods of --vary; plan is the least cost. Default: exact, lns, local.",
        ),
    ] = None
    coordination: Annotated[
        list[Coordination] | None,
        _how(help="Paths that may be used. Default: all three side by side; full for the others."),
    ] = None
    routing: Annotated[
        list[PathRouting] | None,
        _how(
            help="Paths of a plan for --periods: the same in all of them, or by period; a plan for "
            "each. Default: fixed."
        ),
    ] = None
    solver: Annotated[str, _how(help="highs, or another MIP solver.")] = "highs"
    time_limit: Annotated[float | None, _how(help="Seconds for each program that is solved.")] = (
        60.0
    )
    gap: Annotated[float, _how(callback=below_1, help="Relative gap, from 0 to below 1.")] = 1e-4
    seed: Annotated[int, _how(min=0, max=MAX_SEED, help="Of heuristics.")] = 0
    threads: Annotated[int, _how(min=1, max=MAX_THREADS, help="Solver threads.")] = 1
    executor: Annotated[
        str, _how(help="serial, processes[:N], or dask[:ADDRESS]: for --front, --marginal, --vary.")
    ] = "serial"


@dataclass(frozen=True)
class OutputOptions:
    """Where plans go."""

    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write every plan as JSON, CSV and Parquet into DIR."),
    ] = None
    xlsx: Annotated[
        bool, typer.Option("--xlsx", help="Also an Excel workbook per plan (with --out).")
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of plans and nothing else.")
    ] = False
