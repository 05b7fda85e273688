"""The benchmark's competitors answer the same question as we do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.__main__ import GAP, run_ours, run_peer
from benchmarks.peers import PEERS
from code_opt.generate import generate

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_reaches_the_same_reward_and_a_valid_bound(name):
    peer, package = PEERS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (extra bench)")
    instance = generate(3, seed=5, memory=True)
    ours = run_ours({"method": "exact"}, 60.0)(instance)
    result = run_peer(peer, 60.0)(instance)
    assert result.reward == pytest.approx(ours.reward, rel=2 * GAP)
    assert result.bound >= ours.reward * (1 - GAP)
    assert result.gap <= 2 * GAP


def test_the_command_writes_its_tables(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--sizes", "2", "--seeds", "1"]
    subprocess.run(
        [*command, "--time-limit", "20", "--out", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    runs = pd.read_csv(tmp_path / "results.csv")
    assert {"exact (path)", "exact (flow)", "CoDE", "greedy", "plain highspy"} <= set(runs.method)
    text = (tmp_path / "results.md").read_text()
    assert "## 2 services, 1 instances" in text
    assert "commit" in text
