"""Run a notebook's cells here; ``python -m tests.notebook FILE`` stores its outputs.

A kernel is not needed for cells of plain Python: each cell is compiled as one, and the value of
a last expression is its output, as in a notebook.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def run(path: Path) -> list[str]:
    """Run all code cells in the notebook's folder and return what each shows."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "notebook"}
    shown = []
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                shown.append(_run_cell("".join(cell["source"]), f"cell {number}", names))
    finally:
        os.chdir(before)
    return shown


def stored(path: Path) -> list[str]:
    """Return the outputs that are stored in a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(
            "".join(output.get("text") or output["data"]["text/plain"])
            for output in cell["outputs"]
        )
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def _run_cell(source: str, name: str, names: dict[str, Any]) -> str:
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            body = ast.Module(tree.body[:-1], [])
            exec(compile(body, name, "exec"), names)
            value = eval(compile(ast.Expression(last.value), name, "eval"), names)
            if value is not None:
                print(repr(value), end="")
        else:
            exec(compile(tree, name, "exec"), names)
    return printed.getvalue()


def main(path: Path) -> None:
    """Run a notebook and store its outputs in it."""
    book = json.loads(path.read_text(encoding="utf-8"))
    shown = iter(run(path))
    count = 0
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            text = next(shown)
            lines = text.splitlines(keepends=True)
            cell["execution_count"] = count
            cell["outputs"] = (
                [{"output_type": "stream", "name": "stdout", "text": lines}] if text else []
            )
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
