"""SCIP in process, for a second opinion on a program: solved once, from a file."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyomo.core as pyo

from code_opt.errors import SolverError
from code_opt.solvers.base import MipOutcome, SolverProgress, Termination, contradicts
from code_opt.solvers.writing import WholeModelSession

_LIMITS = {
    "timelimit": Termination.TIME_LIMIT,
    "userinterrupt": Termination.OTHER_LIMIT,
    "nodelimit": Termination.OTHER_LIMIT,
    "memlimit": Termination.OTHER_LIMIT,
}


def is_scip_installed() -> bool:
    """Tell whether PySCIPOpt can be imported."""
    return importlib.util.find_spec("pyscipopt") is not None


def scip_name() -> str:
    """Return SCIP's name and version."""
    from pyscipopt import Model

    return f"SCIP {Model().version()}"


class ScipSession(WholeModelSession):
    """A maximisation model in SCIP; its solutions are not loaded into the model's variables."""

    def __init__(self, model: pyo.ConcreteModel, *, seed: int = 0) -> None:
        super().__init__(model, "SCIP")
        self._seed = seed

    def solve(
        self,
        *,
        time_limit: float | None = None,
        absolute_gap: float = 0.0,
        relative_gap: float = 0.0,
        tolerance: float | None = None,  # noqa: ARG002
        start: bool = False,  # noqa: ARG002
        is_near_optimal: bool = False,  # noqa: ARG002
        known: float | None = None,
        progress: Callable[[SolverProgress], None] | None = None,  # noqa: ARG002
    ) -> MipOutcome:
        """See :class:`code_opt.solvers.base.MipSession`; SCIP finds its solutions by itself."""
        import pyomo.environ  # noqa: F401 (its writers: all of Pyomo, so only where one is used)
        from pyscipopt import Model

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.mps"
            # Short names: SCIP reads what stands between blanks.
            self._model.write(str(file), io_options={"symbolic_solver_labels": False})
            scip = Model()
            scip.hideOutput()
            scip.readProblem(str(file))
        scip.setParam("randomization/randomseedshift", self._seed)
        scip.setParam("limits/absgap", absolute_gap)
        scip.setParam("limits/gap", relative_gap)
        if time_limit is not None:
            scip.setParam("limits/time", max(time_limit, 0.01))
        scip.optimize()
        status = scip.getStatus()
        if status == "infeasible":
            if known is not None:
                raise self.contradiction("it calls the program infeasible, and it is not")
            return MipOutcome(Termination.INFEASIBLE, None, -np.inf)
        if status not in ("optimal", "gaplimit", *_LIMITS):
            raise SolverError(f"SCIP stopped with: {status}")
        # Pyomo writes a maximisation as what it is, or as the minimisation of its negative.
        sign = 1.0 if scip.getObjectiveSense() == "maximize" else -1.0
        bound = sign * scip.getDualbound()
        value = sign * scip.getPrimalbound() if scip.getNSols() else None
        if abs(bound) >= scip.infinity():
            bound = np.inf
        if contradicts(bound, known):
            raise self.contradiction(
                f"its bound {bound:.9g} is below the value {known:.9g} of a known solution"
            )
        return MipOutcome(
            _LIMITS.get(status, Termination.OPTIMAL), value, float(bound), int(scip.getNNodes())
        )
