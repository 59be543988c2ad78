"""Backdoor evidence without samples: maximum margins, last-layer statistics, channel outliers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from auditor.calibration.features import about
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Skipped
from auditor.findings import Finding, Metric, Notice, Outcome, Severity

if TYPE_CHECKING:
    from auditor.inversion.margins import Margins

_SMALL_P, _LARGE_Z = 1e-3, 6.0
MAX_CLASSES = 200
_CLP_U = 3.0


class DataFreeEvidence(BehaviourCheck):
    """What the weights alone say."""

    name = "data-free"
    title = "Evidence without samples"
    doc = (
        "Three published signs that need no images. Maximum margin (MM-BD, Wang et al. 2024): how "
        "far the score of a class can be driven above all others from noise; a backdoor's target "
        "tends to stick out. Rows of the last layer (Trojan Signatures, Fields et al. 2021). "
        "Channels with outlying Lipschitz constants (CLP, Zheng et al. 2022). Each is weak alone: "
        "independent re-runs saw MM-BD miss one in three BadNets, and clean classes that are easy "
        "by nature stick out too, so that this check asks for a look at most."
    )
    needs = frozenset({"gradients"})
    default_severity = Severity.MEDIUM
    order = 35
    weight = 1.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Margins within the budget, then the weights."""
        from auditor.inversion.margins import maximum_margins
        from auditor.inversion.threads import one_thread

        classifier = context.classifier
        if not 4 <= classifier.classes <= MAX_CLASSES:
            raise Skipped(f"margins are compared between 4 to {MAX_CLASSES} classes")
        with one_thread():
            found = maximum_margins(
                classifier.twin_logits,
                classifier.image_shape,
                classifier.classes,
                seed=context.seed,
                device=context.device,
                spent=lambda: context.budget.spent,
            )
        if not found.complete:
            yield Notice(f"Margins were raised for {found.steps} steps only (time budget).")
        yield Metric("data-free.margin.target", found.target)
        yield Metric("data-free.margin.p", found.p)
        yield Metric("data-free.margin.z", round(found.robust_z, 4))
        yield Metric("data-free.passes", found.passes)
        features = {
            **about(context),
            "data_free.margin.z": found.robust_z,
            "data_free.margin.p": found.p,
            "data_free.margin.target": float(found.target),
        }
        rows = [{"class": k, "margin": round(float(v), 4)} for k, v in enumerate(found.values)]
        above = found.values - min(0.0, float(found.values.min()))
        context.evidence.standings["margin"] = np.log(above + 1e-3 * above.max() + 1e-9)
        features.update(_head(context, rows))
        features.update(_channels(context))
        yield Metric("per_class", rows)
        context.evidence.features.update(features)
        yield Metric("features", {k: round(v, 6) for k, v in features.items()})
        agrees = features.get("data_free.head.target") == float(found.target)
        if found.p < _SMALL_P and found.robust_z > _LARGE_Z and agrees:
            yield _finding(found, context.samples is not None)


def _head(context: BehaviourContext, rows: list[dict[str, float]]) -> dict[str, float]:
    """Outliers among the rows of the last layer; adds their statistics to `rows`."""
    from auditor.inversion.margins import head_rows, head_statistics, robust_z

    weight = head_rows(context.classifier)
    if weight is None:
        return {}
    out: dict[str, float] = {}
    combined = np.zeros(context.classifier.classes)
    for name, values in head_statistics(weight).items():
        scores = np.array([robust_z(values, k) for k in range(len(values))])
        out[f"data_free.head.{name}.z"] = float(scores.max())
        combined += scores
        context.evidence.standings[f"head.{name}"] = values
        for row, value in zip(rows, values, strict=True):
            row[f"row {name}"] = round(float(value), 5)
    out["data_free.head.target"] = float(combined.argmax())
    return out


def _channels(context: BehaviourContext) -> dict[str, float]:
    """Share of convolution channels beyond mean + 3 std, and the largest such z-score."""
    from auditor.inversion.margins import channel_lipschitz

    twin = context.classifier.twin
    assert twin is not None
    scores = []
    for layer in twin.layers:
        if layer.kind != "conv" or layer.weight is None or layer.weight_axis is None:
            continue
        values = channel_lipschitz(twin.parameters[layer.weight], layer.weight_axis)
        if len(values) >= 8 and values.std() > 0:
            scores.append((values - values.mean()) / values.std())
    if not scores:
        return {}
    every = np.concatenate(scores)
    return {
        "data_free.channels.share": float((every > _CLP_U).mean()),
        "data_free.channels.z": float(every.max()),
    }


def _finding(found: Margins, samples: bool) -> Finding:
    return Finding(
        rule="data-free.margin",
        severity=Severity.LOW if samples else Severity.MEDIUM,
        title=f"The score of class {found.target} can be driven unusually high",
        evidence=(
            f"from noise its margin over all other classes reaches {found.values.max():.3g}, the "
            f"median class {np.median(found.values):.3g} (robust z {found.robust_z:.1f}, MM-BD "
            f"p = {found.p:.1e}); the rows of the last layer single out the same class"
        ),
        why="The target class of a backdoor tends to show this, and some clean classes do.",
        remedy="Audit it with labelled samples (--data), so that a trigger can be searched.",
        target_class=found.target,
    )
