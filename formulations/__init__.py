"""The mathematics of CoDE-Opt: nothing but sets, variables, constraints, objectives.

In Pyomo: ``path`` and ``flow`` are two exact formulations of the same problem; ``elastic`` asks for
the least change that makes an infeasible one feasible; ``plan`` buys capacity. In arrays, since
they are built or extended thousands of times (:mod:`formulations.arrays`): ``master`` is the
relaxation of ``path`` as column generation holds it, ``neighbourhood`` what a few tasks can
change, ``rates`` the rates for fixed paths, ``fractional_plan`` the plan whose units are bought in
fractions. See ``MODEL.md`` for the table of symbols. No file
format, no solver and no neural network is known here.
"""

from formulations.data import (
    Dependency,
    ElasticData,
    FlowData,
    FlowPair,
    FlowTask,
    Goal,
    LimitedPath,
    PathData,
    Rows,
    StationLevels,
    WaitingData,
)
from formulations.elastic import build_elastic_model
from formulations.flow import build_flow_model, exclude_path
from formulations.fractional_plan import FractionalPlan, FractionalPlanData
from formulations.master import MasterProgram
from formulations.neighbourhood import build_neighbourhood_program
from formulations.parts import add_tangent
from formulations.path import add_cut, build_path_model
from formulations.plan import (
    Failure,
    PlanData,
    Situation,
    build_plan_model,
    build_rerouting_model,
    needs_units,
    prefer,
    running_in_failure,
)
from formulations.plan_waiting import PlanLevels, more_units_needed, waiting_of_plan
from formulations.rates import build_rate_program
from formulations.waiting import exclude_loop, wait_classes

__all__ = [
    "Dependency",
    "ElasticData",
    "Failure",
    "FlowData",
    "FlowPair",
    "FlowTask",
    "FractionalPlan",
    "FractionalPlanData",
    "Goal",
    "LimitedPath",
    "MasterProgram",
    "PathData",
    "PlanData",
    "PlanLevels",
    "Rows",
    "Situation",
    "StationLevels",
    "WaitingData",
    "add_cut",
    "add_tangent",
    "build_elastic_model",
    "build_flow_model",
    "build_neighbourhood_program",
    "build_path_model",
    "build_plan_model",
    "build_rate_program",
    "build_rerouting_model",
    "exclude_loop",
    "exclude_path",
    "more_units_needed",
    "needs_units",
    "prefer",
    "running_in_failure",
    "wait_classes",
    "waiting_of_plan",
]
