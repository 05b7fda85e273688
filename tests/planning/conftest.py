"""What the tests of planning share."""

from __future__ import annotations

from typing import Any

import pytest

from code_opt.instance import Instance, parse_instance

PLENTY: dict[str, Any] = {
    "schema": "code-opt/instance/1",
    "name": "plenty",
    "servers": [{"id": "a", "flops": 100.0}, {"id": "b", "flops": 300.0}],
    "dnns": [
        {
            "id": "A",
            "server": "a",
            "blocks": [{"id": "A0", "flops": 6.0}, {"id": "A1", "flops": 4.0}],
        },
        {
            "id": "B",
            "server": "b",
            "blocks": [{"id": "B0", "flops": 10.0}, {"id": "B1", "flops": 5.0}],
        },
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


@pytest.fixture
def plenty() -> Instance:
    """Return two services whose native paths just fit: server a is full, b is half empty."""
    return parse_instance(PLENTY)
