"""The command ``plan``: what to buy, and what else an operator asks of an instance."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.methods import known_methods
from code_opt.cli.options import MAX_SEED, MAX_THREADS
from code_opt.cli.progress import Steps
from code_opt.cli.terminal import STOPPING, Console, complain_of_interrupt
from code_opt.cli.values import below_1
from code_opt.errors import InputError
from code_opt.files import file_stem
from code_opt.stopping import stop_on_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from code_opt.instance import Instance
    from code_opt.planning import Plan


class Coordination(StrEnum):
    """Which paths a plan may use."""

    FULL = "full"
    EXITS = "exits"
    NONE = "none"


class Worth(StrEnum):
    """What capacity is worth something for."""

    REWARD = "reward"
    THROUGHPUT = "throughput"


_WHAT, _DEMAND, _HOW = "What to answer (default: --least-cost)", "Demand and floors", "How"


def plan(
    instance_path: Annotated[
        Path, typer.Argument(metavar="INSTANCE", help="JSON or YAML file, or folder of CSV tables.")
    ],
    least_cost: Annotated[
        bool,
        typer.Option(
            "--least-cost",
            rich_help_panel=_WHAT,
            help="Cheapest units and paths for each --growth and --max-loss.",
        ),
    ] = False,
    growth_path: Annotated[
        bool,
        typer.Option(
            "--growth-path",
            rich_help_panel=_WHAT,
            help="What to buy when: each --growth is a period, in order.",
        ),
    ] = False,
    scenarios: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            rich_help_panel=_WHAT,
            help="Uncertain demand: scenario, probability, task, demand or factor.",
        ),
    ] = None,
    failures: Annotated[
        bool,
        typer.Option(
            "--failures",
            rich_help_panel=_WHAT,
            help="What each single failure of a server costs; the plan that survives all.",
        ),
    ] = False,
    front: Annotated[
        bool,
        typer.Option(
            "--front",
            rich_help_panel=_WHAT,
            help="Pareto front of throughput against accuracy, at present capacities.",
        ),
    ] = False,
    marginal: Annotated[
        bool,
        typer.Option(
            "--marginal",
            rich_help_panel=_WHAT,
            help="What a little more of each server and link is worth.",
        ),
    ] = False,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUES",
            rich_help_panel=_WHAT,
            help="What if a field changes: servers\\[edge-a].flops=1e9:4e9:7 (or =1e9,2e9). "
            "May be repeated.",
        ),
    ] = None,
    growth: Annotated[
        str,
        typer.Option(metavar="G,G,...", rich_help_panel=_DEMAND, help="Factors on all demands."),
    ] = "1",
    max_loss: Annotated[
        str | None,
        typer.Option(
            metavar="X,X,...",
            rich_help_panel=_DEMAND,
            help="Most points of average accuracy lost against native paths.",
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, rich_help_panel=_DEMAND, help="Floor of the average accuracy."
        ),
    ] = None,
    demand: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            rich_help_panel=_DEMAND,
            help="Demand of tasks that have none, nor has their input group [1/s].",
        ),
    ] = None,
    served: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            rich_help_panel=_DEMAND,
            help="Share of uncertain demand that is served.",
        ),
    ] = 0.95,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            rich_help_panel=_DEMAND,
            help="Share of every demand kept under a failure. Default: the tasks' floors.",
        ),
    ] = None,
    unit_flops: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_HOW, help="Unit of servers that have none in the instance [FLOP/s]."
        ),
    ] = None,
    unit_bandwidth: Annotated[
        float | None,
        typer.Option(rich_help_panel=_HOW, help="Unit of links that have none \\[bytes/s]."),
    ] = None,
    discount: Annotated[
        float,
        typer.Option(
            min=0.0, rich_help_panel=_HOW, help="Discount rate of a period of the growth path."
        ),
    ] = 0.0,
    points: Annotated[
        str,
        typer.Option(metavar="N|all", rich_help_panel=_HOW, help="Most points of the front."),
    ] = "25",
    step: Annotated[
        float, typer.Option(rich_help_panel=_HOW, help="Share of capacity that confirms a dual.")
    ] = 0.05,
    objective: Annotated[
        Worth, typer.Option(rich_help_panel=_HOW, help="Of --marginal and --vary.")
    ] = Worth.REWARD,
    sweep_method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=known_methods("plan"),
            rich_help_panel=_HOW,
            help="Methods of --vary; plan is the least cost. Default: exact, lns, local.",
        ),
    ] = None,
    coordination: Annotated[
        list[Coordination] | None,
        typer.Option(
            rich_help_panel=_HOW,
            help="Paths that may be used. Default: all three side by side; full for the others.",
        ),
    ] = None,
    solver: Annotated[
        str, typer.Option(rich_help_panel=_HOW, help="highs, or another MIP solver.")
    ] = "highs",
    time_limit: Annotated[
        float | None,
        typer.Option(rich_help_panel=_HOW, help="Seconds for each program that is solved."),
    ] = 60.0,
    gap: Annotated[
        float,
        typer.Option(
            callback=below_1, rich_help_panel=_HOW, help="Relative gap, from 0 to below 1."
        ),
    ] = 1e-4,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, rich_help_panel=_HOW, help="Of heuristics.")
    ] = 0,
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, rich_help_panel=_HOW, help="Solver threads.")
    ] = 1,
    executor: Annotated[
        str,
        typer.Option(
            rich_help_panel=_HOW,
            help="serial, processes[:N], or dask[:ADDRESS]: for --front, --marginal, --vary.",
        ),
    ] = "serial",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write every plan as JSON, CSV and Parquet into DIR."),
    ] = None,
    xlsx: Annotated[
        bool, typer.Option("--xlsx", help="Also an Excel workbook per plan (with --out).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of plans and nothing else.")
    ] = False,
) -> ExitStatus:
    """Plan capacity: what to buy for which demand, when, and what coordination saves.

    The first Ctrl-C ends the search as a time limit does, and what was found is kept; the
    second ends at once. Exit status: 0 done, 2 bad input, 3 infeasible at any size, 4 stopped
    with nothing found, 130 interrupted.
    """
    growths = _numbers("--growth", growth)
    losses = [None] if max_loss is None else _numbers("--max-loss", max_loss)
    if xlsx and out is None:
        raise InputError("--xlsx: names no folder: add --out DIR")
    if time_limit is not None and not (math.isfinite(time_limit) and time_limit > 0.0):
        raise InputError(f"--time-limit {time_limit}: must be a number above 0")
    from code_opt import planning
    from code_opt.executors import executor_of

    stderr = Console(stderr=True)
    with Steps(stderr) as tell:
        settings = planning.PlanSettings(
            min_accuracy=min_accuracy,
            demand=demand,
            unit_flops=unit_flops,
            unit_bandwidth=unit_bandwidth,
            gap=gap,
            time_limit=time_limit,
            solver=solver,
            threads=threads,
            seed=seed,
            progress=tell,
        )
        one = _one(growths, losses, scenarios is not None, failures, growth_path)
        variations = [planning.parse_variation(text) for text in vary or []]
        most_points = _points(points)
        table = None if scenarios is None else planning.load_scenarios(scenarios)
        if out is not None:
            make_folder(out)
        instance = code_opt.load_instance(instance_path)
        for variation in variations:
            planning.check_field(instance, variation.field)
        asked = [c.value for c in coordination or []]
        several: Any = tuple(dict.fromkeys(asked)) or planning.COORDINATIONS
        single: Any = asked[0] if asked else "full"
        tasks: list[Callable[[Executor | None], Plan]] = []
        if least_cost or not (growth_path or table or failures or front or marginal or vary):
            tasks.append(
                lambda _: planning.plan_least_cost(
                    instance, settings, growth=growths, max_loss=losses, coordinations=several
                )
            )
        if growth_path:
            tasks.append(
                lambda _: planning.plan_growth(
                    instance,
                    settings,
                    growth=growths,
                    max_loss=losses[0],
                    discount=discount,
                    coordinations=several,
                )
            )
        if table is not None:
            tasks.append(
                lambda _: planning.plan_scenarios(
                    instance, table, settings, served=served, coordination=single, **one
                )
            )
        if failures:
            tasks.append(
                lambda _: planning.plan_failures(
                    instance, settings, keep=keep, coordination=single, **one
                )
            )
        if front:
            tasks.append(
                lambda pool: planning.plan_front(
                    instance, settings, points=most_points, executor=pool
                )
            )
        if marginal:
            tasks.append(
                lambda pool: planning.plan_marginal(
                    instance, settings, objective=objective.value, step=step, executor=pool
                )
            )
        if vary:
            methods = sweep_method or planning.SWEEP_METHODS
            tasks.append(
                lambda pool: planning.plan_sweep(
                    instance,
                    settings,
                    vary=variations,
                    methods=tuple(dict.fromkeys(methods)),
                    objective=objective.value,
                    max_loss=losses[0],
                    executor=pool,
                )
            )
        plans: list[Plan] = []
        with stop_on_interrupt(STOPPING) as was_interrupted, executor_of(executor) as pool:
            for task in tasks:
                if was_interrupted():
                    break
                plans.append(task(pool))
    if out is not None:
        _write(plans, out, instance, instance_path, xlsx, stderr)
    if as_json:
        print(json.dumps([found.to_dict() for found in plans], indent=1, allow_nan=False))
    else:
        from code_opt.cli.plan_tables import show_plans

        show_plans(plans, Console(highlight=False), sold=settings.sells_units(instance))
    status = _status(plans, stderr)
    if was_interrupted():
        left = len(tasks) - len(plans)
        return complain_of_interrupt([f"{left} more of the analyses"] if left else [])
    return status


def _status(plans: Sequence[Plan], stderr: Console) -> ExitStatus:
    """Return the exit status: that of the worst plan without anything in it."""
    status = ExitStatus.DONE
    for found in plans:
        if found.status == "infeasible" and found.message:
            part = "in part " if found.has_any else ""
            stderr.print(
                f"{found.kind}: {part}infeasible at any size: {_first_reasons(found)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if not found.has_any and found.status == "infeasible":
            return ExitStatus.INFEASIBLE
        if not found.has_any:
            status = ExitStatus.NOTHING_FOUND
    return status


def _first_reasons(found: Plan) -> str:
    """Return the reasons that a terminal shows."""
    first, others = found.reasons
    more = [f"... and {len(others)} more (--json, --out)"] if others else []
    return "\n".join([*first, *more])


def _numbers(option: str, text: str) -> list[float]:
    """Return the numbers of a list separated by commas."""
    found = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0.0 or "_" in part:
            raise InputError(
                f"{option} {text!r}: {part!r} is no number of at least 0; "
                "write them with points, separated by commas: 1,1.5,2"
            )
        found.append(value)
    return found


def _points(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or not 2 <= int(text) <= 10_000:
        raise InputError(f"--points {text!r}: expected all, or a number from 2 to 10000")
    return int(text)


def _one(
    growths: list[float],
    losses: Sequence[float | None],
    scenarios: bool,
    failures: bool,
    growth_path: bool,
) -> dict[str, Any]:
    """Return the one growth and limit of loss of analyses that take one of each."""
    for name, wanted in (("--scenarios", scenarios), ("--failures", failures)):
        if wanted and len(growths) > 1:
            raise InputError(f"{name}: takes one --growth, {len(growths)} are given")
        if wanted and len(losses) > 1:
            raise InputError(f"{name}: takes one --max-loss, {len(losses)} are given")
    if growth_path and len(losses) > 1:
        raise InputError(f"--growth-path: takes one --max-loss, {len(losses)} are given")
    return {"growth": growths[0], "max_loss": losses[0]}


def _write(
    plans: Sequence[Plan],
    out: Path,
    instance: Instance,
    instance_path: Path,
    xlsx: bool,
    stderr: Console,
) -> None:
    from code_opt.planning import can_write_parquet, cut_cells, export_tables, save_plan

    parquet = can_write_parquet()
    if not parquet:
        stderr.print(
            "no Parquet files: they need pyarrow (pip install 'code-opt[tables]')",
            markup=False,
            highlight=False,
        )
    stem = file_stem(instance.name or instance_path.resolve().stem)
    for found in plans:
        name = f"{stem}.plan-{found.kind}"
        save_plan(found, out / f"{name}.json")
        export_tables(found, out, name, parquet=parquet, xlsx=xlsx)
        cut = cut_cells(found) if xlsx else 0
        if cut:
            stderr.print(
                f"{name}.xlsx: {cut} texts are longer than a cell of a workbook can be, and cut "
                "there; the CSV files have them whole",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
