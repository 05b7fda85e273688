"""CoDE-Opt: provably best inference paths for coordinated deep neural networks.

The public names are loaded when they are first used, so that ``import code_opt`` is fast
and the solver, Pyomo and pandas load only where they are needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from code_opt.docstrings import keep_docstrings

if TYPE_CHECKING:
    from code_opt.certificate import Certificate, CertifiedBound, certified_bound
    from code_opt.checker import Violation, check
    from code_opt.core.parameters import CodeParameters, Parameters
    from code_opt.core.settings import Progress, Settings
    from code_opt.desk import load_instance
    from code_opt.errors import CodeOptError, InputError
    from code_opt.instance import (
        Instance,
        InstanceError,
        Periods,
        load_periods,
        parse_instance,
        parse_periods,
        save_instance,
        without_sharing,
    )
    from code_opt.observations import load_observations, observe
    from code_opt.plan_checker import check_plan
    from code_opt.planning import (
        Plan,
        PlanSettings,
        export_tables,
        load_plan,
        load_scenarios,
        parse_scenarios,
        plan_combined,
        plan_failures,
        plan_front,
        plan_growth,
        plan_least_cost,
        plan_marginal,
        plan_scenarios,
        plan_sweep,
        save_plan,
    )
    from code_opt.registry import method_names, register_method
    from code_opt.result import Result, load_result, save_result
    from code_opt.scheduling import schedule
    from code_opt.solving import certify, evaluate_paths, solve
    from code_opt.transition import changes_front, diff, rerate

__version__ = "0.1.0"

keep_docstrings()

__all__ = [
    "Certificate",
    "CertifiedBound",
    "CodeOptError",
    "CodeParameters",
    "InputError",
    "Instance",
    "InstanceError",
    "Parameters",
    "Periods",
    "Plan",
    "PlanSettings",
    "Progress",
    "Result",
    "Settings",
    "Violation",
    "__version__",
    "certified_bound",
    "certify",
    "changes_front",
    "check",
    "check_plan",
    "diff",
    "evaluate_paths",
    "export_tables",
    "load_instance",
    "load_observations",
    "load_periods",
    "load_plan",
    "load_result",
    "load_scenarios",
    "method_names",
    "observe",
    "parse_instance",
    "parse_periods",
    "parse_scenarios",
    "plan_combined",
    "plan_failures",
    "plan_front",
    "plan_growth",
    "plan_least_cost",
    "plan_marginal",
    "plan_scenarios",
    "plan_sweep",
    "register_method",
    "rerate",
    "save_instance",
    "save_plan",
    "save_result",
    "schedule",
    "solve",
    "without_sharing",
]

_HOME = {
    "Certificate": "code_opt.certificate",
    "CertifiedBound": "code_opt.certificate",
    "CodeOptError": "code_opt.errors",
    "CodeParameters": "code_opt.core.parameters",
    "Parameters": "code_opt.core.parameters",
    "InputError": "code_opt.errors",
    "Instance": "code_opt.instance",
    "InstanceError": "code_opt.instance",
    "Periods": "code_opt.instance",
    "Plan": "code_opt.planning",
    "PlanSettings": "code_opt.planning",
    "Progress": "code_opt.core.settings",
    "Result": "code_opt.result",
    "Settings": "code_opt.core.settings",
    "Violation": "code_opt.checker",
    "certified_bound": "code_opt.certificate",
    "certify": "code_opt.solving",
    "changes_front": "code_opt.transition",
    "check": "code_opt.checker",
    "check_plan": "code_opt.plan_checker",
    "diff": "code_opt.transition",
    "evaluate_paths": "code_opt.solving",
    "export_tables": "code_opt.planning",
    "load_instance": "code_opt.desk",
    "load_observations": "code_opt.observations",
    "load_periods": "code_opt.instance",
    "load_plan": "code_opt.planning",
    "load_result": "code_opt.result",
    "load_scenarios": "code_opt.planning",
    "method_names": "code_opt.registry",
    "observe": "code_opt.observations",
    "parse_instance": "code_opt.instance",
    "parse_periods": "code_opt.instance",
    "parse_scenarios": "code_opt.planning",
    "plan_combined": "code_opt.planning",
    "plan_failures": "code_opt.planning",
    "plan_front": "code_opt.planning",
    "plan_growth": "code_opt.planning",
    "plan_least_cost": "code_opt.planning",
    "plan_marginal": "code_opt.planning",
    "plan_scenarios": "code_opt.planning",
    "plan_sweep": "code_opt.planning",
    "register_method": "code_opt.registry",
    "rerate": "code_opt.transition",
    "save_instance": "code_opt.instance",
    "save_plan": "code_opt.planning",
    "save_result": "code_opt.result",
    "schedule": "code_opt.scheduling",
    "solve": "code_opt.solving",
    "without_sharing": "code_opt.instance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
