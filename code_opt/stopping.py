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
    """SIGTERM: end at once, as after Ctrl-C."""


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


_USUAL = {
    signal.SIGINT: (signal.default_int_handler,),
    signal.SIGTERM: (signal.SIG_DFL, _raise_terminated),
}
"""What asks for an end, and what is done about it where nobody has set anything else."""


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated`, so that what is open is closed, as by Ctrl-C.

    Where SIGTERM does something else than by default, or in another thread than the main one,
    everything stays as it is.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
        number: handler
        for number, usual in _USUAL.items()
        if is_main and (handler := signal.getsignal(number)) in usual
    }
    for number in before:
        signal.signal(number, stop)
    try:
        yield lambda: first
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _requested.clear()
