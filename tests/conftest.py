"""Settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same cases in every run: a red test is about the change at hand, not about luck.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

LONGEST = (
    "evaluation/test_edge.py",
    "profiling/test_pipeline.py",
    "networks/test_training.py",
    "profiling/test_families.py",
    "profiling/test_stored.py",
    "evaluation/test_deploying.py",
    "test_documentation.py",
    "test_agreement.py",
    "test_latency.py",
    "test_manual.py",
    "test_changes.py",
    "test_waiting_agreement.py",
    "report/test_browser.py",
    "cli/test_shell.py",
    "planning/test_least_cost.py",
    "heuristics/test_lns.py",
    "exact/test_colgen.py",
    "test_reference.py",
)
"""Files that take longest: workers that share the suite begin with them, so that none is left with
one at the end, while the others have nothing to do."""

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
"""CI installs everything that the tests can use, so a test that is skipped there is a failure."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; xdist hands files out in this order."""
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


COSTLY = 15.0
"""CPU seconds from which on a file is named at the end of a run: the suite has to stay cheap."""


class Spent:
    """CPU seconds of this process and of those that it has waited for, up to the last report."""

    seconds = 0.0


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def pytest_collection_finish() -> None:
    Spent.seconds = cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    before, Spent.seconds = Spent.seconds, cpu_seconds()
    report.cpu_seconds = Spent.seconds - before  # with whatever was done since the report before
    return _refuse_skip(report)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the files that take the most CPU time, those of all workers together."""
    spent: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "cpu_seconds"):
                file = report.nodeid.partition("::")[0]
                spent[file] = spent.get(file, 0.0) + report.cpu_seconds
    costly = sorted(((s, file) for file, s in spent.items() if s >= COSTLY), reverse=True)
    if costly:
        terminalreporter.write_sep("-", f"files of {COSTLY:g} CPU seconds and more")
        for seconds, file in costly:
            terminalreporter.write_line(f"{seconds:6.0f} s  {file}")
        terminalreporter.write_line(f"{sum(spent.values()):6.0f} s  all {len(spent)} files")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    return _refuse_skip(report)


def _refuse_skip(report: Any) -> Any:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything is installed: {reason}"
    return report
