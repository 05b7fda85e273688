"""What every solver session offers: a living model that is solved, extended and solved again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from code_opt.errors import SolverError


class Termination(Enum):
    """Why a solver stopped; whether it holds a solution is told apart (``MipOutcome.value``)."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time limit"
    OTHER_LIMIT = "another limit"


@dataclass(frozen=True)
class MipOutcome:
    """One solve of a maximisation.

    ``value`` is the objective of the solution that the session loaded into the model's
    variables, None without one. ``bound`` is the solver's proven upper bound, infinite
    when it has none. ``is_second`` marks the answer to a second ask, after one that the
    program is infeasible (:meth:`MipSession.solve`).
    """

    termination: Termination
    value: float | None
    bound: float
    nodes: int = 0
    lp_iterations: int = 0
    is_second: bool = False


@dataclass(frozen=True)
class SolverProgress:
    """A running solve: objective of the incumbent (or None) and proven upper bound."""

    value: float | None
    bound: float


class MipSession(Protocol):
    """A maximisation model held by a solver."""

    def add_constraints(self, constraints: Sequence[Any]) -> None:
        """Hand over constraints that were added to the Pyomo model since."""

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
        """Solve; load the best solution into the model's variables.

        "Infeasible" is never taken from one ask: the program is asked again, without presolve
        and without what :meth:`tighten` has fixed.

        Args:
            time_limit: seconds, None for no limit.
            absolute_gap: stop when bound - value is at most this.
            relative_gap: stop when (bound - value) / |value| is at most this.
            tolerance: most that rows and integers may be missed by, absolute; None: the
                solver's own, or less where a small gap needs it.
            start: the variables' values are a solution to start from.
            is_near_optimal: whether the start is likely to be so good that searching for better
                solutions costs more than it brings.
            known: value of a known solution of the model; a proof that contradicts it is none.
            progress: called now and then while the solver runs.

        Raises:
            SolverError: the solver failed (not a limit, not infeasibility), or its answers
                contradict each other or the known solution; the model is kept then.
        """

    def contradiction(self, found: str) -> SolverError:
        """Return the error of answers that cannot all be true; the model is kept in a file.

        Args:
            found: what contradicts what.
        """

    def tighten(self, cutoff: float, time_limit: float | None = None) -> tuple[int, int]:
        """Fix binaries that no solution with a value of at least ``cutoff`` can use.

        Args:
            cutoff: value of a known solution.
            time_limit: seconds, None for no limit.

        Returns:
            Number of binaries fixed, and of all; both 0 where the solver offers no such thing.
        """


BOUND_TOLERANCE = 1e-6
"""How far a bound may be below the value of a known solution, relative to 1 + |value|: what the
default tolerances of MIP solvers (1e-6) let pass."""


def contradicts(bound: float, known: float | None) -> bool:
    """Tell whether an upper bound is below the value of a known solution."""
    return known is not None and bound < known - BOUND_TOLERANCE * (1.0 + abs(known))
