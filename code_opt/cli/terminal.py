"""What the shell gives the program: streams that can be full or closed, and a width."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NoReturn

import rich.console
from rich.text import Text

from code_opt.cli.exits import ExitStatus
from code_opt.cli.text import plain_lines
from code_opt.errors import CodeOptError, InputError
from code_opt.stopping import Terminated

PROGRAM = "code-opt"
DEBUG = "CODE_OPT_DEBUG"
_ENDS = {
    signal.SIGINT: ("interrupted", "Ctrl-C again", ExitStatus.INTERRUPTED),
    signal.SIGTERM: ("terminated", "a second signal", ExitStatus.TERMINATED),
}
"""What a signal does to a run, what it takes to end it at once, and the exit status."""
STOPPING = {
    number: f"\n{PROGRAM}: {word}: ending the search with what there is ({again} ends at once)\n"
    for number, (word, again, _) in _ENDS.items()
}
"""What is written when the first of the signals comes."""
_LEAST_COLUMNS, _MOST_COLUMNS = 20, 10_000
"""Widths that ``COLUMNS`` can state; anything else, such as 0, counts as not given."""


def wants_no_style() -> bool:
    """Tell whether ``NO_COLOR`` or a dumb terminal asks for text alone.

    Escape sequences for bold or dim text are left out, too, and so are lines that are rewritten.
    """
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")


class Console(rich.console.Console):
    """rich's, which would end the program itself when the reader of a pipe leaves."""

    def __init__(self, **options: Any) -> None:
        if wants_no_style():
            options["color_system"] = None
        super().__init__(**options)

    @property
    def can_rewrite(self) -> bool:
        """Whether a line can be shown that changes in place."""
        return self.is_terminal and not wants_no_style()

    def on_broken_pipe(self) -> NoReturn:
        """Tell the caller."""
        raise BrokenPipeError


class _Stream:
    """A stream of text whose failures are told by :meth:`_failed`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _failed(self, error: OSError) -> None:  # noqa: ARG002 (standard output tells it)
        # What is still in its buffer goes nowhere, so that the end of the program is no
        # second error.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _Messages(_Stream):
    """Standard error: messages that cannot be written are dropped."""


class _Output(_Stream):
    """Standard output: nothing else may be done in vain once it cannot be written."""

    def _failed(self, error: OSError) -> None:
        super()._failed(error)
        if isinstance(error, BrokenPipeError):
            raise error
        reason = error.strerror or error
        raise InputError(f"standard output cannot be written: {reason}") from None


@contextlib.contextmanager
def prepared_shell() -> Iterator[None]:
    """Make the streams and the width usable, for as long as the program runs."""
    columns = os.environ.get("COLUMNS", "")
    is_number = columns.isascii() and columns.isdigit() and len(columns) < 10
    if columns and not (is_number and _LEAST_COLUMNS <= int(columns) <= _MOST_COLUMNS):
        del os.environ["COLUMNS"]
    with contextlib.ExitStack() as stack:
        if sys.stderr is None:  # print() would take standard output instead
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:  # no name in a file may stop the output of a table
                reconfigure(errors="backslashreplace")
        stack.enter_context(contextlib.redirect_stderr(_Messages(sys.stderr)))
        if sys.stdout is not None:
            stack.enter_context(contextlib.redirect_stdout(_Output(sys.stdout)))
        yield


def guarded(function: Callable[[], int | None]) -> int:
    """Return the exit status of ``function``; what it raises is told in one message.

    Standard output is written when this returns, or the status says that it could not be.
    """
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed: nothing that is found could be shown")
        status = function() or ExitStatus.DONE
        sys.stdout.flush()
        return status
    except InputError as error:
        complain(error)
        return ExitStatus.BAD_INPUT
    except KeyboardInterrupt as end:
        number = signal.SIGTERM if isinstance(end, Terminated) else signal.SIGINT
        word, _, end_status = _ENDS[number]
        complain(word)
        return end_status
    except BrokenPipeError:  # the reader of a pipe has left, as `| head` does
        return ExitStatus.BROKEN_PIPE
    except OSError as error:  # a disk, a folder, a network: nothing that this program can mend
        _trace()
        complain(_reason(error))
        return ExitStatus.BAD_INPUT
    except CodeOptError as error:
        _trace()
        complain(f"failed: {error}")
    except Exception as error:  # noqa: BLE001
        _trace()
        complain(
            f"internal error: {type(error).__name__}: {error}\n"
            f"Set {DEBUG}=1 to see where it happened, and report it."
        )
    return ExitStatus.INTERNAL_ERROR


def leave(status: int) -> NoReturn:
    """End the process with an exit status.

    A solver that did not end when it was interrupted for the second time still runs in a thread,
    and Python's usual end would pull its memory away: the process then ends at once.
    """
    is_stopped = status in (ExitStatus.INTERRUPTED, ExitStatus.TERMINATED)
    if is_stopped and any(t.daemon for t in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def print_line(console: Console, line: str) -> None:
    """Print text as it is: no markup, wrapped only where the terminal ends."""
    console.print(Text(line), soft_wrap=not console.is_terminal)


def complain_of_stop(number: signal.Signals, not_run: Sequence[str]) -> ExitStatus:
    """Say what a run that a signal stopped has not done; return its exit status."""
    rest = f"; not run: {', '.join(not_run)}" if not_run else ""
    word, _, status = _ENDS[number]
    complain(f"{word}: shown is what was found until then{rest}")
    return status


def complain(message: object) -> None:
    """Print one message to stderr; text from files and arguments cannot act on the terminal."""
    print(f"{PROGRAM}: {plain_lines(message)}", file=sys.stderr)


def _reason(error: OSError) -> str:
    """Return what an error of the operating system says, and of which file."""
    reason = error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"


def _trace() -> None:
    if os.environ.get(DEBUG):
        traceback.print_exc()
