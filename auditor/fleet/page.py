"""The index as one self-contained page, generated piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.fleet.totals import VERDICTS, Totals
from auditor.report.html import content_policy
from auditor.report.summary import SEVERITIES
from auditor.report.text import plural, visible
from auditor.version import __version__

_PIECE = 64


def stream_page(
    totals: Totals, sources: Sequence[str], rows: Iterable[dict[str, Any]], most: int
) -> Iterator[str]:
    """Pieces of HTML. `rows` are records of `index.entries`, at most `most`; every value is escaped
    and invisible characters are made visible, for names come from strangers."""
    environment = _environment()
    style, script = (_asset(environment, name) for name in ("style.css", "fleet.js"))
    stream = environment.get_template("fleet.html.j2").stream(
        totals=totals,
        words=VERDICTS,
        severities=SEVERITIES,
        sources=[visible(s) for s in sources],
        rows=rows,
        most=most,
        version=__version__,
        headline=headline(totals),
        style=Markup(style),
        script=Markup(script),
        policy=Markup(content_policy(style, script)),
    )
    stream.enable_buffering(_PIECE)
    yield from stream


def headline(totals: Totals) -> tuple[str, str]:
    """(verdict word that colours the page, sentence)."""
    code = totals.exit_code
    if code == 1:
        count = totals.codes[1]
        return "fail", f"{plural(count, 'model')} of {totals.models} must not be used as they are."
    if code == 2:
        return "incomplete", f"{plural(totals.codes[2], 'model')} could not be read."
    if code == 3:
        return "incomplete", f"{plural(totals.codes[3], 'model')} could not be audited to the end."
    if totals.verdicts["review"]:
        return "review", f"A person should look at {plural(totals.verdicts['review'], 'model')}."
    return "pass", "Nothing of concern was found by the checks that ran."


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader(
            [
                PackageLoader("auditor.fleet", "templates"),
                PackageLoader("auditor.report", "templates"),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["plural"] = plural
    return environment


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
