"""Results: files that come back as they were written, clear refusals, tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from code_opt.errors import InputError
from code_opt.result import LinkResult, Result, ServerResult, TaskResult, load_result, save_result

numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def data(**changes: Any) -> dict[str, Any]:
    """Return the data of a result with one task, one server and one link."""
    return {
        "schema": "code-opt/result/1",
        "instance": "two-services",
        "method": "exact",
        "formulation": "path",
        "objective": "reward",
        "status": "optimal",
        "reward": 90.0,
        "bound": 90.0,
        "gap": 0.0,
        "throughput": 120.0,
        "accuracy": 0.75,
        "seconds": 0.1,
        "tasks": [
            {
                "task": "objects",
                "path": ["alexnet/0", "alexnet/1"],
                "rate": 120.0,
                "accuracy": 0.75,
                "accuracy_source": "measured",
                "latency": 0.004,
            }
        ],
        "servers": [{"server": "edge-a", "load": 1.9e9, "capacity": 2e9, "utilization": 0.95}],
        "links": [
            {"source": "a", "target": "b", "load": 5.0, "capacity": None, "utilization": None}
        ],
    } | changes


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.fixed_dictionaries(
        {
            "instance": texts,
            "reward": numbers,
            "bound": st.none() | numbers,
            "seconds": numbers,
            "message": st.none() | texts,
            "details": st.dictionaries(texts, st.integers(0, 10**6) | numbers | texts, max_size=3),
        }
    )
)
def test_a_result_comes_back_as_it_was_written(changes: dict[str, Any], tmp_path: Path) -> None:
    result = Result.model_validate(data(**changes))
    save_result(result, tmp_path / "x.json")
    assert load_result(tmp_path / "x.json") == result
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == result.to_dict()
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_optional_fields_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"instance": "x", "method": "code", "status": "unknown"}', encoding="utf-8")
    result = load_result(path)
    assert not result.has_solution
    assert result.value is None
    assert result.schema_ == "code-opt/result/1"


@pytest.mark.parametrize(
    ("objective", "value"), [("reward", 90.0), ("throughput", 120.0), ("accuracy", 0.75)]
)
def test_the_value_is_that_of_the_objective(objective: str, value: float) -> None:
    assert Result.model_validate(data(objective=objective)).value == value


def test_a_result_is_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Result.model_validate(data()).reward = 1.0  # type: ignore[misc]


def test_tables_have_a_row_per_task_server_and_link() -> None:
    tables = Result.model_validate(data()).tables()
    assert {name: list(table.columns) for name, table in tables.items()} == {
        "tasks": list(TaskResult.model_fields),
        "servers": list(ServerResult.model_fields),
        "links": list(LinkResult.model_fields),
    }
    assert tables["tasks"].loc[0, "path"] == ["alexnet/0", "alexnet/1"]
    assert tables["servers"]["load"].tolist() == [1.9e9]


def test_tables_of_a_result_without_an_assignment_keep_their_columns() -> None:
    result = Result(instance="x", method="exact", status="infeasible")
    assert {name: len(table) for name, table in result.tables().items()} == {
        "tasks": 0,
        "servers": 0,
        "links": 0,
    }
    assert list(result.tables()["tasks"].columns) == list(TaskResult.model_fields)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"schema": "code-opt/result/2"}, "schema"),
        ({"status": "fine"}, "status"),
        ({"objective": "cost"}, "objective"),
        ({"rewards": 1.0}, "rewards"),
        ({"reward": float("nan")}, "reward"),
        ({"reward": float("inf")}, "reward"),
        ({"reward": "much"}, "reward"),
        ({"instance": None}, "instance"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": [{"task": "x"}]}, "tasks.0.path"),
        ({"servers": [[]]}, "servers.0"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], place: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data(**changes)), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_result(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: not a result"
    assert lines[1].startswith(f"  {place}: ")


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data(status="fine", reward="much")), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_result(path)
    assert len(str(caught.value).splitlines()) == 3


def test_the_first_five_problems_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data(**{f"field-{k}": k for k in range(9)})), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_result(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    assert lines[-1] == "  ... and 4 more"


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "1e400", '"x"', "{}x"])
def test_what_is_no_result_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="not a result"):
        load_result(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_result(tmp_path / "x.json")
    with pytest.raises(InputError, match="is a directory"):
        load_result(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        save_result(Result.model_validate(data()), tmp_path / "none" / "x.json")
