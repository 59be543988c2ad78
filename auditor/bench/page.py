"""The bench as one self-contained page: tables and pictures, nothing loaded, nothing run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from auditor.bench.tables import Results, Table
from auditor.report.text import visible

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #8888;padding:.25rem .6rem;
text-align:left}.scroll{overflow-x:auto}img{max-width:100%}figure{display:inline-block;margin:.5rem}
.note{color:#666;margin:.2rem 0}h2{margin-top:2rem}:root{color-scheme:light dark}
""".strip()


def render(found: Results, command: str, pictures: Sequence[Path]) -> str:
    """HTML; every text is escaped, and the content policy allows our style and data images only."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    body = ["<h1>Detection bench</h1>", f"<p>Command: <code>{_text(command)}</code></p>"]
    body += [f"<p class='note'>{_text(line)}</p>" for line in found.notices]
    body += [_table(table) for table in found.tables]
    body.append("<h2>Plots</h2>")
    body += [_picture(path) for path in pictures]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width'><title>Detection bench</title>"
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _text(text: str) -> str:
    return escape(visible(text))


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{_text(c)}</th>" for c in table.columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    notes = "".join(f"<p class='note'>{_text(note)}</p>" for note in table.notes)
    return (
        f"<h2>{_text(table.title)}</h2><div class='scroll'><table><tr>{head}</tr>{lines}</table>"
        f"</div>{notes}"
    )


def _picture(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    name = _text(path.stem)
    return f"<figure><img alt='{name}' src='data:image/png;base64,{content}'></figure>"
