"""The record of a study: our figures beside the reported ones, with the bound each must meet."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SUFFIX = ".study.json"


@dataclass(frozen=True)
class Row:
    """One figure. `reported` is what an earlier study says (words), `bound` what ours must meet.

    `met` is None where nothing is asked (another data set than the study's, or context only).
    """

    what: str
    ours: str
    reported: str = ""
    bound: str = ""
    met: bool | None = None


@dataclass
class Study:
    """One recipe's results; `write` stores it beside the artifacts."""

    name: str
    title: str
    dataset: str
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    """(file name, caption)."""

    def at_least(self, what: str, value: float, bound: float | None, *, reported: str = "") -> None:
        """Add a share that must reach `bound` (None: nothing is asked)."""
        if bound is None:
            self.rows.append(Row(what, f"{value:.2%}", reported))
        else:
            self.rows.append(Row(what, f"{value:.2%}", reported, f">= {bound:.1%}", value >= bound))

    def say(self, what: str, words: str, *, reported: str = "") -> None:
        """Add a figure that has no bound."""
        self.rows.append(Row(what, words, reported))

    def picture(self, file: str, caption: str) -> None:
        """Add a PNG that lies beside the record."""
        self.images.append((file, caption))

    def write(self, folder: Path) -> Path:
        """Write ``NAME.study.json``."""
        from zoo.build import write_json

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}{SUFFIX}"
        write_json(path, asdict(self))
        return path


def read_study(path: Path) -> Study:
    """Inverse of `Study.write`."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = [Row(**row) for row in content.pop("rows")]
    images = [(str(file), str(caption)) for file, caption in content.pop("images")]
    return Study(**content, rows=rows, images=images)


def on(dataset: str, wanted: str, bound: float) -> float | None:
    """`bound` where the study's own data set is used, else None: nothing is asked elsewhere."""
    return bound if dataset == wanted else None
