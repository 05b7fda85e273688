"""The mathematics of CoDE-Opt, in Pyomo: nothing but sets, variables, constraints, objectives.

``path`` and ``flow`` are two exact formulations of the same problem; ``master`` is the
relaxation of ``path`` as column generation holds it; ``elastic`` asks for the least change
that makes an infeasible one feasible. See ``MODEL.md`` for the table of symbols. No file
format, no solver and no neural network is known here.
"""

from formulations.data import ElasticData, FlowData, FlowTask, Goal, PathData, Rows
from formulations.elastic import build_elastic_model
from formulations.flow import build_flow_model
from formulations.master import build_master_model
from formulations.parts import add_tangent
from formulations.path import add_cut, build_path_model

__all__ = [
    "ElasticData",
    "FlowData",
    "FlowTask",
    "Goal",
    "PathData",
    "Rows",
    "add_cut",
    "add_tangent",
    "build_elastic_model",
    "build_flow_model",
    "build_master_model",
    "build_path_model",
]
