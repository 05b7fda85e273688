"""A server as a function of time: exact times, by hand."""

from __future__ import annotations

import pytest

from code_opt.evaluation.server import Item, Lateness, ServerQueue

V, W = (0, 0), (1, 0)
ALWAYS = (0.0, 100.0)


def arrived(server: ServerQueue, *times: float, visit=V) -> list[float]:
    return [server.arrive(visit, time, time) for time in times]


def test_first_come_first_served():
    server = ServerQueue({V: [2.0], W: [0.5]}, {})
    assert arrived(server, 1.0) == [1.0]
    assert arrived(server, 2.0, visit=W) == [3.0]
    assert arrived(server, 2.5) == [3.5]
    assert arrived(server, 10.0) == [10.0]


def test_pieces_leave_one_after_the_other():
    server = ServerQueue({V: [2.0, 1.0, 0.0]}, {})
    assert server.leave(V, 1.0, 1.0) == [3.0, 4.0, 4.0]
    # What is computed late leaves late; its server would have gone on in time.
    assert server.leave(V, 1.0, 3.5) == [3.5, 4.0, 4.0]
    assert server.leave(V, 1.0, 9.0) == [9.0, 9.0, 9.0]


def test_links_carry_one_message_after_the_other():
    server = ServerQueue({}, {"b": (100.0, 0.25), "c": (None, 0.5)})
    assert server.deliver("b", 1.0, 50) == 1.75
    assert server.deliver("b", 1.0, 50) == 2.25
    assert server.deliver("b", 5.0, 100) == 6.25
    # Without a bandwidth there is no queue, without a link no way.
    assert [server.deliver("c", 1.0, 1e9), server.deliver("c", 1.0, 1e9)] == [1.5, 1.5]
    assert server.deliver("d", 1.0, 1e9) == 1.0


def test_slow_motion_slows_work_bytes_and_ways():
    server = ServerQueue({V: [2.0]}, {"b": (100.0, 0.25)}, factor=0.5)
    assert arrived(server, 0.0, 0.0) == [0.0, 4.0]
    assert server.leave(V, 0.0, 0.0) == [4.0]
    assert server.deliver("b", 4.0, 50) == 4.0 + 1.0 + 0.5


def test_what_counts_is_inside_of_the_window():
    server = ServerQueue({V: [2.0]}, {}, window=(1.0, 6.0))
    for at in (0.0, 0.5, 5.5):
        server.leave(V, server.arrive(V, at, at), at)
    # Busy from 0 to 4 and from 5.5 to 7.5; only the last one arrives inside, and finds nobody.
    report = server.report(8.0)
    assert report["utilization"] == pytest.approx(3.5 / 5.0)
    assert (report["waiting_mean"], report["waiting_max"]) == (1.0, 1)


def test_those_inside_are_counted_until_they_leave():
    server = ServerQueue({V: [2.0]}, {}, window=ALWAYS)
    for at in (0.0, 1.0, 1.0, 2.0, 50.0):
        server.leave(V, server.arrive(V, at, at), at)
    # Seen, oneself included: 1, 2, 3, 3 (the first has just left), 1.
    report = server.report(60.0)
    assert (report["waiting_mean"], report["waiting_max"]) == (2.0, 3)


def test_batches_are_of_one_kind_and_not_too_large():
    server = ServerQueue({V: [1.0], W: [1.0]}, {}, largest_batch=4)
    for number, visit in enumerate([V, W, V, V, V, W]):
        server.todo.append(Item(visit, number, 0.0))
    assert [[i.number for i in batch] for batch in server.take()] == [[0, 2, 3], [1]]
    assert [[i.number for i in batch] for batch in server.take()] == [[4], [5]]
    assert server.take() == []
    assert server.report(0.0)["batch_mean"] == 6 / 4


def test_late_arrivals_are_a_lag():
    server = ServerQueue({V: [1.0]}, {}, window=ALWAYS)
    for at in range(10):
        server.leave(V, server.arrive(V, at + 0.25, float(at)), at + 0.25)
    assert server.report(10.0)["lag"] == 0.25


def test_late_computing_is_a_lag():
    server = ServerQueue({V: [1.0]}, {}, window=ALWAYS)
    for at in range(10):
        begun = server.arrive(V, 2.0 * at, 2.0 * at)
        server.leave(V, begun, 2.0 * at + 1.5)  # due after 1 s
    assert server.report(20.0)["lag"] == 0.5


def test_what_is_not_even_computed_at_the_end_is_a_lag():
    server = ServerQueue({V: [1.0]}, {}, window=ALWAYS)
    begun = server.arrive(V, 5.0, 5.0)
    server.todo.append(Item(V, 0, begun))
    assert server.report(5.9)["lag"] == 0.0
    assert server.report(8.0)["lag"] == 2.0


def test_lateness_is_a_high_percentile_or_that_at_the_end():
    lateness = Lateness()
    assert lateness.value == 0.0
    for k in range(100):
        lateness.note(float(k), k + (3.0 if k < 4 else 0.0), ALWAYS)
    assert lateness.value == 0.0  # 4 of 100
    lateness.note(50.0, 53.0, ALWAYS)
    lateness.note(51.0, 54.0, ALWAYS)
    lateness.note(52.0, 52.0, ALWAYS)
    assert lateness.value == 3.0  # 6 of 103
    lateness.note(99.0, 104.0, ALWAYS)
    assert lateness.value == 5.0
    lateness.note(100.0, 200.0, ALWAYS)  # due after the window
    assert lateness.value == 5.0
