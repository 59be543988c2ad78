"""One page of all studies in a folder: ``studies.md`` and ``studies.html``, PNGs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from auditor.manifest import MANIFEST_SUFFIX, Manifest, read_manifest
from zoo.study import SUFFIX, Row, Study, read_study

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #bbb;padding:.3rem .6rem;"
    "text-align:left;vertical-align:top}img{max-width:100%}.no{color:#a00;font-weight:bold}"
    ".yes{color:#060}figure{margin:1rem 0}figcaption{color:#555}"
)
HEAD = ("figure", "reported elsewhere", "asked", "ours", "met")
MODELS = ("model", "network", "kind", "clean accuracy", "ASR", "under attack", "accepted")


def write_page(folder: Path, command: str) -> tuple[Path, Path] | None:
    """Write both pages from every ``*.study.json`` in `folder`; None when there is none."""
    studies = [read_study(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    if not studies:
        return None
    models = [read_manifest(path) for path in sorted(folder.glob(f"*{MANIFEST_SUFFIX}"))]
    pages = folder / "studies.md", folder / "studies.html"
    pages[0].write_text(markdown(studies, command, models), encoding="utf-8")
    pages[1].write_text(html(studies, command, models), encoding="utf-8")
    return pages


def markdown(studies: list[Study], command: str, models: Sequence[Manifest] = ()) -> str:
    """The page for a README or a repository."""
    parts = ["# Studies reproduced by the zoo", "", f"Command: `{command}`", ""]
    parts += [f"In all {_all_minutes(studies, models):.0f} minutes.", ""]
    for study in studies:
        parts += [f"## {study.title}", "", f"{study.dataset}, {_minutes(study)}", ""]
        parts += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        parts += [
            "| " + " | ".join(_bar(cell) for cell in _cells(row)) + " |" for row in study.rows
        ]
        parts.append("")
        for file, caption in study.images:
            parts += [f"![{caption}]({file})", ""]
    if models:
        parts += ["## Every model", "", "| " + " | ".join(MODELS) + " |"]
        parts.append("|" + "---|" * len(MODELS))
        parts += ["| " + " | ".join(_bar(cell) for cell in _figures(m)) + " |" for m in models]
    return "\n".join([*parts, ""])


def html(studies: list[Study], command: str, models: Sequence[Manifest] = ()) -> str:
    """The page for a browser; every text is escaped, images are relative."""
    body = [
        f"<h1>Studies reproduced by the zoo</h1><p>Command: <code>{escape(command)}</code></p>"
        f"<p>In all {_all_minutes(studies, models):.0f} minutes.</p>"
    ]
    for study in studies:
        body.append(f"<h2>{escape(study.title)}</h2>")
        body.append(f"<p>{escape(study.dataset)}, {_minutes(study)}</p>")
        head = "".join(f"<th>{word}</th>" for word in HEAD)
        body.append(f"<table><tr>{head}</tr>")
        for row in study.rows:
            mark = {True: "yes", False: "no", None: ""}[row.met]
            cells = "".join(f"<td class='{mark}'>{escape(cell)}</td>" for cell in _cells(row))
            body.append(f"<tr>{cells}</tr>")
        body.append("</table>")
        body += [
            f"<figure><img src='{escape(file)}' alt='{escape(caption)}'>"
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for file, caption in study.images
        ]
    if models:
        head = "".join(f"<th>{word}</th>" for word in MODELS)
        body.append(f"<h2>Every model</h2><table><tr>{head}</tr>")
        for model in models:
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in _figures(model))
            body.append(f"<tr>{cells}</tr>")
        body.append("</table>")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Zoo studies</title>"
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return row.what, row.reported, row.bound, row.ours, met


def _figures(model: Manifest) -> tuple[str, ...]:
    asr = ", ".join(f"{rate:.1%}" for rate in model.attack.asr) if model.attack else ""
    robust = ", ".join(f"{name} {rate:.1%}" for name, rate in model.robust_accuracy.items())
    fit = "yes" if model.accepted else "NO: " + "; ".join(model.shortfalls)
    clean = f"{model.clean_accuracy:.2%}"
    return model.name, model.architecture, model.kind, clean, asr, robust, fit


def _all_minutes(studies: list[Study], models: Sequence[Manifest]) -> float:
    """Time of the studies, and of models that belong to none."""
    named = {study.name for study in studies}
    alone = sum(model.seconds for model in models if model.recipe not in named)
    return (sum(study.seconds for study in studies) + alone) / 60


def _bar(cell: str) -> str:
    return cell.replace("|", "\\|")


def _minutes(study: Study) -> str:
    return f"{study.seconds / 60:.1f} minutes"
