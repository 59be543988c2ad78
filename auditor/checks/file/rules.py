"""The registry of static rules: what `audit rules` lists and `audit explain RULE` shows.

A module that owns rules calls `register` at import time and builds its findings with `finding`, so
that severity, consequence and remedy are written once. `all_rules` imports every module of this
package that registers some; nothing here is heavy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from auditor.checks.interface import Rule
from auditor.findings import Finding, Metric, Severity

_REGISTRY: dict[str, Rule] = {}

_NODE = re.compile(r"(\[gate\] )?([\w.:]+)\((.*)\)$", re.DOTALL)

MAX_EVIDENCE = 2000
"""Characters of evidence kept: hostile names may be megabytes long."""


def register(*rules: Rule) -> None:
    """Add `rules`. Raises ``ValueError`` when an id is taken by a different rule."""
    for rule in rules:
        known = _REGISTRY.setdefault(rule.id, rule)
        if known != rule:
            raise ValueError(f"rule {rule.id} is registered twice with different contents")


def all_rules() -> tuple[Rule, ...]:
    """Every rule of the file checks, sorted by id. Imports the check modules, no torch."""
    package = import_module("auditor.checks.file")
    for module in iter_modules(package.__path__, "auditor.checks.file."):
        import_module(module.name)
    return tuple(_REGISTRY[key] for key in sorted(_REGISTRY))


def finding(
    rule: Rule,
    evidence: str,
    *,
    location: str | None = None,
    severity: Severity | None = None,
    target_class: int | None = None,
    title: str | None = None,
    blocks_run: bool | None = None,
) -> Finding:
    """A `Finding` of `rule`: `evidence` and `location` are of this file, the rest is the rule's.

    `severity`, `title` and `blocks_run` override the rule's where a case is milder or worse.
    """
    return Finding(
        rule=rule.id,
        severity=rule.severity if severity is None else severity,
        title=title or rule.title,
        evidence=shorten(evidence, MAX_EVIDENCE),
        why=rule.why,
        remedy=rule.remedy,
        target_class=target_class,
        location=None if location is None else shorten(location, 300),
        cwe=rule.cwe,
        blocks_run=rule.blocks_run if blocks_run is None else blocks_run,
    )


def path_metric(name: str, steps: Sequence[str]) -> Metric:
    """The metric `name`.path that reports draw: [what it is, where it is] for each step.

    A step is ``Operator(node)``, perhaps after ``[gate] ``, ``input 'x'``, or in code
    ``place what``.
    """
    rows: list[list[str]] = []
    for step in steps:
        if found := _NODE.match(step):
            rows.append([f"{'gate: ' if found[1] else ''}{found[2]}", found[3]])
        elif step.startswith(("input", "output")):
            first, _, rest = step.partition(" ")
            rows.append([first, rest.strip("'")])
        else:
            place, _, what = step.partition(" ")
            rows.append([what or place, place if what else ""])
    return Metric(f"{name}.path", [[shorten(part, 120) for part in row] for row in rows])


def shorten(text: str, limit: int) -> str:
    """`text` cut in the middle to at most `limit` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
