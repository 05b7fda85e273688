"""What the tests of planning share."""

from __future__ import annotations

from typing import Any

import pytest

from code_opt.instance import Instance, parse_instance
from tests.instances import dnn
from tests.planning.reference import Run

PLENTY: dict[str, Any] = {
    "schema": "code-opt/instance/1",
    "name": "plenty",
    "servers": [{"id": "a", "flops": 100.0}, {"id": "b", "flops": 300.0}],
    "dnns": [
        dnn("A", "a", [6.0, 4.0]),
        dnn("B", "b", [10.0, 5.0]),
    ],
    "tasks": [
        {
            "id": "ta",
            "dnn": "A",
            "accuracy": 0.85,
            "demand": 10.0,
            "connections": [{"source": "A0", "target": "output", "drop": 0.1}],
        },
        {"id": "tb", "dnn": "B", "accuracy": 0.9, "demand": 10.0},
    ],
}


def pytest_configure(config: pytest.Config) -> None:
    """Collect no seeds that the run leaves out."""
    Run.is_long = "not long" not in config.option.markexpr


@pytest.fixture
def plenty() -> Instance:
    """Return two services whose native paths just fit: server a is full, b is half empty."""
    return parse_instance(PLENTY)
