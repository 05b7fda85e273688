"""Progress of long solves, on stderr: the incumbent, the bound and the gap."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.text import Text

from code_opt.cli.text import number, percent, plain, seconds

if TYPE_CHECKING:
    from types import TracebackType

    from rich.status import Status

    from code_opt.cli.terminal import Console
    from code_opt.core.settings import Progress

FIRST_LINE = 5.0
"""Seconds of silence before the first line where stderr is not a terminal."""
NEXT_LINE = 10.0
"""Seconds between further lines there."""


def describe(method: str, progress: Progress) -> str:
    """Return one line: method, time, incumbent, bound, gap and phase."""
    parts = [f"{method} {seconds(progress.seconds)} s"]
    if progress.incumbent is not None:
        parts.append(f"incumbent {number(progress.incumbent)}")
    if progress.bound is not None:
        parts.append(f"bound {number(progress.bound)}")
    if progress.gap is not None:
        parts.append(f"gap {percent(progress.gap)}")
    if progress.phase:
        parts.append(plain(progress.phase))
    return ", ".join(parts)


class ProgressReport:
    """Shows one method's progress: a living line on a terminal, else a line now and then."""

    def __init__(self, console: Console, method: str, living: bool) -> None:
        """Report on ``console``; ``living`` allows a line that is rewritten in place."""
        self._console = console
        self._method = method
        self._status: Status | None = None
        self._living = living and console.can_rewrite
        self._due = time.monotonic() + FIRST_LINE

    def __enter__(self) -> Self:
        """Start the living line, if there is one."""
        if self._living:
            self._status = self._console.status(f"{self._method} ...")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the living line."""
        if self._status is not None:
            self._status.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the latest state."""
        if self._status is not None:
            self._status.update(Text(describe(self._method, progress)))
            return
        now = time.monotonic()
        if now >= self._due:
            self._due = now + NEXT_LINE
            self._console.print(describe(self._method, progress), markup=False, highlight=False)


class Steps:
    """Shows what is being done now, in the same way as :class:`ProgressReport`."""

    def __init__(self, console: Console) -> None:
        """Report on ``console``."""
        self._console = console
        self._status: Status | None = None
        self._due = time.monotonic() + FIRST_LINE

    def __enter__(self) -> Self:
        """Start the living line, if there is one."""
        if self._console.can_rewrite:
            self._status = self._console.status("...")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the living line."""
        if self._status is not None:
            self._status.stop()

    def __call__(self, what: str) -> None:
        """Show one step."""
        if self._status is not None:
            self._status.update(Text(plain(what)))
            return
        now = time.monotonic()
        if now >= self._due:
            self._due = now + NEXT_LINE
            self._console.print(plain(what), markup=False, highlight=False)
