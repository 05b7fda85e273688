"""An assignment for each period of a day, each from the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from code_opt.errors import InputError
from code_opt.instance.model import Instance
from code_opt.instance.periods import Periods
from code_opt.result import Result
from code_opt.solving import previous_paths, solve
from code_opt.stopping import is_stop_requested

__all__ = ["ScheduledPeriod", "schedule"]


@dataclass(frozen=True)
class ScheduledPeriod:
    """The assignment of one period."""

    name: str
    hours: float
    """How long it lasts [h]."""
    instance: Instance
    """With the demands of the period."""
    result: Result

    @property
    def row(self) -> dict[str, Any]:
        """Figures by name, as a table of all periods shows them; None where there is none.

        Rates and demands are in inferences/s, ``demand`` is None where a task is saturated.
        ``changes`` are paths that were left though they could be kept, ``forced`` those that could
        not be.
        """
        result, tasks = self.result, self.instance.tasks
        demand = None
        if all(task.demand is not None for task in tasks):
            demand = sum(task.demand or 0.0 for task in tasks)
        load = None
        if result.adapters is not None:
            load = [change.bytes for change in result.adapters if change.action == "load"]
        kinds = [row.change for row in result.tasks]
        return {
            "period": self.name,
            "hours": self.hours,
            "status": result.status,
            "reward": result.reward,
            "value": result.value,
            "bound": result.bound,
            "gap": result.gap,
            "throughput": result.throughput,
            "demand": demand,
            "accuracy": result.accuracy,
            "changes": result.changes,
            "forced": None if result.changes is None else kinds.count("forced"),
            "adapters_to_load": None if load is None else len(load),
            "bytes_to_load": None if load is None else sum(load),
            "seconds": result.seconds,
            "message": result.message,
        }


def schedule(
    instance: Instance,
    periods: Periods,
    *,
    previous: Result | Mapping[str, Sequence[str]] | None = None,
    max_changes: int | None = None,
    method: str = "exact",
    tell: Callable[[ScheduledPeriod], None] | None = None,
    **options: Any,
) -> tuple[ScheduledPeriod, ...]:
    """Return an assignment for each period, each of few changes from the one before, checked.

    A period for which no assignment is found (infeasible with so few changes, or stopped) is
    passed over: the next one counts changes from the last assignment that there is. A request to
    stop ends the schedule with the period in which it comes.

    Args:
        instance: what runs in all periods.
        periods: demands of each.
        previous: the assignment before the first period; None: its paths are chosen freely.
        max_changes: most tasks that may leave, from one period to the next, a path that they
            could keep; None for any number.
        method: a name of :func:`code_opt.registry.method_names`.
        tell: called with each period as it is done.
        options: of :func:`code_opt.solve`, for each period.

    Raises:
        InputError: an argument, the periods or the instance cannot be used.
        SolverError: the solver failed.
    """
    if max_changes is not None and max_changes < 0:
        raise InputError(f"max_changes {max_changes}: must be at least 0")
    paths = previous_paths(previous)
    done: list[ScheduledPeriod] = []
    for k, name in enumerate(periods.names):
        today = periods.at(instance, k)
        result = solve(
            today,
            method,
            previous=paths,
            max_changes=None if paths is None else max_changes,
            **options,
        )
        done.append(ScheduledPeriod(name, periods.hours[k], today, result))
        if tell is not None:
            tell(done[-1])
        if result.has_solution:
            paths = previous_paths(result)
        if is_stop_requested():
            break
    return tuple(done)
