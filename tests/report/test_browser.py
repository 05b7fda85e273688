"""The page in a browser: what is chosen lights up, nothing overflows, dark and paper work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

expect = playwright.expect

from code_opt.report.assemble import assemble
from code_opt.report.material import read_material
from code_opt.report.page import render

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CODE_OPT_CHROMIUM") or next(
    filter(None, map(shutil.which, BROWSERS)), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it, or name it in CODE_OPT_CHROMIUM"
)
PHONE = {"width": 375, "height": 812}
LAPTOP = {"width": 1366, "height": 768}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(
    metro: Path, hostile: Path, many: Path, planned: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    sources = {"metro": metro, "hostile": hostile, "many": many, "planned": planned}
    pages = {name: ([source], source / "instance.json") for name, source in sources.items()}
    grown = [
        path for kind in ("growth", "failures") for path in planned.glob(f"*.plan-{kind}.json")
    ]
    pages["grown"] = (grown, planned / "instance.json")
    for name, (paths, instance) in pages.items():
        path = folder / f"{name}.html"
        path.write_text(render(assemble(read_material(paths, instance))), encoding="utf-8")
        found[name] = path
    return found


@pytest.fixture
def view(chromium: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """Open a page; at the end, nothing may have been asked of a network or told as an error."""
    contexts, wrong = [], []

    def open_page(name: str, viewport: dict[str, int] = DESK, **options: Any) -> Any:
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith("file:") or wrong.append(request.url),
        )
        page.goto(pages[name].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def lit(page: Any) -> set[str]:
    """Return the tasks whose paths are shown in full."""
    return set(
        page.eval_on_selector_all(
            "svg g.path",
            "groups => groups.filter(g => getComputedStyle(g).opacity === '1')"
            ".map(g => g.dataset.task)",
        )
    )


def test_choosing_a_task_lights_up_its_paths(view: Any) -> None:
    page = view("metro", reduced_motion="reduce")
    assert lit(page) == {"0", "1", "2", "3"}
    page.get_by_role("button", name="scenes").click()
    assert page.get_by_role("button", name="scenes").get_attribute("aria-pressed") == "true"
    page.mouse.move(5, 5)
    assert lit(page) == {"2"}
    told = page.locator(".readout").inner_text()
    assert "tasks leave" not in told
    assert "exact = lns: mobilenet/0 ⇒ squeezenet/1…2 ⇒ output" in told
    assert "local: mobilenet/0…3 (native)" in told
    chosen = page.locator("tr.on")
    assert chosen.count() == 3  # one for each assignment: exact and lns have the same
    page.keyboard.press("Escape")
    assert lit(page) == {"0", "1", "2", "3"}
    assert page.locator("tr.on").count() == 0


def test_a_task_can_be_chosen_by_keyboard_and_on_the_drawing(view: Any) -> None:
    page = view("metro", reduced_motion="reduce")
    page.locator("button.choice").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert lit(page) == {"1"}
    page.keyboard.press("Space")
    assert lit(page) == {"0", "1", "2", "3"}
    page.locator("figure svg").first.locator("g.path[data-task='3'] text").click()
    page.mouse.move(5, 5)
    assert lit(page) == {"3"}


def test_hovering_shows_a_path_without_choosing_it(view: Any) -> None:
    page = view("metro", reduced_motion="reduce")
    page.locator("figure svg").first.scroll_into_view_if_needed()
    before = page.locator("figure svg").first.bounding_box()
    page.locator("figure svg").first.locator("g.path[data-task='0'] text").hover()
    assert lit(page) == {"0"}
    assert page.locator("figure svg").first.bounding_box() == before  # nothing jumps
    page.mouse.move(5, 5)
    assert lit(page) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("name", ["metro", "hostile", "many", "planned"])
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_overflows(view: Any, name: str, viewport: dict[str, int]) -> None:
    page = view(name, viewport)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    # What is wider than the page lies in a box that scrolls.
    outside = page.evaluate(
        """width => [...document.querySelectorAll('main *, header *, footer *')]
        .filter(e => !e.closest('.scroll, .side, .listing, .sr, svg') && e.getClientRects().length)
        .filter(e => e.getBoundingClientRect().right > width + 0.5)
        .map(e => e.tagName + '.' + e.className)""",
        viewport["width"],
    )
    assert outside == []


def test_text_of_drawings_is_large_enough_on_a_phone(view: Any) -> None:
    page = view("metro", PHONE)
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('figure svg text')]
        .filter(t => t.checkVisibility())
        .map(t => parseFloat(t.getAttribute('font-size'))
        * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))"""
    )
    assert min(sizes) >= 7.5


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@pytest.mark.parametrize(("name", "scheme"), [("planned", "light"), ("metro", "dark")])
def test_axe_finds_nothing(view: Any, name: str, scheme: str) -> None:
    """Contrast, names, roles, headings, landmarks: the rules of WCAG 2.1 AA, and good practice."""
    package = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    page = view(name, DESK if scheme == "dark" else PHONE, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate((files(package) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(
        """async rules => {
        const found = await axe.run(document, {runOnly: rules, resultTypes: ['violations']});
        return found.violations.map(v => [v.id, v.nodes.slice(0, 3).map(n => n.failureSummary)]);
        }""",
        RULES,
    )
    assert found == []
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("viewport", [LAPTOP, {"width": 390, "height": 844}], ids=["desk", "phone"])
def test_the_first_screen_holds_the_decision(view: Any, viewport: dict[str, int]) -> None:
    """The recommendation, its money and its main risk, without scrolling."""
    page = view("grown", viewport)
    headline = page.locator("h1")
    assert headline.inner_text().startswith("Buy ")
    assert "less than without coordination" in headline.inner_text()
    money = page.locator(".tiles").first
    assert "to spend" in money.inner_text()
    assert "without coordination" in money.inner_text()
    risk = page.locator(".callout.risk")
    assert risk.inner_text().startswith("Main risk: if edge-")
    for part in (headline, money, risk):
        box = part.bounding_box()
        assert box["y"] >= 0.0
        assert box["x"] + box["width"] <= viewport["width"]
        assert box["y"] + box["height"] <= viewport["height"]


def test_contents_stay_and_lead_to_their_sections(view: Any) -> None:
    page = view("planned", LAPTOP)
    contents = page.locator("nav.contents")
    entry = contents.get_by_role("link", name="When a server fails")
    entry.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("scrollY > 400")
    assert contents.bounding_box()["y"] == pytest.approx(0.0, abs=1.0)
    expect(entry).to_have_attribute("aria-current", "true")
    assert page.locator("#failures").bounding_box()["y"] == pytest.approx(0.0, abs=30.0)
    narrow = view("planned", PHONE)
    links = narrow.locator("nav.contents a")
    assert not links.first.is_visible()
    narrow.locator("nav.contents summary").focus()
    narrow.keyboard.press("Enter")
    narrow.locator("nav.contents a[href='#failures']").click()
    expect(links.first).not_to_be_visible()
    # Its heading is not hidden below the line of the contents.
    line = narrow.locator("nav.contents").bounding_box()
    assert narrow.locator("#failures h2").bounding_box()["y"] >= line["y"] + line["height"]


def test_a_table_that_is_cut_says_so(view: Any) -> None:
    page = view("planned", PHONE)
    for box in page.locator("section:not(:has(details[open])) .scroll:visible").all():
        is_cut = box.evaluate("e => e.scrollWidth > e.clientWidth + 1")
        expect(box.locator(".wide")).to_be_visible(visible=is_cut)


def test_the_page_can_be_printed(view: Any, tmp_path: Path) -> None:
    page = view("metro", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    opened = "[...document.querySelectorAll('details:not(.aside)')].every(d => d.open)"
    assert page.evaluate(opened)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert not page.locator(".contents").is_visible()
    assert page.locator(".side").first.evaluate("e => getComputedStyle(e).display") == "grid"
    assert page.pdf(path=tmp_path / "page.pdf", format="A4").startswith(b"%PDF")


def test_nothing_is_cut_on_paper(view: Any) -> None:
    page = view("planned", {"width": 688, "height": 1000})  # A4 within its margins, in CSS pixels
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    wide = page.evaluate(
        """() => [...document.querySelectorAll('table, figure')]
        .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > 688.5)
        .map(e => e.textContent.slice(0, 60))"""
    )
    assert wide == []


def test_the_page_can_be_read_without_javascript(view: Any) -> None:
    page = view("metro", java_script_enabled=False)
    assert page.locator("figure svg").first.is_visible()
    assert page.locator("span.choice").count() == 4
    assert page.locator("button").count() == 0
    assert not page.locator(".hint").is_visible()
    page.locator("main summary").first.click()
    assert page.locator("main details[open]").count() == 1


def test_hostile_names_are_shown_and_do_nothing(view: Any) -> None:
    page = view("hostile")
    assert "onerror=alert(1)" in page.locator(".brand").inner_text()
    page.locator("button.choice").first.click()
    assert "onload=alert(1)" in page.locator(".readout").inner_text()
    assert page.locator("img").count() == 0


def test_one_of_many_tasks_is_found_by_its_name(view: Any) -> None:
    page = view("many")
    page.get_by_label("Part of a task’s name").fill("task-s07")
    shown = page.locator("details.task:visible")
    assert shown.count() == 1
    assert page.locator(".count").inner_text() == "1 of 40 tasks"
    shown.locator("summary").click()
    assert shown.locator("svg[role=img]").count() == 2
    page.get_by_label("Part of a task’s name").fill("")
    assert page.locator("details.task:visible").count() == 40
    page.locator("summary", has_text="All 40 paths").click()
    assert page.locator("#paths tr[data-task]:visible").count() == 40
    page.get_by_label("Part of a task’s name").fill("task-s07")
    assert page.locator("#paths tr[data-task]:visible").count() == 1


def test_the_tree_for_screen_readers_names_everything(view: Any) -> None:
    page = view("metro")
    tree = page.locator("body").aria_snapshot()
    assert 'heading "+45.6 % throughput' in tree
    assert 'button "1 vehicles"' in tree or 'button "vehicles"' in tree
    assert 'img "Exact (the same: lns): paths on the edge"' in tree
    assert "table" in tree
    unnamed = page.evaluate(
        "[...document.querySelectorAll('[role=region],[role=group],nav')]"
        ".filter(e => !e.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
