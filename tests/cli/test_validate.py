"""What ``validate`` says beside counts: the range of coefficients, and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from code_opt.cli.app import main
from code_opt.instance import parse_instance, save_instance
from code_opt.paths import Topology
from code_opt.paths.scaling import coefficient_ranges


def make(**changes: Any) -> dict[str, Any]:
    """Two servers with a network each; the task of the first can enter the second."""
    task = {
        "id": "faces",
        "dnn": "a",
        "accuracy": 0.9,
        "demand": 10.0,
        "connections": [
            {"source": "input", "target": "b/0", "drop": 0.1, "flops": 2.0},
            {"source": "b/0", "target": "output", "drop": 0.0},
        ],
    }
    return {
        "schema": "code-opt/instance/1",
        "servers": [{"id": "sa", "flops": 100.0, "memory": 80.0}, {"id": "sb", "flops": 50.0}],
        "links": [{"source": "sa", "target": "sb", "bandwidth": 1e3}],
        "dnns": [
            {"id": "a", "server": "sa", "blocks": [{"id": "a/0", "flops": 5.0}]},
            {"id": "b", "server": "sb", "blocks": [{"id": "b/0", "flops": 1.0}]},
        ],
        "tasks": [
            task | changes,
            {"id": "plates", "dnn": "b", "accuracy": 0.8, "demand": 5.0, "weight": 4.0},
        ],
    }


def shown(data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    save_instance(parse_instance(data), tmp_path / "x.json")
    assert main(["validate", str(tmp_path / "x.json")]) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def warnings(lines: list[str]) -> list[str]:
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


def test_coefficients_are_shares_of_single_steps_by_row() -> None:
    ranges = coefficient_ranges(Topology(parse_instance(make(input_bytes=100.0))))
    found = {r.row: (r.least, r.most, r.least_of, r.most_of) for r in ranges}
    entry = "input -> b/0 of task faces"
    assert found["server sa"] == (0.05, 0.05, *["input -> a/0 of task faces"] * 2)
    # The adapter of the entry runs there, too.
    assert found["server sb"] == (1 / 50, 3 / 50, "input -> b/0 of task plates", entry)
    assert found["link sa -> sb"] == (0.1, 0.1, entry, entry)
    assert found["average accuracy"] == (0.2, 0.8, "task faces", "task plates")


def test_the_range_is_shown_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(make(input_bytes=100.0), tmp_path, capsys)
    assert (
        "coefficients: 0.02 to 0.8 (capacities are 1); within one row at most 4 times as large "
        "(average accuracy)"
    ) in lines
    assert warnings(lines) == []


def test_rows_that_are_poorly_scaled_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make(input_bytes=100.0)
    data["tasks"][0]["connections"][1]["flops"] = 1e-9
    assert warnings(shown(data, tmp_path, capsys)) == [
        "server sb: poorly scaled: input -> b/0 of task faces counts 3e+09 times as much as b/0 -> "
        "output of task faces; what is so small is lost in tolerances: compare their units, or "
        "leave it out"
    ]


FREE = (
    "inputs of faces can enter another server, but their input_bytes is 0: they take nothing of "
    "any link"
)
UNLOADED = (
    "max_latency of faces limits the unloaded time, no wait included; latency_percentile or "
    "--latency-percentile makes it one under load"
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [FREE]),
        ({"connections": []}, []),
        ({"connections": [], "alternatives": [{"dnn": "b", "accuracy": 0.7}]}, [FREE]),
        ({"input_bytes": 9.0, "max_latency": 1.0}, [UNLOADED]),
        ({"input_bytes": 9.0, "max_latency": 1.0, "latency_percentile": 0.9}, []),
    ],
)
def test_what_was_perhaps_not_meant(
    changes: dict[str, Any],
    expected: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert warnings(shown(make(**changes), tmp_path, capsys)) == expected


@pytest.mark.parametrize("percentile", [None, 0.9])
def test_a_wait_for_batches_that_counts_nowhere(
    percentile: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make(input_bytes=9.0, latency_percentile=percentile)
    data["servers"][1]["max_batch_delay"] = 0.01
    expected = [
        "max_batch_delay of sb is part of no time: only times under load have it, and no task has "
        "a latency_percentile"
    ]
    assert warnings(shown(data, tmp_path, capsys)) == ([] if percentile else expected)
