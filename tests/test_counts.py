"""What solving costs, counted instead of timed: the same on an idle and on a busy machine.

The numbers in ``counts.json`` were recorded with the versions named there; with others the
test is skipped. Labels and paths are exact. What the solver counts may differ a little
between processors (the order of sums decides ties), so there a fifth more is allowed. Lower
numbers are worth recording: ``python -m tests.test_counts``.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from code_opt.generate import generate
from code_opt.solving import solve

RECORD = Path(__file__).parent / "counts.json"
PACKAGES = ("highspy", "numpy", "pyomo")
EXACT = ("labels", "paths_in_pool")
ROOM = 1.2
CASES = {
    "path, 10 services": (generate, {"services": 10, "seed": 1}, {"formulation": "path"}),
    "flow, 4 services": (generate, {"services": 4, "seed": 1}, {"formulation": "flow"}),
    "path, constrained": (
        generate,
        {"services": 8, "seed": 2, "links": True, "latency": True, "memory": True, "measured": 2},
        {"formulation": "path"},
    ),
    "colgen, 30 services": (generate, {"services": 30, "seed": 1}, {"formulation": "colgen"}),
    "colgen, constrained": (
        generate,
        {"services": 15, "seed": 3, "links": True, "latency": True, "memory": True, "measured": 2},
        {"formulation": "colgen"},
    ),
}
COUNTED = ("labels", "paths_in_pool", "columns", "cuts", "rounds", "nodes", "lp_iterations")


def versions() -> dict[str, str]:
    """Return the versions that decide the counts."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def counts(case: str) -> dict[str, int]:
    """Return what solving a case costs."""
    make, arguments, options = CASES[case]
    result = solve(make(**arguments), **options)
    assert result.status == "optimal"
    return {name: int(result.details.get(name) or 0) for name in COUNTED}


@pytest.mark.parametrize("case", CASES)
def test_solving_costs_no_more_than_it_did(case):
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    if record["versions"] != versions():
        pytest.skip(f"recorded with {record['versions']}")
    found, before = counts(case), record["counts"][case]
    assert {n: found[n] for n in EXACT} == {n: before[n] for n in EXACT}
    worse = {n: (found[n], before[n]) for n in COUNTED if found[n] > ROOM * before[n] + 5}
    assert worse == {}


if __name__ == "__main__":
    content = {"versions": versions(), "counts": {case: counts(case) for case in CASES}}
    RECORD.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
