"""Every page with generated content, and which of them lag behind the code."""

from __future__ import annotations

from pathlib import Path

from auditor.policy import reference as policy
from scripts.docs import checks_page, cli_page, rules_pages

DOCS = Path(__file__).resolve().parents[2] / "docs"


def pages(docs: Path) -> dict[str, str]:
    """Path under `docs` to what it should hold. Pages written in part by hand are read there."""
    wanted = {f"rules/{name}": text for name, text in rules_pages.rules_pages().items()}
    wanted["cli.md"] = cli_page.cli_page()
    wanted["checks.md"] = checks_page.renewed((docs / "checks.md").read_text("utf-8"))
    wanted["policy.md"] = policy.renewed((docs / "policy.md").read_text("utf-8"))
    return wanted


def stale(docs: Path) -> list[str]:
    """Pages that differ or are missing, and rule pages of rules that are gone. Sorted."""
    wanted = pages(docs)
    there = {p.relative_to(docs).as_posix() for p in (docs / "rules").glob("*.md")}
    gone = there - wanted.keys()
    differ = [
        name
        for name, text in wanted.items()
        if not (docs / name).is_file() or (docs / name).read_text("utf-8") != text
    ]
    return sorted([*differ, *gone])
