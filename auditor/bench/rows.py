"""One scanned model as a row: what the audit said, and the truth, read afterwards.

Rows are appended to a JSON Lines file as they come, so that a killed run loses one model at most;
the CSV holds the same, flat, features included, so that a calibration can be redone from it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.report.csv import safe_cell

KINDS = ("clean", "adversarial", "backdoored", "adversarial-backdoored")
"""Manifest kinds a detector can be right or wrong about; training sets (``poisoned``) are none."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Another method on the same model: `score` grows with suspicion; `why` it did not run."""

    score: float | None = None
    flag: bool = False
    target: int | None = None
    seconds: float = 0.0
    passes: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """From the manifest. `family` is the attack's trigger family, ``-`` for clean models."""

    kind: str
    architecture: str
    dataset: str
    parameters: int
    family: str = "-"
    rule: str = "-"
    targets: tuple[int, ...] = ()
    asr: float = 0.0
    accuracy: float = 0.0
    accepted: bool = True

    @property
    def backdoored(self) -> bool:
        """Whether the weights carry a backdoor."""
        return self.kind in ("backdoored", "adversarial-backdoored")


@dataclass(frozen=True, slots=True)
class Row:
    """`model` is relative to the bench's folder; `status` words by check; `severity` of the finding
    inversion or data-free evidence led to (empty: none); `passes` images forwards and backwards;
    `measures` one value a class, None where a search did not reach it."""

    model: str
    sha256: str
    format: str
    samples: int
    seed: int
    truth: Truth
    status: dict[str, str] = field(default_factory=dict)
    severity: str = ""
    named: int | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    passes: int = 0
    features: dict[str, float] = field(default_factory=dict)
    measures: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    error: str = ""

    @property
    def key(self) -> str:
        """What makes a row the same on resuming."""
        return key(self.model, self.samples, self.seed)

    @property
    def complete(self) -> bool:
        """The searches that were due ended by themselves."""
        return not self.error and "incomplete" not in self.status.values()

    @property
    def counts(self) -> bool:
        """Complete, with evidence, and accepted by the zoo: an attack that missed its bound makes a
        model neither clean nor backdoored, and a network that learned little is no example."""
        return self.complete and bool(self.features) and self.truth.accepted


def key(model: str, samples: int, seed: int) -> str:
    """`Row.key` of a row that is still to be made."""
    return f"{model}|{samples}|{seed}"


def to_json(row: Row) -> dict[str, Any]:
    """Plain JSON values; the inverse is `from_json`."""
    return asdict(row)


def from_json(content: Mapping[str, Any]) -> Row:
    """Raises ``TypeError`` or ``KeyError`` for anything `to_json` did not write."""
    values = dict(content)
    truth = dict(values.pop("truth"))
    truth["targets"] = tuple(truth["targets"])
    baselines = {k: Baseline(**v) for k, v in values.pop("baselines").items()}
    measures = {k: tuple(v) for k, v in values.pop("measures", {}).items()}
    return Row(truth=Truth(**truth), baselines=baselines, measures=measures, **values)


def append(path: Path, row: Row) -> None:
    """One line, flushed."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(to_json(row), allow_nan=False) + "\n")


def read(path: Path) -> list[Row]:
    """Rows of a ``.jsonl`` or ``.csv`` file. A last line cut off by a kill is left out.

    Raises `UsageError` naming the line that is no row.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the rows in {path.name}: {error}") from None
    try:
        return _read_csv(text, path.name) if path.suffix == ".csv" else _read_lines(text, path.name)
    except csv.Error as error:
        raise UsageError(f"{path.name} is not a table of rows: {error}") from None


def _read_lines(text: str, name: str) -> list[Row]:
    rows = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines):  # no newline after it: the run was killed while writing
                break
            raise UsageError(f"{name}, line {number} is no row of audit bench: {error}") from None
    return rows


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """All rows, a column per feature and baseline value; unknown cells are empty."""
    flat = [_flat(to_json(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([safe_cell(row.get(name)) for name in columns] for row in flat)


_GROUPS = ("truth", "status", "features", "measures", "baselines")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{prefix}{name}/"))
        elif isinstance(value, list | tuple):
            out[prefix + name] = " ".join(map(str, value))
        else:
            out[prefix + name] = value
    return out


def _read_csv(text: str, name: str) -> list[Row]:
    rows = []
    for number, cells in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            rows.append(_from_flat(cells))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{name}, line {number} is no row of audit bench: {error}") from None
    return rows


def _from_flat(cells: Mapping[str, str | None]) -> Row:
    content: dict[str, Any] = {group: {} for group in _GROUPS}
    for path, text in cells.items():
        if text is None or text == "":
            continue
        *groups, leaf = path.split("/")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = _value(path, text)
    content["truth"].setdefault("targets", ())
    return from_json(content)


_INTEGERS = frozenset({"samples", "seed", "named", "passes", "parameters", "target"})
_WORDS = frozenset({"model", "sha256", "format", "severity", "error", "kind", "architecture",
                    "dataset", "family", "rule", "why"})  # fmt: skip


def _value(path: str, text: str) -> Any:
    leaf = path.rsplit("/", 1)[-1]
    if path.startswith("status/") or leaf in _WORDS:
        return text.removeprefix("'") if text[:2] in ("'-", "'=", "'+", "'@") else text
    if leaf == "targets":
        return tuple(int(word) for word in text.split())
    if leaf in ("flag", "accepted"):
        return {"True": True, "False": False}[text]
    if leaf in _INTEGERS:
        return int(text)
    if path.startswith("measures/"):
        words = text.removeprefix("'").split()
        return tuple(None if word == "None" else float(word) for word in words)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{path} is not finite")
    return number
