"""The table of what coordination saves is in step with its command and with the page of results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import savings

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "savings.csv")


def test_the_measured_pair_saves_what_is_stored(stored: pd.DataFrame) -> None:
    found = savings.least_costs(savings.EDGES[0], 60.0)
    same = [
        "edge",
        "growth",
        "max_loss_points",
        "coordination",
        "method",
        "status",
        "cost",
        "units",
    ]
    mine = stored[stored["edge"] == "pair"][same].reset_index(drop=True)
    assert mine.equals(found[same].astype(mine.dtypes).reset_index(drop=True))


@pytest.mark.parametrize("page", ["docs/results.md", "benchmarks/results/savings.md"])
def test_the_pages_show_what_is_stored(stored: pd.DataFrame, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for edge in savings.EDGES:
        assert savings.markdown(stored, edge.name) in text


def test_every_gap_is_stated(stored: pd.DataFrame) -> None:
    exact = stored[(stored["method"] == "exact") & stored["cost"].notna()]
    assert (exact["gap"] >= 0).all()
    assert (exact["status"].isin(["optimal", "feasible"])).all()
    assert (exact["gap"][exact["status"] == "optimal"] <= savings.GAP).all()
    larger = pd.read_csv(RESULTS / "savings-larger.csv")
    assert set(larger["analysis"]) == {"growth path, 4 periods", "3 scenarios", "single failures"}
    assert (larger["gap"] >= 0).all()
