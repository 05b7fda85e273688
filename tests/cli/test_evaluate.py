"""`code-opt evaluate` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from code_opt import load_instance, load_result, solve
from code_opt.cli.app import main
from code_opt.result import save_result

DIGITS = Path(__file__).resolve().parents[2] / "data" / "digits" / "instance.json"
QUICK = ["--no-edge", "--seconds", "0.1"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    instance = load_instance(DIGITS)
    for method in ("exact", "local"):
        save_result(solve(instance, method=method), folder / f"digits.{method}.json")
    return folder


def test_what_holds_exits_with_0_and_writes_tables(results, tmp_path, capsys):
    status = main(
        [
            "evaluate", str(DIGITS), *map(str, sorted(results.glob("*.json"))), *QUICK,
            "--out", str(tmp_path / "out"),
        ]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0
    assert "exact: confirmed (throughput not measured)" in printed
    assert "The measured order of the results is the predicted one." in printed
    about = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert about["confirmed"] is True
    assert about["options"]["batch"] == 32
    assert (tmp_path / "out" / "tasks.csv").read_text().count("\n") == 5


def test_what_does_not_hold_exits_with_1(results, tmp_path, capsys):
    result = load_result(results / "digits.exact.json")
    wrong = result.model_copy(update={"throughput": result.throughput * 1.2})
    save_result(wrong, tmp_path / "digits.exact.json")
    assert main(["evaluate", str(DIGITS), str(tmp_path / "digits.exact.json"), *QUICK]) == 1
    assert "not confirmed: does not pass the check" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--device", "tpu"], "tpu"),
        (["--batch", "0"], "greater than or equal to 1"),
        (["--dtype", "int8"], "int8"),
        (["--feed", "flood"], "flood"),
    ],
)
def test_wrong_arguments_exit_with_2(results, change, says, capsys):
    status = main(["evaluate", str(DIGITS), str(results / "digits.local.json"), *QUICK, *change])
    assert status == 2
    assert says in capsys.readouterr().err


def test_wrong_files_exit_with_2(results, tmp_path, capsys):
    path = tmp_path / "result.json"
    path.write_text("{")
    assert main(["evaluate", str(DIGITS), str(path), *QUICK]) == 2
    assert "result.json" in capsys.readouterr().err
    assert main(["evaluate", str(DIGITS), str(tmp_path / "none.json"), *QUICK]) == 2
    assert "none.json" in capsys.readouterr().err
    other = DIGITS.parents[1] / "two-services.json"
    save_result(solve(load_instance(other), method="local"), path)
    assert main(["evaluate", str(DIGITS), str(path), *QUICK]) == 2
    assert "a result of instance" in capsys.readouterr().err
    assert main(["evaluate", str(path), str(DIGITS), *QUICK]) == 2
    assert "the order is: code-opt evaluate INSTANCE RESULT..." in capsys.readouterr().err


def test_writing_back_makes_an_instance_with_its_bundle(results, tmp_path):
    status = main(
        ["evaluate", str(DIGITS), str(results / "digits.exact.json"), *QUICK,
         "--write-back", str(tmp_path / "new")]
    )  # fmt: skip
    assert status == 0
    new = load_instance(tmp_path / "new" / "instance.json")
    assert new.bundle == "bundle"
    assert (tmp_path / "new" / "bundle" / "manifest.json").exists()
    # Everything chosen had been measured before: nothing is added.
    assert new.tasks == load_instance(DIGITS).tasks
