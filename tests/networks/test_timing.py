"""Timing blocks: counted, ordered, and heavier blocks take longer."""

from __future__ import annotations

from itertools import cycle

import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.networks import timing
from code_opt.networks.timing import time_blocks


def chain() -> list[torch.nn.Module]:
    light = torch.nn.Conv2d(3, 4, 1)
    heavy = torch.nn.Sequential(torch.nn.Conv2d(4, 64, 5, padding=2), torch.nn.Conv2d(64, 64, 5))
    return [light.eval(), heavy.eval()]


class Takes(torch.nn.Module):
    """A block that takes so many milliseconds of a test's own clock per input, in turn."""

    def __init__(self, clock: list[float], *milliseconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.turns = cycle(milliseconds)

    def __deepcopy__(self, memo: object) -> Takes:  # the clock is one
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock[0] += next(self.turns) * len(x) / 1000.0
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    for name in ("perf_counter", "thread_time"):
        monkeypatch.setattr(timing.time, name, lambda: now[0])
    return now


def test_every_block_and_batch_is_measured(clock: list[float]) -> None:
    blocks = [Takes(clock, 1.0), Takes(clock, 2.0, 3.0, 4.0, 5.0)]
    found = time_blocks(blocks, (3, 24, 24), batches=(1, 8), seconds=0.0, least_repeats=8)
    assert [(t.batch, t.block) for t in found] == [(1, 0), (1, 1), (8, 0), (8, 1)]
    assert [t.repeats for t in found] == [8] * 4
    assert [t.median for t in found[::2]] == pytest.approx([0.001, 0.008])
    for one in found[1::2]:  # twice each of 2, 3, 4 and 5 ms
        quartiles = [one.low, one.median, one.high]
        assert quartiles == pytest.approx([q * one.batch for q in (0.00275, 0.0035, 0.00425)])
    assert found[2].throughput == pytest.approx(1000.0)


def test_a_block_is_measured_for_as_long_as_asked(clock: list[float]) -> None:
    (found,) = time_blocks([Takes(clock, 1.0)], (3,), batches=(1,), seconds=0.0505, least_repeats=3)
    assert found.repeats == 51


@pytest.mark.realtime
def test_heavier_blocks_take_longer() -> None:
    found = time_blocks(chain(), (3, 24, 24), batches=(8,), seconds=0.01)
    assert all(0.0 < t.low <= t.median <= t.high for t in found)
    # Some 40 million against 14 thousand multiply-adds: no noise turns that around.
    assert found[1].median > 5 * found[0].median


@pytest.mark.parametrize("batches", [(), (0,), (4, -1)])
def test_batches_below_one_are_refused(batches: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        time_blocks(chain(), (3, 8, 8), batches=batches)


def test_a_block_that_does_not_run_is_named() -> None:
    with pytest.raises(InputError, match="block 1 does not run on shape"):
        time_blocks([chain()[0], torch.nn.Conv2d(3, 4, 1)], (3, 8, 8), batches=(1,))
