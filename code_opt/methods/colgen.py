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

import math
from dataclasses import replace
from typing import Any

import numpy as np

from code_opt.methods.assignment import Judge, Solution, relative_gap
from code_opt.methods.columns import BoolArray, PathTable
from code_opt.methods.master import Point, RestrictedMaster
from code_opt.methods.mip import TangentLoop
from code_opt.methods.models import PathView
from code_opt.methods.server_cuts import separate
from code_opt.methods.settings import SMALLEST_GAP, Clock, Progress
from code_opt.paths import PathPool
from code_opt.paths.graph import IntArray
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
_PATHS_PER_TASK, _WORTH_RESTRICTING = 4, 0.7
"""Paths of the restricted program; with more of those left it is not worth while."""
_SHARE_OF_GAP = 0.1
"""Gap asked of the restricted program, as a share of the present one."""


class ColumnGeneration:
    """State of one solve by column generation."""

    def __init__(self, judge: Judge, clock: Clock, best: Solution | None) -> None:
        """Take an assignment to start from, if there is one."""
        self.judge, self.clock, self.best = judge, clock, best
        self.settings = judge.settings
        self.gap = max(self.settings.gap, SMALLEST_GAP)
        self.is_log = self.settings.objective == "reward"
        self.bound = math.inf
        self.message: str | None = None
        self.details: dict[str, Any] = {}
        self.table = PathTable(judge.pool, self.settings)
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
            start = np.union1d(start, self._numbers(self.best))
        self.master = RestrictedMaster(self.judge, self.table, start, self.best)
        if self.best is None and self.master.is_infeasible(self.clock):
            return "infeasible"
        for _ in range(_PASSES):
            before = self.value
            self._strengthen()
            if self._is_proven():
                return "optimal"
            if self.clock.is_over:
                break
            self._restricted_program()
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
        logs = log_value(reward.accuracy, accuracy), log_value(
            reward.throughput, throughput * self.table.unit
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

    def _restricted_program(self) -> None:
        """Look for a better assignment among the paths that the prices like best."""
        best = self.master.best
        assert best is not None
        table = self.table
        count = min(_PATHS_PER_TASK * len(table.pool.tasks), len(table.task) - 1)
        keep = table.alive & (best.loss <= np.partition(best.loss, count)[count])
        if keep.sum() > _WORTH_RESTRICTING * table.alive.sum():
            return
        loop = self._program(keep, max(self.gap, _SHARE_OF_GAP * self._distance()))
        loop.solve(self._view)
        self._take(loop.best)

    def _finish(self) -> Status:
        """Solve what is left to the gap or the time limit."""
        loop = self._program(self.table.alive, self.gap)
        loop.bound = self.bound
        status = loop.solve(self._view)
        self.best, self.message = loop.best, loop.message
        self.bound = max(loop.bound, -math.inf if self.best is None else self.best.log_value)
        self.details["paths_left"] = int(self.table.alive.sum())
        for name in ("nodes", "lp_iterations", "tangents"):
            self.details[name] = loop.details.get(name)
        return status

    def _program(self, keep: BoolArray, gap: float) -> TangentLoop:
        """Prepare the path formulation over some of the paths, with the present cuts."""
        table, keep = self.table, keep.copy()
        if self.best is not None:
            keep[self._numbers(self.best)] = True
        tasks = tuple(
            task.subset(np.flatnonzero(keep[start:end]).tolist())
            for task, start, end in zip(
                table.pool.tasks, table.first[:-1].tolist(), table.first[1:].tolist(), strict=True
            )
        )
        pool = PathPool(table.pool.topology, tasks)
        settings = replace(self.settings, formulation="path", gap=gap)
        self._view = PathView(pool, settings)
        number = np.cumsum(keep) - 1
        for cut in table.cuts:
            mine = keep[cut.paths]
            add_cut(
                self._view.model,
                number[cut.paths[mine]].tolist(),
                cut.on_path[mine].tolist(),
                cut.on_extra[mine].tolist(),
                cut.limit,
            )
        return TangentLoop(Judge(pool, settings), self.clock, self.best)

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

    def _numbers(self, solution: Solution) -> IntArray:
        """Return the paths of an assignment as they are numbered in the table."""
        return np.array(
            [
                first + task.paths.arcs.index(path.arcs)
                for first, task, path in zip(
                    self.table.first[:-1].tolist(),
                    self.table.pool.tasks,
                    solution.paths,
                    strict=True,
                )
            ]
        )

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
