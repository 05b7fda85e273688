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
    "test_agreement.py",
    "evaluation/test_edge.py",
    "profiling/test_pipeline.py",
    "profiling/test_families.py",
    "networks/test_blocks.py",
    "test_documentation.py",
)
"""Files that take longest: workers that share the suite begin with them, so that none is left with
one at the end, while the others have nothing to do."""

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
"""CI installs everything that the tests can use, so a test that is skipped there is a failure."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; xdist hands files out in this order."""
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    return _refuse_skip(report)


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
