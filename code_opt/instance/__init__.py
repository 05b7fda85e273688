"""Instances: typed records, the rules between them, files and tables."""

from __future__ import annotations

from code_opt.instance.changes import without_sharing
from code_opt.instance.files import load_instance, save_instance
from code_opt.instance.model import (
    Block,
    Connection,
    Dnn,
    Exponential,
    Instance,
    Link,
    Logistic,
    MeasuredPath,
    Power,
    Reward,
    Server,
    Shape,
    Task,
    parse_instance,
)
from code_opt.instance.periods import Periods, load_periods, parse_periods
from code_opt.instance.problems import InstanceError, Problem

__all__ = [
    "Block",
    "Connection",
    "Dnn",
    "Exponential",
    "Instance",
    "InstanceError",
    "Link",
    "Logistic",
    "MeasuredPath",
    "Periods",
    "Power",
    "Problem",
    "Reward",
    "Server",
    "Shape",
    "Task",
    "load_instance",
    "load_periods",
    "parse_instance",
    "parse_periods",
    "save_instance",
    "without_sharing",
]
