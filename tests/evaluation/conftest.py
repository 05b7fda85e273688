"""The first example, ready to be run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from code_opt import load_instance, solve
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.instance import Instance
from code_opt.networks.threads import use_threads
from code_opt.result import Result

DIGITS = Path(__file__).resolve().parents[2] / "data" / "digits" / "instance.json"


@pytest.fixture(autouse=True)
def _one_thread():
    use_threads(1)


@pytest.fixture(scope="session")
def digits() -> Instance:
    return load_instance(DIGITS)


@pytest.fixture(scope="session")
def subject(digits: Instance) -> Subject:
    return Subject(digits, bundle_of(digits, DIGITS), DIGITS.parent / "none")


@pytest.fixture(scope="session")
def results(digits: Instance) -> dict[str, Result]:
    return {m: solve(digits, method=m) for m in ("exact", "lns", "edge-early", "local")}
