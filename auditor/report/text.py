"""Making hostile strings harmless and numbers readable, shared by all views."""

from __future__ import annotations

import unicodedata
from typing import Any

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format (bidirectional overrides, zero width), surrogate, private, separators."""


def visible(text: str, limit: int | None = None) -> str:
    r"""`text` on one line with every invisible or steering character spelled out (``\x1b``).

    Line breaks and tabs become spaces; longer than `limit` it ends in ``…``.
    """
    shown = "".join(_visible_character(c) for c in text)
    if limit is not None and len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return shown


def _visible_character(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if unicodedata.category(character) not in _HARMFUL:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def number(value: Any) -> str:
    """A metric's value for people: ``0.972``, ``12,345``, ``yes``, text made visible."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e6:
            return f"{value:,.4f}".rstrip("0").rstrip(".")
        return f"{value:.3g}"
    return visible(str(value), 60)


def percent(value: float) -> str:
    """A share 0..1 as ``97.2 %``."""
    return f"{100 * value:.1f} %"


def size(count: int) -> str:
    """Bytes for people: ``1.2 MB``."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def shape(sizes: tuple[int | str, ...] | None) -> str:
    """``N×3×32×32``; ``rank unknown`` without sizes."""
    if sizes is None:
        return "rank unknown"
    return "×".join(visible(str(s), 20) for s in sizes) or "scalar"


def plural(count: int, word: str) -> str:
    """``1 finding``, ``3 findings``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
