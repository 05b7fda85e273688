"""One word, one meaning (docs/naming.md): no two classes have one name."""

from __future__ import annotations

import ast
from collections import Counter

from tests.documents import SOURCES, read

STILL_TWICE = {
    *("Column", "Connection", "Edge", "Images", "Job", "Prices", "Run", "Search", "Table"),
    *("Trunk", "Worth"),
}
"""Names that more than one class has. A class that is renamed leaves the list; none enters it."""


def test_no_two_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for source in SOURCES
        if source.startswith(("code_opt/", "formulations/"))
        for node in ast.parse(read(source)).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in classes.items() if count > 1} == STILL_TWICE
