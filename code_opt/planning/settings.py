"""What a user asks of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from code_opt.core.settings import check_share
from code_opt.errors import InputError
from code_opt.instance.model import Instance, Server
from code_opt.instance.ranges import LARGEST, MOST_RATIO, SMALLEST, is_in_range


@dataclass(frozen=True)
class PlanSettings:
    """Options that all analyses share, validated on construction.

    Raises:
        InputError: a value is out of its range.
    """

    min_accuracy: float | None = None
    """Floor on the average accuracy, in [0, 1]."""
    measured_only: bool = False
    """Use no path whose accuracy is predicted: only native paths, alternatives, measured ones."""
    demand: float | None = None
    """Demand of tasks that have none, nor has another one of their group [inferences/s]."""
    unit_flops: float | None = None
    """Size of one unit of servers that have none [FLOP/s]."""
    unit_devices: float | None = None
    """Devices in one unit of servers that have none, where ``unit_flops`` is not for them."""
    unit_bandwidth: float | None = None
    """Size of one unit of limited links that have none [bytes/s]."""
    max_utilization: float | None = None
    """Share of their time that servers sell that say nothing themselves; None: all of it."""
    latency_percentile: float | None = None
    """Quantile that limits of latency hold for under load where a task has no own; None: none."""
    gap: float = 1e-4
    """Relative gap that ends an exact search."""
    time_limit: float | None = 60.0
    """Seconds for each mixed-integer program."""
    solver: str = "highs"
    threads: int = 1
    seed: int = 0
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    solver_log: bool = False
    period_names: tuple[str, ...] = ()
    """Names of the growth factors, in their order, such as years; shown beside them."""
    progress: Callable[[str], None] | None = None
    """Called with what is being done now."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.min_accuracy is not None and not 0.0 <= self.min_accuracy <= 1.0:
            raise InputError(f"min_accuracy {self.min_accuracy}: must lie in [0, 1]")
        for name in ("unit_flops", "unit_devices", "unit_bandwidth"):
            value = getattr(self, name)
            if value is not None and not SMALLEST <= value <= LARGEST:
                raise InputError(
                    f"{name} {value}: must be a number above 0, in [{SMALLEST:g}, {LARGEST:g}]"
                )
        check_share("max_utilization", self.max_utilization)
        if self.latency_percentile is not None and not 0.0 < self.latency_percentile < 1.0:
            raise InputError(
                f"latency_percentile {self.latency_percentile}: must lie between 0 and 1"
            )
        if self.time_limit is not None and not 0.0 < self.time_limit < math.inf:
            raise InputError(f"time_limit {self.time_limit}: must be a number above 0")
        if self.demand is not None:
            check_amount("demand", self.demand)
        if not 0.0 <= self.gap < 1.0:
            raise InputError(f"gap {self.gap}: must lie in [0, 1)")
        if self.threads < 1:
            raise InputError(f"threads {self.threads}: must be at least 1")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed {self.seed}: must lie in [0, 2^31)")

    def tell(self, what: str) -> None:
        """Report what is being done now."""
        if self.progress is not None:
            self.progress(what)

    def sells_units(self, instance: Instance) -> bool:
        """Tell whether any unit of a server or of a limited link can be bought."""
        offers = [
            (s.unit_flops or s.unit_devices, s.max_units)
            for s in (self.with_unit(server) for server in instance.servers)
        ]
        offers += [
            (link.unit_bandwidth or self.unit_bandwidth, link.max_units)
            for link in instance.links
            if link.bandwidth is not None
        ]
        return any(size is not None and most != 0 for size, most in offers)

    def with_unit(self, server: Server) -> Server:
        """Return a server with the unit of these settings, if it has none of its own."""
        if server.unit_flops is not None or server.unit_devices is not None:
            return server
        # A server without FLOP/s is sold by the device.
        if server.flops is not None and self.unit_flops is not None:
            return server.model_copy(update={"unit_flops": self.unit_flops})
        return server.model_copy(update={"unit_devices": self.unit_devices})

    def solve_options(self) -> dict[str, Any]:
        """Return the options of :func:`code_opt.solve` that are named alike."""
        names = (
            "min_accuracy",
            "max_utilization",
            "latency_percentile",
            "measured_only",
            "gap",
            "time_limit",
            "solver",
            "threads",
            "seed",
        )
        found = {name: getattr(self, name) for name in names}
        return {**found, "solver_options": dict(self.solver_options)}

    def shown(self) -> dict[str, Any]:
        """Return the options that a plan file names."""
        names = (
            *("min_accuracy", "demand", "unit_flops", "unit_devices", "unit_bandwidth"),
            *("max_utilization", "gap", "time_limit"),
        )
        found = {name: getattr(self, name) for name in names}
        asked = ("measured_only", "latency_percentile", "period_names")
        return found | {name: getattr(self, name) for name in asked if getattr(self, name)}


def check_amount(name: str, value: float) -> float:
    """Return an amount that is 0 or within the range of numbers, or refuse it.

    Raises:
        InputError: it is out of the range.
    """
    if not is_in_range(value):
        raise InputError(f"{name} {value:g}: must be 0 or lie in [{SMALLEST:g}, {LARGEST:g}]")
    return float(value)


def check_amounts(what: str, values: Mapping[str, float]) -> None:
    """Refuse amounts out of the range of numbers, or too far from each other.

    Args:
        what: they are, for messages.
        values: amounts by what each belongs to; those of 0 are passed over.

    Raises:
        InputError: one is out of the range, or two are more than ``MOST_RATIO`` apart.
    """
    positive = {name: value for name, value in values.items() if value != 0.0}
    for name, value in positive.items():
        check_amount(f"{what} of {name}:", value)
    if not positive:
        return
    least, most = min(positive, key=positive.__getitem__), max(positive, key=positive.__getitem__)
    if positive[most] > MOST_RATIO * positive[least]:
        raise InputError(
            f"{what}: {positive[most]:g} of {most} is more than {MOST_RATIO:g} times the "
            f"{positive[least]:g} of {least}: leave out what is so small, or use other units"
        )


def check_growth(growth: float) -> float:
    """Return a growth factor, or refuse it."""
    return check_amount("growth", growth)


def check_loss(points: float | None) -> float | None:
    """Return a limit on the loss of accuracy in points, or refuse it."""
    if points is not None and not (math.isfinite(points) and 0.0 <= points <= 100.0):
        raise InputError(f"max loss {points}: must lie in [0, 100] points")
    return None if points is None else float(points)
