"""Models for other solvers, and their solutions back as paths.

A variable's name in the file says what it stands for: the component of the formulation, the
index there, the task and the blocks (``choose.3.faces.resnet_0.mobilenet_1``). Component and
index alone make it unique; the words behind them are for readers, and a solution of another
instance is told by them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyomo.core as pyo

from code_opt.core.objective import ObjectiveFunction
from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.exact.method import build_view
from code_opt.exact.models import ExchangeView
from code_opt.instance.model import GivenPath, Instance
from code_opt.solvers import read_solution, write_model

LONGEST_NAME = 240
"""Of a name in a file: MPS and LP readers take 255 characters, and rows get a prefix."""

_UNFIT = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True)
class ImportedPaths:
    """The paths of a solution file."""

    paths: dict[str, Sequence[str]]
    """Block ids in order, by task id: lists, of an alternative a
    :class:`code_opt.instance.model.GivenPath`."""
    value: float | None
    """The solver's own value of the objective, exp of its figure for a reward; None without one."""


def export_model(instance: Instance, path: str | Path, settings: Settings) -> None:
    """Write the mixed-integer model, its variables and rows named after what they stand for.

    Args:
        instance: what to model.
        path: ``NAME.mps`` or ``NAME.lp``.
        settings: formulation (``auto`` and ``colgen`` give that of ``path``), objective, floors.

    Raises:
        InputError: the instance cannot be used, or the file cannot be written.
    """
    view = build_view(instance, settings)
    write_model(view.model, path, name_of=_namer(view), comment=_explanation(view, settings))


def import_paths(instance: Instance, path: str | Path, settings: Settings) -> ImportedPaths:
    """Return the paths of a solution of the model that :func:`export_model` writes.

    Args:
        instance: the one that was exported.
        path: what HiGHS or SCIP wrote (:func:`code_opt.solvers.read_solution`).
        settings: as for the export.

    Raises:
        InputError: the file cannot be read, belongs to another model, or chooses no path for
            some task.
    """
    solution = read_solution(path)
    view = build_view(instance, settings)
    name_of = _namer(view)
    variables = {name_of(v): v for v in view.model.component_data_objects(pyo.Var)}
    choices = {name for name, v in variables.items() if v.parent_component() is view.model.choose}
    foreign = [name for name in solution.values if name not in variables]
    if foreign or not choices & solution.values.keys():
        example = min(choices)
        found = foreign[0] if foreign else min(solution.values)
        raise InputError(
            f"{path}: {found}: not a variable of formulation {view.model.name!r} of this instance; "
            f"expected are names such as {example}"
        )
    for name, variable in variables.items():
        variable.set_value(solution.values.get(name, 0.0), skip_validation=True)
    unserved = view.task_without_path()
    if unserved is not None:
        raise InputError(f"{path}: the values choose no path of task {unserved!r}")
    paths: dict[str, Sequence[str]] = {}
    for task, chosen in zip(view.pool.tasks, view.paths(), strict=True):
        blocks = task.graph.blocks(chosen.arcs)
        paths[task.task.id] = blocks if isinstance(blocks, GivenPath) else list(blocks)
    return ImportedPaths(
        paths,
        _value(solution.objective, view, settings),
    )


def _value(figure: float | None, view: ExchangeView, settings: Settings) -> float | None:
    objective = ObjectiveFunction.of(view.pool, settings)
    return None if figure is None else objective.shown(figure * objective.unit_in_model)


def _namer(view: ExchangeView) -> Callable[[Any], str]:
    """Return a function that names a variable, a row or the objective of a view's model."""
    words = view.words()

    def name_of(component: Any) -> str:
        parent = component.parent_component()
        index = component.index()
        indices = index if isinstance(index, tuple) else () if index is None else (index,)
        said = words.get(parent.local_name)
        meaning: Sequence[str] = () if said is None or index is None else said(index)
        return clean_name([parent.local_name, *map(str, indices), *meaning])

    return name_of


def clean_name(words: Sequence[str]) -> str:
    """Return words as one name that MPS and LP files can hold.

    The first word begins with a letter. Whatever is no letter of ASCII, digit, ``_`` or ``.``
    becomes ``_``, and what goes beyond :data:`LONGEST_NAME` is cut off.
    """
    return ".".join(_UNFIT.sub("_", word) for word in words)[:LONGEST_NAME]


def _explanation(view: ExchangeView, settings: Settings) -> list[str]:
    """Return what a reader of the file needs to know, line by line."""
    goal = view.goal
    lines = [f"CoDE-Opt, formulation {view.model.name}: symbols in formulations/MODEL.md."]
    if settings.objective == "reward":
        lines += [
            "Maximised is the logarithm of the reward F = xi(A) zeta(Th).",
            "log_accuracy and log_throughput lie below tangents, which bound log xi and log zeta",
            "from above. So exp(optimum) is an upper bound of every reward. That of the assignment",
            "found may be less, by what lies between the tangents and the curves.",
        ]
    elif settings.objective == "latency":
        lines += [
            "Maximised is minus the average time of all tasks at their demands,",
            f"in a unit of {goal.time_unit!r} s.",
        ]
    else:
        lines.append(f"Maximised is {settings.objective}, in the unit below.")
    return [
        *lines,
        f"average_accuracy: A / {goal.accuracy_unit!r}",
        f"throughput: Th / {goal.throughput_unit!r} [inferences/s]",
        "Names: component, index, task, blocks; choose = 1 where the path (or arc) is taken.",
        "To read a solution back: code-opt import-solution INSTANCE SOLUTION",
    ]
