"""The command ``plan``: what to buy, and what else an operator asks of an instance."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.folders import make_folder
from code_opt.cli.groups import with_groups
from code_opt.cli.loading import load_changed, values_of
from code_opt.cli.options import Changes
from code_opt.cli.plan_options import Analyses, ComputationOptions, DemandOptions, OutputOptions
from code_opt.cli.progress import Steps
from code_opt.cli.terminal import STOPPING, Console, complain_of_stop
from code_opt.cli.text import plain
from code_opt.errors import InputError
from code_opt.files import file_stem
from code_opt.stopping import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from code_opt.desk import PlanRequest
    from code_opt.instance import Instance
    from code_opt.instance.periods import Periods
    from code_opt.planning import Plan, PlanSettings, Scenarios, Variation
    from code_opt.planning.case import Coordination
    from code_opt.planning.combined import Routing


@with_groups
def plan(
    instance_path: Annotated[
        Path,
        typer.Argument(
            metavar="INSTANCE",
            help="JSON or YAML file, folder of CSV tables, or a workbook of `template`.",
        ),
    ],
    analyses: Analyses,
    demand: DemandOptions,
    how: ComputationOptions,
    output: OutputOptions,
    changes: Changes = None,
) -> ExitStatus:
    """Plan capacity: what to buy for which demand, when, and what coordination saves.

    The first Ctrl-C or SIGTERM ends the search as a time limit does, and what was found is
    kept; the second ends at once. Exit status: 0 done, 2 bad input, 3 infeasible at any size,
    4 stopped with nothing found, 130 interrupted, 143 terminated.
    """
    if output.xlsx and output.out is None:
        raise InputError("--xlsx: names no folder: add --out DIR")
    if how.time_limit is not None and not (math.isfinite(how.time_limit) and how.time_limit > 0.0):
        raise InputError(f"--time-limit {how.time_limit}: must be a number above 0")
    from code_opt.executors import executor_of

    stderr = Console(stderr=True)
    plans: list[Plan] = []
    _Targets.of(demand).check_single(analyses)
    with Steps(stderr) as tell:
        _settings(demand, how, tell)
        inputs = _Inputs.of(analyses, how)
        if output.out is not None:
            make_folder(output.out)
        instance, request = _instance(instance_path, changes, inputs.variations)
        asked, has_growth = [analyses], demand.growth is not None
        if request is not None:
            asked = _questions(request, analyses)
            demand, how = _as_requested(request, demand, how)
            inputs = replace(inputs, periods=inputs.periods or request.periods)
        targets = _Targets.of(demand)
        names = () if request is None or has_growth else request.years
        settings = _settings(demand, how, tell, names)
        planner = _Planner(instance, settings, targets, inputs, demand, how)
        tasks = [(one, place) for one in asked for place in range(len(planner.tasks(one)))]
        if instance.has_guesses:
            _tell_guesses(instance, stderr)
        with stop_on_signal(STOPPING) as stopped_by, executor_of(how.executor) as pool:
            for one, place in tasks:
                if stopped_by() is not None:
                    break
                plans.append(planner.plan(one, place, pool))
    if output.out is not None:
        _write(plans, output.out, instance, instance_path, output.xlsx, stderr)
    if output.as_json:
        print(json.dumps([found.to_dict() for found in plans], indent=1, allow_nan=False))
    else:
        from code_opt.cli.plan_tables import show_plans

        show_plans(plans, Console(highlight=False), sold=settings.sells_units(instance))
    status = _status(plans, stderr)
    if (number := stopped_by()) is not None:
        left = len(tasks) - len(plans)
        return complain_of_stop(number, [f"{left} more of the analyses"] if left else [])
    return status


@dataclass(frozen=True)
class _Targets:
    """Growths of demand, and limits of the loss of accuracy."""

    growths: list[float]
    losses: Sequence[float | None]

    @classmethod
    def of(cls, demand: DemandOptions) -> _Targets:
        """Read the lists of numbers."""
        growths = _numbers("--growth", demand.growth or "1")
        if demand.max_loss is None:
            return cls(growths, [None])
        return cls(growths, _numbers("--max-loss", demand.max_loss))

    def check_single(self, analyses: Analyses) -> None:
        """Refuse several growths or limits where an analysis takes one of each."""
        for name, wanted in (
            ("--scenarios", analyses.scenarios is not None),
            ("--failures", analyses.failures),
        ):
            if wanted and len(self.growths) > 1 and not analyses.is_together:
                raise InputError(
                    f"{name}: takes one --growth, {len(self.growths)} are given; --together makes "
                    "one plan for all of them"
                )
            self._check_loss(name, wanted)
        self._check_loss("--growth-path", analyses.growth_path)
        self._check_loss("--together", analyses.is_together)

    def _check_loss(self, name: str, wanted: bool) -> None:
        if wanted and len(self.losses) > 1:
            raise InputError(f"{name}: takes one --max-loss, {len(self.losses)} are given")


@dataclass(frozen=True)
class _Inputs:
    """What options name that has to be read before an analysis can start."""

    variations: list[Variation]
    most_points: int | None
    scenarios: Scenarios | None
    periods: Periods | None

    @classmethod
    def of(cls, analyses: Analyses, how: ComputationOptions) -> _Inputs:
        """Read the variations, the number of points, the scenarios and the periods."""
        from code_opt import planning
        from code_opt.instance.periods import load_periods

        scenarios = None
        if analyses.scenarios is not None:
            scenarios = planning.load_scenarios(analyses.scenarios)
            if scenarios.notice is not None:
                print(plain(scenarios.notice), file=sys.stderr, flush=True)
        return cls(
            variations=[planning.parse_variation(text) for text in analyses.vary or []],
            most_points=_points(how.points),
            scenarios=scenarios,
            periods=None if analyses.periods is None else load_periods(analyses.periods),
        )


@dataclass(frozen=True)
class _Planner:
    """The analyses of an instance; each of its methods makes one plan."""

    instance: Instance
    settings: PlanSettings
    targets: _Targets
    inputs: _Inputs
    demand: DemandOptions
    how: ComputationOptions

    def tasks(self, analyses: Analyses) -> list[Callable[[Executor | None], Plan]]:
        """Return the analyses that are asked for; without any, the least cost."""
        together = analyses.is_together
        others: list[tuple[bool, Callable[[Executor | None], Plan]]] = [
            (analyses.growth_path and not together, self.growth_path),
            (analyses.scenarios is not None and not together, self.scenarios),
            (analyses.failures and not together, self.failures),
            *((together, partial(self.combined, analyses, name)) for name in self._combined_for()),
            (analyses.front, self.front),
            (analyses.marginal, self.marginal),
            (bool(analyses.vary), self.sweep),
        ]
        tasks = [task for is_wanted, task in others if is_wanted]
        return [self.least_cost, *tasks] if analyses.least_cost or not tasks else tasks

    def plan(self, analyses: Analyses, place: int, pool: Executor | None) -> Plan:
        """Return the plan of one of the analyses, with the range of guessed drops if there are."""
        from code_opt.planning import with_drop_range

        return with_drop_range(
            self.instance,
            lambda instance: replace(self, instance=instance).tasks(analyses)[place](pool),
        )

    def least_cost(self, _: Executor | None) -> Plan:
        """Find the cheapest units for each growth and limit of loss."""
        return code_opt.plan_least_cost(
            self.instance,
            self.settings,
            growth=self.targets.growths,
            max_loss=self.targets.losses,
            coordinations=self._coordinations(),
        )

    def growth_path(self, _: Executor | None) -> Plan:
        """Find what to buy in which period."""
        return code_opt.plan_growth(
            self.instance,
            self.settings,
            growth=self.targets.growths,
            max_loss=self.targets.losses[0],
            discount=self.how.discount,
            coordinations=self._coordinations(),
        )

    def scenarios(self, _: Executor | None) -> Plan:
        """Find the cheapest units for uncertain demand."""
        assert self.inputs.scenarios is not None
        return code_opt.plan_scenarios(
            self.instance,
            self.inputs.scenarios,
            self.settings,
            growth=self.targets.growths[-1],
            max_loss=self.targets.losses[0],
            served=self.demand.served,
            coordination=self._coordination(),
        )

    def failures(self, _: Executor | None) -> Plan:
        """Find what failures cost, and the units that survive them."""
        return code_opt.plan_failures(
            self.instance,
            self.settings,
            growth=self.targets.growths[-1],
            max_loss=self.targets.losses[0],
            keep=self.demand.keep,
            coordination=self._coordination(),
        )

    def combined(self, analyses: Analyses, coordination: Coordination, _: Executor | None) -> Plan:
        """Find the cheapest units for growth, hours, scenarios and failures together."""
        routings = [routing.value for routing in self.how.routing or []]
        return code_opt.plan_combined(
            self.instance,
            self.settings,
            growth=self.targets.growths,
            periods=self.inputs.periods,
            scenarios=self.inputs.scenarios,
            failures=analyses.failures,
            device_failures=analyses.device_failures,
            keep=self.demand.keep,
            keep_devices=self.demand.keep_devices,
            routings=cast("list[Routing]", routings) or ("fixed",),
            discount=self.how.discount,
            max_loss=self.targets.losses[0],
            coordination=coordination,
        )

    def front(self, pool: Executor | None) -> Plan:
        """Find the Pareto front of throughput and accuracy."""
        return code_opt.plan_front(
            self.instance, self.settings, points=self.inputs.most_points, executor=pool
        )

    def marginal(self, pool: Executor | None) -> Plan:
        """Find what a little more capacity is worth."""
        return code_opt.plan_marginal(
            self.instance,
            self.settings,
            objective=self.how.objective.value,
            step=self.how.step,
            executor=pool,
        )

    def sweep(self, pool: Executor | None) -> Plan:
        """Solve variations of the instance."""
        from code_opt.planning import SWEEP_METHODS

        return code_opt.plan_sweep(
            self.instance,
            self.settings,
            vary=self.inputs.variations,
            methods=tuple(dict.fromkeys(self.how.sweep_method or SWEEP_METHODS)),
            objective=self.how.objective.value,
            max_loss=self.targets.losses[0],
            executor=pool,
        )

    def _coordinations(self) -> Any:
        """Return the coordinations to compare, each once; all of them by default."""
        from code_opt.planning import COORDINATIONS

        asked = [coordination.value for coordination in self.how.coordination or []]
        return tuple(dict.fromkeys(asked)) or COORDINATIONS

    def _combined_for(self) -> tuple[Coordination, ...]:
        """Return the coordinations of plans for everything together: full beside none."""
        return self._coordinations() if self.how.coordination else ("full", "none")

    def _coordination(self) -> Any:
        """Return the coordination of an analysis that takes one."""
        return self.how.coordination[0].value if self.how.coordination else "full"


def _settings(
    demand: DemandOptions,
    how: ComputationOptions,
    tell: Callable[[str], None],
    period_names: tuple[str, ...] = (),
) -> PlanSettings:
    """Return the settings that all analyses share."""
    from code_opt.planning import PlanSettings

    return PlanSettings(
        min_accuracy=demand.min_accuracy,
        measured_only=demand.measured_only,
        demand=demand.demand,
        unit_flops=how.unit_flops,
        unit_devices=how.unit_devices,
        unit_bandwidth=how.unit_bandwidth,
        max_utilization=how.max_utilization,
        latency_percentile=how.latency_percentile,
        gap=how.gap,
        time_limit=how.time_limit,
        solver=how.solver,
        threads=how.threads,
        seed=how.seed,
        period_names=period_names,
        progress=tell,
    )


def _instance(
    path: Path, changes: Sequence[str] | None, variations: Sequence[Variation]
) -> tuple[Instance, PlanRequest | None]:
    """Read an instance that has all fields that are to vary, and what a workbook asks for."""
    from code_opt.desk import is_workbook, load_request
    from code_opt.planning import check_field

    request = load_request(path) if is_workbook(path) else None
    if request is None:
        instance = load_changed(path, changes)
    elif changes:
        instance = request.instance.with_(values_of(changes), source=f"{path} with --set")
    else:
        instance = request.instance
    for variation in variations:
        check_field(instance, variation.field)
    return instance, request


def _questions(request: PlanRequest, analyses: Analyses) -> list[Analyses]:
    """Return what to answer: what is asked for, else what a workbook holds numbers for.

    That is what coordination saves over the years, at the largest demand of each service; and, if
    there are demands by the hour or something has to be kept under failures, one plan for all.
    """
    if any(getattr(analyses, field.name) for field in fields(analyses)):
        return [analyses]
    several = len(request.years) > 1
    found = [replace(analyses, growth_path=several, least_cost=not several)]
    if request.periods is not None or request.keep is not None:
        found.append(replace(analyses, together=True, failures=request.keep is not None))
    return found


def _as_requested(
    request: PlanRequest, demand: DemandOptions, how: ComputationOptions
) -> tuple[DemandOptions, ComputationOptions]:
    """Return the options with what a workbook asks for, where the command line says nothing."""
    if demand.growth is None:
        demand = replace(demand, growth=",".join(map(repr, request.growth)))
    if demand.max_loss is None and request.max_loss is not None:
        demand = replace(demand, max_loss=repr(request.max_loss))
    if demand.keep is None:
        demand = replace(demand, keep=request.keep)
    return demand, replace(how, discount=how.discount or request.discount)


def _tell_guesses(instance: Instance, stderr: Console) -> None:
    """Say how many drops are guesses, before anything rests on them."""
    flags = [c.is_guessed for task in instance.tasks for c in task.connections]
    stderr.print(
        f"{sum(flags)} of {len(flags)} connections have guessed drops: what is saved is a range, "
        "planned for low, middle and high ones",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _status(plans: Sequence[Plan], stderr: Console) -> ExitStatus:
    """Return the exit status: that of the worst plan without anything in it."""
    from code_opt.planning import is_comparison

    status = ExitStatus.DONE
    for found in plans:
        if is_comparison(found, plans):
            continue
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


def _write(
    plans: Sequence[Plan],
    out: Path,
    instance: Instance,
    instance_path: Path,
    xlsx: bool,
    stderr: Console,
) -> None:
    from code_opt.planning import (
        can_write_parquet,
        cut_cells,
        export_tables,
        save_plan,
        save_states,
    )

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
        if found.kind == "combined" and found.settings.get("coordination") != "full":
            name += f"-{found.settings['coordination']}"
        save_plan(found, out / f"{name}.json")
        export_tables(found, out, name, parquet=parquet, xlsx=xlsx)
        save_states(found, instance, out / f"{name}.states")
        cut = cut_cells(found) if xlsx else 0
        if cut:
            stderr.print(
                f"{name}.xlsx: {cut} texts are longer than a cell of a workbook can be, and cut "
                "there; the CSV files have them whole",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
