"""Running the edge for real and looking at every answer, not at the time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

from code_opt.evaluation.flow import Stream, Trace
from code_opt.evaluation.subject import Subject
from code_opt.instance import Instance
from code_opt.networks.bundle import Bundle
from code_opt.networks.compat import torch
from code_opt.networks.multitask import MultiTaskNetwork

DATA = Path(__file__).resolve().parents[2] / "data"


class Inputs:
    """Feeds so many inputs of every stream, all at once; finished when all are answered.

    Args:
        streams: what is fed.
        number: inputs of each.
        notice: told of every answer.
    """

    def __init__(
        self, streams: Sequence[Stream], number: int, notice: Callable[[], None] = lambda: None
    ) -> None:
        self.coming = [k for _ in range(number) for k in range(len(streams))]
        self.missing = number * sum(len(stream.route.tasks) for stream in streams)
        self.notice = notice

    @property
    def time(self) -> float:
        return -math.inf if self.coming else math.inf

    def take(self, now: float) -> tuple[float, int]:
        return now, self.coming.pop()

    def answered(self, stream: int, task: int) -> None:
        self.missing -= 1
        self.notice()

    def finished(self, now: float) -> bool:
        return self.missing == 0


class Endless(Inputs):
    """Feeds some inputs at a time without end, until something dies or it is :attr:`over`."""

    def __init__(self, streams: Sequence[Stream], notice: Callable[[], None]) -> None:
        super().__init__(streams, 8, notice)
        self.turns = cycle(range(len(streams)))
        self.over = False

    @property
    def time(self) -> float:
        return -math.inf if self.missing > 0 else math.inf

    def take(self, now: float) -> tuple[float, int]:
        self.missing -= 1
        return now, next(self.turns)

    def answered(self, stream: int, task: int) -> None:
        self.missing += 1
        self.notice()

    def finished(self, now: float) -> bool:
        return self.over


def unpaced(instance: Instance, bundle: Bundle | None) -> Subject:
    """Return a subject whose servers are so fast that no pace holds an answer back."""
    servers = instance.to_dict()["servers"]
    for server in servers:
        server["flops"] *= 1e6
    return Subject(instance.replace(servers=servers), bundle, DATA)


def assert_all_answered_once(trace: Trace, number: int) -> None:
    assert [len(born) for born in trace.born] == [number] * len(trace.born)
    for tasks in trace.answers:
        for answers in tasks:
            assert Counter(k for k, _, _ in answers) == dict.fromkeys(range(number), 1)


def assert_answered_like(
    network: MultiTaskNetwork, streams: Sequence[Stream], trace: Trace
) -> None:
    """Compare all answers, but for those that are too close to a tie to be sure."""
    for which, stream in enumerate(streams):
        inputs = torch.from_numpy(next(iter(stream.inputs.values())))
        for place, task in enumerate(stream.route.tasks):
            with torch.inference_mode():
                scores = network.path(task)(inputs)
            best = scores.topk(2).values
            clear = (best[:, 0] - best[:, 1] > 1e-3).numpy()
            assert clear.mean() > 0.95
            expected = scores.argmax(dim=1).numpy()
            for number, _, answer in trace.answers[which][place]:
                if clear[number]:
                    assert answer == expected[number], (task, number)
