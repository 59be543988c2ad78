"""Which pieces of evidence a probability rests on, by name, and how they are squeezed.

All are ratios, logarithms of ratios, shares or z-scores, so that one calibration can serve models
of different size. Nothing here knows a data set, an architecture or an attack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditor.checks.interface import BehaviourContext

DATA_FREE = (
    "data_free.consensus.log_score",
    "data_free.consensus.log_clear",
    "data_free.margin.surprise",
    "data_free.head.mean.z",
    "data_free.agree",
)
WITH_SAMPLES = (
    "consensus.log_score",
    "transforms.lead",
    "inversion.patch.log_honest",
    "inversion.additive.half",
    "inversion.smooth.merit",
    "shifts.merit",
)
"""Few on purpose: a population of hundreds of models cannot carry more coefficients."""

LARGEST_Z = 20.0
MOST_SURPRISE = 12.0
"""-log10 of a p-value; below 1e-12 the fitted null means nothing."""


def about(context: BehaviourContext) -> dict[str, float]:
    """What the calibrated range is stated in besides the features: classes and image side."""
    return {
        "about.classes": float(context.classifier.classes),
        "about.side": float(max(context.classifier.image_shape[1:])),
    }


def derived(raw: Mapping[str, float]) -> dict[str, float]:
    """`raw` features of the checks with those added that combine several, all finite.

    ``log_honest`` is the smaller of a family's two log gaps (see `auditor.inversion.features`);
    ``merit`` the held-out ASR less what rearranged perturbations and a linear model reach, 0 where
    no class was reached;
    ``consensus.log_score`` and the like are log(1 + x); ``data_free.agree`` is 1 when margins and
    last layer single out the same class.
    """
    out = {k: float(v) for k, v in raw.items() if math.isfinite(v)}
    for family in ("patch", "additive", "smooth", "blend", "warp", "tone", "blur"):
        prefix = f"inversion.{family}."
        gaps = [out.get(prefix + "log_gap"), out.get(prefix + "log_relative_gap")]
        known = [value for value in gaps if value is not None]
        if known:
            out[prefix + "log_honest"] = min(known)
        if prefix + "asr" in out:
            beside = max(out.get(prefix + "control", 1.0), out.get(prefix + "follows", 1.0))
            out[prefix + "merit"] = out[prefix + "asr"] - beside
        elif out.get(prefix + "reached") == 0.0:
            out[prefix + "merit"] = 0.0
    for prefix in ("consensus.", "data_free.consensus."):
        for name in ("score", "lead", "clear"):
            if prefix + name in out:
                out[f"{prefix}log_{name}"] = math.log1p(max(0.0, out[prefix + name]))
    if "data_free.margin.p" in out:
        out["data_free.margin.surprise"] = min(
            MOST_SURPRISE, -math.log10(max(out["data_free.margin.p"], 1e-300))
        )
    if {"data_free.margin.target", "data_free.head.target"} <= out.keys():
        same = out["data_free.margin.target"] == out["data_free.head.target"]
        out["data_free.agree"] = float(same)
    return {k: _squeezed(k, v) for k, v in out.items()}


def _squeezed(name: str, value: float) -> float:
    z = name.endswith((".z", ".anomaly"))
    return max(-LARGEST_Z, min(LARGEST_Z, value)) if z else value
