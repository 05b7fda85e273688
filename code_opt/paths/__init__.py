"""Task graphs and the nondominated paths through them."""

from code_opt.paths.graph import Arc, Resource, TaskGraph, Topology
from code_opt.paths.pool import PathPool, TaskPaths, build_pool, count_paths

__all__ = [
    "Arc",
    "PathPool",
    "Resource",
    "TaskGraph",
    "TaskPaths",
    "Topology",
    "build_pool",
    "count_paths",
]
