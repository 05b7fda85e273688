"""One server of the edge as a function of time: its queue, its pace and its links.

Nothing in here asks a clock: whoever calls says what time it is. Two drivers call it:
:mod:`code_opt.evaluation.worker`, a process that computes for real on this machine's clock,
and :mod:`code_opt.evaluation.simulation`, a loop over events on a simulated one.

A server takes inferences first come, first served; those without work there do not wait. An
output leaves when a server of the instance's speed would have it, or when it has really been
computed, whichever is later; a link carries one message after the other and then delays each by
its latency. How much later than it should have happened something did happen is the *lag*: it
is this machine's fault, not the edge's, and measurements with much of it are void.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush, heapreplace
from itertools import accumulate
from typing import Any, NamedTuple

from code_opt.errors import InputError
from code_opt.instance import Server

Visit = tuple[int, int]
"""Number of a route, and the segment at which its inferences enter the server."""
LAG_QUANTILE = 0.95


class Item(NamedTuple):
    """An inference inside of a server."""

    visit: Visit
    number: int
    """Place among the inferences of its route."""
    begun: float
    """When a server of the instance's speed begins with it."""
    content: Any = None


class Lateness:
    """How late this machine was with what should have happened inside of a window."""

    def __init__(self) -> None:
        self._count = 0
        self._late: list[float] = []
        self._last = 0.0

    def note(self, due: float, at: float, window: tuple[float, float]) -> None:
        """Note that something happened at a time at which, or after which, it was due."""
        if window[0] <= due < window[1]:
            self._count += 1
            if at > due:
                self._last = at - due
                self._late.append(self._last)
            else:
                self._last = 0.0

    @property
    def value(self) -> float:
        """The 95th percentile, or what it was at the end of the window, where that is more.

        A machine that stops just before the end has few events to show for it.
        """
        rank = math.ceil(LAG_QUANTILE * self._count) - 1
        punctual = self._count - len(self._late)
        high = sorted(self._late)[rank - punctual] if rank >= punctual else 0.0
        return max(high, self._last)


def whole_devices(server: Server, allows_batches: bool = False) -> int:
    """Return how many devices of a server work side by side.

    Raises:
        InputError: they are no whole number, or compute in batches: neither is executed.
    """
    if server.batch > 1.0 and not allows_batches:
        raise InputError(
            f"server {server.id!r}: batch {server.batch:.0f}: only batches of 1 are executed "
            "(code_opt.evaluation.simulate runs others on a simulated clock)"
        )
    if server.devices > 1.0 and server.devices != int(server.devices):
        raise InputError(
            f"server {server.id!r}: {server.devices:g} devices: only whole devices are executed"
        )
    return max(1, int(server.devices))


class ServerQueue:
    """A server's queue, pace and links.

    Args:
        seconds: time that each piece of a visit takes, by visit, in order [s].
        links: to other servers: (bandwidth in bytes/s or None, latency in s).
        devices: that work side by side; each inference runs on one of them.
        factor: slow motion: all speeds are multiplied by it, all delays divided.
        largest_batch: inferences that are computed at once, at most.
        window: what happens in it is counted (begin, end).
    """

    def __init__(
        self,
        seconds: Mapping[Visit, Sequence[float]],
        links: Mapping[str, tuple[float | None, float]],
        *,
        devices: int = 1,
        factor: float = 1.0,
        largest_batch: int = 1,
        window: tuple[float, float] = (0.0, math.inf),
    ) -> None:
        self.window = window
        self.todo: deque[Item] = deque()
        """Inferences that wait to be computed."""
        self._ends = {
            visit: tuple(accumulate(one / factor for one in each))
            for visit, each in seconds.items()
        }
        self._links = {
            target: (0.0 if bandwidth is None else 1.0 / (bandwidth * factor), latency / factor)
            for target, (bandwidth, latency) in links.items()
        }
        self._largest_batch = largest_batch
        self.devices = devices
        self._free_at = [-math.inf] * devices
        """When each device is done with what has arrived, as a heap."""
        self._link_free_at = dict.fromkeys(links, -math.inf)
        self._pending = 0
        self._leaving: list[float] = []
        self._arrival, self._computing = Lateness(), Lateness()
        self._busy = 0.0
        self._seen = self._inside = self._most_inside = 0
        self._batches = self._batched = 0

    def arrive(self, visit: Visit, now: float, due: float, size: int = 1) -> float:
        """Let inferences arrive; return when a server of the instance's speed begins with them.

        Args:
            visit: what they come for.
            now: when they arrive.
            due: when they should have arrived.
            size: how many a device works on at once; it takes the time of a visit for all.
        """
        start, end = self.window
        begun, seconds = self._free_at[0], self._ends[visit][-1]
        if begun < now or not seconds:
            begun = now
        free = begun + seconds
        if seconds:
            heapreplace(self._free_at, free)
        if free > start and begun < end:
            self._busy += min(end, free) - max(start, begun)
        self._pending += size
        if start <= now < end:
            leaving = self._leaving
            while leaving and leaving[0] <= now:
                heappop(leaving)
            inside = self._pending + len(leaving)
            self._seen += 1
            self._inside += inside
            if inside > self._most_inside:
                self._most_inside = inside
        self._arrival.note(due, now, self.window)
        return begun

    def works(self, visit: Visit) -> bool:
        """Whether a visit takes any time of the server."""
        return self._ends[visit][-1] > 0.0

    def take(self) -> list[list[Item]]:
        """Take the next inferences to be computed: batches of equal visits, in order of arrival."""
        batches: dict[Visit, list[Item]] = {}
        for _ in range(min(self._largest_batch, len(self.todo))):
            item = self.todo.popleft()
            batches.setdefault(item.visit, []).append(item)
        self._batches += len(batches)
        self._batched += sum(map(len, batches.values()))
        return list(batches.values())

    def leave(self, visit: Visit, begun: float, done: float) -> list[float]:
        """Return when the outputs of an inference leave, by piece.

        Args:
            visit: what it came for.
            begun: as :meth:`arrive` said.
            done: when it has really been computed.
        """
        times = [begun + end for end in self._ends[visit]]
        self._computing.note(times[-1], done, self.window)
        if done > begun:
            times = [max(time, done) for time in times]
        self._pending -= 1
        heappush(self._leaving, times[-1])
        return times

    def deliver(self, target: str, at: float, size: float) -> float:
        """Return when a message that leaves for another server is there.

        Args:
            target: the other server. Messages must be told in the order in which they leave.
            at: when it leaves.
            size: bytes.
        """
        if target not in self._links:
            return at
        pace, latency = self._links[target]
        sent = max(at, self._link_free_at[target]) + size * pace
        self._link_free_at[target] = sent
        return sent + latency

    def report(self, now: float) -> dict[str, float]:
        """Return what happened in the window: utilization, lag [s], inferences inside, batches."""
        start, end = self.window
        for item in self.todo:  # what should be computed by now is late, too
            due = item.begun + self._ends[item.visit][-1]
            if due < now:
                self._computing.note(due, now, self.window)
        return {
            "utilization": self._busy / (end - start) / self.devices,
            "lag": max(self._arrival.value, self._computing.value),
            "waiting_mean": self._inside / max(1, self._seen),
            "waiting_max": self._most_inside,
            "batch_mean": self._batched / self._batches if self._batches else 1.0,
        }
