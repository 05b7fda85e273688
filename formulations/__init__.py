"""The mathematics of CoDE-Opt, in Pyomo: nothing but sets, variables, constraints, objectives.

``path`` and ``flow`` are two exact formulations of the same problem; ``master`` is the
relaxation of ``path`` as column generation holds it; ``elastic`` asks for the least change
that makes an infeasible one feasible; ``plan`` buys capacity. See ``MODEL.md`` for the table
of symbols. No file format, no solver and no neural network is known here.
"""

from formulations.data import ElasticData, FlowData, FlowPair, FlowTask, Goal, PathData, Rows
from formulations.elastic import build_elastic_model
from formulations.flow import build_flow_model, exclude_path
from formulations.master import build_master_model
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
)

__all__ = [
    "ElasticData",
    "Failure",
    "FlowData",
    "FlowPair",
    "FlowTask",
    "Goal",
    "PathData",
    "PlanData",
    "Rows",
    "Situation",
    "add_cut",
    "add_tangent",
    "build_elastic_model",
    "build_flow_model",
    "build_master_model",
    "build_path_model",
    "build_plan_model",
    "build_rerouting_model",
    "exclude_path",
    "needs_units",
    "prefer",
]
