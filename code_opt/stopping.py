"""A request to stop: the first Ctrl-C ends every search as a time limit does.

One request per process, which every :class:`code_opt.core.settings.Clock` and every run of
HiGHS looks at. Executors hand it on to their workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_requested = threading.Event()
_listeners: list[Callable[[], None]] = []


def is_stop_requested() -> bool:
    """Tell whether everything that searches in this process is to end with what it has."""
    return _requested.is_set()


def request_stop() -> None:
    """Ask everything that searches in this process to end with what it has."""
    _requested.set()
    for listener in _listeners:
        listener()


@contextlib.contextmanager
def told_to_stop(listener: Callable[[], None]) -> Iterator[None]:
    """Call ``listener`` when a stop is requested, for as long as the context lasts."""
    _listeners.append(listener)
    try:
        if is_stop_requested():
            listener()
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def stop_on_interrupt(message: str = "") -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C a request to stop; the second raises :class:`KeyboardInterrupt`.

    Where Ctrl-C does something else than raise KeyboardInterrupt, or in another thread than
    the main one, everything stays as it is.

    Args:
        message: written to stderr at the first one.

    Yields:
        A function that tells whether there was one; it does so after the end, too.
    """
    was_requested = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal was_requested
        if was_requested:
            signal.default_int_handler(number, frame)
        was_requested = True
        with contextlib.suppress(OSError):
            # Not by print(): the signal may have come in the middle of one.
            os.write(2, message.encode())
        request_stop()

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: was_requested
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _requested.clear()
