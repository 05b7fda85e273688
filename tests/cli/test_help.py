"""Help, completion and plain output: what a user meets before anything is solved."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from code_opt.cli.app import main
from tests.cli import reference

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from code_opt.cli.app import run; run()"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean | {"COLUMNS": "200"} | environment,
        check=False,
    )


def on_terminal(*arguments: object, **environment: str) -> str:
    """Return what a terminal gets to see."""
    leader, follower = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env=clean | {"COLUMNS": "120", "TERM": "xterm-256color"} | environment,
    ):
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # how Linux tells that the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(leader)
    return b"".join(parts).decode()


@pytest.mark.parametrize("name", ["", *reference.commands()])
def test_every_help_ends_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*filter(None, [name]), "--help"]) == 0
    examples = capsys.readouterr().out.partition("Examples:")[2]
    assert re.search(rf"code-opt {name or 'solve'} \S", examples)


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("code-opt i", 1, ["import-solution", "import-measurements"]),
        ("code-opt solve --thr", 2, ["--threads"]),
        ("code-opt solve -m gr", 3, ["greedy"]),
    ],
)
def test_the_shell_completes_words(words: str, position: int, expected: list[str]) -> None:
    done = run(_CODE_OPT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(position))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == expected


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    script = f"'{sys.executable}' -c \"{MAIN}\" --install-completion; exit $?"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HOME": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "bash completion installed" in done.stdout
    written = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert "_CODE_OPT_COMPLETE=complete_bash" in written


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "data" / "two-services.json", tmp_path / "edge.json")
    return tmp_path / "edge.json"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colour_a_terminal_gets_text_alone(
    instance: Path, environment: dict[str, str]
) -> None:
    """No bold or dim text either, and no line that is rewritten."""
    for arguments in (["solve", instance, "-m", "local"], ["solve", "--help"], ["solve", "-x"]):
        assert "\x1b" not in on_terminal(*arguments, **environment)


def test_else_a_terminal_gets_style(instance: Path) -> None:
    for arguments in (["solve", instance, "-m", "local"], ["solve", "--help"]):
        assert "\x1b[" in on_terminal(*arguments)


def test_set_changes_what_is_solved_and_checked(
    instance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ["--set", "tasks[*].demand=0.5", "--set", "tasks[*].floor=0"]
    solved = ["solve", str(instance), "-m", "local", "--out", str(tmp_path / "out"), *change]
    assert (main(solved), capsys.readouterr().err) == (0, "")
    (result,) = (tmp_path / "out").glob("*.json")
    assert '"throughput": 1.0' in result.read_text()
    assert main(["check", str(result), str(instance), *change]) == 0
    assert main(["check", str(result), str(instance)]) == 1


def test_set_says_all_that_is_wrong_at_once(
    instance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--set", "tasks[facs].demand=5", "--set", "reward.accuracy.exponent=x"]
    assert main(["solve", str(instance), *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"code-opt: {instance} with --set: 2 problems",
        "  tasks[facs].demand: there is no 'facs'; did you mean 'faces'?",
        "  reward.accuracy.exponent = 'x': must be a number",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "name"], "--set: 'name': expected PLACE=VALUE"),
        (["--set", "=1"], "--set: '=1': expected PLACE=VALUE"),
        (["--set", "name=a", "--set", "name=b"], "--set: 'name' is given twice"),
        (["--set", "name=a", "--executor", "serial"], "--set: for one instance only"),
    ],
)
def test_a_set_that_cannot_be_meant_is_refused(
    instance: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", str(instance), *arguments]) == 2
    assert capsys.readouterr().err == f"code-opt: {message}\n"
