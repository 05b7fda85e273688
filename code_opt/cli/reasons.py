"""Why there is no assignment, in the words of the methods."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from code_opt.cli.exits import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.result import Result

FIRST_LINES = 6
"""Lines of a message that are shown of one instance among many."""
_MORE = re.compile(r"\s*\.\.\. and (\d+) more")


def why_nothing(results: Sequence[Result], status: ExitStatus) -> str:
    """Return why no method has an assignment: one proof, or what each method says."""
    if status is ExitStatus.INFEASIBLE:
        proofs = [message_of(r) for r in results if r.status == "infeasible" and r.message]
        return f"infeasible: {proofs[0] if proofs else 'no assignment meets all requirements'}"
    told = [f"\n  {r.method}: {message_of(r)}" for r in results if r.message]
    return "stopped with no assignment found" + "".join(told)


def message_of(result: Result) -> str:
    """Return a result's message without the name of its method."""
    return (result.message or "").removeprefix(f"{result.method}: ")


def first_lines(message: str) -> str:
    """Return the first lines of a message and how many more there are."""
    lines = message.split("\n")
    counted = _MORE.fullmatch(lines[-1])  # what the message itself leaves out
    whole = lines[:-1] if counted else lines
    left = len(whole) - FIRST_LINES
    if left <= 0:
        return message
    if counted:
        left += int(counted[1])
    return "\n".join([*whole[:FIRST_LINES], f"  ... and {left} more"])
