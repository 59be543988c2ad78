"""Screenshots for the documentation: ``python -m tests.report.screenshots`` (needs Chromium)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from auditor.report.registry import render
from tests.report.examples import ALL

TARGET = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    """First screens of the clean, the backdoored and the hostile example."""
    TARGET.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name in ("clean", "backdoored", "hostile"):
            path = Path(folder) / "report.html"
            path.write_text(render(ALL[name](), "html"), "utf-8")
            page = browser.new_page(viewport={"width": 1200, "height": 780})
            page.goto(path.as_uri())
            page.screenshot(path=TARGET / f"report-{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
