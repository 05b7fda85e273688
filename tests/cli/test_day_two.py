"""The commands of an edge that runs already, on files."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from code_opt import load_instance, save_instance
from code_opt.cli.app import main
from code_opt.cli.exits import ExitStatus
from tests.documents import blocks

DIGITS = "data/digits"


@pytest.fixture
def run(capfd, monkeypatch):
    """Return what runs the program: its exit status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        return main([str(a) for a in arguments]), *capfd.readouterr()

    return call


@pytest.fixture
def local(tmp_path, run):
    """Return the file of a result without coordination."""
    status, _, _ = run("solve", DIGITS, "-m", "local", "--out", tmp_path / "before")
    assert status == ExitStatus.DONE
    return tmp_path / "before" / "digits.local.json"


def test_few_changes_from_file_to_table(local, tmp_path, run):
    few = ("solve", DIGITS, "-m", "exact", "--previous", local, "--max-changes", "1")
    status, out, _ = run(*few, "--out", tmp_path)
    assert status == ExitStatus.DONE
    assert "at most 1 changes of paths" in out
    assert "Paths since the previous result: 1 changed (at most 1 allowed), 1 kept." in out
    assert "load" in out
    result = json.loads((tmp_path / "digits.exact.json").read_text())
    assert (result["changes"], result["max_changes"]) == (1, 1)
    status, out, _ = run("check", tmp_path / "digits.exact.json", DIGITS)
    assert status == ExitStatus.DONE
    assert "confirmed" in out
    status, out, _ = run("diff", local, tmp_path / "digits.exact.json", DIGITS)
    assert status == ExitStatus.DONE
    assert "1 of 2 tasks keep their paths" in out
    assert "the same" in out
    status, out, _ = run("diff", local, tmp_path / "digits.exact.json", DIGITS, "--json")
    assert len(json.loads(out)["adapters"]) == 1


def test_rerate_from_file_to_table(local, tmp_path, run):
    today = ("--set", "tasks[*].demand=50")
    status, out, _ = run("rerate", local, DIGITS, *today, "--out", tmp_path / "rerated.json")
    assert status == ExitStatus.DONE
    assert "at the best rates for its paths" in out
    status, _, _ = run("check", tmp_path / "rerated.json", DIGITS, *today)
    assert status == ExitStatus.DONE
    status, _, err = run("rerate", local, DIGITS, "--set", "tasks[digit].max_latency=1e-6")
    assert status == ExitStatus.NOTHING_FOUND
    assert "its paths cannot be kept: task 'digit': latency" in err


def test_a_schedule_from_file_to_table(local, tmp_path, run):
    table = tmp_path / "demands.csv"
    table.write_text("task,00:00,rush hour\n,9,15\ndigit,30,250\nparity,20,150\n")
    out_folder = tmp_path / "day"
    asked = ("schedule", DIGITS, "--periods", table, "--max-changes", "1", "--out", out_folder)
    status, out, _ = run(*asked, "--previous", local, "--instances")
    assert status == ExitStatus.DONE
    assert "digits: 2 periods, at most 1 changes of paths from each to the next" in out
    assert "inferences in 24.00 h" in out
    lines = (out_folder / "digits.exact.schedule.csv").read_text().splitlines()
    assert lines[0].startswith("period,hours,status,reward,value,bound,gap,throughput,demand,")
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["00:00", "9.0", "optimal"],
        ["rush hour", "15.0", "optimal"],
    ]
    for name in ("00-00", "rush-hour"):
        file = out_folder / f"digits.exact.{name}.json"
        assert lines[1 + (name != "00-00")].endswith(f",{file.name}")
        assert json.loads(file.read_text())["max_changes"] == 1
        instance = out_folder / f"digits.exact.{name}.instance.json"
        assert run("check", file, instance)[0] == ExitStatus.DONE
    assert run(*asked, "--previous", local)[0] == ExitStatus.DONE  # the same state: replaced
    table.write_text("task,00:00,rush hour\ndigit,30,200\nparity,20,150\n")
    status, _, err = run(*asked)
    assert status == ExitStatus.BAD_INPUT
    assert "digits.exact.rush-hour.json: is the result of another state" in err
    status, out, _ = run(*asked, "--overwrite", "--json")
    assert status == ExitStatus.DONE
    assert json.loads(out)[0]["changes"] is None


def test_a_schedule_tells_what_is_wrong(tmp_path, run):
    table = tmp_path / "demands.csv"
    asked = ("schedule", DIGITS, "--periods", table)
    table.write_text("task,a\ndigits,3\n")
    status, _, err = run(*asked)
    assert status == ExitStatus.BAD_INPUT
    assert f"{table}:2 task = 'digits': the instance has no such task; did you mean 'digit'?" in err
    table.write_text("task,a b,a-b\ndigit,300,1\nparity,300,1\n")
    status, _, err = run(*asked, "--out", tmp_path)
    assert status == ExitStatus.BAD_INPUT
    assert "periods would share the file digits.exact.a-b.json" in err
    status, out, err = run(*asked, "--min-throughput", "100")
    assert status == ExitStatus.INFEASIBLE
    assert "optimal" in out
    assert "1 of 2 periods have no assignment\n  a-b: infeasible: " in err
    assert run(*asked, "--instances")[2].endswith("--instances: needs --out\n")
    assert "'nobody' is not one of" in run(*asked, "-m", "nobody")[2]


@pytest.mark.parametrize("name", ["two-services.json", "two-services.yaml"])
def test_an_instance_comes_from_standard_input(name, run, monkeypatch):
    def given(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    data = Path("data", name).read_bytes()
    given(b"\xef\xbb\xbf" + data)
    status, out, _ = run("solve", "-", "-m", "local", "--json", "--set", "name=piped")
    assert status == ExitStatus.DONE
    assert json.loads(out)[0]["instance"] == "piped"
    given(data)
    assert run("validate", "-")[1].startswith("-: ok (two-services)")
    given(b" ")
    assert run("validate", "-")[2] == "code-opt: standard input: file: the file is empty\n"
    given(b"\xff")
    status, _, err = run("solve", "-")
    assert (status, err) == (
        ExitStatus.BAD_INPUT,
        "code-opt: standard input: not UTF-8 text (byte 0)\n",
    )
    given(data[:-30])
    assert "standard input: " in run("plan", "-")[2]


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock (util-linux)")
def test_the_step_of_the_recipe(tmp_path, run):
    """The script of docs/day-two.md: applied, infeasible so kept at new rates, locked."""
    (text,) = blocks("docs/day-two.md", "sh")
    programs = tmp_path / "bin"
    programs.mkdir()
    edge = tmp_path / "edge"
    edge.mkdir()
    scripts = {
        programs / "code-opt": f'#!/bin/sh\nexec "{sys.executable}" -m code_opt "$@"\n',
        programs / "code-opt-step": text,
        edge / "apply": '#!/bin/sh\necho "$@" >> applied.txt\n',
    }
    for file, content in scripts.items():
        file.write_text(content)
        file.chmod(0o755)
    source = edge / "edge.json"
    save_instance(load_instance("data/two-services.json").replace(name="edge"), source)
    assert run("solve", source, "-m", "local", "--out", edge)[0] == ExitStatus.DONE
    (edge / "edge.local.json").rename(edge / "current.json")
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.getcwd(),
    }

    def step(table):
        (edge / "observations.csv").write_text(table)
        command = [str(programs / "code-opt-step"), str(edge)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = step("task,demand\nfaces,40\nplates,60\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    current = json.loads((edge / "current.json").read_text())
    assert (current["method"], current["max_changes"], current["max_utilization"]) == (
        "exact",
        2,
        0.9,
    )
    assert run("check", edge / "current.json", edge / "today.json")[0] == ExitStatus.DONE
    metrics = (edge / "code-opt.prom").read_text()
    assert 'status="optimal"} 1' in metrics
    assert (edge / "applied.txt").read_text() == "next/edge.exact.json today.json\n"
    # A task without any good path: infeasible with 2 changes, and with any number.
    hard = load_instance(source).with_({"tasks[faces].min_accuracy": 0.999})
    save_instance(hard, source)
    done = step("task,demand\nfaces,40\n")
    assert done.returncode == 3
    assert done.stderr.count("infeasible") == 2
    assert "its paths cannot be kept" in done.stderr
    assert json.loads((edge / "current.json").read_text()) == current
    assert 'status="infeasible"} 1' in (edge / "code-opt.prom").read_text()
    assert step("task,demand\nfaces,-40\n").returncode == 2
    with (edge / "step.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert step("nonsense").returncode == 0
    assert (edge / "applied.txt").read_text() == "next/edge.exact.json today.json\n"


def test_what_does_not_fit_together_is_refused(local, run):
    status, _, err = run("solve", DIGITS, "--max-changes", "1")
    assert status == ExitStatus.BAD_INPUT
    assert "needs --previous" in err
    status, _, err = run("solve", DIGITS, DIGITS, "--previous", local)
    assert status == ExitStatus.BAD_INPUT
    assert "--previous: for one instance only" in err
    status, _, err = run("solve", DIGITS, "--previous", f"{DIGITS}/instance.json")
    assert status == ExitStatus.BAD_INPUT
    assert "an instance, not a result" in err


def test_the_front_of_changes_from_file_to_table(local, tmp_path, run):
    front = ("solve", DIGITS, "--previous", local, "--changes-front")
    status, out, _ = run(*front, "--out", tmp_path)
    assert status == ExitStatus.DONE
    assert out.count("optimal") == 3
    for count in range(3):
        file = tmp_path / f"digits.exact.changes-{count}.json"
        assert json.loads(file.read_text())["max_changes"] == count
        assert run("check", file, DIGITS)[0] == ExitStatus.DONE
    _, out, _ = run(*front, "--max-changes", "1", "--json")
    assert [result["changes"] for result in json.loads(out)] == [0, 1]
    status, _, err = run(*front, "-m", "lns")
    assert status == ExitStatus.BAD_INPUT
    assert "--changes-front: is proven" in err
    status, _, err = run("solve", DIGITS, "--changes-front")
    assert status == ExitStatus.BAD_INPUT
    assert "--changes-front: needs --previous" in err


def test_results_of_another_state_are_kept(tmp_path, run):
    file = tmp_path / "digits.local.json"
    solve = ("solve", DIGITS, "-m", "local", "--out", tmp_path)
    other = (*solve, "--set", "tasks[digit].demand=7")
    assert run(*solve)[0] == ExitStatus.DONE
    before = file.read_text()
    status, out, err = run(*other)
    assert (status, out) == (ExitStatus.BAD_INPUT, "")
    assert f"{file}: is the result of another state of the instance" in err
    assert "--overwrite" in err
    assert "--tag TEXT" in err
    assert file.read_text() == before
    assert run(*other, "--tag", "7-a_day.x")[0] == ExitStatus.DONE
    assert file.read_text() == before
    tagged = tmp_path / "digits.local.7-a_day.x.json"
    assert run("check", tagged, DIGITS, *other[-2:])[0] == ExitStatus.DONE
    assert run(*solve)[0] == ExitStatus.DONE  # of the same state: replaced
    assert run(*other, "--overwrite")[0] == ExitStatus.DONE
    assert (
        json.loads(file.read_text())["instance_digest"]
        == (json.loads(tagged.read_text())["instance_digest"])
    )
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "instance_digest": None}))
    assert run(*solve)[0] == ExitStatus.DONE  # of unknown state: replaced


def test_fronts_of_another_state_are_kept(local, tmp_path, run):
    front = ("solve", DIGITS, "--previous", local, "--changes-front", "--out", tmp_path)
    assert run(*front)[0] == ExitStatus.DONE
    status, _, err = run(*front, "--set", "tasks[digit].demand=7")
    assert status == ExitStatus.BAD_INPUT
    assert f"{tmp_path / 'digits.exact.changes-0.json'} (and " in err


@pytest.mark.parametrize("tag", ["../x", "a b", "ä", "x" * 41, "a/b"])
@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--executor", "serial")])
def test_a_tag_is_part_of_a_name(tag, more, tmp_path, run):
    status, _, err = run("solve", DIGITS, "-m", "local", "--out", tmp_path, "--tag", tag, *more)
    assert status == ExitStatus.BAD_INPUT
    assert f"--tag: {tag!r}: is part of a file's name" in err
    assert list(tmp_path.iterdir()) == []


def test_tag_and_overwrite_are_about_files(run):
    for option in (("--tag", "x"), ("--overwrite",)):
        status, _, err = run("solve", DIGITS, "-m", "local", *option)
        assert status == ExitStatus.BAD_INPUT
        assert f"{option[0]}: needs --out" in err
