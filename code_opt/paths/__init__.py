"""Task graphs and the nondominated paths through them."""

from code_opt.paths.graph import Arc, Resource, TaskGraph, Topology
from code_opt.paths.groups import SharedPrefix, Sharing
from code_opt.paths.pool import PathPool, RateGroup, TaskPaths, build_pool, count_paths

__all__ = [
    "Arc",
    "PathPool",
    "RateGroup",
    "Resource",
    "SharedPrefix",
    "Sharing",
    "TaskGraph",
    "TaskPaths",
    "Topology",
    "build_pool",
    "count_paths",
]
