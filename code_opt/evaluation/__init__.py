"""Results executed: accuracy on test images, speed on a device, the edge as real processes.

The short way from Python::

    from code_opt.evaluation import Options, evaluate, load_subject

    subject = load_subject("data/digits/instance.json")
    found = evaluate(subject, {"exact": result}, Options(seconds=2.0))
    print(found.tables()["results"])

:func:`code_opt.evaluation.simulation.simulate` runs an assignment on a simulated clock instead,
and needs no networks. Names are loaded when they are first used, so that it needs no PyTorch
either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from code_opt.evaluation.outcome import Evaluation, Options
    from code_opt.evaluation.pipeline import evaluate, save_evaluation
    from code_opt.evaluation.simulation import simulate
    from code_opt.evaluation.subject import Subject, load_subject

__all__ = [
    "Evaluation",
    "Options",
    "Subject",
    "evaluate",
    "load_subject",
    "save_evaluation",
    "simulate",
]

_HOME = {
    "Evaluation": "outcome",
    "Options": "outcome",
    "simulate": "simulation",
    "Subject": "subject",
    "load_subject": "subject",
}
"""Modules of this package; all other names are the pipeline's."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME.get(name, 'pipeline')}"), name)
    globals()[name] = value
    return value
