"""Solvers by name: HiGHS in process, any other that Pyomo finds installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyomo.core as pyo

from code_opt.solvers.base import MipSession
from code_opt.solvers.highs import HighsSession


def available_solvers() -> list[str]:
    """Return the names of the solvers that can be used here, HiGHS first."""
    from code_opt.solvers.external import external_solvers

    return ["highs", *external_solvers()]


def open_session(
    model: pyo.ConcreteModel,
    solver: str = "highs",
    *,
    threads: int = 1,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    log: bool = False,
) -> MipSession:
    """Hand a model to a solver.

    Args:
        model: a linear maximisation with bounded variables.
        solver: ``highs`` or the name of a MIP solver that Pyomo knows and that is installed.
        threads: threads of the solver.
        seed: the solver's random seed.
        options: the solver's own options by name.
        log: print the solver's log to stderr.

    Raises:
        InputError: the solver is unknown or not installed, or refuses an option.
    """
    if solver == "highs":
        return HighsSession(model, threads=threads, seed=seed, options=options, log=log)
    # All of Pyomo loads with it.
    from code_opt.solvers.external import PyomoSession

    return PyomoSession(model, solver, threads=threads, seed=seed, options=options, log=log)
