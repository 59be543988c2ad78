"""Operators a TorchScript model may call: torch 2.15's aten and prim that only compute.

The two lists beside this file were generated once from torch's own schema list, less the operators
that act on the machine; in-place names are without their underscore. A later torch may add some: an
unknown one is a low finding, not an accusation.
"""

from __future__ import annotations

from pathlib import Path


def _names(file: str) -> frozenset[str]:
    return frozenset(Path(__file__).with_name(file).read_text(encoding="ascii").split())


ATEN = _names("aten_operators.txt")
PRIM = _names("prim_operators.txt")
