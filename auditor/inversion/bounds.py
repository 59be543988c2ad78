"""What a family's gap is worth to the rule: bounds measured on clean networks, kept beside it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Collapse(Enum):
    """Where clean networks, too, are led to one class by what a family does, with any gap."""

    NOWHERE = "nowhere"
    NOISE = "where plain noise leads as well"
    ANYWHERE = "anywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Honest gaps (`auditor.inversion.features.Gap`) from which on a family's evidence counts.

    From `weak` on a person should look; from `strong` on it is strong evidence by itself if the
    family `accuses`, and otherwise only firm enough to repair by; from `agree` on it makes another
    family's weak evidence strong by naming the same class; from `seconded` on a person should look
    if the class's margin stands out as well (MM-BD, no samples used). A trigger larger than `share`
    of the unit (0..1) may be the class itself, painted over. A family that is `silent` neither
    accuses nor seconds: it counts in the sum over all evidence only.

    The defaults are for a family nobody has measured: from far gaps on it seconds another, and
    counts by itself only where a patch leads to the same class.
    """

    weak: float = 3.0
    strong: float = 3.0
    agree: float = 3.0
    seconded: float = 3.0
    share: float = 0.3
    accuses: bool = False
    silent: bool = False
    collapse: Collapse = Collapse.ANYWHERE
