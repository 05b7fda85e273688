"""Column generation with cuts, then a mixed-integer program over the columns they leave.

1. The restricted master (:mod:`code_opt.core.master`) is solved over all columns, from those
   on that the heuristic's master held, with tangents of the reward.
2. Cuts from single servers, links and memories (:mod:`code_opt.exact.server_cuts`) are
   added as long as they lower the bound.
3. A dive, and mixed-integer programs over the columns of least reduced cost, give assignments.
4. Columns that cannot be part of anything better are left out (reduced-cost fixing over the
   whole table), and the path formulation over the others, with the cuts, is solved to the gap
   or the time limit.

The bound is valid from the first round on, so a limit can come at any time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from code_opt.core.columns import ColumnTable, Relaxation
from code_opt.core.evaluator import Evaluator, Solution
from code_opt.core.master import Point, RestrictedMaster
from code_opt.core.settings import SMALLEST_GAP, Clock, Progress
from code_opt.exact.mip import TangentLoop
from code_opt.exact.models import JointPathView
from code_opt.exact.server_cuts import separate
from code_opt.heuristics.search import LearntColumns
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.result import Status
from code_opt.solvers import Polar
from formulations import add_cut


class ColumnGeneration:
    """State of one solve by column generation."""

    def __init__(
        self,
        evaluator: Evaluator,
        clock: Clock,
        best: Solution | None,
        table: ColumnTable,
        *,
        learnt: LearntColumns | None = None,
        bound: float = math.inf,
    ) -> None:
        """Take what to start from.

        Args:
            evaluator: pool, objective and floors.
            clock: ends the solve early.
            best: an assignment, if there is one; the table lists its columns.
            table: every column that can be part of an optimum.
            learnt: columns that an earlier master held.
            bound: a proven bound of the objective.
        """
        self.evaluator, self.clock, self.best = evaluator, clock, best
        self.settings, self.objective = evaluator.settings, evaluator.objective
        self.parameters = self.settings.parameters.column_generation
        self.gap = max(self.settings.gap, SMALLEST_GAP)
        self.bound = self.root_bound = bound
        """Proven bounds of the objective: of all that is done, and by duals and cuts alone."""
        self.loop: TangentLoop | None = None
        """The last program, where one was solved."""
        self.message: str | None = None
        self.details: dict[str, Any] = {}
        self.table = table
        self.relaxation = Relaxation(table, self.objective)
        self.master = RestrictedMaster(
            self.relaxation, self._first_columns(learnt), best, self.gap, self.parameters.master
        )
        self._polar = Polar(self.parameters.cuts.largest)
        self._separated: dict[int, bytes] = {}
        """Where the last separation from each resource found nothing."""
        self._cuts_found = 0

    def solve(self) -> Status:
        """Run to the gap, the time limit or a proof; return the status."""
        if self.objective.is_log and not self._can_be_positive():
            return self._finish()
        if self.best is None and self.master.is_infeasible(self.clock):
            return "infeasible"
        for _ in range(self.parameters.passes):
            before = self.value
            self._strengthen()
            if self._is_proven():
                return "optimal"
            if self.clock.is_over or self.master.best is None:
                break  # without a bound requirements are met within tolerances at best
            self._dive()
            self._restricted_programs()
            if self._is_proven():
                return "optimal"
            if self.value <= before:
                break
        return self._finish()

    def _first_columns(self, learnt: LearntColumns | None) -> IntArray:
        """Return the columns that the master starts with."""
        start = [self.table.first_columns()]
        if self.best is not None:
            start.append(self.table.columns_of(self.best.arcs))
        if learnt is not None:
            start.append(self.table.same_columns(learnt.table, learnt.columns))
        return np.unique(np.concatenate(start))

    @property
    def value(self) -> float:
        """Value of the best assignment in the units of the models; -inf without one."""
        return -math.inf if self.best is None else self.best.value / self.objective.unit

    def _can_be_positive(self) -> bool:
        """Tell whether some assignment may have a reward above 0 (one that has a logarithm)."""
        _, accuracy = self.relaxation.range_of_accuracy
        _, throughput = self.relaxation.range_of_throughput
        return math.isfinite(self.objective.value(accuracy, throughput, time=0.0))

    def _strengthen(self) -> None:
        """Solve the relaxation, and add cuts as long as they pay."""
        master, parameters = self.master, self.parameters
        history: list[float] = []
        point = master.settle(self.clock)
        if "lp_bound" not in self.details and master.best is not None:
            self.details["lp_bound"] = self._shown(master.best.value)
        for _ in range(parameters.cut_rounds):
            self._take_bound()
            if point is None or self.clock.is_over or self._is_proven():
                break
            assert master.best is not None
            history.append(master.best.value)
            if len(history) > parameters.stalled_rounds:
                # Without an assignment the distance is not known: any gain is taken for one.
                distance = history[-1] - max(self.value, history[-1] - 1.0)
                gained = history[-1 - parameters.stalled_rounds] - history[-1]
                if gained < parameters.stalled * distance:
                    break
            if not self._cut(point):
                break
            point = master.settle(self.clock)
        self._take_bound()
        self.details |= {
            "rounds": master.rounds,
            "columns": int(master.inside.sum()),
            "cuts": self._cuts_found,
            "root_bound": self.objective.shown(self.bound),
        }

    def _cut(self, point: Point) -> int:
        """Separate the point from every resource; return the number of cuts added."""
        found = []
        table, relaxation = self.table, self.relaxation
        _, more = relaxation.profits(point.duals)
        self.master.drop_idle_cuts()
        for resource in range(len(table.pool.resources)):
            columns = table.row[relaxation.users(resource)]
            if not len(columns):
                continue
            key = np.round(np.concatenate((point.x[columns], point.u[columns])), 6).tobytes()
            if self._separated.get(resource) == key:
                continue
            cut = separate(
                relaxation,
                self._polar,
                resource,
                point.x,
                point.u,
                more > 0.0,
                self.parameters.cuts,
            )
            if cut is None:
                self._separated[resource] = key
            else:
                found.append(cut)
        if found:
            self.master.add_cuts(found)
        self._cuts_found += len(found)
        return len(found)

    def _dive(self) -> None:
        """Round the relaxation to an assignment."""
        choice = self.master.dive(self.clock, self.parameters.dive)
        paths = self.evaluator.paths(self.table.paths_of(choice))
        self._take(self.evaluator.solution(paths))

    def _restricted_programs(self) -> None:
        """Look for a better assignment among the columns of least reduced cost.

        Few tasks are re-optimised together; of many, some hundred around the largest reduced
        costs at a time, while the others keep their paths (but not their rates). Where changes
        of paths are limited all tasks are: any two of them compete for a change, near or far.
        """
        best, parameters = self.master.best, self.parameters
        assert best is not None
        table, tasks, alive = self.table, len(self.table.joint_tasks), self.relaxation.alive
        rank = self._rank_of(best.reduced_cost)
        are_few = tasks <= parameters.tasks_at_once or table.pool.limits_changes
        if self.best is None or are_few:
            keep = alive & (rank < parameters.paths_per_task)
            if keep.sum() <= parameters.worth_restricting * alive.sum():
                self._improve(keep)
            return
        keep = alive & (rank < parameters.paths_per_freed_task)
        waiting = np.ones(tasks, dtype=bool)
        while waiting.any() and not self.clock.is_over and not self._is_proven():
            loss = best.reduced_cost[table.columns_of(self.best.arcs)]
            freed = self._around(int(np.argmax(np.where(waiting, loss, -1.0))), loss, keep)
            waiting[freed] = False
            is_freed = np.zeros(tasks, dtype=bool)
            is_freed[freed] = True
            self._improve(keep & is_freed[table.task])

    def _improve(self, keep: BoolArray) -> None:
        """Solve the program over some of the paths and those of the best assignment."""
        parameters = self.parameters
        gap = max(self.gap, min(parameters.share_of_gap * self._distance(), parameters.loosest_gap))
        left = self.clock.left
        limit = None if left is None else max(parameters.share_of_time * left, 1.0)
        # Its bound holds for these columns alone: nothing that could be told as progress.
        loop = self._program(keep, gap, Clock(limit), progress=None)
        loop.solve()
        self._take(loop.best)

    def _rank_of(self, reduced_cost: FloatArray) -> IntArray:
        """Return the place of each column among those of its task, by the reduced cost."""
        order = np.lexsort((reduced_cost, self.table.task))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - self.table.first[self.table.task[order]]
        return rank

    def _around(self, task: int, loss: FloatArray, keep: BoolArray) -> IntArray:
        """Return a task and others near it, those of largest reduced costs first.

        Two tasks are neighbours where paths of theirs that may be taken load the same server,
        link or memory.
        """
        table = self.table
        entries = np.flatnonzero(keep[table.row])
        pairs = np.unique(
            np.column_stack((table.task[table.row[entries]], table.resource[entries])), axis=0
        )
        by_task = np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, len(loss))))
        order = np.lexsort((pairs[:, 0], pairs[:, 1]))
        by_resource = np.split(
            pairs[order, 0],
            np.searchsorted(pairs[order, 1], np.arange(1, len(table.pool.resources))),
        )
        found: dict[int, None] = {}
        heap, seen = [(-float(loss[task]), task)], {task}
        while heap and len(found) < self.parameters.tasks_freed:
            _, now = heapq.heappop(heap)
            found[now] = None
            for resource in by_task[now].tolist():
                for other in by_resource[resource].tolist():
                    if other not in seen:
                        seen.add(other)
                        heapq.heappush(heap, (-float(loss[other]), other))
        return np.array(list(found))

    def _finish(self) -> Status:
        """Solve what is left to the gap or the time limit."""
        if self.clock.is_over:
            self.message = f"stopped by {self.clock.reason}"
            if self.best is None:
                self.message += " before any assignment was found"
            return "unknown" if self.best is None else "feasible"
        loop = self.last_program()
        status = loop.solve()
        self.loop, self.best, self.message = loop, loop.best, loop.message
        self.bound = max(loop.bound, -math.inf if self.best is None else self.best.value)
        self.details["paths_left"] = int(self.relaxation.alive.sum())
        for name in ("nodes", "lp_iterations", "tangents"):
            self.details[name] = loop.details.get(name)
        return status

    def last_program(self) -> TangentLoop:
        """Return the program over the columns that are left."""
        return self._program(
            self.relaxation.alive, self.gap, self.clock, self.settings.progress, bound=self.bound
        )

    def _program(
        self,
        keep: BoolArray,
        gap: float,
        clock: Clock,
        progress: Callable[[Progress], None] | None,
        bound: float = math.inf,
    ) -> TangentLoop:
        """Prepare the path formulation over some of the paths, with the present cuts."""
        table, keep = self.table, keep.copy()
        if self.best is not None:
            keep[table.columns_of(self.best.arcs)] = True
        joint_tasks = table.subsets(keep)
        tasks = {
            t: task
            for joint_task in joint_tasks
            for t, task in zip(joint_task.group.tasks, joint_task.tasks, strict=True)
        }
        pool = PathPool(table.pool.topology, tuple(tasks[t] for t in range(len(tasks))))
        settings = replace(self.settings, formulation="path", gap=gap, progress=progress)
        view = JointPathView(pool, settings, joint_tasks)
        number = np.cumsum(keep) - 1
        for cut in self.relaxation.cuts:
            mine = keep[cut.columns]
            add_cut(
                view.model,
                number[cut.columns[mine]].tolist(),
                cut.on_path[mine].tolist(),
                cut.on_extra[mine].tolist(),
                cut.limit,
            )
        left_out = int((~self.relaxation.alive).sum())
        evaluator = Evaluator(pool, settings)
        return TangentLoop(evaluator, view, clock, best=self.best, bound=bound, left_out=left_out)

    def _take(self, found: Solution | None) -> None:
        """Keep a better assignment, and leave out what can no longer be part of a better one."""
        if found is None or (self.best is not None and found.value <= self.best.value):
            return
        self.best = found
        self._take_bound()

    def _take_bound(self) -> None:
        """Keep the master's bound, and leave out columns by their reduced costs."""
        best = self.master.best
        if best is None:
            return
        bound = max(best.value, self.value) * self.objective.unit
        self.bound = self.root_bound = min(self.bound, bound)
        if self.best is not None and math.isfinite(self.value):
            margin = 1e-9 * (1.0 + abs(self.value))
            gone = self.relaxation.alive & (best.value - best.reduced_cost < self.value - margin)
            if gone.any():
                self.master.leave_out(gone)
                self._separated.clear()
        self._report()

    def _distance(self) -> float:
        """Return the present gap of the objective."""
        value = -math.inf if self.best is None else self.best.value
        return self.objective.gap(value, self.bound)

    def _is_proven(self) -> bool:
        return self.best is not None and self._distance() <= self.gap

    def _shown(self, value: float) -> float | None:
        """Return a value of the models as users see it, None if it is no number."""
        return self.objective.shown(value * self.objective.unit)

    def _report(self) -> None:
        if self.settings.progress is not None:
            value = None if self.best is None else self._shown(self.value)
            bound, gap = self.objective.shown(self.bound), self._distance()
            self.settings.progress(
                Progress(
                    "exact", self.clock.seconds, value, bound, gap if math.isfinite(gap) else None
                )
            )
