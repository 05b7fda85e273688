"""Exit statuses, and the rule that finds the one of a solve."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.result import Result


class ExitStatus(IntEnum):
    """What the program tells its caller."""

    DONE = 0
    NOT_CONFIRMED = 1
    BAD_INPUT = 2
    INFEASIBLE = 3
    NOTHING_FOUND = 4
    INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT
    BROKEN_PIPE = 141  # 128 + SIGPIPE
    TERMINATED = 143  # 128 + SIGTERM


def status_of(results: Sequence[Result]) -> ExitStatus:
    """Return the exit status of a solve.

    A method with an assignment makes it ``DONE``; without any, one proof that there is none
    makes it ``INFEASIBLE``, else the methods merely stopped: ``NOTHING_FOUND``.
    """
    if any(result.has_solution for result in results):
        return ExitStatus.DONE
    if any(result.status == "infeasible" for result in results):
        return ExitStatus.INFEASIBLE
    return ExitStatus.NOTHING_FOUND
