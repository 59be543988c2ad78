"""STRIP (Gao et al., 2019): whose prediction survives other images laid over it?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import Floats, Method, NotApplicable, Result, Study, nothing
from auditor.poison.label_noise import softmax

OVERLAYS = 8
PER_CLASS = 60
_FEWEST_HONEST = 20


class Superimposing(Method):
    """Entropy of each prediction on blends, averaged per sample."""

    name = "strip"
    title = "Superimposing (STRIP)"
    doc = (
        "Lays images of other classes over a sample, half and half, and takes the entropy of each "
        "prediction by itself, averaged over the overlays (Gao et al. 2019; a usual implementation "
        "takes it across samples, which says nothing). A trigger survives the blend, so the "
        "entropy stays low. Looks at some samples of each class and of each flagged group; it "
        "ranks and explains, and raises nothing alone: strong natural shapes survive too, and "
        "triggers of low amplitude do not."
    )
    order = 70

    def run(self, study: Study) -> Result:
        """Scores of the samples looked at; the lead of flagged groups over honest ones."""
        if study.predict is None:
            raise NotApplicable("the model can no longer be asked")
        if len(np.unique(study.labels)) < 2:
            raise NotApplicable("there is a single class, so nothing of another can be overlaid")
        score, flagged = nothing(study)
        rng = np.random.default_rng([study.seed, 31])
        rows = []
        for label, index in study.groups().items():
            confirmed = study.confirmed.get(label)
            bad = index[:0] if confirmed is None else confirmed.members
            good = np.setdiff1d(index, bad)
            low = {}
            for word, group in (("flagged", bad), ("others", good)):
                if len(group) < _FEWEST_HONEST and word == "others":
                    continue
                chosen = rng.choice(group, min(PER_CLASS, len(group)), replace=False)
                if len(chosen):
                    entropy = blend_entropy(study, chosen, label, rng)
                    score[chosen] = 1 - entropy
                    low[word] = float(entropy.mean())
            rows.append({"class": label, **{f"entropy_{k}": round(v, 4) for k, v in low.items()}})
        return Result(score, flagged, "survives superimposing", metrics={"per_class": rows})


def blend_entropy(
    study: Study, chosen: NDArray[np.int64], label: int, rng: np.random.Generator
) -> Floats:
    """Mean entropy (n,) of predictions on blends, in 0..1 of its largest possible value."""
    assert study.predict is not None
    others = np.flatnonzero(study.labels != label)
    images = study.suspects.floats(chosen)
    total = np.zeros(len(chosen))
    for _ in range(OVERLAYS):
        over = study.suspects.floats(rng.choice(others, len(chosen)))
        scores = study.predict(np.clip(0.5 * images + 0.5 * over, 0, 1).astype(np.float32))
        chances = as_chances(scores)
        total += -(chances * np.log(chances + 1e-12)).sum(axis=1)
    mean = total / OVERLAYS / np.log(max(study.scores.shape[1], 2))
    return np.asarray(np.clip(mean, 0, 1), np.float32)


def as_chances(scores: Floats) -> NDArray[np.float64]:
    """Rows that already sum to one as they are, else softmax: logits give no NaN."""
    wide = scores.astype(np.float64)
    if wide.min() >= 0 and np.allclose(wide.sum(axis=1), 1, atol=1e-3):
        return wide
    return softmax(wide)
