"""The only place that speaks to a solver."""

from code_opt.solvers.base import MipOutcome, MipSession, SolverProgress, Termination, contradicts
from code_opt.solvers.factory import available_solvers, open_session
from code_opt.solvers.lp import LinearProgram, LpOutcome, Polar
from code_opt.solvers.scip import ScipSession, is_scip_installed, scip_name
from code_opt.solvers.solution_files import SolverSolution, read_solution
from code_opt.solvers.writing import write_model

__all__ = [
    "LinearProgram",
    "LpOutcome",
    "MipOutcome",
    "MipSession",
    "Polar",
    "ScipSession",
    "SolverProgress",
    "SolverSolution",
    "Termination",
    "available_solvers",
    "contradicts",
    "is_scip_installed",
    "open_session",
    "read_solution",
    "scip_name",
    "write_model",
]
