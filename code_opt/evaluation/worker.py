"""One server of the edge, as a process: runs its blocks on real data, at its own pace.

Every activation that arrives is really computed on. The *pace* is the instance's: a server
does C FLOP per second, a link carries B bytes per second after its latency. On arrival an
inference gets the time at which a server of that speed would have finished it (first come,
first served); its output leaves then, or when it has really been computed, whichever is
later. The difference is the *lag*: as long as it stays small, the pacing is honest.

Activations travel as plain float32 numbers over pipes between the processes. Nothing on
these pipes is ever unpickled.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import queue
import signal
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from code_opt.evaluation.synthetic import SyntheticPart
from code_opt.networks.adapters import Adapter, AdapterSpec
from code_opt.networks.bundle import Bundle
from code_opt.networks.compat import torch
from code_opt.networks.threads import use_threads

nn = torch.nn

ITEM = struct.Struct("<HHHQd")
"""Before an activation: epoch, route, visit, number, time of birth."""
ANSWER = struct.Struct("<HHHQddi")
"""A finished inference: epoch, route, task of the route, number, times of birth and end, class."""
TAG_ITEM, TAG_ANSWER, TAG_TEXT = b"I", b"A", b"J"
_WARM_UP = 3
_TIMED = 7


@dataclass(frozen=True)
class PartSpec:
    """How a worker makes one part: a block of the bundle, an adapter, or a stand-in."""

    block: tuple[str, int] | None = None
    adapter: AdapterSpec | None = None
    weights: bytes = b""
    """Of the adapter, as safetensors."""
    flops: float = 0.0
    size: float = 0.0
    """Of a stand-in: its work and the bytes that it puts out."""


@dataclass(frozen=True)
class PieceSpec:
    """Parts that run one after the other, and where their output goes."""

    parts: tuple[PartSpec, ...]
    flops: float
    parent: int
    """Piece of the same visit (an earlier one) whose output it takes, -1: what arrived."""
    next: tuple[tuple[str, int], ...]
    """(server, visit) that the output is sent to."""
    answers: tuple[int, ...]
    """Tasks of the route whose answer the output is."""


@dataclass(frozen=True)
class VisitSpec:
    """What a route does here with one activation that arrives: a tree of pieces."""

    route: int
    visit: int
    shape: tuple[int, ...]
    """Of what arrives, without the batch."""
    pieces: tuple[PieceSpec, ...]

    @property
    def flops(self) -> float:
        """Work of one inference [FLOP]."""
        return sum(piece.flops for piece in self.pieces)


@dataclass(frozen=True)
class WorkerSpec:
    """Everything that a worker needs to know."""

    server: str
    capacity: float
    """FLOP/s."""
    links: Mapping[str, tuple[float | None, float]]
    """To other servers: (bandwidth in bytes/s or None, latency in s)."""
    visits: tuple[VisitSpec, ...]
    bundle: Path | None
    device: str
    threads: int
    largest_batch: int


@dataclass
class _Item:
    epoch: int
    route: int
    visit: int
    number: int
    born: float
    begun: float
    """When a server of the instance's speed would begin with it."""
    content: Any


@dataclass
class _Statistics:
    """What a server did in the measured window."""

    busy: float = 0.0
    lag: list[float] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)


def serve(
    spec: WorkerSpec, inboxes: Sequence[Pipe], outboxes: Mapping[str, Pipe], answers: Pipe
) -> None:
    """Run a worker until it is told to stop or whoever started it is gone.

    Args:
        spec: what it runs.
        inboxes: the first from the coordinator, the others from other servers.
        outboxes: to other servers.
        answers: to the coordinator.
    """
    # Ctrl-C goes to the whole group of processes; the coordinator ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(spec.threads)
    # Where the coordinator or a neighbour is gone, it reports, not we.
    with contextlib.suppress(BrokenPipeError, EOFError, ConnectionResetError):
        _Worker(spec, inboxes, outboxes, answers).run()
    # Threads may still be inside of torch, which an orderly end of the interpreter would abort.
    os._exit(0)


class _Worker:
    def __init__(
        self,
        spec: WorkerSpec,
        inboxes: Sequence[Pipe],
        outboxes: Mapping[str, Pipe],
        answers: Pipe,
    ) -> None:
        self.spec = spec
        self.inboxes = list(inboxes)
        self.outboxes = dict(outboxes)
        self.answers = answers
        self.answers_lock = threading.Lock()
        bundle = None if spec.bundle is None else Bundle(spec.bundle)
        self.visits = {(v.route, v.visit): v for v in spec.visits}
        self.modules = {
            key: [
                nn.Sequential(*(_part(part, bundle) for part in piece.parts))
                .to(spec.device)
                .eval()
                .requires_grad_(False)
                for piece in visit.pieces
            ]
            for key, visit in self.visits.items()
        }
        self.todo: queue.Queue[_Item | None] = queue.Queue()
        self.leaving: list[tuple[float, int, str | None, bytes, int]] = []
        self.changed = threading.Condition()
        self.stopping = False
        self.sequence = 0
        self._begin(0, 1.0, 0.0, 0.0)

    def _begin(self, epoch: int, factor: float, start: float, end: float) -> None:
        """Start an epoch: capacities times ``factor``, statistics from ``start`` to ``end``."""
        self.epoch = epoch
        self.factor = factor
        self.window = (start, end)
        self.free_at = 0.0
        self.link_free_at = dict.fromkeys(self.spec.links, 0.0)
        self.inside = 0
        self.statistics = _Statistics()

    def run(self) -> None:
        """Say what a single inference takes, then work."""
        self._tell({"ready": self._seconds()})
        threads = [
            threading.Thread(target=self._guard, args=(loop,), daemon=True)
            for loop in (self._receive, self._send)
        ]
        for thread in threads:
            thread.start()
        with torch.inference_mode():
            self._compute()
        self.stopping = True
        with self.changed:
            self.changed.notify_all()

    def _guard(self, loop: Any) -> None:
        """Run a thread; when it fails, nothing goes on."""
        try:
            loop()
        except (BrokenPipeError, EOFError, ConnectionResetError, OSError):
            pass
        finally:
            self.todo.put(None)

    def _tell(self, message: Any) -> None:
        with self.answers_lock:
            self.answers.send_bytes(TAG_TEXT + json.dumps(message).encode())

    def _seconds(self) -> dict[str, float]:
        """Return the median time of one inference alone, by "route/visit" [s]."""
        found = {}
        with torch.inference_mode():
            for key, visit in self.visits.items():
                for batch in _batches(self.spec.largest_batch):
                    self._run(key, [np.zeros(visit.shape, np.float32)] * batch)
                x = np.zeros(visit.shape, np.float32)
                times = []
                for _ in range(_WARM_UP + _TIMED):
                    started = time.perf_counter()
                    self._run(key, [x])
                    times.append(time.perf_counter() - started)
                found[f"{key[0]}/{key[1]}"] = float(np.median(times[_WARM_UP:]))
        return found

    def _run(self, key: tuple[int, int], contents: Sequence[Any]) -> list[Any]:
        """Return the outputs of all pieces of a visit, None where nobody outside needs one."""
        x = torch.from_numpy(np.stack(contents)).to(self.spec.device)
        outputs: list[torch.Tensor] = []
        pieces = self.visits[key].pieces
        for piece, module in zip(pieces, self.modules[key], strict=True):
            outputs.append(module(x if piece.parent < 0 else outputs[piece.parent]))
        return [
            output.float().cpu().numpy() if piece.next or piece.answers else None
            for piece, output in zip(pieces, outputs, strict=True)
        ]

    # What comes in

    def _receive(self) -> None:
        commands = self.inboxes[0]
        pipes = list(self.inboxes)
        while pipes:
            for pipe in wait(pipes):
                assert isinstance(pipe, Pipe)
                try:
                    message = pipe.recv_bytes()
                except (EOFError, ConnectionResetError):
                    if pipe is commands:
                        return  # nobody is left to work for
                    pipes.remove(pipe)
                    continue
                if message[:1] == TAG_ITEM:
                    self._arrived(message)
                elif not self._ordered(json.loads(message[1:])):
                    return

    def _ordered(self, order: dict[str, Any]) -> bool:
        """Follow an order of the coordinator; False: stop."""
        if order["do"] == "begin":
            with self.changed:
                self._begin(order["epoch"], order["factor"], order["start"], order["end"])
                self.leaving.clear()
        elif order["do"] == "report":
            s, (start, end) = self.statistics, self.window
            self._tell(
                {
                    "epoch": self.epoch,
                    "utilization": s.busy / (end - start),
                    "lag": float(np.quantile(s.lag, 0.95)) if s.lag else 0.0,
                    "waiting_mean": float(np.mean(s.waiting)) if s.waiting else 0.0,
                    "waiting_max": max(s.waiting, default=0),
                    "batch_mean": float(np.mean(s.batches)) if s.batches else 0.0,
                }
            )
        else:
            return False
        return True

    def _arrived(self, message: bytes) -> None:
        now = time.monotonic()
        epoch, route, visit, number, born = ITEM.unpack_from(message, 1)
        if epoch != self.epoch:
            return
        known = self.visits[route, visit]
        content = np.frombuffer(message, np.float32, offset=1 + ITEM.size).reshape(known.shape)
        seconds = known.flops / (self.spec.capacity * self.factor)
        begun = max(now, self.free_at)
        self.free_at = begun + seconds
        start, end = self.window
        self.statistics.busy += max(0.0, min(end, self.free_at) - max(start, begun))
        with self.changed:
            self.inside += 1
        if start <= now < end:
            self.statistics.waiting.append(self.inside)
        self.todo.put(_Item(epoch, route, visit, number, born, begun, content))

    # What is computed

    def _compute(self) -> None:
        while True:
            first = self.todo.get()
            items = [first]
            while len(items) < self.spec.largest_batch:
                try:
                    items.append(self.todo.get_nowait())
                except queue.Empty:
                    break
            if None in items or self.stopping:
                return
            groups: dict[tuple[int, int], list[_Item]] = {}
            for item in items:
                if item is not None and item.epoch == self.epoch:
                    groups.setdefault((item.route, item.visit), []).append(item)
            # Whose time comes first is computed first.
            for key, group in groups.items():
                outputs = self._run(key, [item.content for item in group])
                done = time.monotonic()
                self.statistics.batches.append(len(group))
                for row, item in enumerate(group):
                    self._finish(item, [None if o is None else o[row] for o in outputs], done)

    def _finish(self, item: _Item, outputs: Sequence[Any], done: float) -> None:
        """Let every output go at the time at which a server of this speed would have it."""
        pieces = self.visits[item.route, item.visit].pieces
        due = item.begun
        last = len(pieces) - 1
        for number, (piece, output) in enumerate(zip(pieces, outputs, strict=True)):
            due += piece.flops / (self.spec.capacity * self.factor)
            at = max(done, due)
            if number == last:
                start, end = self.window
                if start <= done < end:
                    self.statistics.lag.append(max(0.0, done - due))
                self._leave(at, None, b"", item.epoch)
            for task in piece.answers:
                answer = ANSWER.pack(
                    item.epoch, item.route, task, item.number, item.born, at, int(output.argmax())
                )
                self._leave(at, None, TAG_ANSWER + answer, item.epoch)
            for server, visit in piece.next:
                head = ITEM.pack(item.epoch, item.route, visit, item.number, item.born)
                content = np.ascontiguousarray(output).tobytes()
                self._leave(at, server, TAG_ITEM + head + content, item.epoch)

    def _leave(self, at: float, target: str | None, message: bytes, epoch: int) -> None:
        """Let a message go at some time; an empty one only says that an inference is done here."""
        with self.changed:
            self.sequence += 1
            heapq.heappush(self.leaving, (at, self.sequence, target, message, epoch))
            self.changed.notify()

    # What goes out

    def _send(self) -> None:
        travelling: list[tuple[float, int, str | None, bytes, int]] = []
        while not self.stopping:
            with self.changed:
                now = time.monotonic()
                while self.leaving and self.leaving[0][0] <= now:
                    at, order, target, message, epoch = heapq.heappop(self.leaving)
                    if epoch != self.epoch:
                        continue
                    if not message:
                        self.inside -= 1
                        continue
                    heapq.heappush(
                        travelling,
                        (self._delivery(at, target, message), order, target, message, epoch),
                    )
                pending = [h[0][0] for h in (self.leaving, travelling) if h]
                if not pending or min(pending) > now:
                    self.changed.wait(None if not pending else min(pending) - now)
                    continue
            while travelling and travelling[0][0] <= now:
                _, _, target, message, epoch = heapq.heappop(travelling)
                if epoch != self.epoch:
                    continue
                if target is None:
                    with self.answers_lock:
                        self.answers.send_bytes(message)
                else:
                    self.outboxes[target].send_bytes(message)

    def _delivery(self, at: float, target: str | None, message: bytes) -> float:
        """Return when a message that leaves at some time is there."""
        if target is None or target not in self.spec.links:
            return at
        bandwidth, latency = self.spec.links[target]
        begun = max(at, self.link_free_at[target])
        size = len(message) - 1 - ITEM.size
        seconds = 0.0 if bandwidth is None else size / (bandwidth * self.factor)
        self.link_free_at[target] = begun + seconds
        return begun + seconds + latency / self.factor


def _part(spec: PartSpec, bundle: Bundle | None) -> nn.Module:
    if spec.block is not None:
        assert bundle is not None
        dnn, number = spec.block
        return bundle.trunk(dnn).blocks[number]
    if spec.adapter is not None:
        adapter = Adapter(spec.adapter)
        adapter.load_state_dict(safetensors.torch.load(spec.weights) if spec.weights else {})
        return adapter
    if spec.flops or spec.size:
        return SyntheticPart(spec.flops, spec.size)
    return nn.Identity()


def _batches(largest: int) -> list[int]:
    sizes = [1]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes
