"""``audit calibrate``: figures from one half of the population, coefficients from all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.bench import figures
from auditor.bench.detectors import by_probability, case_of, kind_of
from auditor.bench.rows import Row
from auditor.bench.split import halves
from auditor.calibration.fit import fit
from auditor.calibration.model import Calibration
from auditor.errors import UsageError

LEAST_AUC = 0.8
"""Held-out AUC whose interval must lie above chance and value above this, or nothing is shipped."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """`model` and the `sentence` that says how a fit to one half did on the other."""

    kind: str
    model: Calibration
    sentence: str
    defensible: bool


def calibrate(
    rows: Sequence[Row], population: str, *, data_free: bool = False, seed: int = 0
) -> Fitted:
    """Fit, with held-out figures in the provenance. Raises `UsageError` when too few models.

    `data_free` fits from the data-free features of rows that were made with samples.
    """
    done = [row for row in rows if row.counts]
    if not done:
        raise UsageError("no complete row to calibrate on")
    kind = "data-free" if data_free else kind_of(done)
    one, other = halves(done, seed)
    half = fit([case_of(r) for r in one], kind, population=population, seed=seed, draws=1)
    judged = by_probability(other, half, kind, "")
    assert judged.probabilities is not None
    area = figures.with_interval(figures.auc, judged.scores, judged.truth)
    entropy = figures.with_interval(figures.cross_entropy, judged.probabilities, judged.truth)
    if area.value is None or entropy.value is None:
        raise UsageError("one half of the population holds one kind of model only")
    clean = [bool(flag) for flag, bad in zip(judged.flags, judged.truth, strict=True) if not bad]
    held_out = {
        "models": float(len(other)),
        "auc": round(area.value, 4),
        "auc_low": round(area.low, 4),
        "auc_high": round(area.high, 4),
        "cross_entropy": round(entropy.value, 4),
        "false_positive_rate": round(sum(clean) / len(clean), 4),
    }
    model = fit(
        [case_of(r) for r in done], kind, population=population, seed=seed, held_out=held_out
    )
    sentence = (
        f"{kind}: fitted to {len(one)} models, on the {len(other)} others ROC-AUC "
        f"{area.words()}, cross-entropy {entropy.words()}, {sum(clean)} of {len(clean)} clean "
        f"models at 0.5 or above; coefficients from all {len(done)}, C {model.provenance.penalty}"
    )
    return Fitted(kind, model, sentence, area.value >= LEAST_AUC and area.low > 0.5)
