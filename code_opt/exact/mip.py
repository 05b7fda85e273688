"""A mixed-integer program inside a loop of tangents.

Each round solves the program, values its assignment by the true reward (lower bound),
takes the solver's dual bound (upper bound) and adds tangents where the assignment lies,
until the gap of the true reward is within tolerance (:mod:`code_opt.core.tangents`).
"""

from __future__ import annotations

import math
from typing import Any

import pyomo.core as pyo

from code_opt.core.evaluator import Evaluator, Solution
from code_opt.core.objective import refuse_tiny_reward
from code_opt.core.settings import SMALLEST_GAP, Clock, Progress
from code_opt.core.tangents import ModelTangents, Tangents, ranges_of
from code_opt.errors import SolverError
from code_opt.exact.models import ModelView
from code_opt.result import SecondOpinion, Status
from code_opt.solvers import (
    MipSession,
    ScipSession,
    SolverProgress,
    Termination,
    contradicts,
    is_scip_installed,
    open_session,
    scip_name,
)

_NEAR_OPTIMAL = 0.05
"""Share of the binaries that the value of an assignment fixes from which it counts as near the
optimum."""


class TangentLoop:
    """State of one mixed-integer solve over a pool: best assignment, bound, counts."""

    def __init__(
        self,
        evaluator: Evaluator,
        view: ModelView,
        clock: Clock,
        *,
        best: Solution | None = None,
        bound: float = math.inf,
        left_out: int = 0,
    ) -> None:
        """Give the model its first tangents, dense around the best known assignment.

        Args:
            evaluator: pool, objective and floors.
            view: the model, without tangents.
            clock: ends the solve early.
            best: an assignment to start from, if there is one.
            bound: a proven bound of the objective.
            left_out: paths that the value of ``best`` has already kept out of the pool.
        """
        self.evaluator, self.objective = evaluator, evaluator.objective
        self.settings = evaluator.settings
        self.clock = clock
        self.is_log = self.objective.is_log
        self.gap = max(self.settings.gap, SMALLEST_GAP)
        self.unit = self.objective.unit_in_model
        self.best = best
        self._left_out = left_out
        self.bound = self.root_bound = bound
        """Proven bounds of the objective: of all that is done, and without this program."""
        self._view = view
        program = ModelTangents(view.model, view.goal)
        self._tangents = Tangents(self.objective.reward, program, self.gap)
        ranges = ranges_of(evaluator.pool)
        if self.is_log and not self._tangents.spread(*ranges, best):
            self.bound = -math.inf
        self.message: str | None = None
        self.details: dict[str, Any] = {"rounds": 0, "nodes": 0, "lp_iterations": 0}

    def solve(self) -> Status:
        """Run to the gap, the time limit or a proof; return the status."""
        settings = self.settings
        session = open_session(
            self._view.model,
            settings.solver,
            threads=settings.threads,
            seed=settings.seed,
            options=settings.solver_options,
            log=settings.solver_log,
        )
        fixed = binaries = 0
        if self._known is not None:
            fixed, binaries = session.tighten(self._known, self.clock.left)
        self.details["binaries_fixed"] = fixed
        is_near = fixed + self._left_out >= _NEAR_OPTIMAL * max(binaries + self._left_out, 1)
        precision = 0.7
        while True:
            status = self._round(session, precision, is_near)
            if status is not None:
                self._after(session)
                self.details["tangents"] = len(self._tangents)
                return status
            precision = max(precision / 2, 0.2)

    def second_opinion(self) -> SecondOpinion:
        """Return what another solver proves of the program as it is now.

        SCIP where it is installed and was not asked first, else HiGHS with another seed and
        without presolve. Nothing that reduced costs have fixed in a session counts.

        Raises:
            SolverError: its bound is below the value of the best assignment, or it finds a
                solution beyond the bound of this loop; the model is kept then.
        """
        settings, model = self.settings, self._view.model
        session: MipSession
        if settings.solver != "scip" and is_scip_installed():
            name, session = scip_name(), ScipSession(model, seed=settings.seed)
        else:
            seed = settings.seed + 1 if settings.seed < 2**31 - 1 else 0
            name = f"HiGHS without presolve, seed {seed}"
            session = open_session(
                model, threads=settings.threads, seed=seed, options={"presolve": "off"}
            )
        clock = Clock(settings.time_limit)
        if self.best is not None:
            self._view.start_at(self.best)
        gap = max(self.gap, self.objective.gap(self.best_value, self.bound))
        outcome = session.solve(
            time_limit=clock.left,
            absolute_gap=0.5 * gap if self.is_log else 0.0,
            relative_gap=0.0 if self.is_log else 0.5 * gap,
            start=self.best is not None,
            known=self._known,
        )
        proven = self.bound / self.unit
        if outcome.value is not None and contradicts(proven, outcome.value):
            raise session.contradiction(
                f"it finds a solution of the value {outcome.value:.9g}, and {proven:.9g} was "
                f"proven to bound them all by {settings.solver}"
            )
        bound = max(outcome.bound * self.unit, self.best_value)
        return SecondOpinion(
            solver=name,
            bound=self.objective.shown(bound),
            agrees=self.objective.gap(self.best_value, bound) <= gap * (1.0 + 1e-6) + 1e-9,
            seconds=clock.seconds,
        )

    def _after(self, session: MipSession) -> None:
        """Look at a program that is not solved again."""

    def _round(self, session: MipSession, precision: float, is_near: bool) -> Status | None:
        """Solve once; return the final status, or None to go on."""
        view = self._view
        if self.best is not None:
            view.start_at(self.best)
        try:
            outcome = session.solve(
                time_limit=self.clock.left,
                absolute_gap=precision * self.gap if self.is_log else 0.0,
                relative_gap=0.0 if self.is_log else precision * self.gap,
                start=self.best is not None,
                is_near_optimal=is_near,
                known=self._known,
                progress=self._report if self.settings.progress else None,
            )
        except SolverError:
            # Logarithms of rewards that no number holds are beyond what a solver resolves.
            if self.is_log and self.best is not None:
                refuse_tiny_reward(self.best.value)
            raise
        self.details["rounds"] += 1
        self.details["nodes"] += outcome.nodes
        self.details["lp_iterations"] += outcome.lp_iterations
        if outcome.termination is Termination.INFEASIBLE:
            if self.best is not None:
                raise session.contradiction("it calls the program infeasible, and it is not")
            return "infeasible"  # said twice
        new_rows = 0
        if outcome.value is not None:
            paths = view.paths()
            excluded = view.exclude(paths)
            session.add_constraints(excluded)
            new_rows += len(excluded)
            found = None if excluded else self.evaluator.solution(paths)
            if found is not None and (self.best is None or found.value > self.best.value):
                value, known = found.value / self.unit, self._known
                if outcome.is_second and known is not None and contradicts(known, value):
                    raise session.contradiction(
                        f"it said that nothing is better than {self.best_value:.9g}, and finds "
                        f"{found.value:.9g} when asked again"
                    )
                self.best = found
            if self.is_log:
                new_rows += self._cut(session)
        self.bound = min(self.bound, outcome.bound * self.unit)
        self.bound = max(self.bound, self.best_value)
        gap = self.objective.gap(self.best_value, self.bound)
        if self.best is not None and gap <= self.gap:
            return "optimal"
        if outcome.termination is not Termination.OPTIMAL or self.clock.is_over:
            why = self.clock.reason if self.clock.is_over else outcome.termination.value
            self.message = f"stopped by {why}"
            return self._stopped()
        if new_rows == 0 and precision <= 0.2:
            self.message = "stopped at the solver's own tolerance"
            return self._stopped()
        return None

    @property
    def best_value(self) -> float:
        """Value of the best assignment (a reward's logarithm); -inf without one."""
        return -math.inf if self.best is None else self.best.value

    @property
    def _known(self) -> float | None:
        """The same in the unit of the model's goal, None where that is no number."""
        value = self.best_value / self.unit
        return value if math.isfinite(value) else None

    def _stopped(self) -> Status:
        if self.best is None:
            self.message = f"{self.message} before any assignment was found"
            return "unknown"
        return "feasible"

    def _cut(self, session: MipSession) -> int:
        """Add tangents at the program's solution, to the model and to the living session."""
        model, goal = self._view.model, self._view.goal
        added = self._tangents.add_at(
            float(pyo.value(model.average_accuracy)) * goal.accuracy_unit,
            float(pyo.value(model.throughput)) * goal.throughput_unit,
            (float(pyo.value(model.log_accuracy)), float(pyo.value(model.log_throughput))),
        )
        session.add_constraints(added)
        return len(added)

    def _report(self, progress: SolverProgress) -> None:
        assert self.settings.progress is not None
        value = None if self.best is None else self.best.value
        bound = min(self.bound, progress.bound * self.unit)
        shown, gap = None if value is None else self.objective.shown(value), None
        if value is not None and math.isfinite(bound):
            gap = self.objective.gap(value, bound)
        self.settings.progress(
            Progress("exact", self.clock.seconds, shown, self.objective.shown(bound), gap)
        )
