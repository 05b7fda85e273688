"""The commands of an edge that runs already, on files."""

from __future__ import annotations

import json

import pytest

from code_opt.cli.app import main
from code_opt.cli.exits import ExitStatus

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
