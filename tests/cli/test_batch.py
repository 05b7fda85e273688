"""``solve`` for many instances: arguments, table, messages, exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from code_opt.batch import Job, Outcome, Source
from code_opt.cli.app import main
from code_opt.cli.batch import status_of_batch
from code_opt.cli.reasons import first_lines
from code_opt.generate import generate
from code_opt.instance import save_instance
from tests.cli.examples import make_result

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "edges"
    place.mkdir()
    save_instance(generate(2, seed=1), place / "one.json")
    save_instance(generate(3, seed=1), place / "two.json")
    return place


def test_a_folder_gives_one_table(folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["solve", str(folder), "-m", "local", "-m", "greedy", "--executor", "serial"]
    assert main([*arguments, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines()[0].startswith("1/4 one local: feasible, ")
    rows = [line.split()[:3] for line in told.out.splitlines() if line.startswith(("one", "two"))]
    assert rows == [
        [name, method, "feasible"] for name in ("one", "two") for method in ("local", "greedy")
    ]
    assert str(out / "batch.csv") in told.out
    assert len(pd.read_csv(out / "batch.csv")) == 4
    assert main([*arguments, "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("found finished") == 4


def test_a_list_and_json(folder, capsys):
    paths = [str(folder / "two.json"), str(folder / "one.json")]
    assert main(["solve", *paths, "-m", "local", "--executor", "serial", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["instance"] for row in data] == ["two", "one"]
    assert all(row["result"]["status"] == "feasible" for row in data)


def test_one_file_with_an_executor_is_a_batch_of_one(folder, capsys):
    arguments = ["solve", str(folder / "one.json"), "-m", "local", "--executor", "serial"]
    assert main(arguments) == 0
    assert capsys.readouterr().err.startswith("1/1 one local: ")


def test_a_bad_instance_is_told_and_the_others_are_solved(folder, capsys):
    (folder / "bad.json").write_text("{")
    assert main(["solve", str(folder), "-m", "local", "--executor", "serial"]) == 2
    told = capsys.readouterr()
    assert "1/3 bad local: bad input: " in told.err
    assert "not JSON" in told.err
    assert told.out.count("feasible") == 2


def test_a_bad_instance_is_told_once_in_a_few_lines(folder, capsys):
    (folder / "bad.json").write_text(json.dumps({f"field-{k}": k for k in range(9)}))
    arguments = ["solve", str(folder), "-m", "local", "-m", "greedy", "--executor", "serial"]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("bad.json: 13 problems")
    assert lines[6] == "  ... and 8 more"
    assert lines[7] == "2/6 bad greedy: bad input, as told above"
    assert len(lines) == 12


@pytest.mark.parametrize("executor", [[], ["--executor", "serial"]])
def test_instances_beside_instance_json_are_named_as_left_out(folder, capsys, executor):
    (folder / "about.json").write_text('{"name": "x"}')
    (folder / "one.json").rename(folder / "instance.json")
    assert main(["solve", str(folder), "-m", "local", *executor]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f"{folder}: solving instance.json alone; left out: two.json"


def test_long_messages_are_cut_and_what_they_leave_out_is_added():
    assert first_lines("a\n  b\n  c") == "a\n  b\n  c"
    problems = "\n".join(f"  {k}" for k in range(50))
    cut = "x: 57 problems\n  0\n  1\n  2\n  3\n  4\n  ... and 52 more"
    assert first_lines(f"x: 57 problems\n{problems}\n  ... and 7 more") == cut


@pytest.mark.parametrize("with_out", [False, True])
def test_why_instances_are_infeasible_is_told_once_after_the_table(
    folder, tmp_path, capsys, with_out
):
    shutil.copy(DATA / "infeasible.json", folder / "floors.json")
    out = tmp_path / "out"
    arguments = ["solve", str(folder), "-m", "exact", "-m", "local", "--executor", "serial"]
    assert main([*arguments, *(["--out", str(out)] if with_out else [])]) == 3
    lines = capsys.readouterr().err.splitlines()
    start = lines.index("floors: infeasible: no assignment meets all requirements")
    assert start > 6
    assert lines[start + 1] == "  least changes, each enough on its own:"
    assert sum("least changes" in line for line in lines) == 1
    where = f"column message of {out / 'batch.csv'}" if with_out else "--json, or --out DIR"
    assert lines[-1] == f"In full: {where}"
    if with_out:
        table = pd.read_csv(out / "batch.csv")
        told = table.message[(table.instance == "floors") & (table.method == "exact")].item()
        assert "least changes" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--solver-log", "--solver-log: for one instance only"),
        ("--executor cloud", "--executor 'cloud'"),
        ("--executor processes:0", "processes:N needs a number from 1 on"),
        ("--time-limit 0", "--time-limit"),
    ],
)
def test_wrong_options_are_told_once(folder, capsys, arguments, message):
    assert main(["solve", str(folder), *arguments.split()]) == 2
    told = capsys.readouterr()
    assert told.err.count(message) == 1
    assert told.out == ""


def test_an_empty_folder_and_an_out_that_is_a_file(folder, tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    assert main(["solve", str(tmp_path / "nothing")]) == 2
    assert "neither an instance" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["solve", str(folder), "--out", str(tmp_path / "file")]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err


def outcome(label: str, method: str, what: str) -> Outcome:
    job = Job(Source(label, None, label), method)
    if what in ("failed", "bad input"):
        return Outcome(job, None, what, "why")
    return Outcome(job, make_result(method, what))


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ([("x", "optimal")], 0),
        ([("x", "unknown"), ("x", "feasible")], 0),
        ([("x", "feasible"), ("y", "infeasible")], 3),
        ([("x", "unknown"), ("y", "infeasible")], 4),
        ([("x", "infeasible"), ("x", "unknown")], 3),
        ([("x", "unknown"), ("y", "bad input")], 2),
        ([("x", "bad input"), ("y", "failed")], 70),
        ([("x", "failed"), ("x", "feasible")], 70),
    ],
)
def test_the_exit_status_is_the_worst(what, status):
    outcomes = [outcome(label, f"m{k}", one) for k, (label, one) in enumerate(what)]
    assert status_of_batch(outcomes) == status


def test_results_of_another_state_are_kept(folder, tmp_path, capsys):
    out = tmp_path / "out"
    solve = ["solve", str(folder), "-m", "local", "--executor", "serial", "--out", str(out)]
    assert main(solve) == 0
    files = {path: path.read_text() for path in out.iterdir()}
    save_instance(generate(3, seed=2), folder / "two.json")
    capsys.readouterr()
    assert main(solve) == 2
    assert f"{out / 'two.local.json'}: is the result of another state" in capsys.readouterr().err
    assert {path: path.read_text() for path in out.iterdir()} == files
    assert main([*solve, "--tag", "new"]) == 0
    journal = out / "batch.jsonl"
    assert all(path.read_text() == text for path, text in files.items() if path != journal)
    assert (out / "two.local.new.json").is_file()
    assert len(pd.read_csv(out / "batch.new.csv")) == 2
    assert main([*solve, "--tag", "new"]) == 0
    assert capsys.readouterr().err.count("found finished") == 2
    assert main([*solve, "--overwrite"]) == 0
    assert (out / "two.local.json").read_text() != files[out / "two.local.json"]
