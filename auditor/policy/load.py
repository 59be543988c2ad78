"""Finding, reading and validating a policy file; every complaint names the line.

A policy is looked for from the current folder upwards, never beside the model: a file that comes
with a stranger's model must not decide how that model is judged.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from auditor.errors import AuditError
from auditor.policy.locate import line_numbers, line_of
from auditor.policy.model import Policy


class Problem(NamedTuple):
    """One mistake in a policy file; `line` is 1-based."""

    line: int
    message: str


class PolicyError(AuditError):
    """The policy file is missing or wrong. `problems` holds every mistake, by line."""

    kind = "policy"

    def __init__(self, name: str, problems: tuple[Problem, ...], message: str = "") -> None:
        self.name = name
        self.problems = problems
        if problems:
            first, *rest = problems
            more = f" (and {len(rest)} more)" if rest else ""
            message = f"{name} line {first.line}: {first.message}{more}"
        super().__init__(message)


def find_policy(folder: Path) -> Path | None:
    """The closest policy from `folder` upwards: ``audit.toml``, else a pyproject with our table.

    Files are not merged. A pyproject that is not valid TOML counts as having no table.
    """
    for place in (folder, *folder.parents):
        own = place / "audit.toml"
        if own.is_file():
            return own
        project = place / "pyproject.toml"
        if project.is_file() and _has_table(project):
            return project
    return None


def load_policy(path: Path) -> Policy:
    """Read and validate. Raises `PolicyError`; unknown keys are mistakes."""
    try:
        text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except OSError as error:
        raise PolicyError(path.name, (), f"cannot read {path.name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PolicyError(path.name, (Problem(line, "not UTF-8 text"),)) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(path.name, (_syntax_problem(str(error), text),)) from None
    prefix: tuple[str, ...] = ("tool", "audit") if path.name == "pyproject.toml" else ()
    table: Any = document
    for key in prefix:
        table = table.get(key, {}) if isinstance(table, dict) else {}
    try:
        return Policy.model_validate(table)
    except ValidationError as error:
        lines = line_numbers(text)
        problems = sorted(
            Problem(line_of(lines, (*prefix, *details["loc"])), _sentence(details))
            for details in error.errors(include_url=False)
        )
        raise PolicyError(path.name, tuple(problems)) from None


def _has_table(project: Path) -> bool:
    try:
        tool = tomllib.loads(project.read_text("utf-8")).get("tool")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return isinstance(tool, dict) and "audit" in tool


def _syntax_problem(message: str, text: str) -> Problem:
    place = re.search(r"\(at line (\d+), column \d+\)", message)
    line = int(place[1]) if place else _first_open_line(text)
    sentence = re.sub(r"\s*\(at [^)]*\)", "", message)
    return Problem(line, f"not valid TOML: {sentence[:1].lower()}{sentence[1:]}")


def _first_open_line(text: str) -> int:
    """Where what never ends begins (a string, an array): after the longest valid beginning."""
    lines = text.split("\n")
    for count in range(len(lines) - 1, 0, -1):
        try:
            tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        return count + 1
    return 1


def _sentence(details: ErrorDetails) -> str:
    key = ".".join(str(part) for part in details["loc"])
    kind = details["type"]
    if kind == "extra_forbidden":
        known = Policy.model_fields if len(details["loc"]) == 1 else ()
        hint = f"; known: {', '.join(known)}" if known else ""
        return f"unknown key {key}{hint}"
    if kind == "missing":
        return f"{key} is missing"
    message = details["msg"].removeprefix("Value error, ")
    return f"{key}: {message[:1].lower()}{message[1:]}"
