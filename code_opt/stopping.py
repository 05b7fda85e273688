"""A request to stop: the first Ctrl-C or SIGTERM ends every search as a time limit does.

One request per process, which every :class:`code_opt.core.settings.Clock` and every run of
HiGHS looks at. Executors hand it on to their workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

_requested = threading.Event()
_listeners: list[Callable[[], None]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM came a second time: end at once."""


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
def stop_on_signal(
    told: Mapping[signal.Signals, str] | None = None,
) -> Iterator[Callable[[], signal.Signals | None]]:
    """Make the first Ctrl-C, or SIGTERM, a request to stop; the second raises an exception.

    That is :class:`Terminated` for SIGTERM, else :class:`KeyboardInterrupt`. A signal that does
    something else than by default stays as it is; so does everything in another thread than the
    main one.

    Args:
        told: what is written to stderr at the first one.

    Yields:
        A function that returns the first signal, None before; it does so after the end, too.
    """
    first: signal.Signals | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal first
        if first is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        first = signal.Signals(number)
        with contextlib.suppress(OSError):
            # Not by print(): the signal may have come in the middle of one.
            os.write(2, (told or {}).get(first, "").encode())
        request_stop()

    is_main = threading.current_thread() is threading.main_thread()
    before = {
        number: default
        for number, default in _DEFAULTS.items()
        if is_main and signal.getsignal(number) is default
    }
    for number in before:
        signal.signal(number, stop)
    try:
        yield lambda: first
    finally:
        for number, default in before.items():
            signal.signal(number, default)
        if before:
            _requested.clear()


_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What asks for an end, and what Python makes of it."""
