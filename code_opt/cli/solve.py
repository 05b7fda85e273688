"""The command ``solve``: methods side by side on one instance, or on many."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import code_opt
from code_opt.cli.batch import is_batch, solve_batch, tell_left_out
from code_opt.cli.exits import ExitStatus, status_of
from code_opt.cli.folders import make_folder
from code_opt.cli.loading import load_changed, load_result
from code_opt.cli.methods import (
    ALL,
    OWN,
    known_methods,
    methods_that_begin,
    methods_to_run,
)
from code_opt.cli.options import (
    AccuracyFloor,
    Changes,
    ChangesFront,
    Formulation,
    Gap,
    LatencyPercentile,
    MaxChanges,
    MaxUtilization,
    MeasuredOnly,
    Objective,
    Overwrite,
    PreviousResult,
    Seed,
    Threads,
    ThroughputFloor,
    TimeLimit,
)
from code_opt.cli.progress import ProgressReport
from code_opt.cli.reasons import message_of, why_nothing
from code_opt.cli.terminal import STOPPING, Console, complain, complain_of_stop, print_line
from code_opt.cli.text import percent, plain, plain_lines
from code_opt.errors import InputError
from code_opt.files import file_stem, write_atomically
from code_opt.stopping import is_stop_requested, stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.answers import Answers
    from code_opt.instance import Instance
    from code_opt.result import Result


def solve(
    instance_paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="INSTANCE...",
            help="JSON or YAML file, folder (CSV tables or instance.json), or - for standard "
            "input; several, or a folder of instances.",
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            callback=known_methods(ALL),
            autocompletion=methods_that_begin,
            help=f"Method to run; may be repeated: {OWN}, an installed one, or {ALL}.",
            show_default=ALL,
        ),
    ] = None,
    formulation: Annotated[
        Formulation,
        typer.Option(help="Formulation of the exact method; auto takes path or colgen by size."),
    ] = Formulation.AUTO,
    objective: Annotated[
        Objective,
        typer.Option(help="What to maximise; latency: to minimise, every task at its demand."),
    ] = Objective.REWARD,
    min_accuracy: AccuracyFloor = None,
    min_throughput: ThroughputFloor = None,
    latency_percentile: LatencyPercentile = None,
    max_utilization: MaxUtilization = None,
    measured_only: MeasuredOnly = False,
    previous: PreviousResult = None,
    max_changes: MaxChanges = None,
    changes_front: ChangesFront = False,
    changes: Changes = None,
    winners_curse: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            help="Estimate by N splits of the validation images by how much accuracy and reward "
            "are too high, the best having been chosen, and correct them; solves 2 N times more.",
        ),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="highs, or another MIP solver that Pyomo finds installed.")
    ] = "highs",
    solver_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option passed to the solver; may be repeated."),
    ] = None,
    time_limit: TimeLimit = None,
    gap: Gap = 1e-4,
    seed: Seed = 0,
    threads: Threads = 1,
    solver_log: Annotated[
        bool, typer.Option("--solver-log", help="Show the solver's log on stderr.")
    ] = False,
    second_opinion: Annotated[
        bool,
        typer.Option(
            "--second-opinion",
            help="Prove the last program of exact again: by SCIP if installed, else by HiGHS with "
            "other settings.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write one result file per method into DIR."),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Part of the names of the files in --out."),
    ] = None,
    overwrite: Overwrite = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write status, figures and utilization in Prometheus' text format."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write duals that bound the objective, for check --certificate: valid without "
            "any solver.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of results and nothing else.")
    ] = False,
    executor: Annotated[
        str | None,
        typer.Option(
            help="Where many instances run: serial, processes[:N], or dask[:ADDRESS].",
            show_default="processes",
        ),
    ] = None,
) -> ExitStatus:
    """Find the best path assignment: exact, heuristics and baselines side by side.

    Many instances give one table; with --out a second run goes on where a first one stopped.
    The first Ctrl-C or SIGTERM ends the search as a time limit does, and what was found is
    kept; the second ends at once. Exit status: 0 done, 2 bad input, 3 infeasible, 4 stopped with
    nothing found, 130 interrupted, 143 terminated; of many instances, the worst.
    """
    options: dict[str, Any] = {
        "formulation": formulation.value,
        "objective": objective.value,
        "min_accuracy": min_accuracy,
        "min_throughput": min_throughput,
        "latency_percentile": latency_percentile,
        "max_utilization": max_utilization,
        "solver": solver,
        "time_limit": time_limit,
        "gap": gap,
        "seed": seed,
        "threads": threads,
        "solver_options": _solver_options(solver_option or []),
    }
    if measured_only:
        options["measured_only"] = True
    if second_opinion:
        options["second_opinion"] = True
    if (max_changes is not None or changes_front) and previous is None:
        name = "--changes-front" if changes_front else "--max-changes"
        raise InputError(f"{name}: needs --previous, the result to count changes from")
    if changes_front and any(name != "exact" for name in method or []):
        raise InputError("--changes-front: is proven, so for --method exact only")
    if changes_front and winners_curse is not None:
        raise InputError("--winners-curse: of one solve, so not with --changes-front")
    if out is None and (tag or overwrite):
        name = "--tag" if tag else "--overwrite"
        raise InputError(f"{name}: needs --out, the folder of the results")
    if executor is not None or is_batch(instance_paths):
        alone: dict[str, object] = {
            "--solver-log": solver_log,
            "--set": changes,
            "--previous": previous,
        }
        alone |= {"--metrics": metrics, "--certificate": certificate}
        alone["--winners-curse"] = winners_curse
        for name, value in alone.items():
            if value:
                raise InputError(f"{name}: for one instance only")
        if out is not None:
            make_folder(out)
        methods = methods_to_run(method or [])
        return solve_batch(instance_paths, methods, options, executor, out, as_json, tag, overwrite)
    (instance_path,) = instance_paths
    if out is not None:
        make_folder(out)
    clock = _CommandClock()
    instance = load_changed(instance_path, changes)
    clock.read()
    for name, file in (("--metrics", metrics), ("--certificate", certificate)):
        if file is not None:
            if changes_front:
                raise InputError(f"{name}: of one solve, so not with --changes-front")
            make_folder(file.parent, name)
    answers = None
    if winners_curse is not None:
        from code_opt.answers import load_answers

        if changes:
            raise InputError("--winners-curse: for the instance as it was measured, without --set")
        answers = load_answers(instance, instance_path)
    files = _Files(out, instance, instance_path, tag)
    tell_left_out(instance_path)
    if previous is not None:
        options |= {"previous": load_result(previous, "solve INSTANCE --previous RESULT")}
        options |= {"max_changes": max_changes}
    if changes_front:
        most = len(instance.tasks) if max_changes is None else max_changes
        files.check([f"exact.changes-{k}" for k in range(most + 1)], overwrite)
        return _front(instance, options, files, as_json)
    methods = methods_to_run(method or [])
    files.check(methods, overwrite)
    if len(methods) == 1:
        options["time_limit"] = clock.left(time_limit)
    with stop_on_signal(STOPPING) as stopped_by:
        results = _solve_by_each(instance, methods, options, solver_log)
    if answers is not None and stopped_by() is None:
        results = _with_curse(results, instance, answers, options, winners_curse or 1)
    for result in results:
        files.save(result, result.method)
    if metrics is not None and results:
        from code_opt.cli.metrics import metrics_text

        write_atomically(metrics, metrics_text(results))
    if certificate is not None:
        _certify(certificate, instance, results, time_limit)
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2, allow_nan=False))
    elif results:
        _show(results, instance)
    status = status_of(results)
    if status is not ExitStatus.DONE:
        complain(why_nothing(results, status))
    if (number := stopped_by()) is not None:
        return complain_of_stop(number, methods[len(results) :])
    return status


CHECKING = 2.0
"""Seconds that the check of a result takes, per second that reading the instance took: both grow
with the instance alone."""


class _CommandClock:
    """Time that a command has left for a method: what reading took, and checking will take, is off.

    Python's imports, which no instance makes longer, do not count.
    """

    def __init__(self) -> None:
        import code_opt.instance  # noqa: F401 (imports do not count)

        self._start = time.perf_counter()
        self._reading = 0.0

    def read(self) -> None:
        """Note that the instance has been read."""
        self._reading = time.perf_counter() - self._start

    def left(self, limit: float | None) -> float | None:
        """Return the limit of the method [s], None without one; never nothing at all."""
        if limit is None:
            return None
        return max(limit - (1.0 + CHECKING) * self._reading, 0.01 * limit)


class _Files:
    """The result files of one instance in the folder of ``--out``; without one, nothing."""

    def __init__(
        self, out: Path | None, instance: Instance, instance_path: Path, tag: str | None
    ) -> None:
        self._out, self._instance, self._tag = out, instance, tag
        self._stem = file_stem(instance.name or instance_path.resolve().stem)

    def _paths(self, methods: Sequence[str]) -> list[Path]:
        if self._out is None:
            return []
        from code_opt.result import result_name

        return [self._out / result_name(self._stem, name, self._tag) for name in methods]

    def check(self, methods: Sequence[str], overwrite: bool) -> None:
        """Refuse a wrong tag and, unless asked to, to replace results of another state."""
        from code_opt.instance.digest import digest_of
        from code_opt.result import refuse_results_of_another_state

        paths = self._paths(methods)
        if not overwrite and any(path.is_file() for path in paths):
            refuse_results_of_another_state(paths, digest_of(self._instance))

    def save(self, result: Result, method: str) -> None:
        """Write a result under the name of a method."""
        for path in self._paths([method]):
            code_opt.save_result(result, path)


def _front(instance: Instance, options: dict[str, Any], files: _Files, as_json: bool) -> ExitStatus:
    """Show and write the best results for K = 0, 1, 2, ... changes of paths."""
    from code_opt.cli.progress import Steps

    asked = {name: value for name, value in options.items() if name != "max_changes"}
    most, previous = options["max_changes"], asked.pop("previous")
    with stop_on_signal(STOPPING) as stop, Steps(Console(stderr=True)) as tell:
        results = code_opt.changes_front(
            instance,
            previous,
            most=most,
            tell=lambda found: tell(f"{found.max_changes} changes: {found.status}"),
            **asked,
        )
    for result in results:
        files.save(result, f"exact.changes-{result.max_changes}")
    status = status_of(results)
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2, allow_nan=False))
    else:
        from code_opt.cli.tables import changes_table

        console = Console(highlight=False)
        title = f"{plain(instance.name or 'instance')}: highest {results[0].objective}, by the most"
        print_line(console, f"{title} changes of paths\n")
        console.print(changes_table(results, console))
    if status is not ExitStatus.DONE:
        complain(why_nothing(results, status))
    number = stop()
    return status if number is None else complain_of_stop(number, [])


def _certify(
    file: Path, instance: Instance, results: Sequence[Result], time_limit: float | None
) -> None:
    """Write duals for the problem that all results are of, if one of them is an assignment."""
    from code_opt.certificate import save_certificate

    found = next((result for result in results if result.has_solution), None)
    certificate = found and code_opt.certify(instance, found, time_limit=time_limit)
    if certificate:
        save_certificate(certificate, file)
    else:
        why = "no assignment to bound" if found is None else "the time was over before"
        complain(f"--certificate: {file} is not written: {why}")


def _solve_by_each(
    instance: Instance,
    methods: Sequence[str],
    options: dict[str, Any],
    solver_log: bool,
) -> list[Result]:
    """Return the results of the methods, up to a request to stop."""
    stderr = Console(stderr=True)
    results: list[Result] = []
    for name in methods:
        if is_stop_requested():
            break
        with ProgressReport(stderr, name, living=not solver_log) as report:
            results.append(
                code_opt.solve(
                    instance, method=name, **options, solver_log=solver_log, progress=report
                )
            )
    return results


def _with_curse(
    results: Sequence[Result],
    instance: Instance,
    answers: Answers,
    options: dict[str, Any],
    splits: int,
) -> list[Result]:
    """Return the results with the winner's curse of those that hold an assignment."""
    from code_opt.cli.progress import Steps
    from code_opt.optimism import with_winners_curse

    found = []
    with Steps(Console(stderr=True)) as tell:
        for result in results:
            if result.has_solution:

                def told(number: int, name: str = result.method) -> None:
                    tell(f"winner's curse of {name}: half {number} of {2 * splits}")

                result = with_winners_curse(
                    result,
                    instance,
                    answers,
                    partial(code_opt.solve, method=result.method, **options),
                    splits=splits,
                    seed=options["seed"],
                    tell=told,
                )
            found.append(result)
    return found


def _solver_options(texts: Sequence[str]) -> dict[str, str]:
    """Return options as text: only the solver knows the type of each."""
    options: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError(f"--solver-option: {text!r}: expected NAME=VALUE")
        if name in options:
            raise InputError(f"--solver-option: {name!r} is given twice")
        options[name] = value
    return options


def _show(results: Sequence[Result], instance: Instance) -> None:
    from code_opt.cli.tables import (
        adapter_table,
        curse_table,
        link_table,
        methods_table,
        promise_table,
        server_table,
        task_table,
    )
    from code_opt.wording import changes_in_words, chosen, reading

    console = Console(highlight=False)
    objective = results[0].objective
    asked = f"{'lowest' if objective == 'latency' else 'highest'} {objective}"
    if results[0].min_accuracy is not None:
        asked += f", average accuracy at least {results[0].min_accuracy:g}"
    if results[0].min_throughput is not None:
        asked += f", throughput at least {results[0].min_throughput:g}/s"
    if results[0].latency_percentile is not None:
        asked += f", limits of latency at percentile {results[0].latency_percentile:g}"
    if results[0].max_utilization is not None:
        asked += f", utilization at most {percent(results[0].max_utilization)}"
    if results[0].measured_only:
        asked += ", known accuracies only"
    if results[0].max_changes is not None:
        asked += f", at most {results[0].max_changes} changes of paths"
    print_line(console, f"{plain(instance.name or 'instance')}: {asked}\n")
    console.print(methods_table(results, console))
    console.print()
    for line in reading(results):
        print_line(console, line)
    cursed = [result for result in results if result.winners_curse is not None]
    if cursed:
        console.print()
        print_line(console, "The winner's curse: what choosing by the validation images adds\n")
        console.print(curse_table(cursed, console))
    detailed = chosen(results)
    if detailed is None:  # the messages follow on stderr
        return
    for result in results:
        if result.message:
            print_line(console, f"{result.method}: {plain_lines(message_of(result))}")
    double = "⇒" if console.encoding.lower().startswith("utf") else "=>"
    console.print()
    title = f"Paths of {plain(detailed.method)} ({double} marks a learned connection)"
    print_line(console, f"{title}\n")
    console.print(task_table(detailed, instance, console))
    console.print()
    if detailed.changes is not None:
        print_line(console, f"{changes_in_words(detailed)}\n")
    if detailed.adapters:
        console.print(adapter_table(detailed.adapters, console))
        console.print()
    promises = promise_table(detailed, instance, console)
    if promises is not None:
        print_line(console, "Latency under load\n")
        console.print(promises)
        console.print()
    console.print(server_table(detailed, instance, console))
    if detailed.links:
        console.print()
        console.print(link_table(detailed, console))
