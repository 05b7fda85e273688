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


class _Line:
    """A living line on a terminal, else a line now and then."""

    def __init__(self, console: Console, first: str, living: bool) -> None:
        """Begin with a text on ``console``; ``living`` allows that it is rewritten in place."""
        self._console, self._first = console, first
        self._status: Status | None = None
        self._living = living and console.can_rewrite
        self._due = time.monotonic() + FIRST_LINE

    def __enter__(self) -> Self:
        """Start the living line, if there is one."""
        if self._living:
            self._status = self._console.status(self._first)
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

    def _show(self, line: str) -> None:
        if self._status is not None:
            self._status.update(Text(line))
            return
        now = time.monotonic()
        if now >= self._due:
            self._due = now + NEXT_LINE
            self._console.print(line, markup=False, highlight=False)


class ProgressReport(_Line):
    """Shows one method's progress."""

    def __init__(self, console: Console, method: str, living: bool) -> None:
        """Report on ``console``; ``living`` allows a line that is rewritten in place."""
        super().__init__(console, f"{method} ...", living)
        self._method = method

    def __call__(self, progress: Progress) -> None:
        """Show the latest state."""
        self._show(describe(self._method, progress))


class Steps(_Line):
    """Shows what is being done now."""

    def __init__(self, console: Console) -> None:
        """Report on ``console``."""
        super().__init__(console, "...", living=True)

    def __call__(self, what: str) -> None:
        """Show one step."""
        self._show(plain(what))
