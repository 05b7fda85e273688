"""The fitted growth of cost: laws are recovered, the page says what was fitted."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import growth
from benchmarks.growth import (
    CENTRE,
    COLUMNS,
    EXACT,
    QUANTITIES,
    Quantity,
    factors,
    fit,
    options,
    points,
    tables,
)
from benchmarks.worker import LABELLING

ROOT = Path(__file__).resolve().parents[1]
POWERS = {"services": 1.2, "blocks": 3.0, "hosts": 2.0, "load": -0.5}


def law(point: dict[str, float]) -> float:
    return 7.0 * float(np.prod([(point[n] / CENTRE[n]) ** p for n, p in POWERS.items()]))


@pytest.fixture
def runs() -> pd.DataFrame:
    """What would be measured if everything followed one law."""
    rows = []
    for (kind, point), seed in itertools.product(points("metro-ring", 10**6), (1, 2)):
        y = law(point)
        common = {"family": "metro-ring", "set": kind, **point, "seed": seed, "base": 100.0}
        rows.append({**common, "method": LABELLING, "paths": y, "cpu": y, "peak": 100.0})
        rows.append({**common, "method": "lns", "cpu": y * (1.1 if seed == 1 else 1 / 1.1)})
        exact = {"cpu to 0.01": y, "cpu to 0.0001": None if point["services"] > 100 else y}
        rows.append({**common, "method": EXACT, "peak": 100.0 + y, **exact})
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def test_a_law_is_recovered(runs):
    for quantity in QUANTITIES:
        found = fit(runs, quantity, list(CENTRE))
        assert found.at_centre == pytest.approx(7.0)
        assert found.exponents == pytest.approx(POWERS)
        spread = 1.1 if quantity.method == "lns" else 1.0
        assert found.error == pytest.approx(spread)
        assert found.worst == pytest.approx(spread)
        assert found.predict({**CENTRE, "blocks": 10}) == pytest.approx(56.0)
    stopped = fit(runs, QUANTITIES[3], list(CENTRE))
    assert QUANTITIES[3].column == "cpu to 0.0001"
    assert stopped.left_out == 2 * sum(p["services"] > 100 for _, p in points("metro-ring", 10**6))


def test_too_few_runs_are_not_fitted(runs):
    few = runs[runs.services == 50].head(6)
    assert fit(few, QUANTITIES[0], list(CENTRE)) is None
    none = runs.assign(**{"cpu to 0.0001": None})
    assert "| exact to 1e-4 [CPU s] | – |" in "\n".join(tables(none))


def test_the_table_holds_the_law(runs):
    text = "\n".join(tables(runs))
    assert "| nondominated paths | 7 | 1.20 | 3.00 | 2.00 | -0.50 | x1.00 | x1.0 | 0 |" in text
    assert text.startswith("**Family metro-ring** (centre: 50 services, 5 blocks, 2 hosts, load 3)")


def test_combinations():
    assert factors("plain") == ["services", "blocks", "hosts"]
    plain = points("plain", 100)
    assert max(point["services"] for _, point in plain) == 100
    assert {point["load"] for _, point in plain} == {3.0}
    assert {kind for kind, _ in plain} == {"fit", "test"}
    assert options("plain", plain[0][1]) == {"blocks": 5, "hosts": 2}
    ring = options("metro-ring", dict(CENTRE))
    assert ring == {"blocks": (5, 5), "hosts": 2, "load": 3.0}


def test_runs_are_real_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "VARIED", dict.fromkeys(CENTRE, ()))
    monkeypatch.setattr(growth, "HELD_OUT", ())
    monkeypatch.setattr(growth, "CENTRE", {"services": 3, "blocks": 3, "hosts": 1, "load": 3.0})
    monkeypatch.setattr(growth, "QUANTITIES", (Quantity("paths", LABELLING, "paths"),))
    found = growth.run(["metro-ring"], 1, 10.0, 100, tmp_path)
    assert list(found.status) == ["done"]
    stored = pd.read_csv(tmp_path / "growth.csv")
    assert len(stored) == 1
    monkeypatch.setattr(growth, "run_apart", lambda *_: {"status": "again"})
    again = growth.run(["metro-ring"], 2, 10.0, 100, tmp_path, stored)
    assert list(zip(again.seed, again.status, strict=True)) == [(1000, "done"), (1001, "again")]


def test_the_documented_table_is_the_measured_one():
    """docs/growth.md holds the tables of results/growth.md, which follow from growth.csv."""
    stored = pd.read_csv(ROOT / "benchmarks" / "results" / "growth.csv")
    computed = "\n".join(tables(stored)).strip()
    for page in ("benchmarks/results/growth.md", "docs/growth.md"):
        assert computed in (ROOT / page).read_text(encoding="utf-8"), page
    assert re.search(r"commit \w+", (ROOT / "benchmarks/results/growth.md").read_text("utf-8"))
