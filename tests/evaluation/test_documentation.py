"""The examples in docs/evaluation.md run, and its table names every table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["network", "simulate", "evaluate"])
def test_examples_run(example, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    found: dict[str, object] = {}
    # The examples are this repository's own text.
    exec(compile(example, "docs/evaluation.md", "exec"), found)
    if "network" in found:
        assert found["digit"].shape == (8, 10)
        assert found["parity"].shape == (8, 2)
    elif "simulate" in found:
        assert found["flow"].steady
        assert capsys.readouterr().out.startswith("True [('faces")
    else:
        assert "verdict" in capsys.readouterr().out


def test_every_table_is_documented(subject, results):
    from code_opt.evaluation import Options, evaluate

    found = evaluate(subject, {"local": results["local"]}, Options(seconds=0.1, feeds=()))
    rows = re.findall(r"^\| `(\w+)` \|", TEXT.partition("## What the tables hold")[2], re.MULTILINE)
    assert set(rows) == set(found.tables())
