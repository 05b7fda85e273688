"""Why an instance is infeasible, and the least change that would make it feasible."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyomo.core as pyo

from code_opt.core.evaluator import ChosenPath, Evaluator
from code_opt.core.settings import Clock, Settings
from code_opt.errors import SolverError
from code_opt.exact.models import path_data
from code_opt.heuristics.lns import search
from code_opt.paths import PathPool, TaskPaths, Topology, build_pool
from code_opt.paths.graph import FloatArray
from code_opt.paths.pool import limits_percentiles
from code_opt.paths.standalone import least_rates
from code_opt.solvers import Termination, open_session
from formulations import ElasticData, build_elastic_model
from formulations.elastic import elastic_rate

_KINDS = {
    "floor": "lower the rate floors",
    "capacity": "raise the capacities",
    "memory": "raise the memories, or the most changes of paths",
    "path": "relax the limits of tasks on accuracy and latency",
    "total": "lower the floors asked of the totals",
}
_SECONDS = 10.0
"""Time limit of each elastic model."""
_SMALLEST = 1e-7
"""Relative changes below this are none."""


def explain(topology: Topology, settings: Settings) -> str:
    """Return which requirement cannot be met and the least changes that would do.

    For each kind of requirement alone the elastic model tells the least sum of relative
    changes with which all others can be kept; where no kind is enough alone, all give
    way together.
    """
    if limits_percentiles(topology.instance):
        reason = _why_not_under_load(topology, settings)
        if reason is not None:
            return reason
    pool = build_pool(topology, relaxed=True)
    cut_off = [task for task in pool.tasks if len(task) == 0]
    if cut_off:
        return "\n".join(map(_why_no_path, cut_off))
    left_out = []
    if limits_percentiles(topology.instance):
        left_out = ["limits of latency under load are left out here: they may need more"]
    alone = list(_blocked_tasks(pool))
    options = [(kind, _least_change(pool, settings, frozenset([kind]))) for kind in _KINDS]
    found = [(kind, *change) for kind, change in options if change is not None]
    if not found:
        change = _least_change(pool, settings, frozenset(_KINDS))
        if change is None:
            if left_out:
                return (
                    "no assignment keeps all limits of latency under load; none was found with "
                    f"limits {_ROOMIEST:g} times as long, or with no least rates"
                )
            return "no assignment meets all requirements (no least change found in time)"
        lines = ["no assignment meets all requirements; the least change needs several kinds:"]
        return "\n".join([*lines, *(f"  {line}" for line in change[1]), *left_out])
    found.sort(key=lambda item: item[1])
    lines = ["no assignment meets all requirements"]
    lines += [f"  {line}" for line in alone]
    lines.append("least changes, each enough on its own:")
    for kind, _, changes in found:
        is_demand = kind == "floor" and settings.objective == "latency"
        what = "lower the demands" if is_demand else _KINDS[kind]
        lines.append(f"  {what}: " + "; ".join(changes))
    return "\n".join([*lines, *left_out])


_ROOMIER = 1.15
"""Limits are raised in steps of this factor to tell how far it takes."""
_ROOMIEST = 50.0
_LOWER = (0.95, 0.85, 0.7, 0.5, 0.3, 0.1, 0.0)
"""Shares of the floors that are tried, to tell how low they would have to be."""


def _why_not_under_load(topology: Topology, settings: Settings) -> str | None:
    """Return what limits of percentiles rule out; None where it is not they alone.

    The changes that it tells are enough: an assignment was found for each. Less may do.
    """
    limited = [
        task
        for task in topology.instance.tasks
        if task.max_latency is not None and task.latency_percentile is not None
    ]

    floors = least_rates(topology)

    def is_enough(factor: float, names: Collection[str], share: float = 1.0) -> bool:
        tasks = tuple(
            task.model_copy(
                update={"floor": floor * share}
                | ({"max_latency": (task.max_latency or 0.0) * factor} if task.id in names else {})
            )
            for task, floor in zip(topology.instance.tasks, floors, strict=True)
        )
        pool = build_pool(
            topology.instance.model_copy(update={"tasks": tasks}),
            topology.options,
        )
        if any(len(task) == 0 for task in pool.tasks):
            return False
        evaluator = Evaluator(pool, settings)
        try:
            found = search(evaluator, Clock(_SECONDS), seed=settings.seed, is_intensified=False)
        except SolverError:
            return False
        return found.solution is not None

    everybody = {task.id for task in limited}
    is_raising_enough = is_enough(_ROOMIEST, everybody)
    lines = ["no paths, rates and wait scales keep all limits of latency under load"]
    changes = []
    has_floors = any(floors) and settings.objective != "latency"  # there rates are demands
    share = next((x for x in _LOWER if has_floors and is_enough(1.0, (), x)), None)
    if share is not None:
        words = f"lower all rate floors by {100 * (1 - share):.3g} %"
        changes.append((1.0 / max(share, 1.0 / _ROOMIEST), words))
    elif not is_raising_enough:
        return None
    for task in [] if not is_raising_enough else [None, *limited] if limited[1:] else limited:
        names = everybody if task is None else {task.id}
        factor = _ROOMIER
        while factor < _ROOMIEST and not is_enough(factor, names):
            factor *= _ROOMIER
        if factor >= _ROOMIEST:
            continue
        if task is None:
            changes.append((factor, f"raise all limits under load by {100 * (factor - 1):.3g} %"))
        else:
            changes.append(
                (
                    factor,
                    f"raise max_latency of task {task.id!r} at percentile "
                    f"{task.latency_percentile:g} from {task.max_latency:g} to "
                    f"{(task.max_latency or 0.0) * factor:.6g} s",
                )
            )
    if changes:
        lines.append("changes that are enough, each on its own (found by search; less may do):")
        lines += [f"  {words}" for _, words in sorted(changes)]
    return "\n".join(lines)


def _why_no_path(task: TaskPaths) -> str:
    """Return why a task has no path, even where its limits do not count."""
    name, graph = task.task.id, task.graph
    if graph.is_empty:
        return (
            f"task {name!r} has no path at all: a listed link, or a device for its work, is "
            "missing on each"
        )
    least = float(graph.to_output(graph.drop)[0])
    return (
        f"task {name!r}: every path is predicted below accuracy 0 (best "
        f"{task.task.accuracy - least:.6g}); least change: lower the drops of its best path by "
        f"{least - task.task.accuracy:.6g} in all, or raise accuracy from {task.task.accuracy:.6g} "
        + (f"to {least:.6g}" if least <= 1.0 else f"(1 is not enough: the drops are {least:.6g})")
    )


def _blocked_tasks(pool: PathPool) -> Iterator[str]:
    """Yield the tasks that no path of their own can satisfy, whatever the others do."""
    for task in pool.tasks:
        if (_violations(task) > 0.0).all():
            limits = []
            if task.task.min_accuracy > 0.0:
                limits.append(
                    f"accuracy >= {task.task.min_accuracy:g} (best {task.paths.accuracy.max():.6g})"
                )
            if task.task.max_latency is not None:
                best = float(task.paths.seconds.min())
                limits.append(f"latency <= {task.task.max_latency:g} s (best {best:.6g} s)")
            yield f"task {task.task.id!r}: no path has " + " and ".join(limits)


def _violations(task: TaskPaths) -> FloatArray:
    """Return by how much each path is beyond the limits of its task, relative, shape (n,)."""
    total = np.zeros(len(task))
    if task.task.min_accuracy > 0.0:
        total += np.maximum(0.0, 1.0 - task.paths.accuracy / task.task.min_accuracy)
    if task.task.max_latency is not None:
        total += np.maximum(0.0, task.paths.seconds / task.task.max_latency - 1.0)
    return np.where(total > 1e-9, total, 0.0)


def _least_change(
    pool: PathPool, settings: Settings, elastic: frozenset[str]
) -> tuple[float, list[str]] | None:
    """Return the least sum of relative changes and what they are, or None if not enough."""
    violation = [_violations(task) for task in pool.tasks]
    if "path" not in elastic and any((v > 0.0).all() for v in violation):
        return None
    data = ElasticData(
        paths=path_data(pool, Evaluator(pool, settings).objective.goal),
        path_violation=np.concatenate(violation).tolist(),
        elastic=elastic,
    )
    model = build_elastic_model(data)
    try:
        session = open_session(model, threads=settings.threads, seed=settings.seed)
        outcome = session.solve(time_limit=_SECONDS, relative_gap=1e-4, absolute_gap=1e-6)
    except SolverError:
        return None  # advice must not cost the result that is explained
    if outcome.value is None or outcome.termination is not Termination.OPTIMAL:
        return None
    changes = list(_changes(pool, settings, data, model))
    if not changes:
        return None
    return sum(share for share, _ in changes), [words for _, words in changes]


def _changes(
    pool: PathPool, settings: Settings, data: ElasticData, model: pyo.ConcreteModel
) -> Iterator[tuple[float, str]]:
    """Yield each change of a solved elastic model: its relative size, and in words.

    The model tells paths and about which rates; from these the changes are worked out anew, so
    that they are exact however large they are.
    """
    evaluator, elastic = Evaluator(pool, settings), data.elastic
    first = np.cumsum([0, *(len(task) for task in pool.tasks)]).tolist()
    numbers = [
        int(np.argmax([_value(model.choose[p]) for p in range(start, end)]))
        for start, end in itertools.pairwise(first)
    ]
    paths = evaluator.paths(np.array(numbers))
    use = evaluator.use(paths)
    rates = np.array(
        [
            sum(c * _value(v) for c, v in elastic_rate(model, data, start + number))
            for start, number in zip(first, numbers, strict=False)
        ]
    )
    floors = np.array([task.floor for task in pool.tasks])
    if "floor" not in elastic:
        rates = np.maximum(rates, floors) if settings.min_throughput else floors
    load = evaluator.load(paths, rates)
    if "capacity" not in elastic:
        rates = rates / max(1.0, float(load[pool.topology.is_rate_resource].max(initial=0.0)))
    rates = _raised(evaluator, paths, rates, floors)
    load = evaluator.load(paths, rates)
    if "floor" in elastic:
        for group in pool.groups:
            rate, floor = float(rates[group.tasks[0]]), group.floor
            share = 1.0 - rate / floor if floor > 0.0 else 0.0
            if share > _SMALLEST:
                task = pool.tasks[group.tasks[0]].task
                what = f"task {task.id!r}"
                if task.input_group is not None:
                    what = f"input group {task.input_group!r}"
                word = "demand" if settings.objective == "latency" else "floor"
                yield share, f"{word} of {what} from {floor:.6g} to {rate:.6g} inferences/s"
    if "path" in elastic:
        violation = data.path_violation
        for start, limited, number in zip(first, pool.tasks, numbers, strict=False):
            if violation[start + number] > 0.0:
                for words in _limit_changes(limited, number):
                    yield violation[start + number], words
    for resource, used in zip(pool.resources, load.tolist(), strict=True):
        kind = "capacity" if resource.is_rate else "memory"
        if kind in elastic and used - 1.0 > _SMALLEST:
            yield (
                used - 1.0,
                f"{resource.name} from {resource.capacity:.6g} to {resource.capacity * used:.6g} "
                f"{resource.unit} (+{100 * (used - 1.0):.3g} %)",
            )
    if "total" in elastic:
        allocation = evaluator.allocator.allocate(use)
        most = float(rates.sum()) if allocation is None else allocation.throughput
        for name, least, found, unit in (
            ("average accuracy", settings.min_accuracy, evaluator.average_accuracy(paths), ""),
            ("throughput", settings.min_throughput, most, " inferences/s"),
        ):
            share = 1.0 - found / least if least else 0.0
            if share > _SMALLEST:
                yield share, f"floor of the {name} from {least:.6g} to {found:.6g}{unit}"


def _raised(
    evaluator: Evaluator, paths: Sequence[ChosenPath], rates: FloatArray, floors: FloatArray
) -> FloatArray:
    """Return rates raised towards their floors as far as capacities that are there anyway allow.

    Args:
        evaluator: knows the capacities; where the rates load more than that, this much is there.
        paths: of all tasks.
        rates: shape (T,).
        floors: shape (T,).
    """
    rates = rates.copy()
    there = np.maximum(evaluator.load(paths, rates), 1.0)
    uses = evaluator.use(paths)
    for group, padded in zip(evaluator.pool.groups, uses, strict=True):
        use = padded[: len(group.resources)]
        tasks = list(group.tasks)
        rate, floor = float(rates[tasks[0]]), float(floors[tasks[0]])
        if rate >= floor:
            continue
        room = (there - evaluator.load(paths, rates))[group.resources]
        used = (use > 0.0) & group.is_rate_resource
        more = float((np.maximum(room[used], 0.0) / use[used]).min(initial=np.inf))
        rates[tasks] = min(floor, rate + more)
    return rates


def _limit_changes(task: TaskPaths, number: int) -> Iterator[str]:
    accuracy, seconds = float(task.paths.accuracy[number]), float(task.paths.seconds[number])
    if accuracy < task.task.min_accuracy:
        yield (
            f"min_accuracy of task {task.task.id!r} from {task.task.min_accuracy:g} "
            f"to {accuracy:.6g}"
        )
    if task.task.max_latency is not None and seconds > task.task.max_latency:
        yield (
            f"max_latency of task {task.task.id!r} from {task.task.max_latency:g} "
            f"to {seconds:.6g} s"
        )


def _value(variable: pyo.Var) -> float:
    return float(variable.value or 0.0)
