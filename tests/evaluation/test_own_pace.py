"""A server at its own pace, on a clock of the tests: what is computed when, and who is to blame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from code_opt.evaluation.own_pace import Clocks, Served, serve_arrivals, serve_mix, share_served


class Machine:
    """A processor that computes batches in given times, and is taken away now and then.

    Args:
        seconds: of a batch, by visit.
        stolen: that every batch takes longer on the clock than on the processor.
    """

    def __init__(self, *seconds: float, stolen: float = 0.0) -> None:
        self.seconds = seconds
        self.stolen = stolen
        self.wall = self.processor = 100.0
        self.computed: list[tuple[int, int]] = []
        self.clocks = Clocks(self.look, lambda: self.processor)

    def look(self) -> float:
        """Every look at the clock takes a moment, or nothing would ever happen."""
        self.wall += 1e-4
        self.processor += 1e-4
        return self.wall

    def compute(self, visit: int, number: int) -> None:
        self.computed.append((visit, number))
        self.wall += self.seconds[visit] + self.stolen
        self.processor += self.seconds[visit]


def served(
    machine: Machine,
    times: Sequence[float],
    visits: Sequence[int] | None = None,
    *,
    batch: int = 1,
    delay: float = 0.0,
    window: tuple[float, float] = (0.0, 10.0),
) -> Served:
    return serve_arrivals(
        times, visits or [0] * len(times), batch=batch, delay=delay, window=window,
        compute=machine.compute, clocks=machine.clocks,
    )  # fmt: skip


def test_what_arrives_is_computed_in_order():
    machine = Machine(1.0, 0.5)
    found = served(machine, [1.0, 1.1, 1.2, 5.0], [0, 1, 0, 1])
    assert machine.computed == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert found.done == pytest.approx([2.0, 2.5, 3.5, 5.5], abs=0.01)
    assert found.begun == pytest.approx([1.0, 2.0, 2.5, 5.0], abs=0.01)
    assert found.busy == pytest.approx(3.0, abs=0.01)
    assert found.batches == 4
    assert found.stolen == pytest.approx(0.0, abs=1e-9)
    assert found.taken == pytest.approx([0.0] * 4, abs=1e-9)


def test_what_waits_together_is_one_batch_of_one_visit():
    machine = Machine(1.0, 1.0)
    found = served(machine, [0.0, 0.1, 0.2, 0.3, 0.4], [0, 0, 1, 0, 0], batch=3)
    # The first goes alone, padded; then the oldest of those that wait, with others of its visit.
    assert machine.computed == [(0, 0), (0, 1), (1, 0)]
    assert found.done == pytest.approx([1.0, 2.0, 3.0, 2.0, 2.0], abs=0.01)


def test_a_batch_waits_as_long_as_allowed_and_no_longer_than_it_is_full():
    machine = Machine(1.0)
    found = served(machine, [0.0, 0.2, 2.0, 2.9], batch=2, delay=0.5)
    assert found.done == pytest.approx([1.2, 1.2, 3.5, 4.5], abs=0.01)  # full, overdue, overdue


def test_full_batches_go_before_those_that_may_still_wait():
    machine = Machine(1.0, 1.0)
    found = served(machine, [0.0, 0.1, 0.1], [0, 1, 1], batch=2, delay=5.0)
    assert machine.computed == [(1, 0), (0, 0)]
    assert found.done == pytest.approx([6.0, 1.1, 1.1], abs=0.01)


def test_what_is_not_reached_has_no_answer_and_only_the_window_counts():
    found = served(Machine(1.0), [0.0, 0.0, 0.0, 0.0], window=(0.5, 2.5))
    assert found.done[:3] == pytest.approx([1.0, 2.0, 3.0], abs=0.01)
    assert math.isnan(found.done[3])
    assert math.isnan(found.begun[3])
    assert found.busy == pytest.approx(2.0, abs=0.01)


def test_time_of_others_is_noticed():
    found = served(Machine(1.0, stolen=1.0), [0.0, 0.0], window=(0.0, 4.0))
    assert found.done == pytest.approx([2.0, 4.0], abs=0.01)
    assert found.stolen == pytest.approx(0.5, abs=0.01)
    # The second one waited for the first: what that lost made it late, too.
    assert found.taken == pytest.approx([1.0, 2.0], abs=0.01)


@pytest.mark.parametrize("batch", [1, 8])
def test_a_mix_keeps_its_rates_and_says_what_the_server_can_do(batch):
    machine = Machine(0.01, 0.03)
    rates = [20.0, 10.0, 0.0]
    found = serve_mix(
        rates, batch=batch, window=(1.0, 31.0), compute=machine.compute, clocks=machine.clocks
    )
    assert found.batches[0] == pytest.approx(2 * found.batches[1], abs=2)
    assert found.batches[2] == 0
    assert found.wall[:2] == pytest.approx([0.01, 0.03], rel=0.02)
    assert found.stolen == pytest.approx(0.0, abs=1e-9)
    # 20 x 10 ms and 10 x 30 ms are half a second per second, batches of 8 an eighth of it.
    assert share_served(rates, found.wall, batch) == pytest.approx(2.0 * batch, rel=0.02)


def test_a_mix_on_a_shared_processor_tells_both_times():
    machine = Machine(0.01, stolen=0.01)
    found = serve_mix(
        [1.0], batch=1, window=(0.0, 3.0), compute=machine.compute, clocks=machine.clocks
    )
    assert found.wall == pytest.approx([0.02], rel=0.02)
    assert found.processor == pytest.approx([0.01], rel=0.02)
    assert found.stolen == pytest.approx(0.5, abs=0.01)


def test_what_asks_for_nothing_is_no_limit():
    assert share_served([0.0], [1.0], 1) == math.inf
