"""Trigger search over candidate groups, proof by transplant, and a second sweep of the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Figure, Json
from auditor.poison.axes import principal_axes
from auditor.poison.interface import (
    Candidate,
    Confirmed,
    Method,
    NotApplicable,
    Result,
    Study,
    nothing,
)
from auditor.poison.reclassify import (
    FEWEST_MEMBERS,
    FOREIGN,
    Judged,
    convicts,
    honest_margin,
    judge,
)
from auditor.poison.residual import AffineTrigger, Moments, recover, weighted_moments
from auditor.poison.sweep import match_all, sweep

NATURE = 0.75
"""Share of the pixel variance that counts as what images naturally vary by."""

WORKS, LEAD = 0.6, 0.5
"""Least success of a transplanted trigger, and least lead over its controls."""

_ASKED, _GROUP, _PLAIN, _AXES = 150, 1_500, 3_000, 1_000
_PER_CLASS, _GROWN = 5, 2


@dataclass(frozen=True, slots=True)
class Transplant:
    """A trigger read off a group and stamped on images like those its members came from.

    `asr` is the model's share of answers "label"; `control` the largest share among: the images
    unchanged, the trigger's pixels shuffled, and our own probe that has forgotten the group (a
    class's natural look leads that one there too; a trigger does not). `strange` is the success of
    what is left of the change after all that natural images vary by is taken from it.
    """

    judged: Judged
    trigger: AffineTrigger
    asr: float
    control: float
    strange: float = 0.0

    @property
    def lead(self) -> float:
        """How far the success exceeds every control."""
        return self.asr - self.control

    @property
    def proven(self) -> bool:
        """Whether the trigger works and nothing natural explains it."""
        return self.judged.learned and min(self.asr, self.strange) >= WORKS and self.lead >= LEAD


class TriggerSearch(Method):
    """Recovers what a group's images share and proves it on the model; then sweeps the class."""

    name = "trigger"
    title = "Trigger search and second sweep"
    doc = (
        "Compares each candidate group, pixel by pixel, with images that show the same: a patch "
        "fixes pixels, a blend narrows and moves them, noise moves them. The change is stamped on "
        "other images; if the model then says the label, and neither shuffled pixels nor a probe "
        "that has forgotten the group do, the class holds poison. A second sweep then scores every "
        "sample of that class by the trigger, by what it shows and by its activations, so that "
        "the rest is caught too. Cannot recover blur, warps, or triggers that differ from image to "
        "image; those classes are swept without it."
    )
    order = 50

    def run(self, study: Study) -> Result:
        """Confirm classes, then sweep each; needs a model that can be asked."""
        score, flagged = nothing(study)
        judged: list[Judged] = study.shares.get("judged", [])
        if not judged:
            raise NotApplicable("no candidate groups were proposed")
        if study.predict is None:
            raise NotApplicable("the model can no longer be asked")
        if len(np.unique(study.labels)) < 2:
            raise NotApplicable("there is a single class, so no label can be led to")
        rng = np.random.default_rng([study.seed, 19])
        rows: list[dict[str, Json]] = []
        figures = []
        for label in sorted({j.candidate.label for j in judged}):
            mine = [j for j in judged if j.candidate.label == label]
            best = best_transplant(study, mine, rng)
            if best is not None and (best.proven or convicts(best.judged, study)):
                _confirm(study, best)
            row: dict[str, Json] = {"class": label, "poisoned": label in study.confirmed}
            if best is not None:
                row |= {
                    "asr": round(best.asr, 4),
                    "control": round(best.control, 4),
                    "strange": round(best.strange, 4),
                    "pixels": int(best.trigger.touched.sum()),
                    "from": best.judged.candidate.source,
                }
            rows.append(row)
        for label, confirmed in study.confirmed.items():
            sweep(study, confirmed)
            flagged[confirmed.members] = True
            score[study.labels == label] = study.shares[f"sweep.{label}"]
            row = next(r for r in rows if r["class"] == label)
            row["samples"] = len(confirmed.members)
            if confirmed.trigger is not None:
                figures.append(_figure(label, confirmed.trigger))
        return Result(
            score,
            flagged,
            "carries the trigger of a poisoned class",
            metrics={"per_class": rows},
            figures=figures,
        )


def best_transplant(
    study: Study, judged: list[Judged], rng: np.random.Generator
) -> Transplant | None:
    """The candidate of one class whose trigger leads its controls most."""
    usable = [j for j in judged if len(j.candidate.members) >= FEWEST_MEMBERS]
    tried = [
        transplant(study, one, rng)
        for one in sorted(usable, key=lambda j: -j.foreign * j.agrees)[:_PER_CLASS]
    ]
    for found in sorted(tried, key=lambda t: -t.asr)[:_GROWN]:
        if found.asr >= WORKS and not found.proven:
            grown = grow(study, found, rng)
            if grown is not None:
                tried.append(transplant(study, grown, rng))
    return max(tried, key=_evidence, default=None)


def _evidence(found: Transplant) -> tuple[bool, bool, float]:
    """Proof first, then a trigger that works, then its lead."""
    return found.proven, found.asr >= WORKS and found.judged.foreign >= FOREIGN, found.lead


def grow(study: Study, found: Transplant, rng: np.random.Generator) -> Judged | None:
    """The group with every sample of its class that carries the same change, judged again.

    Poison left outside teaches our probe the trigger, so that nothing looks foreign.
    """
    candidate = found.judged.candidate
    index = np.flatnonzero(study.labels == candidate.label)
    inside = np.isin(index, candidate.members)
    if inside.all():
        return None
    group, plain = contrast(study, candidate.members, found.judged.called, rng)
    scores = match_all(study, index, group, plain)
    middle = (np.median(scores[inside]) + np.median(scores[~inside])) / 2
    members = index[scores > middle]
    if len(members) < FEWEST_MEMBERS or np.array_equal(members, candidate.members):
        return None
    bigger = Candidate(candidate.label, members, f"{candidate.source}, grown")
    return judge(study, bigger, honest_margin(study))


def transplant(study: Study, judged: Judged, rng: np.random.Generator) -> Transplant:
    """Read the trigger off the group and try it."""
    assert study.predict is not None
    label = judged.candidate.label
    members = judged.candidate.members
    trigger = recover(*contrast(study, members, judged.called, rng))
    images = study.suspects.floats(_like(study, judged, rng))
    if not len(images) or not trigger.touched.any():
        return Transplant(judged, trigger, 0.0, 0.0)
    stamped = trigger.apply(images)

    def share(pixels: NDArray[np.float32]) -> float:
        assert study.predict is not None
        return float((study.predict(pixels).argmax(axis=1) == label).mean())

    asr = share(stamped)
    if asr < WORKS:
        return Transplant(judged, trigger, asr, 0.0)
    strange = share(_without_nature(study, label, images, stamped))
    own = (study.probe().extractor(stamped) @ judged.weights).argmax(axis=1) == label
    control = max(share(images), float(own.mean()))
    if judged.foreign < FOREIGN:
        # Where the content is no evidence, any change of this strength must not do the same. Where
        # it is, this would ask too much: networks that learned one noise answer to other noise.
        control = max(control, share(trigger.shuffled(rng).apply(images)))
    return Transplant(judged, trigger, asr, control, strange)


def _without_nature(
    study: Study, label: int, images: NDArray[np.float32], stamped: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`stamped` less the part of the change that lies in the main directions images vary in."""
    axes = natural_axes(study, label)
    change = (stamped - images).reshape(len(images), -1)
    left = change - (change @ axes.T) @ axes
    result: NDArray[np.float32] = np.clip(images + left.reshape(images.shape), 0, 1)
    return result.astype(np.float32)


def natural_axes(study: Study, label: int) -> NDArray[np.float32]:
    """Orthonormal rows (k, C*H*W): what images of the other labels vary by.

    The principal components with `NATURE` of their pixel variance. The label's own images stay
    out: poison among them would make its trigger look natural.
    """
    kept = study.shares.setdefault("axes", {})
    if label not in kept:
        rng = np.random.default_rng([study.seed, 29])
        others = np.flatnonzero(study.labels != label)
        count = min(len(others), study.suspects.at_once(_AXES))
        some = study.suspects.floats(np.sort(rng.choice(others, count, replace=False)))
        flat = some.reshape(count, -1)
        flat = flat - flat.mean(axis=0)
        kept[label] = principal_axes(flat, NATURE)
    result: NDArray[np.float32] = kept[label]
    return result


def contrast(
    study: Study,
    members: NDArray[np.int64],
    called: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Moments, Moments]:
    """Pixel moments of the group, and of other images mixed so that they show the same classes."""
    most = study.suspects.at_once(_GROUP)
    some = members if len(members) <= most else np.sort(rng.choice(members, most, False))
    outside = np.ones(len(study.labels), bool)
    outside[members] = False
    pool = np.flatnonzero(outside)
    most = study.suspects.at_once(_PLAIN)
    pool = pool if len(pool) <= most else np.sort(rng.choice(pool, most, False))
    classes = int(max(study.labels.max(), called.max())) + 1
    wanted = np.bincount(called, minlength=classes) / len(called)
    there = np.bincount(study.labels[pool], minlength=classes)
    weight = (wanted / np.maximum(there, 1))[study.labels[pool]]
    if weight.sum() <= 0:
        weight = np.ones(len(pool)) / len(pool)
    return (
        weighted_moments(study.suspects.floats(some)),
        weighted_moments(study.suspects.floats(pool), weight * len(pool)),
    )


def _like(study: Study, judged: Judged, rng: np.random.Generator) -> NDArray[np.int64]:
    """Images of other classes, as often as the group's members show each (else of all)."""
    label = judged.candidate.label
    classes = int(max(study.labels.max(), judged.called.max())) + 1
    shares = np.bincount(judged.called, minlength=classes).astype(float)
    shares[label] = 0.0
    others = np.flatnonzero((study.labels != label) & (study.predicted == study.labels))
    if not len(others):
        return others
    there = np.bincount(study.labels[others], minlength=classes)
    weight = (shares / np.maximum(there, 1))[study.labels[others]]
    if shares.sum() < 0.2 * len(judged.called) or (weight > 0).sum() < 20:
        weight = np.ones(len(others))
    count = min(study.suspects.at_once(_ASKED), int((weight > 0).sum()))
    return rng.choice(others, count, replace=False, p=weight / weight.sum())


def _confirm(study: Study, found: Transplant) -> None:
    label = found.judged.candidate.label
    how = (
        f"what {len(found.judged.candidate.members)} of its samples share sends {found.asr:.0%} of "
        f"other images to this class when stamped on them (controls: at most {found.control:.0%})"
    )
    before = study.confirmed.get(label)
    if before is not None:
        how = f"{before.how}; and {how}"
    study.confirmed[label] = Confirmed(
        label, found.judged.candidate.members, how, found.trigger, found.asr
    )


def _figure(label: int, trigger: AffineTrigger) -> Figure:
    picture = np.moveaxis(trigger.picture(), 0, 2)
    factor = max(1, 128 // max(picture.shape[:2]))
    large = np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)
    pixels = np.rint(large * 255).astype(np.uint8)
    return Figure(
        f"trigger-{label}",
        f"Recovered trigger of class {label}, on grey",
        pixels if pixels.shape[2] == 3 else pixels[:, :, 0],
        from_samples=False,
    )
