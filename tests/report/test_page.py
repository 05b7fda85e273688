"""The page as text: whole, self-contained, safe, the same every time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

html5lib = pytest.importorskip("html5lib")

from code_opt import load_instance, load_result, save_result
from code_opt.report.assemble import assemble
from code_opt.report.blocks import figures
from code_opt.report.material import read_material
from code_opt.report.page import _template_text, render
from tests.report.examples import HOSTILE_ID

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "script", "body", "header", "main", "nav"),
    *("section", "footer", "h1", "h2", "p", "a", "br", "ul", "li", "dl", "dt", "dd", "div"),
    *("span", "details", "summary", "label", "input", "figure", "figcaption"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("svg", "desc", "g", "path", "rect", "circle", "text"),
}
"""Every element that a page may hold."""


def page_of(folder: Path) -> str:
    return render(assemble(read_material([folder], folder / "instance.json")))


def parsed(text: str) -> ElementTree.Element:
    """Return the tree that a browser makes of a page; any error of syntax fails."""
    parser = html5lib.HTMLParser(namespaceHTMLElements=False, strict=True)
    return parser.parse(text)


def elements(tree: ElementTree.Element) -> list[tuple[str, ElementTree.Element]]:
    return [(e.tag.rsplit("}", 1)[-1], e) for e in tree.iter() if isinstance(e.tag, str)]


@pytest.fixture(scope="module")
def metro_page(metro: Path) -> str:
    return page_of(metro)


def test_the_page_has_its_sections_headings_and_landmarks(metro_page: str) -> None:
    tree = parsed(metro_page)
    tags = elements(tree)
    assert [t for t, _ in tags if t in {"h1", "h2"}] == ["h1"] + ["h2"] * 5
    assert {t for t, _ in tags} <= ELEMENTS
    for landmark in ("header", "main", "nav", "footer"):
        assert sum(t == landmark for t, _ in tags) == 1
    html = tree if tree.tag == "html" else tree.find("html")
    assert html is not None
    assert html.get("lang") == "en"
    ids = [e.get("id") for _, e in tags if e.get("id")]
    assert len(ids) == len(set(ids))
    for _, element in tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((element.get(name) or "").split()) <= set(ids)
        href = element.get("href")
        assert href is None or href[1:] in ids


def test_every_table_and_figure_can_be_read_without_seeing_it(metro_page: str) -> None:
    tree = parsed(metro_page)
    tables = [e for t, e in elements(tree) if t == "table"]
    assert len(tables) >= 5
    for table in tables:
        assert "".join(table.find("caption").itertext()).strip()
        assert all(th.get("scope") in {"col", "row", "rowgroup"} for th in table.iter("th"))
    drawings = [e for t, e in elements(tree) if t == "svg" and e.get("role") == "img"]
    assert len(drawings) >= 5
    for drawing in drawings:
        children = {child.tag.rsplit("}", 1)[-1]: child for child in drawing}
        assert (children["title"].text or "").strip()
        assert (children["desc"].text or "").strip()
    hidden = [e for t, e in elements(tree) if t == "svg" and e.get("role") != "img"]
    assert all(e.get("aria-hidden") == "true" for e in hidden)


def test_the_page_holds_the_figures_of_the_results(metro: Path, metro_page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", metro_page)
    result = load_result(metro / "exact.json")
    for row in result.tasks:
        assert f" {row.rate:#.6g} " in text
        assert f" {row.accuracy:.4f} " in text
    assert "proven optimal" in text
    assert "+45.6" in text
    assert "mobilenet/0" in text


def test_the_page_needs_nothing_else(metro_page: str) -> None:
    without_hashes = re.sub(r"sha256-[^']*'", "", metro_page.replace("&#39;", "'"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_hashes)
    for _, element in elements(parsed(metro_page)):
        assert not {"src", "srcset", "data", "action", "style", "background"} & set(element.attrib)
        assert not [name for name in element.attrib if str(name).startswith("on")]


def test_the_policy_names_the_style_and_the_script(metro_page: str) -> None:
    policies = re.findall(r'Content-Security-Policy" content="([^"]+)"', metro_page)
    assert len(policies) == 1
    policy = policies[0].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-[\w+/=]+'", policy)) == 2


@pytest.mark.parametrize("name", ["style.css", "script.js"])
def test_style_and_script_cannot_end_early(name: str) -> None:
    assert "</" not in _template_text(name)
    assert "<!--" not in _template_text(name)


def test_hostile_names_are_text(hostile: Path) -> None:
    text = page_of(hostile)
    tree = parsed(text)
    tags = [t for t, _ in elements(tree)]
    assert set(tags) <= ELEMENTS
    assert tags.count("script") == 1
    for _, element in elements(tree):
        assert not [name for name in element.attrib if str(name).startswith("on")]
    assert HOSTILE_ID + "a" in "".join(tree.itertext())
    assert "{{ 7*7 }}" in text
    assert "49" not in (tree.findtext(".//h1") or "")
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f\u202a-\u202e]", text)


def test_the_same_files_give_the_same_bytes(metro: Path, metro_page: str) -> None:
    assert page_of(metro) == metro_page


def test_a_result_that_does_not_pass_the_check_is_marked(metro: Path, tmp_path: Path) -> None:
    result = load_result(metro / "lns.json")
    tasks = list(result.tasks)
    tasks[0] = tasks[0].model_copy(update={"rate": tasks[0].rate * 2})
    save_result(result.model_copy(update={"tasks": tuple(tasks)}), tmp_path / "lns.json")
    material = read_material([tmp_path / "lns.json", metro / "exact.json", metro / "instance.json"])
    assert not material.confirmed
    text = render(assemble(material))
    assert 'role="alert"' in text
    assert "does not pass the independent check" in text
    assert "wrong</td>" in text
    assert "Every assignment shown passed" not in text
    parsed(text)


def test_a_path_of_unknown_blocks_does_not_stop_the_page(metro: Path, tmp_path: Path) -> None:
    data = json.loads((metro / "lns.json").read_text())
    data["tasks"][0]["path"] = ["nowhere/0", "<b>"]
    data["servers"] = data["servers"][1:]
    (tmp_path / "lns.json").write_text(json.dumps(data))
    text = render(assemble(read_material([tmp_path], metro / "instance.json")))
    parsed(text)
    assert "no such block" in text


def test_results_without_an_assignment_show_the_edge_and_the_reason(tmp_path: Path) -> None:
    from code_opt import solve

    root = Path(__file__).resolve().parents[2]
    instance = load_instance(root / "data" / "infeasible.json")
    result = solve(instance, method="exact")
    assert result.status == "infeasible"
    save_result(result, tmp_path / "exact.json")
    page = assemble(read_material([tmp_path], root / "data" / "infeasible.json"))
    assert [section.id for section in page.sections] == ["edge", "methods", "about"]
    text = render(page)
    parsed(text)
    assert "no assignment meets all requirements" in text
    assert (result.message or "").splitlines()[0][:40] in text.replace("&#39;", "'")


def test_many_tasks_get_a_picture_each_and_no_common_one(many: Path) -> None:
    page = assemble(read_material([many, many / "instance.json"]))
    names = [figure.name for figure in figures(page)]
    assert "edge-lns-task1" in names
    assert "edge-lns" not in names
    assert len([n for n in names if n.startswith("edge-")]) == 2 * 40
    text = render(page)
    parsed(text)
    assert len(text) < 1_500_000
    assert text.count('<details class="task"') == 40


def test_a_sentence_says_how_many_tasks_use_connections(metro_page: str, many: Path) -> None:
    assert (
        "exact = lns: 2 of 4 tasks leave their native path: 2 borrow blocks of another network, "
        "2 leave early or through another head." in metro_page
    )
    assert "local: every task runs on its own network alone." in metro_page
    page = assemble(read_material([many, many / "instance.json"]))
    (chart,) = [f for f in figures(page) if f.name == "rates"]
    results = {m: load_result(many / f"{m}.json") for m in ("lns", "local")}
    pairs = zip(results["lns"].tasks, results["local"].tasks, strict=True)
    more = sum(a.rate > b.rate * (1 + 1e-6) for a, b in pairs)
    assert f"{more} of 40 get more with lns" in chart.caption


def test_too_many_services_are_shown_by_site(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("code_opt.report.results.MOST_LISTED", 30)
    monkeypatch.setattr("code_opt.report.results.MOST_SITES", 4)
    page = assemble(read_material([many, many / "instance.json"]))
    assert not [figure for figure in figures(page) if figure.name.startswith("edge")]
    (paths,) = [section for section in page.sections if section.id == "paths"]
    (table,) = paths.blocks
    instance = load_instance(many / "instance.json")
    sites = len({dnn.server for dnn in instance.dnns})
    assert len(table.rows) == 5
    assert table.rows[-1].cells[0].text == f"{sites - 4} other sites"
    assert sum(int(row.cells[1].text) for row in table.rows) == 40
    result = load_result(many / "lns.json")
    rates = [float(row.cells[3].text) for row in table.rows]
    assert sum(rates) == pytest.approx(sum(row.rate for row in result.tasks), rel=1e-4)
    assert 'data-task="' not in render(page)
