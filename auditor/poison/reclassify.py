"""Exclusionary reclassification (Chen et al., 2018): what is a group called when forgotten?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditor.poison.content import margins
from auditor.poison.interface import (
    Candidate,
    Confirmed,
    Floats,
    Labels,
    Method,
    NotApplicable,
    Result,
    Study,
    nothing,
)

FOREIGN, SURE, AGREES = 0.75, 0.7, 0.8
"""Least share that is called another class, how sure relative to honest samples, and least share
the model itself calls by the label (what it has not learned is a wrong label, not a trigger)."""

SPREAD = 0.5
"""Least effective number of source classes, as a share of the other classes."""

FEWEST_MEMBERS = 10

FEWEST_TO_CONVICT = 30
"""Members below which content alone is no evidence: every class has a dozen odd samples, and a
group is chosen for being odd."""

HONEST_REST = 0.5
"""Least share of the class outside the group that the model calls by the label. Where the rest is
what the model rejects, the rest are wrong labels and the group is the class."""


@dataclass(slots=True)
class Judged:
    """One candidate after its group was forgotten.

    `foreign`: share called another class; `sure`: its median lead there over that of honest
    samples; `spread`: effective number of those classes (exponential of the entropy); `agrees`:
    share the model calls by the label; `rest`: the same of the class outside the group (1 where
    nothing is). `called` (n,) is what each member shows, by the probe.
    """

    candidate: Candidate
    foreign: float
    sure: float
    spread: float
    agrees: float
    called: Labels
    weights: Floats = field(repr=False)
    rest: float = 1.0

    @property
    def learned(self) -> bool:
        """Whether the model holds to the label, in the group and around it."""
        return self.agrees >= AGREES and self.rest >= HONEST_REST


class Reclassification(Method):
    """Judges candidates by what they show; confirms a class when they come from everywhere."""

    name = "reclassification"
    title = "Exclusionary reclassification"
    doc = (
        "Each candidate group is forgotten exactly by a ridge classifier on random convolutional "
        "features and then classified (Chen et al. 2018). A natural group (another way to write a "
        "7) is still its class or hesitates between one or two neighbours; dirty-label poison is "
        "surely called by its true classes, many of them, while the model keeps to the label. "
        "Cannot see clean-label poison, nor poison from one or two source classes (the trigger "
        "search can); needs at least four classes."
    )
    order = 40

    def run(self, study: Study) -> Result:
        """Judge every candidate; confirmed classes go to the study."""
        score, flagged = nothing(study)
        study.groups()
        if len(np.unique(study.labels)) < 2:
            raise NotApplicable("there is a single class, so nothing can come from another")
        honest = honest_margin(study)
        judged = [
            judge(study, c, honest) for c in study.candidates if len(c.members) >= FEWEST_MEMBERS
        ]
        study.shares["judged"] = judged
        rows = []
        for label in sorted({j.candidate.label for j in judged}):
            best = max((j for j in judged if j.candidate.label == label), key=_foreignness)
            members = best.candidate.members
            poisoned = convicts(best, study)
            if poisoned:
                how = (
                    f"{best.foreign:.0%} of a group of {len(members)} samples show other classes "
                    f"({best.spread:.1f} of them), surely, and the model still calls "
                    f"{best.agrees:.0%} of them by the label"
                )
                study.confirmed[label] = Confirmed(label, members, how)
                flagged[members] = True
            np.maximum.at(score, members, np.float32(min(1.0, max(0.0, _foreignness(best)))))
            rows.append(
                {
                    "class": label,
                    "group": len(members),
                    "from": best.candidate.source,
                    "foreign": round(best.foreign, 4),
                    "sureness": round(best.sure, 4),
                    "source_classes": round(best.spread, 2),
                    "model_agrees": round(best.agrees, 4),
                    "suspect": poisoned,
                }
            )
        return Result(score, flagged, "shows another class", metrics={"per_class": rows})


def honest_margin(study: Study) -> float:
    """Median lead of the label in cross-validated scores, over samples called by their label."""
    lead = -margins(study.probe().held_out, study.labels)
    right = lead[lead > 0]
    return float(np.median(right)) if len(right) else 1.0


def judge(study: Study, candidate: Candidate, honest: float) -> Judged:
    """Forget the candidate and ask what its members show."""
    probe = study.probe()
    weights = probe.forgetting(candidate.members)
    scores = probe.features[candidate.members] @ weights
    lead = margins(scores, candidate.label)
    foreign = lead > 0
    called: NDArray[np.int64] = scores.argmax(axis=1)
    spread, sure = 0.0, 0.0
    if foreign.any():
        shares = np.bincount(called[foreign], minlength=scores.shape[1]) / foreign.sum()
        seen = shares[shares > 0]
        spread = float(np.exp(-(seen * np.log(seen)).sum()))
        sure = float(np.median(lead[foreign]) / max(honest, 1e-6))
    right = study.predicted == candidate.label
    outside = study.labels == candidate.label
    outside[candidate.members] = False
    return Judged(
        candidate,
        float(foreign.mean()),
        sure,
        spread,
        float(right[candidate.members].mean()),
        called,
        weights,
        float(right[outside].mean()) if outside.any() else 1.0,
    )


def convicts(judged: Judged, study: Study) -> bool:
    """Whether what the group shows is evidence enough."""
    others = len(np.unique(study.labels)) - 1
    return (
        others >= 3
        and judged.foreign >= FOREIGN
        and judged.sure >= SURE
        and judged.spread >= max(2.5, SPREAD * others)
        and judged.learned
        and len(judged.candidate.members) >= FEWEST_TO_CONVICT
    )


def _foreignness(judged: Judged) -> float:
    return judged.foreign * min(judged.sure, 1.0) * judged.agrees
