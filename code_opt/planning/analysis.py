"""What all analyses have in common: tables in the making, what is proven, and the finished plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from code_opt.errors import InputError
from code_opt.instance.digest import digest_of
from code_opt.instance.model import Instance
from code_opt.paths.graph import FloatArray
from code_opt.plan_checker import check_plan
from code_opt.planning.case import Case
from code_opt.planning.columns import TableBuilder
from code_opt.planning.diagnosis import why_infeasible
from code_opt.planning.operation import PlanFailedCheckError, listed
from code_opt.planning.plan import Kind, Plan, Status, worst_status
from code_opt.planning.programs import ProgramOutcome
from code_opt.planning.settings import PlanSettings


class Analysis:
    """One analysis of one instance, from its settings to its plan."""

    def __init__(
        self,
        kind: Kind,
        instance: Instance,
        settings: PlanSettings,
        *tables: TableBuilder,
    ) -> None:
        """Begin: the time of the plan counts from here.

        Args:
            kind: of the analysis.
            instance: what it is asked about.
            settings: options shared by all analyses.
            tables: what it fills, in the order of the plan.
        """
        self._begin = time.perf_counter()
        self._kind, self._instance, self._settings = kind, instance, settings
        self.tables = {table.name: table for table in tables}
        self.reasons: list[str] = []
        """Why there is no plan, or not a whole one; one line each."""
        self._statuses: list[Status] = []
        self._gaps: list[float | None] = []

    def tell(self, what: str) -> None:
        """Report what is being done now."""
        self._settings.tell(what)

    def prove(self, status: Status, gap: float | None) -> None:
        """Count a part whose status and proven gap (None: nothing is proven) are the plan's."""
        self._statuses.append(status)
        self._gaps.append(gap)

    def plan(self, message: str | None = None, **asked: Any) -> Plan:
        """Return the plan, which the independent checker of plans confirms.

        Args:
            message: why there is no plan, or not a whole one (by default the reasons).
            asked: what was asked beside the settings.

        Raises:
            PlanFailedCheckError: a requirement does not hold (never expected).
        """
        plan = Plan(
            schema="code-opt/plan/1",
            kind=self._kind,
            instance=self._instance.name,
            instance_digest=digest_of(self._instance),
            status=worst_status(self._statuses),
            gap=max((gap for gap in self._gaps if gap is not None), default=None),
            seconds=time.perf_counter() - self._begin,
            message=message or "\n".join(self.reasons) or None,
            settings={**asked, **self._settings.shown(), **self._currency()},
            tables=tuple(table.table() for table in self.tables.values()),
        )
        violations = check_plan(plan.to_dict(), self._instance)
        if violations:
            raise PlanFailedCheckError(f"the plan does not pass the check: {listed(violations)}")
        return plan

    def _currency(self) -> dict[str, Any]:
        """Return the currency as a setting, where the instance names one."""
        currency = self._instance.currency
        return {} if currency is None else {"currency": currency}


def timed(solve: Callable[..., ProgramOutcome], *args: Any) -> ProgramOutcome:
    """Return what a function gives, with the time that it took."""
    begin = time.perf_counter()
    outcome = solve(*args)
    return replace(outcome, seconds=time.perf_counter() - begin)


def outcome_cells(
    case: Case, outcome: ProgramOutcome, demand: FloatArray, *otherwise: str
) -> dict[str, Any]:
    """Return status, figures, time and message of an outcome by the names of columns.

    Args:
        case: what was planned for.
        outcome: of its program.
        demand: what was to be served at the hardest [inferences/s], shape (T,).
        otherwise: why there is no plan, where this demand by itself is no reason.
    """
    message = outcome.message
    if outcome.status == "infeasible":
        message = why_infeasible(case, demand, *otherwise)
    cells = {"status": outcome.status, "seconds": outcome.seconds, "message": message}
    if outcome.decision is None:
        return cells
    units = outcome.decision.units[-1]
    return {
        **cells,
        "cost": case.offers.spent(outcome.decision.units).sum(),
        "present_value": outcome.decision.cost,
        "bound": outcome.bound,
        "gap": outcome.gap,
        "units": units.sum(),
        **accuracy_cells(case, case.average_accuracy(outcome.decision.paths[-1])),
    }


def accuracy_cells(case: Case, accuracy: float) -> dict[str, float]:
    """Return an average accuracy and what it loses against the native paths."""
    return {
        "accuracy": accuracy,
        "accuracy_loss_points": 100.0 * (case.native_accuracy - accuracy),
    }


def saved_cells(
    case: Case, outcome: ProgramOutcome, alone: ProgramOutcome | None
) -> dict[str, Any]:
    """Return what a plan saves against another one, nothing where one of them has no plan."""
    if outcome.decision is None or alone is None or alone.decision is None:
        return {}
    less = alone.decision.units - outcome.decision.units
    return {"saved_cost": case.offers.spent(less).sum(), "saved_units": less[-1].sum()}


def checked_share(name: str, value: float) -> float:
    """Return a share in [0, 1], or refuse it.

    Raises:
        InputError: it is none.
    """
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{name} {value}: must lie in [0, 1]")
    return value
