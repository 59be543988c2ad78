"""From a scan's results to what the report says about probability, or why it says nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.calibration.model import Calibration, Provenance, packaged
from auditor.findings import CheckResult

CHECKS = ("data-free", "inversion", "all-to-all", "consensus")
"""What a probability rests on. Probing is left out: its library holds the triggers a zoo attacks
with."""

METRIC = "backdoor.probability"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`probability` None: `words` then say why. `outside` are reasons to distrust the number."""

    probability: float | None = None
    interval: tuple[float, float] | None = None
    outside: tuple[str, ...] = ()
    words: str = ""

    def metrics(self) -> dict[str, float]:
        """As policies name it; empty when there is no probability, so that a policy that asks for
        one is unmet and not silently passed."""
        if self.probability is None or self.interval is None:
            return {}
        low, high = self.interval
        return {METRIC: self.probability, f"{METRIC}.low": low, f"{METRIC}.high": high}


def judge(
    results: Iterable[CheckResult],
    parameters: int | None,
    models: Mapping[str, Calibration] | None = None,
) -> Judgement:
    """The calibrated probability of a backdoor in the weights, from the checks' features.

    `models` are coefficients other than the packaged ones. A search cut short by the budget is no
    measurement: no probability then. What the checks sent is untrusted: anything but finite numbers
    is left out.
    """
    found = {r.name: r for r in results if r.name in CHECKS}
    searched = found.get("inversion")
    for name in ("inversion", "consensus"):
        if name in found and found[name].status == "incomplete":
            return Judgement(words=f"no probability: {found[name].reason}")
    kind = "samples" if searched is not None and _features(searched) else "data-free"
    known = {k: v for result in found.values() for k, v in _features(result).items()}
    if not known:
        return Judgement()
    chosen = packaged() if models is None else models
    if kind not in chosen:
        what = "with samples" if kind == "samples" else "without samples"
        return Judgement(
            words=f"no probability: no calibration for audits {what} comes with this version "
            "(audit bench and audit calibrate make one; scan --calibration FILE uses it)"
        )
    model = chosen[kind]
    if not model.covers(known):
        return Judgement(words="no probability: too little of the evidence it rests on is there")
    severity = _gravest(found.values())
    said = model.estimate(known, parameters, severity)
    interval = (round(said.low, 4), round(said.high, 4))
    if said.raised:
        words = f"the share of {severity} findings that were right in calibration; "
    else:
        words = _points_at(said.probability, known)
    words += _made(model.provenance)
    return Judgement(round(said.probability, 4), interval, said.outside, words)


def _gravest(found: Iterable[CheckResult]) -> str:
    """The severity of the gravest finding, in a word; empty for none."""
    worst = max((f.severity for result in found for f in result.findings), default=None)
    return "" if worst is None else worst.word


def _points_at(probability: float, known: Mapping[str, float]) -> str:
    """Which class stands out, where a backdoor is more likely than not."""
    target = known.get("consensus.target")
    if target is None or probability < 0.5:
        return ""
    return f"the evidence points at class {int(target)}; "


def _made(p: Provenance) -> str:
    """How the number came about, in one sentence."""
    size = "a small population: " if p.small else ""
    area, entropy = p.held_out.get("auc"), p.held_out.get("cross_entropy")
    shown = (
        f"; fitted to one half, ROC-AUC {area:.2f} ({p.held_out.get('auc_low', 0):.2f} to "
        f"{p.held_out.get('auc_high', 1):.2f}) and cross-entropy {entropy:.2f} on the other"
        if area is not None and entropy is not None
        else ""
    )
    return (
        f"at even odds before looking; calibrated on {size}{p.models} models, {p.clean} clean and "
        f"{p.backdoored} backdoored ({p.population}){shown}; it informs, the severity comes from "
        "the findings"
    )


def _features(result: CheckResult) -> dict[str, float]:
    found: Any = result.metrics.get("features")
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
