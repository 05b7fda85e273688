from __future__ import annotations

import io

import pytest

from code_opt.cli import progress as module
from code_opt.cli.progress import ProgressReport, describe
from code_opt.cli.terminal import Console
from code_opt.core.settings import Progress

STATE = Progress("tree search", 12.34, 119.5, 120.5, 1 / 119.5)


@pytest.fixture
def no_progress() -> None:
    """Here progress is what is tested."""


def test_one_line_says_how_far_it_is() -> None:
    line = "exact 12.3 s, incumbent 119.500, bound 120.500, gap 0.837 %, tree search"
    assert describe("exact", STATE) == line
    assert describe("lns", Progress("", 0.5, None, None, None)) == "lns 0.50 s"


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=80)
    with ProgressReport(console, "exact", living=True) as report:
        for now[0] in (101.0, 104.9, 105.1, 106.0, 115.0, 115.2):
            report(STATE)
    assert console.file.getvalue().splitlines() == [describe("exact", STATE)] * 2


def test_a_terminal_gets_one_living_line() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with ProgressReport(console, "exact", living=True) as report:
        report(STATE)
    text = console.file.getvalue()
    assert describe("exact", STATE) in text
    assert text.endswith("\x1b[2K")


def test_no_living_line_beside_a_solver_log() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with ProgressReport(console, "exact", living=False) as report:
        report(STATE)
    assert console.file.getvalue() == ""
