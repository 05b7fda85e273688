"""Drops that nobody knows: where the guesses come from, and how far they reach."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import code_opt
from code_opt.cli.app import main
from code_opt.desk import load_request, template, write_sheets
from code_opt.desk.guesses import guessed_drop
from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.planning import plan_growth, with_drop_range

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "code_opt" / "desk" / "typical_drops.json"
BLOCKS = {"a": [f"a/{i}" for i in range(4)], "b": [f"b/{i}" for i in range(4)], "c": ["c/0"]}


def test_the_table_is_what_its_script_makes() -> None:
    script = ROOT / "data" / "make_typical_drops.py"
    spec = importlib.util.spec_from_file_location("make_typical_drops", script)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    assert rows == maker.table()
    assert all(0.0 <= r["drop_low"] <= r["drop"] <= r["drop_high"] < 0.2 for r in rows)


@pytest.mark.parametrize(
    ("source", "target", "sort", "depth"),
    [
        ("a/0", "output", "exit", 0.375),
        ("a/1", "output", "exit", 0.625),
        ("a/0", "a/2", "skip", 0.375),
        ("input", "a/1", "skip", 0.375),
        ("input", "b/0", "entry", 0.375),
        ("a/1", "b/2", "cross", 0.625),
        ("b/1", "a/3", "return", 1.0),
        ("b/3", "output", "foreign exit", 1.0),
        ("b/0", "c/0", "cross", 0.375),
        ("a/3", "a/0", "skip", 0.625),  # the last row, where none is as deep
    ],
)
def test_a_guess_is_by_sort_and_depth(source: str, target: str, sort: str, depth: float) -> None:
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    (row,) = (r for r in rows if (r["sort"], r["depth"]) == (sort, depth))
    home = {block: network for network, ids in BLOCKS.items() for block in ids}
    found = guessed_drop("a", source, target, BLOCKS, home)
    assert found == {key: row[key] for key in ("drop", "drop_low", "drop_high")}


@pytest.fixture(scope="module")
def guessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with some of the drops left out."""
    sheets = {name: [list(row) for row in rows] for name, rows in template().items()}
    for row in sheets["Connections"][2:4]:
        row[3] = None
    path = tmp_path_factory.mktemp("guessed") / "plan.xlsx"
    write_sheets(sheets, path)
    return path


def test_what_rests_on_guesses_says_so(guessed: Path) -> None:
    instance = load_request(guessed).instance
    cars = instance.tasks[0]
    flags = {(c.source, c.target): c.is_guessed for c in cars.connections}
    assert flags["cars-net/0", "crowd-net/2"]
    assert flags["crowd-net/2", "output"]
    assert not flags["cars-net/0", "output"]
    result = code_opt.evaluate_paths(
        instance, {"cars": ["cars-net/0", "crowd-net/2"], "crowd": ["crowd-net/0"]}
    )
    assert [row.accuracy_source for row in result.tasks] == ["guessed", "predicted"]
    assert code_opt.check(result, instance) == []
    called = result.model_copy(
        update={"tasks": (result.tasks[0].model_copy(update={"accuracy_source": "predicted"}),
                          *result.tasks[1:])}
    )  # fmt: skip
    assert [v.rule for v in code_opt.check(called, instance)] == ["accuracy-source"]
    known = code_opt.solve(instance, "exact", measured_only=True)
    assert {row.accuracy_source for row in known.tasks} == {"given"}


def test_a_plan_gives_its_savings_as_a_range(
    guessed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = load_request(guessed)
    growth = request.growth

    def make(instance: Instance) -> code_opt.Plan:
        return plan_growth(instance, growth=growth, max_loss=2.0, coordinations=("full", "none"))

    plan = with_drop_range(request.instance, make)
    rows = plan.table("drops").records()
    assert [(r["coordination"], r["drops"]) for r in rows] == [
        (name, end) for name in ("full", "none") for end in ("low", "middle", "high")
    ]
    costs = [row["cost"] for row in rows[:3]]
    assert costs == sorted(costs)
    assert costs[0] < costs[2]
    assert len({row["cost"] for row in rows[3:]}) == 1
    for end in ("low", "high"):
        (row,) = (r for r in rows if (r["coordination"], r["drops"]) == ("full", end))
        alone = make(request.instance.with_drops(end)).table("summary").records()[0]
        assert row["saved_cost"] == alone["saved_cost"]
    assert main(["plan", str(guessed), "--max-loss", "2", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "3 of 7 connections have guessed drops" in shown.err
    assert "By guessed drops: low, middle and high ones" in shown.out
    assert (tmp_path / "two-sites.plan-growth.drops.csv").is_file()


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.02, 0.05, "drop_low = 0.02: must be at most the drop, 0.01"),
        (0.0, 0.005, "drop_high = 0.005: must be at least the drop, 0.01"),
        (0.0, None, "drop_high: is required where the other end of the range is"),
        (None, 0.1, "drop_low: is required where the other end of the range is"),
    ],
)
def test_a_range_holds_its_drop(low: float | None, high: float | None, message: str) -> None:
    data = {
        "schema": "code-opt/instance/1",
        "servers": [{"id": "s", "flops": 1e9}],
        "dnns": [{"id": "a", "server": "s", "blocks": [{"id": "a/0", "flops": 1e6}]}],
        "tasks": [
            {
                "id": "t",
                "dnn": "a",
                "accuracy": 0.9,
                "connections": [
                    {"source": "a/0", "target": "output", "drop": 0.01}
                    | {"drop_low": low, "drop_high": high}
                ],
            }
        ],
    }
    with pytest.raises(InputError) as caught:
        parse_instance(data)
    assert str(caught.value) == f"instance: tasks[0].connections[0].{message}"
