"""Material for the report's tests."""

from __future__ import annotations

from code_opt.instance import Instance, parse_instance

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e{{ 7*7 }}{% raw %}&amp;\"' \x1b]]>--><!--"
"""Ends a script, an attribute, a comment; begins an element, a template; turns the writing."""
HOSTILE_ID = "\"' onload=alert(1) <img src=x onerror=alert(1) </script {{ 7*7 }} $x_1$"
"""Ids hold neither ``>`` nor control characters."""


def hostile_instance() -> Instance:
    """Return a small instance whose every text attacks the page."""

    def dnn(name: str, server: str) -> dict[str, object]:
        blocks = [{"id": f"{name}/{k}", "flops": 1e7, "output_bytes": 1e4} for k in range(3)]
        return {"id": name, "server": server, "blocks": blocks}

    a, b = HOSTILE_ID + "a", HOSTILE_ID + "b"
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": HOSTILE,
            "description": HOSTILE + "\n" + HOSTILE,
            "servers": [{"id": a, "flops": 2e9}, {"id": b, "flops": 1e9}],
            "links": [
                {"source": a, "target": b, "bandwidth": 1e8},
                {"source": b, "target": a, "bandwidth": None},
            ],
            "dnns": [dnn(a, a), dnn(b, b)],
            "tasks": [
                {
                    "id": a,
                    "dnn": a,
                    "accuracy": 0.8,
                    "connections": [
                        {"source": f"{a}/0", "target": f"{b}/2", "drop": 0.01},
                        {"source": f"{b}/2", "target": "output", "drop": 0.0, "flops": 1e3},
                    ],
                },
                {"id": b, "dnn": b, "accuracy": 0.7, "floor": "standalone"},
            ],
        }
    )


def luminance(color: str) -> float:
    """Return the relative luminance of a colour (WCAG 2)."""
    values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Return the contrast of two colours (WCAG 2), from 1 to 21."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
