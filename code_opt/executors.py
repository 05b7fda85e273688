"""Where independent work runs: here, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from code_opt.errors import InputError


@contextmanager
def executor_of(name: str) -> Iterator[Executor | None]:
    """Return the executor that ``--executor`` names, closed at the end.

    ``serial``; ``processes`` or ``processes:N`` on this machine; ``dask`` (a local cluster) or
    ``dask:ADDRESS`` (a running scheduler; its workers must see the same files).

    Raises:
        InputError: another name, or Dask is not installed.
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
        # Forked copies of a process with threads (torch's) can hang; fresh ones cannot.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, context, _end_with_parent) as executor:
            try:
                yield executor
            except BaseException:  # interrupted: nobody wants what is still being computed
                for process in list(executor._processes.values()):
                    process.terminate()  # the pool is broken then, and waits for nothing
                raise
    elif kind == "dask":
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise InputError("--executor dask needs Dask: pip install 'code-opt[dask]'") from None
        if rest:
            with Client(rest) as client, client.get_executor() as executor:
                yield executor
        else:
            with (
                LocalCluster(threads_per_worker=1, dashboard_address=None) as cluster,
                Client(cluster) as client,
                client.get_executor() as executor,
            ):
                yield executor
    else:
        raise InputError(
            f"--executor {name!r}: serial, processes, processes:N, dask or dask:ADDRESS"
        )


def _end_with_parent() -> None:
    """Make a worker end when its parent does, even by SIGKILL; else it would wait for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
