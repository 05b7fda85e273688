"""Where independent work runs: here, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from code_opt.errors import CodeOptError, InputError
from code_opt.stopping import is_stop_requested, request_stop, told_to_stop

ANSWER_SECONDS = 10
"""Longest wait for a Dask scheduler's answer."""
WORKER_SECONDS = 60
"""Longest wait for the first worker of a Dask cluster."""


_NOT_BEGUN = (
    "the worker processes end before they begin: each of them loads the main script again, which "
    "must be a file and start its work below 'if __name__ == \"__main__\":' (or use the executor "
    "serial)"
)


class _Worker(SpawnProcess):
    """A process that :meth:`terminate` ends although it ignores SIGTERM."""

    def terminate(self) -> None:
        """End it at once."""
        self.kill()


class _Workers(SpawnContext):
    Process = _Worker


class Processes(ProcessPoolExecutor):
    """Fresh processes of this machine, which end with this one and hear of a request to stop."""

    def __init__(self, count: int | None) -> None:
        # Forked copies of a process with threads (torch's) can hang; fresh ones cannot.
        context = _Workers()
        self._begun, self._stop = context.Event(), context.Event()
        super().__init__(count, context, _begin, (self._begun, self._stop))

    def stop(self) -> None:
        """Ask the workers to end their searches with what they have."""
        self._stop.set()

    def why_broken(self) -> CodeOptError:
        """Return what to say when a worker has died."""
        if self._begun.is_set():
            return CodeOptError("a worker process died (out of memory?)")
        return InputError(_NOT_BEGUN)


@contextmanager
def executor_of(name: str) -> Iterator[Executor | None]:
    """Return the executor that ``--executor`` names, closed at the end.

    ``serial``; ``processes`` or ``processes:N`` on this machine; ``dask`` (a local cluster) or
    ``dask:ADDRESS`` (a running scheduler; its workers must see the same files).

    Raises:
        InputError: another name, or Dask is not installed, does not answer or has no workers.
        CodeOptError: a worker process died.
    """
    kind, _, rest = name.partition(":")
    if kind == "serial" and not rest:
        yield None
    elif kind == "processes":
        try:
            count = int(rest) if rest else None
            if count is not None and not 1 <= count <= 1024:
                raise ValueError
        except ValueError:
            raise InputError(f"--executor {name!r}: processes:N needs a number from 1 on") from None
        with Processes(count) as executor, told_to_stop(executor.stop):
            try:
                yield executor
            except BrokenExecutor:
                raise executor.why_broken() from None
            except BaseException:  # interrupted: nobody wants what is still being computed
                for process in list(executor._processes.values()):
                    process.terminate()  # the pool is broken then, and waits for nothing
                raise
    elif kind == "dask":
        with _dask_client(name, rest) as client, client.get_executor() as executor:
            try:
                yield executor
            finally:
                if is_stop_requested():
                    executor.shutdown(wait=False)
    else:
        raise InputError(
            f"--executor {name!r}: serial, processes, processes:N, dask or dask:ADDRESS"
        )


@contextmanager
def _dask_client(name: str, address: str) -> Iterator[Any]:
    """Return a client of the cluster at an address, or of a new one here, with a worker."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("--executor dask needs Dask: pip install 'code-opt[dask]'") from None
    with contextlib.ExitStack() as stack:
        if not address:
            try:
                cluster = LocalCluster(threads_per_worker=1, dashboard_address=None)
            except RuntimeError as error:
                raise InputError(f"--executor {name!r}: {error} Perhaps {_NOT_BEGUN}") from None
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            logger = logging.getLogger("distributed")
            level = logger.level
            logger.setLevel(logging.CRITICAL)  # what it would say is said below, once
            try:
                client = stack.enter_context(Client(address, timeout=ANSWER_SECONDS))
            except Exception as error:  # noqa: BLE001 (any text can be given as an address)
                why = str(error) or type(error).__name__
                raise InputError(
                    f"--executor {name!r}: no Dask scheduler answers there within "
                    f"{ANSWER_SECONDS} s: {why}"
                ) from None
            finally:
                logger.setLevel(level)
        if not client.scheduler_info()["workers"]:
            print(
                f"--executor {name}: waiting for a worker, {WORKER_SECONDS} s at most",
                file=sys.stderr,
                flush=True,
            )
            try:
                client.wait_for_workers(1, timeout=WORKER_SECONDS)
            except TimeoutError:
                raise InputError(
                    f"--executor {name!r}: the cluster has no worker after {WORKER_SECONDS} s; "
                    "start one: dask worker ADDRESS"
                ) from None
        yield client


def _begin(begun: Any, stop: Any) -> None:
    """Prepare a worker process: it ends when its parent does, and hears of a request to stop."""
    # A terminal sends Ctrl-C to everybody, a batch system SIGTERM; what it means is for the parent
    # to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end_with_parent() -> None:  # even by SIGKILL; else it would wait for ever
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    def hear() -> None:
        stop.wait()
        request_stop()

    for watch in (end_with_parent, hear):
        threading.Thread(target=watch, daemon=True).start()
    begun.set()
