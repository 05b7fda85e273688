"""Baselines: what is reached without coordination, or by simpler searches.

Each restricts the paths or the search, never the rate allocation: all share the rate
program and the checker, so only the choice of paths differs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from code_opt.core.evaluator import LEAST_GAIN, Evaluator
from code_opt.core.settings import Clock, Settings
from code_opt.heuristics.incremental import PoolEvaluator
from code_opt.heuristics.lns import search
from code_opt.heuristics.scales import search_at_scales
from code_opt.heuristics.search import SearchOutcome
from code_opt.instance.model import INPUT, OUTPUT, Alternative, Connection, Instance, Task
from code_opt.paths import PathPool, PoolOptions, TaskPaths, build_pool, previous_path
from code_opt.paths.graph import IntArray
from code_opt.paths.previous import Previous

Keep = Callable[[Task, Connection], bool]


def local_pool(instance: Instance, options: PoolOptions) -> PathPool:
    """No coordination: native paths, and alternatives on the server or site of the task."""
    keep = _own_alternatives(instance, options.previous)
    restricted = _restricted(instance, lambda _task, _connection: False, keep)
    return build_pool(restricted, options)


def edge_early_pool(instance: Instance, options: PoolOptions) -> PathPool:
    """Early exit: what needs no coordination, or an exit from a block of the own DNN."""
    own = _dnn_of_block(instance)

    def keep(task: Task, connection: Connection) -> bool:
        return connection.target == OUTPUT and own.get(connection.source) == task.dnn

    alternatives = _own_alternatives(instance, options.previous)
    return build_pool(_restricted(instance, keep, alternatives), options)


def host_pool(instance: Instance, options: PoolOptions, native_allowed: bool) -> PathPool:
    """Hosting: the whole path within one other DNN's trunk, where the task has such a path.

    Args:
        instance: what to solve.
        options: which of these paths are kept.
        native_allowed: keep the native path, too, for tasks that could be hosted.
    """
    own = _dnn_of_block(instance)

    def keep(task: Task, connection: Connection) -> bool:
        hosts = {own[end] for end in (connection.source, connection.target) if end in own}
        return len(hosts) == 1 and task.dnn not in hosts

    restricted = _restricted(instance, keep, lambda _task, _alternative: True)
    pool = build_pool(restricted, options)
    if native_allowed:
        return pool
    return PathPool(pool.topology, tuple(_hosted_only(task, own) for task in pool.tasks))


def solve_restricted(
    pools: list[PathPool], settings: Settings, clock: Clock
) -> tuple[Evaluator, SearchOutcome | None]:
    """Search the first pool in which a feasible assignment is found."""
    evaluator = Evaluator(pools[0], settings)
    for pool in pools:
        evaluator = Evaluator(pool, settings)
        if all(len(task) for task in pool.tasks):
            outcome = search(evaluator, clock, seed=settings.seed)
            if outcome.solution is not None:
                return evaluator, outcome
    return evaluator, None


def solve_greedy(evaluator: Evaluator, clock: Clock) -> SearchOutcome:
    """Hill climbing from the most accurate paths, one task at a time.

    In file order each task takes its best path given the others, until none changes. Its paths
    are tried in the order of a bound on their merit
    (:meth:`PoolEvaluator.most_merits`), which ends when the bound of the next is no better
    than the best one tried.
    """
    if evaluator.limits_promises:
        return search_at_scales(evaluator, clock, lambda plain, left: solve_greedy(plain, left))
    work = PoolEvaluator(evaluator)
    best, merit = work.most_accurate(), -np.inf
    if evaluator.pool.limits_changes:
        kept = [previous_path(task) for task in evaluator.pool.tasks]
        best = np.array([b if k is None else k for b, k in zip(best.tolist(), kept, strict=True)])
    improved = True
    while improved and not clock.is_over:
        improved = False
        merit = max(merit, work.merit(best))
        for task in range(len(evaluator.pool.tasks)):
            present = best
            most = work.most_merits(present, task)
            most[present[task]] = -np.inf
            while not clock.is_over and most.max() > merit + LEAST_GAIN:
                choice = present.copy()
                choice[task] = path = int(np.argmax(most))
                value = work.merit(choice)
                if value > merit + LEAST_GAIN:
                    best, merit = choice, value
                # The duals of this assignment bound the other paths, too.
                most = np.minimum(most, work.most_merits(present, task))
                most[path] = -np.inf
            if best is not present:
                improved = True
                work.moves += 1
    return work.outcome(best)


def solve_random(evaluator: Evaluator, clock: Clock, seed: int, assignments: int) -> SearchOutcome:
    """Draw assignments uniformly from the pool and keep the best.

    Args:
        evaluator: pool, objective and floors.
        clock: ends the search early.
        seed: seed of the draws.
        assignments: how many to draw, at least the default of the parameters; what ``lns``
            evaluated, for a fair comparison.
    """
    if evaluator.limits_promises:
        return search_at_scales(
            evaluator, clock, lambda plain, left: solve_random(plain, left, seed, assignments)
        )
    work = PoolEvaluator(evaluator)
    rng = np.random.default_rng(seed)
    draw = _drawing(evaluator.pool, rng)
    best = draw()
    merit = work.merit(best)
    draws = max(assignments, evaluator.settings.parameters.baselines.least_draws)
    for _ in range(draws - 1):
        if clock.is_over:
            break
        choice = draw()
        value = work.merit(choice)
        if value > merit + LEAST_GAIN:
            best, merit = choice, value
    return work.outcome(best)


def _own_alternatives(
    instance: Instance, previous: Previous | None
) -> Callable[[Task, Alternative], bool]:
    """Return what tells the alternatives that run where the task's own DNN does.

    A previous path that may be kept is among them, wherever it runs.
    """
    dnns = {dnn.id: dnn for dnn in instance.dnns}
    place = {server.id: server.place for server in instance.servers}
    kept = previous.paths if previous is not None and previous.is_limiting else {}

    def is_own(task: Task, alternative: Alternative) -> bool:
        dnn = dnns[alternative.dnn]
        is_previous = kept.get(task.id) == tuple(block.id for block in dnn.blocks)
        return is_previous or place[dnn.server] == place[dnns[task.dnn].server]

    return is_own


def _drawing(pool: PathPool, rng: np.random.Generator) -> Callable[[], IntArray]:
    """Return what draws assignments, no more of them changed than may be."""
    sizes = [len(task) for task in pool.tasks]
    if not pool.limits_changes:
        return lambda: rng.integers(sizes)
    kept = [previous_path(task) for task in pool.tasks]
    tasks = np.array([t for t, path in enumerate(kept) if path is not None])
    previous = pool.topology.options.previous
    assert previous is not None
    # Where nothing may change, tasks have no other path to draw.
    stay = min(len(tasks), len(previous.paths) - int(previous.max_changes or 0))

    def draw() -> IntArray:
        choice = rng.integers(sizes)
        for t in rng.choice(tasks, stay, replace=False).tolist():
            choice[t] = kept[t]
        return choice

    return draw


def _restricted(
    instance: Instance, keep: Keep, keep_alternative: Callable[[Task, Alternative], bool]
) -> Instance:
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
                ),
                "alternatives": tuple(a for a in task.alternatives if keep_alternative(task, a)),
            }
        )
        for task in instance.tasks
    )
    return instance.model_copy(update={"tasks": tasks})


def _dnn_of_block(instance: Instance) -> dict[str, str]:
    return {block.id: dnn.id for dnn in instance.dnns for block in dnn.blocks}


def _hosted_only(task: TaskPaths, dnn_of_block: dict[str, str]) -> TaskPaths:
    kept = previous_path(task)
    hosted = [
        i for i in range(len(task)) if i == kept or dnn_of_block[task.blocks(i)[0]] != task.task.dnn
    ]
    return task.subset(hosted) if hosted else task
