"""The sub-commands.

Results go to stdout, progress and logs to stderr. Exit statuses are those of
:class:`code_opt.cli.exits.ExitStatus`. Solver, Pyomo and pandas load only when a
command needs them, so that ``--help`` and usage errors answer at once.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.text import Text

import code_opt
from code_opt.cli.batch import is_batch, solve_batch, tell_left_out
from code_opt.cli.exits import ExitStatus, status_of
from code_opt.cli.folders import make_folder
from code_opt.cli.generate import generate
from code_opt.cli.methods import ALL, OWN, known_methods, methods_to_run
from code_opt.cli.plan import plan, plan_in
from code_opt.cli.progress import ProgressReport
from code_opt.cli.reasons import message_of, why_nothing
from code_opt.cli.report import report as report_command
from code_opt.cli.terminal import (
    PROGRAM,
    STOPPING,
    Console,
    complain,
    complain_of_interrupt,
    guarded,
    leave,
    prepared_shell,
)
from code_opt.cli.text import count, number, plain, plain_lines, product
from code_opt.cli.values import below_1, finite, positive
from code_opt.errors import InputError
from code_opt.files import file_stem
from code_opt.stopping import stop_on_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from code_opt.instance import Instance
    from code_opt.result import Result

MAX_SEED = 2**31 - 1
MAX_THREADS = 1024

app = typer.Typer(
    name=PROGRAM,
    help="Provably best inference paths for coordinated deep neural networks at the edge.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Formulation(StrEnum):
    """How the exact method works."""

    AUTO = "auto"
    PATH = "path"
    FLOW = "flow"
    COLGEN = "colgen"


class ExportedFormulation(StrEnum):
    """Mixed-integer formulations that are one model."""

    PATH = "path"
    FLOW = "flow"


class Objective(StrEnum):
    """What is maximised."""

    REWARD = "reward"
    THROUGHPUT = "throughput"
    ACCURACY = "accuracy"


class Search(StrEnum):
    """How paths to measure are chosen."""

    CODE = "code"
    LNS = "lns"
    EXACT = "exact"
    EXHAUSTIVE = "exhaustive"
    RANDOM = "random"


class Dtype(StrEnum):
    """Types of numbers."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Arrivals(StrEnum):
    """How inferences arrive."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Feed(StrEnum):
    """How the edge is fed."""

    RATES = "rates"
    SATURATED = "saturated"
    OVERLOADED = "overloaded"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on ``arguments`` (default: the process's own) and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    with prepared_shell():
        return guarded(lambda: _run(given))


def _run(arguments: list[str]) -> int:
    """Run one command.

    Raises:
        InputError: the arguments are wrong.
    """
    for place, argument in enumerate(arguments, start=1):
        # A path that is empty would be the current folder, an option's value its default.
        if re.fullmatch(r"(--[a-z-]+=)?", argument):
            what = "" if not argument else f" ({argument})"
            raise InputError(f"argument {place} is empty{what}: is a variable of the shell unset?")
    try:
        status = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:  # usage errors, found before a command runs
        # Choices are checked by pydantic, which names its own kind of error first.
        message = error.format_message().replace(": Value error, ", ": ", 1)
        raise InputError(message) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:  # how typer ends when the reader of a pipe leaves
        raise BrokenPipeError from None
    return status or ExitStatus.DONE


def run() -> NoReturn:
    """Run the program and leave with its exit status (the installed command)."""
    leave(main())


def _command(function: Callable[..., ExitStatus]) -> Callable[..., None]:
    """Turn a function that returns an exit status, or raises, into a command."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(guarded(lambda: function(*args, **kwargs)))

    return command


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"{PROGRAM} {code_opt.__version__}")
        raise typer.Exit(ExitStatus.DONE)
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(ExitStatus.DONE)


InstanceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INSTANCE",
        help="JSON or YAML file, or folder of CSV tables or with instance.json.",
    ),
]


@app.command("solve")
@_command
def solve(
    instance_paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="INSTANCE...",
            help="JSON or YAML file, or folder of CSV tables or with instance.json; several, or a "
            "folder of instances.",
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            callback=known_methods(ALL),
            help=f"Method to run; may be repeated: {OWN}, an installed one, or {ALL}.",
            show_default=ALL,
        ),
    ] = None,
    formulation: Annotated[
        Formulation,
        typer.Option(help="Formulation of the exact method; auto takes path or colgen by size."),
    ] = Formulation.AUTO,
    objective: Annotated[Objective, typer.Option(help="What to maximise.")] = Objective.REWARD,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, callback=finite, help="Floor of the average accuracy."),
    ] = None,
    min_throughput: Annotated[
        float | None,
        typer.Option(min=0.0, callback=finite, help="Floor of the total rate \\[inferences/s]."),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="highs, or another MIP solver that Pyomo finds installed.")
    ] = "highs",
    solver_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option passed to the solver; may be repeated."),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(callback=positive, help="Seconds for each method.")
    ] = None,
    gap: Annotated[
        float,
        typer.Option(callback=below_1, help="Relative gap that ends exact, from 0 to below 1."),
    ] = 1e-4,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of lns and random.")] = 0,
    threads: Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Solver threads.")] = 1,
    solver_log: Annotated[
        bool, typer.Option("--solver-log", help="Show the solver's log on stderr.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write one result file per method into DIR."),
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
    The first Ctrl-C ends the search as a time limit does, and what was found is kept; the
    second ends at once. Exit status: 0 done, 2 bad input, 3 infeasible, 4 stopped with nothing
    found, 130 interrupted; of many instances, the worst.
    """
    options: dict[str, Any] = {
        "formulation": formulation.value,
        "objective": objective.value,
        "min_accuracy": min_accuracy,
        "min_throughput": min_throughput,
        "solver": solver,
        "time_limit": time_limit,
        "gap": gap,
        "seed": seed,
        "threads": threads,
        "solver_options": _solver_options(solver_option or []),
    }
    if executor is not None or is_batch(instance_paths):
        if solver_log:
            raise InputError("--solver-log: for one instance only")
        if out is not None:
            make_folder(out)
        methods = methods_to_run(method or [])
        return solve_batch(instance_paths, methods, options, executor, out, as_json)
    (instance_path,) = instance_paths
    if out is not None:
        make_folder(out)
    instance = code_opt.load_instance(instance_path)
    tell_left_out(instance_path)
    stderr = Console(stderr=True)
    results = []
    methods = methods_to_run(method or [])
    with stop_on_interrupt(STOPPING) as was_interrupted:
        for name in methods:
            if was_interrupted():
                break
            with ProgressReport(stderr, name, living=not solver_log) as report:
                results.append(
                    code_opt.solve(
                        instance,
                        method=name,
                        **options,
                        solver_log=solver_log,
                        progress=report,
                    )
                )
    if out is not None:
        stem = file_stem(instance.name or instance_path.resolve().stem)
        for result in results:
            code_opt.save_result(result, out / f"{stem}.{file_stem(result.method)}.json")
    status = status_of(results)
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2, allow_nan=False))
    elif results:
        _show(results, instance)
    if status is not ExitStatus.DONE:
        complain(why_nothing(results, status))
    if was_interrupted():
        return complain_of_interrupt(methods[len(results) :])
    return status


@app.command("validate")
@_command
def validate(instance_path: InstanceArgument) -> ExitStatus:
    """Check an instance and say what it holds, or list all that is wrong with it.

    Exit status: 0 valid, 2 not valid.
    """
    instance = code_opt.load_instance(instance_path)
    from code_opt.paths import count_paths

    paths = dict(zip((task.id for task in instance.tasks), count_paths(instance), strict=True))
    tasks = instance.tasks
    counts = {
        "servers": len(instance.servers),
        "links": len(instance.links),
        "DNNs": len(instance.dnns),
        "blocks": sum(len(dnn.blocks) for dnn in instance.dnns),
        "tasks": len(tasks),
        "connections": sum(len(task.connections) for task in tasks),
        "measured paths": sum(len(task.measured_paths) for task in tasks),
    }
    console = Console(highlight=False)
    _print(console, f"{plain(instance_path)}: ok ({plain(instance.name or 'without a name')})")
    _print(console, "  " + ", ".join(f"{count(n)} {name}" for name, n in counts.items()))
    groups: dict[str, list[str]] = {}
    for task in tasks:
        if task.input_group is not None:
            groups.setdefault(task.input_group, []).append(plain(task.id))
    for group, members in groups.items():
        _print(console, f"  input group {plain(group)}: {', '.join(members)}")
    _print(console, "  paths per task:")
    for name, paths_of_task in paths.items():
        _print(console, f"    {plain(name)}: {count(paths_of_task)}")
    _print(console, f"  {product(paths.values())} path assignments in all")
    _print(console, f"  planning: {_for_sale(instance)}")
    return ExitStatus.DONE


def _for_sale(instance: Instance) -> str:
    """Return what a plan finds in an instance: demands, units, and servers that run nothing."""
    demands = [task.demand for task in instance.tasks if task.demand is not None]
    servers = sum(server.unit_flops is not None for server in instance.servers)
    links = sum(link.unit_bandwidth is not None for link in instance.links)
    text = (
        f"a demand for {count(len(demands))} of {count(len(instance.tasks))} tasks, "
        f"{number(sum(demands))}/s in all\n"
        f"  for sale: units of {count(servers)} of {count(len(instance.servers))} servers"
    )
    if instance.links:
        text += f" and {count(links)} of {count(len(instance.links))} links"
    used = {dnn.server for dnn in instance.dnns}
    idle = [plain(server.id) for server in instance.servers if server.id not in used]
    if idle:
        more = f" and {count(len(idle) - 5)} more" if len(idle) > 5 else ""
        text += f"\n  servers without a network: {', '.join(idle[:5])}{more}"
    return text


@app.command("check")
@_command
def check(
    result_path: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Result file, or file of a plan.")
    ],
    instance_path: InstanceArgument,
) -> ExitStatus:
    """Recompute everything in a result, or a plan, from the instance alone.

    An instance that changed since is told with what still holds. Exit status: 0 confirmed,
    1 not confirmed (of a changed instance never more than that), 2 bad input.
    """
    from code_opt.checker import CHANGED
    from code_opt.instance.digest import changed_parts
    from code_opt.wording import UNKNOWN_CHANGE, after_change

    found: Any = plan_in(result_path)
    is_plan = found is not None
    found = found if is_plan else _result(result_path, "check RESULT INSTANCE")
    instance = code_opt.load_instance(instance_path)
    if is_plan:
        violations = code_opt.check_plan(found.to_dict(), instance)
        kind, has_any, bound = f"plan {found.kind}", found.has_any, None
    else:
        violations = code_opt.check(found, instance)
        kind, has_any, bound = found.method, found.has_solution, found.bound
    # Of another instance everything differs: that is all there is to say.
    violations = [v for v in violations if v.rule == "instance-name"] or violations
    console = Console(highlight=False)
    changed = any(v.rule == CHANGED for v in violations)
    if not violations:
        what = "every figure and requirement" if has_any else "nothing to recompute"
        _print(
            console,
            f"{plain(result_path)}: confirmed ({plain(kind)}, {found.status}; {what})",
        )
        if changed_parts(found.instance_digest, instance) is None:
            _print(console, f"  {UNKNOWN_CHANGE}")
        return ExitStatus.DONE
    for violation in violations:
        _print(
            console,
            f"{plain(violation.rule)}: {plain(violation.place)}: {plain(violation.message)}",
        )
    _print(console, f"{plain(result_path)}: not confirmed, {_violations(len(violations))}")
    if changed:
        holds, lost = after_change(
            found.status,
            bound,
            found.gap,
            holds_anything=has_any,
            is_else_confirmed=len(violations) == 1,
        )
        _print(console, f"  still holds: {holds}\n  not confirmed: {lost}")
    return ExitStatus.NOT_CONFIRMED


@app.command("profile")
@_command
def profile(
    config_path: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="What to profile: a YAML or JSON file.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for instance, bundle and tables.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", envvar="CODE_OPT_DATA", help="Folder that holds the data sets."
        ),
    ] = Path("datasets"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    search: Annotated[
        Search | None, typer.Option(help="Instead of the config's search.method.")
    ] = None,
    executor: Annotated[
        str,
        typer.Option(help="serial, processes[:N], or dask[:ADDRESS]: where paths are measured."),
    ] = "serial",
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Threads of torch on a CPU.")
    ] = 1,
) -> ExitStatus:
    """Profile real networks: train services and adapters, measure, write an instance.

    Stopped or killed, the same command goes on where it was. Exit status: 0 done, 2 bad input.
    """
    from code_opt.profiling.config import load_config

    config = load_config(config_path)
    make_folder(out)
    stderr = Console(stderr=True)
    # torch takes seconds to load: a wrong config is told before.
    from code_opt.cli.profile_report import StageReport, show_profile
    from code_opt.executors import executor_of
    from code_opt.profiling.pipeline import profile as run_profile
    from code_opt.profiling.preparation import make_place

    place = make_place(config_path, out, data, device, threads)
    with executor_of(executor) as pool, StageReport(stderr) as report:
        found = run_profile(
            config,
            place,
            method=None if search is None else search.value,
            executor=pool,
            report=report,
        )
    show_profile(found, Console(highlight=False), out)
    return ExitStatus.DONE


@app.command("evaluate")
@_command
def evaluate(
    instance_path: InstanceArgument,
    result_paths: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="Result files of this instance.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", envvar="CODE_OPT_DATA", help="Folder that holds the data sets."
        ),
    ] = Path("datasets"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600.0, help="Length of every measurement.")
    ] = 4.0,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Most images at once.")] = 32,
    dtype: Annotated[
        Dtype, typer.Option(help="Of weights and activations in the timing on the device.")
    ] = Dtype.FLOAT32,
    arrivals: Annotated[
        Arrivals, typer.Option(help="How inferences arrive at the edge.")
    ] = Arrivals.CONSTANT,
    feed: Annotated[
        list[Feed] | None,
        typer.Option(help="How the edge is fed; may be repeated. Default: all three."),
    ] = None,
    no_edge: Annotated[
        bool, typer.Option("--no-edge", help="Measure accuracy and speed on the device only.")
    ] = False,
    fine_tune: Annotated[
        bool,
        typer.Option(
            "--fine-tune", help="First train adapters of paths that were never trained together."
        ),
    ] = False,
    write_back: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the instance with these paths measured, and its bundle."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write all tables as CSV into DIR.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of Poisson arrivals.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Threads of torch per process.")
    ] = 1,
) -> ExitStatus:
    """Run results for real and check what they promise: throughput, latency, accuracy.

    Exit status: 0 all confirmed, 1 not all confirmed, 2 bad input.
    """
    # Results first: where the order is wrong, the first of them is the instance.
    order = "evaluate INSTANCE RESULT..."
    loaded = [(path, _result(path, order)) for path in result_paths]
    instance = code_opt.load_instance(instance_path)
    results = {}
    for path, result in loaded:
        name = path.stem.removeprefix(f"{file_stem(instance.name)}.") or path.stem
        while name in results:
            name += "'"
        results[name] = result
    for folder in (out, write_back):
        if folder is not None:
            make_folder(folder)
    # torch takes seconds to load: wrong files are told before.
    from code_opt.cli.evaluation_report import show_evaluation
    from code_opt.cli.profile_report import StageReport
    from code_opt.evaluation.pipeline import FEEDS, Options, save_evaluation, use_device
    from code_opt.evaluation.pipeline import evaluate as run_evaluation
    from code_opt.evaluation.subject import Subject, bundle_of

    asked = FEEDS if not feed else tuple(f.value for f in feed)
    options = Options(
        device=use_device(device, threads),
        dtype=dtype.value,
        batch=batch,
        seconds=seconds,
        arrivals=arrivals.value,
        feeds=() if no_edge else asked,
        fine_tune=fine_tune,
        threads=threads,
        seed=seed,
    )
    subject = Subject(instance, bundle_of(instance, instance_path), data)
    with StageReport(Console(stderr=True)) as report:
        found = run_evaluation(subject, results, options, write_back=write_back, report=report)
    if out is not None:
        save_evaluation(found, out, options)
    show_evaluation(found, options, Console(highlight=False))
    return ExitStatus.DONE if found.confirmed else ExitStatus.NOT_CONFIRMED


app.command("report")(_command(report_command))


@app.command("export")
@_command
def export(
    instance_path: InstanceArgument,
    to: Annotated[Path, typer.Option("--to", help="File to write: NAME.mps or NAME.lp.")],
    formulation: Annotated[
        ExportedFormulation, typer.Option(help="Which model to write.")
    ] = ExportedFormulation.PATH,
    objective: Annotated[Objective, typer.Option(help="What it maximises.")] = Objective.REWARD,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, callback=finite, help="Floor of the average accuracy."),
    ] = None,
    min_throughput: Annotated[
        float | None,
        typer.Option(min=0.0, callback=finite, help="Floor of the total rate \\[inferences/s]."),
    ] = None,
) -> ExitStatus:
    """Write the mixed-integer model as an MPS or LP file for any other solver.

    Exit status: 0 written, 2 bad input.
    """
    if to.suffix.lower() not in {".mps", ".lp"}:
        raise InputError(f"--to: {to}: the name must end in .mps or .lp")
    instance = code_opt.load_instance(instance_path)
    make_folder(to.parent, "--to")
    from code_opt.methods.exact import build_model
    from code_opt.methods.settings import Settings
    from code_opt.solvers import write_model

    settings = Settings(
        formulation=formulation.value,
        objective=objective.value,
        min_accuracy=min_accuracy,
        min_throughput=min_throughput,
    )
    write_model(build_model(instance, settings), to)
    print(f"Written: {plain(to)} ({formulation.value} formulation)")
    return ExitStatus.DONE


app.command("generate")(_command(generate))
app.command("plan")(_command(plan))


def _result(path: Path, order: str) -> Result:
    """Read a result; where the file is an instance, say so and the right order of arguments."""
    try:
        return code_opt.load_result(path)
    except InputError:
        from code_opt.instance.files import is_instance

        if is_instance(path):
            raise InputError(
                f"{path}: an instance, not a result; the order is: {PROGRAM} {order}"
            ) from None
        raise


def _violations(number: int) -> str:
    return "1 violation" if number == 1 else f"{number} violations"


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
    from code_opt.cli.tables import link_table, methods_table, server_table, task_table
    from code_opt.wording import chosen, reading

    console = Console(highlight=False)
    asked = f"highest {results[0].objective}"
    if results[0].min_accuracy is not None:
        asked += f", average accuracy at least {results[0].min_accuracy:g}"
    if results[0].min_throughput is not None:
        asked += f", throughput at least {results[0].min_throughput:g}/s"
    _print(console, f"{plain(instance.name or 'instance')}: {asked}\n")
    console.print(methods_table(results, console))
    console.print()
    for line in reading(results):
        _print(console, line)
    detailed = chosen(results)
    if detailed is None:  # the messages follow on stderr
        return
    for result in results:
        if result.message:
            _print(console, f"{result.method}: {plain_lines(message_of(result))}")
    double = "⇒" if console.encoding.lower().startswith("utf") else "=>"
    console.print()
    _print(console, f"Paths of {plain(detailed.method)} ({double} marks a learned connection)\n")
    console.print(task_table(detailed, instance, console))
    console.print()
    console.print(server_table(detailed, console))
    if detailed.links:
        console.print()
        console.print(link_table(detailed, console))


def _print(console: Console, line: str) -> None:
    """Print text as it is: no markup, wrapped only where the terminal ends."""
    console.print(Text(line), soft_wrap=not console.is_terminal)
