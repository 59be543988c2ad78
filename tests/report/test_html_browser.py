"""The HTML report in a real browser: quiet, offline, readable at two widths, accessible.

Needs Chromium and playwright: missing they are a failure in CI (``CI=true``), elsewhere a skip.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditor.report.registry import render
from tests.report.examples import ALL

AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
WIDTHS = (375, 1400)


def missing(what: str) -> None:
    """Fail in CI, skip elsewhere."""
    message = f"{what} is not installed (Debian: apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing("Chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The examples as HTML files, and all of them in one."""
    folder = tmp_path_factory.mktemp("html")
    found = {}
    for name, make in ALL.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(render(make(), "html"), "utf-8")
    return found


class Visit:
    """A page that remembers what went wrong on it."""

    def __init__(self, browser: Any, path: Path, width: int = 1400, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.trouble.append(m.text))
        self.page.on("pageerror", lambda e: self.trouble.append(str(e)))
        self.page.on("dialog", lambda d: self.trouble.append(d.message))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *exception: object) -> None:
        self.page.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ALL)
def test_quiet_offline_and_within_the_screen(
    browser: Any, files: dict[str, Path], name: str, width: int
) -> None:
    with Visit(browser, files[name], width) as visit:
        visit.page.wait_for_load_state("networkidle")
        assert visit.trouble == []
        loaded = [url for url in visit.requests if not url.startswith("data:")]
        assert loaded == [files[name].as_uri()]
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = visit.page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
        assert all(sizes)
        assert visit.page.locator("h1").first.is_visible()
        assert visit.page.title() != "pwned"


def test_every_picture_of_the_backdoored_report_loads(browser: Any, files: dict[str, Path]) -> None:
    with Visit(browser, files["backdoored"]) as visit:
        assert visit.page.evaluate("document.images.length") == 8


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1400, "light")])
@pytest.mark.parametrize("name", ALL)
def test_no_serious_accessibility_violation(
    browser: Any, files: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with Visit(browser, files[name], width, color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        visit.page.evaluate(AXE.read_text("utf-8"))
        result = visit.page.evaluate("axe.run()")
        serious = [
            (v["id"], [node["html"][:200] for node in v["nodes"][:3]])
            for v in result["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert len(result["passes"]) > 10, "axe looked at the page"


def column(visit: Visit, table: str, index: int) -> list[str]:
    """The texts of one column, top to bottom."""
    script = "(rows, i) => rows.map(r => r.cells[i].textContent.trim())"
    texts: list[str] = visit.page.locator(f"{table} tbody tr").evaluate_all(script, index)
    return texts


def test_tables_sort_by_mouse_and_keyboard(browser: Any, files: dict[str, Path]) -> None:
    table = "#r0-checks > .scroll table"
    with Visit(browser, files["backdoored"]) as visit:
        head = visit.page.locator(f"{table} th").nth(2)
        before = [float(text) for text in column(visit, table, 2)]
        assert before != sorted(before)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert [float(t) for t in column(visit, table, 2)] == sorted(before)
        head.locator("button").focus()
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert [float(t) for t in column(visit, table, 2)] == sorted(before, reverse=True)
        visit.page.locator(f"{table} th button").first.click()
        assert column(visit, table, 0) == sorted(column(visit, table, 0))
        assert head.get_attribute("aria-sort") is None


def test_metrics_filter_and_theme_button(browser: Any, files: dict[str, Path]) -> None:
    with Visit(browser, files["clean"], color_scheme="light") as visit:
        visit.page.locator("#r0-filter").fill("probe")
        shown = visit.page.locator("#r0-metric-table tbody tr:visible")
        assert shown.all_inner_texts() and all("probe" in t for t in shown.all_inner_texts())
        background = "getComputedStyle(document.body).backgroundColor"
        before = visit.page.evaluate(background)
        visit.page.locator("#theme").click()
        assert visit.page.evaluate(background) != before


def test_the_first_tab_stop_skips_to_the_report(browser: Any, files: dict[str, Path]) -> None:
    with Visit(browser, files["clean"]) as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the report"
        visit.page.keyboard.press("Enter")
        assert visit.page.evaluate("document.activeElement.id") == "main"


def test_it_reads_without_script_and_prints_everything(
    browser: Any, files: dict[str, Path]
) -> None:
    with Visit(browser, files["backdoored"], java_script_enabled=False) as visit:
        assert visit.page.locator(".finding").first.is_visible()
        assert not visit.page.locator("#theme").is_visible()
    with Visit(browser, files["backdoored"]) as visit:
        assert len(visit.page.pdf()) > 20_000
        assert visit.page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")


def test_the_policy_blocks_what_is_not_ours(browser: Any, files: dict[str, Path]) -> None:
    with Visit(browser, files["clean"]) as visit:
        visit.page.evaluate(
            "const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
            "document.head.appendChild(s)"
        )
        assert visit.page.evaluate("window.bad === undefined")
        assert any("Content Security Policy" in line for line in visit.trouble)
