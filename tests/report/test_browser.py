"""The page in a browser: what is chosen lights up, nothing overflows, dark and paper work."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from code_opt.report.assemble import assemble
from code_opt.report.material import read_material
from code_opt.report.page import render
from tests.report.examples import contrast

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CODE_OPT_CHROMIUM") or next(
    filter(None, map(shutil.which, BROWSERS)), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it, or name it in CODE_OPT_CHROMIUM"
)
PHONE = {"width": 375, "height": 812}
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
    for name, source in sources.items():
        path = folder / f"{name}.html"
        text = render(assemble(read_material([source], source / "instance.json")))
        path.write_text(text, encoding="utf-8")
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


@pytest.mark.parametrize("name", ["metro", "planned"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(view: Any, name: str, scheme: str) -> None:
    page = view(name, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    pairs = page.evaluate(
        """() => {
        const ground = e => {
            for (let x = e; x; x = x.parentElement) {
                const c = getComputedStyle(x).backgroundColor;
                if (!/, 0\\)$/.test(c) && c !== 'transparent') return c;
            }
            return 'none';
        };
        const found = new Map();
        for (const e of document.querySelectorAll('body *')) {
            if (e.closest('svg') || !e.getClientRects().length) continue;
            if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
            const pair = [getComputedStyle(e).color, ground(e)];
            found.set(String(pair), [...pair, e.tagName + '.' + e.className]);
        }
        return [...found.values()];
        }"""
    )
    assert len(pairs) > 4

    def color(text: str) -> str:
        return "#" + "".join(f"{int(n):02x}" for n in re.findall(r"\d+", text)[:3])

    for ink, ground, where in pairs:
        assert contrast(color(ink), color(ground)) >= 4.5, where
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


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
