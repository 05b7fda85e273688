"""What a user asks of a method."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from code_opt.core.parameters import Parameters
from code_opt.errors import InputError
from code_opt.instance.ranges import SMALLEST, is_in_range, range_text
from code_opt.result import Objective
from code_opt.stopping import is_stop_requested

SMALLEST_GAP = 1e-7
"""Relative gap below which solver tolerances decide; a smaller one is taken as this."""


Formulation = Literal["auto", "path", "flow", "colgen"]
FORMULATIONS: tuple[Formulation, ...] = get_args(Formulation)
"""How the exact method can work; ``auto`` takes path or colgen by the number of paths."""


@dataclass(frozen=True)
class Progress:
    """State of a running solve; bounds and values are those of the objective itself."""

    phase: str
    seconds: float
    incumbent: float | None
    bound: float | None
    gap: float | None


@dataclass(frozen=True)
class Settings:
    """Options of :func:`code_opt.solve`, validated on construction.

    Raises:
        InputError: a value is out of its range.
    """

    objective: Objective = "reward"
    min_accuracy: float | None = None
    min_throughput: float | None = None
    latency_percentile: float | None = None
    """Of tasks with a limit and no percentile of their own; the instance has it already."""
    max_utilization: float | None = None
    """Share of their time that servers sell that say nothing themselves; None: all of it."""
    measured_only: bool = False
    """Use no path whose accuracy is predicted: only native paths, alternatives, measured ones."""
    previous: Mapping[str, tuple[str, ...]] | None = None
    """Block ids of the path that each task had before, by task id; None: no such assignment."""
    max_changes: int | None = None
    """Most tasks that leave a previous path that they could keep; None: any number."""
    formulation: Formulation = "auto"
    solver: str = "highs"
    time_limit: float | None = None
    gap: float = 1e-4
    seed: int = 0
    threads: int = 1
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    solver_log: bool = False
    second_opinion: bool = False
    """Whether another solver, or other settings of the same one, proves the last program again."""
    progress: Callable[[Progress], None] | None = None
    parameters: Parameters = field(default_factory=Parameters)
    """Of the algorithms; the defaults are meant for everybody."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.objective not in get_args(Objective):
            raise InputError(f"objective {self.objective!r}: use {', '.join(get_args(Objective))}")
        if self.objective == "latency" and self.min_throughput is not None:
            raise InputError(
                "min_throughput: not beside the objective latency, where every task is served at "
                "its demand"
            )
        if self.formulation not in FORMULATIONS:
            raise InputError(f"formulation {self.formulation!r}: use {', '.join(FORMULATIONS)}")
        if self.formulation == "colgen" and self.solver != "highs":
            raise InputError(f"formulation 'colgen': needs the solver highs, not {self.solver!r}")
        least = self.min_accuracy
        if least is not None and not (least == 0.0 or SMALLEST <= least <= 1.0):
            raise InputError(f"min_accuracy {least}: must be 0 or between {SMALLEST:g} and 1")
        if self.min_throughput is not None and not is_in_range(self.min_throughput):
            raise InputError(
                f"min_throughput {self.min_throughput}: must be {range_text('inferences/s')}"
            )
        if self.latency_percentile is not None and not 0.0 < self.latency_percentile < 1.0:
            raise InputError(
                f"latency_percentile {self.latency_percentile}: must lie between 0 and 1"
            )
        check_share("max_utilization", self.max_utilization)
        if self.max_changes is not None:
            if self.previous is None:
                raise InputError("max_changes: needs a previous result to count changes from")
            if self.max_changes < 0:
                raise InputError(f"max_changes {self.max_changes}: must be at least 0")
        if not 0.0 <= self.gap < 1.0:
            raise InputError(f"gap {self.gap}: must lie in [0, 1)")
        if self.time_limit is not None and not 0.0 < self.time_limit < float("inf"):
            raise InputError(f"time_limit {self.time_limit}: must be positive [s]")
        if self.threads < 1:
            raise InputError(f"threads {self.threads}: must be at least 1")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed {self.seed}: must lie in [0, 2^31)")


def check_share(name: str, share: float | None) -> None:
    """Refuse what is no share above 0.

    Raises:
        InputError: it is none.
    """
    if share is not None and not SMALLEST <= share <= 1.0:
        raise InputError(f"{name} {share}: must be between {SMALLEST:g} and 1")


class Clock:
    """Time used and left of one solve; a request to stop ends it at once.

    Args:
        limit: seconds, None without a limit.
        to_its_end: whether what it times runs to its end, whatever is requested.
    """

    def __init__(self, limit: float | None, *, to_its_end: bool = False) -> None:
        self._start = time.perf_counter()
        self._limit = limit
        self.to_its_end = to_its_end

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def left(self) -> float | None:
        """Seconds left, None without a limit."""
        if self._is_stopped:
            return 0.0
        return None if self._limit is None else max(self._limit - self.seconds, 0.0)

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached, or a stop requested."""
        return self._is_stopped or (self._limit is not None and self.seconds >= self._limit)

    @property
    def reason(self) -> str:
        """What ended it."""
        return "an interrupt" if self._is_stopped else "time limit"

    @property
    def _is_stopped(self) -> bool:
        return is_stop_requested() and not self.to_its_end
