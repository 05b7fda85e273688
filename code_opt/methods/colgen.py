"""Column generation: prices and cuts first, a mixed-integer program over what they leave.

1. The restricted master (:mod:`code_opt.methods.master`) is solved over all paths of the
   pool, with tangents of the reward.
2. Cuts from single servers, links and memories (:mod:`code_opt.methods.server_cuts`) are
   added as long as they lower the bound.
3. A mixed-integer program over the paths that the prices like best gives an assignment.
4. Paths that cannot be part of anything better are left out (reduced-cost fixing over the
   whole pool), and the path formulation over the others, with the cuts, is solved to the gap
   or the time limit.

The bound is valid from the first round on, so a limit can come at any time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from code_opt.methods.assignment import Judge, Solution, relative_gap
from code_opt.methods.columns import BoolArray, PathTable
from code_opt.methods.master import Point, RestrictedMaster
from code_opt.methods.mip import TangentLoop
from code_opt.methods.models import UnitView, listing
from code_opt.methods.server_cuts import separate
from code_opt.methods.settings import SMALLEST_GAP, Clock, Progress
from code_opt.methods.units import Unit
from code_opt.paths import PathPool
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.result import Status
from code_opt.reward import log_value
from code_opt.solvers import Polar
from formulations import add_cut

_PASSES = 3
"""Most turns of cuts and a restricted program; each needs a better assignment than before."""
_CUT_ROUNDS = 40
_STALLED, _STALLED_ROUNDS = 0.02, 3
"""Cuts end when so many rounds together lowered the bound by less than this share of what is
still between bound and value."""
_TASKS_AT_ONCE, _PATHS_PER_TASK, _WORTH_RESTRICTING = 400, 4, 0.7
"""Most tasks that a restricted program frees together, with so many paths each; it is not
worth while where it holds more than this share of all."""
_TASKS_FREED, _PATHS_PER_FREED_TASK = 120, 8
"""The same where only a neighbourhood is freed."""
_SHARE_OF_TIME = 0.25
"""Most of the time left that one restricted program may take."""
_SHARE_OF_GAP = 0.1
"""Gap asked of a restricted program, as a share of the present one ..."""
_LOOSEST_GAP = 0.01
"""... and at most (without an assignment there is no present one)."""


class ColumnGeneration:
    """State of one solve by column generation."""

    def __init__(
        self,
        judge: Judge,
        clock: Clock,
        best: Solution | None,
        units: Sequence[Unit] | None = None,
    ) -> None:
        """Take an assignment to start from, if there is one.

        ``units`` are tasks and input groups with every option that can be part of an optimum
        (:func:`code_opt.methods.options.options_that_matter`); without groups there is no need.
        """
        self.judge, self.clock, self.best = judge, clock, best
        self.settings = judge.settings
        self.gap = max(self.settings.gap, SMALLEST_GAP)
        self.is_log = self.settings.objective == "reward"
        self.bound = math.inf
        self.message: str | None = None
        self.details: dict[str, Any] = {}
        units = judge.units if units is None else units
        if best is not None:
            units = [listing(unit, best) for unit in units]
        self.table = PathTable(judge.pool, self.settings, units=units)
        self._unit = self.table.unit if self.settings.objective == "throughput" else 1.0
        self._polar = Polar()
        self._in_vain: dict[int, bytes] = {}
        """Where the last separation from each resource found nothing."""
        self._cuts_found = 0

    def solve(self) -> Status:
        """Run to the gap, the time limit or a proof; return the status."""
        if self.is_log and not self._is_worth_anything():
            return self._finish()
        start = np.unique(self.table.first_answers())
        if self.best is not None:
            start = np.union1d(start, self.table.numbers_of(self.best))
        self.master = RestrictedMaster(self.judge, self.table, start, self.best)
        if self.best is None and self.master.is_infeasible(self.clock):
            return "infeasible"
        for _ in range(_PASSES):
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

    @property
    def value(self) -> float:
        """Value of the best assignment in the units of the models; -inf without one."""
        return -math.inf if self.best is None else self.best.log_value / self._unit

    def _is_worth_anything(self) -> bool:
        """Tell whether some assignment may have a reward above 0 (one that has a logarithm)."""
        (_, accuracy), (_, throughput) = self.table.range_of_totals
        reward = self.judge.pool.instance.reward
        logs = (
            log_value(reward.accuracy, accuracy),
            log_value(reward.throughput, throughput * self.table.unit),
        )
        return bool(np.isfinite(logs).all())

    def _strengthen(self) -> None:
        """Solve the relaxation, and add cuts as long as they pay."""
        master = self.master
        history: list[float] = []
        point = master.settle(self.clock)
        if "lp_bound" not in self.details and master.best is not None:
            self.details["lp_bound"] = self._true(master.best.value)
        for _ in range(_CUT_ROUNDS):
            self._take_bound()
            if point is None or self.clock.is_over or self._is_proven():
                break
            assert master.best is not None
            history.append(master.best.value)
            if len(history) > _STALLED_ROUNDS:
                # Without an assignment the distance is not known: any gain is taken for one.
                distance = history[-1] - max(self.value, history[-1] - 1.0)
                if history[-1 - _STALLED_ROUNDS] - history[-1] < _STALLED * distance:
                    break
            if not self._cut(point):
                break
            point = master.settle(self.clock)
        self._take_bound()
        self.details |= {
            "rounds": master.rounds,
            "columns": int(master.inside.sum()),
            "cuts": self._cuts_found,
            "root_bound": self._true(self.bound / self._unit),
        }

    def _cut(self, point: Point) -> int:
        """Separate the point from every resource; return the number of cuts added."""
        found = []
        table = self.table
        _, more = table.answers(point.prices)
        self.master.drop_idle_cuts()
        for resource in range(len(table.pool.resources)):
            paths = table.row[table.users(resource)]
            if not len(paths):
                continue
            key = np.round(np.concatenate((point.x[paths], point.u[paths])), 6).tobytes()
            if self._in_vain.get(resource) == key:
                continue
            cut = separate(table, self._polar, resource, point.x, point.u, more > 0.0)
            if cut is None:
                self._in_vain[resource] = key
            else:
                found.append(cut)
        if found:
            self.master.add_cuts(found)
        self._cuts_found += len(found)
        return len(found)

    def _dive(self) -> None:
        """Round the relaxation to an assignment."""
        choice = self.master.dive(self.clock)
        if choice is not None:
            self._take(self.judge.solution(self.table.chosen(choice)))

    def _restricted_programs(self) -> None:
        """Look for a better assignment among the paths that the prices like best.

        Few tasks answer together; of many, some hundred around the largest losses at a time,
        while the others keep their paths (but not their rates).
        """
        best = self.master.best
        assert best is not None
        table, tasks = self.table, len(self.table.units)
        rank = self._rank_of(best.loss)
        if self.best is None or tasks <= _TASKS_AT_ONCE:
            keep = table.alive & (rank < _PATHS_PER_TASK)
            if keep.sum() <= _WORTH_RESTRICTING * table.alive.sum():
                self._improve(keep)
            return
        keep = table.alive & (rank < _PATHS_PER_FREED_TASK)
        waiting = np.ones(tasks, dtype=bool)
        while waiting.any() and not self.clock.is_over and not self._is_proven():
            loss = best.loss[self.table.numbers_of(self.best)]
            freed = self._around(int(np.argmax(np.where(waiting, loss, -1.0))), loss, keep)
            waiting[freed] = False
            is_freed = np.zeros(tasks, dtype=bool)
            is_freed[freed] = True
            self._improve(keep & is_freed[table.task])

    def _improve(self, keep: BoolArray) -> None:
        """Solve the program over some of the paths and those of the best assignment."""
        gap = max(self.gap, min(_SHARE_OF_GAP * self._distance(), _LOOSEST_GAP))
        left = self.clock.left
        limit = None if left is None else max(_SHARE_OF_TIME * left, 1.0)
        # Its bound holds for these paths alone: nothing that could be told as progress.
        view, loop = self._program(keep, gap, Clock(limit), progress=None)
        loop.solve(view)
        self._take(loop.best)

    def _rank_of(self, loss: FloatArray) -> IntArray:
        """Return the place of each path among those of its task, by the loss."""
        order = np.lexsort((loss, self.table.task))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - self.table.first[self.table.task[order]]
        return rank

    def _around(self, task: int, loss: FloatArray, keep: BoolArray) -> IntArray:
        """Return a task and others near it, those with the largest losses first.

        Two tasks are neighbours where paths of theirs that may be taken load the same server,
        link or memory.
        """
        table = self.table
        entries = np.flatnonzero(keep[table.row])
        pairs = np.unique(
            np.column_stack((table.task[table.row[entries]], table.column[entries])), axis=0
        )
        by_task = np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, len(loss))))
        order = np.lexsort((pairs[:, 0], pairs[:, 1]))
        by_resource = np.split(
            pairs[order, 0],
            np.searchsorted(pairs[order, 1], np.arange(1, len(table.pool.resources))),
        )
        found: dict[int, None] = {}
        heap, seen = [(-float(loss[task]), task)], {task}
        while heap and len(found) < _TASKS_FREED:
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
        view, loop = self._program(self.table.alive, self.gap, self.clock, self.settings.progress)
        loop.bound = self.bound
        status = loop.solve(view)
        self.best, self.message = loop.best, loop.message
        self.bound = max(loop.bound, -math.inf if self.best is None else self.best.log_value)
        self.details["paths_left"] = int(self.table.alive.sum())
        for name in ("nodes", "lp_iterations", "tangents"):
            self.details[name] = loop.details.get(name)
        return status

    def _program(
        self,
        keep: BoolArray,
        gap: float,
        clock: Clock,
        progress: Callable[[Progress], None] | None,
    ) -> tuple[UnitView, TangentLoop]:
        """Prepare the path formulation over some of the paths, with the present cuts."""
        table, keep = self.table, keep.copy()
        if self.best is not None:
            keep[self.table.numbers_of(self.best)] = True
        units = table.subsets(keep)
        tasks = {t: task for u in units for t, task in zip(u.group.tasks, u.tasks, strict=True)}
        pool = PathPool(table.pool.topology, tuple(tasks[t] for t in range(len(tasks))))
        settings = replace(self.settings, formulation="path", gap=gap, progress=progress)
        view = UnitView(pool, settings, units)
        number = np.cumsum(keep) - 1
        for cut in table.cuts:
            mine = keep[cut.paths]
            add_cut(
                view.model,
                number[cut.paths[mine]].tolist(),
                cut.on_path[mine].tolist(),
                cut.on_extra[mine].tolist(),
                cut.limit,
            )
        left_out = int((~table.alive).sum())
        return view, TangentLoop(Judge(pool, settings), clock, self.best, left_out)

    def _take(self, found: Solution | None) -> None:
        """Keep a better assignment, and leave out what can no longer be part of a better one."""
        if found is None or (self.best is not None and found.log_value <= self.best.log_value):
            return
        self.best = found
        self._take_bound()

    def _take_bound(self) -> None:
        """Keep the master's bound, and leave out paths by their reduced costs."""
        best = self.master.best
        if best is None:
            return
        bound = max(best.value, self.value) * self._unit
        self.bound = min(self.bound, bound)
        if self.best is not None and math.isfinite(self.value):
            margin = 1e-9 * (1.0 + abs(self.value))
            gone = self.table.alive & (best.value - best.loss < self.value - margin)
            if gone.any():
                self.master.leave_out(gone)
                self._in_vain.clear()
        self._report()

    def _distance(self) -> float:
        """Return the present gap of the objective."""
        value = -math.inf if self.best is None else self.best.log_value
        return relative_gap(self.is_log, value, self.bound)

    def _is_proven(self) -> bool:
        return self.best is not None and self._distance() <= self.gap

    def _true(self, value: float) -> float | None:
        """Return a value of the models in the units of the objective, None if it is no number."""
        value *= self._unit
        if self.is_log:
            value = math.exp(value) if value < 700.0 else math.inf
        return value if math.isfinite(value) else None

    def _report(self) -> None:
        if self.settings.progress is not None:
            value = None if self.best is None else self._true(self.value)
            bound, gap = self._true(self.bound / self._unit), self._distance()
            self.settings.progress(
                Progress(
                    "exact", self.clock.seconds, value, bound, gap if math.isfinite(gap) else None
                )
            )
