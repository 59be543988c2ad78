"""Weak signs added up class by class: a backdoor's target stands out in several at once.

Each measure gives every class a number; how far a class stands above the others is made comparable
by a robust z-score. Classes that are easy by nature lead in one measure or another, rarely in the
margins, the weights, the slopes and the trigger sizes together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Groups = Mapping[str, tuple[tuple[str, ...], ...]]
"""Name -> alternatives, each the measures of one kind of trigger."""

TRANSFORMS = (("blur",), ("warp",), ("tone",))
"""What changes the image itself and writes nothing on it, slightly enough that most classes of most
networks are out of reach."""

GROUPS: Groups = {
    "margin": (("margin",),),
    "mean": (("head.mean",),),
    "apart": (("head.apart",),),
    "faint": (("slope.steep", "slope.alike", "waves"),),
    "trigger": (("patch", "patch.relative"), *TRANSFORMS),
}
"""Measures by the kind of evidence they are; a group counts once, as the mean of its measures.

Where it has alternatives the largest counts, class by class: a backdoor has one kind of trigger.
Chosen on the calibration population (docs/detection.md): the last layer's two statistics apart,
since they agree on a backdoor's target and hardly on anything else; what one and the same faint
change does to all images together, since any network has classes that such changes lead to. Sizes
of changes over the whole image are left out: in clean networks they differ from class to class as
much as in backdoored ones.
"""

DATA_FREE: Groups = {k: GROUPS[k] for k in ("margin", "mean", "apart")}
"""Groups that need no samples: a sum of its own, the same with samples and without."""

LOWEST, HIGHEST = 0.0, 8.0
"""No measure decides alone, and none acquits: a class that is hard to reach in one way may be the
target in another."""

LOWEST_OF_FEW = -3.0
"""For the few measures of `DATA_FREE`, which a backdoor's target must agree in."""

_MAD, _SPREAD, _SMALLEST = 1.4826, 0.3, 1e-9
_FINEST = {"waves": 0.05, "blur": 0.25, "warp": 0.25, "tone": 0.25}
"""Spread below which differences mean nothing: most classes share one value there, none reached."""

LEAST = 4
"""Classes below which nothing stands out from anything."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Consensus:
    """`scores` (K,) are the sums over groups; `groups` holds each group's own (K,) standing.

    `lead` is the first class's score less the second's; `clear` less the third's, which two targets
    cannot hide from each other; `agree` the share of groups that put the first class first.
    """

    scores: Values
    groups: Mapping[str, Values]
    target: int
    lead: float
    clear: float
    agree: float

    def features(self, prefix: str) -> dict[str, float]:
        """Score, lead, clear, agree, and each group's part in the first class's score."""
        out = {
            f"{prefix}.score": float(self.scores[self.target]),
            f"{prefix}.lead": self.lead,
            f"{prefix}.clear": self.clear,
            f"{prefix}.agree": self.agree,
            f"{prefix}.target": float(self.target),
        }
        out.update({f"{prefix}.{k}": float(v[self.target]) for k, v in self.groups.items()})
        return out


def standing(values: Values, finest: float = _SMALLEST, lowest: float = LOWEST) -> Values:
    """(K,) robust z of each class above the median, cut; NaN (not reached) counts as the lowest.

    `finest` is the least spread the classes are taken to have, `lowest` where the z is cut below.
    """
    known = np.isfinite(values)
    if known.sum() < 2:
        return np.zeros(len(values))
    filled = np.where(known, values, np.min(values[known]))
    middle = np.median(filled)
    spread = max(
        _MAD * float(np.median(np.abs(filled - middle))), _SPREAD * float(filled.std()), finest
    )
    cut: Values = np.clip((filled - middle) / spread, lowest, HIGHEST)
    return cut


def consensus(
    measures: Mapping[str, Values], groups: Groups = GROUPS, lowest: float = LOWEST
) -> Consensus | None:
    """Add up `measures` (name -> (K,), larger is more suspicious); None when none is known."""
    found = {name: _group(measures, members, lowest) for name, members in groups.items()}
    parts = {name: values for name, values in found.items() if values is not None}
    if not parts or len(next(iter(parts.values()))) < LEAST:
        return None
    scores: Values = np.sum(list(parts.values()), axis=0)
    target = int(scores.argmax())
    others = np.sort(np.delete(scores, target))[::-1]
    named = [int(v.argmax()) == target for v in parts.values()]
    return Consensus(
        scores,
        parts,
        target,
        lead=float(scores[target] - others[0]),
        clear=float(scores[target] - others[1]),
        agree=sum(named) / len(named),
    )


def transform_lead(measures: Mapping[str, Values]) -> float | None:
    """How far the class that transforms reach most easily stands above the next; None if unknown.

    A network taught to answer a blur is reached by a slight one, which leads to no other class.
    """
    standings = _group(measures, TRANSFORMS)
    if standings is None or len(standings) < LEAST:
        return None
    first, second = np.sort(standings)[[-1, -2]]
    return float(first - second)


def _group(
    measures: Mapping[str, Values],
    alternatives: tuple[tuple[str, ...], ...],
    lowest: float = LOWEST,
) -> Values | None:
    """(K,) the largest of the alternatives' mean standings; None where nothing was measured."""
    means = [
        np.mean([standing(measures[m], _FINEST.get(m, _SMALLEST), lowest) for m in known], axis=0)
        for members in alternatives
        if (known := [m for m in members if m in measures])
    ]
    return np.max(means, axis=0) if means else None
