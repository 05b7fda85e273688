"""Any other MIP solver, through Pyomo's solver factory; solved afresh at every call."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.opt import TerminationCondition

from code_opt.errors import InputError, SolverError
from code_opt.solvers.base import MipOutcome, SolverProgress, Termination, contradicts
from code_opt.solvers.highs import HighsSession, new_highs
from code_opt.solvers.writing import WholeModelSession


@dataclass(frozen=True)
class _OptionNames:
    """How one solver calls what this package sets."""

    time_limit: str
    absolute_gap: str
    relative_gap: str
    threads: str | None
    seed: str | None


# The names are the solvers' own (their manuals); a solver that is not listed could not be
# given limits reliably and is refused rather than run without them.
_SOLVERS = {
    "appsi_highs": _OptionNames(
        "time_limit", "mip_abs_gap", "mip_rel_gap", "threads", "random_seed"
    ),
    "cbc": _OptionNames("seconds", "allowableGap", "ratioGap", "threads", "randomCbcSeed"),
    "cplex": _OptionNames(
        "timelimit", "mip_tolerances_absmipgap", "mip_tolerances_mipgap", "threads", "randomseed"
    ),
    "gurobi": _OptionNames("TimeLimit", "MIPGapAbs", "MIPGap", "Threads", "Seed"),
    "scip": _OptionNames("limits/time", "limits/absgap", "limits/gap", None, None),
    "xpress": _OptionNames("maxtime", "mipabsstop", "miprelstop", "threads", "randomseed"),
}


def external_solvers() -> list[str]:
    """Return the names of the solvers, beside HiGHS in process, that are installed."""
    return [name for name in sorted(_SOLVERS) if _is_available(name)]


def _is_available(name: str) -> bool:
    # Pyomo logs a warning for each solver that is not there; asking is no reason to warn.
    logger = logging.getLogger("pyomo")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return bool(pyo.SolverFactory(name).available(exception_flag=False))
    except Exception:  # noqa: BLE001 (a solver's own start-up failure means the same: it cannot be used)
        return False
    finally:
        logger.setLevel(level)


class PyomoSession(WholeModelSession):
    """A model and a solver named to Pyomo."""

    def __init__(
        self,
        model: pyo.ConcreteModel,
        solver: str,
        *,
        threads: int = 1,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        log: bool = False,
    ) -> None:
        """Find the solver.

        Raises:
            InputError: the solver is not supported or not installed.
        """
        if solver not in _SOLVERS:
            known = ", ".join(["highs", *sorted(_SOLVERS)])
            raise InputError(f"solver {solver!r}: not supported; known are {known}")
        if not _is_available(solver):
            installed = ", ".join(["highs", *external_solvers()])
            raise InputError(f"solver {solver!r}: not installed here; installed are {installed}")
        super().__init__(model, solver)
        self._names = _SOLVERS[solver]
        self._log = log
        self._options = dict(options or {})
        own = (self._names.time_limit, self._names.absolute_gap, self._names.relative_gap)
        for name in self._options:
            if name in own or name == self._names.threads:
                raise InputError(f"solver option {name!r}: set by --time-limit, --gap or --threads")
        if solver == "appsi_highs":
            # Pyomo would pass unknown names on without a word.
            new_highs(options=self._options)
        self._options = {name: _number(value) for name, value in self._options.items()}
        if self._names.threads is not None:
            self._options[self._names.threads] = threads
        if self._names.seed is not None:
            self._options.setdefault(self._names.seed, seed)

    def solve(
        self,
        *,
        time_limit: float | None = None,
        absolute_gap: float = 0.0,
        relative_gap: float = 0.0,
        tolerance: float | None = None,  # noqa: ARG002
        start: bool = False,
        is_near_optimal: bool = False,  # noqa: ARG002
        known: float | None = None,
        progress: Callable[[SolverProgress], None] | None = None,  # noqa: ARG002
    ) -> MipOutcome:
        """See :class:`code_opt.solvers.base.MipSession`.

        Progress is not reported, and the tolerance is the solver's own. Another solver's
        "infeasible" is asked again of HiGHS.
        """
        outcome = self._solve(time_limit, absolute_gap, relative_gap, start)
        if outcome.termination is Termination.INFEASIBLE:
            second = HighsSession(self._model).solve(
                time_limit=time_limit,
                absolute_gap=absolute_gap,
                relative_gap=relative_gap,
                known=known,
            )
            return replace(second, is_second=True)
        if contradicts(outcome.bound, known):
            raise self.contradiction(
                f"its bound {outcome.bound:.9g} is below the value {known:.9g} of a known solution"
            )
        return outcome

    def _solve(
        self, time_limit: float | None, absolute_gap: float, relative_gap: float, start: bool
    ) -> MipOutcome:
        solver = pyo.SolverFactory(self._name)
        for name, value in self._options.items():
            solver.options[name] = value
        solver.options[self._names.absolute_gap] = absolute_gap
        solver.options[self._names.relative_gap] = relative_gap
        if time_limit is not None:
            solver.options[self._names.time_limit] = max(time_limit, 0.01)
        arguments: dict[str, Any] = {"tee": self._log, "load_solutions": False}
        if start and getattr(solver, "warm_start_capable", lambda: False)():
            arguments["warmstart"] = True
        try:
            with contextlib.redirect_stdout(sys.stderr):
                results = solver.solve(self._model, **arguments)
        except (ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise InputError(f"solver {self._name!r} refused to run: {error}") from None
        except Exception as error:
            raise SolverError(f"solver {self._name!r} failed: {error}") from error
        condition = results.solver.termination_condition
        if condition in (
            TerminationCondition.infeasible,
            TerminationCondition.infeasibleOrUnbounded,
        ):
            return MipOutcome(Termination.INFEASIBLE, None, -np.inf)
        limits = {
            TerminationCondition.maxTimeLimit: Termination.TIME_LIMIT,
            TerminationCondition.maxIterations: Termination.OTHER_LIMIT,
            TerminationCondition.maxEvaluations: Termination.OTHER_LIMIT,
            TerminationCondition.userInterrupt: Termination.OTHER_LIMIT,
        }
        if condition != TerminationCondition.optimal and condition not in limits:
            raise SolverError(f"solver {self._name!r} stopped with: {condition}")
        value = None
        if len(results.solution) > 0:
            self._model.solutions.load_from(results)
            value = float(pyo.value(self._model.goal))
        bound = results.problem.upper_bound
        return MipOutcome(
            limits.get(condition, Termination.OPTIMAL),
            value,
            float(bound) if bound is not None and np.isfinite(bound) else np.inf,
        )


def _number(value: Any) -> Any:
    """Return an option given as text as the number that it stands for, if it does."""
    if isinstance(value, str):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    return value
