"""HiGHS (Huangfu and Hall, Mathematical Programming Computation 10, 2018) as a living session."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import highspy
import numpy as np
import pyomo.core as pyo
from highspy import HighsModelStatus as Status

from code_opt.errors import InputError, SolverError
from code_opt.solvers.base import MipOutcome, SolverProgress, Termination, contradicts
from code_opt.solvers.compiled import CompiledModel
from code_opt.solvers.writing import contradiction
from code_opt.stopping import is_stop_requested

_LIMITS = {
    Status.kTimeLimit: Termination.TIME_LIMIT,
    Status.kIterationLimit: Termination.OTHER_LIMIT,
    Status.kSolutionLimit: Termination.OTHER_LIMIT,
    Status.kInterrupt: Termination.OTHER_LIMIT,
    Status.kObjectiveBound: Termination.OTHER_LIMIT,
    Status.kObjectiveTarget: Termination.OTHER_LIMIT,
    Status.kMemoryLimit: Termination.OTHER_LIMIT,
}
_INFEASIBLE = (Status.kInfeasible, Status.kUnboundedOrInfeasible)
"""Every goal of ours is bounded above: "unbounded or infeasible" is infeasible."""
_FEASIBILITY_TOLERANCE = 1e-6
"""HiGHS' default for mip_feasibility_tolerance."""
_TIGHTEST_TOLERANCE = 1e-8
"""The least that is asked for: at 1e-9 the presolve of HiGHS 1.16 has called feasible programs
infeasible (tests/solvers/tight-presolve.mps)."""
_DOMINATED_COLUMNS = 1 << 5
"""Rule of HiGHS' presolve (bit of ``presolve_rule_off``) that is left out. With it HiGHS 1.16 has
called a feasible model's second best solution optimal (tests/solvers/presolve.mps; of the same
kind: HiGHS issues 1725, 3043, 3073 and 3094)."""
_LAST_WAIT = 1.0
"""Seconds that a cancelled run gets to end by itself before nobody waits for it any more."""
_OWN_OPTIONS = ("time_limit", "mip_rel_gap", "mip_abs_gap", "threads", "output_flag")
# With a start that is near the optimum, HiGHS' searches for solutions and the restarts that
# they trigger cost more than they bring (`python -m benchmarks.ablation` measures it).
_TRUST_START = {
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_root_reduced_cost": False,
    "mip_heuristic_run_feasibility_jump": False,
    "mip_allow_restart": False,
}


class HighsSession:
    """A Pyomo model inside HiGHS; rows are added in place, never rebuilt."""

    def __init__(
        self,
        model: pyo.ConcreteModel,
        *,
        threads: int = 1,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        log: bool = False,
    ) -> None:
        """Hand a model over.

        Raises:
            InputError: HiGHS does not know an option or refuses its value.
        """
        self._compiled = CompiledModel(model)
        self._user_options = frozenset(options or {})
        self._new = partial(new_highs, threads=threads, seed=seed, options=options, log=log)
        self._highs = self._new()
        self._highs.passModel(self._compiled.lp)

    def add_constraints(self, constraints: Sequence[Any]) -> None:
        """See :class:`code_opt.solvers.base.MipSession`."""
        for constraint in constraints:
            lower, upper, index, value = self._compiled.row(constraint)
            self._highs.addRow(lower, upper, len(index), index, value)

    def tighten(self, cutoff: float, time_limit: float | None = None) -> tuple[int, int]:
        """Fix binaries by reduced costs at the LP relaxation (Dantzig, Fulkerson, Johnson 1954).

        A binary at 0 whose reduced cost lowers the LP bound below ``cutoff`` is 0 in
        every solution at least that good; one at 1 likewise stays 1.
        """
        highs, compiled = self._highs, self._compiled
        columns = np.flatnonzero(compiled.is_integer).astype(np.int32)
        continuous = np.full(len(columns), highspy.HighsVarType.kContinuous)
        highs.changeColsIntegrality(len(columns), columns, continuous)
        self._limit_time(time_limit)
        run_interruptible(highs)
        fixed = 0
        if highs.getModelStatus() == Status.kOptimal:
            solution = highs.getSolution()
            slack = -highs.getInfo().objective_function_value - cutoff
            # The LP solution is optimal within tolerances only: leave a margin.
            slack += 1e-6 * (1.0 + abs(cutoff))
            dual = np.array(solution.col_dual)[columns]
            value = np.array(solution.col_value)[columns]
            to_zero = (dual > slack) & (value < 0.5)
            to_one = (-dual > slack) & (value > 0.5)
            fixed = int(to_zero.sum() + to_one.sum())
            for column in columns[to_zero].tolist():
                highs.changeColBounds(column, 0.0, 0.0)
            for column in columns[to_one].tolist():
                highs.changeColBounds(column, 1.0, 1.0)
        integer = np.full(len(columns), highspy.HighsVarType.kInteger)
        highs.changeColsIntegrality(len(columns), columns, integer)
        highs.clearSolver()
        return fixed, len(columns)

    def is_fixed_at_zero(self, variables: Sequence[Any]) -> list[bool]:
        """See :class:`code_opt.solvers.base.MipSession`."""
        upper = self._highs.getLp().col_upper_
        index = self._compiled.index
        return [id(v) in index and upper[index[id(v)]] <= 0.0 for v in variables]

    def solve(
        self,
        *,
        time_limit: float | None = None,
        absolute_gap: float = 0.0,
        relative_gap: float = 0.0,
        tolerance: float | None = None,
        start: bool = False,
        is_near_optimal: bool = False,
        known: float | None = None,
        progress: Callable[[SolverProgress], None] | None = None,
    ) -> MipOutcome:
        """See :class:`code_opt.solvers.base.MipSession`."""
        highs = self._highs
        began = time.monotonic()
        self._limit_time(time_limit)
        self._set_gaps(absolute_gap, relative_gap)
        # HiGHS prunes nodes that are better by less than this, so its bound is no sharper.
        if tolerance is None:
            tolerance = min(_FEASIBILITY_TOLERANCE, 0.1 * max(absolute_gap, relative_gap))
        tolerance = max(tolerance, _TIGHTEST_TOLERANCE)
        for name, setting in (_TRUST_START if start and is_near_optimal else {}).items():
            if name not in self._user_options:
                highs.setOptionValue(name, setting)
        start_values = self._compiled.values().tolist() if start else None
        status = self._run(tolerance, start_values, progress)
        if start and self._lost_solution(status):
            # A start that presolve improves is sometimes given back as it was, under the
            # objective of the better one: without a start HiGHS returns what it found.
            highs.clearSolver()
            status = self._run(tolerance, None, progress)
        if status == Status.kSolveError and tolerance < _FEASIBILITY_TOLERANCE:
            # Seen once in thousands of runs at tight tolerances: HiGHS' own is safer.
            highs.clearSolver()
            status = self._run(_FEASIBILITY_TOLERANCE, start_values, progress)
        if status in _INFEASIBLE or (status != Status.kOptimal and status not in _LIMITS):
            left = None if time_limit is None else time_limit - (time.monotonic() - began)
            self._set_up_anew(left, absolute_gap, relative_gap)
            second = self._run(_FEASIBILITY_TOLERANCE, None, progress)
            outcome = replace(self._outcome(second), is_second=status in _INFEASIBLE)
            self._compare(status, tolerance, outcome, known)
        else:
            outcome = self._outcome(status)
        if contradicts(outcome.bound, known):
            # What presolve may lose at HiGHS' own tolerance adds up: seen at 8e-6 of log F.
            left = None if time_limit is None else time_limit - (time.monotonic() - began)
            self._set_up_anew(left, absolute_gap, relative_gap)
            outcome = self._outcome(self._run(_TIGHTEST_TOLERANCE, None, progress))
        if contradicts(outcome.bound, known):
            raise self.contradiction(
                f"its bound {outcome.bound:.9g} is below the value {known:.9g} of a known solution"
            )
        return outcome

    def contradiction(self, found: str) -> SolverError:
        """See :class:`code_opt.solvers.base.MipSession`."""
        return contradiction("HiGHS", found, self._highs.writeModel)

    def _set_gaps(self, absolute: float, relative: float) -> None:
        self._highs.setOptionValue("mip_abs_gap", absolute)
        self._highs.setOptionValue("mip_rel_gap", relative)

    def _set_up_anew(self, time_limit: float | None, absolute: float, relative: float) -> None:
        """Go on with a new solver without presolve, and with nothing fixed by :meth:`tighten`.

        HiGHS has open reports of wrong infeasibility, most of them of presolve (issue 3296).
        """
        lp, own = self._highs.getLp(), self._compiled.lp
        lp.col_lower_, lp.col_upper_ = own.col_lower_, own.col_upper_
        lp.integrality_ = own.integrality_
        self._highs = self._new()
        self._highs.setOptionValue("presolve", "off")
        self._highs.passModel(lp)
        self._limit_time(time_limit)
        self._set_gaps(absolute, relative)

    def _compare(
        self, first: Status, tolerance: float, second: MipOutcome, known: float | None
    ) -> None:
        """Raise where the second answer shows that nothing can be trusted.

        The second ask allows larger violations. What it finds contradicts the first one only if it
        is a solution within the tolerance of that one; what was fixed by the value of a known
        solution is for the caller to compare, who knows what the second one is worth.
        """
        if first not in _INFEASIBLE:
            return
        if second.termination is Termination.INFEASIBLE and known is not None:
            raise self.contradiction(
                f"it calls the program infeasible, but a solution of the value {known:.9g} is known"
            )
        if second.value is not None and known is None and self._violation() <= tolerance:
            raise self.contradiction(
                "it calls the program infeasible, and without presolve it finds a solution of the "
                f"value {second.value:.9g}"
            )

    def _violation(self) -> float:
        """Return the largest violation of a row, a bound or integrality by the solution held."""
        lp, solution = self._highs.getLp(), self._highs.getSolution()
        x, rows = np.array(solution.col_value), np.array(solution.row_value)
        integer = x[self._compiled.is_integer]
        return max(
            float(np.max(excess, initial=0.0))
            for excess in (
                np.array(lp.col_lower_) - x,
                x - np.array(lp.col_upper_),
                np.array(lp.row_lower_) - rows,
                rows - np.array(lp.row_upper_),
                np.abs(integer - np.round(integer)),
            )
        )

    def _outcome(self, status: Status) -> MipOutcome:
        """Return what the run found, the solution loaded into the model's variables."""
        info = self._highs.getInfo()
        nodes, iterations = int(max(info.mip_node_count, 0)), int(info.simplex_iteration_count)
        if status in _INFEASIBLE:
            return MipOutcome(Termination.INFEASIBLE, None, -np.inf, nodes, iterations)
        if status != Status.kOptimal and status not in _LIMITS:
            raise SolverError(f"HiGHS stopped with: {self._highs.modelStatusToString(status)}")
        value: float | None = None
        if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
            columns = self._highs.getSolution().col_value
            self._compiled.load(columns)
            value = -self._compiled.objective(columns)
        bound = -info.mip_dual_bound
        if not self._compiled.is_integer.any() and status == Status.kOptimal and value is not None:
            bound = value
        return MipOutcome(
            _LIMITS.get(status, Termination.OPTIMAL), value, float(bound), nodes, iterations
        )

    def _lost_solution(self, status: Status) -> bool:
        """Tell whether the columns returned do not have the objective returned."""
        info = self._highs.getInfo()
        if status != Status.kOptimal:
            return False
        value = self._compiled.objective(self._highs.getSolution().col_value)
        return abs(value - info.objective_function_value) > 1e-6 * (1.0 + abs(value))

    def _limit_time(self, seconds: float | None) -> None:
        # HiGHS counts from the first run of the object, not from this one.
        limit = np.inf if seconds is None else self._highs.getRunTime() + max(seconds, 0.01)
        self._highs.setOptionValue("time_limit", limit)

    def _run(
        self,
        tolerance: float,
        start_values: list[float] | None,
        progress: Callable[[SolverProgress], None] | None,
    ) -> Status:
        self._highs.setOptionValue("mip_feasibility_tolerance", tolerance)
        if start_values is not None:
            solution = highspy.HighsSolution()
            solution.col_value = start_values
            self._highs.setSolution(solution)
        run_interruptible(self._highs, progress)
        return self._highs.getModelStatus()


class _QuietHighs(highspy.Highs):
    """HiGHS without its banner, which setting up callbacks would print to stdout."""

    def enableCallbacks(self) -> None:  # noqa: N802 (HiGHS' own name)
        self.silent()
        super().enableCallbacks()


def new_highs(
    *, threads: int = 1, seed: int = 0, options: Mapping[str, Any] | None = None, log: bool = False
) -> highspy.Highs:
    """Return a solver with every option passed on or refused.

    Raises:
        InputError: an option is unknown, has a wrong value, or is set by this package.
    """
    # The threads of a process are set up by its first run: another user of HiGHS in this
    # process may have asked for a different number, which HiGHS would refuse to change.
    highspy.Highs.resetGlobalScheduler(True)
    highs = _QuietHighs()
    highs.setOptionValue("threads", threads)
    highs.setOptionValue("parallel", "on" if threads > 1 else "off")
    highs.setOptionValue("random_seed", seed)
    highs.setOptionValue("log_to_console", False)
    highs.setOptionValue("presolve_rule_off", _DOMINATED_COLUMNS)
    for name, text in (options or {}).items():
        if name in _OWN_OPTIONS:
            raise InputError(f"solver option {name!r}: set by --time-limit, --gap or --threads")
        status, kind = highs.getOptionType(name)
        if status != highspy.HighsStatus.kOk:
            raise InputError(f"solver option {name!r}: HiGHS has none of that name")
        if highs.setOptionValue(name, _option_value(name, kind, text)) != highspy.HighsStatus.kOk:
            raise InputError(f"solver option {name!r}: HiGHS refuses the value {text!r}")
    if log:
        import sys

        highs.setOptionValue("output_flag", True)
        highs.setOptionValue("log_to_console", False)
        highs.cbLogging.subscribe(lambda event: print(event.message, end="", file=sys.stderr))
    return highs


def run_interruptible(
    highs: highspy.Highs,
    progress: Callable[[SolverProgress], None] | None = None,
    is_stoppable: bool = True,
) -> None:
    """Run HiGHS so that Python's signals are heard while it runs.

    Args:
        highs: what to run.
        progress: called now and then.
        is_stoppable: whether a request to stop ends the run.
    """
    latest: list[SolverProgress] = []

    def remember(event: Any) -> None:
        primal, dual = event.data_out.mip_primal_bound, event.data_out.mip_dual_bound
        latest[:] = [SolverProgress(-primal if abs(primal) < 1e100 else None, float(-dual))]

    highs.HandleUserInterrupt = True
    if progress is not None:
        highs.cbMipInterrupt.subscribe(remember)
    highs.startSolve()
    try:
        done, last = False, time.monotonic()
        while not done:
            done, _ = highs.wait(0.1)
            if is_stoppable and is_stop_requested():
                highs.cancelSolve()
            if progress is not None and latest and time.monotonic() - last > 0.5:
                progress(latest[0])
                last = time.monotonic()
    except BaseException:
        highs.cancelSolve()
        highs.wait(_LAST_WAIT)
        raise
    finally:
        if progress is not None:
            highs.cbMipInterrupt.unsubscribe(remember)


def _option_value(name: str, kind: Any, text: Any) -> Any:
    """Convert an option given as text to the type that HiGHS wants."""
    if not isinstance(text, str):
        return text
    try:
        if kind == highspy.HighsOptionType.kBool:
            return {"true": True, "on": True, "false": False, "off": False}[text.lower()]
        if kind == highspy.HighsOptionType.kInt:
            return int(text)
        if kind == highspy.HighsOptionType.kDouble:
            return float(text)
    except (KeyError, ValueError):
        raise InputError(f"solver option {name!r}: HiGHS refuses the value {text!r}") from None
    return text
