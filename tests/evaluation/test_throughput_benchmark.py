"""Predictors of throughput beside each other: what each promises, worked out by hand."""

from __future__ import annotations

import argparse

import pandas as pd
import pytest

pytest.importorskip("torch")

from benchmarks.throughput import PREDICTORS, Paces, by_processor, predictions, report, summed_up
from code_opt import solve
from code_opt.evaluation.flow import streams_of
from tests.evaluation.examples import edge
from tests.evaluation.test_unpaced import SteadyEdge, timed


def test_predictors_promise_what_their_numbers_say():
    """Two networks of the same work, of which one takes three times as long."""
    instance = edge({"s": 1e3, "t": 1e3}, {"a": ("s", [50.0, 50.0]), "b": ("t", [100.0])})
    times = {"a/0": {"8": 0.04}, "a/1": {"8": 0.04}, "b/0": {"8": 0.24}}
    instance = timed(instance, times, 8.0)
    paces = Paces.of(instance, 8)
    assert paces.by_network == pytest.approx({"a": 1e4, "b": 1e4 / 3})
    assert paces.all_ == pytest.approx(200 / 0.04)
    result = solve(instance, method="local")
    streams = streams_of(instance, result)
    found = predictions(instance, streams, 8)
    # 100/s and 33.3/s fill both servers; at one pace, b would be no slower than a.
    assert found["seconds"] == pytest.approx(result.throughput)
    assert found["FLOPs by network"] == pytest.approx(result.throughput)
    assert found["FLOPs"] == pytest.approx(result.throughput * 0.5)
    flow = SteadyEdge(instance, streams, stolen=0.02).run(0, streams, "saturated", seconds=60.0)
    assert by_processor(flow) == pytest.approx(result.throughput, rel=0.01)
    assert flow.measured < 0.95 * result.throughput


def test_the_page_says_how_far_promises_are_off():
    rows = [
        {"data": "x", "batch": batch, "method": "exact", "measured": 50.0, "by_processor": paces,
         "stolen": 0.5, "FLOPs": 1.5 * paces, "FLOPs by network": 0.9 * paces,
         "seconds": seconds * paces}
        for batch, seconds in ((1, 1.02), (8, 0.95)) for paces in (80.0, 100.0, 120.0)
    ]  # fmt: skip
    table = summed_up(pd.DataFrame(rows))
    assert list(table["seconds"]) == pytest.approx([2.0, -5.0])
    assert list(table["drift"]) == pytest.approx([0.2, 0.2])
    asked = argparse.Namespace(seconds=1.5, timing=1.0, rounds=3)
    page = report(table, 12.0, "cpu", asked)
    assert "| x | 1 | 50.0, 50.0 | 10.0, 10.0 | 2.0, 2.0 |" in page
    assert "| x | 8 | exact | 100 | +50.0 | -10.0 | -5.0 | 20.0 | 50.0 |" in page
    assert "FLOPs: 50.0, 50.0 · FLOPs by network: 10.0, 10.0 · seconds: 3.5, 5.0" in page
    assert set(PREDICTORS) < set(table.columns)
