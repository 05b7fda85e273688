"""Task graphs and the nondominated paths through them."""

from code_opt.paths.duals import Duals
from code_opt.paths.graph import Arc, PoolOptions, TaskGraph, Topology
from code_opt.paths.groups import SharedPrefix, Sharing
from code_opt.paths.labels import TooManyLabels
from code_opt.paths.pool import (
    PathPool,
    PathPricing,
    PathProblem,
    RateGroup,
    TaskPaths,
    build_pool,
    count_paths,
    pool_of_paths,
    previous_path,
    unite,
    with_max_changes,
)
from code_opt.paths.resources import Resource

__all__ = [
    "Arc",
    "Duals",
    "PathPool",
    "PathPricing",
    "PathProblem",
    "PoolOptions",
    "RateGroup",
    "Resource",
    "SharedPrefix",
    "Sharing",
    "TaskGraph",
    "TaskPaths",
    "TooManyLabels",
    "Topology",
    "build_pool",
    "count_paths",
    "pool_of_paths",
    "previous_path",
    "unite",
    "with_max_changes",
]
