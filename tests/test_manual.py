"""The manual: it builds without a warning, holds every page and public name, needs no network."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import code_opt
from tests.documents import PAGES, ROOT, read

pytestmark = pytest.mark.slow
inventory = pytest.importorskip("sphinx.util.inventory", reason="sphinx is not installed")
pytest.importorskip("furo", reason="furo is not installed")
pytest.importorskip("myst_parser", reason="myst-parser is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the manual as ``make docs`` does."""
    out = tmp_path_factory.mktemp("manual")
    options = ["-q", "-W", "--keep-going", "-c", "docs/manual", "-d", str(out / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-b", "html", ".", str(out / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return out / "html"


def test_the_makefile_builds_it_the_same_way() -> None:
    assert "-m sphinx -q -W --keep-going -c docs/manual -b html . build/docs" in read("Makefile")


def test_every_page_is_in_it(manual: Path) -> None:
    left_out = {"docs/notebooks"}
    missing = [page for page in PAGES if not (manual / page).with_suffix(".html").exists()]
    assert [page for page in missing if not any(map(page.startswith, left_out))] == []
    notebook = (manual / "docs/notebooks/planning.html").read_text()
    assert "Planning the capacity of two services" in notebook
    assert "unit_flops" in notebook  # an output


def test_every_public_name_is_described(manual: Path) -> None:
    with (manual / "objects.inv").open("rb") as file:
        found = inventory.InventoryFile.load(file, "", lambda base, uri: uri)
    described = {name for kind in found.values() for name in kind}
    missing = []
    for name in code_opt.__all__:
        thing = getattr(code_opt, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            homes = {f"{thing.__module__}.{name}", f"{code_opt._HOME[name]}.{name}"}
            if not homes & described:
                missing.append(name)
    assert missing == []


def test_nothing_is_fetched(manual: Path) -> None:
    pattern = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+stylesheet[^>]+href=\"(?:https?:)?//"
    )
    pages = list(manual.rglob("*.html"))
    assert len(pages) > 40
    assert [p.name for p in pages if pattern.search(p.read_text())] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no browser is installed")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def test_the_search_works_without_a_network(manual: Path, browser: Any) -> None:
    page = browser.new_context(offline=True).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((manual / "search.html").as_uri() + "?q=import_paths")
    page.wait_for_selector("#search-results li")
    assert "Solve the model with another solver" in page.inner_text("#search-results")
    assert [url for url in asked if not url.startswith("file:")] == []


def test_literature_holds_every_source_that_is_cited() -> None:
    pattern = re.compile(r"10\.\d{4,}/[\w./()-]+\w|arxiv\.org/abs/[\d.]+\d")
    cited = set(pattern.findall(read("docs/glossary.md")))
    assert len(cited) > 15
    assert cited - set(pattern.findall(read("docs/literature.md"))) == set()


def test_the_versions_that_it_was_built_with_are_pinned() -> None:
    extras = re.search(r"^docs = \[(.*?)\]", read("pyproject.toml"), re.DOTALL | re.MULTILINE)
    assert extras is not None
    pinned = {line.partition("==")[0].lower() for line in read("constraints.txt").splitlines()}
    assert {name.lower() for name in re.findall(r'"([\w-]+)', extras[1])} <= pinned
