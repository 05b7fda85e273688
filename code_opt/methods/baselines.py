"""Baselines: what is reached without CoDE's coordination, or with less thought.

Each restricts the paths or the search, never the rate allocation: all share the rate
program and the checker, so only the choice of paths differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from code_opt.instance.model import INPUT, OUTPUT, Connection, Instance, Task
from code_opt.methods.assignment import ChosenPath, Judge, path_in_pool
from code_opt.methods.heuristic import search
from code_opt.methods.local_search import (
    FIT_TOLERANCE,
    LEAST_GAIN,
    VIOLATION_WEIGHT,
    Beliefs,
    SearchOutcome,
    floors_missed,
    objective_value,
)
from code_opt.methods.settings import Clock, Settings
from code_opt.paths import PathPool, TaskPaths, build_pool
from code_opt.paths.graph import FloatArray, IntArray

Keep = Callable[[Task, Connection], bool]


def local_pool(instance: Instance) -> PathPool:
    """No coordination: every task keeps its native path."""
    return build_pool(_restricted(instance, lambda _task, _connection: False))


def edge_early_pool(instance: Instance) -> PathPool:
    """Early exit: the native path, or an exit from a block of the own DNN."""
    own = _dnn_of_block(instance)

    def keep(task: Task, connection: Connection) -> bool:
        return connection.target == OUTPUT and own.get(connection.source) == task.dnn

    return build_pool(_restricted(instance, keep))


def host_pool(instance: Instance, native_allowed: bool) -> PathPool:
    """Hosting: the whole path within one other DNN's trunk, where the task has such a path.

    Args:
        instance: what to solve.
        native_allowed: keep the native path, too, for tasks that could be hosted.
    """
    own = _dnn_of_block(instance)

    def keep(task: Task, connection: Connection) -> bool:
        hosts = {own[end] for end in (connection.source, connection.target) if end in own}
        return len(hosts) == 1 and task.dnn not in hosts

    pool = build_pool(_restricted(instance, keep))
    if native_allowed:
        return pool
    return PathPool(pool.topology, tuple(_hosted_only(task, own) for task in pool.tasks))


def solve_restricted(
    pools: list[PathPool], settings: Settings, clock: Clock
) -> tuple[Judge, SearchOutcome | None]:
    """Search the first pool in which a feasible assignment is found."""
    judge = Judge(pools[0], settings)
    for pool in pools:
        judge = Judge(pool, settings)
        if all(len(task) for task in pool.tasks):
            outcome = search(judge, clock, seed=settings.seed)
            if outcome.solution is not None:
                return judge, outcome
    return judge, None


def solve_greedy(judge: Judge, clock: Clock) -> SearchOutcome:
    """Hill climbing from the most accurate paths, one task at a time.

    In file order each task takes its best path given the others, until none changes.
    """
    work = _Trials(judge)
    best, merit = work.most_accurate(), -np.inf
    improved = True
    while improved and not clock.is_over:
        improved = False
        merit = max(merit, work.merit(best))
        for task, paths in enumerate(judge.pool.tasks):
            present = best
            for path in range(len(paths)):
                choice = present.copy()
                choice[task] = path
                value = work.merit(choice)
                if value > merit + LEAST_GAIN:
                    best, merit = choice, value
            if best is not present:
                improved = True
                work.moves += 1
    return work.outcome(best)


def solve_random(judge: Judge, clock: Clock, seed: int, assignments: int) -> SearchOutcome:
    """Draw assignments uniformly from the pool and keep the best.

    Args:
        judge: pool, objective and floors.
        clock: ends the search early.
        seed: seed of the draws.
        assignments: how many to draw; equal to what CoDE evaluated, for a fair comparison.
    """
    work = _Trials(judge)
    rng = np.random.default_rng(seed)
    sizes = [len(task) for task in judge.pool.tasks]
    best = rng.integers(sizes)
    merit = work.merit(best)
    for _ in range(assignments - 1):
        if clock.is_over:
            break
        choice = rng.integers(sizes)
        value = work.merit(choice)
        if value > merit + LEAST_GAIN:
            best, merit = choice, value
    return work.outcome(best)


class _Trials:
    """Assignments tried as they are: a choice is the number of each task's path in the pool."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self._pool = judge, judge.pool
        self._paths: dict[tuple[int, int], ChosenPath] = {}
        self._uses: dict[tuple[int, ...], FloatArray] = {}
        self._floors = np.array([task.floor for task in judge.pool.tasks])
        self.assignments = self.moves = 0

    def most_accurate(self) -> IntArray:
        """Return for each task the most accurate of its paths (the first of equals)."""
        beliefs = Beliefs(self._pool)
        return np.array([int(np.argmax(beliefs.of_task(t))) for t in range(len(self._floors))])

    def merit(self, choice: IntArray) -> float:
        """Return the value of an assignment, less a heavy price for what it violates."""
        self.assignments += 1
        paths = self._chosen(choice)
        load = self._load_at_floors(choice, paths)
        violation = float(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum())
        allocation = None
        if violation == 0.0:
            allocation = self._judge.allocator.allocate(self._uses_of(choice, paths))
        accuracy = np.array(self._judge.average_accuracy(paths))
        least = float(self._floors.sum())
        throughput = np.array(least if allocation is None else allocation.throughput)
        violation += float(floors_missed(self._judge, accuracy, throughput))
        value = float(objective_value(self._judge, accuracy, throughput))
        return value - VIOLATION_WEIGHT * violation

    def outcome(self, choice: IntArray) -> SearchOutcome:
        """Return an assignment as the outcome of a search."""
        return SearchOutcome(
            solution=self._judge.solution(self._chosen(choice)),
            predicted=self._pool.size,
            measured=len(self._paths),
            moves=self.moves,
            stages=0,
            assignments=self.assignments,
        )

    def _chosen(self, choice: IntArray) -> list[ChosenPath]:
        paths = []
        for task, number in enumerate(choice.tolist()):
            if (task, number) not in self._paths:
                path = path_in_pool(self._pool.tasks[task], number)
                self._paths[task, number] = path
            paths.append(self._paths[task, number])
        return paths

    def _uses_of(self, choice: IntArray, paths: Sequence[ChosenPath]) -> list[FloatArray]:
        """Return what each group uses; the same choices give the same arrays."""
        uses = []
        for group in self._pool.groups:
            key = (group.tasks[0], *(int(choice[t]) for t in group.tasks))
            if key not in self._uses:
                self._uses[key] = self._judge.use_of(group, paths)
            uses.append(self._uses[key])
        return uses

    def _load_at_floors(self, choice: IntArray, paths: Sequence[ChosenPath]) -> FloatArray:
        return self._judge.load_of(self._uses_of(choice, paths), self._floors)


def _restricted(instance: Instance, keep: Keep) -> Instance:
    """Return a copy in which tasks have only the connections kept (and changed native arcs)."""
    trunk = {
        (a.id, b.id)
        for dnn in instance.dnns
        for a, b in zip(dnn.blocks[:-1], dnn.blocks[1:], strict=True)
    }
    ends = {d.id: {(INPUT, d.blocks[0].id), (d.blocks[-1].id, OUTPUT)} for d in instance.dnns}
    tasks = tuple(
        task.model_copy(
            update={
                "connections": tuple(
                    c
                    for c in task.connections
                    if (c.source, c.target) in trunk
                    or (c.source, c.target) in ends[task.dnn]
                    or keep(task, c)
                )
            }
        )
        for task in instance.tasks
    )
    return instance.model_copy(update={"tasks": tasks})


def _dnn_of_block(instance: Instance) -> dict[str, str]:
    return {block.id: dnn.id for dnn in instance.dnns for block in dnn.blocks}


def _hosted_only(task: TaskPaths, dnn_of_block: dict[str, str]) -> TaskPaths:
    hosted = [i for i in range(len(task)) if dnn_of_block[task.blocks(i)[0]] != task.task.dnn]
    return task.subset(hosted) if hosted else task
