"""Large neighbourhood search over the paths of any number of tasks (method ``lns``).

In two phases:

* the restricted master (:mod:`code_opt.core.master`) is solved over all paths, and a dive
  rounds its solution to an assignment;
* large neighbourhood search (Shaw 1998, DOI 10.1007/3-540-49481-2_30) improves it: the task that
  has most to gain at the master's duals is re-optimised together with some of those around it, by
  LP-based branch and bound against the loads that the others leave
  (:mod:`code_opt.heuristics.neighbourhood`). Only what it would take is measured, and kept if it is
  better.

The duals bound the objective, too (Lagrangian duality): they say who has most to gain and which
paths cannot pay, and the search ends when the bound is met. Where no iteration improves any more
and the bound is still far, larger neighbourhoods are searched.

Accuracies are predicted from the drops of connections, corrected by what was measured, and a
path is measured only when it is about to be taken: that much is the idea of CoDE (Maleki,
Shah-Mansouri and Khalaj, arXiv 2401.00631), whose procedure is
:mod:`code_opt.heuristics.staged_search`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.evaluator import FIT_TOLERANCE, VIOLATION_WEIGHT, Evaluator
from code_opt.core.joint_tasks import build_joint_tasks
from code_opt.core.master import Point, RestrictedMaster
from code_opt.core.parameters import LnsParameters
from code_opt.core.settings import Clock
from code_opt.heuristics.enumeration import best_of_all, has_few_assignments
from code_opt.heuristics.neighbourhood import Neighbourhood
from code_opt.heuristics.scales import search_at_scales
from code_opt.heuristics.search import AssignmentSearch, LearntColumns, SearchOutcome, State
from code_opt.paths import Duals, PathPool
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.solvers import LinearProgram


def search(
    evaluator: Evaluator,
    clock: Clock,
    *,
    seed: int = 0,
    iterations: int | None = None,
    is_intensified: bool = True,
) -> SearchOutcome:
    """Run large neighbourhood search; deterministic for a seed (unless the clock ends it).

    Args:
        evaluator: pool, objective and floors; every task has a path.
        clock: ends the search early.
        seed: seed of the choice of neighbourhoods.
        iterations: most iterations after the dive (default by the number of tasks).
        is_intensified: whether larger neighbourhoods are searched where the bound is far; not
            needed for a start only.
    """
    if evaluator.limits_promises:
        return search_at_scales(
            evaluator,
            clock,
            lambda plain, left: search(
                plain, left, seed=seed, iterations=iterations, is_intensified=is_intensified
            ),
        )
    parameters = evaluator.settings.parameters.lns
    work, master, point = relax(evaluator, clock)
    if point is None:
        return work.outcome(None)
    learnt = LearntColumns(work.table, np.flatnonzero(master.inside), point.duals)
    if has_few_assignments(work.table, parameters.enumerated):
        best_known = best_of_all(work, clock)
        if best_known is not None:
            return work.outcome(best_known, learnt)
    bound, tasks = point.bound.value, len(work.table.joint_tasks)
    # The dive runs to its end whatever the clock says: without it there is no assignment.
    best = work.evaluate(master.dive(Clock(None, to_its_end=True), parameters.dive))
    for paths in _known_paths(work.table.pool):
        known = work.evaluate(_with_paths(work, best.choice, paths))
        best = known if known.is_better_than(best) else best
    profit = point.bound.best
    agenda = _Agenda(work, point.duals, profit, parameters, np.random.default_rng(seed))
    if iterations is None:
        iterations = max(parameters.iterations_per_task * tasks, parameters.least_iterations)
        iterations = min(iterations, parameters.most_iterations)
    solver = LinearProgram()
    non_improving = 0
    patience = parameters.patience + tasks // parameters.tasks_per_patience
    nodes = parameters.nodes
    for _ in range(iterations):
        if clock.is_over or bound - best.merit <= parameters.close:
            break
        if non_improving >= patience:
            if not is_intensified or bound - best.merit <= parameters.far:
                break
            is_intensified = False  # once
            nodes, patience = parameters.intensified_nodes, parameters.intensified_patience
            non_improving = 0
            agenda.intensify()
        work.iterations += 1
        freed = agenda.next(best)
        there = Neighbourhood(work, best, freed, point.duals, solver)
        found = there.search(nodes)
        agenda.adapt(there)
        if found is not None:
            work.estimates.measure(found.choice)
            end = work.state(found.choice, found.rates)
            if end.is_better_than(best):
                best = end
                work.moves += 1
                agenda.reopen()
                non_improving = 0
                continue
        elif there.is_exhausted and len(freed) == tasks:
            break
        agenda.close()
        non_improving += 1
    return work.outcome(best, learnt)


def relax(
    evaluator: Evaluator, clock: Clock
) -> tuple[AssignmentSearch, RestrictedMaster, Point | None]:
    """Solve the master over all columns, joint paths priced in; no point: nothing is feasible."""
    parameters = evaluator.settings.parameters.lns
    joint_tasks = build_joint_tasks(evaluator.pool, evaluator.settings.parameters.joint_paths)
    for paths in _known_paths(evaluator.pool):
        joint_tasks = tuple(
            task.listing(paths) if all(t in paths for t in task.group.tasks) else task
            for task in joint_tasks
        )
    table = ColumnTable(evaluator.pool, joint_tasks)
    for turn in range(parameters.joint_rounds + 1):
        work = AssignmentSearch(evaluator, table)
        relaxation = Relaxation(table, work.objective, work.accuracy)
        start = table.first_columns(work.accuracy)
        master = RestrictedMaster(
            relaxation, start, None, parameters.gap, parameters.master, may_miss=True
        )
        point = master.settle(clock, is_interruptible=False)
        if point is None or clock.is_over or turn == parameters.joint_rounds:
            break
        priced = _priced(table, point.duals, parameters)
        if priced is None:
            break
        table = priced
    return work, master, point


_Arcs = dict[int, tuple[int, ...]]
"""Arcs of the paths of some tasks."""


def _with_paths(work: AssignmentSearch, choice: IntArray, paths: _Arcs) -> IntArray:
    """Return an assignment with other paths of some tasks, as far as the table has their columns.

    Args:
        work: the columns.
        choice: column of each joint task, shape (T,).
        paths: of some tasks of the instance.
    """
    choice = choice.copy()
    for t, task in enumerate(work.table.joint_tasks):
        number = task.number_of(task.arcs(int(choice[t] - work.table.first[t])) | paths)
        if number is not None:
            choice[t] = work.table.first[t] + number
    return choice


def _known_paths(pool: PathPool) -> Iterator[_Arcs]:
    """Yield the assignments to start from, as far as their paths are in a pool.

    These are the previous one, and another one with few enough changes, where one is known.
    """
    previous = pool.topology.options.previous
    for paths in () if previous is None else (previous.paths, previous.start or {}):
        found = {}
        for t, task in enumerate(pool.tasks):
            arcs = task.graph.path_arcs(paths[task.task.id]) if task.task.id in paths else None
            if arcs is not None and task.number_of(tuple(arcs)) is not None:
                found[t] = tuple(arcs)
        if found:
            yield found


def _priced(table: ColumnTable, duals: Duals, parameters: LnsParameters) -> ColumnTable | None:
    """Let input groups find joint paths at the master's duals; None where that gains nothing."""
    found = tuple(task.priced(duals) for task in table.joint_tasks)
    gains = [
        new.profit(duals).max() - old.profit(duals).max()
        for old, new in zip(table.joint_tasks, found, strict=True)
        if new is not old
    ]
    if max(gains, default=0.0) <= parameters.dive.least_gain / len(found):
        return None
    return ColumnTable(table.pool, found)


class _Agenda:
    """Which tasks are freed: the one that loses most at the duals, with some around it.

    At any duals, the bound exceeds the value of an assignment by a sum of losses: of the tasks
    (the reduced costs of their columns), and of the resources (their duals times what is idle).
    A task leads whose resources see most of them; its standing halves with each non-improving
    iteration that it leads.
    """

    def __init__(
        self,
        work: AssignmentSearch,
        duals: Duals,
        best: FloatArray,
        parameters: LnsParameters,
        rng: np.random.Generator,
    ) -> None:
        """Start with all tasks of equal standing; ``best`` is the largest profit of each."""
        self._work, self._duals, self._best, self._rng = work, duals, best, rng
        self._parameters = parameters
        tasks = work.table.joint_tasks
        width = max(1, *(len(t.resources) for t in tasks))
        none = len(work.table.pool.resources)
        self._reach = np.full((len(tasks), width), none)
        """Resources that each task can load, then a number that stands for none."""
        for t, task in enumerate(tasks):
            self._reach[t, : len(task.resources)] = task.resources
        self._non_improving = np.zeros(len(tasks), dtype=np.int64)
        self._freed: IntArray = np.empty(0, dtype=np.int64)
        self._leader = 0
        self._size, self._most = parameters.freed, parameters.most_freed

    def next(self, state: State) -> IntArray:
        """Return the tasks that are freed, ascending."""
        work, table, reach, duals = self._work, self._work.table, self._reach, self._duals
        now = state.choice
        dual = duals.resource[table.padded_resource[:, now]]
        paid = (dual * table.loads_of(now, state.rates)).sum(axis=0)
        have = duals.accuracy * work.accuracy[now] - duals.time * table.time[now] - paid
        have += duals.throughput * (state.rates - table.floor)
        loss = np.maximum(self._best - have, 0.0)
        idle = np.zeros(len(state.load) + 1)
        idle[:-1] = duals.resource * np.maximum(1.0 - state.load, 0.0)
        idle[:-1] += VIOLATION_WEIGHT * np.maximum(state.load - 1.0 - FIT_TOLERANCE, 0.0)
        heat = idle.copy()
        np.add.at(heat, reach, loss[:, None])
        heat[-1] = 0.0
        standing = heat[reach].sum(axis=1) * 0.5**self._non_improving
        self._leader = int(np.argmax(standing))
        size = self._size + self._parameters.more_freed * int(self._non_improving[self._leader])
        size = min(size, self._most, len(now))
        loss += 0.5 * idle[reach].sum(axis=1)
        loss += loss.mean()
        chosen = [self._leader]
        common = np.zeros(len(heat))
        while len(chosen) < size:
            common[reach[chosen[-1]]] += 1.0
            common[-1] = 0.0
            # Tasks that share nothing with the leader still meet it in the objective.
            for chance in (common[reach].sum(axis=1) * loss, loss.copy(), np.ones(len(loss))):
                chance[chosen] = 0.0
                if chance.any():
                    break
            total = np.cumsum(chance)
            chosen.append(int(np.searchsorted(total, self._rng.random() * total[-1], "right")))
        self._freed = np.sort(np.array(chosen))
        return self._freed

    def adapt(self, last: Neighbourhood) -> None:
        """Free fewer tasks from here on where the last search did not come to its end."""
        if not last.is_exhausted:
            least = max(min(self._parameters.fewest_freed, len(self._non_improving) - 1), 1)
            self._size = max(min(self._size, len(self._freed)) - 1, least)

    def intensify(self) -> None:
        """Free more tasks from here on, and let every task lead again."""
        parameters = self._parameters
        self._size = parameters.freed + parameters.intensified_freed
        self._most = parameters.most_freed + parameters.intensified_freed
        self._non_improving[:] = 0

    def close(self) -> None:
        """The last iteration did not improve: others lead first."""
        self._non_improving[self._leader] += 1

    def reopen(self) -> None:
        """The last iteration improved: all around it may lead again."""
        changed = np.zeros(len(self._work.table.pool.resources) + 1, dtype=bool)
        changed[self._reach[self._freed]] = True
        changed[-1] = False
        self._non_improving[changed[self._reach].any(axis=1)] = 0
