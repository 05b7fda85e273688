"""One server of the edge as a process: its blocks on real data, on this machine's clock.

Every activation that arrives is really computed on. When its outputs leave and arrive is what
:mod:`code_opt.evaluation.server` says; this process keeps to it, or is late and says so.

Activations travel as plain float32 numbers over pipes between the processes. Nothing on
these pipes is ever unpickled.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch

from code_opt.evaluation.server import Item, ServerQueue, Visit
from code_opt.evaluation.synthetic import SyntheticPart
from code_opt.networks.adapters import Adapter, AdapterSpec
from code_opt.networks.bundle import Bundle
from code_opt.networks.compat import torch
from code_opt.networks.threads import use_exact_cuda, use_threads

nn = torch.nn

ITEM = struct.Struct("<HHHQd")
"""Before an activation: epoch, route, visit, number, time at which it should arrive."""
ANSWER = struct.Struct("<HHHQdi")
"""A finished inference: epoch, route, task of the route, number, time, class."""
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
    """Work of a stand-in."""


@dataclass(frozen=True)
class PieceSpec:
    """Parts that run one after the other, and where their output goes."""

    parts: tuple[PartSpec, ...]
    seconds: float
    """Time of one inference, as the instance says."""
    parent: int
    """Piece of the same visit (an earlier one) whose output it takes, -1: what arrived."""
    next: tuple[tuple[str, int, int | None, float | None], ...]
    """(server, visit) that the output is sent to. A stand-in's output is repeated to so many
    numbers (None: it is sent as it is). An input takes a link as long as its encoded bytes do
    (None: as many as are sent)."""
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


@dataclass(frozen=True)
class WorkerSpec:
    """Everything that a worker needs to know."""

    server: str
    devices: int
    """That work side by side."""
    links: Mapping[str, tuple[float | None, float]]
    """To other servers: (bandwidth in bytes/s or None, latency in s)."""
    visits: tuple[VisitSpec, ...]
    bundle: Path | None
    device: str
    threads: int
    largest_batch: int
    allow_code: tuple[str, ...] = ()
    """Modules whose factories build the bundle's networks."""


class _Message(NamedTuple):
    """What leaves a server: an activation, or the class that is somebody's answer."""

    route: int
    place: int
    """Visit that it goes to, or task that it answers."""
    number: int
    target: str | None
    """Server; None: it is an answer."""
    content: bytes | int
    size: float = 0.0
    """Bytes that count on the link."""


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
    if spec.device != "cpu":
        use_exact_cuda()
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
        bundle = None if spec.bundle is None else Bundle(spec.bundle, spec.allow_code)
        self.visits = {(v.route, v.visit): v for v in spec.visits}
        self.modules = {
            key: make_modules(visit, bundle, spec.device) for key, visit in self.visits.items()
        }
        self.changed = threading.Condition()
        """Guards everything below."""
        self.stopping = False
        self.leaving: list[tuple[float, int, bool, _Message]] = []
        """Time, order, whether a link has been crossed, message."""
        self.order = count()
        self._begin(0, 1.0)

    def _begin(self, epoch: int, factor: float) -> None:
        """Start an epoch: everything at the instance's speeds times ``factor``."""
        self.epoch = epoch
        self.server = ServerQueue(
            {key: [piece.seconds for piece in visit.pieces] for key, visit in self.visits.items()},
            self.spec.links,
            devices=self.spec.devices,
            factor=factor,
            largest_batch=self.spec.largest_batch,
        )
        self.leaving.clear()

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

    def _guard(self, loop: Callable[[], None]) -> None:
        """Run a thread; when it ends, nothing goes on."""
        try:
            with contextlib.suppress(EOFError, OSError):
                loop()
        finally:
            with self.changed:
                self.stopping = True
                self.changed.notify_all()

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

    def _run(self, key: Visit, contents: Sequence[Any]) -> list[Any]:
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
        answer: dict[str, Any] | None = None
        with self.changed:
            if order["do"] == "begin":
                self._begin(order["epoch"], order["factor"])
                answer = {"begun": self.epoch}
            elif order["do"] == "watch":
                self.server.window = (order["start"], order["end"])
            elif order["do"] == "report":
                answer = self.server.report(time.monotonic())
            else:
                return False
        if answer is not None:
            self._tell(answer)
        return True

    def _arrived(self, message: bytes) -> None:
        now = time.monotonic()
        epoch, route, visit, number, due = ITEM.unpack_from(message, 1)
        shape = self.visits[route, visit].shape
        content = np.frombuffer(message, np.float32, offset=1 + ITEM.size).reshape(shape)
        with self.changed:
            if epoch == self.epoch:
                begun = self.server.arrive((route, visit), now, due)
                item = Item((route, visit), number, begun, content)
                pieces = self.visits[route, visit].pieces
                if any(piece.parts for piece in pieces):
                    self.server.todo.append(item)
                else:  # an input that is only handed on waits for nothing
                    self._finish(item, [content] * len(pieces), now)
                self.changed.notify_all()

    # What is computed

    def _compute(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.stopping or self.server.todo)
                if self.stopping:
                    return
                server = self.server
                batches = server.take()
            for items in batches:
                outputs = self._run(items[0].visit, [item.content for item in items])
                done = time.monotonic()
                with self.changed:
                    if server is not self.server:  # a new epoch has begun
                        break
                    for row, item in enumerate(items):
                        self._finish(item, [None if o is None else o[row] for o in outputs], done)
                    self.changed.notify_all()

    def _finish(self, item: Item, outputs: Sequence[Any], done: float) -> None:
        """Let every output go at the time at which a server of this speed would have it."""
        times = self.server.leave(item.visit, item.begun, done)
        route, _ = item.visit
        pieces = self.visits[item.visit].pieces
        for piece, output, at in zip(pieces, outputs, times, strict=True):
            for task in piece.answers:
                answer = _Message(route, task, item.number, None, int(output.argmax()))
                heapq.heappush(self.leaving, (at, next(self.order), True, answer))
            for target, visit, numbers, size in piece.next:
                sent = output if numbers is None else np.resize(output, numbers)
                content = np.ascontiguousarray(sent).tobytes()
                counted = float(len(content)) if size is None else size
                message = _Message(route, visit, item.number, target, content, counted)
                heapq.heappush(self.leaving, (at, next(self.order), False, message))

    # What goes out

    def _send(self) -> None:
        while (found := self._next()) is not None:
            epoch, at, message = found
            place = (epoch, message.route, message.place, message.number, at)
            if message.target is None:
                with self.answers_lock:
                    self.answers.send_bytes(TAG_ANSWER + ANSWER.pack(*place, message.content))
            else:
                assert isinstance(message.content, bytes)
                self.outboxes[message.target].send_bytes(
                    TAG_ITEM + ITEM.pack(*place) + message.content
                )

    def _next(self) -> tuple[int, float, _Message] | None:
        """Wait for the next message that should be there by now; None: nothing goes on."""
        with self.changed:
            while not self.stopping:
                now = time.monotonic()
                if not self.leaving or self.leaving[0][0] > now:
                    self.changed.wait(self.leaving[0][0] - now if self.leaving else None)
                    continue
                at, order, crossed, message = heapq.heappop(self.leaving)
                if crossed:
                    return self.epoch, at, message
                assert message.target is not None
                there = self.server.deliver(message.target, at, message.size)
                heapq.heappush(self.leaving, (there, order, True, message))
        return None


def make_modules(visit: VisitSpec, bundle: Bundle | None, device: str) -> list[nn.Sequential]:
    """Return what computes the pieces of a visit, on a device, fit for inference alone."""
    return [
        nn.Sequential(*(_part(part, bundle) for part in piece.parts))
        .to(device)
        .eval()
        .requires_grad_(False)
        for piece in visit.pieces
    ]


def _part(spec: PartSpec, bundle: Bundle | None) -> nn.Module:
    if spec.block is not None:
        assert bundle is not None
        dnn, number = spec.block
        return bundle.trunk(dnn).blocks[number]
    if spec.adapter is not None:
        adapter = Adapter(spec.adapter)
        adapter.load_state_dict(safetensors.torch.load(spec.weights) if spec.weights else {})
        return adapter
    if spec.flops:
        return SyntheticPart(spec.flops)
    return nn.Identity()


def _batches(largest: int) -> list[int]:
    sizes = [1]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes
