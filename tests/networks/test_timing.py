"""Timing blocks: counted, ordered, and heavier blocks take longer."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from code_opt.errors import InputError
from code_opt.networks.timing import time_blocks


def chain() -> list[torch.nn.Module]:
    light = torch.nn.Conv2d(3, 4, 1)
    heavy = torch.nn.Sequential(torch.nn.Conv2d(4, 64, 5, padding=2), torch.nn.Conv2d(64, 64, 5))
    return [light.eval(), heavy.eval()]


def test_every_block_and_batch_is_measured() -> None:
    found = time_blocks(chain(), (3, 24, 24), batches=(1, 8), seconds=0.01, least_repeats=9)
    assert [(t.batch, t.block) for t in found] == [(1, 0), (1, 1), (8, 0), (8, 1)]
    assert all(0.0 < t.low <= t.median <= t.high for t in found)
    assert all(t.repeats >= 9 for t in found)
    assert found[2].throughput == pytest.approx(8 / found[2].median)
    # Some 40 million against 14 thousand multiply-adds: no noise turns that around.
    assert found[3].median > 5 * found[2].median


@pytest.mark.parametrize("batches", [(), (0,), (4, -1)])
def test_batches_below_one_are_refused(batches: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        time_blocks(chain(), (3, 8, 8), batches=batches)


def test_a_block_that_does_not_run_is_named() -> None:
    with pytest.raises(InputError, match="block 1 does not run on shape"):
        time_blocks([chain()[0], torch.nn.Conv2d(3, 4, 1)], (3, 8, 8), batches=(1,))
