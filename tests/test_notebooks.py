"""Every notebook of the gallery runs and shows what is stored in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_opt import registry
from tests.notebook import run, stored

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_computes(notebook: Path) -> None:
    with registry.registered_for_now():
        assert run(notebook) == stored(notebook)
