"""Write a model as MPS or LP, for other solvers and for eyes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyomo.core as pyo

from code_opt.errors import InputError, SolverError
from code_opt.files import write_atomically


def write_model(
    model: pyo.ConcreteModel,
    path: str | Path,
    *,
    name_of: Callable[[Any], str] | None = None,
    comment: Sequence[str] = (),
) -> None:
    """Write a Pyomo model with readable names, whole or not at all.

    Args:
        model: what to write.
        path: ``NAME.mps`` or ``NAME.lp``.
        name_of: names variables, rows and the objective; by default Pyomo's own names are taken.
        comment: lines at the top of the file, in ASCII.

    Raises:
        InputError: the suffix is neither ``.mps`` nor ``.lp``, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".mps", ".lp"):
        raise InputError(f"{path}: the format is told by the suffix, .mps or .lp")
    import pyomo.environ  # noqa: F401 (its writers: all of Pyomo, so only where one is used)

    mark = "* " if suffix == ".mps" else "\\ "
    options: dict[str, Any] = {"symbolic_solver_labels": True}
    if name_of is not None:
        options = {"labeler": name_of}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / f"model{suffix}"
        model.write(str(scratch), io_options=options)
        top = "".join(f"{mark}{line}\n" for line in comment)
        write_atomically(path, top.encode("ascii") + scratch.read_bytes())


def contradiction(solver: str, found: str, write: Callable[[str], object]) -> SolverError:
    """Return the error of a solver that contradicts itself or a known solution.

    Args:
        solver: its name.
        found: what contradicts what.
        write: writes the model to the path that it is given.
    """
    handle, path = tempfile.mkstemp(prefix="code-opt-", suffix=".mps")
    os.close(handle)
    write(path)
    return SolverError(
        f"{solver}: {found}. Nothing that it says of this model can be trusted; "
        f"the model is kept for a report: {path}"
    )


class WholeModelSession:
    """What sessions have in common whose solver gets the whole model, written anew, at each solve.

    See :class:`code_opt.solvers.base.MipSession`.
    """

    def __init__(self, model: pyo.ConcreteModel, solver: str) -> None:
        """Take the model, and the solver's name for messages."""
        self._model, self._name = model, solver

    def add_constraints(self, constraints: Sequence[Any]) -> None:
        """Nothing to do: the next solve reads the whole model."""

    def is_fixed_at_zero(self, variables: Sequence[Any]) -> list[bool]:
        """Return that nothing is fixed."""
        return [False] * len(variables)

    def tighten(
        self,
        cutoff: float,  # noqa: ARG002
        time_limit: float | None = None,  # noqa: ARG002
    ) -> tuple[int, int]:
        """Not offered: nobody tells reduced costs of a MIP's relaxation."""
        return 0, 0

    def contradiction(self, found: str) -> SolverError:
        """Return the error of answers that cannot all be true; the model is kept in a file."""
        return contradiction(self._name, found, partial(write_model, self._model))
