"""From the pool to a formulation and back: data in, start values in, assignment out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyomo.core as pyo

from code_opt.core.bounds import most_accurate
from code_opt.core.columns import ColumnTable
from code_opt.core.evaluator import (
    ChosenPath,
    Solution,
    is_admissible,
    path_in_pool,
    path_of,
)
from code_opt.core.joint_tasks import JointTask, single_tasks
from code_opt.core.objective import ObjectiveFunction, accuracy_unit
from code_opt.core.settings import Settings
from code_opt.core.shared_prefixes import SharedPrefixes
from code_opt.paths import PathPool, TaskGraph, TaskPaths
from code_opt.paths.graph import FloatArray, Step
from code_opt.reward import log_value
from formulations import (
    FlowData,
    FlowPair,
    FlowTask,
    Goal,
    PathData,
    Rows,
    build_flow_model,
    build_path_model,
    exclude_path,
)


class ModelView(Protocol):
    """A model of one pool, in the terms of assignments."""

    model: pyo.ConcreteModel

    @property
    def pool(self) -> PathPool:
        """The paths that it is a model of."""

    @property
    def goal(self) -> Goal:
        """What is maximised, and in which units."""

    def start_at(self, solution: Solution) -> None:
        """Set the model's variables to an assignment."""

    def paths(self) -> list[ChosenPath]:
        """Return the assignment that the model's variables hold."""

    def exclude(self, paths: Sequence[ChosenPath]) -> list[Any]:
        """Cut off paths that a task must not take; return the constraints."""


Words = dict[str, Callable[[Any], Sequence[str]]]
"""By the name of a component of a model: what one of its indices stands for."""


class ExchangeView(ModelView, Protocol):
    """A view whose model other solvers can be given, and whose solutions can come from them."""

    def words(self) -> Words:
        """Return the words for indices: ids of tasks, blocks, servers and links."""

    def task_without_path(self) -> str | None:
        """Return the id of a task for which the variables hold no path, None without one."""


def path_data(pool: PathPool, goal: Goal) -> PathData:
    """Return the pool as the path formulation takes it."""
    table = ColumnTable(pool, single_tasks(pool))
    shared = SharedPrefixes.of(table)
    return PathData(
        task_names=[task.task.id for task in pool.tasks],
        **_of_columns(table, shared),
        goal=goal,
        groups=shared.groups,
        prefixes=shared.columns_by_task(table.task),
    )


def joint_path_data(pool: PathPool, joint_tasks: Sequence[JointTask], goal: Goal) -> PathData:
    """Return joint tasks and joint paths as the path formulation takes tasks and paths.

    A joint path of an input group is one path here, at the throughput of all its tasks, so that
    nothing is left that tasks would share. Without groups this is :func:`path_data`.
    """
    table = ColumnTable(pool, joint_tasks)
    return PathData(
        task_names=[" + ".join(t.task.id for t in task.tasks) for task in joint_tasks],
        **_of_columns(table, SharedPrefixes.none(table, table.use_per_inference)),
        goal=goal,
    )


def _of_columns(table: ColumnTable, shared: SharedPrefixes) -> dict[str, Any]:
    """Return the fields of :class:`PathData` that follow from columns and what they share."""
    names = [resource.name for resource in table.pool.resources]
    resources = np.unique(np.concatenate([task.resources for task in table.joint_tasks]))
    is_rate = table.pool.topology.is_rate_resource[resources]
    return {
        "weight": table.weights.tolist(),
        "floor": table.floor.tolist(),
        "task_of": table.task.tolist(),
        "accuracy": table.mean_accuracy.tolist(),
        "most_rate": table.most.tolist(),
        "seconds": table.mean_time.tolist(),
        "rate_rows": shared.rows(resources[is_rate], names),
        "memory_rows": shared.rows(resources[~is_rate], names),
    }


Entries = dict[int, list[tuple[int, float]]]
"""Of each resource: who uses it, and how much."""


def _rows(pool: PathPool, entries: Entries, is_rate: bool) -> Rows:
    """Return the rows of servers and links, or of memories."""
    is_wanted = pool.topology.is_rate_resource == is_rate
    order = sorted(r for r in entries if is_wanted[r])
    return Rows([pool.resources[r].name for r in order], [entries[r] for r in order])


class _PathProgram:
    """What the two views of the path formulation have in common."""

    pool: PathPool
    settings: Settings
    data: PathData
    model: pyo.ConcreteModel

    @property
    def goal(self) -> Goal:
        """See :class:`ModelView`."""
        return self.data.goal

    def exclude(self, paths: Sequence[ChosenPath]) -> list[Any]:  # noqa: ARG002
        """See :class:`ModelView`; every path of the pool is admissible."""
        return []

    def _choose(self, path: int, rate: float) -> None:
        """Set the variables of a path that is chosen, at a rate of its task [inferences/s]."""
        _put(self.model.choose[path], 1.0)
        if path in self.model.extra:
            beyond = rate - self.data.floor[self.data.task_of[path]]
            share = beyond / self.data.extra_rate[path]
            _put(self.model.extra[path], min(max(share, 0.0), 1.0))

    def _chosen(self, task: int) -> int:
        """Return which of a task's paths the model's variables choose, by its place."""
        choose = self.model.choose
        return int(np.argmax([choose[p].value or 0.0 for p in self.data.paths_of[task]]))


@dataclass
class PathView(_PathProgram):
    """The path formulation of a pool."""

    pool: PathPool
    settings: Settings

    def __post_init__(self) -> None:
        """Build the model."""
        self.data = path_data(self.pool, ObjectiveFunction.of(self.pool, self.settings).goal)
        self.model = build_path_model(self.data)

    def start_at(self, solution: Solution) -> None:
        """See :class:`ModelView`."""
        model, data, rates = self.model, self.data, solution.allocation.rates.tolist()
        _clear(model.choose, model.extra, model.prefix_rate, model.prefix_in_use)
        for t, (task, path) in enumerate(zip(self.pool.tasks, solution.paths, strict=True)):
            self._choose(data.paths_of[t][task.paths.arcs.index(path.arcs)], rates[t])
        for prefix, paths in enumerate(data.prefixes):
            taken = [p for members in paths for p in members if model.choose[p].value == 1.0]
            if not taken:
                continue
            if prefix in model.prefix_rate:
                share = rates[data.task_of[taken[0]]] / data.most_of_prefix[prefix]
                _put(model.prefix_rate[prefix], min(share, 1.0))
            if prefix in model.prefix_in_use:
                _put(model.prefix_in_use[prefix], 1.0)
        start_totals(self, self.pool, self.settings, solution)

    def paths(self) -> list[ChosenPath]:
        """See :class:`ModelView`."""
        return [path_in_pool(task, self._chosen(t)) for t, task in enumerate(self.pool.tasks)]

    def words(self) -> Words:
        """See :class:`ExchangeView`."""
        data, tasks = self.data, self.pool.tasks

        def path(p: int) -> list[str]:
            t = data.task_of[p]
            return [data.task_names[t], *tasks[t].blocks(p - data.paths_of[t][0])]

        return {
            "choose": path,
            "extra": path,
            "extra_rate_needs_path": path,
            "one_path_per_task": lambda t: [data.task_names[t]],
            **_words_of_rows(data),
        }

    def task_without_path(self) -> str | None:
        """See :class:`ExchangeView`."""
        for name, paths in zip(self.data.task_names, self.data.paths_of, strict=True):
            if sum((self.model.choose[p].value or 0.0) > 0.5 for p in paths) != 1:
                return name
        return None


@dataclass
class JointPathView(_PathProgram):
    """The path formulation of joint tasks: every joint path of an input group is one path."""

    pool: PathPool
    """All tasks; of those in groups the paths that joint paths are made of."""
    settings: Settings
    joint_tasks: tuple[JointTask, ...]

    def __post_init__(self) -> None:
        """Build the model."""
        goal = ObjectiveFunction.of(self.pool, self.settings).goal
        self.data = joint_path_data(self.pool, self.joint_tasks, goal)
        self.model = build_path_model(self.data)

    def start_at(self, solution: Solution) -> None:
        """See :class:`ModelView`; the assignment's joint paths are listed."""
        _clear(self.model.choose, self.model.extra)
        for paths, task in zip(self.data.paths_of, self.joint_tasks, strict=True):
            number = task.number_of(solution.arcs)
            assert number is not None
            rate = float(solution.allocation.rates[task.group.tasks[0]])
            self._choose(paths[number], task.size * rate)
        start_totals(self, self.pool, self.settings, solution)

    def paths(self) -> list[ChosenPath]:
        """See :class:`ModelView`."""
        found: dict[int, ChosenPath] = {}
        for number, joint_task in enumerate(self.joint_tasks):
            paths = joint_task.paths[self._chosen(number)].tolist()
            for t, task, path in zip(joint_task.group.tasks, joint_task.tasks, paths, strict=True):
                found[t] = path_in_pool(task, path)
        return [found[t] for t in range(len(found))]


def _clear(*variables: pyo.Var) -> None:
    """Set variables to 0."""
    for indexed in variables:
        for variable in indexed.values():
            _put(variable, 0.0)


def _put(variable: Any, value: float) -> None:
    """Set a variable to a value that is one of its own."""
    variable.set_value(value, skip_validation=True)


@dataclass
class FlowView:
    """The flow formulation of the instance behind a pool."""

    pool: PathPool
    settings: Settings

    def __post_init__(self) -> None:
        """Build the model."""
        self.data = _flow_data(self.pool, ObjectiveFunction.of(self.pool, self.settings).goal)
        self.model = build_flow_model(self.data)
        self._first = np.cumsum([0, *(len(t.graph.arcs) for t in self.pool.tasks)]).tolist()

    @property
    def goal(self) -> Goal:
        """See :class:`ModelView`."""
        return self.data.goal

    def start_at(self, solution: Solution) -> None:
        """See :class:`ModelView`."""
        model = self.model
        _clear(model.choose, model.rate, model.is_measured, model.follow, model.saved)
        for t, path in enumerate(solution.paths):
            for arc in path.arcs:
                number = self._first[t] + arc
                _put(model.choose[number], 1.0)
                most = self.data.tasks[t].most_rate[arc]
                share = float(solution.allocation.rates[t]) / most if most > 0.0 else 0.0
                _put(model.rate[number], min(share, 1.0))
            share = path.accuracy / self.data.tasks[t].accuracy_unit
            _put(model.accuracy[t], share)
            for m, (arcs, _) in enumerate(self.data.tasks[t].measured):
                if arcs == path.arcs:
                    _put(model.is_measured[t, m], 1.0)
        self._start_following(solution)
        start_totals(self, self.pool, self.settings, solution)

    def _start_following(self, solution: Solution) -> None:
        """Let every task follow the earlier one with which it has most in common."""
        model = self.model
        longest: dict[int, tuple[list[int], int]] = {}
        for k, pair in enumerate(self.data.pairs):
            same = set(pair.arcs)
            common = []
            for arc, leaders in zip(
                solution.paths[pair.task].arcs, solution.paths[pair.leader].arcs, strict=False
            ):
                if (arc, leaders) not in same:
                    break
                common.append(self._first[pair.task] + arc)
            if len(common) > len(longest.get(pair.task, ([], k))[0]):
                longest[pair.task] = (common, k)
        for common, k in longest.values():
            for arc in common:
                _put(model.follow[k, arc], 1.0)
                _put(model.saved[arc], model.rate[arc].value)

    def paths(self) -> list[ChosenPath]:
        """See :class:`ModelView`."""
        chosen = []
        for t, task in enumerate(self.pool.tasks):
            arcs = self._walk(t)
            assert arcs is not None
            chosen.append(path_of(task, arcs))
        return chosen

    def _walk(self, t: int) -> tuple[int, ...] | None:
        """Return the arcs that lead from input to output, None where they do not."""
        first, data = self._first[t], self.data.tasks[t]
        next_arc = {
            data.tails[i]: i
            for i in range(len(data.tails))
            if (self.model.choose[first + i].value or 0.0) > 0.5
        }
        arcs, node = [], 0
        while node != data.nodes - 1:
            if node not in next_arc:
                return None
            arcs.append(next_arc[node])
            node = data.heads[next_arc[node]]
        return tuple(arcs)

    def words(self) -> Words:
        """See :class:`ExchangeView`."""
        names = [task.name for task in self.data.tasks]
        graphs = [task.graph for task in self.pool.tasks]
        arcs = [[n, a.tail, a.head] for n, g in zip(names, graphs, strict=True) for a in g.arcs]

        def measured(index: tuple[int, int]) -> list[str]:
            t, m = index
            steps = self.data.tasks[t].measured[m][0]
            return [names[t], *graphs[t].blocks(steps)]

        def node(index: tuple[int, int]) -> list[str]:
            return [names[index[0]], graphs[index[0]].nodes[index[1]]]

        of_arc = ("choose", "rate", "rate_needs_choice", "following_needs_own_choice")
        of_saved = ("saved", "saved_rate_is_walked", "saved_rate_is_followed")
        of_last = ("choice_carries_floor", "follow", "following_needs_leader")
        of_task = ("accuracy", "latency_limit", "predicted_accuracy_limit")
        return {
            **dict.fromkeys((*of_arc, *of_saved), lambda a: arcs[a]),
            **dict.fromkeys(of_last, lambda index: arcs[index[-1]]),
            **dict.fromkeys(of_task, lambda t: [names[t]]),
            **dict.fromkeys(("is_measured", "measured_accuracy_limit"), measured),
            **dict.fromkeys(("one_unit_of_choice", "rate_is_conserved"), node),
            **_words_of_rows(self.data),
        }

    def task_without_path(self) -> str | None:
        """See :class:`ExchangeView`."""
        for t, task in enumerate(self.data.tasks):
            if self._walk(t) is None:
                return task.name
        return None

    def exclude(self, paths: Sequence[ChosenPath]) -> list[Any]:
        """See :class:`ModelView`; limits are rows here, which hold within tolerances only."""
        return [
            exclude_path(self.model, [first + arc for arc in path.arcs])
            for first, task, path in zip(self._first, self.pool.tasks, paths, strict=False)
            if not is_admissible(task, path)
        ]


def _words_of_rows(data: PathData | FlowData) -> Words:
    return {
        "server_and_link_capacity": lambda i: [data.rate_rows.names[i]],
        "memory_capacity": lambda i: [data.memory_rows.names[i]],
    }


_COARSEST = 100.0
"""How many times the average accuracy the terms of predictions may be in the flow formulation."""


def flow_resolves(pool: PathPool) -> bool:
    """Tell whether the flow formulation can tell the accuracies of a pool apart.

    It adds up drops in its rows, which hold within a solver's tolerance of their largest terms.
    Where accuracies are far smaller than the terms that they are the difference of, what is
    optimal within that tolerance may be anything.
    """
    terms = [
        max(t.task.accuracy, most_accurate(t), float(np.abs(_limited_drops(t.graph)).max()))
        for t in pool.tasks
    ]
    return float(pool.weights @ np.array(terms)) <= _COARSEST * accuracy_unit(pool)


def _flow_data(pool: PathPool, goal: Goal) -> FlowData:
    tasks = []
    entries: Entries = {}
    first = 0
    for task, weight in zip(pool.tasks, pool.weights.tolist(), strict=True):
        graph = task.graph
        for column, resource in enumerate(task.resources.tolist()):
            amounts, is_rate = graph.use[:, column], bool(task.is_rate_resource[column])
            used = np.flatnonzero(amounts)
            entries.setdefault(resource, []).extend(
                zip((used + first).tolist(), _held(amounts[used], is_rate).tolist(), strict=True)
            )
        first += len(graph.arcs)
        tasks.append(
            FlowTask(
                name=task.task.id,
                nodes=len(graph.nodes),
                tails=graph.tails.tolist(),
                heads=graph.heads.tolist(),
                drop=_limited_drops(graph).tolist(),
                seconds=np.minimum(
                    graph.seconds, _NEVER * (task.task.max_latency or np.inf)
                ).tolist(),
                most_rate=_most_rate_of_arcs(task).tolist(),
                weight=weight,
                floor=task.floor,
                accuracy=task.task.accuracy,
                min_accuracy=task.task.min_accuracy,
                max_latency=task.task.max_latency,
                # The drops of alternatives are exact.
                measured=list(graph.measured.items()),
                accuracy_unit=most_accurate(task) or goal.accuracy_unit,
            )
        )
    return FlowData(
        tasks,
        _rows(pool, entries, is_rate=True),
        _rows(pool, entries, is_rate=False),
        goal,
        groups=[g.tasks for g in pool.groups if g.is_shared],
        pairs=[
            FlowPair(task, leader, arcs)
            for group in pool.groups
            for place, task in enumerate(group.tasks)
            for leader in group.tasks[:place]
            if (arcs := _arcs_in_common(pool.tasks[task].graph, pool.tasks[leader].graph))
        ],
    )


def _limited_drops(graph: TaskGraph) -> FloatArray:
    """Return the drops, none larger than what makes any path with it inadmissible.

    That is twice all there is: the native accuracy and the most that arcs can gain.
    """
    gain = -float(graph.to_output(np.minimum(graph.drop, 0.0))[0]) if len(graph.arcs) else 0.0
    return np.minimum(graph.drop, 2.0 * (graph.task.accuracy + gain))


_NEVER = 1e6
"""An arc that takes so many times a memory or a latency limit is never chosen. More would say
nothing else, and solvers refuse coefficients of 1e15."""


def _held(amounts: FloatArray, is_rate: bool) -> FloatArray:
    return amounts if is_rate else np.minimum(amounts, _NEVER)


def _arcs_in_common(graph: TaskGraph, leader: TaskGraph) -> list[tuple[int, int]]:
    """Return the arcs that are the same for two tasks and that both can reach on such arcs."""
    same: dict[Step, list[int]] = {}
    for j, arc in enumerate(leader.arcs):
        if arc.step is not None:
            same.setdefault(arc.step, []).append(j)
    pairs, reached = [], set(graph.nodes[:1])
    for i, arc in enumerate(graph.arcs):  # sorted by head, so every tail is settled before
        if arc.step in same and arc.tail in reached:
            pairs += [(i, j) for j in same[arc.step]]
            reached.add(arc.head)
    return pairs


def _most_rate_of_arcs(task: TaskPaths) -> FloatArray:
    """Return R[t,a]: for each arc the least over resources of 1 / (least use through it)."""
    graph = task.graph
    least = np.zeros(len(graph.arcs))
    for column in np.flatnonzero(task.is_rate_resource):
        use = graph.use[:, column]
        before, after = graph.from_input(use), graph.to_output(use)
        least = np.maximum(least, before[graph.tails] + use + after[graph.heads])
    # The pool's own largest rate bounds every path, and an arc that uses nothing on some
    # path of the graph is bounded by it alone.
    most = np.full(len(least), float(task.most_rate.max(initial=0.0)))
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(most, 1.0 / least))


def start_totals(view: ModelView, pool: PathPool, settings: Settings, solution: Solution) -> None:
    """Set the variables of the totals, and of the logarithms, to those of a solution."""
    model = view.model
    _put(model.average_accuracy, solution.accuracy / view.goal.accuracy_unit)
    _put(model.throughput, solution.throughput / view.goal.throughput_unit)
    if settings.objective == "reward":
        reward = pool.instance.reward
        log_accuracy = float(log_value(reward.accuracy, solution.accuracy))
        log_throughput = float(log_value(reward.throughput, solution.throughput))
        _put(model.log_accuracy, log_accuracy)
        _put(model.log_throughput, log_throughput)
