"""The examples of docs/planning.md and the notebook run, and the notebook shows what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from code_opt.cli.app import main
from tests.planning.notebook import run, stored

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "docs" / "notebooks" / "planning.ipynb"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("source", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_run(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(source.strip().splitlines()) <= 7
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "docs/planning.md", "exec"), {})
    assert printed.getvalue().strip()


def test_there_is_an_example_of_every_analysis() -> None:
    text = "".join(EXAMPLES)
    for name in ("least_cost", "growth", "scenarios", "failures", "front", "marginal", "sweep"):
        assert f"plan_{name}(" in text


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^    code-opt (plan .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert main(command.replace("out/plan", str(tmp_path)).split()) == 0
    assert list(tmp_path.glob("*.json"))


def test_the_notebook_shows_what_it_computes() -> None:
    assert run(NOTEBOOK) == stored(NOTEBOOK)
