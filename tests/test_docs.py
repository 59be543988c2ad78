"""The documentation says what the code does: generated pages, links, commands and rule ids."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

from auditor.sandbox.failure import Reason
from scripts.docs.checks_page import our_checks
from scripts.docs.cli_page import command_paths, help_text, our_app
from scripts.docs.pages import DOCS, stale
from scripts.docs.rules_pages import OTHERS, rules

ROOT = DOCS.parent
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
HAND_WRITTEN = [p for p in PAGES if p.parent.name != "rules"]

_CODE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def test_generated_pages_are_current() -> None:
    assert stale(DOCS) == [], "run: python -m scripts.docs"


def test_a_changed_missing_or_left_over_page_is_stale(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    before = set(stale(docs))
    (docs / "rules" / "graph.trigger.md").write_text("# something else\n")
    (docs / "rules" / "bytes.payload.md").unlink()
    (docs / "rules" / "gone.rule.md").write_text("# a rule of the past\n")
    (docs / "cli.md").write_text((docs / "cli.md").read_text().replace("--budget", "--bugdet"))
    now = {"cli.md", "rules/bytes.payload.md", "rules/gone.rule.md", "rules/graph.trigger.md"}
    assert set(stale(docs)) == before | now


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_or_anchor_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[ok](#one-two) [web](https://example.org) [gone](gone.md) [no](#three)\n"
        "```\n[not a link](in-code.md)\n```\n![image](picture.png)\n"
    )
    assert list(broken_links(page)) == ["gone.md", "#three", "picture.png"]


def broken_links(page: Path) -> Iterator[str]:
    """Targets in `page` that lead to no file or to no heading."""
    for target in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


def anchors(page: Path) -> set[str]:
    """What headings are called in links, on GitHub and in MkDocs alike."""
    plain = (re.sub(r"[^\w\- ]", "", h.lower()) for h in _HEADING.findall(page.read_text("utf-8")))
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r"[-:] ([\w./-]+\.md)$", text, re.MULTILINE))
    assert {p.name for p in DOCS.glob("*.md")} - listed == set()


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda p: p.name)
def test_source_files_named_in_the_text_exist(page: Path) -> None:
    named = re.findall(r"`([\w/]+/(?:[\w.-]+\.(?:py|json))?|\w+\.py)`", page.read_text("utf-8"))
    ours = [name for name in named if not name.startswith(("zoo-out", "audit-reports", "samples"))]
    inside = [name for name in ours if not (ROOT / name).exists()]
    assert [name for name in inside if not any(ROOT.glob(f"auditor/**/{name}"))] == []


def test_every_rule_a_finding_can_have_is_in_the_index() -> None:
    documented = {rule.id for rule in rules()} | {name for name, *_ in OTHERS}
    used = set(literal_rules()) | {f"sandbox.{reason}" for reason in get_args(Reason)}
    assert "probe.trigger" in used
    assert used - documented == set()
    assert {name for name, *_ in OTHERS} - used == set(), "documented, but nothing raises it"


def literal_rules() -> Iterator[str]:
    """The ids written out in `Finding(rule="...")` anywhere in the package."""
    for path in (ROOT / "auditor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"):
                continue
            for word in node.keywords:
                if word.arg == "rule" and isinstance(word.value, ast.Constant):
                    yield str(word.value.value)


def test_every_check_has_a_section_with_its_own_words() -> None:
    page = (DOCS / "checks.md").read_text("utf-8")
    for check in our_checks():
        section = page.partition(f"### {check.name}\n")[2].partition("\n### ")[0]
        assert f"*{check.title}.*" in section, check.name
        assert "**Needs**" in section, check.name
        assert len(check.doc) > 80, check.name


def commands_in(page: Path) -> Iterator[list[str]]:
    """Every ``audit ...`` line of the console blocks of `page`, split into words."""
    for block in re.findall(
        r"```(?:console|bash|sh)\n(.*?)```", page.read_text("utf-8"), re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\$? ?(?:\.venv/bin/)?audit (.*)", line.strip())
            if found:
                words = shlex.split(re.split(r" [|>] ", found[1])[0], comments=True)
                yield words


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda p: p.name)
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    application: Any = get_command(our_app())
    for words in commands_in(page):
        command = application
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        known |= {"--help", "-h"}
        unknown = [w for w in rest if w.startswith("-") and w.partition("=")[0] not in known]
        assert unknown == [], f"audit {' '.join(words)}"
        assert command is not application or not rest or rest[0].startswith("-"), words


def test_the_tutorial_has_commands_to_check() -> None:
    assert len(list(commands_in(DOCS / "tutorial.md"))) >= 8


def test_help_of_scan_is_grouped_and_fits_two_screens() -> None:
    text = help_text(our_app(), ("scan",))
    lines = text.splitlines()
    assert len(lines) <= 100
    assert max(len(line) for line in lines) <= 80
    groups = re.findall(r"^╭─ (.+?) ─", text, re.MULTILINE)
    assert {"Samples", "What runs", "Output", "Gate", "Limits"} <= set(groups)
    general = text[text.index("╭─ Options") :].partition("╰")[0]
    assert re.findall(r"│ (--[\w-]+)", general) == ["--help"], "an option without a group"


def test_every_command_explains_itself() -> None:
    for path in command_paths(our_app()):
        text = help_text(our_app(), path)
        about = text.split("╭", 1)[0].partition("Usage:")[2].strip().splitlines()
        assert any(line.strip() for line in about[1:]), path


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install model-auditor[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "rules" / "graph.trigger" / "index.html").is_file()
