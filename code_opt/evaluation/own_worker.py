"""A server at its own pace as a process: real networks, real inputs, a core of its own.

Inputs lie ready on the device, so that nothing but computing takes time; what arrives when is known
beforehand (:mod:`code_opt.evaluation.unpaced`). Orders and what they found travel as JSON and
plain numbers; nothing on the pipe is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

import numpy as np
import numpy.typing as npt

from code_opt.evaluation.own_pace import Clocks, serve_arrivals, serve_mix
from code_opt.evaluation.worker import WorkerSpec, make_modules
from code_opt.networks.bundle import Bundle
from code_opt.networks.compat import torch
from code_opt.networks.threads import use_exact_cuda, use_threads

_WARM_UP = 3
CHANNELS_LAST: dict[str, Any] = {"memory_format": torch.channels_last}


@dataclass(frozen=True)
class OwnSpec:
    """Everything that a process needs to know."""

    worker: WorkerSpec
    batch: int
    delay: float
    """Longest wait for a batch to fill [s]."""
    cores: tuple[int, ...]
    """That it runs on; none: wherever the system puts it."""


def serve(spec: OwnSpec, orders: Pipe, answers: Pipe) -> None:
    """Follow orders until told to stop or whoever gives them is gone.

    Args:
        spec: what the process runs.
        orders: from the coordinator.
        answers: to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if spec.cores:
        os.sched_setaffinity(0, spec.cores)
    use_threads(spec.worker.threads)
    if spec.worker.device != "cpu":
        use_exact_cuda()
    with contextlib.suppress(BrokenPipeError, EOFError, ConnectionResetError):
        inputs = {
            (visit.route, visit.visit): np.frombuffer(orders.recv_bytes(), np.float32).reshape(
                -1, *visit.shape
            )
            for visit in spec.worker.visits
        }
        _Server(spec, inputs).follow(orders, answers)
    os._exit(0)


class _Server:
    def __init__(
        self, spec: OwnSpec, inputs: Mapping[tuple[int, int], npt.NDArray[np.float32]]
    ) -> None:
        self.spec = spec
        worker = spec.worker
        bundle = None if worker.bundle is None else Bundle(worker.bundle, worker.allow_code)
        self.visits = list(worker.visits)
        self.places = {(v.route, v.visit): k for k, v in enumerate(self.visits)}
        self.modules = [
            [module.to(**CHANNELS_LAST) for module in make_modules(visit, bundle, worker.device)]
            for visit in self.visits
        ]
        self.inputs = [self._laid_out(inputs[v.route, v.visit]) for v in self.visits]
        self.numbers = [len(x) - spec.batch for x in self.inputs]
        """Inputs of each, without those that stand there twice."""

    def _laid_out(self, given: npt.NDArray[np.float32]) -> torch.Tensor:
        """Return inputs with the first ones once more behind them: any batch is a slice."""
        rows = np.arange(len(given) + self.spec.batch) % len(given)
        x = torch.from_numpy(given[rows]).to(self.spec.worker.device)
        return x.contiguous(**CHANNELS_LAST) if x.ndim == 4 else x

    def compute(self, visit: int, number: int) -> list[torch.Tensor]:
        """Return the outputs of all pieces of a visit for a batch from an input on."""
        first = number % self.numbers[visit]
        x = self.inputs[visit][first : first + self.spec.batch]
        outputs: list[torch.Tensor] = []
        for piece, module in zip(self.visits[visit].pieces, self.modules[visit], strict=True):
            outputs.append(module(x if piece.parent < 0 else outputs[piece.parent]))
        if self.spec.worker.device != "cpu":
            torch.cuda.synchronize()
        return outputs

    def follow(self, orders: Pipe, answers: Pipe) -> None:
        clocks = Clocks(time.perf_counter, time.thread_time)
        with torch.inference_mode():
            for visit in range(len(self.visits)):
                for _ in range(_WARM_UP):
                    self.compute(visit, 0)
            answers.send_bytes(json.dumps({"ready": True}).encode())
            while True:
                order = json.loads(orders.recv_bytes())
                if order["do"] == "stop":
                    return
                answers.send_bytes(json.dumps(self._done(order, orders, answers, clocks)).encode())

    def _done(
        self, order: dict[str, Any], orders: Pipe, answers: Pipe, clocks: Clocks
    ) -> dict[str, Any]:
        places = [self.places[tuple(key)] for key in order["visits"]]

        def compute(visit: int, number: int) -> None:
            self.compute(places[visit], number)

        if order["do"] == "answers":
            return {
                "classes": [
                    [
                        output.float().argmax(dim=1).tolist() if piece.answers else None
                        for piece, output in zip(
                            self.visits[place].pieces, self.compute(place, 0), strict=True
                        )
                    ]
                    for place in places
                ]
            }
        window = (order["start"], order["end"])
        if order["do"] == "mix":
            mix = serve_mix(
                order["rates"],
                batch=self.spec.batch,
                window=window,
                compute=compute,
                clocks=clocks,
            )
            return asdict(mix)
        times = np.frombuffer(orders.recv_bytes(), np.float64)
        visits = np.frombuffer(orders.recv_bytes(), np.int64)
        served = serve_arrivals(
            times.tolist(),
            visits.tolist(),
            batch=self.spec.batch,
            delay=self.spec.delay,
            window=window,
            compute=compute,
            clocks=clocks,
        )
        for column in (served.begun, served.done, served.taken):
            answers.send_bytes(column.tobytes())
        return {"busy": served.busy, "stolen": served.stolen, "batches": served.batches}
