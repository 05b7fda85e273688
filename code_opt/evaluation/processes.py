"""A process per server: started fresh, told what to do over pipes, ended in order.

What travels is plain bytes and JSON: nothing on a pipe is unpickled.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Any, Self

from code_opt.errors import CodeOptError

# Forked copies of a process with threads (torch's) can hang; fresh ones cannot.
CONTEXT = multiprocessing.get_context("spawn")
START_TIMEOUT = 180.0
"""Seconds that a process may take to start."""


class EdgeError(CodeOptError):
    """A server's process failed; the message says which and how."""


class ServerProcesses(AbstractContextManager["ServerProcesses"]):
    """Processes of several servers; use it as a context.

    A class of them says how they are started (:meth:`_start`).
    """

    ORDER = b""
    """What an order begins with, before its JSON."""

    def __init__(self) -> None:
        self._processes: dict[str, Any] = {}
        self._orders: dict[str, Pipe] = {}
        self._answers: dict[str, Pipe] = {}

    def __enter__(self) -> Self:
        """Start the processes and wait until all are ready.

        Raises:
            EdgeError: one does not start.
        """
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all processes, whatever they are doing."""
        self._stop()

    def _start(self) -> None:
        raise NotImplementedError

    def _launch(self, server: str, serve: Callable[..., None], *arguments: object) -> None:
        """Start the process of a server.

        Args:
            server: id.
            serve: what it runs; the pipe for its answers is the last argument.
            arguments: those before.
        """
        self._answers[server], answers = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(
            target=serve, args=(*arguments, answers), name=f"edge {server}", daemon=True
        )
        with without_interrupts():
            process.start()
            self._processes[server] = process
        answers.close()

    def _stop(self) -> None:
        for pipe in self._orders.values():
            with suppress(OSError):
                pipe.send_bytes(self._order_in_bytes({"do": "stop"}))
            pipe.close()
        for process in self._processes.values():
            process.join(1.0)
            if process.is_alive():
                process.terminate()
                process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._answers.values():
            pipe.close()
        self._processes.clear()
        self._orders.clear()
        self._answers.clear()

    def _order_in_bytes(self, order: dict[str, Any]) -> bytes:
        return self.ORDER + json.dumps(order).encode()

    def _order(self, server: str, order: dict[str, Any]) -> None:
        """Tell a process what to do."""
        self._send(server, self._order_in_bytes(order))

    def _send(self, server: str, content: bytes) -> None:
        try:
            self._orders[server].send_bytes(content)
        except OSError:
            raise self._death(server) from None

    def _received(self, server: str) -> bytes:
        """Return the next message of a process; wait for it."""
        try:
            return self._answers[server].recv_bytes()
        except (EOFError, OSError):
            raise self._death(server) from None

    def _death(self, server: str) -> EdgeError:
        """Return the error that names the server whose process ended first.

        A process whose neighbour is gone ends in order, perhaps before anybody has noticed.
        """
        self._processes[server].join(2.0)
        codes = {name: process.exitcode for name, process in self._processes.items()}
        if codes[server] == 0:
            server = next((name for name, code in codes.items() if code), server)
        code = codes[server]
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return EdgeError(f"the process of server {server!r} died ({how})")

    @staticmethod
    def _silence(server: str, patience: float) -> EdgeError:
        return EdgeError(f"server {server!r} does not answer within {patience:.0f} s")


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the coordinator ends them in order.

    Starting one takes seconds. A Ctrl-C that comes meanwhile counts afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    missed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: missed.append(number))
    with _blocked_for_children():
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
    if missed:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _blocked_for_children() -> Iterator[None]:
    """Let processes that start here have SIGINT blocked, where the system knows such masks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Begun with the first process otherwise, it would unblock the signal before that one starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
