"""What the tests of the command line share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import code_opt
from code_opt.cli import progress
from tests.cli.examples import make_instance

if TYPE_CHECKING:
    from collections.abc import Callable

    from code_opt.instance.model import Instance
    from code_opt.result import Result


@pytest.fixture(autouse=True)
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no lines of progress, however slow the machine is."""
    monkeypatch.setattr(progress, "FIRST_LINE", float("inf"))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Make ``solve`` answer with given results, by method; return the calls it gets."""

    def install(
        results: dict[str, Result | BaseException], instance: Instance | None = None
    ) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def solve(_: Instance, **options: Any) -> Result:
            calls.append(options)
            result = results[options["method"]]
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(code_opt, "solve", solve, raising=False)
        monkeypatch.setattr(
            code_opt, "load_instance", lambda _: instance or make_instance(), raising=False
        )
        return calls

    return install
