"""CoDE-Opt: provably best inference paths for coordinated deep neural networks.

The public names are loaded when they are first used, so that ``import code_opt`` is fast
and the solver, Pyomo and pandas load only where they are needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from code_opt.checker import Violation, check
    from code_opt.errors import CodeOptError, InputError
    from code_opt.instance import (
        Instance,
        InstanceError,
        load_instance,
        parse_instance,
        save_instance,
    )
    from code_opt.methods import Progress, solve
    from code_opt.result import Result, load_result, save_result

__version__ = "0.1.0"

__all__ = [
    "CodeOptError",
    "InputError",
    "Instance",
    "InstanceError",
    "Progress",
    "Result",
    "Violation",
    "__version__",
    "check",
    "load_instance",
    "load_result",
    "parse_instance",
    "save_instance",
    "save_result",
    "solve",
]

_HOME = {
    "CodeOptError": "code_opt.errors",
    "InputError": "code_opt.errors",
    "Instance": "code_opt.instance",
    "InstanceError": "code_opt.instance",
    "Progress": "code_opt.methods",
    "Result": "code_opt.result",
    "Violation": "code_opt.checker",
    "check": "code_opt.checker",
    "load_instance": "code_opt.instance",
    "load_result": "code_opt.result",
    "parse_instance": "code_opt.instance",
    "save_instance": "code_opt.instance",
    "save_result": "code_opt.result",
    "solve": "code_opt.methods",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
