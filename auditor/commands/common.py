"""Words and parsers several commands share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from auditor.errors import UsageError

INPUT = "Samples"
BEHAVIOUR = "What runs"
OUTPUT = "Output"
GATE = "Gate"
LIMITS = "Limits"

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def commas(text: str | None) -> tuple[str, ...]:
    """``a,b`` as ``("a", "b")``."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def command_line(arguments: Sequence[str]) -> str:
    """The command as typed, without absolute paths: it goes into a report that is shared."""
    shown = [Path(a).name if a.startswith(("/", "~")) else a for a in arguments]
    return shlex.join(["audit", *shown])


def classes(text: str | None) -> tuple[str, ...]:
    """Class names in order: with commas, or a file with one name a line."""
    if text is None:
        return ()
    path = Path(text)
    if "," not in text and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--classes {path.name} cannot be read: {error}") from error
    return commas(text)


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """``0.5,0.5,0.5`` as floats; one number or three."""
    if text is None:
        return None
    try:
        values = tuple(float(word) for word in commas(text))
    except ValueError as error:
        raise UsageError(f"--{option} must be numbers with commas, not {text!r}") from error
    if len(values) not in (1, 3):
        raise UsageError(f"--{option} must be one number or one per channel, not {text!r}")
    return values


def side(text: str | None) -> tuple[int, int] | None:
    """``28x28`` as (height, width)."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if match is None or not int(match[1]) or (match[2] and not int(match[2])):
        raise UsageError(f"--size must be HEIGHTxWIDTH, such as 224x224, not {text!r}")
    return int(match[1]), int(match[2] or match[1])


def memory(text: str) -> int:
    """``2GiB``, ``500M`` or bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise UsageError(f"--memory must be a size such as 4GiB, not {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])
